//! Where a KMS is restored to: all of it or nothing, whenever the process ends.
//!
//! ```text
//! kms.restoring/store, kms.restoring/key      all is written and synced there first
//! kms                                         then the store gets its name,
//! domain.key or domain.stretching             and its key last
//! ```
//! While anything lies in `kms.restoring`, what is called `kms` was put there by a restore that was interrupted and has served
//! nobody: no daemon starts, and the next restore begins anew. Once it is empty beside a store, only its removal was missing.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{BackupError, at};
use crate::kms::embedded::domain_key::directory;

/// What a restore that was interrupted has left.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// A directory that is empty: the KMS is whole.
    Complete,
    /// Parts of a KMS.
    Parts,
}

fn left(store: &Path) -> io::Result<Left> {
    let mut parts = match fs::read_dir(unfinished(store)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Left::Nothing),
        parts => parts?,
    };
    let complete = parts.next().is_none() && store.try_exists()?;
    Ok(if complete { Left::Complete } else { Left::Parts })
}

fn unfinished(store: &Path) -> PathBuf {
    store.with_extension("restoring")
}

/// Where a restore into `store` was interrupted: the directory with its parts, beside which there is no KMS to be used.
///
/// # Errors
/// Where the disk fails.
pub(crate) fn interrupted(store: &Path) -> io::Result<Option<PathBuf>> {
    match left(store)? {
        Left::Nothing => Ok(None),
        Left::Complete => fs::remove_dir(unfinished(store)).map(|()| None),
        Left::Parts => Ok(Some(unfinished(store))),
    }
}

/// A KMS on its way into its place. What was written is undone when this is dropped before it [arrived](Restoring::arrive).
pub(super) struct Restoring<'p> {
    dir: PathBuf,
    place: &'p Path,
    /// Where its key is to lie, if it is to lie anywhere.
    key_place: Option<&'p Path>,
    has_arrived: bool,
}

impl<'p> Restoring<'p> {
    /// Refuses a place where there is a KMS, or a key, already.
    pub(super) fn judge(place: &Path, key_place: Option<&Path>) -> Result<(), BackupError> {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        let parts = interrupted(place).map_err(at(place))?.is_some();
        let taken = [Some(place).filter(|_| !parts), key_place].into_iter().flatten().find(|path| is_there(path));
        taken.map_or(Ok(()), |taken| Err(BackupError::Occupied(taken.to_owned())))
    }

    /// Begins; what another one has left is removed.
    pub(super) fn begin(place: &'p Path, key_place: Option<&'p Path>) -> Result<Self, BackupError> {
        Self::judge(place, key_place)?;
        let this = Self { dir: unfinished(place), place, key_place, has_arrived: false };
        this.undo().and_then(|()| this.make()).map_err(at(&this.dir))?;
        Ok(this)
    }

    fn make(&self) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.dir)?;
        DirBuilder::new().mode(0o700).create(self.store())?;
        sync_around(&self.dir)
    }

    /// Where the store is written.
    pub(super) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Where its key is written.
    pub(super) fn key(&self) -> PathBuf {
        self.dir.join("key")
    }

    /// Gives what was written its places, durably.
    pub(super) fn arrive(mut self) -> Result<(), BackupError> {
        sync_below(&self.dir).map_err(at(&self.dir))?;
        move_durably(&self.store(), self.place).map_err(at(self.place))?;
        if let Some(place) = self.key_place {
            move_durably(&self.key(), place).map_err(at(place))?;
        }
        self.has_arrived = true;
        fs::remove_dir(&self.dir).and_then(|()| sync_around(&self.dir)).map_err(at(&self.dir))
    }

    fn undo(&self) -> io::Result<()> {
        if !self.dir.try_exists()? {
            return Ok(());
        }
        self.take_back()?;
        absent(fs::remove_dir_all(self.place))?;
        fs::remove_dir_all(&self.dir)?;
        sync_around(&self.dir)
    }

    /// Takes back what got its place: the key first, then the store, so that parts are seen for what they are until nothing is
    /// left of them.
    fn take_back(&self) -> io::Result<()> {
        if let Some(place) = self.key_place.filter(|_| self.place.exists() && !self.key().exists()) {
            absent(fs::rename(place, self.key()))?;
        }
        if !self.store().try_exists()? {
            absent(fs::rename(self.place, self.store()))?;
        }
        sync_around(&self.store())
    }
}

impl Drop for Restoring<'_> {
    fn drop(&mut self) {
        if !self.has_arrived {
            // What cannot be removed is known for what it is.
            let _ = self.undo();
        }
    }
}

fn absent(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn move_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_around(to)
}

fn sync_around(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

/// Syncs all that lies below `dir`: the files, too, since the store was opened to be judged after it was written.
fn sync_below(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_below(&entry.path())?,
            false => File::open(entry.path())?.sync_all()?,
        }
    }
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("there").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn what_does_not_arrive_is_undone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, key) = (dir.path().join("kms"), dir.path().join("domain.key"));
        let restoring = Restoring::begin(&store, Some(&key)).expect("free");
        fs::write(restoring.store().join("file"), b"x").expect("written");
        assert!(restoring.arrive().is_err(), "there is no key, and the store had its place by then");
        assert_eq!(names(dir.path()), [""; 0]);
    }

    /// Its removal may be interrupted: it is not to be seen beside a directory that is empty, as what is whole is.
    #[test]
    fn a_store_without_a_key_of_its_own_is_taken_back_before_it_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().join("kms");
        let restoring = Restoring::begin(&store, None).expect("free");
        fs::write(restoring.store().join("file"), b"x").expect("written");
        move_durably(&restoring.store(), &store).expect("free");
        restoring.take_back().expect("there");
        assert!(!store.exists());
        assert_eq!(interrupted(&store).expect("seen"), Some(dir.path().join("kms.restoring")));
    }

    #[test]
    fn parts_of_a_kms_are_known_and_give_way_to_the_next_restore() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, key, parts) =
            (dir.path().join("kms"), dir.path().join("domain.key"), dir.path().join("kms.restoring"));
        fs::create_dir_all(parts.join("store")).expect("made");
        assert_eq!(interrupted(&store).expect("seen"), Some(parts.clone()));
        fs::create_dir(&store).expect("made");
        fs::write(store.join("old"), b"x").expect("written");
        fs::write(&key, b"somebody's").expect("written");
        let taken = Restoring::begin(&store, Some(&key)).err();
        assert!(matches!(taken, Some(BackupError::Occupied(path)) if path == key), "a key is never a part");
        fs::remove_file(&key).expect("there");
        let restoring = Restoring::begin(&store, Some(&key)).expect("only parts are there");
        assert!(!store.exists());
        fs::write(restoring.store().join("new"), b"x").expect("written");
        fs::write(restoring.key(), b"its key").expect("written");
        restoring.arrive().expect("free");
        assert_eq!((names(dir.path()), names(&store)), (vec!["domain.key".into(), "kms".into()], vec!["new".into()]));
        let taken = Restoring::begin(&store, None).err();
        assert!(matches!(taken, Some(BackupError::Occupied(path)) if path == store));
        fs::create_dir(&parts).expect("made");
        assert_eq!(interrupted(&store).expect("seen"), None, "only its removal was missing");
        assert_eq!(names(dir.path()), ["domain.key", "kms"]);
    }
}
