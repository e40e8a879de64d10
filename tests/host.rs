//! What a host process sees of its workers: the terminal it shares with them, pools inside workers, and
//! what programs inherit that tasks or the host start.
//!
//! Tests that prove a clause of `PARITY.md` are named after it.
//!
//! Not here: workers that die (`faults.rs`), the end of a host (`fate.rs`). Most tests start this
//! program again as an ordinary process that plays a role, and watch it from outside: what happens to
//! it happens to it alone.

#![allow(unsafe_code)] // dispositions of signals, descriptors closed under their owner, a fork

mod faults_common;

use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
use faults_common::*;
use rustix::process::Signal;

concurrent_futures::init_tests!();

roles! {
    "looking away" => looking_away(),
    "printing" => printing(),
    "rude" => rude(),
    "reading" => reading(),
    "ordinary" => ordinary(),
    "starting programs" => starting_programs(),
    "quiet in pipelines" => quiet_in_pipelines(),
}

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

// ---- A host that looks away --------------------------------------------------------------------

fn reply_of((gate, size): (String, usize)) -> String {
    attend(&gate);
    "x".repeat(size)
}

/// A host that is stopped from outside while one of its workers replies and dies; it says what
/// became of the call.
fn looking_away() {
    let pool = pool(2);
    let other = pool.submit(wait_at, variable("OTHER"));
    let size = variable("SIZE").parse().unwrap();
    let future = pool.submit(reply_of, (variable("REPLYING"), size));
    let queued: Vec<_> = (0..5).map(|n| pool.submit(double, n)).collect();
    match get(future) {
        Ok(text) => println!("{} bytes arrived", text.len()),
        Err(error) => println!("lost: {error}"),
    }
    for (n, future) in (0..).zip(queued) {
        assert_eq!(get(future).unwrap(), n * 2);
    }
    assert!(other.running());
    attend(&variable("OTHER"));
    get(other).unwrap();
}

/// Stops the host, has the worker write as much of its reply as the pipe takes, kills the worker, and
/// lets the host look. Returns the worker and what the host said.
fn killed_while_the_host_looks_away(size: usize) -> (u32, String) {
    let (replying, other) = (Gate::new(), Gate::new());
    let host = role("looking away")
        .env("REPLYING", replying.path())
        .env("OTHER", other.path())
        .env("SIZE", size.to_string())
        .spawn()
        .unwrap();
    let (bystander, victim) = (other.next(), replying.next());
    let pid = victim.pid;
    stop(host.id());
    victim.go_on_and_leave();
    // It sleeps when it waits for its next call, or for space in the pipe.
    until("the reply is written", || state(pid) == Some('S'));
    send(pid, Signal::KILL);
    until_dead(pid);
    send(host.id(), Signal::CONT);
    other.next().go_on(); // the host itself: all the others have ended
    bystander.go_on();
    (pid, applause(host))
}

#[test]
fn p10_what_a_worker_wrote_before_it_was_killed_arrives() {
    let _watchdog = Watchdog::new("p10_what_a_worker_wrote_before_it_was_killed_arrives");
    let (_, said) = killed_while_the_host_looks_away(1000);
    assert!(said.contains("1000 bytes arrived"), "{said}");
}

#[test]
fn p12_a_worker_killed_while_it_writes_into_a_full_pipe_costs_one_call() {
    let _watchdog = Watchdog::new("p12_a_worker_killed_while_it_writes_into_a_full_pipe_costs_one_call");
    let (pid, said) = killed_while_the_host_looks_away(8 << 20);
    assert!(said.contains(&format!("worker process {pid} died (signal: 9")), "{said}");
}

// ---- SIGPIPE ---------------------------------------------------------------------------------

