//! Parity S: shutdown and exit, clause by clause of `tests/PARITY.md`.
//!
//! Not here: what is promised beyond it (`shutdown.rs`), the end of a whole program (`tests/exit.rs`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, ProcessPoolExecutor, ReturnWhen, Shutdown, ThreadPoolExecutor, wait,
};
use serde::{Deserialize, Serialize, Serializer};

use crate::common::{Journal, LIMIT, LONG, Ticket, Turnstile, blocked, watchdog};
use crate::engines::{double, note, pass, processes};

contract!(
    [
        s1_shutdown_can_be_called_again,
        s1_what_comes_after_shutdown_is_refused,
        s2_shutdown_runs_all_that_was_submitted,
        s2_maps_and_shutdowns_race,
        s9_dropping_the_executor_runs_all_that_was_submitted,
        s12_shutdown_with_a_limit_is_true_when_all_have_ended,
    ],
    [
        s3_shutdown_without_waiting_returns_at_once_and_the_queue_drains,
        s4_every_shutdown_that_waits_waits,
        s4_a_shutdown_that_waits_waits_also_after_one_that_did_not,
        s5_cancelling_cancels_what_has_not_started_and_nothing_else,
        s5_cancelling_comes_also_after_a_shutdown_without_waiting,
        s5_what_is_cancelled_stays_so_when_a_plain_shutdown_follows,
        s6_a_callback_of_a_cancelled_task_may_submit,
        s7_shutdown_in_the_middle_of_cancelling_does_not_hang,
        s11_what_a_worker_submits_while_its_executor_ends_is_refused,
        s12_shutdown_with_a_limit_is_false_while_a_task_runs,
        s13_every_idle_worker_leaves_at_one_shutdown,
    ]
);

const NO_WAIT: Shutdown = Shutdown { wait: false, cancel_futures: false };
const CANCEL: Shutdown = Shutdown { wait: true, cancel_futures: true };

fn s1_shutdown_can_be_called_again<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let future = executor.submit(double, 2);
    for how in [Shutdown::default(), CANCEL, NO_WAIT, Shutdown::default()] {
        executor.shutdown_with(how);
        assert!(future.done());
    }
    assert!(executor.shutdown_timeout(LONG));
    assert_eq!(future.result().unwrap(), 4);
}

fn s1_what_comes_after_shutdown_is_refused<E: Executor>(make: impl Fn(usize) -> E) {
    for how in [Shutdown::default(), NO_WAIT, CANCEL, Shutdown { wait: false, cancel_futures: true }] {
        let executor = make(1);
        let before = executor.submit(double, 2);
        before.wait();
        executor.shutdown_with(how);
        assert!(matches!(executor.submit(double, 2).result(), Err(Error::ShutDown { .. })), "{how:?}");
        assert_eq!(before.result().unwrap(), 4);
    }
}

/// First of all it is broken, then shut down.
#[test]
fn s1_a_pool_that_is_broken_says_so_also_after_a_shutdown() {
    fn assert_broken(pool: &impl Executor) {
        let outcome = pool.submit(double, 1).result();
        assert!(matches!(outcome, Err(Error::Broken { .. })), "{outcome:?}");
    }
    watchdog("broken and shut down", LIMIT, || {
        let no_licence = |()| panic!("no licence");
        let threads = ThreadPoolExecutor::builder().initializer(move || no_licence(())).build().unwrap();
        let processes = ProcessPoolExecutor::builder().initializer(no_licence, ()).build().unwrap();
        for pool in [&threads as &dyn Executor, &processes] {
            assert_broken(&pool);
            pool.shutdown();
            assert_broken(&pool);
        }
    });
}

fn s2_shutdown_runs_all_that_was_submitted<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(2);
    let futures: Vec<_> = (0..200).map(|n| executor.submit(note, (journal.page(), n))).collect();
    executor.shutdown();
    assert!(futures.iter().all(Future::done));
    assert_eq!(journal.lines().len(), 200);
    assert!((0..).zip(futures).all(|(n, future)| future.result().is_ok_and(|value| value == n)));
}

/// Upstream: issue 12456.
fn s2_maps_and_shutdowns_race<E: Executor>(make: impl Fn(usize) -> E) {
    for _ in 0..20 {
        let executor = make(2);
        let map = executor.map(double, [2; 3]);
        executor.shutdown();
        assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), [4; 3]);
    }
}

