//! `GET /v1/audit`: records of the embedded KMS's audit log, found by key, principal, volume and time.
//!
//! How many lines of the log are no record, and were passed over, is in a header of the answer. `/v1/audit/verify-key` hands out
//! the log's verify key until somebody says that they have it.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use hyper::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::extract::{CalledBy, NamedEvent, Nothing, Sent, volume_ref};
use super::problem::{Fault, Refused};
use super::work::carry_out;
use super::{Operated, api, wiped};
use crate::attach::VolumeRef;
use crate::kms::embedded::AuditFilter;
use crate::limits;
use crate::sync::Arc;

type Shared = State<Arc<Operated>>;

/// The parameters of a search.
pub(super) const PARAMETERS: &[&str] = &["key", "principal", "volume", "since", "until", "limit"];

/// What the caller asks for, word for word.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    key: Option<String>,
    principal: Option<String>,
    /// By name or id.
    volume: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: Option<usize>,
}

pub(super) async fn list(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<([(&'static str, String); 1], Json<Vec<Value>>), Refused> {
    let bad = |text: String| Refused::new(Fault::Usage, "request.bad_query", text);
    let Query(asked) = asked.map_err(|error| bad(error.body_text()))?;
    let most = asked.limit.unwrap_or(limits::AUDIT_RECORDS_USUAL);
    if !(1..=limits::AUDIT_RECORDS_MAX).contains(&most) {
        return Err(bad(format!("limit is 1 to {}", limits::AUDIT_RECORDS_MAX)));
    }
    carry_out(move || {
        let volume = asked.volume.map(|word| volume_id(&operated, &word)).transpose()?;
        let Asked { key, principal, since, until, .. } = asked;
        let filter = AuditFilter { key, principal, volume, since, until };
        let found = operated.keys.audit_records(&caller, &filter, most)?;
        Ok(([(api::UNREADABLE_LINES, found.unreadable.to_string())], Json(found.records)))
    })
    .await
}

pub(super) async fn show(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedEvent(id): NamedEvent,
) -> Result<Json<Value>, Refused> {
    carry_out(move || Ok(Json(operated.keys.audit_record(&caller, &id)?))).await
}

pub(super) async fn verify_key(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(Nothing {}): Sent<Nothing>,
) -> Result<Response, Refused> {
    carry_out(move || {
        let key = operated.keys.audit_verify_key(&caller)?;
        let (key, fingerprint) = (key.text(), key.fingerprint());
        let answer = HandedOut { key: &key, fingerprint: &fingerprint };
        wiped::answer(&answer, key.len() + fingerprint.len() + 64)
    })
    .await
}

/// [`api::AuditVerifyKey`], borrowed.
#[derive(Serialize)]
struct HandedOut<'a> {
    key: &'a str,
    fingerprint: &'a str,
}

pub(super) async fn forget_verify_key(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(asked): Sent<api::ForgetAuditVerifyKey>,
) -> Result<StatusCode, Refused> {
    carry_out(move || {
        operated.keys.forget_audit_verify_key(&caller, &asked.fingerprint)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// The id of the volume called `word`; an id may be that of a volume that is gone.
fn volume_id(operated: &Operated, word: &str) -> Result<String, Refused> {
    match volume_ref(word)? {
        VolumeRef::Id(id) => Ok(id.to_string()),
        named => Ok(operated.registry.show(&named)?.record.id.to_string()),
    }
}
