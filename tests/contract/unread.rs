//! Parity clause G4: errors that nobody reads reach the hook, once, and nothing else does.
//!
//! The hook is one for the whole process; the tests know their own errors by a word in them. What
//! happens without a hook is shown in `tests/unread.rs`, with a process of its own.

use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::task::{Context, Waker};

use concurrent_futures::{Executor, Future, MapOptions, Promise, ReturnWhen, set_unread_error_hook, wait};

use crate::common::{Ticket, Turnstile};
use crate::engines::{nothing, pass};

contract!(
    [],
    [
        g4_the_error_of_a_future_that_is_dropped_reaches_the_hook,
        g4_an_error_that_was_read_does_not,
        g4_a_future_that_is_dropped_and_has_no_error_is_not_reported,
        g4_a_map_that_nobody_iterated_is_reported,
        g4_a_refusal_that_nobody_reads_is_reported,
    ]
);

registered!([], [fail, fail_later]);

static REPORTS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static NEWS: Condvar = Condvar::new();

fn reports() -> MutexGuard<'static, Vec<String>> {
    REPORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        set_unread_error_hook(|error| {
            reports().push(error.to_string());
            NEWS.notify_all();
        });
    });
}

/// How many reports speak of `word`.
fn reported(word: &str) -> usize {
    reports().iter().filter(|report| report.contains(word)).count()
}

/// Waits until there are so many.
fn until_reported(word: &str, count: usize) {
    let mut all = reports();
    while all.iter().filter(|report| report.contains(word)).count() < count {
        all = NEWS.wait(all).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Fails with its argument.
fn fail(word: String) -> Result<u32, String> {
    Err(word)
}

fn fail_later((ticket, word): (Ticket, String)) -> Result<u32, String> {
    ticket.pass();
    Err(word)
}

fn g4_the_error_of_a_future_that_is_dropped_reaches_the_hook<E: Executor>(make: impl Fn(usize) -> E) {
    listen();
    let (executor, on) = (make(1), std::any::type_name::<E>());
    // It ends first, and is dropped then.
    let word = format!("dropped after on {on}; own");
    let future = executor.try_submit(fail, word.clone());
    let [future] = wait([future], ReturnWhen::AllCompleted).done.try_into().unwrap();
    assert_eq!(reported(&word), 0, "it may still be read");
    drop(future);
    assert_eq!(reported(&word), 1);

    // It is dropped first.
    let word = format!("dropped before on {on}; own");
    let gate = Turnstile::new();
    drop(executor.try_submit(fail_later, (gate.ticket(0), word.clone())));
    let arrival = gate.arrival();
    assert_eq!(reported(&word), 0);
    arrival.release();
    until_reported(&word, 1);

    // All handles of a shared one must go.
    let word = format!("shared on {on}; own");
    let shared = executor.try_submit(fail, word.clone()).shared();
    let other = shared.clone();
    shared.wait();
    drop(shared);
    assert_eq!(reported(&word), 0);
    drop(other);
    assert_eq!(reported(&word), 1);
    executor.shutdown();
    assert_eq!(reported(&format!("on {on}; own")), 3, "each once");
}

fn g4_an_error_that_was_read_does_not<E: Executor>(make: impl Fn(usize) -> E) {
    listen();
    let (executor, on) = (make(1), std::any::type_name::<E>());
    let word = format!("read on {on}; g4");
    let submit = || executor.try_submit(fail, word.clone());
    submit().result().unwrap_err();
    assert!(submit().exception().is_some());
    assert!(submit().result_timeout(crate::common::LONG).is_err());
    let mut future = submit();
    future.wait();
    assert!(future.try_result().unwrap().is_err());
    drop(future);
    let future = submit();
    // To say that the error does not matter.
    future.add_done_callback(|_| ());
    drop(future);
    let future = submit();
    future.wait();
    future.add_done_callback(|_| ());
    drop(future);
    let shared = submit().shared();
    assert!(shared.result().is_err());
    drop(shared);
    let mut future = submit();
    future.wait();
    let poll =
        std::future::Future::poll(std::pin::Pin::new(&mut future), &mut Context::from_waker(Waker::noop()));
    assert!(poll.is_ready());
    drop(future);
    // Iterated as far as the caller liked.
    let mut map = executor.try_map(fail, [word.clone(), word.clone(), word.clone()]);
    assert!(map.next().unwrap().is_err());
    drop(map);
    executor.shutdown();
    assert_eq!(reported(&word), 0, "{:?}", reports());
}

fn g4_a_future_that_is_dropped_and_has_no_error_is_not_reported<E: Executor>(make: impl Fn(usize) -> E) {
    listen();
    let (executor, on) = (make(1), std::any::type_name::<E>());
    let name = format!("waits on {on}; g4");
    let gate = Turnstile::new();
    drop(executor.submit(pass, gate.ticket(0)));
    let arrival = gate.arrival();
    let cancelled = executor.try_submit(fail, name.clone());
    assert!(cancelled.cancel());
    let id = cancelled.id();
    drop(cancelled);
    arrival.release();
    executor.shutdown();
    assert_eq!(reported(&format!("(task {id}) was cancelled")), 0);
    assert_eq!(reported(&name), 0);
}

fn g4_a_map_that_nobody_iterated_is_reported<E: Executor>(make: impl Fn(usize) -> E) {
    listen();
    let (executor, on) = (make(1), std::any::type_name::<E>());
    let word = format!("never looked at on {on}; g4");
    let (tell, told) = std::sync::mpsc::channel();
    let options = MapOptions::new().chunksize(2).on_item_done(move |index, _| tell.send(index).unwrap());
    let map = executor.try_map_with(fail, vec![word.clone(); 4], options);
    assert_eq!(told.iter().take(4).count(), 4);
    // The hook for items was told, and that is to have read them.
    drop(map);
    executor.submit(nothing, ()).result().unwrap();
    assert_eq!(reported(&word), 0);

    let map = executor.try_map_with(fail, vec![word.clone(); 4], MapOptions::new().chunksize(2));
    // First in, first out: by then the map is over.
    executor.submit(nothing, ()).result().unwrap();
    drop(map);
    assert_eq!(reported(&word), 2, "one a task");
}

fn g4_a_refusal_that_nobody_reads_is_reported<E: Executor>(make: impl Fn(usize) -> E) {
    listen();
    let executor = make(1);
    executor.shutdown();
    let future = executor.submit(nothing, ());
    let id = future.id();
    drop(future);
    assert_eq!(reported(&format!("(task {id}) was submitted after")), 1);
}

#[test]
fn g4_a_broken_promise_that_nobody_reads_is_reported() {
    listen();
    let (promise, future): (Promise<()>, Future<()>) = Promise::new();
    let id = future.id();
    drop(future);
    drop(promise);
    assert_eq!(reported(&format!("(task {id}) was dropped without an outcome")), 1);
}
