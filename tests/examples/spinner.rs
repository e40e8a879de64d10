use crate::running::run;

#[test]
fn a_coroutine_that_computes_stops_the_spinner_and_nothing_else_does() {
    let said = run("spinner", &["--seconds", "0.6"]).well();
    let mut turned = Vec::new();
    for line in said.lines().skip(1).take(7) {
        let (what, numbers) = line.split_at(32);
        let (answer, frames) = numbers.trim().split_once(' ').unwrap();
        let (answer, frames): (u64, u32) = (answer.parse().unwrap(), frames.trim().parse().unwrap());
        assert!(answer > 1, "{said}");
        turned.push((what.split_whitespace().collect::<Vec<_>>().join(" "), frames > 1));
    }
    let expected = [
        ("thread sleeps", true),
        ("thread computes", true),
        ("process sleeps", true),
        ("process computes", true),
        ("coroutine sleeps, awaited", true),
        ("coroutine computes", false),
        ("coroutine computes elsewhere", true),
    ];
    assert_eq!(turned, expected.map(|(what, turns)| (what.to_string(), turns)), "{said}");
}
