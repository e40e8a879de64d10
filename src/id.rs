//! What names a call: the number of its future, the name of its function, the number of its pool.

use std::cell::Cell;
use std::fmt;

use crate::primitives::Ordering;
use crate::primitives::statics::{AtomicU32, AtomicU64};

/// The number of a future, unique in its process; it names the call in every error.
///
/// ```
/// use std::collections::HashSet;
/// use concurrent_futures::{FutureId, Promise};
///
/// let (_one, first) = Promise::<u32>::new();
/// let (_other, second) = Promise::<u32>::new();
/// let ids: HashSet<FutureId> = [first.id(), second.id()].into();
/// assert_eq!(ids.len(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FutureId(u64);

impl FutureId {
    /// Each thread takes a block of numbers at a time, so that those who submit at the same time do not wait for
    /// each other.
    pub(crate) fn next() -> Self {
        const BLOCK: u64 = 256;
        static NEXT: AtomicU64 = AtomicU64::new(1);
        std::thread_local! {
            static MINE: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
        }
        let (mut next, mut end) = MINE.get();
        if next == end {
            next = NEXT.fetch_add(BLOCK, Ordering::Relaxed);
            end = next + BLOCK;
        }
        MINE.set((next + 1, end));
        FutureId(next)
    }

    /// The number itself.
    ///
    /// ```
    /// use concurrent_futures::Promise;
    ///
    /// let (_promise, future) = Promise::<u32>::new();
    /// let number: u64 = future.id().get();
    /// assert_eq!(number.to_string(), future.id().to_string());
    /// ```
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FutureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which call an error speaks of: the name of its function and the id of its future.
///
/// Displays as `` `my_crate::resize` (task 17) ``.
///
/// ```
/// use concurrent_futures::{Executor, SerialExecutor};
///
/// fn parse(text: String) -> Result<u32, std::num::ParseIntError> {
///     text.parse()
/// }
///
/// let error = SerialExecutor::new().try_submit(parse, "many".to_string()).result().unwrap_err();
/// let task = error.task().unwrap();
/// assert!(task.name.ends_with("parse"));
/// println!("{task}");                                 // `my_crate::parse` (task 17)
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TaskRef {
    /// The function, as [`std::any::type_name`] gives it; `promise` for one made by hand.
    pub name: &'static str,
    /// The id of the future that stands for the call.
    pub id: FutureId,
}

impl fmt::Display for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (task {})", self.name, self.id)
    }
}

/// The number of a pool, unique in its process: where a call is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home(u32);

impl Home {
    /// Of calls that are in no pool.
    pub(crate) const NONE: Home = Home(0);

    /// The pool with that number.
    pub(crate) fn of(number: u32) -> Home {
        Home(number)
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Home(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
