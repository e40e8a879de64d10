//! Futures and promises by hand, without an executor: every method in every state of the table in
//! `src/future/state.rs`, callbacks, wakers, sharing, and what is dropped when.
//!
//! Not here: what executors do with them (`tests/contract`), random sequences of all this
//! (`tests/properties.rs`).

mod common;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, Future, Promise, ReturnWhen, SharedFuture, ThreadPoolExecutor, as_completed, as_completed_timeout,
    wait, wait_timeout,
};

use common::{Bomb, Drops, Gate, LIMIT, LONG, Token, blocked, watchdog};

const ZERO: Duration = Duration::ZERO;

/// (pending, running, done, cancelled), of which exactly one is meant by each state.
fn state<T>(future: &Future<T>) -> &'static str {
    match (future.running(), future.done(), future.cancelled()) {
        (false, false, false) => "pending",
        (true, false, false) => "running",
        (false, true, false) => "done",
        (false, true, true) => "cancelled",
        other => panic!("no such state: {other:?}"),
    }
}

fn failure<T: Send>(promise: &Promise<T>) -> Error {
    Error::raised(promise.task(), "it failed")
}

#[track_caller]
fn is_failure<T: fmt::Debug>(outcome: Result<T, Error>) {
    assert!(
        matches!(&outcome, Err(error @ Error::Raised { .. }) if error.to_string().contains("it failed")),
        "{outcome:?}"
    );
}

// The table of states.

#[test]
fn pending_until_it_is_started() {
    let (promise, future) = Promise::<u32>::new();
    assert_eq!(state(&future), "pending");
    assert!(promise.start());
    assert_eq!(state(&future), "running");
    assert!(!promise.start(), "only once");
    assert_eq!(state(&future), "running");
}

#[test]
fn fulfilled_from_pending_and_from_running() {
    for start in [false, true] {
        let (promise, future) = Promise::new();
        assert!(!start || promise.start());
        promise.fulfil(7);
        assert_eq!(state(&future), "done");
        assert!(future.exception().is_none());
        assert_eq!(future.result().unwrap(), 7);
    }
}

#[test]
fn failed_from_pending_and_from_running() {
    for start in [false, true] {
        let (promise, future) = Promise::<u32>::new();
        assert!(!start || promise.start());
        let error = failure(&promise);
        promise.fail(error);
        assert_eq!(state(&future), "done");
        is_failure(future.exception().map_or(Ok(()), Err));
        is_failure(future.result());
    }
}

#[test]
fn broken_when_the_promise_is_dropped() {
    for start in [false, true] {
        let (promise, future) = Promise::<u32>::new();
        assert!(!start || promise.start());
        drop(promise);
        assert_eq!(state(&future), "done");
        let id = future.id().to_string();
        let error = future.result().unwrap_err();
        assert!(matches!(&error, Error::Broken { reason, .. } if reason.contains(&id)), "{error:?}");
    }
}

#[test]
fn broken_when_the_one_who_promised_panics() {
    watchdog("panic of the promiser", LIMIT, || {
        let (promise, future) = Promise::<u32>::new();
        let promiser = thread::spawn(move || {
            assert!(promise.start());
            panic!("before it could keep its promise");
        });
        assert!(matches!(future.result(), Err(Error::Broken { .. })));
        assert!(promiser.join().is_err());
    });
}

#[test]
fn cancelled_before_it_starts_and_then_nothing_has_an_effect() {
    type End = fn(Promise<u32>);
    let ends: [End; 3] = [
        |promise| promise.fulfil(1),
        |promise| {
            let error = failure(&promise);
            promise.fail(error);
        },
        drop,
    ];
    for end in ends {
        let (promise, future) = Promise::new();
        assert!(future.cancel());
        assert_eq!(state(&future), "cancelled");
        assert!(future.cancel() && future.kill(), "cancelled it is");
        assert!(!promise.start());
        end(promise);
        assert_eq!(state(&future), "cancelled");
        assert!(matches!(future.exception(), Some(Error::Cancelled { .. })));
        let id = future.id();
        assert!(matches!(future.result(), Err(Error::Cancelled { task }) if task.id == id));
    }
}

#[test]
fn not_cancelled_once_it_runs_or_is_done() {
    let (promise, future) = Promise::new();
    assert!(promise.start());
    assert!(!future.cancel() && !future.kill());
    assert_eq!(state(&future), "running");
    promise.fulfil(1);
    assert!(!future.cancel() && !future.kill());
    assert_eq!(state(&future), "done");
    assert_eq!(future.result().unwrap(), 1);
}

