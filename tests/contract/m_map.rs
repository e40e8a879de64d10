//! Parity M: `map`, clause by clause of `tests/PARITY.md`.
//!
//! Not here: what every `map` promises by itself (`map.rs`), random items and options (`tests/properties.rs`).

use std::collections::{BTreeSet, HashMap};
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use concurrent_futures::{Error, Executor, MapOptions, ProcessPoolExecutor, ThreadPoolExecutor};
use serde::{Deserialize, Serialize, Serializer};

use crate::common::{Bomb, Journal, LIMIT, LONG, Page, Ticket, Turnstile, watchdog};
use crate::engines::{as_many, double, explode_on_threes, note, panic_of, pass, refuse_threes};

contract!(
    [
        m1_map_zips_its_inputs_and_stops_at_the_shortest,
        m2_map_takes_all_items_at_the_call,
        m2_map_runs_without_being_iterated,
        m3_a_panic_of_a_lazy_input_comes_in_its_place_and_nothing_is_lost,
        m5_a_limit_that_is_not_reached_changes_nothing,
        m5_the_limit_ends_also_a_map_whose_results_are_always_there,
        m5_the_limit_is_no_error_of_a_map_that_is_complete,
        m6_an_error_is_the_result_of_its_item_alone,
        m6_a_call_that_timed_out_is_not_the_limit_of_the_map,
        m8_chunks_of_any_size_give_the_same_results,
        m9_an_error_in_a_chunk_is_the_result_of_its_item_alone,
        m11_a_chunksize_or_buffersize_of_zero_is_an_error_that_says_so,
        m11_a_buffer_takes_no_more_items_than_it_holds,
        m11_a_buffer_that_its_chunks_do_not_divide_takes_no_more_items_than_it_holds,
        m12_inputs_without_end_are_pulled_as_needed,
        m13_a_buffered_map_gives_what_it_has_then_the_refusal_then_ends,
        m14_what_was_yielded_is_not_kept,
    ],
    [
        m2_map_submits_all_while_the_worker_is_busy,
        m3_a_panic_of_an_input_leaves_map_and_what_was_submitted_ends,
        m4_results_come_in_order_although_they_end_in_another,
        m5_after_the_limit_results_that_are_there_still_come_out,
        m5_after_the_limit_nothing_more_is_submitted,
        m5_the_limit_cancels_also_the_call_that_was_waited_for,
        m7_dropping_a_map_before_its_first_result_cancels_what_has_not_started,
        m7_dropping_a_map_after_its_first_result_cancels_what_has_not_started,
        m10_a_chunk_runs_in_one_worker,
    ]
);

registered!(
    [maybe_pass, note_and_maybe_pass, power, add, add_three, worker_of, <Counted as From<u32>>::from],
    [late]
);

/// Counts what is taken from it.
fn counted<I: Iterator>(items: I) -> (Arc<AtomicUsize>, impl Iterator<Item = I::Item>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    (
        taken,
        items.inspect(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        }),
    )
}

/// Is held, if there is a ticket.
fn maybe_pass((n, ticket): (u32, Option<Ticket>)) -> u32 {
    ticket.map(Ticket::pass);
    n
}

fn note_and_maybe_pass((page, n, ticket): (Page, u32, Option<Ticket>)) -> u32 {
    page.note(n);
    maybe_pass((n, ticket))
}

fn power((base, exponent): (u64, u32)) -> u64 {
    base.pow(exponent)
}

fn add((a, b): (u32, u32)) -> u32 {
    a + b
}

fn add_three(((a, b), c): ((u32, u32), u32)) -> u32 {
    a + b + c
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// The message of a panic that was caught.
fn text_of(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast::<String>().map(|text| *text);
    text.unwrap_or_else(|other| {
        other.downcast::<&str>().map_or_else(|_| "no text".into(), |text| text.to_string())
    })
}

fn m1_map_zips_its_inputs_and_stops_at_the_shortest<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let powers = executor.map(power, (0..10).zip(0..));
    assert_eq!(powers.len(), 10);
    let expected: Vec<_> = (0..10).zip(0..).map(power).collect();
    assert_eq!(powers.collect::<Result<Vec<_>, _>>().unwrap(), expected);
    let sums = executor.map(add_three, (0..4).zip(10..12).zip(100..));
    assert_eq!(sums.collect::<Result<Vec<_>, _>>().unwrap(), [110, 113]);
    assert!(executor.map(power, iter::empty().zip(0..)).next().is_none());
}

