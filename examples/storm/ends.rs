//! How a pool ends: every way there is, and then what is always the same: nobody uses it any more, its workers are
//! gone, its calls are over, its account is settled.
//!
//! Not here: what the account says (`verdict.rs`). The rule: what does not come to its end within the patience of
//! the storm is lost; then it is told who waits for what, and the storm ends at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, Shutdown};

use crate::dice::Dice;
use crate::life::{Kind, Life, Pool};
use crate::{belongings, tally, verdict, watch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Shutdown,
    CancelAndWait,
    NoWait,
    CancelNoWait,
    Timeout(Duration),
    Terminate,
    Kill,
    Drop,
    DropWhileUnwinding,
    /// By a callback of a call of its own, which drops the handle too.
    FromWithin,
    /// From two threads, each in its own way.
    TwoAtOnce,
}

/// What is given to a pool, and to all that must come to an end, before it counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

impl End {
    pub(crate) fn any(kind: Kind, dice: &mut Dice) -> Self {
        let (of_processes, short) = (kind == Kind::Processes, dice.millis(0, 40));
        match dice.below(14) {
            0 | 1 => End::Shutdown,
            2 => End::CancelAndWait,
            3 => End::NoWait,
            4 => End::CancelNoWait,
            5 | 6 => End::Timeout(short),
            7 if of_processes => End::Terminate,
            8 if of_processes => End::Kill,
            9 => End::DropWhileUnwinding,
            10 => End::FromWithin,
            11 => End::TwoAtOnce,
            _ => End::Drop,
        }
    }
}

/// Ends it as planned. Returns when whoever does that returns, not when the pool has ended.
pub(crate) fn end(life: &Arc<Life>, dice: &mut Dice) {
    let Some(pool) = life.pool() else { return };
    life.facts.closing.store(true, Ordering::Release);
    match life.plan.end {
        End::Drop => {}
        End::DropWhileUnwinding => {
            life.facts.cancels.store(true, Ordering::Release);
            drop(life.retire());
            // It is dropped here only if nobody else has a handle.
            let until = Instant::now() + Duration::from_millis(100);
            while Arc::strong_count(&pool) > 1 && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
            let unwound = catch_unwind(AssertUnwindSafe(move || {
                let _pool = pool;
                std::panic::panic_any(watch::Expected);
            }));
            drop(unwound);
        }
        End::FromWithin => from_within(life, pool, dice),
        End::TwoAtOnce => {
            let ends = [End::any(life.plan.kind, dice), End::any(life.plan.kind, dice)];
            thread::scope(|scope| {
                let pool = &pool;
                for end in ends {
                    scope.spawn(move || call(life, pool, end));
                }
            });
        }
        end => call(life, &pool, end),
    }
}

/// Those ends that are a call of a method.
fn call(life: &Life, pool: &Pool, end: End) {
    let facts = &life.facts;
    let cancels = || facts.cancels.store(true, Ordering::Release);
    match end {
        End::CancelAndWait => {
            cancels();
            pool.shutdown_with(Shutdown { wait: true, cancel_futures: true });
            must_be_empty(life, pool);
        }
        End::NoWait => pool.shutdown_with(Shutdown { wait: false, cancel_futures: false }),
        End::CancelNoWait => {
            cancels();
            pool.shutdown_with(Shutdown { wait: false, cancel_futures: true });
        }
        End::Timeout(limit) => {
            if pool.shutdown_timeout(limit) {
                must_be_empty(life, pool);
            }
        }
        End::Terminate if pool.processes().is_some() => {
            cancels();
            facts.terminated.store(true, Ordering::Release);
            pool.processes().into_iter().for_each(|pool| pool.terminate_workers());
        }
        End::Kill if pool.processes().is_some() => {
            cancels();
            facts.all_killed.store(true, Ordering::Release);
            pool.processes().into_iter().for_each(|pool| pool.kill_workers());
        }
        _ => {
            pool.shutdown();
            must_be_empty(life, pool);
        }
    }
}

/// A shutdown that waits has returned: no worker is left, and no call runs from here on.
fn must_be_empty(life: &Life, pool: &Pool) {
    let pids = pool.pids();
    if !pids.is_empty() {
        tally::wrong(&format!(
            "{} has workers behind its shutdown: {pids:?}\n  {}",
            life.name(),
            life.facts()
        ));
    }
    let _ = life.marks_at_the_end.set(life.marks.count());
}

/// A call of the pool ends it, in one of its own threads, where nothing may wait.
fn from_within(life: &Arc<Life>, pool: Arc<Pool>, dice: &mut Dice) {
    let cancel_futures = dice.one_in(2);
    if cancel_futures {
        life.facts.cancels.store(true, Ordering::Release);
    }
    let how = Shutdown { wait: dice.one_in(2), cancel_futures };
    let shuts = dice.one_in(2);
    let spec = watch::plain();
    let (case, order) = life.open(spec);
    let future = Executor::submit(&*pool, crate::order::perform, order);
    let _ = case.future.set(future.id());
    future.add_done_callback(move |outcome| {
        case.saw(outcome);
        if shuts {
            pool.shutdown_with(how);
        }
        // Perhaps the last handle.
        drop(pool);
    });
}

/// Sees to it that it is over, and settles its account.
pub(crate) fn bury(life: &Arc<Life>) {
    drop(life.retire());
    let name = life.name();
    must_hold(life, "somebody still has a handle on it", || life.is_gone());
    must_hold(life, "its workers are still there", || !belongings::has_workers(&name));
    life.facts.over.store(true, Ordering::Release);
    must_hold(life, "calls of it are not over", || life.open_calls() == 0);
    verdict::settle(life);
}

fn must_hold(life: &Life, otherwise: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > PATIENCE {
            belongings::hang(&format!("the pool {} has not come to its end, as {otherwise}", life.name()));
        }
        thread::sleep(Duration::from_millis(2));
    }
}
