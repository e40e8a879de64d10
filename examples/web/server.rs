//! The server: one event loop, and worker processes behind it.
//!
//! | path | is answered with |
//! |---|---|
//! | `/ping` | `pong`, at once |
//! | `/primes/1000` | how many primes there are below it; a worker process counts them |
//! | `/blocking/1000` | the same, counted on the event loop |
//! | `/factors/12,x,35` | the prime factors of each, or why there are none |
//! | `/factors/all/12,x,35` | the prime factors of all, or the first error |
//! | `/tally` | what became of the calls of `/primes` |
//!
//! Not here: who asks (`main.rs`). The rule: a call is awaited behind its guard, so if the client hangs up, its request is
//! dropped, and with it the call: the worker stops and is free for others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use concurrent_futures::{CancelOnDrop, Error, Executor, ProcessPoolExecutor};
use futures_util::future::{join_all, try_join_all};

struct App {
    pool: ProcessPoolExecutor,
    tally: Arc<Tally>,
}

/// What became of the calls of `/primes`.
#[derive(Default)]
struct Tally {
    asked: AtomicUsize,
    answered: AtomicUsize,
    stopped: AtomicUsize,
}

pub(crate) fn router(workers: usize) -> Result<Router, Error> {
    let app = App { pool: ProcessPoolExecutor::new(workers)?, tally: Arc::default() };
    Ok(Router::new()
        .route("/ping", get(async || "pong\n"))
        .route("/primes/{below}", get(primes))
        .route("/blocking/{below}", get(blocking))
        .route("/factors/{numbers}", get(factors_of_each))
        .route("/factors/all/{numbers}", get(factors_of_all))
        .route("/tally", get(tally))
        .with_state(Arc::new(app)))
}

/// Python's `await loop.run_in_executor(pool, count_primes, below)`.
async fn primes(State(app): State<Arc<App>>, Path(below): Path<u64>) -> Result<String, Failed> {
    let call = app.pool.submit(count_primes, below).cancel_on_drop();
    app.tally.asked.fetch_add(1, Ordering::Relaxed);
    let tally = Arc::clone(&app.tally);
    // Told when the call is over. If it ran when its client hung up, that is when its code has stopped.
    call.add_done_callback(move |outcome| {
        let which = if outcome.is_ok() { &tally.answered } else { &tally.stopped };
        which.fetch_add(1, Ordering::Relaxed);
    });
    Ok(format!("{}\n", call.await?))
}

/// What not to do: as long as this counts, the loop does nothing else, for anybody.
async fn blocking(Path(below): Path<u64>) -> String {
    format!("{}\n", count_primes(below))
}

async fn tally(State(app): State<Arc<App>>) -> String {
    let [asked, answered, stopped] = [&app.tally.asked, &app.tally.answered, &app.tally.stopped]
        .map(|count| count.load(Ordering::Relaxed));
    format!("asked {asked}, answered {answered}, stopped {stopped}, open {}\n", asked - answered - stopped)
}

/// Python's `await gather(*calls, return_exceptions=True)`: errors are values.
async fn factors_of_each(State(app): State<Arc<App>>, Path(numbers): Path<String>) -> String {
    let outcomes = join_all(app.factors(&numbers)).await;
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|error| Failed(error).cause())).collect()
}

/// Python's `await gather(*calls)`: the first error wins. The other calls are dropped then, so they are cancelled.
async fn factors_of_all(State(app): State<Arc<App>>, Path(numbers): Path<String>) -> Result<String, Failed> {
    Ok(try_join_all(app.factors(&numbers)).await?.concat())
}

impl App {
    /// All of them at work at once.
    fn factors(&self, numbers: &str) -> Vec<CancelOnDrop<String>> {
        let call = |number: &str| self.pool.try_submit(factors, number.to_owned()).cancel_on_drop();
        numbers.split(',').map(call).collect()
    }
}

/// Why there is no answer: what the function said is the client's to know, and its fault.
struct Failed(Error);

impl Failed {
    fn cause(&self) -> String {
        match &self.0 {
            Error::Raised { error, .. } => format!("{error}\n"),
            other => format!("{other}\n"),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match self.0 {
            Error::Raised { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.cause()).into_response()
    }
}

/// By trial division: work for a processor.
fn count_primes(below: u64) -> u64 {
    (2..below).map(|n| u64::from((2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d)))).sum()
}

fn factors(number: String) -> Result<String, String> {
    let mut rest: u64 = number.parse().map_err(|error| format!("{number}: {error}"))?;
    let mut found = Vec::new();
    let mut divisor = 2;
    while rest > 1 {
        // The smallest divisor of what is left is a prime; at the latest that is the rest itself.
        if divisor > rest / divisor {
            divisor = rest;
        }
        while rest.is_multiple_of(divisor) {
            found.push(divisor.to_string());
            rest /= divisor;
        }
        divisor += 1;
    }
    if found.is_empty() {
        return Err(format!("{number}: it has no prime factors"));
    }
    Ok(format!("{number} = {}\n", found.join(" · ")))
}
