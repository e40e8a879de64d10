//! What one call is allowed: time limits, what stops a call, and further attempts.
//!
//! Not here: deaths at every moment (the matrix), the pauses between attempts as numbers (unit tests of
//! `options.rs`). The rule: that time has passed is shown by another call whose limit is over, never by a
//! clock.

#![allow(unsafe_code)] // handlers of signals

mod faults_common;

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, MapOptions, ProcessPoolBuilder, ProcessPoolExecutor, SerialExecutor, Shutdown,
    TaskOptions, ThreadPoolExecutor, as_completed, task,
};
use faults_common::*;
use rustix::process::Signal;
use serde::{Deserialize, Serialize, Serializer};

concurrent_futures::init_tests!();

/// Short, as limits of calls that never end; a call that does end takes a hundredth, on an idle machine.
const SHORT: Duration = Duration::from_millis(300);
/// A pause that no test waits for.
const ENDLESS: Duration = Duration::from_secs(100_000);
/// A pause that hardly is one.
const BRIEF: Duration = Duration::from_millis(2);

fn builder(max_workers: usize) -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder().max_workers(max_workers)
}

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    builder(max_workers).build().unwrap()
}

fn spin((): ()) -> u32 {
    loop {
        std::hint::spin_loop();
    }
}

/// Waits until the limit of a call that started later is over.
fn a_limit_is_over() {
    let other = pool(1);
    let error = get(other.submit_with(spin, (), TaskOptions::new().timeout(SHORT))).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

#[track_caller]
fn assert_timed_out<T: std::fmt::Debug>(outcome: Result<T, Error>, with: Duration) {
    match outcome {
        Err(Error::TimedOut { limit, ref what }) if limit == with => {
            assert!(what.contains("(task ") && what.contains("worker process"), "{what}");
        }
        other => panic!("{other:?}"),
    }
}

// ---- Time limits -----------------------------------------------------------------------------

#[test]
fn a_call_that_overruns_is_stopped_and_no_other_notices() {
    let _watchdog = Watchdog::new("a_call_that_overruns_is_stopped_and_no_other_notices");
    let (pool, gate) = (builder(2).task_timeout(SHORT).build().unwrap(), Gate::new());
    let patient = TaskOptions::new().timeout(ENDLESS);
    let bystander = pool.submit_with(wait_at, gate.path(), patient);
    let other = gate.next();
    let victim = pool.submit(
        |gate: String| {
            attend(&gate);
            spin(())
        },
        gate.path(),
    );
    let spinning = Observed::new({
        let visitor = gate.next();
        let pid = visitor.pid;
        visitor.go_on();
        pid
    });
    let id = victim.id();
    let error = get(victim).unwrap_err();
    assert!(!spinning.is_alive(), "when the future is over, the code has stopped");
    assert!(error.to_string().contains(&format!("(task {id})")), "{error}");
    assert!(error.to_string().contains(&format!("worker process {}", spinning.pid)), "{error}");
    assert_timed_out(Err::<(), _>(error), SHORT);
    // Its own limit is longer than the pool's.
    let pid = other.pid;
    other.go_on();
    assert_eq!(get(bystander).unwrap(), pid);
    assert_eq!(get(pool.submit(double, 4)).unwrap(), 8);
}

#[test]
fn time_in_the_queue_does_not_count() {
    let _watchdog = Watchdog::new("time_in_the_queue_does_not_count");
    let (pool, gate) = (builder(1).task_timeout(SHORT).build().unwrap(), Gate::new());
    let first = pool.submit_with(wait_at, gate.path(), TaskOptions::new().timeout(ENDLESS));
    let visitor = gate.next();
    let behind = pool.submit(double, 21);
    a_limit_is_over();
    visitor.go_on();
    assert_eq!(get(behind).unwrap(), 42);
    get(first).unwrap();
}

#[test]
fn one_that_heeds_the_request_has_time_to_clean_up() {
    let _watchdog = Watchdog::new("one_that_heeds_the_request_has_time_to_clean_up");
    extern "C" fn clean_up(_signal: i32) {
        let word = b"clean";
        // SAFETY: two system calls that are allowed in a handler; the path is a C string that lives for
        // ever, the word is valid.
        unsafe {
            let note = libc::open(NOTE.get().map_or(std::ptr::null(), |path| path.as_ptr()), libc::O_WRONLY);
            libc::write(note, word.as_ptr().cast(), word.len());
            libc::_exit(7);
        }
    }
    static NOTE: std::sync::OnceLock<std::ffi::CString> = std::sync::OnceLock::new();
    fn tidy(note: String) -> u32 {
        NOTE.set(std::ffi::CString::new(note).unwrap()).unwrap();
        // SAFETY: the handler makes system calls alone.
        unsafe { libc::signal(libc::SIGTERM, clean_up as extern "C" fn(i32) as libc::sighandler_t) };
        spin(())
    }
    let dir = TempDir::new();
    for way in ["limit", "kill"] {
        let note = dir.path(way);
        std::fs::write(&note, "").unwrap();
        let pool = builder(1).grace_period(ENDLESS).build().unwrap();
        if way == "limit" {
            let options = TaskOptions::new().timeout(SHORT);
            // It may be over before the handler is in place: then it is tried again.
            let options = options.retries(1000).backoff(Duration::ZERO, Duration::ZERO);
            let future = pool.submit_with(tidy, note.clone(), options);
            until("it has cleaned up", || std::fs::read_to_string(&note).unwrap() == "clean");
            while !future.cancel() && !future.done() {
                future.kill();
            }
        } else {
            let future = pool.submit(tidy, note.clone());
            until("it runs", || future.running());
            let pid = pool.worker_pids()[0];
            until("it listens", || {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
                u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (libc::SIGTERM - 1) != 0
            });
            assert!(future.kill());
            match get(future) {
                Err(Error::WorkerDied { status: Some(status), .. }) => assert_eq!(status.code(), Some(7)),
                other => panic!("{other:?}"),
            }
            assert_eq!(std::fs::read_to_string(&note).unwrap(), "clean");
        }
    }
}

/// Does not heed the request, and says so at the gate before it goes on.
fn deaf(gate: String) -> u32 {
    // SAFETY: to ignore a signal installs no code.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    attend(&gate);
    spin(())
}

#[test]
fn one_that_does_not_heed_the_request_is_killed() {
    let _watchdog = Watchdog::new("one_that_does_not_heed_the_request_is_killed");
    let gate = Gate::new();
    for grace in [Duration::ZERO, BRIEF] {
        let pool = builder(1).grace_period(grace).build().unwrap();
        let future = pool.submit(deaf, gate.path());
        let visitor = gate.next();
        let pid = visitor.pid;
        visitor.go_on();
        assert!(future.kill());
        match get(future) {
            Err(Error::WorkerDied { status, pid: of, .. }) => {
                assert_eq!((of, status.and_then(|status| status.signal())), (pid, Some(libc::SIGKILL)));
            }
            other => panic!("{other:?}"),
        }
    }
    let pool = builder(1).grace_period(BRIEF).build().unwrap();
    let ignore = |(): ()| {
        // SAFETY: to ignore a signal installs no code.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    };
    get(pool.submit(ignore, ())).unwrap();
    let future = pool.submit_with(spin, (), TaskOptions::new().timeout(SHORT));
    assert_timed_out(get(future), SHORT);
    assert_eq!(get(pool.submit(double, 1)).unwrap(), 2);
}

#[test]
fn a_call_whose_worker_stands_still_runs_out_of_time() {
    let _watchdog = Watchdog::new("a_call_whose_worker_stands_still_runs_out_of_time");
    fn stop_oneself((): ()) -> u32 {
        send(std::process::id(), Signal::STOP);
        0
    }
    let pool = pool(1);
    let future = pool.submit_with(stop_oneself, (), TaskOptions::new().timeout(SHORT));
    assert_timed_out(get(future), SHORT);
    assert_eq!(get(pool.submit(double, 1)).unwrap(), 2);
}

#[test]
fn a_call_that_a_worker_does_not_take_goes_to_another() {
    let _watchdog = Watchdog::new("a_call_that_a_worker_does_not_take_goes_to_another");
    fn length_and_pid(blob: Blob) -> (usize, u32) {
        (blob.0.len(), std::process::id())
    }
    for size in [1, 64 << 20] {
        let pool = builder(1).grace_period(Duration::ZERO).build().unwrap();
        let first = get(pool.submit(pid_of_worker, ())).unwrap();
        stop(first);
        let options = TaskOptions::new().timeout(Duration::from_secs(2));
        let (length, second) = get(pool.submit_with(length_and_pid, Blob(vec![7; size]), options)).unwrap();
        assert_eq!(length, size);
        assert_ne!(first, second);
    }
}

#[test]
fn half_a_reply_does_not_stop_the_clock() {
    let _watchdog = Watchdog::new("half_a_reply_does_not_stop_the_clock");
    fn half((): ()) -> u32 {
        scribble(&header(8 << 20, kind::RETURNED, 0));
        scribble(&[b'x'; 1000]);
        spin(())
    }
    let pool = pool(1);
    assert_timed_out(get(pool.submit_with(half, (), TaskOptions::new().timeout(SHORT))), SHORT);
    assert_eq!(get(pool.submit(double, 1)).unwrap(), 2);
}

#[test]
fn a_chunk_of_a_map_is_one_call() {
    let _watchdog = Watchdog::new("a_chunk_of_a_map_is_one_call");
    fn spin_at_three(n: u32) -> u32 {
        if n == 3 { spin(()) } else { n }
    }
    let pool = builder(2).task_timeout(Duration::from_secs(1)).build().unwrap();
    let outcomes: Vec<_> = pool.map_with(spin_at_three, 0..6, MapOptions::new().chunksize(2)).collect();
    for (n, outcome) in (0..).zip(outcomes) {
        match outcome {
            Ok(value) => assert!(value == n && n != 2 && n != 3),
            Err(error) => {
                assert!(matches!(error, Error::TimedOut { .. }) && (n == 2 || n == 3), "{n}: {error}")
            }
        }
    }
}

#[test]
fn an_initializer_that_takes_too_long_breaks_the_pool_after_three_attempts() {
    let _watchdog = Watchdog::new("an_initializer_that_takes_too_long_breaks_the_pool_after_three_attempts");
    fn dawdle(note: String) {
        append_line(note, "here");
        spin(());
    }
    let dir = TempDir::new();
    let note = dir.path("note");
    let limit = Duration::from_secs(1);
    let pool = builder(1).initializer(dawdle, note.clone()).start_timeout(limit).build().unwrap();
    let error = get(pool.submit(double, 1)).unwrap_err();
    assert!(matches!(&error, Error::Broken { cause: Some(_), .. }), "{error:?}");
    assert!(error.to_string().contains("3 workers in a row") && error.to_string().contains("1s"), "{error}");
    assert!(lines_of(note) <= 3);
}

#[test]
fn limits_of_zero_are_refused() {
    for (name, builder) in [
        ("task_timeout", builder(1).task_timeout(Duration::ZERO)),
        ("start_timeout", builder(1).start_timeout(Duration::ZERO)),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }));
        assert!(error.to_string().starts_with(&format!("{name} is 0")), "{error}");
    }
}

