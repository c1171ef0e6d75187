//! `envol kms backup`, `restore` and `seal-domain-key`: a KMS in one file, and its domain key behind a passphrase.
//!
//! A backup is made by the process of whoever asks for it, who must be able to read the domain key (root, or the daemon's
//! user): so the daemon's front sees it no more than ever, and the HSM gives it to nobody. A daemon that runs is asked for
//! a copy of its store; where none runs, the store is taken as it lies. Restoring needs a state directory that no daemon uses.
//! The process holds keys, so it gives up what the daemon gives up; what it reads and makes in the state directory, it does
//! with the rights of that directory's owner.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use serde::Serialize;

use super::config::Config;
use super::run::{domain_key, domain_key_file, kms_dir, stretching_file};
use super::state_dir::{self, StateDir};
use super::{DaemonError, Options};
use crate::control::SNAPSHOT;
use crate::control::api::{Snapshot, Status};
use crate::control::client::{Client, ClientError};
use crate::doctor;
use crate::kms::embedded::backup;
use crate::kms::embedded::hsm::{DomainKeySource, NamedBy};
use crate::sys::owner::Owner;
use crate::sys::{hardening, locked};

/// What is to be backed up or restored, and how.
#[derive(Debug, Clone)]
pub struct BackupAsked {
    /// The backup.
    pub file: PathBuf,
    /// Where the passphrase is that it is sealed under: a file of mode 0600, or a pipe.
    pub passphrase_file: PathBuf,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct BackedUp {
    /// The backup.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Where the domain key came from, or is now.
    pub domain_key: String,
}

/// A domain key that lies sealed under a passphrase from now on.
#[derive(Debug, Clone, Serialize)]
pub struct Sealed {
    /// Where it lies sealed.
    pub domain_key: PathBuf,
    /// The file with the clear one, which was overwritten and removed.
    pub removed: PathBuf,
    /// Where the passphrase is.
    pub passphrase_file: PathBuf,
}

/// A copy of a store, removed when this is dropped.
struct Copied {
    path: PathBuf,
    owner: Owner,
}

impl Drop for Copied {
    fn drop(&mut self) {
        if let Err(error) = self.owner.act(|| fs::remove_dir_all(&self.path)) {
            tracing::warn!(path = %self.path.display(), %error, "a copy of the KMS's store is left behind");
        }
    }
}

/// Removes the copies that were made for whoever then did not come to remove them.
pub(super) fn clear(state_dir: &Path) -> io::Result<()> {
    let owner = Owner::of(state_dir)?;
    for entry in fs::read_dir(state_dir)? {
        let path = entry?.path();
        if is_copy(&path, state_dir) {
            drop(Copied { path, owner });
        }
    }
    Ok(())
}

fn is_copy(path: &Path, state_dir: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    path.parent() == Some(state_dir) && name.starts_with(SNAPSHOT.as_bytes())
}

/// Refuses a state directory in which a restore was interrupted: what is called a KMS there is a part of one.
pub(super) fn refuse_interrupted(config: &Config) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::StateDir { path: config.state_dir.clone(), source };
    let parts = backup::interrupted(&kms_dir(config)).map_err(failed)?;
    parts.map_or(Ok(()), |parts| Err(DaemonError::InterruptedRestore(parts)))
}

/// Backs the KMS up that `options` name.
///
/// # Errors
/// [`DaemonError`]: nothing is left of the file.
pub fn back_up(options: Options, asked: &BackupAsked) -> Result<BackedUp, DaemonError> {
    let config = Config::load(options)?;
    harden(&config)?;
    match Client::new(config.socket.clone()).get_with_peer::<Status>("/v1/status") {
        Ok((status, peer)) => back_up_served(&config, (&status, peer), asked),
        Err(ClientError::NoDaemon(_)) => {
            let held = StateDir::claim_for_owner(&config.state_dir)?;
            held.owner().act(|| refuse_interrupted(&config))?;
            let source = domain_key(&config);
            seal((&source, named_by(&config)), &kms_dir(&config), held.owner(), asked)?;
            Ok(done(asked, &source, &config.state_dir))
        }
        Err(error) => Err(error.into()),
    }
}

