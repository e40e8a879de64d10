//! What was counted, and what it adds up to.
//!
//! Not here: who counts. The rule: a call is counted once when it is ordered and once when its pool's life is
//! settled; at the end both numbers are one, or calls were lost.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! counts {
    ($($name:ident),* $(,)?) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Count { $($name),* }

        static NUMBERS: [AtomicU64; [$(Count::$name),*].len()] =
            [const { AtomicU64::new(0) }; [$(Count::$name),*].len()];
    };
}

counts! {
    // Ways in which a call ends.
    Returned, Raised, Panicked, Cancelled, TimedOut, Died, GaveUp, Broken, Refused, GivenBack, Late, Unportable,
    Unsupported, Unseen, Strange,
    // The rest.
    Submitted, Bytes, Runs, Again, ThreadPools, ProcessPools, Workers, Kills, Stops, Continued, CancelCalls, KillCalls,
    Callbacks, Unread, Panics, Wrong,
}

/// The endings, and what the tally calls them.
const ENDINGS: [(Count, &str); 14] = [
    (Count::Returned, "returned"),
    (Count::Raised, "raised"),
    (Count::Panicked, "panicked"),
    (Count::Cancelled, "cancelled"),
    (Count::TimedOut, "timed out, and stopped with their workers"),
    (Count::Died, "died with their workers"),
    (Count::GaveUp, "gave up after all their attempts"),
    (Count::Broken, "broken with their pool"),
    (Count::Refused, "refused by a pool that was shut down"),
    (Count::GivenBack, "given back for want of room"),
    (Count::Late, "late for their map"),
    (Count::Unportable, "not encoded or decoded"),
    (Count::Unsupported, "not supported by threads"),
    (Count::Unseen, "let go, and known to have run or to have been cancelled"),
];

impl Count {
    pub(crate) fn add(self, number: u64) {
        NUMBERS[self as usize].fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn one(self) {
        self.add(1);
    }

    pub(crate) fn get(self) -> u64 {
        NUMBERS[self as usize].load(Ordering::Relaxed)
    }
}

/// So many are told.
const TOLD: u64 = 10;

/// Something was seen that must not be.
pub(crate) fn wrong(what: &str) {
    Count::Wrong.one();
    let number = Count::Wrong.get();
    if number <= TOLD {
        say(&format!("storm: WRONG {number}: {what}\n"));
    }
}

/// One write, so that lines of several threads do not mix.
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// One line on the way.
pub(crate) fn progress(elapsed: Duration) {
    use Count::*;
    let [seconds, calls, threads, processes] =
        [elapsed.as_secs(), Submitted.get(), ThreadPools.get(), ProcessPools.get()];
    let [kills, stops, wrong] = [Kills, Stops, Wrong].map(Count::get);
    say(&format!(
        "storm: {seconds} s, {calls} calls, {threads} + {processes} pools, {kills} kills, {stops} stops; \
         wrong {wrong}\n"
    ));
}

/// How many of the calls that were submitted have no ending.
pub(crate) fn missing() -> u64 {
    let ended: u64 = ENDINGS.iter().map(|(count, _)| count.get()).sum();
    Count::Submitted.get().abs_diff(ended + Count::Strange.get())
}

/// The account of all calls, as text.
pub(crate) fn calls(elapsed: Duration) -> String {
    use Count::*;
    let mut text = String::new();
    let submitted = Submitted.get();
    let rate = submitted as f64 / elapsed.as_secs_f64();
    let _ = writeln!(text, "calls submitted {submitted:>12}   ({rate:.0} a second)");
    for (count, name) in ENDINGS {
        let _ = writeln!(text, "              = {:>12}   {name}", count.get());
    }
    if Strange.get() > 0 {
        let _ = writeln!(text, "              + {:>12}   ended as nothing may", Strange.get());
    }
    let [runs, again, bytes, callbacks, unread, panics] =
        [Runs, Again, Bytes, Callbacks, Unread, Panics].map(Count::get);
    let _ = writeln!(
        text,
        "they ran {runs} times, {again} of them again; carried {} MiB; {callbacks} callbacks; \
         {unread} errors nobody read; {panics} panics here",
        bytes >> 20
    );
    let [threads, processes, workers] = [ThreadPools, ProcessPools, Workers].map(Count::get);
    let [kills, stops, continued] = [Kills, Stops, Continued].map(Count::get);
    let [cancels, kill_calls] = [CancelCalls, KillCalls].map(Count::get);
    let _ = writeln!(
        text,
        "pools made: {threads} of threads, {processes} of processes, whose calls ran in {workers} worker processes"
    );
    let _ = writeln!(
        text,
        "from outside: {kills} workers killed, {stops} stopped ({continued} of them continued); \
         `cancel` called {cancels} times, `kill` {kill_calls}"
    );
    text
}
