//! Calls that submit to their own pool and wait for what they submitted: one worker is enough.
//!
//!     cargo run --release --example nested
//!     cargo run --release --example nested -- --workers 4 --count 5000000
//!
//! In Python, and in most pools, a worker that waits holds its place: as soon as every worker waits for a call that is
//! still queued, nothing happens any more. Here the one who waits runs that call itself, or another stands in for it.
//!
//! ```text
//!   threads      total ─▶ two halves, to the same pool ─▶ …          closures that own what they need
//!   threads      sort  ─▶ two halves, to the same pool ─▶ …          in a scope, which may borrow
//!   processes    sort  ─▶ a part for each worker ─▶ sort, by threads of the worker's own
//! ```
//!
//! Not here: a quick way to sort. The rule: every answer is compared with the plain one; if one differs, the exit status
//! is 1.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use clap::Parser;
use concurrent_futures::{Error, Executor, ProcessPoolExecutor, ThreadPoolExecutor, init};

/// Adds and sorts numbers by calls that wait for other calls of their own pool.
#[derive(Parser)]
struct Options {
    /// Compares one worker with so many
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,

    /// How many numbers
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    count: u64,
}

/// Below this a call does it itself.
const FEW: usize = 10_000;

/// The same numbers every time, in no order.
fn number(at: u64) -> u64 {
    let mixed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)) % 1_000_000_007
}

/// The sum of some of the numbers. Each call waits for the two that it has submitted.
fn total(pool: &Arc<ThreadPoolExecutor>, range: Range<u64>) -> Result<u64, Error> {
    let length = range.end - range.start;
    if length <= FEW as u64 {
        return Ok(range.map(number).sum());
    }
    let middle = range.start + length / 2;
    let halves = [range.start..middle, middle..range.end].map(|half| {
        let own = Arc::clone(pool);
        pool.spawn(move || total(&own, half))
    });
    let [left, right] = halves.map(|half| half.result()?);
    Ok(left? + right?)
}

/// Sorts by merging. One half is a call of its own, which borrows its part; the other is sorted here.
fn sort(pool: &ThreadPoolExecutor, numbers: &mut [u64]) -> Result<(), Error> {
    if numbers.len() <= FEW {
        numbers.sort_unstable();
        return Ok(());
    }
    let (left, right) = numbers.split_at_mut(numbers.len() / 2);
    pool.scope(|scope| {
        let half = scope.spawn(|| sort(pool, left));
        sort(pool, right)?;
        half.result()?
    })?;
    let merged = merge(left, right);
    numbers.copy_from_slice(&merged);
    Ok(())
}

fn merge(mut left: &[u64], mut right: &[u64]) -> Vec<u64> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let ([first, rest_of_left @ ..], [second, rest_of_right @ ..]) = (left, right) {
        if first <= second {
            merged.push(*first);
            left = rest_of_left;
        } else {
            merged.push(*second);
            right = rest_of_right;
        }
    }
    merged.extend_from_slice(left);
    merged.extend_from_slice(right);
    merged
}

/// A worker process does not have the pool that it works for. It has one of its own, which ends with it.
fn sort_part(mut part: Vec<u64>) -> Result<Vec<u64>, Error> {
    static OWN: LazyLock<Result<ThreadPoolExecutor, Error>> = LazyLock::new(|| ThreadPoolExecutor::new(1));
    sort(OWN.as_ref().map_err(Clone::clone)?, &mut part)?;
    Ok(part)
}

/// One part for each worker; the sorted parts are merged here.
fn sort_by_processes(pool: &ProcessPoolExecutor, numbers: &[u64]) -> Result<Vec<u64>, Error> {
    let parts = numbers.chunks(numbers.len().div_ceil(pool.max_workers()).max(1)).map(<[u64]>::to_vec);
    let mut sorted = Vec::new();
    for part in pool.try_map(sort_part, parts) {
        sorted = merge(&sorted, &part?);
    }
    Ok(sorted)
}

fn main() -> Result<ExitCode, Error> {
    init(); // first line of main: in a worker process it never returns
    let options = Options::parse();
    let numbers: Vec<u64> = (0..options.count).map(number).collect();
    let mut in_order = numbers.clone();
    in_order.sort_unstable();

    let mut all_right = true;
    println!("what             workers  seconds");
    let mut tell = |what: &str, workers: usize, start: Instant, right: bool| {
        let verdict = if right { "" } else { "  wrong" };
        println!("{what:15} {workers:>8} {:>8.3}{verdict}", start.elapsed().as_secs_f64());
        all_right &= right;
    };
    let mut sizes = vec![1, options.workers.into()];
    sizes.dedup();
    for workers in sizes {
        let pool = Arc::new(ThreadPoolExecutor::new(workers)?);
        let start = Instant::now();
        let sum = total(&pool, 0..options.count)?;
        tell("total threads", workers, start, sum == numbers.iter().sum::<u64>());

        let mut sorted = numbers.clone();
        let start = Instant::now();
        // A call, so that it is a worker which waits.
        pool.scope(|scope| scope.spawn(|| sort(&pool, &mut sorted)).result())??;
        tell("sort  threads", workers, start, sorted == in_order);

        let pool = ProcessPoolExecutor::new(workers)?;
        let start = Instant::now();
        let sorted = sort_by_processes(&pool, &numbers)?;
        tell("sort  processes", workers, start, sorted == in_order);
    }
    println!("nothing hangs, also with one worker");
    Ok(if all_right { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
