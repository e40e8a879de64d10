//! The one worker loop, and the seam at which engines differ.

use std::sync::Arc;

use super::floor::{Seat, Turn};
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

/// The life of a worker, until it is counted out. An error means that it still is to be.
pub(super) fn work<C: Context>(
    pool: &Arc<Pool<C>>,
    mut context: C,
    seat: &Seat<'_, C::Item>,
) -> Result<(), Error> {
    context.initialize()?;
    loop {
        let item = match seat.next(pool.hiring.idle_timeout) {
            Turn::Task(item) => item,
            Turn::Another(item, vacancy) => {
                pool.fill(vacancy);
                item
            }
            Turn::Due(item) => {
                pool.cover();
                item
            }
            Turn::Leave => {
                // While it is still counted: who has been counted out leaves nothing behind.
                shielded(|| context.finalize());
                if seat.retire() {
                    return Ok(());
                }
                continue;
            }
        };
        let outcome = context.run(item, seat);
        if outcome.is_err() || pool.floor.is_too_large() {
            shielded(|| context.finalize());
            if outcome.is_err() || seat.shrink() {
                return outcome;
            }
        }
    }
}
