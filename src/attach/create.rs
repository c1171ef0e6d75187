//! Volumes made and unmade.
//!
//! A volume is made in this order: name and id reserved, backing made or taken and emptied, data key from the KMS, header
//! synced, record synced, free to attach. A failure undoes all of it: a file that was made is removed. A crash on the way
//! leaves at most a file without a record, which no list shows.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::backing::Backing;
use super::deadline::Patience;
use super::events::{Event, Happening};
use super::state::Work;
use super::{AttachError, CreateRequest, Registry, VolumeRef, VolumeView};
use crate::block::file::{Access, FileDevice, Space};
use crate::block::signature::{self, Finding};
use crate::block::{BlockDevice, BlockDeviceExt, BlockError, Caching, Durability, Effort, Op, Zeroing};
use crate::crypto::random;
use crate::kms::{KeyArn, KeyName, KmsError, Principal};
use crate::limits;
use crate::names::VolumeId;
use crate::units::{ByteCount, ByteOffset, Extent};
use crate::volume::{self, Condition, CreateSpec, Progress, Record, Unverified, Verified, VolumeError, Wanted};

/// The key that volumes get where nobody names one: the AWS managed key, made on first use.
const MANAGED_KEY: &str = "alias/aws/ebs";

/// A file that was made and is removed again unless it is kept.
struct Made(Option<PathBuf>);

/// A backing ready for a header.
struct Prepared {
    backing: Backing,
    path: PathBuf,
    size: ByteCount,
    made: Made,
}

impl Registry {
    /// Makes a volume.
    ///
    /// # Errors
    /// A name in use, a backing that is not allowed or holds something, a KMS that gives no key, a disk that fails.
    pub fn create(
        &self,
        caller: &Principal,
        request: CreateRequest,
        progress: Progress<'_>,
    ) -> Result<VolumeView, AttachError> {
        let mut random_bytes = [0; 9];
        random::fill(&mut random_bytes);
        let id = VolumeId::from_random(random_bytes);
        let provisional = self.provisional(&id, &request);
        let name = request.name.clone();
        let claim = self.claim_birth(provisional, Work::Creating)?;
        let outcome = self.make(caller, &id, request, progress).and_then(|(record, volume, made)| {
            let born = claim.bear(record.clone(), volume.header().clone());
            born.inspect_err(|_| self.blank(&record))?;
            made.keep();
            Ok(volume)
        });
        let (key, cause) = match &outcome {
            Ok(volume) => (Some(&volume.header().key), None),
            Err(error) => (None, Some(error.cause())),
        };
        self.events.record(&Event { happening: Happening::CreateVolume, volume: &id, key, failure: cause.as_deref() });
        match outcome {
            Ok(_) => tracing::info!(volume = %name, %id, "created"),
            Err(error) => {
                tracing::warn!(volume = %name, %id, %error, "not created");
                return Err(error);
            }
        }
        self.view_of(&id)
    }

    /// Destroys both header copies and removes a file that envol made.
    ///
    /// # Errors
    /// A volume that is attached or otherwise in use; a backing that now holds another volume.
    pub fn delete(&self, caller: &Principal, volume: &VolumeRef) -> Result<(), AttachError> {
        let id = self.resolve(volume)?;
        let claim = self.claim(&id, Work::Deleting)?;
        let record = claim.record();
        let outcome = self.unmake(&record).and_then(|()| claim.bury());
        match &outcome {
            Ok(()) => tracing::info!(volume = %record.name, %id, %caller, "deleted"),
            Err(error) => tracing::warn!(volume = %record.name, %id, %caller, %error, "not deleted"),
        }
        let cause = outcome.as_ref().err().map(AttachError::cause);
        let (happening, key) = (Happening::DeleteVolume, Some(&record.key));
        self.events.record(&Event { happening, volume: &id, key, failure: cause.as_deref() });
        outcome
    }

    fn provisional(&self, id: &VolumeId, request: &CreateRequest) -> Record {
        Record {
            id: id.clone(),
            name: request.name.clone(),
            backing: request.backing.clone().unwrap_or_else(|| self.own_path(id)),
            made_by_envol: false,
            kms: request.kms.clone().unwrap_or_else(|| self.settings.default_kms.clone()),
            key: KeyArn::new(request.key.as_ref().map_or(MANAGED_KEY, KeyName::as_str)),
            fingerprint: String::new(),
            generation: 0,
            mac: String::new(),
            condition: Condition::Clean,
            wanted: Wanted::Detached,
            caching: Caching::PageCache,
            size: request.size.unwrap_or_default(),
            sector_size: request.sector_size,
        }
    }

