//! What can go wrong, one variant a question, each with the task, the culprit and the remedy.
//!
//! Not here: how a panic is caught or an error crosses a process wall (`outcome.rs`).
//! The rule: an [`Error`] can be cloned, sent and kept; whatever it tells is inside it.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::id::TaskRef;
use crate::primitives::Mutex;

/// Everything that `result()` can say instead of a value, and every refusal of a constructor.
///
/// ```
/// use concurrent_futures::{Error, Executor, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// let future = pool.submit(|n: u32| 10 / n, 0);
/// match future.result() {
///     Err(Error::Panicked { panic, .. }) => assert!(panic.message().contains("divide by zero")),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call was cancelled before it started, or while it waited for its next attempt; it will
    /// not run any more.
    #[error("{task} was cancelled before it started")]
    Cancelled {
        /// The call.
        task: TaskRef,
    },

    /// Something was not done within the time that was given for it: a wait, or, where a call has
    /// a time limit of its own ([`TaskOptions::timeout`](crate::TaskOptions::timeout)), the call, which
    /// then has been stopped.
    #[error("{what} not done within {limit:?}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The time that was given.
        limit: Duration,
    },

    /// The call panicked. The worker lives on.
    #[error("{task} panicked: {panic}")]
    Panicked {
        /// The call.
        task: TaskRef,
        /// Message, place, and backtrace where one was asked for.
        panic: Panic,
    },

    /// A function submitted with `try_submit` or `try_map` returned an error.
    ///
    /// In one process the error itself is inside ([`Error::downcast_ref`]); out of a worker
    /// process comes a [`RemoteError`] that tells its type, message and chain of sources.
    #[error("{task} returned an error: {error}")]
    Raised {
        /// The call.
        task: TaskRef,
        /// What it returned.
        #[source]
        error: Arc<dyn StdError + Send + Sync>,
    },

    /// The worker process died while it ran the call: the call is lost, nothing else is.
    #[error(
        "{task} was lost: its worker process {pid} died ({}){}",
        describe(.status),
        circumstances(*.attempt, *.peak_memory, .probable_cause.as_deref())
    )]
    WorkerDied {
        /// The call that it ran.
        task: TaskRef,
        /// The process id it had.
        pid: u32,
        /// How it ended: exit status or signal. `None` if the system did not tell.
        status: Option<ExitStatus>,
        /// Which attempt of the call it was; 1 for the first.
        attempt: u32,
        /// The most memory that it had resident at a time, in bytes, if that is known. (The kernel
        /// counts from before the program began, when it still had the host's memory: so it is
        /// known of workers that grew larger than their host.)
        peak_memory: Option<u64>,
        /// Why it died, where that can be guessed: the kernel ran out of memory, the worker ran
        /// into its limit.
        probable_cause: Option<String>,
    },

    /// The call was tried as often as its [`TaskOptions::retries`](crate::TaskOptions::retries) allow,
    /// and failed each time.
    #[error("{task} was given up after {} attempts:{}", .attempts.len(), numbered(.attempts))]
    GaveUp {
        /// The call.
        task: TaskRef,
        /// How each attempt ended, the first one first.
        attempts: Arc<[Error]>,
    },

    /// The executor cannot work any more, or a promise was dropped without an outcome.
    #[error("{reason}")]
    Broken {
        /// What broke.
        reason: String,
        /// What broke it.
        #[source]
        cause: Option<Arc<Error>>,
    },

    /// The executor had been shut down before the call was submitted.
    #[error(
        "{task} was submitted after its executor had been shut down; submit before `shutdown`, or make a new executor"
    )]
    ShutDown {
        /// The refused call.
        task: TaskRef,
    },

    /// The argument or the return value cannot be serialised.
    #[error("{task}: the {what} cannot be encoded for a worker process: {reason}")]
    Encode {
        /// The call.
        task: TaskRef,
        /// `argument` or `return value`.
        what: &'static str,
        /// The serialiser's words.
        reason: String,
    },

    /// The argument or the return value arrived, but could not be read back; or not within the
    /// bounds that there are for [what travels](crate::Portable).
    #[error(
        "{task}: the {what} could not be decoded on the other side: {reason}; its `Serialize` and `Deserialize` must mirror each other, and formats that need `deserialize_any` (untagged, flatten) cannot travel"
    )]
    Decode {
        /// The call.
        task: TaskRef,
        /// `argument` or `return value`.
        what: &'static str,
        /// The deserialiser's words.
        reason: String,
    },

    /// The function cannot be called in a worker process.
    #[error("{task} cannot be called in a worker process: {reason}")]
    NotPortable {
        /// The call.
        task: TaskRef,
        /// Why.
        reason: String,
    },

    /// An argument of this library was wrong.
    #[error("{what}: {remedy}")]
    InvalidArgument {
        /// What was wrong.
        what: String,
        /// What to pass instead.
        remedy: String,
    },

    /// A process pool was wanted, but [`init`](crate::init) did not run in this program.
    #[error(
        "worker processes are copies of this program, and it does not let them in: \
         make `concurrent_futures::init();` the first line of `main` \
         (in a test binary: the line `concurrent_futures::init_tests!();` at the top of the file)"
    )]
    NotInitialised,

    /// A process pool was wanted in a program that has other rights than whoever started it: setuid,
    /// setgid, capabilities of its file, or what a security module gave it (`AT_SECURE`). Its
    /// environment and its descriptors are of a stranger's choice, and its workers would trust them.
    #[error(
        "this program has other rights than whoever started it (setuid, setgid, capabilities of its file), and \
         so it has no process pools: use `ThreadPoolExecutor`, or start it with the rights that it needs \
         (as a service, by sudo)"
    )]
    Setuid,

    /// The operating system refused a thread, a process or a pipe.
    #[error("{what} could not be started: {error}")]
    Spawn {
        /// What was to be started.
        what: String,
        /// What the system said.
        #[source]
        error: Arc<std::io::Error>,
    },

    /// The broker that stands between this program and its workers cannot be reached, refuses us, or has been away for
    /// longer than it may be.
    #[error("the broker {broker}: {reason}")]
    Broker {
        /// Its address, without the password.
        broker: String,
        /// What is wrong, and what can be done about it.
        reason: String,
    },

    /// A worker on another machine does not know the function, knows it with other types, or cannot make the call for another
    /// reason.
    #[error("{task} cannot be called by the worker {worker}: {reason}")]
    Unknown {
        /// The call.
        task: TaskRef,
        /// The worker that was asked.
        worker: String,
        /// What it knows instead, and what can be done about it.
        reason: String,
    },

    /// This platform, or this kind of executor, does not have it.
    #[error("{what} not supported; {remedy}")]
    Unsupported {
        /// What is missing.
        what: &'static str,
        /// What to use instead.
        remedy: &'static str,
    },
}

