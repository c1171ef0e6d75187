//! The front's side of the boundary: one function for each request, over whatever carries the bytes.

use std::io;
use std::os::unix::net::UnixStream;

use crate::crypto::digest::Sha2;
use crate::crypto::wrapping::Wrapping;
use crate::kms::frame;
use crate::limits;
use crate::sync::Mutex;
use crate::sys::locked::{LockedMemory, LockingFailed};

use super::import::Import;
use super::parent::Parent;
use super::protocol::{Failure, Malformed, Reply, Request, Token};
use super::separate::Separate;
use super::server::Hsm;
use super::{KeyId, MaterialId, TOKEN_BYTES};

/// The way to an HSM.
pub struct Client(Transport);

enum Transport {
    InProcess(Hsm),
    /// `None` once an exchange has failed: what comes next on the stream may answer another request.
    Stream(Mutex<Option<UnixStream>>),
    Separate(Box<Separate>),
}

/// How long an answer takes.
#[derive(Clone, Copy)]
enum Pace {
    Quick,
    Slow,
}

/// Why the HSM gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HsmError {
    /// It answered that it could not.
    #[error("the HSM refused")]
    Failed(#[source] Failure),
    /// It cannot be reached.
    #[error("the HSM cannot be reached")]
    Stream(#[from] io::Error),
    /// An exchange failed before, and the stream is closed.
    #[error("the HSM is gone")]
    Gone,
    /// It answered something else than was asked.
    #[error("the HSM's answer cannot be understood")]
    BadReply,
    /// The HSM's parent cannot be asked for another HSM.
    #[error("the HSM's parent process is gone; restart the daemon")]
    NoParent(#[source] io::Error),
    /// Its parent could not start it.
    #[error("the HSM could not be started: {0}")]
    NotStarted(String),
    /// It is zeroized.
    #[error("the HSM is zeroized; put its domain key back if it was destroyed, then run: envol kms initialise")]
    Zeroized,
    /// It is gone, and its domain key is not.
    #[error("the HSM is gone, but its domain key could not be destroyed: {0}")]
    NotDestroyed(String),
    /// It is no process of its own, so that there is nothing to end or to start.
    #[error("this HSM can be neither zeroized nor initialised")]
    NotSeparate,
    /// It was started with another domain key than the store's.
    #[error("the domain key is not the one under which this key store was made")]
    OtherDomainKey,
    /// So many RSA keys are being made or waited for that no other is.
    #[error("the HSM makes and is asked for {max} RSA keys already; try again", max = limits::HSM_RSA_KEYS_AT_ONCE)]
    Busy,
    /// It has not made an RSA key in time.
    #[error("the HSM has not made the RSA key in time; try again")]
    Late,
    /// No locked memory for the request or the reply.
    #[error(transparent)]
    NoLockedMemory(#[from] LockingFailed),
}

/// One material of a key, as the store keeps it.
#[derive(Clone, Copy)]
pub(in crate::kms::embedded) struct Material<'a> {
    pub(in crate::kms::embedded) account: &'a str,
    pub(in crate::kms::embedded) key: KeyId,
    pub(in crate::kms::embedded) id: MaterialId,
    pub(in crate::kms::embedded) token: &'a [u8],
}

/// Material of a key that somebody else made, wrapped.
pub(in crate::kms::embedded) struct ImportedMaterial<'a> {
    pub(in crate::kms::embedded) account: &'a str,
    pub(in crate::kms::embedded) key: KeyId,
    /// The digest, where the key makes MACs.
    pub(in crate::kms::embedded) digest: Option<Sha2>,
    /// For what the wrapping key was kept, and the wrapping key itself.
    pub(in crate::kms::embedded) purpose: &'a [u8],
    pub(in crate::kms::embedded) kept: &'a [u8],
    pub(in crate::kms::embedded) wrapping: Wrapping,
    pub(in crate::kms::embedded) wrapped: &'a [u8],
}

/// A new data key.
pub(in crate::kms::embedded) struct DataKeyReply {
    pub(in crate::kms::embedded) plaintext: LockedMemory,
    pub(in crate::kms::embedded) blob: Vec<u8>,
}

impl From<Malformed> for HsmError {
    fn from(_: Malformed) -> Self {
        Self::BadReply
    }
}

impl<'a> From<Material<'a>> for Token<'a> {
    fn from(material: Material<'a>) -> Self {
        Self { account: material.account.as_bytes(), key: material.key, material: material.id, sealed: material.token }
    }
}

impl Client {
    /// The HSM in this process; its messages are encoded all the same.
    pub fn in_process(hsm: Hsm) -> Self {
        Self(Transport::InProcess(hsm))
    }

    /// The HSM at the other end of `stream`, where [`super::serve`] runs.
    pub fn over(stream: UnixStream) -> Self {
        Self(Transport::Stream(Mutex::new(Some(stream))))
    }

    /// The HSM that `parent` starts, in a process of its own, and starts again should it die.
    pub fn separate(parent: Parent) -> Self {
        Self(Transport::Separate(Box::new(Separate::new(parent))))
    }

