//! The lists, a page at a time, and the markers that lead from one page to the next.
//!
//! A marker is the place at which its list goes on, sealed under the domain key for that list of that account and region:
//! a caller can neither read nor make one, and none serves another list.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::kms::{KeyArn, KeyName, KmsError};

use super::admin::{on_key, on_nothing};
use super::audit::Call;
use super::caller::Caller;
use super::hsm::{Failure, HsmError};
use super::operation::Operation;
use super::rights::NOTHING;
use super::store::Lookup;
use super::{Alias, Embedded, Tag, refusal};

/// The only name that a key policy has.
pub(super) const POLICY: &str = "default";

/// Which page of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub struct PageOf<'a> {
    /// How many items at the most.
    pub limit: usize,
    /// What the page before gave; the first page where `None`.
    pub marker: Option<&'a str>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// The marker of the next page, if there is one.
    pub next: Option<String>,
}

impl Embedded {
    /// ListKeys: ids and ARNs.
    ///
    /// # Errors
    /// As AWS.
    pub fn page_of_keys<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        page: &PageOf<'_>,
    ) -> Result<Page<(Uuid, KeyArn)>, KmsError> {
        let call = on_nothing(caller.into(), Operation::ListKeys);
        self.observe(&call, |view, _| {
            self.authorise(view, &call, "ListKeys", NOTHING)?;
            let place = self.place(&call, "", page)?;
            let place =
                place.map(|place| Uuid::try_parse(&place).map_err(|_| refusal::invalid_marker())).transpose()?;
            let mut keys = view.keys_behind(place, page.limit + 1)?;
            let more = keys.len() > page.limit;
            keys.truncate(page.limit);
            let next =
                keys.last().filter(|_| more).map(|last| self.marker(&call, "", &last.to_string())).transpose()?;
            Ok(Page { items: keys.into_iter().map(|id| (id, self.identity.key_arn(id))).collect(), next })
        })
    }

    /// ListAliases: all of them, or those of one key.
    ///
    /// # Errors
    /// As AWS.
    pub fn page_of_aliases<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: Option<&'a KeyName>,
        page: &PageOf<'_>,
    ) -> Result<Page<Alias>, KmsError> {
        let caller = caller.into();
        let call = match key {
            Some(key) => on_key(caller, Operation::ListAliases, key),
            None => on_nothing(caller, Operation::ListAliases),
        };
        self.observe(&call, |view, trail| {
            let key = key.map(|key| self.resolve_and_admit(view, trail, &call, key)).transpose()?;
            self.authorise(view, &call, "ListAliases", NOTHING)?;
            let list = key.as_ref().map_or("", |key| key.arn.as_str());
            let place = self.place(&call, list, page)?.unwrap_or_default();
            let wanted = |target: &Uuid| key.as_ref().is_none_or(|key| key.id == *target);
            let aliases = view.all_aliases()?.into_iter().filter(|(name, target)| *name > place && wanted(target));
            let mut items: Vec<Alias> =
                aliases.take(page.limit + 1).map(|(name, target)| self.alias(name, target)).collect();
            let more = items.len() > page.limit;
            items.truncate(page.limit);
            let next = items.last().filter(|_| more).map(|last| self.marker(&call, list, &last.name)).transpose()?;
            Ok(Page { items, next })
        })
    }

    /// ListResourceTags.
    ///
    /// # Errors
    /// As AWS.
    pub fn page_of_tags<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &'a KeyName,
        page: &PageOf<'_>,
    ) -> Result<Page<Tag>, KmsError> {
        let call = on_key(caller.into(), Operation::ListResourceTags, key);
        self.observe(&call, |view, trail| {
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            let place = self.place(&call, key.arn.as_str(), page)?.unwrap_or_default();
            let tags = key.record.tags.into_iter().filter(|(name, _)| *name > place);
            let mut items: Vec<Tag> = tags.take(page.limit + 1).map(|(key, value)| Tag { key, value }).collect();
            let more = items.len() > page.limit;
            items.truncate(page.limit);
            let next = items.last().filter(|_| more).map(|last| self.marker(&call, key.arn.as_str(), &last.key));
            Ok(Page { items, next: next.transpose()? })
        })
    }

    /// ListKeyPolicies: their names.
    ///
    /// # Errors
    /// As AWS.
    pub fn list_key_policies<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &'a KeyName,
        page: &PageOf<'_>,
    ) -> Result<Page<&'static str>, KmsError> {
        let call = on_key(caller.into(), Operation::ListKeyPolicies, key);
        self.observe(&call, |view, trail| {
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            // The list has one page, and so never a marker of its own.
            self.place(&call, key.arn.as_str(), page)?;
            Ok(Page { items: vec![POLICY], next: None })
        })
    }

    /// GetKeyPolicy: the name and the text of a key's policy.
    ///
    /// # Errors
    /// As AWS.
    pub fn key_policy<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &'a KeyName,
        name: Option<&str>,
    ) -> Result<(&'static str, String), KmsError> {
        let call = on_key(caller.into(), Operation::GetKeyPolicy, key);
        self.observe(&call, |view, trail| {
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            match name {
                None | Some(POLICY) => Ok((POLICY, self.policy_text(view, &key)?)),
                Some(_) => Err(refusal::no_such_policy()),
            }
        })
    }

    /// The place that a marker of `list` of the operation leads to.
    pub(super) fn place(&self, call: &Call<'_>, list: &str, page: &PageOf<'_>) -> Result<Option<String>, KmsError> {
        let Some(marker) = page.marker else { return Ok(None) };
        let kept = URL_SAFE_NO_PAD.decode(marker).map_err(|_| refusal::invalid_marker())?;
        let place = self.hsm.recall(&self.purpose(call, list), &kept).map_err(|error| match error {
            HsmError::Failed(Failure::Ciphertext) => refusal::invalid_marker(),
            error => error.into(),
        })?;
        String::from_utf8(place.bytes().to_vec()).map(Some).map_err(|_| refusal::invalid_marker())
    }

    /// The marker that leads to `place`.
    pub(super) fn marker(&self, call: &Call<'_>, list: &str, place: &str) -> Result<String, KmsError> {
        let kept = self.hsm.keep(&self.purpose(call, list), place.as_bytes())?;
        Ok(URL_SAFE_NO_PAD.encode(kept))
    }

    fn purpose(&self, call: &Call<'_>, list: &str) -> Vec<u8> {
        format!("marker {} {} {} {list}", call.operation.name(), self.identity.account, self.identity.region).into()
    }
}

/// A place that is a number.
pub(super) fn number(place: &str) -> Result<usize, KmsError> {
    place.parse().map_err(|_| refusal::invalid_marker())
}
