//! Faults of workers, of the network and of the broker: each call ends with its result all the same, and once.
//!
//! Not here: what is refused from the start, and brokers that do not come back (`refusals.rs`), messages that are none
//! (`forged.rs`), very many calls (`tally.rs`), hosts (`hosts.rs`). The rule: the fault is in the way of calls for sure: a
//! call is held while it happens, or it happens over and over while thousands are made.

use std::sync::{Barrier, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use concurrent_futures::{AmqpExecutor, AmqpWorker, Executor, TaskOptions};

use crate::broker::{Broker, Setup, WorkerProcess, WorkerThread, shared};
use crate::common::{Journal, LIMIT, LONG, Page, Ticket, Turnstile, alone, watchdog, who_waits_for_what};
use crate::proxy::Proxy;
use crate::tally::{Dice, Tally, mixed, noted};

/// Passes the turnstile, and says whose process it did.
fn passed((ticket, page): (Ticket, Page)) -> (u32, u32) {
    page.note(ticket.number);
    (ticket.pass(), std::process::id())
}

pub(crate) fn list(worker: AmqpWorker) -> AmqpWorker {
    worker.register(passed).register(mixed)
}

/// Polls what sends no event.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "not within {LONG:?}: {what}\n{}", who_waits_for_what());
        thread::sleep(Duration::from_millis(2));
    }
}

/// A turnstile at which nobody is held any more: a call may be made again, and come once more.
struct Open(Ticket, Option<JoinHandle<()>>);

impl Open {
    fn from(turnstile: Turnstile) -> Self {
        let last = turnstile.ticket(u32::MAX);
        Open(last, Some(thread::spawn(move || while turnstile.arrival().number != u32::MAX {})))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.pass();
        drop(self.1.take().map(JoinHandle::join));
    }
}

/// The process in what [`who`](crate::common::who) says.
fn process_of(who: &str) -> u32 {
    who.split_once('/').and_then(|(pid, _)| pid.parse().ok()).expect("a process and a thread")
}

#[test]
fn a_call_whose_worker_is_killed_is_made_again_by_another() {
    watchdog("a_call_whose_worker_is_killed_is_made_again_by_another", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("killed");
        let mut workers = [0, 1].map(|_| Some(WorkerProcess::start(&Setup::new(&queue))));
        let executor = AmqpExecutor::builder().queue(&queue).connect(broker.url()).unwrap();
        let (journal, turnstile) = (Journal::new(), Turnstile::new());
        let mut futures: Vec<_> =
            (0..20).map(|n| executor.submit(passed, (turnstile.ticket(n), journal.page()))).collect();
        let held = turnstile.arrivals(2);
        let doomed = process_of(&held[0].who);
        assert_ne!(doomed, process_of(&held[1].who), "each has one");
        let killed = workers.iter_mut().find_map(|worker| worker.take_if(|worker| worker.pid() == doomed));
        killed.expect("it is one of ours").kill();
        let lost = held[0].number;
        drop(held);
        let _open = Open::from(turnstile);
        for (n, future) in futures.drain(..).enumerate() {
            let (number, process) = future.result().unwrap();
            assert_eq!(number, n as u32);
            // The other one may have begun before; what was lost, the other one made.
            assert!(process != doomed, "call {n} was made by the one that was killed");
        }
        let times = journal.lines().iter().filter(|line| **line == lost.to_string()).count();
        assert_eq!(times, 2, "the call that was lost was begun by the one and made by the other");
    });
}

/// Makes calls while the broker goes and comes back, on three kinds of queue: one in memory, one on disk, one that is
/// replicated. A third of the way, when it goes, each worker holds a call, and goes on with it.
fn broker_goes_and_comes_back(name: &str, goes: fn(&mut Broker)) {
    watchdog(name, LIMIT, || {
        let Some(mut broker) = Broker::own() else { return };
        let url = broker.url().to_owned();
        let queues = [broker.queue("memory"), broker.queue("disk"), broker.queue("quorum")];
        let setups = [
            Setup::new(&queues[0]).transient(),
            Setup { quorum: false, ..Setup::new(&queues[1]) },
            Setup::new(&queues[2]),
        ];
        let _workers: Vec<_> = setups.iter().map(|setup| WorkerThread::start(setup, crate::list)).collect();
        let (calls, all_hold) = (1_500, Barrier::new(setups.len()));
        let (turnstile, journal) = (Turnstile::new(), Journal::new());
        let ticket = turnstile.ticket(0);
        let (broker, turnstile) = (Mutex::new(&mut broker), Mutex::new(Some(turnstile)));
        let hold = |executor: &AmqpExecutor, _: &dyn Fn() -> bool| {
            until("a third of the calls is made", || executor.stats().returned >= calls / 3);
            let first = TaskOptions::new().priority(9);
            let held = executor.submit_with(passed, (ticket, journal.page()), first);
            let arrival = turnstile.lock().unwrap().as_ref().expect("it is opened later").arrival();
            if all_hold.wait().is_leader() {
                let mut broker = broker.lock().unwrap();
                goes(&mut broker);
                broker.start();
            }
            all_hold.wait();
            assert!(executor.stats().returned < calls, "the broker went too late");
            arrival.release();
            let _open = turnstile.lock().unwrap().take().map(Open::from);
            assert_eq!(held.result().unwrap().0, 0);
        };
        thread::scope(|scope| {
            for setup in &setups {
                let (url, hold) = (&url, &hold);
                let Setup { queue, persistent, quorum, .. } = setup;
                let builder = AmqpExecutor::builder().queue(queue).persistent(*persistent).quorum(*quorum);
                scope.spawn(move || Tally::of(noted, builder, url, calls, hold).assert_perfect());
            }
        });
        assert!(journal.lines().len() >= setups.len());
    });
}

