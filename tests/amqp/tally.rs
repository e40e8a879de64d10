//! The tally: very many calls, two workers, and every second one of them is killed and another comes. Nothing may be lost,
//! wrong, or told twice.
//!
//! A worker writes down each call that it makes before it answers, so it is known how many were made more than once: that is
//! what "at least once" means. What the user gets is to be each result, once.
//!
//! `AMQP_TALLY` says how many calls; the tests make [`CALLS`] without it. The line that begins with `tally:` is what came of
//! it.
//!
//! Not here: other faults (`faults.rs`, `hosts.rs`), which count with what is here. The rule: every result is compared with
//! what it has to be, and every end that anybody is told of is counted.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{
    AmqpBuilder, AmqpExecutor, AmqpWorker, Error, Event, Executor, FutureId, Observer, What,
    as_completed_timeout,
};

use crate::broker::{Setup, WorkerProcess, shared};
use crate::common::{Journal, Page, watchdog};

/// So many calls, where nobody says otherwise.
const CALLS: u64 = 20_000;

/// No outcome is waited for longer than that.
const PATIENCE: Duration = Duration::from_secs(300);

/// A call that is written down when it is made.
pub(crate) fn noted((number, page): (u64, Page)) -> u64 {
    page.note(number);
    mixed(number)
}

pub(crate) fn list(worker: AmqpWorker) -> AmqpWorker {
    worker.register(noted)
}

/// A number that no other number has (a step of splitmix64).
pub(crate) fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Numbers at random, the same ones for the same seed.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// From 0 up to that, without it.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mixed(self.0) % end
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// How often whoever watches is told of each call that was submitted that it has ended.
#[derive(Debug, Default)]
struct Ends(Mutex<HashMap<FutureId, u32>>);

impl Observer for Ends {
    fn notice(&self, event: &Event<'_>) {
        use What::*;
        if let Submitted { task, .. } = event.what {
            self.0.lock().unwrap().entry(task.id).or_default();
        }
        if let Finished { task, .. } | Failed { task, .. } | TimedOut { task, .. } | Cancelled { task, .. } =
            event.what
        {
            *self.0.lock().unwrap().entry(task.id).or_default() += 1;
        }
    }
}

/// What came of many calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    /// Results that did not come.
    lost: u64,
    /// Results that are another's.
    wrong: u64,
    /// Ends that the user was told more than once.
    doubled: u64,
    /// What calls ended with that have no result.
    errors: Vec<Error>,
    /// How often a call was made that had been made already.
    pub(crate) reruns: u64,
    took: Duration,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { calls, lost, wrong, doubled, errors, reruns, took } = self;
        write!(
            f,
            "{calls} calls in {took:.1?}: lost {lost}, wrong {wrong}, told twice {doubled}, errors {}",
            errors.len()
        )?;
        write!(f, "; made again {reruns}")
    }
}

impl Tally {
    /// Makes so many of that call on an executor that is set up like that; `beside` is given it when they are submitted, and lasts
    /// until it returns or all have ended, whatever is later. Half of them by `submit`, half of them by `map`.
    pub(crate) fn of<F: Fn((u64, Page)) -> u64 + Copy + Send + 'static>(
        call: F,
        builder: AmqpBuilder,
        url: &str,
        calls: u64,
        mut beside: impl FnMut(&AmqpExecutor, &dyn Fn() -> bool) + Send,
    ) -> Tally {
        let (journal, ends) = (Journal::new(), Arc::new(Ends::default()));
        let executor = builder.observer(Arc::clone(&ends)).connect(url).expect("an executor");
        let mut tally = Tally { calls, ..Tally::default() };
        let (begun, is_over) = (Instant::now(), AtomicBool::new(false));
        let half = calls / 2;
        let futures: Vec<_> = (0..half).map(|n| (n, executor.submit(call, (n, journal.page())))).collect();
        let in_order = executor.map(call, (half..calls).map(|n| (n, journal.page())));
        let submitted = thread::scope(|scope| {
            scope.spawn(|| beside(&executor, &|| !is_over.load(Ordering::SeqCst)));
            let mut came = vec![0_u32; half as usize];
            for item in as_completed_timeout(futures, PATIENCE) {
                match item {
                    Ok((n, future)) => {
                        came[n as usize] += 1;
                        tally.enter(n, future.result());
                    }
                    Err(error) => tally.errors.push(error),
                }
            }
            let mut numbers = half..calls;
            for outcome in in_order {
                match numbers.next() {
                    Some(n) => tally.enter(n, outcome),
                    None => tally.doubled += 1,
                }
            }
            tally.lost += numbers.count() as u64;
            is_over.store(true, Ordering::SeqCst);
            came
        });
        tally.lost += submitted.iter().filter(|count| **count == 0).count() as u64;
        tally.doubled += submitted.iter().filter(|count| **count > 1).count() as u64;
        tally.took = begun.elapsed();
        drop(executor);
        let ends = ends.0.lock().unwrap();
        tally.lost += ends.values().filter(|count| **count == 0).count() as u64;
        tally.doubled += ends.values().filter(|count| **count > 1).count() as u64;
        tally.reruns = (journal.lines().len() as u64).saturating_sub(calls);
        tally
    }

    fn enter(&mut self, number: u64, outcome: Result<u64, Error>) {
        match outcome {
            Ok(value) => self.wrong += u64::from(value != mixed(number)),
            Err(error) => {
                self.lost += 1;
                self.errors.push(error);
            }
        }
    }

    /// Nothing lost, nothing wrong, nothing twice.
    #[track_caller]
    pub(crate) fn assert_perfect(&self) {
        println!("{self}");
        let first = self.errors.iter().take(3).map(ToString::to_string).collect::<Vec<_>>();
        assert!((self.lost, self.wrong, self.doubled) == (0, 0, 0) && first.is_empty(), "{self}; {first:?}");
    }
}

#[test]
fn nothing_is_lost_while_a_worker_is_killed_every_second() {
    let limit = Duration::from_secs(600);
    watchdog("nothing_is_lost_while_a_worker_is_killed_every_second", limit, || {
        let Some(broker) = shared() else { return };
        let calls =
            std::env::var("AMQP_TALLY").map_or(CALLS, |calls| calls.parse().expect("AMQP_TALLY: a number"));
        let queue = broker.queue("tally");
        let setup = Setup::new(&queue).threads(2);
        let mut kills = 0;
        let tally =
            Tally::of(noted, AmqpExecutor::builder().queue(&queue), broker.url(), calls, |_, is_going_on| {
                let mut dice = Dice::new(8);
                let mut workers = [WorkerProcess::start(&setup), WorkerProcess::start(&setup)];
                while is_going_on() {
                    thread::sleep(Duration::from_secs(1));
                    let killed = &mut workers[dice.below(2) as usize];
                    std::mem::replace(killed, WorkerProcess::start(&setup)).kill();
                    kills += 1;
                }
            });
        println!("tally: {tally}; workers killed {kills}");
        tally.assert_perfect();
        assert!(kills > 0);
    });
}
