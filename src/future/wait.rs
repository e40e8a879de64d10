//! [`wait`]: blocks on many futures at once, of any executors.
//!
//! Each future that is still open puts its number into one mailbox when it is over; `wait`
//! reads the mailbox until it has seen enough, or until the deadline.

use std::iter;
use std::time::Duration;

use super::block::{arrival, deadline_after};
use super::cell::Watch;
use super::handle::Future;
use super::own_pool::{StandIn, help};
use super::shared::SharedFuture;
use super::state::Want;
use super::watch::Watcher;
use crate::primitives::channel;

/// Something that has a future in it: `Future<T>`, `SharedFuture<T>`, a reference to one, or a
/// pair `(K, F)` of anything and one of those.
///
/// It can be a trait object: `&dyn AsFuture` lets futures of different types wait together.
///
/// ```
/// use concurrent_futures::{AsFuture, ReturnWhen, ThreadPoolExecutor, wait};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let (number, text) = (pool.spawn(|| 42), pool.spawn(|| "text"));
/// let both: [&dyn AsFuture; 2] = [&number, &text];
/// assert!(wait(both, ReturnWhen::AllCompleted).not_done.is_empty());
/// assert_eq!((number.result()?, text.result()?), (42, "text"));
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub trait AsFuture {
    #[doc(hidden)]
    fn watched(&self) -> Watched<'_>;
}

/// A future without its type. Opaque.
#[doc(hidden)]
pub struct Watched<'a>(&'a dyn Watch);

impl<'a> Watched<'a> {
    pub(super) fn cell(self) -> &'a dyn Watch {
        self.0
    }
}

impl std::fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        super::cell::describe(f, "Watched", self.0)
    }
}

impl<T> AsFuture for Future<T> {
    fn watched(&self) -> Watched<'_> {
        Watched(self.watch())
    }
}

impl<T> AsFuture for SharedFuture<T> {
    fn watched(&self) -> Watched<'_> {
        Watched(self.watch())
    }
}

impl<F: AsFuture + ?Sized> AsFuture for &F {
    fn watched(&self) -> Watched<'_> {
        (**self).watched()
    }
}

impl<K, F: AsFuture> AsFuture for (K, F) {
    fn watched(&self) -> Watched<'_> {
        self.1.watched()
    }
}

/// When [`wait`] returns.
///
/// ```
/// use concurrent_futures::{Promise, ReturnWhen, wait};
///
/// let (promise, first) = Promise::new();
/// let (_pending, second) = Promise::new();
/// promise.fulfil(42);
/// let waited = wait([&first, &second], ReturnWhen::FirstCompleted);
/// assert!(waited.done == [&first] && waited.not_done == [&second]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ReturnWhen {
    /// As soon as any future is over.
    FirstCompleted,
    /// As soon as any future ends with an error (being cancelled is none), or when all are over.
    FirstException,
    /// When all are over.
    #[default]
    AllCompleted,
}

/// What [`wait`] gives back: everything it was given, in the order it was given, in two parts.
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Promise, ReturnWhen, Waited, wait_timeout};
///
/// let (_promise, future) = Promise::<u32>::new();
/// let limit = Duration::from_millis(1);
/// let Waited { done, not_done } = wait_timeout([("slow", future)], ReturnWhen::AllCompleted, limit);
/// assert!(done.is_empty());
/// for (name, future) in not_done {
///     println!("{name} is late");
///     future.cancel();
/// }
/// ```
#[derive(Debug)]
pub struct Waited<I> {
    /// Those that are over: value, error or cancelled.
    pub done: Vec<I>,
    /// The others.
    pub not_done: Vec<I>,
}

/// Blocks until the futures are over, as `when` says.
///
/// Takes anything that iterates over futures, references to futures, or pairs of a key and a
/// future, and gives the same items back. Costs one allocation a future that is still open.
/// Inside a call it does not wait for the future of that very call.
///
/// ```
/// use concurrent_futures::{Executor, ReturnWhen, ThreadPoolExecutor, wait};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let futures = ["a", "bb", "ccc"].map(|text| (text, pool.submit(|text: &str| text.len(), text)));
/// let waited = wait(futures, ReturnWhen::AllCompleted);
/// assert!(waited.not_done.is_empty());
/// for (text, future) in waited.done {
///     println!("{text}: {}", future.result()?);
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub fn wait<I>(futures: I, when: ReturnWhen) -> Waited<I::Item>
where
    I: IntoIterator,
    I::Item: AsFuture,
{
    wait_for(futures, when, None)
}

/// As [`wait`], for `limit` at the most. Running out of time is no error: the futures come back
/// as they are.
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Promise, ReturnWhen, wait_timeout};
///
/// let (promise, quick) = Promise::new();
/// let (_promise, slow) = Promise::new();
/// promise.fulfil(42);
/// let waited = wait_timeout([&quick, &slow], ReturnWhen::AllCompleted, Duration::from_millis(1));
/// assert!(waited.done == [&quick] && waited.not_done == [&slow]);
/// ```
pub fn wait_timeout<I>(futures: I, when: ReturnWhen, limit: Duration) -> Waited<I::Item>
where
    I: IntoIterator,
    I::Item: AsFuture,
{
    wait_for(futures, when, Some(limit))
}

fn wait_for<I>(futures: I, when: ReturnWhen, limit: Option<Duration>) -> Waited<I::Item>
where
    I: IntoIterator,
    I::Item: AsFuture,
{
    let deadline = limit.and_then(deadline_after);
    let items: Vec<I::Item> = futures.into_iter().collect();
    let is_enough = |cell: &dyn Watch| match when {
        ReturnWhen::FirstCompleted => cell.phase().is_over(),
        ReturnWhen::FirstException => cell.failed(),
        ReturnWhen::AllCompleted => false,
    };

    let cells = || items.iter().map(|item| item.watched().cell());
    let mut enough = cells().any(is_enough);
    if deadline.is_none() {
        for cell in cells() {
            // What it waits for may only be waiting for it.
            if !enough && help(iter::once(cell)) {
                enough = is_enough(cell);
            }
        }
    }

    if !enough {
        let _stand_in = StandIn::while_waiting_for(cells());
        let (mailbox, arrivals) = channel::unbounded();
        let watcher = |number| Watcher::Mailbox(mailbox.clone(), number);
        let mut open = vec![false; items.len()];
        for (number, item) in items.iter().enumerate() {
            let cell = item.watched().cell();
            if cell.waits_for_itself(Want::End) {
                continue;
            }
            open[number] = cell.watch(&watcher(number), Want::End);
            // Over since we looked.
            enough |= !open[number] && is_enough(cell);
        }
        let mut left = open.iter().filter(|open| **open).count();
        while !enough && left > 0 {
            let Some(number) = arrival(&arrivals, deadline) else { break };
            open[number] = false;
            left -= 1;
            enough = is_enough(items[number].watched().cell());
        }
        for (number, item) in items.iter().enumerate().filter(|(number, _)| open[*number]) {
            item.watched().cell().unwatch(&watcher(number));
        }
    }

    let (done, not_done) = items.into_iter().partition(|item| item.watched().cell().phase().is_over());
    Waited { done, not_done }
}
