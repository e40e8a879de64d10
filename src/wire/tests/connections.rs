//! Connections: two ends that hear each other, and what is left when one is gone.

use std::io::{self, Write};

use super::super::connection::{Connection, memory};
use super::super::frame::{HEADER, Kind, Parcel, STEP, WireError, whole};
use super::super::message::Hello;
use super::{LIMIT, MIB, announcing, hello};

#[test]
fn two_ends_hear_each_other() {
    let (mut left, mut right) = memory();
    left.send(&hello().encode()).unwrap();
    left.send(&whole(Kind::Call, 1, b"ping")).unwrap();
    right.send(&whole(Kind::Returned, 1, b"pong")).unwrap();

    assert_eq!(right.receive().unwrap(), Some((Kind::Hello, 0)));
    assert_eq!(Hello::decode(right.payload()).unwrap(), hello());
    assert_eq!(right.receive().unwrap(), Some((Kind::Call, 1)));
    assert_eq!(right.payload(), b"ping");
    assert_eq!(left.receive().unwrap(), Some((Kind::Returned, 1)));
    assert_eq!(left.payload(), b"pong");
}

#[test]
fn the_last_words_of_the_other_end_are_heard() {
    let (mut left, mut right) = memory();
    right.send(&whole(Kind::Refusal, 0, b"why")).unwrap();
    drop(right);
    for _ in 0..2 {
        let sent = left.send(&whole(Kind::Bye, 0, b""));
        assert!(matches!(sent, Err(WireError::Closed)));
    }
    assert_eq!(left.receive().unwrap(), Some((Kind::Refusal, 0)));
    assert_eq!(left.payload(), b"why");
    for _ in 0..2 {
        assert_eq!(left.receive().unwrap(), None);
        assert_eq!(left.payload(), b"");
    }
}

#[test]
fn a_reader_out_of_step_stays_closed() {
    let (mut left, mut right) = memory();
    left.writer_mut().write_all(&announcing(3, 99)).unwrap();
    left.send(&whole(Kind::Call, 1, b"fine")).unwrap();
    assert!(matches!(right.receive(), Err(WireError::UnknownKind(99))));
    assert!(matches!(right.receive(), Err(WireError::Closed)));
    assert!(right.send(&whole(Kind::Bye, 0, b"")).is_ok());
}

#[test]
fn a_writer_out_of_step_stays_closed() {
    /// Takes three bytes, fails once, and would then take the rest.
    #[derive(Default)]
    struct Hiccup(Vec<u8>, bool);
    impl Write for Hiccup {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() == 3 && !std::mem::replace(&mut self.1, true) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut connection = Connection::new(io::empty(), Hiccup::default(), 100);
    let bye = whole(Kind::Bye, 0, b"");
    assert!(matches!(connection.send(&bye), Err(WireError::Io(_))));
    assert!(matches!(connection.send(&bye), Err(WireError::Closed)));
    assert_eq!(connection.writer().0, bye[..3]);
}

#[test]
fn a_large_value_is_sent_in_its_place_however_little_is_taken_at_once() {
    /// Takes so many bytes at once, after an interruption.
    struct Sip(Vec<u8>, usize, bool);
    impl Write for Sip {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[io::IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
            self.2 = !self.2;
            if self.2 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let all: Vec<u8> = pieces.iter().flat_map(|piece| &**piece).take(self.1).copied().collect();
            self.0.extend_from_slice(&all);
            Ok(all.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (value, behind) in [(0, 0), (1, 0), (0, 1), (50, 20), (3, 3), (2 * MIB, 20)] {
        let mut parcel = Parcel::begin(Kind::Call, 7);
        parcel.put(Box::new(vec![1_u8; value]));
        parcel.bytes.extend_from_slice(&vec![2; behind]);
        parcel.end();
        let payload = [vec![1; value], vec![2; behind]].concat();
        assert_eq!(parcel.len(), HEADER + payload.len());
        for sip in [1, 2, 16, 17, 18, 19, 1000, MIB + 1].into_iter().filter(|sip| value / sip < 1000) {
            let mut connection = Connection::new(io::empty(), Sip(Vec::new(), sip, false), LIMIT);
            connection.post(&parcel).unwrap();
            assert_eq!(connection.writer().0, whole(Kind::Call, 7, &payload));
        }
        let limit = payload.len() as u64;
        assert!(Connection::new(io::empty(), Vec::new(), limit).post(&parcel).is_ok());
        if limit > 0 {
            let refused = Connection::new(io::empty(), Vec::new(), limit - 1).post(&parcel);
            assert!(matches!(refused, Err(WireError::TooLong { length, .. }) if length == limit));
        }
    }
}

#[test]
fn a_frame_above_the_limit_is_not_sent_and_does_no_harm() {
    let mut connection = Connection::new(io::empty(), Vec::new(), 4);
    let refused = connection.send(&whole(Kind::Call, 1, b"12345"));
    assert!(matches!(refused, Err(WireError::TooLong { length: 5, limit: 4 })));
    connection.send(&whole(Kind::Call, 1, b"1234")).unwrap();
    assert_eq!(*connection.writer(), whole(Kind::Call, 1, b"1234"));
}

#[test]
#[should_panic(expected = "begun and ended")]
#[cfg(debug_assertions)]
fn a_frame_that_was_not_ended_is_a_mistake_of_ours() {
    let mut bytes = announcing(0, Kind::Call as u8); // as begun
    bytes.push(1);
    let _ = memory().0.send(&bytes);
}

#[test]
fn the_memory_of_a_large_frame_is_given_back() {
    let (mut left, mut right) = memory();
    for length in [10, 4 * MIB, 10] {
        left.send(&whole(Kind::Call, 1, &vec![1; length])).unwrap();
        right.receive().unwrap();
        assert_eq!(right.payload(), vec![1; length]);
        assert!(right.payload_capacity() >= length);
        right.clear();
        assert!(right.payload().is_empty());
        assert!(right.payload_capacity() <= STEP);
    }
}

#[test]
fn a_worker_in_a_thread_answers_until_the_end() {
    let (mut host, mut worker) = memory();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while let Some((_, id)) = worker.receive().unwrap() {
                let reply = whole(Kind::Returned, id, worker.payload());
                worker.send(&reply).unwrap();
            }
        });
        for id in 0..100 {
            host.send(&whole(Kind::Call, id, &id.to_le_bytes())).unwrap();
            assert_eq!(host.receive().unwrap(), Some((Kind::Returned, id)));
            assert_eq!(host.payload(), id.to_le_bytes());
        }
        drop(host);
    });
}
