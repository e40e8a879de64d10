//! How a copy of the program learns that it is a worker: a variable in its environment.
//!
//! The variable holds the depth of nesting and the inode of the socket that the host put on the
//! worker's standard input. A program that a task starts inherits the variable but not the
//! socket, and so does not take itself for a worker. No secret is in it: whoever can put a
//! socket on our standard input is our parent, and has our rights. (`init` sees to that: a setuid
//! program has a parent with other rights, and takes no invitation.)

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
}

impl Invitation {
    pub(super) fn to_variable(self) -> String {
        format!("{}.{}", self.depth, self.inode)
    }

    fn parse(text: &str) -> Option<Self> {
        let (depth, inode) = text.split_once('.')?;
        Some(Invitation { depth: depth.parse().ok()?, inode: inode.parse().ok()? })
    }

    pub(super) fn of_this_process() -> Option<Self> {
        Invitation::parse(std::env::var_os(VARIABLE)?.to_str()?)
    }

    /// Is the socket here that this invitation came with?
    pub(super) fn is_for_us(self) -> bool {
        socket_inode(&std::io::stdin()) == Some(self.inode)
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
        let invitation = Invitation { depth: 3, inode: u64::MAX };
        assert_eq!(Invitation::parse(&invitation.to_variable()), Some(invitation));
    }

    #[test]
    fn noise_is_no_invitation() {
        for noise in ["", ".", "1", "1.", ".1", "x.y", "1.2.3", "-1.2"] {
            assert_eq!(Invitation::parse(noise), None, "{noise}");
        }
    }

    #[test]
    fn nobody_invited_this_test() {
        assert!(!Invitation { depth: 1, inode: 0 }.is_for_us());
    }
}
