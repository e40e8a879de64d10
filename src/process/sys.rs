//! Signals of the two sides. The one file of the engine with unsafe code.

#![allow(unsafe_code)]

use std::ffi::c_int;
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
