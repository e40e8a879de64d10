//! Values that are nothing but their bytes: numbers, `Vec<u8>`, `String`, and vectors of numbers.
//!
//! serde hands such a value over element by element. Here it travels as it lies in memory, with nothing in
//! front of it, because both sides are the same binary: one copy on each way into or out of the bytes, and
//! none where the memory itself can be handed on.
//!
//! ```text
//!                      short, or in a batch       large
//!   to be sent         copied into the frame      beside the frame, in its own memory (`Parcel`)
//!   received           copied out of the payload  bytes and text: the payload itself; numbers: copied
//! ```
//!
//! Not here: such values inside of others, which go the way of serde (`decoder.rs`). The rule: it is known by
//! the value's type alone, so both sides know it, and nothing in the bytes can change it.

use std::any::{Any, TypeId};

use super::decoder::Bad;
use crate::wire::frame::Bulk;

/// From here on a value is not copied: it costs more than to keep one piece of memory more.
const LARGE: usize = 16 << 10;

/// Runs that for each kind of number, under the name `N`.
macro_rules! for_all_numbers {
    ($N:ident => $run:block) => {
        for_all_numbers!($N => $run: u8, i8, u16, i16, u32, i32, u64, i64, u128, i128, usize, isize, f32, f64);
    };
    ($N:ident => $run:block: $($number:ty),*) => { $( { type $N = $number; $run } )* };
}

/// The bytes of such a value.
#[inline]
pub(super) fn bytes_of<T: 'static>(value: &T) -> Option<&[u8]> {
    let value: &dyn Any = value;
    if let Some(text) = value.downcast_ref::<String>() {
        return Some(text.as_bytes());
    }
    for_all_numbers!(N => {
        if let Some(number) = value.downcast_ref::<N>() {
            return Some(bytemuck::bytes_of(number));
        }
        if let Some(numbers) = value.downcast_ref::<Vec<N>>() {
            return Some(bytemuck::cast_slice(numbers));
        }
    });
    None
}

/// Is a value of that type such a value?
#[cfg(any(test, feature = "amqp"))]
pub(super) fn is_bulk<T: 'static>() -> bool {
    let asked = TypeId::of::<T>();
    for_all_numbers!(N => {
        if asked == TypeId::of::<N>() || asked == TypeId::of::<Vec<N>>() {
            return true;
        }
    });
    asked == TypeId::of::<String>()
}

/// Takes the memory of such a value if it is a large one, and leaves an empty one.
pub(super) fn take<T: 'static>(value: &mut T) -> Option<Bulk> {
    /// A `Vec<f64>` does not show its bytes by itself.
    struct Numbers<N>(Vec<N>);
    impl<N: bytemuck::NoUninit> AsRef<[u8]> for Numbers<N> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    if bytes_of(value)?.len() < LARGE {
        return None;
    }
    let value: &mut dyn Any = value;
    if let Some(text) = value.downcast_mut::<String>() {
        return Some(Box::new(std::mem::take(text)));
    }
    for_all_numbers!(N => {
        if let Some(numbers) = value.downcast_mut::<Vec<N>>() {
            return Some(Box::new(Numbers(std::mem::take(numbers))));
        }
    });
    None
}

/// Such a value, out of a copy of its bytes. `None`: a `T` is none.
#[inline]
pub(super) fn value_of<T: 'static>(bytes: &[u8]) -> Option<Result<T, Bad>> {
    let text = || std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Bad::no_text());
    if let Some(value) = if_same(text) {
        return Some(value);
    }
    for_all_numbers!(N => {
        if let Some(value) = if_same(|| number::<N>(bytes)) {
            return Some(value);
        }
        if let Some(value) = if_same(|| numbers::<N>(bytes)) {
            return Some(value);
        }
    });
    None
}

/// Such a value, in the memory of its bytes if that fits it. `None`: a `T` is none that has such memory.
pub(super) fn made_of<T: 'static>(bytes: &mut Vec<u8>) -> Option<Result<T, Bad>> {
    let mut all = || {
        // Not more than a quarter of it would be of no use.
        let fits = bytes.len() >= LARGE && bytes.len() >= bytes.capacity() / 4 * 3;
        if fits { std::mem::take(bytes) } else { bytes.clone() }
    };
    if let Some(value) = if_same(|| Ok(all())) {
        return Some(value);
    }
    if_same(|| String::from_utf8(all()).map_err(|_| Bad::no_text()))
}

/// All of the bytes, which need not be aligned.
#[inline]
fn number<N: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Result<N, Bad> {
    bytemuck::try_pod_read_unaligned(bytes).map_err(|_| match bytes.len().checked_sub(size_of::<N>()) {
        Some(left) => Bad::left_over(left),
        None => Bad::ended(),
    })
}

/// The same for as many as there are.
fn numbers<N: bytemuck::AnyBitPattern + bytemuck::NoUninit>(bytes: &[u8]) -> Result<Vec<N>, Bad> {
    if let Ok(numbers) = bytemuck::try_cast_slice(bytes) {
        return Ok(numbers.to_vec());
    }
    let numbers = bytes.chunks_exact(size_of::<N>());
    if numbers.remainder().is_empty() {
        Ok(numbers.map(bytemuck::pod_read_unaligned).collect())
    } else {
        Err(Bad::ended())
    }
}

