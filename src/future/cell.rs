//! The cell that a future and a task share: the state under its lock, and the one function
//! that resolves.
//!
//! Not here: what the states mean (`state.rs`), how a thread waits (`wait.rs`).
//! The rule: user code (jobs, values, callbacks, wakers, destructors) never runs, and is never
//! dropped, while the lock is held.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::state::{Phase, State, Stop, Value};
use super::watch::{Callback, Watcher, Watchers};
use crate::error::Error;
use crate::id::Home;
use crate::id::{FutureId, TaskRef};
use crate::outcome::{discard, is_running_here, shielded};
use crate::sync::{Mutex, thread};
use crate::unread;

/// One allocation per task: its number, its job while it waits, its outcome after.
pub(crate) struct Cell<J: Job> {
    id: FutureId,
    state: Mutex<State<J::Output, J>>,
}

/// What a task will do, kept in its cell while it waits: a function with its arguments.
pub(crate) trait Job: Send + 'static {
    type Output: Send + 'static;

    /// What it is called, known by its type alone.
    fn name() -> &'static str;

    /// Calls the user's code; its panic is caught inside.
    fn run(self, task: TaskRef) -> Result<Self::Output, Error>;

    /// As `run`, for a job that may be tried again.
    fn attempt(self, task: TaskRef) -> Attempt<Self>
    where
        Self: Sized,
    {
        Attempt::Over(self.run(task))
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
    /// `home` is the pool in which it is going to be queued, if that is known.
    pub(crate) fn new(job: Option<J>, home: Home) -> Self {
        let watchers = Watchers::default();
        let state = State::Pending { job, watchers, detached: false, home, put_back: false };
        Cell { id: FutureId::next(), state: Mutex::new(state) }
    }

    /// It is going to be queued there.
    pub(crate) fn settle(&self, at: Home) {
        if let State::Pending { home, .. } = &mut *self.state.lock() {
            *home = at;
        }
    }

    /// Takes the job without starting it (to encode it).
    pub(crate) fn take_job(&self) -> Option<J> {
        match &mut *self.state.lock() {
            State::Pending { job, .. } => job.take(),
            _ => None,
        }
    }

    /// Runs the job here, unless it is not here, or over, or runs already: to its end, so this thread
    /// waits for further attempts. `freed` is as in `resolve`.
    pub(crate) fn run(&self, freed: &dyn Fn()) -> bool {
        let Some(Some(mut job)) = self.start(None) else { return false };
        let outcome = loop {
            match job.attempt(self.task()) {
                Attempt::Over(outcome) => break outcome,
                Attempt::Again(next, due) => {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    job = next;
                }
            }
        };
        self.resolve(outcome, freed);
        true
    }

    /// As `run`, but one attempt. `Some`: there is to be another at that moment, if the caller puts it back
    /// into the queue.
    pub(crate) fn run_once(&self, freed: &dyn Fn()) -> Option<Instant> {
        let Some(Some(job)) = self.start(None) else { return None };
        match job.attempt(self.task()) {
            Attempt::Over(outcome) => {
                self.resolve(outcome, freed);
                None
            }
            Attempt::Again(job, due) => {
                self.put_back(Some(job));
                Some(due)
            }
        }
    }

    /// Running → Pending, for another attempt. False if it was stopped: then there is to be none.
    pub(crate) fn put_back(&self, job: Option<J>) -> bool {
        let mut state = self.state.lock();
        let State::Running { stop, watchers, detached, home } = &mut *state else { return false };
        if stop.as_ref().is_some_and(|stop| stop.is_stopped()) {
            return false;
        }
        let (watchers, detached, home) = (mem::take(watchers), *detached, *home);
        *state = State::Pending { job, watchers, detached, home, put_back: true };
        true
    }

    /// Pending → Running, with the job, if it is here. `None`: nothing to run any more.
    pub(crate) fn start(&self, stop: Option<Arc<dyn Stop>>) -> Option<Option<J>> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Pending { job, watchers, detached, home, .. } => {
                let job = job.take();
                let (watchers, detached, home) = (mem::take(watchers), *detached, *home);
                *state = State::Running { stop, watchers, detached, home };
                Some(job)
            }
            _ => None,
        }
    }

    /// The one resolving function: sets the outcome, wakes the waiters, runs the callbacks.
    /// A future that is over keeps its first outcome.
    ///
    /// `freed` is called before anyone is woken, if no code of the user will keep this thread busy
    /// afterwards: whoever wakes and submits again finds the worker idle already.
    pub(crate) fn resolve(&self, outcome: Result<J::Output, Error>, freed: &dyn Fn()) {
        let mut state = self.state.lock();
        let (mut watchers, detached) = match &mut *state {
            State::Pending { watchers, detached, .. } | State::Running { watchers, detached, .. } => {
                (mem::take(watchers), *detached)
            }
            State::Done(_) | State::Cancelled => {
                drop(state);
                return discard(outcome);
            }
        };
        let callbacks = watchers.take_callbacks();
        let unseen = callbacks.is_empty();
        let (value, shown) = match outcome {
            outcome if unseen && detached => (Value::Taken, Some(outcome)),
            outcome if unseen => (kept(outcome.map_err(Box::new), false), None),
            Ok(value) => (lent(detached), Some(Ok(value))),
            Err(error) => (kept(Err(Box::new(error.clone())), true), Some(Err(error))),
        };
        let before = mem::replace(&mut *state, State::Done(value));
        if shown.is_none() && !watchers.has_waker() {
            freed();
        }
        drop(state);
        watchers.wake();
        discard(before);
        match shown {
            Some(outcome) if unseen => {
                unread::report(J::error_in(&outcome));
                discard(outcome);
            }
            Some(Ok(value)) => self.lend(value, callbacks),
            Some(Err(error)) => call_all(callbacks, Err(&error)),
            None => {}
        }
    }

    /// Shows the value to callbacks, also to those that are added meanwhile; then puts it back.
    /// The state is `Lent` to this thread when this is called.
    fn lend(&self, value: J::Output, mut callbacks: Vec<Callback<J::Output>>) {
        loop {
            call_all(callbacks, Ok(&value));
            let mut state = self.state.lock();
            let State::Done(Value::Lent { watchers, detached, .. }) = &mut *state else {
                unreachable!("a lent value comes back once")
            };
            callbacks = watchers.take_callbacks();
            if callbacks.is_empty() {
                let (watchers, detached) = (mem::take(watchers), *detached);
                let (value, unwanted) =
                    if detached { (Value::Taken, Some(value)) } else { (kept(Ok(value), true), None) };
                *state = State::Done(value);
                drop(state);
                watchers.wake();
                return discard(unwanted);
            }
        }
    }

    fn cancelled(&self) -> Error {
        Error::Cancelled { task: self.task() }
    }
}

