//! [`Queue`]: items go in at one end and out at the other, in whichever thread or worker process.
//!
//! ```text
//!              room           items, first in first out           got
//!   put ── wait ──▶ │ value │ packed │ value │ … │ ── wait ──▶ a thread of the host: a value
//!                                                          └─▶ a worker: packed ──▶ in hand ── done ──▶ gone
//!                                                                                      └── dies ──▶ lost, to be asked for
//! ```
//!
//! A value is encoded when a worker gets it, and what a worker puts is decoded when somebody gets it. What goes from worker
//! to worker is never decoded in between.
//!
//! Not here: who waits for whom (`hall.rs`). The rule: an item is in one place, and no code of the user runs under the
//! lock.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::hall::{Bell, Call, Door, Hall, Place};
use super::handle::{Handle, Remote, carried, objects_in};
use super::served::{Answer, Errand, Op, Packed, Served, Told, next_id};
use crate::enclosed::{Enclosure, Received, Towards, collect, unpacking};
use crate::error::Error;
use crate::future::deadline_after;
use crate::id::{FutureId, TaskRef};
use crate::outcome::{arrived, discard};
use crate::portable::{self, Portable, guarded};
use crate::wire::message::Failure;

/// Items that some put in and others get, first in, first out, in whichever thread or worker process.
///
/// Clones, also those that travel as arguments, are handles of the same queue. It is Python's `queue.Queue` and
/// `multiprocessing.Queue`: bounded, with time-outs, and [closed](Self::close) when nothing more is to come. It has no
/// feeder thread and no pipe that is shared, so it does not hang or break when a process dies that uses it.
///
/// An item is in the hands of a worker process from when it gets it until the same thread gets the next one, or the call
/// ends. If the process dies meanwhile, the item is neither lost nor given to another one, which it may kill as well:
/// [`take_lost`](Self::take_lost) gives it back.
///
/// Between threads of one process an item costs some hundred nanoseconds. A worker process asks its host, over a socket: that
/// is five microseconds where both have a core, and fifty where one of them has to be woken; and the bytes of an item are
/// copied. To hand out work, `submit` and `map` are quicker.
///
/// ```
/// use concurrent_futures::{Executor, ProcessPoolExecutor, sync::Queue};
///
/// fn consume((numbers, squares): (Queue<u64>, Queue<u64>)) -> usize {
///     numbers.iter().filter_map(Result::ok).filter(|n| squares.put(n * n).is_ok()).count()
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     concurrent_futures::init();
///     let (numbers, squares) = (Queue::bounded(4), Queue::unbounded());
///     let pool = ProcessPoolExecutor::new(2)?;
///     let consumers = [(); 2].map(|()| pool.submit(consume, (numbers.clone(), squares.clone())));
///     for n in 1..=10 {
///         numbers.put(n)?;                                // waits while four are in it
///     }
///     numbers.close();
///     let mut consumed = 0;
///     for consumer in consumers {
///         consumed += consumer.result()?;
///     }
///     squares.close();
///     assert_eq!(consumed, 10);
///     assert_eq!(squares.iter().sum::<Result<u64, _>>()?, 385);
///     Ok(())
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound = "T: Portable")]
pub struct Queue<T: Portable> {
    handle: Handle<Items<T>>,
}

/// Why there is no item.
///
/// ```
/// use concurrent_futures::sync::{GetError, Queue};
///
/// let queue = Queue::<u32>::unbounded();
/// assert!(matches!(queue.try_get(), Err(GetError::Empty)));
/// queue.close();
/// assert!(matches!(queue.try_get(), Err(GetError::Closed)));
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// Nothing is in it, and nothing will come.
    #[error("the queue is closed, and nothing is left in it")]
    Closed,
    /// Nothing came in time.
    #[error("the queue is empty")]
    Empty,
    /// There was one that could not be encoded or decoded. It is gone.
    #[error("an item of the queue was lost: {0}")]
    Failed(#[source] Error),
}

