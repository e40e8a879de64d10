//! Workers of process pools that die, alone and among others, by themselves and at our hands, and workers
//! that talk nonsense: each costs one call at the most, and the pool goes on.
//!
//! Tests that prove a clause of `PARITY.md` are named after it.
//!
//! Not here: every fault at every moment (`matrix`), hosts that die (`fate.rs`), calls in great number and
//! size (`traffic.rs`), systems that refuse (`limits.rs`), programs without `init` (`not_initialised.rs`).
//! Every test has its own pool and counts the processes of that one only; nothing here changes the test's own
//! process.

#![allow(unsafe_code)] // placing a function before `init`, and handlers of exit

mod faults_common;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, ProcessPoolBuilder, ProcessPoolExecutor, Shutdown, TaskOptions, task,
};
use faults_common::*;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

concurrent_futures::init_tests!();

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

/// Pid and status of the worker that an error says died.
#[track_caller]
fn death_in<T: std::fmt::Debug>(outcome: Result<T, Error>) -> (u32, ExitStatus) {
    match outcome {
        Err(Error::WorkerDied { pid, status: Some(status), .. }) => (pid, status),
        other => panic!("not a death that is known: {other:?}"),
    }
}

/// The pool still does what it is there for, with no more processes than it may have.
#[track_caller]
fn assert_works(pool: &ProcessPoolExecutor) {
    let futures: Vec<_> = (0..8).map(|n| pool.submit(double, n)).collect();
    let values: Vec<u64> = futures.into_iter().map(|future| get(future).unwrap()).collect();
    assert_eq!(values, [0, 2, 4, 6, 8, 10, 12, 14]);
    let pids = pool.worker_pids();
    assert!(pids.len() <= pool.max_workers(), "{pids:?}");
}

// ---- Birth -----------------------------------------------------------------------------------

/// Runs in every process of this program before `init` does; a pool's `env` tells it what to do.
mod birth {
    use super::*;

    /// A file that gets a line for each worker that is started.
    pub(crate) const COUNT: &str = "CF_TEST_BIRTHS";
    /// A gate to wait at, while the file `<gate>.shut` exists.
    pub(crate) const GATE: &str = "CF_TEST_BIRTH_GATE";

    extern "C" fn before_init() {
        if let Ok(path) = std::env::var(COUNT) {
            append_line(path, "born");
        }
        if let Ok(gate) = std::env::var(GATE)
            && std::fs::exists(format!("{gate}.shut")).unwrap()
        {
            attend(&gate);
        }
    }

    #[used]
    #[unsafe(link_section = ".init_array.00100")] // `init_tests!` uses `.init_array`, which comes after
    static BEFORE_INIT: extern "C" fn() = before_init;
}

// ---- The initializer -------------------------------------------------------------------------

fn broken_by_initializer(builder: ProcessPoolBuilder) -> (Error, usize) {
    let dir = TempDir::new();
    let births = dir.path("births");
    let pool = builder.max_workers(1).env(birth::COUNT, &births).build().unwrap();
    let futures: Vec<_> = (0..5).map(|n| pool.submit(double, n)).collect();
    let errors: Vec<_> = futures.into_iter().map(|future| get(future).unwrap_err()).collect();
    assert!(errors.iter().all(|error| matches!(error, Error::Broken { .. })), "{errors:?}");
    pool.shutdown();
    (errors.into_iter().next().unwrap(), lines_of(&births))
}

/// The chain of causes as text.
fn in_full(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(" ← {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn p16_an_initializer_that_exits_breaks_the_pool_after_three_attempts() {
    let _watchdog = Watchdog::new("p16_an_initializer_that_exits_breaks_the_pool_after_three_attempts");
    for death in [Death::ExitThree, Death::Kill, Death::StackOverflow] {
        let (error, born) = broken_by_initializer(
            ProcessPoolExecutor::builder().initializer(|death: Death| death.die(), death),
        );
        assert_eq!(born, 3, "{death:?}: {error}");
        let Error::Broken { cause: Some(cause), .. } = &error else { panic!("{error:?}") };
        let (_, status) = death_in(Err::<(), _>((**cause).clone()));
        assert!(death.explains(status), "{death:?}: {}", in_full(&error));
    }
}

#[test]
fn p16_an_initializer_that_panics_breaks_the_pool_at_once() {
    let _watchdog = Watchdog::new("p16_an_initializer_that_panics_breaks_the_pool_at_once");
    let (error, born) = broken_by_initializer(
        ProcessPoolExecutor::builder().initializer(|death: Death| death.die(), Death::Panic),
    );
    assert_eq!(born, 1, "{error}");
    let Error::Broken { cause: Some(cause), .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**cause, Error::Panicked { .. }), "{}", in_full(&error));
    assert!(in_full(&error).contains("a task that panics"), "{}", in_full(&error));
}

/// An initializer that returns and leaves a worker that cannot hear: it hangs up before its first
/// long call, and so does each that replaces it.
#[test]
fn a_call_that_no_worker_takes_ends() {
    let _watchdog = Watchdog::new("a_call_that_no_worker_takes_ends");
    let dir = TempDir::new();
    let births = dir.path("births");
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .initializer(|()| blank(pipe_from_host()), ())
        .env(birth::COUNT, &births)
        .build()
        .unwrap();
    let future = pool.submit(|text: String| text.len(), "x".repeat(1 << 16));
    until("the call ends or many workers are started for it", || future.done() || lines_of(&births) > 30);
    if !future.done() {
        until("the spin is stopped", || {
            pool.kill_workers();
            future.done()
        });
        pool.shutdown();
        panic!("{} workers were started for one call", lines_of(&births));
    }
    let error = get(future).unwrap_err();
    assert!(matches!(error, Error::Broken { .. } | Error::WorkerDied { .. }), "{error:?}");
}

