//! The log of a disk (the format of the kernel's dm-log-writes, as QEMU's blklogwrites writes it), and the disk after any
//! part of it.

use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::random::Random;

const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// One request that reached the disk.
pub struct Entry {
    at: u64,
    bytes: Vec<u8>,
    flush: bool,
}

/// How many requests `log` holds so far.
pub fn count(log: &Path) -> usize {
    let mut block = [0; SECTOR as usize];
    std::fs::File::open(log).and_then(|file| file.read_exact_at(&mut block, 0)).expect("a log");
    number(&block, 16) as usize
}

fn number(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"))
}

/// All requests of `log`, in the order in which they were carried out.
pub fn read(log: &Path) -> Vec<Entry> {
    let bytes = std::fs::read(log).expect("a log");
    assert_eq!(number(&bytes, 0), MAGIC, "a log of dm-log-writes");
    let mut at = SECTOR as usize;
    let mut next = || {
        let head = &bytes[at..];
        let (start, length, flags) = (number(head, 0) * SECTOR, number(head, 8) * SECTOR, number(head, 16));
        at += SECTOR as usize;
        let mut data = vec![0; length as usize];
        // A hole comes without bytes, and reads as zeros.
        if flags & DISCARD == 0 {
            data.copy_from_slice(&bytes[at..at + length as usize]);
            at += length as usize;
        }
        Entry { at: start, bytes: data, flush: flags & FLUSH != 0 }
    };
    (0..count(log)).map(|_| next()).collect()
}

/// What is left after the first `kept` requests: all of them, or, with `random`, without some that no flush has followed.
pub fn replay(base: &[u8], entries: &[Entry], kept: usize, random: Option<&mut Random>) -> Vec<u8> {
    let entries = &entries[..kept];
    let flushed = entries.iter().rposition(|entry| entry.flush).unwrap_or(0);
    let mut image = base.to_vec();
    let mut lose = random;
    for (number, entry) in entries.iter().enumerate() {
        let torn = match lose.as_mut() {
            Some(random) if number > flushed => random.below(entry.bytes.len() as u64 / SECTOR * 2 + 1) * SECTOR,
            _ => u64::MAX,
        };
        let length = entry.bytes.len().min(torn as usize);
        let at = entry.at as usize;
        image[at..at + length].copy_from_slice(&entry.bytes[..length]);
    }
    image
}
