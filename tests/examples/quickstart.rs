use crate::running::run;

#[test]
fn it_tells_primes_from_others() {
    let said = run("quickstart", &[]).well();
    assert!(said.starts_with("true\n2 true\n1000003 true\n4444444444 false\n999999937 true\n"), "{said}");
    assert_eq!(said.lines().count(), 9, "{said}");
}