// ---- Death while idle, or before the call was read -------------------------------------------

#[test]
fn p10_nobody_notices_that_an_idle_worker_died() {
    let _watchdog = Watchdog::new("p10_nobody_notices_that_an_idle_worker_died");
    for signal in [Signal::KILL, Signal::TERM, Signal::SEGV] {
        for workers in [1, 2] {
            let (pool, gate) = (pool(workers), Gate::new());
            let futures: Vec<_> = (0..workers).map(|_| pool.submit(wait_at, gate.path())).collect();
            let visitors: Vec<_> = (0..workers).map(|_| gate.next()).collect();
            drop(visitors);
            let old: Vec<u32> = futures.into_iter().map(|future| get(future).unwrap()).collect();
            assert_eq!(pool.worker_pids().len(), workers);

            old.iter().for_each(|&pid| send(pid, signal));
            old.iter().for_each(|&pid| until_dead(pid));
            let new = get(pool.submit(pid_of_worker, ())).unwrap();
            assert!(!old.contains(&new), "{signal:?}: a dead worker answered");
            assert_works(&pool);
        }
    }
}

#[test]
fn p14_a_call_that_its_dying_worker_did_not_read_goes_to_another() {
    let _watchdog = Watchdog::new("p14_a_call_that_its_dying_worker_did_not_read_goes_to_another");
    // In the pipe as a whole, and larger than the pipe.
    for size in [1, 4 << 20] {
        let pool = pool(1);
        let old = get(pool.submit(pid_of_worker, ())).unwrap();
        stop(old);
        let future = pool.submit(|text: String| (text.len(), std::process::id()), "x".repeat(size));
        until("the call is on its way", || future.running());
        send(old, Signal::KILL);
        let (length, new) = get(future).unwrap();
        assert_eq!(length, size);
        assert_ne!(new, old);
        assert_works(&pool);
    }
}

/// The worker has not read the call when its time is over, so another one may be given it. But this one heeds
/// no SIGTERM, is let go on for it to be heard, and reads the call then.
#[test]
fn a_call_that_its_worker_reads_when_it_is_told_to_end_does_not_run_twice() {
    fn note_and_wait((note, gate): (String, String)) -> u32 {
        append_line(note, "it runs");
        wait_at(gate)
    }
    let _watchdog = Watchdog::new("a_call_that_its_worker_reads_when_it_is_told_to_end_does_not_run_twice");
    let (gate, dir) = (Gate::new(), TempDir::new());
    let grace = Duration::from_secs(1);
    let pool = ProcessPoolExecutor::builder().max_workers(1).grace_period(grace).build().unwrap();
    let deaf = pool.submit(deaf, gate.path());
    let pid = gate.next().pid;
    assert_eq!(get(deaf).unwrap(), pid);
    stop(pid);
    let note = dir.path("note");
    let limit = TaskOptions::new().timeout(Duration::from_millis(200));
    let future = pool.submit_with(note_and_wait, (note.clone(), gate.path()), limit);
    let first = gate.next();
    assert_eq!(first.pid, pid);
    let error = get(future).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert_eq!(lines_of(&note), 1, "it ran once");
    drop(first);
    assert_works(&pool);
}

// ---- One death among others ------------------------------------------------------------------

/// Two run, one is cancelled, some wait: the death of one worker is the end of one call.
#[test]
fn p10_a_dead_worker_costs_its_own_call_and_the_pool_goes_on() {
    let _watchdog = Watchdog::new("p10_a_dead_worker_costs_its_own_call_and_the_pool_goes_on");
    for signal in [Signal::KILL, Signal::TERM, Signal::SEGV] {
        let (pool, gate) = (pool(2), Gate::new());
        let victim = pool.submit(wait_at, gate.path());
        let doomed = gate.next();
        let bystander = pool.submit(wait_at, gate.path());
        let other = gate.next();
        let cancelled = pool.submit(double, 0);
        assert!(cancelled.cancel());
        let queued: Vec<_> = (0..10).map(|n| pool.submit(double, n)).collect();

        send(doomed.pid, signal);
        let (pid, status) = death_in(get(victim));
        assert_eq!((pid, status.signal()), (doomed.pid, Some(signal.as_raw())));
        for (n, future) in (0..).zip(queued) {
            assert_eq!(get(future).unwrap(), n * 2, "what was queued is done meanwhile");
        }
        assert!(cancelled.cancelled() && bystander.running());
        let pid = other.pid;
        other.go_on();
        assert_eq!(get(bystander).unwrap(), pid);
        assert_works(&pool);
    }
}

