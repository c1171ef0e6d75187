//! The operations on key pairs: GetPublicKey, Sign, Verify, Encrypt and Decrypt under RSA, DeriveSharedSecret.
//!
//! What takes a private key is done in the HSM. The public key lies in clear beside it in the store, so that giving it out,
//! verifying and encrypting are done here and need no HSM.

use serde_json::Value;

use crate::crypto::pair::{Message, Oaep, PairError, Public, Signing};
use crate::kms::{EncryptionContext, KeyArn, KeyName, KmsError, WrappedKey};

use super::admin::on_key;
use super::audit::Call;
use super::call::{ALGORITHM, Found, Trail};
use super::caller::Caller;
use super::hsm::{self, Failure, HsmError, MaterialId};
use super::keys::Origin;
use super::mac::judge_message;
use super::operation::Operation;
use super::spec::{AGREEMENT, signing};
use super::store::{Lookup, StoreError, View};
use super::usage::{Plaintext, end_dry_run, judge_plaintext, wrapped};
use super::{Embedded, KeySpec, KeyUsage, refusal};

/// What [`Embedded::public_key`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// The key.
    pub key: KeyArn,
    /// Its kind.
    pub spec: KeySpec,
    /// What it is for.
    pub usage: KeyUsage,
    /// `SubjectPublicKeyInfo`
    pub der: Vec<u8>,
}

/// What is to be signed, or was.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// As AWS spells it.
    pub algorithm: &'a str,
    /// What `message` is.
    pub kind: MessageType,
    /// 1 to 4,096 bytes.
    pub message: &'a [u8],
}

/// Whether a message is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// `RAW`: it is.
    Raw,
    /// `DIGEST`: it is a digest.
    Digest,
    /// `EXTERNAL_MU`: it is what ML-DSA keys sign, of which there are none here.
    ExternalMu,
}

/// A key pair in the store.
struct Stored {
    key: Found,
    material: MaterialId,
    token: Vec<u8>,
}

impl MessageType {
    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "RAW",
            Self::Digest => "DIGEST",
            Self::ExternalMu => "EXTERNAL_MU",
        }
    }
}

impl Embedded {
    /// GetPublicKey.
    ///
    /// # Errors
    /// As AWS.
    pub fn public_key<'a>(&self, caller: impl Into<Caller<'a>>, key: &KeyName) -> Result<PublicKey, KmsError> {
        let call = on_key(caller.into(), Operation::GetPublicKey, key);
        self.observe(&call, |view, trail| {
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            let pair = stored(view, key)?;
            let der = pair.public()?.der.to_vec();
            let record = &pair.key.record;
            Ok(PublicKey { spec: record.spec, usage: record.usage(), der, key: pair.key.arn })
        })
    }

    /// Sign: the signature, and the key that made it.
    ///
    /// # Errors
    /// As AWS.
    pub fn sign<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        signed: &Signed<'_>,
    ) -> Result<(Vec<u8>, KeyArn), KmsError> {
        let call = on_signed(on_key(caller.into(), Operation::Sign, key), signed);
        self.observe(&call, |view, trail| {
            let (pair, signing, message) = self.signing_pair(view, trail, &call, key, signed)?;
            let signature = self.hsm.sign(self.material(&pair.key, pair.material, &pair.token), signing, message)?;
            Ok((signature, pair.key.arn))
        })
    }

    /// Verify: the key that made `signature`.
    ///
    /// # Errors
    /// As AWS; `KMSInvalidSignatureException` where it did not.
    pub fn verify<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        signed: &Signed<'_>,
        signature: &[u8],
    ) -> Result<KeyArn, KmsError> {
        let call = on_signed(on_key(caller.into(), Operation::Verify, key), signed);
        self.observe(&call, |view, trail| {
            let (pair, signing, message) = self.signing_pair(view, trail, &call, key, signed)?;
            match pair.public()?.verify(signing, message, signature) {
                Ok(true) => Ok(pair.key.arn),
                Ok(false) => Err(refusal::invalid_signature()),
                Err(error) => Err(refusal::internal(&error)),
            }
        })
    }

    /// Encrypt under a public RSA key.
    ///
    /// # Errors
    /// As AWS.
    pub fn encrypt_oaep<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        (oaep, context): (Oaep, &'a EncryptionContext),
        plaintext: &[u8],
    ) -> Result<(WrappedKey, KeyArn), KmsError> {
        let call = with_oaep(on_key(caller.into(), Operation::Encrypt, key), oaep, context);
        self.observe(&call, |view, trail| {
            judge_plaintext(plaintext)?;
            let key = self.oaep_key(view, trail, &call, key, oaep)?;
            let bits = key.record.spec.pair().and_then(|spec| spec.modulus_bits()).unwrap_or_default();
            if plaintext.len() > oaep.plaintext_max(bits) {
                return Err(refusal::too_long_for(oaep.name(), key.record.spec, oaep.plaintext_max(bits)));
            }
            end_dry_run(&call)?;
            let pair = stored(view, key)?;
            let blob = pair.public()?.encrypt(oaep, plaintext).map_err(|error| refusal::internal(&error))?;
            Ok((wrapped(blob)?, pair.key.arn))
        })
    }

    /// Decrypt what was encrypted under a public RSA key, here or elsewhere.
    ///
    /// # Errors
    /// As AWS.
    pub fn decrypt_oaep<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        (oaep, context): (Oaep, &'a EncryptionContext),
        ciphertext: &WrappedKey,
    ) -> Result<(Plaintext, KeyArn), KmsError> {
        let call = with_oaep(on_key(caller.into(), Operation::Decrypt, key), oaep, context);
        self.observe(&call, |view, trail| {
            let key = self.oaep_key(view, trail, &call, key, oaep)?;
            end_dry_run(&call)?;
            let pair = stored(view, key)?;
            let material = self.material(&pair.key, pair.material, &pair.token);
            let plaintext = self.hsm.open_oaep(material, oaep, ciphertext.bytes())?;
            Ok((Plaintext::new(plaintext), pair.key.arn))
        })
    }

    /// DeriveSharedSecret by ECDH: the secret that the key agrees on with the holder of the public key `other`
    /// (`SubjectPublicKeyInfo`); the key, and where its material comes from.
    ///
    /// # Errors
    /// As AWS.
    pub fn derive_shared_secret<'a>(
        &self,
        caller: impl Into<Caller<'a>>,
        key: &KeyName,
        other: &[u8],
    ) -> Result<(Plaintext, KeyArn, Origin), KmsError> {
        let mut call = on_key(caller.into(), Operation::DeriveSharedSecret, key);
        call.parameters.push(("keyAgreementAlgorithm", AGREEMENT.into()));
        self.observe(&call, |view, trail| {
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            end_dry_run(&call)?;
            let pair = stored(view, key)?;
            let secret = self.hsm.agree(self.material(&pair.key, pair.material, &pair.token), other);
            let secret = secret.map_err(|error| match error {
                HsmError::Failed(Failure::Peer) => refusal::other_curve(pair.key.record.spec),
                error => error.into(),
            })?;
            Ok((Plaintext::new(secret), pair.key.arn, pair.key.record.origin))
        })
    }

    /// The key that signs or has signed, in a way that it has, what can be signed so.
    fn signing_pair<'m>(
        &self,
        view: &View,
        trail: &mut Trail,
        call: &Call<'_>,
        name: &KeyName,
        signed: &Signed<'m>,
    ) -> Result<(Stored, Signing, Message<'m>), KmsError> {
        judge_message(signed.message)?;
        let key = self.resolve_and_admit(view, trail, call, name)?;
        let signing = signing(key.record.spec, signed.algorithm)?;
        let message = judge_signed(signing, signed)?;
        end_dry_run(call)?;
        Ok((stored(view, key)?, signing, message))
    }

    /// The RSA key that encrypts in this way.
    fn oaep_key(
        &self,
        view: &View,
        trail: &mut Trail,
        call: &Call<'_>,
        name: &KeyName,
        oaep: Oaep,
    ) -> Result<Found, KmsError> {
        if call.context.is_some_and(|context| context.pairs().next().is_some()) {
            return Err(refusal::context_of_a_pair());
        }
        let key = self.resolve_and_admit(view, trail, call, name)?;
        let spec = key.record.spec;
        if spec.pair().is_some() { Ok(key) } else { Err(refusal::incompatible_algorithm(oaep.name(), spec)) }
    }
}

