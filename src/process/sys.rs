//! Signals of the two sides, the rights of a process, and how a worker ended. With `page.rs` the one file of the
//! engine with unsafe code.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io::{self, PipeReader};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;

extern "C" fn nothing(_signal: c_int) {}

/// Leaves Ctrl-C to the host, and makes a closed pipe an error as in every Rust program.
///
/// An empty handler, not "ignore": what is ignored stays ignored in programs that a task starts,
/// a handler does not. And a worker may begin before the standard library has set SIGPIPE
/// (`init_tests!`).
pub(super) fn settle_signals() {
    // SAFETY: all zero is a valid `sigaction` (no flags, default action, no restorer).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(c_int) as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the mask and the action are ours and valid for the time of the calls; the handler
    // does nothing, which is safe in a signal; ignoring SIGPIPE installs no code at all.
    unsafe {
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGINT, &raw const action, ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
    // The thread that started us may have blocked it.
    mask_sigpipe(libc::SIG_UNBLOCK);
}

/// Makes a closed pipe an error for this thread, in a program that would die of it: one that
/// Rust's `main` did not start, or that asked for it. The rest of the program stays as it is.
pub(super) fn survive_sigpipe() {
    if !sigpipe_is_seen_to() {
        mask_sigpipe(libc::SIG_BLOCK);
    }
}

/// Would this program live on, whichever of its threads writes to a closed pipe?
pub(super) fn sigpipe_is_seen_to() -> bool {
    // SAFETY: all zero is a valid `sigaction`; a null pointer asks for the present one.
    let present = unsafe {
        let mut present: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, ptr::null(), &raw mut present);
        present
    };
    present.sa_sigaction != libc::SIG_DFL
}

/// Blocks SIGPIPE for this thread, or lets it through.
fn mask_sigpipe(how: c_int) {
    // SAFETY: all zero is a valid signal set, which `sigemptyset` then makes empty; the set is
    // ours and valid for the time of the calls, which change the mask of this thread alone.
    unsafe {
        let mut pipe: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut pipe);
        libc::sigaddset(&raw mut pipe, libc::SIGPIPE);
        libc::pthread_sigmask(how, &raw const pipe, ptr::null_mut());
    }
}

/// Has the kernel kill this process when the other end of that pipe is closed, by the end of whoever holds it or
/// otherwise; or when something comes through it. True if it will. That it is closed already is to be asked after this.
///
/// `fcntl(2)`: a descriptor with `O_ASYNC` sends its owner the signal of its choice when it becomes readable.
pub(super) fn be_killed_at_the_end_of(pipe: &PipeReader) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        /// The same on every architecture (`asm-generic/fcntl.h`).
        const F_SETSIG: c_int = 10;
        let fd = pipe.as_raw_fd();
        // SAFETY: system calls with numbers, about a descriptor that is open for their time.
        unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            flags >= 0
                && libc::fcntl(fd, F_SETSIG, libc::SIGKILL) == 0
                && libc::fcntl(fd, libc::F_SETOWN, libc::getpid()) == 0
                && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC) == 0
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = pipe;
        false
    }
}

/// Waits for a child that nobody has waited for, and says how it ended and how much memory it had at the
/// most, in bytes, if more than this process ever had: the kernel counts from before the child's program
/// began, when it still shared our memory.
pub(super) fn reap(pid: u32) -> Option<(ExitStatus, Option<u64>)> {
    let mut status = 0;
    // SAFETY: all zero is a valid `rusage`: numbers.
    let (mut its, mut ours): (libc::rusage, libc::rusage) = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: the two pointers are to variables of ours of the right types, valid for the time of the call.
        let reaped = unsafe { libc::wait4(pid as libc::pid_t, &raw mut status, 0, &raw mut its) };
        if reaped >= 0 {
            break;
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
    // SAFETY: as above.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut ours) };
    let is_its_own = its.ru_maxrss > ours.ru_maxrss;
    let peak = is_its_own.then(|| u64::try_from(its.ru_maxrss).unwrap_or(0).saturating_mul(UNIT_OF_MAXRSS));
    Some((ExitStatus::from_raw(status), peak))
}

/// `getrusage(2)`: kilobytes; on macOS bytes.
const UNIT_OF_MAXRSS: u64 = if cfg!(target_vendor = "apple") { 1 } else { 1024 };

/// Has this program other rights than whoever started it (setuid, setgid, capabilities of its file),
/// or would a copy of it have? Then its environment and its descriptors are of a stranger's choice.
pub(crate) fn has_foreign_rights() -> bool {
    use rustix::process::{getegid, geteuid, getgid, getuid};
    // SAFETY: it takes a number and reads what the kernel told this process when it began.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let told = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    // SAFETY: it takes nothing and changes nothing.
    #[cfg(any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly"
    ))]
    let told = unsafe { libc::issetugid() } != 0;
    #[cfg(not(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "dragonfly"
    )))]
    let told = false;
    told || getuid() != geteuid() || getgid() != getegid()
}

/// Sets the supplementary groups of this process, all threads of it.
pub(super) fn set_groups(groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: so many numbers lie there, and the call reads them only. (Systems differ in the type
    // of their number.)
    told(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) })
}

/// Makes this process, all threads of it, that group's: where it may, real, effective and saved.
pub(super) fn set_gid(gid: libc::gid_t) -> io::Result<()> {
    // SAFETY: it takes a number, and changes no memory.
    told(unsafe { libc::setgid(gid) })
}

/// Makes this process, all threads of it, that user's: where it may, real, effective and saved.
pub(super) fn set_uid(uid: libc::uid_t) -> io::Result<()> {
    // SAFETY: it takes a number, and changes no memory.
    told(unsafe { libc::setuid(uid) })
}

fn told(status: c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
