//! What a call that runs is told, and tells: `task::cancelled`, `task::progress`, `task::name`, `task::worker`.
//!
//! Not here: how a call that does not listen is stopped (`tests/limits.rs`), queues and locks (`tests/sync.rs`).

use std::sync::mpsc;
use std::time::Duration;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Shutdown, TaskOptions, task};

use crate::common::{LIMIT, LONG, Ticket, Turnstile, watchdog};
use crate::engines::{nothing, processes, successor, threads};

contract!(
    [a_call_knows_its_name, progress_without_anybody_who_listens_is_nothing],
    [
        a_running_call_that_is_cancelled_hears_of_it_and_no_other_does,
        shutdown_that_cancels_is_heard_of_by_what_runs,
        a_map_that_is_dropped_is_heard_of_by_the_items_that_run,
        a_cancelled_call_is_not_tried_again,
        progress_reaches_those_who_listen_in_order_and_ends_with_the_last,
        who_listens_may_panic_and_may_wait_for_another_call,
        who_listens_cannot_wait_for_the_call_itself,
        a_call_knows_its_worker,
        outside_of_calls_there_is_nothing_to_know,
    ]
);

registered!([whoami, run_until_unwanted, is_cancelled, count, count_alone], [fail_when_unwanted]);

fn whoami(_: u32) -> (Option<String>, Option<String>) {
    (task::name().map(ToString::to_string), task::worker())
}

/// Runs until it is not wanted any more.
fn run_on() {
    while !task::cancelled() {
        std::thread::yield_now();
    }
}

/// Passes the turnstile, then runs until it is not wanted any more.
fn run_until_unwanted(ticket: Ticket) -> bool {
    ticket.pass();
    run_on();
    true
}

/// Passes it, and tells whether it is wanted.
fn is_cancelled(ticket: Ticket) -> bool {
    ticket.pass();
    task::cancelled()
}

fn fail_when_unwanted(ticket: Ticket) -> Result<(), String> {
    run_until_unwanted(ticket);
    Err("not wanted".into())
}

fn a_call_knows_its_name<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (name, _) = executor.submit(whoami, 1).result().unwrap();
    assert!(name.unwrap().ends_with("talking::whoami"));
    for name in executor.map(whoami, [1, 2, 3]) {
        assert!(name.unwrap().0.unwrap().ends_with("talking::whoami"));
    }
}

fn a_call_knows_its_worker<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (_, worker) = executor.submit(whoami, 1).result().unwrap();
    assert!(worker.as_deref().is_some_and(|worker| worker.ends_with("_0")), "{worker:?}");
}

fn outside_of_calls_there_is_nothing_to_know<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (tell, told) = mpsc::channel();
    executor.submit(nothing, ()).add_done_callback(move |_| {
        task::progress(1, 2);
        tell.send((task::cancelled(), task::name(), task::attempt())).unwrap();
    });
    assert_eq!(told.recv().unwrap(), (false, None, 0));
    assert_eq!(whoami(0), (None, None));
    task::progress(1, 2);
    assert!(!task::cancelled());
}

fn a_running_call_that_is_cancelled_hears_of_it_and_no_other_does<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let other = executor.submit(is_cancelled, gate.ticket(0));
    let future = executor.submit(run_until_unwanted, gate.ticket(1));
    let next = executor.submit(is_cancelled, gate.ticket(2));
    gate.arrival().release();
    assert!(!other.result().unwrap());
    gate.arrival().release();
    assert!(!future.cancel() && !future.cancelled());
    assert!(future.result().unwrap());
    gate.arrival().release();
    assert!(!next.result().unwrap(), "another call was told");
}

fn shutdown_that_cancels_is_heard_of_by_what_runs<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let gate = Turnstile::new();
    let running: Vec<_> = (0..2).map(|n| executor.submit(run_until_unwanted, gate.ticket(n))).collect();
    let queued = executor.submit(run_until_unwanted, gate.ticket(2));
    for arrival in [gate.arrival(), gate.arrival()] {
        arrival.release();
    }
    executor.shutdown_with(Shutdown { wait: true, cancel_futures: true });
    assert!(running.into_iter().all(|future| future.result().unwrap()));
    assert!(queued.cancelled());
}

fn a_map_that_is_dropped_is_heard_of_by_the_items_that_run<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let results = executor.map(run_until_unwanted, [gate.ticket(0), gate.ticket(1)]);
    gate.arrival().release();
    drop(results);
    // It waits for the item.
    executor.shutdown();
}

fn a_cancelled_call_is_not_tried_again<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let again = TaskOptions::new().retries(5).backoff(Duration::ZERO, Duration::ZERO).retry_if(|_| true);
    // It hears of it in the middle of being cancelled, and has failed before that is done.
    for _ in 0..100 {
        let again = again.clone();
        let future = executor.try_submit_with(fail_when_unwanted, gate.ticket(0), again);
        gate.arrival().release();
        assert!(!future.cancel());
        // It ran, so it was not cancelled: it has the error of its one attempt.
        let error = future.result().unwrap_err();
        assert!(matches!(error, Error::Raised { .. }), "{error:?}");
    }
    executor.shutdown();
}

/// Waits until the listener is there, then counts.
fn count((ticket, to): (Ticket, u64)) -> u64 {
    ticket.pass();
    (1..=to).for_each(|n| task::progress(n, to));
    to
}

