//! The one door through which locks and atomics enter, so that a model checker can swap them.

pub(crate) use parking_lot::{Condvar, Mutex, RwLock};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use std::time::Instant;

/// Lets one thread sleep until another wakes it. A wake-up that comes first is kept.
///
/// Not `std::thread::park`: its token belongs to the user's code, who may be waiting for it.
#[derive(Default)]
pub(crate) struct Parker {
    woken: Mutex<bool>,
    bell: Condvar,
}

impl Parker {
    /// Sleeps until woken or until `deadline`. May also return for no reason.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        let mut woken = self.woken.lock();
        if !*woken {
            match deadline {
                Some(deadline) => {
                    self.bell.wait_until(&mut woken, deadline);
                }
                None => self.bell.wait(&mut woken),
            }
        }
        *woken = false;
    }

    pub(crate) fn wake(&self) {
        *self.woken.lock() = true;
        self.bell.notify_one();
    }
}
