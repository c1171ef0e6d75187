//! The NIST curves and secp256k1. Each library has the same shape, so each function is written once, as a macro.

use k256::elliptic_curve::Generate;
use k256::elliptic_curve::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use p256::ecdsa::signature::hazmat::{PrehashVerifier, RandomizedPrehashSigner};

use super::{Pair, PairError, PairSpec, Private, Public, locked};
use crate::crypto::random::System;
use crate::sys::locked::LockedMemory;

pub(super) fn generate(spec: PairSpec) -> Result<Pair, PairError> {
    macro_rules! generate {
        ($curve:ident) => {{
            let Ok(key) = $curve::SecretKey::try_generate_from_rng(&mut System);
            let private = locked(key.to_pkcs8_der().map_err(|_| PairError::Key)?.as_bytes())?;
            let public = key.public_key().to_public_key_der().map_err(|_| PairError::Key)?;
            Ok(Pair { private, public: public.into_vec() })
        }};
    }
    match spec {
        PairSpec::P256 => generate!(p256),
        PairSpec::P384 => generate!(p384),
        PairSpec::P521 => generate!(p521),
        PairSpec::Secp256k1 => generate!(k256),
        _ => Err(PairError::Algorithm),
    }
}

pub(super) fn sign(key: Private<'_>, digest: &[u8]) -> Result<Vec<u8>, PairError> {
    macro_rules! sign {
        ($curve:ident) => {{
            let key = $curve::SecretKey::from_pkcs8_der(key.der).map_err(|_| PairError::Key)?;
            let signed = $curve::ecdsa::SigningKey::from(&key).sign_prehash_with_rng(&mut System, digest);
            let signature: $curve::ecdsa::DerSignature = signed.map_err(|_| PairError::Input)?;
            Ok(signature.as_bytes().to_vec())
        }};
    }
    match key.spec {
        PairSpec::P256 => sign!(p256),
        PairSpec::P384 => sign!(p384),
        PairSpec::P521 => sign!(p521),
        PairSpec::Secp256k1 => sign!(k256),
        _ => Err(PairError::Algorithm),
    }
}

pub(super) fn verify(key: Public<'_>, digest: &[u8], signature: &[u8]) -> Result<bool, PairError> {
    macro_rules! verify {
        ($curve:ident) => {{
            let key = $curve::PublicKey::from_public_key_der(key.der).map_err(|_| PairError::Key)?;
            let Ok(signature) = $curve::ecdsa::Signature::from_der(signature) else { return Ok(false) };
            // Both forms of a signature are one; k256 by itself takes only that with the lesser s.
            let signature = signature.normalize_s();
            Ok($curve::ecdsa::VerifyingKey::from(&key).verify_prehash(digest, &signature).is_ok())
        }};
    }
    match key.spec {
        PairSpec::P256 => verify!(p256),
        PairSpec::P384 => verify!(p384),
        PairSpec::P521 => verify!(p521),
        PairSpec::Secp256k1 => verify!(k256),
        _ => Err(PairError::Algorithm),
    }
}

pub(super) fn agree(key: Private<'_>, other: &[u8]) -> Result<LockedMemory, PairError> {
    macro_rules! agree {
        ($curve:ident) => {{
            let key = $curve::SecretKey::from_pkcs8_der(key.der).map_err(|_| PairError::Key)?;
            let other = $curve::PublicKey::from_public_key_der(other).map_err(|_| PairError::Peer)?;
            locked(key.diffie_hellman(&other).raw_secret_bytes())
        }};
    }
    match key.spec {
        PairSpec::P256 => agree!(p256),
        PairSpec::P384 => agree!(p384),
        PairSpec::P521 => agree!(p521),
        _ => Err(PairError::Algorithm),
    }
}
