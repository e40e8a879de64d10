use crate::running::run;

#[test]
fn it_answers_by_both_ways_and_stops_what_nobody_waits_for() {
    let said = run("web", &["--requests", "6", "--below", "5000"]).well();
    let lines: Vec<_> = said.lines().collect();
    for (line, way) in lines[1..4].iter().zip(["nothing", "primes, in a process", "primes, on the loop"]) {
        let figures: Vec<f64> =
            line.strip_prefix(way).unwrap().split_whitespace().map(|it| it.parse().unwrap()).collect();
        let [requests, _, pings, median, worst] = figures[..] else { panic!("{line}") };
        assert_eq!(requests, if way == "nothing" { 0.0 } else { 6.0 });
        assert!(pings >= 1.0 && median <= worst, "{line}");
    }
    // Both workers were busy for ever, and answer nevertheless.
    assert_eq!(
        lines[5..9],
        [
            "2 clients ask for all primes, and hang up",
            "before: asked 8, answered 6, stopped 0, open 2",
            "after:  asked 8, answered 6, stopped 2, open 0",
            "the next one is answered: 168 primes below 1000",
        ]
    );
    assert_eq!(
        lines[10..],
        [
            "many calls awaited at once",
            "/factors/12,97,x,35: 200 OK",
            "    12 = 2 · 2 · 3",
            "    97 = 97",
            "    x: invalid digit found in string",
            "    35 = 5 · 7",
            "/factors/all/12,97,35: 200 OK",
            "    12 = 2 · 2 · 3",
            "    97 = 97",
            "    35 = 5 · 7",
            "/factors/all/12,97,x,35: 422 Unprocessable Entity",
            "    x: invalid digit found in string",
            "",
            "669 primes below 5000, by both ways",
        ]
    );
}