    fn own_path(&self, id: &VolumeId) -> PathBuf {
        self.settings.state_dir.join("volumes").join(format!("{id}.envol"))
    }

    fn make(
        &self,
        caller: &Principal,
        id: &VolumeId,
        request: CreateRequest,
        progress: Progress<'_>,
    ) -> Result<(Record, Verified, Made), AttachError> {
        let section = request.kms.clone().unwrap_or_else(|| self.settings.default_kms.clone());
        let kms = self.kms(&section, Patience::Each(self.settings.attach_deadline))?;
        let key = request.key.clone().unwrap_or_else(|| KeyName::new(MANAGED_KEY));
        let Prepared { backing, path, size, made } = self.prepare(id, &request, progress)?;
        let spec = CreateSpec {
            id: id.clone(),
            name: request.name.clone(),
            size,
            sector_size: request.sector_size,
            scope: request.scope,
            thick: request.thick,
            kms: section.clone(),
            key: key.clone(),
        };
        let volume = volume::create(&*backing.device, &kms, caller, &spec, progress).map_err(|source| {
            let name = request.name.clone();
            match source {
                VolumeError::Kms(_) if kms.timed_out() => AttachError::KmsTimeout { name, kms: section.clone(), key },
                VolumeError::Kms(source) if knows_no_such_key(&source) => {
                    AttachError::NoSuchKey { name, key, source, elsewhere: false }
                }
                source => AttachError::of_volume(&name, key, source),
            }
            .told_by(kms.is_elsewhere())
        })?;
        let (fingerprint, generation, mac) = volume.identity();
        let record = Record {
            backing: path,
            made_by_envol: made.0.is_some(),
            key: volume.header().key.clone(),
            size,
            fingerprint,
            generation,
            mac,
            ..self.provisional(id, &request)
        };
        Ok((record, volume, made))
    }

    fn prepare(&self, id: &VolumeId, request: &CreateRequest, progress: Progress<'_>) -> Result<Prepared, AttachError> {
        let path = match &request.backing {
            None => self.own_path(id),
            Some(path) => self.placement.judge(path)?,
        };
        if request.backing.is_some() && path.exists() {
            self.take(path, request, progress)
        } else {
            let size = request.size.ok_or(AttachError::SizeMissing)?;
            let space = if request.thick { Space::Thick } else { Space::Thin };
            refuse_impossible(size)?;
            let whole = volume::backing_size(size).ok_or(AttachError::ImpossibleSize(size))?;
            let file = FileDevice::create(&path, whole, space)?;
            Ok(Prepared { backing: self.layered(file), size, made: Made(Some(path.clone())), path })
        }
    }

    /// An existing file or device: looked at, then emptied.
    fn take(&self, path: PathBuf, request: &CreateRequest, progress: Progress<'_>) -> Result<Prepared, AttachError> {
        let mut file = FileDevice::open(&path, Access::ReadWrite)?;
        refuse_occupied(&file, &path, request.force)?;
        let have = file.geometry().size;
        let unit = ByteCount::new(request.sector_size.bytes());
        let size = request.size.or_else(|| whole_of(have, unit)).ok_or(AttachError::SizeMissing)?;
        refuse_impossible(size)?;
        if let Some(need) = volume::backing_size(size).filter(|need| *need > have && !file.is_block_device()) {
            drop(file);
            grow(&path, need)?;
            file = FileDevice::open(&path, Access::ReadWrite)?;
        }
        let backing = self.layered(file);
        let emptied = empty(&backing, request.thick, progress);
        emptied.map_err(|source| match source {
            None => AttachError::of_volume(&request.name, KeyName::new(MANAGED_KEY), VolumeError::Stopped),
            Some(source) => AttachError::Storage { path: path.clone(), source },
        })?;
        Ok(Prepared { backing, path, size, made: Made(None) })
    }

    /// Takes the header off a backing that outlives its volume's failed birth: nobody knows the volume, yet a second
    /// `create` would respect it.
    fn blank(&self, record: &Record) {
        if !record.made_by_envol
            && let Err(error) = self.unmake(record)
        {
            tracing::warn!(path = %record.backing.display(), %error, "the header of a volume that was not made is left behind");
        }
    }

