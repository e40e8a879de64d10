//! Feature `tracing`: a span for each call, and what is logged in a worker process reaches the subscriber of its host.
//!
//! ```text
//!   submit ── the submitter's span ─▶ span `task` ◀─ entered ─ a thread that runs the call
//!                                        ▲
//!                                        └─ as its events ── ear ◀═ socket ═ mouth ◀─ layer ── a worker process
//! ```
//!
//! | file        | what is there                                                            |
//! |-------------|--------------------------------------------------------------------------|
//! | `tasks.rs`  | the observer that makes, fills and ends the spans                        |
//! | `layer.rs`  | in a worker process: the subscriber that puts each event into a record   |
//! | `record.rs` | what travels                                                             |
//! | `again.rs`  | in the host: a record becomes an event again, under the span of its call |
//!
//! Not here: when it is told what (`observer.rs`), and how a record gets to the host (`process/ear.rs`). The rule: where
//! nobody listens, nothing is made and nothing is sent; and what a worker says can be wrong, long or nonsense, and is never
//! more than text.

#[cfg(unix)]
mod again;
#[cfg(unix)]
mod layer;
#[cfg(unix)]
mod record;
mod tasks;

use tracing::Dispatch;
use tracing::dispatcher::{WeakDispatch, get_default, with_default};
use tracing::subscriber::NoSubscriber;

#[cfg(unix)]
pub(crate) use again::{Worker, tell_again};
#[cfg(unix)]
pub(crate) use layer::{install, wanted};
#[cfg(unix)]
pub(crate) use record::LONGEST;
pub(crate) use tasks::Spans;

/// The target of the spans and events of pools themselves.
pub(crate) const TARGET: &str = "concurrent_futures";

/// The subscriber of the thread that built a pool: for what belongs to no call. It is not kept alive.
pub(crate) struct Home(Option<WeakDispatch>);

impl Home {
    /// That of this thread.
    pub(crate) fn of_this_thread() -> Self {
        Home(get_default(|dispatch| is_one(dispatch).then(|| dispatch.downgrade())))
    }

    /// Runs `tell` where events go there; if there was none, to what there is by now.
    pub(crate) fn with<R>(&self, tell: impl FnOnce() -> R) -> R {
        match self.0.as_ref().and_then(WeakDispatch::upgrade) {
            Some(dispatch) => with_default(&dispatch, tell),
            None => tell(),
        }
    }
}

/// Is there anybody who listens?
fn is_one(dispatch: &Dispatch) -> bool {
    !dispatch.is::<NoSubscriber>()
}
