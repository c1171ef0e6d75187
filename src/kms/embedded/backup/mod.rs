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
//! Clear bytes lie in locked memory on both ways. `sealed` has the chunks, `files` what goes into them, `new_file` how a backup
//! gets its name, `place` how what is restored gets its own. Whoever backs up or restores may be root where the KMS is another user's:
//! then all that lies in the state directory is read and written with that user's rights (`sys::owner`), the backup with root's.

mod behind;
mod files;
mod new_file;
mod place;
mod sealed;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use crate::crypto::passphrase::Stretching;
use crate::kms::{KmsError, Principal};
use crate::secret::Secret;
use crate::sync::Arc;
use crate::sys::locked::{LockedMemory, LockingFailed};
use crate::sys::owner::Owner;

use super::access_keys::judge_right;
use super::admin::on_nothing;
use super::domain_key::DomainKeyError;
use super::hsm::{self, DomainKeySource, Hsm, HsmError, NamedBy};
use super::operation::Operation;
use super::passphrase::{self, PassphraseError, Recipe};
use super::store::{self, Snapshot, StoreError};
use super::{Embedded, domain_key, refusal, zeroize};
use new_file::NewFile;
use place::Restoring;
use sealed::{Opener, Sealer, Unopened};

pub(crate) use behind::move_behind;
pub(crate) use place::interrupted;

/// Bytes that are carried at once into what is restored.
const CARRIED: usize = 64 << 10;

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
    /// It is nothing that a store is made of.
    #[error("{0} is neither a file nor a directory, and is not carried")]
    NotAFile(PathBuf),
    /// The daemon that is to use it has another domain key.
    #[error("the domain key in {0} is not that of the backup")]
    OtherCredential(PathBuf),
    /// The backup's own passphrase.
    #[error("the passphrase in {path}")]
    Passphrase {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: PassphraseError,
    },
    /// A passphrase that the daemon could not be given again.
    #[error("the passphrase in {0} can be read once only: name a file that stays")]
    ReadOnce(PathBuf),
    /// The clear domain key, which lies sealed already.
    #[error("the domain key is sealed, and {path}, which may be overwritten by now, cannot be removed")]
    NotRemoved {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Where a passphrase or the domain key comes from.
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

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    |source| BackupError::File { path, source }
}

impl Embedded {
    /// Copies the store of every region into the new directory `to`. What was answered is in the copy; calls go on meanwhile.
    ///
    /// # Errors
    /// Where the caller is not root, or the disk fails; nothing is left of the copy then.
    pub fn copy_store(&self, caller: &Principal, to: &Path) -> Result<(), KmsError> {
        let call = on_nothing(caller.into(), Operation::BackUpKms);
        let within = judge_right(&call).and_then(|()| self.all_within().map_err(|error| refusal::internal(&error)));
        // The look itself is the call; what is written of it afterwards takes long, and holds nobody up.
        let looked_at = self.observe(&call, |_, _| {
            judge_right(&call)?;
            self.snapshots(&within?)
        })?;
        DirBuilder::new().mode(0o700).create(to).map_err(|error| refusal::internal(&error))?;
        self.write_copy(&looked_at, to).map_err(|error| {
            let _ = fs::remove_dir_all(to);
            refusal::internal(&error)
        })
    }

    /// What the stores hold, each with its place in this one's directory.
    fn snapshots(&self, within: &[Arc<Self>]) -> Result<Vec<(PathBuf, Snapshot)>, KmsError> {
        let mut all = vec![(PathBuf::new(), self.store.snapshot()?)];
        for kms in within {
            let place = kms.dir.strip_prefix(&self.dir).expect("it lies in this one's directory");
            all.push((place.to_owned(), kms.store.snapshot()?));
        }
        Ok(all)
    }

    fn write_copy(&self, stores: &[(PathBuf, Snapshot)], to: &Path) -> Result<(), StoreError> {
        for (place, store) in stores {
            DirBuilder::new().recursive(true).mode(0o700).create(to.join(place))?;
            store.write(&to.join(place))?;
        }
        Ok(zeroize::carry_mark(&self.dir, to)?)
    }
}

/// Writes the backup `file`, which is not there yet: the store in `store`, a copy that nobody uses, and the domain key of
/// `source`, both of them `owner`'s, under the passphrase that is read from `passphrase`.
///
/// # Errors
/// [`BackupError`]; nothing is left of the file.
pub(crate) fn back_up(
    (file, passphrase): (&Path, &Path),
    source: (&DomainKeySource, NamedBy),
    store: &Path,
    owner: Owner,
) -> Result<(), BackupError> {
    let new = NewFile::beside(file).map_err(at(file))?;
    let domain_key = hsm::read_domain_key(source, owner)?;
    let check_value = check_value(&domain_key)?;
    let files = owner.act(|| {
        let files = files::listed(store)?;
        store::judge_domain_key(store, &check_value).map(|()| files).map_err(BackupError::from)
    })?;
    let stretching = Stretching::new();
    let key = key_of(passphrase, &stretching)?;
    let mut sealer = Sealer::new(BufWriter::new(new.file()), key, &stretching)?;
    sealer.begin().and_then(|()| sealer.write_all(domain_key.expose())).map_err(at(file))?;
    owner.act(|| files.iter().try_for_each(|path| files::write(&mut sealer, file, store, path)))?;
    sealer.end().and_then(|()| new.put_in_place()).map_err(at(file))
}

