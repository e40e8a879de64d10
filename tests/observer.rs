//! What observers are told, and the numbers of `stats()`: on threads and on processes, the same story for the same call.
//!
//! Not here: what is built on it (`tests/timeline.rs`, `tests/tracing.rs`). The rule that is tested everywhere: each call
//! has one beginning and one end, in order, and who has a result finds that its end was told.

concurrent_futures::init_tests!();

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, Ticket, Turnstile, watchdog};
use concurrent_futures::{
    Error, Event, Executor, FutureId, MapOptions, Observer, ProcessPoolExecutor, Shutdown, Stats,
    TaskOptions, ThreadPoolExecutor, What, WorkerInfo, observe, task,
};

/// One line of the story.
#[derive(Clone, Debug)]
struct Line {
    at: Instant,
    pool: String,
    task: Option<FutureId>,
    name: Option<&'static str>,
    worker: Option<WorkerInfo>,
    what: &'static str,
    /// Numbers of the event, as they come.
    numbers: Vec<u64>,
    error: Option<String>,
}

/// Keeps all that it is told.
#[derive(Clone, Default)]
struct Story(Arc<Mutex<Vec<Line>>>);

impl Observer for Story {
    fn notice(&self, event: &Event<'_>) {
        let (what, numbers, error) = match event.what {
            What::Submitted { calls, .. } => ("submitted", vec![calls as u64], None),
            What::Started { attempt, .. } => ("started", vec![attempt.into()], None),
            What::Progress { done, total, .. } => ("progress", vec![done, total], None),
            What::Finished { failed, .. } => ("finished", vec![failed as u64], None),
            What::Failed { error, ran, .. } => ("failed", vec![ran.is_some().into()], Some(error)),
            What::TimedOut { error, ran, .. } => ("timed out", vec![ran.is_some().into()], Some(error)),
            What::Cancelled { .. } => ("cancelled", vec![], None),
            What::Retried { attempt, error, .. } => ("retried", vec![attempt.into()], Some(error)),
            What::WorkerSpawned { .. } => ("spawned", vec![], None),
            What::WorkerReady { .. } => ("ready", vec![], None),
            What::WorkerRecycled { .. } => ("recycled", vec![], None),
            What::WorkerDied { .. } => ("died", vec![], None),
            What::WorkerLeft { .. } => ("left", vec![], None),
            What::PoolOver { .. } => ("over", vec![], None),
            _ => ("something new", vec![], None),
        };
        let line = Line {
            at: event.at,
            pool: event.pool.to_owned(),
            task: event.what.task().map(|task| task.id),
            name: event.what.task().map(|task| task.name),
            worker: event.what.worker().cloned(),
            what,
            numbers,
            error: error.map(ToString::to_string),
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Story {
    fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap().clone()
    }

    /// Of that call.
    fn of(&self, id: FutureId) -> Vec<Line> {
        self.lines().into_iter().filter(|line| line.task == Some(id)).collect()
    }

    /// The same, in words.
    fn words(&self, id: FutureId) -> Vec<&'static str> {
        self.of(id).iter().map(|line| line.what).collect()
    }

    /// What was told of workers and the pool.
    fn of_workers(&self) -> Vec<&'static str> {
        self.lines().iter().filter(|line| line.task.is_none()).map(|line| line.what).collect()
    }
}

/// A pool that can be observed.
trait Observed: Executor + Sized {
    const IS_PROCESSES: bool;
    fn of(max_workers: usize, story: &Story) -> Self;
    fn stats(&self) -> Stats;
}

impl Observed for ThreadPoolExecutor {
    const IS_PROCESSES: bool = false;

    fn of(max_workers: usize, story: &Story) -> Self {
        let builder = ThreadPoolExecutor::builder().thread_name_prefix("seen");
        builder.max_workers(max_workers).observer(story.clone()).build().unwrap()
    }

    fn stats(&self) -> Stats {
        self.stats()
    }
}

impl Observed for ProcessPoolExecutor {
    const IS_PROCESSES: bool = true;

    fn of(max_workers: usize, story: &Story) -> Self {
        let builder = ProcessPoolExecutor::builder().name("seen");
        builder.max_workers(max_workers).observer(story.clone()).build().unwrap()
    }

    fn stats(&self) -> Stats {
        self.stats()
    }
}

/// Each test, on each engine.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod threads {
            $(#[test] fn $test() {
                super::watchdog(stringify!($test), super::LIMIT, super::$test::<super::ThreadPoolExecutor>);
            })*
        }
        mod processes {
            $(#[test] fn $test() {
                super::watchdog(stringify!($test), super::LIMIT, super::$test::<super::ProcessPoolExecutor>);
            })*
        }
    };
}

