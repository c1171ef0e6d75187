//! Rotation of keys: by hand, and by the calendar.
//!
//! A rotated key seals with its new material and opens with whichever a blob names; materials stay as long as their key.
//! An automatic rotation that falls due while a key is disabled is made up for when it is enabled (`call::pass_time`); one
//! by hand leaves the calendar as it is.

use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use tracing::warn;
use uuid::Uuid;

use crate::kms::{KeyName, KmsError};
use crate::limits;

use super::admin::{judge_days, keep_material, on_key};
use super::audit::Call;
use super::call::{Found, Trail};
use super::caller::Caller;
use super::hsm::{HsmError, MaterialId};
use super::keys::{KeyRecord, MaterialRecord, Origin, Rotation, RotationType};
use super::lists::{self, Page, PageOf};
use super::operation::Operation;
use super::store::{Change, StoreError};
use super::{Embedded, KeyMetadata, refusal};

/// How often a key is rotated automatically where nobody says.
pub(super) const PERIOD_DAYS: u32 = 365;

/// So soon before an automatic rotation none is made by hand.
const NEAR: Duration = Duration::from_secs(20 * 60);

/// What GetKeyRotationStatus says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationStatus {
    /// The key's id.
    pub key_id: String,
    /// The days between two rotations and the date of the next one, where automatic rotation is on.
    pub automatic: Option<(u32, SystemTime)>,
}

/// A material of a key, as ListKeyRotations shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationEntry {
    /// Its id.
    pub material: String,
    /// Whether it is the one that seals.
    pub current: bool,
    /// When the rotation was that made it and whether the calendar did; `None` of a key's first material.
    pub rotated: Option<(SystemTime, bool)>,
    /// Of imported material.
    pub import: Option<ImportedEntry>,
}

/// Imported material, as ListKeyRotations shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedEntry {
    /// Whether it is there.
    pub present: bool,
    /// Whether it waits for a rotation.
    pub pending: bool,
    /// When it expires, if it does.
    pub expires: Option<SystemTime>,
    /// What it is, in words.
    pub description: Option<String>,
}

impl Embedded {
    /// RotateKeyOnDemand.
    ///
    /// # Errors
    /// As AWS.
    pub fn rotate_key_on_demand<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
    ) -> Result<KeyMetadata, KmsError> {
        let call = on_key(caller.into(), Operation::RotateKeyOnDemand, key);
        let ahead = self.rotation_ahead(&call, key);
        self.change(&call, |tables, trail| {
            let mut key = self.resolve_and_admit(tables, trail, &call, key)?;
            judge_rotation_now(&key, trail.now)?;
            let material = match key.record.origin {
                Origin::Kms => {
                    let made = ahead?.ok_or(StoreError::MaterialMissing)?;
                    keep_material(tables, key.id, made, trail.now, RotationType::OnDemand)?
                }
                Origin::External => {
                    let waiting = key.record.pending.take().filter(MaterialRecord::is_present);
                    let waiting = waiting.ok_or_else(|| refusal::no_material_waits(&key.arn))?;
                    MaterialRecord { created: trail.now, ..waiting }
                }
            };
            key.record.materials.push(material);
            tables.put_key(key.id, &key.record)?;
            self.describe(tables, &key)
        })
    }

    /// New material, should the call come to it; none for a key whose material comes from elsewhere.
    fn rotation_ahead(&self, call: &Call<'_>, name: &KeyName) -> Result<Option<(MaterialId, Vec<u8>)>, KmsError> {
        let mut trail = Trail::new(self.now(), None);
        self.pass_time(trail.now)?;
        let key = self.resolve_and_admit(&self.store.view()?, &mut trail, call, name)?;
        judge_rotation_now(&key, trail.now)?;
        match key.record.origin {
            Origin::Kms => Ok(Some(self.new_token(key.id, key.record.spec)?)),
            Origin::External => Ok(None),
        }
    }

    /// EnableKeyRotation; every 365 days unless `period_days` says otherwise.
    ///
    /// # Errors
    /// As AWS.
    pub fn enable_key_rotation<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        period_days: Option<u32>,
    ) -> Result<KeyMetadata, KmsError> {
        let call = on_key(caller.into(), Operation::EnableKeyRotation, key);
        self.change_key(&call, key, |record, trail| {
            judge_period(period_days)?;
            record.rotation = Some(every(period_days.unwrap_or(PERIOD_DAYS), trail.now)?);
            Ok(())
        })
    }

    /// DisableKeyRotation.
    ///
    /// # Errors
    /// As AWS.
    pub fn disable_key_rotation<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
    ) -> Result<KeyMetadata, KmsError> {
        let call = on_key(caller.into(), Operation::DisableKeyRotation, key);
        self.change_key(&call, key, |record, _| {
            record.rotation = None;
            Ok(())
        })
    }

    /// GetKeyRotationStatus. A key that is pending deletion is not rotated, and says so.
    ///
    /// # Errors
    /// As AWS.
    pub fn key_rotation_status<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
    ) -> Result<RotationStatus, KmsError> {
        let call = on_key(caller.into(), Operation::GetKeyRotationStatus, key);
        self.observe(&call, |view, trail| {
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            let automatic = key.record.automatic_rotation().map(|(period, next)| (period, next.into()));
            Ok(RotationStatus { key_id: key.id.to_string(), automatic })
        })
    }

    /// ListKeyRotations: the key's id, and the materials that rotations made, and with `first` the first one too; newest first.
    ///
    /// # Errors
    /// As AWS.
    pub fn list_key_rotations<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        first: bool,
        page: &PageOf<'_>,
    ) -> Result<(String, Page<RotationEntry>), KmsError> {
        let call = on_key(caller.into(), Operation::ListKeyRotations, key);
        self.observe(&call, |view, trail| {
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            let place = self.place(&call, key.arn.as_str(), page)?.map(|place| lists::number(&place)).transpose()?;
            let entries = entries(&key.record, first);
            let from = place.unwrap_or(0);
            let until = entries.len().min(from + page.limit);
            let next = (until < entries.len()).then(|| until.to_string());
            let next = next.map(|next| self.marker(&call, key.arn.as_str(), &next)).transpose()?;
            let items = entries.get(from..until).unwrap_or_default().to_vec();
            Ok((key.id.to_string(), Page { items, next }))
        })
    }

    /// Rotates a key whose date has come, and sets the next one: the calendar goes on from its own dates. Whether the HSM gave
    /// new material; without it the key stays as it is.
    pub(super) fn rotate_automatically(
        &self,
        tables: &mut Change<'_>,
        id: Uuid,
        record: &mut KeyRecord,
        now: Timestamp,
    ) -> Result<bool, KmsError> {
        let (material, token) = match self.new_token(id, record.spec) {
            Ok(made) => made,
            Err(HsmError::Zeroized) => return Ok(false),
            Err(error) => {
                warn!(key = %id, error = refusal::chain(&error), "automatic rotations wait: the HSM does not answer");
                return Ok(false);
            }
        };
        let Some(rotation) = &mut record.rotation else { return Ok(true) };
        while rotation.next <= now {
            rotation.next = later(rotation.next, rotation.period_days)?;
        }
        tables.put_token(id, material, &token)?;
        record.materials.push(MaterialRecord { id: material, created: now, by: RotationType::Automatic, import: None });
        tables.put_key(id, record)?;
        Ok(true)
    }
}

