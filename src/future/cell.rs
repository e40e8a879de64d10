//! The cell that a future and a task share: the slot, who is to be told of its end, and the one function that
//! resolves.
//!
//! Not here: what the states mean (`state.rs`), how a job or a value comes into the slot and out (`slot.rs`), how
//! a thread waits (`block.rs`).
//!
//! Most calls end unheard: nobody waits yet, and the end is one exchange of the slot's word. Where the word is
//! flagged, whoever ends the call takes the lock, under which everybody who wants to be told has set the flag.
//!
//! The rule: user code (jobs, values, callbacks, wakers, destructors) never runs, and is never
//! dropped, while the lock is held.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Instant;

use super::away;
use super::own_pool::retract;
use super::slot::{Loan, Slot, Started};
use super::state::{Flag, Freed, Phase, State, Want};
use super::watch::{Callback, Watcher, Watchers};
use crate::account::{self, Outcome, Ticket};
use crate::error::Error;
use crate::id::{FutureId, Home, TaskRef};
use crate::options::Attempts;
use crate::outcome::{discard, is_running_here, shielded};
use crate::primitives::{Mutex, thread};
use crate::signals::{self, Listener};
use crate::unread;

/// One allocation per task: its number, its job while it waits, its outcome after.
pub(crate) struct Cell<J: Job> {
    slot: Slot<J, J::Output>,
    watchers: Mutex<Watchers<J::Output>>,
}

/// What a task will do, kept in its cell while it waits: a function with its arguments.
pub(crate) trait Job: Send + 'static {
    type Output: Send + 'static;

    /// What it is called, known by its type alone.
    fn name() -> &'static str;

    /// Those with a higher one are taken first.
    fn priority(&self) -> i16 {
        0
    }

    /// How many calls it is: the items of a chunk.
    fn calls(&self) -> usize {
        1
    }

    /// How its attempts ended so far, if it may be tried again.
    fn attempts(&self) -> Option<&Attempts> {
        None
    }

    /// Calls the user's code; its panic is caught inside.
    fn run(self, task: TaskRef) -> Result<Self::Output, Error>;

    /// As `run`, for a job that may be tried again.
    fn attempt(self, task: TaskRef) -> Attempt<Self>
    where
        Self: Sized,
    {
        Attempt::Over(self.run(task))
    }

    /// Counts how its calls ended; how many of them failed, where they are many and the outcome is not their failure.
    fn count(home: Home, outcome: &Result<Self::Output, Error>) -> usize {
        account::count(home, Outcome::of(outcome.as_ref().err()), 1);
        0
    }

    /// What went wrong, also where the outcome is one of many.
    fn error_in(outcome: &Result<Self::Output, Error>) -> Option<&Error> {
        outcome.as_ref().err()
    }
}

/// What came of running a job.
pub(crate) enum Attempt<J: Job> {
    Over(Result<J::Output, Error>),
    /// It failed, and is to be run again, at that moment.
    Again(J, Instant),
}

impl<J: Job> Cell<J> {
    /// `ticket` is of the pool in which it is going to be queued, if that is known.
    pub(crate) fn new(job: Option<J>, ticket: Ticket) -> Self {
        let priority = job.as_ref().map_or(0, Job::priority);
        let calls = job.as_ref().map_or(1, Job::calls);
        let cell =
            Cell { slot: Slot::new(job, ticket, priority, calls), watchers: Mutex::new(Watchers::default()) };
        account::submitted(ticket, cell.slot.stamp(), cell.task(), calls);
        cell
    }

    /// It is going to be queued there.
    pub(crate) fn settle(&self, ticket: Ticket) {
        let calls = self.slot.settle(ticket);
        account::submitted(ticket, self.slot.stamp(), self.task(), calls);
    }

    pub(crate) fn priority(&self) -> i16 {
        self.slot.priority()
    }

    /// Takes the job (to encode it).
    pub(crate) fn take_job(&self) -> Option<J> {
        self.slot.take_job()
    }

    /// Runs the job here, unless it is not here, or over, or runs already: to its end, so this thread
    /// waits for further attempts.
    pub(crate) fn run(&self, freed: &dyn Freed) {
        if let Some((job, started)) = self.slot.start() {
            self.run_to_the_end(job, started, freed);
        }
    }

