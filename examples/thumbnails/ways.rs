//! The three ways to the same thumbnails: one function, and one word that changes.

use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor};
use indicatif::{ProgressBar, ProgressStyle};

use crate::pictures::{Job, Made, resize};

/// Who makes the thumbnails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// This thread, one picture after the other
    Serial,
    /// A pool of threads
    Threads,
    /// A pool of worker processes
    Processes,
}

impl Way {
    pub(crate) const ALL: [Way; 3] = [Way::Serial, Way::Threads, Way::Processes];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Serial => "serial",
            Way::Threads => "threads",
            Way::Processes => "processes",
        }
    }

    /// Makes all thumbnails this way. The time includes that of starting and stopping the pool.
    pub(crate) fn run(self, workers: usize, jobs: Vec<Job>) -> Result<Run, Error> {
        let bar = progress(self.name(), jobs.len());
        let start = Instant::now();
        let results = match self {
            Way::Serial => make(&SerialExecutor::new(), jobs, &bar),
            Way::Threads => make(&ThreadPoolExecutor::new(workers)?, jobs, &bar),
            Way::Processes => make(&ProcessPoolExecutor::new(workers)?, jobs, &bar),
        };
        let time = start.elapsed();
        bar.finish();
        Ok(Run { way: self, workers: if self == Way::Serial { 1 } else { workers }, time, results })
    }
}

/// What came of one way.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) way: Way,
    pub(crate) workers: usize,
    pub(crate) time: Duration,
    /// One for each job, in the order of the jobs.
    pub(crate) results: Vec<Result<Made, Error>>,
}

impl Run {
    pub(crate) fn made(&self) -> impl Iterator<Item = &Made> {
        self.results.iter().flatten()
    }
}

/// Every picture is a call of [`resize`], whoever runs it. The bar moves when a call is done,
/// in whatever order; the results are taken in the order of the jobs.
fn make<E: Executor>(executor: &E, jobs: Vec<Job>, bar: &ProgressBar) -> Vec<Result<Made, Error>> {
    let submit = |job| {
        let future = executor.try_submit(resize, job);
        let bar = bar.clone();
        future.add_done_callback(move |_| bar.inc(1));
        future
    };
    let futures: Vec<_> = jobs.into_iter().map(submit).collect();
    futures.into_iter().map(|future| future.result()).collect()
}

/// A bar on stderr that counts pictures; it hides itself where stderr is not a terminal.
pub(crate) fn progress(what: &'static str, pictures: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>10} {bar:40} {pos:>3} of {len} pictures  {elapsed}")
        .expect("a constant");
    let bar = ProgressBar::new(pictures as u64).with_style(style).with_prefix(what);
    bar.tick(); // Shows it at once, not when the first picture is done.
    bar
}
