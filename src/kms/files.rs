//! Files that an administrator names: credentials, certificates, a private key. What lies at their path is judged first.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::limits;

/// Who may do what with a file of secrets beside its owner: its group may read it, as it may a credential of systemd's.
const OTHERS: u32 = 0o037;

/// Opens `path`. Whatever lies there must be a file: a pipe would be waited for.
///
/// # Errors
/// The system's, and `InvalidInput` for what is no file or longer than [`limits::KMS_FILE_MAX`].
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let facts = file.metadata()?;
    if facts.is_file() && facts.len() <= limits::KMS_FILE_MAX {
        Ok((file, facts))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file, or far too long"))
    }
}

/// The bytes of a file as long as `facts` say, wiped on drop.
///
/// # Errors
/// The system's.
pub(crate) fn read(file: &File, facts: &Metadata) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = usize::try_from(facts.len()).unwrap_or_default();
    // Room for all of it from the start, and no more is read: growing would leave unwiped copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(facts.len()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Judges a file of secrets that `user` is to read, by what its directory says of it; else what is wrong with it.
pub(crate) fn judge_secret(facts: &Metadata, user: u32) -> Result<(), &'static str> {
    if !facts.is_file() {
        Err("is not a file")
    } else if facts.mode() & OTHERS != 0 {
        Err("can be read or changed by others")
    } else if facts.uid() != 0 && facts.uid() != user {
        Err("belongs to another user")
    } else {
        Ok(())
    }
}
