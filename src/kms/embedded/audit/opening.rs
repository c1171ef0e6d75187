//! Opening the log: from where its key was last written, over the records behind that, to its end.
//!
//! What does not follow there is marked by a record: the rest of a line that a crash left is overwritten by it; whole lines
//! stay as they are, and it tells how many bytes they are and their SHA-256. A log that is shorter than it was known to be,
//! or chained while its key is not there, gets a record, too, and does not verify any more. Nothing that was there is lost
//! but the torn line, whose call was never answered.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;

use crate::chain::{GAP_EVENT, LINE_MAX, Link, VerifyKey, hex};
use crate::crypto::digest::{RunningSha256, equal};
use crate::kms::embedded::Identity;

use super::Part;
use super::chained::Chained;
use super::progress::{Progress, Stand};

/// The file of the log in `dir`, made if it is not there.
pub(super) struct Opened {
    /// At its end.
    pub(super) file: File,
    pub(super) length: u64,
    pub(super) chained: Chained,
}

/// What was found behind the last record that follows.
#[derive(Default)]
struct Rest {
    /// Bytes of whole lines, and their digest.
    passed_over: u64,
    digest: RunningSha256,
    /// Bytes of a line without an end.
    cut: u64,
}

/// Opens the log `path` and its key beside it; `now` is the time of a record that marks a gap.
pub(super) fn open(path: &Path, identity: &Identity, now: Timestamp) -> io::Result<Opened> {
    let dir = path.parent().expect("the log lies in the KMS's directory");
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let (progress, stand) = Progress::open(dir)?;
    let (stand, at, mut details) = match stand {
        Some(stand) => go_on(&file, stand)?,
        None => begin(&file)?,
    };
    let rest = rest(&file, at)?;
    if rest.cut > 0 {
        details["cutBytes"] = rest.cut.into();
    }
    if rest.passed_over > 0 {
        details["passedOverBytes"] = rest.passed_over.into();
        details["passedOverSha256"] = hex(&rest.digest.finish()).into();
    }
    let end = at + rest.passed_over;
    let gap = details.as_object().is_some_and(|details| !details.is_empty());
    let line = gap.then(|| format!("{}\n", record(identity, now, &details)).into_bytes());
    if line.is_some() {
        warn!(%details, at = end, "the audit log does not end as it was written; a record marks the place");
    }
    // What a crash left in the page cache alone, and the names of files that are new: before the key goes on over it.
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    let mut chained = Chained::start(stand, progress)?;
    let length = match line {
        Some(line) => mark(path, &mut chained, &line, end)?,
        None => end,
    };
    Ok(Opened { file, length, chained })
}

/// Writes the record that marks a gap over what was torn: until it is there whole, there is something torn to be found.
fn mark(path: &Path, chained: &mut Chained, line: &[u8], at: u64) -> io::Result<u64> {
    let chained_line = chained.chain(line);
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&chained_line, at)?;
    let length = at + u64::try_from(chained_line.len()).expect("a line is in memory");
    file.set_len(length)?;
    file.sync_data()?;
    chained.keep(length);
    Ok(length)
}

/// A chain that begins behind all that the file holds.
fn begin(file: &File) -> io::Result<(Stand, u64, Value)> {
    let (mut digest, mut length, mut chained) = (RunningSha256::default(), 0, false);
    each_line(file, 0, |line| {
        digest.update(line);
        length += u64::try_from(line.len()).expect("a line is in memory");
        chained = Link::read(line.trim_ascii_end()).is_some();
        true
    })?;
    let link = Link::beginning(&digest.finish());
    let verify_key = VerifyKey::random().map_err(io::Error::other)?;
    let key = verify_key.first().map_err(io::Error::other)?;
    let details = if chained { json!({ "keyLost": true }) } else { json!({}) };
    Ok((Stand { link, length, key, verify_key: Some(verify_key) }, length, details))
}

/// From `stand` over the records that follow it.
fn go_on(file: &File, mut stand: Stand) -> io::Result<(Stand, u64, Value)> {
    let known = stand.length;
    let length = whole_lines(file)?;
    if length < known {
        return Ok((stand, length, json!({ "missingBytes": known - length })));
    }
    each_line(file, known, |line| {
        let Some((object, link)) = Link::read(&line[..line.len() - 1]) else { return false };
        let next = stand.link.next(&object, &stand.key);
        if (next.number, next.hash) != (link.number, link.hash) || !equal(&next.mac, &link.mac) {
            return false;
        }
        stand.link = link;
        stand.key.advance();
        stand.length += u64::try_from(line.len()).expect("a line is in memory");
        true
    })?;
    let at = stand.length;
    Ok((stand, at, json!({})))
}

/// What stands behind `at`.
fn rest(file: &File, at: u64) -> io::Result<Rest> {
    let mut rest = Rest::default();
    let length = file.metadata()?.len();
    each_line(file, at, |line| {
        rest.passed_over += u64::try_from(line.len()).expect("a line is in memory");
        rest.digest.update(line);
        true
    })?;
    rest.cut = length - at - rest.passed_over;
    Ok(rest)
}

/// Where the last line that has an end ends.
fn whole_lines(file: &File) -> io::Result<u64> {
    super::end_of_whole_lines(file)
}

/// Hands the lines from `at` on that have an end to `take`, end included, until it has had enough; of a line longer than any
/// record it gets pieces.
fn each_line(file: &File, at: u64, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let until = whole_lines(file)?.max(at);
    let mut lines = BufReader::new(Part { file: file.try_clone()?, at, until });
    let mut line = Vec::new();
    let most = u64::try_from(LINE_MAX).expect("it is small");
    loop {
        line.clear();
        io::Read::take(&mut lines, most).read_until(b'\n', &mut line)?;
        if line.is_empty() || !take(&line) {
            return Ok(());
        }
    }
}

/// The record that marks a gap, as CloudTrail has what no caller brought about.
fn record(identity: &Identity, now: Timestamp, details: &Value) -> Value {
    json!({
        "eventVersion": "1.08",
        "userIdentity": { "accountId": identity.account, "invokedBy": "AWS Internal" },
        "eventTime": Timestamp::from_second(now.as_second()).unwrap_or(now).to_string(),
        "eventSource": "kms.amazonaws.com",
        "eventName": GAP_EVENT,
        "awsRegion": identity.region,
        "sourceIPAddress": "AWS Internal",
        "userAgent": "AWS Internal",
        "requestParameters": null,
        "responseElements": null,
        "requestID": Uuid::new_v4().to_string(),
        "eventID": Uuid::new_v4().to_string(),
        "readOnly": false,
        "resources": [],
        "eventType": "AwsServiceEvent",
        "managementEvent": true,
        "recipientAccountId": identity.account,
        "eventCategory": "Management",
        "serviceEventDetails": details,
    })
}
