//! A call that is made somewhere else, as a queue holds it: who ends its future, and what is sent of it.
//!
//! Not here: what is sent (`process/call.rs`, `amqp/desk.rs`). The rule: what becomes of it in the queue, becomes of its
//! future.

use super::{Item, Queued};
use crate::error::Error;
use crate::id::TaskRef;
use crate::task::{PortableWork, WorkItem};

pub(crate) struct Call<L> {
    pub(crate) item: WorkItem<dyn PortableWork>,
    pub(crate) letter: L,
}

impl<L> Queued for Call<L> {
    fn priority(&self) -> i16 {
        self.item.priority()
    }

    fn is_ended(&self) -> bool {
        self.item.is_ended()
    }
}

impl<L: Send + 'static> Item for Call<L> {
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
