//! What a call costs, beside what a user would write by hand and beside the limit, in one run:
//! `cargo bench --bench calls`. Read the ratios within a group, and those that are printed at the end.
//!
//! Not here: rivals from other crates.

use std::hint::black_box;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, ProcessPoolExecutor, ThreadPoolExecutor, init};
use criterion::{BatchSize, Criterion, Throughput};

fn increment(n: u64) -> u64 {
    n + 1
}

/// Calls queued at once, then collected.
const QUEUED: u64 = 1_000;

fn main() {
    init();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    threads(&mut criterion);
    processes(&mut criterion);
    criterion.final_summary();
    ratios();
}

fn threads(criterion: &mut Criterion) {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let by_hand = ByHand::start(2);

    let mut group = criterion.benchmark_group("a call on a thread, one at a time");
    group.bench_function("ThreadPoolExecutor", |bencher| {
        bencher.iter(|| pool.submit(increment, black_box(1)).result().unwrap());
    });
    group.bench_function("channels by hand", |bencher| {
        bencher.iter(|| by_hand.submit(|| increment(black_box(1))).recv().unwrap());
    });
    group.finish();

    let mut group = criterion.benchmark_group("calls on threads, queued, then collected");
    group.throughput(Throughput::Elements(QUEUED));
    group.bench_function("ThreadPoolExecutor", |bencher| {
        bencher.iter_batched(
            || Vec::with_capacity(QUEUED as usize),
            |mut futures| {
                futures.extend((0..QUEUED).map(|n| pool.submit(increment, n)));
                futures.into_iter().map(|future| future.result().unwrap()).sum::<u64>()
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("channels by hand", |bencher| {
        bencher.iter_batched(
            || Vec::with_capacity(QUEUED as usize),
            |mut results| {
                results.extend((0..QUEUED).map(|n| by_hand.submit(move || increment(n))));
                results.into_iter().map(|result| result.recv().unwrap()).sum::<u64>()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn processes(criterion: &mut Criterion) {
    let pool = ProcessPoolExecutor::new(1).unwrap();
    let mut pipes = PingPong::start();

    let mut group = criterion.benchmark_group("a call in a process, one at a time");
    group.bench_function("ProcessPoolExecutor", |bencher| {
        bencher.iter(|| pool.submit(increment, black_box(1)).result().unwrap());
    });
    group
        .bench_function("limit: a byte through two pipes and back", |bencher| bencher.iter(|| pipes.round()));
    group.finish();
}

/// The same pairs once more, interleaved, so that a disturbance hits both alike; median of the rounds.
fn ratios() {
    let threads = ThreadPoolExecutor::new(2).unwrap();
    let by_hand = ByHand::start(2);
    ratio(
        "thread call / channels by hand",
        || drop(threads.submit(increment, 1).result()),
        || {
            by_hand.submit(|| increment(1)).recv().unwrap();
        },
    );
    let processes = ProcessPoolExecutor::new(1).unwrap();
    let mut pipes = PingPong::start();
    ratio("process call / two pipes", || drop(processes.submit(increment, 1).result()), || pipes.round());
}

fn ratio(name: &str, mut ours: impl FnMut(), mut other: impl FnMut()) {
    const CALLS: u32 = 1_000;
    let time = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed()
    };
    let mut rounds: Vec<(f64, Duration, Duration)> = (0..15)
        .map(|_| (time(&mut ours), time(&mut other)))
        .map(|(ours, other)| (ours.as_secs_f64() / other.as_secs_f64(), ours / CALLS, other / CALLS))
        .collect();
    rounds.sort_by(|one, two| one.0.total_cmp(&two.0));
    let (ratio, ours, other) = rounds[rounds.len() / 2];
    println!("{name}: {ratio:.2} ({ours:?} / {other:?})");
}

/// Threads on a channel, and a channel for each result: an hour's work without a library.
struct ByHand {
    jobs: crossbeam_channel::Sender<Box<dyn FnOnce() + Send>>,
}

impl ByHand {
    fn start(workers: usize) -> Self {
        let (jobs, queue) = crossbeam_channel::unbounded::<Box<dyn FnOnce() + Send>>();
        for _ in 0..workers {
            let queue = queue.clone();
            thread::spawn(move || queue.iter().for_each(|job| job()));
        }
        ByHand { jobs }
    }

    fn submit<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> crossbeam_channel::Receiver<R> {
        let (sender, result) = crossbeam_channel::bounded(1);
        self.jobs.send(Box::new(move || drop(sender.send(job())))).unwrap();
        result
    }
}

/// Two threads that pass one byte back and forth through two pipes.
struct PingPong {
    there: std::io::PipeWriter,
    back: std::io::PipeReader,
}

impl PingPong {
    fn start() -> Self {
        let (mut reader, there) = std::io::pipe().unwrap();
        let (back, mut writer) = std::io::pipe().unwrap();
        thread::spawn(move || {
            let mut byte = [0];
            while reader.read_exact(&mut byte).is_ok() && writer.write_all(&byte).is_ok() {}
        });
        PingPong { there, back }
    }

    fn round(&mut self) {
        let mut byte = [1];
        self.there.write_all(&byte).unwrap();
        self.back.read_exact(&mut byte).unwrap();
    }
}
