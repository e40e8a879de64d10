//! The host's side of what a worker asks of queues, events, semaphores and locks (`sync`): one desk for each worker that
//! was given a handle, with a thread of its own, at the other end of a socket.
//!
//! ```text
//!   worker ── Ask ──▶ │ errand ── serve ──▶ done ───────────────────────────▶ │ ── Answer ──▶ worker
//!                     │             └─ not now ─▶ waiting ── rung, or late ──▶ │
//! ```
//!
//! Nothing waits in this thread but for the worker: an errand that cannot be done stands in the line of its object, and
//! the bell that it leaves there wakes the desk. Not the worker's own thread, which may be waiting for the reply to the very
//! call that asks.
//!
//! Not here: what is asked, and of whom (`sync/served.rs`). The rule: when the worker is gone, its errands are given up,
//! and what it had in hand is given back, before anybody hears that it died.

use std::collections::BTreeMap;
use std::io::{self, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::pipes::ready;
use crate::future::deadline_after;
use crate::outcome::{discard, shielded};
use crate::primitives::statics::AtomicU64;
use crate::primitives::{Mutex, Ordering, look};
use crate::sync::{Answer, Ask, Bell, Errand, Op, Packed, Served, Told};
use crate::wire::connection::Connection;
use crate::wire::frame::{Kind, Source, WireError};
use crate::wire::message;

impl Source for UnixStream {}

/// The desk of one worker.
pub(super) struct Desk {
    counter: Arc<Counter>,
    /// Ours of the two ends of the socket.
    socket: UnixStream,
    /// Says nothing, and ends with the thread.
    closed: Receiver<()>,
}

/// So many threads of a worker may wait at the same time. Each may have put something in.
const MOST: usize = 1024;

/// Objects by their numbers, and how many handles there are of each.
type Objects = BTreeMap<u64, (Arc<dyn Served>, u64)>;

/// What the desk's thread shares with those who come to it from this side.
struct Counter {
    client: u64,
    /// What the worker has handles of, and how many.
    objects: Mutex<Objects>,
    /// Errands that are worth trying again.
    rung: Mutex<Vec<u64>>,
    /// Wakes the thread.
    alarm: PipeWriter,
}

impl Desk {
    /// Opens a desk at that end of a socket, for a worker whose messages have no more bytes than that.
    pub(super) fn open(socket: UnixStream, limit: u64) -> io::Result<Desk> {
        static NEXT: AtomicU64 = AtomicU64::new(crate::sync::HERE + 1);
        let (alarm, bell) = io::pipe()?;
        rustix::io::ioctl_fionbio(&alarm, true)?;
        rustix::io::ioctl_fionbio(&bell, true)?;
        let counter = Arc::new(Counter {
            client: NEXT.fetch_add(1, Ordering::Relaxed),
            objects: Mutex::default(),
            rung: Mutex::default(),
            alarm: bell,
        });
        let (open, closed) = mpsc::channel();
        let connection = Connection::new(BufReader::new(socket.try_clone()?), socket.try_clone()?, limit);
        let clerk = Clerk {
            counter: Arc::clone(&counter),
            connection,
            alarm,
            waiting: BTreeMap::new(),
            has_answered: false,
        };
        std::thread::Builder::new().name("desk".into()).spawn(move || {
            clerk.work();
            drop(open);
        })?;
        Ok(Desk { counter, socket, closed })
    }

    /// The worker is about to be sent a handle of that object.
    pub(super) fn admit(&self, object: &Arc<dyn Served>) {
        self.counter.admit(object);
    }

    /// The worker is gone. Returns when what it had in hand is given back, or after `limit`: an item's own code may keep
    /// the desk busy.
    pub(super) fn close(self, limit: Duration) {
        let _ = self.socket.shutdown(Shutdown::Both);
        let _ = self.closed.recv_timeout(limit);
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Counter {
    fn admit(&self, object: &Arc<dyn Served>) {
        let mut objects = self.objects.lock();
        objects.entry(object.id()).or_insert_with(|| (Arc::clone(object), 0)).1 += 1;
    }

    fn object(&self, id: u64) -> Option<Arc<dyn Served>> {
        self.objects.lock().get(&id).map(|(object, _)| Arc::clone(object))
    }

    /// So many handles of it are gone.
    fn forget(&self, id: u64, count: u64) {
        let mut objects = self.objects.lock();
        let Some((_, has)) = objects.get_mut(&id) else { return };
        *has = has.saturating_sub(count);
        let last = if *has == 0 { objects.remove(&id) } else { None };
        drop(objects);
        if let Some((object, _)) = last {
            shielded(|| object.bury(self.client));
            discard(object);
        }
    }
}

/// The bell of one errand.
struct Ring {
    counter: Arc<Counter>,
    errand: u64,
}

impl Bell for Ring {
    fn ring(&self) {
        self.counter.rung.lock().push(self.errand);
        // If it was rung so often that there is no room for more, it was rung.
        let _ = (&self.counter.alarm).write(&[1]);
    }
}

/// The desk's thread.
struct Clerk {
    counter: Arc<Counter>,
    connection: Connection<BufReader<UnixStream>, UnixStream>,
    alarm: PipeReader,
    /// Errands that stand in line.
    waiting: BTreeMap<u64, (Arc<dyn Served>, Errand)>,
    /// A question was answered since it was looked for the next one.
    has_answered: bool,
}

impl Clerk {
    fn work(mut self) {
        while self.turn().is_ok() {}
        // It says no more: should it live, it must not wait for answers for ever.
        let _ = self.connection.writer().shutdown(Shutdown::Both);
        for (object, errand) in std::mem::take(&mut self.waiting).into_values() {
            errand.place.into_iter().for_each(|place| object.give_up(place));
            discard((object, errand));
        }
        let objects = std::mem::take(&mut *self.counter.objects.lock());
        for (object, _) in objects.into_values() {
            shielded(|| object.bury(self.counter.client));
            discard(object);
        }
    }

    /// Waits for something to do, and does it. An error is the end.
    fn turn(&mut self) -> Result<(), WireError> {
        if self.connection.reader().buffer().is_empty() {
            let deadline = self.waiting.values().filter_map(|(_, errand)| errand.deadline).min();
            let mut fds = [
                PollFd::new(self.connection.reader().get_ref(), PollFlags::IN),
                PollFd::new(&self.alarm, PollFlags::IN),
            ];
            // The next question often comes as soon as the last one was answered.
            let now = Instant::now();
            let is_there = std::mem::take(&mut self.has_answered)
                && look::give_way(|| ready(&mut fds.clone(), Some(now)).unwrap_or(true));
            ready(&mut fds, if is_there { Some(now) } else { deadline })?;
            let [has_news, is_rung] = fds.map(|fd| !fd.revents().is_empty());
            if is_rung {
                let _ = self.alarm.read(&mut [0; 64]);
            }
            self.try_again()?;
            if !has_news {
                return Ok(());
            }
        }
        match self.connection.receive()? {
            Some((Kind::Ask, number)) => self.take(number),
            Some((kind, _)) => Err(WireError::Unexpected { kind, wanted: "a question" }),
            None => Err(WireError::Closed),
        }
    }

    /// Does those errands that are worth it, and ends those whose time is over.
    fn try_again(&mut self) -> Result<(), WireError> {
        let mut numbers = std::mem::take(&mut *self.counter.rung.lock());
        let now = Instant::now();
        let is_late = |errand: &Errand| errand.deadline.is_some_and(|deadline| now >= deadline);
        numbers
            .extend(self.waiting.iter().filter(|(_, (_, errand))| is_late(errand)).map(|(number, _)| number));
        for number in numbers {
            // It may have been rung for and be late.
            if let Some((object, errand)) = self.waiting.remove(&number) {
                self.serve(number, object, errand)?;
            }
        }
        Ok(())
    }

    /// Takes a question.
    fn take(&mut self, number: u64) -> Result<(), WireError> {
        let (ask, item) = message::decode_with_rest::<Ask>(Kind::Ask, self.connection.payload())?;
        let object = self.counter.object(ask.object);
        let handles: Option<Vec<_>> = ask.handles.iter().map(|id| self.counter.object(*id)).collect();
        let item = if item.is_empty() { Vec::new() } else { item.to_vec() };
        self.connection.clear();
        // What is only said does not wait, and no two questions that wait have the same number.
        let is_said = matches!(ask.op, Op::Done | Op::Release(_) | Op::Forget(_));
        if (number == 0) != is_said || self.waiting.contains_key(&number) {
            let reason = format!("{:?} with the number {number}", ask.op);
            return Err(WireError::Malformed { kind: Kind::Ask, reason });
        }
        if let Op::Forget(count) = ask.op {
            self.counter.forget(ask.object, count);
            return Ok(());
        }
        if ask.op == Op::Hear {
            return self.answer(number, Told::Done.into());
        }
        let (Some(object), Some(handles)) = (object, handles) else {
            let reason = "this worker has no handle of that object of its host".into();
            return self.answer(number, Told::Failed(reason).into());
        };
        let errand = Errand {
            client: self.counter.client,
            consumer: ask.consumer,
            op: ask.op,
            deadline: ask.patience.and_then(deadline_after),
            item: Packed { bytes: Arc::new(item), handles },
            place: None,
        };
        self.serve(number, object, errand)
    }

    /// Does an errand, or leaves it in line.
    fn serve(&mut self, number: u64, object: Arc<dyn Served>, mut errand: Errand) -> Result<(), WireError> {
        let bell: Arc<dyn Bell> = Arc::new(Ring { counter: Arc::clone(&self.counter), errand: number });
        let mut answer = None;
        shielded(|| answer = object.serve(&mut errand, &bell));
        let answer = match (answer, errand.place) {
            (Some(answer), _) => answer,
            (None, Some(place)) if errand.is_late() => {
                object.give_up(place);
                Told::Late.into()
            }
            (None, Some(place)) if self.waiting.len() >= MOST => {
                object.give_up(place);
                let reason = format!("more than {MOST} threads of a worker wait");
                return Err(WireError::Malformed { kind: Kind::Ask, reason });
            }
            (None, Some(_)) => {
                self.waiting.insert(number, (object, errand));
                return Ok(());
            }
            (None, None) => Told::Failed("an item panicked".into()).into(),
        };
        discard((object, errand));
        self.answer(number, answer)
    }

    fn answer(&mut self, number: u64, answer: Answer) -> Result<(), WireError> {
        // What was only said is not answered.
        if number == 0 {
            return Ok(());
        }
        self.has_answered = true;
        let Answer { told, item } = answer;
        item.handles.iter().for_each(|object| self.counter.admit(object));
        let frame = message::encode_with_rest(Kind::Answer, number, &told, item.bytes.len());
        match self.connection.send_pieces([&frame, item.bytes.as_slice(), &[]]) {
            Err(WireError::TooLong { length, limit }) => {
                let reason = super::terms::too_long("the item has", length, limit);
                let told = Told::Failed(reason);
                self.connection.send(&message::encode_with_rest(Kind::Answer, number, &told, 0))
            }
            sent => sent,
        }
    }
}
