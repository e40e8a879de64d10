//! `wait` and `as_completed` over the futures of an executor, and over those of several at once.

use std::sync::Arc;
use std::time::Duration;

use concurrent_futures::{
    AsFuture, Error, Executor, Future, Promise, ReturnWhen, as_completed, as_completed_timeout, wait,
    wait_timeout,
};

use crate::common::{LIMIT, LONG, Ticket, Turnstile, blocked, watchdog};
use crate::engines::{double, explode, pass, processes, serial, threads};

contract!(
    [
        wait_takes_futures_that_are_over,
        wait_gives_everything_back_in_the_order_given,
        as_completed_gives_every_item_once,
    ],
    [
        wait_for_all_returns_when_all_are_over,
        wait_for_the_first_returns_when_one_is_over,
        wait_for_an_exception_returns_at_the_first_error,
        wait_for_an_exception_does_not_take_cancelling_for_one,
        wait_with_a_limit_gives_back_what_there_is,
        waits_can_be_repeated_and_shared,
        as_completed_follows_the_order_of_ending,
        as_completed_takes_more_futures_midway,
        as_completed_with_a_limit_says_once_how_many_are_missing,
        as_completed_that_is_dropped_cancels_nothing,
    ]
);

fn pass_and_explode(ticket: Ticket) -> u32 {
    panic!("exploded behind the gate: {}", ticket.pass())
}

fn wait_takes_futures_that_are_over<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let futures = [executor.submit(double, 1), executor.submit(explode, 1), executor.submit(double, 2)];
    for when in [ReturnWhen::AllCompleted, ReturnWhen::FirstException, ReturnWhen::FirstCompleted] {
        let waited = wait(&futures, when);
        assert_eq!(waited.done.len() + waited.not_done.len(), 3);
        if when != ReturnWhen::FirstCompleted {
            assert!(waited.done.contains(&&futures[1]));
        }
    }
    futures.iter().for_each(Future::wait);
    let waited = wait(&futures, ReturnWhen::FirstCompleted);
    assert_eq!(waited.done, [&futures[0], &futures[1], &futures[2]]);
    // Nothing to wait for.
    let none = wait(Vec::<Future<u32>>::new(), ReturnWhen::FirstCompleted);
    assert!(none.done.is_empty() && none.not_done.is_empty());
}

fn wait_gives_everything_back_in_the_order_given<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let keyed: Vec<_> = (0..30).map(|n| (n, executor.submit(double, n))).collect();
    let waited = wait(keyed, ReturnWhen::AllCompleted);
    assert!(waited.not_done.is_empty());
    for (n, (key, future)) in (0..).zip(waited.done) {
        assert_eq!((key, future.result().unwrap()), (n, n * 2));
    }
}

fn wait_for_all_returns_when_all_are_over<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let gate = Turnstile::new();
    let futures =
        [executor.submit(pass, gate.ticket(0)), executor.submit(pass, gate.ticket(1))].map(Arc::new);
    let [first, second] = <[_; 2]>::try_from(gate.arrivals(2)).unwrap();
    let watched = futures.clone();
    let waiting = blocked(move || {
        let waited = wait(watched.iter().map(Arc::as_ref), ReturnWhen::AllCompleted);
        (waited.done.len(), waited.not_done.len())
    });
    first.release();
    assert_eq!(wait(futures.iter().map(Arc::as_ref), ReturnWhen::FirstCompleted).done.len(), 1);
    assert!(!waiting.is_finished(), "one is still held");
    second.release();
    assert_eq!(waiting.join().unwrap(), (2, 0));
}

fn wait_for_the_first_returns_when_one_is_over<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let gate = Turnstile::new();
    let mut open: Vec<_> = (0..3).map(|n| (n, executor.submit(pass, gate.ticket(n)))).collect();
    let mut arrivals = gate.arrivals(3);
    for left in (0..3).rev() {
        // In the order of arrival, whatever that is.
        let released = arrivals.remove(0);
        let number = released.number;
        released.release();
        let waited = wait(open, ReturnWhen::FirstCompleted);
        assert_eq!(waited.done.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [number]);
        assert_eq!(waited.not_done.len(), left);
        open = waited.not_done;
    }
}

