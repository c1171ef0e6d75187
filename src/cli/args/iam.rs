//! The words of `envol iam` and `envol key policy`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

/// `iam`.
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Identities are one document of JSON: accounts with their users, groups and roles, and the
policies of each, in AWS's language. Whoever is not in it has no rights but those that a key's
policy or a grant gives; the account's root needs no entry. Access keys are made with
envol kms access-key create --user NAME.

  { \"accounts\": { \"000000000000\": {
      \"users\":  { \"alice\": { \"groups\": [\"readers\"], \"policies\": { \"own\": { POLICY } },
                            \"tags\": { \"team\": \"red\" } } },
      \"groups\": { \"readers\": { \"policies\": { \"use\": { POLICY } } } },
      \"roles\":  { \"app\": { \"trust\": { POLICY }, \"policies\": {}, \"tags\": {},
                          \"max_session_seconds\": 3600 } } } } }

Examples:
  envol iam show > identities.json
  envol iam put identities.json
  envol iam list")]
pub enum IamCommand {
    /// Print the document
    Show,
    /// Replace the document; it is judged as a whole and holds at once
    Put(DocumentArg),
    /// List users and roles, with groups and policies
    List,
}

/// A file.
#[derive(Debug, Args)]
pub struct DocumentArg {
    /// The file; - is the standard input
    #[arg(value_name = "FILE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) file: String,
}

/// `key policy`.
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Example:
  envol key policy get alias/backups > policy.json
  envol key policy put alias/backups policy.json")]
pub enum PolicyCommand {
    /// Print a key's policy
    Get(PolicyKey),
    /// Replace a key's policy
    Put(PutPolicyArgs),
    /// Change a key's policy in $VISUAL or $EDITOR; it is judged before it is put
    Edit(EditPolicyArgs),
}

/// `key explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Says whether the principal would be allowed if it signed such a request now, which statement of
which policy or which grant decides, and what would have to change. Nothing is done.

Examples:
  envol key explain arn:aws:iam::000000000000:user/alice Decrypt alias/b --context app=web
  envol key explain arn:aws:sts::000000000000:assumed-role/app/one kms:Encrypt alias/b")]
pub struct ExplainArgs {
    /// Whose right: the ARN of a user, of a role's session, or of an account's root
    #[arg(value_name = "PRINCIPAL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) principal: String,
    /// To what: kms:Decrypt, or Decrypt
    #[arg(value_name = "ACTION", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) action: String,
    /// The key (a key id or key ARN, or an alias)
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
    /// A pair of the encryption context (repeatable)
    #[arg(long = "context", value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) context: Vec<(String, String)>,
    /// The alias by which the request would name the key
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Option<String>,
}

/// The key.
#[derive(Debug, Args)]
pub struct PolicyKey {
    /// The key (a key id or key ARN, or an alias)
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
}

/// `key policy put`.
#[derive(Debug, Args)]
pub struct PutPolicyArgs {
    /// The key (a key id or key ARN, or an alias)
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
    /// The policy; - is the standard input
    #[arg(value_name = "FILE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) file: String,
    /// Take a policy under which the account's root cannot put another over AWS's wire
    #[arg(long)]
    pub(crate) bypass_lockout_check: bool,
}

/// `key policy edit`.
#[derive(Debug, Args)]
pub struct EditPolicyArgs {
    /// The key (a key id or key ARN, or an alias)
    #[arg(value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: String,
    /// Take a policy under which the account's root cannot put another over AWS's wire
    #[arg(long)]
    pub(crate) bypass_lockout_check: bool,
}

/// `NAME=VALUE`; the value may be empty, and may hold more signs of equality.
fn pair(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a pair is NAME=VALUE"),
    }
}
