//! What a call costs that goes through a broker, beside the pools of this machine and beside one message a task by hand, as
//! Celery does it (`bare.rs`). `AMQP_URL=amqp://… cargo bench --features amqp --bench amqp`
//!
//! ```text
//! a2 ours-amqp-quorum 152340.1 150001.2 1.31 n=5 per_s=6564      wall ns a call: median, min, to the best by broker
//! ```
//!
//! The form is that of the measuring stand; `benches/results` makes tables of it. All stand in one run and are measured in
//! turn, round after round. Each has one worker of two threads (or processes): those by broker in a process of their own,
//! which is this program, started again. Broker, client and workers share the machine.
//!
//! `amqp --only WORKLOAD` measures one of them, `--width N` with so many threads. `a5` is CPU time and not the clock: what a call costs the client, the
//! worker and, where `AMQP_BROKER_PID` names it, the broker; it is what `benches/machines` reckons with. `a6` holds that against real workers, at a queue of
//! `--kind quorum`, `classic` or `transient`. Without `AMQP_URL` it says so, and measures nothing.
//!
//! Not here: what the broker's limit means for many machines (`benches/machines.md`). The rule: contenders are compared
//! within a round.

#[path = "../machines/model.rs"]
mod model;
#[path = "../rivals/mod.rs"]
mod rivals;
#[path = "../machines/simulation.rs"]
mod simulation;

mod bare;
mod proxy;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bare::Setting;
use concurrent_futures::{
    AmqpExecutor, AmqpWorker, Executor, Future, MapOptions, ProcessPoolExecutor, ThreadPoolExecutor, init,
};
use model::{Costs, SHARED, Site};
use simulation::{Lengths, Simulation};

/// Calls that a worker makes at a time, where nothing else is said.
const WIDTH: usize = 2;

fn increment(n: u64) -> u64 {
    n + 1
}

fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

fn filled(bytes: u64) -> Vec<u8> {
    vec![7; bytes as usize]
}

fn nap(time: Duration) {
    std::thread::sleep(time);
}

fn main() -> ExitCode {
    init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Ok(url) = std::env::var("AMQP_URL") else {
        println!("amqp: nothing measured; AMQP_URL names no broker (scripts/rabbitmq.sh start)");
        return ExitCode::SUCCESS;
    };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--worker", queue, kind, width] => {
            work(&url, queue, Kind::of(kind), width.parse().expect("a number"));
        }
        ["--bare", queue, quorum, late, width] => {
            let width = width.parse().expect("a number");
            bare::work(&url, queue, *quorum == "true", *late == "true", width);
        }
        _ => {
            let option = |name: &str| {
                let at = arguments.iter().position(|argument| argument == name);
                at.and_then(|at| arguments.get(at + 1)).map(String::as_str)
            };
            let width = option("--width").map_or(WIDTH, |width| width.parse().expect("a number"));
            let kind = option("--kind").map_or(Kind::Quorum, Kind::of);
            measure(&url, option("--only"), width, kind);
        }
    }
    ExitCode::SUCCESS
}

/// How the queue of calls is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Quorum,
    Classic,
    Transient,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Quorum, Kind::Classic, Kind::Transient];

    fn name(self) -> &'static str {
        match self {
            Kind::Quorum => "quorum",
            Kind::Classic => "classic",
            Kind::Transient => "transient",
        }
    }

    fn of(name: &str) -> Kind {
        Kind::ALL.into_iter().find(|kind| kind.name() == name).expect("a kind of queue")
    }

    fn executor(self, queue: &str, url: &str) -> AmqpExecutor {
        AmqpExecutor::builder()
            .queue(queue)
            .persistent(self.is_persistent())
            .quorum(self == Kind::Quorum)
            .connect(url)
            .expect("an executor")
    }

    fn is_persistent(self) -> bool {
        self != Kind::Transient
    }
}

/// The worker's process: until nobody holds the other end of its input.
fn work(url: &str, queue: &str, kind: Kind, width: usize) {
    let worker = AmqpWorker::builder()
        .queue(queue)
        .persistent(kind.is_persistent())
        .quorum(kind == Kind::Quorum)
        .threads(width)
        .connect(url)
        .expect("a worker")
        .register(increment)
        .register(length)
        .register(filled)
        .register(nap);
    let stopper = worker.stopper();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stopper.stop();
    });
    worker.run().expect("the worker works to its end");
}

/// A process of this program, that ends with its input.
struct Helper(Child);

