//! The ways to run the same calls, as the command line names them, and how long each takes.
//!
//! Not here: what is called. The rule: a way is an executor in a box; whoever works with it does not know which.

#![allow(dead_code, reason = "each example uses a part of it")]

use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor};

/// `--executor` and `--workers`.
#[derive(clap::Args)]
pub(crate) struct Ways {
    /// Who runs the calls
    #[arg(long, value_name = "WAY", default_value = "all")]
    #[arg(value_parser = ["serial", "threads", "processes", "all"])]
    executor: String,

    /// How many threads or processes; not given: as many as there are processors
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
}

/// One of them.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) workers: usize,
    open: Open,
}

type Open = fn(usize) -> Result<Box<dyn Executor>, Error>;

const ALL: [(&str, Open); 3] = [
    ("serial", |_| Ok(Box::new(SerialExecutor::new()))),
    ("threads", |workers| Ok(Box::new(ThreadPoolExecutor::new(workers)?))),
    ("processes", |workers| Ok(Box::new(ProcessPoolExecutor::new(workers)?))),
];

impl Way {
    pub(crate) fn executor(&self) -> Result<Box<dyn Executor>, Error> {
        (self.open)(self.workers)
    }
}

/// What came of one way.
pub(crate) struct Run<T> {
    pub(crate) name: &'static str,
    pub(crate) workers: usize,
    pub(crate) time: Duration,
    pub(crate) value: T,
}

impl Ways {
    pub(crate) fn workers(&self) -> usize {
        self.workers.or(available_parallelism().ok()).map_or(1, NonZeroUsize::get)
    }

    /// Those that were asked for.
    pub(crate) fn each(&self) -> impl Iterator<Item = Way> {
        let asked = ALL.into_iter().filter(|(name, _)| ["all", name].contains(&self.executor.as_str()));
        asked.map(|(name, open)| Way {
            name,
            workers: if name == "serial" { 1 } else { self.workers() },
            open,
        })
    }

    /// The same `work` every way. The time includes that of starting and stopping the pool.
    pub(crate) fn compare<T>(
        &self,
        work: impl Fn(Box<dyn Executor>) -> Result<T, Error>,
    ) -> Result<Vec<Run<T>>, Error> {
        let run = |way: Way| {
            let start = Instant::now();
            let value = work(way.executor()?)?; // The pool goes with it, and is waited for.
            Ok(Run { name: way.name, workers: way.workers, time: start.elapsed(), value })
        };
        self.each().map(run).collect()
    }
}

/// How many times as fast as the first of them a run was.
pub(crate) fn speed_up<T>(runs: &[Run<T>], run: &Run<T>) -> f64 {
    runs[0].time.as_secs_f64() / run.time.as_secs_f64()
}
