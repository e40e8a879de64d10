//! [`Task`]: a call with its promise, its types erased: run it here, or encode it, and complete
//! it when the reply comes. And what a running call can ask about itself, and say: [`attempt`], [`cancelled`], [`name`],
//! [`progress`], [`worker`].
//!
//! Not here: what a call is made of (`jobs.rs`), queues and workers (`pool`), what travels and how (`portable`).
//! The rule: a work item is run, completed, failed or cancelled once, by value; one that is
//! dropped breaks its future. So a future only ever waits for a task that somebody still holds.
//!
//! ```
//! use concurrent_futures::{Executor, SerialExecutor, task};
//!
//! assert_eq!(SerialExecutor::new().submit(|()| task::attempt(), ()).result()?, 1);
//! assert_eq!(task::attempt(), 0);                         // outside of any call
//! assert!(task::name().is_none() && !task::cancelled());
//! # Ok::<(), concurrent_futures::Error>(())
//! ```

mod course;
#[cfg(all(test, loom))]
mod interleavings;
mod jobs;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::account::{Account, Start, Ticket};
use crate::enclosed::{Enclosure, Received, unpacking};
use crate::error::Error;
use crate::future::Future;
use crate::future::Started;
use crate::future::cell::{Cell, Job, Watch};
use crate::future::own_pool::{is_employed, my_home};
use crate::future::state::Freed;
use crate::id::TaskRef;
use crate::options::Attempts;
use crate::outcome::{self, discard};
#[cfg(feature = "amqp")]
use crate::portable::Named;
use crate::portable::{enclosing, guarded};
use crate::signals;
use crate::wire::frame::{Kind, Parcel};
use crate::wire::message::{Failure, FunctionRef, end_call, set_attempt};
use crate::worker::WorkerInfo;
pub(crate) use course::{Copied, course};
pub(crate) use jobs::{Batch, Closure, Mapped, OneCall, Optioned, Repeated};

/// Which attempt of the call this is, inside of a call: 1, unless its
/// [`TaskOptions::retries`](crate::TaskOptions::retries) have it tried again. 0 outside of any call.
///
/// ```
/// use concurrent_futures::{Executor, SerialExecutor, task};
///
/// assert_eq!(SerialExecutor::new().submit(|()| task::attempt(), ()).result()?, 1);
/// assert_eq!(task::attempt(), 0);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use]
pub fn attempt() -> u32 {
    outcome::innermost().map_or(0, |call| call.attempt)
}

/// Is the call in which this is asked not wanted any more? A call that takes long asks now and then, and returns early.
///
/// It is true from when somebody has called [`Future::cancel`] on the call while it ran, has dropped the
/// [`Map`](crate::Map) that it is an item of, or has shut its executor down with
/// [`cancel_futures`](crate::Shutdown::cancel_futures). In a worker process it is true also when the call has used up its
/// [time limit](crate::TaskOptions::timeout): one that has asked before has the pool's
/// [`grace_period`](crate::ProcessPoolBuilder::grace_period) to return, and its worker lives on; its future ends with
/// [`Error::TimedOut`] all the same. What the call returns is up to it: nothing is stopped, and a cancelled call that
/// returns a value has that value.
///
/// False outside of any call. It costs a few nanoseconds. On Unixes other than Linux worker processes are not told.
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor, task};
///
/// fn count(limit: u64) -> u64 {
///     (0..limit).take_while(|_| !task::cancelled()).count() as u64
/// }
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// let future = Executor::submit(&pool, count, u64::MAX);
/// while !future.running() {
///     std::thread::yield_now();
/// }
/// assert!(!future.cancel(), "it runs, so it is asked to stop");
/// assert!(future.result()? < u64::MAX);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use]
pub fn cancelled() -> bool {
    signals::is_cancelled(my_home())
}

