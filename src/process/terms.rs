//! On what terms workers work: their environment and directory, whom they are, how much they may
//! take and say.
//!
//! ```text
//!   builder ── checked ──▶ Surroundings ── Command ──▶ the environment and directory it starts in
//!                     └──▶ Terms ── with the host's Hello ──▶ accept(): first thing in the worker
//! ```
//!
//! Not here: how the terms travel (`wire/message.rs`), and who may be a host (`entry.rs`).
//! The rule: nobody forks for it. What std does only after a fork (user, groups), the worker does
//! itself, before it answers and so before it runs anything of the user's.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ProcessPoolBuilder, sys};
use crate::enclosed::{self, Enclosure};
use crate::error::Error;
use crate::id::TaskRef;
use crate::wire::frame::{HEADER, Parcel};
use crate::wire::message::Terms;

/// The environment of workers and the directory they start in.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// In the order in which they were asked for.
    env: Vec<Change>,
    /// Absolute, once it was checked.
    directory: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Change {
    Clear,
    Set(OsString, OsString),
    Remove(OsString),
}

impl Surroundings {
    /// What can be passed on, and names the same place from wherever the host goes.
    pub(super) fn checked(mut self) -> Result<Self, Error> {
        let bad = |text: &OsStr| text.as_encoded_bytes().contains(&0);
        for change in &self.env {
            let (key, value) = match change {
                Change::Clear => continue,
                Change::Set(key, value) => (key, value.as_os_str()),
                Change::Remove(key) => (key, OsStr::new("")),
            };
            if key.is_empty() || key.as_encoded_bytes().contains(&b'=') || bad(key) || bad(value) {
                return Err(Error::invalid(
                    format!("the environment variable {key:?}"),
                    "a name is not empty and holds no `=`; neither name nor value holds a NUL byte",
                ));
            }
        }
        if let Some(directory) = &mut self.directory {
            let absolute = std::path::absolute(&*directory).and_then(|path| {
                if path.metadata()?.is_dir() { Ok(path) } else { Err(io::ErrorKind::NotADirectory.into()) }
            });
            *directory = absolute.map_err(|error| {
                let remedy = "give a directory that the host can enter";
                Error::invalid(format!("the directory of the workers, {directory:?} ({error})"), remedy)
            })?;
        }
        Ok(self)
    }

