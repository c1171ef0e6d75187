//! The way up: backing claimed, header read, data key opened by the KMS, verified against the record, next generation
//! written, device stacked, recorded, visible. Each step returns a value whose drop undoes it.
//!
//! All but the last two steps run on a thread that is left behind at the deadline. It holds the claim meanwhile: a volume
//! whose backing hangs stays `attaching` until the backing answers, and is free again then.

use std::time::{Duration, Instant};

use super::attachment::{Attachment, Parts};
use super::backing::Backing;
use super::deadline::Patience;
use super::events::{Event, Happening};
use super::mailbox::{self, Undelivered};
use super::registry::Claim;
use super::state::{Phase, Work};
use super::{AttachError, AttachOptions, Registry, VolumeRef, VolumeView};
use crate::block::file::Access;
use crate::block::poison::Poison;
use crate::block::{BlockDevice, BlockDeviceExt, BlockError, Caching};
use crate::kms::{DataKey, KeyName, Principal};
use crate::names::VolumeId;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, thread};
use crate::volume::{
    Condition, EncryptedDevice, Record, Rollback, Standing, Unverified, Verified, VolumeError, Wanted,
};

/// A volume opened and not yet visible. Dropping it wipes the keys and gives the backing back.
pub(super) struct Opened {
    pub(super) volume: Verified,
    pub(super) device: EncryptedDevice,
    pub(super) backing: Backing,
    pub(super) poison: Arc<dyn BlockDevice>,
    pub(super) failed: Arc<AtomicBool>,
}

impl Registry {
    /// Attaches.
    ///
    /// # Errors
    /// Where the volume is not free, its backing cannot be had, the KMS does not open its data key, or its header is not
    /// what is remembered.
    pub fn attach(
        &self,
        caller: &Principal,
        volume: &VolumeRef,
        options: AttachOptions,
    ) -> Result<VolumeView, AttachError> {
        let id = self.resolve(volume)?;
        let claim = self.claim(&id, Work::Attaching)?;
        let outcome = self.attach_claimed(claim, caller, options);
        if let Ok(entry) = self.table.lock().entry_mut(&id) {
            entry.awaited = false;
        }
        let record = self.report_attach(&id, Happening::AttachVolume, outcome.as_ref().err())?;
        outcome.inspect_err(|error| tracing::warn!(volume = %record.name, %error, "not attached"))?;
        self.view_of(&id)
    }

    /// Whether an attach would be let through now; changes nothing. Of an attached volume: whether the next one would.
    ///
    /// # Errors
    /// What an attach would answer.
    pub fn rehearse(
        &self,
        caller: &Principal,
        volume: &VolumeRef,
        options: AttachOptions,
    ) -> Result<VolumeView, AttachError> {
        let id = self.resolve(volume)?;
        self.with_fresh_key(&id, caller, |record, header, data_key| {
            let verified = header.verify(data_key, Some(record), options.rollback);
            let (volume, _keys) = verified.map_err(|source| of_volume(record, source))?;
            if options.read_only { Ok(()) } else { volume.check_writable().map_err(|source| of_volume(record, source)) }
        })?;
        self.view_of(&id)
    }

    /// Attaches a volume that is claimed for that; the refusal, if there is one, is noted.
    pub(super) fn attach_claimed(
        &self,
        claim: Claim,
        caller: &Principal,
        options: AttachOptions,
    ) -> Result<(), AttachError> {
        let (id, record) = (claim.id().clone(), claim.record());
        let work = claim.work();
        let retrying = |error: &AttachError| work == Work::Reattaching && error.may_pass();
        let (claim, opened) = self.open_bounded(claim, &record, caller, options);
        let settled = opened.and_then(|opened| self.settle(&id, opened, options, work));
        match (claim, settled) {
            (Some(claim), Ok(attachment)) => claim.open(attachment),
            (_, Ok(_)) => unreachable!("what was opened comes with its claim"),
            (claim, Err(error)) => {
                self.refuse(&id, error.as_refusal(retrying(&error)));
                drop(claim);
                Err(error)
            }
        }
    }

    /// [`Registry::open_volume`] on a thread that is left behind at the deadline, the claim with it.
    fn open_bounded(
        &self,
        claim: Claim,
        record: &Record,
        caller: &Principal,
        options: AttachOptions,
    ) -> (Option<Claim>, Result<Opened, AttachError>) {
        let waited = self.settings.attach_deadline;
        let deadline = Instant::now() + waited;
        // The KMS's time ends a little earlier, so that its failure is told as such.
        let kms_deadline = deadline - (waited / 10).min(Duration::from_secs(1));
        let (sender, receiver) = mailbox::pair();
        let (registry, caller, for_thread) = (self.myself(), caller.clone(), record.clone());
        let spawned = thread::Builder::new().name("envol-attach".into()).spawn(move || {
            let opened = registry.open_volume(&for_thread, &caller, options, Patience::Until(kms_deadline));
            // What comes too late is undone before the claim on the volume is given back: fields drop in order.
            drop(sender.deliver((opened, claim)));
        });
        if let Err(source) = spawned {
            return (None, Err(self.state_error(source)));
        }
        match receiver.wait(deadline) {
            Ok((opened, claim)) => (Some(claim), opened),
            Err(Undelivered::TimedOut) => (None, Err(AttachError::TimedOut { name: record.name.clone(), waited })),
            Err(Undelivered::Lost) => (None, Err(AttachError::Lost(record.name.clone()))),
        }
    }

