//! One backing, one writer, by whatever name it is opened; and nothing but storage is opened at all.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use envol::block::file::{Access, FileDevice, Holder, Identity, OpenError, Space};
use envol::block::{BlockDevice, BlockDeviceExt, BlockError, Durability};
use envol::units::ByteOffset;

use crate::places::{Loop, Mount, count, eventually, on_disk, open, run, skip};

const SIZE: u64 = 1 << 20;

fn make(path: &Path) -> FileDevice {
    FileDevice::create(path, count(SIZE), Space::Thin).expect("made")
}

fn holder(outcome: Result<FileDevice, OpenError>) -> Holder {
    match outcome {
        Err(OpenError::InUse { holder, .. }) => holder,
        other => panic!("expected to be refused as in use: {other:?}"),
    }
}

fn ourselves(holder: &Holder) -> bool {
    matches!(holder, Holder::Process { pid, .. } if *pid == std::process::id())
}

#[test]
fn a_file_that_is_open_is_refused_and_free_again_once_closed() {
    let place = on_disk();
    let path = place.path().join("backing");
    let device = make(&path);
    for access in [Access::ReadWrite, Access::ReadOnly] {
        assert!(ourselves(&holder(FileDevice::open(&path, access))), "{access:?}");
    }
    drop(device);
    open(&path, Access::ReadWrite);
}

#[test]
fn readers_share_a_file_and_keep_writers_out() {
    let place = on_disk();
    let path = place.path().join("backing");
    drop(make(&path));
    let first = open(&path, Access::ReadOnly);
    let second = open(&path, Access::ReadOnly);
    assert_eq!(first.identity(), second.identity());
    assert!(ourselves(&holder(FileDevice::open(&path, Access::ReadWrite))));
    let refused = first.write_at(ByteOffset::ZERO, &mut [1], Durability::Cached);
    assert_eq!(refused, Err(BlockError::ReadOnly));
    assert_eq!(first.flush(), Ok(()));
}

#[test]
fn other_names_of_a_file_are_the_same_file() {
    let place = on_disk();
    let path = place.path().join("backing");
    let device = make(&path);
    let (hard, soft) = (place.path().join("hard"), place.path().join("soft"));
    fs::hard_link(&path, &hard).expect("linked");
    symlink(&path, &soft).expect("linked");
    for name in [hard, soft] {
        assert!(ourselves(&holder(FileDevice::open(&name, Access::ReadWrite))), "{}", name.display());
    }
    assert!(matches!(device.identity(), Identity::File { .. }));
}

#[test]
fn a_file_and_the_loop_device_over_it_exclude_each_other() {
    let place = on_disk();
    let path = place.path().join("backing");
    let device = make(&path);
    let Some(disk) = Loop::over(&path, &[]) else { return skip("no loop devices") };
    assert!(ourselves(&holder(FileDevice::open(disk.path(), Access::ReadWrite))), "the file is open");
    drop(device);
    let name = disk.path().file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let refused = || Some(holder(FileDevice::open(&path, Access::ReadWrite))).filter(|holder| !ourselves(holder));
    assert_eq!(eventually(refused), Some(Holder::Device(name)), "the loop device can be written");
    let device = open(disk.path(), Access::ReadWrite);
    assert!(matches!(device.identity(), Identity::Device(_)));
    assert!(ourselves(&holder(FileDevice::open(&path, Access::ReadOnly))), "the loop device is open");
    assert!(ourselves(&holder(FileDevice::open(disk.path(), Access::ReadWrite))), "and only once");
}

#[test]
fn a_loop_device_over_a_loop_device_is_followed_to_the_file() {
    let place = on_disk();
    let path = place.path().join("backing");
    let device = make(&path);
    let Some(lower) = Loop::over(&path, &[]) else { return skip("no loop devices") };
    let Some(upper) = Loop::over(lower.path(), &[]) else { return skip("no second loop device") };
    assert!(ourselves(&holder(FileDevice::open(upper.path(), Access::ReadWrite))), "the file is open");
    drop(device);
    let device = open(upper.path(), Access::ReadWrite);
    assert!(ourselves(&holder(FileDevice::open(lower.path(), Access::ReadWrite))), "the upper one is open");
    drop(device);
}

