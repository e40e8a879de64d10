//! [`Future`], the caller's handle on a call.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::block::{block, deadline_after, late, nap, waits_for_itself};
use super::cell::{Shared, Watch, describe};
use super::state::{Phase, Want};
use crate::error::Error;
use crate::id::FutureId;

/// A call that was handed to an executor, and the value that it will have.
///
/// Every future ends: with the value, or with the [`Error`] that says why there is none.
/// Dropping it detaches: the call runs all the same, and its value is dropped as soon as it is
/// there; its error goes to [the hook for errors that nobody read](crate::set_unread_error_hook).
/// It can be a key (`Hash`, `Eq`): two futures are equal when they are the same one.
///
/// It is also a [`std::future::Future`], on any async runtime.
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let future = pool.submit(|(a, b)| a + b, (2, 3));
/// assert_eq!(future.result()?, 5);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "dropping a future loses its result; `drop` it to say that this is meant"]
pub struct Future<T> {
    /// Absent once the outcome has been moved out by `result`, which consumes the future.
    cell: Option<Arc<dyn Shared<T>>>,
}

impl<T> Future<T> {
    pub(crate) fn new(cell: Arc<dyn Shared<T>>) -> Self {
        Future { cell: Some(cell) }
    }

    /// Waits for the outcome and moves it out.
    ///
    /// Callbacks added before the call ended are shown the value first: `result` returns after
    /// them, [`wait`](Self::wait) and [`done`](Self::done) do not wait for them.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// assert_eq!(pool.spawn(|| 6 * 7).result()?, 42);
    /// let error = pool.submit(|n: u32| 1 / n, 0).result().unwrap_err();
    /// assert!(matches!(error, Error::Panicked { .. }));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever kept the call from returning; [`Error::InvalidArgument`] when called inside the
    /// call itself or inside the future's own callback, where it could only wait for ever.
    pub fn result(mut self) -> Result<T, Error> {
        match self.take_by(None) {
            Some(outcome) => {
                self.cell = None;
                outcome
            }
            None => Err(waits_for_itself(self.watch())),
        }
    }

    /// As [`result`](Self::result), for `limit` at the most. A value is moved out once; after a
    /// time-out the future can be asked again. A value that is there is given even with a limit
    /// of zero.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Error, Promise};
    ///
    /// let (promise, mut future) = Promise::new();
    /// let early = future.result_timeout(Duration::from_millis(1));
    /// assert!(matches!(early, Err(Error::TimedOut { .. })));
    /// promise.fulfil(42);
    /// assert_eq!(future.result_timeout(Duration::ZERO)?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`result`](Self::result), and [`Error::TimedOut`].
    pub fn result_timeout(&mut self, limit: Duration) -> Result<T, Error> {
        self.take_by(Some(limit)).unwrap_or_else(|| Err(late(self.watch(), limit)))
    }

