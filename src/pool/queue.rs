//! The queue of a pool: tasks in the order they came, and how many workers wait for them.
//!
//! Open → closed (shut down) or broken. The door is the sender itself: while it is there, tasks
//! come in; when it is gone, workers find the queue disconnected once it is empty, and leave.
//! Every push holds the door open while it lasts, so after a close nothing comes behind it.
//!
//! A worker may put a task back, to be run at a later moment (`later.rs`), also when the door is shut:
//! workers leave only when there is none of these either.

use std::time::{Duration, Instant};

use super::later::Later;
use super::room::Room;
use crate::error::Error;
use crate::id::TaskRef;
use crate::sync::channel::{self, Receiver, RecvTimeoutError, Sender};
use crate::sync::{AtomicIsize, Ordering, RwLock};

pub(super) struct Queue<I> {
    door: RwLock<Door<I>>,
    exit: Receiver<Sent<I>>,
    later: Later<I>,
    /// Workers that wait (or are about to) minus tasks that are queued. Negative: tasks wait.
    balance: AtomicIsize,
    /// Absent if the queue has no bound.
    room: Option<Room>,
}

enum Door<I> {
    Open(Sender<Sent<I>>),
    Shut(Refusal),
}

/// What a worker that waits is woken with.
enum Sent<I> {
    Task(I),
    /// Come and look: somebody has to watch the time for the tasks that were put back.
    Nudge,
}

/// Why a task is not let in.
#[derive(Clone)]
pub(super) enum Refusal {
    Closed,
    Broken(Error),
}

impl Refusal {
    pub(super) fn of(self, task: TaskRef) -> Error {
        match self {
            Refusal::Closed => Error::ShutDown { task },
            Refusal::Broken(error) => error,
        }
    }
}

impl<I> Queue<I> {
    pub(super) fn new(bound: Option<usize>) -> Self {
        let (door, exit) = channel::unbounded();
        let room = bound.map(Room::new);
        let (door, balance) = (RwLock::new(Door::Open(door)), AtomicIsize::new(0));
        Queue { door, exit, later: Later::new(), balance, room }
    }

    pub(super) fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    /// Adds a task. If no waiting worker is there to take it, `hire` runs before the door may
    /// close, so that whoever closes it and then counts the workers counts that one too.
    pub(super) fn push<H>(&self, item: I, hire: impl FnOnce() -> H) -> Result<Option<H>, (I, Refusal)> {
        match &*self.door.read() {
            Door::Open(door) => {
                let waiting = self.balance.fetch_sub(1, Ordering::AcqRel);
                // Cannot fail: this queue itself holds a receiver.
                let _ = door.send(Sent::Task(item));
                Ok((waiting <= 0).then(hire))
            }
            Door::Shut(refusal) => Err((item, refusal.clone())),
        }
    }

