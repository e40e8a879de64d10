//! Feature `tracing`: spans of calls, and what is logged in worker processes.
//!
//! Each test has a subscriber of its own, which keeps all that it is told; pools that are built and calls that are submitted
//! under it tell it, in whatever thread. What is to be so for a whole process (no subscriber, no pages) is a role.

#![cfg(feature = "tracing")]

mod faults_common;

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::io::Write as _;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use concurrent_futures::{Error, Executor, MapOptions, ProcessPoolExecutor, TaskOptions, ThreadPoolExecutor};
use faults_common::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber, debug, error, info, info_span, trace, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

concurrent_futures::init_tests!();

roles! {
    "nobody_listens" => nobody_listens(),
    "without_pages" => without_pages(),
    "everywhere" => everywhere(),
    "filtered" => filtered(),
    "flooded" => flooded(),
    "left_behind" => left_behind(),
}

// ---- A subscriber that keeps what it is told ----------------------------------------------------

#[derive(Clone, Debug, Default, PartialEq)]
struct Fields(BTreeMap<&'static str, String>);

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

#[derive(Clone, Debug)]
struct Told {
    level: Level,
    target: String,
    fields: Fields,
    /// The numbers of the spans that it is in, the innermost first.
    spans: Vec<u64>,
}

impl Told {
    fn message(&self) -> &str {
        self.fields.get("message")
    }
}

#[derive(Clone, Debug)]
struct Kept {
    name: &'static str,
    fields: Fields,
    parent: Option<u64>,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Memory {
    events: Vec<Told>,
    spans: BTreeMap<u64, Kept>,
}

#[derive(Clone, Debug, Default)]
struct Keeper(Arc<Mutex<Memory>>);

impl Keeper {
    /// The subscriber of this thread, as long as the guard is there.
    fn of_this_thread(level: LevelFilter) -> (Keeper, tracing::dispatcher::DefaultGuard) {
        let keeper = Keeper::default();
        let subscriber = Registry::default().with(level).with(keeper.clone());
        (keeper, tracing::dispatcher::set_default(&subscriber.into()))
    }

    fn look<R>(&self, at: impl FnOnce(&mut Memory) -> R) -> R {
        at(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All events that come from tests and their calls.
    fn events(&self) -> Vec<Told> {
        let is_ours = |told: &&Told| told.fields.get("target") == "tracing" || told.target == "tracing";
        self.look(|memory| memory.events.iter().filter(is_ours).cloned().collect())
    }

    /// Their messages.
    fn messages(&self) -> Vec<String> {
        self.events().iter().map(|told| told.message().to_owned()).collect()
    }

    /// The only event with that message.
    #[track_caller]
    fn event(&self, message: &str) -> Told {
        let mut found: Vec<_> = self
            .look(|memory| memory.events.iter().filter(|told| told.message() == message).cloned().collect());
        assert_eq!(found.len(), 1, "{message:?} among {:?}", self.messages());
        found.remove(0)
    }

    /// The span of that call.
    #[track_caller]
    fn task(&self, id: u64) -> (u64, Kept) {
        let id = id.to_string();
        self.look(|memory| {
            let mut found =
                memory.spans.iter().filter(|(_, span)| span.name == "task" && span.fields.get("id") == id);
            let (number, span) = found.next().expect("a span of the call");
            assert!(found.next().is_none(), "two spans of one call");
            (*number, span.clone())
        })
    }

    /// The names of the spans that an event is in, the innermost first; of calls, with the number.
    fn path(&self, told: &Told) -> Vec<String> {
        self.look(|memory| {
            let name = |number: &u64| match &memory.spans[number] {
                Kept { name: "task", fields, .. } => format!("task {}", fields.get("id")),
                span => span.name.to_owned(),
            };
            told.spans.iter().map(name).collect()
        })
    }

    #[track_caller]
    fn assert_path(&self, message: &str, path: &[&str]) {
        assert_eq!(self.path(&self.event(message)), path, "{message}");
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Keeper {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let span = context.span(id).unwrap();
        // The registry uses numbers again.
        let number = id.into_u64();
        let parent = span.parent().map(|parent| parent.id().into_u64());
        let kept = Kept { name: span.name(), fields, parent, is_closed: false };
        self.look(|memory| memory.spans.insert(number, kept));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.look(|memory| memory.spans.get_mut(&id.into_u64()).unwrap().fields.0.append(&mut fields.0));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans =
            context.event_scope(event).into_iter().flatten().map(|span| span.id().into_u64()).collect();
        let metadata = event.metadata();
        let told = Told { level: *metadata.level(), target: metadata.target().into(), fields, spans };
        self.look(|memory| memory.events.push(told));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.look(|memory| memory.spans.get_mut(&id.into_u64()).unwrap().is_closed = true);
    }
}

// ---- Calls in threads -----------------------------------------------------------------------------

fn threads(max_workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::builder().max_workers(max_workers).thread_name_prefix("crew").build().unwrap()
}

#[track_caller]
fn assert_seconds(text: &str) {
    let seconds: f64 = text.parse().expect("a number of seconds");
    assert!(seconds >= 0.0);
}

#[test]
fn a_call_has_a_span_below_the_one_that_it_was_submitted_in() {
    let _watchdog = Watchdog::new("a_call_has_a_span_below_the_one_that_it_was_submitted_in");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::DEBUG);
    let pool = threads(1);
    let request = info_span!("request");
    let future = request.in_scope(|| pool.spawn(|| info!("inside")));
    let id = future.id().get();
    get(future).unwrap();
    let (number, task) = keeper.task(id);
    assert!(task.is_closed);
    assert_eq!(task.parent, request.id().map(|id| id.into_u64()));
    assert_eq!(keeper.event("inside").spans[0], number);
    keeper.assert_path("inside", &[&format!("task {id}"), "request"]);
    assert!(task.fields.get("name").contains("a_call_has_a_span"), "{task:?}");
    let known = ["pool", "worker", "attempt", "calls", "outcome"].map(|name| task.fields.get(name));
    assert_eq!(known, ["crew", "crew_0", "1", "1", "finished"]);
    assert_seconds(task.fields.get("queue_wait"));
    assert_seconds(task.fields.get("run_time"));
    let finished = keeper.event("finished");
    assert_eq!((finished.level, &*finished.target), (Level::DEBUG, "concurrent_futures"));
    assert_eq!(finished.spans[0], number);
    drop(pool);
    for what in ["worker spawned", "worker ready", "worker left"] {
        let told = keeper.event(what);
        assert_eq!((told.level, told.fields.get("worker")), (Level::DEBUG, "crew_0"));
        assert!(told.spans.is_empty(), "{told:?}");
    }
    assert_eq!(keeper.event("pool is over").fields.get("pool"), "crew");
}

/// The worker waits for a call of its own pool, and so runs it: one inside the other.
#[test]
fn a_call_that_runs_inside_another_leaves_that_ones_span_as_it_was() {
    let _watchdog = Watchdog::new("a_call_that_runs_inside_another_leaves_that_ones_span_as_it_was");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::INFO);
    let pool = Arc::new(threads(1));
    let outer = {
        let pool = Arc::clone(&pool);
        move || {
            let _section = info_span!("section").entered();
            let inner = pool.spawn(|| info!("in the inner one"));
            let id = inner.id().get();
            get(inner).unwrap();
            info!("behind it");
            id
        }
    };
    let future = pool.spawn(outer);
    let outer = format!("task {}", future.id().get());
    let inner = format!("task {}", get(future).unwrap());
    keeper.assert_path("in the inner one", &[&inner, "section", &outer]);
    keeper.assert_path("behind it", &["section", &outer]);
    // And nothing is left in the thread.
    let next = pool.spawn(|| info!("in the next one"));
    let id = format!("task {}", next.id().get());
    get(next).unwrap();
    keeper.assert_path("in the next one", &[&id]);
}

#[test]
fn a_call_that_panics_is_left_too() {
    let _watchdog = Watchdog::new("a_call_that_panics_is_left_too");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::DEBUG);
    let pool = threads(1);
    let future = pool.spawn(|| {
        let _section = info_span!("section").entered();
        panic!("out of it");
    });
    let id = future.id().get();
    let error: Error = get::<()>(future).unwrap_err();
    let next = pool.spawn(|| info!("in the next one"));
    let path = format!("task {}", next.id().get());
    get(next).unwrap();
    keeper.assert_path("in the next one", &[&path]);
    let (number, task) = keeper.task(id);
    assert_eq!((task.fields.get("outcome"), task.is_closed), ("failed", true));
    let failed = keeper.event("failed");
    assert_eq!((failed.level, failed.spans[0]), (Level::DEBUG, number));
    assert_eq!(failed.fields.get("error"), error.to_string());
}

#[test]
fn a_call_that_is_cancelled_or_raises_says_so() {
    let _watchdog = Watchdog::new("a_call_that_is_cancelled_or_raises_says_so");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::DEBUG);
    let (pool, gate) = (threads(1), Gate::new());
    let busy = pool.submit(wait_at, gate.path());
    let held = gate.next();
    let unwanted = pool.spawn(|| ());
    let id = unwanted.id().get();
    assert!(unwanted.cancel());
    let (number, task) = keeper.task(id);
    assert_eq!((task.fields.get("outcome"), task.fields.get("run_time")), ("cancelled", ""));
    assert_eq!(keeper.event("cancelled").spans[0], number);
    held.go_on();
    get(busy).unwrap();
    let raised = pool.try_submit(|text: &str| text.parse::<u8>(), "no number");
    let id = raised.id().get();
    assert!(get(raised).is_err());
    assert_eq!(keeper.task(id).1.fields.get("outcome"), "failed");
}

/// However many a worker takes at a time, and whoever runs them.
#[test]
fn each_item_of_a_map_and_each_call_of_a_scope_is_in_its_own_span() {
    let _watchdog = Watchdog::new("each_item_of_a_map_and_each_call_of_a_scope_is_in_its_own_span");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::INFO);
    let pool = threads(2);
    let page = info_span!("page").entered();
    let numbers: Vec<u64> = pool.map(say, 0..500).map(Result::unwrap).collect();
    let words = [500, 501, 502];
    pool.scope(|scope| {
        let calls: Vec<_> = words.iter().map(|word| scope.spawn(move || say(*word))).collect();
        calls.into_iter().for_each(|call| assert!(call.result().is_ok()));
    });
    drop(page);
    let mut spans: Vec<u64> = (0..503)
        .map(|number| {
            let told = keeper.event(&format!("said {number}"));
            assert!(
                matches!(&keeper.path(&told)[..], [task, page] if task.starts_with("task") && page == "page")
            );
            told.spans[0]
        })
        .collect();
    spans.sort_unstable();
    spans.dedup();
    assert_eq!((numbers.len(), spans.len()), (500, 503));
    // A chunk is one call.
    let processes = processes(1);
    let chunks = processes.map_with(say, 1000..1006, MapOptions::new().chunksize(3));
    assert_eq!(chunks.map(Result::unwrap).count(), 6);
    let spans = [1000, 1002, 1003, 1005].map(|number| keeper.event(&format!("said {number}")).spans[0]);
    assert!(spans[0] == spans[1] && spans[1] != spans[2] && spans[2] == spans[3], "{spans:?}");
    keeper.look(|memory| {
        assert_eq!(memory.spans[&spans[0]].fields.get("calls"), "3");
        assert!(memory.spans.values().all(|span| span.is_closed || span.name == "page"));
    });
}

