//! RSA wrapping keys: how key material that somebody else made is brought into the HSM.
//!
//! RSAES-OAEP (RFC 8017) with SHA-1 or SHA-256, alone, or around an AES-256 key of the sender's under which the material
//! lies wrapped (AES-KWP, RFC 5649), as AWS KMS and PKCS#11 (`CKM_RSA_AES_KEY_WRAP`) have it. SHA-1 is what these algorithms
//! are defined with; nothing rests on its collision resistance here. The private key passes through the heap of its library,
//! which wipes it; it is no root material, but what wraps it for 24 hours. So does the material itself, for as long as its
//! padding is taken off; from there it is copied into locked memory at once, and the heap and the stack are wiped.

use aes_kw::{KeyInit, KwpAes256};
use rsa::PrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::random::System;
use super::stack;
use crate::sys::locked::{LockedMemory, LockingFailed};

/// Bytes of the AES key that a sender puts in front.
const AES_KEY_BYTES: usize = 32;

/// A way to wrap, spelled as AWS does by [`Wrapping::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapping {
    /// `RSAES_OAEP_SHA_1`
    OaepSha1,
    /// `RSAES_OAEP_SHA_256`
    OaepSha256,
    /// `RSA_AES_KEY_WRAP_SHA_1`
    AesSha1,
    /// `RSA_AES_KEY_WRAP_SHA_256`
    AesSha256,
}

/// A key under which somebody else wraps material.
pub struct WrappingKey(PrivateKey);

/// No key, or nothing that it wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrappingError {
    /// The bytes are no key of this kind.
    #[error("no RSA wrapping key can be had")]
    Key,
    /// The material was not wrapped under this key in this way.
    #[error("the material was not wrapped under this key in this way")]
    NotWrapped,
    /// No locked memory.
    #[error(transparent)]
    NoLockedMemory(#[from] LockingFailed),
}

impl Wrapping {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::OaepSha1, Self::OaepSha256, Self::AesSha1, Self::AesSha256];

    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OaepSha1 => "RSAES_OAEP_SHA_1",
            Self::OaepSha256 => "RSAES_OAEP_SHA_256",
            Self::AesSha1 => "RSA_AES_KEY_WRAP_SHA_1",
            Self::AesSha256 => "RSA_AES_KEY_WRAP_SHA_256",
        }
    }
}

impl WrappingKey {
    /// A new key whose modulus has that many bits. Takes up to seconds.
    ///
    /// # Errors
    /// Where no key can have so few.
    pub fn generate(bits: u16) -> Result<Self, WrappingError> {
        PrivateKey::new(&mut System, usize::from(bits)).map(Self).map_err(|_| WrappingError::Key)
    }

    /// The key that [`WrappingKey::private_der`] gave.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn from_private_der(der: &[u8]) -> Result<Self, WrappingError> {
        PrivateKey::from_pkcs8_der(der).map(Self).map_err(|_| WrappingError::Key)
    }

    /// The private key, PKCS #8.
    ///
    /// # Errors
    /// Where it cannot be encoded, or no memory be locked.
    pub fn private_der(&self) -> Result<LockedMemory, WrappingError> {
        let document = self.0.to_pkcs8_der().map_err(|_| WrappingError::Key)?;
        let mut der = LockedMemory::zeroed(document.as_bytes().len())?;
        der.bytes_mut().copy_from_slice(document.as_bytes());
        Ok(der)
    }

    /// The public key, `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// Where it cannot be encoded.
    pub fn public_der(&self) -> Result<Vec<u8>, WrappingError> {
        let document = self.0.to_public_key().to_public_key_der().map_err(|_| WrappingError::Key)?;
        Ok(document.as_bytes().to_vec())
    }

    /// What was wrapped.
    ///
    /// # Errors
    /// Where it was not under this key in this way.
    pub fn unwrap(&self, wrapping: Wrapping, wrapped: &[u8]) -> Result<LockedMemory, WrappingError> {
        match wrapping {
            Wrapping::OaepSha1 | Wrapping::OaepSha256 => stack::wiped_after(|| self.oaep(wrapping, wrapped)),
            Wrapping::AesSha1 | Wrapping::AesSha256 => {
                let (front, rest) = wrapped.split_at_checked(self.modulus_bytes()).ok_or(WrappingError::NotWrapped)?;
                let key = stack::wiped_after(|| self.oaep(wrapping, front))?;
                let key: &[u8; AES_KEY_BYTES] = key.bytes().try_into().map_err(|_| WrappingError::NotWrapped)?;
                stack::wiped_after(|| unwrap_padded(key, rest))
            }
        }
    }

    fn oaep(&self, wrapping: Wrapping, wrapped: &[u8]) -> Result<LockedMemory, WrappingError> {
        let opened = match wrapping {
            Wrapping::OaepSha1 | Wrapping::AesSha1 => self.0.oaep_decrypt_with_rng::<Sha1, _>(&mut System, wrapped),
            Wrapping::OaepSha256 | Wrapping::AesSha256 => {
                self.0.oaep_decrypt_with_rng::<Sha256, _>(&mut System, wrapped)
            }
        };
        locked(&Zeroizing::new(opened.map_err(|_| WrappingError::NotWrapped)?))
    }

    fn modulus_bytes(&self) -> usize {
        use rsa::traits::PublicKeyParts;
        self.0.size()
    }
}

fn unwrap_padded(key: &[u8; AES_KEY_BYTES], wrapped: &[u8]) -> Result<LockedMemory, WrappingError> {
    let room = wrapped.len().checked_sub(8).filter(|room| *room > 0).ok_or(WrappingError::NotWrapped)?;
    let mut memory = LockedMemory::zeroed(room)?;
    let cipher = KwpAes256::new(key.into());
    let length = cipher.unwrap_key(wrapped, memory.bytes_mut()).map_err(|_| WrappingError::NotWrapped)?.len();
    if length == room { Ok(memory) } else { locked(&memory.bytes()[..length]) }
}

fn locked(bytes: &[u8]) -> Result<LockedMemory, WrappingError> {
    if bytes.is_empty() {
        return Err(WrappingError::NotWrapped);
    }
    let mut memory = LockedMemory::zeroed(bytes.len())?;
    memory.bytes_mut().copy_from_slice(bytes);
    Ok(memory)
}
