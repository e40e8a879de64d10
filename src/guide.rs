//! The guide: one page for each thing that Rust programmers expect beyond Python.

#[doc = include_str!("guide/choosing.md")]
pub mod choosing {}

#[doc = include_str!("guide/failures.md")]
pub mod failures {}

#[doc = include_str!("guide/async.md")]
pub mod asynchronous {}

#[doc = include_str!("guide/borrowed.md")]
pub mod borrowed {}

#[doc = include_str!("guide/nesting.md")]
pub mod nesting {}

#[doc = include_str!("guide/back_pressure.md")]
pub mod back_pressure {}

#[doc = include_str!("guide/bulk.md")]
pub mod bulk {}

#[doc = include_str!("guide/talking.md")]
pub mod talking {}

#[doc = include_str!("guide/workers.md")]
pub mod workers {}

#[doc = include_str!("guide/observing.md")]
pub mod observing {}

#[cfg(feature = "tracing")]
#[doc = include_str!("guide/tracing.md")]
pub mod tracing {}

#[cfg(feature = "amqp")]
#[doc = include_str!("guide/machines.md")]
pub mod machines {}
