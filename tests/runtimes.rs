//! Futures of ours awaited on the runtimes that there are: tokio (one thread, many), smol, and none.
//!
//! Not here: what awaiting is, whatever the runtime (`tests/contract/y_async.rs`). Each test is written once, as an async
//! function, and run on all of them, on threads and on processes.

concurrent_futures::init_tests!();

mod common;

use std::future::Future as Async;
use std::sync::Arc;
use std::time::Duration;

use common::{LIMIT, LONG, Ticket, Turnstile, watchdog};
use concurrent_futures::{
    CancelOnDrop, Error, Executor, ProcessPoolExecutor, Promise, ThreadPoolExecutor, task,
};

fn threads(max_workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::new(max_workers).unwrap()
}

fn processes(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

fn tokio_of_one_thread<F: Async>(main: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(main)
}

fn tokio_of_many_threads<F: Async>(main: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(main)
}

/// Instantiates functions `async fn name(executor: impl Executor)` as tests on a runtime.
macro_rules! on_runtime {
    ($name:ident, $block_on:path: $($test:ident),* $(,)?) => {
        mod $name {
            $(
                mod $test {
                    #[test]
                    fn threads() {
                        let name = concat!(stringify!($name), ", ", stringify!($test), " on threads");
                        crate::watchdog(name, crate::LIMIT, || $block_on(crate::$test(crate::threads(1))));
                    }

                    #[test]
                    fn processes() {
                        let name = concat!(stringify!($name), ", ", stringify!($test), " on processes");
                        crate::watchdog(name, crate::LIMIT, || $block_on(crate::$test(crate::processes(1))));
                    }
                }
            )*
        }
    };
}

macro_rules! on_all_runtimes {
    ($($test:ident),* $(,)?) => {
        on_runtime!(tokio_of_one_thread, crate::tokio_of_one_thread: $($test),*);
        on_runtime!(tokio_of_many_threads, crate::tokio_of_many_threads: $($test),*);
        on_runtime!(smol, ::smol::block_on: $($test),*);
        on_runtime!(none, futures_executor::block_on: $($test),*);
    };
}

on_all_runtimes!(
    values_and_errors_cross_unchanged,
    cancellation_crosses,
    dropping_what_is_awaited_detaches,
    a_guard_that_is_dropped_cancels_what_is_queued,
    a_guard_that_is_dropped_stops_or_tells_what_runs,
    a_guard_that_is_kept_changes_nothing,
    many_at_once,
);

fn explode(n: u32) -> u32 {
    panic!("number {n} exploded")
}

fn refuse(n: u32) -> Result<u32, std::num::ParseIntError> {
    format!("{n}x").parse()
}

fn pass(ticket: Ticket) -> u32 {
    ticket.pass()
}

/// Runs until it is not wanted any more, or for ever.
fn run_until_unwanted(ticket: Ticket) {
    ticket.pass();
    while !task::cancelled() {
        std::thread::yield_now();
    }
}

async fn values_and_errors_cross_unchanged<E: Executor>(executor: E) {
    assert_eq!(executor.submit(|n: u32| n + 1, 41).await.unwrap(), 42);
    match executor.submit(explode, 7).await {
        Err(Error::Panicked { panic, .. }) => assert_eq!(panic.message(), "number 7 exploded"),
        other => panic!("{other:?}"),
    }
    match executor.try_submit(refuse, 7).await {
        Err(error @ Error::Raised { .. }) => assert!(error.to_string().contains("invalid digit"), "{error}"),
        other => panic!("{other:?}"),
    }
    executor.shutdown();
    assert!(matches!(executor.submit(|n: u32| n, 1).await, Err(Error::ShutDown { .. })));
}

async fn cancellation_crosses<E: Executor>(executor: E) {
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(3));
    let arrival = gate.arrival();
    let queued = executor.submit(pass, gate.ticket(4));
    assert!(queued.cancel());
    assert!(matches!(queued.await, Err(Error::Cancelled { .. })));
    arrival.release();
    assert_eq!(held.await.unwrap(), 3);
}

/// Polls a future once.
async fn poll_once<F: Async + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_ready())
    })
    .await
}

async fn dropping_what_is_awaited_detaches<E: Executor>(executor: E) {
    let gate = Turnstile::new();
    let mut held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    assert!(!poll_once(&mut held).await);
    drop(held);
    let next = executor.submit(pass, gate.ticket(2));
    arrival.release();
    // It ran to its end, so the next one comes.
    let arrival = gate.arrival();
    assert_eq!(arrival.number, 2);
    arrival.release();
    assert_eq!(next.await.unwrap(), 2);
}

async fn a_guard_that_is_dropped_cancels_what_is_queued<E: Executor>(executor: E) {
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let mut unwanted = executor.submit(pass, gate.ticket(2)).cancel_on_drop();
    assert!(!poll_once(&mut unwanted).await && !unwanted.done());
    drop(unwanted);
    let next = executor.submit(pass, gate.ticket(3));
    arrival.release();
    assert_eq!(held.await.unwrap(), 1);
    assert_eq!(gate.arrival().number, 3, "it ran all the same");
    assert_eq!(next.await.unwrap(), 3);
}

