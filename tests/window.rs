//! Many short calls to few worker processes: several are in the hands of a worker at a time. Nobody may notice.
//!
//! - one that turns out long holds up none behind it, while a worker is idle;
//! - one that has not started can be cancelled; what is killed is that call and no other;
//! - a crash costs the call that crashed, and each runs once;
//! - they start in the order in which they were submitted;
//! - a callback may wait for whatever it likes.
//!
//! All calls are of one function, which is short at first: what is long later is not known before.

#![allow(unsafe_code)] // a gate in `faults_common` needs it

mod faults_common;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, Future, MapOptions, ProcessPoolExecutor, Shutdown, WorkerInfo};
use faults_common::*;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

concurrent_futures::init_tests!();

/// What a call does.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Step {
    Tiny(u64),
    /// Notes that it runs, in a file, and returns the number.
    Note(String, u64),
    /// Waits at a gate.
    Gate(String),
    /// Notes the number, and takes so many milliseconds.
    Slow(String, u64, u64),
    Die(Death),
    Panic,
    /// Returns so many bytes.
    Bytes(usize),
    /// Is given bytes, and returns their number.
    Count(Vec<u8>),
    Pid,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Done {
    Number(u64),
    Bytes(Vec<u8>),
}

fn step(step: Step) -> Done {
    Done::Number(match step {
        Step::Tiny(number) => number * 2,
        Step::Note(path, number) => note(&path, number),
        Step::Gate(gate) => wait_at(gate).into(),
        Step::Slow(path, number, milliseconds) => {
            let number = note(&path, number);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(milliseconds) {
                std::hint::spin_loop();
            }
            number
        }
        Step::Die(death) => death.die(),
        Step::Panic => panic!("a call that panics"),
        Step::Bytes(count) => return Done::Bytes(vec![7; count]),
        Step::Count(bytes) => bytes.len() as u64,
        Step::Pid => std::process::id().into(),
    })
}

/// Writes down a number, in one piece.
fn note(path: &str, number: u64) -> u64 {
    static FILES: OnceLock<Mutex<HashMap<String, File>>> = OnceLock::new();
    let mut files = FILES.get_or_init(Mutex::default).lock().unwrap();
    let file = files
        .entry(path.to_owned())
        .or_insert_with(|| OpenOptions::new().append(true).create(true).open(path).unwrap());
    file.write_all(&number.to_le_bytes()).unwrap();
    number
}

fn noted(path: &str) -> Vec<u64> {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.chunks(8).map(|number| u64::from_le_bytes(number.try_into().unwrap())).collect()
}

/// Each of the numbers was noted once.
#[track_caller]
fn assert_once(path: &str, numbers: impl IntoIterator<Item = u64>) {
    let mut runs = BTreeMap::new();
    noted(path).into_iter().for_each(|number| *runs.entry(number).or_insert(0) += 1);
    let wanted: BTreeMap<u64, i32> = numbers.into_iter().map(|number| (number, 1)).collect();
    assert_eq!(runs, wanted);
}

/// A pool whose workers have seen that the function is short.
fn warm(max_workers: usize) -> ProcessPoolExecutor {
    let pool = ProcessPoolExecutor::new(max_workers).unwrap();
    warm_up(&pool);
    pool
}

fn warm_up(pool: &ProcessPoolExecutor) {
    let futures: Vec<_> = (0..2000).map(|n| pool.submit(step, Step::Tiny(n))).collect();
    for (n, future) in (0..).zip(futures) {
        assert_eq!(get(future).unwrap(), Done::Number(n * 2));
    }
}

fn tiny(pool: &ProcessPoolExecutor, count: u64) -> Vec<Future<Done>> {
    (0..count).map(|n| pool.submit(step, Step::Tiny(n))).collect()
}

#[track_caller]
fn assert_tiny(futures: Vec<Future<Done>>) {
    for (n, future) in (0..).zip(futures) {
        assert_eq!(get(future).unwrap(), Done::Number(n * 2));
    }
}

#[track_caller]
fn assert_died(future: Future<Done>) {
    let error = get(future).unwrap_err();
    assert!(matches!(error, Error::WorkerDied { .. }), "{error:?}");
}

