//! Sessions of roles: AssumeRole, and what its credentials are worth.
//!
//! Nothing is stored. The session's token is all that is known of it, sealed by the HSM: the secret with which its requests
//! are signed, the role, the session's name and policy, and when it ends. A role that is gone has no sessions, nor has one of its name those of before.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kms::embedded::access_keys::{new_id, new_secret};
use crate::kms::embedded::admin::on_nothing;
use crate::kms::embedded::audit::date;
use crate::kms::embedded::hsm::{Failure, HsmError};
use crate::kms::embedded::operation::Operation;
use crate::kms::embedded::{Embedded, Plaintext, SignedRequest, refusal};
use crate::kms::{KmsError, Principal};
use crate::limits;
use crate::policy::{self, Context, Document, Kind, Named, Policies, Request, Who};
use crate::sys::locked::LockedMemory;

use super::facts::About;
use super::{NOTHING, who};

/// Letters of a secret, with which a token begins.
const SECRET_BYTES: usize = 40;

/// Seconds of a session, unless the caller says.
const USUAL_SECONDS: u32 = 3_600;

/// What AssumeRole is asked.
#[derive(Debug, Clone, Copy)]
pub struct AskedRole<'a> {
    /// The role's ARN.
    pub role: &'a str,
    /// What the session is to be called.
    pub session: &'a str,
    /// The policy that is to limit it.
    pub policy: Option<&'a str>,
    /// How long it is to last.
    pub seconds: Option<u32>,
    /// What the role's owner has told whoever may assume it.
    pub external_id: Option<&'a str>,
}

/// What AssumeRole answers.
pub struct Assumed {
    /// Who the session is.
    pub principal: Principal,
    /// `ROLE:SESSION`
    pub id: String,
    /// The id of its access key.
    pub access_key_id: String,
    /// The secret of that.
    pub secret: Plaintext,
    /// What goes with every request that it signs.
    pub token: String,
    /// When it ends.
    pub until: SystemTime,
}

/// A session, as a token has it.
pub struct Session {
    /// Who it is.
    pub principal: Principal,
    /// The secret with which its requests are signed.
    pub secret: Plaintext,
    /// What limits it.
    pub policy: Option<Document>,
}

/// What a token holds behind the secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    access_key_id: String,
    principal: String,
    since: Timestamp,
    until: Timestamp,
    policy: Option<String>,
}

impl Embedded {
    /// AssumeRole.
    ///
    /// # Errors
    /// As AWS.
    pub fn assume_role(&self, caller: &SignedRequest, asked: &AskedRole<'_>) -> Result<Assumed, KmsError> {
        let mut call = on_nothing(caller.into(), Operation::AssumeRole);
        call.parameters.push(("roleArn", asked.role.into()));
        call.parameters.push(("roleSessionName", asked.session.into()));
        call.parameters.extend(asked.seconds.map(|seconds| ("durationSeconds", Value::from(seconds))));
        call.parameters.extend(asked.policy.map(|policy| ("policy", Value::from(policy))));
        self.observe(&call, |view, trail| {
            judge(asked)?;
            let who = who(&caller.principal)?;
            let identities = self.rights.identities();
            let about = About { call: &call, action: "AssumeRole", on: NOTHING, who: &who };
            let mut context = self.facts(view, &about, &identities)?;
            context.set("sts:RoleSessionName", asked.session);
            asked.external_id.into_iter().for_each(|id| context.set("sts:ExternalId", id));
            let most = self.may_assume(caller, &who, asked.role, &context)?;
            // A session that begets a session gives it no more than an hour.
            let most = if who.is_session() { most.min(USUAL_SECONDS) } else { most };
            let seconds = asked.seconds.unwrap_or(USUAL_SECONDS);
            if seconds > most {
                let text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
                return Err(refusal::invalid_grant(text));
            }
            let until = trail.now.as_second().saturating_add(i64::from(seconds));
            let until = Timestamp::from_second(until).map_err(|error| refusal::internal(&error))?;
            let assumed = self.begin_session(asked, (trail.now, until))?;
            let shown = json!({ "accessKeyId": assumed.access_key_id, "expiration": date(until) });
            trail.response.insert("credentials".to_owned(), shown);
            let user = json!({ "assumedRoleId": assumed.id, "arn": assumed.principal.as_str() });
            trail.response.insert("assumedRoleUser".to_owned(), user);
            Ok(assumed)
        })
    }

    /// How long a session of the role may last, if the caller may assume it.
    fn may_assume(&self, caller: &SignedRequest, who: &Who, role: &str, context: &Context) -> Result<u32, KmsError> {
        let identities = self.rights.identities();
        let denied = || refusal::not_authorised(&caller.principal, "sts:AssumeRole", role, "");
        let known = identities.role(role).ok_or_else(denied)?;
        let account = Who::named(role).map_err(|_| denied())?;
        let own = identities.bearer(who).map(|bearer| bearer.policies.as_slice()).unwrap_or_default();
        let own: Vec<Named<'_>> = own.iter().map(|(name, document)| Named { name, document }).collect();
        let pairs = BTreeMap::new();
        let request = Request { who, action: "sts:AssumeRole", resource: role, context, pairs: &pairs };
        let key = Some((&known.trust, account.account()));
        let session = caller.session_policy();
        let decision = policy::decide(&request, &Policies { key, identity: &own, session, grants: &[] });
        // AWS lets no root assume a role: whoever is everybody's administrator has no use for less.
        if decision.allowed && !who.is_root() { Ok(known.max_session_seconds) } else { Err(denied()) }
    }

