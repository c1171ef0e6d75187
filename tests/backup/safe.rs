//! Where what is carried is kept, and the commands that make and use it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::command;

/// A place for what is carried: the backup, its passphrase.
pub(crate) struct Safe(tempfile::TempDir);

impl Safe {
    pub(crate) fn new() -> Self {
        let safe = Self(tempfile::tempdir().expect("a directory"));
        safe.write("passphrase", b"correct horse battery staple\n");
        safe
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("ours");
    }

    pub(crate) fn words(&self, what: &str) -> [String; 5] {
        ["kms".into(), what.into(), self.text("kms.backup"), "--passphrase-file".into(), self.text("passphrase")]
    }

    /// `envol kms WHAT`, for the state directory `state_dir` without a daemon, run by `under`.
    pub(crate) fn command(&self, under: &[&str], what: &str, state_dir: &Path) -> Command {
        let mut command = command(&[under, &[env!("CARGO_BIN_EXE_envol")]].concat());
        command.args(self.words(what)).arg("--json").arg("--state-dir").arg(state_dir);
        command.arg("--socket").arg(self.path("control.sock")).stdin(Stdio::null());
        command
    }

    /// Restores into the state directory `state_dir`.
    pub(crate) fn restore(&self, state_dir: &Path) -> Output {
        self.command(&[], "restore", state_dir).output().expect("starts")
    }

    /// Backs up what is in the state directory `state_dir`.
    pub(crate) fn back_up(&self, state_dir: &Path) -> Output {
        self.command(&[], "backup", state_dir).output().expect("starts")
    }
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

pub(crate) fn member<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// What a refusal says: the `error` object.
pub(crate) fn error(output: &Output) -> Value {
    let said: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{output:?}"));
    said["error"].clone()
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}
