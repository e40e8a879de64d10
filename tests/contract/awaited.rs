//! Futures awaited on real runtimes: tokio, the executor of smol, and none. And the guard that cancels what is dropped.
//!
//! Not here: wakers by hand (`y_async.rs`).

use std::future::Future as Async;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use concurrent_futures::{Error, Executor, Promise, ReturnWhen, ThreadPoolExecutor, wait};
use futures_lite::future::{block_on, or, zip};

use crate::common::{Journal, LIMIT, LONG, Ticket, Turnstile, watchdog};
use crate::engines::{double, explode, note, pass, processes, refuse_threes, threads, until};

contract!(
    [every_outcome_crosses_every_runtime_unchanged],
    [
        tasks_of_a_runtime_await_side_by_side,
        cancellation_crosses_every_runtime,
        a_future_moves_between_runtimes,
        what_is_dropped_runs_on_without_a_guard,
        a_guard_cancels_what_is_queued,
        a_time_limit_around_a_guard_cancels_its_call,
        select_drops_the_guard_that_lost,
        a_guard_gives_the_outcome_and_the_future,
    ]
);

fn tokio(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.max(1)).enable_time().build().expect("a runtime")
}

/// On every runtime there is here.
fn everywhere<T>(mut make: impl FnMut() -> Pin<Box<dyn Async<Output = T>>>) -> Vec<T> {
    vec![
        block_on(make()),
        tokio(0).block_on(make()),
        tokio(2).block_on(make()),
        block_on(async_executor::LocalExecutor::new().run(make())),
    ]
}

fn every_outcome_crosses_every_runtime_unchanged<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for outcome in everywhere(|| Box::pin(executor.submit(double, 4))) {
        assert_eq!(outcome.unwrap(), 8);
    }
    for outcome in everywhere(|| Box::pin(executor.submit(explode, 3))) {
        let Err(Error::Panicked { panic, .. }) = outcome else { panic!("{outcome:?}") };
        assert!(panic.message().contains("number 3 exploded"));
        assert!(panic.location().is_some_and(|place| place.contains("engines.rs")));
    }
    for outcome in everywhere(|| Box::pin(executor.try_submit(refuse_threes, 3))) {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Raised { .. }) && error.to_string().contains("refused 3"), "{error}");
    }
    executor.shutdown();
    for outcome in everywhere(|| Box::pin(executor.submit(double, 4))) {
        assert!(matches!(outcome, Err(Error::ShutDown { .. })));
    }
}

fn cancellation_crosses_every_runtime<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    for outcome in everywhere(|| {
        let future = executor.submit(double, 4);
        assert!(future.cancel());
        Box::pin(future)
    }) {
        assert!(matches!(outcome, Err(Error::Cancelled { .. })));
    }
    arrival.release();
    held.wait();
}

fn tasks_of_a_runtime_await_side_by_side<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let sum = tokio(2).block_on(async {
        let tasks: Vec<_> = (0..100).map(|n| tokio::spawn(executor.submit(double, n))).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap().unwrap();
        }
        sum
    });
    assert_eq!(sum, 9900);

    let smol = async_executor::Executor::new();
    let tasks: Vec<_> = (0..100).map(|n| smol.spawn(executor.submit(double, n))).collect();
    let sum = block_on(smol.run(async {
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    }));
    assert_eq!(sum, 9900);
}

/// Polled here, then there: the one who polled last is woken.
fn a_future_moves_between_runtimes<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let mut future = executor.submit(pass, gate.ticket(7));
    let arrival = gate.arrival();
    tokio(0).block_on(async {
        // Time enough for one poll. The runtime ends, and its waker with it.
        assert!(tokio::time::timeout(Duration::ZERO, &mut future).await.is_err());
    });
    let other = tokio(2);
    let moved = other.spawn(future);
    let there = block_on(zip(async { moved.await.unwrap() }, async { arrival.release() }));
    assert_eq!(there.0.unwrap(), 7);
}

fn what_is_dropped_runs_on_without_a_guard<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let queued = executor.submit(note, (journal.page(), 2));
    tokio(0).block_on(async {
        assert!(tokio::time::timeout(Duration::from_millis(1), queued).await.is_err());
    });
    arrival.release();
    held.wait();
    executor.shutdown();
    assert_eq!(journal.lines(), ["2"]);
}

fn a_guard_cancels_what_is_queued<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let [never, mut polled] = [2, 3].map(|n| executor.submit(note, (journal.page(), n)).cancel_on_drop());
    assert!(Pin::new(&mut polled).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop((never, polled));
    arrival.release();
    held.wait();
    executor.shutdown();
    assert!(journal.lines().is_empty());
}

