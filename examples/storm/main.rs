//! A storm over both pools: full load from several threads, while workers are killed and stopped, calls cancelled, killed,
//! timed out and tried again, and pools shut down in every way there is, all at random from a seed.
//!
//!     cargo run --release --example storm -- --minutes 1 --seed 7
//!
//! Every ending of every call is checked against what must have happened to it; the tally at the end adds up, or
//! something was lost. It is no benchmark, and no place to learn the crate from: that is `quickstart`.
//!
//! Reading order: `dice.rs` (chance) → `order.rs` and `freight.rs` (what a call does, and what travels) → `marks.rs`
//! (who ran) → `case.rs` (the account of a call) → `life.rs` (that of a pool) → `moves.rs`, `maps.rs`, `watch.rs` (who
//! submits, and how they wait) → `ends.rs` (how pools end) → `verdict.rs` (what must be) → `storm.rs` (who does it all).
//! Here is the command line.

mod belongings;
mod case;
mod dice;
mod ends;
mod freight;
mod life;
mod maps;
mod marks;
mod moves;
mod order;
mod pulse;
mod scales;
mod storm;
mod tally;
mod verdict;
mod watch;
#[path = "../../tests/common/watchdog.rs"]
mod watchdog;

use std::error::Error;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use concurrent_futures::set_unread_error_hook;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::belongings::Belongings;
use crate::storm::Storm;
use crate::tally::Count;

/// A storm over both pools that checks every outcome of every call.
///
/// Ctrl-C ends it early, with the tally.
#[derive(Parser)]
#[command(
    after_help = "Exit status: 0 if nothing was lost, wrong or leaked, 1 if something was (the first cases are told), 2 if there could be no storm."
)]
struct Options {
    /// How many minutes it lasts [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    minutes: Option<u64>,

    /// How many seconds it lasts
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,

    /// What chance begins with; not given: the time of day
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// The most workers a pool has
    #[arg(long, value_name = "N", default_value = "4")]
    workers: NonZeroUsize,
}

fn main() -> ExitCode {
    concurrent_futures::init(); // In a worker process it never returns.
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// True if all went well.
fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let lasts = match (options.minutes, options.seconds) {
        (_, Some(seconds)) => Duration::from_secs(seconds),
        (minutes, None) => Duration::from_secs(60 * minutes.unwrap_or(1)),
    };
    let seed = options.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
    });
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted))?;
    // Many die here, and what they leave is of no use.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)?;
    set_unread_error_hook(watch::unread);
    tell_unexpected_panics();

    let directory = Directory::new()?;
    let start = Instant::now();
    let storm = |until| {
        Arc::new(Storm {
            seed,
            workers: options.workers.get(),
            directory: directory.0.clone(),
            start,
            until,
            interrupted: Arc::clone(&interrupted),
            in_use: Default::default(),
        })
    };
    // What is made once a process, and what the allocator keeps, is there after the warm-up.
    storm(start + (lasts / 5).min(Duration::from_secs(10))).blow(0);
    let before = Belongings::at_rest(1);
    storm(start + lasts).blow(1);
    let after = Belongings::at_rest(1);

    let elapsed = start.elapsed();
    let leaks = after.leaks_since(&before);
    let lost = tally::missing();
    let wrong = Count::Wrong.get();
    print!(
        "storm: seed {seed}, {:.1} s, at most {} workers a pool\n{}before: {before}\nafter:  {after}\n\
         lost = {lost}, wrong = {wrong}, leaks = {leaks}\n",
        elapsed.as_secs_f64(),
        options.workers,
        tally::calls(elapsed),
    );
    Ok(lost == 0 && wrong == 0 && leaks == 0)
}

/// Panics of calls are ordered, and are not told; any other is told, and wrong.
fn tell_unexpected_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        Count::Panics.one();
        if !order::is_ordered(panic.payload()) {
            tell(panic);
            tally::wrong("a panic that nobody ordered");
        }
    }));
}

/// The place of the marks, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> std::io::Result<Self> {
        // In memory, where that can be had.
        let parent = Some(PathBuf::from("/dev/shm")).filter(|path| Path::is_dir(path));
        let path = parent.unwrap_or_else(std::env::temp_dir).join(format!("storm-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path); // of an earlier process with our number
        fs::create_dir(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
