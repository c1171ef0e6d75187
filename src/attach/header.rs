//! The header of one volume, changed or kept elsewhere by an operator: rewrap, backup, restore.
//!
//! A rewrap of an attached volume passes its gate for the moments of reading and writing, never while the KMS is asked: so a
//! detach waits for the disk alone. Who writes the header of an attached volume holds its `header` lock; who writes that
//! of a detached one has the claim. The header is synced before the record is.

use super::attachment::Attachment;
use super::deadline::{Bounded, Patience};
use super::events::{Event, Happening};
use super::open::of_volume;
use super::state::Work;
use super::{AttachError, HeaderBackup, NewSeal, Registry, VolumeRef, VolumeView};
use crate::block::file::Access;
use crate::block::{BlockDevice, BlockError, Caching};
use crate::kms::{KeyName, KmsError, Principal};
use crate::names::VolumeId;
use crate::volume::{Backup, Elsewhere, Record, Resealed, Rollback, Side, Unverified, Verified, VolumeError};

/// A KMS that has a part in a rewrap, and the key that it is asked for.
struct Asked<'k> {
    kms: &'k Bounded,
    section: &'k str,
    key: KeyName,
}

impl Asked<'_> {
    /// Its failure, where the volume's key so far is `from`.
    fn failed(self, record: &Record, from: &str, error: VolumeError) -> AttachError {
        let (name, key) = (record.name.clone(), self.key);
        match error {
            VolumeError::Kms(_) if self.kms.timed_out() => {
                AttachError::KmsTimeout { name, kms: self.section.to_owned(), key }
            }
            VolumeError::Kms(source) if is_missing(&source, from) => {
                AttachError::NoSuchKey { name, key, source, elsewhere: false }
            }
            error => AttachError::of_volume(&name, key, error),
        }
        .told_by(self.kms.is_elsewhere())
    }
}

impl Registry {
    /// Has the KMS, or another one, seal a volume's data key under another key, attached or not.
    ///
    /// # Errors
    /// A key that is not there or not to be used, a header that is not the recorded one, a disk that fails.
    pub fn rewrap(&self, caller: &Principal, volume: &VolumeRef, to: &NewSeal) -> Result<VolumeView, AttachError> {
        let id = self.resolve(volume)?;
        let outcome = match self.attachment(&id)? {
            Some(attachment) => self.rewrap_attached(&id, &attachment, caller, to),
            None => self.rewrap_detached(&id, caller, to),
        };
        self.report_header(&id, caller, Happening::RewrapVolume, outcome.as_ref().err())?;
        outcome?;
        self.view_of(&id)
    }

    /// A volume's header, to be kept elsewhere. Asks no KMS.
    ///
    /// # Errors
    /// Where no copy is valid, or the backing cannot be read.
    pub fn back_up_header(&self, volume: &VolumeRef) -> Result<HeaderBackup, AttachError> {
        let id = self.resolve(volume)?;
        let (record, header) = match self.attachment(&id)? {
            Some(attachment) => {
                // Not while a rewrap has written one copy and not the other.
                let _alone = attachment.parts.header_lock.lock();
                let record = self.record_of(&id)?;
                let header = inside(&attachment, |device| self.read_header(&record, device))?;
                (record, header)
            }
            None => {
                let claim = self.claim(&id, Work::Examining)?;
                let record = claim.record();
                let backing = self.open_backing(&record, Access::ReadOnly, Caching::PageCache)?;
                let header = self.read_header(&record, &*backing.device)?;
                (record, header)
            }
        };
        Ok(HeaderBackup { id, name: record.name, generation: header.generation(), bytes: header.back_up() })
    }

    /// Puts a header back that was kept elsewhere, where both copies are damaged too. The volume must be detached.
    ///
    /// # Errors
    /// Another volume's header, an older one unless that is accepted, one that the KMS does not open, a disk that fails.
    pub fn restore_header(
        &self,
        caller: &Principal,
        volume: &VolumeRef,
        backup: &[u8],
        rollback: Rollback,
    ) -> Result<VolumeView, AttachError> {
        let id = self.resolve(volume)?;
        let outcome = self.restore(&id, caller, backup, rollback);
        self.report_header(&id, caller, Happening::RestoreHeader, outcome.as_ref().err())?;
        outcome?;
        self.view_of(&id)
    }

    fn rewrap_detached(&self, id: &VolumeId, caller: &Principal, to: &NewSeal) -> Result<(), AttachError> {
        let claim = self.claim(id, Work::Rewrapping)?;
        let record = claim.record();
        let backing = self.open_backing_afresh(&record, Access::ReadWrite, Caching::PageCache)?;
        let header = self.read_header(&record, &*backing.device)?;
        let resealed = self.reseal(&record, header, caller, to)?;
        let written = resealed.write(&*backing.device, &record).map_err(|source| of_volume(&record, source))?;
        self.settle_header(&record, &written)
    }