    /// Whether a domain key may be made where there is none; said before anything is asked.
    pub(in crate::kms::embedded) fn allow_new_domain_key(&self, allowed: bool) {
        if let Transport::Separate(separate) = &self.0 {
            separate.allow_new_domain_key(allowed);
        }
    }

    /// From here on, an HSM that is started anew must have this check value.
    pub(in crate::kms::embedded) fn expect(&self, check_value: [u8; 32]) {
        if let Transport::Separate(separate) = &self.0 {
            separate.expect(check_value);
        }
    }

    /// From here on there is no HSM, and whoever waits for its answer waits no longer. Waits for nobody.
    pub(in crate::kms::embedded) fn halt(&self) {
        if let Transport::Separate(separate) = &self.0 {
            separate.halt();
        }
    }

    /// From here on there is no HSM.
    pub(in crate::kms::embedded) fn stay_zeroized(&self) {
        if let Transport::Separate(separate) = &self.0 {
            separate.stay_zeroized();
        }
    }

    /// Ends the HSM and has its domain key destroyed, as far as that is ours.
    pub(in crate::kms::embedded) fn zeroize(&self) -> Result<(), HsmError> {
        match &self.0 {
            Transport::Separate(separate) => separate.zeroize(),
            Transport::InProcess(_) | Transport::Stream(_) => Err(HsmError::NotSeparate),
        }
    }

    /// Has an HSM started, which must be the store's.
    pub(in crate::kms::embedded) fn initialise(&self) -> Result<(), HsmError> {
        match &self.0 {
            Transport::Separate(separate) => separate.initialise(),
            Transport::InProcess(_) | Transport::Stream(_) => Err(HsmError::NotSeparate),
        }
    }

    /// The process id of the HSM; `None` where it is no process of its own, or none runs.
    pub(in crate::kms::embedded) fn pid(&self) -> Option<u32> {
        match &self.0 {
            Transport::Separate(separate) => separate.pid(),
            Transport::InProcess(_) | Transport::Stream(_) => None,
        }
    }

    /// The public value by which a store knows its domain key.
    pub(in crate::kms::embedded) fn check_value(&self) -> Result<[u8; 32], HsmError> {
        let message = self.exchange(&Request::CheckValue)?;
        match answer(&message)? {
            Reply::CheckValue(value) => value.try_into().map_err(|_| HsmError::BadReply),
            _ => Err(HsmError::BadReply),
        }
    }

    /// New root material for `key`, as a token.
    pub(in crate::kms::embedded) fn new_material(
        &self,
        account: &str,
        key: KeyId,
    ) -> Result<(MaterialId, [u8; TOKEN_BYTES]), HsmError> {
        let message = self.exchange(&Request::NewMaterial { account: account.as_bytes(), key })?;
        match answer(&message)? {
            Reply::Material { id, token } => Ok((id, token.try_into().map_err(|_| HsmError::BadReply)?)),
            _ => Err(HsmError::BadReply),
        }
    }

    /// `plaintext`, sealed.
    pub(in crate::kms::embedded) fn encrypt(
        &self,
        material: Material<'_>,
        context: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        self.blob(&Request::Encrypt { token: material.into(), context, plaintext })
    }

    /// What is sealed in `blob`.
    pub(in crate::kms::embedded) fn decrypt(
        &self,
        material: Material<'_>,
        context: &[u8],
        blob: &[u8],
    ) -> Result<LockedMemory, HsmError> {
        self.plaintext(&Request::Decrypt { token: material.into(), context, blob })
    }

