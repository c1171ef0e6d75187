//! What is known of a request, as condition keys: of the caller, of the key, and of what the request asks.
//!
//! What a client asks is read from the members that its request shows (`SignedRequest::shown`), which the service model has
//! judged; AWS's defaults stand for members that are not there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::kms::KmsError;
use crate::kms::embedded::Embedded;
use crate::kms::embedded::audit::Call;
use crate::kms::embedded::operation::Operation;
use crate::kms::embedded::store::Lookup;
use crate::policy::{self, Context, Who};

use super::On;
use super::identities::Identities;

/// Members of requests with one value, and the condition keys that show it.
const MEMBERS: &[(&str, &str)] = &[
    ("bypassPolicyLockoutSafetyCheck", "kms:BypassPolicyLockoutSafetyCheck"),
    ("expirationModel", "kms:ExpirationModel"),
    ("keyAgreementAlgorithm", "kms:KeyAgreementAlgorithm"),
    ("keyPairSpec", "kms:DataKeyPairSpec"),
    ("macAlgorithm", "kms:MacAlgorithm"),
    ("messageType", "kms:MessageType"),
    ("pendingWindowInDays", "kms:ScheduleKeyDeletionPendingWindowInDays"),
    ("policyName", "kms:PolicyName"),
    ("rotationPeriodInDays", "kms:RotationPeriodInDays"),
    ("signingAlgorithm", "kms:SigningAlgorithm"),
    ("wrappingAlgorithm", "kms:WrappingAlgorithm"),
    ("wrappingKeySpec", "kms:WrappingKeySpec"),
];

/// Members that name a principal, in one of several ways.
const PRINCIPALS: &[(&str, &str)] =
    &[("granteePrincipal", "kms:GranteePrincipal"), ("retiringPrincipal", "kms:RetiringPrincipal")];

/// The constraints that a grant can have.
const CONSTRAINTS: [&str; 2] = ["EncryptionContextEquals", "EncryptionContextSubset"];

/// What AWS takes where a request lacks the member: the action, the member, its condition key, and what it is.
const DEFAULTS: &[(&str, &str, &str, &str)] = &[
    ("CreateKey", "bypassPolicyLockoutSafetyCheck", "kms:BypassPolicyLockoutSafetyCheck", "false"),
    ("EnableKeyRotation", "rotationPeriodInDays", "kms:RotationPeriodInDays", "365"),
    ("GetKeyPolicy", "policyName", "kms:PolicyName", "default"),
    ("ImportKeyMaterial", "expirationModel", "kms:ExpirationModel", "KEY_MATERIAL_EXPIRES"),
    ("PutKeyPolicy", "bypassPolicyLockoutSafetyCheck", "kms:BypassPolicyLockoutSafetyCheck", "false"),
    ("PutKeyPolicy", "policyName", "kms:PolicyName", "default"),
    ("ScheduleKeyDeletion", "pendingWindowInDays", "kms:ScheduleKeyDeletionPendingWindowInDays", "30"),
    ("Sign", "messageType", "kms:MessageType", "RAW"),
    ("Verify", "messageType", "kms:MessageType", "RAW"),
];

/// What a right is asked for, and by whom.
pub(in crate::kms::embedded) struct About<'a> {
    pub(in crate::kms::embedded) call: &'a Call<'a>,
    pub(in crate::kms::embedded) action: &'a str,
    pub(in crate::kms::embedded) on: On<'a>,
    pub(in crate::kms::embedded) who: &'a Who,
}