#[test]
fn attempts_are_in_one_span() {
    let _watchdog = Watchdog::new("attempts_are_in_one_span");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::DEBUG);
    let pool = threads(1);
    let options = TaskOptions::new().retries(2).retry_if(|error| matches!(error, Error::Panicked { .. }));
    let third_time = || {
        info!("attempt {}", concurrent_futures::task::attempt());
        assert!(concurrent_futures::task::attempt() == 3, "not yet");
    };
    let future = pool.submit_with(move |()| third_time(), (), options);
    let id = future.id().get();
    get(future).unwrap();
    let (number, task) = keeper.task(id);
    assert_eq!((task.fields.get("attempt"), task.fields.get("outcome")), ("3", "finished"));
    for attempt in 1..=3 {
        let told = keeper.event(&format!("attempt {attempt}"));
        assert_eq!(told.spans, [number]);
    }
    let again = keeper.look(|memory| {
        let is_one = |told: &&Told| told.message() == "another attempt follows";
        memory.events.iter().filter(is_one).cloned().collect::<Vec<_>>()
    });
    let attempts: Vec<_> = again.iter().map(|told| told.fields.get("attempt")).collect();
    assert_eq!(attempts, ["2", "3"]);
    assert!(again.iter().all(|told| told.spans == [number] && told.level == Level::DEBUG));
}

