//! Queues, events, semaphores and locks that tasks share: on threads and on processes, and when a process dies that has
//! something of them in hand.
//!
//! Not here: the lines in which they wait (`src/sync/hall.rs`).

concurrent_futures::init_tests!();

mod common;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use common::{Drops, LIMIT, LONG, Ticket, Token, Turnstile, watchdog};
use concurrent_futures::sync::{Event, GetError, Lock, PutError, Queue, Semaphore};
use concurrent_futures::{Error, Executor, ProcessPoolExecutor, TaskOptions, ThreadPoolExecutor, task};
use serde::{Deserialize, Serialize};

fn processes(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

fn threads(max_workers: usize) -> ThreadPoolExecutor {
    ThreadPoolExecutor::new(max_workers).unwrap()
}

/// Instantiates functions `fn name<E: Executor>(make: impl Fn(usize) -> E)` as tests.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        on_both!(@threads: $($test),*);
        on_both!(@processes: $($test),*);
    };
    (@$engine:ident: $($test:ident),*) => {
        mod $engine {
            $(
                #[test]
                fn $test() {
                    let name = concat!(stringify!($test), " on ", stringify!($engine));
                    $crate::watchdog(name, $crate::LIMIT, || super::$test(super::$engine));
                }
            )*
        }
    };
}

on_both!(
    every_item_arrives_once,
    items_of_one_producer_keep_their_order,
    a_full_queue_has_its_producers_wait,
    closing_wakes_all_who_wait,
    who_wants_nothing_now_does_not_wait,
    an_event_wakes_all_and_can_be_cleared,
    no_more_than_so_many_have_a_permit,
    a_lock_keeps_two_from_the_same_thing,
    a_handle_comes_back_as_the_same_one,
    handles_travel_in_items,
    handles_travel_with_calls_that_are_tried_again,
    a_panic_gives_the_lock_back_and_says_so,
    large_items_pass,
    a_call_of_several_threads_asks_for_all_of_them,
    handles_travel_in_chunks,
);

fn consume((from, to): (Queue<u32>, Queue<u32>)) -> usize {
    from.iter().map(|item| to.put(item.unwrap()).unwrap()).count()
}

fn produce((to, items): (Queue<u32>, std::ops::Range<u32>)) -> u32 {
    items.map(|item| to.put(item).map_or(0, |()| 1)).sum()
}

fn every_item_arrives_once<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(4);
    let (items, seen) = (Queue::bounded(3), Queue::unbounded());
    let producers = [0..200, 200..400].map(|range| executor.submit(produce, (items.clone(), range)));
    let consumers = [(); 2].map(|()| executor.submit(consume, (items.clone(), seen.clone())));
    assert_eq!(producers.into_iter().map(|made| made.result().unwrap()).sum::<u32>(), 400);
    // One of ours, too.
    items.put(400).unwrap();
    items.close();
    assert_eq!(consumers.into_iter().map(|made| made.result().unwrap()).sum::<usize>(), 401);
    seen.close();
    let seen: Vec<_> = seen.iter().map(Result::unwrap).collect();
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>().len()), (401, 401));
}

fn items_of_one_producer_keep_their_order<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let items = Queue::bounded(2);
    let producer = executor.submit(produce, (items.clone(), 0..100));
    let got: Vec<_> = (0..100).map(|_| items.get().unwrap()).collect();
    assert_eq!(got, (0..100).collect::<Vec<_>>());
    assert_eq!(producer.result().unwrap(), 100);
    assert_eq!((items.len(), items.capacity(), items.is_empty()), (0, 2, true));
}

/// What it says before it waits arrives before it waits.
fn put_two((full, said): (Queue<u32>, Queue<bool>)) -> bool {
    full.put(1).unwrap();
    let is_full = matches!(full.try_put(2), Err(PutError::Full(2)));
    said.put(is_full).unwrap();
    full.put(2).is_ok()
}

