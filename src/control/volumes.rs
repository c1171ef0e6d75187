//! Volumes: made, taken in, shown, attached, detached, removed.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::StatusCode;
use serde::Serialize;

use super::extract::{CalledBy, NamedVolume, Nothing, Sent, volume_name};
use super::problem::{Fault, Refused};
use super::work::{carry_out, in_steps};
use super::{Operated, api, view, wiped};
use crate::attach::{AttachOptions, Caching, CreateRequest, Force, NewSeal};
use crate::kms::KeyName;
use crate::sync::Arc;
use crate::units::{ByteCount, SectorSize};
use crate::volume::{Progress, Rollback};

type Answer<T> = Result<Json<T>, Refused>;
type Shared = State<Arc<Operated>>;

/// Bytes under one XTS key, unless the caller says.
const SCOPE: u64 = 1 << 40;

pub(super) async fn list(State(operated): Shared) -> Answer<Vec<api::Volume>> {
    carry_out(move || {
        let volumes = operated.registry.list();
        Ok(Json(volumes.iter().map(|volume| view::volume(&operated.about, volume)).collect()))
    })
    .await
}

pub(super) async fn show(State(operated): Shared, NamedVolume(volume): NamedVolume) -> Answer<api::Volume> {
    carry_out(move || Ok(Json(view::volume(&operated.about, &operated.registry.show(&volume)?)))).await
}

pub(super) async fn create(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(asked): Sent<api::CreateVolume>,
) -> Result<Response, Refused> {
    let request = create_request(asked)?;
    let stop = operated.stop.clone();
    let operation = move |progress: Progress<'_>| {
        let made = operated.registry.create(&caller, request, progress)?;
        Ok(view::volume(&operated.about, &made))
    };
    Ok(in_steps(stop, operation).await)
}

fn create_request(asked: api::CreateVolume) -> Result<CreateRequest, Refused> {
    let sector_size = asked.sector_size.map_or(Ok(SectorSize::B4096), SectorSize::try_from);
    Ok(CreateRequest {
        name: volume_name(&asked.name)?,
        size: asked.size.map(ByteCount::new),
        key: asked.key.map(KeyName::new),
        kms: asked.kms,
        backing: asked.backing.map(|path| absolute(&path)).transpose()?,
        sector_size: sector_size
            .map_err(|bad| Refused::new(Fault::Usage, "volume.bad_sector_size", bad.to_string()))?,
        scope: ByteCount::new(asked.scope.unwrap_or(SCOPE)),
        thick: asked.thick,
        force: asked.force,
    })
}

/// The daemon's working directory means nothing to a caller.
fn absolute(path: &str) -> Result<PathBuf, Refused> {
    let bad = |why: &str| Err(Refused::new(Fault::Usage, "volume.bad_path", format!("the backing's path {why}")));
    match path {
        path if path.contains('\0') => bad("holds a NUL"),
        path if !path.starts_with('/') => bad("is not absolute"),
        path => Ok(PathBuf::from(path)),
    }
}

pub(super) async fn add(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    Sent(asked): Sent<api::AddVolume>,
) -> Answer<api::Volume> {
    let path = absolute(&asked.path)?;
    carry_out(move || {
        Ok(Json(if asked.dry_run {
            view::claimed(&asked.path, &operated.registry.inspect(path)?)
        } else {
            view::volume(&operated.about, &operated.registry.add(&caller, path)?)
        }))
    })
    .await
}

