//! The targets, each a typed row, and the verdict on it. A target compares two figures of one run; where there are
//! several runs, the middle ratio counts (of two, the worse).
//!
//! Not here: how it is told (`report.rs`). What the stand does not measure has no row; [`UNMEASURED`] names it.

use crate::lines::{Kind, Run};

#[derive(Debug)]
pub(crate) struct Target {
    /// A workload of the stand.
    pub(crate) workload: &'static str,
    pub(crate) what: &'static str,
    /// Which of our contenders.
    pub(crate) ours: &'static str,
    /// The figure of ours, unless it is the median.
    pub(crate) key: Option<&'static str>,
    pub(crate) against: Against,
    pub(crate) at_most: f64,
}

/// What a figure of ours is divided by.
#[derive(Debug)]
pub(crate) enum Against {
    /// This many of the workload's unit; whom a reader may look at beside it.
    Unit(f64, Unit, &'static [&'static str]),
    /// The best of these contenders.
    Best(&'static [&'static str]),
    /// The best that is neither ours nor a limit.
    AnyRival,
    /// The best of CPython's own `concurrent.futures`.
    CPython,
    /// Ours, of that workload.
    Own(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    Nanoseconds,
    Microseconds,
    Bytes,
    /// Of the ideal time.
    Ideal,
}

/// The unit of a workload's medians.
pub(crate) fn unit(workload: &str) -> Unit {
    match workload {
        "t7" | "p5" => Unit::Bytes,
        "t5" | "p4" => Unit::Ideal,
        _ => Unit::Nanoseconds,
    }
}

const THREADS: &str = "ours-threads";
const THREADS_MAP: &str = "ours-threads-map";
const PROCESSES: &str = "ours-processes";
const CHANNELS: &[&str] = &["handmade-channel+channel(1)", "handmade-channel+oneshot"];
const PIPE: &[&str] = &["handmade-pipe"];

const fn target(
    workload: &'static str,
    what: &'static str,
    ours: &'static str,
    against: Against,
    at_most: f64,
) -> Target {
    Target { workload, what, ours, key: None, against, at_most }
}

use Against::{AnyRival, Best, CPython, Own, Unit as Units};

