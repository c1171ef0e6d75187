//! AES-256-GCM (SP 800-38D), as the HSM part of the embedded KMS uses it: detached tag, in place.
//!
//! Each call expands the key anew: it serves key blobs of some hundred bytes, never sectors. Who calls chooses the nonce
//! and answers for its being new under that key.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};

use super::stack;
use crate::secret::Secret;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;

/// The ciphertext, nonce, key and additional data do not belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext is not what this key sealed with this additional data")]
pub struct NotAuthentic;

/// Encrypts `data` in place and answers the tag.
///
/// # Panics
/// Where `data` or `aad` is longer than GCM allows (2^36 bytes).
pub fn seal(key: &Secret<32>, nonce: &[u8; NONCE_BYTES], aad: &[u8], data: &mut [u8]) -> [u8; TAG_BYTES] {
    stack::wiped_after(|| {
        let cipher = Aes256Gcm::new(key.expose().into());
        cipher.encrypt_inout_detached(nonce.into(), aad, data.into()).expect("shorter than 2^36 bytes").into()
    })
}

/// Checks `tag`, then decrypts `data` in place.
///
/// # Errors
/// Where anything was changed; `data` is unspecified then.
pub fn open(
    key: &Secret<32>,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    data: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), NotAuthentic> {
    stack::wiped_after(|| {
        let cipher = Aes256Gcm::new(key.expose().into());
        cipher.decrypt_inout_detached(nonce.into(), aad, data.into(), tag.into()).map_err(|_| NotAuthentic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex::hex;

    struct Case {
        key: Secret<32>,
        nonce: [u8; 12],
        aad: Vec<u8>,
        plain: Vec<u8>,
        sealed: Vec<u8>,
        tag: [u8; 16],
    }

    /// Test case 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega), the basis of NIST's vectors.
    fn case_16() -> Case {
        let key = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                     1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
        let sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
                      8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662";
        Case {
            key: Secret::filled_by(|bytes| bytes.copy_from_slice(&key)).expect("locks"),
            nonce: hex("cafebabefacedbaddecaf888").try_into().expect("12 bytes"),
            aad: hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
            plain: hex(plain),
            sealed: hex(sealed),
            tag: hex("76fc6ece0f4e1768cddf8853bb2d551b").try_into().expect("16 bytes"),
        }
    }

    #[test]
    fn a_published_vector_is_sealed_and_opened() {
        let Case { key, nonce, aad, plain, sealed, tag } = case_16();
        let mut data = plain.clone();
        assert_eq!(seal(&key, &nonce, &aad, &mut data), tag);
        assert_eq!(data, sealed);
        assert_eq!(open(&key, &nonce, &aad, &mut data, &tag), Ok(()));
        assert_eq!(data, plain);
    }

    #[test]
    fn the_empty_message_under_the_zero_key_has_the_published_tag() {
        let key = Secret::zeroed().expect("locks");
        let tag = seal(&key, &[0; 12], &[], &mut []);
        assert_eq!(tag.to_vec(), hex("530f8afbc74536b9a963b4f1c4cb738b"), "test case 13");
    }

    #[test]
    fn a_flipped_bit_anywhere_is_not_authentic() {
        let places = 60 + 20 + 16 + 12;
        for place in 0..places {
            let Case { key, mut nonce, mut aad, mut sealed, mut tag, .. } = case_16();
            let parts: [&mut [u8]; 4] = [&mut sealed, &mut aad, &mut tag, &mut nonce];
            *parts.into_iter().flatten().nth(place).expect("within") ^= 1;
            assert_eq!(open(&key, &nonce, &aad, &mut sealed, &tag), Err(NotAuthentic), "byte {place}");
        }
    }
}
