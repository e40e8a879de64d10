//! E3: a panic or an `Err` is the error of its own future, and says all that is known.
//!
//! Not here: panics of every kind (parity F7).

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};

use concurrent_futures::{Error, Executor, RemoteError};

use crate::common::{LIMIT, watchdog};
use crate::engines::{self, Refused, double, explode, panic_of, refuse_threes, who};

contract!(
    [
        e3_a_panic_is_the_error_of_its_own_future,
        e3_a_panic_tells_message_and_place,
        e3_a_thousand_panics_keep_a_thousand_messages,
        e3_a_panic_can_go_on,
        e3_an_err_is_the_error_of_its_own_future,
        e3_any_kind_of_error_can_be_raised,
        e3_an_error_can_be_kept_and_cloned,
    ],
    [e3_the_worker_of_a_panic_lives_on]
);

registered!([panic_here, want_one], [borrowed_text, text, disk, boxed, without_words, raise_three_deep]);

fn e3_a_panic_is_the_error_of_its_own_future<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let (before, panics, after) =
        (executor.submit(double, 1), executor.submit(explode, 2), executor.submit(double, 3));
    let id = panics.id();
    assert!(matches!(panics.exception(), Some(Error::Panicked { .. })));
    assert!(panics.done() && !panics.cancelled());
    let error = panics.result().unwrap_err();
    assert_eq!(error.task().map(|task| task.id), Some(id));
    let text = error.to_string();
    for part in ["engines::explode", "number 2 exploded", "engines.rs:", &id.to_string()] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    assert!(before.exception().is_none() && after.exception().is_none());
    assert_eq!((before.result().unwrap(), after.result().unwrap()), (2, 6));
}

fn panic_here(_: ()) {
    panic!("here");
}

fn want_one(n: u32) {
    assert_eq!(n, 1, "a {}", "wish");
}

fn e3_a_panic_tells_message_and_place<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let panic = panic_of(executor.submit(panic_here, ()).result());
    assert_eq!(panic.message(), "here");
    let location = panic.location().expect("a place");
    let (file, line) = location.split_once(':').expect("file:line:column");
    assert!(file.ends_with("errors.rs"), "{location}");
    let here = include_str!("errors.rs").lines().position(|line| line.contains("panic!(\"here\")"));
    assert_eq!(line.split(':').next().and_then(|line| line.parse().ok()), here.map(|line| line + 1));
    // One with text that was made at run time.
    let panic = panic_of(executor.submit(want_one, 2).result());
    assert!(panic.message().ends_with("a wish\n  left: 2\n right: 1"), "{panic}");
}

fn e3_a_thousand_panics_keep_a_thousand_messages<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(3);
    let futures: Vec<_> = (0..1000).map(|n| executor.submit(explode, n)).collect();
    for (n, future) in futures.into_iter().enumerate() {
        let panic = panic_of(future.result());
        assert_eq!(panic.message(), format!("number {n} exploded"));
        assert!(panic.location().is_some_and(|place| place.contains("engines.rs")), "{panic}");
    }
    assert_eq!(executor.submit(double, 4).result().unwrap(), 8);
}

fn e3_the_worker_of_a_panic_lives_on<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let before = executor.submit(who, ()).result().unwrap();
    assert!(executor.submit(explode, 1).result().is_err());
    assert_eq!(executor.submit(who, ()).result().unwrap(), before);
}

fn e3_a_panic_can_go_on<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let panic = panic_of(executor.submit(explode, 5).result());
    let payload = catch_unwind(AssertUnwindSafe(|| panic.resume())).unwrap_err();
    assert_eq!(payload.downcast_ref::<String>().map(String::as_str), Some("number 5 exploded"));
}

fn e3_an_err_is_the_error_of_its_own_future<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(2);
    let futures = [1, 3, 4].map(|n| executor.try_submit(refuse_threes, n));
    let id = futures[1].id();
    let [one, three, four] = futures.map(|future| future.result());
    assert_eq!((one.unwrap(), four.unwrap()), (2, 8));
    let error = three.unwrap_err();
    let Error::Raised { task, .. } = &error else { panic!("{error:?}") };
    assert_eq!(task.id, id);
    let text = error.to_string();
    for part in ["engines::refuse_threes", "refused 3", &id.to_string()] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

