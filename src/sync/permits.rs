//! [`Semaphore`] and [`Lock`]: so many may, or one.
//!
//! Not here: who waits for whom (`hall.rs`). The rule: what a worker process holds is known, and given back when it dies.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hall::{Bell, Call, Door, Hall, Place};
use super::handle::Handle;
use super::served::{Answer, Errand, HERE, Op, Served, Told, next_id};
use crate::future::deadline_after;

/// Permits of which there are so many: who has one goes on, the others wait, in whichever thread or worker process.
///
/// Clones, also those that travel as arguments, are handles of the same semaphore. It is Python's `threading.Semaphore`
/// and `multiprocessing.Semaphore`, without their hang: a permit whose holder's process dies is given back, and the next
/// one to get a permit is told so ([`Permit::is_abandoned`]).
///
/// ```
/// use concurrent_futures::{Executor, ProcessPoolExecutor, sync::Semaphore};
///
/// fn fetch((page, connections): (u32, Semaphore)) -> u32 {
///     let _permit = connections.acquire();
///     // no more than two of us are here
///     page
/// }
///
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();
///     let pool = ProcessPoolExecutor::new(4)?;
///     let connections = Semaphore::new(2);
///     let pages = pool.map(fetch, (0..8).map(|page| (page, connections.clone())));
///     assert_eq!(pages.collect::<Result<Vec<_>, _>>()?, (0..8).collect::<Vec<_>>());
///     assert_eq!(connections.available(), 2);
///     Ok(())
/// }
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Semaphore {
    handle: Handle<Permits>,
}

/// The right to go on, of a [`Semaphore`]. It is given back when it is dropped.
///
/// ```
/// use concurrent_futures::sync::Semaphore;
///
/// let places = Semaphore::new(2);
/// let permit = places.acquire();
/// assert_eq!(places.available(), 1);
/// drop(permit);
/// assert_eq!(places.available(), 2);
/// ```
#[must_use = "it is given back at once if it is not kept"]
pub struct Permit {
    handle: Handle<Permits>,
    is_abandoned: bool,
}

/// One may, the others wait, in whichever thread or worker process.
///
/// Clones, also those that travel as arguments, are handles of the same lock. It is Python's `threading.Lock` and
/// `multiprocessing.Lock`, without their hang: a lock whose holder's process dies is given back, and the next one to get
/// it is told so ([`LockGuard::is_abandoned`]). It guards no data, but what is outside of the program: a file, a device.
///
/// It is not reentrant: a thread that waits for a lock that it holds waits for ever, unless with a limit.
///
/// ```
/// use std::io::Write;
/// use concurrent_futures::{Executor, ProcessPoolExecutor, sync::Lock};
///
/// fn append((file, lock): (std::path::PathBuf, Lock)) -> Result<(), std::io::Error> {
///     let _guard = lock.acquire();
///     let mut file = std::fs::OpenOptions::new().append(true).open(file)?;
///     file.write_all(b"one ")?;
///     file.write_all(b"line\n")
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     concurrent_futures::init();
///     let file = std::env::temp_dir().join(format!("lines-{}", std::process::id()));
///     std::fs::write(&file, "")?;
///     let lock = Lock::new();
///     let pool = ProcessPoolExecutor::new(2)?;
///     for written in pool.try_map(append, vec![(file.clone(), lock.clone()); 10]) {
///         written?;
///     }
///     assert_eq!(std::fs::read_to_string(&file)?, "one line\n".repeat(10));
///     # std::fs::remove_file(&file)?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lock {
    handle: Handle<Permits>,
}

/// The one who may, of a [`Lock`]. It is given back when this is dropped.
///
/// ```
/// use concurrent_futures::sync::Lock;
///
/// let lock = Lock::new();
/// let guard = lock.acquire();
/// assert!(lock.is_locked());
/// drop(guard);
/// assert!(!lock.is_locked());
/// ```
#[must_use = "it is given back at once if it is not kept"]
pub struct LockGuard(Permit);

struct Permits {
    id: u64,
    state: Hall<State>,
}

struct State {
    free: usize,
    /// How many each worker process holds.
    held: BTreeMap<u64, usize>,
    /// Somebody died or panicked who held one, and nobody has been told.
    abandoned: bool,
}

impl State {
    /// Takes one for `client`. Was it abandoned?
    fn take(&mut self, client: u64) -> Option<(bool, Call)> {
        self.free = self.free.checked_sub(1)?;
        if client != HERE {
            *self.held.entry(client).or_default() += 1;
        }
        Some((std::mem::take(&mut self.abandoned), Call::Nobody))
    }

