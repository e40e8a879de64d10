//! How much memory a worker process has, as the kernel tells it.
//!
//! Not here: what follows from it (`context.rs`). Only Linux tells it of another process without
//! unsafe code; elsewhere a pool with such a limit cannot be built. It tells it in `/proc`: where
//! that is not mounted, no worker of such a pool can be started.

use std::io;

/// Tells the resident memory of one process: the pages that are in RAM, also those that it
/// shares with others.
#[cfg(target_os = "linux")]
pub(super) struct Resident(std::fs::File);

/// What `memory_limit` counts of this process, in bytes. `None`: the kernel does not tell.
#[cfg(target_os = "linux")]
pub(super) fn allocated() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(target_os = "linux")]
impl Resident {
    pub(super) const IS_KNOWN: bool = true;

    /// Of a child that has not been waited for: the number is still its own.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        // It stays open: to open it again costs more than to read it.
        match std::fs::File::open(format!("/proc/{pid}/statm")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::Error::new(
                error.kind(),
                format!("`max_memory_per_child` needs /proc, which is not mounted: {error}"),
            )),
            opened => opened.map(Resident),
        }
    }

    pub(super) fn bytes(&self) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let mut text = [0; 128];
        let length = self.0.read_at(&mut text, 0)?;
        // Pages: of the address space, resident, shared, …
        let resident = text[..length].split(|byte| *byte == b' ').nth(1);
        let pages = resident.and_then(|digits| str::from_utf8(digits).ok()?.parse::<usize>().ok());
        let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
        Ok(pages.saturating_mul(rustix::param::page_size()))
    }
}

/// There is none.
#[cfg(not(target_os = "linux"))]
pub(super) enum Resident {}

#[cfg(not(target_os = "linux"))]
impl Resident {
    pub(super) const IS_KNOWN: bool = false;

    pub(super) fn of(_pid: u32) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn bytes(&self) -> io::Result<usize> {
        match *self {}
    }
}
