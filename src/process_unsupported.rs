//! What stands for the process engine on platforms that it was not written for: the same names,
//! and constructors that say so.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crate::error::Error;
use crate::executor::{Executor, Shutdown};
use crate::observer::Observer;
use crate::portable::Portable;
use crate::task::Task;
use crate::worker::WorkerInfo;

/// Does nothing on this platform, which has no process pools yet.
pub fn init() {}

/// There are no workers.
#[cfg(feature = "timeline")]
pub(crate) fn is_below_a_worker() -> bool {
    false
}

/// Not known here.
#[cfg(feature = "timeline")]
pub(crate) fn has_foreign_rights() -> bool {
    false
}

/// A pool of worker processes: not on this platform yet, so no value of it exists.
#[derive(Debug)]
pub struct ProcessPoolExecutor(Infallible);

impl ProcessPoolExecutor {
    /// # Errors
    ///
    /// [`Error::Unsupported`].
    pub fn new(max_workers: usize) -> Result<Self, Error> {
        Self::builder().max_workers(max_workers).build()
    }

    /// A builder whose `build` says that this platform has no process pools yet.
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder(())
    }

    /// Never called: there is no pool.
    #[must_use]
    pub fn max_workers(&self) -> usize {
        match self.0 {}
    }

    /// Never called: there is no pool.
    #[expect(clippy::missing_errors_doc, reason = "it is never called")]
    pub fn set_max_workers(&self, _max_workers: usize) -> Result<(), Error> {
        match self.0 {}
    }

    /// Never called: there is no pool.
    #[must_use]
    pub fn worker_pids(&self) -> Vec<u32> {
        match self.0 {}
    }

    /// Never called: there is no pool.
    pub fn terminate_workers(&self) {
        match self.0 {}
    }

    /// Never called: there is no pool.
    pub fn kill_workers(&self) {
        match self.0 {}
    }
}

impl Executor for ProcessPoolExecutor {
    fn execute(&self, _task: Task) {
        match self.0 {}
    }

    fn shutdown_with(&self, _how: Shutdown) {
        match self.0 {}
    }
}

/// What becomes of a process pool when one of its workers dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerDeath {
    /// Another worker takes its place.
    #[default]
    Replace,
    /// The pool is broken.
    Break,
}

/// Sets up nothing: [`build`](Self::build) says so.
#[must_use]
pub struct ProcessPoolBuilder(());

impl fmt::Debug for ProcessPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessPoolBuilder")
    }
}

impl ProcessPoolBuilder {
    /// As on other platforms.
    pub fn max_workers(self, _processes: usize) -> Self {
        self
    }

    /// As on other platforms.
    pub fn name(self, _name: impl Into<String>) -> Self {
        self
    }

    /// As on other platforms.
    pub fn env(self, _key: impl AsRef<OsStr>, _value: impl AsRef<OsStr>) -> Self {
        self
    }

    /// As on other platforms.
    pub fn env_remove(self, _key: impl AsRef<OsStr>) -> Self {
        self
    }

    /// As on other platforms.
    pub fn env_clear(self) -> Self {
        self
    }

    /// As on other platforms.
    pub fn current_dir(self, _path: impl AsRef<Path>) -> Self {
        self
    }

    /// As on other platforms.
    pub fn uid(self, _user: u32) -> Self {
        self
    }

    /// As on other platforms.
    pub fn gid(self, _group: u32) -> Self {
        self
    }

    /// As on other platforms.
    pub fn groups(self, _groups: &[u32]) -> Self {
        self
    }

    /// As on other platforms.
    pub fn max_message_bytes(self, _bytes: u64) -> Self {
        self
    }

    /// As on other platforms.
    pub fn memory_limit(self, _bytes: u64) -> Self {
        self
    }

    /// As on other platforms.
    pub fn initializer<F: Fn(A) + Copy + Send + 'static, A: Portable>(
        self,
        _function: F,
        _argument: A,
    ) -> Self {
        self
    }

    /// As on other platforms.
    pub fn finalizer<F: Fn(A) + Copy + Send + 'static, A: Portable>(
        self,
        _function: F,
        _argument: A,
    ) -> Self {
        self
    }

    /// As on other platforms.
    pub fn on_worker_start(self, _hook: impl Fn(&WorkerInfo) + Send + Sync + 'static) -> Self {
        self
    }

    /// As on other platforms.
    pub fn on_worker_exit(
        self,
        _hook: impl Fn(&WorkerInfo, Option<ExitStatus>) + Send + Sync + 'static,
    ) -> Self {
        self
    }

    /// As on other platforms.
    pub fn pin_workers(self, _yes: bool) -> Self {
        self
    }

    /// As on other platforms.
    pub fn max_tasks_per_child(self, _tasks: usize) -> Self {
        self
    }

    /// As on other platforms.
    pub fn max_memory_per_child(self, _bytes: usize) -> Self {
        self
    }

    /// As on other platforms.
    pub fn task_timeout(self, _limit: Duration) -> Self {
        self
    }

    /// As on other platforms.
    pub fn start_timeout(self, _limit: Duration) -> Self {
        self
    }

    /// As on other platforms.
    pub fn grace_period(self, _limit: Duration) -> Self {
        self
    }

    /// As on other platforms.
    pub fn on_worker_death(self, _then: WorkerDeath) -> Self {
        self
    }

    /// As on other platforms.
    pub fn max_restarts_per_minute(self, _workers: usize) -> Self {
        self
    }

    /// As on other platforms.
    pub fn idle_timeout(self, _limit: Duration) -> Self {
        self
    }

    /// As on other platforms.
    pub fn max_pending(self, _tasks: usize) -> Self {
        self
    }

    /// As on other platforms.
    pub fn observer(self, _observer: impl Observer + 'static) -> Self {
        self
    }

    /// # Errors
    ///
    /// [`Error::Unsupported`].
    pub fn build(self) -> Result<ProcessPoolExecutor, Error> {
        Err(Error::Unsupported {
            what: "process pools on this platform are",
            remedy: "use `ThreadPoolExecutor`",
        })
    }
}
