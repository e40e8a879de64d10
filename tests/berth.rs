//! Short calls to worker processes, each waited for before the next: they need no thread of the pool, until something
//! goes wrong. Nobody may notice.
//!
//! - a call that nobody waits for ends all the same, and so does one that turns out long, or whose answer is;
//! - a worker that dies, idle or in such a call, costs that call or nothing;
//! - what is killed, cancelled, shut down or dropped ends as ever.
//!
//! All calls are of one function, which is short at first. Each test begins when a call has been made and no thread of
//! its pool has run for it.

#![allow(unsafe_code)] // a gate in `faults_common` needs it
#![cfg(target_os = "linux")]

mod faults_common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Shutdown, ThreadPoolExecutor, as_completed};
use faults_common::*;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

concurrent_futures::init_tests!();

/// What a call does.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Step {
    Tiny(u64),
    Gate(String),
    Die(Death),
    Panic,
    /// Returns so many bytes.
    Bytes(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Done {
    Number(u64),
    Bytes(Vec<u8>),
}

fn step(step: Step) -> Done {
    match step {
        Step::Tiny(number) => Done::Number(number * 2),
        Step::Gate(gate) => Done::Number(wait_at(gate).into()),
        Step::Die(death) => death.die(),
        Step::Panic => panic!("a call that panics"),
        Step::Bytes(count) => Done::Bytes(vec![7; count]),
    }
}

/// How often the threads of pools of this process have gone to sleep.
fn sleeps() -> BTreeMap<String, u64> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    tasks
        .filter_map(|task| {
            let name = fs::read_to_string(task.join("comm")).ok()?;
            let status = fs::read_to_string(task.join("status")).ok()?;
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            name.starts_with("berth").then(|| (task.display().to_string(), count.trim().parse().unwrap()))
        })
        .collect()
}

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().name("berth").max_workers(max_workers).build().unwrap()
}

/// Calls one at a time until one was made and no thread of the pool has run.
fn until_it_lies(pool: &ProcessPoolExecutor) {
    until("a call needs no thread of the pool", || {
        (0..100).any(|n| {
            let before = sleeps();
            assert_eq!(pool.submit(step, Step::Tiny(n)).result().unwrap(), Done::Number(n * 2));
            sleeps() == before
        })
    });
}

/// A pool of one worker, which lies in its berth.
fn lying() -> ProcessPoolExecutor {
    let pool = pool(1);
    until_it_lies(&pool);
    pool
}

#[track_caller]
fn assert_died(outcome: Result<Done, Error>) {
    assert!(matches!(outcome, Err(Error::WorkerDied { .. })), "{outcome:?}");
}

// ---- Nobody waits, or somebody else ----------------------------------------------------------

#[test]
fn a_call_that_nobody_waits_for_ends() {
    let _watchdog = Watchdog::new("a_call_that_nobody_waits_for_ends");
    let pool = lying();
    for n in 0..20 {
        let future = pool.submit(step, Step::Tiny(n));
        until("it is done", || future.done());
        assert_eq!(future.result().unwrap(), Done::Number(n * 2));
        until_it_lies(&pool);
    }
}

#[test]
fn whoever_listens_is_told() {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let _watchdog = Watchdog::new("whoever_listens_is_told");
    let pool = lying();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    for n in 0..8 {
        let (told, hears) = mpsc::channel();
        let future = pool.submit(step, Step::Tiny(n));
        future.add_done_callback(move |outcome| told.send(outcome.cloned().ok()).unwrap());
        assert_eq!(hears.recv_timeout(LONG).unwrap(), Some(Done::Number(n * 2)));
        drop(future);
        until_it_lies(&pool);

        let futures = vec![pool.submit(step, Step::Tiny(n))];
        let values: Vec<_> = as_completed(futures).map(|future| future.result().unwrap()).collect();
        assert_eq!(values, [Done::Number(n * 2)]);
        until_it_lies(&pool);

        let mut future = std::pin::pin!(pool.submit(step, Step::Tiny(n)));
        let value = loop {
            match std::future::Future::poll(future.as_mut(), &mut Context::from_waker(&waker)) {
                Poll::Ready(outcome) => break outcome.unwrap(),
                Poll::Pending => thread::park_timeout(LONG),
            }
        };
        assert_eq!(value, Done::Number(n * 2));
        until_it_lies(&pool);

        let shared = pool.submit(step, Step::Tiny(n)).shared();
        let readers = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || shared.result().unwrap().clone())
        });
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() == Done::Number(n * 2)));
        until_it_lies(&pool);
    }
}

