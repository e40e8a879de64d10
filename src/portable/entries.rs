//! The entries of a batch: what stands for the items of a chunk, on the way there and on the way back.
//!
//! ```text
//!   0 ..= 253 = length (u8) │ value
//!   254 = value, 255 = failure (u8) │ length (u64, little endian) │ bytes
//! ```
//!
//! Arguments and return values use the same form: an argument that cannot be encoded travels as its failure, and
//! comes back as the outcome of its place. Not here: how a value is encoded (`mod.rs`). The rule: **one item, one
//! entry**, whatever becomes of it; and what is done for every one of them is a few instructions, since a chunk is
//! there to make short calls cheap.

use super::{encode, panicked};
use crate::error::Panic;
use crate::outcome::run_of;
use crate::wire::frame::Kind;
use crate::wire::message::Failure;

/// The entries of a batch.
pub(crate) struct Entries<'a>(pub(crate) &'a [u8]);

const LONG: u8 = 254;
const FAILURE: u8 = 255;

/// Bytes in front of what is long, and of a failure.
const LONG_HEAD: usize = 1 + 8;

impl<'a> Entries<'a> {
    #[inline]
    fn take(&mut self) -> Option<Result<&'a [u8], Failure>> {
        let (&head, rest) = self.0.split_first()?;
        if head >= LONG {
            return self.take_long();
        }
        let (bytes, rest) = rest.split_at_checked(head.into())?;
        self.0 = rest;
        Some(Ok(bytes))
    }

    #[inline(never)]
    fn take_long(&mut self) -> Option<Result<&'a [u8], Failure>> {
        let (head, rest) = self.0.split_first_chunk::<LONG_HEAD>()?;
        let [kind, length @ ..] = *head;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(length)).ok()?)?;
        self.0 = rest;
        Some(match kind {
            LONG => Ok(bytes),
            _ => Err(Failure::decode(Kind::Failed, bytes).unwrap_or_else(|error| Failure::Undecodable {
                what: "failure".into(),
                reason: error.to_string(),
            })),
        })
    }
}

impl<'a> Iterator for Entries<'a> {
    /// The outer error: the bytes are no entries.
    type Item = Result<Result<&'a [u8], Failure>, String>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.take();
        if entry.is_none() {
            self.0 = &[];
        }
        Some(entry.ok_or_else(|| "the batch is malformed".into()))
    }
}

/// An entry that is being written behind what is there.
struct Entry<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    /// Bytes that were left for its head: what follows a long one is likely to be long.
    head: usize,
}

impl<'a> Entry<'a> {
    fn behind(out: &'a mut Vec<u8>) -> Self {
        Entry { start: out.len(), head: 1, out }
    }

    #[inline]
    fn begin(&mut self) {
        self.start = self.out.len();
        if self.head == 1 {
            self.out.push(0);
        } else {
            self.out.extend_from_slice(&[0; LONG_HEAD]);
        }
    }

    /// All that was written since is the value.
    #[inline]
    fn end(&mut self) {
        let length = self.out.len() - self.start - self.head;
        if self.head == 1 && length < LONG.into() {
            self.out[self.start] = length as u8;
        } else {
            self.end_long(length);
        }
    }

    #[inline(never)]
    fn end_long(&mut self, length: usize) {
        if self.head == 1 {
            let value = self.start + 1;
            self.out.extend_from_slice(&[0; LONG_HEAD - 1]);
            self.out.copy_within(value..value + length, self.start + LONG_HEAD);
        }
        self.close(LONG);
        self.head = if length < LONG.into() { 1 } else { LONG_HEAD };
    }

    /// It has a failure in the place of whatever was written.
    #[cold]
    fn fail(&mut self, failure: &Failure) {
        self.out.truncate(self.start);
        self.out.extend_from_slice(&[0; LONG_HEAD]);
        // Strings and numbers: this cannot fail, and if it did, the other side would say so.
        let _ = encode(failure, self.out, "failure");
        self.close(FAILURE);
    }

    fn close(&mut self, kind: u8) {
        let (head, bytes) = self.out[self.start..].split_at_mut(LONG_HEAD);
        head[0] = kind;
        head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    }
}

/// Appends an entry for each of the items: what `write` appends, or its failure. Where `write` panics that is the
/// failure of one item; `catch` is around as many as do not.
pub(crate) fn put_entries<T>(
    mut items: impl Iterator<Item = T>,
    out: &mut Vec<u8>,
    catch: impl Fn(&mut dyn FnMut()) -> Result<(), Panic>,
    mut write: impl FnMut(T, &mut Vec<u8>) -> Result<(), Failure>,
) {
    let mut entry = Entry::behind(out);
    loop {
        let run = catch(&mut || {
            for item in run_of(&mut items) {
                entry.begin();
                match write(item, entry.out) {
                    Ok(()) => entry.end(),
                    Err(failure) => entry.fail(&failure),
                }
            }
        });
        match run {
            Ok(()) => return,
            Err(panic) => entry.fail(&panicked(&panic)),
        }
    }
}

/// One entry.
#[cfg(any(test, fuzzing))]
pub(crate) fn put_entry(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Failure>) {
    let mut entry = Entry::behind(out);
    entry.begin();
    match write(entry.out) {
        Ok(()) => entry.end(),
        Err(failure) => entry.fail(&failure),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::outcome::catch_for_the_host;

    fn failure() -> Failure {
        Failure::UnknownFunction { reason: "?".into() }
    }

    /// An entry for each length. At 1000 `write` panics, at 1001 it fails, both when a part is written.
    fn written(lengths: &[usize]) -> Vec<u8> {
        let mut out = vec![42];
        put_entries(
            lengths.iter(),
            &mut out,
            |run| catch_for_the_host("a chunk", run),
            |&length, out| {
                out.extend((0..length).map(|n| n as u8));
                match length {
                    1000 => panic!("no thousand"),
                    1001 => Err(failure()),
                    _ => Ok(()),
                }
            },
        );
        assert_eq!(out.remove(0), 42);
        out
    }

    #[test]
    fn entries_of_all_lengths_are_read_as_they_were_written() {
        let lengths =
            [0, 1, 253, 254, 255, 256, 0, 300, 7, 1000, 1000, 1001, 254, 1000, 3, 1001, 70_000, 1000];
        for from in 0..lengths.len() {
            for to in from..=lengths.len() {
                let bytes = written(&lengths[from..to]);
                let entries: Vec<_> = Entries(&bytes).map(|entry| entry.unwrap()).collect();
                assert_eq!(entries.len(), to - from);
                for (&length, entry) in lengths[from..to].iter().zip(entries) {
                    match (length, entry) {
                        (1000, Err(Failure::Panicked { message, location: Some(place), .. })) => {
                            assert!(
                                message == "no thousand" && place.contains("entries.rs"),
                                "{message} {place}"
                            );
                        }
                        (1001, Err(other)) => assert_eq!(other, failure()),
                        (_, Ok(value)) => assert!((0..length).map(|n| n as u8).eq(value.iter().copied())),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn a_short_value_has_one_byte_in_front_of_it() {
        assert_eq!(written(&[2, 0, 1]), [2, 0, 1, 0, 1, 0]);
    }

    #[test]
    fn a_part_of_an_entry_is_none() {
        for length in [1, 253, 254, 1001] {
            let bytes = written(&[length]);
            for cut in 1..bytes.len() {
                assert!(Entries(&bytes[..cut]).next().unwrap().is_err(), "{cut} bytes of {}", bytes.len());
            }
        }
    }
}
