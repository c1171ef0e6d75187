//! Which way reads that must wait for a disk are carried out: many under way on a ring of the kernel's (io_uring), or
//! each on a thread that waits.
//!
//! Decided once for the process, when the daemon starts or else when it is first asked: the environment comes before
//! the configuration, and what the kernel forbids is not taken silently for what was asked for.

use std::fmt;

use nix::errno::Errno;

use crate::sync::OnceLock;
use crate::sys::ring;

/// The variable of the environment that decides.
pub const VARIABLE: &str = "ENVOL_IO";

static CHOSEN: OnceLock<Engine> = OnceLock::new();

/// What is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// io_uring where the kernel allows it.
    #[default]
    Auto,
    /// io_uring, or nothing.
    IoUring,
    /// Threads.
    Threads,
}

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Rings of the kernel's.
    IoUring,
    /// Threads that wait in plain system calls.
    Threads,
}

/// Why the choice cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The kernel, or what confines this process, refuses it.
    #[error("io_uring is asked for and refused here ({0}); \"auto\" uses threads then")]
    Refused(Errno),
    /// The environment says something else.
    #[error("ENVOL_IO is {0:?}, which is none of auto, io_uring, threads")]
    Unknown(String),
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Threads => "threads",
        })
    }
}

impl Choice {
    /// What the environment says, or else `configured`.
    fn or_environment(self) -> Result<Self, EngineError> {
        match std::env::var_os(VARIABLE) {
            None => Ok(self),
            Some(word) => Self::named(&word.to_string_lossy()),
        }
    }

    fn named(word: &str) -> Result<Self, EngineError> {
        match word {
            "" | "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::IoUring),
            "threads" => Ok(Self::Threads),
            other => Err(EngineError::Unknown(other.to_owned())),
        }
    }

    /// What it comes to where the kernel says `allowed` of io_uring.
    fn settle(self, allowed: impl FnOnce() -> Result<(), Errno>) -> Result<Engine, EngineError> {
        match self {
            Self::Threads => Ok(Engine::Threads),
            Self::Auto => Ok(allowed().map_or(Engine::Threads, |()| Engine::IoUring)),
            Self::IoUring => allowed().map(|()| Engine::IoUring).map_err(EngineError::Refused),
        }
    }
}

/// Decides for this process, if that was not done yet.
///
/// # Errors
/// Where io_uring is asked for and refused, or the environment says nothing sensible.
pub fn choose(configured: Choice) -> Result<Engine, EngineError> {
    let engine = settle(configured)?;
    Ok(*CHOSEN.get_or_init(|| engine))
}

/// What [`choose`] would decide now, deciding nothing.
///
/// # Errors
/// As [`choose`].
pub fn settle(configured: Choice) -> Result<Engine, EngineError> {
    configured.or_environment()?.settle(ring::probe)
}

/// What is used in this process.
///
/// # Panics
/// Where nobody chose before and the environment asks for what there is not.
pub fn chosen() -> Engine {
    *CHOSEN.get_or_init(|| {
        let engine = Choice::Auto.or_environment().and_then(|choice| choice.settle(ring::probe));
        engine.unwrap_or_else(|error| panic!("{error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_used_or_refused_and_never_replaced() {
        let allowed = || Ok(());
        let refused = || Err(Errno::EPERM);
        assert_eq!(Choice::Auto.settle(allowed), Ok(Engine::IoUring));
        assert_eq!(Choice::Auto.settle(refused), Ok(Engine::Threads));
        assert_eq!(Choice::IoUring.settle(allowed), Ok(Engine::IoUring));
        assert_eq!(Choice::IoUring.settle(refused), Err(EngineError::Refused(Errno::EPERM)));
        assert_eq!(Choice::Threads.settle(|| unreachable!("nothing is tried")), Ok(Engine::Threads));
    }

    #[test]
    fn the_environments_words_are_those_of_the_configuration() {
        for (word, choice) in [("auto", Choice::Auto), ("io_uring", Choice::IoUring), ("threads", Choice::Threads)] {
            assert_eq!(Choice::named(word), Ok(choice));
            assert_eq!(serde_json::from_value::<Choice>(word.into()).expect("a word"), choice);
        }
        assert!(matches!(Choice::named("uring"), Err(EngineError::Unknown(_))));
    }
}
