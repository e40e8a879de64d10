//! What must have happened: every ending of every call against what was ordered, what was done to it and to its
//! pool, and which marks its runs have left.
//!
//! Not here: whether a value is right, which was looked at when it was seen (`case.rs`). The rule: what a call may
//! end with is told from causes that are known. An ending without a cause is wrong, and so is a run too many.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::Signal;

use crate::case::{Case, Death, Ending, done};
use crate::life::{Kind, Life, lock};
use crate::marks::Mark;
use crate::order::Deed;
use crate::tally::{self, Count};
use crate::watch;

/// Looks at every call of a life that is over, and counts it.
pub(crate) fn settle(life: &Arc<Life>) {
    let cases = std::mem::take(&mut *lock(&life.cases));
    let marks = life.marks.read().unwrap_or_else(|damage| {
        tally::wrong(&format!("the marks of {} are damaged: {damage}", life.name()));
        Vec::new()
    });
    if let Some(then) = life.marks_at_the_end.get()
        && *then != marks.len() as u64
    {
        let now = marks.len();
        tally::wrong(&format!("{}: {now} runs, {then} of them before its shutdown returned", life.name()));
    }
    Count::Runs.add(marks.len() as u64);
    let mut rest = &marks[..];
    for case in &cases {
        let (runs, others) = rest.split_at(rest.partition_point(|mark| mark.id <= case.id));
        rest = others;
        Count::Again.add((runs.len() as u64).saturating_sub(1));
        let judge = Judge { case, life, runs };
        let verdict = match case.ending() {
            None if !case.was(done::LET_GO) => Err("it was never seen to end".into()),
            None => {
                Count::Unseen.one();
                judge.unseen()
            }
            Some(ending) => {
                ending.count().one();
                judge.ending(ending)
            }
        };
        let verdict = judge.runs().and_then(|()| judge.told()).and(verdict);
        if let Err(why) = verdict {
            case.wrong(&format!("{why}; its runs: {runs:?}"));
        }
        case.future.get().into_iter().for_each(|future| watch::forget(*future));
    }
    if !rest.is_empty() {
        tally::wrong(&format!("calls of {} ran that nobody ordered: {rest:?}", life.name()));
    }
    workers(life, &cases, &marks);
}

/// Tells of those that are open.
pub(crate) fn open_calls_of(life: &Life) -> String {
    let mut text = format!("{} {}\n", life.name(), life.facts());
    let cases = lock(&life.cases);
    let open = cases.iter().filter(|case| case.ending().is_none() && !case.was(done::LET_GO));
    for case in open.take(20) {
        let _ = writeln!(text, "  open: {case:?}");
    }
    text
}

/// What a call does in an attempt, if nobody interferes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Natural {
    Returns,
    Raises,
    Panics,
    Exits(i32),
    DiesOf(i32),
    Overruns,
    StandsStill,
}

impl Natural {
    fn of(deed: Deed) -> Self {
        match deed {
            Deed::Return | Deed::Spin(_) | Deed::Sleep(_) | Deed::Grow(_) => Natural::Returns,
            Deed::Raise => Natural::Raises,
            Deed::Panic | Deed::Bomb => Natural::Panics,
            Deed::Exit(status) => Natural::Exits(status),
            Deed::Abort => Natural::DiesOf(Signal::ABORT.as_raw()),
            Deed::Signal(signal) => Natural::DiesOf(signal),
            Deed::Oversleep => Natural::Overruns,
            Deed::StandStill => Natural::StandsStill,
        }
    }
}

struct Judge<'a> {
    case: &'a Case,
    life: &'a Life,
    runs: &'a [Mark],
}

