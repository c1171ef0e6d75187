//! Bytes at rest: the [`BlockDevice`] trait, through which all storage I/O of volumes goes, and its kinds.
//!
//! A device takes a batch of [`Io`]s and completes each exactly once, in any order, through a callback. So a layer (the
//! cipher, poison, a recorder in the tests) does its part before it hands the batch on and in the callback, without an
//! allocation; a device that can overlap (io_uring, a pool) overlaps within the batch; and a plain synchronous one
//! carries the batch out in order. [`BlockDeviceExt`] is the plain form for callers that want one thing done.
//!
//! Invariants: every completed `Io` has an outcome; an `Io` that comes with one is passed over, so that a layer can
//! answer part of a batch itself; a short transfer is an error, never a success; a device never touches bytes outside
//! its [`Geometry::size`].

pub mod engine;
pub mod fault;
pub mod file;
pub mod flush;
pub mod memory;
pub mod poison;
pub mod record;
pub mod signature;

use std::fs::File;

use crate::sync::Arc;
use crate::units::{ByteCount, ByteOffset, Extent};

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// How many bytes it holds.
    pub size: ByteCount,
    /// Whether it refuses every mutation.
    pub read_only: bool,
    /// The unit in which it is best used, in bytes; a power of two, at least 512. Any alignment works.
    pub preferred: ByteCount,
    /// Whether holes made by Discard and Zero are kept as holes (a file system that punches, a device that zeroes).
    pub punches: bool,
    /// Whether every mutation waits for the disk, so that none is worth trying without waiting.
    pub writes_wait: bool,
}

/// Which way the bytes of a backing go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caching {
    /// Through the kernel's page cache.
    #[default]
    PageCache,
    /// Around it (O_DIRECT).
    Direct,
}

/// When the outcome of a mutation may be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once the kernel has it: it survives the death of this process, not a power cut.
    Cached,
    /// Once the disk has it (NBD: FUA).
    Durable,
}

/// How zeros are to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroing {
    /// By a hole where the device can.
    MayPunch,
    /// With the space kept allocated (NBD: NO_HOLE).
    KeepAllocated,
}

/// Whether zeros that cannot be made faster than by writing them are wanted at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Write them if need be.
    Any,
    /// Answer [`BlockError::NotFast`] at once instead (NBD: FAST_ZERO).
    FastOnly,
}

/// Whether a call may wait for a slow disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Only what needs no waiting is done; the rest is left without an outcome, to be submitted again elsewhere.
    TryNow,
    /// Every `Io` has its outcome when the call returns.
    MayBlock,
}

/// What a run of bytes is, for block status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Space is allocated and may hold anything.
    Data,
    /// Space is allocated and reads as zeros.
    Zero,
    /// No space is allocated; reads as zeros.
    Hole,
}

/// A run of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// How long it is; never zero.
    pub length: ByteCount,
    /// What it is.
    pub allocation: Allocation,
}

/// One operation.
#[derive(Debug)]
pub enum Op<'b> {
    /// Fills `into` from the device.
    Read {
        /// Where the bytes lie.
        at: ByteOffset,
        /// Where they go.
        into: &'b mut [u8],
    },
    /// Writes `from` to the device. The buffer is the device's meanwhile: a layer may encrypt it in place, and what it
    /// holds afterwards is not specified.
    Write {
        /// Where the bytes go.
        at: ByteOffset,
        /// The bytes.
        from: &'b mut [u8],
        /// When to report.
        durability: Durability,
    },
    /// Makes everything durable that was completed before this was submitted.
    Flush,
    /// Makes the extent read as zeros.
    Zero {
        /// Which bytes.
        extent: Extent,
        /// By a hole or not.
        zeroing: Zeroing,
        /// Whether a slow way will do.
        effort: Effort,
        /// When to report.
        durability: Durability,
    },
    /// Tells the device that the bytes are not needed. On every device of envol they read as zeros afterwards, or are unchanged.
    Discard {
        /// Which bytes.
        extent: Extent,
        /// When to report.
        durability: Durability,
    },
    /// Describes the extent from its start, appending runs to `into` until the extent is covered or `into` holds `most`.
    Extents {
        /// Which bytes.
        extent: Extent,
        /// Where the runs go; adjacent ones of one kind are joined.
        into: &'b mut Vec<Run>,
        /// How many runs at the most; at least one.
        most: usize,
    },
}

/// One operation and, once completed, its outcome.
#[derive(Debug)]
pub struct Io<'b> {
    /// What to do.
    pub op: Op<'b>,
    /// Tells this operation from the others of its submitter; layers leave it alone.
    pub tag: u64,
    outcome: Option<Result<(), BlockError>>,
}

