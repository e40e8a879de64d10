//! Executors of one's own: a thread for each call, and one that counts what another is given.
//!
//!     cargo run --release --example custom_executor
//!
//! An executor says what becomes of a task: it is run, failed, cancelled, or handed on. All else comes with the trait:
//! `submit`, `map`, options, futures, and whatever takes futures, together with those of other executors.
//!
//! ```text
//!   submit ─▶ Task ─▶ execute ─▶ task.run(), on a new thread     ThreadPerCall
//!                             └▶ inner.execute(task)             Counted
//! ```
//!
//! Not here: a queue, and so nothing that a shutdown could cancel. The rule: the contract of `Executor` holds for these
//! too: every call ends, what comes too late is refused, and who shuts down waits, unless it would wait for itself.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::num::ParseIntError;
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use concurrent_futures::{
    Error, Executor, ReturnWhen, SerialExecutor, Shutdown, Task, ThreadPoolExecutor, as_completed, wait,
};
use parking_lot::{Condvar, Mutex};

/// Runs the same calls on executors of its own and on those of the library, and mixes their futures.
#[derive(Parser)]
struct Options {
    /// How many threads the library's pool has
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
}

/// A new thread for each call, and no limit.
#[derive(Default)]
struct ThreadPerCall(Arc<Crew>);

#[derive(Default)]
struct Crew {
    state: Mutex<State>,
    all_left: Condvar,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    at_work: usize,
}

/// The right of a thread to be at work. It is given back, whatever becomes of the thread.
struct Place(Arc<Crew>);

impl Crew {
    fn place(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state.lock();
        state.at_work += usize::from(!state.is_closed);
        (!state.is_closed).then(|| Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state.lock().at_work -= 1;
        self.0.all_left.notify_all();
    }
}

thread_local! {
    /// The crew that this thread belongs to, if it does to one.
    static MINE: Cell<*const Crew> = const { Cell::new(ptr::null()) };
}

impl Executor for ThreadPerCall {
    fn execute(&self, task: Task) {
        let Some(place) = self.0.place() else {
            let refused = Error::ShutDown { task: task.task() };
            return task.fail(refused);
        };
        // If there is no thread to be had, the task is dropped, and its future says that it is broken.
        let _ = thread::Builder::new().spawn(move || {
            MINE.set(Arc::as_ptr(&place.0));
            task.run();
        });
    }

    fn shutdown_with(&self, how: Shutdown) {
        let mut state = self.0.state.lock();
        state.is_closed = true;
        // One of its own threads is among those that it would wait for.
        while how.wait && state.at_work > 0 && MINE.get() != Arc::as_ptr(&self.0) {
            self.0.all_left.wait(&mut state);
        }
    }
}

/// As the executors of the library do.
impl Drop for ThreadPerCall {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Counts the calls of another executor, by function. The others do not notice.
#[derive(Default)]
struct Counted<E> {
    inner: E,
    calls: Mutex<BTreeMap<&'static str, usize>>,
}

impl<E> Counted<E> {
    fn count(&self, function: &'static str) {
        *self.calls.lock().entry(function).or_default() += 1;
    }
}

impl<E: Executor> Executor for Counted<E> {
    fn execute(&self, task: Task) {
        self.count(task.task().name);
        self.inner.execute(task);
    }

    fn execute_or_return(&self, task: Task) -> Result<(), Task> {
        let name = task.task().name;
        self.inner.execute_or_return(task)?;
        self.count(name);
        Ok(())
    }

    fn shutdown_with(&self, how: Shutdown) {
        self.inner.shutdown_with(how);
    }

    fn shutdown_timeout(&self, limit: Duration) -> bool {
        self.inner.shutdown_timeout(limit)
    }
}

fn is_prime(n: u64) -> bool {
    n > 1 && !(2..).take_while(|d| d * d <= n).any(|d| n.is_multiple_of(d))
}

/// It does not know which executor it has.
fn count_primes(executor: &impl Executor, below: u64) -> Result<usize, Error> {
    let answers = executor.map(is_prime, 0..below).collect::<Result<Vec<bool>, _>>()?;
    Ok(answers.into_iter().filter(|prime| *prime).count())
}

fn main() -> Result<(), Error> {
    let workers = Options::parse().workers.into();
    let (own, counted) = (Arc::new(ThreadPerCall::default()), Counted::<ThreadPerCall>::default());
    let (pool, serial) = (ThreadPoolExecutor::new(workers)?, SerialExecutor::new());

    println!("primes below 1000, by");
    println!("  a thread per call      {}", count_primes(&own, 1000)?);
    println!("  the same, counted      {}", count_primes(&counted, 1000)?);
    println!("  a pool of threads      {}", count_primes(&pool, 1000)?);
    println!("  the caller             {}", count_primes(&serial, 1000)?);
    for (function, calls) in &*counted.calls.lock() {
        println!("counted: {calls} calls of {function}");
    }

    println!("futures of all of them together");
    let calls = [
        ("a thread per call", own.submit(is_prime, 999_999_937)),
        ("a pool of threads", Executor::submit(&pool, is_prime, 999_999_937)),
        ("the caller", serial.submit(is_prime, 999_999_937)),
    ];
    println!("  done: {} of {}", wait(&calls, ReturnWhen::AllCompleted).done.len(), calls.len());
    for (name, call) in as_completed(calls) {
        println!("  {name:22} {}", call.result()?);
    }

    println!("what goes wrong");
    tell(own.try_submit(parse, "seven".to_string()).result());
    let last = own.submit(is_prime, 7);
    let ours = Arc::clone(&own);
    last.add_done_callback(move |_| ours.shutdown()); // In its thread: it does not wait for itself.
    last.wait();
    own.shutdown(); // Waits for that thread, which has closed it by then.
    tell(own.try_submit(parse, "7".to_string()).result());
    Ok(())
}

fn parse(text: String) -> Result<u64, ParseIntError> {
    text.parse()
}

fn tell(outcome: Result<u64, Error>) {
    match outcome {
        Ok(number) => println!("  {number}"),
        Err(error) => println!("  {error}"),
    }
}
