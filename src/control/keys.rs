//! Keys of the embedded KMS and their aliases.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use hyper::StatusCode;

use super::extract::{CalledBy, NamedAlias, NamedKey, Nothing, Sent, alias_name};
use super::problem::{Fault, Refused};
use super::work::carry_out;
use super::{Operated, api, view};
use crate::kms::embedded::{Embedded, KeyMetadata, KeySpec, KeyUsage, NewKey, Tag};
use crate::kms::{KeyName, KmsError, Principal};
use crate::sync::Arc;

type Answer<T> = Result<Json<T>, Refused>;
type Shared = State<Arc<Operated>>;

/// Days before a key that is to be deleted is gone, unless the caller says.
const DELETION_DAYS: u32 = 30;

pub(super) async fn list(State(operated): Shared, CalledBy(caller): CalledBy) -> Answer<Vec<api::Key>> {
    carry_out(move || {
        let keys = operated.keys.list_keys(&caller)?;
        let volumes = operated.registry.list();
        Ok(Json(keys.into_iter().map(|key| view::key(&operated.keys, key, &volumes)).collect()))
    })
    .await
}

pub(super) async fn create(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(asked): Sent<api::CreateKey>,
) -> Answer<api::Key> {
    let spec = spec(asked.spec.as_deref())?;
    let usage = usage(spec, asked.usage.as_deref())?;
    one(operated, move |keys| {
        let (alias, tags) = (asked.alias.as_deref().map(alias_name), tags(asked.tags));
        let description = asked.description.as_deref().unwrap_or_default();
        let (policy, bypass_lockout_check) = (asked.policy.as_deref(), asked.bypass_lockout_check);
        let usual = NewKey::described(description);
        let new = NewKey { alias: alias.as_deref(), tags: &tags, spec, usage, policy, bypass_lockout_check, ..usual };
        keys.create(&caller, &new)
    })
    .await
}

/// The kind of key called `name`, of those that are made here.
fn spec(name: Option<&str>) -> Result<KeySpec, Refused> {
    let Some(name) = name else { return Ok(KeySpec::Symmetric) };
    KeySpec::ALL.into_iter().find(|spec| spec.name() == name).ok_or_else(|| {
        let known: Vec<&str> = KeySpec::ALL.iter().map(|spec| spec.name()).collect();
        let message = format!("{name} is no kind of key that is made here; there are {}", known.join(", "));
        Refused::new(Fault::Usage, "key.unknown_spec", message)
    })
}

/// What a key of this kind is to be for, where somebody says or has to.
fn usage(spec: KeySpec, name: Option<&str>) -> Result<Option<KeyUsage>, Refused> {
    let (known, only) = (spec.usages(), spec.usages().len() == 1);
    match (name, known.iter().find(|usage| Some(usage.name()) == name)) {
        (None, _) if only => Ok(None),
        (_, Some(usage)) => Ok(Some(*usage)),
        _ => {
            let known: Vec<&str> = known.iter().map(|usage| usage.name()).collect();
            let message = format!("a key of the kind {} has to be for {}", spec.name(), known.join(" or "));
            Err(Refused::new(Fault::Usage, "key.unknown_usage", message))
        }
    }
}

fn tags(asked: BTreeMap<String, String>) -> Vec<Tag> {
    asked.into_iter().map(|(key, value)| Tag { key, value }).collect()
}

pub(super) async fn tag(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedKey(key): NamedKey,
    Sent(asked): Sent<api::TagKey>,
) -> Answer<api::Key> {
    one(operated, move |keys| keys.tag_resource(&caller, &key, &tags(asked.tags))).await
}

pub(super) async fn untag(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedKey(key): NamedKey,
    Sent(asked): Sent<api::UntagKey>,
) -> Answer<api::Key> {
    one(operated, move |keys| keys.untag_resource(&caller, &key, &asked.tags)).await
}

pub(super) async fn rotate_every(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedKey(key): NamedKey,
    Sent(asked): Sent<api::RotateEvery>,
) -> Answer<api::Key> {
    one(operated, move |keys| match asked.days {
        None => keys.disable_key_rotation(&caller, &key),
        days => keys.enable_key_rotation(&caller, &key, days),
    })
    .await
}

pub(super) async fn show(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedKey(key): NamedKey,
) -> Answer<api::Key> {
    one(operated, move |keys| keys.describe_key(&caller, &key)).await
}

/// An operation on a key that needs no more than its name.
type Change = fn(&Embedded, &Principal, &KeyName) -> Result<KeyMetadata, KmsError>;

async fn change(operated: Arc<Operated>, caller: Principal, key: KeyName, change: Change) -> Answer<api::Key> {
    one(operated, move |keys| change(keys, &caller, &key)).await
}

/// Handlers of operations that need no more than the key's name.
macro_rules! changes {
    ($($handler:ident = $change:path;)*) => {$(
        pub(super) async fn $handler(
            State(operated): Shared,
            CalledBy(caller): CalledBy,
            NamedKey(key): NamedKey,
            Sent(Nothing {}): Sent<Nothing>,
        ) -> Answer<api::Key> {
            change(operated, caller, key, |keys, caller, key| $change(keys, caller, key)).await
        }
    )*};
}
changes! {
    enable = Embedded::enable_key;
    disable = Embedded::disable_key;
    cancel_deletion = Embedded::cancel_key_deletion;
    rotate = Embedded::rotate_key_on_demand;
}

pub(super) async fn schedule_deletion(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedKey(key): NamedKey,
    Sent(asked): Sent<api::ScheduleDeletion>,
) -> Answer<api::Key> {
    let days = asked.days.unwrap_or(DELETION_DAYS);
    one(operated, move |keys| keys.schedule_key_deletion(&caller, &key, days)).await
}

/// The key that `operation` answers, with the volumes that hang on it.
async fn one(
    operated: Arc<Operated>,
    operation: impl FnOnce(&Embedded) -> Result<KeyMetadata, KmsError> + Send + 'static,
) -> Answer<api::Key> {
    carry_out(move || {
        let key = operation(&operated.keys)?;
        Ok(Json(view::key(&operated.keys, key, &operated.registry.list())))
    })
    .await
}

pub(super) async fn list_aliases(State(operated): Shared, CalledBy(caller): CalledBy) -> Answer<Vec<api::Alias>> {
    carry_out(move || {
        let aliases = operated.keys.list_aliases(&caller)?;
        Ok(Json(aliases.into_iter().map(view::alias).collect()))
    })
    .await
}

pub(super) async fn create_alias(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(asked): Sent<api::PutAlias>,
) -> Answer<api::Alias> {
    carry_out(move || {
        let alias = operated.keys.create_alias(&caller, &alias_name(&asked.name), &KeyName::new(asked.target))?;
        Ok(Json(view::alias(alias)))
    })
    .await
}

pub(super) async fn update_alias(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedAlias(name): NamedAlias,
    Sent(asked): Sent<api::PutAlias>,
) -> Answer<api::Alias> {
    if alias_name(&asked.name) != name {
        return Err(Refused::new(Fault::Usage, "request.bad_body", "path and body name different aliases"));
    }
    carry_out(move || {
        let alias = operated.keys.update_alias(&caller, &name, &KeyName::new(asked.target))?;
        Ok(Json(view::alias(alias)))
    })
    .await
}

pub(super) async fn delete_alias(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedAlias(name): NamedAlias,
    Sent(Nothing {}): Sent<Nothing>,
) -> Result<StatusCode, Refused> {
    carry_out(move || {
        operated.keys.delete_alias(&caller, &name)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