    /// The standard library uses `posix_spawn` with all of these. It forks where a `Command` has a
    /// user, groups, a root directory or a closure; where it changes `PATH` and looks the program
    /// up in it, which does not hold for a program with a `/` in its name; and where it changes the
    /// directory and the C library has no `posix_spawn_file_actions_addchdir_np` (glibc has since
    /// 2.29). It says so in `posix_spawn` of `library/std/src/sys/process/unix/unix.rs`, and the
    /// system calls of Rust 1.95 show it: `clone3` with `CLONE_VM | CLONE_VFORK` for each of them.
    pub(super) fn give_to(&self, command: &mut Command) {
        for change in &self.env {
            match change {
                Change::Clear => command.env_clear(),
                Change::Set(key, value) => command.env(key, value),
                Change::Remove(key) => command.env_remove(key),
            };
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
    }

    /// For errors of workers that do not start there.
    pub(super) fn place(&self) -> String {
        self.directory.as_ref().map_or_else(String::new, |directory| format!(" in {directory:?}"))
    }
}

/// An error has room below it.
const SHORTEST: u64 = 1024;

/// Refuses what no worker could agree to.
pub(super) fn check(terms: &Terms) -> Result<(), Error> {
    if terms.max_message_bytes < SHORTEST {
        return Err(Error::invalid(
            format!("max_message_bytes is {}", terms.max_message_bytes),
            format!("give at least {SHORTEST}, so that errors can be told, or leave it out"),
        ));
    }
    if terms.memory_limit == Some(0) {
        return Err(Error::invalid("memory_limit is 0", "give bytes, or leave it out"));
    }
    if terms.memory_limit.is_some() && cfg!(not(target_os = "linux")) {
        let remedy = "set a limit for the host, which its workers inherit";
        return Err(Error::Unsupported { what: "`memory_limit` on this platform is", remedy });
    }
    let groups = terms.groups.as_deref().unwrap_or_default();
    if groups.len() > Terms::MAX_GROUPS {
        let what = format!("{} supplementary groups", groups.len());
        return Err(Error::invalid(what, format!("give at most {}", Terms::MAX_GROUPS)));
    }
    // The number by which the system means "none".
    if terms.uid.iter().chain(&terms.gid).chain(groups).any(|&number| number == u32::MAX) {
        return Err(Error::invalid("a user or group 4294967295", "no user and no group has this number"));
    }
    Ok(())
}

/// Lets a frame pass, unless its payload is too long.
pub(super) fn admit(
    terms: &Terms,
    task: TaskRef,
    frame: &Parcel,
    enclosed: &[Enclosure],
) -> Result<(), Error> {
    let (length, limit) = ((frame.len() - HEADER) as u64, terms.max_message_bytes);
    let length = length.saturating_add(enclosed::length_of(enclosed));
    if length <= limit {
        return Ok(());
    }
    Err(Error::Encode { task, what: "argument", reason: too_long("it has", length, limit) })
}

/// Why a message is not sent.
pub(super) fn too_long(what: &str, length: u64, limit: u64) -> String {
    format!("{what} {length} bytes, the limit is {limit} (`max_message_bytes`)")
}

/// In a worker that runs nothing of the user's yet: takes what it is told to take. `Err`: why it
/// cannot work.
pub(super) fn accept(terms: &Terms) -> Result<(), String> {
    become_that_user(terms)?;
    terms.memory_limit.map_or(Ok(()), limit_memory)
}

fn become_that_user(Terms { uid, gid, groups, .. }: &Terms) -> Result<(), String> {
    let was = (rustix::process::getuid(), rustix::process::getgid());
    let cannot = |what: &str, error: io::Error| {
        let (uid, gid) = (was.0.as_raw(), was.1.as_raw());
        format!(
            "{what}, because as user {uid} and group {gid} it may not: {error}; \
             run the host as root, or leave `uid`, `gid` and `groups` out"
        )
    };
    // Those of root would be left to whoever it becomes.
    let drop_groups = was.0.is_root() && (uid.is_some() || gid.is_some());
    if let Some(groups) = groups.as_deref().or(drop_groups.then_some(&[])) {
        let what = format!("it cannot take the supplementary groups {groups:?}");
        sys::set_groups(groups).map_err(|error| cannot(&what, error))?;
    }
    if let Some(gid) = *gid {
        sys::set_gid(gid).map_err(|error| cannot(&format!("it cannot become group {gid}"), error))?;
    }
    if let Some(uid) = *uid {
        sys::set_uid(uid).map_err(|error| cannot(&format!("it cannot become user {uid}"), error))?;
        // A capability that outlived the change, for one.
        if uid != 0 && sys::set_uid(0).is_ok() {
            return Err(format!(
                "it became user {uid}, but could become root again; \
                 run the host as root, or without the capability CAP_SETUID"
            ));
        }
    }
    Ok(())
}

/// What a worker must be able to allocate on top of what it has when it starts.
#[cfg(target_os = "linux")]
const ROOM: u64 = 1 << 20;

/// `RLIMIT_DATA`: since Linux 4.7 it counts the heap and every private mapping that can be written
/// to (stacks of threads in full, copies of files), at the moment it becomes so. `RLIMIT_AS` would
/// count the code of the program, files that are only read, and what is only reserved: the C
/// library reserves 64 MiB of addresses for each of the first threads. What `RLIMIT_DATA` leaves
/// out that takes memory is shared memory and the stack of the first thread, which has a limit of
/// its own.
#[cfg(target_os = "linux")]
fn limit_memory(bytes: u64) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Data).maximum;
    let most = Some(hard.map_or(bytes, |hard| hard.min(bytes)));
    // Looked at before: below what there is, the next allocation would be the end.
    let has = super::memory::allocated().unwrap_or(0);
    if most < Some(has.saturating_add(ROOM)) {
        return Err(format!(
            "a `memory_limit` of {bytes} bytes is too low: a worker has allocated {has} when it starts, and \
             needs {ROOM} more"
        ));
    }
    setrlimit(Resource::Data, Rlimit { current: most, maximum: most })
        .map_err(|error| format!("it cannot limit its memory to {bytes} bytes: {error}"))
}

