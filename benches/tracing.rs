//! What the spans of calls cost, and an event in a worker process: `cargo bench --features tracing --bench tracing`.
//!
//! Each is beside the same without a subscriber: pools that were built before there was one make no spans. The subscriber is the
//! registry of `tracing-subscriber`, at level INFO, with a layer that does nothing: what is written, and where to, is another
//! matter.
//!
//! Not here: the costs of the feature without a subscriber, which are none to be measured (`threads.rs`, `calls.rs`).

mod rivals;

use std::hint::black_box;

use concurrent_futures::{Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, init};
use rivals::{ratio, size};
use tracing::info;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

const WORKERS: usize = 2;

struct Nothing;

impl<S: tracing::Subscriber> Layer<S> for Nothing {}

fn same(n: u64) -> u64 {
    black_box(n)
}

/// That many events in one call.
fn log(events: u64) {
    (0..events).for_each(|number| info!(number, "an event"));
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
    // Their workers start now.
    let (bare_threads, bare_processes) = (threads(), processes());
    queued(&bare_threads, 1000);
    queued(&bare_processes, 1000);
    let subscriber = Registry::default().with(LevelFilter::INFO).with(Nothing);
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let (threads, processes) = (threads(), processes());

    let n = size(20_000);
    ratio(
        "a call on a thread, there and back: with a span / without",
        n,
        || there_and_back(&threads, n),
        || there_and_back(&bare_threads, n),
    );
    ratio(
        "a call in a process, there and back: with a span / without",
        n,
        || there_and_back(&processes, n),
        || there_and_back(&bare_processes, n),
    );
    let n = size(100_000);
    ratio(
        "calls on threads, queued, then collected: with spans / without",
        n,
        || queued(&threads, n),
        || queued(&bare_threads, n),
    );
    ratio(
        "calls in processes, queued, then collected: with spans / without",
        n,
        || queued(&processes, n),
        || queued(&bare_processes, n),
    );
    ratio(
        "an event, of many in one call: in a process / in a thread",
        n,
        || processes.submit(log, n).result().unwrap(),
        || threads.submit(log, n).result().unwrap(),
    );
    let n = size(5_000);
    ratio(
        "a call in a process with one event, there and back / without an event",
        n,
        || (0..n).for_each(|_| processes.submit(log, 1).result().unwrap()),
        || (0..n).for_each(|_| processes.submit(log, 0).result().unwrap()),
    );
}