fn wait_for_an_exception_returns_at_the_first_error<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let fails = executor.submit(pass_and_explode, gate.ticket(1));
    let succeeds = executor.submit(pass, gate.ticket(2));
    let mut arrivals = gate.arrivals(3);
    arrivals.sort_by_key(|arrival| arrival.number);
    // A value does not end the wait, an error does.
    arrivals.pop().unwrap().release();
    succeeds.wait();
    arrivals.pop().unwrap().release();
    let waited = wait([&held, &fails, &succeeds], ReturnWhen::FirstException);
    assert_eq!((waited.done, waited.not_done), (vec![&fails, &succeeds], vec![&held]));
    // An error that is there already ends the next wait at once.
    assert_eq!(wait([&held, &fails], ReturnWhen::FirstException).not_done, [&held]);
    drop(arrivals);
    assert_eq!(held.result().unwrap(), 0);
}

fn wait_for_an_exception_does_not_take_cancelling_for_one<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0)).shared();
    let arrival = gate.arrival();
    let cancelled = executor.submit(double, 1).shared();
    assert!(cancelled.cancel());
    let futures = [held.clone(), cancelled];
    let waiting = blocked(move || wait(&futures, ReturnWhen::FirstException).not_done.len());
    assert!(!waiting.is_finished(), "being cancelled is no exception");
    arrival.release();
    assert_eq!(waiting.join().unwrap(), 0);
    assert_eq!(held.result().cloned().unwrap(), 0);
}

fn wait_with_a_limit_gives_back_what_there_is<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let done = executor.submit(double, 2);
    done.wait();
    for limit in [Duration::ZERO, Duration::from_millis(1)] {
        for when in [ReturnWhen::AllCompleted, ReturnWhen::FirstException] {
            let waited = wait_timeout([&held, &done], when, limit);
            assert_eq!((waited.done, waited.not_done), (vec![&done], vec![&held]));
        }
        assert!(!held.wait_timeout(limit) && done.wait_timeout(limit));
    }
    let mut held = held;
    assert!(matches!(held.result_timeout(Duration::from_millis(1)), Err(Error::TimedOut { .. })));
    arrival.release();
    // Further than the clock reaches.
    assert!(wait_timeout([&held], ReturnWhen::AllCompleted, Duration::MAX).not_done.is_empty());
    assert_eq!(held.result_timeout(Duration::ZERO).unwrap(), 0, "a future that is done never times out");
}

/// One future, named twice in one wait and waited for by several threads.
fn waits_can_be_repeated_and_shared<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let future = executor.submit(pass, gate.ticket(5)).shared();
    let arrival = gate.arrival();
    for _ in 0..100 {
        assert_eq!(wait_timeout([&future], ReturnWhen::AllCompleted, Duration::ZERO).not_done.len(), 1);
        drop(as_completed([&future, &future]));
    }
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let future = future.clone();
            blocked(move || wait([&future, &future], ReturnWhen::AllCompleted).done.len())
        })
        .collect();
    arrival.release();
    assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == 2));
}

