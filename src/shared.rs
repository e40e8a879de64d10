//! [`Shared`] and [`Blob`]: many values of one plain kind, which cross the wall between processes as they lie in memory,
//! without a copy for each task.
//!
//! ```text
//!   where it is made         what it is             crosses as                 arrives as
//!   Vec, Box, slice          an `Arc` of them       a copy, made once, kept    the same memory, mapped
//!   `Shared::build`          shared memory          itself                     the same memory, mapped
//!   short, or no such memory an `Arc` of them       bytes                      an `Arc` of them
//! ```
//!
//! Not here: the memory itself (`sealed.rs`), how it crosses (`enclosed.rs`, `process/post.rs`). The rule: what it holds
//! never changes, and is there as long as anybody holds it, in whichever process.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use bytemuck::Pod;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::enclosed::{self, Enclosure};
use crate::primitives::Mutex;
use crate::sealed::{Blank, Mapping, Sealed};

/// Below so many bytes it is cheaper to send them than to share them, even again and again (`benches/bulk.rs`): to map them,
/// and to give them back, takes some ten system calls and a page fault for every few pages.
const SHORT: usize = 128 << 10;

/// Many values of one plain kind, shared and never changed: an `Arc<[T]>` that also crosses into other processes, and is not
/// copied for each task. [`Blob`] is the one for bytes.
///
/// It derefs to a slice. A clone is one more reference, of some nanoseconds, and the last one frees the memory, in whichever
/// process that is. `T` is anything plain ([`bytemuck::Pod`]): numbers, arrays of numbers, structs of them that say so.
///
/// On Linux its values travel in memory that both processes have, and that is sealed, so nobody can change it. To send it
/// costs some tens of microseconds, however long it is, and a page fault for every few pages that a task touches. What
/// was made by [`build`](Self::build) is in such memory from the start; what was made of a `Vec` is copied there when it
/// first crosses, once. Below 128 KiB, on other systems, and where no more memory or descriptors are to be had, its bytes are
/// sent instead. In a thread pool it is the same memory; only a call that may be tried again after an error keeps a copy.
///
/// What arrives is checked: memory that is not sealed, is too long or too short, or did not come at all, is
/// [`Error::Decode`](crate::Error::Decode) of that call.
///
/// Other serializers than those of a pool write its bytes, as they lie in memory.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Shared};
///
/// fn mean((numbers, from, to): (Shared<[f64]>, usize, usize)) -> f64 {
///     numbers[from..to].iter().sum::<f64>() / (to - from) as f64
/// }
///
/// fn main() -> Result<(), Error> {
///     concurrent_futures::init();
///     let pool = ProcessPoolExecutor::new(2)?;
///     let numbers: Shared<[f64]> = (0..1_000_000).map(f64::from).collect();
///     let means: Vec<f64> =
///         pool.map(mean, (0..10).map(|n| (numbers.clone(), n * 100_000, n * 100_000 + 3))).collect::<Result<_, _>>()?;
///     assert_eq!(means[3], 300_001.0);
///     Ok(())
/// }
/// ```
pub struct Shared<S: ?Sized>(Arc<Store<S>>);

/// Bytes, as [`Shared`] has them: for images, files, whatever is long.
///
/// ```
/// use concurrent_futures::Blob;
///
/// let blob = Blob::from(vec![1, 2, 3]);
/// assert_eq!(blob.len(), 3);
/// assert_eq!(&blob[1..], [2, 3]);
/// ```
pub type Blob = Shared<[u8]>;

enum Store<S: ?Sized> {
    Own {
        values: Box<S>,
        /// What was made when it first crossed a wall.
        copy: Mutex<Option<Arc<Sealed>>>,
    },
    Mapped {
        map: Arc<Mapping>,
        sealed: Arc<Sealed>,
    },
}

