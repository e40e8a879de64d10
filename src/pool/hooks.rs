//! [`WorkerInfo`]: what the hooks of a pool are told of a worker that starts or leaves.
//!
//! Not here: when they are called (`thread/context.rs`, `process/departures.rs`). The rule: a hook runs in the thread of
//! its worker, without a lock, and its panic goes nowhere.

/// Which worker starts, or has left: for the hooks of
/// [thread pools](crate::ThreadPoolBuilder::on_worker_start) and
/// [process pools](crate::ProcessPoolBuilder::on_worker_start).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// As its thread, or its process, is named: `<name of the pool>_<number>`.
    pub name: String,
    /// Workers are numbered as they are hired, from 0. A process that takes the place of another has its number.
    pub number: usize,
    /// The process, if it is one.
    pub pid: Option<u32>,
}
