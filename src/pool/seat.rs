//! A worker's seat at the floor: how it comes for a task, sleeps when there is none, is lent, and leaves.
//!
//! Not here: what is queued and who is called for it (`floor.rs`). The rule: a worker is counted where it stands, under
//! the lock of the floor, and counted out once.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Item;
use super::floor::{Call, Floor, Parked, Refusal, State, Vacancy, ring};
use super::queue::Queued;
use super::room::Room;
use crate::future::deadline_after;
use crate::future::state::Freed;
use crate::outcome::discard;
use crate::primitives::{Ordering, Parker};

/// How often the keeper of a pool that is shut looks whether there is still anything to wait for.
const LOOK: Duration = Duration::from_millis(20);

/// How a worker sleeps that has nothing to do.
pub(crate) trait Sleep {
    /// Until its bell is rung, or until then: false if that came first. May also return for no reason.
    fn sleep(&mut self, bell: &Parker, until: Option<Instant>) -> bool {
        bell.park(until)
    }

    /// After it lay down to be lent, and is not.
    fn get_up(&mut self) {}
}

impl Sleep for () {}

/// What a worker gets that waits at the queue.
pub(super) enum Turn<I> {
    Task(I),
    /// One that others may take too, and whom to hire for that.
    Another(I, Option<Vacancy>),
    /// One that had been put back. Whoever counted on this worker has to be told.
    Due(I),
    /// It was woken while it is lent: something may have come that others cannot see to.
    Lent,
    /// Nothing came for as long as it would wait, or nothing will come, or there are too many. It is still counted until
    /// it retires.
    Leave,
}

/// Where a worker stands, as far as it knows itself: one that is parked may have been rung.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    Busy,
    Awake,
    Parked,
}

/// A worker's place on the floor, from when it is hired until it is counted out.
pub(crate) struct Seat<'a, I> {
    floor: &'a Floor<I>,
    bell: Arc<Parker>,
    stand: Cell<Stand>,
    /// There were others in the queue when it took its task.
    saw_more: Cell<bool>,
    /// Hires whoever is needed.
    cover: &'a dyn Fn(),
}

impl<'a, I> Seat<'a, I> {
    /// Of one that was counted as coming. `cover` hires those who are needed for tasks that nobody comes for.
    pub(super) fn at(floor: &'a Floor<I>, cover: &'a dyn Fn()) -> Self {
        let (stand, saw_more) = (Cell::new(Stand::Awake), Cell::new(false));
        Seat { floor, bell: Arc::default(), stand, saw_more, cover }
    }

    /// Of one that nobody hired: it comes on top of those that there may be.
    #[cfg(all(test, loom))]
    pub(super) fn taken(floor: &'a Floor<I>) -> Self {
        let mut state = floor.state.0.lock();
        floor.grow_by_one();
        state.crew.present += 1;
        state.awake += 1;
        floor.leave(state);
        Seat::at(floor, &|| ())
    }

    /// Takes back a task of this worker, to be run again at that moment. If all tasks have been ended meanwhile, this
    /// one is too.
    pub(crate) fn put_back(&self, item: I, due: Instant)
    where
        I: Item,
    {
        if let Err(item) = self.postpone(item, due) {
            match self.floor.why_closed() {
                Some(Refusal::Broken(error)) => item.fail(error),
                Some(Refusal::Closed) | None => item.cancel(),
            }
        }
    }

    /// The same. It comes back if all tasks have been taken out.
    pub(super) fn postpone(&self, item: I, due: Instant) -> Result<(), I> {
        let mut state = self.floor.state.0.lock();
        if state.is_drained {
            return Err(item);
        }
        state.later.add(item, due);
        let bell = state.call_a_keeper();
        drop(state);
        ring(bell);
        Ok(())
    }

    /// Takes more tasks, beside those that this worker has: the next of the queue as long as they fit, and no more
    /// than its share of them. None while another worker, or a task that was put back, has to come first.
    pub(crate) fn take_more(&self, most: usize, fits: impl FnMut(&I) -> bool) -> Vec<I> {
        let floor = self.floor;
        if !floor.has_tasks.0.load(Ordering::Relaxed) || floor.is_too_large() {
            return Vec::new();
        }
        let mut state = floor.state.0.lock();
        if state.later.is_due() {
            return Vec::new();
        }
        // Each of those who are awake comes for one.
        let spare = state.queue.len().saturating_sub(state.awake);
        let most = most.min(spare.div_ceil(floor.max_workers()));
        let taken = state.queue.take_common(most, fits);
        floor.leave(state);
        floor.room.iter().for_each(|room| taken.iter().for_each(|_| room.leave()));
        taken
    }

