//! The KMS as a volume sees it: the [`Kms`] trait, and what passes through it. One folder for each kind.
//!
//! Calls block, may take long and may never return: whoever calls sets a deadline by calling from a thread it can leave
//! behind. A late answer is dropped there, which wipes it. Errors are sorted by fault and carry the KMS's own exception
//! and text to the letter, since they are what the operator, the event and the NBD client are shown.

pub mod aws;
pub mod embedded;
pub(crate) mod files;
mod frame;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::secret::Secret;
use crate::sync::Arc;

/// Bytes in the data key of a volume (two 256-bit XTS keys' worth, as EBS asks for).
pub const DATA_KEY_BYTES: usize = 64;

/// The ARN of a KMS key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyArn(String);

/// A key as people name it: a key id, a key ARN, `alias/NAME` or an alias ARN. Judged by the KMS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyName(String);

/// Who calls: the ARN of a principal, for authorisation and the audit record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Principal(String);

/// Pairs that are bound to a ciphertext as additional authenticated data; in clear in every audit record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EncryptionContext(BTreeMap<String, String>);

/// A data key as the KMS sealed it: opaque, 1 to 6,144 bytes, no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey(Vec<u8>);

/// The clear data key of a volume.
pub struct DataKey(Secret<DATA_KEY_BYTES>);

/// What [`Kms::generate_data_key_without_plaintext`] answers.
#[derive(Debug)]
pub struct GeneratedKey {
    /// The sealed data key.
    pub wrapped: WrappedKey,
    /// The key that sealed it.
    pub key: KeyArn,
}

/// What [`Kms::decrypt`] answers.
pub struct DecryptedKey {
    /// The clear data key.
    pub data_key: DataKey,
    /// The key that opened it, as the KMS names it.
    pub key: KeyArn,
}

/// A wrapped key of no length or past [`limits::WRAPPED_KEY_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a wrapped key is 1 to {most} bytes, not {0}", most = limits::WRAPPED_KEY_MAX)]
pub struct BadWrappedKey(pub usize);

/// Why a KMS call failed, by fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KmsError {
    /// The KMS understood and said no: disabled, pending deletion, denied, wrong context. Trying again is no use.
    #[error("{exception}: {message}")]
    Refused {
        /// The exception's name as AWS spells it, such as `DisabledException`.
        exception: String,
        /// Its text, to the letter; may be empty.
        message: String,
    },
    /// The KMS has too much to do; trying again later may help.
    #[error("{exception}: {message}")]
    Throttled {
        /// The exception's name, such as `ThrottlingException`.
        exception: String,
        /// Its text.
        message: String,
    },
    /// No answer, or one that says it failed inside; trying again later may help.
    #[error("the KMS could not be reached: {0}")]
    Unreachable(String),
    /// An answer that cannot be true: another key's id, a data key of another length, a weak key.
    #[error("the KMS gave an answer that cannot be used: {0}")]
    BadAnswer(String),
    /// The KMS cannot be called as the configuration, or a file that it names, has it: trying again is no use.
    #[error("the KMS cannot be called as it is configured: {text}")]
    Misconfigured {
        /// What is wrong.
        text: String,
        /// The file that it is wrong in, where it is a file that the configuration names.
        file: Option<PathBuf>,
    },
    /// The process that starts those which call KMSs is gone, and with it every way to this KMS, until the daemon is started
    /// again.
    #[error("nothing is left to call the KMS from: {0}")]
    NoCaller(String),
    /// The call could not be made: no locked memory for its answer.
    #[error(transparent)]
    NoLockedMemory(#[from] crate::sys::locked::LockingFailed),
}

/// What a volume needs of a KMS.
pub trait Kms: Send + Sync {
    /// A new data key of [`DATA_KEY_BYTES`], sealed under `key` with `context`; its clear form is never shown.
    ///
    /// # Errors
    /// [`KmsError`], by fault.
    fn generate_data_key_without_plaintext(
        &self,
        caller: &Principal,
        key: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError>;

    /// Opens `wrapped`, which `key` must have sealed with the same `context`.
    ///
    /// # Errors
    /// [`KmsError`], by fault. An answer that names another key than `key` is for the caller to refuse.
    fn decrypt(
        &self,
        caller: &Principal,
        key: &KeyArn,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError>;

    /// Seals under `to` what a key had sealed, with the same `context`; its clear form is never shown.
    ///
    /// # Errors
    /// [`KmsError`], by fault.
    fn re_encrypt(
        &self,
        caller: &Principal,
        sealed: (&KeyArn, &WrappedKey),
        to: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError>;

    /// Seals `data_key`, which another KMS has opened, under `key` with `context`. Shared, since a call may outlast whoever
    /// waits for it.
    ///
    /// # Errors
    /// [`KmsError`], by fault.
    fn encrypt(
        &self,
        caller: &Principal,
        key: &KeyName,
        data_key: &Arc<DataKey>,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError>;
}

impl WrappedKey {
    /// The blob as the KMS gave it.
    ///
    /// # Errors
    /// Where it is empty or too long.
    pub fn new(blob: Vec<u8>) -> Result<Self, BadWrappedKey> {
        if (1..=limits::WRAPPED_KEY_MAX).contains(&blob.len()) {
            Ok(Self(blob))
        } else {
            Err(BadWrappedKey(blob.len()))
        }
    }

    /// The blob.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedKey({} bytes)", self.0.len())
    }
}

impl DataKey {
    /// The key that `secret` holds.
    pub fn new(secret: Secret<DATA_KEY_BYTES>) -> Self {
        Self(secret)
    }

    /// The clear bytes.
    pub fn expose(&self) -> &[u8; DATA_KEY_BYTES] {
        self.0.expose()
    }
}

impl EncryptionContext {
    /// The context of `pairs`; of two with one name the later stands.
    pub fn new<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The pairs, sorted by name.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Principal {
    /// The root of `account`.
    pub fn root(account: &str) -> Self {
        Self(format!("arn:aws:iam::{account}:root"))
    }

    /// Its account, where it is of one.
    pub fn account(&self) -> Option<&str> {
        let rest = self.0.strip_prefix("arn:")?;
        rest.split(':').nth(3).filter(|account| !account.is_empty())
    }

    /// Whether it is the root of its account.
    pub fn is_root(&self) -> bool {
        self.0.starts_with("arn:aws:iam::") && self.0.ends_with(":root")
    }
}

/// Names that are text, judged by the KMS and nobody else.
macro_rules! plain_text {
    ($($name:ty),*) => {$(
        impl $name {
            /// The name that `text` is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
plain_text!(KeyArn, KeyName, Principal);

impl From<KeyArn> for KeyName {
    fn from(arn: KeyArn) -> Self {
        Self(arn.0)
    }
}