// ---- One that is long ------------------------------------------------------------------------

#[test]
fn a_long_call_holds_up_none_behind_it_while_a_worker_is_idle() {
    let _watchdog = Watchdog::new("a_long_call_holds_up_none_behind_it_while_a_worker_is_idle");
    let (pool, gate) = (warm(2), Gate::new());
    for before in [0, 1, 10, 100, 300] {
        let first = tiny(&pool, before);
        let long = pool.submit(step, Step::Gate(gate.path()));
        let behind = tiny(&pool, 300);
        assert_tiny(first);
        assert_tiny(behind);
        assert!(!long.done());
        gate.next().go_on();
        get(long).unwrap();
        warm_up(&pool);
    }
}

#[test]
fn a_reply_is_not_held_back_by_the_call_behind_it() {
    let _watchdog = Watchdog::new("a_reply_is_not_held_back_by_the_call_behind_it");
    let (pool, gate) = (warm(1), Gate::new());
    for before in [1, 2, 20, 200] {
        let first = tiny(&pool, before);
        let long = pool.submit(step, Step::Gate(gate.path()));
        assert_tiny(first);
        assert!(!long.done());
        gate.next().go_on();
        get(long).unwrap();
        warm_up(&pool);
    }
}

#[test]
fn a_map_of_single_items_yields_them_in_order_whatever_their_length() {
    let _watchdog = Watchdog::new("a_map_of_single_items_yields_them_in_order_whatever_their_length");
    let (pool, dir) = (warm(2), TempDir::new());
    let path = dir.path("notes");
    let steps = (0..5000).map(|n| match n % 1000 {
        500 => Step::Slow(path.clone(), n, 5),
        _ => Step::Note(path.clone(), n),
    });
    let one_each = MapOptions::new().chunksize(1);
    let numbers: Vec<_> = pool.map_with(step, steps, one_each).map(Result::unwrap).collect();
    assert_eq!(numbers, (0..5000).map(Done::Number).collect::<Vec<_>>());
    assert_once(&path, 0..5000);
}

// ---- Cancelled and killed --------------------------------------------------------------------

#[test]
fn what_waits_behind_a_long_call_can_be_cancelled() {
    let _watchdog = Watchdog::new("what_waits_behind_a_long_call_can_be_cancelled");
    let (pool, gate, dir) = (warm(1), Gate::new(), TempDir::new());
    let path = dir.path("notes");
    for round in 0..20 {
        let long = pool.submit(step, Step::Gate(gate.path()));
        let behind: Vec<_> = (0..50).map(|n| pool.submit(step, Step::Note(path.clone(), n))).collect();
        let visitor = gate.next();
        assert!(long.running() && !behind.iter().any(Future::running), "round {round}");
        // The odd ones by `kill`, which is the same for them.
        let cancel =
            |(n, future): (usize, &Future<Done>)| if n % 2 == 0 { future.cancel() } else { future.kill() };
        assert!(behind.iter().enumerate().all(cancel), "round {round}");
        assert!(!long.cancel(), "it runs");
        assert!(!long.done());
        visitor.go_on();
        get(long).unwrap();
        for future in behind {
            assert!(matches!(get(future), Err(Error::Cancelled { .. })));
        }
        warm_up(&pool);
    }
    assert_eq!(noted(&path), [0; 0]);
}

/// The number of a call that ran, as it must have unless it was cancelled.
#[track_caller]
fn run_unless(cancelled: bool, n: u64, future: Future<Done>) -> Option<u64> {
    match get(future) {
        Ok(number) if !cancelled => {
            assert_eq!(number, Done::Number(n));
            Some(n)
        }
        Err(Error::Cancelled { .. }) if cancelled => None,
        other => panic!("{n}: {other:?}, cancelled: {cancelled}"),
    }
}

#[test]
fn cancelled_at_any_moment_it_runs_or_is_cancelled() {
    let _watchdog = Watchdog::new("cancelled_at_any_moment_it_runs_or_is_cancelled");
    let (pool, dir) = (warm(2), TempDir::new());
    let path = dir.path("notes");
    let mut ran = Vec::new();
    for n in 0..10_000 {
        let future = pool.submit(step, Step::Note(path.clone(), n));
        let cancelled = n % 3 == 0 && future.cancel();
        ran.extend(run_unless(cancelled, n, future));
    }
    assert_once(&path, ran);
}

