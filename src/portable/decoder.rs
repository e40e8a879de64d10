//! Reads the postcard format, from a side that is not trusted. (postcard itself writes it.)
//!
//! Not here: what becomes of a value that does not decode (`mod.rs`). The rule: **what decoding
//! costs follows the bytes that are there, not what they claim.** A reader that trusts them has no
//! bound for:
//!
//! - **Time:** a sequence of 2^64 elements that take no bytes, such as `Vec<()>`. Here a value has as many
//!   elements as bytes at the most, and [`EMPTY`] more.
//! - **Memory:** room for all that is announced, again at each level. Here for as many elements as bytes.
//! - **Stack:** a list of boxes goes down a level every byte or two, until the stack is over, and with it
//!   the process, its pool, and all that the pool has to do. Here [`STACK`] bytes of it.
//!
//! No honest value is refused for its elements: one that takes bytes has a byte that is no other
//! element's, because a sequence inside of it brings a byte for its length.
//!
//! How large an element is, and what it sets aside itself, is the type's affair. Measured over whole
//! replies (`tests/hostile.rs`): at most 2.6 times the size of its element for each byte that arrived,
//! as a `Vec` is moved when it grows (63 bytes for an empty `String`, which is one byte here); and
//! 3 MiB at most for values that claim what is not there.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

/// How many elements more than bytes the sequences and maps of one value may have, all together:
/// for those elements that take none.
const EMPTY: usize = 1 << 20;

/// Stack that decoding may take. A thread of a pool has two MiB, unless `RUST_MIN_STACK` says otherwise.
const STACK: usize = 1 << 20;

/// Reads a value that is all of `bytes`.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Bad> {
    let here = 0_u8;
    let bottom = std::ptr::from_ref(&here).addr();
    let mut decoder = Decoder { rest: bytes, elements: bytes.len().saturating_add(EMPTY), bottom };
    let value = T::deserialize(&mut decoder)?;
    match decoder.rest.len() {
        0 => Ok(value),
        left => Err(Bad::left_over(left)),
    }
}

/// Why bytes are no value of that type. In a box: each level of nesting has room for one on the stack.
#[derive(Debug)]
pub(super) struct Bad(Box<Cow<'static, str>>);

impl Bad {
    #[cold]
    fn new(reason: &'static str) -> Bad {
        Bad(Box::new(reason.into()))
    }

    pub(super) fn ended() -> Bad {
        Bad::new("the bytes end inside it")
    }

    #[cold]
    pub(super) fn left_over(count: usize) -> Bad {
        Bad::custom(format_args!("{count} bytes are left over"))
    }

    pub(super) fn no_text() -> Bad {
        Bad::new("a text is not UTF-8")
    }

    fn too_large() -> Bad {
        Bad::new("a number is too large for its type")
    }

    fn too_many() -> Bad {
        Bad::new(
            "it announces more elements than it has bytes, and a million more \
             (of elements that take no bytes, send the number)",
        )
    }

    fn too_deep() -> Bad {
        Bad::new(
            "it is nested so deeply that to read it takes more than 1 MiB of stack \
             (a list of boxes can travel as a `Vec`)",
        )
    }
}

impl Error for Bad {
    fn custom<T: fmt::Display>(words: T) -> Bad {
        Bad(Box::new(words.to_string().into()))
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Bad {}

struct Decoder<'de> {
    rest: &'de [u8],
    /// How many may still be announced.
    elements: usize,
    /// Where the stack was when decoding began.
    bottom: usize,
}

/// What is left of a sequence, a map, a tuple, a struct.
struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

/// Numbers come seven bits a byte, the lowest first; the eighth bit says that there are more.
macro_rules! numbers {
    ($($name:ident: $number:ty),*) => { $(
        #[inline]
        fn $name(&mut self) -> Result<$number, Bad> {
            const MOST: usize = <$number>::BITS.div_ceil(7) as usize;
            let mut number = 0;
            for (place, &byte) in self.rest.iter().take(MOST).enumerate() {
                number |= <$number>::from(byte & 0x7f) << (7 * place);
                if byte < 0x80 {
                    self.rest = &self.rest[place + 1..];
                    let room = <$number>::BITS - 7 * place as u32;
                    let fits = room >= 7 || byte >> room == 0;
                    return if fits { Ok(number) } else { Err(Bad::too_large()) };
                }
            }
            Err(if self.rest.len() < MOST { Bad::ended() } else { Bad::too_large() })
        }
    )* };
}

// Without `inline`, a call for every number: the types are of other crates.
impl<'de> Decoder<'de> {
    numbers!(u16: u16, u32: u32, u64: u64, u128: u128);

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'de [u8], Bad> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or_else(Bad::ended)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(Bad::ended)?;
        self.rest = rest;
        Ok(*array)
    }

    #[inline]
    fn u8(&mut self) -> Result<u8, Bad> {
        self.array().map(|[byte]| byte)
    }

    /// A length that no memory holds is longer than what is there, too.
    #[inline]
    fn length(&mut self) -> Result<usize, Bad> {
        self.u64().map(|length| usize::try_from(length).unwrap_or(usize::MAX))
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'de [u8], Bad> {
        let length = self.length()?;
        self.take(length)
    }

    #[inline]
    fn text(&mut self) -> Result<&'de str, Bad> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Bad::no_text())
    }

    /// To be called for all that may have values inside: no recursion gets around it.
    #[inline]
    fn deeper(&mut self) -> Result<&mut Self, Bad> {
        let here = 0_u8;
        let depth = std::ptr::from_ref(&here).addr().abs_diff(self.bottom);
        if depth > STACK { Err(Bad::too_deep()) } else { Ok(self) }
    }

    /// So many values, says the type.
    #[inline]
    fn fixed(&mut self, count: usize) -> Result<Elements<'_, 'de>, Bad> {
        Ok(Elements { decoder: self.deeper()?, left: count })
    }

    /// So many values, say the bytes.
    #[inline]
    fn announced(&mut self) -> Result<Elements<'_, 'de>, Bad> {
        let decoder = self.deeper()?;
        let left = decoder.length()?;
        decoder.elements = decoder.elements.checked_sub(left).ok_or_else(Bad::too_many)?;
        Ok(Elements { decoder, left })
    }
}

