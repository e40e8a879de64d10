//! Writes the seeds of each target into its corpus. To be run in this directory, with `--cfg fuzzing`.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    for (target, _) in concurrent_futures::fuzzing::TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&corpus)?;
        for (n, seed) in concurrent_futures::fuzzing::seeds(target).iter().enumerate() {
            fs::write(corpus.join(format!("seed-{n:02}")), seed)?;
        }
    }
    Ok(())
}
