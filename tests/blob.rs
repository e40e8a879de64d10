//! Bulk data: what `Shared` and `Blob` are on every engine, and that they cross the wall between processes without a copy
//! for each task, whatever dies meanwhile.
//!
//! And workers that lie about what they enclose. Not here: what else they may do (`hostile.rs`); the parts (`src/shared.rs`,
//! `src/enclosed.rs`, `src/process/post.rs`).

#![cfg(target_os = "linux")]
#![allow(unsafe_code)] // a plain type of its own

mod faults_common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use concurrent_futures::{
    Blob, Error, Executor, MapOptions, ProcessPoolExecutor, SerialExecutor, Shared, TaskOptions,
    ThreadPoolExecutor, task,
};
use faults_common::*;
use serde::{Deserialize, Serialize};

concurrent_futures::init_tests!();

roles! {
    "broadcast" => broadcast(),
    "storm" => storm(),
    "few_descriptors" => few_descriptors(),
    "order" => order(),
    "lies" => lies(),
}

const MIB: usize = 1 << 20;

/// From here on memory is shared, as in `src/shared.rs`.
const THRESHOLD: usize = 128 << 10;

fn pool(workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(workers).unwrap()
}

/// As many bytes as wanted. The period is a prime, so that a page too many or too few is seen.
fn bytes(len: usize) -> Vec<u8> {
    let mut bytes = (0..251).collect::<Vec<u8>>().repeat(len.div_ceil(251));
    bytes.truncate(len);
    bytes
}

fn echo(blob: Blob) -> Blob {
    blob
}

fn sum(blob: Blob) -> u64 {
    blob.iter().map(|byte| u64::from(*byte)).sum()
}

fn sum_of(bytes: &[u8]) -> u64 {
    sum(Blob::from(bytes))
}

/// The memories without a name of which that process has a descriptor, or which it has mapped.
fn memories_of(pid: u32) -> BTreeSet<u64> {
    let is_shared = |path: &str| path.contains("memfd:shared");
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let fds = fds.filter(|fd| fs::read_link(fd.path()).is_ok_and(|it| is_shared(&it.to_string_lossy())));
    let mut all: BTreeSet<u64> =
        fds.filter_map(|fd| fs::metadata(fd.path()).ok()).map(|it| it.ino()).collect();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    // start-end flags offset device inode path
    let inode = |line: &str| line.split_whitespace().nth(4).unwrap().parse::<u64>().unwrap();
    all.extend(maps.lines().filter(|line| is_shared(line)).map(inode));
    all
}

fn memories() -> BTreeSet<u64> {
    memories_of(std::process::id())
}

