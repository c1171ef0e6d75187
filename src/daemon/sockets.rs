//! The sockets: made here, or inherited from the service manager by the names `control` and `nbd`.
//!
//! Unix sockets that we make have mode 0660 from the moment they exist, replace one on which nobody listens any more,
//! and are removed at the end. All of them listen before any of them is served, so that nothing starts by halves.

use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{self, SockaddrStorage, sockopt};

use super::DaemonError;
use super::config::Config;
use crate::control::NbdListener;
use crate::kms::wire;
use crate::nbd::{Admission, ListenError, Listener};
use crate::sys::inherited::{self, Inherited};
use crate::sys::unix_socket;

/// Everything the daemon listens on.
pub(super) struct Sockets {
    pub(super) control: ControlSocket,
    pub(super) kms: Vec<wire::Listener>,
    pub(super) nbd: Vec<Listener>,
    /// Where those are, the unix sockets first.
    pub(super) nbd_at: Vec<NbdListener>,
}

/// The control socket.
pub(super) struct ControlSocket {
    pub(super) listener: UnixListener,
    /// Its file, where we made it.
    pub(super) made: Option<Made>,
}

/// A socket's file, removed when this is dropped.
pub(super) struct Made(PathBuf);

impl Sockets {
    /// Opens all sockets of `config`.
    pub(super) fn open(config: &Config, tls: Option<wire::Tls>) -> Result<Self, DaemonError> {
        let handed_over =
            inherited::take().map_err(|source| DaemonError::Inherited { name: "LISTEN_FDS".to_owned(), source })?;
        let mut inherited_control = None;
        let mut inherited_nbd = Vec::new();
        for Inherited { descriptor, name } in handed_over {
            match name.as_str() {
                "control" if inherited_control.is_none() => inherited_control = Some(descriptor),
                "nbd" => inherited_nbd.push(descriptor),
                _ => {
                    let source = io::Error::other("is not one `control` socket or an `nbd` socket");
                    return Err(DaemonError::Inherited { name, source });
                }
            }
        }
        let control = match inherited_control {
            Some(descriptor) => ControlSocket::inherited(descriptor)?,
            None => ControlSocket::make(config)?,
        };
        let kms = config.served.listen.iter().map(|(address, insecure)| open_kms(address, *insecure));
        let mut kms: Vec<_> = kms.collect::<Result<_, _>>()?;
        for (address, tls) in config.served.tls_listen.iter().zip(tls.into_iter().cycle()) {
            let failed = |source| DaemonError::KmsListen { at: address.to_string(), source };
            kms.push(wire::Listener::bind_tls(*address, tls).map_err(failed)?);
        }
        let mut sockets = Self { control, kms, nbd: Vec::new(), nbd_at: Vec::new() };
        if !config.kms_alone {
            sockets.open_nbd(config, inherited_nbd)?;
        } else if !inherited_nbd.is_empty() {
            let source = io::Error::other("a KMS alone serves no NBD");
            return Err(DaemonError::Inherited { name: "nbd".to_owned(), source });
        }
        Ok(sockets)
    }

    fn open_nbd(&mut self, config: &Config, inherited: Vec<OwnedFd>) -> Result<(), DaemonError> {
        let admission = admission(config);
        for descriptor in inherited {
            let at = unix_path(&descriptor);
            let listener = Listener::inherited(descriptor, admission.clone(), false);
            self.add(listener, &"LISTEN_FDS", at.map(NbdListener::Unix))?;
        }
        if !self.nbd_at.iter().any(|at| matches!(at, NbdListener::Unix(_))) {
            let path = config.socket.with_file_name("nbd.sock");
            make_directory(&path)?;
            self.add(Listener::unix(&path, admission), &path.display(), Some(NbdListener::Unix(path.clone())))?;
            give_to_group(&path, config.group)?;
        }
        for address in &config.listen {
            self.add(Listener::tcp(*address, false), address, None)?;
        }
        for address in &config.insecure_listen {
            self.add(Listener::tcp(*address, true), address, None)?;
        }
        self.nbd_at.sort_by_key(|at| matches!(at, NbdListener::Tcp(_)));
        Ok(())
    }

