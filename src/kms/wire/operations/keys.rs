//! Operations on keys and aliases.

use serde_json::{Map, Value, json};

use crate::kms::embedded::{Embedded, KeyMetadata, KeyState, SignedRequest};
use crate::kms::wire::input::Input;
use crate::kms::wire::refusal::{invalid, unsupported};
use crate::kms::{KeyName, KmsError};

use super::super::seconds;

const SYMMETRIC: &str = "SYMMETRIC_DEFAULT";
const ENCRYPTION: &str = "ENCRYPT_DECRYPT";

/// Days until a key that is to be deleted is gone, unless the caller says.
const DELETION_DAYS: u32 = 30;

type Answer = Result<Value, KmsError>;

pub(super) fn create_key(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_kind(input)?;
    input.without(&["CustomKeyStoreId", "XksKeyId"])?;
    if let Some(origin) = input.text("Origin").filter(|origin| *origin != "AWS_KMS") {
        return Err(unsupported(&format!("Origin {origin}")));
    }
    if input.flag("MultiRegion") {
        return Err(unsupported("MultiRegion"));
    }
    let policy = input.text("Policy").map(serde_json::from_str::<Value>);
    let usual = serde_json::from_str(&kms.default_key_policy()).expect("it was made as JSON");
    if policy.is_some_and(|policy| policy.ok() != Some(usual)) {
        return Err(unsupported("A key policy other than the default one"));
    }
    let description = input.text("Description").unwrap_or_default();
    let made = kms.create_tagged_key(caller, description, None, &input.tags())?;
    Ok(json!({ "KeyMetadata": metadata(kms, &made) }))
}

/// Which key is asked for: a symmetric one is all there is.
fn judge_kind(input: &Input) -> Result<(), KmsError> {
    let (spec, old) = (input.text("KeySpec"), input.text("CustomerMasterKeySpec"));
    if spec.is_some() && old.is_some() {
        return Err(invalid(
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.",
        ));
    }
    let spec = spec.or(old).unwrap_or(SYMMETRIC);
    match input.text("KeyUsage") {
        None if spec != SYMMETRIC => {
            Err(invalid("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."))
        }
        Some(usage) if spec == SYMMETRIC && usage != ENCRYPTION => {
            Err(invalid(format!("KeyUsage {usage} is not compatible with KeySpec {spec}")))
        }
        _ if spec != SYMMETRIC => Err(unsupported(&format!("KeySpec {spec}"))),
        _ => Ok(()),
    }
}

pub(super) fn describe_key(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let key = kms.describe_key(caller, &input.key())?;
    Ok(json!({ "KeyMetadata": metadata(kms, &key) }))
}

pub(super) fn enable_key(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.enable_key(caller, &input.key()).map(|_| Value::Null)
}

pub(super) fn disable_key(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.disable_key(caller, &input.key()).map(|_| Value::Null)
}

pub(super) fn schedule_key_deletion(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let days = input.number("PendingWindowInDays").unwrap_or(DELETION_DAYS);
    let key = kms.schedule_key_deletion(caller, &input.key(), days)?;
    Ok(json!({
        "KeyId": key.arn,
        "DeletionDate": key.deletion_date.map(seconds),
        "KeyState": key.state.name(),
        "PendingWindowInDays": days,
    }))
}

pub(super) fn cancel_key_deletion(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let key = kms.cancel_key_deletion(caller, &input.key())?;
    Ok(json!({ "KeyId": key.arn }))
}

pub(super) fn update_key_description(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.update_key_description(caller, &input.key(), input.needed("Description")).map(|_| Value::Null)
}

pub(super) fn tag_resource(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.tag_resource(caller, &input.key(), &input.tags()).map(|()| Value::Null)
}

pub(super) fn untag_resource(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.untag_resource(caller, &input.key(), &input.texts("TagKeys")).map(|()| Value::Null)
}

pub(super) fn enable_key_rotation(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let period = input.number("RotationPeriodInDays");
    kms.enable_key_rotation(caller, &input.key(), period).map(|()| Value::Null)
}

pub(super) fn disable_key_rotation(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.disable_key_rotation(caller, &input.key()).map(|()| Value::Null)
}

pub(super) fn get_key_rotation_status(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let status = kms.key_rotation_status(caller, &input.key())?;
    let mut answer = json!({ "KeyId": status.key_id, "KeyRotationEnabled": status.automatic.is_some() });
    if let Some((period, next)) = status.automatic {
        answer["RotationPeriodInDays"] = period.into();
        answer["NextRotationDate"] = seconds(next).into();
    }
    Ok(answer)
}

pub(super) fn rotate_key_on_demand(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let key = kms.rotate_key_on_demand(caller, &input.key())?;
    Ok(json!({ "KeyId": key.arn }))
}

pub(super) fn create_alias(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let target = KeyName::new(input.needed("TargetKeyId"));
    kms.create_alias(caller, input.needed("AliasName"), &target).map(|_| Value::Null)
}

pub(super) fn update_alias(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let target = KeyName::new(input.needed("TargetKeyId"));
    kms.update_alias(caller, input.needed("AliasName"), &target).map(|_| Value::Null)
}

pub(super) fn delete_alias(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.delete_alias(caller, input.needed("AliasName")).map(|()| Value::Null)
}

fn metadata(kms: &Embedded, key: &KeyMetadata) -> Map<String, Value> {
    let described = json!({
        "AWSAccountId": kms.identity().account,
        "KeyId": key.key_id,
        "Arn": key.arn,
        "CreationDate": seconds(key.created),
        "Enabled": key.state == KeyState::Enabled,
        "Description": key.description,
        "KeyUsage": ENCRYPTION,
        "KeyState": key.state.name(),
        "DeletionDate": key.deletion_date.map(seconds),
        "Origin": "AWS_KMS",
        "KeyManager": key.manager.name(),
        "CustomerMasterKeySpec": SYMMETRIC,
        "KeySpec": SYMMETRIC,
        "EncryptionAlgorithms": [SYMMETRIC],
        "MultiRegion": false,
        "CurrentKeyMaterialId": key.current_key_material_id,
    });
    let Value::Object(members) = described else { return Map::new() };
    members.into_iter().filter(|(_, value)| !value.is_null()).collect()
}
