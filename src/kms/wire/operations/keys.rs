//! Operations on keys and aliases.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::kms::embedded::{Embedded, KeyMetadata, KeySpec, KeyState, KeyUsage, NewKey, Origin, SignedRequest};
use crate::kms::wire::input::Input;
use crate::kms::wire::refusal::{invalid, unsupported};
use crate::kms::{KeyName, KmsError};

use super::super::seconds;

/// Days until a key that is to be deleted is gone, unless the caller says.
const DELETION_DAYS: u32 = 30;

type Answer = Result<Value, KmsError>;

pub(super) fn create_key(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let (spec, usage) = spec(input)?;
    input.without(&["CustomKeyStoreId", "XksKeyId"])?;
    let origin = match input.text("Origin") {
        None | Some("AWS_KMS") => Origin::Kms,
        Some("EXTERNAL") => Origin::External,
        Some(origin) => return Err(unsupported(&format!("Origin {origin}"))),
    };
    if input.flag("MultiRegion") {
        return Err(unsupported("MultiRegion"));
    }
    let new = NewKey {
        description: input.text("Description").unwrap_or_default(),
        alias: None,
        tags: &input.tags(),
        spec,
        usage,
        origin,
        policy: input.text("Policy"),
        bypass_lockout_check: input.flag("BypassPolicyLockoutSafetyCheck"),
    };
    let made = kms.create(caller, &new)?;
    Ok(json!({ "KeyMetadata": metadata(kms, &made) }))
}

/// Which key is asked for, and what for.
fn spec(input: &Input) -> Result<(KeySpec, Option<KeyUsage>), KmsError> {
    let (spec, old) = (input.text("KeySpec"), input.text("CustomerMasterKeySpec"));
    if spec.is_some() && old.is_some() {
        return Err(invalid(
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.",
        ));
    }
    let name = spec.or(old).unwrap_or(KeySpec::Symmetric.name());
    let spec = KeySpec::ALL.into_iter().find(|known| known.name() == name);
    match (input.text("KeyUsage"), spec) {
        (None, Some(KeySpec::Symmetric)) => Ok((KeySpec::Symmetric, None)),
        (None, _) => {
            Err(invalid("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."))
        }
        (usage, Some(spec)) => Ok((spec, Some(spec.usage_named(usage)?))),
        (Some(_), None) => Err(unsupported(&format!("KeySpec {name}"))),
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

pub(super) fn put_key_policy(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let policy = (input.needed("Policy"), input.flag("BypassPolicyLockoutSafetyCheck"));
    kms.put_key_policy(caller, &input.key(), input.text("PolicyName"), policy).map(|()| Value::Null)
}

pub(super) fn update_key_description(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.update_key_description(caller, &input.key(), input.needed("Description")).map(|_| Value::Null)
}

pub(super) fn tag_resource(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.tag_resource(caller, &input.key(), &input.tags()).map(|_| Value::Null)
}

pub(super) fn untag_resource(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.untag_resource(caller, &input.key(), &input.texts("TagKeys")).map(|_| Value::Null)
}

pub(super) fn enable_key_rotation(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let period = input.number("RotationPeriodInDays");
    kms.enable_key_rotation(caller, &input.key(), period).map(|_| Value::Null)
}

pub(super) fn disable_key_rotation(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.disable_key_rotation(caller, &input.key()).map(|_| Value::Null)
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

pub(super) fn get_key_last_usage(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let usage = kms.key_last_usage(caller, &input.key())?;
    let last = usage.last.map_or_else(
        || json!({}),
        |last| {
            json!({
                "Operation": last.operation,
                "Timestamp": seconds(last.time.into()),
                "CloudTrailEventId": last.event.to_string(),
                "KmsRequestId": last.request.to_string(),
            })
        },
    );
    Ok(json!({
        "KeyId": usage.key_id,
        "KeyLastUsage": last,
        "TrackingStartDate": seconds(usage.created),
        "KeyCreationDate": seconds(usage.created),
    }))
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
        "KeyUsage": key.usage.name(),
        "KeyState": key.state.name(),
        "DeletionDate": key.deletion_date.map(seconds),
        "Origin": key.origin.name(),
        "ExpirationModel": key.imported.map(expiration_model),
        "ValidTo": key.imported.flatten().map(seconds),
        "KeyManager": key.manager.name(),
        "CustomerMasterKeySpec": key.spec.name(),
        "KeySpec": key.spec.name(),
        key.usage.algorithms_member(): key.spec.algorithms(key.usage),
        "MultiRegion": false,
        "CurrentKeyMaterialId": Some(&key.current_key_material_id).filter(|id| !id.is_empty()),
    });
    let Value::Object(members) = described else { return Map::new() };
    members.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

/// How imported material with this date expires.
pub(super) fn expiration_model(expires: Option<SystemTime>) -> &'static str {
    if expires.is_some() { "KEY_MATERIAL_EXPIRES" } else { "KEY_MATERIAL_DOES_NOT_EXPIRE" }
}
