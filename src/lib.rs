//! Python's `concurrent.futures` for Rust: threads and processes behind one [`Executor`].
//!
//! A function and its argument go in, a [`Future`] comes out:
//!
//! ```text
//! submit ─▶ queue ─▶ worker ─▶ outcome ─▶ waiter
//!           pending    running    done        result · wait · as_completed · callback · .await
//!
//! ThreadPoolExecutor    the worker runs the call in this process
//! ProcessPoolExecutor   the worker is a copy of this program at the other end of two pipes:
//!                       a crash costs the one call that crashed
//! AmqpExecutor          the worker is a program on another machine, behind a message broker (feature `amqp`)
//! SerialExecutor        there is no worker: the caller runs the call at once
//! ```
//!
//! # Quick start
//!
//! ```
//! use concurrent_futures::{Executor, ProcessPoolExecutor, as_completed, init};
//!
//! fn is_prime(n: u64) -> bool {
//!     n > 1 && !(2..).take_while(|d| d * d <= n).any(|d| n.is_multiple_of(d))
//! }
//!
//! const NUMBERS: [u64; 4] = [2, 1_000_003, 4_444_444_444, 999_999_937];
//!
//! fn main() -> Result<(), concurrent_futures::Error> {
//!     init();                                         // first line of main: a worker never gets past it
//!
//!     let pool = ProcessPoolExecutor::new(2)?;        // or ThreadPoolExecutor::new(2)?
//!     let future = pool.submit(is_prime, 112_272_537);
//!     println!("{}", future.result()?);
//!
//!     for (n, prime) in NUMBERS.iter().zip(pool.map(is_prime, NUMBERS)) {
//!         println!("{n} {}", prime?);
//!     }
//!
//!     let futures = NUMBERS.map(|n| (n, pool.submit(is_prime, n)));
//!     for (n, future) in as_completed(futures) {
//!         println!("{n} {}", future.result()?);
//!     }
//!     Ok(())                                          // dropping the pool waits for it
//! }
//! ```
//!
//! # Which executor, when
//!
//! | your calls | take |
//! |---|---|
//! | wait for disks, networks, other programs | [`ThreadPoolExecutor`], with many workers |
//! | compute | [`ThreadPoolExecutor`], with a worker a CPU |
//! | may crash, hang, or take all memory | [`ProcessPoolExecutor`], with [limits](guide::failures) |
//! | read what strangers send | [`ProcessPoolExecutor`], with [fewer rights](ProcessPoolBuilder::uid); it is no sandbox |
//! | borrow what the caller owns | [`ThreadPoolExecutor::scope`] ([borrowed data](guide::borrowed)) |
//! | belong to an async program | either; [await the future](guide::asynchronous) |
//! | are being debugged | [`SerialExecutor`] |
//! | go beyond one machine | `AmqpExecutor`, feature `amqp`; the guide has a page `machines` |
//! | run on something else yet | an [`Executor`] of your own |
//!
//! [`guide::choosing`] has the reasons, and what each costs. Further pages: [failures](guide::failures),
//! [nesting](guide::nesting), [back-pressure](guide::back_pressure), [bulk data](guide::bulk),
//! [talking to running tasks](guide::talking), [control over workers](guide::workers).
//!
//! # From Python
//!
//! The names are Python's, with three changes: a pool that is dropped waits, as `with` does; a call has
//! one argument, so several are a tuple; errors are values, [`Error`]. [`coming_from_python`] has
//! every idiom with ours beside it, and where we differ on purpose.
//!
//! # Promises
//!
//! 1. Every future ends exactly once, whatever dies. Nothing leaves a waiter hanging.
//! 2. The death of a worker fails at most the one call that it had started.
//! 3. No call runs twice, unless its [`TaskOptions`] say so; then it knows which attempt it is. (On other machines a call is
//!    made again when its worker does not come back; its future ends once all the same.)
//! 4. A time limit and [`Future::kill`] stop the code of a worker process of this machine: when the future is over, it has
//!    stopped.
//! 5. No worker process outlives its pool or its host: busy, idle or stopped.
//! 6. A worker that cannot start fails the pool with a clear error after three attempts; never a spin.
//! 7. No user code runs under a lock, and no panic of it crosses the library's edge.
//!
//! # Platforms
//!
//! Linux is tested. Thread pools are portable. Process pools are written for the other Unixes too,
//! but have not been run there; elsewhere their constructors return [`Error::Unsupported`]. Other machines are tested
//! with RabbitMQ 3.10 on Linux.
//!
//! # Reading the source
//!
//! `future/state.rs` → `account.rs` → `observer.rs` → `quantiles.rs` → `stats.rs` → `future/slot.rs` → `future/cell.rs` → `task/mod.rs` → `task/jobs.rs` → `options.rs` →
//! `map/mod.rs` → `task/course.rs` → `pool/mod.rs` → `pool/queue.rs` → `pool/floor.rs` → `pool/seat.rs` → `pool/worker.rs` →
//! `pool/later.rs` → `pool/call.rs` → `future/own_pool.rs` → `thread/context.rs` → `thread/scope.rs` → `wire/frame.rs` →
//! `process/child.rs` → `process/lanes.rs` →
//! `process/window.rs` → `process/context.rs` → `process/endings.rs` → `process/rest.rs` → `process/berth.rs` →
//! `process/deaths.rs` → `process/departures.rs` → `signals.rs` → `process/remarks.rs` → `process/host.rs` →
//! `shared.rs` → `sealed.rs` → `enclosed.rs` → `process/post.rs` → `sync/mod.rs` → `process/service.rs` →
//! `process/entry.rs` → `process/terms.rs` → `portable/descriptor.rs` → `portable/decoder.rs` → `timeline/mod.rs` → `spans/mod.rs` → `process/ear.rs` →
//! `amqp/mod.rs`, which has the order of its own.
//! Imports point down: `id` ← `error` ← `outcome` ← { `options`, `unread`, `worker` ← `observer` ← `account` ← `signals` } ← `future` ← `map` ← `task` ← `pool` ←
//! { `thread`, `process` } ← `amqp`; `sealed` ← `enclosed` ← { `shared`, `sync`, `portable`, `task` };
//! `wire` ← `portable` ← { `task`, `process` }.