on_both!(
    a_call_is_told_from_its_beginning_to_its_end,
    the_end_is_told_before_anybody_has_the_result,
    each_end_has_its_name,
    one_that_is_cancelled_in_the_queue_never_started,
    one_that_is_refused_ends_without_a_start,
    progress_is_told_in_between,
    another_attempt_is_told,
    items_of_a_map_are_told_one_by_one_and_chunks_as_one,
    workers_are_told_from_spawn_to_end,
    an_observer_that_panics_harms_nobody,
    many_short_calls_are_each_told_in_order,
    one_of_all_pools_hears_of_them,
    stats_count_how_calls_end,
    stats_count_each_item_of_a_map,
    stats_know_what_waits_and_runs,
    stats_of_quick_calls_stand_for_all,
);

fn double(n: u64) -> u64 {
    n * 2
}

fn sleep_on((): ()) -> u32 {
    loop {
        thread::park();
    }
}

fn pass(ticket: Ticket) -> u32 {
    ticket.pass()
}

fn raise(n: u64) -> Result<u64, String> {
    if n.is_multiple_of(2) { Ok(n) } else { Err(format!("{n} is odd")) }
}

fn a_call_is_told_from_its_beginning_to_its_end<E: Observed>() {
    let story = Story::default();
    let pool = E::of(1, &story);
    let before = Instant::now();
    let future = pool.submit(double, 21);
    let id = future.id();
    assert_eq!(future.result().unwrap(), 42);
    let lines = story.of(id);
    assert_eq!(story.words(id), ["submitted", "started", "finished"], "{lines:?}");
    assert!(lines.iter().all(|line| line.pool == "seen" && line.name.unwrap().ends_with("double")));
    assert_eq!(
        (&lines[0].numbers[..], &lines[1].numbers[..], &lines[2].numbers[..]),
        (&[1][..], &[1][..], &[0][..])
    );
    let times: Vec<_> = lines.iter().map(|line| line.at).collect();
    assert!(before <= times[0] && times.is_sorted() && times[2] <= Instant::now(), "{lines:?}");
    let worker = lines[1].worker.as_ref().expect("a worker ran it");
    assert_eq!((worker.name.as_str(), worker.number), ("seen_0", 0));
    assert_eq!(worker.pid.is_some(), E::IS_PROCESSES);
    assert_ne!(worker.pid, Some(std::process::id()));
}

fn the_end_is_told_before_anybody_has_the_result<E: Observed>() {
    let story = Story::default();
    let pool = E::of(2, &story);
    for n in 0..200 {
        let future = pool.submit(double, n);
        let id = future.id();
        assert_eq!(future.result().unwrap(), n * 2);
        assert_eq!(story.words(id), ["submitted", "started", "finished"]);
    }
}

fn each_end_has_its_name<E: Observed>() {
    let story = Story::default();
    let pool = E::of(1, &story);
    let raised = pool.try_submit(raise, 1);
    let panicked = pool.submit(|(): ()| -> u32 { panic!("no more") }, ());
    let (raised_id, panicked_id) = (raised.id(), panicked.id());
    assert!(matches!(raised.result(), Err(Error::Raised { .. })));
    assert!(matches!(panicked.result(), Err(Error::Panicked { .. })));
    for (id, said) in [(raised_id, "1 is odd"), (panicked_id, "no more")] {
        let lines = story.of(id);
        assert_eq!(story.words(id), ["submitted", "started", "failed"]);
        assert!(lines[2].error.as_ref().unwrap().contains(said), "{lines:?}");
        assert_eq!(lines[2].numbers, [1], "it ran");
    }
}

fn one_that_is_cancelled_in_the_queue_never_started<E: Observed>() {
    let story = Story::default();
    let pool = E::of(1, &story);
    let gate = Turnstile::new();
    let busy = pool.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let waiting = pool.submit(double, 1);
    assert!(waiting.cancel());
    assert_eq!(story.words(waiting.id()), ["submitted", "cancelled"]);
    assert_eq!(pool.stats().cancelled, 1);
    arrival.release();
    busy.result().unwrap();
    pool.shutdown();
    assert_eq!(story.words(waiting.id()), ["submitted", "cancelled"], "once");
}

