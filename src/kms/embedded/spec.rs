//! What kinds of keys there are: `KeySpec` and `KeyUsage`, spelled as AWS does.

use serde::{Deserialize, Serialize};

use crate::crypto::digest::Sha2;
use crate::crypto::pair::{Oaep, PairSpec, Signing};
use crate::kms::{KeyArn, KmsError};

use super::keys::Origin;
use super::operation::Operation;
use super::refusal;

/// A key's spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum KeySpec {
    /// `SYMMETRIC_DEFAULT`: AES-256-GCM under a key of its own for each ciphertext.
    #[default]
    #[serde(rename = "SYMMETRIC_DEFAULT")]
    Symmetric,
    /// `HMAC_224`
    #[serde(rename = "HMAC_224")]
    Hmac224,
    /// `HMAC_256`
    #[serde(rename = "HMAC_256")]
    Hmac256,
    /// `HMAC_384`
    #[serde(rename = "HMAC_384")]
    Hmac384,
    /// `HMAC_512`
    #[serde(rename = "HMAC_512")]
    Hmac512,
    /// `RSA_2048`
    #[serde(rename = "RSA_2048")]
    Rsa2048,
    /// `RSA_3072`
    #[serde(rename = "RSA_3072")]
    Rsa3072,
    /// `RSA_4096`
    #[serde(rename = "RSA_4096")]
    Rsa4096,
    /// `ECC_NIST_P256`
    #[serde(rename = "ECC_NIST_P256")]
    P256,
    /// `ECC_NIST_P384`
    #[serde(rename = "ECC_NIST_P384")]
    P384,
    /// `ECC_NIST_P521`
    #[serde(rename = "ECC_NIST_P521")]
    P521,
    /// `ECC_SECG_P256K1`
    #[serde(rename = "ECC_SECG_P256K1")]
    Secp256k1,
    /// `ECC_NIST_EDWARDS25519`
    #[serde(rename = "ECC_NIST_EDWARDS25519")]
    Ed25519,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyUsage {
    /// `ENCRYPT_DECRYPT`
    #[serde(rename = "ENCRYPT_DECRYPT")]
    Encryption,
    /// `GENERATE_VERIFY_MAC`
    #[serde(rename = "GENERATE_VERIFY_MAC")]
    Mac,
    /// `SIGN_VERIFY`
    #[serde(rename = "SIGN_VERIFY")]
    Signing,
    /// `KEY_AGREEMENT`
    #[serde(rename = "KEY_AGREEMENT")]
    Agreement,
}

impl KeySpec {
    /// Every spec.
    pub const ALL: [Self; 13] = [
        Self::Symmetric,
        Self::Hmac224,
        Self::Hmac256,
        Self::Hmac384,
        Self::Hmac512,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::P256,
        Self::P384,
        Self::P521,
        Self::Secp256k1,
        Self::Ed25519,
    ];

    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Symmetric => "SYMMETRIC_DEFAULT",
            Self::Hmac224 => "HMAC_224",
            Self::Hmac256 => "HMAC_256",
            Self::Hmac384 => "HMAC_384",
            Self::Hmac512 => "HMAC_512",
            Self::Rsa2048 => "RSA_2048",
            Self::Rsa3072 => "RSA_3072",
            Self::Rsa4096 => "RSA_4096",
            Self::P256 => "ECC_NIST_P256",
            Self::P384 => "ECC_NIST_P384",
            Self::P521 => "ECC_NIST_P521",
            Self::Secp256k1 => "ECC_SECG_P256K1",
            Self::Ed25519 => "ECC_NIST_EDWARDS25519",
        }
    }

    /// What keys of this spec can be for: each for one of these.
    pub fn usages(self) -> &'static [KeyUsage] {
        match self {
            Self::Symmetric => &[KeyUsage::Encryption],
            Self::Hmac224 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => &[KeyUsage::Mac],
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => &[KeyUsage::Encryption, KeyUsage::Signing],
            Self::P256 | Self::P384 | Self::P521 => &[KeyUsage::Signing, KeyUsage::Agreement],
            Self::Secp256k1 | Self::Ed25519 => &[KeyUsage::Signing],
        }
    }

    /// The usage called `name`; without one the only one that such keys have.
    ///
    /// # Errors
    /// As AWS, where such keys have no such usage, or several.
    pub fn usage_named(self, name: Option<&str>) -> Result<KeyUsage, KmsError> {
        match (name, self.usages()) {
            (None, [only]) => Ok(*only),
            (None, _) => Err(refusal::no_usage()),
            (Some(name), usages) => {
                let found = usages.iter().find(|usage| usage.name() == name);
                found.copied().ok_or_else(|| refusal::incompatible_usage(name, self))
            }
        }
    }

    /// The algorithms of keys of this spec that are for `usage`.
    pub fn algorithms(self, usage: KeyUsage) -> Vec<&'static str> {
        match (self.pair(), usage) {
            (Some(pair), KeyUsage::Signing) => pair.signings().iter().map(|signing| signing.name()).collect(),
            (Some(_), KeyUsage::Encryption) => Oaep::ALL.iter().map(|oaep| oaep.name()).collect(),
            (Some(_), KeyUsage::Agreement) => vec![AGREEMENT],
            _ => vec![self.algorithm()],
        }
    }

    /// The one algorithm of keys that are no pairs.
    fn algorithm(self) -> &'static str {
        match self {
            Self::Hmac224 => "HMAC_SHA_224",
            Self::Hmac256 => "HMAC_SHA_256",
            Self::Hmac384 => "HMAC_SHA_384",
            Self::Hmac512 => "HMAC_SHA_512",
            _ => "SYMMETRIC_DEFAULT",
        }
    }

    /// The digest of a key for MACs.
    pub(super) fn digest(self) -> Option<Sha2> {
        match self {
            Self::Hmac224 => Some(Sha2::Sha224),
            Self::Hmac256 => Some(Sha2::Sha256),
            Self::Hmac384 => Some(Sha2::Sha384),
            Self::Hmac512 => Some(Sha2::Sha512),
            _ => None,
        }
    }

    /// The kind of a key that is a pair.
    pub fn pair(self) -> Option<PairSpec> {
        match self {
            Self::Symmetric | Self::Hmac224 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => None,
            Self::Rsa2048 => Some(PairSpec::Rsa2048),
            Self::Rsa3072 => Some(PairSpec::Rsa3072),
            Self::Rsa4096 => Some(PairSpec::Rsa4096),
            Self::P256 => Some(PairSpec::P256),
            Self::P384 => Some(PairSpec::P384),
            Self::P521 => Some(PairSpec::P521),
            Self::Secp256k1 => Some(PairSpec::Secp256k1),
            Self::Ed25519 => Some(PairSpec::Ed25519),
        }
    }
}

