//! Parity clause T4: pools with a bound of what waits: who waits for room, who need not, who gets it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, Returned, SerialExecutor, Shutdown, Task, ThreadPoolExecutor,
};
use serde::{Deserialize, Serialize, Serializer, ser};

use crate::common::{Arrival, Drops, Journal, LIMIT, Turnstile, blocked, watchdog};
use crate::engines::{OnRequest, Wishes, double, note, pass, pending, processes, until};

on_request_and_amqp!(
    t4_one_queue_first_in_first_out_and_bounded_if_asked_to,
    submit_waits_for_room,
    without_room_function_and_argument_come_back,
    executors_behind_pointers_have_the_same_bound,
    those_who_wait_are_refused_when_the_pool_is_shut_down,
    those_who_wait_are_refused_when_the_pool_breaks,
    a_pool_that_is_shut_down_refuses_also_when_it_is_full,
    a_burst_from_several_threads_loses_nothing_and_keeps_the_bound,
    map_pulls_its_items_as_there_is_room,
    the_own_threads_of_a_pool_do_not_wait_for_room,
    values_that_nobody_took_do_not_hold_up_a_bounded_queue,
    a_cancelled_task_keeps_its_place_until_a_worker_passes_it,
    a_bound_of_nothing_is_an_error,
);

fn bounded<E: OnRequest>(max_workers: usize, max_pending: usize) -> Arc<E> {
    let wishes = Wishes { max_workers, max_pending: Some(max_pending), ..Wishes::default() };
    Arc::new(E::made(wishes).unwrap())
}

/// Occupies the one worker of a pool, then fills its queue.
fn fill<E: OnRequest>(pool: &E, gate: &Turnstile, max_pending: u32) -> (Arrival, Vec<Future<u32>>) {
    let mut futures = vec![pool.submit(pass, gate.ticket(0))];
    let held = gate.arrival();
    futures.extend((1..=max_pending).map(|n| pool.submit(double, n)));
    assert_eq!(pending(pool), max_pending as usize);
    (held, futures)
}

