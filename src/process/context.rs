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
//! | when the child is gone                                              | it has not run                        |
//!
//! The rule: no code of those who listen runs in this thread while it has a call in hand.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::berth::Lying;
use super::calls::{Heard, Until, unexpected};
use super::child::{Child, NoStart, overran};
use super::lanes::{LONGEST, words_of};
use super::pace::Pace;
use super::pipes::News;
use super::slot::Slot;
use super::{Plan, sys};
use crate::error::Error;
use crate::future::deadline_after;
use crate::future::own_pool::beside;
use crate::future::state::Freed;
use crate::id::TaskRef;
use crate::options::Attempts;
use crate::outcome;
use crate::pool::{Context, Item, Queued, Seat, Sleep};
use crate::sync::{Ordering, Parker};
use crate::task::{Begun, Completion, PortableWork, WorkItem};
use crate::wire::frame::{HEADER, Kind, Parcel, WireError};
use crate::wire::message::{Failure, set_attempt};

/// A call and its frame, queued.
pub(crate) struct Call {
    pub(super) item: WorkItem<dyn PortableWork>,
    pub(super) letter: Letter,
}

/// What is sent.
pub(crate) struct Letter {
    pub(super) frame: Parcel,
    /// If it has options.
    pub(super) attempts: Option<Box<Attempts>>,
    /// Workers that were given it and died before they began any call.
    pub(super) moved: u8,
}

impl Letter {
    pub(super) fn new(frame: Parcel, attempts: Option<Box<Attempts>>) -> Self {
        Letter { frame, attempts, moved: 0 }
    }

    pub(super) fn attempt(&self) -> u32 {
        self.attempts.as_ref().map_or(1, |attempts| attempts.number())
    }

    /// Does it go through the page?
    pub(super) fn is_short(&self, plan: &Plan) -> bool {
        let length = self.frame.len();
        length <= LONGEST && (length - HEADER) as u64 <= plan.terms.max_message_bytes
    }
}

/// A call that was started.
pub(super) struct Started {
    pub(super) call: Begun<dyn PortableWork>,
    pub(super) letter: Letter,
}

impl Queued for Call {}

impl Item for Call {
    fn task(&self) -> TaskRef {
        self.item.task()
    }

    fn fail(self, error: Error) {
        self.item.fail(error);
    }

    fn cancel(self) {
        self.item.cancel();
    }
}

/// How often in a row a worker may fail to start, or die before it begins a call.
const ATTEMPTS: u8 = 3;

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
const WARY: u32 = 64;

pub(crate) struct ProcessContext {
    plan: Arc<Plan>,
    number: usize,
    slot: Arc<Slot>,
    child: Option<Child>,
    pace: Pace,
    /// So many calls are still to travel alone.
    wary: u32,
    /// When so few are in hand, more are taken.
    low: usize,
    /// What there is to hear of the child, while it lies in the berth.
    news: Option<News>,
    /// What its bell makes readable, to be waited for together with that.
    alarm: Option<Arc<OwnedFd>>,
}

