//! [`ProcessPoolExecutor`]: calls run in other processes, which are copies of this program.
//!
//! ```text
//!   submit ── encode ──▶ queue ──▶ worker thread ══ page, pipe ══▶ child process: decode, call, encode
//!                                       │                                │
//!   future ◀── decode ── complete ◀─────┴──────── page, pipe ════════════┘
//! ```
//!
//! A worker is a thread of the host that owns one child (`context.rs`, `child.rs`), and has some calls in hand
//! (`window.rs`). While it has none it sleeps, and lends its child to those who call and wait, one short call at a time
//! (`rest.rs`, `berth.rs`). The child's side is `entry.rs` and `service.rs`. The two share a page of memory (`page.rs`,
//! `lanes.rs`), and talk through it and two pipes (`calls.rs`). No page, no pipe and no lock is shared between workers,
//! so the death of one, also in the middle of a message, is the end of a file for its own thread and nothing for the
//! others.

mod berth;
mod builder;
mod call;
mod calls;
mod child;
mod context;
mod deaths;
mod departures;
mod desk;
#[cfg_attr(not(feature = "tracing"), path = "ear_absent.rs")]
mod ear;
mod endings;
mod entry;
mod errands;
mod host;
mod invitation;
mod lanes;
mod memory;
mod pace;
mod page;
mod pipes;
mod post;
mod remarks;
mod rest;
mod service;
mod slot;
mod sys;
mod terms;
mod window;

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

pub use builder::ProcessPoolBuilder;
use call::{Call, Letter};
use context::ProcessContext;
use deaths::Deaths;
pub use deaths::WorkerDeath;
use departures::Hooks;
use ear::Listener;
pub use entry::init;
use slot::Slot;
#[cfg(feature = "timeline")]
pub(crate) use sys::has_foreign_rights;
use terms::Surroundings;
use window::{Recalled, Window};

use crate::account::Account;
use crate::enclosed::Enclosure;
use crate::error::Error;
use crate::executor::{Executor, Shutdown};
use crate::future::away::{self, Engine};
use crate::future::own_pool::Callbacks;
use crate::id::{FutureId, Home, TaskRef};
use crate::pool::{Hiring, Item, Pins, Place, Pool};
use crate::primitives::{AtomicBool, Mutex, Ordering, statics};
use crate::stats::Stats;
use crate::task::{Completion, Task};
use crate::wire::frame::Parcel;
use crate::wire::message::Terms;

/// Is this process a worker, or was it started by one?
#[cfg(feature = "timeline")]
pub(crate) fn is_below_a_worker() -> bool {
    entry::depth() > 0
}

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
/// A callback runs in a thread of the pool. If it waits for another call of the pool, one more worker stands in until it
/// goes on.
///
/// One queue, first in, first out within a [priority](crate::TaskOptions::priority), without a bound unless
/// [`max_pending`](ProcessPoolBuilder::max_pending) sets one. (A call that is in a worker's hands already, behind one
/// that turns out long, goes back to the front of the queue within a millisecond; later ones may have started by then.)
/// A short call that is waited for before the next one is submitted costs about a microsecond where both processes have
/// a CPU, as neither sleeps meanwhile; one after a pause, or that is awaited, some tens of microseconds: two threads are
/// woken. Of many short ones
/// a worker has several in hand at a time, as long as they prove short, so that each costs about a
/// microsecond; chunks ([`MapOptions::chunksize`](crate::MapOptions::chunksize)) cost less. One that has not
/// started in its process can be cancelled all the same, and goes to another worker if its own is held up or
/// dies. A worker costs under 1 MB and starts in about a millisecond.
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
    finalizer: Option<Initializer>,
    hooks: Hooks,
    listener: Listener,
    /// The CPUs to which its workers are bound, one each.
    pins: Option<Arc<Pins>>,
    max_tasks_per_child: Option<usize>,
    max_memory_per_child: Option<usize>,
    task_timeout: Option<Duration>,
    /// For Hello, and for the initializer.
    start_timeout: Option<Duration>,
    grace_period: Duration,
    deaths: Deaths,
    /// The process of each worker thread, to be listed and killed.
    slots: Mutex<Vec<Arc<Slot>>>,
    /// No worker waits for them: a callback may wait for a call that needs one.
    callbacks: Callbacks,
    /// The workers were killed for good: none is to be started any more.
    stopped: AtomicBool,
    /// Was the call handed in last one that is probably waited for before the next? A hint.
    singles: statics::AtomicBool,
    /// Bytes sent to and received from workers that have left.
    traffic: Mutex<(u64, u64)>,
    /// The pool of which this is the plan.
    pool: OnceLock<Weak<Pool<ProcessContext>>>,
}

