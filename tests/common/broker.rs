//! Brokers for tests, queues of a test's own, and workers in threads and processes of this program.
//!
//! ```text
//!   shared()       the broker of AMQP_URL, for all tests; whoever gave it finds it as it was: `Queue` is deleted at its end
//!   Broker::own()  one of the test's own, started by `scripts/rabbitmq.sh`: to be stopped, killed, filled up
//! ```
//!
//! Not here: any test, and what a worker can do: the test binary has a list. The rule: without AMQP_URL there is no broker,
//! nothing fails, and one line says what was left out. Whatever is started here ends with its owner, however that ends.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use concurrent_futures::{AmqpStopper, AmqpWorker, AmqpWorkerBuilder, Error};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// A broker that runs, or that can be started again.
#[derive(Debug)]
pub(crate) struct Broker {
    url: String,
    amqps: Option<String>,
    ca: Option<PathBuf>,
    /// If it is ours: where its data are.
    own: Option<PathBuf>,
}

/// The broker that AMQP_URL names, or `None`, having said so.
pub(crate) fn shared() -> Option<&'static Broker> {
    static SHARED: OnceLock<Option<Broker>> = OnceLock::new();
    let made = || {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Broker {
            url: variable("AMQP_URL")?,
            amqps: variable("AMQPS_URL"),
            ca: variable("AMQP_CA").map(PathBuf::from),
            own: None,
        })
    };
    let shared = SHARED.get_or_init(made).as_ref();
    if shared.is_none() {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            let line = "skipped: AMQP_URL is not set; eval \"$(bash scripts/rabbitmq.sh start)\" runs these tests too\n";
            // Not `eprintln!`: the test harness would keep that.
            let _ = std::io::stderr().write_all(line.as_bytes());
        });
    }
    shared
}

impl Broker {
    /// One of this test's own, which is stopped and removed at its end; `None`, having said so, if there is to be none.
    pub(crate) fn own() -> Option<Broker> {
        Broker::own_with("")
    }

    /// One that is set up by those lines of `rabbitmq.conf`.
    pub(crate) fn own_with(lines: &str) -> Option<Broker> {
        Broker::start_own(|script| {
            script.env("RABBITMQ_EXTRA", lines);
        })
    }

    /// One at that address of this host.
    pub(crate) fn own_at(address: &str) -> Option<Broker> {
        Broker::start_own(|script| {
            script.env("RABBITMQ_LISTEN", address);
        })
    }

