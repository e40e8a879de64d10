//! The thumbnail service whole: fetch, make, store, each stage with the executor that fits.
//!
//!     cargo run --release --example pipeline
//!     cargo run --release --example pipeline -- --input ~/Pictures --rounds 1 --fetchers 16 --makers 4
//!
//! ```text
//! addresses ─▶ fetch ─▶ make ─▶ store ─▶ table
//!              threads  processes  threads
//! ```
//!
//! The lesson is in `stages.rs`. The server, which has the pictures and gets the thumbnails, is `examples/shared`; how
//! a thumbnail is made is `thumbnails/pictures.rs`. Here is the command line, and what is said at the end.

#[path = "../thumbnails/landscapes.rs"]
mod landscapes;
#[path = "../shared/loopback.rs"]
mod loopback;
#[path = "../shared/pages.rs"]
mod pages;
#[path = "../thumbnails/paint.rs"]
mod paint;
#[path = "../thumbnails/patterns.rs"]
mod patterns;
#[allow(dead_code, reason = "a `Job` is from file to file")]
#[path = "../thumbnails/pictures.rs"]
mod pictures;
#[path = "../thumbnails/samples.rs"]
mod samples;
mod stages;
#[allow(dead_code, reason = "the samples use a part of it")]
#[path = "../thumbnails/ways.rs"]
mod ways;

use std::error::Error as StdError;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::MultiProgress;

use crate::pages::Pages;
use crate::stages::{Item, Stage};

/// Fetches pictures from a loopback server, makes their thumbnails, stores them there.
#[derive(Parser)]
#[command(after_help = "Exit status: 0 if all thumbnails arrived, 1 if not (each failure is told).")]
struct Options {
    /// Directory of the pictures that the server has; not given: draws some, under target/thumbnails/pictures
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,

    /// How often each picture is asked for
    #[arg(long, value_name = "N", default_value_t = 4)]
    rounds: usize,

    /// Milliseconds until the server answers
    #[arg(long, value_name = "MS", default_value_t = 20)]
    delay: u64,

    /// Lengths of the longer side in pixels
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', default_value = "64,200,800")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    sizes: Vec<u32>,

    /// Threads that fetch
    #[arg(long, value_name = "N", default_value = "4")]
    fetchers: NonZeroUsize,

    /// Processes that make thumbnails; not given: as many as there are processors
    #[arg(long, value_name = "N")]
    makers: Option<NonZeroUsize>,

    /// Threads that store
    #[arg(long, value_name = "N", default_value = "4")]
    storers: NonZeroUsize,
}

fn main() -> Result<ExitCode, Box<dyn StdError>> {
    concurrent_futures::init(); // In a worker process it never returns.
    let options = Options::parse();
    let processors = available_parallelism().map_or(1, NonZeroUsize::get);
    let mut sizes = options.sizes;
    sizes.sort_unstable();
    sizes.dedup();

    let (_, paths) = samples::given_or_drawn(options.input, processors)?;
    let mut files = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        let file = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        files.push((format!("pictures/{number}"), file));
    }
    let pages = Pages::serve(Duration::from_millis(options.delay), files)?;

    let pictures = options.rounds * paths.len();
    let bars = MultiProgress::new(); // They hide themselves where stderr is not a terminal.
    let makers = options.makers.map_or(processors, NonZeroUsize::get);
    let stages = [
        Stage::new("fetch", "threads", options.fetchers.get(), pictures, &bars),
        Stage::new("make", "processes", makers, pictures, &bars),
        Stage::new("store", "threads", options.storers.get(), pictures, &bars),
    ];
    let address = |number: usize| {
        let place = number % paths.len();
        let name = paths[place].file_name().unwrap_or_default().display().to_string();
        Item::new(number, name, pages.url(&format!("pictures/{place}")))
    };
    let start = Instant::now();
    stages::run(&stages, (0..pictures).map(address), &sizes, &pages.url("thumbnails"))?;
    let time = start.elapsed();

    table(&stages, time);
    let [.., store] = &stages;
    let arrived = pages.sizes("thumbnails/");
    println!("{} thumbnails arrived, {:.1} MB", arrived.len(), megabytes(arrived.iter().sum()));
    let sent = store.tally();
    let whole = arrived.len() == sent.pictures * sizes.len() && arrived.iter().sum::<usize>() == sent.bytes;
    if !whole {
        eprintln!("{} bytes were sent of {} pictures: not all arrived", sent.bytes, sent.pictures);
    }
    Ok(if whole && sent.pictures == pictures { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What went through each stage, how much of the time its workers were busy, and how fast it would be if it never had
/// to wait for another. The slowest by that is the one that all others wait for.
fn table(stages: &[Stage], time: Duration) {
    println!("stage  executor   workers  pictures      MB  pictures/s   busy  alone, pictures/s");
    for stage in stages {
        let (tally, busy) = (stage.tally(), stage.busy(time));
        let rate = tally.pictures as f64 / time.as_secs_f64();
        println!(
            "{:6} {:9} {:>8} {:>9} {:>7.1} {rate:>11.1} {:>4.0} % {:>18.1}",
            stage.name,
            stage.executor,
            stage.workers,
            tally.pictures,
            megabytes(tally.bytes),
            100.0 * busy,
            rate / busy,
        );
    }
    let busiest = stages.iter().max_by(|a, b| a.busy(time).total_cmp(&b.busy(time)));
    if let Some(stage) = busiest {
        println!("the bottleneck is {}", stage.name);
    }
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
