//! Space that runs out and comes back, holes that give space back, and what is left after a failed sync.

use std::fs::File;

use envol::block::file::{Access, FileDevice, OpenError, Space};
use envol::block::{BlockDevice, BlockDeviceExt, BlockError, Durability, Effort, Op, Zeroing};
use envol::units::ByteOffset;

use crate::places::{Loop, Mount, count, extent, on_disk, open, run, skip};

const MIB: u64 = 1 << 20;

fn write(device: &FileDevice, at: u64, length: u64) -> Result<(), BlockError> {
    let mut bytes = vec![7; usize::try_from(length).expect("small")];
    device.write_at(ByteOffset::new(at), &mut bytes, Durability::Durable)
}

fn zero(device: &FileDevice, start: u64, length: u64, how: (Zeroing, Effort)) -> Result<(), BlockError> {
    let (zeroing, effort) = how;
    device.perform(Op::Zero { extent: extent(start, length), zeroing, effort, durability: Durability::Durable })
}

#[test]
fn a_full_file_system_is_told_and_recovers_when_there_is_space() {
    let Some(mount) = Mount::tmpfs(MIB) else { return skip("no mounts") };
    let device = FileDevice::create(&mount.path().join("thin"), count(4 * MIB), Space::Thin).expect("made");
    write(&device, 0, MIB / 2).expect("there is space");
    assert!(matches!(write(&device, MIB, 2 * MIB), Err(BlockError::NoSpace(_))));
    device.zero(extent(0, 4 * MIB)).expect("zeroes");
    write(&device, 3 * MIB, MIB / 2).expect("there is space again");
    assert_eq!(device.flush(), Ok(()), "nothing was lost");
}

#[test]
fn a_file_that_cannot_have_its_space_is_not_left_behind() {
    let Some(mount) = Mount::tmpfs(MIB) else { return skip("no mounts") };
    let path = mount.path().join("thick");
    let refused = FileDevice::create(&path, count(4 * MIB), Space::Thick);
    assert!(matches!(refused, Err(OpenError::NoSpace { .. })), "{refused:?}");
    assert!(!path.exists());
}

#[test]
fn holes_give_space_back() {
    let place = on_disk();
    let device = FileDevice::create(&place.path().join("file"), count(8 * MIB), Space::Thin).expect("made");
    assert!(device.geometry().punches, "the file system of temporary files punches holes");
    write(&device, 0, 8 * MIB).expect("writes");
    let full = device.allocated().expect("known").get();
    assert!(full >= 8 * MIB);
    device.zero(extent(0, 4 * MIB)).expect("zeroes");
    device
        .perform(Op::Discard { extent: extent(4 * MIB, 2 * MIB), durability: Durability::Durable })
        .expect("discards");
    let left = device.allocated().expect("known").get();
    assert!(left <= full - 6 * MIB, "{left} of {full}");
    zero(&device, 0, 4 * MIB, (Zeroing::KeepAllocated, Effort::Any)).expect("zeroes");
    assert!(device.allocated().expect("known").get() >= left + 4 * MIB, "the space is kept");
}

#[test]
fn a_file_system_without_allocated_zeros_says_that_it_is_not_fast() {
    let Some(mount) = Mount::tmpfs(4 * MIB) else { return skip("no mounts") };
    let device = FileDevice::create(&mount.path().join("file"), count(MIB), Space::Thin).expect("made");
    write(&device, 0, MIB).expect("writes");
    let (kept, fast) = (Zeroing::KeepAllocated, Effort::FastOnly);
    assert_eq!(zero(&device, 0, MIB, (kept, fast)), Err(BlockError::NotFast));
    assert_eq!(zero(&device, 100, 5_000, (kept, Effort::Any)), Ok(()), "written instead");
    assert_eq!(zero(&device, 0, MIB, (Zeroing::MayPunch, fast)), Ok(()), "a hole is fast");
}

#[test]
fn extents_cover_what_was_asked_for_while_others_punch_and_write() {
    let place = on_disk();
    let device = FileDevice::create(&place.path().join("file"), count(MIB), Space::Thin).expect("made");
    write(&device, 0, MIB).expect("writes");
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for step in 0..2_000 {
                let at = step * 7 % 256 * 4096;
                device.zero(extent(at, 4096)).expect("zeroes");
                device.write_at(ByteOffset::new(at), &mut [7; 512], Durability::Cached).expect("writes");
            }
        });
        while !changing.is_finished() {
            let runs = device.extents(extent(1_000, MIB - 2_000)).expect("described");
            assert_eq!(runs.iter().map(|run| run.length.get()).sum::<u64>(), MIB - 2_000);
        }
    });
}

#[test]
fn a_backing_that_shrank_is_an_error_and_never_zeros() {
    let place = on_disk();
    let path = place.path().join("file");
    let device = FileDevice::create(&path, count(MIB), Space::Thin).expect("made");
    File::options().write(true).open(&path).expect("opens").set_len(MIB / 2).expect("shrinks");
    let mut bytes = [0; 512];
    assert!(matches!(device.read_at(ByteOffset::new(MIB - 512), &mut bytes), Err(BlockError::System(_))));
    assert_eq!(device.read_at(ByteOffset::ZERO, &mut bytes), Ok(()));
}

#[test]
fn a_file_on_a_read_only_file_system_opens_for_reading_only() {
    let place = on_disk();
    let image = place.path().join("image");
    drop(FileDevice::create(&image, count(4 * MIB), Space::Thin).expect("made"));
    if run("mkfs.ext4", &["-q", image.to_str().expect("plain")]).is_none() {
        return skip("no mkfs.ext4");
    }
    let Some(disk) = Loop::over(&image, &[]) else { return skip("no loop devices") };
    {
        let Some(mount) = Mount::of(disk.path(), "rw") else { return skip("no mounts") };
        drop(FileDevice::create(&mount.path().join("file"), count(4096), Space::Thin).expect("made"));
    }
    let mount = Mount::of(disk.path(), "ro").expect("mounted a moment ago");
    let path = mount.path().join("file");
    let refused = FileDevice::open(&path, Access::ReadWrite);
    assert!(matches!(refused, Err(OpenError::ReadOnly(_))), "{refused:?}");
    let device = open(&path, Access::ReadOnly);
    assert_eq!(device.read_at(ByteOffset::ZERO, &mut [0; 4096]), Ok(()));
}

#[test]
fn a_file_can_be_forgotten_and_read_again() {
    let place = on_disk();
    let device = FileDevice::create(&place.path().join("file"), count(MIB), Space::Thin).expect("made");
    write(&device, 1_000, 5_000).expect("writes");
    device.forget_unwritten().expect("forgets");
    let mut bytes = vec![0; 5_000];
    device.read_at(ByteOffset::new(1_000), &mut bytes).expect("reads");
    assert!(bytes.iter().all(|byte| *byte == 7));
}
