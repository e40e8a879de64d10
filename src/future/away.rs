//! Calls that were begun elsewhere and can be ended from here: taken back as long as they have not started there,
//! or stopped.
//!
//! A call that was begun knows the number of its pool and no more. Who wants to end it looks for the engine of that
//! pool here. That is rare; to give each call a way back to its engine would cost all of them.
//!
//! Not here: how an engine does it. The rule: a pool that is gone is not kept.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use crate::id::{FutureId, Home};

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

/// By the numbers of their pools.
static ENGINES: RwLock<BTreeMap<u32, Weak<dyn Engine>>> = RwLock::new(BTreeMap::new());

/// Makes the engine of a pool known.
pub(crate) fn register(home: Home, engine: Weak<dyn Engine>) {
    let mut engines = ENGINES.write().unwrap_or_else(PoisonError::into_inner);
    engines.retain(|_, engine| engine.strong_count() > 0);
    engines.insert(home.number(), engine);
}

/// The engine of a pool, if it has one.
pub(super) fn engine_of(home: Home) -> Option<Arc<dyn Engine>> {
    ENGINES.read().unwrap_or_else(PoisonError::into_inner).get(&home.number())?.upgrade()
}
