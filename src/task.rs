//! [`Task`]: a call with its promise, its types erased: run it here, or encode it, and complete
//! it when the reply comes. And what a running call can ask about itself: [`attempt`].
//!
//! Not here: queues and workers (`pool`), what travels and how (`portable`).
//! The rule: a work item is run, completed, failed or cancelled once, by value; one that is
//! dropped breaks its future. So a future only ever waits for a task that somebody still holds.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use crate::error::Error;
use crate::future::Future;
use crate::future::cell::{Attempt, Cell, Job, Watch};
use crate::future::state::Stop;
use crate::id::Home;
use crate::id::TaskRef;
use crate::map::{Outcomes, first_error};
use crate::options::{Attempts, TaskOptions};
use crate::outcome::{self, catch_attempt, discard};
use crate::portable::{self, Each, Entries, Function, Once, Portable, Raised, guarded};
use crate::wire::frame::{self, Kind};
use crate::wire::message::{Failure, FunctionRef, begin_call};

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
    outcome::attempt()
}

/// A job that can also be done in another process.
pub(crate) trait PortableJob: Job {
    fn function(&self) -> Result<FunctionRef, String>;
    /// Appends the argument's bytes.
    fn encode(&self, task: TaskRef, out: &mut Vec<u8>) -> Result<(), Failure>;
    /// What the call is allowed, where that is something special; for whoever sends it away.
    fn take_attempts(&mut self) -> Option<Box<Attempts>> {
        None
    }
    fn decode(reply: &[u8], task: TaskRef) -> Result<Self::Output, Failure>;
}

/// A job of a thread: any closure, under the name of the user's function `N`.
pub(crate) struct Closure<N, F, R>(F, PhantomData<fn(N) -> R>);

impl<N, F, R> Closure<N, F, R> {
    pub(crate) fn new(call: F) -> Self {
        Closure(call, PhantomData)
    }
}

impl<N, F, R> Job for Closure<N, F, R>
where
    N: 'static,
    F: FnOnce() -> Result<R, Raised> + Send + 'static,
    R: Send + 'static,
{
    type Output = R;

    fn name() -> &'static str {
        std::any::type_name::<N>()
    }

    fn run(self, task: TaskRef) -> Result<R, Error> {
        call(task, 1, self.0)
    }
}

/// A chunk of a thread pool's own `map`: the closure is shared, the items are its own.
pub(crate) struct Mapped<N, F, A> {
    call: Arc<F>,
    items: Vec<A>,
    name: PhantomData<fn(N)>,
}

impl<N, F, A> Mapped<N, F, A> {
    pub(crate) fn new(call: Arc<F>, items: Vec<A>) -> Self {
        Mapped { call, items, name: PhantomData }
    }
}

impl<N, F, A, R> Job for Mapped<N, F, A>
where
    N: 'static,
    F: Fn(A) -> Result<R, Raised> + Send + Sync + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    type Output = Outcomes<R>;

    fn name() -> &'static str {
        std::any::type_name::<N>()
    }

    fn error_in(outcome: &Result<Self::Output, Error>) -> Option<&Error> {
        outcome.as_ref().map_or_else(Some, |outcomes| first_error(outcomes))
    }

    fn run(self, task: TaskRef) -> Result<Outcomes<R>, Error> {
        Ok(each(task, self.items, |item| (self.call)(item)))
    }
}

/// One call of a function that can travel.
pub(crate) struct OneCall<Fun: Function>(pub(crate) Fun, pub(crate) Fun::Argument);

impl<Fun: Function> Job for OneCall<Fun> {
    type Output = Fun::Return;

    fn name() -> &'static str {
        Fun::name()
    }

    fn run(self, task: TaskRef) -> Result<Fun::Return, Error> {
        call(task, 1, || self.0.call(self.1))
    }
}

impl<Fun: Function<Argument: Portable, Return: Portable>> PortableJob for OneCall<Fun> {
    fn function(&self) -> Result<FunctionRef, String> {
        portable::of(&Once(self.0))
    }

    fn encode(&self, _task: TaskRef, out: &mut Vec<u8>) -> Result<(), Failure> {
        portable::encode(&self.1, out, "argument")
    }

