//! The one path that every call takes, whatever it asks: admitted here, and written into the audit log here.
//!
//! A call that only reads sees a snapshot and runs beside others; one that changes something runs alone. The line has
//! its place in the log before the next change may begin, so lines stand in the order of effect, and once a DisableKey
//! has returned no Decrypt under that key succeeds. A call is answered when its line is durable, for which it waits while
//! others go on (many share a sync); one whose line cannot be made durable gets no answer.

use std::collections::{BTreeMap, HashMap};
use std::slice;

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::kms::{KeyArn, KeyName, KmsError, Principal};
use crate::limits;

use super::admin::{NewKey, on_nothing};
use super::audit::{Call, Ticket};
use super::caller::{Caller, SignedRequest};
use super::hsm::MaterialId;
use super::keys::{KeyRecord, Named, StoredManager};
use super::operation::{Operation, permit};
use super::rights::On;
use super::spec::{judge_rotation, judge_usage};
use super::store::{Change, Lookup, StoreError, View};
use super::{Embedded, Identity, KeyMetadata, aliases, import, refusal, rotation};

/// Who does what time alone brings about.
const SERVICE: &str = "kms.amazonaws.com";

/// The only algorithm that symmetric keys have.
pub(super) const ALGORITHM: &str = "SYMMETRIC_DEFAULT";

/// What is learnt about a call while it is carried out.
pub(super) struct Trail {
    /// When it began.
    pub(super) now: Timestamp,
    /// ARNs of the keys and aliases that it turned out to be about.
    pub(super) resources: Vec<String>,
    /// What its record shows of the answer, beside the key.
    pub(super) response: Map<String, Value>,
    /// What its record says beside that: which material was used.
    pub(super) additional: Map<String, Value>,
    /// The id of its record, and that of the request.
    pub(super) event: Uuid,
    pub(super) request: Uuid,
}

impl Trail {
    pub(super) fn new(now: Timestamp, call: Option<&Call<'_>>) -> Self {
        let request = call.and_then(|call| call.caller.request).map_or_else(Uuid::new_v4, |request| request.id);
        let (response, additional) = (Map::new(), Map::new());
        Self { now, resources: Vec::new(), response, additional, event: Uuid::new_v4(), request }
    }

    /// Notes which material of the key was used.
    pub(super) fn note_material(&mut self, name: &str, material: MaterialId) {
        self.additional.insert(name.to_owned(), material.to_string().into());
    }
}

/// A key that exists.
pub(super) struct Found {
    pub(super) id: Uuid,
    pub(super) arn: KeyArn,
    pub(super) record: KeyRecord,
    /// What else policies are told of it: condition keys that depend on how the request names it.
    pub(super) facts: Vec<(&'static str, String)>,
}

impl Embedded {
    /// Carries out a call that changes nothing.
    pub(super) fn observe<T>(
        &self,
        call: &Call<'_>,
        work: impl FnOnce(&View, &mut Trail) -> Result<T, KmsError>,
    ) -> Result<T, KmsError> {
        let now = self.now();
        let passed = self.pass_time(now);
        let others_may_read = self.order.read();
        let carried_out = self.carry_out(slice::from_ref(call), now, |trail| {
            passed?;
            match call.caller.request {
                Some(_) => self.past.see(|| self.store.view(), |view| work(view, trail)),
                None => work(&self.store.view()?, trail),
            }
        });
        drop(others_may_read);
        self.answer(slice::from_ref(call), carried_out)
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
        let passed = self.pass_time(now);
        let alone = self.order.write();
        let carried_out = self.carry_out(calls, now, |trail| {
            passed?;
            let before = (!self.past.delay().is_zero()).then(|| self.store.view()).transpose()?;
            let changed = self.store.change(|tables| work(tables, trail))?;
            before.into_iter().for_each(|before| self.past.note(before));
            Ok(changed)
        });
        drop(alone);
        self.answer(calls, carried_out)
    }

