//! Opening a backing and making it ours: one writer, or any number of readers, whatever name it is opened by.
//!
//! A file is claimed by an open-file-description lock on all of it, a block device by O_EXCL (which the kernel also takes
//! for mounts and mappings). A loop device and the file behind it are two doors to the same bytes: opening the loop
//! device also claims the file, and a file that a writable loop device serves is refused. The lock lives on the
//! descriptor that does the I/O, so it ends with the last system call.
//!
//! The object is looked at before it is opened, so that a pipe or a terminal is refused without side effects.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, PosixFadviseAdvice, fcntl, posix_fadvise};
use nix::libc;

use super::Access;
use super::direct::NotDirect;
use super::holder::Holder;
use crate::sync::Arc;
use crate::sys::{closing, storage};

/// Loop devices over loop devices, as deep as anybody has a reason to stack them.
const LOOPS_MAX: usize = 4;

/// Why a backing could not be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nothing at that path.
    #[error("{0} does not exist")]
    NotFound(PathBuf),
    /// There is something at the path where a file was to be made.
    #[error("{0} exists already")]
    Exists(PathBuf),
    /// A directory, a pipe, a socket or a character device.
    #[error("{0} is neither a regular file nor a block device")]
    NotStorage(PathBuf),
    /// Somebody has it open.
    #[error("{path} is in use by {holder}")]
    InUse {
        /// What was to be opened, or the file behind it.
        path: PathBuf,
        /// By whom, as far as it can be seen.
        holder: Holder,
    },
    /// It is to be written and is read-only.
    #[error("{0} is read-only")]
    ReadOnly(PathBuf),
    /// This process may not open it.
    #[error("no permission to open {0}")]
    NotPermitted(PathBuf),
    /// The file behind a loop device cannot be found or is another one by now, so it cannot be kept from other writers.
    #[error("{0} is a loop device whose file cannot be found")]
    HiddenBacking(PathBuf),
    /// There is no room for it.
    #[error("the file system has no room for {path} ({source})")]
    NoSpace {
        /// What was to be made.
        path: PathBuf,
        /// ENOSPC, EDQUOT or EFBIG.
        source: io::Error,
    },
    /// It is to be used around the page cache, and cannot be.
    #[error("{path} cannot be attached with --direct: {source}")]
    NotDirect {
        /// What was opened.
        path: PathBuf,
        /// Why not.
        source: NotDirect,
    },
    /// The system said no.
    #[error("cannot open {path}: {source}")]
    System {
        /// What was to be opened.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A backing that is ours.
#[derive(Debug)]
pub(super) struct Claim {
    /// Shared with the reads that are under way.
    pub(super) file: Arc<File>,
    pub(super) metadata: fs::Metadata,
    /// What lies behind a loop device, claimed as well.
    behind: Option<Box<Self>>,
}

impl Claim {
    /// Ends it, whoever still points at it.
    pub(super) fn close(&self) -> Result<(), Errno> {
        closing::close_in_place(&self.file)?;
        self.behind.as_ref().map_or(Ok(()), |behind| behind.close())
    }
}

impl Claim {
    /// The same object opened again, for reading only: what the kernel keeps of how it is read is kept for each opening.
    pub(super) fn reopened_for_scattered_reads(&self) -> Result<File, Errno> {
        let file = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM)?;
        Ok(file)
    }
}

impl OpenError {
    fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => Self::NotFound(path),
            Some(Errno::EEXIST) => Self::Exists(path),
            Some(Errno::EROFS) => Self::ReadOnly(path),
            Some(Errno::EACCES | Errno::EPERM) => Self::NotPermitted(path),
            Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => Self::NoSpace { path, source },
            _ => Self::System { path, source },
        }
    }
}

/// What turns an error of the system into one about `path`.
pub(super) fn about(path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::new(path, source)
}

/// Opens and claims what is at `path`.
pub(super) fn open(path: &Path, access: Access) -> Result<Claim, OpenError> {
    open_below(path, access, &[])
}

/// Locks a file that was just made.
pub(super) fn claim_new(path: &Path, file: File) -> Result<Claim, OpenError> {
    let metadata = file.metadata().map_err(about(path))?;
    lock(path, &file, &metadata, Access::ReadWrite)?;
    Ok(Claim { file: Arc::new(file), metadata, behind: None })
}

/// As [`open`], for what lies behind the loop devices `above`.
fn open_below(path: &Path, access: Access, above: &[String]) -> Result<Claim, OpenError> {
    let mut options = fs::OpenOptions::new();
    let seen = options.read(true).custom_flags(libc::O_PATH).open(path).map_err(about(path))?;
    let kind = seen.metadata().map_err(about(path))?.file_type();
    if kind.is_block_device() {
        open_device(path, &seen, access, above)
    } else if kind.is_file() {
        open_file(path, &seen, access, above)
    } else {
        Err(OpenError::NotStorage(path.to_owned()))
    }
}

/// Opens for I/O the very object that `seen` looked at, whatever its path leads to by now.
fn reopen(path: &Path, seen: &File, access: Access, flags: i32) -> Result<File, OpenError> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(access == Access::ReadWrite).custom_flags(flags);
    options.open(format!("/proc/self/fd/{}", seen.as_raw_fd())).map_err(about(path))
}

