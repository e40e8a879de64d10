use std::{env, fs, process};

use crate::running::run;

/// SHA-384 of "abc", out of the standard.
const ABC: &str =
    "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";

#[test]
fn digests_stand_beside_what_they_are_of() {
    let file = env::temp_dir().join(format!("hashes-test-{}.txt", process::id()));
    fs::write(&file, "abc").unwrap();
    let said = run("hashes", &["--workers", "2", file.to_str().unwrap()]).well();
    fs::remove_file(&file).unwrap();
    let (digests, table) = said.split_once("\n\n").unwrap();
    assert_eq!(digests.lines().nth(1).unwrap(), format!("{ABC}  \"abc\""), "{said}");
    assert_eq!(digests.lines().nth(4).unwrap(), format!("{ABC}  {}", file.display()), "{said}");
    let ways: Vec<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ways, ["serial", "threads", "processes"], "{said}");
}

#[test]
fn it_makes_files_where_none_are_given() {
    let said = run("hashes", &["--mebibytes", "1"]).well();
    let made: Vec<&str> = said.lines().filter(|line| line.ends_with(".bin")).collect();
    assert_eq!(made.len(), 8, "{said}");
    let left = made[0].split_once("  ").unwrap().1;
    assert!(!fs::exists(left).unwrap(), "{left} is still there");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let ran = run("hashes", &["--executor", "processes", "no/such/file", "Cargo.toml"]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stderr.starts_with("no/such/file: ") && ran.stderr.contains("No such file"), "{ran:?}");
    assert!(ran.stdout.contains("  Cargo.toml\n"), "{ran:?}");
}
