//! A map of a thread pool that is given no chunk size takes many items at a time, and nobody can tell: items begin
//! in their order, none waits while a worker has nothing to do, and each has its own end.
//!
//! Not here: what every map promises (`m_map.rs`), random items (`tests/properties/map.rs`), every interleaving
//! (`src/task/course.rs`, `tests/interleavings.rs`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};

use concurrent_futures::{Error, Executor, Map, Shutdown, ThreadPoolExecutor};

use crate::common::{Gate, LIMIT, LONG, Ticket, Turnstile, watchdog};
use crate::engines::threads;

/// So many quick items that the pool takes many at a time.
const QUICK: usize = 2_000;

/// Which items have begun.
#[derive(Clone, Default)]
struct Begun(Arc<(Mutex<BTreeSet<usize>>, Condvar)>);

impl Begun {
    fn note(&self, item: usize) {
        self.0.0.lock().unwrap().insert(item);
        self.0.1.notify_all();
    }

    /// Waits until that item has begun.
    fn wait_for(&self, item: usize) {
        let begun = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(begun, |begun| !begun.contains(&item)).unwrap());
    }
}

fn values<R>(map: Map<'_, R>) -> Vec<R> {
    map.map(|outcome| outcome.unwrap()).collect()
}

#[test]
fn items_that_wait_for_each_other_in_pairs_end() {
    watchdog("pairs", LIMIT, || {
        for quick in [0, 1, 10, QUICK] {
            let pool = threads(2);
            let barrier = Barrier::new(2);
            let map = pool.map(
                move |item: usize| {
                    if item >= quick {
                        barrier.wait();
                    }
                    item
                },
                (0..quick + 200).collect::<Vec<_>>(),
            );
            assert_eq!(values(map), (0..quick + 200).collect::<Vec<_>>());
        }
    });
}

#[test]
fn as_many_items_as_there_are_workers_can_meet() {
    watchdog("a meeting", LIMIT, || {
        for workers in [1, 2, 3, 7] {
            let pool = threads(workers);
            let barrier = Barrier::new(workers);
            let items = QUICK + 10 * workers;
            let map = pool.map(
                move |item: usize| {
                    if item >= QUICK {
                        barrier.wait();
                    }
                },
                0..items,
            );
            assert_eq!(values(map).len(), items);
        }
    });
}

#[test]
fn an_item_can_wait_for_the_next() {
    watchdog("the next", LIMIT, || {
        for every in [2, 3, 7, 50, 333] {
            let pool = threads(2);
            let begun = Begun::default();
            let last = QUICK - 1;
            let map = pool.map(
                move |item: usize| {
                    begun.note(item);
                    if item.is_multiple_of(every) && item < last {
                        begun.wait_for(item + 1);
                    }
                    item
                },
                0..QUICK,
            );
            assert_eq!(values(map), (0..QUICK).collect::<Vec<_>>(), "every {every}");
        }
    });
}

/// Both of three workers that wait need an item that has not begun: the third has to come to that, and not to what
/// was submitted later, which needs it too.
#[test]
fn what_is_submitted_later_starts_later() {
    watchdog("later", LIMIT, || {
        for quick in [0, 1, QUICK] {
            let pool = threads(3);
            let begun = Begun::default();
            let gate = Gate::new();
            let (waiter, noted) = (gate.waiter(), begun.clone());
            let map = pool.map(
                move |item: usize| {
                    noted.note(item);
                    if item == 0 {
                        waiter.wait();
                    }
                    if item == quick || item == quick + 1 {
                        noted.wait_for(quick + 2);
                    }
                },
                0..quick + 3,
            );
            let later: Vec<_> = (0..3)
                .map(|_| {
                    let begun = begun.clone();
                    pool.spawn(move || begun.wait_for(quick + 2))
                })
                .collect();
            gate.open();
            assert_eq!(values(map).len(), quick + 3);
            later.into_iter().for_each(|future| future.result().unwrap());
        }
    });
}

fn pass((item, ticket): (u32, Option<Ticket>)) -> u32 {
    ticket.map(Ticket::pass);
    item
}

#[test]
fn slow_items_behind_quick_ones_run_side_by_side() {
    watchdog("side by side", LIMIT, || {
        let pool = threads(2);
        let gate = Turnstile::new();
        let quick = QUICK as u32;
        let items = |slow: u32| -> Vec<_> {
            (0..quick + 20).map(|item| (item, (item >= quick + slow).then(|| gate.ticket(item)))).collect()
        };
        let own = pool.map(pass, items(0));
        (0..10).for_each(|_| drop(gate.arrivals(2)));
        assert_eq!(values(own).len(), QUICK + 20);
        let portable = Executor::map(&pool, pass, items(10));
        (0..5).for_each(|_| drop(gate.arrivals(2)));
        assert_eq!(values(portable), (0..quick + 20).collect::<Vec<_>>());
    });
}