#[cfg(not(target_os = "linux"))]
fn limit_memory(_: u64) -> Result<(), String> {
    Err("`memory_limit` is not supported on this platform".into())
}

/// # The terms of the workers
impl ProcessPoolBuilder {
    /// Sets a variable in the environment of the workers, which otherwise is the host's.
    ///
    /// Of several calls of `env`, [`env_remove`](Self::env_remove) and [`env_clear`](Self::env_clear)
    /// the later wins, as with [`std::process::Command`]. The library adds one variable of its own,
    /// which tells the copy that it is a worker and holds no secret.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).env("LANG", "la").build()?;
    ///     assert_eq!(pool.submit(|()| std::env::var("LANG").ok(), ()).result()?.as_deref(), Some("la"));
    ///     Ok(())
    /// }
    /// ```
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.surroundings.env.push(Change::Set(key.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Takes a variable out of the environment of the workers.
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).env_remove("PATH").build()?;
    ///     assert_eq!(pool.submit(|()| std::env::var("PATH").ok(), ()).result()?, None);
    ///     Ok(())
    /// }
    /// ```
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.surroundings.env.push(Change::Remove(key.as_ref().into()));
        self
    }

    /// Starts the workers without the host's environment: they have what [`env`](Self::env) sets
    /// after this, and the one variable of the library. What the loader needs to find the shared
    /// libraries of the program (`LD_LIBRARY_PATH`, where it is in use) must be set again.
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();
    ///     let builder = ProcessPoolExecutor::builder().max_workers(1);
    ///     let pool = builder.env_clear().env("LANG", "la").current_dir("/").build()?;
    ///     let seen = pool.submit(
    ///         |()| (std::env::var("LANG").ok(), std::env::var("PATH").ok(), std::env::current_dir().ok()),
    ///         (),
    ///     );
    ///     assert_eq!(seen.result()?, (Some("la".into()), None, Some("/".into())));
    ///     Ok(())
    /// }
    /// ```
    pub fn env_clear(mut self) -> Self {
        self.surroundings.env.push(Change::Clear);
        self
    }

