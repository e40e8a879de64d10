//! What stands in the page that a worker thread and its child have in common (`page.rs`): two lanes of messages, and
//! a claim for each call.
//!
//! ```text
//!   host                         page                          child
//!     │ ── frames of calls ──▶ │ lane │ ─────────────────────────▶ │
//!     │ ◀──────────────────────────── │ lane │ ◀── frames of replies │
//!     │        open, take ───▶ │ claims │ ◀─── begin                │
//!     │ ══ pipes: what is too long for a lane, and bells for those who sleep ══ │
//! ```
//!
//! A lane is a ring of words with one writer and one reader. Each message is a word (length, and a note) and a whole
//! frame; or that word alone, with length 0: the frame comes through the pipe. So the lane has the order. Who reads
//! says when it goes to sleep, and from which message on it wants to be woken; who writes then rings, with a frame
//! in the pipe, for that message or before.
//!
//! The claim of a call, which is known by its number on this connection, is moved on once:
//!
//! | claim | means                            | moved on by                                                 |
//! |-------|----------------------------------|-------------------------------------------------------------|
//! | open  | sent, nobody has started it      | the child, when it begins it; the host, to take it back     |
//! | begun | the child has taken it to run it | nobody                                                      |
//! | taken | the host has it again            | nobody; the child passes over it                            |
//!
//! So a call that the host has taken back has not run and never will here; and of a child that is dead it is known
//! which call it had begun.
//!
//! The rule: nothing here is believed. A reader checks each number against what there is room for, and copies a
//! message before it looks at it; each side keeps its own place to itself. A child that lies ends as one that talks
//! nonsense, and harms its own calls.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::page::Page;
use super::remarks::{self, Remarks};
use crate::wire::frame::HEADER;

/// A sleeper that says this wants to be woken when there is a message, but not at once: another will probably take it.
pub(super) const SOON: u64 = u64::MAX;

/// Words in each lane.
const LANE: usize = 8192;

/// Calls that can be in flight at the same time.
pub(super) const CALLS: u64 = 128;

/// The longest frame, in bytes, that goes through a lane.
pub(super) const LONGEST: usize = 16 << 10;

/// Words that frames leave free in a lane, so that a call of each number can be announced by one word.
const RESERVE: usize = CALLS as usize;

/// Where things stand, in words. What different processes write is in cache lines of its own (two, because processors
/// fetch them in pairs).
const END: usize = 0;
const START: usize = 16;
const ASLEEP: usize = 32;
const ATTACHED: usize = 48;
/// Where the words of a lane begin that say how far it is; there are two.
const LEDGERS: [usize; 2] = [0, 64];
const CLAIMS: usize = 128;
const REMARKS: usize = 256;
const RINGS: [usize; 2] = [512, 512 + LANE];
/// Of all that.
const WORDS: usize = 512 + 2 * LANE;

/// Words that a frame of so many bytes takes.
pub(super) fn words_of(bytes: usize) -> usize {
    1 + bytes.div_ceil(8)
}

/// What the two processes share.
pub(super) struct Lanes(Page);

impl Lanes {
    /// New ones, and their file.
    pub(super) fn new() -> std::io::Result<(Lanes, std::os::fd::OwnedFd)> {
        Page::new(WORDS).map(|(page, file)| (Lanes(page), file))
    }

    /// Those in a file that was handed over.
    pub(super) fn of(file: &impl std::os::fd::AsFd) -> std::io::Result<Lanes> {
        Page::of(file, WORDS).map(Lanes)
    }