impl Error {
    /// Wraps an error of one's own, for [`Promise::fail`](crate::Promise::fail) and custom executors.
    ///
    /// ```
    /// use concurrent_futures::{Error, Promise};
    ///
    /// let (promise, future) = Promise::<u32>::new();
    /// let task = promise.task();
    /// promise.fail(Error::raised(task, std::io::Error::other("no disk")));
    /// let error = future.result().unwrap_err();
    /// assert_eq!(error.downcast_ref::<std::io::Error>().unwrap().to_string(), "no disk");
    /// ```
    pub fn raised(task: TaskRef, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Error::Raised { task, error: Arc::from(error.into()) }
    }

    /// The error that the call itself returned (at its last attempt), if it was an `E` and did not
    /// cross a process wall.
    ///
    /// ```
    /// use std::io;
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let error = pool.try_submit(std::fs::read, "/no/such/file").result().unwrap_err();
    /// assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        match self {
            Error::Raised { error, .. } => error.downcast_ref(),
            Error::GaveUp { attempts, .. } => attempts.last()?.downcast_ref(),
            _ => None,
        }
    }

    /// Gives the call another name, where it has `old`.
    pub(crate) fn rename(&mut self, old: &str, new: &'static str) {
        match self {
            Error::Cancelled { task } | Error::Panicked { task, .. } | Error::ShutDown { task }
                if task.name == old =>
            {
                task.name = new;
            }
            Error::TimedOut { what, .. } | Error::InvalidArgument { what, .. } => {
                *what = what.replace(&format!("`{old}`"), &format!("`{new}`"));
            }
            _ => (),
        }
    }

    /// The call that the error speaks of, if it speaks of one.
    ///
    /// ```
    /// use concurrent_futures::ThreadPoolExecutor;
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let future = pool.try_submit(str::parse::<u32>, "many");
    /// let id = future.id();
    /// let error = future.result().unwrap_err();
    /// assert_eq!(error.task().unwrap().id, id);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn task(&self) -> Option<TaskRef> {
        match self {
            Error::Cancelled { task }
            | Error::Panicked { task, .. }
            | Error::Raised { task, .. }
            | Error::WorkerDied { task, .. }
            | Error::GaveUp { task, .. }
            | Error::ShutDown { task }
            | Error::Encode { task, .. }
            | Error::Decode { task, .. }
            | Error::NotPortable { task, .. }
            | Error::Unknown { task, .. } => Some(*task),
            _ => None,
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::InvalidArgument { what: what.into(), remedy: remedy.into() }
    }

    pub(crate) fn spawn(what: impl Into<String>, error: std::io::Error) -> Self {
        Error::Spawn { what: what.into(), error: Arc::new(error) }
    }

    pub(crate) fn broken(reason: impl Into<String>, cause: Option<Error>) -> Self {
        Error::Broken { reason: reason.into(), cause: cause.map(Arc::new) }
    }
}

