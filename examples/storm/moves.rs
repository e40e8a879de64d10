//! Who submits: threads that order calls, one or many, and see how they end.
//!
//! Not here: maps (`maps.rs`), the ways to wait (`watch.rs`). The rule: whatever is done may take a while, but not
//! for ever, whatever befalls the pool meanwhile. So nobody waits in a pool for another that may wait for it:
//! threads may wait for processes, never the other way round.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Executor, TaskOptions};
use rustix::process::Signal;

use crate::case::{Case, Ending, Spec};
use crate::dice::Dice;
use crate::freight::Thorn;
use crate::life::{Kind, Life, Pool};
use crate::order::{Deed, perform, try_perform};
use crate::pulse::{self, beat};
use crate::storm::Storm;
use crate::watch::{Running, plain, see_all, see_all_inside};

/// What kind of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// They return, and are over at once.
    Tiny,
    /// A bit of everything that workers survive.
    Mixed,
    /// Some kill their workers, or take too long.
    Nasty,
    /// Up to some MiB there and back.
    Large,
}

/// What is ordered next.
pub(crate) fn any_spec(flavour: Flavour, life: &Life, dice: &mut Dice) -> Spec {
    let of_processes = life.plan.kind == Kind::Processes;
    let mut spec = Spec { takes: dice.below(32), gives: dice.below(32), ..plain() };
    match flavour {
        Flavour::Tiny => return spec,
        Flavour::Large => {
            let bytes = if dice.one_in(8) { 6 << 20 } else { 1 << 20 };
            (spec.takes, spec.gives) = (dice.below(bytes), dice.below(bytes));
            return spec;
        }
        Flavour::Mixed | Flavour::Nasty => {}
    }
    spec.deed = match dice.below(100) {
        0..8 => Deed::Spin(dice.below(400)),
        8..16 => Deed::Sleep(dice.below(4000)),
        16..24 => Deed::Raise,
        24..30 => Deed::Panic,
        // A worker process would print what the payload says in its turn.
        30 if !of_processes => Deed::Bomb,
        31..34 if life.plan.max_memory.is_some() => Deed::Grow(dice.between(1, 8)),
        34..45 if flavour == Flavour::Nasty && of_processes => deadly(dice),
        45..52 if flavour == Flavour::Nasty && of_processes => Deed::Oversleep,
        52 | 53 if flavour == Flavour::Nasty && of_processes => Deed::StandStill,
        _ => Deed::Return,
    };
    if dice.one_in(10) {
        (spec.takes, spec.gives) = (dice.below(100_000), dice.below(100_000));
    }
    if dice.one_in(4) {
        (spec.retries, spec.retry_if) = (dice.between(1, 3), dice.one_in(2));
        spec.fails = if dice.one_in(3) { u32::MAX } else { dice.between(1, 3) };
    } else if of_processes && dice.one_in(30) {
        let [in_result, when_read, panics] = [(); 3].map(|()| dice.one_in(2));
        spec.thorn = Some(Thorn { in_result, when_read, panics });
        spec.deed = Deed::Return;
    }
    let endless = matches!(spec.deed, Deed::Oversleep | Deed::StandStill);
    spec.limit = match dice.below(12) {
        _ if endless && life.plan.task_timeout.is_none() => Some(dice.millis(3, 60)),
        0 if endless => Some(dice.millis(3, 60)),
        0 if of_processes => Some(dice.millis(20, 3000)),
        1 if !of_processes && dice.one_in(8) => Some(dice.millis(20, 3000)),
        _ => None,
    };
    spec
}

/// What ends a worker.
pub(crate) fn deadly(dice: &mut Dice) -> Deed {
    let signals = [Signal::KILL, Signal::SEGV, Signal::TERM, Signal::BUS].map(Signal::as_raw);
    match dice.below(4) {
        0 => Deed::Abort,
        1 | 2 => Deed::Signal(*dice.pick(&signals)),
        _ => Deed::Exit(dice.below(4) as i32),
    }
}