    /// Counts out one worker that waits, if the others are enough for what is queued. Whoever
    /// pushes afterwards has seen it, and all that the caller wrote before.
    pub(super) fn dismiss(&self) -> bool {
        self.balance
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |balance| (balance > 0).then(|| balance - 1))
            .is_ok()
    }

    /// Are there tasks that no worker waits for? Whoever pushes afterwards has seen what the caller
    /// wrote before.
    pub(super) fn is_short_of_workers(&self) -> bool {
        self.balance.fetch_add(0, Ordering::AcqRel) < 0 || self.later.is_unkept()
    }

    /// Takes back a task that is to run at that moment. For a worker, which will come for a task again
    /// or tell the pool that it cannot.
    fn put_back(&self, item: I, due: Instant) {
        self.later.add(item, due);
        self.find_a_keeper();
    }

    /// If tasks that were put back have no keeper, a worker that waits becomes it. If none waits, the next
    /// that comes does.
    fn find_a_keeper(&self) {
        // A worker that comes to wait after this look sees what is in the list; one that came before is seen here.
        let one_waits = self.balance.fetch_add(0, Ordering::AcqRel) > 0;
        if one_waits
            && self.later.is_unkept()
            && let Door::Open(door) = &*self.door.read()
            && self.dismiss()
        {
            let _ = door.send(Sent::Nudge);
        }
    }

    pub(super) fn close(&self) {
        let mut door = self.door.write();
        if matches!(*door, Door::Open(_)) {
            *door = Door::Shut(Refusal::Closed);
        }
        drop(door);
        self.room.iter().for_each(Room::open);
    }

    /// Also a queue that is closed can break: what is left in it will not be run.
    pub(super) fn close_broken(&self, error: &Error) {
        let mut door = self.door.write();
        if !matches!(*door, Door::Shut(Refusal::Broken(_))) {
            *door = Door::Shut(Refusal::Broken(error.clone()));
        }
        drop(door);
        self.room.iter().for_each(Room::open);
    }

    pub(super) fn why_closed(&self) -> Option<Refusal> {
        match &*self.door.read() {
            Door::Open(_) => None,
            Door::Shut(refusal) => Some(refusal.clone()),
        }
    }

    /// Takes out what is queued right now; of a closed queue, all there will ever be.
    pub(super) fn drain(&self) -> Vec<I> {
        let queued = self.exit.try_iter().filter_map(|sent| match sent {
            Sent::Task(item) => Some(item),
            Sent::Nudge => None,
        });
        queued.chain(self.later.drain()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.exit.len() + self.later.len()
    }
}

/// What a worker gets that waits at the queue.
pub(super) enum Turn<I> {
    Task(I),
    /// One that had been put back. Whoever counted on this worker has to be told.
    Due(I),
    /// Nothing came for as long as it would wait. It still counts as waiting.
    Idle,
    /// Closed and empty.
    Over,
}

/// A worker's place at the queue.
pub(crate) struct Seat<'a, I> {
    queue: &'a Queue<I>,
    counted: std::cell::Cell<bool>,
}

impl<'a, I> Seat<'a, I> {
    pub(super) fn at(queue: &'a Queue<I>) -> Self {
        Seat { queue, counted: std::cell::Cell::new(false) }
    }

    /// Says that this worker is as good as waiting. A task may say so before it wakes its
    /// waiters: the task they submit next then finds this worker, and no new one is hired.
    pub(crate) fn free(&self) {
        if !self.counted.replace(true) {
            self.queue.balance.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Gives up the place of a worker that was counted out while it was as good as waiting.
    pub(super) fn leave(&self) {
        if self.counted.replace(false) {
            self.queue.balance.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Takes back a task of this worker, to be run again at that moment.
    pub(crate) fn put_back(&self, item: I, due: Instant) {
        self.queue.put_back(item, due);
    }

    /// Waits for a task, for ever or for as long as `patience`.
    pub(super) fn next(&self, patience: Option<Duration>) -> Turn<I> {
        loop {
            if let Some(item) = self.queue.later.take_due() {
                self.leave();
                if !self.queue.later.is_empty() {
                    self.queue.find_a_keeper();
                }
                return Turn::Due(item);
            }
            self.free();
            let keeper = self.queue.later.keep();
            let received = match (&keeper, patience) {
                (Some(keeper), _) => self.queue.exit.recv_deadline(keeper.until),
                (None, Some(patience)) => self.queue.exit.recv_timeout(patience),
                (None, None) => self.queue.exit.recv().map_err(RecvTimeoutError::from),
            };
            let was_keeper = keeper.is_some();
            drop(keeper);
            match received {
                Ok(sent) => {
                    self.counted.set(false);
                    if was_keeper {
                        self.queue.find_a_keeper();
                    }
                    if let Sent::Task(item) = sent {
                        self.queue.room.iter().for_each(Room::leave);
                        return Turn::Task(item);
                    }
                }
                // What it watched the time for is due.
                Err(RecvTimeoutError::Timeout) if was_keeper => {}
                Err(RecvTimeoutError::Timeout) => return Turn::Idle,
                Err(RecvTimeoutError::Disconnected) => {
                    if !self.queue.later.wait() {
                        return Turn::Over;
                    }
                }
            }
        }
    }
}
