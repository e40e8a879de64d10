//! Timelines of pools that there are: threads and processes, nested calls, deaths, and `CONCURRENT_FUTURES_TRACE`.
//!
//! Not here: what a picture looks like when much happens (`src/timeline/tests.rs`, on invented pools).
//!
//! The rule: no test asserts a time. What the variable does is seen on a child: this binary, with one of its tests.
#![cfg(feature = "timeline")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use concurrent_futures::timeline::{Outcome, Recorder, Timeline, WorkerEnd};
use concurrent_futures::{Executor, ProcessPoolExecutor, TaskOptions, ThreadPoolExecutor};
use serde_json::Value;

#[path = "common/watchdog.rs"]
mod watchdog;
use watchdog::Watchdog;

concurrent_futures::init_tests!();

/// A directory of its own for a test.
fn directory(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("timeline").join(test);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn outcomes(timeline: &Timeline) -> Vec<Option<Outcome>> {
    timeline.tasks().iter().map(|task| task.outcome).collect()
}

fn half(n: u32) -> Result<u32, String> {
    if n.is_multiple_of(2) { Ok(n / 2) } else { Err(format!("{n} is odd")) }
}

fn crash(first: bool) {
    if first && concurrent_futures::task::attempt() == 1 {
        std::process::abort();
    }
}

fn boom(n: u32) -> u32 {
    panic!("no {n}")
}

fn bars(timeline: &Timeline, class: &str) -> usize {
    let text = timeline.svg();
    let picture = roxmltree::Document::parse(&text).unwrap();
    let classes = picture.descendants().filter_map(|node| node.attribute("class"));
    classes.filter(|classes| *classes == format!("bar {class}")).count()
}

fn three_ends(pool: &impl Executor) {
    assert_eq!(pool.try_submit(half, 84).result().unwrap(), 42);
    pool.try_submit(half, 43).result().unwrap_err();
    pool.submit(boom, 1).result().unwrap_err();
}

#[test]
fn threads_and_processes_are_recorded_together() {
    let _watchdog = Watchdog::new("threads_and_processes_are_recorded_together");
    let recorder = Recorder::new();
    let threads = ThreadPoolExecutor::builder().max_workers(2).thread_name_prefix("threads");
    let threads = threads.observer(recorder.clone()).build().unwrap();
    let processes = ProcessPoolExecutor::builder().max_workers(1).name("processes");
    let processes = processes.observer(recorder.clone()).build().unwrap();
    three_ends(&threads);
    three_ends(&processes);
    drop((threads, processes));

    let timeline = recorder.timeline();
    let three = [Some(Outcome::Finished), Some(Outcome::Raised), Some(Outcome::Panicked)];
    assert_eq!(outcomes(&timeline), [three, three].concat());
    for task in timeline.tasks() {
        let worker = &timeline.workers()[task.worker().expect("a worker of the pool ran it")];
        assert_eq!(worker.pool, task.pool);
        assert!(worker.spawned.unwrap() <= task.started().unwrap(), "{worker:?} {task:?}");
        assert!(task.ended.unwrap() <= worker.ended.unwrap(), "{worker:?} {task:?}");
        assert!(worker.ready.is_some() && worker.end == Some(WorkerEnd::Left), "{worker:?}");
    }
    assert_eq!(timeline.workers().iter().filter(|worker| worker.pid.is_some()).count(), 1);
    assert_eq!([bars(&timeline, "finished"), bars(&timeline, "failed"), bars(&timeline, "panicked")], [2; 3]);
    let trace: Value = serde_json::from_str(&timeline.trace_json()).unwrap();
    let of = |cat: &str| {
        trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["cat"] == cat).count()
    };
    assert_eq!(of("call"), 6);
}

#[test]
fn a_call_that_is_tried_again_has_two_bars_and_two_processes() {
    let _watchdog = Watchdog::new("a_call_that_is_tried_again_has_two_bars_and_two_processes");
    let recorder = Recorder::new();
    let pool = ProcessPoolExecutor::builder().max_workers(1).observer(recorder.clone()).build().unwrap();
    pool.submit_with(crash, true, TaskOptions::new().retries(1)).result().unwrap();
    drop(pool);

    let timeline = recorder.timeline();
    let [task] = timeline.tasks() else { panic!("{timeline:?}") };
    let [first, second] = &task.attempts[..] else { panic!("{task:?}") };
    assert_eq!((first.outcome, first.again), (Some(Outcome::WorkerDied), true));
    assert_eq!((second.outcome, second.again), (Some(Outcome::Finished), false));
    let [one, two] = timeline.workers() else { panic!("{timeline:?}") };
    assert_eq!((one.end, two.end, one.number), (Some(WorkerEnd::Died), Some(WorkerEnd::Left), two.number));
    // A process may die before anybody has told that it began the call.
    assert!(first.worker == Some(0) && second.worker == Some(1), "{task:?}");
    assert_eq!([bars(&timeline, "retried"), bars(&timeline, "finished")], [1, 1]);
}

