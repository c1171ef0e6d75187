//! The audit log: one line of JSON for every call, refused ones too, in CloudTrail's shape (`event`).
//!
//! Lines are appended in the order in which the calls took effect, and a call is answered when its line is durable
//! (`commit`). A line says who asked for what under which encryption context and what came of it; it never holds
//! plaintext, a blob or a token. A line that was not written whole (a crash, a full disk) is cut off again: its call was
//! never answered. `search` finds lines again. Lines that are no record (damage, whoever wrote into the file) are passed
//! over and counted, so that they hide nothing but themselves.

mod commit;
mod event;
mod search;

pub use search::{AuditFilter, AuditRecords};

pub(super) use commit::{Lost, Ticket};
pub(super) use event::{date, key_metadata};

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

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

/// Steps in which the last whole line is looked for from the end.
const STEP_BYTES: usize = 64 << 10;

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
    /// The file that is appended to, whatever has come of its name.
    file: File,
    committer: Committer,
}

/// A part of the log, read at its place: appending goes on beside it.
struct Part {
    file: File,
    at: u64,
    until: u64,
}

impl AuditLog {
    /// Opens the log in `dir`, or makes it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(dir.join(FILE))?;
        let length = end_of_whole_lines(&file)?;
        if length < file.metadata()?.len() {
            file.set_len(length)?;
        }
        // What a crash left in the page cache alone, and the name of a file that is new.
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Self { file: file.try_clone()?, committer: Committer::start(file, length)? })
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

    /// The durable lines from byte `from` on, whatever they hold.
    pub(super) fn lines_from(&self, from: u64) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>> {
        let until = self.committer.durable();
        let at = if from <= until { from } else { 0 };
        Ok(BufReader::new(Part { file: self.file.try_clone()?, at, until }).split(b'\n'))
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.until - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += u64::try_from(read).expect("a buffer is in memory");
        Ok(read)
    }
}

/// Where the last whole line ends; what is behind it was cut short.
fn end_of_whole_lines(file: &File) -> io::Result<u64> {
    let mut block = vec![0; STEP_BYTES];
    let mut end = file.metadata()?.len();
    while end > 0 {
        let part = &mut block[..usize::try_from(end).unwrap_or(usize::MAX).min(STEP_BYTES)];
        let from = end - u64::try_from(part.len()).expect("a step is short");
        file.read_exact_at(part, from)?;
        if let Some(last) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + u64::try_from(last + 1).expect("a step is short"));
        }
        end = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_last_whole_line_is_found_over_any_number_of_steps() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        for (whole, torn) in [(0, 0), (0, 5), (9, 0), (9, 7), (9, STEP_BYTES - 1), (9, STEP_BYTES), (9, 3 * STEP_BYTES)]
        {
            let mut bytes = vec![b'a'; whole];
            bytes.iter_mut().rev().take(1).for_each(|last| *last = b'\n');
            bytes.resize(whole + torn, 0);
            std::fs::write(&path, &bytes).expect("written");
            let end = end_of_whole_lines(&File::open(&path).expect("there")).expect("read");
            assert_eq!(end, u64::try_from(whole).expect("short"), "{whole} {torn}");
        }
    }
}
