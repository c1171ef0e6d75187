//! Key pairs: RSA, the NIST curves, secp256k1 and Ed25519. Made here, and used to sign, to encrypt and to agree on secrets.
//!
//! RSA as RFC 8017 has it (PKCS #1 v1.5 and PSS, whose salt is as long as the digest; OAEP with MGF1 of the same digest),
//! ECDSA as FIPS 186-5 with DER signatures and nonces of RFC 6979 into which randomness is mixed, Ed25519 and Ed25519ph
//! as RFC 8032, ECDH as SP 800-56A. A key is PKCS #8 or `SubjectPublicKeyInfo`, and is read anew for each use: nothing is
//! remembered here. A private key lies in locked memory; while it is used it passes through the heap of its library, which
//! wipes it, and the stack, which is wiped here. All randomness is the system's.

mod curve;
mod edwards;
mod modulus;

use super::digest::Sha2;
use super::stack;
use crate::sys::locked::{LockedMemory, LockingFailed};

/// A kind of key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairSpec {
    /// RSA with a modulus of 2,048 bits
    Rsa2048,
    /// RSA with a modulus of 3,072 bits
    Rsa3072,
    /// RSA with a modulus of 4,096 bits
    Rsa4096,
    /// NIST P-256
    P256,
    /// NIST P-384
    P384,
    /// NIST P-521
    P521,
    /// secp256k1
    Secp256k1,
    /// Edwards25519
    Ed25519,
}

/// A way to sign, spelled as AWS does by [`Signing::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// `RSASSA_PKCS1_V1_5_SHA_256`, `_384`, `_512`
    Pkcs1(Sha2),
    /// `RSASSA_PSS_SHA_256`, `_384`, `_512`
    Pss(Sha2),
    /// `ECDSA_SHA_256`, `_384`, `_512`
    Ecdsa(Sha2),
    /// `ED25519_PH_SHA_512`: what is given is hashed, and the hash is signed
    Ed25519ph,
    /// `ED25519_SHA_512`
    Ed25519,
}

/// A way to encrypt under a public RSA key, spelled as AWS does by [`Oaep::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oaep {
    /// `RSAES_OAEP_SHA_1`
    Sha1,
    /// `RSAES_OAEP_SHA_256`
    Sha256,
}

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// All of it; the algorithm hashes it.
    Whole(&'a [u8]),
    /// Its digest.
    Digest(&'a [u8]),
}

/// A new key pair.
pub struct Pair {
    /// PKCS #8
    pub private: LockedMemory,
    /// `SubjectPublicKeyInfo`
    pub public: Vec<u8>,
}

/// A private key, PKCS #8.
#[derive(Clone, Copy)]
pub struct Private<'a> {
    /// Its kind.
    pub spec: PairSpec,
    /// Its bytes.
    pub der: &'a [u8],
}

/// A public key, `SubjectPublicKeyInfo`.
#[derive(Debug, Clone, Copy)]
pub struct Public<'a> {
    /// Its kind.
    pub spec: PairSpec,
    /// Its bytes.
    pub der: &'a [u8],
}

/// Why a key pair was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The bytes are no key of this kind, or none can be made.
    #[error("no key of this kind")]
    Key,
    /// Keys of this kind do not work so.
    #[error("keys of this kind have not this algorithm")]
    Algorithm,
    /// What was given is too long, of the wrong length, or nothing that this key made.
    #[error("the input does not fit the key and the algorithm")]
    Input,
    /// The other side's public key is none of this curve.
    #[error("the other public key is none of this kind")]
    Peer,
    /// No locked memory.
    #[error(transparent)]
    NoLockedMemory(#[from] LockingFailed),
}

