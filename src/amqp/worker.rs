//! [`AmqpWorker`]: makes the calls of executors on other machines, those on its list and no others.
//!
//! Not here: the list itself (`list.rs`), how it takes calls and gives them back (`bench.rs`, `shift.rs`). The rule: what can be
//! refused when it is set up is not refused later.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::bench::Terms;
use super::link::{Address, Tls};
use super::list::List;
use super::notes::Notes;
use super::post::runtime;
use super::settings::{Settings, common_settings, unique};
use super::shift::{NoSession, Session, Shift, Stop, held_queues};
use crate::error::Error;
use crate::executor::{Executor, Shutdown};
use crate::pool::usable_cpus;
use crate::portable::{Fallible, Function, Plain, Portable};
use crate::process::{ProcessPoolBuilder, ProcessPoolExecutor};
use crate::thread::{ThreadPoolBuilder, ThreadPoolExecutor};

/// Makes calls that [`AmqpExecutor`](crate::AmqpExecutor)s on other machines submit: those of the functions that are on its
/// list, and no others.
///
/// It takes calls from a queue of a message broker, makes them in threads or in processes, sends what they return, and
/// acknowledges a call when the broker has the answer. What is not acknowledged, because the worker or its machine ended or
/// lost its connection, is given to another worker. So every call is made at least once, and may be made twice.
///
/// Worker and executor are as a rule the same program, or two of the same sources: a call travels by the path of its
/// function, with a fingerprint of the types of its argument and its value. If they do not fit, the call ends with
/// [`Error::Unknown`], which says why.
///
/// ```no_run
/// use concurrent_futures::{AmqpWorker, Error};
///
/// fn is_prime(n: u64) -> bool {
///     n > 1 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0)
/// }
///
/// fn main() -> Result<(), Error> {
///     AmqpWorker::connect("amqp://user:password@broker.example/vhost")?.register(is_prime).run()
/// }
/// ```
///
/// | what becomes of a call                       | and of its future                                                            |
/// |----------------------------------------------|------------------------------------------------------------------------------|
/// | it panics, returns an error, cannot be encoded | as in a pool of this machine                                               |
/// | a worker process dies of it                  | [`Error::WorkerDied`], or another attempt, as in a [`ProcessPoolExecutor`]; of SIGTERM: another worker makes it |
/// | the whole worker dies, or its machine        | another worker makes it; after the [delivery limit](AmqpWorkerBuilder::delivery_limit) [`Error::WorkerDied`], whose `attempt` is the count |
/// | it is not on the list, or has other types    | [`Error::Unknown`]                                                           |
/// | the worker is told to stop                   | what runs is finished; what has not begun, another worker makes              |
///
/// [`ProcessPoolExecutor`]: crate::ProcessPoolExecutor
#[must_use = "it does nothing until it runs"]
pub struct AmqpWorker {
    address: Address,
    settings: Settings,
    terms: Terms,
    list: List,
    /// What cannot be on the list.
    refused: Option<Error>,
    pool: Pool,
    patience: Option<Duration>,
    heeds_signals: bool,
    stop: Stop,
}

