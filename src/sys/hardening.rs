//! What a process that holds keys gives up for good: being dumped, being traced by its own user, gaining privileges. How far
//! the configuration has it go beyond that (`confinement`).

use std::io;

use nix::sys::prctl::{set_dumpable, set_no_new_privs};
use nix::sys::resource::{Resource, setrlimit};
use serde::Deserialize;

/// Whether a process gives up what it does not need: files elsewhere, system calls of other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hardening {
    /// It does not.
    Off,
    /// As far as the kernel can.
    #[default]
    Prefer,
    /// Wholly, or it does not start.
    Require,
}

impl Hardening {
    /// The words of the configuration.
    const WORDS: [(&'static str, Self); 3] = [("off", Self::Off), ("prefer", Self::Prefer), ("require", Self::Require)];

    /// What `word` names.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|(name, _)| *name == word).map(|(_, hardening)| hardening)
    }

    /// Its word.
    pub(crate) fn word(self) -> &'static str {
        Self::WORDS.into_iter().find(|(_, hardening)| *hardening == self).expect("each has a word").0
    }
}

impl std::fmt::Display for Hardening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// From here on, this process leaves no core, only root may look into it, and nothing that it runs has more rights than it.
/// What it forks is held to the same.
///
/// # Errors
/// What the system said; all of this is asked of every process, and granted.
pub(crate) fn seal_process() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set_dumpable(false)?;
    set_no_new_privs()?;
    Ok(())
}
