//! The reader of frames, and the connection around it.
//!
//! ```text
//! byte  0       1        2        4        6
//!       │ limit │ filler │ pieces │ cut    │ what the other side sends, and then the filler
//! ```

use std::io::{self, BufReader, Read};

use crate::wire::connection::Connection;
use crate::wire::frame::{self, HEADER, Kind, Source, WireError};

const HEAD: usize = 6;
const LIMITS: [u64; 7] = [1 << 36, 0, 1, 100, 3 << 20, isize::MAX as u64, u64::MAX];
/// The step of `frame.rs`.
const STEP: usize = frame::STEP;

type Frame = (Kind, u64, Vec<u8>);

/// Frames arrive as they were sent in whatever pieces, end where the stream ends, and take the memory
/// that the rule of `frame.rs` gives them.
pub fn frames(data: &[u8]) {
    let Some((&[limit, filler, one, other, low, high], stream)) = data.split_first_chunk::<HEAD>() else {
        return;
    };
    let limit = LIMITS[usize::from(limit) % LIMITS.len()];
    // More than a step of payload, without a file of that size.
    let filler = u64::from(filler.saturating_sub(0xf7)) << 18;
    let whole = || stream.chain(io::repeat(0).take(filler));
    let cut = usize::from(u16::from_le_bytes([low, high])) % (stream.len() + 1);

    let (frames, end) = read(whole(), limit);

    // In pieces, over a connection: the same. Once it has failed, it stays closed.
    let unit = if filler > 0 { 1 << 12 } else { 1 };
    let sizes = [one, other].map(|size| if size == 255 { usize::MAX } else { usize::from(size) * unit });
    let pieces = Pieces { reader: whole(), sizes, turn: 0 };
    // Past a buffer, as a worker and its host read.
    let mut connection = Connection::new(BufReader::with_capacity(64, pieces), Vec::new(), limit);
    for (kind, id, payload) in &frames {
        assert_eq!(connection.receive().expect("a frame in pieces"), Some((*kind, *id)));
        assert_eq!(connection.payload(), payload);
        connection.send(&frame::whole(*kind, *id, payload)).expect("what was let in is let out");
    }
    let ended = connection.receive();
    assert_eq!(format!("{ended:?}"), format!("{:?}", end.as_ref().map(|()| None::<Kind>)));
    if ended.is_err() {
        assert!(matches!(connection.receive(), Err(WireError::Closed)), "it went on out of step");
        assert!(connection.payload().is_empty());
    }

    // What was sent back are the very bytes that came.
    let echoed = connection.writer();
    let mut expected = vec![0; echoed.len()];
    whole().read_exact(&mut expected).expect("no more came than was sent");
    assert!(*echoed == expected, "frames are not the bytes they came from");

    // Cut off: the frames before the cut, and an end that is told from one inside a frame.
    let (before, end) = read(&stream[..cut], limit);
    assert!(frames.starts_with(&before), "bytes that are missing changed what was there");
    let border: usize = before.iter().map(|(_, _, payload)| HEADER + payload.len()).sum();
    match end {
        Ok(()) => assert_eq!(border, cut),
        Err(WireError::Truncated { wanted, got }) => assert!(got < wanted && border < cut),
        Err(WireError::TooLong { .. } | WireError::UnknownKind(_)) => assert!(border + HEADER <= cut),
        Err(other) => panic!("bytes in memory gave {other:?}"),
    }
}

/// All frames, and how it ended.
fn read(reader: impl Read, limit: u64) -> (Vec<Frame>, Result<(), WireError>) {
    let mut reader = Pieces { reader, sizes: [usize::MAX; 2], turn: 0 };
    let (mut frames, mut payload) = (Vec::new(), Vec::new());
    loop {
        let before = payload.capacity();
        let received = frame::read_into(&mut reader, &mut payload, limit);
        let allowed = before.max(2 * payload.len() + STEP);
        assert!(payload.capacity() <= allowed, "{} bytes for {}", payload.capacity(), payload.len());
        match received {
            Ok(Some((kind, id))) => {
                assert!(payload.len() as u64 <= limit);
                frames.push((kind, id, payload.clone()));
            }
            Ok(None) => return (frames, Ok(())),
            Err(error) => return (frames, Err(error)),
        }
    }
}

/// Two sizes of reads, in turn; 0 is an interrupted read.
struct Pieces<R> {
    reader: R,
    sizes: [usize; 2],
    turn: usize,
}

impl<R: Read> Source for Pieces<R> {}

impl<R: Read> Read for Pieces<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        let size = match self.sizes[self.turn % 2] {
            0 if self.sizes == [0, 0] => 1,
            0 => return Err(io::ErrorKind::Interrupted.into()),
            size => size.min(into.len()),
        };
        self.reader.read(&mut into[..size])
    }
}
