//! Parity clauses T10 and P24: whoever waits inside a pool, in a call or in a callback, for another
//! call of that pool does not wait for ever, however few workers there are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, Group, MapOptions, ReturnWhen, ThreadPoolExecutor, as_completed,
    as_completed_timeout, wait, wait_timeout,
};

use crate::common::{Gate, LIMIT, LONG, Turnstile, watchdog};
use crate::engines::{double, pass, threads};

contract!(
    [p24_a_callback_of_a_call_that_is_over_may_wait_for_another_call],
    [
        p24_a_callback_may_wait_for_another_call_of_its_pool,
        p24_callbacks_may_wait_for_calls_whose_callbacks_wait,
        p24_a_callback_that_waits_leaves_no_extra_worker_behind,
    ]
);

/// What tasks of thread pools need to submit to their own pool.
fn shared_pool(max_workers: usize) -> Arc<ThreadPoolExecutor> {
    Arc::new(threads(max_workers))
}

fn under_watchdog(name: &str, test: impl FnOnce()) {
    watchdog(name, LIMIT, test);
}

#[test]
fn t10_a_call_may_wait_for_another_call_of_its_pool() {
    type Wait = fn(&ThreadPoolExecutor) -> u32;
    let ways: [(&str, Wait); 9] = [
        ("result", |pool| pool.submit(double, 4).result().unwrap()),
        ("the trait's", |pool| Executor::submit(pool, double, 4).result().unwrap()),
        ("shared", |pool| *pool.submit(double, 4).shared().result().unwrap()),
        ("exception", |pool| {
            assert!(pool.submit(double, 4).exception().is_none());
            8
        }),
        ("wait", |pool| {
            let futures = [4, 5, 6].map(|n| pool.submit(double, n));
            let mut done = wait(futures, ReturnWhen::AllCompleted).done.into_iter();
            done.next().unwrap().result().unwrap()
        }),
        ("wait for the first", |pool| {
            let futures = [4, 5, 6].map(|n| pool.submit(double, n));
            let waited = wait(futures, ReturnWhen::FirstCompleted);
            assert_eq!((waited.done.len(), waited.not_done.len()), (1, 2), "one is enough");
            8
        }),
        ("as_completed", |pool| {
            let futures = [4, 5, 6].map(|n| pool.submit(double, n));
            as_completed(futures).map(|future| future.result().unwrap()).sum::<u32>() - 22
        }),
        ("map", |pool| pool.map(double, [1, 3]).map(Result::unwrap).sum()),
        ("buffered and unordered", |pool| {
            let map = pool.map_with(double, [1, 3], MapOptions::new().buffersize(1));
            map.unordered().map(|(_, outcome)| outcome.unwrap()).sum()
        }),
    ];
    for (name, wait) in ways {
        under_watchdog(name, || {
            let pool = shared_pool(1);
            let own = Arc::clone(&pool);
            assert_eq!(pool.spawn(move || wait(&own)).result().unwrap(), 8, "{name}");
        });
    }
}

/// With a limit too: it must be long enough for what it waits for, not for ever.
#[test]
fn t10_a_call_may_wait_with_a_limit() {
    under_watchdog("limits", || {
        let pool = shared_pool(1);
        let own = Arc::clone(&pool);
        let call = pool.spawn(move || {
            assert!(own.submit(double, 4).wait_timeout(LONG));
            let waited = wait_timeout([own.submit(double, 4)], ReturnWhen::AllCompleted, LONG);
            assert_eq!(waited.done.len(), 1);
            own.submit(double, 4).result_timeout(LONG).unwrap()
        });
        assert_eq!(call.result().unwrap(), 8);
    });
}

/// A wait may begin when the call runs already, which waits in its turn. So it is with a wait that asks again and
/// again.
#[test]
fn t10_a_call_may_wait_for_a_running_call_that_waits() {
    under_watchdog("running", || {
        let pool = shared_pool(1);
        let own = Arc::clone(&pool);
        let call = pool.spawn(move || {
            let gate = Gate::new();
            let (waiter, own_of_child) = (gate.waiter(), Arc::clone(&own));
            let child = own.spawn(move || {
                waiter.wait();
                // With a limit: so it does not run it itself.
                own_of_child.submit(double, 4).result_timeout(LONG)
            });
            while !child.running() {
                child.wait_timeout(Duration::from_millis(1));
            }
            gate.open();
            child.result().unwrap()
        });
        assert_eq!(call.result().unwrap().unwrap(), 8);
    });
}

