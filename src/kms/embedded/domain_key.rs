//! The domain key's file: 32 bytes, mode 0600, outside the store's directory, made on first use.
//!
//! It is made whole or not at all: written under a passing name, synced, and linked to its own name only if that is
//! free. A file that others can read, or of another length, is refused with what to do about it. Who only opens the
//! file never sees the bytes: they go between the file and the HSM's secret memory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use crate::crypto::random;
use crate::secret::Secret;

use super::passphrase::PassphraseError;

/// A link is not followed, and nobody waits for the other end of a pipe, which is refused.
const OPENED: libc::c_int = libc::O_NOFOLLOW | libc::O_NONBLOCK;

/// Why there is no domain key.
#[derive(Debug, thiserror::Error)]
pub enum DomainKeyError {
    /// The file cannot be read or written.
    #[error("the domain key's file {path} failed")]
    File {
        /// Where it is.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// There is a store, but its domain key is missing; a new one would open none of it.
    #[error("the key store exists but its domain key {0} does not; put it back (without it no key can be used)")]
    Missing(PathBuf),
    /// It lies where the store lies.
    #[error("the domain key {0} lies in the key store's directory, where it protects nothing; move it elsewhere")]
    BesideStore(PathBuf),
    /// A passphrase that would be asked for where nobody can be asked.
    #[error("the passphrase cannot be read from {0}: name a file or a pipe, such as <(systemd-ask-password)")]
    NotReadable(PathBuf),
    /// A passphrase that gives no key.
    #[error("the passphrase in {path}")]
    Passphrase {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: PassphraseError,
    },
    /// Damaged.
    #[error("{0} does not say how the passphrase is stretched; restore it from a backup")]
    NoStretching(PathBuf),
    /// Not a plain file.
    #[error("the domain key {0} is not a regular file")]
    NotAFile(PathBuf),
    /// Others may read it.
    #[error("the domain key {path} may be used by others (mode {mode:04o}); run: chmod 0600 {path}")]
    Exposed {
        /// Where it is.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error("the domain key {path} belongs to user {owner}; it must belong to the user that runs envol, or root")]
    Owner {
        /// Where it is.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Not 32 bytes.
    #[error("the domain key {path} is {length} bytes long, not 32; restore it from a backup")]
    Length {
        /// Where it is.
        path: PathBuf,
        /// How long it is.
        length: u64,
    },
}

/// The domain key in the file `path`; made there if `may_make` and it does not exist.
pub(super) fn load(path: &Path, store_dir: &Path, may_make: bool) -> Result<Secret<32>, DomainKeyError> {
    let mut file = open(path, store_dir, (Uid::effective().as_raw(), may_make), fill)?;
    read(&mut file).map_err(|source| DomainKeyError::File { path: path.to_owned(), source })
}

/// The file `path`, open and found to be a domain key's, of `user` or root; made there if `may_make` and it does not exist,
/// with what `fill` writes and syncs.
pub(super) fn open(
    path: &Path,
    store_dir: &Path,
    (user, may_make): (u32, bool),
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<File, DomainKeyError> {
    let failed = |source| DomainKeyError::File { path: path.to_owned(), source };
    let place = directory(path);
    let (place, store) = (place.canonicalize().map_err(failed)?, store_dir.canonicalize().map_err(failed)?);
    if place.starts_with(store) {
        return Err(DomainKeyError::BesideStore(path.to_owned()));
    }
    if !path.try_exists().map_err(failed)? {
        if !may_make {
            return Err(DomainKeyError::Missing(path.to_owned()));
        }
        put_in_place(path, fill).map_err(failed)?;
    }
    judged(path, 0o077, user)
}

/// The file `path`, which the service manager has put there for us: it lets in by the file's group, through an access
/// control list, whom it runs the service as.
pub(super) fn open_credential(path: &Path, user: u32) -> Result<File, DomainKeyError> {
    judged(path, 0o037, user)
}

/// Overwrites the file `path` and removes it, durably; it may be gone already.
pub(super) fn destroy(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).custom_flags(OPENED).open(path);
    let mut file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    file.write_all(&[0; 32])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    File::open(directory(path))?.sync_all()
}

/// Writes a new domain key, durably.
pub(super) fn fill(file: &mut File) -> io::Result<()> {
    let key = Secret::<32>::filled_by(|key| random::fill(key)).map_err(io::Error::other)?;
    file.write_all(key.expose())?;
    file.sync_all()
}

/// Writes `key` into the file `path`, durably, where there is none yet.
pub(super) fn keep(path: &Path, key: &Secret<32>) -> io::Result<()> {
    put_in_place(path, |file| {
        file.write_all(key.expose())?;
        file.sync_all()
    })
}

/// The 32 bytes that `file` has left.
pub(super) fn read(file: &mut File) -> io::Result<Secret<32>> {
    let mut key = Secret::zeroed().map_err(io::Error::other)?;
    file.read_exact(key.expose_mut())?;
    Ok(key)
}

/// The directory that `path` lies in.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Puts what `fill` writes and syncs in place durably, unless another got there first.
pub(super) fn put_in_place(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let unfinished = make_unfinished(path, fill)?;
    match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::remove_file(unfinished)?;
    File::open(directory(path))?.sync_all()
}

/// Puts what `fill` writes and syncs in place durably, whatever was there.
pub(super) fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    fs::rename(make_unfinished(path, fill)?, path)?;
    File::open(directory(path))?.sync_all()
}

/// What `fill` writes and syncs, under the passing name of `path`.
fn make_unfinished(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<PathBuf> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fill(&mut OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?)?;
    Ok(unfinished)
}

/// The file, if it is one that a domain key of `user` may lie in; `others` are the rights that nobody else may have.
fn judged(path: &Path, others: u32, user: u32) -> Result<File, DomainKeyError> {
    let failed = |source| DomainKeyError::File { path: path.to_owned(), source };
    let file = OpenOptions::new().read(true).custom_flags(OPENED).open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    accepted(path, &facts, others, user)?;
    Ok(file)
}

/// Looks at the file `path` without opening it: whether it is there. It is refused for what [`open`] would refuse it for, were
/// that called by `user`; a credential for what [`open_credential`] would.
pub(super) fn examine(path: &Path, credential: bool, user: u32) -> Result<bool, DomainKeyError> {
    match fs::symlink_metadata(path) {
        Ok(facts) => accepted(path, &facts, if credential { 0o037 } else { 0o077 }, user).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(DomainKeyError::File { path: path.to_owned(), source }),
    }
}

fn accepted(path: &Path, facts: &fs::Metadata, others: u32, user: u32) -> Result<(), DomainKeyError> {
    let path = path.to_owned();
    if !facts.is_file() {
        return Err(DomainKeyError::NotAFile(path));
    }
    if facts.mode() & others != 0 {
        return Err(DomainKeyError::Exposed { path, mode: facts.mode() & 0o7777 });
    }
    if facts.uid() != 0 && facts.uid() != user {
        return Err(DomainKeyError::Owner { path, owner: facts.uid() });
    }
    if facts.len() != 32 {
        return Err(DomainKeyError::Length { path, length: facts.len() });
    }
    Ok(())
}
