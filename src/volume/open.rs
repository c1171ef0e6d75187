//! Opening a volume: [`Unverified`] (read, nothing in it trusted) becomes [`Verified`] by its data key and its record.
//! [`Unverified::verify`] is the only source of sector keys.

use crate::block::BlockDevice;
use crate::kms::{DataKey, EncryptionContext, Kms, Principal, WrappedKey};

use super::codec::{Contents, Copy};
use super::copies::{self, CopyState, Found};
use super::error::VolumeError;
use super::export::{self, CryptTable};
use super::header::{Fingerprint, Header, hex};
use super::keys::{self, HeaderKey, SectorKeys};
use super::record::{self, Record, Rollback, Standing};

/// A header as read: the newer valid copy, nothing in it trusted yet.
#[derive(Debug)]
pub struct Unverified(Found);

/// A header whose MAC, key and record agree. Holds the key of the MAC, so that it can write the next generation.
pub struct Verified {
    pub(super) contents: Contents,
    key: HeaderKey,
    pub(super) chosen: usize,
    pub(super) states: [CopyState; 2],
    standing: Standing,
}

impl Unverified {
    /// Reads both copies; takes the newer valid one.
    ///
    /// # Errors
    /// Where neither copy is valid, the backing is shorter than the volume, or the device fails.
    pub fn read(device: &dyn BlockDevice) -> Result<Self, VolumeError> {
        let found = copies::read(device)?;
        let (have, need) = (device.geometry().size, found.newest.contents.header.backing_size());
        if have < need {
            return Err(VolumeError::BackingTooSmall { have, need });
        }
        Ok(Self(found))
    }

    /// What it says.
    pub fn header(&self) -> &Header {
        &self.0.newest.contents.header
    }

    /// How often it was written.
    pub fn generation(&self) -> u64 {
        self.0.newest.contents.generation
    }

    /// The fingerprint of the data key that it says it has.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.newest.contents.fingerprint
    }

    /// How the two copies were found.
    pub fn copies(&self) -> &[CopyState; 2] {
        &self.0.states
    }

    /// The sealed data key.
    pub fn wrapped_key(&self) -> &WrappedKey {
        &self.0.newest.contents.wrapped_key
    }

    /// The context the KMS must be given.
    pub fn encryption_context(&self) -> EncryptionContext {
        self.header().encryption_context()
    }

    /// Has the KMS open the data key.
    ///
    /// # Errors
    /// As the KMS says, or where another key answered than was asked.
    pub fn unwrap_key(&self, kms: &dyn Kms, caller: &Principal) -> Result<DataKey, VolumeError> {
        unwrap_key(kms, caller, self.header(), self.wrapped_key())
    }

    /// Checks MAC, fingerprint and `record`, then derives the sector keys. `data_key` is wiped on return.
    ///
    /// # Errors
    /// Another key, a changed header, another fingerprint than recorded, a rollback.
    pub fn verify(
        self,
        data_key: DataKey,
        record: Option<&Record>,
        rollback: Rollback,
    ) -> Result<(Verified, SectorKeys), VolumeError> {
        let verified = self.authenticate(&data_key, record, rollback)?;
        let keys = SectorKeys::derive(&data_key, &verified.contents.header)?;
        Ok((verified, keys))
    }

    /// Checks as [`Unverified::verify`] does, then writes the sector keys as a device-mapper table over `backing`.
    ///
    /// # Errors
    /// As [`Unverified::verify`].
    pub fn export(
        self,
        data_key: DataKey,
        record: Option<&Record>,
        rollback: Rollback,
        backing: &str,
    ) -> Result<CryptTable, VolumeError> {
        let verified = self.authenticate(&data_key, record, rollback)?;
        Ok(export::table(&verified.contents.header, &data_key, backing)?)
    }

    /// The newer valid copy.
    pub(super) fn newest(&self) -> &Copy {
        &self.0.newest
    }

    /// Checks as [`Unverified::verify`] does, for whoever needs no sector keys.
    pub(super) fn authenticate(
        self,
        data_key: &DataKey,
        record: Option<&Record>,
        rollback: Rollback,
    ) -> Result<Verified, VolumeError> {
        keys::check(data_key)?;
        let (expected, given) = (self.fingerprint(), keys::fingerprint(data_key));
        if expected != given {
            return Err(VolumeError::WrongDataKey { expected, given });
        }
        let key = HeaderKey::derive(data_key)?;
        let (contents, chosen, states) = self.0.genuine(&key).ok_or(VolumeError::MacMismatch)?;
        let identity = hex(&contents.identity(&key));
        let standing = match record {
            Some(record) => record::compare(record, &contents, &identity, rollback)?,
            None => Standing::Unknown,
        };
        Ok(Verified { contents, key, chosen, states, standing })
    }
}

