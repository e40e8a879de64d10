//! Thumbnails on more than one machine: a broker, two workers, and one of them is killed half-way.
//!
//!     cargo run --release --features amqp --example cluster
//!
//! starts a broker and two workers here. On several machines, with a broker that all of them reach:
//!
//!     cargo run --release --features amqp --example cluster -- worker --url amqp://user:password@host/vhost
//!     cargo run --release --features amqp --example cluster -- --url amqp://user:password@host/vhost --workers 0
//!
//! ```text
//!   client ── pictures ──▶ queue at the broker ──▶ worker-1, worker-2, …
//!     ▲                                                  │
//!     └────────── thumbnails, by a queue of its own ─────┘
//! ```
//!
//! The lesson is in `client.rs`: what runs the calls is one line. Every picture arrives, though a worker was killed in the midst
//! of one, because a call is acknowledged when its result is at the broker, and not before.
//!
//! `work.rs` has the function that is called, `worker.rs` who may call it, `crew.rs` what is started here, `report.rs` what
//! is said at the end; how a thumbnail is made is `thumbnails/pictures.rs`. Here is the command line.

mod broker;
mod client;
mod crew;
#[path = "../thumbnails/landscapes.rs"]
mod landscapes;
#[path = "../thumbnails/paint.rs"]
mod paint;
#[path = "../thumbnails/patterns.rs"]
mod patterns;
#[allow(dead_code, reason = "a `Job` is from file to file")]
#[path = "../thumbnails/pictures.rs"]
mod pictures;
mod report;
#[path = "../thumbnails/samples.rs"]
mod samples;
#[allow(dead_code, reason = "the samples use a part of it")]
#[path = "../thumbnails/ways.rs"]
mod ways;
mod work;
mod worker;

use std::error::Error as StdError;
use std::process::{self, ExitCode};

use clap::{Parser, Subcommand};

use crate::client::ClientOptions;
use crate::crew::Crew;
use crate::worker::WorkerOptions;

/// Makes thumbnails on workers that may be anywhere, and kills one of them half-way.
#[derive(Parser)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 if all were made, 1 if not (what failed is told), 130 after Ctrl-C."
)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,

    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Subcommand)]
enum Role {
    Worker(WorkerOptions),
}

fn main() -> ExitCode {
    concurrent_futures::init(); // In a process of a worker's own it never returns.
    let options = Options::parse();
    let ended = match options.role {
        Some(Role::Worker(options)) => worker::work(options).map(|()| true).map_err(Into::into),
        None => in_company(options.client),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            // Without waiting for anybody.
            process::exit(1);
        }
    }
}

/// The client, and whatever it starts.
fn in_company(options: ClientOptions) -> Result<bool, Box<dyn StdError>> {
    let crew = Crew::new()?;
    let ended = client::run(options, &crew);
    crew.stop();
    ended
}
