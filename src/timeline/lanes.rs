//! Which bar lies in which lane, and how deep; and what follows from it: how busy a worker was, how many calls were queued.
//!
//! Not here: pixels (`picture`).
//!
//! The rule: a lane is a place for a worker. A worker thread does one thing at a time, except that a call which waits may run
//! the one that it waits for: so bars of a thread lie inside of each other, and bars of a process beside each other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::story::{Attempt, Outcome, TaskRecord, Timeline, WorkerRecord};

/// A place for a worker; or, without a number, for all who are none of the pool's workers.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    pub(super) pool: u32,
    pub(super) number: Option<usize>,
    /// As the worker is called.
    pub(super) name: &'a str,
    /// Who worked there, one after the other.
    pub(super) lives: &'a [WorkerRecord],
    /// By their start.
    pub(super) bars: Vec<Bar<'a>>,
    /// How many lie inside of each other at most.
    pub(super) levels: usize,
    /// How long at least one call ran.
    pub(super) busy: Duration,
    /// How long a worker was there.
    pub(super) there: Duration,
    /// How much of that it took to be ready.
    pub(super) starting: Duration,
}

/// An attempt of a call, in its lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar<'a> {
    pub(super) task: &'a TaskRecord,
    pub(super) attempt: &'a Attempt,
    pub(super) from: Duration,
    pub(super) to: Duration,
    /// Inside of how many others it lies.
    pub(super) level: usize,
}

/// From when to when a worker was there, and from when it was ready; in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stay {
    pub(super) spawned: Duration,
    pub(super) ready: Duration,
    pub(super) ended: Duration,
}

/// What those are called that are none of the pool's workers.
pub(super) const ELSEWHERE: &str = "elsewhere";

impl Timeline {
    /// All lanes, by pool and number; those without a number last.
    pub(super) fn lanes(&self) -> Vec<Lane<'_>> {
        let mut bars: BTreeMap<(u32, usize), Vec<Bar<'_>>> = BTreeMap::new();
        for worker in &self.workers {
            bars.entry((worker.pool, worker.number)).or_default();
        }
        for task in &self.tasks {
            for attempt in &task.attempts {
                let number = attempt.worker.map_or(usize::MAX, |worker| self.workers[worker].number);
                let (from, to) = (attempt.started, attempt.ended.unwrap_or(self.wall).max(attempt.started));
                let bar = Bar { task, attempt, from, to, level: 0 };
                bars.entry((task.pool, number)).or_default().push(bar);
            }
        }
        // A pool none of whose calls was run has nobody's lane.
        for task in self.tasks.iter().filter(|task| task.attempts.is_empty()) {
            if bars.range((task.pool, 0)..=(task.pool, usize::MAX)).next().is_none() {
                bars.insert((task.pool, usize::MAX), Vec::new());
            }
        }
        bars.into_iter().map(|((pool, number), bars)| self.lane(pool, number, bars)).collect()
    }

    fn lane<'a>(&'a self, pool: u32, number: usize, mut bars: Vec<Bar<'a>>) -> Lane<'a> {
        let first = self.workers.partition_point(|worker| (worker.pool, worker.number) < (pool, number));
        let lives = self.workers[first..]
            .chunk_by(|one, other| (one.pool, one.number) == (other.pool, other.number))
            .next()
            .filter(|lives| (lives[0].pool, lives[0].number) == (pool, number))
            .unwrap_or_default();
        // Of two that begin together the longer one is outside.
        bars.sort_by_key(|bar| (bar.from, std::cmp::Reverse(bar.to), bar.task.submitted));
        let levels = if lives.iter().any(|life| life.pid.is_some()) {
            lay_side_by_side(&mut bars);
            usize::from(!bars.is_empty())
        } else {
            lay_inside(&mut bars)
        };
        let busy = union(&bars);
        let (mut there, mut starting) = (Duration::ZERO, Duration::ZERO);
        for life in lives {
            let stay = self.stay(life);
            there += stay.ended - stay.spawned;
            starting += stay.ready - stay.spawned;
        }
        // Of one whose coming was not noted, only its work is known.
        let there = there.max(busy);
        let name = lives.first().map_or(ELSEWHERE, |life| &life.name);
        Lane {
            pool,
            number: (!lives.is_empty()).then_some(number),
            name,
            lives,
            bars,
            levels,
            busy,
            there,
            starting,
        }
    }

    pub(super) fn stay(&self, worker: &WorkerRecord) -> Stay {
        let ended = worker.ended.unwrap_or(self.wall);
        let spawned = worker.spawned.or(worker.ready).unwrap_or(ended);
        let ended = ended.max(spawned);
        // One that ended before it was ready never was.
        let ready = if worker.spawned.is_some() { worker.ready.unwrap_or(ended) } else { spawned };
        Stay { spawned, ready: ready.clamp(spawned, ended), ended }
    }

    /// The calls of each pool.
    pub(super) fn by_pool(&self) -> BTreeMap<u32, Vec<&TaskRecord>> {
        let mut pools: BTreeMap<u32, Vec<&TaskRecord>> = BTreeMap::new();
        self.tasks.iter().for_each(|task| pools.entry(task.pool).or_default().push(task));
        pools
    }

    /// How busy the workers were, from 0 to 1, of the time that they were there.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        utilisation(&self.lanes())
    }
}

