//! What travels with a call and back: bytes that can be told by their seed, values that are counted, and
//! thorns, which make serde fail.
//!
//! Not here: what a call does (`order.rs`). The rule: nothing that was made is lost without a trace: whoever
//! holds a value that is counted is found at the end.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::de::{Error as _, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dice::mix;

/// Bytes that travel as such.
#[derive(Default)]
pub(crate) struct Blob(Vec<u8>);

/// The words of the blob with that seed, without end.
fn words(seed: u64) -> impl Iterator<Item = [u8; 8]> {
    (0..).map(move |number: u64| mix(seed.wrapping_add(number)).to_le_bytes())
}

impl Blob {
    pub(crate) fn of(seed: u64, length: u32) -> Self {
        let length = length as usize;
        let mut bytes = Vec::with_capacity(length + 8);
        words(seed).take(length.div_ceil(8)).for_each(|word| bytes.extend_from_slice(&word));
        bytes.truncate(length);
        Blob(bytes)
    }

    /// Is it that one, to the last byte?
    pub(crate) fn is(&self, seed: u64, length: u32) -> bool {
        self.0.len() == length as usize
            && self.0.chunks(8).zip(words(seed)).all(|(bytes, word)| *bytes == word[..bytes.len()])
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// One of the values that are counted while they live in this process. It travels as nothing.
pub(crate) struct Counted(());

static ALIVE: AtomicI64 = AtomicI64::new(0);

impl Counted {
    pub(crate) fn alive() -> i64 {
        ALIVE.load(Ordering::SeqCst)
    }
}

impl Default for Counted {
    fn default() -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Counted(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where serde is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Thorn {
    /// In the return value, not in the argument.
    pub(crate) in_result: bool,
    /// When it is read back, not when it is written.
    pub(crate) when_read: bool,
    /// With a panic.
    pub(crate) panics: bool,
}

/// The place of a thorn: in the argument, or in the return value.
pub(crate) struct Place<const RESULT: bool>(pub(crate) Option<Thorn>);

impl<const RESULT: bool> Place<RESULT> {
    fn pricks(&self, reading: bool) -> Option<&'static str> {
        let thorn = self.0.filter(|thorn| (thorn.in_result, thorn.when_read) == (RESULT, reading))?;
        if thorn.panics {
            panic!("{PANICS}");
        }
        Some("a thorn")
    }
}

/// What a panic of a thorn says.
pub(crate) const PANICS: &str = "the storm: a thorn that panics";

impl<const RESULT: bool> Serialize for Place<RESULT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.pricks(false).map_or(Ok(()), |words| Err(S::Error::custom(words)))?;
        self.0.serialize(serializer)
    }
}

impl<'de, const RESULT: bool> Deserialize<'de> for Place<RESULT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let place = Place(Option::deserialize(deserializer)?);
        place.pricks(true).map_or(Ok(()), |words| Err(D::Error::custom(words)))?;
        Ok(place)
    }
}
