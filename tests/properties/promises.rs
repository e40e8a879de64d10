//! Random lives of one hand-made promise against a model that is a few lines long.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use concurrent_futures::{Error, Future, Promise, ReturnWhen, as_completed, wait, wait_timeout};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError, TestRunner};

use crate::common::watchdog;
use crate::script::as_code;
use crate::{config, limit};

/// One step in the life of a promise and its future.
#[derive(Clone, Debug)]
enum Step {
    Start,
    Fulfil(u8),
    Fail,
    Drop,
    Cancel,
    Kill,
    AddCallback,
    AddCallbackThatPanics,
    WaitTimeout,
    Wait,
    WaitMany,
    AsCompleted,
    TryResult,
    ResultTimeout,
    Poll,
    Exception,
    Debug,
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        2 => Just(Start),
        2 => any::<u8>().prop_map(Fulfil),
        1 => Just(Fail),
        1 => Just(Drop),
        1 => Just(Cancel),
        1 => Just(Kill),
        4 => Just(AddCallback),
        1 => Just(AddCallbackThatPanics),
        1 => Just(WaitTimeout),
        1 => Just(Wait),
        1 => Just(WaitMany),
        1 => Just(AsCompleted),
        2 => Just(TryResult),
        1 => Just(ResultTimeout),
        2 => Just(Poll),
        1 => Just(Exception),
        1 => Just(Debug),
    ]
}

/// An outcome as it is told, or that there is none to be had.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Value(u8),
    Failed,
    Broken,
    Cancelled,
    TakenBefore,
    TimedOut,
    /// Not an outcome: a waker was told that there is one.
    Woken,
}

impl Outcome {
    fn of(outcome: Result<&u8, &Error>) -> Self {
        match outcome {
            Ok(value) => Outcome::Value(*value),
            Err(Error::Raised { .. }) => Outcome::Failed,
            Err(Error::Broken { .. }) => Outcome::Broken,
            Err(Error::Cancelled { .. }) => Outcome::Cancelled,
            Err(Error::InvalidArgument { what, .. }) if what.contains("taken before") => Outcome::TakenBefore,
            Err(Error::TimedOut { .. }) => Outcome::TimedOut,
            Err(error) => panic!("{error:?}"),
        }
    }
}

type Told = Arc<Mutex<Vec<(usize, Outcome)>>>;

/// Tells that it was woken.
struct Alarm(usize, Told);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push((self.0, Outcome::Woken));
    }
}

/// The model: what a promise and its future are, as plain data.
#[derive(Debug)]
struct Model {
    /// The promise has not been used up.
    promised: bool,
    running: bool,
    outcome: Option<Outcome>,
    taken: bool,
    /// The waker that waits, by the number of its step.
    waker: Option<usize>,
    /// Callbacks that wait, likewise.
    waiting: Vec<usize>,
    /// Who was told what.
    told: Vec<(usize, Outcome)>,
}

impl Model {
    fn end(&mut self, outcome: Outcome) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
            self.running = false;
            self.told.extend(self.waker.take().map(|number| (number, Outcome::Woken)));
            self.told.extend(self.waiting.drain(..).map(|number| (number, outcome)));
        }
    }

    fn cancel(&mut self) -> bool {
        if !self.running {
            self.end(Outcome::Cancelled);
        }
        self.outcome == Some(Outcome::Cancelled)
    }

    /// A value is there once, an error as often as it is asked for.
    fn what_is_there(&self) -> Option<Outcome> {
        match self.outcome {
            Some(Outcome::Value(_)) if self.taken => Some(Outcome::TakenBefore),
            outcome => outcome,
        }
    }
}

/// Takes the steps with a real promise and with the model, and compares after each.
#[track_caller]
fn live(steps: &[Step]) {
    try_live(steps).unwrap_or_else(|error| panic!("{error}"));
}

