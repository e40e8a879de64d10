//! The jobs: what there is to do for a task, a function with its argument in one form or another.
//!
//! | job        | made by                          | may be done in another process | attempts |
//! |------------|----------------------------------|--------------------------------|----------|
//! | `Closure`  | a thread pool's own `submit`     | no                             | one      |
//! | `Mapped`   | a thread pool's own `map`        | no                             | one      |
//! | `Repeated` | a thread pool's own `spawn_with` | no                             | several  |
//! | `OneCall`  | `submit`, `try_submit`           | yes                            | one      |
//! | `Optioned` | `submit_with`, `try_submit_with` | yes                            | several  |
//! | `Batch`    | `map` and its like               | yes                            | one      |
//!
//! Not here: the cell in which a job waits (`future/cell.rs`). The rule: the user's code runs where a panic of it is
//! caught.

use std::marker::PhantomData;
use std::sync::Arc;

use super::PortableJob;
use crate::account::{self, Outcome};
use crate::enclosed::{Enclosure, Received, Towards, collect, enclose, unpacking};
use crate::error::Error;
use crate::future::cell::{Attempt, Job};
use crate::id::{Home, TaskRef};
use crate::map::{Outcomes, first_error};
use crate::options::{Attempts, TaskOptions};
use crate::outcome::{self, catch, catch_attempt, discard, run_of};
#[cfg(feature = "amqp")]
use crate::portable::Named;
use crate::portable::{self, Each, Entries, Function, Once, Portable, Raised, guarded, put_entries};
use crate::wire::frame::Parcel;
use crate::wire::message::{Failure, FunctionRef};

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
    priority: i16,
    name: PhantomData<fn(N)>,
}