/// Also when several die at once, in several ways.
#[test]
fn p11_each_lost_call_names_itself_its_worker_and_how_that_one_ended() {
    let _watchdog = Watchdog::new("p11_each_lost_call_names_itself_its_worker_and_how_that_one_ended");
    let deaths = [Death::ExitZero, Death::ExitThree, Death::Abort, Death::Kill];
    let (pool, gate) = (pool(deaths.len()), Gate::new());
    let die_after = |(gate, death): (String, Death)| {
        attend(&gate);
        death.die()
    };
    let (futures, visitors): (Vec<Future<()>>, Vec<_>) =
        deaths.map(|death| (pool.submit(die_after, (gate.path(), death)), gate.next())).into_iter().unzip();
    let workers: Vec<u32> = visitors.iter().map(|visitor| visitor.pid).collect();
    let pending = pool.submit(double, 21);
    drop(visitors);
    for ((death, worker), future) in deaths.into_iter().zip(workers).zip(futures) {
        let id = future.id();
        let error = get(future).unwrap_err();
        assert_eq!(error.task().unwrap().id, id);
        assert!(error.to_string().contains(&format!("worker process {worker} died (")), "{error}");
        let (pid, status) = death_in(Err::<(), _>(error));
        assert!(pid == worker && death.explains(status), "{death:?}: {status}");
    }
    assert_eq!(get(pending).unwrap(), 42, "what had not started is not lost");
}

/// In a pool whose workers share the pipe of results, nobody would ever be heard again.
#[test]
fn p12_a_worker_killed_in_the_middle_of_its_reply_costs_one_call() {
    const REPLY: usize = 8 << 20;
    /// Writes half of its reply, and waits.
    fn half_a_reply(gate: String) -> Blob {
        scribble(&header(REPLY as u64, kind::RETURNED, 0));
        scribble(&[b'x'; REPLY / 2]);
        attend(&gate);
        unreachable!("killed")
    }
    let _watchdog = Watchdog::new("p12_a_worker_killed_in_the_middle_of_its_reply_costs_one_call");
    let (pool, gate, halfway) = (pool(3), Gate::new(), Gate::new());
    let running = [(); 2].map(|()| pool.submit(wait_at, gate.path()));
    let visitors = [gate.next(), gate.next()];
    let victim = pool.submit(half_a_reply, halfway.path());
    let queued: Vec<_> = (0..10).map(|n| pool.submit(double, n)).collect();
    let doomed = halfway.next();

    send(doomed.pid, Signal::KILL);
    let (pid, status) = match get(victim) {
        Err(error) => death_in(Err::<(), _>(error)),
        Ok(Blob(bytes)) => panic!("{} bytes arrived", bytes.len()),
    };
    assert_eq!((pid, status.signal()), (doomed.pid, Some(libc::SIGKILL)));
    for (n, future) in (0..).zip(queued) {
        assert_eq!(get(future).unwrap(), n * 2, "what was queued is done");
    }
    assert!(running.iter().all(Future::running), "what runs, runs on");
    drop(visitors);
    assert!(running.map(get).iter().all(Result::is_ok));

    // The pool is full again: three calls at a time, in three workers.
    let full = [(); 3].map(|()| pool.submit(wait_at, gate.path()));
    let mut workers = [(); 3].map(|()| gate.next()).map(|visitor| visitor.pid);
    let mut listed = pool.worker_pids();
    workers.sort_unstable();
    listed.sort_unstable();
    assert!(listed == workers && !workers.contains(&doomed.pid), "{listed:?}");
    assert!(full.map(get).iter().all(Result::is_ok));
}

/// Calls that do not fit into a pipe, some of which are the end of their worker.
#[test]
fn p14_a_crash_among_large_calls_costs_its_own() {
    let _watchdog = Watchdog::new("p14_a_crash_among_large_calls_costs_its_own");
    let mortal = |(n, blob): (usize, Blob)| {
        if n % 5 == 2 { Death::Kill.die() } else { blob.0.len() + n }
    };
    let pool = pool(2);
    let futures: Vec<_> = (0..20).map(|n| pool.submit(mortal, (n, Blob::new(1 << 20)))).collect();
    for (n, future) in futures.into_iter().enumerate() {
        match get(future) {
            Ok(value) => assert!(n % 5 != 2 && value == n + (1 << 20), "{n}: {value}"),
            died => assert!(n % 5 == 2 && death_in(died).1.signal() == Some(libc::SIGKILL)),
        }
    }
    assert_works(&pool);
}

/// With a map the call that dies is the chunk; all items have an outcome, and the others a value.
#[test]
fn death_costs_a_map_one_chunk() {
    let _watchdog = Watchdog::new("death_costs_a_map_one_chunk");
    let pool = pool(2);
    let mortal = |n: u64| if n == 12 { Death::ExitThree.die() } else { n * 2 };
    let options = concurrent_futures::MapOptions::new().chunksize(5);
    let outcomes: Vec<_> = pool.map_with(mortal, 0..30, options).collect();
    assert_eq!(outcomes.len(), 30);
    for (n, outcome) in (0..).zip(outcomes) {
        match outcome {
            Ok(value) => assert!(value == n * 2 && !(10..15).contains(&n), "{n}: {value}"),
            Err(error) => {
                assert!((10..15).contains(&n), "{n}: {error}");
                assert_eq!(death_in(Err::<(), _>(error)).1.code(), Some(3));
            }
        }
    }
    assert_works(&pool);
}

// ---- Death while the pool shuts down ---------------------------------------------------------

