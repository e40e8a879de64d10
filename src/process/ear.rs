//! What calls log in a worker process (feature `tracing`), on its way to the host: a socket of its own for each worker whose
//! host listens. In the worker, a mouth that writes; in the host, an ear, with a thread of its own.
//!
//! ```text
//!   worker: a thread that logs ── mouth ═ frames of events ═▶ │ ear ── read ──▶ told again, under the span of the call
//!           count of events ──────────── page ──────────────▶ │      by its thread, or by who has a reply in hand
//! ```
//!
//! What a call has logged is told before its end is. It was written before the reply, so whoever hears the reply looks
//! whether there is any that was not told so far (the page has the count), and has all told that is in the socket by then.
//! More than one may want to: they take turns.
//!
//! A socket holds some hundred KiB. A call that logs faster than the host's subscriber takes it waits for that, as it would if
//! it ran there.
//!
//! Not here: what an event is, and whose (`spans`). The rule: nothing that a worker says here ends its calls or its life. What
//! cannot be read is dropped; after something that is no frame of an event nothing more is read.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::host;
use super::lanes::Lanes;
use super::pipes::ready;
use super::slot::Slot;
use crate::outcome::shielded;
use crate::primitives::statics::AtomicU64;
use crate::primitives::{Condvar, Mutex, MutexGuard, Ordering};
use crate::spans::{self, Home, LONGEST};
use crate::wire::frame::{self, HEADER, Kind};

/// Who listens to what the workers of a pool log: the subscriber of the thread that built it, for what belongs to no call.
pub(super) struct Listener(Arc<Home>);

impl Listener {
    pub(super) fn of_this_thread() -> Self {
        Listener(Arc::new(Home::of_this_thread()))
    }
}

/// That of one worker, if its host listens.
#[derive(Default)]
pub(super) struct Ear(Option<Arc<Line>>);

struct Line {
    socket: UnixStream,
    worker: String,
    pid: u32,
    home: Arc<Home>,
    /// Has the calls that the worker has in hand.
    slot: Arc<Slot>,
    state: Mutex<State>,
    /// Somebody has told what he had read.
    news: Condvar,
    /// Events that were read, as the count in the page has them.
    heard: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The beginning of a frame.
    rest: Vec<u8>,
    /// Bytes that were ever read.
    read: u64,
    /// Of these, those of which all was told that there is to tell.
    told: u64,
    /// Somebody is telling.
    is_busy: bool,
    is_over: bool,
}

/// Bytes that are read at a time.
const PIECE: usize = 32 << 10;

impl Ear {
    /// For a worker that has just been started; and what that is to be handed. Without a thread, or a socket, it is deaf.
    pub(super) fn open(
        listener: &Listener,
        worker: &str,
        pid: u32,
        slot: &Arc<Slot>,
    ) -> (Self, Option<OwnedFd>) {
        let Some(wanted) = spans::wanted() else { return (Ear::default(), None) };
        let open = || {
            let (ours, theirs) = UnixStream::pair()?;
            // What is wanted is there before the worker is.
            (&ours).write_all(&[wanted])?;
            ours.set_nonblocking(true)?;
            let line = Arc::new(Line {
                socket: ours,
                worker: worker.into(),
                pid,
                home: Arc::clone(&listener.0),
                slot: Arc::clone(slot),
                state: Mutex::default(),
                news: Condvar::new(),
                heard: AtomicU64::new(0),
            });
            let its = Arc::clone(&line);
            std::thread::Builder::new().name("ear".into()).spawn(move || its.listen())?;
            io::Result::Ok((line, theirs))
        };
        open()
            .map_or_else(|_| (Ear::default(), None), |(line, theirs)| (Ear(Some(line)), Some(theirs.into())))
    }

    /// Has the worker said so many, and they were not all told?
    pub(super) fn is_behind(&self, said: u64) -> bool {
        self.0.as_ref().is_some_and(|line| line.heard.load(Ordering::Acquire) != said)
    }

    /// Returns when all is told that the worker has said so far.
    pub(super) fn catch_up(&self) {
        if let Some(line) = &self.0 {
            line.catch_up();
        }
    }
}

