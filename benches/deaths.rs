//! How soon a death is known and made good: both workers of a pool are killed while they run a call.
//! From the signal to the error of a call, and to two results of fresh workers; beside two plain children that
//! are watched and started again by hand, in the same run: `cargo bench --bench deaths`. Read the ratios.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, ProcessPoolExecutor, init};

const ROUNDS: usize = 101;

/// The two times of one round.
type Times = (Duration, Duration);

/// Says that it runs, then sleeps.
fn nap(gate: PathBuf) {
    let _open = UnixStream::connect(gate).unwrap();
    sleep();
}

fn sleep() {
    std::thread::sleep(Duration::from_secs(60));
}

fn id((): ()) -> u32 {
    std::process::id()
}

fn main() {
    init();
    if std::env::args().any(|argument| argument == "child-by-hand") {
        println!();
        return sleep();
    }
    let path = std::env::temp_dir().join(format!("deaths-{}", std::process::id()));
    let gate = UnixListener::bind(&path).unwrap();
    let pool = ProcessPoolExecutor::new(2).unwrap();
    let rounds: Vec<(Times, Times)> = (0..ROUNDS).map(|_| (ours(&pool, &gate, &path), by_hand())).collect();
    std::fs::remove_file(&path).unwrap();
    let median = |of: &dyn Fn(&(Times, Times)) -> Duration| {
        let mut all: Vec<Duration> = rounds.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let tell = |what: &str, ours: Duration, other: Duration| {
        println!(
            "{what}: {ours:?}, by hand {other:?}, ratio {:.2}",
            ours.as_secs_f64() / other.as_secs_f64()
        );
    };
    tell("SIGKILL to the error (medians)", median(&|round| round.0.0), median(&|round| round.1.0));
    tell("SIGKILL to two fresh results (medians)", median(&|round| round.0.1), median(&|round| round.1.1));
}

fn ours(pool: &ProcessPoolExecutor, gate: &UnixListener, path: &Path) -> Times {
    let naps = [(); 2].map(|()| pool.submit(nap, path.to_owned()));
    let _open = [gate.accept().unwrap(), gate.accept().unwrap()];
    let pids = pool.worker_pids();
    assert_eq!(pids.len(), 2);
    let start = Instant::now();
    pids.into_iter().for_each(kill);
    let [first, second] = naps;
    assert!(first.result().is_err());
    let error = start.elapsed();
    assert!(second.result().is_err());
    let fresh = [pool.submit(id, ()), pool.submit(id, ())];
    let pids = fresh.map(|future| future.result().unwrap());
    assert!(pids.iter().all(|pid| pool.worker_pids().contains(pid)));
    (error, start.elapsed())
}

fn by_hand() -> Times {
    let mut old = [start_by_hand(), start_by_hand()];
    old.iter_mut().for_each(greet);
    let start = Instant::now();
    old.iter().for_each(|child| kill(child.id()));
    let [mut first, mut second] = old;
    first.wait().unwrap();
    let death = start.elapsed();
    second.wait().unwrap();
    let mut fresh = [start_by_hand(), start_by_hand()];
    fresh.iter_mut().for_each(greet);
    let results = start.elapsed();
    for mut child in fresh {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    (death, results)
}

fn start_by_hand() -> Child {
    Command::new("/proc/self/exe").arg("child-by-hand").stdout(Stdio::piped()).spawn().unwrap()
}

/// Waits for its byte.
fn greet(child: &mut Child) {
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