#[test]
fn death_during_shutdown_costs_its_own_call() {
    let _watchdog = Watchdog::new("death_during_shutdown_costs_its_own_call");
    let (pool, gate) = (pool(2), Gate::new());
    let mut running = [pool.submit(wait_at, gate.path()), pool.submit(wait_at, gate.path())].map(Some);
    let (one, other) = (gate.next(), gate.next());
    let queued: Vec<_> = (0..10).map(|n| pool.submit(double, n)).collect();
    std::thread::scope(|scope| {
        let shutdown = scope.spawn(|| pool.shutdown());
        // A refusal is there at once; what is let in before is queued with the others.
        until("the pool is closed", || pool.submit(double, 0).done());
        send(one.pid, Signal::KILL);
        let mut fates = running.iter_mut().map(|future| future.take().unwrap());
        let (first, second) = (fates.next().unwrap(), fates.next().unwrap());
        // Which future belongs to which worker is theirs to say.
        let released = other.pid;
        other.go_on();
        let (died, lived) = match get(first) {
            Ok(pid) => (get(second), Ok(pid)),
            died => (died, get(second)),
        };
        let (pid, status) = death_in(died);
        assert_eq!((pid, status.signal()), (one.pid, Some(libc::SIGKILL)));
        assert_eq!(lived.unwrap(), released);
        shutdown.join().unwrap();
    });
    for (n, future) in (0..).zip(queued) {
        assert_eq!(get(future).unwrap(), n * 2, "what was queued is still done");
    }
    assert!(pool.worker_pids().is_empty());
}

#[test]
fn a_pool_that_was_closed_without_waiting_ends_all_its_futures() {
    let _watchdog = Watchdog::new("a_pool_that_was_closed_without_waiting_ends_all_its_futures");
    let (pool, gate) = (pool(1), Gate::new());
    let running = pool.submit(wait_at, gate.path());
    let visitor = gate.next();
    let queued: Vec<_> = (0..5).map(|n| pool.submit(double, n)).collect();
    pool.shutdown_with(Shutdown { wait: false, cancel_futures: false });
    send(visitor.pid, Signal::KILL);
    assert_eq!(death_in(get(running)).0, visitor.pid);
    for (n, future) in (0..).zip(queued) {
        assert_eq!(get(future).unwrap(), n * 2, "what was queued has a new worker");
    }
    assert!(pool.shutdown_timeout(LONG));
    assert!(pool.worker_pids().is_empty());
}

extern "C" fn at_exit_abort() {
    std::process::abort();
}

extern "C" fn at_exit_kill() {
    kill_oneself();
}

extern "C" fn at_exit_hang() {
    loop {
        std::thread::park();
    }
}

fn plan_exit(how: String) -> u32 {
    no_core_dump();
    let handler = match how.as_str() {
        "abort" => at_exit_abort,
        "kill" => at_exit_kill,
        _ => at_exit_hang,
    };
    // SAFETY: the handler is a function of the program and needs nothing.
    assert_eq!(unsafe { libc::atexit(handler) }, 0);
    std::process::id()
}

/// `hang` takes the five seconds that a worker is given to leave.
#[test]
fn a_worker_that_dies_or_hangs_when_told_to_leave_costs_nothing() {
    let _watchdog = Watchdog::new("a_worker_that_dies_or_hangs_when_told_to_leave_costs_nothing");
    for how in ["abort", "kill", "hang"] {
        let pool = pool(1);
        let worker = Observed::new(get(pool.submit(plan_exit, how.into())).unwrap());
        drop(pool);
        assert!(!worker.is_alive(), "{how}");
    }
}

/// Takes the five seconds that a worker is given to leave.
#[test]
fn a_stopped_worker_does_not_hold_up_the_end_of_its_pool() {
    let _watchdog = Watchdog::new("a_stopped_worker_does_not_hold_up_the_end_of_its_pool");
    let pool = pool(2);
    let pid = get(pool.submit(pid_of_worker, ())).unwrap();
    let worker = Observed::new(pid);
    stop(pid);
    drop(pool);
    assert!(!worker.is_alive());
}

/// The gate at which a worker waits when it leaves.
static LAST_GATE: OnceLock<String> = OnceLock::new();

extern "C" fn at_exit_wait() {
    attend(LAST_GATE.get().unwrap());
}

/// A pool of one whose worker runs its last task, and some tasks that wait for the next worker; then
/// the worker that is leaving and stands at the gate.
fn while_a_worker_leaves(gate: &Gate) -> (ProcessPoolExecutor, Vec<Future<u64>>, Visitor) {
    let linger = |gate: String| {
        LAST_GATE.set(gate).unwrap();
        // SAFETY: the handler is a function of the program.
        assert_eq!(unsafe { libc::atexit(at_exit_wait) }, 0);
    };
    let pool = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(1).build().unwrap();
    let last = pool.submit(linger, gate.path());
    let queued = (0..5).map(|n| pool.submit(double, n)).collect();
    let leaving = gate.next();
    get(last).unwrap();
    (pool, queued, leaving)
}

#[test]
fn p18_a_forced_end_while_a_worker_leaves_ends_all() {
    let _watchdog = Watchdog::new("p18_a_forced_end_while_a_worker_leaves_ends_all");
    for end in [ProcessPoolExecutor::terminate_workers, ProcessPoolExecutor::kill_workers] {
        let gate = Gate::new();
        let (pool, queued, leaving) = while_a_worker_leaves(&gate);
        let worker = Observed::new(leaving.pid);
        end(&pool);
        worker.ends();
        for future in queued {
            assert!(matches!(get(future), Err(Error::Cancelled { .. })));
        }
        assert!(pool.shutdown_timeout(LONG));
        assert!(pool.worker_pids().is_empty());
    }
}

#[test]
fn p18_a_pool_that_is_dropped_while_a_worker_leaves_does_what_is_queued() {
    let _watchdog = Watchdog::new("p18_a_pool_that_is_dropped_while_a_worker_leaves_does_what_is_queued");
    let gate = Gate::new();
    let (pool, queued, leaving) = while_a_worker_leaves(&gate);
    let drop_it = std::thread::spawn(move || drop(pool));
    leaving.go_on();
    for (n, future) in (0..).zip(queued) {
        assert_eq!(get(future).unwrap(), n * 2);
    }
    drop_it.join().unwrap();
}

