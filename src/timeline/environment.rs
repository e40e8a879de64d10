//! `CONCURRENT_FUTURES_TRACE`: any program is recorded, without a change of code.
//!
//! The rule: the variable is the user's, so it counts in the program that the user started: not in its worker processes,
//! which would overwrite the file of their host, and not where the user has not the rights of the program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;

use super::recorder::Recorder;
use crate::observer::{Event, Observer, What};
use crate::process;

const VARIABLE: &str = "CONCURRENT_FUTURES_TRACE";

/// Somebody forgets the variable and lets the program run for weeks: 48 MB.
const LIMIT: usize = 1_000_000;

/// Who records all pools of this process, if the variable asks for it: to be given to each pool that is built.
pub(crate) fn of_environment() -> Option<&'static Reporter> {
    static REPORTER: OnceLock<Option<Reporter>> = OnceLock::new();
    let ask = || {
        if process::is_below_a_worker() || process::has_foreign_rights() {
            return None;
        }
        Some(Reporter::new(std::env::var_os(VARIABLE)?.into(), LIMIT))
    };
    REPORTER.get_or_init(ask).as_ref()
}

/// Records, and tells of it whenever a pool is over.
pub(crate) struct Reporter {
    recorder: Recorder,
    /// Empty: stderr. One at a time writes, so that an older report takes the place of no newer one.
    place: Mutex<PathBuf>,
}

impl Reporter {
    fn new(place: PathBuf, limit: usize) -> Self {
        Reporter { recorder: Recorder::with_limit(limit), place: Mutex::new(place) }
    }

    fn report(&self) {
        let place = self.place.lock();
        let timeline = self.recorder.timeline();
        if place.as_path() == Path::new("") {
            say(&format!("{timeline}\n"));
        } else if let Err(error) = timeline.write(&*place) {
            say(&format!("concurrent-futures: {VARIABLE}: {} cannot be written: {error}\n", place.display()));
        }
    }
}

impl Observer for &'static Reporter {
    fn notice(&self, event: &Event<'_>) {
        self.recorder.notice(event);
        if let What::PoolOver {} = event.what {
            self.report();
        }
    }
}

/// In one piece. Nobody can be told that stderr is closed.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
