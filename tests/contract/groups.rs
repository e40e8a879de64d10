//! `Group`: futures that are waited for, and ended, together.

use std::sync::Arc;

use concurrent_futures::{Error, Executor, Future, Group, ProcessPoolExecutor, ThreadPoolExecutor, task};

use crate::common::{Journal, LIMIT, Ticket, Turnstile, watchdog};
use crate::engines::{double, explode, note, pass, processes, refuse_threes, threads, until};

contract!(
    [
        all_gives_every_outcome_in_order,
        try_all_gives_the_values_in_order,
        without_a_value_first_gives_the_first_error,
        an_empty_group_is_done,
    ],
    [
        the_first_error_cancels_the_rest_and_waits_for_what_runs,
        the_first_error_need_not_wait,
        the_first_value_cancels_the_rest,
        a_group_that_is_dropped_cancels_what_has_not_started,
        what_runs_and_is_not_wanted_is_told,
    ]
);

registered!([run_until_unwanted], []);

fn all_gives_every_outcome_in_order<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let mut group: Group<u32> = (0..9).map(|n| executor.try_submit(refuse_threes, n)).collect();
    group.push(executor.submit(explode, 9));
    assert_eq!((group.len(), group.is_empty()), (10, false));
    let outcomes = group.all();
    assert_eq!(outcomes.len(), 10);
    for (n, outcome) in (0..).zip(outcomes) {
        match n {
            9 => assert!(matches!(outcome, Err(Error::Panicked { .. }))),
            n if n % 3 == 0 => assert!(matches!(outcome, Err(Error::Raised { .. }))),
            n => assert_eq!(outcome.unwrap(), n * 2),
        }
    }
}

fn try_all_gives_the_values_in_order<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let group: Group<u32> = (0..100).map(|n| executor.submit(double, n)).collect();
    assert_eq!(group.try_all().unwrap(), (0..100).map(|n| n * 2).collect::<Vec<_>>());
}

fn without_a_value_first_gives_the_first_error<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let group: Group<u32> = [0, 3].map(|n| executor.try_submit(refuse_threes, n)).into_iter().collect();
    let error = group.first().unwrap_err();
    assert!(error.to_string().contains("refused 0"), "{error}");
}

fn an_empty_group_is_done<E: Executor>(_: impl Fn(usize) -> E) {
    assert!(Group::<u32>::new().all().is_empty());
    assert!(Group::<u32>::new().try_all().unwrap().is_empty());
    assert!(matches!(Group::<u32>::default().first(), Err(Error::InvalidArgument { .. })));
}

fn the_first_error_cancels_the_rest_and_waits_for_what_runs<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(2);
    let gate = Turnstile::new();
    let mut group: Group<u32> = [1, 2].map(|n| executor.submit(pass, gate.ticket(n))).into_iter().collect();
    let arrivals = gate.arrivals(2);
    let fails = executor.submit(explode, 1);
    // Behind what fails, and so queued when it does: until the last, there is one worker.
    group.push(fails);
    group.extend((3..6).map(|n| executor.submit(pass, gate.ticket(n))));
    group.push(executor.submit(note, (journal.page(), 6)));
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| group.try_all());
        let mut arrivals = arrivals.into_iter();
        arrivals.next().unwrap().release();
        // The worker that is free now runs what fails; it may have come to the next before the rest was cancelled.
        assert!(!ended.is_finished(), "one is still held");
        drop(arrivals);
        drop(gate);
        assert!(matches!(ended.join().unwrap(), Err(Error::Panicked { .. })));
    });
    executor.shutdown();
}

fn the_first_error_need_not_wait<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(2);
    let gate = Turnstile::new();
    // Both workers are held: what fails is not of this executor.
    let held = [1, 2].map(|n| executor.submit(pass, gate.ticket(n)));
    let arrivals = gate.arrivals(2);
    let [one, two] = held;
    let mut group = Group::new().wait_for_rest(false);
    group.push(one);
    group.push(executor.submit(note, (journal.page(), 3)));
    group.push(threads(1).submit(explode, 1));
    assert!(matches!(group.try_all(), Err(Error::Panicked { .. })));
    assert!(two.running(), "nobody was released");
    drop(arrivals);
    executor.shutdown();
    assert!(journal.lines().is_empty(), "what was queued never ran");
}

