//! [`ProcessPoolExecutor`]: calls run in other processes, which are copies of this program.
//!
//! ```text
//!   submit ── encode ──▶ queue ──▶ worker thread ══ pipe ══▶ child process: decode, call, encode
//!                                       │                            │
//!   future ◀── decode ── complete ◀─────┴──────── pipe ══════════════┘
//! ```
//!
//! A worker is a thread of the host that owns one child (`context.rs`, `child.rs`); the child's
//! side is `entry.rs`. No pipe and no lock is shared between workers, so the death of one, also
//! in the middle of a message, is the end of a file for its own thread and nothing for the others.

mod child;
mod context;
mod deaths;
mod entry;
mod invitation;
mod memory;
mod pipes;
mod sys;
mod terms;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use child::Slot;
use context::{Call, ProcessContext};
use deaths::Deaths;
pub use deaths::WorkerDeath;
pub use entry::init;
use memory::Resident;
use terms::Surroundings;

use crate::error::Error;
use crate::executor::{Executor, Shutdown};
use crate::id::{FutureId, TaskRef};
use crate::outcome;
use crate::pool::{Hiring, Place, Pool, usable_cpus};
use crate::portable::{self, Function, Once, Plain, Portable, guarded};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};
use crate::task::Task;
use crate::wire::frame::{self, Kind};
use crate::wire::message::{Terms, begin_call};

/// A pool of worker processes.
///
/// A crash costs the one call that crashed: its future ends with [`Error::WorkerDied`], the
/// worker is replaced, all others go on. Workers are copies of this program: [`init`] must be the
/// first line of `main`. They are started when a call comes and none is idle, up to
/// `max_workers`; idle ones are used first. Dropping the pool waits for all that was submitted.
///
/// Arguments are encoded by `submit`, in the caller's thread: what cannot be encoded ends its own
/// future, and later changes are not seen. What a call prints reaches the user's terminal, and
/// its stdin is empty. Lines of `println!` arrive whole; `eprintln!` with arguments is written in
/// pieces by the standard library, so lines of several processes can mix: format them first.
///
/// A callback runs in a thread of the pool, the one whose worker ended the call. If it waits for
/// another call of the pool, one more worker stands in until it goes on.
///
/// One queue, first in, first out, without a bound unless
/// [`max_pending`](ProcessPoolBuilder::max_pending) sets one. A call costs two messages over pipes:
/// some tens of microseconds, so hand over work in pieces of a millisecond or more, or in chunks
/// ([`MapOptions::chunksize`](crate::MapOptions::chunksize)). A worker costs under 1 MB and starts
/// in about a millisecond.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
///
/// fn divide((a, b): (u32, u32)) -> u32 {
///     a / b
/// }
///
/// fn main() -> Result<(), Error> {
///     concurrent_futures::init();
///     let pool = ProcessPoolExecutor::new(2)?;
///     assert_eq!(pool.submit(divide, (84, 2)).result()?, 42);
///     let error = pool.submit(divide, (84, 0)).result().unwrap_err();
///     assert!(error.to_string().contains("attempt to divide by zero"));
///     Ok(())
/// }
/// ```
pub struct ProcessPoolExecutor {
    pool: Arc<Pool<ProcessContext>>,
    plan: Arc<Plan>,
}

/// What all workers of a pool have in common.
struct Plan {
    name: String,
    surroundings: Surroundings,
    terms: Terms,
    initializer: Option<Initializer>,
    max_tasks_per_child: Option<usize>,
    max_memory_per_child: Option<usize>,
    task_timeout: Option<Duration>,
    /// For Hello, and for the initializer.
    start_timeout: Option<Duration>,
    grace_period: Duration,
    deaths: Deaths,
    /// The process of each worker thread, to be listed and killed.
    slots: Mutex<Vec<Arc<Slot>>>,
    /// The workers were killed for good: none is to be started any more.
    stopped: AtomicBool,
}