    fn run_to_the_end(&self, mut job: J, mut started: Started, freed: &dyn Freed) {
        let outcome = loop {
            self.starts(&mut started, &job);
            match job.attempt(self.task()) {
                Attempt::Over(outcome) => break outcome,
                Attempt::Again(next, due) => {
                    if signals::is_unwanted(self.slot.id()) {
                        return self.end_with_last(next, started, freed);
                    }
                    self.note_retry(&next, due);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    job = next;
                }
            }
        };
        self.resolve(started, outcome, freed);
    }

    /// As `run`, but one attempt. `Some`: there is to be another at that moment, if the caller puts it back
    /// into the queue.
    pub(crate) fn run_once(&self, freed: &dyn Freed) -> Option<Instant> {
        let (job, mut started) = self.slot.start()?;
        self.starts(&mut started, &job);
        match job.attempt(self.task()) {
            Attempt::Over(outcome) => {
                self.resolve(started, outcome, freed);
                None
            }
            Attempt::Again(job, due) => {
                if signals::is_unwanted(self.slot.id()) {
                    self.end_with_last(job, started, freed);
                    return None;
                }
                self.note_retry(&job, due);
                self.slot.put_back(started, Some(job));
                // Once more: who wants it no more notes so, and then looks whether it still runs.
                if signals::is_unwanted(self.slot.id())
                    && let Some((job, started)) = self.slot.start()
                {
                    self.end_with_last(job, started, freed);
                    return None;
                }
                Some(due)
            }
        }
    }

    /// Ends a call that nobody wants to be tried again, with the error of its last attempt.
    #[cold]
    fn end_with_last(&self, job: J, started: Started, freed: &dyn Freed) {
        let error = job.attempts().and_then(Attempts::last).cloned();
        discard(job);
        self.resolve(started, Err(error.unwrap_or_else(|| self.cancelled())), freed);
    }

    /// It begins here.
    #[inline]
    fn starts(&self, started: &mut Started, job: &J) {
        if started.watch.is_timed() {
            let attempt = job.attempts().map_or(1, Attempts::number);
            account::starts(self.slot.home(), &mut started.watch, self.task(), attempt);
        }
    }

    /// An attempt failed, and there is to be another.
    #[cold]
    fn note_retry(&self, job: &J, due: Instant) {
        if let Some(attempts) = job.attempts()
            && let Some(error) = attempts.last()
        {
            account::retried(self.slot.home(), self.task(), error, attempts.number(), due);
        }
    }

    /// It is about to end.
    #[inline]
    fn ends(&self, started: &mut Started, outcome: &Result<J::Output, Error>) {
        if !started.watch.has_ended() {
            let failed = J::count(self.slot.home(), outcome);
            account::ends(self.slot.home(), &mut started.watch, self.task(), outcome.as_ref().err(), failed);
        }
    }

    /// Starts a call that is made elsewhere. `None`: nothing to start any more.
    pub(crate) fn begin(&self) -> Option<Started> {
        self.slot.begin()
    }

    /// Running elsewhere → pending: it did not run there, or there is to be another attempt.
    pub(crate) fn put_back(&self, started: Started) {
        self.slot.put_back(started, None);
    }

    /// Cancels a call that was begun elsewhere, and did not run there.
    pub(crate) fn call_off(&self, started: Started) {
        self.note_cancelled();
        let mut guard = self.watchers.lock();
        self.slot.call_off(started);
        let watchers = guard.take();
        drop(guard);
        signals::forget(self.slot.id());
        self.tell_cancelled(watchers);
    }

    /// Ends a call that nobody has started. Without effect on all others.
    pub(crate) fn fail(&self, error: Error) {
        if let Some((job, started)) = self.slot.start() {
            self.resolve(started, Err(error), &());
            discard(job);
        } else if let Some(started) = self.slot.begin() {
            self.resolve(started, Err(error), &());
        } else {
            discard(error);
        }
    }