    /// Takes in a listener that is at `unix`, or else at the TCP address it says.
    fn add(
        &mut self,
        listener: Result<Listener, ListenError>,
        at: &dyn std::fmt::Display,
        unix: Option<NbdListener>,
    ) -> Result<(), DaemonError> {
        let failed = |source| DaemonError::Listen { at: at.to_string(), source };
        let listener = listener.map_err(failed)?;
        let tcp = listener.tcp_address().map_err(|error| failed(error.into()))?;
        self.nbd_at.extend(tcp.map(NbdListener::Tcp).or(unix));
        self.nbd.push(listener);
        Ok(())
    }
}

fn open_kms(address: &wire::Address, insecure: bool) -> Result<wire::Listener, DaemonError> {
    if let wire::Address::Unix(path) = address {
        make_directory(path)?;
    }
    wire::Listener::bind(address, insecure).map_err(|source| DaemonError::KmsListen { at: address.to_string(), source })
}

/// The users and groups that may use NBD's unix sockets: those of the control socket.
fn admission(config: &Config) -> Admission {
    let own = nix::unistd::geteuid().as_raw();
    Admission { uids: vec![0, own], gids: config.group.into_iter().collect() }
}

/// The path a unix socket is bound to.
fn unix_path(descriptor: &OwnedFd) -> Option<PathBuf> {
    let address = socket::getsockname::<SockaddrStorage>(descriptor.as_raw_fd()).ok()?;
    Some(address.as_unix_addr()?.path()?.to_owned())
}

impl ControlSocket {
    fn make(config: &Config) -> Result<Self, DaemonError> {
        let path = &config.socket;
        make_directory(path)?;
        let listener = unix_socket::listen(path).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => DaemonError::SocketInUse(path.clone()),
            _ => DaemonError::Socket { path: path.clone(), source: error },
        })?;
        let made = Self { listener, made: Some(Made(path.clone())) };
        give_to_group(path, config.group)?;
        Ok(made)
    }

    fn inherited(descriptor: OwnedFd) -> Result<Self, DaemonError> {
        let listens = socket::getsockopt(&descriptor, sockopt::AcceptConn).unwrap_or(false);
        let address = socket::getsockname::<SockaddrStorage>(descriptor.as_raw_fd());
        if !listens || !address.is_ok_and(|address| address.as_unix_addr().is_some()) {
            let source = io::Error::other("is not a listening unix socket");
            return Err(DaemonError::Inherited { name: "control".to_owned(), source });
        }
        Ok(Self { listener: UnixListener::from(descriptor), made: None })
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the control socket could not be removed");
        }
    }
}

/// Makes the directories of the sockets that are made here, where they are absent.
pub(super) fn make_directories(config: &Config) -> Result<(), DaemonError> {
    if std::env::var_os("LISTEN_FDS").is_none() {
        make_directory(&config.socket)?;
    }
    let mut of_kms = config.served.listen.iter().filter_map(|(address, _)| match address {
        wire::Address::Unix(path) => Some(path),
        wire::Address::Tcp(_) | wire::Address::Tls(_) => None,
    });
    of_kms.try_for_each(|path| make_directory(path))
}

/// The directory that `socket` is to lie in. Others may pass through it: the socket itself decides who is admitted.
fn make_directory(socket: &Path) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::Socket { path: socket.to_owned(), source };
    let directory = socket.parent().ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).create(directory).map_err(failed)?;
    set_permissions(directory, Permissions::from_mode(0o755)).map_err(failed)
}

fn give_to_group(socket: &Path, group: Option<u32>) -> Result<(), DaemonError> {
    // Where it is the daemon's own, it has been given already, and the unit takes chown away.
    let given = |group| std::fs::metadata(socket).is_ok_and(|made| made.gid() == group);
    match group {
        Some(id) if !given(id) => {
            chown(socket, None, group).map_err(|source| DaemonError::Socket { path: socket.to_owned(), source })
        }
        _ => Ok(()),
    }
}