/// A call that each worker makes before its first task.
struct Initializer {
    task: TaskRef,
    frame: Vec<u8>,
}

impl ProcessPoolExecutor {
    /// A pool of `max_workers` processes at the most. None is started yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if `max_workers` is 0; [`Error::NotInitialised`] without [`init`].
    pub fn new(max_workers: usize) -> Result<Self, Error> {
        Self::builder().max_workers(max_workers).build()
    }

    /// A pool that is set up step by step.
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder::default()
    }

    /// The most processes it will have.
    #[must_use]
    pub fn max_workers(&self) -> usize {
        self.pool.max_workers()
    }

    /// The process ids of the workers there are now.
    #[must_use]
    pub fn worker_pids(&self) -> Vec<u32> {
        self.plan.slots.lock().iter().filter_map(|slot| slot.pid()).collect()
    }

    /// Ends the pool at once: what has not started is cancelled, every worker gets SIGTERM, and SIGKILL if
    /// it is still there after the [`grace_period`](ProcessPoolBuilder::grace_period). The calls that ran end with
    /// [`Error::WorkerDied`]. Does not wait.
    pub fn terminate_workers(&self) {
        let mut asked = Vec::new();
        self.stop(|slot| asked.extend(slot.terminate().map(|exit| (Arc::clone(slot), exit))));
        child::see_off(asked);
    }

    /// As [`terminate_workers`](Self::terminate_workers), with SIGKILL from the start.
    pub fn kill_workers(&self) {
        self.stop(|slot| slot.kill_call());
    }

    fn stop(&self, end: impl FnMut(&Arc<Slot>)) {
        self.plan.stopped.store(true, Ordering::Release);
        self.pool.shutdown(Shutdown { wait: false, cancel_futures: true });
        self.plan.slots.lock().iter().for_each(end);
    }

    /// Encodes a task and queues it. The argument's bytes are made when there is room for them.
    fn send(&self, task: Task, place: Place<'_>) {
        if let Some(refusal) = self.pool.refusal(task.task()) {
            return task.fail(refusal);
        }
        let item = task.into_portable(self.pool.home());
        let task = item.task();
        let mut frame = Vec::new();
        let encoded = item.encode(&mut frame).and_then(|attempts| {
            terms::admit(&self.plan.terms, task, &frame)?;
            Ok(attempts)
        });
        match encoded {
            Ok(attempts) => self.pool.submit(Call { item, frame, attempts }, place),
            Err(error) => item.fail(error, &|| ()),
        }
    }
}

impl Default for ProcessPoolExecutor {
    /// A pool of as many processes as there are usable CPUs. There is no error here: without
    /// [`init`] the pool is broken, and its futures end with [`Error::Broken`], which says why.
    fn default() -> Self {
        Self::builder().build().unwrap_or_else(|error| {
            let plan = Arc::new(Plan::new("ProcessPoolExecutor".into()));
            let name_prefix = plan.name.clone();
            let hiring = Hiring { max_workers: 1, name_prefix, ..Hiring::default() };
            let pool = Pool::of(hiring, context_maker(&plan));
            pool.fail(&error);
            ProcessPoolExecutor { pool, plan }
        })
    }
}

impl Executor for ProcessPoolExecutor {
    fn execute(&self, task: Task) {
        self.send(task, self.pool.place());
    }

    fn execute_or_return(&self, task: Task) -> Result<(), Task> {
        let Some(place) = self.pool.place_now() else { return Err(task) };
        self.send(task, place);
        Ok(())
    }

    fn shutdown_with(&self, how: Shutdown) {
        self.pool.shutdown(how);
    }

    fn shutdown_timeout(&self, limit: Duration) -> bool {
        self.pool.shutdown_timeout(limit)
    }
}

impl Drop for ProcessPoolExecutor {
    fn drop(&mut self) {
        self.pool.leave();
    }
}

