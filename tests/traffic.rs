//! Calls and results of every size, in great number, and panics: all of it arrives, and arrives whole.
//!
//! Tests that prove a clause of `PARITY.md` are named after it.
//!
//! Not here: workers that die or talk nonsense (`faults.rs`), what a hundred thousand calls take
//! from the system (`limits.rs`).

mod faults_common;

use concurrent_futures::{Error, Executor, Future, MapOptions, ProcessPoolExecutor};
use faults_common::*;

concurrent_futures::init_tests!();

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

const SIZES: [usize; 7] = [0, 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 1 << 20, 64 << 20];

#[test]
fn arguments_and_results_of_every_size_arrive_whole() {
    let _watchdog = Watchdog::new("arguments_and_results_of_every_size_arrive_whole");
    let pool = pool(2);
    for size in SIZES {
        let there = pool.submit(|blob: Blob| blob == Blob::new(blob.0.len()), Blob::new(size));
        assert!(get(there).unwrap(), "{size} bytes as the argument");
        let back = get(pool.submit(Blob::new, size)).unwrap();
        assert!(back == Blob::new(size), "{size} bytes as the result");
    }
    for size in SIZES {
        let both = get(pool.submit(|blob: Blob| blob, Blob::new(size))).unwrap();
        assert!(both == Blob::new(size), "{size} bytes in both directions");
    }
}

/// What is nothing but its bytes has a way of its own, whose borders are these.
const BORDERS: [usize; 11] = [
    0,
    1,
    (16 << 10) - 1,
    16 << 10,
    (64 << 10) - 37,
    64 << 10,
    (64 << 10) + 1,
    (1 << 20) - 37,
    1 << 20,
    (1 << 20) + 1,
    9 << 20,
];

fn echo<T>(value: T) -> T {
    value
}

fn both(pair: (String, Vec<u8>)) -> (Vec<u8>, Option<String>) {
    (pair.1, Some(pair.0))
}

#[test]
fn bytes_text_and_numbers_of_every_size_arrive_whole() {
    let _watchdog = Watchdog::new("bytes_text_and_numbers_of_every_size_arrive_whole");
    let pool = pool(1);
    for size in BORDERS {
        let Blob(bytes) = Blob::new(size);
        assert!(get(pool.submit(echo::<Vec<u8>>, bytes.clone())).unwrap() == bytes, "{size}");
        let text: String = bytes.iter().map(|byte| char::from(byte % 128)).collect();
        assert!(get(pool.submit(echo::<String>, text.clone())).unwrap() == text, "{size}");
        let numbers: Vec<f64> = bytes.chunks(8).map(|some| some.len() as f64 / f64::from(some[0])).collect();
        assert!(get(pool.submit(echo::<Vec<f64>>, numbers.clone())).unwrap() == numbers, "{size}");
        let numbers: Vec<u64> = bytes.chunks(8).map(|some| u64::from(some[0]) << 40).collect();
        assert!(get(pool.submit(echo::<Vec<u64>>, numbers.clone())).unwrap() == numbers, "{size}");
        // Inside of another value.
        if size <= (1 << 20) + 1 {
            let there = (text.clone(), bytes.clone());
            assert!(get(pool.submit(both, there)).unwrap() == (bytes, Some(text)), "{size}");
        }
    }
}

/// Several in one message.
#[test]
fn bytes_in_a_chunk_arrive_whole() {
    let _watchdog = Watchdog::new("bytes_in_a_chunk_arrive_whole");
    let (pool, sizes) = (pool(1), [0, 1, 20 << 10, 3, 100 << 10, 1 << 20]);
    let blobs: Vec<Vec<u8>> = sizes.iter().map(|size| Blob::new(*size).0).collect();
    let back = pool.map_with(echo::<Vec<u8>>, blobs.clone(), MapOptions::new().chunksize(sizes.len()));
    assert!(back.collect::<Result<Vec<_>, _>>().unwrap() == blobs);
    let numbers: Vec<Vec<i32>> = sizes.iter().map(|size| (0..*size as i32 / 4).collect()).collect();
    let back = pool.map_with(echo::<Vec<i32>>, numbers.clone(), MapOptions::new().chunksize(sizes.len()));
    assert!(back.collect::<Result<Vec<_>, _>>().unwrap() == numbers);
}

