//! The side of the boundary that holds the domain key: takes requests, answers replies.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use crate::crypto::random;
use crate::kms::embedded::blob::Claim;
use crate::kms::frame;
use crate::secret::Secret;
use crate::sync::Arc;
use crate::sys::locked::{LockedMemory, LockingFailed};

use super::protocol::{Failure, Reply, Request, Token};
use super::token::DomainKeys;
use super::{MaterialId, cipher, import, kept};

/// The HSM.
pub struct Hsm {
    domain: DomainKeys,
}

/// The stream to the front failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Reading or writing failed, or what came was no frame.
    #[error("the stream between KMS and HSM failed")]
    Stream(#[from] io::Error),
    /// A reply could not be made.
    #[error(transparent)]
    NoLockedMemory(#[from] LockingFailed),
}

/// Answers every request on `stream` until its other end closes.
///
/// # Errors
/// Where the stream fails or carries something else; it is of no use then.
pub fn serve(stream: &mut (impl Read + Write), hsm: &Hsm) -> Result<(), ServeError> {
    while let Some(request) = frame::read(stream)? {
        let reply = hsm.answer(request.bytes())?;
        frame::write(stream, reply.bytes())?;
    }
    Ok(())
}

/// Answers every request on `stream` by a thread of its own: those that take long.
///
/// # Errors
/// Where no thread can be started.
pub(super) fn serve_beside(mut stream: UnixStream, hsm: &Arc<Hsm>) -> io::Result<()> {
    let hsm = Arc::clone(hsm);
    // Where it fails its end of the stream closes, by which the front knows.
    let serving = move || drop(serve(&mut stream, &hsm));
    thread::Builder::new().name("rsa".to_owned()).spawn(serving).map(drop)
}

impl Hsm {
    /// An HSM that seals tokens under keys derived from `domain_key`, which is wiped.
    ///
    /// # Errors
    /// Where no memory can be locked.
    pub fn new(domain_key: Secret<32>) -> Result<Self, LockingFailed> {
        let domain = DomainKeys::derive(&domain_key)?;
        drop(domain_key);
        Ok(Self { domain })
    }

    /// The encoded reply to an encoded request.
    pub(super) fn answer(&self, request: &[u8]) -> Result<LockedMemory, LockingFailed> {
        let reply = match Request::decode(request) {
            Ok(request) => self.carry_out(&request),
            Err(_) => Err(Failure::Malformed),
        };
        reply.or_else(|failure| Reply::Failed(failure).encode())
    }

    fn carry_out(&self, request: &Request<'_>) -> Result<LockedMemory, Failure> {
        match *request {
            Request::CheckValue => Ok(Reply::CheckValue(self.domain.check_value()).encode()?),
            Request::NewMaterial { account, key } => {
                let root = Secret::<32>::filled_by(|root| random::fill(root))?;
                let mut id = MaterialId([0; 32]);
                random::fill(&mut id.0);
                let token = self.domain.seal(account, key, id, &root)?;
                Ok(Reply::Material { id, token: &token }.encode()?)
            }
            Request::Encrypt { token, context, plaintext } => {
                let blob = self.seal(&token, context, plaintext)?;
                Ok(Reply::Blob(blob.bytes()).encode()?)
            }
            Request::Decrypt { token, context, blob } => {
                let root = self.domain.open(&token)?;
                Ok(Reply::Plaintext(cipher::open(&root, context, blob)?.bytes()).encode()?)
            }
            Request::GenerateDataKey { token, context, bytes } => {
                let (plaintext, blob) = self.data_key(&token, context, bytes)?;
                Ok(Reply::DataKey { plaintext: plaintext.bytes(), blob: blob.bytes() }.encode()?)
            }
            Request::GenerateDataKeyWithoutPlaintext { token, context, bytes } => {
                let (_, blob) = self.data_key(&token, context, bytes)?;
                Ok(Reply::Blob(blob.bytes()).encode()?)
            }
            Request::ReEncrypt { token, context, blob, to, to_context } => {
                let plaintext = cipher::open(&self.domain.open(&token)?, context, blob)?;
                let blob = self.seal(&to, to_context, plaintext.bytes())?;
                Ok(Reply::Blob(blob.bytes()).encode()?)
            }
            Request::Random { bytes } => Ok(Reply::Plaintext(random_bytes(bytes)?.bytes()).encode()?),
            Request::Keep { purpose, secret } => {
                Ok(Reply::Blob(kept::seal(self.domain.keeping(), purpose, secret)?.bytes()).encode()?)
            }
            Request::Recall { purpose, kept } => {
                Ok(Reply::Plaintext(kept::open(self.domain.keeping(), purpose, kept)?.bytes()).encode()?)
            }
            Request::NewMacKey { account, key, digest } => {
                let root = random_bytes(u16::try_from(digest.bytes()).expect("a digest is short"))?;
                let mut id = MaterialId([0; 32]);
                random::fill(&mut id.0);
                let token = self.domain.seal_mac_key(account, key, id, root.bytes())?;
                Ok(Reply::Material { id, token: &token }.encode()?)
            }
            Request::Mac { token, digest, message } => {
                let root = self.domain.open_mac_key(&token)?;
                Ok(Reply::Blob(&digest.hmac(root.bytes(), message)).encode()?)
            }
            Request::NewWrappingKey { purpose, bits } => import::new_wrapping_key(&self.domain, purpose, bits),
            Request::Import(brought) => import::import(&self.domain, &brought),
            Request::Pair(request) => request.carry_out(&self.domain),
        }
    }

    fn seal(&self, token: &Token<'_>, context: &[u8], plaintext: &[u8]) -> Result<LockedMemory, Failure> {
        if plaintext.is_empty() {
            return Err(Failure::Malformed);
        }
        let root = self.domain.open(token)?;
        let claim = Claim { key: token.key, material: token.material };
        Ok(cipher::seal(&root, &claim, context, plaintext)?)
    }

    fn data_key(&self, token: &Token<'_>, context: &[u8], bytes: u16) -> Result<(LockedMemory, LockedMemory), Failure> {
        let plaintext = random_bytes(bytes)?;
        let blob = self.seal(token, context, plaintext.bytes())?;
        Ok((plaintext, blob))
    }
}

fn random_bytes(count: u16) -> Result<LockedMemory, Failure> {
    if count == 0 {
        return Err(Failure::Malformed);
    }
    let mut bytes = LockedMemory::zeroed(usize::from(count))?;
    random::fill(bytes.bytes_mut());
    Ok(bytes)
}
