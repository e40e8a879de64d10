//! The state machine, in every interleaving: models that loom runs over the library itself, with its
//! locks, atomics, channels and threads swapped at one door (`src/primitives.rs`).
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release --lib --test interleavings -- --show-output
//! ```
//!
//! Each model is a race. It says in which ways the race may end, and fails if one of them is never
//! seen; it asserts what holds however it ends; and a thread that is never woken is a deadlock, which
//! loom finds. The output tells how many interleavings there were.
//!
//! What is not explored: time, which passes whenever the model likes (`src/primitives/model.rs`); the count
//! of an `Arc`; the looks that a waiter takes before it sleeps; worker processes, which have no threads
//! in common with us (`tests/faults.rs`). A bound is the most preemptions in one run; switches at which
//! a thread blocks or ends are never bounded. Without one there are no more interleavings than these.
//!
//! | model | what races with what | bound |
//! |---|---|---|
//! | `fulfil_and_result` | `fulfil`, a waiter | none |
//! | `promise_drop_and_result` | drop of the promise, a waiter | none |
//! | `fulfil_and_cancel_and_result` | `fulfil`, `cancel`, a waiter | none |
//! | `start_and_cancel` | `start` and `fulfil`, `cancel` and a waiter | none |
//! | `fulfil_and_drop_of_the_future` | `fulfil`, detaching | none |
//! | `fulfil_with_a_callback_and_drop_of_the_future` | a callback that looks at the value, detaching | none |
//! | `result_timeout_and_fulfil` | `fulfil`, a waiter that gives up, unwatches and asks again | none |
//! | `result_timeout_and_fulfil_with_a_callback` | the same while callbacks look at the value | 4 |
//! | `a_wake_up_that_comes_too_late_disturbs_no_other_wait` | `fulfil`, two waits of one thread and its one parker | 4 |
//! | `two_readers_of_a_shared_future` | `fulfil`, two waiters, the move of the value to where both see it | 3 |
//! | `a_reader_and_a_callback_of_a_shared_future` | `fulfil`, a reader, a callback that is added | 3 |
//! | `fulfil_and_add_done_callback` | `fulfil`, a callback that is added, a waiter | none |
//! | `cancel_and_add_done_callback` | `cancel`, a callback that is added | none |
//! | `callbacks_run_in_the_order_in_which_they_were_added` | `fulfil`, callbacks before, at and after it | none |
//! | `callbacks_of_two_threads_while_the_value_is_lent` | `fulfil`, callbacks of two threads | none |
//! | `fulfil_and_await` | `fulfil`, an async task | none |
//! | `fulfil_with_a_callback_and_await` | the same while a callback looks at the value | none |
//! | `fulfil_and_the_latest_waker` | `fulfil`, two polls with two wakers | none |
//! | `wait_for_the_first_of_two_and_a_cancel` | `wait`, `fulfil` of both, `cancel` of one | 3 |
//! | `wait_for_the_first_of_two_while_the_other_stays_open` | `wait`, `fulfil` of one | none |
//! | `wait_for_all_of_two` | `wait`, `fulfil` of each by a thread of its own | 4 |
//! | `wait_for_the_first_error` | `wait`, `fulfil` of one, drop of the other's promise | 4 |
//! | `wait_timeout_and_fulfil` | `fulfil`, a `wait` that gives up and unwatches | none |
//! | `as_completed_yields_each_once` | the iterator, `fulfil` of each by a thread of its own | 4 |
//! | `as_completed_timeout_and_fulfil` | `fulfil`, an iterator that gives up | none |
//! | `fulfil_and_drop_of_as_completed` | `fulfil`, drop of the iterator that watches | none |
//! | `submit_and_shutdown_of_one_thread` | a worker, `shutdown`, the last one out | none |
//! | `submit_and_result_and_drop_of_the_pool` | a worker, a waiter, drop of the pool | none |
//! | `submit_and_shutdown_of_two_threads` | `submit`, `shutdown`, the worker that is hired, or not | none |
//! | `two_submitters_and_one_worker` | two `submit`, the one worker there may be | 3 |
//! | `two_submitters_and_two_workers` | two `submit`, one worker or two | 2 |
//! | `cancel_and_the_worker_that_takes_it` | `cancel`, the worker that starts the call | none |
//! | `cancel_and_a_call_that_is_put_back` | `cancel`, a worker that makes two attempts of the call | none |
//! | `shutdown_that_cancels_and_a_call_that_is_put_back` | the close and the drain, such a worker | 4 |
//! | `a_call_that_is_put_back_and_a_worker_that_retires` | a call that is put back, two workers that leave when idle | 2 |
//! | `a_call_that_waits_for_one_that_is_put_back` | a waiter that makes all attempts itself, another worker | 2 |
//! | `shutdown_that_cancels_and_the_worker_that_takes_it` | the drain of the queue, the worker that takes from it | none |
//! | `submit_and_shutdown_that_cancels` | `submit`, the close and the drain, the worker that is hired, or not | none |
//! | `shutdown_that_cancels_and_await` | the drain of the queue, a worker, an async task | 4 |
//! | `two_shutdowns` | two `shutdown`, the last worker out | none |
//! | `shutdown_timeout_and_the_last_worker` | a `shutdown` that gives up, the last worker out | none |
//! | `shutdown_by_a_worker` | a call that shuts its own pool down, `submit` | none |
//! | `the_last_to_drop_the_pool_may_be_its_worker` | a call that drops its own pool, the other owner | none |
//! | `a_submitter_that_was_woken_finds_the_worker_idle` | a worker that ends a call, the next `submit` | 5 |
//! | `submit_and_a_worker_that_retires` | `submit`, a worker that leaves because it is idle | 3 |
//! | `a_call_that_waits_for_another_and_the_worker_that_takes_it` | a waiter that runs what it waits for, another worker | 2 |
//! | `a_worker_that_waits_and_the_one_that_stands_in` | a waiter, the worker hired in its place, who of them leaves | 2 |
//! | `a_map_and_its_workers` | one task for two items, the worker that takes it, the one hired for the rest, a waiter | 2 |
//! | `a_map_and_a_shutdown_that_cancels` | the same task, the close and the drain, one worker | 3 |
//! | `submit_and_an_initializer_that_fails` | `submit`, a worker that breaks the pool, `shutdown` | none |
//!
//! In `src/pool/interleavings.rs`, which sees the queue itself:
//!
//! | model | what races with what | bound |
//! |---|---|---|
//! | `push_and_close` | a push, the close, the drain after it | none |
//! | `push_and_close_and_a_worker` | a push, the close, a worker | none |
//! | `two_pushes_and_one_idle_worker` | two pushes: one finds the worker, the other hires unless it is back | none |
//! | `a_worker_that_is_lent_and_close` | one that hands a task in and may do it in a worker's place, the worker, the close | none |
//! | `a_worker_that_is_lent_and_a_push` | the same, and a push | 4 |
//! | `a_worker_that_is_lent_for_what_only_it_can_do` | a worker that is lent and called, the close | none |
//! | `break_and_push_and_a_worker` | a push, a queue that breaks and is drained, a worker | none |
//! | `close_and_break` | the two ways to close | none |
//! | `a_task_put_back_and_close_and_two_workers` | a task that is put back, the close, two workers | 3 |
//! | `a_task_put_back_and_break` | the same, a queue that breaks and is drained, one worker | none |
//! | `a_task_put_back_and_a_push` | the same, a push, two workers | 3 |
//! | `a_worker_that_gives_its_task_back` | `submit`, a worker that puts its task back and leaves, another | 2 |
//! | `a_worker_that_waits_again_and_the_one_that_leaves` | a waiter, the worker hired in its place, which leaves as one too many | 3 |
//! | `a_pool_that_shrinks_and_a_push` | a pool that is made smaller, a push, two workers of which one is too many | 3 |
//! | `a_pool_that_shrinks_and_a_worker_that_is_lent` | the same, two workers that lie down, and who works in the place of one | 2 |
//! | `a_pool_that_grows_and_shrinks` | `submit`, `set_max_workers` twice, workers hired and let go | 2 |
//! | `workers_that_cannot_start` | `submit`, two workers that are refused by the system | 4 |
//! | `one_worker_that_starts_and_one_that_cannot` | `submit`, one such worker beside a good one | 3 |
//!
//! In `src/task/interleavings.rs`, which runs the items of a map without a pool:
//!
//! | model | what races with what | bound |
//! |---|---|---|
//! | `two_workers_of_a_course` | a worker that runs several items, another that takes over what has not begun | 3 |
//! | `a_runner_and_a_cancel` | such a worker, a cancel of what has not begun | none |
//! | `a_runner_and_a_map_that_is_dropped` | the same, and nobody wants what is done | none |
//! | `a_runner_and_a_waiter` | such a worker, a waiter that wants what is done as soon as it is | 4 |
//! | `two_workers_of_a_course_and_a_waiter` | all three | 2 |
#![cfg(loom)]

