//! Parity B: what `multiprocessing.Pool` has, and what we have for it, clause by clause of `tests/PARITY.md`.
//!
//! Not here: what it has in common with `map` (`m_map.rs`). Its names stand in the comments.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, MapOptions, Portable, ProcessPoolExecutor, Shutdown, ThreadPoolExecutor,
    as_completed,
};

use crate::common::{Gate, Journal, LIMIT, LONG, Page, Turnstile, blocked, watchdog};
use crate::engines::{double, explode, explode_on_threes, panic_of, pass, processes, refuse_threes};

contract!(
    [b3_map_runs_everything_whatever_fails, b4_an_error_is_yielded_in_its_place_and_the_iteration_goes_on,],
    [
        b1_one_pool_serves_maps_and_single_calls_with_all_that_futures_can,
        b5_a_callback_keeps_nobody_waiting_but_who_wants_the_value,
        b6_what_can_be_asked_of_a_result,
        b6_closing_joining_and_leaving_are_one_call,
        b8_every_call_of_a_pool_has_its_counterpart,
    ]
);

registered!([add, note_and_explode_on_threes], []);

const NO_WAIT: Shutdown = Shutdown { wait: false, cancel_futures: false };

fn add((a, b): (u32, u32)) -> u32 {
    a + b
}

/// There a lazy map and futures that can be cancelled and waited for are two different modules.
fn b1_one_pool_serves_maps_and_single_calls_with_all_that_futures_can<E: Executor>(
    make: impl Fn(usize) -> E,
) {
    let executor = make(1);
    let mut lazy = executor.map_with(double, 0.., MapOptions::new().buffersize(2));
    assert_eq!(lazy.next().unwrap().unwrap(), 0);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(7));
    let arrival = gate.arrival();
    let unwanted = executor.submit(double, 8);
    let wanted = executor.submit(double, 9);
    let (tell, told) = mpsc::channel();
    wanted.add_done_callback(move |outcome| tell.send(outcome.copied().unwrap()).unwrap());
    assert!(held.running() && unwanted.cancel());
    arrival.release();
    let outcomes: Vec<_> =
        as_completed([held, unwanted, wanted]).map(|future| future.result().ok()).collect();
    assert_eq!(outcomes.iter().flatten().collect::<BTreeSet<_>>(), [7, 18].iter().collect());
    assert_eq!(told.recv().unwrap(), 18);
    assert_eq!((lazy.next().unwrap().unwrap(), lazy.next().unwrap().unwrap()), (2, 4));
}

fn exit(status: i32) -> u32 {
    std::process::exit(status)
}

/// There all workers start at once, and who waits for the task of a dead one waits for ever.
#[test]
fn b2_workers_start_on_demand_and_the_task_of_a_dead_one_is_not_lost() {
    watchdog("dead workers", LIMIT, || {
        let pool = processes(3);
        assert!(pool.worker_pids().is_empty());
        let before = pool.submit(|()| std::process::id(), ()).result().unwrap();
        assert_eq!(pool.worker_pids(), [before]);
        let error = pool.submit(exit, 0).result().unwrap_err();
        assert!(matches!(error, Error::WorkerDied { pid, .. } if pid == before), "{error:?}");
        // Also in the middle of a map: the others are there.
        let outcomes: Vec<_> = pool.map(|n: u32| if n == 2 { exit(3) } else { n }, 0..5).collect();
        let lost: Vec<_> = (0..5).filter(|n| outcomes[*n].is_err()).collect();
        assert_eq!(lost, [2], "{outcomes:?}");
        let after = pool.submit(|()| std::process::id(), ()).result().unwrap();
        assert_ne!(before, after);
    });
}

fn note_and_explode_on_threes((page, n): (Page, u32)) -> u32 {
    page.note(n);
    explode_on_threes(n)
}

/// There one error stands for the whole map.
fn b3_map_runs_everything_whatever_fails<E: Executor>(make: impl Fn(usize) -> E) {
    const ITEMS: usize = 50;
    const WORKERS: usize = 2;
    // The chunk that a pool would choose.
    for chunksize in [1, ITEMS.div_ceil(4 * WORKERS)] {
        let journal = Journal::new();
        let executor = make(WORKERS);
        // The first fails. An input without a length is as good as a list.
        let items = (0..).map(|n| (journal.page(), n)).take_while(|(_, n)| *n < ITEMS as u32);
        let options = MapOptions::new().chunksize(chunksize);
        let outcomes: Vec<_> = executor.map_with(note_and_explode_on_threes, items, options).collect();
        let done: BTreeSet<u32> = journal.lines().iter().map(|line| line.parse().unwrap()).collect();
        assert_eq!(done, (0..ITEMS as u32).collect());
        assert_eq!(journal.lines().len(), ITEMS);
        for (n, outcome) in (0..).zip(outcomes) {
            assert_eq!(outcome.ok(), (n % 3 != 0).then_some(n * 2));
        }
    }
}

