//! What only process pools do: the clauses P of `tests/PARITY.md`.
//!
//! Not here: workers that die by themselves or are killed, at every moment (`tests/faults.rs`);
//! hosts that die, and Ctrl-C (`tests/fate.rs`); systems that have no more to give
//! (`tests/limits.rs`); programs without `init` (`tests/not_initialised.rs`).

use std::collections::HashSet;
use std::fs;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use concurrent_futures::{
    Error, Executor, Future, MapOptions, Portable, ProcessPoolExecutor, SharedFuture, Shutdown,
    ThreadPoolExecutor,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::common::{Journal, LIMIT, LONG, Page, Turnstile, watchdog};
use crate::engines::{double, note, panic_of, pass, processes};

fn pid(_: u32) -> u32 {
    std::process::id()
}

#[test]
fn p1_as_many_workers_as_usable_cpus_unless_told() {
    watchdog("p1", LIMIT, || {
        let pool = ProcessPoolExecutor::default();
        assert_eq!(pool.max_workers(), std::thread::available_parallelism().unwrap().get());
        assert_eq!(pool.submit(|n: u32| n + 1, 1).result().unwrap(), 2);

        let zero = ProcessPoolExecutor::new(0).unwrap_err();
        assert!(matches!(zero, Error::InvalidArgument { .. }) && zero.to_string().contains("max_workers"));

        // No upper bound: what counts is how many are needed.
        let pool = processes(usize::MAX);
        assert_eq!(pool.max_workers(), usize::MAX);
        assert_eq!(pool.submit(double, 4).result().unwrap(), 8);
        assert_eq!(pool.worker_pids().len(), 1);
    });
}

/// It has the program of its host, and nothing of the memory.
#[test]
fn p2_a_worker_is_a_fresh_copy_of_the_program_and_no_fork() {
    static TOUCHED: AtomicUsize = AtomicUsize::new(0);
    watchdog("p2", LIMIT, || {
        TOUCHED.store(1, Ordering::SeqCst);
        let program = |()| (fs::read_link("/proc/self/exe").unwrap(), TOUCHED.load(Ordering::SeqCst));
        let (of_worker, touched) = processes(1).submit(program, ()).result().unwrap();
        assert_eq!((of_worker, 1), program(()));
        assert_eq!(touched, 0);
    });
}

#[test]
fn p3_an_idle_worker_is_used_again() {
    watchdog("p3 again", LIMIT, || {
        let pool = processes(3);
        assert!(pool.worker_pids().is_empty(), "none is started before there is a task");
        let pids: HashSet<u32> = (0..50).map(|n| pool.submit(pid, n).result().unwrap()).collect();
        assert_eq!(pids, pool.worker_pids().into_iter().collect());
        assert!(pids.len() == 1 && !pids.contains(&std::process::id()));
        pool.shutdown();
        assert!(pool.worker_pids().is_empty());
        assert!(pids.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap()), "workers were reaped");
    });
}

#[test]
fn p3_a_worker_is_started_for_a_call_that_finds_none_idle() {
    watchdog("p3 on demand", LIMIT, || {
        for (tasks, max) in [(1, 3), (2, 3), (3, 3), (8, 3), (4, 1)] {
            let pool = processes(max);
            let gate = Turnstile::new();
            let futures: Vec<_> = (0..tasks).map(|n| pool.submit(pass, gate.ticket(n))).collect();
            let expected = max.min(tasks as usize);
            let mut arrivals = gate.arrivals(expected);
            assert_eq!(pool.worker_pids().len(), expected, "{tasks} tasks, at most {max} workers");
            let mut workers: HashSet<String> = arrivals.iter().map(|arrival| arrival.who.clone()).collect();
            assert_eq!(workers.len(), expected);
            for _ in expected..tasks as usize {
                arrivals.remove(0).release();
                let next = gate.arrival();
                workers.insert(next.who.clone());
                arrivals.push(next);
            }
            drop(arrivals);
            assert!((0..).zip(futures).all(|(n, future)| future.result().is_ok_and(|value| value == n)));
            assert_eq!(workers.len(), expected);
        }
    });
}