/// Orders a call.
pub(crate) fn launch(life: &Arc<Life>, pool: &Pool, spec: Spec, dice: &mut Dice) -> Running {
    let raises = spec.deed == Deed::Raise;
    let options =
        (spec.limit.is_some() || spec.retries > 0 || dice.one_in(50)).then(|| options_of(&spec, dice));
    let (case, order) = life.open(spec);
    let future = match (options, pool.threads()) {
        (Some(options), _) if raises || dice.one_in(4) => pool.try_submit_with(try_perform, order, options),
        (Some(options), _) => pool.submit_with(perform, order, options),
        // Its own methods, which take any closure.
        (None, Some(threads)) if dice.one_in(2) => match dice.below(2) {
            _ if raises => threads.try_submit(try_perform, order),
            0 => threads.submit(perform, order),
            _ => threads.spawn(move || perform(order)),
        },
        (None, _) if raises || dice.one_in(4) => pool.try_submit(try_perform, order),
        (None, _) => pool.submit(perform, order),
    };
    running(case, future)
}

fn running(case: Arc<Case>, future: concurrent_futures::Future<crate::order::Answer>) -> Running {
    let _ = case.future.set(future.id());
    Running { case, future }
}

/// Orders a call if there is room for it.
pub(crate) fn offer(life: &Arc<Life>, pool: &Pool, spec: Spec, dice: &mut Dice) -> Option<Running> {
    let (case, order) = life.open(spec);
    let offered = match pool.threads() {
        Some(threads) if dice.one_in(2) => {
            threads.submit_or_return(perform, order).map_err(|back| back.argument)
        }
        _ => pool.submit_or_return(perform, order).map_err(|back| back.argument),
    };
    match offered {
        Ok(future) => Some(running(case, future)),
        Err(order) => {
            if (order.life, order.id) != (life.number, case.id) {
                case.wrong("another argument was given back");
            }
            case.end(Ending::GivenBack);
            None
        }
    }
}

fn options_of(spec: &Spec, dice: &mut Dice) -> TaskOptions {
    let mut options = TaskOptions::new().retries(spec.retries);
    options = options.backoff(dice.millis(0, 3), dice.millis(3, 10));
    if let Some(limit) = spec.limit {
        options = options.timeout(limit);
    }
    if spec.retry_if {
        options = options.retry_if(|error| matches!(error, Error::Raised { .. } | Error::Panicked { .. }));
    }
    options
}

/// One of the threads that submit.
pub(crate) struct Mover {
    pub(crate) storm: Arc<Storm>,
    pub(crate) dice: Dice,
    /// Calls that it has not looked after yet.
    left: Vec<Running>,
}

impl Mover {
    pub(crate) fn new(storm: Arc<Storm>, dice: Dice) -> Self {
        Mover { storm, dice, left: Vec::new() }
    }

    pub(crate) fn work(mut self, name: String) {
        pulse::begin(name);
        while self.storm.goes_on() {
            beat();
            let kind = if self.dice.below(5) < 3 { Kind::Processes } else { Kind::Threads };
            let at_hand = self.storm.in_use(kind).and_then(|life| Some((life.pool()?, life)));
            match at_hand {
                // Now and then also what is being shut down is asked.
                Some((pool, life)) if !life.is_closing() || self.dice.one_in(4) => {
                    self.make_a_move(&life, &pool)
                }
                _ => thread::sleep(Duration::from_micros(200)),
            }
            self.look_after_some();
        }
        self.left.drain(..).for_each(|running| running.see(&mut self.dice));
    }

