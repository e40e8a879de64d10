//! Parity clause M15: what Python's `map` lacks. Results as they come, failing fast, a hook for
//! every item, a limit for one result.

use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, MapOptions};
use indicatif::ProgressIterator;

use crate::common::{Journal, LONG, Page, Ticket, Turnstile};
use crate::engines::{double, explode_on_threes, pass, refuse_threes};

contract!(
    [
        m15_unordered_gives_every_item_once_with_its_index,
        m15_unordered_takes_options_and_endless_input,
        m15_unordered_can_be_left_in_the_middle,
        m15_failing_fast_ends_at_the_first_error,
        m15_failing_fast_changes_nothing_when_all_goes_well,
        m15_every_item_is_reported_once_also_in_chunks,
        m15_the_length_counts_items_also_in_chunks,
        m15_a_length_that_is_not_known_is_called_so,
        m15_wrong_options_are_the_one_result,
    ],
    [
        m15_unordered_results_come_as_they_finish,
        m15_unordered_after_the_limit_gives_first_what_is_there,
        m15_unordered_and_pulled_gives_all_that_was_submitted_after_the_limit,
        m15_failing_fast_cancels_what_has_not_started_although_nobody_asks,
        m15_failing_fast_pulls_no_more_items,
        m15_unordered_failing_fast_gives_the_error_at_once,
        m15_items_are_reported_although_nobody_asks,
        m15_items_of_a_dropped_map_are_reported_as_cancelled,
        m15_one_result_can_be_waited_for_with_a_limit,
    ]
);

registered!([pass_the_first], [fail_the_second]);

/// Number 0 is held until it is let go.
fn pass_the_first((n, ticket): (u32, Ticket)) -> u32 {
    if n == 0 { ticket.pass() } else { n * 2 }
}

fn m15_unordered_gives_every_item_once_with_its_index<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let map = executor.map_unordered(explode_on_threes, 1..20);
    assert_eq!(map.len(), 19);
    let mut all: Vec<_> = map.collect();
    all.sort_by_key(|(index, _)| *index);
    for (n, (index, outcome)) in (1_u32..20).zip(&all) {
        assert_eq!(*index, n as usize - 1);
        match outcome {
            Ok(value) => assert!(!n.is_multiple_of(3) && *value == n * 2),
            Err(error) => {
                assert!(matches!(error, Error::Panicked { .. }) && n.is_multiple_of(3), "{error:?}")
            }
        }
    }
    let raised = executor.try_map_unordered(refuse_threes, 0..9).filter(|(_, outcome)| outcome.is_err());
    let mut indices: Vec<_> = raised.map(|(index, _)| index).collect();
    indices.sort_unstable();
    assert_eq!(indices, [0, 3, 6]);
    assert_eq!(executor.map_unordered(double, []).count(), 0);
}

fn m15_unordered_takes_options_and_endless_input<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for (chunksize, buffersize) in [(1, 1), (1, 5), (3, 7), (10, 4)] {
        let options = MapOptions::new().chunksize(chunksize).buffersize(buffersize);
        let taken = AtomicUsize::new(0);
        let items = (0..).inspect(|_| {
            taken.fetch_add(1, Ordering::SeqCst);
        });
        let mut seen = [false; 200];
        let mut yielded = 0;
        let mut map = executor.map_with(double, items, options).unordered();
        while yielded < 50 {
            let (index, outcome) = map.next().unwrap();
            assert_eq!(outcome.unwrap() as usize, index * 2);
            assert!(!std::mem::replace(&mut seen[index], true), "{index} twice");
            yielded += 1;
            assert!(
                taken.load(Ordering::SeqCst) <= yielded + buffersize,
                "more items taken than the buffer holds"
            );
        }
    }
}

fn m15_unordered_can_be_left_in_the_middle<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let mut map = executor.map_unordered(double, 0..100);
    for left in (0..100).rev().take(10) {
        let (index, value) = map.next().unwrap();
        assert_eq!(value.unwrap() as usize, index * 2);
        assert_eq!(map.len(), left);
    }
    drop(map);
    assert_eq!(executor.submit(double, 4).result().unwrap(), 8);
}