/// What that process has in memory for itself alone.
fn private_bytes_of(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Picture {
    name: String,
    pixels: Blob,
    depths: Option<Shared<[f32]>>,
    tiles: Vec<Blob>,
    size: (u32, u32),
}

fn picture(len: usize) -> Picture {
    Picture {
        name: "a picture".into(),
        pixels: bytes(len).into(),
        depths: Some((0..len / 4).map(|n| n as f32 / 3.0).collect()),
        tiles: [0, len, len / 2].map(|len| bytes(len).into()).to_vec(),
        size: (640, 480),
    }
}

/// The same on every engine.
fn on_all_engines(test: impl Fn(&dyn Fn(Picture) -> Picture)) {
    let (processes, threads, serial) = (pool(2), ThreadPoolExecutor::new(2).unwrap(), SerialExecutor::new());
    fn same(picture: Picture) -> Picture {
        picture
    }
    test(&|picture| get(processes.submit(same, picture)).unwrap());
    test(&|picture| get(Executor::submit(&threads, same, picture)).unwrap());
    test(&|picture| get(serial.submit(same, picture)).unwrap());
}

#[test]
fn every_size_goes_there_and_back() {
    let _watchdog = Watchdog::new("every_size_goes_there_and_back");
    let pool = pool(1);
    for len in [0, 1, 100, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, MIB, 5_000_001] {
        let data = bytes(len);
        let blob = Blob::from(data.clone());
        for _ in 0..2 {
            assert!(get(pool.submit(echo, blob.clone())).unwrap() == data, "{len} bytes");
        }
        let built = Blob::build(len, |bytes| bytes.copy_from_slice(&data));
        assert!(built == data);
        assert!(get(pool.submit(echo, built)).unwrap() == data, "{len} bytes");
        let by_worker = get(pool.submit(|len| Blob::build(len, |all| all.copy_from_slice(&bytes(len))), len));
        assert!(by_worker.unwrap() == data, "{len} bytes");
    }
    let large = Blob::build(200 * MIB, |all| all[150 * MIB] = 7);
    let back = get(pool.submit(echo, large)).unwrap();
    assert!(back.len() == 200 * MIB && back[150 * MIB] == 7 && back[150 * MIB - 1] == 0);
}

#[test]
fn inside_of_structs_on_all_engines() {
    let _watchdog = Watchdog::new("inside_of_structs_on_all_engines");
    on_all_engines(|echo| {
        for len in [0, 8, THRESHOLD, MIB] {
            let sent = picture(len);
            assert!(echo(sent.clone()) == sent, "{len} bytes");
        }
    });
}

#[test]
fn values_of_all_kinds() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Point {
        x: f64,
        y: f64,
        color: [u16; 4],
    }
    // SAFETY: all zero is a `Point`.
    unsafe impl bytemuck::Zeroable for Point {}
    // SAFETY: it is numbers, without a gap, and laid out as C does.
    unsafe impl bytemuck::Pod for Point {}
    fn check<T: bytemuck::Pod + PartialEq + Send + Sync>(
        pool: &ProcessPoolExecutor,
        value: impl Fn(usize) -> T,
    ) {
        for len in [0, 1, 3, 100_000] {
            let shared: Shared<[T]> = (0..len).map(&value).collect();
            let back = get(pool.submit(|shared: Shared<[T]>| shared, shared.clone())).unwrap();
            assert!(back == shared, "{len} of {}", std::any::type_name::<T>());
        }
    }
    let _watchdog = Watchdog::new("values_of_all_kinds");
    let pool = pool(1);
    check(&pool, |n| (n % 1000) as i16 - 7);
    check(&pool, |n| n as f64 / 3.0);
    check(&pool, |n| (n as u128) << 70);
    check(&pool, |n| [n as u8; 3]);
    check(&pool, |n| Point { x: n as f64, y: -1.0, color: [n as u16; 4] });
}

#[test]
fn in_chunks_of_a_map() {
    let _watchdog = Watchdog::new("in_chunks_of_a_map");
    let pool = pool(2);
    for (len, chunk) in [(10, 7), (THRESHOLD, 1), (THRESHOLD, 7), (THRESHOLD + 5, 100)] {
        let items = (0..100_u8).map(|n| (n, Blob::from(vec![n; len])));
        let task = |(n, blob): (u8, Blob)| {
            assert!(n % 10 != 7, "no seven");
            assert!(blob.iter().all(|byte| *byte == n));
            (n, Blob::build(blob.len(), |out| out.fill(n + 1)))
        };
        let outcomes = pool.map_with(task, items, MapOptions::new().chunksize(chunk));
        for (n, outcome) in (0_u8..).zip(outcomes) {
            match outcome {
                Ok((its, blob)) => {
                    assert!(its == n && blob.len() == len && blob.iter().all(|byte| *byte == n + 1), "{n}");
                }
                Err(Error::Panicked { .. }) => assert_eq!(n % 10, 7),
                Err(other) => panic!("{n}: {other}"),
            }
        }
    }
}