#[test]
fn many_threads_may_wait_each_for_its_own() {
    let _watchdog = Watchdog::new("many_threads_may_wait_each_for_its_own");
    let pool = pool(2);
    let right = AtomicU64::new(0);
    thread::scope(|scope| {
        for first in 0..8 {
            let (pool, right) = (&pool, &right);
            scope.spawn(move || {
                for n in (first..4000).step_by(8) {
                    assert_eq!(pool.submit(step, Step::Tiny(n)).result().unwrap(), Done::Number(n * 2));
                    right.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(right.into_inner(), 4000);
    until_it_lies(&pool);
}

#[test]
fn a_burst_after_single_calls_and_single_calls_after_a_burst() {
    let _watchdog = Watchdog::new("a_burst_after_single_calls_and_single_calls_after_a_burst");
    let pool = pool(2);
    for count in [1, 2, 3, 10, 1000] {
        until_it_lies(&pool);
        let futures: Vec<_> = (0..count).map(|n| pool.submit(step, Step::Tiny(n))).collect();
        for (n, future) in (0..).zip(futures) {
            assert_eq!(get(future).unwrap(), Done::Number(n * 2));
        }
    }
}

#[test]
fn a_callback_may_wait_for_the_next_call() {
    let _watchdog = Watchdog::new("a_callback_may_wait_for_the_next_call");
    let pool = Arc::new(lying());
    for n in 0..15 {
        let (told, hears) = mpsc::channel();
        let again = Arc::clone(&pool);
        let future = pool.submit(step, Step::Tiny(n));
        future.add_done_callback(move |_| {
            told.send(again.submit(step, Step::Tiny(1)).result().unwrap()).unwrap()
        });
        assert_eq!(hears.recv_timeout(LONG).unwrap(), Done::Number(2));
        assert_eq!(get(future).unwrap(), Done::Number(n * 2));
        until_it_lies(&pool);
    }
}

#[test]
fn whoever_waits_runs_no_callback() {
    let _watchdog = Watchdog::new("whoever_waits_runs_no_callback");
    let (pool, gate) = (lying(), Gate::new());
    for _ in 0..20 {
        let (told, hears) = mpsc::channel();
        let (goes_on, may_go_on) = mpsc::channel::<()>();
        let future = pool.submit(step, Step::Gate(gate.path()));
        let visitor = gate.next();
        let pid = visitor.pid;
        future.add_done_callback(move |_| {
            told.send(thread::current().id()).unwrap();
            let _ = may_go_on.recv();
        });
        visitor.go_on();
        future.wait();
        drop(goes_on);
        assert_ne!(hears.recv_timeout(LONG).unwrap(), thread::current().id());
        assert_eq!(get(future).unwrap(), Done::Number(pid.into()));
        until_it_lies(&pool);
    }
}

#[test]
fn a_thread_pool_may_wait_for_a_process_pool() {
    let _watchdog = Watchdog::new("a_thread_pool_may_wait_for_a_process_pool");
    let (threads, processes) = (ThreadPoolExecutor::new(4).unwrap(), Arc::new(lying()));
    let futures: Vec<_> = (0..400_u64)
        .map(|n| {
            let processes = Arc::clone(&processes);
            threads.spawn(move || processes.submit(step, Step::Tiny(n)).result().unwrap())
        })
        .collect();
    for (n, future) in (0..).zip(futures) {
        assert_eq!(get(future).unwrap(), Done::Number(n * 2));
    }
}

// ---- It is not what it was -------------------------------------------------------------------

#[test]
fn a_call_that_turns_out_long_holds_nobody_up() {
    let _watchdog = Watchdog::new("a_call_that_turns_out_long_holds_nobody_up");
    let (pool, gate) = (pool(2), Gate::new());
    for _ in 0..10 {
        until_it_lies(&pool);
        let long = pool.submit(step, Step::Gate(gate.path()));
        let visitor = gate.next();
        let reader = thread::spawn(move || get(long).unwrap());
        for n in 0..200 {
            assert_eq!(get(pool.submit(step, Step::Tiny(n))).unwrap(), Done::Number(n * 2));
        }
        let pid = visitor.pid;
        visitor.go_on();
        assert_eq!(reader.join().unwrap(), Done::Number(pid.into()));
    }
}

#[test]
fn an_answer_may_be_long_or_a_panic() {
    let _watchdog = Watchdog::new("an_answer_may_be_long_or_a_panic");
    let pool = lying();
    for bytes in [0, 1, 1000, 16 << 10, 17 << 10, 200 << 10, 3 << 20] {
        until_it_lies(&pool);
        assert_eq!(get(pool.submit(step, Step::Bytes(bytes))).unwrap(), Done::Bytes(vec![7; bytes]));
        until_it_lies(&pool);
        let error = get(pool.submit(step, Step::Panic)).unwrap_err();
        assert!(matches!(error, Error::Panicked { .. }), "{error:?}");
    }
}

// ---- Somebody dies ---------------------------------------------------------------------------

#[test]
fn a_crash_costs_the_call_that_crashed() {
    let _watchdog = Watchdog::new("a_crash_costs_the_call_that_crashed");
    let pool = lying();
    for death in [Death::Kill, Death::Abort, Death::ExitZero] {
        for is_waited_for in [true, false] {
            let future = pool.submit(step, Step::Die(death));
            if !is_waited_for {
                until("it is done", || future.done());
            }
            assert_died(future.result());
            until_it_lies(&pool);
        }
    }
}

#[test]
fn the_death_of_a_worker_that_lies_costs_nothing() {
    let _watchdog = Watchdog::new("the_death_of_a_worker_that_lies_costs_nothing");
    let pool = lying();
    for n in 0..20 {
        let worker = Observed::new(pool.worker_pids()[0]);
        worker.signal(Signal::KILL);
        if n % 2 == 0 {
            worker.ends();
        }
        // Before or after anybody knows.
        match pool.submit(step, Step::Tiny(n)).result() {
            Ok(value) => assert_eq!(value, Done::Number(n * 2)),
            // A process that was killed may begin a call before it hears of it.
            outcome => {
                assert_ne!(n % 2, 0, "it was gone");
                assert_died(outcome);
            }
        }
        until_it_lies(&pool);
    }
}

#[test]
fn killed_at_any_moment_a_call_ends() {
    let _watchdog = Watchdog::new("killed_at_any_moment_a_call_ends");
    let pool = Arc::new(lying());
    let (turn, turns) = mpsc::channel();
    let killer = {
        let pool = Arc::clone(&pool);
        thread::spawn(move || {
            for () in turns {
                until("there is a worker", || !pool.worker_pids().is_empty());
                for pid in pool.worker_pids() {
                    send(pid, Signal::KILL);
                }
            }
        })
    };
    let mut died = 0;
    for n in 0..4000 {
        if n % 100 == 0 {
            turn.send(()).unwrap();
        }
        match pool.submit(step, Step::Tiny(n)).result() {
            Ok(value) => assert_eq!(value, Done::Number(n * 2)),
            outcome => {
                assert_died(outcome);
                died += 1;
            }
        }
    }
    drop(turn);
    killer.join().unwrap();
    assert!(died <= 40, "{died} of 4000");
    until_it_lies(&pool);
}

// ---- Somebody ends it ------------------------------------------------------------------------

#[test]
fn a_call_that_runs_can_be_killed_and_not_cancelled() {
    let _watchdog = Watchdog::new("a_call_that_runs_can_be_killed_and_not_cancelled");
    let (pool, gate) = (lying(), Gate::new());
    for _ in 0..5 {
        let future = pool.submit(step, Step::Gate(gate.path()));
        let visitor = gate.next();
        assert!(future.running() && !future.cancel());
        assert!(future.kill());
        assert_died(get(future));
        drop(visitor);
        until_it_lies(&pool);
    }
}

#[test]
fn killed_before_its_worker_has_begun_it_the_next_goes_on() {
    let _watchdog = Watchdog::new("killed_before_its_worker_has_begun_it_the_next_goes_on");
    let pool = lying();
    for _ in 0..20 {
        let pid = pool.worker_pids()[0];
        send(pid, Signal::STOP);
        until("it stands still", || {
            fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ")
        });
        let future = pool.submit(step, Step::Tiny(1));
        assert!(future.kill());
        assert!(matches!(get(future), Err(Error::Cancelled { .. })));
        send(pid, Signal::CONT);
        assert_eq!(pool.submit(step, Step::Tiny(1)).result().unwrap(), Done::Number(2));
        assert_eq!(pool.worker_pids(), [pid], "it was not needed");
        until_it_lies(&pool);
    }
}

#[test]
fn a_pool_ends_whatever_its_worker_does() {
    let _watchdog = Watchdog::new("a_pool_ends_whatever_its_worker_does");
    for cancel_futures in [false, true] {
        lying().shutdown_with(Shutdown { wait: true, cancel_futures });

        let pool = lying();
        let future = pool.submit(step, Step::Tiny(1));
        pool.shutdown_with(Shutdown { wait: true, cancel_futures });
        assert!(future.done(), "the end of the pool waits for it");
        match get(future) {
            Ok(value) => assert_eq!(value, Done::Number(2)),
            // It was queued: the worker was not lying after all.
            Err(Error::Cancelled { .. }) if cancel_futures => {}
            Err(error) => panic!("{error:?}"),
        }
        assert!(matches!(get(pool.submit(step, Step::Tiny(1))), Err(Error::ShutDown { .. })));
    }
    let (pool, gate) = (lying(), Gate::new());
    let future = pool.submit(step, Step::Gate(gate.path()));
    let visitor = gate.next();
    let dropped = thread::spawn(move || drop(pool));
    visitor.go_on();
    dropped.join().unwrap();
    assert!(future.done());

    let pool = lying();
    let future = pool.submit(step, Step::Gate(gate.path()));
    let _visitor = gate.next();
    pool.kill_workers();
    assert_died(get(future));
}

#[test]
fn workers_leave_that_have_nothing_to_do() {
    let _watchdog = Watchdog::new("workers_leave_that_have_nothing_to_do");
    let builder = ProcessPoolExecutor::builder().name("berth").max_workers(1);
    let pool = builder.idle_timeout(Duration::from_millis(20)).build().unwrap();
    for n in 0..5 {
        for _ in 0..100 {
            assert_eq!(pool.submit(step, Step::Tiny(n)).result().unwrap(), Done::Number(n * 2));
        }
        until("it has left", || pool.worker_pids().is_empty());
    }
}
