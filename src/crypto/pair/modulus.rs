//! RSA.

use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use rsa::{PrivateKey, PublicKey};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::{Oaep, Pair, PairError, Signing, locked};
use crate::crypto::digest::Sha2;
use crate::crypto::random::System;
use crate::sys::locked::LockedMemory;

pub(super) fn generate(bits: u16) -> Result<Pair, PairError> {
    let key = PrivateKey::new(&mut System, usize::from(bits)).map_err(|_| PairError::Key)?;
    let private = locked(key.to_pkcs8_der().map_err(|_| PairError::Key)?.as_bytes())?;
    let public = key.to_public_key().to_public_key_der().map_err(|_| PairError::Key)?;
    Ok(Pair { private, public: public.into_vec() })
}

pub(super) fn sign(der: &[u8], signing: Signing, digest: &[u8]) -> Result<Vec<u8>, PairError> {
    let key = PrivateKey::from_pkcs8_der(der).map_err(|_| PairError::Key)?;
    let signature = match signing {
        Signing::Pkcs1(Sha2::Sha256) => key.pkcs1v15_sign_prehash_with_rng::<Sha256, _>(&mut System, digest),
        Signing::Pkcs1(Sha2::Sha384) => key.pkcs1v15_sign_prehash_with_rng::<Sha384, _>(&mut System, digest),
        Signing::Pkcs1(Sha2::Sha512) => key.pkcs1v15_sign_prehash_with_rng::<Sha512, _>(&mut System, digest),
        Signing::Pss(Sha2::Sha256) => key.pss_sign_prehash_with_rng::<Sha256, _>(&mut System, digest),
        Signing::Pss(Sha2::Sha384) => key.pss_sign_prehash_with_rng::<Sha384, _>(&mut System, digest),
        Signing::Pss(Sha2::Sha512) => key.pss_sign_prehash_with_rng::<Sha512, _>(&mut System, digest),
        _ => return Err(PairError::Algorithm),
    };
    signature.map_err(|_| PairError::Input)
}

pub(super) fn verify(der: &[u8], signing: Signing, digest: &[u8], signature: &[u8]) -> Result<bool, PairError> {
    let key = PublicKey::from_public_key_der(der).map_err(|_| PairError::Key)?;
    let verified = match signing {
        Signing::Pkcs1(Sha2::Sha256) => key.pkcs1v15_verify_prehash::<Sha256>(digest, signature),
        Signing::Pkcs1(Sha2::Sha384) => key.pkcs1v15_verify_prehash::<Sha384>(digest, signature),
        Signing::Pkcs1(Sha2::Sha512) => key.pkcs1v15_verify_prehash::<Sha512>(digest, signature),
        Signing::Pss(Sha2::Sha256) => key.pss_verify_prehash::<Sha256>(digest, signature),
        Signing::Pss(Sha2::Sha384) => key.pss_verify_prehash::<Sha384>(digest, signature),
        Signing::Pss(Sha2::Sha512) => key.pss_verify_prehash::<Sha512>(digest, signature),
        _ => return Err(PairError::Algorithm),
    };
    Ok(verified.is_ok())
}

pub(super) fn encrypt(der: &[u8], oaep: Oaep, plaintext: &[u8]) -> Result<Vec<u8>, PairError> {
    let key = PublicKey::from_public_key_der(der).map_err(|_| PairError::Key)?;
    let encrypted = match oaep {
        Oaep::Sha1 => key.oaep_encrypt_with_rng::<Sha1, _>(&mut System, plaintext),
        Oaep::Sha256 => key.oaep_encrypt_with_rng::<Sha256, _>(&mut System, plaintext),
    };
    encrypted.map_err(|_| PairError::Input)
}

pub(super) fn decrypt(der: &[u8], oaep: Oaep, ciphertext: &[u8]) -> Result<LockedMemory, PairError> {
    let key = PrivateKey::from_pkcs8_der(der).map_err(|_| PairError::Key)?;
    let opened = match oaep {
        Oaep::Sha1 => key.oaep_decrypt_with_rng::<Sha1, _>(&mut System, ciphertext),
        Oaep::Sha256 => key.oaep_decrypt_with_rng::<Sha256, _>(&mut System, ciphertext),
    };
    let opened = Zeroizing::new(opened.map_err(|_| PairError::Input)?);
    if opened.is_empty() { Err(PairError::Input) } else { locked(&opened) }
}
