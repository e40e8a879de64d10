//! What an AMQP executor and its one worker have in common: the calls that are in hand, for whoever wants to know or do
//! something of one.
//!
//! | who                          | may do to a call in hand                                                        |
//! |------------------------------|---------------------------------------------------------------------------------|
//! | the worker                   | send it, send it again, end it, put it back                                      |
//! | whoever cancels or kills it  | nothing: it is out of our hands. It is noted, so it has no further attempt       |
//!
//! Not here: what becomes of them (`context.rs`). The rule: a call is on the table from when it is sent until its end is
//! certain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::message::{self, TaskHead};
use super::post::{Heard, Seen};
use crate::future::away::Engine;
use crate::future::own_pool::Callbacks;
use crate::id::FutureId;
use crate::options::Attempts;
use crate::pool;
use crate::task::{Begun, PortableWork};

/// A call and its message, queued.
pub(crate) type Call = pool::Call<Letter>;

/// What is sent.
pub(crate) struct Letter {
    /// The argument and the head.
    pub(super) body: Arc<Vec<u8>>,
    /// If it has options.
    pub(super) attempts: Option<Box<Attempts>>,
}

impl Letter {
    pub(super) fn attempt(&self) -> u32 {
        self.attempts.as_ref().map_or(1, |attempts| attempts.number())
    }

    /// Makes it that of the next attempt.
    pub(super) fn renew(&mut self) {
        let attempt = self.attempt();
        let mut body = std::mem::take(&mut self.body);
        // Nobody else has it any more, as a rule.
        let bytes = Arc::make_mut(&mut body);
        if let Ok(head) = message::open::<TaskHead>(bytes) {
            message::finish(bytes, &TaskHead { attempt, ..head });
        }
        self.body = body;
    }
}

/// A call that was sent.
pub(super) struct InHand {
    pub(super) letter: Letter,
    pub(super) priority: i16,
    /// Absent while it is being decided whether it is tried again.
    pub(super) call: Option<Begun<dyn PortableWork>>,
    /// The broker answers for it.
    pub(super) is_confirmed: bool,
    /// When it was sent, confirmed, or said to be in a worker's hands.
    pub(super) heard: Instant,
}

pub(super) struct Desk {
    /// By the numbers of their futures, which are those of their messages.
    pub(super) table: Mutex<BTreeMap<u64, InHand>>,
    heard: Sender<Heard>,
    /// Somebody has asked the worker to look around, and it has not yet.
    is_asked: AtomicBool,
    pub(super) callbacks: Callbacks,
    pub(super) seen: Arc<Seen>,
    /// For `stats()`: the bytes of messages.
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

impl Desk {
    pub(super) fn new(heard: Sender<Heard>) -> Self {
        Desk {
            table: Mutex::default(),
            heard,
            is_asked: AtomicBool::new(false),
            callbacks: Callbacks::default(),
            seen: Arc::default(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    /// There is something in the queue. The worker may be waiting for replies.
    pub(super) fn ask(&self) {
        if !self.is_asked.swap(true, Ordering::AcqRel) {
            let _ = self.heard.send(Heard::Look);
        }
    }

    /// It looks around now.
    pub(super) fn looks(&self) {
        self.is_asked.store(false, Ordering::Release);
    }
}

/// What is sent cannot be taken back.
impl Engine for Desk {
    fn recall(&self, call: FutureId) -> Option<bool> {
        self.has_started(call).map(|_| false)
    }

    fn attend(&self, _: FutureId) {}

    fn has_started(&self, call: FutureId) -> Option<bool> {
        self.table.lock().contains_key(&call.get()).then_some(true)
    }

    fn kill(&self, call: FutureId) -> Option<bool> {
        self.recall(call)
    }
}
