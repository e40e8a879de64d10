//! What a pool makes of the death of a worker that nobody asked to end: a post-mortem, and whether the
//! pool goes on.
//!
//! Not here: the call that the worker ran (`context.rs`), workers that do not even start (`child.rs`).
//! The rule: a death is judged once, by the thread that owned the worker, before its call ends.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::primitives::{Mutex, OnceLock};

/// What becomes of a process pool when one of its workers dies.
/// For [`ProcessPoolBuilder::on_worker_death`](crate::ProcessPoolBuilder::on_worker_death).
///
/// ```
/// use concurrent_futures::{Executor, ProcessPoolExecutor, WorkerDeath};
///
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();
///     for policy in [WorkerDeath::Replace, WorkerDeath::Break] {
///         let pool = ProcessPoolExecutor::builder().max_workers(1).on_worker_death(policy).build()?;
///         assert!(pool.submit(|()| std::process::abort(), ()).result().map(|(): ()| ()).is_err());
///         let goes_on = pool.submit(|n: u32| n + 1, 41).result().is_ok();
///         assert_eq!(goes_on, policy == WorkerDeath::Replace);
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerDeath {
    /// The call that it ran is lost, or tried again if its options say so; another worker takes its
    /// place.
    #[default]
    Replace,
    /// The pool is broken, as in Python: the call that it ran ends with
    /// [`Error::WorkerDied`](crate::Error::WorkerDied), all others, also those that run, with
    /// [`Error::Broken`](crate::Error::Broken), and so does what is submitted later.
    Break,
}

/// The judge.
#[derive(Default)]
pub(super) struct Deaths {
    pub(super) policy: WorkerDeath,
    pub(super) most_a_minute: Option<usize>,
    /// Those of the last minute.
    recent: Mutex<VecDeque<Instant>>,
    verdict: OnceLock<Error>,
}

/// What is known of the processes that the kernel has killed for memory: it counts them, on the whole machine,
/// and does not say which they were.
struct MemoryKills {
    /// Its counts, and when each was seen first.
    seen: Vec<(Instant, u64)>,
    /// Up to this count each is held to have been somebody: a worker of ours, or one before our time.
    explained: u64,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Deaths {
    pub(super) fn new(policy: WorkerDeath, most_a_minute: Option<usize>) -> Self {
        // Seen for the first time, before there is a worker.
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            kernel_ran_out_of_memory_since(Instant::now());
        });
        Deaths { policy, most_a_minute, ..Deaths::default() }
    }

    /// What broke the pool, if a death did.
    pub(super) fn verdict(&self) -> Option<&Error> {
        self.verdict.get()
    }

    /// A worker died, with that error. `Some`: it breaks the pool.
    pub(super) fn judge(&self, error: &Error) -> Option<&Error> {
        let reason = match (self.policy, self.most_a_minute) {
            (WorkerDeath::Break, _) => format!("the pool is broken, because a worker died: {error}"),
            (WorkerDeath::Replace, Some(most)) => {
                let count = self.count();
                if count <= most {
                    return None;
                }
                format!(
                    "the pool is broken: {count} workers died within a minute, max_restarts_per_minute is {most}; \
                     the last: {error}"
                )
            }
            (WorkerDeath::Replace, None) => return None,
        };
        Some(self.verdict.get_or_init(|| Error::broken(reason, Some(error.clone()))))
    }

    /// Counts one more, and says how many there were within a minute.
    fn count(&self) -> usize {
        let now = Instant::now();
        let mut recent = self.recent.lock();
        recent.push_back(now);
        while recent.front().is_some_and(|then| now.duration_since(*then) > MINUTE) {
            recent.pop_front();
        }
        recent.len()
    }
}

/// Why a worker died that nobody asked to, as far as one can guess. `since`: when it was started.
pub(super) fn probable_cause(
    status: Option<ExitStatus>,
    since: Instant,
    memory_limit: Option<u64>,
) -> Option<String> {
    let signal = status?.signal()?;
    match memory_limit {
        _ if signal == libc::SIGKILL && kernel_ran_out_of_memory_since(since) => {
            Some("killed by the kernel, probably because memory ran out".into())
        }
        Some(limit) if matches!(signal, libc::SIGABRT | libc::SIGSEGV | libc::SIGBUS | libc::SIGILL) => {
            Some(format!("perhaps because of its memory limit of {limit} bytes"))
        }
        _ => None,
    }
}

