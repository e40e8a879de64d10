//! [`Executor`]: the one trait that threads, processes and machines share, and its contract.
//!
//! | | what holds for every executor |
//! |---|---|
//! | E1 | `submit` never fails: a refusal is a future that is done; it never blocks on a worker, except for room where a bound was asked for |
//! | E2 | every future that was handed out ends: value, error or cancelled |
//! | E3 | a panic, or an `Err` of `try_submit`, is the error of its own future and of no other |
//! | E4 | tasks start by their priority, and those of one priority in the order in which they were submitted, but for one that another call of the executor waits for |
//! | E5 | a task that has not started can be cancelled, and then never runs |
//! | E6 | `map` yields one result an item, in the order of the items |
//! | E7 | `shutdown` waits until all that was submitted has ended; what comes later is refused |
//! | E8 | `shutdown_with` can cancel what has not started, and need not wait |
//! | E9 | `shutdown` can be called again, from any thread; a call that waits always waits |
//! | E10 | dropping the executor is `shutdown()`; while unwinding it also cancels what has not started |

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::future::Future;
use crate::map::{Map, MapOptions, MapUnordered};
use crate::options::TaskOptions;
use crate::portable::{Fallible, Plain, Portable};
use crate::task::{Batch, OneCall, Optioned, Task};

/// How [`Executor::shutdown_with`] ends an executor.
///
/// ```
/// use concurrent_futures::{Executor, Shutdown, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// let futures: Vec<_> = (0..100).map(|n| pool.submit(|n: u32| n, n)).collect();
/// pool.shutdown_with(Shutdown { cancel_futures: true, ..Shutdown::default() });
/// assert!(futures.iter().all(|future| future.done()));        // with a value, or cancelled
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Return only when every task has ended and every worker is gone.
    pub wait: bool,
    /// Cancel the tasks that have not started. Those that run may hear of it ([`task::cancelled`](crate::task::cancelled));
    /// if they fail, they are not tried again.
    pub cancel_futures: bool,
}

impl Default for Shutdown {
    /// Waits, cancels nothing.
    fn default() -> Self {
        Shutdown { wait: true, cancel_futures: false }
    }
}

/// A call that an executor had no room for: what was given to `submit_or_return`.
///
/// ```
/// use std::sync::{Arc, Barrier};
/// use concurrent_futures::{Returned, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::builder().max_workers(1).max_pending(1).build()?;
/// let gate = Arc::new(Barrier::new(2));
/// let own = Arc::clone(&gate);
/// let running = pool.spawn(move || _ = own.wait());
/// while !running.running() {
///     std::thread::yield_now();
/// }
/// let queued = pool.submit(str::len, "one");
/// let Err(Returned { argument, .. }) = pool.submit_or_return(str::len, "two") else { unreachable!("it is full") };
/// assert_eq!(argument, "two");
/// gate.wait();
/// assert_eq!(queued.result()?, 3);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Returned<F, A> {
    /// The function.
    pub function: F,
    /// Its argument.
    pub argument: A,
}

impl<F, A> fmt::Debug for Returned<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned").field("function", &std::any::type_name::<F>()).finish_non_exhaustive()
    }
}

impl<F, A> fmt::Display for Returned<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = std::any::type_name::<F>();
        write!(f, "no room for {function} in the queue of its executor; `submit` waits for room")
    }
}

impl<F, A> StdError for Returned<F, A> {}

/// Runs calls somewhere else: on threads, in processes, on machines.
///
/// A function and its argument go in, a [`Future`] comes out. Several arguments travel as a
/// tuple: `submit(|(a, b)| a + b, (2, 3))`. The function is a `fn` item or a closure that
/// captures nothing; what it needs comes in the argument, because it may run in another process.
/// (A capture without size, such as a unit struct, is made anew there.)
///
/// Code that takes `&impl Executor` runs unchanged on every engine; `Box<dyn Executor>` chooses
/// one at run time. (With a `pool: &dyn Executor` in hand, write `(&pool).submit(…)`: the methods
/// that take functions are those of the reference.)
///
/// ```
/// use concurrent_futures::{Error, Executor, SerialExecutor, ThreadPoolExecutor};
///
/// fn total(executor: &impl Executor) -> Result<u64, Error> {
///     executor.map(|n: u64| n * n, 1..=10).sum()
/// }
///
/// assert_eq!(total(&ThreadPoolExecutor::new(2)?)?, 385);
/// let any: Box<dyn Executor> = Box::new(SerialExecutor::new());
/// assert_eq!(total(&any)?, 385);
/// # Ok::<(), Error>(())
/// ```
///
/// A closure that captures does not compile:
///
/// ```compile_fail
/// # use concurrent_futures::{Executor, SerialExecutor};
/// let by = 3;
/// let _ = SerialExecutor::new().submit(move |n: u64| n * by, 2);
/// ```
pub trait Executor: Send + Sync {
    /// Takes over a task. Must not block on workers, unless the user has asked for a bound of what
    /// waits; a task that cannot be run is [failed](Task::fail).
    ///
    /// ```
    /// use concurrent_futures::{Executor, Shutdown, Task};
    ///
    /// /// Tells what it is given, and runs it here and now.
    /// struct Loud;
    ///
    /// impl Executor for Loud {
    ///     fn execute(&self, task: Task) {
    ///         println!("{}", task.task());
    ///         task.run();
    ///     }
    ///     fn shutdown_with(&self, _: Shutdown) {}
    /// }
    ///
    /// assert_eq!(Loud.submit(|n: u32| n + 1, 41).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn execute(&self, task: Task);

