//! What is said at the end: who did what, who was killed and what that cost, and what could not be made.
//!
//! Not here: the picture of it, which is the library's timeline. The rule: what is counted is what came back; only what a
//! killed worker had begun is known from what it said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::client::Outcome;
use crate::crew::Crew;

pub(crate) struct Report<'a> {
    pub(crate) results: Vec<Outcome>,
    pub(crate) sizes: &'a [u32],
    pub(crate) time: Duration,
    pub(crate) crew: &'a Crew,
}

/// What one process of a worker did.
#[derive(Default)]
struct Share {
    calls: usize,
    taken: u64,
    given: u64,
    busy: Duration,
}

impl Report<'_> {
    pub(crate) fn table(&self) {
        let mut shares: BTreeMap<(String, u32), Share> = BTreeMap::new();
        let killed = self.crew.killed();
        // It may not have made any.
        if let Some(killed) = &killed {
            shares.entry((killed.name.clone(), killed.pid)).or_default();
        }
        for outcome in &self.results {
            let Ok(made) = &outcome.result else { continue };
            let share = shares.entry((made.worker.clone(), made.pid)).or_default();
            share.calls += 1;
            share.taken += outcome.bytes;
            share.given += made.files.iter().map(|file| file.len() as u64).sum::<u64>();
            share.busy += made.took;
        }
        println!("worker              pid  calls    MB in  MB out  busy, s");
        for ((worker, pid), share) in &shares {
            let end = if killed.as_ref().is_some_and(|killed| killed.pid == *pid) { "  killed" } else { "" };
            println!(
                "{worker:14} {pid:>8} {:>6} {:>8.1} {:>7.2} {:>8.2}{end}",
                share.calls,
                megabytes(share.taken),
                megabytes(share.given),
                share.busy.as_secs_f64(),
            );
        }
        let (made, seconds) =
            (shares.values().map(|share| share.calls).sum::<usize>(), self.time.as_secs_f64());
        println!(
            "{made} of {} pictures made, in {} sizes each, in {seconds:.2} s: {:.1} pictures/s",
            self.results.len(),
            self.sizes.len(),
            made as f64 / seconds,
        );
        if let Some(killed) = &killed {
            println!(
                "{}, process {}, was killed when {} were made, in the midst of a call; calls that were run again: {}",
                killed.name,
                killed.pid,
                killed.after,
                self.crew.begun_again(),
            );
        }
    }

    /// Names each picture that was not made, and why; true if there is none.
    pub(crate) fn causes(&self) -> bool {
        let failed =
            self.results.iter().filter_map(|outcome| Some((&outcome.name, outcome.result.as_ref().err()?)));
        // Said once, not once a round.
        let causes: BTreeSet<_> = failed.collect();
        for (name, cause) in &causes {
            eprintln!("not made: {name}: {cause}");
        }
        causes.is_empty()
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
