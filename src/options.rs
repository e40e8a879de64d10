//! [`TaskOptions`]: what one call may cost and how often it is tried, and the account of its
//! attempts.
//!
//! Not here: who stops a call (`process/context.rs`), where it waits for its next attempt
//! (`pool/later.rs`). The rule: a call runs a second time only if its options say so.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::id::TaskRef;
use crate::outcome::shielded;

type Predicate = Arc<dyn Fn(&Error) -> bool + Send + Sync>;

/// What one call is allowed: time, further attempts, and to start before others.
/// For [`Executor::submit_with`](crate::Executor::submit_with). The default is what `submit` does:
/// one attempt, the time limit of the pool, if it has one, and priority 0.
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, TaskOptions, init, task};
///
/// fn flaky(n: u32) -> u32 {
///     if task::attempt() < 3 {
///         std::process::abort();
///     }
///     n
/// }
///
/// fn main() -> Result<(), Error> {
///     init();
///     let pool = ProcessPoolExecutor::new(1)?;
///     let pause = Duration::from_millis(1);
///     let options = TaskOptions::new().timeout(Duration::from_secs(60)).retries(2).backoff(pause, pause);
///     assert_eq!(pool.submit_with(flaky, 7, options).result()?, 7);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
#[must_use]
pub struct TaskOptions {
    timeout: Option<Duration>,
    retries: u32,
    priority: i16,
    /// The first pause, and the longest.
    backoff: (Duration, Duration),
    retry_if: Option<Predicate>,
}

impl Default for TaskOptions {
    fn default() -> Self {
        TaskOptions {
            timeout: None,
            retries: 0,
            priority: 0,
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            retry_if: None,
        }
    }
}

impl TaskOptions {
    /// One attempt, and the time limit of the pool.
    ///
    /// ```
    /// use concurrent_futures::{TaskOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// assert_eq!(pool.spawn_with(|| 42, TaskOptions::new()).result()?, 42);       // as `spawn`
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn new() -> Self {
        TaskOptions::default()
    }