    #[inline]
    pub(super) fn calls(&self) -> Lane<'_> {
        self.lane(0)
    }

    #[inline]
    pub(super) fn replies(&self) -> Lane<'_> {
        self.lane(1)
    }

    #[inline]
    fn lane(&self, number: usize) -> Lane<'_> {
        let words = self.0.words();
        let ledger = &words[LEDGERS[number]..];
        let ring = &words[RINGS[number]..RINGS[number] + LANE];
        Lane { end: &ledger[END], start: &ledger[START], asleep: &ledger[ASLEEP], ring }
    }

    /// The child says that it has them.
    pub(super) fn attach(&self) {
        self.0.words()[ATTACHED].store(1, Ordering::Release);
    }

    /// Has the child said so? One that has not gets its calls through the pipe.
    pub(super) fn is_attached(&self) -> bool {
        self.0.words()[ATTACHED].load(Ordering::Acquire) == 1
    }

    #[inline]
    pub(super) fn remarks(&self) -> Remarks<'_> {
        Remarks(&self.0.words()[REMARKS..REMARKS + remarks::WORDS])
    }

    #[inline]
    pub(super) fn claims(&self) -> Claims<'_> {
        Claims(&self.0.words()[CLAIMS..CLAIMS + CALLS as usize])
    }
}

/// Who has a call.
pub(super) struct Claims<'p>(&'p [AtomicU64]);

const OPEN: u64 = 1;
const BEGUN: u64 = 2;
const TAKEN: u64 = 3;

impl Claims<'_> {
    /// The claim of the call has the number in it: that of another call is never taken for it.
    fn of(&self, call: u64) -> (&AtomicU64, impl Fn(u64) -> u64 + use<>) {
        (&self.0[(call % CALLS) as usize], move |state| call << 2 | state)
    }

    /// Of the host: before the call is sent. The one so many numbers before is over.
    pub(super) fn open(&self, call: u64) {
        let (claim, is) = self.of(call);
        claim.store(is(OPEN), Ordering::Release);
    }

    /// Of the child: false if the call is not to be run.
    pub(super) fn begin(&self, call: u64) -> bool {
        let (claim, is) = self.of(call);
        claim.compare_exchange(is(OPEN), is(BEGUN), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Is it to be begun yet?
    pub(super) fn is_open(&self, call: u64) -> bool {
        let (claim, is) = self.of(call);
        claim.load(Ordering::Acquire) == is(OPEN)
    }

    /// Has the host taken it back?
    pub(super) fn is_taken(&self, call: u64) -> bool {
        let (claim, is) = self.of(call);
        claim.load(Ordering::Acquire) == is(TAKEN)
    }

    /// Of the host: false if the child has begun it. True also if it was taken before.
    pub(super) fn take(&self, call: u64) -> bool {
        let (claim, is) = self.of(call);
        match claim.compare_exchange(is(OPEN), is(TAKEN), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(now) => now == is(TAKEN),
        }
    }
}

/// One direction.
#[derive(Clone, Copy)]
pub(super) struct Lane<'p> {
    /// Words ever written, and words ever read.
    end: &'p AtomicU64,
    start: &'p AtomicU64,
    /// 0: the reader is awake. Otherwise it sleeps, and is to be woken from the message with this number on, counted
    /// from 1.
    asleep: &'p AtomicU64,
    ring: &'p [AtomicU64],
}

impl Lane<'_> {
    fn word(&self, at: u64) -> &AtomicU64 {
        &self.ring[(at % LANE as u64) as usize]
    }

    /// Who writes: the reader sleeps until the message of that number. Asked after a write.
    pub(super) fn wanted(&self) -> Option<u64> {
        // Against the fence in `sleep`: either we see that it sleeps, or it sees what we wrote.
        fence(Ordering::SeqCst);
        Some(self.asleep.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }

    /// Who writes: true if it is for us to ring now.
    pub(super) fn rouse(&self) -> bool {
        self.asleep.swap(0, Ordering::Relaxed) != 0
    }

    /// Who reads: it is awake.
    pub(super) fn wake(&self) {
        self.asleep.store(0, Ordering::Relaxed);
    }
}

/// The writing end of a lane, of which there is one.
#[derive(Default)]
pub(super) struct Writer {
    end: u64,
    /// How far the reader was when we looked last.
    start: u64,
}

impl Writer {
    /// Words that are free. A number that cannot be is a full lane.
    fn room(&mut self, lane: Lane<'_>, wanted: usize) -> bool {
        let is_there = |start: u64| {
            let used = self.end.wrapping_sub(start);
            used.checked_add(wanted as u64).is_some_and(|used| used <= LANE as u64)
        };
        if is_there(self.start) {
            return true;
        }
        self.start = lane.start.load(Ordering::Acquire);
        is_there(self.start)
    }