    fn decode(reply: &[u8], _task: TaskRef) -> Result<Fun::Return, Failure> {
        portable::decode(reply, "return value")
    }
}

/// One call that has options. In a process pool the pool keeps them; here the job does.
pub(crate) struct Optioned<Fun: Function> {
    function: Fun,
    argument: Kept<Fun::Argument>,
    attempts: Box<Attempts>,
}

/// The argument of a call that may be tried again: as it was given, then in bytes, of which a new one can
/// be made as often as need be.
enum Kept<A> {
    Value(A),
    Bytes(Vec<u8>),
}

impl<Fun: Function> Optioned<Fun> {
    pub(crate) fn new(function: Fun, argument: Fun::Argument, options: TaskOptions) -> Self {
        let attempts = Box::new(Attempts::new(options));
        Optioned { function, argument: Kept::Value(argument), attempts }
    }
}

impl<Fun: Function<Argument: Portable>> Optioned<Fun> {
    /// The argument for one attempt, and its bytes if there may be another one.
    fn spare(&mut self, task: TaskRef) -> Result<(Fun::Argument, Vec<u8>), Failure> {
        match std::mem::replace(&mut self.argument, Kept::Bytes(Vec::new())) {
            Kept::Value(argument) if !self.attempts.options.retry_errors() => Ok((argument, Vec::new())),
            Kept::Value(argument) => {
                let mut bytes = Vec::new();
                guarded(task, || portable::encode(&argument, &mut bytes, "argument"))?;
                Ok((argument, bytes))
            }
            Kept::Bytes(bytes) => Ok((guarded(task, || portable::decode(&bytes, "argument"))?, bytes)),
        }
    }
}

impl<Fun: Function<Argument: Portable>> Job for Optioned<Fun> {
    type Output = Fun::Return;

    fn name() -> &'static str {
        Fun::name()
    }

    fn run(self, task: TaskRef) -> Result<Fun::Return, Error> {
        match self.attempt(task) {
            Attempt::Over(outcome) => outcome,
            Attempt::Again(..) => unreachable!("a cell makes attempts"),
        }
    }

    fn attempt(mut self, task: TaskRef) -> Attempt<Self> {
        if self.attempts.options.limit().is_some() {
            return Attempt::Over(Err(Error::Unsupported {
                what: "a time limit of a call that runs in this process is",
                remedy: "a thread cannot be stopped from outside: use `ProcessPoolExecutor`, or wait with a limit",
            }));
        }
        let (argument, bytes) = match self.spare(task) {
            Ok(spare) => spare,
            Err(failure) => return Attempt::Over(Err(outcome::arrived(task, failure))),
        };
        match call(task, self.attempts.number(), || self.function.call(argument)) {
            Ok(value) => Attempt::Over(Ok(value)),
            Err(error) => match self.attempts.failed(task, error) {
                Ok(due) => Attempt::Again(Optioned { argument: Kept::Bytes(bytes), ..self }, due),
                Err(error) => Attempt::Over(Err(error)),
            },
        }
    }
}

impl<Fun: Function<Argument: Portable, Return: Portable>> PortableJob for Optioned<Fun> {
    fn function(&self) -> Result<FunctionRef, String> {
        portable::of(&Once(self.function))
    }