#[test]
fn p4_only_a_call_that_a_worker_has_is_running() {
    watchdog("p4", LIMIT, || {
        for workers in [1, 2] {
            let pool = processes(workers);
            let (gate, journal) = (Turnstile::new(), Journal::new());
            let held: Vec<_> = (0..workers as u32).map(|n| pool.submit(pass, gate.ticket(n))).collect();
            let arrivals = gate.arrivals(workers);
            // More than any of the places where upstream calls a call running.
            let queued: Vec<_> = (0..12).map(|n| pool.submit(note, (journal.page(), n))).collect();
            assert!(held.iter().all(|future| future.running() && !future.cancel()));
            assert!(queued.iter().all(|future| !future.running() && !future.done()));
            assert!(queued.iter().step_by(2).all(Future::cancel));

            drop(arrivals);
            assert!(held.into_iter().all(|future| future.result().is_ok()));
            for (n, future) in (0..).zip(queued) {
                match future.result() {
                    Ok(value) => assert!(n % 2 == 1 && value == n),
                    Err(error) => {
                        assert!(n % 2 == 0 && matches!(error, Error::Cancelled { .. }), "{error:?}")
                    }
                }
            }
            let mut ran = journal.lines();
            if workers > 1 {
                ran.sort_by_key(|line| line.parse::<u32>().unwrap()); // they ran side by side
            }
            assert_eq!(ran, ["1", "3", "5", "7", "9", "11"], "in the order in which they came");
        }
    });
}

#[test]
fn p5_a_change_after_submit_is_not_seen() {
    watchdog("p5 mutation", LIMIT, || {
        let pool = processes(1);
        let gate = Turnstile::new();
        let held = pool.submit(pass, gate.ticket(0));
        let arrival = gate.arrival();
        let shared = Arc::new(Mutex::new(1));
        let future = pool.submit(Seen::read, Seen(shared.clone()));
        // The call is still queued, but its argument was taken as it was.
        *shared.lock().unwrap() = 2;
        arrival.release();
        assert_eq!((held.result().unwrap(), future.result().unwrap()), (0, 1));
    });
}

/// Serialises what its mutex holds at that moment.
struct Seen(Arc<Mutex<u32>>);

impl Seen {
    fn read(self) -> u32 {
        *self.0.lock().unwrap()
    }
}

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.lock().unwrap().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(|n| Seen(Arc::new(n.into())))
    }
}

/// A value that fails on its way, where it is told to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fragile {
    Whole(u32),
    /// Its `Serialize` returns an error.
    NoSerialize,
    /// Its `Serialize` panics.
    PanicSerialize,
    /// Its `Deserialize` returns an error.
    NoDeserialize,
    /// Its `Deserialize` panics.
    PanicDeserialize,
}

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Fragile::Whole(n) => n.serialize(serializer),
            // A part of it is written before it fails.
            Fragile::NoSerialize => {
                use ser::SerializeTuple;
                let mut tuple = serializer.serialize_tuple(2)?;
                tuple.serialize_element(&7_u32)?;
                Err(ser::Error::custom("will not be written"))
            }
            Fragile::PanicSerialize => panic!("`serialize` panics"),
            Fragile::NoDeserialize => u32::MAX.serialize(serializer),
            Fragile::PanicDeserialize => (u32::MAX - 1).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            u32::MAX => Err(de::Error::custom("will not be read")),
            n if n == u32::MAX - 1 => panic!("`deserialize` panics"),
            n => Ok(Fragile::Whole(n)),
        }
    }
}

fn number_of(fragile: Fragile) -> u32 {
    match fragile {
        Fragile::Whole(n) => n,
        other => panic!("{other:?} arrived"),
    }
}

/// Makes what it is told to.
fn make_fragile(kind: u32) -> Fragile {
    match kind {
        1 => Fragile::NoSerialize,
        2 => Fragile::PanicSerialize,
        3 => Fragile::NoDeserialize,
        4 => Fragile::PanicDeserialize,
        n => Fragile::Whole(n),
    }
}

/// The error of one value that did not travel: which kind, and which way it was going.
pub(crate) fn describe<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(Error::Encode { what, .. }) => format!("encode {what}"),
        Err(Error::Decode { what, .. }) => format!("decode {what}"),
        Err(Error::Panicked { panic, .. }) => panic.message().to_owned(),
        Err(error) => panic!("{error:?}"),
    }
}

