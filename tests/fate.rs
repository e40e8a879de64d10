//! How a host process ends, and what is left of its pools then: nothing. Every way out, with workers
//! that wait, spin, idle, stand still, or are hosts themselves.
//!
//! Tests that prove a clause of `PARITY.md` are named after it.
//!
//! Not here: what becomes of the work (`exit.rs`). A host plays in a process of its own, and so does
//! its witness, who started it: who is left without a parent becomes the witness's child (it is the
//! "subreaper" of its descendants), so it knows of everyone that the host left, and of their ends.

#![cfg(target_os = "linux")]
#![allow(unsafe_code)] // dispositions of signals, a terminal's foreground, a function before `init`

mod faults_common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Shutdown};
use faults_common::*;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, WaitOptions, waitpid};

concurrent_futures::init_tests!();

#[test]
fn role_entry() {
    let Some(role) = my_role() else { return };
    let _watchdog = Watchdog::new("a role");
    // A test that a shell runs in the background inherits that they are ignored.
    for signal in [libc::SIGINT, libc::SIGHUP] {
        // SAFETY: the default disposition runs no code.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    match role.as_str() {
        "witness" => witness(),
        "host" => host(),
        "forked" => forked(),
        "bearing" => bearing(),
        "unwinding" => unwinding(),
        "interrupted" => interrupted(),
        other => panic!("no role: {other}"),
    }
}

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

// ---- The witness -----------------------------------------------------------------------------

/// Starts the role `HOST`; if there is a `TERMINAL`, then as a shell does: in a group of its own, in
/// the foreground. Tells how it ended, and then how everyone ended whom it left.
fn witness() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let mut host = role(&variable("HOST"));
    host.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let terminal = std::env::var_os("TERMINAL").map(|path| {
        rustix::process::setsid().unwrap();
        // SAFETY: to ignore a signal installs no code. It comes when the terminal hangs up.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        let terminal = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        rustix::process::ioctl_tiocsctty(&terminal).unwrap();
        host.process_group(0).stdin(terminal.try_clone().unwrap());
        host.stdout(terminal.try_clone().unwrap()).stderr(terminal.try_clone().unwrap());
        terminal
    });
    let mut child = host.spawn().unwrap();
    drop(host); // its copies of the terminal
    if let Some(terminal) = &terminal {
        // SAFETY: a system call with two numbers, of an open descriptor and of a child's group.
        assert_eq!(unsafe { libc::tcsetpgrp(terminal.as_raw_fd(), child.id() as i32) }, 0);
    }
    attend(&variable("WITNESS"));
    let status = child.wait().unwrap();
    println!("witness: {} {:?} {:?}", child.id(), status.code(), status.signal());
    while let Ok(Some((pid, status))) = waitpid(None, WaitOptions::empty()) {
        println!("witness: {pid} {:?} {:?}", status.exit_status(), status.terminating_signal());
    }
}

/// How a process ended: its number, and exit code or signal.
type End = (u32, Option<i32>, Option<i32>);

/// What the witness said: the host's end, and those of all who were left.
fn testimony(said: &str) -> (End, Vec<End>) {
    let number = |word: &str| word.strip_prefix("Some(")?.strip_suffix(')')?.parse().ok();
    let mut ends = said.lines().filter_map(|line| line.strip_prefix("witness: ")).map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0].parse().unwrap(), number(words[1]), number(words[2]))
    });
    let host = ends.next().expect("the witness saw the end of the host");
    (host, ends.collect())
}

/// The keyboard's side of a terminal, and the path of the other.
fn open_terminal() -> (File, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap();
    (File::from(master), path.into_string().unwrap())
}

const CTRL_C: &[u8] = b"\x03";

/// A host and its witness.
struct Show {
    witness: Child,
    ready: Gate,
    terminal: Option<File>,
}

impl Show {
    fn of(host: &str, on_terminal: bool, configure: impl FnOnce(&mut Command)) -> Show {
        let (at_witness, ready) = (Gate::new(), Gate::new());
        let mut witness = role("witness");
        witness.env("HOST", host).env("WITNESS", at_witness.path()).env("READY", ready.path());
        witness.env("RUST_BACKTRACE", "0"); // to make one may take longer than all the rest
        configure(&mut witness);
        let terminal = on_terminal.then(|| {
            let (keyboard, path) = open_terminal();
            witness.env("TERMINAL", path);
            keyboard
        });
        let witness = witness.spawn().unwrap();
        at_witness.next().go_on(); // the host has been started, and is in the foreground
        Show { witness, ready, terminal }
    }

