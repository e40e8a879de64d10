//! Parity T: the thread pool, clause by clause of `tests/PARITY.md`.
//!
//! Not here: what only our thread pools promise (`threads.rs`).

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, ProcessPoolExecutor, ReturnWhen, ThreadPoolExecutor, wait,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::common::{Gate, LIMIT, LONG, Ticket, Turnstile, blocked, watchdog};
use crate::engines::{double, panic_of, pass, threads};

contract!(
    [],
    [t9_many_tasks_that_wait_have_as_many_workers_as_allowed, t11_shutdown_inside_a_worker_returns]
);

#[test]
fn t1_a_pool_of_no_workers_is_refused() {
    let refused = [ThreadPoolExecutor::new(0).unwrap_err(), ProcessPoolExecutor::new(0).unwrap_err()];
    for error in refused {
        assert!(matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains("max_workers"));
    }
}

#[test]
fn t1_the_default_suits_the_cpus_that_may_be_used() {
    let workers = || ThreadPoolExecutor::default().max_workers();
    let usable = thread::available_parallelism().map_or(1, usize::from);
    assert_eq!(workers(), (usable + 4).min(32));
    // Not those of the machine: a thread that may use one has a smaller pool.
    let workers = thread::spawn(move || {
        let all = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        workers()
    });
    assert_eq!(workers.join().unwrap(), 1 + 4);
}

fn name_of_this_thread() -> String {
    thread::current().name().unwrap_or("nameless").to_owned()
}

#[test]
fn t2_threads_are_started_when_they_are_needed_and_no_more_than_allowed() {
    watchdog("threads on demand", LIMIT, || {
        for (tasks, max) in [(0, 3), (1, 3), (2, 3), (3, 3), (8, 3), (5, 1)] {
            // Short: Linux keeps 15 bytes of a name. Unique: tests run side by side.
            let prefix = format!("od{tasks}{max}x");
            let pool =
                ThreadPoolExecutor::builder().max_workers(max).thread_name_prefix(&prefix).build().unwrap();
            let gate = Gate::new();
            let expected = tasks.min(max);
            // All that can run meet here: the workers are there, and busy.
            let meeting = Arc::new(Barrier::new(expected + 1));
            let (tell, told) = mpsc::channel();
            let futures: Vec<_> = (0..tasks)
                .map(|n| {
                    let (meeting, waiter, tell) = (Arc::clone(&meeting), gate.waiter(), tell.clone());
                    pool.spawn(move || {
                        tell.send(name_of_this_thread()).unwrap();
                        if n < expected {
                            meeting.wait();
                        }
                        waiter.wait();
                    })
                })
                .collect();
            meeting.wait();
            let workers = fs::read_dir("/proc/self/task")
                .unwrap()
                .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("comm")).ok())
                .filter(|name| name.starts_with(&format!("{prefix}_")))
                .count();
            assert_eq!(workers, expected, "{tasks} tasks, at most {max} workers");
            gate.open();
            assert!(wait(futures, ReturnWhen::AllCompleted).not_done.is_empty());
            drop((pool, tell));
            let names: HashSet<String> = told.iter().collect();
            assert_eq!(names, (0..expected).map(|n| format!("{prefix}_{n}")).collect());
        }
    });
}

#[test]
fn t5_threads_carry_the_prefix_that_was_given() {
    watchdog("names", LIMIT, || {
        let pool = ThreadPoolExecutor::builder().max_workers(3).thread_name_prefix("fetch").build().unwrap();
        let meeting = Arc::new(Barrier::new(3));
        let names = pool.map(move |_| (meeting.wait(), name_of_this_thread()).1, 0..3);
        let names: HashSet<String> = names.collect::<Result<_, _>>().unwrap();
        assert_eq!(names, ["fetch_0", "fetch_1", "fetch_2"].map(str::to_owned).into());
    });
}

#[test]
fn t5_threads_are_named_after_their_pool_by_default() {
    watchdog("default names", LIMIT, || {
        let names = [threads(1), threads(1)].map(|pool| pool.spawn(name_of_this_thread).result().unwrap());
        assert!(names.iter().all(|name| name.starts_with("ThreadPoolExecutor-") && name.ends_with("_0")));
        assert_ne!(names[0], names[1]);
    });
}