    fn start_own(set: impl FnOnce(&mut Command)) -> Option<Broker> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        shared()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("cf-broker-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&directory); // of an earlier process with our number
        let mut broker = Broker { url: String::new(), amqps: None, ca: None, own: Some(directory) };
        broker.run("start", set);
        Some(broker)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where it speaks TLS.
    pub(crate) fn amqps(&self) -> Option<&str> {
        self.amqps.as_deref()
    }

    /// The certificate of who signed for it there, in PEM.
    pub(crate) fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Stops it in good order.
    pub(crate) fn stop(&mut self) {
        self.run("stop", |_| ());
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.run("kill", |_| ());
    }

    /// Starts it again, at the same address, with the same data.
    pub(crate) fn start(&mut self) {
        self.run("start", |_| ());
    }

    fn run(&mut self, command: &str, set: impl FnOnce(&mut Command)) {
        let own = self.own.as_ref().expect("a broker that is not ours is neither started nor stopped");
        // The script has limits of its own; this one is never meant to be reached.
        let mut script = Command::new("timeout");
        script.args(["100", "bash", concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/rabbitmq.sh"), command]);
        script.env("RABBITMQ_DIR", own).env("RABBITMQ_FOR", std::process::id().to_string());
        for variable in ["RABBITMQ_PORT", "RABBITMQ_LISTEN", "RABBITMQ_EXTRA"] {
            script.env_remove(variable);
        }
        set(&mut script);
        let output = script.stdin(Stdio::null()).output().expect("bash and timeout are there");
        let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (lines, complaint) = (said(&output.stdout), said(&output.stderr));
        assert!(output.status.success(), "scripts/rabbitmq.sh {command}: {}\n{complaint}", output.status);
        for line in lines.lines() {
            match line.split_once('=') {
                Some(("AMQP_URL", value)) => self.url = value.into(),
                Some(("AMQPS_URL", value)) => self.amqps = Some(value.into()),
                Some(("AMQP_CA", value)) => self.ca = Some(value.into()),
                _ => {}
            }
        }
    }

    /// A queue of this test's own.
    pub(crate) fn queue(&self, name: &str) -> Queue {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Queue { name: format!("cf.test.{name}.{}.{number}", std::process::id()), url: self.url.clone() }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(own) = self.own.clone() else { return };
        // Nobody needs its data any more. A panic in a destructor would hide the one that matters.
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.kill()));
        if killed.is_ok() {
            let _ = fs::remove_dir_all(own);
        }
    }
}

/// What comes at all comes within that.
const LONGEST: Duration = Duration::from_secs(100);

/// The name of a queue that is this test's own. Deleted at its end: declare it before whoever uses it.
#[derive(Debug)]
pub(crate) struct Queue {
    name: String,
    url: String,
}

impl Queue {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until so many messages lie in it that nobody has, and it is there. A broker tells nobody, so it is asked.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: u32) {
        let end = Instant::now() + LONGEST;
        let lie = async |channel: &lapin::Channel| {
            let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
            for _ in 0..100 {
                let asked =
                    channel.queue_declare(self.name.as_str().into(), options, Default::default()).await?;
                if asked.message_count() == count {
                    return Ok(true);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(false)
        };
        while !on_a_channel(&self.url, lie).unwrap_or(false) {
            assert!(Instant::now() < end, "not {count} messages in {self} within {LONGEST:?}");
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl From<&Queue> for String {
    fn from(queue: &Queue) -> String {
        queue.name.clone()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // A broker that is gone has no queue that is to be deleted.
        let _ = on_a_channel(&self.url, async |channel| {
            channel
                .queue_delete(self.name.as_str().into(), lapin::options::QueueDeleteOptions::default())
                .await
        });
    }
}

/// Does something on a channel of a connection of its own, as any other program might: not by way of what is tested.
pub(crate) fn on_a_channel<T>(
    url: &str,
    act: impl AsyncFnOnce(&lapin::Channel) -> Result<T, lapin::Error>,
) -> Result<T, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let acting = async {
            let properties = lapin::ConnectionProperties::default();
            let connection = lapin::Connection::connect(url, properties).await?;
            let channel = connection.create_channel().await?;
            let done = act(&channel).await?;
            connection.close(200, "done".into()).await?;
            Ok::<_, lapin::Error>(done)
        };
        Ok(tokio::time::timeout(Duration::from_secs(20), acting).await??)
    })
}

/// What a worker is to be. The list of its functions is the test binary's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) url: String,
    pub(crate) queue: String,
    /// Makes so many calls at a time.
    pub(crate) width: usize,
    pub(crate) in_processes: bool,
    pub(crate) persistent: bool,
    pub(crate) quorum: bool,
    pub(crate) name: Option<String>,
    pub(crate) delivery_limit: Option<u32>,
    pub(crate) renew_every: Option<Duration>,
}

impl Setup {
    /// For that queue, one call at a time, in a thread, and otherwise as by default.
    pub(crate) fn new(queue: &Queue) -> Self {
        Setup {
            url: queue.url.clone(),
            queue: queue.name.clone(),
            width: 1,
            in_processes: false,
            persistent: true,
            quorum: true,
            name: None,
            delivery_limit: None,
            renew_every: None,
        }
    }

    pub(crate) fn threads(self, width: usize) -> Self {
        Setup { width, in_processes: false, ..self }
    }

    pub(crate) fn processes(self, width: usize) -> Self {
        Setup { width, in_processes: true, ..self }
    }

    /// On a queue that does not outlive the broker.
    pub(crate) fn transient(self) -> Self {
        Setup { persistent: false, quorum: false, ..self }
    }

