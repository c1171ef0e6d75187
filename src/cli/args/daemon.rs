//! The words of `envol daemon`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `daemon`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Where things lie, unless said otherwise:
  state    $STATE_DIRECTORY, else /var/lib/envol as root, else $XDG_STATE_HOME/envol
  sockets  $RUNTIME_DIRECTORY, else /run/envol as root, else $XDG_RUNTIME_DIR/envol
The control socket is control.sock, the NBD socket nbd.sock beside it; both admit root and the daemon's own user.

ENVOL_CIPHER names what computes the cipher, before what is configured: auto (the fastest that the processor can run),
vaes-512, vaes-256, aes-ni, portable. All give the same bytes; a name that the processor cannot follow is an error.

The domain key, which opens the embedded KMS's store, comes from the first of these:
  --passphrase-file, by Argon2id in 64 MiB of locked memory (RLIMIT_MEMLOCK, LimitMEMLOCK=);
    behind a pipe it is read once, and an HSM that dies is not replaced
  the credential envol.domain-key, where systemd provides one (LoadCredentialEncrypted=)
  the file domain.key in the state directory, made on first use

One daemon per state directory. SIGTERM and SIGINT drain, flush, wipe the keys and exit 0.

Examples:
  envol daemon
  envol daemon --passphrase-file <(systemd-ask-password 'envol:')
  envol daemon --state-dir /srv/envol --listen 127.0.0.1:10809 --log-format json")]
pub struct DaemonArgs {
    /// Serve NBD on this loopback TCP address too (repeatable). NBD over TCP knows no users:
    /// every local user can then read and write every attached volume
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<std::net::SocketAddr>,
    /// Serve NBD on any TCP address (repeatable). There is no TLS:
    /// whoever reaches it can read and write every attached volume, and whoever listens on the way sees the data
    #[arg(long, value_name = "ADDR")]
    pub insecure_listen: Vec<std::net::SocketAddr>,
    /// Serve the embedded KMS in AWS's protocol too, for the aws CLI and the SDKs (repeatable):
    /// on a loopback TCP address, or on a unix socket. Requests must be signed: see envol kms access-key
    #[arg(long, value_name = "ADDR")]
    pub kms_listen: Vec<String>,
    /// The same on any TCP address in clear (repeatable): whoever listens on the way sees data keys and plaintexts.
    /// tls_listen in the configuration is for TLS
    #[arg(long, value_name = "ADDR")]
    pub kms_insecure_listen: Vec<String>,
    /// Derive the embedded KMS's domain key from the passphrase in this file (mode 0600), or behind this pipe
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// How to log, on stderr [default: as configured, else human]
    #[arg(long, value_enum, value_name = "human|json", hide_possible_values = true)]
    pub log_format: Option<LogFormat>,
}

/// How the daemon logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Human,
    /// One JSON object a line
    Json,
}