/// That there were not too many rotations by hand, and that none by the calendar is near.
fn judge_rotation_now(key: &Found, now: Timestamp) -> Result<(), KmsError> {
    if key.record.on_demand_rotations() >= limits::KEY_ROTATIONS_MAX {
        return Err(refusal::too_many_rotations(&key.arn));
    }
    if key.record.rotation_date().is_some_and(|next| next.duration_since(now).unsigned_abs() <= NEAR) {
        return Err(refusal::rotation_is_near(&key.arn));
    }
    Ok(())
}

fn judge_period(days: Option<u32>) -> Result<(), KmsError> {
    let (least, most) = (*limits::ROTATION_PERIOD_DAYS.start(), *limits::ROTATION_PERIOD_DAYS.end());
    days.map_or(Ok(()), |days| judge_days("rotationPeriodInDays", days, least, most))
}

/// Automatic rotation every `period_days`, from `now` on.
pub(super) fn every(period_days: u32, now: Timestamp) -> Result<Rotation, KmsError> {
    Ok(Rotation { period_days, next: later(now, period_days)? })
}

fn later(time: Timestamp, days: u32) -> Result<Timestamp, KmsError> {
    // A period of no days would never pass.
    let days = i64::from(days.max(1));
    time.checked_add(SignedDuration::from_hours(24 * days)).map_err(|error| refusal::internal(&error))
}

fn entries(record: &KeyRecord, first: bool) -> Vec<RotationEntry> {
    let current = record.newest().map(|material| material.id);
    let pending = record.pending.as_ref().map(|material| material.id);
    let entry = |material: &MaterialRecord, rotated| RotationEntry {
        material: material.id.to_string(),
        current: Some(material.id) == current,
        rotated,
        import: material.import.as_ref().map(|import| ImportedEntry {
            present: import.present,
            pending: Some(material.id) == pending,
            expires: import.expires.map(Into::into),
            description: import.description.clone(),
        }),
    };
    let rotated = |material: &MaterialRecord| {
        entry(material, Some((material.created.into(), material.by == RotationType::Automatic)))
    };
    let mut entries: Vec<RotationEntry> = record.rotated().iter().rev().map(rotated).collect();
    if first {
        entries.splice(0..0, record.pending.iter().map(|material| entry(material, None)));
        entries.extend(record.materials.first().map(|material| entry(material, None)));
    }
    entries
}
