//! Who gets in, and on what terms workers work: environment and directory, user and groups, limits
//! of messages and of memory; setuid programs; and what nobody else sees of host and workers. What
//! `SECURITY.md` says is shown here.
//!
//! Not here: workers that die (`faults.rs`), what the system has no more of (`limits.rs`).
//! What belongs to a whole process plays in a process of its own, a role. Some of it only root can
//! try; for others these tests check what they can, and say so on stderr.

#![cfg(target_os = "linux")]
#![allow(unsafe_code)] // users, groups, handlers of forks, and what the kernel told the process

mod faults_common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use concurrent_futures::{
    Error, Executor, MapOptions, ProcessPoolBuilder, ProcessPoolExecutor, ThreadPoolExecutor,
};
use faults_common::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

concurrent_futures::init_tests!();

roles! {
    "environment" => environment(),
    "directory" => directory(),
    "without a fork" => without_a_fork(),
    "other users" => other_users(),
    "a host with another user" => a_host_with_another_user(),
    "an ordinary user" => an_ordinary_user(),
    "in between" => in_between(),
    "rights that stay" => rights_that_stay(),
    "setuid" => setuid(),
    "not a worker" => println!("{NOT_A_WORKER}"),
    "depth" => depth(),
    "memory" => memory(),
    "less memory" => less_memory(),
    "descriptors" => private_descriptors(),
    "sockets" => sockets(),
    "files" => files(),
    "secret" => secret(),
}

fn one() -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder().max_workers(1)
}

/// The variable by which a copy of the program learns that it is a worker.
const VARIABLE: &str = "CONCURRENT_FUTURES_WORKER";

/// An ordinary user, of whom nothing needs to be known to the system; his group has his number.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The message of an error and of all its causes.
fn told<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    let error = outcome.unwrap_err();
    let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    chain.map(|error| format!("{error}\n")).collect()
}

/// A pool whose workers refuse: what its first call is told.
#[track_caller]
fn refused(builder: ProcessPoolBuilder) -> String {
    let pool = builder.build().unwrap();
    let outcome = get(pool.submit(double, 1));
    assert!(matches!(outcome, Err(Error::Broken { .. })), "{outcome:?}");
    assert!(matches!(get(pool.submit(double, 1)), Err(Error::Broken { .. })), "it stays broken");
    let told = told(outcome);
    assert!(told.contains("refused to work"), "{told}");
    told
}

