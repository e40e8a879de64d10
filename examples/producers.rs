//! Producers and consumers, joined by a queue that holds only a few items: on threads, in processes, and from async code.
//!
//!     cargo run --release --example producers
//!     cargo run --release --example producers -- --executor processes --producers 4 --consumers 1 --capacity 2
//!
//! ```text
//!   producer ─┐                        ┌─▶ consumer
//!   producer ─┼─ put ─▶ │ 4 items │ ─ get
//!   producer ─┘  waits for room        └─▶ consumer   … until the queue is closed and empty
//! ```
//!
//! Producers are quicker than consumers here. The bound holds them back: without it, memory would. Python's programs end
//! with end marks in the queue, one for each consumer; here it is closed. Every worker is given the queue once, by its
//! initializer, also a worker process; the calls only say what to do.
//!
//! Not here: results of calls, which need no queue. The rule: every item is consumed once, and those of one producer come in
//! their order; else the exit status is 1.

use std::cell::OnceCell;
use std::hint;
use std::iter;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use concurrent_futures::sync::{PutError, Queue};
use concurrent_futures::{Error, Executor, ProcessPoolExecutor, ThreadPoolExecutor, init, task};
use sha2::{Digest, Sha384};
use tokio::task::JoinSet;

/// Joins producers and consumers by a queue with a bound, and tells who did what and who waited.
#[derive(Parser)]
struct Options {
    /// Who produces and consumes
    #[arg(long, value_name = "WAY", default_value = "all")]
    executor: Way,

    /// How many put items in
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    producers: u32,

    /// How many get them
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=100))]
    consumers: u32,

    /// How many items each producer makes
    #[arg(long, value_name = "N", default_value_t = 400)]
    items: u32,

    /// How many items the queue holds
    #[arg(long, value_name = "N", default_value_t = 4)]
    capacity: usize,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Way {
    Threads,
    Processes,
    Async,
    All,
}

/// Who made it, and which of his it is.
type Item = (u32, u32);

thread_local! {
    /// The worker's own handle of the queue.
    static QUEUE: OnceCell<Queue<Item>> = const { OnceCell::new() };
}

/// The initializer of every worker.
fn join(queue: Queue<Item>) {
    QUEUE.with(|own| own.set(queue)).expect("a worker is prepared once");
}

fn queue() -> Queue<Item> {
    QUEUE.with(|own| own.get().cloned()).expect("the initializer came first")
}

/// How long it waited for room, if the queue was full.
fn put(item: Item) -> Option<Duration> {
    let Err(PutError::Full(item)) = queue().try_put(item) else { return None };
    let start = Instant::now();
    queue().put(item).expect("nobody closes it before the last producer is done");
    Some(start.elapsed())
}

/// Nothing, when the queue is closed and empty.
fn get(_: ()) -> Option<Item> {
    queue().get().ok()
}

/// What is done with an item takes longer than making it.
fn consume((producer, number): Item) {
    hint::black_box(Sha384::digest([producer as u8, number as u8].repeat(20_000)));
}

/// A producer from its first item to its last; returns its waits.
fn produce((producer, items): (u32, u32)) -> Vec<Duration> {
    (0..items).filter_map(|number| put((producer, number))).collect()
}

/// A consumer until there is nothing more; returns which worker it was, and what it got.
fn consume_all(_: ()) -> (String, Vec<Item>) {
    let got = iter::from_fn(|| get(())).inspect(|item| consume(*item)).collect();
    (task::worker().unwrap_or_default(), got)
}

/// What came of a way.
struct Account {
    waits: Vec<Vec<Duration>>,
    got: Vec<(String, Vec<Item>)>,
}