fn m2_map_takes_all_items_at_the_call<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (taken, items) = counted(0..100);
    let map = executor.map(double, items);
    assert_eq!(taken.load(Ordering::SeqCst), 100);
    assert_eq!(map.len(), 100);
}

fn m2_map_submits_all_while_the_worker_is_busy<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let count = as_many::<E>(10_000) as u32;
    let items = (0..count).map(|n| (n, (n == 0).then(|| gate.ticket(0))));
    // Would hang here if it waited for the worker, which is held.
    let map = executor.map(maybe_pass, items);
    assert_eq!(map.len(), count as usize);
    gate.arrival().release();
    assert!(map.zip(0..).all(|(outcome, n)| outcome.is_ok_and(|value| value == n)));
}

fn m2_map_runs_without_being_iterated<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let map = executor.map(note, (0..10).map(|n| (journal.page(), n)));
    let options = MapOptions::new().chunksize(3);
    let chunks = executor.map_with(note, (10..20).map(|n| (journal.page(), n)), options);
    executor.shutdown();
    assert_eq!(journal.lines(), numbers(0..20));
    // The results are still there, after the shutdown.
    let results: Result<Vec<_>, _> = map.chain(chunks).collect();
    assert_eq!(results.unwrap(), (0..20).collect::<Vec<_>>());
}

/// Not there: what was submitted runs on, and nobody has a handle on it.
fn m3_a_panic_of_an_input_leaves_map_and_what_was_submitted_ends<E: Executor>(make: impl Fn(usize) -> E) {
    for options in [MapOptions::new(), MapOptions::new().chunksize(2)] {
        let journal = Journal::new();
        let executor = make(1);
        let gate = Turnstile::new();
        let arrival = Mutex::new(None);
        let items = (0..10).map(|n| {
            if n == 5 {
                *arrival.lock().unwrap() = Some(gate.arrival());
                panic!("the input failed");
            }
            (journal.page(), n, (n == 0).then(|| gate.ticket(0)))
        });
        let map = catch_unwind(AssertUnwindSafe(|| executor.map_with(note_and_maybe_pass, items, options)));
        assert_eq!(text_of(map.unwrap_err()), "the input failed");
        drop(arrival);
        assert_eq!(executor.submit(double, 1).result().unwrap(), 2);
        executor.shutdown();
        // The chunk that was under way is finished.
        let lines = journal.lines();
        assert!(["0", "0 1"].contains(&lines.join(" ").as_str()), "{lines:?}");
    }
}

/// There a result that was submitted is lost.
fn m3_a_panic_of_a_lazy_input_comes_in_its_place_and_nothing_is_lost<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for (chunksize, buffersize) in [(1, 1), (1, 2), (2, 2), (3, 7), (4, 4), (1, 100), (100, 100)] {
        let options = MapOptions::new().chunksize(chunksize).buffersize(buffersize);
        let (taken, items) = counted(0..10);
        let items = items.inspect(|n| assert_ne!(*n, 5, "the input failed"));
        let mut map = executor.map_with(double, items, options);
        for n in 0..5 {
            assert_eq!(map.next().unwrap().unwrap(), n * 2, "chunks of {chunksize}, buffer {buffersize}");
        }
        let panic = catch_unwind(AssertUnwindSafe(|| map.next())).unwrap_err();
        assert!(text_of(panic).contains("the input failed"));
        // It is not asked again.
        assert_eq!(map.len(), 0);
        assert!(map.next().is_none() && map.next().is_none());
        assert_eq!(taken.load(Ordering::SeqCst), 6);
    }
    // One that nobody comes to harms nobody.
    let items = (0..).inspect(|_| std::panic::panic_any(Bomb));
    drop(executor.map_with(double, items, MapOptions::new().buffersize(3)));
    assert_eq!(executor.submit(double, 1).result().unwrap(), 2);
}

fn m4_results_come_in_order_although_they_end_in_another<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let gate = Turnstile::new();
    let mut map = executor.map(maybe_pass, (0..3).map(|n| (n, Some(gate.ticket(n)))));
    let mut arrivals = gate.arrivals(3);
    arrivals.sort_by_key(|arrival| arrival.number);
    // The last first.
    while let Some(arrival) = arrivals.pop() {
        arrival.release();
    }
    for n in 0..3 {
        assert_eq!(map.next().unwrap().unwrap(), n);
    }
    assert!(map.next().is_none());
}

