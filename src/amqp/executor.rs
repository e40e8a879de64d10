//! [`AmqpExecutor`]: the calls of this program, on other machines.
//!
//! Not here: how calls are sent and ended (`context.rs`). The rule: whatever is wrong with a call is its future's error.

use std::fmt;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::context::{AmqpContext, Limits, TOLD};
use super::desk::{Call, Desk, Letter};
use super::link::Tls;
use super::message::{self, TaskHead};
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
///
/// It is used as the pools of this machine are. What differs:
///
/// - A worker calls the functions on its list, and no others: what is not there ends with [`Error::Unknown`]. A function
///   goes by the path that it has in its crate, so caller and worker share a crate that has it. Arguments and values must be
///   of the same types there: that is checked, by their shapes, before anything is read.
/// - A call is made **at least once**: one whose worker is lost is made again by another, up to
///   [`delivery_limit`](crate::AmqpWorkerBuilder::delivery_limit) times. Its future ends once, all the same.
/// - Calls are sent as far as a [`window`](AmqpBuilder::window) goes. What is not sent can be cancelled, exactly as on one
///   machine; what is sent is out of our hands ([`cancel`](crate::Future::cancel) returns false).
/// - A lost connection is made again, and what the broker may not have is sent again; also what turns out to be
///   [lost](AmqpBuilder::resend_after). If the broker is away for too long
///   ([`broker_timeout`](AmqpBuilder::broker_timeout)), calls end with [`Error::Broker`].
/// - A [time limit](crate::TaskOptions::timeout) is kept by workers that make calls in processes; others refuse such calls.
/// - What shares memory or speaks with this process ([`sync`](crate::sync), a long [`Blob`](crate::Blob) or
///   [`Shared`](crate::Shared)) cannot go along: [`Error::NotPortable`].
///
/// One thread talks with the broker, over two connections; another sends calls and ends them. Results come to a queue of its
/// own, which is gone ten minutes after the executor is. A call costs some tenths of a millisecond, most of it the broker's:
/// tiny ones belong into chunks ([`MapOptions::chunksize`](crate::MapOptions::chunksize)). Dropping it waits for all that was
/// submitted.
///
/// ```no_run
/// use concurrent_futures::{AmqpExecutor, Error, Executor};
///
/// fn is_prime(n: u64) -> bool {
///     n > 1 && !(2..).take_while(|d| d * d <= n).any(|d| n.is_multiple_of(d))
/// }
///
/// let pool = AmqpExecutor::connect("amqp://user:password@broker.example:5672/vhost")?;
/// for (n, prime) in (1..100).zip(pool.map(is_prime, 1..100)) {
///     println!("{n} {}", prime?);
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct AmqpExecutor {
    pool: Arc<Pool<AmqpContext>>,
    desk: Arc<Desk>,
    settings: Settings,
    /// Workers say that often what they have.
    tell_every: Duration,
}

impl AmqpExecutor {
    /// Connects to the broker at `url`: `amqp://user:password@host:5672/vhost`, or `amqps://…` for TLS. Parts that are left out
    /// are `guest`, `guest`, 5672 (5671 for TLS) and `/`; a `/` inside a name is written `%2f`.
    ///
    /// ```no_run
    /// use concurrent_futures::{AmqpExecutor, Executor};
    ///
    /// fn double(n: u32) -> u32 {
    ///     2 * n
    /// }
    ///
    /// let pool = AmqpExecutor::connect("amqp://localhost")?;
    /// assert_eq!(pool.submit(double, 21).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Broker`] if nobody answers within [`connect_timeout`](AmqpBuilder::connect_timeout), or if the broker refuses
    /// us: wrong password, no such virtual host, no right to a queue, a certificate that is not trusted.
    /// [`Error::InvalidArgument`] for a URL that cannot be read. Whether there are workers is not asked: calls wait for them.
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().connect(url)
    }

    /// One that is set up step by step.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use concurrent_futures::{AmqpExecutor, Tls};
    ///
    /// let pool = AmqpExecutor::builder()
    ///     .queue("thumbnails")
    ///     .tls(Tls::new().roots("/etc/rabbitmq/ca.pem"))
    ///     .broker_timeout(Duration::from_secs(300))
    ///     .connect("amqps://user:password@broker.example")?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn builder() -> AmqpBuilder {
        AmqpBuilder::default()
    }

    /// How it is doing, as of the pools of this machine. `running` are the calls that are sent and have not ended, `workers` the
    /// [`AmqpWorker`](crate::AmqpWorker)s at the queue, as the broker last told (it is asked each second); bytes are those of messages. Cheap: see [`Stats`].
    ///
    /// ```no_run
    /// use concurrent_futures::AmqpExecutor;
    ///
    /// let pool = AmqpExecutor::connect("amqp://localhost")?;
    /// println!("{} workers; {}", pool.stats().workers, pool.stats());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.pool.stats();
        stats.workers = self.desk.seen.workers.load(Ordering::Relaxed);
        stats.running = self.desk.table.lock().len();
        stats.bytes_sent = self.desk.sent.load(Ordering::Relaxed);
        stats.bytes_received = self.desk.received.load(Ordering::Relaxed);
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
        let limit = attempts.as_ref().and_then(|attempts| attempts.options.limit());
        let head = TaskHead { limit, ..TaskHead::new(named, self.tell_every) };
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
            self.desk.callbacks.join(self.pool.home());
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