fn must(holds: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

impl Judge<'_> {
    fn natural(&self, attempt: u32) -> Natural {
        if attempt > self.case.spec.fails { Natural::Returns } else { Natural::of(self.case.spec.deed) }
    }

    /// No attempt runs twice, and none after the last.
    fn runs(&self) -> Result<(), String> {
        let in_order = self.runs.is_sorted_by(|one, next| one.attempt < next.attempt);
        must(in_order, "an attempt ran twice, or out of turn")?;
        let most = self.case.spec.retries + 1;
        must(self.runs.iter().all(|run| (1..=most).contains(&run.attempt)), "it ran more often than it may")
    }

    /// Callbacks and hooks are told once; the hook for unread errors, if it has one.
    fn told(&self) -> Result<(), String> {
        let mapped = self.case.spec.mapped.as_ref();
        let unread = mapped.is_none() && self.case.was(done::LET_GO) && self.case.ending().is_some();
        let expected =
            u32::from(unread || mapped.is_some_and(|mapped| mapped.hooked) || self.case.was(done::WATCHED));
        let times = self.case.times_told();
        must(times == expected, format!("whoever is to be told of its end was told {times} times"))
    }

    /// Of a call that was let go nothing was seen: so it was no error, unless its pool or its map was ended.
    fn unseen(&self) -> Result<(), String> {
        let Judge { case, life, runs } = self;
        let returned = runs.last().is_some_and(|run| self.natural(run.attempt) == Natural::Returns);
        let retries = case.spec.retries as usize;
        // What broke a pool does not name those that it broke, queued or under way.
        let none =
            self.may_be_cancelled() && runs.len() <= retries || life.may_break() && runs.len() <= retries + 1;
        // An error that does not name its call.
        let unsupported = life.plan.kind == Kind::Threads && case.spec.limit.is_some() && runs.is_empty();
        let known = case.spec.mapped.is_some() || returned || none || unsupported;
        must(known, "it was let go, and has neither returned nor told its error")
    }

    fn may_be_cancelled(&self) -> bool {
        let Judge { case, life, runs } = self;
        case.was(done::CANCELLED | done::KILLED | done::LEFT)
            || (case.was(done::UNWANTED) && !runs.is_empty())
            || life.facts.cancels.load(Ordering::Acquire)
    }

    fn limit(&self) -> Option<Duration> {
        self.case.spec.limit.or(self.life.plan.task_timeout)
    }

    /// Was it stopped, so that there was to be no other attempt?
    fn was_stopped(&self) -> bool {
        let facts = &self.life.facts;
        self.case.was(done::KILLED | done::UNWANTED)
            || facts.terminated.load(Ordering::Acquire)
            || facts.all_killed.load(Ordering::Acquire)
            || self.life.may_break()
    }

    fn ending(&self, ending: &Ending) -> Result<(), String> {
        let Judge { case, life, runs } = self;
        let spec = &case.spec;
        if case.was(done::CANCELLED) {
            must(*ending == Ending::Cancelled, format!("`cancel` said yes, and it ended with {ending:?}"))?;
        }
        let of_threads = life.plan.kind == Kind::Threads;
        must(
            !of_threads || !matches!(ending, Ending::Died(_) | Ending::TimedOut(_) | Ending::Decode(_)),
            "threads do not end like that",
        )?;
        let last = runs.last().copied();
        let attempt = last.map_or(0, |run| run.attempt);
        let no_retry = |covered: bool| {
            must(!covered || spec.retries == 0 || self.was_stopped(), "it was not tried again")
        };
        match ending {
            Ending::Returned { attempt, pid } => {
                must(
                    last == Some(Mark { id: case.id, attempt: *attempt, pid: *pid }),
                    "another run was its last",
                )?;
                let continued = lock(&life.stopped).contains(pid) || self.was_stopped();
                let natural = self.natural(*attempt);
                must(
                    natural == Natural::Returns || (natural == Natural::StandsStill && continued),
                    format!("{natural:?} was expected"),
                )?;
                must(spec.thorn.is_none(), "a thorn went through")?;
                must(!(of_threads && spec.limit.is_some()), "a thread was to have a time limit")
            }
            Ending::Raised => {
                must(self.natural(attempt) == Natural::Raises && last.is_some(), "it was not to raise")?;
                no_retry(spec.retry_if)
            }
            Ending::Panicked => {
                let thorn = spec.thorn.is_some_and(|thorn| thorn.panics);
                must(thorn || self.natural(attempt) == Natural::Panics, "it was not to panic")?;
                must(thorn || last.is_some(), "it panicked and never ran")?;
                no_retry(spec.retry_if)
            }
            Ending::Cancelled => {
                must(self.may_be_cancelled(), "nobody cancelled it")?;
                must(attempt <= spec.retries, "it was cancelled and had begun its last attempt")
            }
            Ending::TimedOut(limit) => {
                must(Some(*limit) == self.limit(), format!("its limit was {:?}", self.limit()))?;
                no_retry(true)
            }
            Ending::Died(death) => {
                self.cause_of(death, None)?;
                no_retry(true)
            }
            Ending::GaveUp(attempts) => {
                must(spec.retries > 0 && attempts.len() == spec.retries as usize + 1, "it gave up too soon")?;
                (1..).zip(attempts).try_for_each(|(number, attempt)| self.failed_attempt(number, attempt))
            }
            Ending::Broken(_) => must(life.may_break(), "nothing broke its pool"),
            Ending::Refused => {
                must(life.is_closing(), "its pool was not shut down")?;
                must(runs.is_empty(), "it was refused, and ran")
            }
            Ending::GivenBack => must(runs.is_empty(), "it was given back, and ran"),
            Ending::Encode(what) | Ending::Decode(what) => {
                let reading = matches!(ending, Ending::Decode(_));
                let expected = spec.thorn.is_some_and(|thorn| {
                    let side = if thorn.in_result { "return value" } else { "argument" };
                    !thorn.panics && thorn.when_read == reading && side == *what
                });
                must(expected, "no thorn was there")
            }
            Ending::Unsupported => {
                must(of_threads && spec.limit.is_some() && runs.is_empty(), "nothing is unsupported here")
            }
            Ending::Late => must(
                spec.mapped.as_ref().is_some_and(|mapped| mapped.limit.is_some()),
                "its map had no limit",
            ),
            Ending::Strange(error) => Err(format!("no call ends like that: {error}")),
        }
    }

    /// Attempt `number` ended so, and there was to be another.
    fn failed_attempt(&self, number: u32, ending: &Ending) -> Result<(), String> {
        let natural = self.natural(number);
        match ending {
            Ending::Died(death) => self.cause_of(death, Some(number)),
            Ending::TimedOut(limit) => must(Some(*limit) == self.limit(), "an attempt had another limit"),
            Ending::Raised => {
                must(natural == Natural::Raises && self.case.spec.retry_if, "an attempt raised")
            }
            Ending::Panicked => {
                must(natural == Natural::Panics && self.case.spec.retry_if, "an attempt panicked")
            }
            other => Err(format!("attempt {number} ended with {other:?}, and another followed")),
        }
    }

    /// Why did its worker die?
    fn cause_of(&self, death: &Death, number: Option<u32>) -> Result<(), String> {
        let Judge { case, life, runs } = self;
        must(number.is_none_or(|number| number == death.attempt), "its death is another attempt's")?;
        must((1..=case.spec.retries + 1).contains(&death.attempt), "there was no such attempt")?;
        let run = runs.iter().find(|run| run.attempt == death.attempt);
        must(run.is_none_or(|run| run.pid == death.pid), "it ran elsewhere than it died")?;
        let Some(status) = death.status else { return Err("nobody knows how its worker died".into()) };
        let (code, signal) = (status.code(), status.signal());
        let [term, kill] = [Signal::TERM, Signal::KILL].map(|signal| Some(signal.as_raw()));
        let deadly = case.spec.mapped.as_ref().and_then(|mapped| mapped.deadly);
        let by_itself = |natural| match natural {
            Natural::Exits(expected) => code == Some(expected),
            Natural::DiesOf(expected) => signal == Some(expected),
            _ => false,
        };
        let asked = case.was(done::KILLED) || life.facts.terminated.load(Ordering::Acquire);
        let explained = (run.is_some() && by_itself(self.natural(death.attempt)))
            || deadly.is_some_and(|deed| by_itself(Natural::of(deed)))
            || (signal == kill && lock(&life.killed).contains(&death.pid))
            || (asked && (signal == term || signal == kill))
            || (signal == kill && life.facts.all_killed.load(Ordering::Acquire));
        must(explained, format!("nobody killed its worker {}: {status}", death.pid))
    }
}

