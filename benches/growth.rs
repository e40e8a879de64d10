//! What a task costs where there is more of everything: workers, threads that submit, tasks in the queue. Flat is
//! good; a line that bends shows a lock that everybody takes. `cargo bench --bench growth`
//!
//! ```text
//! t2-by-workers 16 310.2 290.1 1.08 n=5 cpu_ns=330.5 cpu_ratio=1.02      wall ns a task: median, min, to the first line
//! ```
//!
//! The form is that of the measuring stand; `benches/results` makes tables of it. There are more workers here than
//! cores: then CPU time says more than the clock. It is this process's and the workers', asked from the kernel.
//! Lines are measured in turn, round after round. A line that would take too long by what the last one took is left
//! out, and says so.
//!
//! `growth --tasks t2 WORKERS N` does N tasks and measures nothing: `instructions.sh` counts them.

mod rivals;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, init};

/// The most that a line may take, in one round.
const BUDGET: Duration = Duration::from_secs(20);
/// What lines of different sizes have in common: tasks of a round, unless the queue is to be longer.
const TASKS: u64 = 100_000;

fn increment(n: u64) -> u64 {
    n + 1
}

fn nap(time: Duration) {
    thread::sleep(time);
}

fn main() {
    init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--tasks") {
        return only_run(&arguments[at + 1..]);
    }
    let quick = rivals::quick();
    let crews: &[usize] = if quick { &[1, 2, 4] } else { &[1, 2, 4, 8, 16, 64] };
    let queues: Vec<u64> = (if quick { 1..=2 } else { 3..=7 }).map(|power| 10u64.pow(power)).collect();
    let tasks = if quick { 640 } else { TASKS };

    by("t2-by-workers", "ns a task, submitted by one thread, by worker threads", crews, |workers| {
        (tasks, Box::new(move || threads(workers, 1, tasks, tasks)))
    });
    by("t3-by-submitters", "ns a task, two worker threads, by threads that submit", crews, |submitters| {
        (tasks, Box::new(move || threads(2, submitters, tasks, tasks)))
    });
    by(
        "t2-by-queued",
        "ns a task, two worker threads, by tasks submitted before the first is collected",
        &queues,
        |queued| (queued.max(tasks), Box::new(move || threads(2, 1, queued, queued.max(tasks)))),
    );
    by("p2-by-workers", "ns a call, submitted by one thread, by worker processes", crews, |workers| {
        (tasks, Box::new(move || processes(workers, 1, tasks, tasks)))
    });
    by("p2-by-submitters", "ns a call, two worker processes, by threads that submit", crews, |submitters| {
        (tasks, Box::new(move || processes(2, submitters, tasks, tasks)))
    });
    by(
        "p2-by-queued",
        "ns a call, two worker processes, by calls submitted before the first is collected",
        &queues,
        |queued| (queued.max(tasks), Box::new(move || processes(2, 1, queued, queued.max(tasks)))),
    );
}

/// Of one line and one round.
struct Sample {
    wall: Duration,
    cpu: Duration,
}

type Round = Box<dyn Fn() -> Sample>;