/// A filter that does not want the spans of pools: the call is then in the span that it was submitted in.
fn filtered() {
    let keeper = Keeper::default();
    let targets = Targets::new().with_target("tracing", LevelFilter::DEBUG);
    let subscriber = Registry::default().with(keeper.clone().with_filter(targets));
    tracing::dispatcher::set_global_default(subscriber.into()).unwrap();
    let (threads, processes) = (threads(1), processes(1));
    info_span!("request", outcome = tracing::field::Empty).in_scope(|| {
        let inside = threads.spawn(|| info!("in a thread"));
        let elsewhere = processes.submit(|()| info!("in a process"), ());
        get(inside).unwrap();
        get(elsewhere).unwrap();
        get(processes.submit(|()| info!(target: "unwanted", "nobody hears that"), ())).unwrap();
    });
    keeper.assert_path("in a thread", &["request"]);
    keeper.assert_path("in a process", &["request"]);
    keeper.look(|memory| {
        assert_eq!(memory.events.len(), 2, "{memory:?}");
        assert!(
            memory.spans.values().all(|span| span.name == "request" && span.fields.0.is_empty()),
            "{memory:?}"
        );
    });
}

#[test]
fn where_spans_of_pools_are_filtered_out_the_trace_goes_on_all_the_same() {
    let _watchdog = Watchdog::new("where_spans_of_pools_are_filtered_out_the_trace_goes_on_all_the_same");
    applause(role("filtered").spawn().unwrap());
}

