//! Attachments: which volumes are known here, which are open, and the way from one state to the next (LIFECYCLE.md).
//!
//! [`Registry`] is what `control` calls and what `daemon` joins to `nbd`. All of its methods may be called at once, from
//! threads that may block; `look_up`, `attached`, `list` and what an [`Attachment`] does wait for no KMS.

mod attachment;
mod backing;
mod codes;
mod create;
mod deadline;
mod detach;
mod error;
mod events;
mod header;
mod import;
mod look;
mod look_up;
mod mailbox;
mod open;
mod placement;
mod reattach;
mod records;
mod registry;
mod remedy;
mod state;
mod upkeep;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use crate::kms::{KeyName, Kms};
use crate::names::{BadName, VolumeId, VolumeName};
use crate::sync::Arc;
use crate::units::{ByteCount, SectorSize};
use crate::volume::{Header, Record, Rollback};

pub use crate::block::Caching;
pub use attachment::{Attachment, ClientGuard};
pub use error::AttachError;
pub use events::{EventLog, Watch};
pub use records::RecordFiles;
pub use registry::{Layer, Registry};

/// A volume as people name it: by name or by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeRef {
    /// By its name here.
    Name(VolumeName),
    /// By its id.
    Id(VolumeId),
}

/// What the registry is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where records, events and volumes made by envol lie.
    pub state_dir: PathBuf,
    /// Directories in which backings may lie; `<state dir>/volumes` is always one.
    pub volume_dirs: Vec<PathBuf>,
    /// Account in ARNs of volumes.
    pub account: String,
    /// Region in ARNs of volumes.
    pub region: String,
    /// The KMS section used where a request names none.
    pub default_kms: String,
    /// As [`crate::limits::ATTACH_DEADLINE`] unless configured.
    pub attach_deadline: Duration,
    /// As [`crate::limits::DRAIN_DEADLINE`] unless configured.
    pub drain_deadline: Duration,
    /// As [`crate::limits::DETACH_GRACE`] unless configured.
    pub detach_grace: Duration,
    /// As [`crate::limits::DEAD_CONNECTION_WINDOW`] unless configured.
    pub dead_connection_window: Duration,
}

/// `volume create`.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// Its name.
    pub name: VolumeName,
    /// Usable bytes; the whole device where `None`.
    pub size: Option<ByteCount>,
    /// The KMS key; `alias/aws/ebs` where `None`.
    pub key: Option<KeyName>,
    /// The KMS section; the default one where `None`.
    pub kms: Option<String>,
    /// The backing; `<state dir>/volumes/<id>.envol` where `None`.
    pub backing: Option<PathBuf>,
    /// Unit of encryption.
    pub sector_size: SectorSize,
    /// Bytes under one XTS key.
    pub scope: ByteCount,
    /// Encrypted zeros everywhere.
    pub thick: bool,
    /// Take a backing that holds other data.
    pub force: bool,
}

/// How to attach.
#[derive(Debug, Clone, Copy)]
pub struct AttachOptions {
    /// Refuse writes.
    pub read_only: bool,
    /// Which way bytes go to and from the backing.
    pub caching: Caching,
    /// What to do about an older header.
    pub rollback: Rollback,
}

/// Whether `detach` respects connected clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It does.
    No,
    /// It does not.
    Yes,
}

/// The states of a volume, in the words of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// `creating`
    Creating,
    /// `available`
    Available,
    /// `attaching`
    Attaching,
    /// `in-use`
    InUse,
    /// `detaching`
    Detaching,
    /// `error`: the backing is gone or a sync failed.
    Error,
}

/// What is said of a volume.
#[derive(Debug, Clone)]
pub struct VolumeView {
    /// What is remembered of it.
    pub record: Record,
    /// Strict about zeros; `None` where the backing cannot be read.
    pub header: Option<Header>,
    /// Bytes that its backing takes now.
    pub allocated: Option<ByteCount>,
    /// Where it is in its life.
    pub state: State,
    /// The attachment, while there is one.
    pub attachment: Option<AttachmentView>,
    /// The last attach, where it failed.
    pub last_refusal: Option<LastRefusal>,
}

