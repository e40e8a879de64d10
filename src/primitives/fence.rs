//! A pair of fences, one of which costs nothing: for two sides of which one passes a million times a second, and
//! the other now and then.
//!
//! Each side writes a word of its own, passes its fence, and reads the word of the other. Then at least one of them
//! sees what the other wrote. Usually both sides would need a full fence. Here the frequent side only keeps the
//! compiler from changing the order, and the rare side asks the system to have every running thread of this process
//! pass a full fence (`membarrier`): so the frequent side has passed one too, at a point of the rare side's choice.
//!
//! Where the system does not have that, and in a model, both are full fences.

use std::sync::atomic::compiler_fence;

use super::Ordering;
use super::statics::AtomicBool;

/// Known before the first side passes: it never changes afterwards.
static IS_LIGHT: AtomicBool = AtomicBool::new(false);

/// Which fence the frequent side passes. All that use a word must have the same answer: ask once a process.
#[derive(Clone, Copy)]
pub(crate) struct Fences {
    are_uneven: bool,
}

impl Fences {
    /// Asks the system, the first time.
    pub(crate) fn new() -> Self {
        static ASKED: std::sync::Once = std::sync::Once::new();
        ASKED.call_once(|| IS_LIGHT.store(register(), Ordering::Relaxed));
        Fences { are_uneven: IS_LIGHT.load(Ordering::Relaxed) }
    }

    /// For the side that passes often.
    #[inline]
    pub(crate) fn light(self) {
        if self.are_uneven { compiler_fence(Ordering::SeqCst) } else { full() }
    }

    /// For the side that passes now and then. Takes microseconds.
    pub(crate) fn heavy(self) {
        full();
        if self.are_uneven {
            everywhere();
        }
    }
}

#[cfg(not(loom))]
fn full() {
    std::sync::atomic::fence(Ordering::SeqCst);
}

#[cfg(loom)]
fn full() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

#[cfg(all(target_os = "linux", not(loom)))]
fn register() -> bool {
    use rustix::thread::{MembarrierCommand, membarrier};
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
        && membarrier(MembarrierCommand::PrivateExpedited).is_ok()
}

#[cfg(all(target_os = "linux", not(loom)))]
fn everywhere() {
    use rustix::thread::{MembarrierCommand, membarrier};
    // It worked before, and takes no resource; but a program may have shut itself in since. A processor keeps a
    // store to itself for less than a microsecond: after a thousand times as long everybody sees it too.
    if membarrier(MembarrierCommand::PrivateExpedited).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[cfg(any(not(target_os = "linux"), loom))]
fn register() -> bool {
    false
}

#[cfg(any(not(target_os = "linux"), loom))]
fn everywhere() {}
