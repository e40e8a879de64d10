//! What `benches/results` makes of lines: read, judged, told. A bench without a harness has no tests of its own.

#![cfg(not(loom))]
#![allow(dead_code, reason = "the bench uses what is not tested here")]

#[path = "../benches/results/figures.rs"]
mod figures;
#[path = "../benches/results/lines.rs"]
mod lines;
#[path = "../benches/results/picture.rs"]
mod picture;
#[path = "../benches/results/report.rs"]
mod report;
#[path = "../benches/results/targets.rs"]
mod targets;

use figures::{QUESTIONS, Who};
use lines::{Kind, Run};
use targets::{Against, TARGETS, Target, Verdict};

const HEAD: &str =
    "# 2026-11-26T03:36:02Z 2 cores, 6.18.44-fc-v782, rustc 1.95.0 (5980 2026-04-14), pythons: python3\n";

const LINES: &str = "\
# t1: 1 of 5 repetitions began on a busy machine
# t1: ns per round trip (p50 of one run)
t1 limit:spin-pingpong-two-cores 110.0 110.0 0.184 n=5
t1 handmade-channel+channel(1) 600.0 571.0 1.000 n=5 x_limit=0.16 p99=2370.0000
t1 ours-threads 690.0 600.0 1.150 n=5 p99=NaN
t1 rusty_pool 3000.0 2500.0 5.000 n=5
t1 py3.11/concurrent.futures 37262.0 25694.0 62.1 n=5

# t6: ns per submit or join
t6 ours-threads 150.0 140.0 1.000 n=5
t6 rusty_pool - - - hung: nothing within 3 s
t6 tokio 400.0 390.0 2.667 n=2 then_failed=its_process_died

# p0: ns
p0 ours-processes 1000000.0 900000.0 1.000 n=5
# p6busy: ns
p6busy ours-processes 1400000.0 1300000.0 1.000 n=5 detect_us=390.0000
p6busy handmade-pipe 2000000.0 1900000.0 1.4 n=5 detect_us=380.0000
growth: nothing of this is a line
t2-by-workers 1 200.0 190.0 1.000 n=3 cpu_ns=210.0 cpu_ratio=1.0
t2-by-workers 16 300.0 290.0 1.500 n=3 cpu_ns=250.0 cpu_ratio=1.19
t2-by-workers 64 - - - left out: too long
";

fn runs() -> Vec<Run> {
    lines::read(&format!("{HEAD}{LINES}"))
}

fn all_of(workload: &str) -> Vec<&'static Target> {
    TARGETS.iter().filter(|target| target.workload == workload).collect()
}

#[test]
fn lines_are_read_and_noise_is_not() {
    let runs = runs();
    assert_eq!(runs.len(), 1);
    let head = runs[0].head.clone().unwrap();
    assert_eq!((head.date.as_str(), head.cores.as_str()), ("2026-11-26T03:36:02Z", "2 cores"));
    assert_eq!((head.kernel.as_str(), head.rustc.as_str()), ("6.18.44", "rustc 1.95.0"));
    let names: Vec<&str> = runs[0].tables.iter().map(|table| table.workload.as_str()).collect();
    assert_eq!(names, ["t1", "t6", "p0", "p6busy", "t2-by-workers"]);

    let t1 = runs[0].table("t1").unwrap();
    assert_eq!(t1.unit, "ns per round trip (p50 of one run)");
    let ours = t1.of("ours-threads").unwrap();
    assert_eq!((ours.median, ours.min, ours.ratio), (690.0, 600.0, Some(1.15)));
    assert_eq!((ours.more("n"), ours.more("p99")), (Some(5.0), None));
    let by_hand = t1.best(|name| Kind::of(name) == Kind::ByHand);
    assert_eq!(by_hand, Some(("handmade-channel+channel(1)", 600.0)));

    let t6 = &runs[0].table("t6").unwrap().rows;
    assert_eq!(t6[1].reason.as_deref(), Some("hung: nothing within 3 s"));
    assert!(t6[1].figures.is_none());
    assert_eq!(t6[2].reason.as_deref(), Some("then failed: its process died"));
    assert_eq!(t6[2].figures.as_ref().unwrap().median, 400.0);
}

