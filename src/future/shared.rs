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
    pub fn shared(self) -> SharedFuture<T> {
        SharedFuture(Arc::new(Inner { future: self, outcome: OnceLock::new() }))
    }
}

impl<T> SharedFuture<T> {
    /// Waits for the outcome and shows it. `result().cloned()` gives a value of one's own.
    ///
    /// # Errors
    ///
    /// As [`Future::result`](super::Future::result).
    pub fn result(&self) -> Result<&T, Error> {
        self.outcome_by(None).unwrap_or_else(|| Err(waits_for_itself(self.watch())))
    }

    /// As [`result`](Self::result), for `limit` at the most.
    ///
    /// # Errors
    ///
    /// As [`result`](Self::result), and [`Error::TimedOut`].
    pub fn result_timeout(&self, limit: Duration) -> Result<&T, Error> {
        self.outcome_by(Some(limit)).unwrap_or_else(|| Err(late(self.watch(), limit)))
    }

    /// Waits, then tells the error; `None` when the call returned a value.
    #[must_use]
    pub fn exception(&self) -> Option<Error> {
        self.result().err()
    }

    /// As [`Future::cancel`](super::Future::cancel).
    pub fn cancel(&self) -> bool {
        self.0.future.cancel()
    }

    /// As [`Future::kill`](super::Future::kill).
    pub fn kill(&self) -> bool {
        self.0.future.kill()
    }

    /// As [`Future::on_progress`](super::Future::on_progress).
    pub fn on_progress(&self, listener: impl Fn(u64, u64) + Send + Sync + 'static) {
        self.0.future.on_progress(listener);
    }

    /// As [`Future::cancelled`](super::Future::cancelled).
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.0.future.cancelled()
    }

    /// As [`Future::running`](super::Future::running).
    #[must_use]
    pub fn running(&self) -> bool {
        self.0.future.running()
    }

    /// As [`Future::done`](super::Future::done).
    #[must_use]
    pub fn done(&self) -> bool {
        self.0.future.done()
    }

    /// As [`Future::wait`](super::Future::wait).
    pub fn wait(&self) {
        self.0.future.wait();
    }

    /// As [`Future::wait_timeout`](super::Future::wait_timeout).
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.0.future.wait_timeout(limit)
    }

    /// As [`Future::add_done_callback`](super::Future::add_done_callback), also when the outcome has
    /// been looked at.
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
