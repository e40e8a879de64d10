//! Futures and promises by hand, without an executor: broken promises, every question in every
//! state, sharing, what is dropped when, and races.
//!
//! Not here: what Python's futures do too (`tests/contract/f_future.rs`), on async runtimes
//! (`y_async.rs` there), random sequences of all this (`tests/properties`).

mod common;

use std::cell::Cell;
use std::collections::HashSet;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Future, Promise, ReturnWhen, SharedFuture, as_completed, wait};

use common::by_hand::{fail, is_failure, state, told};
use common::{Bomb, Drops, LIMIT, LONG, Token, blocked, watchdog};

const ZERO: Duration = Duration::ZERO;

// Promises.

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
fn an_error_is_told_as_often_as_it_is_asked_for() {
    let (promise, mut future) = Promise::<u32>::new();
    fail(promise);
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
            (|promise, _| fail(promise), "it failed"),
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

#[test]
fn a_callback_that_comes_after_the_value_was_taken_is_told_so() {
    let (promise, mut future) = Promise::new();
    promise.fulfil(4);
    future.try_result().unwrap().unwrap();
    assert!(told(&future).try_recv().unwrap().contains("taken before"));
}

// Sharing.

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
    fail(promise);
    for future in [&future, &again, &future] {
        is_failure(future.result());
        assert!(future.exception().is_some());
    }

    // Callbacks before its end, after it, and when somebody has looked at the outcome.
    let (promise, future) = Promise::<u32>::new();
    let future = future.shared();
    let told = Arc::new(Mutex::new(Vec::new()));
    let add = |word: &'static str| {
        let told = Arc::clone(&told);
        future.add_done_callback(move |outcome| told.lock().unwrap().push((word, *outcome.unwrap())));
    };
    add("before");
    assert!(told.lock().unwrap().is_empty());
    promise.fulfil(3);
    add("after");
    assert_eq!(future.result().cloned().unwrap(), 3);
    add("looked at");
    assert_eq!(*told.lock().unwrap(), [("before", 3), ("after", 3), ("looked at", 3)]);

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

// Names and keys.

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

fn poll<T>(future: &mut Future<T>) -> Poll<Result<T, Error>> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

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
            assert!(poll(&mut future).is_pending());
            promise.fulfil(drops.token());
            assert!(poll(&mut future).is_ready());
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
