//! The context of a worker of a process pool: a thread of the host that owns one child, gives it
//! calls, and replaces it when it dies.
//!
//! | the child dies …                          | what happens                                      |
//! |-------------------------------------------|---------------------------------------------------|
//! | while it starts (spawn, Hello)            | another one, three times; then the pool is broken |
//! | in the initializer                        | the same; a panic there breaks the pool at once   |
//! | while idle, or before it began the call   | the call is queued again: nobody notices          |
//! | decoding, running, encoding, replying     | the call ends with `WorkerDied`, or is put back   |
//! | told to leave (Bye)                       | nothing is lost                                   |
//!
//! One that takes too long is made to die, and the same holds, with `TimedOut`. A child that the system
//! refuses costs no call: the call is put back, and the pool goes on with the workers that it has, or is broken
//! if it has none. Whether it goes on after a death at all is for `deaths.rs` to say.
//!
//! Several calls are in hand at a time (`window.rs`) if they are short and nothing special: so many that the child
//! has some hundred microseconds of work, as far as one knows from those before (`pace.rs`), and no more than the
//! worker's share of the queue. The first of a function travels alone, and so do those with options, limits, or much
//! to carry.
//!
//! | what has not begun is taken back, to be the next of the queue again | because                               |
//! |---------------------------------------------------------------------|---------------------------------------|
//! | when nothing was heard for half a millisecond                       | other workers may be idle             |
//! | before a long message is read                                       | the same                              |
//! | before a callback runs, which another thread does if others are still in hand | it may wait for them        |
//! | when one with a higher priority waits                               | it goes first                         |
//! | when the child is gone                                              | it has not run                        |
//!
//! The rule: no code of those who listen runs in this thread while it has a call in hand.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{Call, Started};
use super::calls::{Heard, Until};
use super::child::{Child, NoStart};
use super::lanes::words_of;
use super::pace::Pace;
use super::pipes::News;
use super::slot::Slot;
use super::{Plan, sys};
use crate::account::{Account, Start};
use crate::error::Error;
use crate::future::deadline_after;
use crate::observer::What;
use crate::pool::{Context, Pins, Seat, Sleep};
use crate::primitives::Ordering;

/// How often in a row a worker may fail to start, or die before it begins a call.
pub(super) const ATTEMPTS: u8 = 3;

/// What a child has to do at the most, in nanoseconds, as far as one knows.
const WORK: u64 = 300_000;

/// A call that takes longer travels alone.
const LONG: u64 = 100_000;

/// So short a call is waited for without sleeping.
pub(super) const TINY: u64 = 30_000;

/// How long a call may take while others wait behind it.
const PAUSE: Duration = Duration::from_micros(500);

/// How long it is waited for a call to begin, before one looks whether it was cancelled instead.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// After a call whose end ran a callback, so many travel alone: the next ones probably have some too.
pub(super) const WARY: u32 = 64;

pub(crate) struct ProcessContext {
    pub(super) plan: Arc<Plan>,
    pub(super) number: usize,
    pub(super) slot: Arc<Slot>,
    pub(super) child: Option<Child>,
    pub(super) pace: Pace,
    /// So many calls are still to travel alone.
    pub(super) wary: u32,
    /// When so few are in hand, more are taken.
    pub(super) low: usize,
    /// What there is to hear of the child, while it lies in the berth.
    pub(super) news: Option<News>,
    /// Since when it is the turn of the first call in hand, if somebody wants to know.
    pub(super) turn: Option<Instant>,
    /// What its bell makes readable, to be waited for together with that.
    pub(super) alarm: Option<Arc<OwnedFd>>,
}

impl ProcessContext {
    pub(super) fn new(plan: Arc<Plan>, number: usize, account: &Arc<Account>) -> Self {
        let pin = plan.pins.as_ref().and_then(Pins::take);
        let slot = Arc::new(Slot::new(plan.grace_period, pin, Arc::clone(account)));
        plan.slots.lock().push(Arc::clone(&slot));
        ProcessContext {
            plan,
            number,
            slot,
            child: None,
            pace: Pace::default(),
            wary: 0,
            low: 0,
            news: None,
            turn: None,
            alarm: None,
        }
    }

    /// Makes sure that there is a child, alive as far as we can see; a new one if need be.
    fn have_child(&mut self) -> Result<(), Error> {
        if self.slot.is_doomed() {
            self.child = None;
        }
        if let Some(gone) = self.child.take_if(|child| child.is_dead()) {
            self.judge(&gone.idle_end())?;
        }
        if self.child.is_none() {
            let child = self.start()?;
            self.slot.window.lock().connect(child.page.as_ref().map(|page| Arc::clone(&page.lanes)));
            self.child = Some(child);
        }
        Ok(())
    }

