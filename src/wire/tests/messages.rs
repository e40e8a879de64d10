//! Messages: each arrives as it was sent, and nothing else passes for one.

use super::super::frame::{Frame, HEADER, Kind, Parcel, WireError};
use super::super::message::{
    self, Failure, FunctionRef, Hello, LONGEST_TERMS, MAGIC, RemoteCause, Terms, VERSION,
};
use super::{LIMIT, MIB, hello};

/// None is longer.
fn longest_terms() -> Terms {
    Terms {
        max_message_bytes: u64::MAX,
        memory_limit: Some(u64::MAX),
        uid: Some(u32::MAX),
        gid: Some(u32::MAX),
        groups: Some(vec![u32::MAX; Terms::MAX_GROUPS]),
    }
}

fn raised(sources: usize) -> Failure {
    Failure::Raised(RemoteCause {
        type_name: "std::io::Error".into(),
        message: "no such file: \"ä\"".into(),
        sources: (0..sources).map(|n| format!("because of {n}")).collect(),
    })
}

fn failures() -> Vec<Failure> {
    let text = String::from;
    vec![
        Failure::Panicked {
            message: text("index out of bounds"),
            location: Some(text("src/main.rs:3:5")),
            backtrace: None,
        },
        Failure::Panicked { message: String::new(), location: None, backtrace: Some(text("0: main")) },
        raised(0),
        raised(3),
        Failure::Undecodable { what: text("argument"), reason: text("end of input") },
        Failure::Unencodable { what: text("argument"), reason: text("no") },
        Failure::UnknownFunction { reason: text("?") },
        Failure::Refused { reason: text("another binary") },
    ]
}

#[test]
fn every_message_arrives_as_it_was_sent() {
    let frame = Frame::read(&mut &hello().encode()[..], LIMIT).unwrap().unwrap();
    assert_eq!((frame.kind, frame.id), (Kind::Hello, 0));
    assert_eq!(Hello::decode(&frame.payload).unwrap(), hello());

    for terms in [Terms::default(), longest_terms()] {
        let host = Hello { identity: u128::MAX, pid: u32::MAX };
        let frame = Frame::read(&mut &terms.encode(&host)[..], LONGEST_TERMS).unwrap().unwrap();
        assert_eq!((frame.kind, frame.id), (Kind::Hello, 0));
        assert_eq!(Terms::decode(&frame.payload).unwrap(), (host, terms));
    }

    for failure in failures() {
        let is_refusal = matches!(failure, Failure::Refused { .. });
        let [kind, other] =
            if is_refusal { [Kind::Refusal, Kind::Failed] } else { [Kind::Failed, Kind::Refusal] };
        let bytes = failure.encode(kind, 8);
        let frame = Frame::read(&mut &bytes[..], LIMIT).unwrap().unwrap();
        assert_eq!((frame.kind, frame.id), (kind, 8));
        assert_eq!(Failure::decode(kind, &frame.payload).unwrap(), failure);
        // A call cannot be answered with a refusal, nor a hello with the end of a call.
        assert!(matches!(Failure::decode(other, &frame.payload), Err(WireError::Malformed { .. })));
    }

    let function = FunctionRef { offset: -12, types: u64::MAX - 1 };
    for kind in [Kind::Call, Kind::Initialise] {
        let mut parcel = Parcel::begin(kind, 5);
        parcel.bytes.extend_from_slice(b"argument");
        message::end_call(&mut parcel, function);
        for number in [1, 7] {
            if number > 1 {
                message::set_attempt(&mut parcel, number);
            }
            let frame = Frame::read(&mut &parcel.bytes[..], LIMIT).unwrap().unwrap();
            assert_eq!((frame.kind, frame.id), (kind, 5));
            let call = message::decode_call(&frame.payload).unwrap();
            assert_eq!(call, (function, number, &b"argument"[..]));
        }
    }
}