    /// Keys come to whom the terminal gives them.
    fn types(&mut self, keys: &[u8]) {
        self.terminal.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// When everybody has gone: the host's end, that of all whom it left, and what was printed other
    /// than by the harness on stdout.
    fn end(self) -> (End, Vec<End>, String) {
        let Output { status, stdout, stderr } = self.witness.wait_with_output().unwrap();
        let stdout = String::from_utf8(stdout).unwrap();
        let mut printed = String::from_utf8(stderr).unwrap();
        assert!(status.success(), "the witness ended with {status}\n{stdout}\n{printed}");
        if let Some(mut terminal) = self.terminal {
            let mut bytes = Vec::new();
            let end = terminal.read_to_end(&mut bytes).unwrap_err();
            assert_eq!(end.raw_os_error(), Some(libc::EIO), "the terminal has no other side any more");
            printed += &String::from_utf8(bytes).unwrap();
        }
        let (host, left) = testimony(&stdout);
        (host, left, printed)
    }
}

// ---- The ways a host ends --------------------------------------------------------------------

/// What workers do when their host ends.
const BUSY: [&str; 6] = ["WAITING", "SPINNING", "STANDING_STILL", "LITTERING", "FORGETFUL", "NESTING"];

fn spin(gate: String) {
    attend(&gate);
    loop {
        std::hint::spin_loop();
    }
}

/// Leaves a copy of itself that holds its pipes, and a program that has its stdio.
fn litter((gate, notes): (String, [String; 2])) {
    std::fs::write(&notes[0], fork_and_hold().to_string()).unwrap();
    std::fs::write(&notes[1], program_that_waits().to_string()).unwrap();
    attend(&gate);
}

/// Waits, and has forgotten that it is to be killed with its host: as it is after a change of user,
/// and on other systems. Its own thread must watch.
fn forget_and_wait(gate: String) {
    // SAFETY: this system call changes a setting of the calling thread.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) }, 0);
    attend(&gate);
}

/// Is a host itself.
fn nest(gate: String) -> u32 {
    let pool = pool(1);
    attend(&gate);
    get(pool.submit(wait_at, gate)).unwrap()
}

/// A host with workers that do all that workers can do, and a program of its own. Then it ends.
fn host() {
    static POOLS: OnceLock<[ProcessPoolExecutor; 2]> = OnceLock::new(); // not dropped when `main` returns
    let [busy, idle] = POOLS.get_or_init(|| [pool(BUSY.len()), pool(2)]);
    for what in BUSY {
        let gate = variable(what);
        match what {
            "SPINNING" => drop(busy.submit(spin, gate)),
            "LITTERING" => drop(busy.submit(litter, (gate, ["FORK", "DAEMON"].map(variable)))),
            "FORGETFUL" => drop(busy.submit(forget_and_wait, gate)),
            "NESTING" => drop(busy.submit(nest, gate)),
            _ => drop(busy.submit(wait_at, gate)),
        }
    }
    drop(busy.submit(double, 1)); // stays in the queue
    let quick = ["IDLE", "IDLE"].map(|gate| idle.submit(wait_at, variable(gate)));
    std::fs::write(variable("PROGRAM"), program_that_waits().to_string()).unwrap();
    for call in quick {
        get(call).unwrap();
    }
    attend(&variable("READY"));
    match variable("WAY").as_str() {
        "return" => {
            for pool in [busy, idle] {
                pool.shutdown_with(Shutdown { wait: false, cancel_futures: false });
            }
        }
        "exit" => std::process::exit(7),
        "abort" => Death::Abort.die(),
        "panic" => panic!("a host that panics"),
        "bad write" => Death::BadWrite.die(),
        "exec" => panic!("{}", Command::new("sh").args(["-c", "exit 9"]).exec()),
        signal => panic!("still here after {signal}"),
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// The host's own.
    Own(&'static str),
    Signal(Signal),
    /// A host that stands still when it is killed.
    Stopped,
    /// Typed at the terminal.
    CtrlC,
}

/// Plays one host to its end.
fn ends(way: Way) {
    let dir = TempDir::new();
    let gates: Vec<(&str, Gate)> = BUSY.into_iter().chain(["IDLE"]).map(|name| (name, Gate::new())).collect();
    let notes = ["FORK", "DAEMON", "PROGRAM"].map(|name| (name, dir.path(name)));
    let mut show = Show::of("host", matches!(way, Way::CtrlC), |host| {
        host.envs(gates.iter().map(|(name, gate)| (name, gate.path())));
        host.envs(notes.clone());
        host.env("WAY", if let Way::Own(way) = way { way } else { "a signal" });
    });

    let gate = |name: &str| &gates.iter().find(|(other, _)| *other == name).unwrap().1;
    let waiting: Vec<Visitor> = BUSY.map(|name| gate(name).next()).into();
    let seen = |visitor: &Visitor| Leftover(Observed::new(visitor.pid));
    let mut workers: Vec<Leftover> = waiting.iter().map(seen).collect();
    let mut standing_still = Vec::new();
    let mut kept = Vec::new();
    for (what, visitor) in BUSY.into_iter().zip(waiting) {
        match what {
            "SPINNING" => visitor.go_on(),
            "NESTING" => {
                visitor.go_on();
                let grandchild = gate(what).next();
                workers.push(seen(&grandchild));
                standing_still.push(grandchild.pid);
                kept.push(grandchild);
            }
            "STANDING_STILL" => {
                standing_still.push(visitor.pid);
                kept.push(visitor);
            }
            _ => kept.push(visitor),
        }
    }
    let idle = [gate("IDLE").next(), gate("IDLE").next()];
    workers.extend(idle.iter().map(seen));
    standing_still.push(idle[1].pid);
    idle.into_iter().for_each(Visitor::go_on);
    let at_ready = show.ready.next();
    let pid = at_ready.pid;
    standing_still.into_iter().for_each(stop);
    let leftovers = notes.map(|(_, note)| leftover(&note));
    assert!(workers.iter().all(|worker| worker.0.is_alive()));

    let begin = Instant::now();
    match way {
        Way::Own(_) => at_ready.go_on(),
        Way::Signal(signal) => send(pid, signal),
        Way::Stopped => {
            stop(pid);
            send(pid, Signal::KILL);
        }
        Way::CtrlC => show.types(CTRL_C),
    }
    workers.iter().for_each(|worker| worker.0.ends());
    println!("{way:?}: the last of {} workers was gone after {:?}", workers.len(), begin.elapsed());
    for (leftover, what) in leftovers.iter().zip(["the fork", "the daemon", "the program"]) {
        let is_alive = leftover.0.is_alive();
        assert!(
            is_alive || matches!(way, Way::CtrlC),
            "{way:?}: {what} has nothing to do with it, and is gone"
        );
    }
    let leftovers = leftovers.map(|leftover| leftover.0.pid); // and ends it

    let ((host, code, signal), left, printed) = show.end();
    assert_eq!(host, pid);
    let is_own = match way {
        Way::Own("return") => code == Some(0),
        Way::Own("exit") => code == Some(7),
        Way::Own("exec") => code == Some(9),
        Way::Own("panic") => code == Some(101),
        Way::Own("abort") => signal == Some(libc::SIGABRT),
        Way::Own(_) => signal == Some(libc::SIGSEGV),
        Way::Signal(expected) => signal == Some(expected.as_raw()),
        Way::Stopped => signal == Some(libc::SIGKILL),
        Way::CtrlC => signal == Some(libc::SIGINT),
    };
    assert!(is_own, "{way:?}: the host ended with {code:?}, {signal:?}");
    for (pid, code, signal) in left {
        // An idle one may see the end of its pipe first, and leave of its own accord.
        let is_gone = workers.iter().any(|worker| worker.0.pid == pid)
            && (signal == Some(libc::SIGKILL) || code == Some(0));
        let is_known = is_gone || leftovers.contains(&pid);
        assert!(is_known, "{way:?}: {pid} ended with {code:?}, {signal:?}");
    }
    let is_clean = match way {
        Way::Own("panic") => printed.contains("a host that panics") && !printed.contains("nobody read"),
        Way::CtrlC => !printed.contains("concurrent-futures"),
        _ => printed.is_empty(),
    };
    assert!(is_clean, "{way:?}: {printed}");
}

#[test]
fn p13_no_worker_outlives_a_host_that_is_killed() {
    let _watchdog = Watchdog::new("p13_no_worker_outlives_a_host_that_is_killed");
    ends(Way::Signal(Signal::KILL));
    ends(Way::Signal(Signal::TERM));
    ends(Way::Signal(Signal::INT));
    ends(Way::Signal(Signal::HUP));
    ends(Way::Stopped);
}

#[test]
fn p13_no_worker_outlives_a_host_that_ends() {
    let _watchdog = Watchdog::new("p13_no_worker_outlives_a_host_that_ends");
    for way in ["return", "exit", "exec", "panic", "abort", "bad write"] {
        ends(Way::Own(way));
    }
}

#[test]
fn p13_no_worker_outlives_a_host_that_is_interrupted() {
    let _watchdog = Watchdog::new("p13_no_worker_outlives_a_host_that_is_interrupted");
    ends(Way::CtrlC);
}

/// A host of which a copy goes on that holds its ends of all pipes, and does not know.
fn forked() {
    static POOL: OnceLock<ProcessPoolExecutor> = OnceLock::new(); // not dropped
    let pool = POOL.get_or_init(|| pool(2));
    drop(pool.submit(wait_at, variable("WAITING")));
    get(pool.submit(wait_at, variable("IDLE"))).unwrap();
    std::fs::write(variable("FORK"), fork_and_hold().to_string()).unwrap();
    attend(&variable("READY"));
}

/// The pipes do not end then: it is the kernel that tells.
#[test]
fn no_worker_outlives_a_host_of_which_a_fork_lives_on() {
    let _watchdog = Watchdog::new("no_worker_outlives_a_host_of_which_a_fork_lives_on");
    for signal in [None, Some(Signal::KILL)] {
        let (waiting, idle, dir) = (Gate::new(), Gate::new(), TempDir::new());
        let note = dir.path("fork");
        let show = Show::of("forked", false, |host| {
            host.env("WAITING", waiting.path()).env("IDLE", idle.path()).env("FORK", &note);
        });
        let busy = waiting.next();
        let quick = idle.next();
        let workers = [&busy, &quick].map(|visitor| Leftover(Observed::new(visitor.pid)));
        quick.go_on();
        let at_ready = show.ready.next();
        let fork = leftover(&note);
        match signal {
            Some(signal) => send(at_ready.pid, signal),
            None => at_ready.go_on(),
        }
        workers.iter().for_each(|worker| worker.0.ends());
        assert!(fork.0.is_alive(), "it was not its death that ended them");
        drop(fork);
        let (_, _, printed) = show.end();
        assert_eq!(printed, "");
    }
}

/// Runs in every process of this program before `init` does; waits where a pool's `env` tells it to,
/// in a worker.
mod birth {
    pub(crate) const GATE: &str = "CF_TEST_BIRTH_GATE";

    extern "C" fn before_init() {
        if let Ok(gate) = std::env::var(GATE) {
            super::attend(&gate);
        }
    }

    #[used]
    #[unsafe(link_section = ".init_array.00100")] // `init_tests!` uses `.init_array`, which comes after
    static BEFORE_INIT: extern "C" fn() = before_init;
}

/// A host whose worker is on its way; and perhaps a copy of it, as above.
fn bearing() {
    let pool = ProcessPoolExecutor::builder().env(birth::GATE, variable("BIRTH")).build().unwrap();
    drop(pool.submit(double, 1));
    attend(&variable("READY"));
    if let Ok(note) = std::env::var("FORK") {
        std::fs::write(note, fork_and_hold().to_string()).unwrap();
    }
    attend(&variable("READY"));
}

/// It has not asked the kernel by then, and does not know yet that there is a host.
#[test]
fn no_worker_outlives_a_host_that_ends_while_it_starts() {
    let _watchdog = Watchdog::new("no_worker_outlives_a_host_that_ends_while_it_starts");
    for is_forked in [false, true] {
        let (birth, dir) = (Gate::new(), TempDir::new());
        let note = dir.path("fork");
        let show = Show::of("bearing", false, |host| {
            host.env("BIRTH", birth.path());
            if is_forked {
                host.env("FORK", &note);
            }
        });
        let newborn = birth.next();
        let worker = Leftover(Observed::new(newborn.pid));
        show.ready.next().go_on();
        let at_ready = show.ready.next();
        let fork = is_forked.then(|| leftover(&note));
        let host = Observed::new(at_ready.pid);
        send(at_ready.pid, Signal::KILL);
        host.ends();
        newborn.go_on();
        worker.0.ends();
        assert!(fork.iter().all(|fork| fork.0.is_alive()), "it was not its death that ended the worker");
        drop(fork);
        let (_, _, printed) = show.end();
        assert_eq!(printed, "");
    }
}

/// A thread panics while it owns a pool: what runs ends, what waits is cancelled.
fn unwinding() {
    let gate = Gate::new();
    let (futures, come) = std::sync::mpsc::channel();
    let path = gate.path();
    let owner = std::thread::spawn(move || {
        let pool = pool(1);
        let running = pool.submit(wait_at, path);
        until("it runs", || running.running());
        let queued: Vec<_> = (0..5).map(|n| pool.submit(double, n)).collect();
        futures.send((running, queued)).unwrap();
        panic!("the thread that owns the pool");
    });
    let visitor = gate.next();
    let (running, queued) = come.recv().unwrap();
    for future in queued {
        assert!(matches!(get(future), Err(Error::Cancelled { .. })));
    }
    let worker = Observed::new(visitor.pid);
    assert!(!running.done() && worker.is_alive(), "what runs is waited for");
    visitor.go_on();
    assert_eq!(get(running).unwrap(), worker.pid);
    assert!(owner.join().is_err());
    assert!(!worker.is_alive());
    assert!(children_of(std::process::id()).is_empty());
}

#[test]
fn a_pool_that_is_dropped_by_a_panic_cancels_what_waits() {
    let _watchdog = Watchdog::new("a_pool_that_is_dropped_by_a_panic_cancels_what_waits");
    applause(role("unwinding").spawn().unwrap());
}

// ---- Ctrl-C ----------------------------------------------------------------------------------

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_interrupt(_signal: i32) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// A host that outlives Ctrl-C, with a worker that is busy and one that is idle. The busy one has
/// started a program.
fn interrupted() {
    // SAFETY: the handler only stores to an atomic.
    unsafe { libc::signal(libc::SIGINT, on_interrupt as extern "C" fn(i32) as libc::sighandler_t) };
    let pool = pool(2);
    let slow = |(gate, note): (String, String)| {
        let mut program = Command::new("sleep").arg("150").spawn().unwrap();
        std::fs::write(note, program.id().to_string()).unwrap();
        (wait_at(gate), program.wait().unwrap().signal())
    };
    let busy = pool.submit(slow, (variable("BUSY"), variable("NOTE")));
    let idle = pool.submit(wait_at, variable("IDLE"));
    let idle = get(idle).unwrap();
    attend(&variable("IDLE"));
    let (pid, program) = get(busy).unwrap();
    until("Ctrl-C came here too", || INTERRUPTED.load(Ordering::SeqCst));
    assert_eq!(program, Some(libc::SIGINT), "a program of a task is not deaf to it");
    let mut workers = pool.worker_pids();
    workers.sort_unstable();
    let mut expected = [pid, idle];
    expected.sort_unstable();
    assert_eq!(workers, expected, "no worker died of it");
    assert_eq!(get(pool.submit(double, 21)).unwrap(), 42);
}

/// A terminal sends SIGINT to the whole process group.
#[test]
fn p25_ctrl_c_is_the_hosts_alone() {
    let _watchdog = Watchdog::new("p25_ctrl_c_is_the_hosts_alone");
    let (idle, busy, dir) = (Gate::new(), Gate::new(), TempDir::new());
    let note = dir.path("note");
    let mut show = Show::of("interrupted", true, |host| {
        host.env("IDLE", idle.path()).env("BUSY", busy.path()).env("NOTE", &note);
    });
    idle.next().go_on();
    let at_idle = idle.next(); // the host itself
    let host = at_idle.pid;
    let at_busy = busy.next();
    let program = leftover(&note);
    show.types(CTRL_C);
    program.0.ends(); // so it has come to the others too
    at_busy.go_on();
    at_idle.go_on();
    let (end, left, printed) = show.end();
    assert_eq!(end, (host, Some(0), None), "{printed}");
    assert!(left.is_empty(), "{left:?}: what a pool started has been waited for when the pool is gone");
}
