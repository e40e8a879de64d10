//! The context of a worker thread: it runs the call itself. And what it does before its first task and after its last.

use std::sync::Arc;

use crate::account::{self, Account};
use crate::error::Error;
use crate::id::{FutureId, TaskRef};
use crate::observer::What;
use crate::outcome::{catch, shielded};
use crate::pool::{Context, Item, Pin, Pins, Queued, Seat, Sleep};
use crate::task::{Work, WorkItem};
use crate::worker::WorkerInfo;

pub(super) type Initializer = Arc<dyn Fn() + Send + Sync>;

pub(super) type Hook = Arc<dyn Fn(&WorkerInfo) + Send + Sync>;

/// What each worker of a pool does beside its tasks.
#[derive(Clone, Default)]
pub(super) struct Customs {
    pub(super) pins: Option<Arc<Pins>>,
    pub(super) on_start: Option<Hook>,
    pub(super) initializer: Option<Initializer>,
    pub(super) on_exit: Option<Hook>,
}

pub(crate) struct ThreadContext {
    customs: Arc<Customs>,
    worker: Arc<WorkerInfo>,
    account: Arc<Account>,
    /// The hook was told that it starts.
    has_started: bool,
    /// Its CPU, as long as it is here.
    pin: Option<Pin>,
}

impl ThreadContext {
    pub(super) fn new(customs: Arc<Customs>, worker: WorkerInfo, account: Arc<Account>) -> Self {
        ThreadContext { customs, worker: Arc::new(worker), account, has_started: false, pin: None }
    }

    fn tell(&self, hook: Option<&Hook>) {
        if let Some(hook) = hook {
            shielded(|| hook(&self.worker));
        }
    }
}

/// After its last task, whatever brought that about.
impl Drop for ThreadContext {
    fn drop(&mut self) {
        if self.has_started {
            self.tell(self.customs.on_exit.as_ref());
            self.account.tell_now(What::WorkerLeft { worker: &self.worker });
        }
    }
}

impl Sleep for ThreadContext {}

impl Context for ThreadContext {
    type Item = WorkItem<dyn Work>;

    fn initialize(&mut self) -> Result<(), Error> {
        self.pin = self.customs.pins.as_ref().and_then(Pins::take);
        if let Some(pin) = &self.pin {
            pin.bind(None);
        }
        self.has_started = true;
        account::is_worker(&self.account, Arc::clone(&self.worker));
        self.account.tell_now(What::WorkerSpawned { worker: &self.worker });
        self.tell(self.customs.on_start.as_ref());
        self.prepare()?;
        self.account.tell_now(What::WorkerReady { worker: &self.worker });
        Ok(())
    }

    fn run(&mut self, item: Self::Item, seat: &Seat<'_, Self::Item>) -> Result<(), Error> {
        if let Some((item, due)) = item.run_once(seat) {
            seat.put_back(item, due);
        }
        Ok(())
    }

    fn finalize(&mut self) {}
}

impl ThreadContext {
    /// Runs the initializer, if there is one.
    fn prepare(&self) -> Result<(), Error> {
        let Some(initializer) = self.customs.initializer.as_ref() else { return Ok(()) };
        let task = TaskRef { name: "initializer", id: FutureId::next() };
        catch(task, || initializer()).map_err(|panic| {
            let cause = Error::Panicked { task, panic };
            Error::broken(format!("the pool is broken: its initializer failed: {cause}"), Some(cause))
        })
    }
}

impl Queued for WorkItem<dyn Work> {
    fn another(&self) -> Option<Self> {
        WorkItem::another(self)
    }

    fn priority(&self) -> i16 {
        WorkItem::priority(self)
    }

    fn stands_for(&self, cell: *const ()) -> bool {
        WorkItem::stands_for(self, cell)
    }

    fn is_ended(&self) -> bool {
        WorkItem::is_ended(self)
    }
}

impl Item for WorkItem<dyn Work> {
    fn task(&self) -> TaskRef {
        WorkItem::task(self)
    }

    fn fail(self, error: Error) {
        WorkItem::fail(self, error);
    }

    fn cancel(self) {
        WorkItem::cancel(self);
    }

    fn calls(&self) -> usize {
        WorkItem::calls(self)
    }

    fn forget(self) {
        WorkItem::forget(self);
    }
}
