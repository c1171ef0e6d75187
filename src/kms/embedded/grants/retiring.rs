//! RevokeGrant and RetireGrant, and the tokens by which a grant is named.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use uuid::Uuid;

use crate::kms::embedded::admin::{on_key, on_nothing};
use crate::kms::embedded::audit::Call;
use crate::kms::embedded::call::Found;
use crate::kms::embedded::caller::Caller;
use crate::kms::embedded::hsm::{Failure, HsmError};
use crate::kms::embedded::operation::Operation;
use crate::kms::embedded::rights::{On, denied, who};
use crate::kms::embedded::store::{Lookup, StoreError, grant_place};
use crate::kms::embedded::usage::end_dry_run;
use crate::kms::embedded::{Embedded, refusal};
use crate::kms::{KeyName, KmsError};
use crate::policy::{self, Document, Kind, Reason};

use super::RetiredGrant;
use super::record::{GrantId, GrantRecord, find, hex, unhex};

const ACTION: &str = "RetireGrant";

/// A key's policy that says nothing of any operation.
const NO_POLICY: &str = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"kms:None","Resource":"*"}}"#;

impl Embedded {
    /// RevokeGrant.
    ///
    /// # Errors
    /// As AWS.
    pub fn revoke_grant<'a>(&self, caller: impl Into<Caller<'a>>, key: &KeyName, id: &str) -> Result<(), KmsError> {
        let mut call = on_key(caller.into(), Operation::RevokeGrant, key);
        call.parameters.push(("grantId", id.into()));
        self.change(&call, |tables, trail| {
            let key = self.resolve_and_admit(tables, trail, &call, key)?;
            let (grant, record) = existing_grant(tables, &key, id)?;
            end_dry_run(&call)?;
            Ok(tables.remove_grant(key.id, &grant, &record)?)
        })
    }

    /// RetireGrant.
    ///
    /// # Errors
    /// As AWS.
    pub fn retire_grant<'a>(&self, caller: impl Into<Caller<'a>>, which: RetiredGrant<'_>) -> Result<(), KmsError> {
        let mut call = on_nothing(caller.into(), Operation::RetireGrant);
        if let RetiredGrant::Id(key, id) = which {
            call.parameters.push(("keyId", Value::from(key.as_str())));
            call.parameters.push(("grantId", id.into()));
        }
        self.change(&call, |tables, trail| {
            let (key, id) = self.retired(tables, &call, which)?;
            trail.resources.push(key.arn.to_string());
            let (grant, record) = existing_grant(tables, &key, &id)?;
            self.judge_retiring(tables, &call, (&key, &grant, &record))?;
            end_dry_run(&call)?;
            trail.response.insert("grantId".to_owned(), id.into());
            Ok(tables.remove_grant(key.id, &grant, &record)?)
        })
    }

    /// The key and the id of the grant that is to be retired.
    fn retired(
        &self,
        tables: &impl Lookup,
        call: &Call<'_>,
        which: RetiredGrant<'_>,
    ) -> Result<(Found, String), KmsError> {
        match which {
            RetiredGrant::Id(key, id) => {
                if call.caller.request.is_some() && !key.as_str().starts_with("arn:") {
                    return Err(refusal::invalid_arn_of_key(key.as_str()));
                }
                Ok((self.resolve(tables, call, key.as_str())?, id.to_owned()))
            }
            RetiredGrant::Token(token) => {
                let (key, grant) = self.place_of_token(token)?;
                let found = self.find(tables, key)?.ok_or_else(refusal::invalid_grant_token)?;
                Ok((found, hex(&grant)))
            }
        }
    }

    /// Who may retire: the retiring principal, a grantee who was given that, whoever acts for the account that made it. No
    /// policy of a key gives it; every policy can deny it.
    fn judge_retiring(
        &self,
        tables: &impl Lookup,
        call: &Call<'_>,
        (key, id, record): (&Found, &GrantId, &GrantRecord),
    ) -> Result<(), KmsError> {
        let principal = call.caller.principal;
        if call.caller.request.is_none() {
            return self.authorise(tables, call, ACTION, On::Key(key));
        }
        let who = who(principal)?;
        let by_policies = self.decide(tables, &who, call, ACTION, On::Key(key))?;
        if let Reason::Denied(_) = by_policies.reason {
            return Err(denied(principal, ACTION, On::Key(key), &by_policies.reason));
        }
        // Each of them may as if a grant of that right were theirs, so a session or an account is judged as by any grant.
        let of_grantee =
            record.operations.iter().any(|operation| operation == ACTION).then_some(record.grantee.as_str());
        let by = [of_grantee, record.retiring.as_deref(), Some(record.account.as_str())].into_iter().flatten();
        let by = by.map(|arn| policy::Grant::new(hex(id), arn, vec![ACTION.to_owned()], None));
        let by: Vec<_> = by.collect::<Result<_, _>>().map_err(|_| StoreError::Grant)?;
        let nothing = Document::read(NO_POLICY, Kind::Key).expect("it is a policy");
        let policies = Some((&nothing, self.identity.account.as_str()));
        let decision = self.decide_by(tables, (&who, call, ACTION, On::Key(key)), policies, &by)?;
        if decision.allowed { Ok(()) } else { Err(refusal::access_denied(principal, ACTION)) }
    }

    /// Refuses tokens that were not given out here.
    ///
    /// # Errors
    /// Where one was not.
    pub fn judge_grant_tokens(&self, tokens: &[String]) -> Result<(), KmsError> {
        tokens.iter().try_for_each(|token| self.place_of_token(token).map(|_| ()))
    }

    pub(super) fn token_of(&self, key: Uuid, grant: &GrantId) -> Result<String, KmsError> {
        let place = grant_place(key.as_bytes(), grant);
        Ok(URL_SAFE_NO_PAD.encode(self.hsm.keep(&self.token_purpose(), &place)?))
    }

    fn place_of_token(&self, token: &str) -> Result<(Uuid, GrantId), KmsError> {
        let kept = URL_SAFE_NO_PAD.decode(token).map_err(|_| refusal::invalid_grant_token())?;
        let place = self.hsm.recall(&self.token_purpose(), &kept).map_err(|error| match error {
            HsmError::Failed(Failure::Ciphertext) => refusal::invalid_grant_token(),
            error => error.into(),
        })?;
        let (key, grant) = place.bytes().split_at_checked(16).ok_or_else(refusal::invalid_grant_token)?;
        let grant = grant.try_into().map_err(|_| refusal::invalid_grant_token())?;
        Ok((Uuid::from_slice(key).map_err(|error| refusal::internal(&error))?, grant))
    }

    fn token_purpose(&self) -> Vec<u8> {
        format!("grant token {} {}", self.identity.account, self.identity.region).into()
    }
}

fn existing_grant(tables: &impl Lookup, key: &Found, id: &str) -> Result<(GrantId, GrantRecord), KmsError> {
    let missing = || refusal::no_such_grant(id, &key.arn);
    let grant = unhex(id).ok_or_else(missing)?;
    Ok((grant, find(tables, key.id, &grant)?.ok_or_else(missing)?))
}
