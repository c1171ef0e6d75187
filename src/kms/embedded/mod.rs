//! The embedded KMS: AWS KMS's semantics in this process, its root keys behind the boundary of `hsm`, in another
//! process where it is the daemon's, its store durable.
//!
//! A request goes through, in this order: its own validity, the key that it names, the caller's right, the key's
//! state, the work. `call` is the one path that all of them take; `admin`, `rotation`, `tags` and `lists` have the
//! operations on keys and aliases, `usage` those that use a key. Exceptions carry AWS's names and texts (`refusal`). Nothing is acknowledged before
//! it is durable (`store`) and in the audit log (`audit`). Here is what callers see, and how the parts are opened
//! together.

mod access_keys;
mod admin;
mod aliases;
mod audit;
pub mod backup;
mod blob;
mod call;
mod caller;
mod data_key_pair;
mod domain_key;
mod grants;
pub mod hsm;
mod import;
mod key_policy;
mod keys;
mod last_use;
mod lists;
mod mac;
mod operation;
mod owned;
mod pair;
mod passphrase;
mod past;
mod re_encryption;
mod refusal;
mod regions;
mod rights;
mod rotation;
mod spec;
mod store;
mod tags;
mod usage;
mod verify_key;
mod zeroize;

pub use access_keys::{AccessKey, NewAccessKey};
pub use admin::NewKey;
pub use audit::{AuditFilter, AuditRecords};
pub use caller::{Caller, SignedRequest};
pub use data_key_pair::{DataKeyPair, NewDataKeyPair};
pub use domain_key::DomainKeyError;
pub use grants::{Grant, GrantConstraint, NewGrant, RetiredGrant, Shown};
pub use import::{ImportParameters, ImportType, KeyMaterial};
pub use keys::Origin;
pub use last_use::{KeyLastUsage, LastUse};
pub use lists::{Page, PageOf};
pub use owned::{OWNED_ACCOUNT, Owned};
pub use pair::{MessageType, PublicKey, Signed};
pub use passphrase::PassphraseError;
pub use re_encryption::{ReEncryptedPair, Ways};
pub(in crate::kms) use refusal::throttled;
pub use regions::Region;
pub use rights::explain::{AskedRight, Explained};
pub use rights::identities::BadIdentities;
pub use rights::sessions::{AskedRole, Assumed, Session};
pub use rotation::{RotationEntry, RotationStatus};
pub use spec::{KeySpec, KeyUsage};
pub use store::StoreError;
pub use tags::Tag;
pub use usage::{ClearDataKey, Decrypted, Plaintext, ReEncrypted, ReEncryption, Sealed};

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::{KeyArn, KmsError};
use crate::sync::{Arc, Mutex, RwLock};
use crate::sys::locked::LockingFailed;
use audit::AuditLog;
use hsm::{Hsm, HsmError};
use last_use::LastUses;
use past::Past;
use regions::Regions;
use rights::Rights;
use store::Store;

/// Tells the time; another one in tests.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Whose keys these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Twelve digits.
    pub account: String,
    /// Such as `us-east-1`.
    pub region: String,
}

/// `CUSTOMER` or `AWS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Made by somebody.
    Customer,
    /// Made on first use; cannot be disabled or deleted.
    Aws,
}

/// A key's state, spelled as AWS does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// `Enabled`
    Enabled,
    /// `Disabled`
    Disabled,
    /// `PendingDeletion`
    PendingDeletion,
    /// `PendingImport`
    PendingImport,
}

impl Manager {
    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "CUSTOMER",
            Self::Aws => "AWS",
        }
    }
}

impl KeyState {
    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingDeletion => "PendingDeletion",
            Self::PendingImport => "PendingImport",
        }
    }
}

/// What DescribeKey says, and a little more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMetadata {
    /// A UUID.
    pub key_id: String,
    /// Its ARN.
    pub arn: KeyArn,
    /// Its state.
    pub state: KeyState,
    /// Whose it is.
    pub manager: Manager,
    /// What its maker wrote.
    pub description: String,
    /// When it was made.
    pub created: SystemTime,
    /// When it will be gone, while pending deletion.
    pub deletion_date: Option<SystemTime>,
    /// Rotations so far.
    pub rotations: u32,
    /// The days between two automatic rotations and the date of the next one, where they are on.
    pub automatic_rotation: Option<(u32, SystemTime)>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Where its material comes from.
    pub origin: Origin,
    /// Of a key whose current material was imported and is there: when it expires, if it does.
    pub imported: Option<Option<SystemTime>>,
    /// The id of the current material, 64 hex digits; empty before any was imported, and of key pairs.
    pub current_key_material_id: String,
    /// What kind of key it is.
    pub spec: KeySpec,
    /// What it is for.
    pub usage: KeyUsage,
    /// Its aliases, `alias/NAME`.
    pub aliases: Vec<String>,
}

/// An alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// `alias/NAME`
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The key it points to.
    pub target_key_id: String,
}

/// How the HSM part does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HsmState {
    /// It answers.
    Running {
        /// Its process id; `None` where it is no process of its own.
        pid: Option<u32>,
    },
    /// There is none, until somebody has it initialised.
    Zeroized,
    /// There is none, and why.
    Failed(String),
}

