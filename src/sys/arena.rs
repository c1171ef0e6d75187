//! The arena: where all secrets of a process lie, in chunks of one kind of memory.
//!
//! A slot is a run of granules, the first that is free; who gives it back has wiped it. A chunk that holds nothing any
//! more goes back to the kernel, the first one excepted, so that a process locks what its secrets need and no more.

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::chunk::{Chunk, KeyMemory, KeyMemoryChoice};

/// What slots are cut in: a cache line, which aligns them for every kind of key.
const GRANULE: usize = 64;

/// Under a lock of std's, whatever `crate::sync` is: a static outlives every schedule that shuttle makes.
static ARENA: Mutex<Arena> = Mutex::new(Arena::new());

fn arena() -> MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Arena {
    choice: KeyMemoryChoice,
    /// The kind that was had at first. Later chunks are of that kind, so that a limit is not met by a worse kind unseen.
    kind: Option<KeyMemory>,
    worst: Option<KeyMemory>,
    chunks: Vec<Shared>,
}

/// A chunk and which of its granules are taken.
struct Shared {
    chunk: Chunk,
    taken: Vec<bool>,
    free: usize,
}

/// Some bytes of a chunk.
pub(super) struct Slot {
    start: NonNull<u8>,
    length: usize,
}

/// Makes `choice` what secrets lie in, and sees that it can be had; the first chunk holds `bytes`. Does nothing where there
/// are secrets already.
///
/// # Errors
/// It cannot be had.
pub(super) fn choose(bytes: usize, choice: KeyMemoryChoice) -> Result<KeyMemory, Errno> {
    {
        let mut arena = arena();
        if arena.kind.is_none() {
            arena.choice = choice;
        }
    }
    drop(Slot::take(bytes)?);
    Ok(kind().expect("there is a chunk"))
}

/// The worst kind that a secret of this process lay in; `None` where there was none.
pub(super) fn kind() -> Option<KeyMemory> {
    arena().worst
}

impl Arena {
    const fn new() -> Self {
        Self { choice: KeyMemoryChoice::Auto, kind: None, worst: None, chunks: Vec::new() }
    }

    fn take(&mut self, length: usize) -> Result<NonNull<u8>, Errno> {
        let granules = granules(length);
        if let Some(found) = self.chunks.iter_mut().find_map(|shared| shared.take(granules)) {
            return Ok(found);
        }
        let chunk = self.map(length)?;
        self.worst = self.worst.max(Some(chunk.kind()));
        let count = chunk.length() / GRANULE;
        let mut shared = Shared { chunk, taken: vec![false; count], free: count };
        let found = shared.take(granules).expect("an empty chunk has room for what it was made for");
        self.chunks.push(shared);
        Ok(found)
    }