#[test]
fn promise_and_future_go_by_one_name() {
    let (promise, future) = Promise::<u32>::new();
    let task = promise.task();
    assert_eq!((task.name, task.id), ("promise", future.id()));
    assert_eq!(task.to_string(), format!("`promise` (task {})", future.id().get()));
}

// Asking for the outcome.

#[test]
fn every_question_with_a_limit_is_answered_in_every_state() {
    let (promise, mut future) = Promise::new();
    for step in ["pending", "running"] {
        assert_eq!(state(&future), step);
        assert!(future.try_result().is_none());
        assert!(!future.wait_timeout(ZERO) && !future.wait_timeout(Duration::from_millis(1)));
        for limit in [ZERO, Duration::from_millis(1)] {
            let error = future.result_timeout(limit).unwrap_err();
            assert!(matches!(&error, Error::TimedOut { limit: said, .. } if *said == limit), "{error:?}");
            assert!(error.to_string().contains(&future.id().to_string()), "{error}");
        }
        promise.start();
    }
    promise.fulfil(5);
    // Done is done, however little time there is.
    assert!(future.wait_timeout(ZERO));
    future.wait();
    assert_eq!(future.result_timeout(ZERO).unwrap(), 5);
}

#[test]
fn a_result_is_moved_out_once() {
    let taken = |outcome: Result<u32, Error>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
        assert!(error.to_string().contains("has been taken before"), "{error}");
    };
    let (promise, mut future) = Promise::new();
    promise.fulfil(5);
    assert_eq!(future.try_result().unwrap().unwrap(), 5);
    assert_eq!(state(&future), "done");
    taken(future.try_result().unwrap());
    taken(future.result_timeout(LONG));
    assert!(future.exception().is_none(), "it did return a value");
    taken(future.result());
}

#[test]
fn an_error_is_told_as_often_as_it_is_asked_for() {
    let (promise, mut future) = Promise::<u32>::new();
    let error = failure(&promise);
    promise.fail(error);
    for _ in 0..3 {
        is_failure(future.try_result().unwrap());
        is_failure(future.result_timeout(ZERO));
        // `None` would say that it returned a value.
        is_failure(future.exception().map_or(Ok(()), Err));
        assert!(told(&future).try_recv().unwrap().contains("it failed"));
        assert_eq!(wait([&future], ReturnWhen::FirstException).done.len(), 1);
    }
    is_failure(future.result());
}

#[test]
fn being_cancelled_is_told_as_often_as_it_is_asked() {
    let (_promise, mut future) = Promise::<u32>::new();
    future.cancel();
    for _ in 0..3 {
        assert!(matches!(future.try_result(), Some(Err(Error::Cancelled { .. }))));
        assert!(matches!(future.result_timeout(ZERO), Err(Error::Cancelled { .. })));
        assert!(matches!(future.exception(), Some(Error::Cancelled { .. })));
    }
}

#[test]
fn whoever_waits_wakes_however_it_ends() {
    watchdog("wake", LIMIT, || {
        type End = fn(Promise<u32>, &SharedFuture<u32>);
        let ends: [(End, &str); 4] = [
            (|promise, _| promise.fulfil(3), "3"),
            (
                |promise, _| {
                    let error = failure(&promise);
                    promise.fail(error);
                },
                "it failed",
            ),
            (|promise, _| drop(promise), "dropped without an outcome"),
            (
                |promise, future| {
                    assert!(future.cancel());
                    // Kept until here: it is not this that ended it.
                    assert!(!promise.start());
                },
                "cancelled",
            ),
        ];
        for (end, expected) in ends {
            let (promise, future) = Promise::new();
            let future = future.shared();
            let text: fn(Result<&u32, Error>) -> String =
                |outcome| outcome.map_or_else(|error| error.to_string(), u32::to_string);
            type Waiter = fn(SharedFuture<u32>) -> Result<u32, Error>;
            let waiters: [Waiter; 6] = [
                |future| future.result().cloned(),
                |future| future.result_timeout(LONG).cloned(),
                |future| {
                    future.wait();
                    future.result_timeout(ZERO).cloned()
                },
                |future| {
                    assert!(future.wait_timeout(LONG));
                    future.result_timeout(ZERO).cloned()
                },
                |future| {
                    assert_eq!(wait([&future], ReturnWhen::AllCompleted).done.len(), 1);
                    future.result_timeout(ZERO).cloned()
                },
                |future| {
                    let future = as_completed([future]).next().unwrap();
                    future.result_timeout(ZERO).cloned()
                },
            ];
            let waiters = waiters.map(|waiter| {
                let future = future.clone();
                blocked(move || waiter(future))
            });
            assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
            end(promise, &future);
            for waiter in waiters {
                let text = text(waiter.join().unwrap().as_ref().map_err(Error::clone));
                assert!(text.contains(expected), "{text:?} instead of {expected:?}");
            }
        }
    });
}