/// A repeated line or a new head begins another run: figures of two runs are never divided.
#[test]
fn runs_are_kept_apart() {
    let two = lines::read("t1 ours-threads 1.0 1.0 1.0 n=1\nt1 ours-threads 2.0 2.0 1.0 n=1\n");
    assert_eq!(two.len(), 2);
    let apart = format!("{HEAD}t1 ours-threads 1.0 1.0 1.0 n=1\n{HEAD}t1 rusty_pool 100.0 9.0 1.0 n=1\n");
    let target = all_of("t1")[1];
    assert_eq!(target.judge(&lines::read(&apart)), None);
}

#[test]
fn verdicts() {
    let runs = runs();
    let [by_hand, pool] = all_of("t1")[..] else { panic!("two targets for t1") };
    let verdict = by_hand.judge(&runs).unwrap();
    assert_eq!(
        verdict,
        Verdict {
            ratio: 690.0 / 600.0,
            met: true,
            ours: 690.0,
            other: Some(("handmade-channel+channel(1)".to_owned(), 600.0)),
        }
    );
    let verdict = pool.judge(&runs).unwrap();
    assert_eq!((verdict.ratio, verdict.met), (690.0 / 3000.0, false));

    // Exactly the bound is met.
    let verdict = all_of("t6")[0].judge(&runs).unwrap();
    assert_eq!((verdict.ratio, verdict.met), (1.0, true));

    // Microseconds of a key, and our own figure of another workload.
    let [error, result] = all_of("p6busy")[..] else { panic!("two targets for p6busy") };
    let verdict = error.judge(&runs).unwrap();
    assert_eq!((verdict.ours, verdict.met), (390.0, true));
    assert_eq!(verdict.other, Some(("handmade-pipe".to_owned(), 380.0)));
    let verdict = result.judge(&runs).unwrap();
    assert_eq!((verdict.ratio, verdict.met), (1.4, false));
    assert_eq!(all_of("t3")[0].judge(&runs), None);
}

/// Of two runs the worse counts, of three the middle one; a limit and ours are nobody's rivals.
#[test]
fn the_middle_run_counts() {
    let line = |ours: u32| {
        format!(
            "{HEAD}t3 limit:x 1.0 1.0 - n=1\nt3 ours-threads {ours}.0 1.0 1.0 n=1\nt3 ours-threads-map 2.0 1.0 1.0 \
             n=1\nt3 blocking 100.0 1.0 1.0 n=1\n"
        )
    };
    let target = all_of("t3")[0];
    let two = lines::read(&(line(90) + &line(110)));
    assert_eq!(target.judge(&two).map(|verdict| (verdict.ratio, verdict.met)), Some((1.1, false)));
    let three = lines::read(&(line(90) + &line(110) + &line(80)));
    assert_eq!(target.judge(&three).map(|verdict| (verdict.ratio, verdict.met)), Some((0.9, true)));
}

/// Every row of the table is there, and asks for what the stand can tell.
#[test]
fn the_targets_are_whole() {
    let count = |workload: &str| all_of(workload).len();
    assert_eq!([count("t1"), count("p1"), count("t5"), count("p6busy")], [2, 3, 2, 2]);
    for workload in "t2 t2m t3 t4-auto t6 t7 t8 p0 p0w2 p2 p2map-c1 p2map-c1000 p4 p5 p6idle".split(' ') {
        assert_eq!(count(workload), 1, "{workload}");
    }
    let sizes = TARGETS.iter().filter(|target| target.workload.starts_with("p3")).count();
    assert_eq!(sizes, 8);
    for target in TARGETS {
        assert!(target.ours.starts_with("ours-") && target.at_most > 0.0, "{target:?}");
        if let Against::Own(workload) = target.against {
            assert!(TARGETS.iter().any(|other| other.workload == workload && other.ours == target.ours));
        }
    }
}

