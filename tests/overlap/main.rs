//! READs that wait for a disk, many at once: over NBD, on files of a real disk, on whichever engine `ENVOL_IO` names. A
//! device that claims to have nothing in memory makes every READ wait.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "the shared supports hold more than is used here, and panic"
)]

mod layers;
mod reads;
mod refused;
#[path = "../protocol/support.rs"]
mod support;
#[path = "../format/support.rs"]
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use envol::block::file::{FileDevice, Space};
use envol::block::poison::Poison;
use envol::block::{
    BlockDevice, BlockDeviceExt, BlockError, Company, Durability, Fetch, Geometry, Io, Patience, Witness,
};
use envol::units::{ByteCount, ByteOffset, Extent};
use envol::volume::{CreateSpec, EncryptedDevice, Rollback};

use volumes::{FakeKms, ID, make, open_device, spec};

pub(crate) const VOLUME: u64 = 8 << 20;

/// A volume over a file on the disk, put together as an attachment does it; the file's path, too.
pub(crate) fn volume(directory: &tempfile::TempDir) -> (Arc<EncryptedDevice>, PathBuf) {
    let spec = CreateSpec { size: ByteCount::new(VOLUME), ..spec(ID) };
    let mut image = make(&spec);
    let path = directory.path().join("backing");
    let file = FileDevice::create(&path, ByteCount::new(image.len() as u64), Space::Thin).expect("made");
    file.write_at(ByteOffset::ZERO, &mut image, Durability::Cached).expect("written");
    let (verified, keys) = open_device(&file, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
    let backing: Arc<dyn BlockDevice> = Arc::new(Poison::new(file));
    (Arc::new(EncryptedDevice::new(backing, &verified, keys)), path)
}

/// A device that has nothing in memory: whoever cannot wait is sent away.
pub(crate) struct Cold {
    pub(crate) inner: Arc<EncryptedDevice>,
    pub(crate) fetched: Arc<AtomicU64>,
}

impl Cold {
    pub(crate) fn over(inner: Arc<EncryptedDevice>) -> (Self, Arc<AtomicU64>) {
        let fetched = Arc::new(AtomicU64::new(0));
        (Self { inner, fetched: Arc::clone(&fetched) }, fetched)
    }
}

impl BlockDevice for Cold {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        if patience == Patience::MayBlock {
            self.inner.submit(batch, patience, done);
        }
    }

    fn fetch(&self, extent: Extent, company: Company) -> Option<Fetch> {
        self.inner.fetch(extent, company)
    }

    fn fetched(
        &self,
        at: ByteOffset,
        bytes: &mut [u8],
        witness: Witness,
        read: Result<(), BlockError>,
    ) -> Option<Result<(), BlockError>> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        self.inner.fetched(at, bytes, witness, read)
    }
}

/// A directory on the disk: a file in memory has nothing to wait for.
pub(crate) fn on_disk() -> tempfile::TempDir {
    tempfile::TempDir::new_in("/var/tmp").expect("a temporary directory")
}
