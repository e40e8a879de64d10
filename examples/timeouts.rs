//! Four limits of time, what each of them ends, and what goes on.
//!
//!     cargo run --release --example timeouts
//!     cargo run --release --example timeouts -- --executor processes --limit 1
//!
//! | the limit is on | when it is over |
//! |---|---|
//! | the wait for a result | the call goes on, and can be asked again |
//! | the call | its code is stopped: only a process can be, on a thread such a call is refused |
//! | `as_completed` | what is done has come out, the rest goes on |
//! | a `map` | what is done comes out, the rest is late: cancelled, or told so if it runs |
//!
//! Not here: calls that end before their time by themselves (`crash`). The rule: every call has an outcome, and each is printed.

#[path = "shared/ways.rs"]
mod ways;

use std::time::{Duration, Instant};
use std::{hint, thread};

use clap::Parser;
use concurrent_futures::{
    Error, Executor, MapOptions, ProcessPoolExecutor, TaskOptions, as_completed_timeout, init, task,
};

use crate::ways::Ways;

/// Sets limits to calls of different length, and prints what becomes of each.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    ways: Ways,

    /// The limit in seconds; a long call takes three times as long
    #[arg(long, value_name = "SECONDS", default_value = "0.3", value_parser = seconds)]
    limit: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// What a call returns: was there time to do it all?
type Whole = bool;

/// Takes so long, unless it is told before that nobody wants it any more.
fn work(length: Duration) -> Whole {
    let start = Instant::now();
    while start.elapsed() < length {
        if task::cancelled() {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Asks nobody: it has to be stopped.
fn endless(_: ()) -> Whole {
    loop {
        hint::spin_loop();
    }
}

fn main() -> Result<(), Error> {
    init(); // first line of main: in a worker process it never returns
    let options = Options::parse();
    let limit = options.limit;
    for way in options.ways.each() {
        println!("{}", way.name);
        let pool = way.executor()?;
        of_a_result(&pool, limit);
        of_a_call(&pool, limit);
        of_as_completed(&pool, limit);
        of_a_map(&pool, limit);
        if way.name == "processes" {
            of_every_call(way.workers, limit)?;
        }
    }
    Ok(())
}

fn of_a_result(pool: &impl Executor, limit: Duration) {
    println!("  a limit on the wait for a result");
    let mut call = pool.submit(work, 3 * limit);
    tell("long", call.result_timeout(limit));
    if !call.done() {
        println!("    running: {}; asked again, without a limit", call.running());
        tell("long", call.result());
    }
}

fn of_a_call(pool: &impl Executor, limit: Duration) {
    println!("  a limit on the call");
    let options = TaskOptions::new().timeout(limit);
    let short = pool.submit_with(work, Duration::ZERO, options.clone());
    let call = pool.submit_with(endless, (), options);
    tell("short", short.result());
    tell("endless", call.result());
    tell("next", pool.submit(work, Duration::ZERO).result());
}

/// The pool's own limit, for calls that do not say otherwise.
fn of_every_call(workers: usize, limit: Duration) -> Result<(), Error> {
    println!("  a limit on every call of the pool");
    let pool = ProcessPoolExecutor::builder().max_workers(workers).task_timeout(limit).build()?;
    tell("short", pool.submit(work, Duration::ZERO).result());
    let before = pool.worker_pids();
    tell("endless", pool.submit(endless, ()).result());
    let stopped = before.iter().filter(|pid| !pool.worker_pids().contains(pid)).count();
    println!("    worker processes that were stopped: {stopped}");
    tell("next", pool.submit(work, Duration::ZERO).result());
    Ok(())
}

fn of_as_completed(pool: &impl Executor, limit: Duration) {
    println!("  a limit on as_completed");
    let calls = [("long", 3 * limit), ("short", Duration::ZERO), ("short", Duration::ZERO)]
        .map(|(name, length)| (name, pool.submit(work, length)));
    for item in as_completed_timeout(&calls, limit) {
        match item {
            Ok((name, _)) => println!("    {name:8} is done"),
            Err(error) => println!("    {error}"),
        }
    }
    for (name, call) in calls {
        if !call.done() {
            println!("    {name:8} running: {}; told that it is not wanted", call.running());
            call.cancel();
        }
        tell(name, call.result());
    }
}

fn of_a_map(pool: &impl Executor, limit: Duration) {
    println!("  a limit on a map");
    let items = [("short", Duration::ZERO), ("long", 3 * limit), ("short", Duration::ZERO)];
    let results = pool.map_with(work, items.map(|(_, length)| length), MapOptions::new().timeout(limit));
    for ((name, _), result) in items.iter().zip(results) {
        tell(name, result);
    }
}

fn tell(name: &str, outcome: Result<Whole, Error>) {
    match outcome {
        Ok(true) => println!("    {name:8} returned, all done"),
        Ok(false) => println!("    {name:8} returned early, as it was told"),
        Err(error) => println!("    {name:8} {error}"),
    }
}