#[path = "common/explore.rs"]
mod explore;

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, Map, Promise, ReturnWhen, Shutdown, TaskOptions, ThreadPoolExecutor,
    as_completed, as_completed_timeout, wait, wait_timeout,
};
use explore::{ALL, Count, explore};
use loom::thread;

/// In a model a limit passes whenever the model likes.
const LIMIT: Duration = Duration::from_secs(3600);

/// How an outcome is called among the endings of a race.
fn kind<T>(outcome: &Result<T, Error>) -> &'static str {
    match outcome {
        Ok(_) => "value",
        Err(Error::Cancelled { .. }) => "cancelled",
        Err(Error::Broken { .. }) => "broken",
        Err(Error::ShutDown { .. }) => "shut down",
        Err(Error::TimedOut { .. }) => "timed out",
        Err(Error::Raised { .. }) => "raised",
        Err(error) => panic!("no ending of a race: {error}"),
    }
}

/// A value that counts how often it is dropped.
struct Precious(Count);

impl Drop for Precious {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// A waker that counts how often it is woken.
struct Bell(Count);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.add();
    }
}

fn poll<T>(future: &mut Future<T>, count: &Count) -> Option<Result<T, Error>> {
    poll_with(future, Arc::new(Bell(count.clone())))
}

fn poll_with<T>(
    future: &mut Future<T>,
    bell: Arc<impl Wake + Send + Sync + 'static>,
) -> Option<Result<T, Error>> {
    match std::pin::Pin::new(future).poll(&mut Context::from_waker(&Waker::from(bell))) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// The least of async runtimes: polls again when it is woken, and only then.
fn block_on<T>(mut future: Future<T>) -> Result<T, Error> {
    struct Alarm(loom::sync::Notify);

    impl Wake for Alarm {
        fn wake(self: Arc<Self>) {
            self.0.notify();
        }
    }

    let alarm = Arc::new(Alarm(loom::sync::Notify::new()));
    loop {
        if let Some(outcome) = poll_with(&mut future, Arc::clone(&alarm)) {
            return outcome;
        }
        alarm.0.wait();
    }
}

fn fulfil<T: Send + 'static>(promise: Promise<T>, value: T) -> thread::JoinHandle<()> {
    thread::spawn(move || promise.fulfil(value))
}