thread_local! {
    static GREETED: Cell<u32> = const { Cell::new(0) };
}

#[test]
fn t6_the_initializer_runs_in_each_thread_before_its_first_task() {
    watchdog("initializer", LIMIT, || {
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        let pool = ThreadPoolExecutor::builder()
            .max_workers(3)
            .initializer(move || {
                GREETED.set(GREETED.get() + 1);
                count.fetch_add(1, Ordering::SeqCst);
            })
            .build()
            .unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 0, "no thread is started before there is a task");
        let meeting = Arc::new(Barrier::new(3));
        let futures: Vec<_> = (0..3)
            .map(|_| {
                let meeting = Arc::clone(&meeting);
                pool.spawn(move || {
                    meeting.wait();
                    GREETED.get()
                })
            })
            .collect();
        assert!(futures.into_iter().all(|future| future.result().unwrap() == 1));
        let more = pool.map(|_| GREETED.get(), 0..50);
        assert!(more.into_iter().all(|outcome| outcome.unwrap() == 1));
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    });
}

/// Broken, because of a panic with that message.
#[track_caller]
fn is_broken_by<T: std::fmt::Debug>(outcome: Result<T, Error>, message: &str) {
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains(message), "{error}");
    let Error::Broken { cause: Some(cause), .. } = error else { panic!("{error:?}") };
    assert_eq!(panic_of::<()>(Err(Error::clone(&cause))).message(), message);
}

#[test]
fn t7_an_initializer_that_fails_breaks_the_pool_for_all_that_is_queued_and_all_that_comes() {
    watchdog("failing initializer", LIMIT, || {
        let gate = Gate::new();
        let waiter = gate.waiter();
        let pool = ThreadPoolExecutor::builder()
            .max_workers(2)
            .initializer(move || {
                waiter.wait();
                panic!("no licence");
            })
            .build()
            .unwrap();
        let queued: Vec<_> = (0..20).map(|n| pool.submit(double, n)).collect();
        let shared = Executor::submit(&pool, double, 1).shared();
        let waiting = shared.clone();
        let waiting = blocked(move || waiting.exception());
        gate.open();
        for future in queued {
            is_broken_by(future.result(), "no licence");
        }
        assert!(waiting.join().unwrap().is_some());
        is_broken_by(pool.submit(double, 1).result(), "no licence");
        for outcome in pool.map(double, 0..3) {
            is_broken_by(outcome, "no licence");
        }
        assert!(pool.shutdown_timeout(LONG));
        // Broken says more than shut down.
        is_broken_by(pool.submit(double, 1).result(), "no licence");
    });
}

#[test]
fn t7_an_initializer_that_fails_in_the_second_thread_lets_the_first_finish_its_task() {
    watchdog("second initializer fails", LIMIT, || {
        let runs = AtomicUsize::new(0);
        let pool = ThreadPoolExecutor::builder()
            .max_workers(2)
            .initializer(move || assert_eq!(runs.fetch_add(1, Ordering::SeqCst), 0, "only one may start"))
            .build()
            .unwrap();
        let gate = Gate::new();
        let (tell, told) = mpsc::channel();
        let waiter = gate.waiter();
        let first = pool.spawn(move || {
            tell.send(()).unwrap();
            waiter.wait();
        });
        told.recv().unwrap();
        let second = pool.spawn(|| ());
        assert!(matches!(second.result(), Err(Error::Broken { .. })));
        assert!(first.running());
        gate.open();
        first.result().unwrap();
    });
}

/// There some of those raise, and some give a future that fails.
#[test]
fn t7_who_submits_while_it_fails_gets_the_same_error() {
    fn race(pool: &impl Executor) {
        let outcomes = thread::scope(|scope| {
            let submitters = [(); 3].map(|()| scope.spawn(|| [(); 50].map(|()| pool.submit(double, 1))));
            submitters.map(|submitter| submitter.join().unwrap().map(Future::result))
        });
        outcomes.into_iter().flatten().for_each(|outcome| is_broken_by(outcome, "no licence"));
    }
    watchdog("submitters and a failing initializer", LIMIT, || {
        let no_licence = |()| panic!("no licence");
        for _ in 0..20 {
            let threads = ThreadPoolExecutor::builder().max_workers(2).initializer(move || no_licence(()));
            race(&threads.build().unwrap());
            let processes = ProcessPoolExecutor::builder().max_workers(2).initializer(no_licence, ());
            race(&processes.build().unwrap());
        }
    });
}

