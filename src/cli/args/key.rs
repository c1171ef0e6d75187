//! The words of `envol key`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

const KEY: &str = "\
KEY is a key id, a key ARN, alias/NAME or an alias ARN.";

/// `key`.
#[derive(Debug, Subcommand)]
#[command(after_help = KEY, arg_required_else_help = true)]
pub enum KeyCommand {
    /// Make a key
    Create(CreateKeyArgs),
    /// List the keys
    List,
    /// Show one key
    Show(KeyArg),
    /// Enable a key
    Enable(KeyArg),
    /// Disable a key: attached volumes go on, the next attach is refused
    Disable(KeyArg),
    /// Have a key deleted after a waiting time; every volume under it dies with it
    ScheduleDeletion(ScheduleDeletionArgs),
    /// Call a scheduled deletion off (the key is then disabled; enable it)
    CancelDeletion(KeyArg),
    /// Give a key new material; what the old material wrapped can still be unwrapped
    Rotate(KeyArg),
    /// Manage names that point to keys
    #[command(subcommand)]
    Alias(AliasCommand),
}

/// `key create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  envol key create --alias backups --description 'volumes of the backup host'")]
pub struct CreateKeyArgs {
    /// Make this alias for it too (alias/NAME, or NAME alone)
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
}

/// One key.
#[derive(Debug, Args)]
#[command(after_help = KEY)]
pub struct KeyArg {
    /// The key
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
}

/// `key schedule-deletion`.
#[derive(Debug, Args)]
#[command(after_help = "\
Lists the volumes that nobody can ever open again once the key is gone, and asks.")]
pub struct ScheduleDeletionArgs {
    /// The key (a key id or key ARN, or an alias)
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
    /// How long to wait, in days
    #[arg(long, value_name = "7..30", default_value_t = 30, value_parser = clap::value_parser!(u32).range(7..=30))]
    pub(crate) days: u32,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `key alias`.
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Example:
  envol key alias create backups 1234abcd-12ab-34cd-56ef-1234567890ab")]
pub enum AliasCommand {
    /// Make an alias
    Create(AliasTarget),
    /// Point an alias to another key; volumes stay under the key that they were made with
    Update(AliasTarget),
    /// Delete an alias; its key stays
    Delete(AliasName),
    /// List the aliases
    List,
}

/// An alias and the key that it is to point to.
#[derive(Debug, Args)]
pub struct AliasTarget {
    /// The alias (alias/NAME, or NAME alone)
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
    /// The key, by id or ARN
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
}

/// An alias.
#[derive(Debug, Args)]
pub struct AliasName {
    /// The alias (alias/NAME, or NAME alone)
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
}
