//! The hall: something that several share and wait for, under one lock, with a line of those who wait at each of its
//! doors.
//!
//! ```text
//!   who wants something ── try ──▶ done
//!                           │ not now
//!                           ▼
//!                 the end of the line ── somebody changes something, and rings ──▶ try again, at its head
//! ```
//!
//! Who is rung for has to try again: another may have been quicker. One that gives up although it was rung for rings for
//! the next, so no ring is lost.
//!
//! Not here: what is shared (`queue.rs`, `event.rs`, `permits.rs`). The rule: no code of the user runs under the lock, and
//! nobody is rung for under it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::primitives::{Mutex, Parker};

/// Wakes somebody who waits in a hall.
pub(crate) trait Bell: Send + Sync {
    fn ring(&self);
}

impl Bell for Parker {
    fn ring(&self) {
        self.wake();
    }
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// For something to come.
    In = 0,
    /// For something to go.
    Out = 1,
}

/// Who is to be rung for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Nobody,
    Some(Door, usize),
    All,
}

/// A place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    door: Door,
    number: u64,
}

pub(super) struct Hall<S>(Mutex<Inside<S>>);

struct Inside<S> {
    state: S,
    lines: [VecDeque<(u64, Arc<dyn Bell>)>; 2],
    next: u64,
}

impl<S> Inside<S> {
    fn called(&mut self, call: Call) -> Vec<Arc<dyn Bell>> {
        let bells = |line: &mut VecDeque<(u64, Arc<dyn Bell>)>, count: usize| {
            let count = count.min(line.len());
            line.drain(..count).map(|(_, bell)| bell).collect::<Vec<_>>()
        };
        match call {
            Call::Nobody => Vec::new(),
            Call::Some(door, count) => bells(&mut self.lines[door as usize], count),
            Call::All => self.lines.iter_mut().flat_map(|line| bells(line, usize::MAX)).collect(),
        }
    }

    /// Stands in line again at the head, or for the first time at the end.
    fn stand(&mut self, door: Door, place: &mut Option<Place>, bell: Arc<dyn Bell>) {
        let line = &mut self.lines[door as usize];
        match place {
            Some(Place { number, .. }) => {
                let at = line.partition_point(|(other, _)| other < number);
                line.insert(at, (*number, bell));
            }
            None => {
                line.push_back((self.next, bell));
                *place = Some(Place { door, number: self.next });
                self.next += 1;
            }
        }
    }

    /// Leaves the line. False: it was rung for.
    fn leave(&mut self, place: Place) -> bool {
        let line = &mut self.lines[place.door as usize];
        let at = line.iter().position(|(number, _)| *number == place.number);
        at.map(|at| line.remove(at)).is_some()
    }
}

fn ring(bells: Vec<Arc<dyn Bell>>) {
    bells.into_iter().for_each(|bell| bell.ring());
}

impl<S> Hall<S> {
    pub(super) fn new(state: S) -> Self {
        Hall(Mutex::new(Inside { state, lines: Default::default(), next: 0 }))
    }

    /// Does something for which nobody has to wait.
    pub(super) fn step<R>(&self, step: impl FnOnce(&mut S) -> (R, Call)) -> R {
        let mut inside = self.0.lock();
        let (result, call) = step(&mut inside.state);
        let bells = inside.called(call);
        drop(inside);
        ring(bells);
        result
    }

