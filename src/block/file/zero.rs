//! Zeros and holes by what the backing offers, and by writing where it offers nothing.
//!
//! A file punches holes and zeroes ranges at any alignment. A block device does both in its own logical blocks only, so
//! there the ends of an extent are written and its middle is left to the device. Nothing outside the extent changes, and
//! no way is taken whose result might not read as zeros.
//!
//! A block device drops what its page cache holds of a range *before* it tries to punch it. So a punch that fails there
//! has lost the cached writes to the range, and whatever was asked for, zeros must be made then; and a device known
//! not to punch is never asked to.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::off_t;

use super::transfer::Way;
use crate::block::{BlockError, Effort, Zeroing};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::units::{ByteCount, ByteOffset, Extent};

/// How a backing makes zeros.
#[derive(Debug)]
pub(super) enum Zeroer {
    /// A regular file.
    File,
    /// A block device.
    Device {
        /// Its logical block.
        unit: u64,
        /// Whether it makes zeros without being sent them, as far as is known: some find out that they cannot when tried.
        offloads: AtomicBool,
    },
}

impl Zeroer {
    /// Makes `extent` read as zeros.
    pub(super) fn zero(&self, way: Way<'_>, extent: Extent, how: Zeroing, effort: Effort) -> Result<(), BlockError> {
        let Self::Device { unit, offloads } = self else { return zero_file(way, extent, how, effort) };
        let Some((head, middle, tail)) = split(extent, *unit) else { return write(way, extent, effort) };
        if effort == Effort::FastOnly && !offloads.load(Ordering::Relaxed) {
            return Err(BlockError::NotFast);
        }
        zero_blocks(way, middle, how, offloads)?;
        write(way, head, Effort::Any)?;
        write(way, tail, Effort::Any)
    }

    /// Gives the space of `extent` back where that leaves zeros; leaves it unchanged otherwise.
    pub(super) fn discard(&self, way: Way<'_>, extent: Extent) -> Result<(), BlockError> {
        let Self::Device { unit, offloads } = self else {
            return allocate(way, extent, FallocateFlags::FALLOC_FL_PUNCH_HOLE).map(drop);
        };
        match split(extent, *unit) {
            Some((_, middle, _)) if offloads.load(Ordering::Relaxed) => {
                zero_blocks(way, middle, Zeroing::MayPunch, offloads)
            }
            _ => Ok(()),
        }
    }
}

fn zero_file(way: Way<'_>, extent: Extent, how: Zeroing, effort: Effort) -> Result<(), BlockError> {
    let punched = how == Zeroing::MayPunch && allocate(way, extent, FallocateFlags::FALLOC_FL_PUNCH_HOLE)?;
    if punched || allocate(way, extent, FallocateFlags::FALLOC_FL_ZERO_RANGE)? {
        return Ok(());
    }
    write(way, extent, effort)
}

/// Zeroes whole blocks of a device, fast or not: once this has begun there is no way back (see the module).
fn zero_blocks(way: Way<'_>, extent: Extent, how: Zeroing, offloads: &AtomicBool) -> Result<(), BlockError> {
    if how == Zeroing::MayPunch && offloads.load(Ordering::Relaxed) {
        match allocate(way, extent, FallocateFlags::FALLOC_FL_PUNCH_HOLE) {
            Ok(true) => return Ok(()),
            Ok(false) => offloads.store(false, Ordering::Relaxed),
            Err(_) => (),
        }
    }
    // The kernel writes the zeros itself where the device cannot make them.
    if allocate(way, extent, FallocateFlags::FALLOC_FL_ZERO_RANGE)? { Ok(()) } else { write(way, extent, Effort::Any) }
}

/// `extent` as what lies before, in and behind its whole units; `None` where it holds none.
fn split(extent: Extent, unit: u64) -> Option<(Extent, Extent, Extent)> {
    let (start, end) = (extent.start().get(), extent.end().get());
    let first = start.checked_next_multiple_of(unit)?;
    let last = end - end % unit;
    let part = |from: u64, to: u64| Extent::new(ByteOffset::new(from), ByteCount::new(to.checked_sub(from)?));
    let middle = part(first, last).filter(|middle| !middle.is_empty())?;
    Some((part(start, first)?, middle, part(last, end)?))
}

/// Asks the backing; `false` where it cannot.
fn allocate(way: Way<'_>, extent: Extent, mode: FallocateFlags) -> Result<bool, BlockError> {
    let place = |bytes: u64| off_t::try_from(bytes).map_err(|_| BlockError::OutOfRange);
    let (start, length) = (place(extent.start().get())?, place(extent.length().get())?);
    let _held = way.hold(extent);
    loop {
        match fallocate(way.file(), mode | FallocateFlags::FALLOC_FL_KEEP_SIZE, start, length) {
            Ok(()) => return Ok(true),
            Err(Errno::EINTR) => (),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ENODEV) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn write(way: Way<'_>, extent: Extent, effort: Effort) -> Result<(), BlockError> {
    match effort {
        Effort::FastOnly if !extent.is_empty() => Err(BlockError::NotFast),
        _ => way.write_zeros(extent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(start: u64, length: u64) -> Extent {
        Extent::new(ByteOffset::new(start), ByteCount::new(length)).expect("small")
    }

    #[test]
    fn extents_are_split_at_whole_units() {
        let parts = |start, length| split(extent(start, length), 512);
        assert_eq!(parts(512, 1024), Some((extent(512, 0), extent(512, 1024), extent(1536, 0))));
        assert_eq!(parts(100, 1000), Some((extent(100, 412), extent(512, 512), extent(1024, 76))));
        assert_eq!(parts(1, 511), None);
        assert_eq!(parts(513, 1022), None);
        assert_eq!(parts(512, 0), None);
    }
}
