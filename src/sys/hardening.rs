//! What a process that holds keys gives up for good: being dumped, being traced by its own user, gaining privileges.

use std::io;

use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use nix::sys::resource::{Resource, setrlimit};

/// From here on, this process leaves no core, only root may look into it, and nothing that it runs has more rights than it.
/// What it forks is held to the same.
///
/// # Errors
/// What the system said; all of this is asked of every process, and granted.
pub(crate) fn seal_process() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set_dumpable(false)?;
    set_no_new_privs()?;
    Ok(())
}
