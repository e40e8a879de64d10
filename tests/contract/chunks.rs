//! The items of a chunk, which are calls of their own, though what is around a call is around many of them at once.
//!
//! Not here: the results of chunks of every size (`m_map.rs`); arguments and return values that do not travel
//! (`p_processes.rs`). The rule: nothing that an item does is seen in the outcome of another.

use std::collections::HashMap;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

use concurrent_futures::{Error, Executor, MapOptions, ThreadPoolExecutor, task};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::common::{LIMIT, watchdog};
use crate::engines::{panic_of, processes};

contract!(
    [
        panics_and_errors_wherever_they_are_in_a_chunk_are_their_items_own,
        each_item_of_a_chunk_is_a_first_attempt,
        what_an_item_has_caught_itself_is_not_told_of_a_later_one,
        each_item_of_a_chunk_is_dropped_once,
    ],
    []
);

registered!([another_unless, attempt_unless, catch_or_resume, alive], [as_its_digit_says]);

fn in_chunks_of(items: usize) -> MapOptions {
    MapOptions::new().chunksize(items)
}

const ITEMS: u32 = 3;
const ENDS: u32 = 4;
const FIRST_PLACE: u32 = line!() + 6;

/// Item `n` of a chunk, which ends as the digit `n` of its number says.
fn as_its_digit_says((chunk, n): (u32, u32)) -> Result<u32, String> {
    match chunk / ENDS.pow(n) % ENDS {
        0 => Ok(n),
        1 => panic!("one of {n}"),
        2 => panic!("two of {n}"),
        _ => Err(format!("three of {n}")),
    }
}

/// All the chunks there are.
fn digits() -> Vec<(u32, u32)> {
    (0..ENDS.pow(ITEMS)).flat_map(|chunk| (0..ITEMS).map(move |n| (chunk, n))).collect()
}

#[track_caller]
fn assert_as_its_digit_says((chunk, n): (u32, u32), outcome: Result<u32, Error>) {
    let digit = chunk / ENDS.pow(n) % ENDS;
    match (digit, outcome) {
        (0, Ok(value)) => assert_eq!(value, n),
        (1 | 2, Err(Error::Panicked { task, panic })) => {
            assert!(task.name.ends_with("as_its_digit_says"), "{}", task.name);
            assert_eq!(panic.message(), format!("{} of {n}", ["one", "two"][digit as usize - 1]));
            let place = format!("chunks.rs:{}:", FIRST_PLACE + digit - 1);
            assert!(panic.location().unwrap().contains(&place), "{:?} is not {place}", panic.location());
        }
        (3, Err(error @ Error::Raised { .. })) => {
            assert!(error.to_string().contains(&format!("three of {n}")), "{error}");
        }
        (_, other) => panic!("item {n} of {chunk}: {other:?}"),
    }
}

fn panics_and_errors_wherever_they_are_in_a_chunk_are_their_items_own<E: Executor>(
    make: impl Fn(usize) -> E,
) {
    let executor = make(2);
    let outcomes = executor.try_map_with(as_its_digit_says, digits(), in_chunks_of(ITEMS as usize));
    assert_eq!(outcomes.len(), digits().len());
    digits().into_iter().zip(outcomes).for_each(|(item, outcome)| assert_as_its_digit_says(item, outcome));
}

/// Closures that do not travel have chunks of another kind.
#[test]
fn the_same_holds_for_a_thread_pools_own_chunks() {
    watchdog("a thread pool's own chunks", LIMIT, || {
        let pool = ThreadPoolExecutor::new(2).unwrap();
        let outcomes = pool.try_map_with(as_its_digit_says, digits(), in_chunks_of(ITEMS as usize));
        assert_eq!(outcomes.len(), digits().len());
        digits()
            .into_iter()
            .zip(outcomes)
            .for_each(|(item, outcome)| assert_as_its_digit_says(item, outcome));
    });
}

