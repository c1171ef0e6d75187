//! The words of `envol kms`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::LogFormat;

/// `kms`.
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
The KMS that `envol daemon` and `envol kms serve` contain speaks AWS's protocol, for the aws CLI and the SDKs:
  envol daemon --kms-listen 127.0.0.1:4599
  envol kms access-key create --user root
  AWS_ENDPOINT_URL_KMS=http://127.0.0.1:4599 AWS_DEFAULT_REGION=us-east-1 aws kms list-keys")]
pub enum KmsCommand {
    /// Serve the KMS alone, in the foreground: no volumes
    Serve(ServeArgs),
    /// Manage the credentials with which requests are signed
    #[command(subcommand)]
    AccessKey(AccessKeyCommand),
    /// End the HSM and destroy its domain key: nothing can be unwrapped any more
    Zeroize(ZeroizeArgs),
    /// Start the HSM that was zeroized, with the domain key put back
    Initialise,
    /// Write the KMS into one file, domain key and all, sealed under a passphrase; while it serves, too
    Backup(KmsBackupArgs),
    /// Put a KMS back from such a file, into a state directory that has none
    Restore(KmsBackupArgs),
    /// Move the domain key from its file behind a passphrase
    SealDomainKey(SealDomainKeyArgs),
}

/// `kms backup` and `kms restore`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A backup is made by this command, not by the daemon: it must be able to read the domain key (as
root, or as the daemon's user) and has the daemon copy its store meanwhile. The passphrase is
stretched by Argon2id in 64 MiB of locked memory (RLIMIT_MEMLOCK). What is sealed with it opens
every volume of this KMS: keep it as you would keep a key.

Restoring needs a state directory without a KMS, and no daemon in it. The domain key is its file
domain.key then; with --domain-passphrase-file (or the configuration's passphrase_file) it lies
there sealed under that passphrase, which the daemon is to be given. Each volume is taken in with
envol volume add. Root may do both for a daemon with a user of its own.

Examples:
  envol kms backup /mnt/safe/kms.backup --passphrase-file /run/keys/backup
  envol kms restore /mnt/safe/kms.backup --passphrase-file /run/keys/backup --state-dir /srv/envol
  envol kms restore kms.backup --passphrase-file backup.pass --domain-passphrase-file envol.pass")]
pub struct KmsBackupArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where its passphrase is: a file of mode 0600, or a pipe
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: PathBuf,
    /// Where the domain key's passphrase is: for a backup, if the daemon read it from a pipe; for a restore, if it is to have one
    #[arg(long, value_name = "FILE")]
    pub domain_passphrase_file: Option<PathBuf>,
}

/// `kms seal-domain-key`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The KMS stays as it is: the domain key is sealed under what follows from the passphrase (Argon2id,
in 64 MiB of locked memory) and lies in the state directory as domain.stretching; then domain.key
is overwritten and removed. From then on the daemon is given the passphrase: --passphrase-file, or
passphrase_file in its configuration. No daemon may run meanwhile.

What a file system or a disk keeps of an overwritten file (snapshots, flash) is out of reach.
Without the passphrase, and without a backup, everything under the KMS's keys is lost.

Example:
  envol kms seal-domain-key --passphrase-file /run/keys/envol")]
pub struct SealDomainKeyArgs {
    /// Where the passphrase is: a file of mode 0600, which is read twice
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: PathBuf,
}

/// `kms zeroize`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For an emergency: the process that works with the KMS's root keys is killed, and no other starts,
over restarts of the daemon too. The domain key's file is overwritten and removed; a systemd
credential and a passphrase are not envol's to destroy. Attached volumes go on working.

Without a copy of a domain key that was destroyed, every key and every volume under them is lost
for ever. With one: put it back where it was (mode 0600), then run envol kms initialise.")]
pub struct ZeroizeArgs {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `kms serve`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The control socket is served too, so `envol key`, `envol kms access-key` and `envol status` work as with a daemon.
State and sockets lie where those of `envol daemon` lie; one of the two per state directory.

Examples:
  envol kms serve
  envol kms serve --listen /run/envol/kms.sock --state-dir /srv/envol")]
pub struct ServeArgs {
    /// Where to serve: a loopback TCP address, or the path of a unix socket (repeatable)
    /// [default: 127.0.0.1:4599]
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Serve on any TCP address in clear (repeatable). Requests are signed, but whoever listens on the way sees data keys and
    /// plaintexts: tls_listen in the configuration is for TLS
    #[arg(long, value_name = "ADDR")]
    pub insecure_listen: Vec<String>,
    /// Derive the domain key from the passphrase in this file (mode 0600), or behind this pipe:
    /// see envol daemon --help
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// How to log, on stderr [default: as configured, else human]
    #[arg(long, value_enum, value_name = "human|json", hide_possible_values = true)]
    pub log_format: Option<LogFormat>,
}

/// `kms access-key`.
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
pub enum AccessKeyCommand {
    /// Make an access key; its secret is shown this once
    Create(CreateAccessKeyArgs),
    /// List the access keys
    List,
    /// Delete an access key: nothing that it signs is answered any more
    Delete(AccessKeyId),
}

/// `kms access-key create`.
#[derive(Debug, Args)]
#[command(after_help = "\
The user root is the account's administrator. Every other user has the rights that their policies
(envol iam), a key's policy or a grant give them. A user of another account is named by ARN. A user
has two access keys at the most.

Examples:
  envol kms access-key create --user root --json
  envol kms access-key create --user alice")]
pub struct CreateAccessKeyArgs {
    /// Whose it is to be
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) user: String,
}

/// One access key.
#[derive(Debug, Args)]
pub struct AccessKeyId {
    /// The access key's id
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id: String,
}
