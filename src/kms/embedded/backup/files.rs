//! The files of a store that go into a backup, and how each is written there.
//!
//! Whoever may write in the store's directory is not believed: a link, a pipe or a device there is refused before anything is
//! opened, so that nobody waits for it, and nothing from elsewhere is carried.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{BackupError, at};

/// Whether a file is the audit log's, or the key with which it goes on: the log is of one place and time, and goes on in one.
fn is_of_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"audit."))
}

/// The files below the directory `store`, without those of the audit log.
pub(super) fn listed(store: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let (mut directories, mut files) = (vec![store.to_owned()], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let entry = entry.map_err(at(&directory))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(at(&directory))?);
            match kind {
                _ if is_of_log(&path) => {}
                kind if kind.is_dir() => directories.push(path),
                kind if kind.is_file() => files.push(path),
                _ => return Err(BackupError::NotAFile(path)),
            }
        }
    }
    Ok(files)
}

/// Writes the file `path` of the directory `store` to `out`, which is what lies in `backup` in the end.
pub(super) fn write(out: &mut impl Write, backup: &Path, store: &Path, path: &Path) -> Result<(), BackupError> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(at(path))?;
    let facts = file.metadata().map_err(at(path))?;
    if !facts.is_file() {
        return Err(BackupError::NotAFile(path.to_owned()));
    }
    let name = path.strip_prefix(store).expect("it was found below it");
    write_content(out, name, (&mut file, facts.len())).map_err(at(backup))
}

fn write_content(out: &mut impl Write, name: &Path, (file, length): (&mut impl Read, u64)) -> io::Result<()> {
    let name = name.as_os_str().as_encoded_bytes();
    let name_length = u16::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidFilename)?;
    out.write_all(&name_length.to_be_bytes())?;
    out.write_all(name)?;
    out.write_all(&length.to_be_bytes())?;
    if io::copy(&mut file.take(length), out)? != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
