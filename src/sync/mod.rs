//! Queues, events, semaphores and locks that tasks and those who submit them share: between threads, and between worker
//! processes and their host, whichever the engine is.
//!
//! ```text
//!                     host                             worker processes
//!   Queue, Event, Semaphore, Lock  ◀── ask, answer ──  handles, that came as arguments
//! ```
//!
//! Each is a handle: its clones are the same one, and it travels as (a part of) the argument of a task, of an initializer,
//! or of an item of a [`Queue`], to threads as it is and to worker processes by its number. What it stands for stays where it
//! was made. A worker asks for what it wants, over a socket of its own; no memory, pipe or lock is shared, so nobody hangs
//! because another was killed. What one had that died is given back: a [`Permit`] and a [`LockGuard`] to the next one, who
//! is [told](LockGuard::is_abandoned), an item of a queue to [`Queue::take_lost`].
//!
//! A handle crosses one wall, in both directions: a worker can give it back, or hand it on to another worker by way of a
//! queue of the host; to a worker process of its own it cannot. Anywhere else it does not serialize.
//!
//! ```
//! use concurrent_futures::{Executor, ProcessPoolExecutor, sync::Queue};
//!
//! fn sum(numbers: Queue<u64>) -> u64 {
//!     numbers.iter().filter_map(Result::ok).sum()
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     concurrent_futures::init();
//!     let (pool, numbers) = (ProcessPoolExecutor::new(1)?, Queue::bounded(8));
//!     let sum = pool.submit(sum, numbers.clone());
//!     for n in 1..=100 {
//!         numbers.put(n)?;
//!     }
//!     numbers.close();
//!     assert_eq!(sum.result()?, 5050);
//!     Ok(())
//! }
//! ```
//!
//! Reading order: `hall.rs` → `event.rs` → `permits.rs` → `queue.rs` → `served.rs` → `handle.rs`; then `process/desk.rs` and
//! `process/errands.rs`, which carry what is asked.

mod event;
mod hall;
mod handle;
mod permits;
mod queue;
mod served;

pub use event::Event;
pub(crate) use hall::Bell;
pub(crate) use handle::{ask_at, end_call, objects_in};
pub use permits::{Lock, LockGuard, Permit, Semaphore};
pub use queue::{GetError, PutError, Queue};
pub(crate) use served::{Answer, Ask, Desk, Errand, HERE, Op, Packed, Served, Told};
