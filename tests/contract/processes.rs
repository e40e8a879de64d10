//! What only process pools promise: workers that are other processes, and what may travel there.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use concurrent_futures::{Error, Executor, Future, MapOptions, ProcessPoolExecutor, ThreadPoolExecutor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::common::{Drops, Journal, LIMIT, LONG, Page, Turnstile, watchdog};
use crate::engines::{double, panic_of, pass, processes};

fn pid(_: u32) -> u32 {
    std::process::id()
}

#[test]
fn calls_run_in_another_process_and_idle_workers_are_used_again() {
    watchdog("other process", LIMIT, || {
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
fn workers_are_started_when_they_are_needed_and_no_more_than_allowed() {
    watchdog("processes on demand", LIMIT, || {
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
fn the_initializer_runs_in_each_worker_before_its_first_task() {
    watchdog("process initializer", LIMIT, || {
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
fn an_initializer_that_fails_breaks_the_pool_for_all_that_is_queued_and_all_that_comes() {
    watchdog("failing process initializer", LIMIT, || {
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
            assert!(panic.location().is_some_and(|place| place.contains("processes.rs")));
        };
        queued.into_iter().for_each(|future| broken(future.result()));
        broken(pool.submit(double, 1).result());
        pool.map(double, 0..3).for_each(broken);
        assert!(pool.shutdown_timeout(LONG));
    });
}

#[test]
fn a_worker_is_replaced_after_so_many_tasks() {
    watchdog("max_tasks_per_child", LIMIT, || {
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

#[test]
fn the_environment_of_the_workers_can_be_added_to() {
    watchdog("env", LIMIT, || {
        let pool = ProcessPoolExecutor::builder()
            .max_workers(1)
            .env("CONCURRENT_FUTURES_TEST_A", "one")
            .env("CONCURRENT_FUTURES_TEST_B", "two = 2")
            .env("CONCURRENT_FUTURES_TEST_A", "the last one wins")
            .build()
            .unwrap();
        let get = |name: &str| {
            pool.submit(|name: String| std::env::var(name).ok(), name.to_owned()).result().unwrap()
        };
        assert_eq!(get("CONCURRENT_FUTURES_TEST_A").as_deref(), Some("the last one wins"));
        assert_eq!(get("CONCURRENT_FUTURES_TEST_B").as_deref(), Some("two = 2"));
        assert_eq!(get("PATH"), std::env::var("PATH").ok(), "the rest is the host's");
        assert!(std::env::var_os("CONCURRENT_FUTURES_TEST_A").is_none());
    });
}

#[test]
fn workers_carry_the_name_of_their_pool() {
    watchdog("name", LIMIT, || {
        let pool = ProcessPoolExecutor::builder().max_workers(2).name("resizers").build().unwrap();
        let gate = Turnstile::new();
        let futures = [0, 1].map(|n| pool.submit(pass, gate.ticket(n)));
        let arrivals = gate.arrivals(2);
        let mut names: Vec<String> = pool
            .worker_pids()
            .iter()
            .map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap())
            .map(|line| line.trim_end_matches('\0').rsplit(' ').next().unwrap().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["resizers_0", "resizers_1"]);
        drop(arrivals);
        assert!(futures.into_iter().all(|future| future.result().is_ok()));
    });
}

fn uppercase(text: String) -> String {
    text.to_uppercase()
}

/// The type is the program: each instance is a function of its own.
fn generic<T: std::ops::Add<Output = T> + Copy, const TIMES: usize>(value: T) -> T {
    (1..TIMES).fold(value, |sum, _| sum + value)
}

trait Shape {
    fn corners(of: u8) -> u8;
}

struct Square;

impl Shape for Square {
    fn corners(of: u8) -> u8 {
        of * 4
    }
}

#[test]
fn functions_of_every_kind_travel() {
    watchdog("functions", LIMIT, || {
        let pool = processes(2);
        assert_eq!(pool.submit(double, 4).result().unwrap(), 8);
        assert_eq!(pool.submit(generic::<u64, 3>, 5).result().unwrap(), 15);
        assert_eq!(pool.submit(generic::<f32, 2>, 0.5).result().unwrap(), 1.0);
        assert_eq!(pool.submit(Square::corners, 3).result().unwrap(), 12);
        assert_eq!(pool.submit(<Square as Shape>::corners, 2).result().unwrap(), 8);
        assert_eq!(pool.submit(uppercase, "ä".to_owned()).result().unwrap(), "Ä");
        assert_eq!(pool.submit(Some::<u8>, 1).result().unwrap(), Some(1));
        assert_eq!(
            pool.submit(|(a, b, c): (u8, String, [bool; 2])| (c, b, a), (1, "b".to_owned(), [true, false]))
                .result()
                .unwrap(),
            ([true, false], "b".to_owned(), 1)
        );
        let sum = |numbers: Vec<u64>| numbers.iter().sum::<u64>();
        let (first, second) = (pool.submit(sum, vec![1, 2]), pool.submit(sum, vec![]));
        assert_eq!((first.result().unwrap(), second.result().unwrap()), (3, 0));
        let lookup: HashMap<String, Option<char>> =
            pool.submit(|key| HashMap::from([(key, Some('x'))]), "k".to_owned()).result().unwrap();
        assert_eq!(lookup["k"], Some('x'));
    });
}

#[test]
fn a_change_after_submit_is_not_seen() {
    watchdog("mutation", LIMIT, || {
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
enum Fragile {
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
fn describe<T>(outcome: Result<T, Error>) -> String {
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

#[test]
fn an_argument_that_cannot_travel_costs_its_own_call() {
    watchdog("fragile arguments", LIMIT, || {
        let pool = processes(1);
        let before = pool.submit(pid, 0).result().unwrap();
        for (fragile, expected) in ARGUMENTS {
            let (left, bad, right) = (
                pool.submit(number_of, Fragile::Whole(1)),
                pool.submit(number_of, fragile),
                pool.submit(number_of, Fragile::Whole(2)),
            );
            let id = bad.id();
            let error = bad.result().unwrap_err();
            assert_eq!(error.task().map(|task| task.id), Some(id));
            assert!(error.to_string().contains("processes::number_of"), "{error}");
            assert_eq!(describe::<()>(Err(error)), expected);
            assert_eq!((left.result().unwrap(), right.result().unwrap()), (1, 2));
        }
        // It is known at once, without a worker.
        assert!(pool.submit(number_of, Fragile::NoSerialize).done());
        assert_eq!(pool.submit(pid, 0).result().unwrap(), before, "the worker is the same");
    });
}

#[test]
fn a_return_value_that_cannot_travel_costs_its_own_call() {
    watchdog("fragile return values", LIMIT, || {
        let pool = processes(1);
        let before = pool.submit(pid, 0).result().unwrap();
        for (kind, expected) in RETURNS {
            let (left, bad, right) = (
                pool.submit(make_fragile, 10),
                pool.submit(make_fragile, kind),
                pool.submit(make_fragile, 11),
            );
            let id = bad.id();
            let error = bad.result().unwrap_err();
            assert_eq!(error.task().map(|task| task.id), Some(id));
            assert_eq!(describe::<()>(Err(error)), expected);
            assert_eq!(left.result().unwrap(), Fragile::Whole(10));
            assert_eq!(right.result().unwrap(), Fragile::Whole(11));
        }
        assert_eq!(pool.submit(pid, 0).result().unwrap(), before, "the worker is the same");
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
    for chunksize in [1, 2, 5] {
        let items = [good.clone(), bad.clone(), good.clone(), bad.clone(), good.clone()];
        let outcomes: Vec<_> =
            pool.map_with(function, items, MapOptions::new().chunksize(chunksize)).map(describe).collect();
        assert_eq!(outcomes, ["ok", expected, "ok", expected, "ok"], "chunks of {chunksize}");
    }
}

#[test]
fn an_argument_that_does_not_serialise_costs_its_own_item_of_a_chunk() {
    watchdog("fragile arguments in chunks", LIMIT, || {
        let (bad, expected) = ARGUMENTS[0];
        in_chunks(number_of, Fragile::Whole(1), bad, expected);
    });
}

#[test]
fn an_argument_whose_serialize_panics_costs_its_own_item_of_a_chunk() {
    watchdog("panicking arguments in chunks", LIMIT, || {
        let (bad, expected) = ARGUMENTS[1];
        in_chunks(number_of, Fragile::Whole(1), bad, expected);
    });
}

#[test]
fn an_argument_that_does_not_deserialise_costs_its_own_item_of_a_chunk() {
    watchdog("unreadable arguments in chunks", LIMIT, || {
        for (bad, expected) in &ARGUMENTS[2..] {
            in_chunks(number_of, Fragile::Whole(1), *bad, expected);
        }
    });
}

#[test]
fn a_return_value_that_does_not_serialise_costs_its_own_item_of_a_chunk() {
    watchdog("fragile return values in chunks", LIMIT, || {
        for (bad, expected) in &RETURNS[..2] {
            in_chunks(make_fragile, 10, *bad, expected);
        }
    });
}

#[test]
fn a_return_value_that_does_not_deserialise_costs_its_own_item_of_a_chunk() {
    watchdog("unreadable return values in chunks", LIMIT, || {
        let (bad, expected) = RETURNS[2];
        in_chunks(make_fragile, 10, bad, expected);
    });
}

#[test]
fn a_return_value_whose_deserialize_panics_costs_its_own_item_of_a_chunk() {
    watchdog("panicking return values in chunks", LIMIT, || {
        let (bad, expected) = RETURNS[3];
        in_chunks(make_fragile, 10, bad, expected);
    });
}

/// The bytes stand for the argument: the value itself is gone when `submit` returns.
#[test]
fn an_argument_is_dropped_when_it_has_been_encoded() {
    watchdog("arguments are dropped", LIMIT, || {
        struct Counted(#[allow(dead_code, reason = "it counts its end")] Option<crate::common::Token>);

        impl Serialize for Counted {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                ().serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for Counted {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <()>::deserialize(deserializer).map(|()| Counted(None))
            }
        }

        let pool = processes(1);
        let gate = Turnstile::new();
        let held = pool.submit(pass, gate.ticket(0));
        let arrival = gate.arrival();
        let drops = Drops::new();
        let future = pool.submit(|_: Counted| (), Counted(Some(drops.token())));
        assert_eq!((drops.made(), drops.alive()), (1, 0));
        arrival.release();
        held.wait();
        future.result().unwrap();
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
fn a_task_may_have_a_process_pool_of_its_own() {
    watchdog("nested pools", LIMIT, || {
        let pool = processes(1);
        let answer = pool.submit(nested, 21).result().unwrap();
        let pids: HashSet<u32> = [std::process::id(), answer[0], answer[1]].into();
        assert_eq!((pids.len(), answer[2]), (3, 42));
    });
}

#[test]
fn what_cannot_be_built_says_so() {
    let builder = ProcessPoolExecutor::builder;
    for (part, error) in [
        ("max_workers", ProcessPoolExecutor::new(0).unwrap_err()),
        ("max_tasks_per_child", builder().max_tasks_per_child(0).build().unwrap_err()),
        ("name", builder().name("a\0b").build().unwrap_err()),
        ("environment", builder().env("A=B", "c").build().unwrap_err()),
        ("environment", builder().env("", "c").build().unwrap_err()),
        ("environment", builder().env("A", "c\0").build().unwrap_err()),
    ] {
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let error = builder().initializer(|_: Fragile| (), Fragile::NoSerialize).build().unwrap_err();
    assert_eq!(describe::<()>(Err(error)), "encode argument");
    let error = builder().initializer(|_: Fragile| (), Fragile::PanicSerialize).build().unwrap_err();
    assert_eq!(describe::<()>(Err(error)), "`serialize` panics");
    assert!(builder().build().unwrap().max_workers() >= 1);
}

#[test]
fn a_pool_prints_what_it_is() {
    watchdog("Debug", LIMIT, || {
        let pool = ProcessPoolExecutor::builder().max_workers(2).name("shown").build().unwrap();
        pool.submit(double, 1).wait();
        let open = format!("{pool:?}");
        for part in ["ProcessPoolExecutor", "shown", "max_workers: 2", "workers: 1", "open: true"] {
            assert!(open.contains(part), "{part} is missing: {open}");
        }
        pool.shutdown();
        assert!(format!("{pool:?}").contains("open: false"));
    });
}

#[test]
fn the_default_has_a_worker_for_each_usable_cpu() {
    watchdog("default", LIMIT, || {
        let pool = ProcessPoolExecutor::default();
        assert_eq!(pool.max_workers(), std::thread::available_parallelism().unwrap().get());
        assert_eq!(pool.submit(|n: u32| n + 1, 1).result().unwrap(), 2);
    });
}