/// Many that ask again and again whether what they wait for is over: each lets another work, and none works much.
#[test]
fn t10_calls_that_ask_again_and_again_get_on() {
    fn ask(pool: &Arc<ThreadPoolExecutor>, deep: u32) -> u32 {
        if deep == 0 {
            return 1;
        }
        let submit = |_| {
            let own = Arc::clone(pool);
            pool.spawn(move || ask(&own, deep - 1))
        };
        let calls: Vec<_> = (0..3).map(submit).collect();
        calls.iter().for_each(|call| while !call.wait_timeout(Duration::from_millis(1)) {});
        calls.into_iter().map(|call| call.result().unwrap()).sum()
    }

    for workers in [1, 2] {
        under_watchdog("asking", || {
            let pool = shared_pool(workers);
            let own = Arc::clone(&pool);
            assert_eq!(pool.spawn(move || ask(&own, 4)).result().unwrap(), 81);
        });
    }
}

fn fibonacci(pool: &Arc<ThreadPoolExecutor>, n: u32) -> u32 {
    if n < 2 {
        return n;
    }
    let [one, two] = [n - 1, n - 2].map(|n| {
        let own = Arc::clone(pool);
        pool.spawn(move || fibonacci(&own, n))
    });
    one.result().unwrap() + two.result().unwrap()
}

#[test]
fn t10_calls_may_nest_deeply() {
    for workers in [1, 2, 3] {
        under_watchdog("fibonacci", || {
            let pool = shared_pool(workers);
            let own = Arc::clone(&pool);
            assert_eq!(pool.spawn(move || fibonacci(&own, 15)).result().unwrap(), 610);
        });
    }
}

/// A quarter of a million calls on one worker, each of which waits for two others.
#[test]
fn t10_fibonacci_of_25_runs_on_one_worker() {
    fn in_scopes(pool: &ThreadPoolExecutor, n: u32) -> u32 {
        if n < 2 {
            return n;
        }
        pool.scope(|s| {
            let one = s.spawn(|| in_scopes(pool, n - 1));
            let two = in_scopes(pool, n - 2);
            one.result().unwrap() + two
        })
    }

    under_watchdog("fibonacci of 25", || {
        let pool = shared_pool(1);
        let own = Arc::clone(&pool);
        assert_eq!(pool.spawn(move || fibonacci(&own, 25)).result().unwrap(), 75_025);
        let own = Arc::clone(&pool);
        assert_eq!(pool.spawn(move || in_scopes(&own, 18)).result().unwrap(), 2_584);
    });
}

/// Whatever way it asks, a call is told that it would wait for itself.
#[test]
fn t10_to_wait_for_oneself_is_an_error() {
    type Ask = fn(Future<u32>);
    let ways: [(&str, Ask); 9] = [
        ("result", |own| itself(own.result().unwrap_err())),
        ("result_timeout", |mut own| itself(own.result_timeout(LONG).unwrap_err())),
        ("shared", |own| itself(own.shared().result().unwrap_err())),
        ("exception", |own| assert!(own.exception().is_none())),
        ("wait", |own| own.wait()),
        ("wait for several", |own| {
            assert_eq!(wait([own], ReturnWhen::AllCompleted).not_done.len(), 1);
        }),
        ("as_completed", |own| {
            let own = as_completed([own]).next().unwrap();
            itself(own.result().unwrap_err());
        }),
        ("a group, of all", |own| {
            let outcome = Group::from_iter([own]).all().pop().unwrap();
            itself(outcome.unwrap_err());
        }),
        ("a group, of the first", |own| {
            itself(Group::from_iter([own]).first().unwrap_err());
        }),
    ];

    fn itself(error: Error) {
        assert!(error.to_string().contains("waits for its own result"), "{error}");
    }

    for (name, ask) in ways {
        under_watchdog(name, || {
            let pool = shared_pool(1);
            let (hand_over, own) = mpsc::channel();
            let (tell, told) = mpsc::channel();
            let future = pool.spawn(move || {
                ask(own.recv().unwrap());
                tell.send(name).unwrap();
                1
            });
            hand_over.send(future).unwrap();
            assert_eq!(told.recv(), Ok(name));
        });
    }
}