// ---- Calls in worker processes ----------------------------------------------------------------------

fn processes(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

/// Says so much, and returns it.
fn say(number: u64) -> u64 {
    info!(number, text = "a \"word\"", "said {number}");
    number
}

#[test]
fn what_a_call_logs_in_a_worker_process_is_told_to_the_hosts_subscriber() {
    fn talk(name: String) -> u32 {
        error!("an error");
        warn!(%name, count = 3, "a warning");
        let _outer = info_span!("outer", name).entered();
        let inner = info_span!("inner", late = tracing::field::Empty).entered();
        inner.record("late", 7);
        info!(list = ?[1, 2]);
        debug!(parent: None, "alone");
        trace!("nobody wants that");
        std::process::id()
    }
    let _watchdog = Watchdog::new("what_a_call_logs_in_a_worker_process_is_told_to_the_hosts_subscriber");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::DEBUG);
    let pool = processes(1);
    let pid = get(pool.submit(talk, "zoë".to_owned())).unwrap();
    let events = keeper.events();
    let levels: Vec<Level> = events.iter().map(|told| told.level).collect();
    assert_eq!(levels, [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG], "{events:#?}");
    for told in &events {
        assert_eq!(told.target, "concurrent_futures::worker");
        assert_eq!(told.fields.get("pid"), pid.to_string());
        assert!(told.fields.get("worker").ends_with("_0"));
        assert!(told.fields.get("file").ends_with("tracing.rs") && !told.fields.get("line").is_empty());
    }
    assert_eq!(events[1].message(), "a warning");
    assert_eq!(events[1].fields.get("fields"), "name=zoë count=3");
    assert_eq!(events[1].fields.get("spans"), "");
    assert_eq!(events[2].fields.get("fields"), "list=[1, 2]");
    assert_eq!(events[2].fields.get("spans"), "outer{name=\"zoë\"}:inner{late=7}");
    assert_eq!(events[3].fields.get("spans"), "");
}

