//! One file that holds a KMS: its domain key and its store, sealed under a passphrase.
//!
//! ```text
//! head     "envol kms backup 1\n" | how the passphrase is stretched, as text | "\n"
//! chunk    last (bit 31) and length of what follows u32 big-endian | sealed bytes | tag
//! ```
//! Chunks are sealed by AES-256-GCM under the key that follows from the passphrase (Argon2id) and a salt of the file's own; their
//! nonce is their number and whether they are the last, their additional data the head. So none can be changed, moved or left
//! out. What they hold, one after the other: the domain key, then for each file its path, length and bytes:
//! ```text
//! file     length of the path u16 big-endian | path, below the store | length u64 big-endian | bytes
//! ```
//! Clear bytes lie in locked memory on both ways.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use crate::crypto::aead::{self, NONCE_BYTES, TAG_BYTES};
use crate::crypto::passphrase::Stretching;
use crate::kms::{KmsError, Principal};
use crate::limits;
use crate::secret::Secret;
use crate::sys::locked::{LockedMemory, LockingFailed};

use super::access_keys::judge_right;
use super::admin::on_nothing;
use super::domain_key::DomainKeyError;
use super::hsm::{self, DomainKeySource, Hsm, HsmError};
use super::operation::Operation;
use super::store::{self, StoreError};
use super::{Embedded, domain_key, passphrase, refusal};

const MAGIC: &str = "envol kms backup 1\n";

/// Clear bytes of a chunk.
const CHUNK: usize = 64 << 10;
/// The bit of a chunk's length that says that none comes after it.
const LAST: u32 = 1 << 31;

/// Why a KMS cannot be backed up or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Not a file that this program made.
    #[error("it is not a backup of a KMS of envol, or one of a later version")]
    NotABackup,
    /// The first chunk does not open.
    #[error("the passphrase is not the one that the backup was sealed under, or the backup is damaged at its start")]
    WrongPassphrase,
    /// A later one does not, or is missing.
    #[error("the backup is damaged: chunk {0} of it is not what was written")]
    Damaged(u64),
    /// There is something where the KMS is to be restored.
    #[error("{0} is there already: restore into an empty state directory")]
    Occupied(PathBuf),
    /// The passphrase, or where the domain key comes from.
    #[error(transparent)]
    DomainKey(#[from] DomainKeyError),
    /// The domain key does not open the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HSM's part of that.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// A file.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No locked memory.
    #[error(transparent)]
    NoLockedMemory(#[from] LockingFailed),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    |source| BackupError::File { path, source }
}

impl Embedded {
    /// Copies the store of every region into the new directory `to`, while everything goes on: nothing is written meanwhile, and
    /// what was answered is in the copy.
    ///
    /// # Errors
    /// Where the caller is not root, or the disk fails.
    pub fn copy_store(&self, caller: &Principal, to: &Path) -> Result<(), KmsError> {
        let call = on_nothing(caller.into(), Operation::BackUpKms);
        self.observe(&call, |_, _| {
            judge_right(&call)?;
            let copied = self.regions.hold(|others| self.store.still(others, || copy(&self.dir, to)))?;
            copied.map_err(|error| refusal::internal(&error))
        })
    }
}

/// Whether a file is the audit log's, or the key with which it goes on: the log is of one place and time, and goes on in one.
fn is_of_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"audit."))
}

/// All files of the store below `from`, which nobody changes meanwhile.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, place) = (entry.path(), to.join(entry.file_name()));
        if is_of_log(&source) {
            continue;
        }
        if entry.file_type()?.is_dir() { copy(&source, &place)? } else { fs::copy(&source, &place).map(drop)? }
    }
    Ok(())
}

/// Writes the backup `file`, which is not there yet: the store in `store`, a copy that nobody uses, and the domain key of
/// `source`, under the passphrase that is read from `passphrase`.
///
/// # Errors
/// [`BackupError`]; nothing is left of the file.
pub fn back_up(file: &Path, passphrase: &Path, source: &DomainKeySource, store: &Path) -> Result<(), BackupError> {
    let domain_key = hsm::read_domain_key(source)?;
    let client = hsm::Client::in_process(Hsm::new(copy_of(&domain_key)?)?);
    store::judge_domain_key(store, &client.check_value()?)?;
    let stretching = Stretching::new();
    let key = key_of(passphrase, &stretching)?;
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(at(file))?;
    let written = write(&out, key, &stretching, (&domain_key, store)).and_then(|()| out.sync_all());
    written.map_err(|source| {
        let _ = fs::remove_file(file);
        BackupError::File { path: file.to_owned(), source }
    })
}

/// Restores the backup `file`: the domain key into the new file `domain_key`, the store into the new directory `store`.
///
/// # Errors
/// [`BackupError`]; nothing is left of either.
pub fn restore(file: &Path, passphrase: &Path, domain_key: &Path, store: &Path) -> Result<(), BackupError> {
    for place in [domain_key, store] {
        if place.symlink_metadata().is_ok() {
            return Err(BackupError::Occupied(place.to_owned()));
        }
    }
    let unfinished = store.with_extension("restoring");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(at(&unfinished))?;
    }
    let restored = read(file, passphrase, &unfinished).and_then(|key| {
        let client = hsm::Client::in_process(Hsm::new(copy_of(&key)?)?);
        store::judge_domain_key(&unfinished, &client.check_value()?)?;
        domain_key::keep(domain_key, &key).map_err(at(domain_key))?;
        fs::rename(&unfinished, store).and_then(|()| sync_around(store)).map_err(at(store))
    });
    restored.inspect_err(|_| {
        // Neither was there before.
        let _ = fs::remove_dir_all(&unfinished);
        let _ = fs::remove_file(domain_key);
    })
}

