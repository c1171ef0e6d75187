//! A request cut into runs: consecutive pieces of one sector, which share one starting tweak.
//!
//! Owns the pointers that make one kernel serve both forms of the cipher: in place, where a piece is written back to where
//! it was read, and from one buffer into another. A piece is read whole before it is written.

use std::marker::PhantomData;

/// The unit in which the engines work: 32 blocks.
pub(super) type Piece = [u8; 512];

/// Pieces to cipher: where they are read and where the results go, which is the same place or one that does not overlap.
pub(super) struct Pieces<'a> {
    from: *const Piece,
    into: *mut Piece,
    count: usize,
    borrows: PhantomData<(&'a [Piece], &'a mut [Piece])>,
}

impl<'a> Pieces<'a> {
    /// `pieces`, each to be written where it is read.
    pub(super) fn in_place(pieces: &'a mut [Piece]) -> Self {
        let into = pieces.as_mut_ptr();
        Self { from: into, into, count: pieces.len(), borrows: PhantomData }
    }

    /// The pieces of `from`, to be written to the same places of `into`.
    ///
    /// # Panics
    /// Where the two differ in length.
    pub(super) fn between(from: &'a [Piece], into: &'a mut [Piece]) -> Self {
        assert_eq!(from.len(), into.len(), "what is read and what is written are equally long");
        Self { from: from.as_ptr(), into: into.as_mut_ptr(), count: from.len(), borrows: PhantomData }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Takes the first `count` off, or all where there are fewer.
    #[inline]
    pub(super) fn take_first(&mut self, count: usize) -> Self {
        let count = count.min(self.count);
        let first = Self { count, ..*self };
        // SAFETY: `count` pieces lie behind both pointers, so the pointers stay within their buffers or at the ends.
        (self.from, self.into) = unsafe { (self.from.add(count), self.into.add(count)) };
        self.count -= count;
        first
    }

    /// The pieces as strides of `BYTES`, of which a piece holds a whole number.
    #[inline]
    pub(super) fn strides<const BYTES: usize>(self) -> Strides<'a, BYTES> {
        const { assert!(size_of::<Piece>().is_multiple_of(BYTES), "strides fill a piece") };
        let left = self.count * (size_of::<Piece>() / BYTES);
        Strides { from: self.from.cast(), into: self.into.cast(), left, borrows: PhantomData }
    }
}

/// Iterates over the strides of some pieces.
pub(super) struct Strides<'a, const BYTES: usize> {
    from: *const [u8; BYTES],
    into: *mut [u8; BYTES],
    left: usize,
    borrows: PhantomData<(&'a [Piece], &'a mut [Piece])>,
}

#[cfg(target_arch = "x86_64")]
impl<const BYTES: usize> Strides<'_, BYTES> {
    /// How many are to come.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.left
    }
}

impl<'a, const BYTES: usize> Iterator for Strides<'a, BYTES> {
    type Item = Stride<'a, BYTES>;

    #[inline]
    fn next(&mut self) -> Option<Stride<'a, BYTES>> {
        self.left = self.left.checked_sub(1)?;
        let stride = Stride { from: self.from, into: self.into, borrows: PhantomData };
        // SAFETY: a stride lay behind both pointers, so they stay within their buffers or at the ends.
        (self.from, self.into) = unsafe { (self.from.add(1), self.into.add(1)) };
        Some(stride)
    }
}

/// What a kernel ciphers at a time.
pub(super) struct Stride<'a, const BYTES: usize> {
    from: *const [u8; BYTES],
    into: *mut [u8; BYTES],
    borrows: PhantomData<(&'a [u8; BYTES], &'a mut [u8; BYTES])>,
}

/// A vector register: made of any bytes.
///
/// # Safety
/// Every pattern of bytes is a value of the type, and it has no padding.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe trait Vector: Copy {}

