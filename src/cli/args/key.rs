//! The words of `envol key`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::{ExplainArgs, PolicyCommand};

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
    Rotate(RotateArgs),
    /// Put tags on a key, over those that it has
    Tag(TagArgs),
    /// Take tags off a key
    Untag(UntagArgs),
    /// Manage who may use a key
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Say whether somebody may do something with a key, and why
    Explain(ExplainArgs),
    /// Manage names that point to keys
    #[command(subcommand)]
    Alias(AliasCommand),
}

/// `key create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  envol key create --alias backups --description 'volumes of the backup host'
  envol key create --alias tokens --spec HMAC_256 --tag Env=Prod --tag Team=web
  envol key create --alias releases --spec ECC_NIST_P256 --usage SIGN_VERIFY")]
pub struct CreateKeyArgs {
    /// Make this alias for it too (alias/NAME, or NAME alone)
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// What kind of key, for use over AWS's wire: HMAC_224, 256, 384 or 512; RSA_2048, 3072 or 4096; ECC_NIST_P256, P384
    /// or P521, ECC_SECG_P256K1, ECC_NIST_EDWARDS25519 [default: SYMMETRIC_DEFAULT, the only one for volumes]
    #[arg(long, value_name = "SPEC")]
    pub(crate) spec: Option<String>,
    /// What it is for, where such keys can be for several things: ENCRYPT_DECRYPT or SIGN_VERIFY (RSA), SIGN_VERIFY or
    /// KEY_AGREEMENT (ECC_NIST)
    #[arg(long, value_name = "USAGE")]
    pub(crate) usage: Option<String>,
    /// A tag (repeatable)
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    pub(crate) tags: Vec<(String, String)>,
    /// Its policy; - is the standard input [default: the account decides]
    #[arg(long, value_name = "FILE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) policy: Option<String>,
    /// Take a policy under which the account's root cannot put another over AWS's wire
    #[arg(long, requires = "policy")]
    pub(crate) bypass_lockout_check: bool,
}

/// `key rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without an option, now: 25 times in a key's life.

Examples:
  envol key rotate alias/backups
  envol key rotate alias/backups --every 365")]
pub struct RotateArgs {
    /// The key (a key id or key ARN, or an alias)
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
    /// Not now, but automatically, every so many days from now on
    #[arg(long, value_name = "90..2560", value_parser = clap::value_parser!(u32).range(90..=2560))]
    pub(crate) every: Option<u32>,
    /// Not now, and not automatically any more
    #[arg(long, conflicts_with = "every")]
    pub(crate) stop: bool,
}

/// `key tag`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  envol key tag alias/backups Env=Prod Team=storage")]
pub struct TagArgs {
    /// The key (a key id or key ARN, or an alias)
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
    /// The tags
    #[arg(value_name = "NAME=VALUE", required = true, value_parser = tag)]
    pub(crate) tags: Vec<(String, String)>,
}

/// `key untag`.
#[derive(Debug, Args)]
pub struct UntagArgs {
    /// The key (a key id or key ARN, or an alias)
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
    /// The tags' names; one that is not there is no error
    #[arg(value_name = "NAME", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) names: Vec<String>,
}

/// `NAME=VALUE`; the value may be empty, and may hold more signs of equality.
fn tag(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a tag is NAME=VALUE"),
    }
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
