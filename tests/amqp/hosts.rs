//! Hosts, each with its own address: the broker, the client and two workers in network namespaces, at a switch in another.
//!
//! ```text
//!   broker 10.77.0.1 ──┐            ┌── 10.77.0.3 worker
//!                      ├── switch ──┤
//!   client 10.77.0.2 ──┘            └── 10.77.0.4 worker
//! ```
//!
//! A host that is cut off has its port at the switch taken out: it sees its cable, and nobody answers. Needs root and
//! iproute2; where namespaces cannot be made, a line says so and nothing is tested.
//!
//! Not here: faults that a proxy can make (`faults.rs`). The rule: namespaces are removed by a process of their own, which
//! learns that this one has ended, however it has.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{AmqpExecutor, AmqpWorker};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::broker::{Broker, Setup, WorkerProcess, shared};
use crate::common::{LIMIT, Page, watchdog, who_waits_for_what};
use crate::tally::{Tally, noted};

/// So that not all is done before anything can happen.
fn noted_slowly(call: (u64, Page)) -> u64 {
    thread::sleep(Duration::from_millis(2));
    noted(call)
}

pub(crate) fn list(worker: AmqpWorker) -> AmqpWorker {
    worker.register(noted_slowly)
}

/// Hosts at a switch.
struct Hosts {
    name: String,
    /// Removes them when its stdin ends.
    keeper: Child,
}

impl Hosts {
    /// `None` where there can be none.
    fn new(count: u8) -> Option<Hosts> {
        let name = format!("cf{}", std::process::id());
        let removing = r#"cat >/dev/null; for n in $(ip netns list | cut -d" " -f1 | grep "^$1-"); do ip netns del "$n"; done"#;
        let keeper = Command::new("setsid")
            .args(["bash", "-c", removing, "hosts", &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("bash");
        let hosts = Hosts { name, keeper };
        let made = hosts.make(count);
        if let Err(reason) = made {
            let line = format!("skipped: no network namespaces here ({})\n", reason.trim());
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
        Some(hosts)
    }

    fn make(&self, count: u8) -> Result<(), String> {
        let Hosts { name, .. } = self;
        ip(&format!("netns add {name}-0"))?;
        ip(&format!("-n {name}-0 link add name hub type bridge"))?;
        ip(&format!("-n {name}-0 link set hub up"))?;
        for host in 1..=count {
            ip(&format!("netns add {name}-{host}"))?;
            ip(&format!("-n {name}-{host} link set lo up"))?;
            ip(&format!(
                "link add name eth0 netns {name}-{host} type veth peer name port{host} netns {name}-0"
            ))?;
            ip(&format!("-n {name}-{host} addr add 10.77.0.{host}/24 dev eth0"))?;
            ip(&format!("-n {name}-{host} link set eth0 up"))?;
            ip(&format!("-n {name}-0 link set port{host} up"))?;
            self.connect(host)?;
        }
        Ok(())
    }

    fn connect(&self, host: u8) -> Result<(), String> {
        ip(&format!("-n {}-0 link set port{host} master hub", self.name))
    }

    fn cut_off(&self, host: u8) -> Result<(), String> {
        ip(&format!("-n {}-0 link set port{host} nomaster", self.name))
    }

    /// Does that there: in a thread that has moved. What it starts is there too.
    fn at<T: Send>(&self, host: u8, act: impl FnOnce() -> T + Send) -> T {
        let file = format!("/run/netns/{}-{host}", self.name);
        let there = move || {
            let place = File::open(file).expect("the namespace");
            move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network)).expect("to be there");
            act()
        };
        thread::scope(|scope| scope.spawn(there).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output =
        Command::new("ip").args(arguments.split(' ')).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Polls what sends no event.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}\n{}", who_waits_for_what());
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn hosts_that_are_cut_off_for_a_while_cost_nothing() {
    watchdog("hosts_that_are_cut_off_for_a_while_cost_nothing", LIMIT, || {
        let Some(elsewhere) = shared() else { return };
        let Some(hosts) = Hosts::new(4) else { return };
        let Some(broker) = hosts.at(1, || Broker::own_at("10.77.0.1")) else { return };
        assert!(broker.url().contains("@10.77.0.1:"));
        let url = format!("{}?heartbeat=1", broker.url());
        // That broker goes with its queues: nobody can delete them from here.
        let queue = elsewhere.queue("hosts");
        let setup = Setup { url: url.clone(), ..Setup::new(&queue) };
        let _workers = [3, 4].map(|host| hosts.at(host, || WorkerProcess::start(&setup)));
        let calls = 8_000;
        let tally = hosts.at(2, || {
            Tally::of(noted_slowly, AmqpExecutor::builder().queue(&queue), &url, calls, |executor, _| {
                for (host, when) in [(3, calls / 8), (2, calls / 2)] {
                    until("so many calls are made", || executor.stats().returned >= when);
                    assert!(executor.stats().returned < calls);
                    hosts.cut_off(host).unwrap();
                    // It is time that has to pass here: two heartbeats without an answer, and some.
                    thread::sleep(Duration::from_secs(4));
                    hosts.connect(host).unwrap();
                }
            })
        });
        println!("tally of hosts: {tally}");
        tally.assert_perfect();
    });
}
