//! What a call is to do, and the two functions that do it, in a thread or in a worker process.
//!
//! Not here: what it may end with (`verdict.rs`). The rule: whatever a call returns, raises or panics with tells
//! its number, so that nothing can be taken for the outcome of another.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use concurrent_futures::task;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

use crate::dice::mix;
use crate::freight::{Blob, Counted, Place};
use crate::marks;
use crate::watch::Expected;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Deed {
    Return,
    /// Computes for so many microseconds.
    Spin(u32),
    /// Sleeps so many microseconds.
    Sleep(u32),
    /// Keeps so many MiB for good.
    Grow(u32),
    Raise,
    Panic,
    /// Panics with a payload that panics when it is dropped.
    Bomb,
    Exit(i32),
    Abort,
    /// Dies of that signal.
    Signal(i32),
    /// Sleeps far beyond any limit.
    Oversleep,
    /// Stops its process (SIGSTOP), and returns if somebody continues it.
    StandStill,
}

/// The argument of a call.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    /// The number of the pool's life.
    pub(crate) life: u32,
    /// Its number there.
    pub(crate) id: u32,
    pub(crate) deed: Deed,
    /// It does its deed in so many attempts; then it returns.
    pub(crate) fails: u32,
    pub(crate) takes: u32,
    pub(crate) gives: u32,
    pub(crate) load: Blob,
    pub(crate) thorn: Place<false>,
    #[serde(skip)]
    pub(crate) _counted: Counted,
}

/// What it returns.
#[derive(Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) life: u32,
    pub(crate) id: u32,
    pub(crate) attempt: u32,
    pub(crate) pid: u32,
    /// The argument had arrived as it was sent.
    pub(crate) intact: bool,
    pub(crate) load: Blob,
    pub(crate) thorn: Place<true>,
    #[serde(skip)]
    pub(crate) _counted: Counted,
}

/// The seed of what goes to a call, and of what comes back.
pub(crate) fn seed_of(life: u32, id: u32, back: bool) -> u64 {
    mix(u64::from(life) << 33 | u64::from(id) << 1 | u64::from(back))
}

/// What raised errors and panics say.
pub(crate) fn words_of(life: u32, id: u32) -> String {
    format!("the storm: call {id} of life {life}.")
}

/// The error of a call that is to raise one.
#[derive(Debug)]
pub(crate) struct Trouble(String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Trouble {}

struct Bomb;

/// Is that the payload of a panic that is meant?
pub(crate) fn is_ordered(payload: &dyn Any) -> bool {
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    payload.is::<Bomb>()
        || payload.is::<Expected>()
        || text.is_some_and(|text| text.starts_with("the storm: "))
}

impl Drop for Bomb {
    fn drop(&mut self) {
        // A payload of no bytes, as this one will never be freed.
        std::panic::panic_any(Expected);
    }
}

/// For orders that do not raise.
pub(crate) fn perform(order: Order) -> Answer {
    try_perform(order).unwrap_or_else(|trouble| panic!("given to the wrong function: {trouble}"))
}

pub(crate) fn try_perform(order: Order) -> Result<Answer, Trouble> {
    let Order { life, id, deed, fails, takes, gives, load, thorn, _counted } = order;
    let attempt = task::attempt();
    marks::note(life, id, attempt);
    let intact = load.is(seed_of(life, id, false), takes);
    if attempt <= fails {
        act(deed, life, id)?;
    }
    let load = Blob::of(seed_of(life, id, true), gives);
    let (pid, thorn) = (std::process::id(), Place(thorn.0));
    Ok(Answer { life, id, attempt, pid, intact, load, thorn, _counted: Counted::default() })
}

fn act(deed: Deed, life: u32, id: u32) -> Result<(), Trouble> {
    match deed {
        Deed::Return => {}
        Deed::Spin(micros) => {
            let start = Instant::now();
            while start.elapsed() < Duration::from_micros(micros.into()) {
                std::hint::black_box(mix(u64::from(id)));
            }
        }
        Deed::Sleep(micros) => std::thread::sleep(Duration::from_micros(micros.into())),
        Deed::Grow(mebibytes) => grow(mebibytes),
        Deed::Raise => return Err(Trouble(words_of(life, id))),
        Deed::Panic => panic!("{}", words_of(life, id)),
        Deed::Bomb => std::panic::panic_any(Bomb),
        Deed::Exit(status) => std::process::exit(status),
        Deed::Abort => std::process::abort(),
        Deed::Signal(number) => loop {
            // Rust takes the first SIGSEGV or SIGBUS for a stack that overflows, and waits for the next. And it may
            // be another thread of this process that it is delivered to.
            signal_myself(number);
            std::thread::sleep(Duration::from_millis(1));
        },
        Deed::Oversleep => std::thread::sleep(FAR),
        Deed::StandStill => signal_myself(Signal::STOP.as_raw()),
    }
    Ok(())
}

/// Beyond the patience of whoever looks after the storm.
const FAR: Duration = Duration::from_secs(1000);

fn signal_myself(number: i32) {
    if let Some(signal) = Signal::from_named_raw(number) {
        let _ = kill_process(getpid(), signal);
    }
}

/// Memory that a worker has not given back.
fn grow(mebibytes: u32) {
    static HELD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    let mut held = HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // A pool may be slow to replace it, so there is an end to it.
    if held.len() < 8 {
        held.push(vec![1; (mebibytes as usize) << 20]);
    }
}

/// What the workers of a pool do before their first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Start {
    Nothing,
    Briefly,
    Slowly,
    Panics,
    Exits,
    /// Some of them exit.
    Moody,
}

/// The initializer.
pub(crate) fn start(how: Start) {
    match how {
        Start::Nothing | Start::Briefly => {}
        Start::Slowly => std::thread::sleep(Duration::from_millis(3)),
        Start::Panics => panic!("the storm: an initializer that panics"),
        Start::Moody if !std::process::id().is_multiple_of(5) => {}
        Start::Exits | Start::Moody => std::process::exit(7),
    }
}