// One future.

#[test]
fn fulfil_and_result() {
    explore(ALL, ["value"], || {
        let (promise, future) = Promise::new();
        let worker = fulfil(promise, 7);
        assert_eq!(future.result().unwrap(), 7);
        worker.join().unwrap();
        "value"
    });
}

#[test]
fn promise_drop_and_result() {
    explore(ALL, ["broken"], || {
        let (promise, future) = Promise::<i32>::new();
        let worker = thread::spawn(move || drop(promise));
        let ending = kind(&future.result());
        worker.join().unwrap();
        ending
    });
}

#[test]
fn fulfil_and_cancel_and_result() {
    explore(ALL, ["value", "cancelled"], || {
        let (promise, future) = Promise::new();
        let future = future.shared();
        let worker = fulfil(promise, 7);
        let canceller = thread::spawn({
            let future = future.clone();
            move || future.cancel()
        });
        let ending = kind(&future.result());
        worker.join().unwrap();
        assert_eq!(canceller.join().unwrap(), ending == "cancelled", "`cancel` says who won");
        assert_eq!(kind(&future.result()), ending, "the first outcome stays");
        ending
    });
}

#[test]
fn start_and_cancel() {
    explore(ALL, ["value", "cancelled"], || {
        let (promise, future) = Promise::new();
        let worker = thread::spawn(move || {
            let started = promise.start();
            if started {
                promise.fulfil(7);
            }
            started
        });
        let cancelled = future.cancel();
        let ending = kind(&future.result());
        assert_eq!(worker.join().unwrap(), !cancelled, "one winner");
        assert_eq!(ending == "cancelled", cancelled);
        ending
    });
}

#[test]
fn fulfil_and_drop_of_the_future() {
    explore(ALL, [1], || {
        let dropped = Count::default();
        let (promise, future) = Promise::new();
        let worker = fulfil(promise, Precious(dropped.clone()));
        drop(future);
        worker.join().unwrap();
        dropped.get()
    });
}

#[test]
fn fulfil_with_a_callback_and_drop_of_the_future() {
    explore(ALL, [(1, 1)], || {
        let (dropped, called) = (Count::default(), Count::default());
        let (promise, future) = Promise::new();
        future.add_done_callback({
            let (dropped, called) = (dropped.clone(), called.clone());
            move |value| {
                assert!(value.is_ok());
                assert_eq!(dropped.get(), 0, "a callback looks at it");
                called.add();
            }
        });
        let worker = fulfil(promise, Precious(dropped.clone()));
        drop(future);
        worker.join().unwrap();
        (dropped.get(), called.get())
    });
}

#[test]
fn result_timeout_and_fulfil() {
    explore(ALL, ["value", "timed out"], || {
        let (promise, mut future) = Promise::new();
        let worker = fulfil(promise, 7);
        let outcome = future.result_timeout(LIMIT);
        let ending = kind(&outcome);
        if outcome.is_err() {
            assert_eq!(future.result().unwrap(), 7, "after a time-out it can be asked again");
        }
        worker.join().unwrap();
        ending
    });
}