fn the_first_value_cancels_the_rest<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(2);
    let gate = Turnstile::new();
    let mut group: Group<u32> = [1, 2].map(|n| executor.submit(pass, gate.ticket(n))).into_iter().collect();
    let arrivals = gate.arrivals(2);
    group.push(threads(1).submit(explode, 1));
    group.push(executor.submit(note, (journal.page(), 3)));
    group.push(threads(1).submit(double, 4));
    // Does not wait for those that are held.
    assert_eq!(group.first().unwrap(), 8);
    drop(arrivals);
    executor.shutdown();
    assert!(journal.lines().is_empty());
}

fn a_group_that_is_dropped_cancels_what_has_not_started<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let group: Group<u32> = (2..5).map(|n| executor.submit(note, (journal.page(), n))).collect();
    drop(group);
    arrival.release();
    assert_eq!(held.result().unwrap(), 1);
    executor.shutdown();
    assert!(journal.lines().is_empty());
}

/// In processes what is not wanted can be stopped, not only left alone.
#[test]
fn the_rest_is_killed_if_asked_for() {
    type End = fn(Group<u32>);
    type Other = fn(u32) -> u32;
    let ends: [(End, Other); 3] = [
        (|group| assert_eq!(group.first().unwrap(), 8), double),
        (|group| assert!(matches!(group.try_all(), Err(Error::Panicked { .. }))), explode),
        (drop, double),
    ];
    watchdog("killing the rest", LIMIT, || {
        for (end, other) in ends {
            let pool: ProcessPoolExecutor = processes(1);
            let before = pool.submit(double, 1);
            assert_eq!(before.result().unwrap(), 2);
            let worker = pool.worker_pids();
            let gate = Turnstile::new();
            let mut group = Group::new().kill_rest(true);
            group.push(pool.submit(pass, gate.ticket(1)));
            let _held = gate.arrival();
            group.push(threads(1).spawn(move || other(4)));
            end(group);
            // It was never released: its worker was killed, and another does the next call.
            assert_eq!(pool.submit(double, 4).result().unwrap(), 8);
            until(|| pool.worker_pids() != worker);
        }
    });
}

#[test]
fn a_group_waits_in_a_worker_as_everything_does() {
    type End = fn(Group<u32>) -> u32;
    let ends: [End; 3] = [
        |group| group.all().into_iter().map(Result::unwrap).sum(),
        |group| group.try_all().unwrap().into_iter().sum(),
        |group| group.first().unwrap() + 10,
    ];
    for end in ends {
        watchdog("groups inside", LIMIT, || {
            let pool = Arc::new(threads(1));
            let own: Arc<ThreadPoolExecutor> = Arc::clone(&pool);
            let call =
                pool.spawn(move || end([1, 2, 3].map(|n| own.submit(double, n)).into_iter().collect()));
            assert_eq!(call.result().unwrap(), 12);
        });
    }
}

#[test]
fn futures_of_different_executors_mix() {
    watchdog("mixed groups", LIMIT, || {
        let (one, other) = (threads(1), processes(1));
        let futures: [Future<u32>; 3] = [one.submit(double, 1), other.submit(double, 2), one.spawn(|| 6)];
        assert_eq!(futures.into_iter().collect::<Group<_>>().try_all().unwrap(), [2, 4, 6]);
    });
}

fn run_until_unwanted(ticket: Ticket) -> u32 {
    ticket.pass();
    while !task::cancelled() {
        std::thread::yield_now();
    }
    1
}

fn what_runs_and_is_not_wanted_is_told<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let gate = Turnstile::new();
    let mut group = Group::new();
    group.push(executor.submit(run_until_unwanted, gate.ticket(0)));
    gate.arrival().release();
    group.push(executor.submit(double, 4));
    assert_eq!(group.first().unwrap(), 8);
    // It waits for the other one.
    executor.shutdown();
}
