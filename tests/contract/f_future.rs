//! Parity clauses F: what a future is, and what its callbacks are.
//!
//! First what every executor does, then what can only be seen on a promise: there the test is
//! both sides.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, Promise, ReturnWhen, SharedFuture, as_completed, wait, wait_timeout,
};

use crate::common::by_hand::{fail, is_failure, state, told};
use crate::common::{
    self, Bomb, Drops, Gate, LIMIT, LONG, Ticket, Token, Turnstile, alone, blocked, watchdog,
};
use crate::engines::{double, explode, panic_of, pass, refuse_threes, who};

contract!(
    [
        f2_a_call_that_has_ended_cannot_be_cancelled,
        f5_exception_tells_the_error_or_that_there_is_none,
        f7_every_payload_of_a_panic_is_caught,
        f7_the_panics_of_the_language_are_caught,
        f7_an_error_without_words_is_an_error,
        f12_a_callback_that_panics_does_not_stop_the_next,
        f13_a_callback_is_told_the_outcome,
        f15_a_callback_of_a_future_that_is_over_runs_here_and_now,
        f16_debug_names_the_function,
    ],
    [
        f2_cancel_is_true_only_for_what_has_not_started,
        f3_each_state_is_told_by_its_own_questions,
        f4_a_limit_is_for_what_is_not_done,
        f5_exception_gives_being_cancelled,
        f6_result_wakes_on_cancel,
        f6_result_wakes_with_the_value,
        f10_callbacks_run_once_each_in_the_order_in_which_they_were_added,
        f11_callbacks_run_in_the_thread_that_ends_the_call,
        f11_each_worker_runs_its_own_callbacks,
        f11_a_callback_may_submit_to_its_own_executor,
        f12_a_callback_that_panics_does_not_harm_the_worker,
        f12_a_callback_may_panic_in_a_thread_that_unwinds,
        f13_the_future_is_done_when_its_callbacks_run,
        f14_waiters_wake_before_callbacks_run,
        f14_an_error_is_given_before_callbacks_have_run,
        f14_shutdown_waits_for_callbacks,
        f15_cancel_runs_the_callbacks_before_it_returns,
        f17_try_result_is_what_there_is_now,
        f18_a_result_can_be_read_by_many_threads,
        f20_a_wake_up_for_something_else_ends_no_wait,
    ]
);

registered!(
    [
        panic_with_a_bomb,
        panic_with_a_number,
        panic_with_empty_text,
        panic_with_nothing,
        invert,
        nth,
        parse,
        pass_and_panic,
        pass_and_tell_who
    ],
    [fail_without_words]
);

const ZERO: Duration = Duration::ZERO;
const MOMENT: Duration = Duration::from_millis(1);

fn f2_a_call_that_has_ended_cannot_be_cancelled<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (returned, panicked) = (executor.submit(double, 2), executor.submit(explode, 2));
    returned.wait();
    panicked.wait();
    for future in [&returned, &panicked] {
        assert!(!future.cancel() && !future.kill());
        assert!(future.done() && !future.cancelled());
    }
    assert_eq!(returned.result().unwrap(), 4);
    assert!(matches!(panicked.result(), Err(Error::Panicked { .. })));
}

fn f2_cancel_is_true_only_for_what_has_not_started<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let (running, pending) = (executor.submit(pass, gate.ticket(3)), executor.submit(double, 1));
    let arrival = gate.arrival();
    let seen = told(&pending);
    assert!(!running.cancel());
    assert_eq!(state(&running), "running");
    // Again and again, and the callbacks once.
    assert!(pending.cancel() && pending.cancel() && pending.cancel() && pending.kill());
    assert_eq!(state(&pending), "cancelled");
    arrival.release();
    assert_eq!(running.result().unwrap(), 3);
    executor.shutdown();
    assert!(pending.cancel());
    assert_eq!(seen.iter().count(), 1);
}

fn f3_each_state_is_told_by_its_own_questions<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let running = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let (returns, fails, cancelled) =
        (executor.submit(double, 1), executor.submit(explode, 1), executor.submit(double, 1));
    assert!(cancelled.cancel());
    let states = || [&running, &returns, &fails, &cancelled].map(state);
    assert_eq!(states(), ["running", "pending", "pending", "cancelled"]);
    arrival.release();
    wait([&running, &returns, &fails], ReturnWhen::AllCompleted);
    assert_eq!(states(), ["done", "done", "done", "cancelled"]);
}

