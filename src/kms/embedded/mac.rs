//! GenerateMac and VerifyMac: computed in the HSM; only the MAC comes out.

use serde_json::Value;

use crate::crypto::digest;
use crate::kms::{KeyArn, KeyName, KmsError};
use crate::limits;

use super::admin::on_key;
use super::audit::Call;
use super::call::Trail;
use super::caller::Caller;
use super::operation::Operation;
use super::store::{Lookup, StoreError, View};
use super::usage::end_dry_run;
use super::{Embedded, KeyUsage, refusal};

impl Embedded {
    /// GenerateMac: the MAC of 1 to 4,096 bytes, and the key that made it.
    ///
    /// # Errors
    /// As AWS.
    pub fn generate_mac<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        algorithm: &str,
        message: &[u8],
    ) -> Result<(Vec<u8>, KeyArn), KmsError> {
        let call = with_algorithm(on_key(caller.into(), Operation::GenerateMac, key), algorithm);
        self.observe(&call, |view, trail| self.mac(view, trail, &call, key, algorithm, message))
    }

    /// VerifyMac: the key that made `mac` of `message`.
    ///
    /// # Errors
    /// As AWS; `KMSInvalidMacException` where it did not.
    pub fn verify_mac<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        algorithm: &str,
        (message, mac): (&[u8], &[u8]),
    ) -> Result<KeyArn, KmsError> {
        let call = with_algorithm(on_key(caller.into(), Operation::VerifyMac, key), algorithm);
        self.observe(&call, |view, trail| {
            let (expected, key) = self.mac(view, trail, &call, key, algorithm, message)?;
            if digest::equal(&expected, mac) { Ok(key) } else { Err(refusal::invalid_mac()) }
        })
    }

    fn mac(
        &self,
        view: &View,
        trail: &mut Trail,
        call: &Call<'_>,
        name: &KeyName,
        algorithm: &str,
        message: &[u8],
    ) -> Result<(Vec<u8>, KeyArn), KmsError> {
        judge_message(message)?;
        let key = self.resolve_and_admit(view, trail, call, name)?;
        let spec = key.record.spec;
        let digest = spec.digest().filter(|_| spec.algorithms(KeyUsage::Mac) == [algorithm]);
        let digest = digest.ok_or_else(|| refusal::incompatible_algorithm(algorithm, spec))?;
        end_dry_run(call)?;
        let current = key.record.current().id;
        let token = view.token(key.id, current)?.ok_or(StoreError::MaterialMissing)?;
        trail.note_material("keyMaterialId", current);
        let mac = self.hsm.mac(self.material(&key, current, &token), digest, message)?;
        Ok((mac, key.arn))
    }
}

fn with_algorithm<'a>(mut call: Call<'a>, algorithm: &str) -> Call<'a> {
    call.parameters.push(("macAlgorithm", Value::from(algorithm)));
    call
}

pub(super) fn judge_message(message: &[u8]) -> Result<(), KmsError> {
    let constraint = match message.len() {
        0 => "have length greater than or equal to 1".to_owned(),
        length if length > limits::ENCRYPT_PLAINTEXT_MAX => {
            format!("have length less than or equal to {}", limits::ENCRYPT_PLAINTEXT_MAX)
        }
        _ => return Ok(()),
    };
    Err(refusal::validation("message", None, &constraint))
}
