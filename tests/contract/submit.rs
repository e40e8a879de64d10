//! E1, E2, E4: what `submit` gives, and that every future ends.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use concurrent_futures::{Error, Executor, Future, Promise, ReturnWhen, Shutdown, wait};

use crate::common::{Journal, Page, Ticket, Turnstile, this_thread, until_asleep};
use crate::engines::{as_many, double, explode, length, note, nothing, panic_of, pass, who};

contract!(
    [
        e1_submit_gives_the_value,
        e1_a_closure_is_as_good_as_a_function,
        e1_several_arguments_travel_as_a_tuple,
        e1_a_result_that_is_a_value_stays_a_value,
        e1_try_submit_gives_the_value,
        e1_a_refusal_is_a_future_that_is_done,
        e2_a_future_that_is_dropped_runs_all_the_same,
        e2_big_values_arrive_whole,
        e2_an_error_without_text_is_an_error_all_the_same,
        e4_tasks_run_in_the_order_of_submission,
        futures_are_keys,
    ],
    [
        e1_submit_does_not_wait_for_a_worker,
        e2_every_future_ends_once,
        e2_a_call_may_wait_for_any_future_but_its_own,
        e2_every_future_ends_when_submitters_race_with_shutdown,
        e2_every_future_ends_when_submitters_race_with_cancelling_shutdown,
        e2_submitters_of_many_threads_get_their_own_results,
        e4_cancelled_tasks_do_not_disturb_the_order,
        states_are_pending_running_done,
        an_idle_worker_is_used_again,
    ]
);

registered!(
    [
        add,
        identity::<Vec<Option<u8>>>,
        identity::<char>,
        power,
        exclaim,
        explode_in_silence,
        wait_for_a_namesake,
        Err::<u32, String>
    ],
    [parse, refuse, refuse_in_silence]
);

fn add((a, b): (i64, i64)) -> i64 {
    a + b
}

fn identity<T>(value: T) -> T {
    value
}

fn power((base, power): (u64, u32)) -> u64 {
    base.pow(power)
}

fn parse(text: String) -> Result<i32, std::num::ParseIntError> {
    text.parse()
}

fn refuse(n: u32) -> Result<u32, String> {
    Err(format!("no {n}"))
}

fn exclaim(text: String) -> String {
    text + "!"
}

fn refuse_in_silence(_: u32) -> Result<u32, String> {
    Err(String::new())
}

fn e1_submit_gives_the_value<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    assert_eq!(executor.submit(double, 21).result().unwrap(), 42);
    assert_eq!(executor.submit(nothing, ()).result().unwrap(), ());
    assert_eq!(executor.submit(length, "four".to_owned()).result().unwrap(), 4);
    // A generic function, by its instance.
    assert_eq!(
        executor.submit(identity::<Vec<Option<u8>>>, vec![None, Some(1)]).result().unwrap(),
        [None, Some(1)]
    );
    assert_eq!(executor.submit(identity::<char>, 'ß').result().unwrap(), 'ß');
}

fn e1_a_closure_is_as_good_as_a_function<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    assert_eq!(executor.submit(|()| (), ()).result().unwrap(), ());
    assert_eq!(executor.submit(|text: String| text.len(), "four".to_owned()).result().unwrap(), 4);
    assert_eq!(executor.submit(|(base, power): (u64, u32)| base.pow(power), (2, 10)).result().unwrap(), 1024);
    let future = executor.try_submit(|text: String| text.parse::<i32>(), "-7".to_owned());
    assert_eq!(future.result().unwrap(), -7);
    let sums = executor.map(|(a, b): (u32, u32)| a + b, (0..3).zip([10, 20, 30]));
    assert_eq!(sums.collect::<Result<Vec<_>, _>>().unwrap(), [10, 21, 32]);
}

fn e1_several_arguments_travel_as_a_tuple<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    assert_eq!(executor.submit(add, (2, 40)).result().unwrap(), 42);
    let future = executor.submit(power, (2, 10));
    assert_eq!(future.result().unwrap(), 1024);
}

fn e1_a_result_that_is_a_value_stays_a_value<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let value: Result<u32, String> =
        executor.submit(Err::<u32, String>, "typed".to_owned()).result().unwrap();
    assert_eq!(value, Err("typed".to_owned()));
}

fn e1_try_submit_gives_the_value<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let future = executor.try_submit(parse, "-7".to_owned());
    assert_eq!(future.result().unwrap(), -7);
}

