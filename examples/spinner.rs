//! A spinner beside slow work, stopped by an event: a thread, a process, a coroutine.
//!
//!     cargo run --release --example spinner
//!     cargo run --release --example spinner -- --seconds 3
//!
//! One thing waits while another runs; the event says when that is over, also through the wall of a process. What the
//! slow part does, makes no difference to a thread or a process. It does to a coroutine: while the slow part sleeps, the
//! spinner turns; while it computes, it has the only thread, and the spinner stands still. The cure is to compute elsewhere
//! and to await it.
//!
//! Not here: progress, of which more is known than that something goes on (`progress`). The rule: what turns is counted, and
//! drawn only where stderr is a terminal.

use std::io::{IsTerminal, Write, stderr};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use concurrent_futures::sync::Event;
use concurrent_futures::{Error, Executor, ProcessPoolExecutor, ThreadPoolExecutor, init};

/// Turns a spinner beside slow work, and counts its frames.
#[derive(Parser)]
struct Options {
    /// How long the slow part takes
    #[arg(long, value_name = "SECONDS", default_value_t = 1.5)]
    seconds: f64,
}

const PAUSE: Duration = Duration::from_millis(80);

/// The spinner itself, wherever it runs.
struct Spinner {
    frames: u32,
}

impl Spinner {
    fn turn(&mut self) {
        let frame = ['|', '/', '-', '\\'][self.frames as usize % 4];
        Spinner::draw(&format!("\r{frame} thinking"));
        self.frames += 1;
    }

    fn end(self) -> u32 {
        Spinner::draw("\r          \r");
        self.frames
    }

    fn draw(text: &str) {
        if stderr().is_terminal() {
            let _ = stderr().write_all(text.as_bytes());
        }
    }
}

/// Turns until the event is set; returns how many frames that were.
fn spin(stop: Event) -> u32 {
    let mut spinner = Spinner { frames: 0 };
    loop {
        spinner.turn();
        if stop.wait_timeout(PAUSE) {
            return spinner.end();
        }
    }
}

/// The same without blocking the thread.
async fn spin_async(stop: Event) -> u32 {
    let mut spinner = Spinner { frames: 0 };
    loop {
        spinner.turn();
        tokio::time::sleep(PAUSE).await;
        if stop.is_set() {
            return spinner.end();
        }
    }
}

/// Waits, as for a disk or for another machine.
fn sleep(time: Duration) -> u64 {
    thread::sleep(time);
    42
}

/// Counts primes until the time is over.
fn compute(time: Duration) -> u64 {
    let start = Instant::now();
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (2..).take_while(|_| start.elapsed() < time).filter(is_prime).count() as u64
}

type Slow = fn(Duration) -> u64;

/// The slow part in this thread, the spinner in a worker.
fn beside(spinners: &impl Executor, slow: Slow, time: Duration) -> Result<(u64, u32), Error> {
    let stop = Event::new();
    let spinner = spinners.submit(spin, stop.clone());
    let answer = slow(time);
    stop.set();
    Ok((answer, spinner.result()?))
}

/// Spinner and slow part as coroutines in one thread.
#[tokio::main(flavor = "current_thread")]
async fn coroutines(slow: impl Future<Output = Result<u64, Error>>) -> Result<(u64, u32), Error> {
    let stop = Event::new();
    let spinner = tokio::spawn(spin_async(stop.clone()));
    tokio::task::yield_now().await; // Its first frame.
    let answer = slow.await?;
    stop.set();
    Ok((answer, spinner.await.expect("the spinner does not panic")))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    init(); // first line of main: in a worker process it never returns
    let time = Duration::try_from_secs_f64(Options::parse().seconds)?;
    let (threads, processes) = (ThreadPoolExecutor::new(1)?, ProcessPoolExecutor::new(1)?);

    println!("spinner    slow part               answer  frames");
    let tell = |spinner: &str, slow: &str, outcome: Result<(u64, u32), Error>| {
        outcome.map(|(answer, frames)| println!("{spinner:10} {slow:20} {answer:>9} {frames:>7}"))
    };
    tell("thread", "sleeps", beside(&threads, sleep, time))?;
    tell("thread", "computes", beside(&threads, compute, time))?;
    tell("process", "sleeps", beside(&processes, sleep, time))?;
    tell("process", "computes", beside(&processes, compute, time))?;

    let asleep = async {
        tokio::time::sleep(time).await;
        Ok(42)
    };
    tell("coroutine", "sleeps, awaited", coroutines(asleep))?;
    tell("coroutine", "computes", coroutines(async { Ok(compute(time)) }))?;
    tell("coroutine", "computes elsewhere", coroutines(threads.submit(compute, time)))?;
    println!("a coroutine that computes has the only thread: its spinner stands still");
    Ok(())
}