fn borrowed_text((): ()) -> Result<(), &'static str> {
    Err("borrowed text")
}

fn text(text: String) -> Result<(), String> {
    Err(text)
}

fn disk((): ()) -> Result<(), io::Error> {
    Err(io::Error::other("disk"))
}

fn boxed((): ()) -> Result<(), Box<dyn StdError + Send + Sync>> {
    Err("boxed".into())
}

fn without_words((): ()) -> Result<(), &'static str> {
    Err("")
}

fn e3_any_kind_of_error_can_be_raised<E: Executor + 'static>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let source = |error: Error| error.source().map(ToString::to_string);
    let error = executor.try_submit(borrowed_text, ()).result().unwrap_err();
    assert_eq!(source(error).as_deref(), Some("borrowed text"));
    let error = executor.try_submit(text, "text".to_owned()).result().unwrap_err();
    assert_eq!(source(error).as_deref(), Some("text"));
    let error = executor.try_submit(disk, ()).result().unwrap_err();
    assert_eq!(source(error).as_deref(), Some("disk"));
    let error = executor.try_submit(boxed, ()).result().unwrap_err();
    assert_eq!(source(error).as_deref(), Some("boxed"));
    let empty = executor.try_submit(without_words, ()).result().unwrap_err();
    assert!(matches!(empty, Error::Raised { .. }), "an error without words is still one: {empty:?}");
}

fn e3_an_error_can_be_kept_and_cloned<E: Executor>(make: impl Fn(usize) -> E) {
    let executor = make(1);
    let error = executor.submit(explode, 1).result().unwrap_err();
    drop(executor);
    let (text, clone) = (error.to_string(), error.clone());
    drop(error);
    assert_eq!(std::thread::spawn(move || clone.to_string()).join().unwrap(), text);
}

/// An error with two sources.
#[derive(Debug)]
struct Outer(Middle);

#[derive(Debug)]
struct Middle(Inner);

#[derive(Debug)]
struct Inner;

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outer")
    }
}

impl fmt::Display for Middle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("middle")
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inner")
    }
}

impl StdError for Outer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

impl StdError for Middle {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

impl StdError for Inner {}

fn raise_three_deep(_: ()) -> Result<(), Outer> {
    Err(Outer(Middle(Inner)))
}

fn chain(error: &Error) -> Vec<String> {
    iter::successors(error.source(), |&error| error.source()).map(ToString::to_string).collect()
}

fn e3_in_one_process_the_error_itself_arrives<E: Executor>(executor: &E) {
    let error = executor.try_submit(refuse_threes, 9).result().unwrap_err();
    assert_eq!(error.downcast_ref::<Refused>(), Some(&Refused(9)));
    assert!(error.downcast_ref::<io::Error>().is_none());
    let error = executor.try_submit(raise_three_deep, ()).result().unwrap_err();
    assert!(error.downcast_ref::<Outer>().is_some());
    assert_eq!(chain(&error), ["outer", "middle", "inner"]);
}

#[test]
fn e3_in_one_process_the_error_itself_arrives_from_threads() {
    watchdog("e3 downcast", LIMIT, || e3_in_one_process_the_error_itself_arrives(&engines::threads(1)));
}

#[test]
fn e3_in_one_process_the_error_itself_arrives_from_the_serial_executor() {
    e3_in_one_process_the_error_itself_arrives(&engines::serial(1));
}

#[test]
fn e3_out_of_a_process_comes_the_text_of_an_error_with_its_sources() {
    watchdog("e3 RemoteError", LIMIT, || {
        let pool = engines::processes(1);
        let error = pool.try_submit(raise_three_deep, ()).result().unwrap_err();
        let remote = error.downcast_ref::<RemoteError>().expect("a RemoteError");
        assert!(remote.type_name().is_some_and(|name| name.ends_with("errors::Outer")), "{remote:?}");
        assert_eq!(remote.to_string(), "outer");
        assert_eq!(chain(&error), ["outer", "middle", "inner"]);
        assert!(error.downcast_ref::<Outer>().is_none());
    });
}
