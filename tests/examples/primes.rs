use crate::running::run;

/// The five that come first in size: three of the primes are among them.
const BELOW: [&str; 2] = ["--below", "3333333333333334"];

#[test]
fn all_ways_tell_primes_from_others() {
    let said = run("primes", &[&BELOW[..], &["--workers", "2"]].concat()).well();
    let mut lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["number", "serial", "threads", "processes"], "{said}");
    let mut answers = Vec::new();
    for line in lines.by_ref().take(5) {
        let seconds = &line[line.len() - 3..];
        assert!(seconds.iter().all(|seconds| seconds.parse::<f64>().is_ok()), "{said}");
        answers.push(line[..line.len() - 3].join(" "));
    }
    let expected =
        ["2 P", "3333333333333333", "142702110479723 P", "299593572317531 P", "3333333333333301 P"];
    assert_eq!(answers, expected, "{said}");
    assert_eq!(lines.next().unwrap(), ["workers", "1", "2", "2"], "{said}");
    assert!(said.contains("seconds in all") && said.contains("speed-up"), "{said}");
}

#[test]
fn one_way_is_enough() {
    let said = run("primes", &["--below", "3", "--executor", "processes", "--workers", "1"]).well();
    assert!(said.starts_with("number"), "{said}");
    assert!(said.contains("processes") && !said.contains("serial"), "{said}");
}