impl ProcessContext {
    pub(super) fn new(plan: Arc<Plan>, number: usize) -> Self {
        let slot = Arc::new(Slot::new(plan.grace_period));
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

    /// A child died that nobody had asked to. An error breaks the pool, and all its other workers end.
    fn judge(&self, death: &Error) -> Result<(), Error> {
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
        let is_plain =
            limit.is_none() && call.letter.attempts.is_none() && self.plan.max_memory_per_child.is_none();
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
    fn go_on(
        &mut self,
        is_plain: bool,
        deadline: Option<Instant>,
        limit: Option<Duration>,
        seat: &Seat<'_, Call>,
    ) -> Result<(), Error> {
        let mut pause = PAUSE;
        while let Some((count, cost, is_to_begin)) = self.in_hand() {
            let until = match deadline {
                Some(deadline) => Until::By(deadline),
                None if count > 1 => Until::For(PAUSE),
                None if is_to_begin => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    Until::For(pause)
                }
                None => Until::Ever,
            };
            let Some(child) = &mut self.child else { return Ok(()) };
            let heard = child.hear(until, count == 1 && cost <= TINY, count - self.low.min(count - 1));
            self.attend(heard, deadline, limit, seat)?;
            if is_plain && self.child.is_some() && self.in_hand().is_some_and(|(count, ..)| count <= self.low)
            {
                self.send_more(seat);
            }
        }
        Ok(())
    }

    /// How many calls there are in hand, what they will take, and whether the first is still to begin; `None` if there
    /// is none.
    fn in_hand(&self) -> Option<(usize, u64, bool)> {
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
        // That may take long, and whoever wants to kill it needs the lock.
        let frame =
            window.first().map(|started| std::mem::take(&mut started.letter.frame)).unwrap_or_default();
        drop(window);
        let sent = child.post_long(&frame, limit);
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

    /// Does what follows from what was heard of the child.
    fn attend(
        &mut self,
        heard: Heard,
        deadline: Option<Instant>,
        limit: Option<Duration>,
        seat: &Seat<'_, Call>,
    ) -> Result<(), Error> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match heard {
            Heard::Reply { id, failure, took } => match self.answered(id) {
                Some(started) => {
                    self.end(started, failure, took, seat);
                    Ok(())
                }
                None => self.end_nonsense(&unexpected(Kind::Returned), seat),
            },
            Heard::Pipe => {
                self.take_back_behind(0, seat);
                let Some(child) = &mut self.child else { return Ok(()) };
                let heard = child.hear_from_pipe(deadline);
                self.attend(heard, deadline, limit, seat)
            }
            Heard::Nonsense(error) => self.end_nonsense(&error, seat),
            Heard::Late => match limit {
                Some(limit) => {
                    let pid = child.pid;
                    child.dismiss();
                    // Not before: it may read on until it is gone.
                    self.bury(|task, _| overran(task, pid, limit), false, seat)
                }
                None => {
                    let is_held_back = self.slot.window.lock().is_held_back();
                    self.take_back_behind(usize::from(!is_held_back), seat);
                    Ok(())
                }
            },
            Heard::Gone => {
                // It may take a while to go.
                self.take_back_behind(1, seat);
                let Some(child) = &mut self.child else { return Ok(()) };
                let death = child.post_mortem(&self.plan);
                // What it said before its end is still good.
                while let Some(child) = self.child.as_mut().filter(|child| child.page.is_some()) {
                    let Heard::Reply { id, failure, took } = child.hear(Until::Now, false, 1) else { break };
                    let Some(started) = self.answered(id) else { break };
                    self.end(started, failure, took, seat);
                }
                if self.in_hand().is_none() {
                    self.child = None;
                    return self.judge(&death.of_nobody());
                }
                self.bury(|task, attempt| death.of(task, attempt), true, seat)
            }
        }
    }

    /// Takes out the call that was answered.
    fn answered(&self, id: u64) -> Option<Started> {
        self.slot.window.lock().answered(id)
    }

    /// Ends a call with the reply that was heard.
    fn end(
        &mut self,
        started: Started,
        failure: Option<Failure>,
        took: Option<Duration>,
        seat: &Seat<'_, Call>,
    ) {
        let Some(child) = &mut self.child else { return };
        child.served += 1;
        self.wary = self.wary.saturating_sub(1);
        if let Some(took) = took {
            self.pace.note(&started.letter.frame, took);
        }
        let task = started.call.task();
        if self.slot.window.lock().len() == 0 || started.letter.attempts.is_some() {
            match failure {
                // The reply is decoded in this thread; the child is idle, and so are we soon.
                None => {
                    self.slot.window.lock().decided(task.id);
                    self.complete_last(started, seat);
                }
                Some(failure) => self.fail_or_put_back(started, outcome::arrived(task, failure), seat),
            }
        } else {
            let reply = match failure {
                None => Ok(child.payload()),
                Some(failure) => Err(outcome::arrived(task, failure)),
            };
            if let Some(completion) = started.call.complete_unheard(reply) {
                self.wary = WARY;
                self.complete_beside(completion, seat);
            }
        }
        if let Some(child) = &mut self.child {
            child.connection.clear();
        }
    }

    /// Ends the call beside which there is no other. If nobody's code runs then, the worker lies down before it is told,
    /// so that it can be lent for the next one.
    fn complete_last(&mut self, started: Started, seat: &Seat<'_, Call>) {
        let Some(mut child) = self.child.take() else { return };
        let may_be_lent = self.plan.is_plain()
            && started.letter.attempts.is_none()
            && child.page.is_some()
            && self.pace.of(&started.letter.frame).is_some_and(|pace| pace <= TINY)
            && self.slot.is_sound()
            && self.has_alarm(seat);
        if !may_be_lent {
            started.call.complete(child.payload(), seat);
            self.child = Some(child);
            return;
        }
        let mut payload = std::mem::take(child.payload());
        self.news = Some(child.connection.reader().get_ref().news());
        let lying = LieDown {
            slot: &self.slot,
            seat,
            own: RefCell::new(Some((child, std::mem::take(&mut self.pace)))),
        };
        started.call.complete(&mut payload, &lying);
        if let Some((child, pace)) = lying.own.into_inner() {
            self.child = Some(child);
            self.pace = pace;
            self.news = None;
        }
    }

    /// Has its bell make something readable.
    fn has_alarm(&mut self, seat: &Seat<'_, Call>) -> bool {
        #[cfg(target_os = "linux")]
        if self.alarm.is_none() {
            use rustix::event::{EventfdFlags, eventfd};
            let Ok(alarm) = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new) else {
                return false;
            };
            let rung = Arc::clone(&alarm);
            seat.bell().set_alarm(move || {
                // If it was rung so often that it can count no further, it was rung.
                let _ = rustix::io::write(&rung, &1_u64.to_ne_bytes());
            });
            self.alarm = Some(alarm);
        }
        let _ = seat;
        self.alarm.is_some()
    }

