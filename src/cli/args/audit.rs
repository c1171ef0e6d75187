//! The words of `envol audit`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};

use super::volume_word;
use crate::chain::Head;

/// `audit`.
#[derive(Debug, Subcommand)]
#[command(arg_required_else_help = true)]
pub enum AuditCommand {
    /// List records, oldest first: who called the KMS, what for, and what came of it
    List(AuditListArgs),
    /// Show one record, as it was written
    Show(AuditEvent),
    /// Verify that no record was changed, dropped, moved or put in
    Verify(AuditVerifyArgs),
    /// Write the key that verifies the log to a new file, once
    VerifyKey(AuditVerifyKeyArgs),
}

/// `audit list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every call to the embedded KMS leaves a record in CloudTrail's shape, refused ones too, and is answered when that
record is durable. Reading the log leaves one as well. Filters go together: a record passes if it passes all of them.

Examples:
  envol audit list --volume db --since 1h
  envol audit list --key alias/backups --principal root --limit 1000
  envol audit list --json | jq '.[] | select(.errorCode)'")]
pub struct AuditListArgs {
    /// About this key: a key id, key ARN, alias or alias ARN
    #[arg(long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: Option<String>,
    /// By this principal: an ARN, a user's name, root, or an access key's id
    #[arg(long, value_name = "WHO", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) principal: Option<String>,
    /// Under the encryption context of this volume, by name or id
    #[arg(long, value_name = "NAME", value_parser = volume_word)]
    pub(crate) volume: Option<String>,
    /// Not before this: a time (RFC 3339), or how long ago (90s, 15m, 2h)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Before this
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// The newest N of them, up to 10000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) limit: u16,
}

/// One record.
#[derive(Debug, Args)]
pub struct AuditEvent {
    /// The record's event id
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id: String,
}

/// `audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads the log itself and needs no daemon: it can be done elsewhere, on a copy. Without a key it finds whatever was done by
somebody who did not compute the hashes anew; with the key, that too. Records cut off at the end are found by a head that
was kept from an earlier run. Exits 7 if something is wrong, and says where.

Examples:
  envol audit verify --key /mnt/audit/verify.key
  envol audit verify --json | jq -r .head
  envol audit verify --log copy.ndjson --key verify.key --head 1287:52b9...")]
pub struct AuditVerifyArgs {
    /// The file that `audit verify-key` wrote
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// A head that was printed before, NUMBER:HASH: the log must still reach it
    #[arg(long, value_name = "HEAD")]
    pub(crate) head: Option<Head>,
    /// The log [default: kms/audit.ndjson in the state directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}

/// `audit verify-key`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file gets mode 0600, and one that is there is not overwritten. Keep it where this machine's root
cannot change it. Once it is written the daemon forgets the key and keeps only what follows from it:
whoever has the machine from then on can write records of his own, and cannot change one that was
written before. That is so of the last records, too, once nothing was recorded for a second or the
daemon has ended; while call follows call, it is not. So do this first. There is no second time.

Example:
  envol audit verify-key /mnt/audit/verify.key")]
pub struct AuditVerifyKeyArgs {
    /// The file to be made
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// A time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Ago(SignedDuration),
}

/// Neither a time nor a span of it.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("is neither a time such as 2026-01-02T03:04:05Z nor how long ago, such as 15m")]
pub(crate) struct BadMoment;

impl FromStr for Moment {
    type Err = BadMoment;

    fn from_str(text: &str) -> Result<Self, BadMoment> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        let span: SignedDuration = text.parse().map_err(|_| BadMoment)?;
        if span.is_negative() { Err(BadMoment) } else { Ok(Self::Ago(span)) }
    }
}

impl Moment {
    /// The time that is meant, now being `now`.
    pub(crate) fn time(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => now.checked_sub(span).unwrap_or(Timestamp::MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        let at = |text: &str| text.parse::<Moment>().map(|moment| moment.time(now).to_string()).ok();
        assert_eq!(at("2026-01-01T00:00:00+01:00"), Some("2025-12-31T23:00:00Z".to_owned()));
        assert_eq!(at("1h30m"), Some("2026-01-02T01:34:05Z".to_owned()));
        assert_eq!(at("90s"), Some("2026-01-02T03:02:35Z".to_owned()));
        for text in ["", "yesterday", "-1h", "2026-01-02"] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
