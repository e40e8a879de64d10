//! [`Account`]: what a pool knows of its calls, in numbers; and the one place from which observers hear of calls.
//!
//! ```text
//!   submit ── stamp ──▶ cell ── starts ──▶ queue wait ── ends ──▶ run time, one more of its kind
//! ```
//!
//! Every call of a pool is counted, by whoever ends it: a thread has a [`Shard`] of its own, so that nobody waits
//! for anybody. Times cost more, as the clock is read for them (some 25 to 50 ns), so not every call is timed: all are in a pool
//! that is observed, and in one whose calls take long; where nearly all of the last [`ENOUGH`] took less than [`QUICK`],
//! one in [`SAMPLE`] is, and counts for that many.
//!
//! Not here: how times are spread (`quantiles.rs`), the numbers as they are shown (`stats.rs`), what is told of workers (the contexts of the engines). The rule: a call
//! is on the account of the pool that its cell names, and ends there once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::id::{FutureId, Home, TaskRef};
use crate::observer::{Event, Observers, What};
use crate::quantiles::Histogram;
use crate::worker::WorkerInfo;

/// Calls that take less are not worth reading the clock for each.
const QUICK: Duration = Duration::from_micros(20);

/// One of these shows that times have changed.
const LONG: Duration = Duration::from_millis(1);

/// After so many quick ones, not counting the few that were not.
const ENOUGH: u32 = 64;

/// Then one in so many is timed.
const SAMPLE: u64 = 128;

/// How a call, or an attempt of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[cfg_attr(not(feature = "timeline"), allow(unreachable_pub, reason = "the timeline shows it"))]
pub enum Outcome {
    /// It returned.
    Finished,
    /// It was cancelled, and not run any more.
    Cancelled,
    /// It returned an error: [`Error::Raised`].
    Raised,
    /// It panicked.
    Panicked,
    /// It was stopped at its time limit.
    TimedOut,
    /// Its worker process died.
    WorkerDied,
    /// Any other error.
    Failed,
}

const OUTCOMES: usize = Outcome::Failed as usize + 1;

impl Outcome {
    #[inline]
    pub(crate) fn of(error: Option<&Error>) -> Outcome {
        error.map_or(Outcome::Finished, Outcome::of_error)
    }

    #[cold]
    pub(crate) fn of_error(error: &Error) -> Outcome {
        match error {
            Error::Raised { .. } => Outcome::Raised,
            Error::Panicked { .. } => Outcome::Panicked,
            Error::Cancelled { .. } => Outcome::Cancelled,
            Error::TimedOut { .. } => Outcome::TimedOut,
            Error::WorkerDied { .. } => Outcome::WorkerDied,
            Error::GaveUp { attempts, .. } => attempts.last().map_or(Outcome::Failed, Outcome::of_error),
            _ => Outcome::Failed,
        }
    }
}

/// What one thread has counted. It alone writes.
#[derive(Debug, Default)]
pub(crate) struct Shard([AtomicU64; OUTCOMES]);

impl Shard {
    #[inline]
    fn add(&self, outcome: Outcome, calls: u64) {
        let counter = &self.0[outcome as usize];
        counter.store(counter.load(Ordering::Relaxed) + calls, Ordering::Relaxed);
    }

    fn read(&self) -> [u64; OUTCOMES] {
        std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed))
    }
}

/// The account of one pool.
pub(crate) struct Account {
    home: Home,
    name: String,
    observers: RwLock<Arc<Observers>>,
    is_observed: bool,
    is_over: AtomicBool,
    /// How many more timed calls were quick of late than were not, about.
    score: AtomicU32,
    books: Mutex<Books>,
    pub(crate) waits: Histogram,
    pub(crate) runs: Histogram,
    pub(crate) retried: AtomicU64,
    pub(crate) replaced: AtomicU64,
}

#[derive(Default)]
struct Books {
    /// Of threads that have none any more.
    closed: [u64; OUTCOMES],
    open: Vec<Arc<Shard>>,
}

/// All pools there are, by their numbers.
static ACCOUNTS: RwLock<BTreeMap<u32, Arc<Account>>> = RwLock::new(BTreeMap::new());

