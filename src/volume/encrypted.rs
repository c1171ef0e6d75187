//! The decrypted view of a volume: a [`BlockDevice`] of plaintext over one of header and ciphertext.
//!
//! The straight way (this file) is for reads and writes of whole 512-byte pieces: a write is encrypted in its own buffer
//! and a read decrypted in its own, the batch goes on to the inner device as it is, and nothing is allocated. Parts of
//! pieces are `pieces`' work, zeros and TRIM `zeros`', block status `extents`'. Which locks are held is told in `stripes`.
//!
//! Keys are in use only while the processor ciphers, never while the disk works: so wiping them waits for no disk.

use crate::block::{BlockDevice, BlockError, Company, Durability, Fetch, Geometry, Io, Op, Patience, Witness};
use crate::sync::Arc;
use crate::units::{ByteCount, ByteOffset, Extent, PIECE};

use super::keys::{SectorKeys, Wiped};
use super::open::Verified;
use super::stripes::{StripeSet, Stripes};

/// The decrypted view: reads and writes plaintext over an inner device that holds header and ciphertext.
pub struct EncryptedDevice {
    pub(super) inner: Arc<dyn BlockDevice>,
    pub(super) keys: SectorKeys,
    pub(super) stripes: Stripes,
    /// Whether zero ciphertext is ciphertext like any other.
    pub(super) thick: bool,
    /// Where data starts on the inner device.
    data_offset: ByteCount,
    pub(super) geometry: Geometry,
}

impl EncryptedDevice {
    /// The plaintext of the volume on `inner` (header and ciphertext; poison and file below it).
    pub fn new(inner: Arc<dyn BlockDevice>, volume: &Verified, keys: SectorKeys) -> Self {
        let header = volume.header();
        let below = inner.geometry();
        let geometry = Geometry {
            size: header.size,
            read_only: below.read_only || volume.check_writable().is_err(),
            preferred: below.preferred.max(ByteCount::new(header.sector_size.bytes())),
            punches: below.punches && !header.thick,
            writes_wait: below.writes_wait,
        };
        let data_offset = ByteCount::new(header.data_offset.get());
        Self { inner, keys, stripes: Stripes::new(), thick: header.thick, data_offset, geometry }
    }

    /// Wipes the sector keys: waits for the cipher to be idle (never for the disk); later I/O answers [`BlockError::Detached`].
    pub fn wipe_keys(&self) {
        self.keys.wipe();
    }

    /// Where on the inner device the byte at `at` of the volume lies.
    pub(super) fn below(&self, at: ByteOffset) -> ByteOffset {
        at.checked_add(self.data_offset).expect("a checked header leaves room for the data offset")
    }

    /// Where on the inner device `extent` of the volume lies.
    pub(super) fn extent_below(&self, extent: Extent) -> Extent {
        extent.shifted(self.data_offset).expect("a checked header leaves room for the data offset")
    }

    /// Turns ciphertext of whole pieces at `at` into plaintext.
    pub(super) fn decrypt(&self, at: ByteOffset, data: &mut [u8]) -> Result<(), Wiped> {
        if self.thick { self.keys.decrypt(at, data) } else { self.keys.decrypt_thin(at, data) }
    }

    /// Whether `io` can go to the inner device as it is, but for the cipher.
    fn goes_straight(&self, io: &Io<'_>, patience: Patience) -> bool {
        let whole_pieces = match &io.op {
            Op::Read { at, into } => at.is_aligned(PIECE) && ByteCount::of(into).is_aligned(PIECE),
            // What waits for the disk would be encrypted only to be decrypted again.
            Op::Write { durability, .. } if patience == Patience::TryNow && self.would_wait(*durability) => false,
            Op::Write { at, from, .. } => at.is_aligned(PIECE) && ByteCount::of(from).is_aligned(PIECE),
            Op::Flush => patience == Patience::MayBlock,
            Op::Zero { .. } | Op::Discard { .. } | Op::Extents { .. } => false,
        };
        io.outcome().is_some() || whole_pieces && self.geometry.admits(&io.op).is_ok()
    }

    fn would_wait(&self, durability: Durability) -> bool {
        durability == Durability::Durable || self.geometry.writes_wait
    }

