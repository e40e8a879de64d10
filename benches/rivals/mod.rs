//! What a user would write by hand in an hour, to stand beside ours in the same run; and how a ratio is taken.
//!
//! Not here: rivals from other crates. The rule: a pair is measured in turn, round after round, first one and then
//! the other in front, so that a disturbance hits both alike; the middle one of the rounds' ratios is told.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, Future};
use parking_lot::{Condvar, Mutex};

/// Whether it is only to be seen that it runs: not under `cargo bench`, or with `--test` or `--quick`.
pub(crate) fn quick() -> bool {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    !has("--bench") || has("--test") || has("--quick")
}

/// `full`, or a size that takes no time.
pub(crate) fn size(full: u64) -> u64 {
    if quick() { full.min(64) } else { full }
}

/// A call of no length.
fn same(n: u64) -> u64 {
    std::hint::black_box(n)
}

fn there_and_back(pool: &impl Executor, n: u64) {
    (0..n).for_each(|n| assert_eq!(pool.submit(same, n).result().unwrap(), n));
}

/// Calls that are all submitted before the first is collected.
pub(crate) fn queued(pool: &impl Executor, n: u64) {
    let futures: Vec<Future<u64>> = (0..n).map(|n| pool.submit(same, n)).collect();
    (0..n).zip(futures).for_each(|(n, future)| assert_eq!(future.result().unwrap(), n));
}

/// The ratios of calls to pools with something that they need not have, and to bare ones.
pub(crate) fn with_and_without<T: Executor, P: Executor>(what: &str, threads: [&T; 2], processes: [&P; 2]) {
    let n = size(20_000);
    let title = |calls: &str| format!("{calls}: {what}");
    let [with, without] = threads;
    let name = title("a call on a thread, there and back");
    ratio(&name, n, || there_and_back(with, n), || there_and_back(without, n));
    let [with, without] = processes;
    let name = title("a call in a process, there and back");
    ratio(&name, n, || there_and_back(with, n), || there_and_back(without, n));
    let n = size(100_000);
    let [with, without] = threads;
    let name = title("calls on threads, queued, then collected");
    ratio(&name, n, || queued(with, n), || queued(without, n));
    let [with, without] = processes;
    let name = title("calls in processes, queued, then collected");
    ratio(&name, n, || queued(with, n), || queued(without, n));
}

/// Prints what `ours` takes divided by what `other` takes; each does `calls` calls.
pub(crate) fn ratio(name: &str, calls: u64, mut ours: impl FnMut(), mut other: impl FnMut()) {
    let rounds = if quick() { 2 } else { 15 };
    let time = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        call();
        start.elapsed()
    };
    let mut rounds: Vec<(f64, Duration, Duration)> = (0..rounds)
        .map(|round| {
            if round % 2 == 0 {
                (time(&mut ours), time(&mut other))
            } else {
                let other = time(&mut other);
                (time(&mut ours), other)
            }
        })
        .map(|(ours, other)| (ours.as_secs_f64() / other.as_secs_f64(), ours, other))
        .collect();
    rounds.sort_by(|one, two| one.0.total_cmp(&two.0));
    let (ratio, ours, other) = rounds[rounds.len() / 2];
    let each = |time: Duration| time.as_nanos() as f64 / calls as f64;
    println!("{name}: {ratio:.2} ({:.4} / {:.4} ns)", each(ours), each(other));
}