fn back_up_served(
    config: &Config,
    (status, peer): (&Status, u32),
    asked: &BackupAsked,
) -> Result<BackedUp, DaemonError> {
    let state_dir = PathBuf::from(&status.state_dir);
    let (found, owner) = state_dir::served(&state_dir, peer)?;
    let said = doctor::domain_key_of(&status.hsm.domain_key, &state_dir).filter(|_| config.passphrase_file.is_none());
    let by = if said.is_some() { NamedBy::Daemon } else { NamedBy::Caller };
    let source = said.unwrap_or_else(|| domain_key(&Config { state_dir: state_dir.clone(), ..config.clone() }));
    let copy: Snapshot = Client::new(config.socket.clone()).send("POST", "/v1/kms/snapshot", &serde_json::json!({}))?;
    let path = PathBuf::from(copy.path);
    // It will be removed: whatever speaks for the daemon may not name anything else.
    if !is_copy(&path, &state_dir) {
        return Err(ClientError::Garbled(format!("{} is no copy of its store", path.display())).into());
    }
    let copy = Copied { path: found.join(path.file_name().expect("a copy has one")), owner };
    seal((&source, by), &copy.path, owner, asked)?;
    Ok(done(asked, &source, &state_dir))
}

fn seal(
    source: (&DomainKeySource, NamedBy),
    store: &Path,
    owner: Owner,
    asked: &BackupAsked,
) -> Result<(), DaemonError> {
    let sealed = backup::back_up((&asked.file, &asked.passphrase_file), source, store, owner);
    sealed.map_err(|source| DaemonError::Backup { path: asked.file.clone(), source: Box::new(source) })
}

/// Restores a KMS into the state directory that `options` name.
///
/// # Errors
/// [`DaemonError`]: a daemon uses it, there is a KMS already, or the backup cannot be opened. Nothing is left then.
pub fn restore(options: Options, asked: &BackupAsked) -> Result<BackedUp, DaemonError> {
    let config = Config::load(options)?;
    harden(&config)?;
    let held = StateDir::claim_for_owner(&config.state_dir)?;
    let to = domain_key(&config);
    backup::restore((&asked.file, &asked.passphrase_file), &to, &kms_dir(&config), held.owner())
        .map_err(|source| DaemonError::Backup { path: asked.file.clone(), source: Box::new(source) })?;
    Ok(done(asked, &to, &config.state_dir))
}

/// Moves the domain key of the state directory that `options` name from its file behind the passphrase in `passphrase_file`.
///
/// # Errors
/// [`DaemonError`]: a daemon uses it, or there is no such file that opens its store. The file is there as before then; or the disk failed
/// while it was overwritten and removed, when the key lies sealed.
pub fn seal_domain_key(options: Options, passphrase_file: &Path) -> Result<Sealed, DaemonError> {
    let config = Config::load(options)?;
    harden(&config)?;
    let held = StateDir::claim_for_owner(&config.state_dir)?;
    held.owner().act(|| refuse_interrupted(&config))?;
    let (file, sealed) = (domain_key_file(&config), stretching_file(&config));
    backup::move_behind(passphrase_file, (&file, &sealed), &kms_dir(&config), held.owner())
        .map_err(|source| DaemonError::DomainKey { path: file.clone(), source: Box::new(source) })?;
    Ok(Sealed { domain_key: sealed, removed: file, passphrase_file: passphrase_file.to_owned() })
}

/// What the daemon does before it holds a key.
fn harden(config: &Config) -> Result<(), DaemonError> {
    umask(Mode::from_bits_truncate(0o077));
    hardening::seal_process().map_err(DaemonError::Seal)?;
    let asked = config.key_memory;
    locked::choose(asked).map(drop).map_err(|source| DaemonError::KeyMemory { asked, source })
}

/// Whose word it is where the domain key of a state directory without a daemon comes from.
fn named_by(config: &Config) -> NamedBy {
    if config.passphrase_file.is_some() { NamedBy::Caller } else { NamedBy::Daemon }
}

fn done(asked: &BackupAsked, domain_key: &DomainKeySource, state_dir: &Path) -> BackedUp {
    BackedUp {
        file: asked.file.clone(),
        bytes: fs::metadata(&asked.file).map_or(0, |facts| facts.len()),
        state_dir: state_dir.to_owned(),
        domain_key: domain_key.to_string(),
    }
}