pub(crate) const TARGETS: &[Target] = &[
    target("t1", "a call on a thread, one at a time", THREADS, Best(CHANNELS), 1.2),
    target("t1", "a call on a thread, one at a time", THREADS, Best(&["rusty_pool"]), 0.2),
    // "At the level of rayon" has no number; rayon's own runs are 1.6 apart.
    target("t8", "CPU of an idle pool in 3 s", THREADS, Best(&["rayon-spawn+oneshot"]), 1.5),
    target("t2", "100,000 calls queued, then collected", THREADS, AnyRival, 0.75),
    target("t2m", "1,000,000 calls queued, then collected", THREADS, AnyRival, 0.75),
    target("t3", "four threads that submit", THREADS, AnyRival, 1.0),
    target(
        "t4-auto",
        "`map(x * x)` over a million, no chunk given",
        THREADS_MAP,
        Units(1.2, Unit::Nanoseconds, CHANNELS),
        1.0,
    ),
    target("t5", "2,000 × 50 µs, `submit`", THREADS, Units(1.0, Unit::Ideal, CHANNELS), 1.05),
    target("t5", "2,000 × 50 µs, `map`", THREADS_MAP, Units(1.0, Unit::Ideal, CHANNELS), 1.05),
    target(
        "t6",
        "fib(20), each call submits and waits",
        THREADS,
        Units(150.0, Unit::Nanoseconds, &["rayon-join"]),
        1.0,
    ),
    target(
        "t7",
        "memory of a queued call, handle included",
        THREADS,
        Units(112.0, Unit::Bytes, &["blocking"]),
        1.0,
    ),
    target(
        "p0",
        "from nothing to the first result, against a bare spawn",
        PROCESSES,
        Best(&["limit:posix_spawn-self"]),
        1.15,
    ),
    // "Side by side" has no number; one after the other it would be 2, and by hand it is 1.5.
    target("p0w2", "two workers from nothing, against one", PROCESSES, Own("p0"), 1.6),
    target("p1", "a call in a process, one at a time", PROCESSES, Best(PIPE), 0.3),
    target("p1", "a call in a process, one at a time", PROCESSES, Best(&["procspawn"]), 0.1),
    target("p1", "a call in a process, one at a time", PROCESSES, CPython, 0.05),
    target("p2", "100,000 tiny calls, `submit`", PROCESSES, Units(700.0, Unit::Nanoseconds, PIPE), 1.0),
    target("p2map-c1", "100,000 tiny calls, `map`", PROCESSES, Units(700.0, Unit::Nanoseconds, PIPE), 1.0),
    target("p2map-c1000", "the same, 1,000 per message", PROCESSES, AnyRival, 1.1),
    target("p3in-1KiB", "`Vec<u8>` of 1 KiB in", PROCESSES, AnyRival, 1.0),
    target("p3echo-1KiB", "`Vec<u8>` of 1 KiB there and back", PROCESSES, AnyRival, 1.0),
    target("p3in-64KiB", "`Vec<u8>` of 64 KiB in", PROCESSES, AnyRival, 1.0),
    target("p3echo-64KiB", "`Vec<u8>` of 64 KiB there and back", PROCESSES, AnyRival, 1.0),
    target("p3in-1MiB", "`Vec<u8>` of 1 MiB in", PROCESSES, AnyRival, 1.0),
    target("p3echo-1MiB", "`Vec<u8>` of 1 MiB there and back", PROCESSES, AnyRival, 1.0),
    target("p3in-64MiB", "`Vec<u8>` of 64 MiB in", PROCESSES, AnyRival, 1.0),
    target("p3echo-64MiB", "`Vec<u8>` of 64 MiB there and back", PROCESSES, AnyRival, 1.0),
    target("p4", "200 × 5 ms", PROCESSES, Units(1.0, Unit::Ideal, PIPE), 1.03),
    target(
        "p5",
        "memory (PSS) of an idle worker, against the bare program",
        PROCESSES,
        Best(&["limit:exec-self-idle"]),
        1.15,
    ),
    Target {
        key: Some("detect_us"),
        ..target(
            "p6busy",
            "SIGKILL in a call, until its error",
            PROCESSES,
            Units(400.0, Unit::Microseconds, PIPE),
            1.0,
        )
    },
    target("p6busy", "SIGKILL in a call, until the next result", PROCESSES, Own("p0"), 1.3),
    target("p6idle", "SIGKILL of an idle worker, until the next result", PROCESSES, Own("p0"), 1.3),
];

/// Why a target is missed, by workload: a sentence for the table. The profiles are in `benches/profiles.md`.
pub(crate) const WHY: &[(&str, &str)] = &[
    (
        "t4-auto",
        "the bound is in nanoseconds of a faster machine: here one thread alone takes 3.1 ns an item, and the hand-made \
         chunks, which took 1.24, take 6. Items begin in their order, so that they may wait for one another: quick ones \
         are run by one worker at a time",
    ),
    (
        "t5",
        "on two cores the reader takes time from a worker whenever it runs: `map` wakes it for several results at a \
         time, one `result` after the other cannot; channel(1) gives its whole slice away, and then comes late",
    ),
    ("t6", "with one worker, or warm, 115–130 ns; two on two cores hand the queue's cache line to and fro"),
    (
        "p0",
        "1.2–1.3 × the hand-made pool; 0.25 ms beyond the bare spawn are a thread, three pipes, a page, the terms, a \
         handshake, and code that runs for the first time",
    ),
    (
        "p2",
        "0.44–1.06 µs from run to run, 0.6–0.7 more often than not: submitter, two workers' threads and two children share \
         two cores",
    ),
    (
        "p2map-c1000",
        "the run takes 2 ms, and the second worker is started by it: it is there for the second half. Both warm: 0.9 ×",
    ),
    (
        "p3in-1MiB",
        "the same two copies by the kernel, one after the other; the worker's thread is woken between two calls, 1.1–1.4 × from run to run",
    ),
    ("p3echo-1MiB", "the same"),
    ("p4", "two bare forks that share the work (`limit:2-forks-halves`) need 1.09–1.11 here"),
    (
        "p5",
        "code pages that serve calls, shared with the host; memory of its own (USS) is that of the bare program",
    ),
    (
        "p6busy",
        "0.3 ms pass in the kernel before anybody can know; then how it ended is asked, and whether memory ran out, which \
         the error tells. 1.2 × the hand-made pool, which tells nothing and loses two calls more",
    ),
    ("p6idle", "the death (0.3–0.4 ms in the kernel) and a whole p0: 1.16 × the hand-made pool"),
];