/// Tells whoever [listens](Future::on_progress) to this call how far it is: `done` of `total`, in units of the call's own.
/// `total` is 0 where that is not known.
///
/// On threads those who listen are called here and now. A worker process leaves the latest in memory that it shares with
/// its host, and wakes it at most once a millisecond: what is not the latest may be passed over, what was said last before
/// the end of the call is not. Without anybody who listens, and outside of any call, nothing happens; so a library may
/// tell as often as it likes.
///
/// ```
/// use concurrent_futures::{Executor, SerialExecutor, task};
///
/// fn sum(numbers: Vec<u64>) -> u64 {
///     let mut sum = 0;
///     for (done, number) in (1..).zip(&numbers) {
///         sum += number;
///         task::progress(done, numbers.len() as u64);
///     }
///     sum
/// }
///
/// // Without anybody who listens it is only a sum.
/// assert_eq!(SerialExecutor::new().submit(sum, vec![20, 22]).result()?, 42);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub fn progress(done: u64, total: u64) {
    signals::progress(my_home(), done, total);
}

/// The name of the function that is called, as [`std::any::type_name`] gives it. `None` outside of any call.
///
/// ```
/// use concurrent_futures::{Executor, SerialExecutor, task};
///
/// fn whoami((): ()) -> Option<String> {
///     task::name().map(ToString::to_string)
/// }
///
/// assert!(SerialExecutor::new().submit(whoami, ()).result()?.unwrap().ends_with("whoami"));
/// assert_eq!(task::name(), None);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use]
pub fn name() -> Option<&'static str> {
    outcome::innermost().map(|call| call.name)
}

/// The name of the worker that runs this call: the name of its thread, or of its process as `ps` shows it; both end with
/// the worker's number. `None` outside of any call, and where the caller's own thread runs it.
///
/// ```
/// use concurrent_futures::{ThreadPoolExecutor, task};
///
/// let pool = ThreadPoolExecutor::builder().max_workers(1).thread_name_prefix("resizer").build()?;
/// assert_eq!(pool.spawn(task::worker).result()?.as_deref(), Some("resizer_0"));
/// assert_eq!(task::worker(), None);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use]
pub fn worker() -> Option<String> {
    outcome::innermost()?;
    if let Some(name) = signals::hosts_worker() {
        return Some(name.to_owned());
    }
    is_employed().then(|| std::thread::current().name().map(ToOwned::to_owned)).flatten()
}

/// A job that can also be done in another process.
pub(crate) trait PortableJob: Job {
    fn function(&self) -> Result<FunctionRef, String>;
    /// Appends the argument. What is left of it may be empty: it is to be dropped.
    fn encode(&mut self, task: TaskRef, out: &mut Parcel) -> Result<(), Failure>;
    /// What the call is allowed, where that is something special; for whoever sends it away.
    fn take_attempts(&mut self) -> Option<Box<Attempts>> {
        None
    }
    /// What its function is called, where there is no address.
    #[cfg(feature = "amqp")]
    fn named() -> Named;
    /// Makes the value out of the reply, and perhaps out of its memory.
    fn decode(reply: &mut Vec<u8>, task: TaskRef) -> Result<Self::Output, Failure>;
}

/// A cell as workers see it.
pub(crate) trait Work: Watch {
    /// It is going to be queued there.
    fn settle(&self, ticket: Ticket);
    /// Those with a higher one are taken first.
    fn priority(&self) -> i16 {
        0
    }
    /// Runs the call here, unless it has been cancelled.
    fn run(&self, freed: &dyn Freed);
    /// As `run`, but one attempt, in a worker of a pool. `Some`: there is to be another at that moment.
    fn run_once(&self, freed: &dyn Freed) -> Option<Instant>;
    /// Is it for more workers than one? Then it stays in the queue.
    fn is_for_many(&self) -> bool {
        false
    }
    /// How many calls of it wait.
    fn calls(&self) -> usize {
        1
    }
    /// Ends a call that nobody has started.
    fn fail(&self, error: Error);
    /// Pending → running, elsewhere. `None`: cancelled, there is nothing to do.
    fn begin(&self) -> Option<Started>;
    /// Running, elsewhere → pending: it did not run there, or there is to be another attempt.
    fn put_back(&self, started: Started);
    /// Running, elsewhere → cancelled: it did not run there.
    fn call_off(&self, started: Started);
    /// Ends a call that was made elsewhere, without a value.
    fn break_off(&self, started: Started, error: Error, freed: &dyn Freed);
}

