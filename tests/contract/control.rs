//! Control over the workers of a pool while it works: how many there are, who is told of them, where they run.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity};

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Shutdown, ThreadPoolExecutor, WorkerInfo};

use crate::common::{Journal, LIMIT, Page, Ticket, Turnstile, watchdog};
use crate::engines::{OnRequest, Wishes, double, pass, processes, threads, until, workers};

on_request!(
    a_pool_that_grows_starts_workers_for_what_waits,
    idle_workers_leave_at_once_when_there_are_to_be_fewer,
    busy_workers_leave_after_their_task,
    there_is_at_least_one_worker,
    a_pool_that_is_shut_down_can_still_grow,
    no_call_is_lost_while_the_number_of_workers_changes,
    workers_leave_for_either_reason,
);

trait Resizes: OnRequest {
    fn resize(&self, max_workers: usize) -> Result<(), Error>;
    fn most(&self) -> usize;
}

impl Resizes for ThreadPoolExecutor {
    fn resize(&self, max_workers: usize) -> Result<(), Error> {
        self.set_max_workers(max_workers)
    }

    fn most(&self) -> usize {
        self.max_workers()
    }
}

impl Resizes for ProcessPoolExecutor {
    fn resize(&self, max_workers: usize) -> Result<(), Error> {
        self.set_max_workers(max_workers)
    }

    fn most(&self) -> usize {
        self.max_workers()
    }
}

fn pool<E: OnRequest>(max_workers: usize) -> E {
    E::made(Wishes { max_workers, ..Wishes::default() }).unwrap()
}

fn a_pool_that_grows_starts_workers_for_what_waits<E: Resizes>() {
    let pool: E = pool(1);
    let gate = Turnstile::new();
    let futures = [0, 1, 2, 3].map(|n| pool.submit(pass, gate.ticket(n)));
    let first = gate.arrival();
    pool.resize(3).unwrap();
    assert_eq!(pool.most(), 3);
    let mut others = gate.arrivals(2);
    assert_eq!(workers(&pool), 3);
    others.push(first);
    drop(others);
    drop(gate.arrival());
    assert_eq!(futures.map(|future| future.result().unwrap()), [0, 1, 2, 3]);
}

fn idle_workers_leave_at_once_when_there_are_to_be_fewer<E: Resizes>() {
    let pool: E = pool(3);
    let gate = Turnstile::new();
    let futures = [0, 1, 2].map(|n| pool.submit(pass, gate.ticket(n)));
    drop(gate.arrivals(3));
    futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
    assert_eq!(workers(&pool), 3);
    pool.resize(1).unwrap();
    until(|| workers(&pool) == 1);
    assert_eq!(pool.most(), 1);
    assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
    pool.resize(2).unwrap();
    let futures = [0, 1].map(|n| pool.submit(pass, gate.ticket(n)));
    drop(gate.arrivals(2));
    futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
}

fn busy_workers_leave_after_their_task<E: Resizes>() {
    let pool: E = pool(3);
    let gate = Turnstile::new();
    let futures: Vec<_> = (0..6).map(|n| pool.submit(pass, gate.ticket(n))).collect();
    let mut held = gate.arrivals(3);
    pool.resize(1).unwrap();
    assert_eq!(workers(&pool), 3, "nothing is interrupted");
    held.pop().unwrap().release();
    until(|| workers(&pool) == 2);
    held.pop().unwrap().release();
    until(|| workers(&pool) == 1);
    held.pop().unwrap().release();
    for _ in 0..3 {
        let next = gate.arrival();
        assert_eq!(workers(&pool), 1);
        next.release();
    }
    let numbers: Vec<u32> = futures.into_iter().map(|future| future.result().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
}

fn there_is_at_least_one_worker<E: Resizes>() {
    let pool: E = pool(2);
    let error = pool.resize(0).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains("max_workers"));
    assert_eq!(pool.most(), 2);
    assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
}