// A model has no processes, and so leaves what only they need without a use.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

mod account;
#[cfg(all(feature = "amqp", unix, not(loom)))]
mod amqp;
mod enclosed;
mod error;
mod executor;
mod future;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(test, not(fuzzing), not(loom)))]
mod fuzzing;
mod id;
mod map;
mod observer;
mod options;
mod outcome;
mod pool;
mod portable;
mod primitives;
#[cfg(all(unix, not(loom)))]
mod process;
#[cfg(any(not(unix), loom))]
#[path = "process_unsupported.rs"]
mod process;
mod quantiles;
#[cfg_attr(not(target_os = "linux"), path = "sealed_unsupported.rs")]
mod sealed;
mod serial;
mod shared;
mod signals;
#[cfg(all(feature = "tracing", not(loom)))]
mod spans;
mod stats;
pub mod sync;
pub mod task;
mod thread;
#[cfg(feature = "timeline")]
pub mod timeline;
mod unread;
#[cfg(all(test, not(loom)))]
#[path = "../tests/common/watchdog.rs"]
mod watchdog;
mod wire;
mod worker;

#[cfg(all(feature = "amqp", unix, not(loom)))]
pub use amqp::{AmqpBuilder, AmqpExecutor, AmqpStopper, AmqpWorker, AmqpWorkerBuilder, Tls};
pub use error::{Error, Panic, RemoteError};
pub use executor::{Executor, Returned, Shutdown};
pub use future::{
    AsCompleted, AsCompletedTimeout, AsFuture, CancelOnDrop, Future, Group, Promise, ReturnWhen,
    SharedFuture, Waited, as_completed, as_completed_timeout, wait, wait_timeout,
};
pub use id::{FutureId, TaskRef};
pub use map::{Map, MapOptions, MapUnordered};
pub use observer::{Event, Observer, What, observe};
pub use options::TaskOptions;
pub use portable::Portable;
pub use process::{ProcessPoolBuilder, ProcessPoolExecutor, WorkerDeath, init};
pub use quantiles::Quantiles;
pub use serial::SerialExecutor;
pub use shared::{Blob, Shared};
pub use stats::Stats;
#[doc(inline)]
pub use task::Task;
pub use thread::{Scope, ScopedFuture, ScopedMap, ThreadPoolBuilder, ThreadPoolExecutor};
pub use unread::set_unread_error_hook;
pub use worker::WorkerInfo;

/// Makes worker processes possible in a test binary, which has no `main` of its own to call
/// [`init`] in. One line at the top of the file, under `cargo test` and under nextest:
///
/// ```no_run
/// concurrent_futures::init_tests!();
/// # fn main() {}
/// ```
///
/// It places a function that runs before `main` and calls [`init`]. The lint `unsafe_code` sees
/// the placing; a crate that forbids it can write its tests with `harness = false`.
#[macro_export]
macro_rules! init_tests {
    () => {
        const _: () = {
            extern "C" fn init_before_main() {
                $crate::init();
            }

            #[used]
            #[allow(unsafe_code)]
            #[cfg_attr(
                any(
                    target_os = "linux",
                    target_os = "android",
                    target_os = "freebsd",
                    target_os = "netbsd",
                    target_os = "openbsd",
                    target_os = "dragonfly",
                    target_os = "illumos"
                ),
                unsafe(link_section = ".init_array")
            )]
            #[cfg_attr(
                target_vendor = "apple",
                unsafe(link_section = "__DATA,__mod_init_func,mod_init_funcs")
            )]
            static INIT: extern "C" fn() = init_before_main;
        };
    };
}

#[cfg(any(doc, doctest))]
#[doc = include_str!("coming_from_python.md")]
pub mod coming_from_python {}

#[cfg(any(doc, doctest))]
pub mod guide;

/// The README's code compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