/// Why an item was not put in; and the item.
///
/// ```
/// use concurrent_futures::sync::{PutError, Queue};
///
/// let queue = Queue::bounded(1);
/// queue.put(1).map_err(drop).unwrap();
/// assert!(matches!(queue.try_put(2), Err(PutError::Full(2))));
/// queue.close();
/// assert!(matches!(queue.put(3), Err(PutError::Closed(3))));
/// ```
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PutError<T> {
    /// Nothing is put in any more.
    #[error("the queue is closed")]
    Closed(T),
    /// There was no room in time.
    #[error("the queue is full")]
    Full(T),
    /// It cannot be encoded.
    #[error("the item cannot be put into the queue: {1}")]
    Failed(T, #[source] Error),
}

impl<T> PutError<T> {
    /// The item.
    ///
    /// ```
    /// use concurrent_futures::sync::Queue;
    ///
    /// let queue = Queue::unbounded();
    /// queue.close();
    /// let error = queue.put("late".to_string()).unwrap_err();
    /// assert_eq!(error.into_inner(), "late");
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            PutError::Closed(item) | PutError::Full(item) | PutError::Failed(item, _) => item,
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Closed(_) => "Closed(..)",
            PutError::Full(_) => "Full(..)",
            PutError::Failed(..) => "Failed(..)",
        })
    }
}

/// The queue itself.
struct Items<T> {
    id: u64,
    capacity: usize,
    state: Hall<State<T>>,
}

struct State<T> {
    items: VecDeque<Item<T>>,
    is_closed: bool,
    /// What threads of workers have got, and are not done with.
    in_hand: BTreeMap<(u64, u64), Packed>,
    lost: Vec<Packed>,
}

enum Item<T> {
    Value(T),
    Packed(Packed),
}

impl<T: Portable> Queue<T> {
    /// One in which at most so many items wait: who puts in more waits for room. At least 1.
    ///
    /// ```
    /// use concurrent_futures::sync::Queue;
    ///
    /// let queue = Queue::bounded(2);
    /// queue.put(1)?;
    /// queue.put(2)?;
    /// assert!(queue.try_put(3).is_err());
    /// # Ok::<(), concurrent_futures::sync::PutError<i32>>(())
    /// ```
    #[must_use]
    pub fn bounded(capacity: usize) -> Self {
        let state =
            State { items: VecDeque::new(), is_closed: false, in_hand: BTreeMap::new(), lost: Vec::new() };
        Queue {
            handle: Handle::new(Items { id: next_id(), capacity: capacity.max(1), state: Hall::new(state) }),
        }
    }

    /// One in which any number of items can wait.
    ///
    /// ```
    /// use concurrent_futures::sync::Queue;
    ///
    /// let queue = Queue::unbounded();
    /// for item in 0..1000 {
    ///     queue.put(item)?;                       // never waits
    /// }
    /// assert_eq!(queue.len(), 1000);
    /// # Ok::<(), concurrent_futures::sync::PutError<i32>>(())
    /// ```
    #[must_use]
    pub fn unbounded() -> Self {
        Queue::bounded(usize::MAX)
    }