/// Sets up an [`AmqpExecutor`]: [`AmqpExecutor::builder`].
#[derive(Default)]
#[must_use]
pub struct AmqpBuilder {
    settings: Settings,
    name: Option<String>,
    window: Option<usize>,
    max_pending: Option<usize>,
    broker_timeout: Option<Option<Duration>>,
    replies_expire: Option<Duration>,
    resend_after: Option<Duration>,
    observers: Observers,
}

/// How long the broker may be away, where nothing is said.
const PATIENCE: Duration = Duration::from_secs(60);

/// After so long a call counts as lost that is neither in the queue nor with a worker.
const MISSING: Duration = Duration::from_secs(180);

/// Workers say nothing more often than once a second.
const LEAST: Duration = Duration::from_secs(TOLD as u64);

/// How long replies are kept for an executor that has lost its connection.
const EXPIRES: Duration = Duration::from_secs(600);

impl AmqpBuilder {
    common_settings!();

    /// What it is called in the broker's list of connections, and what observers are told. Default: `AmqpExecutor-<n>`.
    ///
    /// ```no_run
    /// # use concurrent_futures::AmqpExecutor;
    /// let pool = AmqpExecutor::builder().name("nightly").connect("amqp://localhost")?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many calls are sent and not ended, at the most. What is not sent can be cancelled, and goes out by its
    /// priority. At least 1. Default: twice as many as the workers make at a time, so that each has the next at hand; as far
    /// as is known (they tell with each result), and at least 16.
    ///
    /// Less is fairer to others who use the same workers; more bridges a long way to the broker.
    ///
    /// ```no_run
    /// # use concurrent_futures::AmqpExecutor;
    /// let pool = AmqpExecutor::builder().window(1000).connect("amqp://localhost")?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn window(mut self, calls: usize) -> Self {
        self.window = Some(calls);
        self
    }

    /// The most calls that wait to be sent, with their arguments' bytes; then `submit` waits, as in
    /// [pools](crate::ProcessPoolBuilder::max_pending). At least 1. Default: no bound.
    ///
    /// ```no_run
    /// # use concurrent_futures::AmqpExecutor;
    /// let pool = AmqpExecutor::builder().max_pending(10_000).connect("amqp://localhost")?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn max_pending(mut self, calls: usize) -> Self {
        self.max_pending = Some(calls);
        self
    }

    /// How long the broker may be away before calls end with [`Error::Broker`]; `None`: for ever, and so may whoever waits for
    /// a call or for the executor's end. Default: one minute.
    ///
    /// The executor lives on, and tries to come back, after pauses from 50 ms to 5 s; until it has, what is submitted ends so
    /// at once. Calls that ended so may still be made, if the broker has them when it is back.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use concurrent_futures::AmqpExecutor;
    /// let patient = AmqpExecutor::builder().broker_timeout(None).connect("amqp://localhost")?;
    /// let hasty = AmqpExecutor::builder().broker_timeout(Duration::from_secs(5)).connect("amqp://localhost")?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn broker_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.broker_timeout = Some(limit.into());
        self
    }

    /// How long the results of this executor are kept for it while it has no connection: for so long its queue of replies
    /// outlives it, whatever becomes of it. In whole milliseconds, at least 1. Default: 10 minutes.
    ///
    /// If it comes back later than that, all calls that were sent and have not ended are sent again.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use concurrent_futures::AmqpExecutor;
    /// let pool = AmqpExecutor::builder().replies_expire(Duration::from_secs(3600)).connect("amqp://localhost")?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn replies_expire(mut self, after: Duration) -> Self {
        self.replies_expire = Some(after);
        self
    }

    /// A call that was sent, that is not in the queue, and that no worker says it has, is lost, after so long, and is sent
    /// again. At least 6 s; [`Duration::MAX`]: it is waited for, whatever happens. Default: 3 minutes.
    ///
    /// So a queue that was purged or deleted costs time and no calls, whether of calls or of results. Workers say six times in
    /// that time of each call they have that they have it. Less finds what is lost sooner, and makes a call twice if its worker
    /// is silent for so long and lives. Nothing counts as lost while there are any calls in the queue; with the first that does goes
    /// whatever was silent for half of the time.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use concurrent_futures::AmqpExecutor;
    /// let pool = AmqpExecutor::builder().resend_after(Duration::from_secs(30)).connect("amqp://localhost")?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn resend_after(mut self, time: Duration) -> Self {
        self.resend_after = Some(time);
        self
    }

    /// Has `observer` hear of what happens; more than one may. What it is told, and what that costs, is said at [`Observer`].
    /// The worker of a call is the [`AmqpWorker`](crate::AmqpWorker) that made it; that a call has begun is told when its
    /// result is here.
    ///
    /// ```no_run
    /// use concurrent_futures::{AmqpExecutor, Error, Event, Observer};
    ///
    /// struct Log;
    ///
    /// impl Observer for Log {
    ///     fn notice(&self, event: &Event<'_>) {
    ///         eprintln!("{event:?}");
    ///     }
    /// }
    ///
    /// let pool = AmqpExecutor::builder().observer(Log).connect("amqp://localhost")?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.add(observer);
        self
    }

    /// Connects, as [`AmqpExecutor::connect`] does.
    ///
    /// ```no_run
    /// # use concurrent_futures::AmqpExecutor;
    /// let pool = AmqpExecutor::builder().persistent(false).quorum(false).connect("amqp://localhost")?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As of [`AmqpExecutor::connect`]; and [`Error::InvalidArgument`] for options that are 0 or do not go together.
    pub fn connect(self, url: &str) -> Result<AmqpExecutor, Error> {
        static EXECUTORS: AtomicUsize = AtomicUsize::new(0);
        if self.window == Some(0) {
            return Err(Error::invalid("window is 0", "give at least 1, or leave it out"));
        }
        let resend_after = self.resend_after.unwrap_or(MISSING);
        if resend_after < LEAST {
            return Err(Error::invalid(
                format!("resend_after is {resend_after:?}"),
                format!("give at least {LEAST:?}, or leave it out"),
            ));
        }
        let name = self
            .name
            .unwrap_or_else(|| format!("AmqpExecutor-{}", EXECUTORS.fetch_add(1, Ordering::Relaxed)));
        let settings = self.settings;
        let address = settings.address(url, name.clone())?;
        let queues = Queues {
            settings: settings.clone(),
            replies: format!("{}.replies.{}", settings.queue, unique()),
            expires: self.replies_expire.unwrap_or(EXPIRES),
        };
        let (tell, heard) = crossbeam_channel::unbounded();
        let desk = Arc::new(Desk::new(tell.clone()));
        let post = Arc::new(Post::open(address, queues, tell, Arc::clone(&desk.seen))?);
        let patience = self.broker_timeout.unwrap_or(Some(PATIENCE));
        let limits = Limits { window: self.window, patience, resend_after };
        let own = Arc::clone(&desk);
        let hiring = Hiring {
            max_workers: 1,
            name_prefix: name,
            max_pending: self.max_pending,
            observers: self.observers,
            ..Hiring::default()
        };
        let pool = Pool::new(hiring, move |_, account| {
            let (desk, post, heard) = (Arc::clone(&own), Arc::clone(&post), heard.clone());
            AmqpContext::new(desk, post, heard, Arc::clone(account), limits)
        })?;
        let engine: Weak<dyn Engine> = Arc::<Desk>::downgrade(&desk);
        away::register(pool.home(), engine);
        Ok(AmqpExecutor { pool, desk, settings, tell_every: resend_after / TOLD })
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
