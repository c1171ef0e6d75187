//! Secrets of the KMS's own (of access keys, of list markers), sealed under the domain key for whoever stores them.
//!
//! ```text
//! version 1 | nonce 16 | iv 12 | ciphertext | tag 16
//! ```
//! AES-256-GCM under a key made for this one secret alone, so that no count of them wears the domain key out. What the
//! secret is for (whose, of which list) is associated data: one kept for another purpose does not open.

use crate::crypto::aead::{self, NONCE_BYTES, TAG_BYTES};
use crate::crypto::{derive, random};
use crate::secret::Secret;
use crate::sys::locked::{LockedMemory, LockingFailed};

use super::protocol::Failure;

const VERSION: u8 = 1;
const SALT_END: usize = 1 + 16;
const IV_END: usize = SALT_END + NONCE_BYTES;
const OVERHEAD: usize = IV_END + TAG_BYTES;

/// `secret`, sealed for `purpose`.
pub(super) fn seal(key: &Secret<32>, purpose: &[u8], secret: &[u8]) -> Result<LockedMemory, LockingFailed> {
    let mut kept = LockedMemory::zeroed(OVERHEAD + secret.len())?;
    let bytes = kept.bytes_mut();
    bytes[0] = VERSION;
    random::fill(&mut bytes[1..IV_END]);
    let key = own_key(key, &bytes[1..SALT_END])?;
    let (head, rest) = bytes.split_at_mut(IV_END);
    let iv = head[SALT_END..].try_into().expect("the range is a nonce long");
    let (body, tag) = rest.split_at_mut(secret.len());
    body.copy_from_slice(secret);
    tag.copy_from_slice(&aead::seal(&key, &iv, &[&[VERSION], purpose].concat(), body));
    Ok(kept)
}

/// The secret that was sealed for `purpose`.
pub(super) fn open(key: &Secret<32>, purpose: &[u8], kept: &[u8]) -> Result<LockedMemory, Failure> {
    if kept.len() <= OVERHEAD || kept[0] != VERSION {
        return Err(Failure::Ciphertext);
    }
    let key = own_key(key, &kept[1..SALT_END])?;
    let iv = kept[SALT_END..IV_END].try_into().expect("the range is a nonce long");
    let (body, tag) = kept[IV_END..].split_last_chunk().expect("longer than the overhead");
    let mut secret = LockedMemory::zeroed(body.len())?;
    secret.bytes_mut().copy_from_slice(body);
    let associated = [&[VERSION], purpose].concat();
    aead::open(&key, &iv, &associated, secret.bytes_mut(), tag).map_err(|_| Failure::Ciphertext)?;
    Ok(secret)
}

fn own_key(key: &Secret<32>, salt: &[u8]) -> Result<Secret<32>, LockingFailed> {
    let mut own = Secret::zeroed()?;
    derive::sp800_108(key, b"envol kms: kept secret", salt, &mut own);
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_for_its_own_purpose_under_its_own_key_and_unchanged() {
        let key = Secret::filled_by(|key| key.fill(3)).expect("locks");
        let kept = seal(&key, b"purpose", b"secret").expect("locks");
        assert_eq!(open(&key, b"purpose", kept.bytes()).expect("opens").bytes(), b"secret");
        assert!(open(&key, b"another", kept.bytes()).is_err());
        let other = Secret::filled_by(|key| key.fill(4)).expect("locks");
        assert!(open(&other, b"purpose", kept.bytes()).is_err());
        for at in 0..kept.bytes().len() {
            let mut changed = kept.bytes().to_vec();
            changed[at] ^= 1;
            assert!(open(&key, b"purpose", &changed).is_err(), "byte {at}");
            assert!(open(&key, b"purpose", &kept.bytes()[..at]).is_err(), "cut at {at}");
        }
    }
}
