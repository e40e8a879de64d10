//! Deaths that are the end of the pool: workers that do not start, more deaths within a minute than there may be, and
//! any death where the pool is to behave as Python's does.
//!
//! Every time: the call that the worker ran ends with its death, all others, which run or wait or come later, with
//! `Broken`, whose cause is that death; and all workers are gone.

use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, FutureId, ProcessPoolBuilder, ProcessPoolExecutor, TaskOptions, WorkerDeath,
};
use rustix::process::Signal;

use crate::actors::{Argument, Orders, birth, the_victim};
use crate::faults_common::*;
use crate::stage::{Cell, Held, Stage, Tally, patience};
use crate::table::{Fault, Moment};

const SIZES: [usize; 3] = [1, 2, 13];

/// At which death the pool breaks.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Break,
    Restarts(usize),
}

impl Rule {
    fn set(self, pool: ProcessPoolBuilder) -> ProcessPoolBuilder {
        match self {
            Rule::Break => pool.on_worker_death(WorkerDeath::Break),
            Rule::Restarts(most) => pool.max_restarts_per_minute(most),
        }
    }

    /// How many deaths it survives.
    fn spares(self) -> usize {
        match self {
            Rule::Break => 0,
            Rule::Restarts(most) => most,
        }
    }

    /// What the error says of it.
    fn words(self) -> String {
        match self {
            Rule::Break => "the pool is broken, because a worker died".into(),
            Rule::Restarts(most) => {
                let deaths = most + 1;
                format!("{deaths} workers died within a minute, max_restarts_per_minute is {most}")
            }
        }
    }
}

/// `Broken`, in those words; gives the cause.
#[track_caller]
fn cause_of<T: std::fmt::Debug>(outcome: Result<T, Error>, words: &str) -> Error {
    match outcome {
        Err(Error::Broken { reason, cause: Some(cause) }) if reason.contains(words) => (*cause).clone(),
        other => panic!("not broken because {words:?}: {other:?}"),
    }
}

/// The pool is broken for good: what is in hand, in the queue or comes now ends for a cause that `is_it`, and no
/// process is left.
#[track_caller]
fn all_is_over(
    stage: Stage<'_>,
    others: Held,
    behind: [Future<u64>; 3],
    words: &str,
    is_it: impl Fn(&Error) -> bool,
) {
    let Held(visitors, running) = others;
    let late = stage.bystanders();
    let outcomes = running.into_iter().map(|future| stage.tally.end(future).map(u64::from));
    let outcomes = outcomes.chain(behind.into_iter().chain(late).map(|future| stage.tally.end(future)));
    for cause in outcomes.map(|outcome| cause_of(outcome, words)) {
        assert!(is_it(&cause), "{cause:?}");
    }
    until("all workers are gone", || stage.lives().into_iter().all(|life| !life.is_there()));
    assert!(stage.pool.worker_pids().is_empty());
    drop(visitors);
    stage.close();
}

/// Is this error the death of that process, which ran that call?
fn is_death(error: &Error, id: FutureId, victim: Life, death: Death, number: u32) -> bool {
    let Error::WorkerDied { task, pid, status: Some(status), attempt, .. } = error else { return false };
    task.id == id && *pid == victim.pid && death.explains(*status) && *attempt == number
}

fn the_last_death_breaks_the_pool(tally: &Tally, rule: Rule, death: Death, workers: usize) {
    let cell = Cell { fault: Fault::Of(death), moment: Moment::Run, workers };
    let stage = Stage::new(cell, tally, |pool, _| rule.set(pool));
    let others = stage.hold(workers - 1);
    let call = |orders: &Orders, options| {
        tally.hand_out(stage.pool.try_submit_with(the_victim, Argument(orders.clone()), options))
    };
    for n in 0..rule.spares() {
        let orders = stage.other_orders(cell.fault, &format!("note {n}"));
        let (before, future, behind) = (stage.bystanders(), call(&orders, patience()), stage.bystanders());
        let id = future.id();
        let error = tally.end(future).unwrap_err();
        assert!(is_death(&error, id, orders.victim(), death, 1), "{error}");
        stage.have_values(before);
        stage.have_values(behind);
    }
    // It may be tried again, but there is nothing left to try it in.
    let orders = stage.orders();
    let (before, future, behind) =
        (stage.bystanders(), call(&orders, patience().retries(5)), stage.bystanders());
    let id = future.id();
    let error = tally.end(future).unwrap_err();
    let victim = orders.victim();
    assert!(is_death(&error, id, victim, death, 1), "{error}");
    stage.have_values(before);
    all_is_over(stage, others, behind, &rule.words(), |cause| is_death(cause, id, victim, death, 1));
}

const SUDDEN: [Death; 7] = [
    Death::ExitZero,
    Death::ExitThree,
    Death::Abort,
    Death::BadWrite,
    Death::Kill,
    Death::StackOverflow,
    Death::OutOfMemory,
];

