//! The groups of the process at the other end of a unix socket (SO_PEERGROUPS): SO_PEERCRED names only the first.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// More groups than a process can have (NGROUPS_MAX of Linux).
const GROUPS_MAX: usize = 65_536;

/// The supplementary groups that the peer had when it connected.
///
/// # Errors
/// Where the system does not tell; nothing can be said of the peer's groups then.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(&groups[..])).expect("the list is short");
        // SAFETY: `groups` holds `bytes` writable bytes, and both pointers live for the call; any bytes are valid ids.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        match Errno::result(result) {
            Ok(_) => {
                groups.truncate(bytes as usize / size_of::<libc::gid_t>());
                return Ok(groups);
            }
            // The list is longer; `bytes` now says how long.
            Err(Errno::ERANGE) if groups.len() < GROUPS_MAX => groups.resize(GROUPS_MAX, 0),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_peer_in_this_process_has_the_groups_of_this_process() {
        let (here, _there) = UnixStream::pair().expect("a pair");
        let mut expected: Vec<u32> =
            nix::unistd::getgroups().expect("groups").iter().map(|group| group.as_raw()).collect();
        let mut groups = peer_groups(here.as_fd()).expect("told");
        expected.sort_unstable();
        groups.sort_unstable();
        assert_eq!(groups, expected);
    }
}