/// A call that each worker makes before its first task, or after its last.
struct Initializer {
    task: TaskRef,
    frame: Parcel,
    enclosed: Vec<Enclosure>,
}

impl ProcessPoolExecutor {
    /// A pool of `max_workers` processes at the most. None is started yet.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(2)?;
    ///     assert_ne!(pool.submit(|()| std::process::id(), ()).result()?, std::process::id());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if `max_workers` is 0; [`Error::NotInitialised`] without [`init`].
    pub fn new(max_workers: usize) -> Result<Self, Error> {
        Self::builder().max_workers(max_workers).build()
    }

    /// A pool that is set up step by step.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).env("LANG", "la").build()?;
    ///     let lang = pool.submit(|()| std::env::var("LANG").ok(), ());
    ///     assert_eq!(lang.result()?.as_deref(), Some("la"));
    ///     Ok(())
    /// }
    /// ```
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder::default()
    }

    /// The most processes it will have, as it is now.
    ///
    /// ```
    /// use concurrent_futures::ProcessPoolExecutor;
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     assert_eq!(ProcessPoolExecutor::new(3)?.max_workers(), 3);
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn max_workers(&self) -> usize {
        self.pool.max_workers()
    }

    /// Changes how many processes there may be, while the pool works.
    ///
    /// If there may be more, processes are started at once for what waits. If there may be fewer, those that have
    /// nothing to do leave now, those that are busy after their task; nothing is interrupted, and this does not wait
    /// for it. One that waits for a call of this pool, so that another stands in for it, does not count meanwhile. After
    /// [`shutdown`](Executor::shutdown) it still holds for what is queued; a pool that is broken has no use for it.
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     pool.set_max_workers(2)?;
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if `max_workers` is 0.
    pub fn set_max_workers(&self, max_workers: usize) -> Result<(), Error> {
        self.pool.resize(max_workers)
    }

    /// How the pool is doing: what waits and runs, how calls ended, how long they waited and ran, what went through pipes.
    /// Cheap: see [`Stats`]. To ask costs some microseconds, and a nanosecond or two for each call that is queued.
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     pool.submit(|n: u32| n + 1, 41).result()?;
    ///     let stats = pool.stats();
    ///     assert_eq!((stats.returned, stats.pending, stats.replaced), (1, 0, 0));
    ///     assert!(stats.bytes_sent > 0);
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.pool.stats();
        let (sent, received) = self.plan.traffic();
        stats.bytes_sent = sent;
        stats.bytes_received = received;
        stats.running = self.plan.slots().iter().map(|slot| slot.window.lock().len()).sum();
        stats
    }

    /// The process ids of the workers there are now.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     assert!(pool.worker_pids().is_empty());                          // none is needed yet
    ///     let pid = pool.submit(|()| std::process::id(), ()).result()?;
    ///     assert_eq!(pool.worker_pids(), [pid]);
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn worker_pids(&self) -> Vec<u32> {
        self.plan.slots.lock().iter().filter_map(|slot| slot.pid()).collect()
    }

    /// Ends the pool at once: what has not started is cancelled, every worker gets SIGTERM, and SIGKILL if
    /// it is still there after the [`grace_period`](ProcessPoolBuilder::grace_period). The calls that ran end with
    /// [`Error::WorkerDied`]; they are cut off where they are, and [`task::cancelled`](crate::task::cancelled) does not
    /// tell them before. Does not wait.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     let endless = pool.submit(|()| -> u32 { loop {} }, ());
    ///     let queued = pool.submit(|n: u32| n, 42);
    ///     pool.terminate_workers();
    ///     assert!(endless.result().is_err() && queued.result().is_err());
    ///     Ok(())
    /// }
    /// ```
    pub fn terminate_workers(&self) {
        let mut asked = Vec::new();
        self.stop(|slot| asked.extend(slot.terminate().map(|exit| (Arc::clone(slot), exit))));
        slot::see_off(asked);
    }

    /// As [`terminate_workers`](Self::terminate_workers), with SIGKILL from the start.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     let endless = pool.submit(|()| -> u32 { loop {} }, ());
    ///     pool.kill_workers();
    ///     assert!(endless.result().is_err());
    ///     Ok(())
    /// }
    /// ```
    pub fn kill_workers(&self) {
        self.stop(|slot| slot.kill_call());
    }

    fn stop(&self, end: impl FnMut(&Arc<Slot>)) {
        self.plan.stopped.store(true, Ordering::Release);
        // Those that run are not told that they are not wanted: they would begin to clean up, and be cut off in that.
        self.cancel_all(|_| {});
        self.pool.shutdown(Shutdown { wait: false, cancel_futures: false });
        self.plan.slots.lock().iter().for_each(end);
    }

    /// Cancels all that has not started. `of_each`: what else is done with the window of each worker.
    fn cancel_all(&self, of_each: impl Fn(&Window)) {
        self.pool.close();
        // What is in the hands of a worker may not have started either. With all the locks, each is found: it may be
        // on its way from here to there.
        let calls = {
            let slots = self.plan.slots.lock();
            let mut windows: Vec<_> = slots.iter().map(|slot| slot.window.lock()).collect();
            windows.iter().for_each(|window| of_each(window));
            let mut calls: Vec<Call> =
                windows.iter_mut().flat_map(|window| window.take_back_behind(1)).collect();
            calls.extend(self.pool.drain());
            calls
        };
        calls.into_iter().for_each(Call::cancel);
    }

    fn end(&self, how: Shutdown) {
        if how.cancel_futures {
            self.cancel_all(Window::unwant_first);
        }
        self.pool.shutdown(Shutdown { cancel_futures: false, ..how });
        if how.wait {
            self.plan.callbacks.join(self.pool.home());
        }
    }

    /// Encodes a task and queues it. The argument's bytes are made when there is room for them.
    fn send(&self, task: Task, place: Place<'_>) {
        let item = task.into_portable(self.pool.ticket());
        let task = item.task();
        if let Some(refusal) = self.pool.refusal(task) {
            return item.fail(refusal);
        }
        let encoded = item.encode().and_then(|encoded| {
            terms::admit(&self.plan.terms, task, &encoded.frame, &encoded.enclosed)?;
            Ok(Letter::new(encoded))
        });
        match encoded {
            Ok(letter) => self.hand_in(Call { item, letter }, place),
            Err(error) => item.fail(error),
        }
    }
}

