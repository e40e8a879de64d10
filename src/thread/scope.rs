#![allow(unsafe_code)]
//! [`Scope`]: calls on pooled threads whose closures, arguments and results borrow from the caller.
//!
//! ```text
//!   spawn ─▶ record: closure ─▶ busy ─▶ value or panic ─▶ empty
//!              │                                            ▲
//!              └────── cancelled, refused: closure dropped ─┘
//! ```
//!
//! A scoped call is two things. What borrows, a closure and then its value, lies in a *record*, and nowhere else. The
//! pool is given a job that knows only where the record is, and returns nothing; so its cell, its future and whatever
//! else the pool keeps for as long as it likes never hold anything that is borrowed.
//!
//! The rule: `scope` does not return before every record is empty, and one that is empty stays so. Then it does not
//! matter who still has a record: a worker that is about to let go of it, a queue, a handle that was forgotten.
//!
//! Not here: how a waiter runs what is queued in its own pool (`future/own_pool.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::context::ThreadContext;
use crate::error::Error;
use crate::future::cell::{Job, Watch};
use crate::future::state::Want;
use crate::future::{AsFuture, Future, Watched, block};
use crate::id::{FutureId, TaskRef};
use crate::outcome::{catch, discard};
use crate::pool::Pool;
use crate::primitives::{Condvar, Mutex};
use crate::task;

/// Submits calls that may borrow from outside of [`ThreadPoolExecutor::scope`](super::ThreadPoolExecutor::scope),
/// which makes it. Calls can be submitted by the closure of the scope, and by its calls.
///
/// `'env` is what may be borrowed from, `'scope` the time in which calls of the scope run; as with
/// [`std::thread::Scope`].
///
/// ```
/// use concurrent_futures::{Scope, ThreadPoolExecutor};
///
/// fn count<'scope>(s: &'scope Scope<'scope, '_>, words: &'scope [&str]) -> usize {
///     let lengths = s.map(|word: &&str| word.len(), words);
///     lengths.filter_map(Result::ok).sum()
/// }
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let words = ["to", "be"];
/// assert_eq!(pool.scope(|s| count(s, &words)), 4);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub struct Scope<'scope, 'env: 'scope> {
    pool: Arc<Pool<ThreadContext>>,
    register: Arc<Register>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// Runs `body` with a scope of that pool.