/// Many command line programs put SIGPIPE back to its default, to end quietly before `| head`.
/// A worker that dies while a call is written to it must not end such a host.
fn quiet_in_pipelines() {
    // SAFETY: the default action installs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let pool = pool(1);
    let old = get(pool.submit(pid_of_worker, ())).unwrap();
    stop(old);
    let long_call = |pool: &ProcessPoolExecutor| pool.submit(|text: String| text.len(), "x".repeat(4 << 20));
    let future = long_call(&pool);
    until("the call is on its way", || future.running());
    send(old, Signal::KILL);
    assert_eq!(get(future).unwrap(), 4 << 20);
    // Workers that are deaf from the start: what is written to their pipes has no reader.
    for _ in 0..20 {
        let builder = ProcessPoolExecutor::builder().max_workers(1);
        let pool = builder.initializer(|()| blank(pipe_from_host()), ()).build().unwrap();
        assert!(get(long_call(&pool)).is_err());
    }
}

#[test]
fn a_host_with_the_default_sigpipe_survives_its_workers() {
    let _watchdog = Watchdog::new("a_host_with_the_default_sigpipe_survives_its_workers");
    applause(role("quiet in pipelines").spawn().unwrap());
}

// ---- The terminal ----------------------------------------------------------------------------

const LINES: usize = 1000;
const FILL: &str = "the quick brown fox jumps over the lazy dog";

fn print_lines((gate, who): (String, String)) {
    attend(&gate);
    for n in 0..LINES {
        println!("out {who} {n} {FILL}");
        // In one piece: the standard library does not buffer stderr, so `eprintln!` writes piece by
        // piece, and lines of two processes may mix.
        let line = format!("err {who} {n} {FILL}\n");
        eprint!("{line}");
    }
}

/// Four workers and the host print at the same time; then things one at a time.
fn printing() {
    let (pool, gate) = (pool(4), Gate::new());
    let futures: Vec<_> =
        (0..4).map(|n| pool.submit(print_lines, (gate.path(), format!("worker-{n}")))).collect();
    let path = gate.path();
    let host = std::thread::spawn(move || print_lines((path, "host".into())));
    let everybody: Vec<_> = (0..5).map(|_| gate.next()).collect();
    drop(everybody);
    futures.into_iter().for_each(|future| get(future).unwrap());
    host.join().unwrap();

    get(pool.submit(|()| print!("a call that ends in the middle of a line"), ())).unwrap();
    println!(", and its host");
    get(pool.submit(|()| eprintln!("one worker alone {FILL}"), ())).unwrap();
}

fn assert_printed(text: &str, stream: &str) {
    let mut next: HashMap<&str, usize> = HashMap::new();
    for line in text.lines().filter(|line| line.contains(&format!("{stream} ")) && line.contains(FILL)) {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (first, who, n, fill) = (word(), word(), word(), word());
        assert!(first == stream && fill == FILL, "a torn line: {line:?}");
        let next = next.entry(who).or_default();
        assert_eq!(n, next.to_string(), "{who} in order: {line:?}");
        *next += 1;
    }
    let mut who: Vec<_> = next.into_iter().collect();
    who.sort_unstable();
    let everybody = ["host", "worker-0", "worker-1", "worker-2", "worker-3"];
    assert_eq!(who, everybody.map(|who| (who, LINES)), "{stream}");
}

#[test]
fn what_tasks_print_arrives_whole_in_pipes() {
    let _watchdog = Watchdog::new("what_tasks_print_arrives_whole_in_pipes");
    let output = role("printing").spawn().unwrap().wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{err}");
    assert_printed(&out, "out");
    assert_printed(&err, "err");
    assert!(out.contains("\na call that ends in the middle of a line, and its host\n"), "{out}");
    assert!(err.ends_with(&format!("\none worker alone {FILL}\n")), "{err}");
}