impl Embedded {
    /// The condition keys.
    pub(in crate::kms::embedded) fn facts(
        &self,
        tables: &impl Lookup,
        about: &About<'_>,
        identities: &Identities,
    ) -> Result<Context, KmsError> {
        let mut context = Context::default();
        self.of_caller(about, identities, &mut context);
        about.of_request(&mut context);
        match about.on {
            On::Other(_) => about.of_new_key(&mut context),
            On::Key(key) => {
                context.set("kms:CallerAccount", about.who.account());
                context.set("kms:KeySpec", key.record.spec.name());
                context.set("kms:KeyUsage", key.record.usage().name());
                context.set("kms:KeyOrigin", key.record.origin.name());
                context.set("kms:MultiRegion", "false");
                key.facts.iter().for_each(|(name, value)| context.set(name, value.as_str()));
                for (name, value) in &key.record.tags {
                    let name = format!("aws:ResourceTag/{name}");
                    context.set(&name, value.as_str());
                    context.only_for_identities(&name);
                }
                self.aliases_of(tables, about, identities, &mut context)?;
            }
        }
        Ok(context)
    }

    /// Finding a key's aliases takes long where there are many: only for whom a policy asks for them.
    fn aliases_of(
        &self,
        tables: &impl Lookup,
        about: &About<'_>,
        identities: &Identities,
        context: &mut Context,
    ) -> Result<(), KmsError> {
        const KEY: &str = "kms:resourcealiases";
        let of_session = about.call.caller.request.and_then(|request| request.session_policy());
        let asked = identities.asks_for(about.who, KEY) || of_session.is_some_and(|document| document.asks_for(KEY));
        if let (On::Key(key), true) = (about.on, asked) {
            let aliases = tables.all_aliases()?.into_iter().filter(|(_, target)| *target == key.id);
            context.set_many(KEY, aliases.map(|(name, _)| name));
            context.only_for_identities(KEY);
        }
        Ok(())
    }

    fn of_caller(&self, about: &About<'_>, identities: &Identities, context: &mut Context) {
        let who = about.who;
        context.set("aws:PrincipalArn", who.arn());
        context.set("aws:PrincipalAccount", who.account());
        context.set("aws:PrincipalType", kind_of(who));
        context.set("aws:userid", who.id());
        if let Some((_, name)) = who.arn().rsplit_once(":user/") {
            context.set("aws:username", name);
        }
        for (name, value) in identities.bearer(who).into_iter().flat_map(|bearer| &bearer.tags) {
            context.set(&format!("aws:PrincipalTag/{name}"), value.as_str());
        }
        let now = self.now();
        context.set("aws:CurrentTime", now.to_string());
        context.set("aws:EpochTime", now.as_second().to_string());
        if let Some(request) = about.call.caller.request {
            context.set("aws:SecureTransport", request.secure.to_string());
            if request.source.parse::<IpAddr>().is_ok() {
                context.set("aws:SourceIp", request.source.as_str());
            }
            if let Some(agent) = &request.user_agent {
                context.set("aws:UserAgent", agent.as_str());
            }
        }
    }
}