/// On threads or in processes: a call for each producer and for each consumer, and a worker for each call.
fn by_calls(pool: &impl Executor, queue: &Queue<Item>, options: &Options) -> Result<Account, Error> {
    let got = pool.map(consume_all, vec![(); options.consumers as usize]);
    let waits = pool.map(produce, (0..options.producers).map(|producer| (producer, options.items)));
    let waits = waits.collect::<Result<_, _>>();
    queue.close(); // Also if a producer failed: the consumers would wait for ever.
    Ok(Account { waits: waits?, got: got.collect::<Result<_, _>>()? })
}

/// From async code: producers and consumers are coroutines in one thread. What would block is a call of the pool, which
/// they await: so a full queue holds a coroutine back, and not the others.
#[tokio::main(flavor = "current_thread")]
async fn by_coroutines(
    pool: &Arc<ThreadPoolExecutor>,
    queue: &Queue<Item>,
    options: &Options,
) -> Result<Account, Error> {
    let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
    for consumer in 0..options.consumers {
        let pool = Arc::clone(pool);
        consumers.spawn(async move {
            let mut got = Vec::new();
            while let Some(item) = pool.submit(get, ()).await? {
                pool.submit(consume, item).await?;
                got.push(item);
            }
            Ok::<_, Error>((format!("coroutine {consumer}"), got))
        });
    }
    for producer in 0..options.producers {
        let (pool, items) = (Arc::clone(pool), options.items);
        producers.spawn(async move {
            let mut waits = Vec::new();
            for number in 0..items {
                waits.extend(pool.submit(put, (producer, number)).await?);
            }
            Ok::<_, Error>(waits)
        });
    }
    let waits = producers.join_all().await;
    queue.close();
    let got = consumers.join_all().await;
    Ok(Account {
        waits: waits.into_iter().collect::<Result<_, _>>()?,
        got: got.into_iter().collect::<Result<_, _>>()?,
    })
}

fn main() -> Result<ExitCode, Error> {
    init(); // first line of main: in a worker process it never returns
    let options = Options::parse();
    let mut all_right = true;
    for way in [Way::Threads, Way::Processes, Way::Async] {
        if ![way, Way::All].contains(&options.executor) {
            continue;
        }
        let queue = Queue::bounded(options.capacity);
        let workers = (options.producers + options.consumers) as usize; // Each of them may wait.
        let threads = || {
            let queue = queue.clone();
            let builder = ThreadPoolExecutor::builder().max_workers(workers).thread_name_prefix("thread");
            builder.initializer(move || join(queue.clone())).build()
        };
        let processes = || {
            let builder = ProcessPoolExecutor::builder().max_workers(workers).name("process");
            builder.initializer(join, queue.clone()).build()
        };
        let (name, account) = match way {
            Way::Processes => ("processes", by_calls(&processes()?, &queue, &options)?),
            Way::Async => ("async", by_coroutines(&Arc::new(threads()?), &queue, &options)?),
            _ => ("threads", by_calls(&threads()?, &queue, &options)?),
        };
        println!("{name}");
        all_right &= tell(&account, &options);
    }
    Ok(if all_right { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// False if an item is missing, came twice, or came out of its order.
fn tell(account: &Account, options: &Options) -> bool {
    for (producer, waits) in account.waits.iter().enumerate() {
        let (items, times, time) = (options.items, waits.len(), waits.iter().sum::<Duration>());
        println!(
            "  producer {producer}: put {items} items, found the queue full {times} times, waited {time:.1?}"
        );
    }
    let mut in_order = true;
    for (name, got) in &account.got {
        println!("  {name}: got {} items", got.len());
        in_order &= (0..options.producers).all(|producer| {
            let numbers = got.iter().filter(|(made_by, _)| *made_by == producer);
            numbers.is_sorted_by_key(|(_, number)| *number)
        });
    }
    let mut all: Vec<Item> = account.got.iter().flat_map(|(_, got)| got.clone()).collect();
    all.sort_unstable();
    let once = all
        .into_iter()
        .eq((0..options.producers).flat_map(|producer| (0..options.items).map(move |n| (producer, n))));
    println!("  every item once: {once}; those of a producer in their order: {in_order}");
    once && in_order
}
