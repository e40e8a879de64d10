//! Tasks of a queue that wait for a moment, not for a worker: calls that were put back, until their next
//! attempt is due.
//!
//! ```text
//!   a worker puts a task back ──▶ in the list, by the moment at which it is due
//!   any worker that comes for a task takes what is due first
//!   one of those that have nothing to do is the keeper: it waits no longer than to the next moment
//! ```
//!
//! Not here: who is the keeper's successor, and how the others are told (`queue.rs`).
//! The rule: while the list holds a task, a worker will look at it: one that is busy and will come back, or the
//! keeper, which leaves that post only to look again, or to hand it on.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering};

pub(super) struct Later<I> {
    /// How many there are, to be looked at without the lock.
    count: AtomicUsize,
    list: Mutex<List<I>>,
    changed: Condvar,
}

struct List<I> {
    /// By the moment, and in the order in which they came.
    tasks: BTreeMap<(Instant, u64), I>,
    came: u64,
    /// Until when the keeper waits, if there is one.
    kept_until: Option<Instant>,
}

impl<I> List<I> {
    fn first(&self) -> Option<Instant> {
        self.tasks.first_key_value().map(|((due, _), _)| *due)
    }

    /// When the first task is due, if no keeper will be there by then.
    fn unkept(&self) -> Option<Instant> {
        self.first().filter(|due| self.kept_until.is_none_or(|until| *due < until))
    }
}

/// The post of the one who watches the time.
pub(super) struct Keeper<'a, I> {
    later: &'a Later<I>,
    /// When the first task is due.
    pub(super) until: Instant,
}

impl<I> Later<I> {
    pub(super) fn new() -> Self {
        let list = List { tasks: BTreeMap::new(), came: 0, kept_until: None };
        Later { count: AtomicUsize::new(0), list: Mutex::new(list), changed: Condvar::new() }
    }

    pub(super) fn add(&self, task: I, due: Instant) {
        let mut list = self.list.lock();
        let number = list.came;
        list.came += 1;
        list.tasks.insert((due, number), task);
        self.count.store(list.tasks.len(), Ordering::Release);
        drop(list);
        self.changed.notify_all();
    }

    /// The first task, if it is due.
    pub(super) fn take_due(&self) -> Option<I> {
        if self.is_empty() {
            return None;
        }
        let mut list = self.list.lock();
        let first = list.tasks.first_entry()?;
        // In a model there is no clock: every moment has come.
        let is_due = cfg!(loom) || first.key().0 <= Instant::now();
        let task = is_due.then(|| first.remove());
        self.count.store(list.tasks.len(), Ordering::Release);
        task
    }

    /// All of them.
    pub(super) fn drain(&self) -> Vec<I> {
        let mut list = self.list.lock();
        let tasks = std::mem::take(&mut list.tasks);
        self.count.store(0, Ordering::Release);
        drop(list);
        self.changed.notify_all();
        tasks.into_values().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Is there a task, and nobody who watches the time for it?
    pub(super) fn is_unkept(&self) -> bool {
        !self.is_empty() && self.list.lock().unkept().is_some()
    }

    /// Makes the caller the keeper, if one is needed.
    pub(super) fn keep(&self) -> Option<Keeper<'_, I>> {
        if self.is_empty() {
            return None;
        }
        let mut list = self.list.lock();
        let until = list.unkept()?;
        list.kept_until = Some(until);
        Some(Keeper { later: self, until })
    }

    /// For those who have nothing else to wait for: sleeps until the first task is due, or the list
    /// changes. False: it is empty.
    pub(super) fn wait(&self) -> bool {
        let mut list = self.list.lock();
        let Some(due) = list.first() else { return false };
        self.changed.wait_until(&mut list, due);
        true
    }
}

impl<I> Drop for Keeper<'_, I> {
    fn drop(&mut self) {
        let mut list = self.later.list.lock();
        // Another may have taken over, for a task that is due earlier.
        if list.kept_until == Some(self.until) {
            list.kept_until = None;
        }
    }
}
