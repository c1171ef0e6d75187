//! One stretch of memory for secrets, straight from the kernel, between guard pages.
//!
//! The best kind is `memfd_secret`: its pages are taken out of the kernel's own map of memory, so that neither
//! /proc/PID/mem nor ptrace nor a core shows them, to root either. Next come private pages that are locked, left out of
//! cores and wiped for a child. The last kind is not locked, and there for those who ask for it by its name.

use std::num::NonZeroUsize;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc::{self, c_void};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap, mmap_anonymous, munmap};
use nix::unistd::ftruncate;
use serde::Deserialize;

/// What lies before and behind a chunk, and what its length is a multiple of: whole pages on every machine.
pub(super) const UNIT: usize = 64 << 10;

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// A kind of memory for secrets, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyMemory {
    /// Pages that only this process can reach, root's debugger included.
    MemfdSecret,
    /// Private pages that are never swapped, dumped or inherited; root can read them.
    Mlock,
    /// As those, but for the lock: they can be written to swap.
    InsecureUnlocked,
}

/// What the configuration may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyMemoryChoice {
    /// `memfd_secret` where the kernel has it, else `mlock`.
    #[default]
    Auto,
    /// That and no other.
    MemfdSecret,
    /// That and no other: `memfd_secret` keeps a machine from hibernating.
    Mlock,
    /// As `auto`, and memory that is not locked where neither can be had.
    InsecureUnlocked,
}

impl KeyMemoryChoice {
    /// What to try, in order.
    pub(super) fn kinds(self) -> &'static [KeyMemory] {
        match self {
            Self::Auto => &[KeyMemory::MemfdSecret, KeyMemory::Mlock],
            Self::MemfdSecret => &[KeyMemory::MemfdSecret],
            Self::Mlock => &[KeyMemory::Mlock],
            Self::InsecureUnlocked => &[KeyMemory::MemfdSecret, KeyMemory::Mlock, KeyMemory::InsecureUnlocked],
        }
    }
}

impl KeyMemoryChoice {
    /// The words of the configuration.
    const WORDS: [(&'static str, Self); 4] = [
        ("auto", Self::Auto),
        ("memfd_secret", Self::MemfdSecret),
        ("mlock", Self::Mlock),
        ("insecure_unlocked", Self::InsecureUnlocked),
    ];

    /// The choice that `word` names.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|(name, _)| *name == word).map(|(_, choice)| choice)
    }

    /// Its word.
    pub(crate) fn word(self) -> &'static str {
        Self::WORDS.into_iter().find(|(_, choice)| *choice == self).expect("every choice has a word").0
    }
}

impl std::fmt::Display for KeyMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MemfdSecret => "memfd_secret",
            Self::Mlock => "mlock",
            Self::InsecureUnlocked => "insecure_unlocked",
        })
    }
}

/// The mapping, its guards included.
pub(super) struct Chunk {
    guarded: NonNull<c_void>,
    length: usize,
    kind: KeyMemory,
}

// SAFETY: the mapping belongs to this value, and nothing in it depends on a thread.
unsafe impl Send for Chunk {}

impl Chunk {
    /// At least `length` zero bytes of that kind.
    ///
    /// # Errors
    /// Where the kernel does not give them; nothing is left behind.
    pub(super) fn map(length: usize, kind: KeyMemory) -> Result<Self, Errno> {
        let length = length.max(1).next_multiple_of(UNIT);
        let whole = NonZeroUsize::new(length + 2 * UNIT).expect("more than nothing");
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing.
        let guarded = unsafe { mmap_anonymous(None, whole, ProtFlags::PROT_NONE, flags) }?;
        let chunk = Self { guarded, length, kind };
        match kind {
            KeyMemory::MemfdSecret => chunk.fill_with_secret_pages(),
            KeyMemory::Mlock => chunk.fill_with_private_pages().and_then(|()| chunk.lock()),
            KeyMemory::InsecureUnlocked => chunk.fill_with_private_pages(),
        }?;
        Ok(chunk)
    }

    /// Its first byte.
    pub(super) fn start(&self) -> NonNull<u8> {
        // SAFETY: the guard is `UNIT` bytes, and the chunk lies behind it in the same mapping.
        unsafe { self.guarded.cast::<u8>().add(UNIT) }
    }

