//! From the data key: the header's MAC key, the fingerprint, and the sector keys of every key scope.
//!
//! Everything is HKDF-Expand (SHA-512) of the data key by a fixed label. No label holds the volume's id: the KMS binds
//! the data key to it, and a volume made from a snapshot may share its data key. Keys lie in locked memory only, and
//! the sector keys can be wiped while the device that uses them is still shared.

use crate::block::BlockError;
use crate::crypto::xts::{KeyRefused, XtsKey};
use crate::crypto::{derive, digest};
use crate::kms::DataKey;
use crate::secret::Secret;
use crate::sync::RwLock;
use crate::sys::locked::LockingFailed;
use crate::units::{ByteCount, ByteOffset, SectorSize};

use super::error::{VolumeError, WeakKey};
use super::header::{Fingerprint, Header};

const HEADER_MAC: &[u8] = b"envol 1 header mac";
const FINGERPRINT: &[u8] = b"envol 1 fingerprint";
/// The number of the scope follows, eight bytes, little-endian.
const SECTOR_KEYS: &[u8] = b"envol 1 sector keys ";

/// The key of the header's MAC.
pub(super) struct HeaderKey(Secret<64>);

/// The sector keys of all scopes, expanded, in locked memory; wiped on [`SectorKeys::wipe`] or drop.
pub struct SectorKeys {
    /// One key for each scope; `None` once wiped. The lock is held for reading by whoever ciphers, never over I/O, and
    /// for writing by the wipe alone: so the wipe waits for the cipher and for nothing else.
    scopes: RwLock<Option<Vec<XtsKey>>>,
    sector_size: SectorSize,
    scope: ByteCount,
}

/// The sector keys are gone: the volume is being detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wiped;

impl HeaderKey {
    /// The MAC key that belongs to `data_key`.
    pub(super) fn derive(data_key: &DataKey) -> Result<Self, LockingFailed> {
        Secret::filled_by(|key| derive::hkdf_expand(data_key.expose(), HEADER_MAC, key)).map(Self)
    }

    /// HMAC-SHA-512 over the concatenation of `parts`.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> [u8; 64] {
        digest::hmac_sha512(self.0.expose(), parts)
    }
}

/// The fingerprint of `data_key`.
pub(super) fn fingerprint(data_key: &DataKey) -> Fingerprint {
    let mut bytes = [0; 16];
    derive::hkdf_expand(data_key.expose(), FINGERPRINT, &mut bytes);
    Fingerprint(bytes)
}

/// Refuses a data key that no good source of randomness gives.
///
/// # Errors
/// All zero, or halves that are equal.
pub(super) fn check(data_key: &DataKey) -> Result<(), WeakKey> {
    let (one, other) = data_key.expose().split_at(32);
    if digest::equal(data_key.expose(), &[0; 64]) {
        Err(WeakKey::Zero)
    } else if digest::equal(one, other) {
        Err(WeakKey::EqualHalves)
    } else {
        Ok(())
    }
}

/// Fills `into` with the raw XTS key of scope `number`: the data half, then the tweak half.
pub(super) fn scope_key(data_key: &DataKey, number: u64, into: &mut Secret<64>) {
    let mut label = [0; SECTOR_KEYS.len() + 8];
    label[..SECTOR_KEYS.len()].copy_from_slice(SECTOR_KEYS);
    label[SECTOR_KEYS.len()..].copy_from_slice(&number.to_le_bytes());
    derive::hkdf_expand(data_key.expose(), &label, into.expose_mut());
}

impl SectorKeys {
    /// Derives and expands the keys of all scopes of the volume that `header` describes.
    pub(super) fn derive(data_key: &DataKey, header: &Header) -> Result<Self, VolumeError> {
        let mut raw = Secret::zeroed()?;
        let scopes = (0..header.scopes()).map(|number| {
            scope_key(data_key, number, &mut raw);
            XtsKey::new(&raw).map_err(|refused| match refused {
                KeyRefused::EqualHalves => VolumeError::WeakKey(WeakKey::EqualHalves),
                KeyRefused::NoLockedMemory(failed) => VolumeError::NoLockedMemory(failed),
                KeyRefused::NoSuchEngine(_) => unreachable!("no engine was asked for by name"),
                KeyRefused::NoneChosen(_) => unreachable!("the daemon does not start where the cipher is not known"),
            })
        });
        let scopes = scopes.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { scopes: RwLock::new(Some(scopes)), sector_size: header.sector_size, scope: header.scope })
    }

    /// Wipes all keys, as soon as nobody ciphers; whoever comes later is refused.
    pub fn wipe(&self) {
        drop(self.scopes.write().take());
    }

    /// Whether they were wiped.
    pub(super) fn are_wiped(&self) -> bool {
        self.scopes.read().is_none()
    }

    /// Encrypts `data` in place: whole pieces that lie at `at` in the volume.
    pub(super) fn encrypt(&self, at: ByteOffset, data: &mut [u8]) -> Result<(), Wiped> {
        self.each_scope(at, data, |key, at, part| key.encrypt(self.sector_size, at.piece(), part))
    }

    /// Decrypts `data` in place, whatever it holds.
    pub(super) fn decrypt(&self, at: ByteOffset, data: &mut [u8]) -> Result<(), Wiped> {
        self.each_scope(at, data, |key, at, part| key.decrypt(self.sector_size, at.piece(), part))
    }

    /// Decrypts `data` in place but for its all-zero pieces, which are plaintext zeros already.
    pub(super) fn decrypt_thin(&self, at: ByteOffset, data: &mut [u8]) -> Result<(), Wiped> {
        self.each_scope(at, data, |key, at, part| {
            each_written_run(at, part, |at, run| key.decrypt(self.sector_size, at.piece(), run));
        })
    }

    fn each_scope(
        &self,
        mut at: ByteOffset,
        mut data: &mut [u8],
        cipher: impl Fn(&XtsKey, ByteOffset, &mut [u8]),
    ) -> Result<(), Wiped> {
        let scopes = self.scopes.read();
        let keys = scopes.as_deref().ok_or(Wiped)?;
        while !data.is_empty() {
            let number = usize::try_from(at.get() / self.scope.get()).expect("at most 256 scopes");
            let left_in_scope = self.scope.get() - at.get() % self.scope.get();
            let take = usize::try_from(left_in_scope).map_or(data.len(), |left| left.min(data.len()));
            let (part, rest) = data.split_at_mut(take);
            cipher(&keys[number], at, part);
            at = at.checked_add(ByteCount::of(part)).expect("requests end within the volume");
            data = rest;
        }
        Ok(())
    }
}

