//! Buffers for plaintext: page-aligned, with room for a reply's header before the data, wiped when they are dropped.
//!
//! A buffer belongs to one connection and so to one volume. Memory that was never used is never touched, so that a
//! large buffer of an idle connection costs address space only; only what was used is wiped.

use zeroize::Zeroize;

use super::reply::DATA_HEADER_MAX;

const PAGE: usize = 4096;

/// A buffer of fixed capacity.
pub(super) struct Buffer {
    memory: Vec<u8>,
    /// Where the data starts: at a page, with at least [`DATA_HEADER_MAX`] bytes before it.
    start: usize,
    /// How many bytes of the data were ever lent.
    used: usize,
}

impl Buffer {
    /// A buffer for `capacity` bytes of data, all zero.
    pub(super) fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity + 2 * PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        let start = if start < DATA_HEADER_MAX { start + PAGE } else { start };
        Self { memory, start, used: 0 }
    }

    /// How many bytes of data it can hold.
    pub(super) fn capacity(&self) -> usize {
        self.memory.len() - 2 * PAGE
    }

    /// The first `length` bytes of the data.
    pub(super) fn data(&mut self, length: usize) -> &mut [u8] {
        self.used = self.used.max(length);
        &mut self.memory[self.start..self.start + length]
    }

    /// `header` bytes before the data, and the first `length` bytes of it, in one piece.
    pub(super) fn with_header(&mut self, header: usize, length: usize) -> &mut [u8] {
        self.used = self.used.max(length);
        &mut self.memory[self.start - header..self.start + length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.memory[..self.start + self.used].zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_aligned_and_the_header_lies_right_before_it() {
        for capacity in [1, PAGE, 100_000] {
            let mut buffer = Buffer::new(capacity);
            assert!(buffer.data(capacity).as_ptr().addr().is_multiple_of(PAGE));
            assert_eq!(buffer.capacity(), capacity);
            buffer.data(1)[0] = 7;
            assert_eq!(buffer.with_header(DATA_HEADER_MAX, 1)[DATA_HEADER_MAX], 7);
        }
    }
}
