#![allow(unsafe_code)]
//! A course: all items of a map that was given no chunk size, in one block of memory, run by whoever comes.
//!
//! In the queue of a pool it is *one* task, which stays at the front until every item has begun; each worker that
//! comes gets a copy. A worker takes a **stint**: the next item, or, where items turn out to be quick, so many that
//! they take some tens of microseconds. Results are written where the items were.
//!
//! ```text
//!   items   0 ············· from ········ cursor ············ limit = next ············ end
//!           done            done, told    │ begun by the      not begun, the stint's    not begun
//!           and told        to nobody     runner
//! ```
//!
//! The rule: **items begin in their order, one by one, as if each was a task of its own.** Items may wait for each
//! other, so what begins out of order may hang where a pool would not: two workers, each in a chunk of its own,
//! each waiting for the next item of its chunk. So a stint of more than one is run by one worker alone, the
//! *runner*, and all behind its cursor is still anybody's:
//!
//! | whoever                                   | does                                                              |
//! |-------------------------------------------|-------------------------------------------------------------------|
//! | comes for a task while there is a runner  | watches it; if its item has not ended after a moment, takes over all that has not begun |
//! | wants a result                            | takes what is done, also from the middle of a stint               |
//! | cancels                                   | takes all that has not begun                                      |
//!
//! Items of a microsecond and more are taken one at a time, by all workers; quicker ones cost one worker less than
//! it costs to tell another. That is the price of the order: quick items run at the speed of one worker.
//!
//! The runner's cost of an item is a store, a fence that is none ([`Fences`]) and a load. It writes the cursor, then
//! reads the limit. Whoever takes over holds the lock, writes a limit of 0, passes the other fence, and reads the
//! cursor: either the runner sees the 0, and comes for the lock before it begins an item, or its cursor is seen.
//! Then the limit becomes the cursor, so that both know where the stint ends.
//!
//! Not here: what is known of the items (`course/ledger.rs`), what others see (`course/views.rs`), the queue
//! (`pool/floor.rs`), what the results are read by (`map`).

#[deny(unsafe_code)]
mod ledger;
#[deny(unsafe_code)]
mod views;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::{Lane, Pace, Runner, State};

use super::{Work, WorkItem};
use crate::account::{self, Account, Outcome};
use crate::error::Error;
use crate::future::cell::Watch;
use crate::future::nap;
use crate::future::state::{Freed, Want};
use crate::future::watch::Watchers;
use crate::id::{FutureId, Home};
use crate::map::{Lap, Laps};
use crate::outcome::{catch, discard};
use crate::portable::Raised;
use crate::primitives::fence::Fences;
use crate::primitives::thread;
use crate::primitives::{AtomicBool, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, UnsafeCell};
use crate::signals;
use crate::unread;

/// How long the item of a runner may last before another takes over the rest.
const MOMENT: Duration = Duration::from_micros(50);

/// The most results that are moved at a time: what fits into the nearest cache.
const LAP: usize = 1024;

pub(crate) struct Course<N, F, A, R> {
    id: FutureId,
    home: Home,
    account: Arc<Account>,
    submitted: Instant,
    /// Until no item will begin any more: then what it holds is given back. Locked inside of `state`.
    call: Mutex<Option<Arc<F>>>,
    slots: Vec<UnsafeCell<Slot<A, R>>>,
    fences: Fences,
    /// Has an item not begun? To be seen without the lock.
    has_more: AtomicBool,
    state: Mutex<State>,
    /// A worker that waits for its turn at this course.
    turn: Condvar,
    name: PhantomData<fn(N)>,
}

/// The item, until it begins; then nothing; then the value, unless there is an error; then nothing.
union Slot<A, R> {
    item: ManuallyDrop<A>,
    value: ManuallyDrop<R>,
}

// SAFETY: items and values are only ever moved through a slot, from one thread to another, which needs `Send`. Who
// may touch a slot, and when, is said at `take_item`, `put_value` and `take_value`. The function is called by many
// threads.
unsafe impl<N, F: Send + Sync, A: Send, R: Send> Sync for Course<N, F, A, R> {}
// SAFETY: the same; `N` is only a name.
unsafe impl<N, F: Send + Sync, A: Send, R: Send> Send for Course<N, F, A, R> {}

