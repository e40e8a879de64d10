//! [`Event`]: something that happens once, and that others wait for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hall::{Bell, Call, Door, Hall, Place};
use super::handle::Handle;
use super::served::{Answer, Errand, Op, Served, Told, next_id};
use crate::future::deadline_after;

/// A flag that is set by one and waited for by others, in whichever thread or worker process.
///
/// Clones, also those that travel as arguments, are handles of the same event. It is Python's `threading.Event` and
/// `multiprocessing.Event`; nobody who waits for it hangs because another has died.
///
/// ```
/// use concurrent_futures::{Executor, ProcessPoolExecutor, sync::Event};
///
/// fn wait_for(start: Event) -> bool {
///     start.wait();
///     start.is_set()
/// }
///
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();
///     let pool = ProcessPoolExecutor::new(2)?;
///     let start = Event::new();
///     let futures = [pool.submit(wait_for, start.clone()), pool.submit(wait_for, start.clone())];
///     start.set();
///     for future in futures {
///         assert!(future.result()?);
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Event {
    handle: Handle<Flag>,
}

struct Flag {
    id: u64,
    is_set: Hall<bool>,
}

impl Event {
    /// One that is not set.
    ///
    /// ```
    /// use concurrent_futures::sync::Event;
    ///
    /// assert!(!Event::new().is_set());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Event { handle: Handle::new(Flag { id: next_id(), is_set: Hall::new(false) }) }
    }

    /// Sets it, and wakes all who wait for it. Without effect if it is set.
    ///
    /// ```
    /// use concurrent_futures::sync::Event;
    ///
    /// let (event, other) = (Event::new(), Event::new());
    /// let clone = event.clone();
    /// event.set();
    /// assert!(clone.is_set() && !other.is_set());
    /// ```
    pub fn set(&self) {
        match &self.handle {
            Handle::Here(flag) => flag.set(true),
            Handle::There(remote) => {
                remote.ask(Op::Set, None);
            }
        }
    }

    /// Takes it back: who waits from now on waits until it is set again.
    ///
    /// ```
    /// use concurrent_futures::sync::Event;
    ///
    /// let event = Event::new();
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// ```
    pub fn clear(&self) {
        match &self.handle {
            Handle::Here(flag) => flag.set(false),
            Handle::There(remote) => {
                remote.ask(Op::Clear, None);
            }
        }
    }

    /// Is it set?
    ///
    /// ```
    /// use concurrent_futures::{ThreadPoolExecutor, sync::Event};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let stop = Event::new();
    /// let own = stop.clone();
    /// let turns = pool.spawn(move || (0u64..).take_while(|_| !own.is_set()).count());
    /// stop.set();
    /// println!("{} turns", turns.result()?);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn is_set(&self) -> bool {
        match &self.handle {
            Handle::Here(flag) => flag.is_set.step(|is_set| (*is_set, Call::Nobody)),
            Handle::There(remote) => remote.ask(Op::IsSet, None) == Told::Is(true),
        }
    }

    /// Waits until it is set.
    ///
    /// ```
    /// use concurrent_futures::{ThreadPoolExecutor, sync::Event};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let start = Event::new();
    /// let own = start.clone();
    /// let answer = pool.spawn(move || {
    ///     own.wait();
    ///     42
    /// });
    /// start.set();
    /// assert_eq!(answer.result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn wait(&self) {
        self.wait_for(None);
    }

    /// Waits for `limit` at the most; true if it is set.
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::sync::Event;
    ///
    /// let event = Event::new();
    /// assert!(!event.wait_timeout(Duration::from_millis(1)));
    /// event.set();
    /// assert!(event.wait_timeout(Duration::ZERO));
    /// ```
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.wait_for(Some(limit))
    }

    fn wait_for(&self, limit: Option<Duration>) -> bool {
        match &self.handle {
            Handle::Here(flag) => flag.is_set.wait(Door::In, limit.and_then(deadline_after), seen).is_some(),
            Handle::There(remote) => remote.ask(Op::Wait, limit) == Told::Done,
        }
    }
}

fn seen(is_set: &mut bool) -> Option<((), Call)> {
    is_set.then_some(((), Call::Nobody))
}

impl Flag {
    fn set(&self, to: bool) {
        self.is_set.step(|is_set| {
            *is_set = to;
            ((), if to { Call::All } else { Call::Nobody })
        });
    }
}

impl Served for Flag {
    fn id(&self) -> u64 {
        self.id
    }

    fn serve(&self, errand: &mut Errand, bell: &Arc<dyn Bell>) -> Option<Answer> {
        Some(match errand.op {
            Op::Set => {
                self.set(true);
                Told::Done.into()
            }
            Op::Clear => {
                self.set(false);
                Told::Done.into()
            }
            Op::IsSet => Told::Is(self.is_set.step(|is_set| (*is_set, Call::Nobody))).into(),
            Op::Wait => {
                self.is_set.attempt(Door::In, bell, &mut errand.place, seen)?;
                Told::Done.into()
            }
            _ => Answer::refused("an event"),
        })
    }

    fn give_up(&self, place: Place) {
        self.is_set.give_up(place);
    }

    fn bury(&self, _: u64) {}
}

impl Default for Event {
    fn default() -> Self {
        Event::new()
    }
}

impl PartialEq for Event {
    /// Are they handles of the same event?
    fn eq(&self, other: &Self) -> bool {
        self.handle.is(&other.handle)
    }
}

impl Eq for Event {}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish()
    }
}
