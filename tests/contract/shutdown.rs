//! E7 to E10: the end of an executor.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Executor, Future, Shutdown, wait};

use crate::common::{Journal, LONG, Turnstile, blocked};
use crate::engines::{double, note, pass};

contract!(
    [
        e7_shutdown_waits_for_all_that_was_submitted,
        e7_what_comes_after_shutdown_is_refused,
        e9_shutdown_can_be_called_again,
        e10_dropping_the_executor_waits_for_all_that_was_submitted,
        an_executor_that_was_never_used_ends_at_once,
        shutdown_with_a_limit_is_true_when_all_have_ended,
    ],
    [
        e7_shutdown_waits_for_the_task_that_runs,
        e8_shutdown_without_waiting_returns_at_once_and_the_queue_drains,
        e8_cancelling_cancels_what_has_not_started_and_nothing_else,
        e8_a_callback_of_a_cancelled_task_may_submit,
        e8_cancelling_comes_also_after_a_shutdown_without_waiting,
        e9_every_call_that_waits_waits,
        e9_a_shutdown_that_waits_waits_also_after_one_that_did_not,
        e10_dropping_the_executor_waits_for_the_task_that_runs,
        e10_dropping_while_unwinding_cancels_what_has_not_started,
        e10_dropping_the_executor_inside_a_worker_returns,
        e10_futures_that_outlive_their_executor_all_end,
        shutdown_with_a_limit_is_false_while_a_task_runs,
        shutdown_in_the_middle_of_cancelling_does_not_hang,
    ]
);

const NO_WAIT: Shutdown = Shutdown { wait: false, cancel_futures: false };
const CANCEL: Shutdown = Shutdown { wait: true, cancel_futures: true };

fn e7_shutdown_waits_for_all_that_was_submitted<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(2);
    let futures: Vec<_> = (0..200).map(|n| executor.submit(note, (journal.page(), n))).collect();
    executor.shutdown();
    assert!(futures.iter().all(Future::done));
    assert_eq!(journal.lines().len(), 200);
    assert!((0..).zip(futures).all(|(n, future)| future.result().is_ok_and(|value| value == n)));
}

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

fn e7_what_comes_after_shutdown_is_refused<E: Executor>(make: impl Fn(usize) -> E) {
    for how in [Shutdown::default(), NO_WAIT, CANCEL, Shutdown { wait: false, cancel_futures: true }] {
        let executor = make(1);
        let before = executor.submit(double, 2);
        before.wait();
        executor.shutdown_with(how);
        assert!(matches!(executor.submit(double, 2).result(), Err(Error::ShutDown { .. })), "{how:?}");
        assert_eq!(before.result().unwrap(), 4);
    }
}

fn e8_shutdown_without_waiting_returns_at_once_and_the_queue_drains<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let queued: Vec<_> = (0..20).map(|n| executor.submit(double, n)).collect();
    let arrival = gate.arrival();
    // Would hang if it waited: the task is held until we let it go.
    executor.shutdown_with(NO_WAIT);
    assert!(held.running() && queued.iter().all(|future| !future.done()));
    assert!(matches!(executor.submit(double, 1).result(), Err(Error::ShutDown { .. })));
    arrival.release();
    assert_eq!(held.result().unwrap(), 1);
    assert!((0..).zip(queued).all(|(n, future)| future.result().is_ok_and(|value| value == n * 2)));
}

fn e8_cancelling_cancels_what_has_not_started_and_nothing_else<E: Executor + 'static>(
    make: impl Fn(usize) -> E,
) {
    let journal = Journal::new();
    let executor = Arc::new(make(2));
    let gate = Turnstile::new();
    let done = executor.submit(double, 4);
    done.wait();
    let held = [executor.submit(pass, gate.ticket(1)), executor.submit(pass, gate.ticket(2))];
    let arrivals = gate.arrivals(2);
    let queued: Vec<_> = (0..50).map(|n| executor.submit(note, (journal.page(), n))).collect();
    let ending = Arc::clone(&executor);
    let shutdown = blocked(move || ending.shutdown_with(CANCEL));
    // Cancelled at once, for every observer, while the workers are still held.
    wait(&queued, concurrent_futures::ReturnWhen::AllCompleted);
    assert!(queued.iter().all(Future::cancelled));
    assert!(held.iter().all(Future::running) && !shutdown.is_finished());
    drop(arrivals);
    shutdown.join().unwrap();
    assert_eq!(done.result().unwrap(), 8);
    for (number, future) in (1..).zip(held) {
        assert_eq!(future.result().unwrap(), number);
    }
    assert!(queued.into_iter().all(|future| matches!(future.result(), Err(Error::Cancelled { .. }))));
    assert!(journal.lines().is_empty());
}

