//! A worker, as it runs on other machines: `cluster worker --url …`.
//!
//! Not here: what it does with a picture (`work.rs`). The rule: the function that is registered here is the only one that
//! anybody can have called.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::thread;

use concurrent_futures::{AmqpWorker, Error};

use crate::broker::Broker;
use crate::work::thumbnails;

/// Makes thumbnails for whoever submits them, until it is told to stop (Ctrl-C, SIGTERM): then it finishes what it has
/// begun, and gives the rest back.
#[derive(clap::Args)]
pub(crate) struct WorkerOptions {
    #[command(flatten)]
    broker: Broker,

    /// Pictures at a time, each in a thread; not given: as many as there are processors
    #[arg(long, value_name = "N", conflicts_with = "processes")]
    threads: Option<NonZeroUsize>,

    /// Pictures at a time, each in a process of its own: a crash costs the picture that crashed it
    #[arg(long, value_name = "N")]
    processes: Option<NonZeroUsize>,

    /// What it is called in the tables of others; not given: a name that nobody else has
    #[arg(long)]
    name: Option<String>,

    /// Stops when its standard input ends, and so when whoever started it does
    #[arg(long, hide = true)]
    leash: bool,
}

/// Until it is told to stop.
pub(crate) fn work(options: WorkerOptions) -> Result<(), Error> {
    let url = options.broker.url()?;
    let mut builder = AmqpWorker::builder().queue(&options.broker.queue).tls(options.broker.tls());
    if let Some(name) = options.name {
        builder = builder.name(name);
    }
    if let Some(number) = options.processes {
        builder = builder.processes(number.get());
    } else if let Some(number) = options.threads {
        builder = builder.threads(number.get());
    }
    let worker = builder.connect(&url)?.try_register(thumbnails);
    if options.leash {
        let stopper = worker.stopper();
        thread::spawn(move || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            stopper.stop();
        });
    }
    worker.run()
}