#[test]
fn a_wake_up_that_comes_too_late_disturbs_no_other_wait() {
    explore(Some(4), [true, false], || {
        let (first_promise, first) = Promise::new();
        let (second_promise, second) = Promise::new();
        let worker = thread::spawn(move || {
            first_promise.fulfil(1);
            second_promise.fulfil(2);
        });
        let in_time = first.wait_timeout(LIMIT);
        assert!(!in_time || first.done());
        assert_eq!(second.result().unwrap(), 2);
        worker.join().unwrap();
        in_time
    });
}

#[test]
fn two_readers_of_a_shared_future() {
    explore(Some(3), ["value"], || {
        let (promise, future) = Promise::new();
        let future = future.shared();
        let worker = fulfil(promise, Box::new(7));
        let reader = thread::spawn({
            let future = future.clone();
            move || std::ptr::from_ref(future.result().unwrap()).addr()
        });
        let here = future.result().unwrap();
        assert_eq!(**here, 7);
        assert_eq!(reader.join().unwrap(), std::ptr::from_ref(here).addr(), "one value");
        worker.join().unwrap();
        "value"
    });
}

// Callbacks.

#[test]
fn a_reader_and_a_callback_of_a_shared_future() {
    explore(Some(3), [7], || {
        let (promise, future) = Promise::new();
        let future = future.shared();
        let told = Count::default();
        let worker = fulfil(promise, 7);
        let caller = thread::spawn({
            let (future, told) = (future.clone(), told.clone());
            move || {
                future.add_done_callback(move |outcome| {
                    assert_eq!(outcome.ok(), Some(&7));
                    told.add();
                });
            }
        });
        let value = *future.result().unwrap();
        caller.join().unwrap();
        worker.join().unwrap();
        assert_eq!(told.get(), 1);
        value
    });
}

#[test]
fn fulfil_and_add_done_callback() {
    explore(ALL, [1], || {
        let (promise, future) = Promise::new();
        let worker = fulfil(promise, 7);
        let called = Count::default();
        future.add_done_callback({
            let called = called.clone();
            move |value| {
                called.add();
                assert_eq!(*value.unwrap(), 7);
            }
        });
        assert_eq!(future.result().unwrap(), 7);
        let called_before_result = called.get();
        worker.join().unwrap();
        assert_eq!(called.get(), called_before_result, "`result` returns after the callbacks");
        called.get()
    });
}

#[test]
fn cancel_and_add_done_callback() {
    explore(ALL, [1], || {
        let (promise, future) = Promise::<i32>::new();
        let future = Arc::new(future);
        let canceller = thread::spawn({
            let future = Arc::clone(&future);
            move || future.cancel()
        });
        let (called, cancelled) = (Count::default(), Count::default());
        future.add_done_callback({
            let (called, cancelled) = (called.clone(), cancelled.clone());
            move |outcome| {
                called.add();
                if matches!(outcome, Err(Error::Cancelled { .. })) {
                    cancelled.add();
                }
            }
        });
        assert!(canceller.join().unwrap());
        promise.fulfil(7);
        assert_eq!(called.get(), cancelled.get());
        called.get()
    });
}

#[test]
fn callbacks_run_in_the_order_in_which_they_were_added() {
    explore(ALL, [vec![1, 2, 3]], || {
        let (promise, future) = Promise::new();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let add = |number| {
            let order = Arc::clone(&order);
            future.add_done_callback(move |value: Result<&i32, _>| {
                assert_eq!(*value.unwrap(), 7);
                order.lock().unwrap().push(number);
            });
        };
        add(1);
        let worker = fulfil(promise, 7);
        add(2);
        add(3);
        assert_eq!(future.result().unwrap(), 7);
        worker.join().unwrap();
        order.lock().unwrap().clone()
    });
}

#[test]
fn callbacks_of_two_threads_while_the_value_is_lent() {
    explore(ALL, [2], || {
        let (promise, future) = Promise::new();
        let future = Arc::new(future);
        let called = Count::default();
        let add = |future: &Future<i32>, called: &Count| {
            let called = called.clone();
            future.add_done_callback(move |value| {
                assert_eq!(*value.unwrap(), 7);
                called.add();
            });
        };
        let worker = fulfil(promise, 7);
        let other = thread::spawn({
            let (future, called) = (Arc::clone(&future), called.clone());
            move || add(&future, &called)
        });
        add(&future, &called);
        worker.join().unwrap();
        other.join().unwrap();
        assert_eq!(Arc::into_inner(future).unwrap().result().unwrap(), 7, "it comes back from the callbacks");
        called.get()
    });
}