#[test]
fn a_thread_cannot_be_stopped_and_says_so() {
    let threads = ThreadPoolExecutor::new(1).unwrap();
    let limited = || TaskOptions::new().timeout(LONG);
    let never = |(): ()| -> u32 { panic!("it must not run") };
    for future in
        [threads.submit_with(never, (), limited()), SerialExecutor::new().submit_with(never, (), limited())]
    {
        let error = get(future).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("ProcessPoolExecutor"), "{error}");
    }
}

/// An argument that cannot be encoded, and panics when it is dropped.
#[derive(Deserialize)]
struct Bomb;

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("an argument that panics when it is dropped");
    }
}

#[test]
fn an_argument_that_panics_when_it_is_dropped_harms_nobody() {
    let _watchdog = Watchdog::new("an_argument_that_panics_when_it_is_dropped_harms_nobody");
    let take = |bomb: Bomb| std::mem::forget(bomb);
    let threads = ThreadPoolExecutor::new(1).unwrap();
    let refused = get(threads.submit_with(take, Bomb, TaskOptions::new().timeout(LONG)));
    assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
    let again = || tries(1).retry_if(|_| true);
    let refused = get(threads.submit_with(take, Bomb, again()));
    assert!(matches!(refused, Err(Error::Encode { .. })), "{refused:?}");
    assert_eq!(get(threads.submit(double, 4)).unwrap(), 8);
    let processes = pool(1);
    let refused = get(processes.submit_with(take, Bomb, again().timeout(LONG)));
    assert!(matches!(refused, Err(Error::Encode { .. })), "{refused:?}");
    assert_eq!(get(processes.submit(double, 4)).unwrap(), 8);
}