impl Account {
    /// The account of a new pool.
    pub(crate) fn open(home: Home, name: &str, observers: Observers) -> Arc<Account> {
        let observers = observers.and_all();
        let account = Arc::new(Account {
            home,
            name: name.to_owned(),
            is_observed: !observers.is_empty() && !cfg!(loom),
            observers: RwLock::new(Arc::new(observers)),
            is_over: AtomicBool::new(false),
            score: AtomicU32::new(0),
            books: Mutex::default(),
            waits: Histogram::default(),
            runs: Histogram::default(),
            retried: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
        });
        if !cfg!(loom) {
            let mut accounts = ACCOUNTS.write().unwrap_or_else(PoisonError::into_inner);
            accounts.insert(home.number(), Arc::clone(&account));
        }
        account
    }

    /// The pool is gone, and with it all its calls.
    pub(crate) fn close(&self) {
        if cfg!(loom) {
            return;
        }
        let account = ACCOUNTS.write().unwrap_or_else(PoisonError::into_inner).remove(&self.home.number());
        let mut observers = self.observers.write().unwrap_or_else(PoisonError::into_inner);
        let ours = std::mem::take(&mut *observers);
        drop(observers);
        crate::outcome::discard((account, ours));
    }

    pub(crate) fn home(&self) -> Home {
        self.home
    }

    /// Every call of the pool has ended, and its workers are gone.
    pub(crate) fn over(&self) {
        if self.is_observed && !self.is_over.swap(true, Ordering::AcqRel) {
            self.tell_now(What::PoolOver {});
        }
    }

    pub(crate) fn is_observed(&self) -> bool {
        self.is_observed
    }

    /// Is every call timed?
    #[inline]
    pub(crate) fn is_slow(&self) -> bool {
        self.is_observed || self.score.load(Ordering::Relaxed) < ENOUGH
    }

    /// For a call that comes.
    #[inline]
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { home: self.home, every: self.is_slow(), is_observed: self.is_observed }
    }

    /// Tells those who observe the pool. No lock may be held.
    pub(crate) fn tell(&self, at: Instant, what: What<'_>) {
        if self.is_observed {
            let observers = self.observers.read().unwrap_or_else(PoisonError::into_inner).clone();
            observers.tell(&Event { at, pool: &self.name, pool_id: self.home.number(), what });
        }
    }

    /// The same of what happens now.
    pub(crate) fn tell_now(&self, what: What<'_>) {
        if self.is_observed {
            self.tell(Instant::now(), what);
        }
    }

    /// A call was begun at that time.
    pub(crate) fn starts(
        &self,
        watch: &mut Stopwatch,
        task: TaskRef,
        attempt: u32,
        worker: Option<&WorkerInfo>,
        at: Instant,
    ) {
        let Some(Start { at, waited }) = self.note_start(watch, at) else { return };
        self.tell(at, What::Started { task, attempt, worker, waited });
    }

    /// As `starts`, but whoever asks tells. `None`: it has started before, or is not timed.
    pub(crate) fn note_start(&self, watch: &mut Stopwatch, at: Instant) -> Option<Start> {
        if !watch.is_timed() || watch.has_started {
            return None;
        }
        // A worker counts what a call took from its last reply on, if it did not have to wait for the call: that may be
        // a moment before it was submitted.
        let at = at.max(watch.since());
        let waited = at.duration_since(watch.since());
        self.waits.add(waited, watch.weight());
        watch.stamp = stamp(at) | watch.stamp & 1;
        watch.has_started = true;
        Some(Start { at, waited })
    }

    /// How long it ran, if that is known; to be asked once.
    fn note_end(&self, watch: &Stopwatch, now: Instant) -> Option<Duration> {
        if !watch.has_started {
            return None;
        }
        let ran = now.saturating_duration_since(watch.since());
        self.note_run(ran, watch.weight());
        Some(ran)
    }

    /// So many calls took so long each.
    pub(crate) fn note_run(&self, ran: Duration, calls: u64) {
        self.runs.add(ran, calls);
        // A hint: what others write meanwhile may be lost.
        let score = self.score.load(Ordering::Relaxed);
        let next = if ran < QUICK {
            (score + 1).min(2 * ENOUGH)
        } else if ran < LONG {
            // Of a quick one that was interrupted, perhaps.
            score.saturating_sub(ENOUGH / 4)
        } else {
            0
        };
        if next != score {
            self.score.store(next, Ordering::Relaxed);
        }
    }

    /// So many calls ended, each in its way.
    pub(crate) fn counts(&self) -> [u64; OUTCOMES] {
        let books = self.books();
        let mut sum = books.closed;
        for shard in &books.open {
            add(&mut sum, &shard.read());
        }
        sum
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(sum: &mut [u64; OUTCOMES], more: &[u64; OUTCOMES]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where a call is queued, and whether it is to be timed in any case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) home: Home,
    every: bool,
    is_observed: bool,
}