fn s3_shutdown_without_waiting_returns_at_once_and_the_queue_drains<E: Executor>(make: impl Fn(usize) -> E) {
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

/// Every worker leaves after one task and is replaced, although nothing more can be submitted.
#[test]
fn s3_the_queue_drains_also_when_workers_are_replaced() {
    watchdog("replacement after shutdown", LIMIT, || {
        for how in [NO_WAIT, Shutdown::default()] {
            let pool = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(1).build().unwrap();
            let pids: Vec<_> = (0..4).map(|_| pool.submit(|()| std::process::id(), ())).collect();
            pool.shutdown_with(how);
            let mut pids: Vec<_> = pids.into_iter().map(|pid| pid.result().unwrap()).collect();
            pids.sort_unstable();
            pids.dedup();
            assert_eq!(pids.len(), 4, "{how:?}");
            assert!(pool.shutdown_timeout(LONG));
            assert!(pool.worker_pids().is_empty());
        }
    });
}

fn s4_every_shutdown_that_waits_waits<E: Executor + 'static>(make: impl Fn(usize) -> E) {
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
fn s4_a_shutdown_that_waits_waits_also_after_one_that_did_not<E: Executor + 'static>(
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

fn s5_cancelling_cancels_what_has_not_started_and_nothing_else<E: Executor + 'static>(
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

fn s5_cancelling_comes_also_after_a_shutdown_without_waiting<E: Executor>(make: impl Fn(usize) -> E) {
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

/// There a later shutdown overwrites the wish to cancel.
fn s5_what_is_cancelled_stays_so_when_a_plain_shutdown_follows<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let queued: Vec<_> = (0..20).map(|n| executor.submit(note, (journal.page(), n))).collect();
    executor.shutdown_with(Shutdown { wait: false, cancel_futures: true });
    executor.shutdown_with(NO_WAIT);
    arrival.release();
    executor.shutdown();
    assert_eq!(held.result().unwrap(), 1);
    assert!(queued.iter().all(Future::cancelled));
    assert!(journal.lines().is_empty());
}

/// CPython's thread pool cancels under its own lock and hangs here (parity S6).
fn s6_a_callback_of_a_cancelled_task_may_submit<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = Arc::new(make(1));
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let queued = executor.submit(double, 1);
    let (tell, told) = mpsc::channel();
    let again = Arc::clone(&executor);
    queued.add_done_callback(move |_| {
        again.shutdown_with(Shutdown { wait: false, cancel_futures: true });
        assert!(!again.shutdown_timeout(Duration::ZERO));
        tell.send(again.submit(double, 2)).unwrap();
    });
    executor.shutdown_with(Shutdown { wait: false, cancel_futures: true });
    assert!(queued.cancelled());
    assert!(matches!(told.recv().unwrap().result(), Err(Error::ShutDown { .. })));
    arrival.release();
    assert_eq!(held.result().unwrap(), 1);
    executor.shutdown();
}

/// Submitting and cancelling right before the end (upstream: `hang_gh94440`).
fn s7_shutdown_in_the_middle_of_cancelling_does_not_hang<E: Executor + 'static>(make: impl Fn(usize) -> E) {
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

fn pass_and_exit(ticket: Ticket) -> u32 {
    ticket.pass();
    std::process::exit(3)
}

/// What cannot travel back.
#[derive(Deserialize)]
struct Unsent;

impl Serialize for Unsent {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not to be sent"))
    }
}

/// Whatever goes wrong after the shutdown costs its own call.
#[test]
fn s8_a_crash_after_the_shutdown_began_is_an_error_and_no_hang() {
    watchdog("a crash after the shutdown", LIMIT, || {
        for how in [NO_WAIT, Shutdown::default()] {
            let pool = Arc::new(processes(1));
            let gate = Turnstile::new();
            let dying = pool.submit(pass_and_exit, gate.ticket(0));
            let arrival = gate.arrival();
            let queued = pool.submit(double, 1);
            let unsent = pool.submit(|()| Unsent, ());
            let last = pool.submit(pass, gate.ticket(1));
            let ending = Arc::clone(&pool);
            let shutdown = blocked(move || ending.shutdown_with(how));
            assert!(!how.wait || !shutdown.is_finished());
            arrival.release();
            let outcome = dying.result();
            assert!(matches!(outcome, Err(Error::WorkerDied { .. })), "{outcome:?}");
            assert_eq!(queued.result().unwrap(), 2);
            let outcome = unsent.result().map(drop);
            assert!(matches!(outcome, Err(Error::Encode { what: "return value", .. })), "{outcome:?}");
            gate.arrival().release();
            assert_eq!(last.result().unwrap(), 1);
            shutdown.join().unwrap();
            pool.shutdown();
            assert!(pool.worker_pids().is_empty());
        }
    });
}

fn s9_dropping_the_executor_runs_all_that_was_submitted<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(2);
    let futures: Vec<_> = (0..200).map(|n| executor.submit(note, (journal.page(), n))).collect();
    drop(executor);
    assert!(futures.iter().all(Future::done));
    assert_eq!(journal.lines().len(), 200);
}

/// A callback runs in a worker. There is no end of the interpreter here; this is the end there is.
fn s11_what_a_worker_submits_while_its_executor_ends_is_refused<E: Executor + 'static>(
    make: impl Fn(usize) -> E,
) {
    let executor = Arc::new(make(1));
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let (tell, told) = mpsc::channel();
    let inside = Arc::clone(&executor);
    held.add_done_callback(move |_| tell.send(inside.submit(double, 2)).unwrap());
    let ending = Arc::clone(&executor);
    let shutdown = blocked(move || ending.shutdown());
    assert!(!shutdown.is_finished());
    arrival.release();
    assert!(matches!(told.recv().unwrap().result(), Err(Error::ShutDown { .. })));
    shutdown.join().unwrap();
    assert_eq!(held.result().unwrap(), 1);
}

fn s12_shutdown_with_a_limit_is_true_when_all_have_ended<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let futures: Vec<_> = (0..20).map(|n| executor.submit(double, n)).collect();
    assert!(executor.shutdown_timeout(LONG));
    assert!(futures.iter().all(Future::done));
    assert!(executor.shutdown_timeout(Duration::ZERO));
    assert!(matches!(executor.submit(double, 1).result(), Err(Error::ShutDown { .. })));
}

fn s12_shutdown_with_a_limit_is_false_while_a_task_runs<E: Executor>(make: impl Fn(usize) -> E) {
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

/// No marker that one passes to the next, and that may be lost.
fn s13_every_idle_worker_leaves_at_one_shutdown<E: Executor>(make: impl Fn(usize) -> E) {
    for _ in 0..5 {
        let executor = make(6);
        let gate = Turnstile::new();
        let futures: Vec<_> = (0..6).map(|n| executor.submit(pass, gate.ticket(n))).collect();
        // All at once: each has a worker of its own.
        drop(gate.arrivals(6));
        assert!(wait(futures, ReturnWhen::AllCompleted).not_done.is_empty());
        executor.shutdown_with(NO_WAIT);
        assert!(executor.shutdown_timeout(LONG), "somebody stayed");
    }
}