impl Stored {
    fn public(&self) -> Result<Public<'_>, KmsError> {
        let spec = self.key.record.spec.pair().expect("a key that is admitted here is a pair");
        let der = hsm::public_key(&self.token).ok_or_else(|| refusal::internal(&PairError::Key))?;
        Ok(Public { spec, der })
    }
}

/// The only material that a pair has.
fn stored(view: &View, key: Found) -> Result<Stored, KmsError> {
    let material = key.record.current().id;
    let token = view.token(key.id, material)?.ok_or(StoreError::MaterialMissing)?;
    Ok(Stored { key, material, token })
}

/// That `operation`, which is about symmetric keys, is not asked of a pair that encrypts.
pub(super) fn judge_symmetric(operation: Operation, key: &Found) -> Result<(), KmsError> {
    let spec = key.record.spec;
    match operation {
        _ if spec.pair().is_none() => Ok(()),
        Operation::Encrypt | Operation::ReEncrypt => Err(refusal::incompatible_algorithm(ALGORITHM, spec)),
        _ => Err(refusal::wrong_spec(&key.arn, spec, operation.name())),
    }
}

/// The message, if it is of the type and the length that the algorithm takes.
fn judge_signed<'m>(signing: Signing, signed: &Signed<'m>) -> Result<Message<'m>, KmsError> {
    let message = match (signing, signed.kind) {
        (Signing::Ed25519, MessageType::Raw) => Message::Whole(signed.message),
        (Signing::Ed25519, _) | (Signing::Ed25519ph, MessageType::Raw) | (_, MessageType::ExternalMu) => {
            return Err(refusal::wrong_message_type(signed.kind.name(), signed.algorithm));
        }
        (_, MessageType::Raw) => Message::Whole(signed.message),
        (_, MessageType::Digest) => Message::Digest(signed.message),
    };
    match message {
        Message::Digest(digest) if digest.len() != signing.digest().bytes() => {
            Err(refusal::wrong_digest(signed.algorithm))
        }
        message => Ok(message),
    }
}

fn on_signed<'a>(mut call: Call<'a>, signed: &Signed<'_>) -> Call<'a> {
    call.parameters.push(("signingAlgorithm", Value::from(signed.algorithm)));
    call.parameters.push(("messageType", signed.kind.name().into()));
    call
}

fn with_oaep<'a>(mut call: Call<'a>, oaep: Oaep, context: &'a EncryptionContext) -> Call<'a> {
    call.parameters.push(("encryptionAlgorithm", oaep.name().into()));
    call.context = context.pairs().next().is_some().then_some(context);
    call
}
