//! Keys are of one region: each region but the KMS's own has a store of its own, made when somebody who has the right
//! first asks for it.
//!
//! They share the HSM, the clock, the audit log and what follows from it. Ids, ARNs and aliases of one region mean nothing in another. Whoever is
//! refused leaves a line in the log and no store.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::slice;

use crate::kms::KmsError;
use crate::limits;
use crate::sync::{Arc, Mutex};

use super::admin::on_nothing;
use super::call::Trail;
use super::caller::SignedRequest;
use super::operation::Operation;
use super::owned::FOLDER as OWNED_FOLDER;
use super::rights::NOTHING;
use super::{Embedded, Identity, OpenError, make_private, refusal, store};

/// Where the other regions lie, in the KMS's directory.
const FOLDER: &str = "regions";

/// The other regions that are open.
#[derive(Default)]
pub(super) struct Regions(Mutex<BTreeMap<String, Arc<Embedded>>>);

/// The name of a region: it stands in ARNs, and is that of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region(String);

impl Region {
    /// The region called `name`; `None` where none can be called so.
    pub fn named(name: &str) -> Option<Self> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let may_be = (1..=limits::REGION_NAME_MAX).contains(&name.len()) && name.bytes().all(letter);
        may_be.then(|| Self(name.to_owned()))
    }
}

/// Under which name the KMS of AWS's own keys is open; no region is called so.
const OWNED: &str = "/owned";

impl Regions {
    /// The KMS of AWS's own keys, opened by `open` where it is not.
    pub(super) fn owned<E>(&self, open: impl FnOnce() -> Result<Arc<Embedded>, E>) -> Result<Arc<Embedded>, E> {
        let mut known = self.0.lock();
        if let Some(owned) = known.get(OWNED) {
            return Ok(Arc::clone(owned));
        }
        let owned = open()?;
        known.insert(OWNED.to_owned(), Arc::clone(&owned));
        Ok(owned)
    }
}

impl Embedded {
    /// This account's KMS in `region`, for `request` to do `operation`: one that has no keys yet is made if the caller
    /// has the right to that.
    ///
    /// # Errors
    /// Where the caller has not, there are too many, or its store cannot be opened.
    pub fn in_region(
        self: &Arc<Self>,
        region: &Region,
        request: &SignedRequest,
        operation: &'static str,
    ) -> Result<Arc<Self>, KmsError> {
        if region.0 == self.identity.region {
            return Ok(Arc::clone(self));
        }
        let mut open = self.regions.0.lock();
        if let Some(known) = open.get(&region.0) {
            return Ok(Arc::clone(known));
        }
        let dir = self.dir.join(FOLDER).join(&region.0);
        if !store::exists(&dir).map_err(|error| refusal::internal(&error))? {
            let call = on_nothing(request.into(), Operation::named(operation));
            self.authorise(&self.store.view()?, &call, operation, NOTHING)?;
            self.make_place(&dir)?;
        }
        let opened = self.open_there(&dir, region).map_err(|error| refusal::internal(&error))?;
        open.insert(region.0.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    fn open_there(&self, dir: &Path, region: &Region) -> Result<Arc<Self>, OpenError> {
        Ok(Arc::new(self.beside(dir, self.identity_in(region))?))
    }

    /// Every KMS that lies in this one's directory: the other regions and AWS's own keys, whether they were asked for yet or
    /// not.
    pub(super) fn all_within(&self) -> Result<Vec<Arc<Self>>, OpenError> {
        let failed = |source| OpenError::Directory { path: self.dir.clone(), source };
        let mut all = Vec::new();
        for region in stored(&self.dir.join(FOLDER)).map_err(failed)? {
            let mut open = self.regions.0.lock();
            if let Some(known) = open.get(&region.0) {
                all.push(Arc::clone(known));
                continue;
            }
            let opened = self.open_there(&self.dir.join(FOLDER).join(&region.0), &region)?;
            open.insert(region.0.clone(), Arc::clone(&opened));
            all.push(opened);
        }
        if store::exists(&self.dir.join(OWNED_FOLDER)).map_err(failed)? {
            all.push(self.opened_owned()?);
        }
        Ok(all)
    }

    /// Leaves a line for a request to `region` that was refused before it came to a key.
    ///
    /// # Errors
    /// `refusal` itself, or why the line could not be written.
    pub fn refuse<T>(
        &self,
        region: &Region,
        request: &SignedRequest,
        operation: &'static str,
        refusal: KmsError,
    ) -> Result<T, KmsError> {
        let call = on_nothing(request.into(), Operation::named(operation));
        let trail = Trail::new(self.now(), Some(&call));
        let ticket = self.audit.record(&self.identity_in(region), slice::from_ref(&call), &trail, Some(&refusal));
        self.audit.wait(&ticket).map_err(|lost| refusal::internal(&lost))?;
        request.set_recorded();
        Err(refusal)
    }

    /// The directory of one region more.
    fn make_place(&self, dir: &Path) -> Result<(), KmsError> {
        let folder = self.dir.join(FOLDER);
        let internal = |error: io::Error| refusal::internal(&error);
        if stored(&folder).map_err(internal)?.len() >= limits::REGIONS_MAX {
            return Err(refusal::too_many_regions(limits::REGIONS_MAX));
        }
        make_private(&folder).and_then(|()| make_private(dir)).map_err(internal)
    }

    fn identity_in(&self, region: &Region) -> Identity {
        Identity { account: self.identity.account.clone(), region: region.0.clone() }
    }
}

/// The regions that have a store in `folder`.
fn stored(folder: &Path) -> io::Result<Vec<Region>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let Some(region) = name.to_str().and_then(Region::named) else { continue };
        if store::exists(&folder.join(&region.0))? {
            found.push(region);
        }
    }
    Ok(found)
}
