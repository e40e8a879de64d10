//! Workers that are told to stop, killed, cut off, and given what they cannot make; attempts, deaths, calls that take long.
//!
//! Not here: what becomes of a delivery in each order of events (`src/amqp/bench/tests.rs`). The rule: a test sees a call
//! arrive before it does something to its worker.

use std::time::Duration;

use concurrent_futures::{AmqpExecutor, AmqpWorker, Blob, Error, Executor, Future, TaskOptions, task};
use lapin::options::BasicGetOptions;
use lapin::types::AMQPValue;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::broker::{Broker, Queue, Setup, WorkerProcess, WorkerThread, on_a_channel, shared};
use crate::common::{Arrival, Journal, LIMIT, Page, Ticket, Turnstile, watchdog};

/// A call that the test sees arrive, holds, and lets go.
fn pass(ticket: Ticket) -> u32 {
    ticket.pass()
}

/// The same, and it says which attempt it is.
fn pass_and_count((ticket, page): (Ticket, Page)) -> u32 {
    page.note(format_args!("{} by {}", ticket.number, std::process::id()));
    ticket.pass()
}

/// Fails until it is attempt 3.
fn third_time((): ()) -> Result<u32, std::fmt::Error> {
    if task::attempt() < 3 { Err(std::fmt::Error) } else { Ok(task::attempt()) }
}

/// Ends its process.
fn die((): ()) -> u32 {
    std::process::abort()
}

/// The one of that number ends its process; the others say how often they were made.
fn die_if((number, page): (u32, Page)) -> u32 {
    if number == 0 {
        std::process::abort();
    }
    page.note(number);
    number
}

fn blob((): ()) -> Blob {
    Blob::from(vec![1; 4 << 20])
}

fn length_of(bytes: Vec<u8>) -> usize {
    bytes.len()
}

fn bytes(length: usize) -> Vec<u8> {
    vec![7; length]
}

#[derive(Serialize, Deserialize)]
struct Pair(u32, u32);

fn first(pair: Pair) -> u32 {
    pair.0
}

/// On the list for `try_submit`.
fn checked(n: u32) -> Result<u32, String> {
    n.checked_add(1).ok_or("it is the last".into())
}

/// Not on the list.
fn second(pair: Pair) -> u32 {
    pair.1
}

pub(crate) fn list(worker: AmqpWorker) -> AmqpWorker {
    worker
        .register(pass)
        .register(pass_and_count)
        .try_register(third_time)
        .register(die)
        .register(die_if)
        .register(blob)
        .register(bytes)
        .register(length_of)
        .register(first)
        .try_register(checked)
}

fn connect(broker: &Broker, queue: &Queue) -> AmqpExecutor {
    AmqpExecutor::builder().queue(queue).connect(broker.url()).unwrap()
}

/// The process in which a call arrived.
fn pid(arrival: &Arrival) -> u32 {
    arrival.who.split('/').next().unwrap().parse().unwrap()
}

/// The call of that number, when it arrives. Others are let through: who is killed may not have acknowledged what it gave
/// back, and that is made once more.
fn arrival_of(number: u32, turnstile: &Turnstile) -> Arrival {
    loop {
        let arrival = turnstile.arrival();
        if arrival.number == number {
            return arrival;
        }
    }
}

/// Calls that are held, of these numbers.
fn submit(executor: &AmqpExecutor, turnstile: &Turnstile, numbers: std::ops::Range<u32>) -> Vec<Future<u32>> {
    numbers.map(|number| executor.submit(pass, turnstile.ticket(number))).collect()
}

