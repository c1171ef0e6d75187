//! Backings as attachments need them: opened and claimed, looked at, closed.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;

use super::attachment::Closable;
use super::{AttachError, Registry};
use crate::block::file::{Access, FileDevice, OpenError};
use crate::block::{BlockDevice, BlockError, Caching, Geometry, Io, Op, Patience, carry_out};
use crate::sync::Arc;
use crate::units::ByteCount;
use crate::volume::{Header, Record, Unverified};

/// A backing that is ours as long as this lives.
pub(super) struct Backing {
    pub(super) file: Arc<FileDevice>,
    /// The file, with the registry's layer over it.
    pub(super) device: Arc<dyn BlockDevice>,
}

impl Closable for Arc<FileDevice> {
    fn close(&self) {
        if let Err(error) = FileDevice::close(self) {
            tracing::error!(path = %self.path().display(), %error, "a backing stays claimed for as long as a client holds it");
        }
    }

    fn allocated(&self) -> Option<ByteCount> {
        FileDevice::allocated(self).ok()
    }
}

impl Registry {
    /// Opens and claims the backing of a known volume, where it still lies in an allowed place.
    pub(super) fn open_backing(
        &self,
        record: &Record,
        access: Access,
        caching: Caching,
    ) -> Result<Backing, AttachError> {
        let gone = || AttachError::BackingGone { name: record.name.clone(), path: record.backing.clone() };
        let path = self.placement.judge(&record.backing).map_err(|error| match error {
            AttachError::BadPath { source, .. } if source.kind() == io::ErrorKind::NotFound => gone(),
            other => other,
        })?;
        let file = FileDevice::open(&path, access).and_then(|file| match caching {
            Caching::PageCache => Ok(file),
            Caching::Direct => file.around_the_page_cache(),
        });
        let file = file.map_err(|error| match error {
            OpenError::NotFound(_) => gone(),
            other => AttachError::Backing(other),
        })?;
        Ok(self.layered(file))
    }

    pub(super) fn layered(&self, file: FileDevice) -> Backing {
        let file = Arc::new(file);
        let device: Arc<dyn BlockDevice> = Arc::clone(&file) as Arc<dyn BlockDevice>;
        Backing { file, device: (self.layer)(device) }
    }
}

/// What a look at a backing found, for people to read.
pub(super) struct Seen {
    /// Bytes that it takes.
    pub(super) allocated: Option<ByteCount>,
    pub(super) there: bool,
    pub(super) header: Option<Header>,
}

impl Seen {
    /// Of one that is open here.
    pub(super) const fn attached(allocated: Option<ByteCount>) -> Self {
        Self { allocated, there: true, header: None }
    }

    /// What lies at `path`; its header where nobody has read it yet.
    pub(super) fn at(path: &Path, unread: bool) -> Self {
        let there = path.exists();
        let header = (unread && there).then(|| glance(path).ok()).flatten();
        Self { allocated: allocated(path), there, header }
    }
}

/// Bytes that what lies at `path` takes; `None` where that cannot be said.
fn allocated(path: &Path) -> Option<ByteCount> {
    let metadata = path.metadata().ok()?;
    // st_blocks counts in 512 bytes, whatever the file system's block.
    let of_file = || ByteCount::new(metadata.blocks().saturating_mul(512));
    (!metadata.file_type().is_block_device()).then(of_file)
}

/// What the header at `path` says, without a claim: for people to read, nothing is decided by it.
pub(super) fn glance(path: &Path) -> Result<Header, AttachError> {
    let bad_path = |source| AttachError::BadPath { path: path.to_owned(), source };
    let mut options = File::options();
    // What is no storage is not waited for.
    let file = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(bad_path)?;
    let kind = file.metadata().map_err(bad_path)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(AttachError::Backing(OpenError::NotStorage(path.to_owned())));
    }
    let size = (&file).seek(SeekFrom::End(0)).map_err(bad_path)?;
    let header = Unverified::read(&Glance { file, size: ByteCount::new(size) });
    let unreadable = |source| AttachError::Unreadable { path: path.to_owned(), source: Box::new(source) };
    Ok(header.map_err(unreadable)?.header().clone())
}

/// A file that is only read, whoever else uses it.
struct Glance {
    file: File,
    size: ByteCount,
}

impl BlockDevice for Glance {
    fn geometry(&self) -> Geometry {
        Geometry {
            size: self.size,
            read_only: true,
            preferred: ByteCount::new(4096),
            punches: false,
            writes_wait: false,
        }
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], _patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        carry_out(self.geometry(), batch, done, |op| match op {
            Op::Read { at, into } => Some(
                self.file
                    .read_exact_at(into, at.get())
                    .map_err(|error| BlockError::System(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))),
            ),
            _ => Some(Err(BlockError::ReadOnly)),
        });
    }
}
