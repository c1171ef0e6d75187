//! Transfers around the page cache (O_DIRECT): whole units of the file system, to and from memory at the start of a page.
//!
//! What lies elsewhere in memory goes through a buffer of the thread's own, and so do parts of units: a WRITE of one reads
//! the unit, changes the part and writes the unit back, alone; whole units are written side by side. What passes here is
//! ciphertext, so nothing is wiped.
//!
//! Invariant: no byte takes the way of the page cache. The kernel keeps cached and direct transfers apart by pages, not
//! by bytes: a page that one half was written to in the cache would put back what the other half was before.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::libc::O_DIRECT;

use super::transfer::{read_exact, write_exact};
use crate::block::BlockError;
use crate::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::sys::pages::Pages;
use crate::units::{ByteCount, ByteOffset, Extent};

/// What a disk may ask transfers to be a multiple of, smallest first. The header's first page is read in each to find out.
const UNITS: [usize; 4] = [512, 1024, 2048, 4096];

/// Memory is aligned to this where a transfer is to go straight: the largest unit, so it will do for each.
const PAGE: usize = 4096;

/// How much goes through a thread's buffer at once: as much as any request that comes with others in one buffer. A thread keeps
/// it for as long as it lives, beside what is charged to requests: a connection and its workers a mebibyte at the most.
const BOUNCED: usize = 64 << 10;

/// A second opening of a backing, around the page cache.
#[derive(Debug)]
pub(super) struct Direct {
    pub(super) file: Arc<File>,
    /// What places and lengths are multiples of.
    unit: usize,
    /// Held alone by whoever changes a part of a unit, by all other changes together.
    parts: RwLock<()>,
}

/// Why a backing cannot be used around the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDirect {
    /// The file system has no such thing.
    #[error("its file system cannot read and write it around the page cache ({0})")]
    Unsupported(Errno),
    /// Its last unit would be cut.
    #[error("its size is no multiple of {unit} bytes, the unit in which its disk reads and writes")]
    Uneven {
        /// The unit.
        unit: usize,
    },
}

/// Keeps changes of parts of a unit and other changes apart.
pub(super) enum Held<'d> {
    /// Whole units: others may be changed meanwhile.
    Shared { _guard: RwLockReadGuard<'d, ()> },
    /// A part.
    Alone { _guard: RwLockWriteGuard<'d, ()> },
}

thread_local! {
    static BOUNCE: RefCell<Pages> = const { RefCell::new(Pages::none()) };
}

impl Direct {
    /// Opens what `file` is once more, for writing too where `writable`.
    pub(super) fn reopen(file: &File, size: ByteCount, writable: bool) -> Result<Self, NotDirect> {
        let unsupported = |error: io::Error| NotDirect::Unsupported(errno_of(&error));
        let mut options = OpenOptions::new();
        options.read(true).write(writable).custom_flags(O_DIRECT);
        let file = options.open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(unsupported)?;
        let unit = probe(&file)?;
        if !size.get().is_multiple_of(unit as u64) {
            return Err(NotDirect::Uneven { unit });
        }
        Ok(Self { file: Arc::new(file), unit, parts: RwLock::new(()) })
    }

    /// Whether `extent` is whole units.
    pub(super) fn is_whole(&self, extent: Extent) -> bool {
        extent.is_aligned(self.unit as u64)
    }

    /// To be held while `extent` is changed.
    pub(super) fn hold(&self, extent: Extent) -> Held<'_> {
        if self.is_whole(extent) {
            Held::Shared { _guard: self.parts.read() }
        } else {
            Held::Alone { _guard: self.parts.write() }
        }
    }

    /// Fills `into` from `at`.
    pub(super) fn read(&self, into: &mut [u8], at: ByteOffset) -> Result<(), BlockError> {
        if self.goes_straight(into, at) {
            return read_exact(&self.file, into, at);
        }
        self.through_the_bounce(at, into.len(), |window, part, done| {
            read_exact(&self.file, window.bytes, window.at)?;
            into[done..done + part.len()].copy_from_slice(&window.bytes[part]);
            Ok(())
        })
    }

    /// Writes all of `from` at `at`.
    pub(super) fn write(&self, from: &[u8], at: ByteOffset) -> Result<(), BlockError> {
        let extent = Extent::new(at, ByteCount::of(from)).ok_or(BlockError::OutOfRange)?;
        let _held = self.hold(extent);
        if self.goes_straight(from, at) {
            return write_exact(&self.file, from, at);
        }
        self.through_the_bounce(at, from.len(), |window, part, done| {
            if part != (0..window.bytes.len()) {
                read_exact(&self.file, window.bytes, window.at)?;
            }
            let length = part.len();
            window.bytes[part].copy_from_slice(&from[done..done + length]);
            write_exact(&self.file, window.bytes, window.at)
        })
    }

    fn goes_straight(&self, bytes: &[u8], at: ByteOffset) -> bool {
        let whole = Extent::new(at, ByteCount::of(bytes)).is_some_and(|extent| self.is_whole(extent));
        whole && bytes.as_ptr().addr().is_multiple_of(PAGE)
    }

    /// Covers `length` bytes at `at` with windows of whole units, each in the thread's buffer: calls `step` with the window,
    /// which of its bytes are meant, and how many have been before.
    fn through_the_bounce(
        &self,
        at: ByteOffset,
        length: usize,
        mut step: impl FnMut(Window<'_>, std::ops::Range<usize>, usize) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        BOUNCE.with_borrow_mut(|bounce| {
            if bounce.bytes().is_empty() {
                *bounce = Pages::map(BOUNCED).map_err(BlockError::System)?;
            }
            let mut done = 0;
            while done < length {
                let place = at.checked_add(ByteCount::new(done as u64)).ok_or(BlockError::OutOfRange)?;
                let lead = usize::try_from(place.get() % self.unit as u64).expect("less than a unit");
                let taken = (length - done).min(BOUNCED - lead);
                let whole = (lead + taken).next_multiple_of(self.unit);
                let start = ByteOffset::new(place.get() - lead as u64);
                step(Window { at: start, bytes: &mut bounce.bytes_mut()[..whole] }, lead..lead + taken, done)?;
                done += taken;
            }
            Ok(())
        })
    }
}

/// Whole units of the backing.
struct Window<'b> {
    at: ByteOffset,
    bytes: &'b mut [u8],
}

/// The smallest unit in which the start can be read, where every backing has its header.
fn probe(file: &File) -> Result<usize, NotDirect> {
    let mut page = Pages::map(PAGE).map_err(NotDirect::Unsupported)?;
    let mut refused = Errno::EINVAL;
    for unit in UNITS {
        match nix::sys::uio::pread(file, &mut page.bytes_mut()[..unit], 0) {
            Ok(_) => return Ok(unit),
            Err(errno) => refused = errno,
        }
    }
    Err(NotDirect::Unsupported(refused))
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
