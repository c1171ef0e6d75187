//! Whose a directory is: root works in another user's directory with that user's rights, and no more.
//!
//! So what root makes there belongs to them, and no link that they, or whoever took over a process of theirs, have laid leads
//! root elsewhere. It is the thread's identity towards file systems that is changed (setfsuid(2)): what else root may do, such
//! as locking memory, it may do all the while. Descriptors that were opened before stay what they are.

use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, getgroups, setfsgid, setfsuid, setgroups};

/// The owner of a directory, as far as it matters to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    user: Uid,
    group: Gid,
    /// Whether this process is root's and the directory is not.
    other: bool,
}

impl Owner {
    /// The owner of `dir`.
    ///
    /// # Errors
    /// Where it cannot be looked at, or this root may not work as them.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        Self::by(&dir.metadata()?)
    }

    /// The owner of what `facts` tell of.
    ///
    /// # Errors
    /// Where this root may not work as them.
    pub(crate) fn by(facts: &Metadata) -> io::Result<Self> {
        let (own, user, group) = (Uid::effective(), Uid::from_raw(facts.uid()), Gid::from_raw(facts.gid()));
        let other = own.is_root() && !user.is_root();
        let owner = Self { user: if other { user } else { own }, group, other };
        if other {
            Acting::begin(owner).map(drop)?;
        }
        Ok(owner)
    }

    /// The user to whom files there must belong, unless they are root's.
    pub(crate) fn user(&self) -> u32 {
        self.user.as_raw()
    }

    /// Does `work` with the owner's rights to files.
    pub(crate) fn act<T>(&self, work: impl FnOnce() -> T) -> T {
        let _until_done = self.other.then(|| Acting::begin(*self).expect("it was tried when the owner was found"));
        work()
    }
}

/// This thread with another's rights to files, until this is dropped.
struct Acting {
    groups: Vec<Gid>,
}

impl Acting {
    fn begin(owner: Owner) -> io::Result<Self> {
        let acting = Self { groups: getgroups()? };
        // Those of root, which belong to whoever let root in.
        setgroups(&[])?;
        setfsgid(owner.group);
        setfsuid(owner.user);
        // The call tells of no failure; asking for no user's id changes nothing and answers the present one.
        let reached =
            setfsuid(Uid::from_raw(u32::MAX)) == owner.user && setfsgid(Gid::from_raw(u32::MAX)) == owner.group;
        if reached { Ok(acting) } else { Err(ErrorKind::PermissionDenied.into()) }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        setfsuid(Uid::effective());
        setfsgid(Gid::effective());
        // Root needs no groups: where this fails, nothing is lost.
        let _ = setgroups(&self.groups);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn root_works_in_anothers_directory_as_they_would() {
        if !Uid::effective().is_root() {
            return;
        }
        let place = tempfile::tempdir().expect("a directory");
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let (secret, theirs) = (place.path().join("secret"), place.path().join("theirs"));
        fs::write(&secret, b"root's").expect("written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("ours");
        fs::create_dir(&theirs).expect("made");
        symlink(&secret, theirs.join("link")).expect("laid");
        chown(&theirs, Some(12345), Some(23456)).expect("root may");
        let owner = Owner::of(&theirs).expect("found");
        assert_eq!(owner.user(), 12345);
        let read = owner.act(|| {
            fs::write(theirs.join("made"), b"x").expect("they may");
            fs::read(theirs.join("link"))
        });
        assert_eq!(read.map_err(|error| error.kind()), Err(ErrorKind::PermissionDenied));
        let made = fs::metadata(theirs.join("made")).expect("there");
        assert_eq!((made.uid(), made.gid()), (12345, 23456));
        assert_eq!(fs::read(theirs.join("link")).expect("root again"), b"root's");
    }

    #[test]
    fn in_a_directory_of_ones_own_nothing_changes() {
        let place = tempfile::tempdir().expect("a directory");
        let owner = Owner::of(place.path()).expect("found");
        assert_eq!(owner.user(), Uid::effective().as_raw());
        assert_eq!(owner.act(|| fs::metadata(place.path()).expect("there").uid()), owner.user());
    }
}
