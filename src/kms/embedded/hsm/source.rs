//! Where the domain key comes from: said by the front in words, opened by the HSM's parent, read by the HSM alone.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::kms::embedded::domain_key::{self, DomainKeyError};

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

impl fmt::Display for DomainKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "the file {}", path.display()),
        }
    }
}

impl DomainKeySource {
    /// The words that [`DomainKeySource::read`] reads.
    pub(super) fn words(&self) -> Vec<OsString> {
        match self {
            Self::File { path, store } => vec!["file".into(), path.into(), store.into()],
        }
    }

    pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, NoSource> {
        let words: Vec<OsString> = words.into_iter().collect();
        match &words[..] {
            [kind, path, store] if kind == "file" => Ok(Self::File { path: path.into(), store: store.into() }),
            _ => Err(NoSource),
        }
    }

    /// Opens it, reading nothing. A file that may be made and is not there is made first, with what `fill` writes.
    pub(super) fn open(
        &self,
        may_make: bool,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<Opened, DomainKeyError> {
        match self {
            Self::File { path, store } => {
                let descriptor = domain_key::open(path, store, may_make, fill)?;
                Ok(Opened { descriptor, words: vec!["key".into()] })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_it_was_said() {
        let sources = [DomainKeySource::File { path: "/a b/key".into(), store: "/store".into() }];
        for source in sources {
            let words = source.words();
            assert_eq!(DomainKeySource::read(words.clone()), Ok(source));
            assert_eq!(DomainKeySource::read(words[1..].to_vec()), Err(NoSource));
        }
    }
}
