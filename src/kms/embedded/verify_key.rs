//! The audit log's verify key: handed out until somebody says that they have it, and then no more.

use serde_json::Value;

use crate::chain::VerifyKey;
use crate::kms::{KmsError, Principal};

use super::access_keys::judge_right;
use super::admin::on_nothing;
use super::operation::Operation;
use super::{Embedded, refusal};

impl Embedded {
    /// Whether the verify key is still here: nobody has taken it away. No call, and no record.
    pub fn keeps_audit_verify_key(&self) -> bool {
        self.audit.has_verify_key()
    }

    /// The key that verifies the audit log from its first record on. It is kept until it is forgotten, so that a crash
    /// between the two loses nothing; whoever has the disk until then has it, too.
    ///
    /// # Errors
    /// Where the caller is not root, or it was forgotten.
    pub fn audit_verify_key(&self, caller: &Principal) -> Result<VerifyKey, KmsError> {
        let call = on_nothing(caller.into(), Operation::GetAuditVerifyKey);
        self.observe(&call, |_, _| {
            judge_right(&call)?;
            self.audit.verify_key()?.ok_or_else(refusal::verify_key_is_gone)
        })
    }

    /// Forgets the verify key with this fingerprint, durably: from here on nothing that is on the disk makes the MACs of
    /// records that were written.
    ///
    /// # Errors
    /// Where the caller is not root, it was forgotten, it is another one, or the disk fails.
    pub fn forget_audit_verify_key(&self, caller: &Principal, fingerprint: &str) -> Result<(), KmsError> {
        let mut call = on_nothing(caller.into(), Operation::ForgetAuditVerifyKey);
        call.parameters = vec![("fingerprint", Value::from(fingerprint))];
        self.change_itself(&call, || {
            judge_right(&call)?;
            let forgotten = self.audit.forget_verify_key(fingerprint).map_err(|error| refusal::internal(&error))?;
            if forgotten { Ok(()) } else { Err(refusal::verify_key_is_gone()) }
        })
    }
}
