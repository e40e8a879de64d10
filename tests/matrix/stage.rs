//! The stage of one cell: a pool, bystanders before, behind and beside the victim, and the account of all futures
//! that are handed out.
//!
//! Not here: what happens on it (`scenes.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, FutureId, ProcessPoolBuilder, ProcessPoolExecutor, TaskOptions,
};

use crate::actors::{Orders, birth};
use crate::faults_common::*;
use crate::table::{Expected, Fault, Moment, expected};

#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) fault: Fault,
    pub(crate) moment: Moment,
    pub(crate) workers: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}, {} workers", self.fault, self.moment, self.workers)
    }
}

/// What came of the futures of a test.
#[derive(Default)]
pub(crate) struct Tally {
    cells: AtomicUsize,
    handed_out: AtomicUsize,
    outcomes: Mutex<BTreeMap<&'static str, usize>>,
    lost: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    /// Plays a cell. One that fails is noted, and the others are played all the same.
    pub(crate) fn cell(&self, name: &str, play: impl FnOnce()) {
        let _watchdog = Watchdog::new(name);
        self.cells.fetch_add(1, Ordering::Relaxed);
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(play)).is_err() {
            println!("WRONG: {name}");
            self.wrong.lock().unwrap().push(name.into());
        }
    }

    /// Of a future that was just handed out.
    pub(crate) fn hand_out<T>(&self, future: Future<T>) -> Future<T> {
        self.handed_out.fetch_add(1, Ordering::Relaxed);
        future
    }

    /// The outcome of a future, which must end.
    #[track_caller]
    pub(crate) fn end<T>(&self, mut future: Future<T>) -> Result<T, Error> {
        if !future.wait_timeout(LONG) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            panic!("{future:?} did not end within {LONG:?}\n{}", who_waits_for_what());
        }
        let outcome = future.result_timeout(LONG);
        *self.outcomes.lock().unwrap().entry(kind_of(&outcome)).or_default() += 1;
        outcome
    }

    /// Prints it; fails if a cell did.
    pub(crate) fn close(self, name: &str) {
        let (outcomes, wrong) = (self.outcomes.into_inner().unwrap(), self.wrong.into_inner().unwrap());
        let (cells, lost) = (self.cells.into_inner(), self.lost.into_inner());
        let kinds: Vec<_> = outcomes.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let handed_out = self.handed_out.into_inner();
        println!(
            "{name}: {cells} cells; {handed_out} futures = {}; lost {lost}, wrong {}",
            kinds.join(" + "),
            wrong.len()
        );
        assert!(wrong.is_empty(), "{name}: {} of {cells} cells: {wrong:#?}", wrong.len());
        assert_eq!(handed_out, outcomes.values().sum::<usize>(), "{name}: each future was looked at");
    }
}

fn kind_of<T>(outcome: &Result<T, Error>) -> &'static str {
    match outcome {
        Ok(_) => "values",
        Err(Error::Raised { .. }) => "raised",
        Err(Error::Panicked { .. }) => "panicked",
        Err(Error::WorkerDied { .. }) => "died",
        Err(Error::TimedOut { .. }) => "timed out",
        Err(Error::Decode { .. }) => "not decoded",
        Err(Error::Encode { .. }) => "not encoded",
        Err(Error::Broken { .. }) => "broken",
        Err(Error::ShutDown { .. }) => "refused",
        Err(Error::Cancelled { .. }) => "cancelled",
        Err(_) => "of another kind",
    }
}

/// A limit that no healthy call comes near to, on a machine however busy.
pub(crate) fn patience() -> TaskOptions {
    TaskOptions::new().timeout(10 * LONG)
}

/// Of pools whose workers are to run out of memory; calls of 64 MiB are far below it.
const MEMORY_LIMIT: u64 = 1 << 30;

/// Calls that wait at the gate, each in a worker.
pub(crate) struct Held(pub(crate) Vec<(u32, Visitor)>, pub(crate) Vec<Future<u32>>);