fn f4_a_limit_is_for_what_is_not_done<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let mut held = executor.submit(pass, gate.ticket(7));
    let arrival = gate.arrival();
    let (mut queued, mut cancelled) = (executor.submit(explode, 1), executor.submit(double, 1));
    assert!(cancelled.cancel());
    for limit in [ZERO, MOMENT] {
        for future in [&mut held, &mut queued] {
            let error = future.result_timeout(limit).unwrap_err();
            assert!(matches!(&error, Error::TimedOut { limit: said, .. } if *said == limit), "{error:?}");
            assert!(error.to_string().contains(&future.id().to_string()), "{error}");
        }
        assert!(matches!(cancelled.result_timeout(limit), Err(Error::Cancelled { .. })));
    }
    arrival.release();
    wait([&held, &queued], ReturnWhen::AllCompleted);
    // Done is done, however little time there is.
    assert_eq!(held.result_timeout(ZERO).unwrap(), 7);
    assert!(matches!(queued.result_timeout(ZERO), Err(Error::Panicked { .. })));
    // Further than the clock reaches.
    assert_eq!(executor.submit(double, 1).result_timeout(Duration::MAX).unwrap(), 2);
}

fn f5_exception_tells_the_error_or_that_there_is_none<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    assert!(executor.submit(double, 1).exception().is_none());
    for future in [executor.submit(explode, 3), executor.try_submit(refuse_threes, 3)] {
        let error = future.exception().expect("it fails");
        assert!(matches!(error, Error::Panicked { .. } | Error::Raised { .. }), "{error:?}");
        // As often as it is asked for, and the same that `result` gives.
        let again = future.exception().map(|error| error.to_string());
        assert_eq!(again, Some(error.to_string()));
        assert_eq!(future.result().unwrap_err().to_string(), error.to_string());
    }
}

fn f5_exception_gives_being_cancelled<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let (cancelled, queued) = (executor.submit(double, 1), executor.submit(explode, 5));
    assert!(cancelled.cancel());
    assert!(matches!(cancelled.exception(), Some(Error::Cancelled { .. })));
    // It waits; with a limit, `wait_timeout` waits for it.
    assert!(!queued.wait_timeout(ZERO) && !queued.wait_timeout(MOMENT));
    let asking = blocked(move || queued.exception());
    assert!(!asking.is_finished());
    arrival.release();
    assert!(matches!(asking.join().unwrap(), Some(Error::Panicked { .. })));
    assert!(held.exception().is_none());
}

fn f6_result_wakes_on_cancel<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let future = executor.submit(double, 1).shared();
    type Way = fn(&SharedFuture<u32>) -> Option<Error>;
    let ways: [Way; 4] = [
        |future| future.result().err(),
        |future| future.result_timeout(LONG).err(),
        |future| future.exception(),
        |future| {
            future.wait();
            future.exception()
        },
    ];
    let waiting = ways.map(|way| {
        let future = future.clone();
        blocked(move || way(&future))
    });
    assert!(waiting.iter().all(|thread| !thread.is_finished()));
    assert!(future.cancel());
    // The worker is still held: nobody but `cancel` can have woken them.
    for thread in waiting {
        assert!(matches!(thread.join().unwrap(), Some(Error::Cancelled { .. })));
    }
    assert!(held.running());
    arrival.release();
    held.wait();
}

fn f6_result_wakes_with_the_value<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let (running, mut queued) = (executor.submit(pass, gate.ticket(1)), executor.submit(double, 4));
    let arrival = gate.arrival();
    let running = blocked(move || running.result());
    let queued = blocked(move || queued.result_timeout(LONG));
    assert!(!running.is_finished() && !queued.is_finished());
    arrival.release();
    assert_eq!((running.join().unwrap().unwrap(), queued.join().unwrap().unwrap()), (1, 8));
}

fn panic_with_a_number(_: ()) {
    panic_any(17_u8);
}

fn panic_with_nothing(_: ()) {
    panic_any(());
}

fn panic_with_empty_text(_: ()) {
    panic_any("");
}

fn panic_with_a_bomb(_: ()) {
    panic_any(Bomb);
}

/// Also those that are nothing, say nothing, or panic once more when they are dropped.
fn f7_every_payload_of_a_panic_is_caught<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let futures = [
        executor.submit(panic_with_a_number, ()),
        executor.submit(panic_with_nothing, ()),
        executor.submit(panic_with_a_bomb, ()),
        executor.submit(panic_with_empty_text, ()),
    ];
    for (n, future) in futures.into_iter().enumerate() {
        let panic = panic_of(future.result());
        assert_eq!(panic.message().contains("not text"), n < 3, "{panic}");
        assert!(panic.location().is_some_and(|place| place.contains("f_future.rs")), "{panic}");
    }
    assert_eq!(executor.submit(double, 4).result().unwrap(), 8);
}

fn invert(n: u32) -> u32 {
    1 / n
}

fn nth(n: usize) -> u32 {
    [1, 2, 3][n]
}

fn parse(text: String) -> u32 {
    text.parse().unwrap()
}

fn fail_without_words((): ()) -> Result<(), &'static str> {
    Err("")
}

