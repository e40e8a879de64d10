//! What only thread pools promise: stacks, closures that capture, destructors and wakers of the user.
//!
//! Not here: what they have in common with CPython's (`t_threads.rs`).

use std::cell::Cell;
use std::num::ParseIntError;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use concurrent_futures::{Error, Executor, Future, MapOptions, ReturnWhen, ThreadPoolExecutor, wait};

use crate::common::{Bomb, Drops, Gate, LIMIT, LONG, watchdog};
use crate::engines::{double, threads};

/// Looks at the pool whenever something is written to it.
struct Nosy<'a>(&'a ThreadPoolExecutor);

impl std::fmt::Write for Nosy<'_> {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        assert!(format!("{:?}", self.0).contains("workers: 1"));
        Ok(())
    }
}

#[test]
fn a_pool_that_prints_itself_holds_nothing_up() {
    watchdog("printing", LIMIT, || {
        let pool = threads(2);
        assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
        std::fmt::write(&mut Nosy(&pool), format_args!("{pool:?}")).unwrap();
    });
}

/// Uses at least `depth` times 16 KiB of stack; unoptimised code keeps a few copies.
fn deep(depth: u32) -> u32 {
    let frame = std::hint::black_box([1_u8; 16 << 10]);
    if depth == 0 { 0 } else { deep(depth - 1) + u32::from(frame[depth as usize % frame.len()]) }
}

#[test]
fn the_stack_is_as_large_as_was_asked_for() {
    watchdog("stack size", LIMIT, || {
        let pool = ThreadPoolExecutor::builder().max_workers(1).stack_size(64 << 20).build().unwrap();
        // 8 MiB and more: four times the stack that a thread has by default.
        assert_eq!(pool.submit(deep, 512).result().unwrap(), 512);
    });
}

#[test]
fn its_own_submit_takes_what_cannot_travel() {
    watchdog("captures", LIMIT, || {
        let pool = threads(2);
        // Captures, an argument and a result that cannot be serialised, a closure that is called once.
        let captured = Arc::new(Mutex::new(vec![1]));
        let (tell, told) = mpsc::channel();
        let inside = Arc::clone(&captured);
        let future = pool.submit(
            move |argument: mpsc::Sender<u32>| {
                inside.lock().unwrap().push(2);
                argument.send(3).unwrap();
                inside
            },
            tell,
        );
        assert!(Arc::ptr_eq(&future.result().unwrap(), &captured));
        assert_eq!((captured.lock().unwrap().as_slice(), told.recv().unwrap()), ([1, 2].as_slice(), 3));
        let once = String::from("moved out");
        assert_eq!(pool.spawn(move || once).result().unwrap(), "moved out");
        let function: fn(u32) -> u32 = double;
        assert_eq!(pool.submit(function, 4).result().unwrap(), 8);
        let boxed: Box<dyn FnOnce(u32) -> u32 + Send> = Box::new(double);
        assert_eq!(pool.submit(boxed, 4).result().unwrap(), 8);

        let base = String::from("12");
        let parsed: Future<i32> =
            pool.try_submit(move |more: &str| -> Result<_, ParseIntError> { (base + more).parse() }, "x");
        let error = parsed.result().unwrap_err();
        assert!(error.downcast_ref::<ParseIntError>().is_some());

        let factor = Arc::new(3);
        let times = move |n: u32| n * *factor;
        let mapped: Result<Vec<_>, _> = pool.map(times.clone(), 0..3).collect();
        assert_eq!(mapped.unwrap(), [0, 3, 6]);
        let options = MapOptions::new().buffersize(2).chunksize(2);
        let mapped: Result<Vec<_>, _> = pool.map_with(times, 0.., options).take(3).collect();
        assert_eq!(mapped.unwrap(), [0, 3, 6]);
        let refused = Arc::new("no");
        let mapped: Vec<_> = pool.try_map(move |_| Err::<(), _>(*refused), 0..2).collect();
        assert!(mapped.iter().all(|outcome| matches!(outcome, Err(Error::Raised { .. }))));
    });
}

/// Errors name the user's closure, not a wrapper of the library.
#[test]
fn errors_of_its_own_submit_name_the_users_function() {
    watchdog("names of closures", LIMIT, || {
        let pool = threads(1);
        let by = 0;
        let futures = [
            pool.submit(move |n: u32| n / by, 1),
            pool.spawn(move || 1 / by),
            pool.try_submit(move |n: u32| if by == 0 { Err("zero") } else { Ok(n) }, 1),
        ];
        for future in futures {
            let name = future.result().unwrap_err().task().unwrap().name;
            assert!(name.contains("errors_of_its_own_submit_name_the_users_function"), "{name}");
        }
        let name = pool.map(move |n: u32| n / by, [1]).next().unwrap().unwrap_err().task().unwrap().name;
        assert!(name.contains("errors_of_its_own_submit_name_the_users_function"), "{name}");
    });
}