    fn map(&mut self, length: usize) -> Result<Chunk, Errno> {
        let kinds = match (&self.kind, self.choice) {
            (Some(kind), choice) if choice != KeyMemoryChoice::InsecureUnlocked => std::slice::from_ref(kind),
            (_, choice) => choice.kinds(),
        };
        let mut failed = Errno::ENOMEM;
        for kind in kinds {
            match Chunk::map(length, *kind) {
                Ok(chunk) => {
                    self.kind = Some(*kind);
                    return Ok(chunk);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn give_back(&mut self, start: NonNull<u8>, length: usize) {
        let index = self.chunks.iter().position(|shared| shared.holds(start)).expect("a slot is of some chunk");
        let shared = &mut self.chunks[index];
        shared.give_back(start, granules(length));
        if index > 0 && shared.free == shared.taken.len() {
            self.chunks.remove(index);
        }
    }
}

impl Shared {
    fn take(&mut self, granules: usize) -> Option<NonNull<u8>> {
        if self.free < granules {
            return None;
        }
        let first = self.taken.windows(granules).position(|window| window.iter().all(|taken| !taken))?;
        self.mark(first, granules, true);
        self.free -= granules;
        // SAFETY: the run lies within the chunk.
        Some(unsafe { self.chunk.start().add(first * GRANULE) })
    }

    fn give_back(&mut self, start: NonNull<u8>, granules: usize) {
        let first = (start.addr().get() - self.chunk.start().addr().get()) / GRANULE;
        self.mark(first, granules, false);
        self.free += granules;
    }

    fn mark(&mut self, first: usize, granules: usize, taken: bool) {
        self.taken[first..first + granules].fill(taken);
    }

    fn holds(&self, place: NonNull<u8>) -> bool {
        let start = self.chunk.start().addr().get();
        (start..start + self.chunk.length()).contains(&place.addr().get())
    }
}

fn granules(length: usize) -> usize {
    length.div_ceil(GRANULE)
}

// SAFETY: a slot's bytes are its own, and are reached only through its borrows.
unsafe impl Send for Slot {}
// SAFETY: as above; a shared borrow only reads.
unsafe impl Sync for Slot {}

impl Slot {
    /// `length` zero bytes (one at the least).
    ///
    /// # Errors
    /// There is no such memory.
    pub(super) fn take(length: usize) -> Result<Self, Errno> {
        let length = length.max(1);
        let start = arena().take(length)?;
        let mut slot = Self { start, length };
        slot.bytes_mut().fill(0);
        Ok(slot)
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the bytes are this slot's until it is dropped, and were zeroed when it was taken.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The bytes, to be changed in place.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes this the only borrow.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        arena().give_back(self.start, self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::UNIT;
    use super::*;

    fn arena_of(choice: KeyMemoryChoice) -> Arena {
        Arena { choice, ..Arena::new() }
    }

    #[test]
    fn slots_do_not_overlap_and_are_used_again() {
        let mut arena = arena_of(KeyMemoryChoice::Mlock);
        let lengths = [1, 64, 65, 720, 1];
        let taken: Vec<_> = lengths.iter().map(|length| arena.take(*length).expect("locks")).collect();
        let mut ends: Vec<_> = taken.iter().zip(lengths).map(|(start, length)| (start.addr().get(), length)).collect();
        ends.sort_unstable();
        assert!(ends.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0), "{ends:?}");
        assert!(ends.iter().all(|(start, _)| start.is_multiple_of(GRANULE)));
        arena.give_back(taken[1], 64);
        assert_eq!(arena.take(60).expect("locks"), taken[1], "the first that is free");
        assert_eq!(arena.chunks.len(), 1);
    }

    #[test]
    fn what_holds_nothing_goes_back_but_for_the_first() {
        let mut arena = arena_of(KeyMemoryChoice::Mlock);
        let small: Vec<_> = (0..2 * UNIT / 640).map(|_| arena.take(640).expect("locks")).collect();
        let large = arena.take(3 * UNIT + 1).expect("locks");
        assert_eq!(arena.chunks.len(), 3, "two of small ones, and one of its own");
        arena.give_back(large, 3 * UNIT + 1);
        assert_eq!(arena.chunks.len(), 2);
        small.into_iter().for_each(|start| arena.give_back(start, 640));
        assert_eq!(arena.chunks.len(), 1);
    }

    #[test]
    fn a_kind_once_had_stays_and_the_worst_is_told() {
        let mut arena = arena_of(KeyMemoryChoice::Auto);
        arena.kind = Some(KeyMemory::Mlock);
        arena.take(1).expect("locks");
        assert_eq!((arena.chunks[0].chunk.kind(), arena.worst), (KeyMemory::Mlock, Some(KeyMemory::Mlock)));
        arena.choice = KeyMemoryChoice::InsecureUnlocked;
        arena.worst = Some(KeyMemory::InsecureUnlocked);
        arena.take(UNIT).expect("is had");
        assert_eq!(arena.worst, Some(KeyMemory::InsecureUnlocked), "what was once so is not forgotten");
    }
}