// ---- Nonsense --------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Nonsense {
    OtherId,
    Hello,
    Call,
    Bye,
    UnknownKind,
    /// A failure that is none.
    Failed,
    /// A value that is none.
    Returned,
    Endless,
    AboveLimit,
    Text,
    ShortText,
}

impl Nonsense {
    const ALL: [Nonsense; 11] = [
        Nonsense::OtherId,
        Nonsense::Hello,
        Nonsense::Call,
        Nonsense::Bye,
        Nonsense::UnknownKind,
        Nonsense::Failed,
        Nonsense::Returned,
        Nonsense::Endless,
        Nonsense::AboveLimit,
        Nonsense::Text,
        Nonsense::ShortText,
    ];

    fn bytes(self, id: u64) -> Vec<u8> {
        const NOISE: [u8; 20] = [0xff; 20];
        let frame = |kind, id| [&header(20, kind, id)[..], &NOISE].concat();
        match self {
            Nonsense::OtherId => frame(kind::RETURNED, id ^ 1),
            Nonsense::Hello => frame(kind::HELLO, id),
            Nonsense::Call => frame(kind::CALL, id),
            Nonsense::Bye => header(0, kind::BYE, 0),
            Nonsense::UnknownKind => frame(99, id),
            Nonsense::Failed => frame(kind::FAILED, id),
            Nonsense::Returned => frame(kind::RETURNED, id),
            Nonsense::Endless => header(u64::MAX, kind::RETURNED, id),
            Nonsense::AboveLimit => header((1 << 36) + 1, kind::RETURNED, id),
            Nonsense::Text => b"This is printed to the wrong descriptor.\n".into(),
            Nonsense::ShortText => b"oops\n".into(),
        }
    }
}

fn talk_nonsense((gate, nonsense): (String, Nonsense)) -> u32 {
    let id = attend(&gate);
    tell_host(&nonsense.bytes(u64::from_le_bytes(id.try_into().unwrap())));
    std::process::id()
}

#[test]
fn nonsense_costs_the_call_and_the_worker() {
    let _watchdog = Watchdog::new("nonsense_costs_the_call_and_the_worker");
    for nonsense in Nonsense::ALL {
        for workers in [1, 2] {
            let (pool, gate) = (pool(workers), Gate::new());
            let future = pool.submit(talk_nonsense, (gate.path(), nonsense));
            let visitor = gate.next();
            let worker = Observed::new(visitor.pid);
            visitor.answer(&future.id().get().to_le_bytes());
            let id = future.id();
            let error = get(future).unwrap_err();
            assert!(matches!(error, Error::Decode { what: "return value", .. }), "{nonsense:?}: {error:?}");
            assert_eq!(error.task().unwrap().id, id);
            // That a value is not what it should be does not show that it was not the worker's.
            if nonsense != Nonsense::Returned {
                assert!(error.to_string().contains("nonsense"), "{nonsense:?}: {error}");
                worker.ends();
                assert_works(&pool);
            }
        }
    }
}

/// The host learns with the next reply that this one was not the worker's own. That call may be
/// lost; no call may ever be given the answer of another.
#[test]
fn an_answer_of_one_call_is_never_taken_for_that_of_another() {
    let _watchdog = Watchdog::new("an_answer_of_one_call_is_never_taken_for_that_of_another");
    let (pool, gate) = (pool(1), Gate::new());
    let future = pool.submit(talk_nonsense, (gate.path(), Nonsense::Returned));
    let queued: Vec<_> = (100..110).map(|n| pool.submit(double, n)).collect();
    gate.next().answer(&future.id().get().to_le_bytes());
    assert!(matches!(get(future), Err(Error::Decode { .. })));
    let outcomes: Vec<_> = queued.into_iter().map(get).collect();
    let lost = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!(lost <= 1, "{outcomes:?}");
    for (n, outcome) in (100..).zip(&outcomes) {
        match outcome {
            Ok(value) => assert_eq!(*value, n * 2, "{outcomes:?}"),
            Err(error) => assert!(matches!(error, Error::Decode { .. }), "{error:?}"),
        }
    }
    assert_works(&pool);
}

#[test]
fn half_a_reply_of_a_live_worker_can_be_ended_by_kill() {
    fn half_and_wait(gate: String) -> u32 {
        scribble(&header(8 << 20, kind::RETURNED, 0));
        scribble(&[b'x'; 1000]);
        wait_at(gate)
    }
    let _watchdog = Watchdog::new("half_a_reply_of_a_live_worker_can_be_ended_by_kill");
    let (pool, gate) = (pool(1), Gate::new());
    let future = pool.submit(half_and_wait, gate.path());
    let visitor = gate.next();
    assert!(future.kill());
    let (pid, status) = death_in(get(future));
    assert_eq!((pid, status.signal()), (visitor.pid, Some(libc::SIGTERM)));
    assert_works(&pool);
}

/// Takes the five seconds that a worker is given to go after it hung up.
#[test]
fn a_worker_that_hangs_up_and_stays_is_killed() {
    let _watchdog = Watchdog::new("a_worker_that_hangs_up_and_stays_is_killed");
    let (pool, gate) = (pool(1), Gate::new());
    let hang_up = |gate: String| {
        blank(pipe_to_host());
        wait_at(gate)
    };
    let future = pool.submit(hang_up, gate.path());
    let visitor = gate.next();
    let (pid, status) = death_in(get(future));
    assert_eq!((pid, status.signal()), (visitor.pid, Some(libc::SIGKILL)));
    assert_works(&pool);
}

