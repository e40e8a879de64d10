//! The floor of a pool: the tasks that are queued and the workers there are, under one lock.
//!
//! ```text
//!                 free, next              nothing comes
//!     busy ─────────────────────▶ awake ────────────────▶ parked
//!      ▲                          │  ▲                      │
//!      └────── takes a task ──────┘  └──────── rung ────────┘
//! ```
//!
//! | worker | means                                                                                         |
//! |--------|-----------------------------------------------------------------------------------------------|
//! | busy   | has a task; one of those that wait for a call of this very pool is also *away*                |
//! | awake  | has none and comes for one: it looks, was rung, is being hired, or is as good as done (`free`) |
//! | parked | sleeps until its bell is rung                                                                 |
//! | lent   | busy, as others see it, but its thread sleeps: who handed in its task, or waits for it, does its work |
//!
//! The rule: whenever the lock is given back, each task that is queued has an awake worker of its own, or no
//! worker is parked; and if there may be more workers, somebody is about to hire one. So a task waits only for
//! workers that are busy, and nobody is woken for a task that one who is awake will take.
//!
//! The door is open, then shut (closed or broken); what comes later is refused. A worker may put a task back,
//! to be run at a later moment (`later.rs`), also when the door is shut, but not after all tasks were taken out to be
//! ended: workers leave only when there is none of these either. One of the parked, the keeper, sleeps no longer than to
//! the next of these moments.
//!
//! A task may be for many workers (a map): each that comes gets a copy, and it stays at the front of those of its
//! priority, so that nothing behind it starts before all of it has.
//!
//! Not here: in which order tasks are taken (`queue.rs`); how a worker comes for a task, sleeps and leaves (`seat.rs`); how one is hired, and what it does with a task
//! (`mod.rs`, `worker.rs`).

use std::sync::Arc;
use std::time::Instant;

use super::later::Later;
use super::queue::{Queue, Queued};
use super::room::Room;
use crate::error::Error;
use crate::id::TaskRef;
use crate::primitives::statics::{AtomicBool, AtomicUsize};
use crate::primitives::{Condvar, Mutex, MutexGuard, Ordering, Parker, look};

pub(super) struct Floor<I> {
    pub(super) state: Apart<Mutex<State<I>>>,
    /// Changed under the lock. Those who look without it see it soon.
    max_workers: AtomicUsize,
    /// Absent if the queue has no bound.
    pub(super) room: Option<Room>,
    someone_left: Condvar,
    /// Are there tasks in the queue? To be seen without the lock: a hint. Those who look again and again do not slow
    /// down those who take it.
    pub(super) has_tasks: Apart<AtomicBool>,
    /// Workers that are not away and do not leave, the same.
    pub(super) at_work: Apart<AtomicUsize>,
    /// Is the door shut? The same: who sees that it is not may find it so all the same.
    is_shut: AtomicBool,
    /// Is there a task of a high priority in the queue? The same.
    pub(super) has_urgent: AtomicBool,
}

/// In cache lines of its own: two, because processors fetch them in pairs.
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

/// What changes with each task comes first, in one cache line with the lock: so no other line goes from core to core.
#[repr(C)]
pub(super) struct State<I> {
    pub(super) queue: Queue<I>,
    /// Those of the crew that have no task and come for one.
    pub(super) awake: usize,
    pub(super) crew: Crew,
    door: Door,
    pub(super) later: Later<I>,
    /// All has been taken out, to be ended: what a worker would put back now is to be ended too.
    pub(super) is_drained: bool,
    /// Those that sleep. The last to come is the first to be rung: its caches are warm, and those that are not
    /// needed can leave.
    pub(super) parked: Vec<Parked>,
    /// Those of the busy ones that sleep all the same: others do their work.
    lent: Vec<Arc<Parker>>,
}

/// A worker that sleeps.
pub(super) struct Parked {
    pub(super) bell: Arc<Parker>,
    /// Others may work in its place.
    pub(super) may_be_lent: bool,
}

enum Door {
    Open,
    Shut(Refusal),
}

/// Why a task is not let in.
#[derive(Clone)]
pub(super) enum Refusal {
    Closed,
    Broken(Error),
}

