//! What ran when, and where: a recording of pools as a picture, as a trace, as three short tables. Feature `timeline`.
//!
//! ```text
//!   pools ── events ──▶ Recorder ── timeline() ──▶ Timeline ─┬─▶ .svg    a lane per worker, a bar per call, the queue
//!                                                            ├─▶ .json   for Perfetto or chrome://tracing
//!                                                            └─▶ tables  workers, the slowest calls, latencies
//! ```
//!
//! # Without a change of code
//!
//! A program that is built with the feature records itself if the variable `CONCURRENT_FUTURES_TRACE` is set:
//!
//! ```sh
//! CONCURRENT_FUTURES_TRACE=timeline.svg my-program      # the picture
//! CONCURRENT_FUTURES_TRACE=timeline.json my-program     # the trace
//! CONCURRENT_FUTURES_TRACE= my-program                  # the tables, on stderr
//! ```
//!
//! Whenever a pool is over, the file is written anew with all that was recorded so far, in the thread that noticed the
//! end; it is there whole or not at all. That takes about 0.1 s for each 100,000 calls. A program that ends without
//! waiting for its pools may leave nothing. Recorded are the first million events. A file that cannot be written costs a
//! line on stderr and nothing else.
//!
//! Worker processes, and programs that they start, do not record: what they run is recorded by their host. A program that
//! has other rights than whoever started it (setuid) does not look at the variable.
//!
//! # With a recorder
//!
//! ```
//! use concurrent_futures::ThreadPoolExecutor;
//! use concurrent_futures::timeline::Recorder;
//!
//! let recorder = Recorder::new();
//! let pool = ThreadPoolExecutor::builder().max_workers(2).observer(recorder.clone()).build()?;
//! let squares: Vec<_> = (0..10u64).map(|n| pool.spawn(move || n * n)).collect();
//! for square in squares {
//!     square.result()?;
//! }
//!
//! let timeline = recorder.timeline();             // at any time, also while the pool works
//! print!("{timeline}");                           // the tables
//! let picture = std::env::temp_dir().join("squares.svg");
//! timeline.write(&picture)?;
//! # std::fs::remove_file(&picture)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One recorder may be given to several pools: they share the time axis. [`observe`](crate::observe) gives it to all.
//!
//! # How to read the picture
//!
//! Time goes from left to right. A lane is a worker; a process that took the place of another goes on in its lane. Its grey
//! band is the time that the worker was there, hatched until it was ready. A bar is one attempt of a call, from the moment
//! at which the worker began it to the moment at which the pool knew of its end. A call that ran inside of another one,
//! which waited for it, is a thinner bar in that. Bars too narrow to be drawn are drawn together: the higher the column,
//! the busier the worker, and what did not go well stays on top in its colour. Beneath the lanes of a pool is how many of
//! its calls were queued, with a tick for each that ended without having been run. The lane "elsewhere" has those that none
//! of the pool's workers ran.

mod environment;
mod file;
mod lanes;
mod names;
mod picture;
mod recorder;
mod story;
mod tables;
mod trace;

#[cfg(all(test, not(loom)))]
mod invented;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use environment::of_environment;
pub use recorder::Recorder;
pub use story::{Attempt, Outcome, TaskRecord, Timeline, WorkerEnd, WorkerRecord};
