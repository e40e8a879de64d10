//! [`CancelOnDrop`]: a future whose call is not wanted any more when nobody waits for it.
//!
//! Not here: how a call is cancelled or stopped (`cell.rs`, `away.rs`). The rule: who drops it has been told enough: an error
//! that comes of it is none that nobody read.

use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::handle::Future;
use super::wait::{AsFuture, Watched};
use crate::error::Error;

/// A [`Future`] that cancels its call when it is dropped before the call is over: made by [`Future::cancel_on_drop`].
///
/// It is awaited as the future is, and everything that can be asked of the future can be asked of it.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// let wanted = pool.spawn(|| 6 * 7).cancel_on_drop();
/// wanted.wait();                              // what a future has, it has
/// assert_eq!(wanted.result()?, 42);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "dropping it cancels the call"]
pub struct CancelOnDrop<T> {
    /// Absent once it was taken out.
    future: Option<Future<T>>,
}

impl<T> Future<T> {
    /// The same future with a guard: when it is dropped before the call is over, the call is cancelled, or
    /// [killed](Self::kill) if it runs in a worker process; one that runs on a thread is told that it is not
    /// wanted ([`task::cancelled`](crate::task::cancelled)). For async code, where what is not polled to its end is dropped:
    /// by a time-out, by `select!`, by a client that hangs up.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ThreadPoolExecutor};
    ///
    /// # async fn handle(pool: &ThreadPoolExecutor) -> Result<u32, concurrent_futures::Error> {
    /// // If whoever polls this goes away, so does the call.
    /// pool.submit(|n: u32| n * n, 12).cancel_on_drop().await
    /// # }
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let gate = std::sync::Arc::new(std::sync::Barrier::new(2));
    /// let first = pool.spawn({ let gate = gate.clone(); move || { gate.wait(); } });
    /// let second = pool.spawn(|| unreachable!("nobody wants it")).cancel_on_drop();
    /// drop(second);
    /// gate.wait();
    /// first.result()?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop { future: Some(self) }
    }
}

impl<T> CancelOnDrop<T> {
    /// The future alone: dropping that cancels nothing.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let guarded = pool.spawn(|| 6 * 7).cancel_on_drop();
    /// let future = guarded.into_inner();          // from here on it runs to its end
    /// assert_eq!(future.result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn into_inner(mut self) -> Future<T> {
        self.future.take().unwrap_or_else(|| unreachable!("only this takes it, and the end"))
    }

    /// As [`Future::result`]. The call is wanted to its end.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// assert_eq!(pool.spawn(|| 6 * 7).cancel_on_drop().result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Future::result`].
    pub fn result(self) -> Result<T, Error> {
        self.into_inner().result()
    }
}

impl<T> Deref for CancelOnDrop<T> {
    type Target = Future<T>;

    fn deref(&self) -> &Future<T> {
        self.future.as_ref().unwrap_or_else(|| unreachable!("it is there until it is consumed"))
    }
}

impl<T> std::future::Future for CancelOnDrop<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.future {
            Some(future) => Pin::new(future).poll(context),
            None => unreachable!("it is there until it is consumed"),
        }
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take()
            && !future.done()
        {
            future.kill();
            // It ends as it was asked to, so there is no error that somebody missed.
            future.excuse();
        }
    }
}

impl<T> AsFuture for CancelOnDrop<T> {
    fn watched(&self) -> Watched<'_> {
        (**self).watched()
    }
}

impl<T> fmt::Debug for CancelOnDrop<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelOnDrop").field(&self.future).finish()
    }
}
