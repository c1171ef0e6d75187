//! The operations on keys and aliases.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::crypto::random;
use crate::kms::{KeyName, KmsError};
use crate::limits;

use super::audit::{Call, date, key_metadata};
use super::call::{Found, Trail, metadata};
use super::caller::Caller;
use super::hsm::{HsmError, KeyId, MaterialId};
use super::keys::{KeyRecord, MaterialRecord, Origin, RotationType, StoredManager, StoredState};
use super::operation::Operation;
use super::rights::{NOTHING, On};
use super::store::{Change, Lookup};
use super::{Alias, Embedded, KeyMetadata, KeySpec, KeyUsage, Tag, aliases, refusal, tags};

/// A key that is to be made.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewKey<'a> {
    /// What it is for, in its maker's words.
    pub description: &'a str,
    /// The alias to make with it: `alias/NAME`.
    pub alias: Option<&'a str>,
    /// Its tags.
    pub tags: &'a [Tag],
    /// What kind of key.
    pub spec: KeySpec,
    /// What it is for; not needed where such keys are for one thing only.
    pub usage: Option<KeyUsage>,
    /// Where its material is to come from.
    pub origin: Origin,
    /// The text of its policy; the default one where `None`.
    pub policy: Option<&'a str>,
    /// Whether its policy may be one under which its maker cannot put another.
    pub bypass_lockout_check: bool,
}

impl<'a> NewKey<'a> {
    /// A symmetric key with a description and nothing else.
    pub fn described(description: &'a str) -> Self {
        Self { description, ..Self::default() }
    }
}

