//! The wire: what two processes, or two machines, say to each other.
//!
//! Three layers, each of which knows only the one before it:
//!
//! ```text
//! frame        bytes: where a message starts and ends, of which kind, for which task
//! message      meaning: hello, a call, why there is no value
//! connection   transport: frames over any pair of Read and Write
//! ```
//!
//! It is not the conversation (who speaks when is the business of the pools),
//! and it never sees a task's argument or value as anything but bytes.
//!
//! The rule: **the other side is never trusted.** Whatever arrives, the answer is
//! a frame or a [`WireError`](frame::WireError); no panic, and no memory for bytes
//! that were announced but did not arrive.

pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod message;

#[cfg(all(test, not(loom)))]
mod tests;