fn open_file(path: &Path, seen: &File, access: Access, above: &[String]) -> Result<Claim, OpenError> {
    let file = reopen(path, seen, access, libc::O_NOCTTY)?;
    let metadata = file.metadata().map_err(about(path))?;
    lock(path, &file, &metadata, access)?;
    if access == Access::ReadWrite
        && let Some(device) = writable_loop_over(&metadata, above)
    {
        return Err(OpenError::InUse { path: path.to_owned(), holder: Holder::Device(device) });
    }
    Ok(Claim { file: Arc::new(file), metadata, behind: None })
}

fn lock(path: &Path, file: &File, metadata: &fs::Metadata, access: Access) -> Result<(), OpenError> {
    let kind = match access {
        Access::ReadWrite => libc::F_WRLCK,
        Access::ReadOnly => libc::F_RDLCK,
    };
    let small = |constant: i32| libc::c_short::try_from(constant).expect("lock constants are small");
    let whole = libc::flock { l_type: small(kind), l_whence: small(libc::SEEK_SET), l_start: 0, l_len: 0, l_pid: 0 };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => {
            let holder = Holder::of_file(metadata.dev(), metadata.ino());
            Err(OpenError::InUse { path: path.to_owned(), holder })
        }
        Err(errno) => Err(OpenError::new(path, errno.into())),
    }
}

fn open_device(path: &Path, seen: &File, access: Access, above: &[String]) -> Result<Claim, OpenError> {
    let number = seen.metadata().map_err(about(path))?.rdev();
    let file = match reopen(path, seen, access, libc::O_EXCL) {
        Err(OpenError::System { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
            return Err(OpenError::InUse { path: path.to_owned(), holder: Holder::of_device(number) });
        }
        // The kernel answers EACCES, too, for a device that is set read-only.
        Err(OpenError::NotPermitted(_)) if access == Access::ReadWrite => {
            let readable = reopen(path, seen, Access::ReadOnly, 0)?;
            let read_only = storage::device_is_read_only(&readable).unwrap_or(false);
            let name = path.to_owned();
            return Err(if read_only { OpenError::ReadOnly(name) } else { OpenError::NotPermitted(name) });
        }
        other => other?,
    };
    let metadata = file.metadata().map_err(about(path))?;
    if access == Access::ReadWrite && storage::device_is_read_only(&file).map_err(|e| about(path)(e.into()))? {
        return Err(OpenError::ReadOnly(path.to_owned()));
    }
    let behind = match loop_name(number) {
        Some(name) => Some(Box::new(claim_behind(path, name, access, above)?)),
        None => None,
    };
    Ok(Claim { file: Arc::new(file), metadata, behind })
}

/// Claims the file (or device) behind the loop device `name`.
fn claim_behind(path: &Path, name: String, access: Access, above: &[String]) -> Result<Claim, OpenError> {
    let hidden = || OpenError::HiddenBacking(path.to_owned());
    let shown = fs::read(format!("/sys/block/{name}/loop/backing_file")).map_err(|_| hidden())?;
    let shown = PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(
        shown.trim_ascii_end().to_vec(),
    ));
    let whole = File::open(Path::new("/dev").join(&name)).map_err(about(path))?;
    let expected = storage::loop_backing(&whole).map_err(|_| hidden())?;
    if above.len() >= LOOPS_MAX {
        return Err(hidden());
    }
    let above: Vec<String> = above.iter().cloned().chain([name]).collect();
    let claim = open_below(&shown, access, &above).map_err(|error| match error {
        OpenError::NotFound(_) => hidden(),
        other => other,
    })?;
    if (claim.metadata.dev(), claim.metadata.ino()) == (expected.device, expected.inode) {
        Ok(claim)
    } else {
        Err(hidden())
    }
}

/// The name of the loop device that `device` is, or is a partition of.
fn loop_name(device: libc::dev_t) -> Option<String> {
    let place = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
    let place = fs::canonicalize(place).ok()?;
    let whole = place.ancestors().take(2).find(|place| place.join("loop/backing_file").exists())?;
    whole.file_name()?.to_str().map(str::to_owned)
}

/// Device and inode of the file behind the loop device `name`: what the device says, or, where a confined daemon may not open
/// it, what lies at the path that the kernel shows.
fn behind_loop(name: &str) -> Option<(u64, u64)> {
    let told = File::open(Path::new("/dev").join(name)).ok().and_then(|device| storage::loop_backing(&device).ok());
    told.map(|told| (told.device, told.inode)).or_else(|| {
        let shown = fs::read(Path::new("/sys/block").join(name).join("loop/backing_file")).ok()?;
        let path = <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(shown.trim_ascii_end().to_vec());
        fs::metadata(PathBuf::from(path)).ok().map(|found| (found.dev(), found.ino()))
    })
}

/// A loop device, other than `ours`, through which the file can be written.
fn writable_loop_over(file: &fs::Metadata, ours: &[String]) -> Option<String> {
    let names = fs::read_dir("/sys/block").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut active = names.filter(|name| Path::new("/sys/block").join(name).join("loop/backing_file").exists());
    active.find(|name| {
        let read_only =
            fs::read(Path::new("/sys/block").join(name).join("ro")).is_ok_and(|flag| flag.starts_with(b"1"));
        let same = behind_loop(name).is_some_and(|behind| behind == (file.dev(), file.ino()));
        same && !read_only && !ours.contains(name)
    })
}