impl Elements<'_, '_> {
    /// Is there one more?
    #[inline]
    fn next(&mut self) -> bool {
        let more = self.left > 0;
        self.left -= usize::from(more);
        more
    }

    /// Room may be set aside for so many. Not once there are more elements than bytes: then some
    /// take no bytes, and so no room, or they are a lie.
    #[inline]
    fn hint(&self) -> Option<usize> {
        (self.decoder.elements >= EMPTY).then_some(self.left)
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Bad;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Bad> {
        if self.next() { seed.deserialize(&mut *self.decoder).map(Some) } else { Ok(None) }
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = Bad;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Bad> {
        if self.next() { seed.deserialize(&mut *self.decoder).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Bad> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> EnumAccess<'de> for &mut Decoder<'de> {
    type Error = Bad;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Bad> {
        let index: U32Deserializer<Bad> = self.u32()?.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Decoder<'de> {
    type Error = Bad;

    fn unit_variant(self) -> Result<(), Bad> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Bad> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_seq(self.fixed(count)?)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &[&str], visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_seq(self.fixed(fields.len())?)
    }
}

/// What is asked for, and what the visitor is told.
macro_rules! values {
    ($($asked:ident($($name:ident: $type:ty),*) => $told:ident($decoder:ident => $value:expr);)*) => { $(
        fn $asked<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, Bad> {
            let $decoder = self;
            visitor.$told($value)
        }
    )* };
}

/// What is near zero on either side is a small number: 0, -1, 1, -2, …
macro_rules! signed {
    ($number:expr => $type:ty) => {{
        let number = $number;
        (number >> 1) as $type ^ -((number & 1) as $type)
    }};
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Bad;

    values! {
        deserialize_u8() => visit_u8(it => it.u8()?);
        deserialize_u16() => visit_u16(it => it.u16()?);
        deserialize_u32() => visit_u32(it => it.u32()?);
        deserialize_u64() => visit_u64(it => it.u64()?);
        deserialize_u128() => visit_u128(it => it.u128()?);
        deserialize_i8() => visit_i8(it => it.u8()?.cast_signed());
        deserialize_i16() => visit_i16(it => signed!(it.u16()? => i16));
        deserialize_i32() => visit_i32(it => signed!(it.u32()? => i32));
        deserialize_i64() => visit_i64(it => signed!(it.u64()? => i64));
        deserialize_i128() => visit_i128(it => signed!(it.u128()? => i128));
        deserialize_f32() => visit_f32(it => f32::from_le_bytes(it.array()?));
        deserialize_f64() => visit_f64(it => f64::from_le_bytes(it.array()?));
        deserialize_str() => visit_borrowed_str(it => it.text()?);
        deserialize_string() => visit_borrowed_str(it => it.text()?);
        deserialize_bytes() => visit_borrowed_bytes(it => it.bytes()?);
        deserialize_byte_buf() => visit_borrowed_bytes(it => it.bytes()?);
        deserialize_newtype_struct(_name: &'static str) => visit_newtype_struct(it => it.deeper()?);
        deserialize_seq() => visit_seq(it => it.announced()?);
        deserialize_map() => visit_map(it => it.announced()?);
        deserialize_tuple(count: usize) => visit_seq(it => it.fixed(count)?);
        deserialize_tuple_struct(_name: &'static str, count: usize) => visit_seq(it => it.fixed(count)?);
        deserialize_struct(_name: &'static str, fields: &'static [&'static str]) =>
            visit_seq(it => it.fixed(fields.len())?);
        deserialize_enum(_name: &'static str, _variants: &'static [&'static str]) =>
            visit_enum(it => it.deeper()?);
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        match self.u8()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => Err(Bad::new("a `bool` is neither 0 nor 1")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        match self.u8()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self.deeper()?),
            _ => Err(Bad::new("an `Option` begins with neither 0 nor 1")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        let mut chars = self.text()?.chars();
        match (chars.next(), chars.next()) {
            (Some(one), None) => visitor.visit_char(one),
            _ => Err(Bad::new("a `char` is not one character")),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_unit()
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Bad> {
        Err(Bad::new("the format does not say what comes next, as untagged and flattened types need it to"))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
