//! Locked memory: private pages that are never swapped, dumped or inherited, wiped before they are given back.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use zeroize::Zeroize;

/// The pages could not be locked, so no secret was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot lock memory for keys ({0}); raise the limit on locked memory (RLIMIT_MEMLOCK, LimitMEMLOCK=)")]
pub struct LockingFailed(pub Errno);

/// Zeroed, locked, page-aligned bytes; wiped and unmapped on drop.
pub struct LockedMemory {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone, and is reached only through its borrows.
unsafe impl Send for LockedMemory {}
// SAFETY: as above; a shared borrow only reads.
unsafe impl Sync for LockedMemory {}

impl LockedMemory {
    /// `length` zero bytes (one at the least).
    ///
    /// # Errors
    /// Where mapping or locking fails; nothing is left behind.
    pub fn zeroed(length: usize) -> Result<Self, LockingFailed> {
        let length = length.max(1);
        let size = NonZeroUsize::new(length).expect("at least one byte");
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS;
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe { mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) }
            .map_err(LockingFailed)?;
        let memory = Self { start: start.cast(), length };
        // SAFETY: the range is the mapping just made, and neither call changes what it holds.
        unsafe {
            mlock(start, length).map_err(LockingFailed)?;
            madvise(start, length, MmapAdvise::MADV_DONTDUMP).map_err(LockingFailed)?;
            madvise(start, length, MmapAdvise::MADV_WIPEONFORK).map_err(LockingFailed)?;
        }
        Ok(memory)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is `length` readable bytes and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The bytes, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes this the only borrow.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for LockedMemory {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        // SAFETY: the mapping was made by `zeroed`, no borrow of it is left; unmapping unlocks.
        let unmapped = unsafe { munmap(self.start.cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own unmaps");
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