fn m15_unordered_results_come_as_they_finish<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let gate = Turnstile::new();
    let mut map = executor.map_unordered(pass_the_first, (0..5).map(|n| (n, gate.ticket(77))));
    let arrival = gate.arrival();
    // The first is held, and all the others come out.
    let others: Vec<_> = map.by_ref().take(4).map(|(index, value)| (index, value.unwrap())).collect();
    assert_eq!(others, [(1, 2), (2, 4), (3, 6), (4, 8)]);
    arrival.release();
    assert!(matches!(map.next(), Some((0, Ok(77)))));
    assert!(map.next().is_none());
}

fn m15_unordered_after_the_limit_gives_first_what_is_there<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let gate = Turnstile::new();
    let (tell, told) = mpsc::channel();
    let options = MapOptions::new()
        .timeout(Duration::from_millis(1))
        .on_item_done(move |index, outcome| tell.send((index, outcome.is_ok())).unwrap());
    let items = (0..4).map(|n| (n, gate.ticket(77)));
    let map = executor.map_with(pass_the_first, items.collect::<Vec<_>>(), options);
    let _arrival = gate.arrival();
    // Three are there before anybody looks, and then the time is over.
    let mut done: Vec<_> = (0..3).map(|_| told.recv().unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, [(1, true), (2, true), (3, true)]);
    let mut results: Vec<_> = map.unordered().collect();
    let (last, error) = results.pop().unwrap();
    assert!(last == 0 && matches!(error, Err(Error::TimedOut { .. })), "{error:?}");
    results.sort_by_key(|(index, _)| *index);
    let values: Vec<_> = results.into_iter().map(|(_, outcome)| outcome.unwrap()).collect();
    assert_eq!(values, [2, 4, 6]);
}

fn m15_unordered_and_pulled_gives_all_that_was_submitted_after_the_limit<E: Executor>(
    make: impl Fn(usize) -> E,
) {
    const SHORT: Duration = Duration::from_millis(200);
    let executor = make(2);
    let gate = Turnstile::new();
    let items = (0..).map(|n| (n, gate.ticket(77)));
    let begin = Instant::now();
    let options = MapOptions::new().buffersize(3).timeout(SHORT);
    let mut map = executor.map_with(pass_the_first, items, options).unordered();
    let _arrival = gate.arrival();
    let mut results = vec![map.next().unwrap()];
    while begin.elapsed() <= SHORT {
        thread::yield_now();
    }
    results.extend(map);
    // Whatever had been yielded before the limit, there is one result for each item that was pulled.
    results.sort_by_key(|(index, _)| *index);
    let indices: Vec<_> = results.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, (0..results.len()).collect::<Vec<_>>());
    assert!(results.len() >= 3, "{results:?}");
    assert!(matches!(results[0], (0, Err(Error::TimedOut { .. }))), "it is still held");
}

fn m15_failing_fast_ends_at_the_first_error<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for chunksize in [1, 2, 4, 100] {
        let options = MapOptions::new().fail_fast(true).chunksize(chunksize);
        let mut map = executor.map_with(explode_on_threes, [1, 2, 3, 4, 5, 6], options);
        assert_eq!(map.next().unwrap().unwrap(), 2);
        assert_eq!(map.next().unwrap().unwrap(), 4);
        let error = map.next().unwrap().unwrap_err();
        assert!(matches!(error, Error::Panicked { .. }), "{error:?}");
        assert!(map.next().is_none() && map.next().is_none());
        assert_eq!(map.len(), 0);
    }
}

fn m15_failing_fast_changes_nothing_when_all_goes_well<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let options = MapOptions::new().fail_fast(true).buffersize(3);
    let values: Result<Vec<_>, _> = executor.map_with(double, 0..50, options.clone()).collect();
    assert_eq!(values.unwrap(), (0..50).map(|n| n * 2).collect::<Vec<_>>());
    assert_eq!(executor.map_with(double, 0..50, options).unordered().count(), 50);
}

/// Number 0 is held, number 1 fails, the others write into the journal.
fn fail_the_second((n, ticket, page): (u32, Ticket, Page)) -> Result<u32, String> {
    match n {
        0 => Ok(ticket.pass()),
        1 => Err("the second".to_owned()),
        _ => {
            page.note(n);
            Ok(n)
        }
    }
}

