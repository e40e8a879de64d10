//! Memory that a worker thread and its child have in common: a few pages, as a row of atomic words.
//!
//! Not here: what the words mean (`lanes.rs`). The rule: the memory is there as long as the [`Page`] is, in both
//! processes, whatever the other one does. So its file is made by the host, and sealed: nobody can cut it, and a word
//! that was there once is there for ever. What stands in a word is another matter: the other side may write anything
//! at any time, so each is read once, and checked.
//!
//! Only Linux has such files. Where there is none, calls travel one at a time, through the pipes alone.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Mapped memory, all zero at first.
pub(super) struct Page {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: it is memory of atomics, which any thread may touch, and nothing of it belongs to a thread.
unsafe impl Send for Page {}
// SAFETY: the same.
unsafe impl Sync for Page {}

impl Page {
    /// Makes so many words, and the file to hand over.
    #[cfg(target_os = "linux")]
    pub(super) fn new(words: usize) -> io::Result<(Page, OwnedFd)> {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
        use rustix::process::{Resource, getrlimit};
        let bytes = size_of::<AtomicU64>() * words;
        // The kernel would signal the whole process, and not only refuse.
        if getrlimit(Resource::Fsize).current.is_some_and(|most| most < bytes as u64) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Newer kernels want to be told that it is no program.
        let file = memfd_create(c"calls", flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| memfd_create(c"calls", flags))?;
        ftruncate(&file, bytes as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Page::of(&file, words)?, file))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn new(_: usize) -> io::Result<(Page, OwnedFd)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Maps so many words of a file that [`Page::new`] made.
    #[cfg(target_os = "linux")]
    pub(super) fn of(file: &impl AsFd, words: usize) -> io::Result<Page> {
        use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let bytes = size_of::<AtomicU64>() * words;
        let is_fit = fcntl_get_seals(file)?.contains(SealFlags::SHRINK)
            && u64::try_from(fstat(file)?.st_size).is_ok_and(|size| size >= bytes as u64);
        if !is_fit {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: a new mapping at a place that the kernel chooses touches no memory that anybody has.
        let start = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)?
        };
        NonNull::new(start.cast()).map(|start| Page { start, words }).ok_or(io::ErrorKind::OutOfMemory.into())
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_: &impl AsFd, _: usize) -> io::Result<Page> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: so many words are mapped there, readable and writable, aligned (a mapping begins with a page), until
        // `drop`, which needs the `Page` for itself; the file cannot become shorter. Every pattern of bits is an
        // `AtomicU64`. This process and the other touch the memory through atomics alone.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        // SAFETY: `of` mapped exactly this, and nobody borrows it any more.
        let _ =
            unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), size_of::<AtomicU64>() * self.words) };
    }
}
