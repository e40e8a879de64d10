//! [`Recorder`]: notes what an observer is told, and makes nothing of it yet.
//!
//! Not here: what the notes mean (`story.rs`).
//!
//! The rule: a note is of one size, owns nothing, and is put where no other thread is putting one. All else has time until
//! somebody asks for the [`Timeline`].

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::story::{Outcome, Timeline, WorkerEnd};
use crate::observer::{Event, Observer, What};
use crate::worker::WorkerInfo;

/// Notes what happens in the pools that it is given to, for a [`Timeline`].
///
/// A clone is the same recorder: give one to each pool, and keep one to ask.
///
/// A call costs three notes of 48 bytes each (submitted, started, ended), and two more for each further attempt; a note
/// costs about 50 ns in the thread where the thing happens. Progress is not noted. Without a
/// [limit](Recorder::with_limit) memory grows as long as the pools work.
///
/// ```
/// use concurrent_futures::timeline::Recorder;
/// use concurrent_futures::{Executor, ThreadPoolExecutor};
///
/// let recorder = Recorder::new();
/// let pool = ThreadPoolExecutor::builder().max_workers(1).observer(recorder.clone()).build()?;
/// assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
/// drop(pool);
/// for task in recorder.timeline().tasks() {
///     println!("{} ran {:?}", task.name, task.ran());
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone)]
pub struct Recorder(Arc<Tapes>);

struct Tapes {
    /// Times are noted from here on, or back.
    start: Instant,
    limit: usize,
    /// Counted only if there is a limit.
    offered: AtomicUsize,
    tapes: [Tape; TAPES],
}

/// As many threads note at a time without waiting for each other.
const TAPES: usize = 16;

/// Alone on its lines of the cache.
#[derive(Default)]
#[repr(align(128))]
struct Tape(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    /// Each but the last is full. A vector that grew would copy all that was noted, under the lock.
    blocks: Vec<Vec<Record>>,
    /// The pools that were heard of on this tape, and the last one.
    pools: BTreeMap<u32, String>,
    last: Option<u32>,
    /// Workers that are not called by their pool and number, as those on other machines: by pool and number.
    names: BTreeMap<(u32, u32), String>,
}

const BLOCK: usize = 512;

impl Recorder {
    /// A recorder that notes everything.
    #[must_use]
    pub fn new() -> Self {
        Recorder::with_limit(usize::MAX)
    }

    /// A recorder that notes the first so many events, and counts the others: for programs that run for long. Everything
    /// made of it says how many were left out.
    ///
    /// ```
    /// use concurrent_futures::timeline::Recorder;
    ///
    /// let recorder = Recorder::with_limit(1_000_000);     // 48 MB, about 330,000 calls
    /// assert_eq!(recorder.timeline().left_out(), 0);
    /// ```
    #[must_use]
    pub fn with_limit(events: usize) -> Self {
        let (start, offered, tapes) = (Instant::now(), AtomicUsize::new(0), Default::default());
        Recorder(Arc::new(Tapes { start, limit: events, offered, tapes }))
    }

    /// What was noted so far, in order. Calls that run are taken to run until now.
    ///
    /// Copies all notes and sorts them: a few hundred milliseconds for a million. Pools go on meanwhile.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        let (mut records, mut pools, mut names) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for Tape(notes) in &self.0.tapes {
            let notes = notes.lock();
            notes.blocks.iter().for_each(|block| records.extend_from_slice(block));
            pools.extend(notes.pools.iter().map(|(&number, name)| (number, name.clone())));
            names.extend(notes.names.iter().map(|(&number, name)| (number, name.clone())));
        }
        let left_out = self.0.offered.load(Ordering::Relaxed).saturating_sub(self.0.limit);
        Timeline::of(records, &pools, &names, left_out, self.0.time(Instant::now()))
    }
}

impl Observer for Recorder {
    fn notice(&self, event: &Event<'_>) {
        let Tapes { limit, offered, .. } = &*self.0;
        let Some(record) = Record::of(event, self.0.time(event.at)) else { return };
        if *limit != usize::MAX && offered.fetch_add(1, Ordering::Relaxed) >= *limit {
            return;
        }
        self.0.tape().lock().note(record, event);
    }
}

impl Tapes {
    fn time(&self, at: Instant) -> i64 {
        let (since, until) =
            (at.saturating_duration_since(self.start), self.start.saturating_duration_since(at));
        let nanoseconds = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        nanoseconds(since) - nanoseconds(until)
    }

    /// That of this thread.
    fn tape(&self) -> &Mutex<Notes> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        std::thread_local! {
            static MINE: Cell<Option<usize>> = const { Cell::new(None) };
        }
        let mine = MINE.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % TAPES;
            MINE.set(Some(next));
            next
        });
        &self.tapes[mine].0
    }
}

