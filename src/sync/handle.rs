//! A handle of an object that several share: here, or at the host for which this process works.
//!
//! Not here: the objects. The rule: an object lives as long as it has a handle, in whichever process.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::served::{Ask, Desk, Op, Served, Told};
use crate::enclosed::{self, Carried, Enclosure, Found, Whose};
use crate::primitives::Ordering;
use crate::primitives::statics::{AtomicBool, AtomicU64};

pub(super) enum Handle<C> {
    Here(Arc<C>),
    There(Arc<Remote>),
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        match self {
            Handle::Here(object) => Handle::Here(Arc::clone(object)),
            Handle::There(remote) => Handle::There(Arc::clone(remote)),
        }
    }
}

impl<C: Served> Handle<C> {
    pub(super) fn new(object: C) -> Self {
        Handle::Here(Arc::new(object))
    }

    fn id(&self) -> u64 {
        match self {
            Handle::Here(object) => object.id(),
            Handle::There(remote) => remote.id,
        }
    }

    /// Do they stand for the same object?
    pub(super) fn is(&self, other: &Self) -> bool {
        matches!(self, Handle::Here(_)) == matches!(other, Handle::Here(_)) && self.id() == other.id()
    }
}

/// An object, as what carries handles keeps it: known by nothing else.
pub(crate) struct Object(pub(crate) Arc<dyn Served>);

/// The objects of this process among what goes with a message.
pub(crate) fn objects_in(enclosed: &[Enclosure]) -> impl Iterator<Item = Arc<dyn Served>> {
    enclosed.iter().filter_map(|enclosure| {
        let object = enclosure.handle()?.object.downcast_ref::<Object>()?;
        Some(Arc::clone(&object.0))
    })
}

/// The same, the other way round.
pub(super) fn carried(objects: &[Arc<dyn Served>]) -> Vec<Enclosure> {
    let carry = |object: &Arc<dyn Served>| {
        Enclosure::Handle(Carried {
            whose: Whose::Ours,
            id: object.id(),
            object: Arc::new(Object(Arc::clone(object))),
        })
    };
    objects.iter().map(carry).collect()
}

impl<C: Served> Serialize for Handle<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (whose, object): (_, Arc<dyn Any + Send + Sync>) = match self {
            Handle::Here(object) => (Whose::Ours, Arc::new(Object(object.clone()))),
            Handle::There(remote) => (Whose::OfTheHost, remote.clone()),
        };
        let written = enclosed::enclose_handle(Carried { whose, id: self.id(), object });
        (written.map_err(ser::Error::custom)?, self.id()).serialize(serializer)
    }
}

impl<'de, C: Served> Deserialize<'de> for Handle<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (written, id) = <(u8, u64)>::deserialize(deserializer)?;
        let of_another_kind = || de::Error::custom("it is the handle of something else");
        match enclosed::handle(written, id).map_err(de::Error::custom)? {
            Found::Carried(Carried { whose: Whose::Ours, object, .. }) => {
                let object = object.downcast::<Object>().map_err(|_| of_another_kind())?;
                let object: Arc<dyn Any + Send + Sync> = object.0.clone();
                object.downcast().map(Handle::Here).map_err(|_| of_another_kind())
            }
            Found::Carried(Carried { whose: Whose::OfTheHost, object, .. }) => {
                object.downcast().map(Handle::There).map_err(|_| of_another_kind())
            }
            Found::OfTheHost => Ok(Handle::There(Remote::received(id))),
        }
    }
}

/// An object of the host, in a worker process.
pub(super) struct Remote {
    id: u64,
    /// How often the host has sent it.
    receipts: AtomicU64,
}

/// Those that there are, by their numbers at the host.
static REMOTES: Mutex<BTreeMap<u64, Weak<Remote>>> = Mutex::new(BTreeMap::new());

fn remotes() -> MutexGuard<'static, BTreeMap<u64, Weak<Remote>>> {
    REMOTES.lock().unwrap_or_else(PoisonError::into_inner)
}

static DESK: OnceLock<Box<dyn Desk>> = OnceLock::new();

/// This process asks its host there.
pub(crate) fn ask_at(desk: impl Desk + 'static) {
    let _ = DESK.set(Box::new(desk));
}

