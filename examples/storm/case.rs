//! The account of one call: what was ordered, what was done to it, and how it ended.
//!
//! Not here: whether that is allowed, which only the whole life of its pool can tell (`verdict.rs`).
//! The rule: an ending is looked at where it is seen, to the last byte; the first that is seen counts, and
//! whoever sees another one later must see the same.

use std::fmt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use concurrent_futures::{Error, FutureId};
use rustix::process::{Pid, test_kill_process};

use crate::freight::{PANICS, Thorn};
use crate::life::Life;
use crate::order::{Answer, Deed, seed_of, words_of};
use crate::tally::{self, Count};

/// What is ordered, and with which options.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) deed: Deed,
    /// In so many attempts.
    pub(crate) fails: u32,
    /// Bytes of the argument, and of the return value.
    pub(crate) takes: u32,
    pub(crate) gives: u32,
    pub(crate) thorn: Option<Thorn>,
    pub(crate) limit: Option<Duration>,
    pub(crate) retries: u32,
    /// Errors of its own are a reason to try again.
    pub(crate) retry_if: bool,
    /// It is an item of a map.
    pub(crate) mapped: Option<Mapped>,
}

/// What an item shares with the others of its map.
#[derive(Clone, Debug)]
pub(crate) struct Mapped {
    /// What one of them does to its worker.
    pub(crate) deadly: Option<Deed>,
    pub(crate) limit: Option<Duration>,
    /// There is a hook that must be told of each once.
    pub(crate) hooked: bool,
}

/// What was done to it. To be noted before it is done, where somebody may see what follows from it.
pub(crate) mod done {
    /// `cancel` said that it never runs.
    pub(crate) const CANCELLED: u32 = 1;
    /// `kill` was called.
    pub(crate) const KILLED: u32 = 2;
    /// Nobody looks at its outcome.
    pub(crate) const LET_GO: u32 = 4;
    /// Its map was left, so it may have been cancelled.
    pub(crate) const LEFT: u32 = 8;
    /// It has a callback.
    pub(crate) const WATCHED: u32 = 16;
    /// `cancel` was called: if it ran, it was told, and is not tried again.
    pub(crate) const UNWANTED: u32 = 32;
}

