//! E6: `map` in all its ways.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use concurrent_futures::{Error, Executor, MapOptions};

use crate::common::{Gate, Journal, LONG, Page, Ticket, Turnstile};
use crate::engines::{double, explode_on_threes, note, panic_of, refuse_threes};

contract!(
    [
        e6_map_yields_one_result_an_item_in_order,
        e6_an_error_is_the_result_of_its_item_alone,
        e6_an_error_in_a_chunk_is_the_result_of_its_item_alone,
        e6_chunks_of_any_size_give_the_same_results,
        e6_map_of_nothing_is_empty,
        e6_map_takes_all_items_at_the_call,
        e6_map_runs_without_being_iterated,
        e6_a_chunksize_or_buffersize_of_zero_is_an_error_that_says_so,
        e6_the_length_is_exact,
        e6_a_buffer_takes_no_more_items_than_it_holds,
        e6_a_buffer_that_its_chunks_do_not_divide_takes_no_more_items_than_it_holds,
        e6_a_buffered_map_of_an_endless_input_ends_when_dropped,
        e6_a_buffered_map_is_never_cut_short,
        e6_a_limit_that_is_not_reached_changes_nothing,
        e6_what_iterators_fail_with_leaves_the_map,
    ],
    [
        e6_map_submits_eagerly_while_the_worker_is_busy,
        e6_results_come_in_order_although_they_end_in_another,
        e6_dropping_a_map_cancels_what_has_not_started,
        e6_dropping_a_map_that_was_begun_cancels_what_has_not_started,
        e6_after_the_limit_results_that_are_there_still_come_out,
        e6_after_the_limit_no_more_items_are_taken,
        e6_a_chunk_runs_in_one_worker,
    ]
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

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn e6_map_yields_one_result_an_item_in_order<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let doubled: Result<Vec<_>, _> = executor.map(double, 0..500).collect();
    assert_eq!(doubled.unwrap(), (0..500).map(double).collect::<Vec<_>>());
    // Any iterable, of any type.
    let lengths = executor.map(|text: String| text.len(), ["a", "", "ccc"].map(str::to_owned));
    assert_eq!(lengths.collect::<Result<Vec<_>, _>>().unwrap(), [1, 0, 3]);
    let tripled = executor.try_map(|n: u32| Ok::<_, String>(n * 3), vec![1, 2]);
    assert_eq!(tripled.collect::<Result<Vec<_>, _>>().unwrap(), [3, 6]);
}

fn e6_an_error_is_the_result_of_its_item_alone<E: Executor>(make: impl Fn(usize) -> E) {
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

/// CPython loses the whole chunk (parity M9).
fn e6_an_error_in_a_chunk_is_the_result_of_its_item_alone<E: Executor>(make: impl Fn(usize) -> E) {
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

fn e6_chunks_of_any_size_give_the_same_results<E: Executor>(make: impl Fn(usize) -> E) {
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

fn e6_map_of_nothing_is_empty<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    assert_eq!(executor.map(double, []).len(), 0);
    assert!(executor.map(double, iter::empty()).next().is_none());
    let options = MapOptions::new().buffersize(3).chunksize(2).timeout(LONG);
    let mut map = executor.map_with(double, [], options);
    assert!(map.next().is_none() && map.next().is_none());
}

fn e6_map_takes_all_items_at_the_call<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (taken, items) = counted(0..100);
    let map = executor.map(double, items);
    assert_eq!(taken.load(Ordering::SeqCst), 100);
    assert_eq!(map.len(), 100);
}

fn e6_map_submits_eagerly_while_the_worker_is_busy<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let items = (0..10_000).map(|n| (n, (n == 0).then(|| gate.ticket(0))));
    // Would hang here if it waited for the worker, which is held.
    let map = executor.map(maybe_pass, items);
    assert_eq!(map.len(), 10_000);
    gate.arrival().release();
    assert!(map.zip(0..).all(|(outcome, n)| outcome.is_ok_and(|value| value == n)));
}