fn m5_a_limit_that_is_not_reached_changes_nothing<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for limit in [LONG, Duration::MAX] {
        for options in [MapOptions::new(), MapOptions::new().buffersize(3), MapOptions::new().chunksize(4)] {
            let map = executor.map_with(double, 0..20, options.timeout(limit));
            let expected: Vec<_> = (0..20).map(double).collect();
            assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), expected);
        }
    }
}

fn m5_after_the_limit_results_that_are_there_still_come_out<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let items = (0..6).map(|n| (journal.page(), n, (n == 2).then(|| gate.ticket(2))));
    // Over before it begins; what was done meanwhile comes out all the same.
    let mut map = executor.map_with(note_and_maybe_pass, items, MapOptions::new().timeout(Duration::ZERO));
    let arrival = gate.arrival();
    assert_eq!((map.next().unwrap().unwrap(), map.next().unwrap().unwrap()), (0, 1));
    for _ in 2..6 {
        let error = map.next().unwrap().unwrap_err();
        assert!(matches!(error, Error::TimedOut { limit: Duration::ZERO, .. }), "{error:?}");
    }
    assert!(map.next().is_none());
    arrival.release();
    executor.shutdown();
    assert_eq!(journal.lines(), ["0", "1", "2"], "those that had not started were cancelled");
}

fn m5_after_the_limit_nothing_more_is_submitted<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let (taken, items) = counted((0..).map(|n| (n, (n == 1).then(|| gate.ticket(1)))));
    let options = MapOptions::new().buffersize(3).timeout(Duration::ZERO);
    let mut map = executor.map_with(maybe_pass, items, options);
    let arrival = gate.arrival();
    assert_eq!(map.next().unwrap().unwrap(), 0);
    let rest: Vec<_> = map.by_ref().collect();
    assert!(rest.iter().all(|outcome| matches!(outcome, Err(Error::TimedOut { .. }))), "{rest:?}");
    let taken = taken.load(Ordering::SeqCst);
    assert!(taken <= 4 && rest.len() == taken - 1, "{taken} taken, {} more results", rest.len());
    drop(map);
    arrival.release();
}

/// Also the one that `next` waits for, if it has not started.
fn m5_the_limit_cancels_also_the_call_that_was_waited_for<E: Executor>(make: impl Fn(usize) -> E) {
    for limit in [Duration::ZERO, Duration::from_millis(1)] {
        let journal = Journal::new();
        let executor = make(1);
        let gate = Turnstile::new();
        let held = executor.submit(pass, gate.ticket(0));
        let arrival = gate.arrival();
        let items = (0..3).map(|n| (journal.page(), n));
        let map = executor.map_with(note, items, MapOptions::new().timeout(limit));
        let outcomes: Vec<_> = map.collect();
        assert_eq!(outcomes.len(), 3);
        assert!(
            outcomes.iter().all(|outcome| matches!(outcome, Err(Error::TimedOut { .. }))),
            "{outcomes:?}"
        );
        arrival.release();
        held.result().unwrap();
        executor.shutdown();
        assert!(journal.lines().is_empty());
    }
}

/// One whose user is slower than its workers never waits, and ends all the same; it is not cut short
/// in silence.
fn m5_the_limit_ends_also_a_map_whose_results_are_always_there<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (taken, items) = counted(0..);
    let options = MapOptions::new().buffersize(2).timeout(Duration::ZERO);
    let outcomes: Vec<_> = executor.map_with(double, items, options).take(100).collect();
    assert_eq!(outcomes.len(), taken.load(Ordering::SeqCst));
    assert!((2..=3).contains(&outcomes.len()), "{outcomes:?}");
    assert!(matches!(outcomes.last(), Some(Err(Error::TimedOut { .. }))), "{outcomes:?}");
    for (n, outcome) in (0..).zip(outcomes) {
        match outcome {
            Ok(value) => assert_eq!(value, n * 2),
            Err(error) => assert!(matches!(error, Error::TimedOut { .. }), "{error:?}"),
        }
    }
}

