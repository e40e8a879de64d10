//! [`Timeline`]: what the notes of a recorder tell, call by call and worker by worker.
//!
//! Not here: how it is shown (`picture`, `trace.rs`, `tables.rs`), which bar lies in which lane (`lanes.rs`).
//!
//! The rule: notes may be missing, at the limit of a recorder and while pools work; whatever is there makes a timeline
//! whose times are in order, none before its start or after its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::recorder::{Badge, Record, Said};
pub use crate::account::Outcome;

/// What was recorded, until [`Recorder::timeline`](super::Recorder::timeline) was called. Times are counted from the
/// first event.
///
/// It displays as three tables: the workers, the ten slowest calls, and the latencies.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
/// use concurrent_futures::timeline::{Outcome, Recorder};
///
/// let recorder = Recorder::new();
/// let pool = ThreadPoolExecutor::builder().max_workers(2).observer(recorder.clone()).build()?;
/// pool.spawn(|| 6 * 7).result()?;
/// drop(pool);
///
/// let timeline = recorder.timeline();
/// let well = timeline.tasks().iter().filter(|task| task.outcome == Some(Outcome::Finished)).count();
/// println!("{well} of {} in {:?}", timeline.tasks().len(), timeline.wall());
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    pub(super) tasks: Vec<TaskRecord>,
    pub(super) workers: Vec<WorkerRecord>,
    pub(super) pools: Vec<PoolRecord>,
    pub(super) wall: Duration,
    pub(super) left_out: usize,
}

/// A call: one that was submitted, or a chunk of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskRecord {
    /// The function, as [`TaskRef::name`](crate::TaskRef::name) has it.
    pub name: &'static str,
    /// The number of its future, as [`FutureId::get`](crate::FutureId::get) gives it.
    pub id: u64,
    /// The number of its pool.
    pub pool: u32,
    /// How many calls it is: the items of a chunk, otherwise 1.
    pub calls: usize,
    /// When it was handed in.
    pub submitted: Duration,
    /// Each time that a worker began it.
    pub attempts: Vec<Attempt>,
    /// When its future ended; `None` if that was not recorded.
    pub ended: Option<Duration>,
    /// How it ended; `None` if that was not recorded.
    pub outcome: Option<Outcome>,
    /// How many items of the chunk failed.
    pub failed: usize,
}

/// One attempt of a call; most have one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// Its place in [`Timeline::workers`]; `None` if a thread that is none of the pool's workers ran it.
    pub worker: Option<usize>,
    /// When it began.
    pub started: Duration,
    /// When the pool knew of its end; `None` if that was not recorded.
    pub ended: Option<Duration>,
    /// What came of it; `None` if that was not recorded.
    pub outcome: Option<Outcome>,
    /// Another one was to follow.
    pub again: bool,
}

/// A worker: a thread, or a process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerRecord {
    /// Its name: that of its pool, and its number; on another machine, the one that it has there.
    pub name: String,
    /// The number of its pool.
    pub pool: u32,
    /// Its number in the pool. A process that took the place of another has its number, and is a record of its own.
    pub number: usize,
    /// The process, if it is one.
    pub pid: Option<u32>,
    /// When it was there; `None` if that was not recorded.
    pub spawned: Option<Duration>,
    /// When it was ready for calls; `None` if that was not recorded.
    pub ready: Option<Duration>,
    /// When it was gone; `None` if that was not recorded.
    pub ended: Option<Duration>,
    /// How it went; `None` if that was not recorded.
    pub end: Option<WorkerEnd>,
}

#[derive(Clone, Debug)]
pub(super) struct PoolRecord {
    pub(super) number: u32,
    pub(super) name: String,
}

/// How a worker went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerEnd {
    /// There was nothing to do for it, or the pool ended.
    Left,
    /// It was used up, and replaced.
    Recycled,
    /// It crashed, was killed, or was stopped with its call.
    Died,
}

impl Timeline {
    /// The calls, in the order in which they were submitted.
    #[must_use]
    pub fn tasks(&self) -> &[TaskRecord] {
        &self.tasks
    }

    /// The workers, by pool and number.
    #[must_use]
    pub fn workers(&self) -> &[WorkerRecord] {
        &self.workers
    }

    /// From the first event to the last one; to the moment of the recording's end while a pool is still there.
    #[must_use]
    pub fn wall(&self) -> Duration {
        self.wall
    }

