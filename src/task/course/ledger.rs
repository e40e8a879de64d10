//! The books of a course: which items have begun, which are over, who runs what, and how long items take.
//!
//! Not here: the items, and who may touch them (`course.rs`). The rule: what is not told yet belongs to the runner; the
//! books know no more than its cursor, and ask for that with the fence.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::account::{self, Outcome};
use crate::error::Error;
use crate::future::watch::Watchers;
use crate::id::Home;
use crate::primitives::fence::Fences;
use crate::primitives::thread::ThreadId;
use crate::primitives::{AtomicUsize, Ordering};

/// Items that take longer, on the average, are taken one at a time.
const QUICK: Duration = Duration::from_nanos(500);

/// About as long is a stint of quick items.
const STINT: Duration = Duration::from_micros(50);

/// The average is one of so many items, at least.
const WINDOW: u32 = 256;

/// Where the runner is. Words of one stint: whoever was taken over writes into nobody else's.
pub(super) struct Lane {
    /// One more than the item that has begun last.
    pub(super) cursor: AtomicUsize,
    /// The runner begins no item from here on without the lock. 0: none at all.
    pub(super) limit: AtomicUsize,
}

pub(super) struct Runner {
    pub(super) lane: Arc<Lane>,
    /// What comes before is told.
    pub(super) from: usize,
    /// The first item of the stint.
    pub(super) first: usize,
    pub(super) end: usize,
    pub(super) thread: ThreadId,
}

pub(super) struct State {
    /// The first item that is in no stint yet.
    pub(super) next: usize,
    /// Items from here on will not be run.
    pub(super) end: usize,
    /// Why.
    pub(super) cut: Option<Error>,
    /// The one stint that others may take from.
    pub(super) runner: Option<Runner>,
    /// Other items that run, and where.
    pub(super) running: Vec<(usize, ThreadId)>,
    pub(super) pace: Pace,
    /// A worker watches the runner; others wait until it has looked away.
    pub(super) is_watched: bool,
    /// What is over and not taken: apart from each other, in order.
    pub(super) done: Vec<Range<usize>>,
    pub(super) errors: BTreeMap<usize, Box<Error>>,
    /// All before this one were taken, if they are taken in order.
    pub(super) taken: usize,
    /// Of those that were cut, how many are not taken.
    pub(super) cut_left: usize,
    pub(super) in_any_order: bool,
    pub(super) waiting: Watchers<()>,
    pub(super) is_awaited: bool,
    /// So many results are to be there before who waits is told; 0 is as good as 1.
    pub(super) wanted: usize,
    /// Nobody will take anything: and did anybody before?
    pub(super) left: Option<bool>,
    /// Where it is counted how items end.
    pub(super) home: Home,
}

/// How long items take.
pub(super) struct Pace {
    pub(super) stint: usize,
    pub(super) spent: Duration,
    pub(super) items: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        // A model has no clock: all stints are long.
        Pace { stint: if cfg!(loom) { 2 } else { 1 }, spent: Duration::ZERO, items: 0 }
    }

    /// So many items took so long.
    pub(super) fn note(&mut self, items: usize, spent: Duration) {
        if cfg!(loom) {
            return;
        }
        if self.items >= WINDOW {
            self.items /= 2;
            self.spent /= 2;
        }
        self.items = self.items.saturating_add(u32::try_from(items).unwrap_or(u32::MAX)).max(1);
        self.spent += spent;
        let each = self.spent / self.items;
        self.stint = if each > QUICK {
            1
        } else {
            let fit = STINT.as_nanos() / each.as_nanos().max(1);
            self.stint.saturating_mul(2).min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
        };
    }
}

impl State {
    /// These are over.
    pub(super) fn add(&mut self, items: Range<usize>) {
        if items.is_empty() {
            return;
        }
        self.count(items.clone());
        let at = self.done.partition_point(|other| other.end < items.start);
        let behind = at + self.done[at..].partition_point(|other| other.start <= items.end);
        let mut all = items;
        for other in &self.done[at..behind] {
            all = all.start.min(other.start)..all.end.max(other.end);
        }
        self.done.splice(at..behind, [all]);
    }

    /// Counts these, which are over, before anybody is told.
    fn count(&self, items: Range<usize>) {
        let mut returned = items.len() as u64;
        for (_, error) in self.errors.range(items) {
            account::count(self.home, Outcome::of(Some(error)), 1);
            returned -= 1;
        }
        account::count(self.home, Outcome::Finished, returned);
    }

    /// Is there something to take?
    pub(super) fn has(&self) -> bool {
        let is_next = |items: &Range<usize>| self.in_any_order || items.start == self.taken;
        self.done.first().is_some_and(is_next)
            || (self.cut_left > 0 && (self.in_any_order || self.taken == self.end))
    }

    /// Is there what the one who waits sleeps for?
    pub(super) fn has_wanted(&self) -> bool {
        // Quick items come in numbers without that.
        let are_quick = self.runner.is_some();
        let is_last = || self.next >= self.end && self.running.is_empty();
        self.has() && (are_quick || is_last() || self.wanted <= self.done.iter().map(Range::len).sum())
    }

    /// What the runner has done so far. It may go on.
    pub(super) fn tell(&mut self, fences: Fences) {
        let Some(runner) = &mut self.runner else { return };
        let cursor = runner.stop(fences);
        let done = runner.from..cursor.saturating_sub(1).max(runner.from);
        runner.from = done.end;
        runner.lane.limit.store(if self.is_awaited { 0 } else { runner.end }, Ordering::Relaxed);
        self.add(done);
    }

    /// Takes from the runner all that has not begun.
    pub(super) fn take_over(&mut self, fences: Fences) {
        let Some(runner) = self.runner.take() else { return };
        let cursor = runner.stop(fences);
        runner.lane.limit.store(cursor, Ordering::Relaxed);
        if cursor > runner.first {
            // The last may not be over. Whoever runs it will say so.
            self.add(runner.from..(cursor - 1).max(runner.from));
            self.running.push((cursor - 1, runner.thread));
        }
        assert!(runner.end == self.next, "items begin in their order");
        self.next = cursor;
        self.pace.stint = self.pace.stint.min(if cfg!(loom) { 2 } else { 1 });
    }

    /// This one, which was in no runner's stint, is over.
    pub(super) fn end_one(&mut self, item: usize) {
        self.running.retain(|(other, _)| *other != item);
        self.add(item..item + 1);
    }

    /// Those that are to be told that there is something to take.
    pub(super) fn awaited(&mut self) -> Option<Watchers<()>> {
        if !self.is_awaited || !self.has_wanted() {
            return None;
        }
        self.is_awaited = false;
        Some(self.waiting.take())
    }
}

impl Runner {
    /// Keeps it from beginning an item without the lock, and tells where it is: behind the item of which only the
    /// runner can say that it is over.
    pub(super) fn stop(&self, fences: Fences) -> usize {
        self.lane.limit.store(0, Ordering::Relaxed);
        fences.heavy();
        self.lane.cursor.load(Ordering::Acquire).min(self.end)
    }

    pub(super) fn is_at(&self, lane: &Arc<Lane>) -> bool {
        Arc::ptr_eq(&self.lane, lane)
    }
}
