//! Why a command did not do what it was asked, and the exit code that follows.

use std::io;
use std::path::PathBuf;

use super::bench::BenchFailure;
use crate::chain::{Finding, PassedOver};
use crate::control::api::Problem;
use crate::control::client::ClientError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon refused, or could not be asked.
    #[error(transparent)]
    Daemon(#[from] ClientError),
    /// The command asks first, and there is nobody to ask.
    #[error("{0} asks before it acts, and there is no terminal to ask on; nothing was done")]
    NobodyToAsk(&'static str),
    /// The question was answered with no.
    #[error("not confirmed; nothing was done")]
    NotConfirmed,
    /// The API carries text, and this path is none.
    #[error("the path {} is not UTF-8", .0.display())]
    PathNotText(PathBuf),
    /// A file that the command names cannot be read or written.
    #[error("the file {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A document that the command names cannot be read.
    #[error("the document {file} cannot be read")]
    Document {
        /// The file, or `-`.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// The editor could not be run, or failed.
    #[error("the policy could not be edited; nothing was done")]
    Editor(#[source] io::Error),
    /// Neither an option nor the environment names a place for the control socket.
    #[error("nothing says where the control socket lies")]
    NoDirectory,
    /// The answer could not be written.
    #[error("the answer could not be written")]
    Output(#[source] io::Error),
    /// The terminal could not be read.
    #[error("the answer could not be read from the terminal")]
    Terminal(#[source] io::Error),
    /// The demo cannot find the program that it is to run as the daemon.
    #[error("this program cannot be found again on the disk")]
    Program(#[source] io::Error),
    /// `man` knows no such command.
    #[error("there is no command {0}")]
    NoSuchCommand(String),
    /// A key has one value of a tag, an encryption context one of a name.
    #[error("{0} is given twice")]
    TagTwice(String),
    /// Neither an option nor the environment names a place for the state directory.
    #[error("nothing says where the audit log lies")]
    NoLog,
    /// A file that holds no verify key.
    #[error("the file {} holds no verify key", .0.display())]
    NotAVerifyKey(PathBuf),
    /// The audit log is not as it was written.
    #[error("the audit log is broken: {0}")]
    BrokenLog(Finding),
    /// The audit log is as it was written, but for lines that are no records.
    #[error("the audit log is not whole: {0}")]
    NoRecords(PassedOver),
    /// The verify key is written, and the daemon was not told or could not forget it.
    #[error("the file {} holds the verify key, and it is not known whether the daemon has forgotten it", .path.display())]
    NotForgotten {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<ClientError>,
    },
    /// The measuring came to no figures.
    #[error(transparent)]
    Bench(#[from] BenchFailure),
}

impl CliError {
    /// Whether it is merely that nobody reads our output any more (`envol events | head`): no failure.
    pub(crate) fn reader_has_gone(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The failure as people and scripts are told it, with its exit code.
    pub fn problem(&self) -> Problem {
        let (code, exit_code, remedy) = match self {
            Self::Daemon(error) => return error.problem(),
            Self::NobodyToAsk(_) => ("cli.not_confirmed", 2, "add --yes if that is what you want"),
            Self::NotConfirmed => ("cli.not_confirmed", 2, "answer y, or add --yes"),
            Self::PathNotText(_) => ("cli.path_not_text", 2, "rename it, or reach it through a symbolic link"),
            Self::File { source, .. } => file_problem(source),
            Self::Document { source, .. } => file_problem(source),
            Self::Editor(_) => {
                ("cli.editor", 2, "name an editor in EDITOR, or put a file: envol key policy put KEY FILE")
            }
            Self::NoDirectory => ("cli.no_directory", 2, "name it with --socket, or set HOME"),
            Self::NoLog => ("cli.no_directory", 2, "name it with --log, or the state directory with --state-dir"),
            Self::NotAVerifyKey(_) => ("cli.not_a_verify_key", 2, "name the file that `envol audit verify-key` wrote"),
            Self::BrokenLog(Finding::Torn { .. }) => {
                ("audit.torn", 7, "start the daemon, which marks what a crash has left; then verify again")
            }
            Self::BrokenLog(_) => (
                "audit.broken",
                7,
                "keep the log as it is, and compare it with a copy; what stands before that place is intact",
            ),
            Self::NoRecords(_) => (
                "audit.passed_over",
                7,
                "look at these bytes, which a power cut or somebody has left; the records before and behind them follow",
            ),
            Self::NotForgotten { .. } => (
                "audit.not_forgotten",
                8,
                "keep the file; ask again with another one: that it was handed out before means that it is forgotten",
            ),
            Self::Output(_) => ("cli.output", 1, "see whether the disk behind the output is full"),
            Self::Terminal(_) => ("cli.terminal", 1, "add --yes if that is what you want"),
            Self::TagTwice(_) => ("cli.usage", 2, "give each name once"),
            Self::NoSuchCommand(_) => ("cli.usage", 2, "see envol --help for the commands"),
            Self::Bench(failure) => failure.verdict(),
            Self::Program(_) => ("cli.program", 1, "run it by its path, on a machine where /proc is mounted"),
        };
        let mut message = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            // Some errors say their source themselves.
            let text = cause.to_string();
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            source = cause.source();
        }
        Problem { code: code.to_owned(), message, remedy: remedy.to_owned(), kms_exception: None, exit_code }
    }
}

fn file_problem(error: &io::Error) -> (&'static str, u8, &'static str) {
    match error.kind() {
        io::ErrorKind::NotFound => ("cli.file", 3, "check the path"),
        io::ErrorKind::AlreadyExists => ("cli.file", 4, "name a file that is not there yet"),
        io::ErrorKind::PermissionDenied => ("cli.file", 9, "choose a place where you may write"),
        _ => ("cli.file", 8, "check the path, and the disk behind it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_is_not_there_gives_ten_and_a_closed_door_nine() {
        let absent = CliError::from(ClientError::NoDaemon(PathBuf::from("/run/envol/control.sock")));
        assert_eq!(absent.problem().exit_code, 10);
        let closed = CliError::from(ClientError::NotPermitted(PathBuf::from("/run/envol/control.sock")));
        assert_eq!(closed.problem().exit_code, 9);
    }

    #[test]
    fn the_daemons_own_problem_is_passed_on_unchanged() {
        let problem = Problem {
            code: "attach.kms.disabled".to_owned(),
            message: "the key is disabled".to_owned(),
            remedy: "enable it".to_owned(),
            kms_exception: Some("DisabledException".to_owned()),
            exit_code: 5,
        };
        assert_eq!(CliError::from(ClientError::Failed(problem.clone())).problem(), problem);
    }
}
