//! The chunks of a backup: sealed as they are written, opened as they are read. Their format is the module's above.

use std::io::{self, BufRead, Read, Write};
use std::ops::Range;

use crate::crypto::aead::{self, NONCE_BYTES, TAG_BYTES};
use crate::crypto::passphrase::Stretching;
use crate::limits;
use crate::secret::Secret;
use crate::sys::locked::{LockedMemory, LockingFailed};

const MAGIC: &str = "envol kms backup 1\n";

/// Clear bytes of a chunk.
const CHUNK: usize = 64 << 10;
/// The bit of a chunk's length that says that none comes after it.
const LAST: u32 = 1 << 31;

/// Seals what is written to it.
pub(super) struct Sealer<W> {
    out: W,
    key: Secret<32>,
    head: String,
    number: u64,
    clear: LockedMemory,
    filled: usize,
}

impl<W: Write> Sealer<W> {
    /// To be [begun](Sealer::begin) before anything is written, and [ended](Sealer::end) behind everything.
    pub(super) fn new(out: W, key: Secret<32>, stretching: &Stretching) -> Result<Self, LockingFailed> {
        let (head, clear) = (format!("{MAGIC}{stretching}\n"), LockedMemory::zeroed(CHUNK)?);
        Ok(Self { out, key, head, number: 0, clear, filled: 0 })
    }

    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.out.write_all(self.head.as_bytes())
    }

    pub(super) fn end(mut self) -> io::Result<()> {
        self.end_chunk(true)?;
        self.out.flush()
    }

    fn end_chunk(&mut self, last: bool) -> io::Result<()> {
        let data = &mut self.clear.bytes_mut()[..self.filled];
        let length = u32::try_from(data.len() + TAG_BYTES).expect("a chunk is small");
        let tag = aead::seal(&self.key, &nonce(self.number, last), self.head.as_bytes(), data);
        self.out.write_all(&(length | if last { LAST } else { 0 }).to_be_bytes())?;
        self.out.write_all(data)?;
        self.out.write_all(&tag)?;
        (self.number, self.filled) = (self.number + 1, 0);
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filled == CHUNK {
            self.end_chunk(false)?;
        }
        let room = &mut self.clear.bytes_mut()[self.filled..];
        let taken = bytes.len().min(room.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Each is used once: the key is of the file's own salt.
fn nonce(number: u64, last: bool) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce[11] = last.into();
    nonce
}

/// Opens what a [`Sealer`] wrote.
pub(super) struct Opener<R> {
    input: R,
    key: Secret<32>,
    head: String,
    number: u64,
    clear: LockedMemory,
    /// What of the chunk has not been given yet.
    left: Range<usize>,
    last: bool,
}

/// A chunk that does not open.
#[derive(Debug, thiserror::Error)]
#[error("chunk {0} does not open")]
pub(super) struct Unopened(pub(super) u64);

impl<R: BufRead> Opener<R> {
    /// How the passphrase of the backup that `input` begins with is stretched, and its head; `None` where it is none.
    pub(super) fn head(input: &mut R) -> Option<(Stretching, String)> {
        let mut head = String::new();
        for _ in 0..2 {
            Read::by_ref(input).take(limits::STRETCHING_TEXT_MAX).read_line(&mut head).ok()?;
        }
        let stretching = head.strip_prefix(MAGIC)?.strip_suffix('\n')?.parse().ok()?;
        Some((stretching, head))
    }

    /// What comes behind `head` in `input`.
    pub(super) fn new(input: R, key: Secret<32>, head: String) -> Result<Self, LockingFailed> {
        let clear = LockedMemory::zeroed(CHUNK)?;
        Ok(Self { input, key, head, number: 0, clear, left: 0..0, last: false })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let unopened = |number| io::Error::new(io::ErrorKind::InvalidData, Unopened(number));
        let mut length = [0; 4];
        self.input.read_exact(&mut length).map_err(|_| unopened(self.number))?;
        let length = u32::from_be_bytes(length);
        self.last = length & LAST != 0;
        let length = usize::try_from(length & !LAST).unwrap_or(usize::MAX);
        let data = length.checked_sub(TAG_BYTES).filter(|data| *data <= CHUNK).ok_or_else(|| unopened(self.number))?;
        let clear = &mut self.clear.bytes_mut()[..data];
        let mut tag = [0; TAG_BYTES];
        let read = self.input.read_exact(clear).and_then(|()| self.input.read_exact(&mut tag));
        read.map_err(|_| unopened(self.number))?;
        let nonce = nonce(self.number, self.last);
        aead::open(&self.key, &nonce, self.head.as_bytes(), clear, &tag).map_err(|_| unopened(self.number))?;
        (self.number, self.left) = (self.number + 1, 0..data);
        if self.last && !self.input.fill_buf()?.is_empty() {
            return Err(unopened(self.number));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Opener<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() && !self.last {
            self.next_chunk()?;
        }
        let given = into.len().min(self.left.len());
        into[..given].copy_from_slice(&self.clear.bytes()[self.left.start..][..given]);
        self.left.start += given;
        Ok(given)
    }
}
