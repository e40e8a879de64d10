//! The client: the same lines as on one machine, but for the one that makes the executor.
//!
//! Not here: the workers (`worker.rs`), what they do (`work.rs`). The rule: whatever becomes of a picture is told, and
//! the exit status is 0 only if all were made.

use std::error::Error as StdError;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use concurrent_futures::timeline::Recorder;
use concurrent_futures::{AmqpExecutor, Error, Executor, MapOptions};
use indicatif::ProgressBar;

use crate::broker::Broker;
use crate::crew::Crew;
use crate::report::Report;
use crate::work::{Made, Picture, thumbnails};
use crate::{samples, ways};

#[derive(clap::Args)]
pub(crate) struct ClientOptions {
    #[command(flatten)]
    broker: Broker,

    /// How many workers are started here, of which one is killed half-way if there is another; 0: those elsewhere do it all
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,

    /// Pictures that each of these makes at a time; not given: the processors are shared out
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Directory of the pictures; not given: draws some, under target/thumbnails/pictures
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,

    /// Directory for the thumbnails; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "target/cluster/thumbnails")]
    output: PathBuf,

    /// How often each picture is made
    #[arg(long, value_name = "N", default_value = "4")]
    rounds: NonZeroUsize,

    /// Lengths of the longer side in pixels
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', default_value = "64,200,800")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    sizes: Vec<u32>,

    /// Which worker made which picture, and when: a picture if it ends with .svg, otherwise a trace for Perfetto
    #[arg(long, value_name = "FILE", default_value = "target/cluster/timeline.svg")]
    timeline: PathBuf,
}

/// So many pictures at the most are in memory.
const IN_MEMORY: usize = 32;

/// True if all were made.
pub(crate) fn run(mut options: ClientOptions, crew: &Crew) -> Result<bool, Box<dyn StdError>> {
    let processors = available_parallelism().map_or(1, NonZeroUsize::get);
    options.sizes.sort_unstable();
    options.sizes.dedup();
    let (_, paths) = samples::given_or_drawn(options.input.take(), processors)?;
    for directory in [Some(options.output.as_path()), options.timeline.parent()].into_iter().flatten() {
        fs::create_dir_all(directory)
            .map_err(|error| format!("{} cannot be made: {error}", directory.display()))?;
    }

    let url = options.broker.given().map_or_else(|| crew.start_broker(), Ok)?;
    let recorder = Recorder::new();
    // On one machine: ThreadPoolExecutor::builder().max_workers(4).build()?
    let executor = AmqpExecutor::builder()
        .queue(&options.broker.queue)
        .tls(options.broker.tls())
        .observer(recorder.clone())
        .connect(&url)?;
    let total = paths.len() * options.rounds.get();
    hire(&options, crew, &url, total, processors)?;

    let bar = ways::progress("cluster", total);
    let start = Instant::now();
    let results = make(&executor, &paths, &options, crew, &bar);
    bar.finish();
    let Some(results) = results else {
        // Nobody is left to end the calls, and whoever drops an executor waits for them.
        std::mem::forget(executor);
        return Err("all workers that were started have ended before the pictures were made".into());
    };
    let report = Report { results, sizes: &options.sizes, time: start.elapsed(), crew };
    drop(executor);
    recorder
        .timeline()
        .write(&options.timeline)
        .map_err(|error| format!("{}: {error}", options.timeline.display()))?;

    report.table();
    println!("thumbnails  {}", options.output.display());
    println!("timeline    {}", options.timeline.display());
    Ok(report.causes())
}

fn hire(
    options: &ClientOptions,
    crew: &Crew,
    url: &str,
    total: usize,
    processors: usize,
) -> Result<(), Box<dyn StdError>> {
    let threads = options.threads.map_or(processors / options.workers.max(1), NonZeroUsize::get).max(1);
    let mut arguments = vec![format!("--threads={threads}"), format!("--queue={}", options.broker.queue)];
    arguments.extend(options.broker.ca.iter().map(|file| format!("--ca={}", file.display())));
    for number in 1..=options.workers {
        let victim = number == options.workers && number > 1;
        crew.hire(&format!("worker-{number}"), &arguments, url, victim.then_some(total / 2))?;
    }
    if options.workers == 0 {
        eprintln!("the workers are elsewhere: `cluster worker --url …`; without one, this waits");
    }
    Ok(())
}

/// What came of each picture, with its name and its length, in order; nothing if all workers have gone.
///
/// Whoever runs the calls: it might be a thread pool.
fn make<E: Executor>(
    executor: &E,
    paths: &[PathBuf],
    options: &ClientOptions,
    crew: &Crew,
    bar: &ProgressBar,
) -> Option<Vec<Outcome>> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let rounds = || (0..options.rounds.get()).flat_map(|_| paths);
    let pictures = rounds().enumerate().map(|(number, path)| Picture {
        number,
        name: name(path),
        file: fs::read(path).map_err(|error| format!("cannot be read: {error}")),
        sizes: options.sizes.clone(),
    });
    let (counted, shown) = (crew.clone(), bar.clone());
    let each = MapOptions::new().buffersize(IN_MEMORY).on_item_done(move |_, _| {
        counted.count();
        shown.inc(1);
    });
    let mut results = executor.try_map_with(thumbnails, pictures, each);
    let mut outcomes = Vec::new();
    for path in rounds() {
        let result = loop {
            match results.next_timeout(Duration::from_secs(1)) {
                Some(Err(Error::TimedOut { .. })) if crew.is_deserted() => return None,
                Some(Err(Error::TimedOut { .. })) => continue,
                result => break result?,
            }
        };
        let result = result.map_err(told).and_then(|made| {
            store(&made, &options.output, &name(path), &options.sizes)?;
            Ok(made)
        });
        let bytes = fs::metadata(path).map_or(0, |file| file.len());
        outcomes.push(Outcome { name: name(path), bytes, result });
    }
    Some(outcomes)
}

/// What came of a picture.
pub(crate) struct Outcome {
    pub(crate) name: String,
    /// Of the picture.
    pub(crate) bytes: u64,
    pub(crate) result: Result<Made, String>,
}

/// `sunset.jpg` becomes `sunset.jpg-200.jpg`.
fn store(made: &Made, output: &Path, name: &str, sizes: &[u32]) -> Result<(), String> {
    for (size, bytes) in sizes.iter().zip(&made.files) {
        let path = output.join(format!("{name}-{size}.{}", made.extension));
        fs::write(&path, bytes).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    Ok(())
}

/// What the function returned, in its own words; anything else in the library's.
fn told(error: Error) -> String {
    match error {
        Error::Raised { error, .. } => error.to_string(),
        other => other.to_string(),
    }
}
