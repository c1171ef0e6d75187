//! The operations that use key material: validated here, carried out in the HSM.

use serde_json::Value;
use uuid::Uuid;

use crate::kms::{
    DATA_KEY_BYTES, DataKey, DecryptedKey, EncryptionContext, GeneratedKey, KeyArn, KeyName, Kms, KmsError, Principal,
    WrappedKey,
};
use crate::limits;
use crate::secret::Secret;
use crate::sync::Arc;
use crate::sys::locked::LockedMemory;

use super::admin::on_nothing;
use super::audit::Call;
use super::blob::{Claim, canonical};
use super::call::{ALGORITHM, Found, Trail};
use super::caller::Caller;
use super::hsm::{Failure, HsmError, KeyId, Material, MaterialId};
use super::operation::Operation;
use super::pair::judge_symmetric;
use super::rights::{NOTHING, On};
use super::store::{Lookup, StoreError, View};
use super::{Embedded, refusal};

/// [`DATA_KEY_BYTES`] as a request spells it.
const VOLUME_KEY_BYTES: u16 = 64;
const _: () = assert!(VOLUME_KEY_BYTES as usize == DATA_KEY_BYTES, "the two must agree");

/// Clear bytes, in locked memory, wiped on drop.
pub struct Plaintext(LockedMemory);

/// What Encrypt and GenerateDataKeyWithoutPlaintext answer.
pub struct Sealed {
    /// What was sealed.
    pub wrapped: WrappedKey,
    /// The key that sealed it.
    pub key: KeyArn,
    /// The id of its material.
    pub material: String,
}

/// What [`Embedded::generate_data_key`] answers.
pub struct ClearDataKey {
    /// The clear data key.
    pub plaintext: Plaintext,
    /// The same, sealed.
    pub wrapped: WrappedKey,
    /// The key that sealed it.
    pub key: KeyArn,
    /// The id of its material.
    pub material: String,
}

/// What [`Embedded::re_encrypt`] answers.
pub struct ReEncrypted {
    /// The blob that was given, as it was sealed before.
    pub source: KeyArn,
    /// The material that opened it.
    pub source_material: String,
    /// The new blob and what sealed it.
    pub sealed: Sealed,
}

/// What [`Embedded::re_encrypt`] is about.
#[derive(Clone, Copy)]
pub struct ReEncryption<'a> {
    /// The blob.
    pub blob: &'a WrappedKey,
    /// The key that sealed it; whichever it names where `None`.
    pub from: Option<&'a KeyName>,
    /// What it was sealed with.
    pub context: &'a EncryptionContext,
    /// The key that is to seal it anew.
    pub to: &'a KeyName,
    /// What it is to be sealed with.
    pub to_context: &'a EncryptionContext,
}

/// What [`Embedded::decrypt_bytes`] answers.
pub struct Decrypted {
    /// The clear bytes.
    pub plaintext: Plaintext,
    /// The key that opened them.
    pub key: KeyArn,
    /// The id of its material.
    pub material: String,
}

/// A blob with the key and the material that open it.
pub(super) struct Opening {
    pub(super) key: Found,
    pub(super) material: MaterialId,
    pub(super) token: Vec<u8>,
}

impl Plaintext {
    pub(super) fn new(bytes: LockedMemory) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Embedded {
    /// Encrypt: 1 to 4,096 bytes.
    ///
    /// # Errors
    /// As AWS.
    pub fn encrypt<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        plaintext: &[u8],
        context: &EncryptionContext,
    ) -> Result<Sealed, KmsError> {
        let call = using(caller.into(), Operation::Encrypt, Some(key.as_str()), context, algorithm());
        let valid = judge_plaintext(plaintext).and_then(|()| judge_context(context));
        let (blob, key, material) = self.with_current_material(&call, key, valid, |material, associated| {
            self.hsm.encrypt(material, associated, plaintext)
        })?;
        Ok(Sealed { wrapped: wrapped(blob)?, key, material })
    }