/// The same for calls that can be made in another process.
pub(crate) trait PortableWork: Work {
    /// Makes the frame of the call. The argument is dropped: from here on the bytes stand for it.
    fn encode(&self) -> Result<Encoded, Error>;
    /// The same for a worker that knows functions by name: the frame has the argument alone, and is not ended.
    #[cfg(feature = "amqp")]
    fn encode_named(&self) -> Result<(Named, Encoded), Error>;
    /// Ends the future with what the worker returned.
    fn complete(&self, started: Started, reply: Reply<'_>, freed: &dyn Freed);
    /// Ends the future with what came of the call, if that runs no code of those who listen. `Some`: it would, and
    /// this is what is left to do.
    fn complete_unheard(
        self: Arc<Self>,
        started: Started,
        reply: Result<Reply<'_>, Error>,
    ) -> Option<Completion>;
}

/// A call as it travels.
pub(crate) struct Encoded {
    pub(crate) frame: Parcel,
    /// What it is allowed, if that is something special.
    pub(crate) attempts: Option<Box<Attempts>>,
    /// What goes beside the frame, as a rule nothing.
    pub(crate) enclosed: Vec<Enclosure>,
}

/// What came back from a call.
pub(crate) struct Reply<'a> {
    /// Of the value. Their memory may become its own.
    pub(crate) bytes: &'a mut Vec<u8>,
    /// What came beside them.
    pub(crate) received: Received,
}

impl Reply<'_> {
    /// The value of that job.
    fn read<J: PortableJob>(self, task: TaskRef) -> Result<J::Output, Failure> {
        guarded(task, || unpacking(&self.received, || J::decode(self.bytes, task)))
    }
}

/// What is left to do to end a call.
pub(crate) type Completion = Box<dyn FnOnce() + Send>;

impl<J: Job> Work for Cell<J> {
    fn settle(&self, ticket: Ticket) {
        Cell::settle(self, ticket);
    }

    fn priority(&self) -> i16 {
        Cell::priority(self)
    }

    fn run(&self, freed: &dyn Freed) {
        Cell::run(self, freed);
    }

    fn run_once(&self, freed: &dyn Freed) -> Option<Instant> {
        Cell::run_once(self, freed)
    }

    fn fail(&self, error: Error) {
        Cell::fail(self, error);
    }

    fn begin(&self) -> Option<Started> {
        Cell::begin(self)
    }

    fn put_back(&self, started: Started) {
        Cell::put_back(self, started);
    }

    fn call_off(&self, started: Started) {
        Cell::call_off(self, started);
    }

    fn break_off(&self, started: Started, error: Error, freed: &dyn Freed) {
        self.resolve(started, Err(error), freed);
    }
}

impl<J: PortableJob> PortableWork for Cell<J> {
    fn encode(&self) -> Result<Encoded, Error> {
        let task = self.task();
        let job = self.take_job().ok_or(Error::Cancelled { task })?;
        let function = job.function().map_err(|reason| Error::NotPortable { task, reason })?;
        let mut encoded = self.write(job)?;
        end_call(&mut encoded.frame, function);
        if let Some(attempts) = &encoded.attempts
            && attempts.number() != 1
        {
            set_attempt(&mut encoded.frame, attempts.number());
        }
        Ok(encoded)
    }

    #[cfg(feature = "amqp")]
    fn encode_named(&self) -> Result<(Named, Encoded), Error> {
        let job = self.take_job().ok_or(Error::Cancelled { task: self.task() })?;
        Ok((J::named(), self.write(job)?))
    }

    fn complete(&self, started: Started, reply: Reply<'_>, freed: &dyn Freed) {
        let task = self.task();
        let outcome = reply.read::<J>(task);
        self.resolve(started, outcome.map_err(|failure| outcome::arrived(task, failure)), freed);
    }

    fn complete_unheard(
        self: Arc<Self>,
        started: Started,
        reply: Result<Reply<'_>, Error>,
    ) -> Option<Completion> {
        let task = self.task();
        let outcome =
            reply.and_then(|reply| reply.read::<J>(task).map_err(|failure| outcome::arrived(task, failure)));
        match self.resolve_unheard(started, outcome) {
            Ok(()) => {
                discard(self);
                None
            }
            Err((started, outcome)) => Some(Box::new(move || {
                self.resolve(started, outcome, &());
                discard(self);
            })),
        }
    }
}

