//! Code that does not know its engine: `impl Executor`, `Box<dyn Executor>`, `&E`, `Arc<E>`, and
//! an executor of one's own.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, MapOptions, ProcessPoolExecutor, SerialExecutor, Shutdown, Task, ThreadPoolExecutor,
};

use crate::common::{LIMIT, LONG, Turnstile, alone, watchdog};
use crate::engines::{double, explode, panic_of, pass, processes, refuse_threes, serial, threads};

/// What is here for all compiles for every `E`, and does the same.
fn run<E: Executor>(executor: &E) -> u32 {
    let future = executor.submit(double, 1);
    let sum: Result<u32, Error> = executor.map(double, 1..4).sum();
    let more: Result<u32, Error> =
        executor.map_with(double, 1.., MapOptions::new().buffersize(2)).take(2).sum();
    let raised = executor.try_submit(refuse_threes, 3).result();
    assert!(matches!(raised, Err(Error::Raised { .. })));
    assert_eq!(executor.try_map(refuse_threes, 1..4).filter(Result::is_ok).count(), 2);
    assert_eq!(panic_of(executor.submit(explode, 4).result()).message(), "number 4 exploded");
    future.result().unwrap() + sum.unwrap() + more.unwrap()
}

const RUN: u32 = 2 + 12 + 6;

/// Through every kind of pointer, until the executor is shut down through the last.
fn through_pointers<E: Executor + 'static>(executor: E) {
    assert_eq!(run(&executor), RUN);
    assert_eq!(run(&&executor), RUN);
    let shared = Arc::new(executor);
    assert_eq!(run(&shared), RUN);
    let erased: Arc<dyn Executor> = shared.clone();
    assert_eq!(run(&erased), RUN);
    let boxed: Box<dyn Executor> = Box::new(shared.clone());
    assert_eq!(run(&boxed), RUN);
    let by_reference: &dyn Executor = &*erased;
    assert_eq!(run(&by_reference), RUN);
    assert!(boxed.shutdown_timeout(LONG));
    for refused in [boxed.submit(double, 1), erased.submit(double, 1), Executor::submit(&shared, double, 1)] {
        assert!(matches!(refused.result(), Err(Error::ShutDown { .. })));
    }
}

#[test]
fn threads_work_through_every_pointer() {
    watchdog("threads through pointers", LIMIT, || through_pointers(threads(2)));
}

#[test]
fn processes_work_through_every_pointer() {
    watchdog("processes through pointers", LIMIT, || through_pointers(processes(2)));
}

#[cfg(feature = "amqp")]
#[test]
fn amqp_works_through_every_pointer() {
    crate::amqp::clause("amqp_works_through_every_pointer", || through_pointers(crate::amqp::amqp(2)));
}

#[test]
fn the_serial_executor_works_through_every_pointer() {
    watchdog("serial through pointers", LIMIT, || through_pointers(serial(1)));
}

#[test]
fn the_engine_is_chosen_at_run_time() {
    watchdog("Box<dyn Executor>", LIMIT, || {
        let choose = |name: &str| -> Box<dyn Executor> {
            match name {
                "threads" => Box::new(ThreadPoolExecutor::new(2).unwrap()),
                "processes" => Box::new(ProcessPoolExecutor::new(2).unwrap()),
                _ => Box::new(SerialExecutor::new()),
            }
        };
        let us = std::process::id();
        let pids = ["threads", "processes", "serial"].map(|name| {
            let executor = choose(name);
            assert_eq!(run(&executor), RUN);
            executor.submit(|()| std::process::id(), ()).result().unwrap()
        });
        assert!(pids[0] == us && pids[1] != us && pids[2] == us);
    });
}

/// The pointers forward all that an executor says, not the defaults of the trait.
#[test]
fn pointers_forward_every_way_to_shut_down() {
    watchdog("pointers and shutdown", LIMIT, || {
        let pool: Arc<Box<dyn Executor>> = Arc::new(Box::new(threads(1)));
        let gate = Turnstile::new();
        let (held, queued) = (pool.submit(pass, gate.ticket(1)), pool.submit(double, 2));
        let arrival = gate.arrival();
        assert!(!pool.shutdown_timeout(Duration::ZERO));
        pool.shutdown_with(Shutdown { wait: false, cancel_futures: true });
        assert!(queued.cancelled());
        arrival.release();
        assert!(Executor::shutdown_timeout(&&pool, LONG));
        pool.shutdown();
        assert_eq!(held.result().unwrap(), 1);
    });
}

/// What one who writes an executor needs: the two required methods, and what `Task` can do.
struct ThreadPerTask;

impl Executor for ThreadPerTask {
    fn execute(&self, task: Task) {
        thread::spawn(move || task.run());
    }

    fn shutdown_with(&self, _how: Shutdown) {}
}

struct Refusing;

impl Executor for Refusing {
    fn execute(&self, task: Task) {
        let refused = Error::ShutDown { task: task.task() };
        task.fail(refused);
    }

    fn shutdown_with(&self, _how: Shutdown) {}
}

struct Cancelling;

impl Executor for Cancelling {
    fn execute(&self, task: Task) {
        task.cancel();
    }

    fn shutdown_with(&self, _how: Shutdown) {}
}

struct Forgetful;

impl Executor for Forgetful {
    fn execute(&self, task: Task) {
        drop(task);
    }

    fn shutdown_with(&self, _how: Shutdown) {}
}

#[test]
fn an_executor_of_ones_own_needs_two_methods() {
    watchdog("own executor", LIMIT, || {
        assert_eq!(run(&ThreadPerTask), RUN);
        assert!(!ThreadPerTask.shutdown_timeout(LONG), "the default does not wait, and says so");
    });
}

#[test]
fn a_task_ends_however_its_executor_treats_it() {
    watchdog("tasks end", LIMIT, || {
        let refused = Refusing.submit(double, 1).result().unwrap_err();
        assert!(matches!(&refused, Error::ShutDown { task } if task.name.ends_with("double")), "{refused:?}");
        let cancelled = Cancelling.submit(double, 1);
        assert!(cancelled.cancelled());
        assert!(matches!(cancelled.result(), Err(Error::Cancelled { .. })));
        // Not in the contract of an executor, and still nobody waits for ever.
        let dropped = Forgetful.submit(double, 1);
        let id = dropped.id().to_string();
        let error = dropped.result().unwrap_err();
        assert!(matches!(error, Error::Broken { .. }) && error.to_string().contains(&id), "{error:?}");
        assert!(Forgetful.map(double, 0..3).all(|outcome| matches!(outcome, Err(Error::Broken { .. }))));
    });
}

#[test]
fn a_panic_tells_its_place_also_in_a_serial_executor_by_default() {
    alone(module_path!(), "a_panic_tells_its_place_also_in_a_serial_executor_by_default", || {
        let panic = panic_of(SerialExecutor::default().submit(explode, 1).result());
        assert!(panic.location().is_some_and(|place| place.contains("engines.rs")), "{panic:?}");
    });
}

#[test]
fn a_panic_tells_its_place_also_in_an_executor_of_ones_own() {
    alone(module_path!(), "a_panic_tells_its_place_also_in_an_executor_of_ones_own", || {
        let panic = panic_of(ThreadPerTask.submit(explode, 1).result());
        assert!(panic.location().is_some_and(|place| place.contains("engines.rs")), "{panic:?}");
    });
}