/// A chunk in which some items cannot be encoded, before and behind others that enclose memory.
#[test]
fn an_item_that_does_not_encode_does_not_shift_the_others() {
    #[derive(Serialize, Deserialize)]
    struct Refusing(Blob, #[serde(serialize_with = "refuse")] u8, Blob);
    fn refuse<S: serde::Serializer>(n: &u8, serializer: S) -> Result<S::Ok, S::Error> {
        if n % 3 == 1 { Err(serde::ser::Error::custom("no")) } else { serializer.serialize_u8(*n) }
    }
    let _watchdog = Watchdog::new("an_item_that_does_not_encode_does_not_shift_the_others");
    let pool = pool(1);
    let blob = |n: u8| Blob::from(vec![n; THRESHOLD]);
    let items = (0..20_u8).map(|n| Refusing(blob(n), n, blob(n + 100)));
    let there = pool.map_with(
        |Refusing(first, n, second): Refusing| first[7] == n && second[7] == n + 100,
        items,
        MapOptions::new().chunksize(20),
    );
    for (n, outcome) in there.enumerate() {
        assert_eq!(outcome.is_err(), n % 3 == 1, "{n}: {outcome:?}");
        assert!(outcome.is_err() || outcome.is_ok_and(|fits| fits), "{n}");
    }
    let back = pool.map_with(
        |n: u8| {
            let blob = |n: u8| Blob::build(THRESHOLD, |all| all.fill(n));
            Refusing(blob(n), n, blob(n + 100))
        },
        0..20_u8,
        MapOptions::new().chunksize(20),
    );
    for (n, outcome) in (0_u8..).zip(back) {
        assert_eq!(outcome.is_err(), n % 3 == 1, "{n}");
        if let Ok(Refusing(first, its, second)) = outcome {
            assert!(its == n && first[7] == n && second[7] == n + 100, "{n}");
        }
    }
}

/// More than go beside one message: the rest travel as bytes.
#[test]
fn more_than_a_message_can_enclose() {
    let _watchdog = Watchdog::new("more_than_a_message_can_enclose");
    let pool = pool(1);
    let many: Vec<Blob> = (0..300).map(|n| Blob::from(vec![n as u8; THRESHOLD])).collect();
    let back = get(pool.submit(|many: Vec<Blob>| many, many.clone())).unwrap();
    assert!(back == many);
}

#[test]
fn in_a_thread_pool_it_is_the_same_memory() {
    let _watchdog = Watchdog::new("in_a_thread_pool_it_is_the_same_memory");
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let blob = Blob::from(bytes(MIB));
    let place = |blob: Blob| blob.as_ptr().addr();
    assert_eq!(get(Executor::submit(&pool, place, blob.clone())).unwrap(), blob.as_ptr().addr());
    // Tried again, it is made of what was kept.
    let options = TaskOptions::new().retries(2).retry_if(|_| true);
    let third_time = |blob: Blob| if task::attempt() == 3 { Ok(blob) } else { Err("not yet") };
    let back = get(pool.try_submit_with(third_time, blob.clone(), options)).unwrap();
    assert!(back == blob);
}

/// What no pool writes is bytes, and nothing else.
#[test]
fn for_others_it_is_bytes() {
    let blob = Blob::from(bytes(2 * THRESHOLD));
    let written = postcard::to_allocvec(&(1_u8, blob.clone())).unwrap();
    assert!(written.ends_with(&blob));
    let (one, back): (u8, Blob) = postcard::from_bytes(&written).unwrap();
    assert!(one == 1 && back == blob);
    let numbers: Shared<[u32]> = [1, 2, 3].into();
    let written = postcard::to_allocvec(&numbers).unwrap();
    assert_eq!(postcard::from_bytes::<Shared<[u32]>>(&written).unwrap(), numbers);
    let error = postcard::from_bytes::<Shared<[u32]>>(&[3, 1, 2, 3]);
    assert!(error.is_err(), "three bytes are no number");
}

/// Inside of a call, what the call itself writes is bytes too.
#[test]
fn what_a_task_writes_to_a_file_is_bytes() {
    let _watchdog = Watchdog::new("what_a_task_writes_to_a_file_is_bytes");
    let pool = pool(1);
    let blob = Blob::from(bytes(2 * THRESHOLD));
    let write = |blob: Blob| postcard::to_allocvec(&blob).unwrap();
    let written = get(pool.submit(write, blob.clone())).unwrap();
    assert!(postcard::from_bytes::<Blob>(&written).unwrap() == blob);
}

#[test]
fn it_reads_as_a_slice() {
    let shared: Shared<[u32]> = vec![3, 1, 2].into();
    assert_eq!(shared.iter().max(), Some(&3));
    assert_eq!(shared, vec![3, 1, 2]);
    assert_eq!(format!("{shared:?}"), "[3, 1, 2]");
    let long: Shared<[u8]> = vec![7; 10 * MIB].into();
    assert!(format!("{long:?}").len() < 200, "{long:?}");
    assert!(format!("{long:?}").contains("10485760"), "{long:?}");
    assert!(Blob::default().is_empty());
    #[allow(clippy::mutable_key_type, reason = "what changes inside is not compared")]
    let set: std::collections::HashSet<Blob> = [bytes(3).into(), bytes(3).into(), bytes(4).into()].into();
    assert!(set.len() == 2 && set.contains(&bytes(4)[..]));
    let clone = shared.clone();
    assert_eq!(clone.as_ptr(), shared.as_ptr());
}

/// In a host of its own: one memory for a host, two workers, and all of their tasks.
fn broadcast() {
    const SIZE: usize = 64 * MIB;
    let (pool, gate) = (pool(2), Gate::new());
    let pids: BTreeSet<u32> = {
        let calls = [(); 2].map(|()| pool.submit(wait_at, gate.path()));
        let visitors = [gate.next(), gate.next()];
        visitors.into_iter().for_each(Visitor::go_on);
        calls.map(|call| get(call).unwrap()).into()
    };
    let before: Vec<usize> = pids.iter().map(|pid| private_bytes_of(*pid)).collect();
    let image = Blob::build(SIZE, |all| all.copy_from_slice(&bytes(SIZE)));
    assert_eq!(memories().len(), 1);
    let expected = sum_of(&image);
    let futures: Vec<_> = (0..20).map(|_| pool.submit(sum, image.clone())).collect();
    let held = |(gate, image): (String, Blob)| {
        attend(&gate);
        sum(image)
    };
    let at_gate = [(); 2].map(|()| pool.submit(held, (gate.path(), image.clone())));
    let visitors = [gate.next(), gate.next()];
    let mut all = memories();
    for (pid, before) in pids.iter().zip(before) {
        let its = memories_of(*pid);
        assert_eq!(its.len(), 1, "worker {pid}");
        all.extend(its);
        let grown = private_bytes_of(*pid).saturating_sub(before);
        assert!(grown < SIZE / 8, "worker {pid} has {grown} bytes more for itself");
    }
    assert_eq!(all.len(), 1, "there is one memory for all of them");
    // A vector is copied into it once, however often it is sent.
    let vector = Blob::from(bytes(MIB));
    visitors.into_iter().for_each(Visitor::go_on);
    let more: Vec<_> = (0..100).map(|_| pool.submit(echo, vector.clone())).collect();
    for future in more {
        assert!(get(future).unwrap() == vector);
    }
    for future in futures.into_iter().chain(at_gate) {
        assert_eq!(get(future).unwrap(), expected);
    }
    drop((image, vector));
    assert_eq!(memories(), BTreeSet::new(), "the last holder frees it");
    for pid in pids {
        until("the worker has dropped it too", || memories_of(pid).is_empty());
    }
}

#[test]
fn one_memory_for_many_tasks() {
    let _watchdog = Watchdog::new("one_memory_for_many_tasks");
    applause(role("broadcast").spawn().unwrap());
}

/// In a host of its own: who holds it, and who dropped it, in every order.
fn order() {
    let (pool, gate) = (pool(1), Gate::new());
    let data = bytes(MIB);

    // The host drops it first; the worker has it until its call ends.
    let held = |(gate, blob): (String, Blob)| {
        attend(&gate);
        sum(blob)
    };
    let future = pool.submit(held, (gate.path(), Blob::from(data.clone())));
    let visitor = gate.next();
    let worker = visitor.pid;
    assert_eq!(memories_of(worker).len(), 1);
    visitor.go_on();
    assert_eq!(get(future).unwrap(), sum_of(&data));
    assert_eq!(memories(), BTreeSet::new());

    // The worker makes it, and dies; the host has it.
    let made = get(pool.submit(|len| Blob::build(len, |all| all.copy_from_slice(&bytes(len))), MIB)).unwrap();
    let gone = Observed::new(worker);
    let _ = get(pool.submit(|death: Death| -> () { death.die() }, Death::Kill));
    gone.ends();
    assert!(made == data);
    // And hands it to the next worker, and gets it back.
    let back = get(pool.submit(echo, made.clone())).unwrap();
    assert!(back == data);
    assert_eq!(memories().len(), 1, "it is the same memory");
    drop((made, back));
    assert_eq!(memories(), BTreeSet::new());

    // Results that nobody takes.
    drop(pool.submit(|len| Blob::build(len, |_| ()), MIB));
    assert_eq!(get(pool.submit(double, 1)).unwrap(), 2);
    assert_eq!(memories(), BTreeSet::new());

    // It is longer than its pool.
    let last = get(pool.submit(|len| Blob::build(len, |all| all.copy_from_slice(&bytes(len))), MIB)).unwrap();
    drop(pool);
    assert!(last == data);
}

#[test]
fn the_last_holder_frees_it() {
    let _watchdog = Watchdog::new("the_last_holder_frees_it");
    applause(role("order").spawn().unwrap());
}

#[test]
fn an_attempt_that_failed_is_made_again_with_the_same_memory() {
    let _watchdog = Watchdog::new("an_attempt_that_failed_is_made_again_with_the_same_memory");
    let pool = pool(2);
    let blob = Blob::from(bytes(MIB));
    for death in [Death::Panic, Death::Kill, Death::ExitZero] {
        let second_time = |(death, blob): (Death, Blob)| {
            if task::attempt() == 1 {
                death.die();
            }
            blob
        };
        let options = TaskOptions::new().retries(1).retry_if(|_| true);
        let back = get(pool.submit_with(second_time, (death, blob.clone()), options)).unwrap();
        assert!(back == blob, "{death:?}");
    }
}

#[test]
fn an_initializer_may_have_it() {
    use std::sync::OnceLock;
    static TABLE: OnceLock<Blob> = OnceLock::new();
    let _watchdog = Watchdog::new("an_initializer_may_have_it");
    let table = Blob::from(bytes(MIB));
    let pool = ProcessPoolExecutor::builder()
        .max_workers(2)
        .max_tasks_per_child(1)
        .initializer(|table: Blob| TABLE.set(table).unwrap(), table.clone())
        .build()
        .unwrap();
    for future in (0..4).map(|_| pool.submit(|()| sum(TABLE.get().unwrap().clone()), ())).collect::<Vec<_>>()
    {
        assert_eq!(get(future).unwrap(), sum_of(&table));
    }
}

/// In a host of its own: workers that die with memory in hand, on its way to them and on its way back; calls that are
/// cancelled, killed and put back.
fn storm() {
    let gate = Gate::new();
    let before = belongings();
    {
        let pool = pool(2);
        let blob = Blob::from(bytes(MIB));
        for round in 0..30 {
            let die = |(death, _held): (Death, Blob)| -> Blob { death.die() };
            let deaths = [Death::Kill, Death::Abort, Death::ExitThree];
            let dying = pool.submit(die, (deaths[round % 3], blob.clone()));
            let behind: Vec<_> = (0..8).map(|_| pool.submit(echo, blob.clone())).collect();
            let held = pool
                .submit(|(gate, blob): (String, Blob)| (attend(&gate), blob).1, (gate.path(), blob.clone()));
            // Some are queued, some are on their way, some have come back.
            for future in behind.iter().step_by(2) {
                future.cancel();
            }
            let visitor = gate.next();
            match round % 3 {
                0 => _ = held.kill(),
                1 => send(visitor.pid, rustix::process::Signal::KILL),
                _ => _ = held.cancel(),
            }
            visitor.go_on();
            assert!(matches!(get(dying), Err(Error::WorkerDied { .. })));
            for future in behind {
                assert!(
                    get(future)
                        .map_or_else(|error| matches!(error, Error::Cancelled { .. }), |back| back == blob)
                );
            }
            let _ = get(held);
        }
        assert!(get(pool.submit(echo, blob.clone())).unwrap() == blob);
    }
    assert_eq!(memories(), BTreeSet::new());
    until("all is given back", || belongings() == before);
}

#[test]
fn a_storm_of_deaths_leaks_nothing() {
    let _watchdog = Watchdog::new("a_storm_of_deaths_leaks_nothing");
    applause(role("storm").spawn().unwrap());
}

/// In a host of its own, which may have few open files: what has no descriptor travels as bytes, and what is received
/// without one is mapped all the same.
fn few_descriptors() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let (few, many) = (120, 300);
    setrlimit(Resource::Nofile, Rlimit { current: Some(few), maximum: Some(few) }).unwrap();
    let pool = pool(2);
    let blobs: Vec<Blob> = (0..many).map(|n| Blob::from(vec![n as u8; THRESHOLD])).collect();
    let back: Vec<Blob> = pool.map(echo, blobs.clone()).map(Result::unwrap).collect();
    assert!(back == blobs);
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < 80, "most of them are the program's");
    assert!(memories().len() > 200, "what is mapped needs none");
    let made: Vec<Blob> = pool
        .map(|n: usize| Blob::build(THRESHOLD, |all| all.fill(n as u8)), 0..many)
        .map(Result::unwrap)
        .collect();
    assert!(made == blobs);
    let again: Vec<Blob> = pool.map(echo, made).map(Result::unwrap).collect();
    assert!(again == blobs);
}

