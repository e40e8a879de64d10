//! Programs that do not call `init`, or not everywhere: an error that says what to do, and never
//! more processes than asked for.
//!
//! This file has no `init_tests!`, on purpose. A copy of this program that a pool starts as its
//! worker, with no arguments, runs the whole harness: so every test begins by asking whether it is
//! in one.

mod faults_common;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
use faults_common::*;

/// A file that gets a line for each harness that runs inside a worker.
const COUNT: &str = "CF_TEST_HARNESSES";

fn in_worker() -> bool {
    std::env::var_os("CONCURRENT_FUTURES_WORKER").is_some()
}

#[test]
fn role_entry() {
    if in_worker() {
        if let Ok(path) = std::env::var(COUNT) {
            append_line(path, "a harness in a worker");
        }
        return;
    }
    let Some(role) = my_role() else { return };
    let _watchdog = Watchdog::new("a role");
    match role.as_str() {
        "never" => never(),
        "host only" => host_only(),
        other => panic!("no role: {other}"),
    }
}

fn never() {
    let error = ProcessPoolExecutor::new(2).unwrap_err();
    assert!(matches!(error, Error::NotInitialised), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("`concurrent_futures::init();` the first line of `main`"), "{text}");
    assert!(text.contains("`concurrent_futures::init_tests!();`"), "{text}");
    assert!(children_of(std::process::id()).is_empty(), "no process was started");
}

#[test]
fn p23_without_init_there_is_an_error_and_no_process() {
    if in_worker() {
        return;
    }
    let _watchdog = Watchdog::new("p23_without_init_there_is_an_error_and_no_process");
    applause(role("never").spawn().unwrap());
}

/// Calls `init` in the host alone: its workers come to life as harnesses, and end.
fn host_only() {
    concurrent_futures::init();
    let dir = TempDir::new();
    for workers in [1, 2] {
        let count = dir.path(&format!("harnesses of {workers}"));
        let pool = ProcessPoolExecutor::builder().max_workers(workers).env(COUNT, &count).build().unwrap();
        let futures: Vec<_> = (0..10).map(|n| pool.submit(double, n)).collect();
        for future in futures {
            let error = get(future).unwrap_err();
            assert!(matches!(error, Error::Broken { .. }), "{error:?}");
            let text = error.to_string();
            assert!(
                text.contains("`concurrent_futures::init();` must be the first line of `main`"),
                "{text}"
            );
        }
        drop(pool);
        let harnesses = lines_of(&count);
        assert!((3..=3 * workers).contains(&harnesses), "{harnesses} processes for {workers} workers");
        assert!(children_of(std::process::id()).is_empty());
    }
}

#[test]
fn p23_workers_without_init_break_the_pool_and_do_not_multiply() {
    if in_worker() {
        return;
    }
    let _watchdog = Watchdog::new("p23_workers_without_init_break_the_pool_and_do_not_multiply");
    applause(role("host only").spawn().unwrap());
}
