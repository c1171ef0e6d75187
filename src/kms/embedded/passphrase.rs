//! A passphrase as the domain key's source: what it may come from, and what is made of it, which lies in a file of its own.
//!
//! ```text
//! argon2id 19 m=65536 t=3 p=4 SALT                  the domain key is what follows from the passphrase
//! argon2id 19 m=65536 t=3 p=4 SALT opens SEALED     what follows opens the domain key, which was there before the passphrase
//! ```
//! SEALED is 32 bytes and a tag in hex, by AES-256-GCM with the line before it as additional data; its key is of a salt of its
//! own and seals nothing else, so that the nonce is 0. Whoever opens the passphrase's source reads none of it. The recipe is
//! no secret; it is made on first use, and without it the passphrase gives another key, so that it must be kept as the store is.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::str::FromStr;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::crypto::aead::{self, NONCE_BYTES, TAG_BYTES};
use crate::crypto::passphrase::{NotStretching, Stretching};
use crate::limits;
use crate::secret::Secret;
use crate::sys::locked::{LockedMemory, LockingFailed};

use super::domain_key::{DomainKeyError, put_in_place, replace};

/// Between how a passphrase is stretched and what that opens.
const OPENS: &str = " opens ";

/// Why a passphrase gives no key.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Not a passphrase.
    #[error("it is empty or too long (1 to {} bytes)", limits::PASSPHRASE_MAX)]
    Unfit,
    /// It opens nothing.
    #[error("it is not the one under which the domain key was sealed")]
    Wrong,
    /// What it is stretched in cannot be locked.
    #[error(transparent)]
    NoLockedMemory(#[from] LockingFailed),
    /// It cannot be read.
    #[error("it cannot be read")]
    Unread(#[from] io::Error),
}

/// How the domain key is made of a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recipe {
    stretching: Stretching,
    /// The domain key and its tag, where the passphrase opens it.
    sealed: Option<([u8; 32], [u8; TAG_BYTES])>,
}

impl Recipe {
    /// A new one by which the domain key follows from a passphrase.
    pub(super) fn new() -> Self {
        Self { stretching: Stretching::new(), sealed: None }
    }

    /// A new one by which the passphrase that `from` holds opens `domain_key`.
    pub(super) fn sealing(domain_key: &Secret<32>, from: &mut File) -> Result<Self, PassphraseError> {
        let stretching = Stretching::new();
        let key = read(from, &stretching)?;
        let mut data = Secret::<32>::filled_by(|bytes| bytes.copy_from_slice(domain_key.expose()))?;
        let tag = aead::seal(&key, &[0; NONCE_BYTES], stretching.to_string().as_bytes(), data.expose_mut());
        Ok(Self { stretching, sealed: Some((*data.expose(), tag)) })
    }

    /// The domain key, by the passphrase that `from` holds.
    pub(super) fn domain_key(&self, from: &mut File) -> Result<Secret<32>, PassphraseError> {
        let key = read(from, &self.stretching)?;
        let Some((sealed, tag)) = &self.sealed else { return Ok(key) };
        let mut opened = Secret::<32>::filled_by(|bytes| bytes.copy_from_slice(sealed))?;
        let line = self.stretching.to_string();
        let outcome = aead::open(&key, &[0; NONCE_BYTES], line.as_bytes(), opened.expose_mut(), tag);
        outcome.map_err(|_| PassphraseError::Wrong).map(|()| opened)
    }

    /// Writes it into the file `path`, durably, where there is none yet.
    pub(super) fn keep(&self, path: &Path) -> io::Result<()> {
        put_in_place(path, |file| self.write(file))
    }

    /// Writes it into the file `path`, durably, in the place of another that nothing needs any more.
    pub(super) fn replace(&self, path: &Path) -> io::Result<()> {
        replace(path, |file| self.write(file))
    }