/// `imap`, as far ahead as was asked for.
fn b4_an_error_is_yielded_in_its_place_and_the_iteration_goes_on<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let items = (0..).inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let mut imap = executor.try_map_with(refuse_threes, items, MapOptions::new().buffersize(4));
    for n in 0..30 {
        assert!(taken.load(Ordering::SeqCst) <= n as usize + 4, "there the whole input is read");
        match imap.next().unwrap() {
            Ok(value) => assert!(n % 3 != 0 && value == n * 2),
            Err(error) => {
                assert!(n % 3 == 0 && error.to_string().contains(&format!("refused {n}")), "{error}")
            }
        }
    }
}

/// There nobody has a result before its callback has returned, and no other result of the pool comes either.
fn b5_a_callback_keeps_nobody_waiting_but_who_wants_the_value<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let turnstile = Turnstile::new();
    let gate = Gate::new();
    let future = executor.submit(pass, turnstile.ticket(7));
    let (tell, told) = mpsc::channel();
    let waiter = gate.waiter();
    let said = tell.clone();
    future.add_done_callback(move |_| {
        said.send("begins").unwrap();
        waiter.wait();
        said.send("ends").unwrap();
    });
    turnstile.arrival().release();
    assert_eq!(told.recv().unwrap(), "begins");
    future.wait();
    assert!(future.done());
    assert_eq!(executor.submit(double, 2).result().unwrap(), 4);
    // The value is being looked at: whoever takes it, comes after.
    let taking = blocked(move || (future.result(), tell.send("taken")).0);
    assert!(!taking.is_finished());
    gate.open();
    assert_eq!(taking.join().unwrap().unwrap(), 7);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["ends", "taken"]);
}

fn b6_what_can_be_asked_of_a_result<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let mut future = executor.submit(pass, gate.ticket(7));
    let failing = executor.submit(explode, 1);
    let arrival = gate.arrival();
    // `ready`, `successful`, `get(timeout)`, `wait(timeout)`, of one that is not ready …
    assert!(!future.done());
    assert!(future.try_result().is_none(), "neither yes nor no, and no error");
    for limit in [Duration::ZERO, Duration::from_millis(1)] {
        assert!(!future.wait_timeout(limit));
        assert!(matches!(future.result_timeout(limit), Err(Error::TimedOut { .. })));
    }
    arrival.release();
    // … and of one that is.
    future.wait();
    assert!(future.done() && future.wait_timeout(Duration::ZERO));
    assert!(future.exception().is_none(), "successful");
    assert_eq!(future.result_timeout(Duration::ZERO).unwrap(), 7);
    assert!(failing.wait_timeout(LONG));
    assert!(matches!(failing.exception(), Some(Error::Panicked { .. })), "not successful");
}

/// There `join` before `close` is an error, so is a call after it, and leaving the context loses what is
/// under way.
fn b6_closing_joining_and_leaving_are_one_call<E: Executor>(make: impl Fn(usize) -> E) {
    let closed = make(2);
    let futures: Vec<_> = (0..20).map(|n| closed.submit(double, n)).collect();
    closed.shutdown_with(NO_WAIT); // close
    assert!(matches!(closed.submit(double, 1).result(), Err(Error::ShutDown { .. })));
    closed.shutdown(); // join
    assert!(futures.iter().all(Future::done));
    let left = make(2);
    let futures: Vec<_> = (0..20).map(|n| left.submit(double, n)).collect();
    drop(left);
    assert!((0..).zip(futures).all(|(n, future)| future.result().is_ok_and(|value| value == n * 2)));
}

fn note_pid(page: Page) {
    page.note(std::process::id());
}

/// Can a value of this type be sent to a worker?
struct Travels<T>(PhantomData<T>);

trait Stays {
    const TRAVELS: bool = false;
}

impl<T> Stays for Travels<T> {}