/// What many threads may have a copy of.
pub(crate) struct Copied<T>(T);

// SAFETY: through a shared reference it can only be copied, which reads what nobody writes: there is no other way to
// the field, and what is `Copy` has no inner state that changes. The copy is the thread's own, which needs `Send`.
unsafe impl<T: Copy + Send> Sync for Copied<T> {}

impl<T: Copy> Copied<T> {
    pub(crate) fn new(value: T) -> Self {
        Copied(value)
    }

    pub(crate) fn get(&self) -> T {
        self.0
    }
}

/// What a worker is to run, and where it is told how far it may go if that is more than one item.
struct Stint<F> {
    call: Arc<F>,
    items: Range<usize>,
    lane: Option<Arc<Lane>>,
}

/// A task for the queue of the pool with that account, and its results. `N` is the function that errors name.
pub(crate) fn course<N, F, A, R>(
    call: F,
    items: Vec<A>,
    account: &Arc<Account>,
    _: PhantomData<N>,
) -> (WorkItem<dyn Work>, Arc<dyn Laps<R>>)
where
    N: 'static,
    F: Fn(A) -> Result<R, Raised> + Send + Sync + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    // Where a value needs no more room than an item, the memory is that of the items.
    let slot = |item| UnsafeCell::new(Slot { item: ManuallyDrop::new(item) });
    let slots: Vec<_> = items.into_iter().map(slot).collect();
    let state = State {
        next: 0,
        end: slots.len(),
        cut: None,
        runner: None,
        running: Vec::new(),
        pace: Pace::new(),
        is_watched: false,
        done: Vec::new(),
        errors: BTreeMap::new(),
        taken: 0,
        cut_left: 0,
        in_any_order: false,
        waiting: Watchers::default(),
        is_awaited: false,
        wanted: 0,
        left: None,
        home: account.home(),
    };
    let course = Arc::new(Course::<N, F, A, R> {
        id: FutureId::next(),
        home: account.home(),
        account: Arc::clone(account),
        submitted: Instant::now(),
        call: Mutex::new(Some(Arc::new(call))),
        has_more: AtomicBool::new(!slots.is_empty()),
        slots,
        fences: Fences::new(),
        state: Mutex::new(state),
        turn: Condvar::new(),
        name: PhantomData,
    });
    (WorkItem(Some(course.clone())), course)
}

/// # Safety
///
/// As of [`Course::take_value`].
#[inline]
unsafe fn value_of<A, R>(slot: &UnsafeCell<Slot<A, R>>) -> R {
    // SAFETY: whoever ran the item has put the value there before it said that it is over, and the caller has seen
    // that. Nobody else takes what is not in `done`.
    slot.with_mut(|slot| unsafe { ManuallyDrop::take(&mut (*slot).value) })
}

impl<N, F, A, R> Course<N, F, A, R> {
    /// # Safety
    ///
    /// The item has not begun, and the caller alone may begin or drop it.
    #[inline]
    unsafe fn take_item(&self, item: usize) -> A {
        // SAFETY: it was put there when the course was made, nobody has taken it, and nobody else does.
        self.slots[item].with_mut(|slot| unsafe { ManuallyDrop::take(&mut (*slot).item) })
    }

    /// # Safety
    ///
    /// The caller has taken the item, and has not said that it is over.
    #[inline]
    unsafe fn put_value(&self, item: usize, value: R) {
        // SAFETY: nothing is there, and nobody else touches the slot until the item is over.
        self.slots[item].with_mut(|slot| unsafe { *slot = Slot { value: ManuallyDrop::new(value) } });
    }

    /// # Safety
    ///
    /// The item is over, without an error, and the caller has taken it out of `done`.
    unsafe fn take_value(&self, item: usize) -> R {
        // SAFETY: the same.
        unsafe { value_of(&self.slots[item]) }
    }

