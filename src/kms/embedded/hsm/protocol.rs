//! The messages that cross the boundary, and their bytes.
//!
//! ```text
//! frame    length u32 | message                      (on a stream; at most `limits::HSM_MESSAGE_MAX`)
//! message  kind u8 | field ...    field = length u32 | bytes         (all big-endian)
//! ```
//! A message may carry a clear data key or plaintext, so its bytes are made in locked memory of the exact size and
//! read where they lie: a decoded message borrows from its frame and copies nothing. serde has no part in this.

use crate::crypto::digest::Sha2;
use crate::crypto::wrapping::Wrapping;
use crate::sys::locked::{LockedMemory, LockingFailed};

use super::import::Import;
use super::pair::PairRequest;
use super::{KeyId, MaterialId};

/// Whose material a request is about, and the material itself as a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// The account that owns the key.
    pub(super) account: &'a [u8],
    pub(super) key: KeyId,
    pub(super) material: MaterialId,
    pub(super) sealed: &'a [u8],
}

/// What the front asks.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(super) enum Request<'a> {
    /// A value by which a store knows its domain key again.
    CheckValue,
    /// New root material for a key.
    NewMaterial { account: &'a [u8], key: KeyId },
    /// Seals `plaintext`.
    Encrypt { token: Token<'a>, context: &'a [u8], plaintext: &'a [u8] },
    /// Opens `blob`.
    Decrypt { token: Token<'a>, context: &'a [u8], blob: &'a [u8] },
    /// A new data key, clear and sealed.
    GenerateDataKey { token: Token<'a>, context: &'a [u8], bytes: u16 },
    /// A new data key, sealed only.
    GenerateDataKeyWithoutPlaintext { token: Token<'a>, context: &'a [u8], bytes: u16 },
    /// Opens `blob` and seals what was in it anew.
    ReEncrypt { token: Token<'a>, context: &'a [u8], blob: &'a [u8], to: Token<'a>, to_context: &'a [u8] },
    /// Random bytes.
    Random { bytes: u16 },
    /// Seals a secret of the KMS's own under the domain key, for one purpose.
    Keep { purpose: &'a [u8], secret: &'a [u8] },
    /// Opens what was kept for that purpose.
    Recall { purpose: &'a [u8], kept: &'a [u8] },
    /// New root material for a key that makes MACs with this digest.
    NewMacKey { account: &'a [u8], key: KeyId, digest: Sha2 },
    /// The MAC of a message.
    Mac { token: Token<'a>, digest: Sha2, message: &'a [u8] },
    /// A new wrapping key with a modulus of that many bits, its private half kept for that purpose.
    NewWrappingKey { purpose: &'a [u8], bits: u16 },
    /// Makes a token of wrapped material.
    Import(Import<'a>),
    /// About a key pair.
    Pair(PairRequest<'a>),
}

/// What the HSM answers.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(super) enum Reply<'a> {
    CheckValue(&'a [u8]),
    Material {
        id: MaterialId,
        token: &'a [u8],
    },
    Blob(&'a [u8]),
    Plaintext(&'a [u8]),
    DataKey {
        plaintext: &'a [u8],
        blob: &'a [u8],
    },
    Failed(Failure),
    WrappingKey {
        public: &'a [u8],
        kept: &'a [u8],
    },
    /// `private` is empty unless it was asked for in clear.
    DataKeyPair {
        public: &'a [u8],
        private: &'a [u8],
        blob: &'a [u8],
    },
}

/// Why the HSM did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The request is no message of this protocol.
    #[error("the request was malformed")]
    Malformed,
    /// The token was not sealed under this domain key for this key and material.
    #[error("the key token does not belong to this domain key, key and material")]
    Token,
    /// The blob was not sealed by this material with this context.
    #[error("the ciphertext is not authentic")]
    Ciphertext,
    /// No locked memory.
    #[error("memory for keys could not be locked; raise the limit on locked memory (RLIMIT_MEMLOCK, LimitMEMLOCK=)")]
    Memory,
    /// There is no domain key to work with.
    #[error("the domain key could not be read")]
    DomainKey,
    /// Imported material is not as long as the key's has to be.
    #[error("the material is of another length than the key's")]
    Length,
    /// The kernel does not confine it as the configuration requires.
    #[error("the HSM could not be confined by landlock and seccomp, as hardening = \"require\" asks")]
    Confinement,
    /// The passphrase is none, or another one.
    #[error("the passphrase does not open the domain key: it is another one, or empty, or too long")]
    Passphrase,
    /// The other side's public key is none with which this key agrees on a secret.
    #[error("the other public key is none of the same curve")]
    Peer,
}

/// Bytes that are no message of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message of the HSM protocol")]
pub(super) struct Malformed;

impl From<LockingFailed> for Failure {
    fn from(_: LockingFailed) -> Self {
        Self::Memory
    }
}

impl<'a> Request<'a> {
    pub(super) fn encode(&self) -> Result<LockedMemory, LockingFailed> {
        match *self {
            Self::CheckValue => message(1, &[]),
            Self::NewMaterial { account, key } => message(2, &[account, &key.0]),
            Self::Encrypt { token, context, plaintext } => token_message(3, &token, context, plaintext),
            Self::Decrypt { token, context, blob } => token_message(4, &token, context, blob),
            Self::GenerateDataKey { token, context, bytes } => token_message(5, &token, context, &bytes.to_be_bytes()),
            Self::GenerateDataKeyWithoutPlaintext { token, context, bytes } => {
                token_message(6, &token, context, &bytes.to_be_bytes())
            }
            Self::ReEncrypt { token, context, blob, to, to_context } => {
                let (from, to) = (token_fields(&token), token_fields(&to));
                message(7, &[&from[..], &[context, blob], &to, &[to_context]].concat())
            }
            Self::Random { bytes } => message(8, &[&bytes.to_be_bytes()]),
            Self::Keep { purpose, secret } => message(9, &[purpose, secret]),
            Self::Recall { purpose, kept } => message(10, &[purpose, kept]),
            Self::NewMacKey { account, key, digest } => message(11, &[account, &key.0, &[digest_code(digest)]]),
            Self::Mac { token, digest, message } => token_message(12, &token, &[digest_code(digest)], message),
            Self::NewWrappingKey { purpose, bits } => message(13, &[purpose, &bits.to_be_bytes()]),
            Self::Import(Import { account, key, digest, purpose, kept, wrapping, wrapped }) => {
                let (digest, wrapping) = (digest.map_or(0, digest_code), wrapping_code(wrapping));
                message(14, &[account, &key.0, &[digest], purpose, kept, &[wrapping], wrapped])
            }
            Self::Pair(request) => request.encode(),
        }
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, mut fields) = Fields::of(bytes)?;
        let request = match kind {
            1 => Self::CheckValue,
            2 => Self::NewMaterial { account: fields.next()?, key: KeyId(fields.array()?) },
            3 => Self::Encrypt { token: fields.token()?, context: fields.next()?, plaintext: fields.next()? },
            4 => Self::Decrypt { token: fields.token()?, context: fields.next()?, blob: fields.next()? },
            5 => Self::GenerateDataKey { token: fields.token()?, context: fields.next()?, bytes: fields.number()? },
            6 => Self::GenerateDataKeyWithoutPlaintext {
                token: fields.token()?,
                context: fields.next()?,
                bytes: fields.number()?,
            },
            7 => Self::ReEncrypt {
                token: fields.token()?,
                context: fields.next()?,
                blob: fields.next()?,
                to: fields.token()?,
                to_context: fields.next()?,
            },
            8 => Self::Random { bytes: fields.number()? },
            9 => Self::Keep { purpose: fields.next()?, secret: fields.next()? },
            10 => Self::Recall { purpose: fields.next()?, kept: fields.next()? },
            11 => Self::NewMacKey { account: fields.next()?, key: KeyId(fields.array()?), digest: fields.digest()? },
            12 => Self::Mac { token: fields.token()?, digest: fields.digest()?, message: fields.next()? },
            13 => Self::NewWrappingKey { purpose: fields.next()?, bits: fields.number()? },
            14 => Self::Import(fields.import()?),
            PairRequest::NEW..=PairRequest::AGAIN => Self::Pair(PairRequest::decode(kind, &mut fields)?),
            _ => return Err(Malformed),
        };
        fields.end().map(|()| request)
    }
}

impl<'a> Reply<'a> {
    pub(super) fn encode(&self) -> Result<LockedMemory, LockingFailed> {
        match *self {
            Self::CheckValue(value) => message(1, &[value]),
            Self::Material { id, token } => message(2, &[&id.0, token]),
            Self::Blob(blob) => message(3, &[blob]),
            Self::Plaintext(plaintext) => message(4, &[plaintext]),
            Self::DataKey { plaintext, blob } => message(5, &[plaintext, blob]),
            Self::Failed(failure) => message(6, &[&[failure.code()]]),
            Self::WrappingKey { public, kept } => message(7, &[public, kept]),
            Self::DataKeyPair { public, private, blob } => message(8, &[public, private, blob]),
        }
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, mut fields) = Fields::of(bytes)?;
        let reply = match kind {
            1 => Self::CheckValue(fields.next()?),
            2 => Self::Material { id: MaterialId(fields.array()?), token: fields.next()? },
            3 => Self::Blob(fields.next()?),
            4 => Self::Plaintext(fields.next()?),
            5 => Self::DataKey { plaintext: fields.next()?, blob: fields.next()? },
            6 => Self::Failed(Failure::decode(fields.array()?)?),
            7 => Self::WrappingKey { public: fields.next()?, kept: fields.next()? },
            8 => Self::DataKeyPair { public: fields.next()?, private: fields.next()?, blob: fields.next()? },
            _ => return Err(Malformed),
        };
        fields.end().map(|()| reply)
    }
}

impl Failure {
    fn code(self) -> u8 {
        match self {
            Self::Malformed => 1,
            Self::Token => 2,
            Self::Ciphertext => 3,
            Self::Memory => 4,
            Self::DomainKey => 5,
            Self::Length => 6,
            Self::Confinement => 7,
            Self::Passphrase => 8,
            Self::Peer => 9,
        }
    }

    fn decode([code]: [u8; 1]) -> Result<Self, Malformed> {
        match code {
            1 => Ok(Self::Malformed),
            2 => Ok(Self::Token),
            3 => Ok(Self::Ciphertext),
            4 => Ok(Self::Memory),
            5 => Ok(Self::DomainKey),
            6 => Ok(Self::Length),
            7 => Ok(Self::Confinement),
            8 => Ok(Self::Passphrase),
            9 => Ok(Self::Peer),
            _ => Err(Malformed),
        }
    }
}

fn wrapping_code(wrapping: Wrapping) -> u8 {
    match wrapping {
        Wrapping::OaepSha1 => 1,
        Wrapping::OaepSha256 => 2,
        Wrapping::AesSha1 => 3,
        Wrapping::AesSha256 => 4,
    }
}

const DIGESTS: [Sha2; 4] = [Sha2::Sha224, Sha2::Sha256, Sha2::Sha384, Sha2::Sha512];

fn digest_code(digest: Sha2) -> u8 {
    match digest {
        Sha2::Sha224 => 1,
        Sha2::Sha256 => 2,
        Sha2::Sha384 => 3,
        Sha2::Sha512 => 4,
    }
}

fn token_message(kind: u8, token: &Token<'_>, context: &[u8], last: &[u8]) -> Result<LockedMemory, LockingFailed> {
    message(kind, &[&token_fields(token)[..], &[context, last]].concat())
}

pub(super) fn token_fields<'t>(token: &'t Token<'_>) -> [&'t [u8]; 4] {
    [token.account, &token.key.0, &token.material.0, token.sealed]
}

/// One message in locked memory of its size.
pub(super) fn message(kind: u8, fields: &[&[u8]]) -> Result<LockedMemory, LockingFailed> {
    let length = 1 + fields.iter().map(|field| 4 + field.len()).sum::<usize>();
    let mut memory = LockedMemory::zeroed(length)?;
    let (first, mut rest) = memory.bytes_mut().split_first_mut().expect("a message has a kind");
    *first = kind;
    for field in fields {
        let length = u32::try_from(field.len()).expect("every field is far below the limit");
        let (head, tail) = rest.split_at_mut(4);
        head.copy_from_slice(&length.to_be_bytes());
        let (body, tail) = tail.split_at_mut(field.len());
        body.copy_from_slice(field);
        rest = tail;
    }
    Ok(memory)
}

/// The fields of a message, one after the other.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of(message: &'a [u8]) -> Result<(u8, Self), Malformed> {
        let (kind, rest) = message.split_first().ok_or(Malformed)?;
        Ok((*kind, Self(rest)))
    }

    pub(super) fn next(&mut self) -> Result<&'a [u8], Malformed> {
        let (length, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Malformed)?;
        let (field, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(field)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.next()?.try_into().map_err(|_| Malformed)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn digest(&mut self) -> Result<Sha2, Malformed> {
        let [code] = self.array()?;
        DIGESTS.into_iter().find(|digest| digest_code(*digest) == code).ok_or(Malformed)
    }

    fn import(&mut self) -> Result<Import<'a>, Malformed> {
        let (account, key) = (self.next()?, KeyId(self.array()?));
        let [digest] = self.array()?;
        let digest = match digest {
            0 => None,
            code => Some(DIGESTS.into_iter().find(|known| digest_code(*known) == code).ok_or(Malformed)?),
        };
        let (purpose, kept) = (self.next()?, self.next()?);
        let [wrapping] = self.array()?;
        let wrapping = Wrapping::ALL.into_iter().find(|known| wrapping_code(*known) == wrapping).ok_or(Malformed)?;
        Ok(Import { account, key, digest, purpose, kept, wrapping, wrapped: self.next()? })
    }

    pub(super) fn token(&mut self) -> Result<Token<'a>, Malformed> {
        Ok(Token {
            account: self.next()?,
            key: KeyId(self.array()?),
            material: MaterialId(self.array()?),
            sealed: self.next()?,
        })
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::pair::{Message, Oaep, PairSpec, Signing};
    use crate::kms::embedded::hsm::again::{Again, Side, Way};

    fn token() -> Token<'static> {
        Token { account: b"000000000000", key: KeyId([1; 16]), material: MaterialId([2; 32]), sealed: b"sealed" }
    }

    fn import() -> Import<'static> {
        let (account, purpose, kept, wrapped) = (b"1".as_slice(), b"p".as_slice(), b"k".as_slice(), b"w".as_slice());
        Import { account, key: KeyId([9; 16]), digest: None, purpose, kept, wrapping: Wrapping::AesSha256, wrapped }
    }

    fn signing(message: Message<'static>) -> PairRequest<'static> {
        PairRequest::Sign { token: token(), signing: Signing::Ed25519, message }
    }

    fn data_key_pair(clear: bool) -> PairRequest<'static> {
        PairRequest::Generate { token: token(), context: b"c", spec: PairSpec::Rsa4096, clear }
    }

    fn again(from: Way<'static>, to: Way<'static>) -> PairRequest<'static> {
        let side = |way| Side { key: token(), way };
        PairRequest::Again(Again { from: side(from), blob: b"b", to: side(to) })
    }

    #[test]
    fn requests_are_read_as_they_were_written() {
        let requests = [
            Request::CheckValue,
            Request::NewMaterial { account: b"1", key: KeyId([9; 16]) },
            Request::Encrypt { token: token(), context: b"c", plaintext: b"p" },
            Request::Decrypt { token: token(), context: b"", blob: b"b" },
            Request::GenerateDataKey { token: token(), context: b"c", bytes: 64 },
            Request::GenerateDataKeyWithoutPlaintext { token: token(), context: b"c", bytes: 1024 },
            Request::ReEncrypt { token: token(), context: b"c", blob: b"b", to: token(), to_context: b"" },
            Request::Random { bytes: 32 },
            Request::Keep { purpose: b"p", secret: b"s" },
            Request::Recall { purpose: b"p", kept: b"k" },
            Request::NewMacKey { account: b"1", key: KeyId([9; 16]), digest: Sha2::Sha384 },
            Request::Mac { token: token(), digest: Sha2::Sha512, message: b"m" },
            Request::NewWrappingKey { purpose: b"p", bits: 2048 },
            Request::Import(Import { digest: Some(Sha2::Sha224), ..import() }),
            Request::Import(import()),
            Request::Pair(PairRequest::New { account: b"1", key: KeyId([9; 16]), spec: PairSpec::P384 }),
            Request::Pair(signing(Message::Whole(b"m"))),
            Request::Pair(signing(Message::Digest(b"d"))),
            Request::Pair(PairRequest::Open { token: token(), oaep: Oaep::Sha256, ciphertext: b"c" }),
            Request::Pair(PairRequest::Agree { token: token(), other: b"o" }),
            Request::Pair(data_key_pair(false)),
            Request::Pair(data_key_pair(true)),
            Request::Pair(again(Way::Pair(Oaep::Sha1), Way::Symmetric(b"c"))),
            Request::Pair(again(Way::Symmetric(b""), Way::Pair(Oaep::Sha256))),
        ];
        for request in requests {
            let message = request.encode().expect("locks");
            assert!(Request::decode(message.bytes()) == Ok(request));
            for cut in 0..message.bytes().len() {
                assert!(Request::decode(&message.bytes()[..cut]) == Err(Malformed), "cut at {cut}");
            }
            let longer = [message.bytes(), &[0]].concat();
            assert!(Request::decode(&longer) == Err(Malformed));
        }
    }

    #[test]
    fn replies_are_read_as_they_were_written() {
        let replies = [
            Reply::CheckValue(&[3; 32]),
            Reply::Material { id: MaterialId([4; 32]), token: b"t" },
            Reply::Blob(b"blob"),
            Reply::Plaintext(b"clear"),
            Reply::DataKey { plaintext: b"clear", blob: b"blob" },
            Reply::Failed(Failure::Malformed),
            Reply::Failed(Failure::Token),
            Reply::Failed(Failure::Ciphertext),
            Reply::Failed(Failure::Memory),
            Reply::Failed(Failure::DomainKey),
            Reply::Failed(Failure::Length),
            Reply::Failed(Failure::Confinement),
            Reply::Failed(Failure::Passphrase),
            Reply::WrappingKey { public: b"p", kept: b"k" },
            Reply::DataKeyPair { public: b"p", private: b"", blob: b"b" },
            Reply::Failed(Failure::Peer),
        ];
        for reply in replies {
            let message = reply.encode().expect("locks");
            assert!(Reply::decode(message.bytes()) == Ok(reply));
            for cut in 0..message.bytes().len() {
                assert!(Reply::decode(&message.bytes()[..cut]) == Err(Malformed), "cut at {cut}");
            }
        }
    }
}
