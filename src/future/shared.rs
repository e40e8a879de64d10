//! [`SharedFuture`]: one outcome, many readers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::block::{block, deadline_after, late, waits_for_itself};
use super::cell::{Watch, describe};
use super::handle::Future;
use super::state::Want;
use crate::error::Error;
use crate::id::FutureId;
use crate::primitives::OnceLock;

/// A future whose handle can be cloned, and whose outcome can be looked at many times, from many
/// threads. Made by [`Future::shared`](super::Future::shared).
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// let text = pool.submit(|n: usize| "x".repeat(n), 3).shared();
/// let again = text.clone();
/// assert_eq!(text.result()?, "xxx");                  // a reference
/// assert_eq!(again.result().cloned()?, "xxx");        // a copy
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub struct SharedFuture<T>(Arc<Inner<T>>);

struct Inner<T> {
    future: Future<T>,
    /// Where references to the outcome can live, once somebody has looked at it.
    outcome: OnceLock<Result<T, Error>>,
}

impl<T> Future<T> {
    /// A handle that can be cloned, and whose result can be looked at many times.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let table = pool.spawn(|| (0..1000).map(|n| n * n).collect::<Vec<u64>>()).shared();
    /// let own = table.clone();
    /// let sum = pool.spawn(move || own.result().map(|table| table.iter().sum::<u64>()));
    /// assert_eq!(table.result()?[30], 900);
    /// assert_eq!(sum.result()??, 332_833_500);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn shared(self) -> SharedFuture<T> {
        SharedFuture(Arc::new(Inner { future: self, outcome: OnceLock::new() }))
    }
}

impl<T> SharedFuture<T> {
    /// Waits for the outcome and shows it. `result().cloned()` gives a value of one's own.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let text = pool.spawn(|| "x".repeat(3)).shared();
    /// assert_eq!(text.result()?, "xxx");
    /// assert_eq!(text.result()?.len(), 3);        // as often as you like
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Future::result`](super::Future::result).
    pub fn result(&self) -> Result<&T, Error> {
        self.outcome_by(None).unwrap_or_else(|| Err(waits_for_itself(self.watch())))
    }

    /// As [`result`](Self::result), for `limit` at the most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Error, Promise};
    ///
    /// let (promise, future) = Promise::new();
    /// let future = future.shared();
    /// assert!(matches!(future.result_timeout(Duration::ZERO), Err(Error::TimedOut { .. })));
    /// promise.fulfil(42);
    /// assert_eq!(future.result_timeout(Duration::ZERO)?, &42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`result`](Self::result), and [`Error::TimedOut`].
    pub fn result_timeout(&self, limit: Duration) -> Result<&T, Error> {
        self.outcome_by(Some(limit)).unwrap_or_else(|| Err(late(self.watch(), limit)))
    }

    /// Waits, then tells the error; `None` when the call returned a value.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let failed = pool.try_submit(str::parse::<u32>, "many").shared();
    /// assert!(failed.exception().is_some());
    /// assert!(failed.result().is_err());          // it is still there
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn exception(&self) -> Option<Error> {
        self.result().err()
    }

    /// As [`Future::cancel`](super::Future::cancel).
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (_promise, future) = Promise::<u32>::new();
    /// let one = future.shared();
    /// let other = one.clone();
    /// assert!(one.cancel());
    /// assert!(other.cancelled());                 // for all who read it
    /// ```
    pub fn cancel(&self) -> bool {
        self.0.future.cancel()
    }

    /// As [`Future::kill`](super::Future::kill).
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     let endless = pool.submit(|()| -> u32 { loop {} }, ()).shared();
    ///     while !endless.running() {
    ///         std::thread::yield_now();
    ///     }
    ///     assert!(endless.kill());
    ///     assert!(endless.result().is_err());
    ///     Ok(())
    /// }
    /// ```
    pub fn kill(&self) -> bool {
        self.0.future.kill()
    }