// ---- Killed by us ----------------------------------------------------------------------------

#[test]
fn kill_ends_a_running_call_and_no_other() {
    let _watchdog = Watchdog::new("kill_ends_a_running_call_and_no_other");
    let (pool, gate) = (pool(2), Gate::new());
    let victim = pool.submit(wait_at, gate.path());
    let at_gate = gate.next();
    let bystander = pool.submit(wait_at, gate.path());
    let other = gate.next();
    let pending = pool.submit(double, 1);
    let behind = pool.submit(double, 2);

    assert!(pending.kill());
    assert!(matches!(get(pending), Err(Error::Cancelled { .. })));
    assert!(victim.kill());
    let (pid, status) = death_in(get(victim));
    assert_eq!((pid, status.signal()), (at_gate.pid, Some(libc::SIGTERM)));
    let pid = other.pid;
    other.go_on();
    assert_eq!(get(bystander).unwrap(), pid);
    behind.wait();
    assert!(!behind.kill(), "what has ended cannot be killed");
    assert_eq!(get(behind).unwrap(), 4);
    assert_works(&pool);
}

/// A call that spins is as dead as one that waits.
#[test]
fn kill_ends_a_call_that_never_looks_up() {
    let _watchdog = Watchdog::new("kill_ends_a_call_that_never_looks_up");
    let (pool, gate) = (pool(1), Gate::new());
    let spin = |gate: String| -> u32 {
        attend(&gate);
        loop {
            std::hint::spin_loop();
        }
    };
    let future = pool.submit(spin, gate.path());
    gate.next().go_on();
    assert!(future.kill());
    assert_eq!(death_in(get(future)).1.signal(), Some(libc::SIGTERM));
    assert_works(&pool);
}

#[test]
fn kill_again_and_again() {
    let _watchdog = Watchdog::new("kill_again_and_again");
    let (pool, gate) = (pool(1), Gate::new());
    for _ in 0..20 {
        let future = pool.submit(wait_at, gate.path());
        let at_gate = gate.next();
        assert!(future.kill());
        // Asked a second time it may be over or not; either way nothing else is hit.
        future.kill();
        assert_eq!(death_in(get(future)).0, at_gate.pid);
        assert_eq!(get(pool.submit(double, 4)).unwrap(), 8);
    }
}

fn ending_all(end: fn(&ProcessPoolExecutor), signal: i32) {
    let (pool, gate) = (pool(2), Gate::new());
    let running = [pool.submit(wait_at, gate.path()), pool.submit(wait_at, gate.path())];
    let mut pids = [gate.next(), gate.next()].map(|visitor| (visitor.pid, visitor));
    pids.sort_by_key(|(pid, _)| *pid);
    let queued: Vec<_> = (0..3).map(|n| pool.submit(double, n)).collect();
    end(&pool);
    let mut died = running.map(|future| death_in(get(future)));
    died.sort_by_key(|(pid, _)| *pid);
    for ((pid, status), (expected, _)) in died.iter().zip(&pids) {
        assert_eq!((*pid, status.signal()), (*expected, Some(signal)));
    }
    for future in queued {
        assert!(matches!(get(future), Err(Error::Cancelled { .. })));
    }
    assert!(matches!(get(pool.submit(double, 0)), Err(Error::ShutDown { .. })));
    pool.shutdown();
    assert!(pool.worker_pids().is_empty());
}

#[test]
fn p19_kill_workers_ends_the_pool() {
    let _watchdog = Watchdog::new("p19_kill_workers_ends_the_pool");
    ending_all(ProcessPoolExecutor::kill_workers, libc::SIGKILL);
}

#[test]
fn p19_terminate_workers_ends_the_pool() {
    let _watchdog = Watchdog::new("p19_terminate_workers_ends_the_pool");
    ending_all(ProcessPoolExecutor::terminate_workers, libc::SIGTERM);
}

/// A call that ignores that it is asked to end.
fn deaf(gate: String) -> u32 {
    // SAFETY: to ignore a signal installs no code.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    wait_at(gate)
}

/// Takes the five seconds that a worker is given to heed SIGTERM.
#[test]
fn p19_terminate_workers_kills_what_does_not_heed_it() {
    let _watchdog = Watchdog::new("p19_terminate_workers_kills_what_does_not_heed_it");
    let (pool, gate) = (pool(2), Gate::new());
    let futures = [pool.submit(deaf, gate.path()), pool.submit(deaf, gate.path())];
    let _visitors = [gate.next(), gate.next()];
    pool.terminate_workers();
    assert!(matches!(get(pool.submit(double, 0)), Err(Error::ShutDown { .. })));
    for future in futures {
        assert_eq!(death_in(get(future)).1.signal(), Some(libc::SIGKILL));
    }
    assert!(pool.shutdown_timeout(LONG));
}

/// One that would end by itself if it heard that it is not wanted any more.
fn deaf_but_listening(gate: String) -> u32 {
    deaf(gate);
    while !task::cancelled() {
        std::thread::yield_now();
    }
    0
}

