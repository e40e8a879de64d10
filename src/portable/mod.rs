//! What may travel to another process: functions known by their type alone, and values that
//! serde can carry.
//!
//! Not here: frames and pipes (`wire`, `process`), nor how an address becomes a function again
//! (`descriptor.rs`). The rule: one bad argument, return value or panic costs one call, also
//! inside a batch; everything user-written runs where a panic is caught.

mod bulk;
mod decoder;
mod descriptor;
mod entries;
#[cfg(unix)]
mod image;
#[cfg(any(test, feature = "amqp"))]
mod shape;

use std::error::Error as StdError;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(unix)]
pub(crate) use descriptor::identity;
#[cfg(any(test, fuzzing))]
pub(crate) use descriptor::types_of;
pub(crate) use descriptor::{of, resolve};
#[cfg(any(test, fuzzing))]
pub(crate) use entries::put_entry;
pub(crate) use entries::{Entries, put_entries};

use crate::enclosed::{Enclosure, Received, Towards, collect, collect_into, unpacking};
use crate::error::Panic;
use crate::id::TaskRef;
use crate::outcome::{catch, catch_for_the_host};
use crate::wire::frame::Parcel;
use crate::wire::message::{Failure, RemoteCause};

/// What can be an argument or a return value of a call that may run in another process:
/// everything that serde can write and read back, and that borrows nothing.
///
/// There is nothing to implement: the trait holds for all such types.
///
/// The format is [postcard](https://postcard.jamesmunns.com/wire-format), which does not describe
/// itself: types that need `deserialize_any` (untagged enums, `#[serde(flatten)]`,
/// `serde_json::Value`) end their call with [`Error::Encode`](crate::Error::Encode) or
/// [`Error::Decode`](crate::Error::Decode).
///
/// An argument or a return value that is a number, a `Vec<u8>`, a `String`, or a `Vec` of numbers goes past serde: it
/// travels as it lies in memory, at the speed of the pipe, and a large one is not copied on its way into it.
/// (Numbers are copied once on their way out.) Inside of a tuple or a struct such a vector goes element by
/// element, some ten times slower; there they are better off as a [`Blob`](crate::Blob) or a
/// [`Shared`](crate::Shared), which travel at that speed anywhere, and are not copied at all if they are long.
///
/// What arrives is not trusted, so reading it has bounds, beyond which the call ends with
/// [`Error::Decode`](crate::Error::Decode). A value may be nested as deep as 1 MiB of stack allows: a
/// list of boxes can have some ten thousand of them, or one thousand in a debug build. And it may have
/// no more elements than bytes and a million, which only a long `Vec<()>` has.
///
/// ```
/// use concurrent_futures::{Executor, ProcessPoolExecutor};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order {
///     item: String,
///     count: u32,
///     gift: Option<String>,
/// }
///
/// fn describe(order: Order) -> String {
///     format!("{} × {}", order.count, order.item)
/// }
///
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();
///     let pool = ProcessPoolExecutor::new(1)?;
///     let order = Order { item: "tea".into(), count: 2, gift: None };
///     assert_eq!(pool.submit(describe, order).result()?, "2 × tea");
///     Ok(())
/// }
/// ```
pub trait Portable: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Portable for T {}

/// The error that a function returned, and what its type was called.
pub(crate) struct Raised {
    pub(crate) type_name: &'static str,
    pub(crate) error: Box<dyn StdError + Send + Sync>,
}

/// A function that its type names: a `fn` item or a closure that captures nothing.
pub(crate) trait Function: Copy + Send + 'static {
    type Argument: Send + 'static;
    type Return: Send + 'static;
    /// An `Err` of it is an error of the call, not its value.
    #[cfg(feature = "amqp")]
    const FALLIBLE: bool;

    fn name() -> &'static str;
    fn call(self, argument: Self::Argument) -> Result<Self::Return, Raised>;
}

/// A function of `submit` and `map`: whatever it returns is the value.
pub(crate) struct Plain<F, A, R>(F, PhantomData<fn(A) -> R>);

/// A function of `try_submit` and `try_map`: its `Err` is the future's error.
pub(crate) struct Fallible<F, A, R, E>(F, PhantomData<fn(A) -> Result<R, E>>);

impl<F, A, R> Plain<F, A, R> {
    pub(crate) fn new(function: F) -> Self {
        Plain(function, PhantomData)
    }
}