#[test]
fn what_tasks_print_arrives_whole_on_a_terminal() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let _watchdog = Watchdog::new("what_tasks_print_arrives_whole_on_a_terminal");
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let slave: OwnedFd = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
    let mut command = role("printing");
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut host = command.spawn().unwrap();
    drop(command); // our copies of the slave
    let mut bytes = Vec::new();
    let end = std::fs::File::from(master).read_to_end(&mut bytes);
    assert_eq!(end.unwrap_err().raw_os_error(), Some(libc::EIO), "the terminal has no other side any more");
    let text = String::from_utf8(bytes).unwrap().replace("\r\n", "\n");
    assert!(host.wait().unwrap().success(), "{text}");
    assert_printed(&text, "out");
    assert_printed(&text, "err");
    assert!(text.contains("\na call that ends in the middle of a line, and its host\n"), "{text}");
}

/// Tasks that write to descriptor 1 what they like, close it, or give it away.
fn rude() {
    let pool = pool(1);
    let noise = |n: u8| {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i as u8).wrapping_mul(n)).collect();
        std::io::stdout().write_all(&bytes).unwrap();
        std::io::stderr().write_all(&bytes).unwrap();
        // Such as a header of the protocol.
        std::io::stdout().write_all(&header(u64::MAX, kind::RETURNED, u64::from(n))).unwrap();
        n
    };
    let closed = |fd: i32| {
        // SAFETY: that the standard library still believes in the descriptor is the point.
        assert_eq!(unsafe { libc::close(fd) }, 0);
        println!("to nobody");
        eprintln!("to nobody");
        fd
    };
    let worker = get(pool.submit(pid_of_worker, ())).unwrap();
    for n in 0..10 {
        assert_eq!(get(pool.submit(noise, n)).unwrap(), n);
    }
    for fd in [0, 1, 2] {
        assert_eq!(get(pool.submit(closed, fd)).unwrap(), fd);
        // Whatever is opened next is number `fd`, and printing goes there.
        let elsewhere = |n: u64| {
            let file = std::fs::File::open("/proc/self/stat").unwrap();
            println!("to a file that is open for reading");
            drop(file);
            n * 2
        };
        assert_eq!(get(pool.submit(elsewhere, 21)).unwrap(), 42);
    }
    assert_eq!(get(pool.submit(pid_of_worker, ())).unwrap(), worker, "nobody died of it");
}

#[test]
fn nothing_that_tasks_do_to_stdio_disturbs_the_pool() {
    let _watchdog = Watchdog::new("nothing_that_tasks_do_to_stdio_disturbs_the_pool");
    let output = role("rude").spawn().unwrap().wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    let tail: String = err.chars().rev().take(2000).collect::<Vec<_>>().into_iter().rev().collect();
    assert!(output.status.success(), "{tail}");
}

/// Reads its own stdin, before and after its tasks tried to.
fn reading() {
    let stdin = std::io::stdin();
    let mut line = String::new();
    stdin.lock().read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    let pool = pool(2);
    let read = |()| {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).unwrap();
        text
    };
    for _ in 0..4 {
        assert_eq!(get(pool.submit(read, ())).unwrap(), "");
    }
    line.clear();
    attend(&variable("READY"));
    stdin.lock().read_line(&mut line).unwrap();
    assert_eq!(line, "second\n");
}

#[test]
fn stdin_is_the_hosts_alone() {
    let _watchdog = Watchdog::new("stdin_is_the_hosts_alone");
    let ready = Gate::new();
    let mut host = role("reading").stdin(Stdio::piped()).env("READY", ready.path()).spawn().unwrap();
    let mut stdin = host.stdin.take().unwrap();
    stdin.write_all(b"first\n").unwrap();
    let visitor = ready.next();
    stdin.write_all(b"second\n").unwrap();
    visitor.go_on();
    applause(host);
}

// ---- Programs that tasks start ---------------------------------------------------------------

/// Descriptors and environment that a program inherits from this process.
fn inherited((): ()) -> (Vec<String>, String) {
    let list = Command::new("sh").args(["-c", "ls -l /proc/self/fd; echo; env"]).output().unwrap();
    let text = String::from_utf8(list.stdout).unwrap();
    let (descriptors, env) = text.split_once("\n\n").unwrap();
    // "… 1 -> pipe:[123]": the kind counts, the number of the pipe is another each time.
    let kind = |line: &str| Some(line.rsplit_once(' ')?.1.split(['[', '/']).next()?.to_owned());
    let mut kinds: Vec<String> = descriptors.lines().skip(1).filter_map(kind).collect();
    kinds.sort();
    (kinds, env.into())
}