fn m5_the_limit_is_no_error_of_a_map_that_is_complete<E: Executor>(make: impl Fn(usize) -> E) {
    for options in [MapOptions::new(), MapOptions::new().buffersize(3), MapOptions::new().buffersize(4)] {
        let executor = make(1);
        // Of unknown length: that it is at its end shows only when it is asked.
        let map = executor.map_with(double, (0..3).filter(|_| true), options.timeout(Duration::ZERO));
        executor.shutdown();
        assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), [0, 2, 4]);
    }
}

fn m6_an_error_is_the_result_of_its_item_alone<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for (n, outcome) in (0..20).zip(executor.map(explode_on_threes, 0..20)) {
        if n % 3 == 0 {
            assert_eq!(panic_of(outcome).message(), format!("{n} is a multiple of three"));
        } else {
            assert_eq!(outcome.unwrap(), n * 2);
        }
    }
    for (n, outcome) in (0..20).zip(executor.try_map(refuse_threes, 0..20)) {
        match outcome {
            Ok(value) => assert!(n % 3 != 0 && value == n * 2),
            Err(error) => {
                assert!(n % 3 == 0 && matches!(error, Error::Raised { .. }), "{error:?}");
                assert!(error.to_string().contains(&format!("refused {n}")), "{error}");
            }
        }
    }
}

fn late(n: u32) -> Result<u32, Error> {
    match n {
        1 => Err(Error::TimedOut { what: "something else".into(), limit: Duration::ZERO }),
        _ => Ok(n),
    }
}

/// gh-108518 there: it ended the map.
fn m6_a_call_that_timed_out_is_not_the_limit_of_the_map<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let outcomes: Vec<_> = executor.try_map_with(late, 0..4, MapOptions::new().timeout(LONG)).collect();
    let error = outcomes[1].as_ref().unwrap_err();
    assert!(
        matches!(error, Error::Raised { .. }) && error.to_string().contains("something else"),
        "{error:?}"
    );
    assert!(
        outcomes.iter().enumerate().all(|(n, outcome)| n == 1 || outcome.as_ref().unwrap() == &(n as u32))
    );
}

fn m7_dropping_a_map_before_its_first_result_cancels_what_has_not_started<E: Executor>(
    make: impl Fn(usize) -> E,
) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let map = executor
        .map(note_and_maybe_pass, (0..50).map(|n| (journal.page(), n, (n == 0).then(|| gate.ticket(0)))));
    let arrival = gate.arrival();
    drop(map);
    arrival.release();
    executor.shutdown();
    assert_eq!(journal.lines(), ["0"]);
}

fn m7_dropping_a_map_after_its_first_result_cancels_what_has_not_started<E: Executor>(
    make: impl Fn(usize) -> E,
) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let items = (0..50).map(|n| (journal.page(), n, (n == 6).then(|| gate.ticket(6))));
    let mut map = executor.map_with(note_and_maybe_pass, items, MapOptions::new().chunksize(5));
    assert_eq!(map.next().unwrap().unwrap(), 0);
    let arrival = gate.arrival();
    drop(map);
    arrival.release();
    executor.shutdown();
    // The chunk that was under way is finished, no other is begun.
    assert_eq!(journal.lines(), numbers(0..10));
}

fn m8_chunks_of_any_size_give_the_same_results<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let expected: Vec<_> = (0..50).map(double).collect();
    for chunksize in [1, 2, 3, 49, 50, 51, usize::MAX] {
        for buffersize in [None, Some(1), Some(7), Some(50), Some(usize::MAX)] {
            let mut options = MapOptions::new().chunksize(chunksize);
            if let Some(buffersize) = buffersize {
                options = options.buffersize(buffersize);
            }
            let doubled: Result<Vec<_>, _> = executor.map_with(double, 0..50, options).collect();
            assert_eq!(doubled.unwrap(), expected, "chunks of {chunksize}, buffer {buffersize:?}");
        }
    }
}

/// There the whole chunk is lost.
fn m9_an_error_in_a_chunk_is_the_result_of_its_item_alone<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for chunksize in [2, 3, 7, 100] {
        let options = MapOptions::new().chunksize(chunksize);
        let outcomes: Vec<_> = executor.map_with(explode_on_threes, 0..20, options).collect();
        assert_eq!(outcomes.len(), 20);
        for (n, outcome) in (0..20).zip(outcomes) {
            if n % 3 == 0 {
                let panic = panic_of(outcome);
                assert_eq!(panic.message(), format!("{n} is a multiple of three"));
                assert!(panic.location().is_some_and(|place| place.contains("engines.rs")));
            } else {
                assert_eq!(outcome.unwrap(), n * 2);
            }
        }
    }
}

