//! `envol kms backup` and `restore`: a KMS in one file.
//!
//! A backup is made by the process of whoever asks for it, who must be able to read the domain key (root, or the daemon's
//! user): so the daemon's front sees it no more than ever, and the HSM gives it to nobody. A daemon that runs is asked for
//! a copy of its store, which it makes between two changes; where none runs, the store is taken as it lies. Restoring needs
//! a state directory that no daemon uses.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::Config;
use super::run::{domain_key, kms_dir};
use super::state_dir::StateDir;
use super::{DaemonError, Options};
use crate::control::SNAPSHOT;
use crate::control::api::{Snapshot, Status};
use crate::control::client::{Client, ClientError};
use crate::doctor;
use crate::kms::embedded::backup;
use crate::kms::embedded::hsm::DomainKeySource;

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

/// A copy of a store, removed when this is dropped.
struct Copied(PathBuf);

impl Drop for Copied {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a copy of the KMS's store is left behind");
        }
    }
}

/// Removes the copies that were made for whoever then did not come to remove them.
pub(super) fn clear(state_dir: &Path) {
    let entries = fs::read_dir(state_dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(SNAPSHOT.as_bytes())) {
        drop(Copied(entry.path()));
    }
}

/// Backs the KMS up that `options` name.
///
/// # Errors
/// [`DaemonError`]: nothing is left of the file.
pub fn back_up(options: Options, asked: &BackupAsked) -> Result<BackedUp, DaemonError> {
    let config = Config::load(options)?;
    let failed = |source| DaemonError::Backup { path: asked.file.clone(), source: Box::new(source) };
    let done = |source: &DomainKeySource, state_dir: &Path| BackedUp {
        file: asked.file.clone(),
        bytes: fs::metadata(&asked.file).map_or(0, |facts| facts.len()),
        state_dir: state_dir.to_owned(),
        domain_key: source.to_string(),
    };
    let client = Client::new(config.socket.clone());
    match client.get::<Status>("/v1/status") {
        Ok(status) => {
            let state_dir = PathBuf::from(&status.state_dir);
            let source =
                config.passphrase_file.is_none().then(|| doctor::domain_key_of(&status.hsm.domain_key, &state_dir));
            let source =
                source.flatten().unwrap_or_else(|| domain_key(&Config { state_dir: state_dir.clone(), ..config }));
            let copy: Snapshot = client.send("POST", "/v1/kms/snapshot", &serde_json::json!({}))?;
            let copy = Copied(copy.path.into());
            backup::back_up(&asked.file, &asked.passphrase_file, &source, &copy.0).map_err(failed)?;
            Ok(done(&source, &state_dir))
        }
        Err(ClientError::NoDaemon(_)) => {
            let _held = StateDir::claim(&config.state_dir)?;
            let source = domain_key(&config);
            backup::back_up(&asked.file, &asked.passphrase_file, &source, &kms_dir(&config)).map_err(failed)?;
            Ok(done(&source, &config.state_dir))
        }
        Err(error) => Err(error.into()),
    }
}

/// Restores a KMS into the state directory that `options` name.
///
/// # Errors
/// [`DaemonError`]: a daemon uses it, there is a KMS already, or the backup cannot be opened. Nothing is left then.
pub fn restore(options: Options, asked: &BackupAsked) -> Result<BackedUp, DaemonError> {
    let config = Config::load(options)?;
    let _held = StateDir::claim(&config.state_dir)?;
    let place = config.state_dir.join("domain.key");
    backup::restore(&asked.file, &asked.passphrase_file, &place, &kms_dir(&config))
        .map_err(|source| DaemonError::Backup { path: asked.file.clone(), source: Box::new(source) })?;
    Ok(BackedUp {
        file: asked.file.clone(),
        bytes: fs::metadata(&asked.file).map_or(0, |facts| facts.len()),
        state_dir: config.state_dir,
        domain_key: format!("the file {}", place.display()),
    })
}
