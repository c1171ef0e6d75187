//! Where clients come from: unix and TCP sockets, bound here or inherited (LISTEN_FDS), and who is admitted.
//!
//! A unix socket made here has mode 0660 from the moment it exists, replaces a stale one that nobody listens on, and is
//! removed with its listener. Who connects to it is decided by SO_PEERCRED before a byte is exchanged.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{self, SockaddrStorage, sockopt};

use super::Peer;
use super::link::{Link, LinkError};
use crate::sys::peer_groups::peer_groups;
use crate::sys::unix_socket;

/// Who may use a unix socket: these users, and members of these groups. Ids are compared exactly.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// User ids.
    pub uids: Vec<u32>,
    /// Group ids.
    pub gids: Vec<u32>,
}

/// Why a listener could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another server is there.
    #[error("another server listens on {0}")]
    InUse(PathBuf),
    /// Something that is no socket lies in the way.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// TCP off this host without the word for it.
    #[error("{0} is not a loopback address: whoever reaches it could use the volumes")]
    NotLoopback(SocketAddr),
    /// An inherited descriptor that clients cannot connect to.
    #[error("an inherited descriptor is not a listening unix or TCP socket")]
    NotListening,
    /// The system said no.
    #[error("cannot listen")]
    System(#[from] io::Error),
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Whether peers may be anybody, from anywhere, so that nothing is told beyond what the protocol needs.
    insecure: bool,
}

#[derive(Debug)]
enum Socket {
    Unix {
        listener: UnixListener,
        admission: Admission,
        /// The path to be removed, where we made it.
        made: Option<PathBuf>,
    },
    Tcp(TcpListener),
}

/// Why a connection was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcceptError {
    /// Nobody there any more, or nobody yet.
    #[error("no client is waiting")]
    Nobody,
    /// SO_PEERCRED names somebody else.
    #[error("user {uid}, group {gid} (process {pid}) is not admitted")]
    NotAdmitted { pid: i32, uid: u32, gid: u32 },
    /// The connection failed before it began.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Out of descriptors or memory: to be tried again later.
    #[error("cannot accept: {0}")]
    System(#[source] io::Error),
}

impl Listener {
    /// Listens on a unix socket at `path`.
    ///
    /// # Errors
    /// [`ListenError`]; what lay at `path` is still there then.
    pub fn unix(path: &Path, admission: Admission) -> Result<Self, ListenError> {
        let listener = unix_socket::listen(path).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(path.to_owned()),
            io::ErrorKind::AlreadyExists => ListenError::NotASocket(path.to_owned()),
            _ => ListenError::System(error),
        })?;
        let made = Some(path.to_owned());
        Self::new(Socket::Unix { listener, admission, made }, false)
    }

    /// Listens on TCP at `address`; off the loopback addresses only where `insecure` says that this is meant.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn tcp(address: SocketAddr, insecure: bool) -> Result<Self, ListenError> {
        check_loopback(address, insecure)?;
        Self::new(Socket::Tcp(TcpListener::bind(address)?), insecure)
    }

    /// Takes over a listening socket that was made for us; `admission` counts if it is a unix socket, `insecure` if TCP.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn inherited(fd: OwnedFd, admission: Admission, insecure: bool) -> Result<Self, ListenError> {
        if !socket::getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false) {
            return Err(ListenError::NotListening);
        }
        let address = socket::getsockname::<SockaddrStorage>(fd.as_raw_fd()).map_err(io::Error::from)?;
        if address.as_unix_addr().is_some() {
            return Self::new(Socket::Unix { listener: fd.into(), admission, made: None }, false);
        }
        let listener = TcpListener::from(fd);
        // Anything but an Internet address is refused here.
        let address = listener.local_addr().map_err(|_| ListenError::NotListening)?;
        check_loopback(address, insecure)?;
        Self::new(Socket::Tcp(listener), insecure)
    }

    fn new(socket: Socket, insecure: bool) -> Result<Self, ListenError> {
        let listener = Self { socket, insecure };
        // So that a client which has gone again between poll and accept does not hold the accepting thread up.
        match &listener.socket {
            Socket::Unix { listener, .. } => listener.set_nonblocking(true)?,
            Socket::Tcp(listener) => listener.set_nonblocking(true)?,
        }
        Ok(listener)
    }

    /// The TCP address listened on; `None` for a unix socket.
    ///
    /// # Errors
    /// As the system says.
    pub fn tcp_address(&self) -> io::Result<Option<SocketAddr>> {
        match &self.socket {
            Socket::Unix { .. } => Ok(None),
            Socket::Tcp(listener) => listener.local_addr().map(Some),
        }
    }

    pub(super) fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// Takes the next client, without waiting for one.
    pub(super) fn accept(&self) -> Result<Link, AcceptError> {
        match &self.socket {
            Socket::Unix { listener, admission, .. } => {
                let (stream, _) = listener.accept().map_err(accepting_failed)?;
                let peer = admission.admit(&stream)?;
                Ok(Link::unix(stream, peer))
            }
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().map_err(accepting_failed)?;
                Ok(Link::tcp(stream, Peer::Tcp(address))?)
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix { listener, .. } => listener.as_fd(),
            Socket::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix { made: Some(path), .. } = &self.socket
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove the NBD socket");
        }
    }
}

impl Admission {
    /// Who is at the other end of `stream`, if admitted.
    fn admit(&self, stream: &UnixStream) -> Result<Peer, AcceptError> {
        let credentials = socket::getsockopt(stream, sockopt::PeerCredentials).map_err(LinkError::from)?;
        let (pid, uid, gid) = (credentials.pid(), credentials.uid(), credentials.gid());
        let admitted = self.uids.contains(&uid)
            || self.gids.contains(&gid)
            || peer_groups(stream.as_fd()).is_ok_and(|groups| groups.iter().any(|group| self.gids.contains(group)));
        if admitted { Ok(Peer::Unix { pid, uid, gid }) } else { Err(AcceptError::NotAdmitted { pid, uid, gid }) }
    }
}

fn check_loopback(address: SocketAddr, insecure: bool) -> Result<(), ListenError> {
    if insecure || address.ip().is_loopback() { Ok(()) } else { Err(ListenError::NotLoopback(address)) }
}

fn accepting_failed(error: io::Error) -> AcceptError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {
            AcceptError::Nobody
        }
        _ => AcceptError::System(error),
    }
}
