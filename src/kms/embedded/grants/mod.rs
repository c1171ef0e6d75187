//! Grants: CreateGrant, ListGrants, ListRetirableGrants, RetireGrant, RevokeGrant, and what rights they give.
//!
//! A grant holds from the moment that CreateGrant has answered, so a token is needed for nothing; one that comes with a
//! request must have been given out here. A token is the grant's place, sealed for its account and region.

mod listing;
mod record;
mod retiring;

use std::collections::{BTreeMap, BTreeSet};
use std::slice;
use std::time::SystemTime;

use uuid::Uuid;

use crate::crypto::random;
use crate::kms::{KeyArn, KeyName, KmsError};
use crate::limits;
use crate::policy::{self, Reason, Who};

use super::admin::on_key;
use super::audit::Call;
use super::call::{Found, Trail};
use super::caller::Caller;
use super::operation::Operation;
use super::rights::{On, who};
use super::spec::KeyUsage;
use super::store::{Change, Lookup};
use super::usage::end_dry_run;
use super::{Embedded, KeySpec, refusal};
use record::{GrantId, GrantRecord, StoredConstraint, hex, indexed, of_grantee, of_name};

/// What a grant can give on a key of whatever kind.
const ON_EVERY_KEY: &[&str] = &["CreateGrant", "DescribeKey", "RetireGrant"];

/// What a grant can give on a symmetric key for encryption.
const ON_SYMMETRIC: &[&str] = &[
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
];

const ON_MAC: &[&str] = &["GenerateMac", "VerifyMac"];

/// On a key pair, by what it is for.
const ON_SIGNING: &[&str] = &["GetPublicKey", "Sign", "Verify"];
const ON_RSA: &[&str] = &["Decrypt", "Encrypt", "GetPublicKey", "ReEncryptFrom", "ReEncryptTo"];
const ON_AGREEMENT: &[&str] = &["DeriveSharedSecret", "GetPublicKey"];

/// Grants that are looked for at once.
const AT_ONCE: usize = 64;

/// A constraint on the encryption context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantConstraint {
    /// `EncryptionContextEquals`
    Equals(BTreeMap<String, String>),
    /// `EncryptionContextSubset`
    Subset(BTreeMap<String, String>),
}

/// A grant that is to be made.
#[derive(Debug, Clone)]
pub struct NewGrant<'a> {
    /// To whom.
    pub grantee: &'a str,
    /// Who may retire it.
    pub retiring: Option<&'a str>,
    /// What it gives.
    pub operations: &'a [String],
    /// Under which encryption context.
    pub constraint: Option<GrantConstraint>,
    /// Asking again by the same name and for the same makes no other.
    pub name: Option<&'a str>,
}

/// What CreateGrant answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// 64 hex digits.
    pub id: String,
    /// Its token.
    pub token: String,
}

/// A grant as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The key's ARN.
    pub key: KeyArn,
    /// 64 hex digits.
    pub id: String,
    /// What it was called.
    pub name: Option<String>,
    /// When it was made.
    pub created: SystemTime,
    /// To whom.
    pub grantee: String,
    /// Who may retire it.
    pub retiring: Option<String>,
    /// The account in which it was made, as the ARN of its root.
    pub account: String,
    /// What it gives.
    pub operations: Vec<String>,
    /// Under which encryption context.
    pub constraint: Option<GrantConstraint>,
}

/// By what RetireGrant is told which grant.
#[derive(Debug, Clone, Copy)]
pub enum RetiredGrant<'a> {
    /// Its token.
    Token(&'a str),
    /// Its key, by ARN, and its id.
    Id(&'a KeyName, &'a str),
}