impl Refusal {
    pub(super) fn of(self, task: TaskRef) -> Error {
        match self {
            Refusal::Closed => Error::ShutDown { task },
            Refusal::Broken(error) => error,
        }
    }
}

#[derive(Default)]
pub(super) struct Crew {
    /// Workers that have not left, and those that are being hired.
    pub(super) present: usize,
    /// Those of them that wait for a call of this very pool: others may work meanwhile.
    away: usize,
    /// Those of them that take no task any more, and are not gone yet: nobody counts on them, and none is hired in their
    /// place before.
    pub(super) leaving: usize,
    /// Workers ever hired; the number in a thread's name.
    ever: usize,
}

impl Crew {
    pub(super) fn at_work(&self) -> usize {
        self.present - self.away
    }

    /// Those of them that will come for a task again. (One that waits while it leaves is taken off twice, and is missed
    /// by nobody.)
    pub(super) fn staying(&self) -> usize {
        self.at_work().saturating_sub(self.leaving)
    }
}

/// There is work for one more worker: whoever is told hires it, and says if that failed.
#[derive(Debug)]
#[must_use = "it is counted as coming"]
pub(super) struct Vacancy {
    pub(super) number: usize,
}

/// Who is to do something about a task that nobody comes for.
pub(super) enum Call {
    Ring(Arc<Parker>),
    Hire(Vacancy),
    /// All are busy, or enough are awake.
    Nobody,
}

impl<I> State<I> {
    pub(super) fn is_shut(&self) -> bool {
        matches!(self.door, Door::Shut(_))
    }

    /// Shut, and there is nothing left to do.
    pub(super) fn is_over(&self) -> bool {
        self.is_shut() && self.queue.is_empty() && self.later.is_empty()
    }

    /// Keeps the rule: finds a worker for a task that none comes for, and counts it as awake.
    pub(super) fn call(&mut self, max_workers: usize) -> Call {
        if self.queue.len() <= self.awake {
            return Call::Nobody;
        }
        if let Some(Parked { bell, .. }) = self.parked.pop() {
            self.awake += 1;
            return Call::Ring(bell);
        }
        if self.crew.at_work() >= max_workers {
            return Call::Nobody;
        }
        let number = self.crew.ever;
        self.crew.ever += 1;
        self.crew.present += 1;
        self.awake += 1;
        Call::Hire(Vacancy { number })
    }

    /// If tasks that were put back have no keeper, and nobody who is awake will become it, a parked worker
    /// comes to look.
    pub(super) fn call_a_keeper(&mut self) -> Option<Arc<Parker>> {
        let is_needed = self.later.is_unkept() && self.awake <= self.queue.len();
        let parked = if is_needed { self.parked.pop() } else { None };
        self.awake += usize::from(parked.is_some());
        parked.map(|parked| parked.bell)
    }

    /// Those that sleep and are too many come to look: of them the ones that have slept longest.
    fn call_those_too_many(&mut self, max_workers: usize) -> Vec<Arc<Parker>> {
        let too_many = self.crew.staying().saturating_sub(max_workers).min(self.parked.len());
        self.awake += too_many;
        self.parked.drain(..too_many).map(|parked| parked.bell).collect()
    }

    /// Everybody comes to look.
    pub(super) fn call_all(&mut self) -> Vec<Arc<Parker>> {
        self.awake += self.parked.len();
        self.parked.drain(..).map(|parked| parked.bell).collect()
    }

    /// Lends a worker for a task, if it is the right one for it: nobody comes for one, and no other task waits.
    fn lend(&mut self) -> Option<Arc<Parker>> {
        let is_free = self.queue.is_empty() && self.awake == 0 && self.later.is_empty();
        let Parked { bell, .. } = self.parked.pop_if(|parked| is_free && parked.may_be_lent)?;
        self.lent.push(Arc::clone(&bell));
        Some(bell)
    }

    pub(super) fn is_parked(&self, bell: &Arc<Parker>) -> bool {
        self.parked.iter().any(|parked| Arc::ptr_eq(&parked.bell, bell))
    }

    pub(super) fn is_lent(&self, bell: &Arc<Parker>) -> bool {
        self.lent.iter().any(|lent| Arc::ptr_eq(lent, bell))
    }