#[test]
fn a_wait_wakes_only_for_what_it_waits_for() {
    watchdog("one by one", LIMIT, || {
        let (promises, futures): (Vec<_>, Vec<_>) = (0..3).map(|_| Promise::new()).unzip();
        // One thread waits for one after the other: what is left of the last wait must not end the next.
        let waiting = blocked(move || {
            futures
                .into_iter()
                .map(|future: Future<u32>| {
                    // Leaves before it is woken, unless it is the last.
                    let _ = future.wait_timeout(ZERO);
                    future.result().unwrap()
                })
                .collect::<Vec<_>>()
        });
        let mut promises = promises.into_iter();
        let first = promises.next().unwrap();
        // The last first: nobody waits for it yet.
        promises.next_back().unwrap().fulfil(30);
        first.fulfil(10);
        promises.next().unwrap().fulfil(20);
        assert_eq!(waiting.join().unwrap(), [10, 20, 30]);
    });
}

// Callbacks.

#[test]
fn callbacks_see_the_outcome_in_order_and_leave_the_value_where_it_is() {
    let drops = Drops::new();
    let (promise, future) = Promise::new();
    let (tell, told) = mpsc::channel();
    for number in 0..3 {
        let tell = tell.clone();
        future.add_done_callback(move |outcome: Result<&Token, &Error>| {
            let address = std::ptr::from_ref(outcome.unwrap()).addr();
            tell.send((number, address, thread::current().id())).unwrap();
        });
    }
    drop(tell);
    promise.fulfil(drops.token());
    let told: Vec<_> = told.iter().collect();
    assert_eq!(told.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(told.iter().all(|(_, address, _)| *address == told[0].1), "all saw the same value");
    assert!(told.iter().all(|(.., thread)| *thread == thread::current().id()), "in the thread that fulfils");
    // And then it is moved out, not copied.
    let token = future.result().unwrap();
    assert_eq!((drops.made(), drops.alive()), (1, 1));
    drop(token);
    assert_eq!(drops.alive(), 0);
}

/// A callback on a future in that state, and what it was told.
fn told<T: fmt::Debug + 'static>(future: &Future<T>) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    future.add_done_callback(move |outcome| {
        tell.send(outcome.map_or_else(|error| error.to_string(), |value| format!("{value:?}"))).unwrap();
    });
    told
}

#[test]
fn callbacks_are_told_of_every_kind_of_end_once() {
    type End = fn(Promise<u32>, &Future<u32>);
    let ends: [(End, &str); 4] = [
        (|promise, _| promise.fulfil(3), "3"),
        (
            |promise, _| {
                let error = failure(&promise);
                promise.fail(error);
            },
            "it failed",
        ),
        (|promise, _| drop(promise), "dropped without an outcome"),
        (|_, future| assert!(future.cancel()), "cancelled"),
    ];
    for (end, expected) in ends {
        let (promise, future) = Promise::new();
        let (before, twice) = (told(&future), told(&future));
        assert!(before.try_recv().is_err(), "it is not over");
        end(promise, &future);
        future.cancel();
        let after = told(&future);
        for told in [before, twice, after] {
            let text = told.try_recv().expect("it has been called");
            assert!(text.contains(expected), "{text:?} instead of {expected:?}");
            // Gone after its one call.
            assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        }
    }
}

