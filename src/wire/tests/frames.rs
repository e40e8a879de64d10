//! Frames: their layout, their ends, reads of any size, and lengths that lie.

use std::io::{self, ErrorKind, Read};

use super::super::frame::{self, Frame, HEADER, Kind, Source, WireError, whole};
use super::{KINDS, LIMIT, MIB, Pieces, announcing, read_all};

#[test]
fn a_frame_has_the_layout_of_the_diagram() {
    let bytes = whole(Kind::Call, 0x0102_0304_0506_0708, b"xyz");
    assert_eq!(bytes, b"\x03\0\0\0\0\0\0\0\x04\x08\x07\x06\x05\x04\x03\x02\x01xyz");
    assert_eq!(bytes.len(), HEADER + 3);
}

#[test]
fn a_frame_can_start_behind_other_bytes() {
    let mut bytes = whole(Kind::Hello, 1, b"one");
    let start = frame::begin(&mut bytes, Kind::Bye, 2);
    frame::end(&mut bytes, start);
    let frames = read_all(&mut &bytes[..]).unwrap();
    assert_eq!(frames[0].payload, b"one");
    assert_eq!((frames[1].kind, frames[1].id), (Kind::Bye, 2));
}

#[test]
fn every_byte_is_its_kind_or_unknown() {
    for byte in 0..=u8::MAX {
        let bytes = announcing(0, byte);
        match (Frame::read(&mut &bytes[..], LIMIT), KINDS.iter().find(|k| **k as u8 == byte)) {
            (Ok(Some(frame)), Some(kind)) => assert_eq!(frame.kind, *kind),
            (Err(WireError::UnknownKind(unknown)), None) => assert_eq!(unknown, byte),
            (other, _) => panic!("byte {byte}: {other:?}"),
        }
    }
}

#[test]
fn the_end_of_the_stream_is_truncation_except_between_frames() {
    let bytes = whole(Kind::Returned, 3, b"some payload");
    assert!(matches!(Frame::read(&mut &bytes[..0], LIMIT), Ok(None)));
    for cut in 1..bytes.len() {
        match Frame::read(&mut &bytes[..cut], LIMIT) {
            Err(WireError::Truncated { wanted, got }) if cut < HEADER => {
                assert_eq!((wanted, got), (17, cut as u64));
            }
            Err(WireError::Truncated { wanted, got }) => {
                assert_eq!((wanted, got), (12, (cut - HEADER) as u64));
            }
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn bytes_may_come_one_at_a_time_and_interrupted() {
    let bytes = [whole(Kind::Call, 9, &[5; 300]), whole(Kind::Bye, 0, b"")].concat();
    for sizes in [&[1][..], &[0, 1], &[0, 0, 0, 7]] {
        let frames = read_all(&mut Pieces::new(&bytes, sizes)).unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].payload, [5; 300]);
    }
}

#[test]
fn other_errors_of_the_reader_are_passed_on() {
    struct Failing(ErrorKind);
    impl Source for Failing {}
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
    }
    let read = |kind| Frame::read(&mut Failing(kind), LIMIT);
    assert!(matches!(read(ErrorKind::PermissionDenied), Err(WireError::Io(_))));
    assert!(matches!(read(ErrorKind::ConnectionReset), Err(WireError::Closed)));

    let bytes = whole(Kind::Call, 1, b"payload");
    let mut inside = bytes[..HEADER + 2].chain(Failing(ErrorKind::Other));
    assert!(matches!(Frame::read(&mut inside, LIMIT), Err(WireError::Io(_))));
}

#[test]
fn a_length_above_the_limit_is_refused_before_the_payload_is_read() {
    let mut bytes = announcing(u64::MAX, Kind::Call as u8);
    bytes.extend_from_slice(b"untouched");
    let mut rest = &bytes[..];
    let mut payload = Vec::new();
    let error = frame::read_into(&mut rest, &mut payload, LIMIT).unwrap_err();
    assert_eq!(error.to_string(), "a frame announces 18446744073709551615 bytes, the limit is 1073741824");
    assert_eq!((rest, payload.capacity()), (&b"untouched"[..], 0));
}

#[test]
fn the_limit_itself_is_allowed() {
    let bytes = whole(Kind::Call, 1, &[1; 100]);
    assert!(Frame::read(&mut &bytes[..], 100).is_ok());
    assert!(matches!(Frame::read(&mut &bytes[..], 99), Err(WireError::TooLong { length: 100, limit: 99 })));
}

#[test]
fn without_a_limit_no_length_overflows() {
    for length in [u64::MAX, 1 << 63, isize::MAX as u64 + 1] {
        let bytes = announcing(length, Kind::Call as u8);
        let refused = Frame::read(&mut &bytes[..], u64::MAX);
        assert!(matches!(refused, Err(WireError::TooLong { .. })));
    }
}

#[test]
fn memory_follows_what_arrives_not_what_is_announced() {
    for arriving in [0, 1, 100, MIB, 3 * MIB] {
        let mut bytes = announcing(isize::MAX as u64, Kind::Returned as u8);
        bytes.resize(HEADER + arriving, 1);
        let mut payload = Vec::new();
        let error = frame::read_into(&mut &bytes[..], &mut payload, u64::MAX).unwrap_err();
        assert!(matches!(error, WireError::Truncated { got, .. } if got == arriving as u64));
        assert!(payload.capacity() <= 2 * arriving.max(MIB), "{}", payload.capacity());
    }
}

#[test]
fn an_honest_length_takes_exactly_its_memory() {
    for length in [1, 31, 32, 33, MIB - 1, MIB, MIB + 1, 5 * MIB] {
        let bytes = whole(Kind::Call, 1, &vec![3; length]);
        let frame = Frame::read(&mut &bytes[..], LIMIT).unwrap().unwrap();
        assert_eq!(frame.payload, vec![3; length]);
        assert_eq!(frame.payload.capacity(), length);
    }
}
