//! What is remembered of a volume outside of it, and the comparison of every header with it.
//!
//! Somebody who can write the backing can always make a whole new header, valid under a key of their own. Only this
//! memory finds that, and finds an older header put back. Keeping it is the attachments' part; comparing is here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::block::Caching;
use crate::kms::KeyArn;
use crate::names::{VolumeId, VolumeName};
use crate::units::{ByteCount, SectorSize};

use super::codec::Contents;
use super::error::VolumeError;

/// Whether the volume was left in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Detached in order.
    Clean,
    /// Attached, or the daemon died while it was.
    Dirty,
    /// A sync failed.
    Failed,
}

/// What the state directory remembers of a volume, to which every attach compares the header (FORMAT.md, The record).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The volume.
    pub id: VolumeId,
    /// Its name here.
    pub name: VolumeName,
    /// The backing, an absolute path.
    pub backing: PathBuf,
    /// Whether envol made the backing file, so that `delete` removes it.
    pub made_by_envol: bool,
    /// The KMS section's name.
    pub kms: String,
    /// The KMS key's ARN.
    pub key: KeyArn,
    /// The data key's public fingerprint, 32 hex digits.
    pub fingerprint: String,
    /// The header's generation when last written or accepted.
    pub generation: u64,
    /// The header's MAC at that generation, 128 hex digits.
    pub mac: String,
    /// How it was left.
    pub condition: Condition,
    /// Whether a restart should attach it again, and how.
    pub wanted: Wanted,
    /// Which way its bytes went when it was last attached, and go when a restart attaches it again.
    #[serde(default)]
    pub caching: Caching,
    /// Usable bytes, for lists while the backing is away.
    pub size: ByteCount,
    /// Unit of encryption.
    pub sector_size: SectorSize,
}

/// What the operator wants of a volume, kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// Detached.
    Detached,
    /// Attached.
    Attached,
    /// Attached read-only.
    AttachedReadOnly,
}

/// What to do about a header older than its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rollback {
    /// Refuse.
    Refuse,
    /// The operator said `--accept-rollback`.
    Accept,
}

/// How an accepted header stands to its record; all but `Same` belong in the audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was remembered of this volume.
    Unknown,
    /// As remembered.
    Same,
    /// Ahead of the record: the header is synced before the record is.
    Ahead,
    /// Ahead, and sealed by another KMS key: a rewrap that did not come to the record.
    Rewrapped,
    /// Older, or another of the same generation, and accepted by the operator.
    RolledBack,
}

/// Compares a header, whose MAC holds under the key of its fingerprint, with `record`.
///
/// # Errors
/// Another volume, another data key, another KMS key without a later generation, a rollback that is not accepted.
pub(super) fn compare(
    record: &Record,
    found: &Contents,
    identity: &str,
    rollback: Rollback,
) -> Result<Standing, VolumeError> {
    let header = &found.header;
    if header.id != record.id {
        return Err(VolumeError::AnotherVolume { recorded: record.id.clone(), found: header.id.clone() });
    }
    if found.fingerprint.to_string() != record.fingerprint {
        return Err(VolumeError::ForeignKey { recorded: record.fingerprint.clone(), found: found.fingerprint });
    }
    let same_key = header.kms == record.kms && header.key == record.key;
    if found.generation > record.generation {
        return Ok(if same_key { Standing::Ahead } else { Standing::Rewrapped });
    }
    let refused = if found.generation < record.generation {
        VolumeError::Rollback { recorded: record.generation, found: found.generation }
    } else if !same_key {
        return Err(kms_key_changed(record, found));
    } else if identity == record.mac {
        return Ok(Standing::Same);
    } else {
        VolumeError::Forked(found.generation)
    };
    match rollback {
        Rollback::Refuse => Err(refused),
        Rollback::Accept if same_key => Ok(Standing::RolledBack),
        Rollback::Accept => Err(kms_key_changed(record, found)),
    }
}

fn kms_key_changed(record: &Record, found: &Contents) -> VolumeError {
    VolumeError::KmsKeyChanged {
        recorded_kms: record.kms.clone(),
        recorded: record.key.clone(),
        found_kms: found.header.kms.clone(),
        found: found.header.key.clone(),
    }
}
