//! Ed25519 and Ed25519ph, the latter without a context.

use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::{Message, Pair, PairError, Signing, locked};
use crate::crypto::digest::Sha2;
use crate::crypto::random;

pub(super) fn generate() -> Result<Pair, PairError> {
    let mut seed = Zeroizing::new([0; 32]);
    random::fill(&mut *seed);
    let key = SigningKey::from_bytes(&seed);
    // Without the public key beside the private one: that form is RFC 8410's, which every program reads.
    let bytes = KeypairBytes { secret_key: *seed, public_key: None };
    let private = locked(bytes.to_pkcs8_der().map_err(|_| PairError::Key)?.as_bytes())?;
    let public = key.verifying_key().to_public_key_der().map_err(|_| PairError::Key)?;
    Ok(Pair { private, public: public.into_vec() })
}

pub(super) fn sign(der: &[u8], signing: Signing, message: Message<'_>) -> Result<Vec<u8>, PairError> {
    let key = SigningKey::from_pkcs8_der(der).map_err(|_| PairError::Key)?;
    let message = fitting(signing, message)?;
    let signature = match signing {
        Signing::Ed25519ph => key.sign_prehashed(Sha512::new_with_prefix(message), None),
        _ => key.try_sign(message),
    };
    Ok(signature.map_err(|_| PairError::Input)?.to_bytes().to_vec())
}

/// By the stricter of RFC 8032's two readings: keys and commitments of small order are refused.
pub(super) fn verify(der: &[u8], signing: Signing, message: Message<'_>, signature: &[u8]) -> Result<bool, PairError> {
    let key = VerifyingKey::from_public_key_der(der).map_err(|_| PairError::Key)?;
    let message = fitting(signing, message)?;
    let Ok(signature) = Signature::from_slice(signature) else { return Ok(false) };
    let verified = match signing {
        Signing::Ed25519ph => key.verify_prehashed_strict(Sha512::new_with_prefix(message), None, &signature),
        _ => key.verify_strict(message, &signature),
    };
    Ok(verified.is_ok())
}

/// Ed25519 takes a whole message; Ed25519ph takes here what AWS gives it: a digest, which it hashes again.
fn fitting(signing: Signing, message: Message<'_>) -> Result<&[u8], PairError> {
    match (signing, message) {
        (Signing::Ed25519, Message::Whole(message)) => Ok(message),
        (Signing::Ed25519ph, Message::Digest(digest)) if digest.len() == Sha2::Sha512.bytes() => Ok(digest),
        _ => Err(PairError::Input),
    }
}
