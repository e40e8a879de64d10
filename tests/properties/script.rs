//! A script: what a user does with an executor and its futures, step by step, as data that prints
//! itself as code.
//!
//! Not here: what the steps do (`stage.rs`), what must come of them (`model.rs`).

use std::fmt::{self, Write as _};

use concurrent_futures::{ReturnWhen, Shutdown};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::model::{Number, Outcome};

/// When a call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Start {
    /// At once.
    Free,
    /// When the script releases it: it is held at the turnstile.
    Held,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Ending {
    /// With its number.
    Returns,
    Panics,
    /// With an `Err`.
    Raises,
    /// With its process.
    Dies,
}

impl Ending {
    pub(crate) fn outcome(self, call: Number) -> Outcome {
        match self {
            Ending::Returns => Outcome::Value(call),
            Ending::Panics => Outcome::Panicked,
            Ending::Raises => Outcome::Raised,
            Ending::Dies => Outcome::Died,
        }
    }
}

/// What a callback does when it has told that it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// It panics.
    Throw,
    /// It submits a call, which has the next number from here on.
    Again(Start, Ending),
    /// It cancels that call.
    Stop(Number),
}

/// Some calls of the script.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Calls(pub(crate) Vec<Number>);

pub(crate) fn calls<const N: usize>(numbers: [Number; N]) -> Calls {
    Calls(numbers.into())
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "calls({:?})", self.0)
    }
}

/// Calls are named by their number: the order in which the script mentions them. A step that is
/// not possible (the handle was given away, the executor is gone) does nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Submit(Start, Ending),
    /// Waits until all has happened that happens by itself. Steps without it between them race
    /// with the workers.
    Settle,
    Release(Number),
    Cancel(Number),
    Kill(Number),
    Callback(Number, Then),
    TryResult(Number),
    ResultTimeout(Number),
    /// If it ends.
    GetResult(Number),
    /// If it ends.
    Exception(Number),
    Poll(Number),
    Share(Number),
    /// Gives the handle away.
    Forget(Number),
    /// With a time limit of zero, unless it returns by itself.
    Wait(ReturnWhen, Calls),
    /// Waits in another thread; when it sleeps, all calls there are so far are released.
    WaitAndRelease(ReturnWhen, Calls),
    /// The second are pushed when the first future has come out.
    AsCompleted(Calls, Calls),
    /// So many items; a part of the results is taken, as far as they come. Each chunk is a call.
    Map {
        items: usize,
        chunksize: usize,
        buffersize: Option<usize>,
        take: usize,
    },
    /// So many workers from here on.
    Resize(usize),
    /// One that waits lets everybody go first.
    End(Shutdown),
    EndTimeout,
    /// Drops the executor, and lets everybody go first.
    Leave,
    /// The same while a panic unwinds.
    LeaveUnwinding,
}

impl Step {
    /// How many calls it mentions for the first time.
    pub(crate) fn new_calls(&self) -> usize {
        match self {
            Step::Submit(..) | Step::Callback(_, Then::Again(..)) => 1,
            Step::Map { items, chunksize, .. } => items.div_ceil(*chunksize),
            _ => 0,
        }
    }

    /// The same step with other names for the calls. `None`: the call it is about has none.
    fn renamed(self, one: impl Fn(Number) -> Option<Number>) -> Option<Step> {
        let some = |Calls(numbers): Calls| {
            let mut renamed = Vec::new();
            for number in numbers.into_iter().filter_map(&one) {
                if !renamed.contains(&number) {
                    renamed.push(number);
                }
            }
            Calls(renamed)
        };
        Some(match self {
            Step::Release(number) => Step::Release(one(number)?),
            Step::Cancel(number) => Step::Cancel(one(number)?),
            Step::Kill(number) => Step::Kill(one(number)?),
            Step::Callback(number, Then::Stop(other)) => {
                Step::Callback(one(number)?, Then::Stop(one(other)?))
            }
            Step::Callback(number, then) => Step::Callback(one(number)?, then),
            Step::TryResult(number) => Step::TryResult(one(number)?),
            Step::ResultTimeout(number) => Step::ResultTimeout(one(number)?),
            Step::GetResult(number) => Step::GetResult(one(number)?),
            Step::Exception(number) => Step::Exception(one(number)?),
            Step::Poll(number) => Step::Poll(one(number)?),
            Step::Share(number) => Step::Share(one(number)?),
            Step::Forget(number) => Step::Forget(one(number)?),
            Step::Wait(when, numbers) => Step::Wait(when, some(numbers)),
            Step::WaitAndRelease(when, numbers) => Step::WaitAndRelease(when, some(numbers)),
            Step::AsCompleted(first, second) => Step::AsCompleted(some(first), some(second)),
            other => other,
        })
    }
}