/// Parity G1: what a task held is gone before anyone learns that it is over.
#[test]
fn closure_and_argument_are_dropped_before_the_future_wakes() {
    watchdog("G1", LIMIT, || {
        let pool = threads(1);
        let drops = Drops::new();
        for n in 0..200 {
            let (captured, argument) = (drops.token(), drops.token());
            let call = move |argument| {
                let _both = (&captured, &argument);
                assert!(n % 2 == 0, "half of them panic");
            };
            pool.submit(call, argument).wait();
            assert_eq!(drops.alive(), 0);
        }
        let captured = drops.token();
        let map = pool.map(move |_item| captured.look(), (0..10).map(|_| drops.token()));
        assert_eq!(map.filter(Result::is_ok).count(), 10);
        assert_eq!(drops.alive(), 0);
    });
}

#[test]
fn a_cancelled_task_gives_back_closure_and_argument_at_once() {
    watchdog("cancel frees", LIMIT, || {
        let pool = threads(1);
        let gate = Gate::new();
        let waiter = gate.waiter();
        let held = pool.spawn(move || waiter.wait());
        let drops = Drops::new();
        let captured = drops.token();
        let future = pool.submit(move |_argument| captured.look(), drops.token());
        assert_eq!(drops.alive(), 2);
        assert!(future.cancel());
        assert_eq!(drops.alive(), 0, "the worker is still held: it cannot have done this");
        gate.open();
        held.result().unwrap();
    });
}

#[test]
fn a_result_that_nobody_takes_is_dropped() {
    watchdog("unread results", LIMIT, || {
        let pool = threads(2);
        let drops = Drops::new();
        for _ in 0..50 {
            let token = drops.token();
            drop(pool.spawn(move || token));
        }
        let kept: Vec<_> = (0..50)
            .map(|_| {
                let token = drops.token();
                pool.spawn(move || token)
            })
            .collect();
        drop(pool);
        assert_eq!(drops.alive(), 50);
        drop(kept);
        assert_eq!((drops.made(), drops.alive()), (100, 0));
    });
}