pub(super) async fn delete(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedVolume(volume): NamedVolume,
    Sent(Nothing {}): Sent<Nothing>,
) -> Result<StatusCode, Refused> {
    carry_out(move || {
        operated.registry.delete(&caller, &volume)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

pub(super) async fn forget(
    State(operated): Shared,
    NamedVolume(volume): NamedVolume,
    Sent(Nothing {}): Sent<Nothing>,
) -> Result<StatusCode, Refused> {
    carry_out(move || {
        operated.registry.forget(&volume)?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

pub(super) async fn fill(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedVolume(volume): NamedVolume,
    Sent(Nothing {}): Sent<Nothing>,
) -> Response {
    let stop = operated.stop.clone();
    let operation = move |progress: Progress<'_>| {
        let filled = operated.registry.fill(&caller, &volume, progress)?;
        Ok(view::volume(&operated.about, &filled))
    };
    in_steps(stop, operation).await
}

/// An attachment, or for a dry run the volume that would be attached.
pub(super) async fn attach(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedVolume(volume): NamedVolume,
    Sent(asked): Sent<api::Attach>,
) -> Result<Response, Refused> {
    let rollback = if asked.accept_rollback { Rollback::Accept } else { Rollback::Refuse };
    let caching = if asked.direct { Caching::Direct } else { Caching::PageCache };
    let options = AttachOptions { read_only: asked.read_only, caching, rollback };
    carry_out(move || {
        let (registry, about) = (&operated.registry, &operated.about);
        if asked.dry_run {
            let would_be = registry.rehearse(&caller, &volume, options)?;
            return Ok(Json(view::volume(about, &would_be)).into_response());
        }
        let attached = registry.attach(&caller, &volume, options)?;
        let gone = || Refused::new(Fault::Conflict, "volume.detached", "the volume was detached again meanwhile");
        Ok(Json(view::attachment(about, &attached).ok_or_else(gone)?).into_response())
    })
    .await
}

pub(super) async fn detach(
    State(operated): Shared,
    NamedVolume(volume): NamedVolume,
    Sent(asked): Sent<api::Detach>,
) -> Answer<api::Volume> {
    let force = if asked.force { Force::Yes } else { Force::No };
    carry_out(move || Ok(Json(view::volume(&operated.about, &operated.registry.detach(&volume, force)?)))).await
}

pub(super) async fn rewrap(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedVolume(volume): NamedVolume,
    Sent(asked): Sent<api::Rewrap>,
) -> Answer<api::Volume> {
    let to = NewSeal { kms: asked.kms, key: KeyName::new(asked.key) };
    carry_out(move || Ok(Json(view::volume(&operated.about, &operated.registry.rewrap(&caller, &volume, &to)?)))).await
}

pub(super) async fn back_up_header(
    State(operated): Shared,
    NamedVolume(volume): NamedVolume,
) -> Answer<api::HeaderBackup> {
    carry_out(move || {
        let kept = operated.registry.back_up_header(&volume)?;
        let (volume, name) = (kept.id.to_string(), kept.name.to_string());
        let header = BASE64_STANDARD.encode(&kept.bytes);
        Ok(Json(api::HeaderBackup { volume, name, generation: kept.generation, header }))
    })
    .await
}

pub(super) async fn restore_header(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedVolume(volume): NamedVolume,
    Sent(asked): Sent<api::RestoreHeader>,
) -> Answer<api::Volume> {
    let rollback = if asked.accept_rollback { Rollback::Accept } else { Rollback::Refuse };
    let header = BASE64_STANDARD.decode(&asked.header);
    let header = header.map_err(|bad| Refused::new(Fault::Usage, "request.bad_body", bad.to_string()))?;
    carry_out(move || {
        let restored = operated.registry.restore_header(&caller, &volume, &header, rollback)?;
        Ok(Json(view::volume(&operated.about, &restored)))
    })
    .await
}

pub(super) async fn export_key(
    State(operated): Shared,
    CalledBy(caller): CalledBy,
    NamedVolume(volume): NamedVolume,
    Sent(Nothing {}): Sent<Nothing>,
) -> Result<Response, Refused> {
    carry_out(move || {
        let key = operated.registry.export_key(&caller, &volume)?;
        let answer = Exported { table: &key.table, warnings: &key.warnings };
        let warnings: usize = key.warnings.iter().map(|warning| 6 * warning.len() + 4).sum();
        wiped::answer(&answer, 6 * key.table.len() + warnings + 64)
    })
    .await
}

/// [`api::ExportedKey`], borrowed.
#[derive(Serialize)]
struct Exported<'a> {
    table: &'a str,
    warnings: &'a [String],
}