fn as_completed_gives_every_item_once<E: Executor>(make: impl Fn(usize) -> E) {
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

fn as_completed_follows_the_order_of_ending<E: Executor>(make: impl Fn(usize) -> E) {
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

fn as_completed_takes_more_futures_midway<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let mut completed = as_completed([executor.submit(double, 1)]);
    let mut values = Vec::new();
    while let Some(future) = completed.next() {
        let value = future.result().unwrap();
        values.push(value);
        // A future that ends later, and one that is over already.
        if value < 64 {
            let over = executor.submit(double, 500);
            over.wait();
            completed.push(over);
            completed.push(executor.submit(double, value));
        }
    }
    values.sort_unstable();
    assert_eq!(values, [2, 4, 8, 16, 32, 64, 1000, 1000, 1000, 1000, 1000]);
    // One that had come to its end goes on.
    completed.push(executor.submit(double, 7));
    assert_eq!(completed.next().unwrap().result().unwrap(), 14);
    assert!(completed.next().is_none());
}

fn as_completed_with_a_limit_says_once_how_many_are_missing<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let done = [executor.submit(double, 1), executor.submit(double, 2)];
    done.iter().for_each(Future::wait);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let queued = executor.submit(double, 3);
    for limit in [Duration::ZERO, Duration::from_millis(1)] {
        let mut completed = as_completed_timeout([&held, &done[0], &queued, &done[1]], limit);
        // What is over comes out, however late it is.
        assert_eq!(completed.next().unwrap().unwrap(), &done[0]);
        assert_eq!(completed.next().unwrap().unwrap(), &done[1]);
        let error = completed.next().unwrap().unwrap_err();
        assert!(matches!(error, Error::TimedOut { limit: said, .. } if said == limit), "{error:?}");
        assert!(error.to_string().contains("2 of 4"), "{error}");
        assert!(completed.next().is_none() && completed.next().is_none());
    }
    arrival.release();
    let rest: Result<Vec<_>, _> = as_completed_timeout([held, queued], LONG).collect();
    assert_eq!(rest.unwrap().len(), 2);
}

fn as_completed_that_is_dropped_cancels_nothing<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let (held, queued) = (executor.submit(pass, gate.ticket(0)), executor.submit(double, 3));
    let arrival = gate.arrival();
    drop(as_completed([&held, &queued]));
    assert!(!queued.cancelled());
    arrival.release();
    assert_eq!((held.result().unwrap(), queued.result().unwrap()), (0, 6));
}

#[test]
fn futures_of_several_executors_and_types_wait_together() {
    watchdog("mixed wait", LIMIT, || {
        let (threads, processes, serial) = (threads(1), processes(1), serial(1));
        let gate = Turnstile::new();
        let number = threads.submit(pass, gate.ticket(1));
        let text = Executor::submit(&processes, |ticket: Ticket| ticket.pass().to_string(), gate.ticket(2));
        let here = serial.submit(double, 3);
        let (promise, by_hand) = Promise::<Vec<u8>>::new();
        let shared = threads.submit(double, 4).shared();
        let mut arrivals = gate.arrivals(2);
        arrivals.sort_by_key(|arrival| arrival.number);

        let all: [&dyn AsFuture; 5] = [&number, &text, &here, &by_hand, &shared];
        let waited = wait(all, ReturnWhen::FirstCompleted);
        assert_eq!(waited.done.len(), 1, "`here` was over before");
        // By key, and one of each comes out as it ends.
        let keyed: [(&str, &dyn AsFuture); 4] =
            [("number", &number), ("text", &text), ("here", &here), ("by hand", &by_hand)];
        let mut completed = as_completed(keyed);
        assert_eq!(completed.next().unwrap().0, "here");
        arrivals.pop().unwrap().release();
        assert_eq!(completed.next().unwrap().0, "text");
        promise.fulfil(vec![4]);
        assert_eq!(completed.next().unwrap().0, "by hand");
        arrivals.pop().unwrap().release();
        assert_eq!(completed.next().unwrap().0, "number");
        drop(completed);
        let waited = wait(all, ReturnWhen::AllCompleted);
        assert!(waited.not_done.is_empty());
        assert_eq!((number.result().unwrap(), text.result().unwrap()), (1, "2".to_owned()));
        assert_eq!((here.result().unwrap(), by_hand.result().unwrap()), (6, vec![4]));
        // The worker of `threads` was held by `number`.
        assert_eq!(*shared.result().unwrap(), 8);
    });
}
