//! What the error tells of a worker that died: which attempt it was, how much memory it had, and what killed it,
//! as far as one can know.
//!
//! Not here: that it names the call, the process and the signal (`matrix`, `faults.rs`).

mod faults_common;

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
use faults_common::*;

concurrent_futures::init_tests!();

/// Takes that many MiB, for good.
fn take(mib: usize) {
    let memory = black_box(vec![1_u8; mib << 20]);
    assert_eq!(memory[memory.len() - 1], 1);
    std::mem::forget(memory);
}

#[track_caller]
fn post_mortem<T: std::fmt::Debug>(
    outcome: Result<T, Error>,
) -> (Option<i32>, Option<u64>, Option<String>, String) {
    let error = outcome.unwrap_err();
    let text = error.to_string();
    match error {
        Error::WorkerDied { status, peak_memory, probable_cause, .. } => {
            (status.and_then(|status| status.signal()), peak_memory, probable_cause, text)
        }
        error => panic!("{error:?}"),
    }
}

#[test]
fn how_much_memory_it_had_is_known_of_a_worker_that_grew() {
    let _watchdog = Watchdog::new("how_much_memory_it_had_is_known_of_a_worker_that_grew");
    let grow_and_die = |mib: usize| -> () {
        take(mib);
        kill_oneself()
    };
    let pool = ProcessPoolExecutor::new(1).unwrap();
    let (signal, peak, _, text) = post_mortem(get(pool.submit(grow_and_die, 700)));
    assert_eq!(signal, Some(libc::SIGKILL), "{text}");
    let peak = peak.expect("it was larger than this process");
    assert!((700 << 20..900 << 20).contains(&peak), "{peak}");
    assert!(text.contains(&format!("its peak memory was {} MiB", peak >> 20)), "{text}");

    // What it had when it was still a part of this process is not told as its own.
    take(100);
    let (_, peak, _, text) = post_mortem(get(pool.submit(grow_and_die, 1)));
    assert!(peak.is_none(), "{text}");
    assert!(!text.contains("peak memory"), "{text}");
}

/// A control group that may have so little memory, removed at the end.
struct Cramped(PathBuf);

impl Cramped {
    fn new(bytes: u64) -> Option<Self> {
        let first = (
            Path::new("/sys/fs/cgroup/memory"),
            "memory.limit_in_bytes", // the first version of the interface
        );
        let second = (Path::new("/sys/fs/cgroup"), "memory.max");
        let name = format!("concurrent-futures-{}", std::process::id());
        [first, second].into_iter().find_map(|(root, limit)| {
            let group = Cramped(root.join(&name));
            std::fs::create_dir(&group.0).ok()?;
            // Without this it would be swapped out, where there is swap.
            let _ = std::fs::write(group.0.join("memory.swap.max"), "0");
            std::fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Cramped {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn that_the_kernel_ran_out_of_memory_is_suspected_when_it_did() {
    let _watchdog = Watchdog::new("that_the_kernel_ran_out_of_memory_is_suspected_when_it_did");
    let Some(group) = Cramped::new(48 << 20) else {
        eprintln!("not shown: this user cannot make a control group with a limit of memory");
        return;
    };
    let enter_and_grow = |group: PathBuf| {
        std::fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        take(400);
    };
    let pool = ProcessPoolExecutor::new(2).unwrap();
    let bystander = pool.submit(double, 4);
    let (signal, _, cause, text) = post_mortem(get(pool.submit(enter_and_grow, group.0.clone())));
    assert_eq!(signal, Some(libc::SIGKILL), "{text}");
    assert!(
        cause.is_some_and(|cause| cause.contains("killed by the kernel, probably because memory ran out"))
    );
    assert!(text.contains("memory ran out"), "{text}");
    assert_eq!(get(bystander).unwrap(), 8);
    assert_eq!(get(pool.submit(double, 5)).unwrap(), 10);
    // The next one that is killed, by somebody else, is not suspected of it.
    let (signal, _, cause, text) = post_mortem(get(pool.submit(|()| -> () { kill_oneself() }, ())));
    assert_eq!((signal, cause), (Some(libc::SIGKILL), None), "{text}");
}

#[test]
fn a_worker_that_was_killed_on_request_is_not_suspected_of_anything() {
    let _watchdog = Watchdog::new("a_worker_that_was_killed_on_request_is_not_suspected_of_anything");
    let (pool, gate) =
        (ProcessPoolExecutor::builder().max_workers(1).memory_limit(1 << 30).build().unwrap(), Gate::new());
    let future = pool.submit(wait_at, gate.path());
    let visitor = gate.next();
    assert!(future.kill());
    let (signal, _, cause, text) = post_mortem(get(future));
    assert_eq!((signal, cause), (Some(libc::SIGTERM), None), "{text}");
    drop(visitor);
}
