//! Listening unix sockets that are never open to more than owner and group, not even for a moment.

use std::fs::{Permissions, set_permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};

/// Listens at `path` with mode 0660, in the place of a socket on which nobody listens any more.
///
/// # Errors
/// `AddrInUse` where somebody listens there, `AlreadyExists` where something lies there that is no socket; what lay at
/// `path` is still there then.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let mode = 0o660;
    // On Linux the file that bind makes takes the socket's own mode, less the umask, so no moment exists in which it is
    // wider.
    fchmod(&socket, Mode::from_bits_truncate(mode))?;
    socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    set_permissions(path, Permissions::from_mode(mode))?;
    socket::listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_nobody_listens_on_is_replaced_and_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        let first = listen(&path).expect("free");
        assert_eq!(path.metadata().expect("made").permissions().mode() & 0o777, 0o660);
        assert_eq!(listen(&path).map_err(|error| error.kind()).expect_err("taken"), ErrorKind::AddrInUse);
        drop(first);
        listen(&path).expect("stale");
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        std::fs::write(&path, "precious").expect("written");
        assert_eq!(listen(&path).map_err(|error| error.kind()).expect_err("refused"), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).expect("still there"), b"precious");
    }
}
