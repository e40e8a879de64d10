#![allow(unsafe_code)]
//! The slot of a future: first the job, then its outcome, in one place; and the word that says which.
//!
//! Not here: who is told of what (`cell.rs`), what the states mean (`state.rs`).
//!
//! The rule: what is in the body, and who may touch it, is known from the state alone.
//!
//! | state             | the body holds | and is touched by                                                  |
//! |-------------------|----------------|--------------------------------------------------------------------|
//! | Pending           | the job        | nobody; whoever moves the state on has won the job                 |
//! | Sent              | nothing        | nobody                                                              |
//! | Running           | nothing        | whoever moved the state here takes the job out; then, with the `Started` of it, puts an outcome or a job in |
//! | Value             | the value      | nobody; whoever moves the state on has won the value               |
//! | Error             | the error      | everybody, to look at it                                           |
//! | Lent              | nothing        | whoever moved the state here takes the value out; then, with the `Loan` of it, puts it back |
//! | Taken, Cancelled  | nothing        | whoever moved the state here takes out what was there              |
//!
//! So no two threads touch it at the same time: something is put in only with a [`Started`] or a [`Loan`], which
//! are made once for each time that Running or Lent is entered, after what was there has been taken out, and are
//! used up by leaving that state.

use std::mem::ManuallyDrop;

use super::state::{Flag, State, Want, Word};
use crate::account::{Stopwatch, Ticket};
use crate::error::Error;
use crate::id::{FutureId, Home};
use crate::primitives::statics::{self, AtomicU32};
use crate::primitives::{AtomicU8, Ordering, UnsafeCell};

pub(super) struct Slot<J, T> {
    id: FutureId,
    /// The pool in which it is queued; set before anybody else sees the slot. Here, because here is room for it.
    home: AtomicU32,
    word: AtomicU8,
    /// Those with a higher one are taken first. Here for the same reason.
    priority: i16,
    /// Since when it is queued, if that is timed (`account.rs`). Before it is settled, how many calls it is, if not one.
    stamp: statics::AtomicU64,
    body: UnsafeCell<Body<J, T>>,
}

/// Which field is there, the word says.
union Body<J, T> {
    job: ManuallyDrop<J>,
    value: ManuallyDrop<T>,
    /// Boxed, to keep queued tasks small.
    error: ManuallyDrop<Box<Error>>,
    nothing: (),
}

// SAFETY: a job and a value are only ever moved through a slot, from one thread to another, which needs `Send`. An
// error is looked at by many threads, and `Error` is `Sync`.
unsafe impl<J: Send, T: Send> Sync for Slot<J, T> where Error: Sync + Send {}

/// The right to end a call, or to put it back: its state is Running, and whoever made it so has this.
#[derive(Debug)]
#[must_use = "the call never ends without it"]
pub(crate) struct Started {
    id: FutureId,
    pub(crate) watch: Stopwatch,
}

/// The right to give back a value: its state is Lent, and whoever made it so has this.
#[must_use = "the value never comes back without it"]
pub(super) struct Loan(FutureId);

impl<J, T> Slot<J, T> {
    pub(super) fn new(job: Option<J>, ticket: Ticket, priority: i16, calls: usize) -> Self {
        let id = FutureId::next();
        let (state, body) = match job {
            Some(job) => (State::Pending, Body { job: ManuallyDrop::new(job) }),
            None => (State::Sent, Body { nothing: () }),
        };
        let is_to_settle = calls != 1 && ticket.home == Home::NONE;
        let stamp = if is_to_settle { calls as u64 } else { ticket.stamp(id) };
        Slot {
            id,
            home: AtomicU32::new(ticket.home.number()),
            stamp: statics::AtomicU64::new(stamp),
            word: AtomicU8::new(Word::of(state).byte()),
            priority,
            body: UnsafeCell::new(body),
        }
    }

    pub(super) fn id(&self) -> FutureId {
        self.id
    }

    pub(super) fn is_queued_at(&self, home: Home) -> bool {
        self.home() == home
    }

    pub(super) fn home(&self) -> Home {
        Home::of(self.home.load(Ordering::Relaxed))
    }

    pub(super) fn priority(&self) -> i16 {
        self.priority
    }

    /// How many calls it is comes back.
    pub(super) fn settle(&self, ticket: Ticket) -> usize {
        self.home.store(ticket.home.number(), Ordering::Relaxed);
        // Nobody else sees the slot yet.
        let calls = self.stamp();
        self.stamp.store(ticket.stamp(self.id), Ordering::Relaxed);
        usize::try_from(calls).unwrap_or(usize::MAX).max(1)
    }

