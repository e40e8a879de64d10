//! Parity clause T3: workers that leave when they have had nothing to do for some time, of both kinds of pools.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::{fs, hint};

use concurrent_futures::{Executor, Future, ProcessPoolExecutor, ReturnWhen, ThreadPoolExecutor, wait};

use crate::common::{LIMIT, LONG, Turnstile, watchdog};
use crate::engines::{OnRequest, Wishes, double, pass, until, who, workers};

on_request!(
    t3_idle_workers_leave_after_a_time_if_asked_to,
    a_pool_of_which_all_have_left_hires_again,
    only_those_leave_that_have_nothing_to_do,
    a_worker_stays_while_its_time_is_not_over,
    no_task_is_lost_between_a_worker_that_leaves_and_one_that_is_hired,
    shutdown_while_workers_leave_does_not_hang,
);

fn pool<E: OnRequest>(max_workers: usize, idle_timeout: Duration) -> E {
    E::made(Wishes { max_workers, idle_timeout: Some(idle_timeout), ..Wishes::default() }).unwrap()
}

fn t3_idle_workers_leave_after_a_time_if_asked_to<E: OnRequest>() {
    // Nobody asked: what happens is what happens there.
    let pool = E::made(Wishes { max_workers: 1, ..Wishes::default() }).unwrap();
    let first = pool.submit(who, ()).result().unwrap();
    assert_eq!(pool.submit(who, ()).result().unwrap(), first);
    assert_eq!(workers(&pool), 1);

    let idle_timeout = Some(Duration::from_millis(1));
    let pool = E::made(Wishes { max_workers: 2, idle_timeout, ..Wishes::default() }).unwrap();
    assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
    until(|| workers(&pool) == 0);
    assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
}

fn a_pool_of_which_all_have_left_hires_again<E: OnRequest>() {
    let pool: E = pool(3, Duration::from_millis(1));
    for round in 0..3 {
        let gate = Turnstile::new();
        let futures = [0, 1, 2].map(|n| pool.submit(pass, gate.ticket(n)));
        let workers_of_this_round: HashSet<_> = gate.arrivals(3).into_iter().map(|held| held.who).collect();
        assert_eq!(workers_of_this_round.len(), 3, "round {round}");
        assert_eq!(futures.map(|future| future.result().unwrap()), [0, 1, 2]);
        until(|| workers(&pool) == 0);
    }
    assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
}

fn only_those_leave_that_have_nothing_to_do<E: OnRequest>() {
    let pool: E = pool(2, Duration::ZERO);
    let gate = Turnstile::new();
    let futures = [0, 1].map(|n| pool.submit(pass, gate.ticket(n)));
    let mut arrivals = gate.arrivals(2);
    arrivals.remove(0).release();
    until(|| workers(&pool) == 1);
    assert_eq!(pool.submit(double, 4).result().unwrap(), 8, "one works, another is hired");
    until(|| workers(&pool) == 1);
    drop(arrivals);
    assert!(futures.into_iter().all(|future| future.result().is_ok()));
}

fn a_worker_stays_while_its_time_is_not_over<E: OnRequest>() {
    for idle_timeout in [LONG, Duration::MAX] {
        let pool: E = pool(1, idle_timeout);
        let workers: HashSet<_> = (0..20).map(|_| pool.submit(who, ()).result().unwrap()).collect();
        assert_eq!(workers.len(), 1);
    }
}

fn no_task_is_lost_between_a_worker_that_leaves_and_one_that_is_hired<E: OnRequest>() {
    for (submitters, max_workers, micros) in [(1, 1, 0), (1, 2, 1), (3, 1, 0), (3, 2, 20)] {
        let pool: Arc<E> = Arc::new(pool(max_workers, Duration::from_micros(micros)));
        let submitters: Vec<_> = (0..submitters)
            .map(|_| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || {
                    for n in 0..E::MANY {
                        let future = pool.submit(double, n);
                        // Not asleep: the next call is to come while the worker leaves, each at
                        // another moment.
                        (0..1_000).take_while(|_| !future.done()).for_each(|_| hint::spin_loop());
                        until(|| future.done());
                        (0..n * 7 % 400).for_each(|_| hint::spin_loop());
                        assert_eq!(future.result().unwrap(), n * 2);
                    }
                })
            })
            .collect();
        submitters.into_iter().for_each(|submitter| submitter.join().unwrap());
        until(|| workers(&*pool) == 0);
    }
}

fn shutdown_while_workers_leave_does_not_hang<E: OnRequest>() {
    for round in 0..E::MANY / 4 {
        let pool: E = pool(3, Duration::from_micros(u64::from(round % 50)));
        let futures: Vec<_> = (0..6).map(|n| pool.submit(double, n)).collect();
        if round % 2 == 0 {
            let _ = wait(&futures, ReturnWhen::AllCompleted);
        }
        pool.shutdown();
        assert_eq!(workers(&pool), 0);
        assert!(futures.iter().all(Future::done));
    }
}

#[test]
fn the_processes_of_workers_that_have_left_are_gone() {
    watchdog("idle processes", LIMIT, || {
        let pool: ProcessPoolExecutor = pool(2, Duration::from_millis(1));
        let gate = Turnstile::new();
        let futures = [0, 1].map(|n| pool.submit(pass, gate.ticket(n)));
        let held = gate.arrivals(2);
        let pids = pool.worker_pids();
        assert_eq!(pids.len(), 2);
        drop(held);
        assert!(futures.into_iter().all(|future| future.result().is_ok()));
        until(|| pool.worker_pids().is_empty());
        assert!(pids.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap()), "they were reaped");
        assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
    });
}

#[test]
fn the_numbers_in_names_go_on_counting() {
    watchdog("names of threads that come later", LIMIT, || {
        let pool = ThreadPoolExecutor::builder()
            .max_workers(2)
            .thread_name_prefix("shift")
            .idle_timeout(Duration::ZERO)
            .build()
            .unwrap();
        for n in 0..5 {
            let name = pool.spawn(|| thread::current().name().map(str::to_owned)).result().unwrap();
            assert_eq!(name, Some(format!("shift_{n}")));
            until(|| workers(&pool) == 0);
        }
    });
}

thread_local! {
    static POOL_OF_THIS_WORKER: RefCell<Option<Arc<ThreadPoolExecutor>>> = const { RefCell::new(None) };
}

#[test]
fn a_worker_that_leaves_may_be_the_last_who_holds_its_pool() {
    watchdog("the last owner", LIMIT, || {
        let pool = Arc::new(pool::<ThreadPoolExecutor>(1, Duration::from_millis(1)));
        let (weak, own) = (Arc::downgrade(&pool), Arc::clone(&pool));
        pool.spawn(move || POOL_OF_THIS_WORKER.set(Some(own))).result().unwrap();
        drop(pool);
        until(|| weak.strong_count() == 0);
    });
}
