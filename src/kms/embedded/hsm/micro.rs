//! What the fuzz targets of the ciphertext blob may reach: an HSM with one key, in this process and without a log.
//!
//! Nothing here is part of the library's interface; nothing else uses it.

use super::protocol::{Reply, Request, Token};
use super::{Hsm, KeyId, MaterialId};
use crate::kms::EncryptionContext;
use crate::kms::embedded::blob::{Claim, canonical};
use crate::secret::Secret;
use crate::sys::locked::LockingFailed;

const ACCOUNT: &[u8] = b"000000000000";
const KEY: KeyId = KeyId([7; 16]);

/// An HSM and the material of one key.
pub struct Sealer {
    hsm: Hsm,
    material: MaterialId,
    sealed: Vec<u8>,
}

impl Sealer {
    /// With a domain key of these bytes, and new material.
    ///
    /// # Errors
    /// Where no memory can be locked.
    pub fn new(domain_key: u8) -> Result<Self, LockingFailed> {
        let hsm = Hsm::new(Secret::filled_by(|key| key.fill(domain_key))?)?;
        let request = Request::NewMaterial { account: ACCOUNT, key: KEY }.encode()?;
        let reply = hsm.answer(request.bytes())?;
        let Ok(Reply::Material { id: material, token }) = Reply::decode(reply.bytes()) else {
            panic!("an HSM makes material")
        };
        let sealed = token.to_vec();
        Ok(Self { hsm, material, sealed })
    }

    /// `plaintext`, sealed; nothing where the HSM refuses.
    pub fn seal(&self, plaintext: &[u8], context: &EncryptionContext) -> Option<Vec<u8>> {
        let context = &canonical(context);
        self.ask(&Request::Encrypt { token: self.token(), context, plaintext })
    }

    /// What was sealed in `blob`; nothing where the HSM refuses.
    pub fn open(&self, blob: &[u8], context: &EncryptionContext) -> Option<Vec<u8>> {
        let context = &canonical(context);
        self.ask(&Request::Decrypt { token: self.token(), context, blob })
    }

    /// What is answered to bytes that may be no request.
    ///
    /// # Errors
    /// Where no memory can be locked.
    pub fn raw(&self, request: &[u8]) -> Result<Vec<u8>, LockingFailed> {
        self.hsm.answer(request).map(|reply| reply.bytes().to_vec())
    }

    fn token(&self) -> Token<'_> {
        Token { account: ACCOUNT, key: KEY, material: self.material, sealed: &self.sealed }
    }

    fn ask(&self, request: &Request<'_>) -> Option<Vec<u8>> {
        let request = request.encode().ok()?;
        let reply = self.hsm.answer(request.bytes()).ok()?;
        match Reply::decode(reply.bytes()) {
            Ok(Reply::Blob(bytes) | Reply::Plaintext(bytes)) => Some(bytes.to_vec()),
            Ok(_) => None,
            Err(_) => panic!("what an HSM answers can be read"),
        }
    }
}

/// The header of a blob, read and written again; nothing where it cannot be a blob.
pub fn claimed(blob: &[u8]) -> Option<Vec<u8>> {
    let claim = Claim::decode(blob)?;
    let mut head = vec![0; 49];
    claim.encode(&mut head);
    Some(head)
}
