//! What pools take from the system and give back: descriptors, processes, threads, memory; and
//! what happens when the system has no more to give.
//!
//! Tests that prove a clause of `PARITY.md` are named after it.
//!
//! Not here: workers that die (`faults.rs`), what is there or not (`surroundings.rs`). Limits belong
//! to a whole process, so each test plays in a process of its own, a role.

mod faults_common;

use std::os::unix::process::CommandExt;
use std::time::Duration;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, ThreadPoolExecutor};
use faults_common::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

concurrent_futures::init_tests!();

#[test]
fn role_entry() {
    let Some(role) = my_role() else { return };
    let _watchdog = match role.as_str() {
        "thousand pools" | "ten thousand workers" => Watchdog::within(GREAT_NUMBERS, "a role"),
        _ => Watchdog::new("a role"),
    };
    match role.as_str() {
        "thousand pools" => thousand_pools(),
        "ten thousand workers" => ten_thousand_workers(),
        "one large reply" => one_large_reply(),
        "hundred thousand calls" => hundred_thousand_calls(),
        "workers come and go" => workers_come_and_go(),
        "no descriptors" => no_descriptors(),
        "no second worker" => no_second_worker(),
        "no replacement" => no_replacement(),
        "no stand-in" => no_stand_in(),
        "one replacement less" => one_replacement_less(),
        "no threads" => no_threads(),
        "no processes" => no_processes(),
        "narrow pipes" => narrow_pipes(),
        "failing initialisers" => failing_initialisers(),
        "liars" => liars(),
        other => panic!("no role: {other}"),
    }
}

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

fn limit_descriptors(most: u64) {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: hard }).unwrap();
}

/// What takes half a minute on a machine with nothing else to do is given this long.
const GREAT_NUMBERS: Duration = Duration::from_secs(900);

/// What may be added to the resident memory, in kB, by what gives everything back: the kernel counts it in
/// portions, and the allocator keeps some. It is 100 bytes for each of ten thousand.
const NOTHING: u64 = 1024;

fn thousand_pools() {
    let use_one = |n: u64| {
        let threads = ThreadPoolExecutor::new(2).unwrap();
        // Without a backtrace: to make one in a debug build takes longer than all the rest.
        let builder = ProcessPoolExecutor::builder().max_workers(3).env("RUST_BACKTRACE", "0");
        let pool = builder.build().unwrap();
        let futures: Vec<_> = (0..6).map(|i| pool.submit(double, n + i)).collect();
        let panicked = pool.submit(|death: Death| death.die(), Death::Panic);
        let died = pool.submit(|death: Death| death.die(), Death::ExitThree);
        assert_eq!(get(threads.submit(double, n)).unwrap(), 2 * n);
        for (i, future) in (0..).zip(futures) {
            assert_eq!(get(future).unwrap(), 2 * (n + i));
        }
        let _: Error = get::<()>(panicked).unwrap_err();
        let _: Error = get::<()>(died).unwrap_err();
    };
    (0..50).for_each(use_one); // what is made once a process, and what the allocator keeps
    until("threads that were joined are gone", || belongings().1 <= baseline_threads());
    let (before, memory) = (belongings(), kilobytes("VmRSS:"));
    for n in 1..=1000 {
        use_one(n);
        let (descriptors, _, children) = belongings();
        assert_eq!((descriptors, children), (before.0, 0), "after {n} pools");
    }
    // A thread that was joined may be listed for a moment.
    until("all threads are gone", || belongings() == before);
    let now = kilobytes("VmRSS:");
    println!("{before:?} before and after, {memory} kB before, {now} kB after");
    assert!(now < memory + NOTHING, "{memory} kB before, {now} kB after");
}

/// The harness's main thread, the test's and the watchdog.
fn baseline_threads() -> usize {
    3
}