fn a_pool_that_is_shut_down_can_still_grow<E: Resizes>() {
    let pool: E = pool(1);
    let gate = Turnstile::new();
    let futures = [0, 1, 2].map(|n| pool.submit(pass, gate.ticket(n)));
    let first = gate.arrival();
    pool.shutdown_with(Shutdown { wait: false, cancel_futures: false });
    pool.resize(3).unwrap();
    drop(gate.arrivals(2));
    drop(first);
    assert_eq!(futures.map(|future| future.result().unwrap()), [0, 1, 2]);
    pool.shutdown();
    pool.resize(1).unwrap();
    assert_eq!(workers(&pool), 0);
    assert!(matches!(pool.submit(double, 1).result(), Err(Error::ShutDown { .. })));
}

fn no_call_is_lost_while_the_number_of_workers_changes<E: Resizes>() {
    let pool = Arc::new(pool::<E>(2));
    let is_over = Arc::new(AtomicBool::new(false));
    let resizer = thread::spawn({
        let (pool, is_over) = (Arc::clone(&pool), Arc::clone(&is_over));
        move || {
            for n in (1..=4).chain([2, 3]).cycle() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                pool.resize(n).unwrap();
                thread::yield_now();
            }
        }
    });
    // One at a time, which a process pool does in the place of its worker; many at a time; and as a map.
    for n in 0..E::MANY {
        assert_eq!(pool.submit(double, n).result().unwrap(), 2 * n);
    }
    let futures: Vec<_> = (0..E::MANY).map(|n| pool.submit(double, n)).collect();
    for (n, future) in (0..).zip(futures) {
        assert_eq!(future.result().unwrap(), 2 * n);
    }
    let doubles: Vec<u32> = Executor::map(&*pool, double, 0..10 * E::MANY).map(Result::unwrap).collect();
    assert!(doubles.into_iter().eq((0..10 * E::MANY).map(|n| 2 * n)));
    is_over.store(true, Ordering::Relaxed);
    resizer.join().unwrap();
    pool.resize(1).unwrap();
    until(|| workers(&*pool) == 1);
    assert_eq!(pool.submit(double, 4).result().unwrap(), 8);
}

fn workers_leave_for_either_reason<E: Resizes>() {
    let idle_timeout = Some(Duration::from_millis(1));
    let pool = E::made(Wishes { max_workers: 1, idle_timeout, ..Wishes::default() }).unwrap();
    for n in [4, 1, 3] {
        pool.resize(n).unwrap();
        let gate = Turnstile::new();
        let futures: Vec<_> = (0..n as u32).map(|n| pool.submit(pass, gate.ticket(n))).collect();
        drop(gate.arrivals(n));
        futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
        until(|| workers(&pool) == 0);
    }
}

/// One that waits for a call of its pool is not counted, before and after.
#[test]
fn a_pool_shrinks_below_those_who_wait_inside_of_it() {
    watchdog("shrinks below those who wait", LIMIT, || {
        let pool = Arc::new(threads(3));
        let gate = Turnstile::new();
        let outer: Vec<_> = (0..3)
            .map(|n| {
                let (pool, ticket) = (Arc::clone(&pool), gate.ticket(n));
                pool.clone().spawn(move || {
                    pass(ticket);
                    // With a limit it sleeps, and another stands in.
                    let mut inner = pool.submit(double, n);
                    inner.result_timeout(LIMIT).unwrap()
                })
            })
            .collect();
        let held = gate.arrivals(3);
        pool.set_max_workers(1).unwrap();
        drop(held);
        let numbers: Vec<u32> = outer.into_iter().map(|future| future.result().unwrap()).collect();
        assert_eq!(numbers, [0, 2, 4]);
        until(|| workers(&*pool) == 1);
    });
}