// ---- Further attempts ------------------------------------------------------------------------

/// Notes the number of its attempt; goes wrong in that way before attempt `good`.
fn flaky((note, good, death): (String, u32, Death)) -> u32 {
    append_line(note, &task::attempt().to_string());
    if task::attempt() < good {
        death.die();
    }
    task::attempt()
}

fn attempts_in(note: &str) -> Vec<u32> {
    std::fs::read_to_string(note).unwrap_or_default().lines().map(|line| line.parse().unwrap()).collect()
}

fn tries(retries: u32) -> TaskOptions {
    TaskOptions::new().retries(retries).backoff(BRIEF, BRIEF)
}

#[test]
fn a_call_that_killed_its_worker_is_tried_again_and_knows_it() {
    let _watchdog = Watchdog::new("a_call_that_killed_its_worker_is_tried_again_and_knows_it");
    let (pool, dir) = (pool(2), TempDir::new());
    for death in [Death::Kill, Death::Abort, Death::ExitZero] {
        let note = dir.path(&format!("{death:?}"));
        let bystanders: Vec<_> = (0..4).map(|n| pool.submit(double, n)).collect();
        assert_eq!(get(pool.submit_with(flaky, (note.clone(), 3, death), tries(5))).unwrap(), 3);
        assert_eq!(attempts_in(&note), [1, 2, 3]);
        assert!(bystanders.into_iter().all(|future| get(future).is_ok()));
    }
    assert_eq!(get(pool.submit(|()| task::attempt(), ())).unwrap(), 1, "the next call is a first attempt");
}

