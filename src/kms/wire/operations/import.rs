//! Import of key material.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::crypto::wrapping::Wrapping;
use crate::kms::KmsError;
use crate::kms::embedded::{Embedded, ImportType, KeyMaterial, SignedRequest};
use crate::kms::wire::input::Input;
use crate::kms::wire::refusal::{invalid, unsupported};

use super::super::seconds;

type Answer = Result<Value, KmsError>;

pub(super) fn get_parameters_for_import(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let (algorithm, spec) = (input.needed("WrappingAlgorithm"), input.needed("WrappingKeySpec"));
    let wrapping = Wrapping::ALL.into_iter().find(|wrapping| wrapping.name() == algorithm);
    let wrapping = wrapping.ok_or_else(|| unsupported(&format!("WrappingAlgorithm {algorithm}")))?;
    let bits = spec.strip_prefix("RSA_").and_then(|bits| bits.parse().ok());
    let bits = bits.ok_or_else(|| unsupported(&format!("WrappingKeySpec {spec}")))?;
    let given = kms.parameters_for_import(caller, &input.key(), wrapping, bits)?;
    Ok(json!({
        "KeyId": given.key,
        "ImportToken": STANDARD.encode(given.token),
        "PublicKey": STANDARD.encode(given.public_key),
        "ParametersValidTo": seconds(given.valid_to),
    }))
}

pub(super) fn import_key_material(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let (token, wrapped) = (input.blob("ImportToken"), input.blob("EncryptedKeyMaterial"));
    let kind = match input.text("ImportType") {
        None => None,
        Some("NEW_KEY_MATERIAL") => Some(ImportType::New),
        Some(_) => Some(ImportType::Existing),
    };
    let id = input.text("KeyMaterialId");
    if id.is_some() && kind == Some(ImportType::New) {
        return Err(invalid("A KeyMaterialId cannot be specified with ImportType NEW_KEY_MATERIAL."));
    }
    let material = KeyMaterial {
        token: &token.unwrap_or_default(),
        wrapped: &wrapped.unwrap_or_default(),
        valid_to: expiry(input)?,
        kind,
        description: input.text("KeyMaterialDescription"),
        id,
    };
    let (key, id) = kms.import_key_material(caller, &input.key(), &material)?;
    Ok(json!({ "KeyId": key, "KeyMaterialId": id }))
}

pub(super) fn delete_imported_key_material(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let (key, id) = kms.delete_imported_key_material(caller, &input.key(), input.text("KeyMaterialId"))?;
    let mut answer = json!({ "KeyId": key });
    if let Some(id) = id {
        answer["KeyMaterialId"] = id.into();
    }
    Ok(answer)
}

/// When the material expires, which it does unless the request says that it does not.
fn expiry(input: &Input) -> Result<Option<Timestamp>, KmsError> {
    let date = input.value("ValidTo").and_then(Value::as_f64);
    match (input.text("ExpirationModel"), date) {
        (Some("KEY_MATERIAL_DOES_NOT_EXPIRE"), None) => Ok(None),
        (Some("KEY_MATERIAL_DOES_NOT_EXPIRE"), Some(_)) => {
            Err(invalid("A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE"))
        }
        (_, None) => Err(invalid("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")),
        (_, Some(seconds)) => {
            let time = jiff::SignedDuration::try_from_secs_f64(seconds).ok();
            let time = time.and_then(|since| Timestamp::UNIX_EPOCH.checked_add(since).ok());
            time.map(Some).ok_or_else(|| invalid("The validTo date cannot be read"))
        }
    }
}
