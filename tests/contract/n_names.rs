//! Parity clauses N: the public names. Each is used here in the shape that it has; that this compiles
//! is half of the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    AsCompleted, AsCompletedTimeout, Error, Executor, Future, FutureId, Map, MapOptions, ProcessPoolBuilder,
    ProcessPoolExecutor, Promise, ReturnWhen, SerialExecutor, Shutdown, ThreadPoolBuilder,
    ThreadPoolExecutor, Waited, as_completed, as_completed_timeout, wait, wait_timeout,
};

use crate::common::{Journal, LIMIT, LONG, Page, Turnstile, watchdog};
use crate::engines::{double, explode, pass, refuse_threes};

contract!(
    [n6_an_executor_has_submit_map_and_shutdown, n8_wait_and_as_completed_take_futures_and_a_limit],
    [n2_errors_can_be_told_apart]
);

registered!([add], []);

fn add((a, b): (u32, u32)) -> u32 {
    a + b
}

#[test]
fn n1_every_name_has_its_counterpart() {
    watchdog("N1", LIMIT, || {
        // Classes.
        let executors: [Box<dyn Executor>; 3] = [
            Box::new(ThreadPoolExecutor::new(1).unwrap()),
            Box::new(ProcessPoolExecutor::new(1).unwrap()),
            Box::new(SerialExecutor::new()),
        ];
        for executor in executors {
            let future: Future<u32> = executor.submit(double, 1);
            // Functions, and the tuple with names.
            let Waited { done, not_done } = wait([&future], ReturnWhen::AllCompleted);
            assert_eq!((done, not_done), (vec![&future], vec![]));
            assert_eq!(as_completed([future]).next().unwrap().result().unwrap(), 2);
        }
        // Constants.
        let _: [ReturnWhen; 3] =
            [ReturnWhen::FirstCompleted, ReturnWhen::FirstException, ReturnWhen::AllCompleted];
        // Exceptions.
        let exception = |error| match error {
            Error::Cancelled { .. } => "CancelledError",
            Error::TimedOut { .. } => "TimeoutError",
            Error::InvalidArgument { .. } => "InvalidStateError",
            Error::Broken { .. } => "BrokenExecutor",
            _ => "another",
        };
        let (promise, mut future) = Promise::<u32>::new();
        assert_eq!(exception(future.result_timeout(Duration::ZERO).unwrap_err()), "TimeoutError");
        drop(promise);
        assert_eq!(exception(future.result().unwrap_err()), "BrokenExecutor");
        let (_promise, future) = Promise::<u32>::new();
        future.cancel();
        assert_eq!(exception(future.result().unwrap_err()), "CancelledError");
        let (promise, mut future) = Promise::new();
        promise.fulfil(1);
        future.try_result().unwrap().unwrap();
        assert_eq!(exception(future.result().unwrap_err()), "InvalidStateError");
    });
}

/// One type, one variant a question: nobody has to tell two by their text.
fn n2_errors_can_be_told_apart<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let mut held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let cancelled = executor.submit(double, 1);
    cancelled.cancel();
    let timed_out = held.result_timeout(Duration::ZERO).unwrap_err();
    arrival.release();
    let (panicked, raised) = (executor.submit(explode, 1), executor.try_submit(refuse_threes, 3));
    executor.shutdown();
    let errors: [Error; 5] = [
        timed_out,
        cancelled.result().unwrap_err(),
        panicked.result().unwrap_err(),
        raised.result().unwrap_err(),
        executor.submit(double, 1).result().unwrap_err(),
    ];
    assert!(matches!(
        errors,
        [
            Error::TimedOut { .. },
            Error::Cancelled { .. },
            Error::Panicked { .. },
            Error::Raised { .. },
            Error::ShutDown { .. }
        ]
    ));
    assert!(
        errors
            .iter()
            .all(|error| std::error::Error::source(error).is_some() == matches!(error, Error::Raised { .. }))
    );
}

/// Refused because it is broken is not refused because it was shut down.
#[test]
fn n2_broken_is_not_shut_down() {
    watchdog("N2", LIMIT, || {
        let pool = ThreadPoolExecutor::builder()
            .max_workers(1)
            .initializer(|| panic!("no licence"))
            .build()
            .unwrap();
        for _ in 0..2 {
            let error = Executor::submit(&pool, double, 1).result().unwrap_err();
            let Error::Broken { cause, .. } = error else { panic!("{error:?}") };
            assert!(cause.is_some_and(|cause| cause.to_string().contains("no licence")));
        }
    });
}

