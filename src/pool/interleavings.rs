//! Models of the floor, and of pools whose workers do not start. The table of all models stands in
//! `tests/interleavings.rs`.

#[path = "../../tests/common/explore.rs"]
mod explore;

use std::sync::Arc;
use std::time::Instant;

use explore::{ALL, Count, explore};
use loom::thread;

use super::floor::{Floor, Pushed, Refusal};
use super::queue::Queued;
use super::seat::{Seat, Sleep, Turn};
use super::{Context, Hiring, Item, Pool};
use crate::error::Error;
use crate::future::own_pool::Employer;
use crate::future::state::Freed;
use crate::future::{Future, Promise};
use crate::id::TaskRef;
use crate::primitives::Mutex;

impl Queued for i32 {}

fn broken() -> Error {
    Error::broken("a model", None)
}

/// Of a pool that hires nobody.
fn floor<I>() -> Arc<Floor<I>> {
    Arc::new(Floor::new(0, None))
}

#[test]
fn push_and_close() {
    explore(ALL, ["accepted", "refused"], || {
        let floor = floor();
        let pusher = thread::spawn({
            let floor = Arc::clone(&floor);
            move || floor.push(7)
        });
        floor.close();
        let left = floor.drain();
        match pusher.join().unwrap() {
            Ok(_) => {
                assert_eq!(left, [7], "what was let in before the close is there after it");
                "accepted"
            }
            Err((item, refusal)) => {
                assert_eq!(item, 7);
                assert!(matches!(refusal, Refusal::Closed));
                assert!(left.is_empty());
                "refused"
            }
        }
    });
}

#[test]
fn push_and_close_and_a_worker() {
    explore(ALL, ["accepted", "refused"], || {
        let floor = floor();
        let worker = thread::spawn({
            let floor = Arc::clone(&floor);
            move || work(&floor)
        });
        let pusher = thread::spawn({
            let floor = Arc::clone(&floor);
            move || floor.push(7).is_ok()
        });
        floor.close();
        let accepted = pusher.join().unwrap();
        let got = worker.join().unwrap();
        assert_eq!(got.len(), usize::from(accepted), "let in and received, or refused");
        if accepted { "accepted" } else { "refused" }
    });
}

fn next<I: Queued>(seat: &Seat<'_, I>) -> Option<I> {
    match seat.next(None, &mut ()) {
        Turn::Task(item) | Turn::Due(item) | Turn::Another(item, _) => Some(item),
        Turn::Leave | Turn::Lent => None,
    }
}

/// All that a worker gets from `floor`, to its end.
fn work<I: Queued>(floor: &Floor<I>) -> Vec<I> {
    let seat = Seat::taken(floor);
    std::iter::from_fn(|| next(&seat)).collect()
}

/// All that a worker gets from `floor`, to its end; the first attempt of a task (even numbers) is put back, or comes back
/// as a negative number.
fn work_twice(floor: &Floor<i32>) -> Vec<i32> {
    let seat = Seat::taken(floor);
    let mut got = Vec::new();
    while let Some(item) = next(&seat) {
        got.push(item);
        if item % 2 == 0 {
            got.extend(seat.postpone(item + 1, Instant::now()).err().map(|item| -item));
        }
    }
    got
}

#[test]
fn a_task_put_back_and_close_and_two_workers() {
    explore(Some(3), [(0, 2), (1, 1), (2, 0)], || {
        let floor = floor();
        assert!(floor.push(6).is_ok());
        let workers = [(); 2].map(|()| {
            let floor = Arc::clone(&floor);
            thread::spawn(move || work_twice(&floor))
        });
        floor.close();
        let got = workers.map(|worker| worker.join().unwrap());
        let mut all = got.concat();
        all.sort_unstable();
        assert_eq!(all, [6, 7], "both attempts, whoever makes them, and then all leave");
        (got[0].len(), got[1].len())
    });
}