fn f7_the_panics_of_the_language_are_caught<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let message = |outcome| panic_of::<u32>(outcome).message().to_owned();
    let divided = executor.submit(invert, 0);
    assert!(message(divided.result()).contains("divide by zero"));
    let indexed = executor.submit(nth, 3);
    assert!(message(indexed.result()).contains("out of bounds"));
    let unwrapped = executor.submit(parse, "x".to_owned());
    assert!(message(unwrapped.result()).contains("InvalidDigit"));
}

fn f7_an_error_without_words_is_an_error<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let future = executor.try_submit(fail_without_words, ());
    assert!(matches!(future.exception(), Some(Error::Raised { .. })));
    assert!(matches!(future.result(), Err(Error::Raised { .. })));
}

/// The same callback twice is two callbacks.
fn f10_callbacks_run_once_each_in_the_order_in_which_they_were_added<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let future = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let (tell, told) = mpsc::channel();
    for number in 0..50 {
        let tell = tell.clone();
        // The outcome is what they are given: `result` can move it out of the future but once.
        let callback = move |outcome: Result<&u32, &Error>| tell.send((number, *outcome.unwrap())).unwrap();
        future.add_done_callback(callback.clone());
        future.add_done_callback(callback);
    }
    drop(tell);
    arrival.release();
    // Ends when all callbacks are gone.
    let told: Vec<_> = told.iter().collect();
    assert_eq!(told, (0..100).map(|n| (n / 2, 1)).collect::<Vec<_>>());
    assert_eq!(future.result().unwrap(), 1);
}

fn pass_and_tell_who(ticket: Ticket) -> String {
    ticket.pass();
    common::who()
}

/// Who runs the next callback of `future`.
fn caller<T: 'static>(future: &Future<T>) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    future.add_done_callback(move |_| tell.send(common::who()).unwrap());
    told
}

fn f11_callbacks_run_in_the_thread_that_ends_the_call<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let runs = executor.submit(pass_and_tell_who, gate.ticket(0));
    let cancelled = executor.submit(who, ());
    let arrival = gate.arrival();
    let (by_worker, by_canceller) = (caller(&runs), caller(&cancelled));
    let us = common::who();
    let (here, _) = us.split_once('/').unwrap();

    assert!(cancelled.cancel());
    assert_eq!(by_canceller.try_recv().as_ref(), Ok(&us), "in the thread that cancels");
    arrival.release();
    let by_worker = by_worker.recv().unwrap();
    assert!(by_worker.starts_with(here) && by_worker != us, "in a worker's thread of this process");
    let worker = runs.result().unwrap();
    assert!(!worker.starts_with(here) || worker == by_worker, "a thread that runs calls ends them itself");

    let over = executor.submit(who, ());
    over.wait();
    assert_eq!(caller(&over).try_recv().as_ref(), Ok(&us), "over already: in the thread that adds it");
    executor.shutdown();
    let refused = executor.submit(who, ());
    assert_eq!(caller(&refused).try_recv().as_ref(), Ok(&us), "refused: over when `submit` returns");
}

/// No one thread has them all: the callbacks of two workers can meet.
fn f11_each_worker_runs_its_own_callbacks<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let gate = Turnstile::new();
    let futures = [0, 1].map(|n| executor.submit(pass, gate.ticket(n)));
    let arrivals = gate.arrivals(2);
    let meeting = Arc::new(Barrier::new(2));
    for future in &futures {
        let meeting = Arc::clone(&meeting);
        future.add_done_callback(move |_| {
            meeting.wait();
        });
    }
    drop(arrivals);
    assert_eq!(futures.map(|future| future.result().unwrap()), [0, 1]);
}

fn f11_a_callback_may_submit_to_its_own_executor<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = Arc::new(make(1));
    let gate = Turnstile::new();
    let future = executor.submit(pass, gate.ticket(4));
    let (tell, told) = mpsc::channel();
    let again = Arc::downgrade(&executor);
    future.add_done_callback(move |outcome| {
        let executor = again.upgrade().expect("the test holds the executor");
        tell.send(executor.submit(double, *outcome.unwrap())).unwrap();
    });
    gate.arrival().release();
    let second = told.recv().unwrap();
    assert_eq!((future.result().unwrap(), second.result().unwrap()), (4, 8));
}

fn f12_a_callback_that_panics_does_not_stop_the_next<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    for future in [executor.submit(double, 2), executor.submit(explode, 3)] {
        future.add_done_callback(|_| panic!("the first callback panics"));
        let second = told(&future);
        future.add_done_callback(|_| panic!("the third callback panics"));
        let fourth = told(&future);
        assert_eq!(second.recv().unwrap(), fourth.recv().unwrap());
        future.wait();
        future.add_done_callback(|_| panic!("so does one that comes late"));
        // Here, or in the worker if that one is still busy with the callbacks above.
        assert!(told(&future).recv().is_ok());
    }
}

