//! Where the system has no memory that can be sealed. All that would travel in it travels as bytes.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

/// There is none.
#[derive(Debug)]
pub(crate) struct Sealed(Infallible);

/// There is none.
pub(crate) struct Blank(Infallible);

/// There is none.
pub(crate) struct Mapping(Infallible);

impl Sealed {
    pub(crate) fn copy_of(_: &[u8]) -> io::Result<Arc<Sealed>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(unix)]
    pub(crate) fn received(_: std::os::fd::OwnedFd, _: u64) -> Result<Arc<Sealed>, String> {
        Err("this system has no shared memory that can be sealed".into())
    }

    pub(crate) fn len(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn is_open(&self) -> bool {
        match self.0 {}
    }

    #[cfg(unix)]
    pub(crate) fn file(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match self.0 {}
    }

    pub(crate) fn map(&self) -> Result<Arc<Mapping>, String> {
        match self.0 {}
    }
}

impl Blank {
    pub(crate) fn new(_: usize) -> io::Result<Blank> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self.0 {}
    }

    pub(crate) fn seal(self) -> Result<Arc<Sealed>, Vec<u8>> {
        match self.0 {}
    }
}

impl Mapping {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self.0 {}
    }
}