impl<T: Pod> Shared<[T]> {
    /// What has no bytes cannot be counted by them, and memory that is mapped begins with a page.
    const FITS: () = assert!(
        size_of::<T>() > 0 && align_of::<T>() <= 4096,
        "values that can be shared have a size, and are aligned to a page at the most"
    );

    /// `len` values, all zero, which `fill` makes what they are to be. They are made where they can be shared, so they cross
    /// into other processes without any copy, there and back.
    ///
    /// Costs some ten microseconds, and a page fault for each page (4 KiB) that is written.
    ///
    /// # Panics
    ///
    /// If `fill` does. Then nothing is left of them.
    ///
    /// ```
    /// use concurrent_futures::Shared;
    ///
    /// let squares = Shared::<[u32]>::build(100, |all| {
    ///     all.iter_mut().zip(0..).for_each(|(it, n)| *it = n * n);
    /// });
    /// assert_eq!(squares[7], 49);
    /// ```
    pub fn build(len: usize, fill: impl FnOnce(&mut [T])) -> Self {
        const { Self::FITS };
        let bytes = len.checked_mul(size_of::<T>()).filter(|bytes| *bytes >= SHORT);
        match bytes.map(Blank::new) {
            Some(Ok(mut blank)) => {
                fill(bytemuck::cast_slice_mut(blank.bytes_mut()));
                match blank.seal() {
                    Ok(sealed) => match Self::of(sealed) {
                        Ok(shared) => shared,
                        Err(reason) => unreachable!("it was mapped as such values: {reason}"),
                    },
                    Err(bytes) => Self::own(values_of(&bytes).unwrap_or_default().into()),
                }
            }
            _ => {
                let mut values = vec![T::zeroed(); len].into_boxed_slice();
                fill(&mut values);
                Self::own(values)
            }
        }
    }

    fn own(values: Box<[T]>) -> Self {
        const { Self::FITS };
        Shared(Arc::new(Store::Own { values, copy: Mutex::default() }))
    }

    /// Those that lie in such memory.
    fn of(sealed: Arc<Sealed>) -> Result<Self, String> {
        let map = sealed.map()?;
        bytemuck::try_cast_slice::<u8, T>(map.bytes()).map_err(|_| no_values::<T>(sealed.len()))?;
        Ok(Shared(Arc::new(Store::Mapped { map, sealed })))
    }

    /// The memory to be handed to another process, where that is the better way and there is any.
    fn sealed(&self) -> Option<Arc<Sealed>> {
        match &*self.0 {
            Store::Mapped { sealed, .. } => sealed.is_open().then(|| Arc::clone(sealed)),
            Store::Own { values, copy } => {
                let bytes = bytemuck::cast_slice(values);
                if bytes.len() < SHORT {
                    return None;
                }
                let mut copy = copy.lock();
                if copy.is_none() {
                    *copy = Sealed::copy_of(bytes).ok();
                }
                copy.clone()
            }
        }
    }
}

/// The same values out of bytes that need not be aligned. `None`: they end inside of one.
fn values_of<T: Pod>(bytes: &[u8]) -> Option<Vec<T>> {
    if let Ok(values) = bytemuck::try_cast_slice(bytes) {
        return Some(values.to_vec());
    }
    let values = bytes.chunks_exact(size_of::<T>());
    values.remainder().is_empty().then(|| values.map(bytemuck::pod_read_unaligned).collect())
}

impl<T: Pod> Deref for Shared<[T]> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &*self.0 {
            Store::Own { values, .. } => values,
            Store::Mapped { map, .. } => bytemuck::cast_slice(map.bytes()),
        }
    }
}

impl<S: ?Sized> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl<T: Pod> From<Box<[T]>> for Shared<[T]> {
    fn from(values: Box<[T]>) -> Self {
        Shared::own(values)
    }
}

impl<T: Pod> From<Vec<T>> for Shared<[T]> {
    fn from(values: Vec<T>) -> Self {
        Shared::own(values.into())
    }
}

