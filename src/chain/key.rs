//! The key that makes one MAC and is then replaced.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::{hex, unhex};
use crate::crypto::{derive, digest, random};
use crate::secret::Secret;
use crate::sys::locked::LockingFailed;

const MAC: &[u8] = b"envol audit 1 mac";
const NEXT: &[u8] = b"envol audit 1 next key";

/// What the text of a verify key begins with.
const PREFIX: &str = "envol-audit-verify-key-1:";

/// The key of the next record.
pub struct LinkKey(Secret<32>);

/// The key of the first record, from which all others follow.
pub struct VerifyKey(Secret<32>);

/// A text that is no verify key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a verify key: {PREFIX} and 64 hexadecimal digits")]
pub struct BadVerifyKey;

impl LinkKey {
    /// The key with these bytes.
    ///
    /// # Errors
    /// Where no memory can be locked.
    pub fn new(bytes: &[u8; 32]) -> Result<Self, LockingFailed> {
        Secret::filled_by(|key| key.copy_from_slice(bytes)).map(Self)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The MAC of a record with this hash.
    pub fn mac(&self, hash: &[u8; 32]) -> [u8; 32] {
        digest::hmac_sha256(self.0.expose(), &[MAC, hash])
    }

    /// Becomes its successor; what it was is gone.
    pub fn advance(&mut self) {
        derive::ratchet(&mut self.0, NEXT);
    }

    /// Becomes what `other` is.
    pub fn become_as(&mut self, other: &Self) {
        self.0.expose_mut().copy_from_slice(other.0.expose());
    }
}

impl VerifyKey {
    /// A new one.
    ///
    /// # Errors
    /// Where no memory can be locked.
    pub fn random() -> Result<Self, LockingFailed> {
        Secret::filled_by(|key| random::fill(key)).map(Self)
    }

    /// The one with these bytes.
    ///
    /// # Errors
    /// Where no memory can be locked.
    pub fn new(bytes: &[u8; 32]) -> Result<Self, LockingFailed> {
        Secret::filled_by(|key| key.copy_from_slice(bytes)).map(Self)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The key of the first record.
    ///
    /// # Errors
    /// Where no memory can be locked.
    pub fn first(&self) -> Result<LinkKey, LockingFailed> {
        LinkKey::new(self.0.expose())
    }

    /// As it is written to a file.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", *Zeroizing::new(hex(self.0.expose()))))
    }

    /// By this it can be told from others: the SHA-256 of its text, 64 hexadecimal digits, no secret.
    pub fn fingerprint(&self) -> String {
        hex(&digest::sha256_of_secret(self.text().as_bytes()))
    }
}

impl FromStr for VerifyKey {
    type Err = BadVerifyKey;

    fn from_str(text: &str) -> Result<Self, BadVerifyKey> {
        let digits = text.trim_ascii().strip_prefix(PREFIX).ok_or(BadVerifyKey)?;
        let bytes = Zeroizing::new(unhex(digits.as_bytes()).ok_or(BadVerifyKey)?);
        Self::new(&bytes).map_err(|_| BadVerifyKey)
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_is_the_hmac_of_its_label() {
        let mut key = LinkKey::new(&[7; 32]).expect("locks");
        key.advance();
        assert_eq!(key.expose(), &digest::hmac_sha256(&[7; 32], &[b"envol audit 1 next key"]));
        assert_ne!(key.mac(&[1; 32]), LinkKey::new(&[7; 32]).expect("locks").mac(&[1; 32]));
    }

    #[test]
    fn a_verify_key_is_read_as_it_was_written_and_told_by_its_fingerprint() {
        let key = VerifyKey::random().expect("locks");
        let text = key.text();
        let again: VerifyKey = format!("{}\n", *text).parse().expect("a key");
        assert_eq!((again.expose(), again.fingerprint()), (key.expose(), key.fingerprint()));
        assert_eq!(format!("{key:?}"), "VerifyKey", "it does not show itself");
        for bad in ["", &text[1..], &text[..text.len() - 1], &text.to_uppercase()] {
            assert_eq!(bad.parse::<VerifyKey>().map(|_| ()), Err(BadVerifyKey), "{bad:.10}");
        }
    }
}