/// What is said of an attachment.
#[derive(Debug, Clone)]
pub struct AttachmentView {
    /// Whether writes are refused.
    pub read_only: bool,
    /// Which way its bytes go.
    pub caching: Caching,
    /// When it was attached.
    pub since: SystemTime,
    /// Clients, as people are told of them.
    pub clients: Vec<String>,
    /// What it has carried.
    pub traffic: Traffic,
}

/// Counters since the attach.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// READs answered.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: ByteCount,
    /// WRITEs answered.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: ByteCount,
    /// FLUSHes answered.
    pub flushes: u64,
}

/// A failed attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRefusal {
    /// When.
    pub time: SystemTime,
    /// Why: the KMS's own text where it was the KMS.
    pub cause: String,
    /// The KMS's exception.
    pub kms_exception: Option<String>,
    /// Whether it is being tried again.
    pub retrying: bool,
}

/// `volume rewrap`: what is to seal the data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSeal {
    /// The KMS section; the one that seals it now where `None`.
    pub kms: Option<String>,
    /// Its key.
    pub key: KeyName,
}

/// What `volume header backup` keeps.
pub struct HeaderBackup {
    /// The volume.
    pub id: VolumeId,
    /// Its name here.
    pub name: VolumeName,
    /// How often its header had been written.
    pub generation: u64,
    /// The newer valid copy, as it is stored.
    pub bytes: Vec<u8>,
}

/// What `volume export-key` gives.
pub struct ExportedKey {
    /// The dmsetup table; wiped on drop.
    pub table: zeroize::Zeroizing<String>,
    /// What to be warned of.
    pub warnings: Vec<String>,
}

/// The KMSs by section name.
pub type KmsTable = std::collections::BTreeMap<String, Arc<dyn Kms>>;

/// What there is under an export name.
pub enum LookUp {
    /// It is attached.
    Attached(Arc<Attachment>),
    /// There is no such volume, or it is merely not attached.
    Unknown,
    /// It is being detached.
    Draining,
    /// Its last attach failed.
    Refused(LastRefusal),
    /// Its re-attach after a restart has not succeeded (yet), and a client that was connected may still be waiting.
    DeadConnectionWindow,
}

impl fmt::Display for VolumeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl FromStr for VolumeRef {
    type Err = BadName;

    /// A name is never shaped like an id, so a text is one or the other.
    fn from_str(text: &str) -> Result<Self, BadName> {
        text.parse().map(Self::Id).or_else(|_| text.parse().map(Self::Name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::KeyArn;
    use crate::volume::{Condition, Wanted};

    /// A record as it might be, the `number`th.
    pub(super) fn a_record(name: &str, number: u8) -> Record {
        Record {
            id: VolumeId::from_random([number; 9]),
            name: name.parse().expect("a name"),
            backing: PathBuf::from("/nonexistent"),
            made_by_envol: false,
            kms: "embedded".into(),
            key: KeyArn::new("arn:aws:kms:us-east-1:000000000000:key/k"),
            fingerprint: "00".repeat(16),
            generation: 1,
            mac: "00".repeat(64),
            condition: Condition::Clean,
            wanted: Wanted::Detached,
            caching: Caching::PageCache,
            size: ByteCount::new(1 << 20),
            sector_size: SectorSize::B4096,
        }
    }

    #[test]
    fn a_volume_is_named_by_name_or_by_id() {
        let id = VolumeId::from_random([7; 9]);
        assert_eq!(id.as_str().parse(), Ok(VolumeRef::Id(id.clone())));
        assert_eq!("db".parse(), Ok(VolumeRef::Name("db".parse().expect("a name"))));
        assert!("../x".parse::<VolumeRef>().is_err());
    }
}
