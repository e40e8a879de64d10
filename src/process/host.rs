//! The host, as a call in a worker sees it: who does not want the call any more, and who is told how far it is.
//!
//! Not here: what the two say to each other (`remarks.rs`). The rule: a call may speak as often as it likes. What counts is
//! the latest, and a host that sleeps is woken now and then.

use std::cell::Cell;
use std::io::{PipeWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lanes::Lanes;
use super::remarks::Progress;
use crate::signals;
use crate::wire::frame::BELL;

/// How often a host that sleeps is rung for at the most.
const OFTEN: Duration = Duration::from_millis(1);

/// The host, as a call in the worker sees it.
pub(super) struct Host {
    /// Absent where there can be no page.
    lanes: Option<Arc<Lanes>>,
    /// What is written here is one short frame, so it is in the pipe as a whole, and while a call runs nobody else writes.
    replies: &'static PipeWriter,
    name: String,
}

/// The call that runs, by the number of its future. There is one at a time.
static RUNNING: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// When the host was last rung for.
    static RUNG: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The number of the call that runs, or of the last one.
#[cfg_attr(not(feature = "tracing"), allow(dead_code))]
pub(super) fn running() -> u64 {
    RUNNING.load(Ordering::Relaxed)
}

/// The call of that number begins.
pub(super) fn begin(call: u64) {
    RUNNING.store(call, Ordering::Relaxed);
}

impl Host {
    pub(super) fn new(lanes: Option<Arc<Lanes>>, replies: &'static PipeWriter, name: String) -> Self {
        Host { lanes, replies, name }
    }

    /// Writes to the host. If it is gone, so are we, in a moment.
    fn write(&self, frame: &[u8]) {
        RUNG.set(Some(Instant::now()));
        let _ = { self.replies }.write_all(frame);
    }
}

fn was_rung_just_now() -> bool {
    RUNG.get().is_some_and(|rung| rung.elapsed() < OFTEN)
}

impl signals::Host for Host {
    fn has_cancelled(&self) -> bool {
        let call = RUNNING.load(Ordering::Relaxed);
        self.lanes.as_ref().is_some_and(|lanes| lanes.remarks().is_unwanted(call))
    }

    fn progress(&self, done: u64, total: u64) {
        let progress = Progress { call: RUNNING.load(Ordering::Relaxed), done, total };
        match &self.lanes {
            Some(lanes) => {
                lanes.remarks().say(progress);
                let replies = lanes.replies();
                if replies.wanted().is_some() && !was_rung_just_now() && replies.rouse() {
                    self.write(&BELL);
                }
            }
            // The last may be one of those that are passed over; whoever counts says when all is done.
            None if was_rung_just_now() && done != total => {}
            None => self.write(&progress.frame()),
        }
    }

    fn worker(&self) -> &str {
        &self.name
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_once_and_whole() {
        let (host, file) = Lanes::new().unwrap();
        let child = Lanes::of(&file).unwrap();
        let mut seen = 0;
        assert_eq!(host.remarks().progress(&mut seen), None);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (1..=100_000)
                    .for_each(|n| child.remarks().say(Progress { call: n, done: 2 * n, total: 3 * n }));
            });
            let mut last = 0;
            while last < 100_000 {
                let Some(Progress { call, done, total }) = host.remarks().progress(&mut seen) else {
                    continue;
                };
                assert!(call > last && (done, total) == (2 * call, 3 * call), "{call} {done} {total}");
                last = call;
            }
        });
        assert_eq!(host.remarks().progress(&mut seen), None);
    }

    #[test]
    fn only_the_call_that_is_meant_is_unwanted() {
        let (host, file) = Lanes::new().unwrap();
        let child = Lanes::of(&file).unwrap();
        assert!(!host.remarks().listens(7));
        host.remarks().unwant(6);
        assert!(!child.remarks().is_unwanted(7));
        assert!(host.remarks().listens(7) && !host.remarks().listens(6));
        host.remarks().unwant(7);
        assert!(child.remarks().is_unwanted(7));
    }
}