    /// How long an attempt may take, instead of the pool's
    /// [`task_timeout`](crate::ProcessPoolBuilder::task_timeout). The clock starts when a worker has
    /// been given the whole call, and ends when the whole result is here; time in the queue does
    /// not count. Handing over the argument has no limit as long as the worker takes it: one that
    /// takes nothing for so long is replaced.
    ///
    /// The worker process that overruns is asked to end (SIGTERM), and killed if it is still there after
    /// the pool's [`grace_period`](crate::ProcessPoolBuilder::grace_period). Then the future ends with
    /// [`Error::TimedOut`], so the code has stopped when you hear of it.
    ///
    /// Only a process can be stopped: in an executor that runs calls in this process, such a call
    /// ends with [`Error::Unsupported`] and does not run.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, TaskOptions};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     let options = TaskOptions::new().timeout(Duration::from_millis(20));
    ///     let endless = pool.submit_with(|()| -> u32 { loop {} }, (), options);
    ///     assert!(matches!(endless.result(), Err(Error::TimedOut { .. })));
    ///     Ok(())
    /// }
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// How often the call is tried again when its worker died or it ran out of time. Default: 0.
    ///
    /// Each attempt is a call with the same argument, which so far was encoded once; it finds its
    /// number with [`task::attempt`](crate::task::attempt). A call that failed every time ends with
    /// [`Error::GaveUp`], which tells how. One that was stopped by [`kill`](crate::Future::kill) or with
    /// its whole pool is not tried again.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor, TaskOptions, task};
    ///
    /// fn crashes_once(n: u32) -> u32 {
    ///     if task::attempt() == 1 { std::process::abort() } else { n + 1 }
    /// }
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     let options = TaskOptions::new().retries(2);
    ///     assert_eq!(pool.submit_with(crashes_once, 41, options).result()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn retries(mut self, times: u32) -> Self {
        self.retries = times;
        self
    }

    /// The pause before the second attempt; each further one is twice as long, up to `longest`.
    /// Default: 0.1 and 10 seconds.
    ///
    /// Meanwhile the call occupies no worker, can be cancelled, and is waited for by `shutdown`. When the
    /// pause is over, it takes its turn before the calls that are queued.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{TaskOptions, ThreadPoolExecutor, task};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (first, longest) = (Duration::from_millis(1), Duration::from_millis(2));
    /// let options = TaskOptions::new().retries(3).retry_if(|_| true).backoff(first, longest);
    /// let call = || if task::attempt() < 4 { panic!("not yet") } else { 42 };     // pauses: 1, 2, 2 ms
    /// assert_eq!(pool.spawn_with(call, options).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first, longest);
        self
    }

    /// Which errors of the call itself ([`Error::Raised`], [`Error::Panicked`]) are a reason to try
    /// again, within [`retries`](Self::retries). Default: none. A predicate that panics says no.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Error, Executor, TaskOptions, ThreadPoolExecutor, task};
    ///
    /// fn fetch(page: u32) -> Result<u32, std::io::Error> {
    ///     if task::attempt() == 1 { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(page) }
    /// }
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let options = TaskOptions::new()
    ///     .retries(5)
    ///     .backoff(Duration::from_millis(1), Duration::from_millis(20))
    ///     .retry_if(|error| matches!(error, Error::Raised { .. }));
    /// assert_eq!(pool.try_submit_with(fetch, 7, options).result()?, 7);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn retry_if(mut self, holds: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        self.retry_if = Some(Arc::new(holds));
        self
    }

    /// Who starts first: of the calls that wait in the queue of a pool, those with the highest number, and
    /// of these the first to come. Default: 0, as for all calls without options.
    ///
    /// Nothing that runs is interrupted, and a call that waits for a low one does not raise it. Calls of a low
    /// priority wait as long as there are higher ones. A further attempt takes its turn before the queue,
    /// whatever its priority. In a process pool a worker may have some short calls in hand when one with a higher
    /// priority comes: what it begins of them within half a millisecond, it begins before that one. An executor
    /// without a queue takes no notice.
    ///
    /// ```
    /// use concurrent_futures::{Executor, TaskOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let thumbnails = pool.map(|n: u32| n * n, vec![1, 2, 3]);
    /// let soon = TaskOptions::new().priority(10);
    /// let shown = pool.submit_with(|n: u32| n * n, 4, soon);          // before those that have not started
    /// assert_eq!(shown.result()?, 16);
    /// # drop(thumbnails);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    pub(crate) fn order(&self) -> i16 {
        self.priority
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        self.timeout
    }

    /// May a call fail in this process and run again? (In this process nothing dies or is stopped.)
    pub(crate) fn retry_errors(&self) -> bool {
        self.retries > 0 && self.retry_if.is_some()
    }

    fn covers(&self, error: &Error) -> bool {
        match error {
            Error::WorkerDied { .. } | Error::TimedOut { .. } => true,
            Error::Raised { .. } | Error::Panicked { .. } => {
                let mut holds = false;
                shielded(|| holds = self.retry_if.as_ref().is_some_and(|predicate| predicate(error)));
                holds
            }
            _ => false,
        }
    }

    /// The pause behind attempt `number`.
    fn pause(&self, number: u32) -> Duration {
        let (first, longest) = self.backoff;
        let doubled = 2_u32.checked_pow(number.saturating_sub(1)).unwrap_or(u32::MAX);
        first.saturating_mul(doubled).min(longest)
    }
}

impl fmt::Debug for TaskOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskOptions")
            .field("timeout", &self.timeout)
            .field("retries", &self.retries)
            .field("priority", &self.priority)
            .field("backoff", &self.backoff)
            .field("retry_if", &self.retry_if.is_some())
            .finish()
    }
}

/// The account of a call that has options: how its attempts ended.
pub(crate) struct Attempts {
    pub(crate) options: TaskOptions,
    /// Those that were made somewhere else.
    before: u32,
    failed: Vec<Error>,
}

/// What stands for a pause that no clock can measure.
const FAR: Duration = Duration::from_secs(1 << 32);

impl Attempts {
    pub(crate) fn new(options: TaskOptions) -> Self {
        Attempts { options, before: 0, failed: Vec::new() }
    }

    /// The same, where the attempt of that number is the first to be made here.
    #[cfg(feature = "amqp")]
    pub(crate) fn from(number: u32, options: TaskOptions) -> Self {
        Attempts { before: number.saturating_sub(1), ..Attempts::new(options) }
    }

