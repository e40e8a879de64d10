//! [`Map`]: the results of one function over many items, in the order of the items.
//!
//! Items travel in chunks, one task each; every item keeps its own outcome. Eager, all chunks
//! are submitted at the call; with a `buffersize`, a chunk is submitted when there is room. Where threads can share
//! the items there are no chunks: results come from a course (`laps.rs`), which finds out how many items a worker
//! best takes at a time.
//!
//! Not here: how a course is run (`task/course.rs`), what is done about items that nobody has asked for yet
//! (`oversight.rs`), how many results are waited for at a time (`stride.rs`), results in the order in which they come
//! (`unordered.rs`).

mod laps;
mod options;
mod oversight;
mod stride;
mod unordered;

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use laps::{Lap, Laps};
pub use options::MapOptions;
use oversight::Oversight;
use stride::Stride;
pub use unordered::MapUnordered;

use crate::error::Error;
use crate::future::state::Want;
use crate::future::{AsFuture, Future, Promise, Watched, block, deadline_after, waits_for_itself};
use crate::outcome::discard;
use crate::unread;

/// What a chunk's task returns: an outcome an item. Boxed errors keep the usual item small.
pub(crate) type Outcomes<R> = Vec<Result<R, Box<Error>>>;

/// The results of a `map`: an iterator of `Result<R, Error>` in the order of the items.
///
/// An error does not end it, unless it is to [fail fast](MapOptions::fail_fast). Dropping it cancels what has not
/// started. A map whose options were wrong yields the one error that says so.
///
/// Where results come quickly one after the other, `next` sleeps for several of them at a time, so that
/// the workers keep their cores: then a result may be handed over half a millisecond after it is there.
/// [`next_timeout`](Self::next_timeout) does not, nor does anybody inside a worker of a pool.
///
/// One that pulls its input ends early when the executor takes nothing more (shut down, broken)
/// and when the time is over: what was submitted comes out, then the error of what was refused,
/// then nothing. A panic of such an input comes out of `next` in its place, behind all results of
/// what came before it. (Without a `buffersize` it comes out of `map` itself, and cancels what
/// has not started.)
///
/// # How many
///
/// It knows how many results are to come: one for each item, also where items travel in chunks. So a progress bar
/// knows its end, and moves with every item:
///
/// ```
/// use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
/// use indicatif::ProgressIterator;                    // the crate `indicatif`
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let squares = pool.map_with(|n: u64| n * n, 0..100, MapOptions::new().chunksize(10));
/// assert_eq!(squares.len(), 100);
/// for square in squares.progress() {
///     assert!(square? < 10_000);
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// Some maps cannot know it. `len` is then a number to draw a bar with, `size_hint` says what is certain:
///
/// | a map that | `len` | `size_hint`, the least and the most |
/// |---|---|---|
/// | has all its items, or pulls them from an input that knows how many they are | exact | both are `len` |
/// | fails fast | if nothing fails | 0, `len` |
/// | pulls, within a time limit | if there is time for all | what was submitted, `len` |
/// | pulls from an input that does not know (`filter`) | the least | `len`, what the input says |
/// | pulls from an input without end | what was submitted | `len`, none |
///
/// Where the two differ, an adapter that has a `len` of its own (`zip`, `take`) panics if asked for it, and so does
/// `progress` behind it: count there by `progress_count`. (A pool that is shut down midway ends a map that pulls
/// before its number.)
#[must_use = "a map that is dropped cancels what has not started"]
pub struct Map<'a, R> {
    /// Submits the next chunk; absent when the input is at its end.
    feed: Option<Feed<'a, R>>,
    buffersize: usize,
    /// No more than `buffersize`, so that a chunk fits when there is nothing else.
    chunksize: usize,
    oversight: Option<Oversight>,
    /// Submitted, results not taken yet.
    chunks: VecDeque<Chunk<R>>,
    /// Of a map that chooses its chunks itself, in the place of the feed and the chunks; and how many of its
    /// results are still to be taken.
    course: Option<Arc<dyn Laps<R>>>,
    ahead: usize,
    /// The values that are being yielded, and the index behind the last.
    values: std::vec::IntoIter<R>,
    values_end: usize,
    /// The results that are being yielded, and the index of the next.
    current: std::vec::IntoIter<Result<R, Box<Error>>>,
    index: usize,
    /// Items submitted, ever.
    submitted: usize,
    /// Items submitted and not yielded.
    outstanding: usize,
    stride: Stride,
    /// What the input ended with, if it panicked: comes after the results.
    panic: Option<Payload>,
    limit: Option<Duration>,
    deadline: Option<Instant>,
    expired: bool,
    /// Somebody has asked for a result.
    iterated: bool,
}

