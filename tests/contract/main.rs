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

mod a_as_completed;
mod b_pool;
mod bounded;
mod callbacks;
mod cancel;
mod choice;
mod errors;
mod f_future;
mod g_memory;
mod idle;
mod m_map;
mod map;
mod map_options;
mod n_names;
mod nested;
mod p_processes;
mod parity;
mod processes;
mod s_shutdown;
mod shutdown;
mod submit;
mod t_threads;
mod threads;
mod unread;
mod w_wait;
mod waiting;
mod x_executor;
mod y_async;