    /// Would a frame of so many bytes go through?
    fn has_room_for(&mut self, lane: Lane<'_>, bytes: usize) -> bool {
        bytes <= LONGEST && self.room(lane, words_of(bytes) + RESERVE)
    }

    /// How many words there are for frames.
    pub(super) fn free(&mut self, lane: Lane<'_>) -> usize {
        self.start = lane.start.load(Ordering::Acquire);
        let used = self.end.wrapping_sub(self.start);
        usize::try_from(used).map_or(0, |used| (LANE - RESERVE).saturating_sub(used))
    }

    /// Writes a frame; false if it does not go through.
    pub(super) fn push(&mut self, lane: Lane<'_>, frame: &[u8], note: u32) -> bool {
        if !self.has_room_for(lane, frame.len()) {
            return false;
        }
        self.put(lane, frame.len() as u64 | u64::from(note) << 32);
        // Whole words are copied without a call.
        let (words, rest) = frame.as_chunks();
        words.iter().for_each(|word| self.put(lane, u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.put(lane, u64::from_le_bytes(word));
        }
        lane.end.store(self.end, Ordering::Release);
        true
    }

    /// Says that the next frame goes through the pipe; false if not even that goes through.
    pub(super) fn announce(&mut self, lane: Lane<'_>, note: u32) -> bool {
        if !self.room(lane, 1) {
            return false;
        }
        self.put(lane, u64::from(note) << 32);
        lane.end.store(self.end, Ordering::Release);
        true
    }

    fn put(&mut self, lane: Lane<'_>, word: u64) {
        lane.word(self.end).store(word, Ordering::Relaxed);
        self.end += 1;
    }
}

/// What the next message of a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A frame, copied.
    Frame {
        note: u32,
    },
    /// It comes through the pipe.
    InPipe {
        note: u32,
    },
    Nothing,
    /// What stands there can be no message.
    Nonsense,
}

/// The reading end of a lane, of which there is one.
#[derive(Default)]
pub(super) struct Reader {
    start: u64,
}

impl Reader {
    pub(super) fn is_empty(&self, lane: Lane<'_>) -> bool {
        lane.end.load(Ordering::Acquire) == self.start
    }

    /// Takes the next message; `frame` is then the frame, if it is here.
    pub(super) fn next(&mut self, lane: Lane<'_>, frame: &mut Vec<u8>) -> Next {
        let written = lane.end.load(Ordering::Acquire).wrapping_sub(self.start);
        if written == 0 {
            return Next::Nothing;
        }
        let Some((length, note)) = self.head(lane, self.start, written) else { return Next::Nonsense };
        // All of the room at once: else each word asks whether there is some.
        frame.clear();
        frame.resize(length.next_multiple_of(8), 0);
        for (place, bytes) in (1..).zip(frame.as_chunks_mut().0) {
            let word = lane.word(self.start.wrapping_add(place)).load(Ordering::Relaxed);
            *bytes = word.to_le_bytes();
        }
        frame.truncate(length);
        self.start = self.start.wrapping_add(words_of(length) as u64);
        lane.start.store(self.start, Ordering::Release);
        if length == 0 { Next::InPipe { note } } else { Next::Frame { note } }
    }

    /// Is one of the messages that there are in the pipe?
    pub(super) fn is_one_in_pipe(&self, lane: Lane<'_>) -> bool {
        let mut at = self.start;
        let end = lane.end.load(Ordering::Acquire);
        while at != end {
            match self.head(lane, at, end.wrapping_sub(at)) {
                Some((0, _)) => return true,
                Some((length, _)) => at = at.wrapping_add(words_of(length) as u64),
                None => return false,
            }
        }
        false
    }

