//! [`Group`]: futures that belong together, and end together.
//!
//! Not here: waiting (`as_completed.rs`, `wait.rs`). The rule: a future that a group drops has been cancelled, or was
//! over, or runs.

use std::fmt;

use super::as_completed::as_completed;
use super::handle::Future;
use super::wait::{ReturnWhen, wait};
use crate::error::Error;

/// Futures of one type, of any executors, that are waited for together: [`all`](Self::all),
/// [`try_all`](Self::try_all), [`first`](Self::first). Dropping it cancels what has not started.
///
/// Inside a worker it waits as everything does: what is queued in the worker's own pool is run there and then.
///
/// ```
/// use concurrent_futures::{Executor, Group, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let group: Group<u32> = (1..=3).map(|n| pool.submit(|n: u32| n * n, n)).collect();
/// assert_eq!(group.try_all()?, [1, 4, 9]);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "a group that is dropped cancels what has not started"]
pub struct Group<T> {
    futures: Vec<Future<T>>,
    kill_rest: bool,
    wait_for_rest: Option<bool>,
}

impl<T> Group<T> {
    /// A group without futures.
    ///
    /// ```
    /// use concurrent_futures::Group;
    ///
    /// let group = Group::<u32>::new();
    /// assert!(group.is_empty());
    /// ```
    pub fn new() -> Self {
        Group { futures: Vec::new(), kill_rest: false, wait_for_rest: None }
    }