#[track_caller]
fn invalid(builder: ProcessPoolBuilder) -> String {
    match builder.build() {
        Err(error @ Error::InvalidArgument { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A copy of this program that everybody may execute, with the given mode. Made by another process:
/// a program that some process has open to write cannot be executed, and what we have open, every
/// process that another thread starts has too for a moment.
fn copy_of_this_program(dir: &TempDir, mode: u32) -> String {
    let path = dir.path("program");
    fs::set_permissions(Path::new(&path).parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&path).status().unwrap().success());
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// As `role`, of another program.
fn role_of(program: &str, name: &str) -> Command {
    let ours = role(name);
    let mut command = Command::new(program);
    command.args(ours.get_args()).env(ROLE, name);
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

// ---- Environment and directory ---------------------------------------------------------------

fn environment_of_worker((): ()) -> BTreeMap<String, String> {
    std::env::vars().filter(|(key, _)| key != VARIABLE).collect()
}

fn environment() {
    let hosts = environment_of_worker(());
    assert!(hosts.contains_key("GIVEN"), "by the test");
    let with = |changes: &[(&str, Option<&str>)]| {
        let mut expected = hosts.clone();
        for (key, value) in changes {
            match value {
                Some(value) => expected.insert((*key).into(), (*value).into()),
                None => expected.remove(*key),
            };
        }
        expected
    };
    let only = |key: &str, value: &str| BTreeMap::from([(key.to_string(), value.to_string())]);
    let cases = [
        (one(), with(&[])),
        (
            one().env("A", "1").env("GIVEN", "2").env("A", "3"),
            with(&[("A", Some("3")), ("GIVEN", Some("2"))]),
        ),
        (one().env_remove("GIVEN"), with(&[("GIVEN", None)])),
        (one().env_remove("GIVEN").env("GIVEN", "2"), with(&[("GIVEN", Some("2"))])),
        (one().env("A", "1").env_remove("A"), with(&[])),
        (one().env_clear(), BTreeMap::new()),
        (one().env("A", "1").env_clear().env("B", "2"), only("B", "2")),
        (one().env_clear().env("GIVEN", "2").env("B", "2").env_remove("GIVEN"), only("B", "2")),
        (one().env_clear().env(VARIABLE, "1.1").env_remove(VARIABLE), BTreeMap::new()),
    ];
    for (builder, expected) in cases {
        let asked = format!("{builder:?}");
        let pool = builder.build().unwrap();
        assert_eq!(get(pool.submit(environment_of_worker, ())).unwrap(), expected, "{asked}");
    }
}

#[test]
fn the_environment_of_workers_is_what_was_asked_for_last() {
    let _watchdog = Watchdog::new("the_environment_of_workers_is_what_was_asked_for_last");
    applause(role("environment").env("GIVEN", "1").spawn().unwrap());
}

#[test]
fn what_cannot_be_in_an_environment_is_refused() {
    for key in ["", "A=B", "A\0"] {
        assert!(invalid(one().env(key, "1")).contains(&format!("{key:?}")));
        assert!(invalid(one().env_remove(key)).contains(&format!("{key:?}")));
    }
    assert!(invalid(one().env("A", "1\0")).contains("NUL"));
}

fn directory_of_worker((): ()) -> String {
    std::env::current_dir().unwrap().to_str().unwrap().into()
}

fn directory() {
    let dir = TempDir::new();
    let (inner, gone, file) = (dir.path("inner"), dir.path("gone"), dir.path("file"));
    fs::create_dir(&inner).unwrap();
    fs::create_dir(&gone).unwrap();
    fs::write(&file, "").unwrap();
    let base = Path::new(&inner).parent().unwrap().canonicalize().unwrap();
    let inner = base.join("inner").to_str().unwrap().to_string();

    std::env::set_current_dir(&base).unwrap();
    let follows = one().build().unwrap();
    let absolute = one().current_dir(&inner).build().unwrap();
    let relative = one().current_dir("inner").build().unwrap();
    let lost = one().current_dir("gone").build().unwrap();
    std::env::set_current_dir("/").unwrap();
    fs::remove_dir(&gone).unwrap();
    assert_eq!(get(follows.submit(directory_of_worker, ())).unwrap(), "/");
    assert_eq!(get(absolute.submit(directory_of_worker, ())).unwrap(), inner);
    assert_eq!(get(relative.submit(directory_of_worker, ())).unwrap(), inner, "of where the host was");
    let told = told(get(lost.submit(double, 1)));
    assert!(told.contains("gone") && told.contains("No such file"), "{told}");

    for (path, why) in
        [(dir.path("missing"), "No such file"), (file, "not a directory"), ("\0".into(), "NUL")]
    {
        let told = invalid(one().current_dir(&path));
        assert!(told.contains(&format!("{path:?}")) && told.contains(why), "{told}");
    }
}

#[test]
fn workers_start_in_the_directory_that_was_asked_for() {
    let _watchdog = Watchdog::new("workers_start_in_the_directory_that_was_asked_for");
    applause(role("directory").spawn().unwrap());
}

static FORKS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// What the C library does before it forks, it does not do in `posix_spawn`.
fn without_a_fork() {
    // SAFETY: the handler adds to a number, which is safe at any time, and there is no other.
    assert_eq!(unsafe { libc::pthread_atfork(Some(count_fork), None, None) }, 0);
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let builders = [
        one(),
        one().env("A", "1").env("PATH", "/nowhere"),
        one().env_remove("PATH"),
        one().env_clear(),
        one().current_dir("/"),
        one().uid(uid).gid(gid).memory_limit(1 << 30).max_message_bytes(1 << 20),
    ];
    for builder in builders {
        let asked = format!("{builder:?}");
        assert_eq!(get(builder.build().unwrap().submit(double, 1)).unwrap(), 2);
        assert_eq!(FORKS.load(Ordering::Relaxed), 0, "{asked}");
    }
    assert!(Command::new("true").uid(uid).status().unwrap().success());
    assert_eq!(FORKS.load(Ordering::Relaxed), 1, "this is how the standard library does it");
}

#[test]
fn no_terms_cost_a_fork() {
    let _watchdog = Watchdog::new("no_terms_cost_a_fork");
    applause(role("without a fork").spawn().unwrap());
}

// ---- Users and groups ------------------------------------------------------------------------

/// For each thread of this process: users and groups, each real, effective, saved and of files; then
/// supplementary groups.
fn who_am_i((): ()) -> BTreeSet<[String; 3]> {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let who = |thread: fs::DirEntry| {
        // One that was joined may be listed for a moment longer.
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        Some(["Uid:", "Gid:", "Groups:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        }))
    };
    threads.filter_map(who).collect()
}

fn is(uid: u32, gid: u32, groups: &str) -> BTreeSet<[String; 3]> {
    let four = |number: u32| [number; 4].map(|number| number.to_string()).join(" ");
    BTreeSet::from([[four(uid), four(gid), groups.into()]])
}

/// In a worker: whether it can become anybody else again.
fn way_back((): ()) -> [bool; 4] {
    // SAFETY: these change who this process is, if they may, and no memory.
    unsafe {
        [
            libc::setuid(0) == 0,
            libc::setgid(0) == 0,
            libc::setgroups(0, std::ptr::null()) == 0,
            libc::setresuid(0, 0, 0) == 0,
        ]
    }
}

/// A pool inside a worker.
fn nested((): ()) -> BTreeSet<[String; 3]> {
    one().build().unwrap().submit(who_am_i, ()).result().unwrap()
}

/// As root.
fn other_users() {
    // SAFETY: two numbers lie there.
    assert_eq!(unsafe { libc::setgroups(2, [7, 8].as_ptr()) }, 0);
    let host = who_am_i(());
    let cases = [
        (one(), is(0, 0, "7 8")),
        (one().uid(NOBODY).gid(NOBODY), is(NOBODY, NOBODY, "")),
        (one().uid(NOBODY), is(NOBODY, 0, "")),
        (one().gid(5), is(0, 5, "")),
        (one().uid(0), is(0, 0, "")),
        (one().groups(&[3, 4]), is(0, 0, "3 4")),
        (one().groups(&[]), is(0, 0, "")),
        (one().uid(1).gid(2).groups(&[3, 4]), is(1, 2, "3 4")),
        // All that may be asked for.
        (one().uid(u32::MAX - 1).gid(u32::MAX - 2).groups(&(1..=512).collect::<Vec<_>>()), {
            let groups: Vec<_> = (1..=512).map(|group| group.to_string()).collect();
            is(u32::MAX - 1, u32::MAX - 2, &groups.join(" "))
        }),
    ];
    for (builder, expected) in cases {
        let asked = format!("{builder:?}");
        // The initializer is the first of the user's code that runs there.
        let dir = TempDir::new();
        let note = dir.path("note");
        fs::set_permissions(Path::new(&note).parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        let initializer = |note: String| fs::write(note, format!("{:?}", who_am_i(()))).unwrap();
        let pool = builder.initializer(initializer, note.clone()).build().unwrap();
        assert_eq!(get(pool.submit(who_am_i, ())).unwrap(), expected, "{asked}");
        assert_eq!(fs::read_to_string(note).unwrap(), format!("{expected:?}"), "{asked}");
    }
    let pool = one().uid(NOBODY).gid(NOBODY).build().unwrap();
    assert_eq!(get(pool.submit(way_back, ())).unwrap(), [false; 4]);
    assert_eq!(get(pool.submit(nested, ())).unwrap(), is(NOBODY, NOBODY, ""));
    let gate = Gate::new();
    fs::set_permissions(gate.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let running = pool.submit(wait_at, gate.path());
    let _visitor = gate.next();
    assert!(running.kill(), "the host can end it");
    assert!(matches!(get(running), Err(Error::WorkerDied { .. })));
    assert_eq!(who_am_i(()), host, "the host stays who it is");
}

#[test]
fn workers_are_the_user_that_was_asked_for() {
    let _watchdog = Watchdog::new("workers_are_the_user_that_was_asked_for");
    if !is_root() {
        return eprintln!("only root can try to be somebody else");
    }
    let dir = TempDir::new();
    // The worker inside a worker is started by an ordinary user.
    applause(role_of(&copy_of_this_program(&dir, 0o755), "other users").spawn().unwrap());
}

/// In a worker: what it may do with another process.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Reach {
    descriptors: bool,
    memory: bool,
    signals: bool,
}

fn reach(pid: u32) -> Reach {
    let open = |file| fs::File::open(format!("/proc/{pid}/{file}")).is_ok();
    Reach {
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).is_ok(),
        memory: open("mem"),
        signals: rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap())
            .is_ok(),
    }
}

#[test]
fn a_worker_of_another_user_cannot_reach_its_host() {
    let _watchdog = Watchdog::new("a_worker_of_another_user_cannot_reach_its_host");
    if !is_root() {
        return eprintln!("only root can try to be somebody else");
    }
    let other = one().uid(NOBODY).gid(NOBODY).build().unwrap();
    let its_like = one().uid(NOBODY).gid(NOBODY).build().unwrap();
    let ours = one().build().unwrap();
    let [pid_of_its_like, pid_of_ours] =
        [&its_like, &ours].map(|pool| get(pool.submit(pid_of_worker, ())).unwrap());
    let us = std::process::id();
    let from = |pool: &ProcessPoolExecutor, pid| get(pool.submit(reach, pid)).unwrap();
    let nothing = Reach { descriptors: false, memory: false, signals: false };
    assert_eq!(from(&other, us), nothing);
    assert_eq!(from(&other, pid_of_ours), nothing);
    assert_eq!(from(&other, pid_of_its_like), Reach { signals: true, ..nothing });
    let everything = Reach { descriptors: true, memory: true, signals: true };
    assert_eq!(from(&ours, us), everything, "there is no wall between processes of one user");
}

fn a_host_with_another_user() {
    let pool = one().uid(NOBODY).gid(NOBODY).build().unwrap();
    let pid = get(pool.submit(pid_of_worker, ())).unwrap();
    // Busy, when its host goes.
    drop(pool.submit(
        |()| -> u32 {
            loop {
                std::hint::spin_loop()
            }
        },
        (),
    ));
    fs::write(variable("NOTE"), pid.to_string()).unwrap();
    attend(&variable("READY"));
}

#[test]
fn a_worker_of_another_user_goes_with_its_host() {
    let _watchdog = Watchdog::new("a_worker_of_another_user_goes_with_its_host");
    if !is_root() {
        return eprintln!("only root can try to be somebody else");
    }
    let (ready, dir) = (Gate::new(), TempDir::new());
    let note = dir.path("note");
    let mut host =
        role("a host with another user").env("READY", ready.path()).env("NOTE", &note).spawn().unwrap();
    let _visitor = ready.next();
    let worker = leftover(&note);
    assert!(worker.0.is_alive());
    host.kill().unwrap();
    worker.0.ends();
    host.wait().unwrap();
}

/// One that was root and is not any more, or never was.
fn an_ordinary_user() {
    if is_root() {
        // SAFETY: these change who this process is, and no memory.
        let dropped =
            unsafe { [libc::setgroups(0, std::ptr::null()), libc::setgid(NOBODY), libc::setuid(NOBODY)] };
        assert_eq!(dropped, [0; 3]);
    }
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let cases = [
        (one().uid(0), "cannot become user 0"),
        (one().uid(uid + 1), &format!("cannot become user {}", uid + 1)),
        (one().gid(gid + 1), &format!("cannot become group {}", gid + 1)),
        (one().uid(uid).groups(&[1, 2]), "cannot take the supplementary groups [1, 2]"),
    ];
    for (builder, what) in cases {
        let told = refused(builder);
        let who = format!("as user {uid} and group {gid}");
        for part in [what, &who, "Operation not permitted", "run the host as root"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    let groups = who_am_i(());
    let pool = one().uid(uid).gid(gid).build().unwrap();
    assert_eq!(get(pool.submit(who_am_i, ())).unwrap(), groups, "what he is, he may be");
    assert_eq!(children_of(std::process::id()).len(), 1, "those that refused are gone");
}

#[test]
fn who_is_not_root_cannot_give_other_users_to_workers() {
    let _watchdog = Watchdog::new("who_is_not_root_cannot_give_other_users_to_workers");
    let dir = TempDir::new();
    applause(role_of(&copy_of_this_program(&dir, 0o755), "an ordinary user").spawn().unwrap());
}

/// As root, in a world where who becomes somebody else keeps his capabilities.
fn rights_that_stay() {
    const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    // SAFETY: it changes what this process and its children may do, and no memory.
    if unsafe { libc::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP) } != 0 {
        return eprintln!("no capability can outlive a change of user here");
    }
    let told = refused(one().uid(NOBODY).gid(NOBODY));
    assert!(told.contains("became user 65534, but could become root again"), "{told}");
    assert_eq!(get(one().uid(0).build().unwrap().submit(double, 1)).unwrap(), 2);
}

#[test]
fn a_worker_that_could_become_root_again_refuses() {
    let _watchdog = Watchdog::new("a_worker_that_could_become_root_again_refuses");
    if !is_root() {
        return eprintln!("only root can try to be somebody else");
    }
    let role = role("rights that stay").spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&role.stderr);
    assert!(role.status.success(), "{said}");
    eprint!("{said}");
}

#[test]
fn users_and_groups_that_cannot_be_are_refused() {
    assert!(invalid(one().uid(u32::MAX)).contains("4294967295"));
    assert!(invalid(one().gid(u32::MAX)).contains("4294967295"));
    assert!(invalid(one().groups(&[1, u32::MAX])).contains("4294967295"));
    assert!(invalid(one().groups(&[1; 513])).contains("at most 512"));
}

// ---- Setuid programs, and invitations from strangers -----------------------------------------

const NOT_A_WORKER: &str = "this program plays its role";

fn is_secure() -> bool {
    // SAFETY: it reads what the kernel told this process when it began.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// In a program that others run with the rights of its owner.
fn setuid() {
    if !is_secure() {
        return println!("the file system takes no notice of setuid");
    }
    let told = one().build().unwrap_err();
    assert!(matches!(told, Error::Setuid), "{told:?}");
    assert!(told.to_string().contains("ThreadPoolExecutor"), "{told}");
    let pool = ProcessPoolExecutor::default();
    assert!(matches!(get(pool.submit(double, 1)), Err(Error::Broken { cause: Some(_), .. })));
    assert_eq!(get(ThreadPoolExecutor::new(1).unwrap().submit(double, 1)).unwrap(), 2);
    println!("refused");
}

/// Runs a program as an ordinary user would who wants to be its host. True: it took him for that.
fn is_invited(program: &str) -> bool {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let inode = rustix::fs::fstat(&theirs).unwrap().st_ino;
    let mut command = role_of(program, "not a worker");
    command.env(VARIABLE, format!("1.{inode}.{}", std::process::id())).stdin(OwnedFd::from(theirs));
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let child = command.spawn().unwrap();
    // A host would send descriptors: who lets it in and misses them, ends.
    let _ = ours.write_all(b"let me in");
    drop(ours);
    let output = child.wait_with_output().unwrap();
    let plays = String::from_utf8_lossy(&output.stdout).contains(NOT_A_WORKER);
    assert_eq!(plays, output.status.success(), "{output:?}");
    !plays
}

#[test]
fn a_setuid_program_has_no_process_pools_and_takes_no_invitation() {
    let _watchdog = Watchdog::new("a_setuid_program_has_no_process_pools_and_takes_no_invitation");
    let dir = TempDir::new();
    assert!(is_invited(&copy_of_this_program(&dir, 0o755)), "whose rights it has, may be its host");
    let dir = TempDir::new();
    let program = copy_of_this_program(&dir, 0o4755);
    if !is_root() {
        return eprintln!("only root can make a program that others run as somebody else");
    }
    let said = applause(role_of(&program, "setuid").uid(NOBODY).gid(NOBODY).spawn().unwrap());
    if !said.contains("refused") {
        return eprintln!("no setuid program can be tried here: {said}");
    }
    assert!(!is_invited(&program), "a stranger is its host");
    let said = applause(role_of(&program, "setuid").spawn().unwrap());
    assert!(said.contains("no notice"), "whoever is root may run it: {said}");
}

/// A host that is, for the moment, somebody else than it really is: its copy would be as a setuid
/// program is.
fn in_between() {
    let become_effective = |uid| {
        // SAFETY: it changes who this process is, and no memory.
        assert_eq!(unsafe { libc::seteuid(uid) }, 0);
    };
    let (before, meanwhile) = (one().build().unwrap(), one().build().unwrap());
    become_effective(NOBODY);
    assert!(matches!(one().build(), Err(Error::Setuid)));
    let told = told(get(meanwhile.submit(double, 1)));
    become_effective(0);
    assert!(told.contains("other rights"), "{told}");
    assert_eq!(get(before.submit(double, 1)).unwrap(), 2);
}

#[test]
fn a_host_between_two_users_starts_no_copy_of_itself() {
    let _watchdog = Watchdog::new("a_host_between_two_users_starts_no_copy_of_itself");
    if !is_root() {
        return eprintln!("only root can be somebody else for a while");
    }
    applause(role("in between").spawn().unwrap());
}

/// A program that was started with the variable of a worker, and is none.
fn depth() {
    let outcome = one().build().map(|pool| get(pool.submit(double, 21)).unwrap());
    match variable("EXPECTED").as_str() {
        "works" => {
            assert_eq!(outcome.unwrap(), 42);
            let pool = one().build().unwrap();
            // SAFETY: no other thread of this process looks at the environment: the watchdog waits.
            unsafe { std::env::set_var(VARIABLE, "4294967295.1.1") };
            let deep = |()| told(one().build().map(drop));
            assert!(get(pool.submit(deep, ())).unwrap().contains("nested"), "no deeper than that");
        }
        "too deep" => {
            assert!(matches!(outcome, Err(Error::InvalidArgument { .. })), "{outcome:?}");
            assert!(told(outcome).contains("nested"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn the_variable_of_a_worker_alone_does_no_more_than_trip_the_limit_of_nesting() {
    let _watchdog =
        Watchdog::new("the_variable_of_a_worker_alone_does_no_more_than_trip_the_limit_of_nesting");
    for (value, expected) in [
        ("1.1.1", "works"),
        ("15.0.0", "works"),
        ("16.1.1", "too deep"),
        ("4294967295.18446744073709551615.4294967295", "too deep"),
        ("4294967296.1.1", "works"), // noise, as all that follows
        ("-1.1.1", "works"),
        ("", "works"),
        ("1", "works"),
        ("16.1", "works"),
        ("\u{7f}.\u{1F980}", "works"),
    ] {
        applause(role("depth").env(VARIABLE, value).env("EXPECTED", expected).spawn().unwrap());
    }
}

// ---- The longest message ---------------------------------------------------------------------

const MIB: usize = 1 << 20;

/// Of the longest argument that has room in a MiB: the function, and the length, take some.
const LONGEST: usize = MIB - 20 - 3;

fn length(blob: Blob) -> usize {
    blob.0.len()
}

fn with_a_pid(length: usize) -> (u32, Blob) {
    (std::process::id(), Blob::new(length))
}

#[track_caller]
fn is_too_long<T: std::fmt::Debug>(outcome: Result<T, Error>, of: &str) {
    match outcome {
        Err(Error::Encode { what, ref reason, .. }) if what == of => {
            assert!(reason.contains("the limit is 1048576 (`max_message_bytes`)"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_beyond_the_limit_costs_its_own_call_and_no_worker() {
    let _watchdog = Watchdog::new("a_message_beyond_the_limit_costs_its_own_call_and_no_worker");
    let pool = one().max_message_bytes(MIB as u64).build().unwrap();
    let pid = get(pool.submit(pid_of_worker, ())).unwrap();

    assert_eq!(get(pool.submit(length, Blob::new(LONGEST))).unwrap(), LONGEST);
    is_too_long(get(pool.submit(length, Blob::new(LONGEST + 1))), "argument");

    assert!(get(pool.submit(Blob::new, MIB - 3)).unwrap() == Blob::new(MIB - 3));
    let outcome = get(pool.submit(Blob::new, MIB - 2));
    is_too_long(outcome.map(length), "return value");

    // What comes instead of a value may be too long as well.
    let outcome = get(pool.submit(|bytes: usize| -> u8 { panic!("{}", "x".repeat(bytes)) }, 2 * MIB));
    is_too_long(outcome, "return value");

    // A chunk is one message.
    let chunks = |size| MapOptions::new().chunksize(size);
    let blobs = || (0..8).map(|_| Blob::new(MIB / 4)).collect::<Vec<_>>();
    for outcome in pool.map_with(length, blobs(), chunks(4)) {
        is_too_long(outcome, "argument");
    }
    let lengths = pool.map_with(length, blobs(), chunks(3)).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(lengths, [MIB / 4; 8]);
    for outcome in pool.map_with(with_a_pid, [MIB / 4; 8], chunks(4)) {
        is_too_long(outcome.map(|(pid, _)| pid), "return value");
    }
    let pids = pool.map_with(with_a_pid, [MIB / 4; 8], chunks(3)).map(|outcome| outcome.unwrap().0);
    assert_eq!(pids.collect::<Vec<_>>(), [pid; 8], "no worker died of it");
}

/// They take no room for their length, and are not copied on their way.
#[test]
fn bytes_beyond_the_limit_cost_their_own_call_and_no_worker() {
    let _watchdog = Watchdog::new("bytes_beyond_the_limit_cost_their_own_call_and_no_worker");
    let pool = one().max_message_bytes(MIB as u64).build().unwrap();
    let pid = get(pool.submit(pid_of_worker, ())).unwrap();
    let size = |bytes: Vec<u8>| bytes.len();
    assert_eq!(get(pool.submit(size, vec![1; MIB - 20])).unwrap(), MIB - 20);
    is_too_long(get(pool.submit(size, vec![1; MIB - 19])), "argument");
    let make = |length: usize| "x".repeat(length);
    assert!(get(pool.submit(make, MIB)).unwrap() == "x".repeat(MIB));
    is_too_long(get(pool.submit(make, MIB + 1)), "return value");
    assert_eq!(get(pool.submit(pid_of_worker, ())).unwrap(), pid, "no worker died of it");
}

#[test]
fn an_initializer_is_a_message_too() {
    let _watchdog = Watchdog::new("an_initializer_is_a_message_too");
    let with = |bytes: usize| {
        let initializer = |blob: Blob| assert!(blob.0.len() <= LONGEST);
        one().max_message_bytes(MIB as u64).initializer(initializer, Blob::new(bytes)).build()
    };
    is_too_long(with(LONGEST + 1), "argument");
    assert_eq!(get(with(LONGEST).unwrap().submit(double, 1)).unwrap(), 2);
}

#[test]
fn a_limit_under_which_no_error_has_room_is_refused() {
    let _watchdog = Watchdog::new("a_limit_under_which_no_error_has_room_is_refused");
    for bytes in [0, 1, 1023] {
        let told = invalid(one().max_message_bytes(bytes));
        assert!(told.contains(&format!("is {bytes}")) && told.contains("1024"), "{told}");
    }
    let pool = one().max_message_bytes(1024).build().unwrap();
    assert_eq!(get(pool.submit(double, 1)).unwrap(), 2);
    let outcome = get(pool.submit(Blob::new, 2000));
    assert!(matches!(outcome.map(length), Err(Error::Encode { what: "return value", .. })));
}

/// In a worker: a reply that the limit of the host does not allow, past the limit of the worker.
fn push(length: usize) -> u8 {
    scribble(&header(length as u64, kind::RETURNED, 0));
    scribble(&Blob::new(length).0);
    std::process::exit(3)
}

#[test]
fn a_hostile_worker_cannot_exceed_the_limit() {
    let _watchdog = Watchdog::new("a_hostile_worker_cannot_exceed_the_limit");
    let pool = one().max_message_bytes(MIB as u64).build().unwrap();
    for length in [MIB + 1, 64 * MIB] {
        match get(pool.submit(push, length)) {
            Err(Error::Decode { reason, .. }) => {
                let expected = format!("announces {length} bytes, the limit is {MIB}");
                assert!(reason.contains(&expected), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(get(pool.submit(double, 1)).unwrap(), 2, "the worker was replaced");
    }
    // That many it may send; but they are the reply to no call.
    let error = get(pool.submit(push, MIB)).unwrap_err();
    assert!(matches!(&error, Error::Decode { reason, .. } if reason.contains("Returned frame")), "{error:?}");
    assert_eq!(get(pool.submit(double, 1)).unwrap(), 2);
}

/// Takes no bytes in a message, and some in memory.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Skipped {
    #[serde(skip)]
    _number: u64,
}

#[test]
fn a_value_can_be_larger_than_its_message() {
    let _watchdog = Watchdog::new("a_value_can_be_larger_than_its_message");
    const MANY: usize = MIB;
    let pool = one().max_message_bytes(1024).build().unwrap();
    assert_eq!(get(pool.submit(|n: usize| vec![Skipped::default(); n], MANY)).unwrap().len(), MANY);
    assert_eq!(get(pool.submit(|n: usize| vec![(); n], MANY)).unwrap().len(), MANY);
}

// ---- The limit of memory ---------------------------------------------------------------------

/// Allocates so many bytes and writes to them.
fn fill(bytes: usize) -> u32 {
    no_core_dump();
    std::hint::black_box(vec![1_u8; bytes]);
    std::process::id()
}

fn reserve(bytes: usize) -> Result<(), String> {
    let mut bytes_of_it = Vec::<u8>::new();
    let outcome = bytes_of_it.try_reserve_exact(bytes).map_err(|error| error.to_string());
    std::hint::black_box(bytes_of_it);
    outcome
}

fn threads_of_16_mib((): ()) -> Result<usize, String> {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    std::thread::scope(|scope| {
        let wait = || gate.lock().unwrap().recv().is_ok();
        let begin = |_| {
            let thread = std::thread::Builder::new().stack_size(16 * MIB);
            thread.spawn_scoped(scope, wait).map(drop).map_err(|error| error.to_string())
        };
        let outcome: Result<Vec<()>, String> = (0..100).map(begin).collect();
        drop(release);
        outcome.map(|threads| threads.len())
    })
}

fn limits_of_this_process((): ()) -> [Option<u64>; 2] {
    let Rlimit { current, maximum } = getrlimit(Resource::Data);
    [current, maximum]
}

#[track_caller]
fn dies_without_memory<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    match outcome {
        Err(Error::WorkerDied { status: Some(status), probable_cause, .. }) => {
            assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
            assert!(probable_cause.is_some_and(|cause| cause.contains("its memory limit of 67108864 bytes")));
        }
        other => panic!("{other:?}"),
    }
}

/// Its stderr is its own: Rust says there that there is no memory.
fn memory() {
    const MOST: usize = 64 * MIB;
    let host = limits_of_this_process(());
    let gate = Gate::new();
    let pool = ProcessPoolExecutor::builder().max_workers(2).memory_limit(MOST as u64).build().unwrap();
    let other = pool.submit(wait_at, gate.path());
    let visitor = gate.next();

    assert_eq!(get(pool.submit(limits_of_this_process, ())).unwrap(), [Some(MOST as u64); 2]);
    let pid = get(pool.submit(fill, MOST / 2)).unwrap();
    assert_ne!(pid, visitor.pid);
    // An error, where the code has one.
    assert_eq!(get(pool.submit(reserve, MOST / 2)).unwrap(), Ok(()));
    let told = get(pool.submit(reserve, MOST)).unwrap().unwrap_err();
    assert!(told.contains("memory allocation failed"), "{told}");
    let told = get(pool.submit(threads_of_16_mib, ())).unwrap().unwrap_err();
    assert!(told.contains("Resource temporarily unavailable"), "{told}");
    let before = get(pool.submit(pid_of_worker, ())).unwrap();
    assert_eq!(before, pid, "nobody died yet");
    // Otherwise the end, of this worker alone.
    for _ in 0..3 {
        dies_without_memory(get(pool.submit(fill, MOST)));
        assert_eq!(get(pool.submit(double, 1)).unwrap(), 2);
    }
    // Arguments and return values count.
    let blob = |length: usize| Blob(vec![7; length]);
    dies_without_memory(get(pool.submit(length, blob(MOST))));
    dies_without_memory(get(pool.submit(blob, MOST * 3 / 4)).map(length));
    assert_eq!(get(pool.submit(length, blob(MOST / 4))).unwrap(), MOST / 4);
    assert_eq!(get(pool.submit(blob, MOST / 4)).map(length).unwrap(), MOST / 4);

    let pid = visitor.pid;
    visitor.go_on();
    assert_eq!(get(other).unwrap(), pid, "the other worker did not notice");
    assert_eq!(limits_of_this_process(()), host);
}

#[test]
fn an_allocation_beyond_the_limit_fails_the_task_and_not_the_machine() {
    let _watchdog = Watchdog::new("an_allocation_beyond_the_limit_fails_the_task_and_not_the_machine");
    applause(role("memory").spawn().unwrap());
}

/// A host that has a limit itself.
fn less_memory() {
    let most = Some(128 << 20);
    setrlimit(Resource::Data, Rlimit { current: most, maximum: most }).unwrap();
    let pool = one().memory_limit(1 << 40).build().unwrap();
    assert_eq!(get(pool.submit(limits_of_this_process, ())).unwrap(), [most; 2]);
    let pool = one().memory_limit(64 << 20).build().unwrap();
    assert_eq!(get(pool.submit(limits_of_this_process, ())).unwrap(), [Some(64 << 20); 2]);
}

#[test]
fn a_limit_of_memory_is_never_above_that_of_the_host() {
    let _watchdog = Watchdog::new("a_limit_of_memory_is_never_above_that_of_the_host");
    applause(role("less memory").spawn().unwrap());
}

#[test]
fn a_limit_under_which_no_worker_starts_is_refused_with_the_numbers() {
    let _watchdog = Watchdog::new("a_limit_under_which_no_worker_starts_is_refused_with_the_numbers");
    assert!(invalid(one().memory_limit(0)).contains("memory_limit is 0"));
    for bytes in [1, 1 << 20] {
        let told = refused(one().memory_limit(bytes));
        assert!(told.contains(&format!("a `memory_limit` of {bytes} bytes is too low")), "{told}");
        assert!(told.contains("needs 1048576 more"), "{told}");
    }
}

// ---- What others see -------------------------------------------------------------------------

/// What the descriptors of a process are, by number.
fn descriptors_of(pid: u32) -> BTreeMap<i32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let entry = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, fs::read_link(entry.path()).ok()?.to_str()?.into()))
    };
    entries.filter_map(entry).collect()
}

/// A pool of two with both of its workers, idle.
fn two_idle_workers() -> (ProcessPoolExecutor, [u32; 2]) {
    let pool = ProcessPoolExecutor::new(2).unwrap();
    let gate = Gate::new();
    let futures = [pool.submit(wait_at, gate.path()), pool.submit(wait_at, gate.path())];
    let visitors = [gate.next(), gate.next()];
    visitors.into_iter().for_each(Visitor::go_on);
    let pids = futures.map(|future| get(future).unwrap());
    (pool, pids)
}

/// The descriptors of a program that is started here and now.
fn descriptors_of_a_program((): ()) -> String {
    let output = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn private_descriptors() {
    let us = std::process::id();
    // What whoever started us left open, all programs inherit.
    let inherited: BTreeSet<String> = descriptors_of(us).into_values().collect();
    let (pool, workers) = two_idle_workers();
    let mut pipes = BTreeMap::new();
    for pid in workers {
        let descriptors = descriptors_of(pid);
        assert_eq!(descriptors[&0], "/dev/null");
        for fd in [1, 2] {
            assert_eq!(descriptors[&fd], descriptors_of(us)[&fd], "what it prints goes where ours goes");
        }
        let others: Vec<&String> =
            descriptors.range(3..).map(|(_, target)| target).filter(|it| !inherited.contains(*it)).collect();
        let is_pipe = |target: &&&String| target.starts_with("pipe:[");
        let own: Vec<&String> = others.iter().filter(is_pipe).copied().collect();
        assert_eq!(own.len(), 3, "for calls, for replies, and for the end of the host: {others:?}");
        let (posts, rest): (Vec<&String>, Vec<&String>) =
            others.into_iter().filter(|it| !is_pipe(&it)).partition(|target| target.starts_with("socket:["));
        assert_eq!(posts.len(), 1, "its end of the post: {posts:?}");
        assert!(rest.iter().all(|target| target.starts_with("anon_inode:")), "no files: {rest:?}");
        for pipe in own {
            assert_eq!(pipes.insert(pipe.clone(), BTreeSet::from([us, pid])), None, "shared: {pipe}");
        }
        // The host's end has another number.
        assert_eq!(pipes.insert(posts[0].clone(), BTreeSet::from([pid])), None, "shared: {posts:?}");
    }
    // Only root sees those of everybody.
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut owners: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for pid in pids {
        for target in descriptors_of(pid).into_values().filter(|target| pipes.contains_key(target)) {
            owners.entry(target).or_default().insert(pid);
        }
    }
    assert_eq!(owners, pipes, "each pipe is of the host and one worker");

    for listing in [descriptors_of_a_program(()), get(pool.submit(descriptors_of_a_program, ())).unwrap()] {
        assert!(listing.contains("/proc/"), "{listing}");
        assert!(pipes.keys().all(|pipe| !listing.contains(pipe)), "{listing}");
    }
}

#[test]
fn the_pipes_of_a_worker_are_its_own_and_the_hosts() {
    let _watchdog = Watchdog::new("the_pipes_of_a_worker_are_its_own_and_the_hosts");
    applause(role("descriptors").spawn().unwrap());
}

fn sockets_of(pid: u32) -> BTreeSet<String> {
    descriptors_of(pid).into_values().filter(|target| target.starts_with("socket:")).collect()
}

/// The sockets of this system to which somebody can connect, or send.
fn open_to_others() -> BTreeSet<String> {
    let table = |name: &str, inode: usize, is_open: &dyn Fn(&[&str]) -> bool| -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
        let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| is_open(row)).map(|row| format!("socket:[{}]", row[inode])).collect()
    };
    let flags = |row: &[&str]| row[3] == "00010000";
    let listens = |row: &[&str]| row[3] == "0A";
    let mut found = table("unix", 6, &flags);
    found.extend(["tcp", "tcp6"].iter().flat_map(|name| table(name, 9, &listens)));
    found.extend(["udp", "udp6", "raw", "raw6"].iter().flat_map(|name| table(name, 9, &|_| true)));
    found.into_iter().collect()
}

fn sockets() {
    let us = std::process::id();
    let of_us = |open: BTreeSet<String>| open.intersection(&sockets_of(us)).cloned().collect::<Vec<_>>();
    let (before, open_before) = (sockets_of(us), of_us(open_to_others()));
    let (pool, workers) = two_idle_workers();
    assert_eq!(sockets_of(us).difference(&before).count(), 2, "one end of the post of each worker");
    assert_eq!(of_us(open_to_others()), open_before);
    for pid in workers {
        let own = sockets_of(pid);
        assert_eq!(own.len(), 1, "its end of the post: {own:?}");
        assert!(own.is_disjoint(&open_to_others()) && own.is_disjoint(&sockets_of(us)), "{own:?}");
    }
    drop(pool);
    // Would they be seen?
    let dir = TempDir::new();
    let _unix = UnixListener::bind(dir.path("socket")).unwrap();
    let _tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(of_us(open_to_others()).len(), open_before.len() + 3);
}

#[test]
fn nothing_listens() {
    let _watchdog = Watchdog::new("nothing_listens");
    applause(role("sockets").spawn().unwrap());
}

/// In a directory of its own, with another one for temporary files.
fn files() {
    let (pool, _) = two_idle_workers();
    assert_eq!(get(pool.submit(length, Blob::new(8 * MIB))).unwrap(), 8 * MIB);
    assert!(get(pool.submit(Blob::new, 8 * MIB)).unwrap().0.len() == 8 * MIB);
    let _: Error = get::<()>(pool.submit(|death: Death| death.die(), Death::Kill)).unwrap_err();
    assert_eq!(get(pool.submit(double, 1)).unwrap(), 2);
    let places = |(): ()| [std::env::temp_dir(), std::env::current_dir().unwrap()];
    let of_worker = get(pool.submit(places, ())).unwrap();
    assert_eq!(of_worker, places(()));
    let contents = || of_worker.iter().flat_map(|dir| fs::read_dir(dir).unwrap().flatten()).count();
    assert_eq!(contents(), 0, "while it works");
    drop(pool);
    assert_eq!(contents(), 0, "and after it");
}

#[test]
fn there_are_no_temporary_files() {
    let _watchdog = Watchdog::new("there_are_no_temporary_files");
    let dir = TempDir::new();
    let [temporary, current] = [dir.path("t"), dir.path("c")];
    fs::create_dir(&temporary).unwrap();
    fs::create_dir(&current).unwrap();
    applause(role("files").env("TMPDIR", temporary).current_dir(current).spawn().unwrap());
}

fn secret() {
    // Nowhere but in arguments of calls.
    let secret = format!("{:x}", u128::from(std::process::id()) << 64 | 0x5eed_5eed_5eed_5eed);
    let keep = |secret: String| assert!(!secret.is_empty());
    let pool = one().name("keepers").initializer(keep, secret.clone()).build().unwrap();
    let gate = Gate::new();
    let hold = |(gate, secret): (String, String)| (attend(&gate), secret).1;
    let future = pool.submit(hold, (gate.path(), secret.clone()));
    let visitor = gate.next();
    let of = |pid: u32, file: &str| -> BTreeSet<String> {
        let text = String::from_utf8(fs::read(format!("/proc/{pid}/{file}")).unwrap()).unwrap();
        text.split_terminator('\0').map(Into::into).collect()
    };
    let (us, worker) = (std::process::id(), visitor.pid);
    let (hosts, environ) = (of(us, "environ"), of(worker, "environ"));
    let added: Vec<&String> = environ.difference(&hosts).filter(|variable| !variable.is_empty()).collect();
    assert!(matches!(added[..], [only] if only.starts_with(VARIABLE)), "{added:?}");
    let cmdline = of(worker, "cmdline");
    let name = std::env::args().next().unwrap();
    let name = Path::new(&name).file_name().unwrap().to_str().unwrap();
    assert_eq!(cmdline, BTreeSet::from([format!("{name}: keepers_0")]));
    assert!(environ.iter().chain(&cmdline).all(|text| !text.contains(&secret)));
    visitor.go_on();
    assert_eq!(get(future).unwrap(), secret);
}

#[test]
fn nothing_secret_is_in_the_environment_or_the_arguments_of_a_worker() {
    let _watchdog = Watchdog::new("nothing_secret_is_in_the_environment_or_the_arguments_of_a_worker");
    applause(role("secret").spawn().unwrap());
}

// ---- The threat model ------------------------------------------------------------------------

#[test]
fn this_file_names_tests_that_exist() {
    let names: Vec<(&str, &str)> = include_str!("../SECURITY.md")
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| *text != "file::function")
        .filter_map(|text| text.split_once("::"))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for (file, name) in names {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{file}.rs"));
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert!(source.contains(&format!("#[test]\nfn {name}() {{")), "{file}::{name}");
    }
}