    /// The number of the attempt that runs or is due, from 1.
    pub(crate) fn number(&self) -> u32 {
        let failed = u32::try_from(self.failed.len()).unwrap_or(u32::MAX);
        self.before.saturating_add(failed).saturating_add(1)
    }

    /// How the last one ended.
    pub(crate) fn last(&self) -> Option<&Error> {
        self.failed.last()
    }

    /// An attempt has ended with `error`: when the next one is due, or the error to end the call with.
    pub(crate) fn failed(&mut self, task: TaskRef, error: Error) -> Result<Instant, Error> {
        if self.options.retries == 0 || !self.options.covers(&error) {
            return Err(error);
        }
        let number = self.number() - self.before;
        self.failed.push(error);
        if number > self.options.retries {
            return Err(Error::GaveUp { task, attempts: std::mem::take(&mut self.failed).into() });
        }
        let now = Instant::now();
        Ok(now.checked_add(self.options.pause(number)).unwrap_or(now + FAR))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn task() -> TaskRef {
        TaskRef { name: "a test", id: crate::id::FutureId::next() }
    }

    fn death(attempt: u32) -> Error {
        let (task, probable_cause) = (task(), None);
        Error::WorkerDied { task, pid: 1, status: None, attempt, peak_memory: None, probable_cause }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let options = TaskOptions::new().backoff(Duration::from_millis(3), Duration::from_millis(20));
        let pauses: Vec<_> = (1..=5).map(|number| options.pause(number).as_millis()).collect();
        assert_eq!(pauses, [3, 6, 12, 20, 20]);
        assert_eq!(options.pause(u32::MAX), Duration::from_millis(20));
        let endless = TaskOptions::new().backoff(Duration::MAX, Duration::MAX);
        assert_eq!(endless.pause(40), Duration::MAX);
        let due = Attempts::new(endless.retries(1)).failed(task(), death(1)).unwrap();
        assert!(due > Instant::now() + Duration::from_secs(1 << 31));
    }

    #[test]
    fn the_last_error_tells_all() {
        let mut attempts = Attempts::new(TaskOptions::new().retries(2));
        assert!(attempts.failed(task(), death(1)).is_ok());
        assert!(attempts.failed(task(), death(2)).is_ok());
        assert_eq!(attempts.number(), 3);
        let Err(Error::GaveUp { attempts, .. }) = attempts.failed(task(), death(3)) else { panic!() };
        let numbers: Vec<_> = attempts
            .iter()
            .map(|error| matches!(error, Error::WorkerDied { attempt, .. } if *attempt > 0))
            .collect();
        assert_eq!(numbers, [true; 3]);
    }

    #[cfg(feature = "amqp")]
    #[test]
    fn attempts_that_were_made_elsewhere_count() {
        let mut attempts = Attempts::from(3, TaskOptions::new().retries(1));
        assert_eq!(attempts.number(), 3);
        // It is no number of a retry from here, and takes none away.
        assert!(attempts.failed(task(), death(3)).is_ok());
        assert_eq!(attempts.number(), 4);
        assert!(matches!(attempts.failed(task(), death(4)), Err(Error::GaveUp { .. })));
    }

    #[test]
    fn what_is_not_covered_ends_the_call_as_it_is() {
        let raised = || Error::raised(task(), "no");
        let mut plain = Attempts::new(TaskOptions::new().retries(9));
        assert!(matches!(plain.failed(task(), raised()), Err(Error::Raised { .. })));
        let mut none = Attempts::new(TaskOptions::new().retry_if(|_| true));
        assert!(matches!(none.failed(task(), death(1)), Err(Error::WorkerDied { .. })));
        let mut picky =
            Attempts::new(TaskOptions::new().retries(1).retry_if(|error| error.to_string().contains("yes")));
        assert!(matches!(picky.failed(task(), raised()), Err(Error::Raised { .. })));
        assert!(picky.failed(task(), Error::raised(task(), "yes")).is_ok());
        let mut bad =
            Attempts::new(TaskOptions::new().retries(1).retry_if(|_| panic!("a predicate that panics")));
        assert!(matches!(bad.failed(task(), raised()), Err(Error::Raised { .. })));
        let cancelled = Error::Cancelled { task: task() };
        let mut willing = Attempts::new(TaskOptions::new().retries(9).retry_if(|_| true));
        assert!(matches!(willing.failed(task(), cancelled), Err(Error::Cancelled { .. })));
    }
}
