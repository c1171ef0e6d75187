//! Around the page cache: the same bytes at any alignment, nothing left in memory, and refused where it cannot be.

use std::path::Path;

use envol::block::file::{Access, FileDevice, NotDirect, OpenError, Space};
use envol::block::{BlockDevice, BlockDeviceExt, Durability, Io, Op, Patience};
use envol::units::ByteOffset;

use crate::model::play;
use crate::places::{Ext4, Loop, count, on_disk, open, run, skip};

const SIZE: u64 = 1 << 20;

/// A file that starts with a page of data, as every backing does.
fn file(path: &Path, size: u64) -> FileDevice {
    let device = FileDevice::create(path, count(size), Space::Thin).expect("made");
    device.write_at(ByteOffset::ZERO, &mut [1; 4096], Durability::Durable).expect("writes");
    device
}

/// What `make` gives, all zero again, behaves like a vector.
fn play_direct(device: FileDevice) {
    let device = device.around_the_page_cache().expect("the file system can");
    device.zero(crate::places::extent(0, SIZE)).expect("zeroes");
    play(&device);
}

#[test]
fn a_file_behaves_like_a_vector() {
    let Some(place) = Ext4::new(16 << 20) else { return skip("no ext4 on a loop device") };
    play_direct(file(&place.path().join("backing"), SIZE));
}

#[test]
fn block_devices_behave_like_a_vector() {
    let place = on_disk();
    let path = place.path().join("disk");
    drop(file(&path, SIZE));
    for options in [&[][..], &["--sector-size", "4096"]] {
        let Some(disk) = Loop::over(&path, options) else { return skip("no loop devices") };
        play_direct(open(disk.path(), Access::ReadWrite));
    }
}

/// On a disk of 4096-byte sectors, 512 bytes are written by reading the sector and writing it back.
#[test]
fn neighbours_in_one_sector_of_the_disk_do_not_undo_each_other() {
    let place = on_disk();
    let path = place.path().join("disk");
    drop(file(&path, SIZE));
    let Some(disk) = Loop::over(&path, &["--sector-size", "4096"]) else { return skip("no loop devices") };
    let device = open(disk.path(), Access::ReadWrite).around_the_page_cache().expect("it can");
    std::thread::scope(|threads| {
        // Each reads back what it wrote last: whoever wrote the sector back late would have undone it.
        for piece in 0_u8..4 {
            let device = &device;
            threads.spawn(move || {
                let at = ByteOffset::new(8192 + 512 * u64::from(piece));
                for round in 1..200 {
                    device.write_at(at, &mut [round; 512], Durability::Cached).expect("writes");
                    let mut now = [0; 512];
                    device.read_at(at, &mut now).expect("reads");
                    assert!(now.iter().all(|byte| *byte == round), "piece {piece} is as it was written last");
                }
            });
        }
        threads.spawn(|| {
            // The rest of the sector, at the same time.
            for _ in 1..200 {
                device.write_at(ByteOffset::new(8192 + 2048), &mut [9; 2048], Durability::Cached).expect("writes");
            }
        });
    });
}

#[test]
fn nothing_of_it_stays_in_memory() {
    let Some(place) = Ext4::new(16 << 20) else { return skip("no ext4 on a loop device") };
    let path = place.path().join("backing");
    let Some(cached) = pages_in_memory(&path, FileDevice::create(&path, count(SIZE), Space::Thin).expect("made"))
    else {
        return skip("no fincore");
    };
    assert!(cached >= 200, "what goes through the page cache is found there: {cached} pages");
    let direct = open(&path, Access::ReadWrite);
    direct.forget_unwritten().expect("forgets");
    let left = pages_in_memory(&path, direct.around_the_page_cache().expect("it can")).expect("fincore is there");
    assert_eq!(left, 0);
}

/// Writes and reads a good part of `device`; how many pages of the file at `path` are in memory then.
fn pages_in_memory(path: &Path, device: FileDevice) -> Option<u64> {
    device.write_at(ByteOffset::ZERO, &mut vec![5; 900_000], Durability::Durable).expect("writes");
    device.read_at(ByteOffset::ZERO, &mut vec![0; 900_000]).expect("reads");
    run("fincore", &["--raw", "--noheadings", "--output", "PAGES", path.to_str().expect("plain")])?.parse().ok()
}

#[test]
fn nothing_is_done_for_a_caller_that_cannot_wait() {
    let Some(place) = Ext4::new(16 << 20) else { return skip("no ext4 on a loop device") };
    let device = file(&place.path().join("backing"), SIZE).around_the_page_cache().expect("it can");
    assert!(device.geometry().writes_wait);
    let (mut into, mut from) = ([3; 4096], [4; 4096]);
    let mut batch = [
        Io::new(Op::Read { at: ByteOffset::ZERO, into: &mut into }, 0),
        Io::new(Op::Write { at: ByteOffset::ZERO, from: &mut from, durability: Durability::Cached }, 1),
    ];
    device.submit(&mut batch, Patience::TryNow, &mut |_| unreachable!("all of it waits for the disk"));
    assert!(batch.iter().all(|io| io.outcome().is_none()));
    assert_eq!((into, from), ([3; 4096], [4; 4096]));
}

#[test]
fn read_only_reads_and_refuses_writes() {
    let Some(place) = Ext4::new(16 << 20) else { return skip("no ext4 on a loop device") };
    let path = place.path().join("backing");
    drop(file(&path, SIZE));
    let device = open(&path, Access::ReadOnly).around_the_page_cache().expect("it can");
    let mut bytes = [0; 700];
    device.read_at(ByteOffset::new(3_900), &mut bytes).expect("reads");
    assert!(bytes[..196].iter().all(|byte| *byte == 1) && bytes[196..].iter().all(|byte| *byte == 0));
    assert!(device.write_at(ByteOffset::ZERO, &mut [1; 512], Durability::Cached).is_err());
}

#[test]
fn a_size_that_cuts_the_last_unit_is_refused() {
    let Some(place) = Ext4::new(16 << 20) else { return skip("no ext4 on a loop device") };
    let device = file(&place.path().join("backing"), SIZE + 100);
    match device.around_the_page_cache() {
        Err(OpenError::NotDirect { source: NotDirect::Uneven { unit }, .. }) => assert!(unit >= 512),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_system_without_it_is_refused() {
    // The files of /proc cannot be opened so, whatever the kernel.
    let device = FileDevice::open(Path::new("/proc/self/mounts"), Access::ReadOnly).expect("opens");
    assert!(matches!(device.around_the_page_cache(), Err(OpenError::NotDirect { .. })));
}
