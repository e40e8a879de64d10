//! Callbacks: on every kind of end, in order, each once, whatever the others do.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use concurrent_futures::{Error, Executor, Future, ReturnWhen, wait};

use crate::common::{Gate, Turnstile};
use crate::engines::{double, explode, pass, refuse_threes, who};

contract!(
    [
        a_callback_sees_value_or_error,
        a_callback_of_a_future_that_is_over_runs_here_and_now,
        a_callback_that_panics_does_not_stop_the_next,
    ],
    [
        callbacks_run_in_the_order_in_which_they_were_added,
        a_callback_that_panics_does_not_harm_the_worker,
        a_callback_may_submit_to_its_own_executor,
        waiters_wake_before_callbacks_run,
    ]
);

/// What a callback is told, as text.
fn told(future: &Future<u32>) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    future.add_done_callback(move |outcome| {
        let text = match outcome {
            Ok(value) => value.to_string(),
            Err(error) => error.to_string(),
        };
        tell.send(text).unwrap();
    });
    told
}

fn a_callback_sees_value_or_error<E: Executor>(make: impl Fn(usize) -> E) {
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

fn a_callback_of_a_future_that_is_over_runs_here_and_now<E: Executor>(make: impl Fn(usize) -> E) {
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

fn a_callback_that_panics_does_not_stop_the_next<E: Executor>(make: impl Fn(usize) -> E) {
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

fn a_callback_that_panics_does_not_harm_the_worker<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let future = executor.submit(pass, gate.ticket(1));
    future.add_done_callback(|_| panic!("in the worker's thread"));
    gate.arrival().release();
    assert_eq!(future.result().unwrap(), 1);
    let first = executor.submit(who, ()).result().unwrap();
    assert_eq!(executor.submit(who, ()).result().unwrap(), first);
}

fn callbacks_run_in_the_order_in_which_they_were_added<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let future = executor.submit(pass, gate.ticket(1));
    let arrival = gate.arrival();
    let (tell, told) = mpsc::channel();
    for number in 0..50 {
        let tell = tell.clone();
        future.add_done_callback(move |_| tell.send((number, thread::current().id())).unwrap());
    }
    drop(tell);
    arrival.release();
    let told: Vec<_> = told.iter().collect();
    assert_eq!(told.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    // All in one thread, which is the worker's, not the test's.
    assert!(told.iter().all(|(_, thread)| *thread == told[0].1 && *thread != thread::current().id()));
    future.wait();
}

fn a_callback_may_submit_to_its_own_executor<E: Executor + 'static>(make: impl Fn(usize) -> E) {
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

/// `wait` and `done` do not wait for callbacks, `result` does: the callbacks see the value first.
fn waiters_wake_before_callbacks_run<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (gate, callback) = (Turnstile::new(), Gate::new());
    let future = executor.submit(pass, gate.ticket(4));
    let (tell, told) = mpsc::channel();
    let waiter = callback.waiter();
    future.add_done_callback(move |_| {
        waiter.wait();
        tell.send("callback").unwrap();
    });
    gate.arrival().release();
    // The callback is held: these would hang if they waited for it.
    future.wait();
    assert!(future.done());
    assert_eq!(wait([&future], ReturnWhen::AllCompleted).done.len(), 1);
    assert!(future.exception().is_none());
    assert!(told.try_recv().is_err());
    callback.open();
    assert_eq!(future.result().unwrap(), 4);
    assert_eq!(told.try_recv().as_deref(), Ok("callback"));
}

/// `Error` in a signature above would hide that callbacks get a reference; this fixes it.
const _: fn(&Future<u32>) = |future| future.add_done_callback(|_: Result<&u32, &Error>| ());
