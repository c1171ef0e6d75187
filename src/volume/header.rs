//! What a header says: the facts about a volume, the rules they obey, and what the KMS is told of them.
//!
//! Owns the meaning; how it lies in bytes is `codec`'s, where it lies on the backing is `copies`'. Every [`Header`]
//! that leaves this module's parents has passed [`Header::check`], so arithmetic on its places cannot overflow.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kms::{EncryptionContext, KeyArn, KeyName};
use crate::limits;
use crate::names::{VolumeId, VolumeName};
use crate::units::{ByteCount, ByteOffset, SectorSize};

/// The header area in front of the data, which holds both copies.
pub(super) const HEADER_AREA: ByteCount = ByteCount::new(1 << 20);
/// Where the two copies start; each is found without the other.
pub(super) const COPY_PLACES: [ByteOffset; 2] = [ByteOffset::new(0), ByteOffset::new(512 << 10)];
/// Data starts at a multiple of this, so that sectors and pages of the backing agree.
const DATA_ALIGNMENT: u64 = 4096;
/// The smallest and the largest key scope, as powers of two: so small that tests cross one, so large as IEEE 1619 advises.
const SCOPE_POWERS: std::ops::RangeInclusive<u32> = 20..=40;
/// The name of a KMS section is a word in a configuration file.
const KMS_NAME_MAX: usize = 64;
/// An ARN is at most this long in the AWS model.
const ARN_MAX: usize = 2048;

/// Everything about a new volume that its maker decides.
#[derive(Debug, Clone)]
pub struct CreateSpec {
    /// Its id, random.
    pub id: VolumeId,
    /// Its name, kept in the header as a label.
    pub name: VolumeName,
    /// Usable bytes; a multiple of the sector size.
    pub size: ByteCount,
    /// Unit of encryption.
    pub sector_size: SectorSize,
    /// Bytes under one XTS key: a power of two, 1 MiB to 1 TiB.
    pub scope: ByteCount,
    /// Encrypted zeros everywhere, no holes.
    pub thick: bool,
    /// The `[kms.NAME]` section whose KMS seals the data key.
    pub kms: String,
    /// The KMS key.
    pub key: KeyName,
}

/// What a header says, readable without a key and not to be trusted before it is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The volume's id.
    pub id: VolumeId,
    /// Its name at creation.
    pub name: VolumeName,
    /// Usable bytes.
    pub size: ByteCount,
    /// Unit of encryption.
    pub sector_size: SectorSize,
    /// Where data starts on the backing.
    pub data_offset: ByteOffset,
    /// Bytes under one XTS key.
    pub scope: ByteCount,
    /// Whether zero ciphertext is a hole (`false`) or ciphertext like any other (`true`).
    pub thick: bool,
    /// The name of the KMS section.
    pub kms: String,
    /// The KMS key's ARN.
    pub key: KeyArn,
}

/// Facts that cannot be true of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadShape {
    /// Nothing to use, or more than a volume can be.
    #[error("a volume is 1 byte to {most} long, not {0}", most = ByteCount::new(limits::VOLUME_SIZE_MAX))]
    Size(ByteCount),
    /// A part of a sector at the end.
    #[error("the size {size} is not a multiple of the {sector}-byte sector")]
    PartOfASector {
        /// The size.
        size: ByteCount,
        /// Bytes in a sector.
        sector: u64,
    },
    /// Not a power of two within the bounds.
    #[error("a key scope is a power of two from 1M to 1T, not {0}")]
    Scope(ByteCount),
    /// More keys than a volume may have.
    #[error("{0} key scopes are more than {most}: choose a larger scope", most = limits::SCOPES_MAX)]
    TooManyScopes(u64),
    /// Data would lie over the header, be unaligned, or end past the largest place.
    #[error("data cannot start at byte {0}")]
    DataOffset(ByteOffset),
    /// A body that no copy has room for.
    #[error("a header of {0} bytes is longer than a copy of it may be")]
    TooLong(usize),
    /// Not a word.
    #[error("the name of a KMS is 1 to {KMS_NAME_MAX} of A-Z a-z 0-9 _ -")]
    KmsName,
    /// Empty or too long.
    #[error("a key ARN is 1 to {ARN_MAX} bytes")]
    KeyArn,
}

/// What a reader must know of a header's writer, as bits; version 1 defines none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Features {
    /// May be ignored.
    pub(super) compatible: u64,
    /// May be ignored by whoever only reads.
    pub(super) read_only_compatible: u64,
    /// Must be known.
    pub(super) incompatible: u64,
}

/// The public fingerprint of a data key: derived from it, of no use for finding it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub(super) [u8; 16]);

impl Header {
    /// The header of a new volume, whose data key `key` sealed.
    pub(super) fn of_new(spec: &CreateSpec, key: KeyArn) -> Self {
        Self {
            id: spec.id.clone(),
            name: spec.name.clone(),
            size: spec.size,
            sector_size: spec.sector_size,
            data_offset: ByteOffset::new(HEADER_AREA.get()),
            scope: spec.scope,
            thick: spec.thick,
            kms: spec.kms.clone(),
            key,
        }
    }

    /// Whether all of it can be true.
    pub(super) fn check(&self) -> Result<(), BadShape> {
        let size = self.size.get();
        if size == 0 || size > limits::VOLUME_SIZE_MAX {
            return Err(BadShape::Size(self.size));
        }
        if !self.size.is_aligned(self.sector_size.bytes()) {
            return Err(BadShape::PartOfASector { size: self.size, sector: self.sector_size.bytes() });
        }
        self.check_scope()?;
        let offset = self.data_offset;
        let ends = offset.checked_add(self.size).is_some();
        if offset.get() < HEADER_AREA.get() || !offset.is_aligned(DATA_ALIGNMENT) || !ends {
            return Err(BadShape::DataOffset(offset));
        }
        check_names(&self.kms, &self.key)
    }

