//! [`WorkerInfo`]: what hooks and observers are told of a worker. Data only.
//!
//! Not here: when hooks are called (`thread/context.rs`, `process/departures.rs`), what observers hear (`observer.rs`). The rule: a hook runs in the thread of
//! its worker, without a lock, and its panic goes nowhere.

/// Which worker starts, or has left: for the hooks of
/// [thread pools](crate::ThreadPoolBuilder::on_worker_start) and
/// [process pools](crate::ProcessPoolBuilder::on_worker_start).
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use concurrent_futures::{ThreadPoolExecutor, WorkerInfo};
///
/// let seen = Arc::new(Mutex::new(Vec::new()));
/// let own = Arc::clone(&seen);
/// let note = move |worker: &WorkerInfo| own.lock().unwrap().push(worker.clone());
/// let builder = ThreadPoolExecutor::builder().max_workers(1).thread_name_prefix("fetch");
/// let pool = builder.on_worker_start(note).build()?;
/// pool.spawn(|| ()).result()?;
/// let worker = seen.lock().unwrap().remove(0);
/// assert_eq!((&*worker.name, worker.number, worker.pid), ("fetch_0", 0, None));
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// As its thread, or its process, is named: `<name of the pool>_<number>`. On another machine: as it is called there.
    pub name: String,
    /// Workers are numbered as they are hired, from 0; those on other machines as they are heard of. A process that takes the
    /// place of another has its number.
    pub number: usize,
    /// The process, if it is one; on another machine, it is one of that.
    pub pid: Option<u32>,
}
