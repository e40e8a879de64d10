//! [`Group`]: futures that belong together, and end together.
//!
//! | how it ends | waits for                | gives                          | and what has not ended then        |
//! |-------------|--------------------------|--------------------------------|------------------------------------|
//! | `all`       | all                      | each outcome, in order         |                                    |
//! | `try_all`   | all, or the first error  | the values in order, or it     | is cancelled                       |
//! | `first`     | the first value          | it; if there is none, the first error | is cancelled                |
//! | dropped     | nothing                  |                                | is cancelled                       |
//!
//! Not here: any executor; futures of several can be in one group. The rule: nobody waits for what is cancelled, and an
//! error that comes of that is none that nobody read.

use std::fmt;

use super::as_completed::as_completed;
use super::handle::Future;
use crate::error::Error;

/// Futures that belong together: all are wanted, or the first that comes, or all unless one fails.
///
/// To **cancel** one that has not ended is to [cancel](Future::cancel) it: it never runs, or it runs on and is told
/// ([`task::cancelled`](crate::task::cancelled)). With [`kill_running`](Self::kill_running) it is [killed](Future::kill) where the
/// engine can, which worker processes can be.
///
/// ```
/// use concurrent_futures::{Executor, Group, ProcessPoolExecutor, init};
///
/// fn search((from, to): (u64, u64)) -> Result<u64, String> {
///     (from..to).find(|n| n * n == 1_000_000).ok_or("not here".to_string())
/// }
///
/// fn main() -> Result<(), concurrent_futures::Error> {
///     init();
///     let pool = ProcessPoolExecutor::new(2)?;
///     let parts = [(0, 500), (500, 900), (900, 2_000)];
///     // Whoever finds it ends the search.
///     let found: Group<_> = parts.map(|part| pool.try_submit(search, part)).into_iter().collect();
///     assert_eq!(found.first()?, 1_000);
///     // All, or the first error.
///     let all: Group<_> = parts.map(|part| pool.try_submit(search, part)).into_iter().collect();
///     assert!(all.try_all().is_err());
///     Ok(())
/// }
/// ```
#[must_use = "dropping a group cancels what is in it"]
pub struct Group<T> {
    futures: Vec<Future<T>>,
    kills: bool,
}

impl<T> Group<T> {
    /// An empty one.
    pub fn new() -> Self {
        Group { futures: Vec::new(), kills: false }
    }

    /// Is what runs killed, where that is possible, when it is cancelled? Default: no.
    pub fn kill_running(mut self, kill: bool) -> Self {
        self.kills = kill;
        self
    }

    /// Adds a future.
    pub fn push(&mut self, future: Future<T>) {
        self.futures.push(future);
    }

    /// How many futures are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.futures.len()
    }

    /// Is none in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.futures.is_empty()
    }

    /// Waits for all, and gives their outcomes in the order in which they were added.
    #[must_use]
    pub fn all(mut self) -> Vec<Result<T, Error>> {
        std::mem::take(&mut self.futures).into_iter().map(Future::result).collect()
    }

    /// Waits for all, and gives their values in the order in which they were added. The first error, as they come, ends
    /// it: the rest is cancelled, and not waited for.
    ///
    /// # Errors
    ///
    /// The error of the future that failed first.
    pub fn try_all(mut self) -> Result<Vec<T>, Error> {
        let failed = as_completed(&self.futures).find_map(Future::exception);
        match failed {
            Some(error) => Err(error),
            None => std::mem::take(&mut self.futures).into_iter().map(Future::result).collect(),
        }
    }

    /// Waits for the first that has a value, and gives it. The rest is cancelled, and not waited for.
    ///
    /// # Errors
    ///
    /// The error that came first, if all have failed; [`Error::InvalidArgument`] of an empty group.
    pub fn first(mut self) -> Result<T, Error> {
        let mut first_error = None;
        let winner = as_completed(&self.futures).find_map(|future| match future.exception() {
            None => Some(future.id()),
            Some(error) => {
                first_error.get_or_insert(error);
                None
            }
        });
        let at = winner.and_then(|id| self.futures.iter().position(|future| future.id() == id));
        match (at, first_error) {
            (Some(at), _) => self.futures.swap_remove(at).result(),
            (None, Some(error)) => Err(error),
            (None, None) => {
                Err(Error::invalid("the group is empty", "add a future before you wait for the first"))
            }
        }
    }
}

impl<T> Drop for Group<T> {
    fn drop(&mut self) {
        for future in self.futures.drain(..).filter(|future| !future.done()) {
            if self.kills {
                future.kill();
            } else {
                future.cancel();
            }
            // It ends as it was asked to, so there is no error that somebody missed.
            future.add_done_callback(|_| ());
        }
    }
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Group::new()
    }
}

impl<T> Extend<Future<T>> for Group<T> {
    fn extend<I: IntoIterator<Item = Future<T>>>(&mut self, futures: I) {
        self.futures.extend(futures);
    }
}

impl<T> FromIterator<Future<T>> for Group<T> {
    fn from_iter<I: IntoIterator<Item = Future<T>>>(futures: I) -> Self {
        Group { futures: futures.into_iter().collect(), kills: false }
    }
}

impl<T> fmt::Debug for Group<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("futures", &self.futures).field("kill_running", &self.kills).finish()
    }
}
