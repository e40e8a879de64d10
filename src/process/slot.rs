//! The place of a worker's process, as others than its own thread may see it: to be listed, asked to end, and
//! killed.
//!
//! | who                                  | asks (SIGTERM)   | and kills (SIGKILL)                      |
//! |--------------------------------------|------------------|------------------------------------------|
//! | the worker's thread, after a limit   | `ask_to_end`     | itself, when the time of grace is over   |
//! | `Future::kill`, `terminate_workers`  | `terminate`      | `see_off`, when the time of grace is over|
//! | `kill_workers`, a pool that is broken|                  | `kill_call`, at once                     |
//!
//! Beside it, the calls that it has in hand (`window.rs`).
//!
//! Not here: how it is started and waited for, which its own thread does alone (`child.rs`). The rule: a signal is sent
//! under the lock under which the process is waited for, so its number is still its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::berth::Berth;
use super::call::Started;
use super::departures::Departures;
use super::pipes::Exit;
use super::window::Window;
use crate::account::Account;
use crate::pool::Pin;
use crate::primitives::{AtomicBool, AtomicUsize, Mutex, Ordering};
use crate::worker::WorkerInfo;

/// The process that serves one worker thread at the moment; others may only kill it.
pub(super) struct Slot {
    pub(super) process: Mutex<Option<Process>>,
    /// The calls that it has in hand. This lock comes before the one of the process.
    pub(super) window: Mutex<Window>,
    /// Where others find the worker while its thread sleeps. Its lock comes before the one of the window.
    pub(super) berth: Berth,
    /// The CPU that its processes run on, if they are bound to one.
    pub(super) pin: Option<Pin>,
    pub(super) departures: Departures,
    pub(super) account: Arc<Account>,
    /// Processes that have stood here.
    pub(super) processes: AtomicUsize,
    /// How long it may take to leave.
    pub(super) grace: Duration,
    /// A call in hand was killed: whatever comes of its worker, it must not be given to another.
    call_killed: AtomicBool,
}

pub(super) struct Process {
    pub(super) child: std::process::Child,
    /// It was told to end: it gets no more calls.
    pub(super) doomed: bool,
}

impl Slot {
    pub(super) fn new(grace: Duration, pin: Option<Pin>, account: Arc<Account>) -> Self {
        Slot {
            process: Mutex::default(),
            window: Mutex::default(),
            berth: Berth::default(),
            pin,
            departures: Departures::default(),
            account,
            processes: AtomicUsize::new(0),
            grace,
            call_killed: AtomicBool::new(false),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.lock().as_ref().map(|process| process.child.id())
    }

    /// Notes that a call was begun in that worker, at that time as far as one knows, if it was not said before. No lock may
    /// be held.
    pub(super) fn note_ran(&self, started: &mut Started, at: Option<Instant>, worker: Option<&WorkerInfo>) {
        let Started { call, letter } = started;
        if !call.is_to_start() {
            return;
        }
        let Some(at) = at.or_else(|| self.account.is_observed().then(Instant::now)) else { return };
        call.starts(&self.account, letter.attempt(), worker, at);
    }

    /// Is there a process, and nobody has told it to end?
    pub(super) fn is_sound(&self) -> bool {
        self.process.lock().as_ref().is_some_and(|process| !process.doomed)
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.process.lock().as_ref().is_some_and(|process| process.doomed)
    }

    /// A new call is in hand, and no other.
    pub(super) fn begin_call(&self) {
        self.call_killed.store(false, Ordering::Release);
    }

    /// Was a call in hand killed?
    pub(super) fn call_was_killed(&self) -> bool {
        self.call_killed.load(Ordering::Acquire)
    }

    /// Asks the process to end, as `kill` without options does, and lets it go on if it was stopped, so
    /// that it hears of it. `Some`: its end, to be waited for.
    pub(super) fn ask_to_end(&self) -> Option<Exit> {
        use rustix::process::{Pid, Signal, kill_process};
        self.end(|child| {
            if let Some(pid) = Pid::from_raw(child.id() as i32) {
                // It has not been waited for, so the number is still its own.
                let _ = kill_process(pid, Signal::TERM);
                let _ = kill_process(pid, Signal::CONT);
            }
            Exit::of(child.id())
        })
    }

    /// Asks it to end on behalf of the user. `Some`: its end, to be seen to.
    pub(super) fn terminate(&self) -> Option<Exit> {
        self.call_killed.store(true, Ordering::Release);
        self.ask_to_end()
    }

    /// Ends the process at once, on behalf of the user or because the pool is broken.
    pub(super) fn kill_call(&self) {
        self.call_killed.store(true, Ordering::Release);
        self.kill();
    }

    pub(super) fn kill(&self) {
        self.end(|child| {
            let _ = child.kill();
        });
    }

    /// Kills the process if it still is the one with that number.
    fn kill_if(&self, pid: u32) {
        if let Some(process) = self.process.lock().as_mut().filter(|process| process.child.id() == pid) {
            let _ = process.child.kill();
        }
    }

    /// Does that to the process, if there is one, while it cannot be waited for.
    fn end<R>(&self, how: impl FnOnce(&mut std::process::Child) -> R) -> Option<R> {
        self.process.lock().as_mut().map(|process| {
            process.doomed = true;
            how(&mut process.child)
        })
    }
}

/// Kills those that were asked to end and have not, when their time is up. Does not wait for it.
pub(super) fn see_off(asked: Vec<(Arc<Slot>, Exit)>) {
    // Nobody needs to wait for those that heard it at once.
    let asked: Vec<_> = asked.into_iter().filter(|(_, exit)| !exit.wait(Duration::ZERO)).collect();
    if asked.is_empty() {
        return;
    }
    let start = Instant::now();
    let asked = Arc::new(asked);
    let watch = {
        let asked = Arc::clone(&asked);
        move || {
            for (slot, exit) in &*asked {
                if !exit.wait(slot.grace.saturating_sub(start.elapsed())) {
                    slot.kill_if(exit.pid);
                }
            }
        }
    };
    let watcher = std::thread::Builder::new().name("farewell".into()).stack_size(64 << 10).spawn(watch);
    if watcher.is_err() {
        // There is nobody to wait for them.
        asked.iter().for_each(|(slot, exit)| slot.kill_if(exit.pid));
    }
}
