//! The HSM part of the embedded KMS: zeroized, initialised again.

use axum::Json;
use axum::extract::State;

use super::extract::{CalledBy, Nothing, Sent};
use super::problem::Refused;
use super::work::carry_out;
use super::{Operated, api, view};
use crate::sync::Arc;

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