impl<N, F, A> Mapped<N, F, A> {
    pub(crate) fn new(call: Arc<F>, items: Vec<A>, priority: i16) -> Self {
        Mapped { call, items, priority, name: PhantomData }
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

    fn priority(&self) -> i16 {
        self.priority
    }

    fn calls(&self) -> usize {
        self.items.len()
    }

    fn count(home: Home, outcome: &Result<Self::Output, Error>) -> usize {
        count_each(home, outcome)
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

    fn encode(&mut self, _task: TaskRef, out: &mut Parcel) -> Result<(), Failure> {
        portable::pack(&mut self.1, out, "argument")
    }

    #[cfg(feature = "amqp")]
    fn named() -> Named {
        Named::of::<Fun>(false)
    }

    fn decode(reply: &mut Vec<u8>, _task: TaskRef) -> Result<Fun::Return, Failure> {
        portable::unpack(reply, "return value")
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
    Bytes(Vec<u8>, Vec<Enclosure>),
}

impl<A> Kept<A> {
    const NONE: Self = Kept::Bytes(Vec::new(), Vec::new());
}

impl<Fun: Function> Optioned<Fun> {
    pub(crate) fn new(function: Fun, argument: Fun::Argument, options: TaskOptions) -> Self {
        let attempts = Box::new(Attempts::new(options));
        Optioned { function, argument: Kept::Value(argument), attempts }
    }
}

impl<Fun: Function<Argument: Portable>> Optioned<Fun> {
    /// The argument for one attempt, and what another one can be made of, if there may be another attempt.
    fn spare(&mut self, task: TaskRef) -> Result<(Fun::Argument, Kept<Fun::Argument>), Failure> {
        match std::mem::replace(&mut self.argument, Kept::NONE) {
            Kept::Value(argument) if !self.attempts.options.retry_errors() => Ok((argument, Kept::NONE)),
            Kept::Value(argument) => {
                let mut bytes = Vec::new();
                let (encoded, enclosed) = collect(Towards::Ourselves, || {
                    guarded(task, || portable::encode(&argument, &mut bytes, "argument"))
                });
                match encoded {
                    Ok(()) => Ok((argument, Kept::Bytes(bytes, enclosed))),
                    Err(failure) => {
                        discard(argument);
                        Err(failure)
                    }
                }
            }
            Kept::Bytes(bytes, enclosed) => {
                let received = Received::from(&enclosed[..]);
                let decode = || portable::decode(&bytes, "argument");
                let argument = guarded(task, || unpacking(&received, decode))?;
                Ok((argument, Kept::Bytes(bytes, enclosed)))
            }
        }
    }
}

impl<Fun: Function<Argument: Portable>> Job for Optioned<Fun> {
    type Output = Fun::Return;

    fn name() -> &'static str {
        Fun::name()
    }

    fn priority(&self) -> i16 {
        self.attempts.options.order()
    }

    fn attempts(&self) -> Option<&Attempts> {
        Some(&self.attempts)
    }

    fn run(self, task: TaskRef) -> Result<Fun::Return, Error> {
        match self.attempt(task) {
            Attempt::Over(outcome) => outcome,
            Attempt::Again(..) => unreachable!("a cell makes attempts"),
        }
    }

    fn attempt(mut self, task: TaskRef) -> Attempt<Self> {
        if self.attempts.options.limit().is_some() {
            discard(self);
            return Attempt::Over(Err(no_limit_here()));
        }
        let (argument, kept) = match self.spare(task) {
            Ok(spare) => spare,
            Err(failure) => return Attempt::Over(Err(outcome::arrived(task, failure))),
        };
        match call(task, self.attempts.number(), || self.function.call(argument)) {
            Ok(value) => Attempt::Over(Ok(value)),
            Err(error) => match self.attempts.failed(task, error) {
                Ok(due) => Attempt::Again(Optioned { argument: kept, ..self }, due),
                Err(error) => Attempt::Over(Err(error)),
            },
        }
    }
}

impl<Fun: Function<Argument: Portable, Return: Portable>> PortableJob for Optioned<Fun> {
    fn function(&self) -> Result<FunctionRef, String> {
        portable::of(&Once(self.function))
    }

    fn encode(&mut self, _task: TaskRef, out: &mut Parcel) -> Result<(), Failure> {
        match &mut self.argument {
            Kept::Value(argument) => portable::pack(argument, out, "argument"),
            // Nobody sends away what was tried here.
            Kept::Bytes(bytes, enclosed) => {
                enclosed.iter().cloned().for_each(|it| drop(enclose(it)));
                out.bytes.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn take_attempts(&mut self) -> Option<Box<Attempts>> {
        let none = Box::new(Attempts::new(TaskOptions::new()));
        Some(std::mem::replace(&mut self.attempts, none))
    }

    #[cfg(feature = "amqp")]
    fn named() -> Named {
        Named::of::<Fun>(false)
    }

    fn decode(reply: &mut Vec<u8>, _task: TaskRef) -> Result<Fun::Return, Failure> {
        portable::unpack(reply, "return value")
    }
}

/// A closure that has options, and is called once for each attempt.
pub(crate) struct Repeated<F, R> {
    call: F,
    attempts: Box<Attempts>,
    returns: PhantomData<fn() -> R>,
}

impl<F, R> Repeated<F, R> {
    pub(crate) fn new(call: F, options: TaskOptions) -> Self {
        Repeated { call, attempts: Box::new(Attempts::new(options)), returns: PhantomData }
    }
}

impl<F, R> Job for Repeated<F, R>
where
    F: FnMut() -> R + Send + 'static,
    R: Send + 'static,
{
    type Output = R;

    fn name() -> &'static str {
        std::any::type_name::<F>()
    }

    fn priority(&self) -> i16 {
        self.attempts.options.order()
    }

    fn attempts(&self) -> Option<&Attempts> {
        Some(&self.attempts)
    }

    fn run(self, task: TaskRef) -> Result<R, Error> {
        match self.attempt(task) {
            Attempt::Over(outcome) => outcome,
            Attempt::Again(..) => unreachable!("a cell makes attempts"),
        }
    }

    fn attempt(mut self, task: TaskRef) -> Attempt<Self> {
        if self.attempts.options.limit().is_some() {
            discard(self);
            return Attempt::Over(Err(no_limit_here()));
        }
        match call(task, self.attempts.number(), || Ok((self.call)())) {
            Ok(value) => {
                discard(self);
                Attempt::Over(Ok(value))
            }
            Err(error) => match self.attempts.failed(task, error) {
                Ok(due) => Attempt::Again(self, due),
                Err(error) => {
                    discard(self);
                    Attempt::Over(Err(error))
                }
            },
        }
    }
}

/// Counts the items of a chunk, each as it ended; how many failed.
fn count_each<R>(home: Home, outcome: &Result<Outcomes<R>, Error>) -> usize {
    let Ok(outcomes) = outcome else {
        account::count(home, Outcome::of(outcome.as_ref().err()), 1);
        return 0;
    };
    let errors = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    let failed = errors.inspect(|error| account::count(home, Outcome::of(Some(error)), 1)).count();
    account::count(home, Outcome::Finished, (outcomes.len() - failed) as u64);
    failed
}

fn no_limit_here() -> Error {
    Error::Unsupported {
        what: "a time limit of a call that runs in this process is",
        remedy: "a thread cannot be stopped from outside: use `ProcessPoolExecutor`, or wait with a limit",
    }
}

/// Calls of one function, made one after the other in one worker; each has its own outcome.
/// The last is their priority.
pub(crate) struct Batch<Fun: Function>(pub(crate) Fun, pub(crate) Vec<Fun::Argument>, pub(crate) i16);

impl<Fun: Function> Job for Batch<Fun> {
    type Output = Outcomes<Fun::Return>;

    fn name() -> &'static str {
        Fun::name()
    }

    fn priority(&self) -> i16 {
        self.2
    }

    fn calls(&self) -> usize {
        self.1.len()
    }

    fn count(home: Home, outcome: &Result<Self::Output, Error>) -> usize {
        count_each(home, outcome)
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

    fn encode(&mut self, task: TaskRef, out: &mut Parcel) -> Result<(), Failure> {
        put_entries(
            self.1.iter(),
            &mut out.bytes,
            |run| catch(task, run),
            |argument, out| portable::encode(argument, out, "argument"),
        );
        Ok(())
    }

    #[cfg(feature = "amqp")]
    fn named() -> Named {
        Named::of::<Fun>(true)
    }

    fn decode(reply: &mut Vec<u8>, task: TaskRef) -> Result<Self::Output, Failure> {
        let malformed = |reason| Failure::Undecodable { what: "return value".into(), reason };
        let mut outcomes = Vec::new();
        let mut bad = reply.len() / 8 + BAD;
        let mut entries = Entries(reply);
        loop {
            let run = catch(task, || {
                for entry in run_of(&mut entries) {
                    let value =
                        entry.map_err(malformed)?.and_then(|bytes| portable::decode(bytes, "return value"));
                    if value.is_err() {
                        bad = bad
                            .checked_sub(1)
                            .ok_or_else(|| malformed("too little of it can be read".into()))?;
                    }
                    outcomes.push(value.map_err(|failure| Box::new(outcome::arrived(task, failure))));
                }
                Ok(())
            });
            match run {
                Ok(whole) => return whole.map(|()| outcomes),
                Err(panic) => {
                    outcomes.push(Err(Box::new(outcome::arrived(task, portable::panicked(&panic)))));
                }
            }
        }
    }
}

/// How many more values than an eighth of its bytes a reply may have that cannot be read: an entry may be one byte,
/// and the error of it takes some two hundred. No honest chunk is as long as that, and unreadable.
const BAD: usize = 1 << 16;

/// Runs user code here; what it panics or raises becomes the error of `task`.
fn call<R>(task: TaskRef, attempt: u32, call: impl FnOnce() -> Result<R, Raised>) -> Result<R, Error> {
    match catch_attempt(task, attempt, call) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(raised)) => Err(Error::raised(task, raised.error)),
        Err(panic) => Err(Error::Panicked { task, panic }),
    }
}

/// The same as `call`, for every item of a chunk.
fn each<A, R>(task: TaskRef, items: Vec<A>, function: impl Fn(A) -> Result<R, Raised>) -> Outcomes<R> {
    let mut outcomes = Vec::with_capacity(items.len());
    let mut items = items.into_iter();
    loop {
        let run = catch(task, || {
            for item in run_of(&mut items) {
                outcomes.push(function(item).map_err(|raised| Box::new(Error::raised(task, raised.error))));
            }
        });
        match run {
            Ok(()) => return outcomes,
            Err(panic) => outcomes.push(Err(Box::new(Error::Panicked { task, panic }))),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::id::FutureId;
    use crate::portable::Plain;

    fn decoded(reply: &[u8]) -> Result<Outcomes<u64>, Failure> {
        fn of<F: Fn(u64) -> u64 + Copy + Send + 'static>(
            _: F,
            reply: &[u8],
        ) -> Result<Outcomes<u64>, Failure> {
            let task = TaskRef { name: "a chunk", id: FutureId::next() };
            <Batch<Plain<F, u64, u64>> as PortableJob>::decode(&mut reply.to_vec(), task)
        }
        of(|n: u64| n, reply)
    }

    #[test]
    fn what_cannot_be_read_costs_its_own_item_and_does_not_grow_without_bound() {
        // Each byte is the head of an entry that has no more.
        let outcomes = decoded(&[0; 10_000]).unwrap();
        assert!(outcomes.len() == 10_000 && outcomes.iter().all(Result::is_err));
        let failure = decoded(&vec![0; 1 << 20]).unwrap_err();
        assert!(format!("{failure:?}").contains("too little of it can be read"), "{failure:?}");
    }
}