    /// Adds a future.
    ///
    /// ```
    /// use concurrent_futures::{Group, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let mut group = Group::new();
    /// group.push(pool.spawn(|| 20));
    /// group.push(pool.submit(|n: u32| n + 2, 20));
    /// assert_eq!(group.try_all()?, [20, 22]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn push(&mut self, future: Future<T>) {
        self.futures.push(future);
    }

    /// How many futures it has.
    ///
    /// ```
    /// use concurrent_futures::{Group, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let group: Group<u32> = (0..3).map(|n| pool.submit(|n: u32| n, n)).collect();
    /// assert_eq!(group.len(), 3);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.futures.len()
    }

    /// Has it none?
    ///
    /// ```
    /// use concurrent_futures::{Group, Promise};
    ///
    /// let mut group = Group::new();
    /// assert!(group.is_empty());
    /// group.push(Promise::<u32>::new().1);
    /// assert!(!group.is_empty());
    /// # drop(group.all());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.futures.is_empty()
    }

    /// What is not wanted any more is not only cancelled, but killed where it runs and the engine can
    /// ([`Future::kill`]); also when the group is dropped.
    ///
    /// ```
    /// use concurrent_futures::{Executor, Group, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(2)?;
    ///     let search = |ends: bool| if ends { 42 } else { loop {} };
    ///     let race: Group<u32> = [true, false].map(|ends| pool.submit(search, ends)).into_iter().collect();
    ///     assert_eq!(race.kill_rest(true).first()?, 42);                   // nothing runs on for ever
    ///     Ok(())
    /// }
    /// ```
    pub fn kill_rest(mut self, yes: bool) -> Self {
        self.kill_rest = yes;
        self
    }

    /// Is what runs and is not wanted any more waited for? Default: by [`try_all`](Self::try_all) it is, by
    /// [`first`](Self::first) it is not.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    /// use std::sync::Arc;
    /// use concurrent_futures::{Group, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let running = Arc::new(AtomicU32::new(0));
    /// let group: Group<u32> = (0..8)
    ///     .map(|n| {
    ///         let running = Arc::clone(&running);
    ///         pool.spawn(move || {
    ///             running.fetch_add(1, Relaxed);
    ///             running.fetch_sub(1, Relaxed);
    ///             n
    ///         })
    ///     })
    ///     .collect();
    /// group.wait_for_rest(true).first()?;
    /// assert_eq!(running.load(Relaxed), 0);                           // of this group nothing runs any more
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn wait_for_rest(mut self, yes: bool) -> Self {
        self.wait_for_rest = Some(yes);
        self
    }

    /// Waits for all; their outcomes in the order of the futures.
    ///
    /// ```
    /// use concurrent_futures::{Group, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let group: Group<u32> = ["1", "two"].map(|text| pool.try_submit(str::parse, text)).into_iter().collect();
    /// let outcomes = group.all();
    /// assert!(outcomes[0].is_ok() && outcomes[1].is_err());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn all(mut self) -> Vec<Result<T, Error>> {
        std::mem::take(&mut self.futures).into_iter().map(Future::result).collect()
    }

    /// Waits for all; their values in the order of the futures.
    ///
    /// The first error, first in time, cancels the rest. Calls that run already are waited for, so that when this
    /// returns nothing of the group runs any more, as in `trio` and asyncio's `TaskGroup`. (A thread cannot be stopped:
    /// that takes as long as the call. See [`wait_for_rest`](Self::wait_for_rest) and [`kill_rest`](Self::kill_rest).)
    /// Values that were there by then are dropped, other errors are ignored.
    ///
    /// ```
    /// use concurrent_futures::{Group, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let parse = |texts: [&'static str; 2]| -> Group<u32> {
    ///     texts.map(|text| pool.try_submit(str::parse, text)).into_iter().collect()
    /// };
    /// assert_eq!(parse(["1", "2"]).try_all()?, [1, 2]);
    /// assert!(parse(["1", "two"]).try_all().is_err());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first that came; being cancelled is one.
    pub fn try_all(mut self) -> Result<Vec<T>, Error> {
        let mut values: Vec<Option<T>> = self.futures.iter().map(|_| None).collect();
        let mut completed = as_completed(std::mem::take(&mut self.futures).into_iter().enumerate());
        while let Some((index, future)) = completed.next() {
            match future.result() {
                Ok(value) => values[index] = Some(value),
                Err(error) => {
                    let rest = completed.take_all().map(|(_, future)| future).collect();
                    self.end(rest, true);
                    return Err(error);
                }
            }
        }
        Ok(values.into_iter().flatten().collect())
    }

    /// The first value; errors are passed over. The rest is cancelled; calls that run already run on, unseen, unless
    /// [`kill_rest`](Self::kill_rest) or [`wait_for_rest`](Self::wait_for_rest) say otherwise.
    ///
    /// ```
    /// use concurrent_futures::{Group, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let mut group = Group::new();
    /// group.push(pool.try_submit(|name| std::fs::read(name), "/no/such/file"));
    /// group.push(pool.submit(|text: &str| text.as_bytes().to_vec(), "the default"));
    /// assert_eq!(group.first()?, b"the default");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If none has a value: the first error that came, and of an empty group [`Error::InvalidArgument`].
    pub fn first(mut self) -> Result<T, Error> {
        let mut completed = as_completed(std::mem::take(&mut self.futures));
        let mut failed = None;
        while let Some(future) = completed.next() {
            match future.result() {
                Ok(value) => {
                    let rest = completed.take_all().collect();
                    self.end(rest, false);
                    return Ok(value);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| {
            Error::invalid("the first result of a group without futures was asked for", "push some first")
        }))
    }

    fn end(&self, rest: Vec<Future<T>>, wait_for_rest: bool) {
        self.call_off(&rest);
        rest.iter().for_each(Future::excuse);
        if self.wait_for_rest.unwrap_or(wait_for_rest) {
            drop(wait(rest, ReturnWhen::AllCompleted));
        }
    }

    fn call_off(&self, futures: &[Future<T>]) {
        for future in futures {
            if self.kill_rest {
                // That it was lost is what was asked for.
                if future.kill() {
                    future.excuse();
                }
            } else {
                future.cancel();
            }
        }
    }
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Group::new()
    }
}

impl<T> FromIterator<Future<T>> for Group<T> {
    fn from_iter<I: IntoIterator<Item = Future<T>>>(futures: I) -> Self {
        let mut group = Group::new();
        group.extend(futures);
        group
    }
}

impl<T> Extend<Future<T>> for Group<T> {
    fn extend<I: IntoIterator<Item = Future<T>>>(&mut self, futures: I) {
        // One by one: if the iterator panics, the group has what it gave.
        futures.into_iter().for_each(|future| self.futures.push(future));
    }
}

impl<T> Drop for Group<T> {
    fn drop(&mut self) {
        self.call_off(&self.futures);
    }
}

impl<T> fmt::Debug for Group<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("futures", &self.futures).finish_non_exhaustive()
    }
}