fn t4_one_queue_first_in_first_out_and_bounded_if_asked_to<E: OnRequest>() {
    for max_pending in [None, Some(3)] {
        let pool = Arc::new(E::made(Wishes { max_workers: 1, max_pending, ..Wishes::default() }).unwrap());
        let (gate, journal) = (Turnstile::new(), Journal::new());
        let first = pool.submit(pass, gate.ticket(0));
        let held = gate.arrival();
        let (page, submitting) = (journal.page(), Arc::clone(&pool));
        let submitter =
            blocked(move || (0..500).map(|n| submitting.submit(note, (page.clone(), n))).collect::<Vec<_>>());
        assert_eq!(submitter.is_finished(), max_pending.is_none());
        assert_eq!(pending(&*pool), max_pending.unwrap_or(500));
        held.release();
        assert!(submitter.join().unwrap().into_iter().all(|future| future.result().is_ok()));
        assert_eq!(journal.lines(), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(first.result().unwrap(), 0);
    }
}

fn submit_waits_for_room<E: OnRequest>() {
    for max_pending in [1, 2, 5] {
        let pool = bounded::<E>(1, max_pending as usize);
        let gate = Turnstile::new();
        let (held, futures) = fill(&*pool, &gate, max_pending);
        let waiting: Vec<_> = [100, 200]
            .map(|n| {
                let pool = Arc::clone(&pool);
                blocked(move || pool.submit(double, n).result())
            })
            .into();
        assert!(waiting.iter().all(|thread| !thread.is_finished()));
        assert_eq!(pending(&*pool), max_pending as usize, "what waits for room is not in the queue");
        held.release();
        let waited: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
        assert_eq!(waited, [200, 400]);
        let values: Vec<_> = futures.into_iter().map(|future| future.result().unwrap()).collect();
        assert_eq!(values, (0..=max_pending).map(double).collect::<Vec<_>>());
    }
}

fn without_room_function_and_argument_come_back<E: OnRequest>() {
    let pool = bounded::<E>(1, 2);
    let gate = Turnstile::new();
    let (held, futures) = fill(&*pool, &gate, 2);
    let returned = Executor::submit_or_return(&*pool, double, 21).unwrap_err();
    assert!(returned.to_string().contains("double") && format!("{returned:?}").contains("double"));
    let Returned { function, argument } = returned;
    assert_eq!(function(argument), 42);
    assert_eq!(pending(&*pool), 2);
    held.release();
    assert!(futures.into_iter().all(|future| future.result().is_ok()));
    until(|| {
        Executor::submit_or_return(&*pool, double, 21).is_ok_and(|future| future.result().unwrap() == 42)
    });
}

fn executors_behind_pointers_have_the_same_bound<E: OnRequest>() {
    let pool = bounded::<E>(1, 1);
    let gate = Turnstile::new();
    let _held = fill(&*pool, &gate, 1);
    assert!(Executor::submit_or_return(&&*pool, double, 1).is_err());
    assert!(Executor::submit_or_return(&pool, double, 1).is_err());
    let any: Box<dyn Executor> = Box::new(Arc::clone(&pool));
    assert!(any.submit_or_return(double, 1).is_err());
}

fn those_who_wait_are_refused_when_the_pool_is_shut_down<E: OnRequest>() {
    for cancel_futures in [false, true] {
        let pool = bounded::<E>(1, 1);
        let gate = Turnstile::new();
        let (held, futures) = fill(&*pool, &gate, 1);
        let waiting = [1, 2, 3].map(|n| {
            let pool = Arc::clone(&pool);
            blocked(move || pool.submit(double, n).result())
        });
        pool.shutdown_with(Shutdown { wait: false, cancel_futures });
        for thread in waiting {
            assert!(matches!(thread.join().unwrap(), Err(Error::ShutDown { .. })));
        }
        held.release();
        pool.shutdown();
        let cancelled = futures.iter().map(Future::cancelled).collect::<Vec<_>>();
        assert_eq!(cancelled, [false, cancel_futures]);
    }
}

fn those_who_wait_are_refused_when_the_pool_breaks<E: OnRequest>() {
    let gate = Turnstile::new();
    let wishes = Wishes { max_pending: Some(1), doomed: Some(gate.ticket(0)), ..Wishes::default() };
    let pool = Arc::new(E::made(Wishes { max_workers: 1, ..wishes }).unwrap());
    let queued = pool.submit(double, 1);
    let held = gate.arrival();
    let waiting = [1, 2, 3].map(|n| {
        let pool = Arc::clone(&pool);
        blocked(move || pool.submit(double, n).result())
    });
    held.release();
    for outcome in waiting.map(|thread| thread.join().unwrap()).into_iter().chain([queued.result()]) {
        assert!(matches!(outcome, Err(Error::Broken { cause: Some(_), .. })), "{outcome:?}");
    }
}

fn a_pool_that_is_shut_down_refuses_also_when_it_is_full<E: OnRequest>() {
    let pool = bounded::<E>(1, 1);
    let gate = Turnstile::new();
    let _held = fill(&*pool, &gate, 1);
    pool.shutdown_with(Shutdown { wait: false, cancel_futures: false });
    assert!(matches!(pool.submit(double, 1).result(), Err(Error::ShutDown { .. })));
    let refused = Executor::submit_or_return(&*pool, double, 1).unwrap();
    assert!(matches!(refused.result(), Err(Error::ShutDown { .. })));
}

fn a_burst_from_several_threads_loses_nothing_and_keeps_the_bound<E: OnRequest>() {
    for idle_timeout in [None, Some(Duration::ZERO)] {
        let wishes = Wishes { max_workers: 2, max_pending: Some(1), idle_timeout, ..Wishes::default() };
        let pool = Arc::new(E::made(wishes).unwrap());
        let submitters: Vec<_> = (0..4)
            .map(|_| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || {
                    let futures: Vec<_> = (0..E::MANY / 4)
                        .map(|n| {
                            assert!(pending(&*pool) <= 1);
                            // Every third returns until there is room.
                            loop {
                                if n % 3 > 0 {
                                    break pool.submit(double, n);
                                }
                                match Executor::submit_or_return(&*pool, double, n) {
                                    Ok(future) => break future,
                                    Err(returned) => assert_eq!(returned.argument, n),
                                }
                                thread::yield_now();
                            }
                        })
                        .collect();
                    assert!((0..).zip(futures).all(|(n, future)| future.result().unwrap() == n * 2));
                })
            })
            .collect();
        submitters.into_iter().for_each(|submitter| submitter.join().unwrap());
        assert_eq!(pending(&*pool), 0);
    }
}

