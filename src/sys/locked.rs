//! Locked memory: bytes of the arena that are never swapped, dumped or inherited, wiped before they are given back. The
//! vector registers of the thread are wiped with them: bytes are copied through these, and whoever gives a secret back is
//! done with it.

use nix::errno::Errno;
use zeroize::Zeroize;

use super::arena::{self, Slot};
use super::chunk::Chunk;
pub use super::chunk::{KeyMemory, KeyMemoryChoice};
use super::registers;
use super::wipes::{self, Wipe};

/// The memory could not be locked, so no secret was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot lock memory for keys ({0}); raise the limit on locked memory (RLIMIT_MEMLOCK, LimitMEMLOCK=)")]
pub struct LockingFailed(pub Errno);

/// Zeroed bytes, aligned to 64; wiped on drop.
pub struct LockedMemory(Slot);

/// Makes `choice` the memory that the secrets of this process lie in; to be called before there is one. Answers what is
/// to be had of it.
///
/// # Errors
/// Nothing of it is.
pub fn choose(choice: KeyMemoryChoice) -> Result<KeyMemory, LockingFailed> {
    choose_for(1, choice)
}

/// As [`choose`]; `bytes` of it are there from now on.
///
/// # Errors
/// As [`choose`].
pub(crate) fn choose_for(bytes: usize, choice: KeyMemoryChoice) -> Result<KeyMemory, LockingFailed> {
    arena::choose(bytes, choice).map_err(LockingFailed)
}

/// What the secrets of this process lie in, the worst of it; `None` where it had none yet.
pub fn kind() -> Option<KeyMemory> {
    arena::kind()
}

/// Whether this process could have memory of that kind now; it is given back at once, and decides nothing.
///
/// # Errors
/// What the kernel said.
pub(crate) fn probe(kind: KeyMemory) -> Result<(), Errno> {
    Chunk::map(1, kind).map(drop)
}

impl LockedMemory {
    /// `length` zero bytes (one at the least).
    ///
    /// # Errors
    /// Where mapping or locking fails; nothing is left behind.
    pub fn zeroed(length: usize) -> Result<Self, LockingFailed> {
        Slot::take(length).map(Self).map_err(LockingFailed)
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
        if wipes::takes_place(Wipe::Memory) {
            self.bytes_mut().zeroize();
            registers::wipe();
        }
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

    #[test]
    fn what_lies_in_memory_is_told() {
        let _memory = LockedMemory::zeroed(1).expect("locks");
        assert!(kind().is_some_and(|kind| kind <= KeyMemory::Mlock));
    }
}
