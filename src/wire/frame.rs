//! Frames: where one message ends and the next begins.
//!
//! ```text
//! byte  0         8      9         17                17 + len
//!       ┌─────────┬──────┬─────────┬─────────────────┐
//!       │ len     │ kind │ id      │ payload         │   numbers are
//!       │ u64     │ u8   │ u64     │ len bytes       │   little endian
//!       └─────────┴──────┴─────────┴─────────────────┘
//! ```
//!
//! Not here: what a payload means (`message`), and who sends it to whom
//! (`connection`, and the pools). The id stands outside the payload, so a payload
//! that does not decode costs one task and not the connection.
//!
//! The rule: a length is a claim. It is checked against the limit before the
//! payload is read, and memory follows the bytes that arrive, not the claim.
//!
//! A large value that is nothing but its bytes is not copied into a frame: a
//! [`Parcel`] has it beside the other bytes, and whoever sends it puts it in its place.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

/// Bytes in front of each payload.
pub(crate) const HEADER: usize = 17;

/// Where among them the kind stands.
const KIND: usize = 8;

/// Memory that a mere announcement can make us set aside: a payload of 1 MiB, with what a call
/// says beside its argument, is read in one go.
pub(crate) const STEP: usize = (1 << 20) + 64;

/// A payload up to this length is read into whatever buffer there is.
const SMALL: usize = 16 << 10;

/// What a frame is about. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The first frame in both directions: who I am.
    Hello = 1,
    /// The answer to a hello that does not fit; nothing follows.
    Refusal = 2,
    /// A call that comes before all others, once.
    Initialise = 3,
    /// A function and its argument.
    Call = 4,
    /// The value of the call with this id.
    Returned = 5,
    /// Why the call with this id has no value.
    Failed = 6,
    /// The sender leaves on purpose; nothing follows.
    Bye = 7,
    /// There is something elsewhere, in memory that both sides have: look there.
    Bell = 8,
    /// As `Initialise`, with something that came beside the frames, before this one.
    InitialiseWith = 9,
    /// As `Call`, in the same way.
    CallWith = 10,
    /// As `Returned`, in the same way.
    ReturnedWith = 11,
    /// How far the call with this id is.
    Progress = 12,
    /// A question of a worker, on a way of its own.
    Ask = 13,
    /// The answer to the question with this id.
    Answer = 14,
    /// What the call with this id has logged, on a way of its own.
    Event = 15,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Hello,
            2 => Kind::Refusal,
            3 => Kind::Initialise,
            4 => Kind::Call,
            5 => Kind::Returned,
            6 => Kind::Failed,
            7 => Kind::Bye,
            8 => Kind::Bell,
            9 => Kind::InitialiseWith,
            10 => Kind::CallWith,
            11 => Kind::ReturnedWith,
            12 => Kind::Progress,
            13 => Kind::Ask,
            14 => Kind::Answer,
            15 => Kind::Event,
            _ => return None,
        })
    }

    /// What it is about, whatever came beside it; and whether anything did.
    #[inline]
    pub(crate) fn opened(self) -> (Kind, bool) {
        match self {
            Kind::InitialiseWith => (Kind::Initialise, true),
            Kind::CallWith => (Kind::Call, true),
            Kind::ReturnedWith => (Kind::Returned, true),
            kind => (kind, false),
        }
    }

    /// The same with something beside it.
    fn enclosing(self) -> Kind {
        match self {
            Kind::Initialise => Kind::InitialiseWith,
            Kind::Call => Kind::CallWith,
            Kind::Returned => Kind::ReturnedWith,
            kind => kind,
        }
    }
}

/// A frame that owns its payload.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
    pub(crate) payload: Vec<u8>,
}

#[cfg(test)]
impl Frame {
    /// [`read_into`] with a payload of its own.
    pub(crate) fn read(reader: &mut impl Source, limit: u64) -> Result<Option<Frame>, WireError> {
        let mut payload = Vec::new();
        let header = read_into(reader, &mut payload, limit)?;
        Ok(header.map(|(kind, id)| Frame { kind, id, payload }))
    }
}

/// Starts a frame at the end of `buffer` and returns where. The payload is then
/// appended straight behind it, with no copy in between; [`end`] closes the frame.
pub(crate) fn begin(buffer: &mut Vec<u8>, kind: Kind, id: u64) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&0_u64.to_le_bytes());
    buffer.push(kind as u8);
    buffer.extend_from_slice(&id.to_le_bytes());
    start
}

/// Closes the frame that [`begin`] started at `start`: all that was appended since
/// is its payload.
pub(crate) fn end(buffer: &mut [u8], start: usize) {
    let length = (buffer.len() - start - HEADER) as u64;
    buffer[start..start + 8].copy_from_slice(&length.to_le_bytes());
}