    pub(crate) fn name(self, name: &str) -> Self {
        Setup { name: Some(name.into()), ..self }
    }

    pub(crate) fn delivery_limit(self, workers: u32) -> Self {
        Setup { delivery_limit: Some(workers), ..self }
    }

    pub(crate) fn renew_every(self, time: Duration) -> Self {
        Setup { renew_every: Some(time), ..self }
    }

    /// The worker, connected, without a function.
    pub(crate) fn connect(&self) -> Result<AmqpWorker, Error> {
        self.builder().connect(&self.url)
    }

    fn builder(&self) -> AmqpWorkerBuilder {
        let builder =
            AmqpWorker::builder().queue(&self.queue).persistent(self.persistent).quorum(self.quorum);
        let builder =
            if self.in_processes { builder.processes(self.width) } else { builder.threads(self.width) };
        let builder = match &self.name {
            Some(name) => builder.name(name),
            None => builder,
        };
        let builder = match self.delivery_limit {
            Some(workers) => builder.delivery_limit(workers),
            None => builder,
        };
        match self.renew_every {
            Some(time) => builder.renew_every(time),
            None => builder,
        }
    }
}

/// Puts functions on a worker's list.
pub(crate) type List = fn(AmqpWorker) -> AmqpWorker;

/// A worker in a thread of this process. Told to stop and joined when it is dropped.
#[derive(Debug)]
pub(crate) struct WorkerThread {
    stopper: AmqpStopper,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl WorkerThread {
    #[track_caller]
    pub(crate) fn start(setup: &Setup, list: impl FnOnce(AmqpWorker) -> AmqpWorker) -> Self {
        // The test program's own signals are left alone: Ctrl-C ends it.
        let worker = list(setup.builder().signals(false).connect(&setup.url).expect("a worker"));
        let stopper = worker.stopper();
        let run = move || worker.run();
        let thread = thread::Builder::new().name("amqp worker".into()).spawn(run).expect("a thread");
        WorkerThread { stopper, thread: Some(thread) }
    }

    /// Stops it, as SIGTERM would, and gives what it returned.
    pub(crate) fn stop(mut self) -> Result<(), Error> {
        self.stopper.stop();
        self.thread.take().expect("it is stopped once").join().expect("a worker does not panic")
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The variable that makes a copy of the test program a worker.
const WORKER: &str = "CF_TEST_AMQP_WORKER";

/// A copy of this program that is a worker. Killed when it is dropped, and when this process ends.
///
/// The test binary has the [entry](worker_entry) for it.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    child: Child,
}

impl WorkerProcess {
    pub(crate) fn start(setup: &Setup) -> Self {
        WorkerProcess::start_with(setup, |_| ())
    }

    /// `set`: what else the command is to have, as variables of the environment.
    pub(crate) fn start_with(setup: &Setup, set: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("the path of this binary"));
        command.args(["--exact", "worker_entry", "--nocapture", "--test-threads=1"]);
        command.env(WORKER, serde_json::to_string(setup).expect("a setup"));
        // Its stdin is how it learns that we are gone.
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        set(&mut command);
        WorkerProcess { child: command.spawn().expect("this program, once more") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Any signal. It is not sent to somebody else: the process is ours until it is waited for.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("the number of a process");
        rustix::process::kill_process(pid, signal).expect("it is our child");
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) -> ExitStatus {
        let _ = self.child.kill();
        self.child.wait().expect("it is our child")
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        // `Child::wait` closes its stdin, at which it would go.
        let _held = self.child.stdin.take();
        self.child.wait().expect("it is our child")
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the worker for which this program was started, if it was for one: the body of a test `worker_entry` in the root of
/// the test binary, which is no test.
pub(crate) fn worker_entry(list: List) {
    let Ok(setup) = std::env::var(WORKER) else { return };
    // Whoever started us holds the other end, and closes it when it ends, however that is.
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let setup: Setup = serde_json::from_str(&setup).expect("a setup");
    list(setup.connect().expect("a worker")).run().expect("a worker ends when it is told to");
}
