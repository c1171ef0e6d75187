//! Reads and writes that cover pieces in part: at most the first and the last piece, for whole ones lie between.
//!
//! A part is read or written through a buffer of one piece on the stack, which is wiped. Each part takes its own lock,
//! one at a time; a request is not atomic over its pieces, as on a disk.

use zeroize::Zeroize;

use crate::block::{BlockDeviceExt, BlockError, Durability};
use crate::sys::wipes::{self, Wipe};
use crate::units::{ByteCount, ByteOffset, Extent, PIECE};

use super::encrypted::EncryptedDevice;
use super::keys::is_zero;
use super::stripes::StripeSet;

/// Plaintext of one piece on the stack, wiped when it goes.
struct PieceBuffer([u8; 512]);

/// What takes the place of part of a piece.
enum Change<'b> {
    Bytes(&'b [u8]),
    Zeros,
}

/// An extent cut where whole pieces begin and end. Each part may be empty; the first and the last lie within one piece.
pub(super) struct Cut {
    pub(super) head: Extent,
    pub(super) whole: Extent,
    pub(super) tail: Extent,
}

impl Cut {
    pub(super) fn of(extent: Extent) -> Self {
        let (start, end) = (extent.start().get(), extent.end().get());
        let last = end - end % PIECE;
        // An extent within one piece is all head.
        let first = start.next_multiple_of(PIECE).min(end);
        let last = last.max(first);
        Self { head: between(start, first), whole: between(first, last), tail: between(last, end) }
    }

    /// `bytes` of the extent, cut likewise.
    fn split<'b>(&self, bytes: &'b mut [u8]) -> [(Extent, &'b mut [u8]); 3] {
        let (head, rest) = bytes.split_at_mut(self.head.length().in_memory());
        let (whole, tail) = rest.split_at_mut(self.whole.length().in_memory());
        [(self.head, head), (self.whole, whole), (self.tail, tail)]
    }
}

/// The bytes from `start` to `end`, which is not before it.
pub(super) fn between(start: u64, end: u64) -> Extent {
    Extent::new(ByteOffset::new(start), ByteCount::new(end - start)).expect("ends at an offset that there is")
}

impl EncryptedDevice {
    /// Reads at any alignment.
    pub(super) fn read_parts(&self, at: ByteOffset, into: &mut [u8]) -> Result<(), BlockError> {
        let extent = Extent::new(at, ByteCount::of(into)).ok_or(BlockError::OutOfRange)?;
        let _shared = self.stripes.wait_to_share(StripeSet::of(extent));
        for (part, bytes) in Cut::of(extent).split(into) {
            if part.is_empty() {
                continue;
            }
            if part.is_aligned(PIECE) {
                self.inner.read_at(self.below(part.start()), bytes)?;
                self.decrypt(part.start(), bytes)?;
            } else {
                let mut piece = PieceBuffer([0; 512]);
                self.read_piece(part, &mut piece)?;
                bytes.copy_from_slice(&piece.0[within_piece(part)]);
            }
        }
        Ok(())
    }

    /// Writes at any alignment.
    pub(super) fn write_parts(&self, at: ByteOffset, from: &mut [u8], how: Durability) -> Result<(), BlockError> {
        let extent = Extent::new(at, ByteCount::of(from)).ok_or(BlockError::OutOfRange)?;
        for (part, bytes) in Cut::of(extent).split(from) {
            if part.is_empty() {
                continue;
            }
            if part.is_aligned(PIECE) {
                self.keys.encrypt(part.start(), bytes)?;
                let _shared = self.stripes.wait_to_share(StripeSet::of(part));
                self.inner.write_at(self.below(part.start()), bytes, Durability::Cached)?;
            } else {
                self.change_part(part, Change::Bytes(bytes))?;
            }
        }
        self.settle(how)
    }

    /// Keeps what `how` promises of what was just done in parts: with one sync, however many they were, and with no
    /// stripe held while the disk works.
    pub(super) fn settle(&self, how: Durability) -> Result<(), BlockError> {
        match how {
            Durability::Cached => Ok(()),
            Durability::Durable => self.inner.flush(),
        }
    }

    /// Makes zeros of part of one piece.
    pub(super) fn zero_part(&self, part: Extent) -> Result<(), BlockError> {
        if part.is_empty() { Ok(()) } else { self.change_part(part, Change::Zeros) }
    }

    fn change_part(&self, part: Extent, change: Change<'_>) -> Result<(), BlockError> {
        let _exclusive = self.stripes.exclude(part.start());
        let mut piece = PieceBuffer([0; 512]);
        let was_hole = self.read_piece(part, &mut piece)?;
        let changed = &mut piece.0[within_piece(part)];
        match change {
            Change::Bytes(bytes) => changed.copy_from_slice(bytes),
            // Zeros within a hole need no space.
            Change::Zeros if was_hole => return Ok(()),
            Change::Zeros => changed.fill(0),
        }
        let start = piece_start(part);
        self.keys.encrypt(start, &mut piece.0)?;
        self.inner.write_at(self.below(start), &mut piece.0, Durability::Cached)
    }

    /// Fills `piece` with the plaintext of the piece that `part` lies in; whether that is zero ciphertext in a thin volume.
    /// It is filled where it lies, since a move would leave a copy behind that nobody wipes.
    fn read_piece(&self, part: Extent, piece: &mut PieceBuffer) -> Result<bool, BlockError> {
        let start = piece_start(part);
        self.inner.read_at(self.below(start), &mut piece.0)?;
        let is_hole = !self.thick && is_zero(&piece.0);
        self.decrypt(start, &mut piece.0)?;
        Ok(is_hole)
    }
}

fn piece_start(part: Extent) -> ByteOffset {
    ByteOffset::new(part.start().piece().get() * PIECE)
}

/// Where in its piece `part` lies.
fn within_piece(part: Extent) -> std::ops::Range<usize> {
    let start = usize::try_from(part.start().get() % PIECE).expect("below 512");
    start..start + part.length().in_memory()
}

impl Drop for PieceBuffer {
    fn drop(&mut self) {
        if wipes::takes_place(Wipe::Buffers) {
            self.0.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_cut_where_whole_pieces_begin_and_end() {
        let cases = [
            (0, 0, [0, 0, 0]),
            (0, 512, [0, 512, 0]),
            (1, 100, [99, 0, 0]),
            (1, 512, [511, 0, 0]),
            (0, 100, [0, 0, 100]),
            (1, 1025, [511, 512, 1]),
            (500, 600, [12, 0, 88]),
            (512, 2048, [0, 1536, 0]),
        ];
        for (start, end, lengths) in cases {
            let cut = Cut::of(between(start, end));
            let parts = [cut.head, cut.whole, cut.tail];
            assert_eq!(parts.map(|part| part.length().get()), lengths, "{start}..{end}");
            assert!(cut.whole.is_empty() || cut.whole.is_aligned(PIECE));
            assert_eq!(parts[0].start().get(), start);
            assert_eq!(parts[2].end().get(), end);
        }
    }
}