fn map_pulls_its_items_as_there_is_room<E: OnRequest>() {
    let pool = bounded::<E>(1, 2);
    let gate = Turnstile::new();
    let held = pool.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let pulled = Arc::new(AtomicUsize::new(0));
    let (count, mapping) = (Arc::clone(&pulled), Arc::clone(&pool));
    let items = (0..E::MANY).inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let results = blocked(move || mapping.map(double, items).collect::<Result<Vec<_>, _>>());
    assert!(!results.is_finished());
    assert_eq!(pulled.load(Ordering::SeqCst), 3, "two are queued, one waits for room");
    arrival.release();
    assert_eq!(results.join().unwrap().unwrap(), (0..E::MANY).map(double).collect::<Vec<_>>());
    assert_eq!(held.result().unwrap(), 0);
}

/// The bound is of what waits for a worker. Values wait in their futures, and those are the caller's.
fn values_that_nobody_took_do_not_hold_up_a_bounded_queue<E: OnRequest>() {
    let pool = bounded::<E>(1, 2);
    let futures: Vec<_> = (0..100).map(|n| pool.submit(double, n)).collect();
    assert!((0..).zip(futures).all(|(n, future)| future.result().unwrap() == n * 2));
}

fn the_own_threads_of_a_pool_do_not_wait_for_room<E: OnRequest>() {
    let pool = bounded::<E>(1, 1);
    let gate = Turnstile::new();
    let (held, mut futures) = fill(&*pool, &gate, 1);
    let (tell, told) = mpsc::channel();
    let own = Arc::downgrade(&pool);
    // Callbacks run in the thread that ends the future.
    futures[0].add_done_callback(move |_| {
        let pool = own.upgrade().unwrap();
        let more: Vec<_> = (0..10).map(|n| pool.submit(double, n)).collect();
        let returned = Executor::submit_or_return(&*pool, double, 10).unwrap_err();
        tell.send((more, returned.argument)).unwrap();
    });
    held.release();
    let (more, returned) = told.recv().unwrap();
    assert_eq!(returned, 10, "who need not wait for room has no room all the same");
    futures.extend(more);
    assert!(futures.into_iter().all(|future| future.result().is_ok()));
    // The bound is what it was.
    let (held, futures) = fill(&*pool, &gate, 1);
    assert!(Executor::submit_or_return(&*pool, double, 1).is_err());
    held.release();
    assert!(futures.into_iter().all(|future| future.result().is_ok()));
}

fn a_cancelled_task_keeps_its_place_until_a_worker_passes_it<E: OnRequest>() {
    let pool = bounded::<E>(1, 1);
    let gate = Turnstile::new();
    let (held, futures) = fill(&*pool, &gate, 1);
    assert!(futures[1].cancel());
    assert!(Executor::submit_or_return(&*pool, double, 1).is_err());
    held.release();
    assert_eq!(pool.submit(double, 1).result().unwrap(), 2);
}

fn a_bound_of_nothing_is_an_error<E: OnRequest>() {
    let error = E::made(Wishes { max_workers: 1, max_pending: Some(0), ..Wishes::default() }).unwrap_err();
    assert!(matches!(&error, Error::InvalidArgument { .. }) && error.to_string().contains("max_pending"));
}

