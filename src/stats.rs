//! [`Stats`]: how a pool is doing, in numbers.
//!
//! Not here: who counts, and what is timed (`account.rs`); how times are spread (`quantiles.rs`). The rule: to ask costs
//! no call anything but a moment of the queue's lock.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::account::{Account, Outcome};
use crate::quantiles::Quantiles;

/// How a pool is doing: [`ThreadPoolExecutor::stats`](crate::ThreadPoolExecutor::stats),
/// [`ProcessPoolExecutor::stats`](crate::ProcessPoolExecutor::stats).
///
/// Numbers since the pool was built, but for those that say "now". They are read one after the other while the pool works,
/// so together they may be off by the calls of that moment; once a future is over, its call is in them. The items of
/// a map are counted one by one, also where they travel in chunks (a chunk that is lost as a whole, because it was
/// cancelled or its worker died, counts as one).
///
/// Always on. Its price was measured as 7 to 12 % of the cheapest calls there are: 14 of 174 ns of one on a thread among many,
/// 44 of 666 ns of one to a process and back, 49 of 443 ns of one to a process among many, on a virtual machine where a look at the
/// clock takes 45 ns. All calls of a pool are
/// timed while they take 20 µs or more; of quicker ones one in 128 is, and counts for all.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let lengths = pool.try_map(|text: &str| text.parse::<u32>(), ["1", "2", "three"]);
/// assert_eq!(lengths.filter(Result::is_ok).count(), 2);
/// let stats = pool.stats();
/// assert_eq!((stats.returned, stats.raised, stats.pending), (2, 1, 0));
/// println!("{stats}");
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that wait for a worker, now. Those that were cancelled and lie in the queue still are among them.
    pub pending: usize,
    /// Calls that workers have in hand, now.
    pub running: usize,
    /// Ended with a value.
    pub returned: u64,
    /// Ended with an `Err` of `try_submit` and its like.
    pub raised: u64,
    /// Ended by a panic.
    pub panicked: u64,
    /// Cancelled before they ran.
    pub cancelled: u64,
    /// Stopped at a time limit.
    pub timed_out: u64,
    /// Ended by the death of their worker process.
    pub died: u64,
    /// Could not be made, or have no value for another reason: refused, broken, not encoded or decoded.
    pub failed: u64,
    /// Attempts that failed, after each of which there was to be another.
    pub retried: u64,
    /// Workers, now.
    pub workers: usize,
    /// Worker processes that took the place of one that had died or was used up.
    pub replaced: u64,
    /// Bytes of calls that were sent to worker processes; 0 in a thread pool. What goes as shared memory is not among them.
    pub bytes_sent: u64,
    /// Bytes of replies.
    pub bytes_received: u64,
    /// How long calls were queued.
    pub queue_wait: Quantiles,
    /// How long calls ran.
    pub run_time: Quantiles,
}

impl Stats {
    /// Calls that have ended, in whatever way.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// assert!(pool.spawn(|| 1).result().is_ok());
    /// assert!(pool.try_submit(|text: &str| text.parse::<u32>(), "no").result().is_err());
    /// assert_eq!(pool.stats().done(), 2);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn done(&self) -> u64 {
        self.returned
            + self.raised
            + self.panicked
            + self.cancelled
            + self.timed_out
            + self.died
            + self.failed
    }

    /// What the account knows.
    pub(crate) fn of(account: &Account) -> Stats {
        let counts = account.counts();
        let ended = |outcome: Outcome| counts[outcome as usize];
        Stats {
            returned: ended(Outcome::Finished),
            raised: ended(Outcome::Raised),
            panicked: ended(Outcome::Panicked),
            cancelled: ended(Outcome::Cancelled),
            timed_out: ended(Outcome::TimedOut),
            died: ended(Outcome::WorkerDied),
            failed: ended(Outcome::Failed),
            retried: account.retried.load(Ordering::Relaxed),
            replaced: account.replaced.load(Ordering::Relaxed),
            queue_wait: account.waits.quantiles(),
            run_time: account.runs.quantiles(),
            ..Stats::default()
        }
    }
}

/// Four lines: what there is to do, how calls ended, how long they waited and ran.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} pending, {} running, {} done; {} workers, {} replaced, {} bytes sent, {} received",
            self.pending,
            self.running,
            self.done(),
            self.workers,
            self.replaced,
            self.bytes_sent,
            self.bytes_received
        )?;
        writeln!(
            f,
            "{} returned, {} raised, {} panicked, {} cancelled, {} timed out, {} died, {} failed; {} retried",
            self.returned,
            self.raised,
            self.panicked,
            self.cancelled,
            self.timed_out,
            self.died,
            self.failed,
            self.retried
        )?;
        writeln!(f, "queued: {}", self.queue_wait)?;
        write!(f, "ran:    {}", self.run_time)
    }
}