impl fmt::Debug for ProcessPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.describe(f, "ProcessPoolExecutor")
    }
}

/// Sets up a [`ProcessPoolExecutor`].
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
///
/// fn prepare(language: String) {
///     println!("worker {} speaks {language}", std::process::id());
/// }
///
/// fn main() -> Result<(), Error> {
///     concurrent_futures::init();
///     let pool = ProcessPoolExecutor::builder()
///         .max_workers(1)
///         .name("greeters")
///         .initializer(prepare, "Latin".to_string())
///         .env("LANG", "la")
///         .max_tasks_per_child(100)
///         .build()?;
///     let lang = pool.submit(|()| std::env::var("LANG").unwrap_or_default(), ());
///     assert_eq!(lang.result()?, "la");
///     Ok(())
/// }
/// ```
#[derive(Default)]
#[must_use]
pub struct ProcessPoolBuilder {
    max_workers: Option<usize>,
    name: Option<String>,
    surroundings: Surroundings,
    terms: Terms,
    initializer: Option<Result<Initializer, Error>>,
    max_tasks_per_child: Option<usize>,
    max_memory_per_child: Option<usize>,
    task_timeout: Option<Duration>,
    start_timeout: Option<Duration>,
    grace_period: Option<Duration>,
    on_worker_death: WorkerDeath,
    max_restarts_per_minute: Option<usize>,
    idle_timeout: Option<Duration>,
    max_pending: Option<usize>,
}

impl ProcessPoolBuilder {
    /// The most processes. Default: usable CPUs.
    pub fn max_workers(mut self, processes: usize) -> Self {
        self.max_workers = Some(processes);
        self
    }

    /// Workers are named `<name>_<n>`, from 0: `ps` shows it behind the name of the program.
    /// Default: `ProcessPoolExecutor-<pool>`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A call that each worker makes before its first task. If it panics, the pool is broken:
    /// what is queued and what comes ends with [`Error::Broken`], with the panic as its cause.
    pub fn initializer<F, A>(mut self, function: F, argument: A) -> Self
    where
        F: Fn(A) + Copy + Send + 'static,
        A: Portable,
    {
        let function = Plain::<F, A, ()>::new(function);
        self.initializer = Some(Initializer::new(function, &argument));
        self
    }

    /// Replaces a worker after so many tasks (a chunk of a map is one). At least 1.
    pub fn max_tasks_per_child(mut self, tasks: usize) -> Self {
        self.max_tasks_per_child = Some(tasks);
        self
    }

    /// Replaces a worker when a task (a chunk of a map is one) has left more than so many bytes of
    /// it in memory, before its next one. At least 1. The task itself is never interrupted, so
    /// while it runs the worker may be larger.
    ///
    /// What counts is what the kernel calls resident: pages in RAM, also those that the worker
    /// shares with others, such as the program's code. A new worker has some megabytes of it, and
    /// a limit below that replaces it after every task. To look costs about two microseconds a task.
    /// Only on Linux.
    pub fn max_memory_per_child(mut self, bytes: usize) -> Self {
        self.max_memory_per_child = Some(bytes);
        self
    }

