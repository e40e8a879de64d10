//! Arguments, return values and batches of them. Byte 0 says of which type, the rest is the value.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::time::Duration;

use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::id::{FutureId, TaskRef};
use crate::portable::{self, Beside, Each, Entries, Function, Once, Plain, Portable, Remote};
use crate::task::{Batch, PortableJob};
use crate::wire::frame::{HEADER, Kind, Parcel};
use crate::wire::message::Failure;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(u64),
    Line((i16, i16), (i16, i16)),
    Group { name: Option<String>, parts: Vec<Shape> },
}

/// One level a byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

/// Nothing of it travels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Marker {
    #[serde(skip)]
    cache: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Even(Box<str>, #[serde(serialize_with = "even")] u32);

fn even<S: Serializer>(n: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    if n.is_multiple_of(2) { serializer.serialize_u32(*n) } else { Err(S::Error::custom("it is odd")) }
}

type Numbers = (u8, i8, u16, i16, u32, i32, u64, i64, u128, i128, (bool, usize, isize));
type Nested = Vec<Vec<Option<Result<String, Duration>>>>;
type Maps = (HashMap<String, Vec<u64>>, BTreeMap<u16, (i32, Option<String>)>);
type Empty = (Vec<()>, Vec<Vec<Marker>>, HashMap<(), u8>);

/// What decodes, encodes to something that decodes to the same; no part of it passes for the whole,
/// nor does it with more behind it; postcard reads the same out of it, if it would ever end.
/// A call with such an argument is served, or is told that it does not decode.
pub fn arguments(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind {
        0 => value::<Numbers>(bytes, true),
        1 => {
            value::<(Vec<u8>,)>(bytes, true);
            bulk(bytes);
        }
        2 => value::<Nested>(bytes, true),
        3 => value::<Maps>(bytes, true),
        // postcard goes down as far as they lead, and a test has two MiB of stack.
        4 => value::<Shape>(bytes, bytes.len() < 500),
        5 => value::<Tree>(bytes, bytes.len() < 500),
        6 => value::<Box<Option<Tree>>>(bytes, bytes.len() < 500),
        7 => value::<Vec<Box<str>>>(bytes, true),
        // postcard counts to 2^64.
        8 => value::<Empty>(bytes, false),
        // postcard takes what follows the first character for a part of it.
        9 => value::<Vec<char>>(bytes, false),
        10 => floats(bytes),
        11 => entries(bytes),
        12 => served(bytes, |numbers: Vec<u32>| numbers.iter().fold(0_u32, |sum, n| sum.wrapping_add(*n))),
        13 => served(bytes, |shape: Shape| shape),
        // Panics, and is told so.
        14 => served(bytes, |(n, text): (i32, String)| 100 / n + text.len() as i32),
        // Cannot be encoded, and it shows when a part of it has been.
        15 => served(bytes, |n: u32| Even("a number".into(), n)),
        _ => {}
    }
}

fn decode<T: Portable>(bytes: &[u8]) -> Result<T, Failure> {
    portable::decode(bytes, "argument").inspect_err(|failure| {
        let Failure::Undecodable { what, reason } = failure else { panic!("{failure:?}") };
        assert!(what == "argument" && reason.starts_with('`'), "{what}: {reason}");
    })
}

fn encode<T: Portable>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    portable::encode(value, &mut bytes, "argument").expect("what was decoded");
    bytes
}

fn value<T: Portable + PartialEq + Debug>(bytes: &[u8], as_postcard: bool) {
    let ours = decode::<T>(bytes);
    if as_postcard {
        let theirs = match postcard::take_from_bytes::<T>(bytes) {
            Ok((value, [])) => Some(value),
            _ => None,
        };
        assert_eq!(ours.as_ref().ok(), theirs.as_ref());
    }
    let Ok(value) = ours else { return };
    assert_eq!(decode::<T>(&encode(&value)).expect("what we wrote"), value);
    alone::<T>(bytes);
}

/// What is nothing but its bytes is read out of as many as there are, in any place, and keeps them.
fn bulk(bytes: &[u8]) {
    fn same<T: Portable>(bytes: &[u8], is_value: bool) {
        for before in 0..2 {
            let shifted = [&[0; 2][..before], bytes].concat();
            let value = decode::<T>(&shifted[before..]);
            assert_eq!(value.is_ok(), is_value);
            assert!(value.is_err() || encode(&value.expect("it is one")) == bytes);
        }
        let mut value = match portable::unpack::<T>(&mut bytes.to_vec(), "argument") {
            Ok(value) => value,
            Err(failure) => return assert!(!is_value && matches!(failure, Failure::Undecodable { .. })),
        };
        let mut parcel = Parcel::begin(Kind::Returned, 1);
        portable::pack(&mut value, &mut parcel, "argument").expect("what was decoded");
        assert!(parcel.pieces().concat()[HEADER..] == *bytes);
    }
    same::<Vec<u8>>(bytes, true);
    same::<String>(bytes, std::str::from_utf8(bytes).is_ok());
    same::<Vec<i16>>(bytes, bytes.len().is_multiple_of(2));
    same::<Vec<f64>>(bytes, bytes.len().is_multiple_of(8));
}