#[test]
fn a_task_put_back_and_break() {
    explore(
        ALL,
        ["both attempts", "drained before", "drained between", "drained before it is put back"],
        || {
            let floor = floor();
            assert!(floor.push(6).is_ok());
            let worker = thread::spawn({
                let floor = Arc::clone(&floor);
                move || work_twice(&floor)
            });
            floor.close_broken(&broken());
            let drained = floor.drain();
            match (&worker.join().unwrap()[..], &drained[..]) {
                ([6, 7], []) => "both attempts",
                ([6], [7]) => "drained between",
                ([6, -7], []) => "drained before it is put back",
                ([], [6]) => "drained before",
                (received, drained) => panic!("drained: {drained:?}, received: {received:?}"),
            }
        },
    );
}

#[test]
fn a_task_put_back_and_a_push() {
    explore(Some(3), [(0, 3), (1, 2), (2, 1), (3, 0)], || {
        let floor = floor();
        assert!(floor.push(6).is_ok());
        let workers = [(); 2].map(|()| {
            let floor = Arc::clone(&floor);
            thread::spawn(move || work_twice(&floor))
        });
        assert!(floor.push(1).is_ok());
        floor.close();
        let got = workers.map(|worker| worker.join().unwrap());
        let mut all = got.concat();
        all.sort_unstable();
        assert_eq!(all, [1, 6, 7]);
        (got[0].len(), got[1].len())
    });
}

#[test]
fn two_pushes_and_one_idle_worker() {
    explore(ALL, [0, 1], || {
        let floor = Arc::new(Floor::new(2, None));
        let hired = Count::default();
        let seat = Seat::taken(&floor);
        let pushers = [1, 2].map(|item| {
            let (floor, hired) = (Arc::clone(&floor), hired.clone());
            thread::spawn(move || match floor.push(item) {
                Ok(vacancy) => vacancy.iter().for_each(|_| hired.add()),
                Err(_) => unreachable!("it is open"),
            })
        });
        let mut got = [next(&seat).unwrap(), next(&seat).unwrap()];
        for pusher in pushers {
            pusher.join().unwrap();
        }
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        hired.get()
    });
}

/// A worker that lies down after its task, and is lent for the next. What is posted for it, it does itself if nobody
/// else has.
fn lies(floor: &Floor<i32>, posted: &Mutex<Option<i32>>) -> Vec<i32> {
    let seat = Seat::taken(floor);
    let mut got = Vec::new();
    loop {
        match seat.next(None, &mut ()) {
            Turn::Task(item) => got.push(item),
            Turn::Lent => {
                let mine = posted.lock().take();
                let Some(item) = mine else {
                    thread::yield_now();
                    continue;
                };
                seat.reclaim();
                got.push(item);
            }
            Turn::Leave => return got,
            Turn::Due(_) | Turn::Another(..) => unreachable!("nothing is put back, and nothing is for many"),
        }
        seat.lie_down();
    }
}

/// Posts a task for a worker that was lent; looks for its end, once, and else leaves that to the worker.
fn hand_in(floor: &Floor<i32>, posted: &Mutex<Option<i32>>, item: i32) -> Option<i32> {
    match floor.push_or_lend(item) {
        Ok(Pushed::Queued(vacancy)) => {
            assert!(vacancy.is_none());
            None
        }
        Ok(Pushed::Lent(item, bell)) => {
            *posted.lock() = Some(item);
            bell.wake();
            let done = posted.lock().take()?;
            assert!(floor.return_lent(bell).is_none());
            Some(done)
        }
        Err(_) => unreachable!("it is open"),
    }
}