impl Embedded {
    /// CreateKey, and CreateAlias where `alias` is given (both or neither).
    ///
    /// # Errors
    /// As AWS.
    pub fn create_key<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        description: &str,
        alias: Option<&str>,
    ) -> Result<KeyMetadata, KmsError> {
        self.create(caller, &NewKey { alias, ..NewKey::described(description) })
    }

    /// CreateKey, and CreateAlias where the key is to have an alias (both or neither).
    ///
    /// # Errors
    /// As AWS.
    pub fn create<'a>(&self, caller: impl Into<Caller<'a>>, new: &NewKey<'_>) -> Result<KeyMetadata, KmsError> {
        let caller = caller.into();
        let (description, alias) = (new.description, new.alias);
        let mut parameters = vec![("description", Value::from(description))];
        if new.spec != KeySpec::Symmetric {
            parameters.push(("keySpec", new.spec.name().into()));
        }
        parameters.extend(new.usage.map(|usage| ("keyUsage", usage.name().into())));
        if new.origin != Origin::Kms {
            parameters.push(("origin", new.origin.name().into()));
        }
        let mut calls = vec![Call { caller, operation: Operation::CreateKey, key: None, context: None, parameters }];
        calls.extend(alias.map(|alias| on_alias(caller, Operation::CreateAlias, alias, None)));
        let ahead = self.key_ahead(&calls[0], new);
        self.change_together(&calls, |tables, trail| {
            judge_description(description)?;
            alias.map(|alias| self.judge_new_alias(tables, alias)).transpose()?;
            self.authorise(tables, &calls[0], "CreateKey", NOTHING)?;
            if !new.tags.is_empty() {
                self.authorise(tables, &calls[0], "TagResource", NOTHING)?;
            }
            let tags = tags::added(&BTreeMap::new(), new.tags)?;
            let key = self.make_key(tables, trail, StoredManager::Customer, new, tags, ahead?)?;
            if let Some(policy) = new.policy {
                self.judge_new_policy(tables, &calls[0], &key, (policy, new.bypass_lockout_check))?;
                tables.put_policy(key.id, policy)?;
            }
            if let Some(alias) = alias {
                self.make_alias(tables, trail, alias, key.id)?;
            }
            self.describe(tables, &key)
        })
    }

    /// DescribeKey.
    ///
    /// # Errors
    /// As AWS.
    pub fn describe_key<'a>(&self, caller: impl Into<Caller<'a>>, key: &KeyName) -> Result<KeyMetadata, KmsError> {
        let call = on_key(caller.into(), Operation::DescribeKey, key);
        let provided = self.provide_managed(&call, "DescribeKey", key);
        self.observe(&call, |view, trail| {
            provided?;
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            self.describe(view, &key)
        })
    }

    /// ListKeys, each described.
    ///
    /// # Errors
    /// As AWS.
    pub fn list_keys<'a>(&self, caller: impl Into<Caller<'a>>) -> Result<Vec<KeyMetadata>, KmsError> {
        let call = on_nothing(caller.into(), Operation::ListKeys);
        self.observe(&call, |view, _| {
            self.authorise(view, &call, "ListKeys", NOTHING)?;
            self.describe_all(view)
        })
    }

    /// Every key, described for whoever looks at the daemon as a whole: no call to the KMS, so it leaves no record.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn all_keys(&self) -> Result<Vec<KeyMetadata>, KmsError> {
        self.pass_time(self.now())?;
        self.describe_all(&self.store.view()?)
    }

    /// EnableKey.
    ///
    /// # Errors
    /// As AWS.
    pub fn enable_key<'a>(&self, caller: impl Into<Caller<'a>>, key: &KeyName) -> Result<KeyMetadata, KmsError> {
        self.change_key(&on_key(caller.into(), Operation::EnableKey, key), key, |record, _| {
            record.state = StoredState::Enabled;
            Ok(())
        })
    }

    /// DisableKey.
    ///
    /// # Errors
    /// As AWS.
    pub fn disable_key<'a>(&self, caller: impl Into<Caller<'a>>, key: &KeyName) -> Result<KeyMetadata, KmsError> {
        self.change_key(&on_key(caller.into(), Operation::DisableKey, key), key, |record, _| {
            record.state = StoredState::Disabled;
            Ok(())
        })
    }

    /// ScheduleKeyDeletion; 7 to 30 days.
    ///
    /// # Errors
    /// As AWS.
    pub fn schedule_key_deletion<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        days: u32,
    ) -> Result<KeyMetadata, KmsError> {
        let mut call = on_key(caller.into(), Operation::ScheduleKeyDeletion, key);
        call.parameters.push(("pendingWindowInDays", days.into()));
        self.change(&call, |tables, trail| {
            judge_window(days)?;
            let mut key = self.resolve_and_admit(tables, trail, &call, key)?;
            let window = SignedDuration::from_hours(24 * i64::from(days));
            let deletion_date = trail.now.saturating_add(window).map_err(|error| refusal::internal(&error))?;
            key.record.state = StoredState::PendingDeletion { deletion_date };
            tables.put_key(key.id, &key.record)?;
            trail.response.insert("keyState".to_owned(), "PendingDeletion".into());
            trail.response.insert("deletionDate".to_owned(), date(deletion_date));
            trail.response.insert("pendingWindowInDays".to_owned(), days.into());
            self.note_due(&key.record);
            self.describe(tables, &key)
        })
    }

    /// CancelKeyDeletion; the key is Disabled then, or PendingImport where material is missing.
    ///
    /// # Errors
    /// As AWS.
    pub fn cancel_key_deletion<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
    ) -> Result<KeyMetadata, KmsError> {
        self.change_key(&on_key(caller.into(), Operation::CancelKeyDeletion, key), key, |record, _| {
            let lacks_material = record.lacks_material();
            record.state = if lacks_material { StoredState::PendingImport } else { StoredState::Disabled };
            Ok(())
        })
    }

    /// UpdateKeyDescription.
    ///
    /// # Errors
    /// As AWS.
    pub fn update_key_description<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        description: &str,
    ) -> Result<KeyMetadata, KmsError> {
        let mut call = on_key(caller.into(), Operation::UpdateKeyDescription, key);
        call.parameters.push(("description", description.into()));
        self.change_key(&call, key, |record, _| {
            judge_description(description)?;
            description.clone_into(&mut record.description);
            Ok(())
        })
    }

    /// CreateAlias; `name` is `alias/NAME`.
    ///
    /// # Errors
    /// As AWS.
    pub fn create_alias<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        name: &str,
        target: &KeyName,
    ) -> Result<Alias, KmsError> {
        let call = on_alias(caller.into(), Operation::CreateAlias, name, Some(target));
        self.change(&call, |tables, trail| {
            aliases::judge(name)?;
            self.authorise(tables, &call, "CreateAlias", On::Other(&self.identity.arn(name)))?;
            let key = self.resolve_and_admit(tables, trail, &call, target)?;
            self.judge_new_alias(tables, name)?;
            self.make_alias(tables, trail, name, key.id)
        })
    }

    /// UpdateAlias.
    ///
    /// # Errors
    /// As AWS.
    pub fn update_alias<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        name: &str,
        target: &KeyName,
    ) -> Result<Alias, KmsError> {
        let call = on_alias(caller.into(), Operation::UpdateAlias, name, Some(target));
        self.change(&call, |tables, trail| {
            aliases::judge(name)?;
            let old = self.existing_alias(tables, trail, &call, name)?;
            let key = self.resolve_and_admit(tables, trail, &call, target)?;
            let kind = |key: &Found| (key.record.usage(), key.record.spec.pair().is_some());
            if kind(&old) != kind(&key) {
                return Err(refusal::other_kind(name));
            }
            self.point_alias(tables, name, key.id)
        })
    }

    /// DeleteAlias.
    ///
    /// # Errors
    /// As AWS.
    pub fn delete_alias<'a>(&self, caller: impl Into<Caller<'a>>, name: &str) -> Result<(), KmsError> {
        let call = on_alias(caller.into(), Operation::DeleteAlias, name, None);
        self.change(&call, |tables, trail| {
            aliases::judge(name)?;
            self.existing_alias(tables, trail, &call, name)?;
            Ok(tables.remove_alias(name)?)
        })
    }

    /// ListAliases.
    ///
    /// # Errors
    /// As AWS.
    pub fn list_aliases<'a>(&self, caller: impl Into<Caller<'a>>) -> Result<Vec<Alias>, KmsError> {
        let call = on_nothing(caller.into(), Operation::ListAliases);
        self.observe(&call, |view, _| {
            self.authorise(view, &call, "ListAliases", NOTHING)?;
            Ok(view.all_aliases()?.into_iter().map(|(name, key)| self.alias(name, key)).collect())
        })
    }

    /// A new enabled key with its first material, or one that waits for it, in the change `tables`.
    pub(super) fn make_key(
        &self,
        tables: &mut Change<'_>,
        trail: &mut Trail,
        manager: StoredManager,
        new: &NewKey<'_>,
        tags: BTreeMap<String, String>,
        ahead: Ahead,
    ) -> Result<Found, KmsError> {
        let usage = new.spec.usage_named(new.usage.map(KeyUsage::name))?;
        let id = ahead.key;
        let arn = self.identity.key_arn(id);
        trail.resources.push(arn.to_string());
        let (state, materials) = match ahead.material {
            None => (StoredState::PendingImport, Vec::new()),
            Some(made) => {
                (StoredState::Enabled, vec![keep_material(tables, id, made, trail.now, RotationType::default())?])
            }
        };
        let description = new.description.to_owned();
        let (spec, origin) = (new.spec, new.origin);
        let usage = spec.pair().map(|_| usage);
        let usual = KeyRecord::new(manager, trail.now);
        let record = KeyRecord { state, description, materials, tags, spec, usage, origin, ..usual };
        tables.put_key(id, &record)?;
        let key = Found { id, arn, record, facts: Vec::new() };
        let shown = key_metadata(&self.identity.account, &metadata(&key, Vec::new()), trail.now);
        trail.response.insert("keyMetadata".to_owned(), shown);
        Ok(key)
    }

    /// New material for a key of that kind, from the HSM.
    pub(super) fn new_token(&self, key: Uuid, spec: KeySpec) -> Result<(MaterialId, Vec<u8>), HsmError> {
        let (account, key) = (&self.identity.account, KeyId(key.into_bytes()));
        match (spec.digest(), spec.pair()) {
            (Some(digest), _) => self.hsm.new_mac_key(account, key, digest),
            (None, Some(pair)) => self.hsm.new_pair(account, key, pair),
            (None, None) => self.hsm.new_material(account, key).map(|(id, token)| (id, token.to_vec())),
        }
    }

    /// What is to be a key, should the call come to it.
    fn key_ahead(&self, call: &Call<'_>, new: &NewKey<'_>) -> Result<Ahead, KmsError> {
        judge_description(new.description)?;
        self.authorise(&self.store.view()?, call, "CreateKey", NOTHING)?;
        new.spec.usage_named(new.usage.map(KeyUsage::name))?;
        if new.spec.pair().is_some() && new.origin != Origin::Kms {
            return Err(refusal::pair_of_that_origin(new.origin.name(), new.spec));
        }
        self.ahead(new)
    }

    /// The id and the material of a key to be, which nothing stands for yet.
    pub(super) fn ahead(&self, new: &NewKey<'_>) -> Result<Ahead, KmsError> {
        let key = new_id();
        let material = match new.origin {
            Origin::External => None,
            Origin::Kms => Some(self.new_token(key, new.spec)?),
        };
        Ok(Ahead { key, material })
    }

    /// Resolves, admits, changes the record and writes it.
    pub(super) fn change_key(
        &self,
        call: &Call<'_>,
        key: &KeyName,
        change: impl FnOnce(&mut KeyRecord, &Trail) -> Result<(), KmsError>,
    ) -> Result<KeyMetadata, KmsError> {
        self.change(call, |tables, trail| {
            let mut key = self.resolve_and_admit(tables, trail, call, key)?;
            change(&mut key.record, trail)?;
            tables.put_key(key.id, &key.record)?;
            // Remembered too early where the change fails after all: then nothing is found to be due.
            self.note_due(&key.record);
            self.describe(tables, &key)
        })
    }

    fn make_alias(&self, tables: &mut Change<'_>, trail: &mut Trail, name: &str, key: Uuid) -> Result<Alias, KmsError> {
        trail.resources.push(self.identity.arn(name));
        self.point_alias(tables, name, key)
    }

    fn judge_new_alias(&self, tables: &impl Lookup, name: &str) -> Result<(), KmsError> {
        aliases::judge_new(name)?;
        match tables.alias(name)? {
            None => Ok(()),
            Some(_) => Err(refusal::alias_exists(&self.identity.arn(name))),
        }
    }

    fn point_alias(&self, tables: &mut Change<'_>, name: &str, key: Uuid) -> Result<Alias, KmsError> {
        let others = tables.all_aliases()?.into_iter().filter(|(other, target)| *target == key && other != name);
        if others.count() >= limits::ALIASES_PER_KEY_MAX {
            return Err(refusal::too_many_aliases(&self.identity.key_arn(key), limits::ALIASES_PER_KEY_MAX));
        }
        tables.put_alias(name, key)?;
        Ok(self.alias(name.to_owned(), key))
    }

    /// That the alias is there, and that the caller has the right on the key that it points to.
    fn existing_alias(
        &self,
        tables: &impl Lookup,
        trail: &mut Trail,
        call: &Call<'_>,
        name: &str,
    ) -> Result<Found, KmsError> {
        let arn = self.identity.arn(name);
        let target = tables.alias(name)?.ok_or_else(|| refusal::no_such_alias(&arn))?;
        trail.resources.push(arn.clone());
        trail.resources.push(self.identity.key_arn(target).to_string());
        let key =
            self.find(tables, target)?.ok_or_else(|| refusal::no_such_key(self.identity.key_arn(target).as_str()))?;
        self.authorise(tables, call, call.operation.name(), On::Other(&arn))?;
        self.authorise(tables, call, call.operation.name(), On::Key(&key))?;
        Ok(key)
    }

    pub(super) fn alias(&self, name: String, key: Uuid) -> Alias {
        Alias { arn: self.identity.arn(&name), name, target_key_id: key.to_string() }
    }
}