#[test]
fn a_task_that_fills_the_queue_of_its_own_thread_pool_goes_on() {
    watchdog("a task that submits", LIMIT, || {
        let pool = bounded::<ThreadPoolExecutor>(1, 1);
        let own = Arc::clone(&pool);
        let more = pool.spawn(move || (0..10).map(|n| own.submit(double, n)).collect::<Vec<_>>());
        let more = more.result().unwrap();
        assert!((0..).zip(more).all(|(n, future)| future.result().unwrap() == n * 2));
    });
}

#[test]
fn a_closure_that_comes_back_is_whole() {
    watchdog("a closure that comes back", LIMIT, || {
        let pool = bounded::<ThreadPoolExecutor>(1, 1);
        let gate = Turnstile::new();
        let (held, _futures) = fill(&*pool, &gate, 1);
        // Its own methods, not those of the trait.
        let pool = &*pool;
        let drops = Drops::new();
        let (captured, argument) = (drops.token(), drops.token());
        let function = move |argument: crate::common::Token| {
            captured.look();
            argument.look();
            42
        };
        let returned = pool.submit_or_return(function, argument).unwrap_err();
        assert_eq!(drops.alive(), 2);
        held.release();
        let future = pool.submit(returned.function, returned.argument);
        assert_eq!(future.result().unwrap(), 42);
        assert_eq!(drops.alive(), 0);
    });
}

#[derive(Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("it does not leave the house"))
    }
}

#[test]
fn an_argument_that_cannot_be_encoded_gives_its_place_back() {
    watchdog("place of an argument that cannot be encoded", LIMIT, || {
        let pool = bounded::<concurrent_futures::ProcessPoolExecutor>(1, 1);
        for _ in 0..3 {
            let outcome = pool.submit(|_: Secret| (), Secret).result();
            assert!(matches!(outcome, Err(Error::Encode { .. })));
            let outcome = pool.submit_or_return(|_: Secret| (), Secret).unwrap().result();
            assert!(matches!(outcome, Err(Error::Encode { .. })));
        }
        assert_eq!(pool.submit_or_return(double, 21).unwrap().result().unwrap(), 42);
    });
}

/// An executor of one's own: one task at a time is let in, and it is kept.
#[derive(Default)]
struct OneAtATime(Mutex<Option<Task>>);

impl Executor for OneAtATime {
    fn execute(&self, task: Task) {
        if let Err(task) = self.execute_or_return(task) {
            task.run();
        }
    }

    fn execute_or_return(&self, task: Task) -> Result<(), Task> {
        let mut kept = self.0.lock().unwrap();
        if kept.is_some() {
            return Err(task);
        }
        *kept = Some(task);
        Ok(())
    }

    fn shutdown_with(&self, _: Shutdown) {
        self.0.lock().unwrap().take().into_iter().for_each(Task::run);
    }
}

#[test]
fn an_executor_of_ones_own_may_return_tasks() {
    watchdog("an executor of one's own", LIMIT, || {
        let executor = OneAtATime::default();
        let kept = executor.submit_or_return(double, 1).unwrap();
        let returned = executor.submit_or_return(|text: String| text.len(), "four".to_owned()).unwrap_err();
        assert_eq!((returned.function)(returned.argument), 4);
        assert_eq!(executor.submit(double, 2).result().unwrap(), 4);
        assert!(!kept.done());
        executor.shutdown();
        assert_eq!(kept.result().unwrap(), 2);
    });
}

#[test]
fn executors_without_a_bound_return_nothing() {
    watchdog("no bound", LIMIT, || {
        assert_eq!(SerialExecutor::new().submit_or_return(double, 21).unwrap().result().unwrap(), 42);
        let pool = processes(1);
        let futures: Vec<_> = (0..500).map(|n| pool.submit_or_return(double, n).unwrap()).collect();
        assert!((0..).zip(futures).all(|(n, future)| future.result().unwrap() == n * 2));
    });
}
