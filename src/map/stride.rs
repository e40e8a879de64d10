//! How many results a map waits for at a time.
//!
//! Whoever waits for each of many short items is woken for each, and takes a core from a worker for that. So once
//! results have come quickly, one after the other, the map sleeps for several: until one that is further on is there.
//!
//! | a wait for the next result    | the next time                                                      |
//! |-------------------------------|--------------------------------------------------------------------|
//! | was brief                     | twice as far, but no further than half of what is outstanding      |
//! | was longer than a nap may be  | half as far; and whoever is wrong often is slow to try again       |
//!
//! Not here: how a thread sleeps (`future/block.rs`). The rule: a nap delays a result that is there by [`NAP`] at the
//! most, whatever the items do; and a worker of a pool takes none, because what it waits for may wait for it.

use std::time::{Duration, Instant};

use crate::future::own_pool::is_employed;

/// The longest that one sleeps for a result that is not the next.
const NAP: Duration = Duration::from_micros(500);

/// A wait that could have been for twice as many.
const BRIEF: Duration = Duration::from_micros(250);

/// So many brief waits are seen before the first nap, at the most.
const WARIEST: u32 = 64;

#[derive(Debug, Default)]
pub(super) struct Stride {
    /// How far behind the next result is the one that is waited for.
    places: usize,
    /// Brief waits that are still to be seen before the first nap; and how many it was the last time.
    doubts: u32,
    wariness: u32,
}

impl Stride {
    /// Waits for a result that is not there, with `behind` others outstanding behind it. `nap` sleeps until the one so
    /// many places further on is there, or until then; `wait` waits for the result itself.
    pub(super) fn wait<T>(
        &mut self,
        behind: usize,
        nap: impl FnOnce(usize, Instant),
        wait: impl FnOnce() -> T,
    ) -> T {
        if is_employed() {
            return wait();
        }
        let places = self.places(behind);
        let start = Instant::now();
        if places > 0 {
            nap(places, start + NAP);
        }
        let outcome = wait();
        self.note(places, start.elapsed());
        outcome
    }

    fn places(&self, behind: usize) -> usize {
        self.places.min(behind / 2)
    }

    /// A wait, with or without a nap, took so long.
    fn note(&mut self, places: usize, took: Duration) {
        if took > NAP {
            if places > 0 {
                self.wariness = (self.wariness * 2).clamp(1, WARIEST);
                self.doubts = self.wariness;
            }
            self.places = places / 2;
        } else if places > 0 {
            self.wariness /= 2;
            self.places = if took < BRIEF { places * 2 } else { places };
        } else if took < BRIEF {
            self.places = usize::from(self.doubts == 0);
            self.doubts = self.doubts.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(50);
    const NEVER: Duration = Duration::from_millis(5);

    /// How far each of the waits goes, if so many are outstanding and they take so long.
    fn waits(
        stride: &mut Stride,
        behind: usize,
        took: impl Fn(usize) -> Duration,
        count: usize,
    ) -> Vec<usize> {
        let wait = |_| {
            let places = stride.places(behind);
            stride.note(places, took(places));
            places
        };
        (0..count).map(wait).collect()
    }

    #[test]
    fn quick_results_are_waited_for_by_the_dozen() {
        let each = |places: usize| Duration::from_micros(25) * (places as u32 + 1);
        let mut stride = Stride::default();
        assert_eq!(waits(&mut stride, 1000, each, 7), [0, 1, 2, 4, 8, 16, 16]);
        assert_eq!(waits(&mut stride, 10, each, 2), [5, 5], "half of them are left to the workers");
        assert_eq!(waits(&mut stride, 1, |_| SOON, 2), [0, 0], "the last two are waited for one by one");
    }

    #[test]
    fn slow_results_are_waited_for_one_by_one() {
        let mut stride = Stride::default();
        assert_eq!(waits(&mut stride, 1000, |_| NEVER, 3), [0, 0, 0]);
        waits(&mut stride, 1000, |_| SOON, 4);
        assert_eq!(waits(&mut stride, 1000, |_| NEVER, 5), [8, 4, 2, 1, 0]);
    }

    /// Where an item needs the result before it, every nap is in vain.
    #[test]
    fn naps_in_vain_become_rare() {
        let dependent = |places: usize| if places == 0 { SOON } else { NEVER };
        let mut stride = Stride::default();
        let places = waits(&mut stride, 1000, dependent, 1000);
        let naps = places.iter().filter(|places| **places > 0).count();
        assert!(naps <= 1000 / WARIEST as usize + 7, "{naps} naps");
        assert!(waits(&mut stride, 1000, |_| SOON, 100).contains(&500), "but it forgives");
    }
}
