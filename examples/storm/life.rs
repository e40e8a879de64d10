//! The life of a pool: how it is made, what is done to it, and the account of all its calls.
//!
//! Not here: how it ends (`ends.rs`), what is wrong with it (`verdict.rs`). The rule: what is done to a pool is
//! noted before it is done, so whoever sees what follows from it finds the note.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, ProcessPoolExecutor, Shutdown, Task, ThreadPoolExecutor, WorkerDeath,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::case::{Case, Spec};
use crate::dice::Dice;
use crate::ends::End;
use crate::freight::{Blob, Counted, Place};
use crate::marks::{self, Marks};
use crate::order::{self, Order, Start, seed_of};
use crate::tally::Count;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Threads,
    Processes,
}

/// How a pool is set up, and what it has to live through.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    workers: usize,
    idle_timeout: Option<Duration>,
    max_pending: Option<usize>,
    pub(crate) start: Start,
    pub(crate) max_tasks: Option<usize>,
    pub(crate) max_memory: Option<usize>,
    pub(crate) task_timeout: Option<Duration>,
    pub(crate) start_timeout: Option<Duration>,
    grace: Option<Duration>,
    pub(crate) one_death_breaks: bool,
    restarts: Option<usize>,
    /// How long it is in use.
    pub(crate) lasts: Duration,
    /// The pauses between what is done to its workers from outside; `None`: nothing is.
    pub(crate) disturbed_every: Option<(u32, u32)>,
    pub(crate) end: End,
}

impl Plan {
    pub(crate) fn new(kind: Kind, most_workers: usize, dice: &mut Dice) -> Self {
        let of_processes = kind == Kind::Processes;
        let starts: &[Start] = match (dice.below(30), of_processes) {
            (0, _) => &[Start::Panics],
            (1, true) => &[Start::Exits],
            (2..5, true) => &[Start::Moody],
            (5..15, _) => &[Start::Slowly, Start::Briefly],
            _ => &[Start::Nothing],
        };
        let lasts = match dice.below(10) {
            0 => Duration::ZERO,
            1..3 => dice.millis(1, 60),
            3..8 => dice.millis(100, 1200),
            _ => dice.millis(1200, 5000),
        };
        let mut only =
            |times, low, high| dice.sometimes(times, |dice| dice.between(low, high)).filter(|_| of_processes);
        let (max_tasks, max_memory, restarts) = (only(3, 1, 200), only(4, 12, 40), only(12, 3, 60));
        let (task_timeout, start_timeout) = (only(3, 30, 200), only(2, 500, 3000));
        let millis = |time: Option<u32>| time.map(|time| Duration::from_millis(time.into()));
        Plan {
            kind,
            workers: dice.between(1, most_workers as u32) as usize,
            idle_timeout: dice
                .sometimes(3, |dice| if dice.one_in(3) { Duration::ZERO } else { dice.millis(1, 30) }),
            max_pending: dice.sometimes(3, |dice| dice.between(1, 64) as usize),
            start: *dice.pick(starts),
            max_tasks: max_tasks.map(|tasks| tasks as usize),
            max_memory: max_memory.map(|mebibytes| (mebibytes as usize) << 20),
            task_timeout: millis(task_timeout),
            start_timeout: millis(start_timeout),
            // One with limits may have workers that stand still: they are not to be waited for long.
            grace: (task_timeout.is_some() || dice.one_in(2)).then(|| dice.millis(0, 300)),
            one_death_breaks: of_processes && dice.one_in(12),
            restarts: restarts.map(|times| times as usize),
            lasts,
            disturbed_every: (of_processes && !dice.one_in(3))
                .then(|| if dice.one_in(3) { (1, 20) } else { (10, 150) }),
            end: End::any(kind, dice),
        }
    }
}

/// A pool. Its calls, its callbacks and those who use it have a handle each; the last one drops it.
pub(crate) struct Pool {
    pub(crate) engine: Engine,
    /// Dropped when the engine has been dropped.
    _notice: Notice,
}

pub(crate) enum Engine {
    Threads(ThreadPoolExecutor),
    Processes(ProcessPoolExecutor),
}

/// Tells that the pool is gone.
struct Notice(Arc<AtomicBool>);

impl Drop for Notice {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Pool {
    pub(crate) fn threads(&self) -> Option<&ThreadPoolExecutor> {
        match &self.engine {
            Engine::Threads(threads) => Some(threads),
            Engine::Processes(_) => None,
        }
    }