/// Short ones, several in the worker's hands at a time; and one at a time, which the waiter itself attends to.
#[test]
fn what_calls_log_is_told_in_order_each_in_its_span_before_they_end() {
    let _watchdog = Watchdog::new("what_calls_log_is_told_in_order_each_in_its_span_before_they_end");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::INFO);
    let pool = processes(2);
    let check = |future: concurrent_futures::Future<u64>| {
        let id = future.id().get();
        let number = get(future).unwrap();
        let told = keeper.event(&format!("said {number}"));
        let (span, task) = keeper.task(id);
        assert_eq!((told.spans, told.fields.get("task")), (vec![span], &*id.to_string()));
        assert_eq!(told.fields.get("fields"), format!("number={number} text=\"a \\\"word\\\"\""));
        assert_eq!(task.fields.get("outcome"), "finished");
        assert!(!task.fields.get("worker").is_empty(), "{task:?}");
    };
    (0..200).for_each(|number| check(pool.submit(say, number)));
    let futures: Vec<_> = (1000..1500).map(|number| pool.submit(say, number)).collect();
    futures.into_iter().for_each(check);

    fn count((from, to): (u64, u64)) {
        (from..to).for_each(|number| info!("number {number}"));
    }
    let futures = [0, 1, 2, 3].map(|n| pool.submit(count, (n * 1000, n * 1000 + 300)));
    let spans = futures.map(|future| {
        let id = future.id().get();
        get(future).unwrap();
        keeper.task(id).0
    });
    for (n, span) in (0..).zip(spans) {
        let numbers = keeper.look(|memory| {
            let its = memory
                .events
                .iter()
                .filter(|told| told.spans == [span] && told.message().starts_with("number"));
            its.map(|told| told.message().to_owned()).collect::<Vec<_>>()
        });
        let expected: Vec<_> = (n * 1000..n * 1000 + 300).map(|number| format!("number {number}")).collect();
        assert_eq!(numbers, expected);
    }
}

#[test]
fn a_trace_goes_through_processes_and_threads() {
    let _watchdog = Watchdog::new("a_trace_goes_through_processes_and_threads");
    /// In a worker: its own pool has a span for the call, which is text for the host.
    fn deeper((): ()) {
        let pool = threads(1);
        info_span!("request").in_scope(|| get(pool.spawn(|| info!("deep down"))).unwrap());
    }
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::INFO);
    let pool = processes(1);
    let page = info_span!("page");
    let future = page.in_scope(|| pool.submit(deeper, ()));
    let id = future.id().get();
    get(future).unwrap();
    keeper.assert_path("deep down", &[&format!("task {id}"), "page"]);
    let spans = keeper.event("deep down").fields.get("spans").to_owned();
    assert!(spans.starts_with("request:task{name="), "{spans}");
}

#[test]
fn what_a_call_has_logged_before_its_worker_died_is_told() {
    fn die(number: u64) {
        info!("last words {number}");
        if number > 0 {
            kill_oneself();
        }
    }
    let _watchdog = Watchdog::new("what_a_call_has_logged_before_its_worker_died_is_told");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::DEBUG);
    let pool = processes(1);
    for number in 1..20 {
        let future = pool.submit(die, number);
        let id = future.id().get();
        let error = get(future).unwrap_err();
        let Error::WorkerDied { pid, .. } = error else { panic!("{error:?}") };
        let (span, task) = keeper.task(id);
        assert_eq!((task.fields.get("outcome"), task.is_closed), ("failed", true));
        let told = keeper.event(&format!("last words {number}"));
        assert_eq!((told.spans, told.fields.get("pid")), (vec![span], &*pid.to_string()));
        let failed = keeper.look(|memory| {
            memory.events.iter().find(|told| told.message() == "failed" && told.spans == [span]).cloned()
        });
        assert_eq!(failed.unwrap().level, Level::WARN);
        until("a warning of the worker", || {
            keeper.look(|memory| {
                memory.events.iter().any(|told| {
                    told.message() == "worker died"
                        && told.level == Level::WARN
                        && told.fields.get("pid") == pid.to_string()
                        && told.fields.get("status").contains("signal")
                })
            })
        });
    }
    get(pool.submit(die, 0)).unwrap();
}

/// A fork holds the worker's end of the socket when the worker is dead.
fn left_behind() {
    fn fork_and_die(note: String) {
        info!("before the fork");
        std::fs::write(note, fork_and_hold().to_string()).unwrap();
        info!("behind it");
        kill_oneself();
    }
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::INFO);
    let (pool, dir) = (processes(1), TempDir::new());
    let note = dir.path("note");
    assert!(matches!(get(pool.submit(fork_and_die, note.clone())), Err(Error::WorkerDied { .. })));
    let fork = leftover(&note);
    assert_eq!(keeper.messages(), ["before the fork", "behind it"]);
    get(pool.submit(say, 1)).unwrap();
    drop(pool);
    until("nobody listens any more", || !threads_of_this_process().iter().any(|name| name.trim() == "ear"));
    assert!(fork.0.is_alive());
}

#[test]
fn a_fork_that_outlives_its_worker_keeps_nobody_listening() {
    let _watchdog = Watchdog::new("a_fork_that_outlives_its_worker_keeps_nobody_listening");
    applause(role("left_behind").spawn().unwrap());
}

