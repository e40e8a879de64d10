//! The states of a future, in one table. Data only: no lock, no waking, no user code.
//!
//! ```text
//!             start                 resolve
//!   Pending ─────────▶ Running ──────────────▶ Done
//!      │    ◀─────────                           ▲
//!      │     put back (for another attempt)      │
//!      ├──── resolve (refused, abandoned) ───────┘
//!      │ cancel
//!      └─────────────▶ Cancelled
//! ```
//!
//! | state     | means                              | who moves it on                  |
//! |-----------|------------------------------------|----------------------------------|
//! | Pending   | queued; the job may still be here  | a worker, `cancel`, the executor |
//! | Running   | a worker has started it            | that worker alone                |
//! | Done      | has an outcome, for ever           | nobody                           |
//! | Cancelled | does not run, never will           | nobody                           |
//!
//! `Done` has three shapes, which only the one who wants the *value* can tell apart:
//! kept (here to be taken), lent (callbacks are looking at it), taken.

use std::sync::Arc;

use super::watch::Watchers;
use crate::error::Error;
use crate::id::Home;
use crate::sync::thread::ThreadId;

/// A future's state; `T` is its value, `J` the job that will make it.
pub(crate) enum State<T, J> {
    /// The job is absent when it has left in encoded form, or never was (a promise).
    Pending {
        job: Option<J>,
        watchers: Watchers<T>,
        /// Nobody will ask for the outcome. So below.
        detached: bool,
        /// The pool in which it is queued.
        home: Home,
        /// It was put back, and waits for a moment, not for a worker.
        put_back: bool,
    },
    Running {
        stop: Option<Arc<dyn Stop>>,
        watchers: Watchers<T>,
        detached: bool,
        /// The pool in which it was queued.
        home: Home,
    },
    Done(Value<T>),
    Cancelled,
}

/// Where the outcome of a done future is.
pub(crate) enum Value<T> {
    /// Here. The error is boxed to keep queued tasks small. Was somebody told of it, whether it is one or not?
    Kept { outcome: Result<T, Box<Error>>, told: bool },
    /// A value (never an error: those are cloned) that callbacks of this thread look at.
    Lent { to: ThreadId, watchers: Watchers<T>, detached: bool },
    /// The value was moved out (errors stay: they can be cloned), or nobody wanted the outcome.
    Taken,
}

/// What an observer sees of a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Done,
    Cancelled,
}

impl Phase {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Phase::Done | Phase::Cancelled)
    }
}

impl<T, J> State<T, J> {
    pub(crate) fn phase(&self) -> Phase {
        match self {
            State::Pending { .. } => Phase::Pending,
            State::Running { .. } => Phase::Running,
            State::Done(_) => Phase::Done,
            State::Cancelled => Phase::Cancelled,
        }
    }

    /// Those who must hear of the next change, while there is one to come.
    pub(crate) fn watchers(&mut self) -> Option<&mut Watchers<T>> {
        match self {
            State::Pending { watchers, .. } | State::Running { watchers, .. } => Some(watchers),
            State::Done(_) | State::Cancelled => None,
        }
    }

    /// Those who must hear when the value itself can be had.
    pub(crate) fn value_watchers(&mut self) -> Option<&mut Watchers<T>> {
        match self {
            State::Done(Value::Lent { watchers, .. }) => Some(watchers),
            other => other.watchers(),
        }
    }
}

/// Stops a call that runs, where an engine can: `Future::kill`.
pub(crate) trait Stop: Send + Sync {
    /// Called under the future's lock, so that no other call can be hit; must not block.
    fn stop(&self) -> bool;
    /// Was the present call stopped?
    fn is_stopped(&self) -> bool;
}