    fn start(&self) -> Result<Child, Error> {
        let mut attempt = 1;
        loop {
            self.tell_of_ends();
            if let Some(verdict) = self.plan.deaths.verdict() {
                return Err(verdict.clone());
            }
            if self.plan.stopped.load(Ordering::Acquire) {
                return Err(Error::broken("the workers of the pool were killed", None));
            }
            match Child::start(&self.plan, self.number, &self.slot) {
                Ok(child) => return Ok(child),
                Err(NoStart::Died(error)) => {
                    if attempt == ATTEMPTS {
                        let reason = format!(
                            "the pool is broken: {ATTEMPTS} workers in a row did not start; the last: {error}"
                        );
                        return Err(Error::broken(reason, Some(error)));
                    }
                    attempt += 1;
                    self.judge(&error)?;
                }
                Err(NoStart::Refused(error) | NoStart::Never(error)) => return Err(error),
            }
        }
    }

    /// Tells those who want to know which children have ended. To be called without a call in hand.
    fn tell_of_ends(&self) {
        self.plan.hooks.tell_of_ends(&self.slot);
    }

    /// A child died that nobody had asked to. An error breaks the pool, and all its other workers end.
    pub(super) fn judge(&self, death: &Error) -> Result<(), Error> {
        let was_asked = self.slot.call_was_killed() || self.plan.stopped.load(Ordering::Acquire);
        let Some(verdict) = (!was_asked).then(|| self.plan.deaths.judge(death)).flatten() else {
            return Ok(());
        };
        self.plan.stopped.store(true, Ordering::Release);
        self.plan.slots.lock().iter().for_each(|slot| slot.kill_call());
        Err(verdict.clone())
    }

    /// Gives the call to a child, and more of them, as long as there are some for which this worker is the right one;
    /// ends all of them, or puts them back. An error means that there will be no child any more.
    fn serve(&mut self, call: Call, seat: &Seat<'_, Call>) -> Result<(), Error> {
        self.slot.begin_call();
        if let Err(error) = self.have_child() {
            return self.not_started(call, error, seat);
        }
        let limit = call.letter.attempts.as_ref().and_then(|attempts| attempts.options.limit());
        let limit = limit.or(self.plan.task_timeout);
        let pace = self.pace.of(&call.letter.frame);
        let is_plain = limit.is_none()
            && call.letter.attempts.is_none()
            && call.letter.enclosed.is_empty()
            && self.plan.max_memory_per_child.is_none();
        let is_short = is_plain && pace.is_some_and(|pace| pace <= LONG);
        if let Err(heard) = self.send_first(call, pace, limit) {
            let until = deadline_after(limit.unwrap_or_default());
            return self.attend(heard, until, limit, seat);
        }
        let deadline = limit.and_then(deadline_after);
        if is_short {
            self.send_more(seat);
        }
        self.go_on(is_plain, deadline, limit, seat)
    }

    /// Hears of the calls in hand, to their ends.
    pub(super) fn go_on(
        &mut self,
        is_plain: bool,
        deadline: Option<Instant>,
        limit: Option<Duration>,
        seat: &Seat<'_, Call>,
    ) -> Result<(), Error> {
        let mut pause = PAUSE;
        let is_observed = self.slot.account.is_observed();
        self.turn = self.slot.account.is_slow().then(Instant::now);
        while let Some((count, cost, is_to_begin)) = self.in_hand() {
            self.tell_of_start();
            // Nobody else tells us that it has begun.
            let soon = (is_observed && is_to_begin).then(|| Instant::now() + pause);
            let until = match deadline {
                Some(deadline) => Until::By(soon.map_or(deadline, |soon| soon.min(deadline))),
                None if count > 1 => Until::For(PAUSE),
                None if is_to_begin => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    Until::For(pause)
                }
                None => Until::Ever,
            };
            let Some(child) = &mut self.child else { return Ok(()) };
            let heard = child.hear(until, count == 1 && cost <= TINY, count - self.low.min(count - 1));
            if matches!(heard, Heard::Late)
                && soon.is_some()
                && deadline.is_some_and(|deadline| Instant::now() < deadline)
            {
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            self.attend(heard, deadline, limit, seat)?;
            if count > 1 && seat.is_pressed() {
                self.take_back_behind(0, seat);
            }
            if is_plain && self.child.is_some() && self.in_hand().is_some_and(|(count, ..)| count <= self.low)
            {
                self.send_more(seat);
            }
        }
        Ok(())
    }

    /// Tells that the first call in hand was begun, once that is known.
    pub(super) fn tell_of_start(&self) {
        let account = &self.slot.account;
        let (Some(child), Some(turn)) = (&self.child, self.turn) else { return };
        let noted = self.slot.window.lock().note_start(account, turn);
        if let Some((task, attempt, Start { at, waited })) = noted {
            account.tell(at, What::Started { task, attempt, worker: Some(&child.worker), waited });
        }
    }

