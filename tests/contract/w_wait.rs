//! Parity clauses W: `wait`, over the futures of an executor, of several at once, and by hand.

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    AsCompleted, AsFuture, Error, Executor, Future, Promise, ReturnWhen, SharedFuture, Shutdown,
    as_completed, as_completed_timeout, wait, wait_timeout,
};

use crate::common::{LIMIT, LONG, Ticket, Turnstile, alone, blocked, watchdog};
use crate::engines::{double, explode, pass, processes, serial, threads};

contract!(
    [
        w1_wait_takes_any_iterator,
        w1_wait_gives_everything_back_in_the_order_given,
        w2_nothing_to_wait_for_is_no_wait,
        w3_wait_for_the_first_gives_all_that_are_over,
    ],
    [
        w1_one_future_can_be_named_twice_and_waited_for_by_many,
        w3_wait_for_the_first_returns_when_one_is_over,
        w4_first_exception_returns_at_the_first_error,
        w4_first_exception_ignores_cancelled,
        w5_wait_for_all_returns_when_all_are_over,
        w6_a_cancelled_future_is_done_for_every_observer,
        w6_whoever_waits_wakes_on_cancel,
        w6_what_shutdown_cancels_is_done_at_once,
        w7_a_limit_gives_back_what_there_is,
    ]
);

registered!([pass_and_explode], []);

const ZERO: Duration = Duration::ZERO;
const EVERY: [ReturnWhen; 3] =
    [ReturnWhen::FirstCompleted, ReturnWhen::FirstException, ReturnWhen::AllCompleted];

fn pass_and_explode(ticket: Ticket) -> u32 {
    panic!("exploded behind the gate: {}", ticket.pass())
}

/// Also one that can be gone through but once.
fn w1_wait_takes_any_iterator<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let (tell, told) = std::sync::mpsc::channel();
    for n in 0..3 {
        tell.send(executor.submit(double, n)).unwrap();
    }
    drop(tell);
    let done = wait(told, ReturnWhen::AllCompleted).done;
    assert_eq!(done.into_iter().map(|future| future.result().unwrap()).collect::<Vec<_>>(), [0, 2, 4]);
    assert_eq!(wait(Some(executor.submit(double, 1)), ReturnWhen::AllCompleted).done.len(), 1);
}

fn w1_wait_gives_everything_back_in_the_order_given<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let keyed: Vec<_> = (0..30).map(|n| (n, executor.submit(double, n))).collect();
    let waited = wait(keyed, ReturnWhen::AllCompleted);
    assert!(waited.not_done.is_empty());
    for (n, (key, future)) in (0..).zip(waited.done) {
        assert_eq!((key, future.result().unwrap()), (n, n * 2));
    }
}

/// One future, named twice in one wait and waited for by several threads.
fn w1_one_future_can_be_named_twice_and_waited_for_by_many<E: Executor>(make: impl Fn(usize) -> E) {
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

fn w2_nothing_to_wait_for_is_no_wait<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    for when in EVERY {
        for waited in [wait(Vec::<Future<u32>>::new(), when), wait_timeout(Vec::new(), when, LONG)] {
            assert!(waited.done.is_empty() && waited.not_done.is_empty());
        }
    }
    assert_eq!(executor.submit(double, 1).result().unwrap(), 2);
}

fn w3_wait_for_the_first_gives_all_that_are_over<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let futures = [executor.submit(double, 1), executor.submit(explode, 1), executor.submit(double, 2)];
    futures.iter().for_each(Future::wait);
    let (promise, open) = Promise::<u32>::new();
    let waited = wait(futures.iter().chain([&open]), ReturnWhen::FirstCompleted);
    assert_eq!((waited.done, waited.not_done), (futures.iter().collect(), vec![&open]));
    drop(promise);
}

fn w3_wait_for_the_first_returns_when_one_is_over<E: Executor>(make: impl Fn(usize) -> E) {
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

/// Before the wait or during it.
fn w4_first_exception_returns_at_the_first_error<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0)).shared();
    let fails = executor.submit(pass_and_explode, gate.ticket(1)).shared();
    let succeeds = executor.submit(pass, gate.ticket(2)).shared();
    let mut arrivals = gate.arrivals(3);
    arrivals.sort_by_key(|arrival| arrival.number);
    let futures = [held.clone(), fails.clone(), succeeds.clone()];
    let waiting = blocked(move || {
        let waited = wait(&futures, ReturnWhen::FirstException);
        let ids =
            |futures: Vec<&SharedFuture<u32>>| futures.iter().map(|future| future.id()).collect::<Vec<_>>();
        (ids(waited.done), ids(waited.not_done))
    });
    // A value does not end the wait, an error does.
    arrivals.pop().unwrap().release();
    succeeds.wait();
    assert!(!waiting.is_finished());
    arrivals.pop().unwrap().release();
    assert_eq!(waiting.join().unwrap(), (vec![fails.id(), succeeds.id()], vec![held.id()]));
    // An error that is there already ends the next wait at once.
    let waited = wait([&held, &fails], ReturnWhen::FirstException);
    assert_eq!((waited.done.len(), waited.not_done[0].id()), (1, held.id()));
    drop(arrivals);
    // Without one it is a wait for all.
    assert_eq!(wait([&held, &succeeds], ReturnWhen::FirstException).done.len(), 2);
}

