//! AES-256-XTS (IEEE 1619) over whole sectors or single 512-byte pieces of them.
//!
//! Owns the expanded keys and cuts requests: tweaks of many sectors are encrypted as one batch (`expanded`), then each
//! sector's pieces (`runs`) go through an [`Engine`] in place. After construction no key is expanded, nothing is
//! allocated, and no branch or address depends on a key or on data. Which key belongs to which place of a volume, and
//! what counts as a hole, is the volume's business.

#[cfg(target_arch = "x86_64")]
mod aes_ni;
mod engine;
mod expanded;
#[cfg(feature = "bench-null")]
mod null;
mod portable;
mod runs;
#[cfg(target_arch = "x86_64")]
mod schedule;
mod tweak;
#[cfg(target_arch = "x86_64")]
mod vaes256;
#[cfg(target_arch = "x86_64")]
mod vaes512;

pub use engine::{AUTO, Engine, EngineRefused, VARIABLE};

use super::digest;
use crate::secret::Secret;
use crate::units::{PIECE, PieceNumber, SectorSize};
use expanded::Expanded;
use runs::{Piece, Pieces, Runs};
use tweak::Tweak;

const PIECE_BYTES: usize = size_of::<Piece>();
const _: () = assert!(PIECE_BYTES as u64 == PIECE, "the engines' piece is the volume's");

/// The expanded keys of one key scope, in locked memory, wiped on drop.
pub struct XtsKey {
    keys: Expanded,
}