#[test]
fn a_broker_that_is_restarted_costs_nothing() {
    broker_goes_and_comes_back("a_broker_that_is_restarted_costs_nothing", Broker::stop);
}

#[test]
fn a_broker_that_is_killed_and_started_costs_nothing() {
    broker_goes_and_comes_back("a_broker_that_is_killed_and_started_costs_nothing", Broker::kill);
}

/// A client and two workers, each with a network of its own.
struct Networks {
    // First, so that they stop while they have a network.
    _crew: [WorkerThread; 2],
    client: Proxy,
    workers: [Proxy; 2],
}

impl Networks {
    /// `query`: of the URLs.
    fn of(setup: &Setup, query: &str) -> Networks {
        let workers = [Proxy::before(&setup.url), Proxy::before(&setup.url)];
        let crew = [&workers[0], &workers[1]].map(|proxy| {
            let url = proxy.url(&setup.url) + query;
            WorkerThread::start(&Setup { url, ..setup.clone() }, crate::list)
        });
        Networks { client: Proxy::before(&setup.url), workers, _crew: crew }
    }

    fn all(&self) -> [&Proxy; 3] {
        [&self.client, &self.workers[0], &self.workers[1]]
    }
}

#[test]
fn connections_that_are_cut_over_and_over_cost_nothing() {
    watchdog("connections_that_are_cut_over_and_over_cost_nothing", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("cut");
        let networks = Networks::of(&Setup::new(&queue).threads(2), "");
        let builder = AmqpExecutor::builder().queue(&queue);
        let url = networks.client.url(broker.url());
        let mut cuts = 0;
        let tally = Tally::of(noted, builder, &url, 4_000, |_, is_going_on| {
            let mut dice = Dice::new(4);
            while is_going_on() {
                thread::sleep(dice.millis(20, 300));
                let proxy = networks.all()[dice.below(3) as usize];
                // One of its two connections, or both.
                cuts += if dice.below(3) == 0 { proxy.cut() } else { proxy.cut_one(dice.below(2)) };
            }
        });
        println!("cut {cuts} times: {tally}");
        tally.assert_perfect();
        assert!(cuts >= 10, "{cuts} cuts");
    });
}

#[test]
fn connections_that_are_cut_leave_nothing_behind() {
    watchdog("connections_that_are_cut_leave_nothing_behind", LIMIT, || {
        let Some(broker) = shared() else { return };
        let Some(said) = alone(module_path!(), "connections_that_are_cut_leave_nothing_behind", || {
            let queue = broker.queue("leak");
            let networks = Networks::of(&Setup::new(&queue), "");
            let executor =
                AmqpExecutor::builder().queue(&queue).connect(&networks.client.url(broker.url())).unwrap();
            let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
            let mut before = None;
            for round in 0..12 {
                assert_eq!(executor.submit(crate::tally::mixed, round).result().unwrap(), mixed(round));
                until("all are connected", || networks.all().iter().all(|proxy| proxy.count() == 2));
                match before {
                    // The first round has made what is made once.
                    None if round == 1 => before = Some((count("task"), count("fd"))),
                    Some((threads, files)) if round == 11 => {
                        until("no more threads and files than before", || {
                            count("task") <= threads + 1 && count("fd") <= files + 2
                        });
                    }
                    _ => {}
                }
                for proxy in networks.all() {
                    proxy.cut();
                }
            }
        }) else {
            return;
        };
        drop(said);
    });
}

/// What becomes of a network and how it is mended.
fn network_goes_silent(name: &str, goes: fn(&Proxy)) {
    watchdog(name, LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("silent");
        let networks = Networks::of(&Setup::new(&queue).threads(2), "?heartbeat=1");
        let builder = AmqpExecutor::builder().queue(&queue).heartbeat(Duration::from_secs(1));
        let url = networks.client.url(broker.url());
        let tally = Tally::of(noted, builder, &url, 2_000, |executor, _| {
            for (number, proxy) in networks.all().into_iter().enumerate() {
                let most = 400 * (number as u64 + 1);
                until("some calls are made", || executor.stats().returned >= most);
                goes(proxy);
                // Nobody tells them: they have to notice, and try to come back in vain.
                let before = proxy.accepted();
                until("it is noticed, and tried again", || proxy.accepted() > before);
                proxy.heal();
            }
        });
        tally.assert_perfect();
    });
}

#[test]
fn a_network_that_swallows_everything_is_noticed_and_costs_nothing() {
    network_goes_silent("a_network_that_swallows_everything_is_noticed_and_costs_nothing", Proxy::half_open);
}

#[test]
fn a_cable_that_is_out_for_a_while_is_noticed_and_costs_nothing() {
    network_goes_silent("a_cable_that_is_out_for_a_while_is_noticed_and_costs_nothing", Proxy::freeze);
}

#[test]
fn a_far_and_narrow_network_costs_nothing_but_time() {
    watchdog("a_far_and_narrow_network_costs_nothing_but_time", LIMIT, || {
        let Some(broker) = shared() else { return };
        let queue = broker.queue("far");
        let networks = Networks::of(&Setup::new(&queue).threads(2), "");
        for proxy in networks.all() {
            proxy.delay(Duration::from_millis(30));
            proxy.limit(1 << 20);
        }
        let builder = AmqpExecutor::builder().queue(&queue);
        let tally = Tally::of(noted, builder, &networks.client.url(broker.url()), 300, |_, _| ());
        tally.assert_perfect();
        assert_eq!(tally.reruns, 0, "nobody was taken for dead");
    });
}