#[test]
fn a_program_that_a_task_starts_inherits_nothing_of_the_pool() {
    let _watchdog = Watchdog::new("a_program_that_a_task_starts_inherits_nothing_of_the_pool");
    let pool = pool(2);
    let (of_host, _) = inherited(());
    let (of_worker, env) = get(pool.submit(inherited, ())).unwrap();
    assert_eq!(of_worker.len(), of_host.len(), "in the worker {of_worker:?}, in the host {of_host:?}");
    let sockets = |kinds: &[String]| kinds.iter().filter(|kind| kind.starts_with("socket")).count();
    assert!(sockets(&of_worker) <= sockets(&of_host), "{of_worker:?}");
    // What does go on is the guard, and it says how deep we are.
    assert!(env.contains("CONCURRENT_FUTURES_WORKER=1."), "{env}");
}

/// A program like any other, which makes use of a pool.
fn ordinary() {
    let value = get(pool(1).submit(double, 21)).unwrap();
    println!("an ordinary program: {value}");
}

#[test]
fn a_copy_of_the_program_that_a_task_starts_is_no_worker() {
    let _watchdog = Watchdog::new("a_copy_of_the_program_that_a_task_starts_is_no_worker");
    let start = |with_socket: bool| {
        let mut command = role("ordinary");
        let (ours, theirs) = UnixStream::pair().unwrap();
        if with_socket {
            command.stdin(OwnedFd::from(theirs));
        }
        let printed = applause(command.spawn().unwrap());
        drop(ours);
        printed
    };
    let pool = pool(1);
    for with_socket in [false, true] {
        let printed = get(pool.submit(start, with_socket)).unwrap();
        assert!(printed.contains("an ordinary program: 42\n"), "{printed}");
    }
}

// ---- Programs that the host starts -----------------------------------------------------------

/// What `ls` finds open in itself, started by the standard library.
fn open_in_a_command() -> String {
    let output = Command::new("ls").arg("/proc/self/fd").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The same, started as programs do that know nothing of the standard library and its care.
fn open_in_a_fork() -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let arguments = [c"ls".as_ptr(), c"/proc/self/fd".as_ptr(), std::ptr::null()];
    // SAFETY: the child makes system calls alone, with what was made before the fork; it becomes
    // another program or ends. The parent waits for it, and nobody else does.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::dup2(writer.as_raw_fd(), 1);
            libc::execv(c"/bin/ls".as_ptr(), arguments.as_ptr());
            libc::_exit(127);
        }
        drop(writer);
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    };
    assert_eq!(status, 0);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