/// Why an operation failed, sorted by what can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The extent does not lie within the device: a bug or a truncated backing.
    #[error("the range lies outside the device")]
    OutOfRange,
    /// A mutation of a read-only device.
    #[error("the device is read-only")]
    ReadOnly,
    /// ENOSPC, EDQUOT or EFBIG: may work again when there is space.
    #[error("no space left on the backing ({0})")]
    NoSpace(nix::errno::Errno),
    /// Zeros could only have been made slowly ([`Effort::FastOnly`]).
    #[error("zeros cannot be made faster than by writing them")]
    NotFast,
    /// A sync failed earlier; mutations and flushes are refused until the next attach, reads go on.
    #[error("an earlier sync failed: writes are refused until the volume is attached again")]
    Poisoned,
    /// The keys are gone: the volume is being detached.
    #[error("the volume is being detached")]
    Detached,
    /// The system said no.
    #[error("the backing failed: {0}")]
    System(nix::errno::Errno),
}

impl From<nix::errno::Errno> for BlockError {
    /// What the kernel's answer to a transfer means.
    fn from(errno: nix::errno::Errno) -> Self {
        use nix::errno::Errno;
        match errno {
            Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG => Self::NoSpace(errno),
            Errno::EROFS | Errno::EPERM => Self::ReadOnly,
            other => Self::System(other),
        }
    }
}

/// A READ that its submitter may carry out on the file below all layers: see [`BlockDevice::fetch`].
#[derive(Debug)]
pub struct Fetch {
    /// The file.
    pub file: Arc<File>,
    /// Where in it the bytes lie.
    pub at: ByteOffset,
    /// What the layers want to know again when it has ended.
    pub witness: Witness,
}

/// Whether a read that is fetched is one of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Its reader waits for each read before it asks for the next: worth reading ahead for.
    Alone,
    /// Others are under way: they keep the disk busy, and reading ahead of each is in the way.
    Many,
}

/// What a device was like when a [`Fetch`] began; a layer that has nothing to remember leaves it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Witness(pub(crate) u64);

/// A device: see the module.
pub trait BlockDevice: Send + Sync {
    /// What it is. Does not change while it is open.
    fn geometry(&self) -> Geometry;

    /// Carries out `batch`, calling `done` once for each `Io` as it completes. Where `patience` is
    /// [`Patience::TryNow`], an `Io` that would have to wait is left without an outcome, untouched, and `done` is not
    /// called for it. `Io`s of one batch may be carried out in any order and at once.
    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>));

    /// Leaves a read of `extent` to the caller, who can have many under way on a ring and wait for a socket at once; the
    /// bytes go to the start of a page. `None` where it has to be submitted. No lock is held meanwhile, and what is
    /// fetched counts for nothing until [`BlockDevice::fetched`] has turned it into the device's bytes.
    fn fetch(&self, _extent: Extent, _company: Company) -> Option<Fetch> {
        None
    }

    /// Makes of `bytes`, which were fetched for a read at `at`, what that read answers; `read` is how the fetch ended.
    /// `None` where the device changed in a way that makes them useless: the read has to be submitted then.
    fn fetched(
        &self,
        _at: ByteOffset,
        _bytes: &mut [u8],
        _witness: Witness,
        _read: Result<(), BlockError>,
    ) -> Option<Result<(), BlockError>> {
        None
    }
}

impl<D: BlockDevice + ?Sized> BlockDevice for Arc<D> {
    fn geometry(&self) -> Geometry {
        (**self).geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        (**self).submit(batch, patience, done);
    }

    fn fetch(&self, extent: Extent, company: Company) -> Option<Fetch> {
        (**self).fetch(extent, company)
    }

    fn fetched(
        &self,
        at: ByteOffset,
        bytes: &mut [u8],
        witness: Witness,
        read: Result<(), BlockError>,
    ) -> Option<Result<(), BlockError>> {
        (**self).fetched(at, bytes, witness, read)
    }
}

impl Geometry {
    /// Whether a device of this geometry can carry `op` out at all.
    ///
    /// # Errors
    /// [`BlockError::ReadOnly`] or [`BlockError::OutOfRange`].
    pub fn admits(&self, op: &Op<'_>) -> Result<(), BlockError> {
        if self.read_only && op.is_mutation() {
            return Err(BlockError::ReadOnly);
        }
        let extent = match op {
            Op::Read { at, into } => Extent::new(*at, ByteCount::of(into)),
            Op::Write { at, from, .. } => Extent::new(*at, ByteCount::of(from)),
            Op::Flush => return Ok(()),
            Op::Zero { extent, .. } | Op::Discard { extent, .. } | Op::Extents { extent, .. } => Some(*extent),
        };
        if extent.is_some_and(|extent| extent.fits(self.size)) { Ok(()) } else { Err(BlockError::OutOfRange) }
    }
}

