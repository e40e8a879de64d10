//! How a program ends that has work under way: parity S10.
//!
//! Not here: that no worker is left behind, on whatever way out (`fate.rs`). Each test starts this program
//! again as one that owns a pool, and looks at what it leaves.

mod faults_common;

use std::fs;
use std::process::Child;

use concurrent_futures::{Executor, ProcessPoolExecutor, Shutdown, ThreadPoolExecutor};
use faults_common::*;

concurrent_futures::init_tests!();

#[test]
fn role_entry() {
    let Some(role) = my_role() else { return };
    let _watchdog = Watchdog::new("a role");
    // One worker, one task that it holds at the gate, and two that wait for it.
    let pool: Box<dyn Executor> = match variable("ENGINE").as_str() {
        "threads" => Box::new(ThreadPoolExecutor::new(1).unwrap()),
        _ => Box::new(ProcessPoolExecutor::new(1).unwrap()),
    };
    for n in 0..3 {
        drop(pool.submit(work, (variable("GATE"), variable("NOTE"), n)));
    }
    let ready = variable("READY");
    attend(&ready);
    match role.as_str() {
        "drop" => {}
        "no wait" => pool.shutdown_with(Shutdown { wait: false, cancel_futures: false }),
        "cancel" => pool.shutdown_with(Shutdown { wait: false, cancel_futures: true }),
        // As a pool in a `static` is.
        "leak" => {
            pool.shutdown_with(Shutdown { wait: false, cancel_futures: false });
            std::mem::forget(pool);
            return append_line(variable("NOTE"), "main is over");
        }
        "exit" => std::process::exit(7),
        other => panic!("no role: {other}"),
    }
    attend(&ready);
    drop(pool);
    append_line(variable("NOTE"), "main is over");
}

fn work((gate, note, n): (String, String, u32)) {
    attend(&gate);
    append_line(note, &n.to_string());
}

/// A program that owns a pool, and its first task, which is at the gate.
struct Program {
    host: Child,
    gate: Gate,
    ready: Gate,
    first: Visitor,
    note: String,
    _dir: TempDir,
}

impl Program {
    fn start(engine: &str, way: &str) -> Self {
        let (gate, ready, dir) = (Gate::new(), Gate::new(), TempDir::new());
        let note = dir.path("note");
        let mut host = role(way);
        host.env("ENGINE", engine).env("GATE", gate.path()).env("READY", ready.path()).env("NOTE", &note);
        let host = host.spawn().unwrap();
        let first = gate.next();
        Program { host, gate, ready, first, note, _dir: dir }
    }
}

fn lines(note: &str) -> Vec<String> {
    fs::read_to_string(note).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The end of a scope waits, also that of `main`, also behind a shutdown that did not.
#[test]
fn s10_a_pool_that_is_dropped_at_the_end_waits_for_what_is_queued() {
    let _watchdog = Watchdog::new("s10_a_pool_that_is_dropped_at_the_end_waits_for_what_is_queued");
    for (engine, way) in
        [("threads", "drop"), ("processes", "drop"), ("threads", "no wait"), ("processes", "no wait")]
    {
        let program = Program::start(engine, way);
        program.ready.next().go_on();
        program.ready.next().go_on();
        program.first.go_on();
        program.gate.next().go_on();
        program.gate.next().go_on();
        applause(program.host);
        assert_eq!(lines(&program.note), ["0", "1", "2", "main is over"], "{engine}, {way}");
    }
}

#[test]
fn s10_a_program_that_cancels_ends_with_the_task_that_runs() {
    let _watchdog = Watchdog::new("s10_a_program_that_cancels_ends_with_the_task_that_runs");
    for engine in ["threads", "processes"] {
        let program = Program::start(engine, "cancel");
        program.ready.next().go_on();
        program.ready.next().go_on(); // they are cancelled
        program.first.go_on();
        applause(program.host);
        assert_eq!(lines(&program.note), ["0", "main is over"], "{engine}");
    }
}

/// There the end of the interpreter waits for all pools. Nothing here can: what is not dropped, is not
/// waited for.
#[test]
fn s10_a_program_that_does_not_drop_its_pool_ends_without_its_work() {
    let _watchdog = Watchdog::new("s10_a_program_that_does_not_drop_its_pool_ends_without_its_work");
    for (engine, way, status) in
        [("threads", "leak", 0), ("processes", "leak", 0), ("threads", "exit", 7), ("processes", "exit", 7)]
    {
        let program = Program::start(engine, way);
        let worker = Observed::new(program.first.pid);
        program.ready.next().go_on();
        let output = program.host.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{engine}, {way}: {output:?}");
        worker.ends();
        let expected: &[&str] = if way == "leak" { &["main is over"] } else { &[] };
        assert_eq!(lines(&program.note), expected, "{engine}, {way}: the task was held all the time");
    }
}