impl ProcessPoolExecutor {
    /// Queues a call, or posts it in the place of a worker that sleeps. Where several come one after the other, it is
    /// better that workers take them.
    fn hand_in(&self, call: Call, place: Place<'_>) {
        let plan = &self.plan;
        let is_single = away::is_single();
        if plan.singles.load(Ordering::Relaxed) != is_single {
            plan.singles.store(is_single, Ordering::Relaxed);
        }
        if !(is_single && call.letter.may_be_posted(plan)) {
            return self.pool.submit(call, place);
        }
        let Some((call, bell)) = self.pool.submit_or_lend(call, place) else { return };
        let slot = plan.slot_where(|slot| slot.berth.is_of(&bell));
        let posted = match slot {
            Some(slot) => slot.post(call),
            None => Err(call),
        };
        match posted {
            Ok(true) => {}
            Ok(false) => self.pool.return_lent(bell),
            Err(call) => self.pool.unlend(bell, call),
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
        self.end(how);
    }

    fn shutdown_timeout(&self, limit: Duration) -> bool {
        self.pool.shutdown_timeout(limit)
    }
}

impl Drop for ProcessPoolExecutor {
    fn drop(&mut self) {
        self.end(Shutdown { wait: true, cancel_futures: thread::panicking() });
    }
}

impl fmt::Debug for ProcessPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.describe(f, "ProcessPoolExecutor")
    }
}

impl Plan {
    /// Were its workers ended by the user, and not by what broke the pool?
    fn was_ended(&self) -> bool {
        self.stopped.load(Ordering::Acquire) && self.deaths.verdict().is_none()
    }

    /// Does it ask nothing special of any call?
    fn is_plain(&self) -> bool {
        self.task_timeout.is_none()
            && self.max_tasks_per_child.is_none()
            && self.max_memory_per_child.is_none()
    }

    /// Ends a call whose callbacks may wait for whatever they like, in a thread of its own.
    fn complete_beside(&self, completion: Completion) {
        let home = self.pool().map_or(Home::NONE, |pool| pool.home());
        self.callbacks.run(home, completion);
    }