fn a_time_limit_around_a_guard_cancels_its_call<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let queued = executor.submit(note, (journal.page(), 2)).cancel_on_drop();
    tokio(0).block_on(async {
        assert!(tokio::time::timeout(Duration::from_millis(1), queued).await.is_err());
        arrival.release();
        assert_eq!(held.await.unwrap(), 1);
        let in_time = tokio::time::timeout(LONG, executor.submit(double, 4).cancel_on_drop());
        assert_eq!(in_time.await.unwrap().unwrap(), 8);
    });
    executor.shutdown();
    assert!(journal.lines().is_empty());
}

fn select_drops_the_guard_that_lost<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let other = threads(1);
    let queued = || executor.submit(note, (journal.page(), 2)).cancel_on_drop();
    let first = tokio(0).block_on(async {
        tokio::select! {
            outcome = queued() => outcome,
            outcome = other.submit(double, 4) => outcome,
        }
    });
    assert_eq!(first.unwrap(), 8);
    assert_eq!(block_on(or(queued(), other.submit(double, 5).cancel_on_drop())).unwrap(), 10);
    arrival.release();
    held.wait();
    executor.shutdown();
    assert!(journal.lines().is_empty());
}

fn a_guard_gives_the_outcome_and_the_future<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let guard = executor.submit(double, 4).cancel_on_drop();
    assert!(wait([&guard], ReturnWhen::AllCompleted).not_done.is_empty());
    assert!(guard.get_ref().done());
    assert_eq!(block_on(guard).unwrap(), 8);
    assert!(matches!(block_on(executor.submit(explode, 1).cancel_on_drop()), Err(Error::Panicked { .. })));

    let gate = Turnstile::new();
    let guard = executor.submit(pass, gate.ticket(3)).cancel_on_drop();
    let arrival = gate.arrival();
    let future = guard.into_inner();
    arrival.release();
    assert_eq!(future.result().unwrap(), 3);
}

/// A thread cannot be stopped; its call runs on.
#[test]
fn a_guard_leaves_what_runs_on_a_thread() {
    watchdog("a guard on threads", LIMIT, || {
        let pool: ThreadPoolExecutor = threads(1);
        let gate = Turnstile::new();
        let (promise, ran) = Promise::new();
        let ticket = gate.ticket(1);
        let guard = pool.spawn(move || promise.fulfil(ticket.pass())).cancel_on_drop();
        let arrival = gate.arrival();
        drop(guard);
        arrival.release();
        assert_eq!(ran.result().unwrap(), 1);
    });
}

#[test]
fn a_guard_kills_what_runs_in_a_process() {
    fn pass_and_note((ticket, page): (Ticket, crate::common::Page)) {
        ticket.pass();
        page.note("it ran on");
    }

    watchdog("a guard on processes", LIMIT, || {
        let journal = Journal::new();
        let pool = processes(1);
        pool.submit(double, 1).result().unwrap();
        let worker = pool.worker_pids();
        let gate = Turnstile::new();
        let guard = pool.submit(pass_and_note, (gate.ticket(1), journal.page())).cancel_on_drop();
        let _held = gate.arrival();
        tokio(0).block_on(async {
            assert!(tokio::time::timeout(Duration::from_millis(1), guard).await.is_err());
        });
        // Its worker is gone, and another does the next call, while nobody was released.
        assert_eq!(pool.submit(double, 4).result().unwrap(), 8);
        until(|| pool.worker_pids() != worker);
        assert!(journal.lines().is_empty());
    });
}

/// What was over when the guard went stays as it is, and a guard may go while its thread unwinds.
#[test]
fn a_guard_may_be_dropped_at_any_time() {
    watchdog("guards dropped", LIMIT, || {
        let (promise, future) = Promise::new();
        let shared = future.shared();
        promise.fulfil(1);
        assert_eq!(shared.result().unwrap(), &1);

        let (promise, future) = Promise::<u32>::new();
        let guard = future.cancel_on_drop();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = guard;
            panic!("elsewhere");
        }));
        assert!(unwound.is_err());
        assert!(!promise.start(), "it was cancelled");

        let (promise, future) = Promise::<u32>::new();
        let mut guard = future.cancel_on_drop();
        assert!(promise.start());
        promise.fulfil(2);
        let ready = Pin::new(&mut guard).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(ready, Poll::Ready(Ok(2))));
        drop(guard);
    });
}
