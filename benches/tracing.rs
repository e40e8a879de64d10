//! What the spans of calls cost, and an event in a worker process: `cargo bench --features tracing --bench tracing`.
//!
//! Each is beside the same without a subscriber: pools that were built before there was one make no spans. The subscriber is the
//! registry of `tracing-subscriber`, at level INFO, with a layer that does nothing: what is written, and where to, is another
//! matter.
//!
//! Not here: the costs of the feature without a subscriber, which are none to be measured (`threads.rs`, `calls.rs`).

mod rivals;

use concurrent_futures::{Executor, ProcessPoolExecutor, ThreadPoolExecutor, init};
use rivals::{queued, ratio, size, with_and_without};
use tracing::info;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

const WORKERS: usize = 2;

struct Nothing;

impl<S: tracing::Subscriber> Layer<S> for Nothing {}

/// That many events in one call.
fn log(events: u64) {
    (0..events).for_each(|number| info!(number, "an event"));
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

    with_and_without("with a span / without", [&threads, &bare_threads], [&processes, &bare_processes]);
    let n = size(100_000);
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
