//! The storm: who makes pools and disturbs them, who uses them, and who looks after them all.
//!
//! Not here: what is right and wrong (`verdict.rs`). The rule: of each kind one pool is in use at any time, or is
//! about to be; the ones before it end meanwhile.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::dice::Dice;
use crate::ends::{bury, end};
use crate::life::{Kind, Life, Plan, Pool, lock};
use crate::marks::Marks;
use crate::moves::Mover;
use crate::pulse::{self, beat};
use crate::tally::{self, Count};
use crate::{belongings, ends};

pub(crate) struct Storm {
    pub(crate) seed: u64,
    pub(crate) workers: usize,
    pub(crate) directory: PathBuf,
    /// When the whole storm began.
    pub(crate) start: Instant,
    pub(crate) until: Instant,
    /// Somebody has had enough.
    pub(crate) interrupted: Arc<AtomicBool>,
    /// The pools in use: threads, processes.
    pub(crate) in_use: [Mutex<Option<Arc<Life>>>; 2],
}

/// Threads that submit.
const MOVERS: u64 = 4;

/// How often it says how far it is.
const NEWS: Duration = Duration::from_secs(5);

impl Storm {
    pub(crate) fn goes_on(&self) -> bool {
        !self.interrupted.load(Ordering::Relaxed) && Instant::now() < self.until
    }

    pub(crate) fn in_use(&self, kind: Kind) -> Option<Arc<Life>> {
        lock(&self.in_use[kind as usize]).clone()
    }

    /// Begins, and returns when all that it has begun is over. `phase`: so that no two are alike.
    pub(crate) fn blow(self: Arc<Self>, phase: u64) {
        let mut threads = Vec::new();
        for (number, kind) in [(0, Kind::Threads), (1, Kind::Processes)] {
            let (storm, dice) = (Arc::clone(&self), Dice::new(self.seed, &[phase, 0, number]));
            threads
                .push(named(format!("pools of {kind:?}"), move |name| make_pools(&storm, kind, dice, name)));
        }
        for number in 0..MOVERS {
            let mover = Mover::new(Arc::clone(&self), Dice::new(self.seed, &[phase, 1, number]));
            threads.push(named(format!("mover {number}"), |name| mover.work(name)));
        }
        let mut news = Instant::now() + NEWS;
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(Duration::from_millis(50));
            if Instant::now() >= news {
                news += NEWS;
                tally::progress(self.start.elapsed());
            }
            if let Some(thread) = pulse::stuck_for(ends::PATIENCE * 2) {
                belongings::hang(&format!("the thread `{thread}` of the storm does not go on"));
            }
        }
        for thread in threads {
            if thread.join().is_err() {
                tally::wrong("a thread of the storm panicked");
            }
        }
    }
}

fn named(name: String, body: impl FnOnce(String) + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.clone()).spawn(|| body(name)).expect("a thread of the storm")
}

/// Makes one pool after the other, disturbs it, and ends it.
fn make_pools(storm: &Arc<Storm>, kind: Kind, mut dice: Dice, name: String) {
    pulse::begin(name);
    let mut burial: Option<JoinHandle<()>> = None;
    while storm.goes_on() {
        beat();
        let life = match begin(storm, kind, &mut dice) {
            Ok(life) => life,
            Err(error) => {
                tally::wrong(&format!("a pool could not be made: {error}"));
                return;
            }
        };
        *lock(&storm.in_use[kind as usize]) = Some(Arc::clone(&life));
        let pool = life.pool();
        pool.into_iter().for_each(|pool| disturb(storm, &life, &pool, &mut dice));
        let mut its_dice = dice.fork();
        // With its successor in use already, or before there is one.
        let at_once = dice.one_in(2);
        if at_once {
            end(&life, &mut its_dice);
        }
        if let Some(before) = burial.take() {
            wait_for(before);
        }
        burial = Some(named(format!("end of {}", life.name()), move |name| {
            pulse::begin(name);
            if !at_once {
                end(&life, &mut its_dice);
            }
            bury(&life);
        }));
    }
    lock(&storm.in_use[kind as usize]).take();
    burial.into_iter().for_each(wait_for);
}

fn wait_for(burial: JoinHandle<()>) {
    // It is looked after itself.
    while !burial.is_finished() {
        beat();
        thread::sleep(Duration::from_millis(1));
    }
    if burial.join().is_err() {
        tally::wrong("whoever was to end a pool panicked");
    }
}

fn begin(storm: &Storm, kind: Kind, dice: &mut Dice) -> io::Result<Arc<Life>> {
    static LIVES: AtomicU32 = AtomicU32::new(0);
    let number = LIVES.fetch_add(1, Ordering::Relaxed);
    let plan = Plan::new(kind, storm.workers, dice);
    let marks = Marks::new(&storm.directory, number)?;
    Life::begin(number, plan, marks).map_err(io::Error::other)
}

/// Kills and stops workers of a pool, for as long as it is in use.
fn disturb(storm: &Storm, life: &Life, pool: &Pool, dice: &mut Dice) {
    let until = Instant::now() + life.plan.lasts;
    let mut standing = Standing::default();
    let mut next = Instant::now();
    while Instant::now() < until && storm.goes_on() && !life.is_broken() {
        beat();
        standing.go_on(Instant::now());
        if let Some((low, high)) = life.plan.disturbed_every
            && Instant::now() >= next
        {
            next = Instant::now() + dice.millis(low, high);
            match dice.below(20) {
                0 => (0..storm.workers).for_each(|_| kill(life, pool, dice)),
                1..13 => kill(life, pool, dice),
                _ => standing.stop(life, pool, dice),
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    standing.go_on(Instant::now() + Duration::from_secs(3600));
}

fn kill(life: &Life, pool: &Pool, dice: &mut Dice) {
    if life.signal(pool, Signal::KILL, dice).is_some() {
        Count::Kills.one();
    }
}

/// Workers that were stopped, and when they are to go on.
#[derive(Default)]
struct Standing(Vec<(Instant, OwnedFd)>);

impl Standing {
    fn stop(&mut self, life: &Life, pool: &Pool, dice: &mut Dice) {
        let Some(pid) = life.signal(pool, Signal::STOP, dice) else { return };
        Count::Stops.one();
        // Where whatever it does has a time limit, some are left to it.
        if life.plan.task_timeout.is_some() && life.plan.start_timeout.is_some() && dice.one_in(2) {
            return;
        }
        let process = Pid::from_raw(pid as i32).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        self.0.extend(process.map(|process| (Instant::now() + dice.millis(0, 150), process)));
    }

    fn go_on(&mut self, now: Instant) {
        self.0.retain(|(then, process)| {
            let still = *then > now;
            if !still && pidfd_send_signal(process, Signal::CONT).is_ok() {
                Count::Continued.one();
            }
            still
        });
    }
}