pub(crate) struct Case {
    pub(crate) life: Arc<Life>,
    pub(crate) id: u32,
    pub(crate) spec: Spec,
    /// Its future, if it is one of its own.
    pub(crate) future: OnceLock<FutureId>,
    done: AtomicU32,
    /// How often its callback, or the hook of its map, was told.
    told: AtomicU32,
    ending: OnceLock<Ending>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    Returned {
        attempt: u32,
        pid: u32,
    },
    Raised,
    Panicked,
    Cancelled,
    TimedOut(Duration),
    Died(Death),
    GaveUp(Vec<Ending>),
    Broken(String),
    Refused,
    Encode(&'static str),
    Decode(&'static str),
    Unsupported,
    /// The time of its map was over.
    Late,
    /// It was given back for want of room.
    GivenBack,
    /// Anything else.
    Strange(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Death {
    /// The number of the future: several items of a map may have one.
    pub(crate) task: FutureId,
    pub(crate) pid: u32,
    pub(crate) status: Option<ExitStatus>,
    pub(crate) attempt: u32,
}

impl Case {
    pub(crate) fn new(life: Arc<Life>, id: u32, spec: Spec) -> Self {
        let (done, told) = (AtomicU32::new(0), AtomicU32::new(0));
        Case { life, id, spec, future: OnceLock::new(), done, told, ending: OnceLock::new() }
    }

    pub(crate) fn note(&self, what: u32) {
        self.done.fetch_or(what, Ordering::AcqRel);
    }

    pub(crate) fn was(&self, what: u32) -> bool {
        self.done.load(Ordering::Acquire) & what != 0
    }

    /// Its callback, or the hook of its map, is called.
    pub(crate) fn tell(&self) {
        self.told.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn times_told(&self) -> u32 {
        self.told.load(Ordering::Acquire)
    }

    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.get()
    }

    /// Somebody sees the outcome.
    pub(crate) fn saw(&self, outcome: Result<&Answer, &Error>) {
        let ending = match outcome {
            Ok(answer) => self.returned(answer),
            Err(error) => self.failed(error),
        };
        self.end(ending);
    }

    pub(crate) fn end(&self, ending: Ending) {
        match self.ending.set(ending) {
            // One that was let go is waited for no longer.
            Ok(()) if self.was(done::LET_GO) => {}
            Ok(()) => self.life.one_is_over(),
            Err(second) => {
                if self.ending() != Some(&second) {
                    self.wrong(&format!("it ended a second time, otherwise: {second:?}"));
                }
            }
        }
    }

    /// Says that this must not be.
    pub(crate) fn wrong(&self, why: &str) {
        tally::wrong(&format!("{why}\n  {self:?}\n  {} {}", self.life.name(), self.life.facts()));
    }

    fn returned(&self, answer: &Answer) -> Ending {
        let Answer { life, id, attempt, pid, intact, ref load, .. } = *answer;
        if (life, id) != (self.life.number, self.id) {
            self.wrong(&format!("it was given what call {id} of life {life} returned"));
        }
        if !intact {
            self.wrong("its argument arrived damaged");
        }
        if !load.is(seed_of(self.life.number, self.id, true), self.spec.gives) {
            self.wrong("its return value arrived damaged");
        }
        Count::Bytes.add(u64::from(self.spec.takes) + u64::from(self.spec.gives));
        Ending::Returned { attempt, pid }
    }

    fn failed(&self, error: &Error) -> Ending {
        if let (Some(task), Some(future)) = (error.task(), self.future.get())
            && task.id != *future
        {
            self.wrong(&format!("its error speaks of another call: {error}"));
        }
        match error {
            Error::Cancelled { .. } => Ending::Cancelled,
            Error::Raised { error, .. } => {
                self.must_say(&error.to_string(), &words_of(self.life.number, self.id));
                Ending::Raised
            }
            Error::Panicked { panic, .. } => {
                let words = match self.spec {
                    Spec { thorn: Some(_), .. } => PANICS.into(),
                    Spec { deed: Deed::Bomb, .. } => "a payload that is not text".into(),
                    _ => words_of(self.life.number, self.id),
                };
                self.must_say(panic.message(), &words);
                Ending::Panicked
            }
            Error::TimedOut { what, .. } if self.spec.mapped.is_some() && what.starts_with("item ") => {
                Ending::Late
            }
            Error::TimedOut { what, limit } => {
                if let Some(future) = self.future.get() {
                    self.must_say(what, &format!("(task {future})"));
                }
                let pid = what
                    .split("worker process ")
                    .nth(1)
                    .and_then(|rest| rest.split(',').next()?.parse().ok());
                match pid {
                    Some(pid) => self.must_be_gone(pid),
                    None => self.wrong(&format!("a time limit that does not tell its worker: {error}")),
                }
                Ending::TimedOut(*limit)
            }
            Error::WorkerDied { task, pid, status, attempt, .. } => {
                self.must_be_gone(*pid);
                Ending::Died(Death { task: task.id, pid: *pid, status: *status, attempt: *attempt })
            }
            Error::GaveUp { attempts, .. } => {
                Ending::GaveUp(attempts.iter().map(|error| self.failed(error)).collect())
            }
            Error::Broken { reason, .. } => {
                self.life.has_broken();
                Ending::Broken(reason.clone())
            }
            Error::ShutDown { .. } => Ending::Refused,
            Error::Encode { what, .. } => Ending::Encode(what),
            Error::Decode { what, .. } => Ending::Decode(what),
            Error::Unsupported { .. } => Ending::Unsupported,
            other => Ending::Strange(other.to_string()),
        }
    }

    fn must_say(&self, said: &str, words: &str) {
        if !said.contains(words) {
            self.wrong(&format!("its error does not say `{words}`, but: {said}"));
        }
    }

    /// Who hears of the end of a worker must not find it there, not even unburied.
    fn must_be_gone(&self, pid: u32) {
        if Pid::from_raw(pid as i32).is_none_or(|pid| test_kill_process(pid).is_ok()) {
            self.wrong(&format!("worker process {pid} is still there when its call has ended"));
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, told) = (self.done.load(Ordering::Acquire), self.times_told());
        let (future, ending) = (self.future.get().map(|future| future.get()), self.ending());
        write!(
            f,
            "call {} (task {future:?}) {:?}; done to it {done:#x}, told {told}, ended {ending:?}",
            self.id, self.spec
        )
    }
}

impl Ending {
    /// Its column in the tally.
    pub(crate) fn count(&self) -> Count {
        match self {
            Ending::Returned { .. } => Count::Returned,
            Ending::Raised => Count::Raised,
            Ending::Panicked => Count::Panicked,
            Ending::Cancelled => Count::Cancelled,
            Ending::TimedOut(_) => Count::TimedOut,
            Ending::Died(_) => Count::Died,
            Ending::GaveUp(_) => Count::GaveUp,
            Ending::Broken(_) => Count::Broken,
            Ending::Refused => Count::Refused,
            Ending::Encode(_) | Ending::Decode(_) => Count::Unportable,
            Ending::Unsupported => Count::Unsupported,
            Ending::Late => Count::Late,
            Ending::GivenBack => Count::GivenBack,
            Ending::Strange(_) => Count::Strange,
        }
    }
}