impl PairSpec {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::P256,
        Self::P384,
        Self::P521,
        Self::Secp256k1,
        Self::Ed25519,
    ];

    /// The ways in which keys of this kind sign.
    pub fn signings(self) -> &'static [Signing] {
        const RSA: &[Signing] = &[
            Signing::Pkcs1(Sha2::Sha256),
            Signing::Pkcs1(Sha2::Sha384),
            Signing::Pkcs1(Sha2::Sha512),
            Signing::Pss(Sha2::Sha256),
            Signing::Pss(Sha2::Sha384),
            Signing::Pss(Sha2::Sha512),
        ];
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => RSA,
            Self::P256 | Self::Secp256k1 => &[Signing::Ecdsa(Sha2::Sha256)],
            Self::P384 => &[Signing::Ecdsa(Sha2::Sha384)],
            Self::P521 => &[Signing::Ecdsa(Sha2::Sha512)],
            Self::Ed25519 => &[Signing::Ed25519ph, Signing::Ed25519],
        }
    }

    /// Bits of the modulus, of an RSA key.
    pub fn modulus_bits(self) -> Option<u16> {
        match self {
            Self::Rsa2048 => Some(2048),
            Self::Rsa3072 => Some(3072),
            Self::Rsa4096 => Some(4096),
            _ => None,
        }
    }

    /// Whether two keys of this kind agree on a secret.
    pub fn agrees(self) -> bool {
        matches!(self, Self::P256 | Self::P384 | Self::P521)
    }

    /// A new pair. RSA takes up to seconds.
    ///
    /// # Errors
    /// Where no memory can be locked.
    pub fn generate(self) -> Result<Pair, PairError> {
        stack::deeply_wiped_after(|| match self.modulus_bits() {
            Some(bits) => modulus::generate(bits),
            None if self == Self::Ed25519 => edwards::generate(),
            None => curve::generate(self),
        })
    }
}

impl Signing {
    /// Every way.
    pub const ALL: [Self; 11] = [
        Self::Pkcs1(Sha2::Sha256),
        Self::Pkcs1(Sha2::Sha384),
        Self::Pkcs1(Sha2::Sha512),
        Self::Pss(Sha2::Sha256),
        Self::Pss(Sha2::Sha384),
        Self::Pss(Sha2::Sha512),
        Self::Ecdsa(Sha2::Sha256),
        Self::Ecdsa(Sha2::Sha384),
        Self::Ecdsa(Sha2::Sha512),
        Self::Ed25519ph,
        Self::Ed25519,
    ];

    /// As AWS spells it; empty for a digest that no key signs with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pkcs1(Sha2::Sha256) => "RSASSA_PKCS1_V1_5_SHA_256",
            Self::Pkcs1(Sha2::Sha384) => "RSASSA_PKCS1_V1_5_SHA_384",
            Self::Pkcs1(Sha2::Sha512) => "RSASSA_PKCS1_V1_5_SHA_512",
            Self::Pss(Sha2::Sha256) => "RSASSA_PSS_SHA_256",
            Self::Pss(Sha2::Sha384) => "RSASSA_PSS_SHA_384",
            Self::Pss(Sha2::Sha512) => "RSASSA_PSS_SHA_512",
            Self::Ecdsa(Sha2::Sha256) => "ECDSA_SHA_256",
            Self::Ecdsa(Sha2::Sha384) => "ECDSA_SHA_384",
            Self::Ecdsa(Sha2::Sha512) => "ECDSA_SHA_512",
            Self::Ed25519ph => "ED25519_PH_SHA_512",
            Self::Ed25519 => "ED25519_SHA_512",
            Self::Pkcs1(Sha2::Sha224) | Self::Pss(Sha2::Sha224) | Self::Ecdsa(Sha2::Sha224) => "",
        }
    }

    /// The digest of the message.
    pub fn digest(self) -> Sha2 {
        match self {
            Self::Pkcs1(digest) | Self::Pss(digest) | Self::Ecdsa(digest) => digest,
            Self::Ed25519ph | Self::Ed25519 => Sha2::Sha512,
        }
    }

    /// The digest of `message`, which is made where it is not given.
    fn digested(self, message: Message<'_>) -> Result<Vec<u8>, PairError> {
        match message {
            Message::Whole(message) => Ok(self.digest().digest(message)),
            Message::Digest(digest) if digest.len() == self.digest().bytes() => Ok(digest.to_vec()),
            Message::Digest(_) => Err(PairError::Input),
        }
    }
}

