//! The observer that makes a span of each call.
//!
//! | told         | the span                                                    | an event in it                      |
//! |--------------|-------------------------------------------------------------|-------------------------------------|
//! | submitted    | is made, under the one that the submitter is in             |                                     |
//! | started      | has `worker`, `attempt`, `queue_wait`; a thread enters it   |                                     |
//! | progress     |                                                             | TRACE                               |
//! | retried      | is left                                                     | DEBUG, or WARN                      |
//! | ended        | has `run_time`, `outcome`; is left, and closed              | DEBUG, or WARN                      |
//!
//! The spans of all pools are in one table, by the numbers of their calls, where those find them who tell what a worker
//! process has logged. If the subscriber does not want our span, the submitter's is in its place, so that what the call logs
//! is still found under that.
//!
//! Not here: what comes out of worker processes (`again.rs`). The rule: a thread leaves a span where it entered it, so only
//! spans of calls that run in a thread of this process are entered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::dispatcher::{DefaultGuard, get_default, set_default, with_default};
use tracing::field::{self, Empty};
use tracing::level_filters::LevelFilter;
use tracing::span::EnteredSpan;
use tracing::{Id, Level, Span, debug, info_span, trace, warn};

use super::{Home, TARGET, is_one};
use crate::error::Error;
use crate::id::{FutureId, TaskRef};
use crate::observer::{Event, Observer, Observers, What};
use crate::worker::WorkerInfo;

/// The observer of one pool.
pub(crate) struct Spans {
    /// Its calls run in threads of this process.
    runs_here: bool,
    home: Home,
}

impl Spans {
    /// Has those who observe a pool of threads, which this thread builds, make spans of its calls. Where there is no
    /// subscriber, nobody need be told of anything.
    pub(crate) fn of_threads(observers: Observers) -> Observers {
        Spans { runs_here: true, home: Home::of_this_thread() }.among(observers)
    }

    /// The same for a pool of processes.
    #[cfg(unix)]
    pub(crate) fn of_processes(observers: Observers) -> Observers {
        Spans { runs_here: false, home: Home::of_this_thread() }.among(observers)
    }

    fn among(self, mut observers: Observers) -> Observers {
        if LevelFilter::current() != LevelFilter::OFF {
            observers.add(self);
        }
        observers
    }
}

/// A call that is not over.
#[derive(Clone)]
struct Open {
    span: Span,
    /// It was made for the call, and is not the submitter's.
    is_ours: bool,
}

impl Open {
    fn new(pool: &str, task: TaskRef, calls: usize) -> Option<Open> {
        let span = info_span!(
            target: TARGET,
            "task",
            name = task.name,
            id = task.id.get(),
            pool,
            calls,
            worker = Empty,
            attempt = Empty,
            queue_wait = Empty,
            run_time = Empty,
            outcome = Empty,
        );
        if !span.is_disabled() {
            return Some(Open { span, is_ours: true });
        }
        let span = Span::current();
        (!span.is_disabled()).then_some(Open { span, is_ours: false })
    }

    /// The span, to write in.
    fn ours(&self) -> Option<&Span> {
        self.is_ours.then_some(&self.span)
    }
}

/// Spans in parts, so that threads do not wait for one another.
static TABLE: [Mutex<BTreeMap<FutureId, Open>>; 16] = [const { Mutex::new(BTreeMap::new()) }; 16];

/// How many there are. Where nobody listens, nobody looks further than that: whoever is told of a call was told by
/// somebody who knew that it was submitted.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn part(id: FutureId) -> MutexGuard<'static, BTreeMap<FutureId, Open>> {
    TABLE[id.get() as usize % TABLE.len()].lock().unwrap_or_else(PoisonError::into_inner)
}

fn insert(id: FutureId, open: Open) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let before = part(id).insert(id, open);
    debug_assert!(before.is_none(), "a call is submitted once");
}

fn get(id: FutureId) -> Option<Open> {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return None;
    }
    part(id).get(&id).cloned()
}

fn remove(id: FutureId) -> Option<Open> {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let open = part(id).remove(&id);
    COUNT.fetch_sub(usize::from(open.is_some()), Ordering::Relaxed);
    open
}

/// Is it for the machine, or the pool, to answer for?
fn is_grave(error: &Error) -> bool {
    match error {
        Error::WorkerDied { .. } | Error::TimedOut { .. } | Error::Broken { .. } => true,
        Error::GaveUp { attempts, .. } => attempts.last().is_some_and(is_grave),
        _ => false,
    }
}

/// The span under which that call is found.
#[cfg(unix)]
pub(super) fn span_of(id: FutureId) -> Option<Span> {
    get(id).map(|open| open.span)
}

thread_local! {
    /// The calls that run in this thread, innermost last.
    static INSIDE: RefCell<Vec<Inside>> = const { RefCell::new(Vec::new()) };
}

/// A thread is in the span of a call. What is first here is let go of first.
struct Inside {
    id: FutureId,
    _span: EnteredSpan,
    /// The subscriber is the submitter's, as the thread has none of its own.
    _default: Option<DefaultGuard>,
}

fn enter(id: FutureId, span: Span) {
    let has_one = get_default(is_one);
    let default = span.with_subscriber(|(_, dispatch)| (!has_one).then(|| set_default(dispatch))).flatten();
    let inside = Inside { id, _span: span.entered(), _default: default };
    // A thread that is ending runs no calls.
    let _ = INSIDE.try_with(|all| all.borrow_mut().push(inside));
}