/// Takes ten seconds on a machine with nothing else to do.
#[test]
fn p26_a_thousand_pools_leave_nothing() {
    let _watchdog = Watchdog::within(GREAT_NUMBERS, "p26_a_thousand_pools_leave_nothing");
    println!("{}", applause(role("thousand pools").spawn().unwrap()));
}

/// Workers that die and workers that leave after a call, all of them replaced.
fn ten_thousand_workers() {
    let pool = pool(1);
    assert_eq!(get(pool.submit(double, 2)).unwrap(), 4);
    let before = belongings();
    assert_eq!(before.2, 1);

    let short_lived = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(1).build().unwrap();
    let use_up = |n: u64| {
        let death = match n % 3 {
            0 => Death::ExitZero,
            1 => Death::Kill,
            _ => return assert_eq!(get(short_lived.submit(double, n)).unwrap(), 2 * n),
        };
        let error = get::<()>(pool.submit(|death: Death| death.die(), death)).unwrap_err();
        assert!(matches!(error, Error::WorkerDied { .. }), "{error:?}");
    };
    (0..500).for_each(use_up); // what the allocator keeps
    let memory = kilobytes("VmRSS:");
    (0..10_000).for_each(use_up);
    let now = kilobytes("VmRSS:");
    println!("{before:?} before and after, {memory} kB before, {now} kB after");
    assert!(now < memory + NOTHING, "{memory} kB before, {now} kB after");

    drop(short_lived);
    assert_eq!(get(pool.submit(double, 2)).unwrap(), 4);
    // A thread that was joined may be listed for a moment.
    until("all is given back", || belongings() == before);
}

/// Takes half a minute on a machine with nothing else to do.
#[test]
fn p26_ten_thousand_workers_that_are_replaced_leave_nothing() {
    let name = "p26_ten_thousand_workers_that_are_replaced_leave_nothing";
    let _watchdog = Watchdog::within(GREAT_NUMBERS, name);
    println!("{}", applause(role("ten thousand workers").spawn().unwrap()));
}

/// One large reply is no reason to hold its memory until the next call.
fn one_large_reply() {
    const SIZE: usize = 64 << 20;
    let pool = pool(1);
    assert_eq!(get(pool.submit(double, 2)).unwrap(), 4);
    let most = kilobytes("VmRSS:") + (16 << 10);
    assert_eq!(get(pool.submit(Blob::new, SIZE)).unwrap().0.len(), SIZE);
    // The result is known before its bytes are given back.
    until("the memory is given back", || kilobytes("VmRSS:") < most);
}

#[test]
fn p26_an_idle_pool_has_given_back_the_memory_of_its_last_reply() {
    let _watchdog = Watchdog::new("p26_an_idle_pool_has_given_back_the_memory_of_its_last_reply");
    applause(role("one large reply").spawn().unwrap());
}

fn workers_come_and_go() {
    let pool = ThreadPoolExecutor::builder().max_workers(1).idle_timeout(Duration::ZERO).build().unwrap();
    let cycle = || {
        assert_eq!(get(pool.submit(double, 2)).unwrap(), 4);
        until("the worker has left", || belongings().1 <= baseline_threads());
    };
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    (0..10).for_each(|_| cycle());
    let before = (belongings(), mappings());
    (0..200).for_each(|_| cycle());
    // A thread that nobody joins keeps its stack, which is a mapping or two.
    assert_eq!(belongings(), before.0);
    assert!(mappings() < before.1 + 20, "{} mappings, {} before", mappings(), before.1);
}

#[test]
fn workers_that_come_and_go_leave_nothing() {
    let _watchdog = Watchdog::new("workers_that_come_and_go_leave_nothing");
    applause(role("workers come and go").spawn().unwrap());
}

/// Where procspawn 1.0.2 panics after some hundred calls.
fn hundred_thousand_calls() {
    const CALLS: u64 = 100_000;
    limit_descriptors(256);
    let pool = pool(2);
    let futures: Vec<_> = (0..CALLS).map(|n| pool.submit(double, n)).collect();
    let (descriptors, ..) = belongings();
    assert!(descriptors < 64, "{descriptors}");
    for (n, future) in (0..).zip(futures) {
        assert_eq!(get(future).unwrap(), n * 2);
    }
}

