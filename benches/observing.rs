//! What it costs to be observed, and to ask how a pool is doing: `cargo bench --bench observing`
//! (with `--features timeline` also what the recorder costs).
//!
//! Not here: what a pool pays for its own numbers, which is in every other bench, as they are always on.

mod rivals;

use std::hint::black_box;

use concurrent_futures::{Event, Observer, ProcessPoolExecutor, ThreadPoolExecutor, init, observe};
#[cfg(feature = "timeline")]
use rivals::queued;
use rivals::{ratio, size, with_and_without};

const WORKERS: usize = 2;

/// Looks at what it is told, and forgets it.
struct Looks;

impl Observer for Looks {
    fn notice(&self, event: &Event<'_>) {
        black_box(event);
    }
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

    with_and_without("observed / not", [&threads, &bare_threads], [&processes, &bare_processes]);
    #[cfg(feature = "timeline")]
    {
        let n = size(100_000);
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