    fn submit_straight<'b>(&self, ios: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        let touched = unanswered(ios).filter_map(|io| extent_of(&io.op)).map(StripeSet::of);
        let touched = touched.fold(StripeSet::NONE, StripeSet::with);
        let Some(_shared) = self.stripes.share(touched, patience) else { return };
        for io in unanswered(ios) {
            if self.lower(&mut io.op).is_err() {
                io.complete(Err(BlockError::Detached));
                done(io);
            }
        }
        self.inner.submit(ios, patience, &mut |io| {
            if self.raise(io).is_err() {
                io.complete(Err(BlockError::Detached));
            }
            done(io);
        });
        for io in unanswered(ios) {
            if self.put_back(&mut io.op).is_err() {
                io.complete(Err(BlockError::Detached));
                done(io);
            }
        }
    }

    /// Turns an operation on the volume into one on the inner device. Where that fails it is left as it was.
    fn lower(&self, op: &mut Op<'_>) -> Result<(), Wiped> {
        match op {
            Op::Write { at, from, .. } => {
                self.keys.encrypt(*at, from)?;
                *at = self.below(*at);
            }
            Op::Read { at, .. } => *at = self.below(*at),
            _ => (),
        }
        Ok(())
    }

    /// Turns a completed operation on the inner device into one on the volume.
    fn raise(&self, io: &mut Io<'_>) -> Result<(), Wiped> {
        let arrived = io.outcome() == Some(Ok(()));
        match &mut io.op {
            Op::Write { at, .. } => *at = self.above(*at),
            Op::Read { at, into } => {
                *at = self.above(*at);
                if arrived {
                    self.decrypt(*at, into)?;
                }
            }
            _ => (),
        }
        Ok(())
    }

    /// Undoes [`Self::lower`] for an operation that the inner device left alone. What was encrypted is decrypted without
    /// a look at zeros, so every plaintext comes back.
    fn put_back(&self, op: &mut Op<'_>) -> Result<(), Wiped> {
        match op {
            Op::Write { at, from, .. } => {
                *at = self.above(*at);
                self.keys.decrypt(*at, from)?;
            }
            Op::Read { at, .. } => *at = self.above(*at),
            _ => (),
        }
        Ok(())
    }

    fn above(&self, at: ByteOffset) -> ByteOffset {
        let within =
            at.since(ByteOffset::new(self.data_offset.get())).expect("the inner device gives places back as they were");
        ByteOffset::new(within.get())
    }

    /// What takes more than the cipher.
    fn perform(&self, op: &mut Op<'_>) -> Result<(), BlockError> {
        self.geometry.admits(op)?;
        match op {
            Op::Read { at, into } => self.read_parts(*at, into),
            Op::Write { at, from, durability } => self.write_parts(*at, from, *durability),
            Op::Zero { extent, zeroing, effort, durability } => {
                self.make_zeros(*extent, *zeroing, *effort, *durability)
            }
            Op::Discard { extent, durability } => self.discard(*extent, *durability),
            Op::Extents { extent, into, most } => self.describe(*extent, into, *most),
            Op::Flush => unreachable!("a flush goes straight on"),
        }
    }
}

impl BlockDevice for EncryptedDevice {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        if self.keys.are_wiped() {
            for io in unanswered(batch) {
                io.complete(Err(BlockError::Detached));
                done(io);
            }
            return;
        }
        let mut left = batch;
        while !left.is_empty() {
            let straight = left.iter().take_while(|io| self.goes_straight(io, patience)).count();
            let (ios, rest) = left.split_at_mut(straight);
            if !ios.is_empty() {
                self.submit_straight(ios, patience, done);
            }
            let Some((io, rest)) = rest.split_first_mut() else { return };
            // Several steps on the disk, or a sync: never without waiting.
            if patience == Patience::MayBlock {
                let outcome = self.perform(&mut io.op);
                io.complete(outcome);
                done(io);
            }
            left = rest;
        }
    }

    fn fetch(&self, extent: Extent, company: Company) -> Option<Fetch> {
        self.fetch_straight(extent, company)
    }

    fn fetched(
        &self,
        at: ByteOffset,
        bytes: &mut [u8],
        witness: Witness,
        read: Result<(), BlockError>,
    ) -> Option<Result<(), BlockError>> {
        // A read that failed is no secret's business; but it, too, may have to be read again by the device below.
        match self.inner.fetched(self.below(at), bytes, Witness::default(), read)? {
            Ok(()) => self.finish_fetched(at, bytes, witness),
            failed => Some(failed),
        }
    }
}

/// Reads that are carried out elsewhere. What holds the stripes for other reads, their counts do for these.
impl EncryptedDevice {
    fn fetch_straight(&self, extent: Extent, company: Company) -> Option<Fetch> {
        if !extent.is_aligned(PIECE) || !extent.fits(self.geometry.size) || self.keys.are_wiped() {
            return None;
        }
        let changes = self.stripes.changes(StripeSet::of(extent))?;
        let fetch = self.inner.fetch(self.extent_below(extent), company)?;
        Some(Fetch { witness: Witness(changes), ..fetch })
    }

    fn finish_fetched(&self, at: ByteOffset, bytes: &mut [u8], witness: Witness) -> Option<Result<(), BlockError>> {
        let touched = StripeSet::of(Extent::new(at, ByteCount::of(bytes))?);
        if self.stripes.changes(touched) != Some(witness.0) {
            return None;
        }
        Some(self.decrypt(at, bytes).map_err(BlockError::from))
    }
}

fn unanswered<'i, 'b>(ios: &'i mut [Io<'b>]) -> impl Iterator<Item = &'i mut Io<'b>> {
    ios.iter_mut().filter(|io| io.outcome().is_none())
}

fn extent_of(op: &Op<'_>) -> Option<Extent> {
    match op {
        Op::Read { at, into } => Extent::new(*at, ByteCount::of(into)),
        Op::Write { at, from, .. } => Extent::new(*at, ByteCount::of(from)),
        _ => None,
    }
}
