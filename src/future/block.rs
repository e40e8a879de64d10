//! How a thread waits for one future: it looks for a moment, then sleeps.

use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::away::has_waited;
use super::cell::Watch;
use super::own_pool::{StandIn, help};
use super::state::Want;
use super::watch::Watcher;
use crate::error::Error;
use crate::primitives::channel::Receiver;
use crate::primitives::{Parker, look, thread_local};

thread_local! {
    static PARKER: Arc<Parker> = Arc::default();
}

/// Waits until `cell` has what is wanted; false if `deadline` passed first, or if this thread
/// would wait for itself, which is for ever.
pub(crate) fn block(cell: &dyn Watch, want: Want, deadline: Option<Instant>) -> bool {
    has_waited();
    // What it waits for may only be waiting for it.
    while deadline.is_none() && help(iter::once(cell)) {
        if cell.has(want) {
            return true;
        }
    }
    // Not for those who only ask.
    if deadline.is_none_or(|deadline| Instant::now() < deadline) {
        cell.attend();
    }
    if look::watch(|| cell.has(want)) {
        return true;
    }
    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        return cell.has(want);
    }
    if cell.waits_for_itself(want) {
        return false;
    }
    // With a limit, before it stands still for the first time: where many wait again and again for less than a
    // moment, none of them would be found away.
    let mut stand_in = deadline.map(|_| StandIn::while_waiting_for(iter::once(cell)));
    if look::give_way(|| cell.has(want)) {
        return true;
    }
    stand_in.get_or_insert_with(|| StandIn::while_waiting_for(iter::once(cell)));
    // A thread that is ending has given its parker back.
    let parker = PARKER.try_with(Arc::clone).unwrap_or_default();
    let watcher = Watcher::Thread(Arc::clone(&parker));
    loop {
        if !cell.watch(&watcher, want) {
            return true;
        }
        let in_time = parker.park(deadline);
        cell.unwatch(&watcher);
        if cell.has(want) {
            return true;
        }
        if !in_time {
            return false;
        }
        // Woken for something else: by the end, while callbacks look at the value; by a wait
        // that this thread was in before.
    }
}

/// Sleeps until `cell` has what is wanted, for some time at the most. For those who can do without, and know that it
/// takes a moment: so they do not look before, and nobody stands in for them.
pub(crate) fn nap(cell: &dyn Watch, want: Want, until: Instant) {
    let parker = PARKER.try_with(Arc::clone).unwrap_or_default();
    let watcher = Watcher::Thread(Arc::clone(&parker));
    if cell.watch(&watcher, want) {
        parker.park(Some(until));
        cell.unwatch(&watcher);
    }
}

/// The next number in a mailbox. `None`: the time is over.
pub(super) fn arrival(mailbox: &Receiver<usize>, deadline: Option<Instant>) -> Option<usize> {
    match deadline {
        None => mailbox.recv().ok(),
        // Whoever only asks is not to wait: the channel yields a few times before it looks at the
        // clock, and on a busy machine each time may cost milliseconds.
        Some(deadline) if Instant::now() >= deadline => mailbox.try_recv().ok(),
        Some(deadline) => mailbox.recv_deadline(deadline).ok(),
    }
}

/// The moment `limit` from now. `None`, which means never, if the clock does not reach so far.
pub(crate) fn deadline_after(limit: Duration) -> Option<Instant> {
    Instant::now().checked_add(limit)
}

/// The error of a wait that would never end.
pub(crate) fn waits_for_itself(cell: &dyn Watch) -> Error {
    Error::invalid(
        format!("{} waits for its own result", cell.task()),
        "inside the call, return the value; inside a callback, use the one that it is given",
    )
}

/// Why a wait with a limit came back without the value.
pub(super) fn late(cell: &dyn Watch, limit: Duration) -> Error {
    if cell.waits_for_itself(Want::Value) {
        return waits_for_itself(cell);
    }
    Error::TimedOut { what: cell.task().to_string(), limit }
}
