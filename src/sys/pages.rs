//! Pages of memory straight from the kernel: zero at first, there once they are touched, given back the moment they are
//! dropped. A heap would keep freed memory resident for whoever asks next, and would zero what it hands out again.

use std::alloc::{Layout, handle_alloc_error};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// A private mapping.
pub(crate) struct Pages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone, and is reached only through its borrows.
unsafe impl Send for Pages {}
// SAFETY: as above; a shared borrow only reads.
unsafe impl Sync for Pages {}

impl Pages {
    /// `length` zero bytes (one at the least) at the start of a page.
    ///
    /// # Errors
    /// Where there is no memory.
    pub(crate) fn map(length: usize) -> Result<Self, Errno> {
        let size = NonZeroUsize::new(length.max(1)).expect("at least one byte");
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS;
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe { mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) }?;
        Ok(Self { start: start.cast(), length: size.get() })
    }

    /// As [`Pages::map`], for memory whose lack ends the process, as that of a `Vec` does.
    pub(crate) fn allocate(length: usize) -> Self {
        Self::map(length)
            .unwrap_or_else(|_| handle_alloc_error(Layout::array::<u8>(length).unwrap_or(Layout::new::<u8>())))
    }

    /// No bytes at all, to stand where pages were taken from.
    pub(crate) const fn none() -> Self {
        Self { start: NonNull::dangling(), length: 0 }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is `length` readable bytes and lives as long as `self`; no bytes may lie anywhere.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The bytes, to be changed in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes this the only borrow.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Keeps the mapping for as long as the process lives; for builds whose wipes can be left out.
    pub(crate) fn leave(mut self) {
        self.length = 0;
    }

    /// Overwrites `range` with zeros, in a way that is not optimised away; as fast as memory is filled.
    pub(crate) fn wipe(&mut self, range: Range<usize>) {
        let bytes = &mut self.bytes_mut()[range];
        bytes.fill(0);
        // Whoever looks at the address might look at the bytes, so that the zeros have to be there.
        black_box(bytes.as_mut_ptr());
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.length == 0 {
            return;
        }
        // SAFETY: the mapping was made by `map`, and no borrow of it is left; unmapping unlocks.
        let unmapped = unsafe { munmap(self.start.cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own unmaps");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_start_zeroed_and_are_wiped_where_that_is_asked() {
        let mut pages = Pages::allocate(5000);
        assert!(pages.bytes().iter().all(|byte| *byte == 0));
        pages.bytes_mut().fill(7);
        pages.wipe(10..4990);
        assert!(pages.bytes()[10..4990].iter().all(|byte| *byte == 0));
        assert_eq!((pages.bytes()[9], pages.bytes()[4990]), (7, 7));
    }
}
