use crate::running::run;

#[test]
fn executors_of_ones_own_do_what_the_librarys_do() {
    let said = run("custom_executor", &["--workers", "2"]).well();
    let lines: Vec<String> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let head =
        ["primes below 1000, by", "a thread per call 168", "the same, counted 168", "a pool of threads 168"];
    assert_eq!(lines[..4], head, "{said}");
    assert_eq!(
        lines[4..7],
        [
            "the caller 168",
            "counted: 1000 calls of custom_executor::is_prime",
            "futures of all of them together"
        ],
        "{said}"
    );
    assert_eq!(lines[7], "done: 3 of 3", "{said}");
    let mut mixed = lines[8..11].to_vec();
    mixed.sort();
    assert_eq!(mixed, ["a pool of threads true", "a thread per call true", "the caller true"], "{said}");
    assert!(
        lines[12].starts_with("`custom_executor::parse`")
            && lines[12].contains("returned an error: invalid digit"),
        "{said}"
    );
    assert!(lines[13].contains("was submitted after its executor had been shut down"), "{said}");
}
