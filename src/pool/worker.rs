//! The one worker loop, and the seam at which engines differ.

use std::sync::Arc;

use super::queue::{Seat, Turn};
use super::{Item, Pool};
use crate::error::Error;
use crate::outcome::shielded;

/// What one worker of an engine is: made in the worker's thread, used by it alone.
pub(crate) trait Context: 'static {
    type Item: Item;

    /// Before the first task. An error breaks the pool.
    fn initialize(&mut self) -> Result<(), Error>;

    /// Ends the future of `item`, whatever happens, or puts it back. An error means that this worker cannot go on,
    /// and breaks the pool.
    fn run(&mut self, item: Self::Item, seat: &Seat<'_, Self::Item>) -> Result<(), Error>;

    /// After the last task; or after what may be the last, if there was no other for some time.
    fn finalize(&mut self);
}

/// Why a worker left in good order.
pub(super) enum Left {
    /// The queue is closed and empty.
    Over,
    /// It was counted out: it had nothing to do, or was one too many.
    Retired,
}

/// The life of a worker.
pub(super) fn work<C: Context>(pool: &Arc<Pool<C>>, mut context: C) -> Result<Left, Error> {
    context.initialize()?;
    let seat = Seat::at(&pool.queue);
    let outcome = loop {
        // It is finalized while it is still counted: who has been counted out leaves nothing behind.
        let item = match seat.next(pool.hiring.idle_timeout) {
            Turn::Task(item) => item,
            Turn::Due(item) => {
                pool.cover();
                item
            }
            Turn::Idle => {
                shielded(|| context.finalize());
                if pool.retire() {
                    return Ok(Left::Retired);
                }
                continue;
            }
            Turn::Over => break Ok(Left::Over),
        };
        if let Err(error) = context.run(item, &seat) {
            break Err(error);
        }
        if pool.is_too_large() {
            shielded(|| context.finalize());
            // Before it is counted out: whoever looks after that for somebody to stand in must not count on it.
            seat.leave();
            if pool.shrink() {
                return Ok(Left::Retired);
            }
        }
    };
    shielded(|| context.finalize());
    outcome
}