    /// Destroys what is on the backing of `record`, if it is that volume's.
    fn unmake(&self, record: &Record) -> Result<(), AttachError> {
        let backing = match self.open_backing(record, Access::ReadWrite, Caching::PageCache) {
            Err(AttachError::BackingGone { .. }) => return Ok(()),
            outcome => outcome?,
        };
        let of_volume = |source| super::open::of_volume(record, source);
        match Unverified::read(&*backing.device) {
            Ok(header) if header.header().id != record.id => {
                let (recorded, found) = (record.id.clone(), header.header().id.clone());
                return Err(of_volume(VolumeError::AnotherVolume { recorded, found }));
            }
            Err(VolumeError::NotAVolume) => (),
            Err(VolumeError::Storage(source)) => return Err(of_volume(VolumeError::Storage(source))),
            Ok(_) | Err(_) => volume::destroy_header(&*backing.device).map_err(of_volume)?,
        }
        if record.made_by_envol && backing.file.is_still_in_place() {
            let path = record.backing.clone();
            fs::remove_file(&path).map_err(|source| AttachError::File { path, source })?;
        }
        Ok(())
    }
}

impl Made {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "a file made for a volume that was not made is left behind");
        }
    }
}

/// No file is made for a volume that cannot be; the volume's own check has the last word.
fn refuse_impossible(size: ByteCount) -> Result<(), AttachError> {
    if size == ByteCount::ZERO || size.get() > limits::VOLUME_SIZE_MAX {
        return Err(AttachError::ImpossibleSize(size));
    }
    Ok(())
}

fn refuse_occupied(file: &FileDevice, path: &Path, force: bool) -> Result<(), AttachError> {
    let failed = |source| AttachError::Storage { path: path.to_owned(), source };
    if volume::holds_header(file)
        .map_err(|source| AttachError::Unreadable { path: path.to_owned(), source: Box::new(source) })?
    {
        return Err(AttachError::HoldsVolume(path.to_owned()));
    }
    if force {
        return Ok(());
    }
    let what = match signature::examine(file, &[]).map_err(failed)? {
        None => return Ok(()),
        Some(Finding::Own) => return Err(AttachError::HoldsVolume(path.to_owned())),
        Some(Finding::Foreign(name)) => name.to_owned(),
        Some(Finding::Data(at)) => format!("data (at byte {at})"),
    };
    Err(AttachError::HoldsData { path: path.to_owned(), what })
}

/// All that a backing of `have` bytes can hold, in whole sectors of `unit`.
fn whole_of(have: ByteCount, unit: ByteCount) -> Option<ByteCount> {
    let header = volume::backing_size(ByteCount::ZERO)?;
    let room = have.checked_sub(header)?.get();
    Some(ByteCount::new(room - room % unit.get())).filter(|size| *size != ByteCount::ZERO)
}

fn grow(path: &Path, need: ByteCount) -> Result<(), AttachError> {
    let failed = |source| AttachError::File { path: path.to_owned(), source };
    let file = fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
    let is_device = file.metadata().map_err(failed)?.file_type().is_block_device();
    if is_device { Ok(()) } else { file.set_len(need.get()).map_err(failed) }
}

/// Makes all of the backing read as zeros: a thin volume takes what is not zero for its own. What a thick one overwrites
/// anyway is left alone, but for the header's area. `None` where it was told to stop.
fn empty(backing: &Backing, thick: bool, progress: Progress<'_>) -> Result<(), Option<BlockError>> {
    let device = &*backing.device;
    let size = device.geometry().size;
    let header = volume::backing_size(ByteCount::ZERO).unwrap_or(size).get();
    let end = if thick { header.min(size.get()) } else { size.get() };
    let mut at = 0;
    while at < end {
        if !progress(ByteCount::new(at), ByteCount::new(end)) {
            return Err(None);
        }
        let length = limits::ZERO_STEP.min(end - at);
        let extent = Extent::new(ByteOffset::new(at), ByteCount::new(length)).ok_or(BlockError::OutOfRange)?;
        let (zeroing, effort, durability) = (Zeroing::MayPunch, Effort::Any, Durability::Cached);
        device.perform(Op::Zero { extent, zeroing, effort, durability })?;
        at += length;
    }
    Ok(device.flush()?)
}

/// Whether the KMS said that there is no key of the name it was given.
fn knows_no_such_key(error: &KmsError) -> bool {
    matches!(error, KmsError::Refused { exception, .. } if exception == "NotFoundException")
}
