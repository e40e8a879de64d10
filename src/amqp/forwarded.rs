//! A call that came over the network, as this machine's own pool sees it: bytes in, bytes out, and a function of which
//! only the reference is known here.
//!
//! In a thread it is served here; to a worker process the bytes go on as they are, and are read there.
//!
//! Not here: which reference a name means (`list.rs`). The rule: nothing of the bytes is looked at before they are where the
//! function is.

use std::sync::Arc;
use std::time::Duration;

use crate::enclosed::{Enclosure, has_received};
use crate::error::Error;
use crate::future::cell::Job;
use crate::id::TaskRef;
use crate::options::{Attempts, TaskOptions};
use crate::outcome::set_hosts_attempt;
use crate::portable::{self, Beside, Named};
use crate::task::PortableJob;
use crate::wire::frame::Parcel;
use crate::wire::message::{Failure, FunctionRef};

pub(super) struct Forwarded {
    pub(super) function: FunctionRef,
    /// Whoever gave it to us keeps it too, to give it to another worker if need be.
    pub(super) argument: Arc<Vec<u8>>,
    /// Which attempt it is, as its client counts.
    pub(super) attempt: u32,
    /// How long it may run.
    pub(super) limit: Option<Duration>,
}

/// The value's bytes, or why there is none.
pub(super) type Served = Result<Vec<u8>, Failure>;

impl Job for Forwarded {
    type Output = Served;

    fn name() -> &'static str {
        "a call from another machine"
    }

    fn run(self, _: TaskRef) -> Result<Served, Error> {
        let (mut value, mut beside) = (Parcel::default(), Beside::default());
        // Here, so that what copies it is this thread and not the one that talks with the broker.
        let mut argument = Arc::unwrap_or_clone(self.argument);
        set_hosts_attempt(self.attempt);
        let served = portable::resolve(self.function)
            .map_err(|reason| Failure::UnknownFunction { reason })
            .and_then(|function| (function.serve)(&mut argument, &mut value, &mut beside));
        Ok(served.and_then(|()| alone(&beside.enclosed)).map(|()| value.pieces().concat()))
    }
}

/// What would go beside a value stays on this machine.
fn alone(enclosed: &[Enclosure]) -> Result<(), Failure> {
    if enclosed.is_empty() { Ok(()) } else { Err(stays_here()) }
}

fn stays_here() -> Failure {
    let reason = "what shares memory or speaks with its process (a long `Blob` or `Shared`, `sync::Event`, …) stays on its machine; \
                  send bytes, or the name of a file that both sides can read";
    Failure::Unencodable { what: "return value".into(), reason: reason.into() }
}

impl PortableJob for Forwarded {
    fn function(&self) -> Result<FunctionRef, String> {
        Ok(self.function)
    }

    fn encode(&mut self, _: TaskRef, out: &mut Parcel) -> Result<(), Failure> {
        // Bytes travel as they are.
        portable::pack(&mut *Arc::make_mut(&mut self.argument), out, "argument")
    }

    fn take_attempts(&mut self) -> Option<Box<Attempts>> {
        if self.attempt == 1 && self.limit.is_none() {
            return None;
        }
        let options = self.limit.map_or_else(TaskOptions::new, |limit| TaskOptions::new().timeout(limit));
        Some(Box::new(Attempts::from(self.attempt, options)))
    }

    fn named() -> Named {
        Named { function: Self::name(), shape: 0, each: false, fallible: false }
    }

    fn decode(reply: &mut Vec<u8>, _: TaskRef) -> Result<Served, Failure> {
        if has_received() { Ok(Err(stays_here())) } else { Ok(Ok(std::mem::take(reply))) }
    }
}
