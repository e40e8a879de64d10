//! [`ThreadPoolExecutor`]: calls run on threads of this process.

mod context;
mod scope;

use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use context::{Customs, ThreadContext};
pub use scope::{Scope, ScopedFuture, ScopedMap};

use crate::error::Error;
use crate::executor::{Executor, Returned, Shutdown};
use crate::future::Future;
use crate::future::cell::Job;
use crate::map::{Map, MapOptions, MapUnordered, Outcomes};
use crate::observer::{Observer, Observers};
use crate::options::TaskOptions;
use crate::pool::{Hiring, Pins, Pool, usable_cpus};
use crate::portable::{Fallible, Function, Plain, Portable, Raised};
use crate::primitives::Ordering;
use crate::primitives::statics::AtomicUsize;
use crate::stats::Stats;
use crate::task::{self, Closure, Copied, Repeated, Task};
use crate::worker::WorkerInfo;

/// A pool of threads.
///
/// Threads are started when a task comes and none is idle, up to `max_workers`; idle ones are
/// used first. One queue, first in, first out within a [priority](TaskOptions::priority), without a bound unless
/// [`max_pending`](ThreadPoolBuilder::max_pending) sets one. Dropping the pool waits for all that
/// was submitted.
///
/// Its own `submit`, `map`, … take any closure and any value that can be sent to a thread, more
/// than those of the trait [`Executor`] allow.
///
/// A call that waits for another call of the same pool does not hang, however few workers there
/// are: if that call is still queued, the one who waits runs it, in its own thread. It never runs a call
/// that it does not wait for. With a limit (`result_timeout`, …) it does not run it, but another
/// worker stands in meanwhile.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::new(4)?;
/// let greeting = String::from("hello");
/// let future = pool.spawn(move || greeting.len());
/// assert_eq!(future.result()?, 5);
/// for (n, square) in [1, 2, 3].into_iter().zip(pool.map(|n| n * n, [1, 2, 3])) {
///     println!("{n}² = {}", square?);
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub struct ThreadPoolExecutor {
    pool: Arc<Pool<ThreadContext>>,
}

impl ThreadPoolExecutor {
    /// A pool of `max_workers` threads at the most. None is started yet.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(4)?;
    /// assert_eq!(pool.spawn(|| 6 * 7).result()?, 42);
    /// assert!(matches!(ThreadPoolExecutor::new(0), Err(Error::InvalidArgument { .. })));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if `max_workers` is 0.
    pub fn new(max_workers: usize) -> Result<Self, Error> {
        Self::builder().max_workers(max_workers).build()
    }