#[test]
fn a_call_that_killed_every_worker_is_given_up_with_its_history() {
    let _watchdog = Watchdog::new("a_call_that_killed_every_worker_is_given_up_with_its_history");
    let (pool, dir) = (pool(1), TempDir::new());
    let note = dir.path("note");
    let future = pool.submit_with(flaky, (note.clone(), u32::MAX, Death::Kill), tries(3));
    let id = future.id();
    let error = get(future).unwrap_err();
    assert_eq!(attempts_in(&note), [1, 2, 3, 4]);
    let Error::GaveUp { task, attempts } = &error else { panic!("{error:?}") };
    assert_eq!(task.id, id);
    let mut pids = Vec::new();
    for (number, attempt) in (1..).zip(&**attempts) {
        let Error::WorkerDied { attempt, pid, status: Some(status), .. } = attempt else {
            panic!("{attempt:?}")
        };
        assert_eq!((*attempt, status.signal()), (number, Some(libc::SIGKILL)));
        assert!(!pids.contains(pid));
        pids.push(*pid);
    }
    assert_eq!(pids.len(), 4);
    let text = error.to_string();
    assert!(
        text.contains("given up after 4 attempts") && text.contains("\n  4. ") && text.contains("attempt 4"),
        "{text}"
    );
    assert_eq!(get(pool.submit(double, 1)).unwrap(), 2);
}

#[test]
fn without_options_there_is_one_attempt() {
    let _watchdog = Watchdog::new("without_options_there_is_one_attempt");
    let (pool, dir) = (pool(1), TempDir::new());
    for (name, options) in [("none", None), ("no retries", Some(TaskOptions::new().retry_if(|_| true)))] {
        let note = dir.path(name);
        let argument = (note.clone(), 2, Death::Kill);
        let future = match options {
            None => pool.submit(flaky, argument),
            Some(options) => pool.submit_with(flaky, argument, options),
        };
        assert!(matches!(get(future), Err(Error::WorkerDied { attempt: 1, .. })));
        assert_eq!(attempts_in(&note), [1]);
    }
    // A panic is no death.
    let note = dir.path("panic");
    let future = pool.submit_with(flaky, (note.clone(), 2, Death::Panic), tries(3));
    assert!(matches!(get(future), Err(Error::Panicked { .. })));
    assert_eq!(attempts_in(&note), [1]);
}