    /// How long a call may take, unless its own
    /// [`TaskOptions::timeout`](crate::TaskOptions::timeout), which tells more, says otherwise. A chunk of a
    /// map is one call. Default: no limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();
    ///     let limit = Duration::from_millis(50);
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).task_timeout(limit).build()?;
    ///     let endless = pool.submit(|()| -> u32 { loop {} }, ());
    ///     assert!(matches!(endless.result(), Err(Error::TimedOut { .. })));
    ///     Ok(())
    /// }
    /// ```
    pub fn task_timeout(mut self, limit: Duration) -> Self {
        self.task_timeout = Some(limit);
        self
    }

    /// How long a worker may take to say that it is there, and then again for the initializer's call. One
    /// that takes longer is killed, and another started; after three in a row the pool is broken.
    /// Default: ten seconds for the former, no limit for the latter.
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = Some(limit);
        self
    }

    /// How long a worker may take to leave, before it is killed (SIGKILL): after it was told to leave,
    /// because the pool ends or it is used up, and after it was asked to end (SIGTERM), because of a time limit,
    /// [`Future::kill`](crate::Future::kill) or
    /// [`terminate_workers`](ProcessPoolExecutor::terminate_workers). Zero: it is killed at once.
    /// Default: five seconds. Workers that catch neither the signal nor the end take no time.
    pub fn grace_period(mut self, limit: Duration) -> Self {
        self.grace_period = Some(limit);
        self
    }

    /// What becomes of the pool when a worker dies of itself, or is killed by somebody else. Default: the
    /// worker is replaced, [`WorkerDeath::Replace`].
    pub fn on_worker_death(mut self, then: WorkerDeath) -> Self {
        self.on_worker_death = then;
        self
    }

    /// A guard against calls that kill one worker after the other: when more than so many have died within
    /// a minute, the pool is broken, and the error of everything that it still had to do tells why. Workers that
    /// were used up, timed out or were ended on request do not count. Default: no limit, as each death costs a
    /// call, so that the calls themselves are one. (Workers that do not even start are limited without it: to three
    /// in a row.)
    pub fn max_restarts_per_minute(mut self, workers: usize) -> Self {
        self.max_restarts_per_minute = Some(workers);
        self
    }

    /// A worker that has had nothing to do for so long ends; when tasks come, others are started,
    /// and make the initializer's call too. Idle workers take turns. With a time of zero a worker
    /// ends if there is no task for it at once. Default: workers stay until the pool is shut down.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// At most so many tasks wait in the queue, with their arguments' bytes; those that run do not
    /// count. When it is full, `submit`, `map` and their like wait for room, before they encode the
    /// argument, and [`submit_or_return`](Executor::submit_or_return) gives the call back. At
    /// least 1. Default: no bound.
    ///
    /// Who waits for room when the pool is shut down or breaks is woken, and refused. The pool's
    /// own threads never wait, because they would wait for themselves: what callbacks submit may
    /// exceed the bound. A task that was cancelled keeps its place until a worker passes it: so
    /// long it is in the queue.
    pub fn max_pending(mut self, tasks: usize) -> Self {
        self.max_pending = Some(tasks);
        self
    }

    /// The pool. No worker is started yet.
    ///
    /// # Errors
    ///
    /// [`Error::NotInitialised`] without [`init`]; [`Error::InvalidArgument`] for a number that
    /// is 0, a name or variable that cannot be passed on, or pools nested 16 deep; what kept the
    /// initializer's argument from being encoded; [`Error::Unsupported`] for
    /// `max_memory_per_child` elsewhere than on Linux.
    pub fn build(self) -> Result<ProcessPoolExecutor, Error> {
        static POOLS: AtomicUsize = AtomicUsize::new(0);
        if !entry::is_initialised() {
            return Err(Error::NotInitialised);
        }
        if sys::has_foreign_rights() {
            return Err(Error::Setuid);
        }
        if entry::depth() >= invitation::MAX_DEPTH {
            return Err(Error::invalid(
                format!("process pools are nested {} deep", entry::depth()),
                "a task must not make a pool whose tasks make a pool without end",
            ));
        }
        if self.max_tasks_per_child == Some(0) {
            return Err(Error::invalid("max_tasks_per_child is 0", "give at least 1, or leave it out"));
        }
        if self.max_memory_per_child == Some(0) {
            return Err(Error::invalid("max_memory_per_child is 0", "give bytes, or leave it out"));
        }
        for (name, limit) in [("task_timeout", self.task_timeout), ("start_timeout", self.start_timeout)] {
            if limit == Some(Duration::ZERO) {
                return Err(Error::invalid(format!("{name} is 0"), "give some time, or leave it out"));
            }
        }
        if self.max_memory_per_child.is_some() && !Resident::IS_KNOWN {
            let remedy = "use `max_tasks_per_child`";
            return Err(Error::Unsupported { what: "`max_memory_per_child` on this platform is", remedy });
        }
        let name = self
            .name
            .unwrap_or_else(|| format!("ProcessPoolExecutor-{}", POOLS.fetch_add(1, Ordering::Relaxed)));
        if name.contains('\0') {
            return Err(Error::invalid("the name of the pool holds a NUL byte", "leave it out"));
        }
        let initializer = self.initializer.transpose()?;
        terms::check(&self.terms)?;
        if let Some(Initializer { task, frame }) = &initializer {
            terms::admit(&self.terms, *task, frame)?;
        }
        let hiring = Hiring {
            max_workers: self.max_workers.unwrap_or_else(usable_cpus),
            name_prefix: name.clone(),
            stack_size: None,
            idle_timeout: self.idle_timeout,
            max_pending: self.max_pending,
        };
        let plan = Arc::new(Plan {
            surroundings: self.surroundings.checked()?,
            terms: self.terms,
            initializer,
            max_tasks_per_child: self.max_tasks_per_child,
            max_memory_per_child: self.max_memory_per_child,
            task_timeout: self.task_timeout,
            start_timeout: self.start_timeout,
            grace_period: self.grace_period.unwrap_or(child::FAREWELL),
            deaths: Deaths::new(self.on_worker_death, self.max_restarts_per_minute),
            ..Plan::new(name)
        });
        let pool = Pool::new(hiring, context_maker(&plan))?;
        Ok(ProcessPoolExecutor { pool, plan })
    }
}