    pub(crate) fn processes(&self) -> Option<&ProcessPoolExecutor> {
        match &self.engine {
            Engine::Threads(_) => None,
            Engine::Processes(processes) => Some(processes),
        }
    }

    fn executor(&self) -> &dyn Executor {
        match &self.engine {
            Engine::Threads(threads) => threads,
            Engine::Processes(processes) => processes,
        }
    }

    /// The worker processes there are now.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes().map_or_else(Vec::new, ProcessPoolExecutor::worker_pids)
    }
}

impl Executor for Pool {
    fn execute(&self, task: Task) {
        self.executor().execute(task);
    }

    fn execute_or_return(&self, task: Task) -> Result<(), Task> {
        self.executor().execute_or_return(task)
    }

    fn shutdown_with(&self, how: Shutdown) {
        self.executor().shutdown_with(how);
    }

    fn shutdown_timeout(&self, limit: Duration) -> bool {
        self.executor().shutdown_timeout(limit)
    }
}

/// What was done to the pool.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// It is about to be shut down.
    pub(crate) closing: AtomicBool,
    /// … so that what has not started is cancelled.
    pub(crate) cancels: AtomicBool,
    pub(crate) terminated: AtomicBool,
    pub(crate) all_killed: AtomicBool,
    /// Somebody was told so.
    broken: AtomicBool,
    /// Nobody can order any more, and no worker is left.
    pub(crate) over: AtomicBool,
}

pub(crate) struct Life {
    pub(crate) number: u32,
    pub(crate) plan: Plan,
    pool: Mutex<Option<Arc<Pool>>>,
    gone: Arc<AtomicBool>,
    pub(crate) facts: Facts,
    /// Workers that were killed, and stopped, from outside.
    pub(crate) killed: Mutex<HashSet<u32>>,
    pub(crate) stopped: Mutex<HashSet<u32>>,
    pub(crate) marks: Marks,
    pub(crate) cases: Mutex<Vec<Arc<Case>>>,
    /// Calls that somebody looks at and whose ending was not seen yet.
    open: AtomicUsize,
    /// How many marks there were when a shutdown had returned that waits for all calls.
    pub(crate) marks_at_the_end: OnceLock<u64>,
}

static ALL: Mutex<Vec<Weak<Life>>> = Mutex::new(Vec::new());

impl Life {
    /// Makes a pool.
    pub(crate) fn begin(number: u32, plan: Plan, marks: Marks) -> Result<Arc<Self>, Error> {
        let gone = Arc::<AtomicBool>::default();
        let name = name_of(plan.kind, number);
        let engine = match plan.kind {
            Kind::Threads => {
                Count::ThreadPools.one();
                Engine::Threads(threads(&plan, name)?)
            }
            Kind::Processes => {
                Count::ProcessPools.one();
                Engine::Processes(processes(&plan, name, &marks)?)
            }
        };
        let pool = Pool { engine, _notice: Notice(Arc::clone(&gone)) };
        let life = Arc::new(Life {
            number,
            plan,
            pool: Mutex::new(Some(Arc::new(pool))),
            gone,
            facts: Facts::default(),
            killed: Mutex::default(),
            stopped: Mutex::default(),
            marks,
            cases: Mutex::default(),
            open: AtomicUsize::new(0),
            marks_at_the_end: OnceLock::new(),
        });
        let mut all = lock(&ALL);
        all.retain(|life| life.strong_count() > 0);
        all.push(Arc::downgrade(&life));
        Ok(life)
    }

    /// Those there are.
    pub(crate) fn all() -> Vec<Arc<Life>> {
        lock(&ALL).iter().filter_map(Weak::upgrade).collect()
    }

    /// What the names of its workers begin with.
    pub(crate) fn name(&self) -> String {
        name_of(self.plan.kind, self.number)
    }

    pub(crate) fn facts(&self) -> String {
        let Life { plan, facts, .. } = self;
        format!("{plan:?} {facts:?} killed {:?} stopped {:?}", lock(&self.killed), lock(&self.stopped))
    }

    /// A handle on the pool, unless nobody is to begin anything with it any more.
    pub(crate) fn pool(&self) -> Option<Arc<Pool>> {
        lock(&self.pool).clone()
    }

    /// Takes it from those who come from now on.
    pub(crate) fn retire(&self) -> Option<Arc<Pool>> {
        lock(&self.pool).take()
    }

