//! [`Map`]: the results of one function over many items, in the order of the items.
//!
//! Items travel in chunks, one task each; every item keeps its own outcome. Eager, all chunks
//! are submitted at the call; with a `buffersize`, a chunk is submitted when there is room.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::future::{Future, deadline_after};

/// What a chunk's task returns: an outcome an item. Boxed errors keep the usual item small.
pub(crate) type Outcomes<R> = Vec<Result<R, Box<Error>>>;

/// How [`Executor::map_with`](crate::Executor::map_with) goes about it. The default is what
/// `map` does: one item a task, all submitted at once, no time limit.
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let options = MapOptions::new().chunksize(10).buffersize(100).timeout(Duration::from_secs(60));
/// let squares = pool.map_with(|n: u64| n * n, 0.., options);      // without end
/// assert_eq!(squares.take(3).collect::<Result<Vec<_>, _>>()?, [0, 1, 4]);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MapOptions {
    chunksize: Option<usize>,
    buffersize: Option<usize>,
    timeout: Option<Duration>,
}

impl MapOptions {
    /// One item a task, all submitted at once, no time limit.
    pub fn new() -> Self {
        MapOptions::default()
    }

    /// Items a task. More of them share the cost of a task, which matters for calls of a few
    /// microseconds; they run one after the other in one worker. Each has its own result, but
    /// if the worker process dies, its whole chunk is lost. At least 1.
    pub fn chunksize(mut self, items: usize) -> Self {
        self.chunksize = Some(items);
        self
    }

    /// The most items that are taken from the input and whose result has not been yielded: the
    /// input is pulled as results are taken. At least 1.
    pub fn buffersize(mut self, items: usize) -> Self {
        self.buffersize = Some(items);
        self
    }

    /// Time for all results, counted from the call of `map_with`. When it is over, results that
    /// are there still come out; for each of the others comes [`Error::TimedOut`], those that
    /// have not started are cancelled, and no more items are pulled.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    fn check(&self) -> Result<(), Error> {
        for (name, value) in [("chunksize", self.chunksize), ("buffersize", self.buffersize)] {
            if value == Some(0) {
                return Err(Error::invalid(format!("the {name} of a map is 0"), "give at least 1"));
            }
        }
        Ok(())
    }

    fn chunk(&self) -> usize {
        self.chunksize.unwrap_or(1).min(self.buffersize.unwrap_or(usize::MAX))
    }
}

/// The results of a `map`: an iterator of `Result<R, Error>` in the order of the items.
///
/// An error does not end it. Its length is exact, unless the input was pulled lazily and did not
/// know its own: then `len` is the least that it can be. Dropping it cancels what has not
/// started. A map whose options were wrong yields the one error that says so.
#[must_use = "a map that is dropped cancels what has not started"]
pub struct Map<'a, R> {
    /// Submits the next chunk; absent when the input is at its end.
    feed: Option<Feed<'a, R>>,
    buffersize: usize,
    /// No more than `buffersize`, so that a chunk fits when there is nothing else.
    chunksize: usize,
    /// Submitted, results not taken yet.
    chunks: VecDeque<Chunk<R>>,
    /// The results that are being yielded.
    current: std::vec::IntoIter<Result<R, Box<Error>>>,
    /// Items submitted and not yielded.
    outstanding: usize,
    limit: Option<Duration>,
    deadline: Option<Instant>,
    expired: bool,
}

struct Feed<'a, R> {
    next: Box<dyn FnMut() -> Option<Chunk<R>> + Send + 'a>,
    /// The least number of items that are still to come, and the most.
    left: (usize, Option<usize>),
}

struct Chunk<R> {
    future: Future<Outcomes<R>>,
    items: usize,
}

impl<'a, R> Map<'a, R> {
    /// Submits all now, borrows nothing.
    pub(crate) fn eager<A>(
        items: impl Iterator<Item = A>,
        options: &MapOptions,
        mut submit: impl FnMut(Vec<A>) -> Future<Outcomes<R>>,
    ) -> Self {
        let mut map = Map::empty(options);
        if let Err(error) = options.check() {
            return map.refused(error);
        }
        let mut items = items.fuse();
        while let Some(chunk) = next_chunk(&mut items, options.chunk(), &mut submit) {
            map.accept(chunk);
        }
        map
    }

