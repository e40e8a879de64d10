//! The one worker loop, and the seam at which engines differ.

use super::Item;
use super::queue::{Queue, Seat};
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

    /// After the last task.
    fn finalize(&mut self);
}

pub(super) fn work<C: Context>(queue: &Queue<C::Item>, mut context: C) -> Result<(), Error> {
    context.initialize()?;
    let seat = Seat::at(queue);
    let mut outcome = Ok(());
    while let Some(item) = seat.next() {
        outcome = context.run(item, &seat);
        if outcome.is_err() {
            break;
        }
    }
    shielded(|| context.finalize());
    outcome
}