fn describe(status: &Option<ExitStatus>) -> String {
    status.map_or_else(|| "how, the system did not tell".into(), |status| status.to_string())
}

/// What else a death has to tell.
fn circumstances(attempt: u32, peak_memory: Option<u64>, probable_cause: Option<&str>) -> String {
    let cause = probable_cause.map(|cause| format!("; {cause}"));
    let peak = peak_memory.map(|bytes| format!("; its peak memory was {} MiB", bytes >> 20));
    let attempt = (attempt > 1).then(|| format!("; this was attempt {attempt}"));
    [cause, peak, attempt].into_iter().flatten().collect()
}

fn numbered(attempts: &[Error]) -> String {
    let line = |(number, error)| format!("\n  {number}. {error}");
    (1..).zip(attempts).map(line).collect()
}

/// What is known of a panic: its message, where it happened, and the backtrace where
/// `RUST_BACKTRACE` asks for one.
///
/// Out of a worker process comes the same report; the payload stays there.
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// let error = pool.submit(|n: u32| 1 / n, 0).result().unwrap_err();
/// let Error::Panicked { panic, .. } = error else { unreachable!("it panics") };
/// println!("{panic}");                         // attempt to divide by zero (at src/main.rs:4:34)
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone)]
pub struct Panic(Arc<Report>);

struct Report {
    message: String,
    location: Option<String>,
    backtrace: Option<String>,
    payload: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Panic {
    pub(crate) fn new(
        message: String,
        location: Option<String>,
        backtrace: Option<String>,
        payload: Option<Box<dyn Any + Send>>,
    ) -> Self {
        Panic(Arc::new(Report { message, location, backtrace, payload: Mutex::new(payload) }))
    }

    /// What `panic!` was given, if it was text; otherwise a phrase that says it was not.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let error = pool.submit(|n: u32| 1 / n, 0).result().unwrap_err();
    /// let Error::Panicked { panic, .. } = error else { unreachable!("it panics") };
    /// assert_eq!(panic.message(), "attempt to divide by zero");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// `file:line:column`. `None` only if somebody replaced the panic hook after the first call.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (error, line) = (pool.spawn(|| panic!("no")).result().map(|(): ()| ()).unwrap_err(), line!());
    /// let Error::Panicked { panic, .. } = error else { unreachable!("it panics") };
    /// assert!(panic.location().unwrap().contains(&format!(":{line}:")));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.0.location.as_deref()
    }