pub(crate) struct Stage<'a> {
    pub(crate) cell: Cell,
    pub(crate) tally: &'a Tally,
    // Dropped in this order, should the cell fail: who waits at the gate goes on, so the pool can end.
    pub(crate) gate: Gate,
    pub(crate) pool: ProcessPoolExecutor,
    dir: TempDir,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(
        cell: Cell,
        tally: &'a Tally,
        set_up: impl FnOnce(ProcessPoolBuilder, &Orders) -> ProcessPoolBuilder,
    ) -> Self {
        let dir = TempDir::new();
        let builder = ProcessPoolExecutor::builder()
            .max_workers(cell.workers)
            .name("matrix")
            .env("RUST_BACKTRACE", "0")
            .env(birth::LIVES, dir.path("lives"));
        let is_greedy = cell.fault == Fault::Of(Death::OutOfMemory);
        let builder = if is_greedy { builder.memory_limit(MEMORY_LIMIT) } else { builder };
        let pool = set_up(builder, &orders(cell, &dir)).build().unwrap();
        Stage { cell, tally, gate: Gate::new(), pool, dir }
    }

    pub(crate) fn orders(&self) -> Orders {
        orders(self.cell, &self.dir)
    }

    /// Orders of another fault, or with another note.
    pub(crate) fn other_orders(&self, fault: Fault, note: &str) -> Orders {
        Orders { fault, note: self.dir.path(note), ..self.orders() }
    }

    /// For the call that is looked at: `limit` where nothing else ends it.
    pub(crate) fn options(&self, limit: Duration) -> TaskOptions {
        if self.cell.fault.needs_limit() || self.expected() == Expected::TimedOut {
            TaskOptions::new().timeout(limit)
        } else {
            patience()
        }
    }

    pub(crate) fn expected(&self) -> Expected {
        expected(self.cell.fault, self.cell.moment)
    }

    /// Occupies that many workers.
    #[track_caller]
    pub(crate) fn hold(&self, count: usize) -> Held {
        let hold = |_| self.tally.hand_out(self.pool.submit_with(wait_at, self.gate.path(), patience()));
        let futures = (0..count).map(hold).collect();
        let visitors = (0..count).map(|_| self.gate.next()).map(|visitor| (visitor.pid, visitor)).collect();
        Held(visitors, futures)
    }

    /// They have noticed nothing: they are where they were, and each has its value.
    #[track_caller]
    pub(crate) fn release(&self, Held(visitors, futures): Held) {
        assert!(futures.iter().all(Future::running), "what runs, runs on");
        let mut pids: Vec<u32> = visitors.into_iter().map(|(pid, _)| pid).collect();
        let mut values: Vec<u32> =
            futures.into_iter().map(|future| self.tally.end(future).expect("a bystander's value")).collect();
        pids.sort_unstable();
        values.sort_unstable();
        assert_eq!(values, pids);
    }

    /// Some bystanders in the queue.
    pub(crate) fn bystanders(&self) -> [Future<u64>; 3] {
        [1, 2, 3].map(|n| self.tally.hand_out(self.pool.submit_with(double, n, patience())))
    }

    #[track_caller]
    pub(crate) fn have_values(&self, bystanders: [Future<u64>; 3]) {
        let values = bystanders.map(|future| self.tally.end(future).expect("a bystander's value"));
        assert_eq!(values, [2, 4, 6]);
    }

    /// The process in which the fault was. It was there once.
    #[track_caller]
    pub(crate) fn victim(&self) -> Life {
        self.orders().victim()
    }

    pub(crate) fn has_struck(&self) -> bool {
        !Life::noted(self.orders().note).is_empty()
    }

    /// Waits for a call that meets the fault, and judges it. `pid`: the process that gave its value.
    #[track_caller]
    pub(crate) fn judge_call<T>(&self, name: &str, call: Future<T>, pid: impl FnOnce(T) -> u32) {
        let id = call.id();
        let outcome = self.tally.end(call);
        self.judge(name, id, outcome.map(pid));
    }

    /// Compares what came of the call that is looked at with what had to come: `outcome` is the process that
    /// gave the value, or the error.
    #[track_caller]
    pub(crate) fn judge(&self, name: &str, id: FutureId, outcome: Result<u32, Error>) {
        let (victim, wanted) = (self.victim(), self.expected());
        let alive = self.pool.worker_pids();
        match (wanted, &outcome) {
            (Expected::Value, Ok(pid)) => assert_eq!(*pid, victim.pid),
            (Expected::Moved, Ok(pid)) => assert_ne!(*pid, victim.pid),
            (Expected::Raised, Err(Error::Raised { error, .. })) => {
                assert_eq!(error.to_string(), "a mild failure");
            }
            (Expected::Panicked, Err(Error::Panicked { panic, .. })) => {
                let is_text = self.cell.fault == Fault::Of(Death::Panic);
                let words = if is_text { "a task that panics" } else { "a payload that is not text" };
                assert_eq!(panic.message(), words);
                assert!(panic.location().expect("a place").contains("faults_common"), "{panic:?}");
            }
            (Expected::Undecodable, Err(Error::Decode { what: "argument", reason, .. })) => {
                assert!(reason.contains("Argument"), "{reason}");
            }
            (Expected::Unencodable, Err(Error::Encode { what: "return value", reason, .. })) => {
                assert!(reason.contains("Answer"), "{reason}");
            }
            (Expected::Nonsense, Err(Error::Decode { what: "return value", reason, .. })) => {
                assert!(reason.contains("nonsense"), "{reason}");
            }
            (
                Expected::Died,
                Err(error @ Error::WorkerDied { pid, status: Some(status), attempt: 1, .. }),
            ) => {
                assert_eq!(*pid, victim.pid, "{error}");
                let Fault::Of(death) = self.cell.fault else { panic!("nobody dies of an error: {error}") };
                assert!(death.explains(*status), "{error}");
                let text = error.to_string();
                assert!(text.contains(&format!("worker process {pid} died ({status})")), "{text}");
                let is_suspected = text.contains(&format!("its memory limit of {MEMORY_LIMIT} bytes"));
                assert_eq!(is_suspected, death == Death::OutOfMemory, "{text}");
            }
            (Expected::TimedOut, Err(error @ Error::TimedOut { limit, .. })) => {
                let (task, process) =
                    (format!("{name}` (task {id})"), format!("worker process {}", victim.pid));
                let (text, limit) = (error.to_string(), format!("{limit:?}"));
                assert!([task, process, limit].iter().all(|part| text.contains(part)), "{text}");
            }
            _ => panic!("wanted: {wanted:?}, but: {outcome:?}"),
        }
        if let Some(task) = outcome.err().and_then(|error| error.task()) {
            assert!(task.id == id && task.name.ends_with(name), "{task}");
        }
        if self.cell.moment.keeps_workers() {
            assert_eq!(alive.contains(&victim.pid), wanted.spares_the_worker(), "{victim:?} among {alive:?}");
        }
        if !wanted.spares_the_worker() {
            assert!(!victim.is_there(), "it is dead and buried");
        }
    }

    /// As many calls at a time as there may be workers, each in a process of its own, which lives.
    #[track_caller]
    pub(crate) fn is_full_again(&self) {
        let full = self.hold(self.cell.workers);
        let mut pids: Vec<u32> = full.0.iter().map(|(pid, _)| *pid).collect();
        let mut listed = self.pool.worker_pids();
        pids.sort_unstable();
        listed.sort_unstable();
        assert_eq!(pids, listed);
        pids.dedup();
        assert_eq!(pids.len(), self.cell.workers);
        assert!(pids.iter().all(|&pid| !matches!(state(pid), None | Some('Z'))), "{pids:?}");
        self.release(full);
    }

    /// Those that ever worked for the pool.
    pub(crate) fn lives(&self) -> Vec<Life> {
        Life::noted(self.dir.path("lives"))
    }

    /// The others have noticed nothing, and whoever died was replaced.
    #[track_caller]
    pub(crate) fn recovers(self, others: Held) {
        self.release(others);
        self.is_full_again();
        self.close();
    }

    /// The end: of the pool, and of each of its processes, dead ones that nobody waited for too.
    #[track_caller]
    pub(crate) fn close(self) {
        let Stage { pool, dir, .. } = self;
        drop(pool);
        let lives = Life::noted(dir.path("lives"));
        let left: Vec<_> = lives.iter().filter(|life| life.is_there()).collect();
        assert!(left.is_empty(), "left: {left:?}\n{}", who_waits_for_what());
        assert!(lives.len() >= self.cell.workers, "{lives:?}");
    }
}

fn orders(cell: Cell, dir: &TempDir) -> Orders {
    Orders { moment: cell.moment, fault: cell.fault, note: dir.path("note") }
}