fn floats(bytes: &[u8]) {
    type Floats = (f32, f64, Vec<f64>);
    let Ok(value) = decode::<Floats>(bytes) else { return };
    // Not every float is equal to itself, but its bytes are.
    let encoded = encode(&value);
    assert_eq!(encode(&decode::<Floats>(&encoded).expect("what we wrote")), encoded);
    assert_eq!(encode(&postcard::from_bytes::<Floats>(bytes).expect("as ours")), encoded);
    alone::<Floats>(bytes);
}

/// Nothing shorter and nothing longer is a value.
fn alone<T: Portable>(bytes: &[u8]) {
    for cut in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        assert!(cut == bytes.len() || decode::<T>(&bytes[..cut]).is_err(), "{cut} bytes are enough");
    }
    assert!(decode::<T>(&[bytes, &[0]].concat()).is_err(), "one byte more is none too many");
}

fn entries(bytes: &[u8]) {
    let (mut again, mut failed, mut malformed) = (Vec::new(), false, false);
    let entries: Vec<_> = Entries(bytes).collect();
    assert!(entries.len() <= bytes.len());
    for entry in entries {
        assert!(!malformed, "it went on out of step");
        match entry {
            Ok(Ok(value)) => portable::put_entry(&mut again, |out| {
                out.extend_from_slice(value);
                Ok(())
            }),
            Ok(Err(failure)) => {
                failed = true;
                portable::put_entry(&mut again, |_| Err(failure));
            }
            Err(_) => malformed = true,
        }
    }
    // It may have been written in a longer form than ours, a value too. What comes of it is the same.
    assert!(failed || again.len() <= bytes.len());
    let once: Vec<_> = Entries(bytes).take_while(Result::is_ok).collect();
    assert_eq!(Entries(&again).collect::<Vec<_>>(), once);
    reply_of_a_batch(|(): ()| Shape::Point, bytes);
    reply_of_a_batch(|n: u64| n, bytes);
}

/// What the host makes of what a worker returned for a chunk.
fn reply_of_a_batch<F, A, R>(_: F, reply: &[u8])
where
    F: Fn(A) -> R + Copy + Send + 'static,
    A: Portable,
    R: Portable,
{
    let task = TaskRef { name: "a batch", id: FutureId::next() };
    match <Batch<Plain<F, A, R>> as PortableJob>::decode(&mut reply.to_vec(), task) {
        Ok(outcomes) => {
            assert!(outcomes.len() <= reply.len());
            let errors = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
            errors.for_each(|error| assert_eq!(error.task(), Some(task), "it tells of another call"));
        }
        Err(failure) => assert!(matches!(failure, Failure::Undecodable { .. })),
    }
}

/// What a worker answers to such a call, and to a batch of two of them.
fn served<F, A, R>(bytes: &[u8], function: F)
where
    F: Fn(A) -> R + Copy + Send + 'static,
    A: Portable,
    R: Portable + PartialEq + Debug,
{
    // The fuzzer's own hook ends the process at each panic that it hears of.
    #[cfg(fuzzing)]
    crate::outcome::quieten();
    let plain = Plain::<F, A, R>::new(function);
    let (outcome, reply) = reply_of(Once(plain), bytes);
    match (&outcome, decode::<A>(bytes)) {
        (Ok(()), Ok(argument)) => {
            let value =
                plain.call(argument).unwrap_or_else(|_| unreachable!("a plain function raises nothing"));
            assert_eq!(decode::<R>(&reply).expect("what we wrote"), value);
        }
        (Err(Failure::Panicked { message, location, .. }), Ok(_)) => {
            assert!(!message.is_empty() && location.is_some());
        }
        (Err(Failure::Unencodable { what, .. }), Ok(_)) => assert_eq!(what, "return value"),
        (Err(Failure::Undecodable { what, .. }), Err(_)) => assert_eq!(what, "argument"),
        (outcome, argument) => panic!("{outcome:?}, and the argument decoded: {}", argument.is_ok()),
    }

    let mut batch = Vec::new();
    for _ in 0..2 {
        portable::put_entry(&mut batch, |out| {
            out.extend_from_slice(bytes);
            Ok(())
        });
    }
    let (outcomes, replies) = reply_of(Each(plain), &batch);
    outcomes.expect("entries");
    let expected = untraced(outcome.map(|()| &reply[..]));
    let entries: Vec<_> = Entries(&replies).map(|entry| entry.map(untraced)).collect();
    assert_eq!(entries, [Ok(expected.clone()), Ok(expected)], "one entry, one outcome");
    // As entries they may be anything.
    let _ = reply_of(Each(plain), bytes);
}