    /// Lazy if there is a `buffersize`.
    pub(crate) fn new<A>(
        items: impl Iterator<Item = A> + Send + 'a,
        options: &MapOptions,
        mut submit: impl FnMut(Vec<A>) -> Future<Outcomes<R>> + Send + 'a,
    ) -> Self {
        if options.buffersize.is_none() || options.check().is_err() {
            return Map::eager(items, options, submit);
        }
        let mut map = Map::empty(options);
        let size = options.chunk();
        let left = items.size_hint();
        let mut items = items.fuse();
        map.feed = Some(Feed { next: Box::new(move || next_chunk(&mut items, size, &mut submit)), left });
        map.fill();
        map
    }

    fn empty(options: &MapOptions) -> Self {
        Map {
            feed: None,
            buffersize: options.buffersize.unwrap_or(usize::MAX),
            chunksize: options.chunk(),
            chunks: VecDeque::new(),
            current: Vec::new().into_iter(),
            outstanding: 0,
            limit: options.timeout,
            deadline: options.timeout.and_then(deadline_after),
            expired: false,
        }
    }

    fn refused(mut self, error: Error) -> Self {
        self.current = vec![Err(Box::new(error))].into_iter();
        self.outstanding = 1;
        self
    }

    fn accept(&mut self, chunk: Chunk<R>) {
        self.outstanding += chunk.items;
        self.chunks.push_back(chunk);
    }

    /// Submits while there is room for a whole chunk.
    fn fill(&mut self) {
        while self.outstanding.saturating_add(self.chunksize) <= self.buffersize {
            let Some(feed) = &mut self.feed else { return };
            let Some(chunk) = (feed.next)() else {
                self.feed = None;
                return;
            };
            feed.left.0 = feed.left.0.saturating_sub(chunk.items);
            feed.left.1 = feed.left.1.map(|most| most.saturating_sub(chunk.items));
            self.accept(chunk);
        }
    }

    /// Waits for the results of a chunk, within what is left of the time.
    fn take(&mut self, Chunk { mut future, items }: Chunk<R>) -> Outcomes<R> {
        let outcome = match self.deadline {
            None => future.result(),
            Some(deadline) if !self.expired => {
                let outcome = future.result_timeout(deadline.saturating_duration_since(Instant::now()));
                match outcome {
                    // Ours, or the outcome itself? Then it can be had again.
                    Err(Error::TimedOut { .. }) => future.try_result().unwrap_or_else(|| {
                        self.expire();
                        future.cancel();
                        self.too_late()
                    }),
                    outcome => outcome,
                }
            }
            Some(_) => match future.try_result() {
                None | Some(Err(Error::Cancelled { .. })) => self.too_late(),
                Some(outcome) => outcome,
            },
        };
        outcome.unwrap_or_else(|error| (0..items).map(|_| Err(Box::new(error.clone()))).collect())
    }

    fn expire(&mut self) {
        self.expired = true;
        self.feed = None;
        self.cancel();
    }

    fn too_late(&self) -> Result<Outcomes<R>, Error> {
        Err(Error::TimedOut { what: "an item of a map".into(), limit: self.limit.unwrap_or_default() })
    }

    fn cancel(&self) {
        for chunk in &self.chunks {
            chunk.future.cancel();
        }
    }
}

fn next_chunk<A, R>(
    items: &mut impl Iterator<Item = A>,
    size: usize,
    submit: &mut impl FnMut(Vec<A>) -> Future<Outcomes<R>>,
) -> Option<Chunk<R>> {
    let chunk: Vec<A> = items.take(size).collect();
    let items = chunk.len();
    (items > 0).then(|| Chunk { future: submit(chunk), items })
}

impl<R> Iterator for Map<'_, R> {
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(outcome) = self.current.next() {
                self.outstanding -= 1;
                return Some(outcome.map_err(|error| *error));
            }
            self.fill();
            let chunk = self.chunks.pop_front()?;
            let items = chunk.items;
            let mut outcomes = self.take(chunk);
            // A worker that answers with another number of results than it was given items.
            outcomes.truncate(items);
            while outcomes.len() < items {
                outcomes.push(Err(Box::new(Error::broken(
                    "the worker returned too few results for its chunk",
                    None,
                ))));
            }
            self.current = outcomes.into_iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.feed.as_ref().map_or((0, Some(0)), |feed| feed.left);
        (self.outstanding.saturating_add(least), most.and_then(|most| self.outstanding.checked_add(most)))
    }
}

impl<R> ExactSizeIterator for Map<'_, R> {
    fn len(&self) -> usize {
        self.size_hint().0
    }
}

impl<R> Drop for Map<'_, R> {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl<R> fmt::Debug for Map<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("outstanding", &self.outstanding).finish_non_exhaustive()
    }
}
