//! What a call costs, beside what a user would write by hand and beside the limit, in one run:
//! `cargo bench --bench calls`. Read the ratios within a group, and those that are printed at the end.
//!
//! Not here: rivals from other crates; the ratios of threads (`threads.rs`).

mod rivals;

use std::hint::black_box;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use concurrent_futures::{Executor, MapOptions, ProcessPoolExecutor, ThreadPoolExecutor, init};
use criterion::{BatchSize, Criterion, Throughput};
use rivals::{Processes, Slot, Threads, Work, ratio, size};

fn increment(n: u64) -> u64 {
    n + 1
}

/// Calls queued at once, then collected.
const QUEUED: u64 = 1_000;

fn main() {
    init();
    rivals::child_by_hand();
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
    let by_hand = Threads::start(2);

    let mut group = criterion.benchmark_group("a call on a thread, one at a time");
    group.bench_function("ThreadPoolExecutor", |bencher| {
        bencher.iter(|| pool.submit(increment, black_box(1)).result().unwrap());
    });
    group.bench_function("channels by hand", |bencher| {
        bencher.iter(|| by_hand.call(|| increment(black_box(1))).recv().unwrap());
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
            |mut slots| {
                slots.extend((0..QUEUED).map(|n| by_hand.submit(move || increment(n))));
                slots.into_iter().map(Slot::wait).sum::<u64>()
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

/// Pairs of what is by hand and ours, for processes: the workloads p1 to p3 of the measuring stand. Below 1 is faster
/// than by hand.
fn ratios() {
    let pool = ProcessPoolExecutor::new(2).unwrap();
    let by_hand = Processes::start(2);
    let mut pipes = PingPong::start();
    let n = size(1_000);
    let one_at_a_time =
        || (0..n).for_each(|n| assert_eq!(pool.submit(increment, n).result().unwrap(), n + 1));
    ratio("p1, a call there and back / by hand", n, one_at_a_time, || {
        (0..n).for_each(|n| assert_eq!(rivals::number(&by_hand.increment(n).wait()), n + 1));
    });
    ratio("p1, a call there and back / a byte through two pipes", n, one_at_a_time, || {
        (0..n).for_each(|_| pipes.round());
    });

    let n = size(100_000);
    let queued_by_hand = || {
        let slots: Vec<Slot<Vec<u8>>> = (0..n).map(|n| by_hand.increment(n)).collect();
        let sum: u64 = slots.into_iter().map(|slot| rivals::number(&slot.wait())).sum();
        assert_eq!(sum, n * (n + 1) / 2);
    };
    let sum_of_map = |chunk: Option<usize>| {
        let options = chunk.map_or(MapOptions::new(), |items| MapOptions::new().chunksize(items));
        let sum: u64 = pool.map_with(increment, 0..n, options).map(Result::unwrap).sum();
        assert_eq!(sum, n * (n + 1) / 2);
    };
    ratio(
        "p2, queued, then collected / by hand",
        n,
        || {
            let futures: Vec<_> = (0..n).map(|n| pool.submit(increment, n)).collect();
            let sum: u64 = futures.into_iter().map(|future| future.result().unwrap()).sum();
            assert_eq!(sum, n * (n + 1) / 2);
        },
        queued_by_hand,
    );
    ratio("p2map, without a chunk / one a message by hand", n, || sum_of_map(None), queued_by_hand);
    ratio(
        "p2map, a thousand a message / by hand",
        n,
        || sum_of_map(Some(1_000)),
        || {
            let numbers: Vec<u64> = (0..n).collect();
            let message = |part: &[u64]| part.iter().flat_map(|n| n.to_le_bytes()).collect();
            let parts = numbers.chunks(1_000).map(|part| by_hand.submit(Work::Increment, message(part)));
            let parts: Vec<Slot<Vec<u8>>> = parts.collect();
            let sum = |bytes: Vec<u8>| bytes.chunks_exact(8).map(rivals::number).sum::<u64>();
            assert_eq!(parts.into_iter().map(|part| sum(part.wait())).sum::<u64>(), n * (n + 1) / 2);
        },
    );

    for (name, bytes) in [("1 KiB", 1 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("64 MiB", 64 << 20)]
    {
        let bytes = size(bytes) as usize;
        let n = ((64 << 20) / bytes).clamp(1, 200) as u64;
        let data: Vec<u8> = (0..bytes).map(|n| (n >> 12) as u8).collect();
        let sum = rivals::touch(&data);
        ratio(
            &format!("p3, {name} in / by hand"),
            n,
            || (0..n).for_each(|_| assert_eq!(pool.submit(touch, data.clone()).result().unwrap(), sum)),
            || {
                let call = || by_hand.submit(Work::Touch, data.clone()).wait();
                (0..n).for_each(|_| assert_eq!(rivals::number(&call()), sum));
            },
        );
        ratio(
            &format!("p3, {name} there and back / by hand"),
            n,
            || {
                (0..n)
                    .for_each(|_| assert_eq!(pool.submit(echo, data.clone()).result().unwrap().len(), bytes))
            },
            || (0..n).for_each(|_| assert_eq!(by_hand.submit(Work::Echo, data.clone()).wait().len(), bytes)),
        );
    }
}

fn touch(bytes: Vec<u8>) -> u64 {
    rivals::touch(&bytes)
}

fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
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