    /// Notes whether there are items that have not begun. If not, the function comes back, to be dropped without the
    /// lock.
    fn note_more(&self, state: &State) -> Option<Arc<F>> {
        let has_more = state.runner.is_some() || state.next < state.end;
        self.has_more.store(has_more, Ordering::Relaxed);
        if has_more { None } else { self.call.lock().take() }
    }

    /// Gives the lock back, and tells those who wait for what is there now.
    fn leave_and_wake(&self, mut state: MutexGuard<'_, State>, freed: &dyn Freed) {
        let awaited = state.awaited();
        let is_left = state.left.is_some();
        drop(state);
        if let Some(waiting) = awaited {
            if freed.is_wanted() {
                freed.free();
            }
            waiting.wake();
        }
        if is_left {
            self.sweep();
        }
    }

    /// Those of its items that run may hear that it is not wanted any more.
    fn note_unwanted(&self) {
        let state = self.state.lock();
        let runs = state.runner.is_some() || !state.running.is_empty();
        drop(state);
        if runs {
            signals::cancel(self.id, || false);
        }
    }

    /// Nobody wants what is done.
    fn sweep(&self) {
        let mut state = self.state.lock();
        let done = std::mem::take(&mut state.done);
        let mut errors = BTreeMap::new();
        for item in done.iter().cloned().flatten() {
            errors.extend(state.errors.remove(&item).map(|error| (item, error)));
        }
        let was_read = state.left != Some(false);
        drop(state);
        for item in done.into_iter().flatten().filter(|item| !errors.contains_key(item)) {
            // SAFETY: it was in `done`, and has no error.
            discard(unsafe { self.take_value(item) });
        }
        if !was_read {
            errors.values().for_each(|error| unread::report(Some(error)));
        }
        discard(errors);
    }
}