#[test]
fn p26_a_hundred_thousand_calls_need_few_descriptors() {
    let _watchdog = Watchdog::new("p26_a_hundred_thousand_calls_need_few_descriptors");
    applause(role("hundred thousand calls").spawn().unwrap());
}

/// Runs `call` with so many descriptors to spare.
fn with_spare<T>(spare: usize, call: impl FnOnce() -> T) -> T {
    let used = descriptors("/proc/self/fd");
    let most = (0..).filter(|fd| !used.contains(fd)).nth(spare).unwrap();
    limit_descriptors(u64::try_from(most).unwrap());
    let outcome = call();
    limit_descriptors(256);
    outcome
}

fn no_descriptors() {
    limit_descriptors(256);
    let mut served = 0;
    for spare in 0..24 {
        let outcome = with_spare(spare, || {
            let pool = pool(1);
            let futures = [pool.submit(double, 21), pool.submit(double, 21)];
            futures.map(get)
        });
        println!("{spare} to spare: {outcome:?}");
        for outcome in outcome {
            match outcome {
                Ok(value) => {
                    assert_eq!(value, 42);
                    served += 1;
                }
                Err(Error::Broken { reason, cause }) => {
                    assert!(reason.contains("the pool is broken"), "{reason}");
                    let cause = cause.expect("what broke it");
                    assert!(spare > 0 || matches!(&*cause, Error::Spawn { .. }), "{cause:?}");
                }
                Err(other) => panic!("{spare} to spare: {other:?}"),
            }
        }
    }
    assert!((1..48).contains(&served), "some have enough, some have not: {served} of 48");
    assert!(children_of(std::process::id()).is_empty());
    assert_eq!(get(pool(2).submit(double, 21)).unwrap(), 42);
}

#[test]
fn p18_without_descriptors_a_pool_ends_with_an_error() {
    let _watchdog = Watchdog::new("p18_without_descriptors_a_pool_ends_with_an_error");
    println!("{}", applause(role("no descriptors").spawn().unwrap()));
}

/// One worker works, a second one cannot be started.
fn no_second_worker() {
    limit_descriptors(256);
    let (pool, gate) = (pool(2), Gate::new());
    let running = pool.submit(wait_at, gate.path());
    let visitor = gate.next();
    let queued = with_spare(0, || {
        let queued: Vec<_> = (0..3).map(|n| pool.submit(double, n)).collect();
        // The second worker's thread has come and found that it cannot work.
        until_second_worker_gave_up(&pool);
        queued
    });
    let pid = visitor.pid;
    visitor.go_on();
    assert_eq!(get(running).unwrap(), pid, "the worker that there is does not suffer");
    for (n, future) in (0..).zip(queued) {
        assert_eq!(get(future).expect("there is a worker for it"), n * 2);
    }
}

/// The pool has told, in one way or another, that it has one worker only.
fn until_second_worker_gave_up(pool: &ProcessPoolExecutor) {
    let end = std::time::Instant::now() + LONG;
    loop {
        let text = format!("{pool:?}");
        if text.contains("workers: 1") || text.contains("open: false") {
            return;
        }
        assert!(std::time::Instant::now() < end, "{text}");
        std::thread::yield_now();
    }
}

#[test]
fn p18_a_second_worker_that_cannot_start_costs_nothing() {
    let _watchdog = Watchdog::new("p18_a_second_worker_that_cannot_start_costs_nothing");
    applause(role("no second worker").spawn().unwrap());
}