/// A host that starts programs while its pools start workers.
fn starting_programs() {
    const PROGRAMS: usize = 300;
    let open_in_a_worker = |()| descriptors("/proc/self/fd").len();
    let ways: [fn() -> String; 2] = [open_in_a_command, open_in_a_fork];
    let in_a_program = ways.map(|open_in| open_in());
    let in_a_worker = get(pool(1).submit(open_in_a_worker, ())).unwrap();

    let started = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (open_in, expected) in ways.iter().zip(&in_a_program) {
            scope.spawn(|| {
                for _ in 0..PROGRAMS {
                    assert_eq!(open_in(), *expected);
                    started.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut workers = 0;
        // A program that inherits too much panics in its thread, and does not count as started.
        until("all programs were started", || {
            let pool = pool(2);
            for death in [Death::Kill, Death::ExitZero] {
                assert_eq!(get(pool.submit(open_in_a_worker, ())).unwrap(), in_a_worker);
                get::<()>(pool.submit(|death: Death| death.die(), death)).unwrap_err();
                workers += 2;
            }
            started.load(Ordering::Relaxed) == PROGRAMS * ways.len()
        });
        println!("{workers} workers meanwhile");
        assert!(workers > 20);
    });
}

#[test]
fn a_program_that_the_host_starts_at_the_same_moment_inherits_nothing_of_the_pool() {
    let _watchdog =
        Watchdog::new("a_program_that_the_host_starts_at_the_same_moment_inherits_nothing_of_the_pool");
    println!("{}", applause(role("starting programs").spawn().unwrap()));
}

// ---- Pools inside workers --------------------------------------------------------------------

/// The processes of a pool in a pool in a pool …
fn nest(levels: u32) -> Vec<u32> {
    let mut pids = vec![std::process::id()];
    if levels > 0 {
        pids.extend(get(pool(1).submit(nest, levels - 1)).unwrap());
    }
    pids
}

#[test]
fn p21_a_worker_can_have_a_pool_of_its_own() {
    let _watchdog = Watchdog::new("p21_a_worker_can_have_a_pool_of_its_own");
    let mut pids = nest(3);
    assert_eq!(pids.len(), 4);
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 4, "each is another process");
}

/// Calls that a task submits have numbers of their own; one of them is the number that the task
/// itself has in its host.
#[test]
fn a_task_can_wait_for_every_call_of_its_own_pool() {
    /// A call that ends when its caller has gone to sleep: one that ends at once is not waited for.
    fn waited_for(pool: &ProcessPoolExecutor, n: u64) -> Result<u64, Error> {
        let gate = Gate::new();
        let future = pool.submit(|(gate, n): (String, u64)| (wait_at(gate), n * 2).1, (gate.path(), n));
        let caller = rustix::thread::gettid().as_raw_pid() as u32;
        std::thread::scope(|scope| {
            let visitor = gate.next();
            scope.spawn(move || {
                until("the caller sleeps", || state(caller) == Some('S'));
                drop(visitor);
            });
            get(future)
        })
    }
    fn sum(calls: u64) -> u64 {
        let pool = pool(1);
        (0..calls).map(|n| waited_for(&pool, n).unwrap()).sum()
    }
    let _watchdog = Watchdog::new("a_task_can_wait_for_every_call_of_its_own_pool");
    let pool = pool(1);
    let first = pool.submit(double, 0);
    let second = pool.submit(sum, first.id().get() + 20);
    assert!(second.id().get() < first.id().get() + 20, "the number of the second is among those it gives");
    let calls = first.id().get() + 20;
    assert_eq!(get(second).unwrap(), calls * (calls - 1));
}

/// How many pools fit into each other, and what is said then.
fn dig((): ()) -> (u32, String) {
    match ProcessPoolExecutor::new(1) {
        Ok(pool) => {
            let (depth, error) = get(pool.submit(dig, ())).unwrap();
            (depth + 1, error)
        }
        Err(error) => (0, format!("{error:?}")),
    }
}

#[test]
fn p21_pools_in_pools_end_with_an_error() {
    let _watchdog = Watchdog::new("p21_pools_in_pools_end_with_an_error");
    let (depth, error) = dig(());
    assert_eq!(depth, 16);
    assert!(error.starts_with("InvalidArgument") && error.contains("nested 16 deep"), "{error}");
}

fn host_a_call(gate: String) -> u32 {
    get(pool(1).submit(wait_at, gate)).unwrap()
}

#[test]
fn the_pool_of_a_worker_that_is_killed_goes_with_it() {
    let _watchdog = Watchdog::new("the_pool_of_a_worker_that_is_killed_goes_with_it");
    let (pool, gate) = (pool(1), Gate::new());
    let future = pool.submit(host_a_call, gate.path());
    let visitor = gate.next();
    let grandchild = Observed::new(visitor.pid);
    let child = pool.worker_pids();
    assert!(!child.contains(&visitor.pid));
    assert!(future.kill());
    assert!(matches!(get(future), Err(Error::WorkerDied { pid, .. }) if child == [pid]));
    grandchild.ends();
    assert_eq!(get(pool.submit(double, 2)).unwrap(), 4);
}
