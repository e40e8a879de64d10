//! Parity clauses Y: what asyncio makes of these futures. Here they are awaited as they are, on any
//! runtime; the one of these tests is three lines long.
//!
//! Not here: guides to the runtimes there are.

use std::future::{Future as Async, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Executor, Future, Promise, SharedFuture, ThreadPoolExecutor};

use crate::common::by_hand::{fail, told};
use crate::common::{Journal, LIMIT, LONG, Turnstile, blocked, watchdog};
use crate::engines::{self, double, explode, note, pass, refuse_threes};

contract!(
    [
        y1_a_future_is_awaited_as_it_is,
        y3_awaiting_gives_the_errors_that_result_gives,
        y4_any_executor_serves_async_code,
        y7_gathered_results_come_in_order_and_errors_as_values,
        y8_a_future_that_is_over_is_ready_at_once,
    ],
    [
        y1_whoever_awaits_is_woken_by_the_worker,
        y2_whoever_awaits_is_woken_by_cancel,
        y2_dropping_what_is_awaited_cancels_nothing,
        y5_shutdown_is_awaited_on_a_helper_thread,
        y7_the_first_error_ends_a_gathering_and_the_others_run_on,
    ]
);

/// Sleeps until it is woken, as the simplest of runtimes does.
fn block_on<F: Async>(future: F) -> F::Output {
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let (waker, mut future) = (Waker::from(Arc::new(Unpark(thread::current()))), pin!(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Awaits all at once, as `gather` does: one task, many futures.
async fn gather<T>(futures: Vec<Future<T>>) -> Vec<Result<T, Error>> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (future, None)).collect();
    poll_fn(|context| {
        for (future, outcome) in futures.iter_mut().filter(|(_, outcome)| outcome.is_none()) {
            if let Poll::Ready(ready) = Pin::new(future).poll(context) {
                *outcome = Some(ready);
            }
        }
        if futures.iter().all(|(_, outcome)| outcome.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, outcome)| outcome).collect()
}

fn y1_a_future_is_awaited_as_it_is<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let sum = block_on(async {
        let mut sum = 0;
        for n in 0..100 {
            sum += executor.submit(double, n).await?;
        }
        Ok::<_, Error>(sum)
    });
    assert_eq!(sum.unwrap(), 9900);
}

fn y1_whoever_awaits_is_woken_by_the_worker<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let future = executor.submit(pass, gate.ticket(7));
    let arrival = gate.arrival();
    let awaiting = blocked(move || block_on(async { future.await.map(|n| n + 1) }));
    assert!(!awaiting.is_finished());
    arrival.release();
    assert_eq!(awaiting.join().unwrap().unwrap(), 8);
}

fn y2_whoever_awaits_is_woken_by_cancel<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let future = Arc::new(Mutex::new(executor.submit(double, 1)));
    let awaited = Arc::clone(&future);
    let awaiting =
        blocked(move || block_on(poll_fn(|context| Pin::new(&mut *awaited.lock().unwrap()).poll(context))));
    assert!(!awaiting.is_finished());
    assert!(future.lock().unwrap().cancel());
    assert!(matches!(awaiting.join().unwrap(), Err(Error::Cancelled { .. })));
    assert!(held.running(), "the worker is still held");
    arrival.release();
    held.wait();
}

/// What is to be cancelled is cancelled before it is dropped.
fn y2_dropping_what_is_awaited_cancels_nothing<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let [mut dropped, mut cancelled] = [1, 2].map(|n| executor.submit(note, (journal.page(), n)));
    for future in [&mut dropped, &mut cancelled] {
        assert!(Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(dropped);
    assert!(cancelled.cancel());
    drop(cancelled);
    arrival.release();
    held.wait();
    executor.shutdown();
    assert_eq!(journal.lines(), ["1"]);
}

fn y3_awaiting_gives_the_errors_that_result_gives<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let submit_all = || vec![executor.submit(explode, 1), executor.try_submit(refuse_threes, 3)];
    let say = |outcome: Result<u32, Error>| {
        let error = outcome.unwrap_err();
        // Without the number of the future, which is its own.
        let task = error.task().unwrap().to_string();
        (std::mem::discriminant(&error), error.to_string().replace(&task, "the call"))
    };
    let waited = submit_all().into_iter().map(|future| say(future.result()));
    let awaited = submit_all().into_iter().map(|future| say(block_on(future)));
    assert!(waited.eq(awaited));
    executor.shutdown();
    assert!(matches!(block_on(executor.submit(double, 1)), Err(Error::ShutDown { .. })));
}