impl<T: Portable> Travels<T> {
    const TRAVELS: bool = true;
}

#[test]
fn b7_a_worker_has_its_initializer_and_its_number_of_tasks() {
    watchdog("the life of a worker", LIMIT, || {
        let journal = Journal::new();
        let builder = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(2);
        let pool = builder.initializer(note_pid, journal.page()).build().unwrap();
        let pids: Vec<_> = pool.map(|_: u32| std::process::id(), 0..5).collect::<Result<_, _>>().unwrap();
        assert!(pids[0] == pids[1] && pids[1] != pids[2] && pids[2] == pids[3] && pids[3] != pids[4]);
        let initialised: Vec<u32> = journal.lines().iter().map(|line| line.parse().unwrap()).collect();
        assert_eq!(initialised, [pids[0], pids[2], pids[4]], "each, before its first task");
    });
}

/// There it is an error when it is tried.
#[test]
fn b7_a_pool_cannot_be_sent_to_its_workers() {
    const { assert!(!Travels::<ProcessPoolExecutor>::TRAVELS && !Travels::<ThreadPoolExecutor>::TRAVELS) };
    const { assert!(!Travels::<Future<u32>>::TRAVELS && Travels::<(u32, String)>::TRAVELS) };
}

fn b8_every_call_of_a_pool_has_its_counterpart<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    // apply
    assert_eq!(executor.submit(double, 2).result().unwrap(), 4);
    // apply_async, with callback and error_callback
    let told_of = |future: Future<u32>| {
        let (tell, told) = mpsc::channel();
        future.add_done_callback(move |outcome| match outcome {
            Ok(value) => tell.send(Ok(*value)).unwrap(),
            Err(error) => tell.send(Err(error.clone())).unwrap(),
        });
        told.recv().unwrap()
    };
    assert_eq!(told_of(executor.submit(double, 3)).unwrap(), 6);
    assert_eq!(panic_of(told_of(executor.submit(explode, 4))).message(), "number 4 exploded");
    // map, map_async
    let later = executor.map(double, 0..3);
    let now: Result<Vec<_>, _> = executor.map(double, 3..6).collect();
    assert_eq!(now.unwrap(), [6, 8, 10]);
    assert_eq!(later.collect::<Result<Vec<_>, _>>().unwrap(), [0, 2, 4]);
    // starmap
    let sums: Result<Vec<_>, _> = executor.map(add, [(1, 2), (3, 4)]).collect();
    assert_eq!(sums.unwrap(), [3, 7]);
    // imap
    let lazy = executor.map_with(double, 0.., MapOptions::new().buffersize(5).chunksize(2));
    assert_eq!(lazy.take(3).collect::<Result<Vec<_>, _>>().unwrap(), [0, 2, 4]);
    // imap_unordered, and whose result it is
    let futures = (0..10).map(|n| (n, executor.submit(double, n)));
    let unordered: BTreeSet<_> =
        as_completed(futures).map(|(n, future)| (n, future.result().unwrap())).collect();
    assert_eq!(unordered, (0..10).map(|n| (n, n * 2)).collect());
    // terminate, as far as threads can
    let gate = Turnstile::new();
    let held = [executor.submit(pass, gate.ticket(1)), executor.submit(pass, gate.ticket(2))];
    let arrivals = gate.arrivals(2);
    let queued = executor.submit(double, 1);
    executor.shutdown_with(Shutdown { wait: false, cancel_futures: true });
    assert!(queued.cancelled());
    drop(arrivals);
    // close and join
    executor.shutdown();
    assert!(held.iter().all(Future::done));
}

/// `terminate` of processes ends also what runs.
#[test]
fn b8_terminate_ends_what_runs_and_what_is_queued() {
    watchdog("terminate", LIMIT, || {
        for terminate in [ProcessPoolExecutor::terminate_workers, ProcessPoolExecutor::kill_workers] {
            let pool = processes(1);
            let gate = Turnstile::new();
            let held = pool.submit(pass, gate.ticket(1));
            let _arrival = gate.arrival();
            let queued = pool.submit(double, 1);
            terminate(&pool);
            assert!(queued.cancelled());
            assert!(matches!(held.result(), Err(Error::WorkerDied { .. })));
            assert!(matches!(pool.submit(double, 1).result(), Err(Error::ShutDown { .. })));
            pool.shutdown();
        }
    });
}
