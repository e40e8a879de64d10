//! What thread pools and process pools have in common: a queue, a crew of workers that is hired
//! on demand, and the way they end.
//!
//! ```text
//!             close                    last worker out
//!   open ───────────────▶ closed ────────────────────▶ over
//!     │                     │
//!     └──── break ──────────┴──▶ broken (all that was queued fails) ──▶ over
//! ```
//!
//! Not here: what a worker does with a task (`Context`, one for each engine).
//! The rule: a task in the queue has a worker that will come for it, or the queue is emptied. So
//! a worker that wants to leave an open queue counts itself out first, and only then is free to.

#[cfg(all(test, loom))]
mod interleavings;
mod later;
mod queue;
mod room;
mod worker;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use queue::Queue;
pub(crate) use queue::Seat;
pub(crate) use room::Place;
use room::Room;
pub(crate) use worker::Context;
use worker::Left;

use crate::error::Error;
use crate::executor::Shutdown;
use crate::future::deadline_after;
use crate::future::own_pool::{Employer, employed, is_employed_at};
use crate::id::Home;
use crate::id::TaskRef;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{AtomicUsize, Condvar, Mutex, Ordering};

/// What a queue holds.
pub(crate) trait Item: Send + 'static {
    fn task(&self) -> TaskRef;
    fn fail(self, error: Error);
    fn cancel(self);
}

/// How many workers a pool has, how their threads are made, and how much it lets wait.
#[derive(Default)]
pub(crate) struct Hiring {
    pub(crate) max_workers: usize,
    pub(crate) name_prefix: String,
    pub(crate) stack_size: Option<usize>,
    /// A worker leaves when it had nothing to do for so long.
    pub(crate) idle_timeout: Option<Duration>,
    /// The most tasks in the queue.
    pub(crate) max_pending: Option<usize>,
}

/// A pool whose workers are threads with a context `C` each.
pub(crate) struct Pool<C: Context> {
    home: Home,
    queue: Queue<C::Item>,
    hiring: Hiring,
    make_context: Box<dyn Fn(usize) -> C + Send + Sync>,
    /// Workers there are that are not away, ready to be compared with the limit without the lock.
    hired: AtomicUsize,
    crew: Mutex<Crew>,
    someone_left: Condvar,
    /// Of all workers, also of those that have left.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Crew {
    /// Workers that have not left.
    present: usize,
    /// Those of them that wait for a call of this very pool: others may work meanwhile.
    away: usize,
    /// Workers ever hired; the number in a thread's name.
    ever: usize,
}

impl<C: Context> Pool<C> {
    pub(crate) fn new(
        hiring: Hiring,
        make_context: impl Fn(usize) -> C + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Error> {
        if hiring.max_workers == 0 {
            return Err(Error::invalid("max_workers is 0", "give at least 1, or use `default()`"));
        }
        if hiring.max_pending == Some(0) {
            return Err(Error::invalid("max_pending is 0", "give at least 1, or leave it out"));
        }
        Ok(Pool::of(hiring, make_context))
    }

    /// As `new`, for what is known to be valid.
    pub(crate) fn of(hiring: Hiring, make_context: impl Fn(usize) -> C + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Pool {
            home: Home::next(),
            queue: Queue::new(hiring.max_pending),
            hiring,
            make_context: Box::new(make_context),
            hired: AtomicUsize::new(0),
            crew: Mutex::default(),
            someone_left: Condvar::new(),
            threads: Mutex::default(),
        })
    }