#[test]
fn a_worker_process_that_leaves_takes_its_process_with_it() {
    watchdog("takes its process with it", LIMIT, || {
        let pool = processes(2);
        let gate = Turnstile::new();
        let futures = [0, 1].map(|n| pool.submit(pass, gate.ticket(n)));
        drop(gate.arrivals(2));
        futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
        assert_eq!(pool.worker_pids().len(), 2);
        pool.set_max_workers(1).unwrap();
        until(|| workers(&pool) == 1);
        assert_eq!(pool.worker_pids().len(), 1);
    });
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, word: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.starts_with(word)).count()
    }
}

/// How the thread of a worker is named, and the worker itself.
fn both(worker: &WorkerInfo) -> String {
    assert_eq!(thread::current().name(), Some(&*worker.name));
    assert!(worker.name.ends_with(&format!("_{}", worker.number)) && worker.pid.is_none());
    worker.name.clone()
}

fn logged_threads(log: &Log) -> concurrent_futures::ThreadPoolBuilder {
    let (up, ready, down) = (log.clone(), log.clone(), log.clone());
    ThreadPoolExecutor::builder()
        .max_workers(1)
        .thread_name_prefix("logged")
        .on_worker_start(move |worker| up.note(format!("start {}", both(worker))))
        .initializer(move || ready.note("initializer"))
        .on_worker_exit(move |worker| down.note(format!("exit {}", both(worker))))
}

#[test]
fn a_thread_tells_when_it_starts_and_when_it_ends() {
    watchdog("thread hooks", LIMIT, || {
        let log = Log::default();
        let pool = logged_threads(&log).build().unwrap();
        assert_eq!(log.lines().len(), 0);
        let inner = log.clone();
        pool.spawn(move || inner.note("task")).result().unwrap();
        pool.shutdown();
        assert_eq!(log.lines(), ["start logged_0", "initializer", "task", "exit logged_0"]);
    });
}

#[test]
fn a_thread_tells_of_its_end_whatever_the_reason() {
    watchdog("thread hooks, any reason", LIMIT, || {
        // Idle.
        let log = Log::default();
        let pool = logged_threads(&log).idle_timeout(Duration::ZERO).build().unwrap();
        pool.submit(double, 1).result().unwrap();
        until(|| log.count("exit") == 1);
        pool.submit(double, 1).result().unwrap();
        drop(pool);
        assert_eq!((log.count("start"), log.count("exit")), (2, 2));
        // One too many.
        let log = Log::default();
        let pool = logged_threads(&log).max_workers(2).build().unwrap();
        let gate = Turnstile::new();
        let futures = [0, 1].map(|n| pool.submit(pass, gate.ticket(n)));
        drop(gate.arrivals(2));
        futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
        pool.set_max_workers(1).unwrap();
        until(|| log.count("exit") == 1);
        drop(pool);
        assert_eq!(log.count("exit"), 2);
        // Broken by the initializer.
        let log = Log::default();
        let pool = logged_threads(&log).initializer(|| panic!("no licence")).build().unwrap();
        assert!(matches!(pool.submit(double, 1).result(), Err(Error::Broken { .. })));
        drop(pool);
        assert_eq!(log.lines(), ["start logged_0", "exit logged_0"]);
    });
}

#[test]
fn a_hook_that_panics_harms_nobody() {
    watchdog("hooks that panic", LIMIT, || {
        let pool = ThreadPoolExecutor::builder()
            .max_workers(2)
            .idle_timeout(Duration::ZERO)
            .on_worker_start(|_| panic!("a start hook that panics"))
            .on_worker_exit(|_| panic!("an exit hook that panics"))
            .build()
            .unwrap();
        assert!((0..20).all(|n| pool.submit(double, n).result().unwrap() == 2 * n));
        drop(pool);
        let pool = ProcessPoolExecutor::builder()
            .max_workers(1)
            .max_tasks_per_child(1)
            .on_worker_start(|_| panic!("a start hook that panics"))
            .on_worker_exit(|_, _| panic!("an exit hook that panics"))
            .finalizer(|()| panic!("a finalizer that panics"), ())
            .build()
            .unwrap();
        assert!((0..3).all(|n| pool.submit(double, n).result().unwrap() == 2 * n));
    });
}

