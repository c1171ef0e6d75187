//! Volumes made elsewhere: looked at, taken in, and forgotten again. No byte of their backings is written.

use std::path::PathBuf;

use super::backing::glance;
use super::deadline::Patience;
use super::open::of_volume;
use super::state::Work;
use super::{AttachError, Registry, VolumeRef, VolumeView};
use crate::block::file::{Access, FileDevice};
use crate::block::{BlockDeviceExt, Caching};
use crate::kms::Principal;
use crate::volume::{Condition, Header, Record, Rollback, Unverified, Wanted};

impl Registry {
    /// What the backing at `path` says of itself, unverified.
    ///
    /// # Errors
    /// Where it lies outside the volume directories or holds no volume.
    pub fn inspect(&self, path: PathBuf) -> Result<Header, AttachError> {
        glance(&self.placement.judge(&path)?)
    }

    /// Takes in a volume made elsewhere: asks its KMS, verifies, remembers.
    ///
    /// # Errors
    /// As for an attach, and where its name or id is known here already.
    pub fn add(&self, caller: &Principal, path: PathBuf) -> Result<VolumeView, AttachError> {
        let path = self.placement.judge(&path)?;
        let backing = self.layered(FileDevice::open(&path, Access::ReadOnly)?);
        let header = Unverified::read(&*backing.device)
            .map_err(|source| AttachError::Unreadable { path: path.clone(), source: Box::new(source) })?;
        let provisional = stranger(header.header(), path);
        let claim = self.claim_birth(provisional.clone(), Work::Adding)?;
        let patience = Patience::Each(self.settings.attach_deadline);
        let data_key = self.unwrap(&provisional, &header, caller, patience)?;
        let verified = header.verify(data_key, None, Rollback::Refuse);
        let (volume, _keys) = verified.map_err(|source| of_volume(&provisional, source))?;
        // Whoever wrote it may not have synced it, and the record must not be ahead of what is on the disk.
        let synced = backing.device.flush();
        synced.map_err(|source| AttachError::Storage { path: provisional.backing.clone(), source })?;
        let (fingerprint, generation, mac) = volume.identity();
        let record = Record { fingerprint, generation, mac, ..provisional };
        let id = record.id.clone();
        drop(backing);
        claim.bear(record, volume.header().clone())?;
        tracing::info!(volume = %id, %caller, "taken in");
        self.view_of(&id)
    }

    /// Drops what is remembered; touches no backing.
    ///
    /// # Errors
    /// A volume that is attached or otherwise in use.
    pub fn forget(&self, volume: &VolumeRef) -> Result<(), AttachError> {
        let id = self.resolve(volume)?;
        let claim = self.claim(&id, Work::Forgetting)?;
        claim.bury()?;
        tracing::info!(volume = %id, "forgotten");
        Ok(())
    }
}

/// What is known of a volume of which only the header was seen.
fn stranger(header: &Header, backing: PathBuf) -> Record {
    Record {
        id: header.id.clone(),
        name: header.name.clone(),
        backing,
        made_by_envol: false,
        kms: header.kms.clone(),
        key: header.key.clone(),
        fingerprint: String::new(),
        generation: 0,
        mac: String::new(),
        condition: Condition::Clean,
        wanted: Wanted::Detached,
        caching: Caching::PageCache,
        size: header.size,
        sector_size: header.sector_size,
    }
}
