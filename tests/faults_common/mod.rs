//! What the fault tests share: a watchdog, gates at which tasks wait, processes seen from outside,
//! ways to die, large values, and roles: host processes of their own, for what must not happen to
//! the test's.
//!
//! Not here: any test. The rule: nothing sleeps to be in time. A task waits at a gate, a test
//! waits for the visitor; only what `/proc` alone knows is polled.

#![allow(dead_code, unsafe_code, unused_imports, unused_macros)] // each test file uses its part; signals and forks have no safe name

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Future};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[path = "../common/watchdog.rs"]
mod watchdog;

pub(crate) use watchdog::{Watchdog, who_waits_for_what};

/// What ends in an instant is given this long, because the machine may be busy.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The outcome of a future that must end.
#[track_caller]
pub(crate) fn get<T>(mut future: Future<T>) -> Result<T, Error> {
    match future.result_timeout(LONG) {
        Err(Error::TimedOut { .. }) if !future.done() => {
            panic!("{future:?} did not end within {LONG:?}\n{}", who_waits_for_what())
        }
        outcome => outcome,
    }
}

/// Polls what sends no event.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "not within {LONG:?}: {what}\n{}", who_waits_for_what());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A directory that is removed with its contents.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a socket has 108 bytes.
        let path = std::env::temp_dir().join(format!("cf-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path); // of an earlier process with our number
        fs::create_dir(&path).unwrap();
        TempDir(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().into()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where tasks wait until the test lets them go on: a socket, so that coming and going are events
/// and the end of either side is one too.
pub(crate) struct Gate {
    listener: UnixListener,
    path: String,
    _dir: TempDir,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new();
        let path = dir.path("gate");
        Gate { listener: UnixListener::bind(&path).unwrap(), path, _dir: dir }
    }

    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    /// Waits for the next one to come.
    #[track_caller]
    pub(crate) fn next(&self) -> Visitor {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        assert!(
            poll_for(&mut fds, LONG),
            "nobody came to the gate within {LONG:?}\n{}",
            who_waits_for_what()
        );
        let (mut stream, _) = self.listener.accept().unwrap();
        let mut pid = [0; 4];
        stream.read_exact(&mut pid).unwrap();
        Visitor { pid: u32::from_le_bytes(pid), stream }
    }
}

/// One that waits at a gate. Dropped, it goes on.
#[must_use = "it goes on at once"]
pub(crate) struct Visitor {
    pub(crate) pid: u32,
    stream: UnixStream,
}

impl Visitor {
    pub(crate) fn go_on(self) {}

    /// Returns when it has left the gate.
    pub(crate) fn go_on_and_leave(mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(self.stream.read(&mut [0]).unwrap(), 0);
    }

    pub(crate) fn answer(mut self, words: &[u8]) {
        self.stream.write_all(words).unwrap();
    }
}

/// Goes to a gate and waits there; returns what is answered.
pub(crate) fn attend(gate: &str) -> Vec<u8> {
    let mut stream = UnixStream::connect(gate).unwrap();
    stream.write_all(&std::process::id().to_le_bytes()).unwrap();
    let mut words = Vec::new();
    stream.read_to_end(&mut words).unwrap();
    words
}

/// A task: waits at the gate, returns its process.
pub(crate) fn wait_at(gate: String) -> u32 {
    attend(&gate);
    std::process::id()
}

/// A task: returns its process.
pub(crate) fn pid_of_worker((): ()) -> u32 {
    std::process::id()
}

/// A task with nothing special.
pub(crate) fn double(n: u64) -> u64 {
    n * 2
}

fn poll_for(fds: &mut [PollFd<'_>], limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).unwrap();
        match poll(fds, Some(&left)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A process whose end can be waited for by anyone.
pub(crate) struct Observed {
    pub(crate) pid: u32,
    fd: OwnedFd,
}

impl Observed {
    pub(crate) fn new(pid: u32) -> Self {
        let number = Pid::from_raw(pid as i32).unwrap();
        Observed { pid, fd: rustix::process::pidfd_open(number, PidfdFlags::empty()).unwrap() }
    }

    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        poll_for(&mut [PollFd::new(&self.fd, PollFlags::IN)], limit)
    }

    #[track_caller]
    pub(crate) fn ends(&self) {
        assert!(self.ends_within(LONG), "process {} is still there\n{}", self.pid, who_waits_for_what());
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.fd, signal);
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// State, parent and time of birth of a process. States: `R`, `S`, `T` stopped, `Z` dead and not waited for.
fn stat(pid: u32) -> Option<(char, u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (state, parent) = (fields.next()?.chars().next()?, fields.next()?.parse().ok()?);
    Some((state, parent, fields.nth(17)?.parse().ok()?))
}

/// One process and no other: its number may be given to another one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) pid: u32,
    born: u64,
}

impl Life {
    /// This process notes itself in a file.
    pub(crate) fn note(path: impl AsRef<Path>) {
        let pid = std::process::id();
        append_line(path, &format!("{pid} {}", stat(pid).unwrap().2));
    }

    pub(crate) fn noted(path: impl AsRef<Path>) -> Vec<Life> {
        let life = |line: &str| {
            let (pid, born) = line.split_once(' ')?;
            Some(Life { pid: pid.parse().ok()?, born: born.parse().ok()? })
        };
        let lines = fs::read_to_string(path).unwrap_or_default();
        lines.lines().map(|line| life(line).unwrap()).collect()
    }

    /// False also of one that is dead and waited for.
    pub(crate) fn is_there(self) -> bool {
        stat(self.pid).is_some_and(|(_, _, born)| born == self.born)
    }
}

pub(crate) fn state(pid: u32) -> Option<char> {
    stat(pid).map(|(state, ..)| state)
}

/// Stops a process, and waits until it stands still: one that is on its way out of a read might
/// still take what comes.
#[track_caller]
pub(crate) fn stop(pid: u32) {
    send(pid, Signal::STOP);
    until(&format!("process {pid} stands still"), || state(pid) == Some('T'));
}

/// Waits until a process has died, all threads of it; it may still have to be waited for.
/// (A process of several threads is a zombie when the first of them is dead.)
#[track_caller]
pub(crate) fn until_dead(pid: u32) {
    if stat(pid).is_some() {
        Observed::new(pid).ends();
    }
}

/// Dead ones that nobody waited for are children too.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| stat(pid).is_some_and(|(_, of, _)| of == parent)).collect()
}

/// Descriptors, threads and children of this process.
pub(crate) fn belongings() -> (usize, usize, usize) {
    let count = |path| fs::read_dir(path).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"), children_of(std::process::id()).len())
}

/// How a worker ends, or a task goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Death {
    Panic,
    /// With a payload that panics when it is dropped.
    PanicWithBomb,
    ExitZero,
    ExitThree,
    Abort,
    BadWrite,
    Kill,
    StackOverflow,
    /// Under the limit that the process has, or one that it sets itself.
    OutOfMemory,
    /// It does not end by itself.
    Loop,
    /// The process is stopped, and stops itself again if somebody lets it go on.
    Stop,
}

impl Death {
    /// The call ends by itself, with its worker.
    pub(crate) fn is_sudden(self) -> bool {
        !matches!(self, Death::Panic | Death::PanicWithBomb) && !self.needs_limit()
    }

    /// It goes on until somebody ends it.
    pub(crate) fn needs_limit(self) -> bool {
        matches!(self, Death::Loop | Death::Stop)
    }

    pub(crate) fn die(self) -> ! {
        no_core_dump();
        match self {
            Death::Panic => panic!("a task that panics"),
            Death::PanicWithBomb => std::panic::panic_any(Bomb),
            Death::ExitZero => std::process::exit(0),
            Death::ExitThree => std::process::exit(3),
            Death::Abort => std::process::abort(),
            Death::BadWrite => bad_write(),
            Death::Kill => kill_oneself(),
            Death::StackOverflow => panic!("no stack is that deep: {}", deeper(0)),
            Death::OutOfMemory => run_out_of_memory(),
            Death::Loop => loop {
                std::hint::spin_loop();
            },
            Death::Stop => loop {
                send(std::process::id(), Signal::STOP);
            },
        }
    }

    /// Is this how it ends, if nobody else ends it?
    pub(crate) fn explains(self, status: std::process::ExitStatus) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let signal = status.signal();
        match self {
            Death::Panic | Death::Loop | Death::Stop => false,
            Death::ExitZero => status.code() == Some(0),
            Death::ExitThree => status.code() == Some(3),
            // The bomb in a thread of the user's: there the standard library gives up.
            Death::Abort | Death::OutOfMemory | Death::PanicWithBomb => signal == Some(libc::SIGABRT),
            Death::BadWrite => signal == Some(libc::SIGSEGV),
            Death::Kill => signal == Some(libc::SIGKILL),
            // The standard library's handler, where it is in place, turns one into the other.
            Death::StackOverflow => matches!(signal, Some(libc::SIGSEGV | libc::SIGABRT)),
        }
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a payload that panics when it is dropped");
    }
}

/// In a worker: its ends are many and meant.
pub(crate) fn no_core_dump() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
}

