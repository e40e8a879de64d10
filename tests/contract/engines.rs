//! The executors that the contract is run on, and the tasks that it gives them.

use concurrent_futures::{Error, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor};

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
    };
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