    /// Does something as soon as it can be done. `None`: not until `deadline`.
    pub(super) fn wait<R>(
        &self,
        door: Door,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&mut S) -> Option<(R, Call)>,
    ) -> Option<R> {
        let mut parker = None;
        let mut place = None;
        let mut is_late = false;
        loop {
            let mut inside = self.0.lock();
            if let Some(place) = place {
                inside.leave(place);
            }
            if let Some((result, call)) = attempt(&mut inside.state) {
                let bells = inside.called(call);
                drop(inside);
                ring(bells);
                return Some(result);
            }
            is_late = is_late || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late {
                return None;
            }
            let parker: &Arc<Parker> = parker.get_or_insert_with(Arc::default);
            inside.stand(door, &mut place, parker.clone());
            drop(inside);
            is_late = !parker.park(deadline);
        }
    }

    /// The same for somebody who does not sleep here: it does it now, or stands in line, and tries again when the bell
    /// rings.
    pub(super) fn attempt<R>(
        &self,
        door: Door,
        bell: &Arc<dyn Bell>,
        place: &mut Option<Place>,
        attempt: impl FnOnce(&mut S) -> Option<(R, Call)>,
    ) -> Option<R> {
        let mut inside = self.0.lock();
        if let Some(place) = *place {
            inside.leave(place);
        }
        match attempt(&mut inside.state) {
            Some((result, call)) => {
                *place = None;
                let bells = inside.called(call);
                drop(inside);
                ring(bells);
                Some(result)
            }
            None => {
                inside.stand(door, place, Arc::clone(bell));
                None
            }
        }
    }

    /// Somebody who stands in line gives up.
    pub(super) fn give_up(&self, place: Place) {
        let mut inside = self.0.lock();
        if !inside.leave(place) {
            let bells = inside.called(Call::Some(place.door, 1));
            drop(inside);
            ring(bells);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts how often it is rung.
    #[derive(Default)]
    struct Rung(AtomicUsize);

    impl Bell for Rung {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Rung {
        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn bells<const N: usize>() -> ([Arc<Rung>; N], [Arc<dyn Bell>; N]) {
        let rung = [(); N].map(|()| Arc::<Rung>::default());
        let bells = rung.clone().map(|rung| rung as Arc<dyn Bell>);
        (rung, bells)
    }

    fn take(state: &mut u32) -> Option<((), Call)> {
        *state = state.checked_sub(1)?;
        Some(((), Call::Nobody))
    }

    fn add(hall: &Hall<u32>, count: u32) {
        hall.step(|state| {
            *state += count;
            ((), Call::Some(Door::In, count as usize))
        });
    }

    #[test]
    fn those_who_wait_are_rung_for_in_order_and_one_who_failed_is_the_first_again() {
        let hall = Hall::new(0);
        let (rung, bells) = bells::<2>();
        let mut places = [None; 2];
        for (bell, place) in bells.iter().zip(&mut places) {
            assert!(hall.attempt(Door::In, bell, place, take).is_none());
        }
        add(&hall, 1);
        assert_eq!((rung[0].count(), rung[1].count()), (1, 0));
        // Another was quicker.
        assert!(hall.wait(Door::In, Some(Instant::now()), take).is_some());
        assert!(hall.attempt(Door::In, &bells[0], &mut places[0], take).is_none());
        add(&hall, 1);
        assert_eq!((rung[0].count(), rung[1].count()), (2, 0));
        assert!(hall.attempt(Door::In, &bells[0], &mut places[0], take).is_some());
        assert_eq!(places[0], None);
        add(&hall, 1);
        assert_eq!((rung[0].count(), rung[1].count()), (2, 1));
    }

    #[test]
    fn one_that_gives_up_after_it_was_rung_for_rings_for_the_next() {
        let hall = Hall::new(0);
        let (rung, bells) = bells::<3>();
        let mut places = [None; 3];
        for (bell, place) in bells.iter().zip(&mut places) {
            assert!(hall.attempt(Door::In, bell, place, take).is_none());
        }
        // Not rung for: it just goes.
        hall.give_up(places[1].unwrap());
        assert_eq!(rung.each_ref().map(|rung| rung.count()), [0, 0, 0]);
        add(&hall, 1);
        hall.give_up(places[0].unwrap());
        assert_eq!(rung.each_ref().map(|rung| rung.count()), [1, 0, 1]);
        assert!(hall.attempt(Door::In, &bells[2], &mut places[2], take).is_some());
    }

    #[test]
    fn the_doors_have_lines_of_their_own() {
        let hall = Hall::new(0);
        let (rung, bells) = bells::<2>();
        let (mut inside, mut outside) = (None, None);
        assert!(hall.attempt(Door::In, &bells[0], &mut inside, take).is_none());
        assert!(hall.attempt(Door::Out, &bells[1], &mut outside, take).is_none());
        hall.step(|_| ((), Call::Some(Door::Out, 9)));
        assert_eq!(rung.each_ref().map(|rung| rung.count()), [0, 1]);
        hall.step(|_| ((), Call::All));
        assert_eq!(rung.each_ref().map(|rung| rung.count()), [1, 1]);
    }

    #[test]
    fn nobody_sleeps_through_what_comes() {
        const EACH: u32 = 20_000;
        let hall = Hall::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..EACH).for_each(|_| hall.wait(Door::In, None, take).unwrap()));
            }
            (0..3 * EACH).for_each(|_| add(&hall, 1));
        });
        assert_eq!(hall.step(|state| (*state, Call::Nobody)), 0);
    }
}
