//! A passphrase as the domain key's source: what it may come from, and how it is stretched, which lies in a file of its own.
//!
//! Whoever opens the source reads none of it. The stretching is no secret; it is made on first use, and without it the
//! passphrase gives another key, so that it must be kept as the store is.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Uid;

use crate::crypto::passphrase::Stretching;
use crate::limits;
use crate::secret::Secret;
use crate::sys::locked::LockedMemory;

use super::domain_key::{DomainKeyError, put_in_place};

/// Opens what the passphrase is read from: a file that nobody else can read, or a pipe. For whoever writes into that it is
/// [`read`] that waits: whoever opens it has others to answer.
pub(super) fn open(path: &Path) -> Result<File, DomainKeyError> {
    let failed = |source| DomainKeyError::File { path: path.to_owned(), source };
    // A link is followed: /dev/stdin and /dev/fd/N are links.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if file.is_terminal() {
        return Err(DomainKeyError::NotReadable(path.to_owned()));
    }
    accepted(path, &facts, Uid::effective().as_raw())?;
    Ok(file)
}

/// Looks at what the passphrase is read from, without opening it. It is refused for what [`open`], called by `user`, would
/// refuse it for; whether it is a terminal is not seen.
pub(super) fn examine(path: &Path, user: u32) -> Result<(), DomainKeyError> {
    let facts = path.metadata().map_err(|source| DomainKeyError::File { path: path.to_owned(), source })?;
    accepted(path, &facts, user)
}

fn accepted(path: &Path, facts: &Metadata, user: u32) -> Result<(), DomainKeyError> {
    if facts.is_dir() {
        return Err(DomainKeyError::NotReadable(path.to_owned()));
    }
    if facts.is_file() && facts.mode() & 0o077 != 0 {
        return Err(DomainKeyError::Exposed { path: path.to_owned(), mode: facts.mode() & 0o7777 });
    }
    if facts.is_file() && facts.uid() != 0 && facts.uid() != user {
        return Err(DomainKeyError::Owner { path: path.to_owned(), owner: facts.uid() });
    }
    Ok(())
}

/// How the passphrase is stretched, as the file `path` has it; made there if `may_make` and there is none.
pub(super) fn stretching(path: &Path, may_make: bool) -> Result<Stretching, DomainKeyError> {
    let failed = |source| DomainKeyError::File { path: path.to_owned(), source };
    if !path.try_exists().map_err(failed)? {
        if !may_make {
            return Err(DomainKeyError::Missing(path.to_owned()));
        }
        put_in_place(path, |file| {
            file.write_all(format!("{}\n", Stretching::new()).as_bytes())?;
            file.sync_all()
        })
        .map_err(failed)?;
    }
    let mut file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).map_err(failed)?;
    let mut text = String::new();
    Read::by_ref(&mut file).take(limits::STRETCHING_TEXT_MAX).read_to_string(&mut text).map_err(failed)?;
    text.trim_end().parse().map_err(|_| DomainKeyError::NoStretching(path.to_owned()))
}

/// The domain key of the passphrase that `file` holds: all of it, less one line end.
pub(super) fn read(file: &mut File, stretching: &Stretching) -> io::Result<Secret<32>> {
    let mut memory = LockedMemory::zeroed(limits::PASSPHRASE_MAX + 2).map_err(io::Error::other)?;
    let mut length = 0;
    loop {
        await_more(file)?;
        match file.read(&mut memory.bytes_mut()[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    let given = &memory.bytes()[..length];
    let passphrase = given.strip_suffix(b"\n").unwrap_or(given);
    if passphrase.is_empty() || passphrase.len() > limits::PASSPHRASE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the passphrase is empty or too long"));
    }
    stretching.key_of(passphrase).map_err(io::Error::other)
}

/// Waits until there is something to read, or whoever could write has closed; a pipe into which nobody has come yet is
/// waited for.
fn await_more(file: &File) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            outcome => return Ok(outcome.map(drop)?),
        }
    }
}