const ARGUMENTS: [(Fragile, &str); 4] = [
    (Fragile::NoSerialize, "encode argument"),
    (Fragile::PanicSerialize, "`serialize` panics"),
    (Fragile::NoDeserialize, "decode argument"),
    (Fragile::PanicDeserialize, "`deserialize` panics"),
];

const RETURNS: [(u32, &str); 4] = [
    (1, "encode return value"),
    (2, "`serialize` panics"),
    (3, "decode return value"),
    (4, "`deserialize` panics"),
];

fn arguments_cost_their_own_calls(arguments: &[(Fragile, &str)]) {
    let pool = processes(1);
    let before = pool.submit(pid, 0).result().unwrap();
    for (fragile, expected) in arguments {
        let (left, bad, right) = (
            pool.submit(number_of, Fragile::Whole(1)),
            pool.submit(number_of, *fragile),
            pool.submit(number_of, Fragile::Whole(2)),
        );
        let id = bad.id();
        let error = bad.result().unwrap_err();
        assert_eq!(error.task().map(|task| task.id), Some(id));
        assert!(error.to_string().contains("p_processes::number_of"), "{error}");
        assert_eq!(describe::<()>(Err(error)), *expected);
        assert_eq!((left.result().unwrap(), right.result().unwrap()), (1, 2));
    }
    assert_eq!(pool.submit(pid, 0).result().unwrap(), before, "the worker is the same");
}

fn returns_cost_their_own_calls(returns: &[(u32, &str)]) {
    let pool = processes(1);
    let before = pool.submit(pid, 0).result().unwrap();
    for (kind, expected) in returns {
        let (left, bad, right) =
            (pool.submit(make_fragile, 10), pool.submit(make_fragile, *kind), pool.submit(make_fragile, 11));
        let id = bad.id();
        let error = bad.result().unwrap_err();
        assert_eq!(error.task().map(|task| task.id), Some(id));
        assert_eq!(describe::<()>(Err(error)), *expected);
        assert_eq!(left.result().unwrap(), Fragile::Whole(10));
        assert_eq!(right.result().unwrap(), Fragile::Whole(11));
    }
    assert_eq!(pool.submit(pid, 0).result().unwrap(), before, "the worker is the same");
}

#[test]
fn p5_an_argument_that_does_not_encode_costs_its_own_call() {
    watchdog("p5 encode", LIMIT, || {
        arguments_cost_their_own_calls(&ARGUMENTS[..2]);
        // It is known at once, without a worker.
        let pool = processes(1);
        assert!(pool.submit(number_of, Fragile::NoSerialize).done());
        assert!(pool.worker_pids().is_empty());
    });
}

/// Whether the bad one comes before the pool is closed or after it.
#[test]
fn p5_a_pool_shuts_down_behind_an_argument_that_does_not_encode() {
    watchdog("p5 shutdown", LIMIT, || {
        for wait in [false, true] {
            let pool = processes(2);
            let good = pool.submit(double, 1);
            let bad = pool.submit(number_of, Fragile::NoSerialize);
            pool.shutdown_with(Shutdown { wait, cancel_futures: false });
            let late = pool.submit(number_of, Fragile::NoSerialize);
            assert!(matches!(bad.result(), Err(Error::Encode { .. })));
            assert!(matches!(late.result(), Err(Error::ShutDown { .. })), "it is not even encoded");
            assert_eq!(good.result().unwrap(), 2);
            assert!(pool.shutdown_timeout(LONG) && pool.worker_pids().is_empty());
        }
    });
}

#[test]
fn p6_a_return_value_that_does_not_encode_costs_its_own_call() {
    watchdog("p6 encode", LIMIT, || returns_cost_their_own_calls(&RETURNS[..2]));
}

#[test]
fn p7_an_argument_that_does_not_decode_costs_its_own_call() {
    watchdog("p7 decode", LIMIT, || arguments_cost_their_own_calls(&ARGUMENTS[2..]));
}