fn leave(id: FutureId) {
    let inside = INSIDE.try_with(|all| {
        let mut all = all.borrow_mut();
        let at = all.iter().rposition(|inside| inside.id == id)?;
        Some(all.remove(at))
    });
    // Here the subscriber is told.
    drop(inside);
}

impl Spans {
    fn start(&self, task: TaskRef, attempt: u32, worker: Option<&WorkerInfo>, waited: Duration) {
        let Some(open) = get(task.id) else { return };
        if let Some(span) = open.ours() {
            if let Some(worker) = worker {
                span.record("worker", &*worker.name);
            }
            span.record("attempt", attempt);
            span.record("queue_wait", waited.as_secs_f64());
        }
        if self.runs_here {
            enter(task.id, open.span);
        }
    }

    fn end(&self, task: TaskRef, outcome: &str, ran: Option<Duration>, tell: impl FnOnce(Option<&Open>)) {
        let open = remove(task.id);
        if let Some(span) = open.as_ref().and_then(Open::ours) {
            span.record("outcome", outcome);
            if let Some(ran) = ran {
                span.record("run_time", ran.as_secs_f64());
            }
        }
        tell(open.as_ref());
        self.leave(task.id);
    }

    fn leave(&self, id: FutureId) {
        if self.runs_here {
            leave(id);
        }
    }

    /// Has `event` happen in the span of that call, if events of that level are wanted.
    fn tell(&self, level: Level, open: Option<&Open>, event: impl FnOnce(Option<Id>)) {
        if level > LevelFilter::current() {
            return;
        }
        let subscriber =
            open.and_then(|open| open.span.with_subscriber(|(id, dispatch)| (id.clone(), dispatch.clone())));
        match subscriber {
            Some((id, dispatch)) => with_default(&dispatch, || event(Some(id))),
            None => self.home.with(|| event(None)),
        }
    }

    /// The same for what has gone wrong: a warning if that is not for the call itself to answer for.
    fn tell_error(&self, open: Option<&Open>, what: &str, error: &Error, attempt: Option<u32>) {
        if is_grave(error) {
            self.tell(Level::WARN, open, |parent| {
                warn!(target: TARGET, parent: parent, %error, attempt, "{what}");
            });
        } else {
            self.tell(Level::DEBUG, open, |parent| {
                debug!(target: TARGET, parent: parent, %error, attempt, "{what}");
            });
        }
    }

    /// What becomes of a worker, in no span.
    fn tell_of_worker(&self, pool: &str, what: &str, worker: &WorkerInfo) {
        self.tell(Level::DEBUG, None, |parent| {
            debug!(target: TARGET, parent: parent, pool, worker = worker.name, pid = worker.pid, "worker {what}");
        });
    }
}

impl Observer for Spans {
    fn notice(&self, event: &Event<'_>) {
        if LevelFilter::current() == LevelFilter::OFF && COUNT.load(Ordering::Relaxed) == 0 {
            return;
        }
        let pool = event.pool;
        match event.what {
            What::Submitted { task, calls } => {
                if let Some(open) = Open::new(pool, task, calls) {
                    insert(task.id, open);
                }
            }
            What::Started { task, attempt, worker, waited } => self.start(task, attempt, worker, waited),
            What::Progress { task, done, total } => {
                self.tell(Level::TRACE, get(task.id).as_ref(), |parent| {
                    trace!(target: TARGET, parent: parent, done, total, "progress");
                });
            }
            What::Retried { task, error, attempt, .. } => {
                self.tell_error(get(task.id).as_ref(), "another attempt follows", error, Some(attempt));
                self.leave(task.id);
            }
            What::Finished { task, ran, failed } => self.end(task, "finished", Some(ran), |open| {
                self.tell(Level::DEBUG, open, |parent| {
                    debug!(target: TARGET, parent: parent, failed, "finished");
                });
            }),
            What::Failed { task, error, ran } => {
                self.end(task, "failed", ran, |open| self.tell_error(open, "failed", error, None));
            }
            What::TimedOut { task, error, ran } => {
                self.end(task, "timed out", ran, |open| self.tell_error(open, "timed out", error, None));
            }
            What::Cancelled { task } => self.end(task, "cancelled", None, |open| {
                self.tell(Level::DEBUG, open, |parent| {
                    debug!(target: TARGET, parent: parent, "cancelled");
                });
            }),
            What::WorkerSpawned { worker } => self.tell_of_worker(pool, "spawned", worker),
            What::WorkerReady { worker } => self.tell_of_worker(pool, "ready", worker),
            What::WorkerRecycled { worker } => self.tell_of_worker(pool, "recycled", worker),
            What::WorkerLeft { worker } => self.tell_of_worker(pool, "left", worker),
            What::WorkerDied { worker, status } => self.tell(Level::WARN, None, |parent| {
                let status = status.map(field::display);
                warn!(target: TARGET, parent: parent, pool, worker = worker.name, pid = worker.pid, status, "worker died");
            }),
            What::PoolOver {} => self.tell(Level::DEBUG, None, |parent| {
                debug!(target: TARGET, parent: parent, pool, "pool is over");
            }),
        }
    }
}
