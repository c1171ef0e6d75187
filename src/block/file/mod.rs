//! A backing that the kernel keeps: a regular file or a block device, opened for this process alone.
//!
//! All I/O is positional and synchronous, through the page cache unless [`FileDevice::around_the_page_cache`] was asked
//! for (`direct`). A mutation is reported once the kernel has it, a durable
//! one once a sync has ended that started after it; syncs are shared (`flush`). Where a caller cannot wait, reads
//! that are in memory and cached writes are carried out, everything else is handed back.
//!
//! Invariants: no byte is touched that the claim does not cover; nothing is allocated on the way of a read or a write.

mod claim;
mod direct;
mod holder;
mod runs;
mod transfer;
mod zero;

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::libc;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use self::claim::{Claim, about};
use self::direct::Direct;
use self::transfer::{Glance, Way, read_exact, read_if_in_memory, write_exact};
use self::zero::Zeroer;
use super::engine::{self, Engine};
use super::flush::SharedSync;
use super::{
    Allocation, BlockDevice, BlockError, Company, Durability, Fetch, Geometry, Io, Op, Patience, Run, Witness,
    carry_out,
};
use crate::sync::Arc;
use crate::sync::atomic::AtomicBool;
use crate::sys::{closing, storage};
use crate::units::{ByteCount, ByteOffset, Extent};

pub use self::claim::OpenError;
pub use self::direct::NotDirect;
pub use self::holder::Holder;

/// The page cache's unit.
const PREFERRED: ByteCount = ByteCount::new(4096);

/// What a backing is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing, alone.
    ReadWrite,
    /// Reading; others may read too.
    ReadOnly,
}

/// How a new file gets its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// As it is written.
    Thin,
    /// At once, where the file system can.
    Thick,
}

/// Which object a backing is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A file.
    File {
        /// Its file system's device number.
        device: u64,
        /// Its inode.
        inode: u64,
    },
    /// A block device, by its number.
    Device(u64),
}

/// A file or block device, claimed.
#[derive(Debug)]
pub struct FileDevice {
    path: PathBuf,
    claim: Claim,
    /// The same file, opened again for reads of many at once, which the kernel does not read ahead for.
    scattered: Arc<File>,
    /// The same file once more, around the page cache: the way of all bytes where it is there.
    direct: Option<Direct>,
    geometry: Geometry,
    zeroer: Zeroer,
    reading: Reading,
    sync: SharedSync,
}

/// What is known of reads that must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// The kernel can tell whether a read would wait.
    Telling,
    /// The bytes are always in memory.
    Resident,
    /// Neither: a read may wait.
    Unknown,
}

