//! The quick start of the README: one call, a map, and futures in the order in which they end.

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, as_completed, init};

fn is_prime(n: u64) -> bool {
    n > 1 && !(2..).take_while(|d| d * d <= n).any(|d| n.is_multiple_of(d))
}

const NUMBERS: [u64; 4] = [2, 1_000_003, 4_444_444_444, 999_999_937];

fn main() -> Result<(), Error> {
    init(); // first line of main: in a worker process it never returns

    let pool = ProcessPoolExecutor::new(4)?; // or ThreadPoolExecutor::new(4)?
    let future = pool.submit(is_prime, 112_272_535_095_293);
    println!("{}", future.result()?);

    for (n, prime) in NUMBERS.iter().zip(pool.map(is_prime, NUMBERS)) {
        println!("{n} {}", prime?);
    }

    let futures = NUMBERS.map(|n| (n, pool.submit(is_prime, n)));
    for (n, future) in as_completed(futures) {
        println!("{n} {}", future.result()?);
    }
    Ok(()) // dropping the pool waits for it
}
