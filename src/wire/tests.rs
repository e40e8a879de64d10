//! Tests of the wire: what is sent arrives, and nothing that arrives does harm.
//!
//! Here are the means that they share. Not here: processes; the other side is bytes
//! in memory, well-formed or hostile. No test sleeps.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};

use super::connection::in_memory::LIMIT;
use super::frame::{Frame, Kind, Source, WireError};
use super::message::Hello;

mod any_input;
mod connections;
mod frames;
mod messages;

const MIB: usize = 1 << 20;
const KINDS: [Kind; 15] = [
    Kind::Hello,
    Kind::Refusal,
    Kind::Initialise,
    Kind::Call,
    Kind::Returned,
    Kind::Failed,
    Kind::Bye,
    Kind::Bell,
    Kind::InitialiseWith,
    Kind::CallWith,
    Kind::ReturnedWith,
    Kind::Progress,
    Kind::Ask,
    Kind::Answer,
    Kind::Event,
];

/// Hands out its bytes in pieces of the given sizes, in turn; a size of 0 is an interrupted read.
struct Pieces {
    bytes: VecDeque<u8>,
    sizes: Vec<usize>,
    turn: usize,
}

impl Pieces {
    fn new(bytes: &[u8], sizes: &[usize]) -> Pieces {
        Pieces { bytes: bytes.iter().copied().collect(), sizes: sizes.to_vec(), turn: 0 }
    }
}

impl Source for Pieces {}

impl Source for &[u8] {}

impl Source for io::Empty {}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.turn % self.sizes.len()];
        self.turn += 1;
        if size == 0 {
            return Err(ErrorKind::Interrupted.into());
        }
        let room = size.min(into.len());
        self.bytes.read(&mut into[..room])
    }
}

fn announcing(length: u64, kind: u8) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&7_u64.to_le_bytes());
    bytes
}

fn read_all(reader: &mut impl Source) -> Result<Vec<Frame>, WireError> {
    let mut frames = Vec::new();
    while let Some(frame) = Frame::read(reader, LIMIT)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn hello() -> Hello {
    Hello { identity: u128::MAX - 5, pid: 4711 }
}
