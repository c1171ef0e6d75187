//! Exact positional transfers: all of the bytes or an error. The kernel may transfer less than asked, or be interrupted;
//! a transfer that makes no progress at all is EIO.

use std::fs::File;

use nix::errno::Errno;
use nix::libc::off_t;
use nix::sys::uio::{pread, pwrite};

use super::direct::{Direct, Held};
use crate::block::BlockError;
use crate::sys::storage::read_without_waiting;
use crate::units::{ByteCount, ByteOffset, Extent};

/// What is written where a device cannot make zeros by itself.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How a read without waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Glance {
    /// All bytes were in memory.
    Whole,
    /// Not all were; what the buffer holds is not specified.
    Partial,
    /// The file system cannot tell.
    Unsupported,
}

/// Which way bytes go to and from a backing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'f> {
    /// Through the page cache.
    Cached(&'f File),
    /// Around it.
    Direct(&'f Direct),
}

impl<'f> Way<'f> {
    /// For what is neither read nor written through it.
    pub(super) fn file(self) -> &'f File {
        match self {
            Self::Cached(file) => file,
            Self::Direct(direct) => &direct.file,
        }
    }

    /// To be held while `extent` is changed by other means than writing.
    pub(super) fn hold(self, extent: Extent) -> Option<Held<'f>> {
        match self {
            Self::Cached(_) => None,
            Self::Direct(direct) => Some(direct.hold(extent)),
        }
    }

    /// Fills `into` from `at`.
    pub(super) fn read(self, into: &mut [u8], at: ByteOffset) -> Result<(), BlockError> {
        match self {
            Self::Cached(file) => read_exact(file, into, at),
            Self::Direct(direct) => direct.read(into, at),
        }
    }

    /// Writes all of `from` at `at`.
    pub(super) fn write(self, from: &[u8], at: ByteOffset) -> Result<(), BlockError> {
        match self {
            Self::Cached(file) => write_exact(file, from, at),
            Self::Direct(direct) => direct.write(from, at),
        }
    }

    /// Writes zeros over `extent`.
    pub(super) fn write_zeros(self, extent: Extent) -> Result<(), BlockError> {
        let mut done = ByteCount::ZERO;
        while done < extent.length() {
            let at = extent.start().checked_add(done).ok_or(BlockError::OutOfRange)?;
            let left = extent.end().since(at).expect("not done yet").in_memory();
            let zeros = &ZEROS[..ZEROS.len().min(left)];
            self.write(zeros, at)?;
            done = done.checked_add(ByteCount::of(zeros)).ok_or(BlockError::OutOfRange)?;
        }
        Ok(())
    }
}

/// Fills `into` from `at`.
pub(super) fn read_exact(file: &File, into: &mut [u8], at: ByteOffset) -> Result<(), BlockError> {
    let length = into.len();
    step_through(length, at, |done, at| pread(file, &mut into[done..], at))
}

/// Writes all of `from` at `at`.
pub(super) fn write_exact(file: &File, from: &[u8], at: ByteOffset) -> Result<(), BlockError> {
    step_through(from.len(), at, |done, at| pwrite(file, &from[done..], at))
}

/// Fills `into` from `at` if that takes no waiting for the disk.
pub(super) fn read_if_in_memory(file: &File, into: &mut [u8], at: ByteOffset) -> Result<Glance, BlockError> {
    match read_without_waiting(file, into, at.get()) {
        Ok(count) if count == into.len() => Ok(Glance::Whole),
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(Glance::Partial),
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(Glance::Unsupported),
        Err(errno) => Err(errno.into()),
    }
}

/// Calls `transfer` with how far it has come and the place that this is, until all `length` bytes are done.
fn step_through(
    length: usize,
    at: ByteOffset,
    mut transfer: impl FnMut(usize, off_t) -> Result<usize, Errno>,
) -> Result<(), BlockError> {
    let start = off_t::try_from(at.get()).map_err(|_| BlockError::OutOfRange)?;
    let mut done = 0;
    while done < length {
        let place = off_t::try_from(done).ok().and_then(|done| start.checked_add(done));
        match transfer(done, place.ok_or(BlockError::OutOfRange)?) {
            Ok(0) => return Err(BlockError::System(Errno::EIO)),
            Ok(count) => done += count,
            Err(Errno::EINTR | Errno::EAGAIN) => (),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = Result<usize, Errno>;

    /// Steps through ten bytes at 100 with `answers`; what was asked, and how it ended.
    fn play(answers: &[Answer]) -> (Vec<(usize, off_t)>, Result<(), BlockError>) {
        let mut asked = Vec::new();
        let mut answers = answers.iter();
        let outcome = step_through(10, ByteOffset::new(100), |done, at| {
            asked.push((done, at));
            *answers.next().expect("no more is asked than the script answers")
        });
        (asked, outcome)
    }

    #[test]
    fn short_transfers_are_continued_where_they_stopped() {
        assert_eq!(play(&[Ok(3), Ok(6), Ok(1)]), (vec![(0, 100), (3, 103), (9, 109)], Ok(())));
    }

    #[test]
    fn an_interrupted_transfer_is_tried_again() {
        let answers = [Err(Errno::EINTR), Ok(4), Err(Errno::EAGAIN), Ok(6)];
        assert_eq!(play(&answers), (vec![(0, 100), (0, 100), (4, 104), (4, 104)], Ok(())));
    }

    #[test]
    fn no_progress_is_an_error() {
        assert_eq!(play(&[Ok(9), Ok(0)]).1, Err(BlockError::System(Errno::EIO)));
    }

    #[test]
    fn errors_are_sorted_by_what_can_be_done() {
        for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG] {
            assert_eq!(play(&[Err(errno)]).1, Err(BlockError::NoSpace(errno)));
        }
        assert_eq!(play(&[Ok(1), Err(Errno::ENXIO)]).1, Err(BlockError::System(Errno::ENXIO)));
        assert_eq!(play(&[Err(Errno::EROFS)]).1, Err(BlockError::ReadOnly));
    }

    #[test]
    fn a_place_that_the_kernel_cannot_name_is_out_of_range() {
        let never = |_, _| unreachable!("nothing is transferred");
        assert_eq!(step_through(1, ByteOffset::new(u64::MAX), never), Err(BlockError::OutOfRange));
    }

    #[test]
    fn zeros_longer_than_the_static_buffer_are_written_whole() {
        let file = tempfile::tempfile().expect("a file");
        write_exact(&file, &[7; 200_000], ByteOffset::ZERO).expect("writes");
        let extent = Extent::new(ByteOffset::new(1_000), ByteCount::new(150_000)).expect("small");
        Way::Cached(&file).write_zeros(extent).expect("writes");
        let mut bytes = vec![1; 200_000];
        read_exact(&file, &mut bytes, ByteOffset::ZERO).expect("reads");
        assert!(bytes[1_000..151_000].iter().all(|byte| *byte == 0));
        assert!(bytes[..1_000].iter().chain(&bytes[151_000..]).all(|byte| *byte == 7));
    }
}