    /// Takes the next task, beside those that this worker has, whatever it is: of a pool that has one worker, which does
    /// all.
    #[cfg(feature = "amqp")]
    pub(crate) fn take_one(&self) -> Option<I> {
        let floor = self.floor;
        let mut state = floor.state.0.lock();
        if let Some(item) = state.later.take_due() {
            return Some(item);
        }
        let item = state.queue.pop_front()?;
        floor.leave(state);
        floor.room.iter().for_each(Room::leave);
        Some(item)
    }

    /// When the first of those is due that were put back.
    #[cfg(feature = "amqp")]
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.floor.state.0.lock().later.next_due()
    }

    /// Does a task wait that is to go before those of the usual priority?
    pub(crate) fn is_pressed(&self) -> bool {
        self.floor.has_urgent.load(Ordering::Relaxed)
    }

    /// Gives tasks back that this worker took and has not started: they are the next of their priority again, in this
    /// order.
    /// To be followed by `cover`.
    pub(crate) fn give_back(&self, items: Vec<I>)
    where
        I: Queued,
    {
        if items.is_empty() {
            return;
        }
        let floor = self.floor;
        // Beyond the bound, if need be: they had their places.
        floor.room.iter().for_each(|room| items.iter().for_each(|_| room.squeeze_in().keep()));
        let mut state = floor.state.0.lock();
        let mut bells = Vec::new();
        for item in items.into_iter().rev() {
            state.queue.push_front(item);
            if let Call::Ring(bell) = state.call(0) {
                bells.push(bell);
            }
        }
        floor.leave(state);
        ring(bells);
    }

    /// The bell that wakes this worker.
    pub(crate) fn bell(&self) -> &Arc<Parker> {
        &self.bell
    }

    /// Lies down before its last task is told to be over, if there is no other: whoever hands in the next one may do it
    /// in this worker's place. False: it comes for one. To be called by one that is busy, and will not be for long.
    pub(crate) fn lie_down(&self) -> bool {
        let mut state = self.floor.state.0.lock();
        let is_free = self.stand.get() == Stand::Busy
            && state.queue.is_empty()
            && state.later.is_empty()
            && !state.is_shut()
            && state.crew.staying() <= self.floor.max_workers();
        if is_free {
            self.stand.set(Stand::Parked);
            state.parked.push(Parked { bell: Arc::clone(&self.bell), may_be_lent: true });
        }
        is_free
    }

    /// This worker, which was lent, does its work itself from here on.
    pub(crate) fn reclaim(&self) {
        let was_lent = self.floor.state.0.lock().take_back(&self.bell);
        debug_assert!(was_lent, "who has its work in hand has its place");
        self.stand.set(Stand::Busy);
    }

    /// Was there no other task in the queue when it took its own?
    pub(crate) fn has_seen_the_last(&self) -> bool {
        self.stand.get() == Stand::Busy && !self.saw_more.get()
    }

    /// Hires whoever is needed for what was given back.
    pub(crate) fn cover(&self) {
        (self.cover)();
    }

    /// Waits for a task, for ever or for as long as `patience`.
    #[inline]
    pub(super) fn next(&self, patience: Option<Duration>, bed: &mut impl Sleep) -> Turn<I>
    where
        I: Queued,
    {
        let floor = self.floor;
        let mut may_look = true;
        let has_lain_down = self.stand.get() == Stand::Parked;
        let in_time = !has_lain_down || bed.sleep(&self.bell, patience.and_then(deadline_after));
        let mut state = floor.state.0.lock();
        if has_lain_down {
            if state.is_lent(&self.bell) {
                return Turn::Lent;
            }
            if !in_time && state.is_parked(&self.bell) {
                return Turn::Leave;
            }
            self.awake(&mut state);
            drop(state);
            bed.get_up();
            state = floor.state.0.lock();
        }
        loop {
            self.awake(&mut state);
            if state.crew.staying() > floor.max_workers() {
                return Turn::Leave;
            }
            if !state.later.is_due()
                && let Some(item) = state.queue.front().and_then(Queued::another)
            {
                state.awake -= 1;
                self.stand.set(Stand::Busy);
                self.saw_more.set(true);
                let call = state.call(floor.max_workers());
                let keeper = state.call_a_keeper();
                let vacancy = floor.leave_and_ring(state, call);
                ring(keeper);
                return Turn::Another(item, vacancy);
            }
            let (item, was_put_back) = match state.later.take_due() {
                Some(item) => (Some(item), true),
                None => (state.queue.pop_front(), false),
            };
            if let Some(item) = item {
                state.awake -= 1;
                self.stand.set(Stand::Busy);
                self.saw_more.set(!state.queue.is_empty());
                if !was_put_back && !state.later.is_unkept() {
                    // The usual way, and the shortest.
                    floor.leave(state);
                    floor.room.iter().for_each(Room::leave);
                    return Turn::Task(item);
                }
                // Those that wait for the last task that was put back are waiting for the end.
                let all = state.is_shut() && was_put_back && state.later.is_empty();
                let bells = if all { state.call_all() } else { Vec::new() };
                let keeper = state.call_a_keeper();
                floor.leave(state);
                ring(bells);
                ring(keeper);
                if was_put_back {
                    return Turn::Due(item);
                }
                floor.room.iter().for_each(Room::leave);
                return Turn::Task(item);
            }
            if state.is_shut() {
                let ended = state.later.take_ended();
                if !ended.is_empty() {
                    // Others may have been waiting for them alone.
                    let bells = state.call_all();
                    drop(state);
                    ring(bells);
                    discard(ended);
                    state = floor.state.0.lock();
                    continue;
                }
            }
            if state.is_over() {
                return Turn::Leave;
            }
            if may_look {
                drop(state);
                may_look = floor.look();
                state = floor.state.0.lock();
                continue;
            }
            state.awake -= 1;
            state.parked.push(Parked { bell: Arc::clone(&self.bell), may_be_lent: false });
            self.stand.set(Stand::Parked);
            // Nobody tells us that a task was cancelled that waits for its moment. As long as somebody waits for the end
            // of the pool, we look.
            let most = state.is_shut().then_some(LOOK);
            let kept = state.later.keep(most);
            drop(state);
            let in_time = bed.sleep(&self.bell, kept.or_else(|| patience.and_then(deadline_after)));
            state = floor.state.0.lock();
            if let Some(until) = kept {
                state.later.leave_post(until);
            } else if !in_time && state.is_parked(&self.bell) {
                drop(state);
                // Whoever comes back at once would do so for ever: in a model, another has to go on first.
                #[cfg(loom)]
                loom::thread::yield_now();
                return Turn::Leave;
            }
            may_look = true;
        }
    }

    /// However it stood, it is awake now.
    fn awake(&self, state: &mut State<I>) {
        let is_new = match self.stand.replace(Stand::Awake) {
            Stand::Busy => true,
            Stand::Awake => false,
            // If it was rung, whoever did that has counted it.
            Stand::Parked => state.take_back(&self.bell) || state.unpark(&self.bell),
        };
        state.awake += usize::from(is_new);
    }

    /// Lets a worker go whose turn was to leave; false if a task has come that needs it.
    pub(super) fn retire(&self) -> bool {
        let mut state = self.floor.state.0.lock();
        let is_let_go = match self.stand.get() {
            Stand::Parked => state.unpark(&self.bell),
            Stand::Awake if state.is_over() || state.crew.staying() > self.floor.max_workers() => {
                state.awake -= 1;
                true
            }
            Stand::Awake | Stand::Busy => false,
        };
        if is_let_go {
            self.floor.let_go(state);
        }
        is_let_go
    }

    /// Lets a worker go that has ended its task; false if it is not one too many.
    pub(super) fn shrink(&self) -> bool {
        let mut state = self.floor.state.0.lock();
        let is_too_large = state.crew.staying() > self.floor.max_workers() && !state.is_lent(&self.bell);
        if is_too_large {
            self.stand_up(&mut state);
            self.floor.let_go(state);
        }
        is_too_large
    }

    /// Counts out a worker that was let go, and has nothing left to do.
    pub(super) fn see_off(&self) -> Option<Vacancy> {
        self.floor.see_off()
    }

    /// Counts out a worker that cannot go on, if others can; false if it is the last.
    pub(super) fn leave_to_others(&self) -> bool {
        let mut state = self.floor.state.0.lock();
        let others_work = state.crew.staying() > 1;
        if others_work {
            self.stand_up(&mut state);
            self.floor.count_out(state);
        }
        others_work
    }

    /// Counts out a worker that cannot go on, whatever becomes of the tasks.
    pub(super) fn leave(&self) {
        let mut state = self.floor.state.0.lock();
        self.stand_up(&mut state);
        self.floor.count_out(state);
    }

    /// However it stood, nobody is to count on it any more.
    fn stand_up(&self, state: &mut State<I>) {
        self.awake(state);
        state.awake -= 1;
    }
}

/// One that is as good as idle is awake.
impl<I> Freed for Seat<'_, I> {
    fn is_wanted(&self) -> bool {
        let floor = self.floor;
        // Where tasks wait and nobody can be hired, nobody needs to know. That they still wait is likely, and
        // to look costs more than to be wrong: one that nobody knew of finds the next task all the same.
        self.stand.get() == Stand::Busy
            && !(self.saw_more.get() && floor.at_work.0.load(Ordering::Relaxed) >= floor.max_workers())
    }

    fn free(&self) {
        if self.is_wanted() {
            self.stand.set(Stand::Awake);
            self.floor.state.0.lock().awake += 1;
        }
    }
}
