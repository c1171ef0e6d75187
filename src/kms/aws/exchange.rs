//! What passes between the daemon and a process that makes one call.
//!
//! ```text
//! message   length of the words u32 big-endian | words, in JSON | secret: the clear data key, where one goes along
//! ```
//! No secret is among the words: where the data key is clear it lies in locked memory on both sides, and serde has no
//! part in it.

use std::io;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nix::errno::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::kms::{DATA_KEY_BYTES, EncryptionContext, KeyArn, KeyName, KmsError, WrappedKey};
use crate::sys::locked::{LockedMemory, LockingFailed};

/// What is asked of the KMS: no more than that. Which KMS, and as whom, the process that calls knows from its parent. Wrapped
/// keys are in base64.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Asked {
    /// GenerateDataKeyWithoutPlaintext.
    Generate { key: KeyName, context: EncryptionContext },
    /// Decrypt.
    Decrypt { key: KeyArn, wrapped: String, context: EncryptionContext },
    /// ReEncrypt, the context kept.
    ReEncrypt { from: KeyArn, wrapped: String, to: KeyName, context: EncryptionContext },
    /// Encrypt; the data key is the secret.
    Encrypt { key: KeyName, context: EncryptionContext },
}

/// What came of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// A wrapped key, and the key that sealed it.
    Sealed { wrapped: String, key: KeyArn },
    /// The key that opened it; the clear data key is the secret.
    Opened { key: KeyArn },
    /// Nothing.
    Failed(Failure),
}

/// [`KmsError`], in words.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failure {
    Refused { exception: String, message: String },
    Throttled { exception: String, message: String },
    Unreachable(String),
    BadAnswer(String),
    Misconfigured { text: String, file: Option<PathBuf> },
    NoCaller(String),
    NoLockedMemory(i32),
}

impl From<KmsError> for Failure {
    fn from(error: KmsError) -> Self {
        match error {
            KmsError::Refused { exception, message } => Self::Refused { exception, message },
            KmsError::Throttled { exception, message } => Self::Throttled { exception, message },
            KmsError::Unreachable(text) => Self::Unreachable(text),
            KmsError::BadAnswer(text) => Self::BadAnswer(text),
            KmsError::Misconfigured { text, file } => Self::Misconfigured { text, file },
            KmsError::NoCaller(text) => Self::NoCaller(text),
            KmsError::NoLockedMemory(LockingFailed(errno)) => Self::NoLockedMemory(errno as i32),
        }
    }
}

impl From<Failure> for KmsError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { exception, message } => Self::Refused { exception, message },
            Failure::Throttled { exception, message } => Self::Throttled { exception, message },
            Failure::Unreachable(text) => Self::Unreachable(text),
            Failure::BadAnswer(text) => Self::BadAnswer(text),
            Failure::Misconfigured { text, file } => Self::Misconfigured { text, file },
            Failure::NoCaller(text) => Self::NoCaller(text),
            Failure::NoLockedMemory(errno) => Self::NoLockedMemory(LockingFailed(Errno::from_raw(errno))),
        }
    }
}

/// The message of `words` and `secret`.
pub(super) fn encode(words: &impl Serialize, secret: &[u8]) -> io::Result<LockedMemory> {
    let words = serde_json::to_vec(words)?;
    let length = u32::try_from(words.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut message = LockedMemory::zeroed(4 + words.len() + secret.len()).map_err(io::Error::other)?;
    let (head, rest) = message.bytes_mut().split_at_mut(4);
    let (place, clear) = rest.split_at_mut(words.len());
    head.copy_from_slice(&length.to_be_bytes());
    place.copy_from_slice(&words);
    clear.copy_from_slice(secret);
    Ok(message)
}

/// The words of a message, and its secret.
pub(super) fn decode<T: DeserializeOwned>(message: &[u8]) -> io::Result<(T, &[u8])> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let (length, rest) = message.split_first_chunk().ok_or_else(bad)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| bad())?;
    let (words, secret) = rest.split_at_checked(length).ok_or_else(bad)?;
    Ok((serde_json::from_slice(words)?, secret))
}

/// A wrapped key as text.
pub(super) fn text(wrapped: &WrappedKey) -> String {
    BASE64_STANDARD.encode(wrapped.bytes())
}

/// The wrapped key that `text` is.
pub(super) fn wrapped(text: &str) -> Result<WrappedKey, KmsError> {
    let bad = |error: &dyn std::error::Error| KmsError::BadAnswer(error.to_string());
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| bad(&error))?;
    WrappedKey::new(bytes).map_err(|error| bad(&error))
}

/// A clear data key that is not as long as it has to be.
pub(super) fn bad_length(length: usize) -> KmsError {
    KmsError::BadAnswer(format!("a data key is {DATA_KEY_BYTES} bytes, not {length}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_secret_come_back_as_they_went() {
        let reply = Reply::Opened { key: KeyArn::new("arn:aws:kms:r:1:key/k") };
        let message = encode(&reply, &[7; DATA_KEY_BYTES]).expect("locks");
        let (words, secret) = decode::<Reply>(message.bytes()).expect("whole");
        assert_eq!((words, secret), (reply, [7; DATA_KEY_BYTES].as_slice()));
        for cut in 0..message.bytes().len() - DATA_KEY_BYTES {
            assert!(decode::<Reply>(&message.bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn failures_come_back_as_they_went() {
        let (exception, message) = ("DisabledException".to_owned(), "k is disabled.".to_owned());
        for error in [
            KmsError::Refused { exception: exception.clone(), message: message.clone() },
            KmsError::Throttled { exception, message },
            KmsError::Unreachable("no answer".into()),
            KmsError::BadAnswer("wrong".into()),
            KmsError::Misconfigured { text: "no such file".into(), file: Some("/etc/envol/aws".into()) },
            KmsError::Misconfigured { text: "refused".into(), file: None },
            KmsError::NoCaller("gone".into()),
            KmsError::NoLockedMemory(LockingFailed(Errno::ENOMEM)),
        ] {
            assert_eq!(KmsError::from(Failure::from(error.clone())), error);
        }
    }
}
