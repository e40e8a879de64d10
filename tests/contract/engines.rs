//! The executors that the contract is run on, and the tasks that it gives them.
//!
//! Those on threads, in processes, and on the serial executor are here; the one over AMQP is in `amqp.rs` (feature `amqp`).

use std::fmt::Debug;
use std::time::Duration;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor};

use crate::common::{Page, Ticket};

pub(crate) fn threads(max_workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::new(max_workers).expect("a thread pool")
}

pub(crate) fn processes(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).expect("a process pool")
}

pub(crate) fn serial(_max_workers: usize) -> SerialExecutor {
    SerialExecutor::new()
}

/// Instantiates functions `fn name<E: Executor>(make: impl Fn(usize) -> E)` as tests.
macro_rules! on {
    ($engine:ident: $($test:ident),* $(,)?) => {
        mod $engine {
            $(
                #[test]
                fn $test() {
                    use $crate::common::{LIMIT, watchdog};
                    let name = concat!(stringify!($test), " on ", stringify!($engine));
                    watchdog(name, LIMIT, || super::$test($crate::engines::$engine));
                }
            )*
        }
    };
}

/// The first list is for every executor; the second needs workers.
macro_rules! contract {
    ([$($every:ident),* $(,)?], [$($pools:ident),* $(,)?]) => {
        on!(threads: $($every,)* $($pools),*);
        on!(processes: $($every,)* $($pools),*);
        on!(serial: $($every),*);
        on_amqp!($($every,)* $($pools),*);
    };
}

/// Instantiates them as tests over AMQP, but those that are left out there, which `amqp.rs` names with the reasons.
#[cfg(feature = "amqp")]
macro_rules! on_amqp {
    ($($test:ident),* $(,)?) => {
        mod amqp {
            $(
                #[test]
                fn $test() {
                    $crate::amqp::clause(stringify!($test), || super::$test($crate::amqp::amqp));
                }
            )*
        }
    };
}
#[cfg(not(feature = "amqp"))]
macro_rules! on_amqp {
    ($($test:ident),* $(,)?) => {};
}

/// What both kinds of pools do if they are asked to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wishes {
    pub(crate) max_workers: usize,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_pending: Option<usize>,
    /// The initializer is held at the turnstile, then panics.
    pub(crate) doomed: Option<Ticket>,
}

pub(crate) trait OnRequest: Executor + Debug + Sized + 'static {
    /// So many workers are started in about the same time.
    const MANY: u32;

    fn made(wishes: Wishes) -> Result<Self, Error>;
}

impl OnRequest for ThreadPoolExecutor {
    const MANY: u32 = 2_000;

    fn made(wishes: Wishes) -> Result<Self, Error> {
        let mut builder = ThreadPoolExecutor::builder().max_workers(wishes.max_workers);
        if let Some(limit) = wishes.idle_timeout {
            builder = builder.idle_timeout(limit);
        }
        if let Some(tasks) = wishes.max_pending {
            builder = builder.max_pending(tasks);
        }
        if let Some(ticket) = wishes.doomed {
            builder = builder.initializer(move || pass_and_panic(ticket));
        }
        builder.build()
    }
}

impl OnRequest for ProcessPoolExecutor {
    const MANY: u32 = 40;

    fn made(wishes: Wishes) -> Result<Self, Error> {
        let mut builder = ProcessPoolExecutor::builder().max_workers(wishes.max_workers);
        if let Some(limit) = wishes.idle_timeout {
            builder = builder.idle_timeout(limit);
        }
        if let Some(tasks) = wishes.max_pending {
            builder = builder.max_pending(tasks);
        }
        if let Some(ticket) = wishes.doomed {
            builder = builder.initializer(pass_and_panic, ticket);
        }
        builder.build()
    }
}

fn pass_and_panic(ticket: Ticket) {
    ticket.pass();
    panic!("no licence");
}

/// Instantiates functions `fn name<E: OnRequest>()` as tests.
macro_rules! on_request {
    ($($test:ident),* $(,)?) => {
        on_request!(@threads, ThreadPoolExecutor: $($test),*);
        on_request!(@processes, ProcessPoolExecutor: $($test),*);
    };
    (@$engine:ident, $executor:ident: $($test:ident),*) => {
        mod $engine {
            $(
                #[test]
                fn $test() {
                    use $crate::common::{LIMIT, watchdog};
                    let name = concat!(stringify!($test), " on ", stringify!($engine));
                    watchdog(name, LIMIT, super::$test::<concurrent_futures::$executor>);
                }
            )*
        }
    };
}

