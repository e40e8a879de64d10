//! What only process pools have, beyond the clauses of parity (`p_processes.rs`): the environment and
//! the names of their workers, functions of every kind, and what a builder refuses.

use std::collections::HashMap;
use std::fs;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::common::{Drops, LIMIT, Turnstile, watchdog};
use crate::engines::{double, pass, processes};
use crate::p_processes::{Fragile, describe};

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
