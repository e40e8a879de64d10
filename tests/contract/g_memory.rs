//! Parity clauses G: what is freed when.
//!
//! Whether a call, its argument or its value is still there is written down where it ends, in the host
//! or in a worker process. No further call comes: a worker that kept something until then would
//! keep the test waiting.

use std::process;
use std::thread;

use concurrent_futures::{Executor, ThreadPoolExecutor};
use serde::{Deserialize, Serialize};

use crate::common::{Drops, Journal, LIMIT, Page, Turnstile, watchdog};
use crate::engines::{double, pass};

contract!(
    [
        g1_an_argument_goes_with_its_call,
        g2_a_value_is_held_by_its_future_alone,
        g2_a_value_that_nobody_wants_goes_at_once,
        g3_a_callback_goes_when_it_has_run,
    ],
    [g1_what_is_cancelled_gives_its_argument_back_at_once]
);

registered!([give, take, take_and_panic, pid], []);

fn until(is_so: impl Fn() -> bool) {
    // No event says that something has been dropped.
    while !is_so() {
        thread::yield_now();
    }
}

/// Writes down where it is dropped.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    page: Page,
    name: String,
}

impl Noted {
    fn new((page, name): (Page, &str)) -> Self {
        Noted { page, name: name.to_owned() }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.page.note(format!("{} {}", self.name, process::id()));
    }
}

/// How often that was dropped in that process.
fn dropped(journal: &Journal, name: &str, process: u32) -> usize {
    let line = format!("{name} {process}");
    journal.lines().iter().filter(|other| **other == line).count()
}

fn take(_: Noted) {}

fn take_and_panic(noted: Noted) {
    panic!("{} with an argument", noted.name);
}

fn give((page, name): (Page, String)) -> Noted {
    Noted { page, name }
}

fn pid((): ()) -> u32 {
    process::id()
}

fn worker_of(executor: &impl Executor) -> u32 {
    executor.submit(pid, ()).result().unwrap()
}

fn g1_an_argument_goes_with_its_call<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let worker = worker_of(&executor);
    let argument = |name| Noted::new((journal.page(), name));
    drop(executor.submit(take, argument("nobody waits")));
    let future = executor.submit(take, argument("somebody waits"));
    let panics = executor.submit(take_and_panic, argument("panics"));
    for name in ["nobody waits", "somebody waits", "panics"] {
        until(|| dropped(&journal, name, worker) == 1);
    }
    assert!(panics.exception().is_some());
    future.result().unwrap();
}

fn g1_what_is_cancelled_gives_its_argument_back_at_once<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let gate = Turnstile::new();
    let held = executor.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let future = executor.submit(take, Noted::new((journal.page(), "cancelled")));
    assert!(future.cancel());
    assert_eq!(dropped(&journal, "cancelled", process::id()), 1);
    arrival.release();
    held.wait();
    executor.shutdown();
    assert_eq!(journal.lines().len(), 1, "no worker ever had it");
}

fn g2_a_value_is_held_by_its_future_alone<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    let (us, worker) = (process::id(), worker_of(&executor));
    let value = executor.submit(give, (journal.page(), "value".to_owned())).result().unwrap();
    // A worker process keeps no copy of what it has sent.
    until(|| worker == us || dropped(&journal, "value", worker) == 1);
    assert_eq!(dropped(&journal, "value", us), 0);
    drop(value);
    assert_eq!(dropped(&journal, "value", us), 1);
}

fn g2_a_value_that_nobody_wants_goes_at_once<E: Executor>(make: impl Fn(usize) -> E) {
    let journal = Journal::new();
    let executor = make(1);
    drop(executor.submit(give, (journal.page(), "value".to_owned())));
    until(|| dropped(&journal, "value", process::id()) == 1);
}

fn g3_a_callback_goes_when_it_has_run<E: Executor>(make: impl Fn(usize) -> E) {
    let drops = Drops::new();
    let executor = make(1);
    let future = executor.submit(double, 1);
    for _ in 0..3 {
        let token = drops.token();
        future.add_done_callback(move |_| token.look());
    }
    // The future is still there.
    until(|| drops.alive() == 0);
    assert_eq!((drops.made(), future.result().unwrap()), (3, 2));
}

/// Closures of the thread pool's own `submit` and `map` carry more than their argument.
#[test]
fn g1_a_closure_goes_with_its_call() {
    watchdog("G1", LIMIT, || {
        let drops = Drops::new();
        let pool = ThreadPoolExecutor::new(1).unwrap();
        let (one, two, three) = (drops.token(), drops.token(), drops.token());
        drop(pool.spawn(move || one.look()));
        let future = pool.submit(
            move |_: u32| -> u32 {
                two.look();
                panic!("with a capture")
            },
            1,
        );
        let results = pool.map(
            move |n: u32| {
                three.look();
                n
            },
            0..3,
        );
        until(|| drops.alive() == 0);
        assert!(future.exception().is_some());
        assert_eq!(results.map(Result::unwrap).sum::<u32>(), 3);
    });
}