impl Ticket {
    /// Of calls that are in no pool.
    pub(crate) const NONE: Ticket = Ticket { home: Home::NONE, every: false, is_observed: false };

    /// For how many items of a map the one of that number is timed, if it is.
    pub(crate) fn weight(self, item: usize) -> Option<u64> {
        if self.every { Some(1) } else { (item as u64).is_multiple_of(SAMPLE).then_some(SAMPLE) }
    }

    /// When the call was submitted; 0 if it is not to be timed. The lowest bit: it counts for others too.
    #[inline]
    pub(crate) fn stamp(self, id: FutureId) -> u64 {
        if cfg!(loom) || self.home == Home::NONE {
            0
        } else if self.every {
            stamp(Instant::now())
        } else if id.get().is_multiple_of(SAMPLE) {
            stamp(Instant::now()) | 1
        } else {
            0
        }
    }
}

/// Where times are counted from.
static EPOCH: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    // Nothing that is timed was before it.
    now.checked_sub(Duration::from_secs(1)).unwrap_or(now)
});

fn stamp(at: Instant) -> u64 {
    let since = at.saturating_duration_since(*EPOCH).as_nanos();
    (u64::try_from(since).unwrap_or(u64::MAX >> 1).max(1)) << 1
}

/// When a call was begun, and how long it had waited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) at: Instant,
    pub(crate) waited: Duration,
}

/// The time of one call, in the hands of whoever has started it: since when it waits, then since when it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    stamp: u64,
    has_started: bool,
    has_ended: bool,
}

impl Stopwatch {
    #[inline]
    pub(crate) fn new(stamp: u64) -> Self {
        Stopwatch { stamp, has_started: false, has_ended: false }
    }

    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.stamp != 0
    }

    #[inline]
    pub(crate) fn has_started(&self) -> bool {
        self.has_started
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The stamp of a call that is put back: one that has run waits from now on.
    #[inline]
    pub(crate) fn again(&self) -> Option<u64> {
        self.has_started.then(|| stamp(Instant::now()) | self.stamp & 1)
    }

    fn since(&self) -> Instant {
        *EPOCH + Duration::from_nanos(self.stamp >> 1)
    }

    /// For so many calls it stands.
    fn weight(&self) -> u64 {
        if self.stamp & 1 == 1 { SAMPLE } else { 1 }
    }
}

/// A thread's place at the account for which it counted last, of two such.
struct Desk {
    account: Arc<Account>,
    shard: Arc<Shard>,
}

impl Desk {
    fn at(account: Arc<Account>) -> Self {
        let shard = Arc::new(Shard::default());
        account.books().open.push(Arc::clone(&shard));
        Desk { account, shard }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let mut books = self.account.books();
        books.open.retain(|other| !Arc::ptr_eq(other, &self.shard));
        add(&mut books.closed, &self.shard.read());
    }
}

thread_local! {
    /// Two, of pools with even and with odd numbers: who works for one pool and calls another goes back and forth.
    static DESKS: [RefCell<Option<Desk>>; 2] = const { [const { RefCell::new(None) }; 2] };
    static WORKER: RefCell<Option<Arc<WorkerInfo>>> = const { RefCell::new(None) };
    /// Is the pool observed for which this thread works?
    static MINE_IS_OBSERVED: Cell<bool> = const { Cell::new(false) };
}

/// Which of the desks is for that pool.
#[inline]
fn side(home: Home) -> usize {
    (home.number() & 1) as usize
}

/// This thread is that worker, as long as it lives.
pub(crate) fn is_worker(account: &Account, worker: Arc<WorkerInfo>) {
    MINE_IS_OBSERVED.set(account.is_observed);
    let _ = WORKER.try_with(|mine| mine.replace(Some(worker)));
}

/// The account of that pool, if the call is in one.
fn of(home: Home) -> Option<Arc<Account>> {
    if cfg!(loom) || home == Home::NONE {
        return None;
    }
    let mine = DESKS.try_with(|desks| {
        let desk = desks[side(home)].borrow();
        desk.as_ref().filter(|desk| desk.account.home == home).map(|desk| Arc::clone(&desk.account))
    });
    if let Ok(Some(account)) = mine {
        return Some(account);
    }
    let accounts = ACCOUNTS.read().unwrap_or_else(PoisonError::into_inner);
    accounts.get(&home.number()).cloned()
}