impl<N, F, A, R> Course<N, F, A, R>
where
    N: 'static,
    F: Fn(A) -> Result<R, Raised> + Send + Sync + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    /// A worker's turn.
    fn visit(&self, freed: &dyn Freed) {
        let Some(Stint { call, items, lane }) = self.claim() else { return };
        match lane {
            None => self.run_one(call, items.start, freed),
            Some(lane) => self.run_on(call, &lane, items.start, freed),
        }
    }

    /// The next stint. `None`: all items have begun.
    fn claim(&self) -> Option<Stint<F>> {
        let mut state = self.state.lock();
        let mut seen = None;
        let mut has_waited = false;
        while let Some(runner) = &state.runner {
            let cursor = runner.lane.cursor.load(Ordering::Relaxed);
            if seen.is_none() && state.is_watched {
                has_waited = true;
                self.turn.wait(&mut state);
                continue;
            }
            // In a model the moment is over when the model likes, so also at once.
            if seen == Some(cursor) || cfg!(loom) {
                state.take_over(self.fences);
                break;
            }
            seen = Some(cursor);
            state.is_watched = true;
            self.turn.wait_until(&mut state, Instant::now() + MOMENT);
        }
        if seen.is_some() {
            state.is_watched = false;
        }
        if seen.is_some() || has_waited {
            // The next of those who wait: there may be something for it, or somebody to watch.
            self.turn.notify_one();
        }
        let call = self.call.lock().clone().filter(|_| state.next < state.end);
        let Some(call) = call else {
            let spent = self.note_more(&state);
            self.leave_and_wake(state, &());
            self.turn.notify_all();
            discard(spent);
            return None;
        };
        let first = state.next;
        let end = first + state.pace.stint.min(state.end - first);
        let thread = thread::current().id();
        state.next = end;
        let lane = (end - first > 1).then(|| {
            let limit = if state.is_awaited { 0 } else { end };
            Arc::new(Lane { cursor: AtomicUsize::new(first), limit: AtomicUsize::new(limit) })
        });
        match &lane {
            None => state.running.push((first, thread)),
            Some(lane) => {
                state.runner = Some(Runner { lane: Arc::clone(lane), from: first, first, end, thread });
            }
        }
        let spent = self.note_more(&state);
        self.leave_and_wake(state, &());
        // Not the last of it: we have it.
        drop(spent);
        Some(Stint { call, items: first..end, lane })
    }

    fn run_one(&self, call: Arc<F>, item: usize, freed: &dyn Freed) {
        let start = Instant::now();
        // SAFETY: the item is a stint of its own, which we have claimed.
        let argument = unsafe { self.take_item(item) };
        match catch(self.task(), || call(argument)) {
            // SAFETY: we have taken the item, and say below that it is over.
            Ok(Ok(value)) => unsafe { self.put_value(item, value) },
            Ok(Err(raised)) => self.fail_one(item, Error::raised(self.task(), raised.error)),
            Err(panic) => self.fail_one(item, Error::Panicked { task: self.task(), panic }),
        }
        discard(call);
        let ran = start.elapsed();
        if let Some(weight) = self.account.ticket().weight(item) {
            self.note_times(start, ran, weight);
        }
        let mut state = self.state.lock();
        state.pace.note(1, ran);
        state.end_one(item);
        self.leave_and_wake(state, freed);
    }

    /// So many items began at that time, and took so long each.
    fn note_times(&self, start: Instant, ran: Duration, items: u64) {
        self.account.waits.add(start.saturating_duration_since(self.submitted), items);
        self.account.note_run(ran, items);
    }

    fn fail_one(&self, item: usize, error: Error) {
        self.state.lock().errors.insert(item, Box::new(error));
    }

    /// The runner.
    fn run_on(&self, call: Arc<F>, lane: &Arc<Lane>, first: usize, freed: &dyn Freed) {
        let start = Instant::now();
        let mut item = first;
        while let Err(panic) = catch(self.task(), || self.run_until_stopped(&call, item, lane)) {
            // It was the one that had begun last.
            item = lane.cursor.load(Ordering::Relaxed) - 1;
            self.fail_one(item, Error::Panicked { task: self.task(), panic });
            item += 1;
        }
        let end = lane.cursor.load(Ordering::Relaxed) - 1;
        self.end_call(call, end);
        let (items, ran) = (end - first, start.elapsed());
        if let Some(each) = u32::try_from(items).ok().and_then(|items| ran.checked_div(items)) {
            self.note_times(start, each, items as u64);
        }
        let mut state = self.state.lock();
        state.pace.note(items, ran);
        let spent = match state.runner.take_if(|runner| runner.is_at(lane)) {
            Some(runner) => {
                state.add(runner.from..end);
                if state.next == state.end {
                    self.turn.notify_all();
                }
                self.note_more(&state)
            }
            // Taken over. What came before was told then.
            None => {
                if end > first {
                    state.end_one(end - 1);
                }
                None
            }
        };
        self.leave_and_wake(state, if spent.is_none() { freed } else { &() });
        discard(spent);
    }

    /// The runner needs its function no more. Nor does anybody else, if the items before `end` were the last.
    fn end_call(&self, call: Arc<F>, end: usize) {
        let spent = if end == self.slots.len() { self.call.lock().take() } else { None };
        discard(spent);
        discard(call);
    }

    /// All items of a stint from `item` on, to where it ends or to the first that panics.
    #[inline]
    fn run_until_stopped(&self, call: &F, mut item: usize, lane: &Arc<Lane>) {
        loop {
            // All before it are over, if whoever sees this is told.
            lane.cursor.store(item + 1, Ordering::Release);
            self.fences.light();
            if item >= lane.limit.load(Ordering::Relaxed) && !self.may_begin(item, lane) {
                return;
            }
            // SAFETY: the item is in our stint, and nobody has taken it over: whoever would have done so has
            // written a limit before it read the cursor, so either we have seen that, and asked under the lock,
            // or the cursor was seen.
            let argument = unsafe { self.take_item(item) };
            match call(argument) {
                // SAFETY: we have taken the item, and say that it is over with the next cursor.
                Ok(value) => unsafe { self.put_value(item, value) },
                Err(raised) => self.fail_one(item, Error::raised(self.task(), raised.error)),
            }
            item += 1;
        }
    }

    /// Asks under the lock whether this item is still in the stint; tells what came before it.
    #[cold]
    fn may_begin(&self, item: usize, lane: &Arc<Lane>) -> bool {
        let mut state = self.state.lock();
        let Some(runner) = state.runner.as_mut().filter(|runner| runner.is_at(lane)) else {
            // Taken over, perhaps while we came.
            return item < lane.limit.load(Ordering::Relaxed);
        };
        if item == runner.end {
            return false;
        }
        // Somebody waits for one of these, or for one that comes next.
        let done = runner.from..item;
        runner.from = item;
        state.add(done);
        let awaited = state.awaited();
        if !state.is_awaited
            && let Some(runner) = &state.runner
        {
            lane.limit.store(runner.end, Ordering::Relaxed);
        }
        drop(state);
        awaited.into_iter().for_each(Watchers::wake);
        true
    }

    /// Whatever has not begun never will.
    fn cut(&self, error: Error) {
        let mut state = self.state.lock();
        state.take_over(self.fences);
        let cut = state.next..state.end;
        if !cut.is_empty() {
            state.end = cut.start;
            state.cut_left = cut.len();
            account::count(self.home, Outcome::of(Some(&error)), cut.len() as u64);
            state.cut = Some(error);
        }
        let spent = self.note_more(&state);
        self.turn.notify_all();
        self.leave_and_wake(state, &());
        discard(spent);
        for item in cut {
            // SAFETY: it has not begun, and is in nobody's stint; and nobody claims what is behind the end.
            discard(unsafe { self.take_item(item) });
        }
    }
}

