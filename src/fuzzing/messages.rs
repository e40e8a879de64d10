//! The payloads of Hello (of a worker, and of a host with its terms), Refusal, Failed, Call: the whole input is one of them.

use std::error::Error as _;

use crate::id::{FutureId, TaskRef};
use crate::outcome;
use crate::wire::frame::{HEADER, Kind, Parcel, WireError};
use crate::wire::message::{Failure, Hello, RemoteCause, Terms, decode_call, end_call, set_attempt};

/// What decodes, encodes to something that decodes to the same; no part of it passes for the whole,
/// nor does it with more behind it; and it takes the memory that the rule of `message.rs` gives it.
pub fn messages(data: &[u8]) {
    check(data, Hello::decode, Hello::encode);
    check(data, Terms::decode, |(host, terms)| terms.encode(host));
    let as_frame_of =
        |kind| check(data, |payload| Failure::decode(kind, payload), |failure| failure.encode(kind, 1));
    let refusal = as_frame_of(Kind::Refusal);
    assert!(refusal.is_none_or(|refusal| matches!(refusal, Failure::Refused { .. })));
    if let Some(failure) = as_frame_of(Kind::Failed) {
        let memory = held(&failure);
        assert!(memory <= data.len() + 4096, "{memory} bytes for {}", data.len());
        let task = TaskRef { name: "a task", id: FutureId::next() };
        let error = outcome::arrived(task, failure);
        assert_eq!(error.task(), Some(task), "it says which call it ended");
        assert!(!error.to_string().is_empty() && !format!("{error:?}").is_empty());
        let chain = std::iter::successors(error.source(), |error| (*error).source());
        assert!(chain.count() <= 1 + RemoteCause::MAX_SOURCES);
    }
    match decode_call(data) {
        Ok((function, attempt, argument)) => {
            let mut again = Parcel::begin(Kind::Call, 1);
            again.bytes.extend_from_slice(argument);
            end_call(&mut again, function);
            set_attempt(&mut again, attempt);
            assert_eq!(&again.bytes[HEADER..], data);
        }
        Err(WireError::Malformed { kind: Kind::Call, .. }) => assert!(data.len() < 20),
        Err(other) => panic!("{other:?}"),
    }
}

fn check<M: PartialEq + std::fmt::Debug>(
    data: &[u8],
    decode: impl Fn(&[u8]) -> Result<M, WireError>,
    encode: impl Fn(&M) -> Vec<u8>,
) -> Option<M> {
    let refused = |payload: &[u8]| match decode(payload) {
        Err(WireError::Malformed { .. } | WireError::NotOurs | WireError::Version { .. }) => {}
        other => panic!("{payload:?} gave {other:?}"),
    };
    let Ok(message) = decode(data) else {
        refused(data);
        return None;
    };
    let encoded = encode(&message);
    assert_eq!(decode(&encoded[HEADER..]).expect("what we wrote"), message);
    (0..data.len()).for_each(|cut| refused(&data[..cut]));
    refused(&[data, &[0]].concat());
    Some(message)
}

/// Memory beside the failure itself.
fn held(failure: &Failure) -> usize {
    let some = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
    match failure {
        Failure::Panicked { message, location, backtrace } => {
            message.capacity() + some(location) + some(backtrace)
        }
        Failure::Raised(RemoteCause { type_name, message, sources }) => {
            let texts: usize = sources.iter().map(String::capacity).sum();
            type_name.capacity() + message.capacity() + texts + sources.capacity() * size_of::<String>()
        }
        Failure::Undecodable { what, reason } | Failure::Unencodable { what, reason } => {
            what.capacity() + reason.capacity()
        }
        Failure::UnknownFunction { reason } | Failure::Refused { reason } => reason.capacity(),
    }
}