/// The one worker leaves after its task, and there can be no other.
fn no_replacement() {
    let pool = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(1).build().unwrap();
    let gate = Gate::new();
    let running = pool.submit(wait_at, gate.path());
    let visitor = gate.next();
    let queued: Vec<_> = (0..5).map(|n| pool.submit(double, n)).collect();
    limit_descriptors(3); // whoever has more keeps them, and gets no new ones
    visitor.go_on();
    get(running).unwrap();
    for future in queued {
        let error = get(future).unwrap_err();
        let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        assert!(chain.map(ToString::to_string).any(|text| text.contains("Too many open files")), "{error:?}");
    }
    assert!(pool.shutdown_timeout(LONG));
    assert!(matches!(get(pool.submit(double, 1)), Err(Error::Broken { .. })));
    limit_descriptors(256);
    assert!(children_of(std::process::id()).is_empty());
}

#[test]
fn p18_a_replacement_that_cannot_be_started_ends_the_rest_with_a_reason() {
    let _watchdog = Watchdog::new("p18_a_replacement_that_cannot_be_started_ends_the_rest_with_a_reason");
    applause(role("no replacement").spawn().unwrap());
}

/// A callback of the one worker waits for what is queued, and nobody can stand in.
fn no_stand_in() {
    let pool = pool(1);
    let gate = Gate::new();
    let first = pool.submit(wait_at, gate.path());
    let visitor = gate.next();
    let second = pool.submit(double, 2);
    let (tell, told) = std::sync::mpsc::channel();
    first.add_done_callback(move |_| tell.send(get(second)).unwrap());
    limit_descriptors(3);
    visitor.go_on();
    let error = told.recv().unwrap().unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
    limit_descriptors(256);
}

#[test]
fn p24_a_callback_for_which_nobody_can_stand_in_does_not_wait_for_ever() {
    let _watchdog = Watchdog::new("p24_a_callback_for_which_nobody_can_stand_in_does_not_wait_for_ever");
    applause(role("no stand-in").spawn().unwrap());
}

/// Of two workers one leaves after its task, and there can be no other.
fn one_replacement_less() {
    let pool = ProcessPoolExecutor::builder().max_workers(2).max_tasks_per_child(3).build().unwrap();
    let gate = Gate::new();
    // The first worker has one task left after these.
    assert_eq!([1, 2].map(|n| get(pool.submit(double, n)).unwrap()), [2, 4]);
    let last = pool.submit(wait_at, gate.path());
    let at_last = gate.next();
    let running = pool.submit(wait_at, gate.path());
    let visitor = gate.next();
    // As many as the other one can do before its turn to leave comes.
    let queued: Vec<_> = (0..2).map(|n| pool.submit(double, n)).collect();
    limit_descriptors(3);
    at_last.go_on();
    get(last).unwrap();
    until("there is one worker less", || format!("{pool:?}").contains("workers: 1"));
    visitor.go_on();
    get(running).unwrap();
    // What the first worker had already taken, it has put back: the second one does it all.
    let values: Vec<u64> = queued.into_iter().map(|future| get(future).unwrap()).collect();
    assert_eq!(values, [0, 2]);
    limit_descriptors(256);
}

#[test]
fn p18_a_replacement_that_cannot_be_started_leaves_the_rest_to_the_others() {
    let _watchdog = Watchdog::new("p18_a_replacement_that_cannot_be_started_leaves_the_rest_to_the_others");
    applause(role("one replacement less").spawn().unwrap());
}

/// Address space for whatever, but not for the stack of one more thread.
fn without_threads<T>(call: impl FnOnce() -> T) -> T {
    let hard = getrlimit(Resource::As).maximum;
    let most = (kilobytes("VmSize:") + 1024) << 10;
    setrlimit(Resource::As, Rlimit { current: Some(most), maximum: hard }).unwrap();
    let outcome = call();
    setrlimit(Resource::As, Rlimit { current: hard, maximum: hard }).unwrap();
    outcome
}

