//! What stands in a model for locks, channels and threads: loom's, in the shape of those that the
//! library is built with.
//!
//! Not here: anything of the library. Three things loom does not have, and what they are here:
//!
//! - A channel is a list under one lock, with one bell. crossbeam's behaves as if it were.
//! - Time. There is no clock in a model: a wait with a deadline is never woken but always ends in
//!   a time-out, and the moment is the model's to choose: before, between and after all that
//!   others do to what it waits for. (Being woken in time is the wait without a deadline.)
//! - A `OnceLock`. The first to come in makes the value, and the others wait for it.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::time::Instant;

pub(crate) use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};

/// One thread at a time. As parking_lot's: there is no poison.
#[derive(Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
    /// Absent while its thread waits at a [`Condvar`].
    held: Option<loom::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { lock: self, held: Some(self.acquire()) }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(|_| unreachable!("loom's locks do not poison"))
    }

    fn acquire(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(|_| unreachable!("loom's locks do not poison"))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_deref().unwrap_or_else(|| unreachable!("held, but for a wait"))
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_deref_mut().unwrap_or_else(|| unreachable!("held, but for a wait"))
    }
}

#[derive(Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

pub(crate) struct TimedOut;

impl TimedOut {
    #[allow(clippy::unused_self, reason = "parking_lot's answer is a question too")]
    pub(crate) fn timed_out(&self) -> bool {
        true
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar::default()
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().unwrap_or_else(|| unreachable!("held, but for a wait"));
        guard.held = Some(self.0.wait(held).unwrap_or_else(|_| unreachable!("loom's locks do not poison")));
    }

    /// The time is over when the others have done as much as the model wants.
    #[allow(clippy::unused_self, reason = "the shape of parking_lot's")]
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _deadline: Instant) -> TimedOut {
        guard.held = None;
        guard.held = Some(guard.lock.acquire());
        TimedOut
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// The value itself is kept where a reference to it can live; who may see it, loom decides.
pub(crate) struct OnceLock<T> {
    there: AtomicBool,
    making: Mutex<()>,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        OnceLock { there: AtomicBool::new(false), making: Mutex::new(()), value: std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.there.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _making = self.making.lock();
        if let Some(value) = self.get() {
            return value;
        }
        // Made first: another thread of the model may run meanwhile, in this very thread of the system.
        let value = make();
        let value = self.value.get_or_init(|| value);
        self.there.store(true, Ordering::Release);
        value
    }
}

/// As `std::thread`, as far as the library uses it.
pub(crate) mod thread {
    pub(crate) use loom::thread::{Builder, JoinHandle, ThreadId, current};
    pub(crate) use std::thread::{available_parallelism, panicking, yield_now};
}

/// All threads of a model are one thread of the system, so std's would be shared by them.
pub(crate) struct LocalKey<T: 'static>(loom::thread::LocalKey<T>);

impl<T> LocalKey<T> {
    pub(crate) const fn new(init: fn() -> T) -> Self {
        LocalKey(loom::thread::LocalKey { init, _p: std::marker::PhantomData })
    }

    pub(crate) fn try_with<R>(
        &'static self,
        look: impl FnOnce(&T) -> R,
    ) -> Result<R, loom::thread::AccessError> {
        self.0.try_with(look)
    }
}

impl<T: Copy> LocalKey<Cell<T>> {
    pub(crate) fn get(&'static self) -> T {
        self.0.with(Cell::get)
    }

    pub(crate) fn set(&'static self, value: T) {
        self.0.with(|cell| cell.set(value));
    }
}

impl<T: Default> LocalKey<RefCell<T>> {
    pub(crate) fn set(&'static self, value: T) {
        self.0.with(|cell| cell.replace(value));
    }

    pub(crate) fn take(&'static self) -> T {
        self.0.with(RefCell::take)
    }
}

macro_rules! local_of_a_model {
    ($(#[$doc:meta])* static $name:ident: $of:ty = $value:expr;) => {
        $(#[$doc])*
        static $name: $crate::primitives::LocalKey<$of> = $crate::primitives::LocalKey::new(|| $value);
    };
}
// Under its own name it would be mistaken for the attribute.
pub(crate) use local_of_a_model as thread_local;

/// As `crossbeam_channel`, as far as the library uses it: without limit.
pub(crate) mod channel {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    pub(crate) use crossbeam_channel::RecvTimeoutError;
    use crossbeam_channel::{RecvError, SendError, TryRecvError};

    use super::{Condvar, Mutex};

    struct Channel<T> {
        state: Mutex<State<T>>,
        bell: Condvar,
    }

    struct State<T> {
        sent: VecDeque<T>,
        senders: usize,
        /// There is one at the most, and it cannot be cloned.
        receiver: bool,
    }

    impl<T> State<T> {
        fn take(&mut self) -> Result<T, TryRecvError> {
            self.sent.pop_front().ok_or(if self.senders == 0 {
                TryRecvError::Disconnected
            } else {
                TryRecvError::Empty
            })
        }
    }

    pub(crate) struct Sender<T>(Arc<Channel<T>>);

    pub(crate) struct Receiver<T>(Arc<Channel<T>>);

    pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        let state = State { sent: VecDeque::new(), senders: 1, receiver: true };
        let channel = Arc::new(Channel { state: Mutex::new(state), bell: Condvar::new() });
        (Sender(Arc::clone(&channel)), Receiver(channel))
    }

    impl<T> Sender<T> {
        pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
            let mut state = self.0.state.lock();
            if !state.receiver {
                return Err(SendError(message));
            }
            state.sent.push_back(message);
            drop(state);
            self.0.bell.notify_one();
            Ok(())
        }

        pub(crate) fn same_channel(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.0, &other.0)
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            self.0.state.lock().senders += 1;
            Sender(Arc::clone(&self.0))
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            let mut state = self.0.state.lock();
            state.senders -= 1;
            if state.senders == 0 {
                drop(state);
                self.0.bell.notify_all();
            }
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
            self.0.state.lock().take()
        }

        pub(crate) fn recv(&self) -> Result<T, RecvError> {
            let mut state = self.0.state.lock();
            loop {
                match state.take() {
                    Ok(message) => return Ok(message),
                    Err(TryRecvError::Disconnected) => return Err(RecvError),
                    Err(TryRecvError::Empty) => self.0.bell.wait(&mut state),
                }
            }
        }

        pub(crate) fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
            let mut state = self.0.state.lock();
            let mut taken = state.take();
            if let Err(TryRecvError::Empty) = taken {
                self.0.bell.wait_until(&mut state, deadline);
                taken = state.take();
            }
            taken.map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        }

        pub(crate) fn recv_timeout(&self, _limit: Duration) -> Result<T, RecvTimeoutError> {
            let received = self.recv_deadline(Instant::now());
            if received.is_err() {
                // Whoever comes back at once would do so for ever: another has to go on first.
                loom::thread::yield_now();
            }
            received
        }

        pub(crate) fn try_iter(&self) -> impl Iterator<Item = T> {
            std::iter::from_fn(|| self.try_recv().ok())
        }

        pub(crate) fn len(&self) -> usize {
            self.0.state.lock().sent.len()
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let mut state = self.0.state.lock();
            state.receiver = false;
            let unread = std::mem::take(&mut state.sent);
            drop(state);
            drop(unread);
        }
    }
}
