//! PutKeyPolicy.

use crate::kms::{KeyName, KmsError};

use super::admin::on_key;
use super::caller::Caller;
use super::lists::POLICY;
use super::operation::Operation;
use super::{Embedded, refusal};

impl Embedded {
    /// PutKeyPolicy; unless `bypass`, only a policy under which the caller can put another.
    ///
    /// # Errors
    /// As AWS.
    pub fn put_key_policy<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        name: Option<&str>,
        (text, bypass): (&str, bool),
    ) -> Result<(), KmsError> {
        let mut call = on_key(caller.into(), Operation::PutKeyPolicy, key);
        call.parameters.push(("policyName", POLICY.into()));
        call.parameters.push(("bypassPolicyLockoutSafetyCheck", bypass.into()));
        call.parameters.push(("policy", text.into()));
        self.change(&call, |tables, trail| {
            let key = self.resolve_and_admit(tables, trail, &call, key)?;
            if name.is_some_and(|name| name != POLICY) {
                return Err(refusal::no_such_policy());
            }
            self.judge_new_policy(tables, &call, &key, (text, bypass))?;
            Ok(tables.put_policy(key.id, text)?)
        })
    }
}