fn no_threads() {
    let gate = Gate::new();
    let (busy, idle) = (pool(2), pool(2));
    let running = busy.submit(wait_at, gate.path());
    let visitor = gate.next();
    let (queued, failed) = without_threads(|| {
        let queued = [busy.submit(double, 1), busy.submit(double, 2)];
        (queued, [idle.submit(double, 1), idle.submit(double, 2)].map(get))
    });
    for outcome in failed {
        match outcome {
            Err(Error::Broken { cause: Some(cause), .. }) => assert!(matches!(*cause, Error::Spawn { .. })),
            other => panic!("{other:?}"),
        }
    }
    assert!(idle.shutdown_timeout(LONG));
    // A pool that has a worker is only smaller than it might be.
    assert!(queued.iter().all(|future| !future.done()));
    visitor.go_on();
    get(running).unwrap();
    assert_eq!(queued.map(get).map(Result::unwrap), [2, 4]);
}

#[test]
fn p27_a_thread_that_cannot_be_started_ends_what_is_pending() {
    let _watchdog = Watchdog::new("p27_a_thread_that_cannot_be_started_ends_what_is_pending");
    applause(role("no threads").spawn().unwrap());
}

/// The user may have only so many processes and threads more.
fn no_processes() {
    let alone = belongings();
    for (workers, spare) in [1, 3].into_iter().flat_map(|workers| (0..=12).map(move |spare| (workers, spare)))
    {
        until("what was before is gone", || belongings() == alone);
        let hard = getrlimit(Resource::Nproc).maximum;
        let most = (alone.1 + spare) as u64;
        setrlimit(Resource::Nproc, Rlimit { current: Some(most), maximum: hard }).unwrap();
        let pool = pool(workers);
        let futures: Vec<_> = (0..12).map(|n| pool.submit(double, n)).collect();
        let outcomes: Vec<_> = futures.into_iter().map(get).collect();
        drop(pool);
        setrlimit(Resource::Nproc, Rlimit { current: hard, maximum: hard }).unwrap();

        let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let error = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
        println!("{workers} workers, {spare} to spare: {served} of 12 served; {error:?}");
        for (n, outcome) in (0..).zip(outcomes) {
            match outcome {
                Ok(value) => assert_eq!(value, 2 * n),
                Err(Error::Spawn { .. }) => {}
                Err(Error::Broken { cause: Some(cause), .. }) if matches!(*cause, Error::Spawn { .. }) => {}
                Err(other) => panic!("{workers} workers, {spare} to spare: {other:?}"),
            }
        }
        // A worker is a thread here and a process. That it also watches, it can leave to the kernel.
        match (workers, spare) {
            (_, 0 | 1) => assert_eq!(served, 0),
            (1, _) | (_, 12) => assert_eq!(served, 12),
            // More threads may have come than there can be processes.
            _ => {}
        }
    }
}

/// The limit is that of a user, and root has none: the role is one whom nobody else is.
#[test]
fn a_user_who_may_have_no_more_processes_gets_an_error_or_a_smaller_pool() {
    let _watchdog = Watchdog::new("a_user_who_may_have_no_more_processes_gets_an_error_or_a_smaller_pool");
    let (_dir, copy) = copy_of_this_program();
    let nobody = 50_000 + std::process::id() % 10_000;
    match role_of(&copy, "no processes").uid(nobody).gid(nobody).spawn() {
        Ok(role) => println!("{}", applause(role)),
        Err(error) => not_shown(&format!("RLIMIT_NPROC, which needs the right to be another user ({error})")),
    }
}

/// A user who has no wide pipes left, and the narrow ones are for the asking.
fn narrow_pipes() {
    const WIDE: usize = 1 << 20;
    let mut held = Vec::new();
    let refused = loop {
        let pipe = std::io::pipe().unwrap();
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(&pipe.1, WIDE) {
            break error;
        }
        held.push(pipe);
        if held.len() == 1000 {
            return println!("a user has as many wide pipes as there are descriptors");
        }
    };
    assert_eq!(refused, rustix::io::Errno::PERM);
    let pool = pool(2);
    for length in [1, 100 << 10, 3 << 20] {
        let Blob(bytes) = Blob::new(length);
        assert!(get(pool.submit(|bytes: Vec<u8>| bytes, bytes.clone())).unwrap() == bytes);
    }
    println!("{} wide pipes, and then narrow ones", held.len());
}

