//! What real tools leave on a backing is recognised by its name.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use envol::block::file::{Access, FileDevice, Space};
use envol::block::signature::{Finding, examine};
use envol::block::{BlockDeviceExt, Durability};
use envol::units::ByteOffset;

use crate::places::{Loop, count, on_disk, open, run, skip};

const SIZE: u64 = 320 << 20;

/// The tool, its arguments before the path, and what is found afterwards.
const TOOLS: &[(&str, &[&str], &str)] = &[
    ("mkfs.ext2", &["-q", "-F"], "an ext2, ext3 or ext4 file system"),
    ("mkfs.ext4", &["-q", "-F"], "an ext2, ext3 or ext4 file system"),
    ("mkswap", &[], "swap space"),
];

fn examined(path: &Path) -> Option<Finding> {
    let device = open(path, Access::ReadOnly);
    examine(&device, &[]).expect("readable")
}

#[test]
fn what_common_tools_make_is_recognised() {
    for (tool, arguments, name) in TOOLS {
        let place = on_disk();
        let path = place.path().join("image");
        drop(FileDevice::create(&path, count(SIZE), Space::Thin).expect("made"));
        if run(tool, &[*arguments, &[path.to_str().expect("plain")]].concat()).is_none() {
            skip(&format!("no {tool}"));
            continue;
        }
        assert_eq!(examined(&path), Some(Finding::Foreign(name)), "{tool}");
    }
}

#[test]
fn disk_images_of_other_programs_are_recognised() {
    for (format, name) in
        [("qcow2", "a qcow2 image"), ("vmdk", "a VMDK image"), ("vhdx", "a VHDX image"), ("vpc", "a VHD image")]
    {
        let place = on_disk();
        let path = place.path().join("image");
        if run("qemu-img", &["create", "-q", "-f", format, path.to_str().expect("plain"), "64M"]).is_none() {
            skip("no qemu-img");
            continue;
        }
        assert_eq!(examined(&path), Some(Finding::Foreign(name)));
    }
}

#[test]
fn an_empty_file_holds_nothing_and_one_byte_is_data() {
    let place = on_disk();
    let path = place.path().join("image");
    let device = FileDevice::create(&path, count(SIZE), Space::Thick).expect("made");
    assert_eq!(examine(&device, &[]).expect("readable"), None, "space that was never written");
    device.write_at(ByteOffset::new(SIZE / 2), &mut [1], Durability::Cached).expect("writes");
    assert_eq!(examine(&device, &[]).expect("readable"), Some(Finding::Data(ByteOffset::new(SIZE / 2))));
}

#[test]
fn a_block_device_is_sampled() {
    let place = on_disk();
    let path = place.path().join("image");
    File::create(&path).and_then(|file| file.set_len(SIZE)).expect("made");
    {
        let Some(disk) = Loop::over(&path, &[]) else { return skip("no loop devices") };
        assert_eq!(examined(disk.path()), None);
    }
    File::options().append(true).open(&path).expect("opens").write_all(&[1; 512]).expect("grows");
    let Some(disk) = Loop::over(&path, &[]) else { return skip("no loop devices") };
    assert_eq!(examined(disk.path()), Some(Finding::Data(ByteOffset::new(SIZE))));
}
