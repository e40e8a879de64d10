//! How a function travels as an address, checked. The one file that turns bytes into a call.
//!
//! A worker is a copy of this very binary, so what stands in its read-only data stands there in
//! the worker too, at the same distance from any other `static`. For each function that is ever
//! submitted the compiler places one constant there:
//!
//! ```text
//!   ANCHOR ──── offset (i64) ────▶ Descriptor │ magic │ types (TypeId) │ serve (fn) │
//! ```
//!
//! The offset and a hash of the types go over the wire. Before the worker follows them it knows
//! from the handshake that both sides are the same binary, and checks that the place is aligned,
//! lies whole inside the read-only part of the image that holds the anchor, bears the magic, and
//! names the same types. Whatever fails is an error of that call. Only a worker follows what it was
//! sent: the host resolves references of its own making, so no worker can make it jump.
//!
//! The anchor is a `static`: the address of a `fn` is not unique across codegen units.

#![allow(unsafe_code)]

use std::any::TypeId;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use super::{Beside, Remote};
use crate::wire::frame::Parcel;
use crate::wire::message::{Failure, FunctionRef};

type Serve = fn(&mut Vec<u8>, &mut Parcel, &mut Beside) -> Result<(), Failure>;

/// What the image holds for each function that can travel.
#[repr(C, align(16))]
pub(crate) struct Descriptor {
    magic: [u8; 16],
    types: TypeId,
    pub(crate) serve: Serve,
}

const MAGIC: [u8; 16] = *b"\xb7cf descriptor\xd1\x9e";

static ANCHOR: Descriptor =
    Descriptor { magic: [0; 16], types: TypeId::of::<Descriptor>(), serve: |_, _, _| Ok(()) };

struct Of<C>(PhantomData<C>);

impl<C: Remote> Of<C> {
    const DESCRIPTOR: &'static Descriptor =
        &Descriptor { magic: MAGIC, types: TypeId::of::<C>(), serve: serve::<C> };
}

/// The reference to a function's descriptor. `function` is a witness: a value of its type exists.
pub(crate) fn of<C: Remote>(_function: &C) -> Result<FunctionRef, String> {
    let descriptor = Of::<C>::DESCRIPTOR;
    let address = std::ptr::from_ref(descriptor).expose_provenance();
    let function =
        FunctionRef { offset: address.wrapping_sub(anchor()) as i64, types: hash(descriptor.types) };
    // Refused here already if the worker would refuse it (a function of a shared library).
    resolve(function).map(|_| function)
}

/// The descriptor that a reference leads to, if it leads to one.
pub(crate) fn resolve(function: FunctionRef) -> Result<&'static Descriptor, String> {
    let address = anchor().wrapping_add(function.offset as usize);
    if !address.is_multiple_of(align_of::<Descriptor>()) {
        return Err("its reference is not aligned".into());
    }
    if !is_read_only(address, size_of::<Descriptor>()) {
        return Err(
            "it is not part of the main program (functions of shared libraries and plugins cannot travel)"
                .into(),
        );
    }
    let place = std::ptr::with_exposed_provenance::<Descriptor>(address);
    // SAFETY: `place` is aligned, and all of it lies in memory of the image that is mapped for the
    // life of the process and never written to after relocation (checked above), so reading plain
    // bytes there is sound whatever they mean. The image was mapped by the loader, outside of what
    // the compiler sees: its addresses count as exposed.
    let (magic, serve) = unsafe {
        let serve = &raw const (*place).serve;
        (place.cast::<[u8; 16]>().read_volatile(), serve.cast::<usize>().read_volatile())
    };
    if magic != MAGIC || serve == 0 {
        return Err("its reference does not lead to a function".into());
    }
    // SAFETY: as above, the memory is readable and constant. Every pattern of bytes is a valid
    // `Descriptor` but one with a null function, which was ruled out. Nothing is called yet: that
    // it is one of the constants of `Of`, and not bytes that happen to begin with the magic, rests
    // on the handshake (both sides are one binary, so the host's offset is no stray one) and on
    // the types, which are compared next.
    let descriptor = unsafe { &*place };
    if hash(descriptor.types) != function.types {
        return Err("its reference leads to a function of other types".into());
    }
    Ok(descriptor)
}

/// What a reference to it must name.
#[cfg(any(test, fuzzing))]
pub(crate) fn types_of(descriptor: &Descriptor) -> u64 {
    hash(descriptor.types)
}

/// What two processes must have in common before one follows a reference of the other.
#[cfg(unix)]
pub(crate) fn identity(executable: &std::path::Path) -> u128 {
    super::image::identity(anchor(), executable)
}

