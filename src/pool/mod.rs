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
//! Not here: who waits for whom at the queue (`floor.rs`, `seat.rs`); what a worker does with a task (`Context`, one for each
//! engine). The rule: a task in the queue has a worker that will come for it, or the queue is emptied. So a worker
//! that wants to leave an open queue counts itself out first, and only then is free to.

#[cfg(all(unix, not(loom)))]
mod call;
mod floor;
#[cfg(all(test, loom))]
mod interleavings;
mod later;
mod pins;
mod queue;
mod room;
mod seat;
mod worker;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(all(unix, not(loom)))]
pub(crate) use call::Call;
use floor::{Floor, Pushed, Refusal, Vacancy};
pub(crate) use pins::{Pin, Pins};
pub(crate) use queue::Queued;
pub(crate) use room::Place;
use room::Room;
pub(crate) use seat::{Seat, Sleep};
pub(crate) use worker::Context;

use crate::account::{Account, Ticket};
use crate::error::Error;
use crate::executor::Shutdown;
use crate::future::deadline_after;
use crate::future::own_pool::{Employer, employed, is_employed_at};
use crate::id::{Home, TaskRef};
use crate::observer::Observers;
use crate::primitives::thread::{self, JoinHandle};
use crate::primitives::{Mutex, Parker};
use crate::signals;
use crate::stats::Stats;

/// What a queue holds.
pub(crate) trait Item: Queued + Send + 'static {
    fn task(&self) -> TaskRef;
    fn fail(self, error: Error);
    fn cancel(self);
    /// How many calls it is, of those that wait.
    fn calls(&self) -> usize {
        1
    }
    /// Somebody else runs it.
    fn forget(self) {
        self.cancel();
    }
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
    pub(crate) observers: Observers,
}

/// Makes the context of the worker of that number, in its thread.
type MakeContext<C> = Box<dyn Fn(usize, &Arc<Account>) -> C + Send + Sync>;

/// A pool whose workers are threads with a context `C` each.
pub(crate) struct Pool<C: Context> {
    home: Home,
    account: Arc<Account>,
    floor: Floor<C::Item>,
    hiring: Hiring,
    make_context: MakeContext<C>,
    /// Of all workers, also of those that have left.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<C: Context> Pool<C> {
    pub(crate) fn new(
        hiring: Hiring,
        make_context: impl Fn(usize, &Arc<Account>) -> C + Send + Sync + 'static,
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
    pub(crate) fn of(
        mut hiring: Hiring,
        make_context: impl Fn(usize, &Arc<Account>) -> C + Send + Sync + 'static,
    ) -> Arc<Self> {
        let home = Home::next();
        let account = Account::open(home, &hiring.name_prefix, std::mem::take(&mut hiring.observers));
        Arc::new(Pool {
            home,
            account,
            floor: Floor::new(hiring.max_workers, hiring.max_pending),
            hiring,
            make_context: Box::new(make_context),
            threads: Mutex::default(),
        })
    }

    /// A place in the queue, when there is one. It waits, but not in a worker of this pool, which
    /// would wait for itself.
    pub(crate) fn place(&self) -> Place<'_> {
        match self.floor.room() {
            None => Place::ANYWHERE,
            Some(room) if is_employed_at(self.home) => room.squeeze_in(),
            Some(room) => room.wait(),
        }
    }

