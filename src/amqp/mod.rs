//! Calls on other machines, through a message broker (AMQP 0-9-1, as RabbitMQ speaks it).
//!
//! ```text
//!   executor ── context ── post ══▶ queue of calls ══▶ shift ── pool of threads or processes
//!                           ▲                            │
//!                           ╚═══ queue of replies ◀══════╝
//!     a program that calls        the broker        a program with a worker in it; there may be many
//! ```
//!
//! A call's message is at the broker until its result is there too: so whoever dies, the call is with somebody who does
//! not, and is made again. Its future ends with the first result, and with no other. Should the message be gone (somebody
//! purged the queue), nobody says that he has it, and it is sent again.
//!
//! For Unix: a worker's processes, its signals, and how a process ended are told in its terms.
//!
//! | file            | is                                                                                |
//! |-----------------|-----------------------------------------------------------------------------------|
//! | `settings.rs`   | what both sides may set, and must agree on                                        |
//! | `link.rs`       | one connection, its limits of time, TLS, and what it means when there is none     |
//! | `kit.rs`        | the sockets of the AMQP library, as we want them                                  |
//! | `message.rs`    | what stands in a message                                                          |
//! | `executor.rs`   | the executor: a pool with one worker                                              |
//! | `context.rs`    | that worker: sends what the window has room for, ends what comes back             |
//! | `desk.rs`       | the calls that are sent                                                           |
//! | `post.rs`       | its thread that talks with the broker                                             |
//! | `worker.rs`     | the worker of other machines, and how it is set up                                |
//! | `list.rs`       | the functions that it may call                                                    |
//! | `bench.rs`      | what it has in hand, and what is to be done with it: a table, without I/O         |
//! | `shift.rs`      | its work: sessions with the broker, in which that is done                         |
//! | `notes.rs`      | what it logs                                                                      |
//! | `forwarded.rs`  | a call out of a message, as a task of a pool there                                |

mod bench;
mod context;
mod desk;
mod executor;
mod forwarded;
mod kit;
mod link;
mod list;
mod message;
mod notes;
mod post;
mod settings;
mod shift;
mod worker;

pub use executor::{AmqpBuilder, AmqpExecutor};
pub use link::Tls;
pub use worker::{AmqpStopper, AmqpWorker, AmqpWorkerBuilder};
