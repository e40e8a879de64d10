//! What becomes of calls in hand: what is heard of their child, and what follows from it.
//!
//! | what is heard               | what becomes of the call that is meant                         |
//! |-----------------------------|----------------------------------------------------------------|
//! | how far it is               | nothing; whoever listens is told                               |
//! | a reply                     | it ends, or is put back for another attempt                    |
//! | nothing, for its time limit | its child is ended; `TimedOut`, or it is put back              |
//! | the end of the child        | `WorkerDied`, or it is put back; not begun, it is queued again |
//! | nothing, as it was not sent | it ends, with why                                              |
//! | nonsense                    | its child is ended, and it with it                             |
//!
//! Not here: how one listens (`calls.rs`), and for how long (`context.rs`). The rule: every call leaves the window on
//! exactly one of these ways, and runs no code of the user under its lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{Call, Started};
use super::calls::{Heard, Until, unexpected};
use super::child::{Child, overran};
use super::context::{ATTEMPTS, ProcessContext, WARY};
use super::remarks::Progress;
use crate::account::{self, Account};
use crate::enclosed::Received;
use crate::error::Error;
use crate::future::deadline_after;
use crate::id::TaskRef;
use crate::observer::What;
use crate::outcome::{self, discard};
use crate::pool::Seat;
use crate::primitives::Ordering;
use crate::signals;
use crate::task::Completion;
use crate::wire::frame::{Kind, WireError};
use crate::wire::message::{Failure, set_attempt};

