//! Storage calls that neither std nor nix has: a read that never waits for the disk, and what only an ioctl tells of a
//! block device or a loop device. Positions are checked to fit the kernel's signed offsets here.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

/// What a loop device says of the file behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoopBacking {
    /// The device number of its file system, as in `st_dev`.
    pub(crate) device: u64,
    /// Its inode.
    pub(crate) inode: u64,
}

/// The kernel's `struct loop_info64` (linux/loop.h).
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

mod ioctl {
    nix::ioctl_read!(blkgetsize64, 0x12, 114, libc::size_t);
    nix::ioctl_read_bad!(blksszget, nix::request_code_none!(0x12, 104), libc::c_int);
    nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), libc::c_int);
    nix::ioctl_read_bad!(loop_get_status64, 0x4C05, super::LoopInfo);
}

/// Reads from `at` what is in memory already.
///
/// # Errors
/// EAGAIN where nothing of it is; EOPNOTSUPP where the file system cannot tell.
pub(crate) fn read_without_waiting(file: &File, into: &mut [u8], at: u64) -> Result<usize, Errno> {
    let at = libc::off_t::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
    let part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: the one iovec describes `into`, which is writable and borrowed for the whole call.
    let count = unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, at, libc::RWF_NOWAIT) };
    usize::try_from(Errno::result(count)?).map_err(|_| Errno::EIO)
}

/// How many bytes a block device holds.
pub(crate) fn device_size(device: &File) -> Result<u64, Errno> {
    let mut size: libc::size_t = 0;
    // SAFETY: BLKGETSIZE64 writes one u64, which is what `size` is on the 64-bit targets that envol builds for.
    unsafe { ioctl::blkgetsize64(device.as_raw_fd(), &raw mut size) }?;
    Ok(size as u64)
}

/// The smallest unit that a block device itself reads and writes.
pub(crate) fn device_logical_block(device: &File) -> Result<u64, Errno> {
    let mut size: libc::c_int = 0;
    // SAFETY: BLKSSZGET writes one int.
    unsafe { ioctl::blksszget(device.as_raw_fd(), &raw mut size) }?;
    u64::try_from(size).map_err(|_| Errno::EIO)
}

/// Whether a block device refuses writes.
pub(crate) fn device_is_read_only(device: &File) -> Result<bool, Errno> {
    let mut read_only: libc::c_int = 0;
    // SAFETY: BLKROGET writes one int.
    unsafe { ioctl::blkroget(device.as_raw_fd(), &raw mut read_only) }?;
    Ok(read_only != 0)
}

/// What lies behind a loop device.
pub(crate) fn loop_backing(device: &File) -> Result<LoopBacking, Errno> {
    let mut info = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    // SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64`, which is what `info` is.
    unsafe { ioctl::loop_get_status64(device.as_raw_fd(), &raw mut info) }?;
    Ok(LoopBacking { device: info.device, inode: info.inode })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_loop_structure_has_the_kernels_size() {
        assert_eq!(size_of::<LoopInfo>(), 232);
    }

    #[test]
    fn a_read_without_waiting_answers_data_or_a_reason() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"just written, hence in memory").expect("writes");
        let mut bytes = [0; 4];
        match read_without_waiting(&file, &mut bytes, 5) {
            Ok(count) => assert_eq!((count, &bytes), (4, b"writ")),
            Err(reason) => assert!([Errno::EAGAIN, Errno::EOPNOTSUPP].contains(&reason), "{reason}"),
        }
        assert_eq!(read_without_waiting(&file, &mut bytes, u64::MAX), Err(Errno::EOVERFLOW));
    }

    #[test]
    fn a_file_is_no_block_device() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(device_size(&file), Err(Errno::ENOTTY));
        assert_eq!(device_logical_block(&file), Err(Errno::ENOTTY));
        assert_eq!(loop_backing(&file), Err(Errno::ENOTTY));
    }
}
