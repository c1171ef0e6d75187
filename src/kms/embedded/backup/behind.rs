//! The domain key of a store moved from its file behind a passphrase: the same key, so that nothing of the store changes.
//!
//! The file is overwritten once what opens the key is on disk, was read back, and has opened it with the passphrase as it is read
//! a second time: at each moment one of the two is there, and what was interrupted is done again from the start. A passphrase
//! that can be read once only is refused: nobody could say whether it was the one that was meant.

use std::fs::File;
use std::io;
use std::path::Path;

use super::{BackupError, at, check_value};
use crate::kms::embedded::domain_key::{self, DomainKeyError};
use crate::kms::embedded::hsm::{self, DomainKeySource, NamedBy};
use crate::kms::embedded::passphrase::{self, Recipe};
use crate::kms::embedded::store;
use crate::secret::Secret;
use crate::sys::owner::Owner;

/// Moves the domain key in `file`, which opens the store in `store`, both `owner`'s, behind the passphrase that `from` holds:
/// it lies sealed in `sealed` then.
///
/// # Errors
/// [`BackupError`]: the file is still there; where it is that file that failed, it may be overwritten already, and what opens the
/// key lies sealed beside it.
pub(crate) fn move_behind(
    from: &Path,
    (file, sealed): (&Path, &Path),
    store: &Path,
    owner: Owner,
) -> Result<(), BackupError> {
    let source = DomainKeySource::File { path: file.to_owned(), store: store.to_owned() };
    let domain_key = hsm::read_domain_key((&source, NamedBy::Daemon), owner)?;
    let mut given = open(from, owner)?;
    let wrong = |source| DomainKeyError::Passphrase { path: from.to_owned(), source };
    let opens = |key: &Secret<32>| {
        let check_value = check_value(key)?;
        owner.act(|| store::judge_domain_key(store, &check_value)).map_err(BackupError::from)
    };
    // What a process that was killed has overwritten: only its removal is missing.
    if *domain_key.expose() == [0; 32] {
        let recipe = owner.act(|| passphrase::recipe(sealed, false))?;
        opens(&recipe.domain_key(&mut given).map_err(wrong)?)?;
    } else {
        opens(&domain_key)?;
        let recipe = Recipe::sealing(&domain_key, &mut given).map_err(wrong)?;
        let kept = owner.act(|| keep(&recipe, sealed))?;
        opens(&kept.domain_key(&mut open(from, owner)?).map_err(wrong)?)?;
    }
    let removed = owner.act(|| domain_key::destroy(file));
    removed.map_err(|source| BackupError::NotRemoved { path: file.to_owned(), source })
}

/// Opens the passphrase's file: one that the daemon can read again, as this does.
fn open(from: &Path, owner: Owner) -> Result<File, BackupError> {
    let file = passphrase::open(from, owner.user())?;
    let lasts = file.metadata().map_err(at(from))?.is_file();
    if lasts { Ok(file) } else { Err(BackupError::ReadOnce(from.to_owned())) }
}

/// Writes `recipe` durably, and sees that it is what is read again.
fn keep(recipe: &Recipe, sealed: &Path) -> Result<Recipe, BackupError> {
    recipe.replace(sealed).map_err(at(sealed))?;
    let read = passphrase::recipe(sealed, false)?;
    if read == *recipe { Ok(read) } else { Err(at(sealed)(io::ErrorKind::InvalidData.into())) }
}