    /// The one resolving function: sets the outcome, wakes the waiters, runs the callbacks.
    ///
    /// `freed` is told before anyone is woken, if no code of the user will keep this thread busy afterwards.
    pub(crate) fn resolve(&self, mut started: Started, outcome: Result<J::Output, Error>, freed: &dyn Freed) {
        self.ends(&mut started, &outcome);
        let outcome = outcome.map_err(Box::new);
        if freed.is_wanted() {
            // It must not be told and then find a callback.
            return self.resolve_heard(started, outcome, freed);
        }
        if let Err((started, outcome)) =
            self.slot.resolve(started, outcome, &[Flag::Heard, Flag::Detached], false)
        {
            return self.resolve_heard(started, outcome, freed);
        }
        signals::forget(self.slot.id());
    }

    /// As `resolve`, if no callback and no waker is there to run code of an unknown length. They come back otherwise.
    pub(crate) fn resolve_unheard(
        &self,
        mut started: Started,
        outcome: Result<J::Output, Error>,
    ) -> Result<(), (Started, Result<J::Output, Error>)> {
        self.ends(&mut started, &outcome);
        let outcome = outcome.map_err(Box::new);
        let Err((started, outcome)) =
            self.slot.resolve(started, outcome, &[Flag::Heard, Flag::Detached], false)
        else {
            signals::forget(self.slot.id());
            return Ok(());
        };
        let mut guard = self.watchers.lock();
        if guard.has_callbacks() || guard.has_waker() {
            return Err((started, outcome.map_err(|error| *error)));
        }
        let watchers = guard.take();
        if self.slot.word().is(Flag::Detached) {
            self.slot.forget(started);
            drop(guard);
            let outcome = outcome.map_err(|error| *error);
            unread::report(J::error_in(&outcome));
            discard(outcome);
        } else {
            let _ = self.slot.resolve(started, outcome, &[], false);
            drop(guard);
        }
        signals::forget(self.slot.id());
        watchers.wake();
        Ok(())
    }

    /// The same where somebody is to be told, or nobody wants to know.
    #[cold]
    fn resolve_heard(&self, started: Started, outcome: Result<J::Output, Box<Error>>, freed: &dyn Freed) {
        // Under the lock the flags stand still.
        let mut guard = self.watchers.lock();
        let mut watchers = guard.take();
        let callbacks = watchers.take_callbacks();
        let unseen = callbacks.is_empty();
        let detached = self.slot.word().is(Flag::Detached);
        if unseen && !detached && !watchers.has_waker() {
            freed.free();
        }
        if unseen && detached {
            self.slot.forget(started);
            drop(guard);
            signals::forget(self.slot.id());
            watchers.wake();
            let outcome = outcome.map_err(|error| *error);
            unread::report(J::error_in(&outcome));
            return discard(outcome);
        }
        let (loan, value, error) = match outcome {
            Ok(value) if !unseen => {
                guard.set_lent_to(thread::current().id());
                (Some(self.slot.lend_first(started)), Some(value), None)
            }
            outcome => {
                let error = outcome.as_ref().err().filter(|_| !unseen).map(|error| (**error).clone());
                let _ = self.slot.resolve(started, outcome, &[], !unseen);
                (None, None, error)
            }
        };
        drop(guard);
        signals::forget(self.slot.id());
        watchers.wake();
        if let (Some(loan), Some(value)) = (loan, value) {
            self.show(loan, value, callbacks);
        } else if let Some(error) = error {
            call_all(callbacks, Err(&error));
        }
    }

    /// Shows a value that was lent to this thread to callbacks, also to those that are added meanwhile; then gives
    /// it back.
    fn show(&self, loan: Loan, value: J::Output, mut callbacks: Vec<Callback<J::Output>>) {
        loop {
            call_all(callbacks, Ok(&value));
            let mut guard = self.watchers.lock();
            callbacks = guard.take_callbacks();
            if callbacks.is_empty() {
                let watchers = guard.take();
                let unwanted = self.slot.give_back(loan, value);
                drop(guard);
                watchers.wake();
                return discard(unwanted);
            }
        }
    }

    /// Tells those who listen to a call that it is cancelled.
    fn tell_cancelled(&self, mut watchers: Watchers<J::Output>) {
        let callbacks = watchers.take_callbacks();
        watchers.wake();
        call_all(callbacks, Err(&self.cancelled()));
    }