#[test]
fn a_call_that_ran_out_of_time_is_tried_again() {
    let _watchdog = Watchdog::new("a_call_that_ran_out_of_time_is_tried_again");
    fn slow_at_first((): ()) -> u32 {
        if task::attempt() < 3 { spin(()) } else { task::attempt() }
    }
    let pool = pool(1);
    let limit = Duration::from_secs(1);
    assert_eq!(get(pool.submit_with(slow_at_first, (), tries(2).timeout(limit))).unwrap(), 3);
    let error = get(pool.submit_with(spin, (), tries(1).timeout(SHORT))).unwrap_err();
    let Error::GaveUp { attempts, .. } = error else { panic!("{error:?}") };
    assert_eq!(attempts.len(), 2);
    attempts.iter().for_each(|error| assert_timed_out(Err::<(), _>(error.clone()), SHORT));
}

/// Fails before attempt `good`.
fn sulk((note, good): (String, u32)) -> Result<u32, String> {
    append_line(note, &task::attempt().to_string());
    if task::attempt() < good {
        Err(format!("not at attempt {}", task::attempt()))
    } else {
        Ok(task::attempt())
    }
}

fn errors_are_tried_again(executor: &impl Executor) {
    let dir = TempDir::new();
    let willing = || tries(4).retry_if(|error| matches!(error, Error::Raised { .. }));
    let note = dir.path("good");
    assert_eq!(get(executor.try_submit_with(sulk, (note.clone(), 3), willing())).unwrap(), 3);
    assert_eq!(attempts_in(&note), [1, 2, 3]);

    let note = dir.path("bad");
    let error = get(executor.try_submit_with(sulk, (note.clone(), 99), willing())).unwrap_err();
    assert_eq!(attempts_in(&note), [1, 2, 3, 4, 5]);
    let Error::GaveUp { attempts, .. } = &error else { panic!("{error:?}") };
    assert!(attempts[4].to_string().contains("not at attempt 5"), "{error}");

    let note = dir.path("picky");
    let picky = tries(9).retry_if(|error| error.to_string().contains("not at attempt 1"));
    let error = get(executor.try_submit_with(sulk, (note.clone(), 99), picky)).unwrap_err();
    assert_eq!(attempts_in(&note), [1, 2]);
    assert!(matches!(error, Error::Raised { .. }), "what is not tried again is told as it is: {error}");

    let note = dir.path("unasked");
    let error = get(executor.try_submit_with(sulk, (note.clone(), 99), tries(9))).unwrap_err();
    assert!(matches!(error, Error::Raised { .. }), "{error}");
    assert_eq!(attempts_in(&note), [1]);

    let note = dir.path("panics");
    let argument = (note.clone(), 3, Death::Panic);
    let panics = tries(4).retry_if(|error| matches!(error, Error::Panicked { .. }));
    assert_eq!(get(executor.submit_with(flaky, argument, panics)).unwrap(), 3);
    assert_eq!(attempts_in(&note), [1, 2, 3]);
}

#[test]
fn errors_are_tried_again_where_asked_for_on_processes() {
    let _watchdog = Watchdog::new("errors_are_tried_again_where_asked_for_on_processes");
    errors_are_tried_again(&pool(2));
}

#[test]
fn errors_are_tried_again_where_asked_for_on_threads() {
    let _watchdog = Watchdog::new("errors_are_tried_again_where_asked_for_on_threads");
    errors_are_tried_again(&ThreadPoolExecutor::new(2).unwrap());
}

#[test]
fn errors_are_tried_again_where_asked_for_serially() {
    let _watchdog = Watchdog::new("errors_are_tried_again_where_asked_for_serially");
    errors_are_tried_again(&SerialExecutor::new());
}

// ---- Between two attempts --------------------------------------------------------------------

fn fail((): ()) -> Result<u32, String> {
    Err("no".into())
}

/// A call that has failed once and waits for a moment that will not come.
fn in_endless_pause(executor: &impl Executor) -> Future<u32> {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let options = TaskOptions::new().retries(9).backoff(ENDLESS, ENDLESS).retry_if(move |_| {
        tell.lock().unwrap().send(()).unwrap();
        true
    });
    let future = executor.try_submit_with(fail, (), options);
    told.recv_timeout(LONG).unwrap();
    until("it has been put back", || !future.running());
    assert!(!future.done());
    future
}