#[test]
fn a_message_that_was_cut_or_lengthened_is_malformed() {
    let hello = &hello().encode()[HEADER..];
    for cut in 0..hello.len() {
        match Hello::decode(&hello[..cut]) {
            Err(WireError::NotOurs) if cut < MAGIC.len() => {}
            Err(WireError::Malformed { kind: Kind::Hello, .. }) if cut >= MAGIC.len() => {}
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    let error = Hello::decode(&[hello, &[0]].concat()).unwrap_err();
    assert_eq!(error.to_string(), "a Hello frame is malformed: bytes left over at its end: 1");

    // A worker's Hello is no host's, nor the other way round.
    assert!(matches!(Terms::decode(hello), Err(WireError::Malformed { kind: Kind::Hello, .. })));
    let terms = &longest_terms().encode(&super::hello())[HEADER..];
    assert!(matches!(Hello::decode(terms), Err(WireError::Malformed { kind: Kind::Hello, .. })));
    for cut in MAGIC.len()..terms.len() {
        assert!(matches!(Terms::decode(&terms[..cut]), Err(WireError::Malformed { kind: Kind::Hello, .. })));
    }

    for failure in failures() {
        let bytes = &failure.encode(Kind::Failed, 8)[HEADER..];
        let malformed = |bytes: &[u8]| {
            let decoded = Failure::decode(Kind::Failed, bytes);
            matches!(decoded, Err(WireError::Malformed { kind: Kind::Failed, .. }))
        };
        assert!((0..bytes.len()).all(|cut| malformed(&bytes[..cut])));
        assert!(malformed(&[bytes, &[0]].concat()));
    }

    for cut in 0..20 {
        let decoded = message::decode_call(&[0; 20][..cut]);
        assert!(matches!(decoded, Err(WireError::Malformed { .. })));
    }
    assert!(message::decode_call(&[0; 20]).is_ok());
}

#[test]
fn a_stranger_and_another_version_are_told_apart() {
    let strange = Hello::decode(b"HTTP/1.1 400 Bad Request").unwrap_err();
    assert_eq!(strange.to_string(), "the other side is not a worker or host of this crate");

    // Whatever another version puts behind its number, the number is what is reported.
    let newer = [&MAGIC[..], &9_u32.to_le_bytes(), b"\xff\xff of another shape"].concat();
    let error = Hello::decode(&newer).unwrap_err();
    assert!(matches!(error, WireError::Version { ours: VERSION, theirs: 9 }));
    assert_eq!(error.to_string(), "the other side speaks version 9 of the protocol, this side version 7");
}

/// `Failure::Raised` with empty strings, up to and with the announced number of sources.
fn raised_announcing(sources: u64) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0];
    bytes.extend(postcard::to_stdvec(&sources).unwrap());
    bytes
}

#[test]
fn announced_numbers_of_items_take_no_memory() {
    // Believed, the larger ones would abort the test: there is not that much memory.
    for power in 0..64 {
        let decoded = Failure::decode(Kind::Failed, &raised_announcing(1 << power));
        assert!(matches!(decoded, Err(WireError::Malformed { .. })));
        let mut text = vec![3]; // Unencodable, then the length of its reason
        text.extend(postcard::to_stdvec(&(1_u64 << power)).unwrap());
        let decoded = Failure::decode(Kind::Failed, &text);
        assert!(matches!(decoded, Err(WireError::Malformed { .. })));
    }
}

#[test]
fn a_chain_of_errors_is_cut_and_not_multiplied() {
    let mut bytes = raised_announcing(MIB as u64);
    bytes.resize(bytes.len() + MIB, 0); // as many empty strings
    let Failure::Raised(cause) = Failure::decode(Kind::Failed, &bytes).unwrap() else {
        panic!("another failure");
    };
    assert_eq!(cause.sources.len(), RemoteCause::MAX_SOURCES);
    assert!(cause.sources.capacity() <= 2 * RemoteCause::MAX_SOURCES);
}
