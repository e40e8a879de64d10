//! The context of a worker of a process pool: a thread of the host that owns one child, gives it
//! one call at a time, and replaces it when it dies.
//!
//! | the child dies …                          | what happens                                      |
//! |-------------------------------------------|---------------------------------------------------|
//! | while it starts (spawn, Hello)            | another one, three times; then the pool is broken |
//! | in the initializer                        | the same; a panic there breaks the pool at once   |
//! | while idle, or before it read the call    | another one is given the call: nobody notices     |
//! | decoding, running, encoding, replying     | the call ends with `WorkerDied`, or is put back   |
//! | told to leave (Bye)                       | nothing is lost                                   |
//!
//! One that takes too long is made to die, and the same holds, with `TimedOut`. A child that the system
//! refuses costs no call: the call is put back, and the pool goes on with the workers that it has, or is broken
//! if it has none. Whether it goes on after a death at all is for `deaths.rs` to say.

use std::sync::Arc;
use std::time::Instant;

use super::child::{Child, NoStart, Reply, overran};
use super::slot::{Slot, StopCall};
use super::{Plan, sys};
use crate::error::Error;
use crate::id::TaskRef;
use crate::options::Attempts;
use crate::outcome;
use crate::pool::{Context, Item, Seat};
use crate::sync::Ordering;
use crate::task::{Begun, PortableWork, WorkItem};
use crate::wire::frame::Parcel;
use crate::wire::message::set_attempt;

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
}

impl Letter {
    fn attempt(&self) -> u32 {
        self.attempts.as_ref().map_or(1, |attempts| attempts.number())
    }
}

/// A call that was started.
struct Started {
    call: Begun<dyn PortableWork>,
    letter: Letter,
}

impl Started {
    /// Ends it with what came of its present attempt, or puts it back for another one.
    fn fail_or_put_back(mut self, error: Error, seat: &Seat<'_, Call>) {
        let task = self.call.task();
        let again = match &mut self.letter.attempts {
            Some(attempts) => attempts.failed(task, error.clone()),
            None => Err(error.clone()),
        };
        match again {
            Ok(due) => match self.call.put_back() {
                Ok(item) => {
                    let number = self.letter.attempt();
                    set_attempt(&mut self.letter.frame, number);
                    seat.put_back(Call { item, letter: self.letter }, due);
                }
                // Somebody stopped it meanwhile: it ends with this attempt.
                Err(call) => call.fail(error, seat),
            },
            Err(error) => self.call.fail(error, seat),
        }
    }
}

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

/// How often in a row a worker may fail to start.
const ATTEMPTS: usize = 3;

pub(crate) struct ProcessContext {
    plan: Arc<Plan>,
    number: usize,
    slot: Arc<Slot>,
    stop: Arc<StopCall>,
    child: Option<Child>,
}

impl ProcessContext {
    pub(super) fn new(plan: Arc<Plan>, number: usize) -> Self {
        let slot = Arc::new(Slot::new(plan.grace_period));
        plan.slots.lock().push(Arc::clone(&slot));
        let stop = Arc::new(StopCall(Arc::clone(&slot)));
        ProcessContext { plan, number, slot, stop, child: None }
    }

