//! [`SerialExecutor`]: runs each call in the caller, at once.

use crate::error::Error;
use crate::executor::{Executor, Shutdown};
use crate::primitives::{AtomicBool, Ordering};
use crate::task::Task;

/// Runs each call in the thread that submits it, before `submit` returns: to debug, to test, and
/// as the baseline of a comparison. The same trait and the same errors as the pools. So `map` has
/// done all the work when it returns; `map_with` and a `buffersize` of 1 does it item by item.
///
/// ```
/// use concurrent_futures::{Executor, SerialExecutor};
///
/// let future = SerialExecutor::new().submit(|n: u32| n + 1, 1);
/// assert!(future.done());
/// assert_eq!(future.result()?, 2);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct SerialExecutor {
    closed: AtomicBool,
}

impl SerialExecutor {
    /// An executor without workers.
    ///
    /// ```
    /// use concurrent_futures::{Executor, SerialExecutor};
    ///
    /// let serial = SerialExecutor::new();
    /// assert_eq!(serial.map(|n: u32| n * n, 1..=3).collect::<Result<Vec<_>, _>>()?, [1, 4, 9]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn new() -> Self {
        SerialExecutor::default()
    }
}

impl Executor for SerialExecutor {
    fn execute(&self, task: Task) {
        if self.closed.load(Ordering::Relaxed) {
            let refused = Error::ShutDown { task: task.task() };
            return task.fail(refused);
        }
        task.run();
    }

    fn shutdown_with(&self, _how: Shutdown) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn shutdown_timeout(&self, _limit: std::time::Duration) -> bool {
        self.shutdown();
        true
    }
}
