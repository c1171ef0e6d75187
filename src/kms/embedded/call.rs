//! The one path that every call takes, whatever it asks: admitted here, and written into the audit log here.
//!
//! A call that only reads sees a snapshot and runs beside others; one that changes something runs alone. The line in
//! the log is written before the next change may begin, so lines stand in the order of effect, and once a DisableKey
//! has returned no Decrypt under that key succeeds. A call whose line cannot be written gets no answer.

use std::collections::HashMap;
use std::slice;

use jiff::Timestamp;
use uuid::Uuid;

use crate::kms::{KeyArn, KeyName, KmsError, Principal};

use super::audit::Call;
use super::keys::{KeyRecord, Named, Operation, StoredManager, permit};
use super::store::{Change, Lookup, StoreError, View};
use super::{Embedded, KeyMetadata, aliases, refusal};

/// Who does what time alone brings about.
const SERVICE: &str = "kms.amazonaws.com";

/// What is learnt about a call while it is carried out.
pub(super) struct Trail {
    /// When it began.
    pub(super) now: Timestamp,
    /// ARNs of the keys and aliases that it turned out to be about.
    pub(super) resources: Vec<String>,
}

/// A key that exists.
pub(super) struct Found {
    pub(super) id: Uuid,
    pub(super) arn: KeyArn,
    pub(super) record: KeyRecord,
}

impl Embedded {
    /// Carries out a call that changes nothing.
    pub(super) fn observe<T>(
        &self,
        call: &Call<'_>,
        work: impl FnOnce(&View, &mut Trail) -> Result<T, KmsError>,
    ) -> Result<T, KmsError> {
        let now = self.now();
        let expired = self.expire(now);
        let _others_may_read = self.order.read();
        self.answer(slice::from_ref(call), now, |trail| {
            expired?;
            work(&self.store.view()?, trail)
        })
    }

