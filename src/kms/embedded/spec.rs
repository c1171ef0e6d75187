//! What kinds of keys there are: `KeySpec` and `KeyUsage`, spelled as AWS does.

use serde::{Deserialize, Serialize};

use crate::crypto::digest::Sha2;
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
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUsage {
    /// `ENCRYPT_DECRYPT`
    Encryption,
    /// `GENERATE_VERIFY_MAC`
    Mac,
}

impl KeySpec {
    /// Every spec.
    pub const ALL: [Self; 5] = [Self::Symmetric, Self::Hmac224, Self::Hmac256, Self::Hmac384, Self::Hmac512];

    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Symmetric => "SYMMETRIC_DEFAULT",
            Self::Hmac224 => "HMAC_224",
            Self::Hmac256 => "HMAC_256",
            Self::Hmac384 => "HMAC_384",
            Self::Hmac512 => "HMAC_512",
        }
    }

    /// What keys of this spec are for.
    pub fn usage(self) -> KeyUsage {
        if self.digest().is_none() { KeyUsage::Encryption } else { KeyUsage::Mac }
    }

    /// The algorithm that keys of this spec have.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Symmetric => "SYMMETRIC_DEFAULT",
            Self::Hmac224 => "HMAC_SHA_224",
            Self::Hmac256 => "HMAC_SHA_256",
            Self::Hmac384 => "HMAC_SHA_384",
            Self::Hmac512 => "HMAC_SHA_512",
        }
    }

    /// The digest of a key for MACs.
    pub(super) fn digest(self) -> Option<Sha2> {
        match self {
            Self::Symmetric => None,
            Self::Hmac224 => Some(Sha2::Sha224),
            Self::Hmac256 => Some(Sha2::Sha256),
            Self::Hmac384 => Some(Sha2::Sha384),
            Self::Hmac512 => Some(Sha2::Sha512),
        }
    }
}

impl KeyUsage {
    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encryption => "ENCRYPT_DECRYPT",
            Self::Mac => "GENERATE_VERIFY_MAC",
        }
    }
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

/// Whether keys of `spec` are for `operation`.
pub(super) fn judge_usage(operation: Operation, spec: KeySpec, key: &KeyArn) -> Result<(), KmsError> {
    if !operation.is_cryptographic() {
        return Ok(());
    }
    let needed = match operation {
        Operation::GenerateMac | Operation::VerifyMac => KeyUsage::Mac,
        _ => KeyUsage::Encryption,
    };
    if needed == spec.usage() { Ok(()) } else { Err(refusal::wrong_usage(key, spec.usage(), operation.name())) }
}