fn a_full_queue_has_its_producers_wait<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (full, said) = (Queue::bounded(1), Queue::unbounded());
    let producer = executor.submit(put_two, (full.clone(), said.clone()));
    assert!(said.get().unwrap());
    assert!(!producer.done());
    assert!(matches!(full.put_timeout(9, Duration::ZERO), Err(PutError::Full(9))));
    assert_eq!((full.get().unwrap(), full.get().unwrap()), (1, 2));
    assert!(producer.result().unwrap());
}

fn wait_at((queue, ready): (Queue<u32>, Event)) -> (bool, bool) {
    ready.set();
    let got = matches!(queue.get(), Err(GetError::Closed));
    (got, matches!(queue.put(1), Err(PutError::Closed(1))))
}

fn closing_wakes_all_who_wait<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let (empty, full, ready) = (Queue::bounded(1), Queue::bounded(1), [(); 3].map(|()| Event::new()));
    full.put(0).unwrap();
    let waiting = [0, 1].map(|n| executor.submit(wait_at, (empty.clone(), Event::clone(&ready[n]))));
    let putting = executor.submit(
        |(full, ready): (Queue<u32>, Event)| {
            ready.set();
            matches!(full.put(1), Err(PutError::Closed(1)))
        },
        (full.clone(), ready[2].clone()),
    );
    ready.iter().for_each(Event::wait);
    empty.close();
    full.close();
    full.close();
    for waiting in waiting {
        assert_eq!(waiting.result().unwrap(), (true, true));
    }
    assert!(putting.result().unwrap());
    assert!(full.is_closed() && full.get().unwrap() == 0 && matches!(full.get(), Err(GetError::Closed)));
}

fn who_wants_nothing_now_does_not_wait<E: Executor>(make: impl Fn(usize) -> E) {
    fn look((queue, event, lock, none): (Queue<u32>, Event, Lock, Semaphore)) -> [bool; 8] {
        let short = Duration::from_millis(1);
        [
            matches!(queue.try_get(), Err(GetError::Empty)),
            matches!(queue.get_timeout(short), Err(GetError::Empty)),
            event.is_set(),
            event.wait_timeout(short),
            lock.try_acquire().is_none(),
            lock.acquire_timeout(short).is_none(),
            none.try_acquire().is_none(),
            none.acquire_timeout(Duration::ZERO).is_none(),
        ]
    }
    let executor = make(1);
    let (queue, event, lock, none) = (Queue::unbounded(), Event::new(), Lock::new(), Semaphore::new(0));
    let guard = lock.acquire();
    let seen = executor.submit(look, (queue, event, lock.clone(), none)).result().unwrap();
    assert_eq!(seen, [true, true, false, false, true, true, true, true]);
    assert!(lock.is_locked());
    drop(guard);
    assert!(!lock.is_locked());
}

fn an_event_wakes_all_and_can_be_cleared<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let (start, done) = (Event::new(), Event::new());
    let waiting = [(); 2].map(|()| {
        executor.submit(
            |(start, _): (Event, Event)| {
                start.wait();
                start.is_set()
            },
            (start.clone(), done.clone()),
        )
    });
    executor.submit(|start: Event| start.set(), start.clone()).result().unwrap();
    assert!(waiting.into_iter().all(|waiting| waiting.result().unwrap()));
    let clear = |(start, done): (Event, Event)| (start.clear(), done.set()).0;
    let cleared = executor.submit(clear, (start.clone(), done.clone()));
    done.wait();
    cleared.result().unwrap();
    assert!(done.wait_timeout(Duration::ZERO) && !start.wait_timeout(Duration::ZERO));
}

fn no_more_than_so_many_have_a_permit<E: Executor>(make: impl Fn(usize) -> E) {
    fn count((permits, inside): (Semaphore, Semaphore)) -> bool {
        let _permit = permits.acquire();
        // As many as may be inside: one more would find none.
        inside.try_acquire().is_some()
    }
    let executor = make(4);
    let (permits, inside) = (Semaphore::new(2), Semaphore::new(2));
    let counts = executor.map(count, (0..200).map(|_| (permits.clone(), inside.clone())));
    assert!(counts.into_iter().all(Result::unwrap));
    assert_eq!((permits.available(), inside.available()), (2, 2));
}