    /// Length and note of the message there, if it can be one: `written` words are there.
    fn head(&self, lane: Lane<'_>, at: u64, written: u64) -> Option<(usize, u32)> {
        let word = lane.word(at).load(Ordering::Relaxed);
        let (length, note) = ((word & u64::from(u32::MAX)) as usize, (word >> 32) as u32);
        let can_be = length == 0 || (HEADER..=LONGEST).contains(&length);
        let is_there = written <= LANE as u64 && words_of(length) as u64 <= written;
        (can_be && is_there).then_some((length, note))
    }

    /// Goes to sleep until the message of that number, counted from 1. False: there is a message.
    pub(super) fn sleep(&self, lane: Lane<'_>, until: u64) -> bool {
        lane.asleep.store(until, Ordering::Relaxed);
        // Against the fence in `wanted`.
        fence(Ordering::SeqCst);
        let sleeps = self.is_empty(lane);
        if !sleeps {
            lane.wake();
        }
        sleeps
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use super::*;
    use crate::wire::frame::{self, Kind};
    use proptest::prelude::*;

    fn frame_of(id: u64, bytes: usize) -> Vec<u8> {
        frame::whole(Kind::Call, id, &vec![id as u8; bytes])
    }

    fn write(lanes: &Lanes, at: usize, word: u64) {
        lanes.0.words()[at].store(word, Ordering::Relaxed);
    }

    #[test]
    fn what_is_written_is_read_in_order_on_the_other_side() {
        let (host, file) = Lanes::new().unwrap();
        let child = Lanes::of(&file).unwrap();
        let lengths = |id: u64| (id * 37 % (LONGEST - HEADER + 1) as u64) as usize;
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = Writer::default();
                for id in 0..20_000 {
                    while !if id % 9 == 0 {
                        writer.announce(host.calls(), id as u32)
                    } else {
                        writer.push(host.calls(), &frame_of(id, lengths(id)), id as u32)
                    } {
                        thread::yield_now();
                    }
                }
            });
            let (mut reader, mut frame) = (Reader::default(), Vec::new());
            for id in 0..20_000 {
                let next = loop {
                    match reader.next(child.calls(), &mut frame) {
                        Next::Nothing => thread::yield_now(),
                        next => break next,
                    }
                };
                let note = id as u32;
                if id % 9 == 0 {
                    assert_eq!(next, Next::InPipe { note });
                } else {
                    assert_eq!(next, Next::Frame { note });
                    assert_eq!(frame, frame_of(id, lengths(id)));
                }
            }
        });
    }

    #[test]
    fn a_full_lane_still_has_room_to_announce_every_call() {
        let (lanes, _file) = Lanes::new().unwrap();
        let mut writer = Writer::default();
        while writer.push(lanes.replies(), &frame_of(1, 100), 0) {}
        assert!(writer.free(lanes.replies()) < words_of(HEADER + 100));
        assert!((0..CALLS).all(|_| writer.announce(lanes.replies(), 0)));
        let (mut reader, mut frame) = (Reader::default(), Vec::new());
        assert_eq!(reader.next(lanes.replies(), &mut frame), Next::Frame { note: 0 });
        assert!(reader.is_one_in_pipe(lanes.replies()));
        while reader.next(lanes.replies(), &mut frame) != Next::Nothing {}
        assert!(!reader.is_one_in_pipe(lanes.replies()));
        assert!(writer.push(lanes.replies(), &frame_of(2, LONGEST - HEADER), 0));
        assert!(!writer.push(lanes.replies(), &frame_of(2, LONGEST - HEADER + 1), 0));
    }

    #[test]
    fn a_call_is_begun_or_taken() {
        let (host, file) = Lanes::new().unwrap();
        let child = Lanes::of(&file).unwrap();
        for call in 0..20_000 {
            host.claims().open(call);
            let (begun, taken) = thread::scope(|scope| {
                // A thread for each would take long; most go one after the other, in turn.
                if call % 100 == 0 {
                    let begun = scope.spawn(|| child.claims().begin(call));
                    let taken = host.claims().take(call);
                    (begun.join().unwrap(), taken)
                } else if call % 2 == 0 {
                    let taken = host.claims().take(call);
                    (child.claims().begin(call), taken)
                } else {
                    (child.claims().begin(call), host.claims().take(call))
                }
            });
            assert!(begun != taken, "call {call}");
            // As often as it is asked.
            assert_eq!(host.claims().take(call), taken);
            assert!(!child.claims().begin(call));
            // That of another call is none of its business.
            assert!(!child.claims().begin(call + CALLS));
        }
    }

    #[test]
    fn who_sleeps_is_roused_once() {
        let (lanes, _file) = Lanes::new().unwrap();
        let (mut writer, reader, lane) = (Writer::default(), Reader::default(), lanes.calls());
        assert_eq!(lane.wanted(), None);
        assert!(reader.sleep(lane, 5));
        assert_eq!(lane.wanted(), Some(5));
        assert!(lane.rouse() && !lane.rouse());
        assert!(writer.announce(lane, 0));
        assert!(!reader.sleep(lane, 6), "there is something");
        assert_eq!(lane.wanted(), None);
    }

    /// The reader sleeps whenever it can, and is woken by bells alone.
    #[test]
    fn nobody_sleeps_while_there_is_a_message() {
        const COUNT: u64 = 50_000;
        let (lanes, _file) = Lanes::new().unwrap();
        let (ring, bells) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = Writer::default();
                for _ in 0..COUNT {
                    while !writer.announce(lanes.calls(), 0) {
                        thread::yield_now();
                    }
                    if lanes.calls().wanted().is_some() && lanes.calls().rouse() {
                        ring.send(()).unwrap();
                    }
                }
            });
            let (mut reader, mut frame, mut read) = (Reader::default(), Vec::new(), 0);
            while read < COUNT {
                match reader.next(lanes.calls(), &mut frame) {
                    Next::InPipe { .. } => read += 1,
                    Next::Nothing if reader.sleep(lanes.calls(), 1) => {
                        let bell = bells.recv_timeout(std::time::Duration::from_secs(60));
                        assert!(bell.is_ok(), "{read} were read, and nobody rang");
                        lanes.calls().wake();
                    }
                    Next::Nothing => {}
                    other => panic!("{other:?}"),
                }
            }
        });
    }

    #[test]
    fn a_file_that_can_be_cut_is_no_page() {
        let dir = std::env::temp_dir().join(format!("cf-page-{}", std::process::id()));
        let file = std::fs::File::create_new(&dir).unwrap();
        std::fs::remove_file(&dir).unwrap();
        file.set_len(1 << 20).unwrap();
        assert!(Lanes::of(&file).is_err());
        let (_lanes, file) = Lanes::new().unwrap();
        assert!(std::fs::File::from(file).set_len(0).is_err());
    }

    proptest! {
        /// Whatever stands in the page, reading ends, and what is read is no longer than there is room for.
        #[test]
        fn a_page_full_of_lies_is_read_without_harm(
            words in proptest::collection::vec((0..WORDS, prop_oneof![any::<u64>(), 0..5000_u64]), 0..200),
            ends: [u64; 2],
            near in 0..3000_u64,
        ) {
            let (lanes, _file) = Lanes::new().unwrap();
            let (mut reader, mut writer, mut frame) = (Reader::default(), Writer::default(), Vec::new());
            words.iter().for_each(|(at, word)| write(&lanes, *at, *word));
            for end in [near, ends[0], ends[1]] {
                write(&lanes, LEDGERS[1] + END, end);
                write(&lanes, LEDGERS[0] + START, end);
                for _ in 0..3000 {
                    match reader.next(lanes.replies(), &mut frame) {
                        Next::Nothing | Next::Nonsense => break,
                        Next::Frame { .. } => prop_assert!(frame.len() <= LONGEST),
                        Next::InPipe { .. } => {}
                    }
                }
                let _ = reader.is_one_in_pipe(lanes.replies());
                prop_assert!(writer.free(lanes.calls()) <= LANE);
                let _ = writer.push(lanes.calls(), &frame_of(1, 100), 0);
                let _ = writer.announce(lanes.calls(), 0);
                let _ = (lanes.claims().take(end % 1000), lanes.claims().begin(end % 1000));
            }
        }
    }
}
