//! The state directory: made where it is absent, refused where others could change it, held by one daemon at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::DaemonError;
use crate::sys::owner::Owner;

/// The state directory, ours until this is dropped.
#[derive(Debug)]
pub(super) struct StateDir {
    /// Its lock belongs to this open file, so that the kernel frees it however the daemon ends.
    _lock: File,
    owner: Owner,
}

impl StateDir {
    /// Makes `path` where it is absent, and holds it. It must be the daemon's own, or root's.
    pub(super) fn claim(path: &Path) -> Result<Self, DaemonError> {
        make(path)?;
        Self::hold(path, |owner| [0, nix::unistd::geteuid().as_raw()].contains(&owner))
    }

    /// The same for a process that works there for its owner, as root may for everybody.
    pub(super) fn claim_for_owner(path: &Path) -> Result<Self, DaemonError> {
        make(path)?;
        let own = nix::unistd::geteuid();
        Self::hold(path, |owner| own.is_root() || [0, own.as_raw()].contains(&owner))
    }

    fn hold(path: &Path, may_be: impl FnOnce(u32) -> bool) -> Result<Self, DaemonError> {
        let failed = |source| DaemonError::StateDir { path: path.to_owned(), source };
        let found = path.metadata().map_err(failed)?;
        if !may_be(found.uid()) || found.mode() & 0o022 != 0 {
            return Err(DaemonError::UnsafeStateDir(path.to_owned()));
        }
        let owner = Owner::of(path).map_err(failed)?;
        let lock = owner.act(|| lock_file(&path.join("lock"))).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock, owner }),
            Err(TryLockError::WouldBlock) => Err(DaemonError::AnotherDaemon(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> Owner {
        self.owner
    }
}

/// The state directory that a daemon names, which answers at a socket of the user `peer`, and its owner, with whose rights it
/// is used. A daemon may have been taken over: it has root do nothing there that its own user could not do.
///
/// # Errors
/// Where the directory is not that user's. A socket that the service manager made is root's whoever answers there; so root's
/// own directories are used only where nobody else can have laid anything.
pub(super) fn served(said: &Path, peer: u32) -> Result<(PathBuf, Owner), DaemonError> {
    let failed = |source| DaemonError::StateDir { path: said.to_owned(), source };
    let path = said.canonicalize().map_err(failed)?;
    let facts = path.symlink_metadata().map_err(failed)?;
    let owner = Owner::by(&facts).map_err(failed)?;
    let is_theirs = [0, facts.uid()].contains(&peer) && owner.user() == facts.uid();
    let is_safe = facts.is_dir() && facts.mode() & 0o022 == 0;
    if is_theirs && is_safe && (facts.uid() != 0 || is_roots_alone(&path).map_err(failed)?) {
        Ok((path, owner))
    } else {
        Err(DaemonError::NotTheDaemons(said.to_owned()))
    }
}

/// Whether nobody but root can put another directory in the place of `path`.
fn is_roots_alone(path: &Path) -> io::Result<bool> {
    for above in path.ancestors() {
        let facts = above.symlink_metadata()?;
        // In a sticky directory each may only move their own.
        if facts.uid() != 0 || (facts.mode() & 0o022 != 0 && facts.mode() & 0o1000 == 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes `path` where it is absent.
pub(super) fn make(path: &Path) -> Result<(), DaemonError> {
    // Nothing is asked of a directory that is there: a confined daemon may not even try to make those above it.
    if path.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| DaemonError::StateDir { path: path.to_owned(), source })
}

fn lock_file(path: &Path) -> io::Result<File> {
    let flags = nix::libc::O_NOFOLLOW;
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_state_directory_is_held_by_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/b");
        let held = StateDir::claim(&path).expect("free");
        assert!(matches!(StateDir::claim(&path), Err(DaemonError::AnotherDaemon(at)) if at == path));
        drop(held);
        StateDir::claim(&path).expect("free again");
    }

    #[test]
    fn a_state_directory_that_others_can_change_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        for mode in [0o770, 0o702, 0o777] {
            set_permissions(dir.path(), Permissions::from_mode(mode)).expect("ours");
            assert!(matches!(StateDir::claim(dir.path()), Err(DaemonError::UnsafeStateDir(_))), "{mode:o}");
        }
    }

    #[test]
    fn a_daemon_is_believed_in_directories_of_its_own_user_alone() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let above = tempfile::tempdir().expect("a directory");
        let path = above.path().join("state");
        make(&path).expect("made");
        let refused = |peer| matches!(served(&path, peer), Err(DaemonError::NotTheDaemons(at)) if at == path);
        assert_eq!(served(&path, 0).expect("root's own").1.user(), 0);
        assert!(refused(12345), "root's, and the daemon is another user's");
        set_permissions(above.path(), Permissions::from_mode(0o777)).expect("ours");
        assert!(refused(0), "others can put another one in its place");
        set_permissions(above.path(), Permissions::from_mode(0o1777)).expect("ours");
        assert!(!refused(0), "each may only move their own");
        set_permissions(&path, Permissions::from_mode(0o777)).expect("ours");
        assert!(refused(0));
        set_permissions(&path, Permissions::from_mode(0o700)).expect("ours");
        std::os::unix::fs::chown(&path, Some(12345), Some(12345)).expect("root may");
        for peer in [0, 12345] {
            assert_eq!(served(&path, peer).expect("theirs").1.user(), 12345);
        }
        assert!(refused(23456));
    }
}
