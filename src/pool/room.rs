//! The bound of a queue: how many tasks it holds, and who waits for room.
//!
//! Not here: the tasks. The rule: a place is taken before a task is made ready for the queue, and
//! given back when the task leaves the queue or never came to it.

use crate::primitives::{Condvar, Mutex};

pub(super) struct Room {
    limit: usize,
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    places: usize,
    /// Nobody waits any more: who comes now is turned away at the queue's door.
    open: bool,
}

/// A place in the queue of a pool, for one task.
#[must_use = "it is given back when it is dropped"]
pub(crate) struct Place<'a>(Option<&'a Room>);

impl Room {
    pub(super) fn new(limit: usize) -> Self {
        Room { limit, held: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits until there is room.
    pub(super) fn wait(&self) -> Place<'_> {
        let mut held = self.held.lock();
        while held.places >= self.limit && !held.open {
            self.changed.wait(&mut held);
        }
        held.places += 1;
        Place(Some(self))
    }

    /// A place, if there is room.
    pub(super) fn look(&self) -> Option<Place<'_>> {
        let mut held = self.held.lock();
        (held.places < self.limit || held.open).then(|| {
            held.places += 1;
            Place(Some(self))
        })
    }

    /// A place beyond the limit, for those who must not wait.
    pub(super) fn squeeze_in(&self) -> Place<'_> {
        self.held.lock().places += 1;
        Place(Some(self))
    }

    pub(super) fn leave(&self) {
        self.held.lock().places -= 1;
        self.changed.notify_one();
    }

    /// Lets everybody go on, now and from now on.
    pub(super) fn open(&self) {
        self.held.lock().open = true;
        self.changed.notify_all();
    }
}

impl Place<'_> {
    /// In a queue without bound.
    pub(super) const ANYWHERE: Place<'static> = Place(None);

    /// The task is in the queue: who takes it out gives the place back.
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(room) = self.0 {
            room.leave();
        }
    }
}