    /// A pool that is set up step by step.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).thread_name_prefix("fetch").build()?;
    /// assert_eq!(pool.spawn(|| 6 * 7).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::default()
    }

    /// The most threads it will have, as it is now.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// assert_eq!(ThreadPoolExecutor::new(3)?.max_workers(), 3);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn max_workers(&self) -> usize {
        self.pool.max_workers()
    }

    /// Changes how many threads there may be, while the pool works.
    ///
    /// If there may be more, threads are started at once for what waits. If there may be fewer, those that have
    /// nothing to do leave now, those that are busy after their task; nothing is interrupted, and this does not wait
    /// for it. One that waits for a call of this pool, so that another stands in for it, does not count meanwhile. After
    /// [`shutdown`](Executor::shutdown) it still holds for what is queued; a pool that is broken has no use for it.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// pool.set_max_workers(8)?;                       // much to do
    /// pool.set_max_workers(1)?;                       // somebody else needs the machine
    /// assert_eq!(pool.max_workers(), 1);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if `max_workers` is 0.
    pub fn set_max_workers(&self, max_workers: usize) -> Result<(), Error> {
        self.pool.resize(max_workers)
    }

    /// How the pool is doing: what waits and runs, how calls ended, how long they waited and ran. Cheap: see [`Stats`].
    /// To ask costs some microseconds, and a nanosecond or two for each call that is queued.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// pool.spawn(|| 42).result()?;
    /// let stats = pool.stats();
    /// assert_eq!((stats.returned, stats.workers), (1, 1));
    /// assert!(stats.run_time.max >= stats.run_time.p50);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.pool.stats()
    }

    /// Hands over the call `function(argument)`. Never fails: a refusal is the error of the
    /// future. Never blocks, unless the pool has a [bound](ThreadPoolBuilder::max_pending).
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let by = 3;
    /// let future = pool.submit(move |n: u64| n * by, 14);             // a closure may capture
    /// assert_eq!(future.result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn submit<F, A, R>(&self, function: F, argument: A) -> Future<R>
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        self.start(Closure::<F, _, R>::new(move || Ok(function(argument))))
    }

    /// As [`submit`](Self::submit), but if the queue is at its
    /// [bound](ThreadPoolBuilder::max_pending), function and argument come back.
    ///
    /// ```
    /// use concurrent_futures::{Returned, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).max_pending(100).build()?;
    /// match pool.submit_or_return(|text: String| text.len(), "late".to_string()) {
    ///     Ok(future) => assert_eq!(future.result()?, 4),
    ///     Err(Returned { function, argument }) => println!("done here: {}", function(argument)),
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Returned`] if there is no room, and only then.
    pub fn submit_or_return<F, A, R>(&self, function: F, argument: A) -> Result<Future<R>, Returned<F, A>>
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let Some(place) = self.pool.place_now() else { return Err(Returned { function, argument }) };
        let job = Closure::<F, _, R>::new(move || Ok(function(argument)));
        let (item, future) = task::local(job, self.pool.ticket());
        self.pool.submit(item, place);
        Ok(future)
    }

    /// As [`submit`](Self::submit), for a function that can fail: its `Err` becomes the future's
    /// [`Error::Raised`].
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// assert_eq!(pool.try_submit(str::parse::<u32>, "42").result()?, 42);
    /// assert!(pool.try_submit(str::parse::<u32>, "many").result().is_err());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn try_submit<F, A, R, E>(&self, function: F, argument: A) -> Future<R>
    where
        F: FnOnce(A) -> Result<R, E> + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    {
        self.start(Closure::<F, _, R>::new(move || function(argument).map_err(Raised::new)))
    }

    /// Hands over a closure without argument.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let words = vec!["to", "be"];
    /// assert_eq!(pool.spawn(move || words.join(" ")).result()?, "to be");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn spawn<F, R>(&self, function: F) -> Future<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.start(Closure::<F, _, R>::new(move || Ok(function())))
    }

    /// As [`spawn`](Self::spawn), with [`TaskOptions`]: a priority, further attempts. The closure is called once for
    /// each attempt. (With an argument that can travel: [`Executor::submit_with`].)
    ///
    /// ```
    /// use concurrent_futures::{TaskOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let words = vec!["to", "be"];
    /// let urgent = TaskOptions::new().priority(1);
    /// assert_eq!(pool.spawn_with(move || words.len(), urgent).result()?, 2);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn spawn_with<F, R>(&self, function: F, options: TaskOptions) -> Future<R>
    where
        F: FnMut() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.start(Repeated::<F, R>::new(function, options))
    }

    /// Calls `function` on every item; yields the results in the order of the items. As
    /// [`Executor::map`], for any closure.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let by = 3;
    /// let tripled = pool.map(move |n: u64| n * by, 1..=3);
    /// assert_eq!(tripled.collect::<Result<Vec<_>, _>>()?, [3, 6, 9]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn map<F, A, R, I>(&self, function: F, items: I) -> Map<'static, R>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.all(items.into_iter(), move |item| Ok(function(item)), PhantomData::<F>)
    }

    /// As [`map`](Self::map), with [`MapOptions`].
    ///
    /// ```
    /// use concurrent_futures::{MapOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let squares = pool.map_with(|n: u64| n * n, 0.., MapOptions::new().buffersize(16));     // without end
    /// assert_eq!(squares.take(3).collect::<Result<Vec<_>, _>>()?, [0, 1, 4]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn map_with<'a, F, A, R, I>(&'a self, function: F, items: I, options: MapOptions) -> Map<'a, R>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A, IntoIter: Send + 'a>,
    {
        self.some(items.into_iter(), &options, move |item| Ok(function(item)), PhantomData::<F>)
    }

    /// As [`map`](Self::map), for a function that can fail: its `Err` is the result of its item.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let numbers: Vec<_> = pool.try_map(str::parse::<u32>, ["1", "two", "3"]).collect();
    /// assert!(matches!(numbers[..], [Ok(1), Err(_), Ok(3)]));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn try_map<F, A, R, E, I>(&self, function: F, items: I) -> Map<'static, R>
    where
        F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
        I: IntoIterator<Item = A>,
    {
        self.all(items.into_iter(), move |item| function(item).map_err(Raised::new), PhantomData::<F>)
    }

    /// As [`try_map`](Self::try_map), with [`MapOptions`].
    ///
    /// ```
    /// use concurrent_futures::{MapOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let options = MapOptions::new().fail_fast(true);
    /// let numbers: Vec<_> = pool.try_map_with(str::parse::<u32>, ["1", "two", "3"], options).collect();
    /// assert!(matches!(numbers[..], [Ok(1), Err(_)]));                // the first error ends it
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn try_map_with<'a, F, A, R, E, I>(&'a self, function: F, items: I, options: MapOptions) -> Map<'a, R>
    where
        F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
        I: IntoIterator<Item = A, IntoIter: Send + 'a>,
    {
        self.some(
            items.into_iter(),
            &options,
            move |item| function(item).map_err(Raised::new),
            PhantomData::<F>,
        )
    }

    /// As [`map`](Self::map), but yields the results as they come, each with the index of its item.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let words = ["three", "a", "to"];
    /// for (index, length) in pool.map_unordered(str::len, words) {
    ///     println!("{} has {} letters", words[index], length?);
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn map_unordered<F, A, R, I>(&self, function: F, items: I) -> MapUnordered<'static, R>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map(function, items).unordered()
    }

    /// As [`map_unordered`](Self::map_unordered), for a function that can fail.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let texts = ["1", "two", "3"];
    /// for (index, number) in pool.try_map_unordered(str::parse::<u32>, texts) {
    ///     match number {
    ///         Ok(number) => println!("{number}"),
    ///         Err(error) => println!("{}: {error}", texts[index]),
    ///     }
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn try_map_unordered<F, A, R, E, I>(&self, function: F, items: I) -> MapUnordered<'static, R>
    where
        F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
        I: IntoIterator<Item = A>,
    {
        self.try_map(function, items).unordered()
    }

    /// Runs `body` with a [`Scope`], whose calls may borrow what lives outside of it, as
    /// [`std::thread::scope`] does, on the threads of this pool.
    ///
    /// Returns what `body` returns, when every call of the scope has ended. Who waits does not stand idle in a
    /// worker of this pool: it runs calls of the scope that are still queued. So scopes nest, on one worker too. A call
    /// of the scope may submit others to it.
    ///
    /// A call that was refused (the pool is shut down, or broken) or cancelled ends with that error, as everywhere.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(4)?;
    /// let words = ["one".to_string(), "three".to_string(), "five".to_string()];
    /// let mut longest = 0;
    /// let total = pool.scope(|s| {
    ///     let sum = s.spawn(|| words.iter().map(String::len).sum::<usize>());
    ///     s.spawn(|| longest = words.iter().map(String::len).max().unwrap_or(0));
    ///     sum.result()
    /// })?;
    /// assert_eq!((total, longest), (12, 5));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// What is borrowed must live outside. This does not compile:
    ///
    /// ```compile_fail,E0373
    /// # use concurrent_futures::ThreadPoolExecutor;
    /// # let pool = ThreadPoolExecutor::new(1)?;
    /// pool.scope(|s| {
    ///     let inside = 1;
    ///     s.spawn(|| println!("{inside}"));
    /// });
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `body` panics, with that panic: calls that have not started are cancelled, those that run are waited for.
    ///
    /// If a call panicked and nobody looked at its outcome, when all have ended. A panic that was read
    /// ([`ScopedFuture::result`], [`ScopedFuture::exception`], the item of a [`ScopedMap`]) is the reader's.
    pub fn scope<'env, F, T>(&self, body: F) -> T
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    {
        scope::scope(&self.pool, body)
    }

    /// A map without options. `N` is the function that errors name.
    fn all<N, F, A, R>(
        &self,
        items: impl Iterator<Item = A>,
        call: F,
        name: PhantomData<N>,
    ) -> Map<'static, R>
    where
        N: 'static,
        F: Fn(A) -> Result<R, Raised> + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        // Where tasks are counted, or told of, each item is one.
        if self.pool.is_bounded() || self.pool.account().is_observed() || !is_at_hand(&items) {
            return Map::eager(items, &MapOptions::new(), self.batches(call, 0, name));
        }
        let items: Vec<A> = items.collect();
        let count = items.len();
        let (task, course) = task::course(call, items, self.pool.account(), name);
        // Nobody is hired for nothing.
        if count > 0 {
            self.pool.submit(task, self.pool.place());
        }
        Map::of_course(course, count)
    }

    /// A map with options.
    fn some<'a, N, F, A, R>(
        &'a self,
        items: impl Iterator<Item = A> + Send + 'a,
        options: &MapOptions,
        call: F,
        name: PhantomData<N>,
    ) -> Map<'a, R>
    where
        N: 'static,
        F: Fn(A) -> Result<R, Raised> + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        if options.says_nothing() {
            return self.all(items, call, name);
        }
        Map::new(items, options, self.batches(call, options.order(), name))
    }

    /// Submits chunks of a map. `N` is the function that errors name.
    fn batches<N, F, A, R>(
        &self,
        call: F,
        priority: i16,
        _: PhantomData<N>,
    ) -> impl FnMut(Vec<A>) -> Future<Outcomes<R>>
    where
        N: 'static,
        F: Fn(A) -> Result<R, Raised> + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let call = Arc::new(call);
        move |items| {
            let call = Arc::clone(&call);
            self.start(task::Mapped::<N, _, A>::new(call, items, priority))
        }
    }

    fn start<J: Job>(&self, job: J) -> Future<J::Output> {
        let place = self.pool.place();
        let (item, future) = task::local(job, self.pool.ticket());
        self.pool.submit(item, place);
        future
    }
}

