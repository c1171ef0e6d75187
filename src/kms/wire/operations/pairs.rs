//! Operations on key pairs, and those that make some.

use serde_json::{Value, json};

use crate::crypto::pair::Oaep;
use crate::kms::embedded::{
    DataKeyPair, Embedded, KeySpec, MessageType, NewDataKeyPair, Plaintext, ReEncryption, Signed, SignedRequest, Ways,
};
use crate::kms::wire::input::Input;
use crate::kms::wire::refusal::{invalid, unsupported};
use crate::kms::{KeyName, KmsError};

use super::usage::{base64, judge_common};

type Answer = Result<Value, KmsError>;

pub(super) fn get_public_key(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    let public = kms.public_key(caller, &input.key())?;
    Ok(json!({
        "KeyId": public.key,
        "PublicKey": base64(&public.der),
        "CustomerMasterKeySpec": public.spec.name(),
        "KeySpec": public.spec.name(),
        "KeyUsage": public.usage.name(),
        public.usage.algorithms_member(): public.spec.algorithms(public.usage),
    }))
}

pub(super) fn sign(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    let message = input.blob("Message").unwrap_or_default();
    let (signature, key) = kms.sign(caller, &input.key(), &signed(input, &message))?;
    Ok(json!({
        "KeyId": key,
        "Signature": base64(&signature),
        "SigningAlgorithm": input.needed("SigningAlgorithm"),
    }))
}

pub(super) fn verify(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    let (message, signature) = (input.blob("Message").unwrap_or_default(), input.blob("Signature").unwrap_or_default());
    let key = kms.verify(caller, &input.key(), &signed(input, &message), &signature)?;
    Ok(json!({ "KeyId": key, "SignatureValid": true, "SigningAlgorithm": input.needed("SigningAlgorithm") }))
}

pub(super) fn derive_shared_secret(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    judge_common(input)?;
    let other = input.blob("PublicKey").unwrap_or_default();
    let (secret, key, origin) = kms.derive_shared_secret(caller, &input.key(), &other)?;
    Ok(json!({
        "KeyId": key,
        "SharedSecret": base64(secret.expose()),
        "KeyAgreementAlgorithm": input.needed("KeyAgreementAlgorithm"),
        "KeyOrigin": origin.name(),
    }))
}

pub(super) fn generate_data_key_pair(kms: &Embedded, caller: &SignedRequest, input: &Input) -> Answer {
    data_key_pair(kms, caller, input, true)
}

pub(super) fn generate_data_key_pair_without_plaintext(
    kms: &Embedded,
    caller: &SignedRequest,
    input: &Input,
) -> Answer {
    data_key_pair(kms, caller, input, false)
}

/// Encrypt, where an RSA key is to do it.
pub(super) fn encrypt(kms: &Embedded, caller: &SignedRequest, input: &Input, oaep: Oaep) -> Answer {
    let plaintext = input.blob("Plaintext").unwrap_or_default();
    let context = input.context("EncryptionContext");
    let (blob, key) = kms.encrypt_oaep(caller, &input.key(), (oaep, &context), &plaintext)?;
    Ok(json!({ "CiphertextBlob": base64(blob.bytes()), "KeyId": key, "EncryptionAlgorithm": oaep.name() }))
}

/// Decrypt, where an RSA key is to do it: its ciphertexts do not name it.
pub(super) fn decrypt(kms: &Embedded, caller: &SignedRequest, input: &Input, oaep: Oaep) -> Answer {
    let null =
        "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null";
    let key = input.text("KeyId").map(KeyName::new).ok_or_else(|| invalid(null))?;
    let context = input.context("EncryptionContext");
    let (plaintext, key) = kms.decrypt_oaep(caller, &key, (oaep, &context), &input.ciphertext()?)?;
    Ok(json!({ "KeyId": key, "Plaintext": base64(plaintext.expose()), "EncryptionAlgorithm": oaep.name() }))
}

/// ReEncrypt, where an RSA key is on one side or on both.
pub(super) fn re_encrypt(kms: &Embedded, caller: &SignedRequest, input: &Input, ways: Ways) -> Answer {
    let from = input.text("SourceKeyId").map(KeyName::new);
    let asked = ReEncryption {
        blob: &input.ciphertext()?,
        from: from.as_ref(),
        context: &input.context("SourceEncryptionContext"),
        to: &KeyName::new(input.needed("DestinationKeyId")),
        to_context: &input.context("DestinationEncryptionContext"),
    };
    let done = kms.re_encrypt_pairs(caller, &asked, ways)?;
    let name = |oaep: Option<Oaep>| oaep.map_or(KeySpec::Symmetric.name(), Oaep::name);
    let mut answer = json!({
        "CiphertextBlob": base64(done.wrapped.bytes()),
        "SourceKeyId": done.source.0,
        "KeyId": done.key.0,
        "SourceEncryptionAlgorithm": name(ways.from),
        "DestinationEncryptionAlgorithm": name(ways.to),
    });
    for (member, material) in [("SourceKeyMaterialId", done.source.1), ("DestinationKeyMaterialId", done.key.1)] {
        if let Some(material) = material {
            answer[member] = material.into();
        }
    }
    Ok(answer)
}

/// How an RSA key is to encrypt, if one is.
pub(super) fn oaep(input: &Input, member: &str) -> Option<Oaep> {
    let algorithm = input.text(member)?;
    Oaep::ALL.into_iter().find(|oaep| oaep.name() == algorithm)
}

/// How RSA keys are to re-encrypt, if one does.
pub(super) fn ways(input: &Input) -> Result<Option<Ways>, KmsError> {
    let members = ["SourceEncryptionAlgorithm", "DestinationEncryptionAlgorithm"];
    if members.iter().any(|member| input.text(member) == Some("SM2PKE")) {
        return Err(unsupported("SM2PKE"));
    }
    let [from, to] = members.map(|member| oaep(input, member));
    Ok((from.is_some() || to.is_some()).then_some(Ways { from, to }))
}

fn data_key_pair(kms: &Embedded, caller: &SignedRequest, input: &Input, clear: bool) -> Answer {
    judge_common(input)?;
    let name = input.needed("KeyPairSpec");
    let spec = KeySpec::ALL.into_iter().find(|spec| spec.name() == name);
    let spec = spec.ok_or_else(|| unsupported(&format!("KeyPairSpec {name}")))?;
    let context = &input.context("EncryptionContext");
    let made = kms.generate_data_key_pair(caller, &input.key(), &NewDataKeyPair { spec, context, clear })?;
    let DataKeyPair { public, private, wrapped, key, material } = made;
    let mut answer = json!({
        "KeyId": key,
        "KeyPairSpec": name,
        "KeyMaterialId": material,
        "PublicKey": base64(&public),
        "PrivateKeyCiphertextBlob": base64(wrapped.bytes()),
    });
    if let Some(private) = private.as_ref().map(Plaintext::expose) {
        answer["PrivateKeyPlaintext"] = base64(private).into();
    }
    Ok(answer)
}

fn signed<'a>(input: &'a Input, message: &'a [u8]) -> Signed<'a> {
    let kind = match input.text("MessageType") {
        Some("DIGEST") => MessageType::Digest,
        Some("EXTERNAL_MU") => MessageType::ExternalMu,
        _ => MessageType::Raw,
    };
    Signed { algorithm: input.needed("SigningAlgorithm"), kind, message }
}