/// Root is refused none: the role is one whom nobody else is.
#[test]
fn a_user_who_may_have_no_more_wide_pipes_has_narrow_ones() {
    let _watchdog = Watchdog::new("a_user_who_may_have_no_more_wide_pipes_has_narrow_ones");
    let (_dir, copy) = copy_of_this_program();
    let nobody = 60_000 + std::process::id() % 5_000;
    match role_of(&copy, "narrow pipes").uid(nobody).gid(nobody).spawn() {
        Ok(role) => println!("{}", applause(role)),
        Err(error) => not_shown(&format!("pipes of a poor user, which needs the right to be one ({error})")),
    }
}

/// Pools whose initializer fails, in every way.
fn failing_initialisers() {
    let use_one = |death: Death| {
        let builder = ProcessPoolExecutor::builder().max_workers(2);
        let pool = builder.initializer(|death: Death| death.die(), death).build().unwrap();
        let futures: Vec<_> = (0..5).map(|n| pool.submit(double, n)).collect();
        for future in futures {
            assert!(matches!(get(future), Err(Error::Broken { cause: Some(_), .. })));
        }
    };
    use_one(Death::Panic); // what is made once a process
    until("threads that were joined are gone", || belongings().1 <= baseline_threads());
    let before = belongings();
    for death in [Death::Panic, Death::PanicWithBomb, Death::ExitThree, Death::Kill] {
        use_one(death);
        let (descriptors, _, children) = belongings();
        assert_eq!((descriptors, children), (before.0, 0), "{death:?}");
    }
    until("all threads are gone", || belongings() == before);
}

#[test]
fn p16_initializers_that_fail_leave_nothing() {
    let _watchdog = Watchdog::new("p16_initializers_that_fail_leave_nothing");
    applause(role("failing initialisers").spawn().unwrap());
}

/// In kB, as the kernel counts them: the most memory that was ever in use, and ever mapped.
fn memory() -> (u64, u64) {
    (kilobytes("VmHWM:"), kilobytes("VmPeak:"))
}

fn kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Workers that announce more than they send.
fn liars() {
    fn lie(length: u64) {
        scribble(&header(length, kind::RETURNED, 0));
        scribble(&[b'x'; 1000]);
        std::process::exit(0);
    }
    let pool = pool(1);
    assert_eq!(get(pool.submit(double, 2)).unwrap(), 4);
    let before = memory();
    for length in
        [u64::MAX, u64::MAX - 1, 1 << 63, isize::MAX as u64, (1 << 36) + 1, 1 << 36, 1 << 35, 1 << 30]
    {
        let error = get(pool.submit(lie, length)).unwrap_err();
        match error {
            Error::Decode { .. } if length > 1 << 36 => {
                assert!(error.to_string().contains("announces"), "{error}")
            }
            Error::WorkerDied { .. } if length <= 1 << 36 => {}
            error => panic!("{length} bytes: {error:?}"),
        }
        assert_eq!(get(pool.submit(double, 2)).unwrap(), 4);
    }
    let after = memory();
    println!("{before:?} kB before, {after:?} kB after");
    assert!(after.0 - before.0 < 16 << 10, "in use: {} kB more", after.0 - before.0);
    // The allocator of the standard C library maps 128 MiB for a thread.
    assert!(after.1 - before.1 < 512 << 10, "mapped: {} kB more", after.1 - before.1);
}

#[test]
fn what_a_worker_announces_takes_no_memory() {
    let _watchdog = Watchdog::new("what_a_worker_announces_takes_no_memory");
    println!("{}", applause(role("liars").spawn().unwrap()));
}
