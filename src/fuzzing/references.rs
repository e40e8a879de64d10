//! The check of descriptors. An input says where it points in a way that holds in every build:
//!
//! ```text
//! byte  0       1       2                10
//!       │ place │ types │ distance (i64) │ other types (u64) │
//!
//!   place   & 0x7f: that function of the list, or else the anchor; & 0x80: the distance counts in 16 bytes
//!   types         : of that function of the list, or else the other types
//! ```

use crate::portable::{self, Beside, Each, Once, Plain};
use crate::wire::frame::{HEADER, Kind, Parcel};
use crate::wire::message::FunctionRef;

fn double(n: u32) -> u32 {
    n.wrapping_mul(2)
}

fn triple(n: u32) -> u32 {
    n.wrapping_mul(3)
}

/// How a function is called, and what must come of it.
struct Known {
    reference: FunctionRef,
    argument: Vec<u8>,
    reply: Vec<u8>,
}

fn known() -> [Known; 3] {
    fn bytes(n: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        portable::encode(&n, &mut bytes, "number").expect("a number");
        bytes
    }
    let entry = |n| {
        let mut entry = Vec::new();
        portable::put_entry(&mut entry, |out| {
            out.extend(bytes(n));
            Ok(())
        });
        entry
    };
    let once = portable::of(&Once(Plain::<_, u32, u32>::new(double))).expect("a function");
    let other = portable::of(&Once(Plain::<_, u32, u32>::new(triple))).expect("a function");
    let each = portable::of(&Each(Plain::<_, u32, u32>::new(double))).expect("a function");
    [
        Known { reference: once, argument: bytes(21), reply: bytes(42) },
        Known { reference: other, argument: bytes(21), reply: bytes(63) },
        Known { reference: each, argument: entry(21), reply: entry(42) },
    ]
}

/// A reference leads to a function of the types that it names, or nowhere; looking does no harm.
pub fn references(data: &[u8]) {
    let Some((&[place, types], rest)) = data.split_first_chunk::<2>() else { return };
    let Some((&distance, rest)) = rest.split_first_chunk::<8>() else { return };
    let distance = i64::from_le_bytes(distance);
    let scale = if place & 0x80 == 0 { 1 } else { 16 };
    let known = known();
    let from = known.get(usize::from(place & 0x7f));
    let of = known.get(usize::from(types));
    let offset = from.map_or(0, |known| known.reference.offset).wrapping_add(distance.wrapping_mul(scale));
    let types = match (of, rest.first_chunk::<8>()) {
        (Some(known), _) => known.reference.types,
        (None, Some(&types)) => u64::from_le_bytes(types),
        (None, None) => return,
    };

    match portable::resolve(FunctionRef { offset, types }) {
        Ok(descriptor) => {
            assert_eq!(portable::types_of(descriptor), types);
            // Whatever else the program may hold is not ours to call.
            if let Some(known) = known.iter().find(|known| known.reference.types == types) {
                let mut reply = Parcel::begin(Kind::Returned, 1);
                (descriptor.serve)(&mut known.argument.clone(), &mut reply, &mut Beside::default())
                    .expect("a call of it");
                assert_eq!(reply.bytes[HEADER..], known.reply, "it is another function");
            }
        }
        Err(reason) => {
            assert!(!reason.is_empty());
            let is_one = |known: &Known| (known.reference.offset, known.reference.types) == (offset, types);
            assert!(!known.iter().any(is_one), "a function was refused: {reason}");
        }
    }
}