    fn give_back(&mut self, count: usize, abandoned: bool) -> ((), Call) {
        self.free += count;
        self.abandoned |= abandoned;
        ((), Call::Some(Door::In, count))
    }
}

impl Handle<Permits> {
    fn of(permits: usize) -> Self {
        let state = State { free: permits, held: BTreeMap::new(), abandoned: false };
        Handle::new(Permits { id: next_id(), state: Hall::new(state) })
    }

    fn available(&self) -> usize {
        match self {
            Handle::Here(permits) => permits.state.step(|state| (state.free, Call::Nobody)),
            Handle::There(remote) => match remote.ask(Op::Available, None) {
                Told::Numbers(free, _) => usize::try_from(free).unwrap_or(usize::MAX),
                _ => 0,
            },
        }
    }

    fn acquire(&self, limit: Option<Duration>) -> Option<Permit> {
        let is_abandoned = match self {
            Handle::Here(permits) => {
                permits.state.wait(Door::In, limit.and_then(deadline_after), |state| state.take(HERE))?
            }
            Handle::There(remote) => match remote.ask(Op::Acquire, limit) {
                Told::Held(is_abandoned) => is_abandoned,
                _ => return None,
            },
        };
        Some(Permit { handle: self.clone(), is_abandoned })
    }

    /// For ever.
    fn wait(&self) -> Permit {
        loop {
            if let Some(permit) = self.acquire(None) {
                return permit;
            }
        }
    }
}

impl Semaphore {
    /// One with so many permits. With none it lets nobody pass, ever.
    ///
    /// ```
    /// use concurrent_futures::sync::Semaphore;
    ///
    /// assert_eq!(Semaphore::new(3).available(), 3);
    /// ```
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Semaphore { handle: Handle::of(permits) }
    }

    /// Waits for a permit.
    ///
    /// ```
    /// use concurrent_futures::sync::Semaphore;
    ///
    /// let places = Semaphore::new(1);
    /// std::thread::scope(|s| {
    ///     for guest in 0..3 {
    ///         let places = &places;
    ///         s.spawn(move || {
    ///             let _permit = places.acquire();
    ///             println!("guest {guest} is alone here");
    ///         });
    ///     }
    /// });
    /// assert_eq!(places.available(), 1);
    /// ```
    pub fn acquire(&self) -> Permit {
        self.handle.wait()
    }

    /// Waits for a permit for `limit` at the most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::sync::Semaphore;
    ///
    /// let places = Semaphore::new(1);
    /// let permit = places.acquire();
    /// assert!(places.acquire_timeout(Duration::from_millis(1)).is_none());
    /// drop(permit);
    /// assert!(places.acquire_timeout(Duration::from_secs(60)).is_some());
    /// ```
    #[must_use]
    pub fn acquire_timeout(&self, limit: Duration) -> Option<Permit> {
        self.handle.acquire(Some(limit))
    }

    /// A permit, if there is one now.
    ///
    /// ```
    /// use concurrent_futures::sync::Semaphore;
    ///
    /// let places = Semaphore::new(1);
    /// let permit = places.try_acquire();
    /// assert!(permit.is_some() && places.try_acquire().is_none());
    /// ```
    #[must_use]
    pub fn try_acquire(&self) -> Option<Permit> {
        self.handle.acquire(Some(Duration::ZERO))
    }

    /// How many permits there are now.
    ///
    /// ```
    /// use concurrent_futures::sync::Semaphore;
    ///
    /// let places = Semaphore::new(2);
    /// let _permit = places.acquire();
    /// assert_eq!(places.available(), 1);
    /// ```
    #[must_use]
    pub fn available(&self) -> usize {
        self.handle.available()
    }
}

impl Permit {
    /// Did one that held a permit of this semaphore die with its process, or give it back because of a panic, since the last
    /// one was given out? Then what it was about may be half done. One is told.
    ///
    /// ```
    /// use concurrent_futures::sync::Semaphore;
    ///
    /// let places = Semaphore::new(1);
    /// let own = places.clone();
    /// let panics = std::thread::spawn(move || {
    ///     let _permit = own.acquire();
    ///     panic!("half done");
    /// });
    /// panics.join().unwrap_err();
    /// assert!(places.acquire().is_abandoned());
    /// assert!(!places.acquire().is_abandoned());                  // one is told
    /// ```
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let panics = std::thread::panicking();
        match &self.handle {
            Handle::Here(permits) => permits.state.step(|state| state.give_back(1, panics)),
            Handle::There(remote) => remote.give_back(Op::Release(panics)),
        }
    }
}