impl<J: PortableJob> Cell<J> {
    /// A frame with the argument in it, to be ended, and what goes with it.
    fn write(&self, mut job: J) -> Result<Encoded, Error> {
        let task = self.task();
        let mut frame = Parcel::begin(Kind::Call, task.id.get());
        let enclosed = enclosing(task, &mut frame, |frame| job.encode(task, frame));
        let attempts = job.take_attempts();
        discard(job);
        enclosed
            .map(|enclosed| Encoded { frame, attempts, enclosed })
            .map_err(|failure| outcome::arrived(task, failure))
    }
}

/// The right, and the duty, to end one call.
pub(crate) struct WorkItem<W: ?Sized + Work>(Option<Arc<W>>);

impl<W: ?Sized + Work> WorkItem<W> {
    pub(crate) fn task(&self) -> TaskRef {
        self.work().task()
    }

    pub(crate) fn run(self) {
        self.end(|work| work.run(&()));
    }

    pub(crate) fn cancel(self) {
        self.end(|work| {
            work.cancel();
        });
    }

    pub(crate) fn fail(self, error: Error) {
        self.end(|work| work.fail(error));
    }

    /// Of a call that somebody else runs.
    pub(crate) fn forget(self) {
        self.end(|_| ());
    }

    pub(crate) fn priority(&self) -> i16 {
        self.work().priority()
    }

    pub(crate) fn calls(&self) -> usize {
        self.work().calls()
    }

    /// Has it ended, by whoever cancelled it?
    pub(crate) fn is_ended(&self) -> bool {
        self.work().phase().is_over()
    }

    /// Is it the call of that cell?
    pub(crate) fn stands_for(&self, cell: *const ()) -> bool {
        std::ptr::addr_eq(self.work(), cell)
    }

    /// Starts a call that is made elsewhere. `None`: it was cancelled.
    pub(crate) fn begin(mut self) -> Option<Begun<W>> {
        let work = self.take();
        let started = work.begin();
        if started.is_none() {
            discard(work);
            return None;
        }
        Some(Begun { work, started })
    }

    fn work(&self) -> &W {
        self.0.as_ref().unwrap_or_else(|| unreachable!("only methods that consume the item take it"))
    }

    fn end(mut self, how: impl FnOnce(&W)) {
        let work = self.take();
        how(&work);
        // An error that callbacks were told of may be dropped with it, and is the user's.
        discard(work);
    }

    fn take(&mut self) -> Arc<W> {
        self.0.take().unwrap_or_else(|| unreachable!("only methods that consume the item take it"))
    }
}

impl WorkItem<dyn Work> {
    /// The same for one more worker, if it is for many.
    pub(crate) fn another(&self) -> Option<Self> {
        self.work().is_for_many().then(|| WorkItem(self.0.clone()))
    }

    /// As `run`, but one attempt. It comes back if there is to be another, at that moment.
    pub(crate) fn run_once(self, freed: &dyn Freed) -> Option<(Self, Instant)> {
        let again = self.work().run_once(freed);
        match again {
            Some(due) => Some((self, due)),
            None => {
                self.end(|_| ());
                None
            }
        }
    }
}

impl WorkItem<dyn PortableWork> {
    pub(crate) fn encode(&self) -> Result<Encoded, Error> {
        self.work().encode()
    }

    #[cfg(feature = "amqp")]
    pub(crate) fn encode_named(&self) -> Result<(Named, Encoded), Error> {
        self.work().encode_named()
    }
}

/// The right, and the duty, to end a call that was started, and is made elsewhere.
pub(crate) struct Begun<W: ?Sized + Work> {
    work: Arc<W>,
    /// Absent once the duty is done.
    started: Option<Started>,
}

impl<W: ?Sized + Work> Begun<W> {
    pub(crate) fn task(&self) -> TaskRef {
        self.work.task()
    }

    /// It was begun at that time, by that worker: tells it, unless that was done before, or it is not timed.
    pub(crate) fn starts(
        &mut self,
        account: &Account,
        attempt: u32,
        worker: Option<&WorkerInfo>,
        at: Instant,
    ) {
        let task = self.task();
        if let Some(started) = &mut self.started {
            account.starts(&mut started.watch, task, attempt, worker, at);
        }
    }

