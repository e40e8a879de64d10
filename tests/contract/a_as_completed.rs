//! Parity clauses A: `as_completed`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Executor, Future, Promise, as_completed, as_completed_timeout};

use crate::common::{Drops, LIMIT, LONG, Turnstile, blocked, this_thread, until_asleep, watchdog};
use crate::engines::{double, pass};

contract!(
    [
        a1_as_completed_gives_every_item_once,
        a1_those_that_are_over_come_first_in_the_order_given,
        a1_a_future_that_is_given_twice_comes_twice,
    ],
    [
        a1_as_completed_follows_the_order_of_ending,
        a2_watching_begins_at_the_call,
        a3_a_limit_says_once_how_many_are_missing,
        a4_cancelled_futures_come_at_once,
        a5_as_completed_that_is_dropped_cancels_nothing,
        a6_as_completed_takes_more_futures_midway,
    ]
);

fn a1_as_completed_gives_every_item_once<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let completed = as_completed((0..100).map(|n| (n, executor.submit(double, n))));
    assert_eq!(completed.len(), 100);
    let mut keys: Vec<_> = completed
        .map(|(n, future)| {
            assert!(future.done());
            assert_eq!(future.result().unwrap(), n * 2);
            n
        })
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, (0..100).collect::<Vec<_>>());
    assert!(as_completed(Vec::<Future<u32>>::new()).next().is_none());
}

fn a1_those_that_are_over_come_first_in_the_order_given<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let over = [1, 2, 3].map(|n| executor.submit(double, n));
    over.iter().for_each(Future::wait);
    let (promise, open) = Promise::new();
    let mut completed = as_completed([&open, &over[2], &over[0], &over[1]]);
    for expected in [&over[2], &over[0], &over[1]] {
        assert_eq!(completed.next(), Some(expected));
    }
    promise.fulfil(1);
    assert_eq!(completed.next(), Some(&open));
    assert_eq!(completed.next(), None);
}

/// It does not hang, nor forget one of the two: with keys they are not the same.
fn a1_a_future_that_is_given_twice_comes_twice<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let future = executor.submit(double, 1);
    let mut keys: Vec<_> = as_completed([("a", &future), ("b", &future)]).map(|(key, _)| key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(as_completed([&future, &future]).collect::<Vec<_>>(), [&future, &future]);
}

fn a1_as_completed_follows_the_order_of_ending<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(4);
    let gate = Turnstile::new();
    let futures: Vec<_> = (0..4).map(|n| (n, executor.submit(pass, gate.ticket(n)))).collect();
    let mut arrivals = gate.arrivals(4);
    arrivals.sort_by_key(|arrival| arrival.number);
    let mut completed = as_completed(futures);
    for number in [2, 0, 3, 1] {
        let at = arrivals.iter().position(|arrival| arrival.number == number).unwrap();
        arrivals.remove(at).release();
        let (key, future) = completed.next().unwrap();
        assert_eq!((key, future.result().unwrap()), (number, number));
    }
    assert!(completed.next().is_none());
}

/// There, nothing happens before the first `next`.
fn a2_watching_begins_at_the_call<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let gate = Turnstile::new();
    let mut taken = 0;
    let futures = (0..3).map(|n| {
        taken += 1;
        executor.submit(pass, gate.ticket(n)).shared()
    });
    let mut all = Vec::new();
    let completed = as_completed(futures.inspect(|future| all.push(future.clone())));
    let mut arrivals = gate.arrivals(3);
    assert_eq!((taken, completed.len()), (3, 3));
    // Who ends before the first `next` comes in the order of ending. When callbacks run, all who wait have been told.
    let (tell, told) = mpsc::channel();
    for number in [2, 0, 1] {
        let tell = tell.clone();
        all[number as usize].add_done_callback(move |_| tell.send(()).unwrap());
        let at = arrivals.iter().position(|arrival| arrival.number == number).unwrap();
        arrivals.remove(at).release();
        told.recv().unwrap();
    }
    let order: Vec<u32> = completed.map(|future| *future.result().unwrap()).collect();
    assert_eq!(order, [2, 0, 1]);
}

fn a3_a_limit_says_once_how_many_are_missing<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let done = [executor.submit(double, 1), executor.submit(double, 2)];
    done.iter().for_each(Future::wait);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let queued = executor.submit(double, 3);
    for limit in [Duration::ZERO, Duration::from_millis(1)] {
        let mut completed = as_completed_timeout([&held, &done[0], &queued, &done[1]], limit);
        assert_eq!(completed.size_hint(), (1, Some(4)));
        // What is over comes out, however late it is.
        assert_eq!(completed.next().unwrap().unwrap(), &done[0]);
        assert_eq!(completed.next().unwrap().unwrap(), &done[1]);
        assert_eq!(completed.size_hint(), (1, Some(2)));
        let error = completed.next().unwrap().unwrap_err();
        assert!(matches!(error, Error::TimedOut { limit: said, .. } if said == limit), "{error:?}");
        assert!(error.to_string().contains("2 of 4"), "{error}");
        assert_eq!(completed.size_hint(), (0, Some(0)));
        assert!(completed.next().is_none() && completed.next().is_none());
    }
    arrival.release();
    let rest: Result<Vec<_>, _> = as_completed_timeout([held, queued], LONG).collect();
    assert_eq!(rest.unwrap().len(), 2);
}