#[test]
fn a_call_hears_which_attempt_it_is() {
    watchdog("a_call_hears_which_attempt_it_is", LIMIT, || {
        let Some(broker) = shared() else { return };
        for in_processes in [false, true] {
            let queue = broker.queue("attempts");
            let setup = Setup { in_processes, ..Setup::new(&queue).threads(2) };
            let _worker = WorkerThread::start(&setup, list);
            let executor = connect(broker, &queue);
            let pause = Duration::from_millis(1);
            let options = TaskOptions::new().retries(5).retry_if(|_| true).backoff(pause, pause);
            // Two side by side have numbers of their own.
            let futures: Vec<_> =
                (0..8).map(|_| executor.try_submit_with(third_time, (), options.clone())).collect();
            for future in futures {
                assert_eq!(future.result().unwrap(), 3, "{in_processes}");
            }
            let once = executor.try_submit(third_time, ()).result();
            assert!(matches!(once, Err(Error::Raised { .. })), "{once:?}");
        }
    });
}

#[test]
fn the_error_of_each_attempt_has_its_number() {
    watchdog("the_error_of_each_attempt_has_its_number", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("attempts");
        let _worker = WorkerThread::start(&Setup::new(&queue).processes(1), list);
        let executor = connect(broker, &queue);
        let pause = Duration::from_millis(1);
        let options = TaskOptions::new().retries(2).backoff(pause, pause);
        let error = executor.submit_with(die, (), options).result().unwrap_err();
        let Error::GaveUp { attempts, .. } = error else { panic!("{error}") };
        let numbers: Vec<_> = attempts
            .iter()
            .map(|error| match error {
                Error::WorkerDied { attempt, pid, status, .. } => {
                    assert!(*pid != std::process::id() && status.is_some(), "{error}");
                    *attempt
                }
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(numbers, [1, 2, 3]);
    });
}

#[test]
fn what_is_wrong_with_the_broker_is_known_when_a_worker_connects() {
    watchdog("what_is_wrong_with_the_broker_is_known_when_a_worker_connects", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("connects");
        let refused = |url: &str, wanted: &str| {
            let error = AmqpWorker::builder().queue(&queue).connect(url).unwrap_err();
            assert!(
                matches!(&error, Error::Broker { reason, .. } if reason.contains(wanted)),
                "{wanted}: {error}"
            );
        };
        let (scheme, rest) = broker.url().split_once("://").unwrap();
        let (who, place) = rest.split_once('@').unwrap();
        let (user, password) = who.split_once(':').unwrap();
        let (address, vhost) = place.split_once('/').unwrap();
        refused(&format!("{scheme}://{user}:not-{password}@{place}"), "refuses the user");
        refused(&format!("{scheme}://{who}@{address}/{vhost}-not-there"), "refuses the virtual host");
        // Nobody listens where somebody has just ceased to.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        refused(&format!("{scheme}://{who}@127.0.0.1:{port}/{vhost}"), "cannot be reached");
        drop(AmqpWorker::builder().queue(&queue).connect(broker.url()).unwrap());
    });
}

#[test]
fn a_worker_runs_in_a_program_with_a_runtime() {
    watchdog("a_worker_runs_in_a_program_with_a_runtime", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("runtime");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let worker = AmqpWorker::builder().signals(false).queue(&queue).connect(broker.url()).unwrap();
            worker.stopper().stop();
            worker.run().unwrap();
        });
    });
}

#[test]
fn a_call_whose_worker_is_killed_is_made_by_another() {
    watchdog("a_call_whose_worker_is_killed_is_made_by_another", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("killed");
        let setup = Setup::new(&queue).threads(2);
        let (journal, turnstile) = (Journal::new(), Turnstile::new());
        let first = WorkerProcess::start(&setup);
        let executor = connect(broker, &queue);
        let call = |number| executor.submit(pass_and_count, (turnstile.ticket(number), journal.page()));
        let futures: Vec<_> = (0..2).map(call).collect();
        let held = turnstile.arrivals(2);
        let gone = first.pid();
        first.kill();
        drop(held);
        let second = WorkerProcess::start(&setup);
        for _ in 0..2 {
            let arrival = turnstile.arrival();
            assert_eq!(pid(&arrival), second.pid());
            arrival.release();
        }
        for (number, future) in (0..).zip(futures) {
            assert_eq!(future.result().unwrap(), number);
        }
        let mut lines = journal.lines();
        lines.sort();
        let mut wanted: Vec<_> =
            (0..2).flat_map(|number| [gone, second.pid()].map(|pid| format!("{number} by {pid}"))).collect();
        wanted.sort();
        assert_eq!(lines, wanted);
    });
}

