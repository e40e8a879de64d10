//! Futures, looked at: their state, an error to fail them with, what their callbacks are told.

use std::fmt;
use std::sync::mpsc;

use concurrent_futures::{Error, Future, Promise};

/// The one state that all three questions agree on.
pub(crate) fn state<T>(future: &Future<T>) -> &'static str {
    match (future.running(), future.done(), future.cancelled()) {
        (false, false, false) => "pending",
        (true, false, false) => "running",
        (false, true, false) => "done",
        (false, true, true) => "cancelled",
        other => panic!("no such state: {other:?}"),
    }
}

/// Ends the promise with an error that [`is_failure`] knows again.
pub(crate) fn fail<T: Send>(promise: Promise<T>) {
    let error = Error::raised(promise.task(), "it failed");
    promise.fail(error);
}

#[track_caller]
pub(crate) fn is_failure<T: fmt::Debug>(outcome: Result<T, Error>) {
    assert!(
        matches!(&outcome, Err(error @ Error::Raised { .. }) if error.to_string().contains("it failed")),
        "{outcome:?}"
    );
}

/// A callback on that future, and what it is told.
pub(crate) fn told<T: fmt::Debug + 'static>(future: &Future<T>) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    future.add_done_callback(move |outcome| {
        tell.send(outcome.map_or_else(|error| error.to_string(), |value| format!("{value:?}"))).unwrap();
    });
    told
}
