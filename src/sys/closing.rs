//! Closing what others still hold: the descriptor's number stays, what it denotes goes.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;

/// Closes the open file behind `file`, and its locks with it. The descriptor stays valid, and refuses all I/O (EBADF).
///
/// # Errors
/// Where there is no descriptor to spare; nothing is closed then.
pub(crate) fn close_in_place(file: &File) -> Result<(), Errno> {
    let of = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let nothing = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/").map_err(of)?;
    // SAFETY: both descriptors are open, and `file` goes on owning the number whose meaning changes.
    let outcome = unsafe { libc::dup3(nothing.as_raw_fd(), file.as_raw_fd(), libc::O_CLOEXEC) };
    Errno::result(outcome).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn nothing_can_be_read_or_written_afterwards() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"x").expect("writes");
        close_in_place(&file).expect("closes");
        for error in [file.write(b"x").expect_err("refused"), file.read(&mut [0]).expect_err("refused")] {
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
    }
}
