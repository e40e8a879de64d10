//! Tasks of a queue that wait for a moment, not for a worker: calls that were put back, until their next
//! attempt is due.
//!
//! ```text
//!   a worker puts a task back ──▶ in the list, by the moment at which it is due
//!   any worker that comes for a task takes what is due first
//!   one of those that have nothing to do is the keeper: it sleeps no longer than to the next moment
//! ```
//!
//! Data only. Not here: who is the keeper's successor, and how the others are told (`floor.rs`).
//! The rule: while the list holds a task, a worker will look at it: one that is busy and will come back, or the
//! keeper, which leaves that post only to look again, or to hand it on. In a pool that is shut it looks often: a task that
//! was cancelled meanwhile is waited for no longer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::queue::Queued;
use crate::future::deadline_after;

pub(super) struct Later<I> {
    /// By the moment, and in the order in which they came.
    tasks: BTreeMap<(Instant, u64), I>,
    came: u64,
    /// Until when the keeper sleeps, if there is one.
    kept_until: Option<Instant>,
}

impl<I> Later<I> {
    pub(super) fn new() -> Self {
        Later { tasks: BTreeMap::new(), came: 0, kept_until: None }
    }

    pub(super) fn add(&mut self, task: I, due: Instant) {
        self.tasks.insert((due, self.came), task);
        self.came += 1;
    }

    /// Has the moment of the first come?
    pub(super) fn is_due(&self) -> bool {
        // In a model there is no clock: every moment has come.
        self.tasks.first_key_value().is_some_and(|((due, _), _)| cfg!(loom) || *due <= Instant::now())
    }

    /// The first task, if it is due.
    pub(super) fn take_due(&mut self) -> Option<I> {
        if self.is_due() { self.tasks.pop_first().map(|(_, task)| task) } else { None }
    }

    /// When the first is due.
    #[cfg(feature = "amqp")]
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.tasks.first_key_value().map(|((due, _), _)| *due)
    }

    /// All of them.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = I> + use<I> {
        std::mem::take(&mut self.tasks).into_values()
    }

    /// Those that have ended, and wait for nothing any more: somebody has cancelled them.
    pub(super) fn take_ended(&mut self) -> Vec<I>
    where
        I: Queued,
    {
        self.tasks.extract_if(.., |_, task| task.is_ended()).map(|(_, task)| task).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Is there a task, and nobody who watches the time for it?
    pub(super) fn is_unkept(&self) -> bool {
        self.unkept().is_some()
    }

    /// When the first task is due, if no keeper will be there by then.
    fn unkept(&self) -> Option<Instant> {
        let due = self.tasks.first_key_value().map(|((due, _), _)| *due)?;
        self.kept_until.is_none_or(|until| due < until).then_some(due)
    }

    /// Makes the caller the keeper, if one is needed: until then, and not for longer than `most`.
    pub(super) fn keep(&mut self, most: Option<Duration>) -> Option<Instant> {
        let due = self.unkept()?;
        let until = most.and_then(deadline_after).map_or(due, |soon| soon.min(due));
        self.kept_until = Some(until);
        Some(until)
    }

    /// The keeper until that moment is here. Another may have taken over, for a task that is due earlier.
    pub(super) fn leave_post(&mut self, until: Instant) {
        if self.kept_until == Some(until) {
            self.kept_until = None;
        }
    }
}