fn e1_a_refusal_is_a_future_that_is_done<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    assert_eq!(executor.submit(double, 1).result().unwrap(), 2);
    executor.shutdown();
    let future = executor.submit(double, 1);
    assert!(future.done() && !future.cancelled() && !future.running());
    let id = future.id();
    let error = future.result().unwrap_err();
    let Error::ShutDown { task } = &error else { panic!("{error:?}") };
    assert_eq!(task.id, id);
    let message = error.to_string();
    assert!(message.contains("engines::double") && message.contains(&id.to_string()), "{message}");

    let error = executor.try_submit(|n: u32| Ok::<_, String>(n), 1).result().unwrap_err();
    assert!(matches!(error, Error::ShutDown { .. }), "{error:?}");
    // Not an empty map: each item says what became of it.
    let refused: Vec<_> = executor.map(double, [1, 2, 3]).collect();
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|outcome| matches!(outcome, Err(Error::ShutDown { .. }))), "{refused:?}");
}

fn e1_submit_does_not_wait_for_a_worker<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(7));
    let arrival = gate.arrival();
    // The only worker is busy. If `submit` waited for it, this would hang.
    let futures: Vec<_> = (0..1000).map(|n| executor.submit(double, n)).collect();
    assert!(futures.iter().all(|future| !future.done() && !future.running()));
    arrival.release();
    assert_eq!(held.result().unwrap(), 7);
    for (n, future) in (0..).zip(futures) {
        assert_eq!(future.result().unwrap(), n * 2);
    }
}

/// One of everything, and a callback on each that counts.
fn e2_every_future_ends_once<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let gate = Turnstile::new();
    let held = [executor.submit(pass, gate.ticket(0)), executor.submit(pass, gate.ticket(1))];
    let arrivals = gate.arrivals(2);
    let futures: Vec<Future<u32>> = (0..300)
        .map(|n| match n % 3 {
            0 => executor.submit(double, n),
            1 => executor.submit(explode, n),
            _ => executor.try_submit(refuse, n),
        })
        .collect();
    let ends: Arc<Vec<AtomicUsize>> = Arc::new((0..futures.len()).map(|_| AtomicUsize::new(0)).collect());
    for (number, future) in futures.iter().enumerate() {
        let ends = Arc::clone(&ends);
        future.add_done_callback(move |_| {
            ends[number].fetch_add(1, Ordering::SeqCst);
        });
        if number % 5 == 0 {
            assert!(future.cancel());
        }
    }
    drop(arrivals);
    executor.shutdown();
    assert!(held.iter().all(|future| future.done()));
    assert!(ends.iter().all(|ends| ends.load(Ordering::SeqCst) == 1), "{ends:?}");
    for (number, future) in futures.into_iter().enumerate() {
        let outcome = future.result();
        let as_expected = match (number % 5, number % 3) {
            (0, _) => matches!(outcome, Err(Error::Cancelled { .. })),
            (_, 0) => outcome.as_ref().is_ok_and(|value| *value as usize == number * 2),
            (_, 1) => matches!(outcome, Err(Error::Panicked { .. })),
            _ => matches!(outcome, Err(Error::Raised { .. })),
        };
        assert!(as_expected, "{number}: {outcome:?}");
    }
}

fn submitters_race_with<E: Executor + 'static>(executor: E, how: Shutdown) {
    let executor = Arc::new(executor);
    let over = Arc::new(AtomicBool::new(false));
    let submitters: Vec<_> = (0..3)
        .map(|_| {
            let (executor, over) = (Arc::clone(&executor), Arc::clone(&over));
            thread::spawn(move || {
                let mut futures = Vec::new();
                // Bounded: what is refused is kept too.
                while !over.load(Ordering::SeqCst) && futures.len() < as_many::<E>(20_000) {
                    for n in 0..10 {
                        futures.push(executor.submit(double, n));
                    }
                }
                // Certainly refused.
                futures.push(executor.submit(double, 0));
                futures
            })
        })
        .collect();
    // All of them are under way: the race is with real submissions.
    assert_eq!(executor.submit(double, 4).result().unwrap(), 8);
    executor.shutdown_with(how);
    over.store(true, Ordering::SeqCst);
    let futures: Vec<_> = submitters.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(futures.iter().all(Future::done), "shutdown returned before what was submitted had ended");
    for future in futures {
        match future.result() {
            Ok(value) => assert!(value < 20),
            Err(Error::ShutDown { .. }) => {}
            Err(Error::Cancelled { .. }) if how.cancel_futures => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn e2_every_future_ends_when_submitters_race_with_shutdown<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    for _ in 0..10 {
        submitters_race_with(make(2), Shutdown { wait: true, cancel_futures: false });
    }
}

fn e2_every_future_ends_when_submitters_race_with_cancelling_shutdown<E: Executor + 'static>(
    make: impl Fn(usize) -> E,
) {
    for _ in 0..10 {
        submitters_race_with(make(2), Shutdown { wait: true, cancel_futures: true });
    }
}

fn e2_submitters_of_many_threads_get_their_own_results<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    thread::scope(|scope| {
        for base in (0..8).map(|n| n * 1000) {
            let executor = &executor;
            scope.spawn(move || {
                for n in base..base + 50 {
                    assert_eq!(executor.submit(double, n).result().unwrap(), n * 2);
                }
            });
        }
    });
}

