//! What the layers make of a read that was carried out elsewhere.

use std::os::unix::fs::FileExt;

use envol::block::engine::{self, Engine};
use envol::block::{BlockDevice, BlockDeviceExt, BlockError, Company, Durability, Fetch};
use envol::units::{ByteCount, ByteOffset, Extent};
use envol::volume::EncryptedDevice;
use nix::errno::Errno;

use crate::{VOLUME, on_disk, volume};

const REGION: u64 = 1 << 20;

fn extent(start: u64, length: u64) -> Extent {
    Extent::new(ByteOffset::new(start), ByteCount::new(length)).expect("small")
}

fn write(device: &EncryptedDevice, at: u64, bytes: &[u8]) {
    device.write_at(ByteOffset::new(at), &mut bytes.to_vec(), Durability::Cached).expect("written");
}

/// Reads as the server does, in one go.
fn carry_out(fetch: &Fetch, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fetch.file.read_exact_at(&mut bytes, fetch.at.get()).expect("read");
    bytes
}

#[test]
fn a_fetched_read_gives_the_plaintext_unless_its_pieces_changed_in_part_meanwhile() {
    let directory = on_disk();
    let (device, _) = volume(&directory);
    write(&device, 0, &[7; 4096]);
    let fetch = |company| device.fetch(extent(0, 4096), company);
    if engine::chosen() == Engine::Threads {
        assert!(fetch(Company::Many).is_none(), "there is nobody to carry it out");
        return;
    }
    for company in [Company::Alone, Company::Many] {
        let begun = fetch(company).expect("left to the caller");
        let mut bytes = carry_out(&begun, 4096);
        assert_ne!(bytes, [7; 4096], "what lies on the disk is ciphertext");
        assert_eq!(device.fetched(ByteOffset::ZERO, &mut bytes, begun.witness, Ok(())), Some(Ok(())));
        assert_eq!(bytes, [7; 4096]);
    }
    let begun = fetch(Company::Many).expect("left to the caller");
    let mut bytes = carry_out(&begun, 4096);
    write(&device, 5 * REGION, &[9; 3]);
    write(&device, 100, &[8; 512]);
    assert_eq!(device.fetched(ByteOffset::ZERO, &mut bytes, begun.witness, Ok(())), None, "it must be read again");
    let begun = fetch(Company::Many).expect("nobody is at it any more");
    write(&device, 2 * REGION, &[9; 3]);
    let mut bytes = carry_out(&begun, 4096);
    assert_eq!(device.fetched(ByteOffset::ZERO, &mut bytes, begun.witness, Ok(())), Some(Ok(())), "far away");
    assert_eq!((bytes[99], bytes[100], bytes[612]), (7, 8, 7));
}

#[test]
fn what_cannot_be_left_to_the_caller_is_not() {
    let directory = on_disk();
    let (device, _) = volume(&directory);
    for (start, length) in [(1, 512), (0, 511), (VOLUME, 512), (VOLUME - 512, 1024)] {
        assert!(device.fetch(extent(start, length), Company::Many).is_none(), "{start}, {length}");
    }
}

#[test]
fn wiped_keys_and_failed_reads_are_answers_of_their_own() {
    let directory = on_disk();
    let (device, _) = volume(&directory);
    let Some(begun) = device.fetch(extent(0, 512), Company::Many) else {
        return assert_eq!(engine::chosen(), Engine::Threads);
    };
    let mut bytes = carry_out(&begun, 512);
    let failed = Err(BlockError::System(Errno::EIO));
    assert_eq!(device.fetched(ByteOffset::ZERO, &mut bytes, begun.witness, failed), Some(failed));
    device.wipe_keys();
    let detached = Some(Err(BlockError::Detached));
    assert_eq!(device.fetched(ByteOffset::ZERO, &mut bytes, begun.witness, Ok(())), detached);
    assert!(device.fetch(extent(0, 512), Company::Many).is_none());
}