impl<N, F, A, R> Laps<R> for Course<N, F, A, R>
where
    N: 'static,
    F: Fn(A) -> Result<R, Raised> + Send + Sync + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    fn take(&self) -> Option<Lap<R>> {
        let mut state = self.state.lock();
        if !state.has() {
            return None;
        }
        let is_next = |items: &&Range<usize>| state.in_any_order || items.start == state.taken;
        let Some(items) = state.done.first().filter(is_next).cloned() else {
            let first = self.slots.len() - state.cut_left;
            state.cut_left -= 1;
            let error = state.cut.clone().map(Box::new);
            return Some(Lap { first, values: Vec::new(), error });
        };
        let first = items.start;
        let failed = state.errors.range(first..).next().map_or(items.end, |(item, _)| (*item).min(items.end));
        let (values, error) = if failed == first {
            (first..first, state.errors.remove(&first))
        } else {
            (first..failed.min(first + LAP), None)
        };
        let end = values.end + usize::from(error.is_some());
        if end == items.end {
            state.done.remove(0);
        } else {
            state.done[0].start = end;
        }
        state.taken = end;
        drop(state);
        // SAFETY: these were in `done` until we took them out, and have no error.
        let values = self.slots[values].iter().map(|slot| unsafe { value_of(slot) }).collect();
        Some(Lap { first, values, error })
    }

    fn in_any_order(&self) {
        self.state.lock().in_any_order = true;
    }

    fn nap(&self, results: usize, until: Instant) {
        self.state.lock().wanted = results;
        nap(self, Want::Value, until);
        self.state.lock().wanted = 0;
    }

    fn leave(&self, was_read: bool) {
        self.state.lock().left = Some(was_read);
        self.cut(Error::Cancelled { task: self.task() });
        self.note_unwanted();
        self.sweep();
    }
}

impl<N, F, A, R> Drop for Course<N, F, A, R> {
    /// Of a course that nobody has any more: so nothing runs, nothing is in `done` that will be taken, and the
    /// items that were never begun are still there.
    fn drop(&mut self) {
        signals::forget(self.id);
        let (unbegun, left) = {
            let state = self.state.get_mut();
            (state.next..state.end, state.left)
        };
        for item in unbegun {
            // SAFETY: it has not begun, and nobody else has the course.
            discard(unsafe { self.take_item(item) });
        }
        if left.is_none() {
            self.state.get_mut().left = Some(true);
        }
        self.sweep();
    }
}
