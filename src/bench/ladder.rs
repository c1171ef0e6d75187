//! The lower rungs, on a volume of their own: cipher, backing file, volume core.
//!
//! The volume is made as the daemon makes one: a data key from an embedded KMS, a header, poison between cipher and
//! file. Backing file and volume core use the same file, so that they meet the same pages and the same disk.

use std::fs::{File, create_dir};
use std::path::Path;
use std::time::SystemTime;

use super::rungs::{CipherRung, DeviceRung, Rung};
use super::verify::{DeviceStore, GoOn, Noise};
use super::{BenchError, machine};
use crate::block::BlockDevice;
use crate::block::file::{FileDevice, Space};
use crate::block::poison::Poison;
use crate::crypto::random;
use crate::kms::embedded::{Embedded, Identity};
use crate::kms::{KeyName, Kms, Principal};
use crate::names::VolumeId;
use crate::sync::Arc;
use crate::units::{ByteCount, SectorSize};
use crate::volume::{self, CreateSpec, EncryptedDevice, Rollback, Unverified};

/// The unit of encryption that is measured: the default of new volumes.
pub const SECTORS: SectorSize = SectorSize::B4096;

/// Bytes under one XTS key: all of the volume.
const SCOPE: ByteCount = ByteCount::new(1 << 40);

const ACCOUNT: &str = "000000000000";
const FILE: &str = "backing file";
const CORE: &str = "volume core";

/// A volume in a directory of its own, open.
pub struct Ladder {
    file: Arc<FileDevice>,
    core: Arc<EncryptedDevice>,
    base: ByteCount,
    size: ByteCount,
}

impl Ladder {
    /// Makes a volume of `size` in `dir`, which must be empty, and opens it.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn make(dir: &Path, size: ByteCount) -> Result<Self, BenchError> {
        let caller = Principal::new(format!("arn:aws:iam::{ACCOUNT}:root"));
        let identity = Identity { account: ACCOUNT.to_owned(), region: "us-east-1".to_owned() };
        let kms = Embedded::open(&dir.join("kms"), &dir.join("domain.key"), identity, Arc::new(SystemTime::now))?;
        let key: KeyName = kms.create_key(&caller, "envol bench", None)?.arn.into();
        let backing = volume::backing_size(size).expect("the size is far from the largest");
        let file = Arc::new(FileDevice::create(&dir.join("volume"), backing, Space::Thin)?);
        let core = open_new(&file, &kms, &caller, spec(size, key))?;
        let base = backing.checked_sub(size).expect("a backing is longer than its volume");
        Ok(Self { file, core: Arc::new(core), base, size })
    }

    /// Fills the volume with noise, reads it back, and looks for it in the backing.
    ///
    /// # Errors
    /// [`BenchError::Lost`], [`BenchError::NotEncrypted`], whatever failed, or [`BenchError::Stopped`].
    pub fn fill(&self, noise: Noise, go_on: GoOn<'_>) -> Result<(), BenchError> {
        let mut store = DeviceStore { name: CORE, device: &*self.core };
        noise.write_to(&mut store, go_on)?;
        noise.check_in(&mut store, go_on)?;
        let file = File::open(self.file.path());
        let file = file.map_err(|source| BenchError::System { doing: "open the backing", source })?;
        noise.check_hidden_in(CORE, &file, self.base, go_on)
    }

    /// What part of the backing is in memory; `None` where the file system cannot tell.
    pub fn in_memory(&self) -> Option<f64> {
        machine::in_memory(&*self.file, self.base, self.size)
    }

    /// Where data starts in a backing.
    pub fn base(&self) -> ByteCount {
        self.base
    }

    /// Cipher, file and core.
    ///
    /// # Errors
    /// No locked memory for the cipher's key.
    pub fn rungs(&self) -> Result<[Box<dyn Rung>; 3], BenchError> {
        let file: Arc<dyn BlockDevice> = Arc::<FileDevice>::clone(&self.file);
        let core: Arc<dyn BlockDevice> = Arc::<EncryptedDevice>::clone(&self.core);
        Ok([
            Box::new(CipherRung::new(SECTORS, self.size)?),
            Box::new(DeviceRung::new(FILE, file, self.base, self.size)),
            Box::new(DeviceRung::new(CORE, core, ByteCount::ZERO, self.size)),
        ])
    }
}

fn spec(size: ByteCount, key: KeyName) -> CreateSpec {
    let mut id = [0; 9];
    random::fill(&mut id);
    CreateSpec {
        id: VolumeId::from_random(id),
        name: "bench".parse().expect("a good name"),
        size,
        sector_size: SECTORS,
        scope: SCOPE,
        thick: false,
        kms: "embedded".to_owned(),
        key,
    }
}

fn open_new(
    file: &Arc<FileDevice>,
    kms: &dyn Kms,
    caller: &Principal,
    spec: CreateSpec,
) -> Result<EncryptedDevice, BenchError> {
    volume::create(&**file, kms, caller, &spec, &mut |_, _| true)?;
    let unverified = Unverified::read(&**file)?;
    let data_key = unverified.unwrap_key(kms, caller)?;
    let (verified, keys) = unverified.verify(data_key, None, Rollback::Refuse)?;
    Ok(EncryptedDevice::new(Arc::new(Poison::new(Arc::clone(file))), &verified, keys))
}

/// A new directory called `name` in `parent`, for this user alone.
///
/// # Errors
/// As the system says.
pub fn subdirectory(parent: &Path, name: &str) -> Result<std::path::PathBuf, BenchError> {
    let path = parent.join(name);
    create_dir(&path).map_err(|source| BenchError::System { doing: "make a directory", source })?;
    Ok(path)
}