/// The worker is gone, and all that it has said was told.
impl Drop for Ear {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            let _ = line.socket.shutdown(Shutdown::Both);
        }
    }
}

impl Line {
    /// The ear's thread.
    fn listen(&self) {
        while ready(&mut [PollFd::new(&self.socket, PollFlags::IN)], None).is_ok() {
            let mut state = self.my_turn(self.state.lock());
            if !state.is_over {
                state = self.take(state).0;
            }
            if state.is_over {
                break;
            }
        }
        // Should it say more, it must not wait for somebody to read it.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.state.lock().is_over = true;
        self.news.notify_all();
    }

    fn catch_up(&self) {
        let mut state = self.state.lock();
        let there = rustix::io::ioctl_fionread(&self.socket).unwrap_or(0);
        let until = state.read.saturating_add(there);
        let mut is_more = true;
        while state.told < until && !state.is_over && is_more {
            if state.is_busy {
                self.news.wait(&mut state);
            } else {
                (state, is_more) = self.take(state);
            }
        }
    }

    fn my_turn<'s>(&self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        while state.is_busy {
            self.news.wait(&mut state);
        }
        state
    }

    /// Reads a piece, and tells what is in it, without the lock. False: there was nothing to read.
    fn take<'s>(&'s self, mut state: MutexGuard<'s, State>) -> (MutexGuard<'s, State>, bool) {
        let mut bytes = std::mem::take(&mut state.rest);
        bytes.reserve(PIECE);
        let read = loop {
            match rustix::io::read(&self.socket, spare_capacity(&mut bytes)) {
                Err(Errno::INTR) => {}
                read => break read,
            }
        };
        let count = match read {
            Err(Errno::AGAIN) => None,
            Ok(0) | Err(_) => {
                state.is_over = true;
                None
            }
            Ok(count) => Some(count),
        };
        let Some(count) = count else {
            state.rest = bytes;
            return (state, false);
        };
        state.read += count as u64;
        state.is_busy = true;
        drop(state);
        let made_sense = self.tell(&mut bytes);
        let mut state = self.state.lock();
        state.rest = bytes;
        state.told = state.read;
        state.is_busy = false;
        state.is_over |= !made_sense;
        self.news.notify_all();
        (state, true)
    }

    /// Tells all events that are there as a whole, and leaves the beginning of the next one. False: it is none.
    fn tell(&self, bytes: &mut Vec<u8>) -> bool {
        let mut at = 0;
        let made_sense = loop {
            let Some(header) = bytes[at..].first_chunk::<HEADER>() else { break true };
            let Ok((length, Kind::Event)) = frame::announced(header, LONGEST) else { break false };
            let end = at + HEADER + length as usize;
            let Some(whole) = bytes.get(at..end) else { break true };
            let Ok((_, call)) = frame::parse(whole) else { break false };
            let task = self.slot.window.lock().started(call);
            let worker = spans::Worker { name: &self.worker, pid: self.pid, home: &self.home };
            shielded(|| spans::tell_again(&whole[HEADER..], &worker, task));
            self.heard.fetch_add(1, Ordering::Release);
            at = end;
        };
        bytes.drain(..at);
        made_sense
    }
}

/// In a worker: tells the host at the other end of that socket what is logged from now on, if it wants to hear of it.
pub(super) fn speak(socket: OwnedFd, lanes: Option<Arc<Lanes>>) {
    let mut socket = UnixStream::from(socket);
    let mut wanted = [0];
    if socket.read_exact(&mut wanted).is_err() {
        return;
    }
    // For one who writes a frame as a whole. Absent when the host does not listen any more.
    let mouth = Mutex::new(Some(socket));
    spans::install(wanted[0], move |record| {
        let frame = frame::whole(Kind::Event, host::running(), record);
        let mut mouth = mouth.lock();
        if mouth.as_mut().is_some_and(|socket| socket.write_all(&frame).is_err()) {
            *mouth = None;
        }
        if mouth.is_some() {
            lanes.iter().for_each(|lanes| lanes.remarks().count_event());
        }
    });
}
