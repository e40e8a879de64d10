//! E5: a task that has not started can be cancelled, and then never runs.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Executor, Future, ReturnWhen, as_completed, wait};

use crate::common::{Journal, LIMIT, Turnstile, blocked, watchdog};
use crate::engines::{double, explode, note, pass, processes};

contract!(
    [e5_a_task_that_is_done_cannot_be_cancelled],
    [
        e5_a_pending_task_is_cancelled_and_never_runs,
        e5_a_running_task_cannot_be_cancelled,
        e5_cancelling_again_is_true_and_repeats_nothing,
        e5_whoever_waits_for_a_cancelled_task_wakes_at_once,
        e5_wait_and_as_completed_see_a_cancelled_task_at_once,
        e5_callbacks_of_a_cancelled_task_run_in_the_thread_that_cancels,
        e5_cancelling_races_with_starting,
        e5_killing_a_pending_task_cancels_it,
    ]
);

fn e5_a_task_that_is_done_cannot_be_cancelled<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (returned, panicked) = (executor.submit(double, 2), executor.submit(explode, 2));
    returned.wait();
    panicked.wait();
    for future in [&returned, &panicked] {
        assert!(!future.cancel() && !future.kill());
        assert!(future.done() && !future.cancelled());
    }
    assert_eq!(returned.result().unwrap(), 4);
    assert!(matches!(panicked.result(), Err(Error::Panicked { .. })));
}

fn e5_a_pending_task_is_cancelled_and_never_runs<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let (doomed, kept) =
        (executor.submit(note, (journal.page(), 1)), executor.submit(note, (journal.page(), 2)));
    assert!(doomed.cancel());
    assert!(doomed.cancelled() && doomed.done() && !doomed.running());
    assert!(matches!(doomed.exception(), Some(Error::Cancelled { .. })));
    arrival.release();
    assert_eq!((held.result().unwrap(), kept.result().unwrap()), (0, 2));
    let id = doomed.id();
    let error = doomed.result().unwrap_err();
    assert!(matches!(&error, Error::Cancelled { task } if task.id == id), "{error:?}");
    assert!(error.to_string().contains("engines::note"), "{error}");
    executor.shutdown();
    assert_eq!(journal.lines(), ["2"]);
}

fn e5_a_running_task_cannot_be_cancelled<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let future = executor.submit(pass, gate.ticket(3));
    let arrival = gate.arrival();
    assert!(!future.cancel());
    assert!(future.running() && !future.cancelled() && !future.done());
    arrival.release();
    assert_eq!(future.result().unwrap(), 3);
}

fn e5_cancelling_again_is_true_and_repeats_nothing<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let future = executor.submit(double, 1);
    let (tell, told) = mpsc::channel();
    future.add_done_callback(move |_| tell.send(()).unwrap());
    assert!(future.cancel() && future.cancel() && future.cancel() && future.kill());
    arrival.release();
    held.wait();
    executor.shutdown();
    assert_eq!(told.iter().count(), 1);
}

fn e5_whoever_waits_for_a_cancelled_task_wakes_at_once<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let future = executor.submit(double, 1).shared();
    let (result, end) = (future.clone(), future.clone());
    let result = blocked(move || result.result().cloned());
    let end = blocked(move || end.wait());
    assert!(!result.is_finished() && !end.is_finished());
    assert!(future.cancel());
    // The worker is still held: nobody but `cancel` can have woken them.
    assert!(matches!(result.join().unwrap(), Err(Error::Cancelled { .. })));
    end.join().unwrap();
    arrival.release();
    held.wait();
}

/// CPython's `wait` hangs here until a worker comes by (parity W6).
fn e5_wait_and_as_completed_see_a_cancelled_task_at_once<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let futures: Vec<_> = (0..3).map(|n| executor.submit(double, n)).collect();
    assert!(futures.iter().all(Future::cancel));
    assert_eq!(wait(&futures, ReturnWhen::AllCompleted).done.len(), 3);
    assert_eq!(as_completed(&futures).count(), 3);
    assert!(held.running());
    arrival.release();
    assert_eq!(held.result().unwrap(), 0);
}

fn e5_callbacks_of_a_cancelled_task_run_in_the_thread_that_cancels<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let future = executor.submit(double, 1);
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    future.add_done_callback(move |outcome| {
        let cancelled = matches!(outcome, Err(Error::Cancelled { .. }));
        *note.lock().unwrap() = Some((thread::current().id(), cancelled));
    });
    assert!(future.cancel());
    // When `cancel` returns they have run.
    assert_eq!(*seen.lock().unwrap(), Some((thread::current().id(), true)));
    arrival.release();
    held.wait();
}

/// Whoever wins: cancelled means that it did not run, not cancelled means that it did.
fn e5_cancelling_races_with_starting<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(2);
    let futures: Vec<_> = (0..400)
        .map(|n| {
            let future = executor.submit(note, (journal.page(), n));
            let cancelled = future.cancel();
            assert_eq!(future.cancelled(), cancelled);
            (n, future, cancelled)
        })
        .collect();
    executor.shutdown();
    let mut ran = Vec::new();
    for (n, future, cancelled) in futures {
        match future.result() {
            Ok(value) => {
                assert!(!cancelled && value == n);
                ran.push(n.to_string());
            }
            Err(Error::Cancelled { .. }) => assert!(cancelled),
            Err(error) => panic!("{error:?}"),
        }
    }
    let mut noted = journal.lines();
    noted.sort();
    ran.sort();
    assert_eq!(noted, ran);
}

fn e5_killing_a_pending_task_cancels_it<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let future = executor.submit(double, 1);
    assert!(future.kill() && future.cancelled());
    assert!(future.wait_timeout(Duration::ZERO) && held.running());
    arrival.release();
    held.wait();
}

#[test]
fn a_running_task_of_a_thread_cannot_be_killed() {
    watchdog("kill on a thread", LIMIT, || {
        let pool = crate::engines::threads(1);
        let gate = Turnstile::new();
        let future = pool.submit(pass, gate.ticket(3));
        let arrival = gate.arrival();
        assert!(!future.kill() && future.running());
        arrival.release();
        assert_eq!(future.result().unwrap(), 3);
    });
}

#[test]
fn a_running_task_of_a_process_can_be_killed_and_the_queue_goes_on() {
    watchdog("kill of a process", LIMIT, || {
        let pool = processes(1);
        let gate = Turnstile::new();
        let future = pool.submit(pass, gate.ticket(3));
        let next = pool.submit(double, 4);
        let _held = gate.arrival();
        assert!(future.kill());
        assert!(matches!(future.result(), Err(Error::WorkerDied { .. })));
        assert_eq!(next.result().unwrap(), 8);
    });
}
