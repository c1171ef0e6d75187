//! Making a volume: a data key from the KMS, opened once, so that what could not be attached fails here; then the header.
//!
//! No header without a MAC ever exists, and none is left behind where anything fails. The header comes last: until then
//! the backing is nobody's volume.

use crate::block::{BlockDevice, BlockDeviceExt, Durability};
use crate::kms::{DataKey, KeyArn, Kms, Principal};
use crate::units::{ByteCount, ByteOffset, Extent};

use super::codec::Contents;
use super::error::VolumeError;
use super::header::{CreateSpec, HEADER_AREA, Header};
use super::keys::{HeaderKey, SectorKeys};
use super::open::{Verified, unwrap_key};
use super::{Progress, copies, keys, zeros};

/// Makes a volume on `device`, whose data area is known to read as zeros (or is thick-filled here): asks the KMS for a
/// data key, opens it once, writes both header copies and wipes.
///
/// # Errors
/// As [`VolumeError`]; the backing holds no valid header then, unless it held one before, which is left alone.
pub fn create(
    device: &dyn BlockDevice,
    kms: &dyn Kms,
    caller: &Principal,
    spec: &CreateSpec,
    progress: Progress<'_>,
) -> Result<Verified, VolumeError> {
    // The key's ARN is the KMS's to say; until then its name stands in.
    let draft = Header::of_new(spec, KeyArn::new(spec.key.as_str()));
    refuse_what_cannot_be(device, &draft)?;
    let generated = kms.generate_data_key_without_plaintext(caller, &spec.key, &draft.encryption_context())?;
    let header = Header { key: generated.key, ..draft };
    let data_key = unwrap_key(kms, caller, &header, &generated.wrapped)?;
    keys::check(&data_key)?;
    header.check()?;
    if header.thick {
        fill(device, &header, &data_key, progress)?;
    }
    let contents = Contents::of_new(header, keys::fingerprint(&data_key), generated.wrapped);
    let key = HeaderKey::derive(&data_key)?;
    drop(data_key);
    if let Err(failed) = copies::write_new(device, &contents, &key) {
        if let Err(also) = copies::destroy(device) {
            tracing::error!(%also, "a header copy of a volume that was not made may be left on the backing");
        }
        return Err(failed.into());
    }
    Ok(Verified::of_new(contents, key))
}

/// Bytes a backing must have for a volume of `size`.
pub fn backing_size(size: ByteCount) -> Option<ByteCount> {
    size.checked_add(HEADER_AREA)
}

/// Whether a header, of any version and in any condition, lies on `device`: such a backing is never overwritten.
///
/// # Errors
/// Where the device fails.
pub fn holds_header(device: &dyn BlockDevice) -> Result<bool, VolumeError> {
    Ok(copies::are_there(device)?)
}

/// Destroys both header copies, durably. The data key is lost with them, and every byte of the volume with it.
///
/// # Errors
/// Where the device fails; both copies were tried.
pub fn destroy_header(device: &dyn BlockDevice) -> Result<(), VolumeError> {
    Ok(copies::destroy(device)?)
}

fn refuse_what_cannot_be(device: &dyn BlockDevice, draft: &Header) -> Result<(), VolumeError> {
    draft.check()?;
    let (have, need) = (device.geometry().size, draft.backing_size());
    if have < need {
        return Err(VolumeError::BackingTooSmall { have, need });
    }
    if copies::are_there(device)? { Err(VolumeError::HeaderExists) } else { Ok(()) }
}

/// Encrypted zeros over the whole data area.
fn fill(
    device: &dyn BlockDevice,
    header: &Header,
    data_key: &DataKey,
    progress: Progress<'_>,
) -> Result<(), VolumeError> {
    let keys = SectorKeys::derive(data_key, header)?;
    let mut writer = zeros::Writer::new(device, &keys, header.data_offset);
    let all = Extent::new(ByteOffset::ZERO, header.size).expect("starts at zero");
    for step in zeros::steps(all, zeros::WRITE_STEP) {
        if !progress(ByteCount::new(step.start().get()), header.size) {
            return Err(VolumeError::Stopped);
        }
        writer.write(step, Durability::Cached)?;
    }
    progress(header.size, header.size);
    Ok(device.flush()?)
}
