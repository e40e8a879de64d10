//! What this process has: descriptors, threads, children, memory, values; and what it waits for when it hangs.
//!
//! Not here: when to look. The rule: what a storm leaves behind is what it found, once the warm-up has made what is
//! made once a process.

use std::fmt;
use std::fs;
use std::process::id;
use std::thread;
use std::time::{Duration, Instant};

use crate::freight::Counted;
use crate::life::Life;
use crate::tally::{self, Count};
use crate::watchdog::who_waits_for_what;
use crate::{pulse, scales, verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Belongings {
    descriptors: usize,
    threads: usize,
    children: usize,
    zombies: usize,
    /// Arguments and return values.
    values: i64,
    /// Bytes that are allocated, and bytes that are in memory: more, as the allocator keeps what was freed.
    held: i64,
    resident: usize,
}

/// Bytes that may be left: tables that have grown.
const SLACK: i64 = 64 << 10;

impl Belongings {
    fn now() -> Self {
        let count = |path| fs::read_dir(path).map_or(0, Iterator::count);
        let children = children();
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        Belongings {
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            children: children.len(),
            zombies: children.iter().filter(|(_, state)| *state == 'Z').count(),
            values: Counted::alive(),
            held: scales::held(),
            resident: pages * rustix::param::page_size(),
        }
    }

    /// When nothing is under way any more: waits for the last threads to leave.
    pub(crate) fn at_rest(threads: usize) -> Self {
        let start = Instant::now();
        loop {
            let now = Belongings::now();
            let at_rest = now.threads <= threads && now.children == 0 && now.values == 0;
            if at_rest || start.elapsed() > Duration::from_secs(20) {
                return now;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many things of those that were not there before are there now.
    pub(crate) fn leaks_since(&self, before: &Belongings) -> u64 {
        let more = |now: usize, before: usize| now.saturating_sub(before) as u64;
        more(self.descriptors, before.descriptors)
            + more(self.threads, before.threads)
            + more(self.children, before.children)
            + self.values.abs_diff(before.values)
            + u64::from(self.held > before.held + SLACK)
    }
}

impl fmt::Display for Belongings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Belongings { descriptors, threads, children, zombies, values, held, resident } = self;
        write!(
            f,
            "{descriptors} descriptors, {threads} threads, {children} children ({zombies} of them zombies), \
             {values} values, {} kB allocated ({} MB in memory)",
            held / 1000,
            resident / 1_000_000
        )
    }
}

/// Number and state of each child.
fn children() -> Vec<(u32, char)> {
    let us = id().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter_map(|pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // pid (name) state parent …; the name may hold anything.
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?);
            (parent == us).then(|| (pid, state.chars().next().unwrap_or('?')))
        })
        .collect()
}

/// Is there a thread or a child of that pool?
pub(crate) fn has_workers(pool: &str) -> bool {
    let prefix = format!("{pool}_");
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let has_thread = threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok())
        .any(|name| name.starts_with(&prefix));
    let title = format!(": {prefix}");
    let is_its = |pid: u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&title))
    };
    has_thread || children().into_iter().any(|(pid, _)| is_its(pid))
}

/// Tells who waits for what, and ends the storm.
pub(crate) fn hang(what: &str) -> ! {
    let lost: usize = Life::all().iter().map(|life| life.open_calls()).sum();
    let open: String = Life::all().iter().map(|life| verdict::open_calls_of(life)).collect();
    let report = format!(
        "\nstorm: HANG: {what}\n{open}\n{}\n{}lost = at most {lost}, wrong = {}\n",
        who_waits_for_what(),
        tally::calls(pulse::age()),
        Count::Wrong.get()
    );
    tally::say(&report);
    std::process::abort();
}
