//! Where backings of the tests lie, each cleaned up on drop.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use envol::block::file::{Access, FileDevice, OpenError};
use envol::units::{ByteCount, ByteOffset, Extent};
use tempfile::TempDir;

/// Says that a test was not run; under `REQUIRE_ALL=1` that is a failure.
#[expect(clippy::print_stderr, reason = "a skip is to be seen in the output of the tests")]
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|value| value != "1"), "not skipped: {reason}");
    eprintln!("skipped: {reason}");
}

/// Runs a program; its standard output, or `None` where it is missing or fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Tries again for some seconds. What a test closes stays open a moment longer in a child that another test is starting,
/// which holds everything between its fork and its exec.
pub(crate) fn eventually<T>(attempt: impl Fn() -> Option<T>) -> Option<T> {
    for _ in 0..100 {
        if let Some(value) = attempt() {
            return Some(value);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

/// Opens what this test may have just closed.
pub(crate) fn open(path: &Path, access: Access) -> FileDevice {
    let attempt = || match FileDevice::open(path, access) {
        Err(OpenError::InUse { .. }) => None,
        other => Some(other.expect("opens")),
    };
    eventually(attempt).expect("free again")
}

pub(crate) fn extent(start: u64, length: u64) -> Extent {
    Extent::new(ByteOffset::new(start), ByteCount::new(length)).expect("small")
}

pub(crate) fn count(bytes: u64) -> ByteCount {
    ByteCount::new(bytes)
}

/// A directory on the disk that the system's temporary files are on.
pub(crate) fn on_disk() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

/// A directory in memory.
pub(crate) fn in_memory() -> Option<TempDir> {
    TempDir::new_in("/dev/shm").ok()
}

/// A loop device over a file.
pub(crate) struct Loop {
    path: PathBuf,
}

impl Loop {
    /// Needs root. A machine has few loop devices and other tests use them too, so one is waited for.
    pub(crate) fn over(file: &Path, options: &[&str]) -> Option<Self> {
        let arguments = [&["--find", "--show"], options, &[file.to_str().expect("a plain path")]].concat();
        run("losetup", &["--list"])?;
        let path = eventually(|| run("losetup", &arguments))?;
        Some(Self { path: path.into() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let path = self.path.to_str().expect("a plain path");
        assert!(eventually(|| run("losetup", &["--detach", path])).is_some(), "{path} is detached");
    }
}

/// A file system mounted at a directory of its own.
pub(crate) struct Mount {
    place: TempDir,
}

impl Mount {
    /// A tmpfs that holds `size` bytes. Needs root.
    pub(crate) fn tmpfs(size: u64) -> Option<Self> {
        Self::by(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
    }

    /// What `device` holds.
    pub(crate) fn of(device: &Path, options: &str) -> Option<Self> {
        Self::by(&["-o", options, device.to_str().expect("a plain path")])
    }

    fn by(arguments: &[&str]) -> Option<Self> {
        let place = on_disk();
        run("mount", &[arguments, &[place.path().to_str().expect("a plain path")]].concat())?;
        Some(Self { place })
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let place = self.place.path().to_str().expect("a plain path");
        assert!(eventually(|| run("umount", &[place])).is_some(), "{place} is unmounted");
    }
}

/// A fresh ext4 file system, whatever the system's temporary files are on.
pub(crate) struct Ext4 {
    // In the order in which they are given back.
    mount: Mount,
    _disk: Loop,
    _image: TempDir,
}

impl Ext4 {
    /// One of `size` bytes. Needs root and `mkfs.ext4`.
    pub(crate) fn new(size: u64) -> Option<Self> {
        let image = on_disk();
        let path = image.path().join("image");
        File::create(&path).and_then(|file| file.set_len(size)).expect("made");
        run("mkfs.ext4", &["-q", path.to_str().expect("a plain path")])?;
        let disk = Loop::over(&path, &[])?;
        let mount = Mount::of(disk.path(), "rw")?;
        Some(Self { mount, _disk: disk, _image: image })
    }

    pub(crate) fn path(&self) -> &Path {
        self.mount.path()
    }
}