    /// Cancels what is queued, or has the engine see to what was begun elsewhere.
    fn end_early(&self, begun: impl Fn(&dyn away::Engine, FutureId) -> Option<bool>) -> bool {
        loop {
            let word = match self.slot.cancel() {
                Ok((job, word)) => {
                    self.note_cancelled();
                    signals::forget(self.slot.id());
                    if word.is(Flag::Heard) {
                        let watchers = self.watchers.lock().take();
                        self.tell_cancelled(watchers);
                    }
                    discard(job);
                    return true;
                }
                Err(word) => word,
            };
            if word.state() != State::Running {
                return word.phase() == Phase::Cancelled;
            }
            // Before it can hear of it: the attempt that ends because of that is its last.
            self.note_unwanted();
            let engine = away::engine_of(self.slot.home());
            if let Some(done) = engine.and_then(|engine| begun(&*engine, self.slot.id())) {
                return done;
            }
            // It runs here, or somebody is ending it or has put it back.
            if self.slot.word().state() == State::Running {
                return false;
            }
        }
    }

    /// It runs, and may hear of it.
    fn note_unwanted(&self) {
        signals::cancel(self.slot.id(), || self.phase().is_over());
    }

    fn note_cancelled(&self) {
        account::cancelled(self.slot.home(), self.task());
    }

    fn cancelled(&self) -> Error {
        Error::Cancelled { task: self.task() }
    }

    /// A copy of the error, for somebody who reads it, or not.
    fn error_for(&self, reader: bool) -> Option<Error> {
        let error = self.slot.error()?;
        if reader {
            self.slot.mark(Flag::Told, |word| !word.is(Flag::Told));
        }
        Some(error.clone())
    }
}

fn call_all<T>(callbacks: Vec<Callback<T>>, outcome: Result<&T, &Error>) {
    for callback in callbacks {
        shielded(|| callback(outcome));
    }
}

/// A future, whatever its value is.
pub(crate) trait Watch: Send + Sync {
    fn task(&self) -> TaskRef;
    /// A call that was begun elsewhere is running here as soon as it is on its way.
    fn phase(&self) -> Phase;
    /// What its observer sees: pending until it has started, wherever that is.
    fn phase_seen(&self) -> Phase {
        self.phase()
    }
    /// Over, and neither with a value nor cancelled.
    fn failed(&self) -> bool;
    /// The error of a future that is over. Does the caller read it for somebody?
    fn error(&self, read: bool) -> Option<Error>;
    fn cancel(&self) -> bool;
    fn kill(&self) -> bool;
    /// Is there what a waiter wants?
    fn has(&self, want: Want) -> bool;
    /// Would this thread wait for itself: is it running the call, or a callback that looks at
    /// the value?
    fn waits_for_itself(&self, want: Want) -> bool;
    /// Is the call that pool's, and not over?
    fn is_under_way_at(&self, home: Home) -> bool;
    /// Runs a call that waits in the queue of that pool in this thread. False if it does not, or
    /// is not here to be run, but encoded.
    fn run_from(&self, home: Home) -> bool;
    /// If the call was begun elsewhere and nobody listens, whoever waits for it may be able to see to its end.
    fn attend(&self) {}
    /// Tells `listener` how far the call is, as it says itself, until it is over.
    fn listen(&self, listener: Listener) {
        signals::listen(self.task().id, listener, || self.phase().is_over());
    }
    /// False, and `watcher` is not kept, if there is nothing to wait for.
    fn watch(&self, watcher: &Watcher, want: Want) -> bool;
    fn unwatch(&self, watcher: &Watcher);
}

/// A future of a `T`, whatever makes it.
pub(crate) trait Shared<T>: Watch {
    /// Nobody will ask for the outcome: it is dropped here and now, or as soon as it is there.
    fn detach(&self);
    /// Moves the value out, or tells the error. `None`: it is not there yet, or lent.
    fn take(&self) -> Option<Result<T, Error>>;
    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<T, Error>>;
    /// Keeps `callback` for the end of the future. It comes back if that is behind it.
    fn at_end(&self, callback: Callback<T>) -> Result<(), Callback<T>>;
    /// Runs `callback` when the future is over: later, or now, in this thread.
    /// It comes back from a future whose value was taken.
    fn on_done(&self, callback: Callback<T>) -> Result<(), Callback<T>>;
}

