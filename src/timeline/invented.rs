//! Pools that never were: events out of a seeded generator, for tests and to look at.

use std::time::{Duration, Instant};

use super::recorder::Recorder;
use crate::error::{Error, Panic};
use crate::id::{FutureId, TaskRef};
use crate::observer::{Event, Observer, What};
use crate::worker::WorkerInfo;

/// SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// Mostly about `mean`, rarely much more.
    pub(super) fn about(&mut self, mean: u64) -> u64 {
        let uniform = (self.below(1 << 20) + 1) as f64 / (1u64 << 20) as f64;
        (mean as f64 * (0.3 - 0.7 * uniform.ln())) as u64
    }
}

/// Tells a recorder of a pool that is made up. Times are microseconds from its beginning.
pub(super) struct Stage<'a> {
    pub(super) recorder: &'a Recorder,
    pub(super) start: Instant,
    pub(super) pool: (u32, &'a str),
}

impl Stage<'_> {
    pub(super) fn tell(&self, at: u64, what: What<'_>) {
        let at = self.start + Duration::from_micros(at);
        self.recorder.notice(&Event { at, pool: self.pool.1, pool_id: self.pool.0, what });
    }

    pub(super) fn submit(&self, at: u64, name: &'static str) -> TaskRef {
        let task = TaskRef { name, id: FutureId::next() };
        self.tell(at, What::Submitted { task, calls: 1 });
        task
    }

    pub(super) fn start(&self, at: u64, task: TaskRef, attempt: u32, worker: &WorkerInfo) {
        self.tell(at, What::Started { task, attempt, worker: Some(worker), waited: Duration::ZERO });
    }

    pub(super) fn finish(&self, at: u64, task: TaskRef) {
        self.tell(at, What::Finished { task, ran: Duration::ZERO, failed: 0 });
    }

    pub(super) fn fail(&self, at: u64, task: TaskRef, error: &Error) {
        let ran = Some(Duration::ZERO);
        self.tell(
            at,
            match error {
                Error::TimedOut { .. } => What::TimedOut { task, error, ran },
                Error::Cancelled { .. } => What::Cancelled { task },
                _ => What::Failed { task, error, ran },
            },
        );
    }

    pub(super) fn hire(&self, at: u64, number: usize, pid: Option<u32>, starts: u64) -> WorkerInfo {
        let worker = WorkerInfo { name: format!("{}_{number}", self.pool.1), number, pid };
        self.tell(at, What::WorkerSpawned { worker: &worker });
        self.tell(at + starts, What::WorkerReady { worker: &worker });
        worker
    }
}

pub(super) fn raised(task: TaskRef) -> Error {
    Error::raised(task, "no such picture")
}

pub(super) fn panicked(task: TaskRef) -> Error {
    Error::Panicked { task, panic: Panic::new("index out of bounds".into(), None, None, None) }
}

pub(super) fn timed_out(task: TaskRef) -> Error {
    Error::TimedOut { what: task.to_string(), limit: Duration::from_millis(50) }
}

pub(super) fn died(task: TaskRef) -> Error {
    Error::WorkerDied { task, pid: 1, status: None, attempt: 1, peak_memory: None, probable_cause: None }
}

/// Ten calls of two pools, one of each kind.
pub(super) fn ten() -> Recorder {
    let (recorder, start) = (Recorder::new(), Instant::now());
    let photos = Stage { recorder: &recorder, start, pool: (1, "photos") };
    let tasks: [_; 7] = std::array::from_fn(|n| {
        let name =
            ["album::decode", "album::resize::<album::Jpeg>", "album::store", "album::main::{{closure}}"]
                [n % 4];
        photos.submit(200 + n as u64 * 40, name)
    });
    let one = photos.hire(900, 0, Some(4711), 4_100);
    let two = photos.hire(1_300, 1, Some(4712), 5_200);
    photos.start(5_100, tasks[0], 1, &one);
    photos.start(6_600, tasks[1], 1, &two);
    photos.finish(23_400, tasks[0]);
    photos.start(23_500, tasks[2], 1, &one);
    photos.fail(31_000, tasks[2], &raised(tasks[2]));
    photos.start(31_100, tasks[3], 1, &one);
    let error = died(tasks[1]);
    photos.tell(35_000, What::WorkerDied { worker: &two, status: None });
    photos.tell(35_100, What::Retried { task: tasks[1], error: &error, attempt: 2, due: start });
    let three = photos.hire(36_000, 1, Some(4720), 4_000);
    photos.fail(38_000, tasks[6], &Error::Cancelled { task: tasks[6] });
    photos.start(40_200, tasks[1], 2, &three);
    photos.finish(61_000, tasks[1]);
    photos.start(61_100, tasks[4], 1, &three);
    photos.tell(81_000, What::WorkerDied { worker: &one, status: None });
    photos.fail(81_200, tasks[3], &timed_out(tasks[3]));
    photos.fail(70_500, tasks[4], &panicked(tasks[4]));
    photos.start(70_700, tasks[5], 1, &three);
    photos.finish(90_000, tasks[5]);
    photos.tell(93_000, What::WorkerLeft { worker: &three });
    photos.tell(93_100, What::PoolOver {});

    let files = Stage { recorder: &recorder, start, pool: (2, "files <&>") };
    let worker = files.hire(10_000, 0, None, 300);
    let outer = files.submit(9_900, "album::walk");
    files.start(10_400, outer, 1, &worker);
    let inner = files.submit(20_000, "album::walk");
    files.start(20_100, inner, 1, &worker);
    let innermost = files.submit(31_000, "album::stat");
    files.start(31_200, innermost, 1, &worker);
    files.finish(39_000, innermost);
    files.finish(52_000, inner);
    files.finish(66_000, outer);
    files.tell(93_000, What::WorkerLeft { worker: &worker });
    files.tell(93_200, What::PoolOver {});
    recorder
}

