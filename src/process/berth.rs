//! Short calls that need no thread of the pool. A worker that has nothing to do lies down with its child in its berth:
//! whoever hands in the next call posts it from there, and whoever waits for it looks for the reply there. So a call
//! is two messages between two threads that are awake, and nobody is woken.
//!
//! ```text
//!   caller                         berth                  worker's thread            child
//!   submit ── post ──▶ │ child's end of host, pace │        sleeps                     │
//!                      │  ─────────────────────────────── call ─────────────────────▶  │
//!   result ── attend ─▶│  ◀────────────────────────────── reply ─────────────────────  │
//! ```
//!
//! | what happens                                                | who sees to it                                  |
//! |-------------------------------------------------------------|-------------------------------------------------|
//! | a plain reply, while somebody waits for it                  | the one who waits                               |
//! | a reply that nobody takes soon                              | the child rings, and the worker's thread comes  |
//! | anything else that the child says; its end; the call killed | the worker's thread                             |
//! | a call that is long, unknown, or has options                | the worker's thread, which gets up for it       |
//! | a call behind another that its thread has not waited for    | the worker's thread: of many it takes many      |
//!
//! Not here: who may come (`pool/floor.rs`: a worker that is *lent*). The rule: what lies in the berth belongs to who
//! holds its lock, and only the worker's thread takes it out. No code of the user runs under the lock.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::call::{Call, Started};
use super::calls::{Heard, Until, unexpected};
use super::child::Child;
use super::context::TINY;
use super::lanes::words_of;
use super::pace::Pace;
use super::slot::Slot;
use super::sys;
use crate::enclosed::Received;
use crate::id::FutureId;
use crate::outcome;
use crate::primitives::statics::AtomicU64;
use crate::primitives::{Mutex, Ordering, Parker};
use crate::task::{Completion, Reply};
use crate::wire::frame::Kind;
use crate::wire::message::Failure;
use crate::worker::WorkerInfo;

#[derive(Default)]
pub(super) struct Berth {
    /// Present while the worker's thread sleeps, or is about to.
    lying: Mutex<Option<Lying>>,
    /// The call that was posted from here, or 0: a hint, to find it.
    posted: AtomicU64,
    /// Wakes the worker's thread.
    bell: OnceLock<Arc<Parker>>,
}

/// What a worker leaves in its berth.
pub(super) struct Lying {
    pub(super) child: Child,
    pub(super) pace: Pace,
    /// The call in hand.
    posted: Option<FutureId>,
    /// What its child said that is for the worker's thread.
    pub(super) heard: Option<Heard>,
}

/// A call, and what its child replied.
pub(super) struct Replied {
    started: Started,
    payload: Vec<u8>,
    received: Received,
    failure: Option<Failure>,
    took: Option<Duration>,
    /// Present if it is still to be said that it ran, and where.
    worker: Option<Arc<WorkerInfo>>,
}

impl Replied {
    /// Ends the call. `Some`: somebody has come to listen, and this is left to do, in a thread of the pool.
    pub(super) fn end(mut self, slot: &Slot) -> Option<Completion> {
        if self.worker.is_some() {
            let now = Instant::now();
            let at = now.checked_sub(self.took.unwrap_or_default());
            slot.note_ran(&mut self.started, at, self.worker.as_deref());
        }
        let task = self.started.call.task();
        let reply = match self.failure {
            None => Ok(Reply { bytes: &mut self.payload, received: self.received }),
            Some(failure) => Err(outcome::arrived(task, failure)),
        };
        self.started.call.complete_unheard(reply)
    }
}

/// For the worker's thread.
impl Berth {
    /// Lies down, with a child that is quiet.
    pub(super) fn lie_down(&self, child: Child, pace: Pace, bell: &Arc<Parker>) {
        self.bell.get_or_init(|| Arc::clone(bell));
        *self.lying.lock() = Some(Lying { child, pace, posted: None, heard: None });
    }

    /// Gets up, unless there is a call in hand.
    pub(super) fn get_up(&self) -> Option<Lying> {
        self.lying.lock().take_if(|lying| lying.posted.is_none()).map(Lying::wake)
    }

    /// Gets up because there is a call in hand, or was when it was posted.
    pub(super) fn get_up_for_call(&self) -> Option<Lying> {
        let lying = self.lying.lock().take_if(|lying| lying.posted.is_some())?;
        self.posted.store(0, Ordering::Relaxed);
        Some(lying.wake())
    }

    /// Takes out whatever is here.
    pub(super) fn clear(&self) {
        let lying = self.lying.lock().take();
        drop(lying);
    }
}

