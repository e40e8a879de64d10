//! Maps: in order and as they come, in chunks, pulled lazily, with a time limit, failing fast, and left midway.
//!
//! Not here: what comes of one call (`case.rs`). The rule: whatever was pulled out of the input comes out of the map
//! as the outcome of its own place, unless the map is left or fails fast before.

use std::sync::{Arc, Mutex};

use concurrent_futures::{Error, Executor, MapOptions};

use crate::case::{Case, Mapped, Spec, done};
use crate::dice::Dice;
use crate::life::{Kind, Life, Pool, lock};
use crate::moves::{Mover, deadly};
use crate::order::{Answer, Deed, perform, try_perform};
use crate::pulse::beat;
use crate::watch::{ODD, plain};

/// One map: its plan, and its calls as they are pulled.
struct Plan {
    items: u32,
    buffersize: Option<usize>,
    fails_fast: bool,
    unordered: bool,
    /// Left after so many results.
    left_after: Option<usize>,
    mapped: Mapped,
    cases: Arc<Mutex<Vec<Arc<Case>>>>,
    yielded: usize,
    failed: bool,
}

impl Mover {
    pub(crate) fn map(&mut self, life: &Arc<Life>, pool: &Pool) {
        let dice = &mut self.dice;
        let most = if dice.one_in(5) { 2000 } else { 80 };
        let of_processes = life.plan.kind == Kind::Processes;
        let mut plan = Plan {
            items: dice.below(most),
            buffersize: dice.sometimes(2, |dice| dice.between(1, 40) as usize),
            fails_fast: dice.one_in(5),
            unordered: dice.one_in(2),
            left_after: dice.sometimes(5, |dice| dice.below(30) as usize),
            mapped: Mapped {
                deadly: dice.sometimes(8, deadly).filter(|_| of_processes),
                limit: dice.sometimes(5, |dice| dice.millis(0, 30)),
                hooked: dice.one_in(4),
            },
            cases: Arc::default(),
            yielded: 0,
            failed: false,
        };
        let options = plan.options(dice);
        let raises = dice.one_in(2);
        let items = plan.input(life, raises, dice.fork());
        let mut map = match raises {
            true => pool.try_map_with(try_perform, items, options),
            false => pool.map_with(perform, items, options),
        };
        beat();
        if plan.unordered {
            let mut map = map.unordered();
            while plan.left_after != Some(plan.yielded)
                && let Some((index, outcome)) = map.next()
            {
                plan.give(index, &outcome);
            }
        } else {
            while plan.left_after != Some(plan.yielded)
                && let Some(outcome) = if dice.one_in(3) { map.next_timeout(ODD) } else { map.next() }
            {
                // Only this wait was in vain.
                if !matches!(&outcome, Err(Error::TimedOut { limit, .. }) if *limit == ODD) {
                    plan.give(plan.yielded, &outcome);
                }
            }
            drop(map);
        }
        plan.end();
    }
}

impl Plan {
    fn options(&self, dice: &mut Dice) -> MapOptions {
        let mut options = MapOptions::new().fail_fast(self.fails_fast);
        if let Some(size) = dice.sometimes(2, |dice| dice.between(1, 30) as usize) {
            options = options.chunksize(size);
        }
        if let Some(size) = self.buffersize {
            options = options.buffersize(size);
        }
        if let Some(limit) = self.mapped.limit {
            options = options.timeout(limit);
        }
        if self.mapped.hooked {
            let cases = Arc::clone(&self.cases);
            options = options.on_item_done(move |index, _| {
                let case = lock(&cases).get(index).cloned();
                case.iter().for_each(|case| case.tell());
            });
        }
        options
    }

    /// The items, each of which becomes a call when it is pulled.
    fn input(
        &self,
        life: &Arc<Life>,
        raises: bool,
        mut dice: Dice,
    ) -> impl Iterator<Item = crate::order::Order> + Send + 'static {
        let (life, cases, mapped) = (Arc::clone(life), Arc::clone(&self.cases), self.mapped.clone());
        let deadly_at = dice.below(self.items.max(1));
        (0..self.items).map(move |index| {
            let deed = match (mapped.deadly, dice.below(30)) {
                (Some(deed), _) if index == deadly_at => deed,
                (_, 0) => Deed::Panic,
                (_, 1) if raises => Deed::Raise,
                (_, 2) => Deed::Sleep(dice.below(2000)),
                (_, 3) => Deed::Spin(dice.below(300)),
                _ => Deed::Return,
            };
            let (takes, gives) = (dice.below(100), dice.below(100));
            let (case, order) =
                life.open(Spec { deed, takes, gives, mapped: Some(mapped.clone()), ..plain() });
            lock(&cases).push(case);
            order
        })
    }

    fn give(&mut self, index: usize, outcome: &Result<Answer, Error>) {
        beat();
        let cases = lock(&self.cases);
        let Some(case) = cases.get(index) else {
            return cases[0]
                .wrong(&format!("the map gave a result for item {index}, which was never pulled"));
        };
        if self.fails_fast && self.failed {
            case.wrong("the map failed fast, and went on");
        }
        let under_way = cases.len() - self.yielded;
        if self.buffersize.is_some_and(|most| under_way > most) {
            case.wrong(&format!("the map has pulled {under_way} items that it has not yielded"));
        }
        self.yielded += 1;
        self.failed |= outcome.is_err();
        case.saw(outcome.as_ref());
    }

    /// The map is gone.
    fn end(self) {
        let cases = lock(&self.cases);
        let left = self.left_after == Some(self.yielded) || (self.fails_fast && self.failed);
        if !left && self.yielded != cases.len() {
            let text = format!("the map yielded {} results for {} items", self.yielded, cases.len());
            cases.iter().for_each(|case| case.wrong(&text));
        }
        for case in cases.iter().filter(|case| case.ending().is_none()) {
            case.note(done::LEFT | done::LET_GO);
            case.life.one_is_let_go();
        }
    }
}
