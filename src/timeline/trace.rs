//! The trace: JSON as Perfetto and `chrome://tracing` read it ("Trace Event Format").
//!
//! A pool is a process of the trace, a worker a thread of it. Calls are complete events ("X"), deaths and time-outs are
//! instants ("i"), how many calls are queued is a counter ("C"), names are metadata ("M").
//!
//! The rule: one event is written after the other, so a trace takes no memory of its own.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::lanes::{Bar, Lane, Stay, queued};
use super::names::short;
use super::story::{Outcome, Timeline, WorkerEnd, WorkerRecord};

/// The first of the threads that stand for none of the pool's workers.
const ELSEWHERE: usize = 1_000_000;

/// The thread that stands for a worker. Perfetto takes thread 0 for the idle one of a processor.
fn thread(number: usize) -> usize {
    number + 1
}

#[derive(Serialize)]
struct Event<'a, A> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'a str,
    ph: char,
    /// Microseconds.
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u32,
    tid: usize,
    /// Of an instant: how far its mark reaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<char>,
    args: A,
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Order {
    sort_index: usize,
}

#[derive(Serialize)]
struct Queued {
    queued: usize,
}

#[derive(Serialize)]
struct Call<'a> {
    function: &'a str,
    task: u64,
    outcome: &'a str,
    attempt: u32,
    #[serde(skip_serializing_if = "is_one")]
    calls: usize,
    #[serde(skip_serializing_if = "is_nothing")]
    failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
}

#[derive(Serialize)]
struct Worker<'a> {
    worker: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
}

fn is_one(number: &usize) -> bool {
    *number == 1
}

fn is_nothing(number: &usize) -> bool {
    *number == 0
}

fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

impl Timeline {
    /// The trace, as [`write_trace`](Timeline::write_trace) writes it.
    ///
    /// ```
    /// use concurrent_futures::timeline::Recorder;
    ///
    /// let trace = Recorder::new().timeline().trace_json();
    /// assert!(trace.starts_with("{\"displayTimeUnit\":\"ms\",\"traceEvents\":["));
    /// ```
    #[must_use]
    pub fn trace_json(&self) -> String {
        let mut bytes = Vec::new();
        self.trace(&mut bytes).expect("memory takes everything");
        String::from_utf8(bytes).expect("JSON is UTF-8")
    }

    pub(super) fn trace(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
        let mut trace = Trace { out, begun: false };
        for pool in &self.pools {
            trace.metadata("process_name", pool.number, 0, Name { name: &pool.name })?;
        }
        for lane in &self.lanes() {
            self.lane_events(&mut trace, lane)?;
        }
        for (pool, tasks) in self.by_pool() {
            // Of several changes at one moment the last one counts.
            for same in queued(&tasks).chunk_by(|one, other| one.0 == other.0) {
                let &[.., (at, queued)] = same else { continue };
                trace.event("queued", "", 'C', at, pool, 0, Queued { queued })?;
            }
        }
        let Trace { out, .. } = trace;
        writeln!(out, "\n],\"otherData\":{{\"events_left_out\":{}}}}}", self.left_out)
    }

    fn lane_events(&self, trace: &mut Trace<'_>, lane: &Lane<'_>) -> io::Result<()> {
        let Lane { pool, number, .. } = *lane;
        // Those elsewhere are as many threads as ran at a time: the format wants events inside of each other.
        let threads = if number.is_some() { 1 } else { lane.levels };
        for level in 0..threads {
            let tid = number.map_or(ELSEWHERE + level, thread);
            trace.metadata("thread_name", pool, tid, Name { name: lane.name })?;
            trace.metadata("thread_sort_index", pool, tid, Order { sort_index: tid })?;
        }
        for life in lane.lives {
            let Stay { spawned, ready, ended } = self.stay(life);
            let args = || Worker { worker: &life.name, pid: life.pid };
            if life.spawned.is_some() {
                trace.span("starting", "worker", (spawned, ready), pool, thread(life.number), args())?;
            }
            if let Some(name) = instant_of(life) {
                trace.event(name, "worker", 'i', ended, pool, thread(life.number), args())?;
            }
        }
        for bar in &lane.bars {
            let tid = number.map_or(ELSEWHERE + bar.level, thread);
            let pid = bar.attempt.worker.and_then(|worker| self.workers[worker].pid);
            let name = short(bar.task.name);
            trace.span(&name, "call", (bar.from, bar.to), pool, tid, call(bar, pid))?;
            if bar.attempt.outcome == Some(Outcome::TimedOut) {
                trace.event("timed out", "call", 'i', bar.to, pool, tid, call(bar, pid))?;
            }
        }
        Ok(())
    }
}

fn instant_of(worker: &WorkerRecord) -> Option<&'static str> {
    match worker.end? {
        WorkerEnd::Left => None,
        WorkerEnd::Recycled => Some("recycled"),
        WorkerEnd::Died => Some("died"),
    }
}

fn call<'a>(bar: &Bar<'a>, pid: Option<u32>) -> Call<'a> {
    let outcome = match bar.attempt.outcome {
        Some(outcome) => outcome.name(),
        None if bar.attempt.again => "",
        None => "running",
    };
    Call {
        function: bar.task.name,
        task: bar.task.id,
        outcome,
        attempt: bar.attempt.number,
        calls: bar.task.calls,
        failed: bar.task.failed,
        waited_us: bar.task.waited().filter(|_| bar.attempt.number == 1).map(microseconds),
        pid,
    }
}

struct Trace<'a> {
    out: &'a mut dyn Write,
    begun: bool,
}

impl Trace<'_> {
    fn metadata(&mut self, name: &str, pid: u32, tid: usize, args: impl Serialize) -> io::Result<()> {
        self.event(name, "", 'M', Duration::ZERO, pid, tid, args)
    }

    fn span(
        &mut self,
        name: &str,
        cat: &str,
        (from, to): (Duration, Duration),
        pid: u32,
        tid: usize,
        args: impl Serialize,
    ) -> io::Result<()> {
        let (ts, dur) = (microseconds(from), Some(microseconds(to.saturating_sub(from))));
        self.put(&Event { name, cat, ph: 'X', ts, dur, pid, tid, s: None, args })
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of an event")]
    fn event(
        &mut self,
        name: &str,
        cat: &str,
        ph: char,
        at: Duration,
        pid: u32,
        tid: usize,
        args: impl Serialize,
    ) -> io::Result<()> {
        let (ts, s) = (microseconds(at), (ph == 'i').then_some('t'));
        self.put(&Event { name, cat, ph, ts, dur: None, pid, tid, s, args })
    }

    /// One a line.
    fn put(&mut self, event: &impl Serialize) -> io::Result<()> {
        self.out.write_all(if std::mem::replace(&mut self.begun, true) { b",\n" } else { b"\n" })?;
        serde_json::to_writer(&mut *self.out, event).map_err(io::Error::from)
    }
}