/// A process is stopped, a thread is told: either way the worker is free for the next call.
async fn a_guard_that_is_dropped_stops_or_tells_what_runs<E: Executor>(executor: E) {
    let gate = Turnstile::new();
    let mut unwanted = executor.submit(run_until_unwanted, gate.ticket(1)).cancel_on_drop();
    gate.arrival().release();
    assert!(!poll_once(&mut unwanted).await);
    drop(unwanted);
    assert_eq!(executor.submit(|n: u32| n, 5).await.unwrap(), 5);
}

async fn a_guard_that_is_kept_changes_nothing<E: Executor>(executor: E) {
    let guard: CancelOnDrop<u32> = executor.submit(|n: u32| n, 5).cancel_on_drop();
    let id = guard.id();
    assert_eq!(guard.into_inner().id(), id);
    assert_eq!(executor.submit(|n: u32| n, 6).cancel_on_drop().await.unwrap(), 6);
    assert_eq!(executor.submit(|n: u32| n, 7).cancel_on_drop().result().unwrap(), 7);
    let over = executor.submit(|n: u32| n, 8).cancel_on_drop();
    over.wait();
    let kept = over.into_inner();
    assert_eq!(kept.await.unwrap(), 8);
}

async fn many_at_once<E: Executor>(executor: E) {
    let futures: Vec<_> = (0..200).map(|n| executor.submit(|n: u32| n * 2, n)).collect();
    for (n, future) in (0..).zip(futures) {
        assert_eq!(future.await.unwrap(), 2 * n);
    }
}

/// Instantiates functions `fn name(executor: impl Executor)` as tests.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => { $(
        mod $test {
            #[test]
            fn threads() {
                crate::watchdog(stringify!($test), crate::LIMIT, || crate::tokio_of_many_threads(super::$test(crate::threads(2))));
            }

            #[test]
            fn processes() {
                crate::watchdog(stringify!($test), crate::LIMIT, || crate::tokio_of_many_threads(super::$test(crate::processes(2))));
            }
        }
    )* };
}

on_both!(
    a_time_out_of_the_runtime_drops_what_it_waits_for,
    select_drops_the_losers,
    a_future_moves_between_tasks_and_runtimes,
    a_task_of_the_runtime_that_is_aborted_takes_its_call_with_it,
);

async fn a_time_out_of_the_runtime_drops_what_it_waits_for<E: Executor>(executor: E) {
    let gate = Turnstile::new();
    let slow = executor.submit(run_until_unwanted, gate.ticket(1)).cancel_on_drop();
    gate.arrival().release();
    assert!(tokio::time::timeout(Duration::from_millis(1), slow).await.is_err());
    executor.shutdown();
}

async fn select_drops_the_losers<E: Executor>(executor: E) {
    let gate = Turnstile::new();
    let slow = executor.submit(run_until_unwanted, gate.ticket(1)).cancel_on_drop();
    gate.arrival().release();
    tokio::select! {
        _ = slow => panic!("it runs until it is not wanted"),
        value = executor.submit(|n: u32| n, 9) => assert_eq!(value.unwrap(), 9),
    }
    executor.shutdown();
}

async fn a_future_moves_between_tasks_and_runtimes<E: Executor>(executor: E) {
    let gate = Turnstile::new();
    let mut future = executor.submit(pass, gate.ticket(6));
    let arrival = gate.arrival();
    assert!(!poll_once(&mut future).await);
    // The waker of the first is forgotten.
    let elsewhere = std::thread::spawn(move || {
        assert!(!::smol::block_on(poll_once(&mut future)));
        future
    });
    let future = elsewhere.join().unwrap();
    let awaited = tokio::spawn(future);
    arrival.release();
    assert_eq!(awaited.await.unwrap().unwrap(), 6);
}

async fn a_task_of_the_runtime_that_is_aborted_takes_its_call_with_it<E: Executor>(executor: E) {
    let gate = Turnstile::new();
    let executor = Arc::new(executor);
    let held = executor.submit(run_until_unwanted, gate.ticket(1)).cancel_on_drop();
    gate.arrival().release();
    let request = tokio::spawn(held);
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    assert!(executor.shutdown_timeout(LONG));
}

#[test]
fn what_a_guard_ended_is_no_error_that_nobody_read() {
    watchdog("no unread error", LIMIT, || {
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let hook = Arc::clone(&heard);
        concurrent_futures::set_unread_error_hook(move |error| hook.lock().unwrap().push(error.to_string()));
        let pool = processes(1);
        let gate = Turnstile::new();
        let running = pool.submit(run_until_unwanted, gate.ticket(1)).cancel_on_drop();
        gate.arrival().release();
        drop(running);
        pool.shutdown();
        // Others run in this process, and lose errors of their own.
        let heard = heard.lock().unwrap();
        assert!(!heard.iter().any(|error| error.contains("run_until_unwanted")), "{heard:?}");
    });
}

/// What was over when the guard went stays as it is, and a guard may go while its thread unwinds.
#[test]
fn a_guard_may_be_dropped_at_any_time() {
    watchdog("guards dropped", LIMIT, || {
        let (promise, future) = Promise::<u32>::new();
        let guard = future.cancel_on_drop();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = guard;
            panic!("elsewhere");
        }));
        assert!(unwound.is_err());
        assert!(!promise.start(), "it was cancelled");

        let (promise, future) = Promise::<u32>::new();
        let guard = future.cancel_on_drop();
        assert!(promise.start());
        promise.fulfil(2);
        assert_eq!(futures_executor::block_on(guard).unwrap(), 2);
    });
}