fn m15_failing_fast_cancels_what_has_not_started_although_nobody_asks<E: Executor>(
    make: impl Fn(usize) -> E,
) {
    let journal = Journal::new();
    let executor = make(2);
    let gate = Turnstile::new();
    let held = gate.ticket(7);
    // The other worker comes to the second item only when all have been submitted.
    let start = executor.submit(pass, gate.ticket(8));
    let start = (gate.arrival(), start);
    let items: Vec<_> = (0..10).map(|n| (n, held, journal.page())).collect();
    let (tell, told) = mpsc::channel();
    let options = MapOptions::new().fail_fast(true).on_item_done(move |index, outcome| {
        tell.send((index, matches!(outcome, Err(Error::Cancelled { .. })))).unwrap();
    });
    let mut map = executor.try_map_with(fail_the_second, items, options);
    let arrival = gate.arrival();
    assert_eq!(arrival.number, 7);
    start.0.release();
    assert_eq!(start.1.result().unwrap(), 8);
    let mut ends: Vec<_> = (0..9).map(|_| told.recv().unwrap()).collect();
    ends.sort_unstable();
    assert_eq!(ends[0], (1, false));
    assert!(ends[1..].iter().all(|(_, cancelled)| *cancelled), "{ends:?}");
    // What came before the error is not lost, and waited for.
    arrival.release();
    assert_eq!(map.next().unwrap().unwrap(), 7);
    assert!(matches!(map.next(), Some(Err(Error::Raised { .. }))));
    assert!(map.next().is_none());
    executor.shutdown();
    assert!(journal.lines().is_empty(), "{:?}", journal.lines());
}

fn m15_failing_fast_pulls_no_more_items<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let pulled = AtomicUsize::new(0);
    let items = (1..).inspect(|_| {
        pulled.fetch_add(1, Ordering::SeqCst);
    });
    let options = MapOptions::new().fail_fast(true).buffersize(4);
    let outcomes: Vec<_> = executor.map_with(explode_on_threes, items, options).collect();
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes[2].is_err());
    // Two were yielded, so two more may have been taken.
    assert!(pulled.load(Ordering::SeqCst) <= 6);
    assert_eq!(executor.submit(double, 4).result().unwrap(), 8);
}

fn m15_unordered_failing_fast_gives_the_error_at_once<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(2);
    let gate = Turnstile::new();
    let items: Vec<_> = (0..2).map(|n| (n, gate.ticket(7), journal.page())).collect();
    let options = MapOptions::new().fail_fast(true);
    let mut map = executor.try_map_with(fail_the_second, items, options).unordered();
    let _arrival = gate.arrival();
    // The first is still held.
    let (index, outcome) = map.next().unwrap();
    assert!(index == 1 && matches!(outcome, Err(Error::Raised { .. })), "{outcome:?}");
    assert!(map.next().is_none());
    assert_eq!(map.len(), 0);
}

fn m15_every_item_is_reported_once_also_in_chunks<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for chunksize in [1, 4, 100] {
        let reports: Arc<Mutex<Vec<(usize, bool)>>> = Arc::default();
        let report = Arc::clone(&reports);
        let options = MapOptions::new().chunksize(chunksize).on_item_done(move |index, outcome| {
            report.lock().unwrap().push((index, outcome.is_ok()));
        });
        let outcomes: Vec<_> = executor.map_with(explode_on_threes, 0..25, options).collect();
        assert_eq!(outcomes.len(), 25);
        let mut reports = reports.lock().unwrap().clone();
        reports.sort_unstable();
        let expected: Vec<_> = (0_usize..25).map(|n| (n, !n.is_multiple_of(3))).collect();
        assert_eq!(reports, expected);
    }
}

fn m15_the_length_counts_items_also_in_chunks<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for options in [
        MapOptions::new(),
        MapOptions::new().chunksize(7),
        MapOptions::new().chunksize(7).timeout(LONG),
        MapOptions::new().buffersize(4),
        MapOptions::new().chunksize(7).buffersize(16),
    ] {
        let map = || executor.map_with(double, 0..25, options.clone());
        counts_down(map(), 25);
        counts_down(map().unordered(), 25);
        // So does an adapter that asks both for theirs.
        assert_eq!((0..30).zip(map()).len(), 25);
        // And a progress bar, which goes along.
        let mut bar = map().progress();
        assert_eq!(bar.progress.length(), Some(25));
        for at in 1..=25 {
            assert!(bar.next().is_some());
            assert_eq!(bar.progress.position(), at, "{options:?}");
        }
    }
}