async fn double_on(executor: &impl Executor, n: u32) -> Result<u32, Error> {
    executor.submit(double, n).await
}

/// There is no hidden one: it is always named.
fn y4_any_executor_serves_async_code<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executors: [Box<dyn Executor>; 2] = [Box::new(make(1)), Box::new(engines::serial(1))];
    let [executor, other] = &executors;
    let both = block_on(async { (double_on(executor, 4).await, double_on(other, 5).await) });
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (8, 10));
}

fn y5_shutdown_is_awaited_on_a_helper_thread<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = Arc::new(make(1));
    let helper = ThreadPoolExecutor::new(1).unwrap();
    let end = |limit: Duration| {
        let executor = Arc::clone(&executor);
        helper.spawn(move || executor.shutdown_timeout(limit))
    };
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let (early, late) = block_on(async {
        let early = end(Duration::from_millis(1)).await;
        // Out of time: it says so, and what runs goes on.
        assert!(held.running());
        arrival.release();
        (early, end(LONG).await)
    });
    assert!(!early.unwrap() && late.unwrap());
    assert!(held.done());
}

fn y7_gathered_results_come_in_order_and_errors_as_values<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let futures = (0..30).map(|n| executor.try_submit(refuse_threes, n)).collect();
    let outcomes = block_on(gather(futures));
    assert_eq!(outcomes.len(), 30);
    for (n, outcome) in (0..).zip(outcomes) {
        match outcome {
            Ok(value) => assert_eq!(value, n * 2),
            Err(error) => assert!(error.to_string().contains(&format!("refused {n}")), "{error}"),
        }
    }
}

fn y7_the_first_error_ends_a_gathering_and_the_others_run_on<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let fails = executor.submit(explode, 1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let others: Vec<_> = (2..5).map(|n| executor.submit(note, (journal.page(), n))).collect();
    let arrival = gate.arrival();
    let first = block_on(async {
        let mut values = Vec::new();
        for future in [fails].into_iter().chain(others) {
            values.push(future.await?);
        }
        Ok::<_, Error>(values)
    });
    assert!(matches!(first, Err(Error::Panicked { .. })));
    assert!(held.running() && journal.lines().is_empty(), "the others have not run yet");
    arrival.release();
    executor.shutdown();
    assert_eq!(journal.lines(), ["2", "3", "4"]);
}

fn y8_a_future_that_is_over_is_ready_at_once<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let mut future = executor.submit(double, 4);
    future.wait();
    let ready = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(8))));
}

// By hand.

/// The way back: what runs on a runtime is waited for as any other future, and stops when that is
/// cancelled.
#[test]
fn y6_a_promise_leads_from_async_code_to_a_future() {
    /// Runs `task` elsewhere, until it ends or nobody wants it.
    fn run<T: Send + Sync + 'static>(
        task: impl Async<Output = T> + Send + 'static,
    ) -> (SharedFuture<T>, thread::JoinHandle<bool>) {
        let (promise, future) = Promise::new();
        let waker = Arc::new(Mutex::new(None::<Waker>));
        let bell = Arc::clone(&waker);
        // Told of being cancelled as of every end.
        future.add_done_callback(move |_| {
            if let Some(waker) = bell.lock().unwrap().take() {
                waker.wake();
            }
        });
        let future = future.shared();
        let wanted = future.clone();
        let running = thread::spawn(move || {
            let mut task = Box::pin(task);
            let output = block_on(poll_fn(|context| {
                *waker.lock().unwrap() = Some(context.waker().clone());
                if wanted.cancelled() {
                    return Poll::Ready(None);
                }
                task.as_mut().poll(context).map(Some)
            }));
            output.map(|output| promise.fulfil(output)).is_some()
        });
        (future, running)
    }

    watchdog("Y6", LIMIT, || {
        let (gate, passed) = Promise::new();
        let (future, running) = run(async { passed.await.map(|n: u32| n + 1) });
        gate.fulfil(1);
        assert_eq!(future.result().cloned().unwrap().unwrap(), 2);
        assert!(running.join().unwrap(), "it ran to its end");

        let (_gate, never) = Promise::<u32>::new();
        let (future, running) = run(never);
        assert!(future.cancel());
        assert!(!running.join().unwrap(), "it was stopped");
        assert!(matches!(future.result(), Err(Error::Cancelled { .. })));
    });
}