    fn write(&self, file: &mut File) -> io::Result<()> {
        file.write_all(format!("{self}\n").as_bytes())?;
        file.sync_all()
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stretching.fmt(f)?;
        let Some((sealed, tag)) = &self.sealed else { return Ok(()) };
        f.write_str(OPENS)?;
        sealed.iter().chain(tag).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Recipe {
    type Err = NotStretching;

    fn from_str(text: &str) -> Result<Self, NotStretching> {
        let Some((stretching, digits)) = text.split_once(OPENS) else {
            return Ok(Self { stretching: text.parse()?, sealed: None });
        };
        let bytes = bytes_in(digits).filter(|bytes| bytes.len() == 32 + TAG_BYTES).ok_or(NotStretching)?;
        let (sealed, tag) = bytes.split_at(32);
        let sealed = sealed.try_into().ok().zip(tag.try_into().ok());
        Ok(Self { stretching: stretching.parse()?, sealed: Some(sealed.ok_or(NotStretching)?) })
    }
}

fn bytes_in(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs
        .map(|pair| pair.filter(|pair| !pair.starts_with('+')).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect()
}

/// Opens what the passphrase is read from: a file that nobody but `user` and root can read, or a pipe. For whoever writes into
/// that it is [`read`] that waits: whoever opens it has others to answer.
pub(super) fn open(path: &Path, user: u32) -> Result<File, DomainKeyError> {
    let failed = |source| DomainKeyError::File { path: path.to_owned(), source };
    // A link is followed: /dev/stdin and /dev/fd/N are links.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if file.is_terminal() {
        return Err(DomainKeyError::NotReadable(path.to_owned()));
    }
    accepted(path, &facts, user)?;
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

/// What is made of the passphrase, as the file `path` has it; made there if `may_make` and there is none.
pub(super) fn recipe(path: &Path, may_make: bool) -> Result<Recipe, DomainKeyError> {
    let failed = |source| DomainKeyError::File { path: path.to_owned(), source };
    if !path.try_exists().map_err(failed)? {
        if !may_make {
            return Err(DomainKeyError::Missing(path.to_owned()));
        }
        Recipe::new().keep(path).map_err(failed)?;
    }
    let mut file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).map_err(failed)?;
    let mut text = String::new();
    Read::by_ref(&mut file).take(limits::STRETCHING_TEXT_MAX).read_to_string(&mut text).map_err(failed)?;
    text.trim_end().parse().map_err(|_| DomainKeyError::NoStretching(path.to_owned()))
}

/// The key that follows from the passphrase that `file` holds: all of it, less one line end.
pub(super) fn read(file: &mut File, stretching: &Stretching) -> Result<Secret<32>, PassphraseError> {
    let mut memory = LockedMemory::zeroed(limits::PASSPHRASE_MAX + 2)?;
    let mut length = 0;
    loop {
        await_more(file)?;
        match file.read(&mut memory.bytes_mut()[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let given = &memory.bytes()[..length];
    let passphrase = given.strip_suffix(b"\n").unwrap_or(given);
    if passphrase.is_empty() || passphrase.len() > limits::PASSPHRASE_MAX {
        return Err(PassphraseError::Unfit);
    }
    Ok(stretching.key_of(passphrase)?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn holding(passphrase: &[u8]) -> File {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), passphrase).expect("written");
        file.reopen().expect("there")
    }

    #[test]
    fn a_passphrase_opens_the_domain_key_that_was_sealed_under_it_and_no_other_does() {
        let domain_key = Secret::filled_by(|key| key.fill(7)).expect("locks");
        let recipe = Recipe::sealing(&domain_key, &mut holding(b"correct horse\n")).expect("sealed");
        let text = recipe.to_string();
        assert!(text.len() < usize::try_from(limits::STRETCHING_TEXT_MAX).expect("small"));
        assert!(!text.contains("0707"), "nothing of the key is in it: {text}");
        let read: Recipe = text.parse().expect("what was written");
        assert_eq!(read, recipe);
        let opened = read.domain_key(&mut holding(b"correct horse")).expect("opens");
        assert_eq!(opened.expose(), domain_key.expose());
        let wrong = read.domain_key(&mut holding(b"battery staple"));
        assert!(matches!(wrong, Err(PassphraseError::Wrong)));
        let (stretching, sealed) = text.split_once(OPENS).expect("both");
        for changed in [sealed.replace('a', "b"), sealed[2..].to_owned(), format!("{sealed}00"), "+1".repeat(48)] {
            let changed: Result<Recipe, _> = format!("{stretching}{OPENS}{changed}").parse();
            let opened = changed.ok().map(|recipe| recipe.domain_key(&mut holding(b"correct horse")).is_ok());
            assert_ne!(opened, Some(true));
        }
    }
}