fn attempt_unless(panics: bool) -> u32 {
    assert!(!panics, "asked for");
    task::attempt()
}

fn each_item_of_a_chunk_is_a_first_attempt<E: Executor>(make: impl Fn(usize) -> E) {
    let items = [false, true, false, false, true, true, false];
    let attempts: Vec<_> =
        make(1).map_with(attempt_unless, items, in_chunks_of(items.len())).map(Result::ok).collect();
    assert_eq!(attempts, items.map(|panics| if panics { None } else { Some(1) }));
    assert_eq!(task::attempt(), 0, "the calls are over");
}

/// A panic that the hook has seen and its item caught, or one that no hook sees.
fn catch_or_resume(resume: bool) {
    if resume {
        resume_unwind(Box::new("bare"));
    }
    catch_unwind(|| panic!("its own affair")).unwrap_err();
}

fn what_an_item_has_caught_itself_is_not_told_of_a_later_one<E: Executor>(make: impl Fn(usize) -> E) {
    let items = [true, false, true, true, false, false, true];
    for (resume, outcome) in
        items.into_iter().zip(make(1).map_with(catch_or_resume, items, in_chunks_of(items.len())))
    {
        if resume {
            let panic = panic_of(outcome);
            assert_eq!((panic.message(), panic.location(), panic.backtrace()), ("bare", None, None));
        } else {
            outcome.unwrap();
        }
    }
}

/// Counts its likes in the process that it is in.
struct Counted(u32);

static COUNTS: LazyLock<Mutex<HashMap<u32, isize>>> = LazyLock::new(Mutex::default);

fn count(kind: u32, change: isize) -> isize {
    let mut counts = COUNTS.lock().unwrap();
    let count = counts.entry(kind).or_default();
    *count += change;
    *count
}

impl Counted {
    fn new(kind: u32) -> Self {
        count(kind, 1);
        Counted(kind)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        count(self.0, -1);
    }
}

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Counted::new)
    }
}

fn another_unless((counted, panics): (Counted, bool)) -> Counted {
    let another = Counted::new(counted.0);
    assert!(!panics, "asked for");
    another
}

fn alive(kind: u32) -> isize {
    count(kind, 0)
}

fn each_item_of_a_chunk_is_dropped_once<E: Executor>(make: impl Fn(usize) -> E) {
    static KINDS: AtomicU32 = AtomicU32::new(0);
    let kind = KINDS.fetch_add(1, Ordering::SeqCst);
    let executor = make(1);
    let items = [true, false, true, true, false, true].map(|panics| (Counted::new(kind), panics));
    let outcomes: Vec<_> = executor.map_with(another_unless, items, in_chunks_of(6)).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    // Where the calls were made, too. That the results are here says that theirs are dropped there.
    let among_the_calls = executor.submit(alive, kind).result().unwrap();
    assert!(among_the_calls == 0 || among_the_calls == 2, "{among_the_calls}");
    drop(outcomes);
    assert_eq!((alive(kind), executor.submit(alive, kind).result().unwrap()), (0, 0));
}

/// A value that travels, and panics when the one that has travelled is dropped.
struct Touchy(u32, bool);

impl Drop for Touchy {
    fn drop(&mut self) {
        assert!(!self.1, "{} is dropped", self.0);
    }
}

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(|n| Touchy(n, false))
    }
}

#[test]
fn a_return_value_that_panics_when_it_is_dropped_costs_its_own_item() {
    watchdog("touchy return values", LIMIT, || {
        let pool = processes(1);
        let outcomes = pool.map_with(|n| Touchy(n, n % 3 != 1), 0..6, in_chunks_of(6));
        for (n, outcome) in (0..).zip(outcomes) {
            match outcome {
                Ok(value) => assert!(n % 3 == 1 && value.0 == n),
                Err(error) => {
                    assert!(n % 3 != 1);
                    assert_eq!(panic_of(Err::<(), _>(error)).message(), format!("{n} is dropped"));
                }
            }
        }
    });
}