#[test]
fn what_is_done_can_be_had_while_the_next_item_runs() {
    watchdog("what is done", LIMIT, || {
        for workers in [1, 2] {
            let pool = threads(workers);
            let gate = Gate::new();
            let waiter = gate.waiter();
            let held = move |item: usize| {
                if item == QUICK {
                    waiter.wait();
                }
                item
            };
            let mut map = pool.map(held.clone(), 0..=QUICK);
            for item in 0..QUICK {
                assert_eq!(map.next().unwrap().unwrap(), item);
            }
            assert!(matches!(map.next_timeout(std::time::Duration::ZERO), Some(Err(Error::TimedOut { .. }))));
            assert_eq!(map.len(), 1);
            let mut second = pool.map_unordered(held, 0..=QUICK);
            gate.open();
            let mut indices: Vec<_> = second.by_ref().map(|(index, value)| (index, value.unwrap())).collect();
            indices.sort_unstable();
            assert_eq!(indices, (0..=QUICK).map(|item| (item, item)).collect::<Vec<_>>());
            assert_eq!(map.next_timeout(LONG).unwrap().unwrap(), QUICK);
            assert!(map.next().is_none());
        }
    });
}

#[test]
fn out_of_order_all_but_the_one_that_is_held_come() {
    watchdog("all but one", LIMIT, || {
        let pool = threads(2);
        let gate = Gate::new();
        let waiter = gate.waiter();
        let held = move |item: usize| {
            if item == QUICK / 2 {
                waiter.wait();
            }
            item
        };
        let mut map = pool.map_unordered(held, 0..QUICK);
        let mut others: Vec<_> = map.by_ref().take(QUICK - 1).map(|(index, _)| index).collect();
        others.sort_unstable();
        assert_eq!(others, (0..QUICK).filter(|item| *item != QUICK / 2).collect::<Vec<_>>());
        gate.open();
        assert!(matches!(map.next(), Some((index, Ok(_))) if index == QUICK / 2));
        assert!(map.next().is_none());
    });
}

/// A pool, how many items have run, a map of which item number `QUICK` is held, and its gate.
fn held_in_the_middle(workers: usize) -> (ThreadPoolExecutor, Arc<AtomicUsize>, Map<'static, usize>, Gate) {
    let pool = threads(workers);
    let ran = Arc::new(AtomicUsize::new(0));
    let gate = Gate::new();
    let (waiter, count) = (gate.waiter(), Arc::clone(&ran));
    let (tell, told) = mpsc::channel();
    let map = pool.map(
        move |item: usize| {
            count.fetch_add(1, Ordering::SeqCst);
            if item >= QUICK {
                tell.send(item).unwrap();
                waiter.wait();
            }
            item
        },
        0..QUICK * 2,
    );
    let arrived: BTreeSet<_> = (0..workers).map(|_| told.recv().unwrap()).collect();
    assert_eq!(arrived, (QUICK..QUICK + workers).collect());
    (pool, ran, map, gate)
}

#[test]
fn dropping_the_map_cancels_what_has_not_begun() {
    watchdog("drop", LIMIT, || {
        for workers in [1, 2, 3] {
            let (pool, ran, map, gate) = held_in_the_middle(workers);
            drop(map);
            gate.open();
            pool.shutdown();
            assert_eq!(ran.load(Ordering::SeqCst), QUICK + workers);
        }
    });
}

#[test]
fn a_shutdown_that_cancels_cancels_what_has_not_begun() {
    watchdog("shutdown", LIMIT, || {
        for workers in [1, 2, 3] {
            let (pool, ran, map, gate) = held_in_the_middle(workers);
            pool.shutdown_with(Shutdown { wait: false, cancel_futures: true });
            gate.open();
            let outcomes: Vec<_> = map.collect();
            for (item, outcome) in outcomes.iter().enumerate() {
                match outcome {
                    Ok(value) => assert!(*value == item && item < QUICK + workers),
                    Err(error) => {
                        assert!(
                            matches!(error, Error::Cancelled { .. }) && item >= QUICK + workers,
                            "{error}"
                        );
                    }
                }
            }
            assert_eq!((outcomes.len(), ran.load(Ordering::SeqCst)), (QUICK * 2, QUICK + workers));
        }
    });
}