    /// How many bytes it has.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// What it is.
    pub(super) fn kind(&self) -> KeyMemory {
        self.kind
    }

    fn place(&self) -> (NonZeroUsize, NonZeroUsize) {
        let length = NonZeroUsize::new(self.length).expect("at least one unit");
        (self.start().addr(), length)
    }

    fn fill_with_secret_pages(&self) -> Result<(), Errno> {
        // SAFETY: the call takes flags alone and answers a new descriptor.
        let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
        let descriptor = libc::c_int::try_from(Errno::result(descriptor)?).expect("a descriptor is an int");
        // SAFETY: the descriptor is new, so nobody else owns it.
        let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
        ftruncate(&file, self.length.try_into().map_err(|_| Errno::EFBIG)?)?;
        let (start, length) = self.place();
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: it replaces a part of the mapping that this value owns, which nobody borrows yet.
        unsafe {
            mmap(Some(start), length, READ_WRITE, flags, &file, 0)?;
            // Shared pages cannot be wiped for a child: it does not get them at all.
            madvise(self.start().cast(), self.length, MmapAdvise::MADV_DONTFORK)
        }
    }

    fn fill_with_private_pages(&self) -> Result<(), Errno> {
        let (start, length) = self.place();
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS | MapFlags::MAP_FIXED;
        // SAFETY: it replaces a part of the mapping that this value owns, which nobody borrows yet; the advice changes
        // nothing that the pages hold.
        unsafe {
            mmap_anonymous(Some(start), length, READ_WRITE, flags)?;
            madvise(self.start().cast(), self.length, MmapAdvise::MADV_DONTDUMP)?;
            madvise(self.start().cast(), self.length, MmapAdvise::MADV_WIPEONFORK)
        }
    }

    fn lock(&self) -> Result<(), Errno> {
        // SAFETY: the range is mapped, and locking changes nothing that it holds.
        unsafe { mlock(self.start().cast(), self.length) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map`, and whoever had a part of it has given it back; unmapping unlocks.
        let unmapped = unsafe { munmap(self.guarded, self.length + 2 * UNIT) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own unmaps");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mappings of this process that lie within the chunk and its guards: permissions and flags, in order.
    fn shown(chunk: &Chunk) -> Vec<(String, String)> {
        let (from, to) = (chunk.guarded.addr().get(), chunk.guarded.addr().get() + chunk.length + 2 * UNIT);
        let mut found = Vec::new();
        let mut inside = None;
        for line in std::fs::read_to_string("/proc/self/smaps").expect("procfs").lines() {
            let first = line.split_whitespace().next().expect("no line is empty");
            if let Some((start, _)) = first.split_once('-') {
                let start = usize::from_str_radix(start, 16).expect("an address");
                inside =
                    (from..to).contains(&start).then(|| line.split_whitespace().nth(1).expect("rights").to_owned());
            } else if let (Some(rights), "VmFlags:") = (&inside, first) {
                found.push((rights.clone(), line.to_owned()));
            }
        }
        found
    }

    #[test]
    fn each_kind_is_what_it_says_and_lies_between_guards() {
        for (kind, flags) in [
            (KeyMemory::MemfdSecret, ["lo", "dd", "dc"].as_slice()),
            (KeyMemory::Mlock, &["lo", "dd", "wf"]),
            (KeyMemory::InsecureUnlocked, &["dd", "wf"]),
        ] {
            let chunk = match Chunk::map(1, kind) {
                Err(Errno::ENOSYS) if kind == KeyMemory::MemfdSecret => continue,
                mapped => mapped.expect("is mapped"),
            };
            assert_eq!((chunk.length(), chunk.kind()), (UNIT, kind));
            let shown = shown(&chunk);
            let rights: Vec<&str> = shown.iter().map(|(rights, _)| &rights[..3]).collect();
            assert_eq!(rights, ["---", "rw-", "---"], "{kind}");
            assert!(
                flags.iter().all(|flag| shown[1].1.split_whitespace().any(|word| word == *flag)),
                "{kind}: {shown:?}"
            );
        }
    }
}