    /// Carries out a call that is about the HSM or the audit log itself: alone, and whatever else is due by now.
    pub(super) fn change_itself(
        &self,
        call: &Call<'_>,
        work: impl FnOnce() -> Result<(), KmsError>,
    ) -> Result<(), KmsError> {
        let alone = self.order.write();
        let carried_out = self.carry_out(slice::from_ref(call), self.now(), |_| work());
        drop(alone);
        self.answer(slice::from_ref(call), carried_out)
    }

    /// Does the work and has a line for each call appended; the line's place is that of the effect.
    fn carry_out<T>(
        &self,
        calls: &[Call<'_>],
        now: Timestamp,
        work: impl FnOnce(&mut Trail) -> Result<T, KmsError>,
    ) -> (Result<T, KmsError>, Ticket) {
        let mut trail = Trail::new(now, calls.first());
        let outcome = work(&mut trail);
        if outcome.is_ok() {
            calls.iter().for_each(|call| self.last_uses.note(call, &trail));
        }
        let ticket = self.audit.record(&self.identity, calls, &trail, outcome.as_ref().err());
        (outcome, ticket)
    }

    /// Answers once the lines are durable, while others go on; every call ends here.
    fn answer<T>(&self, calls: &[Call<'_>], (outcome, ticket): (Result<T, KmsError>, Ticket)) -> Result<T, KmsError> {
        self.audit.wait(&ticket).map_err(|lost| refusal::internal(&lost))?;
        calls.iter().filter_map(|call| call.caller.request).for_each(SignedRequest::set_recorded);
        self.last_uses.keep_up(self.audit.durable());
        outcome
    }

    /// Finds the key that `name` means. Whom AWS's wire brings is bound by its rule on aliases.
    pub(super) fn resolve(&self, tables: &impl Lookup, call: &Call<'_>, name: &str) -> Result<Found, KmsError> {
        let named = self.identity.read_name(name)?;
        self.judge_name(call, name, &named)?;
        let (id, alias) = match named {
            Named::Key(id) => (id, None),
            Named::Alias(_) if call.caller.request.is_some() && !call.operation.takes_alias() => {
                return Err(call.operation.refuses_alias(name));
            }
            Named::Alias(alias) => {
                let id = tables.alias(&alias)?.ok_or_else(|| refusal::no_such_alias(&self.identity.arn(&alias)))?;
                (id, Some(alias))
            }
        };
        let found = self.find(tables, id)?;
        let mut found = found.ok_or_else(|| refusal::no_such_key(self.identity.key_arn(id).as_str()))?;
        found.facts.extend(alias.map(|alias| ("kms:RequestAlias", alias)));
        Ok(found)
    }

    /// Whoever signs and is of another account means one of their own keys, where they do not give the ARN.
    fn judge_name(&self, call: &Call<'_>, name: &str, named: &Named) -> Result<(), KmsError> {
        let account = call.caller.request.and_then(|request| request.principal.account());
        if account.is_none_or(|account| account == self.identity.account) || name.starts_with("arn:") {
            return Ok(());
        }
        let account = account.unwrap_or_default().to_owned();
        let theirs = Identity { account, region: self.identity.region.clone() };
        Err(match named {
            Named::Key(id) => refusal::no_such_key(theirs.key_arn(*id).as_str()),
            Named::Alias(alias) => refusal::no_such_alias(&theirs.arn(alias)),
        })
    }

    /// The key with that id.
    pub(super) fn find(&self, tables: &impl Lookup, id: Uuid) -> Result<Option<Found>, KmsError> {
        Ok(tables.key(id)?.map(|record| Found { id, arn: self.identity.key_arn(id), record, facts: Vec::new() }))
    }

    /// Whether the call may be done to `key`: by right, by the key's state, and by what the key is for.
    pub(super) fn admit(
        &self,
        tables: &impl Lookup,
        trail: &mut Trail,
        call: &Call<'_>,
        key: &Found,
    ) -> Result<(), KmsError> {
        self.admit_as(tables, trail, (call, call.operation.name()), key)
    }

    /// [`Embedded::admit`], where the right has another name than the operation.
    pub(super) fn admit_as(
        &self,
        tables: &impl Lookup,
        trail: &mut Trail,
        (call, action): (&Call<'_>, &str),
        key: &Found,
    ) -> Result<(), KmsError> {
        trail.resources.push(key.arn.to_string());
        self.authorise(tables, call, action, On::Key(key))?;
        permit(call.operation, key.record.state.into(), &key.arn)?;
        judge_usage(call.operation, (key.record.spec, key.record.usage()), &key.arn)?;
        judge_rotation(call.operation, key.record.spec, key.record.origin, &key.arn)?;
        // A re-encryption has an algorithm for each of its keys (`re_encryption`).
        let request = call.caller.request.filter(|_| call.operation != Operation::ReEncrypt);
        match request.and_then(|request| request.algorithm.as_deref()) {
            Some(algorithm) if !key.record.spec.algorithms(key.record.usage()).contains(&algorithm) => {
                Err(refusal::incompatible_algorithm(algorithm, key.record.spec))
            }
            _ => Ok(()),
        }
    }

    /// [`Embedded::resolve`], then [`Embedded::admit`].
    pub(super) fn resolve_and_admit(
        &self,
        tables: &impl Lookup,
        trail: &mut Trail,
        call: &Call<'_>,
        name: &KeyName,
    ) -> Result<Found, KmsError> {
        let key = self.resolve(tables, call, name.as_str())?;
        self.admit(tables, trail, call, &key)?;
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
            metadata(&Found { id, arn: self.identity.key_arn(id), record, facts: Vec::new() }, aliases)
        });
        Ok(described.collect())
    }

    /// Makes the managed key where `name` means it, it does not exist, and the call may do `action` to it.
    pub(super) fn provide_managed(&self, call: &Call<'_>, action: &str, name: &KeyName) -> Result<(), KmsError> {
        let named = self.identity.read_name(name.as_str());
        if named != Ok(Named::Alias(aliases::EBS.to_owned())) || self.store.view()?.alias(aliases::EBS)?.is_some() {
            return Ok(());
        }
        self.judge_unmade(call, action)?;
        let make = on_nothing(call.caller, Operation::CreateKey);
        let new = NewKey::described("Default key that protects my EBS volumes when no other key is defined");
        let ahead = self.ahead(&new);
        self.change(&make, |tables, trail| {
            // Another caller may have been first.
            if tables.alias(aliases::EBS)?.is_none() {
                let mut key = self.make_key(tables, trail, StoredManager::Aws, &new, BTreeMap::new(), ahead?)?;
                key.record.rotation = Some(rotation::every(rotation::PERIOD_DAYS, trail.now)?);
                tables.put_key(key.id, &key.record)?;
                tables.put_alias(aliases::EBS, key.id)?;
                self.note_due(&key.record);
            }
            Ok(())
        })
    }

    /// Whether the call may do `action` to the managed key, which is not there yet: by the policy that it will have.
    fn judge_unmade(&self, call: &Call<'_>, action: &str) -> Result<(), KmsError> {
        let record = KeyRecord::new(StoredManager::Aws, self.now());
        let key = Found { id: Uuid::nil(), arn: self.identity.key_arn(Uuid::nil()), record, facts: Vec::new() };
        self.authorise(&self.store.view()?, call, action, On::Key(&key))
    }

    /// Does what time alone brings about: removes the keys whose deletion date has come, rotates those whose rotation
    /// date has. Rotations that the HSM does not answer wait, and hold nothing up: keys can be revoked without it.
    pub(super) fn pass_time(&self, now: Timestamp) -> Result<(), KmsError> {
        if self.next_due.lock().is_none_or(|due| due > now) {
            return Ok(());
        }
        let alone = self.order.write();
        let (done, next) = self.store.change(|tables| {
            let (mut done, mut hsm_answers) = (Vec::new(), true);
            for (id, mut record) in tables.all_keys()? {
                if record.deletion_date().is_some_and(|due| due <= now) {
                    tables.remove_key(id)?;
                    done.push((id, Operation::DeleteKey));
                    continue;
                }
                if import::expire(tables, id, &mut record, now)? {
                    done.push((id, Operation::DeleteExpiredKeyMaterial));
                }
                // Once it has not answered it is not asked again for the next key.
                if hsm_answers && record.rotation_date().is_some_and(|due| due <= now) {
                    hsm_answers = self.rotate_automatically(tables, id, &mut record, now)?;
                    done.extend(hsm_answers.then_some((id, Operation::RotateKey)));
                }
            }
            let retry = if hsm_answers { None } else { now.checked_add(limits::ROTATION_RETRY).ok() };
            let records = tables.all_keys()?;
            let ahead = records.iter().flat_map(|(_, record)| dates(record)).filter(|date| *date > now);
            Ok::<_, KmsError>((done, ahead.chain(retry).min()))
        })?;
        *self.next_due.lock() = next;
        let service = Principal::new(SERVICE);
        let tickets: Vec<Ticket> =
            done.into_iter().map(|(id, operation)| self.record_passing(now, &service, id, operation)).collect();
        drop(alone);
        tickets.iter().try_for_each(|ticket| self.audit.wait(ticket)).map_err(|lost| refusal::internal(&lost))
    }

    /// Remembers when time will next do something to a key with this record.
    pub(super) fn note_due(&self, record: &KeyRecord) {
        let mut next = self.next_due.lock();
        *next = next.into_iter().chain(due(record)).min();
    }

    fn record_passing(&self, now: Timestamp, service: &Principal, id: Uuid, operation: Operation) -> Ticket {
        if operation == Operation::DeleteKey {
            self.last_uses.forget(id);
        }
        let call = on_nothing(Caller::from(service), operation);
        let mut trail = Trail::new(now, None);
        trail.resources.push(self.identity.key_arn(id).to_string());
        self.audit.record(&self.identity, slice::from_ref(&call), &trail, None)
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::try_from((self.clock)()).expect("the clock shows a year of four digits")
    }
}

/// The earliest date on which something happens to a key.
pub(super) fn next_due(tables: &impl Lookup) -> Result<Option<Timestamp>, StoreError> {
    Ok(tables.all_keys()?.iter().filter_map(|(_, record)| due(record)).min())
}

fn due(record: &KeyRecord) -> Option<Timestamp> {
    dates(record).min()
}

fn dates(record: &KeyRecord) -> impl Iterator<Item = Timestamp> {
    record.deletion_date().into_iter().chain(record.rotation_date()).chain(record.expiry())
}

/// What DescribeKey says of `key`.
pub(super) fn metadata(key: &Found, aliases: Vec<String>) -> KeyMetadata {
    let current = key.record.newest();
    let imported = current.and_then(|material| material.import.as_ref()).filter(|import| import.present);
    KeyMetadata {
        key_id: key.id.to_string(),
        arn: key.arn.clone(),
        state: key.record.state.into(),
        manager: key.record.manager.into(),
        description: key.record.description.clone(),
        created: key.record.created.into(),
        deletion_date: key.record.deletion_date().map(Into::into),
        rotations: u32::try_from(key.record.rotated().len()).unwrap_or(u32::MAX),
        automatic_rotation: key.record.automatic_rotation().map(|(period, next)| (period, next.into())),
        tags: key.record.tags.clone(),
        current_key_material_id: current
            .filter(|_| key.record.spec.pair().is_none())
            .map(|material| material.id.to_string())
            .unwrap_or_default(),
        origin: key.record.origin,
        imported: imported.map(|import| import.expires.map(Into::into)),
        spec: key.record.spec,
        usage: key.record.usage(),
        aliases,
    }
}