    /// From the backing to a device that could be served.
    pub(super) fn open_volume(
        &self,
        record: &Record,
        caller: &Principal,
        options: AttachOptions,
        patience: Patience,
    ) -> Result<Opened, AttachError> {
        let access = if options.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let backing = self.open_backing_afresh(record, access, options.caching)?;
        let header = self.read_header(record, &*backing.device)?;
        let data_key = self.unwrap(record, &header, caller, patience)?;
        let verified = header.verify(data_key, Some(record), options.rollback);
        let (mut volume, keys) = verified.map_err(|source| of_volume(record, source))?;
        self.report_standing(record, volume.standing());
        if !options.read_only {
            volume.begin_generation(&*backing.device).map_err(|source| of_volume(record, source))?;
        } else if volume.standing() != Standing::Same {
            // Whoever wrote it may have been killed before it was synced, and the record must not be ahead of the disk.
            let synced = backing.device.flush();
            synced.map_err(|source| AttachError::Storage { path: record.backing.clone(), source })?;
        }
        let failed = Arc::new(AtomicBool::new(false));
        let poison: Arc<dyn BlockDevice> =
            Arc::new(Poison::with_alarm(Arc::clone(&backing.device), self.alarm(record, &failed)));
        let device = EncryptedDevice::new(Arc::clone(&poison), &volume, keys);
        Ok(Opened { volume, device, backing, poison, failed })
    }

    /// The backing, without what the kernel keeps of it that a failed sync did not write.
    pub(super) fn open_backing_afresh(
        &self,
        record: &Record,
        access: Access,
        caching: Caching,
    ) -> Result<Backing, AttachError> {
        let backing = self.open_backing(record, access, caching)?;
        if record.condition == Condition::Failed {
            tracing::warn!(volume = %record.name, "the last sync of this volume had failed: what it held may be older than was written");
            let forgotten = backing.file.forget_unwritten();
            forgotten.map_err(|source| AttachError::Storage { path: record.backing.clone(), source })?;
        }
        Ok(backing)
    }