type Payload = Box<dyn Any + Send>;

struct Feed<'a, R> {
    /// Pulls a chunk and submits it, or refuses it with an error that is given.
    next: Box<dyn FnMut(Option<Error>) -> Pulled<R> + Send + 'a>,
    /// The least number of items that are still to come, and the most.
    left: (usize, Option<usize>),
}

/// The future of a chunk, and how many items it has.
type Submitted<R> = (Future<Outcomes<R>>, usize);

/// What an input gave: it may give its last chunk and a panic.
type Pulled<R> = (Option<Submitted<R>>, Result<(), Payload>);

struct Chunk<R> {
    future: Future<Outcomes<R>>,
    /// The index of its first item.
    first: usize,
    items: usize,
}

impl<R> AsFuture for Chunk<R> {
    fn watched(&self) -> Watched<'_> {
        self.future.watched()
    }
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
        while !map.has_failed() {
            let (chunk, end) = pull(&mut items, map.chunksize);
            // The map goes with it, and cancels.
            end.unwrap_or_else(|panic| resume_unwind(panic));
            if chunk.is_empty() {
                break;
            }
            let count = chunk.len();
            map.accept((submit(chunk), count));
        }
        map
    }

    /// Lazy if there is a `buffersize`.
    pub(crate) fn new<A>(
        items: impl Iterator<Item = A> + Send + 'a,
        options: &MapOptions,
        mut submit: impl FnMut(Vec<A>) -> Future<Outcomes<R>> + Send + 'a,
    ) -> Self
    where
        R: Send + 'static,
    {
        if options.buffersize.is_none() || options.check().is_err() {
            return Map::eager(items, options, submit);
        }
        let mut map = Map::empty(options);
        let size = map.chunksize;
        let left = match items.size_hint() {
            // An input without end says the largest number there is; the map may end all the same.
            (_, None) => (0, None),
            known => known,
        };
        let mut items = items.fuse();
        let next = move |refusal: Option<Error>| {
            let (chunk, end) = pull(&mut items, size);
            let count = chunk.len();
            let submitted = (count > 0).then(|| (refusal.map_or_else(|| submit(chunk), failed), count));
            (submitted, end)
        };
        map.feed = Some(Feed { next: Box::new(next), left });
        map.fill(false);
        map
    }

    /// Of items that are on their course.
    pub(crate) fn of_course(course: Arc<dyn Laps<R>>, items: usize) -> Self {
        let mut map = Map::empty(&MapOptions::new());
        map.course = Some(course);
        map.ahead = items;
        map
    }

    fn empty(options: &MapOptions) -> Self {
        Map {
            feed: None,
            buffersize: options.buffersize.unwrap_or(usize::MAX),
            chunksize: options.chunk(),
            oversight: Oversight::of(options),
            chunks: VecDeque::new(),
            course: None,
            ahead: 0,
            values: Vec::new().into_iter(),
            values_end: 0,
            current: Vec::new().into_iter(),
            index: 0,
            submitted: 0,
            outstanding: 0,
            stride: Stride::default(),
            panic: None,
            limit: options.timeout,
            deadline: options.timeout.and_then(deadline_after),
            expired: false,
            iterated: false,
        }
    }

    /// The results as they come, each with the index of its item.
    ///
    /// ```
    /// use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let options = MapOptions::new().buffersize(16);
    /// for (index, square) in pool.map_with(|n: u64| n * n, 10..20, options).unordered() {
    ///     println!("{}² = {}", 10 + index, square?);
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn unordered(self) -> MapUnordered<'a, R> {
        MapUnordered::new(self)
    }

    /// As `next`, but waits for `limit` at the most: if the next result is not there by then,
    /// [`Error::TimedOut`] is returned in its place, and it can be asked for again.
    ///
    /// ```
    /// use std::sync::{Mutex, mpsc};
    /// use std::time::Duration;
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let (tell, told) = mpsc::channel();
    /// let told = Mutex::new(told);
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let mut map = pool.map(move |n: u32| n + told.lock().unwrap().recv().unwrap(), [1]);
    /// assert!(matches!(map.next_timeout(Duration::ZERO), Some(Err(Error::TimedOut { .. }))));
    /// tell.send(41)?;
    /// assert_eq!(map.next().unwrap()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_timeout(&mut self, limit: Duration) -> Option<Result<R, Error>> {
        self.iterated = true;
        if self.values.len() == 0 && self.current.len() == 0 && self.ahead > 0 {
            let next = self.values_end;
            if !self.run_ahead(deadline_after(limit)) {
                return Some(Err(too_late(next, Some(limit))));
            }
        }
        self.fill(self.is_late());
        if let Some(chunk) = self.chunks.front()
            && self.current.len() == 0
            && !self.expired
        {
            // The map's own limit may come first, and is for good.
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let in_time = chunk.future.wait_timeout(left.map_or(limit, |left| limit.min(left)));
            if !in_time && !self.is_late() {
                return Some(Err(too_late(chunk.first, Some(limit))));
            }
        }
        self.next()
    }

    fn refused(mut self, error: Error) -> Self {
        self.current = vec![Err(Box::new(error))].into_iter();
        self.outstanding = 1;
        self
    }

    fn fails_fast(&self) -> bool {
        self.oversight.as_ref().is_some_and(Oversight::fails_fast)
    }

    fn has_failed(&self) -> bool {
        self.oversight.as_ref().is_some_and(Oversight::has_failed)
    }

    fn accept(&mut self, (future, items): Submitted<R>) {
        let chunk = Chunk { future, first: self.submitted, items };
        self.submitted += items;
        self.outstanding += items;
        if let Some(oversight) = &self.oversight {
            oversight.oversee(&chunk);
        }
        self.chunks.push_back(chunk);
    }

    /// Submits while there is room for a whole chunk. Once it is `late` nothing is submitted, but
    /// whether the input was at its end is to be known: what it still gives, is refused.
    fn fill(&mut self, late: bool) {
        while self.outstanding.saturating_add(self.chunksize) <= self.buffersize {
            if self.has_failed() {
                self.feed = None;
            }
            let Some(feed) = &mut self.feed else { return };
            let (chunk, end) = (feed.next)(late.then(|| too_late(self.submitted, self.limit)));
            if let Some((_, items)) = &chunk {
                feed.left.0 = feed.left.0.saturating_sub(*items);
                feed.left.1 = feed.left.1.map(|most| most.saturating_sub(*items));
            }
            if end.is_err() || chunk.as_ref().is_none_or(|(future, _)| future.is_refused()) {
                self.feed = None;
            }
            self.panic = end.err();
            if let Some(chunk) = chunk {
                self.accept(chunk);
            }
            if late {
                self.expire();
            }
        }
    }

    fn is_late(&self) -> bool {
        !self.expired && self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Makes the results of a chunk the current ones.
    fn open(&mut self, chunk: Chunk<R>) {
        let Chunk { future, first, items } = chunk;
        let outcome = self.wait_for(future, first);
        let outcomes = match outcome {
            // A worker that answers with another number of results than it was given items.
            Ok(mut outcomes) => {
                outcomes.truncate(items);
                let missing = items - outcomes.len();
                outcomes.extend((0..missing).map(|_| Err(Box::new(too_few()))));
                outcomes
            }
            Err(error) => (0..items).map(|_| Err(Box::new(error.clone()))).collect(),
        };
        self.index = first;
        self.current = outcomes.into_iter();
    }

    /// Makes the next results of a course the current ones. False: the time is over before there are any.
    fn run_ahead(&mut self, deadline: Option<Instant>) -> bool {
        let Some(course) = &self.course else { return true };
        let lap = loop {
            if let Some(lap) = course.take() {
                break lap;
            }
            let wait = || block(&**course, Want::Value, deadline);
            let is_there = match deadline {
                None => self.stride.wait(self.ahead - 1, |places, until| course.nap(places + 1, until), wait),
                Some(_) => wait(),
            };
            if !is_there {
                if !course.waits_for_itself(Want::Value) {
                    if course.has(Want::Value) {
                        continue;
                    }
                    return false;
                }
                // There will be no result while this thread waits for it.
                let error = waits_for_itself(&**course);
                self.forget_course();
                self.outstanding += 1;
                self.current = vec![Err(Box::new(error))].into_iter();
                return true;
            }
        };
        let Lap { first, values, error } = lap;
        self.values_end = first + values.len();
        self.ahead -= values.len();
        self.values = values.into_iter();
        if let Some(error) = error {
            self.ahead -= 1;
            self.values_end += 1;
            self.index = first;
            self.outstanding += 1;
            self.current = vec![Err(error)].into_iter();
        }
        true
    }

    /// Nothing more is wanted of it.
    fn forget_course(&mut self) {
        self.ahead = 0;
        if let Some(course) = self.course.take() {
            course.leave(self.iterated);
        }
    }

    /// The outcome of a chunk, within what is left of the time.
    fn wait_for(&mut self, future: Future<Outcomes<R>>, first: usize) -> Result<Outcomes<R>, Error> {
        let (chunks, deadline) = (&self.chunks, self.deadline);
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        let nap = |places: usize, until: Instant| {
            chunks[places - 1].future.nap(deadline.map_or(until, |deadline| until.min(deadline)));
        };
        let wait = || match deadline {
            None => {
                future.wait();
                true
            }
            Some(deadline) => future.wait_timeout(left(deadline)),
        };
        let in_time = self.expired || future.done() || self.stride.wait(chunks.len(), nap, wait);
        if deadline.is_none() {
            return future.result();
        }
        if !in_time {
            self.expire();
            future.cancel();
        }
        // What is over is there, though the hook may still be looking at it.
        if future.done() && !(self.expired && future.cancelled()) {
            return future.result();
        }
        forget(&future);
        Err(too_late(first, self.limit))
    }

    /// The next of the current results, and its index.
    fn next_of_current(&mut self) -> Option<(usize, Result<R, Error>)> {
        if let Some(value) = self.values.next() {
            return Some((self.values_end - self.values.len() - 1, Ok(value)));
        }
        let outcome = self.current.next()?;
        let index = self.index;
        self.count(outcome.is_err());
        Some((index, outcome.map_err(|error| *error)))
    }

    /// One of the current results has been taken.
    #[inline]
    fn count(&mut self, is_error: bool) {
        self.index += 1;
        self.outstanding -= 1;
        if is_error && self.fails_fast() {
            self.leave();
        }
    }

    /// The time is over.
    fn expire(&mut self) {
        self.expired = true;
        self.feed = None;
        for chunk in &self.chunks {
            chunk.future.cancel();
        }
    }

    /// There is nothing left but what the input ended with.
    fn end<T>(&mut self) -> Option<T> {
        self.panic.take().map(|panic| resume_unwind(panic))
    }

    /// No more results are wanted.
    fn leave(&mut self) {
        if !self.iterated {
            unread::report(first_error(self.current.as_slice()));
        }
        self.feed = None;
        self.forget_course();
        self.values = Vec::new().into_iter();
        self.outstanding = 0;
        self.current = Vec::new().into_iter();
        discard(self.panic.take());
        for chunk in std::mem::take(&mut self.chunks) {
            chunk.future.cancel();
            if self.iterated {
                forget(&chunk.future);
            }
        }
    }
}

