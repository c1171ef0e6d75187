//! What the state directory remembers of volumes: one file for each, `records/<id>.json`.
//!
//! A record is replaced whole (written beside, synced, renamed, the directory synced), so a crash leaves the old one or
//! the new one. Whoever writes a record has synced the header before: a header ahead of its record is accepted at the
//! next attach, a record ahead of its header would be a rollback. One record is written by one thread at a time
//! ([`Records::exclusively`]); records of different volumes do not wait for each other.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::names::VolumeId;
use crate::sync::{Mutex, MutexGuard};
use crate::volume::Record;

/// How many volumes' records can be written at once.
const STRIPES: usize = 16;

pub(super) struct Records {
    dir: PathBuf,
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

impl Records {
    /// Opens the directory, making it if need be.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        make_private_dir(&dir)?;
        Ok(Self { dir, stripes: Default::default() })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// All records. One that cannot be read is logged and left where it is: the other volumes still come up.
    pub(super) fn load(&self) -> io::Result<Vec<Record>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read_one(&path) {
                Ok(record) => found.push(record),
                Err(error) => {
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

    fn path(&self, id: &VolumeId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

impl Exclusive<'_> {
    /// Replaces (or makes) the record; durable on return.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let path = self.records.path(&record.id);
        let beside = path.with_extension("tmp");
        let mut text = serde_json::to_vec_pretty(record)?;
        text.push(b'\n');
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        self.records.sync_dir()
    }

    /// Removes the record; durable on return.
    pub(super) fn remove(&self, id: &VolumeId) -> io::Result<()> {
        match fs::remove_file(self.records.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.records.sync_dir(),
        }
    }
}

fn read_one(path: &Path) -> io::Result<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    let belongs = path.file_stem().is_some_and(|stem| stem == record.id.as_str());
    if belongs { Ok(record) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "it is another volume's record")) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::a_record;
    use super::*;

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let records = Records::open(dir.path().join("records")).expect("opens");
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
        let records = Records::open(dir.path().to_owned()).expect("opens");
        let (one, other) = (a_record("one", 1), a_record("other", 2));
        records.exclusively(&one.id).write(&one).expect("writes");
        fs::write(dir.path().join(format!("{}.json", other.id)), b"{").expect("writes");
        fs::copy(dir.path().join(format!("{}.json", one.id)), dir.path().join("vol-00000000000000000.json"))
            .expect("copies");
        fs::write(dir.path().join(format!("{}.tmp", other.id)), b"half").expect("writes");
        assert_eq!(records.load().expect("loads"), [one]);
    }
}