impl About<'_> {
    fn shown(&self, member: &str) -> Option<&Value> {
        self.call.caller.request.and_then(|request| request.shown.get(member))
    }

    fn of_request(&self, context: &mut Context) {
        for (member, key) in MEMBERS {
            if let Some(value) = self.shown(member).and_then(text) {
                context.set(key, value);
            }
        }
        if let Some(date) = self.shown("validTo").and_then(text) {
            // Whole seconds, as dates are compared.
            context.set("kms:ValidTo", date.split('.').next().unwrap_or_default());
        }
        for (action, member, key, value) in DEFAULTS {
            if *action == self.action && self.shown(member).is_none() {
                context.set(key, *value);
            }
        }
        self.of_tags(context);
        self.of_grant(context);
        self.of_algorithm(context);
        let pairs = self.pairs();
        for (name, value) in &pairs {
            context.set(&format!("kms:EncryptionContext:{name}"), value.as_str());
        }
        context.set_many("kms:EncryptionContextKeys", pairs.into_keys());
    }

    fn of_tags(&self, context: &mut Context) {
        let mut keys = Vec::new();
        for tag in self.shown("tags").and_then(Value::as_array).into_iter().flatten() {
            let (Some(key), Some(value)) = (tag["TagKey"].as_str(), tag["TagValue"].as_str()) else { continue };
            context.set(&format!("aws:RequestTag/{key}"), value);
            keys.push(key);
        }
        let removed = self.shown("tagKeys").and_then(Value::as_array).into_iter().flatten();
        keys.extend(removed.filter_map(Value::as_str));
        context.set_many("aws:TagKeys", keys);
    }

    fn of_grant(&self, context: &mut Context) {
        if matches!(self.action, "CreateGrant" | "ListGrants" | "RevokeGrant") {
            context.set("kms:GrantIsForAWSResource", "false");
        }
        let operations = self.shown("operations").and_then(Value::as_array).into_iter().flatten();
        context.set_many("kms:GrantOperations", operations.filter_map(Value::as_str));
        for (member, key) in PRINCIPALS {
            if let Some(named) = self.shown(member).and_then(Value::as_str) {
                context.set(key, policy::arn_of(named));
            }
        }
        if let Some((kind, _)) = self.constraint() {
            context.set("kms:GrantConstraintType", kind);
        }
    }

    /// The constraint that CreateGrant puts in force, with its pairs: nothing else that stands there limits anything.
    fn constraint(&self) -> Option<(&'static str, &Map<String, Value>)> {
        let constraints = self.shown("constraints")?.as_object()?;
        let pairs = |kind| constraints.get(kind)?.as_object().filter(|pairs| !pairs.is_empty());
        CONSTRAINTS.iter().find_map(|kind| Some((*kind, pairs(*kind)?)))
    }

    /// Of operations that use a key for encryption; the algorithm has a default.
    fn of_algorithm(&self, context: &mut Context) {
        let member = match self.action {
            "Encrypt" | "Decrypt" => "encryptionAlgorithm",
            // These have no such member: there is one algorithm for them.
            "GenerateDataKey"
            | "GenerateDataKeyPair"
            | "GenerateDataKeyPairWithoutPlaintext"
            | "GenerateDataKeyWithoutPlaintext" => "",
            "ReEncryptFrom" => "sourceEncryptionAlgorithm",
            "ReEncryptTo" => "destinationEncryptionAlgorithm",
            _ => return,
        };
        let named = self.shown(member).and_then(Value::as_str);
        context.set("kms:EncryptionAlgorithm", named.unwrap_or("SYMMETRIC_DEFAULT"));
    }

    /// Of CreateKey, whose key is not there yet.
    fn of_new_key(&self, context: &mut Context) {
        if self.call.operation != Operation::CreateKey {
            return;
        }
        let or = |members: &[&str], usual: &str| {
            let mut named = members.iter().filter_map(|member| self.shown(member).and_then(text));
            named.next().unwrap_or_else(|| usual.to_owned())
        };
        context.set("kms:KeySpec", or(&["keySpec", "customerMasterKeySpec"], "SYMMETRIC_DEFAULT"));
        context.set("kms:KeyUsage", or(&["keyUsage"], "ENCRYPT_DECRYPT"));
        context.set("kms:KeyOrigin", or(&["origin"], "AWS_KMS"));
        context.set("kms:MultiRegion", or(&["multiRegion"], "false"));
        context.set("kms:CallerAccount", self.who.account());
    }

    /// The encryption context: of CreateGrant what it is to be constrained to, of ReEncryptTo the one to seal with.
    pub(in crate::kms::embedded) fn pairs(&self) -> BTreeMap<String, String> {
        let texts = |object: &Map<String, Value>| {
            let pairs = object.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
            pairs.collect::<BTreeMap<_, _>>()
        };
        match self.action {
            "ReEncryptTo" if self.call.caller.request.is_some() => {
                self.shown("destinationEncryptionContext").and_then(Value::as_object).map(texts).unwrap_or_default()
            }
            "CreateGrant" => self.constraint().map(|(_, pairs)| texts(pairs)).unwrap_or_default(),
            _ => {
                let pairs = self.call.context.into_iter().flat_map(|context| context.pairs());
                pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            }
        }
    }
}

/// `aws:PrincipalType`
fn kind_of(who: &Who) -> &'static str {
    match who {
        who if who.is_root() => "Account",
        who if who.is_session() => "AssumedRole",
        _ => "User",
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}