    fn encode(&self, _task: TaskRef, out: &mut Vec<u8>) -> Result<(), Failure> {
        match &self.argument {
            Kept::Value(argument) => portable::encode(argument, out, "argument"),
            Kept::Bytes(bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn take_attempts(&mut self) -> Option<Box<Attempts>> {
        let none = Box::new(Attempts::new(TaskOptions::new()));
        Some(std::mem::replace(&mut self.attempts, none))
    }

    fn decode(reply: &[u8], _task: TaskRef) -> Result<Fun::Return, Failure> {
        portable::decode(reply, "return value")
    }
}

/// Calls of one function, made one after the other in one worker; each has its own outcome.
pub(crate) struct Batch<Fun: Function>(pub(crate) Fun, pub(crate) Vec<Fun::Argument>);

impl<Fun: Function> Job for Batch<Fun> {
    type Output = Outcomes<Fun::Return>;

    fn name() -> &'static str {
        Fun::name()
    }

    fn error_in(outcome: &Result<Self::Output, Error>) -> Option<&Error> {
        outcome.as_ref().map_or_else(Some, |outcomes| first_error(outcomes))
    }

    fn run(self, task: TaskRef) -> Result<Self::Output, Error> {
        Ok(each(task, self.1, |argument| self.0.call(argument)))
    }
}

impl<Fun: Function<Argument: Portable, Return: Portable>> PortableJob for Batch<Fun> {
    fn function(&self) -> Result<FunctionRef, String> {
        portable::of(&Each(self.0))
    }

    fn encode(&self, task: TaskRef, out: &mut Vec<u8>) -> Result<(), Failure> {
        for argument in &self.1 {
            portable::put_entry(out, |out| guarded(task, || portable::encode(argument, out, "argument")));
        }
        Ok(())
    }

    fn decode(reply: &[u8], task: TaskRef) -> Result<Self::Output, Failure> {
        let malformed = |reason| Failure::Undecodable { what: "return value".into(), reason };
        Entries(reply)
            .map(|entry| {
                let value = entry
                    .map_err(malformed)?
                    .and_then(|bytes| guarded(task, || portable::decode(bytes, "return value")));
                Ok(value.map_err(|failure| Box::new(outcome::arrived(task, failure))))
            })
            .collect()
    }
}

/// Runs user code here; what it panics or raises becomes the error of `task`.
pub(crate) fn call<R>(
    task: TaskRef,
    attempt: u32,
    call: impl FnOnce() -> Result<R, Raised>,
) -> Result<R, Error> {
    match catch_attempt(task, attempt, call) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(raised)) => Err(Error::raised(task, raised.error)),
        Err(panic) => Err(Error::Panicked { task, panic }),
    }
}

/// The same as `call`, for every item of a chunk.
fn each<A, R>(task: TaskRef, items: Vec<A>, function: impl Fn(A) -> Result<R, Raised>) -> Outcomes<R> {
    items.into_iter().map(|item| call(task, 1, || function(item)).map_err(Box::new)).collect()
}

/// A cell as workers see it. `freed` is as in `Cell::resolve`.
pub(crate) trait Work: Watch {
    /// It is going to be queued there.
    fn settle(&self, home: Home);
    /// Runs the call here, unless it has been cancelled.
    fn run(&self, freed: &dyn Fn());
    /// As `run`, but one attempt. `Some`: there is to be another at that moment.
    fn run_once(&self, freed: &dyn Fn()) -> Option<Instant>;
    /// Pending → running, elsewhere. False: cancelled, there is nothing to do.
    fn begin(&self, stop: Arc<dyn Stop>) -> bool;
    /// Running, elsewhere → pending, for another attempt. False: there is to be none, it was stopped.
    fn put_back(&self) -> bool;
    fn fail(&self, error: Error, freed: &dyn Fn());
}

/// The same for calls that can be made in another process.
pub(crate) trait PortableWork: Work {
    /// Appends the frame of the call. The argument is dropped: from here on the bytes stand for it.
    fn encode(&self, frame: &mut Vec<u8>) -> Result<Option<Box<Attempts>>, Error>;
    /// Ends the future with what the worker returned.
    fn complete(&self, reply: &[u8], freed: &dyn Fn());
}

impl<J: Job> Work for Cell<J> {
    fn run(&self, freed: &dyn Fn()) {
        Cell::run(self, freed);
    }

    fn run_once(&self, freed: &dyn Fn()) -> Option<Instant> {
        Cell::run_once(self, freed)
    }

    fn settle(&self, home: Home) {
        Cell::settle(self, home);
    }

    fn begin(&self, stop: Arc<dyn Stop>) -> bool {
        self.start(Some(stop)).is_some()
    }

    fn put_back(&self) -> bool {
        Cell::put_back(self, None)
    }

    fn fail(&self, error: Error, freed: &dyn Fn()) {
        self.resolve(Err(error), freed);
    }
}

