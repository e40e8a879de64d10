//! Many pages of a server that takes its time: serially, with threads, with futures on one thread.
//!
//!     cargo run --release --example download
//!     cargo run --release --example download -- --pages 500 --delay 100 --workers 8,256
//!
//! Whoever waits for the network needs no processor, so many may wait at a time: sixty-four threads on two processors,
//! or one thread with all pages under way. First, two pages alone: `submit` twice, then `result` twice, where the error
//! of the one that is not there is handled.
//!
//! Not here: the server (`shared/`), and work that needs the processor (`thumbnails`). The rule: each worker has a client
//! of its own, made once by its initializer and kept in a thread-local. So its connection stays open from page to page,
//! and no worker waits for the client of another.

#[path = "shared/loopback.rs"]
mod loopback;
#[path = "shared/pages.rs"]
mod pages;

use std::cell::OnceCell;
use std::error::Error as StdError;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use clap::Parser;
use concurrent_futures::{Error, Executor, SerialExecutor, ThreadPoolExecutor};
use futures_util::future::try_join_all;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use ureq::Agent;

use crate::pages::Pages;

/// Fetches pages from a loopback server: serially, with threads, with futures of tokio.
#[derive(Parser)]
#[command(after_help = "Exit status: 0 if every way got every page, 1 if not.")]
struct Options {
    /// How many pages there are
    #[arg(long, value_name = "N", default_value_t = 160)]
    pages: usize,

    /// Milliseconds until the server answers
    #[arg(long, value_name = "MS", default_value_t = 20)]
    delay: u64,

    /// How many threads, one number for each run
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', default_value = "1,4,16,64")]
    workers: Vec<usize>,
}

fn main() -> Result<ExitCode, AnyError> {
    let options = Options::parse();
    let page = |n: usize| {
        let line = format!("<p>This is page {n} of {}.</p>\n", options.pages);
        (format!("page/{n}"), format!("<!doctype html>\n{}", line.repeat(100 + n)).into_bytes())
    };
    let pages = Pages::serve(Duration::from_millis(options.delay), (1..=options.pages).map(page))?;
    two_pages(&pages)?;

    println!("\n{} pages, {} ms until each is answered", options.pages, options.delay);
    println!("way        workers  connections  pages      bytes  seconds  pages/s");
    let expected: usize = pages.sizes("page/").into_iter().sum();
    let mut complete = true;
    let mut run = |way: &str, workers: usize, fetch: &dyn Fn(Vec<String>) -> Fetched| {
        let urls = (1..=options.pages).map(|n| pages.url(&format!("page/{n}"))).collect();
        let (opened, start) = (pages.connections(), Instant::now());
        let sizes = fetch(urls)?;
        let (count, bytes, seconds) =
            (sizes.len(), sizes.iter().sum::<usize>(), start.elapsed().as_secs_f64());
        let opened = pages.connections() - opened;
        let rate = count as f64 / seconds;
        println!("{way:9} {workers:>8} {opened:>12} {count:>6} {bytes:>10} {seconds:>8.2} {rate:>8.0}");
        complete &= bytes == expected;
        Fetched::Ok(sizes)
    };
    run("serial", 1, &|urls| with_executor(&SerialExecutor::new(), urls))?;
    for &workers in &options.workers {
        run("threads", workers, &|urls| with_executor(&pool(workers)?, urls))?;
    }
    run("async", 1, &with_tokio)?;

    if complete {
        println!("every way got the same {expected} bytes");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("the server has {expected} bytes, and not every way got as many");
    Ok(ExitCode::FAILURE)
}

type AnyError = Box<dyn StdError + Send + Sync>;

/// The bytes of each page, in the order of the addresses.
type Fetched = Result<Vec<usize>, AnyError>;

thread_local! {
    /// The client of this thread.
    static CLIENT: OnceCell<Agent> = const { OnceCell::new() };
}

/// No proxy: the server is on this machine, whatever the environment says.
fn client() -> Agent {
    Agent::config_builder().proxy(None).build().into()
}

/// Threads with a client each.
fn pool(workers: usize) -> Result<ThreadPoolExecutor, Error> {
    let prepare = || CLIENT.with(|own| own.set(client())).expect("a worker is prepared once");
    ThreadPoolExecutor::builder().max_workers(workers).initializer(prepare).build()
}

/// Fetches one page with the client of this thread. (The main thread, which nobody prepared, makes its own.)
fn fetch(url: String) -> Result<usize, ureq::Error> {
    let mut answer = CLIENT.with(|own| own.get_or_init(client).get(&url).call())?;
    Ok(answer.body_mut().read_to_vec()?.len())
}

/// Both are under way at the same time. What became of one is told where its result is asked for, and does not
/// concern the other.
fn two_pages(pages: &Pages) -> Result<(), Error> {
    let pool = pool(2)?;
    let there = pool.try_submit(fetch, pages.url("page/1"));
    let not_there = pool.try_submit(fetch, pages.url("page/none"));

    println!("two pages");
    for (path, future) in [("page/1", there), ("page/none", not_there)] {
        match future.result() {
            Ok(bytes) => println!("{path}: {bytes} bytes"),
            // What the function itself returned is told from all else that may go wrong with a call.
            Err(Error::Raised { error, .. }) => println!("{path}: failed: {error}"),
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// Every page is a call. With threads, as many wait at a time as there are workers.
fn with_executor(executor: &impl Executor, urls: Vec<String>) -> Fetched {
    Ok(executor.try_map(fetch, urls).collect::<Result<_, Error>>()?)
}

/// Every page is a future. One thread waits for all of them at a time.
fn with_tokio(urls: Vec<String>) -> Fetched {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let fetch = async |url: String| {
        let answer = client.get(url.parse()?).await?;
        if !answer.status().is_success() {
            return Err(format!("{url}: {}", answer.status()).into());
        }
        Ok(answer.into_body().collect().await?.to_bytes().len())
    };
    runtime.block_on(try_join_all(urls.into_iter().map(fetch)))
}
