//! The log: to stderr, for people or as JSON lines. ENVOL_LOG says how much (`info` unless set).

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt;

use super::LogFormat;

/// Starts the log of this process.
pub(super) fn start(format: LogFormat) {
    let amount = EnvFilter::builder()
        .with_env_var("ENVOL_LOG")
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    let log = fmt().with_env_filter(amount).with_writer(io::stderr);
    let started = match format {
        LogFormat::Human => log.with_ansi(io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "this process has a log already");
    }
}