fn a4_cancelled_futures_come_at_once<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0)).shared();
    let arrival = gate.arrival();
    let [before, during] = [1, 2].map(|n| executor.submit(double, n).shared());
    assert!(before.cancel());
    let mut completed = as_completed([held.clone(), during.clone(), before.clone()]);
    assert_eq!(completed.next().map(|future| future.id()), Some(before.id()));
    let next = blocked(move || {
        let next = completed.next().unwrap();
        (next, completed)
    });
    assert!(!next.is_finished() && during.cancel());
    let (next, mut completed) = next.join().unwrap();
    assert!(next.id() == during.id() && next.cancelled() && held.running(), "the worker is still held");
    arrival.release();
    assert_eq!(completed.next().map(|future| future.id()), Some(held.id()));
}

fn a5_as_completed_that_is_dropped_cancels_nothing<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let (held, queued) = (executor.submit(pass, gate.ticket(0)), executor.submit(double, 3));
    let arrival = gate.arrival();
    drop(as_completed([&held, &queued]));
    assert!(!queued.cancelled());
    arrival.release();
    assert_eq!((held.result().unwrap(), queued.result().unwrap()), (0, 6));
}

fn a6_as_completed_takes_more_futures_midway<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let mut completed = as_completed([executor.submit(double, 1)]);
    let mut values = Vec::new();
    let mut left = 1;
    while let Some(future) = completed.next() {
        left -= 1;
        assert_eq!(completed.len(), left);
        let value = future.result().unwrap();
        values.push(value);
        // A future that ends later, and one that is over already.
        if value < 64 {
            let over = executor.submit(double, 500);
            over.wait();
            completed.push(over);
            completed.push(executor.submit(double, value));
            left += 2;
            assert_eq!(completed.len(), left);
        }
    }
    values.sort_unstable();
    assert_eq!(values, [2, 4, 8, 16, 32, 64, 1000, 1000, 1000, 1000, 1000]);
    // One that had come to its end goes on.
    completed.push(executor.submit(double, 7));
    assert_eq!(completed.next().unwrap().result().unwrap(), 14);
    assert!(completed.next().is_none());
}

// By hand.

/// The time runs from the call. Were it to run from the first `next`, that one would sleep for as long
/// again, and see the future that ends as soon as it sleeps.
#[test]
fn a2_the_clock_starts_at_the_call() {
    watchdog("A2", LIMIT, || {
        let limit = Duration::from_millis(200);
        let (promise, future) = Promise::new();
        let mut completed = as_completed_timeout([&future], limit);
        assert!(!future.wait_timeout(limit));
        let (us, looks) = (this_thread(), Arc::new(AtomicBool::new(false)));
        let looking = Arc::clone(&looks);
        let ending = thread::spawn(move || {
            while !looking.load(Ordering::Acquire) {
                thread::yield_now();
            }
            until_asleep(&us);
            promise.fulfil(1);
        });
        looks.store(true, Ordering::Release);
        let first = completed.next().unwrap();
        assert!(matches!(first, Err(Error::TimedOut { .. })), "{first:?}");
        ending.join().unwrap();
    });
}

#[test]
fn a5_as_completed_keeps_nothing_that_it_has_given_out() {
    let drops = Drops::new();
    let mut completed = as_completed((0..3).map(|_| {
        let (promise, future) = Promise::new();
        promise.fulfil(drops.token());
        future
    }));
    for left in (0..3).rev() {
        drop(completed.next().unwrap());
        assert_eq!((drops.alive(), completed.len()), (left, left));
    }
    // What has not been given out goes with it.
    let (promise, future) = Promise::new();
    promise.fulfil(drops.token());
    completed.push(future);
    drop(completed);
    assert_eq!((drops.made(), drops.alive()), (4, 0));
}

#[test]
fn a6_as_completed_can_begin_empty() {
    watchdog("push", LIMIT, || {
        let mut completed = concurrent_futures::AsCompleted::default();
        assert!(completed.next().is_none());
        let (promise, future) = Promise::new();
        completed.push(("a", future));
        let (first, second) = (Promise::new(), Promise::new());
        completed.push(("b", first.1));
        second.0.fulfil(2);
        completed.push(("c", second.1));
        assert_eq!(completed.size_hint(), (3, Some(3)));
        assert_eq!(completed.next().unwrap().0, "c");
        promise.fulfil(1);
        assert_eq!(completed.next().unwrap().0, "a");
        let waiting = blocked(move || completed.next().unwrap().1.result().unwrap());
        assert!(!waiting.is_finished());
        first.0.fulfil(3);
        assert_eq!(waiting.join().unwrap(), 3);

        let mut limited = as_completed_timeout(Vec::new(), Duration::ZERO);
        let (promise, future) = Promise::new();
        limited.push(future);
        promise.fulfil(4);
        limited.push(Promise::new().1);
        assert_eq!(limited.size_hint(), (1, Some(2)));
        // The second one is broken already: both are over, the limit does not matter.
        assert_eq!(limited.by_ref().filter(Result::is_ok).count(), 2);
        assert!(limited.next().is_none());
    });
}
