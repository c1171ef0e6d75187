//! Which disks bytes come to lie on, and whether they are encrypted on the way: the kernel's tree of block devices.
//!
//! A partition lies on its disk; a device that is built of others (dm-crypt, LVM, RAID) on all of theirs. What has no block
//! device of its own (tmpfs, a network, a subvolume of btrfs) is told apart by its device number alone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

/// Devices that are built on one another, at the most.
const DEPTH_MAX: usize = 16;

/// The tree, as it is found below `/sys`.
pub(super) struct Disks {
    sys: PathBuf,
}

/// What is under one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Under {
    /// The disks, by name.
    pub(super) disks: BTreeSet<String>,
    /// Whether all that reaches them has passed dm-crypt.
    pub(super) encrypted: bool,
}

impl Disks {
    pub(super) fn of_this_machine() -> Self {
        Self { sys: PathBuf::from("/sys") }
    }

    /// What the file or directory `path` lies on, a device itself; or what the nearest directory above does that exists.
    pub(super) fn under(&self, path: &Path) -> Option<Under> {
        let facts = path.ancestors().find_map(|place| fs::metadata(place).ok())?;
        let device = if facts.rdev() == 0 { facts.dev() } else { facts.rdev() };
        Some(self.under_number(device))
    }

    fn under_number(&self, device: u64) -> Under {
        let number = format!("{}:{}", major(device), minor(device));
        match self.sys.join("dev/block").join(&number).canonicalize() {
            Ok(place) => below(&place, DEPTH_MAX),
            Err(_) => Under { disks: [number].into(), encrypted: false },
        }
    }
}

fn below(place: &Path, depth: usize) -> Under {
    let ciphers = fs::read_to_string(place.join("dm/uuid")).is_ok_and(|uuid| uuid.starts_with("CRYPT-"));
    let parts = fs::read_dir(place.join("slaves")).into_iter().flatten().flatten();
    let parts: Vec<Under> = parts
        .filter_map(|part| part.path().canonicalize().ok())
        .filter(|_| depth > 0)
        .map(|part| below(&part, depth - 1))
        .collect();
    if parts.is_empty() {
        let whole = if place.join("partition").exists() { place.parent() } else { Some(place) };
        let name = whole.and_then(Path::file_name).unwrap_or_default();
        return Under { disks: [name.to_string_lossy().into_owned()].into(), encrypted: ciphers };
    }
    let encrypted = ciphers || parts.iter().all(|part| part.encrypted);
    Under { disks: parts.into_iter().flat_map(|part| part.disks).collect(), encrypted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::makedev;

    /// A disk with two partitions; the second is encrypted, and a logical volume lies on that.
    fn machine() -> (tempfile::TempDir, Disks) {
        let root = tempfile::tempdir().expect("a directory");
        let make = |path: &str| fs::create_dir_all(root.path().join(path)).expect("made");
        let write = |path: &str, text: &str| fs::write(root.path().join(path), text).expect("written");
        for (device, number) in
            [("sda", "8:0"), ("sda/sda1", "8:1"), ("sda/sda2", "8:2"), ("dm-0", "254:0"), ("dm-1", "254:1")]
        {
            make(&format!("devices/{device}/slaves"));
            make("dev/block");
            symlink(root.path().join("devices").join(device), root.path().join("dev/block").join(number))
                .expect("linked");
        }
        for partition in ["sda/sda1", "sda/sda2"] {
            write(&format!("devices/{partition}/partition"), "1\n");
        }
        for (device, on, uuid) in [("dm-0", "sda/sda2", "CRYPT-LUKS2-0\n"), ("dm-1", "dm-0", "LVM-0\n")] {
            make(&format!("devices/{device}/dm"));
            write(&format!("devices/{device}/dm/uuid"), uuid);
            symlink(root.path().join("devices").join(on), root.path().join(format!("devices/{device}/slaves/x")))
                .expect("linked");
        }
        let disks = Disks { sys: root.path().to_owned() };
        (root, disks)
    }

    #[test]
    fn everything_is_followed_to_its_disk_through_encryption() {
        let (_root, disks) = machine();
        let under = |major, minor| disks.under_number(makedev(major, minor));
        let sda = BTreeSet::from(["sda".to_owned()]);
        for (number, encrypted) in [((8, 0), false), ((8, 1), false), ((254, 0), true), ((254, 1), true)] {
            assert_eq!(under(number.0, number.1), Under { disks: sda.clone(), encrypted }, "{number:?}");
        }
        assert_eq!(under(0, 45).disks, ["0:45".to_owned()].into(), "no block device");
    }
}
