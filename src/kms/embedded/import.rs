//! Import of key material: GetParametersForImport, ImportKeyMaterial, DeleteImportedKeyMaterial, and its expiry.
//!
//! A key of origin EXTERNAL has the materials that somebody brings. It can be used while all that it has had are there;
//! once one expires or is deleted it is PendingImport until that very material comes again. A new one for a key that
//! encrypts waits until RotateKeyOnDemand makes it the current one.
//!
//! ```text
//! import token    version 1 | good until, seconds 8 | wrapping 1 | private wrapping key, sealed by the HSM for this all
//! ```
//! The token is all that there is of a wrapping key: nothing is stored until material is imported, and whoever changes
//! a byte of it, or brings it for another key, finds that the HSM does not open it.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::crypto::wrapping::Wrapping;
use crate::kms::{KeyArn, KeyName, KmsError};
use crate::limits;

use super::admin::on_key;
use super::audit::{Call, date};
use super::call::{Found, Trail};
use super::caller::Caller;
use super::hsm::{Failure, HsmError, ImportedMaterial, KeyId, MaterialId};
use super::keys::{Imported, KeyRecord, MaterialRecord, Origin, RotationType, StoredState};
use super::operation::Operation;
use super::store::{Change, StoreError};
use super::{Embedded, KeySpec, refusal};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 10;

/// What [`Embedded::parameters_for_import`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportParameters {
    /// The key.
    pub key: KeyArn,
    /// The public wrapping key, `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
    /// To be handed in with the material.
    pub token: Vec<u8>,
    /// Until when that is possible.
    pub valid_to: SystemTime,
}

/// Which material is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportType {
    /// One that the key has not had.
    New,
    /// One that it has had.
    Existing,
}

/// Material that somebody brings.
#[derive(Debug, Clone, Copy)]
pub struct KeyMaterial<'a> {
    /// What GetParametersForImport gave.
    pub token: &'a [u8],
    /// The material, wrapped.
    pub wrapped: &'a [u8],
    /// When it expires; never where `None`.
    pub valid_to: Option<Timestamp>,
    /// Whether it is new; the first one is, and none behind it, unless the caller says.
    pub kind: Option<ImportType>,
    /// What it is, in words.
    pub description: Option<&'a str>,
    /// Its id, where the caller knows it.
    pub id: Option<&'a str>,
}