fn a_lock_keeps_two_from_the_same_thing<E: Executor>(make: impl Fn(usize) -> E) {
    fn add((file, lock): (std::path::PathBuf, Lock)) {
        let guard = lock.acquire();
        assert!(!guard.is_abandoned());
        let count: u32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        std::fs::write(&file, (count + 1).to_string()).unwrap();
    }
    let executor = make(4);
    let file = common::fresh_path("count");
    std::fs::write(&file, "0").unwrap();
    let lock = Lock::new();
    executor.map(add, (0..200).map(|_| (file.clone(), lock.clone()))).for_each(|added| added.unwrap());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "200");
    std::fs::remove_file(file).unwrap();
}

fn a_handle_comes_back_as_the_same_one<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let queue = Queue::bounded(7);
    let back = executor.submit(|queue: Queue<u32>| queue.put(1).map(|()| queue).unwrap(), queue.clone());
    let back = back.result().unwrap();
    assert_eq!(back, queue);
    assert_eq!(back.get().unwrap(), 1);
    let other = executor.submit(|(a, b): (Event, Event)| (b, a), (Event::new(), Event::new()));
    let (b, a) = other.result().unwrap();
    b.set();
    assert!(b.is_set() && !a.is_set() && a != b);
}

/// A question, and where the answer goes.
type Question = (u32, Queue<u32>);

fn handles_travel_in_items<E: Executor>(make: impl Fn(usize) -> E) {
    fn serve(questions: Queue<Question>) -> usize {
        questions.iter().map(|question| question.unwrap()).map(|(n, to)| to.put(n * 2).unwrap()).count()
    }
    fn ask((questions, answers): (Queue<Question>, Queue<u32>)) -> u32 {
        questions.put((21, answers.clone())).unwrap();
        answers.get().unwrap()
    }
    let executor = make(2);
    let questions = Queue::unbounded();
    let server = executor.submit(serve, questions.clone());
    let answers = Queue::unbounded();
    questions.put((1, answers.clone())).unwrap();
    assert_eq!(answers.get().unwrap(), 2);
    // From worker to worker.
    assert_eq!(executor.submit(ask, (questions.clone(), answers)).result().unwrap(), 42);
    // And to us.
    let to_us = Queue::unbounded();
    let asked = executor.submit(ask, (to_us.clone(), Queue::unbounded()));
    let (n, answer) = to_us.get().unwrap();
    answer.put(n + 1).unwrap();
    assert_eq!(asked.result().unwrap(), 22);
    questions.close();
    assert_eq!(server.result().unwrap(), 2);
}

fn handles_travel_with_calls_that_are_tried_again<E: Executor>(make: impl Fn(usize) -> E) {
    fn fail_once(attempts: Queue<u32>) -> Result<u32, String> {
        attempts.put(task::attempt()).map_err(|error| error.to_string())?;
        if task::attempt() == 1 { Err("once".into()) } else { Ok(task::attempt()) }
    }
    let executor = make(1);
    let attempts = Queue::unbounded();
    let again = TaskOptions::new().retries(3).backoff(Duration::ZERO, Duration::ZERO).retry_if(|_| true);
    assert_eq!(executor.try_submit_with(fail_once, attempts.clone(), again).result().unwrap(), 2);
    assert_eq!((attempts.get().unwrap(), attempts.get().unwrap()), (1, 2));
}

fn a_panic_gives_the_lock_back_and_says_so<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let lock = Lock::new();
    let panic = executor.submit(
        |lock: Lock| {
            let _guard = lock.acquire();
            panic!("with the lock in hand")
        },
        lock.clone(),
    );
    assert!(matches!(panic.result(), Err::<(), _>(Error::Panicked { .. })));
    let told = executor.submit(|lock: Lock| lock.acquire().is_abandoned(), lock.clone());
    assert!(told.result().unwrap());
    assert!(!lock.acquire().is_abandoned(), "one is told");
}

