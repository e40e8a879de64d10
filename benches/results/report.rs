//! `benches/RESULTS.md`, and the part of `README.md` between its two markers.

use std::fmt::Write;

use crate::figures::{QUESTIONS, Who};
use crate::lines::{Head, Row, Run, Table};
use crate::targets::{Against, TARGETS, UNMEASURED, Unit, WHY, unit};

const BEGIN: &str = "<!-- figures: written by benches/results -->";
const END: &str = "<!-- end of figures -->";

pub(crate) fn results(runs: &[Run], profiles: &str) -> String {
    let mut out = String::from("# Results\n\n");
    out += &origin(runs);
    out += "\n\n`cargo bench --bench results` writes this file; by hand nothing is changed here. Read the ratios: a figure \
            of one run\ndoes not compare with one of another. Each ratio is of two figures of one run, medians, two workers \
            unless a line\nsays otherwise. `limit:` is what the machine can do, `handmade-` what a user writes in an hour \
            without a library.\n\n";
    targets(&mut out, runs);
    out += profiles.trim();
    out += "\n\n## All contenders\n\n";
    for table in merged(runs, false) {
        contenders(&mut out, &table);
    }
    out += "## Growth\n\nEach table divides by its first line. Time that stays flat is what to look for; CPU time where there \
            are more workers\nthan cores.\n\n";
    for table in merged(runs, true) {
        growth(&mut out, &table);
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

/// `2026-11-26, two shared cores, Linux 6.18, rustc 1.95`, of the last run.
fn origin(runs: &[Run]) -> String {
    let mut heads: Vec<&Head> = runs.iter().filter_map(|run| run.head.as_ref()).collect();
    heads.sort_by(|one, two| one.date.cmp(&two.date));
    let Some(head) = heads.last() else { return "The runs have no date.".to_owned() };
    let day = head.date.split('T').next().unwrap_or_default();
    format!(
        "{day}, a virtual machine with {}, shared with others; Linux {}, {}.",
        head.cores, head.kernel, head.rustc
    )
}

fn targets(out: &mut String, runs: &[Run]) {
    let verdicts: Vec<_> = TARGETS.iter().map(|target| (target, target.judge(runs))).collect();
    let count = |met: bool| {
        verdicts.iter().flat_map(|(_, verdict)| verdict).filter(|verdict| verdict.met == met).count()
    };
    let (met, missed) = (count(true), count(false));
    let _ = writeln!(
        out,
        "## Targets\n\n{met} met, {missed} missed, {} not measured.\n\n\
         | workload | what | ratio | at most | | ours | beside it | why |\n|---|---|--:|--:|---|--:|---|---|",
        verdicts.len() - met - missed
    );
    for (target, verdict) in verdicts {
        let (workload, what, at_most) =
            (target.workload, target.what, bound(target.at_most, &target.against));
        let Some(verdict) = verdict else {
            let _ = writeln!(out, "| {workload} | {what} | | {at_most} | not measured | | | |");
            continue;
        };
        let show = |value| figure(value, target.unit());
        let ratio = digits(verdict.ratio);
        let word = if verdict.met { "met" } else { "**missed**" };
        let other = verdict.other.map(|(name, value)| format!("{} {name}", show(value))).unwrap_or_default();
        let why = WHY.iter().filter(|(of, _)| !verdict.met && *of == workload).map(|(_, why)| *why);
        let why = why.collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            out,
            "| {workload} | {what} | {ratio} × | {at_most} | {word} | {} | {other} | {why} |",
            show(verdict.ours)
        );
    }
    out.push_str("\nNo line of the stand shows:\n\n");
    UNMEASURED.iter().for_each(|what| {
        let _ = writeln!(out, "- {what}.");
    });
    out.push('\n');
}

fn bound(at_most: f64, against: &Against) -> String {
    match against {
        Against::Unit(_, Unit::Ideal, _) => figure(at_most, Unit::Ideal),
        Against::Unit(value, unit, _) => format!("{at_most} × {}", figure(*value, *unit)),
        Against::Best(names) => format!("{at_most} × {}", names.join(" or ")),
        Against::AnyRival => format!("{at_most} × the best rival"),
        Against::CPython => format!("{at_most} × CPython"),
        Against::Own(workload) => format!("{at_most} × our {workload}"),
    }
}

/// The tables of all runs under one name each; of several lines of one contender, the middle one.
fn merged(runs: &[Run], growth: bool) -> Vec<Table> {
    let mut all: Vec<Table> = Vec::new();
    for table in runs.iter().flat_map(|run| &run.tables).filter(|table| table.is_growth() == growth) {
        match all.iter_mut().find(|known| known.workload == table.workload) {
            Some(known) => known.rows.extend(table.rows.iter().cloned()),
            None => all.push(Table {
                workload: table.workload.clone(),
                unit: table.unit.clone(),
                rows: table.rows.clone(),
            }),
        }
    }
    for table in &mut all {
        let mut names: Vec<String> = Vec::new();
        for row in &table.rows {
            if !names.contains(&row.contender) {
                names.push(row.contender.clone());
            }
        }
        let middle = |name: &String| {
            let mut rows: Vec<&Row> = table.rows.iter().filter(|row| row.contender == *name).collect();
            rows.sort_by(|one, two| order(one).total_cmp(&order(two)));
            // Those without figures are last, and count only where there are no others.
            let measured = rows.iter().filter(|row| row.figures.is_some()).count();
            rows[measured / 2].clone()
        };
        let rows = names.iter().map(middle).collect();
        table.rows = rows;
        if !growth {
            table.rows.sort_by(|one, two| order(one).total_cmp(&order(two)));
        }
    }
    all
}

fn order(row: &Row) -> f64 {
    row.figures.as_ref().map_or(f64::INFINITY, |figures| figures.median)
}

fn contenders(out: &mut String, table: &Table) {
    let unit = unit(&table.workload);
    let _ = writeln!(
        out,
        "### {}: {}\n\n| contender | × best | median | min | further |\n|---|--:|--:|--:|---|",
        table.workload, table.unit
    );
    for row in &table.rows {
        let (name, reason) = (&row.contender, row.reason.as_deref().unwrap_or_default());
        let Some(figures) = &row.figures else {
            let _ = writeln!(out, "| {name} | | | | could not: {reason} |");
            continue;
        };
        let name = if name.starts_with("ours-") { format!("**{name}**") } else { name.clone() };
        let ratio = figures.ratio.map(digits).unwrap_or_default();
        let further: Vec<String> =
            figures.more.iter().map(|(key, value)| format!("{key} {}", digits(*value))).collect();
        let further = further.into_iter().chain(row.reason.clone()).collect::<Vec<_>>().join(", ");
        let (median, min) = (figure(figures.median, unit), figure(figures.min, unit));
        let _ = writeln!(out, "| {name} | {ratio} | {median} | {min} | {further} |");
    }
    out.push('\n');
}

fn growth(out: &mut String, table: &Table) {
    let by = table.workload.split_once("-by-").map_or("", |(_, by)| by);
    let _ = writeln!(
        out,
        "### {}: {}\n\n| {by} | time | CPU time | time each | CPU time each |\n|--:|--:|--:|--:|--:|",
        table.workload, table.unit
    );
    for row in &table.rows {
        let Some(figures) = &row.figures else {
            let _ =
                writeln!(out, "| {} | | | {} | |", row.contender, row.reason.as_deref().unwrap_or_default());
            continue;
        };
        let [cpu_ratio, cpu] = ["cpu_ratio", "cpu_ns"].map(|key| figures.more(key));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            row.contender,
            figures.ratio.map(digits).unwrap_or_default(),
            cpu_ratio.map(digits).unwrap_or_default(),
            figure(figures.median, Unit::Nanoseconds),
            cpu.map(|cpu| figure(cpu, Unit::Nanoseconds)).unwrap_or_default(),
        );
    }
    out.push('\n');
}

