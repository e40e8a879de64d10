//! Twenty numbers, prime or not: serially, with threads, with processes, and the time that each number took.
//!
//!     cargo run --release --example primes
//!     cargo run --release --example primes -- --executor threads --workers 4
//!
//! Trial division is pure computation. In Python threads do not help with that, as one lock lets one of them compute at a
//! time, and so it takes processes. In Rust there is no such lock: threads do as well as processes. How much either gains
//! depends on the cores that are free: on a busy machine two workers may get no more of it than one.
//!
//! Not here: a good way to find primes. The rule: every way has the same answers, or the exit status is 1.

#[path = "shared/ways.rs"]
mod ways;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use concurrent_futures::{Error, Executor};

use crate::ways::{Run, Ways, speed_up};

/// Some are prime, some have only large factors, and some are done with the first division.
const NUMBERS: [u64; 20] = [
    2,
    3_333_333_333_333_333,
    4_444_444_444_444_444,
    5_555_555_555_555_555,
    6_666_666_666_666_666,
    142_702_110_479_723,
    7_777_777_777_777_777,
    299_593_572_317_531,
    9_999_999_999_999_999,
    3_333_333_333_333_301,
    3_333_335_652_092_209,
    4_444_444_488_888_889,
    4_444_444_444_444_423,
    5_555_553_133_149_889,
    5_555_555_555_555_503,
    6_666_666_666_666_719,
    6_666_667_141_414_921,
    7_777_777_536_340_681,
    7_777_777_777_777_753,
    9_999_999_999_999_917,
];

/// Finds out which of twenty numbers are prime: serially, with threads, with processes.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    ways: Ways,

    /// Leaves out the numbers that are not below this one; the large primes take longest
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    below: u64,
}

/// By the odd numbers up to the square root.
fn is_prime(n: u64) -> bool {
    if n < 3 || n.is_multiple_of(2) {
        return n == 2;
    }
    (3..n.isqrt() + 1).step_by(2).all(|divisor| !n.is_multiple_of(divisor))
}

/// The answer, and how long it took whoever gave it.
fn timed(n: u64) -> (bool, Duration) {
    let start = Instant::now();
    (is_prime(n), start.elapsed())
}

fn main() -> Result<ExitCode, Error> {
    concurrent_futures::init(); // In a worker process it never returns.
    let options = Options::parse();
    let numbers: Vec<u64> = NUMBERS.into_iter().filter(|&n| n < options.below).collect();

    let runs =
        options.ways.compare(|executor| executor.map(timed, numbers.clone()).collect::<Result<_, _>>())?;

    let same = table(&numbers, &runs);
    if runs.len() == 3 {
        println!("\nPython's threads would compute by turns; these do so at once, as far as cores are free");
    }
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A line for each number, a column for each way; false if not all of them say the same.
fn table(numbers: &[u64], runs: &[Run<Vec<(bool, Duration)>>]) -> bool {
    let line = |head: &str, cells: &dyn Fn(&Run<_>) -> String| {
        let cells: String = runs.iter().map(|run| format!("{:>12}", cells(run))).collect();
        println!("{head:23}{cells}");
    };
    let seconds = |time: Duration| format!("{:.6}", time.as_secs_f64());
    let mut same = true;
    line("number", &|run| run.name.into());
    for (at, n) in numbers.iter().enumerate() {
        let (prime, _) = runs[0].value[at];
        let mark = if prime { "P" } else { "" };
        line(&format!("{n:>17}  {mark}"), &|run| seconds(run.value[at].1));
        if runs.iter().any(|run| run.value[at].0 != prime) {
            println!("but not all ways say the same of it");
            same = false;
        }
    }
    line("workers", &|run| run.workers.to_string());
    line("seconds in all", &|run| seconds(run.time));
    line("speed-up", &|run| format!("{:.2}", speed_up(runs, run)));
    same
}
