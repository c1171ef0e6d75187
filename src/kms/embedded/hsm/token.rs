//! The exported key token: root material sealed under the domain key, the only form in which it leaves the HSM.
//!
//! ```text
//! version 1 | nonce 12 | ciphertext 32 | tag 16            of a key that encrypts
//! version 1 | nonce 12 | ciphertext 28 to 128 | tag 16     of a key that makes MACs; its version is another
//! ```
//! Tokens of key pairs are `pair`'s. AES-256-GCM under a key derived from the domain key; the account, the key id and the material id are associated
//! data, so that a token copied to another key's place in the store opens nothing.

use crate::crypto::aead::{self, NONCE_BYTES, TAG_BYTES};
use crate::crypto::{derive, digest, random};
use crate::secret::Secret;
use crate::sys::locked::{LockedMemory, LockingFailed};

use super::protocol::{Failure, Token};
use super::{KeyId, MaterialId};

const VERSION: u8 = 1;
/// The version of tokens for keys that make MACs: what is of one kind is never used as the other.
const MAC_VERSION: u8 = 2;
const NONCE_END: usize = 1 + NONCE_BYTES;
const BODY_END: usize = NONCE_END + 32;
/// Bytes of a token.
pub(in crate::kms::embedded) const TOKEN_BYTES: usize = BODY_END + TAG_BYTES;

/// What the domain key is used for: keys derived from it, itself kept no longer.
pub(super) struct DomainKeys {
    sealing: Secret<32>,
    keeping: Secret<32>,
    naming: Secret<32>,
    check: Secret<32>,
}

impl DomainKeys {
    pub(super) fn derive(domain_key: &Secret<32>) -> Result<Self, LockingFailed> {
        let mut sealing = Secret::zeroed()?;
        derive::sp800_108(domain_key, b"envol domain key: tokens", &[], &mut sealing);
        let mut keeping = Secret::zeroed()?;
        derive::sp800_108(domain_key, b"envol domain key: secrets", &[], &mut keeping);
        let mut naming = Secret::zeroed()?;
        derive::sp800_108(domain_key, b"envol domain key: imported material", &[], &mut naming);
        let mut check = Secret::zeroed()?;
        derive::sp800_108(domain_key, b"envol domain key: check value", &[], &mut check);
        Ok(Self { sealing, keeping, naming, check })
    }

    /// The key under which tokens are sealed.
    pub(super) fn sealing(&self) -> &Secret<32> {
        &self.sealing
    }

    /// The key under which the KMS's own secrets are kept.
    pub(super) fn keeping(&self) -> &Secret<32> {
        &self.keeping
    }

    /// The id of material that somebody else made for `key`: the same for the same, and no help in finding it out.
    pub(super) fn name_material(&self, account: &[u8], key: KeyId, root: &[u8]) -> MaterialId {
        MaterialId(digest::hmac_sha256(self.naming.expose(), &[&key.0, &digest::sha256(&[account]), root]))
    }

    /// A public value that only this domain key gives.
    pub(super) fn check_value(&self) -> &[u8; 32] {
        self.check.expose()
    }

    /// Seals `root`, the material `material` of `key`.
    pub(super) fn seal(
        &self,
        account: &[u8],
        key: KeyId,
        material: MaterialId,
        root: &Secret<32>,
    ) -> Result<[u8; TOKEN_BYTES], LockingFailed> {
        let mut token = [0; TOKEN_BYTES];
        token[0] = VERSION;
        random::fill(&mut token[1..NONCE_END]);
        let nonce = token[1..NONCE_END].try_into().expect("the range is a nonce long");
        // The clear material is copied into locked memory and only its ciphertext into the token.
        let mut body = Secret::<32>::filled_by(|body| body.copy_from_slice(root.expose()))?;
        let tag = aead::seal(&self.sealing, &nonce, &associated(VERSION, account, key, material), body.expose_mut());
        token[NONCE_END..BODY_END].copy_from_slice(body.expose());
        token[BODY_END..].copy_from_slice(&tag);
        Ok(token)
    }

    /// The root material in `token`.
    pub(super) fn open(&self, token: &Token<'_>) -> Result<Secret<32>, Failure> {
        let sealed: &[u8; TOKEN_BYTES] = token.sealed.try_into().map_err(|_| Failure::Token)?;
        if sealed[0] != VERSION {
            return Err(Failure::Token);
        }
        let nonce = sealed[1..NONCE_END].try_into().expect("the range is a nonce long");
        let tag = sealed[BODY_END..].try_into().expect("the range is a tag long");
        let mut root = Secret::<32>::filled_by(|root| root.copy_from_slice(&sealed[NONCE_END..BODY_END]))?;
        let aad = associated(VERSION, token.account, token.key, token.material);
        aead::open(&self.sealing, &nonce, &aad, root.expose_mut(), &tag).map_err(|_| Failure::Token)?;
        Ok(root)
    }

    /// Seals `root`, the material `material` of `key`, which makes MACs.
    pub(super) fn seal_mac_key(
        &self,
        account: &[u8],
        key: KeyId,
        material: MaterialId,
        root: &[u8],
    ) -> Result<Vec<u8>, LockingFailed> {
        let mut token = vec![MAC_VERSION; NONCE_END];
        random::fill(&mut token[1..]);
        let nonce = token[1..].try_into().expect("the range is a nonce long");
        let mut body = LockedMemory::zeroed(root.len())?;
        body.bytes_mut().copy_from_slice(root);
        let aad = associated(MAC_VERSION, account, key, material);
        let tag = aead::seal(&self.sealing, &nonce, &aad, body.bytes_mut());
        token.extend_from_slice(body.bytes());
        token.extend_from_slice(&tag);
        Ok(token)
    }

    /// The root material in `token`, which is of a key that makes MACs.
    pub(super) fn open_mac_key(&self, token: &Token<'_>) -> Result<LockedMemory, Failure> {
        let (head, rest) = token.sealed.split_at_checked(NONCE_END).ok_or(Failure::Token)?;
        let (body, tag) = rest.split_last_chunk().ok_or(Failure::Token)?;
        if head[0] != MAC_VERSION || body.is_empty() {
            return Err(Failure::Token);
        }
        let nonce = head[1..].try_into().expect("the range is a nonce long");
        let mut root = LockedMemory::zeroed(body.len())?;
        root.bytes_mut().copy_from_slice(body);
        let aad = associated(MAC_VERSION, token.account, token.key, token.material);
        aead::open(&self.sealing, &nonce, &aad, root.bytes_mut(), tag).map_err(|_| Failure::Token)?;
        Ok(root)
    }
}

fn associated(version: u8, account: &[u8], key: KeyId, material: MaterialId) -> Vec<u8> {
    // Two ids of fixed length come first, so that no account can be read as part of them.
    [&[version][..], &key.0, &material.0, account].concat()
}