    fn begin_session(
        &self,
        asked: &AskedRole<'_>,
        (since, until): (Timestamp, Timestamp),
    ) -> Result<Assumed, KmsError> {
        let role = Who::named(asked.role).map_err(|malformed| refusal::internal(&malformed))?;
        let name = asked.role.rsplit('/').next().unwrap_or_default();
        let arn = format!("arn:aws:sts::{}:assumed-role/{name}/{}", role.account(), asked.session);
        let (access_key_id, secret) = (new_id("ASIA"), new_secret()?);
        let (principal, policy) = (arn.clone(), asked.policy.map(str::to_owned));
        let told = Told { access_key_id: access_key_id.clone(), principal, since, until, policy };
        let told = serde_json::to_vec(&told).map_err(|error| refusal::internal(&error))?;
        let mut kept = LockedMemory::zeroed(SECRET_BYTES + told.len())?;
        kept.bytes_mut()[..SECRET_BYTES].copy_from_slice(secret.bytes());
        kept.bytes_mut()[SECRET_BYTES..].copy_from_slice(&told);
        let token = STANDARD.encode(self.hsm.keep(&self.session_purpose(), kept.bytes())?);
        let (principal, id) = (Principal::new(arn), format!("{name}:{}", asked.session));
        Ok(Assumed { principal, id, access_key_id, secret: Plaintext::new(secret), token, until: until.into() })
    }

    /// The session of `token`, whose access key `access_key_id` is; `None` where it is nobody's.
    ///
    /// # Errors
    /// Where it has ended, or the HSM fails.
    pub fn session(&self, access_key_id: &str, token: &str) -> Result<Option<Session>, KmsError> {
        let Ok(kept) = STANDARD.decode(token) else { return Ok(None) };
        let kept = match self.hsm.recall(&self.session_purpose(), &kept) {
            Err(HsmError::Failed(Failure::Ciphertext)) => return Ok(None),
            kept => kept.map_err(|error| refusal::internal(&error))?,
        };
        let Some((secret, told)) = kept.bytes().split_at_checked(SECRET_BYTES) else { return Ok(None) };
        let told: Told = serde_json::from_slice(told).map_err(|error| refusal::internal(&error))?;
        let principal = Principal::new(told.principal);
        let is_there = self.rights.identities().has_been_there(&who(&principal)?, told.since);
        if told.access_key_id != access_key_id || !is_there {
            return Ok(None);
        }
        if told.until <= self.now() {
            return Err(refusal::expired_token());
        }
        let mut own = LockedMemory::zeroed(SECRET_BYTES)?;
        own.bytes_mut().copy_from_slice(secret);
        let policy = told.policy.map(|text| Document::read(&text, Kind::Identity)).transpose();
        let policy = policy.map_err(|malformed| refusal::internal(&malformed))?;
        Ok(Some(Session { principal, secret: Plaintext::new(own), policy }))
    }

    /// GetCallerIdentity: everybody may.
    ///
    /// # Errors
    /// Where the call cannot be recorded.
    pub fn caller_identity(&self, caller: &SignedRequest) -> Result<Who, KmsError> {
        let call = on_nothing(caller.into(), Operation::GetCallerIdentity);
        self.observe(&call, |_, _| who(&caller.principal))
    }

    fn session_purpose(&self) -> Vec<u8> {
        format!("session {}", self.identity.account).into()
    }
}

/// What AWS's model of STS says of a request.
fn judge(asked: &AskedRole<'_>) -> Result<(), KmsError> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if !(2..=64).contains(&asked.session.len()) || !asked.session.bytes().all(letter) {
        let text = "1 validation error detected: Value at 'roleSessionName' failed to satisfy constraint: Member must have \
                    length between 2 and 64 and satisfy regular expression pattern: [\\w+=,.@-]*";
        return Err(refusal::invalid_grant(text));
    }
    if asked.seconds.is_some_and(|seconds| seconds < limits::SESSION_SECONDS_LEAST) {
        let text = format!(
            "1 validation error detected: Value at 'durationSeconds' failed to satisfy constraint: Member must have value \
             greater than or equal to {}",
            limits::SESSION_SECONDS_LEAST
        );
        return Err(refusal::invalid_grant(text));
    }
    let Some(policy) = asked.policy else { return Ok(()) };
    if policy.len() > limits::SESSION_POLICY_MAX {
        return Err(refusal::packed_policy_too_large());
    }
    Document::read(policy, Kind::Identity)
        .map(|_| ())
        .map_err(|malformed| refusal::malformed_session_policy(&malformed))
}