    /// The backtrace, if `RUST_BACKTRACE` or `RUST_LIB_BACKTRACE` asks for it.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let error = pool.submit(|n: u32| 1 / n, 0).result().unwrap_err();
    /// if let Error::Panicked { panic, .. } = error {
    ///     println!("{}", panic.backtrace().unwrap_or("set RUST_BACKTRACE=1 to see where"));
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn backtrace(&self) -> Option<&str> {
        self.0.backtrace.as_deref()
    }

    /// Panics again, here, with the payload of the original (the message, where the payload
    /// was left in a worker process or was taken before). The panic hook does not run again.
    ///
    /// ```
    /// use concurrent_futures::{Error, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let error = pool.spawn(|| -> u32 { std::panic::panic_any(42) }).result().unwrap_err();
    /// let Error::Panicked { panic, .. } = error else { unreachable!("it panics") };
    /// let resumed = std::thread::spawn(|| panic.resume()).join();
    /// assert_eq!(resumed.unwrap_err().downcast_ref(), Some(&42));     // the payload itself
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn resume(self) -> ! {
        let payload = self.0.payload.lock().take();
        std::panic::resume_unwind(payload.unwrap_or_else(|| Box::new(self.0.message.clone())))
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        // A payload is user code: its destructor may panic in turn.
        let payload = self.payload.get_mut().take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(std::mem::forget);
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        if let Some(location) = self.location() {
            write!(f, " (at {location})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panic")
            .field("message", &self.message())
            .field("location", &self.location())
            .field("backtrace", &Lines(self.backtrace().unwrap_or("none: RUST_BACKTRACE is not set")))
            .finish()
    }
}

/// Text that keeps its lines in `{:?}`, which is how `main` prints an error.
struct Lines<'a>(&'a str);

impl fmt::Debug for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An error that a call returned in a worker process, as text: errors have no common way to travel.
///
/// [`source`](StdError::source) leads through the chain as it was there. An error that must
/// arrive typed travels as a value: `submit` gives `Future<Result<R, E>>`.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, RemoteError};
///
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();
///     let pool = ProcessPoolExecutor::new(1)?;
///     let failed = pool.try_submit(|text: String| text.parse::<u32>(), "many".to_string());
///     let error = failed.result().unwrap_err();
///     let Error::Raised { error, .. } = error else { unreachable!("it is an error of the call") };
///     let remote = error.downcast_ref::<RemoteError>().unwrap();
///     assert_eq!(remote.to_string(), "invalid digit found in string");
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    type_name: Option<String>,
    message: String,
    source: Option<Box<RemoteError>>,
}

impl RemoteError {
    /// From a type name, a message, and the messages of the sources, outermost first.
    pub(crate) fn new(type_name: String, message: String, sources: Vec<String>) -> Self {
        let source = sources
            .into_iter()
            .rev()
            .fold(None, |source, message| Some(Box::new(RemoteError { type_name: None, message, source })));
        RemoteError { type_name: Some(type_name), message, source }
    }

    /// The type of the error there, as [`std::any::type_name`] gives it. Sources do not tell theirs.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor, RemoteError};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::new(1)?;
    ///     let failed = pool.try_submit(|text: String| text.parse::<u32>(), "many".to_string());
    ///     let error = failed.result().unwrap_err();
    ///     let remote = error.downcast_ref::<RemoteError>().unwrap();
    ///     assert!(remote.type_name().unwrap().ends_with("ParseIntError"));
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn type_name(&self) -> Option<&str> {
        self.type_name.as_deref()
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for RemoteError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