fn progress_reaches_those_who_listen_in_order_and_ends_with_the_last<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    for to in [1, 2, 1000] {
        let future = executor.submit(count, (gate.ticket(0), to));
        let (tell, told) = mpsc::channel();
        let (again, twice) = mpsc::channel();
        future.on_progress(move |done, total| tell.send((done, total)).unwrap());
        future.on_progress(move |done, _| again.send(done).unwrap());
        gate.arrival().release();
        assert_eq!(future.result().unwrap(), to);
        let said: Vec<_> = told.into_iter().collect();
        assert!(said.is_sorted() && said.iter().all(|(_, total)| *total == to), "{said:?}");
        assert_eq!(said.last(), Some(&(to, to)));
        assert_eq!(twice.into_iter().count(), said.len());
    }
}

fn count_alone(to: u64) -> u64 {
    (1..=to).for_each(|n| task::progress(n, 0));
    to
}

fn progress_without_anybody_who_listens_is_nothing<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let counted = executor.submit(count_alone, 10_000);
    assert_eq!(counted.result().unwrap(), 10_000);
}

fn who_listens_may_panic_and_may_wait_for_another_call<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = std::sync::Arc::new(make(1));
    let gate = Turnstile::new();
    let future = executor.submit(count, (gate.ticket(0), 1));
    let (tell, told) = mpsc::channel();
    let its = executor.clone();
    future.on_progress(|_, _| panic!("a listener that panics"));
    future.on_progress(move |_, _| tell.send((*its).submit(successor, 41).result()).unwrap());
    gate.arrival().release();
    assert_eq!(future.result().unwrap(), 1);
    assert_eq!(told.recv().unwrap().unwrap(), 42);
}

fn who_listens_cannot_wait_for_the_call_itself<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let gate = Turnstile::new();
    let future = executor.submit(count, (gate.ticket(0), 1)).shared();
    let (tell, told) = mpsc::channel();
    let itself = future.clone();
    future.on_progress(move |_, _| tell.send(itself.result_timeout(LONG).cloned()).unwrap());
    gate.arrival().release();
    assert_eq!(*future.result().unwrap(), 1);
    let error = told.recv().unwrap().unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
}

/// Limits for a call that is to have begun before its time is over: on a busy machine the short ones may not do. Then
/// its worker is ended, and a call that was not begun goes to another.
fn limits() -> impl Iterator<Item = Duration> {
    (0..12).map(|n| Duration::from_millis(5 << n))
}

/// A call that listens has the time of grace, and its worker lives on; the future tells of the time-out.
#[test]
fn a_call_that_listens_ends_by_itself_when_its_time_is_over() {
    watchdog("a call that listens", LIMIT, || {
        let pool = ProcessPoolExecutor::builder().max_workers(1).grace_period(LONG).build().unwrap();
        let by_itself = |limit| {
            let worker = pool.submit(|()| std::process::id(), ()).result().unwrap();
            let options = TaskOptions::new().timeout(limit);
            let error = pool.submit_with(|()| run_on(), (), options).result().unwrap_err();
            assert!(matches!(&error, Error::TimedOut { limit: told, .. } if *told == limit), "{error:?}");
            let error = error.to_string();
            let told = error.contains("ended when it was told so");
            assert!(told || error.contains("stopped with its worker"), "{error}");
            told && pool.worker_pids() == [worker]
        };
        assert!(limits().any(by_itself));
        assert!(!pool.submit(|()| task::cancelled(), ()).result().unwrap());
    });
}

/// Its second attempt is in the same worker.
#[test]
fn a_call_that_ended_by_itself_is_tried_again() {
    fn run((): ()) -> u32 {
        if task::attempt() == 1 {
            run_on();
        }
        std::process::id()
    }
    watchdog("a call that listens twice", LIMIT, || {
        let pool = ProcessPoolExecutor::builder().max_workers(1).grace_period(LONG).build().unwrap();
        // Its second attempt needs no time; if it had none left to begin in, it has more with the next limit.
        let by_itself = |limit| {
            let first = pool.submit(|()| std::process::id(), ()).result().unwrap();
            let options = TaskOptions::new().timeout(limit).retries(1);
            pool.submit_with(run, (), options).result().is_ok_and(|second| second == first)
        };
        assert!(limits().any(by_itself));
    });
}

/// Both engines, side by side: each hears of its own.
#[test]
fn pools_that_are_shut_down_do_not_stop_each_other() {
    watchdog("two pools", LIMIT, || {
        let (one, other) = (threads(1), processes(1));
        let gate = Turnstile::new();
        let mine = Executor::submit(&one, run_until_unwanted, gate.ticket(0));
        let first = gate.arrival();
        let its = other.submit(is_cancelled, gate.ticket(1));
        let second = gate.arrival();
        first.release();
        one.shutdown_with(Shutdown { wait: true, cancel_futures: true });
        assert!(mine.result().unwrap());
        second.release();
        assert!(!its.result().unwrap());
    });
}

/// Where no memory is to be had that host and worker could share, it says so through the pipe.
#[cfg(target_os = "linux")]
#[test]
fn without_a_page_progress_goes_through_the_pipe() {
    use rustix::process::{Resource, Rlimit, setrlimit};

    crate::common::alone(module_path!(), "without_a_page_progress_goes_through_the_pipe", || {
        watchdog("progress without a page", LIMIT, || {
            setrlimit(Resource::Fsize, Rlimit { current: Some(4096), maximum: Some(4096) }).unwrap();
            progress_reaches_those_who_listen_in_order_and_ends_with_the_last(processes);
            progress_without_anybody_who_listens_is_nothing(processes);
            a_call_knows_its_worker(processes);
            who_listens_may_panic_and_may_wait_for_another_call(processes);
        });
    });
}
