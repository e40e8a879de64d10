//! [`Future`], the caller's handle on a call, and all that waits for it.
//!
//! Not here: pools. A future knows no executor; a [`Promise`] resolves it, whoever holds that.
//! Reading order: `state.rs` (the table), `cell.rs` (the lock and the one resolving function),
//! `block.rs` (how a thread waits), then the public faces.

mod as_completed;
mod block;
pub(crate) mod cell;
mod promise;
mod shared;
pub(crate) mod state;
mod wait;
mod watch;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

pub use as_completed::{AsCompleted, AsCompletedTimeout, as_completed, as_completed_timeout};
pub use promise::Promise;
pub use shared::SharedFuture;
pub use wait::{AsFuture, ReturnWhen, Waited, wait, wait_timeout};

use block::block;
pub(crate) use block::deadline_after;
use cell::{Shared, Want, Watch};
use state::Phase;

use crate::error::Error;
use crate::sync::{AtomicU64, Ordering};

/// The number of a future, unique in its process; it names the call in every error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FutureId(u64);

impl FutureId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        FutureId(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// In a worker process: the number that the call has in the host.
    pub(crate) fn of(number: u64) -> Self {
        FutureId(number)
    }

    /// The number itself.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FutureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A call that was handed to an executor, and the value that it will have.
///
/// Every future ends: with the value, or with the [`Error`] that says why there is none.
/// Dropping it detaches: the call runs all the same. It can be a key (`Hash`, `Eq`): two
/// futures are equal when they are the same one.
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
#[must_use = "dropping a future loses its result and its error; `drop` it to say that this is meant"]
pub struct Future<T> {
    cell: Arc<dyn Shared<T>>,
}

impl<T> Future<T> {
    pub(crate) fn new(cell: Arc<dyn Shared<T>>) -> Self {
        Future { cell }
    }

    /// Waits for the outcome and moves it out.
    ///
    /// Callbacks added before the call ended are shown the value first: `result` returns after
    /// them, [`wait`](Self::wait) and [`done`](Self::done) do not wait for them.
    ///
    /// # Errors
    ///
    /// Whatever kept the call from returning; [`Error::InvalidArgument`] when called inside the
    /// call itself or inside the future's own callback, where it could only wait for ever.
    pub fn result(self) -> Result<T, Error> {
        self.take_by(None).unwrap_or_else(|| Err(waits_for_itself(self.watch())))
    }

    /// As [`result`](Self::result), for `limit` at the most. The outcome is moved out once; the
    /// future can be asked again after a time-out. A future that is done never times out, not
    /// even with a limit of zero.
    ///
    /// # Errors
    ///
    /// As [`result`](Self::result), and [`Error::TimedOut`].
    pub fn result_timeout(&mut self, limit: Duration) -> Result<T, Error> {
        self.take_by(Some(limit)).unwrap_or_else(|| Err(late(self.watch(), limit)))
    }

    /// The outcome, if it is there; moved out. Never waits.
    pub fn try_result(&mut self) -> Option<Result<T, Error>> {
        self.cell.take()
    }

    /// Waits, then tells the error; `None` when the call returned a value. A cancelled future
    /// gives [`Error::Cancelled`].
    #[must_use]
    pub fn exception(&self) -> Option<Error> {
        self.wait();
        self.cell.error()
    }

    /// Cancels the call if it has not started. True if it will never run (also when it had been
    /// cancelled before), false if it runs or has ended.
    pub fn cancel(&self) -> bool {
        self.cell.cancel()
    }

    /// As [`cancel`](Self::cancel), and stops a call that runs where the engine can: the worker
    /// process that runs it is killed, and the future ends with [`Error::WorkerDied`].
    /// False for a call that has ended, and for one that runs on a thread: threads cannot be stopped.
    pub fn kill(&self) -> bool {
        self.cell.kill()
    }

    /// Was the call cancelled?
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.cell.phase() == Phase::Cancelled
    }

    /// Has a worker started the call, and not ended it?
    #[must_use]
    pub fn running(&self) -> bool {
        self.cell.phase() == Phase::Running
    }

    /// Is the future over: value, error or cancelled?
    #[must_use]
    pub fn done(&self) -> bool {
        self.cell.phase().is_over()
    }

    /// Waits until the future is over. Inside the call itself it returns at once.
    pub fn wait(&self) {
        block(self.watch(), Want::End, None);
    }

    /// Waits for `limit` at the most; true if the future is over.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        block(self.watch(), Want::End, deadline_after(limit))
    }

    /// Runs `callback` once, when the future is over: in the thread that ends the call or cancels
    /// it, or here and now if it is over already. Callbacks run in the order in which they were
    /// added, after the waiters have been woken; a panic in one does not keep the next from running.
    ///
    /// A callback that is added while others look at the value runs after them, in their thread.
    pub fn add_done_callback(&self, callback: impl FnOnce(Result<&T, &Error>) + Send + 'static) {
        if let Err(callback) = self.cell.on_done(Box::new(callback)) {
            let error = Error::invalid(
                format!("the result of {} has been taken before the callback was added", self.cell.task()),
                "add callbacks before `result_timeout` or `try_result`, or make the future `shared()`",
            );
            crate::outcome::shielded(|| callback(Err(&error)));
        }
    }

    /// The future's number.
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.cell.task().id
    }

    /// A handle that can be cloned, and whose result can be looked at many times.
    pub fn shared(self) -> SharedFuture<T> {
        SharedFuture::new(self.cell)
    }

    fn watch(&self) -> &dyn Watch {
        &*self.cell
    }

    /// `None`: the time is over, or would be spent for nothing.
    fn take_by(&self, limit: Option<Duration>) -> Option<Result<T, Error>> {
        let deadline = limit.and_then(deadline_after);
        loop {
            if let Some(outcome) = self.cell.take() {
                return Some(outcome);
            }
            if !block(self.watch(), Want::Value, deadline) {
                // The last look is at the state, not at the clock.
                return self.cell.take();
            }
        }
    }
}

fn waits_for_itself(cell: &dyn Watch) -> Error {
    Error::invalid(
        format!("{} waits for its own result", cell.task()),
        "inside the call, return the value; inside a callback, use the one that it is given",
    )
}

/// Why a wait with a limit came back without the value.
fn late(cell: &dyn Watch, limit: Duration) -> Error {
    if cell.waits_for_itself(Want::Value) {
        return waits_for_itself(cell);
    }
    Error::TimedOut { what: cell.task().to_string(), limit }
}

impl<T> std::future::Future for Future<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.cell.poll(context)
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

/// How futures and promises print themselves: never the value.
fn describe(f: &mut fmt::Formatter<'_>, kind: &str, cell: &dyn Watch) -> fmt::Result {
    let task = cell.task();
    f.debug_struct(kind)
        .field("id", &task.id.get())
        .field("task", &task.name)
        .field("state", &cell.phase())
        .finish()
}