fn bad_write() -> ! {
    // Not null: that is caught in debug builds before the processor sees it.
    let nowhere = std::ptr::without_provenance_mut::<u8>(64);
    // SAFETY: there is none. The page is not mapped, so the process ends here, which is the point.
    unsafe { nowhere.write_volatile(1) };
    unreachable!("page 0 is writable")
}

pub(crate) fn kill_oneself() -> ! {
    send(std::process::id(), Signal::KILL);
    unreachable!("killed")
}

/// Takes address space that it never touches, so it costs nobody anything.
fn run_out_of_memory() -> ! {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Data);
    if limit.current.is_none() {
        setrlimit(Resource::Data, Rlimit { current: Some(256 << 20), ..limit }).unwrap();
    }
    let mut taken = Vec::new();
    loop {
        taken.push(Vec::<u8>::with_capacity(16 << 20));
        std::hint::black_box(&taken);
    }
}

#[allow(unconditional_recursion)]
fn deeper(depth: u64) -> u64 {
    let space = std::hint::black_box([depth; 512]);
    1 + deeper(depth + space[17]) + std::hint::black_box(space)[3]
}

/// Kinds of frames, as in `src/wire/frame.rs`.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const REFUSAL: u8 = 2;
    pub(crate) const INITIALISE: u8 = 3;
    pub(crate) const CALL: u8 = 4;
    pub(crate) const RETURNED: u8 = 5;
    pub(crate) const FAILED: u8 = 6;
    pub(crate) const BYE: u8 = 7;
}

