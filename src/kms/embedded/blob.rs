//! The ciphertext blob: what Encrypt and GenerateDataKey give out and Decrypt takes, opaque to callers.
//!
//! ```text
//! version 1 | key id 16 | material id 32 | nonce 16 | iv 12 | ciphertext | tag 16
//! '------------- associated ---------------'
//! ```
//! The AES-256-GCM key is made for one blob alone, from the key's material and the nonce, so that no count of blobs
//! under one key wears it out. Associated data are the marked bytes and, after them, the encryption context in its
//! canonical form: pairs sorted by name, each string preceded by its length (u32, big-endian). So a blob belongs to
//! one key, one material and one context for ever. This file owns the layout; sealing and opening are the HSM's.

use std::ops::Range;

use crate::crypto::aead::{NONCE_BYTES, TAG_BYTES};
use crate::kms::EncryptionContext;

use super::hsm::{KeyId, MaterialId};

/// The only version so far.
pub(super) const VERSION: u8 = 1;
/// Bytes of the nonce from which the blob's own key is derived.
pub(super) const SALT_BYTES: usize = 16;

const KEY_ID: Range<usize> = 1..17;
const MATERIAL_ID: Range<usize> = 17..49;
/// Where the derivation nonce lies.
pub(super) const SALT: Range<usize> = 49..49 + SALT_BYTES;
/// The part of the header that is associated data.
pub(super) const ASSOCIATED: Range<usize> = 0..SALT.end;
/// Where the GCM nonce lies.
pub(super) const IV: Range<usize> = SALT.end..SALT.end + NONCE_BYTES;
/// Bytes that a blob is longer than its plaintext.
pub(super) const OVERHEAD: usize = IV.end + TAG_BYTES;

/// What the header of a blob claims; true only once the blob has been opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// The key that sealed it.
    pub(super) key: KeyId,
    /// The material of that key.
    pub(super) material: MaterialId,
}

impl Claim {
    /// Reads the header; `None` where the bytes cannot be a blob.
    pub(super) fn decode(blob: &[u8]) -> Option<Self> {
        if blob.len() <= OVERHEAD || blob[0] != VERSION {
            return None;
        }
        let key = blob[KEY_ID].try_into().expect("the range is a key id long");
        let material = blob[MATERIAL_ID].try_into().expect("the range is a material id long");
        Some(Self { key: KeyId(key), material: MaterialId(material) })
    }

    /// Writes version and ids into the front of `blob`.
    pub(super) fn encode(&self, blob: &mut [u8]) {
        blob[0] = VERSION;
        blob[KEY_ID].copy_from_slice(&self.key.0);
        blob[MATERIAL_ID].copy_from_slice(&self.material.0);
    }
}

/// The one byte string that a context is, whatever the order its pairs came in.
pub(super) fn canonical(context: &EncryptionContext) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in context.pairs().flat_map(|(name, value)| [name, value]) {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let claim = Claim { key: KeyId([1; 16]), material: MaterialId([2; 32]) };
        let mut blob = vec![0; OVERHEAD + 1];
        claim.encode(&mut blob);
        assert_eq!(Claim::decode(&blob), Some(claim));
        assert_eq!(Claim::decode(&blob[..OVERHEAD]), None);
        blob[0] = 2;
        assert_eq!(Claim::decode(&blob), None);
    }

    #[test]
    fn a_volume_key_is_157_bytes_when_sealed() {
        assert_eq!(OVERHEAD + 64, 157);
    }

    #[test]
    fn a_context_cannot_be_cut_in_two_ways() {
        let one = EncryptionContext::new([("ab", "c")]);
        let other = EncryptionContext::new([("a", "bc")]);
        assert_ne!(canonical(&one), canonical(&other));
        assert_eq!(canonical(&one), b"\0\0\0\x02ab\0\0\0\x01c");
    }
}
