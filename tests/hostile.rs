//! Workers that are not on our side: three things that none of them can do to its host.
//!
//! - take memory, time or stack beyond what the bytes that it sends are worth;
//! - make it jump: a host follows no reference to a function;
//! - end another call than the one it was given.
//!
//! Not here: workers that die, and nonsense in the place of a reply (`faults.rs`); frames that
//! announce what does not come (`limits.rs`); what all bytes whatsoever do (`src/fuzzing.rs`). Why it
//! holds is told in `src/wire/mod.rs`. Hosts that might not survive it are roles.

#![allow(unsafe_code)] // an allocator that counts

mod faults_common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::Read;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

use concurrent_futures::{Error, Executor, MapOptions, ProcessPoolExecutor};
use faults_common::*;
use serde::de::DeserializeOwned;
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

concurrent_futures::init_tests!();

roles! {
    "costs" => costs(),
    "depth" => depth(),
    "chunks" => chunks(),
    "call_back" => call_back(),
}

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

#[track_caller]
fn assert_works(pool: &ProcessPoolExecutor) {
    assert_eq!(get(pool.submit(double, 21)).unwrap(), 42);
}

#[track_caller]
fn nonsense_in<T: std::fmt::Debug>(outcome: Result<T, Error>, case: &str) -> Error {
    match outcome {
        Err(error @ Error::Decode { what: "return value", .. }) if error.to_string().contains("nonsense") => {
            error
        }
        other => panic!("{case}: {other:?}"),
    }
}

// ---- Values that lie -------------------------------------------------------------------------

/// Bytes that a worker makes up: the first, then the second so many times, then the third.
#[derive(Clone, Serialize, Deserialize)]
struct Recipe(Vec<u8>, Vec<u8>, usize, Vec<u8>);

impl Recipe {
    fn bytes(&self) -> Vec<u8> {
        [&self.0[..], &self.1.repeat(self.2), &self.3].concat()
    }

    /// A sequence of `count` elements that all have these bytes.
    fn sequence(count: usize, element: &[u8]) -> Recipe {
        Recipe(length(count as u64), element.into(), count, Vec::new())
    }
}

/// A length as it stands in front of a sequence.
fn length(mut length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes
}

/// Those bytes in a worker, and in the host what it makes of them.
enum Lie<T> {
    Told(Recipe),
    Heard(T),
}

impl<T> Serialize for Lie<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Lie::Told(recipe) = self else { unreachable!("only workers write it") };
        let bytes = recipe.bytes();
        // A tuple of bytes is nothing but them.
        let mut tuple = serializer.serialize_tuple(bytes.len())?;
        bytes.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lie<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Lie::Heard)
    }
}

fn lie<T>((recipe, _): (Recipe, PhantomData<T>)) -> Lie<T> {
    Lie::Told(recipe)
}

/// What the host makes of those bytes from a worker.
fn heard<T: DeserializeOwned + Send + 'static>(
    pool: &ProcessPoolExecutor,
    recipe: &Recipe,
) -> Result<T, Error> {
    get(pool.submit(lie::<T>, (recipe.clone(), PhantomData))).map(|lie| match lie {
        Lie::Heard(value) => value,
        Lie::Told(_) => unreachable!("only hosts read it"),
    })
}

/// Counts what is allocated. What is moved to grow is there twice.
struct Scales;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is done by the system's allocator, which is given what we were given. (Growing is
// left to the trait: a new place, a copy, and the old one back.)
unsafe impl GlobalAlloc for Scales {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the same, and it came from there.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static SCALES: Scales = Scales;

/// Memory that a reply may take whatever is in it: a step of a frame, and what one `Vec` sets aside
/// before it has seen an element.
const STEP: usize = 1 << 20;

/// What the host takes at most for those bytes, which are refused or not.
fn weigh<T: DeserializeOwned + Send + 'static>(
    pool: &ProcessPoolExecutor,
    name: &str,
    element: usize,
    recipe: &Recipe,
) -> Result<(), Error> {
    let bytes = recipe.bytes().len();
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let outcome = heard::<T>(pool, recipe);
    let took = MOST.load(Ordering::Relaxed).saturating_sub(before);
    println!(
        "{name:45} {bytes:>9} bytes took {took:>10}, {:>6.1} each; element {element:>4}; {}",
        took as f64 / bytes as f64,
        if outcome.is_ok() { "read" } else { "refused" }
    );
    // The payload, twice while it grows; its elements, thrice: moved to a place of twice the size.
    let allowed = bytes * (3 * element + 2) + 4 * STEP;
    assert!(took <= allowed, "{name}: {took} bytes for {bytes}");
    outcome.map(drop)
}

