//! A daemon whose KMS is served, and what a client needs to use it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Daemon, must, python};

/// A daemon that serves its KMS, and credentials for it.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) endpoint: String,
    pub(crate) key: (String, String),
}

impl World {
    /// A daemon with volumes and a KMS.
    pub(crate) fn new() -> Self {
        Self::of(Daemon::start_with(&["--kms-listen", "127.0.0.1:0"]))
    }

    /// One that runs already.
    pub(crate) fn of(daemon: Daemon) -> Self {
        let endpoint = daemon.json(["status"])["kms_endpoints"][0].as_str().expect("an endpoint").to_owned();
        let key = access_key(&daemon, "root");
        Self { daemon, endpoint, key }
    }

    /// `command`, with this KMS and no other of the machine's settings for AWS.
    pub(crate) fn client(&self, mut command: Command) -> Command {
        let nowhere = "/nonexistent";
        command
            .env("AWS_ENDPOINT_URL_KMS", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", &self.key.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.key.1)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_CONFIG_FILE", nowhere)
            .env("AWS_SHARED_CREDENTIALS_FILE", nowhere)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("AWS_PAGER", "")
            .env("ENVOL", env!("CARGO_BIN_EXE_envol"))
            .env("ENVOL_SOCKET", self.daemon.path().join("control.sock"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Runs a script of this folder, which must succeed; what it printed.
    pub(crate) fn script(&self, name: &str) -> String {
        let mut command = Command::new(python());
        command.arg(script(name));
        must(&mut self.client(command))
    }

    /// `aws kms WORDS`.
    pub(crate) fn aws(&self, words: &[&str]) -> Command {
        let mut command = Command::new(aws());
        command.arg("kms").args(words);
        self.client(command)
    }
}

/// A new access key of `user`: id and secret.
pub(crate) fn access_key(daemon: &Daemon, user: &str) -> (String, String) {
    let made = daemon.json(["kms", "access-key", "create", "--user", user]);
    let text = |member: &str| made[member].as_str().expect("text").to_owned();
    (text("access_key_id"), text("secret_access_key"))
}

/// A file of this folder.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire").join(name)
}

/// The `aws` CLI beside the Python of the tests.
pub(crate) fn aws() -> String {
    let beside = Path::new(&python()).with_file_name("aws");
    beside.to_str().expect("UTF-8").to_owned()
}
