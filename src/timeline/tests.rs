//! Timelines of invented pools: what is in the picture, in the trace, in the tables.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use roxmltree::Document;
use serde_json::Value;

use super::invented::{self, Stage};
use super::lanes::Stay;
use super::recorder::Recorder;
use super::story::{Outcome, Timeline, WorkerEnd};
use crate::error::Error;
use crate::id::{FutureId, TaskRef};
use crate::observer::What;
use crate::worker::WorkerInfo;

/// Beside the tests, where one can look at it.
fn place(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.ancestors().nth(2).unwrap().join("timelines");
    fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

fn has_class(node: &roxmltree::Node<'_, '_>, class: &str) -> bool {
    node.attribute("class").is_some_and(|all| all.split(' ').any(|one| one == class))
}

fn number(picture: &Document<'_>, class: &str) -> usize {
    picture.descendants().filter(|node| has_class(node, class)).count()
}

#[test]
fn ten_calls_have_a_bar_for_each_attempt() {
    let timeline = invented::ten().timeline();
    timeline.write(place("ten.svg")).unwrap();
    timeline.write(place("ten.json")).unwrap();
    let picture = fs::read_to_string(place("ten.svg")).unwrap();
    let picture = Document::parse(&picture).unwrap();
    let attempts: usize = timeline.tasks().iter().map(|task| task.attempts.len()).sum();
    assert_eq!(timeline.tasks().len(), 10);
    assert_eq!((attempts, number(&picture, "bar")), (10, 10), "one was tried twice, one was cancelled");
    for (class, bars) in [("finished", 6), ("failed", 1), ("panicked", 1), ("timed-out", 1), ("retried", 1)] {
        let found =
            picture.descendants().filter(|node| has_class(node, "bar") && has_class(node, class)).count();
        assert_eq!(found, bars, "{class}");
    }
    assert_eq!(number(&picture, "inside"), 2, "a call that waits runs what it waits for");
    assert_eq!(number(&picture, "never"), 1, "the cancelled one");
    let marks = picture.descendants().filter(|node| has_class(node, "mark"));
    assert_eq!(
        marks.filter(|mark| mark.children().any(|node| node.has_tag_name("title"))).count(),
        3,
        "two deaths, a time limit"
    );
    let texts: Vec<_> = picture.descendants().filter_map(|node| node.text().map(str::trim)).collect();
    assert!(texts.contains(&"files <&>"), "a name is escaped");
    assert!(
        texts.iter().any(|text| text.starts_with("album::resize::<album::Jpeg> (task ")),
        "and whole in what explains a bar"
    );
    assert!(texts.contains(&"resize (2)"), "and short in a bar");
}

#[test]
fn ten_thousand_calls_are_a_picture_of_bounded_size() {
    let timeline = invented::busy(10_000, 8, 7).timeline();
    timeline.write(place("many.svg")).unwrap();
    let text = fs::read_to_string(place("many.svg")).unwrap();
    assert!(text.len() < 1_000_000, "{} bytes", text.len());
    let picture = Document::parse(&text).unwrap();
    assert!(number(&picture, "bar") <= 2_000);
    assert_eq!(number(&picture, "together"), 8, "one a lane");
    let rare = timeline.tasks().iter().filter(|task| task.outcome == Some(Outcome::Panicked)).count();
    assert!(rare > 0 && number(&picture, "panicked") > 0, "what is rare is seen");
}

#[test]
fn many_workers_are_a_picture_of_bounded_size() {
    let timeline = invented::busy(30_000, 400, 11).timeline();
    timeline.write(place("crowd.svg")).unwrap();
    let text = fs::read_to_string(place("crowd.svg")).unwrap();
    assert!(text.len() < 1_000_000, "{} bytes", text.len());
    assert!(text.contains("160 more lanes not drawn"));
    let forty = invented::busy(2_000, 40, 13).timeline();
    forty.write(place("forty.svg")).unwrap();
}

#[test]
fn the_worst_is_a_picture_of_bounded_size() {
    for events in [3_000, 20_000] {
        let timeline = invented::chaos(events, 17).timeline();
        timeline.write(place("chaos.svg")).unwrap();
        lies_within(&timeline);
        let size = fs::metadata(place("chaos.svg")).unwrap().len();
        assert!(size < 1_500_000, "{size} bytes of {events} calls");
    }
}

#[test]
fn a_trace_has_every_attempt() {
    let timeline = invented::ten().timeline();
    let trace: Value = serde_json::from_str(&timeline.trace_json()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |phase: &str, cat: &str| {
        let this = |event: &&Value| event["ph"] == phase && (cat.is_empty() || event["cat"] == cat);
        events.iter().filter(this).collect::<Vec<_>>()
    };
    let calls = of("X", "call");
    assert_eq!(calls.len(), 10);
    let again: Vec<_> = calls.iter().filter(|call| call["args"]["attempt"] == 2).collect();
    assert_eq!(again.len(), 1);
    assert_eq!((&again[0]["name"], &again[0]["args"]["pid"]), (&"resize".into(), &4720.into()));
    assert_eq!((&again[0]["pid"], &again[0]["tid"]), (&1.into(), &2.into()));
    assert_eq!((again[0]["ts"].as_f64(), again[0]["dur"].as_f64()), (Some(40_000.0), Some(20_800.0)));
    assert_eq!(of("X", "worker").len(), 4, "how each worker started");
    let names: Vec<_> = of("i", "").iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["died", "timed out", "died"]);
    let pools: Vec<_> = of("M", "").into_iter().filter(|event| event["name"] == "process_name").collect();
    assert_eq!(
        pools.iter().map(|pool| pool["args"]["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["photos", "files <&>"]
    );
    let queued: Vec<_> = of("C", "").into_iter().filter(|event| event["pid"] == 1).collect();
    assert_eq!(queued.iter().map(|event| event["args"]["queued"].as_u64().unwrap()).max(), Some(7));
    assert_eq!(queued.last().unwrap()["args"]["queued"], 0);
}

#[test]
fn the_tables_are_three() {
    let text = invented::ten().timeline().to_string();
    let parts: Vec<_> = text.split("\n\n").collect();
    assert_eq!(parts.len(), 4, "{text}");
    assert_eq!(parts[0], "10 tasks in 93.0 ms, 3 workers, 83 % busy", "{text}");
    assert!(parts[1].starts_with("worker ") && parts[1].lines().count() == 4, "{text}");
    assert!(parts[2].starts_with("slowest ") && parts[2].lines().count() == 10, "{text}");
    assert!(parts[3].starts_with("latency ") && parts[3].lines().count() == 3, "{text}");
}

#[test]
fn a_story_is_told_call_by_call() {
    let timeline = invented::ten().timeline();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let resized = &timeline.tasks()[1];
    assert_eq!(resized.name, "album::resize::<album::Jpeg>");
    let [first, second] = &resized.attempts[..] else { panic!("{resized:?}") };
    assert_eq!((first.outcome, first.again), (Some(Outcome::WorkerDied), true));
    assert_eq!((second.outcome, second.again, second.number), (Some(Outcome::Finished), false, 2));
    assert_eq!((milliseconds(resized.waited().unwrap()), milliseconds(resized.ran().unwrap())), (6.36, 20.8));
    let workers: Vec<_> =
        timeline.workers().iter().map(|worker| (&*worker.name, worker.pid, worker.end)).collect();
    assert_eq!(
        workers,
        [
            ("photos_0", Some(4711), Some(WorkerEnd::Died)),
            ("photos_1", Some(4712), Some(WorkerEnd::Died)),
            ("photos_1", Some(4720), Some(WorkerEnd::Left)),
            ("files <&>_0", None, Some(WorkerEnd::Left)),
        ]
    );
    assert_eq!((first.worker, second.worker), (Some(1), Some(2)));
    assert_eq!(timeline.wall(), Duration::from_micros(93_000));
}

#[test]
fn at_its_limit_a_recorder_counts_what_it_leaves_out() {
    let recorder = Recorder::with_limit(5);
    let stage = Stage { recorder: &recorder, start: Instant::now(), pool: (1, "pool") };
    for number in 0..6 {
        stage.submit(number, "call");
    }
    let timeline = recorder.timeline();
    assert_eq!((timeline.tasks().len(), timeline.left_out()), (5, 1));
    assert!(timeline.svg().contains("1 event left out"));
    assert!(timeline.to_string().contains("1 event left out"));
    assert!(timeline.trace_json().contains("\"events_left_out\":1"));
}

#[test]
fn a_pool_without_workers_is_seen() {
    let recorder = Recorder::new();
    let stage = Stage { recorder: &recorder, start: Instant::now(), pool: (1, "idle hands") };
    let task = stage.submit(0, "call");
    stage.fail(5, task, &Error::Cancelled { task });
    stage.tell(9, What::PoolOver {});
    let text = recorder.timeline().svg();
    assert!(text.contains("idle hands") && text.contains("cancelled 1"), "{text}");
}

#[test]
fn workers_elsewhere_have_their_own_names() {
    let (recorder, start) = (Recorder::new(), Instant::now());
    let cluster = Stage { recorder: &recorder, start, pool: (1, "cluster") };
    // Nobody tells that they come or go. The second one comes back as another process.
    let elsewhere = |name: &str, number, pid| crate::WorkerInfo { name: name.into(), number, pid: Some(pid) };
    let workers = [elsewhere("anna", 0, 11), elsewhere("cluster-2", 1, 12), elsewhere("cluster-2", 1, 13)];
    for (at, worker) in (0..).step_by(100).zip(&workers) {
        let task = cluster.submit(at, "resize");
        cluster.start(at + 10, task, 1, worker);
        cluster.finish(at + 90, task);
    }
    let timeline = recorder.timeline();
    let named: Vec<_> = timeline.workers().iter().map(|worker| (&*worker.name, worker.pid)).collect();
    assert_eq!(named, [("anna", Some(11)), ("cluster-2", Some(12)), ("cluster-2", Some(13))]);
}

#[test]
fn a_file_is_whole_or_not_there() {
    let timeline = invented::ten().timeline();
    let nowhere = place("no such directory").join("timeline.svg");
    assert_eq!(timeline.write(nowhere).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let directory = place("a directory.svg");
    fs::create_dir_all(&directory).unwrap();
    timeline.write(&directory).unwrap_err();
    let left: Vec<_> = fs::read_dir(place("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".a directory")), "{left:?}");
    timeline.write("/dev/null").unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

/// Anything that a recorder may be told, in any order, with anything left out.
#[derive(Clone, Debug)]
enum Noise {
    Submitted(usize),
    Started(usize, u32, Option<usize>),
    Retried(usize, u32),
    Ended(usize, u8),
    Worker(usize, u8),
    Over,
}

fn noise() -> impl Strategy<Value = (u64, u32, Noise)> {
    let task = 0..8usize;
    let worker = 0..5usize;
    let what = prop_oneof![
        task.clone().prop_map(Noise::Submitted),
        (task.clone(), 1..4u32, proptest::option::of(worker.clone()))
            .prop_map(|(task, attempt, worker)| Noise::Started(task, attempt, worker)),
        (task.clone(), 2..4u32).prop_map(|(task, attempt)| Noise::Retried(task, attempt)),
        (task, 0..6u8).prop_map(|(task, end)| Noise::Ended(task, end)),
        (worker, 0..5u8).prop_map(|(worker, what)| Noise::Worker(worker, what)),
        Just(Noise::Over),
    ];
    (0..5_000u64, 1..3u32, what)
}

fn tell(recorder: &Recorder, noise: &[(u64, u32, Noise)]) {
    let start = Instant::now();
    let tasks: [_; 8] =
        std::array::from_fn(|_| TaskRef { name: "a::b<c>::{{closure}}", id: FutureId::next() });
    // The last two are processes.
    let worker = |number: usize| WorkerInfo {
        name: format!("p_{number}"),
        number: number % 4,
        pid: (number > 2).then_some(number as u32),
    };
    for (at, pool, what) in noise {
        let stage = Stage { recorder, start, pool: (*pool, "p\u{1}<&\">") };
        match what {
            Noise::Submitted(task) => stage.tell(*at, What::Submitted { task: tasks[*task], calls: 1 }),
            Noise::Started(task, attempt, by) => {
                let by = by.map(worker);
                let (task, attempt, worker) = (tasks[*task], *attempt, by.as_ref());
                stage.tell(*at, What::Started { task, attempt, worker, waited: Duration::ZERO });
            }
            Noise::Retried(task, attempt) => {
                let (task, attempt, error) = (tasks[*task], *attempt, &invented::died(tasks[*task]));
                stage.tell(*at, What::Retried { task, error, attempt, due: start });
            }
            Noise::Ended(task, end) => {
                let task = tasks[*task];
                match end {
                    0 => stage.finish(*at, task),
                    1 => stage.fail(*at, task, &invented::raised(task)),
                    2 => stage.fail(*at, task, &invented::panicked(task)),
                    3 => stage.fail(*at, task, &invented::timed_out(task)),
                    4 => stage.fail(*at, task, &invented::died(task)),
                    _ => stage.fail(*at, task, &Error::Cancelled { task }),
                }
            }
            Noise::Worker(number, what) => {
                let worker = &worker(*number);
                stage.tell(
                    *at,
                    match what {
                        0 => What::WorkerSpawned { worker },
                        1 => What::WorkerReady { worker },
                        2 => What::WorkerRecycled { worker },
                        3 => What::WorkerDied { worker, status: None },
                        _ => What::WorkerLeft { worker },
                    },
                );
            }
            Noise::Over => stage.tell(*at, What::PoolOver {}),
        }
    }
}

/// Every bar, and all else that has a width, lies where lanes lie.
fn lies_within(timeline: &Timeline) {
    for lane in timeline.lanes() {
        assert!(lane.busy <= lane.there);
        for bar in &lane.bars {
            assert!(bar.from <= bar.to && bar.to <= timeline.wall(), "{bar:?}");
        }
    }
    for worker in timeline.workers() {
        let Stay { spawned, ready, ended } = timeline.stay(worker);
        assert!(spawned <= ready && ready <= ended && ended <= timeline.wall(), "{worker:?}");
    }
    let text = timeline.svg();
    let picture = Document::parse(&text).unwrap();
    for node in picture.descendants() {
        if has_class(&node, "bar") || has_class(&node, "there") && node.attribute("x") != Some("0") {
            let length = |name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
            assert!(length("x") >= 150.0 - 0.1 && length("x") + length("width") <= 1140.0 + 0.6, "{node:?}");
        }
    }
    let trace: Value = serde_json::from_str(&timeline.trace_json()).unwrap();
    assert!(
        trace["traceEvents"].as_array().unwrap().iter().all(|event| event["ts"].as_f64().unwrap() >= 0.0)
    );
    let _ = timeline.to_string();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_told_makes_a_timeline(
        events in proptest::collection::vec(noise(), 0..60),
        limit in proptest::option::of(0..40usize),
    ) {
        let recorder = limit.map_or_else(Recorder::new, Recorder::with_limit);
        tell(&recorder, &events);
        let timeline = recorder.timeline();
        let told = timeline.tasks().len();
        prop_assert!(told <= 8);
        lies_within(&timeline);
    }
}
