//! A key from a passphrase: Argon2id (RFC 9106), with a salt and costs that are kept in clear beside what the key opens.
//!
//! ```text
//! argon2id 19 m=65536 t=3 p=4 HEX          version of Argon2, KiB of memory, passes, lanes, 16 bytes of salt
//! ```
//! New ones have the costs that RFC 9106 recommends where 2 GiB are too much (section 4, second choice). The memory that
//! the passphrase is mixed into is locked and wiped, as keys are.

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Block, Params, Version};

use super::{random, stack};
use crate::secret::Secret;
use crate::sys::locked::{LockedMemory, LockingFailed};

/// The costs of new ones.
const COSTS: (u32, u32, u32) = (64 << 10, 3, 4);
/// Memory that the stretching of a new one takes, locked while it lasts.
pub const MEMORY_BYTES: u64 = COSTS.0 as u64 * 1024;
/// Memory that a file may ask for, in KiB: what RFC 9106 recommends at the most.
const MEMORY_KIB_MAX: u32 = 2 << 20;
/// Passes that a file may ask for.
const PASSES_MAX: u32 = 1000;
/// The only version of Argon2 that is used, 1.3, as it is numbered.
const VERSION: &str = "19";

/// How a passphrase is stretched into a key; no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretching {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; 16],
}

/// Text that says no such thing, or asks for more than is sensible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this does not say how a passphrase is stretched")]
pub struct NotStretching;

impl Stretching {
    /// With a new salt and the costs of today.
    pub fn new() -> Self {
        let (memory_kib, passes, lanes) = COSTS;
        let mut salt = [0; 16];
        random::fill(&mut salt);
        Self { memory_kib, passes, lanes, salt }
    }

    /// The key of `passphrase`.
    ///
    /// # Errors
    /// Where the memory for it cannot be locked.
    pub fn key_of(&self, passphrase: &[u8]) -> Result<Secret<32>, LockingFailed> {
        let mut key = Secret::zeroed()?;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).expect("judged when it was read");
        stretch(params, passphrase, &self.salt, key.expose_mut())?;
        Ok(key)
    }
}

impl Default for Stretching {
    fn default() -> Self {
        Self::new()
    }
}

fn stretch(params: Params, passphrase: &[u8], salt: &[u8], key: &mut [u8; 32]) -> Result<(), LockingFailed> {
    let mut memory = LockedMemory::zeroed(params.block_count() * Block::SIZE)?;
    // SAFETY: a block is 128 numbers, and any bytes are numbers; `align_to_mut` sees to the alignment.
    let (before, blocks, after) = unsafe { memory.bytes_mut().align_to_mut::<Block>() };
    assert!(before.is_empty() && after.is_empty(), "locked memory starts at a page");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    stack::wiped_after(|| argon2.hash_password_into_with_memory(passphrase, salt, key, blocks))
        .expect("a salt of 8 bytes at the least, memory as was asked for, and a passphrase shorter than 4 GiB");
    Ok(())
}

impl fmt::Display for Stretching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "argon2id {VERSION} m={} t={} p={} ", self.memory_kib, self.passes, self.lanes)?;
        self.salt.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Stretching {
    type Err = NotStretching;

    fn from_str(text: &str) -> Result<Self, NotStretching> {
        let words: Vec<&str> = text.split(' ').collect();
        let ["argon2id", VERSION, memory, passes, lanes, salt] = words[..] else { return Err(NotStretching) };
        let number = |word: &str, name| word.strip_prefix(name)?.parse().ok();
        let costs = (number(memory, "m="), number(passes, "t="), number(lanes, "p="));
        let (Some(memory_kib), Some(passes), Some(lanes)) = costs else { return Err(NotStretching) };
        let salt = salt_in(salt).ok_or(NotStretching)?;
        let sensible = memory_kib <= MEMORY_KIB_MAX && passes <= PASSES_MAX;
        if !sensible || Params::new(memory_kib, passes, lanes, Some(32)).is_err() {
            return Err(NotStretching);
        }
        Ok(Self { memory_kib, passes, lanes, salt })
    }
}

fn salt_in(digits: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(digits, 16).ok()?;
    (digits.len() == 32 && !digits.starts_with('+')).then(|| number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex::hex;

    /// Of the tests of Argon2's reference implementation.
    #[test]
    fn a_known_passphrase_gives_the_known_key() {
        let mut key = [0; 32];
        let params = Params::new(1 << 16, 2, 1, Some(32)).expect("plain");
        stretch(params, b"password", b"somesalt", &mut key).expect("locks");
        assert_eq!(key.to_vec(), hex("09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"));
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_written() {
        let stretching = Stretching::new();
        assert_eq!(stretching.to_string().parse(), Ok(stretching));
        assert_ne!(Stretching::new(), stretching, "each has a salt of its own");
        let salt = "00112233445566778899aabbccddeeff";
        for text in [
            String::new(),
            format!("argon2i 19 m=65536 t=3 p=4 {salt}"),
            format!("argon2id 16 m=65536 t=3 p=4 {salt}"),
            format!("argon2id 19 m=4294967295 t=3 p=4 {salt}"),
            format!("argon2id 19 m=65536 t=0 p=4 {salt}"),
            format!("argon2id 19 m=65536 t=3 p=4 {}", &salt[1..]),
            format!("argon2id 19 m=65536 t=3 p=4 +{}", &salt[1..]),
        ] {
            assert_eq!(text.parse::<Stretching>(), Err(NotStretching), "{text}");
        }
    }
}
