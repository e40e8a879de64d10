//! A connection: frames over any pair of `Read` and `Write`.
//!
//! It is not the conversation: it neither knows which frame is due nor what is in
//! it. It has no threads, no timeouts and no locks; both directions block.
//!
//! The rule: never out of step. A direction that failed may stand in the middle of a
//! frame, so it stays closed; the other one goes on, because the last words of a
//! worker that is gone can still be read.

use std::io::{self, IoSlice, Write};

use super::frame::{self, HEADER, Kind, Parcel, STEP, Source, WireError};

/// What a pipe holds at the most.
const WIDEST: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Connection<R, W> {
    reader: R,
    writer: W,
    /// Bytes that a payload may have, in both directions.
    limit: u64,
    payload: Vec<u8>,
    reader_failed: bool,
    writer_failed: bool,
}

impl<R: Source, W: Write> Connection<R, W> {
    pub(crate) fn new(reader: R, writer: W, limit: u64) -> Connection<R, W> {
        Connection { reader, writer, limit, payload: Vec::new(), reader_failed: false, writer_failed: false }
    }

    /// Sends one whole frame. One above the limit is refused before its first byte:
    /// the other side would hang up on it, while here it costs one task.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        self.send_pieces([frame, &[], &[]])
    }

    /// The same for one that may have a large value beside it.
    pub(crate) fn post(&mut self, parcel: &Parcel) -> Result<(), WireError> {
        self.send_pieces(parcel.pieces())
    }

    /// The same for the pieces of a frame.
    pub(crate) fn send_pieces(&mut self, frame: [&[u8]; 3]) -> Result<(), WireError> {
        let length = frame.iter().map(|piece| piece.len()).sum::<usize>().saturating_sub(HEADER) as u64;
        debug_assert!(announces(frame[0], length), "send takes one frame, begun and ended");
        if length > self.limit {
            return Err(WireError::TooLong { length, limit: self.limit });
        }
        if self.writer_failed {
            return Err(WireError::Closed);
        }
        let sent = write_all(&mut self.writer, frame).and_then(|()| self.writer.flush());
        self.writer_failed = sent.is_err();
        Ok(sent?)
    }

    /// Waits for one frame; its payload is then in [`Connection::payload`], until the
    /// next call. `Ok(None)`: the other side closed the connection between two frames.
    pub(crate) fn receive(&mut self) -> Result<Option<(Kind, u64)>, WireError> {
        if self.reader_failed {
            return Err(WireError::Closed);
        }
        let received = frame::read_into(&mut self.reader, &mut self.payload, self.limit);
        if received.is_err() {
            self.reader_failed = true;
            self.payload = Vec::new();
        }
        received
    }

    /// Of the frame received last; empty before the first and after an error.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The same, for whoever may take its memory.
    pub(crate) fn payload_mut(&mut self) -> &mut Vec<u8> {
        &mut self.payload
    }

    /// Forgets the payload. To be called before a wait that may be long: one large frame is no
    /// reason to hold its memory meanwhile.
    pub(crate) fn clear(&mut self) {
        self.payload.clear();
        self.payload.shrink_to(STEP);
    }

    /// Bytes that a payload may have.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn reader(&self) -> &R {
        &self.reader
    }

    pub(crate) fn reader_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    pub(crate) fn writer(&self) -> &W {
        &self.writer
    }

    pub(crate) fn writer_mut(&mut self) -> &mut W {
        &mut self.writer
    }

    #[cfg(test)]
    pub(crate) fn payload_capacity(&self) -> usize {
        self.payload.capacity()
    }
}

/// Whether the header announces what follows it: false if [`frame::end`] was forgotten.
fn announces(frame: &[u8], length: u64) -> bool {
    frame.len() >= HEADER && frame[..8] == length.to_le_bytes()
}

/// Writes all pieces, as many at once as the writer takes.
fn write_all(writer: &mut impl Write, pieces: [&[u8]; 3]) -> io::Result<()> {
    let [first, rest @ ..] = pieces;
    if rest.iter().all(|piece| piece.is_empty()) {
        return writer.write_all(first);
    }
    let mut slices = pieces.map(IoSlice::new);
    let mut left = &mut slices[..];
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() > WIDEST {
        // It does not go through in one piece anyway: while it is written, the other side, told by the header,
        // makes room for it.
        writer.write_all(first)?;
        left = &mut left[1..];
    }
    // Empty ones at the front would be taken for a writer that takes no more.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match writer.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) use in_memory::memory;

/// Two ends of a connection inside one process.
#[cfg(test)]
pub(crate) mod in_memory {
    use std::io::{self, Read, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::{Connection, Source};

    /// The limit of both ends of [`memory`].
    pub(crate) const LIMIT: u64 = 1 << 30;

    pub(crate) type InMemory = Connection<Incoming, Outgoing>;

    /// A pair whose ends hear each other. Writing never blocks; an end that is dropped
    /// is end-of-file and broken pipe for the other.
    pub(crate) fn memory() -> (InMemory, InMemory) {
        let (to_right, at_right) = channel();
        let (to_left, at_left) = channel();
        let end = |pieces, to| Connection::new(Incoming::new(pieces), Outgoing(to), LIMIT);
        (end(at_left, to_right), end(at_right, to_left))
    }

    #[derive(Debug)]
    pub(crate) struct Outgoing(Sender<Vec<u8>>);

    impl Write for Outgoing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.0.send(bytes.to_vec()).map_err(gone)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What was written, piece by piece: a read ends where a write did.
    #[derive(Debug)]
    pub(crate) struct Incoming {
        pieces: Receiver<Vec<u8>>,
        piece: io::Cursor<Vec<u8>>,
    }

    impl Incoming {
        fn new(pieces: Receiver<Vec<u8>>) -> Incoming {
            let piece = io::Cursor::default();
            Incoming { pieces, piece }
        }
    }

    impl Source for Incoming {}

    impl Read for Incoming {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            loop {
                let got = self.piece.read(bytes)?;
                if got > 0 || bytes.is_empty() {
                    return Ok(got);
                }
                match self.pieces.recv() {
                    Ok(piece) => self.piece = io::Cursor::new(piece),
                    Err(_) => return Ok(0), // the other end is dropped
                }
            }
        }
    }
}
