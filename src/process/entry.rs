//! The worker's side: [`init`], until it serves calls (`service.rs`).
//!
//! A worker never returns from `init`. It keeps the user's stdout and stderr, has `/dev/null` as
//! its stdin, and its pipes are close-on-exec: whatever a task prints or starts cannot disturb
//! the protocol. The end of the host is the end of the process, also in the middle of a call. On Linux the kernel sees
//! to it, for whom the worker does not have to run: in two ways, because either can be in vain (a task makes the
//! kernel forget the one, a fork of the host keeps open what the other waits for). Elsewhere a thread watches.

use std::ffi::CString;
#[cfg(target_os = "linux")]
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::OwnedFd;
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::ear;
use super::host::Host;
use super::invitation::{Invitation, socket_inode};
use super::lanes::Lanes;
use super::pipes::{Calls, Replies};
use super::post::Post;
use super::service::Service;
use super::{sys, terms};
use crate::primitives::{AtomicBool, Ordering};
use crate::wire::connection::Connection;
use crate::wire::frame::{self, Kind, WireError};
use crate::wire::message::{Failure, Hello, LONGEST_TERMS, Terms};
use crate::{outcome, portable, signals};

/// Is a worker handed a pipe through which nothing comes, whose end the kernel takes for its own?
pub(super) const LIFELINE: bool = cfg!(any(target_os = "linux", target_os = "android"));

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Makes worker processes possible. Call it on the first line of `main`.
///
/// Worker processes are copies of this program. In one of them `init` does not return: it serves
/// the calls that the host sends, then ends the process. In the program that the user started
/// it returns at once. Everything before it runs in every worker too, so put nothing there. In a
/// test binary, which has no `main` of its own, use [`init_tests!`](crate::init_tests).
///
/// Without it [`ProcessPoolExecutor::new`](crate::ProcessPoolExecutor::new) returns
/// [`Error::NotInitialised`](crate::Error::NotInitialised). Calling it again does nothing.
///
/// ```
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();
///     let pool = concurrent_futures::ProcessPoolExecutor::new(2)?;
///     # drop(pool);
///     // …
///     Ok(())
/// }
/// ```
pub fn init() {
    if INITIALISED.load(Ordering::Acquire) {
        return;
    }
    file_at_start();
    let is_invited = |invitation: &Invitation| invitation.is_for_us() && !sys::has_foreign_rights();
    if let Some(invitation) = Invitation::of_this_process().filter(is_invited) {
        INITIALISED.store(true, Ordering::Release);
        let status = match work(invitation) {
            Ok(()) => 0,
            // As Rust programs end that get no memory: here it was for the argument of a call.
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::OutOfMemory => std::process::abort(),
            // Nobody is there to be told.
            Err(_) => 1,
        };
        std::process::exit(status);
    }
    // The file can be replaced under a running program; what counts is what it was.
    identity();
    INITIALISED.store(true, Ordering::Release);
}

pub(super) fn is_initialised() -> bool {
    INITIALISED.load(Ordering::Acquire)
}

/// How many pools this process is a worker in, one inside the other.
pub(super) fn depth() -> u32 {
    Invitation::of_this_process().map_or(0, |invitation| invitation.depth)
}

/// What to execute for another copy of this program. On Linux, where `/proc` is mounted, the very
/// file that runs, even if it has been replaced or deleted since; otherwise what is now where it
/// was when [`init`] ran. Should that be another build, the handshake finds it out.
pub(super) fn executable() -> &'static Path {
    let ourselves = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && ourselves.exists() { ourselves } else { file_at_start() }
}

/// What the system said when it did not execute this program, with the file if that is gone.
pub(super) fn not_executed(error: io::Error) -> io::Error {
    let file = executable();
    if file.exists() {
        return error;
    }
    let reason = format!("the file of this program, {}, is gone, and so is /proc: {error}", file.display());
    io::Error::new(error.kind(), reason)
}

/// The path of this program's file when this was first asked, in [`init`]: it may be relative to
/// the working directory of that moment.
fn file_at_start() -> &'static Path {
    static AT_START: OnceLock<PathBuf> = OnceLock::new();
    AT_START.get_or_init(|| {
        let asked = std::env::current_exe();
        #[cfg(target_os = "linux")]
        let asked = asked.or_else(|_| {
            // What the kernel was told to execute; it notes it where no mount can hide it.
            std::path::absolute(OsStr::from_bytes(rustix::param::linux_execfn().to_bytes()))
        });
        asked.unwrap_or_default()
    })
}

/// What `ps` shows of workers begins with it.
pub(super) fn program_name() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    // In a worker: "program: pool_0".
    name.split(':').next().unwrap_or_default().to_owned()
}

/// What this worker is called: what `ps` shows of it, without the name of the program.
fn worker_name() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    program.to_string_lossy().split_once(": ").map(|(_, name)| name.to_owned()).unwrap_or_default()
}

/// What the two sides of a handshake must have in common: the build of the binary.
pub(super) fn identity() -> u128 {
    static IDENTITY: OnceLock<u128> = OnceLock::new();
    *IDENTITY.get_or_init(|| portable::identity(executable()))
}

