//! Random input: `map` against the standard library's, random lives of hand-made promises, and
//! random scripts on every executor against a model of plain data.
//!
//! Not here: threads that race (`tests/futures.rs`), and what is random in the wire format (unit
//! tests of `src/wire`).
//!
//! What fails is shrunk and printed as a test, to be pasted into the module `once` of its file; its
//! seed is noted in a `.regressions` file beside it, which is committed too.
//!
//! `PROPTEST_CASES=20000 cargo test --test properties` runs every property that often, instead of
//! as often as it says itself.
//!
//! Reading order of the scripts: `script.rs` → `model.rs` → `stage.rs` → `scripts.rs`.

concurrent_futures::init_tests!();

#[path = "../common/mod.rs"]
mod common;

mod desk;
mod map;
mod model;
mod promises;
mod script;
mod scripts;
mod stage;

use std::env;
use std::panic::Location;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

use common::LIMIT;

/// How often the user asks for, if he does.
fn asked() -> Option<u32> {
    env::var("PROPTEST_CASES").ok()?.parse().ok()
}

/// As many `cases` as the property says, or as the user asks for. What fails is noted beside the
/// file of the caller, and tried first the next time.
#[track_caller]
fn config(cases: u32) -> Config {
    Config {
        cases: asked().unwrap_or(cases),
        source_file: Some(Location::caller().file()),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    }
}

/// For a watchdog over a whole property.
fn limit() -> Duration {
    LIMIT * (asked().unwrap_or(0) / 256 + 1)
}

#[track_caller]
fn check<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    TestRunner::new(config(cases)).run(&strategy, test).unwrap_or_else(|error| panic!("{error}"));
}