/// A function that can travel, to be called by many threads.
fn calls<Fun: Function>(
    function: Fun,
) -> impl Fn(Fun::Argument) -> Result<Fun::Return, Raised> + Send + Sync {
    let function = Copied::new(function);
    move |argument| function.get().call(argument)
}

/// Are all items there, so that to take them runs no code of the user's, and takes no time?
///
/// Whoever makes items may wait for what became of the item before, so of all others each is submitted as soon as it
/// was made. The name of a type is only for people, says its documentation; if it is another one day, each item
/// becomes a task of its own again, and a test says so.
fn is_at_hand<I>(_: &I) -> bool {
    let name = std::any::type_name::<I>();
    ["alloc::vec::into_iter::IntoIter<", "core::array::iter::IntoIter<", "core::ops::range::Range"]
        .iter()
        .any(|known| name.starts_with(known))
}

impl Default for ThreadPoolExecutor {
    /// A pool of as many threads as suit work that waits now and then: usable CPUs + 4, at most
    /// 32, as Python's. Usable are those that affinity and control groups leave to this process.
    fn default() -> Self {
        Self::builder().build().unwrap_or_else(|error| unreachable!("the defaults are valid: {error}"))
    }
}

impl Executor for ThreadPoolExecutor {
    fn execute(&self, task: Task) {
        self.pool.submit(task.into_local(self.pool.ticket()), self.pool.place());
    }

