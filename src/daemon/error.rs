//! Why the daemon did not start, sorted by fault; the exit code follows in one function.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::config::ConfigError;
use crate::attach::AttachError;
use crate::block::engine::EngineError;
use crate::control::client::ClientError;
use crate::kms::embedded::backup::BackupError;
use crate::kms::embedded::hsm::{Failure, HsmError};
use crate::kms::embedded::{DomainKeyError, OpenError, PassphraseError, StoreError};
use crate::kms::wire;
use crate::nbd::ListenError;
use crate::sys::locked::{KeyMemoryChoice, LockingFailed};

/// Why the daemon did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Caller: the options or the configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Caller: what is to carry out I/O cannot.
    #[error("the data path")]
    Engine(#[from] EngineError),
    /// Caller: others may write into the state directory, or it belongs to somebody else.
    #[error("the state directory {0} must belong to the daemon's user and be writable by nobody else")]
    UnsafeStateDir(PathBuf),
    /// Caller: what answers at the control socket names a directory that it may have no business in.
    #[error(
        "the daemon says that its state directory is {0}, which is not its user's, or which others can change or replace"
    )]
    NotTheDaemons(PathBuf),
    /// Caller: the service manager handed over something we have no use for.
    #[error("the inherited socket {name:?}")]
    Inherited {
        /// Its name in LISTEN_FDNAMES.
        name: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Conflict: one daemon for each state directory.
    #[error("another daemon uses the state directory {0}")]
    AnotherDaemon(PathBuf),
    /// Conflict: the control socket is somebody's.
    #[error("another daemon listens on {0}")]
    SocketInUse(PathBuf),
    /// Resource: the state directory.
    #[error("the state directory {path}")]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Resource: a socket or its directory.
    #[error("the socket {path}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Resource: the memory that keys lie in, as the configuration asks for it.
    #[error("key memory, as key_memory = {asked:?} asks for it")]
    KeyMemory {
        /// What was asked for.
        asked: KeyMemoryChoice,
        /// What the system said.
        source: LockingFailed,
    },
    /// Resource: what every daemon gives up before it holds a key.
    #[error("the daemon cannot be kept from being dumped")]
    Seal(#[source] io::Error),
    /// Resource: the configuration requires a confinement that the kernel cannot give.
    #[error("hardening = \"require\", and there is no {0}")]
    NotHardened(String),
    /// Where NBD was to be served.
    #[error("NBD cannot be served at {at}")]
    Listen {
        /// The path or address.
        at: String,
        /// Why not.
        source: ListenError,
    },
    /// Where the KMS was to be served.
    #[error("the KMS cannot be served at {at}")]
    KmsListen {
        /// The path or address.
        at: String,
        /// Why not.
        source: wire::ListenError,
    },
    /// Caller: the certificate or the key that the KMS is to be served with.
    #[error("TLS for the KMS")]
    Tls(#[from] wire::TlsError),
    /// Conflict: parts of a KMS lie there, which nothing may be built on.
    #[error("a restore of the KMS was interrupted: {0} has its parts")]
    InterruptedRestore(PathBuf),
    /// A backup of the embedded KMS.
    #[error("the backup {path}")]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<BackupError>,
    },
    /// The domain key, which was to be moved.
    #[error("the domain key in {path}")]
    DomainKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<BackupError>,
    },
    /// A daemon that was asked for something.
    #[error(transparent)]
    Asked(#[from] ClientError),
    /// The embedded KMS.
    #[error("the embedded KMS")]
    Kms(#[source] OpenError),
    /// Resource: the process from which the HSM part is started.
    #[error("the HSM's parent process could not be started")]
    Hsm(#[source] io::Error),
    /// Resource: the process from which calls to other KMSs are started.
    #[error("the parent of the processes that call a KMS could not be started")]
    Callers(#[source] io::Error),
    /// Resource: the event log.
    #[error("the event log {path}")]
    Events {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The volumes; what it says holds its whole chain.
    #[error("{0}")]
    Volumes(Box<AttachError>),
    /// Resource: threads, signal handlers.
    #[error("the daemon's threads")]
    Threads(#[source] io::Error),
}

impl From<AttachError> for DaemonError {
    fn from(error: AttachError) -> Self {
        Self::Volumes(Box::new(error))
    }
}

impl DaemonError {
    /// The exit code (product.md).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Engine(_)
            | Self::KeyMemory { .. }
            | Self::NotHardened(_)
            | Self::Tls(_)
            | Self::UnsafeStateDir(_)
            | Self::NotTheDaemons(_)
            | Self::Inherited { .. } => 2,
            Self::AnotherDaemon(_) | Self::SocketInUse(_) | Self::InterruptedRestore(_) => 4,
            Self::Listen { source, .. } => of_listening(source),
            Self::KmsListen { source, .. } => match source {
                wire::ListenError::InUse => 4,
                wire::ListenError::NotLoopback | wire::ListenError::NoTls => 2,
                wire::ListenError::System(source) => of_system(source),
            },
            Self::Socket { source, .. } => of_system(source),
            Self::Backup { source, .. } | Self::DomainKey { source, .. } => of_backup(source),
            Self::Asked(source) => source.problem().exit_code,
            Self::Kms(source) => of_opening(source),
            Self::StateDir { source, .. } => of_storage(source),
            Self::Events { .. } => 8,
            Self::Volumes(source) => source.exit_code(),
            Self::Threads(_) | Self::Seal(_) | Self::Hsm(_) | Self::Callers(_) => 1,
        }
    }
}

fn of_listening(error: &ListenError) -> u8 {
    match error {
        ListenError::InUse(_) => 4,
        ListenError::NotASocket(_) | ListenError::NotLoopback(_) | ListenError::NotListening => 2,
        ListenError::System(source) => of_system(source),
    }
}

fn of_backup(error: &BackupError) -> u8 {
    match error {
        BackupError::NotABackup | BackupError::WrongPassphrase | BackupError::Damaged(_) => 7,
        BackupError::Occupied(_) => 4,
        BackupError::NotAFile(_)
        | BackupError::ReadOnce(_)
        | BackupError::OtherCredential(_)
        | BackupError::NoLockedMemory(_) => 2,
        BackupError::NotRemoved { source, .. } => of_storage(source),
        BackupError::Passphrase { source, .. } => of_passphrase(source),
        BackupError::DomainKey(error) => of_domain_key(error),
        BackupError::File { source, .. } => match source.kind() {
            ErrorKind::NotFound => 3,
            ErrorKind::AlreadyExists => 4,
            _ => of_storage(source),
        },
        BackupError::Store(error) => of_store(error),
        BackupError::Hsm(error) => of_hsm(error),
    }
}

fn of_opening(error: &OpenError) -> u8 {
    match error {
        OpenError::DomainKey(error) => of_domain_key(error),
        OpenError::Store(error) => of_store(error),
        OpenError::Hsm(error) => of_hsm(error),
        OpenError::NoLockedMemory(_) => 2,
        OpenError::Directory { .. } | OpenError::AuditLog(_) | OpenError::Identities(_) => 8,
    }
}

fn of_domain_key(error: &DomainKeyError) -> u8 {
    match error {
        DomainKeyError::Passphrase { source, .. } => of_passphrase(source),
        DomainKeyError::File { source, .. } if source.kind() == ErrorKind::PermissionDenied => 9,
        _ => 2,
    }
}

fn of_passphrase(error: &PassphraseError) -> u8 {
    match error {
        PassphraseError::Unfit | PassphraseError::NoLockedMemory(_) => 2,
        PassphraseError::Wrong => 7,
        PassphraseError::Unread(source) => of_storage(source),
    }
}

fn of_store(error: &StoreError) -> u8 {
    match error {
        StoreError::OtherDomainKey => 7,
        StoreError::OtherIdentity { .. } | StoreError::Newer { .. } => 2,
        StoreError::InUse => 4,
        _ => 8,
    }
}

/// Where it says that it was not started, its parent has refused where the domain key comes from.
fn of_hsm(error: &HsmError) -> u8 {
    match error {
        HsmError::NoLockedMemory(_) | HsmError::NotStarted(_) => 2,
        HsmError::Failed(Failure::Memory | Failure::Passphrase | Failure::DomainKey | Failure::Confinement) => 2,
        HsmError::OtherDomainKey => 7,
        _ => 8,
    }
}

fn of_storage(error: &io::Error) -> u8 {
    if error.kind() == ErrorKind::PermissionDenied { 9 } else { 8 }
}

fn of_system(error: &io::Error) -> u8 {
    match error.kind() {
        ErrorKind::AddrInUse => 4,
        ErrorKind::PermissionDenied => 9,
        _ => 2,
    }
}