#[test]
fn cancelled_in_a_stream_it_runs_or_is_cancelled() {
    let _watchdog = Watchdog::new("cancelled_in_a_stream_it_runs_or_is_cancelled");
    let (pool, dir) = (warm(2), TempDir::new());
    let path = dir.path("notes");
    let futures: Vec<_> = (0..20_000).map(|n| pool.submit(step, Step::Note(path.clone(), n))).collect();
    // From both ends, so that it meets the calls where they are.
    let cancelled: Vec<_> =
        futures.iter().map(|future| future.id().get() % 3 == 0 && future.cancel()).collect();
    let mut ran = Vec::new();
    for ((n, future), cancelled) in (0..).zip(futures).zip(cancelled) {
        ran.extend(run_unless(cancelled, n, future));
    }
    assert_once(&path, ran);
}

#[test]
fn kill_hits_the_call_that_runs_and_no_other() {
    let _watchdog = Watchdog::new("kill_hits_the_call_that_runs_and_no_other");
    let (pool, gate) = (warm(1), Gate::new());
    for _ in 0..5 {
        let first = tiny(&pool, 20);
        let long = pool.submit(step, Step::Gate(gate.path()));
        let behind = tiny(&pool, 100);
        let visitor = gate.next();
        assert!(long.kill());
        assert_died(long);
        drop(visitor);
        assert_tiny(first);
        assert_tiny(behind);
    }
}

#[test]
fn killed_in_a_stream_each_ends_with_what_became_of_it() {
    let _watchdog = Watchdog::new("killed_in_a_stream_each_ends_with_what_became_of_it");
    let (pool, dir) = (warm(2), TempDir::new());
    let path = dir.path("notes");
    let futures: Vec<_> = (0..3000).map(|n| pool.submit(step, Step::Note(path.clone(), n))).collect();
    let killed: Vec<_> = (0..).zip(&futures).map(|(n, future)| n % 50 == 0 && future.kill()).collect();
    for ((n, future), killed) in (0..).zip(futures).zip(killed) {
        match get(future) {
            Ok(number) => assert_eq!(number, Done::Number(n)),
            Err(Error::Cancelled { .. } | Error::WorkerDied { .. }) if killed => {}
            other => panic!("{n}: {other:?}, killed: {killed}"),
        }
    }
    let mut runs = noted(&path);
    let all = runs.len();
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), all, "some ran twice");
}

#[test]
fn a_pool_that_is_ended_cancels_what_has_not_started() {
    let _watchdog = Watchdog::new("a_pool_that_is_ended_cancels_what_has_not_started");
    for _ in 0..5 {
        let (pool, gate) = (warm(1), Gate::new());
        let long = pool.submit(step, Step::Gate(gate.path()));
        let behind = tiny(&pool, 200);
        let visitor = gate.next();
        pool.shutdown_with(Shutdown { wait: false, cancel_futures: true });
        for future in behind {
            assert!(matches!(get(future), Err(Error::Cancelled { .. })));
        }
        assert!(!long.done());
        visitor.go_on();
        get(long).unwrap();
    }
}

// ---- Deaths ----------------------------------------------------------------------------------

#[test]
fn a_crash_in_a_stream_costs_the_call_that_crashed() {
    let _watchdog = Watchdog::new("a_crash_in_a_stream_costs_the_call_that_crashed");
    for death in [Death::Abort, Death::Kill, Death::ExitThree, Death::BadWrite] {
        for workers in [1, 2] {
            let (pool, dir) = (warm(workers), TempDir::new());
            let path = dir.path("notes");
            let crashes = |n: u64| n % 1000 == 777;
            let steps =
                (0..5000).map(|n| if crashes(n) { Step::Die(death) } else { Step::Note(path.clone(), n) });
            let futures: Vec<_> = steps.map(|what| pool.submit(step, what)).collect();
            for (n, future) in (0..).zip(futures) {
                if crashes(n) {
                    assert_died(future);
                } else {
                    assert_eq!(get(future).unwrap(), Done::Number(n), "{death:?}");
                }
            }
            assert_once(&path, (0..5000).filter(|n| !crashes(*n)));
        }
    }
}

