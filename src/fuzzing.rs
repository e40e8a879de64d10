//! What must hold whatever bytes arrive: one function for each place where bytes become something else.
//!
//! Each takes bytes that a fuzzer made up, and panics if a property does not hold. `tests/fuzz` runs
//! them for as long as one likes and keeps the inputs that led somewhere new; `replay.rs` runs them on
//! all of those. Not here: examples of what is right (the tests beside the code).
//!
//! The rule: what is asserted holds for *all* bytes, and an input means the same in every build: it
//! names a function by its place in a list, never by an address.

#![allow(unreachable_pub, reason = "public for the fuzzer, and for it alone")]

mod arguments;
mod frames;
mod messages;
mod references;
mod seeds;

#[cfg(test)]
mod replay;

pub use arguments::arguments;
pub use frames::frames;
pub use messages::messages;
pub use references::references;
pub use seeds::seeds;

/// A name, which is that of the corpus too, and what must not panic.
pub type Target = (&'static str, fn(&[u8]));

/// All there are.
pub const TARGETS: [Target; 4] =
    [("frames", frames), ("messages", messages), ("references", references), ("arguments", arguments)];