pub(super) fn scope<'env, F, T>(pool: &Arc<Pool<ThreadContext>>, body: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope {
        pool: Arc::clone(pool),
        register: Arc::new(Register { state: Mutex::default(), ended: Condvar::new() }),
        scope: PhantomData,
        env: PhantomData,
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&scope)));
    if outcome.is_err() {
        scope.register.cancel_all();
    }
    scope.register.finish();
    match outcome {
        Err(payload) => resume_unwind(payload),
        Ok(value) => {
            let unseen = scope.register.state.lock().unseen.take();
            if let Some(error) = unseen {
                drop(value);
                panic!("a scoped call panicked, and nobody looked at its outcome: {error}");
            }
            value
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Hands over the call `function(argument)`. Never fails: a refusal is the error of the future. Never blocks,
    /// unless the pool has a [bound](super::ThreadPoolBuilder::max_pending).
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let by = vec![3];
    /// let tripled = pool.scope(|s| s.submit(|n: u64| n * by[0], 14).result())?;
    /// assert_eq!((tripled, by), (42, vec![3]));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn submit<F, A, R>(&'scope self, function: F, argument: A) -> ScopedFuture<'scope, R>
    where
        F: FnOnce(A) -> R + Send + 'scope,
        A: Send + 'scope,
        R: Send + 'scope,
    {
        self.start(std::any::type_name::<F>(), move || function(argument))
    }

    /// Hands over a closure without argument.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let mut halves = [1, 2, 3, 4];
    /// let (left, right) = halves.split_at_mut(2);
    /// pool.scope(|s| {
    ///     drop(s.spawn(|| left.reverse()));           // the scope waits for it
    ///     right.reverse();
    /// });
    /// assert_eq!(halves, [2, 1, 4, 3]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn spawn<F, R>(&'scope self, function: F) -> ScopedFuture<'scope, R>
    where
        F: FnOnce() -> R + Send + 'scope,
        R: Send + 'scope,
    {
        self.start(std::any::type_name::<F>(), function)
    }

    /// Calls `function` on every item, each a call of its own; yields the results in the order of the items. All are
    /// submitted at once. An error is the result of its item, and does not end the others.
    ///
    /// A call costs up to a microsecond, so give small items in chunks: `items.chunks(1000)`.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let mut numbers = vec![1; 10_000];
    /// let sums = pool.scope(|s| {
    ///     let double = |part: &mut [u64]| {
    ///         part.iter_mut().for_each(|n| *n *= 2);
    ///         part.iter().sum::<u64>()
    ///     };
    ///     s.map(double, numbers.chunks_mut(1000)).sum::<Result<u64, _>>()
    /// })?;
    /// assert_eq!((sums, numbers[9_999]), (20_000, 2));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn map<F, A, R, I>(&'scope self, function: F, items: I) -> ScopedMap<'scope, R>
    where
        F: Fn(A) -> R + Send + Sync + 'scope,
        A: Send + 'scope,
        R: Send + 'scope,
        I: IntoIterator<Item = A>,
    {
        let function = Arc::new(function);
        let mut map = ScopedMap { futures: VecDeque::new(), iterated: false };
        for item in items {
            let function = Arc::clone(&function);
            map.futures.push_back(self.start(std::any::type_name::<F>(), move || function(item)));
        }
        map
    }

    fn start<F, R>(&'scope self, name: &'static str, function: F) -> ScopedFuture<'scope, R>
    where
        F: FnOnce() -> R + Send + 'scope,
        R: Send + 'scope,
    {
        let place = self.pool.place();
        let record = Arc::new(Record {
            name,
            id: FutureId::next(),
            register: Arc::clone(&self.register),
            content: Mutex::new(Content { stage: Stage::Waiting(function), wanted: true, excused: false }),
        });
        let erased: Arc<dyn Scoped + 'scope> = record.clone();
        // SAFETY: only the lifetime changes. Nothing that is borrowed for `'scope` is reached through a record but
        // its closure and its value, and neither by anybody after `scope` has returned: it waits (`finish`, on every
        // way out, also if the closure of the scope panics) until each record that was entered is empty. The record
        // is entered below, before anybody else sees it. A record is filled when it is made and when its closure
        // returns, which it does not do twice; so an empty one stays empty, whoever has it, and to drop it then is
        // to free memory. Its vtable and its layout do not depend on lifetimes.
        let erased: Arc<dyn Scoped> =
            unsafe { std::mem::transmute::<Arc<dyn Scoped + 'scope>, Arc<dyn Scoped + 'static>>(erased) };
        let (item, future) = task::local(ScopedJob(Arc::clone(&erased)), self.pool.ticket());
        let is_wanted = self.register.enter(record.id, Arc::clone(&erased), future.watch_shared());
        if !is_wanted {
            future.cancel();
        }
        self.pool.submit(item, place);
        // The same record, as the handle sees it: there is no more to know of its closure.
        let result: Arc<dyn Holds<R> + 'scope> = record;
        ScopedFuture { future: Some(future), record: result }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.register.state.lock().open.len();
        f.debug_struct("Scope").field("open", &open).finish_non_exhaustive()
    }
}

/// Every record of a scope that is not empty.
struct Register {
    state: Mutex<Entries>,
    /// One of the open ones has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Entries {
    /// Those whose call is still to end, with the cell that says so.
    open: BTreeMap<FutureId, Open>,
    /// Those that have a value, or a panic that nobody has seen.
    over: BTreeMap<FutureId, Arc<dyn Scoped>>,
    /// The scope was left by a panic: nothing new starts.
    left: bool,
    /// The first panic that nobody looked at.
    unseen: Option<Error>,
}

type Open = (Arc<dyn Scoped>, Arc<dyn Watch>);

impl Register {
    /// False: it is to be cancelled.
    fn enter(&self, id: FutureId, record: Arc<dyn Scoped>, cell: Arc<dyn Watch>) -> bool {
        let mut state = self.state.lock();
        state.open.insert(id, (record, cell));
        !state.left
    }

    /// Its call has ended, or never will begin. Is there anything left in it?
    fn end(&self, id: FutureId, is_empty: bool) {
        let mut state = self.state.lock();
        let entry = state.open.remove(&id);
        if let Some((record, _)) = &entry
            && !is_empty
        {
            state.over.insert(id, Arc::clone(record));
        }
        drop(state);
        self.ended.notify_all();
        drop(entry);
    }

    /// What was left in it has been taken out.
    fn strike(&self, id: FutureId) {
        let record = self.state.lock().over.remove(&id);
        drop(record);
    }

    fn note_unseen(&self, error: Error) {
        let mut state = self.state.lock();
        let other = if state.unseen.is_none() { state.unseen.replace(error) } else { Some(error) };
        drop(state);
        discard(other);
    }

    /// Cancels what there is, in the order in which it came, and only then what comes: so whoever finds that nothing new
    /// starts can rely on it that none of the old does.
    fn cancel_all(&self) {
        for left in [false, true] {
            let mut state = self.state.lock();
            state.left = left;
            let cells: Vec<_> = state.open.values().map(|(_, cell)| Arc::clone(cell)).collect();
            drop(state);
            for cell in cells {
                cell.cancel();
            }
        }
    }

    /// Waits until every call has ended, and empties what is left. Destructors of values may submit more.
    fn finish(&self) {
        loop {
            let open = self.state.lock().open.first_key_value().map(|(id, entry)| (*id, entry.clone()));
            if let Some((id, (record, cell))) = open {
                // Runs it here, if it is queued in the pool that this thread works for.
                block(&*cell, Want::End, None);
                // It is over. If it never ran, whoever cancelled it may not have come to drop it.
                record.abandon();
                let mut state = self.state.lock();
                while state.open.contains_key(&id) {
                    self.ended.wait(&mut state);
                }
                continue;
            }
            let mut state = self.state.lock();
            if !state.open.is_empty() {
                continue;
            }
            let over = std::mem::take(&mut state.over);
            drop(state);
            if over.is_empty() {
                return;
            }
            over.into_values().for_each(|record| record.clear());
        }
    }
}

/// What a call borrows: its closure, then its value.
struct Record<F, R> {
    name: &'static str,
    id: FutureId,
    register: Arc<Register>,
    content: Mutex<Content<F, R>>,
}

struct Content<F, R> {
    stage: Stage<F, R>,
    /// The handle is still there.
    wanted: bool,
    /// Nobody minds a panic.
    excused: bool,
}

enum Stage<F, R> {
    Waiting(F),
    /// The closure runs, or something is being dropped.
    Busy,
    Value(R),
    /// Nobody has looked at it yet.
    Panicked(Error),
    Empty,
}

/// A record, whatever lies in it.
trait Scoped: Send + Sync {
    fn run(&self, task: TaskRef) -> Result<(), Error>;
    /// Drops a closure that is not going to run.
    fn abandon(&self);
    /// Drops a value that nobody has taken.
    fn clear(&self);
}

/// A record that is going to have an `R`.
trait Holds<R>: Send + Sync {
    fn name(&self) -> &'static str;
    fn take(&self) -> Option<R>;
    /// The panic has been looked at.
    fn see(&self);
    /// Whatever comes of it, nobody minds.
    fn excuse(&self);
    /// There is no handle any more. True: there was a panic, which the scope tells.
    fn leave(&self) -> bool;
}

impl<F, R> Record<F, R> {
    fn put(&self, stage: Stage<F, R>) {
        let is_empty = matches!(stage, Stage::Empty);
        self.content.lock().stage = stage;
        self.register.end(self.id, is_empty);
    }

    /// Takes out what `is_it`.
    fn take_out(&self, to: Stage<F, R>, is_it: impl FnOnce(&Stage<F, R>) -> bool) -> Option<Stage<F, R>> {
        let mut content = self.content.lock();
        is_it(&content.stage).then(|| std::mem::replace(&mut content.stage, to))
    }
}

impl<F: FnOnce() -> R + Send, R: Send> Scoped for Record<F, R> {
    fn run(&self, task: TaskRef) -> Result<(), Error> {
        let Some(Stage::Waiting(function)) =
            self.take_out(Stage::Busy, |stage| matches!(stage, Stage::Waiting(_)))
        else {
            return Err(Error::Cancelled { task });
        };
        let task = TaskRef { name: self.name, id: task.id };
        let outcome = catch(task, function);
        let mut content = self.content.lock();
        match outcome {
            Ok(value) if content.wanted => {
                content.stage = Stage::Value(value);
                drop(content);
                self.register.end(self.id, false);
                Ok(())
            }
            Ok(value) => {
                drop(content);
                discard(value);
                self.put(Stage::Empty);
                Ok(())
            }
            Err(panic) => {
                let error = Error::Panicked { task, panic };
                if content.wanted {
                    content.stage = Stage::Panicked(error.clone());
                    drop(content);
                    self.register.end(self.id, false);
                    Err(error)
                } else {
                    // The scope tells it, and not the hook for errors that nobody reads.
                    let excused = content.excused;
                    drop(content);
                    if !excused {
                        self.register.note_unseen(error);
                    }
                    self.put(Stage::Empty);
                    Ok(())
                }
            }
        }
    }

    fn abandon(&self) {
        if let Some(function) = self.take_out(Stage::Busy, |stage| matches!(stage, Stage::Waiting(_))) {
            discard(function);
            self.put(Stage::Empty);
        }
    }

    fn clear(&self) {
        let left = self.take_out(Stage::Empty, |stage| matches!(stage, Stage::Value(_) | Stage::Panicked(_)));
        match left {
            Some(Stage::Panicked(error)) => self.register.note_unseen(error),
            other => discard(other),
        }
    }
}

impl<F: Send, R: Send> Holds<R> for Record<F, R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn take(&self) -> Option<R> {
        let Some(Stage::Value(value)) = self.take_out(Stage::Empty, |stage| matches!(stage, Stage::Value(_)))
        else {
            return None;
        };
        self.register.strike(self.id);
        Some(value)
    }

    fn see(&self) {
        if let Some(error) = self.take_out(Stage::Empty, |stage| matches!(stage, Stage::Panicked(_))) {
            self.register.strike(self.id);
            discard(error);
        }
    }

    fn excuse(&self) {
        self.content.lock().excused = true;
    }

    fn leave(&self) -> bool {
        let mut content = self.content.lock();
        content.wanted = false;
        if !matches!(content.stage, Stage::Value(_) | Stage::Panicked(_)) {
            return false;
        }
        let left = std::mem::replace(&mut content.stage, Stage::Empty);
        let excused = content.excused;
        drop(content);
        self.register.strike(self.id);
        match left {
            Stage::Panicked(error) => {
                if !excused {
                    self.register.note_unseen(error);
                }
                true
            }
            value => {
                drop(value);
                false
            }
        }
    }
}

