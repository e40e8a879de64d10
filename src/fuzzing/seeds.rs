//! Where the fuzzer begins: what an honest other side sends, and the lies that come to mind.
//!
//! `tests/fuzz/src/bin/seeds.rs` writes them into the corpora.

use super::arguments;
use crate::wire::frame::{self, Kind, Parcel};
use crate::wire::message::{Failure, FunctionRef, Hello, RemoteCause, Terms, end_call};

/// The seeds of a target.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frames" => frames(),
        "messages" => messages(),
        "references" => references(),
        "arguments" => arguments::seeds(),
        _ => Vec::new(),
    }
}

fn announcing(length: u64, kind: u8) -> Vec<u8> {
    [&length.to_le_bytes()[..], &[kind], &[7; 8]].concat()
}

fn hello() -> Hello {
    Hello { identity: u128::MAX - 5, pid: 4711 }
}

fn failures() -> Vec<Failure> {
    let text = String::from;
    let raised = |sources| {
        Failure::Raised(RemoteCause {
            type_name: text("io::Error"),
            message: text("no"),
            sources: vec![text("why"); sources],
        })
    };
    vec![
        Failure::Panicked { message: text("oh"), location: Some(text("a.rs:3:5")), backtrace: None },
        Failure::Panicked { message: text(""), location: None, backtrace: Some(text("0: main")) },
        raised(0),
        raised(RemoteCause::MAX_SOURCES + 1),
        Failure::Undecodable { what: text("argument"), reason: text("end") },
        Failure::Unencodable { what: text("return value"), reason: text("ä") },
        Failure::UnknownFunction { reason: text("?") },
        Failure::Refused { reason: text("another build") },
    ]
}

fn call() -> Vec<u8> {
    let mut call = Parcel::begin(Kind::Call, 5);
    call.bytes.extend_from_slice(b"argument");
    end_call(&mut call, FunctionRef { offset: -64, types: u64::MAX - 1 });
    call.bytes
}

fn frames() -> Vec<Vec<u8>> {
    let conversation = [
        hello().encode(),
        call(),
        frame::whole(Kind::Returned, 5, b"value"),
        failures()[0].encode(Kind::Failed, 6),
        frame::whole(Kind::Bye, 0, b""),
    ]
    .concat();
    let each = (1..=8).map(|kind| announcing(0, kind)).collect::<Vec<_>>().concat();
    let lies = [u64::MAX, 1 << 63, isize::MAX as u64, (1 << 36) + 1, 1 << 36, 5 << 20, 101];
    let large = announcing(2 << 20, Kind::Returned as u8);
    let mut seeds = vec![
        [&[0, 0, 255, 255, 0, 0][..], &conversation].concat(),
        [&[0, 0, 1, 0, 40, 0][..], &conversation].concat(),
        [&[3, 0, 17, 5, 200, 0][..], &conversation].concat(),
        [&[0, 0, 255, 255, 17, 0][..], &each].concat(),
        [&[0, 0xff, 255, 200, 17, 0][..], &large].concat(),
        [&[4, 0xfe, 255, 255, 17, 0][..], &large].concat(),
    ];
    for (n, length) in (0..).zip(lies) {
        let lie = announcing(length, Kind::Returned as u8);
        seeds.push([&[n, 0xff * (n & 1), 255, 255, 17, 0][..], &lie, b"payload"].concat());
    }
    seeds
}

fn messages() -> Vec<Vec<u8>> {
    let payload = |frame: Vec<u8>| frame[frame::HEADER..].to_vec();
    let mut other_version = payload(hello().encode());
    other_version[8] += 1;
    let failures = failures().into_iter().map(|failure| payload(failure.encode(Kind::Failed, 1)));
    let terms = Terms {
        memory_limit: Some(1 << 30),
        uid: Some(65534),
        groups: Some(vec![1, 2, 300]),
        ..Terms::default()
    };
    let terms = [Terms::default(), terms].map(|terms| payload(terms.encode(&hello())));
    let others = [payload(hello().encode()), other_version, payload(call())];
    others.into_iter().chain(terms).chain(failures).collect()
}

fn references() -> Vec<Vec<u8>> {
    let reference = |place: u8, types: u8, distance: i64, other: u64| {
        [&[place, types][..], &distance.to_le_bytes(), &other.to_le_bytes()].concat()
    };
    let mut seeds = Vec::new();
    for place in 0..3 {
        seeds.extend((0..4).map(|types| reference(place, types, 0, 1)));
        seeds.extend([-2, -1, 1, 2].map(|distance| reference(place | 0x80, place, distance, 0)));
        seeds.push(reference(place, place, 1, 0));
    }
    seeds.extend([0, 1, i64::MAX, i64::MIN, -(1 << 47)].map(|distance| reference(0x7f, 0, distance, 0)));
    seeds
}
