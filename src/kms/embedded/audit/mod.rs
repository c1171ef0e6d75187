//! The audit log: one line of JSON for every call, refused ones too, in CloudTrail's shape (`event`).
//!
//! Lines are appended in the order in which the calls took effect, and a call is answered when its line is durable
//! (`commit`). A line says who asked for what under which encryption context and what came of it; it never holds
//! plaintext, a blob or a token. A line that was not written whole (a crash, a full disk) is cut off again: its call was
//! never answered. `search` finds lines again.

mod commit;
mod event;
mod search;

pub use search::AuditFilter;

pub(super) use commit::{Lost, Ticket};
pub(super) use event::{date, key_metadata};

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use uuid::Uuid;

use crate::kms::{EncryptionContext, KmsError};

use super::Identity;
use super::call::Trail;
use super::caller::Caller;
use super::operation::Operation;
use commit::Committer;

/// The log's file, in the KMS's directory.
pub(super) const FILE: &str = "audit.ndjson";

/// A call, as it was asked.
#[derive(Clone)]
pub(super) struct Call<'a> {
    /// Who asks.
    pub(super) caller: Caller<'a>,
    /// What for.
    pub(super) operation: Operation,
    /// The key, as the caller names it.
    pub(super) key: Option<&'a str>,
    /// The encryption context.
    pub(super) context: Option<&'a EncryptionContext>,
    /// The other parameters that may be shown, as AWS names them.
    pub(super) parameters: Vec<(&'static str, Value)>,
}

/// The open log.
pub(super) struct AuditLog {
    path: PathBuf,
    committer: Committer,
}

impl AuditLog {
    /// Opens the log in `dir`, or makes it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        let length = end_of_whole_lines(&file)?;
        if length < file.metadata()?.len() {
            file.set_len(length)?;
        }
        // What a crash left in the page cache alone, and the name of a file that is new.
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Self { path, committer: Committer::start(file, length)? })
    }

    /// Has the lines of `calls`, which took effect together, appended; [`AuditLog::wait`] says when they are durable.
    pub(super) fn record(
        &self,
        identity: &Identity,
        calls: &[Call<'_>],
        trail: &Trail,
        failure: Option<&KmsError>,
    ) -> Ticket {
        let mut lines = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            let id = if number == 0 { trail.event } else { Uuid::new_v4() };
            let told = event::Told { identity, call, trail, failure, id, first: number == 0 };
            lines.extend_from_slice(told.event().to_string().as_bytes());
            lines.push(b'\n');
        }
        self.committer.add(&lines)
    }

    /// Waits until the lines of `ticket` are durable.
    pub(super) fn wait(&self, ticket: &Ticket) -> Result<(), Lost> {
        self.committer.wait(ticket)
    }

    /// How far the log is durable.
    pub(super) fn durable(&self) -> u64 {
        self.committer.durable()
    }

    /// The durable lines from byte `from` on.
    pub(super) fn lines_from(&self, from: u64) -> io::Result<impl Iterator<Item = io::Result<String>> + use<>> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = File::open(&self.path)?;
        let durable = self.committer.durable();
        let from = if from <= durable { from } else { 0 };
        file.seek(SeekFrom::Start(from))?;
        Ok(BufReader::new(file.take(durable - from)).lines())
    }
}

/// How far the log consists of whole lines.
fn end_of_whole_lines(file: &File) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut end = 0;
    let mut at = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(end);
        }
        at += u64::try_from(read).expect("a line is short");
        if line.last() == Some(&b'\n') {
            end = at;
        }
    }
}
