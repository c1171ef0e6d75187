//! Who may do what: the one place where it is decided, by policies and grants (`crate::policy`) of what is known here.
//!
//! Whoever came through a door of the daemon's own has been admitted there, and may do all but change a key that is managed
//! for EBS. Whoever signs requests has the rights that the key's policy, their own policies and grants give them. `identities`
//! has whom there is, `explain` what would be decided, `facts` what is known of a request, `sessions` what a role's session is.

pub(super) mod explain;
pub(super) mod facts;
pub(super) mod identities;
pub(super) mod sessions;

use std::collections::{BTreeMap, HashMap};
use std::slice;

use jiff::Timestamp;

use crate::kms::{KmsError, Principal};
use crate::limits;
use crate::policy::{self, Decision, Document, Kind, Malformed, Missing, Named, Place, Policies, Reason, Request, Who};
use crate::sync::{Arc, Mutex};

use super::access_keys::judge_right;
use super::admin::on_nothing;
use super::audit::Call;
use super::call::Found;
use super::keys::StoredManager;
use super::operation::Operation;
use super::store::{Lookup, StoreError};
use super::{Embedded, refusal};
use facts::About;
use identities::Identities;

/// The document of the store that holds the identities, and the one that says since when each role has been there.
const DOCUMENT: &str = "identities";
const SINCE: &str = "roles since";

/// What callers of another account can be given the right to do with a key.
const ACROSS_ACCOUNTS: &[&str] = &[
    "CreateGrant",
    "Decapsulate",
    "Decrypt",
    "DeriveSharedSecret",
    "DescribeKey",
    "Encapsulate",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "GetKeyRotationStatus",
    "GetPublicKey",
    "ListGrants",
    "ReEncryptFrom",
    "ReEncryptTo",
    "RetireGrant",
    "RevokeGrant",
    "Sign",
    "Verify",
    "VerifyMac",
];

/// What a policy would have to allow for anybody's own to be enough.
const EVERYTHING: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;

/// What rights are decided by, as far as it is kept in memory. All regions share it.
#[derive(Default)]
pub(super) struct Rights {
    identities: Mutex<Arc<Identities>>,
    /// Key policies that were read before, by their text; the default ones by a name that is none.
    read: Mutex<HashMap<String, Arc<Document>>>,
}

impl Rights {
    /// Those of the identities that the store has.
    pub(super) fn load(tables: &impl Lookup) -> Result<Self, KmsError> {
        let rights = Self::default();
        rights.set_identities(Self::identities_in(tables)?);
        Ok(rights)
    }

    fn identities_in(tables: &impl Lookup) -> Result<Identities, KmsError> {
        let Some(text) = tables.document(DOCUMENT)? else { return Ok(Identities::default()) };
        let mut identities = Identities::read(&text).map_err(|bad| refusal::internal(&bad))?;
        let since =
            tables.document(SINCE)?.as_deref().map(serde_json::from_str).transpose().map_err(StoreError::from)?;
        // A role of which the store does not say since when is taken for new.
        identities.go_on_from(&since.unwrap_or_default(), Timestamp::MAX);
        Ok(identities)
    }

    pub(super) fn identities(&self) -> Arc<Identities> {
        Arc::clone(&self.identities.lock())
    }

    fn set_identities(&self, identities: Identities) {
        *self.identities.lock() = Arc::new(identities);
    }

    /// The key policy that is known by that name; `text` is read where it is not.
    fn key_policy(&self, name: String, text: impl FnOnce(&str) -> String) -> Result<Arc<Document>, Malformed> {
        if let Some(known) = self.read.lock().get(&name) {
            return Ok(Arc::clone(known));
        }
        let document = Arc::new(Document::read(&text(&name), Kind::Key)?);
        let mut read = self.read.lock();
        if read.len() >= limits::POLICIES_READ_MAX {
            read.clear();
        }
        read.insert(name, Arc::clone(&document));
        Ok(document)
    }
}

