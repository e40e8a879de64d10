//! What the tests share: a watchdog, gates, a journal, drop counters, a look at futures.
//!
//! Not here: anything that knows an executor. The rule: nothing sleeps in order to be in time.
//! A test waits for an event (a gate, a channel, an accepted connection); where there is none to
//! wait for, because a thread is to be *asleep*, it looks at `/proc` until it is.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) mod by_hand;
mod watchdog;

pub(crate) use watchdog::{LIMIT, watchdog, who_waits_for_what};

/// A limit that is never meant to be reached.
pub(crate) const LONG: Duration = Duration::from_secs(100);

/// This thread, for [`until_asleep`].
pub(crate) fn this_thread() -> PathBuf {
    Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap_or_default())
}

/// Returns when that thread sleeps or has ended.
pub(crate) fn until_asleep(thread: &Path) {
    /// A thread also sleeps while another one that has a lock is kept from going on. This gives that one the time to.
    const LOOKS: usize = 25;
    let mut asleep = 0;
    // No event says that a thread sleeps.
    while asleep < LOOKS
        && let Ok(stat) = fs::read_to_string(thread.join("stat"))
    {
        // number (name) state …; the name may hold anything.
        let sleeps = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'));
        asleep = if sleeps { asleep + 1 } else { 0 };
        thread::yield_now();
    }
}

/// Runs `body` in a thread of its own and returns when that thread sleeps (or has ended): it is
/// in the call that blocks.
pub(crate) fn blocked<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        tell.send(this_thread()).expect("the test listens");
        body()
    });
    until_asleep(&told.recv().expect("the thread starts"));
    thread
}

/// A gate for closures of this process. It opens when the test drops it, so that a test that
/// fails does not hang. Declare it after the pool: what is declared last is dropped first.
#[derive(Debug, Default)]
pub(crate) struct Gate(Waiter);

/// The side of a [`Gate`] that waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiter(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn new() -> Self {
        Gate::default()
    }

    pub(crate) fn waiter(&self) -> Waiter {
        self.0.clone()
    }

    pub(crate) fn open(&self) {
        *self.0.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.0.1.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl Waiter {
    pub(crate) fn wait(&self) {
        let mut open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*open {
            open = self.0.1.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A gate that also works across a process wall. A task comes with a [`Ticket`] and is held; the
/// test sees it arrive, learns who runs it, and lets it go when it likes.
///
/// Dropping it lets everybody through. As with [`Gate`]: declare it after the pool.
#[derive(Debug)]
pub(crate) struct Turnstile {
    listener: TcpListener,
    nonce: usize,
}

/// What a task is given to [`pass`](Ticket::pass) a turnstile.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Ticket {
    port: u16,
    /// Ports are used again: a straggler of another test is not ours.
    nonce: usize,
    pub(crate) number: u32,
}

/// A task that is held at a turnstile.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) number: u32,
    /// [`who`] runs it.
    pub(crate) who: String,
    _held: TcpStream,
}

impl Turnstile {
    pub(crate) fn new() -> Self {
        static NONCE: AtomicUsize = AtomicUsize::new(0);
        let nonce = NONCE.fetch_add(1, Ordering::Relaxed) << 32 | std::process::id() as usize;
        Turnstile { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a local port"), nonce }
    }

    pub(crate) fn ticket(&self, number: u32) -> Ticket {
        Ticket { port: self.listener.local_addr().expect("a bound port").port(), nonce: self.nonce, number }
    }

    /// The next task that arrives.
    pub(crate) fn arrival(&self) -> Arrival {
        loop {
            let (held, _) = self.listener.accept().expect("a task that arrives");
            let mut line = String::new();
            let _ = BufReader::new(&held).read_line(&mut line);
            let mut words = line.trim_end().splitn(3, ' ');
            let (nonce, number, who) = (words.next(), words.next(), words.next());
            if let (Some(nonce), Some(number), Some(who)) = (nonce, number, who)
                && nonce == self.nonce.to_string()
            {
                let number = number.parse().expect("the number of a ticket");
                return Arrival { number, who: who.to_owned(), _held: held };
            }
        }
    }

    /// The next `count` tasks that arrive.
    pub(crate) fn arrivals(&self, count: usize) -> Vec<Arrival> {
        (0..count).map(|_| self.arrival()).collect()
    }
}

impl Arrival {
    pub(crate) fn release(self) {
        drop(self);
    }
}

impl Ticket {
    /// Arrives, is held, and goes on with its number. Goes on at once if the test is over.
    pub(crate) fn pass(self) -> u32 {
        if let Ok(mut held) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) {
            let _ = held.write_all(format!("{} {} {}\n", self.nonce, self.number, who()).as_bytes());
            let _ = held.read(&mut [0]);
        }
        self.number
    }
}

/// The worker that this runs in: process and thread.
pub(crate) fn who() -> String {
    format!("{}/{:?}", std::process::id(), thread::current().id())
}

/// What tasks did, in the order in which they did it, also in other processes: lines of a file.
#[derive(Debug)]
pub(crate) struct Journal(Page);

/// The side of a [`Journal`] that writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Page(PathBuf);

impl Journal {
    pub(crate) fn new() -> Self {
        let path = fresh_path("journal");
        fs::write(&path, "").expect("a file in the target directory");
        Journal(Page(path))
    }

    pub(crate) fn page(&self) -> Page {
        self.0.clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lines()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0.0);
    }
}

impl Page {
    pub(crate) fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.0).expect("the journal").lines().map(str::to_owned).collect()
    }

    pub(crate) fn note(&self, line: impl std::fmt::Display) {
        let mut file = OpenOptions::new().append(true).open(&self.0).expect("the journal");
        // One write: lines of several processes do not mix.
        file.write_all(format!("{line}\n").as_bytes()).expect("a line in the journal");
    }
}