    /// It was begun at that time; whoever asks tells. `None`: that was noted before, or it is not timed.
    pub(crate) fn note_start(&mut self, account: &Account, at: Instant) -> Option<Start> {
        account.note_start(&mut self.started.as_mut()?.watch, at)
    }

    /// Is it timed, and was not said to have begun?
    pub(crate) fn is_to_start(&self) -> bool {
        self.started.as_ref().is_some_and(|started| started.watch.is_timed() && !started.watch.has_started())
    }

    pub(crate) fn fail(mut self, error: Error, freed: &dyn Freed) {
        self.end(|work, started| work.break_off(started, error, freed));
    }

    /// It did not run, or is to run once more. Runs no code of the user.
    pub(crate) fn put_back(mut self) -> WorkItem<W> {
        self.end(|work, started| work.put_back(started));
        WorkItem(Some(Arc::clone(&self.work)))
    }

    /// Cancels it: it did not run.
    pub(crate) fn call_off(mut self) {
        self.end(|work, started| work.call_off(started));
    }

    fn end(&mut self, how: impl FnOnce(&W, Started)) {
        if let Some(started) = self.started.take() {
            how(&self.work, started);
        }
    }
}

impl Begun<dyn PortableWork> {
    pub(crate) fn complete(mut self, reply: Reply<'_>, freed: &dyn Freed) {
        self.end(|work, started| work.complete(started, reply, freed));
    }

    /// As `complete` or `fail`, unless that would run code of those who listen. `Some`: then this is left to do.
    pub(crate) fn complete_unheard(mut self, reply: Result<Reply<'_>, Error>) -> Option<Completion> {
        let started = self.started.take()?;
        Arc::clone(&self.work).complete_unheard(started, reply)
    }
}

impl<W: ?Sized + Work> Drop for Begun<W> {
    fn drop(&mut self) {
        self.end(|work, started| work.break_off(started, dropped(work.task()), &()));
    }
}

fn dropped(task: TaskRef) -> Error {
    Error::broken(format!("{task} was dropped by its executor before it ended"), None)
}

impl<W: ?Sized + Work> Drop for WorkItem<W> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work.fail(dropped(work.task()));
            discard(work);
        }
    }
}

/// A task of a thread pool's own `submit`, and its future.
pub(crate) fn local<J: Job>(job: J, ticket: Ticket) -> (WorkItem<dyn Work>, Future<J::Output>) {
    let cell = Arc::new(Cell::new(Some(job), ticket));
    (WorkItem(Some(cell.clone())), Future::new(cell))
}

/// A call on its way to a worker, with the duty to end its future: what an
/// [`Executor`](crate::Executor) is handed.
///
/// Run it, here or on another thread; fail it; or cancel it. A task that is dropped instead
/// breaks its future, with [`Error::Broken`].
///
/// ```
/// use concurrent_futures::{Executor, Shutdown, Task};
///
/// /// A thread per task, and no limit.
/// struct ThreadPerTask;
///
/// impl Executor for ThreadPerTask {
///     fn execute(&self, task: Task) {
///         std::thread::spawn(move || task.run());
///     }
///     fn shutdown_with(&self, _: Shutdown) {}
/// }
///
/// assert_eq!(ThreadPerTask.submit(|n: u32| n + 1, 41).result()?, 42);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "a task that is dropped breaks its future"]
pub struct Task(WorkItem<dyn PortableWork>);

impl Task {
    pub(crate) fn new<J: PortableJob>(job: J) -> (Task, Future<J::Output>) {
        let cell = Arc::new(Cell::new(Some(job), Ticket::NONE));
        (Task(WorkItem(Some(cell.clone()))), Future::new(cell))
    }

    /// Offers a task to an executor, and gets its job back if that does not take it.
    pub(crate) fn offer<J: PortableJob>(
        job: J,
        to: impl FnOnce(Task) -> Result<(), Task>,
    ) -> Result<Future<J::Output>, J> {
        let cell = Arc::new(Cell::new(Some(job), Ticket::NONE));
        let future = Future::new(cell.clone());
        let Err(task) = to(Task(WorkItem(Some(cell.clone())))) else { return Ok(future) };
        let Some(job) = cell.take_job() else {
            // The executor has used it all the same, so its future must end.
            return Ok(future);
        };
        // Nobody has seen the future.
        task.cancel();
        Err(job)
    }

