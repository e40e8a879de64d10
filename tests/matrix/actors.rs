//! What runs in the workers: calls, conversions, exit handlers and signal handlers in which the ordered
//! fault comes at the ordered moment.
//!
//! Not here: what the host does meanwhile (`scenes.rs`), what must come of it (`table.rs`).
//! The rule: a fault notes its process first, so that the test knows whose it was, and that it was at all.

use std::ffi::{CString, c_int};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::faults_common::*;
use crate::table::{Fault, Moment};

/// 64 MiB.
pub(crate) const LARGE: usize = 64 << 20;

/// What is on the way of it when a fault comes. A pipe holds 64 KiB.
const PART: u64 = 16 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) moment: Moment,
    pub(crate) fault: Fault,
    /// Where the victim notes its process.
    pub(crate) note: String,
}

impl Orders {
    fn strike(&self) -> Result<(), String> {
        Life::note(&self.note);
        blank(2); // its last words are for nobody
        self.fault.strike()
    }

    /// In the host: the process in which the fault was. It was there once.
    #[track_caller]
    pub(crate) fn victim(&self) -> Life {
        let noted = Life::noted(&self.note);
        assert_eq!(noted.len(), 1, "how often it came to it: {noted:?}");
        noted[0]
    }

    fn strike_if(&self, is_the_moment: bool) -> Result<(), String> {
        if is_the_moment { self.strike() } else { Ok(()) }
    }
}

// ---- A call ----------------------------------------------------------------------------------

/// Only workers decode it.
#[derive(Serialize)]
pub(crate) struct Argument(pub(crate) Orders);

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let orders = Orders::deserialize(deserializer)?;
        orders.strike_if(orders.moment == Moment::Decode).map_err(D::Error::custom)?;
        Ok(Argument(orders))
    }
}

/// Only workers encode it.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) pid: u32,
    _orders: Orders,
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self._orders.strike_if(self._orders.moment == Moment::Encode).map_err(S::Error::custom)?;
        (self.pid, &self._orders).serialize(serializer)
    }
}

pub(crate) fn the_victim(Argument(orders): Argument) -> Result<Answer, String> {
    orders.strike_if(orders.moment.is_in_the_function())?;
    if orders.moment == Moment::HalfReply {
        let announced = if orders.fault == Fault::Error { 40 } else { 8 << 20 };
        scribble(&header(announced, kind::RETURNED, 0));
        scribble(&[b'x'; 100_000][..usize::try_from(announced / 2).unwrap().min(100_000)]);
        orders.strike()?;
    }
    Ok(Answer { pid: std::process::id(), _orders: orders })
}

// ---- An exit handler -------------------------------------------------------------------------

static LAST_ORDERS: OnceLock<Orders> = OnceLock::new();

/// A panic does not get out of a function of C: it aborts.
extern "C" fn at_exit() {
    let orders = LAST_ORDERS.get().unwrap();
    Life::note(&orders.note);
    blank(2);
    no_core_dump();
    // SAFETY: it ends the process. (`exit` may not be called in here.)
    let leave = |status| unsafe { libc::_exit(status) };
    match orders.fault {
        Fault::Error => leave(9),
        Fault::Of(Death::ExitZero) => leave(0),
        Fault::Of(Death::ExitThree) => leave(3),
        Fault::Of(death) => death.die(),
    }
}

/// A call: its worker will come to grief when it leaves.
pub(crate) fn plan_exit(orders: Orders) -> u32 {
    LAST_ORDERS.set(orders).unwrap();
    // SAFETY: the handler is a function of the program and needs nothing.
    assert_eq!(unsafe { libc::atexit(at_exit) }, 0);
    std::process::id()
}

// ---- An ambush -------------------------------------------------------------------------------

/// Something that is to happen in the thread that serves, while it serves: a handler of SIGIO. Who sends the
/// signal is a thread at a gate or, where it depends on how far the serving thread is with its message, the
/// kernel: it tells a thread of each step on a pipe, if asked to, and the thread hears of its own steps at once.
/// So the fault is in the middle of the message, on a machine of any speed.
struct Ambush {
    act: Act,
    /// Bytes to be read or written by this thread before, and a descriptor to be closed then.
    progress: Option<(&'static str, u64, AtomicI32)>,
    is_over: AtomicBool,
}

enum Act {
    Strike(Orders),
    WaitAt(String),
}

static AMBUSH: OnceLock<Ambush> = OnceLock::new();

/// The thread that it comes to is in a `read` or `write` of its own, so nothing is locked or half done.
extern "C" fn ambush(_signal: c_int) {
    let Some(Ambush { act, progress, is_over }) = AMBUSH.get() else { return };
    if is_over.load(Ordering::SeqCst) {
        return;
    }
    if let Some((what, bytes, fd)) = progress {
        let now = bytes_of_this_thread(what);
        if now < *bytes {
            return;
        }
        assert!(now - *bytes < LARGE as u64 - PART, "the message has passed");
        // SAFETY: it is ours alone, and is closed once.
        assert_eq!(unsafe { libc::close(fd.load(Ordering::SeqCst)) }, 0);
    }
    is_over.store(true, Ordering::SeqCst);
    match act {
        Act::WaitAt(gate) => drop(attend(gate)),
        Act::Strike(orders) if orders.fault.is_of_a_thread() => {
            let thread = std::thread::spawn(|| orders.strike());
            while !thread.is_finished() {
                std::thread::yield_now();
            }
            // Nobody looks at its end, which for a bomb is the end of all.
            drop(thread);
        }
        Act::Strike(orders) => orders.strike().unwrap(),
    }
}

/// `rchar` or `wchar`: what this thread has read or written in its life.
fn bytes_of_this_thread(what: &str) -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let count = counts.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
    count.unwrap().parse().unwrap()
}