fn e6_map_runs_without_being_iterated<E: Executor>(make: impl Fn(usize) -> E) {
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

fn e6_results_come_in_order_although_they_end_in_another<E: Executor>(make: impl Fn(usize) -> E) {
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

fn e6_dropping_a_map_cancels_what_has_not_started<E: Executor>(make: impl Fn(usize) -> E) {
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

fn e6_dropping_a_map_that_was_begun_cancels_what_has_not_started<E: Executor>(make: impl Fn(usize) -> E) {
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

fn e6_a_chunksize_or_buffersize_of_zero_is_an_error_that_says_so<E: Executor>(make: impl Fn(usize) -> E) {
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

fn e6_the_length_is_exact<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for options in [
        MapOptions::new(),
        MapOptions::new().chunksize(4),
        MapOptions::new().buffersize(3),
        MapOptions::new().chunksize(2).buffersize(5),
    ] {
        let mut map = executor.map_with(double, 0..10, options);
        for left in (0..10).rev() {
            assert_eq!((map.len(), map.size_hint()), (left + 1, (left + 1, Some(left + 1))));
            assert!(map.next().unwrap().is_ok());
        }
        assert_eq!((map.len(), map.size_hint()), (0, (0, Some(0))));
    }
    // An input that does not know its length: the least, then.
    let (_, endless) = counted(iter::repeat_n(1, 10).filter(|_| true));
    let map = executor.map_with(double, endless, MapOptions::new().buffersize(3));
    assert_eq!((map.len(), map.size_hint().0), (3, 3));
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

fn e6_a_buffer_takes_no_more_items_than_it_holds<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for (chunksize, buffersize) in [(1, 1), (1, 5), (5, 5), (5, 10), (100, 3)] {
        buffered_map_stays_within_its_buffer(&executor, chunksize, buffersize);
    }
    // And it does fill the buffer at the call.
    let (taken, items) = counted(0..);
    let _map = executor.map_with(double, items, MapOptions::new().buffersize(5));
    assert_eq!(taken.load(Ordering::SeqCst), 5);
}

fn e6_a_buffer_that_its_chunks_do_not_divide_takes_no_more_items_than_it_holds<E: Executor>(
    make: impl Fn(usize) -> E,
) {
    let executor = make(2);
    for (chunksize, buffersize) in [(2, 3), (3, 10), (4, 5)] {
        buffered_map_stays_within_its_buffer(&executor, chunksize, buffersize);
    }
}

fn e6_a_buffered_map_of_an_endless_input_ends_when_dropped<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let squares = executor.map_with(double, 0.., MapOptions::new().buffersize(10).chunksize(2));
    assert_eq!(squares.take(25).collect::<Result<Vec<_>, _>>().unwrap().len(), 25);
    executor.shutdown();
}

/// CPython truncates it silently when the executor goes (parity M13).
fn e6_a_buffered_map_is_never_cut_short<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let mut map = executor.map_with(double, 0..10, MapOptions::new().buffersize(4));
    assert_eq!(map.next().unwrap().unwrap(), 0);
    executor.shutdown();
    let rest: Vec<_> = map.collect();
    assert_eq!(rest.len(), 9, "one result an item, also after the shutdown");
    // What was submitted before has its result, the others say why they have none.
    let submitted = rest.iter().take_while(|outcome| outcome.is_ok()).count();
    assert!((3..=4).contains(&submitted), "{rest:?}");
    assert!(
        rest[submitted..].iter().all(|outcome| matches!(outcome, Err(Error::ShutDown { .. }))),
        "{rest:?}"
    );
}

fn e6_a_limit_that_is_not_reached_changes_nothing<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for limit in [LONG, Duration::MAX] {
        for options in [MapOptions::new(), MapOptions::new().buffersize(3), MapOptions::new().chunksize(4)] {
            let map = executor.map_with(double, 0..20, options.timeout(limit));
            let expected: Vec<_> = (0..20).map(double).collect();
            assert_eq!(map.collect::<Result<Vec<_>, _>>().unwrap(), expected);
        }
    }
}

fn e6_after_the_limit_results_that_are_there_still_come_out<E: Executor>(make: impl Fn(usize) -> E) {
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

fn e6_after_the_limit_no_more_items_are_taken<E: Executor>(make: impl Fn(usize) -> E) {
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

fn worker_of(_: u32) -> String {
    crate::common::who()
}

fn e6_a_chunk_runs_in_one_worker<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let map = executor.map_with(worker_of, 0..90, MapOptions::new().chunksize(30));
    let workers: Vec<_> = map.collect::<Result<_, _>>().unwrap();
    assert!(workers.chunks(30).all(|chunk| chunk.iter().all(|worker| *worker == chunk[0])), "{workers:?}");
}

/// The panic of an input is its owner's: it comes out of `map`, and harms nobody else.
fn e6_what_iterators_fail_with_leaves_the_map<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Gate::new();
    let items = || {
        let waiter = gate.waiter();
        (0..10).inspect(move |n| {
            if *n == 4 {
                waiter.wait();
                panic!("the input failed");
            }
        })
    };
    gate.open();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| executor.map(double, items())));
    assert!(caught.is_err());
    let mut map = executor.map_with(double, items(), MapOptions::new().buffersize(2));
    assert_eq!((map.next().unwrap().unwrap(), map.next().unwrap().unwrap()), (0, 2));
    drop(map);
    assert_eq!(executor.submit(double, 1).result().unwrap(), 2);
}