fn one_that_is_refused_ends_without_a_start<E: Observed>() {
    let story = Story::default();
    let pool = E::of(1, &story);
    pool.shutdown();
    let refused = pool.submit(double, 1);
    let id = refused.id();
    assert!(matches!(refused.result(), Err(Error::ShutDown { .. })));
    assert_eq!(story.words(id), ["submitted", "failed"]);
    assert_eq!(story.of(id)[1].numbers, [0], "it never ran");
    assert_eq!(pool.stats().failed, 1);
}

fn progress_is_told_in_between<E: Observed>() {
    fn work(gate: Ticket) -> u32 {
        task::progress(3, 10);
        gate.pass();
        task::progress(10, 10);
        1
    }
    let story = Story::default();
    let pool = E::of(1, &story);
    let gate = Turnstile::new();
    let future = pool.submit(work, gate.ticket(0));
    let id = future.id();
    let arrival = gate.arrival();
    // A worker process leaves the latest word, and its host comes for it.
    while !story.words(id).contains(&"progress") {
        thread::yield_now();
    }
    arrival.release();
    future.result().unwrap();
    let said: Vec<_> =
        story.of(id).iter().filter(|line| line.what == "progress").map(|line| line.numbers.clone()).collect();
    assert_eq!(said, [[3, 10], [10, 10]]);
    let words = story.words(id);
    assert_eq!(
        (words[0], words[1], words[words.len() - 1]),
        ("submitted", "started", "finished"),
        "{words:?}"
    );
}

fn another_attempt_is_told<E: Observed>() {
    let story = Story::default();
    let pool = E::of(1, &story);
    let options = TaskOptions::new().retries(2).retry_if(|_| true).backoff(Duration::ZERO, Duration::ZERO);
    let future = pool.try_submit_with(
        |(): ()| match task::attempt() {
            3 => Ok(3),
            n => Err(format!("attempt {n} failed")),
        },
        (),
        options,
    );
    let id = future.id();
    assert_eq!(future.result().unwrap(), 3);
    let lines = story.of(id);
    assert_eq!(
        story.words(id),
        ["submitted", "started", "retried", "started", "retried", "started", "finished"],
        "{lines:?}"
    );
    let numbers: Vec<_> = lines[1..6].iter().map(|line| line.numbers[0]).collect();
    assert_eq!(numbers, [1, 2, 2, 3, 3]);
    assert!(lines[2].error.as_ref().unwrap().contains("attempt 1 failed"), "{lines:?}");
    assert_eq!(pool.stats().retried, 2);
}

fn items_of_a_map_are_told_one_by_one_and_chunks_as_one<E: Observed>() {
    let story = Story::default();
    let pool = E::of(2, &story);
    assert_eq!(pool.map(double, 0..100).map(Result::unwrap).sum::<u64>(), 9900);
    let count = |what: &str, calls: u64| {
        let lines = story.lines();
        lines
            .iter()
            .filter(|line| line.what == what && (what != "submitted" || line.numbers == [calls]))
            .count()
    };
    assert_eq!((count("submitted", 1), count("started", 0), count("finished", 0)), (100, 100, 100));
    let options = MapOptions::new().chunksize(25);
    let failed = pool.try_map_with(raise, 0..100, options).filter(Result::is_err).count();
    assert_eq!(failed, 50);
    assert_eq!((count("submitted", 25), count("finished", 0)), (4, 104));
    let failed: u64 =
        story.lines().iter().filter(|line| line.what == "finished").map(|line| line.numbers[0]).sum();
    assert_eq!(failed, 50);
}

fn workers_are_told_from_spawn_to_end<E: Observed>() {
    let story = Story::default();
    let pool = E::of(1, &story);
    pool.submit(double, 1).result().unwrap();
    pool.shutdown_with(Shutdown { wait: true, cancel_futures: false });
    assert_eq!(story.of_workers(), ["spawned", "ready", "left", "over"]);
    drop(pool);
    assert_eq!(story.of_workers(), ["spawned", "ready", "left", "over"], "once");
}

fn an_observer_that_panics_harms_nobody<E: Observed>() {
    struct Panics;
    impl Observer for Panics {
        fn notice(&self, event: &Event<'_>) {
            // As a panic does, but for the hook that tells of it.
            std::panic::resume_unwind(Box::new(event.pool.to_owned()));
        }
    }
    let story = Story::default();
    let calls = [1, 2, 3];
    let results: Vec<u64> = if E::IS_PROCESSES {
        let builder = ProcessPoolExecutor::builder().max_workers(1).observer(Panics).observer(story.clone());
        builder.build().unwrap().map(double, calls).map(Result::unwrap).collect()
    } else {
        let builder = ThreadPoolExecutor::builder().max_workers(1).observer(Panics).observer(story.clone());
        builder.build().unwrap().map(double, calls).map(Result::unwrap).collect()
    };
    assert_eq!(results, [2, 4, 6]);
    assert_eq!(
        story.lines().iter().filter(|line| line.what == "finished").count(),
        3,
        "the next one hears all"
    );
}

