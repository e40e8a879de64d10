//! What a client and a worker say to each other in the body of a message.
//!
//! ```text
//!   task     argument ‖ TaskHead ‖ length of the head u32 ‖ version u32 ‖ magic
//!   reply    value    ‖ ReplyHead ‖ length of the head u32 ‖ version u32 ‖ magic
//! ```
//!
//! The head stands behind, so that the argument or the value has the start of the memory, and can have all of it. It is
//! in postcard; magic and version are the same in all versions, and numbers are little-endian. What a broker sees of a
//! message (whose it is, where the reply goes) is in its properties, not here.
//!
//! Not here: how arguments and values are encoded (`portable`). The rule: a body is read whole or refused, and what that
//! costs follows the bytes that are there. Nothing that was read is believed to be true: a name is looked up, a shape
//! compared, a number of a process printed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::portable::Named;
use crate::wire::message::Failure;

/// The last bytes of each body.
const MAGIC: [u8; 8] = *b"cf-amqp\0";

/// Raised with every change of a head, of a kind of value, or of the queues.
pub(super) const VERSION: u32 = 1;

/// Length of the head, version, magic.
const TAIL: usize = 4 + 4 + 8;

/// A call that is to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TaskHead {
    /// Of the function; on the worker's list, or it is not called.
    pub(super) function: String,
    /// Of its argument and its value (`portable/shape.rs`).
    pub(super) shape: u64,
    pub(super) way: Way,
    /// Which attempt of the call it is, as its client counts; 1 for the first.
    pub(super) attempt: u32,
    /// How long it may run.
    pub(super) limit: Option<Duration>,
    /// How often a worker had it and did not come back.
    pub(super) deaths: u32,
    /// While a worker has it, it is to say so that often ([`Ended::NotYet`]).
    pub(super) tell_every: Duration,
}

impl TaskHead {
    /// Of a first attempt, without a limit.
    pub(super) fn new(named: Named, tell_every: Duration) -> Self {
        let Named { function, shape, each, fallible } = named;
        let way = Way { each, fallible };
        TaskHead { function: function.into(), shape, way, attempt: 1, limit: None, deaths: 0, tell_every }
    }
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Way {
    /// Once for each entry, not once (`portable/entries.rs`).
    pub(super) each: bool,
    /// An `Err` is an error of the call, not its value.
    pub(super) fallible: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ReplyHead {
    /// Who made it: its name, and its number there.
    pub(super) worker: String,
    pub(super) pid: u32,
    /// How many calls it makes at a time.
    pub(super) width: u32,
    /// How long the call ran.
    pub(super) took: Duration,
    pub(super) ended: Ended,
}

/// How a call ended at a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Ended {
    /// It did not: the worker still has it.
    NotYet,
    /// With the value that stands before the head.
    Value,
    /// It failed, or its argument or value did.
    Failed(Failure),
    /// A process of the worker died of it.
    Died { pid: u32, status: Option<i32>, peak_memory: Option<u64>, probable_cause: Option<String> },
    /// So many workers died of it: it is not tried again.
    Poisonous { deaths: u32 },
    /// It took longer than it may.
    TimedOut { limit: Duration },
    /// The worker has no function of that name. These it has.
    Unknown { known: Vec<String> },
    /// It has one of another shape or that is called in another way, or cannot read the message, or make the call.
    Refused { reason: String },
    /// It makes its calls in threads, and this one has a limit of time.
    Unlimited,
}

/// The status of a process, from its number.
pub(super) fn status(raw: i32) -> std::process::ExitStatus {
    std::os::unix::process::ExitStatusExt::from_raw(raw)
}

/// And its number.
pub(super) fn raw(status: std::process::ExitStatus) -> i32 {
    std::os::unix::process::ExitStatusExt::into_raw(status)
}

/// Did somebody ask it to end (SIGTERM)?
pub(super) fn was_asked_to_end(status: std::process::ExitStatus) -> bool {
    use rustix::process::Signal;
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(Signal::TERM.as_raw())
}

/// Why a body is none of ours.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("it is not a message of this library")]
    NotOurs,
    #[error(
        "it is of version {theirs} of the messages, and this program speaks version {VERSION}: build both of the same version of the library"
    )]
    Version { theirs: u32 },
    #[error("its head cannot be read: {0}")]
    Malformed(String),
}

