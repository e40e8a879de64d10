//! Clause E4: by priority, and first in, first out within one; on both kinds of pools.

use std::cmp::Reverse;

use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};

use concurrent_futures::{
    Executor, Future, MapOptions, ProcessPoolExecutor, SerialExecutor, TaskOptions, ThreadPoolExecutor, task,
};

use crate::common::{Arrival, Journal, LIMIT, Turnstile, watchdog};
use crate::engines::{OnRequest, Wishes, double, note, pass};

on_request_and_amqp!(
    e4_the_highest_priority_starts_first,
    any_priorities_start_as_the_model_says,
    an_urgent_call_goes_before_quick_ones_that_wait,
    an_urgent_call_that_was_cancelled_does_not_run,
    a_map_has_one_priority,
    a_call_with_a_priority_has_a_result_an_error_and_further_attempts,
    what_is_urgent_counts_for_the_bound,
);

registered!([], [second_time_lucky]);

fn at(priority: i16) -> TaskOptions {
    TaskOptions::new().priority(priority)
}

/// A pool of one worker, which is held.
fn held<E: OnRequest>(wishes: Wishes) -> (E, Turnstile, Arrival, Future<u32>) {
    let pool = E::made(Wishes { max_workers: 1, ..wishes }).unwrap();
    let gate = Turnstile::new();
    let held = pool.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    (pool, gate, arrival, held)
}

fn numbers(journal: &Journal) -> Vec<u32> {
    journal.lines().iter().map(|line| line.parse().unwrap()).collect()
}

fn e4_the_highest_priority_starts_first<E: OnRequest>() {
    let journal = Journal::new();
    let (pool, _gate, arrival, _held) = held::<E>(Wishes::default());
    let futures = [(1, 0), (2, -5), (3, 7), (4, 0), (5, i16::MAX), (6, 7), (7, i16::MIN), (8, -5)]
        .map(|(number, priority)| pool.submit_with(note, (journal.page(), number), at(priority)));
    arrival.release();
    for future in futures {
        future.result().unwrap();
    }
    assert_eq!(numbers(&journal), [5, 3, 6, 1, 4, 2, 8, 7]);
}

fn any_priorities_start_as_the_model_says<E: OnRequest>() {
    let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&vec(-3..=3_i16, 0..40), |priorities| {
            let journal = Journal::new();
            let (pool, _gate, arrival, _held) = held::<E>(Wishes::default());
            let mut expected: Vec<(i16, u32)> = priorities.into_iter().zip(1..).collect();
            let futures: Vec<_> = expected
                .iter()
                .map(|&(priority, number)| match priority {
                    // What has no options has priority 0.
                    0 => pool.submit(note, (journal.page(), number)),
                    _ => pool.submit_with(note, (journal.page(), number), at(priority)),
                })
                .collect();
            arrival.release();
            futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
            expected.sort_by_key(|(priority, _)| Reverse(*priority));
            let expected: Vec<u32> = expected.into_iter().map(|(_, number)| number).collect();
            assert_eq!(numbers(&journal), expected);
            Ok(())
        })
        .unwrap();
}

/// A worker process takes many quick calls at a time, once it knows that they are.
fn an_urgent_call_goes_before_quick_ones_that_wait<E: OnRequest>() {
    let journal = Journal::new();
    let (pool, gate, arrival, _held) = held::<E>(Wishes::default());
    let quick: Vec<_> = (0..2_000).map(|n| pool.submit(double, n)).collect();
    let urgent = pool.submit_with(pass, gate.ticket(1), at(1));
    let low = pool.submit_with(note, (journal.page(), 1), at(-1));
    arrival.release();
    let arrival = gate.arrival();
    assert!(quick.iter().all(|future| !future.done()) && !low.done());
    arrival.release();
    assert_eq!(urgent.result().unwrap(), 1);
    low.result().unwrap();
    assert!(quick.iter().all(Future::done), "all of them came before the low one");
}

fn an_urgent_call_that_was_cancelled_does_not_run<E: OnRequest>() {
    let journal = Journal::new();
    let (pool, _gate, arrival, _held) = held::<E>(Wishes::default());
    let usual = pool.submit(note, (journal.page(), 1));
    let urgent = pool.submit_with(note, (journal.page(), 2), at(1));
    assert!(urgent.cancel());
    arrival.release();
    usual.result().unwrap();
    drop(pool);
    assert_eq!(numbers(&journal), [1]);
}

fn a_map_has_one_priority<E: OnRequest>() {
    let journal = Journal::new();
    let (pool, _gate, arrival, _held) = held::<E>(Wishes::default());
    let items = |range: std::ops::Range<u32>| range.map(|n| (journal.page(), n)).collect::<Vec<_>>();
    let usual = Executor::map(&pool, note, items(0..3));
    let urgent = pool.map_with(note, items(3..7), MapOptions::new().priority(1).chunksize(2));
    let low = pool.map_with(note, items(7..9), MapOptions::new().priority(-1));
    arrival.release();
    assert_eq!([usual, urgent, low].map(|results| results.map(Result::unwrap).count()), [3, 4, 2]);
    assert_eq!(numbers(&journal), [3, 4, 5, 6, 0, 1, 2, 7, 8]);
}