/// A key that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// The halves are equal: IEEE 1619 and FIPS 140-3 IG C.I forbid it.
    #[error("the two halves of the sector key are equal")]
    EqualHalves,
    /// The engine asked for needs instructions that this processor lacks.
    #[error("this processor cannot run the cipher engine {0}")]
    NoSuchEngine(Engine),
    /// None was asked for, and the environment names none that there is.
    #[error("{VARIABLE}: {0}")]
    NoneChosen(#[from] EngineRefused),
    /// No locked memory for the expanded keys.
    #[error(transparent)]
    NoLockedMemory(#[from] crate::sys::locked::LockingFailed),
}

impl XtsKey {
    /// Expands `key`, the data half, then the tweak half, for the engine of this process ([`Engine::chosen`]).
    ///
    /// # Errors
    /// Equal halves (compared in constant time), no locked memory, or an environment that names no engine.
    pub fn new(key: &Secret<64>) -> Result<Self, KeyRefused> {
        Self::with_engine(key, Engine::chosen()?)
    }

    /// Expands `key` for one engine; every engine gives the same bytes.
    ///
    /// # Errors
    /// As [`XtsKey::new`], and where the processor cannot run `engine`.
    pub fn with_engine(key: &Secret<64>, engine: Engine) -> Result<Self, KeyRefused> {
        let (halves, _) = key.expose().as_chunks::<32>();
        let [data, tweak]: &[_; 2] = halves.try_into().expect("64 bytes are two halves");
        if digest::equal(data, tweak) {
            return Err(KeyRefused::EqualHalves);
        }
        Ok(Self { keys: Expanded::new(engine, data, tweak)? })
    }

    /// Encrypts `data` in place: whole 512-byte pieces, `first` being the number of its first piece in the volume.
    /// The tweak of a piece is that of its sector (piece number / pieces per sector, little-endian) times x^(32 k) for
    /// the k-th piece of the sector; so a request may start and end in the middle of a 4096-byte sector.
    ///
    /// # Panics
    /// Where `data` is not a multiple of 512 bytes.
    pub fn encrypt(&self, sectors: SectorSize, first: PieceNumber, data: &mut [u8]) {
        self.each_batch(sectors, first, in_place(data), |starts, runs| self.keys.encrypt(starts, runs));
    }

    /// Decrypts in place; as [`XtsKey::encrypt`].
    ///
    /// # Panics
    /// Where `data` is not a multiple of 512 bytes.
    pub fn decrypt(&self, sectors: SectorSize, first: PieceNumber, data: &mut [u8]) {
        self.each_batch(sectors, first, in_place(data), |starts, runs| self.keys.decrypt(starts, runs));
    }

    /// Encrypts what is in `from` into `into`, which is as long; else as [`XtsKey::encrypt`].
    ///
    /// # Panics
    /// Where the lengths differ or are not a multiple of 512 bytes.
    pub fn encrypt_into(&self, sectors: SectorSize, first: PieceNumber, from: &[u8], into: &mut [u8]) {
        self.each_batch(sectors, first, between(from, into), |starts, runs| self.keys.encrypt(starts, runs));
    }

    /// Decrypts what is in `from` into `into`, which is as long; else as [`XtsKey::encrypt`].
    ///
    /// # Panics
    /// Where the lengths differ or are not a multiple of 512 bytes.
    pub fn decrypt_into(&self, sectors: SectorSize, first: PieceNumber, from: &[u8], into: &mut [u8]) {
        self.each_batch(sectors, first, between(from, into), |starts, runs| self.keys.decrypt(starts, runs));
    }

    /// Encrypts one data unit of IEEE 1619 in place, of any number of whole blocks under any tweak value. Volumes have no
    /// such units; the published vectors do.
    ///
    /// # Panics
    /// Where `data` is not a multiple of 16 bytes: ciphertext stealing is not part of this cipher.
    pub fn encrypt_unit(&self, tweak: [u8; 16], data: &mut [u8]) {
        self.one_unit(tweak, data, |starts, runs| self.keys.encrypt(starts, runs));
    }

    /// Decrypts one data unit in place; as [`XtsKey::encrypt_unit`].
    ///
    /// # Panics
    /// Where `data` is not a multiple of 16 bytes.
    pub fn decrypt_unit(&self, tweak: [u8; 16], data: &mut [u8]) {
        self.one_unit(tweak, data, |starts, runs| self.keys.decrypt(starts, runs));
    }

    /// Cuts a request into batches of sectors and hands each to `cipher` with the sectors' starting tweaks.
    #[inline]
    fn each_batch(
        &self,
        sectors: SectorSize,
        first: PieceNumber,
        pieces: Pieces<'_>,
        cipher: impl Fn(&[Tweak], Runs<'_>),
    ) {
        let place = Place::of(sectors, first);
        if place.sectors_of(pieces.count()) <= tweak::FEW {
            self.each_batch_of::<{ tweak::FEW }>(place, pieces, cipher);
        } else {
            self.each_batch_of::<{ tweak::AT_ONCE }>(place, pieces, cipher);
        }
    }

    #[inline]
    fn each_batch_of<const MOST: usize>(
        &self,
        mut place: Place,
        mut pieces: Pieces<'_>,
        cipher: impl Fn(&[Tweak], Runs<'_>),
    ) {
        let mut tweaks = [[0; 16]; MOST];
        while pieces.count() != 0 {
            let Place { sector, within, per_sector } = place;
            let count = place.sectors_of(pieces.count()).min(MOST);
            self.keys.encrypt_numbers(sector, count, &mut tweaks);
            let starts = &mut tweaks[..count];
            if within != 0 {
                starts[0] = tweak::pieces_later(starts[0], within);
            }
            let batch = pieces.take_first(count * per_sector - within);
            cipher(starts, Runs::new(per_sector - within, per_sector, batch));
            place = Place { sector: sector.wrapping_add(count as u64), within: 0, per_sector };
        }
    }

    /// Pieces go as they are; what is left of the unit goes through a piece of its own.
    fn one_unit(&self, mut tweak: Tweak, data: &mut [u8], cipher: impl Fn(&[Tweak], Runs<'_>)) {
        assert!(data.len().is_multiple_of(16), "a data unit comes in whole blocks");
        self.keys.encrypt_tweak(&mut tweak);
        let (pieces, rest) = data.as_chunks_mut::<PIECE_BYTES>();
        let mut padded = [[0; PIECE_BYTES]];
        padded[0][..rest.len()].copy_from_slice(rest);
        cipher(&[tweak::pieces_later(tweak, pieces.len())], Runs::one(Pieces::in_place(&mut padded)));
        cipher(&[tweak], Runs::one(Pieces::in_place(pieces)));
        rest.copy_from_slice(&padded[0][..rest.len()]);
    }
}

fn in_place(data: &mut [u8]) -> Pieces<'_> {
    let (pieces, rest) = data.as_chunks_mut();
    assert!(rest.is_empty(), "{WHOLE}");
    Pieces::in_place(pieces)
}

fn between<'a>(from: &'a [u8], into: &'a mut [u8]) -> Pieces<'a> {
    let ((from, rest), (into, other_rest)) = (from.as_chunks(), into.as_chunks_mut());
    assert!(rest.is_empty() && other_rest.is_empty(), "{WHOLE}");
    Pieces::between(from, into)
}

const WHOLE: &str = "sector data comes in whole pieces";

/// Where a request begins.
#[derive(Clone, Copy)]
struct Place {
    /// The number of the sector.
    sector: u64,
    /// The piece's place within it.
    within: usize,
    /// How many pieces a sector holds.
    per_sector: usize,
}

impl Place {
    fn of(sectors: SectorSize, piece: PieceNumber) -> Self {
        let in_memory = |count: u64| usize::try_from(count).expect("a sector has at most 8 pieces");
        let per_sector = sectors.pieces();
        let within = in_memory(piece.get() % per_sector);
        Self { sector: piece.get() / per_sector, within, per_sector: in_memory(per_sector) }
    }

    /// How many sectors that many pieces touch.
    fn sectors_of(self, pieces: usize) -> usize {
        (self.within + pieces).div_ceil(self.per_sector)
    }
}

#[cfg(test)]
mod tests {
    use aes::Aes256;
    use aes::cipher::KeyInit;

    use super::*;

    fn filled(halves: &[u8; 64]) -> Secret<64> {
        Secret::filled_by(|bytes| *bytes = *halves).expect("locks")
    }

    #[test]
    fn equal_halves_are_refused_by_every_engine() {
        for engine in Engine::available() {
            assert_eq!(XtsKey::with_engine(&filled(&[7; 64]), engine).err(), Some(KeyRefused::EqualHalves));
        }
    }

    #[test]
    fn every_part_of_every_request_is_what_the_xts_mode_crate_makes_of_whole_sectors() {
        let mut halves = [0; 64];
        crate::crypto::random::fill(&mut halves);
        let half = |part: &[u8]| Aes256::new_from_slice(part).expect("32 bytes");
        let oracle = xts_mode::Xts128::new(half(&halves[..32]), half(&halves[32..]));
        for (engine, sectors) in
            Engine::available().into_iter().flat_map(|e| [(e, SectorSize::B512), (e, SectorSize::B4096)])
        {
            let key = XtsKey::with_engine(&filled(&halves), engine).expect("a good key");
            let size = usize::try_from(sectors.bytes()).expect("small");
            let mut plain = vec![0; 3 * size];
            crate::crypto::random::fill(&mut plain);
            let mut expected = plain.clone();
            oracle.encrypt_area(&mut expected, size, 41, xts_mode::get_tweak_default);
            for from in 0..plain.len() / 512 {
                for to in from..=plain.len() / 512 {
                    let first = PieceNumber::new(41 * sectors.pieces() + from as u64);
                    let mut data = plain[from * 512..to * 512].to_vec();
                    key.encrypt(sectors, first, &mut data);
                    assert_eq!(data, expected[from * 512..to * 512], "{engine} {from}..{to}");
                    key.decrypt(sectors, first, &mut data);
                    assert_eq!(data, plain[from * 512..to * 512], "{engine} {from}..{to}");
                }
            }
        }
    }
}