/// What the targets ask for and no line of the stand shows.
pub(crate) const UNMEASURED: &[&str] = &[
    "idle CPU of a process pool (p1 asks that it stays): the stand's t8 is of threads",
    "`String` and `Vec<f64>` through the process wall: the stand's p3 sends `Vec<u8>`",
];

/// What a run says to a target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) ratio: f64,
    pub(crate) met: bool,
    pub(crate) ours: f64,
    /// Whom ours was divided by, or who stands beside it.
    pub(crate) other: Option<(String, f64)>,
}

impl Target {
    /// `None` where no run has both figures.
    pub(crate) fn judge(&self, runs: &[Run]) -> Option<Verdict> {
        let mut verdicts: Vec<Verdict> = runs.iter().filter_map(|run| self.judge_one(run)).collect();
        verdicts.sort_by(|one, two| one.ratio.total_cmp(&two.ratio));
        (!verdicts.is_empty()).then(|| verdicts.swap_remove(verdicts.len() / 2))
    }

    fn judge_one(&self, run: &Run) -> Option<Verdict> {
        let table = run.table(self.workload)?;
        let figure = |contender: &str| {
            let figures = table.of(contender)?;
            self.key.map_or(Some(figures.median), |key| figures.more(key))
        };
        let ours = figure(self.ours)?;
        let among = |names: &[&str]| {
            let all = names.iter().filter_map(|name| Some((name.to_string(), figure(name)?)));
            all.min_by(|one, two| one.1.total_cmp(&two.1))
        };
        let owned = |(name, value): (&str, f64)| (name.to_owned(), value);
        let (divisor, other) = match &self.against {
            Against::Unit(value, _, beside) => (*value, among(beside)),
            Against::Best(names) => with_value(among(names)?),
            Against::AnyRival => {
                let rival = |name: &str| !matches!(Kind::of(name), Kind::Ours | Kind::Limit);
                with_value(owned(table.best(rival)?))
            }
            Against::CPython => with_value(owned(table.best(is_cpython)?)),
            Against::Own(workload) => {
                let value = run.table(workload)?.of(self.ours)?.median;
                with_value((format!("{}, {workload}", self.ours), value))
            }
        };
        let ratio = ours / divisor;
        Some(Verdict { ratio, met: ratio <= self.at_most, ours, other })
    }

    /// The unit of the figures.
    pub(crate) fn unit(&self) -> Unit {
        match (self.key, &self.against) {
            (Some(_), Against::Unit(_, unit, _)) => *unit,
            _ => unit(self.workload),
        }
    }
}

fn with_value(other: (String, f64)) -> (f64, Option<(String, f64)>) {
    (other.1, Some(other))
}

/// `py3.11/concurrent.futures`, `py3.11/concurrent.futures-fork`, …
pub(crate) fn is_cpython(contender: &str) -> bool {
    Kind::of(contender) == Kind::Python
        && contender.split_once('/').is_some_and(|(_, name)| name.starts_with("concurrent.futures"))
}