    /// A worker that was lent is its own again. It is busy.
    pub(super) fn take_back(&mut self, bell: &Arc<Parker>) -> bool {
        let at = self.lent.iter().position(|lent| Arc::ptr_eq(lent, bell));
        at.map(|at| self.lent.swap_remove(at)).is_some()
    }

    /// Takes a worker off the list of those that sleep. False: it is not on it, so it was rung.
    pub(super) fn unpark(&mut self, bell: &Arc<Parker>) -> bool {
        // The last to come are the first to leave.
        let at = self.parked.iter().rposition(|parked| Arc::ptr_eq(&parked.bell, bell));
        at.map(|at| self.parked.remove(at)).is_some()
    }
}

pub(super) fn ring(bells: impl IntoIterator<Item = Arc<Parker>>) {
    bells.into_iter().for_each(|bell| bell.wake());
}

impl<I> Floor<I> {
    pub(super) fn new(max_workers: usize, bound: Option<usize>) -> Self {
        let state = State {
            door: Door::Open,
            queue: Queue::new(),
            later: Later::new(),
            is_drained: false,
            crew: Crew::default(),
            awake: 0,
            parked: Vec::new(),
            lent: Vec::new(),
        };
        Floor {
            state: Apart(Mutex::new(state)),
            max_workers: AtomicUsize::new(max_workers),
            room: bound.map(Room::new),
            someone_left: Condvar::new(),
            has_tasks: Apart(AtomicBool::new(false)),
            at_work: Apart(AtomicUsize::new(0)),
            is_shut: AtomicBool::new(false),
            has_urgent: AtomicBool::new(false),
        }
    }

    pub(super) fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    pub(super) fn max_workers(&self) -> usize {
        self.max_workers.load(Ordering::Relaxed)
    }

    #[cfg(all(test, loom))]
    pub(super) fn grow_by_one(&self) {
        self.max_workers.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on there may be so many workers. Of those who sleep, the ones that are too many come to look, and leave;
    /// if there may be more, the caller is to `cover`.
    pub(super) fn resize(&self, max_workers: usize) {
        let mut state = self.state.0.lock();
        self.max_workers.store(max_workers, Ordering::Relaxed);
        let bells = state.call_those_too_many(max_workers);
        self.leave(state);
        ring(bells);
    }

    /// Gives the lock back, after a change of what can be seen without it.
    #[inline]
    pub(super) fn leave(&self, state: MutexGuard<'_, State<I>>) {
        let has_tasks = !state.queue.is_empty();
        let at_work = state.crew.staying();
        // They seldom change, and all look at them.
        if self.has_tasks.0.load(Ordering::Relaxed) != has_tasks {
            self.has_tasks.0.store(has_tasks, Ordering::Relaxed);
        }
        if self.at_work.0.load(Ordering::Relaxed) != at_work {
            self.at_work.0.store(at_work, Ordering::Relaxed);
        }
        if state.queue.has_others() || self.has_urgent.load(Ordering::Relaxed) {
            self.note_urgent(&state);
        }
        drop(state);
    }

    #[cold]
    fn note_urgent(&self, state: &State<I>) {
        self.has_urgent.store(state.queue.is_urgent(), Ordering::Relaxed);
    }

    /// Gives the lock back, and rings. A worker that is to be hired is for the caller.
    pub(super) fn leave_and_ring(&self, state: MutexGuard<'_, State<I>>, call: Call) -> Option<Vacancy> {
        self.leave(state);
        match call {
            Call::Ring(bell) => {
                bell.wake();
                None
            }
            Call::Hire(vacancy) => Some(vacancy),
            Call::Nobody => None,
        }
    }

    /// Takes the lock, if the door is open.
    fn enter(&self) -> Result<MutexGuard<'_, State<I>>, Refusal> {
        let state = self.state.0.lock();
        match &state.door {
            Door::Open => Ok(state),
            Door::Shut(refusal) => Err(refusal.clone()),
        }
    }

