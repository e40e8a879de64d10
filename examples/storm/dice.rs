//! Chance, by the seed: the same seed and the same place give the same decisions.
//!
//! Not here: what is decided. The rule: every thread has dice of its own, so what it decides does not
//! depend on how the machine mixes the threads; only when it happens does.

use std::time::Duration;

/// A generator of 64-bit numbers (the steps and the mixing of SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads the bits of a number over all of it.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Dice {
    /// `place`: who throws them.
    pub(crate) fn new(seed: u64, place: &[u64]) -> Self {
        Dice(place.iter().fold(mix(seed), |state, number| mix(state.wrapping_add(STEP) ^ mix(*number))))
    }

    /// Dice for somebody else.
    pub(crate) fn fork(&mut self) -> Self {
        Dice(self.roll())
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// From 0, less than `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        ((u128::from(self.roll()) * u128::from(end)) >> 64) as u32
    }

    /// Both ends can come.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    pub(crate) fn one_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len() as u32) as usize]
    }

    pub(crate) fn millis(&mut self, low: u32, high: u32) -> Duration {
        Duration::from_millis(self.between(low, high).into())
    }

    /// `Some` once in so many times.
    pub(crate) fn sometimes<T>(&mut self, times: u32, what: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        self.one_in(times).then(|| what(self))
    }
}