#[test]
fn with_few_descriptors_it_goes_on() {
    let _watchdog = Watchdog::new("with_few_descriptors_it_goes_on");
    applause(role("few_descriptors").spawn().unwrap());
}

/// What counts for a message is also what goes beside it.
#[test]
fn the_limit_of_messages_holds_for_memory_too() {
    let _watchdog = Watchdog::new("the_limit_of_messages_holds_for_memory_too");
    let pool = ProcessPoolExecutor::builder().max_workers(1).max_message_bytes(MIB as u64).build().unwrap();
    let error = get(pool.submit(sum, Blob::from(bytes(MIB + 1)))).unwrap_err();
    assert!(matches!(error, Error::Encode { what: "argument", .. }), "{error:?}");
    assert!(error.to_string().contains("max_message_bytes"), "{error}");
    let error = get(pool.submit(|len| Blob::build(len, |_| ()), MIB + 1)).unwrap_err();
    assert!(matches!(error, Error::Encode { what: "return value", .. }), "{error:?}");
    assert!(get(pool.submit(echo, Blob::from(bytes(MIB - 100)))).is_ok());
}

/// A worker that stands still with a call, and what is beside it, on its way.
#[test]
fn a_call_that_a_stopped_worker_does_not_take_can_be_killed() {
    let _watchdog = Watchdog::new("a_call_that_a_stopped_worker_does_not_take_can_be_killed");
    let pool = pool(1);
    let pid = get(pool.submit(pid_of_worker, ())).unwrap();
    stop(pid);
    let blob = Blob::from(bytes(MIB));
    let futures: Vec<_> = (0..3).map(|_| pool.submit(echo, blob.clone())).collect();
    until("it was sent", || futures[0].running());
    futures[0].kill();
    let mut futures = futures.into_iter();
    assert!(get(futures.next().unwrap()).is_err());
    send(pid, rustix::process::Signal::CONT);
    for future in futures {
        assert!(get(future).unwrap() == blob);
    }
}