    fn rewrap_attached(
        &self,
        id: &VolumeId,
        attachment: &Attachment,
        caller: &Principal,
        to: &NewSeal,
    ) -> Result<(), AttachError> {
        let _alone = attachment.parts.header_lock.lock();
        let record = self.record_of(id)?;
        if attachment.parts.read_only {
            return Err(of_volume(&record, VolumeError::Storage(BlockError::ReadOnly)));
        }
        let header = inside(attachment, |device| self.read_header(&record, device))?;
        let resealed = self.reseal(&record, header, caller, to)?;
        inside(attachment, |device| {
            let written = resealed.write(device, &record).map_err(|source| of_volume(&record, source))?;
            self.settle_header(&record, &written)
        })
    }

    fn reseal(
        &self,
        record: &Record,
        header: Unverified,
        caller: &Principal,
        to: &NewSeal,
    ) -> Result<Resealed, AttachError> {
        let patience = Patience::Each(self.settings.attach_deadline);
        let (section, from) = (header.header().kms.clone(), header.header().key.clone());
        let kms = self.kms(&section, patience)?;
        let source = Asked { kms: &kms, section: &section, key: KeyName::from(from.clone()) };
        let Some(other) = to.kms.as_ref().filter(|other| **other != section) else {
            let target = Asked { key: to.key.clone(), ..source };
            return header.reseal(&kms, caller, &to.key).map_err(|error| target.failed(record, from.as_str(), error));
        };
        let elsewhere = self.kms(other, patience)?;
        let target = Asked { kms: &elsewhere, section: other, key: to.key.clone() };
        let there = Elsewhere { kms: &elsewhere, section: other, key: &to.key };
        header.reseal_elsewhere(&kms, caller, there).map_err(|(side, error)| match side {
            Side::Source => source.failed(record, from.as_str(), error),
            Side::Target => target.failed(record, from.as_str(), error),
        })
    }

    fn restore(&self, id: &VolumeId, caller: &Principal, backup: &[u8], rollback: Rollback) -> Result<(), AttachError> {
        let claim = self.claim(id, Work::Restoring)?;
        let record = claim.record();
        let refused = |source| of_volume(&record, source);
        let backup = Backup::decode(backup).map_err(|fault| refused(VolumeError::BadBackup(fault)))?;
        if backup.header().id != record.id {
            let (recorded, found) = (record.id.clone(), backup.header().id.clone());
            return Err(refused(VolumeError::AnotherVolume { recorded, found }));
        }
        let backing = self.open_backing_afresh(&record, Access::ReadWrite, Caching::PageCache)?;
        let section = backup.header().kms.clone();
        let key = KeyName::from(backup.header().key.clone());
        let kms = self.kms(&section, Patience::Each(self.settings.attach_deadline))?;
        let data_key = backup.unwrap_key(&kms, caller).map_err(|source| match source {
            VolumeError::Kms(_) if kms.timed_out() => {
                AttachError::KmsTimeout { name: record.name.clone(), kms: section, key: key.clone() }
            }
            source => AttachError::of_volume(&record.name, key.clone(), source).told_by(kms.is_elsewhere()),
        })?;
        let restored = backup.restore(&*backing.device, &data_key, &record, rollback).map_err(refused)?;
        self.settle_header(&record, &restored)
    }

    /// Remembers a header that was written, and records what was accepted of the one that it came from.
    fn settle_header(&self, record: &Record, written: &Verified) -> Result<(), AttachError> {
        self.remember(&record.id, written, |_| ())?;
        self.report_standing(record, written.standing());
        Ok(())
    }

    pub(super) fn record_of(&self, id: &VolumeId) -> Result<Record, AttachError> {
        Ok(self.table.lock().entry_mut(id)?.record.clone())
    }

    /// Logs and records how it ended.
    fn report_header(
        &self,
        id: &VolumeId,
        caller: &Principal,
        happening: Happening,
        failure: Option<&AttachError>,
    ) -> Result<(), AttachError> {
        let record = self.record_of(id)?;
        match failure {
            None => {
                tracing::info!(volume = %record.name, %id, %caller, key = %record.key, ?happening, "the header was written anew")
            }
            Some(error) => {
                tracing::warn!(volume = %record.name, %id, %caller, %error, ?happening, "the header stays as it was")
            }
        }
        let cause = failure.map(AttachError::cause);
        self.events.record(&Event { happening, volume: id, key: Some(&record.key), failure: cause.as_deref() });
        Ok(())
    }
}

/// What `work` makes of the device under an attachment, counted as a request in flight.
fn inside<T>(
    attachment: &Attachment,
    work: impl FnOnce(&dyn BlockDevice) -> Result<T, AttachError>,
) -> Result<T, AttachError> {
    if !attachment.enter() {
        return Err(AttachError::Detaching(attachment.parts.record.name.clone()));
    }
    let _entered = Entered(attachment);
    work(&*attachment.parts.backing)
}

/// Leaves what was entered, whatever happens: a request that never ends would hold up every detach.
struct Entered<'a>(&'a Attachment);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Whether the KMS knows no key of the new name (and not: the old key has gone).
fn is_missing(error: &KmsError, from: &str) -> bool {
    matches!(error, KmsError::Refused { exception, message } if exception == "NotFoundException" && !message.contains(from))
}