fn worker_of(_: u32) -> String {
    crate::common::who()
}

fn m10_a_chunk_runs_in_one_worker<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let map = executor.map_with(worker_of, 0..90, MapOptions::new().chunksize(30));
    let workers: Vec<_> = map.collect::<Result<_, _>>().unwrap();
    assert!(workers.chunks(30).all(|chunk| chunk.iter().all(|worker| *worker == chunk[0])), "{workers:?}");
}

fn pid(_: u32) -> u32 {
    std::process::id()
}

#[test]
fn m10_a_chunk_is_one_task_for_max_tasks_per_child() {
    watchdog("a chunk is one task", LIMIT, || {
        let pool = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(1).build().unwrap();
        let map = pool.map_with(pid, 0..6, MapOptions::new().chunksize(2));
        let pids: Vec<_> = map.collect::<Result<_, _>>().unwrap();
        assert!(pids.chunks(2).all(|chunk| chunk[0] == chunk[1]), "{pids:?}");
        assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 3, "{pids:?}");
    });
}

fn m11_a_chunksize_or_buffersize_of_zero_is_an_error_that_says_so<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    for (name, options) in [
        ("chunksize", MapOptions::new().chunksize(0)),
        ("buffersize", MapOptions::new().buffersize(0)),
        ("buffersize", MapOptions::new().buffersize(0).chunksize(3)),
        ("chunksize", MapOptions::new().chunksize(0).buffersize(3)),
    ] {
        let (taken, items) = counted(0..);
        let mut map = executor.map_with(double, items, options);
        assert_eq!(map.len(), 1);
        let error = map.next().unwrap().unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(map.next().is_none());
        assert_eq!(taken.load(Ordering::SeqCst), 0, "nothing was to be taken from the input");
    }
}

/// However many are taken out, no more than `buffersize` are under way.
fn buffered_map_stays_within_its_buffer<E: Executor>(executor: &E, chunksize: usize, buffersize: usize) {
    let (taken, items) = counted(0..);
    let options = MapOptions::new().chunksize(chunksize).buffersize(buffersize);
    let mut map = executor.map_with(double, items, options);
    for yielded in 0..30 {
        let taken = taken.load(Ordering::SeqCst);
        assert!(
            taken - yielded <= buffersize,
            "chunks of {chunksize}, buffer {buffersize}: {taken} taken, {yielded} yielded"
        );
        assert!(yielded > 0 || taken > 0, "nothing was begun at the call");
        assert_eq!(map.next().unwrap().unwrap(), yielded as u32 * 2);
    }
}

fn m11_a_buffer_takes_no_more_items_than_it_holds<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for (chunksize, buffersize) in [(1, 1), (1, 5), (5, 5), (5, 10), (100, 3)] {
        buffered_map_stays_within_its_buffer(&executor, chunksize, buffersize);
    }
    // And it does fill the buffer at the call.
    let (taken, items) = counted(0..);
    let _map = executor.map_with(double, items, MapOptions::new().buffersize(5));
    assert_eq!(taken.load(Ordering::SeqCst), 5);
}

fn m11_a_buffer_that_its_chunks_do_not_divide_takes_no_more_items_than_it_holds<E: Executor>(
    make: impl Fn(usize) -> E,
) {
    let executor = make(2);
    for (chunksize, buffersize) in [(2, 3), (3, 10), (4, 5)] {
        buffered_map_stays_within_its_buffer(&executor, chunksize, buffersize);
    }
}

fn m12_inputs_without_end_are_pulled_as_needed<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let doubled = executor.map_with(double, 0.., MapOptions::new().buffersize(10).chunksize(2));
    assert_eq!(doubled.take(25).collect::<Result<Vec<_>, _>>().unwrap().len(), 25);
    // Several of them.
    let sums = executor.map_with(add, (0..).zip(10..), MapOptions::new().buffersize(3));
    assert_eq!(sums.take(4).collect::<Result<Vec<_>, _>>().unwrap(), [10, 12, 14, 16]);
    let sums = executor.map_with(add, (0..).zip(10..12), MapOptions::new().buffersize(3));
    assert_eq!(sums.collect::<Result<Vec<_>, _>>().unwrap(), [10, 12]);
    // And of none.
    assert!(executor.map_with(double, iter::empty(), MapOptions::new().buffersize(3)).next().is_none());
    // They ended when they were dropped.
    executor.shutdown();
}

