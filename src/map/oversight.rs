//! What a map does about items that nobody has asked for yet: tells the hook of each that is
//! over, and, if the map is to fail fast, cancels the rest at the first error.
//!
//! Both are callbacks of the chunks' futures; a map without either has none.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::options::{Hook, MapOptions};
use super::{Chunk, Outcomes, outcome_of};
use crate::error::Error;
use crate::future::cell::Watch;
use crate::primitives::{AtomicBool, Mutex, Ordering};

/// Shared by a map and the callbacks of its chunks.
#[derive(Clone)]
pub(super) struct Oversight {
    hook: Option<Hook>,
    fail_fast: Option<Arc<FailFast>>,
}

#[derive(Default)]
struct FailFast {
    failed: AtomicBool,
    /// The chunks that may have to be cancelled, with the index of their first item, oldest first.
    open: Mutex<VecDeque<(usize, Weak<dyn Watch>)>>,
}

impl Oversight {
    /// `None`: nothing to do.
    pub(super) fn of(options: &MapOptions) -> Option<Self> {
        let hook = options.on_item_done.clone();
        let fail_fast = options.fail_fast.then(Arc::default);
        (hook.is_some() || fail_fast.is_some()).then_some(Oversight { hook, fail_fast })
    }

    /// The map is to yield no more than it has.
    pub(super) fn fails_fast(&self) -> bool {
        self.fail_fast.is_some()
    }

    /// An item has failed: the map is to submit no more.
    pub(super) fn has_failed(&self) -> bool {
        self.fail_fast.as_ref().is_some_and(|fail_fast| fail_fast.failed.load(Ordering::Acquire))
    }

    /// Looks after a chunk that was submitted.
    pub(super) fn oversee<R>(&self, chunk: &Chunk<R>) {
        if let Some(fail_fast) = &self.fail_fast {
            fail_fast.join(chunk.first, chunk.future.weak());
        }
        let overseer = self.clone();
        let (first, items) = (chunk.first, chunk.items);
        chunk.future.add_done_callback(move |outcome| overseer.is_over(first, items, outcome));
    }

    fn is_over<R>(&self, first: usize, items: usize, outcome: Result<&Outcomes<R>, &Error>) {
        let mut failed = false;
        for item in 0..items {
            let outcome = outcome_of(outcome, item);
            failed |= matches!(outcome, Err(error) if !matches!(error, Error::Cancelled { .. }));
            if let Some(hook) = &self.hook {
                crate::outcome::shielded(|| hook(first + item, outcome));
            }
        }
        if failed && let Some(fail_fast) = &self.fail_fast {
            fail_fast.fail(first);
        }
    }
}

impl FailFast {
    fn join(&self, first: usize, chunk: Weak<dyn Watch>) {
        let is_over = |chunk: &Weak<dyn Watch>| chunk.upgrade().is_none_or(|chunk| chunk.phase().is_over());
        let mut open = self.open.lock();
        // What is over need not be kept, or a map without end would keep it all.
        while open.front().is_some_and(|(_, chunk)| is_over(chunk)) {
            open.pop_front();
        }
        open.push_back((first, chunk.clone()));
        drop(open);
        // Whoever failed before did not find this one; whoever fails after does.
        if self.failed.load(Ordering::Acquire)
            && let Some(chunk) = chunk.upgrade()
        {
            chunk.cancel();
        }
    }

    /// Cancels what comes behind the chunk that failed. What came before it has left the queue
    /// already: so whoever reads in order finds the error, and nothing cancelled before it.
    fn fail(&self, at: usize) {
        self.failed.store(true, Ordering::SeqCst);
        let open: Vec<_> = self.open.lock().iter().filter(|(first, _)| *first > at).cloned().collect();
        // The newest first: so no worker takes one that is about to be cancelled.
        for chunk in open.iter().rev().filter_map(|(_, chunk)| chunk.upgrade()) {
            chunk.cancel();
        }
    }
}