#[test]
fn a_call_at_its_time_limit_and_one_that_is_tried_again() {
    fn wait(gate: String) {
        info!("attempt {}", concurrent_futures::task::attempt());
        if concurrent_futures::task::attempt() == 1 {
            attend(&gate);
        }
    }
    let _watchdog = Watchdog::new("a_call_at_its_time_limit_and_one_that_is_tried_again");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::DEBUG);
    let (pool, gate) = (processes(1), Gate::new());
    // Long enough that a worker has said it, whatever else the machine does.
    let limit = Duration::from_secs(2);
    let late = pool.submit_with(wait, gate.path(), TaskOptions::new().timeout(limit));
    let id = late.id().get();
    assert!(matches!(get(late), Err(Error::TimedOut { .. })));
    let (span, task) = keeper.task(id);
    assert_eq!(task.fields.get("outcome"), "timed out");
    assert_eq!(keeper.event("attempt 1").spans, [span]);
    assert_eq!((keeper.event("timed out").level, keeper.event("timed out").spans), (Level::WARN, vec![span]));

    keeper.look(|memory| memory.events.clear());
    let again = pool.submit_with(wait, gate.path(), TaskOptions::new().timeout(limit).retries(1));
    let id = again.id().get();
    get(again).unwrap();
    let (span, task) = keeper.task(id);
    assert_eq!((task.fields.get("outcome"), task.fields.get("attempt")), ("finished", "2"));
    assert_eq!([1, 2].map(|n| keeper.event(&format!("attempt {n}")).spans), [[span], [span]]);
    assert_eq!(keeper.event("another attempt follows").level, Level::WARN);
}

#[test]
fn what_belongs_to_no_call_is_told_in_no_span() {
    fn start(what: String) {
        info!("{what}");
    }
    fn leave_a_thread(gate: String) {
        std::thread::spawn(move || {
            attend(&gate);
            info!("out of turn");
        });
    }
    let _watchdog = Watchdog::new("what_belongs_to_no_call_is_told_in_no_span");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::INFO);
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder
        .initializer(start, "the beginning".into())
        .finalizer(start, "the end".into())
        .build()
        .unwrap();
    let gate = Gate::new();
    let pid = get(pool.submit(pid_of_worker, ())).unwrap();
    get(pool.submit(leave_a_thread, gate.path())).unwrap();
    gate.next().go_on();
    until("the thread is heard", || keeper.messages().iter().any(|message| message == "out of turn"));
    // And the worker has come to no harm.
    assert_eq!(get(pool.submit(pid_of_worker, ())).unwrap(), pid);
    drop(pool);
    for message in ["the beginning", "out of turn", "the end"] {
        let told = keeper.event(message);
        assert!(told.spans.is_empty() && told.fields.get("task").is_empty(), "{told:?}");
        assert_eq!(told.fields.get("pid"), pid.to_string());
    }
}

/// As a program does it: one subscriber for all, from the start.
fn everywhere() {
    let keeper = Keeper::default();
    let subscriber = Registry::default().with(LevelFilter::INFO).with(keeper.clone());
    tracing::dispatcher::set_global_default(subscriber.into()).unwrap();
    let (threads, processes) = (threads(2), processes(2));
    let page = info_span!("page");
    let ids = page.in_scope(|| {
        let futures = [
            threads.submit(say, 1),
            threads.submit(say, 2),
            processes.submit(say, 3),
            processes.submit(say, 4),
        ];
        futures.map(|future| {
            let id = future.id().get();
            get(future).unwrap();
            id
        })
    });
    for (number, id) in (1..).zip(ids) {
        keeper.assert_path(&format!("said {number}"), &[&format!("task {id}"), "page"]);
    }
}

#[test]
fn with_one_subscriber_for_the_whole_program() {
    let _watchdog = Watchdog::new("with_one_subscriber_for_the_whole_program");
    applause(role("everywhere").spawn().unwrap());
}

// ---- Nobody listens, or too much is said ------------------------------------------------------------

fn threads_of_this_process() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks.map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default()).collect()
}