pub(super) fn utilisation(lanes: &[Lane<'_>]) -> f64 {
    let sum = |time: fn(&Lane<'_>) -> Duration| -> Duration {
        lanes.iter().filter(|lane| lane.number.is_some()).map(time).sum()
    };
    share(sum(|lane| lane.busy), sum(|lane| lane.there))
}

/// A part of a whole, from 0 to 1.
pub(super) fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { (part.as_secs_f64() / whole.as_secs_f64()).min(1.0) }
}

impl Bar<'_> {
    pub(super) fn ran(&self) -> Duration {
        self.to - self.from
    }

    /// What came of it, as far as anybody needs to worry; `None` if it still runs.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self.attempt.outcome {
            Some(Outcome::Finished) if self.task.failed > 0 => Some(Outcome::Failed),
            outcome => outcome,
        }
    }
}

/// A process has one call at a time. Of several that ended together the pool may have heard at once.
fn lay_side_by_side(bars: &mut [Bar<'_>]) {
    for at in 1..bars.len() {
        let next = bars[at].from;
        let last = &mut bars[at - 1];
        last.to = last.to.min(next.max(last.from));
    }
}

/// Each at the first level that is free when it begins; says how many levels that are.
fn lay_inside(bars: &mut [Bar<'_>]) -> usize {
    // Until when each level is taken.
    let mut taken: Vec<Duration> = Vec::new();
    for bar in bars {
        match taken.iter().position(|&until| until <= bar.from) {
            Some(free) => (bar.level, taken[free]) = (free, bar.to),
            None => {
                bar.level = taken.len();
                taken.push(bar.to);
            }
        }
    }
    taken.len()
}

/// How many of these calls were queued, each time that it changed.
pub(super) fn queued(tasks: &[&TaskRecord]) -> Vec<(Duration, usize)> {
    let mut changes: Vec<(Duration, isize)> = Vec::new();
    for task in tasks {
        let mut since = Some(task.submitted);
        let ends =
            task.attempts.iter().map(|attempt| (attempt.started, attempt.ended.filter(|_| attempt.again)));
        for (started, again) in ends {
            changes.extend(since.map(|since| (since, 1)));
            changes.push((started, -1));
            since = again;
        }
        if let Some(since) = since {
            changes.push((since, 1));
            changes.extend(task.ended.map(|ended| (ended, -1)));
        }
    }
    // Who comes and goes at the same moment was there.
    changes.sort_by_key(|&(at, change)| (at, -change));
    let mut depth = 0isize;
    let depths = changes.into_iter().map(|(at, change)| {
        depth += change;
        (at, depth.unsigned_abs())
    });
    depths.collect()
}

/// How long at least one of them was there.
fn union(bars: &[Bar<'_>]) -> Duration {
    let (mut sum, mut until) = (Duration::ZERO, Duration::ZERO);
    for bar in bars {
        let from = bar.from.max(until);
        sum += bar.to.saturating_sub(from);
        until = until.max(bar.to);
    }
    sum
}
