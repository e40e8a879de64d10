//! Progress bars, with `indicatif`: of results that are taken, of calls that are done, and of one long call.
//!
//!     cargo run --release --example progress
//!     cargo run --release --example progress -- --executor processes --items 5000
//!
//! | the bar is of | and moves |
//! |---|---|
//! | `map(..).progress_with(bar)` | when a result is taken, in the order of the items |
//! | `as_completed(..).progress_with(bar)` | when a call is done |
//! | `MapOptions::on_item_done` | the same, item by item also where they travel in chunks, and also while nobody takes results |
//! | `Future::on_progress` | when the call says how far it is, from wherever it runs |
//!
//! Only the host draws. Where stderr is not a terminal, nothing is drawn; what each bar has reached is printed in any case.
//!
//! Not here: bars of several stages at a time. The rule: every bar ends where its work does; else the exit status is 1.

#[path = "shared/ways.rs"]
mod ways;

use std::process::ExitCode;

use clap::Parser;
use concurrent_futures::sync::Event;
use concurrent_futures::{Error, Executor, MapOptions, as_completed, init, task};
use indicatif::{ProgressBar, ProgressFinish, ProgressIterator, ProgressStyle};

use crate::ways::Ways;

/// Shows how far calls are, in four ways.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    ways: Ways,

    /// How many items, and how many steps the long call has
    #[arg(long, value_name = "N", default_value_t = 2000)]
    items: u64,
}

/// The largest prime factor.
fn factor(of: u64) -> u64 {
    let (mut rest, mut divisor) = (of, 2);
    while divisor * divisor <= rest {
        if rest.is_multiple_of(divisor) {
            rest /= divisor;
        } else {
            divisor += 1;
        }
    }
    rest
}

/// The same for all of them, in one call that says how far it is, as often as it likes.
fn factor_all((count, start): (u64, Event)) -> u64 {
    start.wait(); // Until somebody listens.
    let mut sum = 0;
    for (done, number) in (1..).zip(numbers(count)) {
        sum += factor(number);
        task::progress(done, count);
    }
    sum
}

fn numbers(count: u64) -> impl ExactSizeIterator<Item = u64> + Send {
    (0..count as usize).map(|number| 100_000_000_003 + 2 * number as u64)
}

fn main() -> Result<ExitCode, Error> {
    init(); // first line of main: in a worker process it never returns
    let Options { ways, items } = Options::parse();
    let expected: u64 = numbers(items).map(factor).sum();
    let mut all_right = true;
    for way in ways.each() {
        println!("{}", way.name);
        let mut show = |what: &'static str, work: &dyn Fn(&ProgressBar) -> Result<u64, Error>| {
            let bar = bar(what, items);
            let sum = work(&bar)?;
            bar.abandon();
            println!("  {what:22} {} of {items}", bar.position());
            all_right &= sum == expected && bar.position() == items;
            Ok(())
        };
        let pool = way.executor()?;
        show("results taken", &|bar| pool.map(factor, numbers(items)).progress_with(bar.clone()).sum())?;
        show("calls done", &|bar| {
            let calls = numbers(items).map(|number| pool.submit(factor, number));
            as_completed(calls).progress_with(bar.clone()).map(|call| call.result()).sum()
        })?;
        show("items of chunks done", &|bar| {
            let own = bar.clone();
            let options = MapOptions::new().chunksize(50).on_item_done(move |_index, _outcome| own.inc(1));
            pool.map_with(factor, numbers(items), options).sum()
        })?;
        if way.name == "serial" {
            println!("  steps of one call      over before anybody could listen");
            continue;
        }
        show("steps of one call", &|bar| {
            let start = Event::new();
            let call = pool.submit(factor_all, (items, start.clone()));
            let own = bar.clone();
            call.on_progress(move |done, total| {
                own.set_length(total);
                own.set_position(done);
            });
            start.set();
            call.result()
        })?;
    }
    Ok(if all_right { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A bar on stderr; it hides itself where that is not a terminal. It is left as it stands: to finish it would fill it.
fn bar(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>22} {bar:40} {pos:>5} of {len}  {elapsed}");
    let bar = ProgressBar::new(length).with_finish(ProgressFinish::Abandon);
    bar.with_style(style.expect("a constant")).with_prefix(what)
}
