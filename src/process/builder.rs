//! [`ProcessPoolBuilder`]: how a process pool is set up, and what is wrong with what it was given.
//!
//! Not here: the terms of its workers (`terms.rs`). The rule: whatever can be refused is refused by `build`,
//! with an error that names it and says what to give instead.

use std::fmt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use super::deaths::{Deaths, WorkerDeath};
use super::departures::Hooks;
use super::memory::Resident;
use super::terms::{self, Surroundings};
use super::{Initializer, Plan, ProcessPoolExecutor, child, entry, invitation, pool_of, sys};
use crate::error::Error;
use crate::id::{FutureId, TaskRef};
use crate::observer::{Observer, Observers};
use crate::outcome;
use crate::pool::{Hiring, Pins, usable_cpus};
use crate::portable::{self, Function, Once, Plain, Portable, enclosing};
use crate::primitives::{AtomicUsize, Ordering};
use crate::wire::frame::{Kind, Parcel};
use crate::wire::message::{Terms, end_call};
use crate::worker::WorkerInfo;

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
    pub(super) surroundings: Surroundings,
    pub(super) terms: Terms,
    initializer: Option<Result<Initializer, Error>>,
    finalizer: Option<Result<Initializer, Error>>,
    hooks: Hooks,
    pin_workers: bool,
    max_tasks_per_child: Option<usize>,
    max_memory_per_child: Option<usize>,
    task_timeout: Option<Duration>,
    start_timeout: Option<Duration>,
    grace_period: Option<Duration>,
    on_worker_death: WorkerDeath,
    max_restarts_per_minute: Option<usize>,
    idle_timeout: Option<Duration>,
    max_pending: Option<usize>,
    observers: Observers,
}

impl ProcessPoolBuilder {
    /// The most processes. Default: usable CPUs.
    ///
    /// ```
    /// use concurrent_futures::ProcessPoolExecutor;
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(4).build()?;
    ///     assert_eq!(pool.max_workers(), 4);
    ///     Ok(())
    /// }
    /// ```
    pub fn max_workers(mut self, processes: usize) -> Self {
        self.max_workers = Some(processes);
        self
    }