/// The way in which two keys agree on a secret.
pub(super) const AGREEMENT: &str = "ECDH";

impl KeyUsage {
    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encryption => "ENCRYPT_DECRYPT",
            Self::Mac => "GENERATE_VERIFY_MAC",
            Self::Signing => "SIGN_VERIFY",
            Self::Agreement => "KEY_AGREEMENT",
        }
    }

    /// What AWS calls the list of the algorithms of such keys.
    pub fn algorithms_member(self) -> &'static str {
        match self {
            Self::Encryption => "EncryptionAlgorithms",
            Self::Mac => "MacAlgorithms",
            Self::Signing => "SigningAlgorithms",
            Self::Agreement => "KeyAgreementAlgorithms",
        }
    }
}

/// The way to sign that keys of `spec` have under this name.
pub(super) fn signing(spec: KeySpec, name: &str) -> Result<Signing, KmsError> {
    let all = spec.pair().map(PairSpec::signings).unwrap_or_default();
    let found = all.iter().find(|signing| signing.name() == name);
    found.copied().ok_or_else(|| refusal::incompatible_algorithm(name, spec))
}

/// Whether a key of this kind and origin is rotated in the way that `operation` is about.
pub(super) fn judge_rotation(
    operation: Operation,
    spec: KeySpec,
    origin: Origin,
    key: &KeyArn,
) -> Result<(), KmsError> {
    use Operation as Op;
    let by_calendar = matches!(operation, Op::EnableKeyRotation | Op::DisableKeyRotation | Op::GetKeyRotationStatus);
    let by_hand = matches!(operation, Op::RotateKeyOnDemand | Op::ListKeyRotations);
    match (spec, origin) {
        (KeySpec::Symmetric, Origin::External) if by_calendar => Err(refusal::wrong_origin(key, origin.name())),
        (KeySpec::Symmetric, _) => Ok(()),
        _ if by_calendar || by_hand => Err(refusal::not_rotated()),
        _ => Ok(()),
    }
}

/// Whether keys of `spec` that are for `usage` are for `operation`.
pub(super) fn judge_usage(
    operation: Operation,
    (spec, usage): (KeySpec, KeyUsage),
    key: &KeyArn,
) -> Result<(), KmsError> {
    use Operation as Op;
    if operation == Op::GetPublicKey {
        return if spec.pair().is_some() { Ok(()) } else { Err(refusal::no_public_key()) };
    }
    if !operation.is_cryptographic() {
        return Ok(());
    }
    let needed = match operation {
        Op::GenerateMac | Op::VerifyMac => KeyUsage::Mac,
        Op::Sign | Op::Verify => KeyUsage::Signing,
        Op::DeriveSharedSecret => KeyUsage::Agreement,
        _ => KeyUsage::Encryption,
    };
    if needed == usage { Ok(()) } else { Err(refusal::wrong_usage(key, usage, operation.name())) }
}
