//! The ways to wait for calls: one or many, by blocking, polling, callback or `.await`; and to let them go.
//!
//! Not here: what is called. The rule: whoever waits sees the outcome once and writes it into the account of the
//! call; whoever lets a call go says so before.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use concurrent_futures::{
    AsCompleted, Error, Future, FutureId, ReturnWhen, as_completed, as_completed_timeout, wait, wait_timeout,
};

use crate::case::{Case, Spec, done};
use crate::dice::Dice;
use crate::life::lock;
use crate::order::{Answer, Deed};
use crate::pulse::beat;
use crate::tally::Count;

/// The payload of a panic that is meant.
pub(crate) struct Expected;

/// A call under way.
pub(crate) struct Running {
    pub(crate) case: Arc<Case>,
    pub(crate) future: Future<Answer>,
}

/// No time limit of a call is that odd, so a wait that was in vain can be told from a call that ran out of time.
pub(crate) const ODD: Duration = Duration::from_nanos(3_000_001);

/// A call that only returns.
pub(crate) fn plain() -> Spec {
    Spec {
        deed: Deed::Return,
        fails: u32::MAX,
        takes: 0,
        gives: 0,
        thorn: None,
        limit: None,
        retries: 0,
        retry_if: false,
        mapped: None,
    }
}

/// Calls whose futures were dropped, for the hook that is told of errors that nobody reads.
static LET_GO: Mutex<Option<HashMap<u64, Arc<Case>>>> = Mutex::new(None);

/// The hook.
pub(crate) fn unread(error: &Error) {
    Count::Unread.one();
    let id = match error {
        // It names its call in words.
        Error::TimedOut { what, .. } => {
            what.split("(task ").nth(1).and_then(|rest| rest.split(')').next()?.parse().ok())
        }
        error => error.task().map(|task| task.id.get()),
    };
    let case = id.and_then(|id| lock(&LET_GO).as_ref()?.get(&id).cloned());
    if let Some(case) = case {
        case.tell();
        case.saw(Err(error));
    }
}

/// The account of that call is settled.
pub(crate) fn forget(future: FutureId) {
    let mut let_go = lock(&LET_GO);
    let_go.iter_mut().for_each(|let_go| drop(let_go.remove(&future.get())));
    // Not to be taken for a leak.
    let_go.take_if(|let_go| let_go.is_empty());
}

impl Running {
    pub(crate) fn cancel(&self) {
        Count::CancelCalls.one();
        self.case.note(done::UNWANTED);
        if self.future.cancel() {
            self.case.note(done::CANCELLED);
        }
    }

    pub(crate) fn kill(&self) {
        Count::KillCalls.one();
        self.case.note(done::KILLED);
        self.future.kill();
    }

    /// Once in so many times.
    pub(crate) fn hit(&self, times: u32, dice: &mut Dice) {
        match dice.below(times) {
            0 => self.cancel(),
            1 => self.kill(),
            _ => {}
        }
    }

    /// Drops the future.
    pub(crate) fn let_go(self) {
        let Running { case, future } = self;
        case.note(done::LET_GO);
        lock(&LET_GO).get_or_insert_default().insert(future.id().get(), Arc::clone(&case));
        case.life.one_is_let_go();
        drop(future);
    }

    /// Sees it by a callback, which then does something else.
    pub(crate) fn watch(&self, then: impl FnOnce() + Send + 'static) {
        let case = Arc::clone(&self.case);
        case.note(done::WATCHED);
        self.future.add_done_callback(move |outcome| {
            Count::Callbacks.one();
            case.tell();
            case.saw(outcome);
            then();
        });
    }

    fn took(&self, outcome: &Result<Answer, Error>) {
        self.case.saw(outcome.as_ref());
    }

    /// Sees how it ends, by any way there is.
    pub(crate) fn see(self, dice: &mut Dice) {
        match dice.below(6) {
            0 => self.await_it(),
            1 => self.let_go(),
            _ => self.see_inside(dice),
        }
    }

    /// `.await`s it.
    fn await_it(self) {
        beat();
        let Running { case, future } = self;
        case.saw(block_on(future).as_ref());
    }