fn w4_first_exception_ignores_cancelled<E: Executor>(make: impl Fn(usize) -> E) {
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

fn w5_wait_for_all_returns_when_all_are_over<E: Executor>(make: impl Fn(usize) -> E) {
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

/// CPython's `wait` hangs here until a worker comes by.
fn w6_a_cancelled_future_is_done_for_every_observer<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let futures: Vec<_> = (0..3).map(|n| executor.submit(double, n)).collect();
    assert!(futures.iter().all(Future::cancel));
    for when in EVERY {
        assert_eq!(wait(&futures, when).done.len(), 3);
        assert_eq!(wait_timeout(&futures, when, ZERO).done.len(), 3);
    }
    // With one that is open.
    let waited = wait(futures.iter().chain([&held]), ReturnWhen::FirstCompleted);
    assert_eq!((waited.done.len(), waited.not_done), (3, vec![&held]));
    assert_eq!(as_completed(&futures).count(), 3);
    assert!(as_completed_timeout(&futures, ZERO).all(|item| item.is_ok()));
    for mut future in futures {
        future.wait();
        assert!(future.done() && future.wait_timeout(ZERO));
        assert!(matches!(future.exception(), Some(Error::Cancelled { .. })));
        assert!(matches!(future.try_result(), Some(Err(Error::Cancelled { .. }))));
        assert!(matches!(future.result_timeout(ZERO), Err(Error::Cancelled { .. })));
        assert!(matches!(future.result(), Err(Error::Cancelled { .. })));
    }
    assert!(held.running(), "nobody came by");
    arrival.release();
    assert_eq!(held.result().unwrap(), 0);
}

/// Threads that wait for these futures in every way; each tells how many it saw end.
fn waiting_for(futures: &[SharedFuture<u32>]) -> Vec<thread::JoinHandle<usize>> {
    type Way = fn(&[SharedFuture<u32>]) -> usize;
    let ways: [Way; 6] = [
        |futures| wait(futures, ReturnWhen::AllCompleted).done.len(),
        |futures| wait(futures, ReturnWhen::FirstException).done.len(),
        |futures| wait_timeout(futures, ReturnWhen::AllCompleted, LONG).done.len(),
        |futures| as_completed(futures).count(),
        |futures| as_completed_timeout(futures, LONG).filter(Result::is_ok).count(),
        |futures| futures.iter().filter(|future| future.result().is_err()).count(),
    ];
    ways.into_iter()
        .map(|way| {
            let futures = futures.to_vec();
            blocked(move || way(&futures))
        })
        .collect()
}

fn w6_whoever_waits_wakes_on_cancel<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let futures: Vec<_> = (0..3).map(|n| executor.submit(double, n).shared()).collect();
    let waiting = waiting_for(&futures);
    assert!(waiting.iter().all(|thread| !thread.is_finished()));
    assert!(futures.iter().all(SharedFuture::cancel));
    assert!(waiting.into_iter().all(|thread| thread.join().unwrap() == 3));
    assert!(held.running());
    arrival.release();
    assert_eq!(held.result().unwrap(), 0);
}

/// There, these are never told of.
fn w6_what_shutdown_cancels_is_done_at_once<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let futures: Vec<_> = (0..3).map(|n| executor.submit(double, n).shared()).collect();
    let before = waiting_for(&futures);
    executor.shutdown_with(Shutdown { wait: false, cancel_futures: true });
    assert!(before.into_iter().all(|thread| thread.join().unwrap() == 3));
    assert!(waiting_for(&futures).into_iter().all(|thread| thread.join().unwrap() == 3));
    assert!(held.running());
    arrival.release();
    assert_eq!(held.result().unwrap(), 0);
}