#[test]
fn one_death_is_one_and_not_more() {
    watchdog("one_death_is_one_and_not_more", LIMIT, || {
        let Some(broker) = shared() else { return };
        for (limit, is_made) in [(1, false), (2, true)] {
            let queue = broker.queue("deaths");
            let turnstile = Turnstile::new();
            let setup = Setup::new(&queue).delivery_limit(limit);
            let first = WorkerProcess::start(&setup);
            let executor = connect(broker, &queue);
            let future = executor.submit(pass, turnstile.ticket(1));
            let held = turnstile.arrival();
            first.kill();
            drop(held);
            let _second = WorkerThread::start(&setup, list);
            if is_made {
                turnstile.arrival().release();
                assert_eq!(future.result().unwrap(), 1);
            } else {
                let error = future.result().unwrap_err();
                assert!(matches!(error, Error::WorkerDied { attempt: 1, status: None, .. }), "{error}");
            }
        }
    });
}

#[test]
fn a_call_that_kills_its_workers_ends_with_their_number_and_no_other_does() {
    watchdog("a_call_that_kills_its_workers_ends_with_their_number_and_no_other_does", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("poison");
        let setup = Setup::new(&queue).threads(2);
        let journal = Journal::new();
        let executor = connect(broker, &queue);
        let futures: Vec<_> =
            (0..12).map(|number| executor.submit(die_if, (number, journal.page()))).collect();
        let is_over = || futures.iter().all(Future::done);
        let mut deaths = 0;
        while !is_over() {
            let worker = WorkerProcess::start_with(&setup, |command| {
                command.env("RUST_BACKTRACE", "0");
            });
            let pid = Pid::from_raw(worker.pid().cast_signed()).unwrap();
            let end = std::thread::spawn(move || worker.wait());
            while !end.is_finished() && !is_over() {
                std::thread::yield_now();
            }
            if end.is_finished() {
                assert!(!end.join().unwrap().success());
                deaths += 1;
            } else {
                let _ = kill_process(pid, Signal::KILL);
                end.join().unwrap();
            }
        }
        // A worker may die before the broker has heard that it gave the call back: then that is there twice, one death
        // counts for both, and the one that is left kills a worker more after the other is answered.
        assert!((3..=7).contains(&deaths), "{deaths}");
        for (number, future) in (0..).zip(futures) {
            match (number, future.result()) {
                (0, Err(Error::WorkerDied { attempt: 5, .. })) => {}
                (number, Ok(value)) if number > 0 => assert_eq!(value, number),
                (number, other) => panic!("{number}: {other:?}"),
            }
        }
    });
}

#[test]
fn a_worker_that_is_told_to_stop_finishes_what_runs_and_gives_back_the_rest() {
    watchdog("a_worker_that_is_told_to_stop_finishes_what_runs_and_gives_back_the_rest", LIMIT, || {
        let Some(broker) = shared() else { return };
        for (signal, in_processes) in
            [(Signal::TERM, false), (Signal::INT, false), (Signal::TERM, true), (Signal::INT, true)]
        {
            let queue = broker.queue("stopped");
            let setup = Setup { in_processes, ..Setup::new(&queue) };
            let (journal, turnstile) = (Journal::new(), Turnstile::new());
            let first = WorkerProcess::start(&setup);
            let executor = connect(broker, &queue);
            let call = |number| executor.submit(pass_and_count, (turnstile.ticket(number), journal.page()));
            let long = call(0);
            let short: Vec<_> = (1..5).map(call).collect();
            let held = turnstile.arrival();
            assert_eq!(held.number, 0);
            first.signal(signal);
            // The rest is made elsewhere, while it still holds the one.
            let _second = WorkerThread::start(&Setup::new(&queue).threads(4), list);
            for arrival in turnstile.arrivals(4) {
                assert_eq!(pid(&arrival), std::process::id());
                arrival.release();
            }
            for (number, future) in (1..).zip(short) {
                assert_eq!(future.result().unwrap(), number);
            }
            assert!(!long.done());
            held.release();
            assert!(first.wait().success());
            assert_eq!(long.result().unwrap(), 0);
            assert_eq!(journal.lines().len(), 5, "each is made once");
        }
    });
}

