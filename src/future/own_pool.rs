//! Waiting inside a pool: a worker that would sleep for a call which is still queued in its own
//! pool might sleep for ever, because every worker might. So it does not just sleep.
//!
//! | the call it waits for is                                  | what the worker does                          |
//! |-----------------------------------------------------------|-----------------------------------------------|
//! | queued in its own pool, and here (threads)                | takes it and runs it there and then           |
//! | the same, but there is a limit, or calls nest very deep   | sleeps; the pool lets another worker stand in |
//! | queued in its own pool, encoded (processes)               | sleeps; the pool lets another worker stand in |
//! | running in its own pool                                   | the same: that call may wait in its turn      |
//! | over, or of another pool                                  | sleeps                                        |
//!
//! The rule: it never runs a call that it does not wait for, which may need a lock that it holds.
//! Not here: how a pool finds a stand-in (`pool/mod.rs`).

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::cell::Watch;
use crate::id::Home;
use crate::primitives::thread_local;

/// A pool, as one of its workers sees it.
pub(crate) trait Employer: Send + Sync {
    /// This worker is about to sleep until another has done something: until `step_in`, one more
    /// may work.
    fn step_out(self: Arc<Self>);
    fn step_in(&self);
    /// A worker runs a call itself for which it waits. If that is one of the last in the queue, as it is where calls
    /// submit others and wait for them, it need not stay there. It is known by where its cell is.
    fn retract(&self, cell: *const ());
}

thread_local! {
    /// The pool that this thread works for, until the very end: the thread-locals of the user are
    /// dropped when the worker has left.
    static HOME: Cell<Home> = const { Cell::new(Home::NONE) };
}

thread_local! {
    static EMPLOYER: RefCell<Option<Arc<dyn Employer>>> = const { RefCell::new(None) };
}

thread_local! {
    /// Calls that this thread runs for one that waits, one inside the other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Each nested call has its frames on the one stack of its thread.
const DEEPEST: u32 = 32;

/// Runs the life of a worker of the pool `home`.
pub(crate) fn employed<R>(home: Home, employer: Arc<dyn Employer>, life: impl FnOnce() -> R) -> R {
    HOME.set(home);
    EMPLOYER.set(Some(employer));
    let outcome = life();
    drop(EMPLOYER.take());
    outcome
}

/// Threads of a pool that run callbacks: they belong to it and are none of its workers, so nobody need stand in for one whose
/// callback waits for a call.
#[cfg(all(unix, not(loom)))]
#[derive(Default)]
pub(crate) struct Callbacks(crate::primitives::Mutex<Vec<std::thread::JoinHandle<()>>>);

#[cfg(all(unix, not(loom)))]
impl Callbacks {
    /// Runs what has callbacks in it in a thread of its own; in this one if there is none to be had, because it must be run.
    pub(crate) fn run<F: FnOnce() + Send + 'static>(&self, home: Home, completion: F) {
        use std::sync::{Mutex, PoisonError};

        struct NoWorker;

        impl Employer for NoWorker {
            fn step_out(self: Arc<Self>) {}
            fn step_in(&self) {}
            fn retract(&self, _: *const ()) {}
        }

        let completion = Arc::new(Mutex::new(Some(completion)));
        let take = |from: &Mutex<Option<F>>| from.lock().unwrap_or_else(PoisonError::into_inner).take();
        let its = Arc::clone(&completion);
        let spawned = std::thread::Builder::new().name("callbacks".into()).spawn(move || {
            if let Some(completion) = take(&its) {
                employed(home, Arc::new(NoWorker), || crate::outcome::shielded(completion));
            }
        });
        match spawned {
            Ok(thread) => {
                let mut threads = self.0.lock();
                threads.retain(|thread| !thread.is_finished());
                threads.push(thread);
            }
            Err(_) => take(&completion).unwrap_or_else(|| unreachable!("no thread has taken it"))(),
        }
    }

    /// Waits for those that run; but not in a thread of that pool, which may be one of them, and would wait for itself.
    pub(crate) fn join(&self, home: Home) {
        if !is_employed_at(home) {
            let threads = std::mem::take(&mut *self.0.lock());
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }
}

/// Does this thread work for that pool?
pub(crate) fn is_employed_at(home: Home) -> bool {
    HOME.get() == home
}

/// Does it work for any pool?
pub(crate) fn is_employed() -> bool {
    my_home() != Home::NONE
}

/// The pool that this thread works for.
pub(crate) fn my_home() -> Home {
    HOME.get()
}

fn employer() -> Option<Home> {
    Some(my_home()).filter(|home| *home != Home::NONE)
}

/// Runs one of `cells` here, the first that is queued in this thread's own pool. False: there is none.
pub(super) fn help<'c>(mut cells: impl Iterator<Item = &'c dyn Watch>) -> bool {
    let Some(home) = employer() else { return false };
    let depth = DEPTH.get();
    if depth >= DEEPEST {
        return false;
    }
    DEPTH.set(depth + 1);
    let helped = cells.any(|cell| cell.run_from(home));
    DEPTH.set(depth);
    helped
}

/// Takes the mark that a call leaves in the queue out of it, if that is easy.
pub(super) fn retract(cell: *const ()) {
    let _ = EMPLOYER.try_with(|employer| {
        if let Some(employer) = &*employer.borrow() {
            employer.retract(cell);
        }
    });
}

/// While it lives, another worker may stand in for this one.
pub(super) struct StandIn(Option<Arc<dyn Employer>>);

impl StandIn {
    /// If this thread is about to sleep for `cells`, and one of them is a call of its own pool.
    pub(super) fn while_waiting_for<'c>(mut cells: impl Iterator<Item = &'c dyn Watch>) -> Self {
        let employer = employer()
            .filter(|home| cells.any(|cell| cell.is_under_way_at(*home)))
            .and_then(|_| EMPLOYER.try_with(|employer| employer.borrow().clone()).ok()?);
        if let Some(employer) = &employer {
            Arc::clone(employer).step_out();
        }
        StandIn(employer)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(employer) = &self.0 {
            employer.step_in();
        }
    }
}
