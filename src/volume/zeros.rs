//! Zeros: WRITE_ZEROES, TRIM, and the encrypted zeros of thick volumes.
//!
//! In a thin volume zero ciphertext is plaintext zeros, so whole pieces are zeroed or punched below as they are. In a
//! thick one zeros are written, encrypted, and a TRIM changes nothing. Long work goes in steps, so no lock is held long.

use crate::block::{BlockDevice, BlockDeviceExt, BlockError, Durability, Effort, Op, Zeroing};
use crate::limits::ZERO_STEP;
use crate::units::{ByteCount, ByteOffset, Extent};

use super::encrypted::EncryptedDevice;
use super::keys::SectorKeys;
use super::pieces::{Cut, between};
use super::stripes::StripeSet;

/// Encrypted zeros are written so many at a time: they pass the processor's cache, and one stripe at the most.
pub(super) const WRITE_STEP: u64 = 256 << 10;

/// Writes encrypted zeros, through one buffer.
pub(super) struct Writer<'d> {
    device: &'d dyn BlockDevice,
    keys: &'d SectorKeys,
    data_offset: ByteOffset,
    buffer: Vec<u8>,
}

impl<'d> Writer<'d> {
    /// One for the volume whose data starts at `data_offset` of `device`.
    pub(super) fn new(device: &'d dyn BlockDevice, keys: &'d SectorKeys, data_offset: ByteOffset) -> Self {
        let buffer = vec![0; ByteCount::new(WRITE_STEP).in_memory()];
        Self { device, keys, data_offset, buffer }
    }

    /// Writes one step: whole pieces, at most [`WRITE_STEP`] bytes.
    pub(super) fn write(&mut self, step: Extent, how: Durability) -> Result<(), BlockError> {
        let zeros = &mut self.buffer[..step.length().in_memory()];
        zeros.fill(0);
        self.keys.encrypt(step.start(), zeros)?;
        let by = ByteCount::new(self.data_offset.get());
        let below = step.shifted(by).expect("a checked header leaves room for the data offset");
        self.device.write_at(below.start(), zeros, how)
    }
}

/// `extent` cut at the multiples of `unit`.
pub(super) fn steps(extent: Extent, unit: u64) -> impl Iterator<Item = Extent> {
    let mut at = extent.start().get();
    let end = extent.end().get();
    std::iter::from_fn(move || {
        let start = at;
        at = (start - start % unit).saturating_add(unit).min(end);
        (start < end).then(|| between(start, at))
    })
}

impl EncryptedDevice {
    /// Makes `extent` read as zeros. The whole pieces come first: where they cannot be had fast, nothing was changed yet
    /// in the first step.
    pub(super) fn make_zeros(
        &self,
        extent: Extent,
        zeroing: Zeroing,
        effort: Effort,
        durability: Durability,
    ) -> Result<(), BlockError> {
        let cut = Cut::of(extent);
        if self.thick {
            self.write_zeros(cut.whole, effort)?;
        } else {
            let cached = Durability::Cached;
            self.in_steps(cut.whole, |extent| Op::Zero { extent, zeroing, effort, durability: cached })?;
        }
        self.zero_part(cut.head)?;
        self.zero_part(cut.tail)?;
        self.settle(durability)
    }

    /// Punches the whole pieces of `extent`; what it covers in part stays.
    pub(super) fn discard(&self, extent: Extent, durability: Durability) -> Result<(), BlockError> {
        if self.thick {
            return Ok(());
        }
        self.in_steps(Cut::of(extent).whole, |extent| Op::Discard { extent, durability: Durability::Cached })?;
        self.settle(durability)
    }

    fn in_steps(&self, whole: Extent, op: impl Fn(Extent) -> Op<'static>) -> Result<(), BlockError> {
        for step in steps(whole, ZERO_STEP) {
            if self.keys.are_wiped() {
                return Err(BlockError::Detached);
            }
            let _shared = self.stripes.wait_to_share(StripeSet::of(step));
            self.inner.perform(op(self.extent_below(step)))?;
        }
        Ok(())
    }

    fn write_zeros(&self, whole: Extent, effort: Effort) -> Result<(), BlockError> {
        if whole.is_empty() {
            return Ok(());
        }
        if effort == Effort::FastOnly {
            return Err(BlockError::NotFast);
        }
        let mut writer = Writer::new(&*self.inner, &self.keys, self.below(ByteOffset::ZERO));
        for step in steps(whole, WRITE_STEP) {
            let _shared = self.stripes.wait_to_share(StripeSet::of(step));
            writer.write(step, Durability::Cached)?;
        }
        Ok(())
    }
}