    /// Puts an item in; waits for room.
    ///
    /// ```
    /// use concurrent_futures::sync::Queue;
    ///
    /// let queue = Queue::bounded(1);
    /// std::thread::scope(|s| {
    ///     s.spawn(|| (0..3).for_each(|item| queue.put(item).unwrap()));       // waits until there is room
    ///     assert_eq!([(); 3].map(|()| queue.get().unwrap()), [0, 1, 2]);
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// [`PutError::Closed`]; in a worker process also [`PutError::Failed`]. Both give the item back.
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_for(item, None)
    }

    /// The same, but waits for `limit` at the most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::sync::{PutError, Queue};
    ///
    /// let queue = Queue::bounded(1);
    /// queue.put(1)?;
    /// assert!(matches!(queue.put_timeout(2, Duration::from_millis(1)), Err(PutError::Full(2))));
    /// # Ok::<(), PutError<i32>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`PutError::Full`].
    pub fn put_timeout(&self, item: T, limit: Duration) -> Result<(), PutError<T>> {
        self.put_for(item, Some(limit))
    }

    /// The same without waiting.
    ///
    /// ```
    /// use concurrent_futures::sync::{PutError, Queue};
    ///
    /// let queue = Queue::bounded(1);
    /// queue.try_put(1)?;
    /// assert!(matches!(queue.try_put(2), Err(PutError::Full(2))));
    /// # Ok::<(), PutError<i32>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put), and [`PutError::Full`].
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_for(item, Some(Duration::ZERO))
    }

    /// Gets the next item; waits for one.
    ///
    /// ```
    /// use concurrent_futures::sync::{GetError, Queue};
    ///
    /// let queue = Queue::unbounded();
    /// queue.put(42)?;
    /// queue.close();
    /// assert_eq!(queue.get()?, 42);
    /// assert!(matches!(queue.get(), Err(GetError::Closed)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] when the queue is closed and empty; [`GetError::Failed`] for an item that came as bytes that
    /// are no `T`, or could not be sent here.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_for(None)
    }

    /// The same, but waits for `limit` at the most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::sync::{GetError, Queue};
    ///
    /// let queue = Queue::<u32>::unbounded();
    /// assert!(matches!(queue.get_timeout(Duration::from_millis(1)), Err(GetError::Empty)));
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`GetError::Empty`].
    pub fn get_timeout(&self, limit: Duration) -> Result<T, GetError> {
        self.get_for(Some(limit))
    }

    /// The same without waiting.
    ///
    /// ```
    /// use concurrent_futures::sync::{GetError, Queue};
    ///
    /// let queue = Queue::unbounded();
    /// assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    /// queue.put(42)?;
    /// assert_eq!(queue.try_get()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`GetError::Empty`].
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_for(Some(Duration::ZERO))
    }

    /// All items that there are and that come, until the queue is closed and empty. An item that failed is one of them.
    ///
    /// ```
    /// use concurrent_futures::sync::Queue;
    ///
    /// let queue = Queue::unbounded();
    /// for item in [20, 22] {
    ///     queue.put(item)?;
    /// }
    /// queue.close();
    /// assert_eq!(queue.iter().sum::<Result<i32, _>>()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Result<T, GetError>> {
        std::iter::from_fn(|| match self.get() {
            Err(GetError::Closed) => None,
            got => Some(got),
        })
    }

    /// Nothing is put in any more; what is in it can be got. Who waits for room is told, and who waits for an item when
    /// there is none left. Without effect on one that is closed.
    ///
    /// ```
    /// use concurrent_futures::sync::Queue;
    ///
    /// let queue = Queue::unbounded();
    /// queue.put(1)?;
    /// queue.close();
    /// assert!(queue.put(2).is_err());
    /// assert_eq!(queue.get()?, 1);                // what is in it can be got
    /// assert!(queue.get().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) {
        match &self.handle {
            Handle::Here(items) => items.close(),
            Handle::There(remote) => {
                remote.ask(Op::Close, None);
            }
        }
    }

    /// Is it closed?
    ///
    /// ```
    /// use concurrent_futures::sync::Queue;
    ///
    /// let queue = Queue::<u32>::unbounded();
    /// assert!(!queue.is_closed());
    /// queue.close();
    /// assert!(queue.is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.handle {
            Handle::Here(items) => items.is_closed(),
            Handle::There(remote) => remote.ask(Op::IsClosed, None) == Told::Is(true),
        }
    }

    /// How many items wait in it.
    ///
    /// ```
    /// use concurrent_futures::sync::Queue;
    ///
    /// let queue = Queue::unbounded();
    /// queue.put("an item".to_string())?;
    /// assert_eq!(queue.len(), 1);
    /// # Ok::<(), concurrent_futures::sync::PutError<String>>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.size().0
    }

    /// Does none wait in it?
    ///
    /// ```
    /// use concurrent_futures::sync::Queue;
    ///
    /// let queue = Queue::unbounded();
    /// assert!(queue.is_empty());
    /// queue.put(1)?;
    /// assert!(!queue.is_empty());
    /// # Ok::<(), concurrent_futures::sync::PutError<i32>>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many may wait in it.
    ///
    /// ```
    /// use concurrent_futures::sync::Queue;
    ///
    /// assert_eq!(Queue::<u32>::bounded(8).capacity(), 8);
    /// assert_eq!(Queue::<u32>::unbounded().capacity(), usize::MAX);
    /// ```
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.size().1
    }

    /// Takes out the items that were in the hands of worker processes which died: whoever knows that they may be done
    /// twice puts them in again. Only the process that has made the queue knows them; elsewhere there are none.
    ///
    /// One that cannot be decoded is left out.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor, sync::Queue};
    ///
    /// fn dies_with_one(items: Queue<u32>) {
    ///     let _item = items.get();
    ///     std::process::abort();
    /// }
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let (pool, items) = (ProcessPoolExecutor::new(1)?, Queue::unbounded());
    ///     items.put(7).unwrap();
    ///     assert!(pool.submit(dies_with_one, items.clone()).result().is_err());
    ///     assert_eq!(items.take_lost(), [7]);         // neither lost nor given to another
    ///     assert!(items.is_empty() && items.take_lost().is_empty());
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn take_lost(&self) -> Vec<T> {
        let Handle::Here(items) = &self.handle else { return Vec::new() };
        let lost = items.state.step(|state| (std::mem::take(&mut state.lost), Call::Nobody));
        lost.into_iter().filter_map(|packed| unpack(&packed).ok()).collect()
    }

    fn size(&self) -> (usize, usize) {
        match &self.handle {
            Handle::Here(items) => items.size(),
            Handle::There(remote) => match remote.ask(Op::Size, None) {
                Told::Numbers(len, capacity) => {
                    let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
                    (number(len), number(capacity))
                }
                _ => (0, 0),
            },
        }
    }

    fn put_for(&self, item: T, limit: Option<Duration>) -> Result<(), PutError<T>> {
        match &self.handle {
            Handle::Here(items) => items.put(item, limit.and_then(deadline_after)),
            Handle::There(remote) => put_there(remote, item, limit),
        }
    }

    fn get_for(&self, limit: Option<Duration>) -> Result<T, GetError> {
        match &self.handle {
            Handle::Here(items) => items.get(limit.and_then(deadline_after)),
            Handle::There(remote) => get_there(remote, limit),
        }
    }
}

