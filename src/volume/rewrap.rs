//! A new seal for the data key of a volume, and headers that are kept elsewhere.
//!
//! The KMS seals the data key anew (ReEncrypt: no clear key leaves it), then opens what it sealed: only a data key of the
//! volume's own fingerprint, under which the header's MAC holds, is worth writing. Where another KMS is to seal it, the one
//! opens it and the other encrypts it, under the same context; nothing but the volume's own data key is sealed there. A header that comes back from a
//! backup is judged like one that is read, against the record too, and written a generation ahead of all there are, so
//! that an interrupted restore or rewrap is an interrupted update like any other.

use crate::block::BlockDevice;
use crate::kms::{DataKey, KeyName, Kms, Principal, WrappedKey};
use crate::sync::Arc;

use super::codec::Copy;
use super::copies::{self, CopyState};
use super::error::{CopyFault, VolumeError};
use super::header::Header;
use super::keys::{self, HeaderKey};
use super::open::{Unverified, Verified, unwrap_key};
use super::record::{Record, Rollback};

/// Another KMS that is to seal a data key.
#[derive(Clone, Copy)]
pub struct Elsewhere<'a> {
    /// The KMS.
    pub kms: &'a dyn Kms,
    /// The name that the volume remembers it by.
    pub section: &'a str,
    /// Its key.
    pub key: &'a KeyName,
}

/// Which of two KMSs did not do its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that seals the data key so far.
    Source,
    /// The other one.
    Target,
}

/// A data key that was sealed anew and opened again; nothing is written yet.
pub struct Resealed {
    found: Unverified,
    header: Header,
    wrapped: WrappedKey,
    data_key: DataKey,
}

/// A header that was kept elsewhere: whole by its checksum, nothing in it trusted yet.
#[derive(Debug)]
pub struct Backup(Copy);

impl Unverified {
    /// Has the KMS seal the data key under `to`, and open what it sealed.
    ///
    /// # Errors
    /// As the KMS says, or where another key answered than was asked.
    pub fn reseal(self, kms: &dyn Kms, caller: &Principal, to: &KeyName) -> Result<Resealed, VolumeError> {
        let sealed = (&self.header().key, self.wrapped_key());
        let anew = kms.re_encrypt(caller, sealed, to, &self.encryption_context())?;
        let header = Header { key: anew.key, ..self.header().clone() };
        header.check()?;
        let data_key = unwrap_key(kms, caller, &header, &anew.wrapped)?;
        Ok(Resealed { found: self, header, wrapped: anew.wrapped, data_key })
    }

    /// Has the KMS open the data key, and another one seal it and open what it sealed.
    ///
    /// # Errors
    /// As either KMS says, or where another key answered than was asked; a data key that is not the volume's. With it, which
    /// of the two it was.
    pub fn reseal_elsewhere(
        self,
        kms: &dyn Kms,
        caller: &Principal,
        to: Elsewhere<'_>,
    ) -> Result<Resealed, (Side, VolumeError)> {
        let clear = self.own_data_key(kms, caller).map_err(|error| (Side::Source, error))?;
        self.sealed_there(clear, caller, to).map_err(|error| (Side::Target, error))
    }

    /// The data key, which is the volume's own.
    fn own_data_key(&self, kms: &dyn Kms, caller: &Principal) -> Result<DataKey, VolumeError> {
        let clear = self.unwrap_key(kms, caller)?;
        keys::check(&clear)?;
        let (expected, given) = (self.fingerprint(), keys::fingerprint(&clear));
        if expected == given { Ok(clear) } else { Err(VolumeError::WrongDataKey { expected, given }) }
    }

    fn sealed_there(self, clear: DataKey, caller: &Principal, to: Elsewhere<'_>) -> Result<Resealed, VolumeError> {
        let anew = to.kms.encrypt(caller, to.key, &Arc::new(clear), &self.encryption_context())?;
        let header = Header { kms: to.section.to_owned(), key: anew.key, ..self.header().clone() };
        header.check()?;
        let data_key = unwrap_key(to.kms, caller, &header, &anew.wrapped)?;
        Ok(Resealed { found: self, header, wrapped: anew.wrapped, data_key })
    }