/// The whole frame that wakes the other side.
pub(crate) const BELL: [u8; HEADER] = {
    let mut frame = [0; HEADER];
    frame[KIND] = Kind::Bell as u8;
    frame
};

/// A whole frame, of a payload that is there already.
pub(crate) fn whole(kind: Kind, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let start = begin(&mut bytes, kind, id);
    bytes.extend_from_slice(payload);
    end(&mut bytes, start);
    bytes
}

/// Where frames are read from.
pub(crate) trait Source: Read + Sized {
    /// Reads behind what is in `bytes`, at most as much as there is room for. 0: the end.
    ///
    /// This way the room is zeroed first, and filled by reads that begin small. One that does neither saves a fifth
    /// of the time.
    fn read_more(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let room = bytes.capacity() - bytes.len();
        self.by_ref().take(room as u64).read_to_end(bytes)
    }
}

impl<First: Read, Second: Read> Source for io::Chain<First, Second> {}

/// What is in the buffer first; then past it.
impl<S: Source> Source for BufReader<S> {
    fn read_more(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        if self.buffer().is_empty() {
            return self.get_mut().read_more(bytes);
        }
        let got = self.buffer().len().min(bytes.capacity() - bytes.len());
        bytes.extend_from_slice(&self.buffer()[..got]);
        self.consume(got);
        Ok(got)
    }
}

/// A large value that is nothing but its bytes.
pub(crate) type Bulk = Box<dyn AsRef<[u8]> + Send + Sync>;

/// A frame that is to be sent. A large value stays where it is in memory.
///
/// ```text
///   bytes │ header │ …            │ … │
///                  ▲ place
///           bulk │ the large value │
/// ```
#[derive(Default)]
pub(crate) struct Parcel {
    /// All of the frame but the large value.
    pub(crate) bytes: Vec<u8>,
    /// The large value, and in front of which of the bytes it stands.
    bulk: Option<(usize, Bulk)>,
}

impl Parcel {
    /// To be written to, and then ended.
    pub(crate) fn begin(kind: Kind, id: u64) -> Parcel {
        // Most have room in that.
        let mut parcel = Parcel { bytes: Vec::with_capacity(64), bulk: None };
        begin(&mut parcel.bytes, kind, id);
        parcel
    }

    /// The same, in the memory of one that is not needed any more.
    pub(crate) fn begin_again(&mut self, kind: Kind, id: u64) {
        self.clear(usize::MAX);
        begin(&mut self.bytes, kind, id);
    }

    /// Forgets what was sent, and gives back all memory but that.
    pub(crate) fn clear(&mut self, keep: usize) {
        self.bulk = None;
        self.bytes.clear();
        self.bytes.shrink_to(keep);
    }

    /// Puts a large value behind what is there; a frame has room for one.
    pub(crate) fn put(&mut self, bulk: Bulk) {
        debug_assert!(self.bulk.is_none(), "there is one already");
        self.bulk = Some((self.bytes.len(), bulk));
    }

    /// Says that something goes beside it.
    pub(crate) fn enclose(&mut self) {
        if let Some(kind) = Kind::from_byte(self.bytes[KIND]) {
            self.bytes[KIND] = kind.enclosing() as u8;
        }
    }

    /// All is in it.
    pub(crate) fn end(&mut self) {
        self.end_before(0);
    }

    /// All is in it but so many bytes, which whoever sends it has elsewhere.
    pub(crate) fn end_before(&mut self, rest: usize) {
        let length = (self.len() - HEADER + rest) as u64;
        self.bytes[..8].copy_from_slice(&length.to_le_bytes());
    }

