//! `ThreadPoolExecutor::scope`: what its calls borrow is given back before it returns, on every way out.
//!
//! Not here: what does not compile (`src/thread`, as documentation).

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use concurrent_futures::{Error, ReturnWhen, Shutdown, ThreadPoolExecutor, as_completed, wait};

use crate::common::{Bomb, Drops, Gate, LIMIT, LONG, watchdog};
use crate::engines::{panic_of, threads};

fn under_watchdog(name: &str, test: impl FnOnce()) {
    watchdog(name, LIMIT, test);
}

/// The message of a scope that panics.
#[track_caller]
fn panics<T>(scope: impl FnOnce() -> T) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(scope)) else { panic!("this did not panic") };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().expect("a text").to_string(),
    }
}

#[test]
fn closures_arguments_and_results_may_borrow() {
    under_watchdog("borrowing", || {
        let pool = threads(2);
        let words = ["a".to_string(), "ccc".to_string(), "bb".to_string()];
        let mut lengths = Vec::new();
        let longest: &str = pool.scope(|s| {
            let longest = s.submit(|words: &[String]| words.iter().max_by_key(|word| word.len()), &words[..]);
            s.spawn(|| lengths.extend(words.iter().map(String::len))).wait();
            longest.result().unwrap().unwrap()
        });
        assert_eq!((longest, lengths), ("ccc", vec![1, 3, 2]));
    });
}

#[test]
fn a_scope_returns_after_all_its_calls_have_ended() {
    under_watchdog("the end", || {
        let pool = threads(2);
        let (count, gate) = (AtomicUsize::new(0), Gate::new());
        let seen = pool.scope(|s| {
            let waiter = gate.waiter();
            for _ in 0..50 {
                let (waiter, count) = (waiter.clone(), &count);
                drop(s.spawn(move || {
                    waiter.wait();
                    count.fetch_add(1, Ordering::SeqCst)
                }));
            }
            gate.open();
            "seen"
        });
        assert_eq!((seen, count.into_inner()), ("seen", 50));
    });
}

#[test]
fn a_panic_of_the_closure_cancels_what_has_not_started_and_waits_for_what_runs() {
    under_watchdog("unwinding", || {
        let pool = threads(1);
        let (ran, late, finished) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let drops = Drops::new();
        let message = panics(|| {
            pool.scope(|s| {
                let (started, starts) = mpsc::channel();
                let gate = Gate::new();
                let waiter = gate.waiter();
                let (finished, late) = (&finished, &late);
                drop(s.spawn(move || {
                    started.send(()).unwrap();
                    waiter.wait();
                    // The scope has been left by then: nothing new starts, here or there.
                    while s.spawn(|| ()).result().is_ok() {}
                    drop(s.spawn(|| late.fetch_add(1, Ordering::SeqCst)));
                    finished.store(true, Ordering::SeqCst);
                }));
                starts.recv().unwrap();
                for _ in 0..20 {
                    let (token, ran) = (drops.token(), &ran);
                    forget(s.spawn(move || {
                        token.look();
                        ran.fetch_add(1, Ordering::SeqCst)
                    }));
                }
                panic!("no further");
            })
        });
        assert_eq!(message, "no further");
        assert!(finished.into_inner(), "what runs is waited for");
        assert_eq!((ran.into_inner(), late.into_inner(), drops.alive()), (0, 0, 0));
        assert_eq!(pool.spawn(|| 1).result().unwrap(), 1);
    });
}

#[test]
fn a_panic_of_a_call_is_its_readers() {
    fn divide(n: u32) -> u32 {
        assert!(n > 0, "a zero");
        6 / n
    }

    under_watchdog("read panics", || {
        let pool = threads(2);
        pool.scope(|s| {
            let error = s.submit(divide, 0).result().unwrap_err();
            assert!(error.to_string().contains("divide` (task "), "{error}");
            assert!(panic_of(Err::<(), _>(error)).location().unwrap().contains("scopes.rs"));
            let looked_at = s.submit(divide, 0);
            assert!(looked_at.exception().unwrap().to_string().contains("a zero"));
            let mut asked = s.submit(divide, 0);
            assert!(matches!(asked.result_timeout(LONG), Err(Error::Panicked { .. })));
            let outcomes: Vec<_> = s.map(divide, [1, 0, 3]).map(Result::ok).collect();
            assert_eq!(outcomes, [Some(6), None, Some(2)]);
        });
    });
}

