//! GenerateDataKeyPair and GenerateDataKeyPairWithoutPlaintext: pairs for use elsewhere, their private half sealed like a data
//! key.

use crate::crypto::pair::PairSpec;
use crate::kms::{EncryptionContext, KeyArn, KeyName, KmsError, WrappedKey};

use super::audit::Call;
use super::call::Trail;
use super::caller::Caller;
use super::hsm::{DataKeyPairReply, MaterialId};
use super::operation::Operation;
use super::pair::judge_symmetric;
use super::store::{Lookup, StoreError};
use super::usage::{Plaintext, end_dry_run, judge_context, using, wrapped};
use super::{Embedded, KeySpec};

/// What [`Embedded::generate_data_key_pair`] answers.
pub struct DataKeyPair {
    /// `SubjectPublicKeyInfo`
    pub public: Vec<u8>,
    /// PKCS #8, where it was asked for in clear.
    pub private: Option<Plaintext>,
    /// The same, sealed.
    pub wrapped: WrappedKey,
    /// The key that sealed it.
    pub key: KeyArn,
    /// The id of its material.
    pub material: String,
}

/// A data key pair that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct NewDataKeyPair<'a> {
    /// Its kind: that of a key which is a pair.
    pub spec: KeySpec,
    /// What its private half is sealed with.
    pub context: &'a EncryptionContext,
    /// Whether the private half is answered in clear too.
    pub clear: bool,
}

impl Embedded {
    /// GenerateDataKeyPair, or GenerateDataKeyPairWithoutPlaintext.
    ///
    /// # Errors
    /// As AWS.
    ///
    /// # Panics
    /// Where the kind that is asked for is no pair's.
    pub fn generate_data_key_pair<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        asked: &NewDataKeyPair<'a>,
    ) -> Result<DataKeyPair, KmsError> {
        let operation = match asked.clear {
            true => Operation::GenerateDataKeyPair,
            false => Operation::GenerateDataKeyPairWithoutPlaintext,
        };
        let shown = ("keyPairSpec", asked.spec.name().into());
        let call = using(caller.into(), operation, Some(key.as_str()), asked.context, shown);
        // Making an RSA pair takes long, and nobody is to wait for it who only uses the store.
        let made = self.data_key_pair(&call, key, asked);
        self.observe(&call, |view, trail| {
            judge_context(asked.context)?;
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            judge_symmetric(operation, &key)?;
            end_dry_run(&call)?;
            let (DataKeyPairReply { public, private, blob }, material) = made?;
            trail.note_material("keyMaterialId", material);
            let (private, wrapped) = (private.map(Plaintext::new), wrapped(blob)?);
            Ok(DataKeyPair { public, private, wrapped, key: key.arn, material: material.to_string() })
        })
    }

    /// A pair, should the call come to one, and the material that sealed it.
    fn data_key_pair(
        &self,
        call: &Call<'_>,
        name: &KeyName,
        asked: &NewDataKeyPair<'_>,
    ) -> Result<(DataKeyPairReply, MaterialId), KmsError> {
        let spec: PairSpec = asked.spec.pair().expect("the kind of a pair");
        let associated = judge_context(asked.context)?;
        self.provide_managed(call, call.operation.name(), name)?;
        let view = self.store.view()?;
        let key = self.resolve_and_admit(&view, &mut Trail::new(self.now(), None), call, name)?;
        judge_symmetric(call.operation, &key)?;
        end_dry_run(call)?;
        let current = key.record.current().id;
        let token = view.token(key.id, current)?.ok_or(StoreError::MaterialMissing)?;
        let material = self.material(&key, current, &token);
        Ok((self.hsm.generate_data_key_pair(material, &associated, spec, asked.clear)?, current))
    }
}
