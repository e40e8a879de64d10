//! How a call ends: the one place where panics are caught, and where an ending crosses a
//! process wall and back.
//!
//! A panic hook of ours notes where a panic happened and, where the user asked for it, the
//! backtrace; the payload that `catch_unwind` gives knows neither. It hands on to the hook
//! that was there before, except in a worker process, where the report itself travels.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Arc, Once};

use crate::error::{Error, Panic, RemoteError};
use crate::id::{FutureId, TaskRef};
use crate::primitives::statics::AtomicBool;
use crate::primitives::{Ordering, thread_local};
use crate::wire::message::{Failure, RemoteCause};

/// In a worker process a panic is told in the reply, not on stderr.
static QUIET: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The calls that run on this thread, innermost last (a serial executor nests them).
    static RUNNING: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

thread_local! {
    /// The number of the attempt that the other side asks for, whose call this thread makes.
    static HOSTS_ATTEMPT: Cell<u32> = const { Cell::new(1) };
}

thread_local! {
    /// How many panics have been noted on this thread.
    static NOTED: Cell<usize> = const { Cell::new(0) };
}

struct Call {
    /// The future that waits for it, if that is one of this process.
    future: Option<FutureId>,
    name: &'static str,
    attempt: u32,
    /// Boxed: few panic, and all are put here.
    place: Option<Box<Place>>,
}

/// Where a panic happened.
#[derive(Default)]
struct Place {
    location: Option<String>,
    backtrace: Option<String>,
}

/// Runs user code that is `task`, and turns a panic into a report.
pub(crate) fn catch<R>(task: TaskRef, call: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_attempt(task, 1, call)
}

/// The same for one attempt of several.
pub(crate) fn catch_attempt<R>(task: TaskRef, attempt: u32, call: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_as(Some(task.id), task.name, attempt, call)
}

/// The same for a call of another process: the future is one of that, whose numbers are not ours.
pub(crate) fn catch_for_the_host<R>(name: &'static str, call: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_as(None, name, HOSTS_ATTEMPT.try_with(Cell::get).unwrap_or(1), call)
}

/// Notes which attempt the other side asks for, before this thread makes the call.
pub(crate) fn set_hosts_attempt(number: u32) {
    let _ = HOSTS_ATTEMPT.try_with(|attempt| attempt.set(number));
}

/// What is known of a call to the code that it runs.
pub(crate) struct Innermost {
    /// Its future, if that is one of this process.
    pub(crate) future: Option<FutureId>,
    pub(crate) name: &'static str,
    pub(crate) attempt: u32,
}

/// The innermost call on this thread.
pub(crate) fn innermost() -> Option<Innermost> {
    let of = |call: &Call| Innermost { future: call.future, name: call.name, attempt: call.attempt };
    with_running(|running| running.last().map(of)).flatten()
}

fn catch_as<R>(
    future: Option<FutureId>,
    name: &'static str,
    attempt: u32,
    call: impl FnOnce() -> R,
) -> Result<R, Panic> {
    note_panics();
    with_running(|running| running.push(Call { future, name, attempt, place: None }));
    let outcome = catch_unwind(AssertUnwindSafe(call));
    let place = with_running(Vec::pop).flatten().and_then(|call| call.place);
    outcome.map_err(|payload| {
        let Place { location, backtrace } = place.map_or_else(Place::default, |place| *place);
        Panic::new(message(&*payload), location, backtrace, Some(payload))
    })
}

/// The items of a chunk, each of which is a call, with one `catch` around as many as end without a panic: around each
/// it costs more than a short call does. Whoever catches one takes it for that of the item that was given last, makes
/// that one's failure of it, and begins another run with the next item.
///
/// To be made inside of the `catch`. A panic that an item has caught itself is not told of a later one.
pub(crate) fn run_of<I: Iterator>(items: I) -> RunOf<I> {
    RunOf { items, noted: noted() }
}

pub(crate) struct RunOf<I> {
    items: I,
    noted: usize,
}

impl<I: Iterator> Iterator for RunOf<I> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        let noted = noted();
        if noted != self.noted {
            self.noted = noted;
            forget_place();
        }
        self.items.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

#[inline]
fn noted() -> usize {
    NOTED.try_with(Cell::get).unwrap_or(0)
}

#[cold]
fn forget_place() {
    with_running(|running| running.last_mut().map(|call| call.place = None));
}

/// Is the future `id` the one of a call that runs on this thread? Then waiting for it here never ends.
pub(crate) fn is_running_here(id: FutureId) -> bool {
    with_running(|running| running.iter().any(|call| call.future == Some(id))).unwrap_or(false)
}

/// `None` in a thread that is ending and has given its list back.
fn with_running<R>(look: impl FnOnce(&mut Vec<Call>) -> R) -> Option<R> {
    RUNNING.try_with(|running| look(&mut running.borrow_mut())).ok()
}

/// Runs user code whose panic has nobody to go to (a callback, a waker, a destructor).
/// The panic hook has told of it by then.
pub(crate) fn shielded(call: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
        // A payload may panic in its destructor, without end: try once.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(std::mem::forget);
    }
}

/// Drops what belongs to the user.
pub(crate) fn discard<T>(value: T) {
    if std::mem::needs_drop::<T>() {
        shielded(|| drop(value));
    }
}

/// Makes this process tell panics of calls in the reply alone.
pub(crate) fn quieten() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Puts the hook in place, once a process, before the first call.
fn note_panics() {
    static ONCE: Once = Once::new();
    // The hook cannot be changed while this thread unwinds; the next call will do it. In a model
    // the model checker itself panics, and then has no threads to note it for.
    if ONCE.is_completed() || std::thread::panicking() || cfg!(loom) {
        return;
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let noted = note(panic);
            // Where a panic ends the process, there will be no reply to tell it in.
            if !(noted && QUIET.load(Ordering::Relaxed)) || cfg!(panic = "abort") {
                before(panic);
            }
        }));
    });
}

/// Notes the place of a panic inside a call.
fn note(panic: &PanicHookInfo<'_>) -> bool {
    // The thread may be ending, or be inside these very lines.
    let noted = RUNNING.try_with(|running| {
        let Ok(mut running) = running.try_borrow_mut() else { return false };
        let Some(call) = running.last_mut() else { return false };
        let backtrace = Backtrace::capture();
        call.place = Some(Box::new(Place {
            location: panic.location().map(ToString::to_string),
            backtrace: (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string()),
        }));
        let _ = NOTED.try_with(|noted| noted.set(noted.get().wrapping_add(1)));
        true
    });
    noted.unwrap_or(false)
}

/// The text of a panic's payload.
fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&'static str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is not text".into())
}

/// The error of `task`, from what arrived in its place.
pub(crate) fn arrived(task: TaskRef, failure: Failure) -> Error {
    match failure {
        Failure::Panicked { message, location, backtrace } => {
            Error::Panicked { task, panic: Panic::new(message, location, backtrace, None) }
        }
        Failure::Raised(RemoteCause { type_name, message, sources }) => {
            Error::Raised { task, error: Arc::new(RemoteError::new(type_name, message, sources)) }
        }
        Failure::Undecodable { what, reason } => Error::Decode { task, what: side(&what), reason },
        Failure::Unencodable { what, reason } => Error::Encode { task, what: side(&what), reason },
        Failure::UnknownFunction { reason } => Error::NotPortable { task, reason },
        Failure::Refused { reason } => Error::broken(reason, None),
    }
}

/// The two things that travel.
fn side(what: &str) -> &'static str {
    if what == "argument" { "argument" } else { "return value" }
}
