use crate::running::run;

/// What it said under each headline, but for the names of the functions that errors tell.
fn sections(executor: &str) -> Vec<(String, Vec<String>)> {
    let said = run("timeouts", &["--executor", executor, "--workers", "2", "--limit", "1"]).well();
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in said.lines().skip(1) {
        match line.strip_prefix("    ") {
            Some(outcome) => {
                sections.last_mut().unwrap().1.push(outcome.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            None => sections.push((line.trim().to_string(), Vec::new())),
        }
    }
    sections
}

/// Each line has its pattern somewhere in it.
fn assert_told((headline, lines): &(String, Vec<String>), expected: &str, patterns: &[&str]) {
    assert_eq!(headline, expected);
    assert_eq!(lines.len(), patterns.len(), "{headline}: {lines:#?}");
    for (line, pattern) in lines.iter().zip(patterns) {
        assert!(line.contains(pattern), "{headline}: no `{pattern}` in {lines:#?}");
    }
}

const RETURNED: &str = "short returned, all done";
const NEXT: &str = "next returned, all done";
const LATE: &str = "not done within 1s";
const RESULT: [&str; 3] = [LATE, "running: true", "long returned, all done"];
const COMPLETED: [&str; 6] = [
    "short is done",
    "short is done",
    "1 of 3 futures not done within 1s",
    "long running: true",
    "long returned early",
    RETURNED,
];

#[test]
fn a_process_is_stopped_at_its_limit_and_the_others_go_on() {
    let sections = sections("processes");
    assert_eq!(sections.len(), 5, "{sections:#?}");
    assert_told(&sections[0], "a limit on the wait for a result", &RESULT);
    assert_told(&sections[1], "a limit on the call", &[RETURNED, LATE, NEXT]);
    assert_told(&sections[2], "a limit on as_completed", &[&COMPLETED[..], &[RETURNED]].concat());
    assert_told(&sections[3], "a limit on a map", &[RETURNED, LATE, RETURNED]);
    let stopped = [RETURNED, LATE, "worker processes that were stopped: 1", NEXT];
    assert_told(&sections[4], "a limit on every call of the pool", &stopped);
}

#[test]
fn a_thread_is_not_stopped_so_a_limit_on_its_call_is_refused() {
    let sections = sections("threads");
    assert_eq!(sections.len(), 4, "{sections:#?}");
    assert_told(&sections[0], "a limit on the wait for a result", &RESULT);
    assert_told(&sections[1], "a limit on the call", &["not supported", "not supported", NEXT]);
    assert_told(&sections[2], "a limit on as_completed", &[&COMPLETED[..], &[RETURNED]].concat());
    assert_told(&sections[3], "a limit on a map", &[RETURNED, LATE, RETURNED]);
}