/// What the pool has in hand. If it is dropped, its call is not going to run.
struct ScopedJob(Arc<dyn Scoped>);

impl Job for ScopedJob {
    type Output = ();

    fn name() -> &'static str {
        NAME
    }

    fn run(self, task: TaskRef) -> Result<(), Error> {
        self.0.run(task)
    }
}

impl Drop for ScopedJob {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// What the pool calls every one of them: the type of a closure that borrows has no name for it.
const NAME: &str = "scoped call";

/// A call of a [`Scope`], and the value that it will have.
///
/// What a [`Future`] is, for values that may borrow. Dropping it detaches: the call runs all the same, and the scope
/// waits for it. `wait`, `as_completed` and their like take it beside other futures.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let text = String::from("one two");
/// let first: &str = pool.scope(|s| s.spawn(|| text.split(' ').next().unwrap_or("")).result())?;
/// assert_eq!(first, "one");                       // a value that borrows
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "dropping a future loses its result; `drop` it to say that this is meant"]
pub struct ScopedFuture<'scope, R> {
    /// Absent once it has been read.
    future: Option<Future<()>>,
    record: Arc<dyn Holds<R> + 'scope>,
}

impl<R> ScopedFuture<'_, R> {
    /// Waits for the outcome and moves it out.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let words = ["to", "be"];
    /// assert_eq!(pool.scope(|s| s.spawn(|| words.concat()).result())?, "tobe");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Future::result`].
    pub fn result(mut self) -> Result<R, Error> {
        let outcome = match self.future.take() {
            Some(future) => future.result(),
            None => unreachable!("only `result`, which consumes the future, takes it"),
        };
        self.outcome(outcome)
    }

    /// As [`result`](Self::result), for `limit` at the most. A value is moved out once; after a time-out the future
    /// can be asked again.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (tell, told) = mpsc::channel();
    /// let answer = pool.scope(|s| {
    ///     let mut call = s.spawn(move || told.recv());
    ///     assert!(matches!(call.result_timeout(Duration::ZERO), Err(Error::TimedOut { .. })));
    ///     tell.send(42).unwrap();
    ///     call.result()
    /// })?;
    /// assert_eq!(answer, Ok(42));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Future::result_timeout`].
    pub fn result_timeout(&mut self, limit: Duration) -> Result<R, Error> {
        let outcome = match &mut self.future {
            Some(future) => future.result_timeout(limit),
            None => unreachable!("as in `result`"),
        };
        self.outcome(outcome)
    }

    /// Waits, then tells the error; `None` when the call returned a value.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let zero = 0;
    /// let error = pool.scope(|s| s.spawn(|| 1 / zero).exception());
    /// assert!(error.unwrap().to_string().contains("divide by zero"));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn exception(&self) -> Option<Error> {
        let error = self.future().exception()?;
        self.record.see();
        Some(self.named(error))
    }

    /// Cancels the call if it has not started, as [`Future::cancel`].
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (tell, told) = mpsc::channel();
    /// pool.scope(|s| {
    ///     let _running = s.spawn(move || told.recv());
    ///     let queued = s.spawn(|| unreachable!("the one worker is busy"));
    ///     assert!(queued.cancel());
    ///     tell.send(()).unwrap();
    /// });
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn cancel(&self) -> bool {
        self.future().cancel()
    }

    /// Was the call cancelled?
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (tell, told) = mpsc::channel();
    /// pool.scope(|s| {
    ///     let _running = s.spawn(move || told.recv());
    ///     let queued = s.spawn(|| 42);
    ///     assert!(!queued.cancelled());
    ///     queued.cancel();
    ///     assert!(queued.cancelled());
    ///     tell.send(()).unwrap();
    /// });
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.future().cancelled()
    }

    /// Has a worker started the call, and not ended it?
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (tell, told) = mpsc::channel();
    /// pool.scope(|s| {
    ///     let call = s.spawn(move || told.recv());
    ///     while !call.running() {
    ///         std::thread::yield_now();
    ///     }
    ///     tell.send(()).unwrap();
    /// });
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn running(&self) -> bool {
        self.future().running()
    }

    /// Is it over: value, error or cancelled?
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// pool.scope(|s| {
    ///     let call = s.spawn(|| 42);
    ///     call.wait();
    ///     assert!(call.done());
    /// });
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn done(&self) -> bool {
        self.future().done()
    }

    /// Waits until it is over.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let mut numbers = [3, 1, 2];
    /// pool.scope(|s| {
    ///     s.spawn(|| numbers.sort()).wait();
    /// });
    /// assert_eq!(numbers, [1, 2, 3]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn wait(&self) {
        self.future().wait();
    }

    /// Waits for `limit` at the most; true if it is over.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (tell, told) = mpsc::channel();
    /// pool.scope(|s| {
    ///     let call = s.spawn(move || told.recv());
    ///     assert!(!call.wait_timeout(Duration::from_millis(1)));
    ///     tell.send(()).unwrap();
    ///     assert!(call.wait_timeout(Duration::from_secs(60)));
    /// });
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.future().wait_timeout(limit)
    }

    /// The future's number.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// pool.scope(|s| {
    ///     let (one, other) = (s.spawn(|| 1), s.spawn(|| 2));
    ///     assert_ne!(one.id(), other.id());
    /// });
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.future().id()
    }

    fn future(&self) -> &Future<()> {
        self.future.as_ref().unwrap_or_else(|| unreachable!("as in `result`"))
    }

    fn outcome(&mut self, outcome: Result<(), Error>) -> Result<R, Error> {
        match outcome {
            Ok(()) => Ok(self.record.take().unwrap_or_else(|| unreachable!("the call has left its value"))),
            Err(error) => {
                self.record.see();
                Err(self.named(error))
            }
        }
    }

    /// With the name of the function in the place of the pool's.
    fn named(&self, mut error: Error) -> Error {
        error.rename(NAME, self.record.name());
        error
    }
}

