//! What a map sees of a course: results, a stretch at a time.
//!
//! Not here: who runs the items (`task/course.rs`).

use std::time::Instant;

use crate::error::Error;
use crate::future::cell::Watch;

/// Some results that lie side by side: values from the item `first` on, or one error.
pub(crate) struct Lap<R> {
    pub(crate) first: usize,
    pub(crate) values: Vec<R>,
    pub(crate) error: Option<Box<Error>>,
}

/// All items of one map, as the one who wants the results sees them. To wait for it is to wait for the next lap.
pub(crate) trait Laps<R>: Watch {
    /// Takes what is there: the next in order, or any.
    fn take(&self) -> Option<Lap<R>>;
    /// From here on, any lap is the next.
    fn in_any_order(&self);
    /// Sleeps until there are so many results to take, or no more of them will come, or until then.
    fn nap(&self, results: usize, until: Instant);
    /// No more is wanted. Did anybody ask for a result? If not, errors are told to the hook for those.
    fn leave(&self, was_read: bool);
}