impl Plan {
    fn new(name: String) -> Self {
        Plan {
            name,
            surroundings: Surroundings::default(),
            terms: Terms::default(),
            initializer: None,
            max_tasks_per_child: None,
            max_memory_per_child: None,
            task_timeout: None,
            start_timeout: None,
            grace_period: child::FAREWELL,
            deaths: Deaths::default(),
            slots: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }
}

fn context_maker(plan: &Arc<Plan>) -> impl Fn(usize) -> ProcessContext + Send + Sync + use<> {
    let plan = Arc::clone(plan);
    move |number| ProcessContext::new(Arc::clone(&plan), number)
}

impl Initializer {
    fn new<Fun>(function: Fun, argument: &Fun::Argument) -> Result<Self, Error>
    where
        Fun: Function<Argument: Portable, Return: Portable>,
    {
        let task = TaskRef { name: Fun::name(), id: FutureId::next() };
        let reference =
            portable::of(&Once(function)).map_err(|reason| Error::NotPortable { task, reason })?;
        let mut frame = Vec::new();
        let start = begin_call(&mut frame, Kind::Initialise, task.id.get(), reference);
        guarded(task, || portable::encode(argument, &mut frame, "argument"))
            .map_err(|failure| outcome::arrived(task, failure))?;
        frame::end(&mut frame, start);
        Ok(Initializer { task, frame })
    }
}

impl fmt::Debug for ProcessPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPoolBuilder")
            .field("max_workers", &self.max_workers)
            .field("name", &self.name)
            .field("surroundings", &self.surroundings)
            .field("terms", &self.terms)
            .field("initializer", &self.initializer.is_some())
            .field("max_tasks_per_child", &self.max_tasks_per_child)
            .field("max_memory_per_child", &self.max_memory_per_child)
            .field("task_timeout", &self.task_timeout)
            .field("start_timeout", &self.start_timeout)
            .field("grace_period", &self.grace_period)
            .field("on_worker_death", &self.on_worker_death)
            .field("max_restarts_per_minute", &self.max_restarts_per_minute)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_pending", &self.max_pending)
            .finish()
    }
}
