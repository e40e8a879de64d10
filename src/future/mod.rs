//! [`Future`], the caller's handle on a call, and all that waits for it.
//!
//! Not here: pools. A future knows no executor; a [`Promise`] resolves it, whoever holds that.
//! Reading order: `state.rs` (the table), `slot.rs` (where job and outcome are), `cell.rs` (the one resolving
//! function), `block.rs` (how a thread waits), then the public faces.

mod as_completed;
pub(crate) mod away;
mod block;
mod cancel_on_drop;
pub(crate) mod cell;
mod group;
mod handle;
pub(crate) mod own_pool;
mod promise;
mod shared;
mod slot;
pub(crate) mod state;
mod wait;
pub(crate) mod watch;

pub use as_completed::{AsCompleted, AsCompletedTimeout, as_completed, as_completed_timeout};
pub(crate) use block::{block, deadline_after, nap, waits_for_itself};
pub use cancel_on_drop::CancelOnDrop;
pub use group::Group;
pub use handle::Future;
pub use promise::Promise;
pub use shared::SharedFuture;
pub(crate) use slot::Started;
pub(crate) use wait::Watched;
pub use wait::{AsFuture, ReturnWhen, Waited, wait, wait_timeout};