    /// How many calls there are in hand, what they will take, and whether the first is still to begin; `None` if there
    /// is none.
    pub(super) fn in_hand(&self) -> Option<(usize, u64, bool)> {
        let window = self.slot.window.lock();
        (window.len() > 0).then(|| (window.len(), window.cost(), window.is_to_begin()))
    }

    /// Starts a call, and sends it to the child, which has no other.
    fn send_first(&mut self, call: Call, pace: Option<u64>, limit: Option<Duration>) -> Result<(), Heard> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let is_short = call.letter.is_short(&self.plan);
        let mut window = self.slot.window.lock();
        self.low = 0;
        // One that is not known fills the window.
        let Some(started) = window.start(call, pace.unwrap_or(WORK)) else { return Ok(()) };
        if is_short && child.post(&started.letter.frame) {
            drop(window);
            child.ring();
            return Ok(());
        }
        let id = started.call.task().id.get();
        // That may take long, and whoever wants to kill it needs the lock.
        let (frame, enclosed) = window
            .first()
            .map(|Started { letter, .. }| (std::mem::take(&mut letter.frame), letter.enclosed.clone()))
            .unwrap_or_default();
        drop(window);
        let sent = child.enclose(id, &enclosed, limit).and_then(|()| child.post_long(&frame, limit));
        if let Some(started) = self.slot.window.lock().first() {
            started.letter.frame = frame;
        }
        sent
    }

    /// Takes more calls, beside those that are in hand, and sends them.
    fn send_more(&mut self, seat: &Seat<'_, Call>) {
        let Some(child) = &mut self.child else { return };
        let Some(page) = &mut child.page else { return };
        if self.wary > 0 {
            return;
        }
        let mut window = self.slot.window.lock();
        // Nothing is sent to one that is to end.
        if self.slot.is_doomed() {
            return;
        }
        let left = self.plan.max_tasks_per_child.map(|max| max.saturating_sub(child.served + window.len()));
        let most = window.room().min(left.unwrap_or(usize::MAX));
        let mut room = page.calls.free(page.lanes.calls());
        let mut cost = window.cost();
        let (plan, pace) = (&self.plan, &self.pace);
        let calls = seat.take_more(most, |Call { letter, .. }| {
            let words = words_of(letter.frame.len());
            let Some(its) = pace.of(&letter.frame) else { return false };
            let fits = letter.attempts.is_none()
                && letter.is_short(plan)
                && its <= LONG
                && cost + its <= WORK
                && words <= room;
            if fits {
                cost += its;
                room -= words;
            }
            fits
        });
        for call in calls {
            let its = pace.of(&call.letter.frame).unwrap_or(WORK);
            if let Some(started) = window.start(call, its) {
                let was_sent = page.calls.push(page.lanes.calls(), &started.letter.frame.bytes, 0);
                debug_assert!(was_sent, "there was room for it");
            }
        }
        self.low = window.len() / 2;
        drop(window);
        child.ring();
    }
}

impl Context for ProcessContext {
    type Item = Call;

    fn initialize(&mut self) -> Result<(), Error> {
        // The worker may die while we write to it.
        sys::survive_sigpipe();
        match self.have_child() {
            // The user has ended the pool meanwhile. That breaks nothing: what is still queued is cancelled.
            Err(_) if self.plan.was_ended() => Ok(()),
            started => started,
        }
    }

    fn resume(&mut self, seat: &Seat<'_, Call>) -> Result<(), Error> {
        let outcome = self.go_on_from_berth(seat);
        self.tell_of_ends();
        outcome
    }

    fn run(&mut self, call: Call, seat: &Seat<'_, Call>) -> Result<(), Error> {
        let outcome = self.serve(call, seat);
        self.tell_of_ends();
        outcome?;
        let plan = &self.plan;
        if let Some(child) = &mut self.child
            && (plan.max_tasks_per_child.is_some_and(|max| child.served >= max)
                || plan.max_memory_per_child.is_some_and(|max| child.exceeds(max)))
        {
            child.is_used_up = true;
            self.finalize();
        }
        Ok(())
    }

    fn finalize(&mut self) {
        self.get_up();
        if let Some(child) = self.child.take() {
            child.leave(&self.plan);
        }
        self.tell_of_ends();
    }
}

impl Drop for ProcessContext {
    fn drop(&mut self) {
        self.child = None;
        self.slot.berth.clear();
        self.tell_of_ends();
        let mut slots = self.plan.slots.lock();
        slots.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        // Under the lock: it is counted here or there.
        self.plan.add_traffic(self.slot.window.lock().traffic());
    }
}
