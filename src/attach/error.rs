//! Why something could not be done to a volume, sorted by fault. Exit code and word follow from that sort in `codes`, the
//! remedy in `remedy`.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::state::{Conflict, Work};
use super::{LastRefusal, VolumeRef};
use crate::block::BlockError;
use crate::block::file::OpenError;
use crate::kms::{KeyName, KmsError};
use crate::limits;
use crate::names::{VolumeId, VolumeName};
use crate::sync::Arc;
use crate::sys::locked::LockingFailed;
use crate::units::ByteCount;
use crate::volume::VolumeError;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Caller: no such volume.
    #[error("there is no volume {0}")]
    NotFound(VolumeRef),
    /// Caller: the name is in use.
    #[error("a volume named {0} exists already")]
    NameTaken(VolumeName),
    /// Caller: the id is known already.
    #[error("volume {0} is known here already")]
    IdTaken(VolumeId),
    /// Caller: the limit on volumes.
    #[error("there are {most} volumes already, the most that one daemon keeps", most = limits::VOLUMES_MAX)]
    TooManyVolumes,
    /// Caller: somebody else is at it.
    #[error("volume {name} is {doing}")]
    Busy {
        /// The volume.
        name: VolumeName,
        /// What it is doing, as in "being created".
        doing: &'static str,
    },
    /// Caller: it is attached.
    #[error("volume {0} is attached")]
    Attached(VolumeName),
    /// Caller: it is not attached.
    #[error("volume {0} is not attached")]
    NotAttached(VolumeName),
    /// Caller: its detach is not through.
    #[error("volume {0} is being detached")]
    Detaching(VolumeName),
    /// Caller: clients are connected.
    #[error("volume {name} is in use by {}", clients.join(", "))]
    Connected {
        /// The volume.
        name: VolumeName,
        /// Who, as people are told.
        clients: Vec<String>,
    },
    /// Caller: the daemon is on its way out.
    #[error("the daemon is stopping")]
    Stopping,
    /// Caller: no such section in the configuration.
    #[error("no KMS is configured under the name {0}")]
    NoSuchKms(String),
    /// Caller: a file that is to be made needs a size.
    #[error("the size of the volume is missing")]
    SizeMissing,
    /// Caller: no volume is so large or so small.
    #[error("a volume cannot have {0} bytes")]
    ImpossibleSize(ByteCount),
    /// Caller: outside the volume directories.
    #[error("{0} lies outside the directories for volumes")]
    Outside(PathBuf),
    /// Caller: a volume is there.
    #[error("{0} holds an envol volume")]
    HoldsVolume(PathBuf),
    /// Caller: something else is there.
    #[error("{path} holds {what}")]
    HoldsData {
        /// The backing.
        path: PathBuf,
        /// What, as in "an XFS file system".
        what: String,
    },
    /// Caller: the path leads nowhere.
    #[error("the path {path} cannot be used: {source}")]
    BadPath {
        /// As given.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// KMS: it refused, throttled, could not be reached or answered nonsense.
    #[error("the KMS gave no data key for volume {name} under key {key}: {source}")]
    Kms {
        /// The volume.
        name: VolumeName,
        /// The KMS key as it was asked for.
        key: KeyName,
        /// What it said.
        source: KmsError,
        /// Whether the KMS is not envol's own: other commands mend it.
        elsewhere: bool,
    },
    /// Caller: the KMS knows no such key, so no volume can be made under it.
    #[error("volume {name} cannot be put under key {key}: {source}")]
    NoSuchKey {
        /// The volume.
        name: VolumeName,
        /// The KMS key as it was asked for.
        key: KeyName,
        /// What the KMS said.
        source: KmsError,
        /// Whether the KMS is not envol's own.
        elsewhere: bool,
    },
    /// KMS: no answer in time.
    #[error("KMS {kms} has not answered for volume {name} and key {key} in time")]
    KmsTimeout {
        /// The volume.
        name: VolumeName,
        /// The KMS section.
        kms: String,
        /// The KMS key as it was asked for.
        key: KeyName,
    },
    /// Resource: no locked memory for keys.
    #[error("the keys of volume {name} cannot be held: {source}")]
    NoLockedMemory {
        /// The volume.
        name: VolumeName,
        /// What the system said.
        source: LockingFailed,
    },
    /// Integrity, mostly: the backing does not hold the volume that it should.
    #[error("volume {name}: {source}")]
    Volume {
        /// The volume.
        name: VolumeName,
        /// What is wrong.
        source: Box<VolumeError>,
    },
    /// Integrity, mostly: what is at a path cannot be read as a volume.
    #[error("{path}: {source}")]
    Unreadable {
        /// The backing.
        path: PathBuf,
        /// What is wrong.
        source: Box<VolumeError>,
    },
    /// Resource: the backing of a known volume is gone.
    #[error("the backing {path} of volume {name} is not there")]
    BackingGone {
        /// The volume.
        name: VolumeName,
        /// Where it was.
        path: PathBuf,
    },
    /// Resource: the backing cannot be opened or made.
    #[error(transparent)]
    Backing(#[from] OpenError),
    /// Resource: the backing failed.
    #[error("the backing {path}: {source}")]
    Storage {
        /// The backing.
        path: PathBuf,
        /// How.
        source: BlockError,
    },
    /// Resource: a file of envol's own making cannot be removed or changed.
    #[error("the backing {path}: {source}")]
    File {
        /// The backing.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Resource: the backing did not answer in time; the volume stays `attaching` until it does.
    #[error("the backing of volume {name} has not answered within {} s", waited.as_secs())]
    TimedOut {
        /// The volume.
        name: VolumeName,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Resource: after a detach, the backing has not answered.
    #[error("volume {0} is cut off and its keys are wiped, but its backing has not answered: it stays detaching")]
    StillDetaching(VolumeName),
    /// Resource: detached, but the last flush failed.
    #[error("volume {name} is detached, but its last writes may be lost: {source}")]
    FlushFailed {
        /// The volume.
        name: VolumeName,
        /// How.
        source: BlockError,
    },
    /// Resource: detached, but that could not be written down.
    #[error("volume {name} is detached, but that could not be recorded: {source}")]
    Unrecorded {
        /// The volume.
        name: VolumeName,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// Resource: the state directory.
    #[error("the state directory {path}: {source}")]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bug: a thread that should have answered is gone.
    #[error("an internal error: the thread at work on volume {0} ended without an answer")]
    Lost(VolumeName),
}

impl AttachError {
    pub(super) fn conflict(name: &VolumeName, conflict: Conflict) -> Self {
        let name = name.clone();
        match conflict {
            Conflict::Busy(work) => Self::Busy { name, doing: Work::doing(work) },
            Conflict::Attached => Self::Attached(name),
            Conflict::Detaching => Self::Detaching(name),
            Conflict::NotAttached => Self::NotAttached(name),
        }
    }

    /// What `volume` reported of the volume called `name`, whose KMS key was asked for as `key`.
    pub(super) fn of_volume(name: &VolumeName, key: KeyName, source: VolumeError) -> Self {
        let name = name.clone();
        match source {
            VolumeError::Kms(KmsError::NoLockedMemory(source)) | VolumeError::NoLockedMemory(source) => {
                Self::NoLockedMemory { name, source }
            }
            VolumeError::Kms(source) => Self::Kms { name, key, source, elsewhere: false },
            source => Self::Volume { name, source: Box::new(source) },
        }
    }

    /// The same, of a KMS that is not envol's own where that is so.
    pub(super) fn told_by(mut self, is_elsewhere: bool) -> Self {
        if let Self::Kms { elsewhere, .. } | Self::NoSuchKey { elsewhere, .. } = &mut self {
            *elsewhere = is_elsewhere;
        }
        self
    }

    /// The KMS's exception, where it was the KMS.
    pub fn kms_exception(&self) -> Option<&str> {
        match self {
            Self::Kms { source, .. } | Self::NoSuchKey { source, .. } => match source {
                KmsError::Refused { exception, .. } | KmsError::Throttled { exception, .. } => Some(exception),
                _ => None,
            },
            _ => None,
        }
    }

    /// The reason for events, `status` and NBD clients: the KMS's own text where it was the KMS.
    pub fn cause(&self) -> String {
        match self {
            Self::Kms {
                source: KmsError::Refused { exception, message } | KmsError::Throttled { exception, message },
                ..
            } => {
                if message.is_empty() {
                    exception.clone()
                } else {
                    message.clone()
                }
            }
            other => other.to_string(),
        }
    }

    /// Whether the same attach may go through later without anybody doing anything: the KMS throttles or is not reached,
    /// or the backing is slow.
    pub(super) fn may_pass(&self) -> bool {
        self.exit_code() == 6 || matches!(self, Self::TimedOut { .. })
    }

    pub(super) fn as_refusal(&self, retrying: bool) -> LastRefusal {
        let kms_exception = self.kms_exception().map(str::to_owned);
        LastRefusal { time: SystemTime::now(), cause: self.cause(), kms_exception, retrying }
    }
}