/// What a right is asked for.
#[derive(Clone, Copy)]
pub(super) enum On<'a> {
    /// A key: its policy decides with the caller's own.
    Key(&'a Found),
    /// An alias, by its ARN, or `*` where the operation is about no key: the caller's own policies decide.
    Other(&'a str),
}

/// An operation without a key.
pub(super) const NOTHING: On<'static> = On::Other("*");

impl Embedded {
    /// Whether the caller has the right to `action` on it.
    pub(super) fn authorise(
        &self,
        tables: &impl Lookup,
        call: &Call<'_>,
        action: &str,
        on: On<'_>,
    ) -> Result<(), KmsError> {
        self.right(tables, call, action, on).map(|_| ())
    }

    /// [`Embedded::authorise`]: why the caller has it; `None` where they were admitted by a door of the daemon's own.
    pub(super) fn right(
        &self,
        tables: &impl Lookup,
        call: &Call<'_>,
        action: &str,
        on: On<'_>,
    ) -> Result<Option<Reason>, KmsError> {
        let principal = call.caller.principal;
        if call.caller.request.is_none() {
            let managed = matches!(on, On::Key(key) if key.record.manager == StoredManager::Aws);
            let denied = managed && !call.operation.is_read_only();
            return if denied { Err(refusal::access_denied(principal, action)) } else { Ok(None) };
        }
        let who = who(principal)?;
        self.judge_account(&who, call, action, on)?;
        let decision = self.decide(tables, &who, call, action, on)?;
        if decision.allowed { Ok(Some(decision.reason)) } else { Err(denied(principal, action, on, &decision.reason)) }
    }

    /// What policies and grants make of it.
    pub(super) fn decide(
        &self,
        tables: &impl Lookup,
        who: &Who,
        call: &Call<'_>,
        action: &str,
        on: On<'_>,
    ) -> Result<Decision, KmsError> {
        let document = match on {
            On::Key(key) => Some(self.key_policy_of(tables, key)?),
            On::Other(_) => None,
        };
        let policies = document.as_deref().map(|document| (document, self.identity.account.as_str()));
        let by_policies = self.decide_by(tables, (who, call, action, on), policies, &[])?;
        let On::Key(key) = on else { return Ok(by_policies) };
        // A key may have many grants: they are looked at where they can change something.
        if by_policies.allowed || matches!(by_policies.reason, Reason::Denied(_)) {
            return Ok(by_policies);
        }
        let pairs = About { call, action, on, who }.pairs();
        let mut by_grant = None;
        self.find_grant(tables, key.id, (who, action), |grant| {
            if !grant.suits(who, action, &pairs) {
                return Ok(false);
            }
            let decision = self.decide_by(tables, (who, call, action, on), policies, slice::from_ref(grant))?;
            Ok(by_grant.insert(decision).allowed)
        })?;
        Ok(by_grant.unwrap_or(by_policies))
    }

    /// [`Embedded::decide`], by this key policy and these grants.
    pub(super) fn decide_by(
        &self,
        tables: &impl Lookup,
        (who, call, action, on): (&Who, &Call<'_>, &str, On<'_>),
        key: Option<(&Document, &str)>,
        grants: &[policy::Grant],
    ) -> Result<Decision, KmsError> {
        let identities = self.rights.identities();
        let own = identities.bearer(who).map(|bearer| bearer.policies.as_slice()).unwrap_or_default();
        let own: Vec<Named<'_>> = own.iter().map(|(name, document)| Named { name, document }).collect();
        let about = About { call, action, on, who };
        let context = self.facts(tables, &about, &identities)?;
        let pairs = about.pairs();
        let action = format!("kms:{action}");
        let resource = match on {
            On::Key(key) => key.arn.as_str(),
            On::Other(resource) => resource,
        };
        let request = Request { who, action: &action, resource, context: &context, pairs: &pairs };
        let session = call.caller.request.and_then(|request| request.session_policy());
        Ok(policy::decide(&request, &Policies { key, identity: &own, session, grants }))
    }

    /// The policy of a key, read.
    pub(super) fn key_policy_of(&self, tables: &impl Lookup, key: &Found) -> Result<Arc<Document>, KmsError> {
        let read = match tables.policy(key.id)? {
            Some(text) => self.rights.key_policy(text, str::to_owned),
            None => {
                let (manager, region) = (key.record.manager, &self.identity.region);
                self.rights.key_policy(format!("{manager:?} {region}"), |_| manager.policy(&self.identity))
            }
        };
        read.map_err(|malformed| refusal::internal(&malformed))
    }

    /// The text of a key's policy.
    pub(super) fn policy_text(&self, tables: &impl Lookup, key: &Found) -> Result<String, KmsError> {
        Ok(tables.policy(key.id)?.unwrap_or_else(|| key.record.manager.policy(&self.identity)))
    }

    /// A policy that a key is to have; unless `bypass`, one under which the caller can put another.
    pub(super) fn judge_new_policy(
        &self,
        tables: &impl Lookup,
        call: &Call<'_>,
        key: &Found,
        (text, bypass): (&str, bool),
    ) -> Result<(), KmsError> {
        let document = Document::read(text, Kind::Key).map_err(|malformed| refusal::malformed_policy(&malformed))?;
        if bypass {
            return Ok(());
        }
        let who = who(call.caller.principal)?;
        let everything = Document::read(EVERYTHING, Kind::Identity).expect("it is a policy");
        let own = [Named { name: "everything", document: &everything }];
        let about = About { call, action: "PutKeyPolicy", on: On::Key(key), who: &who };
        let context = self.facts(tables, &about, &self.rights.identities())?;
        let (action, resource) = ("kms:PutKeyPolicy", key.arn.as_str());
        let request = Request { who: &who, action, resource, context: &context, pairs: &BTreeMap::new() };
        let key = Some((&document, self.identity.account.as_str()));
        let decision = policy::decide(&request, &Policies { key, identity: &own, session: None, grants: &[] });
        if decision.allowed { Ok(()) } else { Err(refusal::locked_out()) }
    }

    /// Whoever is of another account can use keys here by their ARNs, and nothing else: their own keys are elsewhere.
    fn judge_account(&self, who: &Who, call: &Call<'_>, action: &str, on: On<'_>) -> Result<(), KmsError> {
        if matches!(on, On::Key(_)) && self.can_be_given(who, action) || who.account() == self.identity.account {
            return Ok(());
        }
        Err(refusal::access_denied(call.caller.principal, action))
    }

    /// Whether anything could give `who` that right on a key here.
    fn can_be_given(&self, who: &Who, action: &str) -> bool {
        who.account() == self.identity.account || ACROSS_ACCOUNTS.contains(&action)
    }
}

/// The principal, as policies see them.
pub(super) fn who(principal: &Principal) -> Result<Who, KmsError> {
    Who::named(principal.as_str()).map_err(|malformed| refusal::internal(&malformed))
}

/// The denial, in the words of AWS.
pub(super) fn denied(principal: &Principal, action: &str, on: On<'_>, reason: &Reason) -> KmsError {
    let resource = match on {
        On::Key(key) => key.arn.as_str(),
        On::Other(resource) => resource,
    };
    let because = match reason {
        Reason::Denied(source) => match &source.place {
            Place::KeyPolicy => return refusal::access_denied(principal, action),
            Place::Identity(_) => "with an explicit deny in an identity-based policy".to_owned(),
            Place::SessionPolicy => "with an explicit deny in a session policy".to_owned(),
        },
        Reason::Nothing(Missing::Session) => format!("because no session policy allows the kms:{action} action"),
        Reason::Nothing(Missing::Identity) => return refusal::no_policy_allows(principal, action, resource),
        _ => return refusal::access_denied(principal, action),
    };
    refusal::not_authorised(principal, &format!("kms:{action}"), resource, &because)
}

impl Embedded {
    /// The document of the identities; an empty one where nobody has put any.
    ///
    /// # Errors
    /// Where the caller is not root.
    pub fn identities(&self, caller: &Principal) -> Result<String, KmsError> {
        let call = on_nothing(caller.into(), Operation::GetIdentities);
        self.observe(&call, |view, _| {
            judge_right(&call)?;
            Ok(view.document(DOCUMENT)?.unwrap_or_else(|| "{ \"accounts\": {} }\n".to_owned()))
        })
    }

    /// Replaces the identities: whoever is not in the new document has no policies from here on, and no role a session.
    ///
    /// # Errors
    /// Where the caller is not root, or the document is not taken.
    pub fn put_identities(&self, caller: &Principal, text: &str) -> Result<(), KmsError> {
        let call = on_nothing(caller.into(), Operation::PutIdentities);
        let mut are_set = false;
        let put = self.change(&call, |tables, trail| {
            judge_right(&call)?;
            let mut identities = Identities::read(text).map_err(|bad| refusal::bad_identities(&bad))?;
            identities.go_on_from(self.rights.identities().since(), trail.now);
            tables.put_document(DOCUMENT, text)?;
            let since = serde_json::to_string(identities.since()).map_err(StoreError::from)?;
            tables.put_document(SINCE, &since)?;
            // While nobody else changes them; they are put back where the store fails after all.
            self.rights.set_identities(identities);
            are_set = true;
            Ok(())
        });
        if put.is_err() && are_set {
            let _alone = self.order.write();
            self.rights.set_identities(Rights::identities_in(&self.store.view()?)?);
        }
        put
    }
}
