//! Digests and MACs: SHA-256, HMAC-SHA-256 and -512, and comparison in constant time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::stack;

/// SHA-256 over the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// HMAC-SHA-512 over the concatenation of `parts`. Check one with [`equal`], never with `==`.
pub fn hmac_sha512(key: &[u8], parts: &[&[u8]]) -> [u8; 64] {
    stack::wiped_after(|| {
        let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("an HMAC key may have any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    })
}

/// HMAC-SHA-256 over the concatenation of `parts`. Check one with [`equal`], never with `==`.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    stack::wiped_after(|| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC key may have any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    })
}

/// Whether two byte strings are equal, in time that depends on their lengths only.
pub fn equal(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex::hex;

    /// FIPS 180-4, the example "abc"; the parts are joined without a trace.
    #[test]
    fn sha256_of_abc_is_the_published_one() {
        let expected = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sha256(&[b"abc"]).to_vec(), expected);
        assert_eq!(sha256(&[b"a", b"", b"bc"]).to_vec(), expected);
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_sha256_is_the_published_one() {
        let expected = hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]).to_vec(), expected);
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_sha512_with_a_short_key_is_the_published_one() {
        let expected = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                        9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
        assert_eq!(hmac_sha512(b"Jefe", &[b"what do ya want ", b"for nothing?"]).to_vec(), hex(expected));
    }

    /// RFC 4231, test case 6: a key longer than a block is hashed first.
    #[test]
    fn hmac_sha512_with_a_long_key_is_the_published_one() {
        let expected = "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
                        6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598";
        let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hmac_sha512(&[0xaa; 131], &[text]).to_vec(), hex(expected));
    }

    #[test]
    fn equality_is_of_content_and_length() {
        assert!(equal(b"", b""));
        assert!(equal(b"same", b"same"));
        assert!(!equal(b"same", b"sama"));
        assert!(!equal(b"same", b"same "));
    }
}
