//! What worker processes ask of the objects of their host, and what they are told.
//!
//! ```text
//!   worker process                            host
//!   handle ── ask ──▶ │ socket │ ──▶ desk ── errand ──▶ object (queue, event, permits)
//!          ◀─ answer ─│        │ ◀──      ◀─ answer ───
//! ```
//!
//! Nothing is shared: the object stays with its host, who does what is asked. So whatever a worker had in hand is known
//! when it dies, and is given back.
//!
//! Not here: who carries it (`process/desk.rs`, `process/errands.rs`). The rule: what a worker says is not believed. It
//! reaches the objects whose handles it was given, and of those what it could do anyway.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::hall::{Bell, Place};
use crate::primitives::Ordering;
use crate::primitives::statics::AtomicU64;

/// An object that worker processes can ask something of.
pub(crate) trait Served: Any + Send + Sync {
    /// Its number, unique in this process.
    fn id(&self) -> u64;
    /// Does an errand, or has it stand in line: then the bell rings when it is worth trying again.
    fn serve(&self, errand: &mut Errand, bell: &Arc<dyn Bell>) -> Option<Answer>;
    /// An errand that stands in line is not wanted any more.
    fn give_up(&self, place: Place);
    /// A worker is gone that may have had something of it in hand.
    fn bury(&self, client: u64);
}

pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Who holds something that is a thread of this process.
pub(crate) const HERE: u64 = 0;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    /// The next item, and what was got before is done.
    Get,
    /// What was got before is done.
    Done,
    /// To take an item, which is enclosed.
    Put,
    Close,
    /// Two numbers: how many items there are, and how many there may be.
    Size,
    IsClosed,
    Set,
    Clear,
    IsSet,
    Wait,
    Acquire,
    /// True: by one that panics.
    Release(bool),
    Available,
    /// So many handles of it that the worker was given are gone there.
    Forget(u64),
    /// To be answered when all that was said before is done. Of no object.
    Hear,
}

/// A question as it travels; an item follows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) object: u64,
    /// Which thread of the worker asks.
    pub(crate) consumer: u64,
    pub(crate) op: Op,
    /// How long it waits; `None`: for ever.
    pub(crate) patience: Option<Duration>,
    /// Of the handles in the item.
    pub(crate) handles: Vec<u64>,
}

/// An answer as it travels; an item follows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Told {
    Done,
    Item {
        handles: Vec<u64>,
    },
    /// Not in time.
    Late,
    Closed,
    Is(bool),
    Numbers(u64, u64),
    /// It is held from now on. True: whoever held it before died or panicked.
    Held(bool),
    Failed(String),
}

/// An item that is encoded, with the objects whose handles are in it.
#[derive(Clone, Default)]
pub(crate) struct Packed {
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) handles: Vec<Arc<dyn Served>>,
}

/// What an object is to do for a worker.
pub(crate) struct Errand {
    /// The worker.
    pub(crate) client: u64,
    pub(crate) consumer: u64,
    pub(crate) op: Op,
    /// Until when it may wait.
    pub(crate) deadline: Option<Instant>,
    pub(crate) item: Packed,
    /// Where it stands in line.
    pub(crate) place: Option<Place>,
}

impl Errand {
    pub(crate) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// What came of it.
pub(crate) struct Answer {
    pub(crate) told: Told,
    pub(crate) item: Packed,
}

impl From<Told> for Answer {
    fn from(told: Told) -> Self {
        Answer { told, item: Packed::default() }
    }
}

impl Answer {
    /// Of something that is not asked of such an object.
    pub(super) fn refused(what: &str) -> Self {
        Told::Failed(format!("{what} does not do that")).into()
    }
}

/// In a worker process: the way to the objects of its host.
pub(crate) trait Desk: Send + Sync {
    /// Asks, and waits for the answer. If the host is gone, so is this process.
    fn ask(&self, ask: &Ask, item: &[u8]) -> (Told, Vec<u8>);
    /// Says something that is not answered.
    fn tell(&self, ask: &Ask);
}
