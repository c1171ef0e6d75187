//! Rare work on one volume: filling its holes, and giving its sector keys away.

use zeroize::Zeroizing;

use super::deadline::Patience;
use super::events::{Event, Happening};
use super::open::of_volume;
use super::state::Work;
use super::{AttachError, AttachOptions, ExportedKey, Registry, VolumeRef, VolumeView};
use crate::block::BlockDeviceExt;
use crate::kms::Principal;
use crate::volume::{Condition, Header, Progress, Record, Rollback};

impl Registry {
    /// Writes encrypted zeros into every hole (the volume must be detached).
    ///
    /// # Errors
    /// As for an attach; a disk that fails or is full; `progress` that says to stop. What is done stays done.
    pub fn fill(
        &self,
        caller: &Principal,
        volume: &VolumeRef,
        progress: Progress<'_>,
    ) -> Result<VolumeView, AttachError> {
        let id = self.resolve(volume)?;
        let claim = self.claim(&id, Work::Filling)?;
        let record = claim.record();
        let options = AttachOptions { read_only: false, caching: record.caching, rollback: Rollback::Refuse };
        let patience = Patience::Each(self.settings.attach_deadline);
        let opened = self.open_volume(&record, caller, options, patience)?;
        self.remember(&id, &opened.volume, |record| record.condition = Condition::Dirty)?;
        let filled = opened.device.fill(progress);
        opened.device.wipe_keys();
        let synced = opened.poison.flush();
        let condition = if synced.is_ok() { Condition::Clean } else { Condition::Failed };
        drop(opened);
        self.update_record(&id, |record| record.condition = condition).map_err(|source| self.state_error(source))?;
        filled.map_err(|source| of_volume(&record, source))?;
        synced.map_err(|source| AttachError::Storage { path: record.backing.clone(), source })?;
        drop(claim);
        tracing::info!(volume = %record.name, %caller, "filled");
        self.view_of(&id)
    }

    /// A fresh Decrypt, attached or not, then the dmsetup table. An event says that it was done.
    ///
    /// # Errors
    /// As for an attach.
    pub fn export_key(&self, caller: &Principal, volume: &VolumeRef) -> Result<ExportedKey, AttachError> {
        let id = self.resolve(volume)?;
        let exported = self.with_fresh_key(&id, caller, |record, header, data_key| {
            let warnings = warnings(record, header.header());
            let backing = record.backing.display().to_string();
            let exported = header.export(data_key, Some(record), Rollback::Refuse, &backing);
            let table = exported.map_err(|source| of_volume(record, source))?;
            let text =
                String::from_utf8(table.text().to_vec()).expect("a table is made of ASCII and a path that was text");
            Ok((ExportedKey { table: Zeroizing::new(text), warnings }, record.clone()))
        });
        let cause = exported.as_ref().err().map(AttachError::cause);
        let key = exported.as_ref().ok().map(|(_, record)| &record.key);
        self.events.record(&Event { happening: Happening::ExportKey, volume: &id, key, failure: cause.as_deref() });
        let (exported, record) = exported?;
        tracing::warn!(volume = %record.name, %id, %caller, "gave the sector keys away: disabling the KMS key no longer revokes them");
        Ok(exported)
    }
}

fn warnings(record: &Record, header: &Header) -> Vec<String> {
    let mut warnings = vec![
        "these keys open the volume for ever: disabling the KMS key no longer revokes them".to_owned(),
        "never map the volume while it is attached".to_owned(),
    ];
    if !header.thick {
        warnings.push(format!(
            "space that was never written reads as noise through this table, until `envol volume fill {}`",
            record.name
        ));
    }
    if record.backing.is_file() {
        warnings.push("the backing is a file: put it on a loop device (losetup) and name that in the table".to_owned());
    }
    warnings
}
