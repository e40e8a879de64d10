//! Three short tables: the workers, the slowest calls, and how long calls waited and ran.

use std::fmt;
use std::time::Duration;

use super::lanes::{Lane, share, utilisation};
use super::names::{count, many, percent, short, span};
use super::story::{TaskRecord, Timeline};

/// So many workers have a line of their own.
const WORKERS: usize = 16;
const SLOWEST: usize = 10;

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lanes = self.lanes();
        let calls: usize = self.tasks.iter().map(|task| task.calls).sum();
        write!(f, "{}", many(self.tasks.len(), "task"))?;
        if calls != self.tasks.len() {
            write!(f, " ({})", many(calls, "call"))?;
        }
        let places = lanes.iter().filter(|lane| lane.number.is_some()).count();
        let busy = percent(utilisation(&lanes));
        writeln!(f, " in {}, {}, {busy} busy", span(self.wall), many(places, "worker"))?;
        if self.left_out > 0 {
            writeln!(f, "the recorder was full: {} left out", many(self.left_out, "event"))?;
        }
        workers(f, &lanes)?;
        self.slowest(f)?;
        self.latencies(f)
    }
}

fn workers(f: &mut fmt::Formatter<'_>, lanes: &[Lane<'_>]) -> fmt::Result {
    writeln!(
        f,
        "\n{:24} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "worker", "tasks", "busy", "idle", "starting", "busy"
    )?;
    // The busiest first, if there is no room for all.
    let mut order: Vec<&Lane<'_>> = lanes.iter().collect();
    if order.len() > WORKERS {
        order.sort_by_key(|lane| std::cmp::Reverse(lane.busy));
    }
    let (shown, others) = order.split_at(order.len().min(WORKERS));
    for lane in shown {
        line(f, &clipped(lane.name, 24), std::slice::from_ref(lane))?;
    }
    if !others.is_empty() {
        line(f, &format!("{} others", count(others.len())), others)?;
    }
    Ok(())
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, lanes: &[&Lane<'_>]) -> fmt::Result {
    let sum = |time: fn(&Lane<'_>) -> Duration| lanes.iter().map(|lane| time(lane)).sum::<Duration>();
    let tasks: usize = lanes.iter().map(|lane| lane.bars.len()).sum();
    let (busy, there, starting) = (sum(|lane| lane.busy), sum(|lane| lane.there), sum(|lane| lane.starting));
    let idle = there.saturating_sub(busy).saturating_sub(starting);
    let (tasks, share) = (count(tasks), percent(share(busy, there)));
    // Those elsewhere have other things to do as well.
    let known =
        |text: String| if lanes.iter().any(|lane| lane.number.is_some()) { text } else { String::new() };
    let [idle, starting, share] = [span(idle), span(starting), share].map(known);
    writeln!(f, "{name:24} {tasks:>9} {:>9} {idle:>9} {starting:>9} {share:>7}", span(busy))
}

impl Timeline {
    fn slowest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:24} {:>9} {:>9} {:>9}  {:12} worker",
            "slowest", "task", "ran", "queued", "outcome"
        )?;
        let mut tasks: Vec<(Duration, &TaskRecord)> =
            self.tasks.iter().filter_map(|task| Some((task.ran()?, task))).collect();
        let most = tasks.len().min(SLOWEST);
        if most < tasks.len() {
            tasks.select_nth_unstable_by_key(most, |&(ran, _)| std::cmp::Reverse(ran));
        }
        tasks.truncate(most);
        tasks.sort_by_key(|&(ran, task)| (std::cmp::Reverse(ran), task.id));
        for (ran, task) in tasks {
            let (name, waited) = (clipped(&short(task.name), 24), span(task.waited().unwrap_or_default()));
            let outcome = task.outcome.map_or("running", |outcome| outcome.name());
            let worker = task.worker().map_or("", |worker| &self.workers[worker].name);
            writeln!(f, "{name:24} {:>9} {:>9} {waited:>9}  {outcome:12} {worker}", task.id, span(ran))?;
        }
        Ok(())
    }

    fn latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:24} {:>9} {:>9} {:>9} {:>9}", "latency", "p50", "p90", "p99", "max")?;
        let waits = self.tasks.iter().filter_map(TaskRecord::waited).collect();
        let runs =
            self.tasks.iter().flat_map(|task| &task.attempts).filter_map(|attempt| attempt.ran()).collect();
        for (name, times) in [("queued", waits), ("ran", runs)] {
            let [half, most, nearly, all] = percentiles(times, [50, 90, 99, 100]).map(span);
            writeln!(f, "{name:24} {half:>9} {most:>9} {nearly:>9} {all:>9}")?;
        }
        Ok(())
    }
}

/// The time that so many in a hundred did not exceed.
fn percentiles<const N: usize>(mut times: Vec<Duration>, ranks: [usize; N]) -> [Duration; N] {
    times.sort_unstable();
    ranks.map(|rank| {
        let place = (times.len() * rank).div_ceil(100).saturating_sub(1);
        times.get(place).copied().unwrap_or_default()
    })
}

fn clipped(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    let kept: String = name.chars().take(letters - 1).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_least_that_so_many_did_not_exceed() {
        let times =
            |range: std::ops::RangeInclusive<u64>| range.map(Duration::from_millis).collect::<Vec<_>>();
        let at = |milliseconds: [u64; 4]| milliseconds.map(Duration::from_millis);
        assert_eq!(percentiles(times(1..=100), [50, 90, 99, 100]), at([50, 90, 99, 100]));
        assert_eq!(percentiles(times(1..=3), [50, 90, 99, 100]), at([2, 3, 3, 3]));
        assert_eq!(percentiles(Vec::new(), [50, 90, 99, 100]), at([0; 4]));
    }
}