#[test]
fn killed_from_outside_at_any_moment_each_call_runs_once_at_the_most() {
    let _watchdog = Watchdog::new("killed_from_outside_at_any_moment_each_call_runs_once_at_the_most");
    // Those that work, oldest first: workers that are killed at birth break the pool.
    let working = Arc::new(Mutex::new(VecDeque::new()));
    let begin = {
        let working = Arc::clone(&working);
        move |worker: &WorkerInfo| working.lock().unwrap().push_back(worker.pid.unwrap())
    };
    let pool = ProcessPoolExecutor::builder().max_workers(2).on_worker_start(begin).build().unwrap();
    warm_up(&pool);
    let dir = TempDir::new();
    let path = dir.path("notes");
    let is_over = Arc::new(AtomicBool::new(false));
    let killer = std::thread::spawn({
        let (is_over, path) = (Arc::clone(&is_over), path.clone());
        move || {
            let (mut victims, mut seen) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                let now = std::fs::metadata(&path).map_or(0, |file| file.len());
                if now > seen + 8 * 50 {
                    seen = now;
                    let oldest = working.lock().unwrap().pop_front();
                    victims += usize::from(oldest.is_some());
                    oldest.into_iter().for_each(|pid| send(pid, Signal::KILL));
                }
                std::thread::yield_now();
            }
            victims
        }
    });
    let futures: Vec<_> = (0..20_000).map(|n| pool.submit(step, Step::Note(path.clone(), n))).collect();
    let mut lost = 0;
    let mut returned = Vec::new();
    for (n, future) in (0..).zip(futures) {
        match get(future) {
            Ok(number) => {
                assert_eq!(number, Done::Number(n));
                returned.push(n);
            }
            Err(Error::WorkerDied { .. }) => lost += 1,
            Err(error) => panic!("{n}: {error:?}"),
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let victims = killer.join().unwrap();
    assert!(lost <= victims, "{lost} calls were lost with {victims} workers");
    let mut runs = noted(&path);
    let all = runs.len();
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), all, "some ran twice");
    assert!(returned.iter().all(|n| runs.binary_search(n).is_ok()), "some have not run");
}

#[test]
fn panics_in_a_stream_are_their_own() {
    let _watchdog = Watchdog::new("panics_in_a_stream_are_their_own");
    let pool = warm(2);
    let what = |n| if n % 7 == 3 { Step::Panic } else { Step::Tiny(n) };
    let futures: Vec<_> = (0..5000).map(|n| pool.submit(step, what(n))).collect();
    for (n, future) in (0..).zip(futures) {
        match get(future) {
            Err(Error::Panicked { .. }) if n % 7 == 3 => {}
            Ok(Done::Number(twice)) if n % 7 != 3 => assert_eq!(twice, n * 2),
            other => panic!("{n}: {other:?}"),
        }
    }
}

// ---- Order, size, number ---------------------------------------------------------------------

#[test]
fn one_worker_starts_them_in_the_order_in_which_they_were_submitted() {
    let _watchdog = Watchdog::new("one_worker_starts_them_in_the_order_in_which_they_were_submitted");
    let (pool, dir) = (warm(1), TempDir::new());
    let path = dir.path("notes");
    let what = |n| match n % 200 {
        // Longer than anything behind it is left waiting for.
        150 => Step::Slow(path.clone(), n, 3),
        _ => Step::Note(path.clone(), n),
    };
    let futures: Vec<_> = (0..5000).map(|n| pool.submit(step, what(n))).collect();
    for (n, future) in (0..).zip(futures) {
        assert_eq!(get(future).unwrap(), Done::Number(n));
    }
    assert_eq!(noted(&path), (0..5000).collect::<Vec<_>>());
}

