//! The words of `envol volume`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use crate::names::VolumeName;
use crate::units::{ByteCount, NoSuchSectorSize, SectorSize};

const NAME: &str = "\
NAME is a volume's name or its id (vol- and 17 hex digits).";

/// `volume`.
#[derive(Debug, Subcommand)]
#[command(after_help = NAME, arg_required_else_help = true)]
pub enum VolumeCommand {
    /// Make a volume: the KMS gives a wrapped data key, the header keeps it
    Create(Box<CreateArgs>),
    /// List the volumes
    List,
    /// Show one volume
    Show(VolumeArg),
    /// Destroy a volume's header, and with it the data; removes the file if envol made it
    Delete(VolumeYes),
    /// Take in a volume that was made elsewhere, and whose KMS key this daemon can use
    Add(AddArgs),
    /// Drop what is remembered of a volume; its backing stays as it is
    Forget(VolumeYes),
    /// Write encrypted zeros into every hole, so that unwritten space looks like data (and reads as zeros under dm-crypt)
    Fill(VolumeArg),
    /// Have the KMS, or another one, seal the data key under another key; works while the volume is attached
    Rewrap(RewrapArgs),
    /// Keep a volume's header elsewhere, and put it back
    #[command(subcommand)]
    Header(HeaderCommand),
    /// Break-glass: print the dmsetup table with the sector keys in clear, after asking
    ExportKey(ExportKeyArgs),
}

/// `volume create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  envol volume create scratch --size 1G
  envol volume create db --size 500G --key alias/backups
  envol volume create disk --backing /dev/vdb --key alias/backups
  envol volume create db --size 500G --kms aws --key alias/volumes
  envol volume create db --size 500G --kms aws-owned

Sizes take K, M, G and T (binary). A file is thin: it takes what was written.
A backing outside the state directory must be allowed by `volume_dirs` in the configuration.
Without --key, the key is the managed alias/aws/ebs, which cannot be disabled or deleted. With --kms aws-owned it is one
that AWS would own: in no list, in no audit log of yours, and nobody's here to control.")]
pub struct CreateArgs {
    /// Its name: 1-64 of A-Z a-z 0-9 . _ -
    #[arg(value_name = "NAME")]
    pub(crate) name: VolumeName,
    /// Usable bytes, such as 10G; may be left out for an existing backing
    #[arg(long, value_name = "SIZE")]
    pub(crate) size: Option<ByteCount>,
    /// The KMS key: id, ARN, alias/NAME or alias ARN [default: alias/aws/ebs]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// The KMS whose key it is, by the name of its section in the configuration [default: the embedded one]
    #[arg(long, value_name = "NAME")]
    pub(crate) kms: Option<String>,
    /// A file (made unless it exists) or block device to use [default: a file in the state directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) backing: Option<PathBuf>,
    /// Unit of encryption, in bytes: 512 or 4096 [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = sector_size)]
    pub(crate) sector_size: Option<SectorSize>,
    /// Bytes under one XTS key [default: 1T]
    #[arg(long, value_name = "SIZE")]
    pub(crate) scope: Option<ByteCount>,
    /// Write encrypted zeros everywhere now, so that the backing does not show what is in use
    #[arg(long)]
    pub(crate) thick: bool,
    /// Take a backing that holds other data (never one with an envol header: delete that volume first)
    #[arg(long)]
    pub(crate) force: bool,
}

/// One volume.
#[derive(Debug, Args)]
#[command(after_help = NAME)]
pub struct VolumeArg {
    /// The volume, by name or id
    #[arg(value_name = "NAME", value_parser = super::volume_word)]
    pub(crate) volume: String,
}

/// One volume, and whether to ask.
#[derive(Debug, Args)]
#[command(after_help = NAME)]
pub struct VolumeYes {
    /// The volume, by name or id
    #[arg(value_name = "NAME", value_parser = super::volume_word)]
    pub(crate) volume: String,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `volume add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The file or device that holds the volume
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `volume rewrap`.
#[derive(Debug, Args)]
#[command(after_help = "\
The data key stays the same, and so does every byte of the data. A header that was backed up
before names the old key, and is refused from now on: back it up again.

Within one KMS the data key does not leave it. Between two, the daemon has the one open it and the
other seal it; both must allow that.

Examples:
  envol volume rewrap db --key alias/backups
  envol volume rewrap db --kms aws --key alias/volumes")]
pub struct RewrapArgs {
    /// The volume, by name or id
    #[arg(value_name = "NAME", value_parser = super::volume_word)]
    pub(crate) volume: String,
    /// The KMS key: id, ARN, alias/NAME or alias ARN
    #[arg(long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
    /// The KMS whose key it is, by the name of its section in the configuration [default: the volume's]
    #[arg(long, value_name = "NAME")]
    pub(crate) kms: Option<String>,
}

/// `volume header`.
#[derive(Debug, Subcommand)]
#[command(after_help = NAME, arg_required_else_help = true)]
pub enum HeaderCommand {
    /// Write the header to a file that is not there yet: the sealed data key is in it, and no clear one
    Backup(BackupArgs),
    /// Put a header back, also where both copies are damaged; the volume must be detached
    Restore(RestoreArgs),
}

/// `volume header backup`.
#[derive(Debug, Args)]
#[command(after_help = NAME)]
pub struct BackupArgs {
    /// The volume, by name or id
    #[arg(value_name = "NAME", value_parser = super::volume_word)]
    pub(crate) volume: String,
    /// The file to make
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `volume header restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Asks the KMS to open the data key. Refuses another volume's header, and one that names another
KMS key than the one remembered. Each attach for writing takes the header a generation on, so
that a backup from before one is older than what is remembered and needs --accept-rollback: its
data key is the same.")]
pub struct RestoreArgs {
    /// The volume, by name or id
    #[arg(value_name = "NAME", value_parser = super::volume_word)]
    pub(crate) volume: String,
    /// The file that `volume header backup` made
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Take a header that is older than the one remembered
    #[arg(long)]
    pub(crate) accept_rollback: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `volume export-key`.
#[derive(Debug, Args)]
#[command(after_help = "\
The table goes to stdout, and holds the keys that open the volume: whoever sees it can read the volume for ever.
Every use asks the KMS and is recorded.

Example, as root, for a detached volume on a block device (a file needs a loop device first):
  envol volume export-key db --yes | dmsetup create db --readonly")]
pub struct ExportKeyArgs {
    /// The volume, by name or id
    #[arg(value_name = "NAME", value_parser = super::volume_word)]
    pub(crate) volume: String,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

fn sector_size(text: &str) -> Result<SectorSize, String> {
    let bytes: u32 = text.parse().map_err(|_| "a sector is 512 or 4096 bytes".to_owned())?;
    SectorSize::try_from(bytes).map_err(|error: NoSuchSectorSize| error.to_string())
}