    /// How many events were left out, because the recorder had [its limit](super::Recorder::with_limit).
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// `now` is when it ends, if there is anything that still goes on.
    pub(super) fn of(
        mut records: Vec<Record>,
        pools: &BTreeMap<u32, String>,
        names: &BTreeMap<(u32, u32), String>,
        left_out: usize,
        now: i64,
    ) -> Timeline {
        let Some(start) = records.iter().map(|record| record.at).min() else {
            return Timeline { left_out, ..Timeline::default() };
        };
        let last = records.iter().map(|record| record.at).max().unwrap_or(start);
        let over = records.iter().filter(|record| matches!(record.said, Said::Over)).count();
        let goes_on = over < pools.len() && left_out == 0;
        let end = if goes_on { last.max(now) } else { last };
        let time = |at: i64| Duration::from_nanos(at.abs_diff(start));

        // Of workers by the clock; of calls by what comes first in the life of a call.
        records.sort_by_key(|record| match i64::from(record.step()) {
            step if record.task == 0 => (0, record.at, step),
            step => (record.task, step, record.at),
        });
        let (of_workers, of_tasks) = records.split_at(records.partition_point(|record| record.task == 0));
        let mut staff = Staff { pools, names, lives: BTreeMap::new() };
        of_workers.iter().for_each(|record| staff.note(record, time(record.at)));
        let mut tasks: Vec<(TaskRecord, Vec<Option<Place>>)> = of_tasks
            .chunk_by(|one, other| one.task == other.task)
            .map(|records| task(records, time, &mut staff))
            .collect();

        let (workers, first) = staff.dismiss();
        for (task, places) in &mut tasks {
            for (attempt, place) in task.attempts.iter_mut().zip(places) {
                attempt.worker = place.map(|place| first[&place.0] + place.1);
            }
        }
        let mut tasks: Vec<_> = tasks.into_iter().map(|(task, _)| task).collect();
        tasks.sort_by_key(|task| (task.submitted, task.id));
        let pools = pools.iter().map(|(&number, name)| PoolRecord { number, name: name.clone() }).collect();
        Timeline { tasks, workers, pools, wall: time(end), left_out }
    }
}

/// A worker while its predecessors may still turn up: the pool and the number, and which of those in that place.
#[derive(Clone, Copy)]
struct Place((u32, u32), usize);

/// All that is told of one call, in order.
fn task(
    records: &[Record],
    time: impl Fn(i64) -> Duration,
    staff: &mut Staff<'_>,
) -> (TaskRecord, Vec<Option<Place>>) {
    let Record { name, task: id, pool, .. } = records[0];
    let mut now = time(records[0].at);
    let attempts = Vec::with_capacity(1);
    let mut task = TaskRecord {
        name,
        id,
        pool,
        calls: 1,
        submitted: now,
        attempts,
        ended: None,
        outcome: None,
        failed: 0,
    };
    let mut places = Vec::with_capacity(1);
    for record in records {
        // Clocks of several processors may differ a little.
        now = now.max(time(record.at));
        let open = task.attempts.last_mut().filter(|attempt: &&mut Attempt| attempt.ended.is_none());
        match record.said {
            Said::Submitted { calls } => task.calls = calls as usize,
            Said::Started { attempt: number, by } => {
                if let Some(attempt) = open {
                    (attempt.ended, attempt.again) = (Some(now), true);
                }
                places.push((by != Badge::NOBODY).then(|| staff.find(pool, by, now)));
                let number = u32::from(number);
                let (ended, outcome, again) = (None, None, false);
                task.attempts.push(Attempt { number, worker: None, started: now, ended, outcome, again });
            }
            Said::Retried { outcome, .. } => {
                if let Some(attempt) = open {
                    (attempt.ended, attempt.outcome, attempt.again) = (Some(now), Some(outcome), true);
                }
            }
            Said::Ended { outcome, failed } => {
                if let Some(attempt) = open {
                    (attempt.ended, attempt.outcome) = (Some(now), Some(outcome));
                }
                (task.ended, task.outcome, task.failed) = (Some(now), Some(outcome), failed as usize);
            }
            Said::Spawned { .. } | Said::Ready { .. } | Said::Gone { .. } | Said::Over => {}
        }
    }
    (task, places)
}

