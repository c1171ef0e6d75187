//! Buffers for plaintext: page-aligned, with room for a reply's header before the data, wiped when they are dropped.
//!
//! A buffer belongs to one connection and so to one volume. Memory that was never used is never touched, so that a
//! large buffer of an idle connection costs address space only; only what was used is wiped, and dropping gives all of
//! it back to the system at once.

use std::ops::Range;

use super::reply::DATA_HEADER_MAX;
use crate::sys::pages::Pages;
use crate::sys::wipes::{self, Wipe};

/// The data starts here: aligned, and behind room for a header.
const START: usize = 4096;
const _: () = assert!(DATA_HEADER_MAX <= START);

/// A buffer of fixed capacity.
pub(super) struct Buffer {
    memory: Pages,
    /// How many bytes of the data were ever lent.
    used: usize,
}

/// All of a buffer's data, lent to somebody who says how much of it is used.
pub(super) struct Lent<'b> {
    /// The data.
    pub(super) bytes: &'b mut [u8],
    used: &'b mut usize,
}

impl Buffer {
    /// A buffer for `capacity` bytes of data, all zero.
    pub(super) fn new(capacity: usize) -> Self {
        Self { memory: Pages::allocate(Self::footprint(capacity)), used: 0 }
    }

    /// How much memory a buffer for `capacity` bytes of data can take.
    pub(super) const fn footprint(capacity: usize) -> usize {
        START + capacity
    }

    /// How many bytes of data it can hold.
    pub(super) fn capacity(&self) -> usize {
        self.memory.bytes().len() - START
    }

    /// The first `length` bytes of the data.
    pub(super) fn data(&mut self, length: usize) -> &mut [u8] {
        self.with_header(0, length)
    }

    /// `header` bytes before the data, and the first `length` bytes of it, in one piece.
    pub(super) fn with_header(&mut self, header: usize, length: usize) -> &mut [u8] {
        self.used = self.used.max(length);
        &mut self.memory.bytes_mut()[START - header..START + length]
    }

    /// All that it can hold, used or not.
    pub(super) fn lend(&mut self) -> Lent<'_> {
        Lent { bytes: &mut self.memory.bytes_mut()[START..], used: &mut self.used }
    }

    /// Takes the memory away for a while, to be filled elsewhere; also says where the first `length` bytes of the data
    /// lie in it. The buffer must not be used until [`Buffer::put_memory`] brings it back.
    pub(super) fn take_memory(&mut self, length: usize) -> (Pages, Range<usize>) {
        self.used = self.used.max(length);
        (std::mem::replace(&mut self.memory, Pages::none()), START..START + length)
    }

    /// Brings back what [`Buffer::take_memory`] took.
    pub(super) fn put_memory(&mut self, memory: Pages) {
        self.memory = memory;
    }

    /// What was ever used of it.
    pub(super) fn used(&mut self) -> &mut [u8] {
        self.data(self.used)
    }
}

impl Lent<'_> {
    /// The first `length` bytes are, or are about to be, used.
    pub(super) fn note(&mut self, length: usize) {
        *self.used = length.max(*self.used);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Memory that is still away was never given back: nothing was deciphered in it.
        if !wipes::takes_place(Wipe::Buffers) {
            // Unmapped memory is gone as well as wiped memory is: what is to be found has to stay.
            std::mem::replace(&mut self.memory, Pages::none()).leave();
        } else if self.used > 0 && !self.memory.bytes().is_empty() {
            self.memory.wipe(START - DATA_HEADER_MAX..START + self.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_aligned_and_the_header_lies_right_before_it() {
        for capacity in [1, START, 100_000] {
            let mut buffer = Buffer::new(capacity);
            assert!(buffer.data(capacity).as_ptr().addr().is_multiple_of(START));
            assert_eq!(buffer.capacity(), capacity);
            buffer.data(1)[0] = 7;
            assert_eq!(buffer.with_header(DATA_HEADER_MAX, 1)[DATA_HEADER_MAX], 7);
        }
    }

    #[test]
    fn only_what_was_noted_counts_as_used() {
        let mut buffer = Buffer::new(100_000);
        let mut lent = buffer.lend();
        assert_eq!(lent.bytes.len(), 100_000);
        lent.note(300);
        lent.note(20);
        assert_eq!(buffer.used().len(), 300);
    }
}