fn put_there<T: Portable>(remote: &Remote, item: T, limit: Option<Duration>) -> Result<(), PutError<T>> {
    let mut bytes = Vec::new();
    let encode = || portable::encode(&item, &mut bytes, "argument");
    let (encoded, enclosed) = collect(Towards::Host, || guarded(name::<T>(), encode));
    if let Err(failure) = encoded {
        return Err(PutError::Failed(item, arrived(name::<T>(), failure)));
    }
    let handles = enclosed.iter().filter_map(Enclosure::handle).map(|carried| carried.id).collect();
    match remote.ask_with(Op::Put, limit, &bytes, handles).0 {
        Told::Done => Ok(()),
        Told::Closed => Err(PutError::Closed(item)),
        Told::Late => Err(PutError::Full(item)),
        told => Err(PutError::Failed(item, unheard_of(told))),
    }
}

fn get_there<T: Portable>(remote: &Arc<Remote>, limit: Option<Duration>) -> Result<T, GetError> {
    let (told, bytes) = remote.ask_with(Op::Get, limit, &[], Vec::new());
    match told {
        Told::Item { .. } => {
            remote.note_item();
            let decode = || portable::decode(&bytes, "return value");
            unpacking(&Received::default().sent_by_host(), || guarded(name::<T>(), decode))
                .map_err(|failure| GetError::Failed(arrived(name::<T>(), failure)))
        }
        Told::Closed => Err(GetError::Closed),
        Told::Late => Err(GetError::Empty),
        told => Err(GetError::Failed(unheard_of(told))),
    }
}

fn unheard_of(told: Told) -> Error {
    match told {
        Told::Failed(reason) => Error::broken(reason, None),
        told => Error::broken(format!("the host answered something else: {told:?}"), None),
    }
}

/// What errors call a queue.
fn name<T: Portable>() -> TaskRef {
    TaskRef { name: std::any::type_name::<Queue<T>>(), id: FutureId::next() }
}

fn unpack<T: Portable>(packed: &Packed) -> Result<T, Failure> {
    let decode = || portable::decode(&packed.bytes, "return value");
    unpacking(&Received::from(&carried(&packed.handles)[..]), || guarded(name::<T>(), decode))
}

fn pack<T: Portable>(item: &T) -> Result<Packed, Failure> {
    let mut bytes = Vec::new();
    let encode = || portable::encode(item, &mut bytes, "argument");
    let (encoded, enclosed) = collect(Towards::Worker, || guarded(name::<T>(), encode));
    encoded.map(|()| Packed { bytes: Arc::new(bytes), handles: objects_in(&enclosed).collect() })
}

impl<T: Portable> Items<T> {
    fn put(&self, item: T, deadline: Option<Instant>) -> Result<(), PutError<T>> {
        let mut item = Some(Item::Value(item));
        let put = self.state.wait(Door::Out, deadline, |state| state.put(&mut item, self.capacity));
        match (put, item) {
            (Some(true), _) => Ok(()),
            (Some(false), Some(Item::Value(item))) => Err(PutError::Closed(item)),
            (None, Some(Item::Value(item))) => Err(PutError::Full(item)),
            _ => unreachable!("what is not put in is still here"),
        }
    }

    fn get(&self, deadline: Option<Instant>) -> Result<T, GetError> {
        match self.state.wait(Door::In, deadline, State::get) {
            Some(Some(Item::Value(item))) => Ok(item),
            Some(Some(Item::Packed(packed))) => {
                unpack(&packed).map_err(|failure| GetError::Failed(arrived(name::<T>(), failure)))
            }
            Some(None) => Err(GetError::Closed),
            None => Err(GetError::Empty),
        }
    }