/// In a host without a subscriber. Afterwards it has one, for errors.
fn nobody_listens() {
    fn sockets((): ()) -> (usize, bool) {
        error!("nobody hears that");
        let is_socket = |fd: &i32| {
            let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
            target.to_string_lossy().starts_with("socket:")
        };
        let sockets = descriptors("/proc/self/fd").iter().filter(|fd| is_socket(fd)).count();
        (sockets, tracing::enabled!(Level::ERROR))
    }
    fn levels((): ()) -> [bool; 2] {
        [tracing::enabled!(Level::ERROR), tracing::enabled!(Level::WARN)]
    }
    let pool = processes(1);
    let (without, is_enabled) = get(pool.submit(sockets, ())).unwrap();
    assert!(!is_enabled, "a worker makes events that nobody wants");
    assert!(!threads_of_this_process().iter().any(|name| name.trim() == "ear"), "a host listens to nothing");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::ERROR);
    let pool = processes(1);
    let (with, is_enabled) = get(pool.submit(sockets, ())).unwrap();
    assert!(is_enabled && with == without + 1, "{without} sockets, then {with}");
    assert_eq!(get(pool.submit(levels, ())).unwrap(), [true, false]);
    assert_eq!(keeper.event("nobody hears that").level, Level::ERROR);
}

#[test]
fn where_nobody_listens_nothing_is_made_and_nothing_is_sent() {
    let _watchdog = Watchdog::new("where_nobody_listens_nothing_is_made_and_nothing_is_sent");
    applause(role("nobody_listens").spawn().unwrap());
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

const FLOOD: u64 = 100_000;

/// Says how much more memory the worker has behind the flood than before.
fn flood(text: String) -> u64 {
    info!("the first");
    let before = resident();
    (0..FLOOD).for_each(|number| info!(number, "{text}"));
    resident().saturating_sub(before)
}

/// A subscriber that counts.
#[derive(Clone, Default)]
struct Counter(Arc<Mutex<(u64, u64)>>);

impl<S: Subscriber> Layer<S> for Counter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(number) = fields.get("fields").strip_prefix("number=") {
            let mut count = self.0.lock().unwrap();
            assert_eq!(number, count.0.to_string(), "not in order");
            *count = (count.0 + 1, count.1.max(resident()));
        }
    }
}

/// In a host of its own: what other tests keep would count too.
fn flooded() {
    let counter = Counter::default();
    let subscriber = Registry::default().with(LevelFilter::INFO).with(counter.clone());
    tracing::dispatcher::set_global_default(subscriber.into()).unwrap();
    let pool = processes(1);
    get(pool.submit(pid_of_worker, ())).unwrap();
    let before = resident();
    // A hundred bytes each, so more than ten MB together.
    let grown = get(pool.submit(flood, "x".repeat(100))).unwrap();
    let (count, most) = *counter.0.lock().unwrap();
    assert_eq!(count, FLOOD);
    let host = most.saturating_sub(before);
    println!("the worker took {grown} KiB, the host {host} KiB");
    assert!(grown < 4 << 10 && host < 4 << 10, "the worker took {grown} KiB, the host {host} KiB");
}

#[test]
fn a_flood_is_told_to_the_last_drop_and_takes_no_memory() {
    let _watchdog = Watchdog::new("a_flood_is_told_to_the_last_drop_and_takes_no_memory");
    println!("{}", applause(role("flooded").spawn().unwrap()));
}

/// Longer than a record may be, and one that never ends.
#[test]
fn what_is_too_long_is_cut() {
    struct Endless;
    impl Debug for Endless {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            loop {
                f.write_char('z')?;
            }
        }
    }
    fn talk((): ()) {
        let _span = info_span!("long", field = "s".repeat(1 << 20)).entered();
        info!(endless = ?Endless, "{}", "m".repeat(1 << 20));
    }
    let _watchdog = Watchdog::new("what_is_too_long_is_cut");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::INFO);
    get(processes(1).submit(talk, ())).unwrap();
    let [told] = &keeper.events()[..] else { panic!("{:?}", keeper.messages()) };
    let texts = [(told.message(), "mm"), (told.fields.get("fields"), "zz"), (told.fields.get("spans"), "ss")];
    for (text, part) in texts {
        assert!(text.ends_with('…') && text.contains(part) && text.len() < 9000, "{}", text.len());
    }
}

// ---- Workers that talk nonsense ---------------------------------------------------------------------

