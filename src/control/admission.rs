//! Who may use a unix socket of ours: decided from what the kernel says of the peer, before a byte of theirs is read.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};

use crate::sys::peer_groups::peer_groups;

/// Who is at the other end of a unix socket, as the kernel recorded it when they connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Process id, for messages only: it may name another process by now.
    pub(super) pid: i32,
    /// Effective user id.
    pub(super) uid: u32,
    /// Effective group id.
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
}

impl Credentials {
    /// The peer of the connected unix socket `socket`.
    pub(super) fn of(socket: &impl AsFd) -> io::Result<Self> {
        let peer = getsockopt(socket, sockopt::PeerCredentials)?;
        let groups = peer_groups(socket.as_fd())?;
        Ok(Self { pid: peer.pid(), uid: peer.uid(), gid: peer.gid(), groups })
    }
}

/// Root, the daemon's own user and, where configured, the members of one group. Everybody else is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admission {
    /// The user the daemon runs as.
    pub(crate) own_uid: u32,
    /// The group whose members are let in too.
    pub(crate) group: Option<u32>,
}

impl Admission {
    /// Whether `peer` is let in: by user and groups, each compared exactly, and never by process id.
    pub(super) fn admits(self, peer: &Credentials) -> bool {
        let member = |group| peer.gid == group || peer.groups.contains(&group);
        peer.uid == 0 || peer.uid == self.own_uid || self.group.is_some_and(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials { pid: 1, uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn root_and_the_own_user_are_admitted_and_nobody_else() {
        let admission = Admission { own_uid: 990, group: None };
        assert!(admission.admits(&peer(0, 0, &[])));
        assert!(admission.admits(&peer(990, 5, &[])));
        for stranger in [peer(1000, 990, &[990]), peer(991, 0, &[0]), peer(u32::MAX, u32::MAX, &[])] {
            assert!(!admission.admits(&stranger), "{stranger:?}");
        }
    }

    #[test]
    fn a_configured_group_admits_its_members() {
        let admission = Admission { own_uid: 990, group: Some(77) };
        assert!(admission.admits(&peer(1000, 77, &[])));
        assert!(admission.admits(&peer(1000, 1000, &[4, 77])));
        assert!(!admission.admits(&peer(77, 1000, &[4, 7])));
    }
}