impl Embedded {
    /// CreateGrant.
    ///
    /// # Errors
    /// As AWS.
    pub fn create_grant<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        new: &NewGrant<'_>,
    ) -> Result<Grant, KmsError> {
        let call = on_key(caller.into(), Operation::CreateGrant, key);
        self.change(&call, |tables, trail| {
            let record = self.grant_record(&call, new, trail)?;
            let key = self.resolve_and_admit(tables, trail, &call, key)?;
            judge_kind(&key, &record)?;
            self.judge_source(tables, &call, &key, &record)?;
            end_dry_run(&call)?;
            let id = match existing(tables, key.id, &record)? {
                Some(id) => id,
                None => make(tables, &key, &record)?,
            };
            trail.response.insert("grantId".to_owned(), hex(&id).into());
            Ok(Grant { id: hex(&id), token: self.token_of(key.id, &id)? })
        })
    }

    fn grant_record(&self, call: &Call<'_>, new: &NewGrant<'_>, trail: &Trail) -> Result<GrantRecord, KmsError> {
        for principal in [Some(new.grantee), new.retiring].into_iter().flatten() {
            // Read as a grantee is, wherever it stands.
            policy::Grant::new(String::new(), principal, Vec::new(), None)
                .map_err(|_| refusal::invalid_arn_of_principal(principal))?;
        }
        if new.operations.is_empty() {
            return Err(refusal::invalid_grant("A grant needs an operation."));
        }
        judge_constraint(new.constraint.as_ref())?;
        let operations: BTreeSet<String> = new.operations.iter().cloned().collect();
        Ok(GrantRecord {
            grantee: new.grantee.to_owned(),
            retiring: new.retiring.map(str::to_owned),
            operations: operations.into_iter().collect(),
            constraint: new.constraint.clone().map(Into::into),
            name: new.name.map(str::to_owned),
            created: trail.now,
            account: call.caller.principal.account().unwrap_or(&self.identity.account).to_owned(),
        })
    }

    /// Whoever has CreateGrant by a grant alone gives on no more than one of them gives.
    fn judge_source(
        &self,
        tables: &impl Lookup,
        call: &Call<'_>,
        key: &Found,
        record: &GrantRecord,
    ) -> Result<(), KmsError> {
        const ACTION: &str = "CreateGrant";
        let Some(Reason::Grant(_)) = self.right(tables, call, ACTION, On::Key(key))? else { return Ok(()) };
        let who = who(call.caller.principal)?;
        let constraint = record.constraint.as_ref().map(StoredConstraint::right);
        let document = self.key_policy_of(tables, key)?;
        let policies = Some((document.as_ref(), self.identity.account.as_str()));
        let source = self.find_grant(tables, key.id, (&who, ACTION), |grant| {
            // One that gives the caller nothing covers nothing either.
            Ok(grant.covers(&record.operations, constraint.as_ref())
                && self
                    .decide_by(tables, (&who, call, ACTION, On::Key(key)), policies, slice::from_ref(grant))?
                    .allowed)
        })?;
        source.map(drop).ok_or_else(|| refusal::access_denied(call.caller.principal, ACTION))
    }

    /// The first of the grants on a key that list `action` for `who`, of which `is_it` says so.
    pub(super) fn find_grant(
        &self,
        tables: &impl Lookup,
        key: Uuid,
        (who, action): (&Who, &str),
        mut is_it: impl FnMut(&policy::Grant) -> Result<bool, KmsError>,
    ) -> Result<Option<policy::Grant>, KmsError> {
        let root = format!("arn:aws:iam::{}:root", who.account());
        let mut arns = vec![who.arn(), who.full_arn(), &root];
        arns.dedup();
        for arn in arns {
            let (place, mut behind) = (of_grantee(key, arn), None);
            loop {
                let page = tables.indexed(&place, behind, AT_ONCE)?;
                for (id, _) in &page {
                    let Some(record) = record::find(tables, key, id)? else { continue };
                    if record.operations.iter().any(|operation| operation == action) {
                        let grant = record.right(id)?;
                        if is_it(&grant)? {
                            return Ok(Some(grant));
                        }
                    }
                }
                match page.last() {
                    Some((last, _)) if page.len() == AT_ONCE => behind = Some(*last),
                    _ => break,
                }
            }
        }
        Ok(None)
    }
}

/// Eight short pairs at the most.
fn judge_constraint(constraint: Option<&GrantConstraint>) -> Result<(), KmsError> {
    let Some(GrantConstraint::Equals(pairs) | GrantConstraint::Subset(pairs)) = constraint else { return Ok(()) };
    let long = |text: &String| text.chars().count() > limits::GRANT_PAIR_TEXT_MAX;
    if pairs.len() > limits::GRANT_PAIRS_MAX || pairs.iter().any(|(name, value)| long(name) || long(value)) {
        let text = format!(
            "A constraint has {} pairs at the most, with names and values of {} characters at the most.",
            limits::GRANT_PAIRS_MAX,
            limits::GRANT_PAIR_TEXT_MAX
        );
        return Err(refusal::invalid(text));
    }
    Ok(())
}

/// Whether a key of this kind has what the grant gives.
fn judge_kind(key: &Found, record: &GrantRecord) -> Result<(), KmsError> {
    let spec = key.record.spec;
    if record.constraint.is_some() && spec != KeySpec::Symmetric {
        return Err(refusal::invalid_grant("Only grants on symmetric encryption keys have constraints."));
    }
    let can = |operation: &str| ON_EVERY_KEY.contains(&operation) || usual_on(key).contains(&operation);
    match record.operations.iter().find(|operation| !can(operation)) {
        None => Ok(()),
        Some(operation) => Err(refusal::invalid_grant(format!(
            "Grant operation {operation} is not valid for a key with key spec {} and key usage {}.",
            spec.name(),
            key.record.usage().name()
        ))),
    }
}

/// What a grant can give on a key like this one.
fn usual_on(key: &Found) -> &'static [&'static str] {
    match key.record.usage() {
        KeyUsage::Encryption if key.record.spec.pair().is_some() => ON_RSA,
        KeyUsage::Encryption => ON_SYMMETRIC,
        KeyUsage::Mac => ON_MAC,
        KeyUsage::Signing => ON_SIGNING,
        KeyUsage::Agreement => ON_AGREEMENT,
    }
}

/// The grant that the same request by the same name made before.
fn existing(tables: &impl Lookup, key: Uuid, record: &GrantRecord) -> Result<Option<GrantId>, KmsError> {
    let Some(name) = &record.name else { return Ok(None) };
    let named = indexed(tables, key, &of_name(key, name))?.into_iter();
    Ok(named.filter(|(_, other)| other.is_the_same(record)).map(|(id, _)| id).next())
}

fn make(tables: &mut Change<'_>, key: &Found, record: &GrantRecord) -> Result<GrantId, KmsError> {
    if tables.grants_of(key.id)? >= limits::GRANTS_PER_KEY_MAX {
        return Err(refusal::too_many_grants(&key.arn, limits::GRANTS_PER_KEY_MAX));
    }
    let mut id = [0; 32];
    random::fill(&mut id);
    tables.put_grant(key.id, &id, record)?;
    Ok(id)
}

impl From<GrantConstraint> for StoredConstraint {
    fn from(constraint: GrantConstraint) -> Self {
        match constraint {
            GrantConstraint::Equals(pairs) => Self::Equals(pairs),
            GrantConstraint::Subset(pairs) => Self::Subset(pairs),
        }
    }
}

impl From<StoredConstraint> for GrantConstraint {
    fn from(constraint: StoredConstraint) -> Self {
        match constraint {
            StoredConstraint::Equals(pairs) => Self::Equals(pairs),
            StoredConstraint::Subset(pairs) => Self::Subset(pairs),
        }
    }
}