impl<F, A, R, E> Fallible<F, A, R, E> {
    pub(crate) fn new(function: F) -> Self {
        Fallible(function, PhantomData)
    }
}

impl<F: Copy, A, R> Copy for Plain<F, A, R> {}
impl<F: Copy, A, R> Clone for Plain<F, A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Copy, A, R, E> Copy for Fallible<F, A, R, E> {}
impl<F: Copy, A, R, E> Clone for Fallible<F, A, R, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F, A, R> Function for Plain<F, A, R>
where
    F: Fn(A) -> R + Copy + Send + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    type Argument = A;
    type Return = R;
    #[cfg(feature = "amqp")]
    const FALLIBLE: bool = false;

    fn name() -> &'static str {
        std::any::type_name::<F>()
    }

    fn call(self, argument: A) -> Result<R, Raised> {
        Ok((self.0)(argument))
    }
}

impl<F, A, R, E> Function for Fallible<F, A, R, E>
where
    F: Fn(A) -> Result<R, E> + Copy + Send + 'static,
    A: Send + 'static,
    R: Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>> + 'static,
{
    type Argument = A;
    type Return = R;
    #[cfg(feature = "amqp")]
    const FALLIBLE: bool = true;

    fn name() -> &'static str {
        std::any::type_name::<F>()
    }

    fn call(self, argument: A) -> Result<R, Raised> {
        (self.0)(argument).map_err(Raised::new)
    }
}

impl Raised {
    pub(crate) fn new<E: Into<Box<dyn StdError + Send + Sync>>>(error: E) -> Self {
        Raised { type_name: std::any::type_name::<E>(), error: error.into() }
    }
}

/// A function as it is known where its address means nothing.
#[cfg(feature = "amqp")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) function: &'static str,
    /// Of its argument and its value.
    pub(crate) shape: u64,
    /// It is called once for each entry.
    pub(crate) each: bool,
    pub(crate) fallible: bool,
}

#[cfg(feature = "amqp")]
impl Named {
    pub(crate) fn of<Fun: Function<Argument: Portable, Return: Portable>>(each: bool) -> Named {
        let shape = shape::of_both::<Fun::Argument, Fun::Return>();
        Named { function: Fun::name(), shape, each, fallible: Fun::FALLIBLE }
    }
}

/// What a worker process does with the bytes of a call. Known by its type alone, as its function is.
pub(crate) trait Remote: Copy + 'static {
    /// Appends the return value to `reply`. On failure `reply` may hold a part of it. The memory of the
    /// argument's bytes may become that of the argument.
    fn serve(self, argument: &mut Vec<u8>, reply: &mut Parcel, beside: &mut Beside) -> Result<(), Failure>;
}

/// What comes beside the bytes of an argument, and what goes beside those of a return value.
#[derive(Default)]
pub(crate) struct Beside {
    pub(crate) received: Received,
    pub(crate) enclosed: Vec<Enclosure>,
}

/// One call: the argument's bytes in, the return value's bytes out.
#[derive(Clone, Copy)]
pub(crate) struct Once<Fun>(pub(crate) Fun);

/// One call an entry, in order (`entries.rs`).
#[derive(Clone, Copy)]
pub(crate) struct Each<Fun>(pub(crate) Fun);

impl<Fun> Remote for Once<Fun>
where
    Fun: Function<Argument: Portable, Return: Portable>,
{
    fn serve(self, argument: &mut Vec<u8>, reply: &mut Parcel, beside: &mut Beside) -> Result<(), Failure> {
        catch_for_the_host(Fun::name(), || {
            let argument = unpacking(&beside.received, || unpack(argument, "argument"))?;
            // What is not in the argument is nobody's.
            beside.received = Received::default();
            let mut value = self.0.call(argument).map_err(raised)?;
            collect_into(Towards::Host, &mut beside.enclosed, || pack(&mut value, reply, "return value"))
        })
        .unwrap_or_else(|panic| Err(panicked(&panic)))
    }
}

impl<Fun> Remote for Each<Fun>
where
    Fun: Function<Argument: Portable, Return: Portable>,
{
    fn serve(self, argument: &mut Vec<u8>, reply: &mut Parcel, beside: &mut Beside) -> Result<(), Failure> {
        let Beside { received, enclosed } = beside;
        let mut malformed = None;
        let arguments =
            Entries(argument).map_while(|entry| entry.map_err(|reason| malformed = Some(reason)).ok());
        put_entries(
            arguments,
            &mut reply.bytes,
            |run| catch_for_the_host(Fun::name(), run),
            |argument, reply| {
                let argument = unpacking(received, || decode(argument?, "argument"))?;
                let value = self.0.call(argument).map_err(raised)?;
                collect_into(Towards::Host, enclosed, || encode(&value, reply, "return value"))
            },
        );
        match malformed {
            None => Ok(()),
            Some(reason) => Err(Failure::Undecodable { what: "argument".into(), reason }),
        }
    }
}