/// There, what is raised to end the thread ends the worker, and a pool of one hangs (parity BUG).
fn f12_a_callback_that_panics_does_not_harm_the_worker<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let before = executor.submit(who, ()).result().unwrap();
    let gate = Turnstile::new();
    let (future, queued) = (executor.submit(pass, gate.ticket(1)), executor.submit(who, ()));
    future.add_done_callback(|_| panic!("in the worker's thread"));
    future.add_done_callback(|_| panic_any(Bomb));
    let third = told(&future);
    gate.arrival().release();
    assert_eq!(third.recv().unwrap(), "1");
    assert_eq!(future.result().unwrap(), 1);
    assert_eq!(queued.result().unwrap(), before);
    assert_eq!(executor.submit(who, ()).result().unwrap(), before);
}

/// The executor is dropped by a panic, and cancels. A second panic that got out would abort.
fn f12_a_callback_may_panic_in_a_thread_that_unwinds<E: Executor>(make: impl Fn(usize) -> E) {
    let gate = Turnstile::new();
    let mut futures = Vec::new();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let executor = make(1);
        futures.extend([executor.submit(pass, gate.ticket(0)), executor.submit(double, 1)]);
        let arrival = gate.arrival();
        futures[1].add_done_callback(|_| panic!("the second panic"));
        futures[1].add_done_callback(move |_| arrival.release());
        panic!("the first panic");
    }));
    assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"the first panic"));
    assert_eq!(futures.iter().map(state).collect::<Vec<_>>(), ["done", "cancelled"]);
}

fn f13_a_callback_is_told_the_outcome<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let futures =
        [executor.submit(double, 2), executor.submit(explode, 3), executor.try_submit(refuse_threes, 3)];
    let told = futures.each_ref().map(told);
    let told: Vec<String> = told.iter().map(|told| told.recv().unwrap()).collect();
    let [value, panicked, raised] = futures.map(Future::result);
    assert_eq!(told[0], value.unwrap().to_string());
    assert_eq!(told[1], panicked.unwrap_err().to_string());
    assert_eq!(told[2], raised.unwrap_err().to_string());
}

fn pass_and_panic(ticket: Ticket) -> u32 {
    panic!("passed {}", ticket.pass())
}

fn f13_the_future_is_done_when_its_callbacks_run<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let [returns, panics] =
        [executor.submit(pass, gate.ticket(0)), executor.submit(pass_and_panic, gate.ticket(1))];
    for (future, returns) in [(returns, true), (panics, false)] {
        let future = Arc::new(future);
        let (inside, (tell, told)) = (Arc::clone(&future), mpsc::channel());
        future.add_done_callback(move |outcome| {
            // None of these blocks.
            inside.wait();
            assert_eq!(wait([&*inside], ReturnWhen::AllCompleted).done.len(), 1);
            let seen = (state(&inside), outcome.is_ok(), inside.exception().is_none());
            drop(inside);
            tell.send(seen).unwrap();
        });
        gate.arrival().release();
        assert_eq!(told.recv().unwrap(), ("done", returns, returns));
    }
}

/// `wait` and `done` do not wait for callbacks. `result` does: the callbacks see the value first.
fn f14_waiters_wake_before_callbacks_run<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (gate, callback) = (Turnstile::new(), Gate::new());
    let future = Arc::new(executor.submit(pass, gate.ticket(4)));
    let (waiter, (tell, told)) = (callback.waiter(), mpsc::channel());
    future.add_done_callback(move |_| {
        tell.send("begins").unwrap();
        waiter.wait();
        tell.send("ends").unwrap();
    });
    type Way = fn(&Future<u32>);
    let ways: [Way; 5] = [
        |future| future.wait(),
        |future| assert!(future.wait_timeout(LONG)),
        |future| assert!(future.exception().is_none()),
        |future| assert_eq!(wait([future], ReturnWhen::AllCompleted).done.len(), 1),
        |future| assert_eq!(as_completed([future]).count(), 1),
    ];
    let waiting = ways.map(|way| {
        let future = Arc::clone(&future);
        blocked(move || way(&future))
    });
    gate.arrival().release();
    // The callback is held: these would hang if they waited for it.
    waiting.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(future.done());
    assert_eq!(told.recv(), Ok("begins"));
    let future = Arc::into_inner(future).expect("the waiters are gone");
    let result = blocked(move || future.result());
    assert!(!result.is_finished() && told.try_recv().is_err());
    callback.open();
    assert_eq!(result.join().unwrap().unwrap(), 4);
    assert_eq!(told.try_recv(), Ok("ends"));
}

/// It is told, not moved: the callbacks can have it too.
fn f14_an_error_is_given_before_callbacks_have_run<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (gate, callback) = (Turnstile::new(), Gate::new());
    let future = executor.submit(pass_and_panic, gate.ticket(4));
    let waiter = callback.waiter();
    future.add_done_callback(move |_| waiter.wait());
    let result = blocked(move || future.result());
    gate.arrival().release();
    assert_eq!(panic_of(result.join().unwrap()).message(), "passed 4");
    callback.open();
}