    /// Whoever has moved the state to Running starts its clock.
    fn started(&self) -> Started {
        Started { id: self.id, watch: Stopwatch::new(self.stamp()) }
    }

    pub(super) fn stamp(&self) -> u64 {
        self.stamp.load(Ordering::Relaxed)
    }

    pub(super) fn word(&self) -> Word {
        Word::from_byte(self.word.load(Ordering::Acquire))
    }

    /// The one way in which the word changes. `to` says what it becomes, or that it stays.
    fn change(&self, to: impl Fn(Word) -> Option<Word>) -> Result<Word, Word> {
        let mut now = self.word();
        loop {
            let Some(next) = to(now) else { return Err(now) };
            match self.word.compare_exchange_weak(
                now.byte(),
                next.byte(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(now),
                Err(other) => now = Word::from_byte(other),
            }
        }
    }

    /// Adds a flag, if `when`.
    pub(super) fn mark(&self, flag: Flag, when: impl Fn(Word) -> bool) -> bool {
        self.change(|word| when(word).then(|| word.with(flag))).is_ok()
    }

    /// Adds [`Flag::Heard`], if there is still something to wait for.
    pub(super) fn hear(&self, want: Want) -> bool {
        self.mark(Flag::Heard, |word| !word.has(want))
    }

    /// Pending → Running, with the job.
    pub(super) fn start(&self) -> Option<(J, Started)> {
        let to = |word: Word| {
            (word.state() == State::Pending).then(|| word.in_state(State::Running).without(Flag::PutBack))
        };
        self.change(to).ok()?;
        // SAFETY: we have moved the state on from Pending, so the job is there and we alone have won it. Nothing
        // is put in before we return the `Started`.
        let job = unsafe { self.body.with_mut(|body| ManuallyDrop::take(&mut (*body).job)) };
        Some((job, self.started()))
    }

    /// Sent → Running. `None` also while the job is here.
    pub(super) fn begin(&self) -> Option<Started> {
        let to = |word: Word| {
            (word.state() == State::Sent).then(|| word.in_state(State::Running).without(Flag::PutBack))
        };
        self.change(to).ok().map(|_| self.started())
    }

    /// Pending → Sent, with the job; for a moment it is Running.
    pub(super) fn take_job(&self) -> Option<J> {
        let (job, started) = self.start()?;
        self.move_on(started, State::Sent);
        Some(job)
    }

    /// Running → Pending, or Sent without a job, for another attempt.
    pub(super) fn put_back(&self, started: Started, job: Option<J>) {
        self.check(started.id);
        if let Some(stamp) = started.watch.again() {
            self.stamp.store(stamp, Ordering::Relaxed);
        }
        let state = if job.is_some() { State::Pending } else { State::Sent };
        if let Some(job) = job {
            self.put(Body { job: ManuallyDrop::new(job) }, &started);
        }
        let _ = self.change(|word| Some(word.in_state(state).with(Flag::PutBack)));
    }

    /// Running → Value or Error. It comes back if the word has one of the flags `but`.
    pub(super) fn resolve(
        &self,
        started: Started,
        outcome: Result<T, Box<Error>>,
        but: &[Flag],
        told: bool,
    ) -> Result<(), (Started, Result<T, Box<Error>>)> {
        self.check(started.id);
        let (state, body) = match outcome {
            Ok(value) => (State::Value, Body { value: ManuallyDrop::new(value) }),
            Err(error) => (State::Error, Body { error: ManuallyDrop::new(error) }),
        };
        self.put(body, &started);
        let to = |word: Word| {
            let next = word.in_state(state);
            let next = if told { next.with(Flag::Told) } else { next };
            (!but.iter().any(|flag| word.is(*flag))).then_some(next)
        };
        if self.change(to).is_ok() {
            return Ok(());
        }
        // SAFETY: it is still Running, we have the `Started`, and have put that in a moment ago.
        let outcome = unsafe {
            self.body.with_mut(|body| match state {
                State::Value => Ok(ManuallyDrop::take(&mut (*body).value)),
                _ => Err(ManuallyDrop::take(&mut (*body).error)),
            })
        };
        Err((started, outcome))
    }

    /// Running → Cancelled: it was begun elsewhere, and did not run there.
    pub(super) fn call_off(&self, started: Started) {
        self.move_on(started, State::Cancelled);
    }

    /// Running → Taken: nobody wants the outcome.
    pub(super) fn forget(&self, started: Started) {
        self.move_on(started, State::Taken);
    }

    /// Running → Lent: the caller shows the value, and then puts it here.
    pub(super) fn lend_first(&self, started: Started) -> Loan {
        self.move_on(started, State::Lent);
        Loan(self.id)
    }

    /// Value → Lent.
    pub(super) fn lend(&self) -> Option<(T, Loan)> {
        let value = self.win_value(|word| word.in_state(State::Lent))?;
        Some((value, Loan(self.id)))
    }

    /// Lent → Value; or → Taken, and the value comes back, if nobody wants it.
    pub(super) fn give_back(&self, loan: Loan, value: T) -> Option<T> {
        self.check(loan.0);
        // SAFETY: it is Lent, and we have the `Loan`.
        unsafe { self.body.with_mut(|body| *body = Body { value: ManuallyDrop::new(value) }) };
        let wanted =
            |word: Word| (!word.is(Flag::Detached)).then(|| word.in_state(State::Value).with(Flag::Told));
        if self.change(wanted).is_ok() {
            return None;
        }
        // SAFETY: the same.
        let value = unsafe { self.body.with_mut(|body| ManuallyDrop::take(&mut (*body).value)) };
        let _ = self.change(|word| Some(word.in_state(State::Taken)));
        Some(value)
    }

    /// Value → Taken.
    pub(super) fn take_value(&self) -> Option<T> {
        self.win_value(|word| word.in_state(State::Taken))
    }

    fn win_value(&self, to: impl Fn(Word) -> Word) -> Option<T> {
        self.change(|word| (word.state() == State::Value).then(|| to(word))).ok()?;
        // SAFETY: we have moved the state on from Value, so the value is there and we alone have won it. Nothing
        // is put in before there is a `Loan`, which is made after this.
        Some(unsafe { self.body.with_mut(|body| ManuallyDrop::take(&mut (*body).value)) })
    }

    /// The error, for ever.
    pub(super) fn error(&self) -> Option<&Error> {
        if self.word().state() != State::Error {
            return None;
        }
        // SAFETY: the state never leaves Error, and in it nobody takes or puts anything until the slot is dropped.
        Some(unsafe { self.body.with(|body| &**(*body).error) })
    }

    /// Pending or Sent → Cancelled, with the job if it was here, and the flags there were. Otherwise the word.
    pub(super) fn cancel(&self) -> Result<(Option<J>, Word), Word> {
        let before = self.change(|word| {
            matches!(word.state(), State::Pending | State::Sent).then(|| word.in_state(State::Cancelled))
        })?;
        // SAFETY: as in `start`. Nothing is ever put in after this.
        let job = (before.state() == State::Pending)
            .then(|| unsafe { self.body.with_mut(|body| ManuallyDrop::take(&mut (*body).job)) });
        Ok((job, before))
    }

    /// Running → another state, with nothing in the body.
    fn move_on(&self, started: Started, state: State) {
        self.check(started.id);
        let _ = self.change(|word| Some(word.in_state(state)));
    }

    fn put(&self, body: Body<J, T>, _: &Started) {
        // SAFETY: it is Running, its job has been taken out, and the `Started` says that nobody else puts
        // anything in.
        unsafe { self.body.with_mut(|to| *to = body) };
    }

    /// Is it the right to this slot, and not to another one?
    fn check(&self, of: FutureId) {
        assert!(of == self.id, "the right to another future");
    }
}

impl<J, T> Drop for Slot<J, T> {
    fn drop(&mut self) {
        let drop_it: fn(&mut Body<J, T>) = match self.word().state() {
            // SAFETY: the state says that the job is there, and it is dropped once.
            State::Pending => |body| unsafe { ManuallyDrop::drop(&mut body.job) },
            // SAFETY: the same of the value.
            State::Value => |body| unsafe { ManuallyDrop::drop(&mut body.value) },
            // SAFETY: the same of the error.
            State::Error => |body| unsafe { ManuallyDrop::drop(&mut body.error) },
            // Nothing is there, and so the body is not touched: who took it out did so after the word had changed.
            State::Sent | State::Running | State::Lent | State::Taken | State::Cancelled => return,
        };
        // SAFETY: nobody else has the slot any more, so nothing is on its way in or out.
        self.body.with_mut(|body| drop_it(unsafe { &mut *body }));
    }
}