#[test]
fn messages_of_all_lengths_arrive_among_others() {
    let _watchdog = Watchdog::new("messages_of_all_lengths_arrive_among_others");
    let pool = warm(2);
    let length = |n: usize| match n % 5 {
        0 => n,
        1 => 2000 + n % 100,
        2 => 65_500 + n % 100,
        _ => n % 40,
    };
    let what = |n| if n % 2 == 0 { Step::Bytes(length(n)) } else { Step::Count(vec![1; length(n)]) };
    let futures: Vec<_> = (0..4000).map(|n| pool.submit(step, what(n))).collect();
    for (n, future) in (0..).zip(futures) {
        match get(future).unwrap() {
            Done::Bytes(bytes) => assert_eq!(bytes, vec![7; length(n)]),
            Done::Number(count) => assert_eq!(count, length(n) as u64),
        }
    }
}

#[test]
fn a_worker_is_replaced_after_the_very_number_of_calls() {
    let _watchdog = Watchdog::new("a_worker_is_replaced_after_the_very_number_of_calls");
    let pool = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(7).build().unwrap();
    let futures: Vec<_> = (0..700).map(|_| pool.submit(step, Step::Pid)).collect();
    let pids: Vec<_> = futures.into_iter().map(|future| get(future).unwrap()).collect();
    for (n, same) in pids.chunks(7).enumerate() {
        assert!(same.iter().all(|pid| *pid == same[0]), "{n}: {same:?}");
    }
    assert!(pids.chunks(7).zip(pids.chunks(7).skip(1)).all(|(one, next)| one[0] != next[0]));
}

// ---- Callbacks -------------------------------------------------------------------------------

/// Calls that are probably in the hands of the one worker at the same time, with what comes behind them.
fn behind_a_gate(
    pool: &ProcessPoolExecutor,
    gate: &Gate,
    count: u64,
) -> (Future<Done>, Visitor, Vec<Future<Done>>) {
    let first = pool.submit(step, Step::Gate(gate.path()));
    let visitor = gate.next();
    (first, visitor, tiny(pool, count))
}

#[test]
fn a_callback_may_wait_for_the_call_behind_it() {
    let _watchdog = Watchdog::new("a_callback_may_wait_for_the_call_behind_it");
    let (pool, gate) = (warm(1), Gate::new());
    for _ in 0..20 {
        let (held, visitor, fillers) = behind_a_gate(&pool, &gate, 200);
        let one = pool.submit(step, Step::Tiny(1));
        let two = pool.submit(step, Step::Tiny(2));
        let (tell, told) = mpsc::channel();
        one.add_done_callback(move |_| tell.send(get(two)).unwrap());
        visitor.go_on();
        get(held).unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap().unwrap(), Done::Number(4));
        assert_eq!(get(one).unwrap(), Done::Number(2));
        assert_tiny(fillers);
    }
}

/// Two workers: with one, the call behind it would not have begun, and never did.
#[test]
fn a_callback_may_open_the_gate_at_which_the_call_behind_it_waits() {
    let _watchdog = Watchdog::new("a_callback_may_open_the_gate_at_which_the_call_behind_it_waits");
    let (pool, gate) = (warm(2), Gate::new());
    for _ in 0..20 {
        let (other, other_visitor, _) = behind_a_gate(&pool, &gate, 0);
        let (held, visitor, fillers) = behind_a_gate(&pool, &gate, 200);
        let second_gate = Arc::new(Gate::new());
        let one = pool.submit(step, Step::Tiny(1));
        let two = pool.submit(step, Step::Gate(second_gate.path()));
        one.add_done_callback(move |_| second_gate.next().go_on());
        visitor.go_on();
        other_visitor.go_on();
        get(held).unwrap();
        get(other).unwrap();
        get(two).unwrap();
        assert_eq!(get(one).unwrap(), Done::Number(2));
        assert_tiny(fillers);
        warm_up(&pool);
    }
}

#[test]
fn the_end_of_a_pool_waits_for_its_callbacks() {
    let _watchdog = Watchdog::new("the_end_of_a_pool_waits_for_its_callbacks");
    for _ in 0..10 {
        let pool = warm(2);
        let count = Arc::new(Mutex::new(0));
        for n in 0..1000 {
            let count = Arc::clone(&count);
            pool.submit(step, Step::Tiny(n)).add_done_callback(move |_| *count.lock().unwrap() += 1);
        }
        pool.shutdown();
        assert_eq!(*count.lock().unwrap(), 1000);
    }
}