    fn add(&self, mut state: MutexGuard<'_, State<I>>, item: I) -> Option<Vacancy>
    where
        I: Queued,
    {
        state.queue.push_back(item);
        let call = state.call(self.max_workers());
        self.leave_and_ring(state, call)
    }

    /// Adds a task.
    pub(super) fn push(&self, item: I) -> Result<Option<Vacancy>, (I, Refusal)>
    where
        I: Queued,
    {
        match self.enter() {
            Ok(state) => Ok(self.add(state, item)),
            Err(refusal) => Err((item, refusal)),
        }
    }

    /// As `push`, or lends a worker that sleeps, for that one task: then it is the caller's to do, and `return_lent` or
    /// `unlend` is to follow.
    pub(super) fn push_or_lend(&self, item: I) -> Result<Pushed<I>, (I, Refusal)>
    where
        I: Queued,
    {
        let mut state = match self.enter() {
            Ok(state) => state,
            Err(refusal) => return Err((item, refusal)),
        };
        Ok(match state.lend() {
            Some(bell) => Pushed::Lent(item, bell),
            None => Pushed::Queued(self.add(state, item)),
        })
    }

    /// A worker that was lent has nothing to do any more, and may be lent again.
    pub(super) fn return_lent(&self, bell: Arc<Parker>) -> Option<Vacancy> {
        let mut state = self.state.0.lock();
        if !state.take_back(&bell) {
            return None;
        }
        state.parked.push(Parked { bell, may_be_lent: true });
        if state.is_shut() || state.crew.staying() > self.max_workers() {
            // It comes to look, and leaves.
            let bells = state.call_all();
            self.leave(state);
            ring(bells);
            return None;
        }
        let call = state.call(self.max_workers());
        let keeper = state.call_a_keeper();
        let vacancy = self.leave_and_ring(state, call);
        ring(keeper);
        vacancy
    }

    /// None but a worker itself can do that task: it is the next of its priority.
    pub(super) fn unlend(&self, bell: Arc<Parker>, item: I) -> Option<Vacancy>
    where
        I: Queued,
    {
        // Beyond the bound, if need be: it had its place.
        self.room.iter().for_each(|room| room.squeeze_in().keep());
        let mut state = self.state.0.lock();
        state.queue.push_front(item);
        let call = if state.take_back(&bell) {
            state.awake += 1;
            Call::Ring(bell)
        } else {
            state.call(self.max_workers())
        };
        self.leave_and_ring(state, call)
    }

    /// Takes out the task that `is` the one, if that is among the last.
    pub(super) fn take_back(&self, is: impl Fn(&I) -> bool) -> Option<I> {
        let mut state = self.state.0.lock();
        let item = state.queue.take_back(is);
        self.leave(state);
        if item.is_some() {
            self.room.iter().for_each(Room::leave);
        }
        item
    }

    /// Somebody who was counted on is not coming: is another needed?
    pub(super) fn cover(&self) -> Option<Vacancy> {
        let mut state = self.state.0.lock();
        let call = state.call(self.max_workers());
        self.leave_and_ring(state, call)
    }

    /// A worker is about to sleep until another has done something: until `step_in`, one more may work.
    pub(super) fn step_out(&self) -> Option<Vacancy> {
        let mut state = self.state.0.lock();
        state.crew.away += 1;
        let call = state.call(self.max_workers());
        self.leave_and_ring(state, call)
    }

    pub(super) fn step_in(&self) {
        let mut state = self.state.0.lock();
        state.crew.away -= 1;
        self.leave(state);
    }

    /// Are there more workers than there may be, because one has come back for which another stood in, or because they
    /// are to be fewer?
    pub(super) fn is_too_large(&self) -> bool {
        self.at_work.0.load(Ordering::Relaxed) > self.max_workers()
    }

    /// Do tasks wait that nobody works for? Those who are away may be waiting for them.
    pub(super) fn is_forsaken(&self) -> bool {
        let state = self.state.0.lock();
        state.crew.at_work() == 0 && !(state.queue.is_empty() && state.later.is_empty())
    }

    pub(super) fn close(&self) {
        self.shut(|door| match door {
            Door::Open => Some(Refusal::Closed),
            Door::Shut(_) => None,
        });
    }

    /// Also a queue that is closed can break: what is left in it will not be run.
    pub(super) fn close_broken(&self, error: &Error) {
        self.shut(|door| match door {
            Door::Shut(Refusal::Broken(_)) => None,
            _ => Some(Refusal::Broken(error.clone())),
        });
    }

    fn shut(&self, why: impl FnOnce(&Door) -> Option<Refusal>) {
        let mut state = self.state.0.lock();
        if let Some(refusal) = why(&state.door) {
            state.door = Door::Shut(refusal);
        }
        self.is_shut.store(true, Ordering::Relaxed);
        let bells = state.call_all();
        drop(state);
        ring(bells);
        self.room.iter().for_each(Room::open);
    }

    /// As `why_closed`, without the lock while it is open: to be asked before work that would be in vain.
    pub(super) fn seems_closed(&self) -> Option<Refusal> {
        if self.is_shut.load(Ordering::Relaxed) { self.why_closed() } else { None }
    }

    pub(super) fn why_closed(&self) -> Option<Refusal> {
        match &self.state.0.lock().door {
            Door::Open => None,
            Door::Shut(refusal) => Some(refusal.clone()),
        }
    }

    /// Takes out what is queued, to be ended; of a closed queue, all there will ever be. From now on nothing is put back.
    pub(super) fn drain(&self) -> Vec<I> {
        let mut state = self.state.0.lock();
        state.is_drained = true;
        let mut items = state.queue.drain();
        items.extend(state.later.drain());
        // Who waited for a moment need not any more.
        let bells = state.call_all();
        self.leave(state);
        ring(bells);
        items
    }

    /// How many workers there are, and how many tasks wait.
    /// How many workers there are, and tasks that wait, and workers that have some in hand.
    pub(super) fn census(&self) -> (usize, usize, usize) {
        let state = self.state.0.lock();
        let idle = state.awake + state.parked.len();
        (state.crew.present, state.queue.len() + state.later.len(), state.crew.present.saturating_sub(idle))
    }

    /// Another copy of each task that is for many.
    pub(super) fn for_many(&self) -> Vec<I>
    where
        I: Queued,
    {
        self.state.0.lock().queue.iter().filter_map(Queued::another).collect()
    }

    /// Waits until every worker has left; false if `deadline` came first.
    pub(super) fn wait_for_the_last(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.0.lock();
        while state.crew.present > 0 {
            match deadline {
                None => self.someone_left.wait(&mut state),
                Some(deadline) => {
                    if self.someone_left.wait_until(&mut state, deadline).timed_out() {
                        return state.crew.present == 0;
                    }
                }
            }
        }
        true
    }

    /// A worker that was to be hired is not coming.
    pub(super) fn not_hired(&self, _: Vacancy) {
        let mut state = self.state.0.lock();
        state.awake -= 1;
        self.count_out(state);
    }

    /// A worker that is not counted as awake or parked takes no task any more. If somebody counted on it, another comes.
    pub(super) fn let_go(&self, mut state: MutexGuard<'_, State<I>>) {
        state.crew.leaving += 1;
        let call = state.call(0);
        // It may have been the one who would have kept those that were put back.
        let keeper = state.call_a_keeper();
        let _ = self.leave_and_ring(state, call);
        ring(keeper);
    }

    /// A worker that was let go is gone: another may be hired in its place.
    pub(super) fn see_off(&self) -> Option<Vacancy> {
        let mut state = self.state.0.lock();
        state.crew.leaving -= 1;
        state.crew.present -= 1;
        let call = state.call(self.max_workers());
        let vacancy = self.leave_and_ring(state, call);
        self.someone_left.notify_all();
        vacancy
    }

    /// A worker that is not counted as awake or parked leaves. If somebody counted on it, another comes; where
    /// it was refused, none is hired in its place.
    pub(super) fn count_out(&self, mut state: MutexGuard<'_, State<I>>) {
        state.crew.present -= 1;
        let call = state.call(0);
        let keeper = state.call_a_keeper();
        let _ = self.leave_and_ring(state, call);
        ring(keeper);
        self.someone_left.notify_all();
    }

    /// Looks for a task for a moment, without the lock.
    pub(super) fn look(&self) -> bool {
        let is_there = || self.has_tasks.0.load(Ordering::Relaxed);
        look::watch(is_there) || look::give_way(is_there)
    }
}

/// What came of a task that was handed in.
pub(super) enum Pushed<I> {
    Queued(Option<Vacancy>),
    /// It is for the caller to do, in the place of a worker.
    Lent(I, Arc<Parker>),
}
