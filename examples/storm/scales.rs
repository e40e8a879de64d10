//! The scales: how many bytes are allocated. What is in memory tells little of it, because the allocator keeps what was
//! freed.
//!
//! Not here: who holds them. The one file of the storm with unsafe code. The rule: whatever is allocated here is
//! freed here, so what is held when nothing is under way is what was forgotten.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};

struct Scales;

#[global_allocator]
static SCALES: Scales = Scales;

static HELD: AtomicI64 = AtomicI64::new(0);

/// Bytes that are allocated now.
pub(crate) fn held() -> i64 {
    HELD.load(Ordering::SeqCst)
}

fn count(bytes: usize, sign: i64) {
    HELD.fetch_add(sign * bytes as i64, Ordering::Relaxed);
}

// SAFETY: all is done by the system's allocator, which is given what we were given.
unsafe impl GlobalAlloc for Scales {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promises are the same, and it came from there.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, 1);
        count(layout.size(), -1);
        // SAFETY: the caller's promises are the same, and it came from there.
        unsafe { System.realloc(place, layout, size) }
    }
}