/// In a host of its own: the scales weigh all that a process has.
fn costs() {
    #[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    struct AtHome(#[serde(skip)] [u64; 4]);
    #[derive(Deserialize)]
    struct Tree(#[allow(dead_code)] Vec<Tree>);

    const MANY: usize = 200_000;
    let pool = pool(1);
    assert_works(&pool);
    let endless = [&length(u64::MAX)[..], &[0; 8]].concat();
    let endless = Recipe(endless, vec![1], 1000, vec![]);

    // Values that are what they say.
    let read = [
        weigh::<Vec<u8>>(&pool, "Vec<u8>", 1, &Recipe::sequence(MANY, &[7])),
        weigh::<String>(&pool, "String", 1, &Recipe::sequence(MANY, b"x")),
        weigh::<Vec<u64>>(&pool, "Vec<u64>", 8, &Recipe::sequence(MANY, &[7])),
        weigh::<Vec<String>>(&pool, "Vec<String>", 24, &Recipe::sequence(MANY, &[0])),
        weigh::<Vec<Vec<Vec<String>>>>(
            &pool,
            "Vec<Vec<Vec<String>>>",
            24,
            &Recipe::sequence(MANY, &[1, 1, 0]),
        ),
        weigh::<Vec<Option<[u64; 32]>>>(&pool, "Vec<Option<[u64; 32]>>", 264, &Recipe::sequence(MANY, &[0])),
        // Their elements take no bytes.
        weigh::<Vec<()>>(&pool, "Vec<()>", 0, &Recipe::sequence(1 << 20, &[])),
        weigh::<HashSet<()>>(&pool, "HashSet<()>", 0, &Recipe::sequence(1 << 20, &[])),
    ];
    read.into_iter().for_each(|outcome| outcome.unwrap());

    // Values that are not: each claims more than there is, some of them at every level.
    let claims = Recipe(vec![], length(50_000), 50_000, vec![]);
    let refused = [
        weigh::<Vec<()>>(&pool, "Vec<()> without end", 0, &endless),
        weigh::<Vec<AtHome>>(&pool, "Vec of what does not travel, without end", 32, &endless),
        weigh::<HashMap<(), ()>>(&pool, "HashMap<(), ()> without end", 0, &endless),
        weigh::<Vec<Vec<()>>>(&pool, "Vec<Vec<()>>", 24, &Recipe::sequence(1000, &length(1 << 20))),
        weigh::<Vec<String>>(&pool, "Vec<String> without end", 24, &endless),
        weigh::<BTreeMap<String, u64>>(&pool, "BTreeMap<String, u64> without end", 32, &endless),
        weigh::<Tree>(&pool, "a tree that claims at each level", 24, &claims),
        weigh::<Vec<Vec<Vec<[u64; 32]>>>>(&pool, "Vec<Vec<Vec<[u64; 32]>>> that claims", 256, &claims),
    ];
    for outcome in refused {
        assert!(matches!(outcome, Err(Error::Decode { what: "return value", .. })), "{outcome:?}");
    }
    assert_works(&pool);
}

#[test]
fn what_a_worker_returns_costs_what_it_weighs() {
    let _watchdog = Watchdog::new("what_a_worker_returns_costs_what_it_weighs");
    println!("{}", applause(role("costs").spawn().unwrap()));
}

/// In a host of its own: a stack that overflows is the end of a process.
fn depth() {
    #[derive(Serialize, Deserialize)]
    enum List {
        End,
        Link(u8, Box<List>),
    }
    /// The worker has more stack than a thread of the host, and so has no trouble to send it.
    fn long_list(length: usize) -> List {
        (0..length).fold(List::End, |list, n| List::Link(n as u8, Box::new(list)))
    }
    let pool = pool(1);
    for levels in [10_000, 1_000_000] {
        let told = heard::<List>(&pool, &Recipe(vec![], vec![1, 7], levels, vec![0])).err().unwrap();
        assert!(matches!(told, Error::Decode { what: "return value", .. }), "{told:?}");
        assert!(told.to_string().contains("nested so deeply"), "{told}");
    }
    let pid = get(pool.submit(pid_of_worker, ())).unwrap();
    assert!(get(pool.submit(long_list, 100)).is_ok());
    // Neither side is to blame, and neither is harmed.
    assert!(matches!(get(pool.submit(long_list, 3000)), Ok(_) | Err(Error::Decode { .. })));
    // In a chunk, it is one of the items.
    let lengths = [10, 20_000, 20];
    let outcomes: Vec<_> =
        pool.map_with(long_list_by_recipe, lengths, MapOptions::new().chunksize(3)).collect();
    let are_read: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(are_read, [true, false, true]);
    assert_eq!(get(pool.submit(pid_of_worker, ())).unwrap(), pid);

    fn long_list_by_recipe(length: usize) -> Lie<List> {
        Lie::Told(Recipe(vec![], vec![1, 7], length, vec![0]))
    }
}

#[test]
fn a_value_that_is_nested_too_deeply_costs_its_own_call() {
    let _watchdog = Watchdog::new("a_value_that_is_nested_too_deeply_costs_its_own_call");
    applause(role("depth").spawn().unwrap());
}

// ---- Words out of turn -----------------------------------------------------------------------

/// Leaves a thread that goes to the gate, says what it is told there, and comes back to the gate.
fn haunt(gate: String) -> u32 {
    std::thread::spawn(move || {
        scribble(&attend(&gate));
        attend(&gate);
    });
    std::process::id()
}

/// The forged value, which is none that `double` returns.
const FORGED: u64 = 665;

fn frame(kind: u8, id: u64, payload: &[u8]) -> Vec<u8> {
    [&header(payload.len() as u64, kind, id)[..], payload].concat()
}

/// A reply that looks like one: a `u64`.
fn forged(id: u64) -> Vec<u8> {
    frame(kind::RETURNED, id, &FORGED.to_le_bytes())
}

/// What an idle worker may have to say after it answered the call `id`: nothing.
fn words_of_an_idle_worker(id: u64) -> Vec<(&'static str, Vec<u8>)> {
    let next = |n: u64| (1..100).flat_map(|ahead| forged(id + n + ahead)).collect();
    vec![
        ("a second reply", forged(id)),
        ("replies to the calls to come", next(0)),
        ("a failure", frame(kind::FAILED, id + 1, &[4, 1, b'?'])),
        ("hello again", frame(kind::HELLO, 0, b"cf-wire\0\x01\0\0\0\0\0")),
        ("a refusal", frame(kind::REFUSAL, 0, &[5, 1, b'?'])),
        ("a call", frame(kind::CALL, id + 1, &[0; 16])),
        ("an initialiser", frame(kind::INITIALISE, id + 1, &[0; 16])),
        ("bye", frame(kind::BYE, 0, b"")),
        ("a kind that there is not", frame(0, id + 1, b"")),
        ("a length of 2^64 - 1", header(u64::MAX, kind::RETURNED, id + 1)),
        ("a part of a header", vec![0]),
        ("text", b"This is printed to the wrong descriptor.\n".into()),
    ]
}

/// Nobody asked: the worker is replaced, and the next call never meets it.
#[test]
fn what_an_idle_worker_says_ends_it_and_no_call() {
    let _watchdog = Watchdog::new("what_an_idle_worker_says_ends_it_and_no_call");
    for n in 0..words_of_an_idle_worker(0).len() {
        let (pool, gate) = (pool(1), Gate::new());
        let future = pool.submit(haunt, gate.path());
        let id = future.id().get();
        let ghost = gate.next();
        let worker = Observed::new(get(future).unwrap());
        let (case, words) = words_of_an_idle_worker(id).swap_remove(n);
        ghost.answer(&words);
        let said = gate.next();
        let values: Vec<_> = (0..4).map(|n| get(pool.submit(double, n)).expect(case)).collect();
        assert_eq!(values, [0, 2, 4, 6], "{case}");
        worker.ends();
        assert!(!pool.worker_pids().contains(&worker.pid), "{case}");
        drop(said);
    }
}

/// The second reply to a call comes when the next one runs.
#[test]
fn a_second_reply_to_a_call_does_not_end_the_next() {
    let _watchdog = Watchdog::new("a_second_reply_to_a_call_does_not_end_the_next");
    let (pool, gate, next_gate) = (pool(1), Gate::new(), Gate::new());
    let first = pool.submit(haunt, gate.path());
    let id = first.id().get();
    let ghost = gate.next();
    let worker = Observed::new(get(first).unwrap());
    let next = pool.submit(wait_at, next_gate.path());
    let next_id = next.id();
    let visitor = next_gate.next();
    assert_eq!(visitor.pid, worker.pid);
    ghost.answer(&forged(id));
    let error = nonsense_in(get(next), "the reply to the call before");
    assert_eq!(error.task().unwrap().id, next_id);
    worker.ends();
    assert_works(&pool);
}

/// A reply that is to end a call which another worker runs ends the call of the one who sent it.
#[test]
fn a_reply_to_a_call_of_another_worker_does_not_end_it() {
    fn forge(gate: String) -> u32 {
        tell_host(&attend(&gate));
        std::process::id()
    }
    let _watchdog = Watchdog::new("a_reply_to_a_call_of_another_worker_does_not_end_it");
    let (pool, gate, forger_gate) = (pool(2), Gate::new(), Gate::new());
    let victim = pool.submit(wait_at, gate.path());
    let at_gate = gate.next();
    let forger = pool.submit(forge, forger_gate.path());
    let forger_id = forger.id();
    forger_gate.next().answer(&forged(victim.id().get()));
    let error = nonsense_in(get(forger), "the reply to another call");
    assert_eq!(error.task().unwrap().id, forger_id);
    assert!(victim.running(), "it was ended by a worker that did not have it");
    let pid = at_gate.pid;
    at_gate.go_on();
    assert_eq!(get(victim).unwrap(), pid);
    assert_works(&pool);
}

#[test]
fn a_call_is_not_answered_with_a_refusal_or_an_initialiser() {
    fn say((kind, gate): (u8, String)) {
        let id = u64::from_le_bytes(attend(&gate).try_into().unwrap());
        tell_host(&frame(kind, id, &[5, 1, b'?']));
    }
    let _watchdog = Watchdog::new("a_call_is_not_answered_with_a_refusal_or_an_initialiser");
    // The payload is that of a refusal.
    for kind in [kind::REFUSAL, kind::FAILED, kind::INITIALISE] {
        let (pool, gate) = (pool(1), Gate::new());
        let future = pool.submit(say, (kind, gate.path()));
        let worker = gate.next();
        let pid = worker.pid;
        worker.answer(&future.id().get().to_le_bytes());
        nonsense_in(get(future), &format!("kind {kind}"));
        assert_works(&pool);
        assert!(!pool.worker_pids().contains(&pid));
    }
}

/// A worker that takes a call out of its pipe and sends it back as it is: a real one, with a
/// reference that leads to a function of the host.
#[test]
fn a_call_that_is_sent_back_makes_the_host_run_nothing() {
    let _watchdog = Watchdog::new("a_call_that_is_sent_back_makes_the_host_run_nothing");
    applause(role("call_back").spawn().unwrap());
}

fn call_back() {
    /// Answers itself, reads the call that comes, and sends that one to the host.
    fn send_it_back(gate: String) {
        let id = u64::from_le_bytes(attend(&gate).try_into().unwrap());
        scribble(&frame(kind::RETURNED, id, b""));
        let path = format!("/proc/self/fd/{}", pipe_from_host());
        let mut pipe = OpenOptions::new().read(true).open(path).unwrap();
        let mut call = vec![0; 17];
        pipe.read_exact(&mut call).unwrap();
        assert_eq!(call[8], kind::CALL);
        let length = u64::from_le_bytes(call[..8].try_into().unwrap()) as usize;
        call.resize(17 + length, 0);
        pipe.read_exact(&mut call[17..]).unwrap();
        scribble(&call);
    }
    fn leave_a_note(note: String) {
        append_line(note, "I ran");
    }
    do_without_pages();
    let (pool, gate, dir) = (pool(1), Gate::new(), TempDir::new());
    let note = dir.path("note");
    let first = pool.submit(send_it_back, gate.path());
    let second = pool.submit(leave_a_note, note.clone());
    gate.next().answer(&first.id().get().to_le_bytes());
    get(first).unwrap();
    let error = nonsense_in(get(second), "its own call");
    assert!(error.to_string().contains("Call"), "{error}");
    assert_eq!(lines_of(&note), 0, "somebody ran it");
    get(pool.submit(leave_a_note, note.clone())).unwrap();
    assert_eq!(lines_of(&note), 1);
}

/// More results than a chunk has items, and fewer. In a host of its own: there the id of the chunk is
/// the one behind that of the call before.
fn chunks() {
    fn answer_for_all((id, results, this_is_it): (u64, usize, bool)) -> u64 {
        if this_is_it {
            let result = [&[8][..], &7_u64.to_le_bytes()].concat();
            scribble(&frame(kind::RETURNED, id, &result.repeat(results)));
        }
        1
    }
    do_without_pages();
    for results in [0, 1, 3, 5, 1000] {
        let pool = pool(1);
        let before = pool.submit(double, 21);
        let id = before.id().get() + 1;
        get(before).unwrap();
        let items = [true, false, false].map(|this_is_it| (id, results, this_is_it));
        let outcomes: Vec<_> = pool.map_with(answer_for_all, items, MapOptions::new().chunksize(3)).collect();
        assert_eq!(outcomes.len(), 3, "{results} results");
        for (n, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(7) if n < results => {}
                Err(Error::Broken { .. }) if n >= results => {}
                other => panic!("item {n} of {results} results: {other:?}"),
            }
        }
    }
}