    fn execute_or_return(&self, task: Task) -> Result<(), Task> {
        let Some(place) = self.pool.place_now() else { return Err(task) };
        self.pool.submit(task.into_local(self.pool.ticket()), place);
        Ok(())
    }

    fn shutdown_with(&self, how: Shutdown) {
        self.pool.shutdown(how);
    }

    fn map<F, A, R, I>(&self, function: F, items: I) -> Map<'static, R>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
    {
        self.all(items.into_iter(), calls(Plain::<F, A, R>::new(function)), PhantomData::<F>)
    }

    fn map_with<'a, F, A, R, I>(&'a self, function: F, items: I, options: MapOptions) -> Map<'a, R>
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A, IntoIter: Send + 'a>,
    {
        self.some(items.into_iter(), &options, calls(Plain::<F, A, R>::new(function)), PhantomData::<F>)
    }

    fn try_map<F, A, R, E, I>(&self, function: F, items: I) -> Map<'static, R>
    where
        F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
        I: IntoIterator<Item = A>,
    {
        self.all(items.into_iter(), calls(Fallible::<F, A, R, E>::new(function)), PhantomData::<F>)
    }

    fn try_map_with<'a, F, A, R, E, I>(&'a self, function: F, items: I, options: MapOptions) -> Map<'a, R>
    where
        F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
        I: IntoIterator<Item = A, IntoIter: Send + 'a>,
    {
        let call = calls(Fallible::<F, A, R, E>::new(function));
        self.some(items.into_iter(), &options, call, PhantomData::<F>)
    }

    fn shutdown_timeout(&self, limit: Duration) -> bool {
        self.pool.shutdown_timeout(limit)
    }
}