#[test]
fn a_death_breaks_a_pool_that_behaves_as_pythons() {
    let tally = Tally::default();
    for workers in SIZES {
        for death in SUDDEN {
            tally.cell(&format!("{death:?} breaks a pool of {workers}"), || {
                the_last_death_breaks_the_pool(&tally, Rule::Break, death, workers);
            });
        }
    }
    tally.close("a_death_breaks_a_pool_that_behaves_as_pythons");
}

#[test]
fn one_death_more_than_there_may_be_breaks_the_pool() {
    let tally = Tally::default();
    for workers in SIZES {
        for (most, death) in [(0, Death::Kill), (1, Death::ExitZero), (2, Death::Abort), (5, Death::BadWrite)]
        {
            tally.cell(&format!("{death:?} breaks a pool of {workers} after {most} others"), || {
                the_last_death_breaks_the_pool(&tally, Rule::Restarts(most), death, workers);
            });
        }
    }
    tally.close("one_death_more_than_there_may_be_breaks_the_pool");
}

/// A call that kills its worker at each attempt.
#[test]
fn attempts_of_one_call_are_deaths_too() {
    let tally = Tally::default();
    for workers in SIZES {
        let name = format!("a call that is tried too often in a pool of {workers}");
        tally.cell(&name, || {
            let (rule, death) = (Rule::Restarts(2), Death::ExitThree);
            let cell = Cell { fault: Fault::Of(death), moment: Moment::Run, workers };
            let stage = Stage::new(cell, &tally, |pool, _| rule.set(pool));
            let others = stage.hold(workers - 1);
            let pause = Duration::from_millis(1);
            let options = patience().retries(5).backoff(pause, pause);
            let argument = Argument(stage.orders());
            let victim = tally.hand_out(stage.pool.try_submit_with(the_victim, argument, options));
            let id = victim.id();
            let error = tally.end(victim).unwrap_err();
            let victims = Life::noted(stage.orders().note);
            assert_eq!(victims.len(), 3);
            assert!(is_death(&error, id, victims[2], death, 3), "{error}");
            let behind = stage.bystanders();
            let is_it = |cause: &Error| is_death(cause, id, victims[2], death, 3);
            all_is_over(stage, others, behind, &rule.words(), is_it);
        });
    }
    tally.close("attempts_of_one_call_are_deaths_too");
}

/// Ends that the pool brings about itself, and failures that are none.
#[test]
fn what_is_no_death_breaks_no_pool() {
    let tally = Tally::default();
    for rule in [Rule::Break, Rule::Restarts(0)] {
        for workers in SIZES {
            tally.cell(&format!("{rule:?}, {workers} workers"), || {
                let cell = Cell { fault: Fault::Error, moment: Moment::Run, workers };
                let stage = Stage::new(cell, &tally, |pool, _| rule.set(pool).max_tasks_per_child(2));
                let others = stage.hold(workers - 1);
                let call = |fault, options| {
                    let argument = Argument(stage.other_orders(fault, "note"));
                    tally.end(tally.hand_out(stage.pool.try_submit_with(the_victim, argument, options)))
                };
                let panics = Fault::Of(Death::Panic);
                assert!(matches!(call(Fault::Error, patience()), Err(Error::Raised { .. })));
                assert!(matches!(call(panics, patience()), Err(Error::Panicked { .. })));
                for death in [Death::Loop, Death::Stop] {
                    let options = TaskOptions::new().timeout(Duration::from_millis(100));
                    assert!(matches!(call(Fault::Of(death), options), Err(Error::TimedOut { .. })));
                }
                let killed = tally.hand_out(stage.pool.submit_with(wait_at, stage.gate.path(), patience()));
                let visitor = stage.gate.next();
                assert!(killed.kill());
                assert!(matches!(tally.end(killed), Err(Error::WorkerDied { .. })));
                drop(visitor);
                stage.have_values(stage.bystanders());
                stage.release(others);
                stage.is_full_again();
                stage.close();
            });
        }
    }
    tally.close("what_is_no_death_breaks_no_pool");
}

/// Nobody watches the idle ones: it is the next call that finds out.
#[test]
fn the_death_of_an_idle_worker_breaks_the_pool_with_the_next_call() {
    let tally = Tally::default();
    for rule in [Rule::Break, Rule::Restarts(0)] {
        for workers in SIZES {
            for all in [false, true] {
                let whose = if all { "all" } else { "one of" };
                tally.cell(&format!("{rule:?}, {whose} {workers} killed"), || {
                    let cell = Cell { fault: Fault::Of(Death::Kill), moment: Moment::Idle, workers };
                    let stage = Stage::new(cell, &tally, |pool, _| rule.set(pool));
                    let mut others = stage.hold(workers - 1);
                    let pid = tally.hand_out(stage.pool.submit_with(pid_of_worker, (), patience()));
                    let mut pids = vec![tally.end(pid).unwrap()];
                    if all {
                        pids = stage.pool.worker_pids();
                        stage.release(std::mem::replace(&mut others, stage.hold(0)));
                    }
                    pids.iter().for_each(|&pid| send(pid, Signal::KILL));
                    pids.iter().for_each(|&pid| until_dead(pid));
                    let behind = stage.bystanders();
                    all_is_over(stage, others, behind, &rule.words(), |cause| {
                        let text = cause.to_string();
                        let is_one_of_them =
                            |pid| text.contains(&format!("worker process {pid} died while it was idle"));
                        pids.iter().any(is_one_of_them) && text.contains("SIGKILL")
                    });
                });
            }
        }
    }
    tally.close("the_death_of_an_idle_worker_breaks_the_pool_with_the_next_call");
}