// ---- Workers that lie ------------------------------------------------------------------------

/// What a worker hands over in the place of what it encloses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Wrong {
    Pipe,
    Device,
    File,
    NotSealed,
    CanBeCut,
    CanBeWritten,
    Empty,
    HalfAValue,
    TooLarge,
    Nothing,
    MoreThanItSays,
    LessThanItSays,
    AnotherKind,
    OldOnes,
    Halves,
}

const WRONGS: [(Wrong, &str); 15] = [
    (Wrong::Pipe, "is not shared memory"),
    (Wrong::Device, "is not shared memory"),
    (Wrong::File, "is not s"), // "shared memory", or "sealed": that depends on the file system
    (Wrong::NotSealed, "is not sealed"),
    (Wrong::CanBeCut, "is not sealed"),
    (Wrong::CanBeWritten, "is not sealed"),
    (Wrong::Empty, "is empty"),
    (Wrong::HalfAValue, "no whole number of `u64`"),
    (Wrong::TooLarge, "max_message_bytes"),
    (Wrong::Nothing, "did not come with it"),
    (Wrong::MoreThanItSays, "could be received"),
    (Wrong::LessThanItSays, "could be received"),
    (Wrong::AnotherKind, "nothing that can be enclosed"),
    (Wrong::OldOnes, "was not sent"),
    (Wrong::Halves, "nothing that can be enclosed"),
];

