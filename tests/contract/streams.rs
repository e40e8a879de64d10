//! Back-pressure: what is asked for is bounded, however much there is. Inputs of a thousand million items.
//!
//! Not here: the bound of a queue (`bounded.rs`), the order of a map's results (`m_map.rs`).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
use serde::{Deserialize, Serialize};

use crate::common::{Drops, LIMIT, Turnstile, alone, watchdog};
use crate::engines::{OnRequest, Wishes, as_many, pass, successor, threads};

contract!(
    [],
    [
        an_input_is_pulled_no_further_than_its_buffer,
        an_input_of_a_map_without_order_is_pulled_no_further_than_its_buffer,
        results_that_nobody_takes_count,
    ]
);

const ITEMS: u64 = 1_000_000_000;
const TAKEN: usize = 100_000;
/// Chunks and buffers.
const SHAPES: [(usize, usize); 3] = [(1, 64), (64, 256), (100, 1000)];

/// The item itself, and memory that would be missed.
#[derive(Debug, Serialize, Deserialize)]
struct Heavy(u64, Vec<u8>);

fn weigh(n: u64) -> Heavy {
    Heavy(n, vec![1; 1 << 10])
}

/// Numbers, and how many were pulled.
fn counted() -> (impl Iterator<Item = u64> + Send, Arc<AtomicUsize>) {
    let pulled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pulled);
    let items = (0..ITEMS).inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    (items, pulled)
}

fn an_input_is_pulled_no_further_than_its_buffer<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for (chunksize, buffersize) in SHAPES {
        let (items, pulled) = counted();
        let options = MapOptions::new().chunksize(chunksize).buffersize(buffersize);
        let map = executor.map_with(successor, items, options);
        for (taken, value) in map.take(as_many::<E>(TAKEN)).enumerate() {
            assert_eq!(value.unwrap(), taken as u64 + 1);
            let pulled = pulled.load(Ordering::SeqCst);
            assert!(pulled - taken <= buffersize, "{pulled} pulled, {taken} taken, buffer {buffersize}");
        }
    }
}

fn an_input_of_a_map_without_order_is_pulled_no_further_than_its_buffer<E: Executor>(
    make: impl Fn(usize) -> E,
) {
    let executor = make(2);
    for (chunksize, buffersize) in SHAPES {
        let (items, pulled) = counted();
        let options = MapOptions::new().chunksize(chunksize).buffersize(buffersize);
        let map = executor.map_with(successor, items, options).unordered();
        for (taken, (index, value)) in map.take(as_many::<E>(TAKEN)).enumerate() {
            assert_eq!(value.unwrap(), index as u64 + 1);
            let pulled = pulled.load(Ordering::SeqCst);
            assert!(pulled - taken <= buffersize, "{pulled} pulled, {taken} taken, buffer {buffersize}");
        }
    }
}

/// Also when they are there: the input stands still until somebody takes one.
fn results_that_nobody_takes_count<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let (items, pulled) = counted();
    let mut map = executor.map_with(successor, items, MapOptions::new().buffersize(10));
    // Behind all that the map has submitted.
    let gate = Turnstile::new();
    for _ in 0..3 {
        let behind = executor.submit(pass, gate.ticket(1));
        gate.arrival().release();
        behind.wait();
        assert_eq!(pulled.load(Ordering::SeqCst), 10);
    }
    assert_eq!(map.next().unwrap().unwrap(), 1);
    assert!(pulled.load(Ordering::SeqCst) <= 11);
}

/// Not only is the input pulled as results are taken; nothing else keeps what went through.
#[test]
fn as_many_items_are_alive_as_the_buffer_holds() {
    watchdog("items alive", LIMIT, || {
        for (chunksize, buffersize) in SHAPES {
            let pool: ThreadPoolExecutor = threads(2);
            let (given, back) = (Drops::new(), Drops::new());
            let (made, make) = (given.clone(), back.clone());
            let options = MapOptions::new().chunksize(chunksize).buffersize(buffersize);
            let items = (0..ITEMS).map(move |_| made.token());
            let map = pool.map_with(
                move |token| {
                    token.look();
                    make.token()
                },
                items,
                options,
            );
            for token in map.take(TAKEN) {
                drop(token.unwrap());
                let alive = (given.alive(), back.alive());
                // One of each may be in the hands of a worker, on its way from the one to the other.
                assert!(alive.0 <= buffersize + 2 && alive.1 <= buffersize + 2, "{alive:?} of {buffersize}");
            }
            // What was running when the map was dropped went on.
            pool.shutdown();
            assert_eq!((given.alive(), back.alive()), (0, 0));
        }
    });
}

/// How much memory this process has resident, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// A hundred megabytes go through, and next to nothing is kept.
#[test]
fn memory_stays_as_it_was() {
    fn measure<E: OnRequest>() {
        let pool = E::made(Wishes { max_workers: 2, ..Wishes::default() }).unwrap();
        let options = MapOptions::new().chunksize(10).buffersize(100);
        let (warm, most) = (Cell::new(0), Cell::new(0));
        let map = pool.map_with(weigh, 0..ITEMS, options);
        for (taken, value) in map.take(TAKEN).enumerate() {
            assert_eq!(value.unwrap().0, taken as u64);
            if taken == TAKEN / 10 {
                warm.set(resident());
            }
            if taken > TAKEN / 10 && taken.is_multiple_of(1000) {
                most.set(most.get().max(resident()));
            }
        }
        let grown = most.get().saturating_sub(warm.get());
        println!("{}: {} KiB after a tenth, {grown} KiB more later", std::any::type_name::<E>(), warm.get());
        // Kept, the other nine tenths would be 90 MB.
        assert!(grown < 20 << 10, "{grown} KiB more");
    }

    watchdog("resident memory", LIMIT, || {
        let told = alone(module_path!(), "memory_stays_as_it_was", || {
            measure::<ThreadPoolExecutor>();
            measure::<concurrent_futures::ProcessPoolExecutor>();
        });
        told.iter()
            .flat_map(|text| text.lines())
            .filter(|line| line.contains("KiB"))
            .for_each(|line| println!("{line}"));
    });
}
