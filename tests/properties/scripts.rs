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
    try_scripts::<ProcessPoolExecutor>(config(500), scripts, 1..4, ProcessPoolExecutor::RULES)
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

/// Scripts that caught a change which broke the library, as they were shrunk and printed, each
/// named after what was broken. One that finds a fault of the library itself belongs here too.
mod once {
    use concurrent_futures::{ReturnWhen::*, Shutdown};

    use super::*;
    use crate::script::{Ending::*, Start::*, Step::*, Then::*, calls};
    use crate::stage::play;

    #[test]
    fn a_call_that_ran_was_cancelled() {
        play::<ProcessPoolExecutor>(1, &[Submit(Held, Raises), Settle, Cancel(0)]);
        play::<ThreadPoolExecutor>(1, &[Submit(Held, Returns), Settle, Callback(0, Stop(0)), Cancel(0)]);
    }

    #[test]
    fn a_call_that_was_over_was_cancelled() {
        play::<SerialExecutor>(1, &[Submit(Free, Returns), Cancel(0)]);
    }

    #[test]
    fn callbacks_were_not_told_of_the_cancellation() {
        play::<ThreadPoolExecutor>(1, &[Submit(Free, Returns), Callback(0, Stop(0)), Cancel(0)]);
        play::<ProcessPoolExecutor>(1, &[Submit(Free, Returns), Callback(0, Nothing), Cancel(0)]);
    }

    #[test]
    fn callbacks_came_in_reverse() {
        let script = [Submit(Free, Returns), Callback(0, Again(Free, Returns)), Callback(0, Nothing)];
        play::<ThreadPoolExecutor>(1, &script);
        play::<ProcessPoolExecutor>(1, &[Submit(Held, Returns), Callback(0, Nothing), Callback(0, Nothing)]);
    }

    #[test]
    fn a_panic_of_a_callback_was_the_end_of_the_next() {
        let script = [Submit(Held, Raises), Callback(0, Throw), Callback(0, Again(Held, Returns))];
        play::<ThreadPoolExecutor>(2, &script);
    }

    #[test]
    fn a_waker_was_not_woken() {
        play::<ThreadPoolExecutor>(1, &[Submit(Free, Returns), Poll(0)]);
    }

    #[test]
    fn the_first_waker_won() {
        play::<ProcessPoolExecutor>(1, &[Submit(Free, Returns), Poll(0), Poll(0)]);
    }

    #[test]
    fn being_cancelled_was_a_failure() {
        play::<ThreadPoolExecutor>(
            1,
            &[
                Submit(Held, Returns),
                Submit(Held, Returns),
                Submit(Held, Returns),
                Callback(0, Stop(2)),
                WaitAndRelease(FirstException, calls([1, 2])),
            ],
        );
    }

    #[test]
    fn futures_that_came_together_were_lost() {
        play::<ThreadPoolExecutor>(
            1,
            &[
                Submit(Free, Returns),
                Settle,
                Submit(Free, Returns),
                Share(1),
                Submit(Free, Returns),
                AsCompleted(calls([0, 1, 2]), calls([])),
            ],
        );
    }

    #[test]
    fn a_kill_did_not_stop_the_call() {
        play::<ProcessPoolExecutor>(1, &[Submit(Held, Returns), Settle, Kill(0), Settle]);
    }

    #[test]
    fn a_call_that_lost_its_worker_ran_again() {
        play::<ProcessPoolExecutor>(1, &[Submit(Free, Dies)]);
    }

    /// The model was wrong: the one that died in the end had overtaken one that waited behind a call that is held.
    #[test]
    fn a_call_could_not_overtake_one_that_waits_behind_another() {
        let script = [
            Submit(Free, Returns),
            Exception(0),
            Cancel(0),
            Submit(Free, Raises),
            Settle,
            TryResult(0),
            Submit(Free, Returns),
            Submit(Free, Dies),
            Submit(Held, Panics),
            Submit(Held, Returns),
            Submit(Free, Dies),
            Settle,
            Kill(4),
            TryResult(0),
            Kill(6),
            Callback(3, Nothing),
            Settle,
            Submit(Free, Panics),
            Settle,
        ];
        (0..20).for_each(|_| play::<ProcessPoolExecutor>(2, &script));
    }

    #[test]
    fn a_map_that_was_dropped_went_on() {
        let all = Map { items: 1, chunksize: 1, buffersize: None, take: 0 };
        play::<ProcessPoolExecutor>(1, &[Submit(Held, Returns), all]);
        let lazy = Map { items: 1, chunksize: 1, buffersize: Some(2), take: 3 };
        play::<ThreadPoolExecutor>(2, &[Submit(Held, Returns), Submit(Held, Returns), lazy]);
    }

    #[test]
    fn a_second_worker_was_not_hired() {
        play::<ThreadPoolExecutor>(2, &[Submit(Held, Panics), Submit(Free, Returns), Settle]);
        play::<ProcessPoolExecutor>(2, &[Submit(Held, Returns), Submit(Free, Returns), Settle]);
    }

    #[test]
    fn a_shutdown_cancelled_nothing() {
        let end = End(Shutdown { wait: false, cancel_futures: true });
        let script = [Submit(Held, Returns), Submit(Free, Returns), Settle, end];
        play::<ThreadPoolExecutor>(1, &script);
        play::<ProcessPoolExecutor>(1, &script);
    }

    #[test]
    fn a_shutdown_did_not_wait() {
        let end = End(Shutdown { wait: true, cancel_futures: true });
        play::<ThreadPoolExecutor>(2, &[Submit(Held, Returns), end.clone()]);
        play::<ProcessPoolExecutor>(1, &[Submit(Free, Returns), end, EndTimeout]);
    }

    #[test]
    fn a_drop_that_unwinds_cancelled_nothing() {
        play::<ThreadPoolExecutor>(
            1,
            &[Submit(Held, Returns), Submit(Free, Returns), Settle, LeaveUnwinding],
        );
    }
}
