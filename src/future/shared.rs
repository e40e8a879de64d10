//! [`SharedFuture`]: one outcome, many readers.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::block::{block, deadline_after, late, waits_for_itself};
use super::cell::{Shared, Want, describe};
use super::state::Phase;

use crate::error::Error;
use crate::id::FutureId;

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
pub struct SharedFuture<T> {
    cell: Arc<dyn Shared<T>>,
    outcome: Arc<OnceLock<Result<T, Error>>>,
}

impl<T> SharedFuture<T> {
    pub(super) fn new(cell: Arc<dyn Shared<T>>) -> Self {
        SharedFuture { cell, outcome: Arc::default() }
    }

    /// Waits for the outcome and shows it. `result().cloned()` gives a value of one's own.
    ///
    /// # Errors
    ///
    /// As [`Future::result`](super::Future::result).
    pub fn result(&self) -> Result<&T, Error> {
        self.outcome_by(None).unwrap_or_else(|| Err(waits_for_itself(&*self.cell)))
    }

    /// As [`result`](Self::result), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// As [`result`](Self::result), and [`Error::TimedOut`].
    pub fn result_timeout(&self, limit: Duration) -> Result<&T, Error> {
        self.outcome_by(Some(limit)).unwrap_or_else(|| Err(late(&*self.cell, limit)))
    }

    /// Waits, then tells the error; `None` when the call returned a value.
    #[must_use]
    pub fn exception(&self) -> Option<Error> {
        self.result().err()
    }

    /// As [`Future::cancel`](super::Future::cancel).
    pub fn cancel(&self) -> bool {
        self.cell.cancel()
    }

    /// As [`Future::kill`](super::Future::kill).
    pub fn kill(&self) -> bool {
        self.cell.kill()
    }

    /// As [`Future::cancelled`](super::Future::cancelled).
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.cell.phase() == Phase::Cancelled
    }

    /// As [`Future::running`](super::Future::running).
    #[must_use]
    pub fn running(&self) -> bool {
        self.cell.phase() == Phase::Running
    }

    /// As [`Future::done`](super::Future::done).
    #[must_use]
    pub fn done(&self) -> bool {
        self.cell.phase().is_over()
    }

    /// As [`Future::wait`](super::Future::wait).
    pub fn wait(&self) {
        block(&*self.cell, Want::End, None);
    }

    /// As [`Future::wait_timeout`](super::Future::wait_timeout).
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        block(&*self.cell, Want::End, deadline_after(limit))
    }

    /// The future's number.
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.cell.task().id
    }

    pub(super) fn cell(&self) -> &dyn Shared<T> {
        &*self.cell
    }

    fn outcome_by(&self, limit: Option<Duration>) -> Option<Result<&T, Error>> {
        if self.outcome.get().is_none() && !block(&*self.cell, Want::Value, limit.and_then(deadline_after)) {
            return None;
        }
        // The first reader moves the outcome from the cell to where references to it can live.
        let outcome = self.outcome.get_or_init(|| {
            self.cell.take().unwrap_or_else(|| unreachable!("its value is there, and only we take it"))
        });
        Some(outcome.as_ref().map_err(Error::clone))
    }
}

impl<T> Clone for SharedFuture<T> {
    fn clone(&self) -> Self {
        SharedFuture { cell: Arc::clone(&self.cell), outcome: Arc::clone(&self.outcome) }
    }
}

impl<T> fmt::Debug for SharedFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "SharedFuture", &*self.cell)
    }
}