/// Has the kernel killed a process for memory since then that may have been a worker of ours?
fn kernel_ran_out_of_memory_since(since: Instant) -> bool {
    static KILLS: Mutex<MemoryKills> = Mutex::new(MemoryKills { seen: Vec::new(), explained: 0 });
    memory_kills().is_some_and(|now| KILLS.lock().explain_one(since, now))
}

impl MemoryKills {
    /// Was one more killed since then than is explained, if there are `now` so many? Then it is explained.
    fn explain_one(&mut self, since: Instant, now: u64) -> bool {
        if self.seen.is_empty() {
            self.explained = now;
        }
        if self.seen.last().is_none_or(|(_, before)| *before != now) {
            self.seen.push((Instant::now(), now));
        }
        let before = self.seen.iter().rev().find(|(when, _)| *when <= since).or(self.seen.first());
        let unexplained = before.map_or(0, |(_, before)| now.saturating_sub(self.explained.max(*before)));
        self.explained += u64::from(unexplained > 0);
        unexplained > 0
    }
}

/// How many processes the kernel has killed because memory, its own or that of a control group, ran out.
#[cfg(target_os = "linux")]
fn memory_kills() -> Option<u64> {
    use std::io::Read;
    // Room for all of it at once: for each read the kernel counts it all again.
    let mut statistics = String::with_capacity(16 << 10);
    std::fs::File::open("/proc/vmstat").ok()?.read_to_string(&mut statistics).ok()?;
    statistics.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

#[cfg(not(target_os = "linux"))]
fn memory_kills() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death() -> Error {
        Error::broken("a worker died", None)
    }

    #[test]
    fn one_death_more_than_the_budget_is_too_many() {
        let deaths = Deaths::new(WorkerDeath::Replace, Some(2));
        assert!(deaths.judge(&death()).is_none());
        assert!(deaths.judge(&death()).is_none());
        let verdict = deaths.judge(&death()).unwrap().to_string();
        assert!(
            verdict.contains("3 workers died within a minute, max_restarts_per_minute is 2"),
            "{verdict}"
        );
        assert_eq!(deaths.verdict().unwrap().to_string(), verdict);
    }

    #[test]
    fn deaths_of_long_ago_do_not_count() {
        let deaths = Deaths::new(WorkerDeath::Replace, Some(1));
        let Some(long_ago) = Instant::now().checked_sub(MINUTE * 2) else { return };
        deaths.recent.lock().extend([long_ago; 50]);
        assert!(deaths.judge(&death()).is_none());
        assert_eq!(deaths.recent.lock().len(), 1);
    }

    #[test]
    fn without_a_budget_none_is_too_many() {
        let deaths = Deaths::new(WorkerDeath::Replace, None);
        assert!((0..10_000).all(|_| deaths.judge(&death()).is_none()));
        assert!(deaths.recent.lock().is_empty());
    }

    #[test]
    fn one_is_too_many_where_a_death_breaks_the_pool() {
        let deaths = Deaths::new(WorkerDeath::Break, None);
        assert!(matches!(deaths.judge(&death()), Some(Error::Broken { cause: Some(_), .. })));
    }

    #[test]
    fn a_kill_for_memory_is_suspected_of_those_that_lived_then() {
        let mut kills = MemoryKills { seen: Vec::new(), explained: 0 };
        let born = Instant::now();
        assert!(!kills.explain_one(born, 5));
        assert!(!kills.explain_one(born, 5));
        assert!(kills.explain_one(born, 7));
        assert!(!kills.explain_one(Instant::now(), 7), "started after that");
        assert!(kills.explain_one(born, 7), "two were killed at once");
        assert!(!kills.explain_one(born, 7), "and not a third");
    }

    #[test]
    fn a_cause_is_named_only_where_there_is_a_reason_to() {
        let (born, [killed, aborted]) =
            (Instant::now(), [libc::SIGKILL, libc::SIGABRT].map(|signal| Some(ExitStatus::from_raw(signal))));
        assert_eq!(probable_cause(None, born, Some(77)), None);
        assert_eq!(probable_cause(killed, born, Some(77)), None);
        assert_eq!(probable_cause(aborted, born, None), None);
        assert!(probable_cause(aborted, born, Some(77)).unwrap().contains("77 bytes"));
    }
}