    /// Workers are named `<name>_<n>`, from 0: `ps` shows it behind the name of the program.
    /// Default: `ProcessPoolExecutor-<pool>`.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor, task};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).name("parsers").build()?;
    ///     assert_eq!(pool.submit(|()| task::worker(), ()).result()?.as_deref(), Some("parsers_0"));
    ///     Ok(())
    /// }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A call that each worker makes before its first task. If it panics, the pool is broken:
    /// what is queued and what comes ends with [`Error::Broken`], with the panic as its cause.
    ///
    /// ```
    /// use std::sync::OnceLock;
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// static MODEL: OnceLock<u64> = OnceLock::new();
    ///
    /// /// In each worker, before its first call.
    /// fn load(seed: u64) {
    ///     MODEL.set(seed).expect("once a worker");
    /// }
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).initializer(load, 42).build()?;
    ///     assert_eq!(pool.submit(|()| MODEL.get().copied(), ()).result()?, Some(42));
    ///     Ok(())
    /// }
    /// ```
    pub fn initializer<F, A>(mut self, function: F, argument: A) -> Self
    where
        F: Fn(A) + Copy + Send + 'static,
        A: Portable,
    {
        let function = Plain::<F, A, ()>::new(function);
        self.initializer = Some(Initializer::new(function, &argument));
        self
    }

    /// A call that each worker makes when it ends in good order: because it was idle for too long, is used up
    /// ([`max_tasks_per_child`](Self::max_tasks_per_child)), is one too many, or the pool is shut down. Not if it
    /// dies, is killed or asked to end, or if its initializer failed.
    ///
    /// It has the [`grace_period`](Self::grace_period) to return; a worker in which it takes longer is killed, and where
    /// there is no such period it does not run. Its panic changes nothing: it is told to the
    /// [hook for unread errors](crate::set_unread_error_hook).
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn say_good_bye(to: String) {
    ///     println!("worker {} leaves, good-bye {to}", std::process::id());
    /// }
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder()
    ///         .max_workers(1)
    ///         .finalizer(say_good_bye, "Rome".to_string())
    ///         .build()?;
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn finalizer<F, A>(mut self, function: F, argument: A) -> Self
    where
        F: Fn(A) + Copy + Send + 'static,
        A: Portable,
    {
        let function = Plain::<F, A, ()>::new(function);
        self.finalizer = Some(Initializer::new(function, &argument));
        self
    }

    /// Runs in the host, in a thread of the pool, when a worker process has been started, before its
    /// [`initializer`](Self::initializer). A panic of it goes no further than the panic hook. It may run while the
    /// first call of its worker waits for it: so it must not wait for calls of this pool.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();
    ///     let log = Arc::new(Mutex::new(Vec::new()));
    ///     let (up, down) = (Arc::clone(&log), Arc::clone(&log));
    ///     let pool = ProcessPoolExecutor::builder()
    ///         .max_workers(1)
    ///         .name("parsers")
    ///         .on_worker_start(move |worker| up.lock().unwrap().push(format!("{} starts", worker.name)))
    ///         .on_worker_exit(move |worker, status| {
    ///             let well = status.is_some_and(|status| status.success());
    ///             down.lock().unwrap().push(format!("{} ends, well: {well}", worker.name));
    ///         })
    ///         .build()?;
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
    ///     drop(pool);
    ///     assert_eq!(*log.lock().unwrap(), ["parsers_0 starts", "parsers_0 ends, well: true"]);
    ///     Ok(())
    /// }
    /// ```
    pub fn on_worker_start(mut self, hook: impl Fn(&WorkerInfo) + Send + Sync + 'static) -> Self {
        self.hooks.on_start = Some(Arc::new(hook));
        self
    }

    /// Runs in the host, in a thread of the pool, when a worker process has ended, once for each
    /// [start](Self::on_worker_start): in good order, died or killed. With how it ended, if that is known. Where the
    /// worker took a call with it, that call has ended before. [`shutdown`](crate::Executor::shutdown) waits for it. As
    /// there, it must not wait for calls of this pool.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let (tell, told) = mpsc::channel();
    ///     let builder = ProcessPoolExecutor::builder().max_workers(1);
    ///     let pool = builder.on_worker_exit(move |_worker, status| _ = tell.send(status)).build()?;
    ///     assert!(pool.submit(|()| std::process::exit(3), ()).result().map(|(): ()| ()).is_err());
    ///     assert_eq!(told.recv().unwrap().and_then(|status| status.code()), Some(3));
    ///     Ok(())
    /// }
    /// ```
    pub fn on_worker_exit(
        mut self,
        hook: impl Fn(&WorkerInfo, Option<ExitStatus>) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_exit = Some(Arc::new(hook));
        self
    }

    /// Binds each worker process to one CPU: the first to the first that the host may use when the pool is built, and
    /// so on; where there are more workers than CPUs, several share one. The host's threads are not bound. Threads and
    /// programs that a call starts inherit it. Only on Linux. Default: no.
    ///
    /// Worth a try where caches matter and nothing else runs; on a busy machine it costs time, as the
    /// system cannot move a worker away from a CPU that somebody else needs.
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let builder = ProcessPoolExecutor::builder().max_workers(2);
    ///     let pool = match builder.pin_workers(true).build() {
    ///         Err(Error::Unsupported { .. }) => ProcessPoolExecutor::new(2)?,
    ///         pool => pool?,
    ///     };
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn pin_workers(mut self, yes: bool) -> Self {
        self.pin_workers = yes;
        self
    }

    /// Replaces a worker after so many tasks (a chunk of a map is one). At least 1.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(1).build()?;
    ///     let [one, two] = [(); 2].map(|()| pool.submit(|()| std::process::id(), ()));
    ///     assert_ne!(one.result()?, two.result()?);                        // a process a call
    ///     Ok(())
    /// }
    /// ```
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
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let builder = ProcessPoolExecutor::builder().max_workers(1);
    ///     let pool = match builder.max_memory_per_child(512 << 20).build() {
    ///         Err(Error::Unsupported { .. }) => ProcessPoolExecutor::new(1)?,
    ///         pool => pool?,
    ///     };
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
    ///     Ok(())
    /// }
    /// ```
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
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).start_timeout(Duration::from_secs(60)).build()?;
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = Some(limit);
        self
    }

    /// How long a worker may take to leave, before it is killed (SIGKILL): after it was told to leave,
    /// because the pool ends or it is used up, and after it was asked to end (SIGTERM), because of a time limit,
    /// [`Future::kill`](crate::Future::kill) or
    /// [`terminate_workers`](ProcessPoolExecutor::terminate_workers). Zero: it is killed at once.
    /// Default: five seconds. Workers that catch neither the signal nor the end take no time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).grace_period(Duration::ZERO).build()?;
    ///     let endless = pool.submit(|()| -> u32 { loop {} }, ());
    ///     while !endless.running() {
    ///         std::thread::yield_now();
    ///     }
    ///     endless.kill();                                                  // at once
    ///     assert!(endless.result().is_err());
    ///     Ok(())
    /// }
    /// ```
    pub fn grace_period(mut self, limit: Duration) -> Self {
        self.grace_period = Some(limit);
        self
    }

    /// What becomes of the pool when a worker dies of itself, or is killed by somebody else. Default: the
    /// worker is replaced, [`WorkerDeath::Replace`].
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, WorkerDeath};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).on_worker_death(WorkerDeath::Break).build()?;
    ///     let died = pool.submit(|()| std::process::abort(), ()).result().map(|(): ()| ());
    ///     assert!(matches!(died, Err(Error::WorkerDied { .. })));
    ///     let refused = pool.submit(|n: u32| n, 42).result();
    ///     assert!(matches!(refused, Err(Error::Broken { .. })));
    ///     Ok(())
    /// }
    /// ```
    pub fn on_worker_death(mut self, then: WorkerDeath) -> Self {
        self.on_worker_death = then;
        self
    }

    /// A guard against calls that kill one worker after the other: when more than so many have died within
    /// a minute, the pool is broken, and the error of everything that it still had to do tells why. Workers that
    /// were used up, timed out or were ended on request do not count. Default: no limit, as each death costs a
    /// call, so that the calls themselves are one. (Workers that do not even start are limited without it: to three
    /// in a row.)
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).max_restarts_per_minute(1).build()?;
    ///     for _ in 0..2 {
    ///         assert!(pool.submit(|()| std::process::abort(), ()).result().map(|(): ()| ()).is_err());
    ///     }
    ///     let refused = pool.submit(|n: u32| n, 42).result();
    ///     assert!(matches!(refused, Err(Error::Broken { .. })));           // two within a minute
    ///     Ok(())
    /// }
    /// ```
    pub fn max_restarts_per_minute(mut self, workers: usize) -> Self {
        self.max_restarts_per_minute = Some(workers);
        self
    }

    /// A worker that has had nothing to do for so long ends; when tasks come, others are started,
    /// and make the initializer's call too. The last to become idle is the first to
    /// be used. With a time of zero a worker
    /// ends if there is no task for it at once. Default: workers stay until the pool is shut down.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).idle_timeout(Duration::from_secs(30)).build()?;
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// At most so many tasks wait in the queue, with their arguments' bytes; those that run do not
    /// count. When it is full, `submit`, `map` and their like wait for room, before they encode the
    /// argument, and [`submit_or_return`](crate::Executor::submit_or_return) gives the call back. At
    /// least 1. Default: no bound.
    ///
    /// Who waits for room when the pool is shut down or breaks is woken, and refused. The pool's
    /// own threads never wait, because they would wait for themselves: what callbacks submit may
    /// exceed the bound. A task that was cancelled keeps its place until a worker passes it: so
    /// long it is in the queue.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).max_pending(1000).build()?;
    ///     let futures: Vec<_> = (0..10_000).map(|n| pool.submit(|n: u64| n, n)).collect();  // waits for room
    ///     let sum: u64 = futures.into_iter().map(|future| future.result()).sum::<Result<_, _>>()?;
    ///     assert_eq!(sum, 49_995_000);
    ///     Ok(())
    /// }
    /// ```
    pub fn max_pending(mut self, tasks: usize) -> Self {
        self.max_pending = Some(tasks);
        self
    }

    /// Has `observer` hear of what happens in the pool; more than one may. What it is told, and what that costs, is said
    /// at [`Observer`].
    ///
    /// ```
    /// use concurrent_futures::{Error, Event, Executor, Observer, ProcessPoolExecutor, What};
    ///
    /// /// Tells which processes die.
    /// struct Deaths;
    ///
    /// impl Observer for Deaths {
    ///     fn notice(&self, event: &Event<'_>) {
    ///         if let What::WorkerDied { worker, status, .. } = event.what {
    ///             eprintln!("{} died: {status:?}", worker.name);
    ///         }
    ///     }
    /// }
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).observer(Deaths).build()?;
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.add(observer);
        self
    }

    /// The pool. No worker is started yet.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).build()?;
    ///     assert!(pool.worker_pids().is_empty());
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);       // starts one
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotInitialised`] without [`init`](crate::init); [`Error::InvalidArgument`] for a number that
    /// is 0, a name or variable that cannot be passed on, or pools nested 16 deep; what kept the
    /// initializer's or the finalizer's argument from being encoded; [`Error::Unsupported`] for
    /// `max_memory_per_child` and `pin_workers` elsewhere than on Linux.
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
        let finalizer = self.finalizer.transpose()?;
        terms::check(&self.terms)?;
        for Initializer { task, frame, enclosed } in initializer.iter().chain(&finalizer) {
            terms::admit(&self.terms, *task, frame, enclosed)?;
        }
        let observers = self.observers;
        #[cfg(feature = "tracing")]
        let observers = crate::spans::Spans::of_processes(observers);
        let hiring = Hiring {
            max_workers: self.max_workers.unwrap_or_else(usable_cpus),
            name_prefix: name.clone(),
            stack_size: None,
            idle_timeout: self.idle_timeout,
            max_pending: self.max_pending,
            observers,
        };
        let plan = Arc::new(Plan {
            surroundings: self.surroundings.checked()?,
            terms: self.terms,
            initializer,
            finalizer,
            hooks: self.hooks,
            pins: if self.pin_workers { Some(Pins::usable()?) } else { None },
            max_tasks_per_child: self.max_tasks_per_child,
            max_memory_per_child: self.max_memory_per_child,
            task_timeout: self.task_timeout,
            start_timeout: self.start_timeout,
            grace_period: self.grace_period.unwrap_or(child::FAREWELL),
            deaths: Deaths::new(self.on_worker_death, self.max_restarts_per_minute),
            ..Plan::new(name)
        });
        let pool = pool_of(&plan, hiring)?;
        Ok(ProcessPoolExecutor { pool, plan })
    }
}

impl Initializer {
    fn new<Fun>(function: Fun, argument: &Fun::Argument) -> Result<Self, Error>
    where
        Fun: Function<Argument: Portable, Return: Portable>,
    {
        let task = TaskRef { name: Fun::name(), id: FutureId::next() };
        let reference =
            portable::of(&Once(function)).map_err(|reason| Error::NotPortable { task, reason })?;
        let mut frame = Parcel::begin(Kind::Initialise, task.id.get());
        let encode = |frame: &mut Parcel| portable::encode(argument, &mut frame.bytes, "argument");
        let enclosed =
            enclosing(task, &mut frame, encode).map_err(|failure| outcome::arrived(task, failure))?;
        end_call(&mut frame, reference);
        Ok(Initializer { task, frame, enclosed })
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
            .field("finalizer", &self.finalizer.is_some())
            .field("on_worker_start", &self.hooks.on_start.is_some())
            .field("on_worker_exit", &self.hooks.on_exit.is_some())
            .field("pin_workers", &self.pin_workers)
            .field("max_tasks_per_child", &self.max_tasks_per_child)
            .field("max_memory_per_child", &self.max_memory_per_child)
            .field("task_timeout", &self.task_timeout)
            .field("start_timeout", &self.start_timeout)
            .field("grace_period", &self.grace_period)
            .field("on_worker_death", &self.on_worker_death)
            .field("max_restarts_per_minute", &self.max_restarts_per_minute)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_pending", &self.max_pending)
            .field("observers", &self.observers)
            .finish()
    }
}
