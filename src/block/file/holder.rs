//! Who holds a backing, for the error that refuses it: looked up in /proc and /sys once it was refused, so it is a hint
//! and never a decision. What this process may not see stays unknown.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nix::libc::{dev_t, major, minor};

/// Somebody who keeps a backing from being opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A process.
    Process {
        /// Its id.
        pid: u32,
        /// Its name, as the kernel has it.
        name: String,
    },
    /// It is mounted there.
    Mount(PathBuf),
    /// A block device made of it, such as a loop device or a mapping.
    Device(String),
    /// Nobody that can be seen from here.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, .. } if *pid == std::process::id() => write!(f, "this daemon"),
            Self::Process { pid, name } => write!(f, "process {pid} ({name})"),
            Self::Mount(place) => write!(f, "the mount at {}", place.display()),
            Self::Device(name) => write!(f, "the device {name}"),
            Self::Unknown => write!(f, "another program"),
        }
    }
}

impl Holder {
    /// Who has the lock on a file.
    pub(super) fn of_file(device: dev_t, inode: u64) -> Self {
        let (major, minor) = (major(device), minor(device));
        let whole = format!("{major:02x}:{minor:02x}:{inode}");
        process_where(|process| {
            let descriptors = fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten();
            descriptors.filter_map(|entry| fs::read_to_string(entry.path()).ok()).any(|info| has_lock(&info, &whole))
        })
        .unwrap_or(Self::Unknown)
    }

    /// Who has a block device exclusively.
    pub(super) fn of_device(device: dev_t) -> Self {
        let number = format!("{}:{}", major(device), minor(device));
        mount_of(&number)
            .map(Self::Mount)
            .or_else(|| user_of(&number).map(Self::Device))
            .or_else(|| process_where(|process| has_open(process, device)))
            .unwrap_or(Self::Unknown)
    }
}

/// Whether one of `info`'s lines is an open-file-description lock on the file `whole` (`major:minor:inode`).
fn has_lock(info: &str, whole: &str) -> bool {
    let locks = info.lines().filter_map(|line| line.strip_prefix("lock:"));
    locks.map(|lock| lock.split_whitespace()).any(|mut words| {
        // number, kind, ADVISORY, READ or WRITE, pid, file, start, end
        words.nth(1) == Some("OFDLCK") && words.nth(3) == Some(whole)
    })
}

/// The first process for which `holds` is true of its directory in /proc.
fn process_where(holds: impl Fn(&Path) -> bool) -> Option<Holder> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbered = processes.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())));
    let (pid, path) = numbered.into_iter().find(|(_, path): &(u32, PathBuf)| holds(path))?;
    let name = fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_owned();
    Some(Holder::Process { pid, name })
}

fn has_open(process: &Path, device: dev_t) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|entry| fs::metadata(entry.path()).ok())
        .any(|open| open.file_type().is_block_device() && open.rdev() == device)
}

/// Where the device `number` (`major:minor`) is mounted.
fn mount_of(number: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut words = mounts.lines().map(|line| line.split(' '));
    // id, parent, device, root, place
    words.find_map(|mut words| (words.nth(2)? == number).then(|| words.nth(1).map(PathBuf::from))?)
}

/// A device that is built on the device `number`.
fn user_of(number: &str) -> Option<String> {
    let users = fs::read_dir(format!("/sys/dev/block/{number}/holders")).ok()?;
    users.flatten().next()?.file_name().into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "pos:\t0\nflags:\t0100002\nmnt_id:\t30\nino:\t94\n\
                        lock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:1234 0 EOF\n";

    #[test]
    fn a_lock_is_found_by_its_file() {
        assert!(has_lock(INFO, "fe:00:1234"));
        assert!(!has_lock(INFO, "fe:00:123"));
        assert!(!has_lock(&INFO.replace("OFDLCK", "POSIX"), "fe:00:1234"));
        assert!(!has_lock("", "fe:00:1234"));
    }

    #[test]
    fn the_root_file_system_is_mounted_at_the_root() {
        let root = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        let line = root.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("a root is mounted");
        let number = line.split(' ').nth(2).expect("a device number");
        assert_eq!(mount_of(number), Some(PathBuf::from("/")));
        assert_eq!(mount_of("0:0"), None);
    }
}
