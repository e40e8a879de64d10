//! What is said to calls that run, and by them: "you are not wanted any more", and "so far I am".
//!
//! ```text
//!   Future::cancel, a time limit, shutdown ── cancel ──▶ │ board │ ◀── is it wanted? ── task::cancelled
//!   Future::on_progress ────────────────────── listen ─▶ │       │ ◀── so far I am ──── task::progress
//! ```
//!
//! The board is one for the process, and nearly always empty: then nobody looks at it but for one number. A call is on
//! it by the number of its future, from when somebody has something to say to it until it is over. A call that runs in a
//! worker process hears and speaks through its host (`process/host.rs`).
//!
//! Not here: what is done to a call that does not listen. The rule: no code of the user runs, and none of it is
//! dropped, under the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::account;
use crate::id::{FutureId, Home, TaskRef};
use crate::outcome::{Innermost, catch, discard, innermost};
use crate::primitives::Ordering;
use crate::primitives::statics::AtomicUsize;

/// Who wants to know how far a call is: so many done of so many.
pub(crate) type Listener = Arc<dyn Fn(u64, u64) + Send + Sync>;

#[derive(Default)]
struct Board {
    /// Calls that somebody has tried to cancel while they ran.
    unwanted: BTreeSet<FutureId>,
    /// Pools that were shut down with all that they have.
    closing: BTreeSet<u32>,
    listeners: BTreeMap<FutureId, Vec<Listener>>,
}

static BOARD: Mutex<Board> =
    Mutex::new(Board { unwanted: BTreeSet::new(), closing: BTreeSet::new(), listeners: BTreeMap::new() });

/// How much there is on the board.
static NOTES: AtomicUsize = AtomicUsize::new(0);

/// Changes the board, and notes how much there is on it.
fn change<R>(how: impl FnOnce(&mut Board) -> R) -> R {
    let mut board = board();
    let changed = how(&mut board);
    let notes = board.unwanted.len() + board.closing.len() + board.listeners.len();
    NOTES.store(notes, Ordering::SeqCst);
    changed
}

fn board() -> MutexGuard<'static, Board> {
    BOARD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_empty() -> bool {
    NOTES.load(Ordering::SeqCst) == 0
}

/// A call that runs is not wanted any more. `is_over`, asked afterwards: nothing is noted of one that has ended.
pub(crate) fn cancel(call: FutureId, is_over: impl FnOnce() -> bool) {
    change(|board| board.unwanted.insert(call));
    if is_over() {
        forget(call);
    }
}

/// All calls that run in that pool are not wanted any more, until it is gone.
pub(crate) fn cancel_all(home: Home) {
    change(|board| board.closing.insert(home.number()));
}

/// There is no such pool any more.
pub(crate) fn forget_all(home: Home) {
    if !is_empty() {
        change(|board| board.closing.remove(&home.number()));
    }
}

/// Tells `listener` from now on how far that call is. `is_over`: as of [`cancel`].
pub(crate) fn listen(call: FutureId, listener: Listener, is_over: impl FnOnce() -> bool) {
    change(|board| board.listeners.entry(call).or_default().push(listener));
    if is_over() {
        forget(call);
    }
}

/// That call is over.
#[inline]
pub(crate) fn forget(call: FutureId) {
    if !is_empty() {
        let listeners = change(|board| {
            board.unwanted.remove(&call);
            board.listeners.remove(&call)
        });
        discard(listeners);
    }
}

/// Has somebody tried to cancel that call? Asked under the lock, even where the board seems empty: an answer of no comes
/// before the note, and whoever makes it sees what was done before that answer.
pub(crate) fn is_unwanted(call: FutureId) -> bool {
    board().unwanted.contains(&call)
}

/// Does anybody want to know how far that call is?
pub(crate) fn is_heard(call: FutureId) -> bool {
    !is_empty() && board().listeners.contains_key(&call)
}

/// That call says how far it is. Who listens does so as a part of it: it cannot wait for its end.
pub(crate) fn tell(task: TaskRef, done: u64, total: u64) {
    if is_empty() {
        return;
    }
    let listeners = board().listeners.get(&task.id).cloned().unwrap_or_default();
    for listener in listeners {
        // It has nobody to go to; the panic hook has told of it.
        discard(catch(task, || listener(done, total)).err());
        discard(listener);
    }
}

/// The host of a worker process, as the call sees it that runs there for it.
pub(crate) trait Host: Send + Sync {
    /// Does it not want that call any more?
    fn has_cancelled(&self) -> bool;
    /// Tells it how far the call is.
    fn progress(&self, done: u64, total: u64);
    /// What this worker is called.
    fn worker(&self) -> &str;
}

static HOST: OnceLock<Box<dyn Host>> = OnceLock::new();

/// This process works for that host.
pub(crate) fn work_for(host: impl Host + 'static) {
    let _ = HOST.set(Box::new(host));
}

/// The host for which the innermost call on this thread runs, if it is not one of this process.
fn host(call: &Innermost) -> Option<&'static dyn Host> {
    if call.future.is_some() {
        return None;
    }
    HOST.get().map(|host| &**host)
}

/// Is the innermost call on this thread, which works for that pool, not wanted any more?
pub(crate) fn is_cancelled(home: Home) -> bool {
    let Some(call) = innermost() else { return false };
    if let Some(host) = host(&call) {
        return host.has_cancelled();
    }
    !is_empty() && {
        let board = board();
        board.closing.contains(&home.number()) || call.future.is_some_and(|id| board.unwanted.contains(&id))
    }
}

/// The innermost call on this thread, which works for that pool, says how far it is.
pub(crate) fn progress(home: Home, done: u64, total: u64) {
    let Some(call) = innermost() else { return };
    match (host(&call), call.future) {
        (Some(host), _) => host.progress(done, total),
        (None, Some(id)) => {
            let task = TaskRef { name: call.name, id };
            account::progress(home, task, done, total);
            tell(task, done, total);
        }
        (None, None) => {}
    }
}

/// What the worker is called in which the innermost call on this thread runs, if this process works for a host.
pub(crate) fn hosts_worker() -> Option<&'static str> {
    let call = innermost()?;
    host(&call).map(Host::worker)
}