    /// Of the whole frame.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.bulk.as_ref().map_or(0, |(_, bulk)| (**bulk).as_ref().len())
    }

    /// The frame, in three pieces that follow one another.
    pub(crate) fn pieces(&self) -> [&[u8]; 3] {
        match &self.bulk {
            None => [&self.bytes, &[], &[]],
            Some((place, bulk)) => {
                let (before, behind) = self.bytes.split_at(*place);
                [before, (**bulk).as_ref(), behind]
            }
        }
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// How long the payload behind that header is, and what it is about.
pub(crate) fn announced(mut header: &[u8], limit: u64) -> Result<(u64, Kind), WireError> {
    let Some((length, kind, _)) = read_header(&mut header)? else {
        return Err(WireError::truncated(HEADER, 0));
    };
    let kind = Kind::from_byte(kind).ok_or(WireError::UnknownKind(kind))?;
    if length > limit { Err(WireError::TooLong { length, limit }) } else { Ok((length, kind)) }
}

/// Kind and id of a whole frame, no more and no less; its payload begins at [`HEADER`].
pub(crate) fn parse(frame: &[u8]) -> Result<(Kind, u64), WireError> {
    let mut rest = frame;
    let Some((length, kind, id)) = read_header(&mut rest)? else {
        return Err(WireError::truncated(HEADER, 0));
    };
    let kind = Kind::from_byte(kind).ok_or(WireError::UnknownKind(kind))?;
    if length != rest.len() as u64 {
        return Err(WireError::Truncated { wanted: length, got: rest.len() as u64 });
    }
    Ok((kind, id))
}

/// Reads one frame; `payload` is cleared and filled. `Ok(None)` is the end of the
/// stream exactly between two frames.
///
/// The memory of `payload` grows to at most twice what has arrived, and a step.
/// After an error the reader stands somewhere inside a frame: read no more from it.
pub(crate) fn read_into(
    reader: &mut impl Source,
    payload: &mut Vec<u8>,
    limit: u64,
) -> Result<Option<(Kind, u64)>, WireError> {
    payload.clear();
    let Some((length, kind, id)) = read_header(reader)? else {
        return Ok(None);
    };
    let kind = Kind::from_byte(kind).ok_or(WireError::UnknownKind(kind))?;
    // No `Vec` is longer than `isize::MAX`, so below it every length is a `usize`.
    let limit = limit.min(isize::MAX as u64);
    if length > limit {
        return Err(WireError::TooLong { length, limit });
    }
    read_payload(reader, payload, length as usize)?;
    Ok(Some((kind, id)))
}

/// Length, kind and id, or nothing at the end of the stream.
fn read_header(reader: &mut impl Read) -> Result<Option<(u64, u8, u64)>, WireError> {
    let mut header = [0; HEADER];
    match fill(reader, &mut header)? {
        0 => Ok(None),
        HEADER => {
            let number = |at: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&header[at..at + 8]);
                u64::from_le_bytes(bytes)
            };
            Ok(Some((number(0), header[8], number(9))))
        }
        got => Err(WireError::truncated(HEADER, got)),
    }
}

/// Reads until `bytes` is full or the stream ends, and says how far it came:
/// `read_exact` would not tell an end between frames from one inside a frame.
fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match retry(|| reader.read(&mut bytes[filled..]))? {
            0 => break,
            got => filled += got,
        }
    }
    Ok(filled)
}

/// Until it was not interrupted.
fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn read_payload(reader: &mut impl Source, payload: &mut Vec<u8>, length: usize) -> Result<(), WireError> {
    // Of a buffer that is larger only the front may be filled.
    if payload.capacity() > length && length > SMALL {
        *payload = Vec::new();
    }
    while payload.len() < length {
        let arrived = payload.len();
        let missing = length - arrived;
        if payload.capacity() == arrived {
            // Room for as much again as has arrived: an honest sender costs few moves,
            // a liar must send half of what it makes us set aside.
            payload.try_reserve_exact(missing.min(arrived.max(STEP))).map_err(io::Error::from)?;
        }
        let has_room_for_more = payload.capacity() > length;
        let read = || {
            if has_room_for_more {
                reader.by_ref().take(missing as u64).read_to_end(payload)
            } else {
                reader.read_more(payload)
            }
        };
        if retry(read)? == 0 {
            return Err(WireError::truncated(length, arrived));
        }
    }
    Ok(())
}

/// What can be wrong with what the other side sends, or with the way to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the stream ended inside a frame, after {got} of {wanted} bytes")]
    Truncated { wanted: u64, got: u64 },
    #[error("a frame announces {length} bytes, the limit is {limit}")]
    TooLong { length: u64, limit: u64 },
    #[error("a frame has the unknown kind {0}")]
    UnknownKind(u8),
    #[error("a {kind:?} frame is malformed: {reason}")]
    Malformed { kind: Kind, reason: String },
    #[error("a {kind:?} frame arrived where {wanted} was expected")]
    Unexpected { kind: Kind, wanted: &'static str },
    #[error("the other side is not a worker or host of this crate")]
    NotOurs,
    #[error("the other side speaks version {theirs} of the protocol, this side version {ours}")]
    Version { ours: u32, theirs: u32 },
    #[error("the other side has closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

impl WireError {
    pub(crate) fn truncated(wanted: usize, got: usize) -> WireError {
        WireError::Truncated { wanted: wanted as u64, got: got as u64 }
    }
}

/// That the other side is gone has several names in the operating system, and one here.
impl From<io::Error> for WireError {
    fn from(error: io::Error) -> WireError {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset => WireError::Closed,
            _ => WireError::Io(error),
        }
    }
}