/// The same, and over AMQP.
macro_rules! on_request_and_amqp {
    ($($test:ident),* $(,)?) => {
        on_request!($($test),*);
        on_request_of_amqp!($($test),*);
    };
}

#[cfg(feature = "amqp")]
macro_rules! on_request_of_amqp {
    ($($test:ident),*) => {
        mod amqp {
            $(
                #[test]
                fn $test() {
                    $crate::amqp::clause(stringify!($test), super::$test::<$crate::amqp::Amqp>);
                }
            )*
        }
    };
}
#[cfg(not(feature = "amqp"))]
macro_rules! on_request_of_amqp {
    ($($test:ident),*) => {};
}

/// The functions that the clauses of a file submit, those that return a value and those that may fail: over AMQP a worker
/// calls nothing that is not on its list.
#[cfg(feature = "amqp")]
macro_rules! registered {
    ([$($plain:expr),* $(,)?], [$($fallible:expr),* $(,)?]) => {
        pub(crate) fn register(worker: concurrent_futures::AmqpWorker) -> concurrent_futures::AmqpWorker {
            worker$(.register($plain))*$(.try_register($fallible))*
        }
    };
}
#[cfg(not(feature = "amqp"))]
macro_rules! registered {
    ([$($plain:expr),* $(,)?], [$($fallible:expr),* $(,)?]) => {};
}

registered!(
    [double, pass, note, nothing, length, successor, who, explode, explode_on_threes],
    [refuse_threes]
);

/// So many calls, or what takes a minute as well if each call is a message to another program and a message back.
pub(crate) fn as_many<E>(calls: usize) -> usize {
    if std::any::type_name::<E>().ends_with("amqp::Amqp") { calls / 50 } else { calls }
}

/// How many workers a pool has, as it prints itself.
pub(crate) fn workers(pool: &impl Debug) -> usize {
    told_by(pool, " workers: ")
}

/// How many tasks wait in its queue.
pub(crate) fn pending(pool: &impl Debug) -> usize {
    told_by(pool, " pending: ")
}

fn told_by(pool: &impl Debug, field: &str) -> usize {
    let text = format!("{pool:?}");
    let (_, rest) = text.split_once(field).expect("a pool tells of it");
    rest.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Returns when that is so. For states of which no event tells.
pub(crate) fn until(state: impl Fn() -> bool) {
    while !state() {
        std::thread::yield_now();
    }
}

pub(crate) fn double(n: u32) -> u32 {
    n * 2
}

/// Is held at the turnstile.
pub(crate) fn pass(ticket: Ticket) -> u32 {
    ticket.pass()
}

/// Writes its number into the journal.
pub(crate) fn note((page, number): (Page, u32)) -> u32 {
    page.note(number);
    number
}

pub(crate) fn nothing((): ()) {}

pub(crate) fn length(text: String) -> usize {
    text.len()
}

pub(crate) fn successor(n: u64) -> u64 {
    n + 1
}

pub(crate) fn who(_: ()) -> String {
    crate::common::who()
}

pub(crate) fn explode(n: u32) -> u32 {
    panic!("number {n} exploded");
}

/// An error of its own type for every third number.
pub(crate) fn refuse_threes(n: u32) -> Result<u32, Refused> {
    if n.is_multiple_of(3) { Err(Refused(n)) } else { Ok(n * 2) }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("refused {0}")]
pub(crate) struct Refused(pub(crate) u32);

pub(crate) fn explode_on_threes(n: u32) -> u32 {
    assert!(!n.is_multiple_of(3), "{n} is a multiple of three");
    n * 2
}

/// The message of a panic.
#[track_caller]
pub(crate) fn panic_of<T: std::fmt::Debug>(outcome: Result<T, Error>) -> concurrent_futures::Panic {
    match outcome {
        Err(Error::Panicked { panic, .. }) => panic,
        other => panic!("this did not panic: {other:?}"),
    }
}
