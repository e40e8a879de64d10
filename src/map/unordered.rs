//! [`MapUnordered`]: the results of a map as they come.
//!
//! The same map underneath, with `as_completed` in the place of the order.

use std::fmt;

use super::{Chunk, Map};
use crate::error::Error;
use crate::future::AsCompleted;

/// The results of a map as they come: an iterator of `(index, Result<R, Error>)`, where `index`
/// is the place of the item in the input.
///
/// Made by [`Executor::map_unordered`](crate::Executor::map_unordered), or by [`Map::unordered`],
/// which keeps the options of its map. All that holds for [`Map`] holds here: one result for each
/// item, an error does not end it, its length is exact, dropping it cancels what has not started.
/// After a [time limit](super::MapOptions::timeout) the results that are there come out first.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let mut squares = [0; 3];
/// for (index, square) in pool.map_unordered(|n: u64| n * n, [1, 2, 3]) {
///     squares[index] = square?;
/// }
/// assert_eq!(squares, [1, 4, 9]);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "a map that is dropped cancels what has not started"]
pub struct MapUnordered<'a, R> {
    map: Map<'a, R>,
    /// The chunks that are under way.
    completed: AsCompleted<Chunk<R>>,
}

impl<'a, R> MapUnordered<'a, R> {
    pub(super) fn new(map: Map<'a, R>) -> Self {
        if let Some(course) = &map.course {
            course.in_any_order();
        }
        let mut unordered = MapUnordered { map, completed: AsCompleted::default() };
        unordered.watch();
        unordered
    }

    /// Waits for whatever has been submitted meanwhile too.
    fn watch(&mut self) {
        self.map.chunks.drain(..).for_each(|chunk| self.completed.push(chunk));
    }

    /// Back to the map: what is over first.
    fn unwatch(&mut self) {
        let (done, open): (Vec<_>, Vec<_>) = self.completed.take_all().partition(|chunk| chunk.future.done());
        self.map.chunks.extend(done.into_iter().chain(open));
    }

    /// The next chunk that is over. After the deadline, also one that is not.
    fn next_chunk(&mut self) -> Option<Chunk<R>> {
        if !self.map.expired {
            self.map.fill(self.map.is_late());
            self.watch();
            // `fill` may have found that the time is over.
            if !self.map.expired
                && let Some(chunk) = self.completed.next_by(self.map.deadline)
            {
                return Some(chunk);
            }
            self.unwatch();
            if !self.map.chunks.is_empty() {
                self.map.expire();
            }
        }
        self.map.chunks.pop_front()
    }
}

impl<R> Iterator for MapUnordered<'_, R> {
    type Item = (usize, Result<R, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        self.map.iterated = true;
        loop {
            if let Some(next) = self.map.next_of_current() {
                // The map has left what is its own.
                if next.1.is_err() && self.map.fails_fast() {
                    self.unwatch();
                    self.map.leave();
                }
                return Some(next);
            }
            if self.map.ahead > 0 {
                self.map.run_ahead(None);
                continue;
            }
            let Some(chunk) = self.next_chunk() else {
                return self.map.end();
            };
            self.map.open(chunk);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.map.size_hint()
    }
}

impl<R> ExactSizeIterator for MapUnordered<'_, R> {
    fn len(&self) -> usize {
        self.map.len()
    }
}

impl<R> Drop for MapUnordered<'_, R> {
    fn drop(&mut self) {
        // The map, which is dropped next, cancels what is its own.
        self.unwatch();
    }
}

impl<R> fmt::Debug for MapUnordered<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapUnordered")
            .field("outstanding", &self.map.submitted_left())
            .finish_non_exhaustive()
    }
}
