//! Reads `tests/PARITY.md`, so that it cannot claim what is not so.
//!
//! Whether a test of this binary exists it asks the binary itself; for tests of other binaries
//! it looks into their source.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

const LEDGER: &str = include_str!("../PARITY.md");

/// How many clauses each letter has, in the notes that the ledger answers to.
const CLAUSES: [(char, usize); 12] = [
    ('N', 8),
    ('F', 20),
    ('W', 12),
    ('A', 6),
    ('M', 15),
    ('X', 3),
    ('T', 13),
    ('P', 28),
    ('S', 13),
    ('G', 4),
    ('B', 8),
    ('Y', 8),
];

/// Clauses that are faults there, and behaviours that are never tested there. They are the reason for this ledger:
/// none of them may be "not applicable".
const FAULTS: [&str; 10] = ["W6", "P12", "P13", "T8", "S6", "F12", "P24", "M13", "S4", "A2"];
const UNTESTED: [&str; 7] = ["F14", "M3", "M7", "M9", "T11", "P4", "P25"];

/// Upstream tests that carry over as they are, and adapted.
const UPSTREAM: (usize, usize) = (78, 43);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Verdict {
    Carried,
    Adapted,
    NotApplicable,
}

#[derive(Debug)]
struct Row<'a> {
    /// `F6`, or `FutureTests.cancel`.
    id: String,
    verdict: Verdict,
    tests: Vec<&'a str>,
    why: &'a str,
}

/// The words in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// The rows of all tables, the clauses first.
fn read(ledger: &str) -> (Vec<Row<'_>>, Vec<Row<'_>>) {
    let (mut clauses, mut upstream) = (Vec::new(), Vec::new());
    let mut class = "";
    for (number, line) in ledger.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            class = title.rsplit(' ').next().unwrap_or_default();
        }
        let Some(cells) = cells(line) else { continue };
        if cells[0].starts_with("---") || ["clause", "test"].contains(&cells[0]) {
            continue;
        }
        let is_clause = cells.len() == 5;
        assert!(is_clause || cells.len() == 4, "line {} has {} cells: {line}", number + 1, cells.len());
        let verdict = match cells[cells.len() - 3] {
            "carried" => Verdict::Carried,
            "adapted" => Verdict::Adapted,
            "n.a." => Verdict::NotApplicable,
            other => panic!("line {}: {other:?} is no verdict: {line}", number + 1),
        };
        let id = if is_clause { cells[0].to_owned() } else { format!("{class}.{}", quoted(cells[0])[0]) };
        let row = Row { id, verdict, tests: quoted(cells[cells.len() - 2]), why: cells[cells.len() - 1] };
        if is_clause { clauses.push(row) } else { upstream.push(row) }
    }
    (clauses, upstream)
}

