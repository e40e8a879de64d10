//! Calls that were begun elsewhere, and what can be done about them from here: they are taken back as long as they have
//! not started there, or stopped; and whoever waits for one may see to its end.
//!
//! A call that was begun knows the number of its pool and no more. Who wants something of it looks for the engine of
//! that pool here. That is rare; to give each call a way back to its engine would cost all of them.
//!
//! Not here: how an engine does it. The rule: a pool that is gone is not kept.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use crate::id::{FutureId, Home};
use crate::primitives::Ordering;
use crate::primitives::statics::AtomicU64;
use crate::primitives::thread_local;

/// The engine of a pool that makes its calls elsewhere.
pub(crate) trait Engine: Send + Sync {
    /// Takes back a call and cancels it. `Some(false)`: it has started. `None`: it is not in hand.
    fn recall(&self, call: FutureId) -> Option<bool>;
    /// Looks for its end for a moment, in place of a worker, if it is one call for which that is right.
    fn attend(&self, call: FutureId);
    /// Has it started? `None`: it is not in hand.
    fn has_started(&self, call: FutureId) -> Option<bool>;
    /// As `recall`; and stops a call that has started, and no other. `Some(false)`: it has ended by itself.
    fn kill(&self, call: FutureId) -> Option<bool>;
}

thread_local! {
    /// Has this thread submitted a call to such a pool since it waited for one?
    static HAS_SUBMITTED: Cell<bool> = const { Cell::new(false) };
}

/// This thread submits a call. Is it the first since it waited for any? Then it probably waits for this one next.
pub(crate) fn is_single() -> bool {
    let has_submitted = HAS_SUBMITTED.get();
    HAS_SUBMITTED.set(true);
    !has_submitted
}

/// This thread waits for a call.
pub(super) fn has_waited() {
    HAS_SUBMITTED.set(false);
}

/// By the numbers of their pools.
static ENGINES: RwLock<BTreeMap<u32, Weak<dyn Engine>>> = RwLock::new(BTreeMap::new());

/// Which of them there may be, a bit for each number modulo 64. All who wait for a call that runs look at it, and seldom
/// find anything.
static KNOWN: AtomicU64 = AtomicU64::new(0);

fn bit(home: Home) -> u64 {
    1 << (home.number() % u64::BITS)
}

/// Makes the engine of a pool known. To be called before the pool has a call.
pub(crate) fn register(home: Home, engine: Weak<dyn Engine>) {
    KNOWN.fetch_or(bit(home), Ordering::Relaxed);
    let mut engines = ENGINES.write().unwrap_or_else(PoisonError::into_inner);
    engines.retain(|_, engine| engine.strong_count() > 0);
    engines.insert(home.number(), engine);
}

/// The engine of a pool, if it has one.
pub(super) fn engine_of(home: Home) -> Option<Arc<dyn Engine>> {
    if KNOWN.load(Ordering::Relaxed) & bit(home) == 0 {
        return None;
    }
    ENGINES.read().unwrap_or_else(PoisonError::into_inner).get(&home.number())?.upgrade()
}