impl FileDevice {
    /// Makes a file of `size` zero bytes, mode 0600, that did not exist; durably so.
    ///
    /// # Errors
    /// [`OpenError`]; no file is left behind then.
    pub fn create(path: &Path, size: ByteCount, space: Space) -> Result<Self, OpenError> {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path).map_err(about(path))?;
        Self::furnish(path, file, size, space).inspect_err(|_| {
            // The error that is on its way says more than one of this removal could.
            let _ = fs::remove_file(path);
        })
    }

    fn furnish(path: &Path, file: File, size: ByteCount, space: Space) -> Result<Self, OpenError> {
        let claim = claim::claim_new(path, file)?;
        claim.file.set_len(size.get()).map_err(about(path))?;
        if space == Space::Thick && size != ByteCount::ZERO {
            preallocate(&claim.file, size).map_err(|errno| about(path)(errno.into()))?;
        }
        claim.file.sync_all().map_err(about(path))?;
        sync_directory_of(path).map_err(about(path))?;
        Self::over(path, claim, Access::ReadWrite)
    }

    /// Opens what is at `path` and claims it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, access: Access) -> Result<Self, OpenError> {
        Self::over(path, claim::open(path, access)?, access)
    }

    fn over(path: &Path, claim: Claim, access: Access) -> Result<Self, OpenError> {
        let system = |errno: Errno| about(path)(errno.into());
        let read_only = access == Access::ReadOnly;
        let (size, zeroer, punches) = if claim.metadata.file_type().is_block_device() {
            let unit = storage::device_logical_block(&claim.file).map_err(system)?;
            let offloads = device_offloads_zeroing(claim.metadata.rdev());
            (
                storage::device_size(&claim.file).map_err(system)?,
                Zeroer::Device { unit, offloads: AtomicBool::new(offloads) },
                offloads,
            )
        } else {
            let size = claim.file.metadata().map_err(about(path))?.len();
            (size, Zeroer::File, !read_only && can_punch(&claim.file, size))
        };
        let reading = Reading::probe(&claim.file).map_err(system)?;
        let geometry =
            Geometry { size: ByteCount::new(size), read_only, preferred: PREFERRED, punches, writes_wait: false };
        // Without /proc there is one opening for all reads.
        let scattered = claim.reopened_for_scattered_reads().map_or_else(|_| Arc::clone(&claim.file), Arc::new);
        Ok(Self {
            path: path.to_owned(),
            claim,
            scattered,
            direct: None,
            geometry,
            zeroer,
            reading,
            sync: SharedSync::new(),
        })
    }

    /// The same device, which leaves the page cache alone from now on: what it reads and writes goes straight between
    /// the caller's memory and the disk (O_DIRECT). Any alignment still works; memory at the start of a page and places
    /// in units of the disk's are not copied.
    ///
    /// # Errors
    /// [`OpenError::NotDirect`].
    pub fn around_the_page_cache(mut self) -> Result<Self, OpenError> {
        let Geometry { size, read_only, .. } = self.geometry;
        let direct = Direct::reopen(&self.claim.file, size, !read_only);
        self.direct = Some(direct.map_err(|source| OpenError::NotDirect { path: self.path.clone(), source })?);
        self.reading = Reading::Unknown;
        self.geometry.writes_wait = true;
        Ok(self)
    }

    fn way(&self) -> Way<'_> {
        self.direct.as_ref().map_or(Way::Cached(&self.claim.file), Way::Direct)
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        self.claim.metadata.file_type().is_block_device()
    }

    /// Which object it is.
    pub fn identity(&self) -> Identity {
        let metadata = &self.claim.metadata;
        if self.is_block_device() {
            Identity::Device(metadata.rdev())
        } else {
            Identity::File { device: metadata.dev(), inode: metadata.ino() }
        }
    }

    /// How much space it takes; all of it for a block device.
    ///
    /// # Errors
    /// As the system says.
    pub fn allocated(&self) -> Result<ByteCount, BlockError> {
        if self.is_block_device() {
            return Ok(self.geometry.size);
        }
        let metadata = self.claim.file.metadata().map_err(|error| system_error(&error))?;
        // st_blocks counts in 512 bytes, whatever the file system's block.
        Ok(ByteCount::new(metadata.blocks().saturating_mul(512)))
    }

    /// Whether the path still leads to it: a file may have been removed, renamed or replaced while it was open.
    pub fn is_still_in_place(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|now| {
            let was = &self.claim.metadata;
            (now.dev(), now.ino(), now.rdev()) == (was.dev(), was.ino(), was.rdev())
        })
    }

    /// Makes the kernel forget what it could not write: after a failed sync it may keep such pages as if they were on the
    /// disk. To be called before anything is read from a backing whose last sync failed.
    ///
    /// # Errors
    /// Where the backing cannot be synced even now.
    pub fn forget_unwritten(&self) -> Result<(), BlockError> {
        let file = &self.claim.file;
        // The first sync may still report the old failure, which is known; the second speaks of today.
        let synced = nix::unistd::fdatasync(file).or_else(|_| nix::unistd::fdatasync(file));
        synced.map_err(BlockError::System)?;
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(BlockError::System)
    }

    /// Closes it although others still point at it: the claim ends, and every later operation fails. Nothing may be in
    /// flight.
    ///
    /// # Errors
    /// Where there is no descriptor to spare; the claim lasts until the device is dropped then.
    pub fn close(&self) -> Result<(), BlockError> {
        let mut openings = self.direct.iter().map(|direct| &direct.file).chain([&self.scattered]);
        let closed = openings.try_for_each(|file| closing::close_in_place(file));
        closed.and_then(|()| self.claim.close()).map_err(BlockError::System)
    }

    /// What needs no waiting; `None` for the rest.
    fn try_now(&self, op: &mut Op<'_>) -> Option<Result<(), BlockError>> {
        let file = &self.claim.file;
        match op {
            Op::Read { at, into } => self.try_read(*at, into),
            Op::Write { durability: Durability::Cached, .. } if self.geometry.writes_wait => None,
            Op::Write { at, from, durability: Durability::Cached } => Some(write_exact(file, from, *at)),
            _ => None,
        }
    }

    fn try_read(&self, at: ByteOffset, into: &mut [u8]) -> Option<Result<(), BlockError>> {
        match self.reading {
            Reading::Telling => match read_if_in_memory(&self.claim.file, into, at) {
                Ok(Glance::Whole) => Some(Ok(())),
                Ok(Glance::Partial | Glance::Unsupported) => None,
                Err(error) => Some(Err(error)),
            },
            Reading::Resident => Some(read_exact(&self.claim.file, into, at)),
            Reading::Unknown => None,
        }
    }

    /// Everything but the sync; `None` where one is owed.
    fn perform(&self, op: &mut Op<'_>) -> Option<Result<(), BlockError>> {
        let way = self.way();
        let outcome = match op {
            Op::Read { at, into } => way.read(into, *at),
            Op::Write { at, from, .. } => way.write(from, *at),
            // Nothing was written through this descriptor.
            Op::Flush if self.geometry.read_only => Ok(()),
            Op::Flush => return None,
            Op::Zero { extent, zeroing, effort, .. } => self.zeroer.zero(way, *extent, *zeroing, *effort),
            Op::Discard { extent, .. } => self.zeroer.discard(way, *extent),
            Op::Extents { extent, into, most } if self.is_block_device() => {
                Run { length: extent.length(), allocation: Allocation::Data }.append(into, *most);
                Ok(())
            }
            Op::Extents { extent, into, most } => runs::describe(way.file(), *extent, into, *most),
        };
        let owes_sync = op.durability() == Some(Durability::Durable) && outcome.is_ok();
        (!owes_sync).then_some(outcome)
    }
}

