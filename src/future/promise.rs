//! [`Promise`]: the other end of a future, for executors of one's own and for tests.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::cell::describe;
use super::cell::{Cell, Job, Watch};
use super::handle::Future;
use super::slot::Started;
use crate::account::Ticket;
use crate::error::Error;
use crate::id::TaskRef;
use crate::outcome::discard;
use crate::primitives::Mutex;

/// The right, and the duty, to end a [`Future`]. Dropping it breaks the future: it ends with
/// [`Error::Broken`], and nobody waits for ever.
///
/// ```
/// use concurrent_futures::Promise;
///
/// let (promise, future) = Promise::new();
/// std::thread::spawn(move || {
///     if promise.start() {           // false: cancelled meanwhile
///         promise.fulfil(6 * 7);
///     }
/// });
/// assert_eq!(future.result()?, 42);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// It is kept once. This does not compile:
///
/// ```compile_fail,E0382
/// # use concurrent_futures::Promise;
/// let (promise, _future) = Promise::new();
/// promise.fulfil(1);
/// promise.fulfil(2);
/// ```
pub struct Promise<T: Send + 'static> {
    /// Absent once the duty is done.
    cell: Option<Arc<Cell<ByHand<T>>>>,
    started: Mutex<Option<Started>>,
}

/// The job of a promise: there is none that we could do.
struct ByHand<T>(Infallible, PhantomData<fn() -> T>);

impl<T: Send + 'static> Job for ByHand<T> {
    type Output = T;

    fn name() -> &'static str {
        "promise"
    }

    fn run(self, _task: TaskRef) -> Result<T, Error> {
        match self.0 {}
    }
}

impl<T: Send + 'static> Promise<T> {
    /// A promise and its future, pending.
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, future) = Promise::new();
    /// assert!(!future.running() && !future.done());
    /// promise.fulfil("here");
    /// assert_eq!(future.result()?, "here");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[allow(clippy::new_ret_no_self, reason = "the two ends of one thing, as a channel's")]
    pub fn new() -> (Promise<T>, Future<T>) {
        let cell = Arc::new(Cell::new(None, Ticket::NONE));
        (Promise { cell: Some(Arc::clone(&cell)), started: Mutex::new(None) }, Future::new(cell))
    }

    /// Pending → running: from here on the future cannot be cancelled. False if it has been
    /// cancelled (then there is nothing left to do), or was started before.
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, future) = Promise::<u32>::new();
    /// assert!(promise.start());
    /// assert!(future.running() && !future.cancel());
    ///
    /// let (promise, future) = Promise::<u32>::new();
    /// future.cancel();
    /// assert!(!promise.start());                  // nobody wants it
    /// ```
    pub fn start(&self) -> bool {
        let mut started = self.started.lock();
        let is_first = started.is_none();
        if is_first {
            *started = self.cell().begin();
        }
        is_first && started.is_some()
    }

    /// Ends the future with a value. Without effect if it was cancelled.
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, future) = Promise::new();
    /// std::thread::spawn(move || promise.fulfil(42));
    /// assert_eq!(future.result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn fulfil(self, value: T) {
        self.end(Ok(value));
    }

    /// Ends the future with an error. Without effect if it was cancelled.
    ///
    /// ```
    /// use concurrent_futures::{Error, Promise};
    ///
    /// let (promise, future) = Promise::<u32>::new();
    /// let task = promise.task();
    /// promise.fail(Error::raised(task, "no route"));
    /// assert!(future.result().unwrap_err().to_string().contains("no route"));
    /// ```
    pub fn fail(self, error: Error) {
        self.end(Err(error));
    }

    /// How errors name this promise.
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (promise, future) = Promise::<u32>::new();
    /// assert_eq!((promise.task().name, promise.task().id), ("promise", future.id()));
    /// ```
    #[must_use]
    pub fn task(&self) -> TaskRef {
        self.cell().task()
    }

    fn end(mut self, outcome: Result<T, Error>) {
        self.end_with(|_| outcome);
    }

    fn end_with(&mut self, outcome: impl FnOnce(TaskRef) -> Result<T, Error>) {
        let Some(cell) = self.cell.take() else { return };
        let outcome = outcome(cell.task());
        match self.started.get_mut().take().or_else(|| cell.begin()) {
            Some(started) => cell.resolve(started, outcome, &()),
            None => discard(outcome),
        }
        // An error that callbacks were told of may be dropped with it, and is the user's.
        discard(cell);
    }

    fn cell(&self) -> &Arc<Cell<ByHand<T>>> {
        self.cell
            .as_ref()
            .unwrap_or_else(|| unreachable!("only `end` and `drop`, which consume the promise, take it"))
    }
}

impl<T: Send + 'static> Drop for Promise<T> {
    fn drop(&mut self) {
        self.end_with(|task| {
            Err(Error::broken(format!("the promise of {task} was dropped without an outcome"), None))
        });
    }
}

impl<T: Send + 'static> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "Promise", &**self.cell())
    }
}