/// Lies in ambush for this thread.
fn lie_in_wait(act: Act, progress: Option<(&'static str, u64, AtomicI32)>) {
    let laid = AMBUSH.set(Ambush { act, progress, is_over: AtomicBool::new(false) });
    assert!(laid.is_ok(), "one worker, one ambush");
    // SAFETY: all zero is a valid `sigaction`; the handler is a function of the program.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ambush as extern "C" fn(c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGIO, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// When this thread has read or written that much more on the pipe `fd` of its own: `what` is as above.
fn lie_in_wait_on_the_way(act: Act, what: &'static str, fd: i32) {
    #[repr(C)]
    struct Owner {
        kind: c_int,
        id: libc::pid_t,
    }
    const F_SETOWN_EX: c_int = 15;
    const F_OWNER_TID: c_int = 0;
    // Of the other end: each step on this one is news for it.
    let mode = if what == "rchar" { libc::O_WRONLY } else { libc::O_RDONLY };
    let path = CString::new(format!("/proc/self/fd/{fd}")).unwrap();
    // SAFETY: the path and the owner are ours and valid for the time of the calls.
    let other = unsafe {
        let other = libc::open(path.as_ptr(), mode | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let owner = Owner { kind: F_OWNER_TID, id: libc::gettid() };
        assert_eq!(libc::fcntl(other, F_SETOWN_EX, &raw const owner), 0);
        other
    };
    lie_in_wait(act, Some((what, bytes_of_this_thread(what) + PART, AtomicI32::new(other))));
    // SAFETY: the descriptor is open, and the handler is in place.
    assert_eq!(unsafe { libc::fcntl(other, libc::F_SETFL, libc::O_NONBLOCK | libc::O_ASYNC) }, 0);
}

/// A call: the fault comes when the test opens the gate, in a worker that is idle.
pub(crate) fn ambush_when_idle((orders, gate): (Orders, String)) -> u32 {
    lie_in_wait(Act::Strike(orders), None);
    // SAFETY: without a precondition.
    let this_thread = unsafe { libc::pthread_self() };
    std::thread::spawn(move || {
        attend(&gate);
        // SAFETY: the thread that serves lives as long as the process.
        assert_eq!(unsafe { libc::pthread_kill(this_thread, libc::SIGIO) }, 0);
    });
    std::process::id()
}

/// A call: the fault comes while the next one, a large one, arrives.
pub(crate) fn ambush_when_called(orders: Orders) -> u32 {
    lie_in_wait_on_the_way(Act::Strike(orders), "rchar", pipe_from_host());
    std::process::id()
}

/// A call with a large argument.
pub(crate) fn the_called(blob: Blob) -> u32 {
    assert!(blob == Blob::new(LARGE));
    std::process::id()
}

/// A call with a large return value; the fault comes while it is on its way.
pub(crate) fn the_sender(orders: Orders) -> (u32, Blob) {
    let reply = (std::process::id(), Blob::new(LARGE));
    lie_in_wait_on_the_way(Act::Strike(orders), "wchar", pipe_to_host());
    reply
}

/// A call with a large return value; it waits at the gate while that is on its way.
pub(crate) fn the_other_sender(gate: String) -> (u32, Blob) {
    let reply = (std::process::id(), Blob::new(LARGE));
    lie_in_wait_on_the_way(Act::WaitAt(gate), "wchar", pipe_to_host());
    reply
}

// ---- Birth -----------------------------------------------------------------------------------

/// Runs in every process of this program before `init` does; a pool's `env` tells it what to do.
pub(crate) mod birth {
    use super::*;

    /// A file in which each worker notes itself.
    pub(crate) const LIVES: &str = "CF_TEST_LIVES";
    /// How it goes wrong.
    pub(crate) const FAULT: &str = "CF_TEST_FAULT";
    /// A file in which those note themselves that go wrong.
    pub(crate) const NOTE: &str = "CF_TEST_NOTE";
    /// A file that allows one of them to: whoever creates it.
    pub(crate) const ONCE: &str = "CF_TEST_ONCE";

    extern "C" fn before_init() {
        if let Ok(path) = std::env::var(LIVES) {
            Life::note(path);
        }
        let Ok(fault) = std::env::var(FAULT) else { return };
        let may = |path| std::fs::OpenOptions::new().write(true).create_new(true).open(path).is_ok();
        if !std::env::var(ONCE).map_or(true, may) {
            return;
        }
        Life::note(variable(NOTE));
        match Fault::all().find(|known| known.to_string() == fault).unwrap() {
            Fault::Error => talk_nonsense(),
            Fault::Of(death) => {
                blank(2);
                death.die()
            }
        }
    }

    /// Takes the pipes that the host hands over, says something that is no Hello, and waits for what comes.
    fn talk_nonsense() {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let mut words = [0; 4096];
        let mut room = [std::io::IoSliceMut::new(&mut words)];
        recvmsg(std::io::stdin(), &mut room, &mut rights, RecvFlags::CMSG_CLOEXEC).unwrap();
        let fds: Vec<_> = rights
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
                _ => Vec::new(),
            })
            .collect();
        rustix::io::write(&fds[1], &header(0, 99, 0)).unwrap();
        let _ = rustix::io::read(&fds[0], &mut words);
        std::process::exit(0); // the host has ended
    }

    #[used]
    #[unsafe(link_section = ".init_array.00100")] // `init_tests!` uses `.init_array`, which comes after
    static BEFORE_INIT: extern "C" fn() = before_init;
}
