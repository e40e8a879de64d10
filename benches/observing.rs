//! What it costs to be observed, and to ask how a pool is doing: `cargo bench --bench observing`
//! (with `--features timeline` also what the recorder costs).
//!
//! Not here: what a pool pays for its own numbers, which is in every other bench, as they are always on.

mod rivals;

use std::hint::black_box;

use concurrent_futures::{
    Event, Executor, Future, Observer, ProcessPoolExecutor, ThreadPoolExecutor, init, observe,
};
use rivals::{ratio, size};

const WORKERS: usize = 2;

/// Looks at what it is told, and forgets it.
struct Looks;

impl Observer for Looks {
    fn notice(&self, event: &Event<'_>) {
        black_box(event);
    }
}

fn same(n: u64) -> u64 {
    black_box(n)
}

fn there_and_back(pool: &impl Executor, n: u64) {
    (0..n).for_each(|n| assert_eq!(pool.submit(same, n).result().unwrap(), n));
}

fn queued(pool: &impl Executor, n: u64) {
    let futures: Vec<Future<u64>> = (0..n).map(|n| pool.submit(same, n)).collect();
    (0..n).zip(futures).for_each(|(n, future)| assert_eq!(future.result().unwrap(), n));
}

fn main() {
    init();
    let threads = || ThreadPoolExecutor::new(WORKERS).unwrap();
    let processes = || ProcessPoolExecutor::new(WORKERS).unwrap();
    let (bare_threads, bare_processes) = (threads(), processes());
    #[cfg(feature = "timeline")]
    let (recorder, recorded) = {
        let recorder = concurrent_futures::timeline::Recorder::with_limit(1_000_000);
        let builder = ThreadPoolExecutor::builder().max_workers(WORKERS).observer(recorder.clone());
        (recorder, builder.build().unwrap())
    };
    observe(Looks);
    let (threads, processes) = (threads(), processes());

    let n = size(20_000);
    ratio(
        "a call on a thread, there and back: observed / not",
        n,
        || there_and_back(&threads, n),
        || there_and_back(&bare_threads, n),
    );
    ratio(
        "a call in a process, there and back: observed / not",
        n,
        || there_and_back(&processes, n),
        || there_and_back(&bare_processes, n),
    );
    let n = size(100_000);
    ratio(
        "calls on threads, queued, then collected: observed / not",
        n,
        || queued(&threads, n),
        || queued(&bare_threads, n),
    );
    ratio(
        "calls in processes, queued, then collected: observed / not",
        n,
        || queued(&processes, n),
        || queued(&bare_processes, n),
    );
    #[cfg(feature = "timeline")]
    {
        ratio(
            "calls on threads, queued, then collected: recorded / not",
            n,
            || queued(&recorded, n),
            || queued(&bare_threads, n),
        );
        black_box(recorder.timeline());
    }
    let n = size(10_000);
    ratio(
        "to ask for stats(): of a process pool / of a thread pool",
        n,
        || assert!((0..n).all(|_| black_box(bare_processes.stats()).failed == 0)),
        || assert!((0..n).all(|_| black_box(bare_threads.stats()).failed == 0)),
    );
}
