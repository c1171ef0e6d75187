//! Whether what was measured keeps what it is given: noise that follows from a seed is written, read back and compared,
//! and the backing is compared with it, which must hold none of it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use fastrand::Rng;

use super::{BenchError, PATIENCE};
use crate::block::{BlockDevice, BlockDeviceExt, Durability};
use crate::nbd::client::{Client, ClientError, NbdUri};
use crate::units::{ByteCount, ByteOffset, Extent, PIECE};

/// Bytes written or read at once.
const STEP: usize = 1 << 20;

/// Bytes that are compared with the backing at once: a piece, since holes are recognised by the piece.
const TELLING: usize = 512;
const _: () = assert!(TELLING as u64 == PIECE);

/// Something that keeps bytes.
pub trait Store {
    /// What it is called in errors.
    fn name(&self) -> &str;
    /// Writes `data`, whose content is not specified afterwards.
    ///
    /// # Errors
    /// Whatever failed.
    fn write(&mut self, at: ByteOffset, data: &mut [u8]) -> Result<(), BenchError>;
    /// Fills `into`.
    ///
    /// # Errors
    /// Whatever failed.
    fn read(&mut self, at: ByteOffset, into: &mut [u8]) -> Result<(), BenchError>;
}

/// A device of this process.
pub struct DeviceStore<'d> {
    /// Its name.
    pub name: &'static str,
    /// The device.
    pub device: &'d dyn BlockDevice,
}

/// An export.
pub struct ServerStore {
    name: String,
    client: Client,
}

/// Noise that a store is to keep.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// Which noise.
    pub seed: u64,
    /// How much of the store it covers, from the start.
    pub size: ByteCount,
}

/// Asked now and then whether to go on.
pub type GoOn<'g> = &'g dyn Fn() -> bool;

impl Noise {
    /// Writes all of it.
    ///
    /// # Errors
    /// Whatever failed, or [`BenchError::Stopped`].
    pub fn write_to(self, store: &mut dyn Store, go_on: GoOn<'_>) -> Result<(), BenchError> {
        self.each_step(go_on, |at, noise| store.write(at, noise))
    }

    /// Reads all of it back.
    ///
    /// # Errors
    /// [`BenchError::Lost`] where a byte is another, whatever failed, or [`BenchError::Stopped`].
    pub fn check_in(self, store: &mut dyn Store, go_on: GoOn<'_>) -> Result<(), BenchError> {
        let mut found = vec![0; STEP];
        self.each_step(go_on, |at, noise| {
            let found = &mut found[..noise.len()];
            store.read(at, found)?;
            let differs = found.iter().zip(&*noise).position(|(found, noise)| found != noise);
            match differs {
                None => Ok(()),
                Some(index) => Err(BenchError::Lost { rung: store.name().to_owned(), at: further(at, index) }),
            }
        })
    }

    /// Looks at the bytes behind the first `base` of `backing`, where the ciphertext of it must be.
    ///
    /// # Errors
    /// [`BenchError::NotEncrypted`] where a piece is the noise itself or zeros, or whatever failed.
    pub fn check_hidden_in(
        self,
        name: &str,
        backing: &File,
        base: ByteCount,
        go_on: GoOn<'_>,
    ) -> Result<(), BenchError> {
        let mut found = vec![0; STEP];
        self.each_step(go_on, |at, noise| {
            let found = &mut found[..noise.len()];
            let doing = "read the backing";
            let read = backing.read_exact_at(found, at.get() + base.get());
            read.map_err(|source| BenchError::System { doing, source })?;
            let mut pieces = found.chunks(TELLING).zip(noise.chunks(TELLING));
            match pieces.position(|(found, noise)| found == noise || found.iter().all(|byte| *byte == 0)) {
                None => Ok(()),
                Some(piece) => {
                    Err(BenchError::NotEncrypted { rung: name.to_owned(), at: further(at, piece * TELLING) })
                }
            }
        })
    }

    fn each_step(
        self,
        go_on: GoOn<'_>,
        mut with: impl FnMut(ByteOffset, &mut [u8]) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let mut noise = vec![0; STEP];
        for at in (0..self.size.get()).step_by(STEP) {
            if !go_on() {
                return Err(BenchError::Stopped);
            }
            let noise = &mut noise[..ByteCount::new((STEP as u64).min(self.size.get() - at)).in_memory()];
            Rng::with_seed(self.seed ^ at).fill(noise);
            with(ByteOffset::new(at), noise)?;
        }
        Ok(())
    }
}