impl AmqpWorker {
    /// One for the broker at `url`, `amqp://user:password@host:5672/vhost`, or `amqps://…` for TLS, that makes as many calls
    /// at a time as there are usable CPUs, in threads. A `/` in the name of a virtual host is written `%2f`.
    ///
    /// It connects, makes the queue if there is none, and disconnects: so what is wrong is known here. That takes some tens of
    /// milliseconds. No call is taken before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// [`Error::Broker`] if the broker cannot be reached within the [time](AmqpWorkerBuilder::connect_timeout), refuses the
    /// user, the virtual host or the queue, or its certificate is not trusted; [`Error::InvalidArgument`] if the URL cannot be
    /// read; [`Error::Spawn`] if the system refuses a thread.
    ///
    /// ```no_run
    /// use concurrent_futures::{AmqpWorker, Error};
    ///
    /// fn length(text: String) -> usize {
    ///     text.len()
    /// }
    ///
    /// fn main() -> Result<(), Error> {
    ///     AmqpWorker::connect("amqp://guest:guest@localhost")?.register(length).run()
    /// }
    /// ```
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().connect(url)
    }

    /// One that is set up otherwise.
    ///
    /// ```no_run
    /// use concurrent_futures::AmqpWorker;
    ///
    /// let worker = AmqpWorker::builder().queue("thumbnails").threads(8).connect("amqp://guest:guest@localhost")?;
    /// # drop(worker);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn builder() -> AmqpWorkerBuilder {
        AmqpWorkerBuilder::default()
    }

    /// Puts a function on the list, for executors that call it by `submit` and `map`: by the path that it has in its crate,
    /// as [`std::any::type_name`] gives it. A generic one is on the list for the types that are named here.
    ///
    /// Closures have no name of their own and cannot be on the list: [`run`](Self::run) says so.
    ///
    /// ```no_run
    /// use concurrent_futures::{AmqpWorker, Error};
    ///
    /// fn double<T: std::ops::Add<Output = T> + Copy>(n: T) -> T {
    ///     n + n
    /// }
    ///
    /// fn main() -> Result<(), Error> {
    ///     AmqpWorker::connect("amqp://guest:guest@localhost")?.register(double::<u64>).register(double::<f64>).run()
    /// }
    /// ```
    pub fn register<F, A, R>(mut self, function: F) -> Self
    where
        F: Fn(A) -> R + Copy + Send + 'static,
        A: Portable,
        R: Portable,
    {
        self.add(Plain::new(function));
        self
    }

    /// The same for executors that call it by `try_submit` and `try_map`: its `Err` is the error of the call, and travels as
    /// text. One function can be on the list in both ways.
    ///
    /// ```no_run
    /// use concurrent_futures::{AmqpWorker, Error};
    ///
    /// fn parse(text: String) -> Result<u32, std::num::ParseIntError> {
    ///     text.parse()
    /// }
    ///
    /// fn main() -> Result<(), Error> {
    ///     AmqpWorker::connect("amqp://guest:guest@localhost")?.try_register(parse).run()
    /// }
    /// ```
    pub fn try_register<F, A, R, E>(mut self, function: F) -> Self
    where
        F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
        A: Portable,
        R: Portable,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    {
        self.add(Fallible::new(function));
        self
    }

    fn add<Fun: Function<Argument: Portable, Return: Portable>>(&mut self, function: Fun) {
        if let Err(error) = self.list.add(function) {
            self.refused.get_or_insert(error);
        }
    }

    /// To stop it from elsewhere: from another thread, or a handler of one's own. There can be several, before it runs and
    /// while it does.
    ///
    /// ```no_run
    /// use concurrent_futures::AmqpWorker;
    ///
    /// let worker = AmqpWorker::connect("amqp://guest:guest@localhost")?;
    /// let stopper = worker.stopper();
    /// let running = std::thread::spawn(move || worker.run());
    /// // …
    /// stopper.stop();
    /// running.join().unwrap()?;
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn stopper(&self) -> AmqpStopper {
        AmqpStopper(self.stop.clone())
    }

    /// Makes calls until it is told to stop, by SIGTERM, by SIGINT (Ctrl-C), or by a [stopper](Self::stopper).
    ///
    /// Then it takes nothing more, gives back what it has taken and not begun, finishes what runs and answers it, and returns
    /// `Ok`. For how long calls may go on is up to whoever sends the signals: at a second one `run` returns at once, with an
    /// error. Worker processes are killed then; threads cannot be, and end with the program. What was left so, another worker
    /// makes.
    ///
    /// Worker processes take no notice of Ctrl-C. A call whose process dies of a SIGTERM, as that of systemd to all
    /// processes of a service, is made by another worker; `KillMode=mixed` spares them.
    ///
    /// The first `run` of a program that [heeds signals](AmqpWorkerBuilder::signals) installs handlers for both, in the place
    /// of those that the program had, and for the rest of its life: when `run` has returned, neither ends the program any
    /// more. Several workers of one program all stop. Without `unix` it is Ctrl-C alone.
    ///
    /// When the broker is away it tries to come back, at first after 50 ms, then up to every 5 s, for ever or as long as
    /// [`broker_timeout`](AmqpWorkerBuilder::broker_timeout) says. Calls go on meanwhile, and what they return is sent
    /// afterwards. If it is told to stop meanwhile, it tries for the [time that a connection may
    /// take](AmqpWorkerBuilder::connect_timeout) from when the last call has ended. With the feature `tracing` it logs that the
    /// broker is away (WARN) and back (INFO).
    ///
    /// It blocks this thread. In a program with a runtime call it by `spawn_blocking` or in a thread of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Broker`] if the broker has been away for too long, refuses us at the first time, or has the queue in a way
    /// that does not fit; [`Error::InvalidArgument`] if a closure was registered; [`Error::Broken`] at a second signal, or if
    /// worker processes cannot be started any more; [`Error::Spawn`]. Calls that run are left then as at a second
    /// signal; where it is the processes that are missing, they are finished, and the others are given back.
    ///
    /// ```no_run
    /// use concurrent_futures::{AmqpWorker, Error};
    ///
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();                                     // for `processes`
    ///     AmqpWorker::builder().processes(4).connect("amqp://guest:guest@localhost")?.register(square).run()
    /// }
    /// ```
    pub fn run(self) -> Result<(), Error> {
        let AmqpWorker { address, settings, terms, list, refused, pool, patience, heeds_signals, stop } =
            self;
        if let Some(error) = refused {
            return Err(error);
        }
        let notes = Notes::new(&terms.name, &settings.queue);
        let held = format!("{}{}", held_queues(&settings.queue), unique());
        let shift = Shift {
            address: &address,
            settings: &settings,
            terms: &terms,
            list: &list,
            held,
            patience,
            stop: &stop,
            pool: pool.executor(),
            notes: &notes,
        };
        let outcome = on_a_runtime(async {
            let _signals = if heeds_signals { Some(heed_signals(&stop)?) } else { None };
            shift.work().await
        });
        match outcome {
            Ok(()) => drop(pool),
            // Somebody is to know now, and not when the last call has ended.
            Err(_) => pool.leave(),
        }
        outcome
    }
}