fn counts_down(mut results: impl ExactSizeIterator, items: usize) {
    for left in (0..=items).rev() {
        assert_eq!((results.len(), results.size_hint()), (left, (left, Some(left))));
        assert_eq!(results.next().is_some(), left > 0);
    }
}

fn m15_a_length_that_is_not_known_is_called_so<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let pulled = MapOptions::new().buffersize(4);
    // How many are even is not known, so the least is what was submitted.
    let evens = |n: &u32| n.is_multiple_of(2);
    let mut map = executor.map_with(double, (0..20).filter(evens), pulled.clone());
    assert_eq!((map.len(), map.size_hint().0), (4, 4));
    assert!(map.size_hint().1.is_some_and(|most| (10..=20).contains(&most)), "{:?}", map.size_hint());
    assert_eq!(map.by_ref().count(), 10);
    assert_eq!((map.len(), map.size_hint()), (0, (0, Some(0))));

    let mut endless = executor.map_with(double, 0.., pulled.clone());
    for _ in 0..10 {
        assert!((3..=4).contains(&endless.len()), "{}", endless.len());
        assert_eq!(endless.size_hint(), (endless.len(), None));
        endless.next();
    }

    // It may run out of time, and submits no more then.
    let hurried = executor.map_with(double, 0..20, pulled.timeout(LONG));
    assert_eq!((hurried.len(), hurried.size_hint()), (20, (4, Some(20))));
    counts_down(executor.map_with(double, 0..20, MapOptions::new().timeout(LONG)), 20);

    let fast = executor.map_with(double, 0..20, MapOptions::new().fail_fast(true));
    assert_eq!((fast.len(), fast.size_hint()), (20, (0, Some(20))));
}

fn m15_items_are_reported_although_nobody_asks<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (tell, told) = mpsc::channel();
    let options = MapOptions::new().chunksize(2).on_item_done(move |index, _| {
        tell.send(index).unwrap();
        // It harms nobody.
        assert!(index != 1, "a hook that panics");
    });
    let map = executor.map_with(double, 0..5, options);
    let mut indices: Vec<_> = told.iter().take(5).collect();
    indices.sort_unstable();
    assert_eq!(indices, [0, 1, 2, 3, 4]);
    assert_eq!(map.map(Result::unwrap).sum::<u32>(), 20);
}

fn m15_items_of_a_dropped_map_are_reported_as_cancelled<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let (tell, told) = mpsc::channel();
    let options = MapOptions::new().chunksize(2).on_item_done(move |index, outcome| {
        tell.send((index, matches!(outcome, Err(Error::Cancelled { .. })))).unwrap();
    });
    drop(executor.map_with(double, 0..5, options));
    let mut reports: Vec<_> = told.iter().collect();
    reports.sort_unstable();
    assert_eq!(reports, (0..5).map(|index| (index, true)).collect::<Vec<_>>());
    arrival.release();
    held.result().unwrap();
}

fn m15_one_result_can_be_waited_for_with_a_limit<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let mut map = executor.map(pass, [gate.ticket(5), gate.ticket(6)]);
    let first = gate.arrival();
    for _ in 0..2 {
        let error = map.next_timeout(Duration::ZERO).unwrap().unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
        assert_eq!(map.len(), 2, "nothing is lost by it");
    }
    first.release();
    assert_eq!(map.next_timeout(LONG).unwrap().unwrap(), 5);
    gate.arrival().release();
    assert_eq!(map.next_timeout(LONG).unwrap().unwrap(), 6);
    assert!(map.next_timeout(LONG).is_none());
}

fn m15_wrong_options_are_the_one_result<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let options = MapOptions::new().chunksize(0);
    let items = iter::repeat_with(|| 1);
    let mut map = executor.map_with(double, items, options).unordered();
    assert!(matches!(map.next(), Some((0, Err(Error::InvalidArgument { .. })))));
    assert!(map.next().is_none());
}