fn many_short_calls_are_each_told_in_order<E: Observed>() {
    let story = Story::default();
    let pool = E::of(2, &story);
    let futures: Vec<_> = (0..2_000).map(|n| pool.submit(double, n)).collect();
    for (n, future) in futures.into_iter().enumerate() {
        if n % 7 == 0 {
            future.cancel();
        }
        let _ = future.result();
    }
    pool.shutdown();
    let mut calls: BTreeMap<FutureId, Vec<Line>> = BTreeMap::new();
    for line in story.lines() {
        if let Some(id) = line.task {
            calls.entry(id).or_default().push(line);
        }
    }
    assert_eq!(calls.len(), 2_000);
    for lines in calls.values() {
        let words: Vec<_> = lines.iter().map(|line| line.what).collect();
        let is_right = words == ["submitted", "started", "finished"] || words == ["submitted", "cancelled"];
        assert!(is_right, "{lines:?}");
        assert!(lines.iter().map(|line| line.at).is_sorted(), "{lines:?}");
    }
    let stats = pool.stats();
    assert_eq!((stats.done(), stats.pending, stats.running), (2_000, 0, 0), "{stats:?}");
    assert_eq!(stats.run_time.calls, stats.returned, "all calls of a pool that is observed are timed");
}

fn one_of_all_pools_hears_of_them<E: Observed>() {
    let everywhere = Story::default();
    observe(everywhere.clone());
    let story = Story::default();
    let pool = E::of(1, &story);
    let future = pool.submit(double, 4);
    let id = future.id();
    future.result().unwrap();
    assert_eq!(everywhere.words(id), ["submitted", "started", "finished"]);
}

fn stats_count_how_calls_end<E: Observed>() {
    let pool = E::of(1, &Story::default());
    assert!(pool.submit(double, 1).result().is_ok());
    assert!(pool.try_submit(raise, 1).result().is_err());
    assert!(pool.submit(|(): ()| -> u32 { panic!("no") }, ()).result().is_err());
    let stats = pool.stats();
    assert_eq!((stats.returned, stats.raised, stats.panicked), (1, 1, 1), "{stats:?}");
    assert_eq!((stats.workers, stats.done()), (1, 3));
    assert_eq!(stats.bytes_sent > 0 && stats.bytes_received > 0, E::IS_PROCESSES, "{stats:?}");
    assert_eq!((stats.queue_wait.calls, stats.run_time.calls), (3, 3));
    let told = stats.to_string();
    assert!(told.contains("3 done") && told.contains("1 raised") && told.lines().count() == 4, "{told}");
}

fn stats_count_each_item_of_a_map<E: Executor + Observed>() {
    // Nobody observes these.
    let threads = ThreadPoolExecutor::new(2).unwrap();
    let processes = ProcessPoolExecutor::new(2).unwrap();
    let run = |items: u64, options: MapOptions| {
        let failed = if E::IS_PROCESSES {
            Executor::try_map_with(&processes, raise, 0..items, options).filter(Result::is_err).count()
        } else {
            Executor::try_map_with(&threads, raise, 0..items, options).filter(Result::is_err).count()
        };
        let stats = if E::IS_PROCESSES { processes.stats() } else { threads.stats() };
        (failed as u64, stats)
    };
    let (failed, stats) = run(10_000, MapOptions::new());
    assert_eq!((failed, stats.raised, stats.returned), (5_000, 5_000, 5_000), "{stats:?}");
    let (failed, stats) = run(10_000, MapOptions::new().chunksize(100));
    assert_eq!((failed, stats.raised, stats.returned), (5_000, 10_000, 10_000), "{stats:?}");
    assert_eq!((stats.pending, stats.cancelled, stats.failed), (0, 0, 0), "{stats:?}");
}

fn stats_know_what_waits_and_runs<E: Observed>() {
    let pool = E::of(1, &Story::default());
    let gate = Turnstile::new();
    let busy = pool.submit(pass, gate.ticket(0));
    let arrival = gate.arrival();
    let waiting: Vec<_> = (0..5).map(|n| pool.submit(double, n)).collect();
    let stats = pool.stats();
    assert_eq!((stats.running, stats.pending, stats.workers, stats.done()), (1, 5, 1, 0), "{stats:?}");
    arrival.release();
    busy.result().unwrap();
    for future in waiting {
        future.result().unwrap();
    }
    let stats = pool.stats();
    assert_eq!((stats.pending, stats.returned), (0, 6), "{stats:?}");
    assert!(stats.queue_wait.max >= stats.queue_wait.p50 && stats.run_time.max > Duration::ZERO);
}

