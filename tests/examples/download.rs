use crate::running::run;

/// The words of a line of the table.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn every_way_gets_every_page() {
    let said = run("download", &["--pages", "12", "--delay", "1", "--workers", "1,3"]).well();
    let lines: Vec<_> = said.lines().collect();
    // Its lines, and what stands before them.
    let bytes = |n: usize| format!("<p>This is page {n} of 12.</p>\n").len() * (100 + n) + 16;
    assert_eq!(lines[..2], ["two pages", &format!("page/1: {} bytes", bytes(1))]);
    assert!(lines[2].starts_with("page/none: failed: ") && lines[2].contains("404"), "{said}");

    let all: usize = (1..=12).map(bytes).sum();
    let ways = [("serial", "1"), ("threads", "1"), ("threads", "3"), ("async", "1")];
    for ((way, workers), line) in ways.into_iter().zip(&lines[6..10]) {
        let words = words(line);
        assert_eq!(
            (words[..2].to_vec(), words[3..5].to_vec()),
            (vec![way, workers], vec!["12", &all.to_string()])
        );
        // Threads have one client each, which keeps its connection. (A worker may find nothing left to do.)
        let opened: usize = words[2].parse().unwrap();
        assert!(way == "async" || opened <= workers.parse().unwrap(), "{line}");
    }
    assert_eq!(lines[10..], [format!("every way got the same {all} bytes")]);
}
