//! The contract of `Executor`: the clauses E1 to E10 of `src/executor.rs`, each written once and
//! run on threads, on processes and, where it needs no concurrency, on the serial executor.
//! A test is named after its clause; what only one engine promises stands in `threads.rs` and
//! `processes.rs`.
//!
//! Not here: futures by hand (`tests/futures.rs`), random input (`tests/properties.rs`), workers
//! that die (`tests/faults.rs`).

concurrent_futures::init_tests!();

#[path = "../common/mod.rs"]
mod common;

#[macro_use]
mod engines;

mod callbacks;
mod cancel;
mod choice;
mod errors;
mod map;
mod processes;
mod shutdown;
mod submit;
mod threads;
mod waiting;