#[test]
fn a_worker_that_is_lent_and_close() {
    explore(ALL, ["its own", "in its place"], || {
        let (floor, posted) = (floor(), Arc::new(Mutex::new(None)));
        assert!(floor.push(1).is_ok());
        let worker = thread::spawn({
            let (floor, posted) = (Arc::clone(&floor), Arc::clone(&posted));
            move || lies(&floor, &posted)
        });
        let in_its_place = hand_in(&floor, &posted, 2);
        floor.close();
        let got = worker.join().unwrap();
        match (&got[..], in_its_place) {
            ([1, 2], None) => "its own",
            ([1], Some(2)) => "in its place",
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_worker_that_is_lent_and_a_push() {
    explore(Some(4), ["its own", "in its place"], || {
        let (floor, posted) = (floor(), Arc::new(Mutex::new(None)));
        assert!(floor.push(1).is_ok());
        let worker = thread::spawn({
            let (floor, posted) = (Arc::clone(&floor), Arc::clone(&posted));
            move || lies(&floor, &posted)
        });
        let pusher = thread::spawn({
            let floor = Arc::clone(&floor);
            move || floor.push(3).is_ok()
        });
        let in_its_place = hand_in(&floor, &posted, 2);
        assert!(pusher.join().unwrap());
        floor.close();
        let mut got = worker.join().unwrap();
        got.extend(in_its_place);
        got.sort_unstable();
        assert_eq!(got, [1, 2, 3], "each once");
        if in_its_place.is_some() { "in its place" } else { "its own" }
    });
}

#[test]
fn a_worker_that_is_lent_for_what_only_it_can_do() {
    explore(ALL, ["queued", "given back"], || {
        let (floor, posted) = (floor(), Arc::new(Mutex::new(None)));
        assert!(floor.push(1).is_ok());
        let worker = thread::spawn({
            let (floor, posted) = (Arc::clone(&floor), Arc::clone(&posted));
            move || lies(&floor, &posted)
        });
        let ending = match floor.push_or_lend(2) {
            Ok(Pushed::Queued(_)) => "queued",
            Ok(Pushed::Lent(item, bell)) => {
                assert!(floor.unlend(bell, item).is_none());
                "given back"
            }
            Err(_) => unreachable!("it is open"),
        };
        floor.close();
        assert_eq!(worker.join().unwrap(), [1, 2]);
        ending
    });
}

/// All that a worker gets, which leaves when it may.
fn work_while_wanted(floor: &Floor<i32>) -> usize {
    let seat = Seat::at(floor, &|| ());
    let mut got = 0;
    loop {
        if next(&seat).is_some() {
            got += 1;
            if floor.is_too_large() && seat.shrink() {
                break;
            }
        } else if seat.retire() {
            break;
        }
    }
    assert!(seat.see_off().is_none(), "there are as many as there may be");
    got
}

#[test]
fn a_pool_that_shrinks_and_a_push() {
    explore(Some(3), [(0, 3), (1, 2), (2, 1), (3, 0)], || {
        let floor = Arc::new(Floor::new(2, None));
        let hired = [1, 2].map(|item| floor.push(item).is_ok_and(|vacancy| vacancy.is_some()));
        assert_eq!(hired, [true; 2]);
        let workers = [(); 2].map(|()| {
            let floor = Arc::clone(&floor);
            thread::spawn(move || work_while_wanted(&floor))
        });
        floor.resize(1);
        assert!(floor.push(3).is_ok_and(|vacancy| vacancy.is_none()), "there are as many as there may be");
        floor.close();
        let got = workers.map(|worker| worker.join().unwrap());
        assert_eq!(got.iter().sum::<usize>(), 3, "each once");
        assert_eq!(floor.census(), (0, 0, 0));
        (got[0], got[1])
    });
}

/// As `lies`, of a worker that leaves when it may.
fn lies_while_wanted(floor: &Floor<i32>, posted: &Mutex<Option<i32>>) -> usize {
    let seat = Seat::at(floor, &|| ());
    let mut got = 0;
    loop {
        match seat.next(None, &mut ()) {
            Turn::Task(_) => {}
            Turn::Lent => {
                let mine = posted.lock().take();
                if mine.is_none() {
                    thread::yield_now();
                    continue;
                }
                seat.reclaim();
            }
            Turn::Leave => {
                if seat.retire() {
                    break;
                }
                continue;
            }
            Turn::Due(_) | Turn::Another(..) => unreachable!("nothing is put back, and nothing is for many"),
        }
        got += 1;
        seat.lie_down();
        if floor.is_too_large() && seat.shrink() {
            break;
        }
    }
    assert!(seat.see_off().is_none(), "there are as many as there may be");
    got
}

#[test]
fn a_pool_that_shrinks_and_a_worker_that_is_lent() {
    explore(Some(2), ["its own", "in its place"], || {
        let (floor, posted) = (Arc::new(Floor::new(2, None)), Arc::new(Mutex::new(None)));
        let hired = [1, 2].map(|item| floor.push(item).is_ok_and(|vacancy| vacancy.is_some()));
        assert_eq!(hired, [true; 2]);
        let workers = [(); 2].map(|()| {
            let (floor, posted) = (Arc::clone(&floor), Arc::clone(&posted));
            thread::spawn(move || lies_while_wanted(&floor, &posted))
        });
        let resizer = thread::spawn({
            let floor = Arc::clone(&floor);
            move || floor.resize(1)
        });
        let in_its_place = hand_in(&floor, &posted, 3);
        resizer.join().unwrap();
        floor.close();
        let got = workers.map(|worker| worker.join().unwrap());
        assert_eq!(got.iter().sum::<usize>() + usize::from(in_its_place.is_some()), 3, "each once");
        assert_eq!(floor.census(), (0, 0, 0));
        if in_its_place.is_some() { "in its place" } else { "its own" }
    });
}

#[test]
fn break_and_push_and_a_worker() {
    explore(ALL, ["drained", "received", "refused"], || {
        let floor = floor();
        let worker = thread::spawn({
            let floor = Arc::clone(&floor);
            move || work(&floor)
        });
        let pusher = thread::spawn({
            let floor = Arc::clone(&floor);
            move || floor.push(7)
        });
        floor.close_broken(&broken());
        let drained = floor.drain();
        let pushed = pusher.join().unwrap();
        let received = worker.join().unwrap();
        match (pushed, &drained[..], &received[..]) {
            (Ok(_), [7], []) => "drained",
            (Ok(_), [], [7]) => "received",
            (Err((7, Refusal::Broken(_))), [], []) => "refused",
            (pushed, drained, received) => {
                panic!("let in: {}, drained: {drained:?}, received: {received:?}", pushed.is_ok())
            }
        }
    });
}

#[test]
fn close_and_break() {
    explore(ALL, ["broken"], || {
        let floor = floor::<i32>();
        let closer = thread::spawn({
            let floor = Arc::clone(&floor);
            move || floor.close()
        });
        floor.close_broken(&broken());
        closer.join().unwrap();
        match floor.why_closed() {
            Some(Refusal::Broken(_)) => "broken",
            _ => "forgotten",
        }
    });
}

/// A task that ends a future.
struct Task(Promise<&'static str>);

impl Queued for Task {}

impl Item for Task {
    fn task(&self) -> TaskRef {
        self.0.task()
    }

    fn fail(self, _: Error) {
        self.0.fulfil("failed");
    }

    fn cancel(self) {
        self.0.fulfil("cancelled");
    }
}

/// A worker that starts if its number is below the limit, and otherwise is refused by the system.
struct Lucky(bool);

impl Sleep for Lucky {}

impl Context for Lucky {
    type Item = Task;

    fn initialize(&mut self) -> Result<(), Error> {
        if self.0 { Ok(()) } else { Err(Error::spawn("a worker", std::io::Error::other("no more"))) }
    }

    fn run(&mut self, item: Task, seat: &Seat<'_, Task>) -> Result<(), Error> {
        seat.free();
        item.0.fulfil("run");
        Ok(())
    }

    fn finalize(&mut self) {}
}

fn submit(pool: &Arc<Pool<Lucky>>) -> Future<&'static str> {
    let (promise, future) = Promise::new();
    pool.submit(Task(promise), pool.place());
    future
}

fn pool(lucky: usize) -> Arc<Pool<Lucky>> {
    let hiring = Hiring { max_workers: 2, name_prefix: "worker".into(), ..Hiring::default() };
    Pool::of(hiring, move |number, _| Lucky(number < lucky))
}

#[test]
fn workers_that_cannot_start() {
    explore(Some(4), [["failed", "failed"]], || {
        let pool = pool(0);
        let futures = [submit(&pool), submit(&pool)];
        futures.map(|future| future.result().unwrap())
    });
}

#[test]
fn one_worker_that_starts_and_one_that_cannot() {
    explore(Some(3), [["run", "run"]], || {
        let pool = pool(1);
        let futures = [submit(&pool), submit(&pool)];
        let ending = futures.map(|future| future.result().unwrap());
        pool.leave();
        ending
    });
}

/// A worker that the system refuses when the first task comes, and that puts this task back.
struct Refused(bool);

impl Sleep for Refused {}

impl Context for Refused {
    type Item = Task;

    fn initialize(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn run(&mut self, item: Task, seat: &Seat<'_, Task>) -> Result<(), Error> {
        if self.0 {
            seat.put_back(item, Instant::now());
            return Err(Error::spawn("a worker", std::io::Error::other("no more")));
        }
        item.0.fulfil("run");
        Ok(())
    }

    fn finalize(&mut self) {}
}

fn refused(workers: usize) -> Arc<Pool<Refused>> {
    let hiring = Hiring { max_workers: 2, name_prefix: "worker".into(), ..Hiring::default() };
    Pool::of(hiring, move |number, _| Refused(number < workers))
}

/// What a worker gives back, the other does; and where there is no other, it fails.
#[test]
fn a_worker_that_gives_its_task_back() {
    explore(Some(2), [["failed", "failed"], ["run", "run"]], || {
        let pool = refused(1);
        let futures = [(); 2].map(|()| {
            let (promise, future) = Promise::new();
            pool.submit(Task(promise), pool.place());
            future
        });
        let ending = futures.map(|future| future.result().unwrap());
        pool.leave();
        ending
    });
}

/// Two tasks in a pool of one worker, which becomes one of two and of one again.
#[test]
fn a_pool_that_grows_and_shrinks() {
    explore(Some(2), [["run", "run"]], || {
        let hiring = Hiring { max_workers: 1, name_prefix: "worker".into(), ..Hiring::default() };
        let pool = Pool::of(hiring, |_, _| Lucky(true));
        let resizer = thread::spawn({
            let pool = Arc::clone(&pool);
            move || [2, 1].map(|most| pool.resize(most).unwrap())
        });
        let futures = [submit(&pool), submit(&pool)];
        let ending = futures.map(|future| future.result().unwrap());
        resizer.join().unwrap();
        pool.leave();
        ending
    });
}

/// A task that waits, as a thread does that waits for a call of its pool, for two others, one after the other.
struct Nested {
    promise: Promise<&'static str>,
    waits_at: Option<Arc<Pool<Nests>>>,
}

impl Nested {
    fn submit_to(pool: &Arc<Pool<Nests>>, waits_at: Option<Arc<Pool<Nests>>>) -> Future<&'static str> {
        let (promise, future) = Promise::new();
        pool.submit(Nested { promise, waits_at }, pool.place());
        future
    }
}

impl Queued for Nested {}

impl Item for Nested {
    fn task(&self) -> TaskRef {
        self.promise.task()
    }

    fn fail(self, _: Error) {
        self.promise.fulfil("failed");
    }

    fn cancel(self) {
        self.promise.fulfil("cancelled");
    }
}

struct Nests;

impl Sleep for Nests {}

impl Context for Nests {
    type Item = Nested;

    fn initialize(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn run(&mut self, Nested { promise, waits_at }: Nested, seat: &Seat<'_, Nested>) -> Result<(), Error> {
        if let Some(pool) = waits_at {
            for _ in 0..2 {
                let future = Nested::submit_to(&pool, None);
                Arc::clone(&pool).step_out();
                assert_eq!(future.result().unwrap(), "run");
                pool.step_in();
            }
        }
        seat.free();
        promise.fulfil("run");
        Ok(())
    }

    fn finalize(&mut self) {}
}

/// Who stood in leaves as one too many, and who waits again does not count on it.
#[test]
fn a_worker_that_waits_again_and_the_one_that_leaves() {
    explore(Some(3), ["run"], || {
        let hiring = Hiring { max_workers: 1, name_prefix: "worker".into(), ..Hiring::default() };
        let pool = Pool::of(hiring, |_, _| Nests);
        let ending = Nested::submit_to(&pool, Some(Arc::clone(&pool))).result().unwrap();
        pool.leave();
        ending
    });
}
