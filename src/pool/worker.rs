//! The one worker loop, and the seam at which engines differ.

use std::sync::Arc;

use super::seat::{Seat, Sleep, Turn};
use super::{Item, Pool};
use crate::error::Error;
use crate::outcome::{discard, shielded};

/// What one worker of an engine is: made in the worker's thread, used by it alone.
pub(crate) trait Context: Sleep + 'static {
    type Item: Item;

    /// Before the first task. An error breaks the pool.
    fn initialize(&mut self) -> Result<(), Error>;

    /// Ends the future of `item`, whatever happens, or puts it back. An error means that this worker cannot go on,
    /// and breaks the pool.
    fn run(&mut self, item: Self::Item, seat: &Seat<'_, Self::Item>) -> Result<(), Error>;

    /// It was woken while others may do its work. If it has any, it goes on with it itself.
    fn resume(&mut self, _seat: &Seat<'_, Self::Item>) -> Result<(), Error> {
        Ok(())
    }

    /// After the last task, unless it panicked. What is to be done in any case is for its destructor.
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
        let item = match seat.next(pool.hiring.idle_timeout, &mut context) {
            Turn::Task(item) => Some(item),
            Turn::Another(item, vacancy) => {
                pool.fill(vacancy);
                Some(item)
            }
            Turn::Due(item) => {
                pool.cover();
                Some(item)
            }
            Turn::Lent => None,
            Turn::Leave if seat.retire() => {
                part(pool, context, seat);
                return Ok(());
            }
            Turn::Leave => continue,
        };
        let outcome = match item {
            Some(item) => context.run(item, seat),
            None => context.resume(seat),
        };
        if outcome.is_err() {
            shielded(|| context.finalize());
            return outcome;
        }
        if pool.floor.is_too_large() && seat.shrink() {
            part(pool, context, seat);
            return Ok(());
        }
    }
}

/// The end of a worker that was let go. While it is still counted: who has been counted out leaves nothing behind.
#[cold]
#[inline(never)]
fn part<C: Context>(pool: &Arc<Pool<C>>, mut context: C, seat: &Seat<'_, C::Item>) {
    shielded(|| context.finalize());
    discard(context);
    pool.fill(seat.see_off());
}