impl<R> Drop for ScopedFuture<'_, R> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            // A panic is told by the scope; so it is read here, and not told as one that nobody read. (If the future
            // is not over yet, it is in a moment: no code of the user is in between.)
            if self.record.leave() {
                let _ = future.exception();
            }
        }
    }
}

impl<R> AsFuture for ScopedFuture<'_, R> {
    fn watched(&self) -> Watched<'_> {
        self.future().watched()
    }
}

impl<R> fmt::Debug for ScopedFuture<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedFuture").field(&self.future).finish()
    }
}

/// The results of a [`Scope::map`]: an iterator of `Result<R, Error>` in the order of the items.
///
/// Dropping it cancels what has not started. Of one that was iterated, the rest counts as looked at: a panic there does
/// not make the scope panic.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let words = ["to".to_string(), "be".to_string()];
/// let lengths: Vec<usize> = pool.scope(|s| {
///     let lengths = s.map(String::len, &words);
///     assert_eq!(lengths.len(), 2);
///     lengths.collect::<Result<_, _>>()
/// })?;
/// assert_eq!(lengths, [2, 2]);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "a map that is dropped cancels what has not started"]
pub struct ScopedMap<'scope, R> {
    futures: VecDeque<ScopedFuture<'scope, R>>,
    /// Somebody has asked for a result.
    iterated: bool,
}

impl<R> Iterator for ScopedMap<'_, R> {
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.iterated = true;
        self.futures.pop_front().map(ScopedFuture::result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.futures.len(), Some(self.futures.len()))
    }
}

impl<R> ExactSizeIterator for ScopedMap<'_, R> {}

impl<R> Drop for ScopedMap<'_, R> {
    fn drop(&mut self) {
        for future in &self.futures {
            future.cancel();
            if self.iterated {
                future.record.excuse();
            }
        }
    }
}

impl<R> fmt::Debug for ScopedMap<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedMap").field("left", &self.futures.len()).finish_non_exhaustive()
    }
}