#[test]
fn a_map_of_nothing_needs_no_worker() {
    let pool = threads(1);
    assert_eq!(pool.map(|item: u32| item, 0..0).len(), 0);
    assert_eq!(pool.map(|item: u32| item, Vec::new()).count(), 0);
    assert!(format!("{pool:?}").contains("workers: 0"), "{pool:?}");
}

#[test]
fn a_map_that_is_refused_yields_the_refusal_for_each_item() {
    let pool = threads(1);
    pool.shutdown();
    let map = pool.map(|item: u32| item, 0..100);
    assert_eq!(map.len(), 100);
    assert_eq!(map.filter(|outcome| matches!(outcome, Err(Error::ShutDown { .. }))).count(), 100);
    let mut indices: Vec<_> = pool.map_unordered(|item: u32| item, 0..10).map(|(index, _)| index).collect();
    indices.sort_unstable();
    assert_eq!(indices, (0..10).collect::<Vec<_>>());
}

#[test]
fn an_error_is_that_of_its_item_alone() {
    watchdog("errors", LIMIT, || {
        let pool = threads(2);
        let halve = |item: usize| {
            assert!(item % 400 != 399, "{item} panics");
            if item % 7 == 3 { Err(format!("{item} is refused")) } else { Ok(item / 2) }
        };
        for map in [pool.try_map(halve, 0..QUICK), Executor::try_map(&pool, halve, 0..QUICK)] {
            for (item, outcome) in map.enumerate() {
                match outcome {
                    Ok(value) => assert!(item % 400 != 399 && item % 7 != 3 && value == item / 2),
                    Err(Error::Panicked { panic, .. }) => {
                        assert_eq!(panic.message(), format!("{item} panics"));
                        assert!(panic.location().is_some_and(|place| place.contains("courses.rs")));
                    }
                    Err(error) => {
                        assert!(error.to_string().contains(&format!("{item} is refused")), "{error}")
                    }
                }
            }
        }
    });
}

/// Counts those that are there.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn items_and_values_are_dropped_once() {
    watchdog("drops", LIMIT, || {
        let count = Arc::new(AtomicUsize::new(0));
        for (taken, error_at, cancel) in
            [(0, 0, true), (0, 7, false), (10, 5, true), (QUICK, 100, false), (QUICK / 2, 1, false)]
        {
            let pool = threads(2);
            let (begun, gate) = (Begun::default(), Gate::new());
            let (noted, waiter) = (begun.clone(), gate.waiter());
            let items: Vec<_> = (0..QUICK).map(|item| (item, Counted::new(&count))).collect();
            let mut map = pool.try_map(
                move |(item, counted)| {
                    if cancel && item == QUICK / 2 {
                        noted.note(item);
                        waiter.wait();
                    }
                    // Larger than the item: it cannot lie where that was.
                    if item == error_at { Err("an error") } else { Ok((counted, [item; 5])) }
                },
                items,
            );
            assert_eq!(map.by_ref().take(taken).count(), taken);
            if cancel {
                begun.wait_for(QUICK / 2);
            }
            drop(map);
            gate.open();
            drop(pool);
            assert_eq!(count.load(Ordering::SeqCst), 0, "{taken} taken");
        }
    });
}

#[test]
fn a_pool_can_map_in_its_own_worker() {
    watchdog("a map in a worker", LIMIT, || {
        for workers in [1, 2, 3] {
            let pool = Arc::new(threads(workers));
            let inner = Arc::clone(&pool);
            let map = (*pool).map(
                move |item: usize| {
                    let sum: usize = values((*inner).map(move |n: usize| n + item, 0..100)).into_iter().sum();
                    let any = inner.map_unordered(|n: usize| n, 0..10).count();
                    sum + any
                },
                0..50,
            );
            assert_eq!(values(map), (0..50).map(|item| 4950 + 100 * item + 10).collect::<Vec<_>>());
        }
    });
}

#[test]
fn tasks_and_maps_of_many_threads_mix() {
    watchdog("a mixture", LIMIT, || {
        let pool = threads(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..50 {
                        let map = pool.map(move |n: usize| n ^ round, 0..500);
                        let future = pool.submit(|n: usize| n + 1, round);
                        assert_eq!(values(map), (0..500).map(|n| n ^ round).collect::<Vec<_>>());
                        assert_eq!(future.result().unwrap(), round + 1);
                    }
                });
            }
        });
    });
}