    fn make_a_move(&mut self, life: &Arc<Life>, pool: &Arc<Pool>) {
        let flavour = *self.dice.pick(&[Flavour::Tiny, Flavour::Mixed, Flavour::Mixed, Flavour::Nasty]);
        match self.dice.below(20) {
            0..3 => self.one(flavour, life, pool),
            3..7 => self.many(flavour, life, pool),
            7..9 => self.flood(life, pool),
            9 => self.large(life, pool),
            10 => self.until_killed(life, pool),
            11..13 => self.by_callbacks(life, pool),
            13 => self.nested(life, pool),
            14..16 => self.leave(flavour, life, pool),
            16 if self.dice.one_in(4) => {
                // Only that it can be printed, whatever goes on.
                let _ = format!("{:?} {:?}", pool.threads(), pool.processes());
            }
            _ => self.map(life, pool),
        }
    }

    fn one(&mut self, flavour: Flavour, life: &Arc<Life>, pool: &Pool) {
        let spec = any_spec(flavour, life, &mut self.dice);
        let running = launch(life, pool, spec, &mut self.dice);
        running.hit(20, &mut self.dice);
        running.see(&mut self.dice);
    }

    fn some(&mut self, most: u32, flavour: Flavour, life: &Arc<Life>, pool: &Pool) -> Vec<Running> {
        let number = self.dice.between(1, most);
        let mut launch_one = |_| {
            beat();
            let spec = any_spec(flavour, life, &mut self.dice);
            launch(life, pool, spec, &mut self.dice)
        };
        (0..number).map(&mut launch_one).collect()
    }

    fn many(&mut self, flavour: Flavour, life: &Arc<Life>, pool: &Pool) {
        let all = self.some(60, flavour, life, pool);
        let times = *self.dice.pick(&[4, 40, 1000]);
        all.iter().for_each(|running| running.hit(times, &mut self.dice));
        see_all(all, &mut self.dice);
    }

    /// More than can be done at once, some of it only if there is room.
    fn flood(&mut self, life: &Arc<Life>, pool: &Pool) {
        let most = if pool.processes().is_some() { 3000 } else { 20_000 };
        let (number, offers) = (self.dice.between(500, most), self.dice.one_in(2));
        let mut all = Vec::new();
        for _ in 0..number {
            beat();
            if life.is_closing() && self.dice.one_in(20) {
                break;
            }
            let spec = any_spec(Flavour::Tiny, life, &mut self.dice);
            if offers {
                all.extend(offer(life, pool, spec, &mut self.dice));
            } else {
                all.push(launch(life, pool, spec, &mut self.dice));
            }
        }
        if self.dice.one_in(3) {
            // The newest first: so some are met before they start.
            all.iter().rev().take(number as usize / 2).for_each(Running::cancel);
        }
        if self.dice.one_in(4) {
            return all.into_iter().for_each(Running::let_go);
        }
        see_all(all, &mut self.dice);
    }

    fn large(&mut self, life: &Arc<Life>, pool: &Pool) {
        let all = self.some(4, Flavour::Large, life, pool);
        see_all(all, &mut self.dice);
    }

    /// A call that only `kill` ends.
    fn until_killed(&mut self, life: &Arc<Life>, pool: &Pool) {
        if pool.threads().is_some() {
            return self.one(Flavour::Mixed, life, pool);
        }
        let retries = if self.dice.one_in(3) { 2 } else { 0 };
        let running = launch(life, pool, Spec { deed: Deed::Oversleep, retries, ..plain() }, &mut self.dice);
        thread::sleep(self.dice.millis(0, 25));
        running.kill();
        running.see(&mut self.dice);
    }

    /// What a callback submits, and what the callback of that submits, …
    fn by_callbacks(&mut self, life: &Arc<Life>, pool: &Pool) {
        for _ in 0..self.dice.between(1, 10) {
            let spec = any_spec(Flavour::Mixed, life, &mut self.dice);
            let running = launch(life, pool, spec, &mut self.dice);
            let (storm, dice) = (Arc::clone(&self.storm), self.dice.fork());
            let life = Arc::clone(life);
            running.watch(move || go_on(&storm, &life, dice, 3));
            if self.dice.one_in(2) {
                running.see_again();
            }
        }
    }