fn f14_shutdown_waits_for_callbacks<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (gate, callback) = (Turnstile::new(), Gate::new());
    let future = executor.submit(pass, gate.ticket(4));
    let (waiter, (tell, told)) = (callback.waiter(), mpsc::channel());
    future.add_done_callback(move |_| {
        waiter.wait();
        tell.send(()).unwrap();
    });
    gate.arrival().release();
    future.wait();
    let ending = blocked(move || {
        executor.shutdown();
        told.try_recv()
    });
    assert!(!ending.is_finished(), "a callback runs");
    callback.open();
    assert_eq!(ending.join().unwrap(), Ok(()), "and has run when `shutdown` returns");
}

fn f15_cancel_runs_the_callbacks_before_it_returns<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let future = executor.submit(double, 1);
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    future.add_done_callback(move |outcome| {
        let cancelled = matches!(outcome, Err(Error::Cancelled { .. }));
        *note.lock().unwrap() = Some((thread::current().id(), cancelled));
    });
    assert!(future.cancel());
    // When `cancel` returns they have run.
    assert_eq!(*seen.lock().unwrap(), Some((thread::current().id(), true)));
    // And one that comes late runs at once.
    assert!(told(&future).try_recv().unwrap().contains("cancelled"));
    arrival.release();
    held.wait();
}

fn f15_a_callback_of_a_future_that_is_over_runs_here_and_now<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    for future in [executor.submit(double, 2), executor.submit(explode, 3)] {
        future.wait();
        for _ in 0..2 {
            let here = Arc::new(Mutex::new(None));
            let seen = Arc::clone(&here);
            future.add_done_callback(move |outcome| {
                *seen.lock().unwrap() = Some((thread::current().id(), outcome.is_ok()));
            });
            let failed = future.exception().is_some();
            assert_eq!(*here.lock().unwrap(), Some((thread::current().id(), !failed)));
        }
    }
}

fn f16_debug_names_the_function<E: Executor>(make: impl Fn(usize) -> E) {
    let future = make(1).submit(double, 4321);
    let id = future.id().to_string();
    future.wait();
    let text = format!("{future:?}");
    for part in ["Future", "engines::double", "Done", &id] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    assert!(!text.contains("8642"), "{text}");
}

fn f17_try_result_is_what_there_is_now<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let mut held = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let (mut fails, mut cancelled) = (executor.submit(explode, 1), executor.submit(double, 1));
    assert!(cancelled.cancel());
    // Neither waits: the worker is held.
    assert!(held.try_result().is_none() && fails.try_result().is_none());
    for _ in 0..2 {
        assert!(matches!(cancelled.try_result(), Some(Err(Error::Cancelled { .. }))));
    }
    arrival.release();
    wait([&held, &fails], ReturnWhen::AllCompleted);
    assert_eq!(held.try_result().unwrap().unwrap(), 1);
    for _ in 0..2 {
        assert!(matches!(fails.try_result(), Some(Err(Error::Panicked { .. }))));
    }
}

fn f18_a_result_can_be_read_by_many_threads<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let (returns, fails) =
        (executor.submit(pass, gate.ticket(6)).shared(), executor.submit(explode, 1).shared());
    let arrival = gate.arrival();
    let readers = [0; 4].map(|_| {
        let (returns, fails) = (returns.clone(), fails.clone());
        blocked(move || (returns.result().cloned(), fails.result().cloned()))
    });
    arrival.release();
    for reader in readers {
        let (value, error) = reader.join().unwrap();
        assert_eq!(value.unwrap(), 6);
        assert_eq!(panic_of(error).message(), "number 1 exploded");
    }
    for _ in 0..2 {
        assert_eq!((*returns.result().unwrap(), fails.exception().is_some()), (6, true));
    }
}

/// The end of a call wakes everyone, also those who want the value, which a callback still has.
fn f20_a_wake_up_for_something_else_ends_no_wait<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (gate, callback) = (Turnstile::new(), Gate::new());
    let [first, mut second] = [1, 2].map(|n| executor.submit(pass, gate.ticket(n)));
    for future in [&first, &second] {
        let waiter = callback.waiter();
        future.add_done_callback(move |_| waiter.wait());
    }
    let first = blocked(move || first.result());
    gate.arrival().release();
    let second = blocked(move || second.result_timeout(LONG));
    assert!(!first.is_finished() && !second.is_finished());
    callback.open();
    gate.arrival().release();
    assert_eq!((first.join().unwrap().unwrap(), second.join().unwrap().unwrap()), (1, 2));
}

// By hand.