fn pass_and_panic(ticket: Ticket) {
    ticket.pass();
    panic!("no licence");
}

/// There the first cancelled task stops the emptying of the queue, and the rest waits for ever.
fn the_queue_of_a_failed_initializer_ends(pool: &impl Executor, gate: &Turnstile) {
    // The first is what the worker is started for.
    let queued: Vec<_> = (0..6).map(|n| pool.submit(double, n)).collect();
    let arrival = gate.arrival();
    assert!(queued.iter().step_by(2).all(Future::cancel));
    let map = pool.map(double, 0..2);
    arrival.release();
    assert!(wait(&queued, ReturnWhen::AllCompleted).not_done.is_empty());
    for (n, future) in queued.into_iter().enumerate() {
        assert_eq!(future.cancelled(), n % 2 == 0);
        match future.result() {
            Err(Error::Cancelled { .. }) => {}
            outcome => is_broken_by(outcome, "no licence"),
        }
    }
    map.for_each(|outcome| is_broken_by(outcome, "no licence"));
    pool.shutdown();
}

#[test]
fn t8_a_cancelled_task_does_not_keep_the_queue_of_a_failed_initializer_from_ending() {
    watchdog("failing initializer, cancelled task", LIMIT, || {
        let gate = Turnstile::new();
        let ticket = gate.ticket(0);
        let threads =
            ThreadPoolExecutor::builder().max_workers(1).initializer(move || pass_and_panic(ticket));
        the_queue_of_a_failed_initializer_ends(&threads.build().unwrap(), &gate);
        let processes = ProcessPoolExecutor::builder().max_workers(1).initializer(pass_and_panic, ticket);
        the_queue_of_a_failed_initializer_ends(&processes.build().unwrap(), &gate);
    });
}

fn t9_many_tasks_that_wait_have_as_many_workers_as_allowed<E: Executor>(make: impl Fn(usize) -> E) {
    const WORKERS: u32 = 3;
    let executor = make(WORKERS as usize);
    let gate = Turnstile::new();
    let futures: Vec<_> = (0..15 * WORKERS).map(|n| executor.submit(pass, gate.ticket(n))).collect();
    let mut held = gate.arrivals(WORKERS as usize);
    let mut workers: HashSet<String> = held.iter().map(|arrival| arrival.who.clone()).collect();
    assert_eq!(workers.len(), WORKERS as usize, "they are held: each has a worker of its own");
    for _ in WORKERS..15 * WORKERS {
        held.pop();
        let arrival = gate.arrival();
        workers.insert(arrival.who.clone());
        held.push(arrival);
    }
    assert_eq!(workers.len(), WORKERS as usize, "{workers:?}");
    drop(held);
    assert!((0..).zip(futures).all(|(n, future)| future.result().is_ok_and(|value| value == n)));
}

/// A callback runs in a worker of the executor, which cannot wait for itself.
fn t11_shutdown_inside_a_worker_returns<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = Arc::new(make(1));
    let gate = Turnstile::new();
    let future = executor.submit(pass, gate.ticket(1));
    let queued = executor.submit(double, 2);
    let (tell, told) = mpsc::channel();
    let inside = Arc::clone(&executor);
    future.add_done_callback(move |_| {
        inside.shutdown();
        let all_ended = inside.shutdown_timeout(LONG);
        tell.send((thread::current().id(), all_ended)).unwrap();
    });
    gate.arrival().release();
    let (thread, all_ended) = told.recv().unwrap();
    assert_ne!(thread, thread::current().id());
    assert!(!all_ended, "the worker that asks has not ended");
    assert_eq!((future.result().unwrap(), queued.result().unwrap()), (1, 4));
    // From outside it does wait.
    executor.shutdown();
}