/// What the error says of a worker that did not start.
fn words_at_birth(fault: Fault) -> &'static str {
    match fault {
        Fault::Error => "could not be greeted: a frame has the unknown kind 99",
        Fault::Of(Death::Loop | Death::Stop) => "did not say Hello within 200ms",
        Fault::Of(Death::ExitZero) => "ended before it said Hello (exit status: 0)",
        Fault::Of(Death::ExitThree) => "ended before it said Hello (exit status: 3)",
        Fault::Of(Death::Kill) => "ended before it said Hello (signal: 9 (SIGKILL))",
        Fault::Of(Death::BadWrite | Death::StackOverflow) => {
            "ended before it said Hello (signal: 11 (SIGSEGV))"
        }
        Fault::Of(_) => "ended before it said Hello (signal: 6 (SIGABRT))",
    }
}

fn workers_that_do_not_start(tally: &Tally, fault: Fault, workers: usize, rule: Option<Rule>) {
    let cell = Cell { fault, moment: Moment::Handshake, workers };
    let stage = Stage::new(cell, tally, |pool, orders| {
        let pool = pool.env(birth::FAULT, fault.to_string()).env(birth::NOTE, &orders.note);
        let pool = if fault.needs_limit() { pool.start_timeout(Duration::from_millis(200)) } else { pool };
        match rule {
            None => pool,
            Some(rule) => rule.set(pool),
        }
    });
    let (words, attempts) = match rule {
        None => ("3 workers in a row did not start".into(), 3),
        Some(rule) => (rule.words(), 1),
    };
    let futures: Vec<_> = (0..5).map(|_| stage.bystanders()).collect();
    let check = |futures: [Future<u64>; 3]| {
        for outcome in futures.map(|future| tally.end(future)) {
            let cause = cause_of(outcome, &words).to_string();
            assert!(cause.contains(words_at_birth(fault)), "{cause}");
            assert!(cause.contains("concurrent_futures::init();"), "{cause}");
        }
    };
    futures.into_iter().for_each(check);
    check(stage.bystanders());
    // Another worker may still be on one of its attempts.
    stage.pool.shutdown();
    let born = stage.lives().len();
    assert!((attempts..=attempts * workers).contains(&born), "{born} processes for {workers} workers");
    check(stage.bystanders());
    assert!(stage.pool.worker_pids().is_empty());
    assert!(stage.lives().into_iter().all(|life| !life.is_there()));
}

#[test]
fn three_workers_in_a_row_that_do_not_start_break_the_pool() {
    let tally = Tally::default();
    for workers in SIZES {
        for fault in Fault::all() {
            tally.cell(&format!("{fault} at each birth, {workers} workers"), || {
                workers_that_do_not_start(&tally, fault, workers, None);
            });
        }
    }
    tally.close("three_workers_in_a_row_that_do_not_start_break_the_pool");
}

/// It is a death as any other.
#[test]
fn a_worker_that_does_not_start_breaks_a_pool_that_has_no_patience() {
    let tally = Tally::default();
    for rule in [Rule::Break, Rule::Restarts(0)] {
        for fault in [Fault::Of(Death::ExitZero), Fault::Of(Death::Kill)] {
            tally.cell(&format!("{fault} at birth, {rule:?}"), || {
                workers_that_do_not_start(&tally, fault, 1, Some(rule));
            });
        }
    }
    tally.close("a_worker_that_does_not_start_breaks_a_pool_that_has_no_patience");
}

/// Takes as long as a worker is given to say Hello where the user says nothing else, some seconds.
#[test]
fn a_worker_that_hangs_at_birth_is_replaced() {
    let _watchdog = Watchdog::new("a_worker_that_hangs_at_birth_is_replaced");
    let dir = TempDir::new();
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .env(birth::FAULT, Fault::Of(Death::Loop).to_string())
        .env(birth::NOTE, dir.path("note"))
        .env(birth::ONCE, dir.path("once"))
        .build()
        .unwrap();
    let value = get(pool.submit(pid_of_worker, ())).unwrap();
    let hung = Life::noted(dir.path("note"));
    assert!(hung.len() == 1 && hung[0].pid != value && !hung[0].is_there(), "{hung:?}");
}