#[test]
fn a_panic_that_nobody_looked_at_is_the_scopes() {
    type Leave = fn(concurrent_futures::ScopedFuture<'_, ()>);
    let ways: [Leave; 4] = [
        |future| drop(future),
        |future| {
            future.wait();
            drop(future);
        },
        |future| forget(future),
        |future| {
            future.wait();
            forget(future);
        },
    ];
    under_watchdog("unread panics", || {
        let pool = threads(1);
        for leave in ways {
            let drops = Drops::new();
            let text = String::from("lost");
            let message = panics(|| {
                pool.scope(|s| {
                    leave(s.spawn(|| panic!("{text}")));
                    drops.token()
                })
            });
            assert!(message.contains("a scoped call panicked") && message.contains("lost"), "{message}");
            assert_eq!(drops.alive(), 0);
        }
    });
}

#[test]
fn values_that_nobody_takes_are_dropped_before_the_scope_returns() {
    under_watchdog("left behind", || {
        let pool = threads(2);
        let drops = Drops::new();
        for round in 0..200 {
            pool.scope(|s| {
                let drops = &drops;
                let make = move || (drops.token(), drops);
                let futures: Vec<_> = (0..6).map(|_| s.spawn(make)).collect();
                for (n, future) in futures.into_iter().enumerate() {
                    match (n + round) % 6 {
                        0 => forget(future),
                        1 => drop(future),
                        2 => {
                            future.cancel();
                            forget(future);
                        }
                        3 => {
                            future.wait();
                            forget(future);
                        }
                        4 => {
                            future.wait();
                            drop(future);
                        }
                        _ => drop(future.result().unwrap()),
                    }
                }
            });
            assert_eq!(drops.alive(), 0, "in round {round}");
        }
        assert!(drops.made() >= 200);
    });
}

/// Also with values whose destructors panic, in the worker and in the scope.
#[test]
fn destructors_that_panic_harm_nobody() {
    under_watchdog("bombs", || {
        let pool = threads(1);
        let gate = Gate::new();
        let waiter = gate.waiter();
        let sum = pool.scope(|s| {
            drop(s.spawn(|| waiter.wait()));
            drop(s.spawn(|| Bomb));
            forget(s.spawn(|| Bomb));
            let bomb = Bomb;
            let cancelled = s.spawn(move || bomb.look());
            assert!(cancelled.cancel());
            gate.open();
            s.spawn(|| 3).result().unwrap()
        });
        assert_eq!(sum, 3);
        assert_eq!(pool.spawn(|| 1).result().unwrap(), 1);
    });
}

#[test]
fn calls_may_submit_to_their_scope() {
    fn count<'scope>(s: &'scope concurrent_futures::Scope<'scope, '_>, left: u32, sum: &'scope AtomicUsize) {
        sum.fetch_add(1, Ordering::SeqCst);
        for _ in 0..left {
            drop(s.spawn(move || count(s, left - 1, sum)));
        }
    }

    for workers in [1, 3] {
        under_watchdog("submitting inside", || {
            let pool = threads(workers);
            let sum = AtomicUsize::new(0);
            pool.scope(|s| count(s, 5, &sum));
            assert_eq!(sum.into_inner(), 1 + 5 + 20 + 60 + 120 + 120);
        });
    }
}