/// A task may use its pool: submit to it, and end it.
#[test]
fn t11_a_task_may_submit_to_its_pool_and_shut_it_down() {
    watchdog("inside the pool", LIMIT, || {
        let pool = Arc::new(threads(2));
        let inside = Arc::clone(&pool);
        let future = pool.spawn(move || {
            let nested = inside.submit(double, 2);
            inside.shutdown();
            assert!(!inside.shutdown_timeout(Duration::ZERO));
            nested.result().unwrap()
        });
        assert_eq!(future.result().unwrap(), 4);
        pool.shutdown();
    });
}

/// What a worker keeps for itself while it lives.
struct State {
    made_in: ThreadId,
    tasks: u32,
    tell: mpsc::Sender<(ThreadId, u32)>,
}

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

impl Drop for State {
    fn drop(&mut self) {
        assert_eq!(self.made_in, thread::current().id());
        self.tell.send((self.made_in, self.tasks)).unwrap();
    }
}

/// Set up, used, and torn down in the worker, before the shutdown returns.
#[test]
fn t12_a_worker_has_state_of_its_own_for_as_long_as_it_lives() {
    watchdog("state of a worker", LIMIT, || {
        let (tell, told) = mpsc::channel();
        let initializer = move || {
            let state = State { made_in: thread::current().id(), tasks: 0, tell: tell.clone() };
            STATE.set(Some(state));
        };
        let pool = ThreadPoolExecutor::builder().max_workers(2).initializer(initializer).build().unwrap();
        let meeting = Arc::new(Barrier::new(2));
        let tasks = pool.map(
            move |n| {
                STATE.with_borrow_mut(|state| state.as_mut().unwrap().tasks += 1);
                if n < 2 {
                    meeting.wait();
                }
            },
            0..20,
        );
        assert_eq!(tasks.filter(Result::is_ok).count(), 20);
        assert!(told.try_recv().is_err(), "it lives as long as its worker");
        pool.shutdown();
        let states: Vec<_> = told.try_iter().collect();
        assert_eq!(states.len(), 2);
        assert_eq!(states.iter().map(|(_, tasks)| tasks).sum::<u32>(), 20);
    });
}

/// Is dropped when its thread has run its last task: does what it is to do then.
struct AtTheEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        self.0.take().unwrap()();
    }
}

thread_local! {
    static AT_THE_END: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
}

fn at_the_end(what: impl FnOnce() + 'static) {
    AT_THE_END.set(Some(AtTheEnd(Some(Box::new(what)))));
}

#[test]
fn t12_every_shutdown_waits_for_that_state_but_none_beyond_its_limit() {
    watchdog("slow state", LIMIT, || {
        let pool = Arc::new(threads(1));
        let gate = Gate::new();
        let over = Arc::new(AtomicUsize::new(0));
        let (waiter, count) = (gate.waiter(), Arc::clone(&over));
        let end = move || {
            waiter.wait();
            count.fetch_add(1, Ordering::SeqCst);
        };
        ThreadPoolExecutor::spawn(&pool, move || at_the_end(end)).result().unwrap();
        assert!(pool.shutdown_timeout(LONG), "every task has ended");
        let shutdowns = [(), ()].map(|()| {
            let (ending, over) = (Arc::clone(&pool), Arc::clone(&over));
            blocked(move || {
                ending.shutdown();
                over.load(Ordering::SeqCst)
            })
        });
        assert!(shutdowns.iter().all(|shutdown| !shutdown.is_finished()));
        gate.open();
        assert_eq!(shutdowns.map(|shutdown| shutdown.join().unwrap()), [1, 1]);
    });
}

#[test]
fn t11_shutdown_at_the_end_of_a_worker_returns() {
    watchdog("shutdown by a thread-local", LIMIT, || {
        let pool = Arc::new(threads(1));
        let (tell, told) = mpsc::channel();
        let ending = Arc::clone(&pool);
        let end = move || {
            ending.shutdown();
            tell.send(ending.shutdown_timeout(LONG)).unwrap();
        };
        ThreadPoolExecutor::spawn(&pool, move || at_the_end(end)).result().unwrap();
        pool.shutdown();
        assert!(!told.recv().unwrap(), "the worker that asks has not ended");
    });
}
