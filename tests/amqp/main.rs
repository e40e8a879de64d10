//! Calls on other machines, against a real broker (feature `amqp`).
//!
//! Without AMQP_URL nothing here is run, and a line says so. `eval "$(bash scripts/rabbitmq.sh start)"` gives one.
//!
//! Not here: what every executor owes (`tests/contract`, which has an AMQP engine). The rule: a test has a queue of its own;
//! one that stops, kills or fills a broker has a broker of its own.

concurrent_futures::init_tests!();

#[path = "../common/broker.rs"]
mod broker;
#[path = "../common/mod.rs"]
mod common;

mod faults;
mod forged;
mod hosts;
mod lost;
mod proxy;
mod refusals;
mod smoke;
mod tally;
mod worker;

use concurrent_futures::AmqpWorker;

/// What the workers of these tests can do.
fn list(worker: AmqpWorker) -> AmqpWorker {
    let lists = [
        smoke::list,
        faults::list,
        forged::list,
        hosts::list,
        lost::list,
        refusals::list,
        tally::list,
        worker::list,
    ];
    lists.iter().fold(worker, |worker, list| list(worker))
}

/// No test: where a copy of this program begins that is a worker.
#[test]
fn worker_entry() {
    broker::worker_entry(list);
}