#[test]
fn f1_four_states_and_no_other_way_between_them() {
    type Move = fn(Promise<u32>, &Future<u32>) -> Option<Promise<u32>>;
    let moves: [Move; 6] = [
        |promise, _| {
            promise.start();
            Some(promise)
        },
        |promise, _| {
            promise.fulfil(1);
            None
        },
        |promise, _| {
            fail(promise);
            None
        },
        |promise, _| {
            drop(promise);
            None
        },
        |promise, future| {
            future.cancel();
            Some(promise)
        },
        |promise, future| {
            future.kill();
            Some(promise)
        },
    ];
    const START: usize = 0;
    const CANCEL: usize = 4;
    // How it got there, and where each of the moves leads.
    let table: [(&[usize], &str, [&str; 6]); 3] = [
        (&[], "pending", ["running", "done", "done", "done", "cancelled", "cancelled"]),
        (&[START], "running", ["running", "done", "done", "done", "running", "running"]),
        (&[CANCEL], "cancelled", ["cancelled"; 6]),
    ];
    for (way, from, to) in table {
        for (step, to) in moves.into_iter().zip(to) {
            let (mut promise, future) = Promise::new();
            for number in way {
                promise = moves[*number](promise, &future).unwrap();
            }
            assert_eq!(state(&future), from);
            let promise = step(promise, &future);
            assert_eq!(state(&future), to, "from {from}");
            if to == "done" {
                // The promise is gone, and with it all that could end it once more.
                assert!(promise.is_none() && !future.cancel() && !future.kill());
                assert_eq!(state(&future), "done");
            }
        }
    }
}

#[test]
fn f8_a_value_is_set_from_pending_and_from_running() {
    for start in [false, true] {
        let (promise, future) = Promise::new();
        assert!(!start || promise.start());
        promise.fulfil(7);
        assert_eq!(state(&future), "done");
        assert!(future.exception().is_none());
        assert_eq!(future.result().unwrap(), 7);
    }
}

#[test]
fn f8_an_error_is_set_from_pending_and_from_running() {
    for start in [false, true] {
        let (promise, future) = Promise::<u32>::new();
        assert!(!start || promise.start());
        fail(promise);
        assert_eq!(state(&future), "done");
        is_failure(future.exception().map_or(Ok(()), Err));
        is_failure(future.result());
    }
}

#[test]
fn f8_what_was_cancelled_stays_cancelled() {
    type End = fn(Promise<u32>);
    let ends: [End; 3] = [|promise| promise.fulfil(1), fail, drop];
    for end in ends {
        let (promise, future) = Promise::new();
        assert!(future.cancel());
        assert_eq!(state(&future), "cancelled");
        assert!(future.cancel() && future.kill(), "cancelled it is");
        assert!(!promise.start());
        end(promise);
        assert_eq!(state(&future), "cancelled");
        assert!(matches!(future.exception(), Some(Error::Cancelled { .. })));
        let id = future.id();
        assert!(matches!(future.result(), Err(Error::Cancelled { task }) if task.id == id));
    }
}

#[test]
fn f9_start_is_true_once_and_only_for_what_is_pending() {
    let (promise, future) = Promise::<u32>::new();
    assert_eq!(state(&future), "pending");
    assert!(promise.start());
    assert_eq!(state(&future), "running");
    assert!(!promise.start(), "only once");
    assert_eq!(state(&future), "running");
}

#[test]
fn f12_a_callback_that_panics_stops_neither_the_others_nor_the_one_who_ends() {
    let (promise, future) = Promise::new();
    future.add_done_callback(|_| panic!("the first"));
    let second = told(&future);
    future.add_done_callback(|_| std::panic::panic_any(Bomb));
    let fourth = told(&future);
    promise.fulfil(4);
    assert_eq!((second.try_recv().unwrap(), fourth.try_recv().unwrap()), ("4".into(), "4".into()));
    future.add_done_callback(|_| panic!("at once"));
    assert_eq!(future.result().unwrap(), 4);

    let (_promise, future) = Promise::<u32>::new();
    future.add_done_callback(|_| panic!("the first"));
    let second = told(&future);
    assert!(future.cancel());
    assert!(second.try_recv().unwrap().contains("cancelled"));
}

/// Nobody is there to catch it, but it is not silent: the panic hook tells of it.
#[test]
fn f12_the_panic_of_a_callback_is_told_by_the_panic_hook() {
    watchdog("F12", LIMIT, || {
        let printed = alone(module_path!(), "f12_the_panic_of_a_callback_is_told_by_the_panic_hook", || {
            let (promise, future) = Promise::new();
            future.add_done_callback(|_| panic!("a callback that nobody hears"));
            promise.fulfil(1);
            assert_eq!(future.result().unwrap(), 1);
        });
        assert!(printed.is_none_or(|text| text.contains("a callback that nobody hears")));
    });
}

