//! Random scripts on every executor, and scripts that once failed.
//!
//! A script is data (`script.rs`); it is played with a real executor and with a model (`stage.rs`,
//! `model.rs`). One that fails is shrunk and printed as a test, to be pasted here.

use std::cell::RefCell;

use concurrent_futures::{ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::config;
use crate::model::Rules;
use crate::script::{Step, script, shrunk};
use crate::stage::{Engine, attempt, code};

/// Plays `cases` scripts; `Err`: the smallest that fails, as a test.
fn try_scripts<E: Engine>(
    config: Config,
    scripts: BoxedStrategy<Vec<Step>>,
    workers: std::ops::Range<usize>,
    rules: Rules,
) -> Result<(), String> {
    let play = |workers, script: &[Step]| attempt::<E>(workers, script, rules);
    let played = TestRunner::new(config)
        .run(&(workers, scripts), |(workers, script)| play(workers, &script).map_err(TestCaseError::fail));
    match played {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, (workers, script))) => {
            let last = RefCell::new(reason.to_string());
            // One that needs a race is given some chances to lose it.
            let script = shrunk(script, |script| {
                (0..5).any(|_| play(workers, script).map_err(|error| *last.borrow_mut() = error).is_err())
            });
            Err(format!("{}\n\n{}", last.into_inner(), code::<E>(workers, &script)))
        }
        Err(abort @ TestError::Abort(_)) => Err(abort.to_string()),
    }
}

#[test]
fn scripts_on_the_serial_executor() {
    let scripts = script(25, false, false);
    try_scripts::<SerialExecutor>(config(1000), scripts, 1..2, SerialExecutor::RULES)
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn scripts_on_threads() {
    let scripts = script(25, true, false);
    try_scripts::<ThreadPoolExecutor>(config(1200), scripts, 1..4, ThreadPoolExecutor::RULES)
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn scripts_on_processes() {
    let scripts = script(20, true, true);
    try_scripts::<ProcessPoolExecutor>(config(200), scripts, 1..4, ProcessPoolExecutor::RULES)
        .unwrap_or_else(|error| panic!("{error}"));
}

/// What a failure looks like, shown with a model that is wrong: it believes that a callback which
/// comes too late is never told.
#[test]
fn a_script_that_fails_is_shrunk_and_printed_as_a_test() {
    let rules = Rules { wrong: true, ..SerialExecutor::RULES };
    let config = Config { failure_persistence: None, ..config(1000) };
    let error = try_scripts::<SerialExecutor>(config, script(25, false, false), 1..2, rules).unwrap_err();
    let expected = "\
at the end: what was told to whom: it was [[Callback(1, Value(0))]]; the model allows [[]]

#[test]
fn a_script_that_failed() {
    play::<SerialExecutor>(1, &[
        Submit(Free, Returns),
        Callback(0, Nothing),
    ]);
}
";
    assert_eq!(error, expected);
}

/// Scripts that the library once failed, or would have: each caught a change that broke it, and
/// is named after what was broken.
mod once {
    use concurrent_futures::ReturnWhen::*;

    use super::*;
    use crate::script::{Ending::*, Start::*, Step::*, Then::*, calls};
    use crate::stage::play;

    #[test]
    fn a_call_that_ran_was_cancelled() {
        play::<ProcessPoolExecutor>(1, &[Submit(Held, Raises), Settle, Cancel(0)]);
        play::<ThreadPoolExecutor>(
            1,
            &[Submit(Held, Returns), Settle, Cancel(0), Wait(FirstException, calls([0]))],
        );
    }

    #[test]
    fn a_call_that_was_over_was_cancelled() {
        play::<SerialExecutor>(1, &[Submit(Free, Returns), Cancel(0), Callback(0, Nothing)]);
    }

    #[test]
    fn a_drop_that_unwinds_cancelled_nothing() {
        play::<ThreadPoolExecutor>(
            1,
            &[Submit(Held, Returns), Submit(Free, Returns), Settle, LeaveUnwinding],
        );
    }
}
