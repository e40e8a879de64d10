//! The context of a worker of a process pool: a thread of the host that owns one child, gives it
//! one call at a time, and replaces it when it dies.
//!
//! | the child dies …                          | what happens                                      |
//! |-------------------------------------------|---------------------------------------------------|
//! | while it starts (spawn, Hello)            | another one, three times; then the pool is broken |
//! | in the initializer                        | the same; a panic there breaks the pool at once   |
//! | while idle, or before it read the call    | another one is given the call: nobody notices     |
//! | decoding, running, encoding, replying     | the call ends with `WorkerDied`                   |
//! | told to leave (Bye)                       | nothing is lost                                   |

use std::sync::Arc;

use super::child::{Child, NoStart, Reply, Slot};
use super::{Plan, sys};
use crate::error::Error;
use crate::id::TaskRef;
use crate::outcome;
use crate::pool::{Context, Item, Seat};
use crate::sync::Ordering;
use crate::task::{PortableWork, WorkItem};

/// A call and its frame.
pub(crate) struct Call {
    pub(super) item: WorkItem<dyn PortableWork>,
    pub(super) frame: Vec<u8>,
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
    child: Option<Child>,
}

impl ProcessContext {
    pub(super) fn new(plan: Arc<Plan>, number: usize) -> Self {
        let slot = Arc::new(Slot::default());
        plan.slots.lock().push(Arc::clone(&slot));
        ProcessContext { plan, number, slot, child: None }
    }

    /// The child, alive as far as we can see; a new one if need be.
    fn child(&mut self) -> Result<&mut Child, Error> {
        if let Some(dead) = self.child.take_if(|child| self.slot.is_doomed() || child.is_dead()) {
            drop(dead);
        }
        if self.child.is_none() {
            self.child = Some(self.start()?);
        }
        Ok(self.child.as_mut().unwrap_or_else(|| unreachable!("it was started above")))
    }

    fn start(&self) -> Result<Child, Error> {
        let mut attempt = 1;
        loop {
            if self.plan.stopped.load(Ordering::Acquire) {
                return Err(Error::broken("the workers of the pool were killed", None));
            }
            match Child::start(&self.plan, self.number, &self.slot) {
                Ok(child) => return Ok(child),
                Err(NoStart::Died(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(NoStart::Died(error)) => {
                    let reason = format!(
                        "the pool is broken: {ATTEMPTS} workers in a row did not start; the last: {error}"
                    );
                    return Err(Error::broken(reason, Some(error)));
                }
                Err(NoStart::Refused(error) | NoStart::Never(error)) => return Err(error),
            }
        }
    }
}

impl Context for ProcessContext {
    type Item = Call;

    fn initialize(&mut self) -> Result<(), Error> {
        // The worker may die while we write to it.
        sys::survive_sigpipe();
        self.child().map(|_| ())
    }

    fn run(&mut self, Call { item, frame }: Call, seat: &Seat<'_, Call>) -> Result<(), Error> {
        let task = item.task();
        let freed = || seat.free();
        let plan = Arc::clone(&self.plan);
        let mut begun = false;
        let mut moved = 0;
        let mut lost = (0, None);
        let died = |(pid, status)| Error::WorkerDied { task, pid, status };
        loop {
            let slot = Arc::clone(&self.slot);
            let child = match self.child() {
                Ok(child) => child,
                // Killed while its next worker was being started; the pool may go on.
                Err(_) if begun && (slot.call_was_killed() || plan.stopped.load(Ordering::Acquire)) => {
                    break item.fail(died(lost), &freed);
                }
                Err(_) if plan.stopped.load(Ordering::Acquire) => break item.cancel(),
                Err(error) => {
                    item.fail(error.clone(), &|| ());
                    return Err(error);
                }
            };
            if begun && slot.call_was_killed() {
                break item.fail(died(lost), &freed);
            }
            if !begun {
                slot.begin_call();
                if !item.begin(slot.clone()) {
                    return Ok(());
                }
                begun = true;
            }
            match child.call(&frame, task.id.get()) {
                Reply::Returned => {
                    // The reply is decoded in this thread; the child is idle, and so are we soon.
                    item.complete(child.connection.payload(), &freed);
                    child.connection.clear();
                }
                Reply::Failed(failure) => item.fail(outcome::arrived(task, failure), &freed),
                Reply::Nonsense(error) => {
                    self.child = None;
                    let reason = format!("the worker process answered nonsense and was replaced: {error}");
                    item.fail(Error::Decode { task, what: "return value", reason }, &freed);
                }
                Reply::Dead { took_call } => {
                    lost = (child.pid, child.bury());
                    self.child = None;
                    // Each got as far as Hello; were all killed from outside, it must end somewhere.
                    if !took_call && moved < ATTEMPTS {
                        moved += 1;
                        continue;
                    }
                    item.fail(died(lost), &freed);
                }
            }
            break;
        }
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
