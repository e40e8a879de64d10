//! E6: `map` gives one result an item. The rest of it is parity: `m_map.rs`.

use std::iter;
use std::sync::{Arc, Condvar, Mutex};

use concurrent_futures::{Executor, MapOptions};

use crate::common::{LIMIT, LONG, watchdog};
use crate::engines::{double, length, threads};

contract!(
    [e6_map_yields_one_result_an_item_in_order, e6_map_of_nothing_is_empty, e6_the_length_is_exact,],
    []
);

registered!([], [triple]);

/// Whoever reads quick results waits for several at a time, but for none that waits for the reader.
#[test]
fn an_item_can_wait_for_the_reader_of_the_one_before() {
    watchdog("the reader", LIMIT, || {
        for options in [MapOptions::new(), MapOptions::new().chunksize(1)] {
            let pool = threads(2);
            let read = Arc::new((Mutex::new(0), Condvar::new()));
            let its = Arc::clone(&read);
            let item = move |item: usize| {
                let read = its.0.lock().unwrap();
                drop(its.1.wait_while(read, |read| item >= 100 && *read < item).unwrap());
                item
            };
            for (item, outcome) in pool.map_with(item, 0..200, options).enumerate() {
                assert_eq!(outcome.unwrap(), item);
                *read.0.lock().unwrap() += 1;
                read.1.notify_all();
            }
        }
    });
}

fn triple(n: u32) -> Result<u32, String> {
    Ok(n * 3)
}

fn e6_map_yields_one_result_an_item_in_order<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let doubled: Result<Vec<_>, _> = executor.map(double, 0..500).collect();
    assert_eq!(doubled.unwrap(), (0..500).map(double).collect::<Vec<_>>());
    // Any iterable, of any type.
    let lengths = executor.map(length, ["a", "", "ccc"].map(str::to_owned));
    assert_eq!(lengths.collect::<Result<Vec<_>, _>>().unwrap(), [1, 0, 3]);
    let tripled = executor.try_map(triple, vec![1, 2]);
    assert_eq!(tripled.collect::<Result<Vec<_>, _>>().unwrap(), [3, 6]);
}

fn e6_map_of_nothing_is_empty<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    assert_eq!(executor.map(double, []).len(), 0);
    assert!(executor.map(double, iter::empty()).next().is_none());
    let options = MapOptions::new().buffersize(3).chunksize(2).timeout(LONG);
    let mut map = executor.map_with(double, [], options);
    assert!(map.next().is_none() && map.next().is_none());
}

fn e6_the_length_is_exact<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    for options in [
        MapOptions::new(),
        MapOptions::new().chunksize(4),
        MapOptions::new().buffersize(3),
        MapOptions::new().chunksize(2).buffersize(5),
    ] {
        let mut map = executor.map_with(double, 0..10, options);
        for left in (0..10).rev() {
            assert_eq!((map.len(), map.size_hint()), (left + 1, (left + 1, Some(left + 1))));
            assert!(map.next().unwrap().is_ok());
        }
        assert_eq!((map.len(), map.size_hint()), (0, (0, Some(0))));
    }
    // An input that does not know its length: the least, then.
    let map = executor.map_with(double, (0..10).filter(|_| true), MapOptions::new().buffersize(3));
    assert_eq!((map.len(), map.size_hint().0), (3, 3));
}
