//! Key pairs in the HSM: how they are made and used, their messages, and their tokens.
//!
//! ```text
//! token    version 3 | kind 1 | length of the public key u16 | public key | nonce 12 | private key, sealed | tag 16
//! ```
//! As the tokens of other keys (`token`), with the public key (`SubjectPublicKeyInfo`) in clear: the front gives it out,
//! verifies and encrypts with it without the HSM. It is associated data, so a private key is never used whose
//! public one was exchanged. The private key (PKCS #8) is clear here for one request at a time. That of a data key pair is a
//! plaintext like a data key: it is sealed as one, and leaves in clear where its caller asks for that.

use crate::crypto::aead::{self, NONCE_BYTES};
use crate::crypto::pair::{Message, Oaep, PairError, PairSpec, Private, Signing};
use crate::crypto::{digest, random};
use crate::kms::embedded::blob::Claim;
use crate::sys::locked::{LockedMemory, LockingFailed};

use super::again::Again;
use super::protocol::{Failure, Fields, Malformed, Reply, Token, message, token_fields};
use super::token::DomainKeys;
use super::{KeyId, MaterialId, cipher};

const VERSION: u8 = 3;
/// What lies in front of the public key.
const HEADER_BYTES: usize = 4;

/// What the front asks about key pairs.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(super) enum PairRequest<'a> {
    /// A new pair for a key.
    New { account: &'a [u8], key: KeyId, spec: PairSpec },
    /// A signature.
    Sign { token: Token<'a>, signing: Signing, message: Message<'a> },
    /// Opens what was encrypted under the public key.
    Open { token: Token<'a>, oaep: Oaep, ciphertext: &'a [u8] },
    /// The secret that the key agrees on with the holder of another one.
    Agree { token: Token<'a>, other: &'a [u8] },
    /// A new data key pair, its private half sealed, and in clear too where `clear` says so.
    Generate { token: Token<'a>, context: &'a [u8], spec: PairSpec, clear: bool },
    /// Opens what one key has sealed and seals it by another.
    Again(Again<'a>),
}

/// The parts of a token.
struct Parts<'a> {
    spec: PairSpec,
    public: &'a [u8],
    nonce: &'a [u8; NONCE_BYTES],
    body: &'a [u8],
    tag: &'a [u8; aead::TAG_BYTES],
}

impl From<PairError> for Failure {
    fn from(error: PairError) -> Self {
        match error {
            PairError::Key => Self::Token,
            PairError::Algorithm => Self::Malformed,
            PairError::Input => Self::Ciphertext,
            PairError::Peer => Self::Peer,
            PairError::NoLockedMemory(_) => Self::Memory,
        }
    }
}

impl<'a> PairRequest<'a> {
    /// The kinds of message that these are.
    pub(super) const NEW: u8 = 15;
    const GENERATE: u8 = 19;
    pub(super) const AGAIN: u8 = 20;

    pub(super) fn encode(&self) -> Result<LockedMemory, LockingFailed> {
        match *self {
            Self::New { account, key, spec } => message(Self::NEW, &[account, &key.0, &[spec_code(spec)]]),
            Self::Sign { token, signing, message: signed } => {
                let (kind, bytes) = match signed {
                    Message::Whole(bytes) => (0, bytes),
                    Message::Digest(bytes) => (1, bytes),
                };
                about(16, &token, &[&[code(&Signing::ALL, signing), kind], bytes])
            }
            Self::Open { token, oaep, ciphertext } => about(17, &token, &[&[code(&Oaep::ALL, oaep)], ciphertext]),
            Self::Agree { token, other } => about(18, &token, &[other]),
            Self::Generate { token, context, spec, clear } => {
                about(Self::GENERATE, &token, &[context, &[spec_code(spec), u8::from(clear)]])
            }
            Self::Again(again) => again.encode(),
        }
    }