/// The header of a frame, as in `src/wire/frame.rs`.
pub(crate) fn header(length: u64, kind: u8, id: u64) -> Vec<u8> {
    [&length.to_le_bytes()[..], &[kind], &id.to_le_bytes()].concat()
}

/// In a worker: the number of its end of the pipe of replies, or of calls. They are the only
/// pipes it has that programs it starts do not inherit.
pub(crate) fn pipe_to_host() -> i32 {
    private_pipe(libc::O_WRONLY)
}

pub(crate) fn pipe_from_host() -> i32 {
    private_pipe(libc::O_RDONLY)
}

fn private_pipe(mode: i32) -> i32 {
    let is_ours = |fd: &i32| {
        let target = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0");
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
        *fd > 2
            && target.to_string_lossy().starts_with("pipe:")
            && flags & libc::O_ACCMODE == mode
            && flags & libc::O_CLOEXEC != 0
            && flags & libc::O_ASYNC == 0 // that is the one whose end is the host's
    };
    let found: Vec<i32> = descriptors("/proc/self/fd").into_iter().filter(is_ours).collect();
    assert_eq!(found.len(), 1, "a worker has one pipe of each kind: {found:?}");
    found[0]
}

pub(crate) fn descriptors(directory: &str) -> Vec<i32> {
    let names = fs::read_dir(directory).unwrap().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// In a worker: writes straight into its pipe of replies.
pub(crate) fn scribble(bytes: &[u8]) -> File {
    let path = format!("/proc/self/fd/{}", pipe_to_host());
    let mut pipe = OpenOptions::new().write(true).open(path).unwrap();
    pipe.write_all(bytes).unwrap();
    pipe
}

/// The same in a call, which goes on when the host has read it. A host that is awake might else find the reply in the page,
/// and have no reason to look into the pipe.
pub(crate) fn tell_host(bytes: &[u8]) {
    let pipe = scribble(bytes);
    while rustix::io::ioctl_fionread(&pipe).unwrap() > 0 {
        std::thread::yield_now();
    }
}

/// In a role: from here on no worker is given a page of memory, and all goes through the pipes. (The file of the page
/// would be larger than files may be.)
pub(crate) fn do_without_pages() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Fsize, Rlimit { current: Some(4096), maximum: Some(4096) }).unwrap();
}

