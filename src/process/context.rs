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
use crate::task::{PortableWork, WorkItem};
use crate::wire::message::set_attempt;

/// A call and its frame.
pub(crate) struct Call {
    pub(super) item: WorkItem<dyn PortableWork>,
    pub(super) frame: Vec<u8>,
    /// If it has options.
    pub(super) attempts: Option<Box<Attempts>>,
}

impl Call {
    fn attempt(&self) -> u32 {
        self.attempts.as_ref().map_or(1, |attempts| attempts.number())
    }

    /// Ends it with what came of its present attempt, or puts it back for another one.
    fn fail_or_put_back(mut self, error: Error, seat: &Seat<'_, Call>) {
        let task = self.item.task();
        let again = match &mut self.attempts {
            Some(attempts) => attempts.failed(task, error.clone()),
            None => Err(error.clone()),
        };
        match again {
            // If somebody stopped it meanwhile, it has ended with this attempt.
            Ok(_) if !self.item.put_back() => self.item.fail(error, &|| seat.free()),
            Ok(due) => {
                let number = self.attempt();
                set_attempt(&mut self.frame, number);
                seat.put_back(self, due);
            }
            Err(error) => self.item.fail(error, &|| seat.free()),
        }
    }
}

impl Item for Call {
    fn task(&self) -> TaskRef {
        self.item.task()
    }

    fn fail(self, error: Error) {
        self.item.fail(error, &|| ());
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
        let (task, attempt) = (call.item.task(), call.attempt());
        let (plan, slot) = (Arc::clone(&self.plan), Arc::clone(&self.slot));
        let limit =
            call.attempts.as_ref().and_then(|attempts| attempts.options.limit()).or(plan.task_timeout);
        let mut moved = 0;
        // What came of the child that it was given to before.
        let mut last = None;
        slot.begin_call();
        loop {
            let stop = Arc::clone(&self.stop);
            let child = match self.child() {
                Ok(child) => child,
                Err(error) => return self.give_up(call, last, error, seat),
            };
            if last.is_none() && !call.item.begin(stop) {
                return Ok(());
            }
            // Killed while its next worker was being started.
            if let Some(death) = last.take()
                && slot.call_was_killed()
            {
                call.item.fail(death, &|| seat.free());
                return Ok(());
            }
            let (error, took_call) = match child.call(&call.frame, task.id.get(), limit) {
                Reply::Returned => {
                    // The reply is decoded in this thread; the child is idle, and so are we soon.
                    call.item.complete(child.connection.payload(), &|| seat.free());
                    child.connection.clear();
                    return Ok(());
                }
                Reply::Failed(failure) => {
                    call.fail_or_put_back(outcome::arrived(task, failure), seat);
                    return Ok(());
                }
                Reply::Nonsense(error) => {
                    self.child = None;
                    let reason = format!("the worker process answered nonsense and was replaced: {error}");
                    call.item.fail(Error::Decode { task, what: "return value", reason }, &|| seat.free());
                    return Ok(());
                }
                Reply::Dead { sent } => {
                    let death = child.post_mortem(task, attempt, &plan);
                    let took_call = sent && child.took_call();
                    self.child = None;
                    if let Err(verdict) = self.judge(&death) {
                        call.item.fail(death, &|| ());
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
            if let Some(verdict) = plan.deaths.verdict() {
                call.item.fail(verdict.clone(), &|| ());
                return Err(verdict.clone());
            }
            if slot.call_was_killed() {
                call.item.fail(error, &|| seat.free());
                return Ok(());
            }
            // Each got as far as Hello; were all killed from outside, it must end somewhere.
            if took_call || moved == ATTEMPTS {
                call.fail_or_put_back(error, seat);
                return Ok(());
            }
            moved += 1;
            last = Some(error);
        }
    }

    /// There is no child for `call`. `last`: what came of the one that it was given to before.
    fn give_up(
        &self,
        call: Call,
        last: Option<Error>,
        error: Error,
        seat: &Seat<'_, Call>,
    ) -> Result<(), Error> {
        let is_over = self.plan.stopped.load(Ordering::Acquire);
        if let Some(verdict) = self.plan.deaths.verdict() {
            call.item.fail(verdict.clone(), &|| ());
            return Err(verdict.clone());
        }
        match last {
            // Killed while its next worker was being started; the pool may go on.
            Some(last) if is_over || self.slot.call_was_killed() => call.item.fail(last, &|| seat.free()),
            None if is_over => call.item.cancel(),
            // What the system refuses to this worker, others may have.
            Some(last) if matches!(error, Error::Spawn { .. }) => {
                if call.item.put_back() {
                    seat.put_back(call, Instant::now());
                } else {
                    call.item.fail(last, &|| ());
                }
                return Err(error);
            }
            None if matches!(error, Error::Spawn { .. }) => {
                seat.put_back(call, Instant::now());
                return Err(error);
            }
            _ => {
                call.item.fail(error.clone(), &|| ());
                return Err(error);
            }
        }
        Ok(())
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