#[test]
fn a_call_that_a_waiting_call_runs_lies_inside_of_it() {
    let _watchdog = Watchdog::new("a_call_that_a_waiting_call_runs_lies_inside_of_it");
    let recorder = Recorder::new();
    let pool = ThreadPoolExecutor::builder().max_workers(1).observer(recorder.clone()).build().unwrap();
    let pool = Arc::new(pool);
    let own = Arc::clone(&pool);
    pool.spawn(move || own.spawn(|| ()).result().unwrap()).result().unwrap();
    drop(pool);

    let timeline = recorder.timeline();
    assert_eq!(outcomes(&timeline), [Some(Outcome::Finished); 2]);
    assert_eq!([bars(&timeline, "finished"), bars(&timeline, "finished inside")], [1, 1]);
}

#[test]
fn a_recording_can_be_looked_at_while_it_is_made() {
    let _watchdog = Watchdog::new("a_recording_can_be_looked_at_while_it_is_made");
    let recorder = Recorder::new();
    let pool = ThreadPoolExecutor::builder().max_workers(1).observer(recorder.clone()).build().unwrap();
    let (begun, wait) = std::sync::mpsc::channel();
    let (go_on, gate) = std::sync::mpsc::channel::<()>();
    let future = pool.spawn(move || {
        begun.send(()).unwrap();
        gate.recv().unwrap();
    });
    wait.recv().unwrap();
    let timeline = recorder.timeline();
    assert_eq!((outcomes(&timeline), bars(&timeline, "running")), (vec![None], 1));
    go_on.send(()).unwrap();
    future.result().unwrap();
    assert_eq!(outcomes(&recorder.timeline()), [Some(Outcome::Finished)], "told before the result is");
}

/// Runs a test of this binary that does nothing unless it is asked for here, with the variable.
fn traced(test: &str, variable: &Path) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    child.env("CONCURRENT_FUTURES_TRACE", variable).env("TIMELINE_TEST", test).output().unwrap()
}

fn is_asked_for(test: &str) -> bool {
    std::env::var_os("TIMELINE_TEST").is_some_and(|asked| asked == test)
}

/// A pool in a worker process, which must leave the file of the host alone.
fn nested(n: u32) -> u32 {
    let threads = ThreadPoolExecutor::new(1).unwrap();
    threads.submit(|n: u32| n + 1, n).result().unwrap()
}

#[test]
fn a_program() {
    if is_asked_for("a_program") {
        let pool = ProcessPoolExecutor::new(2).unwrap();
        let sum: u32 = pool.map(nested, 0..4).map(Result::unwrap).sum();
        assert_eq!(sum, 10);
        drop(pool);
        let pool = ThreadPoolExecutor::new(1).unwrap();
        pool.try_submit(half, 1).result().unwrap_err();
    }
}

#[test]
fn the_variable_names_a_trace() {
    let _watchdog = Watchdog::new("the_variable_names_a_trace");
    let directory = directory("trace");
    let ran = traced("a_program", &directory.join("timeline.json"));
    assert!(ran.status.success(), "{ran:?}");
    let trace = fs::read(directory.join("timeline.json")).unwrap();
    let trace: Value = serde_json::from_slice(&trace).unwrap();
    let calls = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["cat"] == "call");
    let calls: Vec<_> = calls.map(|call| call["args"]["outcome"].as_str().unwrap()).collect();
    assert_eq!(
        calls,
        ["finished", "finished", "finished", "finished", "raised"],
        "both pools, no nested one"
    );
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn the_variable_names_a_picture() {
    let _watchdog = Watchdog::new("the_variable_names_a_picture");
    let directory = directory("picture");
    let ran = traced("a_program", &directory.join("timeline.svg"));
    assert!(ran.status.success(), "{ran:?}");
    let text = fs::read_to_string(directory.join("timeline.svg")).unwrap();
    let picture = roxmltree::Document::parse(&text).unwrap();
    let classes = picture.descendants().filter_map(|node| node.attribute("class"));
    assert_eq!(classes.filter(|class| class.starts_with("bar ")).count(), 5);
}

#[test]
fn without_a_name_there_are_tables() {
    let _watchdog = Watchdog::new("without_a_name_there_are_tables");
    let ran = traced("a_program", Path::new(""));
    assert!(ran.status.success(), "{ran:?}");
    let said = String::from_utf8(ran.stderr).unwrap();
    let tables: BTreeSet<_> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    for table in ["worker", "slowest", "latency"] {
        assert!(tables.contains(table), "{said}");
        assert_eq!(
            said.lines().filter(|line| line.starts_with(&format!("{table} "))).count(),
            2,
            "once a pool:\n{said}"
        );
    }
    assert!(
        said.contains("5 tasks in ") && said.contains("ThreadPoolExecutor-") | said.contains("half"),
        "{said}"
    );
}

#[test]
fn a_file_that_cannot_be_written_is_a_line_and_nothing_else() {
    let _watchdog = Watchdog::new("a_file_that_cannot_be_written_is_a_line_and_nothing_else");
    let nowhere = directory("nowhere").join("no such directory").join("timeline.svg");
    let ran = traced("a_program", &nowhere);
    assert!(ran.status.success(), "{ran:?}");
    let said = String::from_utf8(ran.stderr).unwrap();
    let complaints: Vec<_> = said.lines().filter(|line| line.contains("CONCURRENT_FUTURES_TRACE")).collect();
    assert_eq!(complaints.len(), 2, "one a pool:\n{said}");
    assert!(
        complaints[0].contains("no such directory") && complaints[0].contains("cannot be written"),
        "{said}"
    );
}
