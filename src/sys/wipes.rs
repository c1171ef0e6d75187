//! The wipes of secrets, by name, so that a build for the tests can leave one out.
//!
//! A scan of a process for its keys is worth what it would find. So the tests build with the feature `leave-secrets`,
//! name a wipe in the environment, and expect the scan to find what it would have wiped. In every other build each
//! wipe takes place, the environment is not read, and the answer here is a constant.

/// A place where secrets are wiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wipe {
    /// Locked memory that is given back: data keys, MAC keys, sector keys, round keys, tables that hold keys.
    Memory,
    /// The stack that key derivation and expansion used.
    Stack,
    /// Plaintext in the buffers of requests, which are not unmapped either then.
    Buffers,
    /// The answer to `export-key`, as it is sent.
    Answers,
}

/// What names the wipe that is left out.
#[cfg(feature = "leave-secrets")]
const VARIABLE: &str = "ENVOL_LEAVE";

/// Whether `wipe` takes place: always, in a build that is used.
#[cfg(not(feature = "leave-secrets"))]
pub(crate) const fn takes_place(_wipe: Wipe) -> bool {
    true
}

/// Whether `wipe` takes place: unless the environment names it.
#[cfg(feature = "leave-secrets")]
pub(crate) fn takes_place(wipe: Wipe) -> bool {
    static LEFT_OUT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let left_out = LEFT_OUT.get_or_init(|| std::env::var(VARIABLE).ok());
    left_out.as_deref() != Some(wipe.name())
}

#[cfg(feature = "leave-secrets")]
impl Wipe {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Buffers => "buffers",
            Self::Answers => "answers",
        }
    }
}
