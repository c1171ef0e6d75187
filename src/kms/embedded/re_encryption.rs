//! ReEncrypt where a key pair is on one side or on both.

use serde_json::Value;

use crate::crypto::pair::Oaep;
use crate::kms::{EncryptionContext, KeyArn, KeyName, KmsError, WrappedKey};

use super::audit::Call;
use super::call::{Found, Trail};
use super::caller::Caller;
use super::hsm::{Failure, HsmError, Side, Way};
use super::operation::Operation;
use super::pair::judge_symmetric;
use super::store::{Lookup, StoreError, View};
use super::usage::{Opening, ReEncryption, end_dry_run, judge_context, on_same_key, using, wrapped};
use super::{Embedded, refusal};

/// How RSA keys open and seal on the two sides of a re-encryption; `None` of symmetric keys.
#[derive(Debug, Clone, Copy)]
pub struct Ways {
    /// The key that is to open.
    pub from: Option<Oaep>,
    /// The key that is to seal.
    pub to: Option<Oaep>,
}

/// What [`Embedded::re_encrypt_pairs`] answers.
pub struct ReEncryptedPair {
    /// What was sealed.
    pub wrapped: WrappedKey,
    /// The key that opened it, and the id of its material if it is symmetric.
    pub source: (KeyArn, Option<String>),
    /// The key that sealed it anew, likewise.
    pub key: (KeyArn, Option<String>),
}

impl Embedded {
    /// ReEncrypt: the plaintext is never seen outside the HSM.
    ///
    /// # Errors
    /// As AWS.
    pub fn re_encrypt_pairs<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        asked: &ReEncryption<'a>,
        ways: Ways,
    ) -> Result<ReEncryptedPair, KmsError> {
        let shown = ("destinationKeyId", Value::from(asked.to.as_str()));
        let call = using(caller.into(), Operation::ReEncrypt, asked.from.map(KeyName::as_str), asked.context, shown);
        let provided = self.provide_managed(&call, "ReEncryptTo", asked.to);
        self.observe(&call, |view, trail| {
            let context = judge_side(asked.context, ways.from)?;
            let to_context = judge_side(asked.to_context, ways.to)?;
            provided?;
            let to = self.resolve(view, &call, asked.to.as_str());
            let to_id = to.as_ref().ok().map(|to| to.id);
            let from = match ways.from {
                None => self.opening(view, trail, (&call, "ReEncryptFrom"), asked.blob, to_id)?,
                oaep => {
                    let name = asked.from.ok_or_else(|| refusal::validation("sourceKeyId", None, "not be null"))?;
                    let mut from = self.resolve(view, &call, name.as_str())?;
                    let id = from.id;
                    from.facts.extend(to_id.map(|to| on_same_key(to == id)));
                    self.side(view, trail, (&call, "ReEncryptFrom"), from, oaep)?
                }
            };
            let mut to = to?;
            to.facts.push(on_same_key(to.id == from.key.id));
            let to = self.side(view, trail, (&call, "ReEncryptTo"), to, ways.to)?;
            end_dry_run(&call)?;
            note(trail, "sourceKeyMaterialId", &from, ways.from);
            note(trail, "destinationKeyMaterialId", &to, ways.to);
            let blob = self.hsm.re_encrypt_pairs(
                Side { key: self.material(&from.key, from.material, &from.token), way: way(ways.from, &context) },
                asked.blob.bytes(),
                Side { key: self.material(&to.key, to.material, &to.token), way: way(ways.to, &to_context) },
            );
            let blob = blob.map_err(|error| too_long(error, &to, ways.to))?;
            Ok(ReEncryptedPair { wrapped: wrapped(blob)?, source: told(from, ways.from), key: told(to, ways.to) })
        })
    }

    /// A key that opens or seals in this way, admitted, with the material that does it.
    fn side(
        &self,
        view: &View,
        trail: &mut Trail,
        (call, action): (&Call<'_>, &str),
        key: Found,
        oaep: Option<Oaep>,
    ) -> Result<Opening, KmsError> {
        self.admit_as(view, trail, (call, action), &key)?;
        match oaep {
            None => judge_symmetric(call.operation, &key)?,
            Some(oaep) if key.record.spec.pair().is_none() => {
                return Err(refusal::incompatible_algorithm(oaep.name(), key.record.spec));
            }
            Some(_) => {}
        }
        let material = key.record.current().id;
        let token = view.token(key.id, material)?.ok_or(StoreError::MaterialMissing)?;
        Ok(Opening { key, material, token })
    }
}

fn judge_side(context: &EncryptionContext, oaep: Option<Oaep>) -> Result<Vec<u8>, KmsError> {
    if oaep.is_some() && context.pairs().next().is_some() {
        return Err(refusal::context_of_a_pair());
    }
    judge_context(context)
}

fn way(oaep: Option<Oaep>, context: &[u8]) -> Way<'_> {
    oaep.map_or(Way::Symmetric(context), Way::Pair)
}

fn note(trail: &mut Trail, name: &str, side: &Opening, oaep: Option<Oaep>) {
    if oaep.is_none() {
        trail.note_material(name, side.material);
    }
}

fn told(side: Opening, oaep: Option<Oaep>) -> (KeyArn, Option<String>) {
    (side.key.arn, oaep.is_none().then(|| side.material.to_string()))
}

/// The HSM alone knows how long the plaintext is.
fn too_long(error: HsmError, to: &Opening, oaep: Option<Oaep>) -> KmsError {
    let bits = to.key.record.spec.pair().and_then(|spec| spec.modulus_bits());
    match (error, oaep, bits) {
        (HsmError::Failed(Failure::Length), Some(oaep), Some(bits)) => {
            refusal::too_long_for(oaep.name(), to.key.record.spec, oaep.plaintext_max(bits))
        }
        (error, ..) => error.into(),
    }
}