    /// A place in the queue, when there is one. It waits, but not in a worker of this pool, which
    /// would wait for itself.
    pub(crate) fn place(&self) -> Place<'_> {
        match self.queue.room() {
            None => Place::ANYWHERE,
            Some(room) if is_employed_at(self.home) => room.squeeze_in(),
            Some(room) => room.wait(),
        }
    }

    /// A place in the queue, if there is one now, or none is needed because the queue is shut.
    pub(crate) fn place_now(&self) -> Option<Place<'_>> {
        self.queue.room().map_or(Some(Place::ANYWHERE), Room::look)
    }

    /// Queues a task, and hires a worker if none waits and there may be one more.
    pub(crate) fn submit(self: &Arc<Self>, item: C::Item, place: Place<'_>) {
        let pushed = self.queue.push(item, || self.hire());
        if pushed.is_ok() {
            place.keep();
        }
        match pushed {
            Ok(None | Some(Ok(()))) => {}
            // With others at work the pool is only smaller than it may be. (They may have done
            // the task and left since.)
            Ok(Some(Err(error))) => {
                self.fail_if_nobody_works(&error);
            }
            Err((item, refusal)) => {
                let task = item.task();
                item.fail(refusal.of(task));
            }
        }
    }

    /// Why a task would be refused now.
    pub(crate) fn refusal(&self, task: TaskRef) -> Option<Error> {
        self.queue.why_closed().map(|refusal| refusal.of(task))
    }

    fn hire(self: &Arc<Self>) -> Result<(), Error> {
        let max = self.hiring.max_workers;
        if self.hired.load(Ordering::Acquire) >= max {
            return Ok(());
        }
        let mut crew = self.crew.lock();
        if crew.at_work() >= max {
            return Ok(());
        }
        let number = crew.ever;
        let name = format!("{}_{number}", self.hiring.name_prefix);
        let mut thread = thread::Builder::new().name(name.clone());
        if let Some(bytes) = self.hiring.stack_size {
            thread = thread.stack_size(bytes);
        }
        let pool = Arc::clone(self);
        let handle = thread
            .spawn(move || employed(pool.home, pool.clone(), || pool.work(number)))
            .map_err(|error| Error::spawn(format!("the worker thread `{name}`"), error))?;
        let mut threads = self.threads.lock();
        // Those of workers that have retired must not pile up. (A model is too short for that.)
        #[cfg(not(loom))]
        threads.retain(|thread| !thread.is_finished());
        threads.push(handle);
        drop(threads);
        crew.ever += 1;
        crew.present += 1;
        self.post(&crew);
        Ok(())
    }

    /// The life of a worker thread.
    fn work(self: &Arc<Self>, number: usize) {
        // What a worker runs is shielded call by call; should anything slip through, the worker
        // is still counted out, and its pool ends with an error, not in silence.
        let life = catch_unwind(AssertUnwindSafe(|| {
            let context = (self.make_context)(number);
            worker::work(self, context)
        }));
        let ended = life.unwrap_or_else(|payload| {
            crate::outcome::discard(payload);
            Err(Error::broken("a worker of the pool panicked outside of a task; please report this", None))
        });
        if matches!(ended, Ok(Left::Retired)) {
            return;
        }
        let mut crew = self.crew.lock();
        if let Err(error) = ended {
            // What the system refuses to one worker, others may have: a smaller pool goes on.
            let others_go_on = matches!(error, Error::Spawn { .. }) && crew.at_work() > 1;
            if !others_go_on {
                drop(crew);
                self.fail(&error);
                crew = self.crew.lock();
            }
        }
        self.count_out(&mut crew);
    }

    /// Tells those who do not take the lock how many are at work.
    fn post(&self, crew: &Crew) {
        self.hired.store(crew.at_work(), Ordering::Release);
    }

    fn count_out(&self, crew: &mut Crew) {
        crew.present -= 1;
        self.post(crew);
        self.someone_left.notify_all();
    }

    /// Counts out a worker that waits and has had nothing to do; false if a task needs it.
    ///
    /// Who pushes before the queue lets it go keeps it here; who pushes after sees that fewer
    /// are hired, and hires. So no task is left without a worker.
    fn retire(&self) -> bool {
        let mut crew = self.crew.lock();
        self.hired.store(crew.at_work() - 1, Ordering::Release);
        let is_let_go = self.queue.dismiss();
        if is_let_go {
            self.count_out(&mut crew)
        } else {
            self.post(&crew)
        }
        is_let_go
    }

    /// Are there more workers than there may be, because one has come back for which another
    /// stood in?
    fn is_too_large(&self) -> bool {
        self.hired.load(Ordering::Relaxed) > self.hiring.max_workers
    }

    /// Counts out one worker that does not wait; false if it is not one too many. The others, as
    /// many as there may be, come for what is queued.
    fn shrink(&self) -> bool {
        let mut crew = self.crew.lock();
        let is_too_large = crew.at_work() > self.hiring.max_workers;
        if is_too_large {
            self.count_out(&mut crew);
        }
        is_too_large
    }

    /// Hires a worker if those that wait are too few for what is queued: one on whom others counted is not
    /// coming.
    fn cover(self: &Arc<Self>) {
        if self.queue.is_short_of_workers()
            && let Err(error) = self.hire()
        {
            self.fail_if_nobody_works(&error);
        }
    }

    /// No worker could be hired. Those who are away may be waiting for what is queued.
    fn fail_if_nobody_works(&self, error: &Error) {
        if self.crew.lock().at_work() == 0 && self.queue.len() > 0 {
            self.fail(error);
        }
    }

    /// The pool cannot go on: everything that is queued, and all that comes, ends with `cause`.
    pub(crate) fn fail(&self, cause: &Error) {
        let error = match cause {
            Error::Broken { .. } => cause.clone(),
            other => Error::broken(format!("the pool is broken: {other}"), Some(other.clone())),
        };
        self.queue.close_broken(&error);
        self.queue.drain().into_iter().for_each(|item| item.fail(error.clone()));
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        self.queue.close();
        if how.cancel_futures {
            self.queue.drain().into_iter().for_each(Item::cancel);
        }
        if how.wait {
            self.join(None);
        }
    }

    pub(crate) fn shutdown_timeout(&self, limit: Duration) -> bool {
        self.queue.close();
        self.join(deadline_after(limit))
    }

    /// What `Drop` of an executor does.
    pub(crate) fn leave(&self) {
        self.shutdown(Shutdown { wait: true, cancel_futures: thread::panicking() });
    }

    /// Waits until every worker has left; false if `deadline` came first, or if this thread is
    /// one of them and would wait for itself.
    fn join(&self, deadline: Option<Instant>) -> bool {
        if is_employed_at(self.home) {
            return false;
        }
        let mut crew = self.crew.lock();
        while crew.present > 0 {
            match deadline {
                None => self.someone_left.wait(&mut crew),
                Some(deadline) => {
                    if self.someone_left.wait_until(&mut crew, deadline).timed_out() && crew.present > 0 {
                        return false;
                    }
                }
            }
        }
        drop(crew);
        // They have left. What is left of their threads is the user's thread-locals: only a call without
        // limit can wait for their ends, and every such call does, also one that comes second.
        if deadline.is_none() {
            self.threads.lock().drain(..).for_each(|thread| drop(thread.join()));
        }
        true
    }

    pub(crate) fn max_workers(&self) -> usize {
        self.hiring.max_workers
    }

    /// How the executors print themselves.
    pub(crate) fn describe(&self, f: &mut fmt::Formatter<'_>, kind: &str) -> fmt::Result {
        // Looked at before they are told: what writes them may be anybody's.
        let workers = self.crew.lock().present;
        let open = self.queue.why_closed().is_none();
        f.debug_struct(kind)
            .field("name", &self.hiring.name_prefix)
            .field("max_workers", &self.hiring.max_workers)
            .field("workers", &workers)
            .field("pending", &self.queue.len())
            .field("open", &open)
            .finish()
    }

    /// Where its tasks are queued.
    pub(crate) fn home(&self) -> Home {
        self.home
    }
}

impl Crew {
    fn at_work(&self) -> usize {
        self.present - self.away
    }
}

impl<C: Context> Employer for Pool<C> {
    fn step_out(self: Arc<Self>) {
        let mut crew = self.crew.lock();
        crew.away += 1;
        self.post(&crew);
        drop(crew);
        // Whoever pushes after this look sees that one is away, and hires.
        self.cover();
    }

    fn step_in(&self) {
        let mut crew = self.crew.lock();
        crew.away -= 1;
        self.post(&crew);
    }
}

/// The CPUs that affinity and control groups leave to this process; at least 1.
pub(crate) fn usable_cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