/// A destructor of the user that panics in a worker's thread costs nobody anything: not the
/// worker, not the pool, not the tasks behind it.
#[test]
fn a_destructor_that_panics_harms_no_worker() {
    watchdog("panicking destructors", LIMIT, || {
        type Harm = (&'static str, fn(&ThreadPoolExecutor));
        let kinds: [Harm; 5] = [
            ("a result that nobody takes", |pool| {
                let gate = Gate::new();
                let waiter = gate.waiter();
                // Held until its future is gone: the worker is the last who has the result.
                drop(pool.spawn(move || {
                    waiter.wait();
                    Bomb
                }));
            }),
            ("an argument", |pool| {
                assert!(pool.submit(|_bomb: Bomb| (), Bomb).result().is_err());
            }),
            ("a capture of a closure", |pool| {
                let bomb = Bomb;
                drop(pool.spawn(move || bomb.look()));
            }),
            ("a capture of a callback", |pool| {
                let bomb = Bomb;
                let gate = Gate::new();
                let waiter = gate.waiter();
                let future = pool.spawn(move || waiter.wait());
                future.add_done_callback(move |_| bomb.look());
                gate.open();
                future.result().unwrap();
            }),
            ("a panic's payload", |pool| {
                drop(pool.spawn(|| std::panic::panic_any(Bomb)));
            }),
        ];
        for (kind, harm) in kinds {
            let pool = threads(1);
            harm(&pool);
            let next = pool.submit(double, 2).result();
            assert!(matches!(next, Ok(4)), "{kind}: {next:?}");
            assert!(pool.shutdown_timeout(LONG), "{kind}");
        }
    });
}

/// A call that holds its own future cannot wait for it; whatever it asks, it gets an answer.
#[test]
fn a_call_that_waits_for_itself_gets_an_error() {
    watchdog("self-wait", LIMIT, || {
        let pool = threads(1);
        let (hand, handed) = mpsc::channel::<Future<()>>();
        let future = pool.spawn(move || {
            let mut own = handed.recv().unwrap();
            assert!(own.running() && !own.done());
            own.wait();
            assert!(own.exception().is_none());
            assert!(!own.wait_timeout(LONG));
            let waited = wait([&own], ReturnWhen::AllCompleted);
            assert_eq!(waited.not_done.len(), 1);
            let error = own.result_timeout(LONG).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
            assert!(!own.cancel() && !own.kill());
            let error = own.result().unwrap_err();
            assert!(error.to_string().contains("waits for its own result"), "{error}");
        });
        let (tell, told) = mpsc::channel();
        future.add_done_callback(move |outcome| tell.send(outcome.cloned().map_err(Error::clone)).unwrap());
        hand.send(future).unwrap();
        told.recv().unwrap().unwrap();
    });
}

#[test]
fn a_name_that_no_thread_can_have_is_refused() {
    let nul = ThreadPoolExecutor::builder().thread_name_prefix("a\0b").build().unwrap_err();
    assert!(matches!(nul, Error::InvalidArgument { .. }) && nul.to_string().contains("thread_name_prefix"));
}

/// Workers that the system refuses (a stack larger than the address space) break the pool: an
/// error, no wait without end.
#[test]
fn a_thread_that_cannot_be_started_is_an_error_of_the_task() {
    watchdog("no thread", LIMIT, || {
        let pool = ThreadPoolExecutor::builder().max_workers(1).stack_size(1 << 60).build().unwrap();
        let error = pool.submit(double, 1).result().unwrap_err();
        let Error::Broken { cause: Some(cause), .. } = &error else { panic!("{error:?}") };
        assert!(matches!(**cause, Error::Spawn { .. }), "{cause:?}");
        assert!(pool.shutdown_timeout(LONG));
    });
}

#[test]
fn a_pool_prints_what_it_is() {
    watchdog("Debug", LIMIT, || {
        let pool = ThreadPoolExecutor::builder().max_workers(2).thread_name_prefix("shown").build().unwrap();
        pool.spawn(|| ()).wait();
        let open = format!("{pool:?}");
        for part in ["ThreadPoolExecutor", "shown", "max_workers: 2", "workers: 1", "open: true"] {
            assert!(open.contains(part), "{part} is missing: {open}");
        }
        pool.shutdown();
        assert!(format!("{pool:?}").contains("open: false"));
    });
}

/// The future of a value that cannot even be sent back by reference: `Send`, not `Sync`.
#[test]
fn results_need_not_be_sync() {
    watchdog("not Sync", LIMIT, || {
        let pool = threads(1);
        let future: Future<Cell<u32>> = pool.spawn(|| Cell::new(3));
        let moved = thread::spawn(move || future.result().unwrap().get()).join().unwrap();
        assert_eq!(moved, 3);
        // And a closure may use what is not `Send`, as long as it stays inside.
        assert_eq!(pool.spawn(|| *Rc::new(5)).result().unwrap(), 5);
    });
}

/// Submits to the pool and waits, in whatever place it is put into.
struct Asks(Arc<ThreadPoolExecutor>, mpsc::Sender<u32>);

impl Asks {
    fn ask(&self) {
        self.1.send(self.0.spawn(|| 7).result().unwrap()).unwrap();
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        self.ask();
    }
}

/// A worker that runs the user's code after a call is no idle worker: another one is hired.
#[test]
fn the_destructor_of_a_result_that_nobody_wants_may_wait_for_another_call() {
    watchdog("a destructor that waits", LIMIT, || {
        let pool = Arc::new(ThreadPoolExecutor::new(2).unwrap());
        let (tell, told) = mpsc::channel();
        let gate = Gate::new();
        let (waiter, asks) = (gate.waiter(), Asks(Arc::clone(&pool), tell));
        drop(pool.spawn(move || {
            waiter.wait();
            asks
        }));
        gate.open();
        assert_eq!(told.recv().unwrap(), 7);
    });
}

#[test]
fn a_waker_may_wait_for_another_call() {
    struct AskingWaker(std::sync::Mutex<Asks>);
    impl std::task::Wake for AskingWaker {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().ask();
        }
    }
    watchdog("a waker that waits", LIMIT, || {
        let pool = Arc::new(ThreadPoolExecutor::new(2).unwrap());
        let (tell, told) = mpsc::channel();
        let gate = Gate::new();
        let waiter = gate.waiter();
        let mut future = pool.spawn(move || waiter.wait());
        let waker = Arc::new(AskingWaker(std::sync::Mutex::new(Asks(Arc::clone(&pool), tell)))).into();
        let polled = std::future::Future::poll(
            std::pin::Pin::new(&mut future),
            &mut std::task::Context::from_waker(&waker),
        );
        assert!(polled.is_pending());
        gate.open();
        assert_eq!(told.recv().unwrap(), 7);
        future.result().unwrap();
    });
}

#[test]
fn the_destructor_of_an_error_that_nobody_wants_may_wait_for_another_call() {
    #[derive(thiserror::Error)]
    #[error("refused")]
    struct AskingError(Asks);
    impl std::fmt::Debug for AskingError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("AskingError")
        }
    }
    watchdog("an error that waits", LIMIT, || {
        let pool = Arc::new(ThreadPoolExecutor::new(2).unwrap());
        let (tell, told) = mpsc::channel();
        let gate = Gate::new();
        let (waiter, asks) = (gate.waiter(), Asks(Arc::clone(&pool), tell));
        let refuse = move |()| -> Result<(), AskingError> {
            waiter.wait();
            Err(AskingError(asks))
        };
        // Of the pool itself: `Executor` is there for an `Arc` too, and takes no captures.
        drop(ThreadPoolExecutor::try_submit(&pool, refuse, ()));
        gate.open();
        assert_eq!(told.recv().unwrap(), 7);
    });
}
