//! The shape of a type, as serde shows it: what two builds must have in common before one reads what the other wrote.
//!
//! Between a host and its worker processes there is one build, and a `TypeId` says it all. Between machines there may be
//! two, and neither a `TypeId` nor the name of a type changes when somebody adds a field to it. So a value is asked for
//! here of a deserializer that has none. It notes what the type asks it for, gives ones and short texts, and what it has
//! noted is hashed:
//!
//! ```text
//!   Order ── "a struct Order of item, count, gift" ──▶ note ─┐
//!         ── "a text"  ◀── "1" ─────────────────────▶ note ─┤
//!         ── "a u32"   ◀── 1 ───────────────────────▶ note ─┼──▶ hash
//!         ── "perhaps" ◀── some ────────────────────▶ note ─┤
//!         ── "a bool"  ◀── true ────────────────────▶ note ─┘
//! ```
//!
//! | where there is a choice | which is made |
//! |---|---|
//! | a variant of an enum | the first that was not seen yet; the value is asked for again until all were; then one that is known to end |
//! | is there one, and how many | one; inside of a type that is inside of itself, none, so that a list has an end |
//!
//! A type that wants a special value (an address as text) refuses what it is given. That it does is noted too; what it
//! would have asked for next is not seen. So equal shapes are no proof, but different ones are.
//!
//! Not here: values that are nothing but their bytes (`bulk.rs`), which have no other shape than their type. The rule: the
//! same type has the same shape in every program and on every machine; nothing of an address, and nothing of a random
//! number, is in it.

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::RwLock;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

use super::bulk;
use crate::outcome::discard;

/// How often a value is asked for, for the sake of its enums, at the most.
const PASSES: usize = 1000;

/// Types inside of types. Only one that has no end has more.
const DEPTH: usize = 100;

/// The shape of that type. It is found once in the life of a program.
pub(crate) fn shape_of<T: DeserializeOwned + 'static>() -> u64 {
    static KNOWN: RwLock<BTreeMap<TypeId, u64>> = RwLock::new(BTreeMap::new());

    let id = TypeId::of::<T>();
    let known = KNOWN.read().get(&id).copied();
    known.unwrap_or_else(|| {
        // Code of the user runs: not under the lock.
        let shape = find::<T>();
        KNOWN.write().insert(id, shape);
        shape
    })
}

/// That of an argument and a value together.
#[cfg_attr(not(feature = "amqp"), allow(dead_code))]
pub(crate) fn of_both<A: DeserializeOwned + 'static, R: DeserializeOwned + 'static>() -> u64 {
    let mut notes = Notes::new();
    notes.bytes(&shape_of::<A>().to_le_bytes());
    notes.bytes(&shape_of::<R>().to_le_bytes());
    notes.0
}

fn find<T: DeserializeOwned + 'static>() -> u64 {
    let mut notes = Notes::new();
    notes.word(type_name::<T>());
    if bulk::is_bulk::<T>() {
        // As it lies in memory.
        notes.word(if cfg!(target_endian = "big") { "big" } else { "little" });
        notes.number(size_of::<usize>());
        return notes.0;
    }
    let mut tracer = Tracer { notes, enums: BTreeMap::new(), open: Vec::new(), has_news: false };
    for _ in 0..PASSES {
        tracer.has_news = false;
        tracer.open.clear();
        let made = catch_unwind(AssertUnwindSafe(|| T::deserialize(&mut tracer)));
        tracer.notes.word(match &made {
            Ok(Ok(_)) => "made",
            Ok(Err(_)) => "refused",
            Err(_) => "panicked",
        });
        discard(made);
        if !tracer.has_news || tracer.enums.values().all(Choice::is_seen) {
            break;
        }
    }
    tracer.notes.0
}

/// What was noted, in order: its FNV-1a hash.
struct Notes(u64);

impl Notes {
    fn new() -> Self {
        Notes(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn number(&mut self, number: usize) {
        self.bytes(&(number as u64).to_le_bytes());
    }

    fn word(&mut self, word: &str) {
        self.number(word.len());
        self.bytes(word.as_bytes());
    }

    fn words(&mut self, words: &[&str]) {
        self.number(words.len());
        words.iter().for_each(|word| self.word(word));
    }
}

/// Asks for nothing and gives what it likes, and notes what it was asked for.
struct Tracer {
    notes: Notes,
    /// By where the names of their variants stand: two enums may have one name.
    enums: BTreeMap<*const &'static str, Choice>,
    /// The structs and enums that are being made, the outermost first, by name.
    open: Vec<&'static str>,
    /// Was a variant seen for the first time in this pass?
    has_news: bool,
}

/// The variants of an enum that were seen.
#[derive(Default)]
struct Choice {
    variants: usize,
    seen: usize,
    /// One that came to its end.
    ends: Option<usize>,
}

impl Choice {
    fn is_seen(&self) -> bool {
        self.seen == self.variants
    }
}

impl Tracer {
    /// Is what is being made inside of itself?
    fn is_nested(&self) -> bool {
        let Some((innermost, outer)) = self.open.split_last() else { return false };
        outer.contains(innermost)
    }

    /// Makes something that may have itself inside.
    fn within<R>(
        &mut self,
        name: &'static str,
        make: impl FnOnce(&mut Self) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        self.notes.word(name);
        if self.open.len() == DEPTH {
            self.notes.word("without end");
            return Err(Refused);
        }
        self.open.push(name);
        let made = make(self);
        self.open.pop();
        made
    }

    /// One, or none where there would be no end of it.
    fn some(&self) -> usize {
        usize::from(!self.is_nested())
    }

    fn items(&mut self, left: usize) -> Items<'_> {
        self.notes.number(left);
        Items { tracer: self, left }
    }
}

/// The type does not take what it was given. It has words for why, which nobody needs.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Refused
    }
}

