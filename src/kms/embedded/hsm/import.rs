//! Material that somebody else made: wrapping keys for it, and its way into a token.
//!
//! A wrapping key's private half leaves as the secrets of the KMS do (`kept`), sealed for one purpose; whoever holds it
//! hands it in again with the wrapped material. So nothing is remembered here between the two. The id of imported material
//! follows from the key and the material itself: the same material brought again is known by its id, which tells nothing
//! of it.

use crate::crypto::digest::Sha2;
use crate::crypto::wrapping::{Wrapping, WrappingError, WrappingKey};
use crate::secret::Secret;
use crate::sys::locked::LockedMemory;

use super::protocol::{Failure, Reply};
use super::token::DomainKeys;
use super::{KeyId, kept};

/// Bytes of the material of a key that encrypts.
const CIPHER_BYTES: usize = 32;

/// Material on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Import<'a> {
    pub(super) account: &'a [u8],
    pub(super) key: KeyId,
    /// The digest, where the key makes MACs.
    pub(super) digest: Option<Sha2>,
    /// For what the wrapping key was kept, and the wrapping key itself.
    pub(super) purpose: &'a [u8],
    pub(super) kept: &'a [u8],
    pub(super) wrapping: Wrapping,
    pub(super) wrapped: &'a [u8],
}

impl From<WrappingError> for Failure {
    fn from(error: WrappingError) -> Self {
        match error {
            WrappingError::Key => Self::Token,
            WrappingError::NotWrapped => Self::Ciphertext,
            WrappingError::NoLockedMemory(_) => Self::Memory,
        }
    }
}

/// A new wrapping key, its private half kept for `purpose`.
pub(super) fn new_wrapping_key(domain: &DomainKeys, purpose: &[u8], bits: u16) -> Result<LockedMemory, Failure> {
    let key = WrappingKey::generate(bits)?;
    let kept = kept::seal(domain.keeping(), purpose, key.private_der()?.bytes())?;
    Ok(Reply::WrappingKey { public: &key.public_der()?, kept: kept.bytes() }.encode()?)
}

/// The material as a token.
pub(super) fn import(domain: &DomainKeys, import: &Import<'_>) -> Result<LockedMemory, Failure> {
    let private = kept::open(domain.keeping(), import.purpose, import.kept).map_err(|failure| match failure {
        Failure::Ciphertext => Failure::Token,
        failure => failure,
    })?;
    let root = WrappingKey::from_private_der(private.bytes())?.unwrap(import.wrapping, import.wrapped)?;
    let id = domain.name_material(import.account, import.key, root.bytes());
    let token = match import.digest {
        None => {
            let bytes: &[u8; CIPHER_BYTES] = root.bytes().try_into().map_err(|_| Failure::Length)?;
            let root = Secret::filled_by(|root: &mut [u8; CIPHER_BYTES]| root.copy_from_slice(bytes))?;
            domain.seal(import.account, import.key, id, &root)?.to_vec()
        }
        Some(digest) if !(digest.bytes()..=digest.block_bytes()).contains(&root.bytes().len()) => {
            return Err(Failure::Length);
        }
        Some(_) => domain.seal_mac_key(import.account, import.key, id, root.bytes())?,
    };
    Ok(Reply::Material { id, token: &token }.encode()?)
}
