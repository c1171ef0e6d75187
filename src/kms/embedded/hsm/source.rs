//! Where the domain key comes from: said by the front in words, opened by the HSM's parent, read by the HSM alone.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::kms::embedded::domain_key::{self, DomainKeyError};
use crate::kms::embedded::passphrase::{self, PassphraseError, Recipe};
use crate::secret::Secret;
use crate::sys::owner::Owner;

/// What an HSM is told that reads the domain key itself.
const KEY: &str = "key";
/// What an HSM is told that reads a passphrase, before it is told how that is stretched.
const PASSPHRASE: &str = "passphrase";

/// Where the domain key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainKeySource {
    /// A 0600 file, made on first use.
    File {
        /// The file.
        path: PathBuf,
        /// The directory of the store, outside which it must lie.
        store: PathBuf,
    },
    /// A file that the service manager provides (systemd: `LoadCredential=`, `LoadCredentialEncrypted=`).
    Credential {
        /// The file.
        path: PathBuf,
    },
    /// A passphrase.
    Passphrase {
        /// What it is read from, whenever an HSM starts: a file, or a pipe, which gives it once.
        from: PathBuf,
        /// The file that says how it is stretched, made on first use.
        stretching: PathBuf,
    },
}

/// Words that name no source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these words name no source of a domain key")]
pub(super) struct NoSource;

/// What the HSM inherits: something to read, and the words that say what that is.
pub(super) struct Opened {
    pub(super) descriptor: File,
    pub(super) words: Vec<OsString>,
}

impl Opened {
    fn passphrase(descriptor: File, recipe: &Recipe) -> Self {
        Self { descriptor, words: vec![PASSPHRASE.into(), recipe.to_string().into()] }
    }
}

impl fmt::Display for DomainKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "the file {}", path.display()),
            Self::Credential { path } => write!(f, "the credential {}", path.display()),
            Self::Passphrase { from, .. } => write!(f, "the passphrase in {}", from.display()),
        }
    }
}

impl DomainKeySource {
    /// The words that [`DomainKeySource::read`] reads.
    pub(super) fn words(&self) -> Vec<OsString> {
        match self {
            Self::File { path, store } => vec!["file".into(), path.into(), store.into()],
            Self::Credential { path } => vec!["credential".into(), path.into()],
            Self::Passphrase { from, stretching } => vec!["passphrase".into(), from.into(), stretching.into()],
        }
    }

    pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, NoSource> {
        let words: Vec<OsString> = words.into_iter().collect();
        match &words[..] {
            [kind, path, store] if kind == "file" => Ok(Self::File { path: path.into(), store: store.into() }),
            [kind, path] if kind == "credential" => Ok(Self::Credential { path: path.into() }),
            [kind, from, stretching] if kind == "passphrase" => {
                Ok(Self::Passphrase { from: from.into(), stretching: stretching.into() })
            }
            _ => Err(NoSource),
        }
    }

    /// What is read.
    fn place(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Credential { path } => path,
            Self::Passphrase { from, .. } => from,
        }
    }

    /// Whether it may lie on the standard input of the process.
    pub(super) fn may_be_stdin(&self) -> bool {
        matches!(self, Self::Passphrase { .. })
    }

    /// Opens it, reading nothing: it must be of `user` or root. A file that may be made and is not there is made first, with
    /// what `fill` writes.
    pub(super) fn open(
        &self,
        (user, may_make): (u32, bool),
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<Opened, DomainKeyError> {
        match self {
            Self::File { path, store } => {
                let descriptor = domain_key::open(path, store, (user, may_make), fill)?;
                Ok(Opened { descriptor, words: vec![KEY.into()] })
            }
            Self::Credential { path } => {
                Ok(Opened { descriptor: domain_key::open_credential(path, user)?, words: vec![KEY.into()] })
            }
            Self::Passphrase { from, stretching } => {
                let descriptor = passphrase::open(from, user)?;
                Ok(Opened::passphrase(descriptor, &passphrase::recipe(stretching, may_make)?))
            }
        }
    }

    /// Looks at it, opening and making nothing: whether it is there. A file that is not is made on first use.
    ///
    /// # Errors
    /// What a daemon of `user` would refuse it for; or it cannot be looked at.
    pub fn examine(&self, user: u32) -> Result<bool, DomainKeyError> {
        match self {
            Self::File { path, .. } => domain_key::examine(path, false, user),
            Self::Credential { path } => domain_key::examine(path, true, user),
            Self::Passphrase { from, .. } => passphrase::examine(from, user).map(|()| true),
        }
    }

    /// Destroys it, as far as it is ours.
    pub(super) fn destroy(&self) -> io::Result<()> {
        match self {
            Self::File { path, .. } => domain_key::destroy(path),
            Self::Credential { .. } | Self::Passphrase { .. } => Ok(()),
        }
    }
}

/// Who named a source: what the caller names is opened with their own rights, what a daemon names with those of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// Whoever runs this process.
    Caller,
    /// The daemon, or what lies in its directory.
    Daemon,
}

/// The domain key of `source`, whose files are of `owner`, for whoever is allowed to read it and backs it up in a process of
/// their own.
pub(in crate::kms::embedded) fn read_domain_key(
    (source, by): (&DomainKeySource, NamedBy),
    owner: Owner,
) -> Result<Secret<32>, DomainKeyError> {
    let how = (owner.user(), false);
    let opened = match source {
        DomainKeySource::Passphrase { from, stretching } if by == NamedBy::Caller => {
            let descriptor = passphrase::open(from, owner.user())?;
            Opened::passphrase(descriptor, &owner.act(|| passphrase::recipe(stretching, false))?)
        }
        _ => owner.act(|| source.open(how, |_| Err(io::ErrorKind::NotFound.into())))?,
    };
    let path = || source.place().to_owned();
    domain_key(opened.descriptor, opened.words.into_iter()).map_err(|error| match error {
        NoKey::File(source) => DomainKeyError::File { path: path(), source },
        NoKey::Passphrase(source) => DomainKeyError::Passphrase { path: path(), source },
    })
}

/// Why there is no domain key in what was opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoKey {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
}

/// The domain key, in the HSM: what `given` and `words` make of it.
pub(super) fn domain_key(mut given: File, words: impl Iterator<Item = OsString>) -> Result<Secret<32>, NoKey> {
    let words: Vec<OsString> = words.collect();
    match &words[..] {
        [kind] if kind == KEY => Ok(domain_key::read(&mut given)?),
        [kind, recipe] if kind == PASSPHRASE => {
            let recipe: Recipe = recipe.to_str().unwrap_or_default().parse().map_err(io::Error::other)?;
            Ok(recipe.domain_key(&mut given)?)
        }
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_it_was_said() {
        let sources = [
            DomainKeySource::File { path: "/a b/key".into(), store: "/store".into() },
            DomainKeySource::Credential { path: "/run/credentials/key".into() },
            DomainKeySource::Passphrase { from: "/dev/fd/63".into(), stretching: "/salt".into() },
        ];
        for source in sources {
            let words = source.words();
            assert_eq!(DomainKeySource::read(words.clone()), Ok(source));
            assert_eq!(DomainKeySource::read(words[1..].to_vec()), Err(NoSource));
        }
    }
}