#[test]
fn result_timeout_and_fulfil_with_a_callback() {
    explore(Some(4), ["value", "timed out"], || {
        let (promise, mut future) = Promise::new();
        let called = Count::default();
        future.add_done_callback({
            let called = called.clone();
            move |_| called.add()
        });
        let worker = fulfil(promise, 7);
        let outcome = future.result_timeout(LIMIT);
        let ending = kind(&outcome);
        if outcome.is_err() {
            assert_eq!(future.result().unwrap(), 7);
        }
        assert_eq!(called.get(), 1, "the value is given when the callbacks have seen it");
        worker.join().unwrap();
        ending
    });
}

// One async task.

#[test]
fn fulfil_and_await() {
    explore(ALL, [7], || {
        let (promise, future) = Promise::new();
        let worker = fulfil(promise, 7);
        let value = block_on(future).unwrap();
        worker.join().unwrap();
        value
    });
}

#[test]
fn fulfil_with_a_callback_and_await() {
    explore(ALL, [(7, 1)], || {
        let (promise, future) = Promise::new();
        let called = Count::default();
        future.add_done_callback({
            let called = called.clone();
            move |_| called.add()
        });
        let worker = fulfil(promise, 7);
        let value = block_on(future).unwrap();
        let ending = (value, called.get());
        worker.join().unwrap();
        ending
    });
}

#[test]
fn submit_and_shutdown_that_cancels() {
    explore(ALL, ["value", "cancelled", "shut down"], || {
        let pool = Arc::new(pool(1));
        let ran = Count::default();
        let submitter = thread::spawn({
            let (pool, ran) = (Arc::clone(&pool), ran.clone());
            move || pool.spawn(move || ran.add())
        });
        pool.shutdown_with(Shutdown { wait: true, cancel_futures: true });
        let future = submitter.join().unwrap();
        assert!(future.done(), "it ended before `shutdown` came back, or was refused");
        let ending = kind(&future.result());
        assert_eq!(ran.get(), usize::from(ending == "value"));
        ending
    });
}

#[test]
fn shutdown_that_cancels_and_await() {
    explore(Some(4), ["value", "cancelled"], || {
        let pool = Arc::new(pool(1));
        let future = pool.spawn(|| 7);
        let closer = thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.shutdown_with(Shutdown { wait: false, cancel_futures: true })
        });
        let ending = kind(&block_on(future));
        closer.join().unwrap();
        ending
    });
}

#[test]
fn fulfil_and_the_latest_waker() {
    explore(ALL, ["first poll", "first waker", "second waker"], || {
        let (promise, mut future) = Promise::new();
        let worker = fulfil(promise, 7);
        let (first, second) = (Count::default(), Count::default());
        let ending = if poll(&mut future, &first).is_some() {
            "first poll"
        } else if poll(&mut future, &second).is_some() {
            "first waker"
        } else {
            "second waker"
        };
        worker.join().unwrap();
        assert_eq!(first.get(), usize::from(ending == "first waker"));
        assert_eq!(second.get(), usize::from(ending == "second waker"));
        if ending == "second waker" {
            assert_eq!(poll(&mut future, &second).unwrap().unwrap(), 7);
        }
        ending
    });
}

// Many futures.

#[test]
fn wait_for_the_first_of_two_and_a_cancel() {
    explore(Some(3), ["first", "second", "both"], || {
        let (first_promise, first) = Promise::new();
        let (second_promise, second) = Promise::new();
        let (first, second) = (first.shared(), second.shared());
        let worker = thread::spawn(move || {
            first_promise.fulfil(1);
            second_promise.fulfil(2);
        });
        let canceller = thread::spawn({
            let second = second.clone();
            move || second.cancel()
        });
        let waited = wait([(1, &first), (2, &second)], ReturnWhen::FirstCompleted);
        assert!(waited.done.iter().all(|(_, future)| future.done()));
        let ending = match waited.done[..] {
            [(1, _)] => "first",
            [(2, _)] => "second",
            [(1, _), (2, _)] => "both",
            _ => panic!("woken by nobody"),
        };
        worker.join().unwrap();
        assert_eq!(canceller.join().unwrap(), second.cancelled());
        assert!(first.done() && second.done());
        ending
    });
}

#[test]
fn wait_for_the_first_of_two_while_the_other_stays_open() {
    explore(ALL, [vec![1]], || {
        let (first_promise, first) = Promise::new();
        let (_second_promise, second) = Promise::<i32>::new();
        let worker = fulfil(first_promise, 1);
        let waited = wait([(1, &first), (2, &second)], ReturnWhen::FirstCompleted);
        worker.join().unwrap();
        waited.done.iter().map(|(number, _)| *number).collect()
    });
}