/// The first error among the results of a chunk.
pub(crate) fn first_error<R>(outcomes: &[Result<R, Box<Error>>]) -> Option<&Error> {
    outcomes.iter().find_map(|outcome| outcome.as_ref().err().map(|error| &**error))
}

/// Says that nobody will miss the outcome: whoever iterates has read as far as they liked.
fn forget<R>(future: &Future<Outcomes<R>>) {
    future.add_done_callback(|_| ());
}

fn too_few() -> Error {
    Error::broken("the worker returned too few results for its chunk", None)
}

/// What became of one item of a chunk.
fn outcome_of<'e, R>(outcome: Result<&'e Outcomes<R>, &'e Error>, item: usize) -> Result<(), &'e Error> {
    match outcome?.get(item) {
        Some(Err(error)) => Err(error),
        // One that is missing is told when it is asked for.
        Some(Ok(_)) | None => Ok(()),
    }
}

/// Takes a chunk out of the input. If that panics, what it had given is not lost.
fn pull<A>(items: &mut impl Iterator<Item = A>, size: usize) -> (Vec<A>, Result<(), Payload>) {
    let mut chunk = Vec::new();
    let end = catch_unwind(AssertUnwindSafe(|| items.take(size).for_each(|item| chunk.push(item))));
    (chunk, end)
}

