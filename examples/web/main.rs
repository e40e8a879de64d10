//! Work for a processor behind an event loop: a web server that answers others meanwhile.
//!
//!     cargo run --release --example web
//!     cargo run --release --example web -- --serve --port 8000      (and then: curl localhost:8000/factors/12,x,35)
//!
//! The lesson is in `server.rs`. Here are its clients, who look at three things: how long a `/ping` takes while others
//! have the server count primes, in worker processes and on the loop itself; what becomes of the work of a client that
//! hangs up; and many calls awaited at once, where one fails.
//!
//! Not here: the thread that the server runs in (`shared/loopback.rs`). The rule: a client judges by what it is answered.

#[path = "../shared/loopback.rs"]
mod loopback;
mod server;

use std::error::Error as StdError;
use std::io::{self, Write};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use concurrent_futures::{Future, ThreadPoolExecutor};
use ureq::Agent;

use crate::loopback::Loopback;

type AnyError = Box<dyn StdError + Send + Sync>;

/// A web server with worker processes behind its event loop, and its clients.
#[derive(Parser)]
#[command(after_help = "Exit status: 0 if all was answered, and the same by both ways, 1 if not.")]
struct Options {
    /// Only serve, until it is ended from outside
    #[arg(long)]
    serve: bool,

    /// Where to listen; 0: any port that is free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,

    /// Worker processes
    #[arg(long, value_name = "N", default_value = "2")]
    workers: NonZeroUsize,

    /// Requests for work, from four clients
    #[arg(long, value_name = "N", default_value = "24")]
    requests: NonZeroUsize,

    /// What is asked for: how many primes are below
    #[arg(long, value_name = "N", default_value_t = 600_000)]
    below: u64,
}

fn main() -> Result<ExitCode, AnyError> {
    concurrent_futures::init(); // In a worker process it never returns.
    let options = Options::parse();
    let server = Loopback::serve(options.port, server::router(options.workers.get())?)?;
    if options.serve {
        let paths = ["ping", "primes/1000", "factors/12,x,35"];
        println!("try {}", paths.map(|path| server.url(path)).join(" or "));
        server.forever()?;
        return Ok(ExitCode::SUCCESS);
    }

    println!("while others ask for    requests  requests/s  pings  median ms  worst ms");
    let ping = server.url("ping");
    let primes = |way| server.url(&format!("{way}/{}", options.below));
    pings_meanwhile("nothing", &ping, &ping, 0)?;
    let requests = options.requests.get();
    let mut answers = pings_meanwhile("primes, in a process", &ping, &primes("primes"), requests)?;
    answers.extend(pings_meanwhile("primes, on the loop", &ping, &primes("blocking"), requests)?);
    answers.dedup();

    println!("\n{} clients ask for all primes, and hang up", options.workers);
    clients_that_hang_up(&server, options.workers.get())?;

    println!("\nmany calls awaited at once");
    for path in ["factors/12,97,x,35", "factors/all/12,97,35", "factors/all/12,97,x,35"] {
        let answer = client().get(server.url(path)).config().http_status_as_error(false).build().call();
        let mut answer = answer?;
        println!("/{path}: {}", answer.status());
        answer.body_mut().read_to_string()?.lines().for_each(|line| println!("    {line}"));
    }
    match &answers[..] {
        [primes] => println!("\n{primes} primes below {}, by both ways", options.below),
        _ => eprintln!("the ways do not agree: {answers:?}"),
    }
    Ok(if answers.len() == 1 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// No proxy: the server is on this machine, whatever the environment says.
fn client() -> Agent {
    Agent::config_builder().proxy(None).build().into()
}

fn get(client: &Agent, url: &str) -> Result<String, ureq::Error> {
    Ok(client.get(url).call()?.body_mut().read_to_string()?.trim_end().to_owned())
}

/// Four clients ask for work, a fifth pings until they have all their answers. These are returned.
fn pings_meanwhile(what: &str, ping: &str, work: &str, requests: usize) -> Result<Vec<String>, AnyError> {
    let (clients, client) = (ThreadPoolExecutor::new(4)?, client());
    let start = Instant::now();
    let ask = |_| {
        let (client, work) = (client.clone(), work.to_owned());
        clients.try_submit(move |()| get(&client, &work), ())
    };
    let answers: Vec<Future<String>> = (0..requests).map(ask).collect();

    let least = if requests == 0 { 20 } else { 1 };
    let mut pings = Vec::new();
    while pings.len() < least || !answers.iter().all(Future::done) {
        let sent = Instant::now();
        get(&client, ping)?;
        pings.push(sent.elapsed().as_secs_f64() * 1e3);
        // As somebody does who only looks whether it is still there.
        thread::sleep(Duration::from_millis(2));
    }
    let rate = requests as f64 / start.elapsed().as_secs_f64();
    pings.sort_by(f64::total_cmp);
    let (count, median, worst) = (pings.len(), pings[pings.len() / 2], pings[pings.len() - 1]);
    println!("{what:22} {requests:>9} {rate:>11.1} {count:>6} {median:>10.2} {worst:>9.2}");
    Ok(answers.into_iter().map(Future::result).collect::<Result<_, _>>()?)
}

/// They keep every worker busy for ever, unless their calls are stopped: then the next request is answered.
fn clients_that_hang_up(server: &Loopback, clients: usize) -> Result<(), AnyError> {
    let request = format!("GET /primes/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", u64::MAX);
    let connections = (0..clients).map(|_| {
        let mut connection = TcpStream::connect(server.address())?;
        connection.write_all(request.as_bytes())?;
        Ok(connection)
    });
    let connections = connections.collect::<io::Result<Vec<_>>>()?;
    let client = client();
    let tally_with = |open: usize| loop {
        let tally = get(&client, &server.url("tally"))?;
        if tally.ends_with(&format!("open {open}")) {
            return Ok::<_, ureq::Error>(tally);
        }
        thread::sleep(Duration::from_millis(1));
    };
    println!("before: {}", tally_with(clients)?);
    drop(connections);
    println!("after:  {}", tally_with(0)?);
    println!("the next one is answered: {} primes below 1000", get(&client, &server.url("primes/1000"))?);
    Ok(())
}