/// A table: `line` gives how many tasks a round has, and the round.
fn by<N: Copy + ToString>(workload: &str, unit: &str, sizes: &[N], line: impl Fn(N) -> (u64, Round)) {
    let rounds = if rivals::quick() { 1 } else { 5 };
    let lines: Vec<(u64, Round)> = sizes.iter().map(|&size| line(size)).collect();
    let mut samples: Vec<Vec<Sample>> = lines.iter().map(|_| Vec::new()).collect();
    let mut left_out = lines.len();
    for _ in 0..rounds {
        let mut each = Duration::ZERO;
        for (at, (tasks, round)) in lines.iter().enumerate().take(left_out) {
            if each.mul_f64(*tasks as f64) > BUDGET {
                left_out = at;
                break;
            }
            let sample = round();
            each = sample.wall.div_f64(*tasks as f64);
            samples[at].push(sample);
        }
    }
    println!("# {workload}: {unit}");
    let mut first: Option<(f64, f64)> = None;
    for ((size, (tasks, _)), samples) in sizes.iter().zip(&lines).zip(&samples) {
        let size = size.to_string();
        if samples.is_empty() {
            println!("{workload} {size} - - - left out: more than {} s", BUDGET.as_secs());
            continue;
        }
        let each = |time: Duration| time.as_nanos() as f64 / *tasks as f64;
        let sorted = |of: fn(&Sample) -> Duration| {
            let mut all: Vec<f64> = samples.iter().map(|sample| each(of(sample))).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let (wall, cpu) = (sorted(|sample| sample.wall), sorted(|sample| sample.cpu));
        let (median, cpu) = (wall[wall.len() / 2], cpu[cpu.len() / 2]);
        let (first_wall, first_cpu) = *first.get_or_insert((median, cpu));
        println!(
            "{workload} {size} {median:.1} {:.1} {:.3} n={} cpu_ns={cpu:.1} cpu_ratio={:.3}",
            wall[0],
            median / first_wall,
            wall.len(),
            cpu / first_cpu,
        );
    }
    println!();
}

/// Runs `body`, with the time of the clock, and of the CPUs in this process and in those.
fn measured(workers: &[u32], body: impl FnOnce()) -> Sample {
    let (cpu, start) = (cpu_time(workers), Instant::now());
    body();
    let wall = start.elapsed();
    Sample { wall, cpu: cpu_time(workers).saturating_sub(cpu) }
}

fn cpu_time(workers: &[u32]) -> Duration {
    let here = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let here = Duration::new(here.tv_sec as u64, here.tv_nsec as u32);
    here + workers.iter().map(|&pid| cpu_time_of(pid)).sum::<Duration>()
}

/// Of a process that lives: what its threads ran, in nanoseconds. Linux; elsewhere nothing.
fn cpu_time_of(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanoseconds = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

fn threads(workers: usize, submitters: usize, queued: u64, tasks: u64) -> Sample {
    let pool = ThreadPoolExecutor::new(workers).unwrap();
    queue(1_000, |n| pool.submit(increment, n));
    measured(&[], || all(submitters, queued, tasks, &|n| pool.submit(increment, n)))
}

fn processes(workers: usize, submitters: usize, queued: u64, tasks: u64) -> Sample {
    let pool = ProcessPoolExecutor::new(workers).unwrap();
    // All workers are there, and have worked.
    let naps: Vec<Future<()>> = (0..workers).map(|_| pool.submit(nap, Duration::from_millis(50))).collect();
    naps.into_iter().for_each(|nap| nap.result().unwrap());
    queue(1_000, |n| pool.submit(increment, n));
    measured(&pool.worker_pids(), || all(submitters, queued, tasks, &|n| pool.submit(increment, n)))
}

/// `tasks` tasks, at most `queued` at a time, from so many threads.
fn all(submitters: usize, queued: u64, tasks: u64, submit: &(impl Fn(u64) -> Future<u64> + Sync)) {
    let share = |of: u64, among: u64, number: u64| of / among + u64::from(number < of % among);
    thread::scope(|scope| {
        for number in 0..submitters as u64 {
            let mine = move || {
                for _ in 0..tasks / queued {
                    queue(share(queued, submitters as u64, number), submit);
                }
            };
            // One submits where it is: a thread of its own would be measured too.
            if submitters == 1 { mine() } else { drop(scope.spawn(mine)) }
        }
    });
}

fn queue(n: u64, submit: impl Fn(u64) -> Future<u64>) {
    let mut futures = Vec::with_capacity(n as usize);
    futures.extend((0..n).map(submit));
    let sum: u64 = futures.into_iter().map(|future| future.result().unwrap()).sum();
    assert_eq!(sum, n * (n + 1) / 2);
}

/// `WORKLOAD WORKERS N`: as few other instructions as can be.
fn only_run(arguments: &[String]) {
    let [workload, workers, n, ..] = arguments else {
        panic!("--tasks t1|t2|p1|p2 WORKERS N");
    };
    let (workers, n): (usize, u64) = (workers.parse().unwrap(), n.parse().unwrap());
    let run = |submit: &dyn Fn(u64) -> Future<u64>| {
        if workload.ends_with('1') {
            (0..n).for_each(|n| assert_eq!(submit(n).result().unwrap(), n + 1));
        } else {
            queue(n, submit);
        }
    };
    if workload.starts_with('t') {
        let pool = ThreadPoolExecutor::new(workers).unwrap();
        run(&|n| pool.submit(increment, n));
    } else {
        let pool = ProcessPoolExecutor::new(workers).unwrap();
        run(&|n| pool.submit(increment, n));
    }
}