/// Puts the head behind what is in `body`.
pub(super) fn finish(body: &mut Vec<u8>, head: &impl Serialize) {
    let start = body.len();
    postcard::to_io(head, &mut *body)
        .expect("numbers and strings always encode, and a `Vec` takes all bytes");
    let length = u32::try_from(body.len() - start).expect("a head is short");
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&VERSION.to_le_bytes());
    body.extend_from_slice(&MAGIC);
}

/// Takes the head off; what stood before it is left.
pub(super) fn open<H: for<'a> Deserialize<'a>>(body: &mut Vec<u8>) -> Result<H, BodyError> {
    let rest = body.strip_suffix(&MAGIC).ok_or(BodyError::NotOurs)?;
    let (rest, version) = rest.split_last_chunk().ok_or(BodyError::NotOurs)?;
    match u32::from_le_bytes(*version) {
        VERSION => {}
        theirs => return Err(BodyError::Version { theirs }),
    }
    let (rest, length) = rest.split_last_chunk().ok_or(BodyError::NotOurs)?;
    let length = u32::from_le_bytes(*length) as usize;
    let start = rest.len().checked_sub(length);
    let start = start.ok_or_else(|| BodyError::Malformed("it is longer than the message".into()))?;
    let head = match postcard::take_from_bytes(&rest[start..]) {
        Ok((head, [])) => head,
        Ok((_, left)) => return Err(BodyError::Malformed(format!("{} bytes are left over", left.len()))),
        Err(error) => return Err(BodyError::Malformed(error.to_string())),
    };
    body.truncate(start);
    Ok(head)
}

/// The most that a head adds to an argument of a function of that name, in bytes.
pub(super) fn overhead(function: &str) -> usize {
    // Numbers at their longest.
    TAIL + function.len() + 10 + 10 + 2 + 5 + 1 + 15 + 5 + 15
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> TaskHead {
        TaskHead {
            function: "a::function".into(),
            shape: u64::MAX,
            way: Way { each: true, fallible: true },
            attempt: u32::MAX,
            limit: Some(Duration::MAX),
            deaths: u32::MAX,
            tell_every: Duration::MAX,
        }
    }

    #[test]
    fn what_was_put_together_comes_apart() {
        let mut body = b"argument".to_vec();
        finish(&mut body, &head());
        assert!(body.len() - 8 <= overhead("a::function"));
        assert_eq!(open::<TaskHead>(&mut body), Ok(head()));
        assert_eq!(body, b"argument");
    }

    #[test]
    fn another_version_is_named() {
        let mut body = Vec::new();
        finish(&mut body, &head());
        let at = body.len() - 12;
        body[at..at + 4].copy_from_slice(&7_u32.to_le_bytes());
        assert_eq!(open::<TaskHead>(&mut body), Err(BodyError::Version { theirs: 7 }));
    }

    /// What opens is what `finish` would have written, but for numbers that were written longer than they need be.
    fn opens_or_not<H: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(body: &[u8]) {
        let mut front = body.to_vec();
        if let Ok(head) = open::<H>(&mut front) {
            let mut again = front.clone();
            finish(&mut again, &head);
            assert!(again.len() <= body.len());
            assert_eq!(open::<H>(&mut again).as_ref(), Ok(&head));
            assert_eq!(again, front);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(front: Vec<u8>) {
            opens_or_not::<TaskHead>(&front);
            opens_or_not::<ReplyHead>(&front);
        }

        #[test]
        fn no_head_does_harm(mut body: Vec<u8>, length in prop_oneof![0_u32..100, any::<u32>()]) {
            body.extend_from_slice(&length.to_le_bytes());
            body.extend_from_slice(&VERSION.to_le_bytes());
            body.extend_from_slice(&MAGIC);
            opens_or_not::<TaskHead>(&body);
            opens_or_not::<ReplyHead>(&body);
        }

        #[test]
        fn no_change_of_a_head_does_harm(front: Vec<u8>, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut body = front;
            finish(&mut body, &head());
            let at = at.index(body.len());
            body[at] = byte;
            opens_or_not::<TaskHead>(&body);
            body.truncate(cut.index(body.len()));
            opens_or_not::<TaskHead>(&body);
        }
    }
}
