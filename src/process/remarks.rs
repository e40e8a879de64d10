//! What a host and a call that runs in a worker say to each other meanwhile, in words of the page that they share.
//!
//! | word       | written by | means                                                                                 |
//! |------------|------------|---------------------------------------------------------------------------------------|
//! | unwanted   | the host   | that call is not wanted any more                                                      |
//! | listens    | the child  | that call has asked, so it may end by itself                                          |
//! | progress   | the child  | four words: a count of changes (odd: one is being made), the call, what is done of what |
//! | events     | the child  | so many has it told through its mouth (`ear.rs`)                                       |
//!
//! A word that says which call says so by its number, which is that of its future and never 0. What is said of a call that
//! does not run any more means nothing. A host that sleeps is rung for, but not for each change: what counts is the
//! latest, and a host that hears of the end of a call looks here first.
//!
//! Not here: who listens (`signals.rs`), and who speaks (`host.rs`). The rule: that of the page (`lanes.rs`), nothing is believed. They are numbers,
//! shown to whoever asked for them, of a call that is known to run.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::wire::frame::{self, Kind};

/// Where they stand. Those that the host writes are not in a cache line with those that the child writes.
const UNWANTED: usize = 0;
const LISTENS: usize = 16;
const CHANGES: usize = 32;
const CALL: usize = 33;
const DONE: usize = 34;
const TOTAL: usize = 35;
const EVENTS: usize = 36;
/// Of all that.
pub(super) const WORDS: usize = 48;

/// How far a call says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) call: u64,
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Progress {
    /// The frame of it, where there is no page.
    pub(super) fn frame(self) -> Vec<u8> {
        let (done, total) = (self.done.to_le_bytes(), self.total.to_le_bytes());
        frame::whole(Kind::Progress, self.call, &[done, total].concat())
    }

    /// What such a frame says.
    pub(super) fn parse(call: u64, payload: &[u8]) -> Option<Progress> {
        let (done, rest) = payload.split_first_chunk()?;
        let (total, []) = rest.split_first_chunk()? else { return None };
        Some(Progress { call, done: u64::from_le_bytes(*done), total: u64::from_le_bytes(*total) })
    }
}

pub(super) struct Remarks<'p>(pub(super) &'p [AtomicU64]);

/// Of the host.
impl Remarks<'_> {
    pub(super) fn unwant(&self, call: u64) {
        self.0[UNWANTED].store(call, Ordering::Relaxed);
    }

    /// Has that call asked whether it is wanted?
    pub(super) fn listens(&self, call: u64) -> bool {
        self.0[LISTENS].load(Ordering::Relaxed) == call
    }

    /// Has the child said anything since so many changes? When it is saying it just now, it rings afterwards.
    pub(super) fn is_new(&self, seen: u64) -> bool {
        let changes = self.0[CHANGES].load(Ordering::Acquire);
        changes != seen && changes.is_multiple_of(2)
    }

    /// How many events of `tracing` it has told, as it says.
    pub(super) fn events(&self) -> u64 {
        self.0[EVENTS].load(Ordering::Acquire)
    }

    /// What it has said since. `None`: nothing, or it is saying it just now.
    #[inline]
    pub(super) fn progress(&self, seen: &mut u64) -> Option<Progress> {
        let changes = self.0[CHANGES].load(Ordering::Acquire);
        if changes == *seen || !changes.is_multiple_of(2) {
            return None;
        }
        let word = |at: usize| self.0[at].load(Ordering::Relaxed);
        let progress = Progress { call: word(CALL), done: word(DONE), total: word(TOTAL) };
        fence(Ordering::Acquire);
        if self.0[CHANGES].load(Ordering::Relaxed) != changes {
            return None;
        }
        *seen = changes;
        Some(progress)
    }
}

/// Of the child.
impl Remarks<'_> {
    pub(super) fn say(&self, progress: Progress) {
        let changes = self.0[CHANGES].load(Ordering::Relaxed);
        self.0[CHANGES].store(changes.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.0[CALL].store(progress.call, Ordering::Relaxed);
        self.0[DONE].store(progress.done, Ordering::Relaxed);
        self.0[TOTAL].store(progress.total, Ordering::Relaxed);
        self.0[CHANGES].store(changes.wrapping_add(2), Ordering::Release);
    }

    /// One more event was told. By one thread at a time.
    #[cfg_attr(not(feature = "tracing"), allow(dead_code))]
    pub(super) fn count_event(&self) {
        let count = self.0[EVENTS].load(Ordering::Relaxed);
        self.0[EVENTS].store(count.wrapping_add(1), Ordering::Release);
    }

    pub(super) fn is_unwanted(&self, call: u64) -> bool {
        if self.0[LISTENS].load(Ordering::Relaxed) != call {
            self.0[LISTENS].store(call, Ordering::Relaxed);
        }
        self.0[UNWANTED].load(Ordering::Relaxed) == call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_progress_is_read_as_it_was_written() {
        let progress = Progress { call: 7, done: 1, total: u64::MAX };
        let frame = progress.frame();
        assert_eq!(Progress::parse(7, &frame[frame::HEADER..]), Some(progress));
        for length in [0, 8, 15, 17] {
            assert_eq!(Progress::parse(7, &vec![0; length]), None);
        }
    }
}
