use crate::running::run;

const BARS: [&str; 4] = ["results taken", "calls done", "items of chunks done", "steps of one call"];

#[test]
fn every_bar_ends_where_its_work_does() {
    let said = run("progress", &["--items", "230", "--workers", "2"]).well();
    let full = |bar: &str| format!("  {bar:22} 230 of 230\n");
    let (pool, serial) = (BARS.map(full).concat(), BARS.map(full)[..3].concat());
    let too_late = "  steps of one call      over before anybody could listen\n";
    assert_eq!(said, format!("serial\n{serial}{too_late}threads\n{pool}processes\n{pool}"));
}

#[test]
fn nothing_to_do_is_done() {
    let said = run("progress", &["--items", "0", "--executor", "threads"]).well();
    assert!(BARS.iter().all(|bar| said.contains(&format!("  {bar:22} 0 of 0\n"))), "{said}");
}
