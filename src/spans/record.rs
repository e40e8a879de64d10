//! A record: an event of `tracing` as it travels from a worker process to its host.
//!
//! All of it is text. What a field was before (a number, a `Debug`) is written out where it is known, in the worker; the
//! spans that it happened in are a line such as `request{id=7}:parse`.
//!
//! Not here: who writes it (`layer.rs`), who reads it (`again.rs`). The rule: long texts are cut by who writes them, and what
//! is still longer than [`LONGEST`] is not read.

use std::fmt;

use serde::{Deserialize, Serialize};
use tracing::Level;

/// The longest record, in bytes.
pub(crate) const LONGEST: u64 = 64 << 10;

/// The longest text in one.
const TEXT: usize = 8 << 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record<'a> {
    /// As [`number_of`] has it.
    pub(crate) level: u8,
    pub(crate) target: &'a str,
    pub(crate) file: Option<&'a str>,
    pub(crate) line: Option<u32>,
    pub(crate) module: Option<&'a str>,
    pub(crate) message: &'a str,
    /// All other fields.
    pub(crate) fields: &'a str,
    /// Those that are entered in the worker, the outermost first.
    pub(crate) spans: &'a str,
}

impl<'a> Record<'a> {
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(self).ok().filter(|bytes| bytes.len() as u64 <= LONGEST)
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        match postcard::take_from_bytes(bytes) {
            Ok((record, [])) => Some(record),
            _ => None,
        }
    }
}

/// Levels by number, from 1 for errors.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

pub(crate) fn number_of(level: Level) -> u8 {
    LEVELS.iter().zip(1..).find(|(its, _)| **its == level).map_or(0, |(_, number)| number)
}

pub(crate) fn level_of(number: u8) -> Option<Level> {
    LEVELS.get(usize::from(number).checked_sub(1)?).copied()
}

/// A text that does not grow beyond its bound. What does not fit is cut, and whoever writes it is told to stop.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

/// The sign that something was cut.
const CUT: char = '…';

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() > TEXT {
            return Err(fmt::Error);
        }
        if self.0.len() + text.len() <= TEXT {
            self.0.push_str(text);
            return Ok(());
        }
        self.0.push_str(&text[..text.floor_char_boundary(TEXT - self.0.len())]);
        // Full from here on, even if a character was too wide for the last bytes.
        while self.0.len() <= TEXT {
            self.0.push(CUT);
        }
        Err(fmt::Error)
    }
}

/// What of a text from elsewhere has room in a record.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT)]
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_have_numbers() {
        for level in LEVELS {
            assert_eq!(level_of(number_of(level)), Some(level));
        }
        assert_eq!([level_of(0), level_of(6), level_of(255)], [None; 3]);
    }

    #[test]
    fn a_text_ends_at_its_bound() {
        for piece in ["a", "é", "語", "🌍", "twelve bytes"] {
            let mut text = Text::default();
            while write!(text, "{piece}").is_ok() {}
            assert!(text.as_str().len() <= TEXT + CUT.len_utf8() && text.as_str().ends_with(CUT), "{piece}");
            let full = text.as_str().to_owned();
            assert!(write!(text, "{piece}").is_err());
            assert_eq!(text.as_str(), full);
        }
        assert_eq!(cut(&"語".repeat(TEXT)).len(), TEXT / 3 * 3);
    }

    #[test]
    fn a_record_of_the_longest_texts_is_sent() {
        let long = "x".repeat(TEXT + 2);
        let (level, line) = (5, Some(u32::MAX));
        let (target, file, module) = (cut(&long), Some(cut(&long)), Some(cut(&long)));
        let (message, fields, spans) = (&*long, &*long, &*long);
        let record = Record { level, target, file, line, module, message, fields, spans };
        let bytes = record.encode().unwrap();
        assert_eq!(Record::decode(&bytes), Some(record));
    }

    proptest! {
        /// Whatever a worker sends: it is a record, the same when it is written again, or it is none.
        #[test]
        fn any_bytes_are_a_record_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(record) = Record::decode(&bytes) {
                let again = record.encode().unwrap();
                prop_assert_eq!(Record::decode(&again), Some(record));
            }
        }

        /// A part of a record is none, nor is one with more behind it.
        #[test]
        fn a_record_is_read_as_it_was_written(
            level: u8,
            line: Option<u32>,
            [target, message, fields, spans] in [".*", ".*", ".*", ".*"],
        ) {
            let (file, module) = (Some(&*target), None);
            let record =
                Record { level, target: &target, file, line, module, message: &message, fields: &fields, spans: &spans };
            let bytes = record.encode().unwrap();
            prop_assert_eq!(Record::decode(&bytes), Some(record));
            prop_assert!(Record::decode(&[&bytes[..], &[0]].concat()).is_none());
            prop_assert!(Record::decode(&bytes[..bytes.len() - 1]).is_none());
        }
    }
}
