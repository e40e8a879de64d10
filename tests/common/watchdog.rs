//! A watchdog for tests: a hang becomes a failure that says who waits for what.
//!
//! Not here: gates, tasks, executors. Both families of test helpers include this file.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a test is usually given. Few take a second; the machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// While it lives, the test may not take longer than its limit: then it says on stderr what every
/// thread and every child of this process waits for, and aborts.
pub(crate) struct Watchdog(Option<mpsc::Sender<()>>, Option<JoinHandle<()>>);

impl Watchdog {
    pub(crate) fn new(name: &str) -> Self {
        Watchdog::within(LIMIT, name)
    }

    pub(crate) fn within(limit: Duration, name: &str) -> Self {
        let (leash, pull) = mpsc::channel();
        let name = name.to_owned();
        let dog = thread::Builder::new().name("watchdog".into()).spawn(move || {
            if pull.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let report =
                    format!("\n=== `{name}` hangs: not over after {limit:?} ===\n{}", who_waits_for_what());
                // Not `eprintln!`: the test harness would keep that for a summary that never comes.
                let _ = std::io::stderr().write_all(report.as_bytes());
                std::process::abort();
            }
        });
        Watchdog(Some(leash), Some(dog.expect("a thread for the watchdog")))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0 = None;
        if let Some(dog) = self.1.take() {
            let _ = dog.join();
        }
    }
}

/// Runs `body` in this thread, under a [`Watchdog`].
pub(crate) fn watchdog<R>(name: &str, limit: Duration, body: impl FnOnce() -> R) -> R {
    let _watchdog = Watchdog::within(limit, name);
    body()
}

/// Every thread and every child of this process, one a line.
pub(crate) fn who_waits_for_what() -> String {
    let mut report = String::new();
    let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut line = |kind: &str, dir: &Path| {
        let read = |file: &str| {
            let text = fs::read(dir.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&text).replace('\0', " ").trim().to_owned()
        };
        let _ = writeln!(
            report,
            "{kind} {} [{}] wchan={} syscall={} stat={} cmdline={}",
            dir.display(),
            read("comm"),
            read("wchan"),
            read("syscall"),
            read("stat"),
            read("cmdline"),
        );
    };
    entries("/proc/self/task").for_each(|dir| line("thread", &dir));
    let us = std::process::id().to_string();
    for dir in entries("/proc") {
        let stat = fs::read_to_string(dir.join("stat")).unwrap_or_default();
        // pid (name) state ppid …; the name may hold anything.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        if parent == Some(us.as_str()) {
            line("child", &dir);
        }
    }
    report
}