#[test]
fn n3_a_thread_pool_is_made_with_these() {
    watchdog("N3", LIMIT, || {
        assert!(ThreadPoolExecutor::default().max_workers() > 0);
        assert_eq!(ThreadPoolExecutor::new(3).unwrap().max_workers(), 3);
        // `initargs` are what the closure captures.
        let (started, argument) = (Arc::<AtomicUsize>::default(), 5);
        let count = Arc::clone(&started);
        let builder: ThreadPoolBuilder = ThreadPoolExecutor::builder();
        let pool = builder
            .max_workers(1)
            .thread_name_prefix("n3")
            .initializer(move || {
                count.fetch_add(argument, Ordering::SeqCst);
            })
            .build()
            .unwrap();
        let name = pool.spawn(|| thread::current().name().map(str::to_owned));
        assert_eq!(name.result().unwrap().as_deref(), Some("n3_0"));
        assert_eq!(started.load(Ordering::SeqCst), 5);
    });
}

fn prepare((page, number): (Page, u32)) {
    page.note(number);
}

#[test]
fn n4_a_process_pool_is_made_with_these() {
    watchdog("N4", LIMIT, || {
        assert!(ProcessPoolExecutor::default().max_workers() > 0);
        assert_eq!(ProcessPoolExecutor::new(3).unwrap().max_workers(), 3);
        let journal = Journal::new();
        let builder: ProcessPoolBuilder = ProcessPoolExecutor::builder();
        let pool = builder
            .max_workers(1)
            .initializer(prepare, (journal.page(), 5))
            .max_tasks_per_child(1)
            .build()
            .unwrap();
        let pids = [(); 2].map(|()| pool.submit(|()| std::process::id(), ()).result().unwrap());
        assert_ne!(pids[0], pids[1]);
        assert_eq!(journal.lines(), ["5", "5"]);

        // Also before the first worker, and again.
        let unused = ProcessPoolExecutor::new(1).unwrap();
        for pool in [&pool, &unused] {
            pool.terminate_workers();
            pool.kill_workers();
            assert!(matches!(pool.submit(double, 1).result(), Err(Error::ShutDown { .. })));
        }
    });
}

fn n6_an_executor_has_submit_map_and_shutdown<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor: Box<dyn Executor> = Box::new(make(2));
    let futures: [Future<u32>; 2] = [executor.submit(double, 1), executor.try_submit(refuse_threes, 1)];
    assert_eq!(futures.map(|future| future.result().unwrap()), [2, 2]);
    let results: Map<'static, u32> = executor.map(double, 0..3);
    assert_eq!(results.collect::<Result<Vec<_>, _>>().unwrap(), [0, 2, 4]);
    let options: MapOptions = MapOptions::new().timeout(LONG).chunksize(2).buffersize(4);
    let results: Map<'_, u32> = executor.map_with(double, 0..3, options);
    assert_eq!(results.collect::<Result<Vec<_>, _>>().unwrap(), [0, 2, 4]);
    // Several iterables are zipped.
    let sums = executor.map(add, (0..3).zip([10, 20, 30]));
    assert_eq!(sums.collect::<Result<Vec<_>, _>>().unwrap(), [10, 21, 32]);
    executor.shutdown_with(Shutdown { wait: false, cancel_futures: true });
    executor.shutdown();
    // The end of its block is `__exit__`.
    drop(executor);
}

#[test]
fn n7_a_future_and_its_promise_have_these() {
    watchdog("N7", LIMIT, || {
        let (promise, mut future): (Promise<u32>, Future<u32>) = Promise::new();
        let _: FutureId = future.id();
        assert!(!future.done() && !future.running() && !future.cancelled());
        assert!(promise.start() && future.running() && !future.cancel());
        assert!(matches!(future.result_timeout(Duration::ZERO), Err(Error::TimedOut { .. })));
        assert!(!future.wait_timeout(Duration::ZERO));
        let (tell, told) = std::sync::mpsc::channel();
        future.add_done_callback(move |outcome: Result<&u32, &Error>| {
            tell.send(outcome.cloned().ok()).unwrap()
        });
        promise.fulfil(1);
        future.wait();
        assert!(future.exception().is_none());
        assert_eq!((told.recv(), future.result().unwrap()), (Ok(Some(1)), 1));

        let (promise, future) = Promise::<u32>::new();
        let error = Error::raised(promise.task(), "set_exception");
        promise.fail(error);
        assert!(matches!(future.exception(), Some(Error::Raised { .. })));
    });
}

fn n8_wait_and_as_completed_take_futures_and_a_limit<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let futures = [executor.submit(double, 1), executor.submit(double, 2)];
    let waited: Waited<&Future<u32>> = wait(&futures, ReturnWhen::AllCompleted);
    assert_eq!((waited.done.len(), waited.not_done.len()), (2, 0));
    let waited: Waited<&Future<u32>> = wait_timeout(&futures, ReturnWhen::FirstException, Duration::ZERO);
    assert_eq!((waited.done.len(), waited.not_done.len()), (2, 0));
    let completed: AsCompletedTimeout<&Future<u32>> = as_completed_timeout(&futures, Duration::ZERO);
    assert!(completed.map(Result::unwrap).eq(&futures));
    let completed: AsCompleted<Future<u32>> = as_completed(futures);
    assert_eq!(completed.map(|future| future.result().unwrap()).sum::<u32>(), 6);
}