/// The README with its figures renewed; `None` if it has not the two markers.
pub(crate) fn readme(old: &str, runs: &[Run]) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let mut out = String::from(
        "\n| ours, divided by | by hand | best crate | CPython | ours |\n|---|--:|--:|--:|--:|\n",
    );
    for question in &QUESTIONS {
        let bars = question.bars(runs);
        let ours = bars.first().map(|bar| bar.value);
        let ratio = |who| {
            let other = bars.iter().find(|bar| bar.who == who).map(|bar| bar.value);
            ours.zip(other).map_or("–".to_owned(), |(ours, other)| format!("{} ×", digits(ours / other)))
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            question.title,
            ratio(Who::ByHand),
            ratio(Who::Crate),
            ratio(Who::CPython),
            ours.map_or("not measured".to_owned(), |ours| figure(ours, Unit::Nanoseconds)),
        );
    }
    let _ = writeln!(out, "\n![The same figures as bars](benches/results.svg)\n\n{}", origin(runs));
    Some(format!("{before}{BEGIN}\n{out}\n{END}{after}"))
}

/// A figure with its unit, as people say it.
pub(crate) fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ideal => format!("{} × ideal", digits(value)),
        Unit::Bytes if value < 1e4 => format!("{} B", digits(value)),
        Unit::Bytes => format!("{} MB", digits(value / 1e6)),
        Unit::Microseconds => figure(value * 1e3, Unit::Nanoseconds),
        Unit::Nanoseconds if value < 1e3 => format!("{} ns", digits(value)),
        Unit::Nanoseconds if value < 1e6 => format!("{} µs", digits(value / 1e3)),
        Unit::Nanoseconds if value < 1e9 => format!("{} ms", digits(value / 1e6)),
        Unit::Nanoseconds => format!("{} s", digits(value / 1e9)),
    }
}

/// Three figures that count; whole numbers whole.
pub(crate) fn digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let places = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