    /// Runs the call in this thread, unless it has been cancelled; a panic of it is caught.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use concurrent_futures::{Executor, Shutdown, Task};
    ///
    /// /// Queues, until somebody runs what is there.
    /// struct Later(mpsc::Sender<Task>);
    ///
    /// impl Executor for Later {
    ///     fn execute(&self, task: Task) {
    ///         // Nobody takes it any more: dropped, it breaks its future.
    ///         let _ = self.0.send(task);
    ///     }
    ///     fn shutdown_with(&self, _: Shutdown) {}
    /// }
    ///
    /// let (queue, tasks) = mpsc::channel();
    /// let future = Later(queue).submit(|n: u32| n + 1, 41);
    /// tasks.into_iter().for_each(Task::run);
    /// assert_eq!(future.result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn run(self) {
        self.0.run();
    }

    /// Ends the future with `error`.
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, Shutdown, Task};
    ///
    /// /// Takes nothing.
    /// struct Closed;
    ///
    /// impl Executor for Closed {
    ///     fn execute(&self, task: Task) {
    ///         let error = Error::ShutDown { task: task.task() };
    ///         task.fail(error);
    ///     }
    ///     fn shutdown_with(&self, _: Shutdown) {}
    /// }
    ///
    /// assert!(matches!(Closed.submit(|n: u32| n, 42).result(), Err(Error::ShutDown { .. })));
    /// ```
    pub fn fail(self, error: Error) {
        self.0.fail(error);
    }

    /// Cancels the call.
    ///
    /// ```
    /// use concurrent_futures::{Executor, Shutdown, Task};
    ///
    /// /// Does nothing that it need not do.
    /// struct Lazy;
    ///
    /// impl Executor for Lazy {
    ///     fn execute(&self, task: Task) {
    ///         task.cancel();
    ///     }
    ///     fn shutdown_with(&self, _: Shutdown) {}
    /// }
    ///
    /// assert!(Lazy.submit(|n: u32| n, 42).cancelled());
    /// ```
    pub fn cancel(self) {
        self.0.cancel();
    }

    /// The name of the function and the id of the future.
    ///
    /// ```
    /// use concurrent_futures::{Executor, Shutdown, Task};
    ///
    /// /// Tells what it runs.
    /// struct Loud;
    ///
    /// impl Executor for Loud {
    ///     fn execute(&self, task: Task) {
    ///         println!("{}", task.task());
    ///         task.run();
    ///     }
    ///     fn shutdown_with(&self, _: Shutdown) {}
    /// }
    ///
    /// assert_eq!(Loud.submit(|n: u32| n + 1, 41).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn task(&self) -> TaskRef {
        self.0.task()
    }

    /// Its [priority](crate::TaskOptions::priority): an executor with a queue takes higher ones first.
    ///
    /// ```
    /// use concurrent_futures::{Executor, Shutdown, Task, TaskOptions};
    ///
    /// /// Has no time for what can wait.
    /// struct Busy;
    ///
    /// impl Executor for Busy {
    ///     fn execute(&self, task: Task) {
    ///         if task.priority() < 0 { task.cancel() } else { task.run() }
    ///     }
    ///     fn shutdown_with(&self, _: Shutdown) {}
    /// }
    ///
    /// assert_eq!(Busy.submit(|n: u32| n, 42).result()?, 42);
    /// assert!(Busy.submit_with(|n: u32| n, 42, TaskOptions::new().priority(-1)).cancelled());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn priority(&self) -> i16 {
        self.0.priority()
    }

    /// For engines that only run it here, queued in the pool of that ticket.
    pub(crate) fn into_local(mut self, ticket: Ticket) -> WorkItem<dyn Work> {
        let work = self.0.take();
        work.settle(ticket);
        WorkItem(Some(work))
    }

    /// For engines that send it away, queued in the pool of that ticket.
    pub(crate) fn into_portable(self, ticket: Ticket) -> WorkItem<dyn PortableWork> {
        self.0.work().settle(ticket);
        self.0
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.task()).finish()
    }
}