impl Embedded {
    /// GetParametersForImport: a wrapping key with a modulus of `bits`, for material of `key`.
    ///
    /// # Errors
    /// As AWS.
    pub fn parameters_for_import<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        wrapping: Wrapping,
        bits: u16,
    ) -> Result<ImportParameters, KmsError> {
        let mut call = on_key(caller.into(), Operation::GetParametersForImport, key);
        call.parameters.push(("wrappingAlgorithm", wrapping.name().into()));
        call.parameters.push(("wrappingKeySpec", format!("RSA_{bits}").into()));
        // Making the key takes long, and nobody is to wait for it who only uses the store.
        let made = self.wrapping_key(&call, key, wrapping, bits);
        self.observe(&call, |view, trail| {
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            judge_origin(&key)?;
            let (token, public_key, valid_to) = made?;
            Ok(ImportParameters { key: key.arn, public_key, token, valid_to: valid_to.into() })
        })
    }

    /// A wrapping key, should the call come to one.
    fn wrapping_key(
        &self,
        call: &Call<'_>,
        key: &KeyName,
        wrapping: Wrapping,
        bits: u16,
    ) -> Result<(Vec<u8>, Vec<u8>, Timestamp), KmsError> {
        let mut trail = Trail::new(self.now(), None);
        let key = self.resolve_and_admit(&self.store.view()?, &mut trail, call, key)?;
        judge_origin(&key)?;
        let until = trail.now.as_second().saturating_add(limits::IMPORT_TOKEN_SECONDS);
        let valid_to = Timestamp::from_second(until).map_err(|error| refusal::internal(&error))?;
        let mut token = vec![VERSION];
        token.extend_from_slice(&until.to_be_bytes());
        token.push(code(wrapping));
        let (public, kept) = self.hsm.new_wrapping_key(&self.import_purpose(key.id, &token), bits)?;
        token.extend_from_slice(&kept);
        Ok((token, public, valid_to))
    }

    /// ImportKeyMaterial: the key's ARN and the material's id.
    ///
    /// # Errors
    /// As AWS.
    pub fn import_key_material<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        material: &KeyMaterial<'_>,
    ) -> Result<(KeyArn, String), KmsError> {
        let mut call = on_key(caller.into(), Operation::ImportKeyMaterial, key);
        call.parameters.extend(material.valid_to.map(|time| ("validTo", date(time))));
        // The HSM unwraps it before anybody waits for the store.
        let opened = self.opened_ahead(&call, key, material);
        self.change(&call, |tables, trail| {
            let mut key = self.resolve_and_admit(tables, trail, &call, key)?;
            judge_origin(&key)?;
            judge_expiry(material.valid_to, trail.now)?;
            let (id, token) = opened?;
            place(&mut key, material, id, trail.now)?;
            tables.put_token(key.id, id, &token)?;
            if key.record.state == StoredState::PendingImport && !key.record.lacks_material() {
                key.record.state = StoredState::Enabled;
            }
            tables.put_key(key.id, &key.record)?;
            self.note_due(&key.record);
            trail.response.insert("keyMaterialId".to_owned(), id.to_string().into());
            Ok((key.arn, id.to_string()))
        })
    }

    /// The id and the token of what is brought, should the call come to it.
    fn opened_ahead(
        &self,
        call: &Call<'_>,
        name: &KeyName,
        material: &KeyMaterial<'_>,
    ) -> Result<(MaterialId, Vec<u8>), KmsError> {
        let mut trail = Trail::new(self.now(), None);
        let key = self.resolve_and_admit(&self.store.view()?, &mut trail, call, name)?;
        judge_origin(&key)?;
        judge_expiry(material.valid_to, trail.now)?;
        self.unwrap_material(&key, material, trail.now)
    }

    /// The id and the token of what is brought.
    fn unwrap_material(
        &self,
        key: &Found,
        material: &KeyMaterial<'_>,
        now: Timestamp,
    ) -> Result<(MaterialId, Vec<u8>), KmsError> {
        let (header, kept) = material.token.split_at_checked(HEADER_BYTES).ok_or_else(refusal::invalid_import_token)?;
        let until = i64::from_be_bytes(header[1..9].try_into().expect("the range is eight bytes"));
        let wrapping = Wrapping::ALL.into_iter().find(|wrapping| code(*wrapping) == header[9]);
        let wrapping = wrapping.filter(|_| header[0] == VERSION).ok_or_else(refusal::invalid_import_token)?;
        let brought = ImportedMaterial {
            account: &self.identity.account,
            key: KeyId(key.id.into_bytes()),
            digest: key.record.spec.digest(),
            purpose: &self.import_purpose(key.id, header),
            kept,
            wrapping,
            wrapped: material.wrapped,
        };
        let opened = self.hsm.import(&brought).map_err(|error| match error {
            HsmError::Failed(Failure::Token) => refusal::invalid_import_token(),
            HsmError::Failed(Failure::Length) => refusal::incorrect_material(),
            error => error.into(),
        })?;
        // Only now is it known that the date was not made up.
        if until <= now.as_second() { Err(refusal::expired_import_token()) } else { Ok(opened) }
    }

    /// DeleteImportedKeyMaterial, of the current material unless `id` says: the key's ARN and the material's id, if it has
    /// had any.
    ///
    /// # Errors
    /// As AWS.
    pub fn delete_imported_key_material<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        id: Option<&str>,
    ) -> Result<(KeyArn, Option<String>), KmsError> {
        let call = on_key(caller.into(), Operation::DeleteImportedKeyMaterial, key);
        self.change(&call, |tables, trail| {
            let mut key = self.resolve_and_admit(tables, trail, &call, key)?;
            judge_origin(&key)?;
            let all = key.record.materials.iter().chain(&key.record.pending);
            let meant = match id {
                Some(id) => Some(
                    all.map(|material| material.id)
                        .find(|known| known.to_string() == id)
                        .ok_or_else(|| refusal::no_such_material(id))?,
                ),
                None => key.record.newest().map(|material| material.id),
            };
            let Some(gone) = meant else { return Ok((key.arn, None)) };
            remove(tables, key.id, &mut key.record, |material| material.id == gone)?;
            key.record.pending = key.record.pending.filter(|material| material.id != gone);
            tables.put_key(key.id, &key.record)?;
            trail.response.insert("keyMaterialId".to_owned(), gone.to_string().into());
            Ok((key.arn, Some(gone.to_string())))
        })
    }

    /// What an import token is for: this key, and the header that says until when and how.
    fn import_purpose(&self, key: Uuid, header: &[u8]) -> Vec<u8> {
        let whose = format!("import {} {} {key} ", self.identity.account, self.identity.region);
        [whose.as_bytes(), header].concat()
    }
}

