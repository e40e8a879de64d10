//! What travels beside the bytes of a value: memory that is handed over as it is, and handles that are kept alive
//! meanwhile.
//!
//! ```text
//!   collect ── encode ── Serialize ── enclose ──▶ index in the bytes, and the enclosure in a list
//!                                                            │ post (process/post.rs)
//!   unpacking ── decode ── Deserialize ── open(index) ◀──────┘
//! ```
//!
//! A `Serialize` sees nothing but its serializer. So whoever encodes a value that is going to cross a wall says so to its
//! own thread, for as long as that takes, and whoever decodes it does the same.
//!
//! Not here: what there is to enclose (`shared.rs`), and how it crosses (`process/post.rs`). The rule: **both sides or
//! none.** Who collects is read by one who unpacks, so a value may have another form there than in a file or on a network;
//! and an index means the same on both sides, whatever was encoded in vain before it.

#![allow(unsafe_code)]

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::primitives::thread_local;
use crate::sealed::Sealed;

/// The most memories beside one message. As many descriptors the kernel takes at once, and more are unkind: each side has
/// them all open for a moment.
pub(crate) const MOST: usize = 253;

/// So many are looked at to find out whether one is there already.
const LOOK_BACK: usize = 16;

/// What is enclosed.
#[derive(Clone)]
pub(crate) enum Enclosure {
    /// Crosses as a descriptor.
    Memory(Arc<Sealed>),
    /// Does not cross, but lives as long as the message may be sent.
    Handle(Carried),
}

/// An object whose handle is in a message, by its number.
#[derive(Clone)]
pub(crate) struct Carried {
    pub(crate) whose: Whose,
    pub(crate) id: u64,
    pub(crate) object: Arc<dyn Any + Send + Sync>,
}

/// Where an object is whose handle somebody has. The numbers of the one and of the other have nothing in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// In this process.
    Ours,
    /// At the host for which this process works.
    OfTheHost,
}

/// Who is going to read a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Towards {
    /// A worker process of ours.
    Worker,
    /// The host for which this process works.
    Host,
    /// This process itself.
    Ourselves,
}

/// Who has written a message.
enum Sender {
    Host,
    /// A worker process of ours, that was given those. They are in the message by the numbers that they have here.
    Worker(Vec<Enclosure>),
    /// This process itself, and those are in it.
    Ourselves(Vec<Enclosure>),
}

/// The object of a handle that came.
pub(crate) enum Found {
    Carried(Carried),
    /// The host's, of that number.
    OfTheHost,
}

impl Enclosure {
    /// The same thing, not an equal one.
    fn is(&self, other: &Enclosure) -> bool {
        match (self, other) {
            (Enclosure::Memory(this), Enclosure::Memory(other)) => Arc::ptr_eq(this, other),
            _ => false,
        }
    }

    fn is_memory(&self) -> bool {
        matches!(self, Enclosure::Memory(_))
    }

    pub(crate) fn handle(&self) -> Option<&Carried> {
        match self {
            Enclosure::Handle(carried) => Some(carried),
            Enclosure::Memory(_) => None,
        }
    }

    pub(crate) fn memory(&self) -> Option<&Arc<Sealed>> {
        match self {
            Enclosure::Memory(memory) => Some(memory),
            Enclosure::Handle(_) => None,
        }
    }
}

impl fmt::Debug for Enclosure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_memory() { "Memory" } else { "Handle" })
    }
}

/// Bytes of memory in those, all together.
pub(crate) fn length_of(enclosed: &[Enclosure]) -> u64 {
    enclosed.iter().filter_map(Enclosure::memory).fold(0, |sum, it| sum.saturating_add(it.len() as u64))
}

/// What came beside the bytes of a message. As a rule nothing, from one that was given nothing: then it costs nothing.
#[derive(Default)]
pub(crate) struct Received(Option<Box<Parcel>>);

/// What came, or why it did not; and who has sent it.
struct Parcel {
    memory: Result<Vec<Arc<Sealed>>, String>,
    sender: Sender,
}