impl fmt::Debug for AmqpWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpWorker")
            .field("name", &self.terms.name)
            .field("queue", &self.settings.queue)
            .field("functions", &self.list.names())
            .finish_non_exhaustive()
    }
}

/// Where the calls are made.
enum Pool {
    Threads(ThreadPoolExecutor),
    Processes(ProcessPoolExecutor),
}

impl Pool {
    fn executor(&self) -> &dyn Executor {
        match self {
            Pool::Threads(pool) => pool,
            Pool::Processes(pool) => pool,
        }
    }

    /// Waits for nothing that runs.
    fn leave(self) {
        match self {
            Pool::Threads(pool) => {
                pool.shutdown_with(Shutdown { wait: false, cancel_futures: true });
                // Its end would wait.
                std::mem::forget(pool);
            }
            Pool::Processes(pool) => pool.kill_workers(),
        }
    }
}

/// Runs `work` in a thread of its own: this one may be one of a runtime, in which none can be made.
fn on_a_runtime<T: Send>(work: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
    let block = || {
        let runtime = runtime()?;
        runtime.block_on(work)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("amqp".into())
            .spawn_scoped(scope, block)
            .map_err(|error| Error::spawn("the thread that talks with the broker", error))?;
        let broken =
            |_| Error::broken("the thread that talks with the broker ended; please report this", None);
        thread.join().map_err(broken)?
    })
}

/// Has signals tell it to stop, as long as that is there.
fn heed_signals(stop: &Stop) -> Result<impl Drop + use<>, Error> {
    struct Heeding(tokio::task::JoinHandle<()>);

    impl Drop for Heeding {
        fn drop(&mut self) {
            self.0.abort();
        }
    }

    let failed = |error| Error::spawn("the handler of signals", error);
    let stop = stop.clone();
    #[cfg(unix)]
    let task = {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = terminate.recv() => {}
                    Some(()) = interrupt.recv() => {}
                    else => return,
                }
                stop.stop_or_leave();
            }
        })
    };
    #[cfg(not(unix))]
    let task = {
        let _ = failed;
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                stop.stop_or_leave();
            }
        })
    };
    Ok(Heeding(task))
}

/// Stops an [`AmqpWorker`] that runs in another thread.
///
/// ```no_run
/// use concurrent_futures::{AmqpStopper, AmqpWorker};
///
/// let worker = AmqpWorker::builder().signals(false).connect("amqp://guest:guest@localhost")?;
/// let stopper: AmqpStopper = worker.stopper();
/// std::thread::spawn(move || {
///     // … when this program has heard that it is to end:
///     stopper.stop();
/// });
/// worker.run()?;
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AmqpStopper(Stop);

