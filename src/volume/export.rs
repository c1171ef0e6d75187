//! Break-glass: the sector keys of a volume as a device-mapper table, for `dmsetup create` to read on its stdin.
//!
//! One segment for each key scope, since a scope is a key. The kernel counts `iv_offset` in 512-byte units even where
//! the tweak counts larger sectors, so a segment's is its start. The text holds keys, so it lies in locked memory.

use crate::kms::DataKey;
use crate::secret::Secret;
use crate::sys::locked::{LockedMemory, LockingFailed};
use crate::units::SectorSize;

use super::header::{Header, hex_digit};
use super::keys;

/// What one line takes beside its backing: 128 digits of key, four numbers, and words.
const LINE_MAX: usize = 320;

/// A device-mapper table that holds sector keys; wiped on drop.
pub struct CryptTable {
    memory: LockedMemory,
    length: usize,
}

impl CryptTable {
    /// The text, one segment a line. To be given to stdout or a pipe, never to an argument list.
    pub fn text(&self) -> &[u8] {
        &self.memory.bytes()[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.memory.bytes_mut()[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    fn push_key(&mut self, key: &Secret<64>) {
        for byte in key.expose() {
            self.push(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
    }
}

/// The table that opens the volume of `header` on the block device `backing`.
pub(super) fn table(header: &Header, data_key: &DataKey, backing: &str) -> Result<CryptTable, LockingFailed> {
    let scopes = header.scopes();
    let lines = usize::try_from(scopes).expect("at most 256 scopes");
    let memory = LockedMemory::zeroed(lines * (LINE_MAX + backing.len()))?;
    let mut table = CryptTable { memory, length: 0 };
    let mut key = Secret::zeroed()?;
    let options = match header.sector_size {
        SectorSize::B512 => "",
        SectorSize::B4096 => " 2 sector_size:4096 iv_large_sectors",
    };
    for number in 0..scopes {
        let start = number * header.scope.get();
        let length = header.scope.get().min(header.size.get() - start);
        let (start, length) = (start / 512, length / 512);
        keys::scope_key(data_key, number, &mut key);
        table.push(format!("{start} {length} crypt aes-xts-plain64 ").as_bytes());
        table.push_key(&key);
        let on_backing = header.data_offset.get() / 512 + start;
        table.push(format!(" {start} {backing} {on_backing}{options}\n").as_bytes());
    }
    Ok(table)
}
