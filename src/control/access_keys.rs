//! Access keys of the embedded KMS: made, listed, deleted.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use hyper::StatusCode;
use serde::Serialize;

use super::extract::{CalledBy, NamedAccessKey, Nothing, Sent};
use super::problem::Refused;
use super::view::rfc3339;
use super::work::carry_out;
use super::{Operated, api, wiped};
use crate::sync::Arc;

type Answer<T> = Result<Json<T>, Refused>;
type Shared = State<Arc<Operated>>;

pub(super) async fn create(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(asked): Sent<api::CreateAccessKey>,
) -> Result<Response, Refused> {
    carry_out(move || {
        let made = operated.keys.create_access_key(&caller, &asked.user)?;
        let secret = str::from_utf8(made.secret.expose()).expect("it is letters of base64");
        let (id, user, created) = (&made.key.id, &made.key.user, &rfc3339(made.key.created));
        let answer = Made { access_key_id: id, secret_access_key: secret, user, created };
        wiped::answer(&answer, id.len() + secret.len() + user.len() + created.len() + 96)
    })
    .await
}

/// [`api::NewAccessKey`], borrowed.
#[derive(Serialize)]
struct Made<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    user: &'a str,
    created: &'a str,
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
