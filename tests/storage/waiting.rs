//! What is done for a caller that cannot wait, and what is handed back.

use std::path::Path;

use envol::block::file::{FileDevice, Space};
use envol::block::{BlockDevice, BlockDeviceExt, Durability, Effort, Io, Op, Patience, Zeroing};
use envol::units::ByteOffset;

use crate::places::{Ext4, count, extent, in_memory, on_disk, skip};

const SIZE: u64 = 1 << 20;

fn device(directory: &Path) -> FileDevice {
    FileDevice::create(&directory.join("backing"), count(SIZE), Space::Thin).expect("made")
}

/// Whether a read of `length` bytes is answered at once; checks the bytes if it is.
fn read_now(device: &FileDevice, length: usize) -> bool {
    let mut into = vec![0; length];
    let mut completed = 0;
    let mut batch = [Io::new(Op::Read { at: ByteOffset::ZERO, into: &mut into }, 0)];
    device.submit(&mut batch, Patience::TryNow, &mut |_| completed += 1);
    let answered = batch[0].outcome().is_some();
    assert_eq!(completed, usize::from(answered));
    if answered {
        assert_eq!(batch[0].outcome(), Some(Ok(())));
        assert!(into.iter().all(|byte| *byte == 7), "what is answered is right");
    }
    answered
}

fn fill(device: &FileDevice) {
    let mut bytes = vec![7; usize::try_from(SIZE).expect("small")];
    device.write_at(ByteOffset::ZERO, &mut bytes, Durability::Durable).expect("writes");
}

#[test]
fn what_is_in_memory_is_read_at_once_and_what_is_not_is_handed_back() {
    let Some(place) = Ext4::new(16 << 20) else { return skip("no ext4 on a loop device") };
    let device = device(place.path());
    fill(&device);
    // The page cache may drop pages at any time, so one try in many is enough.
    assert!((0..100).any(|_| device.read_at(ByteOffset::ZERO, &mut [0; 65_536]).is_ok() && read_now(&device, 65_536)));
    device.forget_unwritten().expect("forgets");
    assert!(!read_now(&device, 65_536), "nothing of it is in memory");
    device.read_at(ByteOffset::ZERO, &mut [0; 512]).expect("reads");
    // How much of it the kernel read ahead is its affair; an answer must be right all the same.
    read_now(&device, 65_536);
}

#[test]
fn a_file_in_memory_never_waits() {
    let Some(place) = in_memory() else { return skip("no /dev/shm") };
    let device = device(place.path());
    fill(&device);
    assert!(read_now(&device, 65_536));
}

#[test]
fn cached_writes_are_done_at_once_and_the_rest_is_handed_back() {
    let place = on_disk();
    let device = device(place.path());
    let (mut first, mut second, mut runs) = ([7; 100], [8; 100], Vec::new());
    let at = ByteOffset::new(3);
    let (zeroing, effort, durability) = (Zeroing::MayPunch, Effort::Any, Durability::Cached);
    let mut batch = [
        Io::new(Op::Write { at, from: &mut first, durability }, 0),
        Io::new(Op::Write { at: ByteOffset::new(500), from: &mut second, durability: Durability::Durable }, 1),
        Io::new(Op::Flush, 2),
        Io::new(Op::Zero { extent: extent(0, 512), zeroing, effort, durability }, 3),
        Io::new(Op::Discard { extent: extent(0, 512), durability }, 4),
        Io::new(Op::Extents { extent: extent(0, 512), into: &mut runs, most: 1 }, 5),
    ];
    let mut tags = Vec::new();
    device.submit(&mut batch, Patience::TryNow, &mut |io| tags.push(io.tag));
    assert_eq!(tags, [0]);
    let mut bytes = [0; 1024];
    device.read_at(ByteOffset::ZERO, &mut bytes).expect("reads");
    assert_eq!((bytes[3], bytes[102], bytes[500]), (7, 7, 0), "the durable write was not begun");
    device.submit(&mut batch, Patience::MayBlock, &mut |io| tags.push(io.tag));
    tags.sort_unstable();
    assert_eq!(tags, [0, 1, 2, 3, 4, 5], "each is completed once");
    assert!(batch.iter().all(|io| io.outcome() == Some(Ok(()))));
}

#[test]
fn a_range_past_the_end_is_refused_at_once() {
    let place = on_disk();
    let device = device(place.path());
    let mut into = [0; 2];
    let mut batch = [Io::new(Op::Read { at: ByteOffset::new(SIZE - 1), into: &mut into }, 0)];
    device.submit(&mut batch, Patience::TryNow, &mut |_| ());
    assert_eq!(batch[0].outcome(), Some(Err(envol::block::BlockError::OutOfRange)));
}