    /// Takes over a task, or gives it back if what waits is at its bound. Never blocks on workers.
    ///
    /// An executor that does not say how has no bound.
    ///
    /// ```
    /// use concurrent_futures::{Executor, Shutdown, Task};
    ///
    /// /// Has no room, ever.
    /// struct Full;
    ///
    /// impl Executor for Full {
    ///     fn execute(&self, task: Task) {
    ///         task.cancel();
    ///     }
    ///     fn execute_or_return(&self, task: Task) -> Result<(), Task> {
    ///         Err(task)
    ///     }
    ///     fn shutdown_with(&self, _: Shutdown) {}
    /// }
    ///
    /// assert_eq!(Full.submit_or_return(|n: u32| n, 42).unwrap_err().argument, 42);
    /// ```
    ///
    /// # Errors
    ///
    /// The task itself.
    fn execute_or_return(&self, task: Task) -> Result<(), Task> {
        self.execute(task);
        Ok(())
    }

    /// Ends the executor as `how` says. Called by one of its own workers, it never waits: that
    /// worker is among those it would wait for.
    ///
    /// ```
    /// use concurrent_futures::{Executor, Shutdown, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let future = pool.spawn(|| 42);
    /// pool.shutdown_with(Shutdown { wait: false, cancel_futures: false });
    /// assert_eq!(future.result()?, 42);                   // what it had, it does
    /// assert!(pool.spawn(|| 42).result().is_err());       // and nothing more
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn shutdown_with(&self, how: Shutdown);