impl BlockDevice for FileDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        if patience == Patience::TryNow {
            return carry_out(self.geometry, batch, done, |op| self.try_now(op));
        }
        carry_out(self.geometry, batch, done, |op| self.perform(op));
        // What is left owes a sync: one for all of the batch, since it starts after all of it.
        if batch.iter().any(|io| io.outcome().is_none()) {
            let synced = self.sync.flush(|| nix::unistd::fdatasync(&self.claim.file));
            for io in batch.iter_mut().filter(|io| io.outcome().is_none()) {
                io.complete(synced);
                done(io);
            }
        }
    }

    fn fetch(&self, extent: Extent, company: Company) -> Option<Fetch> {
        if engine::chosen() != Engine::IoUring || self.reading == Reading::Resident || !extent.fits(self.geometry.size)
        {
            return None;
        }
        let file = match (&self.direct, company) {
            (Some(direct), _) => direct.is_whole(extent).then_some(&direct.file)?,
            (None, Company::Alone) => &self.claim.file,
            (None, Company::Many) => &self.scattered,
        };
        Some(Fetch { file: Arc::clone(file), at: extent.start(), witness: Witness::default() })
    }

    fn fetched(
        &self,
        _at: ByteOffset,
        _bytes: &mut [u8],
        _witness: Witness,
        read: Result<(), BlockError>,
    ) -> Option<Result<(), BlockError>> {
        Some(read)
    }
}

impl Reading {
    fn probe(file: &File) -> Result<Self, Errno> {
        match read_if_in_memory(file, &mut [0], ByteOffset::ZERO) {
            Ok(Glance::Whole | Glance::Partial) | Err(_) => Ok(Self::Telling),
            Ok(Glance::Unsupported) if fstatfs(file)?.filesystem_type() == TMPFS_MAGIC => Ok(Self::Resident),
            Ok(Glance::Unsupported) => Ok(Self::Unknown),
        }
    }
}

fn preallocate(file: &File, size: ByteCount) -> Result<(), Errno> {
    let length = libc::off_t::try_from(size.get()).map_err(|_| Errno::EFBIG)?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        other => other,
    }
}

/// Makes the name of a new file as durable as the file.
fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Whether the file system makes holes: tried behind the end of the file, where nothing can be lost.
fn can_punch(file: &File, size: u64) -> bool {
    let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let behind = size.checked_next_multiple_of(PREFERRED.get()).and_then(|end| libc::off_t::try_from(end).ok());
    behind.is_some_and(|behind| fallocate(file, mode, behind, 4096).is_ok())
}

/// Whether a block device (or the one that it is a partition of) makes zeros without being sent them.
fn device_offloads_zeroing(device: libc::dev_t) -> bool {
    let place = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
    let limit = ["queue", "../queue"]
        .into_iter()
        .find_map(|queue| fs::read_to_string(Path::new(&place).join(queue).join("write_zeroes_max_bytes")).ok());
    limit.is_some_and(|bytes| bytes.trim() != "0")
}

fn system_error(error: &std::io::Error) -> BlockError {
    BlockError::System(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}
