//! `volume fill`: encrypted zeros into every hole of a thin volume, so that dm-crypt reads zeros there as well.

use crate::block::{BlockDeviceExt, BlockError, Durability};
use crate::units::{ByteCount, ByteOffset, Extent, PIECE};

use super::Progress;
use super::encrypted::EncryptedDevice;
use super::error::VolumeError;
use super::keys::is_zero;
use super::pieces::between;
use super::zeros::{WRITE_STEP, steps};

impl EncryptedDevice {
    /// Writes encrypted zeros into every piece of zero ciphertext, and syncs. The volume stays in use meanwhile, and stays
    /// thin: what is punched later is a hole again. In a thick volume there is nothing to do.
    ///
    /// # Errors
    /// [`VolumeError::Stopped`] where `progress` says so, or as the device says; what is done stays done.
    pub fn fill(&self, progress: Progress<'_>) -> Result<(), VolumeError> {
        let size = self.geometry.size;
        let all = Extent::new(ByteOffset::ZERO, size).expect("starts at zero");
        let mut buffer = vec![0; ByteCount::new(WRITE_STEP).in_memory()];
        for step in steps(all, WRITE_STEP).take_while(|_| !self.thick) {
            if !progress(ByteCount::new(step.start().get()), size) {
                return Err(VolumeError::Stopped);
            }
            self.fill_step(step, &mut buffer[..step.length().in_memory()])?;
        }
        progress(size, size);
        Ok(self.inner.flush()?)
    }

    /// Fills the holes of one step, which lies in one stripe. Nobody else touches it between its reading and its writing.
    fn fill_step(&self, step: Extent, ciphertext: &mut [u8]) -> Result<(), BlockError> {
        let _exclusive = self.stripes.exclude(step.start());
        self.inner.read_at(self.below(step.start()), ciphertext)?;
        let piece = ByteCount::new(PIECE).in_memory();
        let mut start = 0;
        while start < ciphertext.len() {
            let length = ciphertext[start..].chunks(piece).take_while(|piece| is_zero(piece)).count() * piece;
            let hole = &mut ciphertext[start..start + length];
            if !hole.is_empty() {
                let at = between(step.start().get() + start as u64, step.end().get()).start();
                self.keys.encrypt(at, hole)?;
                self.inner.write_at(self.below(at), hole, Durability::Cached)?;
            }
            start += length.max(piece);
        }
        Ok(())
    }
}