/// Among them one that runs meanwhile in another worker.
#[test]
fn p8_a_return_value_that_does_not_decode_costs_its_own_call() {
    watchdog("p8 decode", LIMIT, || {
        returns_cost_their_own_calls(&RETURNS[2..]);
        let pool = processes(2);
        let gate = Turnstile::new();
        let unrelated = pool.submit(pass, gate.ticket(7));
        let arrival = gate.arrival();
        let workers = |pool: &ProcessPoolExecutor| pool.worker_pids().into_iter().collect::<HashSet<_>>();
        pool.submit(double, 1).wait();
        let before = workers(&pool);
        for (kind, expected) in &RETURNS[2..] {
            let bad = pool.submit(make_fragile, *kind);
            let queued = pool.submit(double, 4);
            assert_eq!(describe(bad.result()), *expected);
            assert_eq!(queued.result().unwrap(), 8);
            assert!(unrelated.running());
        }
        arrival.release();
        assert_eq!(unrelated.result().unwrap(), 7);
        assert_eq!(workers(&pool), before, "nobody was replaced");
    });
}

/// In chunks of every size: its neighbours in the chunk have their own results.
fn in_chunks<A: Clone + Serialize + de::DeserializeOwned + Send + 'static, R>(
    function: impl Fn(A) -> R + Copy + Send + 'static,
    good: A,
    bad: A,
    expected: &str,
) where
    R: Serialize + de::DeserializeOwned + Send + 'static,
{
    let pool = processes(1);
    for chunksize in [1, 2, 3, 6] {
        let items =
            [true, false, true, true, false, true].map(|is_bad| if is_bad { &bad } else { &good }.clone());
        let outcomes: Vec<_> =
            pool.map_with(function, items, MapOptions::new().chunksize(chunksize)).map(describe).collect();
        assert_eq!(outcomes, [expected, "ok", expected, expected, "ok", expected], "chunks of {chunksize}");
    }
}

#[test]
fn p5_an_argument_that_does_not_encode_costs_its_own_item_of_a_chunk() {
    watchdog("fragile arguments in chunks", LIMIT, || {
        let (bad, expected) = ARGUMENTS[0];
        in_chunks(number_of, Fragile::Whole(1), bad, expected);
    });
}

#[test]
fn p5_an_argument_whose_serialize_panics_costs_its_own_item_of_a_chunk() {
    watchdog("panicking arguments in chunks", LIMIT, || {
        let (bad, expected) = ARGUMENTS[1];
        in_chunks(number_of, Fragile::Whole(1), bad, expected);
    });
}

#[test]
fn p7_an_argument_that_does_not_decode_costs_its_own_item_of_a_chunk() {
    watchdog("unreadable arguments in chunks", LIMIT, || {
        for (bad, expected) in &ARGUMENTS[2..] {
            in_chunks(number_of, Fragile::Whole(1), *bad, expected);
        }
    });
}

#[test]
fn p6_a_return_value_that_does_not_encode_costs_its_own_item_of_a_chunk() {
    watchdog("fragile return values in chunks", LIMIT, || {
        for (bad, expected) in &RETURNS[..2] {
            in_chunks(make_fragile, 10, *bad, expected);
        }
    });
}

#[test]
fn p8_a_return_value_that_does_not_decode_costs_its_own_item_of_a_chunk() {
    watchdog("unreadable return values in chunks", LIMIT, || {
        let (bad, expected) = RETURNS[2];
        in_chunks(make_fragile, 10, bad, expected);
    });
}

#[test]
fn p8_a_return_value_whose_deserialize_panics_costs_its_own_item_of_a_chunk() {
    watchdog("panicking return values in chunks", LIMIT, || {
        let (bad, expected) = RETURNS[3];
        in_chunks(make_fragile, 10, bad, expected);
    });
}