fn large_items_pass<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let (there, back) = (Queue::bounded(1), Queue::bounded(1));
    let echo = executor.submit(
        |(there, back): (Queue<Vec<u64>>, Queue<Vec<u64>>)| {
            there.iter().for_each(|item| back.put(item.unwrap()).unwrap());
        },
        (there.clone(), back.clone()),
    );
    for size in [0, 1, 1 << 10, 1 << 19] {
        let item: Vec<_> = (0..size).collect();
        there.put(item.clone()).unwrap();
        assert_eq!(back.get().unwrap(), item);
    }
    there.close();
    echo.result().unwrap();
}

/// One that waits does not keep another one of the same call from asking.
fn a_call_of_several_threads_asks_for_all_of_them<E: Executor>(make: impl Fn(usize) -> E) {
    fn ring((first, second): (Queue<u32>, Queue<u32>)) -> u32 {
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| first.get().unwrap())).collect();
            let passing: Vec<_> =
                (0..4).map(|_| scope.spawn(|| first.put(second.get().unwrap()).unwrap())).collect();
            (0..4).for_each(|n| second.put(n).unwrap());
            passing.into_iter().for_each(|thread| thread.join().unwrap());
            waiting.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    }
    let executor = make(1);
    assert_eq!(executor.submit(ring, (Queue::unbounded(), Queue::unbounded())).result().unwrap(), 6);
}

fn handles_travel_in_chunks<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let sum = Queue::unbounded();
    let options = concurrent_futures::MapOptions::new().chunksize(7);
    let put = |(n, to): (u32, Queue<u32>)| to.put(n).map(|()| to).unwrap();
    for back in executor.map_with(put, (0..100).map(|n| (n, sum.clone())), options) {
        assert_eq!(back.unwrap(), sum);
    }
    sum.close();
    assert_eq!(sum.iter().map(Result::unwrap).sum::<u32>(), 4950);
}

// ---- Across one wall -------------------------------------------------------------------------

