use crate::running::run;

#[test]
fn one_worker_is_enough_for_calls_that_wait_for_calls() {
    let said = run("nested", &["--count", "100001", "--workers", "3"]).well();
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [1, 3]
        .map(|workers| {
            ["total threads", "sort threads", "sort processes"].map(|what| format!("{what} {workers}"))
        })
        .concat();
    for (line, expected) in lines[1..].iter().zip(&expected) {
        assert_eq!((&line[..3].join(" "), line.len()), (expected, 4), "{said}");
    }
    assert_eq!(lines.len(), 1 + expected.len() + 1, "{said}");
    assert!(!said.contains("wrong") && said.contains("nothing hangs"), "{said}");
}

#[test]
fn no_numbers_are_in_order_too() {
    assert!(!run("nested", &["--count", "0"]).well().contains("wrong"));
}
