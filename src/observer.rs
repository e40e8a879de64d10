//! [`Observer`]: who wants to know what happens in a pool, as it happens. What there is beside it (`tracing`, the
//! timeline) is built on this and nothing else.
//!
//! ```text
//!   Submitted ──▶ Started ──▶ Finished · Failed · TimedOut            Spawned ──▶ Ready ──▶ Recycled · Died · Left
//!       │            │ ▲                                                worker
//!       │   Retried ◀┘ │  Progress
//!       └──▶ Cancelled · Failed (never ran)
//! ```
//!
//! Not here: who tells (`account.rs`, for calls; the contexts of the engines, for workers), and numbers (`stats.rs`).
//!
//! The rule: each call that was submitted has one end, told before anybody who waits for it is woken; and nobody is told
//! anything under a lock.

use std::fmt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::id::TaskRef;
use crate::outcome::shielded;
use crate::worker::WorkerInfo;

/// Hears what happens in a pool: what is submitted, started, ended, and what becomes of its workers.
///
/// Given to a pool by [`ThreadPoolBuilder::observer`](crate::ThreadPoolBuilder::observer) or
/// [`ProcessPoolBuilder::observer`](crate::ProcessPoolBuilder::observer), or to all pools that are built from then on by
/// [`observe`].
///
/// It is called in the thread where the thing happens, as a part of it: for [`Submitted`](What::Submitted) in the thread
/// that submits, for the start of a call in a thread pool in the thread that runs it. So it should be quick, and must not
/// wait for calls of the pool that it observes. Several threads call it at the same time. Its panic goes nowhere (the panic
/// hook has told of it). No lock of the pool is held.
///
/// What is told of one call comes in order: first that it was submitted, last its end, once; and the end is told before
/// anybody who waits for the future is woken. So who has a result knows that its observer has heard of it. A pool without
/// an observer pays nothing for this; with one, a call costs half a microsecond more and whatever the observer does, and items of a
/// `map` on threads are handed out one by one, not many at a time.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use concurrent_futures::{Event, Observer, ThreadPoolExecutor, What};
///
/// #[derive(Default)]
/// struct Failures(AtomicUsize);
///
/// impl Observer for Failures {
///     fn notice(&self, event: &Event<'_>) {
///         if let What::Failed { task, error, .. } = event.what {
///             eprintln!("{}: {task} failed: {error}", event.pool);
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let failures = Arc::new(Failures::default());
/// let pool = ThreadPoolExecutor::builder().max_workers(2).observer(failures.clone()).build()?;
/// let parsed = pool.try_submit(|text: &str| text.parse::<u32>(), "forty-two");
/// assert!(parsed.result().is_err());
/// assert_eq!(failures.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub trait Observer: Send + Sync {
    /// Something has happened. Several threads may say so at the same time.
    ///
    /// ```
    /// use concurrent_futures::{Event, Observer};
    ///
    /// struct Log;
    ///
    /// impl Observer for Log {
    ///     fn notice(&self, event: &Event<'_>) {
    ///         println!("{:?} {}: {:?}", event.at, event.pool, event.what);
    ///     }
    /// }
    /// ```
    fn notice(&self, event: &Event<'_>);
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn notice(&self, event: &Event<'_>) {
        (**self).notice(event);
    }
}

/// Something that has happened in a pool: what an [`Observer`] is given.
///
/// ```
/// use concurrent_futures::{Event, What};
///
/// fn line(event: &Event<'_>) -> String {
///     match event.what {
///         What::Finished { task, ran, .. } => format!("{}: {task} took {ran:?}", event.pool),
///         other => format!("{}: {other:?}", event.pool),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Event<'a> {
    /// When. What happens in this process is told at once. That a worker process was started is told when it has said Hello,
    /// and that it began a short call perhaps together with the end of that: then `at` is earlier.
    pub at: Instant,
    /// The name of the pool, by which its workers are named.
    pub pool: &'a str,
    /// The number of the pool, unique in this process.
    pub pool_id: u32,
    /// What has happened.
    pub what: What<'a>,
}