impl Oaep {
    /// Both ways.
    pub const ALL: [Self; 2] = [Self::Sha1, Self::Sha256];

    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "RSAES_OAEP_SHA_1",
            Self::Sha256 => "RSAES_OAEP_SHA_256",
        }
    }

    /// How much a key with a modulus of `bits` encrypts (RFC 8017, 7.1.1).
    pub fn plaintext_max(self, bits: u16) -> usize {
        let digest = match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        };
        usize::from(bits / 8).saturating_sub(2 * digest + 2)
    }
}

impl Private<'_> {
    /// The signature of `message`.
    ///
    /// # Errors
    /// Where the key has not this algorithm, or a digest is not as long as it has to be.
    pub fn sign(self, signing: Signing, message: Message<'_>) -> Result<Vec<u8>, PairError> {
        judge(self.spec, signing)?;
        stack::deeply_wiped_after(|| match signing {
            Signing::Pkcs1(_) | Signing::Pss(_) => modulus::sign(self.der, signing, &signing.digested(message)?),
            Signing::Ecdsa(_) => curve::sign(self, &signing.digested(message)?),
            Signing::Ed25519 | Signing::Ed25519ph => edwards::sign(self.der, signing, message),
        })
    }

    /// What was encrypted under the public key, which is RSA's.
    ///
    /// # Errors
    /// Where it was not, or not in this way.
    pub fn decrypt(self, oaep: Oaep, ciphertext: &[u8]) -> Result<LockedMemory, PairError> {
        match self.spec.modulus_bits() {
            Some(_) => stack::deeply_wiped_after(|| modulus::decrypt(self.der, oaep, ciphertext)),
            None => Err(PairError::Algorithm),
        }
    }

    /// The secret that this key and the other side's public key (`SubjectPublicKeyInfo`) agree on: the x coordinate.
    ///
    /// # Errors
    /// Where the other key is none of the same curve.
    pub fn agree(self, other: &[u8]) -> Result<LockedMemory, PairError> {
        stack::deeply_wiped_after(|| curve::agree(self, other))
    }
}

impl Public<'_> {
    /// Whether `signature` is one of `message`.
    ///
    /// # Errors
    /// Where the key has not this algorithm, or a digest is not as long as it has to be.
    pub fn verify(self, signing: Signing, message: Message<'_>, signature: &[u8]) -> Result<bool, PairError> {
        judge(self.spec, signing)?;
        match signing {
            Signing::Pkcs1(_) | Signing::Pss(_) => {
                modulus::verify(self.der, signing, &signing.digested(message)?, signature)
            }
            Signing::Ecdsa(_) => curve::verify(self, &signing.digested(message)?, signature),
            Signing::Ed25519 | Signing::Ed25519ph => edwards::verify(self.der, signing, message, signature),
        }
    }

    /// `plaintext`, encrypted; the key is RSA's.
    ///
    /// # Errors
    /// Where it is longer than the key can encrypt.
    pub fn encrypt(self, oaep: Oaep, plaintext: &[u8]) -> Result<Vec<u8>, PairError> {
        match self.spec.modulus_bits() {
            Some(_) => stack::deeply_wiped_after(|| modulus::encrypt(self.der, oaep, plaintext)),
            None => Err(PairError::Algorithm),
        }
    }
}

fn judge(spec: PairSpec, signing: Signing) -> Result<(), PairError> {
    if spec.signings().contains(&signing) { Ok(()) } else { Err(PairError::Algorithm) }
}

/// A copy in locked memory.
fn locked(bytes: &[u8]) -> Result<LockedMemory, PairError> {
    let mut memory = LockedMemory::zeroed(bytes.len())?;
    memory.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
    Ok(memory)
}
