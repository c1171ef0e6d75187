//! Sealing and opening blobs with root material (layout: `blob`).

use crate::crypto::aead;
use crate::crypto::{derive, random};
use crate::kms::embedded::blob::{ASSOCIATED, Claim, IV, OVERHEAD, SALT};
use crate::secret::Secret;
use crate::sys::locked::{LockedMemory, LockingFailed};

use super::protocol::Failure;

/// A blob with `plaintext`; in locked memory, since the plaintext lies there before it is encrypted in place.
pub(super) fn seal(
    root: &Secret<32>,
    claim: &Claim,
    context: &[u8],
    plaintext: &[u8],
) -> Result<LockedMemory, LockingFailed> {
    let mut blob = LockedMemory::zeroed(OVERHEAD + plaintext.len())?;
    let bytes = blob.bytes_mut();
    claim.encode(bytes);
    random::fill(&mut bytes[SALT.start..IV.end]);
    let key = blob_key(root, &bytes[SALT])?;
    let aad = [&bytes[ASSOCIATED], context].concat();
    let iv = bytes[IV].try_into().expect("the range is a nonce long");
    let (body, tag) = bytes[IV.end..].split_at_mut(plaintext.len());
    body.copy_from_slice(plaintext);
    tag.copy_from_slice(&aead::seal(&key, &iv, &aad, body));
    Ok(blob)
}

/// The plaintext of `blob`.
pub(super) fn open(root: &Secret<32>, context: &[u8], blob: &[u8]) -> Result<LockedMemory, Failure> {
    if blob.len() <= OVERHEAD {
        return Err(Failure::Ciphertext);
    }
    let key = blob_key(root, &blob[SALT])?;
    let aad = [&blob[ASSOCIATED], context].concat();
    let iv = blob[IV].try_into().expect("the range is a nonce long");
    let (body, tag) = blob[IV.end..].split_last_chunk().expect("longer than the overhead");
    let mut plaintext = LockedMemory::zeroed(body.len())?;
    plaintext.bytes_mut().copy_from_slice(body);
    aead::open(&key, &iv, &aad, plaintext.bytes_mut(), tag).map_err(|_| Failure::Ciphertext)?;
    Ok(plaintext)
}

fn blob_key(root: &Secret<32>, salt: &[u8]) -> Result<Secret<32>, LockingFailed> {
    let mut key = Secret::zeroed()?;
    derive::sp800_108(root, b"envol kms: blob", salt, &mut key);
    Ok(key)
}