/// A worker that says good-bye takes no task, and others may come in its place.
#[test]
fn a_hook_may_use_its_own_pool() {
    watchdog("a hook that uses its own pool", LIMIT, || {
        let own = Arc::new(OnceLock::<Arc<ThreadPoolExecutor>>::new());
        let log = Log::default();
        let (seen, of_start, of_exit) = (log.clone(), Arc::clone(&own), Arc::clone(&own));
        let pool = ThreadPoolExecutor::builder()
            .max_workers(1)
            .idle_timeout(Duration::ZERO)
            .on_worker_start(move |worker| {
                if worker.number == 0 {
                    let pool = of_start.get().expect("it is there before its workers");
                    assert_eq!(pool.submit(double, 3).result().unwrap(), 6);
                }
            })
            .on_worker_exit(move |worker| {
                let pool = of_exit.get().expect("it is there before its workers");
                if worker.number == 0 {
                    assert_eq!(pool.submit(double, 4).result().unwrap(), 8);
                    // It would wait for itself.
                    pool.shutdown();
                    seen.note("exit of the first");
                }
            })
            .build()
            .unwrap();
        let pool = Arc::clone(own.get_or_init(|| Arc::new(pool)));
        assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
        until(|| log.count("exit of the first") == 1);
        pool.shutdown();
        assert_eq!(workers(&*pool), 0);
    });
}

fn logged_processes(log: &Log) -> concurrent_futures::ProcessPoolBuilder {
    let (up, down) = (log.clone(), log.clone());
    ProcessPoolExecutor::builder()
        .max_workers(1)
        .name("logged")
        .on_worker_start(move |worker| up.note(format!("start {} {}", worker.name, worker.pid.unwrap())))
        .on_worker_exit(move |worker, status| {
            let how = match status.map(|status: ExitStatus| (status.code(), status.signal())) {
                Some((Some(0), None)) => "well".into(),
                other => format!("{other:?}"),
            };
            down.note(format!("exit {} {} {how}", worker.name, worker.pid.unwrap()));
        })
}

fn pid(_: ()) -> u32 {
    std::process::id()
}

#[test]
fn the_host_is_told_of_worker_processes() {
    watchdog("process hooks", LIMIT, || {
        let log = Log::default();
        let pool = logged_processes(&log).build().unwrap();
        let first = pool.submit(pid, ()).result().unwrap();
        assert_eq!(log.lines(), [format!("start logged_0 {first}")]);
        let error = pool.submit(|()| std::process::exit(3), ()).result().map(|(): ()| ()).unwrap_err();
        assert!(matches!(error, Error::WorkerDied { .. }));
        let second = pool.submit(pid, ()).result().unwrap();
        pool.shutdown();
        let expected = [
            format!("start logged_0 {first}"),
            format!("exit logged_0 {first} Some((Some(3), None))"),
            format!("start logged_0 {second}"),
            format!("exit logged_0 {second} well"),
        ];
        assert_eq!(log.lines(), expected);
    });
}

#[test]
fn the_host_is_told_of_the_end_of_processes_whatever_the_reason() {
    watchdog("process hooks, any reason", LIMIT, || {
        // Used up.
        let log = Log::default();
        let pool = logged_processes(&log).max_tasks_per_child(1).build().unwrap();
        (0..3).for_each(|n| assert_eq!(pool.submit(double, n).result().unwrap(), 2 * n));
        drop(pool);
        assert_eq!((log.count("start"), log.count("exit")), (3, 3));
        // Killed.
        let log = Log::default();
        let pool = logged_processes(&log).build().unwrap();
        let gate = Turnstile::new();
        let held = pool.submit(pass, gate.ticket(0));
        let _arrival = gate.arrival();
        pool.kill_workers();
        assert!(held.result().is_err());
        drop(pool);
        assert_eq!(log.count("start"), 1);
        assert!(log.lines()[1].ends_with("Some((None, Some(9)))"), "{:?}", log.lines());
        // Its initializer fails.
        let log = Log::default();
        let pool = logged_processes(&log).initializer(|()| panic!("no licence"), ()).build().unwrap();
        assert!(matches!(pool.submit(double, 1).result(), Err(Error::Broken { .. })));
        drop(pool);
        assert_eq!((log.count("start"), log.count("exit")), (1, 1));
    });
}

