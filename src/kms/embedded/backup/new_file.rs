//! A file that is there whole or not at all: written beside its place, synced, and given its name only if that is free.
//!
//! What a process that was killed leaves behind has another name, which says that it is unfinished.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use uuid::Uuid;

use crate::kms::embedded::domain_key::directory;

/// A file that has no name of its own yet; removed when this is dropped.
pub(super) struct NewFile {
    file: File,
    unfinished: PathBuf,
    place: PathBuf,
}

impl NewFile {
    /// What is to lie at `place`, where there is nothing.
    pub(super) fn beside(place: &Path) -> io::Result<Self> {
        if place.symlink_metadata().is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let mut unfinished = place.as_os_str().to_owned();
        // Two that are made at once do not meet.
        unfinished.push(format!(".{}.unfinished", Uuid::new_v4().simple()));
        let unfinished = PathBuf::from(unfinished);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        Ok(Self { file, unfinished, place: place.to_owned() })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, durably. Where this fails, nothing has that name because of it.
    pub(super) fn put_in_place(self) -> io::Result<()> {
        self.file.sync_all()?;
        link(&self.unfinished, &self.place)?;
        let synced = File::open(directory(&self.place)).and_then(|dir| dir.sync_all());
        synced.inspect_err(|_| drop(fs::remove_file(&self.place)))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Gone already where it was renamed.
        let _ = fs::remove_file(&self.unfinished);
    }
}

/// Gives `file` the name `place` unless something is called so. Not every file system has links (FAT has none).
fn link(file: &Path, place: &Path) -> io::Result<()> {
    match fs::hard_link(file, place) {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            rename_unless_taken(file, place).map_err(io::Error::from)
        }
        linked => linked,
    }
}

fn rename_unless_taken(file: &Path, place: &Path) -> Result<(), Errno> {
    renameat2(AT_FDCWD, file, AT_FDCWD, place, RenameFlags::RENAME_NOREPLACE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).expect("there").map(|entry| entry.expect("an entry").file_name());
        names.map(|name| name.into_string().expect("text")).collect()
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole_and_takes_it_from_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("file");
        let (one, other) = (NewFile::beside(&place).expect("made"), NewFile::beside(&place).expect("made"));
        one.file().write_all(b"one").expect("written");
        assert!(!place.exists() && names(dir.path()).iter().all(|name| name.ends_with(".unfinished")));
        one.put_in_place().expect("free");
        let taken = other.put_in_place().map_err(|error| error.kind());
        assert_eq!(taken, Err(ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&place).expect("there"), b"one");
        assert_eq!(names(dir.path()), ["file"], "nothing else is left");
        drop(NewFile::beside(&dir.path().join("given up")).expect("made"));
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn without_links_it_is_renamed_and_takes_a_name_from_nobody_either() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, place) = (dir.path().join("file"), dir.path().join("place"));
        fs::write(&file, b"new").expect("written");
        fs::write(&place, b"old").expect("written");
        assert_eq!(rename_unless_taken(&file, &place), Err(Errno::EEXIST));
        assert_eq!(fs::read(&place).expect("there"), b"old");
        fs::remove_file(&place).expect("there");
        rename_unless_taken(&file, &place).expect("free");
        assert_eq!(fs::read(&place).expect("there"), b"new");
    }
}