    /// Carries out a call that changes something: durable when it returns `Ok`.
    pub(super) fn change<T>(
        &self,
        call: &Call<'_>,
        work: impl FnOnce(&mut Change<'_>, &mut Trail) -> Result<T, KmsError>,
    ) -> Result<T, KmsError> {
        self.change_together(slice::from_ref(call), work)
    }

    /// Carries out calls that take effect together or not at all.
    pub(super) fn change_together<T>(
        &self,
        calls: &[Call<'_>],
        work: impl FnOnce(&mut Change<'_>, &mut Trail) -> Result<T, KmsError>,
    ) -> Result<T, KmsError> {
        let now = self.now();
        let expired = self.expire(now);
        let _alone = self.order.write();
        self.answer(calls, now, |trail| {
            expired?;
            self.store.change(|tables| work(tables, trail))
        })
    }

    /// Does the work and leaves a line for each call; every call ends here.
    fn answer<T>(
        &self,
        calls: &[Call<'_>],
        now: Timestamp,
        work: impl FnOnce(&mut Trail) -> Result<T, KmsError>,
    ) -> Result<T, KmsError> {
        let mut trail = Trail { now, resources: Vec::new() };
        let outcome = work(&mut trail);
        let failure = outcome.as_ref().err();
        calls
            .iter()
            .try_for_each(|call| self.audit.record(&self.identity, now, call, &trail.resources, failure))
            .map_err(|error| refusal::internal(&error))?;
        outcome
    }

    /// Finds the key that `name` means.
    pub(super) fn resolve(&self, tables: &impl Lookup, name: &str) -> Result<Found, KmsError> {
        let id = match self.identity.read_name(name)? {
            Named::Key(id) => id,
            Named::Alias(alias) => {
                tables.alias(&alias)?.ok_or_else(|| refusal::no_such_alias(&self.identity.arn(&alias)))?
            }
        };
        self.find(tables, id)?.ok_or_else(|| refusal::no_such_key(self.identity.key_arn(id).as_str()))
    }

    /// The key with that id.
    pub(super) fn find(&self, tables: &impl Lookup, id: Uuid) -> Result<Option<Found>, KmsError> {
        Ok(tables.key(id)?.map(|record| Found { id, arn: self.identity.key_arn(id), record }))
    }

    /// Whether the call may be done to `key`: first by right, then by the key's state.
    pub(super) fn admit(&self, trail: &mut Trail, call: &Call<'_>, key: &Found) -> Result<(), KmsError> {
        trail.resources.push(key.arn.to_string());
        authorise(call, key)?;
        permit(call.operation, key.record.state.into(), &key.arn)
    }

    /// [`Embedded::resolve`], then [`Embedded::admit`].
    pub(super) fn resolve_and_admit(
        &self,
        tables: &impl Lookup,
        trail: &mut Trail,
        call: &Call<'_>,
        name: &KeyName,
    ) -> Result<Found, KmsError> {
        let key = self.resolve(tables, name.as_str())?;
        self.admit(trail, call, &key)?;
        Ok(key)
    }

    /// What DescribeKey says of `key`.
    pub(super) fn describe(&self, tables: &impl Lookup, key: &Found) -> Result<KeyMetadata, KmsError> {
        let aliases = tables.all_aliases()?.into_iter().filter(|(_, id)| *id == key.id).map(|(name, _)| name);
        Ok(metadata(key, aliases.collect()))
    }

    /// What DescribeKey says of every key.
    pub(super) fn describe_all(&self, tables: &impl Lookup) -> Result<Vec<KeyMetadata>, KmsError> {
        let mut names: HashMap<Uuid, Vec<String>> = HashMap::new();
        for (name, id) in tables.all_aliases()? {
            names.entry(id).or_default().push(name);
        }
        let described = tables.all_keys()?.into_iter().map(|(id, record)| {
            let aliases = names.remove(&id).unwrap_or_default();
            metadata(&Found { id, arn: self.identity.key_arn(id), record }, aliases)
        });
        Ok(described.collect())
    }

    /// Makes the managed key where `name` means it and it does not exist.
    pub(super) fn provide_managed(&self, caller: &Principal, name: &KeyName) -> Result<(), KmsError> {
        let named = self.identity.read_name(name.as_str());
        if named != Ok(Named::Alias(aliases::EBS.to_owned())) || self.store.view()?.alias(aliases::EBS)?.is_some() {
            return Ok(());
        }
        let call = Call { caller, operation: Operation::CreateKey, key: None, context: None, parameters: Vec::new() };
        self.change(&call, |tables, trail| {
            // Another caller may have been first.
            if tables.alias(aliases::EBS)?.is_none() {
                let description = "Default key that protects my EBS volumes when no other key is defined";
                let key = self.make_key(tables, trail, StoredManager::Aws, description)?;
                tables.put_alias(aliases::EBS, key.id)?;
            }
            Ok(())
        })
    }

    /// Removes the keys whose deletion date has come.
    pub(super) fn expire(&self, now: Timestamp) -> Result<(), KmsError> {
        if self.next_deletion.lock().is_none_or(|due| due > now) {
            return Ok(());
        }
        let _alone = self.order.write();
        let (gone, next) = self.store.change(|tables| {
            let mut gone = Vec::new();
            let mut next: Option<Timestamp> = None;
            for (id, due) in deletions(tables)? {
                if due <= now {
                    tables.remove_key(id)?;
                    gone.push(id);
                } else {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
            }
            Ok::<_, StoreError>((gone, next))
        })?;
        *self.next_deletion.lock() = next;
        gone.into_iter().try_for_each(|id| self.record_deletion(now, id))
    }

    fn record_deletion(&self, now: Timestamp, id: Uuid) -> Result<(), KmsError> {
        let caller = Principal::new(SERVICE);
        let call =
            Call { caller: &caller, operation: Operation::DeleteKey, key: None, context: None, parameters: Vec::new() };
        self.answer(slice::from_ref(&call), now, |trail| {
            trail.resources.push(self.identity.key_arn(id).to_string());
            Ok(())
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp::try_from((self.clock)()).expect("the clock shows a year of four digits")
    }
}

/// The earliest date on which a key goes.
pub(super) fn next_deletion(tables: &impl Lookup) -> Result<Option<Timestamp>, StoreError> {
    Ok(deletions(tables)?.into_iter().map(|(_, due)| due).min())
}

fn deletions(tables: &impl Lookup) -> Result<Vec<(Uuid, Timestamp)>, StoreError> {
    let keys = tables.all_keys()?.into_iter();
    Ok(keys.filter_map(|(id, record)| record.deletion_date().map(|due| (id, due))).collect())
}

/// Whether the caller has the right. A key managed for EBS may be used and looked at, and nobody may change it; on
/// all other keys whoever may call the KMS has every right.
fn authorise(call: &Call<'_>, key: &Found) -> Result<(), KmsError> {
    let changes_key = !call.operation.is_read_only();
    if changes_key && key.record.manager == StoredManager::Aws {
        return Err(refusal::access_denied(call.caller, call.operation));
    }
    Ok(())
}

fn metadata(key: &Found, aliases: Vec<String>) -> KeyMetadata {
    KeyMetadata {
        key_id: key.id.to_string(),
        arn: key.arn.clone(),
        state: key.record.state.into(),
        manager: key.record.manager.into(),
        description: key.record.description.clone(),
        created: key.record.created.into(),
        deletion_date: key.record.deletion_date().map(Into::into),
        rotations: u32::try_from(key.record.rotations()).expect("rotations are limited"),
        current_key_material_id: key.record.current().id.to_string(),
        aliases,
    }
}
