use crate::running::run;

#[test]
fn a_crash_costs_one_call_and_leaves_a_post_mortem() {
    let ran = run("crash", &["--workers", "2"]);
    let said = &ran.stdout;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let line =
        |fate: &str| said.lines().find(|line| line.starts_with(fate)).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(said.matches("Returns    returned 500500\n").count(), 5, "{said}");
    assert!(line("Panics").contains("panicked: a bug (at examples/crash.rs:"), "{said}");
    assert!(line("Exits").contains("exit status: 3"), "{said}");
    assert!(line("Segfaults").ends_with("(SIGSEGV)"), "{said}");
    assert!(line("Starves").contains("SIGABRT") && line("Starves").contains("memory limit"), "{said}");
    assert!(line("IsKilled").contains("SIGKILL"), "{said}");
    assert!(said.contains("the pool still works: 100 more calls"), "{said}");
}

#[test]
fn who_is_asked_cleans_up_and_who_is_terminated_does_not() {
    let said = run("crash", &[]).stdout;
    let (_, lives) = said.split_once("asked to end:\n").unwrap();
    let (asked, terminated) = lives.split_once("terminated:\n").unwrap();
    for life in [asked, terminated] {
        let states = [
            "workers are []",
            "starts as process",
            "the call is running: true",
            "has ended with",
            "workers are []",
        ];
        let mut rest = life;
        for state in states {
            rest = rest.split_once(state).unwrap_or_else(|| panic!("no `{state}` in its place:\n{life}")).1;
        }
    }
    assert!(asked.contains("the call returned\n  worker_0 says good-bye\n"), "{said}");
    assert!(asked.contains("has ended with exit status: 0"), "{said}");
    assert!(asked.contains("the lock file is gone"), "{said}");
    assert!(terminated.contains("SIGTERM") && !terminated.contains("good-bye"), "{said}");
    assert!(terminated.contains("the lock file is still there"), "{said}");
}