#[cfg(target_arch = "x86_64")]
// SAFETY: 16 bytes, of any value.
unsafe impl Vector for std::arch::x86_64::__m128i {}
#[cfg(target_arch = "x86_64")]
// SAFETY: 32 bytes, of any value.
unsafe impl Vector for std::arch::x86_64::__m256i {}
#[cfg(target_arch = "x86_64")]
// SAFETY: 64 bytes, of any value.
unsafe impl Vector for std::arch::x86_64::__m512i {}

#[cfg(target_arch = "x86_64")]
impl<const BYTES: usize> Stride<'_, BYTES> {
    /// The vector of that number.
    ///
    /// # Panics
    /// Where the stride has no such vector.
    #[inline(always)]
    pub(super) fn read<V: Vector>(&self, number: usize) -> V {
        assert!(number < BYTES / size_of::<V>(), "a vector of the stride");
        // SAFETY: the vector lies within the stride, whose bytes are initialised, at any alignment.
        unsafe { self.from.cast::<V>().add(number).read_unaligned() }
    }

    /// Writes the vector of that number.
    ///
    /// # Panics
    /// Where the stride has no such vector.
    #[inline(always)]
    pub(super) fn write<V: Vector>(&mut self, number: usize, vector: V) {
        assert!(number < BYTES / size_of::<V>(), "a vector of the stride");
        // SAFETY: the vector lies within the stride, which was borrowed mutably, at any alignment.
        unsafe { self.into.cast::<V>().add(number).write_unaligned(vector) }
    }
}

impl<'a, const BYTES: usize> Stride<'a, BYTES> {
    /// The bytes at the place where they go, to be ciphered there.
    pub(super) fn in_place(self) -> &'a mut [u8; BYTES] {
        if !std::ptr::eq(self.from, self.into) {
            // SAFETY: both point to a stride, and in two buffers that do not overlap since they are not the same place.
            unsafe { self.into.copy_from_nonoverlapping(self.from, 1) };
        }
        // SAFETY: the stride was borrowed mutably for 'a and handed out once; `from` is used no more.
        unsafe { &mut *self.into }
    }
}

/// Iterates over the runs of `pieces`: the first ends with the first sector, the others hold a sector each, and the last
/// what is left.
pub(super) struct Runs<'a> {
    next: usize,
    sector: usize,
    pieces: Pieces<'a>,
}

impl<'a> Runs<'a> {
    /// Cuts `pieces` behind the first `head` pieces, and behind each `sector` pieces after them.
    pub(super) fn new(head: usize, sector: usize, pieces: Pieces<'a>) -> Self {
        Self { next: head, sector, pieces }
    }

    /// All of `pieces`, as one run.
    pub(super) fn one(pieces: Pieces<'a>) -> Self {
        Self::new(pieces.count(), pieces.count(), pieces)
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Pieces<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pieces<'a>> {
        let run = self.pieces.take_first(self.next);
        self.next = self.sector;
        (run.count() != 0).then_some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_sectors_end() {
        let lengths = |head, sector, count| -> Vec<usize> {
            let pieces = &mut vec![[0; 512]; count];
            Runs::new(head, sector, Pieces::in_place(pieces)).map(|run| run.count()).collect()
        };
        assert_eq!(lengths(8, 8, 0), [0; 0]);
        assert_eq!(lengths(8, 8, 20), [8, 8, 4]);
        assert_eq!(lengths(3, 8, 11), [3, 8]);
        assert_eq!(lengths(3, 8, 2), [2]);
        assert_eq!(lengths(1, 1, 3), [1, 1, 1]);
    }

    #[test]
    fn each_piece_is_handed_out_once_and_goes_to_its_own_place() {
        let from: Vec<Piece> = (0..5).map(|number| [number; 512]).collect();
        let mut into = vec![[9; 512]; 5];
        let mut pieces = Pieces::between(&from, &mut into);
        pieces.take_first(1);
        for stride in pieces.strides::<512>() {
            stride.in_place()[511] += 100;
        }
        assert_eq!(into[0], [9; 512]);
        for number in 1..5_u8 {
            let piece = &into[usize::from(number)];
            assert_eq!((piece[0], piece[511]), (number, number + 100));
        }
    }
}