fn sign_off(page: Page) {
    page.note(std::process::id());
}

#[test]
fn a_finalizer_runs_in_each_worker_that_ends_in_good_order() {
    watchdog("finalizers", LIMIT, || {
        let journal = Journal::new();
        let builder = || ProcessPoolExecutor::builder().max_workers(2).finalizer(sign_off, journal.page());
        let mut pids = Vec::new();
        // Shutdown, and one too many.
        let pool = builder().build().unwrap();
        let gate = Turnstile::new();
        let futures = [0, 1].map(|n| pool.submit(pass, gate.ticket(n)));
        drop(gate.arrivals(2));
        futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
        pids.extend(pool.worker_pids());
        pool.set_max_workers(1).unwrap();
        until(|| journal.lines().len() == 1);
        // (One that has called from the berth.)
        (0..100).for_each(|n| assert_eq!(pool.submit(double, n).result().unwrap(), 2 * n));
        drop(pool);
        // Idle.
        let pool = builder().idle_timeout(Duration::from_millis(1)).build().unwrap();
        pids.push(pool.submit(pid, ()).result().unwrap());
        until(|| workers(&pool) == 0);
        // Used up.
        let pool = builder().max_tasks_per_child(1).build().unwrap();
        pids.push(pool.submit(pid, ()).result().unwrap());
        drop(pool);
        let mut signed: Vec<u32> = journal.lines().iter().map(|line| line.parse().unwrap()).collect();
        signed.sort_unstable();
        pids.sort_unstable();
        assert_eq!(signed, pids);
    });
}

#[test]
fn a_finalizer_does_not_run_in_a_worker_that_ends_otherwise() {
    watchdog("no finalizers", LIMIT, || {
        let journal = Journal::new();
        let builder = || ProcessPoolExecutor::builder().max_workers(1).finalizer(sign_off, journal.page());
        let pool = builder().build().unwrap();
        assert!(pool.submit(|()| std::process::abort(), ()).result().map(|(): ()| ()).is_err());
        pool.submit(double, 1).result().unwrap();
        pool.kill_workers();
        drop(pool);
        // Idle ones, which leave when the pool is shut down, are not to leave before they are ended.
        for end in [ProcessPoolExecutor::kill_workers, ProcessPoolExecutor::terminate_workers] {
            let gate = Turnstile::new();
            let pool = builder().max_workers(8).build().unwrap();
            let futures = [0; 8].map(|n| pool.submit(pass, gate.ticket(n)));
            drop(gate.arrivals(8));
            futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
            end(&pool);
            drop(pool);
        }
        let pool = builder().initializer(|()| panic!("no licence"), ()).build().unwrap();
        assert!(pool.submit(double, 1).result().is_err());
        drop(pool);
        let pool = builder().grace_period(Duration::ZERO).build().unwrap();
        pool.submit(double, 1).result().unwrap();
        drop(pool);
        assert_eq!(journal.lines(), [""; 0]);
    });
}

#[test]
fn a_finalizer_without_end_is_ended() {
    watchdog("a finalizer without end", LIMIT, || {
        fn never(_: ()) {
            loop {
                thread::park();
            }
        }
        let log = Log::default();
        let pool = logged_processes(&log)
            .finalizer(never, ())
            .grace_period(Duration::from_millis(20))
            .build()
            .unwrap();
        pool.submit(double, 1).result().unwrap();
        drop(pool);
        assert!(log.lines()[1].ends_with("Some((None, Some(9)))"), "{:?}", log.lines());
    });
}