impl<J: PortableJob> PortableWork for Cell<J> {
    fn encode(&self, frame: &mut Vec<u8>) -> Result<Option<Box<Attempts>>, Error> {
        let task = self.task();
        let mut job = self.take_job().ok_or(Error::Cancelled { task })?;
        let function = job.function().map_err(|reason| Error::NotPortable { task, reason })?;
        let start = begin_call(frame, Kind::Call, task.id.get(), function);
        let encoded = guarded(task, || job.encode(task, frame));
        let attempts = job.take_attempts();
        discard(job);
        frame::end(frame, start);
        encoded.map(|()| attempts).map_err(|failure| outcome::arrived(task, failure))
    }

    fn complete(&self, reply: &[u8], freed: &dyn Fn()) {
        let task = self.task();
        let outcome = guarded(task, || J::decode(reply, task));
        self.resolve(outcome.map_err(|failure| outcome::arrived(task, failure)), freed);
    }
}

/// The right, and the duty, to end one call.
pub(crate) struct WorkItem<W: ?Sized + Work>(Option<Arc<W>>);

impl<W: ?Sized + Work> WorkItem<W> {
    pub(crate) fn task(&self) -> TaskRef {
        self.work().task()
    }

    pub(crate) fn run(self, freed: &dyn Fn()) {
        self.end(|work| work.run(freed));
    }

    pub(crate) fn cancel(self) {
        self.end(|work| {
            work.cancel();
        });
    }

    pub(crate) fn fail(self, error: Error, freed: &dyn Fn()) {
        self.end(|work| work.fail(error, freed));
    }

    pub(crate) fn begin(&self, stop: Arc<dyn Stop>) -> bool {
        self.work().begin(stop)
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
    /// As `run`, but one attempt. It comes back if there is to be another, at that moment.
    pub(crate) fn run_once(self, freed: &dyn Fn()) -> Option<(Self, Instant)> {
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
    pub(crate) fn put_back(&self) -> bool {
        self.work().put_back()
    }

    pub(crate) fn encode(&self, frame: &mut Vec<u8>) -> Result<Option<Box<Attempts>>, Error> {
        self.work().encode(frame)
    }

    pub(crate) fn complete(self, reply: &[u8], freed: &dyn Fn()) {
        self.end(|work| work.complete(reply, freed));
    }
}

impl<W: ?Sized + Work> Drop for WorkItem<W> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            let reason = format!("{} was dropped by its executor before it ended", work.task());
            work.fail(Error::broken(reason, None), &|| ());
            discard(work);
        }
    }
}

/// A task of a thread pool's own `submit`, and its future.
pub(crate) fn local<J: Job>(job: J, home: Home) -> (WorkItem<dyn Work>, Future<J::Output>) {
    let cell = Arc::new(Cell::new(Some(job), home));
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
        let cell = Arc::new(Cell::new(Some(job), Home::NONE));
        (Task(WorkItem(Some(cell.clone()))), Future::new(cell))
    }

    /// Offers a task to an executor, and gets its job back if that does not take it.
    pub(crate) fn offer<J: PortableJob>(
        job: J,
        to: impl FnOnce(Task) -> Result<(), Task>,
    ) -> Result<Future<J::Output>, J> {
        let cell = Arc::new(Cell::new(Some(job), Home::NONE));
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
    pub fn run(self) {
        self.0.run(&|| ());
    }

    /// Ends the future with `error`.
    pub fn fail(self, error: Error) {
        self.0.fail(error, &|| ());
    }

    /// Cancels the call.
    pub fn cancel(self) {
        self.0.cancel();
    }

    /// The name of the function and the id of the future.
    #[must_use]
    pub fn task(&self) -> TaskRef {
        self.0.task()
    }

    /// For engines that only run it here, queued in the pool `home`.
    pub(crate) fn into_local(mut self, home: Home) -> WorkItem<dyn Work> {
        let work = self.0.take();
        work.settle(home);
        WorkItem(Some(work))
    }

    /// For engines that send it away, queued in the pool `home`.
    pub(crate) fn into_portable(self, home: Home) -> WorkItem<dyn PortableWork> {
        self.0.work().settle(home);
        self.0
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&self.task()).finish()
    }
}