fn copy_of(key: &Secret<32>) -> Result<Secret<32>, LockingFailed> {
    Secret::filled_by(|bytes| bytes.copy_from_slice(key.expose()))
}

fn key_of(from: &Path, stretching: &Stretching) -> Result<Secret<32>, BackupError> {
    let mut file = passphrase::open(from)?;
    passphrase::read(&mut file, stretching).map_err(at(from))
}

fn sync_around(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Seals what is written to it.
struct Sealer<W> {
    out: W,
    key: Secret<32>,
    head: String,
    number: u64,
    clear: LockedMemory,
    filled: usize,
}

impl<W: Write> Sealer<W> {
    fn new(mut out: W, key: Secret<32>, stretching: &Stretching) -> io::Result<Self> {
        let head = format!("{MAGIC}{stretching}\n");
        out.write_all(head.as_bytes())?;
        let clear = LockedMemory::zeroed(CHUNK).map_err(io::Error::other)?;
        Ok(Self { out, key, head, number: 0, clear, filled: 0 })
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

fn write(
    out: &File,
    key: Secret<32>,
    stretching: &Stretching,
    (domain_key, store): (&Secret<32>, &Path),
) -> io::Result<()> {
    let mut sealer = Sealer::new(io::BufWriter::new(out), key, stretching)?;
    sealer.write_all(domain_key.expose())?;
    write_files(&mut sealer, store, store)?;
    sealer.end_chunk(true)?;
    sealer.out.flush()
}

fn write_files(out: &mut impl Write, store: &Path, dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if is_of_log(&path) {
            continue;
        }
        if path.is_dir() {
            write_files(out, store, &path)?;
            continue;
        }
        let mut file = File::open(&path)?;
        let length = file.metadata()?.len();
        let name = path.strip_prefix(store).expect("it was found below it").as_os_str().as_encoded_bytes();
        let name_length = u16::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidFilename)?;
        out.write_all(&name_length.to_be_bytes())?;
        out.write_all(name)?;
        out.write_all(&length.to_be_bytes())?;
        if io::copy(&mut Read::by_ref(&mut file).take(length), out)? != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Opens what a [`Sealer`] wrote.
struct Opener<R> {
    input: R,
    key: Secret<32>,
    head: String,
    number: u64,
    clear: LockedMemory,
    /// What of the chunk has not been given yet.
    left: std::ops::Range<usize>,
    last: bool,
}

/// A chunk that does not open.
#[derive(Debug, thiserror::Error)]
#[error("chunk {0} does not open")]
struct Unopened(u64);

impl<R: Read> Opener<R> {
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
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
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

fn read(file: &Path, passphrase: &Path, store: &Path) -> Result<Secret<32>, BackupError> {
    let mut input = BufReader::new(File::open(file).map_err(at(file))?);
    let mut head = String::new();
    for _ in 0..2 {
        let line = Read::by_ref(&mut input).take(limits::STRETCHING_TEXT_MAX).read_line(&mut head);
        line.map_err(|_| BackupError::NotABackup)?;
    }
    let stretching = head.strip_prefix(MAGIC).and_then(|line| line.strip_suffix('\n'));
    let stretching = stretching.and_then(|text| text.parse().ok()).ok_or(BackupError::NotABackup)?;
    let key = key_of(passphrase, &stretching)?;
    let clear = LockedMemory::zeroed(CHUNK)?;
    let mut opener = Opener { input, key, head, number: 0, clear, left: 0..0, last: false };
    let mut domain_key = Secret::zeroed()?;
    opener.read_exact(domain_key.expose_mut()).map_err(|error| opened(file, error))?;
    DirBuilder::new().mode(0o700).create(store).map_err(at(store))?;
    while let Some((path, length)) = next_file(&mut opener).map_err(|error| opened(file, error))? {
        restore_file(&mut opener, &store.join(path), length).map_err(|error| opened(file, error))?;
    }
    sync_all(store).map_err(at(store))?;
    Ok(domain_key)
}

/// What an error in reading the backup `file` means.
fn opened(file: &Path, error: io::Error) -> BackupError {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(Unopened(0)) => BackupError::WrongPassphrase,
        Some(Unopened(number)) => BackupError::Damaged(*number),
        None => BackupError::File { path: file.to_owned(), source: error },
    }
}

/// The path and the length of the next file; `None` at the end.
fn next_file(input: &mut impl Read) -> io::Result<Option<(PathBuf, u64)>> {
    let mut length = [0; 2];
    if input.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut length[1..])?;
    let mut path = vec![0; usize::from(u16::from_be_bytes(length))];
    input.read_exact(&mut path)?;
    let path = PathBuf::from(String::from_utf8(path).map_err(|_| io::ErrorKind::InvalidData)?);
    // It was sealed by whoever knows the passphrase; a path that leads elsewhere is not followed all the same.
    if path.as_os_str().is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    Ok(Some((path, u64::from_be_bytes(length))))
}

fn restore_file(input: &mut impl Read, path: &Path, length: u64) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if io::copy(&mut Read::by_ref(input).take(length), &mut file)? != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.sync_all()
}

fn sync_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        }
    }
    File::open(dir)?.sync_all()
}
