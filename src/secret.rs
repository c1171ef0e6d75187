//! Secret memory: bytes that are keys, or from which keys follow.
//!
//! A [`Secret`] has one owner and lives in the one arena of locked memory (`sys::locked`): never swapped, not in a core
//! dump, not inherited by a fork, wiped on drop. It is never Clone, Debug, Serialize or `==`. Code that needs the bytes calls
//! [`Secret::expose`] and keeps the borrow short.

use crate::sys::locked::{LockedMemory, LockingFailed};

/// `N` secret bytes in locked memory, wiped on drop.
pub struct Secret<const N: usize>(LockedMemory);

impl<const N: usize> Secret<N> {
    /// `N` zero bytes, to be filled in place.
    ///
    /// # Errors
    /// Where no memory can be locked (RLIMIT_MEMLOCK): a key is never held in memory that may be swapped.
    pub fn zeroed() -> Result<Self, LockingFailed> {
        LockedMemory::zeroed(N).map(Self)
    }

    /// Filled by `fill`, which gets zero bytes.
    ///
    /// # Errors
    /// As [`Secret::zeroed`].
    pub fn filled_by(fill: impl FnOnce(&mut [u8; N])) -> Result<Self, LockingFailed> {
        let mut secret = Self::zeroed()?;
        fill(secret.expose_mut());
        Ok(secret)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; N] {
        self.0.bytes().try_into().expect("the memory was made N bytes long")
    }

    /// The bytes, to be changed in place.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        self.0.bytes_mut().try_into().expect("the memory was made N bytes long")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_starts_as_zeros_and_keeps_what_is_filled_in() {
        assert_eq!(Secret::<33>::zeroed().expect("locks").expose(), &[0; 33]);
        let mut secret = Secret::<4>::filled_by(|bytes| bytes.fill(7)).expect("locks");
        secret.expose_mut()[3] = 9;
        assert_eq!(secret.expose(), &[7, 7, 7, 9]);
    }
}
