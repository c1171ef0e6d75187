//! Sockets that the service manager opened for us (sd_listen_fds(3)).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// An inherited descriptor and the name that LISTEN_FDNAMES gives it.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// The descriptor, close-on-exec.
    pub descriptor: OwnedFd,
    /// Its name; `unknown` where the service manager gave none.
    pub name: String,
}

/// What LISTEN_FDS hands to this process. Answers nothing after the first call: each descriptor has one owner.
///
/// # Errors
/// Where the variables do not agree with each other, or with the descriptors that are open.
pub(crate) fn take() -> io::Result<Vec<Inherited>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let own = |(descriptor, name)| {
        // SAFETY: LISTEN_PID says that these descriptors were opened for this process, sd-notify has seen that each is
        // open, and TAKEN that nobody else was given them.
        Inherited { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) }, name }
    };
    Ok(sd_notify::listen_fds_with_names(false)?.map(own).collect())
}
