//! The cryptography: sector encryption, key derivation, MACs, the AEAD and the key pairs of the embedded KMS. Pure, no I/O.
//!
//! The only place that names the crypto crates; everything above speaks of what it needs (a sector, a label, a MAC).
//! Keys stay in locked memory ([`crate::secret`]); everything that depends on them takes constant time.
#![allow(unsafe_code, reason = "the cipher's kernels use the processor's AES instructions")]

pub mod aead;
pub mod derive;
pub mod digest;
pub mod pair;
pub mod passphrase;
pub mod random;
mod stack;
pub mod wrapping;
pub mod xts;

#[cfg(test)]
pub(crate) mod hex {
    //! Hexadecimal, for the known answers in the tests of this folder.

    /// The bytes that `text` writes out.
    pub(crate) fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).expect("a hexadecimal digit")).collect();
        let (pairs, rest) = digits.as_chunks::<2>();
        assert!(rest.is_empty(), "two digits a byte");
        pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low).expect("eight bits")).collect()
    }
}