#[test]
fn the_report_says_each_target_once() {
    let text = report::results(&runs(), "## Where the time goes\n\nIn a profile.\n");
    let why = targets::WHY.iter().find(|(workload, _)| *workload == "p6busy").map_or("", |(_, why)| why);
    let missed = format!(
        "| p6busy | SIGKILL in a call, until the next result | 1.4 × | 1.3 × our p0 | **missed** | 1.4 ms | 1 ms \
         ours-processes, p0 | {why} |"
    );
    for row in [
        &missed,
        "| t1 | a call on a thread, one at a time | 1.15 × | 1.2 × handmade-channel+channel(1) or \
         handmade-channel+oneshot | met | 690 ns | 600 ns handmade-channel+channel(1) | |",
        "| p6busy | SIGKILL in a call, until its error | 0.975 × | 1 × 400 µs | met | 390 µs | 380 µs handmade-pipe | |",
        "| t3 | four threads that submit | | 1 × the best rival | not measured | | | |",
        "| rusty_pool | | | | could not: hung: nothing within 3 s |",
        "| 16 | 1.5 | 1.19 | 300 ns | 250 ns |",
        "| 64 | | | left out: too long | |",
        "3 met, 2 missed, 27 not measured.",
        "In a profile.",
        "2026-11-26, a virtual machine with 2 cores, shared with others; Linux 6.18.44, rustc 1.95.0.",
    ] {
        let found = text.lines().any(|line| line.split_whitespace().eq(row.split_whitespace()));
        assert!(found, "{row}\nis not in\n{text}");
    }
}

/// Written twice it is the same, and nothing outside the markers moves.
#[test]
fn the_readme_keeps_what_is_around_its_figures() {
    let readme = include_str!("../README.md");
    let once = report::readme(readme, &runs()).expect("README.md has the markers of its figures");
    assert_eq!(report::readme(&once, &runs()).as_ref(), Some(&once));
    let outside = |text: &str| {
        let (before, rest) = text.split_once("<!-- figures").unwrap();
        (before.to_owned(), rest.split_once("<!-- end of figures -->").unwrap().1.to_owned())
    };
    assert_eq!(outside(readme), outside(&once));
    assert!(
        once.contains("| A call on a thread, there and back | 1.15 × | 0.23 × | 0.0185 × | 690 ns |"),
        "{once}"
    );
    assert_eq!(report::readme("no markers", &runs()), None);
}

#[test]
fn figures_take_the_best_of_each_kind() {
    let bars = QUESTIONS[0].bars(&runs());
    assert_eq!(
        bars.iter().map(|bar| bar.who).collect::<Vec<_>>(),
        [Who::Ours, Who::ByHand, Who::Crate, Who::CPython]
    );
    // A limit is nobody's bar, and what could not be measured has none.
    assert_eq!(QUESTIONS[4].bars(&runs()).len(), 2);
    assert!(QUESTIONS[2].bars(&runs()).is_empty());
    let svg = picture::svg(&runs());
    assert_eq!(svg.matches("<rect class=\"ours\"").count(), 2);
    assert_eq!(svg.matches("<rect class=\"other\"").count(), 4);
    assert!(svg.contains(">37.3 µs · 54 ×<") && svg.contains("not measured"), "{svg}");
}

#[test]
fn digits_as_people_say_them() {
    let all = [0.0, 0.0185, 0.23, 1.15, 1.0, 12.34, 596.0, 12345.6].map(report::digits);
    assert_eq!(all, ["0", "0.0185", "0.23", "1.15", "1", "12.3", "596", "12346"]);
}