fn further(at: ByteOffset, by: usize) -> ByteOffset {
    Extent::new(at, ByteCount::new(by as u64)).expect("within a buffer").end()
}

impl Store for DeviceStore<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn write(&mut self, at: ByteOffset, data: &mut [u8]) -> Result<(), BenchError> {
        let written = self.device.write_at(at, data, Durability::Cached);
        written.map_err(|source| BenchError::Block { rung: self.name, source })
    }

    fn read(&mut self, at: ByteOffset, into: &mut [u8]) -> Result<(), BenchError> {
        self.device.read_at(at, into).map_err(|source| BenchError::Block { rung: self.name, source })
    }
}

impl ServerStore {
    /// Connects to the export of `uri`, called `name` in errors.
    ///
    /// # Errors
    /// [`BenchError::Server`].
    pub fn connect(name: &str, uri: &NbdUri) -> Result<Self, BenchError> {
        let client = Client::enter(uri, Some(PATIENCE));
        let failed = |source| BenchError::Server { server: name.to_owned(), source };
        Ok(Self { name: name.to_owned(), client: client.map_err(failed)? })
    }

    /// Bytes in the export.
    pub fn size(&self) -> ByteCount {
        ByteCount::new(self.client.size())
    }

    /// Whether the export refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.client.is_read_only()
    }

    fn failed(&self, source: ClientError) -> BenchError {
        BenchError::Server { server: self.name.clone(), source }
    }
}

impl Store for ServerStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn write(&mut self, at: ByteOffset, data: &mut [u8]) -> Result<(), BenchError> {
        self.client.write(at.get(), data).map_err(|source| self.failed(source))
    }

    fn read(&mut self, at: ByteOffset, into: &mut [u8]) -> Result<(), BenchError> {
        self.client.read(at.get(), into).map_err(|source| self.failed(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::memory::MemoryDevice;

    const NOISE: Noise = Noise { seed: 7, size: ByteCount::new((3 << 20) + 5000) };

    fn store(device: &MemoryDevice) -> DeviceStore<'_> {
        DeviceStore { name: "memory", device }
    }

    #[test]
    fn a_single_byte_that_was_lost_is_found_and_named() {
        let device = MemoryDevice::new(ByteCount::new(4 << 20));
        NOISE.write_to(&mut store(&device), &|| true).expect("written");
        NOISE.check_in(&mut store(&device), &|| true).expect("kept");
        let place = ByteOffset::new((3 << 20) + 4999);
        let mut byte = [0];
        device.read_at(place, &mut byte).expect("read");
        device.write_at(place, &mut [!byte[0]], Durability::Cached).expect("written");
        let lost = NOISE.check_in(&mut store(&device), &|| true);
        assert!(matches!(lost, Err(BenchError::Lost { at, .. }) if at == place), "{lost:?}");
    }

    #[test]
    fn a_backing_in_clear_or_of_zeros_is_found() {
        let file = tempfile::tempfile().expect("a file");
        let device = MemoryDevice::new(ByteCount::new(4 << 20));
        NOISE.write_to(&mut store(&device), &|| true).expect("written");
        let base = ByteCount::new(512);
        let look = |bytes: &[u8]| {
            file.write_all_at(bytes, base.get()).expect("written");
            NOISE.check_hidden_in("memory", &file, base, &|| true)
        };
        let clear = device.contents();
        let hidden: Vec<u8> = clear.iter().map(|byte| byte ^ 0x5a).collect();
        look(&hidden).expect("hidden");
        let at = (1 << 20) + 1024;
        for piece in [&clear[at..at + 512], &[0; 512]] {
            let mut bytes = hidden.clone();
            bytes[at..at + 512].copy_from_slice(piece);
            let found = look(&bytes);
            assert!(matches!(found, Err(BenchError::NotEncrypted { at: place, .. }) if place.get() == at as u64));
        }
    }

    #[test]
    fn whoever_stops_is_heard() {
        let device = MemoryDevice::new(ByteCount::new(4 << 20));
        assert!(matches!(NOISE.write_to(&mut store(&device), &|| false), Err(BenchError::Stopped)));
    }
}
