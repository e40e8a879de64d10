//! E5: a task that has not started can be cancelled, and then never runs; and one that
//! has started can be killed, where the engine can.
//!
//! Not here: what `cancel` says in which state, and who hears of it (parity F2, F6, F15, W6).

use std::time::Duration;

use concurrent_futures::{Error, Executor};

use crate::common::{Journal, LIMIT, Turnstile, watchdog};
use crate::engines::{double, note, pass, processes};

contract!(
    [],
    [
        e5_a_pending_task_is_cancelled_and_never_runs,
        e5_cancelling_races_with_starting,
        e5_killing_a_pending_task_cancels_it,
    ]
);

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
