//! Random bytes from the operating system.

use std::convert::Infallible;

use rsa::rand_core::{TryCryptoRng, TryRng};

/// Fills `out`.
///
/// # Panics
/// Where the system has no randomness to give, without which nothing here may go on.
pub fn fill(out: &mut [u8]) {
    getrandom::fill(out).expect("the operating system gives randomness");
}

/// The system's randomness, as the crypto crates ask for it.
pub(super) struct System;

impl TryRng for System {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        fill(out);
        Ok(())
    }
}

impl TryCryptoRng for System {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fills_differ() {
        let (mut one, mut other) = ([0; 32], [0; 32]);
        fill(&mut one);
        fill(&mut other);
        assert_ne!(one, other);
        assert_ne!(one, [0; 32]);
    }
}
