//! Bulk data: what `Shared` and `Blob` are on every engine, and that they cross the wall between processes without a copy
//! for each task, whatever dies meanwhile.
//!
//! Not here: workers that lie about what they enclose (`hostile.rs`); the parts (`src/shared/`, `src/enclosed.rs`,
//! `src/process/post.rs`).

#![cfg(target_os = "linux")]

mod faults_common;

use concurrent_futures::{Blob, Executor, ProcessPoolExecutor};
use faults_common::*;

concurrent_futures::init_tests!();

fn pool(workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(workers).unwrap()
}

/// As many bytes as wanted, not all the same.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

fn echo(blob: Blob) -> Blob {
    blob
}

/// Of every size, there and back.
#[test]
fn sizes() {
    let _watchdog = Watchdog::new("sizes");
    let pool = pool(1);
    for len in [0, 1, 100, (32 << 10) - 1, 32 << 10, (32 << 10) + 1, 1 << 20, 5_000_001] {
        let data = bytes(len);
        let blob = Blob::from(data.clone());
        for _ in 0..2 {
            assert!(get(pool.submit(echo, blob.clone())).unwrap() == data, "{len} bytes");
        }
        let built = Blob::build(len, |bytes| bytes.copy_from_slice(&data));
        assert!(built == data);
        assert!(get(pool.submit(echo, built)).unwrap() == data, "{len} bytes");
    }
}
