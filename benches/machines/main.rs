//! The tables of `benches/machines.md`: how fast 10, 100 and 1,000 machines are, by arithmetic (`model.rs`), and beside it what
//! a simulation with delays and queues gives (`simulation.rs`). `cargo bench --bench machines`
//!
//! ```text
//! cargo bench --bench machines -- --write                         renews the tables of the page
//! cargo bench --bench machines -- --figures AMQP.txt CELERY.txt   renews its figures, from lines of `benches/amqp`
//! cargo bench --bench machines -- --broker 40 --delay 500         other machines than ours: microseconds; --link 1250: MB/s
//! ```
//!
//! Not here: how costs are measured (`benches/amqp`, workload `a5`). Tests are in `tests/machines.rs`. The rule: nothing here
//! depends on the machine that runs it.

mod model;
mod simulation;

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use model::{Costs, MEASURED, Site};
use simulation::{Lengths, Simulation};

const TABLES: &str = "tables";
const FIGURES: &str = "figures";

/// The threads are to work so much of their time.
const GOOD: f64 = 0.9;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench")
        || arguments.iter().any(|argument| argument == "--test")
    {
        println!("machines: nothing is counted in a test");
        return ExitCode::SUCCESS;
    }
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<f64>().ok()
    };
    let mut costs = MEASURED;
    for (name, cost, unit) in [
        ("--client", &mut costs.client, 1e-6),
        ("--broker", &mut costs.broker, 1e-6),
        ("--worker", &mut costs.worker, 1e-6),
        ("--delay", &mut costs.delay, 1e-6),
        ("--commit", &mut costs.commit, 1e-6),
        ("--confirm", &mut costs.confirm, 1e-6),
        ("--link", &mut costs.link, 1e6),
    ] {
        if let Some(given) = number(name) {
            *cost = given * unit;
        }
    }
    let files = arguments.iter().skip_while(|argument| *argument != "--figures").skip(1);
    let files: Vec<&String> = files.take_while(|argument| !argument.starts_with("--")).collect();
    let renewed = if !files.is_empty() {
        let lines = files.iter().map(fs::read_to_string).collect::<Result<String, _>>();
        lines.and_then(|lines| write(FIGURES, &figures(&lines)))
    } else {
        let tables = tables(costs);
        println!("{tables}");
        if arguments.iter().any(|argument| argument == "--write") { write(TABLES, &tables) } else { Ok(()) }
    };
    match renewed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("machines: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Renews a part of the page, which stands between two markers.
fn write(part: &str, text: &str) -> io::Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/machines.md");
    let old = fs::read_to_string(&page)?;
    let (begin, end) =
        (format!("<!-- {part}: written by benches/machines -->"), format!("<!-- end of {part} -->"));
    let parts = old.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) =
        parts.ok_or_else(|| io::Error::other(format!("{} has no markers of {part}", page.display())))?;
    fs::write(&page, format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()))
}