    /// The newer valid copy as it lies there, to be kept elsewhere.
    pub fn back_up(&self) -> Vec<u8> {
        self.newest().bytes()
    }
}

impl Resealed {
    /// What it says now: the KMS and the key that seal the data key.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Compares data key, MAC and `record`, then writes the header a generation on.
    ///
    /// # Errors
    /// Another data key than the volume's, a header that is not the recorded one, a device that fails.
    pub fn write(self, device: &dyn BlockDevice, record: &Record) -> Result<Verified, VolumeError> {
        let mut verified = self.found.authenticate(&self.data_key, Some(record), Rollback::Refuse)?;
        verified.check_writable()?;
        let next = verified.contents.sealed_anew(self.header.kms, self.header.key, self.wrapped)?;
        verified.replace(device, next)?;
        Ok(verified)
    }
}

impl Backup {
    /// Takes apart what [`Unverified::back_up`] gave.
    ///
    /// # Errors
    /// What is wrong with it; any bytes may be given.
    pub fn decode(bytes: &[u8]) -> Result<Self, CopyFault> {
        Copy::decode(bytes).map(Self)
    }

    /// What it says.
    pub fn header(&self) -> &Header {
        &self.0.contents.header
    }

    /// How often the header had been written when it was kept.
    pub fn generation(&self) -> u64 {
        self.0.contents.generation
    }

    /// Has the KMS open its data key.
    ///
    /// # Errors
    /// As the KMS says, or where another key answered than was asked.
    pub fn unwrap_key(&self, kms: &dyn Kms, caller: &Principal) -> Result<DataKey, VolumeError> {
        unwrap_key(kms, caller, self.header(), &self.0.contents.wrapped_key)
    }

    /// Judges it against `data_key` and `record`, then writes it in the place of whatever header `device` holds.
    ///
    /// # Errors
    /// Another key, a changed or another volume's header, an older one than recorded unless that is accepted; a device that
    /// holds another volume, or something else where the header belongs, or fails.
    pub fn restore(
        self,
        device: &dyn BlockDevice,
        data_key: &DataKey,
        record: &Record,
        rollback: Rollback,
    ) -> Result<Verified, VolumeError> {
        let (have, need) = (device.geometry().size, self.header().backing_size());
        if have < need {
            return Err(VolumeError::BackingTooSmall { have, need });
        }
        keys::check(data_key)?;
        let key = HeaderKey::derive(data_key)?;
        let (chosen, states, generation) = what_is_there(device, record, &key)?;
        let mut verified = Verified::of_copy(self.0, data_key, key, record, rollback)?;
        verified.check_writable()?;
        let newest = generation.max(record.generation).max(verified.contents.generation);
        let next = verified.contents.after(newest);
        (verified.chosen, verified.states) = (chosen, states);
        verified.replace(device, next)?;
        Ok(verified)
    }
}

/// Which copy of the header that is there is to be written last, how both are, and the generation of what is genuine.
fn what_is_there(
    device: &dyn BlockDevice,
    record: &Record,
    key: &HeaderKey,
) -> Result<(usize, [CopyState; 2], u64), VolumeError> {
    let gone = || CopyState::Damaged(CopyFault::NoMagic);
    match copies::read(device) {
        Ok(found) if found.newest.contents.header.id != record.id => {
            let found = found.newest.contents.header.id;
            Err(VolumeError::AnotherVolume { recorded: record.id.clone(), found })
        }
        Ok(found) => match found.genuine(key) {
            Some((contents, chosen, states)) => Ok((chosen, states, contents.generation)),
            // Whole, and nobody's who holds the data key.
            None => Ok((1, [CopyState::Damaged(CopyFault::Mac), CopyState::Damaged(CopyFault::Mac)], 0)),
        },
        Err(VolumeError::NotAVolume) => Ok((1, [gone(), gone()], 0)),
        Err(VolumeError::Damaged { first, second }) => {
            Ok((1, [CopyState::Damaged(first), CopyState::Damaged(second)], 0))
        }
        Err(other) => Err(other),
    }
}