/// Appends a value. On failure `out` may hold a part of it.
#[inline]
pub(crate) fn encode<T: Serialize + 'static>(
    value: &T,
    out: &mut Vec<u8>,
    what: &str,
) -> Result<(), Failure> {
    if let Some(bytes) = bulk::bytes_of(value) {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    postcard::serialize_with_flavor(value, Appending(out))
        .map_err(|error| Failure::Unencodable { what: what.into(), reason: about::<T>(error) })
}

/// Up to so many bytes, to copy them one by one is cheaper than the call that copies them. A number has ten at most.
const SHORT: usize = 10;

/// Lets postcard write behind what is in the buffer already.
struct Appending<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appending<'_> {
    type Output = ();

    // Without `inline`, a call for every byte: the serializer is of another crate.
    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() <= SHORT {
            self.0.extend(bytes.iter().copied());
        } else {
            self.0.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// The same for a value that is not needed any more. A large one that is nothing but its bytes is not
/// copied, but taken: the parcel has it, and an empty one is left.
pub(crate) fn pack<T: Serialize + 'static>(
    value: &mut T,
    out: &mut Parcel,
    what: &str,
) -> Result<(), Failure> {
    match bulk::take(value) {
        Some(bulk) => {
            out.put(bulk);
            Ok(())
        }
        None => encode(value, &mut out.bytes, what),
    }
}

/// Reads a value that is all of `bytes`; it costs no more than `decoder.rs` allows.
#[inline]
pub(crate) fn decode<T: DeserializeOwned + 'static>(bytes: &[u8], what: &str) -> Result<T, Failure> {
    let value = bulk::value_of(bytes).unwrap_or_else(|| decoder::decode(bytes));
    value.map_err(|reason| Failure::Undecodable { what: what.into(), reason: about::<T>(reason) })
}

/// The same for bytes that are not needed any more: their memory may become that of the value.
pub(crate) fn unpack<T: DeserializeOwned + 'static>(bytes: &mut Vec<u8>, what: &str) -> Result<T, Failure> {
    match bulk::made_of(bytes) {
        Some(value) => {
            value.map_err(|reason| Failure::Undecodable { what: what.into(), reason: about::<T>(reason) })
        }
        None => decode(bytes, what),
    }
}

/// postcard drops the words of `Serialize`; the type's name leads to them.
fn about<T>(reason: impl std::fmt::Display) -> String {
    format!("`{}`: {reason}", std::any::type_name::<T>())
}

fn raised(raised: Raised) -> Failure {
    let mut sources = Vec::new();
    let mut source = raised.error.source();
    // A chain of sources may run in a circle.
    while let Some(error) = source.filter(|_| sources.len() < RemoteCause::MAX_SOURCES) {
        sources.push(error.to_string());
        source = error.source();
    }
    Failure::Raised(RemoteCause {
        type_name: raised.type_name.into(),
        message: raised.error.to_string(),
        sources,
    })
}

pub(crate) fn panicked(panic: &Panic) -> Failure {
    Failure::Panicked {
        message: panic.message().into(),
        location: panic.location().map(Into::into),
        backtrace: panic.backtrace().map(Into::into),
    }
}

/// Runs the user's `Serialize`, into a frame for a worker; says what it encloses, and has the frame say that there is some.
pub(crate) fn enclosing(
    task: TaskRef,
    frame: &mut Parcel,
    encode: impl FnOnce(&mut Parcel) -> Result<(), Failure>,
) -> Result<Vec<Enclosure>, Failure> {
    let (encoded, enclosed) = collect(Towards::Worker, || guarded(task, || encode(frame)));
    if !enclosed.is_empty() {
        frame.enclose();
    }
    encoded.map(|()| enclosed)
}

/// Runs the user's `Serialize` or `Deserialize` in the host; its panic is one more failure.
pub(crate) fn guarded<R>(task: TaskRef, code: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    catch(task, code).unwrap_or_else(|panic| Err(panicked(&panic)))
}
