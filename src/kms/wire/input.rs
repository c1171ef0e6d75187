//! The members of a request that has been judged by the model: read here, without doubt about their types.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::refusal::{invalid, unsupported};
use crate::kms::embedded::{PageOf, Tag};
use crate::kms::{EncryptionContext, KeyName, KmsError, WrappedKey};

/// The members of a request.
pub(super) struct Input(pub(super) Map<String, Value>);

impl Input {
    /// A member, where it is there and not null.
    pub(super) fn value(&self, member: &str) -> Option<&Value> {
        self.0.get(member).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, member: &str) -> Option<&str> {
        self.value(member).and_then(Value::as_str)
    }

    /// A member that the model requires.
    pub(super) fn needed(&self, member: &str) -> &str {
        self.text(member).expect("the model requires it, and the request was judged by the model")
    }

    pub(super) fn flag(&self, member: &str) -> bool {
        self.value(member).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(super) fn number(&self, member: &str) -> Option<u32> {
        self.value(member).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok())
    }

    pub(super) fn blob(&self, member: &str) -> Option<Vec<u8>> {
        self.text(member).and_then(|text| STANDARD.decode(text).ok())
    }

    pub(super) fn key(&self) -> KeyName {
        KeyName::new(self.needed("KeyId"))
    }

    pub(super) fn context(&self, member: &str) -> EncryptionContext {
        let pairs = self.value(member).and_then(Value::as_object).into_iter().flatten();
        EncryptionContext::new(pairs.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))))
    }

    pub(super) fn ciphertext(&self) -> Result<WrappedKey, KmsError> {
        let null = "1 validation error detected: Value at 'ciphertextBlob' failed to satisfy constraint: Member must not \
                    be null";
        WrappedKey::new(self.blob("CiphertextBlob").unwrap_or_default()).map_err(|_| invalid(null))
    }

    pub(super) fn tags(&self) -> Vec<Tag> {
        let tags = self.value("Tags").and_then(Value::as_array).into_iter().flatten();
        let text = |tag: &Value, member: &str| tag[member].as_str().unwrap_or_default().to_owned();
        tags.map(|tag| Tag { key: text(tag, "TagKey"), value: text(tag, "TagValue") }).collect()
    }

    pub(super) fn texts(&self, member: &str) -> Vec<String> {
        let texts = self.value(member).and_then(Value::as_array).into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Which page is asked for: `usual` items unless it says, and no more than `most`.
    pub(super) fn page(&self, usual: usize, most: usize) -> Result<PageOf<'_>, KmsError> {
        let limit = self.number("Limit").and_then(|limit| usize::try_from(limit).ok());
        if let Some(limit) = limit.filter(|limit| *limit > most) {
            return Err(invalid(format!(
                "1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must have \
                 value less than or equal to {most}"
            )));
        }
        Ok(PageOf { limit: limit.unwrap_or(usual), marker: self.text("Marker") })
    }

    /// Refuses a request that has one of these members.
    pub(super) fn without(&self, members: &[&str]) -> Result<(), KmsError> {
        match members.iter().find(|member| self.value(member).is_some()) {
            Some(member) => Err(unsupported(member)),
            None => Ok(()),
        }
    }
}
