//! What a host stands on, and what becomes of its pools when that is not there or changes under it: the
//! file of its program, `/proc`, room to write, a working directory.
//!
//! Not here: what the system gives in numbers (`limits.rs`). All of it belongs to a whole process, so
//! each test plays in a process of its own, a role.

#![cfg(target_os = "linux")]
#![allow(unsafe_code)] // mounts

mod faults_common;

use std::error::Error as _;
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
use faults_common::*;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};

concurrent_futures::init_tests!();

roles! {
    "replaced" => replaced(),
    "without proc" => without_proc(),
    "born without proc" => born_without_proc(),
    "nobody to tell" => nobody_to_tell(),
    "no room" => no_room(),
}

fn pool(max_workers: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::new(max_workers).unwrap()
}

fn in_a_worker(n: u64) -> u64 {
    get(pool(1).submit(double, n)).unwrap()
}

/// The pool works; so does a worker that takes the place of one that dies, and a pool in a worker.
#[track_caller]
fn assert_works(pool: &ProcessPoolExecutor) {
    assert_eq!(get(pool.submit(double, 21)).unwrap(), 42);
    for pid in pool.worker_pids() {
        let worker = Observed::new(pid);
        worker.signal(Signal::KILL);
        worker.ends();
    }
    assert_eq!(get(pool.submit(double, 21)).unwrap(), 42);
    assert_eq!(get(pool.submit(in_a_worker, 21)).unwrap(), 42);
}

/// An error and its causes, as text.
fn in_full(error: &Error) -> String {
    let chain = std::iter::successors(error.source(), |&error| error.source());
    chain.fold(error.to_string(), |text, cause| format!("{text} ← {cause}"))
}

// ---- The file of the program -----------------------------------------------------------------

/// Another program where ours was, then none.
fn replaced() {
    let file = std::env::current_exe().unwrap();
    let before = pool(2);
    assert_works(&before);
    fs::rename(variable("OTHER"), &file).unwrap();
    let between = pool(2);
    [&before, &between].into_iter().for_each(assert_works);
    fs::remove_file(&file).unwrap();
    let after = pool(2);
    [&before, &between, &after].into_iter().for_each(assert_works);
}

/// A program that is not ours, beside our copy.
fn another_program(dir: &TempDir) -> String {
    let path = dir.path("other");
    let made = std::process::Command::new("cp").args(["/bin/true", &path]).status().unwrap();
    assert!(made.success());
    path
}

#[test]
fn a_program_whose_file_is_replaced_and_deleted_still_has_workers() {
    let _watchdog = Watchdog::new("a_program_whose_file_is_replaced_and_deleted_still_has_workers");
    let (dir, copy) = copy_of_this_program();
    let other = another_program(&dir);
    applause(role_of(&copy, "replaced").env("OTHER", other).spawn().unwrap());
}

// ---- /proc -----------------------------------------------------------------------------------