#[test]
fn wait_for_all_of_two() {
    explore(Some(4), [2], || {
        let (first_promise, first) = Promise::new();
        let (second_promise, second) = Promise::new();
        let one = fulfil(first_promise, 1);
        let two = fulfil(second_promise, 2);
        let waited = wait([first, second], ReturnWhen::AllCompleted);
        one.join().unwrap();
        two.join().unwrap();
        waited.done.len()
    });
}

#[test]
fn wait_for_the_first_error() {
    explore(Some(4), ["the error alone", "both"], || {
        let (first_promise, first) = Promise::new();
        let (second_promise, second) = Promise::<i32>::new();
        let one = fulfil(first_promise, 1);
        let two = thread::spawn(move || drop(second_promise));
        let waited = wait([(1, &first), (2, &second)], ReturnWhen::FirstException);
        assert!(second.done(), "a value is not enough");
        let ending = if waited.not_done.is_empty() { "both" } else { "the error alone" };
        one.join().unwrap();
        two.join().unwrap();
        ending
    });
}

#[test]
fn wait_timeout_and_fulfil() {
    explore(ALL, [(0, 1), (1, 0)], || {
        let (promise, future) = Promise::new();
        let worker = fulfil(promise, 7);
        let waited = wait_timeout([&future], ReturnWhen::AllCompleted, LIMIT);
        let ending = (waited.done.len(), waited.not_done.len());
        assert_eq!(future.result().unwrap(), 7);
        worker.join().unwrap();
        ending
    });
}

#[test]
fn as_completed_yields_each_once() {
    explore(Some(4), [[1, 2], [2, 1]], || {
        let (first_promise, first) = Promise::new();
        let (second_promise, second) = Promise::new();
        let one = fulfil(first_promise, 1);
        let two = fulfil(second_promise, 2);
        let order: Vec<i32> = as_completed([first, second]).map(|future| future.result().unwrap()).collect();
        one.join().unwrap();
        two.join().unwrap();
        order.try_into().unwrap()
    });
}

#[test]
fn fulfil_and_drop_of_as_completed() {
    explore(ALL, ["value"], || {
        let (promise, future) = Promise::new();
        let worker = fulfil(promise, 7);
        drop(as_completed([&future]));
        let ending = kind(&future.result());
        worker.join().unwrap();
        ending
    });
}

#[test]
fn as_completed_timeout_and_fulfil() {
    explore(ALL, ["value", "timed out"], || {
        let (promise, future) = Promise::new();
        let worker = fulfil(promise, 7);
        let mut completed = as_completed_timeout([&future], LIMIT);
        let ending = kind(&completed.next().unwrap());
        assert!(completed.next().is_none());
        drop(completed);
        assert_eq!(future.result().unwrap(), 7);
        worker.join().unwrap();
        ending
    });
}

// A pool of threads.

fn pool(max_workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder().max_workers(max_workers).thread_name_prefix("worker").build().unwrap()
}

fn workers(pool: &ThreadPoolExecutor) -> usize {
    let text = format!("{pool:?}");
    let (_, rest) = text.split_once("workers: ").unwrap().1.split_once("workers: ").unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}

#[test]
fn submit_and_shutdown_of_one_thread() {
    explore(ALL, ["value"], || {
        let pool = pool(1);
        let future = pool.spawn(|| 7);
        pool.shutdown();
        assert!(future.done(), "`shutdown` waits");
        assert_eq!(workers(&pool), 0);
        kind(&future.result())
    });
}

#[test]
fn submit_and_result_and_drop_of_the_pool() {
    explore(ALL, [7], || {
        let pool = pool(1);
        let value = pool.spawn(|| 7).result().unwrap();
        drop(pool);
        value
    });
}

#[test]
fn submit_and_shutdown_of_two_threads() {
    explore(ALL, ["value", "shut down"], || {
        let pool = Arc::new(pool(1));
        let ran = Count::default();
        let submitter = thread::spawn({
            let (pool, ran) = (Arc::clone(&pool), ran.clone());
            move || pool.spawn(move || ran.add())
        });
        pool.shutdown();
        let ran_before = ran.get();
        let future = submitter.join().unwrap();
        assert!(future.done(), "run before `shutdown` came back, or refused");
        let ending = kind(&future.result());
        assert_eq!(ran.get(), usize::from(ending == "value"));
        assert_eq!(ran.get(), ran_before, "nothing runs after `shutdown`");
        ending
    });
}

#[test]
fn two_submitters_and_one_worker() {
    explore(Some(3), [1], || {
        let pool = Arc::new(pool(1));
        let other = thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.spawn(|| thread::current().id()).result().unwrap()
        });
        let here = pool.spawn(|| thread::current().id()).result().unwrap();
        assert_eq!(other.join().unwrap(), here);
        workers(&pool)
    });
}