fn desk() -> &'static dyn Desk {
    &**DESK.get().unwrap_or_else(|| unreachable!("a worker has it before it has a handle"))
}

impl Remote {
    fn received(id: u64) -> Arc<Remote> {
        let mut remotes = remotes();
        let known = remotes.get(&id).and_then(Weak::upgrade);
        let remote = known.unwrap_or_else(|| {
            let remote = Arc::new(Remote { id, receipts: AtomicU64::new(0) });
            remotes.insert(id, Arc::downgrade(&remote));
            remote
        });
        remote.receipts.fetch_add(1, Ordering::Relaxed);
        remote
    }

    fn question(&self, op: Op, patience: Option<Duration>) -> Ask {
        let consumer = BASKET.try_with(|basket| basket.borrow().consumer).unwrap_or(0);
        Ask { object: self.id, consumer, op, patience, handles: Vec::new() }
    }

    /// Asks the host, and waits for its answer.
    pub(super) fn ask(&self, op: Op, patience: Option<Duration>) -> Told {
        desk().ask(&self.question(op, patience), &[]).0
    }

    /// The same, and there is an item with it, or with the answer.
    pub(super) fn ask_with(
        &self,
        op: Op,
        patience: Option<Duration>,
        item: &[u8],
        handles: Vec<u64>,
    ) -> (Told, Vec<u8>) {
        desk().ask(&Ask { handles, ..self.question(op, patience) }, item)
    }

    /// Says something that is not answered.
    fn tell(&self, op: Op) {
        desk().tell(&self.question(op, None));
    }

    /// Gives something back: it is done when the call is over, and perhaps before.
    pub(super) fn give_back(&self, op: Op) {
        self.tell(op);
        UNHEARD.store(true, Ordering::Relaxed);
    }

    /// This thread has an item of it in hand, until it gets the next one or its call is over.
    pub(super) fn note_item(self: &Arc<Self>) {
        let _ = BASKET.try_with(|basket| {
            let mut basket = basket.borrow_mut();
            if !basket.from.iter().any(|from| Arc::ptr_eq(from, self)) {
                basket.from.push(Arc::clone(self));
            }
        });
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let mut remotes = remotes();
        // There may be a new one by now.
        if remotes.get(&self.id).is_some_and(|remote| remote.strong_count() == 0) {
            remotes.remove(&self.id);
        }
        drop(remotes);
        let receipts = *self.receipts.get_mut();
        self.tell(Op::Forget(receipts));
    }
}

thread_local! {
    /// The items of queues that this thread has in hand.
    static BASKET: RefCell<Basket> = RefCell::new(Basket::new());
}

struct Basket {
    /// The number of this thread, as the host knows it.
    consumer: u64,
    from: Vec<Arc<Remote>>,
}

impl Basket {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Basket { consumer: NEXT.fetch_add(1, Ordering::Relaxed), from: Vec::new() }
    }

    fn done(from: Vec<Arc<Remote>>, consumer: u64) {
        for remote in from {
            desk().tell(&Ask { consumer, ..remote.question(Op::Done, None) });
        }
    }
}

impl Drop for Basket {
    fn drop(&mut self) {
        Basket::done(std::mem::take(&mut self.from), self.consumer);
    }
}

/// Something was given back, and it is not known whether the host has heard of it.
static UNHEARD: AtomicBool = AtomicBool::new(false);

/// The call on this thread of a worker process is over, and so is what it did with items. What it gave back, others can have
/// before they hear of its end.
pub(crate) fn end_call() {
    if DESK.get().is_none() {
        return;
    }
    let basket = BASKET.try_with(|basket| {
        let mut basket = basket.borrow_mut();
        (std::mem::take(&mut basket.from), basket.consumer)
    });
    if let Ok((from, consumer)) = basket {
        Basket::done(from, consumer);
    }
    if UNHEARD.load(Ordering::Relaxed) && UNHEARD.swap(false, Ordering::Relaxed) {
        let hear = Ask { object: 0, consumer: 0, op: Op::Hear, patience: None, handles: Vec::new() };
        desk().ask(&hear, &[]);
    }
}