#[test]
fn a_second_signal_ends_a_worker_at_once_and_its_call_is_made_by_another() {
    watchdog("a_second_signal_ends_a_worker_at_once_and_its_call_is_made_by_another", LIMIT, || {
        let Some(broker) = shared() else { return };
        for in_processes in [false, true] {
            let queue = broker.queue("left");
            let turnstile = Turnstile::new();
            let setup = Setup { in_processes, ..Setup::new(&queue) };
            let first = WorkerProcess::start_with(&setup, |command| {
                command.env("RUST_BACKTRACE", "0").stderr(std::process::Stdio::null());
            });
            let executor = connect(broker, &queue);
            let futures = submit(&executor, &turnstile, 0..2);
            let held = turnstile.arrival();
            first.terminate();
            // That it has heard it shows in what it gives back.
            let _second = WorkerThread::start(&Setup::new(&queue), list);
            let given_back = turnstile.arrival();
            assert_eq!((given_back.number, pid(&given_back)), (1, std::process::id()));
            first.terminate();
            assert!(!first.wait().success(), "it says that something was left");
            drop(held);
            given_back.release();
            let again = arrival_of(0, &turnstile);
            assert_eq!(pid(&again), std::process::id());
            again.release();
            assert_eq!(
                futures.into_iter().map(|future| future.result().unwrap()).collect::<Vec<_>>(),
                [0, 1]
            );
            drop(turnstile);
        }
    });
}

#[test]
fn a_call_whose_process_is_asked_to_end_is_made_again() {
    watchdog("a_call_whose_process_is_asked_to_end_is_made_again", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("asked");
        let turnstile = Turnstile::new();
        let _worker = WorkerThread::start(&Setup::new(&queue).processes(1), list);
        let executor = connect(broker, &queue);
        let future = executor.submit(pass, turnstile.ticket(1));
        let held = turnstile.arrival();
        kill_process(Pid::from_raw(pid(&held).cast_signed()).unwrap(), Signal::TERM).unwrap();
        let again = turnstile.arrival();
        assert_ne!(pid(&again), pid(&held));
        again.release();
        assert_eq!(future.result().unwrap(), 1);
    });
}

/// Has a call held by a worker until that has put a copy of it by. Gives the call, and who holds it.
fn hop(executor: &AmqpExecutor, turnstile: &Turnstile, queue: &Queue) -> (Future<u32>, Arrival) {
    let long = executor.submit(pass, turnstile.ticket(0));
    let held = turnstile.arrival();
    // It waits behind the other, and is given back when that hops: then another worker can have it.
    let short = executor.submit(pass, turnstile.ticket(1));
    // At the worker.
    queue.wait_for(0);
    let other = WorkerThread::start(&Setup::new(queue), list);
    let arrival = turnstile.arrival();
    assert_eq!((arrival.number, pid(&arrival)), (1, std::process::id()));
    arrival.release();
    assert_eq!(short.result().unwrap(), 1);
    other.stop().unwrap();
    (long, held)
}

/// Waits for what comes back to the queue from another one, and says from which.
fn left_in(queue: &Queue) -> String {
    let get = async |channel: &lapin::Channel| {
        loop {
            // All goes back when this connection ends. What comes from no other queue is what a copy was put by of, and a worker
            // that was killed had not acknowledged yet.
            if let Some(message) = channel.basic_get(queue.name().into(), BasicGetOptions::default()).await? {
                let headers = message.delivery.properties.headers().clone().unwrap_or_default();
                if let Some(AMQPValue::LongString(name)) = headers.inner().get("x-first-death-queue") {
                    return Ok(String::from_utf8_lossy(name.as_bytes()).into());
                }
            }
            tokio::task::yield_now().await;
        }
    };
    on_a_channel(shared().unwrap().url(), get).unwrap()
}