    /// As [`Future::on_progress`](super::Future::on_progress).
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use std::sync::{Arc, Barrier};
    /// use concurrent_futures::{ThreadPoolExecutor, task};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let gate = Arc::new(Barrier::new(2));
    /// let own = Arc::clone(&gate);
    /// let future = pool.spawn(move || { own.wait(); task::progress(3, 10) }).shared();
    /// let seen = Arc::new(AtomicU64::new(0));
    /// let bar = Arc::clone(&seen);
    /// future.on_progress(move |done, _total| bar.store(done, Relaxed));
    /// gate.wait();
    /// future.result()?;
    /// assert_eq!(seen.load(Relaxed), 3);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn on_progress(&self, listener: impl Fn(u64, u64) + Send + Sync + 'static) {
        self.0.future.on_progress(listener);
    }

    /// As [`Future::cancelled`](super::Future::cancelled).
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (_promise, future) = Promise::<u32>::new();
    /// let future = future.shared();
    /// future.cancel();
    /// assert!(future.cancelled());
    /// ```
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.0.future.cancelled()
    }

    /// As [`Future::running`](super::Future::running).
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, future) = Promise::<u32>::new();
    /// let future = future.shared();
    /// promise.start();
    /// assert!(future.running());
    /// ```
    #[must_use]
    pub fn running(&self) -> bool {
        self.0.future.running()
    }

    /// As [`Future::done`](super::Future::done).
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, future) = Promise::new();
    /// let future = future.shared();
    /// assert!(!future.done());
    /// promise.fulfil(42);
    /// assert!(future.done());
    /// ```
    #[must_use]
    pub fn done(&self) -> bool {
        self.0.future.done()
    }

    /// As [`Future::wait`](super::Future::wait).
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let future = pool.spawn(|| 42).shared();
    /// future.wait();
    /// assert!(future.done());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn wait(&self) {
        self.0.future.wait();
    }

    /// As [`Future::wait_timeout`](super::Future::wait_timeout).
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, future) = Promise::new();
    /// let future = future.shared();
    /// assert!(!future.wait_timeout(Duration::ZERO));
    /// promise.fulfil(42);
    /// assert!(future.wait_timeout(Duration::ZERO));
    /// ```
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.0.future.wait_timeout(limit)
    }

    /// As [`Future::add_done_callback`](super::Future::add_done_callback), also when the outcome has
    /// been looked at.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let future = pool.spawn(|| 6 * 7).shared();
    /// assert_eq!(future.result()?, &42);
    /// future.add_done_callback(move |outcome| tell.send(outcome.copied().ok()).unwrap());
    /// assert_eq!(told.recv()?, Some(42));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_done_callback(&self, callback: impl FnOnce(Result<&T, &Error>) + Send + 'static) {
        if let Err(callback) = self.0.future.cell().at_end(Box::new(callback)) {
            // Here it can be looked at by many, so it is not lent.
            crate::outcome::shielded(|| match self.result() {
                Ok(value) => callback(Ok(value)),
                Err(error) => callback(Err(&error)),
            });
        }
    }

    /// The future's number.
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (_promise, future) = Promise::<u32>::new();
    /// let id = future.id();
    /// assert_eq!(future.shared().id(), id);
    /// ```
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.0.future.id()
    }

    pub(super) fn watch(&self) -> &dyn Watch {
        self.0.future.watch()
    }

    fn outcome_by(&self, limit: Option<Duration>) -> Option<Result<&T, Error>> {
        let Inner { future, outcome } = &*self.0;
        if outcome.get().is_none() && !block(future.watch(), Want::Value, limit.and_then(deadline_after)) {
            return None;
        }
        // The first reader moves the outcome here.
        let outcome = outcome.get_or_init(|| {
            future.cell().take().unwrap_or_else(|| unreachable!("its value is there, and only we take it"))
        });
        Some(outcome.as_ref().map_err(Error::clone))
    }
}

impl<T> Clone for SharedFuture<T> {
    fn clone(&self) -> Self {
        SharedFuture(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for SharedFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "SharedFuture", self.watch())
    }
}
