//! Colours, and the words for them.
//!
//! The rule: told apart by everybody (after Okabe and Ito); what went well is pale, what did not is not.

use std::collections::BTreeMap;

use super::super::lanes::{Bar, Lane};
use super::super::story::{Outcome, TaskRecord, Timeline};

/// What a bar is painted for, the more alarming the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Paint {
    Finished,
    Running,
    Retried,
    Cancelled,
    Failed,
    Panicked,
    TimedOut,
    Died,
}

impl Paint {
    pub(super) const ALL: [Paint; 8] = [
        Paint::Finished,
        Paint::Running,
        Paint::Retried,
        Paint::Cancelled,
        Paint::Failed,
        Paint::Panicked,
        Paint::TimedOut,
        Paint::Died,
    ];

    pub(super) fn of(bar: &Bar<'_>) -> Self {
        if bar.attempt.again { Paint::Retried } else { Paint::for_outcome(bar.outcome()) }
    }

    /// Of a call that was never run.
    pub(super) fn of_never_run(task: &TaskRecord) -> Option<Self> {
        let never = task.attempts.is_empty() && task.outcome.is_some();
        never.then(|| Paint::for_outcome(task.outcome))
    }

    fn for_outcome(outcome: Option<Outcome>) -> Self {
        match outcome {
            None => Paint::Running,
            Some(Outcome::Finished) => Paint::Finished,
            Some(Outcome::Cancelled) => Paint::Cancelled,
            Some(Outcome::Raised | Outcome::Failed) => Paint::Failed,
            Some(Outcome::Panicked) => Paint::Panicked,
            Some(Outcome::TimedOut) => Paint::TimedOut,
            Some(Outcome::WorkerDied) => Paint::Died,
        }
    }

    pub(super) fn class(self) -> &'static str {
        match self {
            Paint::Finished => "finished",
            Paint::Running => "running",
            Paint::Retried => "retried",
            Paint::Cancelled => "cancelled",
            Paint::Failed => "failed",
            Paint::Panicked => "panicked",
            Paint::TimedOut => "timed-out",
            Paint::Died => "died",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Paint::Running => "still running",
            Paint::Retried => "tried again",
            Paint::TimedOut => "timed out",
            Paint::Died => "lost with its worker",
            other => other.class(),
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Paint::Finished => "#8ec6e6",
            Paint::Running => "#a9dcc3",
            Paint::Retried => "#f0e442",
            Paint::Cancelled => "#a8a8a8",
            Paint::Failed => "#e69f00",
            Paint::Panicked => "#d55e00",
            Paint::TimedOut => "#cc79a7",
            Paint::Died => "#2b2b2b",
        }
    }

    pub(super) fn is_dark(self) -> bool {
        matches!(self, Paint::Died)
    }

    /// Does nobody need to look for it?
    pub(super) fn is_calm(self) -> bool {
        matches!(self, Paint::Finished | Paint::Running)
    }
}

/// How often each occurs, the calmest first: bars, and calls that were never run.
pub(super) fn counts(timeline: &Timeline, lanes: &[Lane<'_>]) -> BTreeMap<Paint, usize> {
    let mut counts = BTreeMap::new();
    let bars = lanes.iter().flat_map(|lane| &lane.bars).map(Paint::of);
    let never = timeline.tasks.iter().filter_map(Paint::of_never_run);
    bars.chain(never).for_each(|paint| *counts.entry(paint).or_default() += 1);
    counts
}

pub(super) fn style() -> String {
    let colours = Paint::ALL.map(|paint| format!(".{}{{fill:{}}}", paint.class(), paint.colour()));
    colours.concat()
        + ".paper{fill:#fff}\
           .there{fill:#edeff1}\
           .starting{fill:url(#hatched)}\
           .bar{stroke:#fff;stroke-width:.6}\
           .inside{stroke-width:1.2}\
           .never{stroke:#444;stroke-width:.6}\
           .queued{fill:#cfd4da;stroke:#7d8790;stroke-width:.8}\
           .grid{stroke:#dfe2e5;stroke-width:1}\
           .axis{stroke:#555;stroke-width:1}\
           .halo{fill:none;stroke:#fff;stroke-width:4.5}\
           .cross{fill:none;stroke:#000;stroke-width:2}\
           .clock{fill:#fff;stroke:#7a2e5a;stroke-width:1.5}\
           text{fill:#222;font-size:11px}\
           .title{font-size:17px;font-weight:bold}\
           .pool{font-size:13px;font-weight:bold}\
           .head{paint-order:stroke;stroke:#fff;stroke-width:4}\
           .remark{fill:#a33b00;font-size:12px}\
           .small{fill:#333}\
           .faint{fill:#777;font-size:10px}\
           .in{fill:#0b1d2a;pointer-events:none}\
           .on-dark{fill:#fff}"
}
