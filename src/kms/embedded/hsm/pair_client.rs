//! The front's side of the boundary, as far as key pairs go.

use crate::crypto::pair::{Message, Oaep, PairSpec, Signing};
use crate::sys::locked::LockedMemory;

use super::client::{Client, HsmError, Material, answer, locked_copy};
use super::pair::PairRequest;
use super::protocol::{Reply, Request};
use super::{KeyId, MaterialId};

/// A new data key pair.
pub(in crate::kms::embedded) struct DataKeyPairReply {
    /// `SubjectPublicKeyInfo`
    pub(in crate::kms::embedded) public: Vec<u8>,
    /// PKCS #8, where it was asked for in clear.
    pub(in crate::kms::embedded) private: Option<LockedMemory>,
    /// The same, sealed.
    pub(in crate::kms::embedded) blob: Vec<u8>,
}

impl Client {
    /// A new pair for `key`, as a token.
    pub(in crate::kms::embedded) fn new_pair(
        &self,
        account: &str,
        key: KeyId,
        spec: PairSpec,
    ) -> Result<(MaterialId, Vec<u8>), HsmError> {
        let request = PairRequest::New { account: account.as_bytes(), key, spec };
        let message = self.exchange_made(spec, &Request::Pair(request))?;
        match answer(&message)? {
            Reply::Material { id, token } => Ok((id, token.to_vec())),
            _ => Err(HsmError::BadReply),
        }
    }

    /// The signature of `message`.
    pub(in crate::kms::embedded) fn sign(
        &self,
        material: Material<'_>,
        signing: Signing,
        message: Message<'_>,
    ) -> Result<Vec<u8>, HsmError> {
        self.blob(&Request::Pair(PairRequest::Sign { token: material.into(), signing, message }))
    }

    /// What was encrypted under the public key of the pair.
    pub(in crate::kms::embedded) fn open_oaep(
        &self,
        material: Material<'_>,
        oaep: Oaep,
        ciphertext: &[u8],
    ) -> Result<LockedMemory, HsmError> {
        self.plaintext(&Request::Pair(PairRequest::Open { token: material.into(), oaep, ciphertext }))
    }

    /// The secret that the pair agrees on with the holder of the public key `other`.
    pub(in crate::kms::embedded) fn agree(
        &self,
        material: Material<'_>,
        other: &[u8],
    ) -> Result<LockedMemory, HsmError> {
        self.plaintext(&Request::Pair(PairRequest::Agree { token: material.into(), other }))
    }

    /// A new data key pair, its private half sealed, and in clear too where `clear` says so.
    pub(in crate::kms::embedded) fn generate_data_key_pair(
        &self,
        material: Material<'_>,
        context: &[u8],
        spec: PairSpec,
        clear: bool,
    ) -> Result<DataKeyPairReply, HsmError> {
        let request = PairRequest::Generate { token: material.into(), context, spec, clear };
        let message = self.exchange_made(spec, &Request::Pair(request))?;
        match answer(&message)? {
            Reply::DataKeyPair { public, private, blob } => {
                let private = clear.then(|| locked_copy(private)).transpose()?;
                Ok(DataKeyPairReply { public: public.to_vec(), private, blob: blob.to_vec() })
            }
            _ => Err(HsmError::BadReply),
        }
    }

    /// The answer to a request by which such a pair is made.
    fn exchange_made(&self, spec: PairSpec, request: &Request<'_>) -> Result<LockedMemory, HsmError> {
        if spec.modulus_bits().is_some() { self.exchange_slow(request) } else { self.exchange(request) }
    }
}