impl Verified {
    /// The header that was just written to both copies.
    pub(super) fn of_new(contents: Contents, key: HeaderKey) -> Self {
        let states = [CopyState::Current, CopyState::Current];
        Self { contents, key, chosen: 0, states, standing: Standing::Unknown }
    }

    /// A header that was kept elsewhere, judged as one that is read. Where it is to go is for the caller to say.
    pub(super) fn of_copy(
        copy: Copy,
        data_key: &DataKey,
        key: HeaderKey,
        record: &Record,
        rollback: Rollback,
    ) -> Result<Self, VolumeError> {
        let (expected, given) = (copy.contents.fingerprint, keys::fingerprint(data_key));
        if expected != given {
            return Err(VolumeError::WrongDataKey { expected, given });
        }
        if !copy.is_sealed_by(&key) {
            return Err(VolumeError::MacMismatch);
        }
        let identity = hex(&copy.contents.identity(&key));
        let standing = record::compare(record, &copy.contents, &identity, rollback)?;
        let states = [CopyState::Current, CopyState::Current];
        Ok(Self { contents: copy.contents, key, chosen: 0, states, standing })
    }

    /// What it says, now trusted.
    pub fn header(&self) -> &Header {
        &self.contents.header
    }

    /// How it stood to its record when it was verified.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// How the two copies are: as found, then as [`Verified::begin_generation`] left them.
    pub fn copies(&self) -> &[CopyState; 2] {
        &self.states
    }

    /// Refuses a volume of a later envol that whoever does not know its features may only read.
    ///
    /// # Errors
    /// [`VolumeError::ReadOnlyFeatures`].
    pub fn check_writable(&self) -> Result<(), VolumeError> {
        match self.contents.features.read_only_compatible {
            0 => Ok(()),
            bits => Err(VolumeError::ReadOnlyFeatures(bits)),
        }
    }

    /// Repairs a damaged copy where that is allowed and writes generation + 1 to both copies, synced (attach for writing).
    /// Where only one copy can be had the volume still opens: [`Verified::copies`] says so, and the generation may stay.
    /// The caller holds the backing's exclusive lock.
    ///
    /// # Errors
    /// Where the device fails, or the header has features that forbid writing.
    pub fn begin_generation(&mut self, device: &dyn BlockDevice) -> Result<(), VolumeError> {
        self.check_writable()?;
        let next = self.contents.next_generation();
        if copies::write_next(device, &next, &self.key, self.chosen, &mut self.states)? {
            self.contents = next;
        }
        Ok(())
    }

    /// Writes `next` to both copies, synced, or nothing.
    ///
    /// # Errors
    /// Where the device fails, or the copy that must come first cannot be had.
    pub(super) fn replace(&mut self, device: &dyn BlockDevice, next: Contents) -> Result<(), VolumeError> {
        if !copies::write_next(device, &next, &self.key, self.chosen, &mut self.states)? {
            return Err(VolumeError::HeaderKept);
        }
        self.contents = next;
        Ok(())
    }

    /// (fingerprint hex, generation, MAC hex) for the record.
    pub fn identity(&self) -> (String, u64, String) {
        let mac = hex(&self.contents.identity(&self.key));
        (self.contents.fingerprint.to_string(), self.contents.generation, mac)
    }
}

/// Has the KMS open `wrapped` for the volume that `header` describes.
pub(super) fn unwrap_key(
    kms: &dyn Kms,
    caller: &Principal,
    header: &Header,
    wrapped: &WrappedKey,
) -> Result<DataKey, VolumeError> {
    let opened = kms.decrypt(caller, &header.key, wrapped, &header.encryption_context())?;
    if opened.key == header.key {
        Ok(opened.data_key)
    } else {
        Err(VolumeError::AnotherKmsKey { asked: header.key.clone(), answered: opened.key })
    }
}