/// Methods for what needs no more than a value.
macro_rules! give {
    ($($asked:ident $visit:ident $($value:expr)?),* $(,)?) => {
        $(
            fn $asked<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
                self.notes.word(stringify!($asked));
                visitor.$visit($($value)?)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Tracer {
    type Error = Refused;

    give! {
        deserialize_bool visit_bool true,
        deserialize_i8 visit_i8 1,
        deserialize_i16 visit_i16 1,
        deserialize_i32 visit_i32 1,
        deserialize_i64 visit_i64 1,
        deserialize_i128 visit_i128 1,
        deserialize_u8 visit_u8 1,
        deserialize_u16 visit_u16 1,
        deserialize_u32 visit_u32 1,
        deserialize_u64 visit_u64 1,
        deserialize_u128 visit_u128 1,
        deserialize_f32 visit_f32 1.0,
        deserialize_f64 visit_f64 1.0,
        deserialize_char visit_char '1',
        deserialize_str visit_borrowed_str "1",
        deserialize_string visit_borrowed_str "1",
        deserialize_bytes visit_borrowed_bytes b"1",
        deserialize_byte_buf visit_borrowed_bytes b"1",
        deserialize_unit visit_unit,
        deserialize_ignored_any visit_unit,
    }

    // What the format of the wire cannot carry is refused there, too.
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        self.notes.word("any");
        Err(Refused)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        self.notes.word("identifier");
        Err(Refused)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.notes.word("option");
        if self.some() == 0 { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.notes.words(&["unit struct", name]);
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.notes.word("newtype struct");
        self.within(name, |tracer| visitor.visit_newtype_struct(tracer))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.notes.word("seq");
        let some = self.some();
        visitor.visit_seq(self.items(some))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        self.notes.word("tuple");
        visitor.visit_seq(self.items(length))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.notes.word("tuple struct");
        self.within(name, |tracer| visitor.visit_seq(tracer.items(length)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.notes.word("map");
        let some = self.some();
        visitor.visit_map(self.items(some))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.notes.word("struct");
        self.notes.words(fields);
        self.within(name, |tracer| visitor.visit_seq(tracer.items(fields.len())))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.notes.word("enum");
        self.notes.words(variants);
        let choice = self.enums.entry(variants.as_ptr()).or_default();
        choice.variants = variants.len();
        let chosen = if choice.is_seen() {
            choice.ends.unwrap_or(0)
        } else {
            choice.seen += 1;
            self.has_news = true;
            choice.seen - 1
        };
        self.notes.number(chosen);
        let made = self.within(name, |tracer| visitor.visit_enum(Variant { tracer, chosen }))?;
        if let Some(choice) = self.enums.get_mut(&variants.as_ptr()) {
            choice.ends.get_or_insert(chosen);
        }
        Ok(made)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// So many more.
struct Items<'t> {
    tracer: &'t mut Tracer,
    left: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.tracer).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        seed.deserialize(&mut *self.tracer)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The variant that was chosen.
struct Variant<'t> {
    tracer: &'t mut Tracer,
    chosen: usize,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Refused> {
        let index = u32::try_from(self.chosen).map_err(|_| Refused)?;
        let index: U32Deserializer<Refused> = index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        self.tracer.notes.word("unit variant");
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refused> {
        self.tracer.notes.word("newtype variant");
        seed.deserialize(self.tracer)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        self.tracer.notes.word("tuple variant");
        visitor.visit_seq(self.tracer.items(length))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.tracer.notes.word("struct variant");
        self.tracer.notes.words(fields);
        visitor.visit_seq(self.tracer.items(fields.len()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    use serde::{Deserialize, Serialize};

    use super::*;

    /// Shapes of types in modules of their own have names of their own; here only what serde shows is compared.
    fn shown<T: DeserializeOwned>() -> u64 {
        let mut tracer =
            Tracer { notes: Notes::new(), enums: BTreeMap::new(), open: Vec::new(), has_news: false };
        for _ in 0..PASSES {
            tracer.has_news = false;
            let made = T::deserialize(&mut tracer).is_ok();
            tracer.notes.number(made.into());
            if !tracer.has_news || tracer.enums.values().all(Choice::is_seen) {
                break;
            }
        }
        tracer.notes.0
    }

    macro_rules! is_made {
        ($($t:ty),*) => { $(
            let mut tracer =
                Tracer { notes: Notes::new(), enums: BTreeMap::new(), open: Vec::new(), has_news: false };
            assert!(<$t>::deserialize(&mut tracer).is_ok(), stringify!($t));
        )* };
    }

    mod one {
        use super::*;

        #[derive(Serialize, Deserialize)]
        pub(super) struct Order {
            pub(super) item: String,
            pub(super) count: u32,
            pub(super) state: State,
        }

        #[derive(Serialize, Deserialize)]
        pub(super) enum State {
            Open,
            Paid(u64),
            Sent { to: String, weight: Option<f32> },
        }
    }

    /// `one`, with one thing changed.
    macro_rules! other {
        ($name:ident, $item:ident: $text:ty, $count:ty, $paid:ident($money:ty), $weight:ident) => {
            mod $name {
                use super::*;

                #[derive(Serialize, Deserialize)]
                pub(super) struct Order {
                    $item: $text,
                    count: $count,
                    state: State,
                }

                #[derive(Serialize, Deserialize)]
                enum State {
                    Open,
                    $paid($money),
                    Sent { to: String, $weight: Option<f32> },
                }
            }
        };
    }

    other!(same, item: String, u32, Paid(u64), weight);
    other!(field_renamed, name: String, u32, Paid(u64), weight);
    other!(field_of_another_type, item: String, u64, Paid(u64), weight);
    other!(variant_renamed, item: String, u32, Payed(u64), weight);
    other!(variant_of_another_type, item: String, u32, Paid(u32), weight);
    other!(field_of_the_last_variant_renamed, item: String, u32, Paid(u64), mass);
    other!(nested, item: Vec<String>, u32, Paid(u64), weight);

    #[test]
    fn what_is_the_same_has_the_same_shape_and_what_is_not_has_not() {
        let ours = shown::<one::Order>();
        assert_eq!(ours, shown::<same::Order>());
        let others = [
            shown::<field_renamed::Order>(),
            shown::<field_of_another_type::Order>(),
            shown::<variant_renamed::Order>(),
            shown::<variant_of_another_type::Order>(),
            shown::<field_of_the_last_variant_renamed::Order>(),
            shown::<nested::Order>(),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(*other, ours, "{at}");
            assert!(!others[..at].contains(other), "{at}");
        }
    }

    #[test]
    fn containers_and_what_is_in_them_are_seen() {
        let shapes = [
            shape_of::<(u8, u16)>(),
            shape_of::<(u16, u8)>(),
            shape_of::<Option<(u8, u16)>>(),
            shape_of::<Vec<(u8, u16)>>(),
            shape_of::<HashMap<u8, u16>>(),
            shape_of::<[u8; 4]>(),
            shape_of::<[u8; 5]>(),
            shape_of::<Vec<u8>>(),
            shape_of::<std::collections::VecDeque<u8>>(),
            shape_of::<u8>(),
            shape_of::<()>(),
        ];
        for (at, shape) in shapes.iter().enumerate() {
            assert!(!shapes[..at].contains(shape), "{at}");
        }
        assert_eq!(shape_of::<(u8, u16)>(), shapes[0]);
    }

    #[derive(Serialize, Deserialize)]
    struct Link {
        value: u32,
        next: Option<Box<Link>>,
        others: Vec<Link>,
    }

    #[derive(Serialize, Deserialize)]
    enum Tree {
        Fork(Box<Tree>, Box<Tree>),
        Leaf(u8),
    }

    #[derive(Serialize, Deserialize)]
    enum Endless {
        More(Box<Endless>),
    }

    #[test]
    fn types_inside_of_themselves_have_a_shape() {
        is_made!(Link, Tree, NonZeroU32, one::Order, HashMap<String, Vec<Tree>>);
        assert_ne!(shown::<Link>(), shown::<Tree>());
        assert_eq!(shown::<Endless>(), shown::<Endless>());
    }

    struct Panics;

    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("a type that does so")
        }
    }

    #[test]
    fn what_refuses_or_panics_has_a_shape_too() {
        assert_eq!(shape_of::<IpAddr>(), shape_of::<IpAddr>());
        assert_ne!(shape_of::<(IpAddr, u8)>(), shape_of::<(u8, IpAddr)>());
        assert_eq!(shape_of::<Panics>(), shape_of::<Panics>());
    }
}
