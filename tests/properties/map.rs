//! `map` against the standard library's: any items, any options, the whole or a part.
//!
//! Not here: which items wait for which (`tests/contract/map.rs`).

use std::sync::{Arc, Mutex};

use concurrent_futures::{
    Error, Executor, Map, MapOptions, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor,
};
use proptest::prelude::*;

use crate::common::{LONG, watchdog};
use crate::{check, limit};

/// What becomes of an item, without the parts that differ from run to run.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Value(i64),
    Panic(String),
    Err(String),
}

/// The plain function, and what it does to some items.
fn halve(n: i64) -> i64 {
    assert!(n % 7 != 0, "{n} is sevenfold");
    n / 2
}

fn try_halve(n: i64) -> Result<i64, String> {
    if n % 5 == 0 { Err(format!("{n} is fivefold")) } else { Ok(halve(n)) }
}

fn fate_of_halve(n: i64) -> Fate {
    if n % 7 == 0 { Fate::Panic(format!("{n} is sevenfold")) } else { Fate::Value(n / 2) }
}

fn fate_of_try_halve(n: i64) -> Fate {
    if n % 5 == 0 { Fate::Err(format!("{n} is fivefold")) } else { fate_of_halve(n) }
}

fn fate(outcome: Result<i64, Error>) -> Fate {
    match outcome {
        Ok(value) => Fate::Value(value),
        Err(Error::Panicked { panic, .. }) => Fate::Panic(panic.message().to_owned()),
        Err(Error::Raised { error, .. }) => Fate::Err(error.to_string()),
        Err(error) => panic!("{error:?}"),
    }
}

fn fates(map: Map<'_, i64>) -> Vec<Fate> {
    map.map(fate).collect()
}

prop_compose! {
    fn options()(
        chunksize in prop::option::of(1..20_usize),
        buffersize in prop::option::of(1..20_usize),
        timeout in any::<bool>(),
    ) -> MapOptions {
        let mut options = MapOptions::new();
        if let Some(items) = chunksize {
            options = options.chunksize(items);
        }
        if let Some(items) = buffersize {
            options = options.buffersize(items);
        }
        if timeout {
            options = options.timeout(LONG);
        }
        options
    }
}

fn items() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(prop_oneof![any::<i64>(), -50..50_i64], 0..60)
}

/// One executor for all cases: whatever a case leaves behind would disturb the next.
fn map_is_the_serial_map(executor: &impl Executor, cases: u32) {
    check(cases, (items(), options()), |(items, options)| {
        let expected: Vec<Fate> = items.iter().copied().map(fate_of_halve).collect();
        let map = executor.map_with(halve, items.clone(), options);
        prop_assert_eq!(map.len(), items.len());
        prop_assert_eq!(fates(map), &expected[..]);
        prop_assert_eq!(fates(executor.map(halve, items.clone())), expected);
        let expected: Vec<Fate> = items.iter().copied().map(fate_of_try_halve).collect();
        prop_assert_eq!(fates(executor.try_map(try_halve, items)), expected);
        Ok(())
    });
}

/// With so many items that a pool takes many at a time, whatever becomes of which, and however many workers there are.
#[test]
fn long_maps_of_threads_are_the_serial_map() {
    watchdog("long maps", limit(), || {
        let items = prop::collection::vec(prop_oneof![9 => Just(1_i64), 1 => -50..50_i64], 0..5000);
        check(64, (items, 1..5_usize, 0..6000_usize), |(items, workers, part)| {
            let pool = ThreadPoolExecutor::new(workers).unwrap();
            let expected: Vec<Fate> = items.iter().copied().map(fate_of_try_halve).collect();
            let map = pool.try_map(try_halve, items.clone());
            prop_assert_eq!(map.len(), items.len());
            prop_assert_eq!(fates(map), &expected[..]);
            let unordered = Executor::try_map(&pool, try_halve, items.clone()).unordered();
            let mut seen: Vec<(usize, Fate)> =
                unordered.map(|(index, outcome)| (index, fate(outcome))).collect();
            seen.sort_by_key(|(index, _)| *index);
            prop_assert_eq!(seen, expected.iter().cloned().enumerate().collect::<Vec<_>>());
            let some: Vec<_> = pool.try_map(try_halve, items).take(part).map(fate).collect();
            prop_assert_eq!(&some[..], &expected[..part.min(expected.len())]);
            Ok(())
        });
    });
}