/// A result by hand: one allocation, one lock, one condition variable.
#[derive(Debug)]
pub(crate) struct Slot<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Slot(Arc::new((Mutex::new(None), Condvar::new())))
    }

    pub(crate) fn other_end(&self) -> Self {
        Slot(Arc::clone(&self.0))
    }

    pub(crate) fn set(self, value: T) {
        *self.0.0.lock() = Some(value);
        self.0.1.notify_one();
    }

    pub(crate) fn wait(self) -> T {
        let mut value = self.0.0.lock();
        loop {
            match value.take() {
                Some(value) => return value,
                None => self.0.1.wait(&mut value),
            }
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads on a channel. For a result that is waited for at once a channel of its own is the faster one, for it looks
/// for a while before it sleeps; for results that are kept, a [`Slot`].
#[derive(Debug)]
pub(crate) struct Threads {
    jobs: crossbeam_channel::Sender<Job>,
}

impl Threads {
    pub(crate) fn start(workers: usize) -> Self {
        let (jobs, queue) = crossbeam_channel::unbounded::<Job>();
        for _ in 0..workers {
            let queue = queue.clone();
            thread::spawn(move || queue.iter().for_each(|job| job()));
        }
        Threads { jobs }
    }

    pub(crate) fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> crossbeam_channel::Receiver<R> {
        let (sender, result) = crossbeam_channel::bounded(1);
        self.jobs.send(Box::new(move || drop(sender.send(job())))).unwrap();
        result
    }

    pub(crate) fn submit<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> Slot<R> {
        let slot = Slot::new();
        let end = slot.other_end();
        self.jobs.send(Box::new(move || end.set(job()))).unwrap();
        slot
    }
}

/// What [`Processes`] can do with bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// One more, for each `u64`.
    Increment = 0,
    /// A sum over the pages.
    Touch = 1,
    Echo = 2,
}

/// Children on two pipes each, one message in flight; a thread for each child takes what is next.
#[derive(Debug)]
pub(crate) struct Processes {
    jobs: crossbeam_channel::Sender<(Work, Vec<u8>, Slot<Vec<u8>>)>,
}

/// The word that makes a copy of this program a child of [`Processes`].
const CHILD: &str = "pipes-by-hand";

/// First in `main`: does not return in such a child.
pub(crate) fn child_by_hand() {
    if std::env::args().nth(1).is_some_and(|argument| argument == CHILD) {
        let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
        // The pipe's end is the child's.
        while let Ok((work, bytes)) = receive(&mut input) {
            let bytes = match work {
                0 => bytes.chunks_exact(8).flat_map(|word| (number(word) + 1).to_le_bytes()).collect(),
                1 => touch(&bytes).to_le_bytes().to_vec(),
                _ => bytes,
            };
            if send(&mut output, work, &bytes).is_err() {
                break;
            }
        }
        std::process::exit(0);
    }
}

pub(crate) fn number(word: &[u8]) -> u64 {
    u64::from_le_bytes(word.try_into().unwrap())
}

/// Looks at every page.
pub(crate) fn touch(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(4096).map(|&byte| u64::from(byte)).sum()
}

fn send(to: &mut impl Write, work: u8, bytes: &[u8]) -> io::Result<()> {
    let mut head = [work; 9];
    head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    // What is short travels in one write.
    if bytes.len() <= 4096 {
        to.write_all(&[&head, bytes].concat())?;
    } else {
        to.write_all(&head)?;
        to.write_all(bytes)?;
    }
    to.flush()
}

fn receive(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    from.read_exact(&mut head)?;
    let mut bytes = vec![0; number(&head[1..]) as usize];
    from.read_exact(&mut bytes)?;
    Ok((head[0], bytes))
}

/// Ends with its thread.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Processes {
    pub(crate) fn start(workers: usize) -> Self {
        let (jobs, queue) = crossbeam_channel::unbounded::<(Work, Vec<u8>, Slot<Vec<u8>>)>();
        for _ in 0..workers {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let command = command.arg(CHILD).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = Ended(command.spawn().unwrap());
            let (mut there, mut back) = (child.0.stdin.take().unwrap(), child.0.stdout.take().unwrap());
            let queue = queue.clone();
            thread::spawn(move || {
                let _child = child;
                for (work, bytes, slot) in queue {
                    send(&mut there, work as u8, &bytes).unwrap();
                    slot.set(receive(&mut back).unwrap().1);
                }
            });
        }
        Processes { jobs }
    }

    pub(crate) fn submit(&self, work: Work, bytes: Vec<u8>) -> Slot<Vec<u8>> {
        let slot = Slot::new();
        self.jobs.send((work, bytes, slot.other_end())).unwrap();
        slot
    }

    pub(crate) fn increment(&self, n: u64) -> Slot<Vec<u8>> {
        self.submit(Work::Increment, n.to_le_bytes().to_vec())
    }
}