impl<J: Job> Watch for Cell<J> {
    fn task(&self) -> TaskRef {
        TaskRef { name: J::name(), id: self.slot.id() }
    }

    fn phase(&self) -> Phase {
        self.slot.word().phase()
    }

    fn phase_seen(&self) -> Phase {
        let phase = self.phase();
        if phase != Phase::Running {
            return phase;
        }
        match away::engine_of(self.slot.home()).and_then(|engine| engine.has_started(self.slot.id())) {
            Some(true) => Phase::Running,
            Some(false) => Phase::Pending,
            // It runs here, or has ended, or was put back.
            None => self.phase(),
        }
    }

    fn failed(&self) -> bool {
        self.slot.word().state() == State::Error
    }

    fn error(&self, read: bool) -> Option<Error> {
        let is_cancelled = self.phase() == Phase::Cancelled;
        if is_cancelled { Some(self.cancelled()) } else { self.error_for(read) }
    }

    fn cancel(&self) -> bool {
        self.end_early(|engine, id| engine.recall(id))
    }

    fn kill(&self) -> bool {
        self.end_early(|engine, id| engine.kill(id))
    }

    fn has(&self, want: Want) -> bool {
        self.slot.word().has(want)
    }

    fn waits_for_itself(&self, want: Want) -> bool {
        let is_lent_here = || {
            let watchers = self.watchers.lock();
            self.slot.word().state() == State::Lent && watchers.lent_to() == Some(thread::current().id())
        };
        (want == Want::Value && is_lent_here()) || is_running_here(self.slot.id())
    }

    fn is_under_way_at(&self, home: Home) -> bool {
        self.slot.is_queued_at(home) && !self.phase().is_over()
    }

    fn run_from(&self, home: Home) -> bool {
        // Not one that was put back: its time has not come, or another has it in hand.
        let word = self.slot.word();
        let is_here =
            self.slot.is_queued_at(home) && word.state() == State::Pending && !word.is(Flag::PutBack);
        let Some((job, started)) = is_here.then(|| self.slot.start()).flatten() else { return false };
        retract(std::ptr::from_ref(self).cast());
        self.run_to_the_end(job, started, &());
        true
    }

    fn attend(&self) {
        let word = self.slot.word();
        if word.state() == State::Running
            && !word.is(Flag::Heard)
            && let Some(engine) = away::engine_of(self.slot.home())
        {
            engine.attend(self.slot.id());
        }
    }

    fn watch(&self, watcher: &Watcher, want: Want) -> bool {
        let mut watchers = self.watchers.lock();
        let is_to_come = self.slot.hear(want);
        if is_to_come {
            watchers.add(watcher.clone());
        }
        is_to_come
    }

    fn unwatch(&self, watcher: &Watcher) {
        self.watchers.lock().remove(watcher);
    }
}

impl<J: Job> Shared<J::Output> for Cell<J> {
    fn detach(&self) {
        if !self.has(Want::Value) {
            let _watchers = self.watchers.lock();
            if self.slot.mark(Flag::Detached, |word| !word.has(Want::Value)) {
                return;
            }
        }
        let told = self.slot.word().is(Flag::Told);
        if let Some(value) = self.slot.take_value() {
            let outcome = Ok(value);
            if !told {
                unread::report(J::error_in(&outcome));
            }
            drop(outcome);
        } else if !told {
            unread::report(self.slot.error());
        }
    }

