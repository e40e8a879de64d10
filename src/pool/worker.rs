//! The one worker loop, and the seam at which engines differ.

use std::time::Duration;

use super::Item;
use super::queue::{Queue, Seat, Turn};
use crate::error::Error;
use crate::outcome::shielded;

/// What one worker of an engine is: made in the worker's thread, used by it alone.
pub(crate) trait Context: 'static {
    type Item: Item;

    /// Before the first task. An error breaks the pool.
    fn initialize(&mut self) -> Result<(), Error>;

    /// Ends the future of `item`, whatever happens. An error means that this worker cannot go on,
    /// and breaks the pool.
    fn run(&mut self, item: Self::Item, seat: &Seat<'_, Self::Item>) -> Result<(), Error>;

    /// After the last task; or after what may be the last, if there was no other for some time.
    fn finalize(&mut self);
}

/// Why a worker left in good order.
pub(super) enum Left {
    /// The queue is closed and empty.
    Over,
    /// It had nothing to do, and was let go.
    Retired,
}

/// The life of a worker. After `patience` without a task it asks `retire` whether it may leave.
pub(super) fn work<C: Context>(
    queue: &Queue<C::Item>,
    mut context: C,
    patience: Option<Duration>,
    retire: impl Fn() -> bool,
) -> Result<Left, Error> {
    context.initialize()?;
    let seat = Seat::at(queue);
    let outcome = loop {
        match seat.next(patience) {
            Turn::Task(item) => {
                if let Err(error) = context.run(item, &seat) {
                    break Err(error);
                }
            }
            Turn::Idle => {
                // While it is still counted: who has been counted out leaves nothing behind.
                shielded(|| context.finalize());
                if retire() {
                    return Ok(Left::Retired);
                }
            }
            Turn::Over => break Ok(Left::Over),
        }
    };
    shielded(|| context.finalize());
    outcome
}