    /// A call that orders calls and waits for them: in its own pool, or in that of the processes.
    fn nested(&mut self, life: &Arc<Life>, pool: &Arc<Pool>) {
        let Some(threads) = pool.threads() else { return self.many(Flavour::Mixed, life, pool) };
        let (case, order) = life.open(plain());
        let (storm, mut dice) = (Arc::clone(&self.storm), self.dice.fork());
        let (its_life, its_pool) = (Arc::clone(life), Arc::clone(pool));
        let future = threads.submit(
            move |order| {
                nest(&storm, &its_life, &its_pool, &mut dice, 3);
                perform(order)
            },
            order,
        );
        running(case, future).see(&mut self.dice);
    }

    /// Calls that are looked after later, perhaps when their pool has ended.
    fn leave(&mut self, flavour: Flavour, life: &Arc<Life>, pool: &Pool) {
        let some = self.some(10, flavour, life, pool);
        self.left.extend(some);
    }

    fn look_after_some(&mut self) {
        let (over, open) =
            std::mem::take(&mut self.left).into_iter().partition(|running| running.case.life.is_over());
        self.left = open;
        let mut due: Vec<Running> = over;
        if self.left.len() > 60 {
            due.extend(self.left.drain(..30));
        }
        due.into_iter().for_each(|running| running.see(&mut self.dice));
    }
}

impl Running {
    /// Of one that a callback sees too.
    fn see_again(self) {
        let Running { case, future } = self;
        case.saw(future.result().as_ref());
    }
}

/// In a callback: another call, which another callback sees; or one that is waited for here.
fn go_on(storm: &Arc<Storm>, life: &Arc<Life>, mut dice: Dice, deep: u32) {
    if deep == 0 {
        return;
    }
    let elsewhere = dice.one_in(3);
    let kind = if dice.one_in(2) { Kind::Threads } else { Kind::Processes };
    let there = if elsewhere { storm.in_use(kind) } else { Some(Arc::clone(life)) };
    let Some((pool, there)) = there.and_then(|life| Some((life.pool()?, life))) else { return };
    if elsewhere {
        // The thread may be one of a pool: it must not wait for room in another.
        let Some(running) = offer(&there, &pool, plain(), &mut dice) else { return };
        let (storm, life) = (Arc::clone(storm), Arc::clone(&there));
        return running.watch(move || go_on(&storm, &life, dice, deep - 1));
    }
    let spec = any_spec(Flavour::Mixed, &there, &mut dice);
    let running = launch(&there, &pool, spec, &mut dice);
    if dice.one_in(3) {
        running.see_again();
    } else {
        let storm = Arc::clone(storm);
        running.watch(move || go_on(&storm, &there, dice, deep - 1));
    }
}

/// In a call of a pool of threads: calls of the same pool, one inside the other, and of the processes.
fn nest(storm: &Arc<Storm>, life: &Arc<Life>, pool: &Arc<Pool>, dice: &mut Dice, deep: u32) {
    let Some(threads) = pool.threads().filter(|_| deep > 0) else { return };
    let mut all = Vec::new();
    for _ in 0..dice.between(1, 3) {
        let (case, order) = life.open(plain());
        let (storm, its_life, its_pool) = (Arc::clone(storm), Arc::clone(life), Arc::clone(pool));
        let mut its_dice = dice.fork();
        let future = threads.submit(
            move |order| {
                nest(&storm, &its_life, &its_pool, &mut its_dice, deep - 1);
                perform(order)
            },
            order,
        );
        all.push(running(case, future));
    }
    let processes = dice.sometimes(3, |_| storm.in_use(Kind::Processes)).flatten();
    if let Some((pool, life)) = processes.and_then(|life| Some((life.pool()?, life))) {
        let spec = any_spec(Flavour::Mixed, &life, dice);
        all.push(launch(&life, &pool, spec, dice));
    }
    see_all_inside(all, dice);
}
