//! [`AmqpExecutor`]: the calls of this program, on other machines.
//!
//! Not here: how calls are sent and ended (`context.rs`). The rule: whatever is wrong with a call is its future's error.

use std::fmt;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::context::AmqpContext;
use super::desk::{Call, Desk, Letter};
use super::link::Tls;
use super::message::{self, TaskHead, Way};
use super::post::{Post, Queues};
use super::settings::{Settings, common_settings, unique};
use crate::error::Error;
use crate::executor::{Executor, Shutdown};
use crate::future::away::{self, Engine};
use crate::observer::{Observer, Observers};
use crate::outcome::discard;
use crate::pool::{Hiring, Place, Pool};
use crate::primitives::{AtomicUsize, Ordering};
use crate::stats::Stats;
use crate::task::{Encoded, PortableWork, Task, WorkItem};
use crate::wire::frame::HEADER;

/// Runs calls on other machines: a message broker (AMQP 0-9-1, as RabbitMQ speaks it) hands them to whichever
/// [`AmqpWorker`](crate::AmqpWorker) is free.
pub struct AmqpExecutor {
    pool: Arc<Pool<AmqpContext>>,
    desk: Arc<Desk>,
    settings: Settings,
}

impl AmqpExecutor {
    /// Connects to the broker at `url`, `amqp://user:password@host:5672/vhost`, or `amqps://…` for TLS.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`] if it cannot be reached or refuses us; [`Error::InvalidArgument`].
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().connect(url)
    }

    /// One that is set up otherwise.
    pub fn builder() -> AmqpBuilder {
        AmqpBuilder::default()
    }

    /// What it has done and is doing, as of pools on this machine.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.pool.stats();
        stats.running = self.desk.table.lock().len();
        stats
    }

    /// Makes the message of a call and queues it.
    fn send(&self, task: Task, place: Place<'_>) {
        let item = task.into_portable(self.pool.ticket());
        if let Some(refusal) = self.pool.refusal(item.task()) {
            return item.fail(refusal);
        }
        match self.write(&item) {
            Ok(letter) => {
                self.pool.submit(Call { item, letter }, place);
                self.desk.ask();
            }
            Err(error) => item.fail(error),
        }
    }

    fn write(&self, item: &WorkItem<dyn PortableWork>) -> Result<Letter, Error> {
        let task = item.task();
        let (named, Encoded { frame, attempts, enclosed }) = item.encode_named()?;
        if !enclosed.is_empty() {
            discard(enclosed);
            let reason = "what shares memory or speaks with this process (a long `Blob` or `Shared`, `sync::Event`, …) stays on \
                          this machine; send bytes, or the name of a file that both sides can read"
                .into();
            return Err(Error::NotPortable { task, reason });
        }
        let head = TaskHead {
            function: named.function.into(),
            shape: named.shape,
            way: Way { each: named.each, fallible: named.fallible },
            attempt: 1,
            limit: attempts.as_ref().and_then(|attempts| attempts.options.limit()),
            deaths: 0,
        };
        let length = frame.len() - HEADER + message::overhead(named.function);
        if let Some(reason) = self.settings.too_long(length) {
            return Err(Error::Encode { task, what: "argument", reason });
        }
        let mut body = Vec::with_capacity(length);
        let [before, bulk, behind] = frame.pieces();
        body.extend_from_slice(&before[HEADER..]);
        body.extend_from_slice(bulk);
        body.extend_from_slice(behind);
        message::finish(&mut body, &head);
        Ok(Letter { body: Arc::new(body), attempts })
    }

    fn end(&self, how: Shutdown) {
        self.pool.shutdown(how);
        if how.wait {
            self.desk.join_callbacks();
        }
    }
}

impl Executor for AmqpExecutor {
    fn execute(&self, task: Task) {
        self.send(task, self.pool.place());
    }

    fn execute_or_return(&self, task: Task) -> Result<(), Task> {
        let Some(place) = self.pool.place_now() else { return Err(task) };
        self.send(task, place);
        Ok(())
    }