/// Also while callbacks look at the value.
#[test]
fn y8_awaiting_comes_after_callbacks_that_look_at_the_value() {
    watchdog("Y8", LIMIT, || {
        let pool = ThreadPoolExecutor::new(2).unwrap();
        for n in 0..500 {
            let future = pool.spawn(move || n);
            let seen = told(&future);
            assert_eq!(block_on(future).unwrap(), n);
            assert_eq!(seen.try_recv().unwrap(), n.to_string());
        }
    });
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Bell {
    fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll<T>(future: &mut Future<T>, bell: &Arc<Bell>) -> Poll<Result<T, Error>> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell))))
}

#[test]
fn y8_the_latest_waker_is_woken_once() {
    let (first, second) = (Arc::<Bell>::default(), Arc::<Bell>::default());
    let (promise, mut future) = Promise::new();
    assert!(poll(&mut future, &first).is_pending());
    assert!(poll(&mut future, &first).is_pending());
    promise.start();
    assert!(poll(&mut future, &second).is_pending());
    assert_eq!(Arc::strong_count(&first), 1, "the one before is given back");
    promise.fulfil(5);
    assert_eq!((first.rung(), second.rung()), (0, 1));
    assert_eq!(Arc::strong_count(&second), 1);
    assert!(matches!(poll(&mut future, &first), Poll::Ready(Ok(5))));
    assert!(matches!(poll(&mut future, &first), Poll::Ready(Err(Error::InvalidArgument { .. }))));
    assert_eq!((first.rung(), second.rung()), (0, 1));
}

#[test]
fn y8_wakers_are_woken_however_it_ends() {
    type End = fn(Promise<u32>, &Future<u32>);
    let ends: [(End, bool); 4] = [
        (|promise, _| promise.fulfil(1), true),
        (|promise, _| fail(promise), false),
        (|promise, _| drop(promise), false),
        (|_, future| assert!(future.cancel()), false),
    ];
    for (end, returns) in ends {
        let bell = Arc::<Bell>::default();
        let (promise, mut future) = Promise::new();
        assert!(poll(&mut future, &bell).is_pending());
        end(promise, &future);
        assert_eq!(bell.rung(), 1);
        let Poll::Ready(outcome) = poll(&mut future, &bell) else { panic!("woken for nothing") };
        assert_eq!(outcome.is_ok(), returns);
    }
}

#[test]
fn y8_a_waker_is_given_back_when_the_future_is_dropped() {
    let bell = Arc::<Bell>::default();
    let (promise, mut future) = Promise::<u32>::new();
    assert!(poll(&mut future, &bell).is_pending());
    drop((future, promise));
    assert_eq!(Arc::strong_count(&bell), 1);
}

#[test]
fn y8_a_waker_that_panics_harms_nobody() {
    struct Broken;

    impl Wake for Broken {
        fn wake(self: Arc<Self>) {
            panic!("a runtime that is broken");
        }
    }

    let (promise, mut future) = Promise::new();
    let pending = Pin::new(&mut future).poll(&mut Context::from_waker(&Waker::from(Arc::new(Broken))));
    assert!(pending.is_pending());
    let told = told(&future);
    promise.fulfil(3);
    assert_eq!(told.try_recv().unwrap(), "3");
    assert_eq!(future.result().unwrap(), 3);
}