/// CPython's thread pool cancels under its own lock and hangs here (parity S6).
fn e8_a_callback_of_a_cancelled_task_may_submit<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = Arc::new(make(1));
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let queued = executor.submit(double, 1);
    let (tell, told) = mpsc::channel();
    let again = Arc::clone(&executor);
    queued.add_done_callback(move |_| {
        again.shutdown_with(Shutdown { wait: false, cancel_futures: true });
        tell.send(again.submit(double, 2)).unwrap();
    });
    executor.shutdown_with(Shutdown { wait: false, cancel_futures: true });
    assert!(queued.cancelled());
    assert!(matches!(told.recv().unwrap().result(), Err(Error::ShutDown { .. })));
    arrival.release();
    assert_eq!(held.result().unwrap(), 1);
    executor.shutdown();
}

fn e8_cancelling_comes_also_after_a_shutdown_without_waiting<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let queued = executor.submit(double, 1);
    let arrival = gate.arrival();
    executor.shutdown_with(NO_WAIT);
    assert!(!queued.done());
    executor.shutdown_with(Shutdown { wait: false, cancel_futures: true });
    assert!(queued.cancelled());
    arrival.release();
    assert_eq!(held.result().unwrap(), 1);
}

fn e9_shutdown_can_be_called_again<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let future = executor.submit(double, 2);
    for how in [Shutdown::default(), CANCEL, NO_WAIT, Shutdown::default()] {
        executor.shutdown_with(how);
        assert!(future.done());
    }
    assert!(executor.shutdown_timeout(LONG));
    assert_eq!(future.result().unwrap(), 4);
}

fn e9_every_call_that_waits_waits<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = Arc::new(make(1));
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let shutdowns: Vec<_> = (0..4)
        .map(|_| {
            let ending = Arc::clone(&executor);
            blocked(move || ending.shutdown())
        })
        .collect();
    assert!(shutdowns.iter().all(|shutdown| !shutdown.is_finished()));
    arrival.release();
    for shutdown in shutdowns {
        shutdown.join().unwrap();
        assert!(held.done());
    }
}

/// CPython's process pool returns at once (parity S4).
fn e9_a_shutdown_that_waits_waits_also_after_one_that_did_not<E: Executor + 'static>(
    make: impl Fn(usize) -> E,
) {
    let executor = Arc::new(make(1));
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    executor.shutdown_with(NO_WAIT);
    let ending = Arc::clone(&executor);
    let shutdown = blocked(move || ending.shutdown());
    assert!(!shutdown.is_finished() && held.running());
    arrival.release();
    shutdown.join().unwrap();
    assert!(held.done());
}

fn e10_dropping_the_executor_waits_for_all_that_was_submitted<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(2);
    let futures: Vec<_> = (0..200).map(|n| executor.submit(note, (journal.page(), n))).collect();
    drop(executor);
    assert!(futures.iter().all(Future::done));
    assert_eq!(journal.lines().len(), 200);
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

fn shutdown_with_a_limit_is_true_when_all_have_ended<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let futures: Vec<_> = (0..20).map(|n| executor.submit(double, n)).collect();
    assert!(executor.shutdown_timeout(LONG));
    assert!(futures.iter().all(Future::done));
    assert!(executor.shutdown_timeout(Duration::ZERO));
    assert!(matches!(executor.submit(double, 1).result(), Err(Error::ShutDown { .. })));
}

fn shutdown_with_a_limit_is_false_while_a_task_runs<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let (held, queued) = (executor.submit(pass, gate.ticket(1)), executor.submit(double, 2));
    let arrival = gate.arrival();
    for limit in [Duration::ZERO, Duration::from_millis(1)] {
        assert!(!executor.shutdown_timeout(limit));
    }
    // It has begun to shut down, and cancels nothing.
    assert!(matches!(executor.submit(double, 1).result(), Err(Error::ShutDown { .. })));
    assert!(held.running() && !queued.done());
    arrival.release();
    assert!(executor.shutdown_timeout(LONG));
    assert!(held.done());
    assert_eq!((held.result().unwrap(), queued.result().unwrap()), (1, 4));
}

/// Submitting and cancelling right before the end (upstream: `hang_gh94440`).
fn shutdown_in_the_middle_of_cancelling_does_not_hang<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    for _ in 0..20 {
        let executor = Arc::new(make(1));
        let futures: Arc<Vec<_>> = Arc::new((0..20).map(|n| executor.submit(double, n)).collect());
        let over = Arc::new(AtomicBool::new(false));
        let cancelling = {
            let (futures, over) = (Arc::clone(&futures), Arc::clone(&over));
            thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    futures.iter().rev().for_each(|future| {
                        future.cancel();
                    });
                }
            })
        };
        executor.shutdown();
        over.store(true, Ordering::SeqCst);
        cancelling.join().unwrap();
        assert!(futures.iter().all(Future::done));
    }
}