/// Removes the materials whose time has come; whether there were any.
pub(super) fn expire(
    tables: &mut Change<'_>,
    id: Uuid,
    record: &mut KeyRecord,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if record.expiry().is_none_or(|expiry| expiry > now) {
        return Ok(false);
    }
    remove(tables, id, record, |material| material.expires().is_some_and(|expiry| expiry <= now))?;
    tables.put_key(id, record)?;
    Ok(true)
}

/// Removes the materials that are meant, and says so in the key's state.
fn remove(
    tables: &mut Change<'_>,
    key: Uuid,
    record: &mut KeyRecord,
    meant: impl Fn(&MaterialRecord) -> bool,
) -> Result<(), StoreError> {
    let all = record.materials.iter_mut().chain(&mut record.pending);
    for material in all.filter(|material| meant(material)) {
        let description = material.import.take().and_then(|import| import.description);
        material.import = Some(Imported { present: false, expires: None, description });
        tables.remove_token(key, material.id)?;
    }
    if record.lacks_material() && record.deletion_date().is_none() {
        record.state = StoredState::PendingImport;
    }
    Ok(())
}

/// Puts the material with this id where it belongs in the key's record.
fn place(key: &mut Found, brought: &KeyMaterial<'_>, id: MaterialId, now: Timestamp) -> Result<(), KmsError> {
    let record = &mut key.record;
    let kind = brought.kind.unwrap_or(if record.materials.is_empty() { ImportType::New } else { ImportType::Existing });
    if brought.id.is_some_and(|known| known != id.to_string()) {
        return Err(refusal::incorrect_material());
    }
    let mut import =
        Imported { present: true, expires: brought.valid_to, description: brought.description.map(str::to_owned) };
    let known = record.materials.iter_mut().chain(&mut record.pending).find(|material| material.id == id);
    match (kind, known) {
        (ImportType::Existing, Some(material)) => {
            let before = material.import.take().and_then(|import| import.description);
            import.description = import.description.or(before);
            material.import = Some(import);
            Ok(())
        }
        (ImportType::Existing, None) | (ImportType::New, Some(_)) => Err(refusal::incorrect_material()),
        (ImportType::New, None) => {
            let material = MaterialRecord { id, created: now, by: RotationType::OnDemand, import: Some(import) };
            if record.materials.is_empty() {
                record.materials.push(material);
            } else if record.spec != KeySpec::Symmetric {
                return Err(refusal::incorrect_material());
            } else if record.pending.as_ref().is_some_and(MaterialRecord::is_present) {
                return Err(refusal::material_waits(&key.arn));
            } else {
                record.pending = Some(material);
            }
            Ok(())
        }
    }
}

fn judge_origin(key: &Found) -> Result<(), KmsError> {
    match key.record.origin {
        Origin::External => Ok(()),
        origin => Err(refusal::wrong_origin(&key.arn, origin.name())),
    }
}

fn judge_expiry(expiry: Option<Timestamp>, now: Timestamp) -> Result<(), KmsError> {
    let latest = now.saturating_add(SignedDuration::from_hours(24 * limits::IMPORT_DAYS_MAX));
    let latest = latest.map_err(|error| refusal::internal(&error))?;
    match expiry {
        Some(expiry) if expiry <= now || expiry > latest => Err(refusal::bad_expiry()),
        _ => Ok(()),
    }
}

fn code(wrapping: Wrapping) -> u8 {
    match wrapping {
        Wrapping::OaepSha1 => 1,
        Wrapping::OaepSha256 => 2,
        Wrapping::AesSha1 => 3,
        Wrapping::AesSha256 => 4,
    }
}
