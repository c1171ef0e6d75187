//! The composition root: configuration, wiring, the order of start and stop. The only module that sees all others.
//!
//! Start: configuration (nothing is opened before it is known to be good), the parents of the HSM and of calls to other KMSs, state directory and its lock, KMS, event log,
//! registry, sockets; ready once the sockets listen; only then are volumes attached again. Stop: sockets stop accepting,
//! the registry drains, flushes and wipes, connections end, sockets are removed.

mod backup;
mod config;
mod confine;
mod error;
mod exports;
mod logging;
#[doc(hidden)]
pub mod micro;
mod problem;
mod run;
mod sockets;
mod state_dir;
mod wanted;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Deserialize;

use crate::kms::aws;
use crate::kms::embedded::hsm;

pub use backup::{BackedUp, BackupAsked, Sealed, back_up, restore, seal_domain_key};
pub use error::DaemonError;
pub use run::run;
pub use wanted::wanted;

/// Does the work of the process that this one was started as, if its name is that of a part of the daemon.
pub fn run_as_named() -> Option<ExitCode> {
    hsm::run_as_named().or_else(aws::run_as_named)
}

/// How the daemon's log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON document a line.
    Json,
}

/// What the command line and the environment say; the configuration file says the rest.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The configuration file; none is read where `None`.
    pub config: Option<PathBuf>,
    /// The state directory.
    pub state_dir: Option<PathBuf>,
    /// The control socket; `nbd.sock` lies beside it.
    pub socket: Option<PathBuf>,
    /// Loopback addresses on which NBD is served too.
    pub listen: Vec<SocketAddr>,
    /// Other addresses on which NBD is served too, in clear, to whoever can reach them.
    pub insecure_listen: Vec<SocketAddr>,
    /// Where the embedded KMS is served in AWS's protocol: loopback addresses, and paths of unix sockets.
    pub kms_listen: Vec<String>,
    /// Other addresses where it is, in clear.
    pub kms_insecure_listen: Vec<String>,
    /// Whether to be a KMS and nothing else: no volumes.
    pub kms_alone: bool,
    /// Where the passphrase is that the domain key follows from, if it does.
    pub passphrase_file: Option<PathBuf>,
    /// How the log looks; as configured, else for people, where `None`.
    pub log_format: Option<LogFormat>,
}
