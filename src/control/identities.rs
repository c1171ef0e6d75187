//! Identities and key policies of the embedded KMS, as documents.

use axum::Json;
use axum::extract::State;
use hyper::StatusCode;

use super::extract::{CalledBy, NamedKey, Sent, alias_name};
use super::problem::Refused;
use super::work::carry_out;
use super::{Operated, api};
use crate::kms::EncryptionContext;
use crate::kms::embedded::AskedRight;
use crate::sync::Arc;

type Shared = State<Arc<Operated>>;

pub(super) async fn show(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
) -> Result<Json<api::Identities>, Refused> {
    carry_out(move || Ok(Json(api::Identities { document: operated.keys.identities(&caller)? }))).await
}

pub(super) async fn put(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(asked): Sent<api::Identities>,
) -> Result<StatusCode, Refused> {
    carry_out(move || {
        operated.keys.put_identities(&caller, &asked.document)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

pub(super) async fn key_policy(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedKey(key): NamedKey,
) -> Result<Json<api::KeyPolicy>, Refused> {
    carry_out(move || {
        let (_, policy) = operated.keys.key_policy(&caller, &key, None)?;
        Ok(Json(api::KeyPolicy { policy }))
    })
    .await
}

pub(super) async fn put_key_policy(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedKey(key): NamedKey,
    Sent(asked): Sent<api::PutKeyPolicy>,
) -> Result<StatusCode, Refused> {
    carry_out(move || {
        operated.keys.put_key_policy(&caller, &key, None, (&asked.policy, asked.bypass_lockout_check))?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

pub(super) async fn explain(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedKey(key): NamedKey,
    Sent(asked): Sent<api::ExplainRight>,
) -> Result<Json<api::ExplainedRight>, Refused> {
    carry_out(move || {
        let alias = asked.alias.as_deref().map(alias_name);
        let context = EncryptionContext::new(asked.context);
        let right = AskedRight { principal: &asked.principal, action: &asked.action, context, alias: alias.as_deref() };
        let explained = operated.keys.explain(&caller, &key, &right)?;
        Ok(Json(api::ExplainedRight {
            allowed: explained.allowed,
            principal: asked.principal,
            action: explained.action,
            key: explained.key,
            reason: explained.reason,
            change: explained.change,
        }))
    })
    .await
}