/// In a worker: the socket through which it tells the host what is logged.
fn mouth() -> UnixStream {
    // One that is connected, and not the post, which is standard input's.
    let found = descriptors("/proc/self/fd").into_iter().filter(|fd| {
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        *fd > 2 && target.to_string_lossy().starts_with("socket:")
    });
    // It was handed over, and so is younger than the post.
    let fd = found.max().unwrap();
    // SAFETY: it is open, and never closed here: it is forgotten below.
    #[allow(unsafe_code)]
    unsafe {
        UnixStream::from_raw_fd(fd)
    }
}

fn scream((bytes, times): (Vec<u8>, usize)) -> u32 {
    let mut mouth = mouth();
    // The host may have had enough of it.
    let _ = (0..times).try_for_each(|_| mouth.write_all(&bytes));
    std::mem::forget(mouth);
    info!("one more");
    std::process::id()
}

#[test]
fn nonsense_in_the_place_of_events_harms_nothing() {
    const EVENT: u8 = 15;
    let _watchdog = Watchdog::new("nonsense_in_the_place_of_events_harms_nothing");
    let frame = |kind: u8, payload: &[u8]| [&header(payload.len() as u64, kind, 1)[..], payload].concat();
    let sense = [
        ("a record that is none", frame(EVENT, &[255; 100])),
        ("an empty record", frame(EVENT, b"")),
        ("a level that there is not", frame(EVENT, &[9, 0, 0, 0, 0, 0, 0, 0])),
    ];
    let nonsense = [
        ("a reply", frame(kind::RETURNED, &[0; 8])),
        ("a length of 2^64 - 1", header(u64::MAX, EVENT, 1)),
        ("a length above the limit", header((64 << 10) + 1, EVENT, 1)),
        ("a kind that there is not", header(0, 99, 1)),
        ("text", b"This is printed to the wrong descriptor.\n".into()),
    ];
    for (case, bytes, is_heard_again) in sense
        .into_iter()
        .map(|(case, bytes)| (case, bytes, true))
        .chain(nonsense.map(|(case, bytes)| (case, bytes, false)))
    {
        for times in [1, 100_000] {
            let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::INFO);
            let pool = processes(1);
            let pid = get(pool.submit(scream, (bytes.clone(), times))).expect(case);
            // The call and the worker have come to no harm.
            assert_eq!(get(pool.submit(pid_of_worker, ())).expect(case), pid, "{case}");
            // It has spoiled the count, so that may come late.
            if is_heard_again {
                until(case, || keeper.messages() == ["one more"]);
            } else {
                drop(pool);
                assert!(keeper.messages().is_empty(), "{case}");
            }
        }
    }
}

/// A worker says that what it tells is another call's.
#[test]
fn an_event_is_put_into_no_span_of_a_call_that_its_worker_does_not_run() {
    fn forge((id, record): (u64, Vec<u8>)) {
        let mut mouth = mouth();
        mouth.write_all(&[&header(record.len() as u64, 15, id)[..], &record].concat()).unwrap();
        std::mem::forget(mouth);
        info!("mine");
    }
    let _watchdog = Watchdog::new("an_event_is_put_into_no_span_of_a_call_that_its_worker_does_not_run");
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::INFO);
    let (pool, gate) = (processes(2), Gate::new());
    let victim = pool.submit(wait_at, gate.path());
    let held = gate.next();
    // Level, target, no file, line or module, the message, no fields and no spans.
    let record = [&[3, 7][..], b"tracing", &[0, 0, 0], &[6], b"forged", &[0, 0]].concat();
    get(pool.submit(forge, (victim.id().get(), record))).unwrap();
    assert!(keeper.event("forged").spans.is_empty());
    assert_eq!(keeper.event("mine").spans.len(), 1);
    held.go_on();
    get(victim).unwrap();
}

/// Where all goes through pipes.
fn without_pages() {
    do_without_pages();
    let (keeper, _guard) = Keeper::of_this_thread(LevelFilter::INFO);
    let pool = processes(1);
    for number in 0..100 {
        let future = pool.submit(say, number);
        let id = format!("task {}", future.id().get());
        get(future).unwrap();
        keeper.assert_path(&format!("said {number}"), &[&id]);
    }
}

#[test]
fn where_there_are_no_pages() {
    let _watchdog = Watchdog::new("where_there_are_no_pages");
    applause(role("without_pages").spawn().unwrap());
}