    fn alarm(&self, record: &Record, failed: &Arc<AtomicBool>) -> impl Fn(BlockError) + Send + Sync + 'static {
        let (registry, id, failed) = (Arc::downgrade(&self.myself()), record.id.clone(), Arc::clone(failed));
        move |_| {
            failed.store(true, Ordering::Relaxed);
            registry.upgrade().iter().for_each(|registry| registry.note_failed(&id));
        }
    }

    pub(super) fn read_header(&self, record: &Record, device: &dyn BlockDevice) -> Result<Unverified, AttachError> {
        let header = Unverified::read(device).map_err(|source| of_volume(record, source))?;
        if header.header().id == record.id {
            return Ok(header);
        }
        // Also found when it is verified; found here, no KMS is asked about another volume's key.
        let (recorded, found) = (record.id.clone(), header.header().id.clone());
        Err(of_volume(record, VolumeError::AnotherVolume { recorded, found }))
    }

    /// Has the header's KMS open its data key.
    pub(super) fn unwrap(
        &self,
        record: &Record,
        header: &Unverified,
        caller: &Principal,
        patience: Patience,
    ) -> Result<DataKey, AttachError> {
        let section = &header.header().kms;
        let key = KeyName::from(header.header().key.clone());
        let kms = self.kms(section, patience)?;
        header.unwrap_key(&kms, caller).map_err(|source| {
            if kms.timed_out() {
                AttachError::KmsTimeout { name: record.name.clone(), kms: section.clone(), key }
            } else {
                AttachError::of_volume(&record.name, key, source).told_by(kms.is_elsewhere())
            }
        })
    }

    /// A fresh Decrypt of a volume's data key, attached or not, and what `then` makes of it.
    pub(super) fn with_fresh_key<T>(
        &self,
        id: &VolumeId,
        caller: &Principal,
        then: impl FnOnce(&Record, Unverified, DataKey) -> Result<T, AttachError>,
    ) -> Result<T, AttachError> {
        let patience = Patience::Each(self.settings.attach_deadline);
        if let Some(attachment) = self.attachment(id)? {
            let record = self.table.lock().entry_mut(id)?.record.clone();
            if !attachment.enter() {
                return Err(AttachError::Detaching(record.name));
            }
            let header = self.read_header(&record, &*attachment.parts.backing);
            attachment.leave();
            let header = header?;
            let data_key = self.unwrap(&record, &header, caller, patience)?;
            return then(&record, header, data_key);
        }
        let claim = self.claim(id, Work::Examining)?;
        let record = claim.record();
        let backing = self.open_backing(&record, Access::ReadOnly, Caching::PageCache)?;
        let header = self.read_header(&record, &*backing.device)?;
        let data_key = self.unwrap(&record, &header, caller, patience)?;
        then(&record, header, data_key)
    }

    pub(super) fn attachment(&self, id: &VolumeId) -> Result<Option<Arc<Attachment>>, AttachError> {
        let mut table = self.table.lock();
        Ok(match &table.entry_mut(id)?.phase {
            Phase::Attached(attachment) => Some(Arc::clone(attachment)),
            _ => None,
        })
    }

    /// Remembers that it is attached (the header is synced already), and makes the attachment.
    fn settle(
        &self,
        id: &VolumeId,
        opened: Opened,
        options: AttachOptions,
        work: Work,
    ) -> Result<Arc<Attachment>, AttachError> {
        let wanted = if options.read_only { Wanted::AttachedReadOnly } else { Wanted::Attached };
        self.remember(id, &opened.volume, |record| {
            // A re-attach fulfils a wish and makes none: the wish may just have been withdrawn.
            if work == Work::Attaching {
                (record.wanted, record.caching) = (wanted, options.caching);
            }
            if !options.read_only {
                record.condition = Condition::Dirty;
            }
        })?;
        let parts = Parts {
            record: self.table.lock().entry_mut(id)?.record.clone(),
            header: opened.volume.header().clone(),
            read_only: options.read_only,
            caching: options.caching,
            backing: opened.poison,
            claim: Box::new(opened.backing.file),
            failed: opened.failed,
            header_lock: Mutex::default(),
        };
        Ok(Attachment::new(parts, Box::new(opened.device)))
    }

    /// Writes down the header's identity, and what `change` adds.
    pub(super) fn remember(
        &self,
        id: &VolumeId,
        volume: &Verified,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), AttachError> {
        let (fingerprint, generation, mac) = volume.identity();
        let header = volume.header();
        let written = self.update_record(id, |record| {
            (record.fingerprint, record.generation, record.mac) = (fingerprint, generation, mac);
            (record.kms, record.key) = (header.kms.clone(), header.key.clone());
            (record.size, record.sector_size) = (header.size, header.sector_size);
            change(record);
        });
        written.map_err(|source| self.state_error(source))?;
        self.table.lock().entry_mut(id)?.header = Some(header.clone());
        Ok(())
    }

    /// Logs how a header stood to its record, and records what was accepted although it differs.
    pub(super) fn report_standing(&self, record: &Record, standing: Standing) {
        let happening = match standing {
            Standing::Same | Standing::Unknown => return,
            Standing::Ahead => {
                tracing::info!(volume = %record.name, "the header is ahead of its record: the last attach did not come so far");
                return;
            }
            Standing::Rewrapped => {
                tracing::warn!(volume = %record.name, "accepted a rewrap that had not come to the record");
                Happening::AcceptRewrap
            }
            Standing::RolledBack => {
                tracing::warn!(volume = %record.name, "accepted an older header, as the operator said");
                Happening::AcceptRollback
            }
        };
        self.events.record(&Event { happening, volume: &record.id, key: Some(&record.key), failure: None });
    }

    /// Logs and records how an attach ended.
    pub(super) fn report_attach(
        &self,
        id: &VolumeId,
        happening: Happening,
        failure: Option<&AttachError>,
    ) -> Result<Record, AttachError> {
        let record = self.table.lock().entry_mut(id)?.record.clone();
        let cause = failure.map(AttachError::cause);
        if failure.is_none() {
            tracing::info!(volume = %record.name, id = %record.id, "attached");
        }
        self.events.record(&Event { happening, volume: id, key: Some(&record.key), failure: cause.as_deref() });
        Ok(record)
    }
}

/// What `volume` said of the volume that `record` remembers.
pub(super) fn of_volume(record: &Record, source: VolumeError) -> AttachError {
    AttachError::of_volume(&record.name, KeyName::from(record.key.clone()), source)
}

/// How a volume is attached again that is wanted.
pub(super) fn options_of(record: &Record) -> Option<AttachOptions> {
    let as_wanted = |read_only| AttachOptions { read_only, caching: record.caching, rollback: Rollback::Refuse };
    match record.wanted {
        Wanted::Detached => None,
        Wanted::Attached => Some(as_wanted(false)),
        Wanted::AttachedReadOnly => Some(as_wanted(true)),
    }
}
