//! What is pinned on top: deaths, time limits, and calls that were never run.
//!
//! The rule: marks that would cover each other are one.

use std::collections::BTreeMap;
use std::time::Duration;

use svg::node::element::path::Data;
use svg::node::element::{Circle, Group, Path};

use super::super::lanes::Lane;
use super::super::names::{many, short, span};
use super::super::story::{Outcome, TaskRecord, Timeline, WorkerEnd};
use super::axis::Axis;
use super::paint::Paint;
use super::{tenth, title};

/// A death.
pub(super) fn cross(x: f64, y: f64, size: f64) -> Group {
    let shape = "M-4 -4L4 4M-4 4L4 -4";
    at(x, y, size)
        .add(Path::new().set("class", "halo").set("d", shape))
        .add(Path::new().set("class", "cross").set("d", shape))
}

/// A time limit.
pub(super) fn clock(x: f64, y: f64, size: f64) -> Group {
    let hands = Path::new().set("class", "clock").set("d", "M0 -3V0L2.2 1.2");
    at(x, y, size).add(Circle::new().set("class", "clock").set("r", 5)).add(hands)
}

fn at(x: f64, y: f64, size: f64) -> Group {
    let place = format!("translate({} {})", tenth(x), tenth(y));
    let group = Group::new().set("class", "mark");
    if size == 1.0 {
        group.set("transform", place)
    } else {
        group.set("transform", format!("{place} scale({size})"))
    }
}

/// How many there are in a lane, if none cover each other.
pub(super) fn number(lane: &Lane<'_>) -> usize {
    let limits = lane.bars.iter().filter(|bar| bar.attempt.outcome == Some(Outcome::TimedOut));
    let deaths = lane.lives.iter().filter(|life| life.end == Some(WorkerEnd::Died));
    limits.count() + deaths.count()
}

/// Those of a lane, with its middle at `y`; so far apart at least.
pub(super) fn of(
    timeline: &Timeline,
    axis: &Axis,
    apart: f64,
    lane: &Lane<'_>,
    y: f64,
    size: f64,
) -> Vec<Group> {
    let limits = lane.bars.iter().filter(|bar| bar.attempt.outcome == Some(Outcome::TimedOut));
    let limits = limits.map(|bar| {
        let words = format!(
            "{} (task {}) ran into its time limit at {}",
            short(bar.task.name),
            bar.task.id,
            span(bar.to)
        );
        (bar.to, words)
    });
    let deaths = lane.lives.iter().filter(|life| life.end == Some(WorkerEnd::Died));
    let deaths = deaths.map(|life| {
        let at = timeline.stay(life).ended;
        let process = life.pid.map_or(String::new(), |pid| format!(", process {pid}"));
        (at, format!("{}{process} died at {}", life.name, span(at)))
    });
    // A process that is stopped at a time limit dies of it: the clock stands beside the cross.
    let clocks = spread(axis, apart, limits.collect(), |x, number| {
        let (x, what) = ((x - 12.5 * size).max(axis.left() + 6.0), "time limits");
        (clock(x, y, size), number, what)
    });
    let crosses = spread(axis, apart, deaths.collect(), |x, number| (cross(x, y, size), number, "deaths"));
    clocks.into_iter().chain(crosses).collect()
}

fn spread(
    axis: &Axis,
    apart: f64,
    mut moments: Vec<(Duration, String)>,
    draw: impl Fn(f64, usize) -> (Group, usize, &'static str),
) -> Vec<Group> {
    moments.sort_by_key(|(at, _)| *at);
    let mut marks: Vec<(f64, String, usize)> = Vec::new();
    for (at, words) in moments {
        let x = axis.x(at);
        match marks.last_mut() {
            Some((last, _, number)) if x - *last < apart => *number += 1,
            _ => marks.push((x, words, 1)),
        }
    }
    let mark = |(x, words, number)| {
        let (group, number, what) = draw(x, number);
        let words = if number > 1 { format!("{number} {what}, the first: {words}") } else { words };
        group.add(title(&words))
    };
    marks.into_iter().map(mark).collect()
}

/// Those of the calls that ended without having been run: ticks that stand on `y`.
pub(super) fn never_run(tasks: &[&TaskRecord], axis: &Axis, column: f64, y: f64) -> Vec<Path> {
    let mut ticks: BTreeMap<Paint, BTreeMap<u32, usize>> = BTreeMap::new();
    for task in tasks {
        if let (Some(paint), Some(ended)) = (Paint::of_never_run(task), task.ended) {
            *ticks.entry(paint).or_default().entry((axis.x(ended) / column) as u32).or_default() += 1;
        }
    }
    let path = |(paint, ticks): (Paint, BTreeMap<u32, usize>)| {
        let number: usize = ticks.values().sum();
        let shape = ticks.keys().fold(Data::new(), |shape, &x| {
            shape
                .move_to((tenth(f64::from(x) * column) as f32, tenth(y) as f32))
                .vertical_line_by(-9.0)
                .horizontal_line_by(2.0)
                .vertical_line_by(9.0)
                .close()
        });
        let words = format!("{}, never run: {}", paint.words(), many(number, "task"));
        Path::new().set("class", format!("never {}", paint.class())).set("d", shape).add(title(&words))
    };
    ticks.into_iter().map(path).collect()
}
