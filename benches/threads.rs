//! The thread pool beside two threads on a channel, by hand: the workloads t1 to t6 of the measuring stand, each a
//! ratio: `cargo bench --bench threads`. Below 1 is faster than by hand.
//!
//! Not here: statistics of single calls (`calls.rs`), more than two workers (`growth.rs`).

mod rivals;

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use concurrent_futures::{Future, ThreadPoolExecutor};
use rivals::{Slot, Threads, ratio, size};

const WORKERS: usize = 2;

fn main() {
    let pool = ThreadPoolExecutor::new(WORKERS).unwrap();
    let by_hand = Threads::start(WORKERS);

    let n = size(1_000);
    ratio(
        "t1, a call there and back / by hand",
        n,
        || (0..n).for_each(|n| assert_eq!(pool.submit(black_box, n).result().unwrap(), n)),
        || (0..n).for_each(|n| assert_eq!(by_hand.call(move || black_box(n)).recv().unwrap(), n)),
    );

    let n = size(100_000);
    ratio("t2, queued, then collected / by hand", n, || ours(&pool, n), || theirs(&by_hand, n));
    ratio(
        "t3, four threads that submit / by hand",
        4 * n,
        || four(|| ours(&pool, n)),
        || four(|| theirs(&by_hand, n)),
    );

    let n = size(1_000_000);
    ratio(
        "t4, map without a chunk / chunks by hand",
        n,
        || {
            let squares: Vec<u64> = pool.map(square, 0..n).map(Result::unwrap).collect();
            assert_eq!(squares.len() as u64, n);
        },
        || {
            let part = n.div_ceil(4 * WORKERS as u64);
            let parts: Vec<Slot<Vec<u64>>> = (0..n)
                .step_by(part as usize)
                .map(|from| by_hand.submit(move || (from..n.min(from + part)).map(square).collect()))
                .collect();
            let squares: Vec<u64> = parts.into_iter().flat_map(Slot::wait).collect();
            assert_eq!(squares.len() as u64, n);
        },
    );

    let (n, rounds) = (size(2_000), rounds_of_50_us());
    ratio(
        "t5, calls of 50 µs / two threads with half each",
        n,
        || {
            let futures: Vec<_> = (0..n).map(|_| pool.submit(burn, rounds)).collect();
            black_box(futures.into_iter().map(|future| future.result().unwrap()).fold(0, u64::wrapping_add));
        },
        || {
            thread::scope(|scope| {
                (0..WORKERS as u64).for_each(|_| {
                    scope.spawn(|| {
                        (0..n / WORKERS as u64).for_each(|_| {
                            burn(rounds);
                        });
                    });
                });
            });
        },
    );

    // Threads on a channel hang here: all of them wait. So the other one is as many calls that nobody waits within.
    let (n, result, calls) = if rivals::quick() { (8, 21, 33) } else { (20, 6_765, 10_945) };
    let pool = std::sync::Arc::new(pool);
    ratio(
        "t6, calls that submit and wait / as many that are queued, ours",
        calls,
        || assert_eq!(fib(&pool, n), result),
        || ours(&pool, calls),
    );
}

fn ours(pool: &ThreadPoolExecutor, n: u64) {
    let mut futures: Vec<Future<u64>> = Vec::with_capacity(n as usize);
    futures.extend((0..n).map(|n| pool.spawn(move || black_box(n))));
    let sum: u64 = futures.into_iter().map(|future| future.result().unwrap()).sum();
    assert_eq!(sum, n * (n - 1) / 2);
}

fn theirs(by_hand: &Threads, n: u64) {
    let mut slots: Vec<Slot<u64>> = Vec::with_capacity(n as usize);
    slots.extend((0..n).map(|n| by_hand.submit(move || black_box(n))));
    let sum: u64 = slots.into_iter().map(Slot::wait).sum();
    assert_eq!(sum, n * (n - 1) / 2);
}

fn four(submit: impl Fn() + Sync) {
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(&submit))));
}

fn square(x: u64) -> u64 {
    x.wrapping_mul(x)
}

fn fib(pool: &std::sync::Arc<ThreadPoolExecutor>, n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let again = std::sync::Arc::clone(pool);
    let left = pool.spawn(move || fib(&again, n - 1));
    let right = fib(pool, n - 2);
    right + left.result().unwrap()
}

fn burn(rounds: u64) -> u64 {
    (0..rounds).fold(1, |x, n| black_box(x ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23))
}

fn rounds_of_50_us() -> u64 {
    const ROUNDS: u64 = 1_000_000;
    let start = Instant::now();
    burn(ROUNDS);
    50_000 * ROUNDS / (start.elapsed().as_nanos() as u64).max(1)
}
