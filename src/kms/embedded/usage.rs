//! The operations that use key material: validated here, carried out in the HSM.

use serde_json::Value;
use uuid::Uuid;

use crate::kms::{
    DATA_KEY_BYTES, DataKey, DecryptedKey, EncryptionContext, GeneratedKey, KeyArn, KeyName, Kms, KmsError, Principal,
    WrappedKey,
};
use crate::limits;
use crate::secret::Secret;
use crate::sys::locked::LockedMemory;

use super::audit::Call;
use super::blob::{Claim, canonical};
use super::call::Found;
use super::hsm::{Failure, HsmError, KeyId, Material, MaterialId, TOKEN_BYTES};
use super::keys::Operation;
use super::store::{Lookup, StoreError, View};
use super::{Embedded, refusal};

/// [`DATA_KEY_BYTES`] as a request spells it.
const VOLUME_KEY_BYTES: u16 = 64;
const _: () = assert!(VOLUME_KEY_BYTES as usize == DATA_KEY_BYTES, "the two must agree");

/// Clear bytes, in locked memory, wiped on drop.
pub struct Plaintext(LockedMemory);

/// What [`Embedded::generate_data_key`] answers.
pub struct ClearDataKey {
    /// The clear data key.
    pub plaintext: Plaintext,
    /// The same, sealed.
    pub wrapped: WrappedKey,
    /// The key that sealed it.
    pub key: KeyArn,
}

/// What [`Embedded::decrypt_bytes`] answers.
pub struct Decrypted {
    /// The clear bytes.
    pub plaintext: Plaintext,
    /// The key that opened them.
    pub key: KeyArn,
}

impl Plaintext {
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
    pub fn encrypt(
        &self,
        caller: &Principal,
        key: &KeyName,
        plaintext: &[u8],
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let call = using(caller, Operation::Encrypt, Some(key.as_str()), context, algorithm());
        let valid = judge_plaintext(plaintext).and_then(|()| judge_context(context));
        let (blob, key) = self.with_current_material(&call, key, valid, |material, associated| {
            self.hsm.encrypt(material, associated, plaintext)
        })?;
        Ok(GeneratedKey { wrapped: wrapped(blob)?, key })
    }

    /// Decrypt; without `key`, whichever key the blob names.
    ///
    /// # Errors
    /// As AWS.
    pub fn decrypt_bytes(
        &self,
        caller: &Principal,
        key: Option<&KeyName>,
        blob: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<Decrypted, KmsError> {
        let call = using(caller, Operation::Decrypt, key.map(KeyName::as_str), context, algorithm());
        let claim = Claim::decode(blob.bytes());
        self.observe(&call, |view, trail| {
            let associated = judge_context(context)?;
            let key = self.key_of_blob(view, &call, claim)?;
            self.admit(trail, &call, &key)?;
            let claim = claim.ok_or_else(refusal::invalid_ciphertext)?;
            if claim.key.0 != *key.id.as_bytes() {
                return Err(refusal::incorrect_key());
            }
            if !key.record.materials.iter().any(|material| material.id == claim.material) {
                return Err(refusal::invalid_ciphertext());
            }
            let token = view.token(key.id, claim.material)?.ok_or(StoreError::MaterialMissing)?;
            let material = self.material(&key, claim.material, &token);
            let plaintext = self.hsm.decrypt(material, &associated, blob.bytes())?;
            Ok(Decrypted { plaintext: Plaintext(plaintext), key: key.arn })
        })
    }

    /// GenerateDataKey: 1 to 1,024 bytes.
    ///
    /// # Errors
    /// As AWS.
    pub fn generate_data_key(
        &self,
        caller: &Principal,
        key: &KeyName,
        bytes: u16,
        context: &EncryptionContext,
    ) -> Result<ClearDataKey, KmsError> {
        let shown = ("numberOfBytes", Value::from(bytes));
        let call = using(caller, Operation::GenerateDataKey, Some(key.as_str()), context, shown);
        let valid = judge_length(bytes).and_then(|()| judge_context(context));
        let (data_key, key) = self.with_current_material(&call, key, valid, |material, associated| {
            self.hsm.generate_data_key(material, associated, bytes)
        })?;
        Ok(ClearDataKey { plaintext: Plaintext(data_key.plaintext), wrapped: wrapped(data_key.blob)?, key })
    }

    /// The key that the call names, or else the one that the blob does.
    fn key_of_blob(&self, view: &View, call: &Call<'_>, claim: Option<Claim>) -> Result<Found, KmsError> {
        if let Some(name) = call.key {
            return self.resolve(view, name);
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
    ) -> Result<(T, KeyArn), KmsError> {
        let ready = valid.and_then(|associated| self.provide_managed(call.caller, name).map(|()| associated));
        self.observe(call, |view, trail| {
            let associated = ready?;
            let key = self.resolve_and_admit(view, trail, call, name)?;
            let current = key.record.current().id;
            let token = view.token(key.id, current)?.ok_or(StoreError::MaterialMissing)?;
            let done = work(self.material(&key, current, &token), &associated)?;
            Ok((done, key.arn))
        })
    }

    fn material<'a>(&'a self, key: &Found, id: MaterialId, token: &'a [u8; TOKEN_BYTES]) -> Material<'a> {
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
        let shown = ("numberOfBytes", Value::from(VOLUME_KEY_BYTES));
        let call = using(caller, Operation::GenerateDataKeyWithoutPlaintext, Some(key.as_str()), context, shown);
        let (blob, key) = self.with_current_material(&call, key, judge_context(context), |material, associated| {
            self.hsm.generate_data_key_without_plaintext(material, associated, VOLUME_KEY_BYTES)
        })?;
        Ok(GeneratedKey { wrapped: wrapped(blob)?, key })
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
}

impl From<HsmError> for KmsError {
    fn from(error: HsmError) -> Self {
        match error {
            HsmError::NoLockedMemory(error) => Self::NoLockedMemory(error),
            HsmError::Failed(Failure::Ciphertext) => refusal::invalid_ciphertext(),
            error => refusal::internal(&error),
        }
    }
}

/// The only algorithm that symmetric keys have.
fn algorithm() -> (&'static str, Value) {
    ("encryptionAlgorithm", "SYMMETRIC_DEFAULT".into())
}

fn using<'a>(
    caller: &'a Principal,
    operation: Operation,
    key: Option<&'a str>,
    context: &'a EncryptionContext,
    shown: (&'static str, Value),
) -> Call<'a> {
    Call { caller, operation, key, context: Some(context), parameters: vec![shown] }
}

fn wrapped(blob: Vec<u8>) -> Result<WrappedKey, KmsError> {
    WrappedKey::new(blob).map_err(|error| refusal::internal(&error))
}

/// The context as associated data, if it is not too long for that.
fn judge_context(context: &EncryptionContext) -> Result<Vec<u8>, KmsError> {
    let associated = canonical(context);
    if associated.len() <= limits::ENCRYPTION_CONTEXT_MAX {
        return Ok(associated);
    }
    let constraint = format!("have length less than or equal to {}", limits::ENCRYPTION_CONTEXT_MAX);
    Err(refusal::validation("encryptionContext", None, &constraint))
}

fn judge_plaintext(plaintext: &[u8]) -> Result<(), KmsError> {
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
