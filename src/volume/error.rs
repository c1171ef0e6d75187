//! Why a volume cannot be made or opened, and what is wrong with one copy of its header. Sorted by fault.

use crate::block::BlockError;
use crate::kms::{BadWrappedKey, KeyArn, KmsError};
use crate::names::VolumeId;
use crate::sys::locked::LockingFailed;
use crate::units::ByteCount;

use super::header::{BadShape, Fingerprint};

/// Why a volume could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Caller: no volume can be like that.
    #[error(transparent)]
    Shape(#[from] BadShape),
    /// Caller: a volume is there already; it must be deleted first.
    #[error("the backing already holds an envol header")]
    HeaderExists,
    /// Caller: long work was told to stop.
    #[error("stopped before it was done")]
    Stopped,
    /// Not a volume: no copy starts as one.
    #[error("not an envol volume: neither header copy is there")]
    NotAVolume,
    /// A volume of a later envol.
    #[error("the header has format version {0}, which is not known here")]
    UnsupportedVersion(u32),
    /// A volume of a later envol: these bits must be known.
    #[error("the header needs features that are not known here (bits {0:#x})")]
    UnsupportedFeatures(u64),
    /// A volume of a later envol: these bits must be known to whoever writes.
    #[error("the header has features that are not known here (bits {0:#x}): it opens read-only")]
    ReadOnlyFeatures(u64),
    /// The backing ends before the volume does.
    #[error("the backing holds {have} bytes, the volume needs {need}")]
    BackingTooSmall {
        /// Bytes there are.
        have: ByteCount,
        /// Bytes the header says there must be.
        need: ByteCount,
    },
    /// Integrity: both copies are damaged.
    #[error("both header copies are damaged; the first: {first}; the second: {second}")]
    Damaged {
        /// What is wrong with the first.
        first: CopyFault,
        /// What is wrong with the second.
        second: CopyFault,
    },
    /// Integrity: the header was changed by somebody without the data key.
    #[error("the header is not what was sealed with the volume's data key")]
    MacMismatch,
    /// Integrity: the backing holds another volume than recorded.
    #[error("the header is that of {found}, recorded is {recorded}")]
    AnotherVolume {
        /// The volume that was asked for.
        recorded: VolumeId,
        /// The volume that is there.
        found: VolumeId,
    },
    /// Integrity: a valid header, but under somebody else's data key.
    #[error("the header is valid under another data key (fingerprint {found}) than recorded ({recorded})")]
    ForeignKey {
        /// The fingerprint that was recorded.
        recorded: String,
        /// The header's.
        found: Fingerprint,
    },
    /// Integrity: the key that seals the data key changed, and the header is not ahead of its record.
    #[error("the data key is sealed by {found} of `{found_kms}`, recorded is {recorded} of `{recorded_kms}`")]
    KmsKeyChanged {
        /// The KMS that was recorded.
        recorded_kms: String,
        /// The key that was recorded.
        recorded: KeyArn,
        /// The header's KMS.
        found_kms: String,
        /// The header's key.
        found: KeyArn,
    },
    /// Integrity: an older header than recorded.
    #[error("the header is older (generation {found}) than recorded (generation {recorded})")]
    Rollback {
        /// The generation that was recorded.
        recorded: u64,
        /// The header's.
        found: u64,
    },
    /// Integrity: another header of the recorded generation, so one that went its own way from an older one.
    #[error("the header differs from the one recorded at the same generation ({0})")]
    Forked(u64),
    /// Integrity: what should be the backup of a header is not.
    #[error("this is no header that was backed up: {0}")]
    BadBackup(CopyFault),
    /// The copy that must be written first cannot be written, or something else lies in its place.
    #[error("the header was left as it is: the copy that must be written first cannot be")]
    HeaderKept,
    /// KMS: it answered for another key than it was asked.
    #[error("the KMS answered with key {answered}, asked was {asked}")]
    AnotherKmsKey {
        /// The key that was asked.
        asked: KeyArn,
        /// The key that answered.
        answered: KeyArn,
    },
    /// KMS: the data key is not the volume's.
    #[error("the KMS gave another data key (fingerprint {given}) than the header's ({expected})")]
    WrongDataKey {
        /// The fingerprint in the header.
        expected: Fingerprint,
        /// That of the key that came.
        given: Fingerprint,
    },
    /// KMS: a data key that no good source of randomness gives.
    #[error("the data key is weak: {0}")]
    WeakKey(#[from] WeakKey),
    /// KMS: refused, throttled, not reached.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// The backing failed.
    #[error(transparent)]
    Storage(#[from] BlockError),
    /// No locked memory for keys.
    #[error(transparent)]
    NoLockedMemory(#[from] LockingFailed),
}

/// How a data key is weak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakKey {
    /// Nothing but zeros.
    #[error("all its bytes are zero")]
    Zero,
    /// IEEE 1619 and FIPS 140-3 IG C.I forbid it.
    #[error("its two halves are equal")]
    EqualHalves,
}

/// What is wrong with one copy of a header.
#[derive(Debug, thiserror::Error)]
pub enum CopyFault {
    /// It does not start as a header does.
    #[error("no header is there")]
    NoMagic,
    /// It starts as one of another version.
    #[error("format version {0} is not known")]
    Version(u32),
    /// It ends before its length says.
    #[error("it is cut short")]
    CutShort,
    /// Its length field is out of bounds.
    #[error("a body of {0} bytes is out of bounds")]
    BodyLength(u32),
    /// A torn or damaged write.
    #[error("the checksum does not hold")]
    Checksum,
    /// Not sealed with the volume's data key: torn before its MAC, or changed. Found out only with the key.
    #[error("its MAC does not hold")]
    Mac,
    /// Bits that must be known.
    #[error("it needs features that are not known (bits {unknown:#x})")]
    Features {
        /// Those that are not known.
        unknown: u64,
        /// The copy's generation, by which it may matter less than the other copy.
        generation: u64,
    },
    /// A generation that no header reaches.
    #[error("generation {0} is out of bounds")]
    Generation(u64),
    /// Not the JSON of a header.
    #[error("the body cannot be read: {0}")]
    Body(#[from] serde_json::Error),
    /// A field that no feature bit accounts for.
    #[error("the body has fields that are not known")]
    UnknownField,
    /// Not base64.
    #[error("the wrapped key cannot be read: {0}")]
    WrappedKeyText(#[from] base64::DecodeError),
    /// Empty or too long.
    #[error(transparent)]
    WrappedKey(#[from] BadWrappedKey),
    /// Not 32 hex digits.
    #[error("the fingerprint is not 32 hex digits")]
    Fingerprint,
    /// Facts that cannot be true.
    #[error(transparent)]
    Shape(#[from] BadShape),
}