fn a_pause_occupies_no_worker(executor: &impl Executor) {
    let waiting: Vec<_> = (0..20).map(|_| in_endless_pause(executor)).collect();
    let values: Vec<_> = (0..20).map(|n| get(executor.submit(double, n)).unwrap()).collect();
    assert_eq!(values, (0..20).map(|n| n * 2).collect::<Vec<_>>());
    // One that is due soon is not held up by those that are due late.
    let dir = TempDir::new();
    let options = tries(3).retry_if(|_| true);
    assert_eq!(get(executor.try_submit_with(sulk, (dir.path("note"), 3), options)).unwrap(), 3);
    assert!(waiting.iter().all(|future| !future.done()));
    for (n, future) in waiting.into_iter().enumerate() {
        assert!(if n % 2 == 0 { future.cancel() } else { future.kill() });
        assert!(matches!(get(future), Err(Error::Cancelled { .. })));
    }
    executor.shutdown_with(Shutdown { wait: true, cancel_futures: true });
}

/// Nobody waits for a moment that nothing is left for.
fn a_pause_that_is_cancelled_holds_up_no_shutdown(executor: impl Executor) {
    let waiting = [in_endless_pause(&executor), in_endless_pause(&executor)];
    assert!(waiting.iter().all(Future::cancel));
    executor.shutdown();
}

#[test]
fn a_cancelled_pause_holds_up_no_shutdown() {
    let _watchdog = Watchdog::new("a_cancelled_pause_holds_up_no_shutdown");
    a_pause_that_is_cancelled_holds_up_no_shutdown(ThreadPoolExecutor::new(2).unwrap());
    a_pause_that_is_cancelled_holds_up_no_shutdown(pool(2));
}

#[test]
fn a_pause_occupies_no_process() {
    let _watchdog = Watchdog::new("a_pause_occupies_no_process");
    a_pause_occupies_no_worker(&pool(1));
    a_pause_occupies_no_worker(&pool(2));
    a_pause_occupies_no_worker(&builder(2).idle_timeout(BRIEF).build().unwrap());
}

#[test]
fn a_pause_occupies_no_thread() {
    let _watchdog = Watchdog::new("a_pause_occupies_no_thread");
    a_pause_occupies_no_worker(&ThreadPoolExecutor::new(1).unwrap());
    a_pause_occupies_no_worker(&ThreadPoolExecutor::new(3).unwrap());
    let builder = ThreadPoolExecutor::builder().max_workers(2);
    a_pause_occupies_no_worker(&builder.idle_timeout(Duration::ZERO).build().unwrap());
}

fn an_end_without_waiting_ends_pauses(executor: impl Executor) {
    let waiting: Vec<_> = (0..5).map(|_| in_endless_pause(&executor)).collect();
    executor.shutdown_with(Shutdown { wait: true, cancel_futures: true });
    for future in waiting {
        assert!(matches!(get(future), Err(Error::Cancelled { .. })));
    }
}

#[test]
fn a_shutdown_that_cancels_ends_pauses() {
    let _watchdog = Watchdog::new("a_shutdown_that_cancels_ends_pauses");
    an_end_without_waiting_ends_pauses(pool(2));
    an_end_without_waiting_ends_pauses(ThreadPoolExecutor::new(2).unwrap());
    let pool = pool(1);
    let waiting = in_endless_pause(&pool);
    pool.terminate_workers();
    assert!(matches!(get(waiting), Err(Error::Cancelled { .. })));
}

fn fail_at(gate: String) -> Result<u32, String> {
    wait_at(gate);
    Err("at the gate".into())
}

fn what_fails_after_the_end_of_all_is_not_tried_again(executor: impl Executor) {
    let gate = Gate::new();
    let endless = TaskOptions::new().retries(9).backoff(ENDLESS, ENDLESS).retry_if(|_| true);
    let future = executor.try_submit_with(fail_at, gate.path(), endless);
    let visitor = gate.next();
    executor.shutdown_with(Shutdown { wait: false, cancel_futures: true });
    visitor.go_on();
    assert!(matches!(get(future), Err(Error::Cancelled { .. })));
    executor.shutdown();
}

#[test]
fn what_fails_after_a_shutdown_that_cancels_is_not_tried_again() {
    let _watchdog = Watchdog::new("what_fails_after_a_shutdown_that_cancels_is_not_tried_again");
    what_fails_after_the_end_of_all_is_not_tried_again(pool(2));
    what_fails_after_the_end_of_all_is_not_tried_again(ThreadPoolExecutor::new(2).unwrap());
}

