//! Tags of keys: TagResource, UntagResource, and what tags may be.

use std::collections::{BTreeMap, HashSet};

use crate::kms::{KeyName, KmsError};
use crate::limits;

use super::admin::on_key;
use super::caller::Caller;
use super::operation::Operation;
use super::{Embedded, KeyMetadata, refusal};

/// The prefix that is AWS's own.
const RESERVED: &str = "aws:";

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Its key.
    pub key: String,
    /// Its value, which may be empty.
    pub value: String,
}

impl Embedded {
    /// TagResource.
    ///
    /// # Errors
    /// As AWS.
    pub fn tag_resource<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        tags: &[Tag],
    ) -> Result<KeyMetadata, KmsError> {
        let call = on_key(caller.into(), Operation::TagResource, key);
        self.change_key(&call, key, |record, _| {
            record.tags = added(&record.tags, tags)?;
            Ok(())
        })
    }

    /// UntagResource. Tags that are not there are no error.
    ///
    /// # Errors
    /// As AWS.
    pub fn untag_resource<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        tag_keys: &[String],
    ) -> Result<KeyMetadata, KmsError> {
        let call = on_key(caller.into(), Operation::UntagResource, key);
        self.change_key(&call, key, |record, _| {
            if tag_keys.iter().any(|key| is_reserved(key)) {
                return Err(reserved());
            }
            record.tags.retain(|key, _| !tag_keys.contains(key));
            Ok(())
        })
    }
}

/// `present` with `tags` put over them.
pub(super) fn added(present: &BTreeMap<String, String>, tags: &[Tag]) -> Result<BTreeMap<String, String>, KmsError> {
    let mut seen = HashSet::new();
    if tags.iter().any(|tag| is_reserved(&tag.key)) {
        return Err(reserved());
    }
    if !tags.iter().all(|tag| seen.insert(&tag.key)) {
        return Err(refusal::tag("Duplicate tag keys"));
    }
    for tag in tags {
        judge_length("tagKey", &tag.key, 1, limits::TAG_KEY_MAX)?;
        judge_length("tagValue", &tag.value, 0, limits::TAG_VALUE_MAX)?;
    }
    let mut all = present.clone();
    all.extend(tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())));
    if all.len() > limits::TAGS_PER_KEY_MAX {
        return Err(refusal::tag("Too many tags"));
    }
    Ok(all)
}

/// Characters, as AWS counts them.
fn judge_length(member: &str, text: &str, least: usize, most: usize) -> Result<(), KmsError> {
    let constraint = match text.chars().count() {
        length if length < least => format!("have length greater than or equal to {least}"),
        length if length > most => format!("have length less than or equal to {most}"),
        _ => return Ok(()),
    };
    Err(refusal::validation(member, None, &constraint))
}

fn is_reserved(key: &str) -> bool {
    key.get(..RESERVED.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(RESERVED))
}

fn reserved() -> KmsError {
    refusal::tag("Tags beginning with aws: are reserved")
}