#[test]
fn a_callback_may_add_callbacks_which_run_after_those_that_were_there() {
    for value in [Ok(1), Err(())] {
        let (promise, future) = Promise::new();
        let future = Arc::new(future);
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |text: &'static str| {
            let order = Arc::clone(&order);
            move |_: Result<&u32, &Error>| order.lock().unwrap().push(text)
        };
        let (again, nested, deeper) = (Arc::clone(&future), note("nested"), note("deeper"));
        let first = note("first");
        future.add_done_callback(move |outcome| {
            first(outcome);
            let inner = Arc::clone(&again);
            again.add_done_callback(move |outcome| {
                nested(outcome);
                inner.add_done_callback(deeper);
            });
        });
        future.add_done_callback(note("second"));
        match value {
            Ok(value) => promise.fulfil(value),
            Err(()) => {
                let error = failure(&promise);
                promise.fail(error);
            }
        }
        let order = order.lock().unwrap().clone();
        assert_eq!(order.len(), 4);
        if value.is_ok() {
            assert_eq!(order, ["first", "second", "nested", "deeper"]);
        }
        let future = Arc::into_inner(future).expect("the callbacks are gone");
        assert_eq!(future.result().ok(), value.ok());
    }
}

#[test]
fn a_callback_that_panics_stops_neither_the_others_nor_the_one_who_ends() {
    let (promise, future) = Promise::new();
    future.add_done_callback(|_| panic!("the first"));
    let second = told(&future);
    future.add_done_callback(|_| std::panic::panic_any(Bomb));
    let fourth = told(&future);
    promise.fulfil(4);
    assert_eq!((second.try_recv().unwrap(), fourth.try_recv().unwrap()), ("4".into(), "4".into()));
    future.add_done_callback(|_| panic!("at once"));
    assert_eq!(future.result().unwrap(), 4);

    let (_promise, future) = Promise::<u32>::new();
    future.add_done_callback(|_| panic!("the first"));
    let second = told(&future);
    assert!(future.cancel());
    assert!(second.try_recv().unwrap().contains("cancelled"));
}

#[test]
fn a_callback_that_comes_after_the_value_was_taken_is_told_so() {
    let (promise, mut future) = Promise::new();
    promise.fulfil(4);
    future.try_result().unwrap().unwrap();
    assert!(told(&future).try_recv().unwrap().contains("taken before"));
}

#[test]
fn asking_for_the_result_in_its_own_callback_is_an_error_not_a_hang() {
    watchdog("result in its own callback", LIMIT, || {
        let (promise, future) = Promise::new();
        let slot = Arc::new(Mutex::new(None::<Future<u32>>));
        let (tell, told) = mpsc::channel();
        let inside = Arc::clone(&slot);
        future.add_done_callback(move |outcome| {
            assert_eq!(*outcome.unwrap(), 6);
            let mut future = inside.lock().unwrap().take().unwrap();
            // Over it is.
            future.wait();
            assert!(future.done() && future.exception().is_none() && future.wait_timeout(LONG));
            assert_eq!(wait([&future], ReturnWhen::AllCompleted).done.len(), 1);
            for limit in [ZERO, LONG] {
                let error = future.result_timeout(limit).unwrap_err();
                assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
            }
            tell.send(future.result()).unwrap();
        });
        *slot.lock().unwrap() = Some(future);
        promise.fulfil(6);
        let error = told.recv().unwrap().unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
    });
}

#[test]
fn asking_for_the_shared_result_in_its_own_callback_spoils_it_for_nobody() {
    watchdog("shared result in its own callback", LIMIT, || {
        let (promise, future) = Promise::new();
        let slot = Arc::new(Mutex::new(None::<SharedFuture<u32>>));
        let (tell, told) = mpsc::channel();
        let inside = Arc::clone(&slot);
        future.add_done_callback(move |_| {
            let future = inside.lock().unwrap().take().unwrap();
            tell.send((future.result().cloned(), future.result_timeout(LONG).cloned())).unwrap();
        });
        let future = future.shared();
        *slot.lock().unwrap() = Some(future.clone());
        promise.fulfil(6);
        let (by_result, by_timeout) = told.recv().unwrap();
        for outcome in [by_result, by_timeout] {
            assert!(matches!(outcome, Err(Error::InvalidArgument { .. })), "{outcome:?}");
        }
        assert_eq!(future.result().cloned().unwrap(), 6);
    });
}

#[test]
fn result_waits_for_callbacks_that_look_at_the_value_and_the_rest_does_not() {
    watchdog("lent", LIMIT, || {
        let (promise, future) = Promise::new();
        let gate = Gate::new();
        let (tell, told) = mpsc::channel();
        let (looking, waiter) = (tell.clone(), gate.waiter());
        future.add_done_callback(move |_| {
            looking.send("looks").unwrap();
            waiter.wait();
            looking.send("has looked").unwrap();
        });
        let fulfilling = thread::spawn(move || promise.fulfil(8));
        assert_eq!(told.recv().unwrap(), "looks");
        assert_eq!(state(&future), "done");
        future.wait();
        assert!(future.exception().is_none() && !future.cancel());
        // Added meanwhile: it will run there, after the one that looks.
        let late = tell.clone();
        future.add_done_callback(move |_| late.send("late").unwrap());
        let result = blocked(move || {
            let result = future.result();
            tell.send("result").unwrap();
            result
        });
        assert!(told.try_recv().is_err() && !result.is_finished());
        gate.open();
        assert_eq!(result.join().unwrap().unwrap(), 8);
        fulfilling.join().unwrap();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["has looked", "late", "result"]);
    });
}

