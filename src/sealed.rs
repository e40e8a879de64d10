//! Memory without a name that processes hand to each other, and that nobody can change any more: a file of the kernel's
//! (memfd), written once, then sealed.
//!
//! It is there as long as anybody has a descriptor of it or has it mapped, in whichever process, and gone after that,
//! however that process ended. It is on no disk, and nobody else can open it.
//!
//! Not here: whose values lie in it (`shared.rs`), and how it crosses a wall (`process/post.rs`). The rule: **what is mapped
//! cannot change.** Before it is mapped, the kernel is asked for its seals, also of memory that we were sent: it can become
//! no shorter (to read what is gone is a signal that ends the process), and nobody can write to it (a `&[u8]` that changes
//! is undefined behaviour).
//!
//! Descriptors are few, on many systems a thousand a process, and most of them are the program's. So no more than a
//! quarter of them is held here; who gets none does without such memory.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use crate::primitives::statics::AtomicUsize;
use crate::primitives::{OnceLock, Ordering};

/// `statfs(2)`: the kind of file system in which such files are.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// Such memory. It is never empty.
pub(crate) struct Sealed {
    /// Absent if there were too many.
    file: Option<Held>,
    length: usize,
    /// Made when somebody reads it here.
    map: OnceLock<Arc<Mapping>>,
}