/// Also where not each is timed.
fn stats_of_quick_calls_stand_for_all<E: Observed>() {
    const CALLS: u64 = 20_000;
    let threads = ThreadPoolExecutor::new(1).unwrap();
    let processes = ProcessPoolExecutor::new(1).unwrap();
    let executor: &dyn Executor = if E::IS_PROCESSES { &processes } else { &threads };
    let futures: Vec<_> = (0..CALLS).map(|n| (&executor).submit(double, n)).collect();
    for future in futures {
        future.result().unwrap();
    }
    let stats = if E::IS_PROCESSES { processes.stats() } else { threads.stats() };
    assert_eq!(stats.returned, CALLS);
    // Exact if each was timed; one in so many, beginning anywhere, otherwise.
    let seen = [stats.queue_wait.calls, stats.run_time.calls];
    assert!(seen.iter().all(|calls| calls.abs_diff(CALLS) <= CALLS / 10), "{stats:?}");
}

#[test]
fn a_worker_that_dies_is_told_and_its_call_has_failed() {
    watchdog("a_worker_that_dies_is_told_and_its_call_has_failed", LIMIT, || {
        let story = Story::default();
        let pool = ProcessPoolExecutor::of(1, &story);
        let future = pool.submit(|(): ()| -> u32 { std::process::abort() }, ());
        let id = future.id();
        assert!(matches!(future.result(), Err(Error::WorkerDied { .. })));
        assert_eq!(story.words(id), ["submitted", "started", "failed"]);
        let spawned = story.lines().into_iter().find(|line| line.what == "spawned").unwrap();
        let lines = story.of(id);
        assert_eq!(lines[1].worker, spawned.worker, "it is known where it ran");
        assert!(spawned.at <= lines[1].at && lines[1].at <= lines[2].at, "{lines:?}");
        pool.submit(double, 1).result().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.died, stats.replaced, stats.returned), (1, 1, 1), "{stats:?}");
        pool.shutdown();
        assert_eq!(story.of_workers(), ["spawned", "ready", "died", "spawned", "ready", "left", "over"]);
    });
}

#[test]
fn a_call_that_is_stopped_at_its_limit_has_timed_out() {
    watchdog("a_call_that_is_stopped_at_its_limit_has_timed_out", LIMIT, || {
        let story = Story::default();
        let pool = ProcessPoolExecutor::of(1, &story);
        let options = TaskOptions::new().timeout(Duration::from_millis(50));
        let future = pool.submit_with(sleep_on, (), options);
        let id = future.id();
        assert!(matches!(future.result(), Err(Error::TimedOut { .. })));
        let lines = story.of(id);
        assert_eq!(story.words(id), ["submitted", "started", "timed out"], "{lines:?}");
        assert!(lines[2].at.duration_since(lines[1].at) >= Duration::from_millis(40), "{lines:?}");
        assert_eq!(pool.stats().timed_out, 1);
    });
}

#[test]
fn a_worker_that_is_used_up_is_recycled() {
    watchdog("a_worker_that_is_used_up_is_recycled", LIMIT, || {
        let story = Story::default();
        let builder = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(2);
        let pool = builder.observer(story.clone()).build().unwrap();
        for n in 0..4 {
            pool.submit(double, n).result().unwrap();
        }
        pool.shutdown();
        let told = story.of_workers();
        assert_eq!(told.iter().filter(|what| **what == "recycled").count(), 2, "{told:?}");
        assert!(!told.contains(&"died"), "{told:?}");
        assert_eq!(pool.stats().returned, 4);
    });
}

#[test]
fn a_call_that_another_waits_for_is_told_where_it_ran() {
    watchdog("a_call_that_another_waits_for_is_told_where_it_ran", LIMIT, || {
        let story = Story::default();
        let pool = Arc::new(ThreadPoolExecutor::of(1, &story));
        let inner = Arc::clone(&pool);
        let outer = pool.spawn(move || inner.spawn(|| 42).result().unwrap());
        assert_eq!(outer.result().unwrap(), 42);
        let words: Vec<_> =
            story.lines().iter().filter(|line| line.task.is_some()).map(|line| line.what).collect();
        assert_eq!(words, ["submitted", "started", "submitted", "started", "finished", "finished"]);
        assert_eq!(pool.stats().returned, 2);
    });
}