/// In a worker: makes a descriptor another `/dev/null`.
pub(crate) fn blank(fd: i32) {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    use std::os::fd::AsRawFd;
    // SAFETY: both are open descriptors; that the one changes under its owner is the point.
    assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), fd) }, fd);
}

/// In a worker: a copy of the process that holds on to all its descriptors and does nothing.
/// It goes by itself after 100 seconds.
pub(crate) fn fork_and_hold() -> u32 {
    // SAFETY: the child makes two system calls that are allowed after a fork, and never returns.
    unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(100);
                loop {
                    libc::pause();
                }
            }
            child => u32::try_from(child).expect("fork"),
        }
    }
}

/// A program that has the stdio of this process, and does nothing for longer than any test takes.
#[allow(clippy::zombie_processes)] // it is to outlive us
pub(crate) fn program_that_waits() -> u32 {
    Command::new("sleep").arg("150").spawn().unwrap().id()
}

/// A process that is ended when the test ends, however that is.
pub(crate) struct Leftover(pub(crate) Observed);

/// The process whose number stands in a file.
pub(crate) fn leftover(note: &str) -> Leftover {
    Leftover(Observed::new(std::fs::read_to_string(note).unwrap().parse().unwrap()))
}

impl Drop for Leftover {
    fn drop(&mut self) {
        self.0.signal(Signal::KILL);
    }
}

/// Lines of a file that processes append to.
pub(crate) fn lines_of(path: impl AsRef<Path>) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

pub(crate) fn append_line(path: impl AsRef<Path>, line: &str) {
    let mut file: File = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Bytes that travel as such: `Vec<u8>` would be seconds in a debug build.
#[derive(PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl Blob {
    pub(crate) fn new(length: usize) -> Self {
        // The period is a prime: a page or a pipe too many or too few is seen.
        const PERIOD: usize = 65_537;
        let pattern: Vec<u8> = (0..PERIOD.min(length)).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
        let mut bytes = pattern.repeat(length.div_ceil(PERIOD));
        bytes.truncate(length);
        Blob(bytes)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Blob;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// The test that is no test, but plays the role for which this program was started, if it was for one.
macro_rules! roles {
    ($($name:literal => $play:expr),+ $(,)?) => {
        #[test]
        fn role_entry() {
            let Some(role) = my_role() else { return };
            let _watchdog = Watchdog::new("a role");
            match role.as_str() {
                $($name => $play,)+
                other => panic!("no role: {other}"),
            }
        }
    };
}
pub(crate) use roles;

/// The variable that makes a copy of the test program a role.
pub(crate) const ROLE: &str = "CF_TEST_ROLE";

/// This program again, as an ordinary process that does one thing: one of the `roles` of the test file.
pub(crate) fn role(name: &str) -> Command {
    role_of("/proc/self/exe", name)
}

/// The same, played by a copy of this program.
pub(crate) fn role_of(program: &str, name: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", "role_entry", "--nocapture", "--test-threads=1"]).env(ROLE, name);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A copy of this program in a directory of its own, for everybody to execute. It is another program
/// that writes it: one of ours that is started meanwhile would hold it open, and then it cannot be
/// executed.
pub(crate) fn copy_of_this_program() -> (TempDir, String) {
    let dir = TempDir::new();
    let copy = dir.path("copy");
    let made = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status().unwrap();
    assert!(made.success());
    for path in [dir.path(""), copy.clone()] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    (dir, copy)
}

/// The role that this process is to play. The harness has begun a line on stdout: ends it.
pub(crate) fn my_role() -> Option<String> {
    let role = std::env::var(ROLE).ok()?;
    println!();
    Some(role)
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("the role needs {name}"))
}

/// Says on stderr, past the harness, what a test that passes has not shown here.
pub(crate) fn not_shown(what: &str) {
    let _ = std::io::stderr().write_all(format!("not shown: {what}\n").as_bytes());
}

/// Waits for a role that must succeed; returns what it printed on stdout.
#[track_caller]
pub(crate) fn applause(role: Child) -> String {
    let Output { status, stdout, stderr } = role.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "the role ended with {status}\n{stdout}\n{stderr}");
    stdout.into()
}
