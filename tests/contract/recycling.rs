//! Worker processes that are replaced because they have grown too large.

use std::fs;
use std::hint::black_box;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};

use crate::common::{LIMIT, watchdog};

const MIB: usize = 1 << 20;

fn pool(bytes: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(1).max_memory_per_child(bytes).build().unwrap()
}

/// Tells how much memory this process has, after it got so many bytes more, for good.
fn keep(bytes: usize) -> (u32, usize) {
    black_box(vec![1_u8; bytes].leak());
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    (std::process::id(), kilobytes << 10)
}

fn keep_and_explode(bytes: usize) -> (u32, usize) {
    keep(bytes);
    panic!("after {bytes} bytes");
}

/// More than a worker has that did nothing, whatever this test program needs.
fn fresh() -> usize {
    pool(1).submit(keep, 0).result().unwrap().1
}

#[test]
fn a_worker_that_keeps_too_much_memory_is_replaced_before_its_next_task() {
    watchdog("max_memory_per_child", LIMIT, || {
        let pool = pool(fresh() + 32 * MIB);
        let pid = |bytes| pool.submit(keep, bytes).result().unwrap().0;
        let first = pid(0);
        assert!((0..20).all(|_| pid(1000) == first), "small calls keep their worker");
        assert_eq!(pid(64 * MIB), first, "the call that passes the limit is not interrupted");
        let second = pid(0);
        assert_ne!(second, first);
        assert!(!fs::exists(format!("/proc/{first}")).unwrap(), "the one before it is gone");
        assert!((0..20).all(|_| pid(1000) == second));
    });
}

#[test]
fn growth_in_small_steps_is_seen_too_and_no_call_is_lost() {
    watchdog("small steps", LIMIT, || {
        let limit = fresh() + 32 * MIB;
        let pool = pool(limit);
        let workers: Vec<(u32, usize)> = pool.map(keep, [8 * MIB; 24]).map(Result::unwrap).collect();
        for pair in workers.windows(2) {
            let [(pid, bytes), (next, _)] = pair else { unreachable!("windows of two") };
            // The kernel counts in batches: near the limit it may be seen either way.
            if *bytes > limit + 4 * MIB {
                assert_ne!(pid, next, "{workers:?}");
            } else if *bytes + 4 * MIB < limit {
                assert_eq!(pid, next, "{workers:?}");
            }
        }
        assert_ne!(workers[0].0, workers[23].0);
    });
}

#[test]
fn a_call_that_fails_counts_as_well() {
    watchdog("a call that fails", LIMIT, || {
        let pool = pool(fresh() + 32 * MIB);
        let (first, _) = pool.submit(keep, 0).result().unwrap();
        assert!(matches!(pool.submit(keep_and_explode, 64 * MIB).result(), Err(Error::Panicked { .. })));
        assert_ne!(pool.submit(keep, 0).result().unwrap().0, first);
    });
}

#[test]
fn a_limit_that_no_worker_keeps_replaces_it_after_every_task() {
    watchdog("a tiny limit", LIMIT, || {
        let pool = pool(1);
        let mut pids: Vec<u32> = pool.map(keep, [0; 4]).map(|kept| kept.unwrap().0).collect();
        pids.dedup();
        assert_eq!(pids.len(), 4);
    });
}

#[test]
fn a_limit_of_nothing_is_an_error() {
    let error = ProcessPoolExecutor::builder().max_memory_per_child(0).build().unwrap_err();
    assert!(matches!(&error, Error::InvalidArgument { .. }));
    assert!(error.to_string().contains("max_memory_per_child"), "{error}");
}