fn anchor() -> usize {
    std::ptr::from_ref(&ANCHOR).expose_provenance()
}

/// Does the range lie in read-only memory of the image that holds the anchor?
fn is_read_only(address: usize, length: usize) -> bool {
    #[cfg(unix)]
    {
        super::image::of(anchor()).is_read_only(address, length)
    }
    #[cfg(not(unix))]
    {
        let _ = (address, length);
        false
    }
}

/// Equal in two processes of one binary. A `TypeId` is a hash by itself, so this need not mix much; and each call is
/// checked with it three times.
fn hash(types: TypeId) -> u64 {
    struct Folded(u64);

    impl Hasher for Folded {
        fn write_u64(&mut self, number: u64) {
            self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
        }

        fn write(&mut self, bytes: &[u8]) {
            bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
        }

        fn finish(&self) -> u64 {
            self.0
        }
    }

    let mut hasher = Folded(0);
    types.hash(&mut hasher);
    hasher.finish()
}

fn serve<C: Remote>(argument: &mut Vec<u8>, reply: &mut Parcel, beside: &mut Beside) -> Result<(), Failure> {
    // The compile error for closures that capture: they have a size.
    const {
        assert!(
            size_of::<C>() == 0,
            "only a function or a closure that captures nothing can be handed to an `Executor`: what it captures \
             would stay behind in this process. Pass it as the argument (several as a tuple). A `fn` pointer \
             captures an address: name the function itself"
        );
    }
    // SAFETY: `C` has no bytes, so none is left uninitialised, and a dangling pointer that is
    // aligned may be read for it. That such a value may exist: it is `Copy`, and this function is
    // reached only by way of `Of::<C>::DESCRIPTOR`, whose reference `of` gave out for a value of
    // `C` that the host held; ours is one more copy of that one.
    let function = unsafe { std::ptr::NonNull::<C>::dangling().read() };
    function.serve(argument, reply, beside)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{Once, Plain};
    use super::*;
    use crate::wire::frame::{HEADER, Kind};

    fn double(n: u32) -> u32 {
        n * 2
    }

    fn triple(n: u32) -> u32 {
        n * 3
    }

    fn generic<T: std::ops::Add<Output = T> + Copy>(n: T) -> T {
        n + n
    }

    fn call(function: FunctionRef, n: u32) -> u32 {
        let descriptor = resolve(function).unwrap();
        let (mut argument, mut reply) = (Vec::new(), Parcel::begin(Kind::Returned, 1));
        super::super::encode(&n, &mut argument, "argument").unwrap();
        (descriptor.serve)(&mut argument, &mut reply, &mut Beside::default()).unwrap();
        super::super::decode(&reply.bytes[HEADER..], "return value").unwrap()
    }

    #[test]
    fn a_reference_leads_back_to_its_function() {
        assert_eq!(call(of(&Once(Plain::<_, u32, u32>::new(double))).unwrap(), 21), 42);
        assert_eq!(call(of(&Once(Plain::<_, u32, u32>::new(triple))).unwrap(), 21), 63);
        assert_eq!(call(of(&Once(Plain::<_, u32, u32>::new(generic::<u32>))).unwrap(), 4), 8);
        assert_eq!(call(of(&Once(Plain::<_, u32, u32>::new(|n| n + 1))).unwrap(), 4), 5);
    }

    #[test]
    fn a_stray_reference_is_refused() {
        let good = of(&Once(Plain::<_, u32, u32>::new(double))).unwrap();
        let refused = |function: FunctionRef| resolve(function).err().expect("it was followed");
        assert!(refused(FunctionRef { offset: good.offset + 1, ..good }).contains("aligned"));
        assert!(refused(FunctionRef { offset: i64::MIN, ..good }).contains("main program"));
        assert!(refused(FunctionRef { types: good.types ^ 1, ..good }).contains("other types"));
        assert!(refused(FunctionRef { offset: 0, ..good }).contains("does not lead to a function"));
        let boxed = Box::new([0u128; 8]);
        let heap = (std::ptr::from_ref(&*boxed) as usize).wrapping_sub(anchor()) as i64;
        assert!(refused(FunctionRef { offset: heap, ..good }).contains("main program"));
    }

    proptest::proptest! {
        #[test]
        fn no_reference_makes_it_crash(offset: i64, near in -100_000i64..100_000, types: u64) {
            for offset in [offset, near * 16] {
                let _ = resolve(FunctionRef { offset, types });
            }
        }
    }
}
