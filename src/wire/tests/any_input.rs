//! Any input: properties of frames in every split, and of noise.

use proptest::prelude::*;

use super::super::frame::{self, Frame, HEADER, Kind, whole};
use super::super::message::{self, Failure, Hello, MAGIC, Terms, VERSION};
use super::{KINDS, MIB, Pieces, announcing, read_all};

fn any_frame() -> impl Strategy<Value = Frame> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    (prop::sample::select(&KINDS[..]), any::<u64>(), payload).prop_map(|(kind, id, payload)| Frame {
        kind,
        id,
        payload,
    })
}

/// Noise, or noise behind a header or prefix that leads further in.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let noise = || prop::collection::vec(any::<u8>(), 0..400);
    let behind = |prefix: Vec<u8>, noise: Vec<u8>| [prefix, noise].concat();
    let hello = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
    prop_oneof![
        noise(),
        (any::<u64>(), 0..9_u8, noise()).prop_map(move |(n, k, b)| behind(announcing(n, k), b)),
        (0..300_u64, 0..9_u8, noise()).prop_map(move |(n, k, b)| behind(announcing(n, k), b)),
        noise().prop_map(move |b| behind(hello.clone(), b)),
        (0..7_u8, noise()).prop_map(move |(variant, b)| behind(vec![variant], b)),
    ]
}

proptest! {
    #[test]
    fn frames_survive_any_concatenation_and_any_split(
        frames in prop::collection::vec(any_frame(), 0..8),
        mut sizes in prop::collection::vec(0..40_usize, 0..10),
    ) {
        let encode = |frame: &Frame| whole(frame.kind, frame.id, &frame.payload);
        let bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
        sizes.push(1); // so that not all reads are interrupted
        prop_assert_eq!(read_all(&mut Pieces::new(&bytes, &sizes)).unwrap(), frames);
    }

    #[test]
    fn failures_survive(message: String, location: Option<String>, backtrace: Option<String>) {
        let failure = Failure::Panicked { message, location, backtrace };
        let bytes = failure.encode(Kind::Failed, 1);
        prop_assert_eq!(Failure::decode(Kind::Failed, &bytes[HEADER..]).unwrap(), failure);
    }

    #[test]
    fn no_bytes_do_harm(bytes in any_bytes()) {
        let mut rest = &bytes[..];
        let mut payload = Vec::new();
        while let Ok(Some(_)) = frame::read_into(&mut rest, &mut payload, u64::MAX) {}
        prop_assert!(payload.capacity() <= bytes.len() + 2 * MIB);
        let _ = Hello::decode(&bytes);
        if let Ok((_, Terms { groups: Some(groups), .. })) = Terms::decode(&bytes) {
            prop_assert!(groups.capacity() <= 4 * bytes.len());
        }
        let _ = Failure::decode(Kind::Failed, &bytes);
        if let Ok((_, _, argument)) = message::decode_call(&bytes) {
            prop_assert_eq!(argument, &bytes[..bytes.len() - 20]);
        }
    }
}