/// Runs a test under a watchdog.
macro_rules! watched {
    ($($(#[$doc:meta])* fn $test:ident() $body:block)*) => {
        $( $(#[$doc])* #[test] fn $test() { watchdog(stringify!($test), LIMIT, || $body); } )*
    };
}

/// Takes what it is given, says so, and is never heard of again.
fn take_and_die((lock, permits, items, ticket): (Lock, Semaphore, Queue<u32>, Ticket)) {
    let _guard = lock.acquire();
    let _permits = (permits.acquire(), permits.acquire());
    assert_eq!((items.get().unwrap(), items.get().unwrap()), (1, 2));
    ticket.pass();
    std::process::abort();
}

static KEPT: OnceLock<Queue<u32>> = OnceLock::new();

watched! {
    fn what_a_worker_had_that_died_is_given_back() {
        let pool = processes(2);
        let (lock, permits, items) = (Lock::new(), Semaphore::new(3), Queue::unbounded());
        (1..=3).for_each(|n| items.put(n).unwrap());
        let gate = Turnstile::new();
        let dies = pool.submit(take_and_die, (lock.clone(), permits.clone(), items.clone(), gate.ticket(0)));
        let arrival = gate.arrival();
        assert!(lock.is_locked() && permits.available() == 1 && items.len() == 1);
        assert!(items.take_lost().is_empty());
        let waits = pool.submit(|lock: Lock| lock.acquire().is_abandoned(), lock.clone());
        arrival.release();
        assert!(matches!(dies.result(), Err(Error::WorkerDied { .. })));
        assert!(waits.result().unwrap(), "the next one was not told");
        assert_eq!(permits.available(), 3);
        assert!(permits.acquire().is_abandoned() && !permits.acquire().is_abandoned());
        // It was done with the first when it came for the second.
        assert_eq!(items.take_lost(), [2]);
        assert_eq!((items.get().unwrap(), items.take_lost()), (3, vec![]));
    }

    fn items_of_a_call_that_ended_are_not_lost() {
        let pool = processes(1);
        let items = Queue::unbounded();
        items.put(1).unwrap();
        assert_eq!(pool.submit(|items: Queue<u32>| items.get().unwrap(), items.clone()).result().unwrap(), 1);
        let pid = pool.worker_pids()[0];
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid as i32).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        pool.submit(|()| (), ()).result().unwrap();
        pool.shutdown();
        assert!(items.take_lost().is_empty());
    }

    fn one_that_dies_while_it_waits_leaves_its_place_to_the_next() {
        let pool = processes(2);
        let (lock, said, items) = (Lock::new(), Queue::unbounded(), Queue::<u32>::unbounded());
        let guard = lock.acquire();
        let wait = |(lock, said, items): (Lock, Queue<u32>, Queue<u32>)| {
            said.put(std::process::id()).unwrap();
            (!lock.acquire().is_abandoned()) && items.get().is_ok()
        };
        let (first, second) = (
            pool.submit(wait, (lock.clone(), said.clone(), items.clone())),
            pool.submit(wait, (lock.clone(), said.clone(), items.clone())),
        );
        let _ = (said.get().unwrap(), said.get().unwrap());
        assert!(first.kill());
        assert!(matches!(first.result(), Err(Error::WorkerDied { .. })));
        drop(guard);
        items.put(7).unwrap();
        assert!(second.result().unwrap());
    }

    fn handles_reach_initializers() {
        fn keep(queue: Queue<u32>) {
            KEPT.set(queue).unwrap();
        }
        let queue = Queue::unbounded();
        let pool =
            ProcessPoolExecutor::builder().max_workers(2).initializer(keep, queue.clone()).build().unwrap();
        let put = |n| KEPT.get().unwrap().put(n).unwrap();
        pool.map(put, 0..10).for_each(|put| put.unwrap());
        queue.close();
        assert_eq!(queue.iter().map(Result::unwrap).sum::<u32>(), 45);
    }

    fn what_a_worker_makes_stays_there() {
        let pool = processes(1);
        let error = pool.submit(|()| Event::new(), ()).result().unwrap_err();
        assert!(matches!(error, Error::Encode { .. }), "{error:?}");
        // But may be used there, with its own pools.
        let sum = pool.submit(
            |()| {
                let (pool, queue) = (processes(1), Queue::unbounded());
                pool.submit(produce, (queue.clone(), 0..5)).result().unwrap();
                (0..5).map(|_| queue.get().unwrap()).sum::<u32>()
            },
            (),
        );
        assert_eq!(sum.result().unwrap(), 10);
    }

    fn a_handle_crosses_one_wall() {
        let pool = processes(1);
        let nested = pool.submit(
            |event: Event| {
                let error = processes(1).submit(|event: Event| event.set(), event).result().unwrap_err();
                matches!(error, Error::Encode { .. })
            },
            Event::new(),
        );
        assert!(nested.result().unwrap());
        // To threads of the worker it goes.
        let event = Event::new();
        let threads = pool.submit(
            |event: Event| threads(1).spawn(move || event.set()).result().unwrap(),
            event.clone(),
        );
        threads.result().unwrap();
        assert!(event.is_set());
    }

    fn a_queue_ends_with_its_last_handle() {
        let pool = processes(1);
        let drops = Drops::new();
        let items = Queue::unbounded();
        items.put(Counted(Some(drops.token()))).unwrap();
        assert_eq!(drops.alive(), 1);
        let gate = Turnstile::new();
        let holds = pool.submit(
            |(items, ticket): (Queue<Counted>, Ticket)| (ticket.pass(), items.len()).1,
            (items.clone(), gate.ticket(0)),
        );
        let arrival = gate.arrival();
        drop(items);
        assert_eq!(drops.alive(), 1, "the worker has one");
        arrival.release();
        assert_eq!(holds.result().unwrap(), 1);
        // The worker says so in its own time.
        while drops.alive() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(pool.submit(|n: u32| n, 1).result().unwrap(), 1);
    }

    fn items_that_cannot_be_encoded_cost_themselves() {
        let pool = processes(1);
        let items = Queue::unbounded();
        items.put(Counted(None)).unwrap();
        let got = pool.submit(
            |items: Queue<Counted>| match items.get() {
                Err(GetError::Failed(error)) => error.to_string(),
                other => format!("{:?}", other.map(|_| ())),
            },
            items,
        );
        let error = got.result().unwrap();
        assert!(error.contains("Counted"), "{error}");
    }

    /// Workers are killed all the time while they hand items on: each item is seen, lost with a word, or still there.
    fn a_storm_of_deaths_loses_nothing_without_a_word() {
        const ITEMS: u32 = 2_000;
        let pool = processes(4);
        let (items, seen, lock) = (Queue::unbounded(), Queue::unbounded(), Lock::new());
        (0..ITEMS).for_each(|n| items.put(n).unwrap());
        items.close();
        let work = |(items, seen, lock): (Queue<u32>, Queue<u32>, Lock)| {
            while let Ok(item) = items.get() {
                let _guard = lock.acquire();
                if item.is_multiple_of(97) {
                    std::process::abort();
                }
                seen.put(item).unwrap();
            }
        };
        let mut deaths = 0;
        while !items.is_empty() {
            let rounds = [(); 4].map(|()| pool.submit(work, (items.clone(), seen.clone(), lock.clone())));
            let results = rounds.map(|round| round.result());
            deaths += results.iter().filter(|result| result.is_err()).count();
        }
        seen.close();
        let seen: Vec<_> = seen.iter().map(Result::unwrap).collect();
        let lost: BTreeSet<_> = items.take_lost().into_iter().collect();
        assert_eq!(deaths, lost.len());
        assert!(lost.iter().all(|item| item.is_multiple_of(97)));
        assert_eq!(lost.len() + seen.len(), ITEMS as usize);
        assert_eq!(lost.into_iter().chain(seen).collect::<BTreeSet<_>>().len(), ITEMS as usize);
        assert!(lock.try_acquire().is_some());
    }

    /// A worker that waits for ever does not keep its pool from ending, if it is told to go.
    fn a_worker_that_waits_can_be_killed() {
        let pool = processes(1);
        let never = Event::new();
        let ready = Event::new();
        let waits = pool.submit(
            |(ready, never): (Event, Event)| (ready.set(), never.wait()).1,
            (ready.clone(), never.clone()),
        );
        ready.wait();
        assert!(waits.kill());
        assert!(matches!(waits.result(), Err(Error::WorkerDied { .. })));
        assert!(!never.wait_timeout(Duration::ZERO));
        pool.shutdown_timeout(LONG);
    }
}

/// Counts its end in the host; one without a token does not encode.
struct Counted(Option<Token>);

impl Serialize for Counted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(_) => serializer.serialize_unit(),
            None => Err(serde::ser::Error::custom("it has no token")),
        }
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Counted(None))
    }
}