#[test]
fn p9_a_call_that_exits_is_a_death_with_its_status() {
    watchdog("p9", LIMIT, || {
        let pool = processes(2);
        let gate = Turnstile::new();
        let unrelated = pool.submit(pass, gate.ticket(7));
        let arrival = gate.arrival();
        for code in [0, 3] {
            let exits = pool.submit(|code: i32| -> u32 { std::process::exit(code) }, code);
            let queued = pool.submit(double, 4);
            let id = exits.id();
            match exits.result() {
                Err(Error::WorkerDied { task, status: Some(status), .. }) => {
                    assert_eq!((task.id, status.code()), (id, Some(code)));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(queued.result().unwrap(), 8);
        }
        assert!(unrelated.running());
        arrival.release();
        assert_eq!(unrelated.result().unwrap(), 7);
    });
}

/// No reader and no waker stands between `submit` and the queue: nothing that could be full.
#[test]
fn p15_submit_never_blocks_however_many_calls_wait() {
    watchdog("p15", LIMIT, || {
        let pool = processes(1);
        let gate = Turnstile::new();
        let held = pool.submit(pass, gate.ticket(0));
        let arrival = gate.arrival();
        let futures: Vec<_> = (0..100_000).map(|n| pool.submit(double, n)).collect();
        assert!(held.running() && futures.iter().all(|future| !future.running() && !future.done()));
        arrival.release();
        assert!((0..).zip(futures).all(|(n, future)| future.result().is_ok_and(|value| value == 2 * n)));
    });
}

static GREETING: OnceLock<(String, usize)> = OnceLock::new();
static INITIALISED: AtomicUsize = AtomicUsize::new(0);

fn greet((page, greeting): (Page, String)) {
    page.note(std::process::id());
    let _ = GREETING.set((greeting, INITIALISED.fetch_add(1, Ordering::SeqCst) + 1));
}

fn greeted(ticket: crate::common::Ticket) -> (u32, Option<(String, usize)>) {
    ticket.pass();
    (std::process::id(), GREETING.get().cloned())
}

#[test]
fn p16_the_initializer_runs_in_each_worker_before_its_first_task() {
    watchdog("p16 initializer", LIMIT, || {
        let journal = Journal::new();
        let pool = ProcessPoolExecutor::builder()
            .max_workers(2)
            .initializer(greet, (journal.page(), "salve".to_owned()))
            .build()
            .unwrap();
        assert!(journal.lines().is_empty());
        let gate = Turnstile::new();
        let futures = [0, 1].map(|n| pool.submit(greeted, gate.ticket(n)));
        drop(gate.arrivals(2));
        let mut pids = futures.map(|future| {
            let (pid, greeting) = future.result().unwrap();
            assert_eq!(greeting, Some(("salve".to_owned(), 1)));
            pid.to_string()
        });
        drop(gate);
        assert_eq!(pool.map(double, 0..50).filter(Result::is_ok).count(), 50);
        pids.sort();
        let mut initialised = journal.lines();
        initialised.sort();
        assert_eq!(initialised, pids);
        assert!(GREETING.get().is_none(), "nothing of it happened in the host");
    });
}

fn has_no_licence(of: String) {
    panic!("no licence of {of}");
}

#[test]
fn p16_an_initializer_that_fails_breaks_the_pool_and_is_the_cause() {
    watchdog("p16 failing initializer", LIMIT, || {
        let pool = ProcessPoolExecutor::builder()
            .max_workers(2)
            .initializer(has_no_licence, "mine".to_owned())
            .build()
            .unwrap();
        let queued: Vec<_> = (0..20).map(|n| pool.submit(double, n)).collect();
        let broken = |outcome: Result<u32, Error>| {
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains("no licence of mine"), "{error}");
            let Error::Broken { cause: Some(cause), .. } = error else { panic!("{error:?}") };
            let panic = panic_of::<()>(Err(Error::clone(&cause)));
            assert_eq!(panic.message(), "no licence of mine");
            assert!(panic.location().is_some_and(|place| place.contains("p_processes.rs")));
        };
        queued.into_iter().for_each(|future| broken(future.result()));
        broken(pool.submit(double, 1).result());
        pool.map(double, 0..3).for_each(broken);
        assert!(pool.shutdown_timeout(LONG));
    });
}

#[test]
fn p17_a_worker_is_replaced_after_so_many_tasks() {
    watchdog("p17 so many tasks", LIMIT, || {
        let builder = || ProcessPoolExecutor::builder().max_workers(1);
        for (limit, tasks, expected) in [(1, 5, 5), (2, 6, 3), (3, 7, 3), (100, 7, 1)] {
            let pool = builder().max_tasks_per_child(limit).build().unwrap();
            let pids: Vec<u32> = (0..tasks).map(|n| pool.submit(pid, n).result().unwrap()).collect();
            assert_eq!(pids.iter().collect::<HashSet<_>>().len(), expected, "{pids:?}");
            assert!(pids.chunks(limit).all(|chunk| chunk.iter().all(|pid| *pid == chunk[0])), "{pids:?}");
        }
        // A chunk is one task.
        let pool = builder().max_tasks_per_child(1).build().unwrap();
        let map = pool.map_with(pid, 0..6, MapOptions::new().chunksize(2));
        let pids: Vec<u32> = map.collect::<Result<_, _>>().unwrap();
        assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 3);
        // Panics count, too, and the initializer runs again in the new worker.
        let journal = Journal::new();
        let pool = builder()
            .max_tasks_per_child(1)
            .initializer(greet, (journal.page(), String::new()))
            .build()
            .unwrap();
        for n in 0..3 {
            assert!(pool.submit(crate::engines::explode, n).result().is_err());
        }
        pool.shutdown();
        assert_eq!(journal.lines().len(), 3);
    });
}

