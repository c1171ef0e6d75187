//! Runs the program without a terminal and without anything from our environment.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program.
pub(crate) const ENVOL: &str = env!("CARGO_BIN_EXE_envol");

/// What came out of it.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// All of it, for a snapshot.
    pub(crate) fn whole(&self) -> String {
        let code = self.code.map_or("none".to_owned(), |code| code.to_string());
        format!("exit {code}\n--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }

    /// The one JSON document on stdout.
    pub(crate) fn document(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).expect("one JSON document on stdout")
    }

    /// The error on stderr.
    pub(crate) fn error(&self) -> serde_json::Value {
        let failure: serde_json::Value = serde_json::from_str(&self.stderr).expect("one JSON document on stderr");
        failure["error"].clone()
    }
}

/// The program, with an empty environment and no terminal.
pub(crate) fn command(words: &[&str]) -> Command {
    let mut command = Command::new(ENVOL);
    command.args(words).env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Runs `envol WORDS`.
pub(crate) fn envol(words: &[&str]) -> Said {
    Said::of(command(words).output().expect("the program runs"))
}

/// Runs `envol --socket SOCKET WORDS`.
pub(crate) fn envol_at(socket: &Path, words: &[&str]) -> Said {
    let mut command = command(&[]);
    command.env("ENVOL_SOCKET", socket).args(words);
    Said::of(command.output().expect("the program runs"))
}