impl Sealed {
    /// Copies those bytes into such memory.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Arc<Sealed>> {
        let file = create(bytes.len())?;
        let mut left = bytes;
        // Faster than to map it: no page is cleared first, and none has to be faulted in.
        while !left.is_empty() {
            match rustix::io::write(&file.0, left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => left = &left[written..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        seal(&file)?;
        Ok(Arc::new(Sealed { file: Some(file), length: bytes.len(), map: OnceLock::new() }))
    }

    /// Memory that came from another process, which is not believed. `most`: bytes that it may have.
    pub(crate) fn received(file: OwnedFd, most: u64) -> Result<Arc<Sealed>, String> {
        // Others have seals too: of huge pages the system may find none when they are read, and that is a signal.
        let is_memory = fstatfs(&file).is_ok_and(|system| system.f_type == TMPFS_MAGIC);
        let seals = fcntl_get_seals(&file).ok().filter(|_| is_memory);
        let seals = seals.ok_or("what came with it is not shared memory")?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::WRITE) {
            return Err("the memory that came with it is not sealed".into());
        }
        let length = fstat(&file).ok().and_then(|stat| u64::try_from(stat.st_size).ok()).unwrap_or_default();
        if length > most {
            return Err(format!(
                "it has {length} bytes of memory, the limit is {most} (`max_message_bytes`)"
            ));
        }
        let length = usize::try_from(length).ok().filter(|length| *length > 0);
        let length = length.ok_or("the memory that came with it is empty")?;
        let sealed = match Held::new(file) {
            Ok(file) => Sealed { file: Some(file), length, map: OnceLock::new() },
            // What is mapped stays without it.
            Err(file) => {
                let mapping = Mapping::of(&file, length).map_err(|error| not_mapped(length, &error))?;
                let map = OnceLock::new();
                map.get_or_init(|| Arc::new(mapping));
                Sealed { file: None, length, map }
            }
        };
        Ok(Arc::new(sealed))
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Can it be handed to another process?
    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// What is handed to another process; absent where too many are held.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(|held| held.0.as_fd())
    }

    /// Its bytes.
    pub(crate) fn map(&self) -> Result<Arc<Mapping>, String> {
        if let Some(map) = self.map.get() {
            return Ok(Arc::clone(map));
        }
        let file = self.file().ok_or("its memory is closed")?;
        let map = Mapping::of(&file, self.length).map_err(|error| not_mapped(self.length, &error))?;
        Ok(Arc::clone(self.map.get_or_init(|| Arc::new(map))))
    }
}

fn not_mapped(length: usize, error: &io::Error) -> String {
    format!("its {length} bytes of shared memory could not be mapped: {error}")
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Memory that is to be written, and then sealed.
pub(crate) struct Blank {
    file: Held,
    region: Region,
}

impl Blank {
    /// So many bytes, all zero; at least one.
    pub(crate) fn new(length: usize) -> io::Result<Blank> {
        let file = create(length)?;
        ftruncate(&file.0, length as u64)?;
        // Not populated: then each page is cleared long before it is written, and has left the cache by then.
        let region = Region::new(&file.0, length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?;
        // A fork would have it mapped too, and then it cannot be sealed.
        // SAFETY: what a fork gets changes nothing of the memory of this process.
        let _ = unsafe { madvise(region.start.as_ptr().cast(), length, Advice::LinuxDontFork) };
        Ok(Blank { file, region })
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes are mapped there, readable and writable, until `drop`. Nobody else has the file or the
        // mapping, so nobody else reads or writes them while this borrow of all of it lasts.
        unsafe { std::slice::from_raw_parts_mut(self.region.start.as_ptr(), self.region.length) }
    }

    /// Nobody can write to it from here on. `Err`: the system would not seal it, and these are its bytes.
    pub(crate) fn seal(self) -> Result<Arc<Sealed>, Vec<u8>> {
        let Blank { file, region } = self;
        let length = region.length;
        // What is mapped for writing cannot be sealed.
        drop(region);
        match seal(&file).and_then(|()| Mapping::of(&file.0, length)) {
            Ok(mapping) => {
                let map = OnceLock::new();
                map.get_or_init(|| Arc::new(mapping));
                Ok(Arc::new(Sealed { file: Some(file), length, map }))
            }
            Err(_) => Err(read_back(&file, length)),
        }
    }
}

/// The bytes of a file that was just written: they are in memory.
fn read_back(file: &Held, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut read = 0;
    while read < length {
        match rustix::io::pread(&file.0, &mut bytes[read..], read as u64) {
            Err(Errno::INTR) => {}
            Ok(more) if more > 0 => read += more,
            // The kernel has lost memory. That is for us what it is for the allocator.
            _ => std::alloc::handle_alloc_error(std::alloc::Layout::for_value(&bytes[..])),
        }
    }
    bytes
}

/// Sealed memory, mapped to be read.
pub(crate) struct Mapping(Region);

impl Mapping {
    /// Of a file that is sealed, and has so many bytes at least.
    fn of(file: &impl AsFd, length: usize) -> io::Result<Mapping> {
        let seals = fcntl_get_seals(file)?;
        if !seals.contains(SealFlags::SHRINK | SealFlags::WRITE) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // "Private" is the memory itself all the same, as long as nobody writes to it. Many kernels refuse to share what is
        // sealed.
        Ok(Mapping(Region::new(file, length, ProtFlags::READ, MapFlags::PRIVATE)?))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped there, readable, until `drop`. The file is sealed, which `of` has asked the
        // kernel: it can neither become shorter nor be written to, by nobody, and seals are for ever.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length) }
    }
}

/// Mapped memory.
struct Region {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is memory, and nothing of it belongs to a thread. Who may write to it has it for himself (`Blank`).
unsafe impl Send for Region {}
// SAFETY: the same.
unsafe impl Sync for Region {}

impl Region {
    fn new(file: &impl AsFd, length: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Region> {
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory that anybody has.
        let start = unsafe { mmap(std::ptr::null_mut(), length, protection, flags, file, 0)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Region { start, length })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this, and nobody borrows it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// One of the descriptors that we allow ourselves.
struct Held(OwnedFd);

/// How many there are.
static HELD: AtomicUsize = AtomicUsize::new(0);

impl Held {
    /// `Err`: there are too many.
    fn new(file: OwnedFd) -> Result<Held, OwnedFd> {
        let most = getrlimit(Resource::Nofile).current.map_or(u64::MAX, |limit| limit / 4);
        if HELD.fetch_add(1, Ordering::Relaxed) as u64 >= most {
            HELD.fetch_sub(1, Ordering::Relaxed);
            return Err(file);
        }
        Ok(Held(file))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A file for so many bytes, which are not there yet.
fn create(length: usize) -> io::Result<Held> {
    // The kernel would signal the whole process, and not only refuse.
    let most = getrlimit(Resource::Fsize).current;
    if length == 0 || most.is_some_and(|most| most < length as u64) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Newer kernels want to be told that it is no program.
    let file = memfd_create(c"shared", flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| memfd_create(c"shared", flags))?;
    Held::new(file).map_err(|_| io::Error::from(Errno::MFILE))
}

fn seal(file: &Held) -> io::Result<()> {
    let all = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    Ok(fcntl_add_seals(&file.0, all)?)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    fn file_of(sealed: &Sealed) -> OwnedFd {
        sealed.file().expect("there are enough").try_clone_to_owned().unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_cannot_be_changed() {
        let bytes: Vec<u8> = (0..3 * PAGE + 5).map(|n| (n % 251) as u8).collect();
        let copied = Sealed::copy_of(&bytes).unwrap();
        let mut blank = Blank::new(bytes.len()).unwrap();
        assert!(blank.bytes_mut().iter().all(|byte| *byte == 0));
        blank.bytes_mut().copy_from_slice(&bytes);
        let written = blank.seal().unwrap();
        for sealed in [copied, written] {
            assert!(sealed.map().unwrap().bytes() == bytes);
            let file = file_of(&sealed);
            assert!(rustix::io::pwrite(&file, b"no", 0).is_err());
            assert!(ftruncate(&file, 1).is_err() && ftruncate(&file, 1 << 20).is_err());
            assert!(
                Region::new(&file, PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED).is_err(),
                "nobody can map it to write to it"
            );
            let again = Sealed::received(file, bytes.len() as u64).unwrap();
            assert!(again.map().unwrap().bytes() == bytes);
            let too_little = Sealed::received(file_of(&sealed), bytes.len() as u64 - 1);
            assert!(too_little.unwrap_err().contains("max_message_bytes"));
        }
    }

    #[test]
    fn its_bytes_are_there_after_its_file_is_closed() {
        let sealed = Sealed::copy_of(&[7; PAGE]).unwrap();
        let map = sealed.map().unwrap();
        drop(sealed);
        assert!(map.bytes() == [7; PAGE]);
    }

    #[test]
    fn what_cannot_be_sealed_is_read_back() {
        let mut blank = Blank::new(PAGE).unwrap();
        blank.bytes_mut().fill(9);
        let file = blank.file.0.try_clone().unwrap();
        let holder = Region::new(&file, PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED).unwrap();
        assert!(blank.seal().unwrap_err() == [9; PAGE]);
        drop(holder);
    }

    #[test]
    fn there_is_none_of_no_bytes() {
        assert!(Sealed::copy_of(&[]).is_err() && Blank::new(0).is_err());
    }
}