impl Helper {
    fn start(url: &str, arguments: &[&str]) -> Helper {
        let program = std::env::current_exe().expect("the name of this program");
        let child = Command::new(program).args(arguments).env("AMQP_URL", url).stdin(Stdio::piped()).spawn();
        Helper(child.expect("a process"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One way of having calls made.
trait Contender {
    fn there_and_back(&self, calls: u64);
    /// All are submitted before the first is collected: of no length, with so many bytes in or out.
    fn queued(&self, calls: u64, cargo: Cargo);
    /// False: it has no such thing.
    fn map(&self, calls: u64, chunk: usize) -> bool;
}

#[derive(Clone, Copy)]
enum Cargo {
    None,
    In(usize),
    Out(usize),
}

struct Ours<E>(E);

impl<E: Executor> Contender for Ours<E> {
    fn there_and_back(&self, calls: u64) {
        (0..calls).for_each(|n| assert_eq!(self.0.submit(increment, n).result().unwrap(), n + 1));
    }

    fn queued(&self, calls: u64, cargo: Cargo) {
        match cargo {
            Cargo::None => {
                let futures: Vec<Future<u64>> = (0..calls).map(|n| self.0.submit(increment, n)).collect();
                (0..calls).zip(futures).for_each(|(n, future)| assert_eq!(future.result().unwrap(), n + 1));
            }
            Cargo::In(bytes) => {
                let futures: Vec<Future<u64>> =
                    (0..calls).map(|_| self.0.submit(length, vec![7; bytes])).collect();
                futures.into_iter().for_each(|future| assert_eq!(future.result().unwrap(), bytes as u64));
            }
            Cargo::Out(bytes) => {
                let futures: Vec<Future<Vec<u8>>> =
                    (0..calls).map(|_| self.0.submit(filled, bytes as u64)).collect();
                futures.into_iter().for_each(|future| assert_eq!(future.result().unwrap().len(), bytes));
            }
        }
    }

    fn map(&self, calls: u64, chunk: usize) -> bool {
        let sum: u64 = self
            .0
            .map_with(increment, 0..calls, MapOptions::new().chunksize(chunk))
            .map(|value| value.unwrap())
            .sum();
        assert_eq!(sum, calls * (calls + 1) / 2);
        true
    }
}

impl Contender for bare::Client {
    fn there_and_back(&self, calls: u64) {
        bare::Client::there_and_back(self, calls, &bare::task(8, 8));
    }

    fn queued(&self, calls: u64, cargo: Cargo) {
        let (argument, value) = match cargo {
            Cargo::None => (8, 8),
            Cargo::In(bytes) => (bytes, 8),
            Cargo::Out(bytes) => (8, bytes),
        };
        let bytes = bare::Client::queued(self, calls, &bare::task(value as u32, argument));
        assert_eq!(bytes, value * calls as usize);
    }

    fn map(&self, _: u64, _: usize) -> bool {
        false
    }
}

/// Who is measured, in turn, and whether a broker is between.
type Named = (String, bool, Box<dyn Contender>);

fn contenders(url: &str, width: usize, queues: &mut Vec<String>, helpers: &mut Vec<Helper>) -> Vec<Named> {
    let mut queue = |name: &str| {
        let queue = format!("cf.bench.{}.{name}", std::process::id());
        queues.push(queue.clone());
        queue
    };
    let mut all: Vec<Named> = vec![
        ("ours-threads".into(), false, Box::new(Ours(ThreadPoolExecutor::new(width).unwrap()))),
        ("ours-processes".into(), false, Box::new(Ours(ProcessPoolExecutor::new(width).unwrap()))),
    ];
    for kind in Kind::ALL {
        let queue = queue(kind.name());
        let executor = kind.executor(&queue, url);
        helpers.push(Helper::start(url, &["--worker", &queue, kind.name(), &width.to_string()]));
        all.push((format!("ours-amqp-{}", kind.name()), true, Box::new(Ours(executor))));
    }
    for setting in Setting::ALL {
        let queue = queue(setting.name);
        let client = bare::Client::new(url, &queue, setting);
        let arguments = [
            "--bare",
            &queue,
            if setting.name == Setting::QUORUM.name { "true" } else { "false" },
            if setting.name == Setting::DEFAULT.name { "false" } else { "true" },
            &width.to_string(),
        ];
        helpers.push(Helper::start(url, &arguments));
        all.push((setting.name.into(), true, Box::new(client)));
    }
    // All workers are there, and the executors have heard of them.
    all.iter().for_each(|(_, _, contender)| contender.queued(rivals::size(500), Cargo::None));
    all
}

fn measure(url: &str, only: Option<&str>, width: usize, kind: Kind) {
    let wanted = |workload: &str| only.is_none_or(|only| only == workload);
    if wanted("a6") {
        points(url, kind);
    }
    if wanted("a7-by-window") {
        windows(url);
    }
    if matches!(only, Some("a6" | "a7-by-window")) {
        return;
    }
    let (mut queues, mut helpers) = (Vec::new(), Vec::new());
    let all = contenders(url, width, &mut queues, &mut helpers);
    if wanted("a1") {
        table(&all, "a1", "ns a call, one at a time", 300, |contender, calls| {
            contender.there_and_back(calls);
            true
        });
    }
    let queued = |workload: &str, unit: &str, calls: u64, cargo: Cargo| {
        if wanted(workload) {
            table(&all, workload, unit, calls, |contender, calls| {
                contender.queued(calls, cargo);
                true
            });
        }
    };
    queued("a2", "ns a call, all queued, then collected", 3_000, Cargo::None);
    for (name, bytes, calls) in
        [("1KiB", 1 << 10, 2_000), ("10KiB", 10 << 10, 1_000), ("100KiB", 100 << 10, 200)]
    {
        let unit = |way: &str| format!("ns a call with {name} {way}, all queued, then collected");
        queued(&format!("a3in-{name}"), &unit("as its argument"), calls, Cargo::In(bytes));
        queued(&format!("a3out-{name}"), &unit("as its value"), calls, Cargo::Out(bytes));
    }
    for (chunk, calls) in [(1, 3_000), (10, 20_000), (100, 100_000), (1_000, 200_000)] {
        let workload = format!("a4map-c{chunk}");
        if wanted(&workload) {
            let unit = format!("ns an item of `map`, {chunk} a message");
            table(&all, &workload, &unit, calls, |contender, calls| contender.map(calls, chunk));
        }
    }
    if wanted("a5") {
        let broker = std::env::var("AMQP_BROKER_PID").ok().and_then(|pid| pid.parse().ok());
        costs(&all, &helpers, broker);
    }
    drop((all, helpers));
    bare::delete(url, &queues);
}

/// Real workers whose calls sleep, a real broker, a network with a delay: beside what is reckoned and simulated for them.
fn points(url: &str, kind: Kind) {
    println!(
        "# a6: calls a second, two workers of eight threads, all on this machine: measured, reckoned, simulated"
    );
    let (workers, threads) = (2, 8);
    for delay in [0, 5] {
        let delay = Duration::from_millis(delay);
        let place = if delay.is_zero() { url.to_owned() } else { proxy::behind(url, delay) };
        let queue = format!("cf.bench.{}.points.{}", std::process::id(), delay.as_millis());
        let executor = kind.executor(&queue, &place);
        let crew: Vec<Helper> = (0..workers)
            .map(|_| Helper::start(&place, &["--worker", &queue, kind.name(), &threads.to_string()]))
            .collect();
        for (length, calls) in [(1, 6_000), (10, 3_000), (100, 480)] {
            let (length, calls) = (Duration::from_millis(length), rivals::size(calls));
            let run = |calls: u64| {
                let naps: Vec<Future<()>> = (0..calls).map(|_| executor.submit(nap, length)).collect();
                naps.into_iter().for_each(|nap| nap.result().unwrap());
            };
            run(64);
            let start = Instant::now();
            run(calls);
            let measured = calls as f64 / start.elapsed().as_secs_f64();
            let costs = Costs { delay: delay.as_secs_f64(), ..SHARED };
            let site = Site {
                workers,
                threads,
                length: length.as_secs_f64(),
                argument: 16.0,
                value: 1.0,
                chunk: 1,
                window: None,
                costs,
            };
            let (reckoned, limit) = site.rate();
            let simulated = Simulation::new(site, Lengths::Alike, 8).run(4);
            println!(
                "a6 {length:?}/delay-{delay:?} measured={measured:.0} reckoned={reckoned:.0} simulated={:.0} busy={:.2} limit={}",
                simulated.rate,
                measured * site.length / site.slots() as f64,
                limit.name()
            );
        }
        drop((executor, crew));
        bare::delete(url, &[queue]);
    }
    println!();
}

/// What a call costs where far more of them are in hand than anybody works on: as with a thousand workers.
fn windows(url: &str) {
    let (rounds, sizes) = (if rivals::quick() { 1 } else { 3 }, [16, 128, 1_600, 16_000]);
    let calls = rivals::size(32_000);
    let queue = format!("cf.bench.{}.windows", std::process::id());
    let worker = Helper::start(url, &["--worker", &queue, "transient", "64"]);
    let mut samples = sizes.map(|_| Vec::new());
    let cpu = || threads_of(std::process::id()).values().sum::<u64>();
    for round in 0..rounds {
        for at in 0..sizes.len() {
            let at = (at + round) % sizes.len();
            let executor = AmqpExecutor::builder()
                .queue(&queue)
                .persistent(false)
                .quorum(false)
                .window(sizes[at])
                .connect(url)
                .expect("an executor");
            executor.submit(increment, 1).result().unwrap();
            // All are encoded and queued before: what is measured is how they go round.
            let futures: Vec<Future<u64>> = (0..calls).map(|n| executor.submit(increment, n)).collect();
            let (start, before) = (Instant::now(), cpu());
            let sum: u64 = futures.into_iter().map(|future| future.result().unwrap()).sum();
            assert_eq!(sum, calls * (calls + 1) / 2);
            let each = |nanoseconds: u128| nanoseconds as f64 / calls as f64;
            samples[at].push((each(start.elapsed().as_nanos()), each(u128::from(cpu() - before))));
        }
    }
    drop(worker);
    bare::delete(url, &[queue]);
    println!("# a7-by-window: ns a call, a queue that is not persistent, by calls in hand");
    let mut first = None;
    for (size, samples) in sizes.iter().zip(&mut samples) {
        samples.sort_by(|one, two| one.0.total_cmp(&two.0));
        let (median, cpu) = samples[samples.len() / 2];
        let (first_median, first_cpu) = *first.get_or_insert((median, cpu));
        println!(
            "a7-by-window {size} {median:.1} {:.1} {:.3} n={rounds} cpu_ns={cpu:.1} cpu_ratio={:.3}",
            samples[0].0,
            median / first_median,
            cpu / first_cpu
        );
    }
    println!();
}

/// CPU time of a call through each kind of queue: of all threads of a process, and of the one that had most.
fn costs(all: &[Named], helpers: &[Helper], broker: Option<u32>) {
    println!("# a5: CPU ns a call: client, its busiest thread, worker, its busiest thread, broker");
    let ways = [
        ("tiny", 3_000, Cargo::None),
        ("in-10KiB", 1_000, Cargo::In(10 << 10)),
        ("in-100KiB", 300, Cargo::In(100 << 10)),
        ("out-10KiB", 1_000, Cargo::Out(10 << 10)),
        ("out-100KiB", 300, Cargo::Out(100 << 10)),
    ];
    let by_broker = all.iter().filter(|(_, by_broker, _)| *by_broker).zip(helpers);
    for ((name, _, contender), helper) in by_broker {
        for (way, calls, cargo) in ways {
            let calls = rivals::size(calls);
            let pids = [Some(std::process::id()), Some(helper.0.id()), broker];
            let before = pids.map(|pid| pid.map(threads_of).unwrap_or_default());
            contender.queued(calls, cargo);
            let after = pids.map(|pid| pid.map(threads_of).unwrap_or_default());
            let [client, worker, broker] = [0, 1, 2].map(|at| {
                let spent = |(thread, time): (&u64, &u64)| time - before[at].get(thread).unwrap_or(&0);
                let each = after[at].iter().map(spent).collect::<Vec<u64>>();
                let [sum, most] = [each.iter().sum::<u64>(), each.into_iter().max().unwrap_or(0)];
                [sum / calls, most / calls]
            });
            println!(
                "a5 {name}/{way} client={} client_thread={} worker={} worker_thread={} broker={}",
                client[0], client[1], worker[0], worker[1], broker[0]
            );
        }
    }
    println!();
}

/// What each thread of a process has run, in nanoseconds. Linux; elsewhere nothing.
fn threads_of(pid: u32) -> BTreeMap<u64, u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let number = thread.file_name().to_str()?.parse().ok()?;
        Some((number, text.split(' ').next()?.parse().ok()?))
    });
    times.collect()
}

/// One table: each contender in turn, round after round.
fn table(all: &[Named], workload: &str, unit: &str, calls: u64, run: impl Fn(&dyn Contender, u64) -> bool) {
    let (rounds, calls) = (if rivals::quick() { 1 } else { 5 }, rivals::size(calls));
    let mut samples: Vec<Vec<f64>> = all.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for at in 0..all.len() {
            // Another one is first in each round.
            let at = (at + round) % all.len();
            let start = Instant::now();
            if run(&*all[at].2, calls) {
                samples[at].push(start.elapsed().as_nanos() as f64 / calls as f64);
            }
        }
    }
    for samples in &mut samples {
        samples.sort_by(f64::total_cmp);
    }
    let median = |at: usize| samples[at].get(samples[at].len() / 2).copied();
    let best = (0..all.len()).filter(|&at| all[at].1).filter_map(median).min_by(f64::total_cmp);
    println!("# {workload}: {unit}");
    for (at, (name, _, _)) in all.iter().enumerate() {
        let (Some(median), Some(best)) = (median(at), best) else { continue };
        let (min, n) = (samples[at][0], samples[at].len());
        println!(
            "{workload} {name} {median:.1} {min:.1} {:.3} n={n} per_s={:.0}",
            median / best,
            1e9 / median
        );
    }
    println!();
    let _ = std::io::stdout().flush();
}