/// Counts calls that ended.
#[inline]
pub(crate) fn count(home: Home, outcome: Outcome, calls: u64) {
    if cfg!(loom) || home == Home::NONE {
        return;
    }
    let is_counted = DESKS.try_with(|desks| {
        let desk = desks[side(home)].try_borrow().ok()?;
        let desk = desk.as_ref().filter(|desk| desk.account.home == home)?;
        desk.shard.add(outcome, calls);
        Some(())
    });
    if is_counted.ok().flatten().is_none() {
        count_elsewhere(home, outcome, calls);
    }
}

#[cold]
#[inline(never)]
fn count_elsewhere(home: Home, outcome: Outcome, calls: u64) {
    let Some(account) = of(home) else { return };
    let desk = Desk::at(Arc::clone(&account));
    desk.shard.add(outcome, calls);
    // In a thread that is ending it is closed at once.
    let before = DESKS.try_with(|desks| desks[side(home)].replace(Some(desk)));
    drop(before);
}

/// A call that is timed begins here and now.
#[cold]
#[inline(never)]
pub(crate) fn starts(home: Home, watch: &mut Stopwatch, task: TaskRef, attempt: u32) {
    let Some(account) = of(home) else { return };
    let worker = if account.is_observed { WORKER.try_with(|mine| mine.borrow().clone()).ok() } else { None };
    account.starts(watch, task, attempt, worker.flatten().as_deref(), Instant::now());
}

/// A call is about to end, with that error or without.
#[inline]
pub(crate) fn ends(home: Home, watch: &mut Stopwatch, task: TaskRef, error: Option<&Error>, failed: usize) {
    if watch.is_timed() {
        ends_timed(home, watch, task, error, failed);
    }
    watch.has_ended = true;
}

#[cold]
#[inline(never)]
fn ends_timed(home: Home, watch: &Stopwatch, task: TaskRef, error: Option<&Error>, failed: usize) {
    let Some(account) = of(home) else { return };
    let now = Instant::now();
    let ran = account.note_end(watch, now);
    let what = match (error, Outcome::of(error)) {
        (None, _) => What::Finished { task, ran: ran.unwrap_or_default(), failed },
        (Some(_), Outcome::Cancelled) => What::Cancelled { task },
        (Some(error), Outcome::TimedOut) => What::TimedOut { task, error, ran },
        (Some(error), _) => What::Failed { task, error, ran },
    };
    account.tell(now, what);
}

/// A call has been handed in, as one of so many.
#[inline]
pub(crate) fn submitted(ticket: Ticket, stamp: u64, task: TaskRef, calls: usize) {
    if ticket.is_observed {
        tell_submitted(ticket, stamp, task, calls);
    }
}

#[cold]
#[inline(never)]
fn tell_submitted(ticket: Ticket, stamp: u64, task: TaskRef, calls: usize) {
    if let Some(account) = of(ticket.home) {
        account.tell(Stopwatch::new(stamp).since(), What::Submitted { task, calls });
    }
}

/// A call of that pool, in one of its threads, says how far it is.
pub(crate) fn progress(home: Home, task: TaskRef, done: u64, total: u64) {
    if MINE_IS_OBSERVED.get()
        && let Some(account) = of(home)
    {
        account.tell_now(What::Progress { task, done, total });
    }
}

/// It will never run.
pub(crate) fn cancelled(home: Home, task: TaskRef) {
    count(home, Outcome::Cancelled, 1);
    if let Some(account) = of(home) {
        account.tell_now(What::Cancelled { task });
    }
}

/// Its attempt failed, and there is to be another.
pub(crate) fn retried(home: Home, task: TaskRef, error: &Error, attempt: u32, due: Instant) {
    if let Some(account) = of(home) {
        account.retried.fetch_add(1, Ordering::Relaxed);
        account.tell_now(What::Retried { task, error, attempt, due });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_call_begins_before_it_was_submitted() {
        let account = Account::open(Home::next(), "early", Observers::default());
        let submitted = Instant::now();
        let mut watch = Stopwatch::new(stamp(submitted));
        let Start { at, waited } =
            account.note_start(&mut watch, submitted - Duration::from_millis(1)).unwrap();
        assert_eq!((at, waited), (submitted, Duration::ZERO));
    }
}