#[test]
fn a_call_that_takes_long_hops_and_ends_once() {
    watchdog("a_call_that_takes_long_hops_and_ends_once", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("long");
        let turnstile = Turnstile::new();
        let worker = WorkerProcess::start(&Setup::new(&queue).renew_every(Duration::from_millis(200)));
        let executor = connect(broker, &queue);
        let (long, held) = hop(&executor, &turnstile, &queue);
        // What has hopped hops again, beside others that come and go.
        assert!(!long.done());
        held.release();
        assert_eq!(long.result().unwrap(), 0);
        let after = executor.submit(pass, turnstile.ticket(2));
        turnstile.arrival().release();
        assert_eq!(after.result().unwrap(), 2);
        worker.terminate();
        assert!(worker.wait().success());
        // Nothing of it is left: what there is next is new.
        let new = executor.submit(pass, turnstile.ticket(3));
        let _last = WorkerThread::start(&Setup::new(&queue), list);
        let arrival = turnstile.arrival();
        assert_eq!(arrival.number, 3);
        arrival.release();
        assert_eq!(new.result().unwrap(), 3);
    });
}

#[test]
fn a_call_whose_worker_is_killed_after_it_hopped_is_made_by_another() {
    watchdog("a_call_whose_worker_is_killed_after_it_hopped_is_made_by_another", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("long");
        let turnstile = Turnstile::new();
        let setup = Setup::new(&queue).renew_every(Duration::from_millis(500)).delivery_limit(3);
        let worker = WorkerProcess::start(&setup);
        let executor = connect(broker, &queue);
        let (long, held) = hop(&executor, &turnstile, &queue);
        worker.kill();
        drop(held);
        let from = left_in(&queue);
        assert!(from.starts_with(&format!("{queue}.held.")), "{from}");
        // That it was looked at is a death too, for whoever takes it next: the second.
        let _second = WorkerThread::start(&setup, list);
        let arrival = arrival_of(0, &turnstile);
        assert_eq!(pid(&arrival), std::process::id());
        arrival.release();
        assert_eq!(long.result().unwrap(), 0);
        drop(turnstile);
    });
}

#[test]
fn what_shares_memory_with_its_process_stays_there() {
    watchdog("what_shares_memory_with_its_process_stays_there", LIMIT, || {
        let Some(broker) = shared() else { return };
        for in_processes in [false, true] {
            let queue = broker.queue("blob");
            let _worker = WorkerThread::start(&Setup { in_processes, ..Setup::new(&queue) }, list);
            let executor = connect(broker, &queue);
            let error = executor.submit(blob, ()).result().unwrap_err();
            let Error::Encode { what: "return value", reason, .. } = &error else {
                panic!("{in_processes}: {error}")
            };
            assert!(reason.contains("stays on its machine"), "{reason}");
        }
    });
}

#[test]
fn what_a_worker_cannot_call_says_why() {
    watchdog("what_a_worker_cannot_call_says_why", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("refused");
        let _worker = WorkerThread::start(&Setup::new(&queue).name("the-one"), list);
        let executor = connect(broker, &queue);
        assert_eq!(executor.submit(first, Pair(1, 2)).result().unwrap(), 1);
        let unknown = executor.submit(second, Pair(1, 2)).result().unwrap_err();
        let Error::Unknown { worker, reason, .. } = &unknown else { panic!("{unknown}") };
        assert!(worker == "the-one" && reason.contains("worker::first"), "{reason}");
        let otherwise = executor.submit(checked, 1).result().unwrap_err();
        let Error::Unknown { reason, .. } = &otherwise else { panic!("{otherwise}") };
        assert!(reason.contains("registered by `try_register`"), "{reason}");
        let limited = TaskOptions::new().timeout(Duration::from_secs(60));
        let error = executor.submit_with(first, Pair(1, 2), limited).result().unwrap_err();
        assert!(error.to_string().contains("processes"), "{error}");
    });
}

