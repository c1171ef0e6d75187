//! No READ and no WRITE allocates, from the socket to the file, once lists and buffers have found their size.

use std::io::{Read, Write};
use std::sync::Arc;

use envol::block::file::{FileDevice, Space};
use envol::block::poison::Poison;
use envol::block::{BlockDevice, BlockDeviceExt, Durability};
use envol::units::{ByteCount, ByteOffset};
use envol::volume::{CreateSpec, EncryptedDevice, Rollback};

use crate::support::*;
use crate::volumes::{FakeKms, ID, make, open_device, spec};
use crate::{allocations, alone};

const VOLUME: u64 = 4 << 20;
/// Requests that are sent together.
const AT_ONCE: usize = 20;

/// A volume over a file, put together as an attachment does it.
fn volume(directory: &tempfile::TempDir) -> EncryptedDevice {
    let spec = CreateSpec { size: ByteCount::new(VOLUME), ..spec(ID) };
    let mut image = make(&spec);
    let size = ByteCount::new(image.len() as u64);
    let file = FileDevice::create(&directory.path().join("backing"), size, Space::Thin).expect("made");
    file.write_at(ByteOffset::ZERO, &mut image, Durability::Cached).expect("written");
    let (verified, keys) = open_device(&file, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
    let backing: Arc<dyn BlockDevice> = Arc::new(Poison::new(file));
    EncryptedDevice::new(backing, &verified, keys)
}

/// So many READs or WRITEs in one message, spread over the volume; and how long the answer is.
fn message(command: u16, flags: u16, length: usize, crooked: u64) -> (Vec<u8>, usize) {
    let mut message = Vec::new();
    for number in 0..AT_ONCE as u64 {
        message.extend(request(command, flags, number, number * 64 * 1024 + crooked, length as u32));
        if command == WRITE {
            message.extend(vec![number as u8; length]);
        }
    }
    let answer = if command == READ { 16 + length } else { 16 };
    (message, AT_ONCE * answer)
}

/// How many allocations `rounds` of `message` cost, after a round to get warm.
fn cost(raw: &mut Raw, (message, answer): &(Vec<u8>, usize), rounds: usize) -> u64 {
    let mut received = vec![0; *answer];
    let mut before = 0;
    for round in 0..=rounds {
        if round == 1 {
            before = allocations();
        }
        raw.stream.write_all(message).expect("sent");
        raw.stream.read_exact(&mut received).expect("received");
    }
    allocations() - before
}

#[test]
fn ten_thousand_requests_allocate_nothing() {
    let _alone = alone();
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let fixture = Fixture::over(volume(&directory));
    let mut raw = fixture.simple();
    for (command, length) in [(WRITE, 4096), (READ, 4096), (WRITE, 512), (READ, 512), (READ, 64 << 10)] {
        let spent = cost(&mut raw, &message(command, 0, length, 0), 10_000 / AT_ONCE);
        assert_eq!(spent, 0, "command {command}, {length} bytes");
    }
}

/// What the workers carry out is queued, and threads come and go: their number bounds what that allocates.
#[test]
fn what_the_workers_carry_out_allocates_for_their_threads_only() {
    let _alone = alone();
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let fixture = Fixture::over(volume(&directory));
    let mut raw = fixture.simple();
    let large = [(WRITE, 0, 256 << 10, 0), (READ, 0, 256 << 10, 0)];
    for (command, flags, length, crooked) in
        [(WRITE, FUA, 4096, 0), (WRITE, 0, 700, 3), (READ, 0, 700, 3)].into_iter().chain(large)
    {
        let spent = cost(&mut raw, &message(command, flags, length, crooked), 5_000 / AT_ONCE);
        assert!(spent < 500, "{spent} allocations for command {command}, flags {flags}, {length} bytes");
    }
}
