//! Where a file has holes. Others may write and punch meanwhile; what is said then is one of the states that each part
//! was in, and Data wherever there is doubt, since data may hold anything.

use std::fs::File;

use nix::errno::Errno;
use nix::libc::off_t;
use nix::unistd::{Whence, lseek};

use crate::block::{Allocation, BlockError, Run};
use crate::units::{ByteCount, Extent};

/// Where doubt ends: the unit in which file systems allocate.
const PAGE: u64 = 4096;

/// Appends the runs of `extent`, at most until `into` holds `most`. Moves the file's seek position, which nobody uses.
pub(super) fn describe(file: &File, extent: Extent, into: &mut Vec<Run>, most: usize) -> Result<(), BlockError> {
    let end = extent.end().get();
    let mut at = extent.start().get();
    while at < end {
        let (allocation, until) = run_at(file, at, end)?;
        if !(Run { length: ByteCount::new(until - at), allocation }).append(into, most) {
            break;
        }
        at = until;
    }
    Ok(())
}

/// What lies at `at`, and how far it goes; further than `at`, and not past `end`.
fn run_at(file: &File, at: u64, end: u64) -> Result<(Allocation, u64), BlockError> {
    match seek(file, at, Whence::SeekData)? {
        None => return Ok((Allocation::Hole, end)),
        Some(data) if data > at => return Ok((Allocation::Hole, data.min(end))),
        Some(_) => (),
    }
    let hole = seek(file, at, Whence::SeekHole)?.unwrap_or(end);
    // Punched between the two calls: it was data a moment ago, so for one page it may be called so.
    let until = if hole > at { hole } else { (at + 1).next_multiple_of(PAGE) };
    Ok((Allocation::Data, until.min(end)))
}

/// The next data or hole at or behind `at`; `None` where there is none before the end of the file.
fn seek(file: &File, at: u64, whence: Whence) -> Result<Option<u64>, BlockError> {
    let at = off_t::try_from(at).map_err(|_| BlockError::OutOfRange)?;
    match lseek(file, at, whence) {
        Ok(place) => Ok(u64::try_from(place).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