    /// The child, alive as far as we can see; a new one if need be.
    fn child(&mut self) -> Result<&mut Child, Error> {
        if self.slot.is_doomed() {
            self.child = None;
        }
        if let Some(gone) = self.child.take_if(|child| child.is_dead()) {
            self.judge(&gone.idle_end())?;
        }
        if self.child.is_none() {
            self.child = Some(self.start()?);
        }
        Ok(self.child.as_mut().unwrap_or_else(|| unreachable!("it was started above")))
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

    /// Gives the call to a child, and to others as long as it is not taken; ends it, or puts it back. An error
    /// means that there will be no child any more.
    fn serve(&mut self, call: Call, seat: &Seat<'_, Call>) -> Result<(), Error> {
        self.slot.begin_call();
        if let Err(error) = self.child() {
            return self.not_started(call, error, seat);
        }
        let Call { item, letter } = call;
        let Some(call) = item.begin(self.stop.clone()) else { return Ok(()) };
        let started = Started { call, letter };
        let (task, attempt) = (started.call.task(), started.letter.attempt());
        let limit = started.letter.attempts.as_ref().and_then(|attempts| attempts.options.limit());
        let limit = limit.or(self.plan.task_timeout);
        let mut moved = 0;
        loop {
            let Some(child) = &mut self.child else {
                unreachable!("there is one at the start of each round")
            };
            let (error, took_call) = match child.call(&started.letter.frame, task.id.get(), limit) {
                Reply::Returned => {
                    // The reply is decoded in this thread; the child is idle, and so are we soon.
                    // Who sends one large argument after the other finds the memory of the last one free.
                    drop(started.letter);
                    started.call.complete(child.connection.payload_mut(), seat);
                    child.connection.clear();
                    return Ok(());
                }
                Reply::Failed(failure) => {
                    started.fail_or_put_back(outcome::arrived(task, failure), seat);
                    return Ok(());
                }
                Reply::Nonsense(error) => {
                    self.child = None;
                    let reason = format!("the worker process answered nonsense and was replaced: {error}");
                    started.call.fail(Error::Decode { task, what: "return value", reason }, seat);
                    return Ok(());
                }
                Reply::Dead { sent } => {
                    let death = child.post_mortem(task, attempt, &self.plan);
                    let took_call = sent && child.took_call();
                    self.child = None;
                    if let Err(verdict) = self.judge(&death) {
                        started.call.fail(death, &());
                        return Err(verdict);
                    }
                    (death, took_call)
                }
                Reply::Late { limit, sent } => {
                    let pid = child.pid;
                    child.dismiss();
                    // Not before: it may read on until it is gone.
                    let took_call = sent && child.took_call();
                    self.child = None;
                    (overran(task, pid, limit), took_call)
                }
            };
            if let Some(verdict) = self.plan.deaths.verdict() {
                started.call.fail(verdict.clone(), &());
                return Err(verdict.clone());
            }
            if self.slot.call_was_killed() {
                started.call.fail(error, seat);
                return Ok(());
            }
            // Each got as far as Hello; were all killed from outside, it must end somewhere.
            if took_call || moved == ATTEMPTS {
                started.fail_or_put_back(error, seat);
                return Ok(());
            }
            moved += 1;
            if let Err(refusal) = self.child() {
                return self.not_moved(started, error, refusal, seat);
            }
            // Killed while its next worker was being started.
            if self.slot.call_was_killed() {
                started.call.fail(error, seat);
                return Ok(());
            }
        }
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

    /// The same for one that was given to a child before. `last`: what came of that.
    fn not_moved(
        &self,
        started: Started,
        last: Error,
        refusal: Error,
        seat: &Seat<'_, Call>,
    ) -> Result<(), Error> {
        if let Some(verdict) = self.plan.deaths.verdict() {
            started.call.fail(verdict.clone(), &());
            return Err(verdict.clone());
        }
        // Killed while its next worker was being started; the pool may go on.
        if self.plan.stopped.load(Ordering::Acquire) || self.slot.call_was_killed() {
            started.call.fail(last, seat);
            return Ok(());
        }
        if matches!(refusal, Error::Spawn { .. }) {
            let letter = started.letter;
            match started.call.put_back() {
                Ok(item) => seat.put_back(Call { item, letter }, Instant::now()),
                Err(call) => call.fail(last, &()),
            }
        } else {
            started.call.fail(refusal.clone(), &());
        }
        Err(refusal)
    }
}

impl Context for ProcessContext {
    type Item = Call;

    fn initialize(&mut self) -> Result<(), Error> {
        // The worker may die while we write to it.
        sys::survive_sigpipe();
        match self.child().map(|_| ()) {
            // The user has ended the pool meanwhile. That breaks nothing: what is still queued is cancelled.
            Err(_) if self.plan.was_ended() => Ok(()),
            started => started,
        }
    }

    fn run(&mut self, call: Call, seat: &Seat<'_, Call>) -> Result<(), Error> {
        self.serve(call, seat)?;
        let plan = &self.plan;
        if let Some(child) = &mut self.child {
            child.served += 1;
            if plan.max_tasks_per_child.is_some_and(|max| child.served >= max)
                || plan.max_memory_per_child.is_some_and(|max| child.exceeds(max))
            {
                self.finalize();
            }
        }
        Ok(())
    }

    fn finalize(&mut self) {
        if let Some(child) = self.child.take() {
            child.leave();
        }
    }
}

impl Drop for ProcessContext {
    fn drop(&mut self) {
        self.child = None;
        self.plan.slots.lock().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}
