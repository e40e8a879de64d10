//! The host's ends of a worker's two pipes, the end of the worker itself, and how wide a pipe is.
//!
//! Not here: what is said over them (`wire`). The rule: no read and no write outlives the worker.
//! The end of the pipe alone is not enough: whatever a task forks may keep the other end open.

use std::io::{self, IoSlice, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::future::deadline_after;
use crate::wire::frame::Source;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// The end of the process, to be waited for. A process outlives its pipes for a moment; a fork of
/// it may keep them open for ever.
#[derive(Clone)]
pub(super) struct Exit {
    pub(super) pid: u32,
    /// A descriptor that is readable when the process has ended, where there is such a thing.
    fd: Option<Arc<OwnedFd>>,
}

impl Exit {
    #[cfg(target_os = "linux")]
    pub(super) fn of(pid: u32) -> Self {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let fd = Pid::from_raw(pid as i32).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Exit { pid, fd: fd.map(Arc::new) }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(pid: u32) -> Self {
        Exit { pid, fd: None }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(|fd| fd.as_fd())
    }

    /// Waits until the process has ended; false after `limit`. Does not reap it.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        if let Some(fd) = self.fd() {
            return ready(&mut [PollFd::new(&fd, PollFlags::IN)], Some(deadline)).unwrap_or(false);
        }
        // No descriptor to poll (an old kernel, another system): look now and then.
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let pid = Pid::from_raw(self.pid as i32);
        while Instant::now() < deadline {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match pid.map(|pid| waitid(WaitId::Pid(pid), look)) {
                Some(Ok(None)) => std::thread::sleep(Duration::from_millis(1)),
                _ => return true,
            }
        }
        false
    }
}

/// The pipe of replies. It is at its end when the worker has closed it or has died.
pub(super) struct Incoming {
    pipe: Arc<PipeReader>,
    exit: Exit,
    /// When reading gives up.
    pub(super) deadline: Option<Instant>,
}

impl Incoming {
    /// Over a pipe whose end here is not blocking.
    pub(super) fn new(pipe: PipeReader, exit: Exit) -> Self {
        Incoming { pipe: Arc::new(pipe), exit, deadline: None }
    }

    /// To wait for it while others read.
    pub(super) fn news(&self) -> News {
        News { pipe: Arc::clone(&self.pipe), exit: self.exit.clone() }
    }

    /// What there is to wait for: the pipe, then the end of the worker.
    fn fds(&self) -> [PollFd<'_>; 2] {
        fds(&self.pipe, &self.exit)
    }

    /// Waits until there is anything to read, bytes or the end: false after the deadline.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        ready(&mut self.fds(), deadline)
    }

    /// Is there anything to read: bytes, or the end?
    pub(super) fn has_news(&self) -> bool {
        !matches!(self.wait(Some(Instant::now())), Ok(false))
    }

    /// Reads as soon as there is something.
    fn when_ready(
        &self,
        mut read: impl FnMut(&PipeReader) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match read(&self.pipe) {
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                read => return Ok(read?),
            }
            let mut fds = self.fds();
            if !ready(&mut fds, self.deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // What the worker wrote before it died is still good.
            if fds[0].revents().is_empty() && !ready(&mut fds[..1], Some(Instant::now()))? {
                return Ok(0);
            }
        }
    }
}

fn fds<'f>(pipe: &'f PipeReader, exit: &'f Exit) -> [PollFd<'f>; 2] {
    let exit = exit.fd().unwrap_or(pipe.as_fd());
    [pipe.as_fd(), exit].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
}

/// The pipe of replies and the end of the worker, to be waited for together with something else.
pub(super) struct News {
    pipe: Arc<PipeReader>,
    exit: Exit,
}

impl News {
    /// Waits until there is anything to read, or until `alarm` is readable: false after the deadline.
    pub(super) fn wait(&self, alarm: BorrowedFd<'_>, deadline: Option<Instant>) -> bool {
        let [pipe, exit] = fds(&self.pipe, &self.exit);
        let mut fds = [PollFd::from_borrowed_fd(alarm, PollFlags::IN), pipe, exit];
        ready(&mut fds, deadline).unwrap_or(true)
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.when_ready(|pipe| rustix::io::read(pipe, &mut *buffer))
    }
}

impl Source for Incoming {
    fn read_more(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        self.when_ready(|pipe| rustix::io::read(pipe, spare_capacity(bytes)))
    }
}

/// The pipe of calls. Writing ends when the worker does, even if a fork of it keeps the pipe open
/// and full.
pub(super) struct Outgoing {
    pipe: PipeWriter,
    width: Width,
    exit: Exit,
    /// How long the worker may take nothing out of a full pipe.
    pub(super) patience: Option<Duration>,
}

impl Outgoing {
    /// Over a pipe whose end here is not blocking.
    pub(super) fn new(pipe: PipeWriter, exit: Exit) -> Self {
        Outgoing { pipe, width: Width::default(), exit, patience: None }
    }

    /// Has the worker taken all that was written out of the pipe?
    pub(super) fn is_empty(&self) -> bool {
        rustix::io::ioctl_fionread(&self.pipe).is_ok_and(|unread| unread == 0)
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.width.suit(&self.pipe, pieces);
        loop {
            match rustix::io::writev(&self.pipe, pieces) {
                Err(Errno::AGAIN) => {
                    let exit = self.exit.fd().unwrap_or(self.pipe.as_fd());
                    let mut fds =
                        [PollFd::new(&self.pipe, PollFlags::OUT), PollFd::new(&exit, PollFlags::IN)];
                    if !ready(&mut fds, self.patience.and_then(deadline_after))? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    if fds[1].revents().contains(PollFlags::IN) {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                }
                Err(Errno::INTR) => {}
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The worker's end of the pipe of calls.
pub(super) struct Calls(pub(super) &'static PipeReader);

impl Read for Calls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Source for Calls {
    fn read_more(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, spare_capacity(bytes))?)
    }
}

/// The worker's end of the pipe of replies.
pub(super) struct Replies {
    pipe: &'static PipeWriter,
    width: Width,
}

impl Replies {
    pub(super) fn new(pipe: &'static PipeWriter) -> Self {
        Replies { pipe, width: Width::default() }
    }
}

impl Write for Replies {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.width.suit(self.pipe, pieces);
        self.pipe.write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How much a pipe holds: as much as it did when it was made, until a long message is to go through it.
/// Then as much as a user may ask for, which saves both sides most of their waiting for one another. An empty
/// pipe takes no memory, however wide it is.
#[derive(Default)]
struct Width {
    /// It was widened, or cannot be.
    is_settled: bool,
}

impl Width {
    /// What a pipe holds when it is made, on Linux.
    const NARROW: usize = 64 << 10;

    fn suit(&mut self, pipe: &PipeWriter, pieces: &[IoSlice<'_>]) {
        if !self.is_settled && pieces.iter().map(|piece| piece.len()).sum::<usize>() > Width::NARROW {
            self.is_settled = true;
            // Where a user has many wide pipes it may be refused, and goes on as it is.
            #[cfg(target_os = "linux")]
            let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
            #[cfg(not(target_os = "linux"))]
            let _ = pipe;
        }
    }
}

/// Makes reading return when a pipe is empty, or writing when it is full. Our end alone: the worker's stays as it is.
pub(super) fn prepare(pipe: &impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(pipe, true)?)
}

/// Polls until a descriptor is ready, or until the deadline: then false.
pub(super) fn ready(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| rustix::event::Timespec::try_from(left).ok());
        match poll(fds, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