// Sharing.

#[test]
fn a_shared_future_shows_one_value_to_many_threads() {
    watchdog("SharedFuture", LIMIT, || {
        let drops = Drops::new();
        let (promise, future) = Promise::<Token>::new();
        let future = future.shared();
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let future = future.clone();
                blocked(move || std::ptr::from_ref(future.result().unwrap()).addr())
            })
            .collect();
        promise.fulfil(drops.token());
        let addresses: HashSet<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        assert_eq!(addresses.len(), 1);
        assert!(addresses.contains(&std::ptr::from_ref(future.result().unwrap()).addr()));
        let last = future.clone();
        drop(future);
        assert_eq!((drops.made(), drops.alive()), (1, 1));
        assert!(last.result_timeout(ZERO).is_ok() && last.exception().is_none());
        drop(last);
        assert_eq!(drops.alive(), 0);
    });
}

#[test]
fn a_shared_future_can_do_what_a_future_can() {
    let (promise, future) = Promise::<u32>::new();
    let id = future.id();
    let future = future.shared();
    assert_eq!(future.id(), id);
    assert!(!future.done() && !future.running() && !future.cancelled() && !future.wait_timeout(ZERO));
    assert!(matches!(future.result_timeout(ZERO), Err(Error::TimedOut { limit: ZERO, .. })));
    assert!(promise.start() && future.running() && !future.cancel() && !future.kill());
    promise.fulfil(9);
    future.wait();
    assert!(future.done() && future.exception().is_none());
    assert_eq!((future.result().cloned().unwrap(), *future.clone().result().unwrap()), (9, 9));

    let (promise, future) = Promise::<u32>::new();
    let future = future.shared();
    let again = future.clone();
    let error = failure(&promise);
    promise.fail(error);
    for future in [&future, &again, &future] {
        is_failure(future.result());
        assert!(future.exception().is_some());
    }

    let (_promise, future) = Promise::<u32>::new();
    let future = future.shared();
    assert!(future.clone().cancel() && future.cancelled() && future.kill());
    assert!(matches!(future.result(), Err(Error::Cancelled { .. })));
}

#[test]
fn a_future_that_is_over_can_be_shared() {
    let (promise, future) = Promise::new();
    promise.fulfil(1);
    assert_eq!(*future.shared().result().unwrap(), 1);
    let (promise, mut future) = Promise::new();
    promise.fulfil(1);
    future.try_result().unwrap().unwrap();
    assert!(matches!(future.shared().result(), Err(Error::InvalidArgument { .. })));
}

// Several at once.

