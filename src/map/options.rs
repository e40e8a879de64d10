//! [`MapOptions`]: how a map goes about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;

/// Is told of every item that is over: its index, and whether it went well.
pub(super) type Hook = Arc<dyn Fn(usize, Result<(), &Error>) + Send + Sync>;

/// How [`Executor::map_with`](crate::Executor::map_with) goes about it. The default is what
/// `map` does: no chunk size, all submitted at once, no time limit.
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
#[derive(Clone, Default)]
#[must_use]
pub struct MapOptions {
    chunksize: Option<usize>,
    pub(super) buffersize: Option<usize>,
    pub(super) timeout: Option<Duration>,
    pub(super) fail_fast: bool,
    priority: i16,
    pub(super) on_item_done: Option<Hook>,
}

impl MapOptions {
    /// No chunk size, all submitted at once, no time limit.
    ///
    /// ```
    /// use concurrent_futures::{MapOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let doubled = pool.map_with(|n: u32| n * 2, 0..3, MapOptions::new());       // as `map`
    /// assert_eq!(doubled.collect::<Result<Vec<_>, _>>()?, [0, 2, 4]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn new() -> Self {
        MapOptions::default()
    }

    /// Items a task. More of them share the cost of a task, which matters for calls of a few
    /// microseconds; they run one after the other in one worker. Each has its own result, but
    /// if the worker process dies, its whole chunk is lost. At least 1.
    ///
    /// Default: each item starts as if it was a task of its own. A thread pool nevertheless takes many quick items
    /// at a time (`map` of a `Vec`, an array or a range, without options): it measures them, and they still start in
    /// their order, can be cancelled one by one, and never wait in a chunk while a worker has nothing to do. The
    /// price of the order is that items of less than about half a microsecond are run by one worker alone, at full
    /// speed; to share them out, give a chunk size.
    ///
    /// ```
    /// use concurrent_futures::{MapOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let squares = pool.map_with(|n: u64| n * n, 0..10_000, MapOptions::new().chunksize(500));
    /// assert_eq!(squares.sum::<Result<u64, _>>()?, 333_283_335_000);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn chunksize(mut self, items: usize) -> Self {
        self.chunksize = Some(items);
        self
    }

    /// The most items that are taken from the input and whose result has not been yielded: the
    /// input is pulled as results are taken. At least 1.
    ///
    /// ```
    /// use concurrent_futures::{MapOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let squares = pool.map_with(|n: u64| n * n, 0.., MapOptions::new().buffersize(16));     // without end
    /// assert_eq!(squares.take(3).collect::<Result<Vec<_>, _>>()?, [0, 1, 4]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn buffersize(mut self, items: usize) -> Self {
        self.buffersize = Some(items);
        self
    }

    /// Time for all results, counted from the call of `map_with`. When it is over, results that
    /// are there still come out; for each of the others comes [`Error::TimedOut`], those that
    /// have not started are cancelled, and nothing more is submitted.
    ///
    /// ```
    /// use std::sync::{Mutex, mpsc};
    /// use std::time::Duration;
    /// use concurrent_futures::{Error, MapOptions, ThreadPoolExecutor};
    ///
    /// let (tell, told) = mpsc::channel::<u32>();
    /// let told = Mutex::new(told);
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let options = MapOptions::new().timeout(Duration::from_millis(10));
    /// let mut map = pool.map_with(move |n| n + told.lock().unwrap().recv().unwrap_or(0), [1, 2], options);
    /// assert!(matches!(map.next(), Some(Err(Error::TimedOut { .. }))));           // one for each
    /// assert!(matches!(map.next(), Some(Err(Error::TimedOut { .. }))));
    /// drop(tell);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// The first error ends it. As soon as an item has failed, also while nobody asks for a
    /// result, those that have not started are cancelled and no more are pulled; the iterator
    /// yields what comes before the error, the error, and then nothing. Calls that run go on,
    /// unseen; so does the rest of a chunk that has started.
    ///
    /// ```
    /// use concurrent_futures::{Error, MapOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let mut quotients = pool.map_with(|n: i32| 6 / n, [3, 2, 0, 1], MapOptions::new().fail_fast(true));
    /// assert_eq!(quotients.next().unwrap()?, 2);
    /// assert_eq!(quotients.next().unwrap()?, 3);
    /// assert!(matches!(quotients.next(), Some(Err(Error::Panicked { .. }))));
    /// assert!(quotients.next().is_none());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn fail_fast(mut self, yes: bool) -> Self {
        self.fail_fast = yes;
        self
    }

    /// The [priority](crate::TaskOptions::priority) of all its calls. Default: 0.
    ///
    /// ```
    /// use concurrent_futures::{MapOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let later = pool.map_with(|n: u32| n * n, 0..100, MapOptions::new().priority(-1));
    /// assert_eq!(pool.spawn(|| 42).result()?, 42);        // need not wait for all of them
    /// assert_eq!(later.count(), 100);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// Calls `hook` once for each item when it is over, with its index in the input and its error
    /// if it has one: for progress bars, also while the results are not looked at. It runs where
    /// callbacks run ([`Future::add_done_callback`](crate::Future::add_done_callback)), so keep it
    /// short. The items of a chunk are over when their chunk is.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let done = Arc::new(AtomicUsize::new(0));                       // or a progress bar
    /// let count = Arc::clone(&done);
    /// let options = MapOptions::new().chunksize(10).on_item_done(move |_index, _outcome| {
    ///     count.fetch_add(1, Ordering::Relaxed);
    /// });
    /// let total: u32 = pool.map_with(|n: u32| n * 2, 0..25, options).sum::<Result<_, _>>()?;
    /// assert_eq!((total, done.load(Ordering::Relaxed)), (600, 25));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn on_item_done(mut self, hook: impl Fn(usize, Result<(), &Error>) + Send + Sync + 'static) -> Self {
        self.on_item_done = Some(Arc::new(hook));
        self
    }

    pub(crate) fn order(&self) -> i16 {
        self.priority
    }

    /// Does it leave everything open?
    pub(crate) fn says_nothing(&self) -> bool {
        matches!(
            self,
            MapOptions {
                chunksize: None,
                buffersize: None,
                timeout: None,
                fail_fast: false,
                priority: 0,
                on_item_done: None
            }
        )
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        for (name, value) in [("chunksize", self.chunksize), ("buffersize", self.buffersize)] {
            if value == Some(0) {
                return Err(Error::invalid(format!("the {name} of a map is 0"), "give at least 1"));
            }
        }
        Ok(())
    }

    pub(super) fn chunk(&self) -> usize {
        self.chunksize.unwrap_or(1).min(self.buffersize.unwrap_or(usize::MAX))
    }
}

impl fmt::Debug for MapOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapOptions")
            .field("chunksize", &self.chunksize)
            .field("buffersize", &self.buffersize)
            .field("timeout", &self.timeout)
            .field("fail_fast", &self.fail_fast)
            .field("priority", &self.priority)
            .field("on_item_done", &self.on_item_done.is_some())
            .finish()
    }
}
