//! The contract of `Executor`, each clause written once and run on threads, on processes and, where it
//! needs no concurrency, on the serial executor; what one engine alone promises is written for it.
//! With the feature `amqp`, and a broker in AMQP_URL, it is run over that too (`amqp.rs`).
//!
//! Two ways of naming. `e1_` to `e10_` are the clauses of `src/executor.rs`: what every executor owes.
//! `f6_`, `m13_` and so on are clauses of parity with CPython's module, listed in `tests/PARITY.md`, in one file for
//! each letter; "there" in their comments is Python. A clause of the contract that is one of parity too has
//! the name of that.
//!
//! Not here: futures by hand (`tests/futures.rs`), random input (`tests/properties`), workers
//! that die (`tests/faults.rs`), hosts (`tests/host.rs`, `tests/fate.rs`, `tests/exit.rs`).

concurrent_futures::init_tests!();

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "amqp")]
#[path = "../common/broker.rs"]
mod broker;

#[macro_use]
mod engines;

mod a_as_completed;
#[cfg(feature = "amqp")]
mod amqp;
mod b_pool;
mod bounded;
mod cancel;
mod choice;
mod chunks;
mod control;
mod courses;
mod errors;
mod f_future;
mod g_memory;
mod groups;
mod idle;
mod m_map;
mod map;
mod map_options;
mod n_names;
mod nested;
mod p_processes;
mod parity;
mod priorities;
mod processes;
mod recycling;
mod s_shutdown;
mod scopes;
mod shutdown;
mod streams;
mod submit;
mod t_threads;
mod talking;
mod threads;
mod unread;
mod w_wait;
mod x_executor;
mod y_async;