fn try_live(steps: &[Step]) -> Result<(), TestCaseError> {
    let (promise, mut future): (Promise<u8>, Future<u8>) = Promise::new();
    let mut promise = Some(promise);
    let mut model = Model {
        promised: true,
        running: false,
        outcome: None,
        taken: false,
        waker: None,
        waiting: Vec::new(),
        told: Vec::new(),
    };
    let told = Told::default();
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Start => {
                if let Some(promise) = &promise {
                    let starts = model.outcome.is_none() && !model.running;
                    model.running |= starts;
                    prop_assert_eq!(promise.start(), starts);
                }
            }
            Step::Fulfil(value) => {
                if let Some(promise) = promise.take() {
                    promise.fulfil(value);
                    model.promised = false;
                    model.end(Outcome::Value(value));
                }
            }
            Step::Fail => {
                if let Some(promise) = promise.take() {
                    let error = Error::raised(promise.task(), "failed");
                    promise.fail(error);
                    model.promised = false;
                    model.end(Outcome::Failed);
                }
            }
            Step::Drop => {
                if promise.take().is_some() {
                    model.promised = false;
                    model.end(Outcome::Broken);
                }
            }
            Step::Cancel => prop_assert_eq!(future.cancel(), model.cancel()),
            // What runs by hand cannot be stopped.
            Step::Kill => prop_assert_eq!(future.kill(), model.cancel()),
            Step::AddCallback | Step::AddCallbackThatPanics => {
                let panics = matches!(step, Step::AddCallbackThatPanics);
                let tell = Arc::clone(&told);
                future.add_done_callback(move |outcome| {
                    tell.lock().unwrap().push((number, Outcome::of(outcome)));
                    // Quietly: the hook would print thousands of these.
                    if panics {
                        std::panic::resume_unwind(Box::new("a callback"));
                    }
                });
                match model.what_is_there() {
                    Some(outcome) => model.told.push((number, outcome)),
                    None => model.waiting.push(number),
                }
            }
            Step::WaitTimeout => {
                prop_assert_eq!(future.wait_timeout(Duration::ZERO), model.outcome.is_some());
            }
            Step::Wait => {
                if model.outcome.is_some() {
                    future.wait();
                }
            }
            Step::WaitMany => {
                for when in [ReturnWhen::FirstCompleted, ReturnWhen::FirstException, ReturnWhen::AllCompleted]
                {
                    let waited = match model.outcome {
                        Some(_) => wait([&future], when),
                        None => wait_timeout([&future], when, Duration::ZERO),
                    };
                    prop_assert_eq!(waited.done.len(), usize::from(model.outcome.is_some()));
                    prop_assert_eq!(waited.not_done.len(), usize::from(model.outcome.is_none()));
                }
            }
            Step::AsCompleted => {
                let mut completed = as_completed([&future]);
                prop_assert_eq!(completed.len(), 1);
                if model.outcome.is_some() {
                    prop_assert!(completed.next().is_some());
                    prop_assert!(completed.next().is_none());
                }
            }
            Step::TryResult => {
                let outcome = future.try_result();
                let outcome = outcome.as_ref().map(|outcome| Outcome::of(outcome.as_ref()));
                prop_assert_eq!(outcome, model.what_is_there());
                model.taken |= outcome.is_some();
            }
            Step::ResultTimeout => {
                let outcome = Outcome::of(future.result_timeout(Duration::ZERO).as_ref());
                prop_assert_eq!(outcome, model.what_is_there().unwrap_or(Outcome::TimedOut));
                model.taken |= outcome != Outcome::TimedOut;
            }
            Step::Poll => {
                let waker = Waker::from(Arc::new(Alarm(number, Arc::clone(&told))));
                let outcome = match Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(outcome) => Some(Outcome::of(outcome.as_ref())),
                    Poll::Pending => None,
                };
                prop_assert_eq!(outcome, model.what_is_there());
                model.taken |= outcome.is_some();
                // The latest waker wins.
                model.waker = model.waker.max(outcome.is_none().then_some(number));
            }
            Step::Exception => {
                if let Some(outcome) = model.outcome {
                    let error = future.exception();
                    let told = error.as_ref().map(|error| Outcome::of(Err(error)));
                    let expected = Some(outcome).filter(|outcome| !matches!(outcome, Outcome::Value(_)));
                    prop_assert_eq!(told, expected);
                }
            }
            Step::Debug => {
                let state = match (model.running, model.outcome) {
                    (true, _) => "Running",
                    (false, None) => "Pending",
                    (false, Some(Outcome::Cancelled)) => "Cancelled",
                    (false, Some(_)) => "Done",
                };
                let text = format!("{future:?}");
                prop_assert!(text.contains(state), "{} instead of {}", text, state);
            }
        }
        prop_assert_eq!(promise.is_some(), model.promised);
        prop_assert_eq!(future.running(), model.running);
        prop_assert_eq!(future.done(), model.outcome.is_some());
        prop_assert_eq!(future.cancelled(), model.outcome == Some(Outcome::Cancelled));
        prop_assert_eq!(&*told.lock().unwrap(), &model.told);
    }
    // Whatever happened: it ends, and everybody who waits is told once.
    if promise.take().is_some() {
        model.end(Outcome::Broken);
    }
    let last = model.what_is_there().unwrap();
    prop_assert_eq!(&*told.lock().unwrap(), &model.told);
    prop_assert_eq!(Outcome::of(future.result().as_ref()), last);
    Ok(())
}

#[test]
fn promises_live_as_the_model_does() {
    watchdog("promises", limit(), || {
        let lives = prop::collection::vec(step(), 0..25);
        let lived = TestRunner::new(config(5000)).run(&lives, |steps| try_live(&steps));
        match lived {
            Err(TestError::Fail(reason, steps)) => panic!("{reason}\n\n{}", as_code("live(", &steps)),
            lived => lived.unwrap(),
        }
    });
}

/// Lives that the library once failed, or would have: each caught a change that broke it.
mod once {
    use super::{Step::*, live};

    #[test]
    fn a_callback_was_not_told_of_the_cancellation() {
        live(&[AddCallback, Cancel]);
    }

    #[test]
    fn what_was_over_was_cancelled() {
        live(&[Fulfil(0), Cancel]);
    }

    #[test]
    fn callbacks_came_in_reverse() {
        live(&[AddCallback, AddCallback]);
    }

    #[test]
    fn a_panic_of_a_callback_was_the_end_of_the_next() {
        live(&[AddCallbackThatPanics, AddCallback]);
    }
}