/// The scope is over when nothing comes any more, also from destructors.
#[test]
fn a_destructor_may_submit_to_its_scope() {
    struct Last<'scope, 'env>(&'scope concurrent_futures::Scope<'scope, 'env>, &'env AtomicUsize);

    impl Drop for Last<'_, '_> {
        fn drop(&mut self) {
            let count = self.1;
            drop(self.0.spawn(|| count.fetch_add(1, Ordering::SeqCst)));
        }
    }

    under_watchdog("destructors", || {
        let pool = threads(1);
        let count = AtomicUsize::new(0);
        pool.scope(|s| {
            let count = &count;
            forget(s.spawn(move || Last(s, count)));
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn scopes_nest_also_on_one_worker() {
    fn sum(pool: &ThreadPoolExecutor, numbers: &[u64]) -> u64 {
        if numbers.len() < 3 {
            return numbers.iter().sum();
        }
        let (left, right) = numbers.split_at(numbers.len() / 2);
        pool.scope(|s| {
            let left = s.spawn(|| sum(pool, left));
            let right = sum(pool, right);
            left.result().unwrap() + right
        })
    }

    for workers in [1, 2] {
        under_watchdog("nested scopes", || {
            let pool = threads(workers);
            let numbers: Vec<u64> = (0..1000).collect();
            let total = pool.scope(|s| s.spawn(|| sum(&pool, &numbers)).result().unwrap());
            assert_eq!(total, 499_500);
        });
    }
}

/// The end of a scope in a worker waits as `result` does: whoever waits runs what is queued.
#[test]
fn the_end_of_a_scope_in_a_worker_runs_what_is_queued() {
    under_watchdog("the end in a worker", || {
        let pool = threads(1);
        let count = AtomicUsize::new(0);
        pool.scope(|outer| {
            let (pool, count) = (&pool, &count);
            drop(outer.spawn(move || {
                pool.scope(|s| {
                    (0..10).for_each(|_| drop(s.spawn(|| count.fetch_add(1, Ordering::SeqCst))));
                });
                assert_eq!(count.load(Ordering::SeqCst), 10);
            }));
        });
    });
}

#[test]
fn map_works_on_a_borrowed_slice() {
    under_watchdog("map", || {
        let pool = threads(2);
        let numbers: Vec<u64> = (0..1000).collect();
        let factor = 3;
        let sums: Vec<u64> = pool.scope(|s| {
            let map = s.map(|chunk: &[u64]| chunk.iter().sum::<u64>() * factor, numbers.chunks(100));
            assert_eq!(map.len(), 10);
            map.collect::<Result<_, _>>().unwrap()
        });
        assert_eq!(sums.iter().sum::<u64>(), 499_500 * 3);
    });
}

#[test]
fn a_map_that_is_dropped_cancels_what_has_not_started() {
    under_watchdog("dropped map", || {
        let pool = threads(1);
        let ran = Mutex::new(Vec::new());
        let gate = Gate::new();
        let waiter = gate.waiter();
        pool.scope(|s| {
            let mut map = s.map(
                |n| {
                    ran.lock().unwrap().push(n);
                    if n == 1 {
                        waiter.wait();
                        panic!("not missed: the map was iterated");
                    }
                },
                0..10,
            );
            map.next().unwrap().unwrap();
            while ran.lock().unwrap().len() < 2 {
                std::thread::yield_now();
            }
            drop(map);
            gate.open();
        });
        assert_eq!(*ran.lock().unwrap(), [0, 1]);
    });
}

/// What the input of a map panics with goes through the scope; what it had given is cancelled.
#[test]
fn an_input_that_panics_leaves_nothing_behind() {
    under_watchdog("a map's input", || {
        let pool = threads(1);
        let drops = Drops::new();
        let message = panics(|| {
            pool.scope(|s| {
                let items = (0..10).map(|n| if n < 5 { drops.token() } else { panic!("no more") });
                s.map(|token| token, items).count()
            })
        });
        assert_eq!((&*message, drops.alive()), ("no more", 0));
    });
}

#[test]
fn a_pool_that_takes_nothing_ends_scoped_calls_with_its_error() {
    under_watchdog("refused", || {
        let pool = threads(1);
        let drops = Drops::new();
        concurrent_futures::Executor::shutdown(&pool);
        pool.scope(|s| {
            let token = drops.token();
            let error = s.spawn(move || token.look()).result().unwrap_err();
            assert!(matches!(error, Error::ShutDown { .. }), "{error}");
            assert_eq!(drops.alive(), 0);
            assert!(s.map(|n| n, [1, 2]).all(|outcome| outcome.is_err()));
        });

        let pool = ThreadPoolExecutor::builder().initializer(|| panic!("no licence")).build().unwrap();
        pool.scope(|s| {
            let broken = s.spawn(|| drops.token());
            assert!(matches!(broken.result(), Err(Error::Broken { .. })));
        });
        assert_eq!(drops.alive(), 0);
    });
}

#[test]
fn a_pool_may_be_shut_down_while_a_scope_is_open() {
    under_watchdog("shut down meanwhile", || {
        let pool = threads(1);
        let drops = Drops::new();
        let ran = pool.scope(|s| {
            let (started, starts) = mpsc::channel();
            let gate = Gate::new();
            let waiter = gate.waiter();
            let held = s.spawn(move || {
                started.send(()).unwrap();
                waiter.wait();
                7
            });
            starts.recv().unwrap();
            let token = drops.token();
            let queued = s.spawn(move || token.look());
            let how = Shutdown { wait: false, cancel_futures: true };
            concurrent_futures::Executor::shutdown_with(&pool, how);
            assert!(queued.cancelled() && drops.alive() == 0);
            assert!(matches!(queued.result(), Err(Error::Cancelled { .. })));
            gate.open();
            held.result().unwrap()
        });
        assert_eq!(ran, 7);
    });
}

#[test]
fn a_bound_holds_in_a_scope_too() {
    under_watchdog("max_pending", || {
        let pool = ThreadPoolExecutor::builder().max_workers(1).max_pending(1).build().unwrap();
        let count = AtomicUsize::new(0);
        pool.scope(|s| {
            let count = &count;
            for _ in 0..100 {
                // In a worker there is no waiting for room.
                drop(s.spawn(move || drop(s.spawn(|| count.fetch_add(1, Ordering::SeqCst)))));
            }
        });
        assert_eq!(count.into_inner(), 100);
    });
}

#[test]
fn scoped_futures_are_waited_for_as_others_are() {
    under_watchdog("wait", || {
        let pool = threads(2);
        let numbers = [3, 1, 2];
        pool.scope(|s| {
            let futures = numbers.each_ref().map(|n| (n, s.submit(|n: &u32| n * 10, n)));
            let waited = wait(futures, ReturnWhen::AllCompleted);
            assert!(waited.not_done.is_empty());
            let mut values: Vec<_> =
                as_completed(waited.done).map(|(n, future)| (*n, future.result().unwrap())).collect();
            values.sort_unstable();
            assert_eq!(values, [(1, 10), (2, 20), (3, 30)]);

            let mut asked = s.spawn(|| &numbers[0]);
            assert_eq!(asked.result_timeout(LONG).unwrap(), &3);
            assert!(matches!(asked.result_timeout(LONG), Err(Error::InvalidArgument { .. })));
            assert!(asked.done() && !asked.running() && !asked.cancelled() && asked.wait_timeout(LONG));
        });
    });
}

/// Many threads, many scopes, every way to leave a handle: nothing is alive that was borrowed for it.
#[test]
fn nothing_outlives_its_scope_under_load() {
    under_watchdog("scopes under load", || {
        let pool = threads(3);
        std::thread::scope(|outer| {
            for part in 0..3 {
                let pool = &pool;
                outer.spawn(move || {
                    for round in 0..150 {
                        let drops = Drops::new();
                        let left = catch_unwind(AssertUnwindSafe(|| {
                            pool.scope(|s| {
                                for n in 0..20 {
                                    let (token, drops) = (drops.token(), &drops);
                                    let future = s.spawn(move || {
                                        token.look();
                                        drops.token()
                                    });
                                    match (n * 7 + round + part) % 5 {
                                        0 => drop(future),
                                        1 => forget(future),
                                        2 => {
                                            future.cancel();
                                        }
                                        3 => drop(s.spawn(move || drop(future.result()))),
                                        _ => drop(future.result()),
                                    }
                                }
                                assert!(round % 3 != 0, "left early");
                            });
                        }));
                        assert_eq!(left.is_err(), round % 3 == 0);
                        assert_eq!(drops.alive(), 0);
                    }
                });
            }
        });
    });
}
