//! Keys are of one region: each region but the KMS's own has a store of its own, made when somebody first asks for it.
//!
//! They share the HSM, the clock and the audit log. Ids, ARNs and aliases of one region mean nothing in another.

use std::collections::BTreeMap;

use crate::kms::KmsError;
use crate::limits;
use crate::sync::{Arc, Mutex};

use super::{Embedded, Identity, make_private, refusal};

/// Where the other regions lie, in the KMS's directory.
const FOLDER: &str = "regions";

/// The other regions that are open.
#[derive(Default)]
pub(super) struct Regions(Mutex<BTreeMap<String, Arc<Embedded>>>);

/// Whether `name` may be a region's: it is in ARNs, and the name of a directory.
pub(super) fn is_region(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=limits::REGION_NAME_MAX).contains(&name.len()) && name.bytes().all(letter)
}

impl Embedded {
    /// This account's KMS in `region`; `None` where no region can be called so.
    ///
    /// # Errors
    /// Where its store cannot be opened, or there are too many.
    pub fn in_region(self: &Arc<Self>, region: &str) -> Result<Option<Arc<Self>>, KmsError> {
        if region == self.identity.region {
            return Ok(Some(Arc::clone(self)));
        }
        if !is_region(region) {
            return Ok(None);
        }
        let mut open = self.regions.0.lock();
        if let Some(known) = open.get(region) {
            return Ok(Some(Arc::clone(known)));
        }
        if open.len() >= limits::REGIONS_MAX {
            return Err(refusal::too_many_regions(limits::REGIONS_MAX));
        }
        let dir = self.dir.join(FOLDER).join(region);
        make_private(&self.dir.join(FOLDER)).and_then(|()| make_private(&dir)).map_err(|e| refusal::internal(&e))?;
        let identity = Identity { account: self.identity.account.clone(), region: region.to_owned() };
        let (hsm, audit) = (Arc::clone(&self.hsm), Arc::clone(&self.audit));
        let opened = Self::in_place(&dir, hsm, audit, identity, Arc::clone(&self.clock));
        let opened = Arc::new(opened.map_err(|error| refusal::internal(&error))?);
        open.insert(region.to_owned(), Arc::clone(&opened));
        Ok(Some(opened))
    }
}
