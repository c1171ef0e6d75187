//! The audit log: one line of JSON for every call, refused ones too, in CloudTrail's shape (`event`).
//!
//! Lines are appended in the order in which the calls took effect, and a call is answered when its line is durable
//! (`commit`). A line says who asked for what under which encryption context and what came of it; it never holds
//! plaintext, a blob or a token. A line that was not written whole (a full disk) is cut off again: its call was
//! never answered; one that a crash cut short is overwritten by a record that says so when the log is opened (`opening`).
//! Each line is linked to the one before it (`crate::chain`, `chained`) by a key of its own, which is then forgotten
//! (`progress`). `search` finds lines again. Lines that are no record (damage, whoever wrote into the file) are passed
//! over and counted, so that they hide nothing but themselves.

mod chained;
mod commit;
mod event;
mod opening;
mod progress;
mod search;

pub use search::{AuditFilter, AuditRecords};

pub(super) use commit::{Lost, Ticket};
pub(super) use event::{date, key_metadata};

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::chain::VerifyKey;
use crate::kms::{EncryptionContext, KmsError};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex};
use crate::sys::locked::LockingFailed;

use super::Identity;
use super::call::Trail;
use super::caller::Caller;
use super::operation::Operation;
use chained::Chained;
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
    /// Held for as long as a batch is chained or its keys are replaced, never while one is written.
    chained: Arc<Mutex<Chained>>,
    /// Whether nobody has the verify key yet, known without waiting for a disk.
    has_verify_key: AtomicBool,
}

/// A part of the log, read at its place: appending goes on beside it.
struct Part {
    file: File,
    at: u64,
    until: u64,
}

impl AuditLog {
    /// Opens the log in `dir`, or makes it; what it lacks at its end is marked by a record of the time `now`.
    pub(super) fn open(dir: &Path, identity: &Identity, now: Timestamp) -> io::Result<Self> {
        let opening::Opened { file, length, chained } = opening::open(&dir.join(FILE), identity, now)?;
        let has_verify_key = AtomicBool::new(chained.has_verify_key());
        let chained = Arc::new(Mutex::new(chained));
        let committer = Committer::start(file.try_clone()?, length, Arc::clone(&chained))?;
        Ok(Self { file, committer, chained, has_verify_key })
    }

    /// The key that verifies the log from its first record on, if nobody has it yet.
    pub(super) fn verify_key(&self) -> Result<Option<VerifyKey>, LockingFailed> {
        self.chained.lock().verify_key()
    }

    /// Forgets the verify key with this fingerprint, durably; whether it was there.
    pub(super) fn forget_verify_key(&self, fingerprint: &str) -> io::Result<bool> {
        let forgotten = self.chained.lock().forget_verify_key(fingerprint)?;
        if forgotten {
            self.has_verify_key.store(false, Ordering::SeqCst);
        }
        Ok(forgotten)
    }

    /// Whether the verify key is here: nobody has said that they have it.
    pub(super) fn has_verify_key(&self) -> bool {
        self.has_verify_key.load(Ordering::SeqCst)
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

    /// The durable lines, the last one first, whatever they hold.
    pub(super) fn lines_back(&self) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>> {
        Ok(Backwards { file: self.file.try_clone()?, held: Vec::new(), before: self.committer.durable() })
    }
}

/// The lines of a log, the last one first.
struct Backwards {
    file: File,
    /// What was read and not given yet; its last line ends it.
    held: Vec<u8>,
    /// How much stands before that.
    before: u64,
}

impl Iterator for Backwards {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        loop {
            let body = self.held.len().saturating_sub(1);
            let start = self.held[..body].iter().rposition(|byte| *byte == b'\n').map(|end| end + 1);
            if start.is_some() || self.before == 0 {
                let mut line = self.held.split_off(start.unwrap_or(0));
                let ended = line.pop_if(|byte| *byte == b'\n').is_some();
                return (ended || !line.is_empty()).then_some(Ok(line));
            }
            if let Err(error) = self.read_more() {
                self.before = 0;
                self.held.clear();
                return Some(Err(error));
            }
        }
    }
}

impl Backwards {
    /// Reads as much again as is held, a step at the least: a long line is not copied too often.
    fn read_more(&mut self) -> io::Result<()> {
        let most = u64::try_from(self.held.len().max(STEP_BYTES)).expect("it is in memory").min(self.before);
        let mut part = vec![0; usize::try_from(most).expect("it was one")];
        self.file.read_exact_at(&mut part, self.before - most)?;
        self.before -= most;
        part.append(&mut self.held);
        self.held = part;
        Ok(())
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
    fn lines_are_read_from_the_last_to_the_first_over_any_number_of_steps() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        for lengths in
            [vec![], vec![0], vec![0, 0, 3], vec![STEP_BYTES - 1, 1], vec![3 * STEP_BYTES, 0, STEP_BYTES, 5, 5]]
        {
            let lines: Vec<Vec<u8>> =
                lengths.iter().zip(b'a'..).map(|(length, letter)| vec![letter; *length]).collect();
            let bytes: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
            std::fs::write(&path, &bytes).expect("written");
            let (file, before) = (File::open(&path).expect("there"), u64::try_from(bytes.len()).expect("short"));
            let back = Backwards { file, held: Vec::new(), before };
            let mut found = back.collect::<io::Result<Vec<_>>>().expect("read");
            found.reverse();
            assert_eq!(found, lines, "{lengths:?}");
        }
    }

    #[test]
    fn the_last_line_is_read_without_the_rest_of_the_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::fs::write(&path, [&vec![b'a'; 1 << 20][..], b"\nlast\n"].concat()).expect("written");
        let before = std::fs::metadata(&path).expect("there").len();
        let mut back = Backwards { file: File::open(&path).expect("there"), held: Vec::new(), before };
        assert_eq!(back.next().expect("a line").expect("read"), b"last");
        assert_eq!(back.before, before - u64::try_from(STEP_BYTES).expect("small"));
    }

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