impl Notes {
    fn note(&mut self, record: Record, event: &Event<'_>) {
        if self.last != Some(record.pool) {
            self.last = Some(record.pool);
            self.pools.entry(record.pool).or_insert_with(|| event.pool.to_owned());
        }
        if let Some(worker) = event.what.worker()
            && !worker.name.strip_prefix(event.pool).is_some_and(|number| number.starts_with('_'))
        {
            let key = (record.pool, Badge::of(worker).number);
            self.names.entry(key).or_insert_with(|| worker.name.clone());
        }
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(record),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(record);
                self.blocks.push(block);
            }
        }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder::new()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let notes = |Tape(notes): &Tape| notes.lock().blocks.iter().map(Vec::len).sum::<usize>();
        let noted: usize = self.0.tapes.iter().map(notes).sum();
        f.debug_struct("Recorder").field("noted", &noted).finish_non_exhaustive()
    }
}

/// An event, as it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// In nanoseconds from when the recorder was made.
    pub(super) at: i64,
    /// The call, and its name; 0 if it is about none.
    pub(super) task: u64,
    pub(super) name: &'static str,
    pub(super) pool: u32,
    pub(super) said: Said,
}

const _: () = assert!(size_of::<Record>() == 48, "the documentation of `Recorder` says so");

#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    Submitted {
        calls: u32,
    },
    Started {
        attempt: u16,
        by: Badge,
    },
    /// `next` is the number of the attempt that is to follow.
    Retried {
        next: u16,
        outcome: Outcome,
    },
    Ended {
        outcome: Outcome,
        failed: u32,
    },
    Spawned {
        by: Badge,
    },
    Ready {
        by: Badge,
    },
    Gone {
        by: Badge,
        end: WorkerEnd,
    },
    Over,
}

/// A worker: its number in the pool, and its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Badge {
    pub(super) number: u32,
    pub(super) pid: Option<NonZeroU32>,
}

impl Badge {
    /// None of the pool's workers.
    pub(super) const NOBODY: Badge = Badge { number: u32::MAX, pid: None };

    fn of(worker: &WorkerInfo) -> Self {
        Badge { number: small(worker.number).min(u32::MAX - 1), pid: worker.pid.and_then(NonZeroU32::new) }
    }
}

impl Record {
    fn of(event: &Event<'_>, at: i64) -> Option<Self> {
        let said = match event.what {
            What::Submitted { calls, .. } => Said::Submitted { calls: small(calls) },
            What::Started { attempt, worker, .. } => {
                Said::Started { attempt: shorter(attempt), by: worker.map_or(Badge::NOBODY, Badge::of) }
            }
            What::Progress { .. } => return None,
            What::Finished { failed, .. } => {
                Said::Ended { outcome: Outcome::Finished, failed: small(failed) }
            }
            What::Failed { error, .. } => Said::Ended { outcome: Outcome::of_error(error), failed: 0 },
            What::TimedOut { .. } => Said::Ended { outcome: Outcome::TimedOut, failed: 0 },
            What::Cancelled { .. } => Said::Ended { outcome: Outcome::Cancelled, failed: 0 },
            What::Retried { error, attempt, .. } => {
                Said::Retried { next: shorter(attempt), outcome: Outcome::of_error(error) }
            }
            What::WorkerSpawned { worker } => Said::Spawned { by: Badge::of(worker) },
            What::WorkerReady { worker } => Said::Ready { by: Badge::of(worker) },
            What::WorkerRecycled { worker } => Said::Gone { by: Badge::of(worker), end: WorkerEnd::Recycled },
            What::WorkerDied { worker, .. } => Said::Gone { by: Badge::of(worker), end: WorkerEnd::Died },
            What::WorkerLeft { worker } => Said::Gone { by: Badge::of(worker), end: WorkerEnd::Left },
            What::PoolOver {} => Said::Over,
        };
        let (task, name) = event.what.task().map_or((0, ""), |task| (task.id.get(), task.name));
        Some(Record { at, task, name, pool: event.pool_id, said })
    }

    /// Its place among what is told of one call, or of one worker; several threads tell it.
    pub(super) fn step(&self) -> u32 {
        match self.said {
            Said::Submitted { .. } | Said::Spawned { .. } | Said::Over => 0,
            Said::Ready { .. } => 1,
            Said::Started { attempt, .. } => 2 * u32::from(attempt),
            Said::Retried { next, .. } => (2 * u32::from(next)).saturating_sub(1),
            Said::Ended { .. } | Said::Gone { .. } => u32::MAX,
        }
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn shorter(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
