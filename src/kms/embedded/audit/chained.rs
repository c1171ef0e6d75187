//! The chain as it is written: lines get their links, and the key goes on, when they are durable.

use std::io;

use tracing::error;

use crate::chain::{Link, LinkKey, VerifyKey};
use crate::limits;
use crate::sys::locked::LockingFailed;

use super::progress::{Progress, Stand};

/// The end of the chain.
pub(super) struct Chained {
    stand: Stand,
    /// What the stand is to be once the batch under way is durable.
    link: Link,
    key: LinkKey,
    progress: Progress,
    /// The number of the last record when no key of old was left on disk.
    settled: u64,
    failing: bool,
}

impl Chained {
    /// Goes on from `stand`, after which no other key is left on disk.
    pub(super) fn start(stand: Stand, mut progress: Progress) -> io::Result<Self> {
        progress.settle(&stand)?;
        let (link, settled) = (stand.link, stand.link.number);
        let key = LinkKey::new(stand.key.expose()).map_err(io::Error::other)?;
        Ok(Self { stand, link, key, progress, settled, failing: false })
    }

    /// The lines of a batch with their links: of nothing that was chained before it and not kept.
    pub(super) fn chain(&mut self, lines: &[u8]) -> Vec<u8> {
        self.link = self.stand.link;
        self.key.become_as(&self.stand.key);
        let mut chained = Vec::with_capacity(lines.len() * 2);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let object = line.strip_suffix(b"\n").expect("a line has an end");
            self.link = self.link.next(object, &self.key);
            self.link.write(object, &mut chained);
            self.key.advance();
        }
        chained
    }

    /// The batch is durable, and the log so long: its keys are forgotten.
    ///
    /// Where that cannot be written, older keys stay on the disk, and more of the log is gone over at the next opening;
    /// no call fails with it.
    pub(super) fn keep(&mut self, length: u64) {
        self.stand.link = self.link;
        self.stand.key.become_as(&self.key);
        self.stand.length = length;
        let written = match self.link.number - self.settled >= limits::AUDIT_KEY_SETTLED_RECORDS {
            true => self.settle(),
            false => self.progress.put(&self.stand),
        };
        self.tell(written);
    }

    /// Whether no key is left on disk but that of the next record.
    pub(super) fn is_settled(&self) -> bool {
        self.stand.link.number == self.settled
    }

    /// Nothing comes for now: leaves no key on disk but that of the next record.
    pub(super) fn rest(&mut self) {
        let settled = self.settle();
        self.tell(settled);
    }

    /// Whether nobody has the verify key yet.
    pub(super) fn has_verify_key(&self) -> bool {
        self.stand.verify_key.is_some()
    }

    /// A copy of the verify key, if nobody has it yet.
    pub(super) fn verify_key(&self) -> Result<Option<VerifyKey>, LockingFailed> {
        self.stand.verify_key.as_ref().map(|key| VerifyKey::new(key.expose())).transpose()
    }

    /// Forgets the verify key with this fingerprint, durably; whether it was there.
    pub(super) fn forget_verify_key(&mut self, fingerprint: &str) -> io::Result<bool> {
        let Some(key) = self.stand.verify_key.take_if(|key| key.fingerprint() == fingerprint) else { return Ok(false) };
        if let Err(error) = self.settle() {
            self.stand.verify_key = Some(key);
            return Err(error);
        }
        Ok(true)
    }

    fn settle(&mut self) -> io::Result<()> {
        self.progress.settle(&self.stand)?;
        self.settled = self.stand.link.number;
        Ok(())
    }

    /// Says once that keys stay on the disk, until it has worked again.
    fn tell(&mut self, written: io::Result<()>) {
        if let Err(error) = &written
            && !self.failing
        {
            error!(%error, "the audit log's key cannot be replaced on the disk: older records could be forged with it");
        }
        self.failing = written.is_err();
    }
}
