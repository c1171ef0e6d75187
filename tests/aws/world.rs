//! A daemon whose configuration names a KMS elsewhere, and the files that it names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::Daemon;

/// What the secrets of these tests look like: nothing that is printed may hold it.
pub(crate) const SECRET: &str = "SecretSecretSecretSecretSecretSecretSecr";

/// Files for a daemon to be: configuration, credentials.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file that nobody else can read.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        chmod(&path, 0o600);
        path
    }

    /// Credentials under the profile `default`.
    pub(crate) fn credentials(&self, id: &str, secret: &str) -> PathBuf {
        let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        self.write("credentials", text)
    }

    /// A daemon with this configuration.
    pub(crate) fn daemon(&self, configuration: &str) -> Daemon {
        let path = self.write("envol.toml", configuration);
        Daemon::start_with(&["--config", path.to_str().expect("text")])
    }
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("allowed");
}

/// The section of a KMS called `far` at `endpoint`, called with the credentials in `files`.
pub(crate) fn section(files: &Files, endpoint: &str) -> String {
    let credentials = files.path("credentials");
    format!(
        "[kms.far]\nkind = \"aws\"\nregion = \"us-east-1\"\nendpoint = \"{endpoint}\"\ncredentials_file = \"{}\"\n",
        credentials.display()
    )
}

/// Makes a volume of 8 MiB under a key of the KMS `far`.
pub(crate) fn create(daemon: &Daemon, name: &str, key: &str) -> serde_json::Value {
    daemon.json(["volume", "create", name, "--size", "8M", "--kms", "far", "--key", key])
}

/// The state of a volume.
pub(crate) fn state(daemon: &Daemon, name: &str) -> String {
    daemon.json(["volume", "show", name])["state"].as_str().expect("text").to_owned()
}

/// The text of a member.
pub(crate) fn text<'v>(value: &'v serde_json::Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}"))
}