mod lies {
    use std::fs::File;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    /// Our end of the post: the only socket that programs which we start do not inherit.
    fn post() -> BorrowedFd<'static> {
        let is_ours = |fd: &i32| {
            let target = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0");
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            target.to_string_lossy().starts_with("socket:") && flags & libc::O_CLOEXEC != 0
        };
        let found: Vec<i32> = descriptors("/proc/self/fd").into_iter().filter(is_ours).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        // SAFETY: it is open until this process ends.
        unsafe { BorrowedFd::borrow_raw(found[0]) }
    }

    fn memory(length: u64, seals: SealFlags) -> OwnedFd {
        let file = memfd_create("a lie", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, length).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    fn say(header: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || rights.push(SendAncillaryMessage::ScmRights(descriptors)));
        sendmsg(post(), &[std::io::IoSlice::new(header)], &mut rights, SendFlags::DONTWAIT).is_ok()
    }

    fn header(kind: u8, id: u64, count: u16) -> Vec<u8> {
        [&[kind][..], &id.to_le_bytes(), &count.to_le_bytes()].concat()
    }

    /// Before the worker itself sends what is enclosed in the reply to that call.
    pub(super) fn tell(wrong: Wrong, id: u64) {
        let sealed = SealFlags::SHRINK | SealFlags::WRITE;
        let honest = || memory(64, sealed);
        let null: OwnedFd = File::open("/dev/null").unwrap().into();
        let one = |fd: OwnedFd| assert!(say(&header(1, id, 1), &[fd.as_fd()]));
        match wrong {
            Wrong::Pipe => one(std::io::pipe().unwrap().0.into()),
            Wrong::Device => one(null),
            // Those of some file systems have seals too, and cannot be sealed.
            Wrong::File => {
                let dir = TempDir::new();
                let file = File::create(dir.path("file")).unwrap();
                file.set_len(64).unwrap();
                one(file.into());
            }
            Wrong::NotSealed => one(memory(64, SealFlags::empty())),
            Wrong::CanBeCut => one(memory(64, SealFlags::WRITE | SealFlags::GROW)),
            Wrong::CanBeWritten => one(memory(64, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)),
            Wrong::Empty => one(memory(0, sealed)),
            Wrong::HalfAValue => one(memory(60, sealed)),
            Wrong::TooLarge => one(memory(1 << 37, sealed)),
            Wrong::Nothing => assert!(say(&header(1, id, 0), &[])),
            Wrong::MoreThanItSays => {
                assert!(say(&header(1, id, 1), &[honest().as_fd(), honest().as_fd()]));
            }
            Wrong::LessThanItSays => assert!(say(&header(1, id, 200), &[honest().as_fd()])),
            Wrong::AnotherKind => assert!(say(&header(77, id, 1), &[honest().as_fd()])),
            // As many as it gets rid of, of calls that there were, or not.
            Wrong::OldOnes => {
                for n in 0..200 {
                    say(&header(1, id + 1 + n, 1), &[honest().as_fd()]);
                }
            }
            Wrong::Halves => assert!(say(&header(1, id, 1)[..5], &[honest().as_fd()])),
        }
    }
}