impl Lock {
    /// One that nobody holds.
    ///
    /// ```
    /// use concurrent_futures::sync::Lock;
    ///
    /// assert!(!Lock::new().is_locked());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Lock { handle: Handle::of(1) }
    }

    /// Waits for the lock.
    ///
    /// ```
    /// use concurrent_futures::{ThreadPoolExecutor, sync::Lock};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let printer = Lock::new();
    /// let print = move |page: u32| {
    ///     let _guard = printer.acquire();
    ///     println!("page {page}, and nobody else's");
    /// };
    /// pool.map(print, 1..=3).collect::<Result<(), _>>()?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn acquire(&self) -> LockGuard {
        LockGuard(self.handle.wait())
    }

    /// Waits for the lock for `limit` at the most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::sync::Lock;
    ///
    /// let lock = Lock::new();
    /// let guard = lock.acquire();
    /// assert!(lock.acquire_timeout(Duration::from_millis(1)).is_none());
    /// drop(guard);
    /// assert!(lock.acquire_timeout(Duration::from_secs(60)).is_some());
    /// ```
    #[must_use]
    pub fn acquire_timeout(&self, limit: Duration) -> Option<LockGuard> {
        self.handle.acquire(Some(limit)).map(LockGuard)
    }

    /// The lock, if nobody holds it now.
    ///
    /// ```
    /// use concurrent_futures::sync::Lock;
    ///
    /// let lock = Lock::new();
    /// let guard = lock.try_acquire();
    /// assert!(guard.is_some() && lock.try_acquire().is_none());
    /// ```
    #[must_use]
    pub fn try_acquire(&self) -> Option<LockGuard> {
        self.acquire_timeout(Duration::ZERO)
    }

    /// Does somebody hold it?
    ///
    /// ```
    /// use concurrent_futures::sync::Lock;
    ///
    /// let lock = Lock::new();
    /// let _guard = lock.acquire();
    /// assert!(lock.is_locked());
    /// ```
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.handle.available() == 0
    }
}

impl LockGuard {
    /// Did the one who held it before die with its process, or give it back because of a panic? Then what it was about may
    /// be half done. One is told.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor, sync::Lock};
    ///
    /// fn dies_with(lock: Lock) {
    ///     let _guard = lock.acquire();
    ///     std::process::abort();
    /// }
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let (pool, lock) = (ProcessPoolExecutor::new(1)?, Lock::new());
    ///     assert!(pool.submit(dies_with, lock.clone()).result().is_err());
    ///     let guard = lock.acquire();                 // given back with the death of its holder
    ///     assert!(guard.is_abandoned());
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.0.is_abandoned
    }
}

impl Served for Permits {
    fn id(&self) -> u64 {
        self.id
    }

    fn serve(&self, errand: &mut Errand, bell: &Arc<dyn Bell>) -> Option<Answer> {
        let client = errand.client;
        Some(match errand.op {
            Op::Acquire => {
                let attempt = |state: &mut State| state.take(client);
                let abandoned = self.state.attempt(Door::In, bell, &mut errand.place, attempt)?;
                Told::Held(abandoned).into()
            }
            Op::Release(panics) => {
                self.state.step(|state| match state.held.get_mut(&client) {
                    // It gives back what it holds, and no more.
                    Some(held) if *held > 0 => {
                        *held -= 1;
                        state.give_back(1, panics)
                    }
                    _ => ((), Call::Nobody),
                });
                Told::Done.into()
            }
            Op::Available => {
                Told::Numbers(self.state.step(|state| (state.free as u64, Call::Nobody)), 0).into()
            }
            _ => Answer::refused("a semaphore"),
        })
    }

    fn give_up(&self, place: Place) {
        self.state.give_up(place);
    }

    fn bury(&self, client: u64) {
        self.state.step(|state| match state.held.remove(&client) {
            Some(count) if count > 0 => state.give_back(count, true),
            _ => ((), Call::Nobody),
        });
    }
}

impl Default for Lock {
    fn default() -> Self {
        Lock::new()
    }
}

impl PartialEq for Lock {
    /// Are they handles of the same lock?
    fn eq(&self, other: &Self) -> bool {
        self.handle.is(&other.handle)
    }
}

impl Eq for Lock {}

impl PartialEq for Semaphore {
    /// Are they handles of the same semaphore?
    fn eq(&self, other: &Self) -> bool {
        self.handle.is(&other.handle)
    }
}

impl Eq for Semaphore {}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("is_abandoned", &self.is_abandoned).finish()
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("is_locked", &self.is_locked()).finish()
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("is_abandoned", &self.0.is_abandoned).finish()
    }
}
