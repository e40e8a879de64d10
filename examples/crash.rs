//! What ends a worker process, what that costs, and what it leaves behind.
//!
//!     cargo run --release --example crash
//!
//! A crash in a thread takes the whole program. In a worker process it takes the call that crashed, and no other: the
//! error of that call is a post-mortem, and the pool hires another worker. (In Python it takes all calls of the pool.)
//! Then the life of one worker is told, from its start to its exit status, twice: first it is asked to end, then it is
//! made to.
//!
//! Not here: calls that take too long (`timeouts`). The rule: what the calls do to themselves is real.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use std::{env, fs, hint, process, thread};

use clap::Parser;
use concurrent_futures::sync::Event;
use concurrent_futures::{Error, Executor, Future, ProcessPoolExecutor, init, task};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

/// Crashes worker processes in several ways, and tells what became of each call; then the life of one worker.
#[derive(Parser)]
struct Options {
    /// How many worker processes
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
}

/// How a call is to end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Fate {
    Returns,
    Panics,
    Exits,
    Segfaults,
    Starves,
    IsKilled,
}

/// More than anybody wants to give a worker.
const MEMORY_LIMIT: u64 = 512 << 20;

fn meet(fate: Fate) -> u64 {
    match fate {
        Fate::Returns => (1..=1000).sum(),
        Fate::Panics => panic!("a bug"),
        Fate::Exits => process::exit(3),
        Fate::Segfaults => die_of(Signal::SEGV),
        Fate::Starves => hint::black_box(vec![1_u8; 4 * MEMORY_LIMIT as usize]).len() as u64,
        Fate::IsKilled => die_of(Signal::KILL),
    }
}

/// Rust takes the first SIGSEGV for a stack overflow, sees that it is none, and leaves the next one to the system.
fn die_of(signal: Signal) -> ! {
    loop {
        kill_process(getpid(), signal).expect("a process may send itself a signal");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    init(); // first line of main: in a worker process it never returns
    let options = Options::parse();
    crashes(options.workers.into())?;
    println!();
    let lock_file = env::temp_dir().join(format!("crash-{}.lock", process::id()));
    let lived = lifecycle(&lock_file);
    let _ = fs::remove_file(&lock_file);
    Ok(lived?)
}

fn crashes(workers: usize) -> Result<(), Error> {
    use Fate::*;
    let pool = ProcessPoolExecutor::new(workers)?;
    let limited = ProcessPoolExecutor::builder().max_workers(1).memory_limit(MEMORY_LIMIT).build()?;

    let fates = [Returns, Panics, Returns, Exits, Returns, Segfaults, Returns, Starves, Returns, IsKilled];
    let calls = fates.map(|fate| {
        let pool = if matches!(fate, Starves) { &limited } else { &pool };
        (fate, pool.submit(meet, fate))
    });
    for (fate, call) in calls {
        let outcome = match call.result() {
            Ok(sum) => format!("returned {sum}"),
            Err(Error::Panicked { panic, .. }) => format!("panicked: {panic}; its worker lives on"),
            Err(Error::WorkerDied { pid, status, probable_cause, .. }) => {
                let cause = probable_cause.map(|cause| format!(", {cause}")).unwrap_or_default();
                format!("lost: process {pid} died with {}{cause}", told(status))
            }
            Err(error) => error.to_string(),
        };
        println!("{:10} {outcome}", format!("{fate:?}"));
    }

    let sums: Vec<u64> = pool.map(meet, [Returns; 100]).collect::<Result<_, _>>()?;
    println!("the pool still works: {} more calls, {} workers at the most", sums.len(), pool.max_workers());
    Ok(())
}

fn told(status: Option<ExitStatus>) -> String {
    status.map_or("we do not know what".into(), |status| status.to_string())
}

/// A file that is there as long as somebody is at work, as many programs have one.
struct LockFile(PathBuf);

impl LockFile {
    fn new(path: PathBuf) -> Self {
        fs::write(&path, process::id().to_string()).expect("the lock file can be written");
        LockFile(path)
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// At work until it is not wanted any more.
fn work((lock_file, begun): (PathBuf, Event)) {
    let _lock_file = LockFile::new(lock_file);
    begun.set();
    while !task::cancelled() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Asked, it comes to its end, and so do destructors and the finalizer. Terminated, it is cut off where it is.
fn lifecycle(lock_file: &Path) -> Result<(), Error> {
    println!("asked to end:");
    live(lock_file, |_pool, call| {
        call.cancel(); // It runs, so it is told so, and returns.
    })?;
    println!("terminated:");
    live(lock_file, |pool, _call| pool.terminate_workers())
}

/// A worker from its start to its end, which `end` brings about: its states as they change.
fn live(lock_file: &Path, end: impl FnOnce(&ProcessPoolExecutor, &Future<()>)) -> Result<(), Error> {
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .name("worker")
        .on_worker_start(|worker| println!("  {} starts as process {}", worker.name, worker.pid.unwrap_or(0)))
        .finalizer(|()| println!("  worker_0 says good-bye"), ())
        .on_worker_exit(|worker, status| println!("  {} has ended with {}", worker.name, told(status)))
        .build()?;
    println!("  before the first call, the workers are {:?}", pool.worker_pids());

    let begun = Event::new();
    let call = pool.submit(work, (lock_file.to_owned(), begun.clone()));
    while !call.done() && !begun.wait_timeout(Duration::from_millis(100)) {}
    println!("  the workers are {:?}, the call is running: {}", pool.worker_pids(), call.running());

    end(&pool, &call);
    match call.result() {
        Ok(()) => println!("  the call returned"),
        Err(error) => println!("  {error}"),
    }
    pool.shutdown(); // Waits for the worker and its hook.
    let left = if lock_file.exists() { "still there: nobody cleaned up" } else { "gone, as it should be" };
    println!("  the workers are {:?}, the lock file is {left}", pool.worker_pids());
    Ok(())
}