#[test]
fn f13_callbacks_are_told_of_every_kind_of_end_once() {
    type End = fn(Promise<u32>, &Future<u32>);
    let ends: [(End, &str); 4] = [
        (|promise, _| promise.fulfil(3), "3"),
        (|promise, _| fail(promise), "it failed"),
        (|promise, _| drop(promise), "dropped without an outcome"),
        (|_, future| assert!(future.cancel()), "cancelled"),
    ];
    for (end, expected) in ends {
        let (promise, future) = Promise::new();
        let (before, twice) = (told(&future), told(&future));
        assert!(before.try_recv().is_err(), "it is not over");
        end(promise, &future);
        future.cancel();
        let after = told(&future);
        for told in [before, twice, after] {
            let text = told.try_recv().expect("it has been called");
            assert!(text.contains(expected), "{text:?} instead of {expected:?}");
            // Gone after its one call.
            assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        }
    }
}

#[test]
fn f13_a_callback_that_a_callback_adds_runs_after_those_that_were_there() {
    for value in [Ok(1), Err(())] {
        let (promise, future) = Promise::new();
        let future = Arc::new(future);
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |text: &'static str| {
            let order = Arc::clone(&order);
            move |_: Result<&u32, &Error>| order.lock().unwrap().push(text)
        };
        let (again, nested, deeper) = (Arc::clone(&future), note("nested"), note("deeper"));
        let first = note("first");
        future.add_done_callback(move |outcome| {
            first(outcome);
            let inner = Arc::clone(&again);
            again.add_done_callback(move |outcome| {
                nested(outcome);
                inner.add_done_callback(deeper);
            });
        });
        future.add_done_callback(note("second"));
        match value {
            Ok(value) => promise.fulfil(value),
            Err(()) => {
                fail(promise);
            }
        }
        let order = order.lock().unwrap().clone();
        assert_eq!(order.len(), 4);
        if value.is_ok() {
            assert_eq!(order, ["first", "second", "nested", "deeper"]);
        }
        let future = Arc::into_inner(future).expect("the callbacks are gone");
        assert_eq!(future.result().ok(), value.ok());
    }
}

#[test]
fn f13_asking_for_the_result_in_its_own_callback_is_an_error_not_a_hang() {
    watchdog("result in its own callback", LIMIT, || {
        let (promise, future) = Promise::new();
        let slot = Arc::new(Mutex::new(None::<Future<u32>>));
        let (tell, told) = mpsc::channel();
        let inside = Arc::clone(&slot);
        future.add_done_callback(move |outcome| {
            assert_eq!(*outcome.unwrap(), 6);
            let mut future = inside.lock().unwrap().take().unwrap();
            // Over it is.
            future.wait();
            assert!(future.done() && future.exception().is_none() && future.wait_timeout(LONG));
            assert_eq!(wait([&future], ReturnWhen::AllCompleted).done.len(), 1);
            for limit in [ZERO, LONG] {
                let error = future.result_timeout(limit).unwrap_err();
                assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
            }
            tell.send(future.result()).unwrap();
        });
        *slot.lock().unwrap() = Some(future);
        promise.fulfil(6);
        let error = told.recv().unwrap().unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
    });
}

#[test]
fn f13_asking_for_the_shared_result_in_its_own_callback_spoils_it_for_nobody() {
    watchdog("shared result in its own callback", LIMIT, || {
        let (promise, future) = Promise::new();
        let slot = Arc::new(Mutex::new(None::<SharedFuture<u32>>));
        let (tell, told) = mpsc::channel();
        let inside = Arc::clone(&slot);
        future.add_done_callback(move |_| {
            let future = inside.lock().unwrap().take().unwrap();
            tell.send((future.result().cloned(), future.result_timeout(LONG).cloned())).unwrap();
        });
        let future = future.shared();
        *slot.lock().unwrap() = Some(future.clone());
        promise.fulfil(6);
        let (by_result, by_timeout) = told.recv().unwrap();
        for outcome in [by_result, by_timeout] {
            assert!(matches!(outcome, Err(Error::InvalidArgument { .. })), "{outcome:?}");
        }
        assert_eq!(future.result().cloned().unwrap(), 6);
    });
}

#[test]
fn f14_result_waits_for_callbacks_that_look_at_the_value_and_the_rest_does_not() {
    watchdog("lent", LIMIT, || {
        let (promise, future) = Promise::new();
        let gate = Gate::new();
        let (tell, told) = mpsc::channel();
        let (looking, waiter) = (tell.clone(), gate.waiter());
        future.add_done_callback(move |_| {
            looking.send("looks").unwrap();
            waiter.wait();
            looking.send("has looked").unwrap();
        });
        let fulfilling = thread::spawn(move || promise.fulfil(8));
        assert_eq!(told.recv().unwrap(), "looks");
        assert_eq!(state(&future), "done");
        future.wait();
        assert!(future.exception().is_none() && !future.cancel());
        // Added meanwhile: it will run there, after the one that looks.
        let late = tell.clone();
        future.add_done_callback(move |_| late.send("late").unwrap());
        let result = blocked(move || {
            let result = future.result();
            tell.send("result").unwrap();
            result
        });
        assert!(told.try_recv().is_err() && !result.is_finished());
        gate.open();
        assert_eq!(result.join().unwrap().unwrap(), 8);
        fulfilling.join().unwrap();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["has looked", "late", "result"]);
    });
}