/// What is true of every worker process: its death costs one call, and it serves no more than it may.
fn workers(life: &Life, cases: &[Arc<Case>], marks: &[Mark]) {
    let mut dead = HashMap::new();
    for case in cases {
        let deaths = match case.ending() {
            Some(Ending::GaveUp(attempts)) => attempts.as_slice(),
            Some(ending) => std::slice::from_ref(ending),
            None => &[],
        };
        for ending in deaths {
            let Ending::Died(Death { task, pid, .. }) = ending else { continue };
            if dead.insert(*pid, *task).is_some_and(|other| other != *task) {
                case.wrong(&format!("the death of worker {pid} has cost another call too"));
            }
        }
    }
    if life.plan.kind == Kind::Threads {
        return;
    }
    let mut served = HashMap::<u32, usize>::new();
    for mark in marks {
        let alone = cases.get(mark.id as usize).is_some_and(|case| case.spec.mapped.is_none());
        *served.entry(mark.pid).or_default() += usize::from(alone);
    }
    Count::Workers.add(served.len() as u64);
    if let Some(most) = life.plan.max_tasks {
        for (pid, calls) in served.into_iter().filter(|(_, calls)| *calls > most) {
            tally::wrong(&format!("worker {pid} of {} served {calls} calls: {}", life.name(), life.facts()));
        }
    }
}
