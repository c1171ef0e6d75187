//! The lists, with AWS's limits, and what is listed with them.

use serde_json::{Value, json};

use crate::kms::embedded::{Embedded, Page, SignedRequest};
use crate::kms::wire::input::Input;
use crate::kms::{KeyName, KmsError};

use super::super::seconds;
use super::keys::expiration_model;

type Answer = Result<Value, KmsError>;

/// A page as AWS answers it: the items under `name`, and where the next one starts.
pub(super) fn answer<T>(name: &str, page: Page<T>, show: impl Fn(T) -> Value) -> Value {
    let items: Vec<Value> = page.items.into_iter().map(show).collect();
    let mut answer = json!({ name: items, "Truncated": page.next.is_some() });
    if let Some(next) = page.next {
        answer["NextMarker"] = next.into();
    }
    answer
}

pub(super) fn list_keys(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let page = kms.page_of_keys(caller, &input.page(100, 1000)?)?;
    Ok(answer("Keys", page, |(id, arn)| json!({ "KeyId": id.to_string(), "KeyArn": arn })))
}

pub(super) fn list_aliases(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let key = input.text("KeyId").map(KeyName::new);
    let page = kms.page_of_aliases(caller, key.as_ref(), &input.page(50, 100)?)?;
    Ok(answer(
        "Aliases",
        page,
        |alias| json!({ "AliasName": alias.name, "AliasArn": alias.arn, "TargetKeyId": alias.target_key_id }),
    ))
}

pub(super) fn list_resource_tags(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let page = kms.page_of_tags(caller, &input.key(), &input.page(50, 50)?)?;
    Ok(answer("Tags", page, |tag| json!({ "TagKey": tag.key, "TagValue": tag.value })))
}

pub(super) fn list_key_policies(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let page = kms.list_key_policies(caller, &input.key(), &input.page(100, 1000)?)?;
    Ok(answer("PolicyNames", page, Value::from))
}

pub(super) fn get_key_policy(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let (name, policy) = kms.key_policy(caller, &input.key(), input.text("PolicyName"))?;
    Ok(json!({ "PolicyName": name, "Policy": policy }))
}

pub(super) fn list_key_rotations(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let all = input.text("IncludeKeyMaterial") == Some("ALL_KEY_MATERIAL");
    let (key, page) = kms.list_key_rotations(caller, &input.key(), all, &input.page(100, 1000)?)?;
    Ok(answer("Rotations", page, |entry| {
        let mut shown = json!({
            "KeyId": key,
            "KeyMaterialId": entry.material,
            "KeyMaterialState": if entry.current { "CURRENT" } else { "NON_CURRENT" },
        });
        if let Some((date, automatic)) = entry.rotated {
            shown["RotationDate"] = seconds(date).into();
            shown["RotationType"] = if automatic { "AUTOMATIC" } else { "ON_DEMAND" }.into();
        }
        if let Some(import) = entry.import {
            shown["ImportState"] = if import.present { "IMPORTED" } else { "PENDING_IMPORT" }.into();
            if import.pending {
                shown["KeyMaterialState"] = "PENDING_ROTATION".into();
            }
            if import.present {
                shown["ExpirationModel"] = expiration_model(import.expires).into();
            }
            if let Some(expires) = import.expires {
                shown["ValidTo"] = seconds(expires).into();
            }
            if let Some(description) = import.description {
                shown["KeyMaterialDescription"] = description.into();
            }
        }
        shown
    }))
}
