//! How long the calls of each function take, as far as one worker has seen: a moving mean.
//!
//! Not here: what follows from it (`context.rs`). The rule: a function that nobody has measured is unknown, and not fast.

use std::time::Duration;

use crate::wire::frame::Parcel;
use crate::wire::message::function_in;

/// Functions that are remembered; there are few. (One more, and all are forgotten.)
const KNOWN: usize = 64;

#[derive(Default)]
pub(super) struct Pace {
    /// Functions, and nanoseconds. The one asked for last is probably the first.
    functions: Vec<(i64, u64)>,
}

impl Pace {
    /// How long the call in that frame will take, in nanoseconds.
    pub(super) fn of(&self, frame: &Parcel) -> Option<u64> {
        let function = function_in(frame)?;
        self.functions.iter().find(|(known, _)| *known == function).map(|(_, pace)| *pace)
    }

    /// The call in that frame took so long.
    pub(super) fn note(&mut self, frame: &Parcel, took: Duration) {
        let Some(function) = function_in(frame) else { return };
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some((_, pace)) = self.functions.iter_mut().find(|(known, _)| *known == function) {
            *pace = (*pace / 4).saturating_mul(3).saturating_add(took / 4);
            return;
        }
        if self.functions.len() == KNOWN {
            self.functions.clear();
        }
        self.functions.push((function, took));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Kind;
    use crate::wire::message::{FunctionRef, end_call};

    fn call_of(offset: i64) -> Parcel {
        let mut call = Parcel::begin(Kind::Call, 1);
        end_call(&mut call, FunctionRef { offset, types: 0 });
        call
    }

    #[test]
    fn what_was_not_measured_is_unknown() {
        let mut pace = Pace::default();
        assert_eq!(pace.of(&call_of(1)), None);
        pace.note(&call_of(1), Duration::from_micros(8));
        assert_eq!(pace.of(&call_of(1)), Some(8_000));
        assert_eq!(pace.of(&call_of(2)), None);
        assert_eq!(pace.of(&Parcel::default()), None);
    }

    #[test]
    fn it_follows_what_is_seen() {
        let mut pace = Pace::default();
        pace.note(&call_of(1), Duration::from_micros(100));
        (0..100).for_each(|_| pace.note(&call_of(1), Duration::from_micros(1)));
        assert!(pace.of(&call_of(1)).unwrap() < 2_000);
        pace.note(&call_of(1), Duration::MAX);
        assert!(pace.of(&call_of(1)).unwrap() > 1_000_000_000);
    }

    #[test]
    fn what_is_remembered_does_not_grow() {
        let mut pace = Pace::default();
        (0..1000).for_each(|n| pace.note(&call_of(n), Duration::from_micros(1)));
        assert!(pace.functions.len() <= KNOWN);
    }
}
