//! Thumbnails of a directory of pictures: serially, with threads, with processes.
//!
//!     cargo run --release --example thumbnails
//!     cargo run --release --example thumbnails -- --input ~/Pictures --output small --executor processes
//!     cargo run --release --features timeline --example thumbnails -- --timeline timeline.svg
//!
//! The lesson is in `ways.rs`: which executor runs the calls is one word. `pictures.rs` has
//! the function that is called, `samples.rs` draws pictures to work on where none are given,
//! `sheet.rs` the contact sheet, `report.rs` what is said at the end. Here is the command line.

mod landscapes;
mod paint;
mod patterns;
mod pictures;
mod report;
mod samples;
mod sheet;
mod ways;

use std::error::Error;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::Parser;

use crate::pictures::Job;
use crate::report::Report;
use crate::ways::Way;

/// Makes thumbnails of a directory of pictures: serially, with threads, with processes.
///
/// Every regular file of the directory is tried; its content tells what it is (JPEG or PNG).
/// A thumbnail `NAME-SIZE.jpg` or `.png` has the format and the shape of its picture, stands
/// upright, and is never larger than it.
#[derive(Parser)]
#[command(
    after_help = "Exit status: 0 if all were made, 1 if a picture could not be (each is named, with its cause), 2 if nothing could be done."
)]
struct Options {
    /// Directory of the pictures; not given: draws some, under target/thumbnails/pictures
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,

    /// Directory for the thumbnails and the contact sheet; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "target/thumbnails/out")]
    output: PathBuf,

    /// Who does it; not given: all three, one after the other, each into its own directory, and compares
    #[arg(long, value_name = "WAY")]
    executor: Option<Way>,

    /// How many threads or processes; not given: as many as there are processors
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// Lengths of the longer side in pixels
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', default_value = "64,200,800")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    sizes: Vec<u32>,

    /// Which worker made which picture, and when: a picture if it ends with .svg, otherwise a trace for Perfetto
    #[cfg(feature = "timeline")]
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
}

fn main() -> ExitCode {
    concurrent_futures::init(); // In a worker process it never returns.
    match thumbnails(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// True if all were made, and the same by every way.
fn thumbnails(mut options: Options) -> Result<bool, Box<dyn Error>> {
    let workers = options.workers.or(available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    options.sizes.sort_unstable();
    options.sizes.dedup();

    let (input, pictures) = samples::given_or_drawn(options.input, workers)?;
    let workers = workers.min(pictures.len()); // More would have nothing to do.
    let ways = options.executor.map_or(Way::ALL.to_vec(), |way| vec![way]);
    let outputs: Vec<PathBuf> = match ways.len() {
        1 => vec![options.output.clone()],
        _ => ways.iter().map(|way| options.output.join(way.name())).collect(),
    };
    for output in outputs.iter().chain([&options.output]) {
        fs::create_dir_all(output)
            .map_err(|error| format!("{} cannot be made: {error}", output.display()))?;
        // Else the thumbnails would be the pictures of the next run.
        if fs::canonicalize(output)? == fs::canonicalize(&input)? {
            return Err(format!("thumbnails of {0} cannot go into {0} itself", input.display()).into());
        }
    }

    // So that the first way is not the only one that waits for the disk.
    for picture in &pictures {
        let _ = fs::read(picture);
    }
    // Hears of every pool that is built from here on.
    #[cfg(feature = "timeline")]
    let recorder = concurrent_futures::timeline::Recorder::new();
    #[cfg(feature = "timeline")]
    if options.timeline.is_some() {
        concurrent_futures::observe(recorder.clone());
    }
    let mut runs = Vec::new();
    for (way, output) in ways.into_iter().zip(&outputs) {
        let jobs = pictures.iter().map(|picture| Job::new(picture, output, &options.sizes)).collect();
        runs.push(way.run(workers, jobs)?);
    }

    #[cfg(feature = "timeline")]
    if let Some(file) = &options.timeline {
        recorder.timeline().write(file).map_err(|error| format!("{}: {error}", file.display()))?;
    }

    let report = Report { pictures: &pictures, sizes: &options.sizes, runs: &runs };
    let mut out = io::stdout().lock();
    report.table(&mut out)?;
    report.places(&mut out, &outputs, &options.output)?;
    let same = report.comparison(&mut out)?;
    let complete = report.causes(&mut io::stderr().lock())?;
    Ok(same && complete)
}