/// Calls `run` for each longest run of pieces that are not all zero.
fn each_written_run(at: ByteOffset, data: &mut [u8], mut run: impl FnMut(ByteOffset, &mut [u8])) {
    const PIECE: usize = 512;
    let mut start = 0;
    while start < data.len() {
        let blank = data[start..].chunks_exact(PIECE).take_while(|piece| is_zero(piece)).count() * PIECE;
        start += blank;
        let written = data[start..].chunks_exact(PIECE).take_while(|piece| !is_zero(piece)).count() * PIECE;
        let place = at.checked_add(ByteCount::new(start as u64)).expect("requests end within the volume");
        if written != 0 {
            run(place, &mut data[start..start + written]);
        }
        start += written;
    }
}

/// Whether all bytes are zero. Ciphertext shows that it is not by its first word, all but once in 2^64 pieces.
pub(super) fn is_zero(piece: &[u8]) -> bool {
    let (words, rest) = piece.as_chunks::<8>();
    words.iter().all(|word| *word == [0; 8]) && rest.iter().all(|byte| *byte == 0)
}

impl From<Wiped> for BlockError {
    fn from(_: Wiped) -> Self {
        Self::Detached
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::tests::header;
    use super::*;

    fn data_key(byte: impl Fn(usize) -> u8) -> DataKey {
        DataKey::new(Secret::filled_by(|key| *key = std::array::from_fn(byte)).expect("locks"))
    }

    fn counting() -> DataKey {
        data_key(|i| u8::try_from(i).expect("below 64"))
    }

    #[test]
    fn weak_data_keys_are_refused() {
        assert_eq!(check(&data_key(|_| 0)), Err(WeakKey::Zero));
        assert_eq!(check(&data_key(|i| u8::try_from(i % 32).expect("small"))), Err(WeakKey::EqualHalves));
        assert_eq!(check(&counting()), Ok(()));
    }

    #[test]
    fn scopes_have_different_keys_and_a_request_may_cross_them() {
        let header = Header { scope: ByteCount::new(1 << 20), ..header() };
        let keys = SectorKeys::derive(&counting(), &header).expect("derives");
        let boundary = ByteOffset::new((1 << 20) - 4096);
        let mut crossing = [7; 8192];
        keys.encrypt(boundary, &mut crossing).expect("not wiped");
        let mut raw = Secret::zeroed().expect("locks");
        for (scope, part) in [0, 1].into_iter().zip(crossing.chunks_exact(4096)) {
            scope_key(&counting(), scope, &mut raw);
            let mut alone = [7; 4096];
            let first = crate::units::PieceNumber::new(2048 - 8 + 8 * scope);
            XtsKey::new(&raw).expect("a good key").encrypt(SectorSize::B4096, first, &mut alone);
            assert_eq!(part, alone);
        }
        keys.decrypt(boundary, &mut crossing).expect("not wiped");
        assert_eq!(crossing, [7; 8192]);
    }

    #[test]
    fn zero_pieces_stay_zeros_and_only_they() {
        let keys = SectorKeys::derive(&counting(), &header()).expect("derives");
        let mut data = vec![0; 2048];
        data[512..1024].fill(9);
        data[1535] = 1;
        let mut expected = data.clone();
        keys.decrypt(ByteOffset::new(512), &mut expected[512..1536]).expect("not wiped");
        keys.decrypt_thin(ByteOffset::ZERO, &mut data).expect("not wiped");
        assert_eq!(data, expected);
        assert!(!is_zero(&data[1024..1536]));
    }

    #[test]
    fn wiped_keys_cipher_nothing() {
        let keys = SectorKeys::derive(&counting(), &header()).expect("derives");
        keys.wipe();
        let mut data = [1; 512];
        assert_eq!(keys.encrypt(ByteOffset::ZERO, &mut data), Err(Wiped));
        assert_eq!(data, [1; 512]);
    }
}