/// Who worked in which place, one after the other.
struct Staff<'a> {
    pools: &'a BTreeMap<u32, String>,
    /// Of those who have one of their own.
    names: &'a BTreeMap<(u32, u32), String>,
    lives: BTreeMap<(u32, u32), Vec<WorkerRecord>>,
}

impl Staff<'_> {
    /// Notes come by the clock.
    fn note(&mut self, record: &Record, now: Duration) {
        match record.said {
            Said::Spawned { by } => {
                let place = self.hire(record.pool, by);
                self.at(place).spawned = Some(now);
            }
            Said::Ready { by } => {
                let place = self.find(record.pool, by, now);
                self.at(place).ready.get_or_insert(now);
            }
            Said::Gone { by, end } => {
                let place = self.find(record.pool, by, now);
                let worker = self.at(place);
                worker.ended.get_or_insert(now);
                worker.end.get_or_insert(end);
            }
            Said::Submitted { .. }
            | Said::Started { .. }
            | Said::Retried { .. }
            | Said::Ended { .. }
            | Said::Over => {}
        }
    }

    /// The worker with that badge at that time; one of whose start nothing was noted, if there is none.
    fn find(&mut self, pool: u32, badge: Badge, now: Duration) -> Place {
        let key = (pool, badge.number);
        let pid = badge.pid.map(|pid| pid.get());
        let lives = self.lives.get(&key).map(Vec::as_slice).unwrap_or_default();
        let same = |life: &WorkerRecord| pid.is_none() || life.pid.is_none() || life.pid == pid;
        let there = |life: &WorkerRecord| life.spawned.is_none_or(|spawned| spawned <= now);
        let found = lives.iter().rposition(|life| same(life) && there(life));
        match found.or_else(|| lives.iter().position(same)) {
            Some(number) => Place(key, number),
            None => self.hire(pool, badge),
        }
    }

    fn hire(&mut self, pool: u32, badge: Badge) -> Place {
        let key = (pool, badge.number);
        let lives = self.lives.entry(key).or_default();
        let usual = || format!("{}_{}", self.pools.get(&pool).map_or("", String::as_str), badge.number);
        lives.push(WorkerRecord {
            name: self.names.get(&key).cloned().unwrap_or_else(usual),
            pool,
            number: badge.number as usize,
            pid: badge.pid.map(|pid| pid.get()),
            spawned: None,
            ready: None,
            ended: None,
            end: None,
        });
        Place(key, lives.len() - 1)
    }

    fn at(&mut self, Place(key, number): Place) -> &mut WorkerRecord {
        &mut self.lives.get_mut(&key).expect("a place that was found")[number]
    }

    /// All of them, and where those of each place begin.
    fn dismiss(self) -> (Vec<WorkerRecord>, BTreeMap<(u32, u32), usize>) {
        let (mut workers, mut first) = (Vec::new(), BTreeMap::new());
        for (place, mut lives) in self.lives {
            // One of whose end nothing was noted was gone when the next one came.
            for at in 1..lives.len() {
                let next = lives[at].spawned;
                let last = &mut lives[at - 1];
                last.ended = last.ended.or(next);
            }
            first.insert(place, workers.len());
            workers.extend(lives);
        }
        (workers, first)
    }
}

impl TaskRecord {
    /// Who ran it, at the last attempt: a place in [`Timeline::workers`].
    #[must_use]
    pub fn worker(&self) -> Option<usize> {
        self.attempts.last()?.worker
    }

    /// When it was begun for the first time.
    #[must_use]
    pub fn started(&self) -> Option<Duration> {
        Some(self.attempts.first()?.started)
    }

    /// How long it was queued before it was begun for the first time.
    #[must_use]
    pub fn waited(&self) -> Option<Duration> {
        Some(self.started()?.saturating_sub(self.submitted))
    }

    /// How long its last attempt ran, if that was recorded.
    #[must_use]
    pub fn ran(&self) -> Option<Duration> {
        self.attempts.last()?.ran()
    }
}

impl Attempt {
    /// How long it ran, if that was recorded.
    #[must_use]
    pub fn ran(&self) -> Option<Duration> {
        Some(self.ended?.saturating_sub(self.started))
    }
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::Finished => "finished",
            Outcome::Cancelled => "cancelled",
            Outcome::Raised => "raised",
            Outcome::Panicked => "panicked",
            Outcome::TimedOut => "timed out",
            Outcome::WorkerDied => "worker died",
            Outcome::Failed => "failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