#[test]
fn a_chunk_that_is_answered_with_another_number_of_results_keeps_its_items() {
    let _watchdog = Watchdog::new("a_chunk_that_is_answered_with_another_number_of_results_keeps_its_items");
    applause(role("chunks").spawn().unwrap());
}

// ---- Scribbles in the page that it shares with its host --------------------------------------

/// In a worker: writes words over the memory that it shares with its host.
fn scribble_in_the_page((seed, count, gate): (u64, u64, String)) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("memfd:calls")).unwrap();
    let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
    let [start, end] = [start, end].map(|address| usize::from_str_radix(address, 16).unwrap());
    let words = (end - start) / 8;
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 16
    };
    attend(&gate);
    for n in 0..count {
        // The first words say how far the lanes are; lengths and numbers of calls are small.
        let at = if n % 2 == 0 { random() as usize % 64 } else { random() as usize % words };
        let word = if n % 3 == 0 { random() } else { random() % 5000 };
        // SAFETY: it is mapped, writable, and that it is somebody else's is the point.
        unsafe { std::ptr::with_exposed_provenance_mut::<u64>(start + at * 8).write_volatile(word) };
    }
    std::process::abort();
}

#[test]
fn a_worker_that_scribbles_in_the_page_harms_its_own_calls() {
    let _watchdog = Watchdog::new("a_worker_that_scribbles_in_the_page_harms_its_own_calls");
    let (pool, gate) = (pool(1), Gate::new());
    for seed in 0..60 {
        let warm: Vec<_> = (0..200).map(|n| pool.submit(double, n)).collect();
        for (n, future) in (0..).zip(warm) {
            assert_eq!(get(future).unwrap(), n * 2);
        }
        let scribbler = pool.submit(scribble_in_the_page, (seed, 1 << (seed % 14), gate.path()));
        let queued: Vec<_> = (0..100).map(|n| pool.submit(double, n)).collect();
        drop(gate.next());
        let error = get(scribbler).unwrap_err();
        assert!(matches!(error, Error::Decode { .. } | Error::WorkerDied { .. }), "{seed}: {error:?}");
        // None of them was given to it.
        for (n, future) in (0..).zip(queued) {
            assert_eq!(get(future).unwrap(), n * 2, "{seed}");
        }
    }
}

