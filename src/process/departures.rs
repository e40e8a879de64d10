//! The hooks of a process pool: who is told that a worker process starts, and how one has ended.
//!
//! ```text
//!   started, has said Hello ──▶ on_worker_start ──▶ initializer ──▶ calls ──▶ finalizer ──▶ end ──▶ on_worker_exit
//!                                (in the host)      (in the worker)         (in the worker)        (in the host)
//! ```
//!
//! Not here: what the worker itself does (`child.rs`, `service.rs`). The rule: a hook runs in the thread of its worker,
//! without a lock and without a call that the worker has begun; so an end is noted where it is found, and told when the
//! calls that it concerns are over.

use std::process::ExitStatus;
use std::sync::Arc;

use super::slot::Slot;
use crate::observer::What;
use crate::outcome::shielded;
use crate::primitives::Mutex;
use crate::worker::WorkerInfo;

type OnStart = Arc<dyn Fn(&WorkerInfo) + Send + Sync>;
type OnExit = Arc<dyn Fn(&WorkerInfo, Option<ExitStatus>) + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct Hooks {
    pub(super) on_start: Option<OnStart>,
    pub(super) on_exit: Option<OnExit>,
}

impl Hooks {
    pub(super) fn tell_of_start(&self, worker: &WorkerInfo) {
        if let Some(hook) = &self.on_start {
            shielded(|| hook(worker));
        }
    }

    /// Tells of all that have ended since.
    pub(super) fn tell_of_ends(&self, slot: &Slot) {
        // Where nobody asks, none is noted (`child.rs`).
        if self.on_exit.is_none() && !slot.account.is_observed() {
            return;
        }
        let ended = std::mem::take(&mut *slot.departures.0.lock());
        for Departure { worker, status, why } in ended {
            if let Some(hook) = &self.on_exit {
                shielded(|| hook(&worker, status));
            }
            let worker = &*worker;
            slot.account.tell_now(match why {
                Why::Died => What::WorkerDied { worker, status },
                Why::UsedUp => What::WorkerRecycled { worker },
                Why::Left => What::WorkerLeft { worker },
            });
        }
    }
}

/// Those of one worker thread's processes that have ended, and nobody was told of it.
#[derive(Default)]
pub(super) struct Departures(Mutex<Vec<Departure>>);

pub(super) struct Departure {
    pub(super) worker: Arc<WorkerInfo>,
    pub(super) status: Option<ExitStatus>,
    pub(super) why: Why,
}

/// Why a process has ended.
#[derive(Clone, Copy)]
pub(super) enum Why {
    /// Nobody had told it to leave.
    Died,
    UsedUp,
    Left,
}

impl Departures {
    pub(super) fn note(&self, departure: Departure) {
        self.0.lock().push(departure);
    }
}
