//! How far the log goes and the key of its next record, on disk: `audit.ratchet`, in the KMS's directory, mode 0600.
//!
//! ```text
//! two slots, at 0 and 4096, of 233 bytes:
//!   0  "envol audit key1"     16  writing 8 (counts up)    24  number 8 (of the last record)
//!  32  log length 8           40  its hash 32              72  its MAC 32
//! 104  next key 32           136  1 if the verify key follows, else 0    137  verify key 32, or zeros
//! 169  32 zeros              201  HMAC-SHA-256 by 104..169 over the rest
//! ```
//! It is never ahead of the log: a slot is written when the batch that it tells of is durable. Whoever opens the log goes on
//! from there over the records behind it, so it may be behind by any number of them. Slots are written in turn and in place,
//! each within one sector, so that one of them is whole whatever happens; a key of old is overwritten when its slot has
//! its turn, and both are when [`Progress::settle`] has returned.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::chain::{Link, LinkKey, VerifyKey};
use crate::crypto::digest;
use crate::sys::locked::{LockedMemory, LockingFailed};

/// Its name, in the KMS's directory.
pub(super) const FILE: &str = "audit.ratchet";

const MAGIC: &[u8; 16] = b"envol audit key1";
const SLOTS: [u64; 2] = [0, 4096];
const LENGTH: usize = 233;
/// The two keys, and whether the second is there.
const KEYS: std::ops::Range<usize> = 104..169;
const FLAG: usize = 136;
const MAC: usize = 201;

/// The file.
pub(super) struct Progress {
    file: File,
    /// One slot, to be written.
    slot: LockedMemory,
    writing: u64,
}

/// What a slot tells.
pub(super) struct Stand {
    /// The last record.
    pub(super) link: Link,
    /// The log's length behind it.
    pub(super) length: u64,
    /// The key of the next one.
    pub(super) key: LinkKey,
    /// The verify key, until somebody has it.
    pub(super) verify_key: Option<VerifyKey>,
}

impl Progress {
    /// The file in `dir`, made if it is not there, and what it tells; nothing where no slot is whole.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Option<Stand>)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(dir.join(FILE))?;
        let mut newest = None;
        for at in SLOTS {
            let mut slot = LockedMemory::zeroed(LENGTH).map_err(io::Error::other)?;
            match file.read_exact_at(slot.bytes_mut(), at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                read => read?,
            }
            let found = read(slot.bytes()).map_err(io::Error::other)?;
            newest = found.into_iter().chain(newest).max_by_key(|(writing, _)| *writing);
        }
        let slot = LockedMemory::zeroed(LENGTH).map_err(io::Error::other)?;
        let writing = newest.as_ref().map_or(0, |(writing, _)| *writing);
        Ok((Self { file, slot, writing }, newest.map(|(_, stand)| stand)))
    }

    /// Writes `stand` into the older slot; on disk when the system gets to it.
    pub(super) fn put(&mut self, stand: &Stand) -> io::Result<()> {
        self.writing += 1;
        let slot = self.slot.bytes_mut();
        slot.fill(0);
        slot[..16].copy_from_slice(MAGIC);
        for (field, number) in slot[16..40].chunks_exact_mut(8).zip([self.writing, stand.link.number, stand.length]) {
            field.copy_from_slice(&number.to_be_bytes());
        }
        slot[40..72].copy_from_slice(&stand.link.hash);
        slot[72..104].copy_from_slice(&stand.link.mac);
        slot[104..FLAG].copy_from_slice(stand.key.expose());
        if let Some(key) = &stand.verify_key {
            slot[FLAG] = 1;
            slot[FLAG + 1..KEYS.end].copy_from_slice(key.expose());
        }
        let mac = mac(slot);
        slot[MAC..].copy_from_slice(&mac);
        let turn = usize::from(self.writing % 2 == 1);
        self.file.write_all_at(self.slot.bytes(), SLOTS[turn])
    }

    /// Writes `stand` into both slots, one after the other durable: no other key is left.
    pub(super) fn settle(&mut self, stand: &Stand) -> io::Result<()> {
        for _ in SLOTS {
            self.put(stand)?;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

fn mac(slot: &[u8]) -> [u8; 32] {
    digest::hmac_sha256(&slot[KEYS], &[&slot[..KEYS.start], &slot[KEYS.end..MAC]])
}

/// The counter of a slot and what it tells, if it is whole.
fn read(slot: &[u8]) -> Result<Option<(u64, Stand)>, LockingFailed> {
    if &slot[..16] != MAGIC || !digest::equal(&mac(slot), &slot[MAC..]) {
        return Ok(None);
    }
    let number = |at: usize| u64::from_be_bytes(slot[at..at + 8].try_into().expect("eight bytes"));
    let bytes = |at: usize| -> &[u8; 32] { slot[at..at + 32].try_into().expect("32 bytes") };
    let link = Link { number: number(24), hash: *bytes(40), mac: *bytes(72) };
    let verify_key = if slot[FLAG] == 1 { Some(VerifyKey::new(bytes(FLAG + 1))?) } else { None };
    let stand = Stand { link, length: number(32), key: LinkKey::new(bytes(KEYS.start))?, verify_key };
    Ok(Some((number(16), stand)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stand(number: u8, verify_key: bool) -> Stand {
        Stand {
            link: Link { number: number.into(), hash: [number; 32], mac: [1; 32] },
            length: 1000,
            key: LinkKey::new(&[number; 32]).expect("locks"),
            verify_key: verify_key.then(|| VerifyKey::new(&[9; 32]).expect("locks")),
        }
    }

    fn told(dir: &Path) -> Option<(u64, u8, bool)> {
        let (_, stand) = Progress::open(dir).expect("opens");
        stand.map(|stand| (stand.link.number, stand.key.expose()[0], stand.verify_key.is_some()))
    }

    #[test]
    fn the_newest_whole_slot_is_what_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut progress, none) = Progress::open(dir.path()).expect("made");
        assert!(none.is_none());
        for number in 1..=5 {
            progress.put(&stand(number, number == 1)).expect("written");
            assert_eq!(told(dir.path()), Some((number.into(), number, number == 1)));
        }
        let path = dir.path().join(FILE);
        let bytes = std::fs::read(&path).expect("there");
        let newest = if bytes[104] == 5 { 0 } else { 4096 };
        for at in 0..LENGTH {
            for bit in 0..8 {
                let mut torn = bytes.clone();
                torn[newest + at] ^= 1 << bit;
                std::fs::write(&path, torn).expect("written");
                assert_eq!(told(dir.path()), Some((4, 4, false)), "byte {at}, bit {bit}");
            }
        }
        std::fs::write(&path, b"").expect("written");
        assert_eq!(told(dir.path()), None);
    }

    #[test]
    fn what_is_settled_leaves_no_key_of_old() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut progress, _) = Progress::open(dir.path()).expect("made");
        progress.put(&stand(7, true)).expect("written");
        progress.put(&stand(8, true)).expect("written");
        let held =
            |key: u8| std::fs::read(dir.path().join(FILE)).expect("there").windows(32).any(|part| part == [key; 32]);
        assert!(held(7) && held(8) && held(9));
        progress.settle(&stand(10, false)).expect("written");
        assert!(held(10) && !held(7) && !held(8) && !held(9));
    }
}