/// What was made before the change that stores it, for a key that is not there yet: nobody is to wait for the HSM who only
/// uses the store.
pub(super) struct Ahead {
    key: Uuid,
    /// `None` where it is to come from elsewhere.
    material: Option<(MaterialId, Vec<u8>)>,
}

fn new_id() -> Uuid {
    let mut bytes = [0; 16];
    random::fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

pub(super) fn keep_material(
    tables: &mut Change<'_>,
    key: Uuid,
    (id, token): (MaterialId, Vec<u8>),
    now: Timestamp,
    by: RotationType,
) -> Result<MaterialRecord, KmsError> {
    tables.put_token(key, id, &token)?;
    Ok(MaterialRecord { id, created: now, by, import: None })
}

pub(super) fn on_nothing(caller: Caller<'_>, operation: Operation) -> Call<'_> {
    Call { caller, operation, key: None, context: None, parameters: Vec::new() }
}

pub(super) fn on_key<'a>(caller: Caller<'a>, operation: Operation, key: &'a KeyName) -> Call<'a> {
    Call { caller, operation, key: Some(key.as_str()), context: None, parameters: Vec::new() }
}

fn on_alias<'a>(caller: Caller<'a>, operation: Operation, name: &str, target: Option<&KeyName>) -> Call<'a> {
    let mut parameters = vec![("aliasName", Value::from(name))];
    parameters.extend(target.map(|target| ("targetKeyId", Value::from(target.as_str()))));
    Call { caller, operation, key: None, context: None, parameters }
}

fn judge_description(description: &str) -> Result<(), KmsError> {
    if description.chars().count() <= limits::KEY_DESCRIPTION_MAX {
        return Ok(());
    }
    let constraint = format!("have length less than or equal to {}", limits::KEY_DESCRIPTION_MAX);
    Err(refusal::validation("description", None, &constraint))
}

fn judge_window(days: u32) -> Result<(), KmsError> {
    let (least, most) = (*limits::DELETION_WINDOW_DAYS.start(), *limits::DELETION_WINDOW_DAYS.end());
    judge_days("pendingWindowInDays", days, least, most)
}

/// Whether `days`, which the request calls `member`, lie between the two.
pub(super) fn judge_days(member: &str, days: u32, least: u32, most: u32) -> Result<(), KmsError> {
    let constraint = match days {
        days if days < least => format!("have value greater than or equal to {least}"),
        days if days > most => format!("have value less than or equal to {most}"),
        _ => return Ok(()),
    };
    Err(refusal::validation(member, Some(&days.to_string()), &constraint))
}
