//! Access keys of the embedded KMS: made, listed, deleted.

use axum::Json;
use axum::extract::State;
use hyper::StatusCode;

use super::extract::{CalledBy, NamedAccessKey, Nothing, Sent};
use super::problem::Refused;
use super::view::rfc3339;
use super::work::carry_out;
use super::{Operated, api};
use crate::sync::Arc;

type Answer<T> = Result<Json<T>, Refused>;
type Shared = State<Arc<Operated>>;

pub(super) async fn create(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(asked): Sent<api::CreateAccessKey>,
) -> Answer<api::NewAccessKey> {
    carry_out(move || {
        let made = operated.keys.create_access_key(&caller, &asked.user)?;
        Ok(Json(api::NewAccessKey {
            access_key_id: made.key.id,
            secret_access_key: String::from_utf8_lossy(made.secret.expose()).into_owned(),
            user: made.key.user,
            created: rfc3339(made.key.created),
        }))
    })
    .await
}

pub(super) async fn list(State(operated): Shared, CalledBy(caller): CalledBy) -> Answer<Vec<api::AccessKey>> {
    carry_out(move || {
        let keys = operated.keys.list_access_keys(&caller)?.into_iter();
        let shown =
            keys.map(|key| api::AccessKey { access_key_id: key.id, user: key.user, created: rfc3339(key.created) });
        Ok(Json(shown.collect()))
    })
    .await
}

pub(super) async fn delete(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedAccessKey(id): NamedAccessKey,
    Sent(Nothing {}): Sent<Nothing>,
) -> Result<StatusCode, Refused> {
    carry_out(move || {
        operated.keys.delete_access_key(&caller, &id)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
