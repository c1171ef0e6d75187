//! Which machine, which file system, and what of a file is in memory: without these a figure says nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::block::{BlockDevice, BlockDeviceExt, Io, Op, Patience};
use crate::units::{ByteCount, ByteOffset};

/// Places that are looked at to tell what is in memory.
const SAMPLES: usize = 256;

/// Bytes of each sample.
const SAMPLE: usize = 4096;

/// What the figures were measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Bytes of memory.
    pub memory: Option<u64>,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let (cpuinfo, meminfo) = (text("/proc/cpuinfo"), text("/proc/meminfo"));
        let kernel = nix::sys::utsname::uname().ok();
        let kernel = kernel.map(|uname| uname.release().to_string_lossy().into_owned());
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.unwrap_or_else(|| "unknown".to_owned()),
            memory: field(&meminfo, "MemTotal").and_then(kibibytes),
        }
    }
}

/// What stands behind `name:` in text of such lines.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':')).map(str::trim)
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The kind of file system that `path` lies on, such as `ext4` or `tmpfs`; `None` where that cannot be found out.
pub fn file_system(path: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    file_system_in(&mounts, &path.canonicalize().ok()?)
}

/// Lines of proc_pid_mountinfo(5): the fifth word is the mount point, and the word behind ` - ` the kind.
fn file_system_in(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = PathBuf::from(unescaped(mount.split(' ').nth(4)?));
        Some((point, kind.split(' ').next()?))
    });
    // Of two mounts on one point the later one is seen.
    let seen = mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.components().count());
    seen.map(|(_, kind)| kind.to_owned())
}

/// Spaces, tabs, line ends and backslashes are written as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

/// Bytes that whoever runs this may still write in the file system of `path`.
pub fn space_left(path: &Path) -> Option<u64> {
    let space = nix::sys::statvfs::statvfs(path).ok()?;
    space.blocks_available().checked_mul(space.fragment_size())
}

/// What part of the `size` bytes of `device` behind the first `base` can be read without waiting, by samples; `None`
/// where the device cannot tell even of what was read just before.
pub(super) fn in_memory(device: &dyn BlockDevice, base: ByteCount, size: ByteCount) -> Option<f64> {
    let place = |number: u64| ByteOffset::new(base.get() + number * SAMPLE as u64);
    device.read_at(place(0), &mut [0; SAMPLE]).ok()?;
    if !is_in_memory(device, place(0)) {
        return None;
    }
    let mut random = fastrand::Rng::with_seed(0);
    let count = (size.get() / SAMPLE as u64).max(1);
    let found = (0..SAMPLES).filter(|_| is_in_memory(device, place(random.u64(0..count)))).count();
    Some(u32::try_from(found).map_or(0.0, f64::from) / f64::from(u16::try_from(SAMPLES).expect("few")))
}

fn is_in_memory(device: &dyn BlockDevice, at: ByteOffset) -> bool {
    let mut data = [0; SAMPLE];
    let mut batch = [Io::new(Op::Read { at, into: &mut data }, 0)];
    device.submit(&mut batch, Patience::TryNow, &mut |_| ());
    batch[0].outcome() == Some(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::memory::MemoryDevice;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:33 / /tmp rw,nosuid shared:18 - tmpfs tmpfs rw
41 40 0:34 / /tmp/a\\040b rw - xfs /dev/sdb rw
42 22 0:35 / /mnt rw - vfat /dev/sdc rw
43 22 0:36 / /mnt rw - btrfs /dev/sdd rw
";

    #[test]
    fn the_file_system_is_that_of_the_nearest_mount_point() {
        for (path, kind) in [
            ("/", "ext4"),
            ("/tmpx", "ext4"),
            ("/tmp", "tmpfs"),
            ("/tmp/x/y", "tmpfs"),
            ("/tmp/a b/c", "xfs"),
            ("/mnt/x", "btrfs"),
        ] {
            assert_eq!(file_system_in(MOUNTS, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
        assert_eq!(file_system_in("", Path::new("/")), None);
    }

    #[test]
    fn fields_of_proc_are_found_by_their_names() {
        let text = "model\t\t: 17\nmodel name\t: A: B\nMemTotal:       4 kB\n";
        assert_eq!(field(text, "model name"), Some("A: B"));
        assert_eq!(field(text, "MemTotal").and_then(kibibytes), Some(4096));
        assert_eq!(field(text, "stepping"), None);
    }

    #[test]
    fn this_machine_has_a_name_a_kernel_and_a_processor() {
        let machine = Machine::this();
        assert!(!machine.cpu.is_empty() && machine.cores > 0 && machine.kernel.contains('.'), "{machine:?}");
        assert!(machine.memory.is_some_and(|bytes| bytes > 1 << 20));
        assert!(file_system(Path::new("/")).is_some());
    }

    #[test]
    fn memory_is_in_memory() {
        let device = MemoryDevice::new(ByteCount::new(1 << 20));
        assert_eq!(in_memory(&device, ByteCount::new(4096), ByteCount::new(1 << 19)), Some(1.0));
    }
}