/// The store, the domain key or the log cannot be used; not an answer to a caller.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or used.
    #[error("the directory {path} of the embedded KMS failed")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// There is no domain key to be used.
    #[error(transparent)]
    DomainKey(#[from] DomainKeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error("the audit log of the embedded KMS failed")]
    AuditLog(#[source] io::Error),
    /// The identities in the store.
    #[error("the identities of the embedded KMS cannot be read")]
    Identities(#[source] KmsError),
    /// The HSM part.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// No locked memory for keys.
    #[error(transparent)]
    NoLockedMemory(#[from] LockingFailed),
}

/// The embedded KMS, in one region.
pub struct Embedded {
    store: Arc<Store>,
    hsm: Arc<hsm::Client>,
    audit: Arc<AuditLog>,
    identity: Identity,
    clock: Clock,
    /// Shared by calls that read, held alone by one that changes something, until its line has its place in the log.
    order: RwLock<()>,
    /// When the next key goes or is rotated, or earlier; later only while a rotation waits for the HSM.
    next_due: Mutex<Option<Timestamp>>,
    /// What each key was last used for, in whatever region.
    last_uses: Arc<LastUses>,
    /// Where the store lies.
    dir: PathBuf,
    /// The same account in other regions, as far as they have been asked for.
    regions: Regions,
    /// Changes that signed requests do not see yet.
    past: Past,
    /// Identities, and policies that were read before.
    rights: Arc<Rights>,
}

impl Embedded {
    /// Opens the store in `dir` (made if absent), with the domain key in the 0600 file `domain_key` (made on first
    /// use).
    ///
    /// # Errors
    /// Where store, key or log cannot be opened, or do not belong together.
    pub fn open(dir: &Path, domain_key: &Path, identity: Identity, clock: Clock) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory { path: dir.to_owned(), source };
        make_private(dir).map_err(failed)?;
        let first_use = !store::exists(dir).map_err(failed)?;
        let domain_key = domain_key::load(domain_key, dir, first_use)?;
        let hsm = hsm::Client::in_process(Hsm::new(domain_key)?);
        Self::with_hsm(dir, hsm, identity, clock)
    }

    /// Opens the store in `dir` (made if absent), with the HSM that `hsm` leads to.
    ///
    /// # Errors
    /// Where store, log or HSM cannot be used, or do not belong together.
    pub fn with_hsm(dir: &Path, hsm: hsm::Client, identity: Identity, clock: Clock) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory { path: dir.to_owned(), source };
        make_private(dir).map_err(failed)?;
        hsm.allow_new_domain_key(!store::exists(dir).map_err(failed)?);
        if zeroize::is_zeroized(dir).map_err(failed)? {
            hsm.stay_zeroized();
        }
        let now = Timestamp::try_from(clock()).expect("the clock shows a year of four digits");
        let audit = Arc::new(AuditLog::open(dir, &identity, now).map_err(OpenError::AuditLog)?);
        let store = open_store(dir, &hsm, &identity)?;
        let last_uses = Arc::new(LastUses::load(Arc::clone(&store), &audit)?);
        let next_due = Mutex::new(call::next_due(&store.view()?)?);
        let rights = Arc::new(Rights::load(&store.view()?).map_err(OpenError::Identities)?);
        let (dir, order, regions) = (dir.to_owned(), RwLock::new(()), Regions::default());
        let (hsm, past) = (Arc::new(hsm), Past::default());
        Ok(Self { store, hsm, audit, identity, clock, order, next_due, last_uses, dir, regions, past, rights })
    }

    /// The same, in which a change is seen by signed requests only after `delay`: a rehearsal of AWS's eventual consistency.
    #[must_use]
    pub fn with_consistency_delay(self, delay: Duration) -> Self {
        Self { past: Past::of(delay), ..self }
    }

    /// Opens the store of the same KMS in `dir`, which is there, with other keys.
    fn beside(&self, dir: &Path, identity: Identity) -> Result<Self, OpenError> {
        let store = open_store(dir, &self.hsm, &identity)?;
        let next_due = Mutex::new(call::next_due(&store.view()?)?);
        Ok(Self {
            store,
            hsm: Arc::clone(&self.hsm),
            audit: Arc::clone(&self.audit),
            identity,
            clock: Arc::clone(&self.clock),
            order: RwLock::new(()),
            next_due,
            last_uses: Arc::clone(&self.last_uses),
            dir: dir.to_owned(),
            regions: Regions::default(),
            past: Past::of(self.past.delay()),
            rights: Arc::clone(&self.rights),
        })
    }

    /// The time, by this KMS's clock.
    pub fn time(&self) -> SystemTime {
        (self.clock)()
    }

    /// How the HSM part does, which is asked for it; started again, where it has died.
    pub fn hsm_state(&self) -> HsmState {
        match self.hsm.check_value() {
            Ok(_) => HsmState::Running { pid: self.hsm.pid() },
            Err(HsmError::Zeroized) => HsmState::Zeroized,
            Err(error) => HsmState::Failed(refusal::chain(&error)),
        }
    }

    /// Whose keys these are.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl From<StoreError> for KmsError {
    fn from(error: StoreError) -> Self {
        refusal::internal(&error)
    }
}

/// Opens the store in `dir`, whose domain key the HSM must have.
fn open_store(dir: &Path, hsm: &hsm::Client, identity: &Identity) -> Result<Arc<Store>, OpenError> {
    let check_value = match hsm.check_value() {
        Err(HsmError::Zeroized) => None,
        outcome => Some(outcome?),
    };
    let store = Store::open(dir, identity, check_value.as_ref())?;
    hsm.expect(store.check_value()?);
    Ok(Arc::new(store))
}

fn make_private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // A directory that is new must outlive a power cut as surely as the key that is made in it.
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}
