//! Tests of the decoder's bounds. That it reads what postcard writes, `fuzzing/arguments.rs` shows.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::*;
use crate::watchdog::Watchdog;

/// A length of 2^64 - 1.
const ENDLESS: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];

#[track_caller]
fn refused<T: DeserializeOwned>(bytes: &[u8]) -> String {
    decode::<T>(bytes).err().expect("it was read").to_string()
}

fn bytes_of(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap()
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct NothingOfItTravels {
    #[serde(skip)]
    at_home: [u64; 8],
}

#[test]
fn endless_lengths_are_refused_at_once() {
    let _watchdog = Watchdog::new("endless_lengths_are_refused_at_once");
    for told in [
        refused::<Vec<()>>(&ENDLESS),
        refused::<Vec<NothingOfItTravels>>(&ENDLESS),
        refused::<HashMap<(), ()>>(&ENDLESS),
        refused::<Vec<u8>>(&ENDLESS),
        refused::<BTreeMap<String, u8>>(&ENDLESS),
        refused::<(u8, Vec<[(); 3]>)>(&[&[7], &ENDLESS[..]].concat()),
    ] {
        assert!(told.contains("more elements than it has bytes"), "{told}");
    }
    assert!(refused::<String>(&ENDLESS).contains("end inside"));
}

/// Each of them for itself would be let in.
#[test]
fn many_long_sequences_of_nothing_count_together() {
    let _watchdog = Watchdog::new("many_long_sequences_of_nothing_count_together");
    let long = vec![(); EMPTY];
    assert_eq!(decode::<Vec<()>>(&bytes_of(&long)).unwrap(), long);
    let many = bytes_of(&[&long[..], &long[..]]);
    assert!(refused::<[Vec<()>; 2]>(&many).contains("more elements"));
}

#[test]
fn honest_sequences_are_read_however_they_nest() {
    type Value = Vec<Vec<(Vec<()>, Vec<u8>, Option<NothingOfItTravels>)>>;
    let value: Value = vec![vec![(vec![(); 9], vec![1; 300], Some(NothingOfItTravels::default())); 100]; 100];
    assert_eq!(decode::<Value>(&bytes_of(&value)).unwrap(), value);
    // Not one byte more than there are elements, and not one element over.
    let tight = vec![vec![vec![0_u8; 3]; 40]; 50];
    assert_eq!(decode::<Vec<Vec<Vec<u8>>>>(&bytes_of(&tight)).unwrap(), tight);
}

/// A `Vec` of them has room for as many as there are announced, if it is told how many that is.
#[test]
fn room_is_made_for_one_element_a_byte() {
    let honest = bytes_of(&vec![vec![1_u64; 100]; 2]);
    let value: Vec<Vec<u64>> = decode(&honest).unwrap();
    assert!(value.iter().all(|inner| inner.capacity() == 100));

    /// Notes what it is told, and takes nothing.
    #[derive(Debug)]
    struct Told(Option<usize>, Option<Box<Told>>);
    impl<'de> Deserialize<'de> for Told {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Told, D::Error> {
            struct Listen;
            impl<'de> Visitor<'de> for Listen {
                type Value = Told;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Told, A::Error> {
                    let hint = seq.size_hint();
                    Ok(Told(hint, seq.next_element()?))
                }
            }
            deserializer.deserialize_seq(Listen)
        }
    }
    // Four bytes, each of which promises that those behind it are elements of its own.
    let mut told = Some(Box::new(decode::<Told>(&[3, 2, 1, 0]).unwrap()));
    let mut hints = Vec::new();
    while let Some(one) = told {
        hints.push(one.0);
        told = one.1;
    }
    assert_eq!(hints, [Some(3), None, None, None]);
}

#[derive(Debug, Serialize, Deserialize)]
enum List {
    End,
    Link(u8, Box<List>),
}

#[derive(Debug, Deserialize)]
struct Tree(#[allow(dead_code)] Vec<Tree>);

#[derive(Debug, Deserialize)]
struct Chain {
    #[allow(dead_code)]
    next: Option<Box<Chain>>,
}

#[derive(Debug, Deserialize)]
struct Maps(#[allow(dead_code)] BTreeMap<u8, Maps>);

/// In a thread with the stack of a pool's: an overflow would end all tests.
#[test]
fn what_is_nested_too_deeply_is_refused() {
    let deep = || {
        let levels = 1_000_000;
        let told = [
            refused::<List>(&[1, 7].repeat(levels)),
            refused::<Tree>(&[1].repeat(levels)),
            refused::<Chain>(&[1].repeat(levels)),
            refused::<Maps>(&[1, 7].repeat(levels)),
            refused::<Vec<Option<Chain>>>(&[1].repeat(levels)),
        ];
        assert!(told.iter().all(|told| told.contains("1 MiB of stack")), "{told:?}");

        let mut shallow = [1, 7].repeat(100);
        shallow.push(0);
        let mut list = &decode::<List>(&shallow).unwrap();
        let mut levels = 0;
        while let List::Link(7, next) = list {
            (list, levels) = (next, levels + 1);
        }
        assert_eq!(levels, 100);
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(deep).unwrap().join().unwrap();
}

#[test]
fn a_type_that_refuses_is_heard() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "u32")]
    struct Even(#[allow(dead_code)] u32);
    impl TryFrom<u32> for Even {
        type Error = String;
        fn try_from(n: u32) -> Result<Even, String> {
            if n.is_multiple_of(2) { Ok(Even(n)) } else { Err(format!("{n} is odd")) }
        }
    }
    assert_eq!(refused::<Vec<Even>>(&[2, 4, 3]), "3 is odd");
    assert!(decode::<Even>(&[4]).is_ok());
}

#[test]
fn what_is_no_value_is_told_by_its_reason() {
    assert_eq!(refused::<u16>(&[]), "the bytes end inside it");
    assert_eq!(refused::<u16>(&[0x80]), "the bytes end inside it");
    assert_eq!(refused::<[u8; 3]>(&[1, 2]), "the bytes end inside it");
    assert_eq!(refused::<f64>(&[0; 7]), "the bytes end inside it");
    assert_eq!(refused::<String>(&[3, b'a']), "the bytes end inside it");
    assert_eq!(refused::<u8>(&[1, 2, 3]), "2 bytes are left over");
    for large in [&[0xff, 0xff, 4][..], &[0x80, 0x80, 0x80, 0]] {
        assert_eq!(refused::<u16>(large), "a number is too large for its type");
    }
    assert_eq!(decode::<u16>(&[0xff, 0xff, 3]).unwrap(), u16::MAX);
    assert!(refused::<bool>(&[2]).contains("`bool`"));
    assert!(refused::<Option<u8>>(&[2, 0]).contains("`Option`"));
    assert!(refused::<char>(&[2, b'a', b'b']).contains("`char`"));
    assert!(refused::<char>(&[0]).contains("`char`"));
    assert!(refused::<String>(&[1, 0xff]).contains("UTF-8"));
    assert!(refused::<List>(&[2]).contains("variant"));
    assert!(refused::<serde::de::IgnoredAny>(&[0]).contains("does not say what comes next"));
}