/// Restores the backup `file`: the store into the new directory `store` of `owner`, the domain key as `to` says it is kept there.
///
/// # Errors
/// [`BackupError`]; nothing is left of either.
pub(crate) fn restore(
    (file, passphrase): (&Path, &Path),
    to: &DomainKeySource,
    store: &Path,
    owner: Owner,
) -> Result<(), BackupError> {
    owner.act(|| Restoring::judge(store, key_place(to)))?;
    let mut backup = open(file, passphrase)?;
    let mut domain_key = Secret::zeroed()?;
    backup.read_exact(domain_key.expose_mut()).map_err(|error| opened(file, error))?;
    let kept = Kept::of(domain_key, to, owner)?;
    owner.act(|| {
        let restoring = Restoring::begin(store, key_place(to))?;
        restore_files(&mut backup, file, &restoring.store())?;
        store::judge_domain_key(&restoring.store(), &kept.check_value)?;
        kept.write(&restoring.key()).map_err(at(&restoring.key()))?;
        restoring.arrive()
    })
}

/// Where a domain key of that kind leaves something of its own.
fn key_place(to: &DomainKeySource) -> Option<&Path> {
    match to {
        DomainKeySource::File { path, .. } => Some(path),
        DomainKeySource::Passphrase { stretching, .. } => Some(stretching),
        DomainKeySource::Credential { .. } => None,
    }
}

/// What is kept of a domain key that was restored.
struct Kept {
    check_value: [u8; 32],
    as_file: KeptAs,
}

enum KeptAs {
    Key(Secret<32>),
    Recipe(Recipe),
    /// It is there already.
    Nothing,
}

impl Kept {
    fn of(domain_key: Secret<32>, to: &DomainKeySource, owner: Owner) -> Result<Self, BackupError> {
        let check_value = check_value(&domain_key)?;
        let as_file = match to {
            DomainKeySource::File { .. } => KeptAs::Key(domain_key),
            DomainKeySource::Passphrase { from, .. } => {
                let mut file = passphrase::open(from, owner.user())?;
                let sealed = Recipe::sealing(&domain_key, &mut file);
                KeptAs::Recipe(sealed.map_err(|source| DomainKeyError::Passphrase { path: from.clone(), source })?)
            }
            DomainKeySource::Credential { path } => {
                let found = hsm::read_domain_key((to, NamedBy::Caller), owner)?;
                if self::check_value(&found)? != check_value {
                    return Err(BackupError::OtherCredential(path.clone()));
                }
                KeptAs::Nothing
            }
        };
        Ok(Self { check_value, as_file })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        match &self.as_file {
            KeptAs::Key(key) => domain_key::keep(path, key),
            KeptAs::Recipe(recipe) => recipe.keep(path),
            KeptAs::Nothing => Ok(()),
        }
    }
}

/// The public value by which a store knows `domain_key`.
fn check_value(domain_key: &Secret<32>) -> Result<[u8; 32], BackupError> {
    let copy = Secret::filled_by(|bytes| bytes.copy_from_slice(domain_key.expose()))?;
    Ok(hsm::Client::in_process(Hsm::new(copy)?).check_value()?)
}

/// The key of a backup. Its passphrase is the caller's, as the backup is.
fn key_of(from: &Path, stretching: &Stretching) -> Result<Secret<32>, BackupError> {
    let mut file = passphrase::open(from, nix::unistd::geteuid().as_raw())?;
    passphrase::read(&mut file, stretching).map_err(|source| BackupError::Passphrase { path: from.to_owned(), source })
}

/// The backup `file`, as far as its passphrase is the right one.
fn open(file: &Path, passphrase: &Path) -> Result<Opener<BufReader<File>>, BackupError> {
    let mut input = BufReader::new(File::open(file).map_err(at(file))?);
    let (stretching, head) = Opener::head(&mut input).ok_or(BackupError::NotABackup)?;
    let key = key_of(passphrase, &stretching)?;
    Ok(Opener::new(input, key, head)?)
}

/// What an error in reading the backup `file` means.
fn opened(file: &Path, error: io::Error) -> BackupError {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(Unopened(0)) => BackupError::WrongPassphrase,
        Some(Unopened(number)) => BackupError::Damaged(*number),
        None => BackupError::File { path: file.to_owned(), source: error },
    }
}

/// Writes what is left of the backup `file` into the directory `store`.
fn restore_files(input: &mut impl Read, file: &Path, store: &Path) -> Result<(), BackupError> {
    let mut clear = LockedMemory::zeroed(CARRIED)?;
    while let Some((path, length)) = next_file(input).map_err(|error| opened(file, error))? {
        let path = store.join(path);
        let mut new = make_file(&path).map_err(at(&path))?;
        let mut left = length;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(CARRIED).min(CARRIED);
            let part = &mut clear.bytes_mut()[..part];
            input.read_exact(part).map_err(|error| opened(file, error))?;
            new.write_all(part).map_err(at(&path))?;
            left -= part.len() as u64;
        }
        new.sync_all().map_err(at(&path))?;
    }
    Ok(())
}

fn make_file(path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(domain_key::directory(path))?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
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