/// From here on what this thread mounts, it and those whom it starts see alone. False if it may not.
fn may_mount() -> bool {
    // SAFETY: both calls get numbers and pointers to text that is constant, or none.
    let denied = unsafe {
        libc::unshare(libc::CLONE_NEWNS) != 0
            || libc::mount(
                std::ptr::null(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) != 0
    };
    if denied {
        let error = std::io::Error::last_os_error();
        println!("not shown: workers without /proc, which needs the right to mount ({error})");
    }
    !denied
}

fn mount(what: &str, place: &str, kind: &std::ffi::CStr, flags: libc::c_ulong, options: &std::ffi::CStr) {
    let (what, place) = (CString::new(what).unwrap(), CString::new(place).unwrap());
    // SAFETY: all pointers lead to text that lives as long as the call.
    let mounted =
        unsafe { libc::mount(what.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    assert_eq!(mounted, 0, "{place:?}: {}", std::io::Error::last_os_error());
}

/// Where `/proc` was is an empty directory.
fn hide_proc(empty: &TempDir) {
    mount(&empty.path(""), "/proc", c"none", libc::MS_BIND, c"");
    assert_eq!(fs::read_dir("/proc").unwrap().count(), 0);
}

/// A program that is like ours, but for its mark of the build; if it has none, it is the file that counts.
fn another_build(file: &std::path::Path) -> Vec<u8> {
    let mut bytes = fs::read(file).unwrap();
    // The head of the note: the lengths of name and mark, the kind; the name.
    let head = [&4_u32.to_le_bytes()[..], &20_u32.to_le_bytes(), &3_u32.to_le_bytes(), b"GNU\0"].concat();
    if let Some(at) = bytes.windows(head.len()).position(|window| window == head) {
        bytes[at + head.len()] ^= 1;
    }
    bytes
}

fn without_proc() {
    let file = std::env::current_exe().unwrap();
    if !may_mount() {
        return;
    }
    let (before, idle) = (pool(2), pool(1));
    assert_works(&before);
    assert_eq!(get(idle.submit(double, 21)).unwrap(), 42);
    let empty = TempDir::new();
    hide_proc(&empty);

    // From the path.
    assert_works(&before);
    let after = pool(2);
    assert_works(&after);
    drop((before, after));
    let born = role_of("./copy", "born without proc").current_dir(file.parent().unwrap()).spawn().unwrap();
    applause(born);

    // What cannot be had without.
    let sparing =
        ProcessPoolExecutor::builder().max_workers(1).max_memory_per_child(1 << 30).build().unwrap();
    let error = in_full(&get(sparing.submit(double, 1)).unwrap_err());
    assert!(error.contains("`max_memory_per_child` needs /proc"), "{error}");

    // Another program at that path is not let in.
    let refusal = || match get(pool(1).submit(double, 1)) {
        Err(error @ Error::Broken { .. }) => in_full(&error),
        other => panic!("{other:?}"),
    };
    let other = another_build(&file);
    fs::remove_file(&file).unwrap();
    fs::write(&file, other).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = refusal();
    assert!(said.contains("it is another build of this program"), "{said}");
    fs::rename(variable("OTHER"), &file).unwrap();
    let said = refusal();
    assert!(said.contains("ended before it said Hello"), "{said}");
    fs::remove_file(&file).unwrap();
    let said = refusal();
    assert!(said.contains(&format!("the file of this program, {}, is gone", file.display())), "{said}");
    assert_eq!(get(idle.submit(double, 21)).unwrap(), 42, "a worker that is there stays");
    println!("all of it shown");
}

/// Started as `./copy` where there is no `/proc`.
fn born_without_proc() {
    assert!(std::env::current_exe().is_err(), "nothing tells where our file is");
    std::env::set_current_dir("/").unwrap();
    assert_works(&pool(2));
}

#[test]
fn without_proc_workers_are_started_from_the_path_of_the_program() {
    let _watchdog = Watchdog::new("without_proc_workers_are_started_from_the_path_of_the_program");
    let (dir, copy) = copy_of_this_program();
    let other = another_program(&dir);
    let mut host = role_of(&copy, "without proc");
    let said = applause(host.env("OTHER", other).spawn().unwrap());
    match said.lines().find_map(|line| line.strip_prefix("not shown: ")) {
        Some(why) => not_shown(why),
        None => assert!(said.contains("all of it shown"), "{said}"),
    }
}

// ---- Room to write ---------------------------------------------------------------------------

/// Makes stdout and stderr of this process those of a full disk while `call` runs.
fn on_a_full_disk(call: impl FnOnce()) {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let kept =
        [rustix::stdio::stdout(), rustix::stdio::stderr()].map(|stdio| stdio.try_clone_to_owned().unwrap());
    rustix::stdio::dup2_stdout(&full).unwrap();
    rustix::stdio::dup2_stderr(&full).unwrap();
    assert!(std::io::stderr().write_all(b"for nobody\n").is_err());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    rustix::stdio::dup2_stdout(&kept[0]).unwrap();
    rustix::stdio::dup2_stderr(&kept[1]).unwrap();
    if let Err(panic) = outcome {
        // What it says went to the full disk.
        panic!("{}", panic.downcast_ref::<String>().map_or("no text", String::as_str));
    }
}

/// What cannot be printed is the task's own affair, and that of nobody else.
fn nobody_to_tell() {
    on_a_full_disk(|| {
        let pool = pool(2);
        assert_works(&pool);
        let loud =
            [pool.submit(|()| println!("a whole line"), ()), pool.submit(|()| eprintln!("a whole line"), ())];
        for outcome in loud.map(get) {
            let Err(Error::Panicked { panic, .. }) = &outcome else { panic!("{outcome:?}") };
            assert!(panic.message().contains("No space left on device"), "{panic}");
        }
        // It is written when the call is over.
        get(pool.submit(|()| print!("half a line"), ())).unwrap();
        // Nobody reads that, and nobody can be told.
        drop(pool.submit(|death: Death| -> () { death.die() }, Death::Panic));
        assert_works(&pool);
        let worker = Observed::new(get(pool.submit(pid_of_worker, ())).unwrap());
        get(pool.submit(|()| print!("the last words"), ())).unwrap();
        drop(pool);
        assert!(!worker.is_alive());
        assert!(children_of(std::process::id()).is_empty());
    });
}

#[test]
fn a_full_disk_behind_stdout_and_stderr_costs_what_is_printed() {
    let _watchdog = Watchdog::new("a_full_disk_behind_stdout_and_stderr_costs_what_is_printed");
    applause(role("nobody to tell").spawn().unwrap());
}

/// No directory for temporary files, none to be in, and no byte of any file that could be written.
fn no_room() {
    assert!(!std::env::temp_dir().exists());
    let here = variable("HERE");
    fs::create_dir(&here).unwrap();
    std::env::set_current_dir(&here).unwrap();
    fs::remove_dir(&here).unwrap();
    assert!(std::env::current_dir().is_err());
    setrlimit(Resource::Fsize, Rlimit { current: Some(0), maximum: None }).unwrap();

    let pool = pool(2);
    assert_works(&pool);
    let argument = "x".repeat(4 << 20);
    assert_eq!(get(pool.submit(|text: String| text.len(), argument)).unwrap(), 4 << 20);
    // Whoever writes to a file is killed: so nobody did.
    let write = |path: String| {
        no_core_dump();
        fs::write(path, "a byte").unwrap();
    };
    match get(pool.submit(write, variable("NOTE"))) {
        Err(Error::WorkerDied { status: Some(status), .. }) => {
            assert_eq!(status.signal(), Some(libc::SIGXFSZ), "{status}");
        }
        other => panic!("{other:?}"),
    }
    assert_works(&pool);
}

#[test]
fn a_pool_writes_nothing_anywhere() {
    let _watchdog = Watchdog::new("a_pool_writes_nothing_anywhere");
    let dir = TempDir::new();
    let mut host = role("no room");
    host.env("TMPDIR", dir.path("absent")).env("HERE", dir.path("here")).env("NOTE", dir.path("note"));
    applause(host.spawn().unwrap());
}
