//! What the HSM's processes give up beside what every process of envol does (`hardening`): descriptors, and being swapped.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd;

/// From here on this process gets no descriptor: it opens no file and no socket. What is open stays open.
///
/// # Errors
/// Where the system does not let it.
pub(crate) fn refuse_descriptors() -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_NOFILE, 0, 0)?)
}

/// From here on this process has so much memory of its own to write into, and ends where it asks for more.
///
/// # Errors
/// Where the system does not let it.
pub(crate) fn bound_memory(bytes: u64) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?)
}

/// All memory of this process stays out of swap, what it gets later too; pages come into being when they are used, as ever.
///
/// # Errors
/// Where the limit on locked memory does not allow it.
pub(crate) fn lock_all_memory() -> io::Result<()> {
    // SAFETY: the call says of pages that they are not to be swapped, and changes none.
    let outcome = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    Errno::result(outcome)?;
    Ok(())
}

/// As [`lock_all_memory`], where the limit leaves room for whatever a program with threads reserves and never uses: past the
/// limit no memory would be had at all.
pub(crate) fn lock_all_memory_where_there_is_room() {
    const ROOM: u64 = 1 << 30;
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
    if limit >= ROOM || unistd::geteuid().is_root() {
        // Where it fails after all, the data key is out of swap all the same: it lies in memory of its own.
        let _ = lock_all_memory();
    }
}

/// Standard input and output are all that the programs which this process starts inherit, beside standard error.
///
/// # Errors
/// Where the kernel is older than 5.11.
pub(crate) fn keep_descriptors_to_ourselves() -> io::Result<()> {
    // SAFETY: the call changes a flag of descriptors and closes none.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(outcome)?;
    Ok(())
}

/// What standard input was, which is nothing from here on.
///
/// # Errors
/// Where there are no descriptors to spare.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    unistd::dup2_stdin(OpenOptions::new().read(true).open("/dev/null")?)?;
    Ok(taken)
}

/// What standard output is: in a process that was given a socket there.
///
/// # Errors
/// Where there are no descriptors to spare.
pub(crate) fn socket_of_stdout() -> io::Result<OwnedFd> {
    io::stdout().as_fd().try_clone_to_owned()
}
