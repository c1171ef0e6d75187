//! Locked memory: private pages that are never swapped, dumped or inherited, wiped before they are given back.

use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MmapAdvise, madvise, mlock};
use zeroize::Zeroize;

use super::pages::Pages;

/// The pages could not be locked, so no secret was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot lock memory for keys ({0}); raise the limit on locked memory (RLIMIT_MEMLOCK, LimitMEMLOCK=)")]
pub struct LockingFailed(pub Errno);

/// Zeroed, locked, page-aligned bytes; wiped and unmapped on drop.
pub struct LockedMemory(Pages);

impl LockedMemory {
    /// `length` zero bytes (one at the least).
    ///
    /// # Errors
    /// Where mapping or locking fails; nothing is left behind.
    pub fn zeroed(length: usize) -> Result<Self, LockingFailed> {
        let mut memory = Self(Pages::map(length).map_err(LockingFailed)?);
        let bytes = memory.bytes_mut();
        let (start, length) = (NonNull::from(&mut *bytes).cast(), bytes.len());
        // SAFETY: the range is the mapping just made, and none of the calls changes what it holds.
        unsafe {
            mlock(start, length).map_err(LockingFailed)?;
            madvise(start, length, MmapAdvise::MADV_DONTDUMP).map_err(LockingFailed)?;
            madvise(start, length, MmapAdvise::MADV_WIPEONFORK).map_err(LockingFailed)?;
        }
        Ok(memory)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The bytes, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}

impl Drop for LockedMemory {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_starts_zeroed_and_keeps_what_is_written() {
        let mut memory = LockedMemory::zeroed(5000).expect("locks");
        assert!(memory.bytes().iter().all(|b| *b == 0));
        memory.bytes_mut().fill(7);
        assert_eq!(memory.bytes(), [7; 5000]);
    }
}
