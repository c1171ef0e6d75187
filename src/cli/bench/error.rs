//! Why a measurement came to no figures, and the exit code that follows.

use std::io;
use std::path::PathBuf;

use crate::bench::BenchError;
use crate::cli::render::human_size;
use crate::cli::scene::SceneError;
use crate::control::client::ClientError as ControlError;
use crate::nbd::client::ClientError;
use crate::units::ByteCount;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchFailure {
    /// Measuring failed.
    #[error(transparent)]
    Bench(BenchError),
    /// The daemon failed, or its directory.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// The directory has too little room.
    #[error("{} has {} left, and {} are needed", .dir.display(), human_size(.left.get()), human_size(.needed.get()))]
    NoRoom {
        /// Which directory.
        dir: PathBuf,
        /// What is needed.
        needed: ByteCount,
        /// What there is.
        left: ByteCount,
    },
    /// A server is read-only, and there are jobs that write.
    #[error("{0} is read-only, and half of the jobs write; nothing was done")]
    ServerReadOnly(String),
    /// A server's export is too small for a single job.
    #[error("{server} has only {}; nothing was done", human_size(.size.get()))]
    ServerTooSmall {
        /// Which.
        server: String,
        /// What it has.
        size: ByteCount,
    },
    /// The picture cannot be written.
    #[error("the picture {} cannot be written", .path.display())]
    Picture {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The picture cannot be drawn.
    #[error("the picture cannot be drawn: {0}")]
    Drawing(String),
    /// A signal ended it.
    #[error("interrupted; there are no figures, and nothing is left behind")]
    Interrupted(u8),
}

impl From<BenchError> for BenchFailure {
    fn from(error: BenchError) -> Self {
        Self::Bench(error)
    }
}

impl From<ControlError> for BenchFailure {
    fn from(error: ControlError) -> Self {
        Self::Scene(error.into())
    }
}

impl BenchFailure {
    /// Code, exit code and what to do.
    pub(in crate::cli) fn verdict(&self) -> (&'static str, u8, &'static str) {
        match self {
            Self::Bench(error) => of_bench(error),
            Self::Scene(SceneError::System { .. }) => ("bench.directory", 8, "name another directory with --dir"),
            Self::Scene(_) => ("bench.daemon", 1, "see whether `envol demo` works on this machine"),
            Self::NoRoom { .. } => ("bench.no_room", 8, "name another directory with --dir, or a smaller --size"),
            Self::ServerReadOnly(_) => ("bench.read_only", 4, "add --read-only, or have the server take writes"),
            Self::ServerTooSmall { .. } => ("bench.too_small", 4, "name an export of at least 4 MiB"),
            Self::Picture { .. } => ("bench.picture", 8, "name another file with --svg"),
            Self::Drawing(_) => ("bench.picture", 1, "leave --svg out"),
            Self::Interrupted(signal) => ("bench.interrupted", 128 + signal, "run it again, or with --quick"),
        }
    }
}

fn of_bench(error: &BenchError) -> (&'static str, u8, &'static str) {
    match error {
        BenchError::System { .. } | BenchError::Backing(_) | BenchError::Block { .. } => {
            ("bench.storage", 8, "see that the disk is well, or name another directory with --dir")
        }
        BenchError::Volume(_) | BenchError::Kms(_) | BenchError::Key(_) | BenchError::Cipher(_) => {
            ("bench.volume", 1, "see whether memory can be locked (ulimit -l), and the log of `envol demo`")
        }
        BenchError::Server { source, .. } => of_server(source),
        BenchError::Lost { .. } | BenchError::NotEncrypted { .. } => {
            ("bench.lost", 7, "trust neither its data nor its speed; leave it out, or measure with --read-only")
        }
        BenchError::Stopped => ("bench.interrupted", 1, "run it again, or with --quick"),
    }
}

fn of_server(error: &ClientError) -> (&'static str, u8, &'static str) {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    match error {
        ClientError::Connection(error) if matches!(error.kind(), NotFound | ConnectionRefused) => {
            ("bench.no_server", 3, "see that the server runs, and that the URI is right")
        }
        ClientError::Connection(error) if error.kind() == PermissionDenied => {
            ("bench.not_permitted", 9, "run this as a user whom the server admits")
        }
        ClientError::Refused { .. } => {
            ("bench.no_export", 3, "see that the export is there, and that the server asks for no TLS")
        }
        ClientError::Connection(_) | ClientError::Errno(_) | ClientError::Protocol(_) => {
            ("bench.server", 8, "see the server's own log")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_code(source: ClientError) -> u8 {
        BenchFailure::Bench(BenchError::Server { server: "nbd://h".to_owned(), source }).verdict().1
    }

    #[test]
    fn a_server_that_is_not_there_is_told_from_one_that_fails() {
        let io = |kind: io::ErrorKind| ClientError::Connection(kind.into());
        assert_eq!(exit_code(io(io::ErrorKind::NotFound)), 3);
        assert_eq!(exit_code(io(io::ErrorKind::ConnectionRefused)), 3);
        assert_eq!(exit_code(io(io::ErrorKind::PermissionDenied)), 9);
        assert_eq!(exit_code(io(io::ErrorKind::WouldBlock)), 8);
        assert_eq!(exit_code(ClientError::Refused { reply: 0, text: String::new() }), 3);
        assert_eq!(exit_code(ClientError::Errno(5)), 8);
        assert_eq!(BenchFailure::Interrupted(2).verdict().1, 130);
    }
}