#[test]
fn two_submitters_and_two_workers() {
    explore(Some(2), [1, 2], || {
        let pool = Arc::new(pool(2));
        let other = thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.spawn(|| 1).result().unwrap()
        });
        assert_eq!(pool.spawn(|| 2).result().unwrap(), 2);
        assert_eq!(other.join().unwrap(), 1);
        workers(&pool)
    });
}

#[test]
fn cancel_and_the_worker_that_takes_it() {
    explore(ALL, ["value", "cancelled"], || {
        let pool = pool(1);
        let ran = Count::default();
        let future = pool.spawn({
            let ran = ran.clone();
            move || ran.add()
        });
        let cancelled = future.cancel();
        let ending = kind(&future.result());
        pool.shutdown();
        assert_eq!(cancelled, ending == "cancelled");
        assert_eq!(ran.get(), usize::from(!cancelled), "cancelled is never run");
        ending
    });
}

/// Fails at its first attempt.
fn flaky(n: u32) -> Result<u32, String> {
    if concurrent_futures::task::attempt() == 1 { Err("not yet".into()) } else { Ok(n) }
}

fn submit_flaky(pool: &ThreadPoolExecutor) -> Future<u32> {
    let options = TaskOptions::new().retries(1).backoff(Duration::ZERO, Duration::ZERO).retry_if(|_| true);
    Executor::try_submit_with(pool, flaky, 7, options)
}

#[test]
fn cancel_and_a_call_that_is_put_back() {
    // Raised: in the middle of the first attempt, which is the last then.
    explore(ALL, ["value", "cancelled", "raised"], || {
        let pool = pool(1);
        let future = submit_flaky(&pool);
        let cancelled = future.cancel();
        let ending = kind(&future.result());
        pool.shutdown();
        assert_eq!(cancelled, ending == "cancelled");
        ending
    });
}

#[test]
fn shutdown_that_cancels_and_a_call_that_is_put_back() {
    explore(Some(4), ["value", "cancelled"], || {
        let pool = pool(1);
        let future = submit_flaky(&pool);
        pool.shutdown_with(Shutdown { wait: false, cancel_futures: true });
        let ending = kind(&future.result());
        pool.shutdown();
        ending
    });
}

#[test]
fn a_call_that_is_put_back_and_a_worker_that_retires() {
    explore(Some(2), ["value"], || {
        let pool = ThreadPoolExecutor::builder().max_workers(2).idle_timeout(LIMIT).build().unwrap();
        let (flaky, other) = (submit_flaky(&pool), pool.spawn(|| ()));
        other.result().unwrap();
        let ending = kind(&flaky.result());
        pool.shutdown();
        ending
    });
}

#[test]
fn a_call_that_waits_for_one_that_is_put_back() {
    explore(Some(2), ["value"], || {
        let pool = Arc::new(pool(2));
        let own = Arc::clone(&pool);
        let outer = pool.spawn(move || kind(&submit_flaky(&own).result()));
        let ending = outer.result().unwrap();
        pool.shutdown();
        ending
    });
}

#[test]
fn shutdown_that_cancels_and_the_worker_that_takes_it() {
    explore(ALL, [["cancelled", "cancelled"], ["value", "cancelled"], ["value", "value"]], || {
        let pool = pool(1);
        let ran = Count::default();
        let futures = [1, 2].map(|_| {
            let ran = ran.clone();
            pool.spawn(move || ran.add())
        });
        pool.shutdown_with(Shutdown { wait: true, cancel_futures: true });
        assert!(futures.iter().all(Future::done));
        let ending = futures.map(|future| kind(&future.result()));
        assert_eq!(ran.get(), ending.iter().filter(|kind| **kind == "value").count());
        ending
    });
}

#[test]
fn two_shutdowns() {
    explore(ALL, ["value"], || {
        let pool = Arc::new(pool(1));
        let future = pool.spawn(|| 7).shared();
        let other = thread::spawn({
            let (pool, future) = (Arc::clone(&pool), future.clone());
            move || {
                pool.shutdown();
                assert!(future.done(), "each `shutdown` waits");
            }
        });
        pool.shutdown();
        assert!(future.done(), "each `shutdown` waits");
        other.join().unwrap();
        kind(&future.result())
    });
}

#[test]
fn shutdown_timeout_and_the_last_worker() {
    explore(ALL, [true, false], || {
        let pool = pool(1);
        let future = pool.spawn(|| 7);
        let over = pool.shutdown_timeout(LIMIT);
        assert!(!over || (future.done() && workers(&pool) == 0));
        assert_eq!(future.result().unwrap(), 7);
        drop(pool);
        over
    });
}