/// There the next `next` errors and drops the results that were there, or the map ends in silence.
fn m13_a_buffered_map_gives_what_it_has_then_the_refusal_then_ends<E: Executor>(make: impl Fn(usize) -> E) {
    for chunksize in [1, 2, 4] {
        let executor = make(1);
        // Were every further item an error, this would not end.
        let (taken, items) = counted(0..);
        let options = MapOptions::new().buffersize(4).chunksize(chunksize);
        let mut map = executor.map_with(double, items, options);
        assert_eq!(map.next().unwrap().unwrap(), 0);
        executor.shutdown();
        let submitted = taken.load(Ordering::SeqCst) as u32;
        for n in 1..submitted {
            assert_eq!(map.next().unwrap().unwrap(), n * 2, "it was submitted before the shutdown");
        }
        let refused: Vec<_> = map.take(100).collect();
        assert_eq!(refused.len(), chunksize, "{refused:?}");
        assert!(refused.iter().all(|outcome| matches!(outcome, Err(Error::ShutDown { .. }))), "{refused:?}");
        assert_eq!(
            taken.load(Ordering::SeqCst),
            submitted as usize + chunksize,
            "nothing is taken for nothing"
        );
    }
    // What was submitted as a whole is whole.
    let executor = make(1);
    let map = executor.map_with(double, 0..4, MapOptions::new().buffersize(5));
    executor.shutdown();
    assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), [0, 2, 4, 6]);
}

/// As after a shutdown, when the pool breaks under it.
#[test]
fn m13_a_buffered_map_of_a_pool_that_breaks_ends() {
    fn has_no_licence(ticket: Ticket) {
        ticket.pass();
        panic!("no licence");
    }
    /// It breaks when what was asked for has been submitted: three calls, and then one that is refused.
    fn assert_ends(executor: &impl Executor, gate: &Turnstile) {
        let map = executor.map_with(double, 0.., MapOptions::new().buffersize(3));
        gate.arrival().release();
        let outcomes: Vec<_> = map.take(100).collect();
        assert_eq!(outcomes.len(), 4, "{outcomes:?}");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(Error::Broken { .. }))), "{outcomes:?}");
    }
    watchdog("a map of a broken pool", LIMIT, || {
        let gate = Turnstile::new();
        let ticket = gate.ticket(0);
        let threads = ThreadPoolExecutor::builder().max_workers(1);
        let threads = threads.initializer(move || has_no_licence(ticket)).build().unwrap();
        assert_ends(&threads, &gate);
        let processes = ProcessPoolExecutor::builder().max_workers(1);
        let processes = processes.initializer(has_no_licence, gate.ticket(0)).build().unwrap();
        assert_ends(&processes, &gate);
    });
}

/// A value that counts its likes in the process that it is in.
struct Counted(u32);

static COUNTS: LazyLock<Mutex<HashMap<u32, usize>>> = LazyLock::new(Mutex::default);

fn alive(kind: u32) -> usize {
    COUNTS.lock().unwrap().get(&kind).copied().unwrap_or_default()
}

impl From<u32> for Counted {
    fn from(kind: u32) -> Self {
        *COUNTS.lock().unwrap().entry(kind).or_default() += 1;
        Counted(kind)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COUNTS.lock().unwrap().entry(self.0).and_modify(|count| *count -= 1);
    }
}

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Counted::from)
    }
}

fn m14_what_was_yielded_is_not_kept<E: Executor>(make: impl Fn(usize) -> E) {
    static KINDS: AtomicU32 = AtomicU32::new(0);
    for chunksize in [1, 2, 10] {
        let executor = make(2);
        let kind = KINDS.fetch_add(1, Ordering::SeqCst);
        let mut map = executor.map_with(Counted::from, [kind; 6], MapOptions::new().chunksize(chunksize));
        executor.shutdown();
        for left in (0..6).rev() {
            let yielded = map.next().unwrap().unwrap();
            assert_eq!((yielded.0, alive(kind)), (kind, left + 1));
            drop(yielded);
            assert_eq!(alive(kind), left, "chunks of {chunksize}");
        }
    }
}
