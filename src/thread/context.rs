//! The context of a worker thread: it runs the call itself.

use std::sync::Arc;

use crate::error::Error;
use crate::id::{FutureId, TaskRef};
use crate::outcome::catch;
use crate::pool::{Context, Item, Queued, Seat, Sleep};
use crate::task::{Work, WorkItem};

pub(super) type Initializer = Arc<dyn Fn() + Send + Sync>;

pub(crate) struct ThreadContext {
    initializer: Option<Initializer>,
}

impl ThreadContext {
    pub(super) fn new(initializer: Option<Initializer>) -> Self {
        ThreadContext { initializer }
    }
}

impl Sleep for ThreadContext {}

impl Context for ThreadContext {
    type Item = WorkItem<dyn Work>;

    fn initialize(&mut self) -> Result<(), Error> {
        let Some(initializer) = self.initializer.take() else { return Ok(()) };
        let task = TaskRef { name: "initializer", id: FutureId::next() };
        catch(task, || initializer()).map_err(|panic| {
            let cause = Error::Panicked { task, panic };
            Error::broken(format!("the pool is broken: its initializer failed: {cause}"), Some(cause))
        })
    }

    fn run(&mut self, item: Self::Item, seat: &Seat<'_, Self::Item>) -> Result<(), Error> {
        if let Some((item, due)) = item.run_once(seat) {
            seat.put_back(item, due);
        }
        Ok(())
    }

    fn finalize(&mut self) {}
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

    fn forget(self) {
        WorkItem::forget(self);
    }
}