impl<T: Pod> From<&[T]> for Shared<[T]> {
    fn from(values: &[T]) -> Self {
        Shared::own(values.into())
    }
}

impl<T: Pod, const N: usize> From<[T; N]> for Shared<[T]> {
    fn from(values: [T; N]) -> Self {
        Shared::own(Box::new(values))
    }
}

impl<T: Pod> FromIterator<T> for Shared<[T]> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Shared::own(values.into_iter().collect())
    }
}

impl<T: Pod> Default for Shared<[T]> {
    fn default() -> Self {
        Shared::own(Box::default())
    }
}

impl<T: Pod> AsRef<[T]> for Shared<[T]> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Pod> Borrow<[T]> for Shared<[T]> {
    fn borrow(&self) -> &[T] {
        self
    }
}

impl<'a, T: Pod> IntoIterator for &'a Shared<[T]> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Pod + PartialEq> PartialEq for Shared<[T]> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Pod + Eq> Eq for Shared<[T]> {}

impl<T: Pod + PartialEq> PartialEq<[T]> for Shared<[T]> {
    fn eq(&self, other: &[T]) -> bool {
        self[..] == *other
    }
}

impl<T: Pod + PartialEq> PartialEq<Vec<T>> for Shared<[T]> {
    fn eq(&self, other: &Vec<T>) -> bool {
        self[..] == other[..]
    }
}

/// As that of a slice.
impl<T: Pod + Hash> Hash for Shared<[T]> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Shared<[T]> {
    /// The first of them, and how many there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        let mut list = f.debug_list();
        list.entries(self.iter().take(SHOWN));
        if self.len() > SHOWN {
            list.entry(&format_args!("… {} in all", self.len()));
        }
        list.finish()
    }
}

/// To a pool: the memory itself if it is large, and its bytes if not. To anybody else: its bytes, as they lie in memory.
impl<T: Pod> Serialize for Shared<[T]> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = Bytes(bytemuck::cast_slice(self));
        if serializer.is_human_readable() || !enclosed::is_collecting() {
            return bytes.serialize(serializer);
        }
        let index = self.sealed().and_then(|sealed| enclosed::enclose(Enclosure::Memory(sealed)).ok());
        index.map_or(Said::Bytes(bytes), Said::Enclosed).serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Shared<[T]> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() || !enclosed::is_unpacking() {
            return Values::deserialize(deserializer).map(|Values(values)| Shared::own(values.into()));
        }
        match Heard::deserialize(deserializer)? {
            Heard::Bytes(Values(values)) => Ok(Shared::own(values.into())),
            Heard::Enclosed(index) => enclosed::open(index).and_then(Shared::of).map_err(D::Error::custom),
        }
    }
}

/// What a pool is told.
#[derive(Serialize)]
enum Said<'a> {
    Bytes(Bytes<'a>),
    Enclosed(u32),
}

/// The same on the other side.
#[derive(Deserialize)]
#[serde(bound = "T: Pod")]
enum Heard<T> {
    Bytes(Values<T>),
    Enclosed(u32),
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Values<T>(Vec<T>);

impl<'de, T: Pod> Deserialize<'de> for Values<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsBytes<T>(PhantomData<T>);

        impl<'de, T: Pod> Visitor<'de> for AsBytes<T> {
            type Value = Values<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "the bytes of values of type `{}`", std::any::type_name::<T>())
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Values<T>, E> {
                values_of(bytes).map(Values).ok_or_else(|| E::custom(no_values::<T>(bytes.len())))
            }

            /// Formats that have no bytes write a list of numbers.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Values<T>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element::<u8>()? {
                    bytes.push(byte);
                }
                self.visit_bytes(&bytes)
            }
        }

        deserializer.deserialize_bytes(AsBytes(PhantomData))
    }
}

fn no_values<T>(bytes: usize) -> String {
    let (name, size) = (std::any::type_name::<T>(), size_of::<T>());
    format!("{bytes} bytes are no whole number of `{name}`, each of which has {size}")
}
