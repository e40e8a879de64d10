//! Messages that vanish while somebody waits: what is lost is sent again, and what a worker has is not.
//!
//! Not here: messages of which the broker, or a lost connection, tells that they are gone (`faults.rs`). The rule: time that
//! has to pass is seen by what is done in it, in another queue.

use std::time::Duration;

use concurrent_futures::{AmqpExecutor, AmqpWorker, Error, Executor, Future};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::broker::{Broker, Queue, Setup, WorkerThread, on_a_channel, shared};
use crate::common::{Journal, LIMIT, Page, Ticket, Turnstile, watchdog};
use crate::forged::next;

fn tripled(n: u64) -> u64 {
    n * 3
}

/// Says that it was begun, and is held.
fn noted((ticket, page): (Ticket, Page)) -> u32 {
    page.note(ticket.number);
    ticket.pass()
}

pub(crate) fn list(worker: AmqpWorker) -> AmqpWorker {
    worker.register(tripled).register(noted)
}

fn connect(broker: &Broker, queue: &Queue) -> AmqpExecutor {
    let soon = Duration::from_secs(6);
    AmqpExecutor::builder().queue(queue).resend_after(soon).connect(broker.url()).unwrap()
}

fn purge(broker: &Broker, queue: &Queue) -> u32 {
    let purged = on_a_channel(broker.url(), async |channel| {
        channel.queue_purge(queue.name().into(), QueuePurgeOptions::default()).await
    });
    purged.unwrap()
}

fn delete_and_make(broker: &Broker, queue: &Queue) -> u32 {
    let deleted = on_a_channel(broker.url(), async |channel| {
        let deleted = channel.queue_delete(queue.name().into(), QueueDeleteOptions::default()).await?;
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(queue.name().into(), options, arguments).await?;
        Ok(deleted)
    });
    deleted.unwrap()
}

/// What lies in the queue goes, as somebody has it go, before there is a worker.
fn queue_loses_all(name: &str, lose: fn(&Broker, &Queue) -> u32) {
    watchdog(name, LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("lost");
        let executor = connect(broker, &queue);
        let futures: Vec<_> = (0..10).map(|n| executor.submit(tripled, n)).collect();
        queue.wait_for(10);
        assert_eq!(lose(broker, &queue), 10);
        queue.wait_for(10);
        assert!(!futures.iter().any(Future::done));
        let _worker = WorkerThread::start(&Setup::new(&queue), list);
        for (n, future) in (0..).zip(futures) {
            assert_eq!(future.result().unwrap(), n * 3);
        }
    });
}

#[test]
fn calls_that_were_purged_are_sent_again() {
    queue_loses_all("calls_that_were_purged_are_sent_again", purge);
}

#[test]
fn calls_whose_queue_was_deleted_and_made_anew_are_sent_again() {
    queue_loses_all("calls_whose_queue_was_deleted_and_made_anew_are_sent_again", delete_and_make);
}

#[test]
fn a_call_that_somebody_took_and_did_not_answer_is_sent_again() {
    watchdog("a_call_that_somebody_took_and_did_not_answer_is_sent_again", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("taken");
        let executor = connect(broker, &queue);
        let future = executor.submit(tripled, 14);
        let (taken, again) = (next(broker, queue.name(), false), next(broker, queue.name(), true));
        assert_eq!(taken, again, "the same message");
        let _worker = WorkerThread::start(&Setup::new(&queue), list);
        assert_eq!(future.result().unwrap(), 42);
    });
}

#[test]
fn what_a_worker_has_for_long_is_not_sent_again() {
    watchdog("what_a_worker_has_for_long_is_not_sent_again", LIMIT, || {
        let Some(broker) = shared() else { return };
        let (queue, other) = (broker.queue("held"), broker.queue("witness"));
        let (journal, turnstile) = (Journal::new(), Turnstile::new());
        let _first = WorkerThread::start(&Setup::new(&queue), list);
        let executor = connect(broker, &queue);
        // One runs, one waits behind it at the same worker.
        let call = |number| executor.submit(noted, (turnstile.ticket(number), journal.page()));
        let running = call(0);
        let held = turnstile.arrival();
        let waiting = call(1);
        queue.wait_for(0);
        // Whatever is sent again is made at once.
        let _second = WorkerThread::start(&Setup::new(&queue), list);
        // What was sent later is lost, and sent again, and lost.
        let witness = connect(broker, &other);
        let lost = witness.submit(tripled, 14);
        for _ in 0..2 {
            other.wait_for(1);
            assert_eq!(purge(broker, &other), 1);
        }
        other.wait_for(1);
        let _last = WorkerThread::start(&Setup::new(&other), list);
        assert_eq!(lost.result().unwrap(), 42);
        let begun = journal.lines();
        held.release();
        drop(turnstile);
        assert_eq!((running.result().unwrap(), waiting.result().unwrap()), (0, 1));
        assert_eq!(begun, ["0"], "each is with the worker that has it");
        assert_eq!(journal.lines(), ["0", "1"]);
    });
}

#[test]
fn a_time_in_which_no_worker_can_say_anything_is_refused() {
    watchdog("a_time_in_which_no_worker_can_say_anything_is_refused", LIMIT, || {
        let Some(broker) = shared() else { return };
        let builder = AmqpExecutor::builder().queue(&broker.queue("hasty"));
        let error = builder.resend_after(Duration::from_secs(5)).connect(broker.url()).unwrap_err();
        assert!(
            matches!(&error, Error::InvalidArgument { what, remedy } if what.contains("resend_after is 5s") && remedy.contains("6s")),
            "{error}"
        );
    });
}
