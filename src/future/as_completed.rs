//! [`as_completed`]: futures, of any executors, in the order in which they end.
//!
//! One mailbox, as in `wait.rs`: a future puts its number in when it is over, and the iterator
//! hands out the item of that number.

use std::fmt;
use std::time::{Duration, Instant};

use super::block::{arrival, deadline_after};
use super::own_pool::{StandIn, help};
use super::state::Want;
use super::wait::AsFuture;
use super::watch::Watcher;
use crate::error::Error;
use crate::primitives::channel::{self, Receiver, Sender};

/// Yields the items as their futures end: those that are over first, in the order given.
///
/// Watching begins at the call, not at the first `next`. Dropping the iterator cancels nothing.
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor, as_completed};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let futures = [30, 10, 20].map(|n| (n, pool.submit(|n: u32| n * n, n)));
/// for (n, future) in as_completed(futures) {
///     println!("{n}² = {}", future.result()?);
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub fn as_completed<I>(futures: I) -> AsCompleted<I::Item>
where
    I: IntoIterator,
    I::Item: AsFuture,
{
    let mut completed = AsCompleted::default();
    futures.into_iter().for_each(|item| completed.push(item));
    completed
}

/// As [`as_completed`], for `limit` at the most, counted from the call: then, when all that are
/// over have been yielded, [`Error::TimedOut`] comes once and ends the iteration.
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Error, Promise, as_completed_timeout};
///
/// let (promise, quick) = Promise::new();
/// let (_promise, slow) = Promise::new();
/// promise.fulfil(42);
/// let mut completed = as_completed_timeout([&quick, &slow], Duration::from_millis(1));
/// assert!(completed.next().unwrap().unwrap() == &quick);
/// assert!(matches!(completed.next(), Some(Err(Error::TimedOut { .. }))));
/// assert!(completed.next().is_none());
/// ```
pub fn as_completed_timeout<I>(futures: I, limit: Duration) -> AsCompletedTimeout<I::Item>
where
    I: IntoIterator,
    I::Item: AsFuture,
{
    let deadline = deadline_after(limit);
    let completed = as_completed(futures);
    AsCompletedTimeout { total: completed.left, completed, limit, deadline, over: false }
}

/// The iterator of [`as_completed`]. More futures can be added midway.
///
/// Its length is exact: what has not been yielded, with what was [pushed](Self::push) up to now.
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor, as_completed};
/// use indicatif::{ProgressBar, ProgressIterator};     // the crate `indicatif`
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let square = |n: u32| pool.submit(|n: u32| n * n, n);
/// for future in as_completed([1, 2, 3].map(square)).progress() {
///     assert!(future.result()? < 10);
/// }
///
/// // Where more are pushed, the bar is to be told.
/// let bar = ProgressBar::new(1);
/// let mut squares = as_completed([square(4)]);
/// while let Some(future) = squares.next() {
///     bar.inc(1);
///     if future.result()? == 16 {
///         squares.push(square(5));
///         bar.inc_length(1);
///     }
/// }
/// assert_eq!((bar.position(), bar.length()), (2, Some(2)));
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "iterators do nothing unless they are iterated"]
pub struct AsCompleted<I: AsFuture> {
    /// The items that have not been yielded, by number; empty slots are in `free`.
    items: Vec<Option<I>>,
    free: Vec<usize>,
    /// All slots before this one are empty.
    lowest: usize,
    left: usize,
    mailbox: Sender<usize>,
    arrivals: Receiver<usize>,
}

impl<I: AsFuture> Default for AsCompleted<I> {
    /// An empty one, to be filled by [`push`](AsCompleted::push).
    fn default() -> Self {
        let (mailbox, arrivals) = channel::unbounded();
        AsCompleted { items: Vec::new(), free: Vec::new(), lowest: 0, left: 0, mailbox, arrivals }
    }
}

