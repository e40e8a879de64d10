//! The host's side of one worker process: start it, greet it, talk to it, bury it.
//!
//! Not here: which call it is given (`context.rs`). The rule: a process that was started is
//! waited for, on every path, and its descriptors are private to the pair.
//!
//! ```text
//!   host                                              worker (a copy of this binary)
//!    │ spawn, a socket as its stdin                     │
//!    │ Hello, Terms, ends of pipes, ─────── socket ───▶ │ init(): takes the pipes, /dev/null on stdin,
//!    │ a page of memory (page.rs)                       │ and the terms (terms.rs)
//!    │ ◀──────────────────────────── pipe ───── Hello   │ or Refusal
//!    │ Initialise ───────────────── pipe ─────────────▶ │
//!    │ ◀──────────────────────────── pipe ── Returned   │ or Failed
//!    │ Call ─────────────────────── page, or pipe ────▶ │ calls.rs
//!    │ ◀─────────────────── page, or pipe ── Returned   │ or Failed
//!    │ Initialise (the finalizer) ─ pipe ─────────────▶ │ if it ends in good order
//!    │ ◀──────────────────────────── pipe ── Returned   │ or Failed
//!    │ Bye ──────────────────────── pipe ─────────────▶ │ exit
//! ```

use std::io::{self, BufReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::calls::{Heard, HostsEnd};
use super::departures::{Departure, Why};
use super::desk::Desk;
use super::ear::Ear;
use super::invitation::{self, Invitation};
use super::lanes::Lanes;
use super::memory::Resident;
use super::pipes::{self, Exit, Incoming, Outgoing};
use super::post::Post;
use super::slot::{Process, Slot};
use super::{Initializer, Plan, deaths, entry, sys};
use crate::enclosed::Received;
use crate::error::Error;
use crate::future::deadline_after;
use crate::id::TaskRef;
use crate::observer::What;
use crate::primitives::{Mutex, Ordering};
use crate::wire::connection::Connection;
use crate::wire::frame::{self, Kind, WireError};
use crate::wire::message::{Failure, Hello};
use crate::worker::WorkerInfo;
use crate::{outcome, unread};

/// How long a worker may take from its start to its Hello, unless the user says. Milliseconds are usual.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a worker may take to leave after it was told or asked to, or after it closed its pipes, unless
/// the user says.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// A worker process that has said Hello.
pub(super) struct Child {
    pub(super) pid: u32,
    pub(super) connection: Connection<BufReader<Incoming>, Outgoing>,
    /// Absent where there can be none.
    pub(super) page: Option<HostsEnd>,
    pub(super) post: Post,
    /// What came beside the reply heard last.
    pub(super) received: Received,
    /// Where it asks for queues and the like, once it has a handle.
    pub(super) desk: Option<Desk>,
    /// What it logs.
    ear: Ear,
    slot: Arc<Slot>,
    /// As long as this is open, we live, as the worker sees it.
    _life: Option<PipeWriter>,
    pub(super) exit: Exit,
    started: Instant,
    /// It was sent the whole of its call.
    pub(super) was_sent: bool,
    /// Calls it has answered.
    pub(super) served: usize,
    pub(super) worker: Arc<WorkerInfo>,
    /// Those who were told of its start are to be told of its end.
    is_announced: bool,
    /// It has had as many calls, or as much memory, as it may.
    pub(super) is_used_up: bool,
    /// It was told to leave.
    is_leaving: bool,
    /// Its initializer has run.
    is_ready: bool,
    /// Present if the pool limits its memory.
    resident: Option<Resident>,
}

/// Why a worker could not be started.
pub(super) enum NoStart {
    /// The system refused a process, a pipe, a descriptor.
    Refused(Error),
    /// It started and did not become a worker: perhaps the next one does.
    Died(Error),
    /// It never will.
    Never(Error),
}

impl Child {
    /// Starts a process in `slot`, which is empty.
    pub(super) fn start(plan: &Plan, number: usize, slot: &Arc<Slot>) -> Result<Child, NoStart> {
        let name = format!("{}_{number}", plan.name);
        let refused = |error| {
            let place = plan.surroundings.place();
            NoStart::Refused(Error::spawn(format!("the worker process `{name}`{place}"), error))
        };
        // It was not so when the pool was built. Its copy would not let us in.
        if sys::has_foreign_rights() {
            return Err(NoStart::Refused(Error::Setuid));
        }
        let (pid, ours, (call_reader, call_writer), (reply_reader, reply_writer), life) = {
            // Where descriptors cannot be made close-on-exec at once, no two spawns may overlap.
            static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
            let _lock = cfg!(target_vendor = "apple").then(|| ONE_AT_A_TIME.lock());
            let (ours, theirs) = UnixStream::pair().map_err(refused)?;
            let calls = io::pipe().map_err(refused)?;
            let replies = io::pipe().map_err(refused)?;
            let life = if entry::LIFELINE { Some(io::pipe().map_err(refused)?) } else { None };
            pipes::prepare(&calls.1).and_then(|()| pipes::prepare(&replies.0)).map_err(refused)?;
            let inode = invitation::socket_inode(&theirs).unwrap_or_default();
            let depth = entry::depth().saturating_add(1);
            let invitation = Invitation { depth, inode, host: std::process::id() };
            let mut command = Command::new(entry::executable());
            plan.surroundings.give_to(&mut command);
            let process = command
                .arg0(format!("{}: {name}", entry::program_name()))
                .env(invitation::VARIABLE, invitation.to_variable())
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .spawn()
                .map_err(|error| refused(entry::not_executed(error)))?;
            let pid = process.id();
            *slot.process.lock() = Some(Process { child: process, doomed: false });
            // Before it has a second thread.
            slot.pin.iter().for_each(|pin| pin.bind(Some(pid)));
            // Whoever said so before did not find this one; whoever says so after does.
            if plan.stopped.load(Ordering::Acquire) {
                slot.kill();
            }
            (pid, ours, calls, replies, life)
        };
        let (theirs, life) = life.unzip();
        let exit = Exit::of(pid);
        let incoming = BufReader::new(Incoming::new(reply_reader, exit.clone()));
        let outgoing = Outgoing::new(call_writer, exit.clone());
        let connection = Connection::new(incoming, outgoing, plan.terms.max_message_bytes);
        let (ear, mouth) = Ear::open(&plan.listener, &name, pid, slot);
        let (slot_of_it, started) = (Arc::clone(slot), Instant::now());
        let (page, resident, post, received) = (None, None, Post::of_host(ours), Received::default());
        let mut child = Child {
            pid,
            connection,
            page,
            post,
            received,
            desk: None,
            ear,
            slot: slot_of_it,
            _life: life,
            exit,
            started,
            was_sent: false,
            served: 0,
            worker: Arc::new(WorkerInfo { name: name.clone(), number, pid: Some(pid) }),
            is_announced: false,
            is_used_up: false,
            is_leaving: false,
            is_ready: false,
            resident,
        };
        if plan.max_memory_per_child.is_some() {
            child.resident = Some(Resident::of(pid).map_err(refused)?);
        }

        // Without it the pipes do.
        let page = Lanes::new().ok();
        let mut ends = vec![call_reader.as_fd(), reply_writer.as_fd()];
        ends.extend(theirs.iter().map(|life| life.as_fd()));
        ends.extend(page.iter().map(|(_, file)| file.as_fd()));
        ends.extend(mouth.iter().map(|mouth| mouth.as_fd()));
        let hello = plan.terms.encode(&Hello { identity: entry::identity(), pid: std::process::id() });
        let greeted = child.post.hand_over(&hello, &ends);
        // Now the worker's ends are the worker's alone: if it dies, we see the end of the file.
        drop((call_reader, reply_writer, theirs, mouth));
        let greeted = greeted.map_err(WireError::from).and_then(|()| child.greet(plan.start_timeout));
        match greeted {
            Ok(None) => {
                let lanes = page.map(|(lanes, _)| lanes).filter(Lanes::is_attached);
                let (account, started) = (&slot.account, child.started);
                if slot.processes.fetch_add(1, Ordering::Relaxed) > 0 {
                    account.replaced.fetch_add(1, Ordering::Relaxed);
                }
                account.tell(started, What::WorkerSpawned { worker: &child.worker });
                plan.hooks.tell_of_start(&child.worker);
                // What nobody will ask for must not pile up.
                child.is_announced = plan.hooks.on_exit.is_some() || account.is_observed();
                let mut child = child.initialise(plan)?;
                account.tell_now(What::WorkerReady { worker: &child.worker });
                child.is_ready = true;
                child.page = lanes.map(HostsEnd::new);
                Ok(child)
            }
            Ok(Some(refusal)) => {
                child.bury();
                Err(NoStart::Never(Error::broken(
                    format!("the worker process `{name}` refused to work: {refusal}"),
                    None,
                )))
            }
            Err(error) => {
                let late = matches!(&error, WireError::Io(error) if error.kind() == io::ErrorKind::TimedOut);
                // One that has closed its pipe is ending by itself, and tells how.
                let is_ending = matches!(error, WireError::Closed | WireError::Truncated { .. });
                if !is_ending {
                    slot.kill();
                }
                let how = match child.bury() {
                    _ if late => {
                        format!("did not say Hello within {:?}", plan.start_timeout.unwrap_or(HANDSHAKE))
                    }
                    Some((status, _)) if is_ending => format!("ended before it said Hello ({status})"),
                    _ => format!("could not be greeted: {error}"),
                };
                Err(NoStart::Died(Error::broken(
                    format!(
                        "the worker process `{name}` {how}; \
                         `concurrent_futures::init();` must be the first line of `main`"
                    ),
                    None,
                )))
            }
        }
    }

    /// Waits for the worker's Hello. `Some`: it refuses, and says why.
    fn greet(&mut self, limit: Option<Duration>) -> Result<Option<String>, WireError> {
        self.connection.reader_mut().get_mut().deadline = deadline_after(limit.unwrap_or(HANDSHAKE));
        let received = self.connection.receive()?;
        self.connection.reader_mut().get_mut().deadline = None;
        match received {
            Some((Kind::Hello, _)) => {
                let hello = Hello::decode(self.connection.payload())?;
                let same = hello.identity == entry::identity();
                Ok((!same).then(|| "it is another build of this program; was the file replaced?".into()))
            }
            Some((Kind::Refusal, _)) => match Failure::decode(Kind::Refusal, self.connection.payload())? {
                Failure::Refused { reason } => Ok(Some(reason)),
                other => Ok(Some(format!("{other:?}"))),
            },
            Some((kind, _)) => Err(WireError::Unexpected { kind, wanted: "a Hello" }),
            None => Err(WireError::Closed),
        }
    }

    /// Runs the user's initializer in the worker, if there is one.
    fn initialise(mut self, plan: &Plan) -> Result<Child, NoStart> {
        let Some(initializer) = &plan.initializer else { return Ok(self) };
        let task = initializer.task;
        let limit = plan.start_timeout;
        let sent = self.send_initializer(initializer, limit);
        let deadline = limit.and_then(deadline_after);
        let heard = sent.map_or_else(
            |heard| heard,
            |()| loop {
                match self.hear_from_pipe(deadline) {
                    // Nobody can listen to that.
                    Heard::Progress(_) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
                    Heard::Progress(_) => break Heard::Late,
                    heard => break heard,
                }
            },
        );
        match heard {
            Heard::Reply { id, .. } if id != task.id.get() => {
                self.bury();
                Err(NoStart::Died(Error::broken("a worker process answered another call", None)))
            }
            Heard::Reply { failure: None, .. } => Ok(self),
            Heard::Reply { failure: Some(failure), .. } => {
                let cause = outcome::arrived(task, failure);
                self.leave(plan);
                let reason = format!("the pool is broken: its initializer failed: {cause}");
                Err(NoStart::Never(Error::broken(reason, Some(cause))))
            }
            Heard::Nonsense(error) => {
                self.bury();
                Err(NoStart::Died(Error::broken(format!("a worker process talked nonsense: {error}"), None)))
            }
            Heard::Unsent(error) => {
                self.bury();
                Err(NoStart::Refused(Error::spawn(format!("what goes beside the argument of {task}"), error)))
            }
            Heard::Late => {
                let pid = self.pid;
                self.dismiss();
                Err(NoStart::Died(overran(task, pid, limit.unwrap_or_default())))
            }
            Heard::Pipe | Heard::Gone | Heard::Progress(_) => {
                Err(NoStart::Died(self.post_mortem(plan).of(task, 1)))
            }
        }
    }

    /// Sends a call that is none of the queue's, through the pipe, with what goes beside it.
    fn send_initializer(&mut self, call: &Initializer, limit: Option<Duration>) -> Result<(), Heard> {
        self.enclose(call.task.id.get(), &call.enclosed, limit)?;
        self.post_in_pipe(call.frame.pieces(), limit)
    }

    /// Returns when all is told that its calls have logged so far, as it says.
    pub(super) fn catch_up(&self) {
        if self.has_logged() {
            self.ear.catch_up();
        }
    }

    /// Has it logged anything that was not told so far?
    pub(super) fn has_logged(&self) -> bool {
        let page = self.page.as_ref();
        page.is_none_or(|page| self.ear.is_behind(page.lanes.remarks().events()))
    }

    /// Has it grown beyond that? One of which this cannot be told is not trusted.
    pub(super) fn exceeds(&self, bytes: usize) -> bool {
        let resident = self.resident.as_ref();
        resident.is_some_and(|resident| resident.bytes().map_or(true, |now| now > bytes))
    }

    /// Ends it in good order: it flushes its output and runs its exit handlers.
    pub(super) fn leave(mut self, plan: &Plan) {
        self.finalise(plan);
        self.is_leaving = true;
        let _ = self.connection.send(&frame::whole(Kind::Bye, 0, &[]));
        // The pipes stay open meanwhile: their end would make it kill itself at once.
        self.bury();
    }

    /// Runs the user's finalizer in the worker, if there is one. One that takes longer than the time of grace is the end
    /// of its worker; whatever else becomes of it changes nothing.
    fn finalise(&mut self, plan: &Plan) {
        // Who ends all at once says so before any of them can hear that the pool is shut down.
        let is_to_end = self.slot.is_doomed() || plan.stopped.load(Ordering::Acquire);
        let is_asked = self.is_ready && !self.slot.grace.is_zero() && !is_to_end;
        let Some(finalizer) = plan.finalizer.as_ref().filter(|_| is_asked) else { return };
        let task = finalizer.task;
        let deadline = deadline_after(self.slot.grace);
        if self.send_initializer(finalizer, Some(self.slot.grace)).is_err() {
            return;
        }
        self.connection.reader_mut().get_mut().deadline = deadline;
        let received = loop {
            match self.connection.receive() {
                Ok(Some((Kind::Bell | Kind::Progress, _)))
                    if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
                received => break received,
            }
        };
        self.connection.reader_mut().get_mut().deadline = None;
        let error = match received {
            Ok(Some((Kind::Failed, id))) if id == task.id.get() => {
                match Failure::decode(Kind::Failed, self.connection.payload()) {
                    Ok(failure) => outcome::arrived(task, failure),
                    Err(_) => return,
                }
            }
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::TimedOut => {
                self.slot.kill();
                overran(task, self.pid, self.slot.grace)
            }
            _ => return,
        };
        unread::report(Some(&error));
    }

    /// Asks it to end, and makes it when the time of grace is over.
    pub(super) fn dismiss(&mut self) {
        self.slot.ask_to_end();
        self.bury();
    }

    /// Buries it, and says how it died.
    pub(super) fn post_mortem(&mut self, plan: &Plan) -> PostMortem {
        let was_asked = self.slot.is_doomed();
        let (status, peak_memory) = self.bury().map_or((None, None), |(status, peak)| (Some(status), peak));
        let probable_cause = if was_asked {
            None
        } else {
            deaths::probable_cause(status, self.started, plan.terms.memory_limit)
        };
        PostMortem { pid: self.pid, status, peak_memory, probable_cause }
    }

    /// Buries one that is not to live on after it was idle, and says what became of it there.
    pub(super) fn idle_end(mut self) -> Error {
        let pid = self.pid;
        // One that has not ended by itself has closed its pipe, or spoken: it is not worth waiting for.
        let has_ended = self.exit.wait(Duration::ZERO);
        self.slot.kill();
        let how = match self.bury() {
            Some((status, _)) if has_ended => format!("died while it was idle ({status})"),
            _ => "hung up or spoke while it was idle, and was killed".into(),
        };
        Error::broken(format!("the worker process {pid} {how}"), None)
    }

    /// Waits for the end of a process that is ending, for a while; then kills it. Returns how it ended, and
    /// its peak memory where that is known.
    pub(super) fn bury(&mut self) -> Option<(ExitStatus, Option<u64>)> {
        if !self.exit.wait(self.slot.grace) {
            self.slot.kill();
        }
        // It is dead or dying: this does not block for long, and nobody can kill a stranger,
        // because the number is free only after this.
        let end = {
            let mut process = self.slot.process.lock();
            process.take().and_then(|process| sys::reap(process.child.id()))
        };
        // What it had in hand is given back before anybody hears of its end.
        self.desk.take().into_iter().for_each(|desk| desk.close(self.slot.grace));
        self.ear.catch_up();
        if std::mem::take(&mut self.is_announced) {
            let why = match (self.is_leaving, self.is_used_up) {
                (true, true) => Why::UsedUp,
                (true, false) => Why::Left,
                (false, _) => Why::Died,
            };
            let (worker, status) = (Arc::clone(&self.worker), end.map(|(status, _)| status));
            self.slot.departures.note(Departure { worker, status, why });
        }
        end
    }
}

/// The error of a call that took too long.
pub(super) fn overran(task: TaskRef, pid: u32, limit: Duration) -> Error {
    Error::TimedOut { what: format!("{task}, stopped with its worker process {pid},"), limit }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.slot.pid().is_some() {
            self.slot.kill();
            self.bury();
        }
    }
}

/// How a worker died.
pub(super) struct PostMortem {
    pid: u32,
    status: Option<ExitStatus>,
    peak_memory: Option<u64>,
    probable_cause: Option<String>,
}

impl PostMortem {
    /// The error of a call that died with it.
    pub(super) fn of(&self, task: TaskRef, attempt: u32) -> Error {
        let PostMortem { pid, status, peak_memory, ref probable_cause } = *self;
        Error::WorkerDied { task, pid, status, attempt, peak_memory, probable_cause: probable_cause.clone() }
    }

    /// The error of its worker, if no call died with it.
    pub(super) fn of_nobody(&self) -> Error {
        let how = self.status.map_or_else(String::new, |status| format!(" ({status})"));
        Error::broken(format!("the worker process {} died while it was idle{how}", self.pid), None)
    }
}
