//! The time axis: where a moment lies, and the round times at the bottom.

use std::time::Duration;

use svg::node::element::{Group, Line};

use super::super::names::span;
use super::{label, tenth};

/// From the beginning of the recording to its end.
pub(super) struct Axis {
    wall: Duration,
    from: f64,
    to: f64,
}

/// The least that can be seen.
const THIN: f64 = 1.5;

impl Axis {
    pub(super) fn new(wall: Duration, (from, to): (f64, f64)) -> Self {
        Axis { wall: wall.max(Duration::from_nanos(1)), from, to }
    }

    pub(super) fn x(&self, at: Duration) -> f64 {
        let part = at.as_secs_f64() / self.wall.as_secs_f64();
        self.from + (self.to - self.from) * part.min(1.0)
    }

    /// From the left end of the plot.
    pub(super) fn offset(&self, at: Duration) -> f64 {
        self.x(at) - self.from
    }

    pub(super) fn width(&self) -> f64 {
        self.to - self.from
    }

    pub(super) fn left(&self) -> f64 {
        self.from
    }

    pub(super) fn length(&self, from: Duration, to: Duration) -> f64 {
        (self.x(to) - self.x(from)).max(0.0)
    }

    /// Where a bar lies, and how wide it is; wide enough to be seen, and not beyond the end.
    pub(super) fn bar(&self, from: Duration, to: Duration) -> (f64, f64) {
        let width = self.length(from, to).max(THIN);
        (self.x(from).min(self.to - width), width)
    }

    /// Lines for the background, and labels for the bottom.
    pub(super) fn draw(&self, top: f64, bottom: f64) -> (Group, Group) {
        let (mut lines, mut labels) = (Group::new(), Group::new());
        let line = |class: &str, x1: f64, y1: f64, x2: f64, y2: f64| {
            let line = Line::new().set("class", class).set("x1", tenth(x1)).set("y1", tenth(y1));
            line.set("x2", tenth(x2)).set("y2", tenth(y2))
        };
        for (at, words) in ticks(self.wall) {
            let x = self.x(at);
            lines = lines.add(line("grid", x, top, x, bottom));
            labels = labels.add(line("axis", x, bottom, x, bottom + 4.0));
            labels = labels.add(label(&words, "small", x, bottom + 18.0).set("text-anchor", "middle"));
        }
        (lines, labels.add(line("axis", self.from, bottom, self.to, bottom)))
    }
}

/// Six to twelve round times, and how they are written.
fn ticks(wall: Duration) -> Vec<(Duration, String)> {
    const SECOND: u128 = 1_000_000_000;
    let powers = (0..9).flat_map(|power| [1, 2, 5].map(|digit| digit * 10u128.pow(power)));
    let seconds = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
    let steps = powers.chain(seconds.map(|seconds| seconds * SECOND));
    let nanoseconds = wall.as_nanos();
    let days = 86400 * SECOND;
    let step = steps.into_iter().find(|step| nanoseconds / step <= 10);
    let step = step.unwrap_or_else(|| nanoseconds.div_ceil(10 * days) * days);
    let (unit, name) = match nanoseconds {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ if step < 60 * SECOND => (SECOND, "s"),
        _ if step < 3600 * SECOND => (60 * SECOND, "min"),
        _ => (3600 * SECOND, "h"),
    };
    let tick = |number: u128| {
        let at = Duration::from_nanos(u64::try_from(number * step).unwrap_or(u64::MAX));
        let words =
            if number == 0 { span(at) } else { format!("{} {name}", (number * step) as f64 / unit as f64) };
        (at, words)
    };
    (0..=nanoseconds / step).map(tick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(wall: Duration) -> Vec<String> {
        ticks(wall).into_iter().map(|(_, words)| words).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(
            words(Duration::from_millis(53)),
            ["0", "5 ms", "10 ms", "15 ms", "20 ms", "25 ms", "30 ms", "35 ms", "40 ms", "45 ms", "50 ms"]
        );
        assert_eq!(words(Duration::from_millis(1240))[1], "0.2 s");
        assert_eq!(words(Duration::from_secs(240))[1], "30 s");
        assert_eq!(words(Duration::from_secs(20 * 60))[1], "2 min");
        assert_eq!(words(Duration::from_secs(30 * 3600))[1], "4 h");
        assert_eq!(words(Duration::from_nanos(1)), ["0", "1 ns"]);
        for shift in 0..60 {
            let ticks = ticks(Duration::from_nanos(1 << shift));
            assert!((2..=11).contains(&ticks.len()), "{} of {shift}", ticks.len());
        }
    }
}