fn e2_a_future_that_is_dropped_runs_all_the_same<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    for n in 0..5 {
        drop(executor.submit(note, (journal.page(), n)));
    }
    executor.shutdown();
    assert_eq!(journal.lines(), ["0", "1", "2", "3", "4"]);
}

/// Waits for a future that it makes itself. In a worker process that future has the very number
/// that the call has in the host.
fn wait_for_a_namesake((page, ticket): (Page, Ticket)) -> bool {
    ticket.pass();
    let number: u64 = page.lines()[0].parse().unwrap();
    let mut promises = iter::repeat_with(Promise::<()>::new);
    let (promise, future) = promises.find(|(_, future)| future.id().get() >= number).unwrap();
    let caller = this_thread();
    let fulfilling = thread::spawn(move || {
        until_asleep(&caller);
        promise.fulfil(());
    });
    future.wait();
    assert!(future.done(), "it did not wait");
    fulfilling.join().unwrap();
    future.result().unwrap();
    true
}

/// Futures are numbered by process: a call in a worker must not be taken for the one it waits for.
fn e2_a_call_may_wait_for_any_future_but_its_own<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let future = executor.submit(wait_for_a_namesake, (journal.page(), gate.ticket(0)));
    let arrival = gate.arrival();
    journal.page().note(future.id());
    arrival.release();
    assert!(future.result().unwrap());
}

fn e2_big_values_arrive_whole<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    // Many times what a pipe holds, in both directions, and nothing at all.
    for length in [0, 1, 65_535, 65_536, 65_537, 3_000_001] {
        let text = "x".repeat(length);
        let future = executor.submit(exclaim, text);
        let text = future.result().unwrap();
        assert_eq!(text.len(), length + 1);
        assert!(text.ends_with('!') && text.bytes().filter(|byte| *byte == b'x').count() == length);
    }
}

fn explode_in_silence(_: u32) -> u32 {
    std::panic::panic_any(String::new())
}

fn e2_an_error_without_text_is_an_error_all_the_same<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let raised = executor.try_submit(refuse_in_silence, 1);
    assert!(matches!(raised.exception(), Some(Error::Raised { .. })));
    let error = raised.result().unwrap_err();
    assert!(matches!(&error, Error::Raised { error, .. } if error.to_string().is_empty()), "{error:?}");
    let panicked = executor.submit(explode_in_silence, 1);
    let waited = wait([panicked], ReturnWhen::FirstException);
    let [panicked] = <[Future<u32>; 1]>::try_from(waited.done).unwrap();
    assert_eq!(panic_of(panicked.result()).message(), "");
}

fn e4_tasks_run_in_the_order_of_submission<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let futures: Vec<_> = (0..100).map(|n| executor.submit(note, (journal.page(), n))).collect();
    wait(futures, ReturnWhen::AllCompleted);
    assert_eq!(journal.lines(), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
}

fn e4_cancelled_tasks_do_not_disturb_the_order<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let futures: Vec<_> = (0..20).map(|n| executor.submit(note, (journal.page(), n))).collect();
    assert!(futures.iter().step_by(2).all(Future::cancel));
    arrival.release();
    held.wait();
    executor.shutdown();
    assert_eq!(journal.lines(), (0..20).skip(1).step_by(2).map(|n| n.to_string()).collect::<Vec<_>>());
}

fn states_are_pending_running_done<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let states = |future: &Future<u32>| (future.running(), future.done(), future.cancelled());
    let (first, second) = (executor.submit(pass, gate.ticket(1)), executor.submit(pass, gate.ticket(2)));
    let arrival = gate.arrival();
    assert_eq!(arrival.number, 1);
    assert_eq!(states(&first), (true, false, false));
    assert_eq!(states(&second), (false, false, false));
    arrival.release();
    let arrival = gate.arrival();
    assert_eq!(arrival.number, 2);
    assert_eq!(states(&first), (false, true, false));
    assert_eq!(states(&second), (true, false, false));
    arrival.release();
    assert_eq!(second.result().unwrap(), 2);
}

/// Whoever takes a result and submits again finds the worker idle: no second one is started.
fn an_idle_worker_is_used_again<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(4);
    let workers: HashSet<String> = (0..100).map(|_| executor.submit(who, ()).result().unwrap()).collect();
    assert_eq!(workers.len(), 1, "{workers:?}");
}

fn futures_are_keys<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let inputs: HashMap<Future<u32>, u32> = (0..20).map(|n| (executor.submit(double, n), n)).collect();
    assert_eq!(inputs.len(), 20);
    for (future, n) in inputs {
        assert_eq!(future.result().unwrap(), n * 2);
    }
}
