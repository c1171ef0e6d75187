//! What is known of a request: values of condition keys.
//!
//! Names are compared in lower case. Where a request supplies two values of one single-valued key, such as two pairs of its
//! encryption context whose names differ in case alone, the key is ambiguous: a statement that asks for it denies and never
//! allows.

use std::collections::BTreeMap;

/// Which policy asks: some keys are supplied to those of identities alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    KeyPolicy,
    Identity,
}

/// The condition keys of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context(BTreeMap<String, Fact>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fact {
    values: Vec<String>,
    /// Whether a key policy does not see it.
    identities_only: bool,
    ambiguous: bool,
}

impl Context {
    /// Supplies a single-valued key.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let fact = self.0.entry(name.to_lowercase()).or_default();
        fact.ambiguous = !fact.values.is_empty();
        fact.values.push(value.into());
    }

    /// Supplies a multivalued key; without a value it is missing.
    pub fn set_many<V: Into<String>>(&mut self, name: &str, values: impl IntoIterator<Item = V>) {
        self.0.entry(name.to_lowercase()).or_default().values.extend(values.into_iter().map(Into::into));
    }

    /// Has key policies not see a key.
    pub fn only_for_identities(&mut self, name: &str) {
        if let Some(fact) = self.0.get_mut(&name.to_lowercase()) {
            fact.identities_only = true;
        }
    }

    /// The values of the key with this name in lower case; none where it is missing.
    pub(super) fn values(&self, name: &str, side: Side) -> &[String] {
        self.fact(name, side).map_or(&[], |fact| &fact.values)
    }

    pub(super) fn is_ambiguous(&self, name: &str, side: Side) -> bool {
        self.fact(name, side).is_some_and(|fact| fact.ambiguous)
    }

    /// The value of a key that has one.
    pub(super) fn only(&self, name: &str, side: Side) -> Option<&str> {
        match self.values(name, side) {
            [value] => Some(value),
            _ => None,
        }
    }

    fn fact(&self, name: &str, side: Side) -> Option<&Fact> {
        self.0.get(name).filter(|fact| side == Side::Identity || !fact.identities_only)
    }
}