impl Received {
    #[cfg_attr(not(unix), allow(dead_code))]
    pub(crate) fn new(received: Result<Vec<Arc<Sealed>>, String>) -> Self {
        match received {
            Ok(none) if none.is_empty() => Received::default(),
            memory => Received(Some(Box::new(Parcel { memory, sender: Sender::Worker(Vec::new()) }))),
        }
    }

    fn sent_by(self, sender: Sender) -> Self {
        let memory = self.0.map_or(Ok(Vec::new()), |parcel| parcel.memory);
        Received(Some(Box::new(Parcel { memory, sender })))
    }

    /// It was sent by the host for which this process works.
    pub(crate) fn sent_by_host(self) -> Self {
        self.sent_by(Sender::Host)
    }

    /// It was sent by a worker of ours that was given those.
    pub(crate) fn sent_by_one_given(self, given: &[Enclosure]) -> Self {
        let given = handles(given);
        if given.is_empty() { self } else { self.sent_by(Sender::Worker(given)) }
    }

    fn handle(&self, written: u8, id: u64) -> Result<Found, &'static str> {
        let find = |all: &[Enclosure], whose| {
            let found = all.iter().filter_map(Enclosure::handle).find(|it| (it.whose, it.id) == (whose, id));
            found.cloned().map(Found::Carried).ok_or(NOT_GIVEN)
        };
        let Some(parcel) = &self.0 else { return Err(NOT_GIVEN) };
        match (&parcel.sender, written) {
            (Sender::Host, OURS) => Ok(Found::OfTheHost),
            (Sender::Worker(given), OURS) => find(given, Whose::Ours),
            (Sender::Ourselves(all), OURS) => find(all, Whose::Ours),
            (Sender::Ourselves(all), OF_THE_HOST) => find(all, Whose::OfTheHost),
            _ => Err("it is no handle"),
        }
    }

    fn open(&self, index: u32) -> Result<Arc<Sealed>, String> {
        let received: &[Arc<Sealed>] = match self.0.as_ref().map(|parcel| &parcel.memory) {
            None => &[],
            Some(Ok(received)) => received,
            Some(Err(reason)) => return Err(reason.clone()),
        };
        let memory = received.get(index as usize);
        memory.cloned().ok_or_else(|| "it refers to memory that did not come with it".into())
    }
}

const NOT_GIVEN: &str = "it is the handle of an object that was not given to it";

fn handles(enclosed: &[Enclosure]) -> Vec<Enclosure> {
    enclosed.iter().filter(|it| !it.is_memory()).cloned().collect()
}

/// For a message that stays in this process.
impl From<&[Enclosure]> for Received {
    fn from(enclosed: &[Enclosure]) -> Self {
        let received = Received::new(Ok(enclosed.iter().filter_map(Enclosure::memory).cloned().collect()));
        received.sent_by(Sender::Ourselves(handles(enclosed)))
    }
}

/// Who is to read the message that is being encoded, and what was enclosed in it.
type Collected = (Towards, NonNull<Vec<Enclosure>>);

// Neither has a destructor, so both are there as long as their thread is, and a message never changes its form. A chunk goes
// in and out of them for each of its items, so they are pointers: what they point to is never moved.
thread_local! {
    /// What was enclosed in the message that is being encoded.
    static COLLECTED: Cell<Option<Collected>> = const { Cell::new(None) };
}

thread_local! {
    /// What came with the message that is being decoded.
    static RECEIVED: Cell<Option<NonNull<Received>>> = const { Cell::new(None) };
}

/// Encodes a message, and collects what it encloses.
pub(crate) fn collect<R>(towards: Towards, encode: impl FnOnce() -> R) -> (R, Vec<Enclosure>) {
    let mut collected = Vec::new();
    (collect_into(towards, &mut collected, encode), collected)
}