#[test]
fn a_loop_device_whose_file_was_replaced_is_refused() {
    let place = on_disk();
    let path = place.path().join("backing");
    drop(make(&path));
    let Some(disk) = Loop::over(&path, &[]) else { return skip("no loop devices") };
    fs::remove_file(&path).expect("removed");
    drop(make(&path));
    let refused = FileDevice::open(disk.path(), Access::ReadWrite);
    assert!(matches!(refused, Err(OpenError::HiddenBacking(_))), "{refused:?}");
}

#[test]
fn a_mounted_device_is_refused_with_its_mount() {
    let place = on_disk();
    let path = place.path().join("disk");
    drop(make(&path));
    if run("mkfs.ext4", &["-q", "-O", "^has_journal", path.to_str().expect("plain")]).is_none() {
        return skip("no mkfs.ext4");
    }
    let Some(disk) = Loop::over(&path, &[]) else { return skip("no loop devices") };
    let Some(mount) = Mount::of(disk.path(), "rw") else { return skip("no mounts") };
    let refused = holder(FileDevice::open(disk.path(), Access::ReadWrite));
    assert_eq!(refused, Holder::Mount(mount.path().to_owned()));
}

#[test]
fn a_read_only_device_is_refused_for_writing_and_opens_for_reading() {
    let place = on_disk();
    let path = place.path().join("disk");
    drop(make(&path));
    let Some(disk) = Loop::over(&path, &["--read-only"]) else { return skip("no loop devices") };
    let refused = FileDevice::open(disk.path(), Access::ReadWrite);
    assert!(matches!(refused, Err(OpenError::ReadOnly(_))), "{refused:?}");
    let device = open(disk.path(), Access::ReadOnly);
    assert!(device.geometry().read_only);
}

#[test]
fn what_is_no_storage_is_refused_without_being_opened() {
    let place = on_disk();
    let pipe = place.path().join("pipe");
    // Opening a pipe for reading would wait for a writer for ever.
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for path in [place.path(), &pipe, Path::new("/dev/null")] {
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let refused = FileDevice::open(path, access);
            assert!(matches!(refused, Err(OpenError::NotStorage(_))), "{}: {refused:?}", path.display());
        }
    }
}

#[test]
fn a_missing_file_and_an_existing_one_are_told_apart() {
    let place = on_disk();
    let path = place.path().join("backing");
    assert!(matches!(FileDevice::open(&path, Access::ReadOnly), Err(OpenError::NotFound(_))));
    fs::write(&path, b"precious").expect("written");
    let refused = FileDevice::create(&path, count(SIZE), Space::Thin);
    assert!(matches!(refused, Err(OpenError::Exists(_))), "{refused:?}");
    assert_eq!(fs::read(&path).expect("still there"), b"precious");
}

#[test]
fn a_new_file_belongs_to_its_maker_alone_and_has_the_size_and_space_asked_for() {
    let place = on_disk();
    for (name, space, least, most) in [("thin", Space::Thin, 0, SIZE / 2), ("thick", Space::Thick, SIZE, 2 * SIZE)] {
        let path = place.path().join(name);
        let device = FileDevice::create(&path, count(SIZE), space).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(device.geometry().size, count(SIZE));
        let allocated = device.allocated().expect("known").get();
        assert!((least..=most).contains(&allocated), "{name} takes {allocated}");
    }
}

#[test]
fn a_file_that_was_replaced_is_noticed() {
    let place = on_disk();
    let path = place.path().join("backing");
    let device = make(&path);
    assert!(device.is_still_in_place());
    fs::remove_file(&path).expect("removed");
    assert!(!device.is_still_in_place());
    fs::write(&path, b"another").expect("written");
    assert!(!device.is_still_in_place());
    assert_eq!(device.write_at(ByteOffset::ZERO, &mut [1], Durability::Durable), Ok(()), "it is kept open");
}
