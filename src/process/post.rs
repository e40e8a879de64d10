//! The post: a pair of sockets over which a worker thread and its child hand each other descriptors. The first are those of
//! their pipes (`child.rs`, `entry.rs`); then, what goes beside a message (`enclosed.rs`).
//!
//! ```text
//!   sender     parcel: kind · tag · how many, and the descriptors ── post ──▶ the socket's buffer
//!              frame, which says that there is something beside it ── page, or pipe ──▶ receiver
//!   receiver   takes the parcel with the tag of that frame, which is there by now
//! ```
//!
//! Not here: what is enclosed, and when. The rule: **a parcel is sent before the frame that tells of it, and taken when that
//! frame is.** So whoever takes one need not wait, and there is one for each such frame, in their order. What the other side
//! sends beyond that stays where it is, in the kernel, until the worker ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::pipes::{Exit, ready};
use crate::enclosed::{Enclosure, MOST, Received};
use crate::future::deadline_after;
use crate::primitives::Mutex;
use crate::sealed::Sealed;

/// One end of it.
pub(super) struct Post {
    socket: UnixStream,
    /// In a worker, the descriptor of the desk that came last, until somebody takes it.
    desk: Option<Mutex<Option<OwnedFd>>>,
}

/// What a parcel holds. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// What is enclosed in the message whose id is the tag.
    Memory = 1,
    /// A socket through which a worker asks for what the host keeps for it (`desk.rs`, `errands.rs`). Goes from the host to the worker alone, before
    /// the parcel of a message that encloses something.
    Desk = 2,
}

/// Kind, tag, how many descriptors.
const HEADER: usize = 1 + 8 + 2;

/// Parcels that are passed over at a time, in search of the one that is wanted. No honest worker has any.
const STRAY: usize = 8;

/// How long it is tried to send descriptors while as many of them are on their way as the system allows a user.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before it is tried again: nothing tells.
const PAUSE: Duration = Duration::from_millis(1);

impl Post {
    /// That of the host.
    pub(super) fn of_host(socket: UnixStream) -> Self {
        Post { socket, desk: None }
    }

    /// That of a worker.
    pub(super) fn of_worker(socket: UnixStream) -> Self {
        Post { socket, desk: Some(Mutex::default()) }
    }

    /// The socket of the desk, if one has come since this was asked last.
    pub(super) fn take_desk(&self) -> Option<OwnedFd> {
        self.desk.as_ref().and_then(|desk| desk.lock().take())
    }