impl Drop for ThreadPoolExecutor {
    fn drop(&mut self) {
        self.pool.leave();
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.describe(f, "ThreadPoolExecutor")
    }
}

/// Sets up a [`ThreadPoolExecutor`].
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::builder()
///     .max_workers(2)
///     .thread_name_prefix("fetch")
///     .stack_size(4 << 20)
///     .initializer(|| println!("a worker starts"))
///     .build()?;
/// let name = pool.spawn(|| std::thread::current().name().map(str::to_owned));
/// assert_eq!(name.result()?.as_deref(), Some("fetch_0"));
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Default)]
#[must_use]
pub struct ThreadPoolBuilder {
    max_workers: Option<usize>,
    thread_name_prefix: Option<String>,
    stack_size: Option<usize>,
    idle_timeout: Option<Duration>,
    max_pending: Option<usize>,
    pin_workers: bool,
    customs: Customs,
    observers: Observers,
}

impl ThreadPoolBuilder {
    /// The most threads. Default: usable CPUs + 4, at most 32.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(4).build()?;
    /// assert_eq!(pool.max_workers(), 4);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn max_workers(mut self, threads: usize) -> Self {
        self.max_workers = Some(threads);
        self
    }

    /// Threads are named `<prefix>_<n>`, from 0. Default: `ThreadPoolExecutor-<pool>`. Linux shows
    /// the first 15 bytes.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).thread_name_prefix("fetch").build()?;
    ///
    /// let name = pool.spawn(|| std::thread::current().name().map(str::to_owned));
    /// assert_eq!(name.result()?.as_deref(), Some("fetch_0"));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn thread_name_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.thread_name_prefix = Some(prefix.into());
        self
    }

    /// Bytes of stack for each thread. Default: that of [`std::thread`].
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).stack_size(8 << 20).build()?;
    /// assert_eq!(pool.spawn(|| 6 * 7).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// A thread that has had nothing to do for so long ends; when tasks come, others are started,
    /// and run the initializer too. The last to become idle is the first
    /// to be used. With a time of zero a thread ends if
    /// there is no task for it at once. Default: threads stay until the pool is shut down.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).idle_timeout(Duration::from_secs(30)).build()?;
    /// assert_eq!(pool.spawn(|| 6 * 7).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// At most so many tasks wait in the queue; those that run do not count. When it is full,
    /// `submit`, `map` and their like wait for room, and
    /// [`submit_or_return`](ThreadPoolExecutor::submit_or_return) gives the call back. At least 1.
    /// Default: no bound.
    ///
    /// Who waits for room when the pool is shut down or breaks is woken, and refused. The pool's
    /// own threads never wait, because they would wait for themselves: what its tasks and their
    /// callbacks submit may exceed the bound. A task that was cancelled keeps its place until a
    /// worker passes it: so long it is in the queue.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).max_pending(1000).build()?;
    ///
    /// let futures: Vec<_> = (0..10_000).map(|n| pool.submit(|n: u64| n, n)).collect();      // waits for room
    /// let sum: u64 = futures.into_iter().map(|future| future.result()).sum::<Result<_, _>>()?;
    /// assert_eq!(sum, 49_995_000);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn max_pending(mut self, tasks: usize) -> Self {
        self.max_pending = Some(tasks);
        self
    }

    /// Runs in each thread before its first task. If it panics, the pool is broken: what is
    /// queued and what comes ends with [`Error::Broken`], with the panic as its cause.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// thread_local!(static MODEL: Cell<u64> = const { Cell::new(0) });
    ///
    /// let pool = ThreadPoolExecutor::builder().max_workers(2).initializer(|| MODEL.set(42)).build()?;
    /// assert_eq!(pool.spawn(|| MODEL.get()).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn initializer(mut self, initializer: impl Fn() + Send + Sync + 'static) -> Self {
        self.customs.initializer = Some(Arc::new(initializer));
        self
    }

    /// Runs in each thread when it starts, before the [`initializer`](Self::initializer). For counts, logs, and names in
    /// other people's tools: what can fail belongs into the initializer, because a panic of this goes no further than
    /// the panic hook.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicI32, Ordering};
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let running = Arc::new(AtomicI32::new(0));
    /// let (up, down) = (Arc::clone(&running), Arc::clone(&running));
    /// let pool = ThreadPoolExecutor::builder()
    ///     .max_workers(2)
    ///     .on_worker_start(move |_worker| _ = up.fetch_add(1, Ordering::Relaxed))
    ///     .on_worker_exit(move |_worker| _ = down.fetch_sub(1, Ordering::Relaxed))
    ///     .build()?;
    /// assert_eq!(pool.spawn(|| 42).result()?, 42);
    /// assert_eq!(running.load(Ordering::Relaxed), 1);
    /// drop(pool);
    /// assert_eq!(running.load(Ordering::Relaxed), 0);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn on_worker_start(mut self, hook: impl Fn(&WorkerInfo) + Send + Sync + 'static) -> Self {
        self.customs.on_start = Some(Arc::new(hook));
        self
    }

    /// Runs in each thread before it ends, once for each [start](Self::on_worker_start): after it was idle for too
    /// long, when the pool is made smaller, shut down or broken, and also if its initializer failed.
    /// [`shutdown`](Executor::shutdown) waits for it. A worker that is in it takes no task any more, and counts
    /// as one of `max_workers` until it returns.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let (tell, told) = mpsc::channel();
    /// let builder = ThreadPoolExecutor::builder().max_workers(1);
    /// let pool = builder.on_worker_exit(move |worker| _ = tell.send(worker.number)).build()?;
    /// pool.spawn(|| ()).result()?;
    /// drop(pool);
    /// assert_eq!(told.recv(), Ok(0));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn on_worker_exit(mut self, hook: impl Fn(&WorkerInfo) + Send + Sync + 'static) -> Self {
        self.customs.on_exit = Some(Arc::new(hook));
        self
    }

    /// Binds each thread to one CPU: the first to the first that this process may use, and so on; where there are more
    /// threads than CPUs, several share one. Threads that a task starts inherit it. Only on Linux. Default: no.
    ///
    /// Worth a try where caches matter and nothing else runs; on a busy machine it costs time, as the
    /// system cannot move a thread away from a CPU that somebody else needs.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = match ThreadPoolExecutor::builder().max_workers(2).pin_workers(true).build() {
    ///     Err(Error::Unsupported { .. }) => ThreadPoolExecutor::new(2)?,
    ///     pool => pool?,
    /// };
    /// assert_eq!(pool.spawn(|| 6 * 7).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn pin_workers(mut self, yes: bool) -> Self {
        self.pin_workers = yes;
        self
    }

    /// Has `observer` hear of what happens in the pool; more than one may. What it is told, and what that costs, is said
    /// at [`Observer`].
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use std::sync::Arc;
    ///
    /// use concurrent_futures::{Event, Observer, ThreadPoolExecutor};
    ///
    /// #[derive(Default)]
    /// struct Events(AtomicUsize);
    ///
    /// impl Observer for Events {
    ///     fn notice(&self, _: &Event<'_>) {
    ///         self.0.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// }
    ///
    /// let events = Arc::new(Events::default());
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).observer(events.clone()).build()?;
    /// pool.spawn(|| 42).result()?;
    /// drop(pool);
    /// // Submitted, started, finished; a worker spawned, ready, left; the pool is over.
    /// assert_eq!(events.0.load(Ordering::Relaxed), 7);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.add(observer);
        self
    }

    /// The pool. No thread is started yet.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// assert!(ThreadPoolExecutor::builder().build().is_ok());
    /// let refused = ThreadPoolExecutor::builder().max_pending(0).build();
    /// assert!(matches!(refused, Err(Error::InvalidArgument { .. })));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if `max_workers` or `max_pending` is 0 or the prefix holds a NUL
    /// byte; [`Error::Unsupported`] for [`pin_workers`](Self::pin_workers) elsewhere than on Linux.
    pub fn build(self) -> Result<ThreadPoolExecutor, Error> {
        static POOLS: AtomicUsize = AtomicUsize::new(0);
        let name_prefix = self
            .thread_name_prefix
            .unwrap_or_else(|| format!("ThreadPoolExecutor-{}", POOLS.fetch_add(1, Ordering::Relaxed)));
        if name_prefix.contains('\0') {
            return Err(Error::invalid("thread_name_prefix holds a NUL byte", "leave it out"));
        }
        let observers = self.observers;
        #[cfg(all(feature = "tracing", not(loom)))]
        let observers = crate::spans::Spans::of_threads(observers);
        let hiring = Hiring {
            max_workers: self.max_workers.unwrap_or_else(|| usable_cpus().saturating_add(4).min(32)),
            name_prefix: name_prefix.clone(),
            stack_size: self.stack_size,
            idle_timeout: self.idle_timeout,
            max_pending: self.max_pending,
            observers,
        };
        let pins = if self.pin_workers { Some(Pins::usable()?) } else { None };
        let customs = Arc::new(Customs { pins, ..self.customs });
        let pool = Pool::new(hiring, move |number, account| {
            let worker = WorkerInfo { name: format!("{name_prefix}_{number}"), number, pid: None };
            ThreadContext::new(Arc::clone(&customs), worker, Arc::clone(account))
        })?;
        Ok(ThreadPoolExecutor { pool })
    }
}

impl fmt::Debug for ThreadPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolBuilder")
            .field("max_workers", &self.max_workers)
            .field("thread_name_prefix", &self.thread_name_prefix)
            .field("stack_size", &self.stack_size)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_pending", &self.max_pending)
            .field("pin_workers", &self.pin_workers)
            .field("on_worker_start", &self.customs.on_start.is_some())
            .field("initializer", &self.customs.initializer.is_some())
            .field("on_worker_exit", &self.customs.on_exit.is_some())
            .field("observers", &self.observers)
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_hand_is_known() {
        assert!(is_at_hand(&vec![1, 2].into_iter()));
        assert!(is_at_hand(&[String::new()].into_iter()));
        assert!(is_at_hand(&(0..3_u64)) && is_at_hand(&(0..=3_u64)));
        assert!(!is_at_hand(&vec![1, 2].into_iter().map(|n| n + 1)));
        assert!(!is_at_hand(&std::iter::repeat_n(1, 2)));
    }
}