    fn check_scope(&self) -> Result<(), BadShape> {
        let scope = self.scope.get();
        if !scope.is_power_of_two() || !SCOPE_POWERS.contains(&scope.trailing_zeros()) {
            return Err(BadShape::Scope(self.scope));
        }
        match self.scopes() {
            1..=limits::SCOPES_MAX => Ok(()),
            more => Err(BadShape::TooManyScopes(more)),
        }
    }

    /// How many key scopes the volume has.
    pub(super) fn scopes(&self) -> u64 {
        self.size.get().div_ceil(self.scope.get())
    }

    /// Bytes the backing must have at the least.
    pub(super) fn backing_size(&self) -> ByteCount {
        let end = self.data_offset.checked_add(self.size).expect("a checked header ends within the largest place");
        ByteCount::new(end.get())
    }

    /// What the KMS binds the data key to: the volume, and everything that decides how its bytes are read.
    pub fn encryption_context(&self) -> EncryptionContext {
        let layout = format!(
            "1 aes-256-xts sector={} data={} scope=2^{}",
            self.sector_size.bytes(),
            self.data_offset,
            self.scope.get().trailing_zeros()
        );
        EncryptionContext::new([("aws:ebs:id", self.id.to_string()), ("envol:layout", layout)])
    }
}

fn check_names(kms: &str, key: &KeyArn) -> Result<(), BadShape> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if !(1..=KMS_NAME_MAX).contains(&kms.len()) || !kms.bytes().all(word) {
        return Err(BadShape::KmsName);
    }
    if (1..=ARN_MAX).contains(&key.as_str().len()) { Ok(()) } else { Err(BadShape::KeyArn) }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Lower-case hex digits of bytes that are public.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(hex_digit(digit))).collect()
}

/// The digit of a number below 16.
pub(super) fn hex_digit(number: u8) -> u8 {
    match number {
        0..=9 => b'0' + number,
        _ => b'a' + (number - 10),
    }
}

/// The 16 bytes that 32 lower-case hex digits are.
pub(super) fn fingerprint_from_hex(text: &str) -> Option<Fingerprint> {
    let value = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (value(&pair[0])? << 4) | value(&pair[1])?;
    }
    Some(Fingerprint(bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::volume) fn header() -> Header {
        Header {
            id: "vol-0123456789abcdef0".parse().expect("an id"),
            name: "disk".parse().expect("a name"),
            size: ByteCount::new(4 << 20),
            sector_size: SectorSize::B4096,
            data_offset: ByteOffset::new(1 << 20),
            scope: ByteCount::new(1 << 40),
            thick: false,
            kms: "embedded".to_owned(),
            key: KeyArn::new("arn:aws:kms:us-east-1:000000000000:key/k"),
        }
    }

    #[test]
    fn the_encryption_context_names_volume_and_layout() {
        let context = header().encryption_context();
        let pairs: Vec<_> = context.pairs().collect();
        let layout = ("envol:layout", "1 aes-256-xts sector=4096 data=1048576 scope=2^40");
        assert_eq!(pairs, [("aws:ebs:id", "vol-0123456789abcdef0"), layout]);
    }

    #[test]
    fn facts_that_cannot_be_true_are_refused() {
        type Change = fn(&mut Header);
        let cases: [(Change, BadShape); 12] = [
            (|h| h.size = ByteCount::ZERO, BadShape::Size(ByteCount::ZERO)),
            (|h| h.size = ByteCount::new(u64::MAX), BadShape::Size(ByteCount::new(u64::MAX))),
            (
                |h| h.size = ByteCount::new(4096 + 512),
                BadShape::PartOfASector { size: ByteCount::new(4608), sector: 4096 },
            ),
            (|h| h.scope = ByteCount::ZERO, BadShape::Scope(ByteCount::ZERO)),
            (|h| h.scope = ByteCount::new(3 << 20), BadShape::Scope(ByteCount::new(3 << 20))),
            (|h| h.scope = ByteCount::new(1 << 41), BadShape::Scope(ByteCount::new(1 << 41))),
            (
                |h| (h.size, h.scope) = (ByteCount::new(257 << 20), ByteCount::new(1 << 20)),
                BadShape::TooManyScopes(257),
            ),
            (|h| h.data_offset = ByteOffset::new(0), BadShape::DataOffset(ByteOffset::new(0))),
            (|h| h.data_offset = ByteOffset::new((1 << 20) + 512), BadShape::DataOffset(ByteOffset::new(1_049_088))),
            (
                |h| h.data_offset = ByteOffset::new(u64::MAX - 4095),
                BadShape::DataOffset(ByteOffset::new(u64::MAX - 4095)),
            ),
            (|h| h.kms = "a b".to_owned(), BadShape::KmsName),
            (|h| h.key = KeyArn::new(""), BadShape::KeyArn),
        ];
        assert_eq!(header().check(), Ok(()));
        for (change, refusal) in cases {
            let mut header = header();
            change(&mut header);
            assert_eq!(header.check(), Err(refusal));
        }
    }

    #[test]
    fn a_fingerprint_is_read_as_it_is_shown() {
        let fingerprint = Fingerprint(std::array::from_fn(|i| u8::try_from(i * 17).expect("small")));
        assert_eq!(fingerprint_from_hex(&fingerprint.to_string()), Some(fingerprint));
        for bad in ["", "0", &"0".repeat(31), &"0".repeat(33), &"G".repeat(32), &"A".repeat(32)] {
            assert_eq!(fingerprint_from_hex(bad), None, "{bad:?}");
        }
    }
}