    /// Sends descriptors; waits for room, but not beyond `limit`, nor for a worker that has ended, where that is known.
    pub(super) fn send(
        &self,
        kind: Kind,
        tag: u64,
        descriptors: &[BorrowedFd<'_>],
        exit: Option<&Exit>,
        limit: Option<Duration>,
    ) -> io::Result<()> {
        let deadline = limit.and_then(deadline_after);
        let mut last_try = None;
        loop {
            let error = match self.send_now(kind, tag, descriptors) {
                Err(error) => error,
                sent => return sent,
            };
            let is_full = error.kind() == io::ErrorKind::WouldBlock;
            let deadline = match Errno::from_io_error(&error) {
                _ if is_full => deadline,
                Some(Errno::TOOMANYREFS) => {
                    let last = *last_try.get_or_insert_with(|| Instant::now() + PATIENCE);
                    if Instant::now() >= last {
                        return Err(error);
                    }
                    deadline
                }
                _ => return Err(error),
            };
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // Without a word on what there is to wait for, this looks whether the other end is still there.
            let (room, until) = if is_full {
                (PollFlags::OUT, deadline)
            } else {
                let pause = Instant::now() + PAUSE;
                (PollFlags::empty(), Some(deadline.map_or(pause, |deadline| deadline.min(pause))))
            };
            let end = exit.and_then(Exit::fd).unwrap_or(self.socket.as_fd());
            let news = if exit.and_then(Exit::fd).is_some() { PollFlags::IN } else { PollFlags::empty() };
            let mut fds = [PollFd::new(&self.socket, room), PollFd::from_borrowed_fd(end, news)];
            let in_time = ready(&mut fds, until)?;
            if !fds[1].revents().is_empty() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if is_full && !in_time {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// The same if there is room.
    pub(super) fn send_now(&self, kind: Kind, tag: u64, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut header = [0; HEADER];
        header[0] = kind as u8;
        header[1..9].copy_from_slice(&tag.to_le_bytes());
        let count = u16::try_from(descriptors.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        header[9..].copy_from_slice(&count.to_le_bytes());
        let sent = self.send_bytes(&header, descriptors, SendFlags::DONTWAIT)?;
        // A part of so little is not sent.
        if sent == HEADER { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Sends the first bytes of a conversation, and descriptors with them.
    pub(super) fn hand_over(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let sent = self.send_bytes(bytes, descriptors, SendFlags::empty())?;
        // Less than a socket's buffer, and the first thing in it.
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn send_bytes(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> io::Result<usize> {
        // There the socket itself says so.
        #[cfg(not(target_vendor = "apple"))]
        let flags = flags | SendFlags::NOSIGNAL;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        loop {
            let mut rights = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            match sendmsg(&self.socket, &[io::IoSlice::new(bytes)], &mut rights, flags) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent?),
            }
        }
    }

    /// Receives the first bytes, and the descriptors that came with them. What does not fit is still in the socket.
    pub(super) fn be_handed(&self, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let (received, descriptors) = self.receive_bytes(bytes, RecvFlags::empty())?;
        Ok((received.bytes, descriptors))
    }

    /// The socket, for what is left of a handshake.
    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Receives bytes, and the descriptors that came with them, all closed on exec.
    fn receive_bytes(&self, bytes: &mut [u8], flags: RecvFlags) -> io::Result<(RecvMsg, Vec<OwnedFd>)> {
        #[cfg(not(target_vendor = "apple"))]
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        loop {
            let mut rights = RecvAncillaryBuffer::new(&mut space);
            let received = match recvmsg(&self.socket, &mut [io::IoSliceMut::new(bytes)], &mut rights, flags)
            {
                Err(Errno::INTR) => continue,
                received => received?,
            };
            let mut descriptors = Vec::new();
            for message in rights.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            #[cfg(target_vendor = "apple")]
            for descriptor in &descriptors {
                rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
            }
            return Ok((received, descriptors));
        }
    }

    /// Takes what came beside the message with that id, which says that something did. `most`: bytes of memory, all
    /// together. It does not wait.
    pub(super) fn take(&self, id: u64, most: u64) -> Received {
        Received::new(self.take_parcel(id).and_then(|descriptors| memories(descriptors, most)))
    }

    fn take_parcel(&self, id: u64) -> Result<Vec<OwnedFd>, String> {
        for _ in 0..STRAY {
            let mut header = [0; HEADER];
            let (received, descriptors) = match self.receive_bytes(&mut header, RecvFlags::DONTWAIT) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(format!("what is enclosed in it did not arrive: {error}")),
            };
            let [kind, tag @ .., low, high] = header;
            let is_whole = received.bytes == HEADER;
            if let Some(desk) = self.desk.as_ref().filter(|_| is_whole && kind == Kind::Desk as u8) {
                *desk.lock() = descriptors.into_iter().next();
                continue;
            }
            if !is_whole || kind != Kind::Memory as u8 {
                return Err("what came with it is nothing that can be enclosed".into());
            }
            if u64::from_le_bytes(tag) != id {
                continue;
            }
            let count = u16::from_le_bytes([low, high]);
            if received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() != usize::from(count) {
                return Err(format!(
                    "of the {count} memories that are enclosed in it, {} could be received \
                     (is the limit of open files too low?)",
                    descriptors.len()
                ));
            }
            return Ok(descriptors);
        }
        Err("what is enclosed in it was not sent".into())
    }
}

/// Memory in the place of descriptors.
fn memories(descriptors: Vec<OwnedFd>, most: u64) -> Result<Vec<Arc<Sealed>>, String> {
    let mut left = most;
    let memory = |descriptor| {
        let memory = Sealed::received(descriptor, left)?;
        left -= memory.len() as u64;
        Ok(memory)
    };
    descriptors.into_iter().map(memory).collect()
}

/// The descriptors of all memory among those.
pub(super) fn descriptors(enclosed: &[Enclosure]) -> Vec<BorrowedFd<'_>> {
    enclosed.iter().filter_map(Enclosure::memory).filter_map(|memory| memory.file()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Post, Post) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Post::of_host(ours), Post::of_worker(theirs))
    }

    fn pipe() -> OwnedFd {
        io::pipe().unwrap().0.into()
    }

    #[test]
    fn parcels_come_in_order_and_old_ones_are_passed_over() {
        let (host, worker) = pair();
        for tag in 1..=3 {
            let fds: Vec<OwnedFd> = (0..tag).map(|_| pipe()).collect();
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            host.send_now(Kind::Memory, tag, &fds).unwrap();
        }
        assert_eq!(worker.take_parcel(1).unwrap().len(), 1);
        assert_eq!(worker.take_parcel(3).unwrap().len(), 3);
        assert!(worker.take_parcel(4).unwrap_err().contains("was not sent"));
    }

    #[test]
    fn as_many_as_go_at_once() {
        let (host, worker) = pair();
        let one = pipe();
        host.send_now(Kind::Memory, 7, &vec![one.as_fd(); MOST]).unwrap();
        assert_eq!(worker.take_parcel(7).unwrap().len(), MOST);
        assert!(host.send_now(Kind::Memory, 7, &vec![one.as_fd(); MOST + 1]).is_err());
    }

    #[test]
    fn a_desk_comes_before_a_parcel_and_for_workers_alone() {
        let (host, worker) = pair();
        host.send_now(Kind::Desk, 0, &[pipe().as_fd()]).unwrap();
        host.send_now(Kind::Memory, 1, &[]).unwrap();
        assert!(worker.take_parcel(1).unwrap().is_empty());
        assert!(worker.take_desk().is_some() && worker.take_desk().is_none());
        worker.send_now(Kind::Desk, 0, &[pipe().as_fd()]).unwrap();
        assert!(host.take_parcel(1).unwrap_err().contains("nothing that can be enclosed"));
        assert!(host.take_desk().is_none());
    }

    #[test]
    fn a_full_post_is_waited_for_until_the_limit_and_not_beyond_the_other_end() {
        let (host, worker) = pair();
        let one = pipe();
        let full = (0..1_000_000).any(|n| host.send_now(Kind::Memory, n, &[one.as_fd()]).is_err());
        assert!(full, "a socket without an end");
        let late = host.send(Kind::Memory, 1, &[one.as_fd()], None, Some(Duration::from_millis(1)));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(worker);
        let gone = host.send(Kind::Memory, 1, &[one.as_fd()], None, None);
        assert!(gone.is_err());
    }
}