/// Each costs its own call, and leaves nothing in the host.
#[test]
fn what_is_no_sealed_memory_is_an_error_of_its_call() {
    let _watchdog = Watchdog::new("what_is_no_sealed_memory_is_an_error_of_its_call");
    applause(role("lies").spawn().unwrap());
}

fn lies() {
    type Numbers = Shared<[u64]>;
    fn lie((wrong, gate): (Wrong, String)) -> Numbers {
        let id = u64::from_le_bytes(attend(&gate).try_into().unwrap());
        lies::tell(wrong, id);
        // It is honest from here on.
        Shared::build(THRESHOLD, |all| all.fill(7))
    }
    let gate = Gate::new();
    for (wrong, why) in WRONGS {
        let pool = pool(1);
        get(pool.submit(double, 1)).unwrap();
        let before = belongings();
        let future = pool.submit(lie, (wrong, gate.path()));
        let id = future.id().get();
        gate.next().answer(&id.to_le_bytes());
        let error = get(future).expect_err("it was believed");
        assert!(matches!(error, Error::Decode { what: "return value", .. }), "{wrong:?}: {error:?}");
        assert!(error.to_string().contains(why), "{wrong:?}: {error}");
        assert_eq!(memories(), BTreeSet::new(), "{wrong:?}");
        // What does without what is enclosed is as good as before, from the same worker.
        assert_eq!(get(pool.submit(double, 21)).unwrap(), 42, "{wrong:?}");
        until("nothing is left", || belongings() == before);
        if wrong != Wrong::OldOnes && wrong != Wrong::Halves {
            let honest = get(pool.submit(|n: u64| Numbers::build(THRESHOLD, |all| all.fill(n)), 3));
            assert!(honest.unwrap().iter().all(|n| *n == 3), "{wrong:?}");
        }
    }
}

