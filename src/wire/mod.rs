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
//!
//! # What a worker cannot do to its host
//!
//! Whatever has got hold of a worker can write any bytes into its pipe, and into the page of memory that it shares
//! with its host (`process/lanes.rs`), where each number is read once and checked. Three things they cannot do
//! (`tests/hostile.rs` tries; `src/fuzzing.rs` has what must hold for all bytes):
//!
//! - **Take memory that they do not fill.** Above the limit nothing is read, and below it the memory
//!   of a frame (`frame.rs`), of a message (`message.rs`) and of a value (`portable/decoder.rs`)
//!   follows the bytes that arrived. So does the time to read them, and the stack.
//! - **Make the host jump.** It follows references of its own making alone (`portable/descriptor.rs`:
//!   `of` gives them out, and `resolve` is for what a worker receives). Hello, Refusal, Returned and
//!   Failed hold none; a Call is out of place, and nobody looks into it.
//! - **End another call.** A connection is that of one worker, which has a few calls in hand. A reply bears the
//!   id of the first of them that the worker has claimed; anything else is an error, and so is anything
//!   that is there before a call is sent. What it answers is a call that it was given, and it is free to
//!   answer that as it likes.
//!
//! What is none of this is a [`WireError`](frame::WireError): the connection is over, the worker is
//! killed and replaced, the call that it had claimed ends with `Error::Decode`, and no other notices. (One that claims
//! what it does not run loses that too: those of its own hands.)

pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod message;

#[cfg(all(test, not(loom)))]
mod tests;