    /// Sees how it ends, where it may be a call of the pool whose thread this is: by the ways of the library, which
    /// knows what to do then. (A runtime that blocks the thread knows nothing of it.)
    pub(crate) fn see_inside(mut self, dice: &mut Dice) {
        beat();
        match dice.below(10) {
            0 => loop {
                let outcome = self.future.result_timeout(ODD);
                if !matches!(&outcome, Err(Error::TimedOut { limit, .. }) if *limit == ODD) {
                    return self.took(&outcome);
                }
            },
            1 => loop {
                if let Some(outcome) = self.future.try_result() {
                    return self.took(&outcome);
                }
                self.future.wait_timeout(ODD);
            },
            2 => {
                let error = self.future.exception();
                if let Some(error) = &error {
                    self.case.saw(Err(error));
                }
                let Running { case, future } = self;
                let outcome = future.result();
                if outcome.is_err() != error.is_some() {
                    case.wrong("`exception` and `result` do not agree");
                }
                case.saw(outcome.as_ref());
            }
            3 => {
                self.future.wait();
                if !self.future.done() {
                    self.case.wrong("`wait` has returned before its future is over");
                }
                let Running { case, future } = self;
                case.saw(future.result().as_ref());
            }
            4 => self.watch(|| ()),
            5 => {
                self.watch(|| ());
                let Running { case, future } = self;
                case.saw(future.result().as_ref());
            }
            6 => {
                let Running { case, future } = self;
                let one = future.shared();
                let two = one.clone();
                case.note(done::WATCHED);
                let told = Arc::clone(&case);
                one.add_done_callback(move |outcome| {
                    told.tell();
                    told.saw(outcome);
                });
                [one, two].into_iter().for_each(|shared| match shared.result() {
                    Ok(answer) => case.saw(Ok(answer)),
                    Err(error) => case.saw(Err(&error)),
                });
            }
            _ => {
                let Running { case, future } = self;
                case.saw(future.result().as_ref());
            }
        }
    }
}

/// Sees how all of them end, by any way there is.
pub(crate) fn see_all(all: Vec<Running>, dice: &mut Dice) {
    match dice.below(8) {
        0 => block_on(All(all)),
        1 => all.into_iter().for_each(|running| running.see(dice)),
        _ => see_all_inside(all, dice),
    }
}

/// As `see_inside`.
pub(crate) fn see_all_inside(mut all: Vec<Running>, dice: &mut Dice) {
    beat();
    match dice.below(8) {
        0 => {
            let waited = wait(all.iter().map(|running| &running.future), ReturnWhen::AllCompleted);
            if !waited.not_done.is_empty() {
                all[0].case.wrong("`wait` for all came back before all are done");
            }
        }
        1 => {
            let waited = wait(all.iter().map(|running| &running.future), ReturnWhen::FirstCompleted);
            if waited.done.is_empty() && !all.is_empty() {
                all[0].case.wrong("`wait` for the first came back with none");
            }
        }
        2 => {
            let waited = wait(all.iter().map(|running| &running.future), ReturnWhen::FirstException);
            let failed = |future: &&Future<Answer>| {
                future.exception().is_some_and(|error| !matches!(error, Error::Cancelled { .. }))
            };
            if !waited.not_done.is_empty() && !waited.done.iter().any(failed) {
                all[0].case.wrong("`wait` for the first exception came back without one");
            }
        }
        3 => {
            // Some are over in time, some are not.
            let pairs = all.into_iter().map(|Running { case, future }| (case, future));
            let waited = wait_timeout(pairs, ReturnWhen::AllCompleted, dice.millis(0, 20));
            for (case, future) in waited.done {
                if !future.done() {
                    case.wrong("`wait` says that it is done, and it is not");
                }
                case.saw(future.result().as_ref());
            }
            all = waited.not_done.into_iter().map(|(case, future)| Running { case, future }).collect();
        }
        4 => {
            let pairs = all.into_iter().map(|Running { case, future }| (case, future));
            for (case, future) in as_completed(pairs) {
                beat();
                if !future.done() {
                    case.wrong("`as_completed` gave it before it is over");
                }
                case.saw(future.result().as_ref());
            }
            return;
        }
        5 => {
            let mut completed = AsCompleted::default();
            let mut rest = all.into_iter();
            rest.by_ref().take(2).for_each(|Running { case, future }| completed.push((case, future)));
            while let Some((case, future)) = completed.next() {
                beat();
                case.saw(future.result().as_ref());
                rest.by_ref().take(2).for_each(|Running { case, future }| completed.push((case, future)));
            }
            return;
        }
        6 => {
            let mut seen = vec![false; all.len()];
            let futures = all.iter().enumerate().map(|(number, running)| (number, &running.future));
            for item in as_completed_timeout(futures, dice.millis(0, 20)) {
                let Ok((number, future)) = item else { break };
                if std::mem::replace(&mut seen[number], true) || !future.done() {
                    all[number].case.wrong("`as_completed_timeout` gave it twice, or before it is over");
                }
            }
        }
        _ => {}
    }
    while !all.is_empty() {
        let number = dice.below(all.len() as u32) as usize;
        all.swap_remove(number).see_inside(dice);
    }
}

/// Awaits many at once.
struct All(Vec<Running>);

impl std::future::Future for All {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.retain_mut(|running| match Pin::new(&mut running.future).poll(context) {
            Poll::Ready(outcome) => {
                running.took(&outcome);
                false
            }
            Poll::Pending => true,
        });
        beat();
        if self.0.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest runtime there is.
fn block_on<F: std::future::Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
