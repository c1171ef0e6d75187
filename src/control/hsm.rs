//! The HSM part of the embedded KMS: zeroized, initialised again.

use axum::Json;
use axum::extract::State;
use uuid::Uuid;

use super::extract::{CalledBy, Nothing, Sent};
use super::problem::Refused;
use super::work::carry_out;
use super::{Operated, api, view};
use crate::sync::Arc;

/// What the names of copies begin with; what a daemon finds of them when it starts is nobody's any more.
pub(crate) const SNAPSHOT: &str = "kms-copy-";

type Answer = Result<Json<api::Hsm>, Refused>;
type Shared = State<Arc<Operated>>;

pub(super) async fn zeroize(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(Nothing {}): Sent<Nothing>,
) -> Answer {
    carry_out(move || {
        operated.keys.zeroize(&caller)?;
        Ok(Json(view::hsm(&operated.about, operated.keys.hsm_state())))
    })
    .await
}

/// A copy of the store in the state directory, which whoever asked removes again.
pub(super) async fn snapshot(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(Nothing {}): Sent<Nothing>,
) -> Result<Json<api::Snapshot>, Refused> {
    carry_out(move || {
        let path = operated.about.state_dir.join(format!("{SNAPSHOT}{}", Uuid::new_v4()));
        operated.keys.copy_store(&caller, &path)?;
        Ok(Json(api::Snapshot { path: path.to_string_lossy().into_owned() }))
    })
    .await
}

pub(super) async fn initialise(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(Nothing {}): Sent<Nothing>,
) -> Answer {
    carry_out(move || {
        operated.keys.initialise(&caller)?;
        Ok(Json(view::hsm(&operated.about, operated.keys.hsm_state())))
    })
    .await
}
