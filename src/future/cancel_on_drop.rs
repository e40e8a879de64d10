//! [`CancelOnDrop`]: a future whose call is not wanted any more when it is dropped.
//!
//! Not here: cancelling and killing, which are the cell's. The rule: what was over when the guard went stays as it is.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::handle::Future;
use super::wait::{AsFuture, Watched};
use crate::error::Error;

/// A [`Future`] that cancels its call when it is dropped, and kills it where it runs and the engine can, as
/// [`Future::kill`] does. Made by [`Future::cancel_on_drop`].
///
/// It is awaited as the future is. So whatever drops what it awaits (a time limit, `select!`, an
/// aborted task) takes the call with it. Dropping it does not wait: a worker process that is killed is gone a moment later,
/// and a call that runs on a thread runs on.
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let sum = futures_lite::future::block_on(async {
///     pool.submit(|(a, b)| a + b, (2, 3)).cancel_on_drop().await
/// });
/// assert_eq!(sum?, 5);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "a guard that is dropped cancels its call"]
pub struct CancelOnDrop<T> {
    /// Absent once it was taken out.
    future: Option<Future<T>>,
}

impl<T> Future<T> {
    /// From now on, dropping it cancels the call, and kills it where it runs and the engine can.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (open, gate) = std::sync::mpsc::channel();
    /// let held = pool.spawn(move || gate.recv());
    /// drop(pool.spawn(|| panic!("never runs")).cancel_on_drop());
    /// open.send(()).unwrap();
    /// assert!(held.result()?.is_ok());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop { future: Some(self) }
    }
}

impl<T> CancelOnDrop<T> {
    /// The future itself; dropping that detaches again.
    pub fn into_inner(mut self) -> Future<T> {
        self.future
            .take()
            .unwrap_or_else(|| unreachable!("only `into_inner`, which consumes the guard, takes it"))
    }

    /// The future, to look at.
    pub fn get_ref(&self) -> &Future<T> {
        self.future.as_ref().unwrap_or_else(|| unreachable!("as in `into_inner`"))
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take()
            && future.kill()
        {
            // That it was lost is what was asked for.
            future.excuse();
        }
    }
}

impl<T> std::future::Future for CancelOnDrop<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.future {
            Some(future) => Pin::new(future).poll(context),
            None => unreachable!("as in `into_inner`"),
        }
    }
}

impl<T> AsFuture for CancelOnDrop<T> {
    fn watched(&self) -> Watched<'_> {
        self.get_ref().watched()
    }
}

impl<T> fmt::Debug for CancelOnDrop<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelOnDrop").field(&self.future).finish()
    }
}