/// Else it would begin to clean up, and sometimes be cut off in that and sometimes not.
#[test]
fn p19_what_is_terminated_is_not_told_that_it_is_unwanted() {
    let _watchdog = Watchdog::new("p19_what_is_terminated_is_not_told_that_it_is_unwanted");
    let grace = Duration::from_millis(100);
    let pool = ProcessPoolExecutor::builder().max_workers(1).grace_period(grace).build().unwrap();
    let gate = Gate::new();
    let future = pool.submit(deaf_but_listening, gate.path());
    gate.next().go_on_and_leave();
    pool.terminate_workers();
    assert_eq!(death_in(get(future)).1.signal(), Some(libc::SIGKILL));
    assert!(pool.shutdown_timeout(LONG));
}

#[test]
fn p19_kill_workers_does_not_wait_for_what_terminate_workers_asked() {
    let _watchdog = Watchdog::new("p19_kill_workers_does_not_wait_for_what_terminate_workers_asked");
    let (pool, gate) = (pool(1), Gate::new());
    let future = pool.submit(deaf, gate.path());
    let visitor = gate.next();
    pool.terminate_workers();
    pool.terminate_workers();
    pool.kill_workers();
    let (pid, status) = death_in(get(future));
    assert_eq!((pid, status.signal()), (visitor.pid, Some(libc::SIGKILL)));
    assert!(pool.shutdown_timeout(LONG));
}

/// Workers that are dead already, and nobody has noticed.
#[test]
fn p19_a_forced_end_of_workers_that_are_dead_is_an_end() {
    let _watchdog = Watchdog::new("p19_a_forced_end_of_workers_that_are_dead_is_an_end");
    for end in [ProcessPoolExecutor::terminate_workers, ProcessPoolExecutor::kill_workers] {
        let pool = pool(1);
        let pid = get(pool.submit(pid_of_worker, ())).unwrap();
        send(pid, Signal::KILL);
        until_dead(pid);
        end(&pool);
        assert!(matches!(get(pool.submit(double, 0)), Err(Error::ShutDown { .. })));
        assert!(pool.shutdown_timeout(LONG));
        assert!(pool.worker_pids().is_empty());
    }
}

/// A pool of one whose next worker, once the gate is shut, waits at it before `init`.
fn gated_pool(gate: &Gate) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder().max_workers(1).env(birth::GATE, gate.path()).build().unwrap()
}

fn shut(gate: &Gate) {
    std::fs::write(format!("{}.shut", gate.path()), "").unwrap();
}

fn open(gate: &Gate) {
    std::fs::remove_file(format!("{}.shut", gate.path())).unwrap();
}

/// A call runs when its worker has it, and not while the worker is on its way.
#[test]
fn p4_a_call_whose_first_worker_is_being_started_can_be_cancelled() {
    let _watchdog = Watchdog::new("p4_a_call_whose_first_worker_is_being_started_can_be_cancelled");
    let at_birth = Gate::new();
    let pool = gated_pool(&at_birth);
    shut(&at_birth);
    let futures = [pool.submit(double, 1), pool.submit(double, 2)];
    let newborn = at_birth.next();
    assert!(futures.iter().all(|future| !future.running() && !future.done()));
    assert!(futures[0].cancel());
    open(&at_birth);
    drop(newborn);
    let [cancelled, other] = futures.map(get);
    assert!(matches!(cancelled, Err(Error::Cancelled { .. })));
    assert_eq!(other.unwrap(), 4);
}

/// The worker of an idle pool is dead and a call finds it out: `kill_workers` while the next
/// worker is being started must end that call too.
#[test]
fn p19_kill_workers_also_ends_a_worker_that_is_being_started() {
    let _watchdog = Watchdog::new("p19_kill_workers_also_ends_a_worker_that_is_being_started");
    let at_birth = Gate::new();
    let pool = gated_pool(&at_birth);
    let old = get(pool.submit(pid_of_worker, ())).unwrap();
    shut(&at_birth);
    send(old, Signal::KILL);
    until_dead(old);
    let future = pool.submit(pid_of_worker, ());
    let newborn = at_birth.next();
    open(&at_birth);
    pool.kill_workers();
    drop(newborn);
    let outcome = get(future);
    assert!(outcome.is_err(), "{outcome:?} ran to its end in a worker started after `kill_workers`");
    pool.shutdown();
}

/// The same for the first worker of a pool. That it could not start is no reason to call the pool broken.
#[test]
fn p19_a_forced_end_while_the_first_worker_is_being_started_breaks_nothing() {
    let _watchdog = Watchdog::new("p19_a_forced_end_while_the_first_worker_is_being_started_breaks_nothing");
    for end in [ProcessPoolExecutor::terminate_workers, ProcessPoolExecutor::kill_workers] {
        let at_birth = Gate::new();
        let pool = gated_pool(&at_birth);
        shut(&at_birth);
        let future = pool.submit(double, 1);
        let newborn = at_birth.next();
        open(&at_birth);
        end(&pool);
        drop(newborn);
        assert!(matches!(get(future), Err(Error::Cancelled { .. })));
        pool.shutdown();
        assert!(matches!(get(pool.submit(double, 0)), Err(Error::ShutDown { .. })));
    }
}