impl<I: AsFuture> AsCompleted<I> {
    /// Adds a future, and one to the length; an iterator that had come to its end goes on.
    ///
    /// ```
    /// use concurrent_futures::{ThreadPoolExecutor, as_completed};
    ///
    /// // How often a number is halved or tripled until it is 1, a step a call.
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let step = |n: u64| if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
    /// let mut steps = 0;
    /// let mut calls = as_completed([pool.submit(step, 27)]);
    /// while let Some(call) = calls.next() {
    ///     steps += 1;
    ///     match call.result()? {
    ///         1 => break,
    ///         n => calls.push(pool.submit(step, n)),
    ///     }
    /// }
    /// assert_eq!(steps, 111);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn push(&mut self, item: I) {
        let number = self.free.pop().unwrap_or(self.items.len());
        let cell = item.watched().cell();
        // The future of the very call that we are in can only say so: its `result` is that error.
        let never = cell.waits_for_itself(Want::End);
        if never || !cell.watch(&self.watcher(number), Want::End) {
            let _ = self.mailbox.send(number);
        }
        if number == self.items.len() {
            self.items.push(Some(item));
        } else {
            self.items[number] = Some(item);
        }
        self.lowest = self.lowest.min(number);
        self.left += 1;
    }

    fn watcher(&self, number: usize) -> Watcher {
        Watcher::Mailbox(self.mailbox.clone(), number)
    }

    /// All that has not been yielded, over or not.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = I> {
        let mut all = std::mem::take(self);
        for number in 0..all.items.len() {
            all.unwatch(number);
        }
        std::mem::take(&mut all.items).into_iter().flatten()
    }

    fn unwatch(&self, number: usize) {
        if let Some(item) = &self.items[number] {
            item.watched().cell().unwatch(&self.watcher(number));
        }
    }

    /// `None`: nothing left, or too late.
    pub(crate) fn next_by(&mut self, deadline: Option<Instant>) -> Option<I> {
        if self.left == 0 {
            return None;
        }
        let number = loop {
            if let Ok(number) = self.arrivals.try_recv() {
                break number;
            }
            self.lowest += self.items[self.lowest..].iter().take_while(|item| item.is_none()).count();
            let open = || self.items[self.lowest..].iter().flatten().map(|item| item.watched().cell());
            // What it waits for may only be waiting for it.
            if deadline.is_none() && help(open()) {
                continue;
            }
            let _stand_in = StandIn::while_waiting_for(open());
            break arrival(&self.arrivals, deadline)?;
        };
        self.left -= 1;
        self.free.push(number);
        self.items[number].take()
    }
}

impl<I: AsFuture> Iterator for AsCompleted<I> {
    type Item = I;

    fn next(&mut self) -> Option<I> {
        self.next_by(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<I: AsFuture> ExactSizeIterator for AsCompleted<I> {}

impl<I: AsFuture> Drop for AsCompleted<I> {
    fn drop(&mut self) {
        (0..self.items.len()).for_each(|number| self.unwatch(number));
    }
}

impl<I: AsFuture> fmt::Debug for AsCompleted<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("left", &self.left).finish_non_exhaustive()
    }
}

/// The iterator of [`as_completed_timeout`].
///
/// How many it yields is not known before it ends, so it has no `len`: if the time is not enough, one error comes in the place
/// of all that are missing. Its `size_hint` has the most, which is enough for a progress bar (`try_progress` of `indicatif`).
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{ThreadPoolExecutor, as_completed_timeout};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let calls = [1, 2, 3].map(|n| pool.submit(|n: u32| n * n, n));
/// for call in as_completed_timeout(calls, Duration::from_secs(60)) {
///     println!("{}", call?.result()?);        // the first `?`: all of them were in time
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "iterators do nothing unless they are iterated"]
pub struct AsCompletedTimeout<I: AsFuture> {
    completed: AsCompleted<I>,
    total: usize,
    limit: Duration,
    deadline: Option<Instant>,
    over: bool,
}

impl<I: AsFuture> AsCompletedTimeout<I> {
    /// As [`AsCompleted::push`]. The deadline stays.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{ThreadPoolExecutor, as_completed_timeout};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let mut calls = as_completed_timeout([pool.spawn(|| 20)], Duration::from_secs(60));
    /// calls.push(pool.spawn(|| 22));
    /// let sum: u32 = calls.map(|call| call?.result()).sum::<Result<_, _>>()?;
    /// assert_eq!(sum, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn push(&mut self, item: I) {
        self.total += 1;
        self.completed.push(item);
    }
}

impl<I: AsFuture> Iterator for AsCompletedTimeout<I> {
    type Item = Result<I, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        if let Some(item) = self.completed.next_by(self.deadline) {
            return Some(Ok(item));
        }
        let left = self.completed.left;
        if left == 0 {
            return None;
        }
        self.over = true;
        let what = format!("{left} of {} futures", self.total);
        Some(Err(Error::TimedOut { what, limit: self.limit }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = if self.over { 0 } else { self.completed.left };
        (most.min(1), Some(most))
    }
}

impl<I: AsFuture> fmt::Debug for AsCompletedTimeout<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompletedTimeout")
            .field("completed", &self.completed)
            .field("limit", &self.limit)
            .finish()
    }
}