    pub(super) fn decode(kind: u8, fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        match kind {
            Self::NEW => {
                let (account, key) = (fields.next()?, KeyId(fields.array()?));
                let [spec] = fields.array()?;
                Ok(Self::New { account, key, spec: coded(&PairSpec::ALL, spec)? })
            }
            16 => {
                let token = fields.token()?;
                let [signing, kind] = fields.array()?;
                let signed: fn(&'a [u8]) -> Message<'a> = match kind {
                    0 => Message::Whole,
                    1 => Message::Digest,
                    _ => return Err(Malformed),
                };
                Ok(Self::Sign { token, signing: coded(&Signing::ALL, signing)?, message: signed(fields.next()?) })
            }
            17 => {
                let token = fields.token()?;
                let [oaep] = fields.array()?;
                Ok(Self::Open { token, oaep: coded(&Oaep::ALL, oaep)?, ciphertext: fields.next()? })
            }
            18 => Ok(Self::Agree { token: fields.token()?, other: fields.next()? }),
            Self::GENERATE => {
                let (token, context) = (fields.token()?, fields.next()?);
                let [spec, clear] = fields.array()?;
                let clear = coded(&[false, true], clear)?;
                Ok(Self::Generate { token, context, spec: coded(&PairSpec::ALL, spec)?, clear })
            }
            Self::AGAIN => Ok(Self::Again(Again::decode(fields)?)),
            _ => Err(Malformed),
        }
    }

    /// The encoded reply.
    pub(super) fn carry_out(&self, domain: &DomainKeys) -> Result<LockedMemory, Failure> {
        match *self {
            Self::New { account, key, spec } => new(domain, account, key, spec),
            Self::Sign { token, signing, message } => {
                let (spec, private) = open(domain, &token)?;
                let signature = Private { spec, der: private.bytes() }.sign(signing, message)?;
                Ok(Reply::Blob(&signature).encode()?)
            }
            Self::Open { token, oaep, ciphertext } => {
                let (spec, private) = open(domain, &token)?;
                let plaintext = Private { spec, der: private.bytes() }.decrypt(oaep, ciphertext)?;
                Ok(Reply::Plaintext(plaintext.bytes()).encode()?)
            }
            Self::Agree { token, other } => {
                let (spec, private) = open(domain, &token)?;
                let secret = Private { spec, der: private.bytes() }.agree(other)?;
                Ok(Reply::Plaintext(secret.bytes()).encode()?)
            }
            Self::Generate { token, context, spec, clear } => {
                let root = domain.open(&token)?;
                let pair = spec.generate()?;
                let claim = Claim { key: token.key, material: token.material };
                let blob = cipher::seal(&root, &claim, context, pair.private.bytes())?;
                let private = if clear { pair.private.bytes() } else { &[] };
                Ok(Reply::DataKeyPair { public: &pair.public, private, blob: blob.bytes() }.encode()?)
            }
            Self::Again(again) => again.carry_out(domain),
        }
    }
}

/// The public key in the token of a pair.
pub(in crate::kms::embedded) fn public_key(token: &[u8]) -> Option<&[u8]> {
    Parts::of(token).map(|parts| parts.public)
}

fn new(domain: &DomainKeys, account: &[u8], key: KeyId, spec: PairSpec) -> Result<LockedMemory, Failure> {
    let mut pair = spec.generate()?;
    let mut id = MaterialId([0; 32]);
    random::fill(&mut id.0);
    let length = u16::try_from(pair.public.len()).expect("a public key is short");
    let mut token = vec![VERSION, spec_code(spec)];
    token.extend_from_slice(&length.to_be_bytes());
    token.extend_from_slice(&pair.public);
    let mut nonce = [0; NONCE_BYTES];
    random::fill(&mut nonce);
    token.extend_from_slice(&nonce);
    let aad = associated(&Token { account, key, material: id, sealed: &[] }, spec, &pair.public);
    let tag = aead::seal(domain.sealing(), &nonce, &aad, pair.private.bytes_mut());
    token.extend_from_slice(pair.private.bytes());
    token.extend_from_slice(&tag);
    Ok(Reply::Material { id, token: &token }.encode()?)
}

/// The private key in `token`, and its kind.
pub(super) fn open(domain: &DomainKeys, token: &Token<'_>) -> Result<(PairSpec, LockedMemory), Failure> {
    let Parts { spec, public, nonce, body, tag } = Parts::of(token.sealed).ok_or(Failure::Token)?;
    let mut private = LockedMemory::zeroed(body.len())?;
    private.bytes_mut().copy_from_slice(body);
    let aad = associated(token, spec, public);
    aead::open(domain.sealing(), nonce, &aad, private.bytes_mut(), tag).map_err(|_| Failure::Token)?;
    Ok((spec, private))
}

impl<'a> Parts<'a> {
    fn of(token: &'a [u8]) -> Option<Self> {
        let (header, rest) = token.split_first_chunk::<HEADER_BYTES>()?;
        let &[VERSION, spec, high, low] = header else { return None };
        let (public, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (body, tag) = rest.split_last_chunk()?;
        let spec = coded(&PairSpec::ALL, spec).ok()?;
        (!body.is_empty()).then_some(Self { spec, public, nonce, body, tag })
    }
}

fn associated(token: &Token<'_>, spec: PairSpec, public: &[u8]) -> Vec<u8> {
    // All but the account is of fixed length, so that nothing can be read as part of another.
    let public = digest::sha256(&[public]);
    [&[VERSION, spec_code(spec)][..], &token.key.0, &token.material.0, &public, token.account].concat()
}

fn about(kind: u8, token: &Token<'_>, rest: &[&[u8]]) -> Result<LockedMemory, LockingFailed> {
    message(kind, &[&token_fields(token)[..], rest].concat())
}

fn spec_code(spec: PairSpec) -> u8 {
    code(&PairSpec::ALL, spec)
}

/// A value's place among all of its kind: their order is part of tokens and messages, and new ones come last.
pub(super) fn code<T: PartialEq>(all: &[T], value: T) -> u8 {
    let place = all.iter().position(|known| *known == value).expect("it is one of all");
    u8::try_from(place).expect("there are few")
}

pub(super) fn coded<T: Copy>(all: &[T], code: u8) -> Result<T, Malformed> {
    all.get(usize::from(code)).copied().ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::digest::Sha2;
    use crate::crypto::pair::Public;
    use crate::secret::Secret;

    const ACCOUNT: &[u8] = b"000000000000";
    const KEY: KeyId = KeyId([5; 16]);

    fn domain(byte: u8) -> DomainKeys {
        DomainKeys::derive(&Secret::filled_by(|key| key.fill(byte)).expect("locks")).expect("locks")
    }

    fn made(domain: &DomainKeys) -> (MaterialId, Vec<u8>) {
        let new = PairRequest::New { account: ACCOUNT, key: KEY, spec: PairSpec::P256 };
        let reply = new.carry_out(domain).expect("made");
        match Reply::decode(reply.bytes()).expect("a reply") {
            Reply::Material { id, token } => (id, token.to_vec()),
            _ => panic!("not a material"),
        }
    }

    fn signed(domain: &DomainKeys, token: Token<'_>) -> Result<Vec<u8>, Failure> {
        let (signing, message) = (Signing::Ecdsa(Sha2::Sha256), Message::Whole(b"message"));
        let reply = PairRequest::Sign { token, signing, message }.carry_out(domain)?;
        match Reply::decode(reply.bytes()).expect("a reply") {
            Reply::Blob(signature) => Ok(signature.to_vec()),
            _ => panic!("not a signature"),
        }
    }

    #[test]
    fn a_pair_is_opened_for_its_account_key_and_material_under_its_domain_key_and_unchanged() {
        let (domain, other) = (domain(0xd0), domain(0xd1));
        let (material, sealed) = made(&domain);
        let token = Token { account: ACCOUNT, key: KEY, material, sealed: &sealed };
        let signature = signed(&domain, token).expect("signed");
        let public = Public { spec: PairSpec::P256, der: public_key(&sealed).expect("in the token") };
        let verified = public.verify(Signing::Ecdsa(Sha2::Sha256), Message::Whole(b"message"), &signature);
        assert_eq!(verified, Ok(true));
        let others = [
            Token { account: b"111122223333", ..token },
            Token { key: KeyId([6; 16]), ..token },
            Token { material: MaterialId([6; 32]), ..token },
        ];
        for token in others {
            assert_eq!(signed(&domain, token), Err(Failure::Token));
        }
        assert_eq!(signed(&other, token), Err(Failure::Token));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(signed(&domain, Token { sealed: &changed, ..token }), Err(Failure::Token), "byte {at}");
            assert_eq!(signed(&domain, Token { sealed: &sealed[..at], ..token }), Err(Failure::Token), "cut at {at}");
        }
    }