#[test]
fn shutdown_by_a_worker() {
    explore(ALL, [true, false], || {
        let pool = Arc::new(pool(1));
        let inside = Arc::clone(&pool);
        let future = pool.spawn(move || inside.shutdown());
        let late = pool.spawn(|| 7).result().is_ok();
        future.result().unwrap();
        pool.shutdown();
        late
    });
}

#[test]
fn the_last_to_drop_the_pool_may_be_its_worker() {
    explore(ALL, [true, false], || {
        let pool = Arc::new(pool(1));
        let inside = Arc::clone(&pool);
        let future = pool.spawn(move || Arc::into_inner(inside).is_some());
        // The model knows nothing of an `Arc`: without this nobody would come before us.
        thread::yield_now();
        drop(pool);
        future.result().unwrap()
    });
}

#[test]
fn submit_and_a_worker_that_retires() {
    explore(Some(3), ["value"], || {
        let builder = ThreadPoolExecutor::builder().max_workers(1);
        let pool = builder.idle_timeout(Duration::ZERO).build().unwrap();
        pool.spawn(|| ()).result().unwrap();
        // It finds the worker, or one is hired: nobody strands.
        let ending = kind(&pool.spawn(|| 7).result());
        pool.shutdown();
        assert_eq!(workers(&pool), 0);
        ending
    });
}

#[test]
fn a_call_that_waits_for_another_and_the_worker_that_takes_it() {
    explore(Some(2), ["by another", "by the waiter"], || {
        let pool = Arc::new(pool(2));
        let own = Arc::clone(&pool);
        let outer = pool.spawn(move || {
            let runs = Count::default();
            let run = runs.clone();
            let inner = own.spawn(move || {
                run.add();
                thread::current().id()
            });
            let by = inner.result().unwrap();
            assert_eq!(runs.get(), 1, "once");
            if by == thread::current().id() { "by the waiter" } else { "by another" }
        });
        let ending = outer.result().unwrap();
        pool.shutdown();
        ending
    });
}

#[test]
fn a_worker_that_waits_and_the_one_that_stands_in() {
    explore(Some(2), ["in time", "too late"], || {
        let pool = Arc::new(pool(1));
        let own = Arc::clone(&pool);
        let outer = pool.spawn(move || {
            let inner = own.spawn(|| ());
            // With a limit it does not run the call itself.
            (inner.wait_timeout(LIMIT), inner)
        });
        let (in_time, inner) = outer.result().unwrap();
        pool.shutdown();
        assert!(inner.done());
        assert_eq!(workers(&pool), 0);
        if in_time { "in time" } else { "too late" }
    });
}

#[test]
fn a_submitter_that_was_woken_finds_the_worker_idle() {
    explore(Some(5), [1], || {
        let pool = pool(2);
        pool.spawn(|| ()).result().unwrap();
        pool.spawn(|| ()).result().unwrap();
        workers(&pool)
    });
}

/// The number of values and of cancelled items.
fn ends(map: Map<'static, usize>) -> (usize, usize) {
    let mut ends = (0, 0);
    for (item, outcome) in map.enumerate() {
        match outcome {
            Ok(value) => {
                assert_eq!((value, ends.1), (item, 0), "in order, and none behind one that was cancelled");
                ends.0 += 1;
            }
            Err(Error::Cancelled { .. }) => ends.1 += 1,
            Err(error) => panic!("no ending of a race: {error}"),
        }
    }
    ends
}

#[test]
fn a_map_and_its_workers() {
    // The second is hired while the first has items that have not begun.
    explore(Some(2), [2], || {
        let pool = pool(2);
        let runs = Count::default();
        let count = runs.clone();
        let map = pool.map(
            move |item: usize| {
                count.add();
                item
            },
            vec![0, 1],
        );
        assert_eq!((ends(map), runs.get()), ((2, 0), 2));
        let workers = workers(&pool);
        pool.shutdown();
        workers
    });
}

#[test]
fn a_map_and_a_shutdown_that_cancels() {
    explore(Some(3), [(0, 2), (1, 1), (2, 0)], || {
        let pool = pool(1);
        let map = pool.map(|item: usize| item, vec![0, 1]);
        pool.shutdown_with(Shutdown { wait: true, cancel_futures: true });
        ends(map)
    });
}

#[test]
fn submit_and_an_initializer_that_fails() {
    explore(ALL, [["broken", "broken"]], || {
        let pool = ThreadPoolExecutor::builder()
            .max_workers(1)
            .initializer(|| std::panic::resume_unwind(Box::new("no")))
            .build()
            .unwrap();
        let futures = [1, 2].map(|_| pool.spawn(|| ()));
        pool.shutdown();
        assert!(futures.iter().all(Future::done), "the last one out has failed them");
        futures.map(|future| kind(&future.result()))
    });
}