// ---- Words in the place of a Hello -----------------------------------------------------------

/// Runs in every process of this program before `init` does. Where a pool's `env` gives its workers
/// words, it says those instead of Hello, and stays, unless it is to leave.
mod first_words {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::FromRawFd;

    /// The words, in hexadecimal digits.
    pub(crate) const WORDS: &str = "CF_TEST_FIRST_WORDS";
    pub(crate) const LEAVE: &str = "CF_TEST_FIRST_WORDS_LEAVE";
    /// A file that gets a line for each worker that says them.
    pub(crate) const COUNT: &str = "CF_TEST_FIRST_WORDS_COUNT";

    extern "C" fn before_init() {
        let Ok(digits) = std::env::var(WORDS) else { return };
        crate::append_line(std::env::var(COUNT).unwrap(), "said");
        let byte = |n: usize| u8::from_str_radix(&digits[n..n + 2], 16).unwrap();
        let words: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
        let [_calls, replies] = pipes();
        // SAFETY: it was handed to this process, which has told nobody of it.
        let mut replies = unsafe { File::from_raw_fd(replies) };
        replies.write_all(&words).unwrap();
        while std::env::var_os(LEAVE).is_none() {
            std::thread::park();
        }
        std::process::exit(0);
    }

    /// The descriptors that come over the socket which is stdin.
    fn pipes() -> [i32; 2] {
        let mut bytes = [0_u8; 256];
        let mut space = [0_u64; 16];
        let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: the message points at the buffers above, which outlive it; the host sends one
        // control message, which has descriptors in it, these two first.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut piece;
            message.msg_iovlen = 1;
            message.msg_control = space.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&space) as _;
            assert!(libc::recvmsg(0, &raw mut message, 0) > 0);
            let control = libc::CMSG_FIRSTHDR(&raw const message);
            assert!(!control.is_null() && (*control).cmsg_type == libc::SCM_RIGHTS);
            libc::CMSG_DATA(control).cast::<[i32; 2]>().read_unaligned()
        }
    }

    #[used]
    #[unsafe(link_section = ".init_array.00100")] // `init_tests!` uses `.init_array`, which comes after
    static BEFORE_INIT: extern "C" fn() = before_init;
}