/// What has happened.
///
/// More kinds may come, so a `match` needs an arm for the rest:
///
/// ```
/// use concurrent_futures::What;
///
/// fn is_end(what: &What<'_>) -> bool {
///     use What::*;
///     matches!(what, Finished { .. } | Failed { .. } | TimedOut { .. } | Cancelled { .. })
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum What<'a> {
    /// A call was handed in. One that is refused fails at once.
    #[non_exhaustive]
    Submitted {
        /// The call.
        task: TaskRef,
        /// How many calls it is: the items of a chunk of a map, which are submitted, run and end together; otherwise 1.
        calls: usize,
    },
    /// A worker has begun it.
    #[non_exhaustive]
    Started {
        /// The call.
        task: TaskRef,
        /// Which attempt this is, from 1.
        attempt: u32,
        /// Who runs it. `None` where that is none of the pool's workers.
        worker: Option<&'a WorkerInfo>,
        /// How long it was queued: since it was submitted, or put back for another attempt.
        waited: Duration,
    },
    /// It says how far it is ([`task::progress`](crate::task::progress)).
    #[non_exhaustive]
    Progress {
        /// The call.
        task: TaskRef,
        /// So many units of its own.
        done: u64,
        /// Of so many; 0 where that is not known.
        total: u64,
    },
    /// It has returned a value. (Items of a chunk may have failed: [`Submitted`](What::Submitted) says how many there are.)
    #[non_exhaustive]
    Finished {
        /// The call.
        task: TaskRef,
        /// How long it ran.
        ran: Duration,
        /// How many items of the chunk failed.
        failed: usize,
    },
    /// It ended with an error that is none of the following.
    #[non_exhaustive]
    Failed {
        /// The call.
        task: TaskRef,
        /// The error of its future.
        error: &'a Error,
        /// How long it ran; `None` if it never did.
        ran: Option<Duration>,
    },
    /// It was stopped at its time limit: the error is [`Error::TimedOut`], or [`Error::GaveUp`] after such attempts.
    #[non_exhaustive]
    TimedOut {
        /// The call.
        task: TaskRef,
        /// The error of its future.
        error: &'a Error,
        /// How long it ran; `None` if it never did.
        ran: Option<Duration>,
    },
    /// It was cancelled before it ran.
    #[non_exhaustive]
    Cancelled {
        /// The call.
        task: TaskRef,
    },
    /// An attempt failed, and there is to be another one.
    #[non_exhaustive]
    Retried {
        /// The call.
        task: TaskRef,
        /// What came of the last attempt.
        error: &'a Error,
        /// The number of the next attempt.
        attempt: u32,
        /// When that may begin.
        due: Instant,
    },
    /// A worker was started: its thread runs, its process is there and has said Hello. Its initializer is still to run.
    #[non_exhaustive]
    WorkerSpawned {
        /// The worker.
        worker: &'a WorkerInfo,
    },
    /// Its initializer has run, if there is one: it takes calls.
    #[non_exhaustive]
    WorkerReady {
        /// The worker.
        worker: &'a WorkerInfo,
    },
    /// A worker process is used up ([`max_tasks_per_child`](crate::ProcessPoolBuilder::max_tasks_per_child),
    /// [`max_memory_per_child`](crate::ProcessPoolBuilder::max_memory_per_child)), and another will take its place.
    #[non_exhaustive]
    WorkerRecycled {
        /// The worker.
        worker: &'a WorkerInfo,
    },
    /// A worker process has ended, and was not asked to leave: it crashed, was killed, or was stopped with its call.
    #[non_exhaustive]
    WorkerDied {
        /// The worker.
        worker: &'a WorkerInfo,
        /// How it ended, if that is known.
        status: Option<ExitStatus>,
    },
    /// A worker has left: there was nothing to do for it, or the pool ends.
    #[non_exhaustive]
    WorkerLeft {
        /// The worker.
        worker: &'a WorkerInfo,
    },
    /// The pool is over: it was shut down, every call has ended, and its workers are gone. Nothing comes after it.
    #[non_exhaustive]
    PoolOver {},
}

impl What<'_> {
    /// The call that this is about, if it is about one.
    ///
    /// ```
    /// use concurrent_futures::{Event, FutureId};
    ///
    /// fn is_about(event: &Event<'_>, id: FutureId) -> bool {
    ///     event.what.task().is_some_and(|task| task.id == id)
    /// }
    /// ```
    #[must_use]
    pub fn task(&self) -> Option<TaskRef> {
        use What::*;
        match *self {
            Submitted { task, .. }
            | Started { task, .. }
            | Progress { task, .. }
            | Finished { task, .. }
            | Failed { task, .. }
            | TimedOut { task, .. }
            | Cancelled { task, .. }
            | Retried { task, .. } => Some(task),
            WorkerSpawned { .. }
            | WorkerReady { .. }
            | WorkerRecycled { .. }
            | WorkerDied { .. }
            | WorkerLeft { .. }
            | PoolOver {} => None,
        }
    }

    /// The worker that this is about, if it is about one: that starts or leaves, or has begun a call.
    ///
    /// ```
    /// use concurrent_futures::Event;
    ///
    /// fn lane(event: &Event<'_>) -> Option<usize> {
    ///     event.what.worker().map(|worker| worker.number)
    /// }
    /// ```
    #[must_use]
    pub fn worker(&self) -> Option<&WorkerInfo> {
        use What::*;
        match *self {
            Started { worker, .. } => worker,
            WorkerSpawned { worker }
            | WorkerReady { worker }
            | WorkerRecycled { worker }
            | WorkerDied { worker, .. }
            | WorkerLeft { worker } => Some(worker),
            Submitted { .. }
            | Progress { .. }
            | Finished { .. }
            | Failed { .. }
            | TimedOut { .. }
            | Cancelled { .. }
            | Retried { .. }
            | PoolOver {} => None,
        }
    }
}

/// Has `observer` hear of every pool that is built from now on, in this process.
///
/// For programs; a library leaves it to them. It cannot be taken back.
///
/// ```
/// use concurrent_futures::{Event, Observer, ThreadPoolExecutor, observe};
///
/// struct Log;
///
/// impl Observer for Log {
///     fn notice(&self, event: &Event<'_>) {
///         println!("{}: {:?}", event.pool, event.what);
///     }
/// }
///
/// observe(Log);
/// ThreadPoolExecutor::new(1)?.submit(|n: u32| n + 1, 41).result()?;
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub fn observe(observer: impl Observer + 'static) {
    let mut all = EVERYWHERE.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(Arc::new(observer));
}

static EVERYWHERE: Mutex<Vec<Arc<dyn Observer>>> = Mutex::new(Vec::new());

/// Those who observe a pool.
#[derive(Clone, Default)]
pub(crate) struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    pub(crate) fn add(&mut self, observer: impl Observer + 'static) {
        self.0.push(Arc::new(observer));
    }

    /// With those who observe all pools.
    pub(crate) fn and_all(mut self) -> Self {
        #[cfg(feature = "timeline")]
        if let Some(recorder) = crate::timeline::of_environment() {
            self.add(recorder);
        }
        let all = EVERYWHERE.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.extend(all.iter().cloned());
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells each of them. No lock may be held.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        for observer in &self.0 {
            shielded(|| observer.notice(event));
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.len().fmt(f)
    }
}
