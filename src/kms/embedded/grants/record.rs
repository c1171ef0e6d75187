//! Grants in the store: their records, and the index by which they are found without looking at all of a key's.
//!
//! ```text
//! grants       key id | grant id                          -> GrantRecord
//! grant index  digest("grantee", key id, ARN) | grant id  -> key id     whom it gives something
//!              digest("retiring", ARN) | grant id         -> key id     who may retire it
//!              digest("name", key id, name) | grant id    -> key id     what it was called, for whom asks twice
//!              digest("count", key id) | zeros            -> how many the key has
//! ```
//! The first 16 bytes of a SHA-256 tell one from another; what is found is compared with what was looked for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::crypto::digest;
use crate::kms::embedded::store::{Change, Lookup, StoreError, grant_place};
use crate::policy::{self, Constraint};

/// A grant's id.
pub(in crate::kms::embedded) type GrantId = [u8; 32];

/// What the store keeps of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::kms::embedded) struct GrantRecord {
    pub(in crate::kms::embedded) grantee: String,
    pub(in crate::kms::embedded) retiring: Option<String>,
    pub(in crate::kms::embedded) operations: Vec<String>,
    pub(in crate::kms::embedded) constraint: Option<StoredConstraint>,
    pub(in crate::kms::embedded) name: Option<String>,
    pub(in crate::kms::embedded) created: Timestamp,
    /// The account of whoever made it.
    pub(in crate::kms::embedded) account: String,
}

/// [`Constraint`], as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::kms::embedded) enum StoredConstraint {
    Equals(BTreeMap<String, String>),
    Subset(BTreeMap<String, String>),
}

impl GrantRecord {
    /// Whether it gives the same as `other`, by the same name to the same.
    pub(super) fn is_the_same(&self, other: &Self) -> bool {
        Self { created: other.created, ..self.clone() } == *other
    }

    /// As policies see it.
    pub(in crate::kms::embedded) fn right(&self, id: &GrantId) -> Result<policy::Grant, StoreError> {
        let constraint = self.constraint.as_ref().map(StoredConstraint::right);
        policy::Grant::new(hex(id), &self.grantee, self.operations.clone(), constraint).map_err(|_| StoreError::Grant)
    }

    fn places(&self, key: Uuid) -> Vec<[u8; 16]> {
        let mut places = vec![of_grantee(key, &policy::arn_of(&self.grantee))];
        places.extend(self.retiring.as_deref().map(|arn| of_retiring(&policy::arn_of(arn))));
        places.extend(self.name.as_deref().map(|name| of_name(key, name)));
        places
    }
}

impl StoredConstraint {
    pub(in crate::kms::embedded) fn right(&self) -> Constraint {
        match self {
            Self::Equals(pairs) => Constraint::Equals(pairs.clone()),
            Self::Subset(pairs) => Constraint::Subset(pairs.clone()),
        }
    }
}

pub(super) fn of_grantee(key: Uuid, arn: &str) -> [u8; 16] {
    place(&[b"grantee ", key.as_bytes(), arn.as_bytes()])
}

pub(super) fn of_retiring(arn: &str) -> [u8; 16] {
    place(&[b"retiring ", arn.as_bytes()])
}

pub(super) fn of_name(key: Uuid, name: &str) -> [u8; 16] {
    place(&[b"name ", key.as_bytes(), name.as_bytes()])
}

fn of_count(key: Uuid) -> [u8; 48] {
    grant_place(&place(&[b"count ", key.as_bytes()]), &[0; 32])
}

fn place(parts: &[&[u8]]) -> [u8; 16] {
    digest::sha256(parts)[..16].try_into().expect("16 of 32 bytes")
}

/// The grant of a key with that id.
pub(super) fn find(tables: &impl Lookup, key: Uuid, id: &GrantId) -> Result<Option<GrantRecord>, StoreError> {
    tables.grant(&grant_place(key.as_bytes(), id))?.map(|bytes| read(&bytes)).transpose()
}

pub(super) fn read(bytes: &[u8]) -> Result<GrantRecord, StoreError> {
    Ok(serde_json::from_slice(bytes)?)
}

/// The grants of `key` that the index has under `digest`.
pub(super) fn indexed(
    tables: &impl Lookup,
    key: Uuid,
    digest: &[u8; 16],
) -> Result<Vec<(GrantId, GrantRecord)>, StoreError> {
    let mut found = Vec::new();
    for (id, _) in tables.indexed(digest, None, usize::MAX)? {
        found.extend(find(tables, key, &id)?.map(|record| (id, record)));
    }
    Ok(found)
}

impl Change<'_> {
    /// How many grants a key has.
    pub(super) fn grants_of(&self, key: Uuid) -> Result<u64, StoreError> {
        let count = self.grant_index.get(of_count(key))?;
        Ok(count.and_then(|count| count.value().try_into().ok()).map_or(0, u64::from_be_bytes))
    }

    /// Writes a new grant.
    pub(super) fn put_grant(&mut self, key: Uuid, id: &GrantId, record: &GrantRecord) -> Result<(), StoreError> {
        let count = self.grants_of(key)? + 1;
        self.grants.insert(grant_place(key.as_bytes(), id), serde_json::to_vec(record)?.as_slice())?;
        for digest in record.places(key) {
            self.grant_index.insert(grant_place(&digest, id), key.as_bytes().as_slice())?;
        }
        self.grant_index.insert(of_count(key), count.to_be_bytes().as_slice())?;
        Ok(())
    }

    /// Removes a grant.
    pub(super) fn remove_grant(&mut self, key: Uuid, id: &GrantId, record: &GrantRecord) -> Result<(), StoreError> {
        let count = self.grants_of(key)?.saturating_sub(1);
        self.grants.remove(grant_place(key.as_bytes(), id))?;
        for digest in record.places(key) {
            self.grant_index.remove(grant_place(&digest, id))?;
        }
        self.grant_index.insert(of_count(key), count.to_be_bytes().as_slice())?;
        Ok(())
    }

    /// Removes all grants of a key that goes.
    pub(in crate::kms::embedded) fn remove_grants(&mut self, key: Uuid) -> Result<(), StoreError> {
        for (id, bytes) in self.grants_behind(key, None, usize::MAX)? {
            self.remove_grant(key, &id, &read(&bytes)?)?;
        }
        self.grant_index.remove(of_count(key))?;
        Ok(())
    }
}

pub(super) fn hex(id: &GrantId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A grant's id as it is written: 64 hex digits.
pub(super) fn unhex(text: &str) -> Option<GrantId> {
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()).collect();
    bytes?.try_into().ok()
}
