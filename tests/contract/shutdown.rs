//! E7 to E10: what the end of an executor is beyond parity. The rest of it is in `s_shutdown.rs`,
//! shutdown inside a worker in `t_threads.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Executor, Future};

use crate::common::{Journal, Turnstile, blocked};
use crate::engines::{double, note, pass};

contract!(
    [an_executor_that_was_never_used_ends_at_once,],
    [
        e7_shutdown_waits_for_the_task_that_runs,
        e10_dropping_the_executor_waits_for_the_task_that_runs,
        e10_dropping_while_unwinding_cancels_what_has_not_started,
        e10_dropping_the_executor_inside_a_worker_returns,
        e10_futures_that_outlive_their_executor_all_end,
    ]
);

fn e7_shutdown_waits_for_the_task_that_runs<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = Arc::new(make(1));
    let gate = Turnstile::new();
    let (held, queued) = (executor.submit(pass, gate.ticket(1)), executor.submit(pass, gate.ticket(2)));
    let first = gate.arrival();
    let ending = Arc::clone(&executor);
    let shutdown = blocked(move || ending.shutdown());
    assert!(!shutdown.is_finished(), "a task runs");
    first.release();
    let second = gate.arrival();
    assert!(!shutdown.is_finished(), "what was queued before is run too");
    second.release();
    shutdown.join().unwrap();
    assert!(held.done() && queued.done());
    assert_eq!((held.result().unwrap(), queued.result().unwrap()), (1, 2));
}

fn e10_dropping_the_executor_waits_for_the_task_that_runs<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let (held, queued) = (executor.submit(pass, gate.ticket(1)), executor.submit(double, 2));
    let arrival = gate.arrival();
    let dropping = blocked(move || drop(executor));
    assert!(!dropping.is_finished(), "a task runs");
    assert!(held.running() && !queued.cancelled());
    arrival.release();
    dropping.join().unwrap();
    assert!(held.done() && queued.done());
    assert_eq!((held.result().unwrap(), queued.result().unwrap()), (1, 4));
}

fn e10_dropping_while_unwinding_cancels_what_has_not_started<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let gate = Turnstile::new();
    let mut futures = Vec::new();
    let (tell, told) = mpsc::channel();
    // The running task is let go only when the last one of the queue has been cancelled: were they
    // not cancelled, this would hang.
    let (hand, handed) = mpsc::channel();
    let releasing = thread::spawn(move || {
        let arrival: crate::common::Arrival = handed.recv().unwrap();
        let cancelled: bool = told.recv().unwrap();
        arrival.release();
        cancelled
    });
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let executor = make(1);
        futures.push(executor.submit(pass, gate.ticket(1)));
        hand.send(gate.arrival()).unwrap();
        futures.extend((2..10).map(|n| executor.submit(note, (journal.page(), n))));
        futures[8].add_done_callback(move |outcome| {
            tell.send(matches!(outcome, Err(Error::Cancelled { .. }))).unwrap();
        });
        panic!("the user of the executor");
    }));
    assert!(unwound.is_err());
    assert!(releasing.join().unwrap());
    // Unwinding or not: it has waited.
    assert!(futures.iter().all(Future::done));
    assert!(futures[1..].iter().all(Future::cancelled));
    assert_eq!(futures.swap_remove(0).result().unwrap(), 1);
    assert!(journal.lines().is_empty());
}

/// The last handle of an executor may go in one of its own callbacks.
fn e10_dropping_the_executor_inside_a_worker_returns<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let future = executor.submit(pass, gate.ticket(1));
    let queued: Vec<_> = (0..10).map(|n| executor.submit(double, n)).collect();
    let arrival = gate.arrival();
    let (tell, told) = mpsc::channel();
    future.add_done_callback(move |_| {
        drop(executor);
        tell.send(()).unwrap();
    });
    arrival.release();
    told.recv().unwrap();
    assert_eq!(future.result().unwrap(), 1);
    assert!((0..).zip(queued).all(|(n, future)| future.result().is_ok_and(|value| value == n * 2)));
}

fn e10_futures_that_outlive_their_executor_all_end<E: Executor>(make: impl Fn(usize) -> E) {
    let futures: Vec<_> = {
        let executor = make(2);
        (0..100).map(|n| executor.submit(double, n)).collect()
    };
    assert!((0..).zip(futures).all(|(n, future)| future.result().is_ok_and(|value| value == n * 2)));
}

fn an_executor_that_was_never_used_ends_at_once<E: Executor>(make: impl Fn(usize) -> E) {
    make(4).shutdown();
    drop(make(4));
    assert!(make(4).shutdown_timeout(Duration::ZERO));
}