/// What says anything but Hello is no worker; what says the Hello of another program, never will be.
#[test]
fn a_worker_that_does_not_begin_with_hello_gets_no_call() {
    let _watchdog = Watchdog::new("a_worker_that_does_not_begin_with_hello_gets_no_call");
    let hello = [&b"cf-wire\0\x07\0\0\0"[..], &length(1), &length(1)].concat();
    let other_version = b"cf-wire\0\x02\0\0\0?".to_vec();
    let (again, at_once) = (3, 1);
    for (words, why, born) in [
        (frame(kind::HELLO, 0, &hello), "another build", at_once),
        (frame(kind::HELLO, 0, &other_version), "version 2", again),
        (frame(kind::HELLO, 0, b"?"), "not a worker", again),
        (frame(kind::HELLO, 0, &hello[..13]), "Hello frame is malformed", again),
        (frame(kind::REFUSAL, 0, &[5, 2, b'n', b'o']), "no", at_once),
        (frame(kind::REFUSAL, 0, &[4, 2, b'n', b'o']), "Refusal frame is malformed", again),
        (forged(1), "Returned frame arrived where a Hello was expected", again),
        (frame(kind::CALL, 0, &[0; 16]), "Call frame arrived where a Hello was expected", again),
        (frame(kind::BYE, 0, b""), "Bye frame arrived where a Hello was expected", again),
        (header(u64::MAX, kind::HELLO, 0), "announces 18446744073709551615 bytes", again),
        (frame(99, 0, b""), "unknown kind 99", again),
    ] {
        let dir = TempDir::new();
        let digits: String = words.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut builder = ProcessPoolExecutor::builder()
            .max_workers(1)
            .env(first_words::WORDS, digits)
            .env(first_words::COUNT, dir.path("count"));
        if born == at_once {
            // It is given five seconds to go.
            builder = builder.env(first_words::LEAVE, "");
        }
        let pool = builder.build().unwrap();
        let error = get(pool.submit(double, 1)).unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{why}: {error:?}");
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert_eq!(lines_of(dir.path("count")), born, "{why}");
        pool.shutdown();
        assert!(pool.worker_pids().is_empty(), "{why}");
    }
}