fn w7_a_limit_gives_back_what_there_is<E: Executor>(make: impl Fn(usize) -> E) {
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

// Not about one executor.

#[test]
fn w4_a_broken_promise_is_an_exception() {
    watchdog("FirstException", LIMIT, || {
        let (promises, futures): (Vec<_>, Vec<_>) = (0..4).map(|_| Promise::<u32>::new()).unzip();
        let mut promises = promises.into_iter();
        promises.next().unwrap().fulfil(0);
        assert!(futures[1].cancel());
        assert_eq!(wait_timeout(&futures, ReturnWhen::FirstException, ZERO).not_done.len(), 2);
        assert_eq!(wait(&futures, ReturnWhen::FirstCompleted).done, [&futures[0], &futures[1]]);
        // A promise that is broken is a failure.
        drop(promises.next_back());
        let waited = wait(&futures, ReturnWhen::FirstException);
        assert_eq!((waited.done.len(), waited.not_done), (3, vec![&futures[2]]));
    });
}

/// There is no fourth for which it could be asked: this would not compile.
#[test]
fn w8_there_are_three_modes_and_all_is_the_default() {
    let (promise, future) = Promise::new();
    promise.fulfil(1);
    for when in EVERY {
        match when {
            ReturnWhen::FirstCompleted | ReturnWhen::FirstException | ReturnWhen::AllCompleted => {
                assert_eq!(wait([&future], when).done.len(), 1);
            }
        }
    }
    assert_eq!(ReturnWhen::default(), ReturnWhen::AllCompleted);
}

#[test]
fn w9_a_hundred_futures_that_end_together_are_all_counted() {
    watchdog("W9", LIMIT, || {
        for _ in 0..20 {
            let (promises, futures): (Vec<_>, Vec<_>) = (0..100).map(|_| Promise::new()).unzip();
            let meeting = Arc::new(Barrier::new(5));
            let mut hands: Vec<Vec<Promise<usize>>> = (0..4).map(|_| Vec::new()).collect();
            for (number, promise) in promises.into_iter().enumerate() {
                hands[number % 4].push(promise);
            }
            let ending: Vec<_> = hands
                .into_iter()
                .map(|promises| {
                    let meeting = Arc::clone(&meeting);
                    thread::spawn(move || {
                        meeting.wait();
                        promises.into_iter().enumerate().for_each(|(n, promise)| promise.fulfil(n));
                    })
                })
                .collect();
            meeting.wait();
            let completed = as_completed(&futures);
            let waited = wait(&futures, ReturnWhen::AllCompleted);
            assert!(waited.not_done.is_empty());
            assert_eq!(completed.collect::<HashSet<_>>().len(), 100);
            ending.into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
}

#[test]
fn w10_futures_of_several_executors_and_types_wait_together() {
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

/// kB of this process that are in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A future that is waited for again and again would grow by everyone who gave up.
#[test]
fn w11_a_wait_that_is_over_leaves_nothing_behind() {
    watchdog("W11", LIMIT, || {
        alone(module_path!(), "w11_a_wait_that_is_over_leaves_nothing_behind", || {
            // One each, so that what the one keeps does not slow the other down.
            let (promises, futures): (Vec<_>, Vec<_>) = (0..3).map(|_| Promise::<u32>::new()).unzip();
            let give_up = |times: usize| {
                for _ in 0..times {
                    for when in EVERY {
                        assert_eq!(wait_timeout([&futures[0]], when, ZERO).not_done.len(), 1);
                    }
                    drop(as_completed([&futures[1], &futures[1]]));
                    assert!(as_completed_timeout([&futures[2]], ZERO).next().unwrap().is_err());
                }
            };
            give_up(100);
            let before = resident();
            give_up(20_000);
            // Each of the hundred thousand mailboxes has 500 bytes and more.
            assert!(resident() < before + 10_000, "{before} kB have become {} kB", resident());
            drop(promises);
        });
    });
}

/// One set for as long as there is work: each future is registered once, not once for every wait.
#[test]
fn w12_a_set_that_is_kept_registers_each_future_once() {
    watchdog("W12", LIMIT, || {
        const MANY: usize = 50_000;
        let (promises, futures): (Vec<_>, Vec<_>) = (0..MANY).map(|_| Promise::new()).unzip();
        let mut set = AsCompleted::default();
        (0..).zip(futures).for_each(|item| set.push(item));
        // One by one: a wait that goes through all of them each time would take minutes.
        for (n, promise) in promises.into_iter().enumerate() {
            promise.fulfil(n);
            let (key, future) = set.next().unwrap();
            assert_eq!((key, future.result().unwrap()), (n, n));
        }
        assert!(set.next().is_none());
    });
}