fn kept<T>(outcome: Result<T, Box<Error>>, told: bool) -> Value<T> {
    Value::Kept { outcome, told }
}

fn lent<T>(detached: bool) -> Value<T> {
    Value::Lent { to: thread::current().id(), watchers: Watchers::default(), detached }
}

fn call_all<T>(callbacks: Vec<Callback<T>>, outcome: Result<&T, &Error>) {
    for callback in callbacks {
        shielded(|| callback(outcome));
    }
}

/// What a waiter wants to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// That the future is over.
    End,
    /// That its value can be taken: callbacks registered before may still be looking at it.
    Value,
}

/// A future, whatever its value is.
pub(crate) trait Watch: Send + Sync {
    fn task(&self) -> TaskRef;
    fn phase(&self) -> Phase;
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
        TaskRef { name: J::name(), id: self.id }
    }

    fn phase(&self) -> Phase {
        self.state.lock().phase()
    }

    fn failed(&self) -> bool {
        matches!(&*self.state.lock(), State::Done(Value::Kept { outcome: Err(_), .. }))
    }

    fn error(&self, read: bool) -> Option<Error> {
        match &mut *self.state.lock() {
            State::Done(Value::Kept { outcome: Err(error), told }) => {
                *told |= read;
                Some((**error).clone())
            }
            State::Cancelled => Some(self.cancelled()),
            _ => None,
        }
    }

    fn cancel(&self) -> bool {
        let mut state = self.state.lock();
        match &mut *state {
            State::Pending { watchers, .. } => {
                let mut watchers = mem::take(watchers);
                let before = mem::replace(&mut *state, State::Cancelled);
                drop(state);
                let callbacks = watchers.take_callbacks();
                watchers.wake();
                call_all(callbacks, Err(&self.cancelled()));
                discard(before);
                true
            }
            State::Cancelled => true,
            State::Running { .. } | State::Done(_) => false,
        }
    }

    fn kill(&self) -> bool {
        if let State::Running { stop, .. } = &*self.state.lock() {
            return stop.as_ref().is_some_and(|stop| stop.stop());
        }
        self.cancel()
    }

    fn has(&self, want: Want) -> bool {
        match &*self.state.lock() {
            State::Pending { .. } | State::Running { .. } => false,
            State::Done(Value::Lent { .. }) => want == Want::End,
            State::Done(_) | State::Cancelled => true,
        }
    }

    fn waits_for_itself(&self, want: Want) -> bool {
        let lent_here = want == Want::Value
            && matches!(&*self.state.lock(), State::Done(Value::Lent { to, .. }) if *to == thread::current().id());
        lent_here || is_running_here(self.id)
    }

    fn is_under_way_at(&self, at: Home) -> bool {
        matches!(&*self.state.lock(), State::Pending { home, .. } | State::Running { home, .. } if *home == at)
    }

    fn run_from(&self, at: Home) -> bool {
        // Not one that was put back: its time has not come, or another has it in hand.
        let is_here = matches!(
            &*self.state.lock(),
            State::Pending { job: Some(_), home, put_back: false, .. } if *home == at
        );
        is_here && self.run(&|| ())
    }

    fn watch(&self, watcher: &Watcher, want: Want) -> bool {
        let mut state = self.state.lock();
        let watchers = match want {
            Want::End => state.watchers(),
            Want::Value => state.value_watchers(),
        };
        watchers.map(|watchers| watchers.add(watcher.clone())).is_some()
    }

    fn unwatch(&self, watcher: &Watcher) {
        if let Some(watchers) = self.state.lock().value_watchers() {
            watchers.remove(watcher);
        }
    }
}