/// A call that runs (its worker had died before it read it) is killed while its next worker is
/// being started: `kill` says yes, so it must not run.
#[test]
fn kill_also_ends_a_call_whose_worker_is_being_started() {
    let _watchdog = Watchdog::new("kill_also_ends_a_call_whose_worker_is_being_started");
    let at_birth = Gate::new();
    let pool = gated_pool(&at_birth);
    let old = get(pool.submit(pid_of_worker, ())).unwrap();
    stop(old);
    let future = pool.submit(pid_of_worker, ());
    until("the call is on its way", || future.running());
    shut(&at_birth);
    send(old, Signal::KILL);
    let newborn = at_birth.next();
    open(&at_birth);
    let killed = future.kill();
    drop(newborn);
    let outcome = get(future);
    assert!(killed, "a call that runs in a process can be killed");
    assert!(outcome.is_err(), "it ran to its end in {outcome:?} after `kill` said that it was stopped");
    assert_works(&pool);
}

// ---- What tasks leave behind -----------------------------------------------------------------

/// Starts a program that outlives the worker and has its stdio; waits at the gate.
fn leave_a_daemon((gate, note): (String, String)) -> u32 {
    std::fs::write(note, program_that_waits().to_string()).unwrap();
    wait_at(gate)
}

/// Leaves a copy of the worker that holds its pipes; waits at the gate.
fn leave_a_fork((gate, note): (String, String)) -> u32 {
    std::fs::write(note, fork_and_hold().to_string()).unwrap();
    wait_at(gate)
}

#[test]
fn death_is_noticed_while_a_program_of_the_worker_lives() {
    let _watchdog = Watchdog::new("death_is_noticed_while_a_program_of_the_worker_lives");
    let (pool, gate, dir) = (pool(1), Gate::new(), TempDir::new());
    let note = dir.path("note");
    let future = pool.submit(leave_a_daemon, (gate.path(), note.clone()));
    let visitor = gate.next();
    let daemon = leftover(&note);
    send(visitor.pid, Signal::KILL);
    assert_eq!(death_in(get(future)).0, visitor.pid);
    assert!(daemon.0.is_alive(), "it was not its death that was noticed");
    assert_works(&pool);
}

#[test]
fn death_is_noticed_while_a_fork_of_the_worker_holds_its_pipes() {
    let _watchdog = Watchdog::new("death_is_noticed_while_a_fork_of_the_worker_holds_its_pipes");
    for idle in [false, true] {
        let (pool, gate, dir) = (pool(1), Gate::new(), TempDir::new());
        let note = dir.path("note");
        let future = pool.submit(leave_a_fork, (gate.path(), note.clone()));
        let visitor = gate.next();
        let fork = leftover(&note);
        let pid = visitor.pid;
        if idle {
            visitor.go_on();
            assert_eq!(get(future).unwrap(), pid);
            send(pid, Signal::KILL);
            until_dead(pid);
        } else {
            send(pid, Signal::KILL);
            assert_eq!(death_in(get(future)).0, pid);
        }
        assert_works(&pool);
        drop(pool);
        assert!(fork.0.is_alive(), "it was not its death that was noticed");
    }
}

/// The host is in the middle of sending a large argument when the worker dies: the pipe is full,
/// and stays so, because the fork keeps it open and does not read.
#[test]
fn death_is_noticed_by_a_host_that_writes_into_a_pipe_which_a_fork_holds() {
    let _watchdog = Watchdog::new("death_is_noticed_by_a_host_that_writes_into_a_pipe_which_a_fork_holds");
    let (pool, gate, dir) = (pool(1), Gate::new(), TempDir::new());
    let note = dir.path("note");
    let first = pool.submit(leave_a_fork, (gate.path(), note.clone()));
    gate.next().go_on();
    let pid = get(first).unwrap();
    let fork = leftover(&note);
    stop(pid);
    let future = pool.submit(|text: String| text.len(), "x".repeat(4 << 20));
    until("the call is on its way", || future.running());
    send(pid, Signal::KILL);
    let noticed = future.wait_timeout(Duration::from_secs(20));
    assert!(fork.0.is_alive(), "it was not its death that was noticed");
    drop(fork);
    let outcome = get(future);
    assert!(noticed, "the host wrote on until the fork died too; then: {outcome:?}");
    assert!(matches!(outcome, Ok(length) if length == 4 << 20), "nobody had read it: {outcome:?}");
    assert_works(&pool);
}

/// Neither holds its end up: not a copy of the worker that keeps its pipes open, not a program with its stdio.
#[test]
fn a_pool_ends_while_what_its_workers_left_lives() {
    let _watchdog = Watchdog::new("a_pool_ends_while_what_its_workers_left_lives");
    for way in ["drop", "shutdown", "shutdown with a limit", "SIGTERM", "SIGKILL"] {
        let (pool, gate, dir) = (pool(2), Gate::new(), TempDir::new());
        let notes = [dir.path("fork"), dir.path("daemon")];
        let futures = [
            pool.submit(leave_a_fork, (gate.path(), notes[0].clone())),
            pool.submit(leave_a_daemon, (gate.path(), notes[1].clone())),
        ];
        [gate.next(), gate.next()].into_iter().for_each(Visitor::go_on);
        let workers = futures.map(|future| Observed::new(get(future).unwrap()));
        let leftovers = notes.map(|note| leftover(&note));
        match way {
            "shutdown" => pool.shutdown(),
            "shutdown with a limit" => assert!(pool.shutdown_timeout(LONG)),
            "SIGTERM" | "SIGKILL" => {
                if way == "SIGTERM" {
                    pool.terminate_workers()
                } else {
                    pool.kill_workers()
                }
                pool.shutdown();
            }
            _ => drop(pool),
        }
        assert!(!workers.iter().any(Observed::is_alive), "{way}");
        assert!(leftovers.iter().all(|leftover| leftover.0.is_alive()), "{way}");
    }
}