impl ProcessContext {
    /// Does what follows from what was heard of the child.
    pub(super) fn attend(
        &mut self,
        heard: Heard,
        deadline: Option<Instant>,
        limit: Option<Duration>,
        seat: &Seat<'_, Call>,
    ) -> Result<(), Error> {
        if self.child.is_none() {
            return Ok(());
        }
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
            Heard::Progress(Progress { call, done, total }) => {
                let started = self.slot.window.lock().started(call);
                let is_observed = self.slot.account.is_observed();
                if let Some(task) = started.filter(|task| is_observed || signals::is_heard(task.id)) {
                    // Who listens may wait for whatever is behind it.
                    self.take_back_behind(1, seat);
                    self.tell_of_start();
                    self.slot.account.tell_now(What::Progress { task, done, total });
                    signals::tell(task, done, total);
                }
                Ok(())
            }
            Heard::Unsent(error) => {
                let unsent = self.slot.window.lock().take_unsent();
                if let Some(Started { call, .. }) = unsent {
                    let task = call.task();
                    let reason = format!("what goes beside it could not be handed over: {error}");
                    call.fail(Error::Encode { task, what: "argument", reason }, seat);
                }
                Ok(())
            }
            Heard::Nonsense(error) => self.end_nonsense(&error, seat),
            Heard::Late => match limit {
                Some(limit) => {
                    if self.ends_by_itself(limit, seat) {
                        return Ok(());
                    }
                    let Some(child) = &mut self.child else { return Ok(()) };
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
                    let (id, failure, took) = match child.hear(Until::Now, false, 1) {
                        Heard::Reply { id, failure, took } => (id, failure, took),
                        Heard::Progress(_) => continue,
                        _ => break,
                    };
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

    /// The time of a call is over. One that asks whether it is wanted is told so, and may end within the time of grace:
    /// then its child lives on. False: it is to be ended.
    fn ends_by_itself(&mut self, limit: Duration, seat: &Seat<'_, Call>) -> bool {
        {
            let window = self.slot.window.lock();
            if !window.listens() {
                return false;
            }
            window.unwant_first();
        }
        let Some(child) = &mut self.child else { return false };
        let until = deadline_after(self.plan.grace_period);
        let listen = until.map_or(Until::Ever, Until::By);
        let id = loop {
            let heard = match child.hear(listen, false, 1) {
                Heard::Pipe => child.hear_from_pipe(until),
                heard => heard,
            };
            match heard {
                Heard::Reply { id, .. } => break id,
                Heard::Progress(_) => {}
                _ => return false,
            }
        };
        child.served += 1;
        child.connection.clear();
        child.received = Received::default();
        let worker = Arc::clone(&child.worker);
        let Some(mut started) = self.answered(id) else { return false };
        self.slot.note_ran(&mut started, self.turn, Some(&worker));
        let task = started.call.task();
        let what = format!("{task}, which ended when it was told so,");
        self.fail_or_put_back(started, Error::TimedOut { what, limit }, seat);
        true
    }

    /// Takes out the call that was answered. What it has logged is told before.
    fn answered(&self, id: u64) -> Option<Started> {
        self.child.iter().for_each(Child::catch_up);
        let bytes = self.child.as_ref().map_or(0, Child::reply_bytes);
        self.slot.window.lock().answered(id, bytes)
    }

    /// Ends a call with the reply that was heard.
    fn end(
        &mut self,
        mut started: Started,
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
        // What took longer than fits into the note began when it was sent.
        let known = took.filter(|took| *took < Duration::from_nanos(u32::MAX.into()));
        let at = match known {
            Some(took) if started.call.is_to_start() => Instant::now().checked_sub(took),
            _ => self.turn,
        };
        self.slot.note_ran(&mut started, at, Some(&child.worker));
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
                None => Ok(child.reply_to(&mut started.letter)),
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
        self.turn = self.turn.map(|_| Instant::now());
    }

    /// Ends a call whose callbacks may wait for whatever they like, while others are in hand.
    fn complete_beside(&mut self, completion: Completion, seat: &Seat<'_, Call>) {
        self.take_back_behind(0, seat);
        if self.in_hand().is_none() {
            return completion();
        }
        self.plan.complete_beside(completion);
    }

    /// Takes back what the child has not begun, but for so many at the head of the line. It is the next of the queue
    /// again.
    pub(super) fn take_back_behind(&self, first: usize, seat: &Seat<'_, Call>) {
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
            // Somebody killed it meanwhile, or tried to cancel it: it ends with this attempt.
            Ok(_) if self.slot.call_was_killed() || signals::is_unwanted(task.id) => {
                drop(window);
                discard(letter);
                call.fail(error, seat);
            }
            Ok(due) => {
                let item = call.put_back();
                drop(window);
                let number = letter.attempt();
                account::retried(self.slot.account.home(), task, &error, number, due);
                set_attempt(&mut letter.frame, number);
                seat.put_back(Call { item, letter }, due);
            }
            Err(error) => {
                drop(window);
                discard(letter);
                call.fail(error, seat);
            }
        }
    }

    /// The child talks nonsense: it is replaced, and the call that it ran is lost.
    fn end_nonsense(&mut self, error: &WireError, seat: &Seat<'_, Call>) -> Result<(), Error> {
        // It is dead when it is dropped.
        let worker = self.child.take().map(|child| Arc::clone(&child.worker));
        let lost = {
            let mut window = self.slot.window.lock();
            seat.give_back(window.take_back());
            window.take_all()
        };
        seat.cover();
        let reason = format!("the worker process answered nonsense and was replaced: {error}");
        for mut started in lost {
            self.slot.note_ran(&mut started, self.turn, worker.as_deref());
            let call = started.call;
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
        let worker = self.child.as_ref().map(|child| Arc::clone(&child.worker));
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
        for mut started in lost {
            self.slot.note_ran(&mut started, self.turn, worker.as_deref());
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
            give_up(call, &error, &self.slot.account, seat);
        }
        ours.and_then(|()| broken.map_or(Ok(()), |verdict| Err(verdict.clone())))
    }

    /// There is no child for a call that has not been started.
    pub(super) fn not_started(&self, call: Call, refusal: Error, seat: &Seat<'_, Call>) -> Result<(), Error> {
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
fn give_up(call: Call, error: &impl Fn(TaskRef, u32) -> Error, account: &Account, seat: &Seat<'_, Call>) {
    let Call { item, mut letter } = call;
    let (task, attempt) = (item.task(), letter.attempt());
    let error = error(task, attempt);
    let again = match &mut letter.attempts {
        Some(attempts) => attempts.failed(task, error.clone()),
        None => Err(error.clone()),
    };
    match again {
        Ok(due) => {
            letter.moved = 0;
            let number = letter.attempt();
            account::retried(account.home(), task, &error, number, due);
            set_attempt(&mut letter.frame, number);
            seat.put_back(Call { item, letter }, due);
        }
        Err(error) => item.fail(error),
    }
}