    /// The directory in which the workers start. Default: the one that the host is in when it
    /// starts them. A relative path is one of the host's directory at [`build`](Self::build).
    ///
    /// ```
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).current_dir("/").build()?;
    ///     assert_eq!(pool.submit(|()| std::env::current_dir().ok(), ()).result()?, Some("/".into()));
    ///     Ok(())
    /// }
    /// ```
    pub fn current_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.surroundings.directory = Some(path.as_ref().into());
        self
    }

    /// The user that the workers are. Default: the host's. They change to it before they run
    /// anything of the program's but what it does before [`init`](crate::init), and make sure that
    /// there is no way back to root.
    ///
    /// The host must be root (in a container with `CAP_SETUID`, `CAP_SETGID` and `CAP_KILL`, so that it
    /// can end them), or the first call finds the pool broken, with an error that says what was
    /// not permitted. Supplementary groups are dropped, unless [`groups`](Self::groups) says which to
    /// have. The group stays unless [`gid`](Self::gid) is given too: give both.
    ///
    /// It costs no fork. It is no sandbox: see `SECURITY.md`.
    ///
    /// ```no_run
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();
    ///     const NOBODY: u32 = 65534;
    ///     let pool = ProcessPoolExecutor::builder().uid(NOBODY).gid(NOBODY).current_dir("/").build()?;
    ///     let parsed = pool.submit(|text: String| text.parse::<u32>().ok(), "42".to_string());
    ///     assert_eq!(parsed.result()?, Some(42));
    ///     Ok(())
    /// }
    /// ```
    pub fn uid(mut self, user: u32) -> Self {
        self.terms.uid = Some(user);
        self
    }

    /// The group that the workers belong to, as [`uid`](Self::uid) is the user. Default: the host's.
    ///
    /// ```no_run
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).uid(65534).gid(65534).build()?;
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn gid(mut self, group: u32) -> Self {
        self.terms.gid = Some(group);
        self
    }

    /// The supplementary groups of the workers, at most 512. The host must be root. Default: the
    /// host's; none if the host is root and [`uid`](Self::uid) or [`gid`](Self::gid) is given.
    ///
    /// ```no_run
    /// use concurrent_futures::{Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).uid(1000).gid(1000).groups(&[44]).build()?;
    ///     assert_eq!(pool.submit(|n: u32| n + 1, 41).result()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn groups(mut self, groups: &[u32]) -> Self {
        self.terms.groups = Some(groups.into());
        self
    }

    /// The longest argument or return value, in bytes as they travel, with 20 that name the
    /// function and its attempt; in a map, of a chunk. The memory of a [`Shared`](crate::Shared) counts too. At least 1024.
    /// Default: 64 GiB.
    ///
    /// A longer one ends its own call with [`Error::Encode`]. The host accepts no more from a worker
    /// in any case, whatever that announces: a worker that tries is replaced, and its call ends with
    /// [`Error::Decode`]. What is announced takes no memory before it arrives, so a low limit is for
    /// workers that are not trusted. The host holds one message a worker at a time, and the value
    /// decoded from it, which may be larger: a type whose values are small as bytes and large in
    /// memory is a matter of its `Deserialize`.
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn main() -> Result<(), concurrent_futures::Error> {
    ///     concurrent_futures::init();
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).max_message_bytes(1 << 20).build()?;
    ///     let long = pool.submit(|text: String| text.len(), "x".repeat(2 << 20));
    ///     assert!(matches!(long.result(), Err(Error::Encode { .. })));
    ///     Ok(())
    /// }
    /// ```
    pub fn max_message_bytes(mut self, bytes: u64) -> Self {
        self.terms.max_message_bytes = bytes;
        self
    }

    /// The most memory that a worker may allocate, in bytes: a call that wants more fails, and not
    /// the machine. Default: no limit. Only on Linux.
    ///
    /// A Rust program that gets no memory says so on stderr and aborts. So a call that allocates too
    /// much ends with [`Error::WorkerDied`], and the worker is replaced; where the call uses
    /// [`Vec::try_reserve`] and the like, or starts a thread, it has an error that it can handle. The
    /// argument and the return value count too, each twice: as bytes and as a value.
    ///
    /// What counts is the heap and all other private memory that can be written to, used or not:
    /// also the stack of a thread in full, 2 MiB each unless it is set. What does not count: the
    /// code of the program, files that are only read, memory that is shared with other processes
    /// (also `/dev/shm`), and the stack of the first thread, in which calls run and which has a
    /// limit of its own (`ulimit -s`). Programs that a call starts inherit the limit, each for itself.
    ///
    /// A worker has some hundred KiB when it starts, more if the program has large
    /// variables or an allocator that reserves in advance. A limit that leaves it less than 1 MiB on
    /// top of that breaks the pool at the first call, with an error that says how much it has. It is
    /// a guard against accidents: code that runs as root can raise it.
    ///
    /// Shared memory does not count: that of a [`Shared`](crate::Shared), whoever makes it.
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    ///
    /// fn reserve(bytes: usize) -> bool {
    ///     Vec::<u8>::new().try_reserve(bytes).is_ok()
    /// }
    ///
    /// fn main() -> Result<(), Error> {
    ///     concurrent_futures::init();
    ///     # if cfg!(not(target_os = "linux")) { return Ok(()) }
    ///     let pool = ProcessPoolExecutor::builder().max_workers(1).memory_limit(64 << 20).build()?;
    ///     assert!(pool.submit(reserve, 1 << 20).result()?);
    ///     assert!(!pool.submit(reserve, 1 << 30).result()?);
    ///     Ok(())
    /// }
    /// ```
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.terms.memory_limit = Some(bytes);
        self
    }
}