/// `first` is the first item of its chunk.
fn too_late(first: usize, limit: Option<Duration>) -> Error {
    Error::TimedOut { what: format!("item {first} of a map"), limit: limit.unwrap_or_default() }
}

fn failed<T: Send + 'static>(error: Error) -> Future<T> {
    let (promise, future) = Promise::new();
    promise.fail(error);
    future
}

impl<R> Iterator for Map<'_, R> {
    type Item = Result<R, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(value) = self.values.next() {
            return Some(Ok(value));
        }
        match self.current.next() {
            // Whoever gets a value has asked for one before: there is none until a chunk was waited for.
            Some(Ok(value)) => {
                self.count(false);
                Some(Ok(value))
            }
            Some(Err(error)) => {
                self.iterated = true;
                self.count(true);
                Some(Err(*error))
            }
            None => self.next_in_turn(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = self.feed.as_ref().map_or(Some(0), |feed| feed.left.1);
        let least = match &self.feed {
            // It may end with the next.
            _ if self.fails_fast() => 0,
            // Nothing is submitted any more when the time is over.
            Some(_) if self.limit.is_some() => self.submitted_left(),
            _ => self.len(),
        };
        (least, most.and_then(|most| self.submitted_left().checked_add(most)))
    }
}

impl<R> Map<'_, R> {
    /// Results that are to come from what was submitted.
    fn submitted_left(&self) -> usize {
        self.outstanding + self.values.len() + self.ahead
    }

    #[inline(never)]
    fn next_in_turn(&mut self) -> Option<Result<R, Error>> {
        self.iterated = true;
        loop {
            if let Some((_, outcome)) = self.next_of_current() {
                return Some(outcome);
            }
            if self.ahead > 0 {
                self.run_ahead(None);
                continue;
            }
            self.fill(self.is_late());
            let Some(chunk) = self.chunks.pop_front() else {
                return self.end();
            };
            self.open(chunk);
        }
    }
}

impl<R> ExactSizeIterator for Map<'_, R> {
    fn len(&self) -> usize {
        self.submitted_left().saturating_add(self.feed.as_ref().map_or(0, |feed| feed.left.0))
    }
}

impl<R> Drop for Map<'_, R> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<R> fmt::Debug for Map<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("outstanding", &self.submitted_left()).finish_non_exhaustive()
    }
}
