//! What may be said on the command line, and how it is explained.
//!
//! Owns the words, their help and the judgement of single words (a size, a name, a number of days). Leaves to `run`
//! what they mean, and to the daemon everything that needs more than the word itself. A word refused here is a usage
//! error: exit code 2, before any daemon is asked.

mod audit;
mod bench;
mod daemon;
mod iam;
mod key;
mod kms;
mod volume;
mod words;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use audit::{AuditCommand, AuditListArgs, AuditVerifyArgs, AuditVerifyKeyArgs};
pub(crate) use bench::Against;
pub use bench::BenchArgs;
pub use daemon::{DaemonArgs, LogFormat};
pub(crate) use iam::{ExplainArgs, IamCommand, PolicyCommand};
pub(crate) use key::{AliasCommand, KeyCommand};
pub use kms::{AccessKeyCommand, KmsBackupArgs, KmsCommand, SealDomainKeyArgs, ServeArgs, ZeroizeArgs};
pub(crate) use volume::{BackupArgs, CreateArgs, HeaderCommand, RestoreArgs, VolumeCommand};
pub use words::{CompletionsArgs, ManArgs};

use crate::names::{BadName, VolumeId, VolumeName};

const EXAMPLES: &str = "\
Examples:
  envol demo                                   see all of it in seconds, in a temporary directory
  envol daemon                                 run the daemon in the foreground
  envol key create --alias backups             make a KMS key
  envol volume create db --size 10G --key alias/backups
  envol attach db                              print the NBD URI
  envol key disable alias/backups              the volume goes on working, until it is detached
  envol detach db

Exit codes:
  0 done                       4 conflict with the state       8 storage failed
  1 internal error             5 the KMS refused               9 not permitted
  2 usage or configuration     6 the KMS does not answer      10 no daemon
  3 not found                  7 integrity";

/// Encrypted block volumes over NBD, their data keys wrapped by a KMS key.
#[derive(Debug, Parser)]
#[command(name = "envol", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, propagate_version = false)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print one JSON document instead of text (NDJSON for streams); errors too, on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// The daemon's control socket; nbd.sock lies beside it
    #[arg(long, global = true, env = "ENVOL_SOCKET", hide_env_values = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Where the daemon keeps its state, and the demo its temporary directory
    #[arg(long, global = true, env = "ENVOL_STATE_DIR", hide_env_values = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The daemon's configuration (TOML)
    #[arg(long, global = true, env = "ENVOL_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    Daemon(DaemonArgs),
    /// Serve the KMS alone; manage its access keys and its HSM
    #[command(subcommand)]
    Kms(KmsCommand),
    /// Check what this machine can do of what envol wants, and say what to do
    ///
    /// Looks at locked and secret memory, swap, confinement, io_uring, the cipher's instructions, the clock, the nbd module,
    /// limits, room, the domain key and where it lies, and the daemon: its limits where one answers, else those of here. Each is
    /// fine; or limited: envol runs, with less; or missing: envol does not run as it is told to, or not safely. Changes nothing,
    /// reads no secret, and needs no daemon. Exits 2 if something is missing.
    Doctor,
    /// Anything else.
    #[command(flatten)]
    Task(Task),
}

/// The commands that run no daemon in this process.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Make and manage access keys; its words are those of `kms`.
    #[command(skip)]
    AccessKey(AccessKeyCommand),
    /// End the HSM; its words are those of `kms`.
    #[command(skip)]
    Zeroize(ZeroizeArgs),
    /// Start it again; its words are those of `kms`.
    #[command(skip)]
    Initialise,
    /// Make and manage KMS keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Say who there is, and what they may do with keys
    #[command(subcommand)]
    Iam(IamCommand),
    /// Make and manage volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Attach a volume: have the KMS unwrap its data key, and serve it over NBD
    Attach(AttachArgs),
    /// Detach a volume: drain, flush, wipe its data key
    Detach(DetachArgs),
    /// Volumes, attachments, keys, connections and throughput, at a glance
    Status,
    /// What happened to the volumes, oldest first
    Events(EventsArgs),
    /// Who called the KMS, what for, and what came of it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show the whole scenario with real I/O, in a temporary directory
    ///
    /// Starts a daemon of its own, makes a key and a volume, writes through NBD, disables the key under the attached
    /// volume, detaches, is refused, enables the key and finds every byte. Ends with a table of what was asked and what
    /// held, each row computed in this run. Exits 0 only if all of it held. Touches no other daemon and cleans up.
    Demo,
    /// Measure each rung from the cipher to NBD, and other servers beside them
    ///
    /// The ladder: the cipher alone, the backing file, the volume core, NBD over a unix socket, and the kernel's block
    /// device where one can be attached. Every rung does the same jobs in turns, round after round, and is shown with its
    /// loss against the rung below. What is written is read back and compared, and must not be found in the backings.
    /// Starts a daemon of its own, takes less than a minute, and leaves nothing behind.
    Bench(Box<BenchArgs>),
    /// Print what a shell needs to complete these words
    Completions(CompletionsArgs),
    /// Print a manual page, or write all of them
    Man(ManArgs),
}

/// `attach`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the NBD URI. With it:
  nbd-client -unix /run/envol/nbd.sock -N db /dev/nbd0
  qemu-img info 'nbd+unix:///db?socket=/run/envol/nbd.sock'
  nbdcopy 'nbd+unix:///db?socket=/run/envol/nbd.sock' db.img

Exits 5 where the KMS refuses: the message names the key, its state and the KMS's exception.")]
pub struct AttachArgs {
    /// The volume, by name or id
    #[arg(value_name = "NAME", value_parser = volume_word)]
    pub(crate) volume: String,
    /// Refuse writes; the backing is opened read-only and nothing is written to it
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Read and write the backing around the page cache (O_DIRECT): for volumes much larger than memory
    #[arg(long)]
    pub(crate) direct: bool,
    /// Only say whether the KMS would open it now
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take a header that is older than the one remembered (after the backing was restored from a copy)
    #[arg(long)]
    pub(crate) accept_rollback: bool,
}

/// `detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// The volume, by name or id
    #[arg(value_name = "NAME", value_parser = volume_word)]
    pub(crate) volume: String,
    /// Detach although clients are connected: drain, then answer ESHUTDOWN
    #[arg(long)]
    pub(crate) force: bool,
}

/// `events`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  envol events --follow --json | jq 'select(.detail.result == \"failed\")'")]
pub struct EventsArgs {
    /// Go on, printing events as they happen
    #[arg(long)]
    pub(crate) follow: bool,
}

/// A volume's name or id, judged before any daemon is asked.
fn volume_word(text: &str) -> Result<String, BadName> {
    if text.parse::<VolumeId>().is_err() {
        text.parse::<VolumeName>()?;
    }
    Ok(text.to_owned())
}