impl AmqpStopper {
    /// It is to finish what runs, give back what has not begun, and return. Does not wait. A second time it does nothing, and
    /// so it does if the worker has ended.
    ///
    /// ```no_run
    /// use concurrent_futures::AmqpWorker;
    ///
    /// let worker = AmqpWorker::connect("amqp://guest:guest@localhost")?;
    /// worker.stopper().stop();
    /// worker.run()?;                                                      // returns at once: nothing has begun
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn stop(&self) {
        self.0.stop();
    }
}

/// Sets up an [`AmqpWorker`].
///
/// ```no_run
/// use std::time::Duration;
/// use concurrent_futures::AmqpWorker;
///
/// fn resize(picture: Vec<u8>) -> Vec<u8> {
///     // …
///     picture
/// }
///
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();                                         // for `processes`
///     AmqpWorker::builder()
///         .queue("pictures")
///         .processes(4)
///         .broker_timeout(Duration::from_secs(600))
///         .connect("amqps://user:password@broker.example/vhost")?
///         .register(resize)
///         .run()
/// }
/// ```
#[derive(Default)]
#[must_use]
pub struct AmqpWorkerBuilder {
    settings: Settings,
    name: Option<String>,
    width: Option<usize>,
    processes: bool,
    delivery_limit: Option<u32>,
    renew_every: Option<Duration>,
    patience: Option<Duration>,
    ignores_signals: bool,
}

/// So many workers may have a call and not come back.
const DELIVERIES: u32 = 5;

/// A delivery is not held for longer: brokers take it back after 30 minutes.
const RENEW_EVERY: Duration = Duration::from_secs(600);

impl AmqpWorkerBuilder {
    common_settings!();

