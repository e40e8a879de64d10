//! What this example has started and must not leave behind: a broker, and workers, of which one is to be killed.
//!
//! Not here: workers that others started. The rule: however this program ends, none of it is left: at its end and at
//! Ctrl-C it is stopped here; should the program be killed, the workers lose their standard input and stop, and the broker is
//! stopped by its script.

use std::collections::BTreeMap;
use std::env;
use std::error::Error as StdError;
use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::broker::{self, Started};
use crate::work;

/// So long a worker may take to finish what it is doing.
const GRACE: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
pub(crate) struct Crew(Arc<Shared>);

#[derive(Default)]
struct Shared {
    belongings: Mutex<Belongings>,
    journal: Mutex<Journal>,
    /// How many pictures are made.
    made: AtomicUsize,
}

/// What is to be stopped.
#[derive(Default)]
struct Belongings {
    workers: Vec<Own>,
    broker: Option<Started>,
}

struct Own {
    name: String,
    child: Child,
}

/// What our own workers have said.
#[derive(Default)]
struct Journal {
    /// Pictures, and how often each was begun.
    begun: BTreeMap<usize, usize>,
    killed: Option<Killed>,
}

/// The worker that was killed.
#[derive(Clone, Debug)]
pub(crate) struct Killed {
    pub(crate) name: String,
    pub(crate) pid: u32,
    /// So many pictures had been made by then.
    pub(crate) after: usize,
}

impl Crew {
    /// One that Ctrl-C ends in good order.
    pub(crate) fn new() -> io::Result<Self> {
        let crew = Crew::default();
        let own = crew.clone();
        let (mut told, tell) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, tell.try_clone()?)?;
        }
        thread::spawn(move || {
            if io::Read::read_exact(&mut told, &mut [0]).is_ok() {
                eprintln!("interrupted");
                own.stop();
                process::exit(130);
            }
        });
        Ok(crew)
    }

    /// A broker of our own; gives its URL.
    pub(crate) fn start_broker(&self) -> Result<String, Box<dyn StdError>> {
        // Whoever wants to stop it waits until it can be.
        let mut belongings = self.belongings();
        let (broker, url) = Started::start()?;
        belongings.broker = Some(broker);
        Ok(url)
    }

    /// One more worker: this very program, as it would run elsewhere. If `kill_after` is given, it is killed in the midst of
    /// the first picture that it begins when so many are made.
    pub(crate) fn hire(
        &self,
        name: &str,
        arguments: &[String],
        url: &str,
        kill_after: Option<usize>,
    ) -> io::Result<()> {
        let mut belongings = self.belongings();
        let mut command = Command::new(env::current_exe()?);
        command.args(["worker", "--leash", "--name", name]).args(arguments).env(broker::URL, url);
        // A group of its own: Ctrl-C in a terminal is for us, and we stop it.
        let mut child = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let said = child.stdout.take().map(BufReader::new);
        let (own, name_of_it) = (self.clone(), name.to_owned());
        thread::spawn(move || {
            for line in said.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
                own.listen(&line, &name_of_it, kill_after);
            }
        });
        belongings.workers.push(Own { name: name.into(), child });
        Ok(())
    }

    /// What one of our workers says.
    fn listen(&self, line: &str, name: &str, kill_after: Option<usize>) {
        let Some(picture) = work::begun(line) else { return };
        let mut journal = self.journal();
        *journal.begun.entry(picture).or_default() += 1;
        let made = self.0.made.load(Ordering::Relaxed);
        if journal.killed.is_some() || kill_after.is_none_or(|after| made < after) {
            return;
        }
        let mut belongings = self.belongings();
        if let Some(own) = belongings.workers.iter_mut().find(|own| own.name == name) {
            let pid = own.child.id();
            if own.child.kill().is_ok() {
                journal.killed = Some(Killed { name: name.into(), pid, after: made });
            }
        }
    }

    /// One more picture is made, or has failed.
    pub(crate) fn count(&self) {
        self.0.made.fetch_add(1, Ordering::Relaxed);
    }

    /// Those of our workers that have ended, though nobody told them to; true if there is no other.
    pub(crate) fn is_deserted(&self) -> bool {
        let mut belongings = self.belongings();
        let workers = &mut belongings.workers;
        !workers.is_empty() && workers.iter_mut().all(|own| !matches!(own.child.try_wait(), Ok(None)))
    }

    pub(crate) fn killed(&self) -> Option<Killed> {
        self.journal().killed.clone()
    }

    /// How often a picture was begun that had been begun before.
    pub(crate) fn begun_again(&self) -> usize {
        self.journal().begun.values().map(|times| times - 1).sum()
    }

    /// Stops it all, the workers first.
    pub(crate) fn stop(&self) {
        let mut belongings = self.belongings();
        for own in &mut belongings.workers {
            // They finish what they are doing, and end.
            drop(own.child.stdin.take());
        }
        let until = Instant::now() + GRACE;
        for mut own in belongings.workers.drain(..) {
            while matches!(own.child.try_wait(), Ok(None)) && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = own.child.kill();
            let _ = own.child.wait();
        }
        belongings.broker = None;
    }

    fn belongings(&self) -> MutexGuard<'_, Belongings> {
        self.0.belongings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.0.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