    /// It is there as long as it has workers.
    fn pool(&self) -> Option<Arc<Pool<ProcessContext>>> {
        self.pool.get().and_then(Weak::upgrade)
    }

    /// Bytes that were sent to workers, and received from them.
    fn traffic(&self) -> (u64, u64) {
        let slots = self.slots.lock();
        let (mut sent, mut received) = *self.traffic.lock();
        for slot in slots.iter() {
            let its = slot.window.lock().traffic();
            sent += its.0;
            received += its.1;
        }
        (sent, received)
    }

    fn add_traffic(&self, (sent, received): (u64, u64)) {
        let mut traffic = self.traffic.lock();
        traffic.0 += sent;
        traffic.1 += received;
    }

    fn slot_where(&self, is: impl Fn(&Slot) -> bool) -> Option<Arc<Slot>> {
        self.slots.lock().iter().find(|slot| is(slot)).cloned()
    }

    /// The places of all workers, to be looked at one after the other without a lock around them.
    fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.lock().clone()
    }

    fn new(name: String) -> Self {
        Plan {
            name,
            surroundings: Surroundings::default(),
            terms: Terms::default(),
            initializer: None,
            finalizer: None,
            hooks: Hooks::default(),
            listener: Listener::of_this_thread(),
            pins: None,
            max_tasks_per_child: None,
            max_memory_per_child: None,
            task_timeout: None,
            start_timeout: None,
            grace_period: child::FAREWELL,
            deaths: Deaths::default(),
            slots: Mutex::default(),
            callbacks: Callbacks::default(),
            stopped: AtomicBool::new(false),
            singles: statics::AtomicBool::new(false),
            traffic: Mutex::default(),
            pool: OnceLock::new(),
        }
    }
}

/// What can be done about a call that a worker has in hand.
impl Engine for Plan {
    fn attend(&self, call: FutureId) {
        if let Some(slot) = self.slot_where(|slot| slot.berth.is_for(call))
            && let Some(replied) = slot.attend(call)
        {
            if let (Some(pool), Some(bell)) = (self.pool(), slot.berth.bell()) {
                pool.return_lent(Arc::clone(bell));
            }
            if let Some(completion) = replied.end(&slot) {
                self.complete_beside(completion);
            }
        }
    }

    fn has_started(&self, call: FutureId) -> Option<bool> {
        self.slots().iter().find_map(|slot| slot.window.lock().has_started(call))
    }

    fn recall(&self, call: FutureId) -> Option<bool> {
        let recalled = self.slots().iter().find_map(|slot| {
            let mut window = slot.window.lock();
            let recalled =
                if window.has_started(call)? { Some(Recalled::Begun) } else { window.recall(call) };
            window.unwant(call);
            recalled
        })?;
        match recalled {
            Recalled::Back(begun) => {
                begun.call_off();
                Some(true)
            }
            Recalled::Begun => Some(false),
        }
    }

    fn kill(&self, call: FutureId) -> Option<bool> {
        for slot in self.slots() {
            let mut window = slot.window.lock();
            match window.recall(call) {
                None => {}
                Some(Recalled::Back(begun)) => {
                    drop(window);
                    slot.berth.nudge(call);
                    begun.call_off();
                    return Some(true);
                }
                // Its child runs another one by now: the reply is on its way.
                Some(Recalled::Begun) if !window.is_last(call) => return Some(false),
                Some(Recalled::Begun) => {
                    // Under the lock, so that it is given no other call.
                    let exit = slot.terminate();
                    drop(window);
                    slot::see_off(exit.map(|exit| (slot, exit)).into_iter().collect());
                    return Some(true);
                }
            }
        }
        None
    }
}

/// The pool of a plan, and the way back to it.
fn pool_of(plan: &Arc<Plan>, hiring: Hiring) -> Result<Arc<Pool<ProcessContext>>, Error> {
    let pool = Pool::new(hiring, context_maker(plan))?;
    let engine: Weak<dyn Engine> = Arc::<Plan>::downgrade(plan);
    let _ = plan.pool.set(Arc::downgrade(&pool));
    away::register(pool.home(), engine);
    Ok(pool)
}

fn context_maker(plan: &Arc<Plan>) -> impl Fn(usize, &Arc<Account>) -> ProcessContext + Send + Sync + use<> {
    let plan = Arc::clone(plan);
    move |number, account| ProcessContext::new(Arc::clone(&plan), number, account)
}
