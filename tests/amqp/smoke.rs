//! That there is anything at all: calls there and back, by workers in threads, in this process and in another, and in
//! processes.
//!
//! Not here: what goes wrong. The rule: every result is looked at, and so is who made it.

use concurrent_futures::{AmqpExecutor, AmqpWorker, Error, Executor, as_completed};

use crate::broker::{Broker, Queue, Setup, WorkerProcess, WorkerThread, on_a_channel, shared};
use crate::common::{LIMIT, watchdog};

fn double(n: u64) -> u64 {
    n * 2
}

fn halve(n: u64) -> Result<u64, std::fmt::Error> {
    if n.is_multiple_of(2) { Ok(n / 2) } else { Err(std::fmt::Error) }
}

fn process((): ()) -> u32 {
    std::process::id()
}

pub(crate) fn list(worker: AmqpWorker) -> AmqpWorker {
    worker.register(double).try_register(halve).register(process)
}

fn connect(broker: &Broker, queue: &Queue) -> AmqpExecutor {
    AmqpExecutor::builder().queue(queue).connect(broker.url()).unwrap()
}

/// What the calls of `executor` return; gives the process in which they were made.
fn calls(executor: &AmqpExecutor) -> u32 {
    assert_eq!(executor.submit(double, 21).result().unwrap(), 42);
    let doubled = executor.map(double, 0..100).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(doubled, (0..100).map(|n| n * 2).collect::<Vec<_>>());
    assert_eq!(executor.try_submit(halve, 8).result().unwrap(), 4);
    let refused = executor.try_submit(halve, 7).result();
    assert!(matches!(refused, Err(Error::Raised { .. })), "{refused:?}");
    let mut sum = 0;
    for (n, future) in as_completed((0..10).map(|n| (n, executor.submit(double, n)))) {
        assert_eq!(future.result().unwrap(), n * 2);
        sum += n;
    }
    assert_eq!(sum, 45);
    executor.submit(process, ()).result().unwrap()
}

#[test]
fn a_worker_in_a_thread_makes_calls_in_threads() {
    watchdog("a_worker_in_a_thread_makes_calls_in_threads", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("smoke");
        let worker = WorkerThread::start(&Setup::new(&queue).threads(2), list);
        assert_eq!(calls(&connect(broker, &queue)), std::process::id());
        worker.stop().unwrap();
    });
}

#[test]
fn a_worker_in_a_process_makes_calls_in_processes() {
    watchdog("a_worker_in_a_process_makes_calls_in_processes", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("smoke");
        let worker = WorkerProcess::start(&Setup::new(&queue).processes(2));
        let pid = calls(&connect(broker, &queue));
        assert!(pid != worker.pid() && pid != std::process::id(), "{pid}");
        worker.kill();
    });
}

/// A broker that somebody has given is left as it was.
#[test]
fn a_queue_is_gone_with_its_owner() {
    watchdog("a_queue_is_gone_with_its_owner", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("smoke");
        let name = queue.name().to_owned();
        let is_there = || {
            let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
            let look = async |channel: &lapin::Channel| {
                channel.queue_declare(name.as_str().into(), options, Default::default()).await
            };
            let outcome = on_a_channel(broker.url(), look);
            assert!(
                outcome.is_ok()
                    || outcome.as_ref().is_err_and(|error| error.to_string().contains("NOT_FOUND")),
                "{outcome:?}"
            );
            outcome.is_ok()
        };
        assert!(!is_there());
        let worker = WorkerThread::start(&Setup::new(&queue), list);
        assert!(is_there());
        drop(worker);
        assert!(is_there(), "a queue outlives its workers");
        drop(queue);
        assert!(!is_there());
    });
}

#[test]
fn a_broker_of_ones_own_keeps_its_address_when_it_is_killed() {
    watchdog("a_broker_of_ones_own_keeps_its_address_when_it_is_killed", LIMIT, || {
        let Some(mut broker) = Broker::own() else { return };
        let url = broker.url().to_owned();
        broker.kill();
        assert!(AmqpExecutor::connect(&url).is_err());
        broker.start();
        assert_eq!(broker.url(), url);
        let queue = broker.queue("smoke");
        let _worker = WorkerThread::start(&Setup::new(&queue), list);
        assert_eq!(calls(&connect(&broker, &queue)), std::process::id());
    });
}