#[test]
fn a_hundred_futures_that_end_together_are_all_counted() {
    watchdog("W9", LIMIT, || {
        for _ in 0..20 {
            let (promises, futures): (Vec<_>, Vec<_>) = (0..100).map(|_| Promise::new()).unzip();
            let meeting = Arc::new(Barrier::new(5));
            let mut hands: Vec<Vec<Promise<usize>>> = (0..4).map(|_| Vec::new()).collect();
            for (number, promise) in promises.into_iter().enumerate() {
                hands[number % 4].push(promise);
            }
            let ending: Vec<_> = hands
                .into_iter()
                .map(|promises| {
                    let meeting = Arc::clone(&meeting);
                    thread::spawn(move || {
                        meeting.wait();
                        promises.into_iter().enumerate().for_each(|(n, promise)| promise.fulfil(n));
                    })
                })
                .collect();
            meeting.wait();
            let completed = as_completed(&futures);
            let waited = wait(&futures, ReturnWhen::AllCompleted);
            assert!(waited.not_done.is_empty());
            assert_eq!(completed.collect::<HashSet<_>>().len(), 100);
            ending.into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
}

#[test]
fn wait_ends_at_the_first_failure_and_not_at_a_cancelled_one() {
    watchdog("FirstException", LIMIT, || {
        let (promises, futures): (Vec<_>, Vec<_>) = (0..4).map(|_| Promise::<u32>::new()).unzip();
        let mut promises = promises.into_iter();
        promises.next().unwrap().fulfil(0);
        assert!(futures[1].cancel());
        assert_eq!(wait_timeout(&futures, ReturnWhen::FirstException, ZERO).not_done.len(), 2);
        assert_eq!(wait(&futures, ReturnWhen::FirstCompleted).done, [&futures[0], &futures[1]]);
        // A promise that is broken is a failure.
        drop(promises.next_back());
        let waited = wait(&futures, ReturnWhen::FirstException);
        assert_eq!((waited.done.len(), waited.not_done), (3, vec![&futures[2]]));
    });
}

#[test]
fn as_completed_keeps_nothing_that_it_has_given_out() {
    let drops = Drops::new();
    let mut completed = as_completed((0..3).map(|_| {
        let (promise, future) = Promise::new();
        promise.fulfil(drops.token());
        future
    }));
    for left in (0..3).rev() {
        drop(completed.next().unwrap());
        assert_eq!((drops.alive(), completed.len()), (left, left));
    }
    // What has not been given out goes with it.
    let (promise, future) = Promise::new();
    promise.fulfil(drops.token());
    completed.push(future);
    drop(completed);
    assert_eq!((drops.made(), drops.alive()), (4, 0));
}

#[test]
fn as_completed_can_begin_empty_and_wait_for_what_is_pushed() {
    watchdog("push", LIMIT, || {
        let mut completed = concurrent_futures::AsCompleted::default();
        assert!(completed.next().is_none());
        let (promise, future) = Promise::new();
        completed.push(("a", future));
        let (first, second) = (Promise::new(), Promise::new());
        completed.push(("b", first.1));
        second.0.fulfil(2);
        completed.push(("c", second.1));
        assert_eq!(completed.size_hint(), (3, Some(3)));
        assert_eq!(completed.next().unwrap().0, "c");
        promise.fulfil(1);
        assert_eq!(completed.next().unwrap().0, "a");
        let waiting = blocked(move || completed.next().unwrap().1.result().unwrap());
        assert!(!waiting.is_finished());
        first.0.fulfil(3);
        assert_eq!(waiting.join().unwrap(), 3);

        let mut limited = as_completed_timeout(Vec::new(), ZERO);
        let (promise, future) = Promise::new();
        limited.push(future);
        promise.fulfil(4);
        limited.push(Promise::new().1);
        // The second one is broken already: both are over, the limit does not matter.
        assert_eq!(limited.by_ref().filter(Result::is_ok).count(), 2);
        assert!(limited.next().is_none());
    });
}

// Names and keys.

#[test]
fn futures_are_equal_when_they_are_the_same_one() {
    let (_one, first) = Promise::<u32>::new();
    let (_two, second) = Promise::<u32>::new();
    assert!(first == first && first != second);
    let (first_id, second_id) = (first.id(), second.id());
    assert!(first_id < second_id, "later ones have greater numbers");
    let mut input = HashMap::from([(first, "first"), (second, "second")]);
    assert_eq!(input.len(), 2);
    let found = wait_timeout(input.keys(), ReturnWhen::AllCompleted, ZERO).not_done;
    let names: HashSet<_> = found.into_iter().map(|future| input[future]).collect();
    assert_eq!(names, HashSet::from(["first", "second"]));
    input.retain(|future, _| future.id() == second_id);
    assert_eq!(input.into_keys().map(|future| future.id()).collect::<Vec<_>>(), [second_id]);
}

#[test]
fn numbers_are_unique_across_threads() {
    let numbers = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..1000).map(|_| Promise::<()>::new().1.id()).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<HashSet<_>>()
    });
    assert_eq!(numbers.len(), 4000);
}

/// Prints what must never be printed.
struct Secret;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the password")
    }
}

#[test]
fn debug_shows_number_and_state_and_never_the_value() {
    let (promise, future) = Promise::<Secret>::new();
    let id = future.id().to_string();
    let shows = |text: String, state: &str| {
        for part in ["promise", state, &id] {
            assert!(text.contains(part), "{part:?} is missing: {text}");
        }
        assert!(!text.contains("password"), "{text}");
    };
    shows(format!("{future:?}"), "Pending");
    shows(format!("{promise:?}"), "Pending");
    promise.start();
    shows(format!("{future:?} {promise:?}"), "Running");
    promise.fulfil(Secret);
    shows(format!("{future:?}"), "Done");
    shows(format!("{:?}", wait([&future], ReturnWhen::AllCompleted)), "Done");
    shows(format!("{:#?}", future.shared()), "Done");
    let (_promise, future) = Promise::<Secret>::new();
    future.cancel();
    assert!(format!("{future:?}").contains("Cancelled"));
}