    /// Ends the executor and waits until every task has ended, but no longer than `limit`; true
    /// if they have. Nothing is cancelled when the time is up.
    ///
    /// An executor that does not say how starts to shut down and returns false at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Executor, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let future = pool.spawn(|| 42);
    /// if !pool.shutdown_timeout(Duration::from_secs(60)) {
    ///     println!("something takes long; it goes on");
    /// }
    /// assert_eq!(future.result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn shutdown_timeout(&self, limit: Duration) -> bool {
        let _ = limit;
        self.shutdown_with(Shutdown { wait: false, cancel_futures: false });
        false
    }

    /// Ends the executor: refuses new tasks, waits for all that it has.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let future = pool.spawn(|| 42);
    /// pool.shutdown();
    /// assert!(future.done());
    /// assert!(pool.spawn(|| 42).result().is_err());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn shutdown(&self) {
        self.shutdown_with(Shutdown::default());
    }

    /// Hands over the call `function(argument)`. Whatever goes wrong arrives at
    /// [`Future::result`]. It does not block, unless the executor was given a bound
    /// ([`max_pending`](crate::ThreadPoolBuilder::max_pending)).
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     let future = pool.submit(|(base, power)| u64::pow(base, power), (2, 10));
    ///     assert_eq!(future.result()?, 1024);
    ///     Ok(())
    /// }
    /// ```
    fn submit<F, A, R>(&self, function: F, argument: A) -> Future<R>
    where
        Self: Sized,
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Portable,
        R: Portable,
    {
        hand_over(self, OneCall(Plain::<F, A, R>::new(function), argument))
    }

    /// As [`submit`](Self::submit), with [`TaskOptions`]: a time limit, further attempts, a priority.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, TaskOptions, init};
    ///
    /// fn main() -> Result<(), Error> {
    ///     init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     let options = TaskOptions::new().timeout(Duration::from_millis(20));
    ///     let error = pool.submit_with(|()| loop {}, (), options).result().map(|(): ()| ()).unwrap_err();
    ///     assert!(matches!(error, Error::TimedOut { limit, .. } if limit == Duration::from_millis(20)));
    ///     Ok(())
    /// }
    /// ```
    fn submit_with<F, A, R>(&self, function: F, argument: A, options: TaskOptions) -> Future<R>
    where
        Self: Sized,
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Portable,
        R: Portable,
    {
        hand_over(self, Optioned::new(Plain::<F, A, R>::new(function), argument, options))
    }

    /// As [`submit_with`](Self::submit_with), for a function that can fail.
    ///
    /// ```
    /// use concurrent_futures::{Executor, SerialExecutor, TaskOptions, task};
    ///
    /// /// Is there at the second attempt.
    /// fn fetch(page: u32) -> Result<u32, String> {
    ///     if task::attempt() < 2 { Err(format!("page {page} is busy")) } else { Ok(page) }
    /// }
    ///
    /// let options = TaskOptions::new().retries(1).retry_if(|_| true).backoff(Default::default(), Default::default());
    /// assert_eq!(SerialExecutor::new().try_submit_with(fetch, 7, options).result()?, 7);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn try_submit_with<F, A, R, E>(&self, function: F, argument: A, options: TaskOptions) -> Future<R>
    where
        Self: Sized,
        F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    {
        hand_over(self, Optioned::new(Fallible::<F, A, R, E>::new(function), argument, options))
    }

    /// As [`submit`](Self::submit), but if the executor is at its bound
    /// ([`max_pending`](crate::ThreadPoolBuilder::max_pending)), function and argument come back.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor, Returned};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).max_pending(10).build()?;
    ///     match pool.submit_or_return(|text: String| text.len(), "a request".to_string()) {
    ///         Ok(future) => assert_eq!(future.result()?, 9),
    ///         Err(Returned { argument, .. }) => println!("too busy for {argument:?}"),
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Returned`] if there is no room, and only then: any other refusal is the future's.
    fn submit_or_return<F, A, R>(&self, function: F, argument: A) -> Result<Future<R>, Returned<F, A>>
    where
        Self: Sized,
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Portable,
        R: Portable,
    {
        let call = OneCall(Plain::<F, A, R>::new(function), argument);
        Task::offer(call, |task| self.execute_or_return(task))
            .map_err(|OneCall(_, argument)| Returned { function, argument })
    }

    /// As [`submit`](Self::submit), for a function that can fail: its `Err` becomes the future's
    /// [`Error::Raised`](crate::Error::Raised).
    ///
    /// ```
    /// use concurrent_futures::{Executor, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let future = Executor::try_submit(&pool, |text: String| text.parse::<u16>(), "70000".to_string());
    /// let error = future.result().unwrap_err();
    /// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn try_submit<F, A, R, E>(&self, function: F, argument: A) -> Future<R>
    where
        Self: Sized,
        F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    {
        hand_over(self, OneCall(Fallible::<F, A, R, E>::new(function), argument))
    }

    /// Calls `function` on every item; yields the results in the order of the items.
    ///
    /// All items are submitted before it returns, and run even if the results are never
    /// looked at. An error is the result of its item; the others go on. Dropping the iterator
    /// cancels what has not started.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(2)?;
    ///     let squares = pool.map(|n: u64| n * n, 1..=4);
    ///     assert_eq!(squares.collect::<Result<Vec<_>, _>>()?, [1, 4, 9, 16]);
    ///     Ok(())
    /// }
    /// ```
    fn map<F, A, R, I>(&self, function: F, items: I) -> Map<'static, R>
    where
        Self: Sized,
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
    {
        let function = Plain::<F, A, R>::new(function);
        Map::eager(items.into_iter(), &MapOptions::new(), |items| hand_over(self, Batch(function, items, 0)))
    }

    /// As [`map`](Self::map), with [`MapOptions`]: chunks, a bounded buffer that pulls the items
    /// lazily (so that they may be without end), a time limit.
    ///
    /// ```
    /// use concurrent_futures::{Executor, MapOptions, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(2)?;
    ///     let squares = pool.map_with(|n: u64| n * n, 0..10_000, MapOptions::new().chunksize(500));
    ///     assert_eq!(squares.sum::<Result<u64, _>>()?, 333_283_335_000);
    ///     Ok(())
    /// }
    /// ```
    fn map_with<'a, F, A, R, I>(&'a self, function: F, items: I, options: MapOptions) -> Map<'a, R>
    where
        Self: Sized,
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A, IntoIter: Send + 'a>,
    {
        let function = Plain::<F, A, R>::new(function);
        let priority = options.order();
        Map::new(items.into_iter(), &options, move |items| hand_over(self, Batch(function, items, priority)))
    }

    /// As [`map`](Self::map), for a function that can fail: its `Err` is the result of its item.
    ///
    /// ```
    /// use concurrent_futures::{Executor, SerialExecutor};
    ///
    /// let parse = |text: String| text.parse::<u32>();
    /// let executor = SerialExecutor::new();
    /// let numbers: Vec<_> = executor.try_map(parse, ["1", "two", "3"].map(String::from)).collect();
    /// assert!(matches!(numbers[..], [Ok(1), Err(_), Ok(3)]));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn try_map<F, A, R, E, I>(&self, function: F, items: I) -> Map<'static, R>
    where
        Self: Sized,
        F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
        I: IntoIterator<Item = A>,
    {
        let function = Fallible::<F, A, R, E>::new(function);
        Map::eager(items.into_iter(), &MapOptions::new(), |items| hand_over(self, Batch(function, items, 0)))
    }

    /// As [`try_map`](Self::try_map), with [`MapOptions`].
    ///
    /// ```
    /// use concurrent_futures::{Executor, MapOptions, SerialExecutor};
    ///
    /// let parse = |text: String| text.parse::<u32>();
    /// let executor = SerialExecutor::new();
    /// let options = MapOptions::new().fail_fast(true);
    /// let numbers: Vec<_> = executor.try_map_with(parse, ["1", "two", "3"].map(String::from), options).collect();
    /// assert!(matches!(numbers[..], [Ok(1), Err(_)]));            // the first error ends it
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn try_map_with<'a, F, A, R, E, I>(&'a self, function: F, items: I, options: MapOptions) -> Map<'a, R>
    where
        Self: Sized,
        F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
        I: IntoIterator<Item = A, IntoIter: Send + 'a>,
    {
        let function = Fallible::<F, A, R, E>::new(function);
        let priority = options.order();
        Map::new(items.into_iter(), &options, move |items| hand_over(self, Batch(function, items, priority)))
    }

    /// As [`map`](Self::map), but yields the results as they come, each with the index of its
    /// item. With options: [`map_with`](Self::map_with) and [`Map::unordered`].
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let words = ["three", "a", "to"];
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// for (index, length) in pool.map_unordered(str::len, words) {
    ///     println!("{} has {} letters", words[index], length?);
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn map_unordered<F, A, R, I>(&self, function: F, items: I) -> MapUnordered<'static, R>
    where
        Self: Sized,
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        I: IntoIterator<Item = A>,
    {
        self.map(function, items).unordered()
    }

    /// As [`map_unordered`](Self::map_unordered), for a function that can fail.
    ///
    /// ```
    /// use concurrent_futures::{Executor, SerialExecutor};
    ///
    /// let texts = ["1", "two", "3"];
    /// let executor = SerialExecutor::new();
    /// for (index, number) in executor.try_map_unordered(|text: String| text.parse::<u32>(), texts.map(String::from)) {
    ///     match number {
    ///         Ok(number) => println!("{number}"),
    ///         Err(error) => println!("{}: {error}", texts[index]),
    ///     }
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn try_map_unordered<F, A, R, E, I>(&self, function: F, items: I) -> MapUnordered<'static, R>
    where
        Self: Sized,
        F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
        I: IntoIterator<Item = A>,
    {
        self.try_map(function, items).unordered()
    }
}

fn hand_over<J: crate::task::PortableJob>(executor: &impl Executor, job: J) -> Future<J::Output> {
    let (task, future) = Task::new(job);
    executor.execute(task);
    future
}

macro_rules! forward {
    ($pointer:ty) => {
        impl<E: Executor + ?Sized> Executor for $pointer {
            fn execute(&self, task: Task) {
                (**self).execute(task);
            }

            fn execute_or_return(&self, task: Task) -> Result<(), Task> {
                (**self).execute_or_return(task)
            }

            fn shutdown_with(&self, how: Shutdown) {
                (**self).shutdown_with(how);
            }

            fn shutdown_timeout(&self, limit: Duration) -> bool {
                (**self).shutdown_timeout(limit)
            }

            fn shutdown(&self) {
                (**self).shutdown();
            }
        }
    };
}

forward!(&E);
forward!(Box<E>);
forward!(Arc<E>);
