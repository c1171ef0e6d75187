//! Row 75: sectors that were flipped, moved, taken from another volume or from an older time. XTS does not tell; what it
//! promises is that nothing crashes, no key leaks, and the damage stays where it is.

use std::sync::Arc;

use envol::block::fault::{Action, Fault, Rule, Target};
use envol::block::memory::MemoryDevice;
use envol::block::{BlockDeviceExt, BlockError, Durability, Effort, Op, Zeroing};
use envol::units::{ByteCount, ByteOffset, Extent};
use envol::volume::{CreateSpec, EncryptedDevice, Rollback};

use crate::support::{FakeKms, ID, OTHER_ID, make, open_device, spec};

const SIZE: usize = 64 << 10;
const DATA: usize = 1 << 20;

fn volume(image: &[u8]) -> (Arc<MemoryDevice>, EncryptedDevice) {
    let device = Arc::new(MemoryDevice::holding(image, false));
    let (verified, keys) = open_device(&*device, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
    (device.clone(), EncryptedDevice::new(device, &verified, keys))
}

fn written(id: &str, byte: u8) -> Vec<u8> {
    let (device, volume) = volume(&make(&spec(id)));
    volume.write_at(ByteOffset::ZERO, &mut vec![byte; SIZE], Durability::Cached).expect("writes");
    device.contents()
}

fn read(image: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    volume(image).1.read_at(ByteOffset::ZERO, &mut bytes).expect("reads");
    bytes
}

/// Checks that `image` reads as threes but for the bytes of `damaged`, which must not.
fn assert_damage(image: &[u8], damaged: std::ops::Range<usize>) {
    let bytes = read(image);
    assert!(bytes[..damaged.start].iter().chain(&bytes[damaged.end..]).all(|byte| *byte == 3));
    assert_ne!(bytes[damaged.clone()], vec![3; damaged.len()]);
}

#[test]
fn a_flipped_bit_garbles_its_block_of_16_bytes() {
    let mut image = written(ID, 3);
    image[DATA + 5000] ^= 1;
    assert_damage(&image, 4992..5008);
}

#[test]
fn a_sector_moved_or_from_another_volume_is_noise() {
    let mut moved = written(ID, 3);
    moved.copy_within(DATA..DATA + 4096, DATA + 8192);
    assert_damage(&moved, 8192..12_288);
    let mut foreign = written(ID, 3);
    foreign[DATA..DATA + 4096].copy_from_slice(&written(OTHER_ID, 3)[DATA..DATA + 4096]);
    assert_damage(&foreign, 0..4096);
}

#[test]
fn an_older_sector_is_an_older_sector() {
    let old = written(ID, 9);
    let mut image = written(ID, 3);
    image[DATA..DATA + 512].copy_from_slice(&old[DATA..DATA + 512]);
    assert_eq!(read(&image)[..512], [9; 512]);
    assert_damage(&image, 0..512);
}

#[test]
fn every_tear_of_a_sector_reads_as_old_and_new_pieces() {
    let (old, new) = (written(ID, 9), written(ID, 3));
    let fresh = make(&spec(ID));
    for tear in 0..1 << 8 {
        for (before, byte) in [(&old, 9), (&fresh, 0)] {
            let mut image = before.clone();
            for piece in (0..8).filter(|piece| tear >> piece & 1 == 1) {
                let place = DATA + 512 * piece;
                image[place..place + 512].copy_from_slice(&new[place..place + 512]);
            }
            let bytes = read(&image);
            for piece in 0..8 {
                let expected = if tear >> piece & 1 == 1 { 3 } else { byte };
                assert_eq!(bytes[512 * piece..512 * (piece + 1)], [expected; 512]);
            }
        }
    }
}

/// The volume on a disk of which only the first sync succeeds.
fn with_one_sync(spec: &CreateSpec) -> EncryptedDevice {
    let disk = Fault::new(MemoryDevice::holding(&make(spec), false));
    let (verified, keys) = open_device(&disk, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
    let action = Action::Fail(BlockError::System(nix::errno::Errno::EIO));
    disk.add(Rule { target: Target::Sync, spare: 1, count: u64::MAX, action });
    EncryptedDevice::new(Arc::new(disk), &verified, keys)
}

#[test]
fn a_durable_request_costs_one_sync_however_many_parts_it_has() {
    let (durability, extent) = (Durability::Durable, Extent::new(ByteOffset::new(3), ByteCount::new(600_001)));
    let extent = extent.expect("small");
    let (zeroing, effort) = (Zeroing::MayPunch, Effort::Any);
    for thick in [false, true] {
        let spec = CreateSpec { thick, size: ByteCount::new(1 << 20), ..spec(ID) };
        let crooked = with_one_sync(&spec);
        assert_eq!(crooked.write_at(extent.start(), &mut vec![1; 600_001], durability), Ok(()));
        assert!(crooked.flush().is_err(), "the write has used the one sync");
        let zeroed = with_one_sync(&spec);
        assert_eq!(zeroed.perform(Op::Zero { extent, zeroing, effort, durability }), Ok(()));
        assert!(zeroed.flush().is_err(), "the zeros have used the one sync");
    }
}

#[test]
fn row_74_a_copy_under_the_same_data_key_shows_where_the_two_are_equal_and_nothing_else() {
    let image = make(&spec(ID));
    let [(one, mine), (other, theirs)] = [volume(&image), volume(&image)];
    mine.write_at(ByteOffset::ZERO, &mut vec![3; SIZE], Durability::Cached).expect("writes");
    let mut mixed = vec![3; SIZE];
    mixed[4096..8192].fill(4);
    theirs.write_at(ByteOffset::ZERO, &mut mixed, Durability::Cached).expect("writes");
    let (one, other) = (one.contents(), other.contents());
    let equal = |sector: usize| {
        let range = DATA + sector * 4096..DATA + (sector + 1) * 4096;
        one[range.clone()] == other[range]
    };
    assert_eq!((0..SIZE / 4096).filter(|sector| !equal(*sector)).collect::<Vec<_>>(), [1]);
}