    #[test]
    fn a_private_key_is_nowhere_in_clear_in_its_token_and_no_other_kind_of_key() {
        let domain = domain(0xd0);
        let (material, sealed) = made(&domain);
        let token = Token { account: ACCOUNT, key: KEY, material, sealed: &sealed };
        let (_, private) = open(&domain, &token).expect("opened");
        // The number lies between what names the curve and the public key, both of which the token has.
        let number = &private.bytes()[36..68];
        assert!(number.chunks(16).all(|part| !sealed.windows(16).any(|window| window == part)));
        assert_eq!(domain.open(&token).err(), Some(Failure::Token));
        assert_eq!(domain.open_mac_key(&token).err(), Some(Failure::Token));
        let mac = domain.seal_mac_key(ACCOUNT, KEY, material, private.bytes()).expect("sealed");
        assert_eq!(signed(&domain, Token { sealed: &mac, ..token }), Err(Failure::Token));
        let peer = PairRequest::Agree { token, other: b"no key" }.carry_out(&domain);
        assert_eq!(peer.err(), Some(Failure::Peer));
        let open = PairRequest::Open { token, oaep: Oaep::Sha1, ciphertext: &[0; 256] }.carry_out(&domain);
        assert_eq!(open.err(), Some(Failure::Malformed));
    }
}