/// The life of a worker.
fn work(invitation: Invitation) -> Result<(), WireError> {
    be_killed_with_the_host();
    if invitation.is_void() {
        // It died before the kernel knew of our wish.
        return Ok(());
    }
    // Before all else that could read, so that nothing takes our stdin for the user's.
    let socket = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(empty_input()?).map_err(io::Error::from)?;
    sys::settle_signals();
    if let Ok(name) = CString::new(program_name()) {
        // `ps` would show "exe", after the path that was executed.
        let _ = rustix::thread::set_name(&name);
    }
    outcome::quieten();

    let post = Post::of_worker(socket);
    let (host, terms, Ends { calls, replies, life, page, mouth }) = be_handed(&post)?;
    // Before there is a second thread.
    let refused = terms::accept(&terms).err();
    // Once more, because a change of user has undone it.
    be_killed_with_the_host();
    let is_watched = life.as_ref().is_some_and(sys::be_killed_at_the_end_of);
    if invitation.is_void() || life.as_ref().is_some_and(has_ended) {
        return Ok(());
    }
    std::mem::forget(life);
    let replies: &'static PipeWriter = Box::leak(Box::new(replies));
    let calls: &'static PipeReader = Box::leak(Box::new(calls));
    let mut connection =
        Connection::new(io::BufReader::new(Calls(calls)), Replies::new(replies), terms.max_message_bytes);
    if let Some(reason) = refused {
        return connection.send(&Failure::Refused { reason }.encode(Kind::Refusal, 0));
    }
    if !is_watched {
        let builder = std::thread::Builder::new().name("host watch".into()).stack_size(64 << 10);
        builder.spawn(|| die_with_the_host(calls))?;
    }
    if host.identity != identity() {
        let reason = "it is another build of this program than its host; was the file replaced?".into();
        return connection.send(&Failure::Refused { reason }.encode(Kind::Refusal, 0));
    }
    let lanes = page.and_then(|page| Lanes::of(&page).ok()).map(Arc::new);
    lanes.iter().for_each(|lanes| lanes.attach());
    mouth.into_iter().for_each(|mouth| ear::speak(mouth, lanes.clone()));
    signals::work_for(Host::new(lanes.clone(), replies, worker_name()));
    connection.send(&Hello { identity: identity(), pid: std::process::id() }.encode())?;
    Service::new(connection, lanes, post).serve()
}

/// An input that is at its end.
fn empty_input() -> io::Result<OwnedFd> {
    match File::open("/dev/null") {
        Ok(null) => Ok(null.into()),
        // A chroot without devices.
        Err(_) => io::pipe().map(|(reader, _)| reader.into()),
    }
}

/// Our ends of what we share with the host.
struct Ends {
    calls: PipeReader,
    replies: PipeWriter,
    /// Nothing comes through it. Its end is the end of the host. Where no kernel would tell, there is none.
    life: Option<PipeReader>,
    page: Option<OwnedFd>,
    /// Where the host listens to what calls log.
    mouth: Option<OwnedFd>,
}

/// Takes the host's Hello, our terms, and our ends.
fn be_handed(post: &Post) -> Result<(Hello, Terms, Ends), WireError> {
    let mut bytes = [0; 256];
    let (received, fds) = post.be_handed(&mut bytes)?;
    let mut fds = fds.into_iter();
    let (Some(calls), Some(replies)) = (fds.next(), fds.next()) else {
        return Err(WireError::NotOurs);
    };
    let life = if LIFELINE { fds.next() } else { None };
    // Each of them may be missing.
    let (mouths, pages): (Vec<_>, Vec<_>) = fds.partition(|fd| socket_inode(fd).is_some());
    let (mouth, page) = (mouths.into_iter().next(), pages.into_iter().next());
    let mut rest = bytes[..received].chain(post.socket());
    let mut payload = Vec::new();
    match frame::read_into(&mut rest, &mut payload, LONGEST_TERMS)? {
        Some((Kind::Hello, _)) => {
            let (host, terms) = Terms::decode(&payload)?;
            let (calls, replies, life) = (calls.into(), replies.into(), life.map(Into::into));
            Ok((host, terms, Ends { calls, replies, life, page, mouth }))
        }
        Some((kind, _)) => Err(WireError::Unexpected { kind, wanted: "a Hello" }),
        None => Err(WireError::Closed),
    }
}

/// Asks the kernel to kill this process at the end of the host: also one that is stopped, and so
/// cannot watch for it itself, and also while a fork of the host holds its ends of our pipes.
///
/// What the kernel waits for is the end of the *thread* that started us. That is right here: a
/// worker is started, owned and buried by one thread of its pool, the one that made its
/// `ProcessContext` and drops it before it ends, on every way out (`pool/mod.rs`, `work`). So that
/// thread ends before its child does only with the whole host.
///
/// Whether the host had died before is to be asked after this. A change of user or group makes the
/// kernel forget: whoever drops privileges does so before.
fn be_killed_with_the_host() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}

/// Is there nobody at the other end any more?
fn has_ended(life: &PipeReader) -> bool {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(life, PollFlags::empty())];
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Sleeps until the other end of the pipe is closed, which only the end of the host does; then
/// ends this process, whatever it is doing. Data in the pipe does not wake it.
fn die_with_the_host(calls: &PipeReader) {
    loop {
        let mut fds = [PollFd::new(calls, PollFlags::empty())];
        match poll(&mut fds, None) {
            Ok(_) if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    // Exit handlers could wait for the very call that runs.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}
