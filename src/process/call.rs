//! A call on its way to a child: what is queued, and what is in hand.
//!
//! Not here: where it is (`window.rs`), what becomes of it (`endings.rs`).

use super::Plan;
use super::lanes::LONGEST;
use crate::enclosed::Enclosure;
use crate::options::Attempts;
use crate::pool;
use crate::task::{Begun, Encoded, PortableWork};
use crate::wire::frame::{HEADER, Parcel};

/// A call and its frame, queued.
pub(crate) type Call = pool::Call<Letter>;

/// What is sent.
pub(crate) struct Letter {
    pub(super) frame: Parcel,
    /// If it has options.
    pub(super) attempts: Option<Box<Attempts>>,
    /// Workers that were given it and died before they began any call.
    pub(super) moved: u8,
    /// What goes beside the frame.
    pub(super) enclosed: Vec<Enclosure>,
}

impl Letter {
    pub(super) fn new(Encoded { frame, attempts, enclosed }: Encoded) -> Self {
        Letter { frame, attempts, moved: 0, enclosed }
    }

    pub(super) fn attempt(&self) -> u32 {
        self.attempts.as_ref().map_or(1, |attempts| attempts.number())
    }

    /// May it be posted by others than a worker's thread?
    pub(super) fn may_be_posted(&self, plan: &Plan) -> bool {
        plan.is_plain() && self.attempts.is_none() && self.is_short(plan)
    }

    /// Does it go through the page? Nothing that has something beside it does.
    pub(super) fn is_short(&self, plan: &Plan) -> bool {
        let length = self.frame.len();
        self.enclosed.is_empty()
            && length <= LONGEST
            && (length - HEADER) as u64 <= plan.terms.max_message_bytes
    }
}

/// A call that was started.
pub(super) struct Started {
    pub(super) call: Begun<dyn PortableWork>,
    pub(super) letter: Letter,
}