    /// A place in the queue, if there is one now, or none is needed because the queue is shut.
    pub(crate) fn place_now(&self) -> Option<Place<'_>> {
        self.floor.room().map_or(Some(Place::ANYWHERE), Room::look)
    }

    /// Queues a task, and hires a worker if nobody comes for it and there may be one more.
    pub(crate) fn submit(self: &Arc<Self>, item: C::Item, place: Place<'_>) {
        self.see_to(self.floor.push(item), place);
    }

    /// As `submit`, unless the caller can do the task in the place of a worker that sleeps, which has that bell:
    /// `return_lent` or `unlend` is to follow.
    pub(crate) fn submit_or_lend(
        self: &Arc<Self>,
        item: C::Item,
        place: Place<'_>,
    ) -> Option<(C::Item, Arc<Parker>)> {
        let pushed = match self.floor.push_or_lend(item) {
            Ok(Pushed::Lent(item, bell)) => return Some((item, bell)),
            Ok(Pushed::Queued(vacancy)) => Ok(vacancy),
            Err(refused) => Err(refused),
        };
        self.see_to(pushed, place);
        None
    }

    /// Does what follows when a task was let into the queue, or refused.
    fn see_to(self: &Arc<Self>, pushed: Result<Option<Vacancy>, (C::Item, Refusal)>, place: Place<'_>) {
        match pushed {
            Ok(vacancy) => {
                place.keep();
                self.fill(vacancy);
            }
            Err((item, refusal)) => {
                drop(place);
                let task = item.task();
                item.fail(refusal.of(task));
            }
        }
    }

    /// A worker that was lent has nothing to do any more.
    pub(crate) fn return_lent(self: &Arc<Self>, bell: Arc<Parker>) {
        self.fill(self.floor.return_lent(bell));
    }

    /// The worker itself is to do the task for which it was lent.
    pub(crate) fn unlend(self: &Arc<Self>, bell: Arc<Parker>, item: C::Item) {
        self.fill(self.floor.unlend(bell, item));
    }

    /// Why a task would be refused, as far as can be seen at a glance.
    pub(crate) fn refusal(&self, task: TaskRef) -> Option<Error> {
        self.floor.seems_closed().map(|refusal| refusal.of(task))
    }

    /// Hires a worker, if one is wanted. If that fails, the pool is only smaller than it may be, as long as
    /// others are at work. (They may have done the task and left since.) True: one was hired.
    fn fill(self: &Arc<Self>, vacancy: Option<Vacancy>) -> bool {
        let Some(vacancy) = vacancy else { return false };
        let hired = self.hire(vacancy);
        if let Err(error) = &hired
            && self.floor.is_forsaken()
        {
            self.fail(error);
        }
        hired.is_ok()
    }

    fn hire(self: &Arc<Self>, vacancy: Vacancy) -> Result<(), Error> {
        let number = vacancy.number;
        let name = format!("{}_{number}", self.hiring.name_prefix);
        let mut thread = thread::Builder::new().name(name.clone());
        if let Some(bytes) = self.hiring.stack_size {
            thread = thread.stack_size(bytes);
        }
        let pool = Arc::clone(self);
        // Held while it is spawned: whoever joins the threads finds all that were counted.
        let mut threads = self.threads.lock();
        match thread.spawn(move || employed(pool.home, pool.clone(), || pool.work(number))) {
            Ok(handle) => {
                // Those of workers that have retired must not pile up. (A model is too short for that.)
                #[cfg(not(loom))]
                threads.retain(|thread| !thread.is_finished());
                threads.push(handle);
                Ok(())
            }
            Err(error) => {
                drop(threads);
                self.floor.not_hired(vacancy);
                Err(Error::spawn(format!("the worker thread `{name}`"), error))
            }
        }
    }

    /// The life of a worker thread.
    fn work(self: &Arc<Self>, number: usize) {
        let cover = || while self.cover() {};
        let seat = Seat::at(&self.floor, &cover);
        // What a worker runs is shielded call by call; should anything slip through, the worker
        // is still counted out, and its pool ends with an error, not in silence.
        let life = catch_unwind(AssertUnwindSafe(|| {
            let context = (self.make_context)(number, &self.account);
            worker::work(self, context, &seat)
        }));
        let ended = life.unwrap_or_else(|payload| {
            crate::outcome::discard(payload);
            Err(Error::broken("a worker of the pool panicked outside of a task; please report this", None))
        });
        if let Err(error) = ended {
            // What the system refuses to one worker, others may have: a smaller pool goes on.
            if !(matches!(error, Error::Spawn { .. }) && seat.leave_to_others()) {
                self.fail(&error);
                seat.leave();
            }
        }
    }

    /// Hires a worker if those that come are too few for what is queued: one on whom others counted is not
    /// coming. True: one was hired, and perhaps another is needed.
    fn cover(self: &Arc<Self>) -> bool {
        self.fill(self.floor.cover())
    }

    /// The pool cannot go on: everything that is queued, and all that comes, ends with `cause`.
    pub(crate) fn fail(&self, cause: &Error) {
        let error = match cause {
            Error::Broken { .. } => cause.clone(),
            other => Error::broken(format!("the pool is broken: {other}"), Some(other.clone())),
        };
        self.floor.close_broken(&error);
        self.floor.drain().into_iter().for_each(|item| item.fail(error.clone()));
    }

    /// From now on nothing is let in.
    pub(crate) fn close(&self) {
        self.floor.close();
    }

    /// Takes out all that is queued.
    pub(crate) fn drain(&self) -> Vec<C::Item> {
        self.floor.drain()
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        self.floor.close();
        if how.cancel_futures {
            self.floor.drain().into_iter().for_each(Item::cancel);
            // Those that run may hear of it.
            signals::cancel_all(self.home);
        }
        if how.wait {
            self.join(None);
        }
    }

    pub(crate) fn shutdown_timeout(&self, limit: Duration) -> bool {
        self.floor.close();
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
        if !self.floor.wait_for_the_last(deadline) {
            return false;
        }
        // They have left. What is left of their threads is the user's thread-locals: only a call without
        // limit can wait for their ends, and every such call does, also one that comes second.
        if deadline.is_none() {
            self.threads.lock().drain(..).for_each(|thread| drop(thread.join()));
        }
        self.account.over();
        true
    }

    pub(crate) fn max_workers(&self) -> usize {
        self.floor.max_workers()
    }

    /// Changes how many workers there may be: more are hired for what waits, and those that are too many leave when they
    /// have nothing to do.
    pub(crate) fn resize(self: &Arc<Self>, max_workers: usize) -> Result<(), Error> {
        if max_workers == 0 {
            return Err(Error::invalid("max_workers is 0", "give at least 1, or shut the pool down"));
        }
        self.floor.resize(max_workers);
        while self.cover() {}
        Ok(())
    }

    /// How the executors print themselves.
    pub(crate) fn describe(&self, f: &mut fmt::Formatter<'_>, kind: &str) -> fmt::Result {
        // Looked at before they are told: what writes them may be anybody's.
        let (workers, pending, _) = self.floor.census();
        let open = self.floor.why_closed().is_none();
        f.debug_struct(kind)
            .field("name", &self.hiring.name_prefix)
            .field("max_workers", &self.max_workers())
            .field("workers", &workers)
            .field("pending", &pending)
            .field("open", &open)
            .finish()
    }

    /// Does the number of tasks in the queue have a bound?
    pub(crate) fn is_bounded(&self) -> bool {
        self.floor.room().is_some()
    }

    /// For a task that is going to be queued.
    #[inline]
    pub(crate) fn ticket(&self) -> Ticket {
        self.account.ticket()
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// How it is doing.
    pub(crate) fn stats(&self) -> Stats {
        let (workers, pending, running) = self.floor.census();
        let mut more = 0;
        for item in self.floor.for_many() {
            more += item.calls().saturating_sub(1);
            item.forget();
        }
        let pending = pending + more;
        Stats { workers, pending, running, ..Stats::of(&self.account) }
    }

    /// Where its tasks are queued.
    pub(crate) fn home(&self) -> Home {
        self.home
    }
}

impl<C: Context> Drop for Pool<C> {
    fn drop(&mut self) {
        signals::forget_all(self.home);
        self.account.over();
        self.account.close();
    }
}

impl<C: Context> Employer for Pool<C> {
    fn step_out(self: Arc<Self>) {
        self.fill(self.floor.step_out());
    }

    fn step_in(&self) {
        self.floor.step_in();
    }

    fn retract(&self, cell: *const ()) {
        let item = self.floor.take_back(|item| item.stands_for(cell));
        item.into_iter().for_each(Item::forget);
    }
}

/// The CPUs that affinity and control groups leave to this process; at least 1.
pub(crate) fn usable_cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
