//! Digests and MACs: SHA-256, HMAC with the SHA-2 family, and comparison in constant time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
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

/// The same of a secret, of which nothing is left on the stack.
pub fn sha256_of_secret(secret: &[u8]) -> [u8; 32] {
    stack::wiped_after(|| sha256(&[secret]))
}

/// SHA-256 over what comes bit by bit.
#[derive(Clone, Default)]
pub struct RunningSha256(Sha256);

impl RunningSha256 {
    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
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

/// A digest of the SHA-2 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sha2 {
    /// SHA-224
    Sha224,
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
}

impl Sha2 {
    /// Bytes of the digest.
    pub fn bytes(self) -> usize {
        match self {
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Bytes of a block; a longer key of an HMAC is hashed first.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Sha224 | Self::Sha256 => 64,
            Self::Sha384 | Self::Sha512 => 128,
        }
    }

    /// The digest of `message`.
    pub fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha224 => Sha224::digest(message).to_vec(),
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }

    /// The HMAC of `message` with this digest. Check one with [`equal`], never with `==`.
    pub fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        macro_rules! hmac {
            ($digest:ty) => {{
                let mut mac = Hmac::<$digest>::new_from_slice(key).expect("an HMAC key may have any length");
                mac.update(message);
                mac.finalize().into_bytes().to_vec()
            }};
        }
        stack::wiped_after(|| match self {
            Self::Sha224 => hmac!(Sha224),
            Self::Sha256 => hmac!(Sha256),
            Self::Sha384 => hmac!(Sha384),
            Self::Sha512 => hmac!(Sha512),
        })
    }
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
        let mut running = RunningSha256::default();
        running.update(b"ab");
        let before = running.clone();
        running.update(b"c");
        assert_eq!(running.finish().to_vec(), expected);
        assert_eq!(before.finish(), sha256(&[b"ab"]));
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

    /// RFC 4231, test case 1, for each digest.
    #[test]
    fn every_hmac_is_the_published_one() {
        let published = [
            (Sha2::Sha224, "896fb1128abbdf196832107cd49df33f47b4b1169912ba4f53684b22"),
            (Sha2::Sha256, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                Sha2::Sha384,
                "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
            ),
            (
                Sha2::Sha512,
                "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4\
                 be9d914eeb61f1702e696c203a126854",
            ),
        ];
        for (digest, expected) in published {
            let mac = digest.hmac(&[0x0b; 20], b"Hi There");
            assert_eq!(mac, hex(expected), "{digest:?}");
            assert_eq!(mac.len(), digest.bytes());
        }
    }

    #[test]
    fn equality_is_of_content_and_length() {
        assert!(equal(b"", b""));
        assert!(equal(b"same", b"same"));
        assert!(!equal(b"same", b"sama"));
        assert!(!equal(b"same", b"same "));
    }
}