fn listed(arguments: &[&str]) -> Vec<String> {
    let output = Command::new(env::current_exe().unwrap()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The tests of this binary: function → the engines it runs on (`""`: not made for several).
fn our_tests() -> HashMap<String, BTreeSet<String>> {
    let mut tests = HashMap::<_, BTreeSet<_>>::new();
    for path in listed(&["--list"]) {
        let mut parts = path.rsplit("::");
        let function = parts.next().unwrap_or_default().to_owned();
        let engine = parts.next().filter(|name| ["threads", "processes", "serial"].contains(name));
        // A test that stands directly in `threads.rs` is not one of many.
        let engine = engine.filter(|_| parts.next().is_some()).unwrap_or_default();
        tests.entry(function).or_default().insert(engine.to_owned());
    }
    tests
}

/// Does `tests/<binary>.rs`, or the `main.rs` of that directory, have this test, and runs it?
fn stands_in(binary: &str, function: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(binary);
    let source =
        fs::read_to_string(path.with_extension("rs")).or_else(|_| fs::read_to_string(path.join("main.rs")));
    let Ok(source) = source else { return false };
    let before = format!("fn {function}(");
    let Some(at) = source.find(&before) else { return false };
    let attributes = source[..at].rsplit("\n\n").next().unwrap_or_default();
    attributes.contains("#[test]") && !attributes.contains("#[ignore")
}

fn check_tests(row: &Row<'_>, ours: &HashMap<String, BTreeSet<String>>) {
    let id = &row.id;
    for test in &row.tests {
        if let Some((binary, function)) = test.split_once("::") {
            assert!(stands_in(binary, function), "{id}: there is no test {function} in tests/{binary}.rs");
            continue;
        }
        let engines = ours.get(*test).unwrap_or_else(|| panic!("{id}: there is no test {test}"));
        let on = |engine: &str| engines.contains(engine);
        assert!(on("threads") == on("processes"), "{id}: {test} runs only on {engines:?}");
    }
    if row.verdict == Verdict::NotApplicable {
        assert!(row.tests.is_empty(), "{id} is not applicable, and has tests");
    } else {
        assert!(!row.tests.is_empty(), "{id} is {:?} without a test", row.verdict);
    }
    assert!(
        row.verdict == Verdict::Carried || !row.why.is_empty(),
        "{id} is {:?} without a reason",
        row.verdict
    );
}

#[test]
fn the_ledger_has_every_clause_and_every_test_that_it_names() {
    let (clauses, upstream) = read(LEDGER);
    let wanted: Vec<String> = CLAUSES
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number}")))
        .collect();
    let present: Vec<&str> = clauses.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(present, wanted, "each clause once, in order");

    let ours = our_tests();
    assert!(listed(&["--list", "--ignored"]).is_empty(), "no test is ignored");
    for row in &clauses {
        check_tests(row, &ours);
        let prefix = format!("{}_", row.id.to_lowercase());
        let named_after_it = |test: &&str| test.rsplit("::").next().unwrap_or(test).starts_with(&prefix);
        assert!(
            row.verdict == Verdict::NotApplicable || row.tests.iter().any(named_after_it),
            "{}: no test is named {prefix}…",
            row.id
        );
    }
    for id in FAULTS.iter().chain(&UNTESTED) {
        let row = clauses.iter().find(|row| row.id == *id).unwrap();
        assert!(row.verdict != Verdict::NotApplicable, "{id} must be shown");
    }

    let mut seen = BTreeMap::new();
    for row in &upstream {
        check_tests(row, &ours);
        assert!(seen.insert(&row.id, ()).is_none(), "{} twice", row.id);
    }
    let count = |verdict| upstream.iter().filter(|row| row.verdict == verdict).count();
    assert_eq!((count(Verdict::Carried), count(Verdict::Adapted)), UPSTREAM);
}

/// The reader itself notices what is wrong.
#[test]
fn the_ledger_is_read_as_it_stands() {
    let text = "## F. Future\n| clause | what | verdict | tests | why |\n|---|---|---|---|---|\n\
                | F1 | states | adapted | `f1_a`, `faults::f1_b` | four |\n\
                ## test_future.py FutureTests\n| test | verdict | ours | why |\n|---|---|---|---|\n\
                | `cancel` | carried | `f2_c` | |\n";
    let (clauses, upstream) = read(text);
    assert_eq!(clauses.len(), 1);
    assert_eq!(
        (clauses[0].id.as_str(), clauses[0].verdict, clauses[0].why),
        ("F1", Verdict::Adapted, "four")
    );
    assert_eq!(clauses[0].tests, ["f1_a", "faults::f1_b"]);
    assert_eq!(upstream.len(), 1);
    assert_eq!((upstream[0].id.as_str(), upstream[0].verdict), ("FutureTests.cancel", Verdict::Carried));
    assert!(stands_in("faults", "kill_again_and_again") && stands_in("matrix", "run"));
    assert!(!stands_in("faults", "assert_works"), "a helper is no test");
    assert!(!stands_in("faults", "no_such_test") && !stands_in("no_such_file", "run"));
}
