//! `GET /v1/status`: everything at a glance.

use axum::Json;
use axum::extract::State;

use super::problem::Refused;
use super::work::carry_out;
use super::{Operated, api, view};
use crate::sync::Arc;
use crate::sys::locked;

pub(super) async fn status(State(operated): State<Arc<Operated>>) -> Result<Json<api::Status>, Refused> {
    carry_out(move || {
        let about = &operated.about;
        let volumes = operated.registry.list();
        let keys = operated.keys.all_keys()?;
        Ok(Json(api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: view::rfc3339(about.since),
            state_dir: about.state_dir.to_string_lossy().into_owned(),
            listeners: about.listeners.iter().map(|listener| listener.uri("")).collect(),
            kms_endpoints: about.kms_endpoints.clone(),
            key_memory: locked::kind().map(|kind| kind.to_string()).unwrap_or_default(),
            kms: about.kms.clone(),
            hsm: view::hsm(about, operated.keys.hsm_state()),
            verify_key_here: operated.keys.keeps_audit_verify_key(),
            io: about.io.to_string(),
            hardening: about.hardening.clone(),
            connections: (operated.connections)(),
            traffic: volumes.iter().filter_map(view::traffic).collect(),
            keys: keys.into_iter().map(|key| view::key(&operated.keys, key, &volumes)).collect(),
            volumes: volumes.iter().map(|volume| view::volume(about, volume)).collect(),
        }))
    })
    .await
}