fn a_shutdown_waits_for_further_attempts(executor: impl Executor) {
    let dir = TempDir::new();
    let options = || tries(4).retry_if(|_| true);
    let futures: Vec<_> =
        (0..8).map(|n| executor.try_submit_with(sulk, (dir.path(&n.to_string()), 4), options())).collect();
    executor.shutdown();
    for future in futures {
        assert!(future.done());
        assert_eq!(get(future).unwrap(), 4);
    }
}

#[test]
fn a_shutdown_waits_for_all_attempts() {
    let _watchdog = Watchdog::new("a_shutdown_waits_for_all_attempts");
    a_shutdown_waits_for_further_attempts(pool(1));
    a_shutdown_waits_for_further_attempts(pool(3));
    a_shutdown_waits_for_further_attempts(ThreadPoolExecutor::new(1).unwrap());
    a_shutdown_waits_for_further_attempts(ThreadPoolExecutor::new(3).unwrap());
}

#[test]
fn a_call_that_was_killed_is_not_tried_again() {
    let _watchdog = Watchdog::new("a_call_that_was_killed_is_not_tried_again");
    let (pool, gate) = (pool(1), Gate::new());
    let future = pool.submit_with(wait_at, gate.path(), tries(9));
    let visitor = gate.next();
    assert!(future.kill());
    match get(future) {
        Err(Error::WorkerDied { pid, attempt: 1, .. }) => assert_eq!(pid, visitor.pid),
        other => panic!("{other:?}"),
    }
    let future = pool.submit_with(wait_at, gate.path(), tries(9));
    let visitor = gate.next();
    pool.kill_workers();
    match get(future) {
        Err(Error::WorkerDied { pid, attempt: 1, .. }) => assert_eq!(pid, visitor.pid),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broken_pool_ends_pauses() {
    let _watchdog = Watchdog::new("a_broken_pool_ends_pauses");
    let pool = builder(1).max_restarts_per_minute(1).build().unwrap();
    let waiting = in_endless_pause(&pool);
    let killers: Vec<_> =
        (0..2).map(|_| pool.submit(|()| kill_oneself(), ())).map(|future: Future<()>| get(future)).collect();
    assert!(killers.iter().all(|outcome| matches!(outcome, Err(Error::WorkerDied { .. }))), "{killers:?}");
    let error = get(waiting).unwrap_err();
    assert!(error.to_string().contains("max_restarts_per_minute is 1"), "{error}");
}

/// One call of a pool waits for another, which fails at first.
#[test]
fn a_call_can_wait_for_one_that_is_tried_again() {
    let _watchdog = Watchdog::new("a_call_can_wait_for_one_that_is_tried_again");
    let options = || tries(3).retry_if(|_| true);
    for limit in [None, Some(LONG)] {
        let dir = TempDir::new();
        let threads = std::sync::Arc::new(ThreadPoolExecutor::new(1).unwrap());
        let inside = std::sync::Arc::clone(&threads);
        let note = dir.path("threads");
        let outer = ThreadPoolExecutor::spawn(&threads, move || {
            let mut inner = Executor::try_submit_with(&*inside, sulk, (note, 3), options());
            match limit {
                None => inner.result(),
                Some(limit) => inner.result_timeout(limit),
            }
        });
        assert_eq!(get(outer).unwrap().unwrap(), 3);
    }
    let (pool, dir, gate) = (pool(1), TempDir::new(), Gate::new());
    let first = pool.submit(wait_at, gate.path());
    let visitor = gate.next();
    let second = pool.try_submit_with(sulk, (dir.path("note"), 3), options());
    let (tell, told) = std::sync::mpsc::channel();
    first.add_done_callback(move |_| tell.send(get(second)).unwrap());
    visitor.go_on();
    assert_eq!(told.recv_timeout(LONG).unwrap().unwrap(), 3);
}

#[test]
fn many_flaky_calls_all_arrive() {
    let _watchdog = Watchdog::new("many_flaky_calls_all_arrive");
    fn every_third(n: u32) -> u32 {
        if n.is_multiple_of(3) && task::attempt() <= n % 4 {
            kill_oneself();
        }
        n
    }
    let pool = builder(3).max_pending(20).build().unwrap();
    let futures: Vec<_> = (0..120).map(|n| pool.submit_with(every_third, n, tries(4))).collect();
    let mut values: Vec<_> = as_completed(futures).map(|future| future.result().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (0..120).collect::<Vec<_>>());
}