/// A script of up to `length` steps for one of the engines.
pub(crate) fn script(length: usize, can_hold: bool, can_die: bool) -> BoxedStrategy<Vec<Step>> {
    let start = if can_hold {
        prop_oneof![Just(Start::Free), Just(Start::Held)].boxed()
    } else {
        Just(Start::Free).boxed()
    };
    let ending = prop_oneof![
        4 => Just(Ending::Returns),
        1 => Just(Ending::Panics),
        1 => Just(Ending::Raises),
        u32::from(can_die) => Just(Ending::Dies),
    ];
    let one = 0..64_usize;
    let some = prop::collection::vec(one.clone(), 0..5).prop_map(Calls);
    let then = prop_oneof![
        4 => Just(Then::Nothing),
        1 => Just(Then::Throw),
        2 => (start.clone(), ending.clone()).prop_map(|(start, ending)| Then::Again(start, ending)),
        2 => one.clone().prop_map(Then::Stop),
    ];
    let when = prop_oneof![
        Just(ReturnWhen::AllCompleted),
        Just(ReturnWhen::FirstCompleted),
        Just(ReturnWhen::FirstException)
    ];
    let map = (1..5_usize, 1..3_usize, prop::option::of(1..4_usize), 0..5_usize)
        .prop_map(|(items, chunksize, buffersize, take)| Step::Map { items, chunksize, buffersize, take });
    let end = prop_oneof![
        4 => (any::<bool>(), any::<bool>())
            .prop_map(|(wait, cancel_futures)| Step::End(Shutdown { wait, cancel_futures })),
        2 => Just(Step::EndTimeout),
        1 => Just(Step::Leave),
        2 => Just(Step::LeaveUnwinding),
    ];
    let step = prop_oneof![
        30 => (start, ending).prop_map(|(start, ending)| Step::Submit(start, ending)),
        25 => Just(Step::Settle),
        12 => one.clone().prop_map(Step::Release),
        9 => one.clone().prop_map(Step::Cancel),
        5 => one.clone().prop_map(Step::Kill),
        14 => (one.clone(), then).prop_map(|(call, then)| Step::Callback(call, then)),
        5 => one.clone().prop_map(Step::TryResult),
        3 => one.clone().prop_map(Step::ResultTimeout),
        5 => one.clone().prop_map(Step::GetResult),
        3 => one.clone().prop_map(Step::Exception),
        4 => one.clone().prop_map(Step::Poll),
        2 => one.clone().prop_map(Step::Share),
        3 => one.prop_map(Step::Forget),
        5 => (when.clone(), some.clone()).prop_map(|(when, calls)| Step::Wait(when, calls)),
        5 => (when, some.clone()).prop_map(|(when, calls)| Step::WaitAndRelease(when, calls)),
        4 => (some.clone(), some).prop_map(|(first, second)| Step::AsCompleted(first, second)),
        3 => map,
        3 => (1..4_usize).prop_map(Step::Resize),
        2 => end.clone(),
    ];
    // Most scripts come to an end when all has settled and some calls are held and queued.
    let last = prop_oneof![
        1 => Just(Vec::new()),
        1 => end.clone().prop_map(|end| vec![end]),
        2 => end.prop_map(|end| vec![Step::Settle, end]),
    ];
    (prop::collection::vec(step, 0..length), last)
        .prop_map(|(steps, last)| {
            let mut known = 0;
            let mut script = Vec::new();
            for step in steps.into_iter().chain(last) {
                // Whatever was drawn: a call that there is.
                if let Some(step) = step.renamed(|number| number.checked_rem(known)) {
                    known += step.new_calls();
                    script.push(step);
                }
            }
            script
        })
        .boxed()
}

/// The script without one of its steps, and without the calls that this step was the first to name.
fn without(script: &[Step], at: usize) -> Vec<Step> {
    let first: usize = script[..at].iter().map(Step::new_calls).sum();
    let end = first + script[at].new_calls();
    let name = |number| match number {
        number if number < first => Some(number),
        number if number < end => None,
        number => Some(number - (end - first)),
    };
    // A step that is about such a call may name calls in turn.
    let about = |step: &Step| step.clone().renamed(name).is_none();
    match script[at + 1..].iter().rposition(about) {
        Some(later) => without(&without(script, at + 1 + later), at),
        None => {
            let rest = script[at + 1..].iter().cloned().filter_map(|step| step.renamed(name));
            script[..at].iter().cloned().chain(rest).collect()
        }
    }
}

/// Takes steps out for as long as what is left fails, too. (What is drawn at random names calls in
/// a way that lets `proptest` itself leave some in.)
pub(crate) fn shrunk(mut script: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    while let Some(shorter) =
        (0..script.len()).rev().map(|at| without(&script, at)).find(|script| fails(script))
    {
        script = shorter;
    }
    script
}

/// The script as a test to be pasted; `play` is the beginning of the call that plays it.
pub(crate) fn as_code(play: &str, script: &[impl fmt::Debug]) -> String {
    let mut code = format!("#[test]\nfn a_script_that_failed() {{\n    {play}&[\n");
    for step in script {
        let _ = writeln!(code, "        {step:?},");
    }
    code + "    ]);\n}\n"
}