/// Writes nonsense to whatever socket it finds: one of them is where it asks.
#[cfg(target_os = "linux")]
fn shout(event: Event) -> bool {
    use std::io::Write;
    use std::os::fd::FromRawFd;

    event.set();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let fd = entry.file_name().to_string_lossy().parse().unwrap();
        if target.to_string_lossy().starts_with("socket:") {
            #[allow(unsafe_code)]
            // SAFETY: it is open, and is not closed here: whoever has it keeps it.
            let mut socket =
                std::mem::ManuallyDrop::new(unsafe { std::os::unix::net::UnixStream::from_raw_fd(fd) });
            let _ = socket.write_all(&[0x5a; 100]);
        }
    }
    // It is not answered any more.
    event.is_set()
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_asks_nonsense_harms_itself() {
    watchdog("nonsense", LIMIT, || {
        let pool = processes(1);
        let (event, lock) = (Event::new(), Lock::new());
        let shouts = pool.submit(shout, event.clone());
        assert!(matches!(shouts.result(), Err(Error::WorkerDied { .. })));
        assert!(event.is_set());
        assert!(pool.submit(|lock: Lock| lock.try_acquire().is_some(), lock.clone()).result().unwrap());
        assert!(!lock.is_locked());
    });
}

/// What one does with a queue, without waiting.
#[derive(Clone, Copy, Debug)]
enum Move {
    Put(u32),
    Get,
    Close,
    /// By a worker process.
    PutThere(u32),
    GetThere,
}