    /// Has its child in hand again.
    fn rise(&mut self, lying: Lying) -> &mut Child {
        self.news = None;
        self.pace = lying.pace;
        self.child.insert(lying.child)
    }

    /// Ends a call whose callbacks may wait for whatever they like, while others are in hand.
    fn complete_beside(&mut self, completion: Completion, seat: &Seat<'_, Call>) {
        self.take_back_behind(0, seat);
        if self.in_hand().is_none() {
            return completion();
        }
        match beside(completion) {
            Ok(thread) => {
                let mut callbacks = self.plan.callbacks.lock();
                callbacks.retain(|thread| !thread.is_finished());
                callbacks.push(thread);
            }
            // There is no thread to be had. It must end.
            Err(completion) => completion(),
        }
    }

    /// Takes back what the child has not begun, but for so many at the head of the line. It is the next of the queue
    /// again.
    fn take_back_behind(&self, first: usize, seat: &Seat<'_, Call>) {
        {
            // Under the lock: who cancels all finds each here or there.
            let mut window = self.slot.window.lock();
            seat.give_back(window.take_back_behind(first));
        }
        seat.cover();
    }

    /// Ends a call with what came of its present attempt, or puts it back for another one.
    fn fail_or_put_back(&self, started: Started, error: Error, seat: &Seat<'_, Call>) {
        let Started { call, mut letter } = started;
        let task = call.task();
        let again = match &mut letter.attempts {
            Some(attempts) => attempts.failed(task, error.clone()),
            None => Err(error.clone()),
        };
        let mut window = self.slot.window.lock();
        window.decided(task.id);
        match again {
            // Somebody killed it meanwhile: it ends with this attempt.
            Ok(_) if self.slot.call_was_killed() => {
                drop(window);
                call.fail(error, seat);
            }
            Ok(due) => {
                let item = call.put_back();
                drop(window);
                let number = letter.attempt();
                set_attempt(&mut letter.frame, number);
                seat.put_back(Call { item, letter }, due);
            }
            Err(error) => {
                drop(window);
                call.fail(error, seat);
            }
        }
    }

    /// The child talks nonsense: it is replaced, and the call that it ran is lost.
    fn end_nonsense(&mut self, error: &WireError, seat: &Seat<'_, Call>) -> Result<(), Error> {
        // It is dead when it is dropped.
        self.child = None;
        let lost = {
            let mut window = self.slot.window.lock();
            seat.give_back(window.take_back());
            window.take_all()
        };
        seat.cover();
        let reason = format!("the worker process answered nonsense and was replaced: {error}");
        for Started { call, .. } in lost {
            let task = call.task();
            self.slot.window.lock().decided(task.id);
            call.fail(Error::Decode { task, what: "return value", reason: reason.clone() }, seat);
        }
        Ok(())
    }

    /// The child is dead, and with it what it had begun; the rest is queued again. `error`: of a call, and its attempt.
    fn bury(
        &mut self,
        error: impl Fn(TaskRef, u32) -> Error,
        is_to_be_judged: bool,
        seat: &Seat<'_, Call>,
    ) -> Result<(), Error> {
        // Without a page it had the one call that it was sent, if it took that out of the pipe.
        let took_call = self.child.take().is_none_or(|child| child.page.is_some() || child.took_call());
        let victim = self.slot.window.lock().victim(took_call);
        let death = victim.filter(|_| is_to_be_judged).map(|(task, attempt)| error(task, attempt));
        let ours = death.map_or(Ok(()), |death| self.judge(&death));
        // Another one's death may have been one too many.
        let broken = self.plan.deaths.verdict().filter(|_| ours.is_ok());
        let (given_up, lost) = {
            let mut window = self.slot.window.lock();
            let mut back = if took_call { window.take_back() } else { window.take_back_if(0, |_| true) };
            let lost = window.take_all();
            let mut given_up = None;
            if lost.is_empty() && !back.is_empty() {
                back[0].letter.moved += 1;
                // Each got as far as Hello; were all killed from outside, it must end somewhere.
                if back[0].letter.moved > ATTEMPTS {
                    given_up = Some(back.remove(0));
                }
            }
            // Before any code of the user may keep us busy.
            seat.give_back(back);
            (given_up, lost)
        };
        seat.cover();
        let was_killed = self.slot.call_was_killed();
        for started in lost {
            let (task, attempt) = (started.call.task(), started.letter.attempt());
            let error = broken.map_or_else(|| error(task, attempt), Error::clone);
            if was_killed || ours.is_err() || broken.is_some() {
                self.slot.window.lock().decided(task.id);
                started.call.fail(error, seat);
            } else {
                self.fail_or_put_back(started, error, seat);
            }
        }
        if let Some(call) = given_up {
            give_up(call, &error, seat);
        }
        ours.and_then(|()| broken.map_or(Ok(()), |verdict| Err(verdict.clone())))
    }