    /// The last handle is gone, and the pool with it.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.facts.closing.load(Ordering::Acquire)
    }

    pub(crate) fn has_broken(&self) {
        self.facts.broken.store(true, Ordering::Release);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.facts.broken.load(Ordering::Acquire)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.facts.over.load(Ordering::Acquire)
    }

    /// May its pool break?
    pub(crate) fn may_break(&self) -> bool {
        let Plan { start, one_death_breaks, restarts, .. } = self.plan;
        let disturbed = lock(&self.killed).len() + lock(&self.stopped).len();
        // Three workers in a row may have been hit while they started.
        matches!(start, Start::Panics | Start::Exits | Start::Moody)
            || one_death_breaks
            || restarts.is_some()
            || disturbed >= 3
    }

    /// A new call, and its argument.
    pub(crate) fn open(self: &Arc<Self>, spec: Spec) -> (Arc<Case>, Order) {
        let mut cases = lock(&self.cases);
        let id = cases.len() as u32;
        let order = Order {
            life: self.number,
            id,
            deed: spec.deed,
            fails: spec.fails,
            takes: spec.takes,
            gives: spec.gives,
            load: Blob::default(),
            thorn: Place(spec.thorn),
            _counted: Counted::default(),
        };
        let case = Arc::new(Case::new(Arc::clone(self), id, spec));
        cases.push(Arc::clone(&case));
        drop(cases);
        self.open.fetch_add(1, Ordering::AcqRel);
        Count::Submitted.one();
        let load = Blob::of(seed_of(self.number, id, false), order.takes);
        (case, Order { load, ..order })
    }

    /// One ending was seen.
    pub(crate) fn one_is_over(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    /// Nobody will see the ending of one.
    pub(crate) fn one_is_let_go(&self) {
        self.one_is_over();
    }

    pub(crate) fn open_calls(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Sends a signal to a worker, if it still is one. Returns its number.
    pub(crate) fn signal(&self, pool: &Pool, signal: Signal, dice: &mut Dice) -> Option<u32> {
        let pids = pool.pids();
        let pid = *(!pids.is_empty()).then(|| dice.pick(&pids))?;
        let process = pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok()?;
        // Only now is it sure that the number was not a stranger's when it was opened.
        if !pool.pids().contains(&pid) {
            return None;
        }
        match signal {
            Signal::KILL => lock(&self.killed).insert(pid),
            _ => lock(&self.stopped).insert(pid),
        };
        pidfd_send_signal(&process, signal).ok().map(|()| pid)
    }
}

fn name_of(kind: Kind, number: u32) -> String {
    format!("{}{number}", if kind == Kind::Threads { 't' } else { 'p' })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn threads(plan: &Plan, name: String) -> Result<ThreadPoolExecutor, Error> {
    let mut builder =
        ThreadPoolExecutor::builder().max_workers(plan.workers).thread_name_prefix(name).stack_size(1 << 20);
    if let Some(limit) = plan.idle_timeout {
        builder = builder.idle_timeout(limit);
    }
    if let Some(most) = plan.max_pending {
        builder = builder.max_pending(most);
    }
    if plan.start != Start::Nothing {
        let start = plan.start;
        builder = builder.initializer(move || order::start(start));
    }
    builder.build()
}

fn processes(plan: &Plan, name: String, marks: &Marks) -> Result<ProcessPoolExecutor, Error> {
    let mut builder = ProcessPoolExecutor::builder().max_workers(plan.workers).name(name);
    // Many panic, and to name the functions of a backtrace takes a worker a tenth of a second.
    builder = builder.env(marks::VARIABLE, marks.path()).env("RUST_BACKTRACE", "0");
    if let Some(limit) = plan.idle_timeout {
        builder = builder.idle_timeout(limit);
    }
    if let Some(most) = plan.max_pending {
        builder = builder.max_pending(most);
    }
    if let Some(most) = plan.max_tasks {
        builder = builder.max_tasks_per_child(most);
    }
    if let Some(most) = plan.max_memory {
        builder = builder.max_memory_per_child(most);
    }
    if let Some(limit) = plan.task_timeout {
        builder = builder.task_timeout(limit);
    }
    if let Some(limit) = plan.start_timeout {
        builder = builder.start_timeout(limit);
    }
    if let Some(limit) = plan.grace {
        builder = builder.grace_period(limit);
    }
    if plan.one_death_breaks {
        builder = builder.on_worker_death(WorkerDeath::Break);
    }
    if let Some(most) = plan.restarts {
        builder = builder.max_restarts_per_minute(most);
    }
    if plan.start != Start::Nothing {
        builder = builder.initializer(order::start, plan.start);
    }
    builder.build()
}