fn reply_of(function: impl Remote, bytes: &[u8]) -> (Result<(), Failure>, Vec<u8>) {
    let mut reply = Parcel::begin(Kind::Returned, 1);
    let outcome = function.serve(&mut bytes.to_vec(), &mut reply, &mut Beside::default());
    (outcome, reply.pieces().concat().split_off(HEADER))
}

/// A backtrace tells where it was called from too.
fn untraced(mut outcome: Result<&[u8], Failure>) -> Result<&[u8], Failure> {
    if let Err(Failure::Panicked { backtrace, .. }) = &mut outcome {
        *backtrace = None;
    }
    outcome
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    fn seed<T: Portable>(kind: u8, value: &T) -> Vec<u8> {
        [&[kind][..], &encode(value)].concat()
    }
    fn batch(tags: &[u8]) -> Vec<u8> {
        let mut bytes = vec![11];
        for tag in tags {
            portable::put_entry(&mut bytes, |out| match tag {
                0 => portable::encode(&7_u64, out, "argument"),
                _ => Err(Failure::UnknownFunction { reason: "?".into() }),
            });
        }
        bytes
    }
    let text = String::from;
    let numbers = |n: i128| -> Numbers {
        let last = (n < 0, n as usize, n as isize);
        let (small, large) =
            ((n as u8, n as i8, n as u16, n as i16), (n as u32, n as i32, n as u64, n as i64));
        (small.0, small.1, small.2, small.3, large.0, large.1, large.2, large.3, n as u128, n, last)
    };
    let shape = Shape::Group {
        name: Some(text("all")),
        parts: vec![Shape::Point, Shape::Circle(300), Shape::Line((-1, 2), (i16::MIN, i16::MAX))],
    };
    let nested = vec![vec![], vec![None, Some(Ok(text("ä"))), Some(Err(Duration::new(3, 5)))]];
    let maps: Maps = (
        [(text("a"), vec![1, 1 << 40]), (text("b"), vec![])].into(),
        [(7, (-8, None)), (9, (10, Some(text("c"))))].into(),
    );
    let empty: Empty = (vec![(); 3], vec![vec![Marker::default(); 2]], [((), 1)].into());
    let deep = |levels| [&[5][..], &vec![1; levels], &[0]].concat();
    vec![
        seed(0, &numbers(-1)),
        seed(0, &numbers(5)),
        seed(0, &numbers(i128::from_le_bytes([0x80; 16]))),
        seed(1, &(vec![1_u8, 2, 255],)),
        seed(1, &vec![f64::NAN, 1e300]),
        seed(1, &text("text, long enough to be taken for one")),
        seed(2, &nested),
        seed(3, &maps),
        seed(4, &shape),
        deep(100),
        [&[6, 1][..], &deep(3)[1..]].concat(),
        seed(7, &vec![text(""), text("text")]),
        seed(8, &empty),
        // Two to the power of 64, less one, in ten bytes: of nothing, and of something.
        [&[8][..], &[0xff; 9], &[1, 0, 0, 0]].concat(),
        [&[2][..], &[0xff; 9], &[1, 0, 0, 0]].concat(),
        [&[3][..], &[0xff; 9], &[1, 0, 0, 0]].concat(),
        [&[1][..], &[0xff; 9], &[1, 0, 0, 0]].concat(),
        seed(9, &vec!['a', 'ä', '😀']),
        seed(10, &(f32::NAN, -0.0_f64, vec![f64::INFINITY, 1.5])),
        batch(&[0]),
        batch(&[1, 0, 1]),
        // A value that is not there to its end, short and long; one in a longer form than need be.
        [&batch(&[0]), &[2, 0][..]].concat(),
        [&batch(&[0]), &[254, 3][..], &[0; 9]].concat(),
        [&batch(&[0]), &[254, 2][..], &[0; 9], &batch(&[1, 0])[1..]].concat(),
        seed(12, &vec![1_u32, 2, 3]),
        seed(13, &shape),
        seed(14, &(7, text("abc"))),
        seed(14, &(0, text("divides"))),
        seed(15, &6_u32),
        seed(15, &7_u32),
    ]
}
