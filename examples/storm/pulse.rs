//! Signs of life of the storm's own threads: one that has given none for long waits for something that never comes.
//!
//! Not here: what it waits for (`belongings::hang`). The rule: a thread of the storm beats whenever it goes on.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::life::lock;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static ALL: Mutex<Vec<(String, Weak<AtomicU64>)>> = Mutex::new(Vec::new());

thread_local! {
    static MINE: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
}

/// Since the first of them began.
pub(crate) fn age() -> Duration {
    START.elapsed()
}

fn now() -> u64 {
    age().as_millis() as u64
}

/// From here on this thread is looked after, until it ends.
pub(crate) fn begin(name: String) {
    let pulse = Arc::new(AtomicU64::new(now()));
    let mut all = lock(&ALL);
    all.retain(|(_, pulse)| pulse.strong_count() > 0);
    all.push((name, Arc::downgrade(&pulse)));
    MINE.set(Some(pulse));
}

/// This thread goes on. Threads that are not looked after need not.
pub(crate) fn beat() {
    let _ =
        MINE.try_with(|mine| mine.borrow().iter().for_each(|pulse| pulse.store(now(), Ordering::Relaxed)));
}

/// A thread that has not gone on for so long.
pub(crate) fn stuck_for(limit: Duration) -> Option<String> {
    let all = lock(&ALL);
    let mut alive = all.iter().filter_map(|(name, pulse)| Some((name, pulse.upgrade()?)));
    let stuck =
        |pulse: &AtomicU64| now().saturating_sub(pulse.load(Ordering::Relaxed)) > limit.as_millis() as u64;
    alive.find(|(_, pulse)| stuck(pulse)).map(|(name, _)| name.clone())
}
