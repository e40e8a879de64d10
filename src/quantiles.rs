//! [`Quantiles`]: how times are spread; and the histogram from which they are read.
//!
//! Not here: whose times, and which of them are taken (`account.rs`). The rule: to add a time takes three atomic
//! operations, and never any memory.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How a time is spread over calls: of [`Stats`](crate::Stats).
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// assert_eq!(pool.map(|n: u64| n * n, 0..100).count(), 100);
/// let ran = pool.stats().run_time;
/// assert!(ran.p50 <= ran.p99 && ran.p99 <= ran.max);
/// println!("{ran}");              // mean 85.0ns, p50 84.0ns, p90 …
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// Each of them is right to 7 %; the largest is exact among those that were timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quantiles {
    /// Calls that it stands for.
    pub calls: u64,
    /// The average.
    pub mean: Duration,
    /// Half of them took no longer.
    pub p50: Duration,
    /// Nine of ten took no longer.
    pub p90: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quantiles { calls, mean, p50, p90, p99, max } = self;
        write!(
            f,
            "mean {mean:.1?}, p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, max {max:.1?} ({calls} calls)"
        )
    }
}

/// Each power of two of nanoseconds in so many parts.
const PARTS: usize = 8;

/// 2^3 to 2^64, and what is below.
const BUCKETS: usize = PARTS * 62;

/// Times, in buckets that are the wider the longer they are. Many threads write.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    /// In nanoseconds; it wraps after 584 years of calls.
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Histogram { buckets, sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// So many calls took so long each.
    pub(crate) fn add(&self, time: Duration, calls: u64) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(calls, Ordering::Relaxed);
        self.sum.fetch_add(nanos.wrapping_mul(calls), Ordering::Relaxed);
        self.max.fetch_max(nanos, Ordering::Relaxed);
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let calls: u64 = counts.iter().sum();
        let max = self.max.load(Ordering::Relaxed);
        // The first bucket up to which there are so many of a hundred.
        let quantile = |percent: u64| {
            let wanted = (u128::from(calls) * u128::from(percent)).div_ceil(100);
            let mut so_far = 0_u128;
            let at = counts.iter().position(|count| {
                so_far += u128::from(*count);
                so_far >= wanted.max(1)
            });
            Duration::from_nanos(at.map_or(0, middle).min(max))
        };
        Quantiles {
            calls,
            mean: Duration::from_nanos(self.sum.load(Ordering::Relaxed).checked_div(calls).unwrap_or(0)),
            p50: quantile(50),
            p90: quantile(90),
            p99: quantile(99),
            max: Duration::from_nanos(max),
        }
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < PARTS as u64 {
        return nanos as usize;
    }
    let power = nanos.ilog2() as usize;
    // The three bits behind the first.
    let part = (nanos >> (power - 3)) as usize & (PARTS - 1);
    (power - 2) * PARTS + part
}

/// The middle of what is in that bucket.
fn middle(bucket: usize) -> u64 {
    if bucket < PARTS {
        return bucket as u64;
    }
    let (power, part) = (bucket / PARTS + 2, (bucket % PARTS) as u64);
    let width = 1_u64 << (power - 3);
    (1_u64 << power) + part * width + width / 2
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_is_narrow(nanos in prop_oneof![0..1_000_u64, any::<u64>()]) {
            let middle = middle(bucket(nanos));
            prop_assert!(middle.abs_diff(nanos) <= nanos / 16 + 1, "{nanos} is shown as {middle}");
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_times(mut nanos in prop::collection::vec(0..10_000_000_u64, 1..300)) {
            let histogram = Histogram::default();
            nanos.iter().for_each(|nanos| histogram.add(Duration::from_nanos(*nanos), 1));
            nanos.sort_unstable();
            let seen = histogram.quantiles();
            prop_assert_eq!(seen.calls, nanos.len() as u64);
            prop_assert_eq!(seen.max, Duration::from_nanos(nanos[nanos.len() - 1]));
            for (percent, seen) in [(50, seen.p50), (90, seen.p90), (99, seen.p99)] {
                let exact = nanos[(nanos.len() * percent).div_ceil(100).max(1) - 1];
                let seen = seen.as_nanos() as u64;
                prop_assert!(seen.abs_diff(exact) <= exact / 16 + 1, "p{percent}: {exact} is shown as {seen}");
            }
        }
    }

    #[test]
    fn nothing_has_no_quantiles_and_the_largest_fits() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantiles(), Quantiles::default());
        histogram.add(Duration::MAX, 3);
        assert_eq!(histogram.quantiles().calls, 3);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
