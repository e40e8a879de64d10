//! Signals of the two sides, and the rights of a process. The one file of the engine with unsafe code.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
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
    // SAFETY: all zero is a valid `sigaction`; a null pointer asks for the present one.
    let present = unsafe {
        let mut present: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, ptr::null(), &raw mut present);
        present
    };
    if present.sa_sigaction == libc::SIG_DFL {
        mask_sigpipe(libc::SIG_BLOCK);
    }
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

/// Has this program other rights than whoever started it (setuid, setgid, capabilities of its file),
/// or would a copy of it have? Then its environment and its descriptors are of a stranger's choice.
pub(super) fn has_foreign_rights() -> bool {
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
