//! Where calls are held until the script releases them, whether they run in this process or not.
//!
//! A call of another process comes by way of the common [`Turnstile`], one for all scripts; a call
//! of this process comes in person, which is quicker.

use std::collections::HashMap;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use concurrent_futures::{Future, Promise};
use serde::{Deserialize, Serialize};

use crate::common::{Arrival, Ticket, Turnstile};

/// The script's side of one call that is to be held. Dropping it lets the call go.
pub(crate) struct Held {
    number: u32,
    /// Over when the call has arrived.
    pub(crate) arrived: Future<()>,
}

/// The call's side.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Pass {
    /// The host of the turnstile.
    host: u32,
    ticket: Ticket,
}

#[derive(Default)]
struct Desk {
    expected: Mutex<HashMap<u32, Place>>,
    someone_released: Condvar,
}

struct Place {
    released: bool,
    arriving: Option<Promise<()>>,
    arrival: Option<Arrival>,
}

fn desk() -> &'static Desk {
    static DESK: OnceLock<Desk> = OnceLock::new();
    DESK.get_or_init(Desk::default)
}

fn turnstile() -> &'static Turnstile {
    static TURNSTILE: OnceLock<Turnstile> = OnceLock::new();
    static KEEPER: OnceLock<()> = OnceLock::new();
    let turnstile = TURNSTILE.get_or_init(Turnstile::new);
    KEEPER.get_or_init(|| {
        thread::spawn(|| {
            loop {
                let arrival = turnstile.arrival();
                desk().admit(arrival.number, Some(arrival));
            }
        });
    });
    turnstile
}

impl Desk {
    fn expected(&self) -> MutexGuard<'_, HashMap<u32, Place>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call is here; without an `arrival` it waits in person.
    fn admit(&self, number: u32, arrival: Option<Arrival>) {
        let mut expected = self.expected();
        // One that nobody expects any more is let through.
        let Some(place) = expected.get_mut(&number) else { return };
        place.arrival = arrival.filter(|_| !place.released);
        let arriving = place.arriving.take();
        drop(expected);
        if let Some(promise) = arriving {
            promise.fulfil(());
        }
    }

    fn stand(&self, number: u32) {
        self.admit(number, None);
        let mut expected = self.expected();
        while expected.get(&number).is_some_and(|place| !place.released) {
            expected = self.someone_released.wait(expected).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Held {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (promise, arrived) = Promise::new();
        let place = Place { released: false, arriving: Some(promise), arrival: None };
        desk().expected().insert(number, place);
        Held { number, arrived }
    }

    pub(crate) fn pass(&self) -> Pass {
        Pass { host: process::id(), ticket: turnstile().ticket(self.number) }
    }

    pub(crate) fn release(&self) {
        if let Some(place) = desk().expected().get_mut(&self.number) {
            place.released = true;
            place.arrival = None;
        }
        desk().someone_released.notify_all();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        desk().expected().remove(&self.number);
        desk().someone_released.notify_all();
    }
}

impl Pass {
    pub(crate) fn wait(self) {
        if self.host == process::id() {
            desk().stand(self.ticket.number);
        } else {
            self.ticket.pass();
        }
    }
}
