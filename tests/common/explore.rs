//! What the models of `tests/interleavings.rs` and of the library itself share: the run of one,
//! and what a model counts. Only under `--cfg loom`.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Every interleaving, however often threads are preempted.
pub(crate) const ALL: Option<usize> = None;

/// Runs `model` in every interleaving within `bound` preemptions, and wants to see each of
/// `endings` and no other: a race that can end in two ways must do so here.
pub(crate) fn explore<E: Ord + Clone + Debug + Send + Sync + 'static>(
    bound: Option<usize>,
    endings: impl IntoIterator<Item = E>,
    model: impl Fn() -> E + Send + Sync + 'static,
) {
    let endings: BTreeSet<E> = endings.into_iter().collect();
    let journal = Arc::new(Mutex::new((0_u64, BTreeSet::new())));
    let (allowed, seen) = (endings.clone(), Arc::clone(&journal));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 10_000;
    builder.check(move || {
        let ending = model();
        assert!(allowed.contains(&ending), "the race ended in {ending:?}");
        let mut seen = seen.lock().unwrap();
        seen.0 += 1;
        seen.1.insert(ending);
    });
    let (interleavings, seen) = &*journal.lock().unwrap();
    let name = std::thread::current().name().unwrap_or("a model").to_owned();
    let bound = bound.map_or("no bound".to_owned(), |bound| format!("at most {bound} preemptions"));
    println!("{name}: {interleavings} interleavings, {bound}");
    assert_eq!(*seen, endings, "the ways in which the race ended, and those in which it can");
}

/// Counts. The model checker does not look at it, so it is read when the threads have been joined,
/// or where the library itself says that what it counts has happened.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}
