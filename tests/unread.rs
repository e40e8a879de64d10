//! What becomes of errors that nobody reads where no hook was set, and of hooks that misbehave.
//!
//! Not here: what counts as read (`tests/contract/unread.rs`). The hook is one for the whole
//! process, so each test starts this program again in a role.

concurrent_futures::init_tests!();

mod common;

use std::process::{Command, Output};
use std::sync::Arc;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, ThreadPoolExecutor, set_unread_error_hook};

use common::{LIMIT, watchdog};

fn play(role: &str) -> Output {
    watchdog(role, LIMIT, || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["role_entry", "--exact", "--nocapture"]).env("UNREAD_ROLE", role);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    })
}

#[test]
fn role_entry() {
    match std::env::var("UNREAD_ROLE").as_deref() {
        Ok("no hook") => no_hook(),
        Ok("many") => many(),
        Ok("bad hook") => bad_hook(),
        _ => {}
    }
}

fn no_hook() {
    let threads = ThreadPoolExecutor::new(1).unwrap();
    drop(threads.try_submit(|word: &str| Err::<u32, _>(word), "lost on threads"));
    let processes = ProcessPoolExecutor::new(1).unwrap();
    drop(processes.submit(|word: String| -> u32 { panic!("{word}") }, "lost on processes".to_owned()));
}

#[test]
fn g4_without_a_hook_they_are_printed_to_stderr_a_line_each() {
    let output = play("no hook");
    let text = String::from_utf8_lossy(&output.stderr);
    for word in ["lost on threads", "lost on processes"] {
        let lines: Vec<_> = text.lines().filter(|line| line.contains(word)).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(lines[0].starts_with("concurrent-futures: nobody read this error: "), "{text}");
    }
}

fn many() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    (0..1000).for_each(|n: u32| drop(pool.try_submit(|n| Err::<(), _>(format!("number {n}")), n)));
}

#[test]
fn of_many_a_few_are_printed_and_that_there_are_more() {
    let output = play("many");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.matches("nobody read this error").count(), 20, "{text}");
    assert_eq!(text.matches("no more of these are printed").count(), 1, "{text}");
}

/// It submits, and it panics.
fn bad_hook() {
    let pool = Arc::new(ThreadPoolExecutor::new(1).unwrap());
    let weak = Arc::downgrade(&pool);
    set_unread_error_hook(move |error| {
        if let (Error::Raised { .. }, Some(pool)) = (error, weak.upgrade()) {
            drop(pool.spawn(|| ()));
        }
        panic!("a hook that panics");
    });
    for _ in 0..10 {
        drop(pool.try_submit(|()| Err::<(), _>("no"), ()));
    }
    let future = pool.try_submit(|()| Err::<(), _>("no"), ());
    future.wait();
    drop(future);
    assert_eq!(pool.spawn(|| 2).result().unwrap(), 2);
}

#[test]
fn a_hook_that_panics_or_submits_harms_nobody() {
    let output = play("bad hook");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.matches("a hook that panics").count(), 11, "{text}");
}
