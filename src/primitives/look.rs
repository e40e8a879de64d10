//! Looking for a moment before one sleeps: to be woken costs microseconds, a tiny call less.
//!
//! First a thread looks without letting go of its core; then it lets others go first between two looks, because on few
//! cores the one that it waits for may need this one. Where others have long work of their own, that is a bad bargain:
//! whoever gives way comes back when their slice is over, milliseconds later, while one that sleeps is woken at once.
//! So a thread that did not get its core back soon says so, and for a while none gives way.
//!
//! Not here: how to sleep. The rule: what is looked at may change what is found, never what is right. In a model a look
//! more is only a state more, so nobody looks.

use std::time::{Duration, Instant};

use super::Ordering;
use super::statics::AtomicU32;

/// How often one looks before one gives way.
const LOOKS: u32 = 100;

/// How long one gives way and looks again. By the clock: each time may take a while.
const GRACE: Duration = Duration::from_micros(20);

/// Whoever gets the core back later than this gave way to somebody with long work.
const SLICE: Duration = Duration::from_micros(100);

/// So many that come to give way then do not. A slice lost by one of them is a few microseconds for each.
const WARY: u32 = 1000;

static CROWDED: AtomicU32 = AtomicU32::new(0);

/// Looks without letting go.
pub(crate) fn watch(is_there: impl Fn() -> bool) -> bool {
    for _ in 0..if cfg!(loom) { 0 } else { LOOKS } {
        if is_there() {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

/// Looks between letting others go first.
pub(crate) fn give_way(is_there: impl Fn() -> bool) -> bool {
    let wary = CROWDED.load(Ordering::Relaxed);
    if cfg!(loom) || wary > 0 {
        // Two at once may count as one: it is no matter.
        CROWDED.store(wary.saturating_sub(1), Ordering::Relaxed);
        return false;
    }
    let start = Instant::now();
    let mut now = start;
    while now.duration_since(start) < GRACE {
        if is_there() {
            return true;
        }
        let before = now;
        std::thread::yield_now();
        now = Instant::now();
        if now.duration_since(before) > SLICE {
            CROWDED.store(WARY, Ordering::Relaxed);
        }
    }
    is_there()
}