/// A worker that names what is enclosed, and encloses nothing.
#[test]
fn an_index_without_memory_is_an_error_of_its_call() {
    /// Looks like a blob that is enclosed.
    #[derive(Serialize, Deserialize)]
    enum Form {
        Bytes(u8),
        Enclosed(u32),
    }
    enum Lie {
        Told(Form),
        Heard(Blob),
    }
    impl Serialize for Lie {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Lie::Told(form) => form.serialize(serializer),
                Lie::Heard(blob) => blob.serialize(serializer),
            }
        }
    }
    impl<'de> Deserialize<'de> for Lie {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Blob::deserialize(deserializer).map(Lie::Heard)
        }
    }
    let _watchdog = Watchdog::new("an_index_without_memory_is_an_error_of_its_call");
    let pool = pool(1);
    for index in [0, 1, 252, u32::MAX] {
        let lie = |index| Lie::Told(Form::Enclosed(index));
        let error = get(pool.submit(lie, index)).err().expect("it was believed");
        assert!(matches!(error, Error::Decode { what: "return value", .. }), "{error:?}");
        assert!(error.to_string().contains("did not come with it"), "{error}");
        let beside = |index| (Blob::build(THRESHOLD, |_| ()), Lie::Told(Form::Enclosed(index)));
        assert_eq!(get(pool.submit(beside, index)).is_ok(), index == 0);
    }
    assert!(get(pool.submit(|n| Lie::Told(Form::Bytes(n)), 0_u8)).is_ok(), "no bytes at all");
}