    /// Decrypt; without `key`, whichever key the blob names.
    ///
    /// # Errors
    /// As AWS.
    pub fn decrypt_bytes<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: Option<&KeyName>,
        blob: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<Decrypted, KmsError> {
        let call = using(caller.into(), Operation::Decrypt, key.map(KeyName::as_str), context, algorithm());
        self.observe(&call, |view, trail| {
            let associated = judge_context(context)?;
            let Opening { key, material: id, token } = self.opening(view, trail, (&call, "Decrypt"), blob, None)?;
            end_dry_run(&call)?;
            trail.note_material("keyMaterialId", id);
            let plaintext = self.hsm.decrypt(self.material(&key, id, &token), &associated, blob.bytes())?;
            Ok(Decrypted { plaintext: Plaintext(plaintext), key: key.arn, material: id.to_string() })
        })
    }

    /// ReEncrypt: the plaintext is never seen outside the HSM.
    ///
    /// # Errors
    /// As AWS.
    pub fn re_encrypt<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        asked: &ReEncryption<'a>,
    ) -> Result<ReEncrypted, KmsError> {
        let shown = ("destinationKeyId", Value::from(asked.to.as_str()));
        let from = asked.from.map(KeyName::as_str);
        let call = using(caller.into(), Operation::ReEncrypt, from, asked.context, shown);
        let provided = self.provide_managed(&call, "ReEncryptTo", asked.to);
        self.observe(&call, |view, trail| {
            let (context, to_context) = (judge_context(asked.context)?, judge_context(asked.to_context)?);
            provided?;
            let to = self.resolve(view, &call, asked.to.as_str());
            let to_id = to.as_ref().ok().map(|to| to.id);
            let Opening { key, material, token } =
                self.opening(view, trail, (&call, "ReEncryptFrom"), asked.blob, to_id)?;
            let mut to = to?;
            to.facts.push(on_same_key(to.id == key.id));
            self.admit_as(view, trail, (&call, "ReEncryptTo"), &to)?;
            judge_symmetric(call.operation, &to)?;
            end_dry_run(&call)?;
            let current = to.record.current().id;
            let to_token = view.token(to.id, current)?.ok_or(StoreError::MaterialMissing)?;
            let from = (self.material(&key, material, &token), context.as_slice());
            let into = (self.material(&to, current, &to_token), to_context.as_slice());
            trail.note_material("sourceKeyMaterialId", material);
            trail.note_material("destinationKeyMaterialId", current);
            let blob = self.hsm.re_encrypt(from, asked.blob.bytes(), into)?;
            let sealed = Sealed { wrapped: wrapped(blob)?, key: to.arn, material: current.to_string() };
            Ok(ReEncrypted { source: key.arn, source_material: material.to_string(), sealed })
        })
    }

    /// GenerateDataKey: 1 to 1,024 bytes.
    ///
    /// # Errors
    /// As AWS.
    pub fn generate_data_key<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        bytes: u16,
        context: &EncryptionContext,
    ) -> Result<ClearDataKey, KmsError> {
        let shown = ("numberOfBytes", Value::from(bytes));
        let call = using(caller.into(), Operation::GenerateDataKey, Some(key.as_str()), context, shown);
        let valid = judge_length(bytes).and_then(|()| judge_context(context));
        let (data_key, key, material) = self.with_current_material(&call, key, valid, |material, associated| {
            self.hsm.generate_data_key(material, associated, bytes)
        })?;
        Ok(ClearDataKey { plaintext: Plaintext(data_key.plaintext), wrapped: wrapped(data_key.blob)?, key, material })
    }

    /// GenerateDataKeyWithoutPlaintext: 1 to 1,024 bytes.
    ///
    /// # Errors
    /// As AWS.
    pub fn generate_sealed_data_key<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        bytes: u16,
        context: &EncryptionContext,
    ) -> Result<Sealed, KmsError> {
        let shown = ("numberOfBytes", Value::from(bytes));
        let operation = Operation::GenerateDataKeyWithoutPlaintext;
        let call = using(caller.into(), operation, Some(key.as_str()), context, shown);
        let valid = judge_length(bytes).and_then(|()| judge_context(context));
        let (blob, key, material) = self.with_current_material(&call, key, valid, |material, associated| {
            self.hsm.generate_data_key_without_plaintext(material, associated, bytes)
        })?;
        Ok(Sealed { wrapped: wrapped(blob)?, key, material })
    }

    /// GenerateRandom: 1 to 1,024 bytes.
    ///
    /// # Errors
    /// As AWS.
    pub fn generate_random<'a>(&self, caller: impl Into<Caller<'a>>, bytes: u16) -> Result<Plaintext, KmsError> {
        let mut call = on_nothing(caller.into(), Operation::GenerateRandom);
        call.parameters.push(("numberOfBytes", bytes.into()));
        self.observe(&call, |view, _| {
            judge_length(bytes)?;
            self.authorise(view, &call, "GenerateRandom", NOTHING)?;
            Ok(Plaintext(self.hsm.random(bytes)?))
        })
    }

    /// What opens `blob`: the key is admitted and is the blob's. `to` is the key that is to seal it anew.
    pub(super) fn opening(
        &self,
        view: &View,
        trail: &mut Trail,
        (call, action): (&Call<'_>, &str),
        blob: &WrappedKey,
        to: Option<Uuid>,
    ) -> Result<Opening, KmsError> {
        let claim = Claim::decode(blob.bytes());
        let mut key = self.key_of_blob(view, call, claim)?;
        let id = key.id;
        key.facts.extend(to.map(|to| on_same_key(to == id)));
        if call.key.is_none() && self.authorise(view, call, action, On::Key(&key)).is_err() {
            // Who may not use the key that a blob names is not told that there is one: blobs can be made up.
            trail.resources.push(key.arn.to_string());
            return Err(refusal::unknown_blob_key());
        }
        self.admit_as(view, trail, (call, action), &key)?;
        let claim = claim.ok_or_else(refusal::invalid_ciphertext)?;
        if claim.key.0 != *key.id.as_bytes() {
            return Err(refusal::incorrect_key());
        }
        if !key.record.materials.iter().any(|material| material.id == claim.material) {
            return Err(refusal::invalid_ciphertext());
        }
        let token = view.token(key.id, claim.material)?.ok_or(StoreError::MaterialMissing)?;
        Ok(Opening { key, material: claim.material, token })
    }

    /// The key that the call names, or else the one that the blob does.
    fn key_of_blob(&self, view: &View, call: &Call<'_>, claim: Option<Claim>) -> Result<Found, KmsError> {
        if let Some(name) = call.key {
            return self.resolve(view, call, name);
        }
        let claim = claim.ok_or_else(refusal::invalid_ciphertext)?;
        self.find(view, Uuid::from_bytes(claim.key.0))?.ok_or_else(refusal::unknown_blob_key)
    }

    /// Finds and admits the key (the managed one is made first, if need be), then has `work` done by the HSM with its
    /// current material.
    fn with_current_material<T>(
        &self,
        call: &Call<'_>,
        name: &KeyName,
        valid: Result<Vec<u8>, KmsError>,
        work: impl FnOnce(Material<'_>, &[u8]) -> Result<T, HsmError>,
    ) -> Result<(T, KeyArn, String), KmsError> {
        let ready = valid.and_then(|associated| {
            self.provide_managed(call, call.operation.name(), name)?;
            Ok(associated)
        });
        self.observe(call, |view, trail| {
            let associated = ready?;
            let key = self.resolve_and_admit(view, trail, call, name)?;
            judge_symmetric(call.operation, &key)?;
            end_dry_run(call)?;
            let current = key.record.current().id;
            let token = view.token(key.id, current)?.ok_or(StoreError::MaterialMissing)?;
            trail.note_material("keyMaterialId", current);
            let done = work(self.material(&key, current, &token), &associated)?;
            Ok((done, key.arn, current.to_string()))
        })
    }

    pub(super) fn material<'a>(&'a self, key: &Found, id: MaterialId, token: &'a [u8]) -> Material<'a> {
        Material { account: &self.identity.account, key: KeyId(key.id.into_bytes()), id, token }
    }
}

impl Kms for Embedded {
    fn generate_data_key_without_plaintext(
        &self,
        caller: &Principal,
        key: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let made = self.generate_sealed_data_key(caller, key, VOLUME_KEY_BYTES, context)?;
        Ok(GeneratedKey { wrapped: made.wrapped, key: made.key })
    }

    fn decrypt(
        &self,
        caller: &Principal,
        key: &KeyArn,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError> {
        let opened = self.decrypt_bytes(caller, Some(&key.clone().into()), wrapped, context)?;
        let clear: &[u8; DATA_KEY_BYTES] = opened.plaintext.expose().try_into().map_err(|_| {
            let length = opened.plaintext.expose().len();
            KmsError::BadAnswer(format!("a data key is {DATA_KEY_BYTES} bytes, not {length}"))
        })?;
        let data_key = DataKey::new(Secret::filled_by(|bytes| bytes.copy_from_slice(clear))?);
        Ok(DecryptedKey { data_key, key: opened.key })
    }

    fn re_encrypt(
        &self,
        caller: &Principal,
        (from, blob): (&KeyArn, &WrappedKey),
        to: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let from = KeyName::from(from.clone());
        let asked = ReEncryption { blob, from: Some(&from), context, to, to_context: context };
        let done = Self::re_encrypt(self, caller, &asked)?;
        Ok(GeneratedKey { wrapped: done.sealed.wrapped, key: done.sealed.key })
    }

    fn encrypt(
        &self,
        caller: &Principal,
        key: &KeyName,
        data_key: &Arc<DataKey>,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let sealed = Self::encrypt(self, caller, key, data_key.expose(), context)?;
        Ok(GeneratedKey { wrapped: sealed.wrapped, key: sealed.key })
    }
}

impl From<HsmError> for KmsError {
    fn from(error: HsmError) -> Self {
        match error {
            HsmError::NoLockedMemory(error) => Self::NoLockedMemory(error),
            HsmError::Failed(Failure::Ciphertext) => refusal::invalid_ciphertext(),
            HsmError::Busy => refusal::throttled(),
            error => refusal::internal(&error),
        }
    }
}

/// Whether a ReEncrypt stays under one key, as policies are told.
pub(super) fn on_same_key(same: bool) -> (&'static str, String) {
    ("kms:ReEncryptOnSameKey", same.to_string())
}

fn algorithm() -> (&'static str, Value) {
    ("encryptionAlgorithm", ALGORITHM.into())
}

/// Where the caller only asks if it would be done, this is where the answer is known.
pub(super) fn end_dry_run(call: &Call<'_>) -> Result<(), KmsError> {
    match call.caller.request {
        Some(request) if request.dry_run => Err(refusal::dry_run()),
        _ => Ok(()),
    }
}

pub(super) fn using<'a>(
    caller: Caller<'a>,
    operation: Operation,
    key: Option<&'a str>,
    context: &'a EncryptionContext,
    shown: (&'static str, Value),
) -> Call<'a> {
    Call { caller, operation, key, context: Some(context), parameters: vec![shown] }
}

pub(super) fn wrapped(blob: Vec<u8>) -> Result<WrappedKey, KmsError> {
    WrappedKey::new(blob).map_err(|error| refusal::internal(&error))
}

/// The context as associated data, if it is not too long for that.
pub(super) fn judge_context(context: &EncryptionContext) -> Result<Vec<u8>, KmsError> {
    let associated = canonical(context);
    if associated.len() <= limits::ENCRYPTION_CONTEXT_MAX {
        return Ok(associated);
    }
    let constraint = format!("have length less than or equal to {}", limits::ENCRYPTION_CONTEXT_MAX);
    Err(refusal::validation("encryptionContext", None, &constraint))
}

pub(super) fn judge_plaintext(plaintext: &[u8]) -> Result<(), KmsError> {
    let constraint = match plaintext.len() {
        0 => "have length greater than or equal to 1".to_owned(),
        length if length > limits::ENCRYPT_PLAINTEXT_MAX => {
            format!("have length less than or equal to {}", limits::ENCRYPT_PLAINTEXT_MAX)
        }
        _ => return Ok(()),
    };
    Err(refusal::validation("plaintext", None, &constraint))
}

fn judge_length(bytes: u16) -> Result<(), KmsError> {
    let constraint = match bytes {
        0 => "have value greater than or equal to 1".to_owned(),
        bytes if bytes > limits::GENERATED_DATA_KEY_MAX => {
            format!("have value less than or equal to {}", limits::GENERATED_DATA_KEY_MAX)
        }
        _ => return Ok(()),
    };
    Err(refusal::validation("numberOfBytes", Some(&bytes.to_string()), &constraint))
}
