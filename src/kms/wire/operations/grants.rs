//! Grants.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::kms::embedded::{Embedded, GrantConstraint, NewGrant, RetiredGrant, Shown, SignedRequest};
use crate::kms::wire::input::Input;
use crate::kms::wire::refusal::{invalid, unsupported};
use crate::kms::{KeyName, KmsError};

use super::super::seconds;
use super::lists::answer;

type Answer = Result<Value, KmsError>;

pub(super) fn create_grant(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    input.without(&["GranteeServicePrincipal", "RetiringServicePrincipal"])?;
    let grantee = input.text("GranteePrincipal").ok_or_else(|| missing("granteePrincipal"))?;
    let operations = input.texts("Operations");
    let new = NewGrant {
        grantee,
        retiring: input.text("RetiringPrincipal"),
        operations: &operations,
        constraint: constraint(input)?,
        name: input.text("Name"),
    };
    let grant = kms.create_grant(caller, &input.key(), &new)?;
    Ok(json!({ "GrantId": grant.id, "GrantToken": grant.token }))
}

fn missing(member: &str) -> KmsError {
    invalid(format!(
        "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
    ))
}

/// The constraint that is asked for; one without pairs is none.
fn constraint(input: &Input) -> Result<Option<GrantConstraint>, KmsError> {
    let Some(constraints) = input.value("Constraints") else { return Ok(None) };
    if !constraints["SourceArn"].is_null() {
        return Err(unsupported("The constraint SourceArn"));
    }
    let pairs = |member: &str| {
        let pairs = constraints[member].as_object().into_iter().flatten();
        let pairs = pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        Some(pairs.collect::<BTreeMap<_, _>>()).filter(|pairs| !pairs.is_empty())
    };
    match (pairs("EncryptionContextEquals"), pairs("EncryptionContextSubset")) {
        (None, None) => Ok(None),
        (Some(pairs), None) => Ok(Some(GrantConstraint::Equals(pairs))),
        (None, Some(pairs)) => Ok(Some(GrantConstraint::Subset(pairs))),
        (Some(_), Some(_)) => Err(invalid("A grant has EncryptionContextEquals or EncryptionContextSubset, not both.")),
    }
}

pub(super) fn list_grants(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    input.without(&["GranteeServicePrincipal"])?;
    let of = (input.text("GrantId"), input.text("GranteePrincipal"));
    let page = kms.page_of_grants(caller, &input.key(), of, &input.page(50, 100)?)?;
    Ok(answer("Grants", page, shown))
}

pub(super) fn list_retirable_grants(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    input.without(&["RetiringServicePrincipal"])?;
    let retiring = input.text("RetiringPrincipal").ok_or_else(|| missing("retiringPrincipal"))?;
    let page = kms.page_of_retirable_grants(caller, retiring, &input.page(50, 100)?)?;
    Ok(answer("Grants", page, shown))
}

pub(super) fn retire_grant(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    let key = input.text("KeyId").map(KeyName::new);
    let which = match (input.text("GrantToken"), &key, input.text("GrantId")) {
        (Some(token), None, None) => RetiredGrant::Token(token),
        (None, Some(key), Some(id)) => RetiredGrant::Id(key, id),
        _ => return Err(invalid("Please specify either a grant token, or a key and a grant ID.")),
    };
    kms.retire_grant(caller, which).map(|()| Value::Null)
}

pub(super) fn revoke_grant(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    kms.revoke_grant(caller, &input.key(), input.needed("GrantId")).map(|()| Value::Null)
}

fn shown(grant: Shown) -> Value {
    let mut shown = Map::new();
    shown.insert("KeyId".to_owned(), json!(grant.key));
    shown.insert("GrantId".to_owned(), grant.id.into());
    shown.insert("Name".to_owned(), grant.name.unwrap_or_default().into());
    shown.insert("CreationDate".to_owned(), seconds(grant.created).into());
    shown.insert("GranteePrincipal".to_owned(), grant.grantee.into());
    shown.extend(grant.retiring.map(|retiring| ("RetiringPrincipal".to_owned(), retiring.into())));
    shown.insert("IssuingAccount".to_owned(), grant.account.into());
    shown.insert("Operations".to_owned(), grant.operations.into());
    shown.extend(grant.constraint.map(|constraint| {
        let shown = match constraint {
            GrantConstraint::Equals(pairs) => json!({ "EncryptionContextEquals": pairs }),
            GrantConstraint::Subset(pairs) => json!({ "EncryptionContextSubset": pairs }),
        };
        ("Constraints".to_owned(), shown)
    }));
    shown.into()
}