/// A path that nobody else uses.
pub(crate) fn fresh_path(kind: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{kind}-{}-{number}", std::process::id()))
}

/// Counts tokens: how many were made, how many are left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drops(Arc<(AtomicUsize, AtomicUsize)>);

/// Counts its own end. Dropped twice, it would leave more dropped than made, which [`Drops::alive`] sees.
#[derive(Debug)]
pub(crate) struct Token(Drops);

impl Drops {
    pub(crate) fn new() -> Self {
        Drops::default()
    }

    pub(crate) fn token(&self) -> Token {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        Token(self.clone())
    }

    pub(crate) fn made(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) fn alive(&self) -> usize {
        self.made().checked_sub(self.0.1.load(Ordering::SeqCst)).expect("a token was dropped twice")
    }
}

impl Token {
    /// Makes a closure capture it.
    pub(crate) fn look(&self) {}
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// A value whose destructor panics.
#[derive(Debug)]
pub(crate) struct Bomb;

impl Bomb {
    /// Makes a closure capture it.
    pub(crate) fn look(&self) {}
}

impl Drop for Bomb {
    fn drop(&mut self) {
        // A second panic in an unwinding thread would abort the test, not fail it.
        if !thread::panicking() {
            panic!("a destructor that panics");
        }
    }
}

/// Runs a test again, as the only one of a new process: there nothing of the library has been used
/// before it, and its memory and what it prints are its own. Gives what was printed; `None` in the
/// new process itself.
pub(crate) fn alone(module: &str, name: &str, body: impl FnOnce()) -> Option<String> {
    const ALONE: &str = "CONCURRENT_FUTURES_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        body();
        return None;
    }
    let test = format!("{}::{name}", module.split_once("::").expect("a module of the binary").1);
    let binary = std::env::current_exe().expect("the path of this binary");
    let output = Command::new(binary)
        .args(["--exact", &test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("a new process");
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    Some(text)
}