#[test]
fn what_is_longer_than_the_broker_takes_is_an_error_and_all_else_goes_on() {
    watchdog("what_is_longer_than_the_broker_takes_is_an_error_and_all_else_goes_on", LIMIT, || {
        let Some(broker) = Broker::own_with("max_message_size = 100000") else { return };
        let queue = broker.queue("long-reply");
        let _worker = WorkerThread::start(&Setup::new(&queue).threads(2), list);
        let executor = connect(&broker, &queue);
        let (long, short) = (executor.submit(bytes, 200_000), executor.submit(bytes, 10));
        let error = long.result().unwrap_err();
        let Error::Encode { what: "return value", reason, .. } = &error else { panic!("{error}") };
        assert!(reason.contains("100000"), "{reason}");
        assert_eq!(short.result().unwrap(), [7; 10]);
        // The same on the way there. The one that ends the session takes no other with it.
        let lengths = [10, 200_000, 20, 150_000, 30];
        let all = lengths.map(|length| executor.submit(length_of, vec![7; length]));
        for (length, future) in lengths.into_iter().zip(all) {
            match future.result() {
                Ok(counted) => assert!(counted == length && length < 100_000, "{counted} of {length}"),
                Err(Error::Encode { what: "argument", reason, .. }) => {
                    assert!(length > 100_000 && reason.contains("100000"), "{length}: {reason}");
                }
                Err(error) => panic!("{length}: {error}"),
            }
        }
    });
}

#[test]
fn a_broker_that_goes_away_ends_a_worker_only_if_that_was_asked_for() {
    watchdog("a_broker_that_goes_away_ends_a_worker_only_if_that_was_asked_for", LIMIT, || {
        let Some(mut broker) = Broker::own() else { return };
        let queue = broker.queue("away");
        let turnstile = Turnstile::new();
        // RabbitMQ 3.10 at times finds no leader of a quorum queue of one node that was killed soon after it was made.
        let setup = Setup { quorum: false, ..Setup::new(&queue) };
        let patient = WorkerThread::start(&setup, list);
        let executor = AmqpExecutor::builder().queue(&queue).quorum(false).connect(broker.url()).unwrap();
        let future = executor.submit(pass, turnstile.ticket(1));
        let held = turnstile.arrival();
        let impatient = list(
            AmqpWorker::builder()
                .signals(false)
                .queue(&queue)
                .quorum(false)
                .broker_timeout(Duration::from_millis(100))
                .connect(broker.url())
                .unwrap(),
        );
        let impatient = std::thread::spawn(move || impatient.run());
        broker.kill();
        let error = impatient.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Broker { .. }), "{error}");
        // Its call ends meanwhile, and is answered when the broker is back.
        held.release();
        broker.start();
        assert_eq!(future.result().unwrap(), 1);
        // With nothing in hand, it needs no broker to stop.
        broker.kill();
        patient.stop().unwrap();
    });
}

#[test]
fn what_means_nothing_is_refused() {
    watchdog("what_means_nothing_is_refused", LIMIT, || {
        let Some(broker) = shared() else { return };
        for (builder, wanted) in [
            (AmqpWorker::builder().threads(0), "0 threads"),
            (AmqpWorker::builder().delivery_limit(0), "delivery_limit is 0"),
            (AmqpWorker::builder().renew_every(Duration::ZERO), "renew_every"),
        ] {
            let error = builder.connect(broker.url()).unwrap_err();
            assert!(
                matches!(&error, Error::InvalidArgument { what, .. } if what.contains(wanted)),
                "{error}"
            );
        }
        let closure = AmqpWorker::builder().queue(&broker.queue("closure")).connect(broker.url()).unwrap();
        let error = closure.register(|n: u64| n + 1).run().unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    });
}