/// With a limit nothing is run by the one who waits: another worker stands in.
#[test]
fn t10_waits_for_many_with_a_limit_get_on() {
    under_watchdog("many with a limit", || {
        let pool = shared_pool(1);
        let own = Arc::clone(&pool);
        let call = pool.spawn(move || {
            let submit = || [4, 5, 6].map(|n| own.submit(double, n));
            let completed = as_completed_timeout(submit(), LONG);
            let one: u32 = completed.map(|future| future.unwrap().result().unwrap()).sum();
            let waited = wait_timeout(submit(), ReturnWhen::AllCompleted, LONG);
            let two: u32 = waited.done.into_iter().map(|future| future.result().unwrap()).sum();
            let mut map = own.map(double, vec![4, 5, 6]);
            let mut three = 0;
            while let Some(value) = map.next_timeout(LONG) {
                three += value.unwrap();
            }
            [one, two, three]
        });
        assert_eq!(call.result().unwrap(), [30, 30, 30]);
    });
}

/// Each waits for the one behind it. One stack does not hold them all.
#[test]
fn t10_a_long_chain_of_waits_does_not_exhaust_the_stack() {
    under_watchdog("a long chain", || {
        const LENGTH: usize = 2000;
        let pool = shared_pool(1);
        let gate = Gate::new();
        let waiter = gate.waiter();
        let start = pool.spawn(move || waiter.wait());
        let links: Arc<Vec<Mutex<Option<Future<usize>>>>> =
            Arc::new((0..LENGTH).map(|_| Mutex::default()).collect());
        for n in 0..LENGTH {
            let rest = Arc::clone(&links);
            let future = pool.spawn(move || {
                let next = rest.get(n + 1).and_then(|next| next.lock().unwrap().take());
                next.map_or(1, |next| next.result().unwrap() + 1)
            });
            *links[n].lock().unwrap() = Some(future);
        }
        let first = links[0].lock().unwrap().take().unwrap();
        gate.open();
        assert_eq!(first.result().unwrap(), LENGTH);
        start.result().unwrap();
    });
}

/// It may need what the waiting call holds.
#[test]
fn t10_who_waits_runs_only_what_it_waits_for() {
    under_watchdog("unrelated", || {
        let pool = shared_pool(1);
        let own = Arc::clone(&pool);
        let mutex = Arc::new(Mutex::new(()));
        let call = pool.spawn(move || {
            let _locked = mutex.lock().unwrap();
            let other = Arc::clone(&mutex);
            // Queued before the one that is waited for. To run it here would be to wait for oneself.
            let unrelated = own.spawn(move || drop(other.lock().unwrap()));
            let value = own.submit(double, 4).result().unwrap();
            assert!(!unrelated.done() && !unrelated.running());
            (value, unrelated)
        });
        let (value, unrelated) = call.result().unwrap();
        assert_eq!(value, 8);
        unrelated.result().unwrap();
    });
}

#[test]
fn t10_a_call_that_its_waiter_runs_is_like_any_other() {
    under_watchdog("like any other", || {
        let pool = shared_pool(1);
        let own = Arc::clone(&pool);
        let call = pool.spawn(move || {
            let error = own.spawn(|| -> u32 { panic!("in the inner call") }).result().unwrap_err();
            assert!(
                matches!(&error, Error::Panicked { panic, .. } if panic.message() == "in the inner call")
            );
            let (tell, told) = mpsc::channel();
            let future = own.submit(double, 4);
            future.add_done_callback(move |outcome| tell.send(*outcome.unwrap()).unwrap());
            future.wait();
            assert_eq!(told.try_recv(), Ok(8));
            let cancelled = own.submit(double, 4);
            assert!(cancelled.cancel());
            assert!(matches!(cancelled.result(), Err(Error::Cancelled { .. })));
            thread::current().id() == own.spawn(|| thread::current().id()).result().unwrap()
        });
        assert!(call.result().unwrap(), "in the waiter's own thread");
        // It is not run a second time by the worker that comes to it in the queue.
        assert_eq!(pool.submit(double, 1).result().unwrap(), 2);
    });
}

