//! Key derivation: HKDF-Expand (RFC 5869, SHA-512) for volumes, SP 800-108 counter mode (HMAC-SHA-256) for the HSM, a chain
//! of HMACs (SHA-256) for the signatures of requests.
//!
//! All are short loops over an HMAC, written here so that the blocks that pass through the stack are wiped. None
//! extracts: the keys that come in are uniform already.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};
use zeroize::{Zeroize, Zeroizing};

use super::stack;
use crate::secret::Secret;

/// Bytes of one block of HKDF output with SHA-512.
const HKDF_BLOCK: usize = 64;

/// HKDF-Expand with SHA-512 from a uniform key, filling `out` (at most 255 * 64 bytes).
///
/// # Panics
/// Where `out` is longer than that.
pub fn hkdf_expand(key: &[u8; 64], label: &[u8], out: &mut [u8]) {
    assert!(out.len() <= 255 * HKDF_BLOCK, "RFC 5869 bounds the output to 255 blocks");
    stack::wiped_after(|| expand(key, label, out));
}

fn expand(key: &[u8; 64], label: &[u8], out: &mut [u8]) {
    let keyed = Hmac::<Sha512>::new_from_slice(key).expect("an HMAC key may have any length");
    let mut previous = Zeroizing::new([0; HKDF_BLOCK]);
    for (number, wanted) in (1..=255u8).zip(out.chunks_mut(HKDF_BLOCK)) {
        let mut mac = keyed.clone();
        if number > 1 {
            mac.update(&*previous);
        }
        mac.update(label);
        mac.update(&[number]);
        let mut block = mac.finalize().into_bytes();
        wanted.copy_from_slice(&block[..wanted.len()]);
        previous.copy_from_slice(&block);
        block.zeroize();
    }
}

/// SP 800-108r1 KDF in counter mode, HMAC-SHA-256, 32-bit counter before the fixed data (label, 0x00, context, length in bits).
pub fn sp800_108(key: &Secret<32>, label: &[u8], context: &[u8], out: &mut Secret<32>) {
    stack::wiped_after(|| one_block(key.expose(), label, context, out.expose_mut()));
}

fn one_block(key: &[u8; 32], label: &[u8], context: &[u8], out: &mut [u8; 32]) {
    const COUNTER: [u8; 4] = 1u32.to_be_bytes();
    const LENGTH_IN_BITS: [u8; 4] = 256u32.to_be_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC key may have any length");
    for part in [&COUNTER, label, &[0], context, &LENGTH_IN_BITS] {
        mac.update(part);
    }
    let mut block = mac.finalize().into_bytes();
    out.copy_from_slice(&block);
    block.zeroize();
}

/// HMAC-SHA-256 of each of `parts` under that of the one before it, of the first under `key`: how Signature Version 4 makes a
/// signing key.
pub fn hmac_chain<const N: usize>(key: &[u8], parts: [&[u8]; N], out: &mut Secret<32>) {
    const { assert!(N > 0, "a chain has a first link") };
    stack::wiped_after(|| links(key, parts, out.expose_mut()));
}

fn links<const N: usize>(key: &[u8], parts: [&[u8]; N], out: &mut [u8; 32]) {
    for (number, part) in parts.into_iter().enumerate() {
        let under = if number == 0 { key } else { &out[..] };
        let mut mac = Hmac::<Sha256>::new_from_slice(under).expect("an HMAC key may have any length");
        mac.update(part);
        let mut block = mac.finalize().into_bytes();
        out.copy_from_slice(&block);
        block.zeroize();
    }
}

/// Puts the HMAC-SHA-256 of `label` under `key` in the key's own place: what it was does not follow from what it is.
pub fn ratchet(key: &mut Secret<32>, label: &[u8]) {
    stack::wiped_after(|| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("an HMAC key may have any length");
        mac.update(label);
        let mut block = mac.finalize().into_bytes();
        key.expose_mut().copy_from_slice(&block);
        block.zeroize();
    });
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;

    use super::*;
    use crate::crypto::hex::hex;

    /// `openssl kdf -keylen 200 -kdfopt digest:SHA512 -kdfopt mode:EXPAND_ONLY -kdfopt hexkey:000102..3f
    /// -kdfopt info:"envol test label" HKDF`, OpenSSL 3.0.19.
    const EXPANDED: &str = "7f431a2cff20df26c3b5e06986e82dfa3c7ceb704e8f7ebbb164dadfb26118805369bc1ebaded8ff\
                            3fb13467c4d1e3b2b9b201202f77d8a71cb2144a53a91dceeefb8a5867a7d052dc034e0617829300\
                            d8a7357b75f458a776fffea0e3552d3c4a50b04fcf9a42758ad07fe21f90fdc7dac3481f3e6efc60\
                            a3761e535dfd57905e8e3d0d82d734ae7ddb181985e13d1043ddb39de0219b607cdd3efb5434c57d\
                            b435fb5426c59b80c1a960c828e8da948aab70a32f28b9a23f3a98b8125bdf50d3c49d472292deee";

    #[test]
    fn hkdf_expands_to_what_openssl_expands() {
        let key = from_fn(|i| u8::try_from(i).expect("below 64"));
        let expected = hex(EXPANDED);
        for length in [0, 1, 63, 64, 65, 128, 129, 200] {
            let mut out = vec![0xff; length];
            hkdf_expand(&key, b"envol test label", &mut out);
            assert_eq!(out, expected[..length], "{length} bytes");
        }
    }

    #[test]
    fn hkdf_reaches_its_last_block_and_not_past_it() {
        let mut most = vec![0; 255 * 64];
        hkdf_expand(&[7; 64], b"", &mut most);
        assert_ne!(most[254 * 64..], [0; 64]);
        let past = std::panic::catch_unwind(|| hkdf_expand(&[7; 64], b"", &mut vec![0; 255 * 64 + 1]));
        assert!(past.is_err());
    }

    /// `openssl kdf -keylen 32 -kdfopt mac:HMAC -kdfopt digest:SHA256 -kdfopt mode:COUNTER -kdfopt hexkey:000102..1f
    /// -kdfopt salt:"envol label" -kdfopt info:"a context" KBKDF`, OpenSSL 3.0.19.
    #[test]
    fn the_counter_mode_derives_what_openssl_derives() {
        let key = Secret::filled_by(|bytes| *bytes = from_fn(|i| u8::try_from(i).expect("below 32"))).expect("locks");
        let mut out = Secret::zeroed().expect("locks");
        sp800_108(&key, b"envol label", b"a context", &mut out);
        let expected = hex("7132cc40533739052ce7f2815c3022658de6ea62adde0c1c50d52c331d61aaea");
        assert_eq!(out.expose().to_vec(), expected);
    }

    /// The example of a signing key in AWS's description of Signature Version 4.
    #[test]
    fn the_chain_makes_the_published_signing_key() {
        let mut out = Secret::zeroed().expect("locks");
        let parts = [b"20120215".as_slice(), b"us-east-1", b"iam", b"aws4_request"];
        hmac_chain(b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", parts, &mut out);
        let expected = hex("f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
        assert_eq!(out.expose().to_vec(), expected);
    }
}