/// The same for a part of a message. What was collected for others of its parts is there already.
#[inline]
pub(crate) fn collect_into<R>(
    towards: Towards,
    collected: &mut Vec<Enclosure>,
    encode: impl FnOnce() -> R,
) -> R {
    struct Scope(Option<Collected>);

    impl Drop for Scope {
        #[inline]
        fn drop(&mut self) {
            let _ = COLLECTED.try_with(|all| all.set(self.0));
        }
    }

    // Nobody touches it but by this pointer until it is taken out again.
    let ours = (towards, NonNull::from(collected));
    let _scope = Scope(COLLECTED.try_with(|all| all.replace(Some(ours))).ok().flatten());
    encode()
}

/// Is a message being encoded that crosses a wall?
pub(crate) fn is_collecting() -> bool {
    COLLECTED.try_with(Cell::get).is_ok_and(|all| all.is_some())
}

/// Encloses that, and says its index among those of its kind. `Err`: nobody collects, or there is no room for more.
pub(crate) fn enclose(enclosure: Enclosure) -> Result<u32, Enclosure> {
    let Some((_, mut all)) = COLLECTED.try_with(Cell::get).ok().flatten() else { return Err(enclosure) };
    // SAFETY: it was put there by `collect_into` in this thread, which has not returned (it takes it out, also when it
    // unwinds), and has it borrowed for as long as that, for nobody but us. There is no other borrow of it in this
    // function, which runs no code but ours.
    let all = unsafe { all.as_mut() };
    let known = all.iter().rev().take(LOOK_BACK).position(|other| enclosure.is(other));
    let at = known.map_or(all.len(), |back| all.len() - 1 - back);
    let index = all[..at].iter().filter(|other| other.is_memory() == enclosure.is_memory()).count();
    let Ok(number) = u32::try_from(index) else { return Err(enclosure) };
    if known.is_none() {
        if enclosure.is_memory() && index >= MOST {
            return Err(enclosure);
        }
        all.push(enclosure);
    }
    Ok(number)
}

/// How the two kinds of handles are written.
const OURS: u8 = 0;
const OF_THE_HOST: u8 = 1;

/// Has the message carry a handle of that object; says how it is written, or why it cannot be.
pub(crate) fn enclose_handle(object: Carried) -> Result<u8, &'static str> {
    let towards = COLLECTED.try_with(Cell::get).ok().flatten().map(|(towards, _)| towards);
    let written = match (towards, object.whose) {
        // The host reads it as one of its own.
        (Some(Towards::Worker | Towards::Ourselves), Whose::Ours)
        | (Some(Towards::Host), Whose::OfTheHost) => OURS,
        (Some(Towards::Ourselves), Whose::OfTheHost) => OF_THE_HOST,
        (Some(Towards::Host), Whose::Ours) => {
            return Err("what a worker process has made stays there: make it in the host, and send a handle");
        }
        (Some(Towards::Worker), Whose::OfTheHost) => {
            return Err("a handle crosses one wall between processes, not two");
        }
        (None, _) => return Err("a handle travels with the calls of executors, and nowhere else"),
    };
    match enclose(Enclosure::Handle(object)) {
        Ok(_) => Ok(written),
        Err(_) => Err("a message cannot carry as many handles"),
    }
}

/// The object of a handle that came, as it was written.
pub(crate) fn handle(written: u8, id: u64) -> Result<Found, &'static str> {
    with_received(|received| received.handle(written, id))
        .unwrap_or(Err("it is a handle that was not sent by an executor"))
}

/// Decodes a message, or a part of it, with what came beside it.
#[inline]
pub(crate) fn unpacking<R>(received: &Received, decode: impl FnOnce() -> R) -> R {
    struct Scope(Option<NonNull<Received>>);

    impl Drop for Scope {
        #[inline]
        fn drop(&mut self) {
            let _ = RECEIVED.try_with(|all| all.set(self.0));
        }
    }

    let ours = NonNull::from(received);
    let _scope = Scope(RECEIVED.try_with(|all| all.replace(Some(ours))).ok().flatten());
    decode()
}