#[test]
fn t10_no_call_runs_twice_when_waiters_and_workers_race_for_it() {
    under_watchdog("races", || {
        let pool = shared_pool(2);
        let runs = Arc::new((0..2000).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
        let calls: Vec<_> = (0..4)
            .map(|part| {
                let (own, runs) = (Arc::clone(&pool), Arc::clone(&runs));
                pool.spawn(move || {
                    for n in part * 500..(part + 1) * 500 {
                        let runs = Arc::clone(&runs);
                        own.spawn(move || runs[n].fetch_add(1, Ordering::SeqCst)).result().unwrap();
                    }
                })
            })
            .collect();
        for call in calls {
            call.result().unwrap();
        }
        assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
    });
}

/// Waiting for calls of another pool takes nothing from that pool's workers.
#[test]
fn t10_calls_of_another_pool_are_left_to_it() {
    under_watchdog("another pool", || {
        let (one, other) = (shared_pool(1), shared_pool(1));
        let gate = Gate::new();
        let waiter = gate.waiter();
        let held = other.spawn(move || waiter.wait());
        let theirs = Arc::clone(&other);
        let call = one.spawn(move || {
            let future = theirs.spawn(|| thread::current().id());
            (future.result().unwrap(), thread::current().id())
        });
        gate.open();
        held.result().unwrap();
        let (there, here) = call.result().unwrap();
        assert_ne!(there, here);
    });
}

fn p24_a_callback_may_wait_for_another_call_of_its_pool<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    type Wait = fn(Future<u32>) -> u32;
    let ways: [Wait; 5] = [
        |future| future.result().unwrap(),
        |mut future| future.result_timeout(LONG).unwrap(),
        |future| wait([future], ReturnWhen::AllCompleted).done.pop().unwrap().result().unwrap(),
        |future| as_completed([future]).next().unwrap().result().unwrap(),
        |future| *future.shared().result().unwrap(),
    ];
    for wait in ways {
        let executor = make(1);
        let gate = Turnstile::new();
        let first = executor.submit(pass, gate.ticket(1));
        let arrival = gate.arrival();
        // Queued behind it, while the only worker is in the callback.
        let second = executor.submit(double, 4);
        let (tell, told) = mpsc::channel();
        first.add_done_callback(move |_| tell.send(wait(second)).unwrap());
        arrival.release();
        assert_eq!(told.recv().unwrap(), 8);
        assert_eq!(first.result().unwrap(), 1);
    }
}

fn p24_callbacks_may_wait_for_calls_whose_callbacks_wait<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let first = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    // Each waits for the next, whose callback is held up by the one after it.
    let futures: Vec<_> = (0..5).map(|n| executor.submit(double, n)).collect();
    let reached = Arc::new(AtomicBool::new(false));
    let mut next: Option<Future<u32>> = None;
    for future in futures.into_iter().rev() {
        let (behind, reached) = (next.take(), Arc::clone(&reached));
        future.add_done_callback(move |_| match behind {
            Some(behind) => drop(behind.result()),
            None => reached.store(true, Ordering::SeqCst),
        });
        next = Some(future);
    }
    let behind = next.take().unwrap();
    first.add_done_callback(move |_| assert_eq!(behind.result().unwrap(), 0));
    arrival.release();
    assert_eq!(first.result().unwrap(), 1);
    assert!(reached.load(Ordering::SeqCst));
}

fn p24_a_callback_that_waits_leaves_no_extra_worker_behind<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    for _ in 0..20 {
        let gate = Turnstile::new();
        let first = executor.submit(pass, gate.ticket(1));
        let arrival = gate.arrival();
        let second = executor.submit(double, 4);
        first.add_done_callback(move |_| assert_eq!(second.result().unwrap(), 8));
        arrival.release();
        first.result().unwrap();
    }
    // Only one at a time is at work: the second of these arrives when the first has left.
    let gate = Turnstile::new();
    let futures = [executor.submit(pass, gate.ticket(1)), executor.submit(pass, gate.ticket(2))];
    let arrival = gate.arrival();
    assert_eq!(arrival.number, 1);
    assert!(!futures[1].running());
    arrival.release();
    gate.arrival().release();
    executor.shutdown();
    assert!(futures.iter().all(Future::done));
}

fn p24_a_callback_of_a_call_that_is_over_may_wait_for_another_call<E: Executor + 'static>(
    make: impl Fn(usize) -> E,
) {
    let executor = make(1);
    let first = executor.submit(double, 1);
    first.wait();
    let second = executor.submit(double, 4);
    let (tell, told) = mpsc::channel();
    first.add_done_callback(move |_| tell.send(second.result().unwrap()).unwrap());
    assert_eq!(told.recv().unwrap(), 8);
}