    fn close(&self) {
        self.state.step(|state| {
            state.is_closed = true;
            ((), Call::All)
        });
    }

    fn is_closed(&self) -> bool {
        self.state.step(|state| (state.is_closed, Call::Nobody))
    }

    fn size(&self) -> (usize, usize) {
        (self.state.step(|state| (state.items.len(), Call::Nobody)), self.capacity)
    }

    /// That thread of a worker is done with what it had.
    fn done(&self, errand: &Errand) {
        let key = (errand.client, errand.consumer);
        let done = self.state.step(|state| (state.in_hand.remove(&key), Call::Nobody));
        discard(done);
    }

    /// Gives an item to a worker.
    fn hand_out(&self, item: Item<T>, errand: &Errand) -> Answer {
        let packed = match item {
            Item::Packed(packed) => packed,
            Item::Value(value) => {
                let packed = pack(&value);
                discard(value);
                match packed {
                    Ok(packed) => packed,
                    Err(failure) => return Told::Failed(arrived(name::<T>(), failure).to_string()).into(),
                }
            }
        };
        let key = (errand.client, errand.consumer);
        let had = self.state.step(|state| (state.in_hand.insert(key, packed.clone()), Call::Nobody));
        discard(had);
        let handles = packed.handles.iter().map(|handle| handle.id()).collect();
        Answer { told: Told::Item { handles }, item: packed }
    }
}

impl<T> State<T> {
    /// `Some(false)`: it is closed, and the item still there.
    fn put(&mut self, item: &mut Option<Item<T>>, capacity: usize) -> Option<(bool, Call)> {
        if self.is_closed {
            return Some((false, Call::Nobody));
        }
        if self.items.len() >= capacity {
            return None;
        }
        self.items.extend(item.take());
        Some((true, Call::Some(Door::In, 1)))
    }

    /// `Some(None)`: it is closed, and empty.
    fn get(&mut self) -> Option<(Option<Item<T>>, Call)> {
        match self.items.pop_front() {
            Some(item) => Some((Some(item), Call::Some(Door::Out, 1))),
            None => self.is_closed.then_some((None, Call::Nobody)),
        }
    }
}

impl<T: Portable> Served for Items<T> {
    fn id(&self) -> u64 {
        self.id
    }

    fn serve(&self, errand: &mut Errand, bell: &Arc<dyn Bell>) -> Option<Answer> {
        Some(match errand.op {
            Op::Get => {
                self.done(errand);
                match self.state.attempt(Door::In, bell, &mut errand.place, State::get)? {
                    Some(item) => self.hand_out(item, errand),
                    None => Told::Closed.into(),
                }
            }
            Op::Done => {
                self.done(errand);
                Told::Done.into()
            }
            Op::Put => {
                let mut item = Some(Item::Packed(errand.item.clone()));
                let attempt = |state: &mut State<T>| state.put(&mut item, self.capacity);
                let put = self.state.attempt(Door::Out, bell, &mut errand.place, attempt);
                discard(item);
                if put? { Told::Done.into() } else { Told::Closed.into() }
            }
            Op::Close => {
                self.close();
                Told::Done.into()
            }
            Op::Size => {
                let (len, capacity) = self.size();
                Told::Numbers(len as u64, capacity as u64).into()
            }
            Op::IsClosed => Told::Is(self.is_closed()).into(),
            _ => Answer::refused("a queue"),
        })
    }

    fn give_up(&self, place: Place) {
        self.state.give_up(place);
    }

    fn bury(&self, client: u64) {
        self.state.step(|state| {
            let its = state.in_hand.range((client, 0)..=(client, u64::MAX)).map(|(key, _)| *key);
            for key in its.collect::<Vec<_>>() {
                state.lost.extend(state.in_hand.remove(&key));
            }
            ((), Call::Nobody)
        });
    }
}

impl<T: Portable> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue { handle: self.handle.clone() }
    }
}

impl<T: Portable> Default for Queue<T> {
    /// One without a bound.
    fn default() -> Self {
        Queue::unbounded()
    }
}

impl<T: Portable> PartialEq for Queue<T> {
    /// Are they handles of the same queue?
    fn eq(&self, other: &Self) -> bool {
        self.handle.is(&other.handle)
    }
}

impl<T: Portable> Eq for Queue<T> {}

impl<T: Portable> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, capacity) = self.size();
        f.debug_struct("Queue").field("len", &len).field("capacity", &capacity).finish_non_exhaustive()
    }
}
