//! The HSM part zeroized, and initialised again.
//!
//! Zeroized, there is no HSM: its process was killed, its memory is gone with it, and no other starts, over restarts too,
//! until somebody says so. A domain key that lies in a file of ours is destroyed with it; a credential or a passphrase is
//! not ours to destroy. Keys can still be looked at. Initialising reads the domain key from where it came from before,
//! where it has to be put back first if it was destroyed.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::kms::{KmsError, Principal};

use super::access_keys::judge_right;
use super::admin::on_nothing;
use super::hsm::HsmError;
use super::operation::Operation;
use super::{Embedded, refusal, store};

/// In the store's directory, for as long as the HSM is zeroized.
const MARK: &str = "zeroized";

/// Neither was the domain key destroyed nor is it on the disk that there is to be no HSM.
#[derive(Debug, thiserror::Error)]
#[error("{}; nor could it be noted that no HSM is to start again: {mark}", refusal::chain(hsm))]
struct NothingLasts {
    hsm: HsmError,
    mark: io::Error,
}

/// Whether the HSM of the store in `dir` was zeroized. What there is no store for was not.
pub(super) fn is_zeroized(dir: &Path) -> io::Result<bool> {
    Ok(store::exists(dir)? && mark(dir).try_exists()?)
}

impl Embedded {
    /// Ends the HSM and leaves no clear key behind; a domain key that lies in a file is destroyed. Nothing that is sealed
    /// can be opened from here on, until [`Embedded::initialise`].
    ///
    /// # Errors
    /// Where the caller is not root, or something stays behind: the text says what. The HSM is gone even then.
    pub fn zeroize(&self, caller: &Principal) -> Result<(), KmsError> {
        let call = on_nothing(caller.into(), Operation::ZeroizeHsm);
        if judge_right(&call).is_ok() {
            // Whoever waits for the HSM would be waited for by what comes alone.
            self.hsm.halt();
        }
        self.change_itself(&call, || {
            judge_right(&call)?;
            // The HSM first: whatever the disk does, it must not live on.
            match (self.hsm.zeroize(), set_mark(&self.dir)) {
                (Ok(()), Ok(())) => Ok(()),
                (Err(hsm), Ok(())) => Err(hsm.into()),
                (Ok(()), Err(mark)) => Err(refusal::internal(&mark)),
                (Err(hsm), Err(mark)) => Err(refusal::internal(&NothingLasts { hsm, mark })),
            }
        })
    }

    /// Has the domain key read again, after which everything is as it was. Where the HSM was not zeroized, this changes
    /// nothing.
    ///
    /// # Errors
    /// Where the caller is not root, the domain key is not there, it is not the one of this store, or the disk fails. The HSM
    /// is zeroized then as before.
    pub fn initialise(&self, caller: &Principal) -> Result<(), KmsError> {
        let call = on_nothing(caller.into(), Operation::InitialiseHsm);
        self.change_itself(&call, || {
            judge_right(&call)?;
            self.hsm.initialise()?;
            if let Err(error) = remove_mark(&self.dir) {
                // As after the next start.
                self.hsm.stay_zeroized();
                return Err(refusal::internal(&error));
            }
            // Rotations may have waited.
            *self.next_due.lock() = Some(self.now());
            Ok(())
        })
    }
}

/// Marks the copy in `to` if the store in `from` is marked.
pub(super) fn carry_mark(from: &Path, to: &Path) -> io::Result<()> {
    if is_zeroized(from)? { set_mark(to) } else { Ok(()) }
}

fn mark(dir: &Path) -> PathBuf {
    dir.join(MARK)
}

fn set_mark(dir: &Path) -> io::Result<()> {
    File::create(mark(dir))?.sync_all()?;
    File::open(dir)?.sync_all()
}

fn remove_mark(dir: &Path) -> io::Result<()> {
    match fs::remove_file(mark(dir)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        // It may have gone before, when the sync failed.
        _ => File::open(dir)?.sync_all(),
    }
}
