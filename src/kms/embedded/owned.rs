//! Keys that AWS owns: of an account that is nobody's here, so that no list shows them, no name reaches them, and the
//! customer's audit log has no line of them.
//!
//! They are a KMS of their own beside the customer's, with a store and a log of its own (the service's), behind the same
//! HSM. The only door to it is the daemon's, for volumes; it has one key, made on first use, which is rotated every year
//! and which nobody can disable. It is opened when it is first asked for.

use std::path::PathBuf;

use crate::kms::{
    DataKey, DecryptedKey, EncryptionContext, GeneratedKey, KeyArn, KeyName, Kms, KmsError, Principal, WrappedKey,
};
use crate::sync::{Arc, Mutex, RwLock};

use super::audit::AuditLog;
use super::last_use::LastUses;
use super::past::Past;
use super::regions::Regions;
use super::{Embedded, Identity, OpenError, call, make_private, open_store, refusal};

/// The account in their ARNs, as in those of AWS's own policies.
pub const OWNED_ACCOUNT: &str = "aws";

/// Where they lie, in the KMS's directory.
pub(super) const FOLDER: &str = "owned";

/// The KMS whose keys AWS owns, behind the customer's.
pub struct Owned(Arc<Embedded>);

impl Owned {
    /// The one beside `customer`.
    pub fn beside(customer: Arc<Embedded>) -> Self {
        Self(customer)
    }
}

impl Embedded {
    /// The KMS beside this one whose keys AWS owns.
    ///
    /// # Errors
    /// Where its store cannot be opened, or made while the HSM is zeroized.
    pub fn owned(&self) -> Result<Arc<Self>, KmsError> {
        self.opened_owned().map_err(|error| refusal::internal(&error))
    }

    pub(super) fn opened_owned(&self) -> Result<Arc<Self>, OpenError> {
        self.regions.owned(|| self.open_owned().map(Arc::new))
    }

    fn open_owned(&self) -> Result<Self, OpenError> {
        let dir: PathBuf = self.dir.join(FOLDER);
        make_private(&dir).map_err(|source| OpenError::Directory { path: dir.clone(), source })?;
        let identity = Identity { account: OWNED_ACCOUNT.to_owned(), region: self.identity.region.clone() };
        let audit = Arc::new(AuditLog::open(&dir, &identity, self.now()).map_err(OpenError::AuditLog)?);
        let store = open_store(&dir, &self.hsm, &identity)?;
        let last_uses = Arc::new(LastUses::load(Arc::clone(&store), &audit)?);
        let next_due = call::next_due(&store.view()?)?;
        Ok(Self {
            store,
            hsm: Arc::clone(&self.hsm),
            audit,
            identity,
            clock: Arc::clone(&self.clock),
            order: RwLock::new(()),
            next_due: Mutex::new(next_due),
            last_uses,
            dir,
            regions: Regions::default(),
            past: Past::default(),
            rights: Arc::default(),
        })
    }
}

impl Kms for Owned {
    fn generate_data_key_without_plaintext(
        &self,
        caller: &Principal,
        key: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        self.0.owned()?.generate_data_key_without_plaintext(caller, key, context)
    }

    fn decrypt(
        &self,
        caller: &Principal,
        key: &KeyArn,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError> {
        self.0.owned()?.decrypt(caller, key, wrapped, context)
    }

    fn re_encrypt(
        &self,
        caller: &Principal,
        sealed: (&KeyArn, &WrappedKey),
        to: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let owned = self.0.owned()?;
        Kms::re_encrypt(&*owned, caller, sealed, to, context)
    }

    fn encrypt(
        &self,
        caller: &Principal,
        key: &KeyName,
        data_key: &Arc<DataKey>,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let owned = self.0.owned()?;
        Kms::encrypt(&*owned, caller, key, data_key, context)
    }
}