/// Is a message being decoded that has crossed a wall?
pub(crate) fn is_unpacking() -> bool {
    RECEIVED.try_with(Cell::get).is_ok_and(|all| all.is_some())
}

/// Has memory come beside the message that is being decoded?
#[cfg(feature = "amqp")]
pub(crate) fn has_received() -> bool {
    let has_any = |received: &Received| {
        received
            .0
            .as_ref()
            .is_some_and(|parcel| parcel.memory.as_ref().map_or(true, |memory| !memory.is_empty()))
    };
    with_received(has_any).unwrap_or(false)
}

/// The memory with that index.
pub(crate) fn open(index: u32) -> Result<Arc<Sealed>, String> {
    with_received(|received| received.open(index))
        .unwrap_or_else(|| Err("it refers to memory, and was not sent by a pool".into()))
}

/// Looks at what came with the message that is being decoded. `look` is code of ours.
fn with_received<R>(look: impl FnOnce(&Received) -> R) -> Option<R> {
    let received = RECEIVED.try_with(Cell::get).ok().flatten()?;
    // SAFETY: it was put there by `unpacking` in this thread, which has not returned (it takes it out, also when it
    // unwinds), and has it borrowed for as long as that. Nobody changes it.
    Some(look(unsafe { received.as_ref() }))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn handle() -> Enclosure {
        Enclosure::Handle(Carried { whose: Whose::Ours, id: 7, object: Arc::new(7_u8) })
    }

    #[test]
    fn nobody_encloses_where_nobody_collects() {
        assert!(!is_collecting());
        assert!(enclose(handle()).is_err());
        let ((), enclosed) = collect(Towards::Worker, || assert!(is_collecting()));
        assert!(enclosed.is_empty() && enclosed.capacity() == 0, "what encloses nothing costs no memory");
        assert!(!is_collecting());
    }

    #[test]
    fn each_handle_has_its_index() {
        let (first, second) = (handle(), handle());
        let (indexes, enclosed) = collect(Towards::Worker, || {
            [&first, &second, &first, &second].map(|enclosure| enclose(enclosure.clone()).unwrap())
        });
        // As often as it is sent, for it is given back as often.
        assert_eq!(indexes, [0, 1, 2, 3]);
        assert_eq!(enclosed.len(), 4);
    }

    #[test]
    fn collectors_nest_and_survive_a_panic() {
        let ((), outer) = collect(Towards::Worker, || {
            enclose(handle()).unwrap();
            let panic = catch_unwind(AssertUnwindSafe(|| {
                collect(Towards::Worker, || {
                    enclose(handle()).unwrap();
                    std::panic::resume_unwind(Box::new("on purpose"));
                })
            }));
            assert!(panic.is_err());
            assert_eq!(enclose(handle()).unwrap(), 1, "the inner one's are not ours");
        });
        assert_eq!(outer.len(), 2);
        assert!(!is_collecting());
    }

    #[test]
    fn what_a_failed_part_enclosed_keeps_its_index() {
        let mut enclosed = Vec::new();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            collect_into(Towards::Worker, &mut enclosed, || {
                enclose(handle()).unwrap();
                std::panic::resume_unwind(Box::new("on purpose"));
            });
        }));
        assert!(failed.is_err());
        assert_eq!(collect_into(Towards::Worker, &mut enclosed, || enclose(handle()).unwrap()), 1);
        assert_eq!(enclosed.len(), 2);
    }

    #[test]
    fn what_did_not_come_is_not_opened() {
        assert!(open(0).unwrap_err().contains("not sent by a pool"));
        let nothing = Received::default();
        unpacking(&nothing, || {
            assert!(is_unpacking());
            assert!(open(0).unwrap_err().contains("did not come with it"));
        });
        assert!(!is_unpacking());
        let failed = Received::new(Err("the post is closed".into()));
        assert_eq!(unpacking(&failed, || open(7).unwrap_err()), "the post is closed");
        assert_eq!(unpacking(&failed, || open(7).unwrap_err()), "the post is closed", "each time");
    }
}
