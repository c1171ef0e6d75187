//! What is decided for somebody, and why, without anything being done: for whoever administers keys.

use crate::kms::embedded::access_keys::judge_right;
use crate::kms::embedded::admin::on_key;
use crate::kms::embedded::audit::Call;
use crate::kms::embedded::caller::{Caller, SignedRequest};
use crate::kms::embedded::operation::Operation;
use crate::kms::embedded::{Embedded, refusal};
use crate::kms::{EncryptionContext, KeyName, KmsError, Principal};
use crate::policy::{Missing, Place, Reason, Who};

use super::On;

/// What is to be explained.
#[derive(Debug, Clone)]
pub struct AskedRight<'a> {
    /// Whose right.
    pub principal: &'a str,
    /// To what: `kms:Decrypt`, or `Decrypt`.
    pub action: &'a str,
    /// Under which encryption context.
    pub context: EncryptionContext,
    /// By which alias the request would name the key.
    pub alias: Option<&'a str>,
}

/// The decision, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Whether it would be allowed.
    pub allowed: bool,
    /// The key's ARN.
    pub key: String,
    /// The right, with its service.
    pub action: String,
    /// Who or what decides.
    pub reason: String,
    /// What would have to change for the opposite.
    pub change: String,
}

impl Embedded {
    /// What would be decided for somebody who signs a request.
    ///
    /// # Errors
    /// Where the caller is not root, the principal is none, or there is no such key.
    pub fn explain(&self, caller: &Principal, key: &KeyName, asked: &AskedRight<'_>) -> Result<Explained, KmsError> {
        let mut call = on_key(caller.into(), Operation::ExplainRight, key);
        call.parameters.push(("principal", asked.principal.into()));
        call.parameters.push(("action", asked.action.into()));
        self.observe(&call, |view, trail| {
            judge_right(&call)?;
            let who = Who::named(asked.principal);
            let who = who.map_err(|_| refusal::invalid_arn_of_principal(asked.principal))?;
            let action = asked.action.strip_prefix("kms:").unwrap_or(asked.action);
            let mut found = self.resolve(view, &call, key.as_str())?;
            trail.resources.push(found.arn.to_string());
            found.facts.extend(asked.alias.map(|alias| ("kms:RequestAlias", alias.to_owned())));
            let request = SignedRequest::new(Principal::new(asked.principal), String::new());
            let imagined = Call {
                caller: Caller::from(&request),
                operation: Operation::ExplainRight,
                key: Some(key.as_str()),
                context: Some(&asked.context),
                parameters: Vec::new(),
            };
            let (key, right) = (found.arn.to_string(), format!("kms:{action}"));
            if !self.can_be_given(&who, action) {
                let reason = format!("keys of another account can be used and looked at; {right} is no part of that");
                let change = "nothing changes that".to_owned();
                return Ok(Explained { allowed: false, key, action: right, reason, change });
            }
            let decision = self.decide(view, &who, &imagined, action, On::Key(&found))?;
            let (reason, change) = (decision.reason.to_string(), change(&decision.reason, &who, action));
            Ok(Explained { allowed: decision.allowed, key, action: right, reason, change })
        })
    }
}

/// What would turn a decision round.
fn change(reason: &Reason, who: &Who, action: &str) -> String {
    let own = format!("a policy of {} that allows kms:{action}", who.arn());
    match reason {
        Reason::Denied(source) => format!("{source} would have to go, and something to allow it"),
        Reason::Nothing(Missing::KeyPolicy) => format!(
            "a statement of the key's policy that names {} or its account, or a grant of {action}",
            who.full_arn()
        ),
        Reason::Nothing(Missing::Identity) => own,
        Reason::Nothing(Missing::Session) => format!("a policy of the session that allows kms:{action}"),
        Reason::Root => "a key's policy that does not name the account, or a denial in it".to_owned(),
        Reason::KeyPolicy(source) => format!("without {source}, or with a denial in any policy"),
        Reason::Identity(source, by) => {
            let by = by.as_ref().filter(|by| by.place == Place::KeyPolicy).map(|by| format!(" or {by}"));
            format!("without {source}{}, or with a denial in any policy", by.unwrap_or_default())
        }
        Reason::Grant(id) => format!("without grant {id}, or with a denial in any policy"),
    }
}
