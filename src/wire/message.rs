//! Messages: what the payload of a frame means.
//!
//! ```text
//! Hello of a worker    magic 8 bytes · version u32 · Hello in postcard
//! Hello of a host      magic 8 bytes · version u32 · Hello, Terms in postcard
//! Refusal, Failed      Failure in postcard
//! Initialise, Call     the argument · offset i64 · types u64 · attempt u32
//! Returned             the value
//! Bye, Bell            nothing
//! Progress             done u64 · total u64
//! Ask, Answer          Ask, Told in postcard (`sync/served.rs`) · an item
//! Event                Record in postcard (`spans/record.rs`)
//! ```
//!
//! `InitialiseWith`, `CallWith` and `ReturnedWith` are the same as without: what is enclosed goes beside the frames, and a
//! value says by a number which of it is meant (`enclosed.rs`).
//!
//! Arguments and values are bytes here: the task that owns them encodes and
//! decodes them, so a type that misbehaves can harm its own task only.
//!
//! The rule: one way in and one way out for each message. Decoding takes the whole
//! payload or fails; it never panics, never recurses along the data, and takes
//! no more memory than the payload did (and a few KiB).

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::frame::{self, Kind, Parcel, WireError};

/// The first bytes that each side says. They, the version behind them and the
/// header of a frame are the same in every version of the protocol.
pub(crate) const MAGIC: [u8; 8] = *b"cf-wire\0";

/// Raised with every change of what follows the version in a hello, of the kinds,
/// or of a payload.
pub(crate) const VERSION: u32 = 7;

/// The longest message, in bytes, where the user sets no other limit: 64 GiB. What is announced
/// is not allocated before it arrives.
pub(crate) const LONGEST: u64 = 1 << 36;

/// The longest Hello of a host, in bytes; [`Terms`] at their largest have room in it.
pub(crate) const LONGEST_TERMS: u64 = 4096;

/// Who is speaking: the first frame in both directions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Of the binary: two sides with the same one have their functions at the same places.
    pub(crate) identity: u128,
    pub(crate) pid: u32,
}

impl Hello {
    /// A whole frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        greeting(self)
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Hello, WireError> {
        greeted(payload)
    }
}

/// On what terms a worker works. The host says it with its Hello; what the worker does before it
/// answers (`process/terms.rs`) it does on these terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// The longest payload of a frame, in both directions.
    pub(crate) max_message_bytes: u64,
    /// Bytes that the worker may allocate.
    pub(crate) memory_limit: Option<u64>,
    /// Whom the worker is to become. What is not given stays the host's.
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
}

impl Terms {
    /// As many have room in [`LONGEST_TERMS`], and none needs more: the kernel knows 65,536.
    pub(crate) const MAX_GROUPS: usize = 512;

    /// A whole frame: the Hello of a host.
    pub(crate) fn encode(&self, host: &Hello) -> Vec<u8> {
        greeting(&(host, self))
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<(Hello, Terms), WireError> {
        greeted(payload)
    }
}

impl Default for Terms {
    fn default() -> Self {
        Terms { max_message_bytes: LONGEST, memory_limit: None, uid: None, gid: None, groups: None }
    }
}

/// The frame of a Hello.
fn greeting(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let start = frame::begin(&mut bytes, Kind::Hello, 0);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    append(message, &mut bytes);
    frame::end(&mut bytes, start);
    bytes
}

fn greeted<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, WireError> {
    let rest = payload.strip_prefix(&MAGIC).ok_or(WireError::NotOurs)?;
    let Some((version, rest)) = rest.split_first_chunk() else {
        return Err(malformed(Kind::Hello, "it ends inside the version"));
    };
    // The version comes first: what follows it may be of another shape.
    match u32::from_le_bytes(*version) {
        VERSION => whole(Kind::Hello, rest),
        theirs => Err(WireError::Version { ours: VERSION, theirs }),
    }
}

/// Where a function is: how far its descriptor lies from the anchor of the binary,
/// and a hash of its types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FunctionRef {
    pub(crate) offset: i64,
    pub(crate) types: u64,
}

/// Ends a [`Kind::Call`] or [`Kind::Initialise`] that was begun and has its argument: the first attempt
/// of it. What is said of the argument stands behind it, so that the argument has the start of the payload's
/// memory, and can have all of it.
pub(crate) fn end_call(call: &mut Parcel, function: FunctionRef) {
    call.bytes.extend_from_slice(&function.offset.to_le_bytes());
    call.bytes.extend_from_slice(&function.types.to_le_bytes());
    call.bytes.extend_from_slice(&1_u32.to_le_bytes());
    call.end();
}

/// What tells the function of a call from others, out of its frame.
pub(crate) fn function_in(call: &Parcel) -> Option<i64> {
    let (_, function) = call.bytes.split_last_chunk::<{ 8 + 8 + 4 }>()?;
    function.first_chunk().map(|offset| i64::from_le_bytes(*offset))
}

