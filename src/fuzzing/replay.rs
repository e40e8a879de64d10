//! Everything that the fuzzer ever kept, and where it began, once more.

use std::fs;
use std::path::Path;

use super::{TARGETS, seeds};
use crate::watchdog::Watchdog;

#[test]
fn what_fuzzing_kept_is_replayed() {
    let _watchdog = Watchdog::new("what_fuzzing_kept_is_replayed");
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (target, run) in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        seeds.iter().for_each(|seed| run(seed));
        // Cargo leaves a package inside of a package out of the archive that it makes of the outer one.
        if fs::exists(top.join("Cargo.toml.orig")).unwrap() {
            println!("{target}: replayed {} seeds, this is an archive", seeds.len());
            continue;
        }

        let corpus = top.join("tests/fuzz/corpus").join(target);
        let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
        let mut replayed = 0;
        for file in files {
            let path = file.unwrap().path();
            // The last one that is printed is the one that failed.
            println!("{}", path.display());
            run(&fs::read(&path).unwrap());
            replayed += 1;
        }
        assert!(replayed > 0, "{} is empty", corpus.display());
        println!("{target}: replayed {} seeds and {replayed} inputs", seeds.len());
    }
}
