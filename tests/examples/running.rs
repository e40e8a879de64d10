//! Runs an example as its reader would, to its end, and keeps what it said.
//!
//! Not here: what an example should say. That stands in the file of its name.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::watchdog::watchdog;

/// How an example ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit status; `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// What it printed, if it ended well and had no complaint.
    pub(crate) fn well(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""), "it said:\n{}", self.stdout);
        self.stdout
    }
}

/// Runs `example` with these arguments.
pub(crate) fn run(example: &str, arguments: &[&str]) -> Ran {
    run_with(example, arguments, &[])
}

/// Runs `example` with these arguments, and these variables beside those of the test.
pub(crate) fn run_with(example: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let program = built(example);
    watchdog(example, crate::watchdog::LIMIT, || {
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
        let output = command.output().expect("the example starts");
        Ran {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into(),
            stderr: String::from_utf8_lossy(&output.stderr).into(),
        }
    })
}

/// Where the example is: beside the tests. `cargo test` builds it there, `cargo test --test
/// examples` does not, so it is built here; if it is there already, that is done at once.
pub(crate) fn built(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--example", example]).current_dir(env!("CARGO_MANIFEST_DIR"));
    build.arg("--target-dir").arg(profile.parent().unwrap());
    // What cargo says of this package to its tests: a build script of a dependency (`ring`) asks for these too, and would be
    // run again here, and once more afterwards.
    let ours = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        build.env_remove(name);
    }
    if cfg!(feature = "amqp") {
        build.args(["--features", "amqp"]);
    }
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "the example {example} cannot be built");
    profile.join("examples").join(format!("{example}{}", std::env::consts::EXE_SUFFIX))
}