impl<J: Job> Shared<J::Output> for Cell<J> {
    fn detach(&self) {
        let mut state = self.state.lock();
        match &mut *state {
            State::Pending { detached, .. }
            | State::Running { detached, .. }
            | State::Done(Value::Lent { detached, .. }) => *detached = true,
            State::Done(value @ Value::Kept { .. }) => {
                let value = mem::replace(value, Value::Taken);
                drop(state);
                if let Value::Kept { outcome, told } = value {
                    let outcome = outcome.map_err(|error| *error);
                    if !told {
                        unread::report(J::error_in(&outcome));
                    }
                    drop(outcome);
                }
            }
            State::Done(Value::Taken) | State::Cancelled => {}
        }
    }

    fn take(&self) -> Option<Result<J::Output, Error>> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Cancelled => Some(Err(self.cancelled())),
            State::Done(Value::Kept { outcome: Err(error), told }) => {
                *told = true;
                Some(Err((**error).clone()))
            }
            State::Done(Value::Taken) => Some(Err(Error::invalid(
                format!("the result of {} has been taken before", self.task()),
                "keep it, or make the future `shared()`",
            ))),
            State::Done(value @ Value::Kept { outcome: Ok(_), .. }) => {
                match mem::replace(value, Value::Taken) {
                    Value::Kept { outcome: Ok(value), .. } => Some(Ok(value)),
                    _ => unreachable!("matched above"),
                }
            }
            _ => None,
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<J::Output, Error>> {
        loop {
            if let Some(outcome) = self.take() {
                return Poll::Ready(outcome);
            }
            let waker = context.waker().clone();
            let mut state = self.state.lock();
            // Resolved since `take` looked: look again.
            let Some(watchers) = state.value_watchers() else { continue };
            let unused = watchers.set_waker(waker);
            drop(state);
            discard(unused);
            return Poll::Pending;
        }
    }

    fn at_end(&self, callback: Callback<J::Output>) -> Result<(), Callback<J::Output>> {
        let mut state = self.state.lock();
        let Some(watchers) = state.value_watchers() else { return Err(callback) };
        watchers.add_callback(callback);
        Ok(())
    }

    fn on_done(&self, callback: Callback<J::Output>) -> Result<(), Callback<J::Output>> {
        // Not `at_end` first: between two locks another callback may be lent the value.
        let mut state = self.state.lock();
        if let Some(watchers) = state.value_watchers() {
            watchers.add_callback(callback);
            return Ok(());
        }
        let error = match &mut *state {
            State::Cancelled => self.cancelled(),
            State::Done(Value::Kept { outcome: Err(error), told }) => {
                *told = true;
                (**error).clone()
            }
            State::Done(kept @ Value::Kept { outcome: Ok(_), .. }) => {
                let Value::Kept { outcome: Ok(value), .. } = mem::replace(kept, lent(false)) else {
                    unreachable!("matched above")
                };
                drop(state);
                self.lend(value, vec![callback]);
                return Ok(());
            }
            _ => return Err(callback),
        };
        drop(state);
        call_all(vec![callback], Err(&error));
        Ok(())
    }
}

/// How futures and promises print themselves: never the value.
pub(super) fn describe(f: &mut fmt::Formatter<'_>, kind: &str, cell: &dyn Watch) -> fmt::Result {
    let task = cell.task();
    f.debug_struct(kind)
        .field("id", &task.id.get())
        .field("task", &task.name)
        .field("state", &cell.phase())
        .finish()
}