/// Taking a part and leaving the rest: what comes out is right, and the next case is not harmed.
fn a_part_of_a_map_is_a_part_of_the_serial_map(executor: &impl Executor, cases: u32) {
    check(cases, (items(), options(), 0..70_usize), |(items, options, part)| {
        let expected: Vec<Fate> = items.iter().copied().map(fate_of_halve).take(part).collect();
        let mut map = executor.map_with(halve, items, options);
        let taken: Vec<_> = map.by_ref().take(part).collect();
        drop(map);
        prop_assert_eq!(taken.len(), expected.len());
        for (outcome, expected) in taken.into_iter().zip(expected) {
            prop_assert_eq!(outcome.ok(), if let Fate::Value(value) = expected { Some(value) } else { None });
        }
        Ok(())
    });
}

/// Out of order every item has its own index and its own result, and is reported once.
fn an_unordered_map_is_the_serial_map_in_another_order(executor: &impl Executor, cases: u32) {
    check(cases, (items(), options()), |(items, options)| {
        let expected: Vec<Fate> = items.iter().copied().map(fate_of_try_halve).collect();
        let reports = Arc::new(Mutex::new(Vec::new()));
        let report = Arc::clone(&reports);
        let options = options.on_item_done(move |index, outcome| {
            report.lock().unwrap().push((index, outcome.is_ok()));
        });
        let map = executor.try_map_with(try_halve, items, options).unordered();
        prop_assert_eq!(map.len(), expected.len());
        let mut seen: Vec<(usize, Fate)> = map.map(|(index, outcome)| (index, fate(outcome))).collect();
        seen.sort_by_key(|(index, _)| *index);
        prop_assert_eq!(&seen, &expected.iter().cloned().enumerate().collect::<Vec<_>>());
        let mut reports = reports.lock().unwrap().clone();
        reports.sort_unstable();
        let all = expected.iter().map(|fate| matches!(fate, Fate::Value(_))).enumerate();
        prop_assert_eq!(reports, all.collect::<Vec<_>>());
        Ok(())
    });
}

/// What comes out of one that fails fast is the serial map up to its first error.
fn a_map_that_fails_fast_ends_at_the_first_error(executor: &impl Executor, cases: u32) {
    check(cases, (items(), options()), |(items, options)| {
        let fates_of_all: Vec<Fate> = items.iter().copied().map(fate_of_halve).collect();
        let good = fates_of_all.iter().take_while(|fate| matches!(fate, Fate::Value(_))).count();
        let expected = &fates_of_all[..fates_of_all.len().min(good + 1)];
        let map = executor.map_with(halve, items, options.fail_fast(true));
        prop_assert_eq!(&fates(map)[..], expected);
        Ok(())
    });
}

#[test]
fn map_of_the_serial_executor_is_the_serial_map() {
    watchdog("serial map", limit(), || {
        let executor = SerialExecutor::new();
        map_is_the_serial_map(&executor, 256);
        a_part_of_a_map_is_a_part_of_the_serial_map(&executor, 256);
        an_unordered_map_is_the_serial_map_in_another_order(&executor, 256);
        a_map_that_fails_fast_ends_at_the_first_error(&executor, 256);
    });
}

#[test]
fn map_of_threads_is_the_serial_map() {
    watchdog("threads map", limit(), || {
        let executor = ThreadPoolExecutor::new(2).unwrap();
        map_is_the_serial_map(&executor, 256);
        a_part_of_a_map_is_a_part_of_the_serial_map(&executor, 256);
        an_unordered_map_is_the_serial_map_in_another_order(&executor, 256);
        a_map_that_fails_fast_ends_at_the_first_error(&executor, 256);
    });
}

#[test]
fn map_of_processes_is_the_serial_map() {
    watchdog("processes map", limit(), || {
        let executor = ProcessPoolExecutor::new(2).unwrap();
        map_is_the_serial_map(&executor, 256);
        a_part_of_a_map_is_a_part_of_the_serial_map(&executor, 256);
        an_unordered_map_is_the_serial_map_in_another_order(&executor, 256);
        a_map_that_fails_fast_ends_at_the_first_error(&executor, 256);
    });
}

/// Values of every shape come back as they went.
#[test]
fn what_travels_comes_back_as_it_was() {
    type Value = (Vec<u8>, String, Option<f64>, std::collections::BTreeMap<u16, Result<char, ()>>, [i128; 2]);

    let value = (
        any::<Vec<u8>>(),
        any::<String>(),
        prop::option::of(prop::num::f64::NORMAL),
        prop::collection::btree_map(any::<u16>(), any::<Result<char, ()>>(), 0..5),
        any::<[i128; 2]>(),
    );
    watchdog("values", limit(), || {
        let pool = ProcessPoolExecutor::new(1).unwrap();
        check(256, value, |value: Value| {
            let future = pool.submit(|value: Value| value, value.clone());
            prop_assert_eq!(future.result().map_err(|error| error.to_string()), Ok(value));
            Ok(())
        });
    });
}