    fn take(&self) -> Option<Result<J::Output, Error>> {
        loop {
            return match self.slot.word().state() {
                State::Pending | State::Sent | State::Running | State::Lent => None,
                State::Cancelled => Some(Err(self.cancelled())),
                State::Error => self.error_for(true).map(Err),
                State::Taken => Some(Err(Error::invalid(
                    format!("the result of {} has been taken before", self.task()),
                    "keep it, or make the future `shared()`",
                ))),
                State::Value => match self.slot.take_value() {
                    Some(value) => Some(Ok(value)),
                    // Lent a moment ago.
                    None => continue,
                },
            };
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<J::Output, Error>> {
        loop {
            if let Some(outcome) = self.take() {
                return Poll::Ready(outcome);
            }
            let waker = context.waker().clone();
            let mut watchers = self.watchers.lock();
            // Resolved since `take` looked: look again.
            if !self.slot.hear(Want::Value) {
                continue;
            }
            let unused = watchers.set_waker(waker);
            drop(watchers);
            discard(unused);
            return Poll::Pending;
        }
    }

    fn at_end(&self, callback: Callback<J::Output>) -> Result<(), Callback<J::Output>> {
        let mut watchers = self.watchers.lock();
        if !self.slot.hear(Want::Value) {
            return Err(callback);
        }
        watchers.add_callback(callback);
        Ok(())
    }

    fn on_done(&self, callback: Callback<J::Output>) -> Result<(), Callback<J::Output>> {
        loop {
            // Not `at_end` first: between two locks another callback may be lent the value.
            let mut watchers = self.watchers.lock();
            if self.slot.hear(Want::Value) {
                watchers.add_callback(callback);
                return Ok(());
            }
            let error = match self.slot.word().state() {
                State::Cancelled => self.cancelled(),
                State::Taken => return Err(callback),
                State::Value => {
                    // Taken a moment ago, unless we get it.
                    let Some((value, loan)) = self.slot.lend() else { continue };
                    watchers.set_lent_to(thread::current().id());
                    drop(watchers);
                    self.show(loan, value, vec![callback]);
                    return Ok(());
                }
                _ => match self.error_for(true) {
                    Some(error) => error,
                    None => continue,
                },
            };
            drop(watchers);
            call_all(vec![callback], Err(&error));
            return Ok(());
        }
    }
}

/// How futures and promises print themselves: never the value.
pub(super) fn describe(f: &mut fmt::Formatter<'_>, kind: &str, cell: &dyn Watch) -> fmt::Result {
    let task = cell.task();
    f.debug_struct(kind)
        .field("id", &task.id.get())
        .field("task", &task.name)
        .field("state", &cell.phase_seen())
        .finish()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{Arc, OnceLock, Weak};

    use super::*;

    struct Nothing;

    impl Job for Nothing {
        type Output = ();

        fn name() -> &'static str {
            "nothing"
        }

        fn run(self, _: TaskRef) -> Result<(), Error> {
            Ok(())
        }
    }

    /// Runs one call of no pool, and says whether it was noted as unwanted before anything was said to it.
    struct Elsewhere {
        call: FutureId,
        was_noted: OnceLock<bool>,
    }

    impl away::Engine for Elsewhere {
        fn recall(&self, call: FutureId) -> Option<bool> {
            (call == self.call).then(|| !*self.was_noted.get_or_init(|| signals::is_unwanted(call)))
        }

        fn attend(&self, _: FutureId) {}

        fn has_started(&self, call: FutureId) -> Option<bool> {
            (call == self.call).then_some(true)
        }

        fn kill(&self, call: FutureId) -> Option<bool> {
            self.recall(call)
        }
    }

    /// Else an attempt that ends because of it could be followed by another one.
    #[test]
    fn a_call_elsewhere_is_noted_as_unwanted_before_it_can_hear_of_it() {
        for cancel in [Watch::cancel, Watch::kill] {
            let cell = Cell::new(Some(Nothing), Ticket::NONE);
            assert!(cell.take_job().is_some());
            let started = cell.begin().unwrap();
            let engine = Arc::new(Elsewhere { call: cell.task().id, was_noted: OnceLock::new() });
            let known: Weak<dyn away::Engine> = Arc::<Elsewhere>::downgrade(&engine);
            away::register(Home::NONE, known);
            assert!(!cancel(&cell));
            assert_eq!(engine.was_noted.get(), Some(&true));
            assert!(signals::is_unwanted(cell.task().id));
            cell.resolve(started, Ok(()), &());
            assert!(!signals::is_unwanted(cell.task().id));
        }
    }
}