    /// What is sealed in `blob`, sealed anew by `to` with `to_context`; it is never seen outside the HSM.
    pub(in crate::kms::embedded) fn re_encrypt(
        &self,
        (material, context): (Material<'_>, &[u8]),
        blob: &[u8],
        (to, to_context): (Material<'_>, &[u8]),
    ) -> Result<Vec<u8>, HsmError> {
        self.blob(&Request::ReEncrypt { token: material.into(), context, blob, to: to.into(), to_context })
    }

    /// New root material for `key`, which makes MACs, as a token.
    pub(in crate::kms::embedded) fn new_mac_key(
        &self,
        account: &str,
        key: KeyId,
        digest: Sha2,
    ) -> Result<(MaterialId, Vec<u8>), HsmError> {
        let message = self.exchange(&Request::NewMacKey { account: account.as_bytes(), key, digest })?;
        match answer(&message)? {
            Reply::Material { id, token } => Ok((id, token.to_vec())),
            _ => Err(HsmError::BadReply),
        }
    }

    /// The MAC of `message`.
    pub(in crate::kms::embedded) fn mac(
        &self,
        material: Material<'_>,
        digest: Sha2,
        message: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        self.blob(&Request::Mac { token: material.into(), digest, message })
    }

    /// A new wrapping key: its public half, and its private one kept for `purpose`.
    pub(in crate::kms::embedded) fn new_wrapping_key(
        &self,
        purpose: &[u8],
        bits: u16,
    ) -> Result<(Vec<u8>, Vec<u8>), HsmError> {
        let message = self.exchange_slow(&Request::NewWrappingKey { purpose, bits })?;
        match answer(&message)? {
            Reply::WrappingKey { public, kept } => Ok((public.to_vec(), kept.to_vec())),
            _ => Err(HsmError::BadReply),
        }
    }

    /// Wrapped material, as a token.
    pub(in crate::kms::embedded) fn import(
        &self,
        material: &ImportedMaterial<'_>,
    ) -> Result<(MaterialId, Vec<u8>), HsmError> {
        let &ImportedMaterial { account, key, digest, purpose, kept, wrapping, wrapped } = material;
        let account = account.as_bytes();
        let import = Import { account, key, digest, purpose, kept, wrapping, wrapped };
        let message = self.exchange(&Request::Import(import))?;
        match answer(&message)? {
            Reply::Material { id, token } => Ok((id, token.to_vec())),
            _ => Err(HsmError::BadReply),
        }
    }

    /// Random bytes.
    pub(in crate::kms::embedded) fn random(&self, bytes: u16) -> Result<LockedMemory, HsmError> {
        self.plaintext(&Request::Random { bytes })
    }

    /// `secret`, sealed under the domain key for `purpose`.
    pub(in crate::kms::embedded) fn keep(&self, purpose: &[u8], secret: &[u8]) -> Result<Vec<u8>, HsmError> {
        self.blob(&Request::Keep { purpose, secret })
    }

    /// What was kept for `purpose`.
    pub(in crate::kms::embedded) fn recall(&self, purpose: &[u8], kept: &[u8]) -> Result<LockedMemory, HsmError> {
        self.plaintext(&Request::Recall { purpose, kept })
    }

    /// A new data key, clear and sealed.
    pub(in crate::kms::embedded) fn generate_data_key(
        &self,
        material: Material<'_>,
        context: &[u8],
        bytes: u16,
    ) -> Result<DataKeyReply, HsmError> {
        let message = self.exchange(&Request::GenerateDataKey { token: material.into(), context, bytes })?;
        match answer(&message)? {
            Reply::DataKey { plaintext, blob } => {
                Ok(DataKeyReply { plaintext: locked_copy(plaintext)?, blob: blob.to_vec() })
            }
            _ => Err(HsmError::BadReply),
        }
    }

    /// A new data key, sealed only.
    pub(in crate::kms::embedded) fn generate_data_key_without_plaintext(
        &self,
        material: Material<'_>,
        context: &[u8],
        bytes: u16,
    ) -> Result<Vec<u8>, HsmError> {
        self.blob(&Request::GenerateDataKeyWithoutPlaintext { token: material.into(), context, bytes })
    }

    pub(super) fn plaintext(&self, request: &Request<'_>) -> Result<LockedMemory, HsmError> {
        let message = self.exchange(request)?;
        match answer(&message)? {
            Reply::Plaintext(plaintext) => locked_copy(plaintext),
            _ => Err(HsmError::BadReply),
        }
    }

    pub(super) fn blob(&self, request: &Request<'_>) -> Result<Vec<u8>, HsmError> {
        let message = self.exchange(request)?;
        match answer(&message)? {
            Reply::Blob(blob) => Ok(blob.to_vec()),
            _ => Err(HsmError::BadReply),
        }
    }

    pub(super) fn exchange(&self, request: &Request<'_>) -> Result<LockedMemory, HsmError> {
        self.exchange_at(Pace::Quick, request)
    }

    /// [`Client::exchange`] of what takes seconds: nobody waits for it but who asks for the like.
    pub(super) fn exchange_slow(&self, request: &Request<'_>) -> Result<LockedMemory, HsmError> {
        self.exchange_at(Pace::Slow, request)
    }

    fn exchange_at(&self, pace: Pace, request: &Request<'_>) -> Result<LockedMemory, HsmError> {
        let request = request.encode()?;
        match &self.0 {
            Transport::InProcess(hsm) => Ok(hsm.answer(request.bytes())?),
            Transport::Separate(separate) => match pace {
                Pace::Quick => separate.exchange(request.bytes()),
                Pace::Slow => separate.exchange_slow(request.bytes()),
            },
            Transport::Stream(stream) => {
                let mut place = stream.lock();
                let mut stream = place.take().ok_or(HsmError::Gone)?;
                frame::write(&mut stream, request.bytes())?;
                let reply = frame::read(&mut stream)?.ok_or(HsmError::Gone)?;
                *place = Some(stream);
                Ok(reply)
            }
        }
    }
}

pub(super) fn answer(message: &LockedMemory) -> Result<Reply<'_>, HsmError> {
    match Reply::decode(message.bytes())? {
        Reply::Failed(failure) => Err(HsmError::Failed(failure)),
        reply => Ok(reply),
    }
}

pub(super) fn locked_copy(bytes: &[u8]) -> Result<LockedMemory, HsmError> {
    let mut copy = LockedMemory::zeroed(bytes.len())?;
    // Locked memory is never empty; an empty reply would otherwise pass for one zero byte.
    if bytes.is_empty() {
        return Err(HsmError::BadReply);
    }
    copy.bytes_mut().copy_from_slice(bytes);
    Ok(copy)
}
