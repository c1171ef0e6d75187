//! Whether something keeps the kernel's clock right.

use nix::errno::Errno;
use nix::libc;

/// Whether the clock is synchronised, as far as the kernel was told.
///
/// # Errors
/// What the kernel said: EPERM where this is forbidden.
pub(crate) fn synchronised() -> Result<bool, Errno> {
    // SAFETY: the struct is plain numbers, for which zeros are good; no modes means that nothing is to be changed.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills in the struct that it is given, and keeps no pointer to it.
    Errno::result(unsafe { libc::adjtimex(&raw mut clock) })?;
    Ok(clock.status & libc::STA_UNSYNC == 0)
}