impl Lying {
    fn wake(self) -> Self {
        if let Some(page) = &self.child.page {
            page.lanes.replies().wake();
        }
        self
    }
}

/// For all others.
impl Berth {
    pub(super) fn is_of(&self, bell: &Arc<Parker>) -> bool {
        self.bell.get().is_some_and(|its| Arc::ptr_eq(its, bell))
    }

    /// Was that call posted from here?
    pub(super) fn is_for(&self, call: FutureId) -> bool {
        self.posted.load(Ordering::Relaxed) == call.get()
    }

    pub(super) fn bell(&self) -> Option<&Arc<Parker>> {
        self.bell.get()
    }

    /// That call was taken out of the window: the worker's thread is to look.
    pub(super) fn nudge(&self, call: FutureId) {
        if self.is_for(call)
            && let Some(bell) = self.bell.get()
        {
            bell.wake();
        }
    }
}

impl Slot {
    /// Posts a call from the berth, for one to whom the worker was lent. It comes back if it is none for that.
    /// `Ok(false)`: it was cancelled.
    pub(super) fn post(&self, call: Call) -> Result<bool, Call> {
        let mut lying = self.berth.lying.lock();
        let Some(here) = lying.as_mut().filter(|here| here.posted.is_none()) else { return Err(call) };
        let Some(pace) = here.pace.of(&call.letter.frame).filter(|pace| *pace <= TINY) else {
            return Err(call);
        };
        let Some(page) = here.child.page.as_mut() else { return Err(call) };
        let words = words_of(call.letter.frame.len());
        if !page.is_silent() || page.calls.free(page.lanes.calls()) < words {
            return Err(call);
        }
        let mut window = self.window.lock();
        // Nothing is sent to one that is to end.
        if !self.is_sound() {
            return Err(call);
        }
        self.begin_call();
        let id = call.item.task().id;
        let Some(started) = window.start(call, pace) else { return Ok(false) };
        let was_sent = page.calls.push(page.lanes.calls(), &started.letter.frame.bytes, 0);
        debug_assert!(was_sent, "there was room for it");
        here.posted = Some(id);
        self.berth.posted.store(id.get(), Ordering::Relaxed);
        drop(window);
        if page.lanes.calls().wanted().is_some() {
            if sys::sigpipe_is_seen_to() {
                here.child.ring();
            } else if let Some(bell) = self.berth.bell() {
                // This thread may not write to one that may be gone.
                bell.wake();
            }
        }
        Ok(true)
    }

    /// Looks for a moment for the reply to a call that was posted from the berth. `Some`: it is there, and the worker
    /// has nothing to do.
    pub(super) fn attend(&self, call: FutureId) -> Option<Replied> {
        // One that is taken is attended to.
        let mut lying = self.berth.lying.try_lock()?;
        let here = lying.as_mut().filter(|here| here.posted == Some(call) && here.heard.is_none())?;
        let page = here.child.page.as_ref()?;
        page.lanes.replies().wake();
        let mut heard = here.child.hear(Until::Now, true, 1);
        if let Heard::Late = heard {
            if here.child.page.as_ref()?.wake_me() {
                return None;
            }
            heard = here.child.hear(Until::Now, false, 1);
        }
        let replied = match heard {
            // No code of a subscriber runs under this lock.
            heard @ Heard::Reply { .. } if here.child.has_logged() => Err(heard),
            Heard::Reply { id, failure, took } => {
                match self.window.lock().answered(id, here.child.reply_bytes()) {
                    Some(started) => Ok((started, failure, took)),
                    None => Err(Heard::Nonsense(unexpected(Kind::Returned))),
                }
            }
            heard => Err(heard),
        };
        match replied {
            Ok((mut started, failure, took)) => {
                here.child.served += 1;
                let worker = started.call.is_to_start().then(|| Arc::clone(&here.child.worker));
                if let Some(took) = took {
                    here.pace.note(&started.letter.frame, took);
                }
                let Reply { bytes, received } = here.child.reply_to(&mut started.letter);
                let payload = std::mem::take(bytes);
                here.posted = None;
                self.berth.posted.store(0, Ordering::Relaxed);
                // Should it say more, nobody posts anything, and the worker's thread judges.
                let _ = here.child.page.as_ref()?.wake_me_soon();
                Some(Replied { started, payload, received, failure, took, worker })
            }
            Err(heard) => {
                here.heard = Some(heard);
                drop(lying);
                self.berth.bell()?.wake();
                None
            }
        }
    }
}