// On async runtimes.

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
fn polling_registers_the_latest_waker_which_is_woken_once() {
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
fn wakers_are_woken_however_it_ends() {
    type End = fn(Promise<u32>, &Future<u32>);
    let ends: [(End, bool); 4] = [
        (|promise, _| promise.fulfil(1), true),
        (
            |promise, _| {
                let error = failure(&promise);
                promise.fail(error);
            },
            false,
        ),
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
fn a_waker_is_given_back_when_the_future_is_dropped() {
    let bell = Arc::<Bell>::default();
    let (promise, mut future) = Promise::<u32>::new();
    assert!(poll(&mut future, &bell).is_pending());
    drop((future, promise));
    assert_eq!(Arc::strong_count(&bell), 1);
}

/// Sleeps until it is woken, as the simplest of runtimes does.
fn block_on<T>(mut future: Future<T>) -> Result<T, Error> {
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn futures_can_be_awaited() {
    watchdog("await", LIMIT, || {
        let (promise, future) = Promise::new();
        let awaiting = blocked(move || block_on(future));
        promise.fulfil(3);
        assert_eq!(awaiting.join().unwrap().unwrap(), 3);
        // Also while callbacks look at the value, and out of a pool.
        let pool = ThreadPoolExecutor::new(2).unwrap();
        for n in 0..500 {
            let future = pool.spawn(move || n);
            let seen = told(&future);
            assert_eq!(block_on(future).unwrap(), n);
            assert_eq!(seen.try_recv().unwrap(), n.to_string());
        }
    });
}

#[test]
fn a_waker_that_panics_harms_nobody() {
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

// What moves between threads.

const fn is_send<T: Send>() {}
const fn is_sync<T: Sync>() {}

/// A value needs to be `Send`, no more; the handles go anywhere.
const _: () = {
    is_send::<Future<Cell<u32>>>();
    is_sync::<Future<Cell<u32>>>();
    is_send::<Promise<Cell<u32>>>();
    is_send::<SharedFuture<Vec<u8>>>();
    is_sync::<SharedFuture<Vec<u8>>>();
    is_send::<Error>();
    is_sync::<Error>();
};

#[test]
fn a_value_need_not_be_sync() {
    watchdog("Send, not Sync", LIMIT, || {
        let (promise, future) = Promise::<Cell<u32>>::new();
        future.add_done_callback(|outcome| {
            let cell = outcome.unwrap();
            cell.set(cell.get() + 1);
        });
        let taking = blocked(move || future.result().unwrap().get());
        promise.fulfil(Cell::new(4));
        assert_eq!(taking.join().unwrap(), 5);
    });
}

// What is dropped, and when.

#[test]
fn nothing_leaks_and_nothing_is_dropped_twice() {
    type Way = fn(&Drops);
    let ways: [(&str, Way); 13] = [
        ("taken", |drops| {
            let (promise, future) = Promise::new();
            promise.fulfil(drops.token());
            drop(future.result().unwrap());
        }),
        ("not taken", |drops| {
            let (promise, future) = Promise::new();
            promise.fulfil(drops.token());
            assert_eq!(drops.alive(), 1);
            drop(future);
        }),
        ("future dropped before", |drops| {
            let (promise, future) = Promise::new();
            drop(future);
            promise.fulfil(drops.token());
        }),
        ("cancelled before", |drops| {
            let (promise, future) = Promise::new();
            assert!(future.cancel());
            promise.fulfil(drops.token());
            assert_eq!(drops.alive(), 0, "nobody can ever have it");
        }),
        ("taken by try_result", |drops| {
            let (promise, mut future) = Promise::new();
            promise.fulfil(drops.token());
            drop(future.try_result());
            assert_eq!(drops.alive(), 0);
        }),
        ("taken by poll", |drops| {
            let (promise, mut future) = Promise::new();
            assert!(poll(&mut future, &Arc::default()).is_pending());
            promise.fulfil(drops.token());
            assert!(poll(&mut future, &Arc::default()).is_ready());
            assert_eq!(drops.alive(), 0);
        }),
        ("shared and read", |drops| {
            let (promise, future) = Promise::new();
            let future = future.shared();
            promise.fulfil(drops.token());
            assert!(future.clone().result().is_ok());
        }),
        ("shared and not read", |drops| {
            let (promise, future) = Promise::new();
            let futures = [future.shared()];
            promise.fulfil(drops.token());
            drop(futures.clone());
        }),
        ("captured by callbacks", |drops| {
            let (promise, future) = Promise::new();
            for panics in [false, true] {
                let token = drops.token();
                future.add_done_callback(move |_| {
                    token.look();
                    assert!(!panics, "this one does");
                });
            }
            assert_eq!(drops.alive(), 2);
            promise.fulfil(());
            assert_eq!(drops.alive(), 0, "they have been called");
            drop(future);
        }),
        ("captured by a callback of a future that is dropped", |drops| {
            let (promise, future) = Promise::new();
            let token = drops.token();
            future.add_done_callback(move |_| token.look());
            drop(future);
            assert_eq!(drops.alive(), 1);
            promise.fulfil(());
        }),
        ("captured by a callback of a cancelled future", |drops| {
            let (_promise, future) = Promise::<u32>::new();
            let token = drops.token();
            future.add_done_callback(move |_| token.look());
            assert!(future.cancel());
            assert_eq!(drops.alive(), 0);
        }),
        ("captured by a callback that holds its own future", |drops| {
            let (promise, future) = Promise::new();
            let (future, token) = (Arc::new(future), drops.token());
            let own = Arc::clone(&future);
            future.add_done_callback(move |_| {
                token.look();
                assert!(own.done());
            });
            drop(future);
            promise.fulfil(drops.token());
        }),
        ("never fulfilled", |drops| {
            let (promise, future) = Promise::<Token>::new();
            let token = drops.token();
            future.add_done_callback(move |outcome| {
                token.look();
                assert!(outcome.is_err());
            });
            drop(promise);
            drop(future);
        }),
    ];
    for (name, way) in ways {
        let drops = Drops::new();
        way(&drops);
        assert!(drops.made() > 0 && drops.alive() == 0, "{name}: {drops:?}");
    }
}

/// The one who keeps a promise does not pay for the destructor of a value that nobody wants.
#[test]
fn a_destructor_that_panics_does_not_harm_the_one_who_fulfils() {
    let (promise, future) = Promise::new();
    drop(future);
    promise.fulfil(Bomb);
    // The same, after a callback has seen it.
    let (promise, future) = Promise::new();
    let told = told(&future);
    drop(future);
    promise.fulfil(Bomb);
    assert_eq!(told.try_recv().unwrap(), "Bomb");
}

#[test]
fn a_destructor_that_panics_does_not_harm_the_one_who_cancels_or_is_called_back() {
    // Nobody can have it.
    let (promise, future) = Promise::new();
    assert!(future.cancel());
    promise.fulfil(Bomb);
    assert_eq!(state(&future), "cancelled");
    // A callback that was called, and took its capture along.
    let (promise, future) = Promise::new();
    let bomb = Bomb;
    future.add_done_callback(move |_| bomb.look());
    promise.fulfil(3);
    assert_eq!(future.result().unwrap(), 3);
}

/// One ends it, one cancels it, one starts it, all at once: one of them wins, for every observer.
#[test]
fn races_have_one_winner() {
    watchdog("races", LIMIT, || {
        for _ in 0..300 {
            let (promise, future) = Promise::new();
            let future = Arc::new(future);
            let calls = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&calls);
            future.add_done_callback(move |_| {
                seen.fetch_add(1, Ordering::SeqCst);
            });
            let meeting = Arc::new(Barrier::new(3));
            let promising = {
                let meeting = Arc::clone(&meeting);
                thread::spawn(move || {
                    meeting.wait();
                    let started = promise.start();
                    promise.fulfil(1);
                    started
                })
            };
            let cancelling = {
                let (meeting, future) = (Arc::clone(&meeting), Arc::clone(&future));
                thread::spawn(move || {
                    meeting.wait();
                    future.cancel()
                })
            };
            meeting.wait();
            future.wait();
            let (started, cancelled) = (promising.join().unwrap(), cancelling.join().unwrap());
            assert_ne!(started, cancelled);
            assert_eq!(state(&future), if cancelled { "cancelled" } else { "done" });
            assert_eq!(calls.load(Ordering::SeqCst), 1);
            let future = Arc::into_inner(future).unwrap();
            assert_eq!(future.result().is_ok(), started);
        }
    });
}
