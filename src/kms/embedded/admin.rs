//! The operations on keys and aliases.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::crypto::random;
use crate::kms::{KeyName, KmsError, Principal};
use crate::limits;

use super::audit::Call;
use super::call::{Found, Trail};
use super::hsm::KeyId;
use super::keys::{KeyRecord, MaterialRecord, Operation, StoredManager, StoredState};
use super::store::{Change, Lookup};
use super::{Alias, Embedded, KeyMetadata, aliases, refusal};

impl Embedded {
    /// CreateKey, and CreateAlias where `alias` is given (both or neither).
    ///
    /// # Errors
    /// As AWS.
    pub fn create_key(
        &self,
        caller: &Principal,
        description: &str,
        alias: Option<&str>,
    ) -> Result<KeyMetadata, KmsError> {
        let parameters = vec![("description", Value::from(description))];
        let mut calls = vec![Call { caller, operation: Operation::CreateKey, key: None, context: None, parameters }];
        calls.extend(alias.map(|alias| on_alias(caller, Operation::CreateAlias, alias, None)));
        self.change_together(&calls, |tables, trail| {
            judge_description(description)?;
            alias.map(|alias| self.judge_new_alias(tables, alias)).transpose()?;
            let key = self.make_key(tables, trail, StoredManager::Customer, description)?;
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
    pub fn describe_key(&self, caller: &Principal, key: &KeyName) -> Result<KeyMetadata, KmsError> {
        let provided = self.provide_managed(caller, key);
        let call = on_key(caller, Operation::DescribeKey, key);
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
    pub fn list_keys(&self, caller: &Principal) -> Result<Vec<KeyMetadata>, KmsError> {
        let call = on_nothing(caller, Operation::ListKeys);
        self.observe(&call, |view, _| self.describe_all(view))
    }

    /// EnableKey.
    ///
    /// # Errors
    /// As AWS.
    pub fn enable_key(&self, caller: &Principal, key: &KeyName) -> Result<KeyMetadata, KmsError> {
        self.change_key(&on_key(caller, Operation::EnableKey, key), key, |record, _| {
            record.state = StoredState::Enabled;
        })
    }

    /// DisableKey.
    ///
    /// # Errors
    /// As AWS.
    pub fn disable_key(&self, caller: &Principal, key: &KeyName) -> Result<KeyMetadata, KmsError> {
        self.change_key(&on_key(caller, Operation::DisableKey, key), key, |record, _| {
            record.state = StoredState::Disabled;
        })
    }

    /// ScheduleKeyDeletion; 7 to 30 days.
    ///
    /// # Errors
    /// As AWS.
    pub fn schedule_key_deletion(&self, caller: &Principal, key: &KeyName, days: u32) -> Result<KeyMetadata, KmsError> {
        let mut call = on_key(caller, Operation::ScheduleKeyDeletion, key);
        call.parameters.push(("pendingWindowInDays", days.into()));
        let described = self.change(&call, |tables, trail| {
            judge_window(days)?;
            let mut key = self.resolve_and_admit(tables, trail, &call, key)?;
            let window = SignedDuration::from_hours(24 * i64::from(days));
            let deletion_date = trail.now.saturating_add(window).map_err(|error| refusal::internal(&error))?;
            key.record.state = StoredState::PendingDeletion { deletion_date };
            tables.put_key(key.id, &key.record)?;
            self.describe(tables, &key)
        })?;
        self.note_deletion(&described);
        Ok(described)
    }

    /// CancelKeyDeletion; the key is Disabled then.
    ///
    /// # Errors
    /// As AWS.
    pub fn cancel_key_deletion(&self, caller: &Principal, key: &KeyName) -> Result<KeyMetadata, KmsError> {
        self.change_key(&on_key(caller, Operation::CancelKeyDeletion, key), key, |record, _| {
            record.state = StoredState::Disabled;
        })
    }

    /// RotateKeyOnDemand.
    ///
    /// # Errors
    /// As AWS.
    pub fn rotate_key_on_demand(&self, caller: &Principal, key: &KeyName) -> Result<KeyMetadata, KmsError> {
        let call = on_key(caller, Operation::RotateKeyOnDemand, key);
        self.change(&call, |tables, trail| {
            let mut key = self.resolve_and_admit(tables, trail, &call, key)?;
            if key.record.rotations() >= limits::KEY_ROTATIONS_MAX {
                return Err(refusal::too_many_rotations(&key.arn));
            }
            let material = self.make_material(tables, key.id, trail.now)?;
            key.record.materials.push(material);
            tables.put_key(key.id, &key.record)?;
            self.describe(tables, &key)
        })
    }

    /// CreateAlias; `name` is `alias/NAME`.
    ///
    /// # Errors
    /// As AWS.
    pub fn create_alias(&self, caller: &Principal, name: &str, target: &KeyName) -> Result<Alias, KmsError> {
        let call = on_alias(caller, Operation::CreateAlias, name, Some(target));
        self.change(&call, |tables, trail| {
            self.judge_new_alias(tables, name)?;
            let key = self.resolve_and_admit(tables, trail, &call, target)?;
            self.make_alias(tables, trail, name, key.id)
        })
    }

    /// UpdateAlias.
    ///
    /// # Errors
    /// As AWS.
    pub fn update_alias(&self, caller: &Principal, name: &str, target: &KeyName) -> Result<Alias, KmsError> {
        let call = on_alias(caller, Operation::UpdateAlias, name, Some(target));
        self.change(&call, |tables, trail| {
            aliases::judge(name)?;
            self.existing_alias(tables, trail, name)?;
            let key = self.resolve_and_admit(tables, trail, &call, target)?;
            self.point_alias(tables, name, key.id)
        })
    }

    /// DeleteAlias.
    ///
    /// # Errors
    /// As AWS.
    pub fn delete_alias(&self, caller: &Principal, name: &str) -> Result<(), KmsError> {
        let call = on_alias(caller, Operation::DeleteAlias, name, None);
        self.change(&call, |tables, trail| {
            aliases::judge(name)?;
            self.existing_alias(tables, trail, name)?;
            Ok(tables.remove_alias(name)?)
        })
    }

    /// ListAliases.
    ///
    /// # Errors
    /// As AWS.
    pub fn list_aliases(&self, caller: &Principal) -> Result<Vec<Alias>, KmsError> {
        let call = on_nothing(caller, Operation::ListAliases);
        self.observe(&call, |view, _| {
            Ok(view.all_aliases()?.into_iter().map(|(name, key)| self.alias(name, key)).collect())
        })
    }

    /// A new enabled key with its first material, in the change `tables`.
    pub(super) fn make_key(
        &self,
        tables: &mut Change<'_>,
        trail: &mut Trail,
        manager: StoredManager,
        description: &str,
    ) -> Result<Found, KmsError> {
        let mut bytes = [0; 16];
        random::fill(&mut bytes);
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
        let arn = self.identity.key_arn(id);
        trail.resources.push(arn.to_string());
        let record = KeyRecord {
            state: StoredState::Enabled,
            manager,
            description: description.to_owned(),
            created: trail.now,
            materials: vec![self.make_material(tables, id, trail.now)?],
        };
        tables.put_key(id, &record)?;
        Ok(Found { id, arn, record })
    }

    fn make_material(&self, tables: &mut Change<'_>, key: Uuid, now: Timestamp) -> Result<MaterialRecord, KmsError> {
        let (id, token) = self.hsm.new_material(&self.identity.account, KeyId(key.into_bytes()))?;
        tables.put_token(key, id, &token)?;
        Ok(MaterialRecord { id, created: now })
    }

    /// Resolves, admits, changes the record and writes it.
    fn change_key(
        &self,
        call: &Call<'_>,
        key: &KeyName,
        change: impl FnOnce(&mut KeyRecord, &Trail),
    ) -> Result<KeyMetadata, KmsError> {
        self.change(call, |tables, trail| {
            let mut key = self.resolve_and_admit(tables, trail, call, key)?;
            change(&mut key.record, trail);
            tables.put_key(key.id, &key.record)?;
            self.describe(tables, &key)
        })
    }

    fn make_alias(&self, tables: &mut Change<'_>, trail: &mut Trail, name: &str, key: Uuid) -> Result<Alias, KmsError> {
        trail.resources.push(self.identity.arn(name));
        self.point_alias(tables, name, key)
    }

    fn judge_new_alias(&self, tables: &impl Lookup, name: &str) -> Result<(), KmsError> {
        aliases::judge(name)?;
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

    fn existing_alias(&self, tables: &impl Lookup, trail: &mut Trail, name: &str) -> Result<(), KmsError> {
        let arn = self.identity.arn(name);
        let target = tables.alias(name)?.ok_or_else(|| refusal::no_such_alias(&arn))?;
        trail.resources.push(arn);
        trail.resources.push(self.identity.key_arn(target).to_string());
        Ok(())
    }

    fn alias(&self, name: String, key: Uuid) -> Alias {
        Alias { arn: self.identity.arn(&name), name, target_key_id: key.to_string() }
    }

    fn note_deletion(&self, described: &KeyMetadata) {
        let due = described.deletion_date.and_then(|date| Timestamp::try_from(date).ok());
        let mut next = self.next_deletion.lock();
        *next = next.into_iter().chain(due).min();
    }
}

fn on_nothing(caller: &Principal, operation: Operation) -> Call<'_> {
    Call { caller, operation, key: None, context: None, parameters: Vec::new() }
}

fn on_key<'a>(caller: &'a Principal, operation: Operation, key: &'a KeyName) -> Call<'a> {
    Call { caller, operation, key: Some(key.as_str()), context: None, parameters: Vec::new() }
}

fn on_alias<'a>(caller: &'a Principal, operation: Operation, name: &str, target: Option<&KeyName>) -> Call<'a> {
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
    let value = days.to_string();
    let (least, most) = (*limits::DELETION_WINDOW_DAYS.start(), *limits::DELETION_WINDOW_DAYS.end());
    let constraint = match days {
        days if days < least => format!("have value greater than or equal to {least}"),
        days if days > most => format!("have value less than or equal to {most}"),
        _ => return Ok(()),
    };
    Err(refusal::validation("pendingWindowInDays", Some(&value), &constraint))
}