/// Prints what must never be printed.
struct Secret;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the password")
    }
}

#[test]
fn f16_debug_shows_number_and_state_and_never_the_value() {
    let (promise, future) = Promise::<Secret>::new();
    let id = future.id().to_string();
    let shows = |text: String, state: &str| {
        for part in ["promise", state, &id] {
            assert!(text.contains(part), "{part:?} is missing: {text}");
        }
        assert!(!text.contains("password"), "{text}");
    };
    shows(format!("{future:?}"), "Pending");
    shows(format!("{promise:?}"), "Pending");
    promise.start();
    shows(format!("{future:?} {promise:?}"), "Running");
    promise.fulfil(Secret);
    shows(format!("{future:?}"), "Done");
    shows(format!("{:?}", wait([&future], ReturnWhen::AllCompleted)), "Done");
    shows(format!("{:#?}", future.shared()), "Done");
    let (_promise, future) = Promise::<Secret>::new();
    future.cancel();
    assert!(format!("{future:?}").contains("Cancelled"));
}

#[test]
fn f18_a_value_is_moved_out_once() {
    let taken = |outcome: Result<u32, Error>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
        assert!(error.to_string().contains("has been taken before"), "{error}");
    };
    let (promise, mut future) = Promise::new();
    promise.fulfil(5);
    assert_eq!(future.try_result().unwrap().unwrap(), 5);
    assert_eq!(state(&future), "done");
    taken(future.try_result().unwrap());
    taken(future.result_timeout(LONG));
    assert!(future.exception().is_none(), "it did return a value");
    taken(future.result());
}

#[test]
fn f18_a_shared_future_shows_one_value_to_many_threads() {
    watchdog("SharedFuture", LIMIT, || {
        let drops = Drops::new();
        let (promise, future) = Promise::<Token>::new();
        let future = future.shared();
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let future = future.clone();
                blocked(move || std::ptr::from_ref(future.result().unwrap()).addr())
            })
            .collect();
        promise.fulfil(drops.token());
        let addresses: HashSet<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        assert_eq!(addresses.len(), 1);
        assert!(addresses.contains(&std::ptr::from_ref(future.result().unwrap()).addr()));
        let last = future.clone();
        drop(future);
        assert_eq!((drops.made(), drops.alive()), (1, 1));
        assert!(last.result_timeout(ZERO).is_ok() && last.exception().is_none());
        drop(last);
        assert_eq!(drops.alive(), 0);
    });
}

#[test]
fn f19_futures_are_equal_when_they_are_the_same_one() {
    let (_one, first) = Promise::<u32>::new();
    let (_two, second) = Promise::<u32>::new();
    assert!(first == first && first != second);
    let (first_id, second_id) = (first.id(), second.id());
    assert!(first_id < second_id, "later ones have greater numbers");
    let mut input = HashMap::from([(first, "first"), (second, "second")]);
    assert_eq!(input.len(), 2);
    let found = wait_timeout(input.keys(), ReturnWhen::AllCompleted, ZERO).not_done;
    let names: HashSet<_> = found.into_iter().map(|future| input[future]).collect();
    assert_eq!(names, HashSet::from(["first", "second"]));
    input.retain(|future, _| future.id() == second_id);
    assert_eq!(input.into_keys().map(|future| future.id()).collect::<Vec<_>>(), [second_id]);
}

#[test]
fn f20_what_is_left_of_one_wait_does_not_end_the_next() {
    watchdog("one by one", LIMIT, || {
        let (promises, futures): (Vec<_>, Vec<_>) = (0..3).map(|_| Promise::new()).unzip();
        // One thread waits for one after the other: what is left of the last wait must not end the next.
        let waiting = blocked(move || {
            futures
                .into_iter()
                .map(|future: Future<u32>| {
                    // Leaves before it is woken, unless it is the last.
                    let _ = future.wait_timeout(ZERO);
                    future.result().unwrap()
                })
                .collect::<Vec<_>>()
        });
        let mut promises = promises.into_iter();
        let first = promises.next().unwrap();
        // The last first: nobody waits for it yet.
        promises.next_back().unwrap().fulfil(30);
        first.fulfil(10);
        promises.next().unwrap().fulfil(20);
        assert_eq!(waiting.join().unwrap(), [10, 20, 30]);
    });
}
