//! Models of a course: each item is run once or dropped, by whomever, in every interleaving. The table of all models
//! stands in `tests/interleavings.rs`.
//!
//! In a model each stint is of two items if there are two, and whoever comes takes over at once.

#[path = "../../tests/common/explore.rs"]
mod explore;

use std::marker::PhantomData;
use std::sync::Arc;

use explore::{ALL, Count, explore};
use loom::thread;

use super::{Work, WorkItem, course};
use crate::account::Account;
use crate::error::Error;
use crate::future::block;
use crate::future::state::Want;
use crate::id::Home;
use crate::map::Laps;
use crate::observer::Observers;
use crate::portable::Raised;

/// A value that counts how often it is dropped.
struct Precious(usize, Count);

impl Drop for Precious {
    fn drop(&mut self) {
        self.1.add();
    }
}

/// A course, as those who run it and those who read it have it; and what became of its items.
struct Model {
    task: WorkItem<dyn Work>,
    course: Arc<dyn Laps<Precious>>,
    /// Runs, all and those of the thread that made it.
    runs: Count,
    own_runs: Count,
    /// Items and values that were dropped.
    item_drops: Count,
    value_drops: Count,
}

impl Model {
    fn new(items: usize) -> Self {
        let [runs, own_runs, item_drops, value_drops] = std::array::from_fn(|_| Count::default());
        let me = thread::current().id();
        let call = {
            let (runs, own_runs, value_drops) = (runs.clone(), own_runs.clone(), value_drops.clone());
            move |item: Precious| {
                runs.add();
                if thread::current().id() == me {
                    own_runs.add();
                }
                Ok::<_, Raised>(Precious(item.0, value_drops.clone()))
            }
        };
        let items = (0..items).map(|item| Precious(item, item_drops.clone())).collect();
        let account = Account::open(Home::NONE, "a model", Observers::default());
        let (task, course) = course::<(), _, _, _>(call, items, &account, PhantomData);
        Model { task, course, runs, own_runs, item_drops, value_drops }
    }

    /// A thread that comes for it as a worker would, as long as there is something to do.
    fn worker(&self) -> thread::JoinHandle<()> {
        let copy = self.task.another();
        thread::spawn(move || copy.into_iter().for_each(work))
    }
}

/// Runs what there is, as a worker would.
fn work(task: WorkItem<dyn Work>) {
    let mut next = Some(task);
    while let Some(task) = next {
        next = task.another();
        assert!(task.run_once(&()).is_none());
    }
}

/// Takes what is there, in order from `next` on.
fn take(course: &dyn Laps<Precious>, next: &mut usize) -> Option<Result<usize, Error>> {
    let lap = course.take()?;
    assert_eq!(lap.first, *next, "in order");
    *next += lap.values.len() + usize::from(lap.error.is_some());
    assert!(lap.values.iter().zip(lap.first..).all(|(value, item)| value.0 == item), "its own value");
    Some(lap.error.map_or(Ok(lap.values.len()), |error| Err(*error)))
}

#[test]
fn two_workers_of_a_course() {
    explore(Some(3), [0, 1, 2, 3], || {
        let model = Model::new(3);
        let worker = model.worker();
        work(model.task);
        worker.join().unwrap();
        assert_eq!((model.runs.get(), model.item_drops.get()), (3, 3), "each once");
        let mut next = 0;
        while take(&*model.course, &mut next).is_some() {}
        assert_eq!((next, model.value_drops.get()), (3, 3));
        model.own_runs.get()
    });
}

#[test]
fn a_runner_and_a_cancel() {
    explore(ALL, [0, 1, 2, 3], || {
        let model = Model::new(3);
        let worker = model.worker();
        model.course.cancel();
        let runs = model.runs.get();
        worker.join().unwrap();
        assert!(model.runs.get() <= runs + 1, "one may have begun");
        assert_eq!(model.item_drops.get(), 3, "run or dropped");
        let mut next = 0;
        while let Some(lap) = take(&*model.course, &mut next) {
            assert_eq!(lap.is_ok(), next <= model.runs.get());
        }
        assert_eq!((next, model.value_drops.get()), (3, model.runs.get()));
        model.runs.get()
    });
}

#[test]
fn a_runner_and_a_map_that_is_dropped() {
    explore(ALL, [0, 1, 2, 3], || {
        let Model { task, course, runs, item_drops, value_drops, .. } = Model::new(3);
        let worker = thread::spawn(move || work(task));
        course.leave(true);
        drop(course);
        worker.join().unwrap();
        assert_eq!((item_drops.get(), value_drops.get()), (3, runs.get()));
        runs.get()
    });
}

#[test]
fn a_runner_and_a_waiter() {
    explore(Some(4), [1, 2, 3], || {
        let model = Model::new(3);
        let worker = model.worker();
        let (mut next, mut laps) = (0, 0);
        while next < 3 {
            // Would be a deadlock if it was not told.
            assert!(block(&*model.course, Want::Value, None));
            assert!(take(&*model.course, &mut next).is_some_and(|lap| lap.is_ok()));
            laps += 1;
        }
        worker.join().unwrap();
        assert_eq!((model.runs.get(), model.value_drops.get()), (3, 3));
        laps
    });
}

#[test]
fn two_workers_of_a_course_and_a_waiter() {
    explore(Some(2), [1, 2], || {
        let model = Model::new(2);
        let workers = [model.worker(), model.worker()];
        let (mut next, mut laps) = (0, 0);
        while next < 2 {
            assert!(block(&*model.course, Want::Value, None));
            assert!(take(&*model.course, &mut next).is_some_and(|lap| lap.is_ok()));
            laps += 1;
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!((model.runs.get(), model.value_drops.get()), (2, 2));
        laps
    });
}
