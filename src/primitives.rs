//! The one door through which locks, atomics, channels and threads enter, so that a model checker
//! can swap them: `--cfg loom`, see `tests/interleavings.rs`.
//!
//! Not here: what stands for them in a model (`primitives/model.rs`).
//! The rule: what threads share, and what each has to itself, comes through here in all that a
//! model runs (`future`, `pool`, `thread`, `outcome`, `task`). Three things need not: `Arc`, whose
//! count is not what can go wrong; statics, which outlive a model; and hints, which may be wrong.

pub(crate) mod fence;
pub(crate) mod look;
#[cfg(loom)]
mod model;

#[cfg(loom)]
pub(crate) use model::{
    AtomicBool, AtomicU8, AtomicUsize, Condvar, LocalKey, Mutex, MutexGuard, OnceLock, UnsafeCell, channel,
    thread, thread_local,
};
#[cfg(not(loom))]
pub(crate) use {
    crossbeam_channel as channel,
    parking_lot::{Condvar, Mutex, MutexGuard},
    std::sync::OnceLock,
    std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize},
    std::{thread, thread_local},
};

pub(crate) use std::sync::atomic::Ordering;

/// As std's, in the shape of the model's, which sees who looks and who writes.
#[cfg(not(loom))]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        look(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Atomics for statics, and for hints: numbers on which nothing depends but speed.
pub(crate) mod statics {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
}

use std::time::Instant;

/// Lets one thread sleep until another wakes it. A wake-up that comes first is kept.
///
/// Not `std::thread::park`: its token belongs to the user's code, who may be waiting for it.
#[derive(Default)]
pub(crate) struct Parker {
    woken: Mutex<bool>,
    bell: Condvar,
    /// What is to be done beside, to wake one that does not sleep here.
    alarm: std::sync::OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Parker {
    /// Its thread sleeps elsewhere now and then, where only this wakes it.
    #[cfg(not(loom))]
    pub(crate) fn set_alarm(&self, alarm: impl Fn() + Send + Sync + 'static) {
        let _ = self.alarm.set(Box::new(alarm));
    }

    /// Takes the wake-up that there may be.
    #[cfg(not(loom))]
    pub(crate) fn hear(&self) {
        *self.woken.lock() = false;
    }

    /// Sleeps until woken or until `deadline`; false if that came first. May also return for no
    /// reason.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
        let mut woken = self.woken.lock();
        let mut in_time = true;
        if !*woken {
            match deadline {
                Some(deadline) => in_time = !self.bell.wait_until(&mut woken, deadline).timed_out(),
                None => self.bell.wait(&mut woken),
            }
        }
        *woken = false;
        in_time
    }

    pub(crate) fn wake(&self) {
        *self.woken.lock() = true;
        self.bell.notify_one();
        if let Some(alarm) = self.alarm.get() {
            alarm();
        }
    }
}