/// Makes the frame of a call that of its attempt `number`.
pub(crate) fn set_attempt(call: &mut Parcel, number: u32) {
    if let Some(attempt) = call.bytes.last_chunk_mut() {
        *attempt = number.to_le_bytes();
    }
}

/// The function of a call, the number of the attempt, and the argument, still encoded.
pub(crate) fn decode_call(payload: &[u8]) -> Result<(FunctionRef, u32, &[u8]), WireError> {
    let ends_early = || malformed(Kind::Call, "it ends inside the function");
    let (rest, attempt) = payload.split_last_chunk().ok_or_else(ends_early)?;
    let (rest, types) = rest.split_last_chunk().ok_or_else(ends_early)?;
    let (argument, offset) = rest.split_last_chunk().ok_or_else(ends_early)?;
    let function = FunctionRef { offset: i64::from_le_bytes(*offset), types: u64::from_le_bytes(*types) };
    Ok((function, u32::from_le_bytes(*attempt), argument))
}

/// Why there is no value, as it crosses the wall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The function panicked.
    Panicked { message: String, location: Option<String>, backtrace: Option<String> },
    /// The function returned an error.
    Raised(RemoteCause),
    /// The argument did not decode.
    Undecodable { what: String, reason: String },
    /// The value did not encode.
    Unencodable { what: String, reason: String },
    /// No such function on this side.
    UnknownFunction { reason: String },
    /// The hello does not fit.
    Refused { reason: String },
}

impl Failure {
    /// A whole frame, [`Kind::Failed`] or [`Kind::Refusal`].
    pub(crate) fn encode(&self, kind: Kind, id: u64) -> Vec<u8> {
        self.parcel(kind, id).bytes
    }

    /// The same, as what is posted.
    pub(crate) fn parcel(&self, kind: Kind, id: u64) -> Parcel {
        let mut parcel = Parcel::begin(kind, id);
        append(self, &mut parcel.bytes);
        parcel.end();
        parcel
    }

    /// Of a frame of that kind. A refusal is about a whole worker: no call can end with one.
    pub(crate) fn decode(kind: Kind, payload: &[u8]) -> Result<Failure, WireError> {
        let failure = whole(kind, payload)?;
        match (kind, matches!(failure, Failure::Refused { .. })) {
            (Kind::Refusal, true) | (Kind::Failed, false) => Ok(failure),
            _ => Err(malformed(kind, "it tells of something else")),
        }
    }
}

/// An error as text. Its chain of sources is flat: nested, the sender would decide
/// how deep our stack goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RemoteCause {
    pub(crate) type_name: String,
    pub(crate) message: String,
    /// The messages of the sources, nearest first; at most [`RemoteCause::MAX_SOURCES`] arrive.
    #[serde(deserialize_with = "first_sources")]
    pub(crate) sources: Vec<String>,
}

impl RemoteCause {
    /// Longer chains are cut on arrival. An empty string is one byte on the wire and
    /// 24 in memory: without a bound a sender takes 24 times what it sends.
    pub(crate) const MAX_SOURCES: usize = 64;
}

fn first_sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Sources;

    impl<'de> Visitor<'de> for Sources {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the messages of a chain of errors")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut sources = Vec::new();
            // Borrowed, so that what lies beyond the bound is read but never copied.
            while let Some(source) = seq.next_element::<&str>()? {
                if sources.len() < RemoteCause::MAX_SOURCES {
                    sources.push(source.to_owned());
                }
            }
            Ok(sources)
        }
    }

    deserializer.deserialize_seq(Sources)
}

/// Appends a message of ours, none of which has a way to fail: they are numbers and
/// strings of known length, and a `Vec` takes all bytes.
fn append(message: &impl Serialize, bytes: &mut Vec<u8>) {
    postcard::to_io(message, bytes).expect("numbers and strings always encode");
}

/// The frame of a message behind which so many bytes follow; without them.
pub(crate) fn encode_with_rest(kind: Kind, id: u64, message: &impl Serialize, rest: usize) -> Vec<u8> {
    let mut parcel = Parcel::begin(kind, id);
    append(message, &mut parcel.bytes);
    parcel.end_before(rest);
    parcel.bytes
}

/// Decodes a message behind which others follow.
pub(crate) fn decode_with_rest<'a, T: Deserialize<'a>>(
    kind: Kind,
    payload: &'a [u8],
) -> Result<(T, &'a [u8]), WireError> {
    postcard::take_from_bytes(payload).map_err(|error| malformed(kind, error.to_string()))
}

/// Decodes a message that must fill `bytes` to the last one.
fn whole<'a, T: Deserialize<'a>>(kind: Kind, bytes: &'a [u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(malformed(kind, format!("bytes left over at its end: {}", rest.len()))),
        Err(error) => Err(malformed(kind, error.to_string())),
    }
}

fn malformed(kind: Kind, reason: impl Into<String>) -> WireError {
    WireError::Malformed { kind, reason: reason.into() }
}
