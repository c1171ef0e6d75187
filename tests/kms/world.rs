//! A KMS in a temporary directory, under a clock that the test sets.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use envol::kms::embedded::{Clock, Embedded, Identity, OpenError};
use envol::kms::{EncryptionContext, KeyName, KmsError, Principal};
use serde_json::Value;

/// Where a KMS lives, and what time it is there.
pub(crate) struct World {
    pub(crate) place: Place,
    seconds: Arc<AtomicU64>,
}

impl World {
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        Self { place: Place::Own(place), seconds: Arc::new(AtomicU64::new(1_800_000_000)) }
    }

    /// In a directory that somebody else made and removes.
    pub(crate) fn at(path: &Path) -> Self {
        Self { place: Place::Given(path.to_owned()), seconds: Arc::new(AtomicU64::new(1_800_000_000)) }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.place.path().join("kms")
    }

    pub(crate) fn domain_key(&self) -> PathBuf {
        self.place.path().join("domain.key")
    }

    pub(crate) fn clock(&self) -> Clock {
        let seconds = Arc::clone(&self.seconds);
        Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::SeqCst)))
    }

    pub(crate) fn pass_days(&self, days: u64) {
        self.pass_seconds(days * 86_400);
    }

    pub(crate) fn pass_seconds(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn set_back_days(&self, days: u64) {
        self.seconds.fetch_sub(days * 86_400, Ordering::SeqCst);
    }

    pub(crate) fn try_open(&self) -> Result<Embedded, OpenError> {
        Embedded::open(&self.dir(), &self.domain_key(), identity(), self.clock())
    }

    pub(crate) fn open(&self) -> Embedded {
        self.try_open().expect("the KMS opens")
    }

    /// The audit log, line by line.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.dir().join("audit.ndjson")).expect("the log is there");
        log.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
    }
}

/// A directory of its own, or one that was given.
pub(crate) enum Place {
    Own(tempfile::TempDir),
    Given(PathBuf),
}

impl Place {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            Self::Given(path) => path,
        }
    }
}

pub(crate) fn identity() -> Identity {
    Identity { account: "000000000000".to_owned(), region: "us-east-1".to_owned() }
}

pub(crate) fn caller() -> Principal {
    Principal::new("arn:aws:iam::000000000000:user/test")
}

pub(crate) fn named(name: &str) -> KeyName {
    KeyName::new(name)
}

pub(crate) fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::new(pairs.iter().copied())
}

/// `exception: message` of a refusal.
pub(crate) fn refusal<T>(outcome: Result<T, KmsError>) -> String {
    match outcome {
        Ok(_) => panic!("the KMS did not refuse"),
        Err(error @ KmsError::Refused { .. }) => error.to_string(),
        Err(error) => panic!("not a refusal: {error}"),
    }
}