/// What `make` makes, if that is a `T`.
#[inline]
fn if_same<V: 'static, T: 'static>(make: impl FnOnce() -> Result<V, Bad>) -> Option<Result<T, Bad>> {
    if TypeId::of::<V>() != TypeId::of::<T>() {
        return None;
    }
    let mut made = make().map(Some);
    // The type says that it is one; the compiler does not know.
    let same =
        made.as_mut().map(|value| (value as &mut dyn Any).downcast_mut::<Option<T>>().and_then(Option::take));
    match same {
        Ok(value) => value.map(Ok),
        Err(_) => made.err().map(Err),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::super::{decode, encode, pack, unpack};
    use super::*;
    use crate::wire::frame::{HEADER, Kind, Parcel};

    /// There and back in each way, and nothing of it lost.
    fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug + Clone + 'static>(value: &T) {
        let mut bytes = vec![7];
        encode(value, &mut bytes, "it").unwrap();
        // Not aligned.
        assert!(decode::<T>(&bytes[1..], "it").unwrap() == *value);
        let mut parcel = Parcel::begin(Kind::Returned, 1);
        pack(&mut value.clone(), &mut parcel, "it").unwrap();
        let [before, middle, behind] = parcel.pieces();
        let mut sent = [&before[HEADER..], middle, behind].concat();
        assert!(sent == bytes[1..]);
        assert!(unpack::<T>(&mut sent, "it").unwrap() == *value);
    }

    #[test]
    fn values_of_every_size_survive() {
        for size in [0, 1, 7, LARGE - 1, LARGE, LARGE + 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1] {
            let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            survives(&bytes);
            survives(&bytes.iter().map(|byte| byte.cast_signed()).collect::<Vec<_>>());
            survives(&bytes.iter().map(|byte| char::from(byte % 128)).collect::<String>());
            survives(&bytes.iter().map(|byte| f64::from(*byte)).collect::<Vec<_>>());
            survives(&bytes.chunks(16).map(|some| some.len() as u128).collect::<Vec<_>>());
            // Inside of others they go another way.
            survives(&(String::from("ä"), bytes.clone(), Some(vec![1.5_f64; size / 8])));
            survives(&(bytes,));
        }
    }

    proptest! {
        #[test]
        fn numbers_survive(small: Vec<i16>, words: Vec<u64>, signed: Vec<isize>, large: Vec<i128>, text: String) {
            survives(&small);
            survives(&words);
            survives(&signed);
            survives(&large);
            survives(&text);
            survives(&(small, words, signed, (text, large)));
        }

        #[test]
        fn floats_keep_their_bits(bits: Vec<u64>) {
            let floats: Vec<f64> = bits.iter().map(|bits| f64::from_bits(*bits)).collect();
            let mut bytes = Vec::new();
            encode(&floats, &mut bytes, "it").unwrap();
            let back: Vec<f64> = decode(&bytes, "it").unwrap();
            prop_assert_eq!(back.iter().map(|float| float.to_bits()).collect::<Vec<_>>(), bits);
        }

        #[test]
        fn bytes_that_are_no_such_value_are_an_error(bytes: Vec<u8>) {
            fn read<T: DeserializeOwned + 'static>(bytes: &[u8]) -> bool {
                let (copied, taken) = (decode::<T>(bytes, "it"), unpack::<T>(&mut bytes.to_vec(), "it"));
                assert_eq!(copied.is_ok(), taken.is_ok());
                copied.is_ok()
            }
            prop_assert!(read::<Vec<u8>>(&bytes));
            prop_assert_eq!(read::<Vec<u16>>(&bytes), bytes.len() % 2 == 0);
            prop_assert_eq!(read::<Vec<f32>>(&bytes), bytes.len() % 4 == 0);
            prop_assert_eq!(read::<Vec<u64>>(&bytes), bytes.len() % 8 == 0);
            prop_assert_eq!(read::<Vec<i128>>(&bytes), bytes.len() % 16 == 0);
            prop_assert_eq!(read::<String>(&bytes), std::str::from_utf8(&bytes).is_ok());
        }
    }

    #[test]
    fn a_cut_vector_of_numbers_says_what_it_lacks() {
        let error = decode::<Vec<u64>>(&[0; 12], "argument").unwrap_err();
        assert!(format!("{error:?}").contains("the bytes end inside it"), "{error:?}");
        let mut no_text = vec![b'a'; LARGE];
        no_text.push(0xff);
        let error = unpack::<String>(&mut no_text, "argument").unwrap_err();
        assert!(format!("{error:?}").contains("not UTF-8"), "{error:?}");
    }

    #[test]
    fn the_memory_of_a_large_value_is_handed_on() {
        let mut value = vec![1.5_f64; LARGE];
        let at = value.as_ptr().cast::<u8>();
        let mut parcel = Parcel::begin(Kind::Call, 1);
        pack(&mut value, &mut parcel, "argument").unwrap();
        assert!(value.is_empty());
        assert_eq!(parcel.pieces()[1].as_ptr(), at);

        let mut payload = vec![b'x'; LARGE];
        let at = payload.as_ptr();
        let text: String = unpack(&mut payload, "argument").unwrap();
        assert_eq!((text.as_ptr(), text.len(), payload.capacity()), (at, LARGE, 0));
    }

    #[test]
    fn a_small_value_does_not_keep_a_large_memory() {
        for length in [10, LARGE] {
            let mut payload = Vec::with_capacity(8 * LARGE);
            payload.resize(length, 1_u8);
            let value: Vec<u8> = unpack(&mut payload, "argument").unwrap();
            assert!(value.len() == length && value.capacity() < 2 * LARGE);
            assert!(payload.capacity() >= 8 * LARGE, "it is there for the next one");
        }
        let mut short = vec![1_u8; 10];
        pack(&mut short, &mut Parcel::begin(Kind::Call, 1), "argument").unwrap();
        assert_eq!(short, [1; 10], "it was copied");
    }
}