    /// There is no child for a call that has not been started.
    fn not_started(&self, call: Call, refusal: Error, seat: &Seat<'_, Call>) -> Result<(), Error> {
        if let Some(verdict) = self.plan.deaths.verdict() {
            call.item.fail(verdict.clone());
            return Err(verdict.clone());
        }
        if self.plan.stopped.load(Ordering::Acquire) {
            call.item.cancel();
            return Ok(());
        }
        // What the system refuses to this worker, others may have.
        if matches!(refusal, Error::Spawn { .. }) {
            seat.put_back(call, Instant::now());
        } else {
            call.item.fail(refusal.clone());
        }
        Err(refusal)
    }
}

/// Ends a call that no worker begins, or puts it back for another attempt.
fn give_up(call: Call, error: &impl Fn(TaskRef, u32) -> Error, seat: &Seat<'_, Call>) {
    let Call { item, mut letter } = call;
    let (task, attempt) = (item.task(), letter.attempt());
    let error = error(task, attempt);
    let again = match &mut letter.attempts {
        Some(attempts) => attempts.failed(task, error),
        None => Err(error),
    };
    match again {
        Ok(due) => {
            letter.moved = 0;
            let number = letter.attempt();
            set_attempt(&mut letter.frame, number);
            seat.put_back(Call { item, letter }, due);
        }
        Err(error) => item.fail(error),
    }
}

/// A worker with its last call in hand. When it is as good as idle, it lies down.
struct LieDown<'a> {
    slot: &'a Slot,
    seat: &'a Seat<'a, Call>,
    own: RefCell<Option<(Child, Pace)>>,
}

impl Freed for LieDown<'_> {
    fn is_wanted(&self) -> bool {
        self.seat.has_seen_the_last() || self.seat.is_wanted()
    }

    fn free(&self) {
        let Some((mut child, pace)) = self.own.take() else { return };
        if !child.is_quiet() {
            self.own.replace(Some((child, pace)));
            return self.seat.free();
        }
        self.slot.berth.lie_down(child, pace, self.seat.bell());
        if !self.seat.lie_down() {
            // Nobody has been told of it.
            self.own.replace(self.slot.berth.get_up().map(|lying| (lying.child, lying.pace)));
            self.seat.free();
        }
    }
}

impl Sleep for ProcessContext {
    fn sleep(&mut self, bell: &Parker, until: Option<Instant>) -> bool {
        let Some((news, alarm)) = self.news.as_ref().zip(self.alarm.as_ref()) else {
            return bell.park(until);
        };
        let in_time = news.wait(alarm.as_fd(), until);
        bell.hear();
        let _ = rustix::io::read(alarm, &mut [0; 8]);
        in_time
    }

    fn get_up(&mut self) {
        if let Some(lying) = self.slot.berth.get_up() {
            self.rise(lying);
        }
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
        let Some(mut lying) = self.slot.berth.get_up_for_call() else {
            // Somebody is about to post it, or to say that it is over.
            std::thread::sleep(Duration::from_micros(50));
            return Ok(());
        };
        seat.reclaim();
        let heard = lying.heard.take();
        self.low = 0;
        self.rise(lying).ring();
        if let Some(heard) = heard {
            self.attend(heard, None, None, seat)?;
        }
        self.go_on(true, None, None, seat)
    }

    fn run(&mut self, call: Call, seat: &Seat<'_, Call>) -> Result<(), Error> {
        self.serve(call, seat)?;
        let plan = &self.plan;
        if let Some(child) = &mut self.child
            && (plan.max_tasks_per_child.is_some_and(|max| child.served >= max)
                || plan.max_memory_per_child.is_some_and(|max| child.exceeds(max)))
        {
            self.finalize();
        }
        Ok(())
    }

    fn finalize(&mut self) {
        self.get_up();
        if let Some(child) = self.child.take() {
            child.leave();
        }
    }
}

impl Drop for ProcessContext {
    fn drop(&mut self) {
        self.child = None;
        self.slot.berth.clear();
        self.plan.slots.lock().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}