fn recycling(max_workers: usize, max_tasks: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(max_workers).max_tasks_per_child(max_tasks).build().unwrap()
}

/// Returns when the process is gone and was waited for.
fn until_gone(pid: u32) {
    // Nobody but its host is told.
    while fs::exists(format!("/proc/{pid}")).unwrap() {
        std::thread::yield_now();
    }
}

/// It does not wait for the call that would be one too many.
#[test]
fn p17_a_worker_leaves_right_after_its_last_task() {
    watchdog("p17 leaves", LIMIT, || {
        let pool = recycling(1, 2);
        let first = pool.submit(pid, 0).result().unwrap();
        assert_eq!(pool.submit(pid, 1).result().unwrap(), first);
        until_gone(first);
        assert!(pool.worker_pids().is_empty(), "the next one is started when it is needed");
        assert_ne!(pool.submit(pid, 2).result().unwrap(), first);
        assert!(matches!(
            ProcessPoolExecutor::builder().max_tasks_per_child(0).build(),
            Err(Error::InvalidArgument { what, .. }) if what.contains("max_tasks_per_child")
        ));
    });
}

/// However many tasks are waiting when it leaves, and however few workers there are.
#[test]
fn p17_what_is_queued_behind_the_last_task_of_a_worker_is_done() {
    watchdog("p17 queued", LIMIT, || {
        for (workers, max_tasks) in [(1, 1), (1, 3), (2, 1), (3, 4)] {
            let pool = recycling(workers, max_tasks);
            let gate = Turnstile::new();
            let held: Vec<_> = (0..workers as u32).map(|n| pool.submit(pass, gate.ticket(n))).collect();
            let arrivals = gate.arrivals(workers);
            let queued: Vec<_> = (0..10).map(|n| pool.submit(pid, n)).collect();
            drop(arrivals);
            assert!(held.into_iter().all(|future| future.result().is_ok()));
            let mut tasks_of = std::collections::HashMap::new();
            for future in queued {
                *tasks_of.entry(future.result().unwrap()).or_insert(0) += 1;
            }
            assert!(tasks_of.values().all(|tasks| *tasks <= max_tasks), "{tasks_of:?}");
        }
    });
}

/// `shutdown` comes while all is still to be done.
#[test]
fn p17_recycling_goes_on_during_shutdown() {
    watchdog("p17 shutdown", LIMIT, || {
        let pool = recycling(3, 1);
        let futures: Vec<_> = (0..6).map(|n| pool.submit(pid, n)).collect();
        pool.shutdown();
        let pids: HashSet<u32> = futures.into_iter().map(|future| future.result().unwrap()).collect();
        assert_eq!(pids.len(), 6);
        assert!(pool.worker_pids().is_empty());
    });
}

