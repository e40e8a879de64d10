//! What is too much to be drawn one by one: columns of a pixel or more, each of which says what was there.

use std::time::Duration;

use svg::node::element::path::Data;
use svg::node::element::{Group, Path};

use super::super::lanes::Bar;
use super::super::names::{many, percent};
use super::axis::Axis;
use super::paint::Paint;
use super::{tenth, title};

/// How much of a column is covered, and how many bars touch it, by what they are painted for.
#[derive(Clone, Copy, Default)]
struct Column {
    covered: [f64; Paint::ALL.len()],
    bars: [u32; Paint::ALL.len()],
}

/// Narrow bars, which lie in a strip: the higher a column, the more of it is covered. What is not calm is on top, and
/// never too small to be seen.
pub(super) fn group(axis: &Axis, column: f64, bars: &[&Bar<'_>], top: f64, height: f64) -> Option<Group> {
    if bars.is_empty() {
        return None;
    }
    let mut columns = vec![Column::default(); (axis.width() / column).ceil() as usize];
    for bar in bars {
        let paint = Paint::of(bar) as usize;
        let (from, to) = (axis.offset(bar.from) / column, axis.offset(bar.to) / column);
        let first = (from as usize).min(columns.len() - 1);
        let last = (to.ceil() as usize).clamp(first + 1, columns.len());
        for (at, column) in (first..).zip(&mut columns[first..last]) {
            column.covered[paint] += (to.min(at as f64 + 1.0) - from.max(at as f64)).max(0.0);
        }
        columns[first].bars[paint] += 1;
    }
    let bottom = top + height;
    let heights: Vec<f64> = columns.iter().map(|column| column.height(height)).collect();
    let x = |at: usize| tenth((axis.left() + at as f64 * column).min(axis.left() + axis.width())) as f32;
    let covered: f64 = columns.iter().map(|column| column.covered.iter().sum::<f64>().min(1.0)).sum();
    let words = format!(
        "{}, busy for {} of the time",
        many(bars.len(), "short one"),
        percent(covered / columns.len() as f64)
    );
    let mut outline = Data::new();
    let mut before = 0.0;
    for (at, &high) in heights.iter().chain([&0.0]).enumerate() {
        if high == before {
            continue;
        }
        outline = if before == 0.0 {
            outline.move_to((x(at), tenth(bottom) as f32))
        } else {
            outline.horizontal_line_to(x(at))
        };
        outline = outline.vertical_line_to(tenth(bottom - high) as f32);
        before = high;
    }
    let base = Path::new().set("class", Paint::Finished.class()).set("d", outline).add(title(&words));
    let mut group = Group::new().set("class", "together").add(base);
    // How much of each column is taken, from its top.
    let mut taken = vec![0.0; columns.len()];
    for paint in Paint::ALL.into_iter().rev().filter(|paint| *paint != Paint::Finished) {
        let (mut spots, mut number) = (Data::new(), 0);
        for (at, column) in columns.iter().enumerate() {
            let share = column.covered[paint as usize] * height;
            let seen = if paint.is_calm() { share } else { share.max((height * 0.3).clamp(2.0, 6.0)) };
            if column.bars[paint as usize] == 0 || seen < 0.5 {
                continue;
            }
            number += column.bars[paint as usize] as usize;
            let high = heights[at].max(seen);
            let y = (bottom - high + taken[at]).min(bottom - 1.0);
            let seen = seen.min(bottom - y);
            taken[at] += seen;
            let wide = (x(at + 1) - x(at)).max(if paint.is_calm() { 1.0 } else { 2.0 });
            let left = x(at).min((axis.left() + axis.width()) as f32 - wide);
            spots = spots.move_to((left, tenth(y) as f32)).horizontal_line_by(wide);
            spots = spots.vertical_line_by(tenth(seen) as f32).horizontal_line_by(-wide).close();
        }
        if number > 0 {
            let words = format!("{}: {}", paint.words(), many(number, "short one"));
            group = group.add(Path::new().set("class", paint.class()).set("d", spots).add(title(&words)));
        }
    }
    Some(group)
}

impl Column {
    /// In steps of half a pixel, at least one where there is anything.
    fn height(&self, whole: f64) -> f64 {
        if self.bars.iter().all(|&bars| bars == 0) && self.covered.iter().sum::<f64>() == 0.0 {
            return 0.0;
        }
        let covered = self.covered.iter().sum::<f64>().min(1.0);
        ((covered * whole * 2.0).round() / 2.0).max(1.0)
    }
}

/// The most that each column saw of a number that changes.
pub(super) fn steps(axis: &Axis, column: f64, changes: &[(Duration, usize)]) -> Vec<usize> {
    let mut columns: Vec<Option<usize>> = vec![None; (axis.width() / column).ceil() as usize];
    let (mut now, mut reached) = (0, 0);
    let last = columns.len() - 1;
    for &(at, number) in changes {
        let column = ((axis.offset(at) / column) as usize).min(last);
        // What was there before goes on into the column of the change.
        columns[reached..=column].iter_mut().for_each(|most| *most = Some(most.unwrap_or(0).max(now)));
        columns[column] = Some(columns[column].unwrap_or(0).max(number));
        (now, reached) = (number, column);
    }
    columns[reached..].iter_mut().for_each(|most| *most = Some(most.unwrap_or(0).max(now)));
    columns.into_iter().map(Option::unwrap_or_default).collect()
}