/// A worker that says good-bye for long holds up nobody but those who need its place.
#[test]
fn others_work_while_one_says_good_bye() {
    watchdog("one says good-bye", LIMIT, || {
        fn pass_on(ticket: Ticket) {
            ticket.pass();
        }
        let gate = Turnstile::new();
        let farewell = Turnstile::new();
        let builder = ProcessPoolExecutor::builder().max_workers(3).grace_period(2 * LIMIT);
        let pool = builder.finalizer(pass_on, farewell.ticket(7)).build().unwrap();
        let futures = [0, 1, 2].map(|n| pool.submit(pass, gate.ticket(n)));
        drop(gate.arrivals(3));
        futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
        pool.set_max_workers(2).unwrap();
        let leaving = farewell.arrival();
        let futures = [0, 1].map(|n| pool.submit(pass, gate.ticket(n)));
        drop(gate.arrivals(2));
        futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
        assert_eq!(workers(&pool), 3, "it is still there");
        // It counts until it is gone, then another comes for what waits.
        pool.set_max_workers(3).unwrap();
        let futures = [0, 1, 2].map(|n| pool.submit(pass, gate.ticket(n)));
        let held = gate.arrivals(2);
        assert_eq!(workers(&pool), 3);
        leaving.release();
        drop(gate.arrival());
        drop(held);
        futures.into_iter().for_each(|future| assert!(future.result().is_ok()));
        drop(farewell);
    });
}

/// The CPUs that this thread may run on.
fn affinity() -> Vec<usize> {
    let cpus = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)).collect()
}

fn pass_and_tell(ticket: Ticket) -> Vec<usize> {
    ticket.pass();
    affinity()
}

fn check_pins<E: OnRequest>(pool: &E, max_workers: u32) {
    let usable = affinity();
    let gate = Turnstile::new();
    let futures: Vec<_> = (0..max_workers).map(|n| pool.submit(pass_and_tell, gate.ticket(n))).collect();
    drop(gate.arrivals(max_workers as usize));
    let mut workers_on = HashMap::<usize, usize>::new();
    for future in futures {
        let cpus = future.result().unwrap();
        assert!(cpus.len() == 1 && usable.contains(&cpus[0]), "{cpus:?} of {usable:?}");
        *workers_on.entry(cpus[0]).or_default() += 1;
    }
    let count = |cpu| workers_on.get(cpu).copied().unwrap_or(0);
    let (fewest, most) = (usable.iter().map(count).min(), usable.iter().map(count).max());
    assert!(most.unwrap() - fewest.unwrap() <= 1, "{workers_on:?} of {usable:?}");
    assert_eq!(affinity(), usable, "nobody else is bound");
}

#[test]
fn workers_are_bound_to_a_cpu_each_if_asked_to() {
    watchdog("pinning", LIMIT, || {
        let count = affinity().len() + 1;
        let max_workers = u32::try_from(count.min(9)).unwrap();
        let pool = ThreadPoolExecutor::builder().max_workers(max_workers as usize).pin_workers(true);
        check_pins(&pool.build().unwrap(), max_workers);
        let pool = ProcessPoolExecutor::builder().max_workers(max_workers as usize).pin_workers(true);
        check_pins(&pool.build().unwrap(), max_workers);
    });
}

#[test]
fn workers_are_bound_nowhere_unless_asked_to() {
    watchdog("no pinning", LIMIT, || {
        let usable = affinity();
        assert_eq!(threads(1).submit(|()| affinity(), ()).result().unwrap(), usable);
        assert_eq!(processes(1).submit(|()| affinity(), ()).result().unwrap(), usable);
    });
}

/// The process that takes the place of another runs on its CPU.
#[test]
fn a_process_that_replaces_another_is_bound_too() {
    watchdog("pinning of a replacement", LIMIT, || {
        let pool = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(1).pin_workers(true);
        let pool = pool.build().unwrap();
        let cpus = [(); 2].map(|()| pool.submit(|()| affinity(), ()).result().unwrap());
        assert!(cpus[0].len() == 1 && cpus[0] == cpus[1], "{cpus:?}");
    });
}