/// Where procspawn 1.0.2 does not return from the second `spawn`.
#[test]
fn p15_large_arguments_behind_a_slow_call_do_not_block_submit() {
    let _watchdog = Watchdog::new("p15_large_arguments_behind_a_slow_call_do_not_block_submit");
    let (pool, gate) = (pool(1), Gate::new());
    let slow = pool.submit(wait_at, gate.path());
    let visitor = gate.next();
    let large: Vec<_> = (0..20).map(|_| pool.submit(|blob: Blob| blob.0.len(), Blob::new(1 << 20))).collect();
    // The slow call ends after all of them were submitted, and not before.
    assert!(slow.running());
    visitor.go_on();
    for future in large {
        assert_eq!(get(future).unwrap(), 1 << 20);
    }
    get(slow).unwrap();
}

/// Where procspawn 1.0.2 stalls.
#[test]
fn results_can_be_awaited_in_reverse_order() {
    let _watchdog = Watchdog::new("results_can_be_awaited_in_reverse_order");
    let pool = pool(2);
    let futures: Vec<_> = (0..12).map(|n| pool.submit(double, n)).collect();
    for (n, future) in futures.into_iter().enumerate().rev() {
        assert_eq!(get(future).unwrap(), n as u64 * 2);
    }
    // The same with results that do not fit into a pipe.
    let futures: Vec<_> = (0..6).map(|_| pool.submit(Blob::new, 1 << 20)).collect();
    for future in futures.into_iter().rev() {
        assert!(get(future).unwrap() == Blob::new(1 << 20));
    }
}

fn panic_with(n: u32) {
    panic!("no {n}");
}

/// Where procspawn 1.0.2 loses most of the messages.
#[test]
fn p20_a_thousand_panics_keep_their_messages_and_their_workers() {
    let _watchdog = Watchdog::new("p20_a_thousand_panics_keep_their_messages_and_their_workers");
    let (pool, gate) = (pool(2), Gate::new());
    let both = [pool.submit(wait_at, gate.path()), pool.submit(wait_at, gate.path())];
    drop([gate.next(), gate.next()]);
    let mut workers = both.map(|future| get(future).unwrap());
    workers.sort_unstable();
    let futures: Vec<Future<()>> = (0..1000).map(|n| pool.submit(panic_with, n)).collect();
    for (n, future) in (0..).zip(futures) {
        let error = get(future).unwrap_err();
        let Error::Panicked { task, panic } = &error else { panic!("{n}: {error:?}") };
        assert!(task.name.ends_with("::panic_with"), "{n}: {error}");
        assert_eq!(panic.message(), format!("no {n}"));
        assert!(panic.location().unwrap().contains("tests/traffic.rs:"), "{n}: {error}");
    }
    let mut after = pool.worker_pids();
    after.sort_unstable();
    assert_eq!(after, workers, "a panic needs no new worker");
}

#[test]
fn p20_a_backtrace_comes_if_and_only_if_it_was_asked_for() {
    let _watchdog = Watchdog::new("p20_a_backtrace_comes_if_and_only_if_it_was_asked_for");
    for asked in ["1", "0"] {
        let builder = ProcessPoolExecutor::builder().max_workers(1);
        let pool = builder.env("RUST_BACKTRACE", asked).env("RUST_LIB_BACKTRACE", asked).build().unwrap();
        let error = get(pool.submit(panic_with, 7)).unwrap_err();
        let Error::Panicked { panic, .. } = &error else { panic!("{error:?}") };
        match panic.backtrace() {
            Some(backtrace) => {
                assert!(asked == "1" && backtrace.contains("panic_with"), "{asked}: {backtrace}")
            }
            None => assert_eq!(asked, "0"),
        }
    }
}
