//! What handlers take out of a request: its caller, the thing its path names, its body. All of it is judged here.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use hyper::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Operated;
use super::problem::{Fault, Refused};
use super::server::Caller;
use crate::attach::VolumeRef;
use crate::kms::{KeyName, Principal};
use crate::names::VolumeName;
use crate::sync::Arc;

/// The caller, as the KMS knows them.
pub(super) struct CalledBy(pub(super) Principal);

/// The volume that the path names.
pub(super) struct NamedVolume(pub(super) VolumeRef);

/// The key that the path names.
pub(super) struct NamedKey(pub(super) KeyName);

/// The alias that the path names, as `alias/NAME`.
pub(super) struct NamedAlias(pub(super) String);

/// The access key that the path names.
pub(super) struct NamedAccessKey(pub(super) String);

/// The record of the audit log that the path names.
pub(super) struct NamedEvent(pub(super) String);

/// The request's body; one that says nothing, empty or `null`, is JSON's `{}`.
pub(super) struct Sent<T>(pub(super) T);

/// The body of a request that has nothing to say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// `alias/NAME` of `alias/NAME` or `NAME`.
pub(super) fn alias_name(text: &str) -> String {
    if text.starts_with("alias/") { text.to_owned() } else { format!("alias/{text}") }
}

/// The volume called `text`: an id where it is shaped like one, else a name.
pub(super) fn volume_ref(text: &str) -> Result<VolumeRef, Refused> {
    if let Ok(id) = text.parse() {
        return Ok(VolumeRef::Id(id));
    }
    volume_name(text).map(VolumeRef::Name)
}

/// `text` as a volume name.
pub(super) fn volume_name(text: &str) -> Result<VolumeName, Refused> {
    text.parse().map_err(|bad: crate::names::BadName| Refused::new(Fault::Usage, "volume.bad_name", bad.to_string()))
}

/// The word in the path, percent-decoded. On the one route that spells its word out (`/v1/volumes/add`) that word.
async fn word(parts: &mut Parts, state: &Arc<Operated>) -> Result<String, Refused> {
    let bad = || Refused::new(Fault::Usage, "request.bad_path", "the path is not UTF-8");
    let parameters = RawPathParams::from_request_parts(parts, state).await.map_err(|_| bad())?;
    let word = parameters.iter().next().map(|(_, word)| word);
    let last = || parts.uri.path().rsplit('/').next().unwrap_or_default();
    Ok(word.unwrap_or_else(last).to_owned())
}

impl FromRequestParts<Arc<Operated>> for CalledBy {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Operated>) -> Result<Self, Refused> {
        let caller = parts.extensions.get::<Caller>().copied().ok_or_else(Refused::stranger)?;
        Ok(Self(state.about.principal(caller.uid)))
    }
}

impl FromRequestParts<Arc<Operated>> for NamedVolume {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Operated>) -> Result<Self, Refused> {
        volume_ref(&word(parts, state).await?).map(Self)
    }
}

impl FromRequestParts<Arc<Operated>> for NamedKey {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Operated>) -> Result<Self, Refused> {
        Ok(Self(KeyName::new(word(parts, state).await?)))
    }
}

impl FromRequestParts<Arc<Operated>> for NamedAlias {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Operated>) -> Result<Self, Refused> {
        Ok(Self(alias_name(&word(parts, state).await?)))
    }
}

impl FromRequestParts<Arc<Operated>> for NamedAccessKey {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Operated>) -> Result<Self, Refused> {
        word(parts, state).await.map(Self)
    }
}

impl FromRequestParts<Arc<Operated>> for NamedEvent {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Operated>) -> Result<Self, Refused> {
        word(parts, state).await.map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<Operated>> for Sent<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &Arc<Operated>) -> Result<Self, Refused> {
        let bad = |error: &dyn std::fmt::Display| Refused::new(Fault::Usage, "request.bad_body", error.to_string());
        let body = Bytes::from_request(request, state).await.map_err(|error| bad(&error))?;
        let text: &[u8] = if [&b""[..], b"null"].contains(&body.trim_ascii()) { b"{}" } else { &body };
        serde_json::from_slice(text).map(Self).map_err(|error| bad(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_shaped_like_an_id_is_one() {
        assert!(matches!(volume_ref("vol-0123456789abcdef0"), Ok(VolumeRef::Id(_))));
        assert!(matches!(volume_ref("db"), Ok(VolumeRef::Name(_))));
        assert!(volume_ref("../x").is_err());
    }

    #[test]
    fn an_alias_is_named_with_or_without_its_prefix() {
        assert_eq!(alias_name("a/b"), "alias/a/b");
        assert_eq!(alias_name("alias/a/b"), "alias/a/b");
    }
}
