//! The five figures that a user would ask for: ours beside what is written by hand, the best crate, and CPython.
//! All bars of one figure are of one run.

use crate::lines::{Kind, Run, Table};
use crate::targets::is_cpython;

#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) workload: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) title: &'static str,
}

pub(crate) const QUESTIONS: [Question; 5] = [
    Question { workload: "t1", ours: "ours-threads", title: "A call on a thread, there and back" },
    Question { workload: "p1", ours: "ours-processes", title: "A call in a process, there and back" },
    Question {
        workload: "t2",
        ours: "ours-threads",
        title: "100,000 calls on threads, queued, then collected: each",
    },
    Question {
        workload: "t4-auto",
        ours: "ours-threads-map",
        title: "map over a million items on threads: each item",
    },
    Question {
        workload: "p6busy",
        ours: "ours-processes",
        title: "A worker process is killed: until the next result",
    },
];

/// Who a bar is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Who {
    Ours,
    ByHand,
    Crate,
    CPython,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    pub(crate) who: Who,
    pub(crate) contender: String,
    /// Nanoseconds.
    pub(crate) value: f64,
}

impl Question {
    /// Ours first. Empty if no run has it.
    pub(crate) fn bars(&self, runs: &[Run]) -> Vec<Bar> {
        let Some((table, ours)) = self.table(runs) else { return Vec::new() };
        let bar = |who, found: Option<(&str, f64)>| {
            found.map(|(contender, value)| Bar { who, contender: contender.to_owned(), value })
        };
        let of = |kind| move |name: &str| Kind::of(name) == kind;
        // Its threads have no chunks in `map`: there the older pool of its library stands in.
        let library = |name: &str| Kind::of(name) == Kind::Python && name.contains("/multiprocessing");
        let cpython = table.best(is_cpython).or_else(|| table.best(library));
        [
            bar(Who::Ours, Some((self.ours, ours))),
            bar(Who::ByHand, table.best(of(Kind::ByHand))),
            bar(Who::Crate, table.best(of(Kind::Crate))),
            bar(Who::CPython, cpython),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Of the runs with most contenders, the one in which ours is in the middle.
    fn table<'r>(&self, runs: &'r [Run]) -> Option<(&'r Table, f64)> {
        let mut tables: Vec<(&Table, f64)> = runs
            .iter()
            .filter_map(|run| run.table(self.workload))
            .filter_map(|table| Some((table, table.of(self.ours)?.median)))
            .collect();
        let most = tables.iter().map(|(table, _)| table.rows.len()).max()?;
        tables.retain(|(table, _)| table.rows.len() == most);
        tables.sort_by(|one, two| one.1.total_cmp(&two.1));
        Some(tables[tables.len() / 2])
    }
}