impl Op<'_> {
    /// Whether it changes what the device holds. A flush does not.
    pub const fn is_mutation(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Zero { .. } | Self::Discard { .. })
    }

    /// When the outcome of a mutation may be reported; `None` for an operation that is none.
    pub const fn durability(&self) -> Option<Durability> {
        match self {
            Self::Write { durability, .. } | Self::Zero { durability, .. } | Self::Discard { durability, .. } => {
                Some(*durability)
            }
            Self::Read { .. } | Self::Flush | Self::Extents { .. } => None,
        }
    }
}

/// Carries a batch out in order: `perform` answers each operation that `geometry` admits, or `None` where it would have
/// to wait. For devices that do one thing at a time.
pub(crate) fn carry_out<'b>(
    geometry: Geometry,
    batch: &mut [Io<'b>],
    done: &mut dyn FnMut(&mut Io<'b>),
    mut perform: impl FnMut(&mut Op<'b>) -> Option<Result<(), BlockError>>,
) {
    for io in batch.iter_mut().filter(|io| io.outcome.is_none()) {
        let outcome = match geometry.admits(&io.op) {
            Ok(()) => perform(&mut io.op),
            refused => Some(refused),
        };
        if let Some(outcome) = outcome {
            io.complete(outcome);
            done(io);
        }
    }
}

impl Run {
    /// Appends `run` to `into`, joined to the last run where that is of the same kind. Answers `false`, and appends
    /// nothing, where a new run would be one more than `most`.
    pub(crate) fn append(self, into: &mut Vec<Self>, most: usize) -> bool {
        if let Some(last) = into.last_mut()
            && last.allocation == self.allocation
            && let Some(length) = last.length.checked_add(self.length)
        {
            last.length = length;
            return true;
        }
        let room = into.len() < most;
        if room && self.length != ByteCount::ZERO {
            into.push(self);
        }
        room
    }
}

impl<'b> Io<'b> {
    /// An operation yet to be submitted.
    pub fn new(op: Op<'b>, tag: u64) -> Self {
        Self { op, tag, outcome: None }
    }

    /// How it ended; `None` as long as it has not.
    pub fn outcome(&self) -> Option<Result<(), BlockError>> {
        self.outcome
    }

    /// Says how it ended. For devices; layers may change an outcome on its way up.
    pub fn complete(&mut self, outcome: Result<(), BlockError>) {
        self.outcome = Some(outcome);
    }
}

/// The plain synchronous form: one operation, done when the call returns.
pub trait BlockDeviceExt: BlockDevice {
    /// Carries out one operation, waiting as long as it takes.
    ///
    /// # Errors
    /// As the device says.
    fn perform(&self, op: Op<'_>) -> Result<(), BlockError> {
        let mut batch = [Io::new(op, 0)];
        self.submit(&mut batch, Patience::MayBlock, &mut |_| ());
        batch[0].outcome().expect("a device completes every Io of a batch that may block")
    }

    /// Fills `into` from `at`.
    ///
    /// # Errors
    /// As the device says; nothing can be said of `into` then.
    fn read_at(&self, at: ByteOffset, into: &mut [u8]) -> Result<(), BlockError> {
        self.perform(Op::Read { at, into })
    }

    /// Writes `from` at `at`; what `from` holds afterwards is not specified.
    ///
    /// # Errors
    /// As the device says; any part may have been written then.
    fn write_at(&self, at: ByteOffset, from: &mut [u8], durability: Durability) -> Result<(), BlockError> {
        self.perform(Op::Write { at, from, durability })
    }

    /// Makes everything completed so far durable.
    ///
    /// # Errors
    /// As the device says; nothing is known to be durable then.
    fn flush(&self) -> Result<(), BlockError> {
        self.perform(Op::Flush)
    }

    /// Makes the extent read as zeros, by a hole where the device can.
    ///
    /// # Errors
    /// As the device says.
    fn zero(&self, extent: Extent) -> Result<(), BlockError> {
        let (zeroing, effort, durability) = (Zeroing::MayPunch, Effort::Any, Durability::Cached);
        self.perform(Op::Zero { extent, zeroing, effort, durability })
    }

    /// Describes all of the extent.
    ///
    /// # Errors
    /// As the device says.
    fn extents(&self, extent: Extent) -> Result<Vec<Run>, BlockError> {
        let mut runs = Vec::new();
        self.perform(Op::Extents { extent, into: &mut runs, most: usize::MAX })?;
        Ok(runs)
    }
}

impl<D: BlockDevice + ?Sized> BlockDeviceExt for D {}