fn moves() -> impl proptest::strategy::Strategy<Value = Vec<Move>> {
    use proptest::prelude::*;
    let one = prop_oneof![
        8 => any::<u32>().prop_map(Move::Put),
        8 => Just(Move::Get),
        1 => Just(Move::Close),
        4 => any::<u32>().prop_map(Move::PutThere),
        4 => Just(Move::GetThere),
    ];
    proptest::collection::vec(one, 0..40)
}

fn try_put(queue: &Queue<u32>, item: u32) -> Result<(), String> {
    queue.try_put(item).map_err(|error| format!("{error:?}"))
}

fn try_get(queue: &Queue<u32>) -> Result<u32, String> {
    queue.try_get().map_err(|error| format!("{error:?}"))
}

/// A queue is a row of items with a bound and an end, whoever puts in and gets.
#[test]
fn a_queue_does_what_its_model_does() {
    use proptest::prelude::*;
    use std::collections::VecDeque;

    watchdog("a model of a queue", LIMIT, || {
        let pool = processes(1);
        proptest!(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() },
            |(capacity in 1..5_usize, moves in moves())| {
            let queue = Queue::bounded(capacity);
            let (mut row, mut is_closed) = (VecDeque::new(), false);
            for step in moves {
                match step {
                    Move::Put(item) | Move::PutThere(item) => {
                        let put = match step {
                            Move::Put(_) => try_put(&queue, item),
                            _ => pool.submit(|(queue, item): (Queue<u32>, u32)| try_put(&queue, item), (queue.clone(), item)).result().unwrap(),
                        };
                        let expected = match () {
                            () if is_closed => Err("Closed(..)".to_string()),
                            () if row.len() == capacity => Err("Full(..)".to_string()),
                            () => {
                                row.push_back(item);
                                Ok(())
                            }
                        };
                        prop_assert_eq!(put, expected);
                    }
                    Move::Get | Move::GetThere => {
                        let got = match step {
                            Move::Get => try_get(&queue),
                            _ => pool.submit(|queue: Queue<u32>| try_get(&queue), queue.clone()).result().unwrap(),
                        };
                        let empty = if is_closed { "Closed" } else { "Empty" };
                        prop_assert_eq!(got, row.pop_front().ok_or(empty.to_string()));
                    }
                    Move::Close => {
                        queue.close();
                        is_closed = true;
                    }
                }
                prop_assert_eq!((queue.len(), queue.is_closed()), (row.len(), is_closed));
            }
            prop_assert!(queue.take_lost().is_empty());
        });
    });
}

/// In a process of its own, which has no descriptor to spare.
#[cfg(target_os = "linux")]
mod without_descriptors {
    use super::*;
    use rustix::process::{Resource, getrlimit, setrlimit};

    #[test]
    fn a_call_with_a_handle_ends_with_an_error_and_its_worker_lives_on() {
        common::alone(
            module_path!(),
            "a_call_with_a_handle_ends_with_an_error_and_its_worker_lives_on",
            || {
                watchdog("no descriptors", LIMIT, || {
                    let pool = processes(1);
                    let add = |n: u32| n + 1;
                    assert_eq!(pool.submit(add, 1).result().unwrap(), 2);
                    let worker = pool.worker_pids();
                    let before = getrlimit(Resource::Nofile);
                    let highest = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
                    let highest = highest.filter_map(|fd| fd.file_name().to_str()?.parse::<u64>().ok()).max();
                    let mut none_left = before;
                    none_left.current = highest.map(|highest| highest + 1);
                    setrlimit(Resource::Nofile, none_left).unwrap();
                    // Those in between, too.
                    let all: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
                    let event = Event::new();
                    let set = |event: Event| event.set();
                    for n in 0..3 {
                        let error = pool.submit(set, event.clone()).result().unwrap_err();
                        assert!(
                            matches!(error, Error::Encode { .. })
                                && error.to_string().contains("handed over"),
                            "{error:?}"
                        );
                        assert_eq!(pool.submit(add, n).result().unwrap(), n + 1);
                    }
                    setrlimit(Resource::Nofile, before).unwrap();
                    drop(all);
                    pool.submit(set, event.clone()).result().unwrap();
                    assert!(event.is_set());
                    assert_eq!(pool.worker_pids(), worker);
                });
            },
        );
    }
}
