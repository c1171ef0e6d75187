//! Units of place and length, with checked arithmetic only.
//!
//! No raw `u64` for a place or a length crosses a function boundary. A [`ByteOffset`] is a place, a [`ByteCount`] a
//! length, an [`Extent`] both; what a place is counted from (the backing, the volume) is said by whoever holds it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes in one piece: the unit in which ciphertext is read, written and recognised as a hole (FORMAT.md, Data).
pub const PIECE: u64 = 512;

/// A place, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteOffset(u64);

/// A length, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteCount(u64);

/// The number of a 512-byte piece, counted from the start of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceNumber(u64);

/// A place and a length whose end is known not to overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    start: ByteOffset,
    length: ByteCount,
}

impl ByteOffset {
    /// The first byte.
    pub const ZERO: Self = Self(0);

    /// A place `bytes` after the start.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The place as a plain number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place `length` further on, or `None` where that would overflow.
    pub fn checked_add(self, length: ByteCount) -> Option<Self> {
        self.0.checked_add(length.0).map(Self)
    }

    /// How far this place lies behind `earlier`, or `None` where it lies before it.
    pub fn since(self, earlier: Self) -> Option<ByteCount> {
        self.0.checked_sub(earlier.0).map(ByteCount)
    }

    /// The piece that holds this byte.
    pub const fn piece(self) -> PieceNumber {
        PieceNumber(self.0 / PIECE)
    }

    /// Whether this place is a multiple of `unit` bytes.
    pub const fn is_aligned(self, unit: u64) -> bool {
        self.0.is_multiple_of(unit)
    }
}

impl ByteCount {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The length of a buffer.
    pub const fn of(buffer: &[u8]) -> Self {
        Self(buffer.len() as u64)
    }

    /// The length as a plain number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The length as an index into memory.
    ///
    /// # Panics
    /// Where an address is shorter than the length; lengths that reach memory are bounded by `limits`.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).expect("lengths of buffers are bounded far below the address space")
    }

    /// Both lengths together, or `None` where that would overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// This length less `other`, or `None` where `other` is longer.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Whether this length is a multiple of `unit` bytes.
    pub const fn is_aligned(self, unit: u64) -> bool {
        self.0.is_multiple_of(unit)
    }
}

impl PieceNumber {
    /// The `number`th piece.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, counted from zero.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Extent {
    /// `length` bytes from `start`, or `None` where the end would overflow.
    pub fn new(start: ByteOffset, length: ByteCount) -> Option<Self> {
        start.checked_add(length).map(|_| Self { start, length })
    }

    /// Where it starts.
    pub const fn start(self) -> ByteOffset {
        self.start
    }

    /// How long it is.
    pub const fn length(self) -> ByteCount {
        self.length
    }

    /// The first byte behind it.
    pub const fn end(self) -> ByteOffset {
        ByteOffset(self.start.0 + self.length.0)
    }

    /// Whether it covers no byte.
    pub const fn is_empty(self) -> bool {
        self.length.0 == 0
    }

    /// Whether all of it lies below `size`.
    pub const fn fits(self, size: ByteCount) -> bool {
        self.end().0 <= size.0
    }

    /// Whether both its ends are multiples of `unit` bytes.
    pub const fn is_aligned(self, unit: u64) -> bool {
        self.start.is_aligned(unit) && self.length.is_aligned(unit)
    }

    /// The same bytes, counted from a place that lies `by` bytes earlier; `None` where that would overflow.
    pub fn shifted(self, by: ByteCount) -> Option<Self> {
        Self::new(self.start.checked_add(by)?, self.length)
    }
}

/// The unit of encryption: how many bytes share one XTS tweak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum SectorSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes, the default.
    B4096,
}

impl SectorSize {
    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }

    /// How many 512-byte pieces one sector holds.
    pub const fn pieces(self) -> u64 {
        self.bytes() / PIECE
    }
}

/// A sector size that is not one of 512 and 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sector is 512 or 4096 bytes, not {0}")]
pub struct NoSuchSectorSize(pub u32);

impl TryFrom<u32> for SectorSize {
    type Error = NoSuchSectorSize;

    fn try_from(bytes: u32) -> Result<Self, Self::Error> {
        match bytes {
            512 => Ok(Self::B512),
            4096 => Ok(Self::B4096),
            other => Err(NoSuchSectorSize(other)),
        }
    }
}

impl From<SectorSize> for u32 {
    fn from(size: SectorSize) -> Self {
        match size {
            SectorSize::B512 => 512,
            SectorSize::B4096 => 4096,
        }
    }
}

/// A size in words that people type: a number with an optional binary suffix K, M, G or T (`10G`, `4096`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a size: write a number of bytes, or one with K, M, G or T behind it (binary), such as 10G")]
pub struct NotASize;

impl FromStr for ByteCount {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let (digits, shift) = match text.chars().next_back().ok_or(NotASize)? {
            'K' | 'k' => (&text[..text.len() - 1], 10),
            'M' | 'm' => (&text[..text.len() - 1], 20),
            'G' | 'g' => (&text[..text.len() - 1], 30),
            'T' | 't' => (&text[..text.len() - 1], 40),
            _ => (text, 0),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotASize);
        }
        let number: u64 = digits.parse().map_err(|_| NotASize)?;
        number.checked_mul(1 << shift).map(Self).ok_or(NotASize)
    }
}

impl fmt::Display for ByteCount {
    /// The largest binary unit that divides the length: `10G`, `1536M`, `513`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
        match units.iter().find(|(shift, _)| self.0 != 0 && self.0.is_multiple_of(1 << shift)) {
            Some((shift, letter)) => write!(f, "{}{letter}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for ByteOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_suffixes() {
        assert_eq!("10G".parse(), Ok(ByteCount::new(10 << 30)));
        assert_eq!("4096".parse(), Ok(ByteCount::new(4096)));
        for bad in ["", "G", "-1", "1.5G", "1X", "18446744073709551615K", "1 G", "٣"] {
            assert_eq!(bad.parse::<ByteCount>(), Err(NotASize), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_shown_as_they_are_typed() {
        for text in ["10G", "1T", "513", "1536M", "0"] {
            assert_eq!(text.parse::<ByteCount>().expect("a size").to_string(), text);
        }
    }

    #[test]
    fn an_extent_never_overflows() {
        assert!(Extent::new(ByteOffset::new(u64::MAX), ByteCount::new(1)).is_none());
        let last = Extent::new(ByteOffset::new(u64::MAX - 1), ByteCount::new(1)).expect("fits");
        assert_eq!(last.end().get(), u64::MAX);
    }
}