    /// What it is called, in the broker's lists of connections and by executors, whose observers tell its calls from those of
    /// others by that. Default: `worker-` and some letters that nobody else has.
    ///
    /// ```no_run
    /// use concurrent_futures::AmqpWorker;
    ///
    /// let worker = AmqpWorker::builder().name("cellar-3").connect("amqp://guest:guest@localhost")?;
    /// assert!(format!("{worker:?}").contains("cellar-3"));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes so many calls at a time, in threads, at least 1. Default: usable CPUs. As many again wait here for their turn.
    ///
    /// A crash, or a call that ends the program, costs all calls that run; [other workers](Self::delivery_limit) make them.
    /// Calls cannot have [time limits](crate::TaskOptions::timeout).
    ///
    /// ```no_run
    /// use concurrent_futures::AmqpWorker;
    ///
    /// let worker = AmqpWorker::builder().threads(2).connect("amqp://guest:guest@localhost")?;
    /// # drop(worker);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn threads(mut self, number: usize) -> Self {
        (self.width, self.processes) = (Some(number), false);
        self
    }

    /// Makes so many calls at a time, in processes, at least 1: a crash costs the call that crashed, and calls can have
    /// [time limits](crate::TaskOptions::timeout). The program begins with [`init`](crate::init).
    ///
    /// ```no_run
    /// use concurrent_futures::AmqpWorker;
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let worker = AmqpWorker::builder().processes(2).connect("amqp://guest:guest@localhost")?;
    ///     # drop(worker);
    ///     Ok(())
    /// }
    /// ```
    pub fn processes(mut self, number: usize) -> Self {
        (self.width, self.processes) = (Some(number), true);
        self
    }

    /// How many workers may have a call and not come back, before it ends with [`Error::WorkerDied`], whose `attempt` is
    /// that number; at least 1. Default: 5. All workers of a queue should have the same.
    ///
    /// A broker does not know what a worker died of, nor whether it did or only lost its connection: it counts for all calls
    /// that the worker had taken. (A worker that comes back knows what it had not begun, and what still runs; for those it
    /// does not count.) A call that two workers have not come back from is made when nothing else is, so that it takes none
    /// with it. So beside one that kills its worker each time, a call that does no harm has two of these at the most.
    ///
    /// ```no_run
    /// use concurrent_futures::AmqpWorker;
    ///
    /// let worker = AmqpWorker::builder().delivery_limit(3).connect("amqp://guest:guest@localhost")?;
    /// # drop(worker);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn delivery_limit(mut self, workers: u32) -> Self {
        self.delivery_limit = Some(workers);
        self
    }

    /// How long it holds a delivery, at the least 1 ms. Default: 10 minutes. It is to be shorter than the broker's
    /// `consumer_timeout` by some minutes: RabbitMQ takes back what is not acknowledged within 30 minutes, unless it is set
    /// otherwise, and closes the connection of the worker.
    ///
    /// A call that takes longer than this goes on: a copy of its message is put into a queue of the worker's own
    /// (`<queue>.held.` and letters), and takes the place of the delivery. If the worker ends, the copy goes back to the
    /// queue within a tenth of this time, at least 2 and at most 60 seconds, and another worker makes the call. Each renewal
    /// costs the broker one message of the length of the argument.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use concurrent_futures::AmqpWorker;
    ///
    /// // For a broker with `consumer_timeout = 300000`.
    /// let worker = AmqpWorker::builder().renew_every(Duration::from_secs(60)).connect("amqp://guest:guest@localhost")?;
    /// # drop(worker);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn renew_every(mut self, time: Duration) -> Self {
        self.renew_every = Some(time);
        self
    }

    /// How long the broker may be away before [`run`](AmqpWorker::run) returns [`Error::Broker`]; `None`: for ever, which is
    /// the default, as a worker without a broker does no harm. With a limit, whoever starts workers hears of it.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use concurrent_futures::AmqpWorker;
    ///
    /// let worker = AmqpWorker::builder()
    ///     .broker_timeout(Duration::from_secs(300))
    ///     .connect("amqp://guest:guest@localhost")?;
    /// # drop(worker);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn broker_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.patience = limit.into();
        self
    }

    /// Does [`run`](AmqpWorker::run) heed SIGTERM and SIGINT? Default: yes. A program that has handlers of its own says no
    /// here, and stops it by a [stopper](AmqpWorker::stopper).
    ///
    /// ```no_run
    /// use concurrent_futures::AmqpWorker;
    ///
    /// let worker = AmqpWorker::builder().signals(false).connect("amqp://guest:guest@localhost")?;
    /// # drop(worker);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn signals(mut self, yes: bool) -> Self {
        self.ignores_signals = !yes;
        self
    }

    /// Connects, sees that the queue is there, and disconnects.
    ///
    /// # Errors
    ///
    /// As of [`AmqpWorker::connect`], and [`Error::InvalidArgument`] for settings that mean nothing; with
    /// [`processes`](Self::processes) also what [`ProcessPoolBuilder::build`](crate::ProcessPoolBuilder::build) says.
    ///
    /// ```no_run
    /// use concurrent_futures::{AmqpWorker, Error};
    ///
    /// let refused = AmqpWorker::builder().connect("amqp://user:wrong@localhost").unwrap_err();
    /// assert!(matches!(refused, Error::Broker { .. }));
    /// ```
    pub fn connect(self, url: &str) -> Result<AmqpWorker, Error> {
        let width = self.width.unwrap_or_else(usable_cpus);
        let delivery_limit = self.delivery_limit.unwrap_or(DELIVERIES);
        let renew_every = self.renew_every.unwrap_or(RENEW_EVERY);
        let give = |what: &str, remedy: &str| Err(Error::invalid(what, remedy));
        if width == 0 {
            return give("a worker of 0 threads or processes", "give at least 1");
        }
        if delivery_limit == 0 {
            return give("delivery_limit is 0", "give at least 1, or leave it out");
        }
        if renew_every < Duration::from_millis(1) {
            return give("renew_every is less than 1 ms", "give some minutes, or leave it out");
        }
        let name = self.name.unwrap_or_else(|| format!("worker-{}", &unique()[..8]));
        let address = self.settings.address(url, name.clone())?;
        let pool = if self.processes {
            Pool::Processes(ProcessPoolBuilder::default().max_workers(width).name(&name).build()?)
        } else {
            Pool::Threads(ThreadPoolBuilder::default().max_workers(width).thread_name_prefix(&name).build()?)
        };
        on_a_runtime(async {
            let session =
                Session::open(&address, &self.settings, width).await.map_err(NoSession::into_error)?;
            let may_hold = session.may_hold(&address, &self.settings, renew_every).await;
            session.close(address.limit).await;
            may_hold.map_err(NoSession::into_error)
        })?;
        let has_limits = self.processes;
        Ok(AmqpWorker {
            address,
            settings: self.settings,
            terms: Terms { name, width, has_limits, delivery_limit, renew_every },
            list: List::default(),
            refused: None,
            pool,
            patience: self.patience,
            heeds_signals: !self.ignores_signals,
            stop: Stop::default(),
        })
    }
}

impl fmt::Debug for AmqpWorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpWorkerBuilder").field("queue", &self.settings.queue).finish_non_exhaustive()
    }
}