fn second_time_lucky(n: u32) -> Result<u32, String> {
    if task::attempt() == 1 { Err("not yet".into()) } else { Ok(n) }
}

fn a_call_with_a_priority_has_a_result_an_error_and_further_attempts<E: OnRequest>() {
    let pool = E::made(Wishes { max_workers: 1, ..Wishes::default() }).unwrap();
    assert_eq!(pool.submit_with(double, 4, at(3)).result().unwrap(), 8);
    let again = at(3).retries(1).retry_if(|_| true).backoff(Default::default(), Default::default());
    assert_eq!(pool.try_submit_with(second_time_lucky, 4, again).result().unwrap(), 4);
    assert!(pool.try_submit_with(second_time_lucky, 4, at(-3)).result().is_err());
}

fn what_is_urgent_counts_for_the_bound<E: OnRequest>() {
    let (pool, _gate, arrival, _held) = held::<E>(Wishes { max_pending: Some(2), ..Wishes::default() });
    let urgent = pool.submit_with(double, 1, at(9));
    let usual = pool.submit(double, 2);
    assert!(Executor::submit_or_return(&pool, double, 3).is_err(), "there are two");
    arrival.release();
    assert_eq!([urgent.result().unwrap(), usual.result().unwrap()], [2, 4]);
    // Both places are free again.
    let (pool, _gate, arrival, _held) = held::<E>(Wishes { max_pending: Some(1), ..Wishes::default() });
    let only = pool.submit_with(double, 1, at(9));
    assert!(Executor::submit_or_return(&pool, double, 3).is_err());
    arrival.release();
    only.result().unwrap();
    assert_eq!(Executor::submit_or_return(&pool, double, 3).unwrap().result().unwrap(), 6);
}

#[test]
fn without_a_queue_there_is_nothing_to_order() {
    assert_eq!(SerialExecutor::new().submit_with(double, 4, at(9)).result().unwrap(), 8);
}

#[test]
fn closures_of_a_thread_pool_have_options_too() {
    watchdog("spawn_with", LIMIT, || {
        let (pool, gate, arrival, _held) = held::<ThreadPoolExecutor>(Wishes::default());
        let (tell, told) = std::sync::mpsc::channel();
        let futures = [(1, 0), (2, 5), (3, -5), (4, 5)].map(|(number, priority)| {
            let tell = tell.clone();
            pool.spawn_with(move || tell.send(number).unwrap(), at(priority))
        });
        arrival.release();
        futures.into_iter().for_each(|future| future.result().unwrap());
        drop((gate, tell));
        assert_eq!(told.into_iter().collect::<Vec<_>>(), [2, 4, 1, 3]);

        let mut attempts = 0;
        let lucky = move || {
            attempts += 1;
            assert_eq!(task::attempt(), attempts);
            assert_eq!(attempts, 3, "a panic of an attempt that is not the last");
            attempts
        };
        let again = at(0).retries(2).retry_if(|_| true).backoff(Default::default(), Default::default());
        assert_eq!(pool.spawn_with(lucky, again).result().unwrap(), 3);
        let limited = pool.spawn_with(|| (), TaskOptions::new().timeout(LIMIT)).result();
        assert!(matches!(limited, Err(concurrent_futures::Error::Unsupported { .. })));
    });
}

/// The one who waits runs it, whatever its priority.
#[test]
fn a_call_of_a_low_priority_that_a_worker_waits_for_is_run_by_it() {
    watchdog("low and awaited", LIMIT, || {
        let pool = std::sync::Arc::new(ThreadPoolExecutor::new(1).unwrap());
        let inner = std::sync::Arc::clone(&pool);
        let outer = pool.spawn(move || inner.spawn_with(|| 42, at(-9)).result().unwrap());
        assert_eq!(outer.result().unwrap(), 42);
    });
}

/// Calls that were in the hands of a worker that died are the next of their priority again.
#[test]
fn what_is_given_back_keeps_its_place() {
    watchdog("given back", LIMIT, || {
        fn die(_: ()) {
            std::process::abort();
        }
        let journal = Journal::new();
        let (pool, _gate, arrival, _held) = held::<ProcessPoolExecutor>(Wishes::default());
        let page = || journal.page();
        let low = pool.submit_with(note, (page(), 4), at(-1));
        let usual = [2, 3].map(|n| pool.submit(note, (page(), n)));
        let dying = pool.submit_with(die, (), at(2));
        let urgent = pool.submit_with(note, (page(), 1), at(1));
        arrival.release();
        assert!(dying.result().is_err());
        for future in usual.into_iter().chain([urgent, low]) {
            future.result().unwrap();
        }
        assert_eq!(numbers(&journal), [1, 2, 3, 4]);
    });
}