/// Calls a second of every contender, out of lines of `benches/amqp` and `celery_tasks.py`.
fn figures(lines: &str) -> String {
    let mut rows: Vec<(&str, Vec<(&str, f64)>)> = Vec::new();
    for line in lines.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [workload, contender, median, ..] = words.as_slice() else { continue };
        let Ok(median) = median.parse::<f64>() else { continue };
        match rows.iter_mut().find(|(known, _)| known == contender) {
            Some((_, figures)) => figures.push((workload, median)),
            None => rows.push((contender, vec![(workload, median)])),
        }
    }
    let mut out = String::new();
    for (title, columns) in [
        (
            "calls",
            &[
                "a1",
                "a2",
                "a3in-1KiB",
                "a3in-10KiB",
                "a3in-100KiB",
                "a3out-1KiB",
                "a3out-10KiB",
                "a3out-100KiB",
            ][..],
        ),
        ("items of `map`", &["a4map-c1", "a4map-c10", "a4map-c100", "a4map-c1000"][..]),
    ] {
        let heads: Vec<&str> = columns.iter().map(|column| head(column)).collect();
        let _ = writeln!(
            out,
            "| {title} a second | {} |\n|---|{}",
            heads.join(" | "),
            "--:|".repeat(columns.len())
        );
        for (contender, figures) in &rows {
            let of = |column: &str| figures.iter().find(|(workload, _)| *workload == column);
            if columns.iter().all(|column| of(column).is_none()) {
                continue;
            }
            let cells =
                columns.iter().map(|column| of(column).map_or("–".into(), |(_, each)| digits(1e9 / each)));
            let _ = writeln!(out, "| {contender} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
        out.push('\n');
    }
    out
}

fn head(workload: &str) -> &str {
    match workload {
        "a1" => "one at a time",
        "a2" => "all queued",
        "a3in-1KiB" => "1 KiB in",
        "a3in-10KiB" => "10 KiB in",
        "a3in-100KiB" => "100 KiB in",
        "a3out-1KiB" => "1 KiB out",
        "a3out-10KiB" => "10 KiB out",
        "a3out-100KiB" => "100 KiB out",
        "a4map-c1" => "1 a message",
        "a4map-c10" => "10",
        "a4map-c100" => "100",
        "a4map-c1000" => "1,000",
        other => other,
    }
}

const CREWS: [usize; 3] = [10, 100, 1_000];
const LENGTHS: [(&str, f64); 6] =
    [("1 ms", 1e-3), ("10 ms", 1e-2), ("100 ms", 0.1), ("1 s", 1.0), ("10 s", 10.0), ("1 min", 60.0)];

fn tables(costs: Costs) -> String {
    let mut out = String::new();
    for (payload, bytes) in
        [("16 B", 16.0), ("1 KiB", 1024.0), ("10 KiB", 10.0 * 1024.0), ("100 KiB", 100.0 * 1024.0)]
    {
        let _ = writeln!(
            out,
            "### {payload} in, {payload} out\n\n\
             | workers × 8 threads | task | tasks/s to be busy | window for that | MB/s each way | limit | busy, by arithmetic | simulated | lengths wild | brokers instead | items a message instead | busy then, simulated |\n\
             |--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|",
        );
        for workers in CREWS {
            for (name, length) in LENGTHS {
                let _ = writeln!(out, "{}", row(workers, name, length, bytes, costs));
            }
        }
        out.push('\n');
    }
    out
}

fn row(workers: usize, name: &str, length: f64, bytes: f64, costs: Costs) -> String {
    let site =
        Site { workers, threads: 8, length, argument: bytes, value: bytes, chunk: 1, window: None, costs };
    // Whoever is half done at the end makes it more than the whole at times.
    let busy = |site: Site, lengths| Simulation::new(site, lengths, 8).run(4).efficiency.min(1.0);
    let (alike, wild) = (busy(site, Lengths::Alike), busy(site, Lengths::Wild));
    let chunk = site.chunk_for(GOOD);
    let then = chunk.filter(|&chunk| chunk > 1).map(|chunk| busy(Site { chunk, ..site }, Lengths::Alike));
    let is_good = site.efficiency() >= GOOD;
    let brokers = if is_good { String::new() } else { digits(site.brokers_for(GOOD)) };
    let items = match chunk {
        _ if is_good => String::new(),
        Some(chunk) => digits(chunk as f64),
        None => "none: the network".into(),
    };
    format!(
        "| {workers} | {name} | {} | {} | {} | {} | {} | {} | {} | {brokers} | {items} | {} |",
        digits(site.needed()),
        digits(site.window_needed().ceil()),
        digits(site.needed() * site.call().link * costs.link / 1e6),
        site.rate().1.name(),
        percent(site.efficiency()),
        percent(alike),
        percent(wild),
        then.map_or(String::new(), percent),
    )
}

fn percent(share: f64) -> String {
    if share < 0.1 { format!("{:.1} %", share * 100.0) } else { format!("{:.0} %", share * 100.0) }
}

/// Two or three figures that count, with commas.
fn digits(value: f64) -> String {
    if value < 10.0 {
        let text = format!("{value:.2}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let last = 10_f64.powi((value.log10().floor() as i32 - 2).max(0));
    let whole = format!("{:.0}", (value / last).round() * last);
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
