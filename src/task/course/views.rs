//! A course as others see it: whoever waits for its results ([`Watch`]), and the queue in which it is a task ([`Work`]).
//!
//! Not here: how items are run, and results taken (`course.rs`).

use std::time::Instant;

use super::Course;
use crate::account::Ticket;
use crate::error::Error;
use crate::future::Started;
use crate::future::cell::Watch;
use crate::future::state::{Freed, Phase, Want};
use crate::future::watch::Watcher;
use crate::id::{Home, TaskRef};
use crate::outcome::{discard, is_running_here};
use crate::portable::Raised;
use crate::primitives::{Ordering, thread};
use crate::task::Work;

impl<N, F, A, R> Watch for Course<N, F, A, R>
where
    N: 'static,
    F: Fn(A) -> Result<R, Raised> + Send + Sync + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    fn task(&self) -> TaskRef {
        TaskRef { name: std::any::type_name::<N>(), id: self.id }
    }

    /// Of the results that come next.
    fn phase(&self) -> Phase {
        if self.state.lock().has() { Phase::Done } else { Phase::Running }
    }

    fn failed(&self) -> bool {
        false
    }

    fn error(&self, _read: bool) -> Option<Error> {
        None
    }

    fn cancel(&self) -> bool {
        self.cut(Error::Cancelled { task: self.task() });
        self.note_unwanted();
        true
    }

    fn kill(&self) -> bool {
        self.cancel()
    }

    fn has(&self, _: Want) -> bool {
        self.state.lock().has()
    }

    fn waits_for_itself(&self, _: Want) -> bool {
        if !is_running_here(self.id) {
            return false;
        }
        let me = thread::current().id();
        let mut state = self.state.lock();
        state.tell(self.fences);
        if state.has() {
            return false;
        }
        let is_mine = |item: usize| state.in_any_order || item == state.taken;
        let all_are_mine = state.running.iter().all(|(_, thread)| *thread == me);
        let runs_here = state.running.iter().any(|(item, thread)| *thread == me && is_mine(*item))
            || state.runner.as_ref().is_some_and(|runner| runner.thread == me && is_mine(runner.from));
        runs_here && (!state.in_any_order || all_are_mine && state.next >= state.end)
    }

    fn is_under_way_at(&self, home: Home) -> bool {
        self.home == home && !self.state.lock().has()
    }

    /// One item, the one that is waited for.
    fn run_from(&self, home: Home) -> bool {
        if self.home != home {
            return false;
        }
        let me = thread::current().id();
        let mut state = self.state.lock();
        match &state.runner {
            // This thread is inside one of its items.
            Some(runner) if runner.thread == me => state.take_over(self.fences),
            Some(_) => return false,
            None => {}
        }
        let is_wanted = !state.has() && (state.in_any_order || state.next == state.taken);
        let call = self.call.lock().clone().filter(|_| is_wanted && state.next < state.end);
        let item = state.next;
        if call.is_some() {
            state.next += 1;
            state.running.push((item, me));
        }
        let spent = self.note_more(&state);
        drop(state);
        discard(spent);
        let is_run = call.is_some();
        call.into_iter().for_each(|call| self.run_one(call, item, &()));
        is_run
    }

    fn watch(&self, watcher: &Watcher, _: Want) -> bool {
        let mut state = self.state.lock();
        state.is_awaited = true;
        state.tell(self.fences);
        if state.has_wanted() {
            state.is_awaited = false;
            return false;
        }
        state.waiting.add(watcher.clone());
        true
    }

    fn unwatch(&self, watcher: &Watcher) {
        let mut state = self.state.lock();
        state.waiting.remove(watcher);
        // There is one that waits, at the most: a map has one owner.
        state.is_awaited = false;
    }
}

impl<N, F, A, R> Work for Course<N, F, A, R>
where
    N: 'static,
    F: Fn(A) -> Result<R, Raised> + Send + Sync + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    fn settle(&self, _: Ticket) {}

    fn run(&self, freed: &dyn Freed) {
        self.visit(freed);
    }

    fn run_once(&self, freed: &dyn Freed) -> Option<Instant> {
        self.visit(freed);
        None
    }

    fn calls(&self) -> usize {
        let state = self.state.lock();
        let in_stint = state
            .runner
            .as_ref()
            .map_or(0, |runner| runner.end.saturating_sub(runner.lane.cursor.load(Ordering::Relaxed)));
        state.end.saturating_sub(state.next) + in_stint
    }

    fn is_for_many(&self) -> bool {
        self.has_more.load(Ordering::Relaxed)
    }

    fn fail(&self, error: Error) {
        self.cut(error);
    }

    /// It runs here alone.
    fn begin(&self) -> Option<Started> {
        None
    }

    fn put_back(&self, _: Started) {}

    fn call_off(&self, _: Started) {}

    fn break_off(&self, _: Started, error: Error, _: &dyn Freed) {
        self.cut(error);
    }
}