/// The pool is left alone, in one way or another, while its worker runs the last task it may run and
/// others wait.
#[test]
fn p18_recycling_goes_on_until_all_is_done() {
    watchdog("p18", LIMIT, || {
        let leave: [fn(ProcessPoolExecutor) -> Option<ProcessPoolExecutor>; 3] = [
            |pool| {
                pool.shutdown_with(Shutdown { wait: false, cancel_futures: false });
                Some(pool)
            },
            |pool| {
                pool.shutdown_with(Shutdown { wait: false, cancel_futures: false });
                std::thread::spawn(move || drop(pool));
                None
            },
            |pool| {
                std::thread::spawn(move || drop(pool));
                None
            },
        ];
        for leave in leave {
            for (workers, max_tasks) in [(1, 1), (2, 1), (2, 3)] {
                let pool = recycling(workers, max_tasks);
                let gate = Turnstile::new();
                let held: Vec<_> = (0..workers as u32).map(|n| pool.submit(pass, gate.ticket(n))).collect();
                let arrivals = gate.arrivals(workers);
                let queued: Vec<_> = (0..10).map(|n| pool.submit(pid, n)).collect();
                let pool = leave(pool);
                drop(arrivals);
                assert!(held.into_iter().all(|future| future.result().is_ok()));
                let pids: HashSet<u32> = queued.into_iter().map(|future| future.result().unwrap()).collect();
                assert!(pids.len() >= 10 / max_tasks, "{pids:?}");
                pids.into_iter().for_each(until_gone);
                assert!(pool.is_none_or(|pool| pool.shutdown_timeout(LONG) && pool.worker_pids().is_empty()));
            }
        }
    });
}

const FORCED_ENDS: [fn(&ProcessPoolExecutor); 2] =
    [ProcessPoolExecutor::terminate_workers, ProcessPoolExecutor::kill_workers];

#[test]
fn p19_a_forced_end_can_come_at_any_time_and_again() {
    watchdog("p19 at any time", LIMIT, || {
        for end in FORCED_ENDS {
            let refused = |pool: &ProcessPoolExecutor| match pool.submit(double, 1).result() {
                Err(Error::ShutDown { .. }) => assert!(pool.shutdown_timeout(LONG)),
                other => panic!("{other:?}"),
            };
            let unused = processes(2);
            end(&unused); // there is no worker yet
            refused(&unused);
            assert!(unused.worker_pids().is_empty());

            let idle = processes(2);
            idle.submit(double, 1).wait();
            (0..3).for_each(|_| end(&idle));
            refused(&idle);
            end(&idle); // there is no worker any more
            refused(&idle);

            let over = processes(1);
            over.submit(double, 1).wait();
            over.shutdown();
            end(&over);
            refused(&over);

            let broken =
                ProcessPoolExecutor::builder().initializer(has_no_licence, String::new()).build().unwrap();
            broken.submit(double, 1).wait();
            end(&broken);
            assert!(matches!(broken.submit(double, 1).result(), Err(Error::Broken { .. })));
            assert!(broken.shutdown_timeout(LONG));
        }
    });
}

/// It cancels, kills, and returns: the queue is empty and the pool closed when it does.
#[test]
fn p19_a_forced_end_cancels_what_waits_and_refuses_what_comes() {
    watchdog("p19 cancels", LIMIT, || {
        for end in FORCED_ENDS {
            let pool = processes(1);
            let gate = Turnstile::new();
            let held = pool.submit(pass, gate.ticket(0));
            let _arrival = gate.arrival();
            let queued: Vec<_> = (0..3).map(|n| pool.submit(double, n)).collect();
            end(&pool);
            assert!(queued.iter().all(Future::cancelled));
            assert!(matches!(pool.submit(double, 1).result(), Err(Error::ShutDown { .. })));
            assert!(matches!(held.result(), Err(Error::WorkerDied { .. })));
        }
    });
}

/// A pool of processes in a task of a pool of processes.
fn nested(n: u32) -> Vec<u32> {
    let pool = ProcessPoolExecutor::new(1).unwrap();
    let inner = pool.submit(pid, n);
    let threads = ThreadPoolExecutor::new(1).unwrap();
    let doubled: Future<u32> = threads.submit(double, n);
    vec![std::process::id(), inner.result().unwrap(), doubled.result().unwrap()]
}