    /// The outcome, if it is there; a value is moved out. Never waits.
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, mut future) = Promise::new();
    /// assert!(future.try_result().is_none());
    /// promise.fulfil(42);
    /// assert_eq!(future.try_result().unwrap()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn try_result(&mut self) -> Option<Result<T, Error>> {
        self.cell().take()
    }

    /// Waits, then tells the error; `None` when the call returned a value. A cancelled future
    /// gives [`Error::Cancelled`].
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// assert!(pool.spawn(|| 42).exception().is_none());
    /// let failed = pool.try_submit(str::parse::<u32>, "many");
    /// assert!(failed.exception().unwrap().to_string().contains("invalid digit"));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn exception(&self) -> Option<Error> {
        self.wait();
        self.cell().error(true)
    }

    /// Cancels the call if it has not started. True if it will never run (also when it had been
    /// cancelled before), false if it runs or has ended. One that runs is told that it is not wanted
    /// ([`task::cancelled`](crate::task::cancelled)), and is not tried again.
    ///
    /// ```
    /// use concurrent_futures::{Error, Promise};
    ///
    /// let (_promise, future) = Promise::<u32>::new();
    /// assert!(future.cancel());
    /// assert!(matches!(future.result(), Err(Error::Cancelled { .. })));
    ///
    /// let (promise, future) = Promise::new();
    /// promise.start();
    /// assert!(!future.cancel());                  // it runs
    /// promise.fulfil(42);
    /// assert_eq!(future.result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn cancel(&self) -> bool {
        self.cell().cancel()
    }

    /// As [`cancel`](Self::cancel), and stops a call that runs where the engine can: the worker process
    /// that runs it is asked to end (SIGTERM), and killed if it is still there after the pool's
    /// [`grace_period`](crate::ProcessPoolBuilder::grace_period). Then the future ends, with
    /// [`Error::WorkerDied`] unless the result had been sent by then, and whatever its
    /// [`TaskOptions::retries`](crate::TaskOptions::retries) say it is not tried again. A call that is on its way to
    /// its process, which has not come to it, is cancelled. Does not wait.
    ///
    /// False for a call that has ended, and for one that runs on a thread: threads cannot be stopped.
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, sync::Event};
    ///
    /// fn endless(started: Event) -> u32 {
    ///     started.set();
    ///     loop {}
    /// }
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();
    ///     let (pool, started) = (ProcessPoolExecutor::new(1)?, Event::new());
    ///     let call = pool.submit(endless, started.clone());
    ///     started.wait();
    ///     assert!(call.kill());
    ///     assert!(matches!(call.result(), Err(Error::WorkerDied { .. })));
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);       // by another worker
    ///     Ok(())
    /// }
    /// ```
    pub fn kill(&self) -> bool {
        self.cell().kill()
    }

    /// Was the call cancelled?
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (_promise, future) = Promise::<u32>::new();
    /// assert!(!future.cancelled());
    /// future.cancel();
    /// assert!(future.cancelled());
    /// ```
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.cell().phase() == Phase::Cancelled
    }

    /// Has a worker started the call, and not ended it?
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, future) = Promise::new();
    /// assert!(!future.running());                 // pending
    /// promise.start();
    /// assert!(future.running());
    /// promise.fulfil(42);
    /// assert!(!future.running());                 // done
    /// ```
    #[must_use]
    pub fn running(&self) -> bool {
        self.cell().phase_seen() == Phase::Running
    }

    /// Is the future over: value, error or cancelled?
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, future) = Promise::new();
    /// assert!(!future.done());
    /// promise.fulfil(42);
    /// assert!(future.done());
    /// ```
    #[must_use]
    pub fn done(&self) -> bool {
        self.cell().phase().is_over()
    }

    /// Waits until the future is over. Inside the call itself it returns at once.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let future = pool.spawn(|| 42);
    /// future.wait();
    /// assert!(future.done());
    /// assert_eq!(future.result()?, 42);           // the value is still there
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn wait(&self) {
        block(self.watch(), Want::End, None);
    }

    /// Waits for `limit` at the most; true if the future is over.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, future) = Promise::new();
    /// assert!(!future.wait_timeout(Duration::from_millis(1)));
    /// promise.fulfil(42);
    /// assert!(future.wait_timeout(Duration::ZERO));
    /// ```
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        block(self.watch(), Want::End, deadline_after(limit))
    }

    /// Runs `callback` once, when the future is over: in the thread that ends the call or cancels
    /// it, or here and now if it is over already. Callbacks run in the order in which they were
    /// added, after the waiters have been woken; a panic in one does not keep the next from running.
    ///
    /// A callback that is added while others look at the value runs after them, in their thread.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// pool.spawn(|| 6 * 7).add_done_callback(move |outcome| tell.send(outcome.copied().ok()).unwrap());
    /// assert_eq!(told.recv()?, Some(42));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_done_callback(&self, callback: impl FnOnce(Result<&T, &Error>) + Send + 'static) {
        if let Err(callback) = self.cell().on_done(Box::new(callback)) {
            let error = Error::invalid(
                format!("the result of {} has been taken before the callback was added", self.cell().task()),
                "add callbacks before `result_timeout` or `try_result`, or make the future `shared()`",
            );
            crate::outcome::shielded(|| callback(Err(&error)));
        }
    }

    /// Has `listener` told how far the call is: whenever the call says so ([`task::progress`](crate::task::progress)), with
    /// what is done and what there is to do. Nothing is told of what was said before, or when the future is over.
    ///
    /// It runs in the thread that runs the call, or owns the process that does, and the call waits for it: so it should be
    /// short. A panic in it ends nothing. It cannot wait for this future's end.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor, task};
    ///
    /// fn sum(numbers: Vec<u64>) -> u64 {
    ///     let mut sum = 0;
    ///     for (at, number) in (1..).zip(&numbers) {
    ///         sum += number;
    ///         task::progress(at, numbers.len() as u64);
    ///     }
    ///     sum
    /// }
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     let future = pool.submit(sum, (0..1000).collect());
    ///     future.on_progress(|done, total| println!("{done} of {total}"));
    ///     assert_eq!(future.result()?, 499_500);
    ///     Ok(())
    /// }
    /// ```
    pub fn on_progress(&self, listener: impl Fn(u64, u64) + Send + Sync + 'static) {
        self.cell().listen(Arc::new(listener));
    }

    /// The future's number.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let future = pool.submit(str::len, "three");
    /// let words = HashMap::from([(future.id(), "three")]);
    /// println!("{} has {} letters", words[&future.id()], future.result()?);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.cell().task().id
    }

    /// Sleeps until the future is over or until then: see [`nap`].
    pub(crate) fn nap(&self, until: Instant) {
        nap(self.watch(), Want::End, until);
    }

    pub(super) fn watch(&self) -> &dyn Watch {
        self.cell()
    }

    /// Does its executor take nothing more?
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.cell().error(false), Some(Error::ShutDown { .. } | Error::Broken { .. }))
    }

    /// To cancel it from elsewhere.
    pub(crate) fn weak(&self) -> Weak<dyn Watch> {
        Arc::downgrade(&self.watch_shared())
    }

    /// To wait for it from elsewhere.
    pub(crate) fn watch_shared(&self) -> Arc<dyn Watch> {
        let cell = self.cell.as_ref();
        cell.map_or_else(|| unreachable!("as in `cell`"), |cell| -> Arc<dyn Watch> { cell.clone() })
    }

    /// Says that nobody minds how it ends.
    pub(crate) fn excuse(&self) {
        self.add_done_callback(|_| ());
    }

    pub(super) fn cell(&self) -> &dyn Shared<T> {
        self.cell
            .as_deref()
            .unwrap_or_else(|| unreachable!("only `result`, which consumes the future, takes it"))
    }

    /// `None`: the time is over, or would be spent for nothing.
    fn take_by(&self, limit: Option<Duration>) -> Option<Result<T, Error>> {
        let deadline = limit.and_then(deadline_after);
        loop {
            if let Some(outcome) = self.cell().take() {
                return Some(outcome);
            }
            if !block(self.watch(), Want::Value, deadline) {
                // The last look is at the state, not at the clock.
                return self.cell().take();
            }
        }
    }
}

impl<T> Drop for Future<T> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            cell.detach();
        }
    }
}

impl<T> std::future::Future for Future<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.cell().poll(context)
    }
}

impl<T> PartialEq for Future<T> {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl<T> Eq for Future<T> {}

impl<T> Hash for Future<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl<T> fmt::Debug for Future<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "Future", self.watch())
    }
}
