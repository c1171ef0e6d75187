//! What the state directory remembers of volumes: one file for each, `records/<id>.json`.
//!
//! A record is replaced whole (written beside, synced, renamed, the directory synced), so a crash leaves the old one or
//! the new one. Whoever writes a record has synced the header before: a header ahead of its record is accepted at the
//! next attach, a record ahead of its header would be a rollback. One record is written by one thread at a time
//! ([`Records::exclusively`]); records of different volumes do not wait for each other.
//!
//! The files themselves are reached through [`RecordFiles`], so that the crash tests can put a directory there that
//! loses what was not synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::names::VolumeId;
use crate::sync::{Mutex, MutexGuard};
use crate::volume::Record;

/// The files of one directory, as records need them.
pub trait RecordFiles: Send + Sync {
    /// Where they lie, to be told to people.
    fn dir(&self) -> &Path;
    /// The names of all files.
    ///
    /// # Errors
    /// As the file system says; here and below.
    fn names(&self) -> io::Result<Vec<String>>;
    /// All of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Makes a file, or empties it; writes it and syncs it. Its name is not durable yet.
    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Gives a file another name, in the place of whatever has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable: what was made, renamed and removed so far.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the file system.
pub(super) struct Directory(PathBuf);

/// How many volumes' records can be written at once.
const STRIPES: usize = 16;

pub(super) struct Records {
    files: Box<dyn RecordFiles>,
    stripes: [Mutex<()>; STRIPES],
}

/// The right to write one volume's record.
pub(super) struct Exclusive<'r> {
    records: &'r Records,
    _stripe: MutexGuard<'r, ()>,
}

/// Makes `dir` and what is above it, for the daemon's user alone.
pub(super) fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

impl Directory {
    /// Opens the directory, making it if need be.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        make_private_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl RecordFiles for Directory {
    fn dir(&self) -> &Path {
        &self.0
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name()));
        // What is not text was not put there by us.
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(name))
    }

    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(self.0.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl Records {
    /// The records that `files` hold.
    pub(super) fn new(files: Box<dyn RecordFiles>) -> Self {
        Self { files, stripes: Default::default() }
    }

    pub(super) fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// All records. One that cannot be read is logged and left where it is: the other volumes still come up.
    pub(super) fn load(&self) -> io::Result<Vec<Record>> {
        let mut found = Vec::new();
        for name in self.files.names()? {
            let Some(stem) = name.strip_suffix(".json") else {
                continue;
            };
            match self.read_one(&name, stem) {
                Ok(record) => found.push(record),
                Err(error) => {
                    let path = self.dir().join(&name);
                    tracing::error!(path = %path.display(), %error, "a record cannot be read: its volume is unknown here until it is mended")
                }
            }
        }
        Ok(found)
    }

    /// Waits until nobody else writes the record of `id`.
    pub(super) fn exclusively(&self, id: &VolumeId) -> Exclusive<'_> {
        let sum: usize = id.as_str().bytes().map(usize::from).sum();
        Exclusive { records: self, _stripe: self.stripes[sum % STRIPES].lock() }
    }

    fn read_one(&self, name: &str, stem: &str) -> io::Result<Record> {
        let record: Record = serde_json::from_slice(&self.files.read(name)?)?;
        let belongs = stem == record.id.as_str();
        if belongs {
            Ok(record)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "it is another volume's record"))
        }
    }
}

fn name_of(id: &VolumeId) -> String {
    format!("{id}.json")
}

impl Exclusive<'_> {
    /// Replaces (or makes) the record; durable on return.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let files = &self.records.files;
        let beside = format!("{}.tmp", record.id);
        let mut text = serde_json::to_vec_pretty(record)?;
        text.push(b'\n');
        files.write_synced(&beside, &text)?;
        files.rename(&beside, &name_of(&record.id))?;
        files.sync()
    }

    /// Removes the record; durable on return.
    pub(super) fn remove(&self, id: &VolumeId) -> io::Result<()> {
        match self.records.files.remove(&name_of(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.records.files.sync(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::a_record;
    use super::*;

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let records = Records::new(Box::new(Directory::open(dir.path().join("records")).expect("opens")));
        let record = a_record("db", 1);
        records.exclusively(&record.id).write(&record).expect("writes");
        assert_eq!(records.load().expect("loads"), std::slice::from_ref(&record));
        records.exclusively(&record.id).remove(&record.id).expect("removes");
        records.exclusively(&record.id).remove(&record.id).expect("twice does no harm");
        assert_eq!(records.load().expect("loads"), []);
    }

    #[test]
    fn a_damaged_or_misplaced_record_hides_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let records = Records::new(Box::new(Directory::open(dir.path().to_owned()).expect("opens")));
        let (one, other) = (a_record("one", 1), a_record("other", 2));
        records.exclusively(&one.id).write(&one).expect("writes");
        fs::write(dir.path().join(format!("{}.json", other.id)), b"{").expect("writes");
        fs::copy(dir.path().join(format!("{}.json", one.id)), dir.path().join("vol-00000000000000000.json"))
            .expect("copies");
        fs::write(dir.path().join(format!("{}.tmp", other.id)), b"half").expect("writes");
        assert_eq!(records.load().expect("loads"), [one]);
    }
}