#[test]
fn p21_a_task_may_have_a_process_pool_of_its_own() {
    watchdog("p21 nested", LIMIT, || {
        let pool = processes(1);
        let answer = pool.submit(nested, 21).result().unwrap();
        let pids: HashSet<u32> = [std::process::id(), answer[0], answer[1]].into();
        assert_eq!((pids.len(), answer[2]), (3, 42));
    });
}

/// Tells whether a type may be an argument: the method of the type itself comes before that of the trait.
struct Probe<T>(PhantomData<T>);

trait StaysAtHome {
    fn travels(&self) -> bool {
        false
    }
}

impl<T> StaysAtHome for Probe<T> {}

impl<T: Portable> Probe<T> {
    fn travels(&self) -> bool {
        true
    }
}

/// A task cannot wait for its own pool, because it cannot have it.
#[test]
fn p22_neither_pools_nor_futures_can_be_sent_to_a_task() {
    assert!(Probe(PhantomData::<(u32, String)>).travels());
    assert!(!Probe(PhantomData::<ProcessPoolExecutor>).travels());
    assert!(!Probe(PhantomData::<ThreadPoolExecutor>).travels());
    assert!(!Probe(PhantomData::<Arc<ProcessPoolExecutor>>).travels());
    assert!(!Probe(PhantomData::<Box<dyn Executor>>).travels());
    assert!(!Probe(PhantomData::<Future<u32>>).travels());
    assert!(!Probe(PhantomData::<SharedFuture<u32>>).travels());
    assert!(!Probe(PhantomData::<Vec<Future<u32>>>).travels());
}

/// Writes down which process gave it back.
#[derive(Serialize, Deserialize)]
struct Loan(Page);

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.note(std::process::id());
    }
}

#[test]
fn p26_a_worker_has_freed_the_argument_and_the_return_value_when_the_result_is_known() {
    watchdog("p26 freed", LIMIT, || {
        let pool = processes(1);
        let (host, worker) =
            (std::process::id().to_string(), pool.submit(pid, 0).result().unwrap().to_string());
        let journal = Journal::new();
        pool.submit(|loan: Loan| drop(loan), Loan(journal.page())).result().unwrap();
        assert_eq!(journal.lines(), [&*host, &*worker], "the argument: first where it was encoded");
        let kept = pool.submit(|loan: Loan| loan, Loan(journal.page())).result().unwrap();
        assert_eq!(journal.lines()[2..], [&*host, &*worker], "the return value: where it was encoded");
        drop(kept);
        assert_eq!(journal.lines()[4..], [&*host]);
    });
}

/// In kB, what a process has in memory.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A large call leaves no large buffer behind in a worker that waits for the next.
#[test]
fn p26_an_idle_worker_has_given_back_the_memory_of_its_last_call() {
    watchdog("p26 memory", LIMIT, || {
        let pool = processes(1);
        let worker = pool.submit(pid, 0).result().unwrap();
        let limit = resident(worker) + (16 << 10);
        let size = 64 << 20;
        assert_eq!(pool.submit(|text: String| text.len(), "x".repeat(size)).result().unwrap(), size);
        assert_eq!(pool.submit(|size: usize| "x".repeat(size), size).result().unwrap().len(), size);
        assert_eq!(pool.submit(|text: String| text, "x".repeat(size)).result().unwrap().len(), size);
        // The reply is sent before the buffers are looked after.
        while resident(worker) > limit {
            std::thread::yield_now();
        }
    });
}

#[test]
fn p28_fifteen_times_as_many_held_calls_as_workers_start_no_more_workers() {
    watchdog("p28", LIMIT, || {
        for max_workers in [1, 4] {
            let pool = processes(max_workers);
            let gate = Turnstile::new();
            let count = 15 * max_workers as u32;
            let futures: Vec<_> = (0..count).map(|n| pool.submit(pass, gate.ticket(n))).collect();
            let mut workers = HashSet::new();
            for _ in 0..15 {
                let arrivals = gate.arrivals(max_workers);
                assert_eq!(pool.worker_pids().len(), max_workers);
                workers.extend(arrivals.into_iter().map(|arrival| arrival.who.clone()));
            }
            assert_eq!(workers.len(), max_workers);
            assert!((0..).zip(futures).all(|(n, future)| future.result().is_ok_and(|value| value == n)));
        }
    });
}