    fn shutdown_with(&self, how: Shutdown) {
        self.end(how);
    }

    fn shutdown_timeout(&self, limit: Duration) -> bool {
        self.pool.shutdown_timeout(limit)
    }
}

impl Drop for AmqpExecutor {
    fn drop(&mut self) {
        self.end(Shutdown { wait: true, cancel_futures: thread::panicking() });
    }
}

impl fmt::Debug for AmqpExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.describe(f, "AmqpExecutor")
    }
}

/// Sets up an [`AmqpExecutor`].
#[derive(Default)]
#[must_use]
pub struct AmqpBuilder {
    settings: Settings,
    name: Option<String>,
    window: Option<usize>,
    max_pending: Option<usize>,
    broker_timeout: Option<Option<Duration>>,
    observers: Observers,
}

/// How long the broker may be away, where nothing is said.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long replies are kept for an executor that has lost its connection.
const EXPIRES: Duration = Duration::from_secs(600);

impl AmqpBuilder {
    common_settings!();

    /// What it is called in the broker's lists, and what observers are told. Default: `AmqpExecutor-<n>`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many calls are out of hand at a time: sent, and not ended. What is not sent can be cancelled, and goes out by its
    /// priority. Default: twice as many as the workers make at a time, as far as is known, and at least 16.
    pub fn window(mut self, calls: usize) -> Self {
        self.window = Some(calls);
        self
    }

    /// The most calls that wait to be sent; then `submit` waits. Default: no bound.
    pub fn max_pending(mut self, calls: usize) -> Self {
        self.max_pending = Some(calls);
        self
    }

    /// How long the broker may be away before calls end with [`Error::Broker`]; `None`: for ever. Default: one minute.
    ///
    /// The executor lives on, and tries to come back; until it has, what is submitted ends so at once.
    pub fn broker_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.broker_timeout = Some(limit.into());
        self
    }

    /// Who is to hear of every call and every worker; once for each.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.add(observer);
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// As of [`AmqpExecutor::connect`].
    pub fn connect(self, url: &str) -> Result<AmqpExecutor, Error> {
        static EXECUTORS: AtomicUsize = AtomicUsize::new(0);
        if self.window == Some(0) {
            return Err(Error::invalid("window is 0", "give at least 1, or leave it out"));
        }
        let name = self
            .name
            .unwrap_or_else(|| format!("AmqpExecutor-{}", EXECUTORS.fetch_add(1, Ordering::Relaxed)));
        let settings = self.settings;
        let address = settings.address(url, name.clone())?;
        let queues = Queues {
            tasks: settings.queue.clone(),
            replies: format!("{}.replies.{}", settings.queue, unique()),
            persistent: settings.persistent,
            quorum: settings.quorum,
            expires: EXPIRES,
        };
        let (tell, heard) = crossbeam_channel::unbounded();
        let post = Arc::new(Post::open(address, queues, tell.clone())?);
        let desk = Arc::new(Desk::new(tell));
        let patience = self.broker_timeout.unwrap_or(Some(PATIENCE));
        let (own, window) = (Arc::clone(&desk), self.window);
        let hiring = Hiring {
            max_workers: 1,
            name_prefix: name,
            max_pending: self.max_pending,
            observers: self.observers,
            ..Hiring::default()
        };
        let pool = Pool::new(hiring, move |_, account| {
            let (desk, post, heard) = (Arc::clone(&own), Arc::clone(&post), heard.clone());
            AmqpContext::new(desk, post, heard, Arc::clone(account), window, patience)
        })?;
        let engine: Weak<dyn Engine> = Arc::<Desk>::downgrade(&desk);
        away::register(pool.home(), engine);
        Ok(AmqpExecutor { pool, desk, settings })
    }
}

impl fmt::Debug for AmqpBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpBuilder")
            .field("queue", &self.settings.queue)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
