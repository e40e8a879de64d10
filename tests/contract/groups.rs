//! Groups: futures that end together, on every engine, also of several engines in one group, also inside of workers.

use std::sync::Arc;

use concurrent_futures::{Error, Executor, Group, SerialExecutor, task};

use crate::common::{Journal, LIMIT, Ticket, Turnstile, watchdog};
use crate::engines::{double, explode_on_threes, note, pass, processes, refuse_threes, threads};

contract!(
    [
        all_gives_each_outcome_in_order,
        try_all_gives_the_values_in_order,
        an_empty_group_is_over,
        first_passes_over_errors,
        if_all_fail_the_first_error_is_told,
    ],
    [
        the_first_value_ends_the_group,
        the_first_error_to_come_cancels_the_rest,
        a_group_that_is_dropped_cancels_what_has_not_started,
        what_runs_is_told,
    ]
);

fn all_gives_each_outcome_in_order<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let group: Group<_> = (1..=6).map(|n| executor.submit(explode_on_threes, n)).collect();
    assert_eq!((group.len(), group.is_empty()), (6, false));
    let outcomes = group.all();
    for (n, outcome) in (1..).zip(outcomes) {
        match outcome {
            Ok(value) => assert!(n % 3 != 0 && value == 2 * n),
            Err(error) => assert!(n % 3 == 0 && matches!(error, Error::Panicked { .. }), "{error:?}"),
        }
    }
}

fn try_all_gives_the_values_in_order<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let mut group = Group::new();
    group.push(executor.submit(double, 1));
    group.extend((2..50).map(|n| executor.submit(double, n)));
    assert_eq!(group.try_all().unwrap(), (1..50).map(|n| 2 * n).collect::<Vec<_>>());
}

fn an_empty_group_is_over<E: Executor>(_: impl Fn(usize) -> E) {
    assert!(Group::<u32>::new().all().is_empty());
    assert!(Group::<u32>::new().try_all().unwrap().is_empty());
    assert!(matches!(Group::<u32>::default().first(), Err(Error::InvalidArgument { .. })));
}

fn first_passes_over_errors<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let group: Group<_> = [3, 6, 7].map(|n| executor.try_submit(refuse_threes, n)).into_iter().collect();
    assert_eq!(group.first().unwrap(), 14);
}

fn if_all_fail_the_first_error_is_told<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let group: Group<_> = [9, 3, 6].map(|n| executor.try_submit(refuse_threes, n)).into_iter().collect();
    let error = group.first().unwrap_err();
    assert!(error.to_string().contains("refused 9"), "{error}");
}

fn the_first_value_ends_the_group<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(2);
    let gate = Turnstile::new();
    let mut group: Group<_> = [0, 1].map(|n| executor.submit(pass, gate.ticket(n))).into_iter().collect();
    group.push(executor.submit(note, (journal.page(), 2)));
    let arrivals = gate.arrivals(2);
    // One goes on; the other is held, and takes no part any more.
    let mut arrivals = arrivals.into_iter();
    let (winner, loser) = (arrivals.next().unwrap(), arrivals.next().unwrap());
    let number = winner.number;
    // So that the worker which is free then does not begin the third before it is cancelled.
    let waiting = std::thread::spawn(move || group.first());
    winner.release();
    let first = waiting.join().unwrap().unwrap();
    assert!(first == number || first == 2);
    loser.release();
    executor.shutdown();
}

fn the_first_error_to_come_cancels_the_rest<E: Executor>(make: impl Fn(usize) -> E) {
    fn pass_and_fail(ticket: Ticket) -> Result<u32, String> {
        Err(format!("failed {}", ticket.pass()))
    }
    let executor = make(1);
    let gate = Turnstile::new();
    let mut group: Group<_> =
        [0, 1].map(|n| executor.try_submit(pass_and_fail, gate.ticket(n))).into_iter().collect();
    let arrival = gate.arrival();
    // It ends last, and is not waited for.
    group.push(executor.submit(pass, gate.ticket(2)));
    let waiting = std::thread::spawn(move || group.try_all());
    arrival.release();
    let error = waiting.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("failed 0"), "{error}");
    drop(gate);
    executor.shutdown();
}

fn a_group_that_is_dropped_cancels_what_has_not_started<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let group: Group<_> = (1..5).map(|n| executor.submit(note, (journal.page(), n))).collect();
    drop(group);
    arrival.release();
    assert_eq!(held.result().unwrap(), 0);
    executor.shutdown();
    assert!(journal.lines().is_empty());
}

fn what_runs_is_told<E: Executor>(make: impl Fn(usize) -> E) {
    fn run_until_unwanted(ticket: Ticket) -> u32 {
        ticket.pass();
        while !task::cancelled() {
            std::thread::yield_now();
        }
        1
    }
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

#[test]
fn what_runs_in_a_process_can_be_killed() {
    fn run_for_ever(ticket: Ticket) -> u32 {
        ticket.pass();
        loop {
            std::hint::spin_loop();
        }
    }
    watchdog("groups that kill", LIMIT, || {
        let pool = processes(2);
        let gate = Turnstile::new();
        let mut group = Group::new().kill_running(true);
        group.push(pool.submit(run_for_ever, gate.ticket(0)));
        gate.arrival().release();
        group.push(pool.submit(double, 4));
        assert_eq!(group.first().unwrap(), 8);
        pool.shutdown();
    });
}

#[test]
fn futures_of_several_engines_are_in_one_group() {
    watchdog("groups of several engines", LIMIT, || {
        let (one, two, none) = (threads(1), processes(1), SerialExecutor::new());
        let group = Group::from_iter([
            Executor::submit(&one, double, 1),
            two.submit(double, 2),
            none.submit(double, 3),
        ]);
        assert_eq!(group.try_all().unwrap(), [2, 4, 6]);
    });
}

/// One worker, which waits for what only it can do.
#[test]
fn a_group_inside_of_a_worker_is_done_by_it() {
    watchdog("groups inside of workers", LIMIT, || {
        let pool = Arc::new(threads(1));
        let its = Arc::clone(&pool);
        let start = move |numbers: [u32; 3]| -> Group<u32> {
            numbers.map(|n| Executor::try_submit(&*its, refuse_threes, n)).into_iter().collect()
        };
        let outcome = pool.spawn(move || {
            let all = start([1, 2, 4]).try_all().unwrap();
            let failed = start([1, 3, 4]).try_all().is_err();
            let first = start([3, 6, 5]).first().unwrap();
            let outcomes = start([3, 1, 6]).all().iter().filter(|outcome| outcome.is_ok()).count();
            (all, failed, first, outcomes)
        });
        assert_eq!(outcome.result().unwrap(), (vec![2, 4, 8], true, 10, 1));
    });
}