/// Calls in bursts, most of which go well.
pub(super) fn busy(tasks: usize, workers: usize, seed: u64) -> Recorder {
    let (recorder, mut dice) = (Recorder::new(), Dice(seed));
    let stage = Stage { recorder: &recorder, start: Instant::now(), pool: (1, "photos") };
    let mut pid = 4_000;
    let mut free: Vec<(u64, WorkerInfo)> = (0..workers)
        .map(|number| {
            let (at, starts) = (number as u64 * 300, 1_500 + dice.below(2_000));
            pid += 1;
            (at + starts, stage.hire(at, number, Some(pid), starts))
        })
        .collect();
    let (mut submitted, mut end) = (0, 0);
    for number in 0..tasks {
        submitted += if number % 1_700 == 1_699 { 60_000 } else { dice.about(130) };
        let name = ["album::decode", "album::resize::<album::Jpeg>", "album::store"][dice.below(3) as usize];
        let task = stage.submit(submitted, name);
        let (from, worker) = free.iter_mut().min_by_key(|(from, _)| *from).expect("a worker");
        if dice.below(100) == 0 {
            stage.fail(submitted + (*from).saturating_sub(submitted) / 2, task, &Error::Cancelled { task });
            continue;
        }
        let started = (*from).max(submitted) + 2;
        let ended = started + if dice.below(700) == 0 { dice.about(40_000) } else { dice.about(900) };
        stage.start(started, task, 1, worker);
        *from = ended + 1;
        end = end.max(ended);
        match dice.below(2_000) {
            0..8 => stage.fail(ended, task, &raised(task)),
            8..10 => stage.fail(ended, task, &panicked(task)),
            lost @ 10..13 => {
                stage.tell(ended, What::WorkerDied { worker, status: None });
                let error = if lost == 12 { timed_out(task) } else { died(task) };
                stage.fail(ended + 1, task, &error);
                pid += 1;
                *worker = stage.hire(ended + 500, worker.number, Some(pid), 3_000);
                *from = ended + 3_500;
            }
            _ => stage.finish(ended, task),
        }
    }
    for (from, worker) in &free {
        stage.tell(end.max(*from), What::WorkerLeft { worker });
        end = end.max(*from);
    }
    stage.tell(end + 10, What::PoolOver {});
    recorder
}

/// Everything at once and all the time: pools, workers that die, calls that end in every way.
pub(super) fn chaos(events: usize, seed: u64) -> Recorder {
    let (recorder, mut dice, start) = (Recorder::new(), Dice(seed), Instant::now());
    for at in 0..events as u64 {
        let pool = 1 + dice.below(100) as u32;
        let stage = Stage { recorder: &recorder, start, pool: (pool, "a pool of which there are many") };
        // Half of them have processes.
        let pid = pool.is_multiple_of(2).then_some(at as u32 + 1);
        let worker = stage.hire(at, dice.below(5) as usize, pid, dice.below(3));
        let task = stage.submit(at, "many::a_function_with_a_long_name::<many::Things>");
        let ended = at + 1 + dice.about(30);
        match dice.below(8) {
            0 => stage.fail(at + 1, task, &Error::Cancelled { task }),
            1 => stage.fail(at + 1, task, &raised(task)),
            end => {
                stage.start(at, task, 1, &worker);
                match end {
                    2 => stage.fail(ended, task, &raised(task)),
                    3 => stage.fail(ended, task, &panicked(task)),
                    4 => stage.fail(ended, task, &timed_out(task)),
                    5 => stage.fail(ended, task, &died(task)),
                    6 => stage.finish(ended, task),
                    _ => {}
                }
                if end % 3 == 0 {
                    stage.tell(ended, What::WorkerDied { worker: &worker, status: None });
                }
            }
        }
    }
    recorder
}
