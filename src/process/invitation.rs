//! How a copy of the program learns that it is a worker: a variable in its environment.
//!
//! The variable holds the depth of nesting, the inode of the socket that the host put on the
//! worker's standard input, and the host's process id. A program that a task starts inherits the
//! variable but not the socket, and so does not take itself for a worker. No secret is in it:
//! whoever can put a socket on our standard input is our parent, and has our rights. (`init` sees to
//! that: a setuid program has a parent with other rights, and takes no invitation.)

use std::os::fd::AsFd;

/// Name of the variable.
pub(super) const VARIABLE: &str = "CONCURRENT_FUTURES_WORKER";

/// Pools inside workers of pools inside workers …: where it ends, lest a program that makes a
/// pool wherever it runs fill the machine.
pub(super) const MAX_DEPTH: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invitation {
    /// 1 for a worker of the program that the user started.
    pub(super) depth: u32,
    pub(super) inode: u64,
    /// The process id of the host, as it sees itself.
    pub(super) host: u32,
}

impl Invitation {
    pub(super) fn to_variable(self) -> String {
        format!("{}.{}.{}", self.depth, self.inode, self.host)
    }

    fn parse(text: &str) -> Option<Self> {
        let (depth, rest) = text.split_once('.')?;
        let (inode, host) = rest.split_once('.')?;
        Some(Invitation { depth: depth.parse().ok()?, inode: inode.parse().ok()?, host: host.parse().ok()? })
    }

    pub(super) fn of_this_process() -> Option<Self> {
        Invitation::parse(std::env::var_os(VARIABLE)?.to_str()?)
    }

    /// Is the socket here that this invitation came with?
    pub(super) fn is_for_us(self) -> bool {
        socket_inode(&rustix::stdio::stdin()) == Some(self.inode)
    }

    /// Has the host died? Then somebody else is our parent. (In a namespace of process ids whose
    /// first process we are, our parent has no number.)
    pub(super) fn is_void(self) -> bool {
        let parent = rustix::process::getppid();
        parent.is_some_and(|parent| parent.as_raw_pid().unsigned_abs() != self.host)
    }
}

/// What identifies a socket on both sides of an exec.
pub(super) fn socket_inode(fd: &impl AsFd) -> Option<u64> {
    let stat = rustix::fs::fstat(fd).ok()?;
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_socket().then_some(stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let invitation = Invitation { depth: 3, inode: u64::MAX, host: 7 };
        assert_eq!(Invitation::parse(&invitation.to_variable()), Some(invitation));
    }

    #[test]
    fn noise_is_no_invitation() {
        for noise in ["", ".", "1", "1.", ".1", "1.2", "1.2.", "x.y.z", "1.2.3.4", "-1.2.3"] {
            assert_eq!(Invitation::parse(noise), None, "{noise}");
        }
    }

    #[test]
    fn nobody_invited_this_test() {
        assert!(!Invitation { depth: 1, inode: 0, host: 1 }.is_for_us());
    }
}
